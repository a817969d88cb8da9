//! Too many connections: whom to let go, and whom not to let in. Pure.
//!
//! Keys cost nothing and addresses cost something, so who takes much is measured by networks: what one owner is
//! likely to have ([`Prefix::of_owner`]), and what one home has ([`Prefix::of_host`]). Many nodes behind the address
//! of one CGNAT are honest, so there is room for some. Machines in our own networks are not counted: they are ours.

use std::{collections::HashMap, fmt, net::IpAddr, time::Instant};

use libp2p::PeerId;

use super::peers::scope::{Networks, Prefix};
use crate::limits;

/// A connection, as far as its worth goes.
#[derive(Clone, Debug)]
pub struct Link {
    pub peer: PeerId,
    /// Where it is ([`super::peers::scope::ip_of`]); `None` behind a relay.
    pub ip: Option<IpAddr>,
    /// It wanted us, not we it.
    pub is_inbound: bool,
    pub since: Instant,
    pub worth: Worth,
}

/// What a connection is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// For nothing that we know of.
    Nothing,
    /// It answers lookups.
    Server,
    /// It is in a room with us, beside the mesh.
    Room,
    /// It is never closed: a bootstrap peer, one that the operator named, a relay of ours, one of a room's mesh.
    Protected,
}

/// What is to be done about a crowd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Peers to disconnect from, all of their connections.
    pub go: Vec<PeerId>,
    /// When to ask again although nothing changed: those that were too young are not any more.
    pub again: Option<Instant>,
}

/// Whom to let go when there are more than [`limits::CONNECTIONS_HIGH`] connections, so that
/// [`limits::CONNECTIONS_LOW`] remain, if so many can go.
///
/// The first to go is in the network with the most connections (a flood pays for itself), then good for nothing,
/// then inbound (whom we chose is less likely to be there to harm us), then the youngest. The same crowd always
/// gets the same verdict.
pub fn verdict(links: &[Link], networks: &Networks, now: Instant) -> Verdict {
    let mut verdict = Verdict::default();
    if links.len() <= limits::CONNECTIONS_HIGH {
        return verdict;
    }
    let owner = |link: &Link| link.ip.filter(|ip| !networks.is_neighbour(*ip)).map(Prefix::of_owner);
    let age = |link: &Link| now.saturating_duration_since(link.since);
    let mut left: Vec<&Link> = links.iter().collect();
    while left.len() > limits::CONNECTIONS_LOW {
        let mut crowds: HashMap<Prefix, usize> = HashMap::new();
        left.iter().filter_map(|link| owner(link)).for_each(|owner| *crowds.entry(owner).or_default() += 1);
        let crowd = |link: &Link| owner(link).and_then(|owner| crowds.get(&owner).copied()).unwrap_or(1);
        let may_go = |peer: PeerId| {
            let mut all = links.iter().filter(|link| link.peer == peer);
            all.all(|link| link.worth != Worth::Protected && age(link) >= limits::CONNECTION_YOUNG)
        };
        let worst = left
            .iter()
            .filter(|link| may_go(link.peer))
            .max_by_key(|link| {
                let worth = std::cmp::Reverse(link.worth);
                (crowd(link), worth, link.is_inbound, link.since, link.peer)
            })
            .map(|link| link.peer);
        let Some(worst) = worst else { break };
        left.retain(|link| link.peer != worst);
        verdict.go.push(worst);
    }
    if left.len() > limits::CONNECTIONS_HIGH {
        let is_young = |link: &&&Link| link.worth != Worth::Protected && age(link) < limits::CONNECTION_YOUNG;
        verdict.again = left.iter().filter(is_young).map(|link| link.since + limits::CONNECTION_YOUNG).min();
    }
    verdict
}

/// How many inbound connections there are of each home and of each owner.
#[derive(Debug, Default)]
pub struct Counts {
    hosts: HashMap<Prefix, usize>,
    owners: HashMap<Prefix, usize>,
}

/// There are enough connections from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// From where.
    pub network: Prefix,
    /// So many are enough.
    pub most: usize,
}

impl Counts {
    pub fn add(&mut self, ip: IpAddr) {
        *self.hosts.entry(Prefix::of_host(ip)).or_default() += 1;
        *self.owners.entry(Prefix::of_owner(ip)).or_default() += 1;
    }

    /// What was added is gone.
    pub fn remove(&mut self, ip: IpAddr) {
        for (counts, key) in
            [(&mut self.hosts, Prefix::of_host(ip)), (&mut self.owners, Prefix::of_owner(ip))]
        {
            if let Some(count) = counts.get_mut(&key) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    counts.remove(&key);
                }
            }
        }
    }

    /// Whether one more connection from `ip` may be, when there are `total` connections in all.
    ///
    /// # Errors
    /// Which network has enough.
    pub fn admit(&self, ip: IpAddr, total: usize, networks: &Networks) -> Result<(), Denied> {
        if networks.is_neighbour(ip) {
            return Ok(());
        }
        // See limits::INBOUND_PER_HOST.
        let room = if total < limits::CONNECTIONS_LOW { 2 } else { 1 };
        for (counts, network, most) in [
            (&self.hosts, Prefix::of_host(ip), room * limits::INBOUND_PER_HOST),
            (&self.owners, Prefix::of_owner(ip), room * limits::INBOUND_PER_PREFIX),
        ] {
            if counts.get(&network).is_some_and(|count| *count >= most) {
                return Err(Denied { network, most });
            }
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.owners.is_empty()
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there are {} connections from {} already", self.most, self.network)
    }
}

impl std::error::Error for Denied {}
