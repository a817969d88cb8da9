//! The harder way from a relayed connection to a direct one, after [`super::holes`] went in vain: prediction and
//! guessing of ports ([`punch`]). One at a time, since each takes the sockets' attention and the uplink.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Instant,
};

use async_channel::{Receiver, Sender};
use futures::{FutureExt, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId, Stream,
    multiaddr::Protocol,
    swarm::dial_opts::{DialOpts, PeerCondition},
};
use libp2p_stream::{Control, IncomingStreams};
use ring::rand::{SecureRandom, SystemRandom};

use super::{
    Node,
    conversations::{self, Turn},
    tally::{Outcome, Way},
};
use crate::{
    discovery::scope,
    limits,
    nat::{
        punch::{self, Agreement, Hole, Nat},
        stun::{
            Family,
            verdict::{Allocation, Verdict},
        },
        witness,
    },
    transport::quic::Datagrams,
};

/// What it takes to punch.
pub(super) struct Punches {
    control: Control,
    incoming: IncomingStreams,
    /// Punch packets of the listening sockets; with whoever is punching, and none without QUIC.
    datagrams: Option<Datagrams>,
    /// A proposal that came before this node knows its NAT, and until when it waits for that.
    waiting: Option<(PeerId, Stream, Instant)>,
    /// Peers that were tried, and until when they are left alone.
    resting: HashMap<PeerId, Instant>,
    tell: Sender<Done>,
    done: Receiver<Done>,
}

/// How a punch ended.
pub(super) struct Done {
    peer: PeerId,
    /// What was agreed upon, if anything.
    kind: Option<punch::Kind>,
    hole: Result<Hole, punch::Error>,
    datagrams: Datagrams,
}

impl Punches {
    pub(super) fn new(mut control: Control, datagrams: Option<Datagrams>) -> Option<Self> {
        let incoming = control.accept(punch::PROTOCOL).ok()?;
        let (tell, done) = async_channel::bounded(1);
        let resting = HashMap::new();
        Some(Punches { control, incoming, datagrams, waiting: None, resting, tell, done })
    }

    /// The next thing to do.
    pub(super) async fn turn(&mut self) -> Turn<Done> {
        conversations::turn(&mut self.incoming, &self.done).await
    }

    /// Whether this peer's turn has come: it takes the sockets if so.
    fn take(&mut self, peer: PeerId, now: Instant) -> Option<Datagrams> {
        self.resting.retain(|_, until| *until > now);
        if self.resting.contains_key(&peer) {
            return None;
        }
        let datagrams = self.datagrams.take()?;
        self.resting.insert(peer, now + limits::PUNCH_REST);
        Some(datagrams)
    }
}

impl Node {
    /// Proposes a punch to a peer that is connected through a relay only. `false`: it is worth doing a little later,
    /// when this node knows its own NAT, or has finished with somebody else.
    pub(super) fn punch(&mut self, peer: PeerId, now: Instant) -> bool {
        let (Some(nat), Some(token)) = (self.outside.nat(), token()) else { return false };
        let Some(datagrams) = self.punches.take(peer, now) else { return false };
        let (mut control, seen) = (self.punches.control.clone(), self.witness_of(peer));
        self.carry_out(peer, datagrams, async move {
            let stream = control.open_stream(peer, punch::PROTOCOL).await.map_err(io::Error::other)?;
            punch::initiate(stream, nat, token, seen).await
        });
        true
    }

    /// What was proposed is answered, now that this node knows its NAT.
    pub(super) fn answer_punch(&mut self) {
        if let Some((peer, stream, until)) = self.punches.waiting.take()
            && Instant::now() < until
        {
            self.on_proposal(peer, stream);
        }
    }

    fn on_proposal(&mut self, peer: PeerId, stream: Stream) {
        // A direct connection needs no help.
        if !self.links.is_relayed(&peer) {
            return;
        }
        let now = Instant::now();
        let Some(nat) = self.outside.nat() else {
            self.punches.waiting = Some((peer, stream, now + limits::PUNCH_PATIENCE));
            return;
        };
        if let Some(datagrams) = self.punches.take(peer, now) {
            let seen = self.witness_of(peer);
            self.carry_out(peer, datagrams, async move { punch::respond(stream, nat, seen).await });
        }
    }

