//! Two nodes behind NATs meet through a relay, and punch: each of the three may be warren or the other
//! implementation.
//!
//! ```text
//!   dialler ── gateway ──┐                  ┌── gateway ── target
//!   192.168.1.2          │                  │              192.168.1.2
//!                   11.N.N.0/24        11.N.N.0/24
//!                        └─── the Internet ─┘              30 ms each way
//!                                  │
//!                             11.N.N.0/24
//!                                relay :4001
//! ```
//! Both reserve a place at the relay, and the dialler is told the target's address there. The NATs are those of the
//! lab of NATs (`nat.rs`), verified by its reflector. So that there is time to talk through the relay, one gateway
//! drops whatever goes straight from home to home until they have; then DCUtR, which is at it already, must succeed.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::pair::{Change, Pair};
use crate::lab::home::{self, Home, INTERFACE};
use crate::lab::kind::Kind::{self, PortRestricted, SymmetricRandom};
use crate::lab::reflector;
use crate::lab::{Host, Lab};
use crate::node::{Node, PROMPTLY};
use crate::program::{self, Carrier, Program};
use crate::scratch::Scratch;

/// One way, between any two machines on the Internet.
const DELAY: Duration = Duration::from_millis(30);

/// Where relays listen.
const PORT: u16 = 4001;

/// For so long those stay relayed at least who cannot be direct, while upstream makes its three attempts.
const TO_STAY_RELAYED: Duration = Duration::from_secs(3);

/// Meetings at once.
const JOBS: usize = 4;

/// What all meetings need, made once.
struct World<'a> {
    lab: &'a Lab,
    scratch: &'a Scratch,
    logs: Option<&'a Path>,
}

/// Who meets whom, where and how.
#[derive(Clone, Copy)]
struct Meeting<'a> {
    relay: &'a Program,
    dialler: &'a Program,
    target: &'a Program,
    carrier: Carrier,
    /// What both live behind. Port-restricted NATs are punched, random symmetric ones are not.
    kind: Kind,
    /// The way from home to home is shut until they have talked through the relay.
    is_shut: bool,
}

/// All meetings of a peer with warren. Prints a line for each and returns how many failed.
///
/// # Errors
/// There can be no lab, or it has a fault of its own.
pub(super) fn run(peer: &Program, warren: &Program, scratch: &Scratch, logs: Option<&Path>) -> Result<usize> {
    if let Some(logs) = logs {
        std::fs::create_dir_all(logs).with_context(|| format!("cannot make {}", logs.display()))?;
    }
    let lab = Lab::new()?;
    if let Err(e) = lab.slow_down(DELAY) {
        println!("      without delay, as it cannot be made: {e:#}");
    }
    reflector::verify(&lab, &[PortRestricted, SymmetricRandom], false)?;
    let meetings = meetings(peer, warren);
    let world = World { lab: &lab, scratch, logs };
    let (next, failures, lines) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(()));
    let work = || {
        while let number = next.fetch_add(1, Ordering::Relaxed)
            && let Some(meeting) = meetings.get(number)
        {
            let done = meeting.hold(&world, number as u16);
            // Lines must not mix; a panic elsewhere does no harm to them.
            let _lines = lines.lock();
            match done {
                Ok(times) => println!("ok    {}: {times}", meeting.title()),
                Err(error) => {
                    failures.fetch_add(1, Ordering::Relaxed);
                    println!("FAIL  {}: {error:#}", meeting.title());
                }
            }
        }
    };
    std::thread::scope(|scope| (0..JOBS).for_each(|_| drop(scope.spawn(work))));
    Ok(failures.into_inner())
}

