//! Multiaddresses to socket addresses and back, IPv6 zones included.

use std::{
    fmt, io,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
};

use libp2p::{Multiaddr, multiaddr::Protocol};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

/// An IP address and a port, with the name of the link for those addresses that need one.
///
/// The name is looked up as late as possible ([`Endpoint::resolve`]): interfaces come and go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    /// Interface name or index, from `/ip6zone/eth0/ip6/fe80::1`.
    pub(crate) zone: Option<String>,
}

impl Endpoint {
    /// Reads `/ip4/IP/tcp/PORT`, `/ip6/IP/tcp/PORT` or `/ip6zone/LINK/ip6/IP/tcp/PORT`, each with or without
    /// `/p2p/PEER` behind it. `None` for everything else.
    pub(crate) fn from_tcp(addr: &Multiaddr) -> Option<Self> {
        Endpoint::read(addr, |parts| match parts.next()? {
            Protocol::Tcp(port) => Some(port),
            _ => None,
        })
    }

    /// Likewise with `/udp/PORT/quic-v1` in place of `/tcp/PORT`.
    #[cfg(feature = "quic")]
    pub(crate) fn from_quic(addr: &Multiaddr) -> Option<Self> {
        Endpoint::read(addr, |parts| match (parts.next()?, parts.next()?) {
            (Protocol::Udp(port), Protocol::QuicV1) => Some(port),
            _ => None,
        })
    }

    fn read(
        addr: &Multiaddr,
        port: impl FnOnce(&mut dyn Iterator<Item = Protocol<'_>>) -> Option<u16>,
    ) -> Option<Self> {
        let mut parts = addr.iter().peekable();
        let zone = match parts.peek()? {
            Protocol::Ip6zone(zone) => Some(zone.clone().into_owned()),
            _ => None,
        };
        if zone.is_some() {
            parts.next();
        }
        let ip = match parts.next()? {
            Protocol::Ip4(ip) if zone.is_none() => IpAddr::V4(ip),
            Protocol::Ip6(ip) => IpAddr::V6(ip),
            _ => return None,
        };
        let port = port(&mut parts)?;
        parts.all(|part| matches!(part, Protocol::P2p(_))).then_some(Endpoint { ip, port, zone })
    }

    /// Whether a connection to this address can exist at all: a host, a port, and a link where one is needed.
    pub(crate) fn is_dialable(&self) -> bool {
        self.port != 0 && !self.ip.is_unspecified() && (self.zone.is_some() || !needs_zone(self.ip))
    }

    /// The socket address, with the zone's interface index as it is now.
    ///
    /// # Errors
    /// `ENODEV` when there is no interface of that name.
    pub(crate) fn resolve(&self) -> io::Result<SocketAddr> {
        match (self.ip, &self.zone) {
            (IpAddr::V6(ip), Some(zone)) => {
                Ok(SocketAddrV6::new(ip, self.port, 0, interface_index(zone)?).into())
            }
            (ip, _) => Ok(SocketAddr::new(ip, self.port)),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ip, &self.zone) {
            (IpAddr::V6(ip), Some(zone)) => write!(f, "[{ip}%{zone}]:{}", self.port),
            (ip, _) => SocketAddr::new(ip, self.port).fmt(f),
        }
    }
}

/// The multiaddress of a TCP socket address; a zone is written as `/ip6zone`, so that it can be dialled.
pub(crate) fn tcp_multiaddr(addr: SocketAddr) -> Multiaddr {
    ip_multiaddr(addr).with(Protocol::Tcp(addr.port()))
}

/// Likewise of a QUIC address.
#[cfg(feature = "quic")]
pub(crate) fn quic_multiaddr(addr: SocketAddr) -> Multiaddr {
    ip_multiaddr(addr).with(Protocol::Udp(addr.port())).with(Protocol::QuicV1)
}

fn ip_multiaddr(addr: SocketAddr) -> Multiaddr {
    let zone = match addr {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => {
            Multiaddr::empty().with(Protocol::Ip6zone(interface_name(v6.scope_id()).into()))
        }
        _ => Multiaddr::empty(),
    };
    zone.with(addr.ip().into())
}

/// Whether an address means nothing without the name of a link (RFC 4007: IPv6 link-local).
pub(crate) fn needs_zone(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if is_link_local(ip))
}

fn is_link_local(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
}

