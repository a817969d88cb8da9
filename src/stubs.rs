//! Functions of the C library that a static program has in a way that is too large for what they do here. Those in this
//! file take their place.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    ptr,
};

/// There are no libraries that appear while a static program runs. std and others ask here for what newer systems have,
/// and take null for an answer. It is all that musl's own could say, too; but that one formats a sentence about it and
/// brings printf along, and on MIPS it is written for callers that leave its address in `$t9`, as only
/// position-independent code does.
// SAFETY: the name is dlsym's, and so is what it does.
#[unsafe(no_mangle)]
extern "C" fn dlsym(_library: *mut c_void, _name: *const c_char) -> *mut c_void {
    ptr::null_mut()
}

/// std names the thread that it has just begun, from within. musl's own could name others as well, by a path in /proc,
/// for which it has printf.
///
/// # Safety
/// `name` is a string that ends with a zero, as for the function that this is.
// SAFETY: the name is pthread_setname_np's, and this does the part of it that is used.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_setname_np(_thread: *mut c_void, name: *const c_char) -> c_int {
    // SAFETY: the caller says so.
    let name = unsafe { CStr::from_ptr(name) };
    rustix::thread::set_name(name).map_or_else(rustix::io::Errno::raw_os_error, |()| 0)
}

/// quinn-udp names the address of a socket that it tries things with, `[::]:0`, as text, and std would ask the resolver
/// for what is no address. That is one; and musl's resolver is 14 kB. Names are resolved in `transport/dns`.
// SAFETY: the name is getaddrinfo's, and it may say that there is no such host (EAI_NONAME).
#[unsafe(no_mangle)]
extern "C" fn getaddrinfo(
    _: *const c_char,
    _: *const c_char,
    _: *const c_void,
    _: *mut *mut c_void,
) -> c_int {
    -2
}

/// Nothing comes from `getaddrinfo`.
// SAFETY: the name is freeaddrinfo's, and there is never anything to free.
#[unsafe(no_mangle)]
extern "C" fn freeaddrinfo(_: *mut c_void) {}

/// What tables for unwinding refer to on ARM, where all C code has some, and std's side of it. Nothing unwinds in a
/// program that ends at a panic; with libunwind in it printf would be there, too.
#[cfg(target_arch = "arm")]
#[allow(non_snake_case, reason = "the names are those of the ARM ABI")]
mod unwinding {
    macro_rules! never_called {
        ($($name:ident)*) => {
            // SAFETY: only an exception that is under way calls them, and there are none.
            $(#[unsafe(no_mangle)]
            extern "C" fn $name() -> usize {
                std::process::abort()
            })*
        };
    }

    /// Without tables there is nothing to trace.
    // SAFETY: the name is _Unwind_Backtrace's, and it may say that the stack ends here (5).
    #[unsafe(no_mangle)]
    extern "C" fn _Unwind_Backtrace(_each: *const (), _data: *mut ()) -> std::ffi::c_int {
        5
    }

    never_called! {
        _Unwind_GetDataRelBase _Unwind_GetLanguageSpecificData _Unwind_GetRegionStart _Unwind_GetTextRelBase
        _Unwind_VRS_Get _Unwind_VRS_Set __aeabi_unwind_cpp_pr0 __aeabi_unwind_cpp_pr1 __gnu_unwind_frame
    }
}
