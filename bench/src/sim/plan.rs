//! What is simulated.

use std::str::FromStr;

use anyhow::{Context, Result};
use libp2p::gossipsub;
use warren::limits;

use super::queue::Micros;

/// Times in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    /// One way: mean and standard deviation.
    pub(crate) delay: Micros,
    pub(crate) jitter: Micros,
    /// Of packets: 0..1.
    pub(crate) loss: f64,
    /// How long a node works on a message that is new to it; meanwhile others wait.
    pub(crate) work: Micros,
    /// Nodes that talk, how often each does, and bytes of a text.
    pub(crate) talkers: usize,
    pub(crate) rate: f64,
    pub(crate) size: usize,
    /// Before texts are counted, and while they are.
    pub(crate) warmup: Micros,
    pub(crate) duration: Micros,
    /// Nodes that join, a second: after the warm-up, or, if `form`, the room's own from the start.
    pub(crate) joins: f64,
    pub(crate) form: bool,
    /// Bootstrap nodes.
    pub(crate) hubs: usize,
    /// gossipsub's D.
    pub(crate) fan_out: usize,
    pub(crate) links: Bounds,
    pub(crate) seed: u64,
}

/// How many connections a node keeps: above `low` it closes those that it began and that are in no mesh, above `high`
/// others as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) low: usize,
    pub(crate) high: usize,
}

/// warren's own.
impl Default for Bounds {
    fn default() -> Self {
        Bounds { low: limits::ROOM_LINKS, high: limits::CONNECTIONS_HIGH }
    }
}

impl FromStr for Bounds {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let bounds =
            word.split_once("..").and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
        match bounds {
            Some((low, high)) if 1 <= low && low < high && high < limits::CONNECTIONS as usize => {
                Ok(Bounds { low, high })
            }
            _ => Err(format!(
                "`{word}` are no bounds: write 12..16, the second greater than the first and less than {}",
                limits::CONNECTIONS
            )),
        }
    }
}

/// D of a mesh, and what goes with it as in warren's own choice: from one less to three more, and of two at least, if
/// a half is that many, the node began the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Degree {
    pub(crate) low: usize,
    pub(crate) wanted: usize,
    pub(crate) high: usize,
    pub(crate) outbound: usize,
}

impl Degree {
    pub(crate) fn new(wanted: usize) -> Self {
        Degree { low: wanted - 1, wanted, high: wanted + 3, outbound: (wanted / 2).min(2) }
    }
}

impl Plan {
    /// What gossipsub is told.
    pub(crate) fn gossip(&self) -> Result<gossipsub::Config> {
        let Degree { low, wanted, high, outbound } = Degree::new(self.fan_out);
        gossipsub::ConfigBuilder::default()
            .mesh_n(wanted)
            .mesh_n_low(low)
            .mesh_n_high(high)
            .mesh_outbound_min(outbound)
            .build()
            .with_context(|| format!("gossipsub takes no mesh of {wanted}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_degree_of_warren_is_its_own() {
        let [wanted, low, high] = limits::MESH;
        let outbound = gossipsub::Config::default().mesh_outbound_min();
        assert_eq!(Degree::new(wanted), Degree { low, wanted, high, outbound });
        for wanted in 2..=32 {
            let plan = Plan { fan_out: wanted, ..super::super::tests::plan(10, 1) };
            assert_eq!(plan.gossip().expect("gossipsub takes it").mesh_n(), wanted);
        }
    }

    #[test]
    fn bounds_are_two_numbers_in_order() {
        assert_eq!("12..16".parse(), Ok(Bounds { low: 12, high: 16 }));
        for word in ["", "12", "16..12", "0..9", "5..5", "12..100", "-1..4", "a..b"] {
            let error = word.parse::<Bounds>().expect_err(word);
            assert!(error.contains(&format!("`{word}`")), "{error}");
        }
        let Bounds { low, high } = Bounds::default();
        assert_eq!((low, high), (limits::ROOM_LINKS, limits::CONNECTIONS_HIGH));
    }
}
