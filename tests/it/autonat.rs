//! Whether others can dial a node: asked of nodes, of upstream's servers and of liars, and answered to upstream's
//! clients and to those who want something else dialled.
//!
//! All of them are on the loopback interface, which is a world of its own to them.

use std::{
    net::{TcpListener, UdpSocket},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, Stream, Swarm, identify,
    identity::Keypair,
    swarm::{self, NetworkBehaviour, SwarmEvent, behaviour::toggle::Toggle},
};
use libp2p_autonat::v2::{client, server};
use libp2p_stream::Control;
use warren::{
    limits,
    nat::autonat::{DIAL_BACK, DIAL_REQUEST},
    transport::{self, Carriers},
};

use crate::net::{Dir, LOOPBACK, Node, PATIENCE, until};

fn relay(options: &[&str]) -> Node {
    let words = [&["relay", "--listen", LOOPBACK], options].concat();
    Node::start_in(Arc::new(Dir::new()), "relay", &words)
}

fn reachable_at(node: &mut Node) -> Vec<String> {
    let is_reachable = |event: &crate::net::Json| {
        event.text("event") == "reachability" && event.text("verdict") == "reachable"
    };
    node.wait("that others can dial it", is_reachable).texts("addrs")
}

/// Without the peer ID.
fn socket_of(addr: &str) -> String {
    addr.split("/p2p/").next().expect("a first part").to_owned()
}

#[test]
fn who_can_be_dialled_hears_so_and_says_where() {
    let mut relay = relay(&[]);
    let mut ada = Node::beside(&relay, "ada", &[]);
    let here = socket_of(&ada.addr);
    assert_eq!(reachable_at(&mut ada), [here.as_str()]);
    until("ada says where", || ada.ask("whoami", &[]).texts("external").contains(&here).then_some(()));
    // Now it can be asked itself.
    assert_eq!(reachable_at(&mut relay), [socket_of(&relay.addr)]);
    // Nobody has lost a connection by all the dialling, nor heard of others.
    assert_eq!([ada.peers(), relay.peers()], [[relay.peer.clone()], [ada.peer.clone()]]);
}

#[test]
fn an_upstream_server_is_asked_and_believed() {
    let server = Stranger::start(Role::Server, None);
    let mut ada = Node::start("ada", &["--bootstrap", &server.addr]);
    assert_eq!(reachable_at(&mut ada), [socket_of(&ada.addr)]);
}

#[test]
fn an_upstream_client_is_dialled_back() {
    let relay = relay(&[]);
    let client = Stranger::start(Role::Client, Some(&relay.addr));
    assert_eq!(client.says(), format!("confirmed {}", socket_of(&client.addr)));
}

#[test]
fn a_liar_is_not_believed() {
    for role in [Role::Claims, Role::ClaimsOverTheOldConnection] {
        let liar = Stranger::start(role, None);
        let mut ada = Node::start("ada", &["-v", "--bootstrap", &liar.addr]);
        ada.program.until_logged("Lied");
        assert!(ada.ask("whoami", &[]).texts("external").is_empty());
    }
}

#[test]
fn what_is_dialled_is_dialled_from_a_new_port() {
    let listen = ["--listen", "/ip4/127.0.0.1/udp/0/quic-v1"];
    let mut relay = relay(if cfg!(feature = "quic") { &listen } else { &[] });
    let ours: Vec<String> = relay.ask("whoami", &[]).texts("listening");
    let tcp = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let udp = UdpSocket::bind(("127.0.0.1", 0)).expect("a port");
    udp.set_read_timeout(Some(PATIENCE)).expect("set");
    let at = [
        format!("/ip4/127.0.0.1/tcp/{}", tcp.local_addr().expect("bound").port()),
        format!("/ip4/127.0.0.1/udp/{}/quic-v1", udp.local_addr().expect("bound").port()),
    ];
    let by_tcp = ours.iter().find(|addr| addr.contains("/tcp/")).expect("it listens on TCP");
    let relay_addr = format!("{by_tcp}/p2p/{}", relay.peer);
    tcp.set_nonblocking(true).expect("set");
    let asker = Stranger::start(Role::Asks(vec![at[0].clone()]), Some(&relay_addr));
    let (stream, from) = until("somebody dials", || tcp.accept().ok());
    drop(stream);
    assert!(!ours.iter().any(|addr| addr.contains(&format!("/tcp/{}", from.port()))), "{from}, {ours:?}");
    // It is the asker's own address, and nobody there who speaks libp2p: E_DIAL_ERROR.
    assert_eq!(asker.says(), "[7, 18, 5, 8, 200, 1, 24, 100]");
    if cfg!(feature = "quic") {
        let _asker = Stranger::start(Role::Asks(vec![at[1].clone()]), Some(&relay_addr));
        let (_, from) = udp.recv_from(&mut [0; 1500]).expect("somebody dials");
        assert!(
            !ours.iter().any(|addr| addr.contains(&format!("/udp/{}/", from.port()))),
            "{from}, {ours:?}"
        );
    }
}

