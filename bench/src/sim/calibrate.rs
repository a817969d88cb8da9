//! The simulation beside what was measured with real nodes.
//!
//! `calibration.csv` in the folder has a line for each measured run, under a heading that names columns, in any order:
//! `nodes`, `delay_ms`, `jitter_ms`, `loss_percent`, `rate` (texts a second from each node), `size` (bytes of a text),
//! `seconds`, and what was measured: `p50_ms`, `p95_ms`, `p99_ms`, `duplicates` (copies heard twice for each delivery),
//! `bytes` (on the wire for each delivery), `delivered_percent`. An empty field was not measured.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::report;
use super::world::{Plan, World};
use crate::table::Table;

/// A line of the file, by column.
struct Measured(HashMap<String, f64>);

impl Measured {
    fn given(&self, column: &str) -> Result<f64> {
        self.0.get(column).copied().with_context(|| format!("a line has no '{column}'"))
    }
}

pub(super) fn run(folder: &Path, work: u64, seed: u64) -> Result<()> {
    let path = folder.join("calibration.csv");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    for measured in read(&text).with_context(|| format!("in {}", path.display()))? {
        let plan = plan(&measured, work, seed)?;
        println!("{}", report::heading(&plan));
        let mut world = World::new(plan)?;
        world.run();
        compare(&measured, &world);
    }
    Ok(())
}

fn read(text: &str) -> Result<Vec<Measured>> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let heading: Vec<&str> = lines.next().context("there is no heading")?.split(',').map(str::trim).collect();
    lines.map(|line| read_line(&heading, line)).collect()
}

fn read_line(heading: &[&str], line: &str) -> Result<Measured> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    if fields.len() != heading.len() {
        bail!("'{line}' has {} fields, and the heading {}", fields.len(), heading.len());
    }
    let mut values = HashMap::new();
    for (column, field) in heading.iter().zip(fields) {
        if !field.is_empty() {
            let value = field.parse().with_context(|| format!("{column}: '{field}' is no number"))?;
            values.insert((*column).to_owned(), value);
        }
    }
    Ok(Measured(values))
}

/// The same as what was measured.
fn plan(measured: &Measured, work: u64, seed: u64) -> Result<Plan> {
    let micros = |column: &str| Ok::<_, anyhow::Error>((measured.given(column)? * 1000.0) as u64);
    let nodes = measured.given("nodes")? as usize;
    Ok(Plan {
        nodes,
        delay: micros("delay_ms")?,
        jitter: micros("jitter_ms")?,
        loss: measured.given("loss_percent")? / 100.0,
        work,
        talkers: nodes,
        rate: measured.given("rate")?,
        size: measured.given("size")? as usize,
        warmup: 20_000_000,
        duration: measured.given("seconds").map_or(30_000_000, |seconds| (seconds * 1e6) as u64),
        joins: 0.0,
        form: false,
        hubs: 1,
        seed,
    })
}

fn compare(measured: &Measured, world: &World) {
    let tally = &world.tally;
    let mut table = Table::new(&["", "simulated", "measured", "error"]);
    for (column, simulated) in [
        ("p50_ms", tally.latency.percentile(0.5)),
        ("p95_ms", tally.latency.percentile(0.95)),
        ("p99_ms", tally.latency.percentile(0.99)),
        ("duplicates", report::duplicates(world)),
        ("bytes", report::bytes_per_delivery(world)),
        ("delivered_percent", report::delivery(world)),
    ] {
        let (real, error) = match measured.0.get(column) {
            Some(real) => (format!("{real:.2}"), format!("{:+.1} %", 100.0 * (simulated / real - 1.0))),
            None => ("-".to_owned(), "-".to_owned()),
        };
        table.row(&[column.to_owned(), format!("{simulated:.2}"), real, error]);
    }
    table.print();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_may_come_in_any_order_and_be_empty() {
        let lines = read("rate,nodes,p50_ms\n# of yesterday\n1,16,\n2,67,98.5\n").expect("well-formed");
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].given("nodes").ok(), lines[0].0.get("p50_ms")), (Some(16.0), None));
        assert_eq!(lines[1].given("p50_ms").ok(), Some(98.5));
        let missing = lines[0].given("size").expect_err("there is none");
        assert_eq!(missing.to_string(), "a line has no 'size'");
    }

    #[test]
    fn what_is_no_number_is_quoted() {
        let error = read("nodes\nmany\n").err().expect("no number");
        assert_eq!(error.to_string(), "nodes: 'many' is no number");
        let error = read("nodes,rate\n1\n").err().expect("one is missing");
        assert_eq!(error.to_string(), "'1' has 1 fields, and the heading 2");
    }
}
