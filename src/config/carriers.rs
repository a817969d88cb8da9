//! What connections are made of, and where they are accepted when nobody says so.

use libp2p::{Multiaddr, multiaddr::Protocol};

use super::ConfigError;
use crate::transport::Carriers;

pub(super) fn carriers(tcp_only: bool, quic_only: bool) -> Result<Carriers, ConfigError> {
    match (tcp_only, quic_only) {
        (false, false) => Ok(Carriers::All),
        (true, false) => Ok(Carriers::Tcp),
        #[cfg(feature = "quic")]
        (false, true) => Ok(Carriers::Quic),
        #[cfg(not(feature = "quic"))]
        (false, true) => Err(ConfigError::NoQuic),
        (true, true) => Err(ConfigError::Conflict("tcp-only", "quic-only")),
    }
}

/// All interfaces. Without a port the system picks a free one per family and carrier.
pub(super) fn everywhere(port: u16, udp_port: Option<u16>, ipv6: bool, carriers: Carriers) -> Vec<Multiaddr> {
    let v4 = Multiaddr::empty().with(Protocol::Ip4([0, 0, 0, 0].into()));
    let v6 = Multiaddr::empty().with(Protocol::Ip6([0u16; 8].into()));
    let mut addrs = Vec::new();
    for ip in if ipv6 { vec![v4, v6] } else { vec![v4] } {
        if carriers.has_tcp() {
            addrs.push(ip.clone().with(Protocol::Tcp(port)));
        }
        if carriers.has_quic() {
            addrs.push(ip.with(Protocol::Udp(udp_port.unwrap_or(port))).with(Protocol::QuicV1));
        }
    }
    addrs
}
