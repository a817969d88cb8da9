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

/// What comes of `part`, if it takes no longer than this.
pub(crate) async fn within<T>(time: Duration, part: impl Future<Output = T>) -> Option<T> {
    let late = async {
        Delay::new(time).await;
        None
    };
    smol::future::or(async { Some(part.await) }, late).await
}