/// RFC 4007, section 11.2: a zone is a name or a number.
fn interface_index(zone: &str) -> io::Result<u32> {
    match zone.parse() {
        Ok(index) => Ok(index),
        Err(_) => Ok(netdevice::name_to_index(any_socket()?, zone)?),
    }
}

/// The number stands in for a name that cannot be had: the interface may just have gone.
fn interface_name(index: u32) -> String {
    any_socket()
        .and_then(|socket| Ok(netdevice::index_to_name(socket, index)?))
        .unwrap_or_else(|_| index.to_string())
}

/// The interface ioctls want a socket, whichever it is.
fn any_socket() -> io::Result<std::os::fd::OwnedFd> {
    Ok(socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(addr: &str) -> Option<String> {
        Endpoint::from_tcp(&addr.parse().expect("a multiaddr")).map(|endpoint| endpoint.to_string())
    }

    const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    #[test]
    fn tcp_addresses_are_read() {
        assert_eq!(endpoint("/ip4/127.0.0.1/tcp/12345").as_deref(), Some("127.0.0.1:12345"));
        assert_eq!(endpoint("/ip4/255.255.255.255/tcp/0").as_deref(), Some("255.255.255.255:0"));
        assert_eq!(endpoint("/ip6/::1/tcp/1").as_deref(), Some("[::1]:1"));
        assert_eq!(endpoint(&format!("/ip6/::1/tcp/1/p2p/{PEER}")).as_deref(), Some("[::1]:1"));
        assert_eq!(endpoint("/ip6zone/eth0/ip6/fe80::1/tcp/1").as_deref(), Some("[fe80::1%eth0]:1"));
    }

    #[test]
    fn other_addresses_are_not() {
        for addr in [
            "/ip4/127.0.0.1",
            "/ip4/127.0.0.1/udp/1",
            "/ip4/127.0.0.1/tcp/1/tcp/1",
            "/ip4/127.0.0.1/tcp/1/ws",
            "/dns4/localhost/tcp/1",
            "/ip6zone/eth0/ip4/127.0.0.1/tcp/1",
            "/tcp/1",
        ] {
            assert_eq!(endpoint(addr), None, "{addr}");
        }
        assert_eq!(endpoint(&format!("/ip4/127.0.0.1/tcp/1/p2p/{PEER}/p2p-circuit")), None);
    }

    #[test]
    fn an_address_survives_the_way_there_and_back() {
        for addr in ["/ip4/192.0.2.1/tcp/4001", "/ip6/2001:db8::1/tcp/4001", "/ip6zone/lo/ip6/fe80::1/tcp/9"]
        {
            let addr: Multiaddr = addr.parse().expect("a multiaddr");
            let socket = Endpoint::from_tcp(&addr).expect("a TCP address").resolve().expect("lo exists");
            assert_eq!(tcp_multiaddr(socket), addr);
        }
    }

    #[cfg(feature = "quic")]
    #[test]
    fn quic_addresses_are_read_and_written() {
        for addr in [
            "/ip4/192.0.2.1/udp/4001/quic-v1",
            "/ip6/2001:db8::1/udp/4001/quic-v1",
            "/ip6zone/lo/ip6/fe80::1/udp/9/quic-v1",
        ] {
            let addr: Multiaddr = addr.parse().expect("a multiaddr");
            let endpoint = Endpoint::from_quic(&addr).expect("a QUIC address");
            assert_eq!(quic_multiaddr(endpoint.resolve().expect("lo exists")), addr);
            let peer: Multiaddr = format!("{addr}/p2p/{PEER}").parse().expect("a multiaddr");
            assert_eq!(Endpoint::from_quic(&peer), Some(endpoint));
            let relayed: Multiaddr = format!("{peer}/p2p-circuit").parse().expect("a multiaddr");
            assert_eq!(Endpoint::from_quic(&relayed), None);
        }
        for addr in ["/ip4/192.0.2.1/udp/1", "/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/udp/1/quic"] {
            assert_eq!(Endpoint::from_quic(&addr.parse().expect("a multiaddr")), None, "{addr}");
        }
    }

    #[test]
    fn a_zone_is_an_index_or_the_name_of_an_interface() {
        assert_eq!(interface_index("7").expect("a number"), 7);
        assert!(interface_index("no-such-link").is_err());
        assert_eq!(interface_name(u32::MAX), u32::MAX.to_string());
    }
}
