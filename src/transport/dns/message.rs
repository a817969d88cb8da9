//! DNS messages: a question and what can be made of the bytes that claim to answer it. No I/O.

use std::net::IpAddr;

use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, TYPE, rdata::RData};

/// The records we ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    A,
    Aaaa,
    Txt,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::A => "A",
            Kind::Aaaa => "AAAA",
            Kind::Txt => "TXT",
        }
    }

    fn type_code(self) -> TYPE {
        match self {
            Kind::A => TYPE::A,
            Kind::Aaaa => TYPE::AAAA,
            Kind::Txt => TYPE::TXT,
        }
    }
}

/// The useful part of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Ip(IpAddr),
    /// The strings of a TXT record, put together.
    Text(String),
}

/// What a datagram or a TCP answer turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Not the answer to this query, perhaps an attempt to forge one. The real one may still come.
    Stray,
    /// There is more than fits a datagram: ask again by TCP.
    Truncated,
    /// The records of the kind asked for. None at all means that the name has others.
    Records(Vec<Record>),
    /// The name does not exist (NXDOMAIN).
    NoSuchName,
    /// This server cannot help; another one may. Holds the response code.
    Failed(u8),
    /// The answer breaks the format.
    Malformed,
}

/// Whether a name can be asked for: letters, digits, hyphens and underscores, in labels of 1 to 63 bytes,
/// 253 bytes in all (RFC 1035, section 2.3.4). A dot at the end is allowed. Names in other scripts must come
/// in their `xn--` form.
pub(super) fn is_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// Offsets in the message header (RFC 1035, section 4.1.1).
const FLAGS: usize = 2;
const COUNTS: usize = 4;
const HEADER: usize = 12;

/// A query for one kind of records of one name.
pub(super) struct Query {
    kind: Kind,
    bytes: Vec<u8>,
}

