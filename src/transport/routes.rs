//! The gateways of this machine as the kernel tells them: route netlink, RTM_GETROUTE (rtnetlink(7)).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::OwnedFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_io::{Async, ReadableOwned};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink, recvfrom,
        socket_with, sockopt,
    },
};

use super::netlink::{
    AF_INET, AF_INET6, Message, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV6_IFADDR, ask, attributes, is_kernel, messages,
};
use crate::limits;

/// Where packets go that have no better route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gateway {
    pub(crate) ip: IpAddr,
    /// The number of the interface that it is behind.
    pub(crate) interface: u32,
}

/// The default gateways of IPv4 and of IPv6: those of the best default route in the main table. Asks the kernel
/// and waits for the answer, which takes some microseconds.
///
/// A best route without a gateway, as PPPoE has, means none for its family.
///
/// # Errors
/// Those of the socket; `ETIMEDOUT` or `EAGAIN` if the kernel stays silent, or has more routes than a home.
pub(crate) fn gateways() -> io::Result<[Option<Gateway>; 2]> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(limits::NETLINK_TIMEOUT))?;
    let mut buffer = [0; limits::NETLINK_BYTES];
    let mut best = Best::default();
    ask(&socket, RTM_GETROUTE)?;
    for _ in 0..limits::NETLINK_ANSWERS {
        match recvfrom(&socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((len, _, from)) if is_kernel(&from) => match best.read(&buffer[..len])? {
                Progress::More => {}
                Progress::Spoilt => {
                    best = Best::default();
                    ask(&socket, RTM_GETROUTE)?;
                }
                Progress::Done => return Ok([best.v4, best.v6].map(|route| route.and_then(|r| r.gateway))),
            },
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::TIMEDOUT.into())
}

/// Tells that addresses or routes of this machine have changed, not which.
pub(crate) struct Changes {
    socket: Arc<Async<OwnedFd>>,
    /// There was nothing to read: done when there may be.
    empty: Option<ReadableOwned<OwnedFd>>,
}

