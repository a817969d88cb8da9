//! QUIC first: a transport that holds a TCP dial back while a QUIC dial of the same peer is under way.
//!
//! The swarm dials all addresses of a peer at once, and takes what connects first; over a link with noise in
//! its round trips that may well be TCP, which then stays for the life of the connection. The head start is
//! here rather than in a plan of whom to dial, because dials come from many places (bootstrap, a command,
//! discovery, hole punching) and all of them pass through the transport.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use futures_timer::Delay;
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        Endpoint as Role,
        transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    },
    multiaddr::Protocol,
};

/// Gives the QUIC dials of `T` a head start over its TCP dials of the same peer.
pub(super) struct HeadStart<T> {
    inner: T,
    duration: Duration,
    under_way: Arc<UnderWay>,
}

/// The QUIC dials under way, by peer. As many as the swarm has pending connections.
#[derive(Default)]
struct UnderWay(Mutex<HashMap<PeerId, Weak<Dials>>>);

/// Shared by the QUIC dials of a peer. When the last of them drops it, those who wait hear of it.
struct Dials {
    _end: async_channel::Sender<()>,
    ended: async_channel::Receiver<()>,
}

impl<T> HeadStart<T> {
    pub(super) fn new(inner: T, duration: Duration) -> Self {
        HeadStart { inner, duration, under_way: Arc::default() }
    }
}

impl UnderWay {
    /// Notes a QUIC dial for as long as what this returns is kept.
    fn begin(&self, peer: PeerId) -> Arc<Dials> {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, dials| dials.strong_count() > 0);
        if let Some(dials) = under_way.get(&peer).and_then(Weak::upgrade) {
            return dials;
        }
        let (end, ended) = async_channel::bounded(1);
        let dials = Arc::new(Dials { _end: end, ended });
        under_way.insert(peer, Arc::downgrade(&dials));
        dials
    }

    /// Waits for the end of the QUIC dials that are under way now.
    async fn ended(&self, peer: PeerId) {
        let ended = {
            let under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            under_way.get(&peer).and_then(Weak::upgrade).map(|dials| dials.ended.clone())
        };
        if let Some(ended) = ended {
            // Nothing is ever sent: the error is the end.
            let _ = ended.recv().await;
        }
    }
}

impl<T> Transport for HeadStart<T>
where
    T: Transport + Unpin,
    T::Dial: Send + 'static,
{
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = BoxFuture<'static, Result<T::Output, T::Error>>;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<T::Error>> {
        self.inner.listen_on(id, addr)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, addr: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<T::Error>> {
        let peer = match addr.iter().last() {
            // A circuit is no dial of the peer's own address, whatever its relay is reached by.
            Some(Protocol::P2p(peer)) if !addr.iter().any(|part| part == Protocol::P2pCircuit) => peer,
            // Nobody knows which other dials are for the same peer.
            _ => return Ok(self.inner.dial(addr, opts)?.boxed()),
        };
        let dial = self.inner.dial(addr.clone(), opts)?;
        if addr.iter().any(|part| part == Protocol::QuicV1) {
            let under_way = self.under_way.begin(peer);
            return Ok(dial.map(|result| (result, drop(under_way)).0).boxed());
        }
        // Whoever punches a hole does so at a time that was agreed upon.
        if opts.role == Role::Listener {
            return Ok(dial.boxed());
        }
        let (under_way, duration) = (Arc::clone(&self.under_way), self.duration);
        // Looked up when this is first polled: the swarm begins all dials of a peer before it polls one.
        let head_start = async move {
            smol::future::or(under_way.ended(peer), Delay::new(duration)).await;
        };
        Ok(head_start.then(|()| dial).boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures::future::{pending, poll_fn, ready};
    use libp2p::core::transport::PortUse;

    use super::*;

    /// Dials QUIC for ever, and TCP at once.
    struct Fake;

    impl Transport for Fake {
        type Output = ();
        type Error = io::Error;
        type ListenerUpgrade = BoxFuture<'static, io::Result<()>>;
        type Dial = BoxFuture<'static, io::Result<()>>;

        fn listen_on(&mut self, _: ListenerId, addr: Multiaddr) -> Result<(), TransportError<io::Error>> {
            Err(TransportError::MultiaddrNotSupported(addr))
        }

        fn remove_listener(&mut self, _: ListenerId) -> bool {
            false
        }

        fn dial(&mut self, addr: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
            match addr.iter().any(|part| part == Protocol::QuicV1) {
                true => Ok(pending().boxed()),
                false => Ok(ready(Ok(())).boxed()),
            }
        }

        fn poll(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
            Poll::Pending
        }
    }

    const QUIC: &str = "/ip4/192.0.2.1/udp/1/quic-v1";
    const TCP: &str = "/ip4/192.0.2.1/tcp/1";

    type Dial = BoxFuture<'static, io::Result<()>>;

    fn dial(transport: &mut HeadStart<Fake>, addr: &str, peer: Option<PeerId>, role: Role) -> Dial {
        let mut addr: Multiaddr = addr.parse().expect("a multiaddr");
        if let Some(peer) = peer {
            addr.push(Protocol::P2p(peer));
        }
        transport.dial(addr, DialOpts { role, port_use: PortUse::Reuse }).expect("a dialable address")
    }

    fn is_done(dial: &mut Dial) -> bool {
        smol::block_on(poll_fn(|cx| Poll::Ready(dial.poll_unpin(cx).is_ready())))
    }

    const LONG: Duration = Duration::from_secs(1000);

    #[test]
    fn tcp_waits_for_quic_whichever_was_begun_first() {
        let (mut transport, peer) = (HeadStart::new(Fake, LONG), Some(PeerId::random()));
        let mut before = dial(&mut transport, TCP, peer, Role::Dialer);
        let quic = [QUIC, QUIC].map(|addr| dial(&mut transport, addr, peer, Role::Dialer));
        let mut after = dial(&mut transport, TCP, peer, Role::Dialer);
        assert!(!is_done(&mut before) && !is_done(&mut after));
        let [first, second] = quic;
        drop(first);
        assert!(!is_done(&mut before) && !is_done(&mut after), "another one is under way");
        drop(second);
        assert!(is_done(&mut before) && is_done(&mut after));
    }

    #[test]
    fn tcp_waits_no_longer_than_the_head_start() {
        let (mut transport, peer) = (HeadStart::new(Fake, Duration::from_millis(1)), Some(PeerId::random()));
        let _quic = dial(&mut transport, QUIC, peer, Role::Dialer);
        smol::block_on(dial(&mut transport, TCP, peer, Role::Dialer)).expect("a connection");
    }

    #[test]
    fn nobody_else_waits() {
        let (mut transport, peer) = (HeadStart::new(Fake, LONG), Some(PeerId::random()));
        let _quic = dial(&mut transport, QUIC, peer, Role::Dialer);
        for (other, role) in [
            (Some(PeerId::random()), Role::Dialer),
            (None, Role::Dialer),
            // Hole punching has its time.
            (peer, Role::Listener),
        ] {
            assert!(is_done(&mut dial(&mut transport, TCP, other, role)), "{other:?} {role:?}");
        }
    }
}
