//! The report: tables of what was measured, and sentences that follow from the numbers.

mod earlier;
mod sweep;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::figures::Figures;
use super::plan::{Cell, Subject};
use super::{Done, Setting, soak};
use crate::table::{median, range};

/// Aims: cost of warren divided by upstream's on tokio, and median latency divided by (links times delay).
const CPU: f64 = 0.9;
const RSS: f64 = 0.6;
const LINKS: f64 = 1.3;

/// A cell in a line, as soon as it is done.
pub(super) fn line(figures: &Figures) -> String {
    format!(
        "{}: {:.3} % delivered, p50 {:.1} ms, p99 {:.1} ms, {:.1} CPU ms/s and {:.1} MB per process, machine {:.0} % busy",
        figures.cell,
        100.0 * figures.delivery(),
        figures.percentile(0.5),
        figures.percentile(0.99),
        figures.cpu_ms_per_second(),
        figures.rss_mb,
        100.0 * figures.busy
    )
}

/// Writes report.md and returns its text.
pub(super) fn write(out: &Path, setting: &Setting, done: &[Done]) -> Result<String> {
    let mut text = String::from("# Study\n\n");
    let cells: Vec<&Figures> = done.iter().map(|done| &done.figures).collect();
    // Writing to a String cannot fail, here and below.
    let _ = conditions(&mut text, setting, &cells);
    let _ = deliveries(&mut text, &cells);
    let _ = costs(&mut text, &cells);
    let _ = beside(&mut text, &cells);
    let _ = sweep::write(&mut text, &cells);
    let _ = links(&mut text, setting, &cells);
    let _ = earlier::write(&mut text, setting, done);
    let _ = homes(&mut text, done);
    let _ = growth(&mut text, done);
    let _ = left_out(&mut text, setting, done);
    let path = out.join("report.md");
    std::fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(text)
}

fn conditions(text: &mut String, setting: &Setting, cells: &[&Figures]) -> std::fmt::Result {
    let (work, weather, times) = (&setting.work, &setting.weather, &setting.times);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    writeln!(
        text,
        "{} nodes, each in a network namespace of its own, say {} message(s) of {} bytes a second each, for {} s of \
         each cell after {} s in which all had heard all. Seed {}. Linux {}, {cores} cores; load before the first \
         cell {}.\n",
        work.nodes,
        work.rate,
        work.size,
        times.measure.as_secs_f64(),
        times.settle.as_secs(),
        work.seed,
        kernel.trim(),
        setting.load,
    )?;
    if let Some([clean, impaired]) = &setting.seen {
        let by = if setting.is_kernel {
            "the kernel's netem"
        } else {
            "a thread of the bench behind a TUN device"
        };
        writeln!(
            text,
            "The impairment is made by {by}. UDP probes before the first node:\n\n\
             | | set | seen impaired | seen clean |\n|---|---|---|---|\n\
             | one way, median, ms | {} | {:.2} | {:.2} |\n| its standard deviation, ms | {} | {:.2} | {:.2} |\n\
             | round trip, median, ms | {} | {:.2} | {:.2} |\n| packets lost, % | {} | {:.2} of {} | {:.2} of {} |\n",
            weather.delay.as_secs_f64() * 1000.0,
            impaired.one_way_ms,
            clean.one_way_ms,
            weather.jitter.as_secs_f64() * 1000.0,
            impaired.sigma_ms,
            clean.sigma_ms,
            2.0 * weather.delay.as_secs_f64() * 1000.0,
            impaired.rtt_ms,
            clean.rtt_ms,
            100.0 * weather.loss,
            100.0 * impaired.loss,
            impaired.packets,
            100.0 * clean.loss,
            clean.packets,
        )?;
    }
    let busy: Vec<f64> = cells.iter().map(|cell| 100.0 * cell.busy).collect();
    let others: Vec<f64> = cells.iter().map(|cell| cell.others).collect();
    let (least, most) = range(&busy);
    write!(
        text,
        "The machine was {least:.0} to {most:.0} % busy while cells were measured; programs that are no part of the study, \
         and the kernel on nobody's account, took {:.2} cores at the median. ",
        median(&others)
    )?;
    let full: Vec<String> =
        cells.iter().filter(|cell| cell.busy > 0.95).map(|cell| cell.cell.to_string()).collect();
    match full.is_empty() {
        true => writeln!(text, "No cell was short of CPU time.\n"),
        false => writeln!(
            text,
            "Where it was more than 95 %, processes waited for a core, and latencies tell of the machine as much as of the \
             programs: {}.\n",
            full.join(", ")
        ),
    }
}

