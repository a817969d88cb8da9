//! The DNS messages of mDNS discovery: bytes to what we care about, and back. No I/O, no time.
//!
//! A node asks for `_p2p._udp.local PTR`. The answer is such a record, pointing to a name that means nothing, and
//! beside it the TXT record of that name, whose strings are `dnsaddr=MULTIADDR`, each with the peer ID at its end.

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use simple_dns::{
    CLASS, CharacterString, Name, Packet, PacketFlag, QTYPE, Question, ResourceRecord, TYPE,
    rdata::{PTR, RData, TXT},
};

use crate::limits;

/// Whom libp2p asks for.
const SERVICE: &str = "_p2p._udp.local";

/// Whom those ask for who want to know which services there are (RFC 6763, section 9).
const SERVICES: &str = "_services._dns-sd._udp.local";

/// What an address in a TXT record begins with.
const KEY: &str = "dnsaddr=";

/// Longest string in a TXT record (RFC 1035, section 3.3).
const STRING_BYTES: usize = 255;

/// What a datagram says, as far as it is our business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Query(Query),
    Answer(Answer),
}

/// Somebody looks for peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) id: u16,
    /// Peers are looked for.
    pub(super) peers: bool,
    /// Services are looked for.
    pub(super) services: bool,
    /// Names of peers that the asker knows, and for how many more seconds (RFC 6762, section 7.1).
    pub(super) known: Vec<(String, u32)>,
}

/// A peer is there, or says goodbye.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) peer: PeerId,
    /// Without the peer ID. At most [`limits::MDNS_PEER_ADDRESSES`].
    pub(super) addrs: Vec<Multiaddr>,
    /// How many seconds this is good for; 0 is a goodbye.
    pub(super) ttl: u32,
}

/// Offset and length of the counts in a message's header (RFC 1035, section 4.1.1).
const COUNTS: usize = 4;
const HEADER: usize = 12;

/// Reads a datagram. `None`: it is malformed, or about printers and the like.
pub(super) fn read(bytes: &[u8]) -> Option<Message> {
    if !is_plausible(bytes) {
        return None;
    }
    let packet = Packet::parse(bytes).ok()?;
    match packet.has_flags(PacketFlag::RESPONSE) {
        true => answer(&packet).map(Message::Answer),
        false => query(&packet).map(Message::Query),
    }
}

/// Keeps most of what is on the wire away from the parser, which makes room for as many records as the header
/// promises.
fn is_plausible(bytes: &[u8]) -> bool {
    /// No question is shorter: the root's name, type and class. Nor a record, with its time to live and length.
    const SHORTEST: [usize; 4] = [5, 11, 11, 11];

    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else { return false };
    let counts =
        header[COUNTS..].chunks_exact(2).map(|count| usize::from(u16::from_be_bytes([count[0], count[1]])));
    let least: usize = counts.zip(SHORTEST).map(|(count, shortest)| count * shortest).sum();
    let has = |part: &[u8]| rest.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part));
    least <= rest.len() && (has(b"\x04_p2p\x04_udp") || has(b"\x07_dns-sd\x04_udp"))
}

fn query(packet: &Packet<'_>) -> Option<Query> {
    let (service, services) = (name(SERVICE)?, name(SERVICES)?);
    let asks = |name: &Name<'_>| {
        let is_pointer = |kind| matches!(kind, QTYPE::TYPE(TYPE::PTR) | QTYPE::ANY);
        packet.questions.iter().any(|question| question.qname == *name && is_pointer(question.qtype))
    };
    let (peers, services) = (asks(&service), asks(&services));
    let known = packet.answers.iter().filter(|record| record.name == service);
    let known = known.filter_map(|record| match &record.rdata {
        RData::PTR(target) => Some((first_label(target)?, record.ttl)),
        _ => None,
    });
    let known = known.collect();
    (peers || services).then_some(Query { id: packet.id(), peers, services, known })
}

