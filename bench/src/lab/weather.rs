//! The Internet's weather: its router sends every packet around through a TUN device, behind which packets wait or are
//! lost.
//!
//! ```text
//!   p0 ──▶ router ──table 7──▶ slow ──▶ this process, for the delay ──▶ slow ──▶ router ──main table──▶ p1
//! ```
//! The kernel's own netem would do, but few kernels have it. What the bench needs is there whenever it has root.
//!
//! One thread does it all, by the tick: it reads what has come, writes what is due, and sleeps until the next tick. So
//! its price is two system calls a packet and no more than 5,000 wake-ups a second, and a packet is late by a tick at
//! most, unless the machine has no time for the thread.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::{ClockId, clock_gettime};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::{Host, Lab};

/// Packets on their way at once, as in a router's buffer; more are lost. 64 nodes that send 500 packets a second each
/// have 1,500 under way in 45 ms. Unit: packets.
const PACKETS: usize = 32 * 1024;

/// An IP packet, as long as they get on Ethernet. Unit: bytes.
const PACKET: usize = 1500;

/// Between two looks at the device and the clock while packets are under way. At the same time what a packet can be
/// late by, twice: when it comes and when it goes.
const TICK: Duration = Duration::from_micros(200);

/// Lateness is counted in steps of this. Unit: time.
const STEP: Duration = Duration::from_micros(100);

/// What the router does to each packet.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Weather {
    /// One way.
    pub(crate) delay: Duration,
    /// Standard deviation of the delay, which is normally distributed and never negative. Each packet has a delay of
    /// its own, as with netem, so packets overtake each other.
    pub(crate) jitter: Duration,
    /// Share of packets, 0 to 1.
    pub(crate) loss: f64,
    /// The n-th packet from one address to another has the same fate whenever the seed is the same.
    pub(crate) seed: u64,
}

/// What the thread has done so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    /// Packets that came, those lost by lot, and those lost because the buffer was full.
    pub(crate) packets: u64,
    pub(crate) lost: u64,
    pub(crate) overflowed: u64,
    /// CPU time of the thread, the kernel's work on what it writes included.
    pub(crate) cpu: Duration,
    /// How many packets were written so many [`STEP`]s after they were due.
    late: Vec<u64>,
}

/// A handle to the thread. It ends with the lab.
#[derive(Clone)]
pub(crate) struct Sky {
    /// The weather, and how often it was changed.
    weather: Arc<Mutex<(Weather, u64)>>,
    account: Arc<Mutex<Account>>,
}

impl Sky {
    /// Starts a thread through which everything goes that passes the router `hub` once [`detour`] says so.
    pub(super) fn new(lab: &Lab, hub: &Host, weather: Weather) -> Result<Self> {
        // The source of a packet is not behind the interface that it comes from.
        lab.shell(hub, "for kind in default all; do echo 0 >/proc/sys/net/ipv4/conf/$kind/rp_filter; done")?;
        let device = lab.on(hub, || {
            let device =
                DeviceBuilder::new().name("slow").mtu(PACKET as u16).tx_queue_len(10_000).build_sync();
            device.context("this machine has no TUN devices")
        })?;
        device.set_nonblocking(true)?;
        for family in ["-4", "-6"] {
            // What comes back, and what the router itself has to say, goes where it is for.
            lab.ip(
                hub,
                &[
                    &format!("{family} rule add pref 100 iif slow lookup main"),
                    &format!("{family} rule add pref 101 iif lo lookup main"),
                    &format!("{family} route add default dev slow table 7"),
                ],
            )?;
        }
        let sky = Sky { weather: Arc::new(Mutex::new((weather, 0))), account: Arc::default() };
        let ours = sky.clone();
        std::thread::spawn(move || ours.run(&device));
        Ok(sky)
    }

    /// From here on the weather is this, and begins anew: the next packet of each flow is its first.
    pub(crate) fn set(&self, weather: Weather) {
        let mut current = lock(&self.weather);
        *current = (weather, current.1 + 1);
    }

    pub(crate) fn account(&self) -> Account {
        lock(&self.account).clone()
    }