fn meetings<'a>(peer: &'a Program, warren: &'a Program) -> Vec<Meeting<'a>> {
    let meeting = |relay, dialler, target| Meeting {
        relay,
        dialler,
        target,
        carrier: Carrier::Quic,
        kind: PortRestricted,
        is_shut: true,
    };
    let mut meetings = vec![
        Meeting { kind: SymmetricRandom, is_shut: false, ..meeting(warren, peer, peer) },
        meeting(warren, peer, warren),
        meeting(warren, warren, peer),
        meeting(peer, warren, warren),
        meeting(peer, peer, warren),
        meeting(peer, warren, peer),
    ];
    // Nothing is in the way: the first attempt must do.
    let free = |meeting| Meeting { is_shut: false, ..meeting };
    meetings.extend([free(meeting(warren, peer, warren)), free(meeting(warren, warren, peer))]);
    // js-libp2p cannot dial from the port that it listens at (see peer.mjs), so it is not punched to by TCP.
    if peer.kind == program::Kind::Reference {
        let tcp = |meeting| Meeting { carrier: Carrier::Tcp, ..meeting };
        meetings.extend([tcp(meeting(warren, peer, warren)), tcp(meeting(warren, warren, peer))]);
    }
    meetings
}

impl Meeting<'_> {
    fn is_among_warrens(&self) -> bool {
        [self.dialler, self.target].iter().all(|program| matches!(program.kind, program::Kind::Warren(_)))
    }

    fn is_with_js(&self) -> bool {
        [self.dialler, self.target].iter().any(|program| program.kind == program::Kind::Js)
    }

    fn title(&self) -> String {
        let Meeting { relay, dialler, target, carrier, kind, is_shut } = self;
        let way = if *is_shut { ", shut at first" } else { "" };
        let (relay, dialler, target) = (relay.kind, dialler.kind, target.kind);
        format!("{dialler} reaches {target} through {relay} over {carrier}, {kind} NATs{way}")
    }

    /// Has them meet, from the start of the relay to the end of all. `number` tells it from the others, by file and
    /// network. Returns what it took, in words.
    fn hold(&self, world: &World<'_>, number: u16) -> Result<String> {
        let lab = world.lab;
        let host = lab.host(&format!("{number}r"))?;
        let (v4, v6) = home::networks(4 * number + 1);
        let (_, [ip, _]) = lab.uplink(&host, INTERFACE, v4, v6)?;
        let home = |name: &str, n: u16| Home::new(lab, self.kind, &format!("{number}{name}"), 4 * number + n);
        let homes = [home("a", 2)?, home("b", 3)?];
        // When it returns all programs have ended, with their handles.
        let done = self.meet(world, number, (&host, ip), &homes);
        homes.into_iter().try_for_each(|home| home.remove(lab))?;
        lab.remove(&host)?;
        done
    }

    fn meet(
        &self,
        world: &World<'_>,
        number: u16,
        (host, ip): (&Host, IpAddr),
        homes: &[Home; 2],
    ) -> Result<String> {
        let IpAddr::V4(ip) = ip else { bail!("{ip} is no IPv4 address") };
        let lab = world.lab;
        let mut relay = world.start(self.relay, &format!("{number}-relay"), |state_dir, verbose| {
            self.relay.relay(lab, host, (ip, PORT), state_dir, verbose)
        })?;
        let at = relay_address(&mut relay, ip, self.carrier)?;
        let start = |program: &Program, name: &str, home: &Home, seed: u64| {
            world.start(program, &format!("{number}-{name}"), |state_dir, verbose| {
                program.behind(lab, &home.host, &at, (self.carrier, seed), state_dir, verbose)
            })
        };
        let mut dialler = start(self.dialler, "dialler", &homes[0], 1)?;
        let mut target = start(self.target, "target", &homes[1], 2)?;
        let [_, circuit] =
            [reserved(&mut dialler, self.dialler, &at)?, reserved(&mut target, self.target, &at)?];
        if self.is_shut {
            homes[0].shut(lab, homes[1].public[0])?;
        }
        let mut pair = Pair::new(dialler, target)?;
        let begun = Instant::now();
        pair.nodes[0].line(&format!("connect {circuit}"))?;
        let met = pair.are_relayed()?;
        pair.are_in_the_room()?;
        let mut times = format!("relayed after {} ms", ms(met, begun));
        if self.kind == SymmetricRandom {
            pair.talk("through the relay")?;
            std::thread::sleep(TO_STAY_RELAYED);
            pair.talk("still through the relay")?;
            pair.stay_relayed()?;
            relay.stop()?;
            times.push_str(" and for good, heard both ways");
        } else {
            let mut from = met;
            if self.is_shut {
                pair.talk("through the relay")?;
                times.push_str(&format!(", heard both ways after {} ms", ms(Instant::now(), begun)));
                pair.stay_relayed()?;
                homes[0].open(lab)?;
                from = Instant::now();
            }
            times.push_str(&self.punch(&mut pair, relay, from)?);
        }
        pair.nodes.into_iter().try_for_each(Node::stop)?;
        Ok(times)
    }

    /// Nothing has been in the way since `from`: it must become direct, and do without the relay.
    fn punch(&self, pair: &mut Pair, relay: Node, from: Instant) -> Result<String> {
        let Change { at, addr, said, lost, repeated } = pair.become_direct()?;
        // A warren has more than others do, and two of them take what is there first.
        ensure!(self.is_among_warrens() || self.carrier.carries(&addr), "not over {}: {addr}", self.carrier);
        let carrier = if Carrier::Quic.carries(&addr) { Carrier::Quic } else { Carrier::Tcp };
        // js-libp2p closes the relayed connection at once, and with it goes what is under way.
        ensure!(
            lost == 0 || self.is_with_js(),
            "{lost} of {said} lines were lost when it became direct: {addr}"
        );
        ensure!(repeated == 0, "{repeated} of {said} lines came twice when it became direct: {addr}");
        relay.stop()?;
        let resumed = pair.resume()?.as_millis();
        pair.talk("without the relay")?;
        let direct = ms(at, from);
        Ok(format!(
            ", direct {direct} ms later over {carrier}, {lost} of {said} lines lost, heard both ways {resumed} ms after \
             the relay ended"
        ))
    }
}

