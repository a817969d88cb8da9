//! A slow and lossy link on 127.0.0.1, in user space: UDP and TCP relays that keep what they carry for a while.
//!
//! ```text
//!   dialler ──▶ front ══ delay, jitter, loss ══▶ back ──▶ listener
//! ```
//! UDP datagrams are lost, and pass each other when the jitter says so. A TCP relay sees bytes rather than
//! segments, as the kernels on both sides of it talk to the relay and not to each other; so it plays what a
//! link would do to them:
//! - The handshake of TCP takes a round trip: what the dialler sends leaves that much later than it was written,
//!   and the listener hears of the connection after one delay.
//! - Each read of at most [`SEGMENT`] bytes is a segment. One that is lost holds up all behind it until it is
//!   sent again, after [`RTO_FLOOR`] and a round trip. That is TCP's worse way to notice a loss, and the usual one
//!   for chat, where no three other segments follow soon enough for a fast retransmit.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Bytes of a segment: what an Ethernet frame carries of TCP.
const SEGMENT: usize = 1448;

/// Linux' TCP_RTO_MIN, which it adds to the round trip (RFC 6298 has it as a floor of 1 s).
const RTO_FLOOR: Duration = Duration::from_millis(200);

/// How often a relay without traffic looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);

/// What a link does. The same in both directions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) delay: Duration,
    /// Greatest deviation from the delay, evenly spread.
    pub(crate) jitter: Duration,
    /// Share of the datagrams or segments that is lost, 0 to 1.
    pub(crate) loss: f64,
}

impl Weather {
    pub(crate) fn round_trip(&self) -> Duration {
        2 * self.delay
    }

    /// When what is sent now arrives, unless it is lost.
    fn arrival(&self, now: Instant) -> Instant {
        now + self.delay + self.jitter.mul_f64(2.0 * fastrand::f64()) - self.jitter
    }

    fn loses(&self) -> bool {
        fastrand::f64() < self.loss
    }
}

/// Relays to one listener until it is dropped.
pub(crate) struct Relay {
    /// Where the dialler finds the listener.
    pub(crate) addr: SocketAddr,
    over: Arc<AtomicBool>,
    is_tcp: bool,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if self.is_tcp {
            // Wakes the thread that accepts; if it is gone, there is nothing to wake.
            let _ = TcpStream::connect(self.addr);
        }
    }
}

const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

impl Relay {
    /// For one dialler.
    pub(crate) fn udp(to: SocketAddr, weather: Weather) -> Result<Self> {
        let sides = [UdpSocket::bind(ANY)?, UdpSocket::bind(ANY)?].map(Arc::new);
        let addr = sides[0].local_addr()?;
        let over = Arc::new(AtomicBool::new(false));
        let air = Arc::new(Air::default());
        // Where to send to from each side. The dialler's is known when it has sent something.
        let targets = Arc::new([Mutex::new(None), Mutex::new(Some(to))]);
        for side in [0, 1] {
            sides[side].set_read_timeout(Some(LOOK))?;
            let (socket, targets) = (Arc::clone(&sides[side]), Arc::clone(&targets));
            let (over, air) = (Arc::clone(&over), Arc::clone(&air));
            thread::spawn(move || {
                let mut buf = vec![0; 64 * 1024];
                while !over.load(Ordering::SeqCst) {
                    let Ok((count, from)) = socket.recv_from(&mut buf) else { continue };
                    if side == 0 {
                        *lock(&targets[0]) = Some(from);
                    }
                    if !weather.loses() {
                        air.put(weather.arrival(Instant::now()), 1 - side, buf[..count].to_vec());
                    }
                }
                air.end();
            });
        }
        thread::spawn(move || {
            while let Some((side, bytes)) = air.take() {
                if let Some(to) = *lock(&targets[side]) {
                    // To a listener that has just ended: lost.
                    let _ = sides[side].send_to(&bytes, to);
                }
            }
        });
        Ok(Relay { addr, over, is_tcp: false })
    }

    pub(crate) fn tcp(to: SocketAddr, weather: Weather) -> Result<Self> {
        let front = TcpListener::bind(ANY)?;
        let addr = front.local_addr()?;
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        thread::spawn(move || {
            for dialler in front.incoming().map_while(Result::ok) {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let begun = Instant::now();
                thread::spawn(move || {
                    thread::sleep(weather.delay);
                    // One that refuses is seen as a connection that ends at once.
                    let Ok(listener) = TcpStream::connect(to) else { return };
                    let established = begun + weather.round_trip();
                    let copies = [dialler.try_clone(), listener.try_clone()];
                    let [Ok(from_dialler), Ok(from_listener)] = copies else { return };
                    carry(from_dialler, listener, established, weather);
                    carry(from_listener, dialler, begun, weather);
                });
            }
        });
        Ok(Relay { addr, over, is_tcp: true })
    }
}

