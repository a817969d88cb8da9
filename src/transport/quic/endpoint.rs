//! One socket with its core: what the driver, the transport, connections and streams share.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use quinn_proto::{ClientConfig, ConnectError};

use super::{
    config::Setup,
    core::{Arrival, Core, Id, Link},
    demux::Sockets,
    socket::Socket,
};

/// A socket and the connections on it.
///
/// The state has one lock. The node runs on one thread, so nobody ever waits for it; it is there because
/// libp2p moves connections and streams between tasks, which have to be `Send`.
pub(super) struct Endpoint {
    pub(super) socket: Arc<Socket>,
    pub(super) sockets: Arc<Sockets>,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) core: Core,
    /// The driver, while it waits. Taken by the first who has work for it, so that a turn's writes wake it
    /// once, and leave in the same datagrams.
    driver: Option<Waker>,
    /// The transport, while it waits for connections.
    transport: Option<Waker>,
    /// Connections that we wait for, having punched a hole for them, by where they come from. Each belongs to
    /// a dial, whose number the swarm bounds.
    expected: HashMap<SocketAddr, Expected>,
    /// Nobody listens here any more, or dials from here: the driver may end after the last connection.
    is_closing: bool,
    /// The driver has ended.
    has_ended: bool,
}

/// A dial that waits for the other side to come.
enum Expected {
    Waiting(Option<Waker>),
    Arrived(Id),
}

impl Endpoint {
    /// A socket that accepts connections if it is `listening`.
    pub(super) fn bind(
        setup: &Setup,
        addr: SocketAddr,
        listening: bool,
        sockets: &Arc<Sockets>,
    ) -> io::Result<Arc<Self>> {
        Ok(Self::new(setup, Socket::bind(addr)?, listening, sockets))
    }

    /// The same with a socket that is there.
    pub(super) fn new(setup: &Setup, socket: Socket, listening: bool, sockets: &Arc<Sockets>) -> Arc<Self> {
        let socket = Arc::new(socket);
        let server = listening.then(|| setup.server());
        let core = Core::new(&setup.keys.of_socket(socket.local), server, socket.never_fragments());
        if listening {
            sockets.add(&socket);
        }
        Arc::new(Endpoint {
            socket,
            sockets: Arc::clone(sockets),
            state: Mutex::new(State {
                core,
                driver: None,
                transport: None,
                expected: HashMap::new(),
                is_closing: false,
                has_ended: false,
            }),
        })
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.socket.local
    }

    /// A panic while the lock was held would have come from quinn-proto, and goes on to be one.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a connection.
    pub(super) fn connect(
        self: &Arc<Self>,
        config: ClientConfig,
        remote: SocketAddr,
    ) -> Result<Held, ConnectError> {
        let mut state = self.lock();
        if state.has_ended {
            // The listener was removed between the call of `dial` and the first poll of what it returned.
            return Err(ConnectError::EndpointStopping);
        }
        let id = state.core.connect(Instant::now(), config, remote)?;
        state.wake_driver();
        drop(state);
        Ok(self.hold(id))
    }

