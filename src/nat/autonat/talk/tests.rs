use std::os::unix::net::UnixStream;

use async_io::Async;
use futures::{AsyncReadExt, future};
use libp2p::{
    core::{
        Endpoint, Transport as _,
        transport::{DialOpts, ListenerId, PortUse, TransportEvent},
    },
    identity::Keypair,
};
use proptest::prelude::*;

use super::*;
use crate::{
    discovery::scope::Networks,
    transport::{self, Carriers},
};

const HOME: &str = "/ip4/203.0.113.7/tcp/4001";
const ELSEWHERE: &str = "/ip4/198.51.100.1/tcp/4001";

fn addr(text: &str) -> Multiaddr {
    text.parse().expect("a multiaddr")
}

fn pair() -> (Async<UnixStream>, Async<UnixStream>) {
    Async::<UnixStream>::pair().expect("a pair of sockets")
}

fn terms(asker: PeerId) -> Terms {
    Terms { asker, observed: vec![[203, 0, 113, 7].into()], networks: Networks::default() }
}

/// A server that dials nobody.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, price: u32) -> io::Result<Option<bool>> {
    let asker = PeerId::random();
    // There need not be a network.
    let Some(mut request) = receive(stream, &terms(asker), price).await? else { return Ok(None) };
    request.nonce += 1;
    let dial = future::ready(Err::<(PeerId, StreamMuxerBox), _>(io::Error::other("nobody there")));
    request.carry_out(asker, dial).await.map(Some)
}

/// As [`Request::receive`], whatever routes this machine has.
async fn receive<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    terms: &Terms,
    price: u32,
) -> io::Result<Option<Request<S>>> {
    Request::receive_by(stream, terms, price, |_| true).await
}

#[test]
fn an_address_of_the_askers_own_costs_nothing() {
    let (a, b) = pair();
    let home = addr(HOME);
    let (asked, served) = smol::block_on(future::join(ask(a, &home, 7, 100_000), serve(b, 40_000)));
    assert_eq!(asked, (Outcome::Unreached, 0));
    assert_eq!(served.expect("heard"), Some(false));
}

#[test]
fn one_of_somebody_else_is_paid_for() {
    let (a, b) = pair();
    let elsewhere = addr(ELSEWHERE);
    let (asked, served) = smol::block_on(future::join(ask(a, &elsewhere, 7, 100_000), serve(b, 40_000)));
    assert_eq!(asked, (Outcome::Unreached, 40_000));
    assert_eq!(served.expect("heard"), Some(false));
}

#[test]
fn who_does_not_want_to_pay_breaks_off() {
    let (a, b) = pair();
    let elsewhere = addr(ELSEWHERE);
    let (asked, served) = smol::block_on(future::join(ask(a, &elsewhere, 7, 39_999), serve(b, 40_000)));
    assert_eq!(asked, (Outcome::Declined, 0));
    assert!(served.is_err());
}

#[test]
fn nobody_makes_us_pay_more_than_the_specification_says() {
    let (a, mut b) = pair();
    let greedy = async {
        read::<Message>(&mut b).await?;
        let wish = DialDataRequest { index: 0, bytes: 100_001 };
        write(&mut b, &Message { part: Some(Part::DataRequest(wish)) }).await?;
        let mut rest = Vec::new();
        b.read_to_end(&mut rest).await
    };
    let home = addr(HOME);
    let (asked, read) = smol::block_on(future::join(ask(a, &home, 7, u32::MAX), greedy));
    assert_eq!(asked, (Outcome::Failed, 0));
    assert_eq!(read.expect("reads"), 0);
}

#[test]
fn a_second_bill_is_not_paid() {
    let (a, mut b) = pair();
    let greedy = async {
        read::<Message>(&mut b).await?;
        let wish = || DialDataRequest { index: 0, bytes: 30_000 };
        write(&mut b, &Message { part: Some(Part::DataRequest(wish())) }).await?;
        be_paid(&mut b, 30_000).await?;
        write(&mut b, &Message { part: Some(Part::DataRequest(wish())) }).await?;
        let mut rest = Vec::new();
        b.read_to_end(&mut rest).await
    };
    let home = addr(HOME);
    let (asked, read) = smol::block_on(future::join(ask(a, &home, 7, 100_000), greedy));
    assert_eq!(asked, (Outcome::Failed, 30_000));
    assert_eq!(read.expect("reads"), 0);
}

