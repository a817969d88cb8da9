//! The simulation beside what was measured with real nodes.
//!
//! Reads `summary.csv` of a study (bench/README.md has its columns) and simulates each cell of warrens that are all in one
//! network, under the conditions of the command line: links without delay, jitter and loss where the cell's name ends in
//! `-clean`. Everybody talks, and all have started together, as in a study.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::plan::Plan;
use super::report;
use super::world::World;
use crate::table::Table;

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
    for cell in read(text)? {
        if !cell.is_of_warrens()? {
            continue;
        }
        println!("\n{}", cell.text("cell")?);
        let plan = plan(&cell, conditions)?;
        println!("{}", report::heading(&plan));
        let mut world = World::new(plan)?;
        world.run();
        compare(&cell, &world)?;
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
    let nodes = cell.number("nodes")?.context("a cell has no number of nodes")? as usize;
    let mut plan =
        Plan { nodes, talkers: nodes, joins: 100.0 * nodes as f64, form: true, ..conditions.clone() };
    if cell.text("cell")?.ends_with("-clean") {
        (plan.delay, plan.jitter, plan.loss) = (0, 0, 0.0);
    }
    Ok(plan)
}

fn compare(cell: &Cell, world: &World) -> Result<()> {
    let latency = &world.tally.latency;
    let mut table = Table::new(&["", "simulated", "measured", "error"]);
    for (column, simulated) in [
        ("p50_ms", latency.percentile(0.5)),
        ("p95_ms", latency.percentile(0.95)),
        ("p99_ms", latency.percentile(0.99)),
        ("path_hops", world.tally.hops.mean()),
        ("duplicates_per_delivery", report::duplicates(world)),
        ("ip_bytes_per_delivery", report::all_bytes_per_delivery(world)),
        ("connections", report::connections(world)),
        ("delivery_ratio", report::delivery(world) / 100.0),
    ] {
        let (real, error) = match cell.number(column)? {
            Some(real) => (format!("{real:.2}"), format!("{:+.1} %", 100.0 * (simulated / real - 1.0))),
            None => ("-".to_owned(), "-".to_owned()),
        };
        table.row(&[column.to_owned(), format!("{simulated:.2}"), real, error]);
    }
    table.print();
    Ok(())
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

    #[test]
    fn a_clean_cell_has_links_without_delay() {
        let conditions = super::super::tests::plan(500, 1);
        let cells = read("cell,nodes\nwarren-tcp-clean,16\nwarren-tcp-impaired,67\n").expect("well-formed");
        let clean = plan(&cells[0], &conditions).expect("complete");
        assert_eq!((clean.nodes, clean.talkers, clean.delay, clean.loss), (16, 16, 0, 0.0));
        let impaired = plan(&cells[1], &conditions).expect("complete");
        assert_eq!((impaired.nodes, impaired.delay, impaired.jitter), (67, 45_000, 10_000));
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
