//! What a cell's record comes to. Columns and their units are explained in bench/README.md.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use super::hops::{self, Graph};
use super::plan::{Cell, Subject, Transport};
use super::trial::Record;
use crate::program::Carrier;
use crate::table::median;

/// One delivery: who said what, who heard it, and how late.
pub(super) struct Delivery {
    pub(super) author: usize,
    pub(super) number: u32,
    pub(super) receiver: usize,
    pub(super) ms: f64,
}

/// A cell in numbers. What cannot be known of a program is NaN.
pub(super) struct Figures {
    pub(super) cell: Cell,
    pub(super) nodes: usize,
    pub(super) seconds: f64,
    pub(super) said: usize,
    pub(super) expected: usize,
    pub(super) delivered: usize,
    /// Shown more than once to a reader that was never away.
    pub(super) repeated: usize,
    /// Of all deliveries, in order. Unit: ms.
    pub(super) latencies: Vec<f64>,
    /// Mean links: on the shortest way over all connections, over a mesh, and on the way that arrivals tell of.
    pub(super) graph_hops: f64,
    pub(super) mesh_hops: f64,
    pub(super) path_hops: f64,
    /// Median latency divided by (mean links times delay) over a mesh, and the median of latency divided by (links
    /// times delay) on the way that arrivals tell of.
    pub(super) mesh_ratio: f64,
    pub(super) path_ratio: f64,
    /// Copies that arrived beyond the first, per delivery.
    pub(super) duplicates: f64,
    /// On all cables, both ways.
    pub(super) ip_bytes: f64,
    pub(super) packets: f64,
    /// Of all nodes or the broker together.
    pub(super) cpu_s: f64,
    /// Means over processes.
    pub(super) rss_mb: f64,
    pub(super) anonymous_mb: f64,
    pub(super) processes: usize,
    /// Since before the first start. Unit: seconds.
    pub(super) heard_all_s: f64,
    pub(super) members_all_s: f64,
    pub(super) connections: f64,
    pub(super) rtt_ms: f64,
    /// Shares of connections with other nodes.
    pub(super) quic: f64,
    pub(super) direct: f64,
    /// Share of the machine's CPU time that was used, and what of it was not the cell's: cores that others had.
    pub(super) busy: f64,
    pub(super) others: f64,
    /// Cores that this process took, and its link in it.
    pub(super) own_cores: f64,
    pub(super) link_cores: f64,
    pub(super) link_late_ms: f64,
    pub(super) link_loss: f64,
    pub(super) link_overflowed: f64,
}

/// All deliveries of measured messages among those who stayed, each once, and how many were shown again.
pub(super) fn deliveries(record: &Record) -> (Vec<Delivery>, usize) {
    let (mut all, mut repeated) = (Vec::new(), 0);
    for (receiver, account) in record.accounts.iter().enumerate() {
        let mut seen = HashSet::new();
        for (author, number, at) in &account.heard {
            let author = usize::from(*author);
            if !seen.insert((author, *number)) {
                // Who came back knows nothing of its earlier life, and may ask for what was said meanwhile.
                repeated += usize::from(stays(record, receiver));
                continue;
            }
            let sent = record.sent.get(author).and_then(|lines| *lines.get(*number as usize)?);
            let counts = stays(record, author) && stays(record, receiver) && author != receiver;
            if let Some(sent) = sent.filter(|_| counts) {
                let ms = at.saturating_duration_since(sent).as_secs_f64() * 1000.0;
                all.push(Delivery { author, number: *number, receiver, ms });
            }
        }
    }
    (all, repeated)
}

fn stays(record: &Record, node: usize) -> bool {
    !record.absent.contains(&node)
}

/// This share of sorted values is not greater.
pub(super) fn percentile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().wrapping_sub(1);
    sorted
        .get(((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1).min(last))
        .copied()
        .unwrap_or(f64::NAN)
}

/// Who is connected with whom at the end, by what the nodes said. A connection counts if either end tells of it.
pub(super) fn graph(record: &Record) -> Graph {
    let numbers: HashMap<&str, usize> =
        record.accounts.iter().enumerate().map(|(node, account)| (account.id.as_str(), node)).collect();
    let mut edges = HashSet::new();
    for (node, account) in record.accounts.iter().enumerate() {
        for other in account.peers.iter().filter_map(|peer| numbers.get(peer.as_str())) {
            edges.extend([(node, *other), (*other, node)]);
        }
    }
    let mut graph = vec![Vec::new(); record.accounts.len()];
    edges.into_iter().for_each(|(from, to)| graph[from].push(to));
    graph.iter_mut().for_each(|neighbours| neighbours.sort_unstable());
    graph
}