fn deliveries(text: &mut String, cells: &[&Figures]) -> std::fmt::Result {
    let columns = [
        "cell",
        "delivered, %",
        "missing",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "duplicates per delivery",
        "IP bytes per delivery",
        "all heard all, s",
        "all know all, s",
        "connections",
        "RTT seen, ms",
    ];
    table(text, "What arrived", &columns, cells, |cell| {
        vec![
            format!("{:.4}", 100.0 * cell.delivery()),
            format!("{} of {}", cell.expected - cell.delivered.min(cell.expected), cell.expected),
            number(cell.percentile(0.5), 1),
            number(cell.percentile(0.95), 1),
            number(cell.percentile(0.99), 1),
            number(cell.duplicates, 2),
            number(cell.bytes_per_delivery(), 0),
            number(cell.heard_all_s, 1),
            number(cell.members_all_s, 1),
            number(cell.connections, 1),
            number(cell.rtt_ms, 0),
        ]
    })
}

fn costs(text: &mut String, cells: &[&Figures]) -> std::fmt::Result {
    let columns = [
        "cell",
        "CPU s per process",
        "CPU ms/s",
        "CPU us per delivery",
        "RSS MB",
        "anonymous MB",
        "processes",
        "machine busy, %",
        "others, cores",
        "bench, cores",
        "of it the link",
        "link late p99, ms",
        "link loss, %",
    ];
    table(text, "What it cost", &columns, cells, |cell| {
        vec![
            number(cell.cpu_s / cell.processes as f64, 2),
            number(cell.cpu_ms_per_second(), 2),
            number(cell.cpu_s * 1e6 / cell.delivered as f64, 0),
            number(cell.rss_mb, 1),
            number(cell.anonymous_mb, 1),
            cell.processes.to_string(),
            number(100.0 * cell.busy, 0),
            number(cell.others, 2),
            number(cell.own_cores, 2),
            number(cell.link_cores, 2),
            number(cell.link_late_ms, 1),
            number(100.0 * cell.link_loss, 2),
        ]
    })?;
    if cells.iter().any(|cell| cell.cell.subject == Subject::Broker) {
        writeln!(
            text,
            "mosquitto is one process for all; what its clients would cost is not in it, since they are the bench's own.\n"
        )?;
    }
    Ok(())
}

