//! What a connection took along when it died is heard afterwards.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use crate::net::{Dir, LOOPBACK, Node, until};

/// Carries TCP between a port of its own and another one, until it does not.
struct Link {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// What is sent into it gets nowhere, and nobody notices.
    is_dead: AtomicBool,
    /// Bytes that got nowhere, from the dialler and to it.
    swallowed: [AtomicUsize; 2],
    streams: Mutex<Vec<TcpStream>>,
}

/// A message of a room is longer than this, and a keep-alive shorter.
const MESSAGE_BYTES: usize = 150;

impl Link {
    fn new(to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let state = Arc::new(State::default());
        let link = Link { port, state: state.clone() };
        thread::spawn(move || {
            for dialler in listener.incoming().map_while(Result::ok) {
                let listener = TcpStream::connect(("127.0.0.1", to)).expect("somebody listens");
                let ways = [(&dialler, &listener), (&listener, &dialler)];
                for (way, (from, to)) in ways.into_iter().enumerate() {
                    let (mut from, mut to) = (from.try_clone().expect("open"), to.try_clone().expect("open"));
                    let state = state.clone();
                    thread::spawn(move || {
                        let mut buf = [0; 4096];
                        while let Ok(count @ 1..) = from.read(&mut buf) {
                            if state.is_dead.load(Ordering::SeqCst) {
                                state.swallowed[way].fetch_add(count, Ordering::SeqCst);
                            } else if to.write_all(&buf[..count]).is_err() {
                                return;
                            }
                        }
                        // The other way ends, too; it may have already.
                        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                    });
                }
                state.streams.lock().expect("no panics").extend([dialler, listener]);
            }
        });
        link
    }

    fn die(&self) {
        self.state.is_dead.store(true, Ordering::SeqCst);
    }

    /// Waits until something was said into it from both ends, closes what there is, and carries the next connection.
    fn come_back(&self) {
        let is_enough = |bytes: &AtomicUsize| bytes.load(Ordering::SeqCst) >= MESSAGE_BYTES;
        until("words into the void", || self.state.swallowed.iter().all(is_enough).then_some(()));
        for stream in self.state.streams.lock().expect("no panics").drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.state.is_dead.store(false, Ordering::SeqCst);
    }
}

#[test]
fn what_was_said_into_a_dead_connection_is_heard_when_there_is_another() {
    let quiet = ["--tcp-only", "--no-discovery"];
    let mut ada = Node::start("ada", &quiet);
    let port = ada.addr.split('/').nth(4).and_then(|port| port.parse().ok()).expect("/ip4/IP/tcp/PORT");
    let link = Link::new(port);
    let addr = format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", link.port, ada.peer);
    let words = [&["run", "--listen", LOOPBACK, "--bootstrap", &addr], &quiet[..]].concat();
    let mut bob = Node::start_in(Arc::new(Dir::new()), "bob", &words);
    ada.meets(&bob);
    bob.meets(&ada);
    ada.say("before");
    bob.hear("before");

    link.die();
    ada.say("from ada");
    bob.say("from bob");
    link.come_back();
    ada.event_of("peer_disconnected", &bob.peer);
    bob.event_of("peer_disconnected", &ada.peer);
    assert!(ada.other_messages().is_empty() && bob.other_messages().is_empty(), "the link was dead");
    bob.hear("from ada");
    ada.hear("from bob");
    assert_eq!((ada.stat("delivered"), bob.stat("delivered")), (1.0, 2.0), "once each");
}

/// Who was not there does not hear what was said: the memory is for those who were.
#[test]
fn a_newcomer_is_not_told_what_was_said_before() {
    let mut ada = Node::start("ada", &[]);
    let mut bob = Node::beside(&ada, "bob", &[]);
    ada.meets(&bob);
    bob.meets(&ada);
    ada.say("between us");
    bob.hear("between us");
    let mut eve = Node::beside(&ada, "eve", &[]);
    ada.meets(&eve);
    eve.meets(&ada);
    ada.say("hello, eve");
    eve.hear("hello, eve");
    assert!(eve.other_messages().is_empty());
}
