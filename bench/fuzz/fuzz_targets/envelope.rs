//! The data of a gossip message.
#![no_main]

use warren::rooms::envelope::open;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(envelope) = open(data) {
        // What opens can be shown.
        let _ = format!("{envelope:?}");
    }
});