/// warren beside upstream with the same transport, and beside the broker.
fn beside(text: &mut String, cells: &[&Figures]) -> std::fmt::Result {
    let find = |wanted: Cell| cells.iter().find(|cell| cell.cell == wanted);
    let pairs: Vec<(&Figures, &Figures)> =
        cells.iter().filter_map(|ours| Some((*ours, *find(ours.cell.counterpart()?)?))).collect();
    if pairs.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "## Beside upstream on tokio\n\nwarren divided by upstream; aims: CPU at most {CPU}, RSS at most {RSS}.\n"
    )?;
    writeln!(
        text,
        "| cell | CPU | RSS | anonymous RSS | p50 | p95 | p99 | IP bytes per delivery | connections a node | aims |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|---|---|---|")?;
    for (ours, theirs) in pairs {
        let (cpu, rss) = (ours.cpu_s / theirs.cpu_s, ours.rss_mb / theirs.rss_mb);
        let verdict = |what: &str, ratio: f64, aim: f64| {
            format!("{what} {}reached", if ratio <= aim { "" } else { "not " })
        };
        let ratio = |of: &dyn Fn(&Figures) -> f64| number(of(ours) / of(theirs), 2);
        writeln!(
            text,
            "| {} | {cpu:.2} | {rss:.2} | {} | {} | {} | {} | {} | {:.1} beside {:.1} | {}, {} |",
            ours.cell,
            ratio(&|cell| cell.anonymous_mb),
            ratio(&|cell| cell.percentile(0.5)),
            ratio(&|cell| cell.percentile(0.95)),
            ratio(&|cell| cell.percentile(0.99)),
            ratio(&|cell| cell.bytes_per_delivery()),
            ours.connections,
            theirs.connections,
            verdict("CPU", cpu, CPU),
            verdict("RSS", rss, RSS),
        )?;
    }
    writeln!(text)?;
    let brokers = cells.iter().filter(|cell| cell.cell.subject == Subject::Broker);
    for broker in brokers {
        let same_way = |cell: &&&Figures| {
            cell.cell.is_warren() && !cell.cell.nat && cell.cell.impaired == broker.cell.impaired
        };
        for ours in cells.iter().filter(same_way) {
            writeln!(
                text,
                "- Beside {}, {} takes {:.2} times as long at the median and {:.2} times at p99, {:.1} times the IP bytes \
                 and {:.0} times the CPU time, spread over {} machines; and it has no machine that all depend on.",
                broker.cell,
                ours.cell,
                ours.percentile(0.5) / broker.percentile(0.5),
                ours.percentile(0.99) / broker.percentile(0.99),
                ours.bytes_per_delivery() / broker.bytes_per_delivery(),
                ours.cpu_s / broker.cpu_s,
                ours.processes,
            )?;
        }
    }
    writeln!(text)
}

/// Latency beside what the links alone would take.
fn links(text: &mut String, setting: &Setting, cells: &[&Figures]) -> std::fmt::Result {
    let cells: Vec<&&Figures> =
        cells.iter().filter(|cell| !cell.path_ratio.is_nan() && !cell.cell.nat).collect();
    if cells.is_empty() {
        return Ok(());
    }
    let delay = setting.weather.delay.as_secs_f64() * 1000.0;
    writeln!(
        text,
        "## Latency over links times {delay} ms\n\nNobody tells which way a message took. *Shortest* is over all \
         connections, fewer links than which it cannot have crossed. *Mesh* is the mean over random meshes of the sizes \
         that the nodes tell, of their connections: a message goes over those only. *By arrival* takes it that a node \
         had a message from the neighbour who had it for closest to the delay of one link. Aim, for warren: median \
         latency / (links over the mesh x delay) is at most {LINKS}.\n\n\
         | cell | shortest | mesh | ratio | by arrival | ratio | aim |\n|---|---|---|---|---|---|---|"
    )?;
    for cell in &cells {
        let verdict = match (cell.cell.is_warren(), cell.mesh_ratio <= LINKS) {
            (false, _) => "-",
            (true, true) => "reached",
            (true, false) => "not reached",
        };
        writeln!(
            text,
            "| {} | {:.2} | {} | {} | {:.2} | {:.2} | {verdict} |",
            cell.cell,
            cell.graph_hops,
            number(cell.mesh_hops, 2),
            number(cell.mesh_ratio, 2),
            cell.path_hops,
            cell.path_ratio,
        )?;
    }
    writeln!(text)?;
    for cell in cells.iter().filter(|cell| cell.cell.is_warren() && cell.mesh_ratio > LINKS) {
        let excess = cell.percentile(0.5) - cell.mesh_hops * delay;
        let why = match cell.busy > 0.95 {
            true => {
                format!("the machine was {:.0} % busy, so processes waited for each other", 100.0 * cell.busy)
            }
            false => {
                "lost packets have to be sent again, and over one connection what follows waits for them"
                    .to_owned()
            }
        };
        writeln!(text, "- {}: {excess:.0} ms of the median are not the links' delay: {why}.", cell.cell)?;
    }
    writeln!(text)
}