    /// Works until the lab is taken down, and the device with it.
    fn run(&self, device: &SyncDevice) {
        // Both make delays exact. Without them they are what the machine makes of them, and the account shows it.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1000));
        let _ = rustix::process::setpriority_process(None, -15);
        let (mut line, mut packet) = (Line::default(), vec![0; PACKET]);
        let (mut fates, mut change) = (Fates::new(Weather::default()), u64::MAX);
        loop {
            let (weather, current) = *lock(&self.weather);
            if current != change {
                (fates, change) = (Fates::new(weather), current);
            }
            let mut turn = Account::default();
            loop {
                match device.recv(&mut packet) {
                    Ok(length) => line.take(&packet[..length], &mut fates, &mut turn),
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    // The lab is gone.
                    Err(_) => return,
                }
            }
            line.give(device, &mut turn);
            self.enter(turn);
            if line.waiting.is_empty() {
                // A signal is as good a reason to look as a packet.
                let _ = poll(&mut [PollFd::from_borrowed_fd(device.as_fd(), PollFlags::IN)], None);
            } else {
                std::thread::sleep(TICK);
            }
        }
    }

    fn enter(&self, turn: Account) {
        let mut account = lock(&self.account);
        account.packets += turn.packets;
        account.lost += turn.lost;
        account.overflowed += turn.overflowed;
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        account.cpu = Duration::new(cpu.tv_sec as u64, cpu.tv_nsec as u32);
        if account.late.len() < turn.late.len() {
            account.late.resize(turn.late.len(), 0);
        }
        account.late.iter_mut().zip(turn.late).for_each(|(sum, count)| *sum += count);
    }
}

/// Everything that the router forwards goes around through the thread from here on, or nothing does.
pub(super) fn detour(lab: &Lab, hub: &Host, on: bool) -> Result<()> {
    let what = if on { "add" } else { "del" };
    ["-4", "-6"]
        .iter()
        .try_for_each(|family| lab.ip(hub, &[&format!("{family} rule {what} pref 102 lookup 7")]))
}

impl Account {
    pub(crate) fn since(&self, before: &Account) -> Account {
        let earlier = |step: usize| before.late.get(step).copied().unwrap_or_default();
        Account {
            packets: self.packets - before.packets,
            lost: self.lost - before.lost,
            overflowed: self.overflowed - before.overflowed,
            cpu: self.cpu.saturating_sub(before.cpu),
            late: self.late.iter().enumerate().map(|(step, count)| count - earlier(step)).collect(),
        }
    }

    /// What this share of the packets was late by at most, not counting the tick before it was read.
    pub(crate) fn late(&self, share: f64) -> Duration {
        let all: u64 = self.late.iter().sum();
        let mut left = (all as f64 * share).ceil() as u64;
        for (step, count) in (1..).zip(&self.late) {
            if left <= *count {
                return STEP * step;
            }
            left -= count;
        }
        Duration::ZERO
    }
}

/// What happens to the packets of each flow, one after the other. It knows no clock.
struct Fates {
    weather: Weather,
    flows: HashMap<[u8; 32], Rng>,
}

impl Fates {
    fn new(weather: Weather) -> Self {
        Fates { weather, flows: HashMap::new() }
    }

    /// How long this IP packet is on its way; `None` if it is lost.
    fn next(&mut self, packet: &[u8]) -> Option<Duration> {
        let Weather { delay, jitter, loss, seed } = self.weather;
        if jitter.is_zero() && loss == 0.0 {
            return Some(delay);
        }
        let flow = flow(packet);
        let lots = self.flows.entry(flow).or_insert_with(|| Rng::with_seed(seed ^ fnv(&flow)));
        // Each packet draws all of its lots, so that those of the next one do not depend on its fate.
        let (lot, normal) = (lots.f64(), normal(lots));
        let delay = delay.as_secs_f64() + jitter.as_secs_f64() * normal;
        (lot >= loss).then(|| Duration::from_secs_f64(delay.max(0.0)))
    }
}

/// Source and destination of an IP packet.
fn flow(packet: &[u8]) -> [u8; 32] {
    let (ends, length) = match packet.first().map(|byte| byte >> 4) {
        Some(4) => (12..20, 8),
        _ => (8..40, 32),
    };
    let mut flow = [0; 32];
    if let Some(found) = packet.get(ends) {
        flow[..length].copy_from_slice(found);
    }
    flow
}

