//! What grows in a long run: the slope of each node's memory. Pure.

use std::collections::BTreeMap;

use super::samples::Sample;

/// In less time memory that is only warming up looks like growth. Unit: seconds.
pub(super) const LEAST: f64 = 600.0;

/// How fast the anonymous memory of each node grows, by least squares over the later half of the samples. Unit: kB per
/// hour. Nodes with fewer than three samples there have none.
pub(super) fn slopes(samples: &[Sample]) -> Vec<f64> {
    let end = samples.iter().map(|sample| sample.at).fold(0.0, f64::max);
    let mut nodes: BTreeMap<usize, Vec<(f64, f64)>> = BTreeMap::new();
    for sample in samples.iter().filter(|sample| sample.at >= end / 2.0) {
        nodes.entry(sample.node).or_default().push((sample.at, sample.anonymous_kb as f64));
    }
    nodes.values().filter(|points| points.len() >= 3).map(|points| 3600.0 * slope(points)).collect()
}

fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
    let (x, y) = (x / count, y / count);
    let both: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    both / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_the_later_half() {
        let sample = |at: u32| {
            // It grows by 1 kB a second from the middle on.
            let grown = u64::from(at.saturating_sub(100));
            Sample { at: at.into(), node: 4, cpu: 0.0, rss_kb: 0, anonymous_kb: 1000 + grown }
        };
        let samples: Vec<Sample> = (0..=200).step_by(10).map(sample).collect();
        let slopes = slopes(&samples);
        assert!(slopes.len() == 1 && (slopes[0] - 3600.0).abs() < 1.0, "{slopes:?}");
    }
}