    /// A connection that came in and was not expected by [`Self::reserve`].
    pub(super) fn poll_incoming(self: &Arc<Self>, cx: &mut Context<'_>) -> Poll<(Held, Arrival)> {
        let mut state = self.lock();
        match state.next_arrival() {
            Some(arrival) => {
                drop(state);
                Poll::Ready((self.hold(arrival.id), arrival))
            }
            None => {
                state.transport = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The next connection from `remote` is not reported, but kept for [`Self::poll_reserved`]. `false`: it is
    /// somebody else's already.
    pub(super) fn reserve(&self, remote: SocketAddr) -> bool {
        let mut state = self.lock();
        let is_free = !state.expected.contains_key(&remote);
        if is_free {
            state.expected.insert(remote, Expected::Waiting(None));
        }
        is_free
    }

    pub(super) fn poll_reserved(self: &Arc<Self>, remote: SocketAddr, cx: &mut Context<'_>) -> Poll<Held> {
        let mut state = self.lock();
        match state.expected.get_mut(&remote) {
            Some(Expected::Arrived(id)) => {
                let id = *id;
                state.expected.remove(&remote);
                drop(state);
                Poll::Ready(self.hold(id))
            }
            Some(Expected::Waiting(waker)) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }

    /// The opposite of [`Self::reserve`].
    pub(super) fn forget(&self, remote: SocketAddr) {
        let mut state = self.lock();
        if let Some(Expected::Arrived(id)) = state.expected.remove(&remote) {
            state.core.release(id);
            state.wake_driver();
        }
    }

    /// Listens again, if connections of an earlier listener kept the socket.
    pub(super) fn listen_again(self: &Arc<Self>, setup: &Setup) -> Option<Lease> {
        let mut state = self.lock();
        if !state.is_closing || state.has_ended {
            return None;
        }
        state.core.accept(Some(setup.server()));
        state.is_closing = false;
        drop(state);
        self.sockets.add(&self.socket);
        Some(Lease::new(Arc::clone(self)))
    }

    /// Nobody uses the socket any more. Connections go on until they end, and the socket with them.
    fn close(&self) {
        let mut state = self.lock();
        state.core.accept(None);
        state.is_closing = true;
        while let Some(arrival) = state.next_arrival() {
            state.core.release(arrival.id);
        }
        state.wake_driver();
    }

    pub(super) fn local_address_changed(&self) {
        let mut state = self.lock();
        state.core.local_address_changed();
        state.wake_driver();
    }

    fn hold(self: &Arc<Self>, id: Id) -> Held {
        Held { endpoint: Arc::clone(self), id }
    }
}

impl State {
    /// Whether the driver has nothing to live for.
    pub(super) fn is_over(&self) -> bool {
        self.is_closing && self.core.is_empty() && !self.core.wants_transmit()
    }

    /// The driver has ended, because it was over or because somebody dropped it.
    pub(super) fn end(&mut self) {
        self.has_ended = true;
        self.core.end();
    }

    /// Who has work for the driver calls [`Self::wake_driver`] from now on.
    pub(super) fn park_driver(&mut self, cx: &Context<'_>) {
        match &mut self.driver {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.driver = Some(cx.waker().clone()),
        }
    }

    /// Lets the transport know of connections that came in.
    pub(super) fn wake_transport(&mut self) {
        if self.core.has_incoming()
            && let Some(waker) = self.transport.take()
        {
            waker.wake();
        }
    }

    fn wake_driver(&mut self) {
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }

    fn next_arrival(&mut self) -> Option<Arrival> {
        loop {
            let arrival = self.core.poll_incoming()?;
            match self.expected.get_mut(&arrival.remote) {
                Some(expected @ Expected::Waiting(_)) => {
                    let before = std::mem::replace(expected, Expected::Arrived(arrival.id));
                    if let Expected::Waiting(Some(waker)) = before {
                        waker.wake();
                    }
                }
                _ => return Some(arrival),
            }
        }
    }
}

/// The use of a socket by a listener or by dials. When it is dropped the socket ends, after the last of its
/// connections.
pub(super) struct Lease(Arc<Endpoint>);

impl Lease {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Self {
        Lease(endpoint)
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Deref for Lease {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.sockets.remove(&self.0.socket);
        self.0.close();
    }
}

/// A connection that is somebody's. It is closed when this is dropped.
pub(super) struct Held {
    endpoint: Arc<Endpoint>,
    id: Id,
}

impl Held {
    /// Does something with the connection. `None`: it is gone.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Link) -> R) -> Option<R> {
        self.handle().with(act)
    }

    /// For the streams, which may outlive the connection.
    pub(super) fn handle(&self) -> Handle {
        Handle { endpoint: Arc::clone(&self.endpoint), id: self.id }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.endpoint.lock();
        state.core.release(self.id);
        state.wake_driver();
    }
}

/// A way to a connection, if it is still there.
pub(super) struct Handle {
    endpoint: Arc<Endpoint>,
    id: Id,
}

impl Handle {
    /// Does something with the connection. `None`: it is gone.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Link) -> R) -> Option<R> {
        let mut state = self.endpoint.lock();
        let result = state.core.with(self.id, act);
        if state.core.wants_transmit() {
            state.wake_driver();
        }
        result
    }
}
