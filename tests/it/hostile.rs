//! Peers that mean harm: what they send is not shown, not passed on, and counted.
//!
//! ```text
//!   hostile peers ── target ── beyond
//! ```
//! A message of the target's own follows each attack on the way to the node beyond. What the target had
//! passed on would have come before it, because a connection keeps the order.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, Swarm,
    gossipsub::{self, IdentTopic, MessageAuthenticity, ValidationMode},
    identity::Keypair,
    multiaddr::Protocol,
    swarm::{self, SwarmEvent},
};
use prost::Message as _;
use smol::Executor;
use warren::{
    limits,
    rooms::{
        Room,
        clock::Timestamp,
        envelope::{Body, seal},
    },
    transport::{self, Carriers},
};

use crate::net::{Node, PATIENCE, pair, until};

/// Everything that counts what was not shown.
const COUNTERS: [&str; 6] = ["duplicate", "stale", "forged", "malformed", "oversized", "unknown"];

/// A peer that speaks the same protocols as warren and says whatever a test wants.
pub(crate) struct Hostile {
    say: Option<async_channel::Sender<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Hostile {
    /// A hostile peer in the lobby of the node at `addr`, once they know each other.
    pub(crate) fn meet(addr: &str) -> Self {
        let addr: Multiaddr = addr.parse().expect("a multiaddr");
        let (say, said) = async_channel::unbounded();
        let (met, has_met) = mpsc::channel();
        let thread = thread::spawn(move || {
            let executor = Arc::new(Executor::new());
            let mut swarm = swarm(executor.clone());
            swarm.behaviour_mut().subscribe(&topic()).expect("subscribes");
            swarm.dial(addr).expect("dials");
            smol::block_on(executor.run(speak(swarm, said, met)));
        });
        has_met.recv_timeout(PATIENCE).expect("they meet");
        Self { say: Some(say), thread: Some(thread) }
    }

    pub(crate) fn say(&self, data: &[u8]) {
        self.say.as_ref().expect("open").send_blocking(data.to_vec()).expect("its thread lives");
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.say = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("the hostile peer panicked");
        }
    }
}

/// Publishes what it is given until there is nothing more.
async fn speak(
    mut swarm: Swarm<gossipsub::Behaviour>,
    said: async_channel::Receiver<Vec<u8>>,
    met: mpsc::Sender<()>,
) {
    loop {
        let event = async { Some(Err(swarm.select_next_some().await)) };
        let data = async { said.recv().await.ok().map(Ok) };
        match smol::future::or(event, data).await {
            // The test may have seen enough before.
            Some(Err(SwarmEvent::Behaviour(gossipsub::Event::Subscribed { .. }))) => drop(met.send(())),
            Some(Err(SwarmEvent::OutgoingConnectionError { error, .. })) => panic!("{error}"),
            Some(Err(_)) => {}
            Some(Ok(data)) => {
                swarm.behaviour_mut().publish(topic(), data).expect("publishes");
            }
            None => return,
        }
    }
}

fn swarm(executor: Arc<Executor<'static>>) -> Swarm<gossipsub::Behaviour> {
    let key = Keypair::generate_ed25519();
    // Every message has a new id on this side, so that the same bytes can be said twice; and nothing is passed
    // on or offered, so that the target hears what the test says and nothing else.
    let number = AtomicU64::new(0);
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(move |_| number.fetch_add(1, Ordering::Relaxed).to_be_bytes().to_vec().into())
        .gossip_lazy(0)
        .gossip_factor(0.0)
        .build()
        .expect("a configuration");
    let behaviour = gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, config).expect("a behaviour");
    let spawn = move |task: Pin<Box<dyn Future<Output = ()> + Send>>| executor.spawn(task).detach();
    let config = swarm::Config::with_executor(spawn).with_idle_connection_timeout(PATIENCE * 10);
    let transport = transport::build(&key, Carriers::Tcp).expect("a transport").transport;
    Swarm::new(transport, behaviour, key.public().to_peer_id(), config)
}

fn topic() -> IdentTopic {
    IdentTopic::new("lobby")
}

/// Two nodes in the lobby with each other in their mesh: the target and the one beyond.
fn two() -> (Node, Node) {
    let (mut target, mut beyond) = pair();
    target.until_mesh(1);
    beyond.until_mesh(1);
    (target, beyond)
}

/// An envelope as warren makes it, of an author who is new here, `age` ago.
fn envelope(room: &str, text: &str, age: Duration) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let time = Timestamp::from_ms((now - age).as_millis() as u64);
    let room: Room = room.parse().expect("a room");
    let nick = "mallory".parse().expect("a nickname");
    seal(&Keypair::generate_secp256k1(), &room, &nick, time, &Body::Text(text.into())).expect("signs")
}

fn fresh(text: &str) -> Vec<u8> {
    envelope("lobby", text, Duration::ZERO)
}

/// The outer layer of the wire format, as `rooms/envelope.rs` describes it.
#[derive(Clone, PartialEq, prost::Message)]
struct Sealed {
    #[prost(bytes = "vec", tag = "1")]
    content: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    signature: Vec<u8>,
}