#[test]
fn nobody_has_a_relay_knock_where_he_likes_and_not_without_end() {
    let mut relay = relay(&["-v"]);
    let private = [
        "/ip4/10.0.0.1/tcp/80",
        "/ip4/192.168.1.1/tcp/80",
        "/ip4/169.254.1.1/tcp/1",
        "/dns4/localhost/tcp/1",
    ];
    let most = limits::AUTONAT_BURST_PER_PEER as usize;
    let asks = private.iter().cycle().take(most + 3).map(|addr| (*addr).to_owned());
    let asker = Stranger::start(Role::Asks(asks.collect()), Some(&relay.addr));
    for _ in 0..most {
        assert_eq!(asker.says(), "[4, 18, 2, 8, 101]", "E_DIAL_REFUSED");
    }
    for _ in 0..3 {
        assert_eq!(asker.says(), "[4, 18, 2, 8, 100]", "E_REQUEST_REJECTED");
    }
    // Somebody else has his allowance still.
    let mut ada = Node::beside(&relay, "ada", &[]);
    assert_eq!(reachable_at(&mut ada), [socket_of(&ada.addr)]);
    assert_eq!(relay.stat("dialFailures"), 0.0);
}

#[test]
fn who_does_not_pay_is_not_waited_for() {
    let relay = relay(&["-v"]);
    let miser = Stranger::start(Role::DoesNotPay, Some(&relay.addr));
    assert_eq!(miser.says(), "asked");
    assert_eq!(miser.says(), "turned out");
}

/// What a stranger does.
#[derive(Clone, PartialEq)]
enum Role {
    /// As upstream does.
    Server,
    Client,
    /// Says that it has dialled, and has not.
    Claims,
    /// And brings the nonce back where it got it.
    ClaimsOverTheOldConnection,
    /// Wants these dialled, one after the other, and says what it is told.
    Asks(Vec<String>),
    /// Wants somebody else dialled.
    DoesNotPay,
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    streams: libp2p_stream::Behaviour,
    server: Toggle<server::Behaviour>,
    client: Toggle<client::Behaviour>,
}

/// A peer that is no warren, in a thread of its own.
struct Stranger {
    addr: String,
    said: mpsc::Receiver<String>,
    stop: Option<async_channel::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Stranger {
    fn start(role: Role, dials: Option<&str>) -> Self {
        let (stop, stopped) = async_channel::bounded(1);
        let (tell, said) = mpsc::channel();
        let dials: Option<Multiaddr> = dials.map(|addr| addr.parse().expect("a multiaddr"));
        let thread = thread::spawn(move || {
            let executor = smol::LocalExecutor::new();
            smol::block_on(executor.run(smol::future::or(live(&executor, role, dials, tell), async {
                // Dropped: the test is over.
                let _ = stopped.recv().await;
            })));
        });
        let addr = said.recv_timeout(PATIENCE).expect("it listens");
        Stranger { addr, said, stop: Some(stop), thread: Some(thread) }
    }

    fn says(&self) -> String {
        self.said.recv_timeout(PATIENCE).expect("it says something")
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("the stranger panicked");
        }
    }
}

