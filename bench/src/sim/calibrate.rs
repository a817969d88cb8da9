//! The simulation beside what was measured with real nodes.
//!
//! Reads `summary.csv` of a study (bench/README.md has its columns) and simulates each cell of warrens that are all in one
//! network. How many they are, how much they say, for how long and after what warm-up is in the file; the network and the
//! size of a text are those of the command line, without delay, jitter and loss where the cell's name ends in `-clean`.
//! Everybody talks, and all have started together, as in a study.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::plan::Plan;
use super::report;
use super::world::World;
use crate::table::Table;

/// What stands above all of it.
const MEANING: &str = "\
A simulation beside the same with real nodes, cell by cell. p50_ms, p95_ms, p99_ms: latency. path_hops: links that a text
crosses, measured by its arrival. duplicates_per_delivery: copies beyond the first. ip_bytes_per_delivery: all traffic, both
ways, presence and the DHT included. connections: of a node with others. What is not simulated is in sim/world.rs: above all
nobody waits for a processor, and all connections are QUIC's. In clean cells nothing takes time but that, so their latencies
are no comparison.";

/// Above this share of the machine's time programs wait for each other.
const CROWDED: f64 = 0.95;

/// How long a study goes on, when all have heard all, before it measures. Unit: seconds.
const SETTLE: f64 = 10.0;

/// A line of the file, by column.
struct Cell(HashMap<String, String>);

impl Cell {
    fn text(&self, column: &str) -> Result<&str> {
        Ok(self.0.get(column).with_context(|| format!("there is no column '{column}'"))?)
    }

    /// A field may be empty: then it was not measured.
    fn number(&self, column: &str) -> Result<Option<f64>> {
        match self.text(column)? {
            "" => Ok(None),
            text => Ok(Some(text.parse().with_context(|| format!("{column}: '{text}' is no number"))?)),
        }
    }

    fn is_of_warrens(&self) -> Result<bool> {
        let name = self.text("cell")?;
        Ok(name.starts_with("warren") && !name.contains("-nat-"))
    }
}

pub(super) fn run(folder: &Path, conditions: &Plan) -> Result<()> {
    let path = folder.join("summary.csv");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    compare_all(&text, conditions).with_context(|| format!("in {}", path.display()))
}

fn compare_all(text: &str, conditions: &Plan) -> Result<()> {
    println!("{MEANING}");
    for cell in read(text)? {
        if !cell.is_of_warrens()? {
            continue;
        }
        println!("\n{}", cell.text("cell")?);
        let plan = plan(&cell, conditions)?;
        println!("{}", report::heading(&plan));
        if let Some(busy) = cell.number("busy")?.filter(|busy| *busy > CROWDED) {
            let busy = 100.0 * busy;
            println!("measured on a machine that was {busy:.0} % busy: latencies contain waiting for a core");
        }
        let world = super::ran(plan)?;
        let mut table = Table::new(&["", "simulated", "measured", "simulated is off by"]);
        compare(&cell, &world)?.iter().for_each(|row| table.row(row));
        table.print();
    }
    Ok(())
}

fn read(text: &str) -> Result<Vec<Cell>> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let heading: Vec<&str> = lines.next().context("there is no heading")?.split(',').collect();
    let cell = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let counts = (fields.len(), heading.len());
        ensure!(counts.0 == counts.1, "'{line}' has {} fields, and the heading {}", counts.0, counts.1);
        let pairs = heading.iter().zip(fields).map(|(column, field)| ((*column).into(), field.into()));
        Ok(Cell(pairs.collect()))
    };
    lines.map(cell).collect()
}

/// The same as what was measured.
fn plan(cell: &Cell, conditions: &Plan) -> Result<Plan> {
    let wanted = |column: &str| -> Result<f64> {
        let number = cell.number(column)?.filter(|number| number.is_finite() && *number > 0.0);
        number
            .with_context(|| format!("the cell '{}' has no {column}", cell.text("cell").unwrap_or_default()))
    };
    let (nodes, seconds, messages) = (wanted("nodes")?, wanted("seconds")?, wanted("messages")?);
    ensure!((2.0..=super::NODES as f64).contains(&nodes), "nodes: {nodes} cannot be simulated");
    let micros = |seconds: f64| (seconds * 1e6) as u64;
    // A study goes on for that long when all have heard all.
    let met = cell.number("heard_all_s")?.unwrap_or(0.0).max(0.0);
    let mut plan = Plan {
        nodes: nodes as usize,
        talkers: nodes as usize,
        rate: messages / nodes / seconds,
        warmup: micros(met + SETTLE),
        duration: micros(seconds),
        joins: 100.0 * nodes,
        form: true,
        ..conditions.clone()
    };
    if cell.text("cell")?.ends_with("-clean") {
        (plan.delay, plan.jitter, plan.loss) = (0, 0, 0.0);
    }
    Ok(plan)
}

