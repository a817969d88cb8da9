//! From a relayed connection to a direct one.
//!
//! Whoever was reached through the relay begins: the two agree on a moment ([`dcutr`]), and both dial. What is
//! told is not trusted: only addresses that may be dialled are ([`crate::discovery::scope`]).
//!
//! Two that reach each other through a relay at the same time both begin. One of these agreements is dropped on
//! both sides: with TCP, where all four dials are one connection, both would take the same role in it.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use async_channel::{Receiver, Sender};
use libp2p::{
    Multiaddr, PeerId,
    multiaddr::Protocol,
    swarm::{
        ConnectionId,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use libp2p_stream::{Control, IncomingStreams};

use super::{
    Node,
    conversations::{self, Turn},
    tally::{Outcome, Way},
};
use crate::{discovery::scope, limits, nat::dcutr};

/// Direct connections in the making.
pub(super) struct Holes {
    control: Control,
    incoming: IncomingStreams,
    /// Peers that are connected through a relay only, and whom we reached or who reached us.
    relayed: HashMap<PeerId, Attempt>,
    /// Where others say they see us, the latest first.
    observed: VecDeque<Multiaddr>,
    tell: Sender<Agreed>,
    agreed: Receiver<Agreed>,
    /// Agreements under way.
    running: usize,
    /// Agreements so far, which are their numbers; wraps.
    begun: u32,
}

#[derive(Default)]
struct Attempt {
    count: u32,
    /// How often one was put off.
    #[cfg(feature = "stun")]
    postponed: u32,
    /// When to begin the next one, if that is ours.
    due: Option<Instant>,
    /// The agreement that counts, of those under way.
    current: Option<(u32, Role)>,
    /// When both sides last dialled.
    dialled: Option<Instant>,
    /// Our dials, of which nobody knows yet what comes of them.
    dials: Vec<ConnectionId>,
}

impl Attempt {
    /// Whether both sides are at it, or were a moment ago.
    fn is_fresh(&self, now: Instant) -> bool {
        self.current.is_some() || self.dialled.is_some_and(|at| now < at + limits::DCUTR_RETRY)
    }
}

/// What a conversation about a direct connection came to.
pub(super) struct Agreed {
    peer: PeerId,
    number: u32,
    role: Role,
    addrs: Result<Vec<Multiaddr>, dcutr::Error>,
}

/// Which part this node had in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// It was reached through the relay, and began.
    B,
    A,
}

impl Holes {
    pub(super) fn new(mut control: Control) -> Option<Self> {
        let incoming = control.accept(dcutr::PROTOCOL).ok()?;
        let (tell, agreed) = async_channel::bounded(limits::DCUTR_AT_ONCE);
        Some(Holes {
            control,
            incoming,
            relayed: HashMap::new(),
            observed: VecDeque::new(),
            tell,
            agreed,
            running: 0,
            begun: 0,
        })
    }

    /// The next thing to do.
    pub(super) async fn turn(&mut self) -> Turn<Agreed> {
        conversations::turn(&mut self.incoming, &self.agreed).await
    }

    /// Where others say they see this node, the latest first.
    #[cfg(feature = "autonat")]
    pub(super) fn observed(&self) -> impl Iterator<Item = &Multiaddr> {
        self.observed.iter()
    }

    /// The attempt that was begun last, a punch, could not be made, and is again what comes next: a few times. The one
    /// who was asked has begun none.
    #[cfg(feature = "stun")]
    pub(super) fn postpone(&mut self, peer: PeerId, due: Instant) {
        if let Some(attempt) = self.relayed.get_mut(&peer)
            && attempt.count > 0
            && attempt.count.is_multiple_of(2)
            && attempt.postponed < limits::DCUTR_POSTPONED
        {
            attempt.postponed += 1;
            attempt.count -= 1;
            attempt.due = Some(due);
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        if self.running >= limits::DCUTR_AT_ONCE {
            return None;
        }
        self.relayed.values().filter_map(|attempt| attempt.due).min()
    }
}

impl Node {
    /// A connection to a peer is there.
    pub(super) fn path_opened(&mut self, peer: PeerId, is_relayed: bool, is_inbound: bool, now: Instant) {
        if !is_relayed {
            let made = self.holes.relayed.remove(&peer);
            // The other side's dial may be there before our own has begun.
            if made.is_some_and(|attempt| attempt.is_fresh(now) || !attempt.dials.is_empty()) {
                self.tally.punched(Way::Dcutr, Outcome::Opened);
            }
        } else if self.links.is_relayed(&peer) {
            let attempt = self.holes.relayed.entry(peer).or_default();
            if is_inbound && attempt.count == 0 && !attempt.is_fresh(now) {
                attempt.due = Some(now);
            }
            #[cfg(feature = "autonat")]
            if is_inbound {
                self.autonat.doubt(now);
            }
            #[cfg(feature = "stun")]
            self.outside.wish_fresh();
        }
    }

    /// A connection to a peer is gone, and others may be left.
    pub(super) fn path_closed(&mut self, peer: PeerId, now: Instant) {
        if !self.links.has(&peer) {
            self.holes.relayed.remove(&peer);
        } else if self.links.is_relayed(&peer) {
            // A direct one is lost: make another. Both may begin, since nobody knows who noticed.
            let attempt = self.holes.relayed.entry(peer).or_default();
            attempt.due.get_or_insert(now);
        }
    }

    /// A dial failed. It may have been the last of an attempt.
    pub(super) fn hole_missed(&mut self, peer: Option<PeerId>, dial: ConnectionId) {
        if let Some(attempt) = peer.and_then(|peer| self.holes.relayed.get_mut(&peer))
            && attempt.dials.contains(&dial)
        {
            attempt.dials.retain(|other| *other != dial);
            if attempt.dials.is_empty() {
                self.tally.punched(Way::Dcutr, Outcome::Missed);
            }
        }
    }

    /// Somebody says that he sees us there.
    pub(super) fn observed(&mut self, addr: Multiaddr) {
        if scope::is_circuit(&addr) {
            return;
        }
        let observed = &mut self.holes.observed;
        observed.retain(|known| *known != addr);
        observed.push_front(addr);
        observed.truncate(limits::DCUTR_ADDRESSES);
        #[cfg(feature = "autonat")]
        self.autonat.addresses_changed();
    }

    /// Nobody sees us there any more.
    #[cfg(feature = "stun")]
    pub(super) fn not_observed(&mut self, addr: &Multiaddr) {
        self.holes.observed.retain(|known| known != addr);
        #[cfg(feature = "autonat")]
        self.autonat.addresses_changed();
    }

    /// Begins what is due.
    pub(super) fn make_holes(&mut self, now: Instant) {
        while self.holes.running < limits::DCUTR_AT_ONCE {
            let is_due = |attempt: &Attempt| attempt.due.is_some_and(|due| due <= now);
            let Some((peer, attempt)) = self.holes.relayed.iter_mut().find(|(_, attempt)| is_due(attempt))
            else {
                return;
            };
            attempt.count += 1;
            attempt.due = dcutr::retry(attempt.count).map(|delay| now + delay);
            if attempt.current.is_some() {
                continue;
            }
            let (peer, count) = (*peer, attempt.count);
            // What failed once fails again, unless something else is done.
            #[cfg(feature = "stun")]
            if count.is_multiple_of(2) {
                if !self.punch(peer, now) {
                    self.holes.postpone(peer, now + limits::DCUTR_POSTPONE);
                }
                continue;
            }
            log::debug!("attempt {count} at a direct connection to {peer}");
            let (own, mut control) = (self.punchable(), self.holes.control.clone());
            self.agree(peer, Role::B, async move {
                let stream = control.open_stream(peer, dcutr::PROTOCOL).await;
                dcutr::initiate(stream.map_err(std::io::Error::other)?, &own).await
            });
        }
    }

    pub(super) fn on_hole(&mut self, turn: Turn<Agreed>) {
        match turn {
            Turn::Asked(peer, stream) => {
                // A direct connection needs no help, and there is a bound.
                if self.links.is_relayed(&peer)
                    && self.holes.running < limits::DCUTR_AT_ONCE
                    && self.gives_way_to(&peer)
                {
                    let own = self.punchable();
                    self.agree(peer, Role::A, async move { dcutr::respond(*stream, &own).await });
                }
            }
            Turn::Done(Agreed { peer, number, role, addrs }) => {
                self.holes.running -= 1;
                let attempt = self.holes.relayed.get_mut(&peer);
                let Some(attempt) = attempt.filter(|attempt| attempt.current == Some((number, role))) else {
                    return;
                };
                attempt.current = None;
                match addrs {
                    Ok(addrs) => {
                        let now = Instant::now();
                        attempt.dialled = Some(now);
                        // The next one has time until it is clear what came of this.
                        attempt.due = attempt.due.map(|due| due.max(now + limits::DCUTR_RETRY));
                        self.dial_through(peer, role, addrs);
                    }
                    Err(e) => {
                        self.tally.punched(Way::Dcutr, Outcome::Failed);
                        log::debug!("no direct connection to {peer} was agreed upon: {e}");
                    }
                }
            }
        }
    }

    /// Whether a peer that begins is to be answered: of two that begin at the same time, the one with the greater
    /// peer ID goes on.
    fn gives_way_to(&self, peer: &PeerId) -> bool {
        let current = self.holes.relayed.get(peer).and_then(|attempt| attempt.current);
        match current {
            None => true,
            Some((_, Role::A)) => false,
            Some((_, Role::B)) => self.swarm.local_peer_id() < peer,
        }
    }

    fn agree(
        &mut self,
        peer: PeerId,
        role: Role,
        part: impl Future<Output = Result<Vec<Multiaddr>, dcutr::Error>> + Send + 'static,
    ) {
        self.holes.running += 1;
        self.holes.begun = self.holes.begun.wrapping_add(1);
        let number = self.holes.begun;
        self.holes.relayed.entry(peer).or_default().current = Some((number, role));
        let tell = self.holes.tell.clone();
        let told = async move {
            let addrs = part.await;
            // The node may have ended.
            let _ = tell.send(Agreed { peer, number, role, addrs }).await;
        };
        self.executor.spawn(told).detach();
    }

    /// Dials now, as the other side does.
    fn dial_through(&mut self, peer: PeerId, role: Role, mut addrs: Vec<Multiaddr>) {
        let networks = self.company.book.networks();
        addrs.retain(|addr| !scope::is_circuit(addr) && networks.may_dial(addr));
        if !self.links.is_relayed(&peer) || addrs.is_empty() {
            self.tally.punched(Way::Dcutr, Outcome::Failed);
            return log::debug!("no direct connection to {peer}: it names no address to dial");
        }
        log::debug!("dialling {peer} directly at {addrs:?}");
        let opts = |addrs| DialOpts::peer_id(peer).addresses(addrs).condition(PeerCondition::Always);
        let quic: Vec<Multiaddr> = addrs.iter().filter(|addr| scope::is_quic(addr)).cloned().collect();
        let mut dials = match role {
            Role::A => vec![opts(addrs).build()],
            Role::B => vec![opts(addrs).override_role().build()],
        };
        // With QUIC the one who is dialled only opens its NAT, and the other one dials. Where our NAT gives each
        // destination another port, that one dials in vain; the way from here is open if its NAT lets us in.
        if role == Role::B && !quic.is_empty() {
            dials.push(opts(quic).build());
        }
        let mut begun = Vec::new();
        for dial in dials {
            let id = dial.connection_id();
            match self.swarm.dial(dial) {
                Ok(()) => begun.push(id),
                Err(e) => log::debug!("no direct connection to {peer}: {e}"),
            }
        }
        if begun.is_empty() {
            self.tally.punched(Way::Dcutr, Outcome::Missed);
        } else if let Some(attempt) = self.holes.relayed.get_mut(&peer) {
            attempt.dials = begun;
        }
    }

    /// Where others may try to reach this node through its NAT, or inside of it.
    fn punchable(&self) -> Vec<Multiaddr> {
        let mut addrs: Vec<Multiaddr> = Vec::new();
        let (guessed, own) = (self.guessed(), self.all_addresses());
        let told = self.holes.observed.iter().chain(&guessed).chain(&own);
        for addr in told.filter(|addr| !scope::is_circuit(addr)) {
            if !addrs.contains(addr) {
                addrs.push(addr.clone());
            }
        }
        addrs.truncate(limits::DCUTR_ADDRESSES);
        addrs
    }

    /// Where TCP may be let in that nobody has seen, as all connections so far are QUIC's: many NATs leave ports
    /// as they are (RFC 7857, section 3.1), and a peer whose firewall lets no UDP through has no other way.
    fn guessed(&self) -> Option<Multiaddr> {
        let is_tcp = |addr: &&Multiaddr| addr.iter().any(|part| matches!(part, Protocol::Tcp(_)));
        let observed =
            || self.holes.observed.iter().filter(|addr| scope::ip_of(addr).is_some_and(|ip| ip.is_ipv4()));
        if observed().any(|addr| is_tcp(&addr)) {
            return None;
        }
        let outside = observed().find_map(scope::ip_of)?;
        let mut listeners = self.swarm.listeners().filter(|addr| !scope::is_circuit(addr) && is_tcp(addr));
        let inside = listeners.find(|addr| scope::ip_of(addr).is_some_and(|ip| ip.is_ipv4()))?;
        let port = inside.iter().find(|part| matches!(part, Protocol::Tcp(_)))?;
        Some(Multiaddr::from(outside).with(port))
    }
}