impl Changes {
    pub(crate) fn new() -> io::Result<Self> {
        const GROUPS: u32 = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self { socket: Arc::new(Async::new_nonblocking(socket)?), empty: None })
    }

    /// Ready after something has changed. After an error nothing more comes.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is told does not matter: a message that is too long for this is cut.
        let mut buffer = [0; 16];
        loop {
            if let Some(empty) = &mut self.empty {
                ready!(Pin::new(empty).poll(cx))?;
                self.empty = None;
            }
            match recvfrom(&*self.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((_, _, from)) if is_kernel(&from) => return Poll::Ready(Ok(())),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::NOBUFS) => return Poll::Ready(Ok(())),
                Err(Errno::AGAIN) => self.empty = Some(self.socket.clone().readable_owned()),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

// linux/rtnetlink.h.
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTMGRP_IPV4_ROUTE: u32 = 0x040;
const RTMGRP_IPV6_ROUTE: u32 = 0x400;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RT_TABLE_MAIN: u8 = 254;
const RTN_UNICAST: u8 = 1;
const RTM_F_CLONED: u32 = 0x200;

#[derive(Clone, Copy)]
struct Route {
    metric: u32,
    gateway: Option<Gateway>,
}

/// The best default routes so far. Pure: bytes in.
#[derive(Default)]
struct Best {
    v4: Option<Route>,
    v6: Option<Route>,
}

#[derive(Debug, PartialEq, Eq)]
enum Progress {
    More,
    /// The routes changed while they were listed.
    Spoilt,
    Done,
}

impl Best {
    fn read(&mut self, datagram: &[u8]) -> io::Result<Progress> {
        for Message { kind, flags, payload } in messages(datagram) {
            if flags & NLM_F_DUMP_INTR != 0 {
                return Ok(Progress::Spoilt);
            }
            match kind {
                RTM_NEWROUTE => self.route(payload),
                NLMSG_DONE => return Ok(Progress::Done),
                NLMSG_ERROR => {
                    let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                    return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                }
                _ => {}
            }
        }
        Ok(Progress::More)
    }

    /// A `struct rtmsg` and its attributes.
    fn route(&mut self, payload: &[u8]) {
        let Some((&[family, to_len, from_len, _, table, _, _, kind, f0, f1, f2, f3], rest)) =
            payload.split_first_chunk()
        else {
            return;
        };
        let cloned = u32::from_ne_bytes([f0, f1, f2, f3]) & RTM_F_CLONED != 0;
        let is_default = to_len == 0 && from_len == 0 && table == RT_TABLE_MAIN && kind == RTN_UNICAST;
        let best = match family {
            AF_INET => &mut self.v4,
            AF_INET6 => &mut self.v6,
            _ => return,
        };
        if !is_default || cloned {
            return;
        }
        let find = |wanted| attributes(rest).find(|(kind, _)| *kind == wanted).map(|(_, data)| data);
        let metric = find(RTA_PRIORITY).and_then(number).unwrap_or(0);
        let interface = find(RTA_OIF).and_then(number);
        let hop = find(RTA_GATEWAY).and_then(address).zip(interface);
        let hop = hop.or_else(|| first_hop(find(RTA_MULTIPATH)?));
        if best.is_none_or(|best| metric < best.metric) {
            *best = Some(Route { metric, gateway: hop.map(|(ip, interface)| Gateway { ip, interface }) });
        }
    }
}

/// The first of several ways: `struct rtnexthop` and its attributes.
fn first_hop(data: &[u8]) -> Option<(IpAddr, u32)> {
    let (&[l0, l1, _, _, i0, i1, i2, i3], _) = data.split_first_chunk()?;
    let inside = data.get(8..usize::from(u16::from_ne_bytes([l0, l1])))?;
    let (_, ip) = attributes(inside).find(|(kind, _)| *kind == RTA_GATEWAY)?;
    Some((address(ip)?, u32::from_ne_bytes([i0, i1, i2, i3])))
}

fn number(data: &[u8]) -> Option<u32> {
    data.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn address(data: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(data).map(Ipv4Addr::from).map(IpAddr::from).ok();
    let v6 = || <[u8; 16]>::try_from(data).map(Ipv6Addr::from).map(IpAddr::from).ok();
    v4().or_else(v6).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attribute(kind: u16, data: &[u8]) -> Vec<u8> {
        let mut bytes = (4 + data.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (16 + payload.len() as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(payload);
        bytes
    }

    /// A route to a network of so many bits, in a table.
    fn route(len: u8, table: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut payload = vec![AF_INET, len, 0, 0, table, 0, 0, RTN_UNICAST, 0, 0, 0, 0];
        payload.extend(attributes.concat());
        message(RTM_NEWROUTE, &payload)
    }

    fn via(last: u8, metric: u32) -> Vec<Vec<u8>> {
        vec![
            attribute(RTA_OIF, &3u32.to_ne_bytes()),
            attribute(RTA_GATEWAY, &[192, 0, 2, last]),
            attribute(RTA_PRIORITY, &metric.to_ne_bytes()),
        ]
    }

    fn best(routes: &[Vec<u8>]) -> Option<Gateway> {
        let mut best = Best::default();
        let all = [routes.concat(), message(NLMSG_DONE, &[0; 4])].concat();
        assert_eq!(best.read(&all).expect("no error"), Progress::Done);
        best.v4.and_then(|route| route.gateway)
    }

    fn gateway(last: u8) -> Option<Gateway> {
        Some(Gateway { ip: [192, 0, 2, last].into(), interface: 3 })
    }

    #[test]
    fn the_default_route_of_the_least_metric_counts() {
        let [near, far] = [via(1, 100), via(2, 600)];
        assert_eq!(best(&[route(0, 254, &far), route(0, 254, &near)]), gateway(1));
        assert_eq!(best(&[route(24, 254, &near), route(0, 254, &far)]), gateway(2), "a part of the world");
        assert_eq!(best(&[route(0, 100, &near)]), None, "another table");
    }

    #[test]
    fn a_route_without_a_gateway_hides_worse_ones() {
        let direct = vec![attribute(RTA_OIF, &7u32.to_ne_bytes())];
        assert_eq!(best(&[route(0, 254, &via(1, 100)), route(0, 254, &direct)]), None);
    }

    #[test]
    fn of_several_ways_the_first_is_taken() {
        let mut hop = vec![16, 0, 0, 0];
        hop[..2].copy_from_slice(&16u16.to_ne_bytes());
        hop.extend(3u32.to_ne_bytes());
        hop.extend(attribute(RTA_GATEWAY, &[192, 0, 2, 9]));
        assert_eq!(best(&[route(0, 254, &[attribute(RTA_MULTIPATH, &hop)])]), gateway(9));
    }

    #[test]
    fn the_kernel_answers() {
        println!("{:?}", gateways().expect("netlink"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>, cut: prop::sample::Index, flip: prop::sample::Index) {
            let _ = Best::default().read(&bytes);
            let mut real = route(0, 254, &[via(1, 5), vec![attribute(RTA_MULTIPATH, &bytes)]].concat());
            let _ = Best::default().read(&real[..cut.index(real.len())]);
            let flip = flip.index(real.len() * 8);
            real[flip / 8] ^= 1 << (flip % 8);
            let _ = Best::default().read(&real);
        }
    }
}
