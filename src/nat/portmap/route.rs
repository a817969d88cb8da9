//! The way to the Internet: the gateway of each family and our address towards it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
};

use super::{Report, pcp};
use crate::{
    discovery::scope,
    transport::routes::{Gateway, gateways},
};

/// In one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) is_ipv6: bool,
    /// Where PCP is spoken, with the link where the address needs one.
    pub(super) gateway: Option<SocketAddr>,
    /// The address that we have for the Internet.
    pub(super) own: Option<IpAddr>,
}

/// Those of IPv4 and of IPv6, as they are now.
///
/// # Errors
/// Those of the kernel, see [`gateways`].
pub(super) fn routes() -> io::Result<[Route; 2]> {
    let [v4, v6] = gateways()?;
    Ok([Route::new(false, v4), Route::new(true, v6)])
}

impl Route {
    fn new(is_ipv6: bool, gateway: Option<Gateway>) -> Self {
        let gateway = gateway.map(|Gateway { ip, interface }| match ip {
            IpAddr::V4(ip) => (ip, pcp::PORT).into(),
            IpAddr::V6(ip) if ip.is_unicast_link_local() => {
                SocketAddrV6::new(ip, pcp::PORT, 0, interface).into()
            }
            IpAddr::V6(ip) => (ip, pcp::PORT).into(),
        });
        // An IPv6 gateway is on the link, where we have another address than in the Internet.
        let towards = gateway.filter(|_| !is_ipv6).unwrap_or(match is_ipv6 {
            false => (Ipv4Addr::new(192, 0, 2, 1), pcp::PORT).into(),
            true => (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), pcp::PORT).into(),
        });
        Self { is_ipv6, gateway, own: source(towards).ok() }
    }

    /// The gateway and our own address, if there is something to ask for.
    pub(super) fn needed(&self) -> Option<(SocketAddr, IpAddr)> {
        let own = self.own.filter(|own| scope::is_public(*own) == self.is_ipv6)?;
        Some((self.gateway?, own))
    }

    /// What there is to say where nothing can be asked for.
    pub(super) fn report(&self) -> Report {
        let is_public = self.own.is_some_and(scope::is_public);
        Report {
            gateway: self.gateway.map(|gateway| gateway.ip()),
            own: self.own,
            not_needed: self.gateway.is_none() || is_public && !self.is_ipv6,
            ..Report::new(self.is_ipv6)
        }
    }
}

/// The address that the kernel would send from. Nothing is sent.
fn source(towards: SocketAddr) -> io::Result<IpAddr> {
    let any: SocketAddr = (pcp::any(towards.ip()), 0).into();
    let socket = UdpSocket::bind(any)?;
    socket.connect(towards)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(gateway: Option<[u8; 4]>, own: [u8; 4]) -> Route {
        let gateway = gateway.map(|ip| (ip, pcp::PORT).into());
        Route { is_ipv6: false, gateway, own: Some(own.into()) }
    }

    #[test]
    fn who_has_a_public_address_or_no_gateway_needs_nothing() {
        let home = route(Some([192, 168, 1, 1]), [192, 168, 1, 2]);
        assert!(home.needed().is_some() && !home.report().not_needed);
        for router in [route(Some([198, 51, 100, 1]), [198, 51, 100, 7]), route(None, [198, 51, 100, 7])] {
            assert!(router.needed().is_none() && router.report().not_needed);
        }
        let carrier = route(Some([100, 64, 0, 1]), [100, 64, 0, 9]);
        assert!(carrier.needed().is_some(), "a carrier's NAT may speak PCP");
    }

    #[test]
    fn a_public_ipv6_address_is_what_a_firewall_is_opened_for() {
        let link = SocketAddrV6::new("fe80::1".parse().expect("an address"), pcp::PORT, 0, 3).into();
        let own: IpAddr = "2001:db8::2".parse().expect("an address");
        let public = Route { is_ipv6: true, gateway: Some(link), own: Some(own) };
        assert_eq!(public.needed(), Some((link, own)));
        assert!(!public.report().not_needed);
        let local = Route { own: "fd00::2".parse().ok(), ..public };
        assert_eq!(local.needed(), None, "nobody outside would find it");
    }

    #[test]
    fn this_machine_has_routes_or_none() {
        println!("{:?}", routes().expect("netlink"));
    }
}
