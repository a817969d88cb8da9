//! `/warren/punch/1.0.0`: through pairs of NATs that [`super::dcutr`] cannot pass, because one of them gives each
//! destination another outside port.
//!
//! Over the relayed connection the two tell each other what STUN found out about their NATs, make the same
//! [`plan`] of it, and carry it out at the same moment:
//!
//! ```text
//!   steady (one outside port)                    shifty (a port for each destination)
//!     probes many ports of the other's IP  ──▶     opens many sockets, each of which sends
//!     from the one socket that it has      ◀──     to the one port of the other
//! ```
//! A probe that meets one of those sockets comes in, since that socket has sent to just there. It says so, and dials
//! with QUIC from that socket. Where both give ports one after the other, each goes through those that the other is
//! about to give. RFC 5128, section 3.5, describes prediction; guessing is the birthday paradox.

pub mod plan;
mod wire;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Instant,
};

use async_io::Async;
use futures::{
    future::{self, FutureExt, select_all},
    io::{AsyncRead, AsyncWrite},
};
use futures_timer::Delay;
use libp2p::StreamProtocol;

pub use self::plan::{Kind, Nat, Part, Plan};
use self::wire::Hello;
use crate::{
    limits,
    transport::quic::{Datagrams, PUNCH_MAGIC},
    within::within,
};

pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/warren/punch/1.0.0");

/// Names one punch: both sides know it, nobody else does.
pub type Token = [u8; 16];

/// Why there is no hole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the peer sent no message of this protocol")]
    Malformed,
    #[error("the peer took longer than {} s", limits::DCUTR_TIMEOUT.as_secs())]
    Late,
    #[error("there is no plan for these two NATs")]
    NoPlan,
    #[error("no probe met a socket")]
    Missed,
    #[error("no relay that the operator named sees the peer where it says that it is")]
    Unseen,
}

/// What was agreed upon.
#[derive(Debug)]
pub struct Agreement {
    pub plan: Plan,
    pub token: Token,
}

/// A hole, as each side has it.
#[derive(Debug)]
pub enum Hole {
    /// The other side dials, from there; our socket lets it in.
    Expect(SocketAddr),
    /// We dial there, from this socket.
    Dial(SocketAddr, UdpSocket),
}

/// The part of the one who begins. Returns at the moment to act. `seen` finds out whether the peer is where it says: nobody is
/// to have us send a thousand packets to somebody else.
///
/// # Errors
/// See [`Error`]. The stream is of no use then.
pub async fn initiate<S: Future<Output = bool>>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    own: Nat,
    token: Token,
    seen: impl FnOnce(Ipv4Addr) -> S,
) -> Result<Agreement, Error> {
    let part = async {
        let mut stream = stream;
        wire::write(&mut stream, &Hello { nat: own, token }).await?;
        let sent = Instant::now();
        let other = wire::read(&mut stream).await?;
        let round_trip = sent.elapsed();
        wire::write_go(&mut stream).await?;
        // That takes about as long as the word to begin takes to the other side.
        let ((), is_seen) = future::join(Delay::new(round_trip / 2), seen(other.nat.ip())).await;
        agreement(own, other.nat, token, is_seen)
    };
    within(limits::DCUTR_TIMEOUT, part).await.unwrap_or(Err(Error::Late))
}

/// The part of the other one, in the same way.
///
/// # Errors
/// See [`Error`]. The stream is of no use then.
pub async fn respond<S: Future<Output = bool>>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    own: Nat,
    seen: impl FnOnce(Ipv4Addr) -> S,
) -> Result<Agreement, Error> {
    let part = async {
        let mut stream = stream;
        let Hello { nat: other, token } = wire::read(&mut stream).await?;
        wire::write(&mut stream, &Hello { nat: own, token }).await?;
        let (go, is_seen) = future::join(wire::read_go(&mut stream), seen(other.ip())).await;
        go?;
        agreement(own, other, token, is_seen)
    };
    within(limits::DCUTR_TIMEOUT, part).await.unwrap_or(Err(Error::Late))
}

fn agreement(own: Nat, other: Nat, token: Token, is_seen: bool) -> Result<Agreement, Error> {
    if !is_seen {
        return Err(Error::Unseen);
    }
    let seed = u64::from_le_bytes(std::array::from_fn(|i| token[i]));
    let plan = plan::plan(own, other, seed).ok_or(Error::NoPlan)?;
    Ok(Agreement { plan, token })
}