impl Figures {
    pub(super) fn new(record: &Record, delay_ms: f64) -> Self {
        let (deliveries, repeated) = deliveries(record);
        let stayed = (0..record.accounts.len()).filter(|node| stays(record, *node)).count();
        let spoken = |lines: &Vec<Option<Instant>>| lines.iter().flatten().count();
        let authors = record.sent.iter().enumerate().filter(|(node, _)| stays(record, *node));
        let said: usize = authors.map(|(_, lines)| spoken(lines)).sum();
        let expected = said * stayed.saturating_sub(1);
        let mut latencies: Vec<f64> = deliveries.iter().map(|delivery| delivery.ms).collect();
        latencies.sort_by(f64::total_cmp);
        let graph = graph(record);
        let mesh_hops = match (record.cell.subject, record.meshes.is_empty()) {
            (Subject::Broker, _) => 2.0,
            (_, true) => f64::NAN,
            _ => hops::over_mesh(&graph, &record.meshes, 1),
        };
        let is_impaired = record.cell.impaired && delay_ms > 0.0;
        let mesh_ratio = match is_impaired {
            true => percentile(&latencies, 0.5) / (mesh_hops * delay_ms),
            false => f64::NAN,
        };
        let [graph_hops, path_hops, path_ratio] = hop_figures(record, &graph, &deliveries, delay_ms);
        let spent = |of: &dyn Fn(usize) -> f64| -> f64 { (0..record.after.len()).map(of).sum() };
        let alive: Vec<usize> =
            (0..record.after.len()).filter(|n| record.after[*n].usage.rss_kb > 0).collect();
        let mean = |of: &dyn Fn(usize) -> f64| alive.iter().map(|n| of(*n)).sum::<f64>() / alive.len() as f64;
        let peers =
            || record.peers.iter().flatten().filter(|peer| record.accounts.iter().any(|a| a.id == peer.id));
        let share = |wanted: &dyn Fn(&super::trial::Peer) -> bool| {
            peers().filter(|peer| wanted(peer)).count() as f64 / peers().count() as f64
        };
        let rtts: Vec<f64> = peers().filter_map(|peer| peer.rtt_ms).collect();
        // Who has started anew in between has begun at nothing.
        let cpu_s = spent(&|n| {
            let (after, before) = (record.after[n].usage.cpu, record.before[n].usage.cpu);
            after.checked_sub(before).unwrap_or(after).as_secs_f64()
        });
        let cores = std::thread::available_parallelism().map_or(f64::NAN, |cores| usize::from(cores) as f64);
        let line = record.line.as_ref();
        let link = |of: &dyn Fn(&crate::lab::weather::Account) -> f64| line.map_or(f64::NAN, of);
        Figures {
            cell: record.cell,
            nodes: record.accounts.len(),
            seconds: record.seconds,
            said,
            expected,
            delivered: deliveries.len(),
            repeated,
            latencies,
            graph_hops,
            mesh_hops,
            path_hops,
            mesh_ratio,
            path_ratio,
            duplicates: duplicates(record),
            ip_bytes: spent(&|n| record.after[n].traffic.since(record.before[n].traffic).ip_bytes() as f64),
            packets: spent(&|n| record.after[n].traffic.since(record.before[n].traffic).packets as f64),
            cpu_s,
            rss_mb: mean(&|n| record.after[n].usage.rss_kb as f64 / 1000.0),
            anonymous_mb: mean(&|n| record.after[n].usage.anonymous_kb as f64 / 1000.0),
            processes: alive.len(),
            heard_all_s: record.heard_all.unwrap_or(f64::NAN),
            members_all_s: members_all(record),
            connections: match record.cell.subject {
                Subject::Broker => 1.0,
                _ => graph.iter().map(Vec::len).sum::<usize>() as f64 / graph.len() as f64,
            },
            rtt_ms: median(&rtts),
            quic: share(&|peer| Carrier::Quic.carries(&peer.addr)),
            direct: share(&|peer| peer.is_direct),
            busy: record.busy,
            others: (record.busy * cores - (cpu_s + record.own_cpu) / record.seconds).max(0.0),
            own_cores: record.own_cpu / record.seconds,
            link_cores: link(&|line| line.cpu.as_secs_f64() / record.seconds),
            link_late_ms: link(&|line| line.late(0.99).as_secs_f64() * 1000.0),
            link_loss: link(&|line| line.lost as f64 / line.packets as f64),
            link_overflowed: link(&|line| line.overflowed as f64),
        }
    }

