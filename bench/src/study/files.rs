//! What a study leaves behind, as CSV files. bench/README.md explains the columns.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use super::Done;
use super::figures::{deliveries, graph};
use super::trial::Record;
use crate::lab::kind::Kind;

pub(super) fn prepare(out: &Path) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))
}

/// One line for each cell.
pub(super) fn summary(out: &Path, done: &[Done]) -> Result<()> {
    let mut lines = Lines::new(out, "summary.csv", "")?;
    for (number, cell) in done.iter().enumerate() {
        let columns = cell.figures.columns();
        if number == 0 {
            lines.line(&columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(","))?;
        }
        lines.line(&columns.into_iter().map(|(_, value)| value).collect::<Vec<_>>().join(","))?;
    }
    lines.end()
}

/// Everything that a cell has recorded. `all`: each delivery and each metric, too.
pub(super) fn record(dir: &Path, record: &Record, kinds: &[Kind], all: bool) -> Result<()> {
    prepare(dir)?;
    if all {
        messages(dir, record)?;
    }
    nodes(dir, record, kinds)?;
    timelines(dir, record)?;
    let mut edges = Lines::new(dir, "edges.csv", "node,neighbour")?;
    for (node, neighbours) in graph(record).iter().enumerate() {
        for neighbour in neighbours.iter().filter(|neighbour| **neighbour > node) {
            edges.line(&format!("{node},{neighbour}"))?;
        }
    }
    edges.end()?;
    let mut samples = Lines::new(dir, "samples.csv", "at_s,node,cpu_s,rss_kb,anonymous_kb")?;
    for sample in &record.samples.usage {
        let (at, cpu) = (sample.at, sample.cpu);
        samples
            .line(&format!("{at:.3},{},{cpu:.2},{},{}", sample.node, sample.rss_kb, sample.anonymous_kb))?;
    }
    samples.end()?;
    if record.samples.metrics.is_empty() || !all {
        return Ok(());
    }
    // Labels have commas, so the name goes last.
    let mut metrics = Lines::new(dir, "metrics.csv", "at_s,node,value,name")?;
    for metric in &record.samples.metrics {
        metrics.line(&format!("{:.3},{},{},{}", metric.at, metric.node, metric.value, metric.name))?;
    }
    metrics.end()
}

fn messages(dir: &Path, record: &Record) -> Result<()> {
    let mut sent = Lines::new(dir, "messages.csv", "author,number,sent_s")?;
    for (author, lines) in record.sent.iter().enumerate() {
        for (number, at) in lines.iter().enumerate() {
            if let Some(at) = at {
                sent.line(&format!("{author},{number},{:.6}", seconds(record.measured_from, *at)))?;
            }
        }
    }
    sent.end()?;
    let mut heard = Lines::new(dir, "deliveries.csv", "author,number,receiver,latency_ms")?;
    for delivery in deliveries(record).0 {
        heard.line(&format!(
            "{},{},{},{:.3}",
            delivery.author, delivery.number, delivery.receiver, delivery.ms
        ))?;
    }
    heard.end()
}

fn nodes(dir: &Path, record: &Record, kinds: &[Kind]) -> Result<()> {
    let heading = "node,home,cpu_s,rss_kb,anonymous_kb,threads,switches,ip_bytes,packets,peers,direct,relayed,quic,rtt_median_ms";
    let mut lines = Lines::new(dir, "nodes.csv", heading)?;
    for (node, (before, after)) in record.before.iter().zip(&record.after).enumerate() {
        let traffic = after.traffic.since(before.traffic);
        let (usage, earlier) = (after.usage, before.usage);
        let peers = record.peers.get(node).map_or(&[][..], Vec::as_slice);
        let direct = peers.iter().filter(|peer| peer.is_direct).count();
        let quic = peers.iter().filter(|peer| crate::program::Carrier::Quic.carries(&peer.addr)).count();
        let rtts: Vec<f64> = peers.iter().filter_map(|peer| peer.rtt_ms).collect();
        let cpu = usage.cpu.checked_sub(earlier.cpu).unwrap_or(usage.cpu).as_secs_f64();
        lines.line(&format!(
            "{node},{},{cpu:.2},{},{},{},{},{},{},{},{direct},{},{quic},{:.1}",
            kinds[node],
            usage.rss_kb,
            usage.anonymous_kb,
            usage.threads,
            usage.switches.saturating_sub(earlier.switches),
            traffic.ip_bytes(),
            traffic.packets,
            peers.len(),
            peers.len() - direct,
            crate::table::median(&rtts),
        ))?;
    }
    lines.end()
}

/// How many others each node knew to be in the room, and was connected with, whenever that changed.
fn timelines(dir: &Path, record: &Record) -> Result<()> {
    let mut lines = Lines::new(dir, "peers.csv", "at_s,node,what,count")?;
    for (node, account) in record.accounts.iter().enumerate() {
        for (what, changes) in [("members", &account.members), ("connections", &account.connections)] {
            for (at, count) in changes {
                lines.line(&format!("{:.3},{node},{what},{count}", seconds(record.start, *at)))?;
            }
        }
    }
    lines.end()
}

fn seconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64()
}

/// A file that is being written.
struct Lines {
    name: String,
    file: BufWriter<File>,
}

impl Lines {
    /// With a heading, unless that is empty.
    fn new(dir: &Path, name: &str, heading: &str) -> Result<Self> {
        let name = dir.join(name);
        let file = File::create(&name).with_context(|| format!("cannot write {}", name.display()))?;
        let mut lines = Lines { name: name.display().to_string(), file: BufWriter::new(file) };
        if !heading.is_empty() {
            lines.line(heading)?;
        }
        Ok(lines)
    }

    fn line(&mut self, line: &str) -> Result<()> {
        writeln!(self.file, "{line}").with_context(|| format!("cannot write {}", self.name))
    }

    fn end(mut self) -> Result<()> {
        self.file.flush().with_context(|| format!("cannot write {}", self.name))
    }
}