impl Query {
    /// `None` if there can be no such name.
    pub(super) fn new(id: u16, name: &str, kind: Kind) -> Option<Self> {
        let name = is_name(name).then(|| Name::new(name))?.ok()?;
        let mut packet = Packet::new_query(id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(Question::new(name, kind.type_code().into(), CLASS::IN.into(), false));
        Some(Query { kind, bytes: packet.build_bytes_vec().ok()? })
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Judges what a server sent.
    pub(super) fn read(&self, reply: &[u8]) -> Reply {
        const RESPONSE_AND_OPCODE: u8 = 0xf8;
        const RESPONSE: u8 = 0x80;
        const TRUNCATED: u8 = 0x02;
        const CODE: u8 = 0x0f;
        const ONE_QUESTION: [u8; 2] = [0, 1];

        // A reply repeats the query's id and its question, which a forger has to guess. Servers may change
        // the case of the name; no other byte of a question can be taken for a letter.
        let ours = reply.len() >= self.bytes.len()
            && reply[..FLAGS] == self.bytes[..FLAGS]
            && reply[FLAGS] & RESPONSE_AND_OPCODE == RESPONSE
            && reply[COUNTS..COUNTS + 2] == ONE_QUESTION
            && reply[HEADER..self.bytes.len()].eq_ignore_ascii_case(&self.bytes[HEADER..]);
        if !ours {
            return Reply::Stray;
        }
        if reply[FLAGS] & TRUNCATED != 0 {
            return Reply::Truncated;
        }
        match reply[FLAGS + 1] & CODE {
            0 => self.records(reply).map_or(Reply::Malformed, Reply::Records),
            3 => Reply::NoSuchName,
            code => Reply::Failed(code),
        }
    }

    /// The records asked for, of the name or of what it is an alias of.
    fn records(&self, reply: &[u8]) -> Option<Vec<Record>> {
        /// The root as owner (1 byte), type, class, time to live and length (10): no record is shorter.
        const SHORTEST_RECORD: usize = 11;

        // The parser makes room for as many records as the header promises.
        let promised = usize::from(u16::from_be_bytes([reply[COUNTS + 2], reply[COUNTS + 3]]));
        if promised * SHORTEST_RECORD > reply.len() {
            return None;
        }
        // The sections after the answers are none of our business, so they cannot spoil them either.
        let mut reply = reply.to_vec();
        reply[COUNTS + 4..HEADER].fill(0);
        let packet = Packet::parse(&reply).ok()?;

        let mut owner = &packet.questions.first()?.qname;
        // Each alias takes a record of its own, so a longer chain is a circle.
        for _ in 0..=packet.answers.len() {
            let owned =
                || packet.answers.iter().filter(|record| record.class == CLASS::IN && record.name == *owner);
            let records: Vec<_> = owned().filter_map(|record| self.record(&record.rdata)).collect();
            if !records.is_empty() {
                return Some(records);
            }
            let alias = owned().find_map(|record| match &record.rdata {
                RData::CNAME(target) => Some(&target.0),
                _ => None,
            });
            match alias {
                Some(target) => owner = target,
                None => return Some(Vec::new()),
            }
        }
        None
    }

    fn record(&self, data: &RData<'_>) -> Option<Record> {
        match (self.kind, data) {
            (Kind::A, RData::A(a)) => Some(Record::Ip(IpAddr::V4(a.address.into()))),
            (Kind::Aaaa, RData::AAAA(aaaa)) => Some(Record::Ip(IpAddr::V6(aaaa.address.into()))),
            (Kind::Txt, RData::TXT(txt)) => String::try_from(txt.clone()).ok().map(Record::Text),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simple_dns::{
        RCODE, ResourceRecord,
        rdata::{A, CNAME, TXT},
    };

    use super::*;

    const ID: u16 = 0x1234;

    fn query(kind: Kind) -> Query {
        Query::new(ID, "www.example.org", kind).expect("a good name")
    }

    fn record(owner: &'static str, data: RData<'static>) -> ResourceRecord<'static> {
        ResourceRecord::new(Name::new_unchecked(owner), CLASS::IN, 60, data)
    }

    fn a(owner: &'static str, last: u8) -> ResourceRecord<'static> {
        record(owner, RData::A(A { address: u32::from_be_bytes([192, 0, 2, last]) }))
    }

    fn cname(owner: &'static str, target: &'static str) -> ResourceRecord<'static> {
        record(owner, RData::CNAME(CNAME(Name::new_unchecked(target))))
    }

    fn ip(last: u8) -> Record {
        Record::Ip([192, 0, 2, last].into())
    }

    /// An answer to `query`, which `change` may spoil.
    fn answer(
        query: &Query,
        records: Vec<ResourceRecord<'static>>,
        change: impl FnOnce(&mut Packet<'_>),
    ) -> Vec<u8> {
        let mut packet = Packet::parse(query.as_bytes()).expect("our own bytes").into_reply();
        packet.answers = records;
        change(&mut packet);
        packet.build_bytes_vec_compressed().expect("a packet")
    }

    #[test]
    fn a_query_looks_like_this() {
        let bytes = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03org\0\0\x1c\0\x01";
        assert_eq!(query(Kind::Aaaa).as_bytes(), bytes);
    }

    #[test]
    fn names_are_checked() {
        for name in
            ["a", "example.org", "example.org.", "_dnsaddr.xn--bcher-kva.example", &["a"; 127].join(".")]
        {
            assert!(is_name(name) && Query::new(ID, name, Kind::A).is_some(), "{name}");
        }
        let (label, long) = ("a".repeat(64), ["a"; 128].join("."));
        for name in ["", ".", "a..b", "bücher.example", "a b", "a\\.b", &label, &long] {
            assert!(!is_name(name) && Query::new(ID, name, Kind::A).is_none(), "{name}");
        }
    }

    #[test]
    fn records_of_the_name_and_kind_are_taken() {
        let query = query(Kind::A);
        let txt = RData::TXT(TXT::new().with_string("no").expect("short"));
        let records = vec![
            a("www.example.org", 1),
            a("other.example.org", 2),
            record("www.example.org", txt),
            a("WWW.example.ORG", 3),
        ];
        let reply = answer(&query, records, |_| ());
        assert_eq!(query.read(&reply), Reply::Records(vec![ip(1), ip(3)]));
        assert_eq!(query.read(&answer(&query, vec![], |_| ())), Reply::Records(vec![]));
    }

    #[test]
    fn the_strings_of_a_text_are_one() {
        let query = query(Kind::Txt);
        let txt =
            TXT::new().with_string("dnsaddr=/ip4/").expect("short").with_string("192.0.2.1").expect("short");
        let reply = answer(&query, vec![record("www.example.org", RData::TXT(txt))], |_| ());
        assert_eq!(query.read(&reply), Reply::Records(vec![Record::Text("dnsaddr=/ip4/192.0.2.1".into())]));
    }

    #[test]
    fn aliases_are_followed_in_any_order() {
        let query = query(Kind::A);
        let records = vec![
            a("host.example.net", 1),
            cname("cdn.example.com", "HOST.example.net"),
            cname("www.example.org", "cdn.example.com"),
        ];
        assert_eq!(query.read(&answer(&query, records, |_| ())), Reply::Records(vec![ip(1)]));
        let lost = vec![cname("www.example.org", "elsewhere.example.com"), a("host.example.net", 1)];
        assert_eq!(query.read(&answer(&query, lost, |_| ())), Reply::Records(vec![]));
        let circle = vec![cname("www.example.org", "b.example"), cname("b.example", "www.example.org")];
        assert_eq!(query.read(&answer(&query, circle, |_| ())), Reply::Malformed);
    }

    #[test]
    fn answers_to_something_else_are_strays() {
        let query = query(Kind::A);
        let good = answer(&query, vec![a("www.example.org", 1)], |_| ());
        let stray = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            assert_eq!(query.read(&bytes), Reply::Stray, "byte {at}");
        };
        stray(0, 0xff); // the id
        stray(FLAGS, 0x01); // a query, not a reply
        stray(FLAGS, 0x88); // another kind of operation
        stray(COUNTS + 1, 0); // no question
        stray(HEADER + 1, b'x'); // another name
        stray(query.as_bytes().len() - 3, 28); // another kind of record
        assert_eq!(query.read(&good[..query.as_bytes().len() - 1]), Reply::Stray);
        assert_eq!(query.read(query.as_bytes()), Reply::Stray, "our own question sent back");
    }

    #[test]
    fn servers_may_change_the_case_of_the_question() {
        let query = query(Kind::A);
        let mut reply = answer(&query, vec![a("www.example.org", 1)], |_| ());
        reply[HEADER..query.as_bytes().len()].make_ascii_uppercase();
        assert_eq!(query.read(&reply), Reply::Records(vec![ip(1)]));
    }

    #[test]
    fn codes_are_told_apart() {
        let query = query(Kind::A);
        let coded = |code| query.read(&answer(&query, vec![], |packet| *packet.rcode_mut() = code));
        assert_eq!(coded(RCODE::NameError), Reply::NoSuchName);
        assert_eq!(coded(RCODE::ServerFailure), Reply::Failed(2));
        assert_eq!(coded(RCODE::Refused), Reply::Failed(5));
    }

    #[test]
    fn truncation_is_seen_even_where_a_record_was_cut() {
        let query = query(Kind::A);
        let cut = |packet: &mut Packet<'_>| packet.set_flags(PacketFlag::TRUNCATION);
        let mut reply = answer(&query, vec![a("www.example.org", 1)], cut);
        reply.truncate(reply.len() - 3);
        assert_eq!(query.read(&reply), Reply::Truncated);
    }

    #[test]
    fn promises_that_cannot_be_kept_are_not_believed() {
        let query = query(Kind::A);
        let mut reply = answer(&query, vec![a("www.example.org", 1)], |_| ());
        reply[COUNTS + 2..COUNTS + 4].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(query.read(&reply), Reply::Malformed);
        // The other sections are not looked at.
        let mut reply = answer(&query, vec![a("www.example.org", 1)], |_| ());
        reply[COUNTS + 4..HEADER].fill(0xff);
        assert_eq!(query.read(&reply), Reply::Records(vec![ip(1)]));
    }

    proptest! {
        #[test]
        fn any_bytes_get_a_verdict(bytes: Vec<u8>) {
            query(Kind::A).read(&bytes);
        }

        /// Past the first checks, where the parser works: the head of a good reply, then anything.
        #[test]
        fn any_answer_section_gets_a_verdict(count: [u8; 2], tail: Vec<u8>, kind in 0usize..3) {
            let query = query([Kind::A, Kind::Aaaa, Kind::Txt][kind]);
            let mut reply = query.as_bytes().to_vec();
            reply[FLAGS] |= 0x80;
            reply[COUNTS + 2..COUNTS + 4].copy_from_slice(&count);
            reply.extend(tail);
            prop_assert_ne!(query.read(&reply), Reply::Stray);
        }

        #[test]
        fn a_changed_byte_is_survived(at: proptest::sample::Index, byte: u8) {
            let query = query(Kind::A);
            let records = vec![cname("www.example.org", "a.example"), a("a.example", 1), a("a.example", 2)];
            let mut reply = answer(&query, records, |_| ());
            let at = at.index(reply.len());
            reply[at] = byte;
            query.read(&reply);
        }

        #[test]
        fn any_text_is_a_name_or_not(name: String) {
            prop_assert_eq!(Query::new(ID, &name, Kind::A).is_some(), is_name(&name));
        }

        #[test]
        fn a_name_that_looks_like_one_is_one(name in "[a-zA-Z0-9_-]{1,63}(\\.[a-zA-Z0-9_-]{1,20}){0,8}\\.?") {
            prop_assert!(Query::new(ID, &name, Kind::A).is_some());
        }
    }
}