/// FNV-1a: the same in each run and on each machine.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A number of the standard normal distribution (Box and Muller).
fn normal(lots: &mut Rng) -> f64 {
    let (radius, angle) = (1.0 - lots.f64(), lots.f64());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// Packets under way.
#[derive(Default)]
struct Line {
    /// When each is due, its number, which decides between those due at once, and where its bytes are.
    waiting: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    number: u64,
    bytes: Vec<Vec<u8>>,
    free: Vec<usize>,
}

impl Line {
    fn take(&mut self, packet: &[u8], fates: &mut Fates, turn: &mut Account) {
        turn.packets += 1;
        let Some(delay) = fates.next(packet) else {
            turn.lost += 1;
            return;
        };
        if self.waiting.len() == PACKETS {
            turn.overflowed += 1;
            return;
        }
        let place = self.free.pop().unwrap_or(self.bytes.len());
        match self.bytes.get_mut(place) {
            Some(bytes) => {
                bytes.clear();
                bytes.extend_from_slice(packet);
            }
            None => self.bytes.push(packet.to_vec()),
        }
        self.number += 1;
        self.waiting.push(Reverse((Instant::now() + delay, self.number, place)));
    }

    fn give(&mut self, device: &SyncDevice, turn: &mut Account) {
        let mut now = Instant::now();
        while let Some(Reverse((due, _, place))) = self.waiting.peek().copied()
            && due <= now
        {
            self.waiting.pop();
            // A packet that the kernel does not want is lost, as packets are.
            let _ = device.send(&self.bytes[place]);
            self.free.push(place);
            let step = ((now - due).as_micros() / STEP.as_micros()).min(20_000) as usize;
            if turn.late.len() <= step {
                turn.late.resize(step + 1, 0);
            }
            turn.late[step] += 1;
            now = Instant::now();
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked did so between two entries.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 packet from one host to another.
    fn packet(from: u8, to: u8) -> Vec<u8> {
        let mut packet = vec![0; 20];
        packet[0] = 0x45;
        packet[15] = from;
        packet[19] = to;
        packet
    }

    fn weather(seed: u64) -> Weather {
        Weather { delay: Duration::from_millis(45), jitter: Duration::from_millis(10), loss: 0.01, seed }
    }

    #[test]
    fn the_same_seed_has_the_same_fates_whatever_goes_between_others() {
        let alone = |seed| -> Vec<_> {
            let mut fates = Fates::new(weather(seed));
            (0..500).map(|_| fates.next(&packet(1, 2))).collect()
        };
        let mut fates = Fates::new(weather(7));
        let among: Vec<_> = (0..500_u32)
            .map(|n| {
                for _ in 0..n % 3 {
                    fates.next(&packet(2, 1));
                }
                fates.next(&packet(1, 2))
            })
            .collect();
        assert_eq!(alone(7), among);
        assert_ne!(alone(7), alone(8));
    }

    #[test]
    fn delay_jitter_and_loss_are_what_was_asked_for() {
        let mut fates = Fates::new(weather(3));
        let all: Vec<_> = (0..200_000).map(|_| fates.next(&packet(1, 2))).collect();
        let ms: Vec<f64> = all.iter().flatten().map(|delay| delay.as_secs_f64() * 1000.0).collect();
        let lost = 1.0 - ms.len() as f64 / all.len() as f64;
        let mean = ms.iter().sum::<f64>() / ms.len() as f64;
        let sigma = (ms.iter().map(|ms| (ms - mean).powi(2)).sum::<f64>() / ms.len() as f64).sqrt();
        assert!((lost - 0.01).abs() < 0.002, "{lost}");
        assert!((mean - 45.0).abs() < 0.2 && (sigma - 10.0).abs() < 0.2, "{mean} {sigma}");
    }

    #[test]
    fn lateness_is_counted_by_shares_and_since() {
        let before = Account { late: vec![5], ..Account::default() };
        let after = Account { late: vec![14, 0, 1], packets: 10, ..Account::default() };
        let spent = after.since(&before);
        assert_eq!((spent.late(0.9), spent.late(1.0)), (STEP, STEP * 3));
        assert_eq!(Account::default().late(0.5), Duration::ZERO);
    }
}