#[test]
fn payment_byte_by_byte_or_in_other_coin_is_not_taken() {
    let piece = |data: Vec<u8>| Message { part: Some(Part::Data(DialDataResponse { data })) };
    let coin = Message { part: Some(Part::Request(DialRequest::default())) };
    for message in [piece(vec![0; 1]), piece(Vec::new()), coin] {
        let (mut a, b) = pair();
        let payer = async {
            let request = DialRequest { addrs: vec![addr(ELSEWHERE).to_vec()], nonce: 7 };
            write(&mut a, &Message { part: Some(Part::Request(request)) }).await?;
            read::<Message>(&mut a).await?;
            loop {
                write(&mut a, &message).await?;
            }
            #[allow(unreachable_code)]
            io::Result::Ok(())
        };
        let (paid, served) = smol::block_on(future::join(payer, serve(b, 30_000)));
        assert!(paid.is_err() && served.is_err(), "it was served: {message:?}");
    }
}

#[test]
fn answers_mean_what_the_specification_says() {
    let answer = |status, index, dial_status| {
        let (a, mut b) = pair();
        let home = addr(HOME);
        let server = async {
            read::<Message>(&mut b).await?;
            respond(b, DialResponse { status, index, dial_status }).await
        };
        let ((outcome, _), served) = smol::block_on(future::join(ask(a, &home, 7, 0), server));
        served.expect("heard");
        outcome
    };
    assert_eq!(answer(200, 0, 200), Outcome::Reached);
    assert_eq!(answer(200, 0, 100), Outcome::Unreached);
    assert_eq!(answer(200, 0, 101), Outcome::Declined);
    assert_eq!(answer(101, 0, 0), Outcome::Declined);
    assert_eq!(answer(100, 0, 0), Outcome::Busy);
    for nonsense in [(0, 0, 0), (200, 1, 200), (200, 0, 0), (7, 0, 200)] {
        assert_eq!(answer(nonsense.0, nonsense.1, nonsense.2), Outcome::Failed, "{nonsense:?}");
    }
}

#[test]
fn who_wants_nothing_that_may_be_dialled_is_told_so() {
    for told in ["/ip4/192.168.1.1/tcp/80", "/ip4/127.0.0.1/tcp/22", "/dns4/example.org/tcp/1"] {
        let (a, b) = pair();
        let told = addr(told);
        let (asked, served) = smol::block_on(future::join(ask(a, &told, 7, 100_000), serve(b, 40_000)));
        assert_eq!(asked, (Outcome::Declined, 0));
        assert_eq!(served.expect("heard"), None);
    }
}

/// What the one does who is dialled back.
#[derive(Clone, Copy, PartialEq)]
enum Home {
    Takes,
    /// It opens no mouth.
    Ignores,
    /// It has another key than the asker.
    IsSomebodyElse,
}

/// The next connection that comes in, whatever comes of it. Returns the nonce if it brings one.
async fn dialled(mut listener: transport::Authenticated, home: Home) -> Option<u64> {
    let upgrade = loop {
        match poll_fn(|cx| Pin::new(&mut listener).poll(cx)).await {
            TransportEvent::Incoming { upgrade, .. } => break upgrade,
            _ => continue,
        }
    };
    let (_, mut muxer) = upgrade.await.ok()?;
    let stream = poll_fn(|cx| match muxer.poll_inbound_unpin(cx) {
        Poll::Ready(stream) => Poll::Ready(stream),
        Poll::Pending => match muxer.poll_unpin(cx) {
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Ready(Ok(_)) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        },
    });
    let stream = stream.await.ok()?;
    let mut driven = Driven(muxer);
    let taken = async {
        let negotiated = multistream_select::listener_select_proto(stream, std::iter::once(DIAL_BACK));
        let (_, mut stream) = negotiated.await.ok()?;
        let nonce = hear(&mut stream).await.ok()?;
        match home {
            Home::Takes => confirm(stream).await.ok()?,
            _ => std::future::pending().await,
        }
        Some(nonce)
    };
    let nonce = match select(std::pin::pin!(taken), &mut driven).await {
        Either::Left((nonce, _)) => nonce,
        Either::Right(_) => return None,
    };
    // Until the other side closes it.
    driven.await;
    nonce
}

