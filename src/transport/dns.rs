//! Names in addresses: a transport that resolves `/dns`, `/dns4`, `/dns6` and `/dnsaddr` before another
//! transport dials.
//!
//! - The hosts file comes first, then the name servers of `resolv.conf`; both are read anew for each lookup.
//!   `localhost` is this machine, and IP addresses in place of a name stand for themselves.
//! - Queries go by UDP, each from a port of its own, and by TCP when an answer is too long. Servers are
//!   asked in turn until one answers. Answers are checked against the question; aliases (CNAME) are followed
//!   within the answer.
//! - `/dns` asks for IPv6 and IPv4 addresses at once and tries them by turns.
//! - Addresses are dialled as they become known, a quarter of a second apart (RFC 8305); the first
//!   connection wins.
//! - `/dnsaddr` records may lead to further names. Lookups, addresses and dials are bounded, see [`limits`].
//! - Dropping the dial ends everything that was begun for it. Nothing here blocks the thread of the loop.
//!
//! Not done: search domains and `ndots`, caching, EDNS, DNSSEC, encrypted DNS, names that are not ASCII (use
//! their `xn--` form).

mod attempt;
mod error;
mod message;
mod resolver;
mod system;
#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    FutureExt, TryFutureExt,
    future::{BoxFuture, MapErr},
};
use libp2p::{
    Multiaddr,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
};

pub use self::error::{Error, LookupError, ServerError};
use self::{
    attempt::{Attempt, has_name},
    resolver::Resolver,
};
use crate::limits;

/// Where names are looked up.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that names the servers, see resolv.conf(5).
    pub resolv_conf: PathBuf,
    /// The file with names of its own, see hosts(5).
    pub hosts: PathBuf,
    /// The port of the servers, by UDP and TCP.
    pub port: u16,
    /// How long one server has for one answer, unless `resolv_conf` says otherwise.
    pub try_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            port: 53,
            try_timeout: limits::DNS_TRY_TIMEOUT,
        }
    }
}

/// The addresses of a host by name, as a dial of `/dns` would try them: the most promising first, never none.
///
/// # Errors
/// Says which name cannot be looked up, and why.
pub async fn addresses(name: &str, config: Config) -> Result<Vec<IpAddr>, LookupError> {
    Resolver::new(config).addresses(name, resolver::Family::Any).await
}

/// Resolves names for the transport `T`. See the [module](self).
///
/// Addresses without a name are passed on as they are.
pub struct Transport<T> {
    /// Shared with the dials under way, which learn later what to dial. Locked for single calls only.
    inner: Arc<Mutex<T>>,
    resolver: Resolver,
}

impl<T> Transport<T> {
    /// Resolves as the machine is set up.
    pub fn system(inner: T) -> Self {
        Transport::new(inner, Config::default())
    }

    pub fn new(inner: T, config: Config) -> Self {
        Transport { inner: Arc::new(Mutex::new(inner)), resolver: Resolver::new(config) }
    }

    fn with_inner<R>(&self, call: impl FnOnce(&mut T) -> R) -> R {
        // A panic while the lock was held would have come from `inner`, which then panics again if it must.
        call(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> libp2p::Transport for Transport<T>
where
    T: libp2p::Transport + Send + Unpin + 'static,
    T::Dial: Send,
    T::Error: Send,
{
    type Output = T::Output;
    type Error = Error<T::Error>;
    type ListenerUpgrade = MapErr<T::ListenerUpgrade, fn(T::Error) -> Self::Error>;
    type Dial = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        self.with_inner(|inner| inner.listen_on(id, addr)).map_err(|error| error.map(Error::Transport))
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.with_inner(|inner| inner.remove_listener(id))
    }

    fn dial(&mut self, addr: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<Self::Error>> {
        if has_name(&addr) {
            let attempt = Attempt::new(addr, opts, Arc::clone(&self.inner), self.resolver.clone());
            return Ok(attempt.run().boxed());
        }
        match self.with_inner(|inner| inner.dial(addr, opts)) {
            Ok(dial) => Ok(dial.map_err(Error::Transport).boxed()),
            Err(error) => Err(error.map(Error::Transport)),
        }
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        self.with_inner(|inner| Pin::new(inner).poll(cx)).map(|event| {
            event
                .map_upgrade(|upgrade| upgrade.map_err(Error::Transport as fn(T::Error) -> Self::Error))
                .map_err(Error::Transport)
        })
    }
}
