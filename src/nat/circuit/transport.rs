//! The half in the swarm's transport: addresses with `/p2p-circuit` in them.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use futures::{
    FutureExt, SinkExt, StreamExt,
    channel::{mpsc, oneshot},
    future::{self, BoxFuture, Ready},
};
use libp2p::{
    Multiaddr, Stream,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    multiaddr::Protocol,
};

use super::{Arrival, Error, Request, parse};
use crate::limits;

/// Dials through relays, and listens at them. Needs its [`Behaviour`](super::Behaviour) in the same swarm.
pub struct Transport {
    requests: mpsc::Sender<Request>,
    /// Requests that are still to be made.
    waiting: VecDeque<Request>,
    /// One for each relay.
    listeners: Vec<Listener>,
    waker: Option<Waker>,
}

type Happening = TransportEvent<Ready<Result<Stream, Error>>, Error>;

struct Listener {
    id: ListenerId,
    /// `None` when it is closed.
    arrivals: Option<mpsc::Receiver<Arrival>>,
    events: VecDeque<Happening>,
}

impl Transport {
    pub(super) fn new(requests: mpsc::Sender<Request>) -> Self {
        Transport { requests, waiting: VecDeque::new(), listeners: Vec::new(), waker: None }
    }

    fn poll_requests(&mut self, cx: &mut Context<'_>) {
        while !self.waiting.is_empty() {
            let Poll::Ready(ready) = self.requests.poll_ready(cx) else { return };
            let Some(request) = self.waiting.pop_front() else { return };
            // Without the other half nobody listens for an answer either.
            if ready.is_ok() {
                let _ = self.requests.start_send(request);
            }
        }
    }
}

impl libp2p::Transport for Transport {
    type Output = Stream;
    type Error = Error;
    type ListenerUpgrade = Ready<Result<Stream, Error>>;
    type Dial = BoxFuture<'static, Result<Stream, Error>>;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<Error>> {
        let relay = match parse(&addr) {
            None => return Err(TransportError::MultiaddrNotSupported(addr)),
            Some(Ok((relay, None))) => relay,
            Some(Ok((_, Some(_)))) => {
                let why = "leads to a peer: to listen there, end it with /p2p-circuit";
                return Err(TransportError::Other(Error::Address { addr, why }));
            }
            Some(Err(e)) => return Err(TransportError::Other(e)),
        };
        let (to, arrivals) = mpsc::channel(limits::CIRCUIT_ARRIVALS);
        self.waiting.push_back(Request::Listen { listener: id, relay, to });
        self.listeners.push(Listener { id, arrivals: Some(arrivals), events: VecDeque::new() });
        self.waker.take().into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let open = |listener: &&mut Listener| listener.id == id && listener.arrivals.is_some();
        let found = self.listeners.iter_mut().find(open);
        let is_found = found.map(|listener| listener.close(Ok(()))).is_some();
        self.waker.take().into_iter().for_each(Waker::wake);
        is_found
    }

    fn dial(&mut self, addr: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<Error>> {
        // The listener's role is for direct connections, which circuits help to make.
        if opts.role.is_listener() {
            return Err(TransportError::MultiaddrNotSupported(addr));
        }
        let (relay, peer) = match parse(&addr) {
            None => return Err(TransportError::MultiaddrNotSupported(addr)),
            Some(Ok((relay, Some(peer)))) => (relay, peer),
            Some(Ok((_, None))) => {
                let why = "does not say which peer is meant behind the relay";
                return Err(TransportError::Other(Error::Address { addr, why }));
            }
            Some(Err(e)) => return Err(TransportError::Other(e)),
        };
        let mut requests = self.requests.clone();
        let dial = async move {
            let (reply, answer) = oneshot::channel();
            requests.send(Request::Dial { relay, peer, reply }).await.map_err(|_| Error::Gone)?;
            answer.await.unwrap_or(Err(Error::Gone))
        };
        Ok(dial.boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Happening> {
        self.poll_requests(cx);
        for n in 0..self.listeners.len() {
            if let Poll::Ready(event) = self.listeners[n].poll(cx) {
                match event {
                    TransportEvent::ListenerClosed { .. } => drop(self.listeners.swap_remove(n)),
                    // Who comes first is not always served first.
                    _ => self.listeners.rotate_left(1),
                }
                return Poll::Ready(event);
            }
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Listener {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Happening> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            // A closed one has said so, and is gone.
            let Some(arrivals) = &mut self.arrivals else { return Poll::Pending };
            match std::task::ready!(arrivals.poll_next_unpin(cx)) {
                Some(Arrival::Place(addrs)) => {
                    let new = |listen_addr| TransportEvent::NewAddress { listener_id: self.id, listen_addr };
                    self.events.extend(addrs.into_iter().map(new));
                }
                Some(Arrival::Circuit { local_addr, peer, stream }) => {
                    self.events.push_back(TransportEvent::Incoming {
                        listener_id: self.id,
                        upgrade: future::ready(Ok(stream)),
                        local_addr,
                        send_back_addr: Protocol::P2p(peer).into(),
                    });
                }
                Some(Arrival::Refused(e)) => self.close(Err(e)),
                None => self.close(Err(Error::Gone)),
            }
        }
    }

    fn close(&mut self, reason: Result<(), Error>) {
        self.arrivals = None;
        self.events.push_back(TransportEvent::ListenerClosed { listener_id: self.id, reason });
    }
}
