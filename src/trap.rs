//! The last words. `cross/build` compiles every panic into one instruction that the processor refuses: the texts and
//! what formats them would be a tenth of the binary. What can still be told is where that was, and `cross/elf.py where`
//! finds the function of it.

use std::{mem, ptr};

use libc::{SA_RESETHAND, SA_SIGINFO, SIGILL, SIGTRAP, c_int, c_void, siginfo_t};

/// What the signal is by which the instruction ends the process: on some processors this, on the others that.
const SIGNALS: [c_int; 2] = [SIGILL, SIGTRAP];

/// Has an instruction that is refused tell where it is, before it ends the process as it would have done anyway.
pub(crate) fn tell_where() {
    for signal in SIGNALS {
        // SAFETY: a sigaction of zeros is one, and `tell` is a handler of the kind that SA_SIGINFO says.
        unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = tell as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as usize;
            action.sa_flags = SA_SIGINFO | SA_RESETHAND;
            libc::sigaction(signal, &action, ptr::null_mut());
        }
    }
}

/// Writes a line to standard error with nothing but system calls, since whatever the instruction interrupted may be
/// half done.
extern "C" fn tell(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes a siginfo_t for this signal, and for one that is not sent by a process it has an address.
    let address = unsafe {
        let info = &*info;
        (info.si_code > 0).then(|| info.si_addr() as usize)
    };
    if let Some(address) = address {
        let mut digits = [0; 2 * size_of::<usize>()];
        let words: [&[u8]; 6] = [
            b"warren: a bug in warren ",
            concat!(env!("CARGO_PKG_VERSION"), " for ").as_bytes(),
            std::env::consts::ARCH.as_bytes(),
            b" ended it at 0x",
            hex(address, &mut digits),
            b"; please report this line, and where the program is from\n",
        ];
        for part in words {
            let _ = rustix::io::write(rustix::stdio::stderr(), part);
        }
    }
    // SAFETY: raise may be called in a handler. This one is not that of the signal any more, which comes when it returns.
    unsafe {
        libc::raise(signal);
    }
}

/// `number` in hexadecimal digits, without zeros in front.
fn hex(number: usize, digits: &mut [u8; 2 * size_of::<usize>()]) -> &[u8] {
    let mut first = digits.len();
    let mut rest = number;
    loop {
        first -= 1;
        digits[first] = b"0123456789abcdef"[rest % 16];
        rest /= 16;
        if rest == 0 {
            return &digits[first..];
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::Command};

    use super::*;

    #[test]
    fn numbers_have_the_digits_they_need() {
        for number in [0, 1, 15, 16, 0x1234_abcd, usize::MAX] {
            assert_eq!(hex(number, &mut [0; _]), format!("{number:x}").as_bytes());
        }
    }

    /// What a panic is in a static binary, at an address that is known.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "arm"))]
    #[test]
    #[ignore = "run by a_panic_without_words_says_where"]
    fn child_that_panics_without_words() {
        tell_where();
        eprintln!("{:x}", panic_without_words as extern "C" fn() as usize);
        panic_without_words();
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "arm"))]
    #[unsafe(naked)]
    extern "C" fn panic_without_words() {
        #[cfg(target_arch = "x86_64")]
        core::arch::naked_asm!("ud2");
        #[cfg(target_arch = "aarch64")]
        core::arch::naked_asm!("brk #1");
        #[cfg(target_arch = "arm")]
        core::arch::naked_asm!("udf #0");
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "arm"))]
    #[test]
    fn a_panic_without_words_says_where() {
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "trap::tests::child_that_panics_without_words", "--ignored", "--nocapture"])
            .output()
            .expect("starts");
        let said = String::from_utf8_lossy(&child.stderr);
        let (address, rest) = said.split_once('\n').expect("the address");
        assert!(rest.contains(&format!(" ended it at 0x{address}; please report")), "{said}");
        assert!(SIGNALS.map(Some).contains(&child.status.signal()), "{}", child.status);
    }
}
