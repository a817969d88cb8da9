//! Ending what takes too long.

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
