//! Protocols that need no more than a stream: what others open, and what our own tasks have come to.

use async_channel::Receiver;
use futures::StreamExt;
use libp2p::{PeerId, Stream};
use libp2p_stream::IncomingStreams;
use smol::future;

/// Something for the node to do.
pub(super) enum Turn<T> {
    /// A peer wants to talk.
    Asked(PeerId, Box<Stream>),
    /// A task has ended.
    Done(T),
}

/// The next thing to do. Results go first: they make place for more.
pub(super) async fn turn<T>(incoming: &mut IncomingStreams, results: &Receiver<T>) -> Turn<T> {
    let asked = async {
        let (peer, stream) = asked(Some(incoming)).await;
        Turn::Asked(peer, Box::new(stream))
    };
    future::or(async { Turn::Done(result(results).await) }, asked).await
}

/// The next peer that wants to talk; never, if nobody is listened to.
pub(super) async fn asked(incoming: Option<&mut IncomingStreams>) -> (PeerId, Stream) {
    let asked = match incoming {
        Some(incoming) => incoming.next().await,
        None => None,
    };
    match asked {
        Some(asked) => asked,
        None => future::pending().await,
    }
}

/// What the next task has come to.
pub(super) async fn result<T>(results: &Receiver<T>) -> T {
    match results.recv().await {
        Ok(result) => result,
        // The node has a sender itself.
        Err(_) => future::pending().await,
    }
}