/// How nodes behind NATs got on.
fn homes(text: &mut String, done: &[Done]) -> std::fmt::Result {
    for Done { record, figures } in done.iter().filter(|done| done.figures.cell.nat) {
        writeln!(
            text,
            "## Behind NATs: {}\n\n| punch | opened | missed | failed |\n|---|---|---|---|",
            figures.cell
        )?;
        for kind in ["dcutr", "prediction", "guessing", "walk", "unplanned"] {
            let count = |outcome: &str| punches(record, kind, outcome);
            writeln!(text, "| {kind} | {} | {} | {} |", count("opened"), count("missed"), count("failed"))?;
        }
        let (found, of) = stun(done, figures.nodes);
        writeln!(
            text,
            "\n{:.1} % of the connections between nodes were direct at the end. STUN found an address for {found} of {of} \
             nodes that UDP gets out of.\n",
            100.0 * figures.direct
        )?;
    }
    Ok(())
}

/// Attempts of all nodes, of this kind or all kinds.
pub(super) fn punches(record: &super::Record, kind: &str, outcome: &str) -> f64 {
    let labels = [format!("kind=\"{kind}\""), format!("outcome=\"{outcome}\"")];
    let wanted =
        |found: &str| labels.iter().all(|label| label.ends_with("=\"\"") || found.contains(label.as_str()));
    record.samples.last("warren_hole_punches_total", wanted)
}

/// Nodes whose address STUN found, and nodes that could ask.
fn stun(done: &[Done], nodes: usize) -> (usize, usize) {
    let Some(Done { record, .. }) = done.iter().find(|done| done.figures.cell.nat) else { return (0, 0) };
    let work = super::Workload { nodes: nodes as u16, rate: 1.0, size: 16, seed: 0 };
    let homes = work.homes();
    let asks = |node: &usize| homes[*node] != crate::lab::kind::Kind::UdpBlocked;
    let able: Vec<usize> = (0..nodes).filter(asks).collect();
    (able.iter().filter(|node| !record.accounts[**node].external.is_empty()).count(), able.len())
}

/// Memory over time, where that was long enough to tell.
fn growth(text: &mut String, done: &[Done]) -> std::fmt::Result {
    for Done { record, figures } in done.iter().filter(|done| done.figures.seconds >= soak::LEAST) {
        let slopes = soak::slopes(&record.samples.usage);
        let (least, most) = range(&slopes);
        writeln!(
            text,
            "## Growth: {}\n\nIn the later half of {:.1} h the anonymous memory of a node grew by {:.1} kB an hour at the \
             median, from {least:.1} to {most:.1}.\n",
            figures.cell,
            figures.seconds / 3600.0,
            median(&slopes)
        )?;
    }
    Ok(())
}

fn left_out(text: &mut String, setting: &Setting, done: &[Done]) -> std::fmt::Result {
    let mut lines: Vec<String> = setting.remarks.clone();
    for Done { record, figures } in done {
        lines.extend(record.troubles.iter().map(|trouble| format!("{}: {trouble}", figures.cell)));
        if !record.absent.is_empty() {
            let away = record.absent.len();
            lines.push(format!(
                "{}: {away} nodes were killed and came back; deliveries count among the others",
                figures.cell
            ));
        }
        if figures.link_overflowed > 0.0 {
            lines.push(format!(
                "{}: the link's buffer overflowed by {} packets",
                figures.cell, figures.link_overflowed
            ));
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(text, "## Remarks\n")?;
    lines.iter().try_for_each(|line| writeln!(text, "- {line}"))
}

fn table(
    text: &mut String,
    title: &str,
    columns: &[&str],
    cells: &[&Figures],
    row: impl Fn(&Figures) -> Vec<String>,
) -> std::fmt::Result {
    writeln!(text, "## {title}\n\n| {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len()))?;
    for cell in cells {
        writeln!(text, "| {} | {} |", cell.cell, row(cell).join(" | "))?;
    }
    writeln!(text)
}

/// A number, or a dash where there is none.
fn number(value: f64, digits: usize) -> String {
    if value.is_finite() { format!("{value:.digits$}") } else { "-".to_owned() }
}
