//! Answers binding requests: tells others how we see them (RFC 8489), and, with a second IP address or port, from
//! elsewhere too, so that they learn how their NAT behaves (RFC 5780).
//!
//! It is no good to those who want to hurt a third party:
//! - An answer is at most 2.1 times as long as the request, headers of IP and UDP included (an IPv6 answer to the
//!   shortest request; an IPv4 one is 1.75 times). Answers to warren's own requests: 2 times.
//! - Answers are rationed, for each network of one owner and for all together ([`limits`]).
//! - Only requests are answered, so that two servers never talk to each other.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use super::{
    Change,
    message::{self, Class, Success},
    rate::Allowances,
};
use crate::limits;

/// A socket that receives requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Where it is bound; the IP may be a wildcard.
    pub bound: SocketAddr,
    /// How others reach it. Unknown for a wildcard, unless somebody says it. Without it the socket does not take part
    /// in behaviour discovery.
    pub seen: Option<SocketAddr>,
}

impl Socket {
    /// A socket that is seen as it is bound, unless that is a wildcard.
    pub fn bound(bound: SocketAddr) -> Self {
        Socket { bound, seen: Some(bound).filter(|addr| !addr.ip().is_unspecified()) }
    }
}

/// An answer: to be sent from the socket that is bound at `from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

/// What became of datagrams. Each wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub answered: u32,
    /// Error 420.
    pub refused: u32,
    /// Too many.
    pub rationed: u32,
    /// No request, not readable, or from an address that nobody has.
    pub ignored: u32,
}

/// Where to count.
type Counter = fn(&mut Counters) -> &mut u32;

/// The server. See the [module](self).
#[derive(Debug)]
pub struct Server {
    sockets: Vec<Socket>,
    allowances: Allowances,
    counters: Counters,
}

/// The attribute of that number, to name it as not understood.
const CHANGE_REQUEST: u16 = 0x0003;

impl Server {
    pub fn new(now: Instant) -> Self {
        Server { sockets: Vec::new(), allowances: Allowances::new(now), counters: Counters::default() }
    }

    /// Says which sockets there are, of both families. Behaviour discovery works best with four in each: two IP
    /// addresses with the same two ports.
    pub fn set_sockets(&mut self, sockets: impl IntoIterator<Item = Socket>) {
        self.sockets = sockets.into_iter().take(limits::STUN_SOCKETS).collect();
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes a datagram that came to the socket bound at `to`.
    pub fn handle(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8], now: Instant) -> Option<Reply> {
        let (reply, is_refusal) = match self.answer(from, to, bytes, now) {
            Ok(answer) => answer,
            Err(counter) => {
                let counter = counter(&mut self.counters);
                *counter = counter.wrapping_add(1);
                return None;
            }
        };
        let Counters { answered, refused, .. } = &mut self.counters;
        let counter = if is_refusal { refused } else { answered };
        *counter = counter.wrapping_add(1);
        Some(reply)
    }

    /// The answer and whether it is an error; or what to count.
    fn answer(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
        now: Instant,
    ) -> Result<(Reply, bool), Counter> {
        let ignored: Counter = |counters| &mut counters.ignored;
        if message::is_response(bytes) || !can_be_answered(from) {
            return Err(ignored);
        }
        let request = message::read(bytes).map_err(|_| ignored)?;
        if request.class != Class::Request || !request.is_binding {
            return Err(ignored);
        }
        let socket = self.sockets.iter().find(|socket| socket.bound == to).copied();
        let socket = socket.unwrap_or(Socket { bound: to, seen: None });
        let change = request.change.unwrap_or_default();
        let mut unknown = request.unknown;
        let source = self.moved(socket, change);
        if source.is_none() {
            // RFC 5780, section 6.1: without another address the attribute is one that we do not understand.
            unknown.truncate(limits::STUN_UNKNOWN - 1);
            unknown.push(CHANGE_REQUEST);
        }
        let is_refusal = !unknown.is_empty();
        let (from_socket, bytes) = match source.filter(|_| !is_refusal) {
            Some(source) => {
                let success = Success {
                    id: request.id,
                    mapped: from,
                    origin: source.seen,
                    other: self.other(socket),
                    fingerprint: request.has_fingerprint,
                };
                (source.bound, message::success(&success))
            }
            None => (to, message::unknown_attributes(request.id, &unknown, request.has_fingerprint)),
        };
        let bytes = bytes.filter(|bytes| bytes.len() <= limits::STUN_ANSWER_BYTES).ok_or(ignored)?;
        if !self.allowances.take(from.ip(), now) {
            return Err(|counters| &mut counters.rationed);
        }
        Ok((Reply { from: from_socket, to: from, bytes }, is_refusal))
    }