/// A real connection from a new port, and the nonce over it. Returns whether the server has reached the asker, and the
/// nonce that arrived.
fn dial_back(carriers: Carriers, listen: &str, home: Home) -> (bool, Option<u64>) {
    let executor = smol::LocalExecutor::new();
    let (at_home, server) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let asker = match home {
        Home::IsSomebodyElse => PeerId::random(),
        _ => at_home.public().to_peer_id(),
    };
    smol::block_on(executor.run(async {
        let (mut listener, driver) = transport::beside(&at_home, carriers).expect("a transport");
        executor.spawn(driver).detach();
        let (mut dialler, driver) = transport::beside(&server, carriers).expect("a transport");
        executor.spawn(driver).detach();
        listener.listen_on(ListenerId::next(), addr(listen)).expect("listens");
        let here = loop {
            match poll_fn(|cx| Pin::new(&mut listener).poll(cx)).await {
                TransportEvent::NewAddress { listen_addr, .. } => break listen_addr,
                _ => continue,
            }
        };
        let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let dial = dialler.dial(here.clone(), opts).expect("dials");
        let (mut a, b) = pair();
        let wanted = Wanted { addr: here, index: 0, is_others: false };
        let request = Request { stream: b, wanted, nonce: 99 };
        let told = async { read::<Message>(&mut a).await.expect("an answer").part };
        let (carried, told, nonce) =
            future::join3(request.carry_out(asker, dial), told, dialled(listener, home)).await;
        let is_reached = carried.expect("told");
        let Some(Part::Response(told)) = told else { panic!("no answer: {told:?}") };
        assert_eq!((told.status, told.dial_status == dial_status::OK), (status::OK, is_reached));
        (is_reached, nonce)
    }))
}

#[test]
fn the_nonce_arrives_over_a_connection_of_its_own() {
    assert_eq!(dial_back(Carriers::Tcp, "/ip4/127.0.0.1/tcp/0", Home::Takes), (true, Some(99)));
    #[cfg(feature = "quic")]
    assert_eq!(dial_back(Carriers::Quic, "/ip4/127.0.0.1/udp/0/quic-v1", Home::Takes), (true, Some(99)));
}

#[test]
fn a_nonce_that_is_not_confirmed_has_not_arrived() {
    assert!(!dial_back(Carriers::Tcp, "/ip4/127.0.0.1/tcp/0", Home::Ignores).0);
}

#[test]
fn somebody_else_at_the_address_is_not_the_asker() {
    let nobody = (false, None);
    assert_eq!(dial_back(Carriers::Tcp, "/ip4/127.0.0.1/tcp/0", Home::IsSomebodyElse), nobody);
}

proptest! {
    #[test]
    fn any_bytes_from_a_server_are_an_outcome(bytes: Vec<u8>) {
        let (a, mut b) = pair();
        let home = addr(HOME);
        let server = async {
            let _ = b.write_all(&bytes).await;
            drop(b);
        };
        let ((outcome, paid), ()) = smol::block_on(future::join(ask(a, &home, 7, 1000), server));
        prop_assert!(outcome != Outcome::Reached && paid == 0);
    }

    #[test]
    fn any_bytes_from_an_asker_are_a_request_or_an_error(bytes: Vec<u8>) {
        let (mut a, b) = pair();
        let asker = async {
            let _ = a.write_all(&bytes).await;
            drop(a);
        };
        let (served, ()) = smol::block_on(future::join(serve(b, 30_000), asker));
        prop_assert!(!matches!(served, Ok(Some(true))));
    }
}
