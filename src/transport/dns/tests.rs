//! The resolver and the transport against name servers of our own, on loopback.

mod server;

use std::{
    fs,
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures::future::{Ready, pending, poll_fn, ready};
use libp2p::{Transport as _, core::Endpoint, core::transport::PortUse};
use simple_dns::RCODE;

use self::server::{Answer, Asked, Server, a, aaaa, cname, txt};
use super::{resolver::Family, *};

const PEER: &str = "/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
const OTHER: &str = "/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";

/// A machine's settings, in files of their own.
struct Machine {
    directory: PathBuf,
    port: u16,
}

impl Machine {
    /// With the name servers given, which all must have the same port.
    fn new(servers: &[&Server]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let unique = format!("warren-dns-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let directory = std::env::temp_dir().join(unique);
        fs::create_dir(&directory).expect("a new directory");
        let machine = Machine { directory, port: servers.first().map_or(9, |server| server.addr.port()) };
        let lines = servers.iter().map(|server| format!("nameserver {}\n", server.addr.ip()));
        machine.resolv_conf(&lines.collect::<String>());
        machine
    }

    fn resolv_conf(&self, text: &str) {
        fs::write(self.directory.join("resolv.conf"), text).expect("a writable file");
    }

    fn hosts(&self, text: &str) {
        fs::write(self.directory.join("hosts"), text).expect("a writable file");
    }

    fn config(&self) -> Config {
        Config {
            resolv_conf: self.directory.join("resolv.conf"),
            hosts: self.directory.join("hosts"),
            port: self.port,
            try_timeout: Duration::from_millis(500),
        }
    }

    fn resolver(&self) -> Resolver {
        Resolver::new(self.config())
    }

    fn addresses(&self, name: &str, family: Family) -> Result<Vec<String>, LookupError> {
        let ips = smol::block_on(self.resolver().addresses(name, family))?;
        Ok(ips.iter().map(IpAddr::to_string).collect())
    }

    fn dial(&self, addr: &str, fate: fn(&str) -> Fate) -> (Result<String, Error<Refused>>, Vec<String>) {
        let recorder = Recorder { fate, dialled: Arc::default() };
        let dialled = Arc::clone(&recorder.dialled);
        let mut transport = Transport::new(recorder, self.config());
        let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse };
        let dial = transport.dial(addr.parse().expect("a multiaddr"), opts).expect("a name to resolve");
        let result = smol::block_on(dial);
        let dialled = dialled.lock().expect("no panic").clone();
        (result, dialled)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory); // nothing a test could do about it
    }
}

/// A transport that only writes down what it shall dial.
struct Recorder {
    fate: fn(&str) -> Fate,
    dialled: Arc<Mutex<Vec<String>>>,
}

enum Fate {
    Connects,
    IsRefused,
    Hangs,
    IsNotSupported,
}

#[derive(Debug)]
struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} refuses", self.0)
    }
}

impl std::error::Error for Refused {}

impl libp2p::Transport for Recorder {
    type Output = String;
    type Error = Refused;
    type ListenerUpgrade = Ready<Result<String, Refused>>;
    type Dial = BoxFuture<'static, Result<String, Refused>>;

