//! The addresses of this machine as the kernel tells them: route netlink, RTM_GETADDR and its multicast groups
//! (netlink(7), rtnetlink(7)).
//!
//! The crate if-watch knows a type for everything that netlink can say, which was 160 kB of an armv7 binary of
//! 1,385. It also takes the far end of a point-to-point link, such as PPPoE, for an address of this machine.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_io::{Async, ReadableOwned};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType, bind,
        netlink::SocketAddrNetlink, recvfrom, sendto, socket_with, sockopt,
    },
};

use crate::{limits, transport::readiness::Readiness};

/// What happened to this machine's interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The machine has an address that it did not have, on whichever interface.
    Up(IpAddr),
    /// The last interface that had an address has lost it.
    Down(IpAddr),
    /// One interface has an address. Comes before [`Event::Up`].
    Assigned(Assignment),
    /// One interface has lost an address.
    Removed(Assignment),
    /// The interface of this number is connected to something, again or for the first time. Only with
    /// [`Watch::with_links`], and once too often for what was so from the beginning.
    LinkUp(u32),
}

/// An address on an interface. One address may be there on several interfaces, or with several lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Assignment {
    pub(crate) ip: IpAddr,
    /// The interface's number.
    pub(crate) index: u32,
    /// Bits of the network's prefix; all of them on a point-to-point link.
    pub(crate) prefix: u8,
}

/// Follows the addresses of this machine: first those there are, then what changes.
pub(crate) struct Watch {
    socket: Arc<Async<OwnedFd>>,
    /// There was nothing to read: done when there may be.
    empty: Option<Readiness<ReadableOwned<OwnedFd>>>,
    buffer: Box<[u8]>,
    addresses: Addresses,
}

impl Watch {
    /// Follows addresses.
    pub(crate) fn new() -> io::Result<Self> {
        Self::follow(RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR)
    }

    /// Follows addresses and what they hang on: an address may outlive the cable.
    #[cfg(feature = "mdns")]
    pub(crate) fn with_links() -> io::Result<Self> {
        Self::follow(RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_LINK)
    }

    fn follow(groups: u32) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        let watch = Watch {
            socket: Arc::new(Async::new_nonblocking(socket)?),
            empty: None,
            buffer: vec![0; limits::NETLINK_BYTES].into(),
            addresses: Addresses::default(),
        };
        ask_for_all(&*watch.socket)?;
        Ok(watch)
    }

    /// The next event. After an error nothing more comes.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Event>> {
        loop {
            if let Some(event) = self.addresses.events.pop_front() {
                return Poll::Ready(Ok(event));
            }
            if let Some(empty) = &mut self.empty {
                ready!(Pin::new(empty).poll(cx))?;
                self.empty = None;
            }
            let ask = match recvfrom(&*self.socket, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((len, _, from)) => is_kernel(&from) && self.addresses.read(&self.buffer[..len])?,
                Err(Errno::AGAIN) => {
                    self.empty = Some(Readiness::new(self.socket.clone().readable_owned()));
                    false
                }
                Err(Errno::INTR) => false,
                // There was more to tell than the socket holds.
                Err(Errno::NOBUFS) => self.addresses.missed(),
                Err(error) => return Poll::Ready(Err(error.into())),
            };
            if ask {
                ask_for_all(&*self.socket)?;
            }
        }
    }
}