async fn live(
    executor: &smol::LocalExecutor<'_>,
    role: Role,
    dials: Option<Multiaddr>,
    tell: mpsc::Sender<String>,
) {
    let key = Keypair::generate_ed25519();
    let me = key.public().to_peer_id();
    let transport::Built { transport, driver, .. } =
        transport::build(&key, Carriers::Tcp).expect("a transport");
    executor.spawn(driver).detach();
    let behaviour = Behaviour {
        identify: identify::Behaviour::new(identify::Config::new("/stranger".into(), key.public())),
        streams: libp2p_stream::Behaviour::new(),
        server: (role == Role::Server).then(server::Behaviour::default).into(),
        client: (role == Role::Client).then(client::Behaviour::default).into(),
    };
    let mut control = behaviour.streams.new_control();
    let config = swarm::Config::with_executor(|task| smol::spawn(task).detach())
        .with_idle_connection_timeout(Duration::from_secs(600));
    let mut swarm = Swarm::new(transport, behaviour, me, config);
    swarm.listen_on(LOOPBACK.parse().expect("a multiaddr")).expect("listens");
    if matches!(role, Role::Claims | Role::ClaimsOverTheOldConnection) {
        let back = (role == Role::ClaimsOverTheOldConnection).then(|| control.clone());
        let mut asked = control.accept(DIAL_REQUEST).expect("nobody else accepts them");
        let claiming = async move {
            while let Some((peer, stream)) = asked.next().await {
                // Whoever is lied to may break off.
                let _ = claim(peer, stream, back.clone()).await;
            }
        };
        smol::spawn(claiming).detach();
    }
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => {
                // The test may be over.
                let _ = tell.send(format!("{address}/p2p/{me}"));
                if let Some(addr) = dials.clone() {
                    swarm.dial(addr).expect("dials");
                }
            }
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                let (role, control, tell) = (role.clone(), control.clone(), tell.clone());
                smol::spawn(act(role, peer_id, control, tell)).detach();
            }
            SwarmEvent::ExternalAddrConfirmed { address } => {
                let _ = tell.send(format!("confirmed {address}"));
            }
            _ => {}
        }
    }
}

/// Reads one message, all but its length.
async fn read(stream: &mut Stream) -> std::io::Result<Vec<u8>> {
    let mut length = [0];
    stream.read_exact(&mut length).await?;
    let mut rest = vec![0; length[0].into()];
    stream.read_exact(&mut rest).await?;
    Ok(rest)
}

async fn claim(peer: PeerId, mut stream: Stream, back: Option<Control>) -> std::io::Result<()> {
    let request = read(&mut stream).await?;
    if let Some(mut control) = back {
        let mut back = control.open_stream(peer, DIAL_BACK).await.map_err(std::io::Error::other)?;
        // The request ends with the nonce, as the answer does.
        let nonce = &request[request.len() - 9..];
        back.write_all(&[&[9], nonce].concat()).await?;
        back.flush().await?;
        // It should not be confirmed.
        let confirmed = back.read_exact(&mut [0]).await;
        assert!(confirmed.is_err(), "a nonce was taken that came over the old connection");
    }
    stream.write_all(&[8, 0x12, 6, 0x08, 200, 1, 0x18, 200, 1]).await?;
    stream.close().await
}

async fn act(role: Role, peer: PeerId, mut control: Control, tell: mpsc::Sender<String>) {
    let told = match &role {
        Role::Asks(told) => told.clone(),
        Role::DoesNotPay => vec!["/ip4/203.0.113.1/tcp/1".to_owned()],
        _ => return,
    };
    for addr in told {
        let mut stream = control.open_stream(peer, DIAL_REQUEST).await.expect("it serves");
        let addr = addr.parse::<Multiaddr>().expect("a multiaddr").to_vec();
        let length = addr.len() as u8;
        let request = [&[0x0a, length], &addr[..], &[0x11, 1, 2, 3, 4, 5, 6, 7, 8]].concat();
        let message = [&[length + 13, 0x0a, length + 11], &request[..]].concat();
        stream.write_all(&message).await.expect("it listens");
        stream.flush().await.expect("it listens");
        if let Role::Asks(_) = role {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.expect("an answer");
            // The test may be over.
            let _ = tell.send(format!("{all:?}"));
        } else {
            let _ = tell.send("asked".to_owned());
            // Until the other side has had enough.
            while stream.read(&mut [0; 100]).await.is_ok_and(|n| n > 0) {}
            let _ = tell.send("turned out".to_owned());
        }
    }
}
