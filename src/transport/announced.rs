//! The addresses that a listener has told the swarm.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use libp2p::{
    Multiaddr,
    core::transport::{ListenerId, TransportEvent},
};

/// Addresses announced and not expired: those of the machine for a wildcard, else the bound one.
pub(crate) struct Announced {
    id: ListenerId,
    /// What the socket is bound to; may be a wildcard.
    bound: SocketAddr,
    /// How the transport writes an address.
    write: fn(SocketAddr) -> Multiaddr,
    ips: BTreeSet<IpAddr>,
}

impl Announced {
    pub(crate) fn new(id: ListenerId, bound: SocketAddr, write: fn(SocketAddr) -> Multiaddr) -> Self {
        Announced { id, bound, write, ips: BTreeSet::new() }
    }

    /// Announces an address, if it is one of this listener's and new.
    pub(crate) fn announce<U, E>(&mut self, ip: IpAddr) -> Option<TransportEvent<U, E>> {
        let bound = self.bound.ip();
        let ours = ip.is_ipv4() == bound.is_ipv4() && (bound.is_unspecified() || ip == bound);
        (ours && self.ips.insert(ip))
            .then(|| TransportEvent::NewAddress { listener_id: self.id, listen_addr: self.at(ip) })
    }

    /// Takes an announcement back.
    pub(crate) fn expire<U, E>(&mut self, ip: IpAddr) -> Option<TransportEvent<U, E>> {
        self.ips
            .remove(&ip)
            .then(|| TransportEvent::AddressExpired { listener_id: self.id, listen_addr: self.at(ip) })
    }

    /// Takes all announcements back.
    pub(crate) fn expire_all<U, E>(&mut self) -> Vec<TransportEvent<U, E>> {
        let ips: Vec<_> = self.ips.iter().copied().collect();
        ips.into_iter().filter_map(|ip| self.expire(ip)).collect()
    }

    /// The bound address with another IP, so that port and zone stay.
    fn at(&self, ip: IpAddr) -> Multiaddr {
        let mut addr = self.bound;
        addr.set_ip(ip);
        (self.write)(addr)
    }
}

/// Whether a connection to `remote` can come from a socket bound to `local`.
pub(crate) fn suits(local: IpAddr, remote: IpAddr) -> bool {
    local.is_ipv4() == remote.is_ipv4()
        && (local.is_unspecified() || local.is_loopback() == remote.is_loopback())
}