/// Who the answer is about. Each peer answers for itself, so there is one in a message.
fn answer(packet: &Packet<'_>) -> Option<Answer> {
    let service = name(SERVICE)?;
    let mut pointers = packet.answers.iter().filter(|record| record.name == service);
    let (target, ttl) = pointers.find_map(|record| match &record.rdata {
        RData::PTR(target) => Some((&target.0, record.ttl)),
        _ => None,
    })?;
    // Addresses belong into the additional section; js-libp2p puts them into the first one.
    let records = packet.answers.iter().chain(&packet.additional_records);
    let texts = records.filter(|record| record.name == *target).filter_map(|record| match &record.rdata {
        RData::TXT(text) => Some(text),
        _ => None,
    });
    let mut found = None;
    let mut addrs = Vec::new();
    for (key, value) in texts.flat_map(TXT::iter_raw) {
        let Some((peer, addr)) = value.filter(|_| key.eq_ignore_ascii_case(b"dnsaddr")).and_then(dnsaddr)
        else {
            continue;
        };
        let is_more = addrs.len() < limits::MDNS_PEER_ADDRESSES && !addrs.contains(&addr);
        if *found.get_or_insert(peer) == peer && is_more {
            addrs.push(addr);
        }
    }
    Some(Answer { peer: found?, addrs, ttl })
}

/// `/ip4/192.0.2.1/tcp/4001/p2p/PEER`, taken apart.
fn dnsaddr(value: &[u8]) -> Option<(PeerId, Multiaddr)> {
    let mut addr: Multiaddr = std::str::from_utf8(value).ok()?.parse().ok()?;
    match addr.pop()? {
        Protocol::P2p(peer) => Some((peer, addr)),
        _ => None,
    }
}

fn name(text: &'static str) -> Option<Name<'static>> {
    Name::new(text).ok()
}

fn first_label(name: &Name<'_>) -> Option<String> {
    String::from_utf8(name.as_bytes().next()?.to_ascii_lowercase()).ok()
}

/// The question for peers. The id is zero (RFC 6762, section 18.1).
pub(super) fn ask() -> Vec<u8> {
    let mut packet = Packet::new_query(0);
    packet.questions.extend(question(SERVICE));
    packet.build_bytes_vec().unwrap_or_default()
}

fn question(text: &'static str) -> Option<Question<'static>> {
    Some(Question::new(name(text)?, TYPE::PTR.into(), CLASS::IN.into(), false))
}

/// A peer's announcement of itself, to be written in several ways.
pub(super) struct Announcement<'a> {
    /// The random name of [`peer_name`].
    pub(super) name: &'a str,
    pub(super) peer: PeerId,
    pub(super) addrs: &'a [Multiaddr],
    /// Seconds; 0 is a goodbye.
    pub(super) ttl: u32,
}

impl Announcement<'_> {
    /// For everybody on the link. `services`: also says that libp2p is here at all.
    pub(super) fn multicast(&self, services: bool) -> Vec<u8> {
        self.write(&Query { services, ..Query::default() }, self.ttl, true)
    }

    /// For one who asked from another port than mDNS': a resolver that knows nothing of mDNS. It wants its
    /// question back, no cache-flush bit, and a short life (RFC 6762, section 6.7).
    pub(super) fn legacy(&self, query: &Query) -> Vec<u8> {
        const SHORT: u32 = 10;
        self.write(query, self.ttl.min(SHORT), false)
    }

    /// As many addresses as fit [`limits::MDNS_DATAGRAM_BYTES`]. Empty if there is nothing to say.
    fn write(&self, query: &Query, ttl: u32, flush: bool) -> Vec<u8> {
        let own = format!("{}.{SERVICE}", self.name);
        let string = |addr: &Multiaddr| format!("{KEY}{addr}/p2p/{}", self.peer);
        let mut strings: Vec<String> = self.addrs.iter().map(string).collect();
        strings.retain(|string| string.len() <= STRING_BYTES);
        for count in (1..=strings.len().min(limits::MDNS_OWN_ADDRESSES)).rev() {
            let Some((answers, text)) = records(&own, &strings[..count], query.services, ttl, flush) else {
                break;
            };
            let mut packet = Packet::new_reply(query.id);
            packet.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
            if !flush {
                packet.questions.extend(question(SERVICE).filter(|_| query.peers));
                packet.questions.extend(question(SERVICES).filter(|_| query.services));
            }
            packet.answers = answers;
            packet.additional_records.push(text);
            // Names are written out: what compression would save is less than what it adds to the program.
            match packet.build_bytes_vec() {
                Ok(bytes) if bytes.len() <= limits::MDNS_DATAGRAM_BYTES => return bytes,
                _ => {}
            }
        }
        Vec::new()
    }
}