    pub(super) fn delivery(&self) -> f64 {
        self.delivered as f64 / self.expected as f64
    }

    pub(super) fn percentile(&self, share: f64) -> f64 {
        percentile(&self.latencies, share)
    }

    pub(super) fn bytes_per_delivery(&self) -> f64 {
        self.ip_bytes / self.delivered as f64
    }

    /// CPU time that one process takes in a second. Unit: ms.
    pub(super) fn cpu_ms_per_second(&self) -> f64 {
        1000.0 * self.cpu_s / self.processes as f64 / self.seconds
    }

    /// All figures with their names, in the order of summary.csv.
    pub(super) fn columns(&self) -> Vec<(&'static str, String)> {
        let text = |value: String| value;
        let number = |value: f64, digits: usize| match value.is_nan() {
            true => String::new(),
            false => format!("{value:.digits$}"),
        };
        let per_delivery = |value: f64| value / self.delivered as f64;
        vec![
            ("cell", text(self.cell.to_string())),
            ("nodes", text(self.nodes.to_string())),
            ("seconds", number(self.seconds, 2)),
            ("messages", text(self.said.to_string())),
            ("expected", text(self.expected.to_string())),
            ("delivered", text(self.delivered.to_string())),
            ("delivery_ratio", number(self.delivery(), 6)),
            ("shown_again", text(self.repeated.to_string())),
            ("p50_ms", number(self.percentile(0.5), 3)),
            ("p95_ms", number(self.percentile(0.95), 3)),
            ("p99_ms", number(self.percentile(0.99), 3)),
            ("max_ms", number(self.percentile(1.0), 3)),
            ("graph_hops", number(self.graph_hops, 3)),
            ("mesh_hops", number(self.mesh_hops, 3)),
            ("path_hops", number(self.path_hops, 3)),
            ("mesh_ratio", number(self.mesh_ratio, 3)),
            ("path_ratio", number(self.path_ratio, 3)),
            ("duplicates_per_delivery", number(self.duplicates, 3)),
            ("ip_bytes_per_delivery", number(self.bytes_per_delivery(), 1)),
            ("packets_per_delivery", number(per_delivery(self.packets), 3)),
            ("cpu_s_per_process", number(self.cpu_s / self.processes as f64, 3)),
            ("cpu_ms_per_second", number(self.cpu_ms_per_second(), 3)),
            ("cpu_us_per_delivery", number(per_delivery(self.cpu_s) * 1e6, 1)),
            ("processes", text(self.processes.to_string())),
            ("rss_mb", number(self.rss_mb, 2)),
            ("anonymous_mb", number(self.anonymous_mb, 2)),
            ("heard_all_s", number(self.heard_all_s, 2)),
            ("members_all_s", number(self.members_all_s, 2)),
            ("connections", number(self.connections, 2)),
            ("rtt_ms", number(self.rtt_ms, 1)),
            ("quic_share", number(self.quic, 3)),
            ("direct_share", number(self.direct, 3)),
            ("busy", number(self.busy, 3)),
            ("others_cores", number(self.others, 3)),
            ("bench_cores", number(self.own_cores, 3)),
            ("link_cores", number(self.link_cores, 3)),
            ("link_late_p99_ms", number(self.link_late_ms, 2)),
            ("link_loss", number(self.link_loss, 5)),
            ("link_overflowed", number(self.link_overflowed, 0)),
        ]
    }
}

