//! What moves bytes between the sockets and their cores: one future for all sockets of a transport.

use std::{
    net::UdpSocket,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use async_io::WritableOwned;
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use futures_timer::Delay;
use quinn_proto::Transmit;

use super::{
    demux::Kind,
    endpoint::{Endpoint, State},
    socket::Receiver,
};
use crate::{limits, transport::readiness::Readiness};

/// Has to run as long as the transport is used, as a task beside the swarm. Ends when the transport is dropped
/// and the last connection has been closed and forgotten, which takes some round trips after its close.
#[must_use = "nothing is sent or received unless this future runs"]
pub struct Driver {
    /// Sockets that came later. There is one for each listener and each dial with a port of its own, and the
    /// swarm bounds these.
    new: Pin<Box<async_channel::Receiver<Arc<Endpoint>>>>,
    /// Polls only those that were woken.
    running: FuturesUnordered<EndpointDriver>,
}

impl Driver {
    pub(super) fn new(new: async_channel::Receiver<Arc<Endpoint>>) -> Self {
        Driver { new: Box::pin(new), running: FuturesUnordered::new() }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let is_last = loop {
            match self.new.poll_next_unpin(cx) {
                Poll::Ready(Some(endpoint)) => self.running.push(EndpointDriver::new(endpoint)),
                Poll::Ready(None) => break true,
                Poll::Pending => break false,
            }
        };
        while let Poll::Ready(Some(())) = self.running.poll_next_unpin(cx) {}
        if is_last && self.running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Drives one socket. Each poll is one turn: receive, timers, send, each of them bounded.
struct EndpointDriver {
    endpoint: Arc<Endpoint>,
    receiver: Receiver,
    /// What is to be sent, built by the core in place.
    sending: Vec<u8>,
    /// Describes what `sending` holds, when the socket was full.
    unsent: Option<Transmit>,
    /// The socket was full: done when it may no longer be.
    full: Option<Readiness<WritableOwned<UdpSocket>>>,
    timer: Delay,
    /// What `timer` is set to.
    timer_due: Option<Instant>,
    /// Errors in a row that receiving met.
    errors: usize,
    /// Receiving waits until then.
    pause: Option<Instant>,
}

impl EndpointDriver {
    fn new(endpoint: Arc<Endpoint>) -> Self {
        EndpointDriver {
            receiver: Receiver::new(&endpoint.socket),
            endpoint,
            sending: Vec::new(),
            unsent: None,
            full: None,
            timer: Delay::never(),
            timer_due: None,
            errors: 0,
            pause: None,
        }
    }

    /// Receives for a while. `true`: there may be more.
    fn receive(&mut self, state: &mut State, now: Instant, cx: &mut Context<'_>) -> bool {
        if self.pause.is_some_and(|until| now < until) {
            return false;
        }
        self.pause = None;
        let Endpoint { socket, sockets, .. } = &*self.endpoint;
        for _ in 0..limits::QUIC_RECEIVE_CALLS {
            let polled = self.receiver.poll(socket, cx, |meta, bytes| match Kind::of(bytes) {
                Some(kind) => sockets.deliver(kind, meta.from, socket.local, bytes),
                None => state.core.handle_datagram(now, meta, bytes),
            });
            match polled {
                Poll::Pending => return false,
                Poll::Ready(Ok(())) => self.errors = 0,
                Poll::Ready(Err(error)) => {
                    log::debug!("receiving on UDP {}: {error}", socket.local);
                    self.errors += 1;
                    if self.errors >= limits::QUIC_RECEIVE_ERRORS {
                        self.pause = Some(now + limits::QUIC_RECEIVE_PAUSE);
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Sends for a while. `true`: there may be more, and the socket takes it.
    fn send(&mut self, state: &mut State, now: Instant, cx: &mut Context<'_>) -> bool {
        let socket = &self.endpoint.socket;
        for _ in 0..limits::QUIC_SEND_CALLS {
            if let Some(full) = &mut self.full {
                if full.poll_unpin(cx).is_pending() {
                    return false;
                }
                // An error is the socket's, and sending will meet it.
                self.full = None;
            }
            if self.unsent.is_none() {
                self.sending.clear();
                self.unsent = state.core.poll_transmit(now, socket.segments(), &mut self.sending);
            }
            let Some(transmit) = &self.unsent else { return false };
            match socket.send(transmit, &self.sending) {
                true => self.unsent = None,
                false => self.full = Some(socket.writable()),
            }
        }
        true
    }

    /// Sets the timer for `due`. `true`: it is past already.
    fn arm(&mut self, due: Option<Instant>, cx: &mut Context<'_>) -> bool {
        let Some(due) = due.into_iter().chain(self.pause).min() else { return false };
        if self.timer_due != Some(due) {
            self.timer.set(Some(due));
            self.timer_due = Some(due);
        }
        self.timer.poll_unpin(cx).is_ready()
    }
}

impl Drop for EndpointDriver {
    /// Nobody shall wait for what cannot come.
    fn drop(&mut self) {
        self.endpoint.lock().end();
    }
}

impl Future for EndpointDriver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let endpoint = Arc::clone(&this.endpoint);
        let mut state = endpoint.lock();
        state.park_driver(cx);
        let now = Instant::now();
        let mut again = this.receive(&mut state, now, cx);
        state.core.handle_timeout(now);
        again |= this.send(&mut state, now, cx);
        state.wake_transport();
        if this.unsent.is_none() && state.is_over() {
            state.end();
            return Poll::Ready(());
        }
        again |= this.arm(state.core.poll_timeout(), cx);
        if again {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