/// Says each of `attacks` as a peer of its own, and checks that the target counts it under `counter`, shows
/// nothing, and passes nothing on.
fn is_refused(attacks: &[Vec<u8>], counter: &str) {
    let (mut target, mut beyond) = two();
    for (n, attack) in attacks.iter().enumerate() {
        let hostile = Hostile::meet(&target.addr);
        hostile.say(attack);
        target.until_stat(counter, n as u32 + 1);
        target.say("what comes after");
        beyond.hear("what comes after");
    }
    for other in COUNTERS.iter().filter(|other| **other != counter) {
        assert_eq!(target.stat(other), 0.0, "{other}");
    }
    assert_eq!(target.stat("delivered"), 0.0);
    nothing_but(&mut beyond, attacks.len());
    beyond.say("the way back");
    target.hear("the way back");
    assert!(target.other_messages().is_empty());
}

/// The node beyond was told `delivered` messages, which the test has taken, and nothing bad.
fn nothing_but(beyond: &mut Node, delivered: usize) {
    for counter in COUNTERS {
        assert_eq!(beyond.stat(counter), 0.0, "{counter}");
    }
    assert_eq!(beyond.stat("delivered"), delivered as f64);
    let others = beyond.other_messages();
    assert!(others.is_empty(), "{others:?}");
}

/// Without this the tests below would prove nothing.
#[test]
fn a_good_message_of_a_raw_peer_is_shown_and_passed_on_once() {
    let (mut target, mut beyond) = two();
    let (first, second) = (Hostile::meet(&target.addr), Hostile::meet(&target.addr));
    let good = fresh("a good message");
    first.say(&good);
    for node in [&mut target, &mut beyond] {
        assert_eq!(node.hear("a good message").text("nick"), "mallory");
    }
    // At once again, by its sender and by another one: gossipsub knows it by its id.
    first.say(&good);
    second.say(&good);
    // What follows on the same connections shows that those have been read.
    first.say(&fresh("after the first"));
    second.say(&fresh("after the second"));
    for node in [&mut target, &mut beyond] {
        node.hear("after the first");
        node.hear("after the second");
        assert!(node.other_messages().is_empty());
        assert_eq!(node.stat("delivered"), 3.0);
    }
}

#[test]
fn a_forged_signature_is_refused() {
    let mut flipped = fresh("flipped");
    *flipped.last_mut().expect("bytes") ^= 1;
    let (mine, theirs) = (fresh("in another's name"), fresh("something else"));
    let mut mixed = Sealed::decode(&*mine).expect("decodes");
    mixed.signature = Sealed::decode(&*theirs).expect("decodes").signature;
    let mut changed = Sealed::decode(&*fresh("changed text")).expect("decodes");
    *changed.content.last_mut().expect("bytes") ^= 1;
    let mut unsigned = changed.clone();
    unsigned.signature.clear();
    let forged: Vec<_> =
        [mixed, changed, unsigned].iter().map(Sealed::encode_to_vec).chain([flipped]).collect();
    is_refused(&forged, "forged");
}

#[test]
fn what_is_no_envelope_of_this_room_is_refused() {
    let mut random = fastrand::Rng::with_seed(7);
    let noise = |length: usize| std::iter::repeat_with(|| random.u8(..)).take(length).collect::<Vec<u8>>();
    let noise: Vec<_> = [1, 300, limits::ENVELOPE_BYTES].map(noise).into();
    let other_room = envelope("elsewhere", "carried over", Duration::ZERO);
    let longer = [fresh("one byte pair more"), vec![0x18, 0]].concat();
    let long_text = envelope("lobby", &"x".repeat(limits::TEXT_BYTES + 1), Duration::ZERO);
    let bare = b"bare text, as in a plain room".to_vec();
    is_refused(&[noise, vec![other_room, longer, long_text, bare]].concat(), "malformed");
}

#[test]
fn what_is_too_large_is_refused() {
    let sealed = envelope("lobby", &"x".repeat(limits::ENVELOPE_BYTES), Duration::ZERO);
    is_refused(&[sealed, vec![0; limits::ENVELOPE_BYTES + 1], vec![b'x'; 60_000]], "oversized");
}

#[test]
fn what_was_said_long_ago_is_not_shown() {
    let age = limits::STALE_AFTER + Duration::from_secs(60);
    is_refused(&[envelope("lobby", "old", age), envelope("lobby", "older", age * 1000)], "stale");
}

#[test]
fn a_later_version_is_neither_shown_nor_passed_on() {
    // Field 1, a varint, is the version: 1 is written as 08 01.
    let mut later = Sealed::decode(&*fresh("from the future")).expect("decodes");
    assert_eq!(later.content[..2], [8, 1]);
    later.content[1] = 2;
    // Nothing at all is, in protobuf, an envelope of version 0.
    is_refused(&[later.encode_to_vec(), Vec::new()], "unknown");
}