#[cfg(test)]
impl Figures {
    /// A cell of which only deliveries, their latency and the CPU time for them are known.
    pub(super) fn blank(cell: Cell, latencies: Vec<f64>, cpu_s: f64) -> Self {
        Figures {
            cell,
            nodes: 16,
            seconds: 10.0,
            said: latencies.len(),
            expected: latencies.len(),
            delivered: latencies.len(),
            repeated: 0,
            latencies,
            graph_hops: f64::NAN,
            mesh_hops: f64::NAN,
            path_hops: f64::NAN,
            mesh_ratio: f64::NAN,
            path_ratio: f64::NAN,
            duplicates: f64::NAN,
            ip_bytes: 0.0,
            packets: 0.0,
            cpu_s,
            rss_mb: f64::NAN,
            anonymous_mb: f64::NAN,
            processes: 16,
            heard_all_s: f64::NAN,
            members_all_s: f64::NAN,
            connections: f64::NAN,
            rtt_ms: f64::NAN,
            quic: f64::NAN,
            direct: f64::NAN,
            busy: 0.5,
            others: 0.0,
            own_cores: 0.0,
            link_cores: 0.0,
            link_late_ms: 0.0,
            link_loss: 0.0,
            link_overflowed: 0.0,
        }
    }
}

/// When the last node knew of all others, if each has.
fn members_all(record: &Record) -> f64 {
    let others = record.accounts.len() - 1;
    let first = |account: &super::ear::Account| {
        let (at, _) = account.members.iter().find(|(_, count)| *count >= others)?;
        Some(at.saturating_duration_since(record.start).as_secs_f64())
    };
    let times: Option<Vec<f64>> = record.accounts.iter().map(first).collect();
    times.map_or(f64::NAN, |times| times.into_iter().fold(0.0, f64::max))
}

/// Copies that warrens got beyond the first, per message that they had not had, by their metrics.
fn duplicates(record: &Record) -> f64 {
    let grown = |name: &str| record.samples.last(name, |_| true) - record.samples.first(name, |_| true);
    let (copies, fresh) =
        (grown("warren_gossip_received_messages_total"), grown("warren_gossip_messages_total"));
    (copies - fresh) / fresh
}

/// Mean links of the shortest way and of the one that arrivals tell of, and the latter's median of latency over (links
/// times delay).
fn hop_figures(record: &Record, graph: &Graph, deliveries: &[Delivery], delay_ms: f64) -> [f64; 3] {
    let mean = |hops: &[f64]| hops.iter().sum::<f64>() / hops.len() as f64;
    let is_impaired = record.cell.impaired && delay_ms > 0.0;
    if record.cell.subject == Subject::Broker {
        let ratios: Vec<f64> = deliveries.iter().map(|delivery| delivery.ms / (2.0 * delay_ms)).collect();
        return [2.0, 2.0, if is_impaired { median(&ratios) } else { f64::NAN }];
    }
    let distances = hops::distances(graph);
    let mut shortest = Vec::new();
    let mut arrivals: HashMap<(usize, u32), Vec<Option<f64>>> = HashMap::new();
    for Delivery { author, number, receiver, ms } in deliveries {
        shortest.extend(distances[*author][*receiver].map(f64::from));
        let arrived = arrivals.entry((*author, *number)).or_insert_with(|| vec![None; graph.len()]);
        (arrived[*receiver], arrived[*author]) = (Some(*ms), Some(0.0));
    }
    if !is_impaired {
        return [mean(&shortest), f64::NAN, f64::NAN];
    }
    let (mut likely, mut ratios) = (Vec::new(), Vec::new());
    for arrived in arrivals.values() {
        let hops = hops::by_arrival(graph, arrived, delay_ms);
        for (ms, hops) in arrived.iter().zip(hops) {
            if let (Some(ms), Some(hops @ 1..)) = (ms, hops) {
                likely.push(f64::from(hops));
                ratios.push(ms / (f64::from(hops) * delay_ms));
            }
        }
    }
    [mean(&shortest), mean(&likely), median(&ratios)]
}

impl Cell {
    /// The column of the report that it belongs to: a program and its transport.
    pub(super) fn is_warren(&self) -> bool {
        matches!(self.subject, Subject::Warren(_))
    }

    /// The upstream cell that it is compared with, if there is one.
    pub(super) fn counterpart(&self) -> Option<Cell> {
        let carrier = match self.subject {
            Subject::Warren(Transport::Tcp) => Carrier::Tcp,
            Subject::Warren(Transport::Quic) => Carrier::Quic,
            _ => return None,
        };
        Some(Cell { subject: Subject::Reference(carrier), ..*self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values = [1.0, 2.0, 3.0, 4.0];
        assert_eq!([0.5, 0.95, 1.0].map(|share| percentile(&values, share)), [2.0, 4.0, 4.0]);
        assert!(percentile(&[], 0.5).is_nan());
    }
}
