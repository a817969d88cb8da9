//! What nodes use and tell while they are measured, by a thread of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::world::{METRICS, Spot};
use crate::metrics;
use crate::process;

/// Between two looks at whether it is over.
const LOOK: Duration = Duration::from_millis(50);

/// One node at one moment.
pub(super) struct Sample {
    /// Since the start of the phase. Unit: seconds.
    pub(super) at: f64,
    pub(super) node: usize,
    pub(super) cpu: f64,
    pub(super) rss_kb: u64,
    pub(super) anonymous_kb: u64,
}

/// One number of a metrics page.
pub(super) struct Metric {
    pub(super) at: f64,
    pub(super) node: usize,
    /// With its labels.
    pub(super) name: String,
    pub(super) value: f64,
}

#[derive(Default)]
pub(super) struct Samples {
    pub(super) usage: Vec<Sample>,
    pub(super) metrics: Vec<Metric>,
    /// Pages that could not be had, as from nodes that are away.
    pub(super) unanswered: usize,
}

/// Looks at all of them at once and then every so often until `is_over`, and once more then.
pub(super) fn watch(
    spots: &[Spot],
    scrapes: bool,
    every: Duration,
    start: Instant,
    is_over: &AtomicBool,
) -> Samples {
    let mut samples = Samples::default();
    let mut due = start;
    loop {
        let last = is_over.load(Ordering::Relaxed);
        if last || Instant::now() >= due {
            due += every;
            for spot in spots {
                samples.look(spot, scrapes, start);
            }
        }
        if last {
            return samples;
        }
        std::thread::sleep(LOOK);
    }
}

impl Samples {
    fn look(&mut self, spot: &Spot, scrapes: bool, start: Instant) {
        let (at, node) = (start.elapsed().as_secs_f64(), spot.node);
        // Who has gone in the meantime is not there to be seen.
        if let Ok(usage) = process::usage(spot.pid) {
            let (cpu, rss_kb, anonymous_kb) = (usage.cpu.as_secs_f64(), usage.rss_kb, usage.anonymous_kb);
            self.usage.push(Sample { at, node, cpu, rss_kb, anonymous_kb });
        }
        if !scrapes {
            return;
        }
        match spot.host.on(|| metrics::get(METRICS, "/metrics")) {
            Ok(page) => self.metrics.extend(read(&page, at, node)),
            Err(_) => self.unanswered += 1,
        }
    }

    /// What a counter or gauge was at last, summed over nodes and over all of its labels that `wanted` accepts.
    pub(super) fn last(&self, name: &str, wanted: impl Fn(&str) -> bool) -> f64 {
        self.sum(name, &wanted, |earlier, later| later > earlier)
    }

    /// What it was at first.
    pub(super) fn first(&self, name: &str, wanted: impl Fn(&str) -> bool) -> f64 {
        self.sum(name, &wanted, |earlier, later| later < earlier)
    }

    fn sum(&self, name: &str, wanted: &dyn Fn(&str) -> bool, better: fn(f64, f64) -> bool) -> f64 {
        let mut found: std::collections::HashMap<(usize, &str), (f64, f64)> = Default::default();
        for metric in &self.metrics {
            let (base, labels) = metric.name.split_once('{').unwrap_or((&metric.name, ""));
            if base == name && wanted(labels) {
                let best = found.entry((metric.node, labels)).or_insert((metric.at, metric.value));
                if better(best.0, metric.at) {
                    *best = (metric.at, metric.value);
                }
            }
        }
        found.values().map(|(_, value)| value).sum()
    }
}

/// The numbers of a page, but for the buckets of histograms.
fn read(page: &str, at: f64, node: usize) -> impl Iterator<Item = Metric> {
    page.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket{")).filter_map(move |line| {
        let (name, value) = line.rsplit_once(' ')?;
        Some(Metric { at, node, name: name.to_owned(), value: value.parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_nodes_and_labels_at_their_ends() {
        let mut samples = Samples::default();
        let page = |n: u32| {
            format!(
                "# HELP x y\nwarren_m_total{{room=\"a\"}} {n}\nwarren_m_total{{room=\"b\"}} 1\nh_bucket{{le=\"1\"}} 5\n"
            )
        };
        for (at, node, n) in [(0.0, 0, 1), (0.0, 1, 2), (5.0, 0, 10), (5.0, 1, 20)] {
            samples.metrics.extend(read(&page(n), at, node));
        }
        assert_eq!(samples.metrics.len(), 8);
        assert_eq!(samples.first("warren_m_total", |_| true), 5.0);
        assert_eq!(samples.last("warren_m_total", |labels| labels.contains("room=\"a\"")), 30.0);
    }
}
