//! Whether the Internet is as impaired as it shall be: asked by plain UDP, before any node.
//!
//! ```text
//!   a node's host ── probes, 1 ms apart ──▶ the fixed point's host ── echoes ──▶ back
//! ```

use std::collections::HashMap;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::world::World;
use crate::lab::weather::Weather;
use crate::table::median;

/// Between two probes.
const PACE: Duration = Duration::from_millis(1);

/// How often it is looked: who has two cores may have other work to do once.
const TRIES: usize = 3;

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Medians. Unit: ms.
    pub(super) rtt_ms: f64,
    pub(super) one_way_ms: f64,
    /// Standard deviation of the way there. Unit: ms.
    pub(super) sigma_ms: f64,
    /// Probes and echoes together, and the share of them that was lost.
    pub(super) packets: usize,
    pub(super) loss: f64,
}

/// Looks at the way while it is impaired, and while it is not.
///
/// # Errors
/// It is not what it shall be.
pub(super) fn verify(world: &World, weather: &Weather, probes: usize) -> Result<[Seen; 2]> {
    let mut last = Err(anyhow!("nobody has looked"));
    for _ in 0..TRIES {
        last = look(world, weather, probes);
        if last.is_ok() {
            break;
        }
    }
    last
}

fn look(world: &World, weather: &Weather, probes: usize) -> Result<[Seen; 2]> {
    let clean = probe(world, probes / 4)?;
    ensure!(clean.loss == 0.0, "the network loses {:.2} % of packets by itself", 100.0 * clean.loss);
    world.impair(true)?;
    let impaired = probe(world, probes);
    world.impair(false)?;
    let impaired = impaired?;
    let ms = |span: Duration| span.as_secs_f64() * 1000.0;
    let (wanted, spread) = (ms(weather.delay), ms(weather.jitter));
    ensure!(
        (impaired.one_way_ms - clean.one_way_ms - wanted).abs() <= 1.0 + 0.03 * wanted,
        "a packet takes {:.1} ms instead of {wanted} ms",
        impaired.one_way_ms
    );
    ensure!(
        (impaired.sigma_ms - spread).abs() <= 1.0 + 0.1 * spread,
        "delays have a standard deviation of {:.1} ms instead of {spread} ms",
        impaired.sigma_ms
    );
    // Four standard deviations of a binomial distribution: wrong once in 16,000 times.
    let chance = 4.0 * (weather.loss * (1.0 - weather.loss) / impaired.packets as f64).sqrt();
    ensure!(
        (impaired.loss - weather.loss).abs() <= chance,
        "{:.2} % of {} packets are lost instead of {} %",
        100.0 * impaired.loss,
        impaired.packets,
        100.0 * weather.loss
    );
    Ok([clean, impaired])
}

fn probe(world: &World, probes: usize) -> Result<Seen> {
    let (near, far, ip) = world.ends();
    let socket = |host: &crate::lab::Host, bind: &str| {
        let bind = bind.to_owned();
        host.on(move || {
            let socket = UdpSocket::bind(bind)?;
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            Ok(socket)
        })
    };
    let (near, far) = (socket(near, "0.0.0.0:0")?, socket(far, &format!("{ip}:0"))?);
    let to = far.local_addr()?;
    std::thread::scope(|scope| -> Result<Seen> {
        let echo = scope.spawn(|| {
            precede();
            // Each ends with a second of silence.
            let (mut seen, mut bytes) = (HashMap::new(), [0; 8]);
            while let Ok((length, from)) = far.recv_from(&mut bytes) {
                seen.insert(bytes, Instant::now());
                // An echo that cannot be sent is one that is lost.
                let _ = far.send_to(&bytes[..length], from);
            }
            seen
        });
        let returned = scope.spawn(|| {
            precede();
            let (mut seen, mut bytes) = (HashMap::new(), [0; 8]);
            while near.recv(&mut bytes).is_ok() {
                seen.insert(bytes, Instant::now());
            }
            seen
        });
        let sending = scope.spawn(|| -> Result<_> {
            precede();
            let (start, mut sent) = (Instant::now(), Vec::new());
            for number in 0..probes as u64 {
                std::thread::sleep((start + PACE * number as u32).saturating_duration_since(Instant::now()));
                sent.push((number.to_be_bytes(), Instant::now()));
                near.send_to(&number.to_be_bytes(), to).context("a probe cannot be sent")?;
            }
            Ok(sent)
        });
        let panicked = |_| anyhow!("a probing thread panicked");
        let sent = sending.join().map_err(panicked)??;
        let (there, back) = (echo.join().map_err(panicked)?, returned.join().map_err(panicked)?);
        Ok(summary(&sent, &there, &back))
    })
}

/// This thread goes before others: that it is late would count as delay. Without the right to that, delays are what the
/// machine makes of them.
pub(super) fn precede() {
    let _ = rustix::process::setpriority_process(None, -15);
}

type Times = HashMap<[u8; 8], Instant>;

fn summary(sent: &[([u8; 8], Instant)], there: &Times, back: &Times) -> Seen {
    let spans = |arrived: &Times| -> Vec<f64> {
        let pairs = sent.iter().filter_map(|(probe, at)| Some(*arrived.get(probe)? - *at));
        pairs.map(|span| span.as_secs_f64() * 1000.0).collect()
    };
    let (one_way, rtt) = (spans(there), spans(back));
    let mean = one_way.iter().sum::<f64>() / one_way.len() as f64;
    let variance = one_way.iter().map(|ms| (ms - mean).powi(2)).sum::<f64>() / one_way.len() as f64;
    let packets = sent.len() + there.len();
    Seen {
        rtt_ms: median(&rtt),
        one_way_ms: median(&one_way),
        sigma_ms: variance.sqrt(),
        packets,
        loss: 1.0 - (there.len() + back.len()) as f64 / packets as f64,
    }
}