    /// What finds out whether a peer is where it says that it is: the relay that we reach it through knows, and is
    /// believed if the operator named it.
    fn witness_of(&self, peer: PeerId) -> impl FnOnce(Ipv4Addr) -> BoxFuture<'static, bool> + Send + use<> {
        let relay = self.links.relayed_at(&peer).and_then(scope::relay_of);
        let relay = relay.filter(|relay| self.bootstraps.has(relay) || self.relays.is_named(relay));
        let (mut control, networks) = (self.punches.control.clone(), self.company.book.networks().clone());
        move |ip| {
            // Nor is anybody to have us send a thousand packets into our own network.
            let may_send = networks.may_dial(&Multiaddr::from(ip).with(Protocol::Tcp(1)));
            let seen = async move {
                let Some(relay) = relay.filter(|_| may_send) else { return false };
                let asked = async {
                    let stream =
                        control.open_stream(relay, witness::PROTOCOL).await.map_err(io::Error::other)?;
                    witness::ask(stream, peer, ip.into()).await
                };
                let seen = asked.await;
                log::debug!("the relay {relay} says of {peer} at {ip}: {seen:?}");
                seen.unwrap_or(false)
            };
            seen.boxed()
        }
    }

    pub(super) fn on_punch(&mut self, turn: Turn<Done>) {
        match turn {
            Turn::Asked(peer, stream) => self.on_proposal(peer, *stream),
            Turn::Done(Done { peer, kind, hole, datagrams }) => {
                self.tally.punched(way(kind), outcome(&hole));
                match hole {
                    Ok(Hole::Expect(from)) => log::debug!("{peer} found a way here, from {from}"),
                    Ok(Hole::Dial(to, socket)) => {
                        log::debug!("there is a way to {peer}, at {to}");
                        datagrams.adopt(to, socket);
                        let addr =
                            Multiaddr::from(to.ip()).with(Protocol::Udp(to.port())).with(Protocol::QuicV1);
                        let opts = DialOpts::peer_id(peer).addresses(vec![addr]);
                        if let Err(e) = self.swarm.dial(opts.condition(PeerCondition::Always).build()) {
                            log::debug!("no direct connection to {peer}: {e}");
                        }
                    }
                    Err(e) => {
                        log::debug!("no way to {peer} was found: {e}");
                        // Not a packet was sent: the connection that they talked over was closed, or both proposed
                        // at once, and neither answered. One of them has to let the other go first.
                        if let punch::Error::Io(_) = e {
                            self.punches.resting.remove(&peer);
                            let is_first = *self.swarm.local_peer_id() < peer;
                            let patience = limits::DCUTR_POSTPONE * if is_first { 1 } else { 4 };
                            self.holes.postpone(peer, Instant::now() + patience);
                        }
                    }
                }
                self.punches.datagrams = Some(datagrams);
                self.answer_punch();
            }
        }
    }

    /// Agrees on a plan and carries it out.
    fn carry_out(
        &mut self,
        peer: PeerId,
        datagrams: Datagrams,
        agree: impl Future<Output = Result<Agreement, punch::Error>> + Send + 'static,
    ) {
        let tell = self.punches.tell.clone();
        let part = async move {
            let mut kind = None;
            let hole = async {
                let agreement = agree.await?;
                kind = Some(agreement.plan.kind);
                log::debug!("punching towards {peer}: {:.0} %", agreement.plan.chance * 100.0);
                punch::carry_out(agreement, &datagrams).await
            };
            let hole = hole.await;
            // The node may have ended.
            let _ = tell.send(Done { peer, kind, hole, datagrams }).await;
        };
        self.executor.spawn(part).detach();
    }
}

fn way(kind: Option<punch::Kind>) -> Way {
    match kind {
        Some(punch::Kind::Prediction) => Way::Prediction,
        Some(punch::Kind::Guessing) => Way::Guessing,
        Some(punch::Kind::Walk) => Way::Walk,
        None => Way::Unplanned,
    }
}

fn outcome(hole: &Result<Hole, punch::Error>) -> Outcome {
    match hole {
        Ok(_) => Outcome::Opened,
        Err(punch::Error::Missed) => Outcome::Missed,
        Err(_) => Outcome::Failed,
    }
}

impl super::outside::Outside {
    /// Our NAT as a plan needs to know it; `None` without one that could be met.
    fn nat(&self) -> Option<Nat> {
        nat(self.verdicts.get(&Family::V4)?)
    }
}

fn nat(verdict: &Verdict) -> Option<Nat> {
    let v4 = |addr: SocketAddr| match addr {
        SocketAddr::V4(addr) => Some(addr),
        SocketAddr::V6(_) => None,
    };
    let seen: Vec<SocketAddrV4> = verdict.external.iter().copied().filter_map(v4).collect();
    let last = verdict.observations.last().and_then(|last| v4(last.mapped));
    match (&seen[..], verdict.allocation) {
        // Even where one server only could be asked: it is most likely.
        ([addr], _) if !verdict.mapping.depends_on_destination() => Some(Nat::Steady { addr: *addr }),
        ([.., _], Allocation::Sequential { step, .. }) => {
            Some(Nat::Sequential { last: last?, step: i16::try_from(step).ok()? })
        }
        ([.., addr], _) => Some(Nat::Random { ip: *addr.ip() }),
        ([], _) => None,
    }
}

/// 128 random bits: who cannot read the relayed connection does not guess them. `None` where the system has none.
fn token() -> Option<punch::Token> {
    let mut token = [0; 16];
    SystemRandom::new().fill(&mut token).ok()?;
    Some(token)
}