/// The addresses of this machine, each with its prefix length, as they are now. Asks the kernel and waits for the
/// answer, which takes some microseconds.
///
/// # Errors
/// Those of the socket; `ETIMEDOUT` or `EAGAIN` if the kernel stays silent.
pub fn on_link() -> io::Result<Vec<(IpAddr, u8)>> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(limits::NETLINK_TIMEOUT))?;
    let mut buffer = [0; limits::NETLINK_BYTES];
    let mut addresses = Addresses::default();
    ask_for_all(&socket)?;
    for _ in 0..limits::NETLINK_ANSWERS {
        match recvfrom(&socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((len, _, from)) if is_kernel(&from) => {
                if addresses.read(&buffer[..len])? {
                    ask_for_all(&socket)?;
                }
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if addresses.followed {
            return Ok(addresses
                .known
                .into_iter()
                .map(|Assignment { ip, prefix, .. }| (ip, prefix))
                .collect());
        }
    }
    Err(Errno::TIMEDOUT.into())
}

fn ask_for_all(socket: impl AsFd) -> io::Result<()> {
    ask(socket, RTM_GETADDR)
}

/// Asks for all of a kind: the answer is a list that `NLMSG_DONE` ends.
pub(super) fn ask(socket: impl AsFd, kind: u16) -> io::Result<()> {
    const LEN: u32 = 17 + 3;
    let mut request = [0; LEN as usize];
    request[..4].copy_from_slice(&LEN.to_ne_bytes());
    request[4..6].copy_from_slice(&kind.to_ne_bytes());
    request[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    // What follows is sequence number, port and, as struct rtgenmsg, the family: all zero, for any.
    sendto(socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    Ok(())
}

/// Other programs may write to such a socket too; the kernel is number 0.
pub(super) fn is_kernel(from: &Option<SocketAddrAny>) -> bool {
    let from = from.as_ref().and_then(|from| SocketAddrNetlink::try_from(from.clone()).ok());
    from.is_some_and(|from| from.pid() == 0)
}

// linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h, linux/if.h; the families as in POSIX on Linux.
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
pub(super) const NLMSG_OVERRUN: u16 = 4;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const NLM_F_REQUEST: u16 = 0x001;
pub(super) const NLM_F_DUMP_INTR: u16 = 0x010;
const NLM_F_DUMP: u16 = 0x300;
#[cfg(feature = "mdns")]
const RTMGRP_LINK: u32 = 0x001;
pub(super) const RTMGRP_IPV4_IFADDR: u32 = 0x010;
pub(super) const RTMGRP_IPV6_IFADDR: u32 = 0x100;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFF_UP_AND_RUNNING: u32 = 0x041;
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;

/// What the kernel said so far. Pure: bytes in, events out.
#[derive(Default)]
struct Addresses {
    known: BTreeSet<Assignment>,
    /// While the kernel lists them all: those listed. What is known and not in the list is gone.
    listed: BTreeSet<Assignment>,
    /// The list will be of no use: something was missed while it was made.
    spoilt: bool,
    /// No list is under way.
    followed: bool,
    /// Interfaces known to be connected.
    running: Vec<u32>,
    events: VecDeque<Event>,
}

impl Addresses {
    /// Takes what one `recv` brought. `true`: the kernel is to list all of them again.
    fn read(&mut self, datagram: &[u8]) -> io::Result<bool> {
        let mut ask = false;
        for Message { kind, flags, payload } in messages(datagram) {
            self.spoilt |= flags & NLM_F_DUMP_INTR != 0;
            match kind {
                RTM_NEWADDR => self.entry(payload).into_iter().for_each(|entry| self.add(entry)),
                RTM_DELADDR => self.entry(payload).into_iter().for_each(|entry| self.remove(entry)),
                RTM_NEWLINK | RTM_DELLINK => self.link(kind, payload),
                NLMSG_DONE => ask |= self.listed_all(),
                NLMSG_OVERRUN => ask |= self.missed(),
                NLMSG_ERROR => match payload.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
                    Some(code) if code < 0 => {
                        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                    }
                    _ => {}
                },
                _ => {}
            }
        }
        Ok(ask)
    }

    /// Something was not told. `true`: the kernel is to list all of them again, which it does one at a time.
    fn missed(&mut self) -> bool {
        self.spoilt = !self.followed;
        std::mem::take(&mut self.followed)
    }

    fn listed_all(&mut self) -> bool {
        let listed = std::mem::take(&mut self.listed);
        if std::mem::take(&mut self.spoilt) {
            return true;
        }
        self.followed = true;
        let gone: Vec<Assignment> = self.known.difference(&listed).copied().collect();
        gone.into_iter().for_each(|entry| self.remove(entry));
        false
    }

    fn add(&mut self, entry: Assignment) {
        let is_new = !self.has(entry.ip);
        if !self.followed {
            self.listed.insert(entry);
        }
        if self.known.insert(entry) {
            self.events.push_back(Event::Assigned(entry));
            self.events.extend(is_new.then_some(Event::Up(entry.ip)));
        }
    }

    fn remove(&mut self, entry: Assignment) {
        self.listed.remove(&entry);
        if self.known.remove(&entry) {
            self.events.push_back(Event::Removed(entry));
            self.events.extend((!self.has(entry.ip)).then_some(Event::Down(entry.ip)));
        }
    }

    fn has(&self, ip: IpAddr) -> bool {
        let all = |index, prefix| Assignment { ip, index, prefix };
        self.known.range(all(0, 0)..=all(u32::MAX, u8::MAX)).next().is_some()
    }

    /// A `struct ifinfomsg`. Nobody needs a list of them: who just begins takes all links for connected.
    fn link(&mut self, kind: u16, payload: &[u8]) {
        let Some(&[_, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3]) = payload.first_chunk() else { return };
        let (index, flags) = (u32::from_ne_bytes([i0, i1, i2, i3]), u32::from_ne_bytes([f0, f1, f2, f3]));
        if kind == RTM_DELLINK || flags & IFF_UP_AND_RUNNING != IFF_UP_AND_RUNNING {
            self.running.retain(|running| *running != index);
        } else if !self.running.contains(&index) {
            self.running.push(index);
            self.events.push_back(Event::LinkUp(index));
        }
    }

    /// A `struct ifaddrmsg` and its attributes.
    fn entry(&self, payload: &[u8]) -> Option<Assignment> {
        let (&[family, prefix, _, _, i0, i1, i2, i3], rest) = payload.split_first_chunk()?;
        // On a point-to-point link IFA_ADDRESS is the far end, and only IFA_LOCAL is ours.
        let find = |wanted| attributes(rest).find(|(kind, _)| *kind == wanted).map(|(_, bytes)| bytes);
        let far = find(IFA_ADDRESS);
        let bytes = find(IFA_LOCAL).or(far)?;
        let is_alone = far.is_some_and(|far| far != bytes);
        let ip = match family {
            AF_INET => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
            AF_INET6 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
            _ => return None,
        };
        let prefix = if is_alone { 8 * bytes.len() as u8 } else { prefix };
        Some(Assignment { ip, index: u32::from_ne_bytes([i0, i1, i2, i3]), prefix })
    }
}

pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) payload: &'a [u8],
}

