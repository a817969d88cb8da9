//! Work that may wait for a disk, done by a thread of its own.
//!
//! The crate `blocking`, which smol has for that, keeps its last thread for ever and wakes it twice a second: more
//! than all else that an idle node does. What is done here happens once in half an hour.

use std::{io, thread};

use async_channel::Receiver;

/// Does `work` in a thread that ends with it. What comes of it is received once; the error is that there can be no
/// more threads.
pub fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<Receiver<T>> {
    let (sender, receiver) = async_channel::bounded(1);
    let work = move || {
        // Nobody may be waiting for it any more.
        let _ = sender.try_send(work());
    };
    thread::Builder::new().name("aside".into()).spawn(work)?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_aside_comes_back() {
        let receiver = aside(|| 6 * 7).expect("a thread");
        assert_eq!(smol::block_on(receiver.recv()), Ok(42));
        assert!(smol::block_on(receiver.recv()).is_err(), "the thread has ended");
    }
}
