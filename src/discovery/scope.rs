//! Which addresses that others told us may be dialled at all.
//!
//! Whoever can make a node dial what he likes can make it knock at doors inside its home, and at other people's.
//! So an address that we were told must be one that means the same to everybody (a public one), or lie in a
//! network that this machine is in, or that the operator named with `--lan`.

#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

/// A network: an address and how many of its leading bits count, such as `10.1.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// The bits that do not count are zero.
    ip: IpAddr,
    len: u8,
}

/// What is wrong with the text of a [`Prefix`].
#[derive(Debug, thiserror::Error)]
pub enum PrefixError {
    #[error("'{0}' is no network; write an address and a length, such as 10.1.0.0/16 or fd00:1::/48")]
    Form(String),
    #[error("'{text}' has a length of more than {most} bits")]
    Length { text: String, most: u8 },
    #[error("'{text}' has bits set behind its length; the network is {network}")]
    HostBits { text: String, network: Prefix },
}

/// The networks that this machine is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Of our interfaces, and those given with `--lan`.
    prefixes: Vec<Prefix>,
    /// Nobody else can reach us, so only addresses of this machine make sense, and they are no secret.
    is_loopback: bool,
}

/// What kind of address it is, as far as dialling goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The same machine for everybody.
    Public,
    /// Another machine in every network.
    Local,
    Loopback,
    /// No machine's.
    Nobody,
}

impl Prefix {
    /// The network of `len` bits that `ip` is in. A length beyond the address means all of it.
    pub fn of(ip: IpAddr, len: u8) -> Self {
        match ip {
            IpAddr::V4(ip) => {
                let len = len.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
                Self { ip: Ipv4Addr::from_bits(ip.to_bits() & mask).into(), len }
            }
            IpAddr::V6(ip) => {
                let len = len.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
                Self { ip: Ipv6Addr::from_bits(ip.to_bits() & mask).into(), len }
            }
        }
    }

    /// The network that probably has one owner: an IPv4 /24, or an IPv6 /48.
    ///
    /// A /24 is the least that is routed; a /48 is what one site gets (RFC 6177, section 2, and common practice).
    pub fn of_owner(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        Self::of(ip, if ip.is_ipv4() { 24 } else { 48 })
    }

    /// The network that is probably one home or machine: an IPv4 address, or an IPv6 /64.
    pub fn of_host(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        Self::of(ip, if ip.is_ipv4() { 32 } else { 64 })
    }

    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.ip.is_ipv4() && Self::of(ip, self.len) == *self
    }

    /// Whether `ip` is the network itself or the broadcast address of it, which no machine has. Only networks
    /// of more than two IPv4 addresses have such (RFC 3021).
    fn is_its_end(&self, ip: IpAddr) -> bool {
        match (self.ip, ip) {
            (IpAddr::V4(first), IpAddr::V4(ip)) if self.len < 31 => {
                let hosts = u32::MAX >> self.len;
                ip == first || ip.to_bits() == first.to_bits() | hosts
            }
            _ => false,
        }
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// Reads `10.1.0.0/16`. An address without a length is that address alone.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let form = || PrefixError::Form(text.into());
        let (ip, len) = match text.split_once('/') {
            Some((ip, len)) => (ip, Some(len.parse::<u8>().map_err(|_| form())?)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| form())?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let len = len.unwrap_or(most);
        if len > most {
            return Err(PrefixError::Length { text: text.into(), most });
        }
        let network = Self::of(ip, len);
        match network.ip == ip {
            true => Ok(network),
            false => Err(PrefixError::HostBits { text: text.into(), network }),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.len)
    }
}

impl Networks {
    /// `on_link`: the addresses of this machine with their prefix lengths, only those that the node listens on.
    /// `lan`: networks that the operator says are ours too.
    ///
    /// Without any address nothing but public addresses may be dialled. When all are loopback addresses, so may
    /// those of this machine: it is a test, or a node that talks to its neighbour on the same machine only.
    pub fn new(on_link: impl IntoIterator<Item = (IpAddr, u8)>, lan: &[Prefix]) -> Self {
        let on_link: Vec<_> = on_link.into_iter().map(|(ip, len)| (ip.to_canonical(), len)).collect();
        let is_loopback = !on_link.is_empty() && on_link.iter().all(|(ip, _)| ip.is_loopback());
        // An interface that claims to be in the same network as everybody says nothing.
        let of_links = on_link.into_iter().filter(|(ip, len)| !ip.is_loopback() && *len > 0);
        let mut prefixes: Vec<_> =
            of_links.map(|(ip, len)| Prefix::of(ip, len)).chain(lan.iter().copied()).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        Self { prefixes, is_loopback }
    }

    /// Whether an address that somebody told us may be dialled.
    ///
    /// It is for transports that we have: `/ip/tcp` or `/ip/udp/quic-v1`, with or without `/p2p` behind it. An
    /// address through a relay (`.../p2p/RELAY/p2p-circuit`) is judged by that of the relay; whether there is a
    /// transport for it is another question. Names are never dialled: looking one up talks to its owner.
    pub fn may_dial(&self, addr: &Multiaddr) -> bool {
        let Some(Shape { ip, zone, .. }) = Shape::read(addr) else { return false };
        // Without its link a link-local IPv6 address cannot be dialled, and with one nothing else makes sense.
        let ip = ip.to_canonical();
        if zone != matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            return false;
        }
        match kind(ip) {
            Kind::Public => !self.prefixes.iter().any(|prefix| prefix.is_its_end(ip)),
            Kind::Local => self.is_ours(ip),
            Kind::Loopback => self.is_loopback,
            Kind::Nobody => false,
        }
    }

    /// Whether a machine is in one of our networks, so that we need no protection from who else owns such: it is
    /// this machine, or has an address that is not public and belongs to a network of ours.
    pub fn is_neighbour(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        match kind(ip) {
            Kind::Loopback => true,
            Kind::Local => self.is_ours(ip),
            Kind::Public | Kind::Nobody => false,
        }
    }

    /// Whether a machine is this one or in a network of ours, public or not.
    pub fn is_on_link(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_loopback() || self.prefixes.iter().any(|prefix| prefix.contains(ip))
    }

    fn is_ours(&self, ip: IpAddr) -> bool {
        self.prefixes.iter().any(|prefix| prefix.contains(ip))
            && !self.prefixes.iter().any(|prefix| prefix.is_its_end(ip))
    }
}

