//! The networks that an interface is on, and which addresses fit them.

use std::net::IpAddr;

use libp2p::{Multiaddr, multiaddr::Protocol};

use crate::transport::address::{Endpoint, needs_zone};

/// An address of this machine on an interface, with the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Subnet {
    pub(in super::super) ip: IpAddr,
    pub(in super::super) prefix: u8,
}

impl Subnet {
    /// Whether others can be here at all. Not on loopback, whose nodes find each other through any interface that
    /// the machine has; not at the end of a point-to-point link, which has a network of one; and not where all
    /// have link-local addresses only, for listeners do not announce these.
    pub(super) fn has_others(self) -> bool {
        !self.ip.is_loopback() && !needs_zone(self.ip) && u32::from(self.prefix) + 2 <= bits(self.ip)
    }

    /// Whether an address is of this network, and of one machine in it.
    pub(super) fn contains(self, ip: IpAddr) -> bool {
        let (width, ours, theirs) = match (self.ip, ip) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => (32, ours.to_bits().into(), theirs.to_bits().into()),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => (128, ours.to_bits(), theirs.to_bits()),
            _ => return false,
        };
        let host_bits = u32::from(self.prefix).min(width).abs_diff(width);
        let host_mask = 1u128.checked_shl(host_bits).map_or(u128::MAX, |bit| bit - 1);
        let host = theirs & host_mask;
        // All zeros and all ones are everybody, or a router, but no peer.
        let is_one = self.ip == ip || (host != 0 && (width == 128 || host != host_mask));
        ours & !host_mask == theirs & !host_mask && is_one
    }
}

fn bits(ip: IpAddr) -> u32 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// The IP of an address that our transports can dial as it is. IPv6 link-local addresses are none: they want a
/// zone, and no announcement can name ours.
pub(super) fn dialable_ip(addr: &Multiaddr) -> Option<IpAddr> {
    let endpoint = Endpoint::from_tcp(addr);
    #[cfg(feature = "quic")]
    let endpoint = endpoint.or_else(|| Endpoint::from_quic(addr));
    endpoint.filter(|endpoint| endpoint.zone.is_none() && endpoint.is_dialable()).map(|endpoint| endpoint.ip)
}

/// The IP of an address that we listen at, whatever stands behind it.
pub(super) fn listening_ip(addr: &Multiaddr) -> Option<IpAddr> {
    match addr.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(ip: &str, prefix: u8) -> Subnet {
        Subnet { ip: ip.parse().expect("an address"), prefix }
    }

    fn contains(subnet: Subnet, ip: &str) -> bool {
        subnet.contains(ip.parse().expect("an address"))
    }

    #[test]
    fn neighbours_are_told_from_others() {
        let four = subnet("192.0.2.130", 25);
        for (ip, is_in) in [
            ("192.0.2.129", true),
            ("192.0.2.130", true),
            ("192.0.2.254", true),
            ("192.0.2.128", false),
            ("192.0.2.255", false),
            ("192.0.2.1", false),
            ("198.51.100.129", false),
            ("::ffff:192.0.2.129", false),
        ] {
            assert_eq!(contains(four, ip), is_in, "{ip}");
        }
        let six = subnet("2001:db8::1", 64);
        assert!(contains(six, "2001:db8::ffff:ffff:ffff:ffff") && contains(six, "2001:db8::2"));
        assert!(!contains(six, "2001:db8:0:1::2") && !contains(six, "2001:db8::"));
        assert!(contains(subnet("10.0.0.1", 0), "192.0.2.1"), "who says so is on a network with everybody");
        assert!(
            !contains(subnet("10.0.0.1", 32), "10.0.0.2") && !contains(subnet("10.0.0.1", 255), "10.0.0.2")
        );
    }

    #[test]
    fn some_networks_have_nobody_else() {
        for (ip, prefix, has) in [
            ("192.0.2.1", 24, true),
            ("169.254.3.4", 16, true),
            ("192.0.2.1", 30, true),
            ("192.0.2.1", 32, false),
            ("127.0.0.1", 8, false),
            ("::1", 128, false),
            ("fe80::1", 64, false),
            ("fd00::1", 64, true),
            ("fd00::1", 128, false),
        ] {
            assert_eq!(subnet(ip, prefix).has_others(), has, "{ip}/{prefix}");
        }
    }

    #[test]
    fn only_what_can_be_dialled_is_an_address() {
        for (addr, is) in [
            ("/ip4/192.0.2.1/tcp/1", true),
            ("/ip4/192.0.2.1/tcp/0", false),
            ("/ip4/0.0.0.0/tcp/1", false),
            ("/ip4/192.0.2.1/tcp/1/ws", false),
            ("/ip4/192.0.2.1/udp/1/quic-v1", cfg!(feature = "quic")),
            ("/ip4/192.0.2.1/udp/1/quic-v1/webtransport", false),
            ("/dns4/localhost/tcp/1", false),
            ("/ip6/fe80::1/tcp/1", false),
            ("/ip6zone/lo/ip6/fe80::1/tcp/1", false),
            ("/ip6/2001:db8::1/tcp/1", true),
        ] {
            assert_eq!(dialable_ip(&addr.parse().expect("a multiaddr")).is_some(), is, "{addr}");
        }
    }
}