/// A row for each figure that both have.
fn compare(cell: &Cell, world: &World) -> Result<Vec<[String; 4]>> {
    let latency = &world.tally.latency;
    let row = |(column, simulated): (&str, f64)| -> Result<[String; 4]> {
        let (real, error) = match cell.number(column)? {
            Some(real) => (format!("{real:.2}"), format!("{:+.1} %", 100.0 * (simulated / real - 1.0))),
            None => ("-".to_owned(), "-".to_owned()),
        };
        Ok([column.to_owned(), format!("{simulated:.2}"), real, error])
    };
    [
        ("p50_ms", latency.percentile(0.5)),
        ("p95_ms", latency.percentile(0.95)),
        ("p99_ms", latency.percentile(0.99)),
        ("path_hops", world.tally.hops.mean()),
        ("duplicates_per_delivery", report::duplicates(world)),
        ("ip_bytes_per_delivery", report::all_bytes_per_delivery(world)),
        ("connections", report::connections(world)),
        ("delivery_ratio", report::delivery(world) / 100.0),
    ]
    .into_iter()
    .map(row)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY: &str =
        "cell,nodes,p50_ms\nwarren-tcp-clean,16,1.5\ntokio-tcp-clean,16,2\nwarren-quic-nat-clean,4,\n";

    #[test]
    fn cells_of_warrens_in_one_network_are_simulated() {
        let cells = read(SUMMARY).expect("well-formed");
        let of_warrens: Vec<bool> =
            cells.iter().map(|cell| cell.is_of_warrens().expect("it has a name")).collect();
        assert_eq!(of_warrens, [true, false, false]);
        assert_eq!(cells[0].number("p50_ms").ok(), Some(Some(1.5)));
        assert_eq!(cells[2].number("p50_ms").ok(), Some(None), "it was not measured");
        let missing = cells[0].number("size").expect_err("there is none");
        assert_eq!(missing.to_string(), "there is no column 'size'");
    }

    /// The committed sample: each of its cells that is simulated, beside what was measured in it.
    #[test]
    fn the_sample_of_a_study_is_compared() {
        let sample = include_str!("../../study/sample/summary.csv");
        let conditions = super::super::tests::plan(500, 1);
        let cells = read(sample).expect("well-formed");
        let of_warrens: Vec<&Cell> =
            cells.iter().filter(|cell| cell.is_of_warrens().expect("named")).collect();
        assert_eq!(of_warrens.len(), 6, "three transports, clean and impaired");
        for cell in of_warrens {
            let mut world = World::new(plan(cell, &conditions).expect("complete")).expect("signed");
            world.run(|_, _| {});
            let rows = compare(cell, &world).expect("all columns are there");
            let of = |name: &str| rows.iter().find(|row| row[0] == name).expect(name);
            assert_eq!(of("connections")[2], cell.text("connections").expect("measured"));
            assert!(
                of("connections")[1].parse::<f64>().is_ok_and(|n| (10.0..=20.0).contains(&n)),
                "{rows:?}"
            );
            assert!(of("delivery_ratio")[1].parse::<f64>().is_ok_and(|ratio| ratio > 0.999), "{rows:?}");
        }
    }

    #[test]
    fn a_clean_cell_has_links_without_delay() {
        let conditions = super::super::tests::plan(500, 1);
        let text = "cell,nodes,seconds,messages,heard_all_s\n\
                    warren-tcp-clean,16,20.0,320,2.5\nwarren-tcp-impaired,67,20.0,402,\nwarren-quic-clean,67,0,0,\n";
        let cells = read(text).expect("well-formed");
        let clean = plan(&cells[0], &conditions).expect("complete");
        assert_eq!((clean.nodes, clean.talkers, clean.delay, clean.loss), (16, 16, 0, 0.0));
        assert_eq!((clean.rate, clean.duration, clean.warmup), (1.0, 20_000_000, 12_500_000));
        let impaired = plan(&cells[1], &conditions).expect("complete");
        assert_eq!((impaired.nodes, impaired.delay, impaired.jitter), (67, 45_000, 10_000));
        assert!((impaired.rate - 0.3).abs() < 1e-9, "67 nodes say 402 messages within 20 s");
        let error = plan(&cells[2], &conditions).expect_err("nothing was measured");
        assert_eq!(error.to_string(), "the cell 'warren-quic-clean' has no seconds");
    }

    #[test]
    fn what_is_no_number_is_quoted() {
        let cells = read("cell,nodes\nwarren,many\n").expect("well-formed");
        let error = cells[0].number("nodes").expect_err("no number");
        assert_eq!(error.to_string(), "nodes: 'many' is no number");
        let error = read("nodes,rate\n1\n").err().expect("one is missing");
        assert_eq!(error.to_string(), "'1' has 1 fields, and the heading 2");
    }
}
