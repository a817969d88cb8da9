//! Writes a snapshot down in OpenMetrics, with names and units as Prometheus' conventions want them.

use std::fmt::{Error, Result};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use super::process::Usage;
use crate::node::api::{InRoom, Snapshot};

/// The features that this program was built with, in the order of their names.
const FEATURES: [(&str, bool); 12] = [
    ("autonat", cfg!(feature = "autonat")),
    ("control", cfg!(feature = "control")),
    ("dns", cfg!(feature = "dns")),
    ("foreign-keys", cfg!(feature = "foreign-keys")),
    ("kad", cfg!(feature = "kad")),
    ("mdns", cfg!(feature = "mdns")),
    ("metrics", cfg!(feature = "metrics")),
    ("portmap", cfg!(feature = "portmap")),
    ("quic", cfg!(feature = "quic")),
    ("relay-server", cfg!(feature = "relay-server")),
    ("stun", cfg!(feature = "stun")),
    ("web", cfg!(feature = "web")),
];

/// All of it as text.
pub(super) fn encode(snapshot: Box<Snapshot>, usage: Usage) -> std::result::Result<String, Error> {
    let mut text = String::with_capacity(16 * 1024);
    let mut warren = Registry::with_prefix("warren");
    warren.register_collector(Box::new(Of(*snapshot)));
    text::encode_registry(&mut text, &warren)?;
    let mut process = Registry::with_prefix("process");
    process.register_collector(Box::new(Of(usage)));
    text::encode_registry(&mut text, &process)?;
    text::encode_eof(&mut text)?;
    Ok(text)
}

#[derive(Debug)]
struct Of<T>(T);

/// Writes metrics, one after the other.
struct Page<'a>(DescriptorEncoder<'a>);

/// A value with its labels' values.
type Sample<'a, const N: usize> = ([&'a str; N], u64);

impl Page<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Into<u64>) -> Result {
        count(&mut self.0.encode_descriptor(name, help, None, MetricType::Counter)?, value.into())
    }

    fn gauges<'s, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [&str; N],
        samples: impl IntoIterator<Item = Sample<'s, N>>,
    ) -> Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (values, value) in samples {
            let labels: Vec<(&str, &str)> = labels.into_iter().zip(values).collect();
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn counters<'s, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [&str; N],
        samples: impl IntoIterator<Item = Sample<'s, N>>,
    ) -> Result {
        self.counters_in(None, name, help, labels, samples)
    }

    fn counters_in<'s, const N: usize>(
        &mut self,
        unit: Option<&Unit>,
        name: &str,
        help: &str,
        labels: [&str; N],
        samples: impl IntoIterator<Item = Sample<'s, N>>,
    ) -> Result {
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        for (values, value) in samples {
            let labels: Vec<(&str, &str)> = labels.into_iter().zip(values).collect();
            count(&mut family.encode_family(&labels)?, value)?;
        }
        Ok(())
    }
}

fn count(metric: &mut MetricEncoder<'_>, value: u64) -> Result {
    metric.encode_counter::<NoLabelSet, u64, u64>(&value, None)
}

impl Collector for Of<Snapshot> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result {
        let (mut page, snapshot) = (Page(encoder), &self.0);
        about_the_program(&mut page)?;
        gossip(&mut page, snapshot)?;
        connections(&mut page, snapshot)?;
        nat(&mut page, snapshot)?;
        discovery(&mut page, snapshot)
    }
}

fn about_the_program(page: &mut Page<'_>) -> Result {
    let features: Vec<&str> =
        FEATURES.into_iter().filter_map(|(name, is_in)| is_in.then_some(name)).collect();
    page.gauges(
        "build_info",
        "Version and features of the program; always 1",
        ["version", "features"],
        [([env!("CARGO_PKG_VERSION"), &features.join(",")], 1)],
    )
}

fn gossip(page: &mut Page<'_>, snapshot: &Snapshot) -> Result {
    let by_room = |value: fn(&InRoom) -> u64| {
        snapshot.rooms.iter().map(move |room| ([room.room.as_str()], value(room)))
    };
    page.gauges("room_members", "Others in the room", ["room"], by_room(|room| room.members))?;
    page.gauges("mesh_peers", "Peers in the room's gossipsub mesh", ["room"], by_room(|room| room.mesh))?;
    page.counters(
        "gossip_received_messages",
        "Copies of messages that peers sent, also of what was known",
        ["room"],
        by_room(|room| room.counts.received),
    )?;
    page.counters_in(
        Some(&Unit::Bytes),
        "gossip_received",
        "Data of those copies, without what gossipsub puts around it",
        ["room"],
        by_room(|room| room.counts.received_bytes),
    )?;
    let fates = snapshot.rooms.iter().flat_map(|InRoom { room, counts, .. }| {
        counts.fates.iter().map(move |(fate, count)| ([room.as_str(), *fate], *count))
    });
    page.counters(
        "gossip_messages",
        "What became of messages when they first came; those received beyond them were duplicates",
        ["room", "fate"],
        fates,
    )?;
    page.counters(
        "gossip_published_messages",
        "Messages of this node that gossipsub took, announcements included",
        ["room"],
        by_room(|room| room.counts.published),
    )?;
    page.counters_in(
        Some(&Unit::Bytes),
        "gossip_published",
        "Data of those messages, each counted once however many peers it goes to",
        ["room"],
        by_room(|room| room.counts.published_bytes),
    )?;
    page.counter("sent_messages", "What was said here and taken", snapshot.stats.sent)?;
    page.counter("delivered_messages", "What others said, shown here", snapshot.stats.delivered)?;
    page.counters(
        "dropped",
        "What was lost because somebody was too slow: messages for a peer, events for a reader of this node",
        ["queue"],
        [(["gossip"], snapshot.stats.dropped.into()), (["events"], snapshot.missed_events)],
    )?;
    page.counters(
        "recalls",
        "Asking peers for what was missed, answering them, and messages that came of it",
        ["what"],
        snapshot.recalls.iter().copied(),
    )
}