/// The pointers to a peer's name, and the addresses at that name.
fn records<'a>(
    own: &'a str,
    strings: &'a [String],
    services: bool,
    ttl: u32,
    flush: bool,
) -> Option<(Vec<ResourceRecord<'a>>, ResourceRecord<'a>)> {
    let record = |owner, data| ResourceRecord::new(owner, CLASS::IN, ttl, data);
    let pointer = |owner, target| record(owner, RData::PTR(PTR(target)));
    let mut answers = Vec::new();
    if services {
        // First: js-libp2p looks at the last pointer only.
        answers.push(pointer(name(SERVICES)?, name(SERVICE)?));
    }
    answers.push(pointer(name(SERVICE)?, Name::new(own).ok()?));
    let mut text = TXT::new();
    for string in strings {
        text.add_char_string(CharacterString::new(string.as_bytes()).ok()?);
    }
    Some((answers, record(Name::new(own).ok()?, RData::TXT(text)).with_cache_flush(flush)))
}

/// A name that says nothing of who has it. The specification wants 32 random lower-case letters and digits at
/// least, and a DNS label has 63 at most.
pub(super) fn peer_name(random: &mut fastrand::Rng) -> String {
    const DIGITS: u32 = 36;
    (0..32).map(|_| random.digit(DIGITS).to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "abcdefghijklmnopqrstuvwxyz012345";

    fn addrs(count: usize) -> Vec<Multiaddr> {
        (1..=count)
            .map(|n| format!("/ip4/192.0.2.{n}/udp/40000/quic-v1").parse().expect("an address"))
            .collect()
    }

    fn multicast(peer: PeerId, addrs: &[Multiaddr], ttl: u32) -> Vec<u8> {
        Announcement { name: NAME, peer, addrs, ttl }.multicast(false)
    }

    #[test]
    fn a_query_looks_like_this() {
        let bytes = b"\0\0\0\0\0\x01\0\0\0\0\0\0\x04_p2p\x04_udp\x05local\0\0\x0c\0\x01";
        assert_eq!(ask(), bytes);
        assert_eq!(read(bytes), Some(Message::Query(Query { peers: true, ..Query::default() })));
        assert_eq!(read(&bytes.to_ascii_uppercase()), read(bytes), "names have no case");
    }

    #[test]
    fn an_announcement_survives_the_way_there_and_back() {
        let (peer, addrs) = (PeerId::random(), addrs(3));
        for ttl in [0, 360] {
            let read = read(&multicast(peer, &addrs, ttl));
            assert_eq!(read, Some(Message::Answer(Answer { peer, addrs: addrs.clone(), ttl })));
        }
        assert_eq!(multicast(peer, &[], 360), [], "nothing to say");
    }

    #[test]
    fn an_announcement_fits_a_datagram_whatever_it_says() {
        let long = format!("/dns4/{}/tcp/1", "a".repeat(160)).parse::<Multiaddr>().expect("an address");
        let bytes = multicast(PeerId::random(), &vec![long; 20], 360);
        assert!(!bytes.is_empty() && bytes.len() <= limits::MDNS_DATAGRAM_BYTES, "{}", bytes.len());
        let longer = format!("/dns4/{}/tcp/1", "a".repeat(250)).parse::<Multiaddr>().expect("an address");
        assert_eq!(multicast(PeerId::random(), &[longer], 360), [], "more than a string holds");
    }

    #[test]
    fn who_asks_like_a_plain_resolver_is_answered_like_one() {
        let (peer, addrs) = (PeerId::random(), addrs(1));
        let query = Query { id: 7, peers: true, ..Query::default() };
        let bytes = Announcement { name: NAME, peer, addrs: &addrs, ttl: 360 }.legacy(&query);
        let packet = Packet::parse(&bytes).expect("a message");
        assert_eq!((packet.id(), packet.questions.len()), (7, 1));
        assert!(packet.additional_records.iter().all(|record| !record.cache_flush && record.ttl == 10));
        assert_eq!(read(&bytes), Some(Message::Answer(Answer { peer, addrs, ttl: 10 })));
    }

    #[test]
    fn who_looks_for_services_is_told_of_libp2p() {
        let mut packet = Packet::new_query(0);
        packet.questions.extend(question(SERVICES));
        let bytes = packet.build_bytes_vec().expect("a message");
        assert_eq!(read(&bytes), Some(Message::Query(Query { services: true, ..Query::default() })));
        let (peer, addrs) = (PeerId::random(), addrs(1));
        let bytes = Announcement { name: NAME, peer, addrs: &addrs, ttl: 360 }.multicast(true);
        assert_eq!(Packet::parse(&bytes).expect("a message").answers.len(), 2);
        assert_eq!(read(&bytes), Some(Message::Answer(Answer { peer, addrs, ttl: 360 })));
    }

    #[test]
    fn an_answer_is_about_one_peer() {
        let (peer, other) = (PeerId::random(), PeerId::random());
        let strings = [
            format!("dnsaddr=/ip4/192.0.2.1/tcp/1/p2p/{peer}"),
            format!("dnsaddr=/ip4/192.0.2.2/tcp/1/p2p/{other}"),
            "dnsaddr=/ip4/192.0.2.3/tcp/1".into(),
            "dnsaddr=nonsense".into(),
            "something=else".into(),
        ];
        let (answers, text) = records("x._p2p._udp.local", &strings, false, 9, true).expect("records");
        let mut packet = Packet::new_reply(0);
        packet.answers = answers;
        // Where js-libp2p puts it.
        packet.answers.push(text);
        let addrs = vec!["/ip4/192.0.2.1/tcp/1".parse().expect("an address")];
        let bytes = packet.build_bytes_vec().expect("a message");
        assert_eq!(read(&bytes), Some(Message::Answer(Answer { peer, addrs, ttl: 9 })));
    }

    #[test]
    fn what_an_asker_knows_is_read() {
        let own = format!("{NAME}.{SERVICE}");
        let mut packet = Packet::new_query(0);
        packet.questions.extend(question(SERVICE));
        packet.answers = records(&own, &[], false, 200, true).expect("records").0;
        let known = vec![(NAME.to_owned(), 200)];
        let read = read(&packet.build_bytes_vec().expect("a message"));
        assert_eq!(read, Some(Message::Query(Query { peers: true, known, ..Query::default() })));
    }

    #[test]
    fn promises_that_cannot_be_kept_are_not_believed() {
        let mut bytes = ask();
        bytes[COUNTS + 2..HEADER].fill(0xff);
        assert!(!is_plausible(&bytes));
        assert!(!is_plausible(&ask()[..HEADER - 1]));
    }

    #[test]
    fn a_name_is_random_and_fits_a_label() {
        let mut random = fastrand::Rng::with_seed(1);
        let (one, two) = (peer_name(&mut random), peer_name(&mut random));
        assert!(
            one != two
                && one.len() == 32
                && one.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            read(&bytes);
        }

        /// Past the first look, where the parser works.
        #[test]
        fn any_sections_are_read(counts: [u8; 4], response: bool, tail: Vec<u8>) {
            let mut bytes = ask();
            bytes[2] = if response { 0x84 } else { 0 };
            for (i, count) in counts.into_iter().enumerate() {
                bytes[COUNTS + 2 * i + 1] = count % 8;
            }
            bytes.extend(tail);
            read(&bytes);
        }

        #[test]
        fn changed_bytes_are_survived(changes: Vec<(prop::sample::Index, u8)>, cut: prop::sample::Index) {
            let mut bytes = multicast(PeerId::random(), &addrs(4), 360);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            read(&bytes);
            read(&bytes[..cut.index(bytes.len())]);
        }
    }
}
