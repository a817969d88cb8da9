//! What a relay does on one connection: hears requests, tells that somebody comes, and carries the circuits whose
//! source is at the other end. Who may have what is the behaviour's to say.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use futures::{
    FutureExt, StreamExt,
    future::{self, BoxFuture},
    io::AsyncWriteExt,
    stream::FuturesUnordered,
};
use libp2p::{
    PeerId, StreamProtocol,
    core::upgrade::{DeniedUpgrade, ReadyUpgrade},
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, Stream, SubstreamProtocol,
        derive_prelude::Either,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};

use super::{
    circuit,
    message::{self, Request},
    places::{CircuitId, Limits},
};
use crate::{
    limits,
    nat::circuit::{HOP, STOP},
    within::within,
};

/// A connection of a relay.
pub struct Connection {
    limits: Limits,
    /// It goes through another relay: there are no circuits in circuits.
    is_relayed: bool,
    /// What to do, until it is done.
    tasks: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Requests being read or answered, of [`limits::RELAY_REQUESTS`].
    requests: usize,
    /// Streams to ask the swarm for.
    wanted: VecDeque<Coming>,
    /// For the behaviour.
    events: VecDeque<Heard>,
}

/// Somebody comes to the other end.
#[derive(Clone, Copy, Debug)]
pub struct Coming {
    pub(super) circuit: CircuitId,
    pub(super) source: PeerId,
}

/// What the behaviour wants done.
#[derive(Debug)]
pub enum Order {
    /// Write this, and nothing after it.
    Answer(Stream, Vec<u8>),
    /// Tell the other end that somebody comes.
    Tell(Coming),
    /// The circuit is there: say so to its source, and carry.
    Carry { circuit: CircuitId, source: Stream, target: Stream },
}

/// What the behaviour is told.
#[derive(Debug)]
pub enum Heard {
    /// The other end wants something.
    Asked(Stream, Asked),
    /// It takes a circuit, or `None`.
    Taken(CircuitId, Option<Stream>),
    /// A circuit is over.
    Over(CircuitId),
}

/// A request.
#[derive(Debug)]
pub enum Asked {
    Reserve,
    Connect(PeerId),
}

/// A task is done.
enum Done {
    /// A request was read.
    Heard(Heard),
    /// A request was answered, or was none.
    Answered,
    Taken(CircuitId, Option<Stream>),
    Over(CircuitId),
}

impl Connection {
    pub(super) fn new(limits: Limits, is_relayed: bool) -> Self {
        Self {
            limits,
            is_relayed,
            tasks: FuturesUnordered::new(),
            requests: 0,
            wanted: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    fn on_request(&mut self, mut stream: Stream) {
        if self.requests >= limits::RELAY_REQUESTS {
            log::debug!("more than {} requests at once on one connection", limits::RELAY_REQUESTS);
            return;
        }
        self.requests += 1;
        let task = async move {
            match message::read_request(&mut stream).await {
                Ok(Request::Reserve) => Done::Heard(Heard::Asked(stream, Asked::Reserve)),
                Ok(Request::Connect(peer)) => Done::Heard(Heard::Asked(stream, Asked::Connect(peer))),
                Err(status) => {
                    answer(&mut stream, &message::refused(status)).await;
                    Done::Answered
                }
            }
        };
        self.tasks.push(in_time(task, Done::Answered).boxed());
    }

    fn on_told(&mut self, mut stream: Stream, Coming { circuit, source }: Coming) {
        let comes = message::comes(source, &self.limits);
        let task = async move {
            let is_told = async {
                stream.write_all(&comes).await.ok()?;
                stream.flush().await.ok()
            };
            let is_taken = is_told.await.is_some() && message::read_taken(&mut stream).await;
            Done::Taken(circuit, is_taken.then_some(stream))
        };
        self.tasks.push(in_time(task, Done::Taken(circuit, None)).boxed());
    }

    fn carry(&mut self, circuit: CircuitId, mut source: Stream, target: Stream) {
        let limits = self.limits;
        let task = async move {
            let connected = message::connected(&limits);
            let said = async {
                source.write_all(&connected).await?;
                source.flush().await
            };
            match in_time(said, Err(std::io::ErrorKind::TimedOut.into())).await {
                Ok(()) => {
                    let (bytes, end) = circuit::carry(source, target, &limits).await;
                    log::debug!("circuit {circuit} is over after {bytes} bytes: {end}");
                }
                Err(e) => log::debug!("circuit {circuit} is over before it began: {e}"),
            }
            Done::Over(circuit)
        };
        self.tasks.push(task.boxed());
    }
}

impl ConnectionHandler for Connection {
    type FromBehaviour = Order;
    type ToBehaviour = Heard;
    type InboundProtocol = Either<ReadyUpgrade<StreamProtocol>, DeniedUpgrade>;
    type InboundOpenInfo = ();
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundOpenInfo = Coming;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        let upgrade = match self.is_relayed {
            false => Either::Left(ReadyUpgrade::new(HOP)),
            true => Either::Right(DeniedUpgrade),
        };
        SubstreamProtocol::new(upgrade, ())
    }

    fn connection_keep_alive(&self) -> bool {
        !self.tasks.is_empty()
    }

    fn on_behaviour_event(&mut self, order: Order) {
        match order {
            Order::Answer(mut stream, bytes) => {
                let task = async move {
                    answer(&mut stream, &bytes).await;
                    Done::Answered
                };
                self.tasks.push(in_time(task, Done::Answered).boxed());
            }
            Order::Tell(coming) => self.wanted.push_back(coming),
            Order::Carry { circuit, source, target } => {
                self.requests = self.requests.saturating_sub(1);
                self.carry(circuit, source, target);
            }
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol, (), Coming>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: future::Either::Left(stream),
                ..
            }) => self.on_request(stream),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                self.on_told(protocol, info);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                log::debug!("circuit {} cannot be offered: {error}", info.circuit);
                self.events.push_back(Heard::Taken(info.circuit, None));
            }
            _ => {}
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Coming, Heard>> {
        if let Some(coming) = self.wanted.pop_front() {
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(STOP), coming);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        while let Poll::Ready(Some(done)) = self.tasks.poll_next_unpin(cx) {
            let heard = match done {
                Done::Heard(heard) => heard,
                Done::Answered => {
                    self.requests = self.requests.saturating_sub(1);
                    continue;
                }
                Done::Taken(circuit, stream) => Heard::Taken(circuit, stream),
                Done::Over(circuit) => Heard::Over(circuit),
            };
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(heard));
        }
        Poll::Pending
    }
}

/// Says the last thing on a stream. If that fails, whoever asked sees it as well.
async fn answer(stream: &mut Stream, bytes: &[u8]) {
    if stream.write_all(bytes).await.is_ok() {
        let _ = stream.close().await;
    }
}

/// One step of a negotiation, or `late` after [`limits::RELAY_PATIENCE`].
async fn in_time<T>(step: impl Future<Output = T>, late: T) -> T {
    within(limits::RELAY_PATIENCE, step).await.unwrap_or(late)
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("requests", &self.requests).finish_non_exhaustive()
    }
}