fn connections(page: &mut Page<'_>, snapshot: &Snapshot) -> Result {
    page.gauges(
        "peers",
        "Connected peers by transport and path of their best connection, and by who dialled first",
        ["transport", "path", "direction"],
        snapshot.peers.iter().copied(),
    )?;
    page.gauges("connections", "Connections", ["transport", "path"], snapshot.connections.iter().copied())?;
    let rtt = &snapshot.rtt;
    let classes: Vec<(f64, u64)> = rtt.classes().collect();
    page.0
        .encode_descriptor(
            "ping_rtt",
            "Round-trip times of pings",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?
        .encode_histogram::<NoLabelSet>(rtt.sum(), rtt.count(), &classes, None)?;
    page.counters("dials", "Dials by what came of them", ["outcome"], snapshot.dials.iter().copied())?;
    page.counter(
        "inbound_failures",
        "Inbound connections that failed before they were established",
        snapshot.stats.inbound_failures,
    )
}

fn nat(page: &mut Page<'_>, snapshot: &Snapshot) -> Result {
    page.counters(
        "hole_punches",
        "Attempts to make a direct connection out of a relayed one",
        ["kind", "outcome"],
        snapshot.punches.iter().copied(),
    )?;
    page.gauge(
        "relay_reservations_held",
        "Relays through which others reach this node",
        snapshot.reservations_held,
    )?;
    page.gauge(
        "relay_reservations_given",
        "Peers that are reached through this relay",
        snapshot.stats.reservations.into(),
    )?;
    page.gauge("relay_circuits", "Circuits through this relay", snapshot.stats.circuits.into())?;
    #[cfg(feature = "autonat")]
    page.gauges(
        "reachability",
        "Whether others can dial this node: 1 for the verdict that holds",
        ["verdict"],
        snapshot.reachability.iter().copied(),
    )?;
    #[cfg(feature = "stun")]
    stun(page, snapshot)?;
    Ok(())
}

#[cfg(feature = "stun")]
fn stun(page: &mut Page<'_>, snapshot: &Snapshot) -> Result {
    let nats = snapshot.nats.iter();
    page.gauges(
        "nat_info",
        "The NAT that STUN found, in the words of RFC 4787; always 1",
        ["family", "mapping", "filtering", "ports"],
        nats.map(|nat| ([&nat.family, nat.mapping, nat.filtering, nat.ports], 1)),
    )?;
    let Some(stun) = snapshot.stun else { return Ok(()) };
    let (client, server) = (stun.client, stun.server);
    page.counter("stun_checks", "Rounds of questions how this node is seen", client.checks)?;
    let dropped = [
        client.malformed,
        client.fingerprint,
        client.unmatched,
        client.stranger,
        client.not_understood,
        client.errors,
    ];
    page.counter(
        "stun_dropped_responses",
        "Answers that were not believed",
        dropped.into_iter().map(u64::from).sum::<u64>(),
    )?;
    page.counters(
        "stun_served_requests",
        "Questions of others to this relay",
        ["outcome"],
        [
            (["answered"], server.answered.into()),
            (["refused"], server.refused.into()),
            (["rationed"], server.rationed.into()),
            (["ignored"], server.ignored.into()),
        ],
    )
}

fn discovery(page: &mut Page<'_>, snapshot: &Snapshot) -> Result {
    page.gauge("known_peers", "Peers in the address book", snapshot.stats.known.into())?;
    page.gauge("dht_routes", "Peers in the DHT's routing table", snapshot.stats.routes.into())?;
    page.counters(
        "dht_queries",
        "Lookups of rooms and announcements in the DHT that have ended",
        ["kind", "outcome"],
        snapshot.queries.iter().copied(),
    )
}

impl Collector for Of<Usage> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result {
        let (mut page, usage) = (Page(encoder), &self.0);
        if let Some(cpu) = usage.cpu_seconds {
            let help = "CPU time used, user and system";
            page.0
                .encode_descriptor("cpu", help, Some(&Unit::Seconds), MetricType::Counter)?
                .encode_counter::<NoLabelSet, f64, f64>(&cpu, None)?;
        }
        if let Some(start) = usage.start_seconds {
            let help = "When the process started, since 1970";
            page.0
                .encode_descriptor("start_time", help, Some(&Unit::Seconds), MetricType::Gauge)?
                .encode_gauge(&start)?;
        }
        let bytes = [("resident_memory", usage.resident_bytes), ("virtual_memory", usage.virtual_bytes)];
        for (name, value) in bytes {
            if let Some(value) = value {
                let help = "Memory of the process";
                page.0
                    .encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?
                    .encode_gauge(&value)?;
            }
        }
        let counts = [
            ("open_fds", "Open file descriptors", usage.open_fds),
            ("max_fds", "The most there may be", usage.max_fds),
            ("threads", "Threads", usage.threads),
        ];
        for (name, help, value) in counts {
            if let Some(value) = value {
                page.gauge(name, help, value)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::FEATURES;

    /// Those of the default bundle are all there are, but for tools of developers.
    #[test]
    fn no_feature_is_forgotten() {
        let manifest = include_str!("../../../Cargo.toml");
        let (_, rest) = manifest.split_once("\ndefault = [").expect("a list");
        let (list, _) = rest.split_once(']').expect("its end");
        let default: Vec<&str> = list.split(',').map(|name| name.trim().trim_matches('"')).collect();
        let known: Vec<&str> = FEATURES.iter().map(|(name, _)| *name).collect();
        assert_eq!(known, default);
    }
}