/// Whether we have a transport for an address, judging by its form: what [`Networks::may_dial`] demands of it,
/// without regard to whose it is.
pub fn is_transport_address(addr: &Multiaddr) -> bool {
    Shape::read(addr).is_some_and(|shape| kind(shape.ip.to_canonical()) != Kind::Nobody)
}

/// Whether an address is one machine's for everybody.
pub fn is_public(ip: IpAddr) -> bool {
    kind(ip.to_canonical()) == Kind::Public
}

/// Whether an address means another machine in every network: private ones (RFC 1918), those of carriers (RFC 6598)
/// and links.
pub fn is_local(ip: IpAddr) -> bool {
    kind(ip.to_canonical()) == Kind::Local
}

/// The machine that an address leads to. `None` for names, and for addresses through a relay: they say nothing
/// of where the peer is.
pub fn ip_of(addr: &Multiaddr) -> Option<IpAddr> {
    let mut parts = addr.iter();
    let ip = match (parts.next()?, parts.next()) {
        (Protocol::Ip4(ip), _) => ip.into(),
        (Protocol::Ip6(ip), _) | (Protocol::Ip6zone(_), Some(Protocol::Ip6(ip))) => ip.into(),
        _ => return None,
    };
    (!is_circuit(addr)).then_some(IpAddr::to_canonical(&ip))
}

/// Whether an address goes through a relay.
pub fn is_circuit(addr: &Multiaddr) -> bool {
    addr.iter().any(|part| part == Protocol::P2pCircuit)
}

/// Whether an address is one of QUIC.
pub fn is_quic(addr: &Multiaddr) -> bool {
    addr.iter().any(|part| part == Protocol::QuicV1)
}

/// The relay that an address leads through, if it does.
pub fn relay_of(addr: &Multiaddr) -> Option<PeerId> {
    let mut parts = addr.iter().take_while(|part| *part != Protocol::P2pCircuit);
    let relay = parts.find_map(|part| match part {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    });
    relay.filter(|_| is_circuit(addr))
}

/// What an address of a transport of ours consists of.
struct Shape {
    ip: IpAddr,
    zone: bool,
}

impl Shape {
    fn read(addr: &Multiaddr) -> Option<Self> {
        let mut parts = addr.iter().peekable();
        let zone = matches!(parts.peek()?, Protocol::Ip6zone(_));
        if zone {
            parts.next();
        }
        let ip = match parts.next()? {
            Protocol::Ip4(ip) if !zone => IpAddr::V4(ip),
            Protocol::Ip6(ip) => IpAddr::V6(ip),
            _ => return None,
        };
        let port = match parts.next()? {
            Protocol::Tcp(port) => port,
            Protocol::Udp(port) if parts.next() == Some(Protocol::QuicV1) => port,
            _ => return None,
        };
        let is_whole = match [parts.next(), parts.next(), parts.next(), parts.next()] {
            [None | Some(Protocol::P2p(_)), None, ..] => true,
            // A relay must be named.
            [Some(Protocol::P2p(_)), Some(Protocol::P2pCircuit), None | Some(Protocol::P2p(_)), None] => true,
            _ => false,
        };
        (is_whole && port != 0).then_some(Self { ip, zone })
    }
}

fn kind(ip: IpAddr) -> Kind {
    match ip {
        IpAddr::V4(ip) => kind_v4(ip),
        IpAddr::V6(ip) => kind_v6(ip),
    }
}

/// The IANA registry of special addresses (RFC 6890). The documentation networks (RFC 5737) count as public:
/// nobody has them, and labs are built of them.
fn kind_v4(ip: Ipv4Addr) -> Kind {
    match ip.octets() {
        [0 | 224..=255, ..] => Kind::Nobody,
        [127, ..] => Kind::Loopback,
        // RFC 1918, RFC 6598 (CGNAT), RFC 3927 (link-local).
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] | [169, 254, ..] => Kind::Local,
        // RFC 6890 (protocol assignments), RFC 2544 (measurements).
        [192, 0, 0, _] | [198, 18 | 19, ..] => Kind::Local,
        _ => Kind::Public,
    }
}

/// Likewise; all that is not handed out for the Internet (2000::/3) is local to somebody or to nobody.
fn kind_v6(ip: Ipv6Addr) -> Kind {
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        // A translator or tunnel must not lead to where the IPv4 address itself does not.
        match kind_v4(Ipv4Addr::new(a, b, c, d)) {
            Kind::Public => Kind::Public,
            _ => Kind::Nobody,
        }
    };
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Loopback,
        // Unspecified, IPv4-compatible (RFC 4291, section 2.5.5.1) and multicast; mapped ones are IPv4 by now.
        [0, 0, 0, 0, 0, ..] | [0xff00..=0xffff, ..] => Kind::Nobody,
        // RFC 6052 (NAT64), RFC 3056 (6to4).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        [0x2000..=0x3fff, ..] => Kind::Public,
        _ => Kind::Local,
    }
}