/// Carries one direction of a TCP connection. Nothing leaves before `earliest`.
fn carry(mut from: TcpStream, mut to: TcpStream, earliest: Instant, weather: Weather) {
    let (sender, receiver) = channel::<(Instant, Vec<u8>)>();
    // The kernel on this machine is no part of the link.
    let _ = to.set_nodelay(true);
    thread::spawn(move || {
        for (due, bytes) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        // It may be closed already.
        let _ = to.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        let mut buf = [0; SEGMENT];
        let mut last = Instant::now();
        while let Ok(count @ 1..) = from.read(&mut buf) {
            let mut due = weather.arrival(Instant::now().max(earliest));
            while weather.loses() {
                due += RTO_FLOOR + weather.round_trip();
            }
            // Later bytes wait for earlier ones.
            last = due.max(last);
            if sender.send((last, buf[..count].to_vec())).is_err() {
                return;
            }
        }
    });
}

/// Datagrams on their way, by the time of their arrival.
#[derive(Default)]
struct Air {
    flying: Mutex<Flying>,
    changed: Condvar,
}

#[derive(Default)]
struct Flying {
    /// The number keeps apart what arrives at the same time.
    queue: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    count: u64,
    is_over: bool,
}

impl Air {
    fn put(&self, due: Instant, side: usize, bytes: Vec<u8>) {
        let mut flying = lock(&self.flying);
        flying.count += 1;
        let key = (due, flying.count);
        flying.queue.insert(key, (side, bytes));
        self.changed.notify_one();
    }

    fn end(&self) {
        lock(&self.flying).is_over = true;
        self.changed.notify_one();
    }

    /// Waits for the next arrival: the side it leaves from, and its bytes. `None`: nothing comes any more.
    fn take(&self) -> Option<(usize, Vec<u8>)> {
        let mut flying = lock(&self.flying);
        loop {
            if flying.is_over {
                return None;
            }
            let wait = match flying.queue.first_entry() {
                Some(first) => {
                    let wait = first.key().0.saturating_duration_since(Instant::now());
                    if wait.is_zero() {
                        return Some(first.remove());
                    }
                    wait
                }
                None => LOOK,
            };
            flying = match self.changed.wait_timeout(flying, wait) {
                Ok((flying, _)) => flying,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

/// No lock here is held across anything that may panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEATHER: Weather = Weather { delay: Duration::from_millis(20), jitter: Duration::ZERO, loss: 0.0 };

    #[test]
    fn a_datagram_and_its_answer_take_a_round_trip() -> Result<()> {
        let echo = UdpSocket::bind(ANY)?;
        let relay = Relay::udp(echo.local_addr()?, WEATHER)?;
        let dialler = UdpSocket::bind(ANY)?;
        let start = Instant::now();
        dialler.send_to(b"there", relay.addr)?;
        let mut buf = [0; 10];
        let (count, from) = echo.recv_from(&mut buf)?;
        echo.send_to(&buf[..count], from)?;
        dialler.recv_from(&mut buf)?;
        assert!(start.elapsed() >= WEATHER.round_trip(), "{:?}", start.elapsed());
        Ok(())
    }

    #[test]
    fn tcp_says_something_after_a_round_trip_and_hears_of_it_after_two() -> Result<()> {
        let listener = TcpListener::bind(ANY)?;
        let relay = Relay::tcp(listener.local_addr()?, WEATHER)?;
        let start = Instant::now();
        let mut dialler = TcpStream::connect(relay.addr)?;
        dialler.write_all(b"there")?;
        let (mut inbound, _) = listener.accept()?;
        assert!(start.elapsed() >= WEATHER.delay);
        let mut buf = [0; 5];
        inbound.read_exact(&mut buf)?;
        assert!(start.elapsed() >= WEATHER.round_trip() + WEATHER.delay);
        inbound.write_all(&buf)?;
        dialler.read_exact(&mut buf)?;
        assert!(start.elapsed() >= 2 * WEATHER.round_trip());
        Ok(())
    }
}