/// Carries out our side of the plan. `datagrams` are those of the listening sockets.
///
/// # Errors
/// [`Error::Missed`] after [`limits::PUNCH_PATIENCE`], or what the kernel says.
pub async fn carry_out(agreement: Agreement, datagrams: &Datagrams) -> Result<Hole, Error> {
    let Agreement { plan, token } = agreement;
    let late = async {
        Delay::new(limits::PUNCH_PATIENCE).await;
        Err(Error::Missed)
    };
    let part = async {
        match plan.part {
            Part::Probe { ip, ports } => probe(ip, &ports, token, datagrams).await,
            Part::Open { sockets, to } => open(sockets, to, token).await,
            Part::Walk { ip, ports } => walk(ip, &ports, token).await,
        }
    };
    smol::future::or(part, late).await
}

/// Steady: sends from the one socket to port after port, until somebody is heard.
async fn probe(ip: Ipv4Addr, ports: &[u16], token: Token, datagrams: &Datagrams) -> Result<Hole, Error> {
    let send = knock(ip, ports, |to| {
        // A datagram that does not go out is one of many that miss.
        let _ = datagrams.send_to(&packet(Word::Here, token), to);
    });
    let hear = async {
        while let Some(datagram) = datagrams.recv().await {
            if read_packet(&datagram.bytes, token).is_some() && datagram.from.ip() == ip {
                for _ in 0..limits::PUNCH_ANSWERS {
                    let _ = datagrams.send_to(&packet(Word::Met, token), datagram.from);
                }
                return Ok(Hole::Expect(datagram.from));
            }
        }
        Err(Error::Missed)
    };
    smol::future::or(hear, send).await
}

/// Knocks at port after port, and then waits for ever.
async fn knock<T>(ip: Ipv4Addr, ports: &[u16], send: impl Fn(SocketAddr)) -> T {
    for burst in ports.chunks(limits::PUNCH_BURST) {
        burst.iter().for_each(|port| send(SocketAddr::from((ip, *port))));
        Delay::new(limits::PUNCH_PACE).await;
    }
    std::future::pending().await
}

/// Shifty, as the other one is: sends from one new socket to port after port, until something is heard.
async fn walk(ip: Ipv4Addr, ports: &[u16], token: Token) -> Result<Hole, Error> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(Async::new)?;
    let send = knock(ip, ports, |to| {
        let _ = socket.get_ref().send_to(&packet(Word::Here, token), to);
    });
    let from = smol::future::or(hear(&socket, |from| from.ip() == ip, token), send).await;
    met(&socket, from, token);
    Ok(Hole::Dial(from, socket.into_inner()?))
}

/// Says that the other side was heard: one of these arrives.
fn met(socket: &Async<UdpSocket>, to: SocketAddr, token: Token) {
    for _ in 0..limits::PUNCH_ANSWERS {
        let _ = socket.get_ref().send_to(&packet(Word::Met, token), to);
    }
}

/// Shifty: opens sockets that all send to one port, until one of them hears something.
async fn open(count: usize, to: SocketAddr, token: Token) -> Result<Hole, Error> {
    let mut sockets = Vec::with_capacity(count);
    for n in 0..count {
        match UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(Async::new) {
            Ok(socket) => sockets.push(socket),
            // Fewer will do when the machine has no more; without any there is no use.
            Err(e) if n == 0 => return Err(e.into()),
            Err(_) => break,
        }
    }
    let winner = {
        let knock = async {
            loop {
                for burst in sockets.chunks(limits::PUNCH_BURST) {
                    for socket in burst {
                        let _ = socket.get_ref().send_to(&packet(Word::Here, token), to);
                    }
                    Delay::new(limits::PUNCH_PACE).await;
                }
                Delay::new(limits::PUNCH_REPEAT).await;
            }
        };
        let heard = sockets.iter().map(|socket| hear(socket, |from| from == to, token).boxed());
        let heard = async { select_all(heard).await.1 };
        smol::future::or(heard, knock).await
    };
    let socket = sockets.swap_remove(winner);
    met(&socket, to, token);
    Ok(Hole::Dial(to, socket.into_inner()?))
}

/// Waits until this socket hears the other side, and returns where from.
async fn hear(socket: &Async<UdpSocket>, fits: impl Fn(SocketAddr) -> bool, token: Token) -> SocketAddr {
    let mut buffer = [0; 64];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, sender)) if fits(sender) && read_packet(&buffer[..len], token).is_some() => {
                return sender;
            }
            Ok(_) => {}
            // As when a router says that nobody is there: the next probe may meet somebody.
            Err(_) => Delay::new(limits::PUNCH_REPEAT).await,
        }
    }
}

/// What a datagram between the two says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// The sender is looking for the other.
    Here = 1,
    /// It has heard the other.
    Met = 2,
}

fn packet(word: Word, token: Token) -> Vec<u8> {
    [&PUNCH_MAGIC[..], &[word as u8], &token[..]].concat()
}

