//! A STUN client that has asked, and a server: what comes from the network, to both.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| warren::nat::stun::fuzzing::datagram(data));
