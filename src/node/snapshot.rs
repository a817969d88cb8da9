//! All that a node counts, at one moment, for those who watch it. It is put together when somebody asks.

use async_channel::Sender;
use libp2p::{Multiaddr, multiaddr::Protocol};

use super::{
    Node,
    api::{Inbox, RoomInfo, Stats},
    tally::{Histogram, RoomCounts},
};
#[cfg(feature = "autonat")]
use crate::nat::autonat::client::Verdict;
#[cfg(feature = "stun")]
use crate::nat::{meaning::Meaning, stun::driver::Counters};
use crate::{discovery::scope, rooms::Room};

/// Where the answer goes to somebody who looks.
pub type Look = Sender<Box<Snapshot>>;

/// Numbers by the words that tell them apart.
pub type By<const N: usize> = Vec<([&'static str; N], u64)>;

/// What is counted. Numbers of what is there now, if not said otherwise.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// In the order of joining, at most [`crate::limits::ROOMS`].
    pub rooms: Vec<InRoom>,
    /// By transport and path.
    pub connections: By<2>,
    /// By transport and path of their best connection, and who dialled first.
    pub peers: By<3>,
    /// Round-trip times of all pings since the start.
    pub rtt: Histogram,
    /// Dials since the start, by outcome.
    pub dials: By<1>,
    /// Attempts at a direct connection since the start, by way and outcome.
    pub punches: By<2>,
    /// Since the start, by what was done.
    pub recalls: By<1>,
    /// Of the DHT since the start, by kind and outcome.
    pub queries: By<2>,
    /// Places that this node has at relays.
    pub reservations_held: u64,
    /// Events that readers of this node were too slow for, since the start.
    pub missed_events: u64,
    /// What `stats` tells, too.
    pub stats: Stats,
    /// Whether others can dial this node, by verdict: 1 for the one that holds.
    #[cfg(feature = "autonat")]
    pub reachability: By<1>,
    /// What kind of NAT there is, one an IP family.
    #[cfg(feature = "stun")]
    pub nats: Vec<Meaning>,
    /// What was asked and answered by STUN since the start.
    #[cfg(feature = "stun")]
    pub stun: Option<Counters>,
}

/// What is counted in a room.
#[derive(Clone, Debug)]
pub struct InRoom {
    pub room: Room,
    /// Others that are there.
    pub members: u64,
    /// Those in the gossipsub mesh.
    pub mesh: u64,
    pub counts: RoomCounts,
}

impl Inbox {
    /// The next one who looks; never, if nobody can.
    pub(super) async fn look(&self) -> Look {
        match self.looks.recv().await {
            Ok(look) => look,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Node {
    pub(super) fn on_look(&mut self, look: Look) {
        let snapshot = Box::new(self.snapshot());
        #[cfg(feature = "stun")]
        {
            // STUN is a task of its own, and counts there.
            let (counters, mut snapshot) = (self.outside.counters(), snapshot);
            let task = async move {
                snapshot.stun = counters.await;
                // Who asked may have gone.
                let _ = look.try_send(snapshot);
            };
            self.executor.spawn(task).detach();
        }
        #[cfg(not(feature = "stun"))]
        let _ = look.try_send(snapshot);
    }

    fn snapshot(&self) -> Snapshot {
        let in_room = |RoomInfo { room, members, mesh }: RoomInfo| InRoom {
            counts: self.tally.room(&room),
            members: members.len() as u64,
            mesh: mesh as u64,
            room,
        };
        let (connections, peers) = self.connections();
        Snapshot {
            rooms: self.room_infos().into_iter().map(in_room).collect(),
            connections,
            peers,
            rtt: self.tally.rtt(),
            dials: self.tally.dials(),
            punches: self.tally.punches(),
            recalls: self.tally.recalls(),
            queries: self.tally.queries(),
            reservations_held: self.relays.held().count() as u64,
            missed_events: self.feed.missed(),
            stats: self.stats_now(),
            #[cfg(feature = "autonat")]
            reachability: reachability(self.autonat.verdict()),
            #[cfg(feature = "stun")]
            nats: self.outside.verdicts.values().map(Meaning::of).collect(),
            #[cfg(feature = "stun")]
            stun: None,
        }
    }

    /// Connections, and peers by the best of theirs. Who is not there counts as 0, so that there is always a number.
    fn connections(&self) -> (By<2>, By<3>) {
        let (mut connections, mut peers) = (By::new(), By::new());
        for path in ["direct", "relayed"] {
            for transport in ["quic", "tcp"] {
                connections.push(([transport, path], 0));
                peers.push(([transport, path, "inbound"], 0));
                peers.push(([transport, path, "outbound"], 0));
            }
        }
        for (is_inbound, addrs) in self.links.connections() {
            let direction = if is_inbound { "inbound" } else { "outbound" };
            let ways: Vec<[&'static str; 2]> = addrs.map(way).collect();
            for way in &ways {
                count(&mut connections, *way);
            }
            // In the order of the words the best comes first: "direct" and "quic".
            if let Some([transport, path]) =
                ways.into_iter().min_by_key(|[transport, path]| (*path, *transport))
            {
                count(&mut peers, [transport, path, direction]);
            }
        }
        (connections, peers)
    }
}

/// Transport and path of a connection with this address. Through a relay it is the transport to the relay.
fn way(addr: &Multiaddr) -> [&'static str; 2] {
    let is_quic = addr.iter().any(|part| part == Protocol::QuicV1);
    let path = if scope::is_circuit(addr) { "relayed" } else { "direct" };
    [if is_quic { "quic" } else { "tcp" }, path]
}

fn count<const N: usize>(by: &mut By<N>, words: [&'static str; N]) {
    if let Some((_, number)) = by.iter_mut().find(|(other, _)| *other == words) {
        *number += 1;
    }
}

#[cfg(feature = "autonat")]
fn reachability(verdict: Verdict) -> By<1> {
    let all = [Verdict::Reachable, Verdict::Partly, Verdict::Unreachable, Verdict::Unknown];
    all.into_iter().map(|other| ([other.word()], u64::from(other == verdict))).collect()
}
