//! The mesh case of `gossip`: every node connected to every other, one of them publishing at a steady pace.
//! Copies of a message that a node has already seen cost CPU time too, and here it shows.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::gossip::{alternate, fence, warm_up};
use crate::node::Node;
use crate::program::{Carrier, Key, Program, Setup};
use crate::scratch::Scratch;
use crate::table::{Table, median};
use crate::tally::{Tally, text};

/// Before the first message: a few of gossipsub's heartbeats, in which grafts and prunes come to rest. The
/// warm-up has shown that messages get through; this keeps the cost of joining out of the figures.
const SETTLE: Duration = Duration::from_secs(3);

pub(crate) struct Plan {
    pub(crate) nodes: usize,
    /// Messages per second.
    pub(crate) rate: u32,
    pub(crate) seconds: u32,
    /// Bytes of text per message.
    pub(crate) size: usize,
    pub(crate) runs: usize,
}

struct Run {
    /// CPU time of all nodes together.
    cpu: Duration,
    /// From the first line written until the last message was read.
    elapsed: Duration,
}

impl Plan {
    fn messages(&self) -> usize {
        self.rate as usize * self.seconds as usize
    }

    fn deliveries(&self) -> usize {
        self.messages() * (self.nodes - 1)
    }
}

/// Prints the figures and returns how many runs failed.
pub(crate) fn run(programs: &[Program], plan: &Plan, scratch: &Scratch) -> usize {
    println!(
        "\nmesh: {} nodes, each connected to each, 1 publisher, {} msg/s for {} s, secp256k1, {} runs",
        plan.nodes, plan.rate, plan.seconds, plan.runs
    );
    let (runs, failures) = alternate(programs, plan.runs, "mesh", |program| {
        let run = once(program, plan, scratch)?;
        let (cpu, elapsed) = (run.cpu.as_secs_f64(), run.elapsed.as_secs_f64());
        Ok((format!("{cpu:.2} CPU s in {elapsed:.1} s"), cpu))
    });
    let base = median(&runs[0]);
    let mut table = Table::new(&["program", "CPU s, all nodes", "CPU µs per delivery", "ratio"]);
    for (program, cpus) in programs.iter().zip(&runs) {
        let cpu = median(cpus);
        table.row(&match cpus.len() {
            0 => vec![program.kind.to_string(), "failed".to_owned()],
            _ => vec![
                program.kind.to_string(),
                format!("{cpu:.2}"),
                format!("{:.1}", cpu * 1e6 / plan.deliveries() as f64),
                format!("{:.2}", cpu / base),
            ],
        });
    }
    table.print();
    failures
}

fn once(program: &Program, plan: &Plan, scratch: &Scratch) -> Result<Run> {
    let mut addrs = Vec::new();
    let mut nodes = Vec::new();
    for number in 0..plan.nodes {
        let tally = Tally::new(plan.messages());
        // Node 0 publishes.
        let tap = if number == 0 { tally.replies() } else { tally.tap() };
        let setup =
            Setup { carrier: Carrier::Tcp, key: Key::Seed(number as u64 + 1), bootstrap: &addrs, scratch };
        let mut node = program.start(&format!("node {number}"), &setup, Some(tap))?;
        addrs.push(node.listening()?);
        nodes.push((node, tally));
    }
    for (node, _) in &mut nodes {
        node.members(plan.nodes - 1)?;
    }
    let ((publisher, published), subscribers) = nodes.split_first_mut().context("a mesh of no nodes")?;
    warm_up(publisher, &mut subscribers.iter_mut().map(|(node, _)| node).collect::<Vec<_>>())?;
    std::thread::sleep(SETTLE);

    let before = total_cpu(publisher, subscribers)?;
    let start = Instant::now();
    let size = plan.size;
    let lines = (0..plan.messages()).map(move |number| format!("send {}", text(number, size)));
    let feed = publisher.feed(lines, Some(Duration::from_secs(1) / plan.rate))?;
    let mut end = start;
    for (node, tally) in subscribers.iter() {
        end = end.max(tally.complete(node, published)?);
    }
    let cpu = total_cpu(publisher, subscribers)? - before;
    publisher.fed(feed)?;
    for (node, tally) in subscribers.iter_mut() {
        fence(publisher, node)?;
        tally.verify(node)?;
    }
    for (node, _) in nodes {
        node.stop()?;
    }
    Ok(Run { cpu, elapsed: end.duration_since(start) })
}

fn total_cpu(publisher: &Node, subscribers: &[(Node, Tally)]) -> Result<Duration> {
    subscribers.iter().map(|(node, _)| node).chain([publisher]).map(|node| Ok(node.usage()?.cpu)).sum()
}