    fn listen_on(&mut self, _: ListenerId, addr: Multiaddr) -> Result<(), TransportError<Refused>> {
        Err(TransportError::MultiaddrNotSupported(addr))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(&mut self, addr: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<Refused>> {
        let text = addr.to_string();
        let fate = (self.fate)(&text);
        if let Fate::IsNotSupported = fate {
            return Err(TransportError::MultiaddrNotSupported(addr));
        }
        self.dialled.lock().expect("no panic").push(text.clone());
        Ok(match fate {
            Fate::Connects => ready(Ok(text)).boxed(),
            Fate::IsRefused => ready(Err(Refused(text))).boxed(),
            Fate::Hangs | Fate::IsNotSupported => pending().boxed(),
        })
    }

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Poll::Pending
    }
}

/// Two addresses of each family.
fn both_families(asked: &Asked) -> Answer {
    match asked.kind {
        "A" => Answer::Records(vec![a("192.0.2.1"), a("192.0.2.2"), a("192.0.2.3")]),
        "AAAA" => Answer::Records(vec![aaaa("2001:db8::1")]),
        _ => Answer::Code(RCODE::NameError),
    }
}

fn one(_: &Asked) -> Answer {
    Answer::Records(vec![a("192.0.2.1")])
}

fn two(_: &Asked) -> Answer {
    Answer::Records(vec![a("192.0.2.2")])
}

#[test]
fn the_families_take_turns() {
    let server = Server::start(both_families);
    let machine = Machine::new(&[&server]);
    let of = |family| machine.addresses("example.org", family).expect("addresses");
    assert_eq!(of(Family::Any), ["2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    assert_eq!(of(Family::V6), ["2001:db8::1"]);
    assert_eq!(of(Family::V4).len(), 3);
}

#[test]
fn a_family_that_is_not_answered_does_not_hold_up_the_other() {
    let server = Server::start(|asked| match asked.kind {
        "A" => Answer::Records(vec![a("192.0.2.1")]),
        _ => Answer::Silence,
    });
    let machine = Machine::new(&[&server]);
    assert_eq!(machine.addresses("example.org", Family::Any).expect("an address"), ["192.0.2.1"]);
}

#[test]
fn a_name_that_does_not_exist_is_asked_for_once() {
    let first = Server::start(|_| Answer::Code(RCODE::NameError));
    let second = first.sibling(one);
    let machine = Machine::new(&[&first, &second]);
    let error = machine.addresses("no.example.org", Family::V4).expect_err("no such name");
    assert_eq!(error.to_string(), "there is no host \"no.example.org\"");
    assert_eq!((first.asked().len(), second.asked().len()), (1, 0));
}

#[test]
fn a_name_without_the_records_wanted_says_so() {
    let server = Server::start(|_| Answer::Records(vec![]));
    let error = Machine::new(&[&server]).addresses("example.org", Family::V6).expect_err("no records");
    assert_eq!(error.to_string(), "\"example.org\" has no AAAA record");
}

#[test]
fn the_next_server_is_asked_when_one_is_no_help() {
    let useless: [fn(&Asked) -> Answer; 5] = [
        |_| Answer::Code(RCODE::ServerFailure),
        |_| Answer::Code(RCODE::Refused),
        |_| Answer::Silence,
        // A promise of records that do not follow.
        |asked| Answer::Datagrams(vec![asked.reply(vec![], |bytes| bytes[7] = 9)]),
        // Alias of itself.
        |_| Answer::Records(vec![cname("example.org", "example.org")]),
    ];
    for first in useless {
        let first = Server::start(first);
        let second = first.sibling(one);
        let machine = Machine::new(&[&first, &second]);
        assert_eq!(machine.addresses("example.org", Family::V4).expect("an address"), ["192.0.2.1"]);
        assert_eq!((first.asked().len(), second.asked().len()), (1, 1));
    }
}

#[test]
fn a_server_that_is_down_costs_no_time() {
    let up = Server::start(one);
    let machine = Machine::new(&[&up]);
    machine.resolv_conf("nameserver 127.0.0.77\nnameserver 127.0.0.1\noptions timeout:10");
    // The kernel reports the closed port at once. A lookup that waited would run out of time.
    assert_eq!(machine.addresses("example.org", Family::V4).expect("an address"), ["192.0.2.1"]);
}

#[test]
fn a_lost_datagram_is_repeated() {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let server = Server::start(|asked| match COUNT.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::Silence,
        _ => one(asked),
    });
    let machine = Machine::new(&[&server]);
    assert_eq!(machine.addresses("example.org", Family::V4).expect("an address"), ["192.0.2.1"]);
}

#[test]
fn when_no_server_answers_the_last_is_named() {
    let server = Server::start(|_| Answer::Silence);
    let machine = Machine::new(&[&server]);
    let error = machine.addresses("example.org", Family::V4).expect_err("silence").to_string();
    assert_eq!(error, "cannot look up \"example.org\": name server 127.0.0.1 does not answer");
    assert_eq!(server.asked().len(), limits::DNS_TRIES as usize);
}

#[test]
fn long_answers_come_by_tcp() {
    let server = Server::start(|asked| {
        let all: Vec<_> = (1..=100).map(|last| a(&format!("192.0.2.{last}"))).collect();
        if asked.by_tcp { Answer::Records(all) } else { Answer::Truncated }
    });
    let machine = Machine::new(&[&server]);
    let ips = machine.addresses("example.org", Family::V4).expect("addresses");
    assert_eq!(ips.len(), limits::DNS_ADDRESSES);
    assert_eq!(server.asked().iter().map(|asked| asked.by_tcp).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn forged_answers_are_passed_over() {
    let server = Server::start(|asked| {
        let forged = || asked.reply(vec![a("192.0.2.66")], |_| ());
        let (mut wrong_id, mut wrong_name) = (forged(), forged());
        wrong_id[0] ^= 1;
        wrong_name[13] ^= 1;
        Answer::Datagrams(vec![wrong_id, wrong_name, vec![], asked.reply(vec![a("192.0.2.1")], |_| ())])
    });
    let machine = Machine::new(&[&server]);
    assert_eq!(machine.addresses("example.org", Family::V4).expect("an address"), ["192.0.2.1"]);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn somebody_who_guesses_does_not_get_many_tries() {
    let server = Server::start(|asked| {
        let guess = |id: u16| {
            let mut bytes = asked.reply(vec![a("192.0.2.66")], |_| ());
            // Never the right id.
            let wrong = id.wrapping_add(1).wrapping_add(u16::from_be_bytes([bytes[0], bytes[1]]));
            bytes[..2].copy_from_slice(&wrong.to_be_bytes());
            bytes
        };
        let real = asked.reply(vec![a("192.0.2.1")], |_| ());
        Answer::Datagrams((0..limits::DNS_STRAYS as u16).map(guess).chain([real]).collect())
    });
    let error = Machine::new(&[&server]).addresses("example.org", Family::V4).expect_err("too many guesses");
    assert!(matches!(error, LookupError::NoAnswer { cause: ServerError::Malformed, .. }), "{error}");
}

#[test]
fn ids_and_ports_differ_from_query_to_query() {
    let server = Server::start(one);
    let machine = Machine::new(&[&server]);
    for _ in 0..8 {
        machine.addresses("example.org", Family::V4).expect("an address");
    }
    let asked = server.asked();
    let distinct = |mut values: Vec<u16>| {
        values.sort_unstable();
        values.dedup();
        values.len()
    };
    // Chance may repeat one of them.
    assert!(distinct(asked.iter().map(|asked| asked.id).collect()) >= 6);
    assert!(distinct(asked.iter().map(|asked| asked.from.port()).collect()) >= 6);
}

#[test]
fn aliases_are_followed() {
    let server = Server::start(|_| {
        Answer::Records(vec![cname("example.org", "b.example"), a("192.0.2.1").of("b.example")])
    });
    let machine = Machine::new(&[&server]);
    assert_eq!(machine.addresses("example.org", Family::V4).expect("an address"), ["192.0.2.1"]);
}

#[test]
fn the_hosts_file_comes_first() {
    let server = Server::start(both_families);
    let machine = Machine::new(&[&server]);
    machine.hosts("192.0.2.99 example.org");
    assert_eq!(machine.addresses("Example.ORG", Family::Any).expect("an address"), ["192.0.2.99"]);
    assert!(server.asked().is_empty());
    // It has no IPv6 address; the servers may.
    assert_eq!(machine.addresses("example.org", Family::V6).expect("an address"), ["2001:db8::1"]);
}

#[test]
fn some_names_are_nobodys_business() {
    let server = Server::start(both_families);
    let machine = Machine::new(&[&server]);
    let of = |name| machine.addresses(name, Family::Any).map_err(|error| error.to_string());
    assert_eq!(of("localhost").expect("this machine"), ["::1", "127.0.0.1"]);
    assert_eq!(of("warren.LocalHost.").expect("this machine"), ["::1", "127.0.0.1"]);
    assert_eq!(of("192.0.2.7").expect("an address"), ["192.0.2.7"]);
    assert_eq!(of("2001:db8::7").expect("an address"), ["2001:db8::7"]);
    assert_eq!(of("a.invalid").expect_err("never exists"), "there is no host \"a.invalid\"");
    assert_eq!(of("a b").expect_err("no name"), "\"a b\" is not a host name");
    assert!(machine.addresses("192.0.2.7", Family::V6).is_err());
    assert!(smol::block_on(machine.resolver().texts("_dnsaddr.localhost")).is_err());
    assert!(server.asked().is_empty());
}

#[test]
fn a_change_of_resolv_conf_counts_at_once() {
    let first = Server::start(one);
    let second = first.sibling(two);
    let machine = Machine::new(&[&first]);
    let resolver = machine.resolver();
    let look_up = || {
        let ips = smol::block_on(resolver.addresses("example.org", Family::V4));
        ips.expect("an address")[0].to_string()
    };
    assert_eq!(look_up(), "192.0.2.1");
    machine.resolv_conf(&format!("nameserver {}", second.addr.ip()));
    assert_eq!(look_up(), "192.0.2.2");
    // Without the file, or a server in it, this machine is asked: here, the first server.
    fs::remove_file(machine.config().resolv_conf).expect("the file is there");
    assert_eq!(look_up(), "192.0.2.1");
}

#[test]
fn dropping_a_lookup_closes_its_socket() {
    let server = Server::start(|_| Answer::Silence);
    let machine = Machine::new(&[&server]);
    let config = Config { try_timeout: limits::DNS_LOOKUP_TIMEOUT, ..machine.config() };
    smol::block_on(async {
        let resolver = Resolver::new(config);
        let mut lookup = Box::pin(resolver.addresses("example.org", Family::V4));
        let client = poll_fn(|cx| {
            assert!(lookup.poll_unpin(cx).is_pending());
            let asked = server.asked();
            cx.waker().wake_by_ref(); // the server has no other way to tell
            asked.first().map_or(Poll::Pending, |asked| Poll::Ready(asked.from))
        })
        .await;

        let is_open = || {
            let sockets = fs::read_to_string("/proc/net/udp").expect("a list of sockets");
            sockets.contains(&format!("0100007F:{:04X}", client.port()))
        };
        assert!(is_open(), "the lookup waits for an answer");
        drop(lookup);
        assert!(!is_open(), "the socket outlived the lookup");
    });
}

#[test]
fn names_become_addresses_before_the_dial() {
    let server = Server::start(both_families);
    let machine = Machine::new(&[&server]);
    for (addr, expected) in [
        ("/dns4/example.org/tcp/1", "/ip4/192.0.2.1/tcp/1"),
        ("/dns6/example.org/tcp/1", "/ip6/2001:db8::1/tcp/1"),
        ("/dns/example.org/tcp/1", "/ip6/2001:db8::1/tcp/1"),
    ] {
        let addr = format!("{addr}{PEER}");
        let (result, _) = machine.dial(&addr, |_| Fate::Connects);
        assert_eq!(result.expect("a connection"), format!("{expected}{PEER}"));
    }
}

#[test]
fn the_next_address_is_tried_when_one_refuses_or_hangs() {
    let server = Server::start(both_families);
    let machine = Machine::new(&[&server]);
    let (result, dialled) = machine.dial("/dns/example.org/tcp/1", |addr| match addr {
        "/ip6/2001:db8::1/tcp/1" => Fate::IsRefused,
        "/ip4/192.0.2.1/tcp/1" => Fate::Hangs,
        "/ip4/192.0.2.2/tcp/1" => Fate::IsNotSupported,
        _ => Fate::Connects,
    });
    assert_eq!(result.expect("a connection"), "/ip4/192.0.2.3/tcp/1");
    assert_eq!(dialled, ["/ip6/2001:db8::1/tcp/1", "/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.3/tcp/1"]);
}

#[test]
fn an_unreachable_name_tells_all_that_was_tried() {
    let server = Server::start(|asked| match asked.kind {
        "A" => Answer::Records(vec![a("192.0.2.1"), a("0.0.0.0")]),
        _ => Answer::Records(vec![]),
    });
    let machine = Machine::new(&[&server]);
    let (result, _) = machine.dial("/dns/example.org/tcp/1", |addr| match addr {
        "/ip4/0.0.0.0/tcp/1" => Fate::IsNotSupported,
        _ => Fate::IsRefused,
    });
    assert_eq!(
        result.expect_err("nobody there").to_string(),
        "cannot reach /dns/example.org/tcp/1: /ip4/192.0.2.1/tcp/1 refuses; \
         the name stands for /ip4/0.0.0.0/tcp/1, which cannot be dialled"
    );
    let (result, dialled) = machine.dial("/dns6/example.org/tcp/1", |_| Fate::Connects);
    assert_eq!(
        result.expect_err("no address").to_string(),
        "cannot reach /dns6/example.org/tcp/1: \"example.org\" has no AAAA record"
    );
    assert!(dialled.is_empty());
}

#[test]
fn dnsaddr_records_may_lead_to_further_names() {
    let server = Server::start(|asked| match (asked.name.as_str(), asked.kind) {
        ("_dnsaddr.example.org", "TXT") => Answer::Records(vec![
            txt(&format!("dnsaddr=/dnsaddr/eu.example.org{OTHER}")),
            txt(&format!("dnsaddr=/dnsaddr/us.example.org{PEER}")),
            txt("v=spf1 -all"),
        ]),
        ("_dnsaddr.us.example.org", "TXT") => {
            Answer::Records(vec![txt(&format!("dnsaddr=/dns4/host.example.org/tcp/4001{PEER}"))])
        }
        ("host.example.org", "A") => Answer::Records(vec![a("192.0.2.1")]),
        _ => Answer::Code(RCODE::NameError),
    });
    let machine = Machine::new(&[&server]);
    let (result, dialled) = machine.dial(&format!("/dnsaddr/example.org{PEER}"), |_| Fate::Connects);
    assert_eq!(result.expect("a connection"), format!("/ip4/192.0.2.1/tcp/4001{PEER}"));
    assert_eq!(dialled.len(), 1);
    let names: Vec<_> = server.asked().into_iter().map(|asked| asked.name).collect();
    assert_eq!(names, ["_dnsaddr.example.org", "_dnsaddr.us.example.org", "host.example.org"]);
}

#[test]
fn quic_addresses_are_dialled_first() {
    const ADDRS: [&str; 3] = ["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/udp/1/quic-v1", "/ip4/192.0.2.2/tcp/1"];
    let server = Server::start(|_| Answer::Records(ADDRS.map(|addr| txt(&format!("dnsaddr={addr}"))).into()));
    let machine = Machine::new(&[&server]);
    let (_, dialled) = machine.dial("/dnsaddr/example.org", |_| Fate::IsRefused);
    assert_eq!(dialled, [ADDRS[1], ADDRS[0], ADDRS[2]]);
}

#[test]
fn a_dnsaddr_without_the_peer_is_an_error() {
    let server =
        Server::start(|_| Answer::Records(vec![txt(&format!("dnsaddr=/ip4/192.0.2.1/tcp/1{OTHER}"))]));
    let machine = Machine::new(&[&server]);
    let addr = format!("/dnsaddr/example.org{PEER}");
    let (result, _) = machine.dial(&addr, |_| Fate::Connects);
    assert_eq!(
        result.expect_err("another peer").to_string(),
        format!("cannot reach {addr}: no TXT record of {addr} holds a matching address")
    );
}

#[test]
fn names_that_lead_in_circles_come_to_an_end() {
    let server = Server::start(|_| {
        Answer::Records(vec![
            txt("dnsaddr=/dnsaddr/example.org"),
            txt("dnsaddr=/dnsaddr/example.com"),
            txt("dnsaddr=/ip4/192.0.2.1/tcp/1"),
        ])
    });
    let machine = Machine::new(&[&server]);
    let (result, dialled) = machine.dial("/dnsaddr/example.org", |_| Fate::IsRefused);
    let Err(Error::Unreachable { causes, .. }) = result else {
        panic!("unexpected result: {result:?}");
    };
    assert!(causes.iter().any(|cause| matches!(cause, Error::TooManyLookups { .. })));
    assert_eq!(server.asked().len(), limits::DNS_LOOKUPS);
    assert_eq!(dialled.len(), limits::DNS_DIALS);
}

#[test]
fn addresses_without_names_pass_unchanged() {
    let recorder = Recorder { fate: |_| Fate::Connects, dialled: Arc::default() };
    let mut transport = Transport::system(recorder);
    let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let addr: Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().expect("a multiaddr");
    let dial = transport.dial(addr.clone(), opts).expect("a supported address");
    assert_eq!(smol::block_on(dial).expect("a connection"), addr.to_string());

    // Refused at once, so that another transport can be asked.
    transport.with_inner(|inner| inner.fate = |_| Fate::IsNotSupported);
    assert!(matches!(transport.dial(addr, opts), Err(TransportError::MultiaddrNotSupported(_))));
    let addr = "/dns4/example.org/tcp/1".parse().expect("a multiaddr");
    let refused = transport.listen_on(ListenerId::next(), addr);
    assert!(matches!(refused, Err(TransportError::MultiaddrNotSupported(_))));
}

#[test]
fn it_works_with_tcp() {
    use crate::transport::tcp;

    smol::block_on(async {
        let mut server = tcp::Transport::default();
        let addr = "/ip4/127.0.0.1/tcp/0".parse().expect("a multiaddr");
        server.listen_on(ListenerId::next(), addr).expect("a free port");
        let addr = poll_fn(|cx| Pin::new(&mut server).poll(cx)).await.into_new_address().expect("an address");
        // No one listens on `::1`: the second address has to be tried.
        let addr = addr.replace(0, |_| Some(libp2p::multiaddr::Protocol::Dns("localhost".into())));
        let mut client = Transport::system(tcp::Transport::default()).boxed();
        let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse };
        client.dial(addr.expect("two components"), opts).expect("a name").await.expect("a connection");
    });
}