/// The messages in a datagram, as far as they are whole: `struct nlmsghdr` and its payload, aligned to 4 bytes.
pub(super) fn messages(mut rest: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let (&[l0, l1, l2, l3, k0, k1, f0, f1, ..], _) = rest.split_first_chunk::<16>()?;
        let len = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let payload = rest.get(16..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind: u16::from_ne_bytes([k0, k1]), flags: u16::from_ne_bytes([f0, f1]), payload })
    })
}

/// The attributes of a message: `struct rtattr` and its data, aligned to 4 bytes.
pub(super) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (&[l0, l1, k0, k1], _) = rest.split_first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let data = rest.get(4..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]), data))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LAN: [u8; 4] = [192, 0, 2, 1];
    const WAN: [u8; 4] = [198, 51, 100, 7];
    const FAR: [u8; 4] = [203, 0, 113, 9];

    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (16 + payload.len() as u32).to_ne_bytes().to_vec();
        bytes.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
        bytes.extend([0; 8]);
        bytes.extend(payload);
        bytes
    }

    fn address(kind: u16, index: u32, attributes: &[(u16, [u8; 4])]) -> Vec<u8> {
        let mut payload = vec![AF_INET, 24, 0, 0];
        payload.extend(index.to_ne_bytes());
        for (kind, ip) in attributes {
            payload.extend([8u16.to_ne_bytes(), kind.to_ne_bytes()].concat());
            payload.extend(ip);
        }
        message(kind, 0, &payload)
    }

    fn done(flags: u16) -> Vec<u8> {
        message(NLMSG_DONE, flags, &[0; 4])
    }

    /// What `addresses` makes of the messages for the machine as a whole, and whether it wants a new list.
    fn fed(addresses: &mut Addresses, messages: &[Vec<u8>]) -> (Vec<Event>, bool) {
        let ask = addresses.read(&messages.concat()).expect("no error was sent");
        let is_of_all = |event: &Event| matches!(event, Event::Up(_) | Event::Down(_));
        (addresses.events.drain(..).filter(is_of_all).collect(), ask)
    }

    /// What `addresses` makes of the messages for each interface.
    fn fed_for_each(addresses: &mut Addresses, messages: &[Vec<u8>]) -> Vec<Event> {
        addresses.read(&messages.concat()).expect("no error was sent");
        addresses.events.drain(..).filter(|event| !matches!(event, Event::Up(_) | Event::Down(_))).collect()
    }

    fn following(lan: &[u8]) -> Addresses {
        let mut addresses = Addresses::default();
        assert_eq!(fed(&mut addresses, &[lan.to_vec(), done(0)]), (vec![Event::Up(LAN.into())], false));
        addresses
    }

    #[test]
    fn an_address_is_up_until_its_last_interface_loses_it() {
        let [one, two] = [1, 2].map(|index| address(RTM_NEWADDR, index, &[(IFA_ADDRESS, LAN)]));
        let [one_gone, two_gone] = [1, 2].map(|index| address(RTM_DELADDR, index, &[(IFA_ADDRESS, LAN)]));
        let mut addresses = following(&one);
        assert_eq!(fed(&mut addresses, &[one, two]), (vec![], false));
        assert_eq!(fed(&mut addresses, &[one_gone]), (vec![], false));
        assert_eq!(
            fed(&mut addresses, std::slice::from_ref(&two_gone)),
            (vec![Event::Down(LAN.into())], false)
        );
        assert_eq!(fed(&mut addresses, &[two_gone]), (vec![], false));
    }

    #[test]
    fn each_interface_has_its_own_addresses() {
        let assigned = |index, prefix| Assignment { ip: LAN.into(), index, prefix };
        let [one, two] = [1, 2].map(|index| address(RTM_NEWADDR, index, &[(IFA_ADDRESS, LAN)]));
        let gone = address(RTM_DELADDR, 1, &[(IFA_ADDRESS, LAN)]);
        let far = address(RTM_NEWADDR, 3, &[(IFA_ADDRESS, FAR), (IFA_LOCAL, LAN)]);
        let events = fed_for_each(&mut Addresses::default(), &[one, two, gone, far]);
        let [one, two, alone] = [assigned(1, 24), assigned(2, 24), assigned(3, 32)];
        let expected =
            [Event::Assigned(one), Event::Assigned(two), Event::Removed(one), Event::Assigned(alone)];
        assert_eq!(events, expected);
    }

    #[test]
    fn a_link_is_up_when_it_is_connected() {
        let link = |kind, flags: u32| {
            let payload = [&[0; 4][..], &7u32.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 4]].concat();
            message(kind, 0, &payload)
        };
        let [up, running] = [0x1, IFF_UP_AND_RUNNING].map(|flags| link(RTM_NEWLINK, flags));
        let gone = link(RTM_DELLINK, IFF_UP_AND_RUNNING);
        let mut addresses = Addresses::default();
        for (messages, ups) in [
            (vec![up.clone(), running.clone(), running.clone()], 1),
            (vec![up, running.clone()], 1),
            (vec![running.clone()], 0),
            (vec![gone, running], 1),
        ] {
            assert_eq!(fed_for_each(&mut addresses, &messages), vec![Event::LinkUp(7); ups]);
        }
    }

    #[test]
    fn the_far_end_of_a_link_is_not_ours() {
        let link = address(RTM_NEWADDR, 3, &[(IFA_ADDRESS, FAR), (IFA_LOCAL, WAN)]);
        assert_eq!(fed(&mut Addresses::default(), &[link]), (vec![Event::Up(WAN.into())], false));
    }

    #[test]
    fn what_was_missed_is_found_by_a_new_list() {
        let (lan, wan) =
            (address(RTM_NEWADDR, 1, &[(IFA_ADDRESS, LAN)]), address(RTM_NEWADDR, 2, &[(IFA_ADDRESS, WAN)]));
        let mut addresses = following(&lan);
        assert!(addresses.missed(), "a list is wanted");
        assert!(!addresses.missed(), "it is under way");
        assert_eq!(fed(&mut addresses, &[done(0)]), (vec![], true), "and came too early");
        let events = vec![Event::Up(WAN.into()), Event::Down(LAN.into())];
        assert_eq!(fed(&mut addresses, &[wan, done(0)]), (events, false));
    }

    #[test]
    fn a_list_that_changed_while_it_was_made_is_made_again() {
        let lan = address(RTM_NEWADDR, 1, &[(IFA_ADDRESS, LAN)]);
        let mut addresses = Addresses::default();
        assert_eq!(fed(&mut addresses, &[lan, done(NLM_F_DUMP_INTR)]), (vec![Event::Up(LAN.into())], true));
    }

    #[test]
    fn the_addresses_of_this_machine_are_there_at_once() {
        let begun = std::time::Instant::now();
        let addresses = on_link().expect("the kernel answers");
        println!("{} addresses in {:?}", addresses.len(), begun.elapsed());
        // A machine without loopback is one without a network.
        if !addresses.is_empty() {
            assert!(addresses.contains(&([127, 0, 0, 1].into(), 8)), "{addresses:?}");
        }
    }

    #[test]
    fn an_error_is_told() {
        let refused = message(NLMSG_ERROR, 0, &(-1i32).to_ne_bytes());
        let error = Addresses::default().read(&refused).expect_err("EPERM");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(
            Addresses::default().read(&message(NLMSG_ERROR, 0, &[0; 4])).is_ok(),
            "0 is an acknowledgement"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>, cut: prop::sample::Index, flip: prop::sample::Index) {
            let mut addresses = Addresses::default();
            let _ = addresses.read(&bytes);
            let mut real = [address(RTM_NEWADDR, 1, &[(IFA_LOCAL, LAN), (IFA_ADDRESS, FAR)]), done(0)].concat();
            let _ = addresses.read(&real[..cut.index(real.len())]);
            let flip = flip.index(real.len() * 8);
            real[flip / 8] ^= 1 << (flip % 8);
            let _ = addresses.read(&real);
        }
    }
}
