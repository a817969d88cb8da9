//! One direct connection to a peer that may be a relay.

use std::{
    collections::VecDeque,
    io,
    task::{Context, Poll, Waker},
    time::SystemTime,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    PeerId, Stream, StreamProtocol,
    core::{transport::ListenerId, upgrade::ReadyUpgrade},
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};

use super::{
    Error, HOP, Reply, STOP,
    wire::{self, Place},
};
use crate::{limits, within::within};

/// Speaks with one peer as with a relay.
pub struct Handler {
    /// Streams that are to be opened.
    asks: VecDeque<Ask>,
    tasks: FuturesUnordered<BoxFuture<'static, Option<Told>>>,
    /// Circuits that are just coming.
    coming: usize,
    /// The relay gave us a place over this connection, which is kept for that.
    is_held: bool,
    /// The relay has a place for us: circuits are welcome.
    is_welcome: bool,
    waker: Option<Waker>,
}

/// What the relay shall be asked.
#[derive(Debug)]
pub enum Ask {
    Place(ListenerId),
    Circuit(PeerId, Reply),
}

/// What the behaviour wants.
#[derive(Debug)]
pub enum Order {
    Ask(Ask),
    /// The relay has a place for us, over whichever connection.
    Welcome,
    /// The place is not needed any more.
    Release,
}

/// What became of it.
#[derive(Debug)]
pub enum Told {
    Place(ListenerId, Result<Place, Error>),
    Circuit {
        peer: PeerId,
        stream: Stream,
    },
    /// A circuit that was coming has not come.
    Nothing,
}

impl Ask {
    /// There is no stream for it.
    fn fail(self, error: Error) -> Option<Told> {
        match self {
            Ask::Place(listener) => Some(Told::Place(listener, Err(error))),
            Ask::Circuit(_, reply) => {
                // Who asked may have changed his mind.
                let _ = reply.send(Err(error));
                None
            }
        }
    }

    async fn ask(self, mut stream: Stream) -> Option<Told> {
        match self {
            Ask::Place(listener) => {
                let result = in_time(wire::reserve(stream, SystemTime::now)).await;
                Some(Told::Place(listener, result))
            }
            Ask::Circuit(peer, reply) => {
                let result = in_time(wire::connect(&mut stream, peer)).await;
                // As above.
                let _ = reply.send(result.map(|()| stream));
                None
            }
        }
    }
}

impl Handler {
    pub(super) fn new() -> Self {
        Handler {
            asks: VecDeque::new(),
            tasks: FuturesUnordered::new(),
            coming: 0,
            is_held: false,
            is_welcome: false,
            waker: None,
        }
    }

    fn run(&mut self, task: impl Future<Output = Option<Told>> + Send + 'static) {
        self.tasks.push(task.boxed());
        self.waker.take().into_iter().for_each(Waker::wake);
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Order;
    type ToBehaviour = Told;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Ask;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(STOP), ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.is_held || !self.asks.is_empty() || !self.tasks.is_empty()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Ask, Told>> {
        if let Some(ask) = self.asks.pop_front() {
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(HOP), ask);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        while let Poll::Ready(Some(told)) = self.tasks.poll_next_unpin(cx) {
            match &told {
                None => continue,
                Some(Told::Circuit { .. } | Told::Nothing) => self.coming -= 1,
                Some(Told::Place(_, result)) => self.is_held |= result.is_ok(),
            }
            if let Some(told) = told {
                return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(told));
            }
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, order: Order) {
        match order {
            Order::Ask(ask) => self.asks.push_back(ask),
            Order::Welcome => self.is_welcome = true,
            Order::Release => (self.is_held, self.is_welcome) = (false, false),
        }
        self.waker.take().into_iter().for_each(Waker::wake);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol, (), Ask>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                self.run(info.ask(protocol));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let error = match error {
                    StreamUpgradeError::Timeout => Error::Late,
                    StreamUpgradeError::NegotiationFailed => Error::NoRelay,
                    StreamUpgradeError::Io(e) => Error::Io(e),
                    StreamUpgradeError::Apply(e) => match e {},
                };
                if let Some(told) = info.fail(error) {
                    self.run(futures::future::ready(Some(told)));
                }
            }
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                // More at once than this is an attack, and dropping the stream is a refusal too.
                if self.coming >= limits::CIRCUITS_COMING {
                    return;
                }
                self.coming += 1;
                let (mut stream, is_welcome) = (protocol, self.is_held || self.is_welcome);
                self.run(async move {
                    match in_time(wire::accept(&mut stream, is_welcome)).await {
                        Ok(peer) => Some(Told::Circuit { peer, stream }),
                        Err(e) => {
                            log::debug!("a relay brings no circuit: {e}");
                            Some(Told::Nothing)
                        }
                    }
                });
            }
            _ => {}
        }
    }
}

/// Ends what takes longer than [`limits::CIRCUIT_TIMEOUT`].
async fn in_time<T>(part: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match within(limits::CIRCUIT_TIMEOUT, part).await.unwrap_or(Err(Error::Late)) {
        Err(Error::Io(e)) if e.kind() == io::ErrorKind::UnexpectedEof => Err(Error::Gone),
        result => result,
    }
}
