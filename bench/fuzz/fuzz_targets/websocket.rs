//! A WebSocket of the page: what a client sends, in pieces, to a node that answers it.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| warren::face::web::fuzzing::socket(script));
