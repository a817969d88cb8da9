//! The transports in a hostile environment: a process out of descriptors, interfaces that come and go.
//!
//! What a test does to its process or its network must not reach the other tests, so each one here runs
//! itself again as a child, which is the `#[ignore]`d test named after it.

mod alone;
#[cfg(feature = "quic")]
mod quic;
mod tcp;

use std::{pin::Pin, time::Duration};

use async_io::Timer;
use futures::future::poll_fn;
use libp2p::{Multiaddr, Transport, core::transport::TransportEvent};

use self::alone::{ip, run_alone, run_in_an_empty_network};

fn multiaddr(text: &str) -> Multiaddr {
    text.parse().expect("a multiaddr")
}

/// The next event, or a panic when there is none for a time that no machine needs.
async fn next<T: Transport + Unpin>(transport: &mut T) -> TransportEvent<T::ListenerUpgrade, T::Error> {
    let event = poll_fn(|cx| Pin::new(&mut *transport).poll(cx));
    let late = async {
        Timer::after(Duration::from_secs(20)).await;
        panic!("no event");
    };
    smol::future::or(event, late).await
}
