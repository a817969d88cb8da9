//! One peer that uses a relay, a task of its own.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use libp2p::core::Transport;
use libp2p::core::upgrade::Version;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, SwarmBuilder, noise, ping, relay, yamux};
use libp2p_stream::{Control, IncomingStreams};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::from::From;

/// What peers talk in.
pub(crate) const TALK: StreamProtocol = StreamProtocol::new("/bench/talk/1.0.0");

/// How long a peer tries something that should be possible.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(NetworkBehaviour)]
struct Behaviour {
    /// First, so that a hostile peer's own way to take circuits is asked before upstream's.
    streams: libp2p_stream::Behaviour,
    relay: relay::client::Behaviour,
    ping: ping::Behaviour,
}

/// A running peer. It ends when this is dropped.
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) control: Control,
    orders: mpsc::Sender<Order>,
    /// Whether it has a reservation, and whether one was refused.
    reservation: watch::Receiver<Reservation>,
    /// The last peer that was dialled, and whether there is a connection.
    dialled: watch::Receiver<Option<(PeerId, bool)>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reservation {
    #[default]
    None,
    Held,
    /// It was refused, or has ended.
    Lost,
}

enum Order {
    Listen(Multiaddr),
    Dial(Multiaddr),
}

impl Peer {
    /// A peer at an address. An honest one says why it has no connection.
    pub(crate) fn new(from: IpAddr, is_honest: bool) -> Result<Self> {
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_other_transport(|key| {
                let noise = noise::Config::new(key)?;
                Ok(From(from)
                    .upgrade(Version::V1Lazy)
                    .authenticate(noise)
                    .multiplex(yamux::Config::default()))
            })?
            .with_relay_client(noise::Config::new, yamux::Config::default)?
            .with_behaviour(|_, relay| Behaviour {
                streams: libp2p_stream::Behaviour::new(),
                relay,
                ping: ping::Behaviour::default(),
            })?
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(3600)))
            .build();
        let (id, control) = (*swarm.local_peer_id(), swarm.behaviour().streams.new_control());
        let (orders, mut inbox) = mpsc::channel(8);
        let (state, reservation) = watch::channel(Reservation::None);
        let (outcome, dialled) = watch::channel(None);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    event = swarm.select_next_some() => match event {
                        SwarmEvent::Behaviour(BehaviourEvent::Relay(
                            relay::client::Event::ReservationReqAccepted { .. },
                        )) => drop(state.send(Reservation::Held)),
                        SwarmEvent::ListenerClosed { .. } => drop(state.send(Reservation::Lost)),
                        SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                            outcome.send_replace(Some((peer_id, true)));
                        }
                        SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                            if is_honest {
                                eprintln!("no connection: {error}");
                            }
                            outcome.send_replace(Some((peer, false)));
                        }
                        _ => {}
                    },
                    order = inbox.recv() => match order {
                        Some(Order::Listen(addr)) => if swarm.listen_on(addr).is_err() {
                            let _ = state.send(Reservation::Lost);
                        },
                        // What comes of it is seen when a stream is opened.
                        Some(Order::Dial(addr)) => drop(swarm.dial(addr)),
                        None => return,
                    },
                }
            }
        });
        Ok(Peer { id, control, orders, reservation, dialled })
    }

    /// Gets a reservation at a relay, or none.
    pub(crate) async fn reserve(&mut self, relay: &Multiaddr) -> Result<()> {
        self.reservation.borrow_and_update();
        self.orders.send(Order::Listen(relay.clone().with(Protocol::P2pCircuit))).await?;
        let changed = self.reservation.wait_for(|state| *state != Reservation::None);
        match *timeout(PATIENCE, changed).await.context("no answer to a reservation")?? {
            Reservation::Held => Ok(()),
            _ => bail!("no reservation"),
        }
    }

    pub(crate) fn reservation(&self) -> Reservation {
        *self.reservation.borrow()
    }

    /// Connects to a relay, or to a peer through one.
    pub(crate) async fn dial(&self, addr: Multiaddr) -> Result<()> {
        Ok(self.orders.send(Order::Dial(addr)).await?)
    }

    /// A stream to a peer through a relay.
    pub(crate) async fn talk(&mut self, relay: &Multiaddr, to: PeerId) -> Result<libp2p::Stream> {
        self.dialled.borrow_and_update();
        self.dial(relay.clone().with(Protocol::P2pCircuit).with(Protocol::P2p(to))).await?;
        let ended = self.dialled.wait_for(|dialled| dialled.is_some_and(|(peer, _)| peer == to));
        let ended = *timeout(PATIENCE, ended).await.context("no circuit in time")??;
        ensure!(ended == Some((to, true)), "no circuit");
        let opened = self.control.open_stream(to, TALK);
        Ok(timeout(PATIENCE, opened).await.context("no circuit")??)
    }

    /// The streams that others open.
    pub(crate) fn talkers(&mut self) -> Result<IncomingStreams> {
        Ok(self.control.accept(TALK)?)
    }
}
