//! The heads of HTTP requests, one behind the other.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| warren::face::http::fuzzing::head(bytes));
