//! How long things are under way.

use fastrand::Rng;

use super::plan::Plan;
use super::queue::Micros;

/// Nothing is under way for less than this. Unit: microseconds.
const LEAST_DELAY: Micros = 50;

/// Delays to draw one of. A random number has bits for that and for whether the packet is lost.
const LOTS: usize = 1 << 12;

/// Any two nodes have the same between them.
pub(crate) struct Line {
    /// Quantiles of a normal distribution. Unit: microseconds.
    delays: Vec<Micros>,
    /// A random number below this loses its packet.
    lost_below: u64,
    round_trip: Micros,
    /// Until a lost packet is repeated for the first time.
    patience: Micros,
}

impl Line {
    pub(crate) fn new(plan: &Plan) -> Self {
        let round_trip = 2 * plan.delay.max(LEAST_DELAY);
        let delay = |quantile: f64| (plan.delay as f64 + quantile * plan.jitter as f64) as Micros;
        Line {
            delays: quantiles().into_iter().map(|quantile| delay(quantile).max(LEAST_DELAY)).collect(),
            lost_below: (plan.loss * 2f64.powi(52)) as u64,
            round_trip,
            // A probe after the round trip, four times its deviation and 25 ms of delayed acknowledgement (RFC 9002,
            // section 6.2.1).
            patience: round_trip + (4 * plan.jitter).max(1000) + 25_000,
        }
    }

    /// As a rule.
    pub(crate) fn round_trip(&self) -> Micros {
        self.round_trip
    }

    /// How long something is under way, and how often it was lost meanwhile: the next probe waits twice as long.
    pub(crate) fn one_way(&self, rng: &mut Rng) -> (Micros, u64) {
        let (mut delay, mut wait, mut repeated) = (0, self.patience, 0);
        loop {
            let lot = rng.u64(..);
            if lot >> 12 >= self.lost_below {
                return (delay + self.delays[lot as usize % LOTS], repeated);
            }
            delay += wait;
            wait *= 2;
            repeated += 1;
        }
    }
}

/// [`LOTS`] values that a normal distribution of mean 0 and deviation 1 has one as often as any other: its density is
/// summed up, and each stands where a further part of it is reached.
fn quantiles() -> Vec<f64> {
    const STEP: f64 = 1e-4;
    let density = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let (mut x, mut below) = (-6.0, 0.0);
    let mut quantiles = Vec::with_capacity(LOTS);
    for nth in 0..LOTS {
        let wanted = (nth as f64 + 0.5) / LOTS as f64;
        while below < wanted && x < 6.0 {
            below += STEP * density(x + STEP / 2.0);
            x += STEP;
        }
        quantiles.push(x);
    }
    quantiles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_as_asked_for_and_so_is_the_loss() {
        let line = Line::new(&Plan { loss: 0.05, ..super::super::tests::plan(10, 1) });
        let mut rng = Rng::with_seed(5);
        let ways: Vec<(Micros, u64)> = (0..200_000).map(|_| line.one_way(&mut rng)).collect();
        let whole: Vec<f64> = ways.iter().filter(|way| way.1 == 0).map(|way| way.0 as f64 / 1000.0).collect();
        let mean = whole.iter().sum::<f64>() / whole.len() as f64;
        let deviation = (whole.iter().map(|ms| (ms - mean).powi(2)).sum::<f64>() / whole.len() as f64).sqrt();
        assert!((mean - 45.0).abs() < 0.1 && (deviation - 10.0).abs() < 0.1, "{mean} {deviation}");
        let lost = 1.0 - whole.len() as f64 / ways.len() as f64;
        assert!((lost - 0.05).abs() < 0.003, "{lost}");
        // Round trip 90, four deviations 40, and 25: and then the way itself.
        let once = ways.iter().filter(|way| way.1 == 1).map(|way| way.0 as f64 / 1000.0 - 155.0);
        assert!(once.clone().count() > 8_000 && once.clone().all(|ms| (5.0..90.0).contains(&ms)));
    }

    #[test]
    fn the_quantiles_are_those_of_a_normal_distribution() {
        let quantiles = quantiles();
        for (share, value) in [(0.5, 0.0), (0.8413, 1.0), (0.9772, 2.0), (0.0228, -2.0)] {
            let found = quantiles[(share * LOTS as f64) as usize];
            assert!((found - value).abs() < 0.01, "{share}: {found}");
        }
    }
}
