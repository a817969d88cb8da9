//! One run for each of several values of one thing, in a table.

use std::str::FromStr;

use anyhow::Result;

use super::plan::Plan;
use super::report;
use super::tally::Spread;
use super::world::World;
use crate::table::Table;

/// What is swept over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sweep {
    /// gossipsub's D.
    FanOut,
    /// Newcomers a second.
    Joins,
}

/// Values of D: as many as `study --sweep fan-out` has, and two to see the ends.
const FAN_OUTS: [usize; 6] = [2, 3, 4, 6, 8, 12];

const JOINS: [f64; 8] = [0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];

impl FromStr for Sweep {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "fan-out" => Ok(Sweep::FanOut),
            "joins" => Ok(Sweep::Joins),
            other => Err(format!("`{other}` cannot be swept over: use fan-out or joins")),
        }
    }
}

pub(super) fn run(sweep: Sweep, plan: &Plan) -> Result<()> {
    let mut table = Table::new(match sweep {
        Sweep::FanOut => &FAN_OUT_COLUMNS,
        Sweep::Joins => &JOINS_COLUMNS,
    });
    for plan in plans(sweep, plan) {
        let world = super::ran(plan)?;
        match sweep {
            Sweep::FanOut => table.row(&fan_out(&world)),
            Sweep::Joins => table.row(&joins(&world)),
        }
    }
    table.print();
    Ok(())
}

/// All are like this one but for what is swept over.
pub(super) fn plans(sweep: Sweep, plan: &Plan) -> Vec<Plan> {
    match sweep {
        Sweep::FanOut => FAN_OUTS.map(|fan_out| Plan { fan_out, ..plan.clone() }).into(),
        Sweep::Joins => JOINS.map(|joins| Plan { joins, ..plan.clone() }).into(),
    }
}

const FAN_OUT_COLUMNS: [&str; 9] = [
    "fan-out",
    "delivered, %",
    "by IWANT only, %",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "hops, mean",
    "copies heard twice, each delivery",
    "bytes, each delivery",
];

fn fan_out(world: &World) -> [String; 9] {
    let latency = &world.tally.latency;
    [
        world.plan.fan_out.to_string(),
        format!("{:.3}", report::delivery(world)),
        format!("{:.3}", report::asked_for(world)),
        latency.percentile(0.5).to_string(),
        latency.percentile(0.95).to_string(),
        latency.percentile(0.99).to_string(),
        format!("{:.2}", world.tally.hops.mean()),
        format!("{:.2}", report::duplicates(world)),
        format!("{:.0}", report::bytes_per_delivery(world)),
    ]
}

const JOINS_COLUMNS: [&str; 11] = [
    "join a second",
    "announcements a second",
    "kB/s of a node",
    "it works, %",
    "turned away a second: bootstrap, members",
    "lookups that nobody answers, %",
    "with neighbours, %",
    "after s, p50 / p95",
    "heard by all, %",
    "after s, p50 / p95",
    "texts, p99 ms",
];

fn joins(world: &World) -> [String; 11] {
    let (measured, newcomers) = (&world.measured, &world.tally.newcomers);
    let share = |of: &Spread| match newcomers.joins {
        0 => "-".to_owned(),
        joins => format!("{:.1}", 100.0 * of.len() as f64 / joins as f64),
    };
    let after = |of: &Spread| match of.len() {
        0 => "-".to_owned(),
        _ => format!("{:.2} / {:.2}", of.percentile(0.5) / 1000.0, of.percentile(0.95) / 1000.0),
    };
    [
        world.plan.joins.to_string(),
        format!("{:.1}", report::each(world, measured.announcements)),
        format!("{:.1}", report::kb_each(world, measured.bytes.all())),
        format!("{:.1}", report::work(world)),
        format!(
            "{:.1}, {:.1}",
            report::each(world, measured.turned_away),
            report::each(world, measured.denied)
        ),
        match measured.lookups {
            0 => "-".to_owned(),
            _ => format!("{:.1}", report::unanswered(world)),
        },
        share(&newcomers.joined),
        after(&newcomers.joined),
        share(&newcomers.heard_by_all),
        after(&newcomers.heard_by_all),
        world.tally.latency.percentile(0.99).to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_changes_one_thing() {
        let plan = super::super::tests::plan(100, 4);
        let fan_outs: Vec<usize> = plans(Sweep::FanOut, &plan).iter().map(|plan| plan.fan_out).collect();
        assert_eq!(fan_outs, FAN_OUTS);
        let swept = plans(Sweep::Joins, &plan);
        assert_eq!(swept.iter().map(|plan| plan.joins).collect::<Vec<_>>(), JOINS);
        assert!(swept.iter().all(|swept| (swept.fan_out, swept.seed, swept.nodes) == (plan.fan_out, 4, 100)));
        let error = "size".parse::<Sweep>().expect_err("no such sweep");
        assert_eq!(error, "`size` cannot be swept over: use fan-out or joins");
    }
}