impl World<'_> {
    /// Starts a program with a new state directory, and a log if there shall be logs.
    fn start(
        &self,
        program: &Program,
        name: &str,
        command: impl FnOnce(&Path, bool) -> Command,
    ) -> Result<Node> {
        let log = self.logs.map(|logs| logs.join(format!("{name}.log")));
        let log =
            log.map(|path| File::create(&path).with_context(|| format!("cannot write {}", path.display())));
        let mut command = command(&self.scratch.state_dir(name)?, log.is_some());
        if log.is_none() {
            command.env_remove("RUST_LOG");
        }
        Node::start_logged(&format!("{} {name}", program.kind), command, None, log.transpose()?)
    }
}

/// Where a relay can be found over this carrier.
fn relay_address(relay: &mut Node, ip: Ipv4Addr, carrier: Carrier) -> Result<String> {
    let start = format!("/ip4/{ip}/");
    let listening = relay.wait("its address", PROMPTLY, |event| {
        event.is("listening") && event.str("addr").starts_with(&start) && carrier.carries(event.str("addr"))
    })?;
    Ok(listening.str("addr").to_owned())
}

/// Waits until a node has a reservation, and, of others than warren, until somebody has said where he sees them:
/// they tell in DCUtR what they know when a relayed connection begins. Returns their address at the relay `at`.
fn reserved(node: &mut Node, program: &Program, at: &str) -> Result<String> {
    let start = format!("{at}/p2p-circuit/");
    let listening = node.wait("an address at the relay", PROMPTLY, |event| {
        event.is("listening") && event.str("addr").starts_with(&start)
    })?;
    if !matches!(program.kind, program::Kind::Warren(_)) {
        node.wait("where it is seen", PROMPTLY, |event| {
            event.is("observed") && event.str("addr").starts_with("/ip4/11.")
        })?;
    }
    Ok(listening.str("addr").to_owned())
}

fn ms(at: Instant, from: Instant) -> u128 {
    at.saturating_duration_since(from).as_millis()
}