fn read_packet(bytes: &[u8], token: Token) -> Option<Word> {
    let (word, told) = bytes.strip_prefix(&PUNCH_MAGIC)?.split_first()?;
    match (word, told == token) {
        (1, true) => Some(Word::Here),
        (2, true) => Some(Word::Met),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use proptest::prelude::*;

    use super::*;

    fn duplex() -> (Async<std::os::unix::net::UnixStream>, Async<std::os::unix::net::UnixStream>) {
        Async::<std::os::unix::net::UnixStream>::pair().expect("a pair of sockets")
    }

    async fn seen(_: Ipv4Addr) -> bool {
        true
    }

    fn steady(port: u16) -> Nat {
        Nat::Steady { addr: SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 1), port) }
    }

    fn random() -> Nat {
        Nat::Random { ip: Ipv4Addr::new(203, 0, 113, 2) }
    }

    #[test]
    fn both_make_the_same_plan() {
        let (a, b) = duplex();
        let (at_b, at_a) =
            smol::block_on(future::join(initiate(b, steady(7), [3; 16], seen), respond(a, random(), seen)));
        let (at_b, at_a) = (at_b.expect("agreed"), at_a.expect("agreed"));
        assert_eq!((at_b.token, at_a.token), ([3; 16], [3; 16]));
        assert!(matches!(at_b.plan.part, Part::Probe { ip, .. } if ip == Ipv4Addr::new(203, 0, 113, 2)));
        assert!(matches!(at_a.plan.part, Part::Open { to, .. } if to.port() == 7));
    }

    #[test]
    fn two_that_cannot_meet_agree_on_that() {
        let (a, b) = duplex();
        let (at_b, at_a) =
            smol::block_on(future::join(initiate(b, random(), [3; 16], seen), respond(a, random(), seen)));
        assert!(matches!((at_b, at_a), (Err(Error::NoPlan), Err(Error::NoPlan))));
    }

    #[test]
    fn who_is_not_seen_where_it_says_is_not_sent_to() {
        let (a, b) = duplex();
        let unseen = async |ip: Ipv4Addr| ip != Ipv4Addr::new(203, 0, 113, 2);
        let both = future::join(initiate(b, steady(7), [3; 16], unseen), respond(a, random(), seen));
        let (at_b, at_a) = smol::block_on(both);
        assert!(matches!(at_b, Err(Error::Unseen)), "{at_b:?}");
        assert!(matches!(at_a.expect("agreed").plan.part, Part::Open { .. }));
    }

    #[test]
    fn a_packet_is_for_one_punch_only() {
        assert_eq!(read_packet(&packet(Word::Here, [1; 16]), [1; 16]), Some(Word::Here));
        assert_eq!(read_packet(&packet(Word::Met, [1; 16]), [1; 16]), Some(Word::Met));
        assert_eq!(read_packet(&packet(Word::Here, [1; 16]), [2; 16]), None);
        assert_eq!(read_packet(&packet(Word::Here, [1; 16])[1..], [1; 16]), None);
    }

    /// On one machine, with a NAT that is none: the probes are told to go where the sockets happen to be.
    #[test]
    fn a_probe_that_meets_a_socket_makes_a_hole() {
        smol::block_on(async {
            let key = libp2p::identity::Keypair::generate_ed25519();
            let (mut transport, driver) = crate::transport::quic::Transport::new(&key).expect("TLS");
            let driver = smol::spawn(driver);
            let listen: libp2p::Multiaddr = "/ip4/127.0.0.1/udp/0/quic-v1".parse().expect("valid");
            libp2p::Transport::listen_on(&mut transport, libp2p::core::transport::ListenerId::next(), listen)
                .expect("listens");
            let datagrams = transport.datagrams(crate::transport::quic::Kind::Punch);
            let main = datagrams.local_addrs()[0];
            let shifty = open(3, main, [9; 16]);
            let steady = async {
                // The first word of a socket tells where it is, as a port that was guessed well.
                let first = datagrams.recv().await.expect("somebody knocks");
                assert_eq!(read_packet(&first.bytes, [9; 16]), Some(Word::Here));
                let ports = [1, 2, first.from.port()];
                probe(Ipv4Addr::LOCALHOST, &ports, [9; 16], &datagrams).await
            };
            let (dial, expect) = future::join(shifty, steady).await;
            let Ok(Hole::Dial(to, socket)) = dial else { panic!("{dial:?}") };
            let Ok(Hole::Expect(from)) = expect else { panic!("{expect:?}") };
            assert_eq!(to, main);
            assert_eq!(socket.local_addr().expect("bound").ip(), Ipv4Addr::UNSPECIFIED);
            assert_eq!(from.ip(), Ipv4Addr::LOCALHOST);
            drop(driver);
        });
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_panic(bytes: Vec<u8>, token: [u8; 16]) {
            let _ = read_packet(&bytes, token);
            let mut stream = futures::io::Cursor::new(bytes);
            let _ = smol::block_on(wire::read(&mut stream));
        }
    }
}
