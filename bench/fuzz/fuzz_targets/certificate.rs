//! The certificate of a QUIC peer: 4 bytes of time, then the certificate.
#![no_main]

use warren::transport::quic::fuzzing::certificate;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((time, bytes)) = data.split_first_chunk() {
        // Who it belongs to, or why to nobody, is of no interest.
        let _ = certificate(bytes, u32::from_be_bytes(*time).into());
    }
});
