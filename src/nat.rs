//! Reaching nodes, and being reached, through the NATs of home routers.

#[cfg(feature = "autonat")]
pub mod autonat;
pub mod circuit;
pub mod dcutr;
mod frame;
#[cfg(feature = "relay-server")]
pub mod hop;
#[cfg(feature = "stun")]
pub mod meaning;
#[cfg(feature = "portmap")]
pub mod portmap;
#[cfg(feature = "stun")]
pub mod punch;
pub mod relays;
#[cfg(feature = "stun")]
pub mod stun;
#[cfg(any(feature = "relay-server", feature = "stun"))]
pub mod witness;

use std::time::Duration;

use futures_timer::Delay;

/// Ends a part of a negotiation that takes longer than this with the error `late`.
pub(crate) async fn in_time<T, E>(
    time: Duration,
    part: impl Future<Output = Result<T, E>>,
    late: E,
) -> Result<T, E> {
    let timeout = async {
        Delay::new(time).await;
        Err(late)
    };
    smol::future::or(part, timeout).await
}