/// gossipsub forgets an id after a while; the replay filter does not.
#[test]
fn a_replayed_message_is_not_shown_again() {
    let (mut target, mut beyond) = two();
    let first = Hostile::meet(&target.addr);
    let good = fresh("once and only once");
    first.say(&good);
    let begin = Instant::now();
    target.hear("once and only once");
    beyond.hear("once and only once");
    drop(first);

    // It answers for a while, and then gossipsub takes the message for a new one.
    let mut replays = 0;
    until("a replay that gossipsub has forgotten", || {
        let again = Hostile::meet(&target.addr);
        again.say(&good);
        again.say(&fresh("behind the replay"));
        target.hear("behind the replay");
        beyond.hear("behind the replay");
        replays += 1;
        thread::sleep(Duration::from_secs(1));
        (target.stat("duplicate") > 0.0).then_some(())
    });
    assert!(begin.elapsed() >= limits::GOSSIP_SEEN_TTL, "{:?}", begin.elapsed());
    assert_eq!(target.stat("duplicate"), 1.0);
    assert_eq!(target.stat("delivered"), f64::from(1 + replays));
    nothing_but(&mut beyond, 1 + replays as usize);
    assert!(target.other_messages().is_empty());
}

/// Three bad messages, and a peer is heard no more; those who are honest are.
#[test]
fn a_peer_that_goes_on_is_not_listened_to() {
    let (mut target, mut beyond) = two();
    let hostile = Hostile::meet(&target.addr);
    for n in 0..3u8 {
        hostile.say(&[n; 40]);
    }
    target.until_stat("malformed", 3);
    for n in 3..200u8 {
        hostile.say(&[n; 40]);
    }
    hostile.say(&fresh("trust me"));
    // A second opinion on a way that is as long, and the end of the hostile connection.
    let honest = Hostile::meet(&target.addr);
    honest.say(&fresh("an honest word"));
    target.hear("an honest word");
    beyond.hear("an honest word");
    drop(hostile);
    target.event("peer_disconnected");
    assert_eq!(target.stat("malformed"), 3.0);
    nothing_but(&mut beyond, 1);
    assert!(target.other_messages().is_empty());
}

/// A flood costs its sender the connection's welcome, and nobody else anything.
#[test]
fn a_flood_of_good_messages_leaves_the_room_usable() {
    let (mut target, mut beyond) = two();
    let hostile = Hostile::meet(&target.addr);
    let key = Keypair::generate_ed25519();
    let (room, nick): (Room, _) = ("lobby".parse().expect("valid"), "mallory".parse().expect("valid"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    for n in 0..500 {
        let body = Body::Text(format!("flood {n}"));
        hostile.say(&seal(&key, &room, &nick, Timestamp::from_ms(now + n), &body).expect("signs"));
        if n % 100 == 0 {
            target.say(&format!("under water {n}"));
            beyond.hear(&format!("under water {n}"));
            beyond.say(&format!("as well {n}"));
            target.hear(&format!("as well {n}"));
        }
    }
    target.hear("flood 499");
    beyond.hear("flood 499");
}

#[test]
fn connections_that_say_nothing_or_nonsense_do_no_harm() {
    let (mut target, mut beyond) = two();
    let addr = socket_addr(&target.addr);
    let mut random = fastrand::Rng::with_seed(11);
    let mut connections = Vec::new();
    for n in 0..150 {
        let mut connection = TcpStream::connect(addr).expect("the node accepts");
        let noise: Vec<u8> = match n % 4 {
            0 => Vec::new(),
            1 => std::iter::repeat_with(|| random.u8(..)).take(2000).collect(),
            2 => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            // The right beginning, and then nothing of it.
            _ => [b"\x13/multistream/1.0.0\n\x07/noise\n".to_vec(), vec![0xff; 500]].concat(),
        };
        // The node may have hung up already.
        let _ = connection.write_all(&noise);
        connections.push(connection);
        if n % 50 == 0 {
            target.say("under attack");
            beyond.hear("under attack");
        }
    }
    target.say("still here");
    beyond.hear("still here");
    until("failures", || (target.stat("inboundFailures") >= 50.0).then_some(()));
    assert_eq!(target.stat("connections"), 1.0);

    drop(connections);
    let mut late = Node::beside(&target, "late", &[]);
    late.meets(&target);
    target.meets(&late);
    target.say("welcome");
    late.hear("welcome");
}

#[test]
fn a_crowd_comes_and_goes() {
    let (mut target, mut beyond) = pair();
    let addr = target.addr.clone();
    let crowd: Vec<Hostile> = (0..24).map(|_| Hostile::meet(&addr)).collect();
    assert_eq!(target.stat("connections"), 25.0);
    target.say("a full house");
    beyond.hear("a full house");
    drop(crowd);
    until("an empty house", || (target.stat("connections") == 1.0).then_some(()));
    target.say("quiet again");
    beyond.hear("quiet again");
}

fn socket_addr(addr: &str) -> SocketAddr {
    let addr: Multiaddr = addr.parse().expect("a multiaddr");
    match addr.iter().collect::<Vec<_>>()[..] {
        [Protocol::Ip4(ip), Protocol::Tcp(port), _] => (ip, port).into(),
        _ => panic!("not IPv4: {addr}"),
    }
}