    /// The socket whose address differs from that of `socket` as wanted, and in nothing else.
    fn moved(&self, socket: Socket, change: Change) -> Option<Socket> {
        if change == Change::default() {
            return Some(socket);
        }
        let here = socket.seen?;
        self.siblings(here).find(|(_, differs)| *differs == change).map(|(other, _)| other)
    }

    /// OTHER-ADDRESS (RFC 5780, section 7.4): differs in both. With two ports of one address, in the port only,
    /// which is of use to a client that knows warren.
    fn other(&self, socket: Socket) -> Option<SocketAddr> {
        let here = socket.seen?;
        let find = |change| self.siblings(here).find(|(_, differs)| *differs == change);
        find(Change::BOTH).or_else(|| find(Change::PORT)).and_then(|(other, _)| other.seen)
    }

    /// The other sockets of a family, and in what their addresses differ.
    fn siblings(&self, here: SocketAddr) -> impl Iterator<Item = (Socket, Change)> {
        self.sockets.iter().filter_map(move |socket| {
            let there = socket.seen.filter(|there| there.is_ipv4() == here.is_ipv4())?;
            Some((*socket, Change { ip: there.ip() != here.ip(), port: there.port() != here.port() }))
        })
    }
}

/// Whether an address can be that of a client. Others are forged, or would have us talk to many at once.
fn can_be_answered(from: SocketAddr) -> bool {
    let ip = from.ip().to_canonical();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    from.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: message::Id = *b"transaction!";

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn server(bound: &[&str], now: Instant) -> Server {
        let mut server = Server::new(now);
        server.set_sockets(bound.iter().map(|text| Socket::bound(addr(text))));
        server
    }

    const FOUR: [&str; 4] = ["198.51.100.10:1", "198.51.100.10:2", "198.51.100.11:1", "198.51.100.11:2"];
    const CLIENT: &str = "203.0.113.5:999";

    fn ask(server: &mut Server, to: &str, change: Option<Change>) -> (SocketAddr, message::Binding) {
        let request = message::request(ID, change).expect("short");
        let reply = server.handle(addr(CLIENT), addr(to), &request, Instant::now()).expect("an answer");
        assert_eq!(reply.to, addr(CLIENT));
        (reply.from, message::read(&reply.bytes).expect("valid"))
    }

    #[test]
    fn a_client_learns_how_it_is_seen() {
        let mut server = server(&FOUR[..1], Instant::now());
        let (from, answer) = ask(&mut server, FOUR[0], None);
        assert_eq!((from, answer.mapped), (addr(FOUR[0]), Some(addr(CLIENT))));
        assert_eq!((answer.class, answer.id, answer.has_fingerprint), (Class::Success, ID, true));
        assert_eq!((answer.origin, answer.other), (Some(addr(FOUR[0])), None));
    }

    #[test]
    fn with_four_sockets_it_answers_from_any() {
        let mut server = server(&FOUR, Instant::now());
        let ip = Change { ip: true, port: false };
        for (change, from) in [(None, 0), (Some(Change::PORT), 1), (Some(ip), 2), (Some(Change::BOTH), 3)] {
            let (source, answer) = ask(&mut server, FOUR[0], change);
            assert_eq!((source, answer.origin), (addr(FOUR[from]), Some(addr(FOUR[from]))), "{change:?}");
            assert_eq!(answer.other, Some(addr(FOUR[3])));
        }
        assert_eq!(ask(&mut server, FOUR[3], Some(Change::BOTH)).0, addr(FOUR[0]));
    }

    #[test]
    fn what_it_cannot_do_it_refuses() {
        for (sockets, change) in
            [(&FOUR[..1], Change::PORT), (&FOUR[..2], Change::BOTH), (&["0.0.0.0:1"][..], Change::PORT)]
        {
            let mut server = server(sockets, Instant::now());
            let (from, answer) = ask(&mut server, sockets[0], Some(change));
            assert_eq!((from, answer.class, answer.error), (addr(sockets[0]), Class::Error, Some(420)));
        }
        let mut server = server(&FOUR, Instant::now());
        let mut request = message::request(ID, None).expect("short");
        request.truncate(20);
        request.extend([0x7f, 0, 0, 0]);
        request[3] = 4;
        let reply = server.handle(addr(CLIENT), addr(FOUR[0]), &request, Instant::now()).expect("an answer");
        let answer = message::read(&reply.bytes).expect("valid");
        assert_eq!((answer.error, answer.has_fingerprint), (Some(420), false));
        assert_eq!(server.counters().refused, 1);
    }

    #[test]
    fn only_requests_are_answered() {
        let now = Instant::now();
        let mut server = server(&FOUR, now);
        let request = message::request(ID, None).expect("short");
        let response = server.handle(addr(CLIENT), addr(FOUR[0]), &request, now).expect("an answer").bytes;
        assert_eq!(server.handle(addr(CLIENT), addr(FOUR[0]), &response, now), None);
        let mut indication = message::request(ID, None).expect("short")[..20].to_vec();
        (indication[1], indication[3]) = (0x11, 0);
        assert_eq!(server.handle(addr(CLIENT), addr(FOUR[0]), &indication, now), None);
        for nobody in ["203.0.113.5:0", "0.0.0.0:9", "224.0.0.1:9", "255.255.255.255:9", "[ff02::1]:9"] {
            assert_eq!(server.handle(addr(nobody), addr(FOUR[0]), &request, now), None, "{nobody}");
        }
        assert_eq!(server.counters().ignored, 7);
    }

    /// Headers of IP and UDP.
    fn headers(addr: SocketAddr) -> usize {
        if addr.is_ipv4() { 28 } else { 48 }
    }

    #[test]
    fn answers_are_little_longer_than_requests() {
        let mut six = server(&["[2001:db8::1]:1", "[2001:db8::2]:2"], Instant::now());
        let mut four = server(&FOUR, Instant::now());
        let request = message::request(ID, None).expect("short");
        let mut shortest = request[..20].to_vec();
        shortest[3] = 0;
        let mut measured = Vec::new();
        for (server, to, client) in
            [(&mut four, FOUR[0], CLIENT), (&mut six, "[2001:db8::1]:1", "[2001:db8:5::5]:9")]
        {
            for request in [&shortest, &request] {
                let reply = server.handle(addr(client), addr(to), request, Instant::now());
                let (reply, headers) = (reply.expect("an answer").bytes, headers(addr(to)));
                let factor = (reply.len() + headers) as f64 / (request.len() + headers) as f64;
                measured.push((factor * 100.0).ceil() as u32);
            }
        }
        assert_eq!(measured, [175, 165, 206, 195]);
    }

    #[test]
    fn answers_are_rationed() {
        let now = Instant::now();
        let mut server = server(&FOUR, now);
        let request = message::request(ID, None).expect("short");
        let flood = 2 * limits::STUN_OWNER_BURST;
        for _ in 0..flood {
            server.handle(addr(CLIENT), addr(FOUR[0]), &request, now);
        }
        let counters = server.counters();
        assert_eq!((counters.answered, counters.rationed), (flood / 2, flood / 2));
        assert!(server.handle(addr("192.0.2.1:9"), addr(FOUR[0]), &request, now).is_some());
    }

    proptest! {
        #[test]
        fn no_request_gets_a_much_longer_answer(
            kinds in proptest::collection::vec((any::<u16>(), proptest::collection::vec(any::<u8>(), 0..9)), 0..20),
        ) {
            let mut request = b"\x00\x01\x00\x00\x21\x12\xa4\x42transaction!".to_vec();
            for (kind, value) in kinds {
                request.extend(kind.to_be_bytes());
                request.extend((value.len() as u16).to_be_bytes());
                request.extend(&value);
                request.resize(request.len().next_multiple_of(4), 0);
            }
            let length = (request.len() - 20) as u16;
            request[2..4].copy_from_slice(&length.to_be_bytes());
            let mut server = server(&FOUR, Instant::now());
            if let Some(reply) = server.handle(addr(CLIENT), addr(FOUR[0]), &request, Instant::now()) {
                prop_assert!((reply.bytes.len() + 28) as f64 <= 2.1 * (request.len() + 28) as f64);
            }
        }
    }
}
