//! What `bench/fuzz` reaches: the bytes of a client, as they come from the network.

use super::message;

/// Takes requests off the front of `bytes` until there is none, and looks at each as its handlers do.
pub fn head(bytes: &[u8]) {
    let mut buffer = bytes.to_vec();
    loop {
        let before = buffer.len();
        match message::take_request(&mut buffer) {
            Ok(Some(request)) => {
                assert!(buffer.len() < before && bytes.ends_with(&buffer));
                assert!(!request.path().contains('?'));
                let _ = (request.is_head(), request.keeps_alive(), request.is_for_this_machine());
            }
            Ok(None) => return assert_eq!(buffer.len(), before),
            Err(refusal) => return assert!(refusal.bytes(false, false).starts_with(b"HTTP/1.1 4")),
        }
    }
}
