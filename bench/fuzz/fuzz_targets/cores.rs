//! Two QUIC cores, and a script of what becomes of their datagrams.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| warren::transport::quic::fuzzing::cores(script));
