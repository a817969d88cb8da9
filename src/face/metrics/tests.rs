//! What is written down is read again, strictly, by the rules of OpenMetrics 1.0 as far as they concern this program.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::node::api::{Histogram, InRoom, RoomCounts, Stats};

/// Samples by name and labels.
type Samples = BTreeMap<(String, Vec<(String, String)>), f64>;

/// Reads a page, or says what is wrong with it.
fn parse(page: &str) -> Samples {
    let body = page.strip_suffix("# EOF\n").expect("its end is marked");
    let (mut samples, mut families) = (Samples::new(), BTreeSet::new());
    let (mut help, mut family, mut kind) = (None, String::new(), String::new());
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').expect("a text");
            assert!(!text.is_empty() && families.insert(name.to_owned()), "{line}");
            help = Some(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').expect("a type");
            assert_eq!(help.take().as_deref(), Some(name), "no help before {line}");
            assert!(["counter", "gauge", "histogram"].contains(&of), "{line}");
            assert!(is_name(name) && !name.ends_with("_total"), "{line}");
            (family, kind) = (name.into(), of.into());
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').expect("a unit");
            assert!(name == family && name.ends_with(&format!("_{unit}")), "{line}");
        } else {
            let (name, labels, value) = sample(line);
            let suffix = name.strip_prefix(&family).unwrap_or_else(|| panic!("{line} is not of {family}"));
            let suffixes: &[&str] = match kind.as_str() {
                "counter" => &["_total"],
                "histogram" => &["_sum", "_count", "_bucket"],
                _ => &[""],
            };
            assert!(suffixes.contains(&suffix), "{line}");
            assert!(samples.insert((name, labels), value).is_none(), "{line} comes twice");
        }
    }
    samples
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// `name{label="value",...} number`
fn sample(line: &str) -> (String, Vec<(String, String)>, f64) {
    let end = line.find(['{', ' ']).expect("a name's end");
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Vec::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        loop {
            let (label, behind) = inside.split_once("=\"").expect("a label");
            assert!(is_name(label), "{line}");
            let (mut value, mut chars) = (String::new(), behind.char_indices());
            let end = loop {
                match chars.next().expect("a value's end") {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match chars.next().expect("an escape").1 {
                        'n' => '\n',
                        c @ ('"' | '\\') => c,
                        c => panic!("\\{c} in {line}"),
                    }),
                    (_, c) => value.push(c),
                }
            };
            labels.push((label.to_owned(), value));
            match behind[end + 1..].strip_prefix(',') {
                Some(next) => inside = next,
                None => break rest = behind[end + 1..].strip_prefix('}').expect("its end"),
            }
        }
    }
    let number = rest.strip_prefix(' ').expect("a number").parse().expect("a number");
    (name.into(), labels, number)
}

/// A node in rooms with these names.
fn snapshot(rooms: &[&str]) -> Box<Snapshot> {
    let mut rtt = Histogram::default();
    for ms in [1, 20, 20, 5000] {
        rtt.observe(std::time::Duration::from_millis(ms));
    }
    let room = |name: &&str| InRoom {
        room: name.parse().expect("a name"),
        members: 3,
        mesh: 2,
        counts: RoomCounts {
            received: 1 << 40,
            received_bytes: 11,
            published: 5,
            published_bytes: 55,
            fates: [("accepted", 7), ("known", 0), ("stale", 0), ("invalid", 1), ("unknown", 0)],
        },
    };
    Box::new(Snapshot {
        rooms: rooms.iter().map(room).collect(),
        connections: vec![(["tcp", "direct"], 2)],
        peers: vec![(["quic", "direct", "inbound"], 1), (["tcp", "relayed", "outbound"], 4)],
        rtt,
        dials: vec![(["connected"], 9)],
        punches: vec![(["walk", "missed"], 6)],
        recalls: vec![(["asked"], 1)],
        queries: vec![(["lookup", "failed"], 2)],
        reservations_held: 2,
        missed_events: 8,
        stats: Stats { dropped: 5, known: 64, circuits: 3, ..Stats::default() },
        #[cfg(feature = "autonat")]
        reachability: vec![(["reachable"], 1), (["unknown"], 0)],
        #[cfg(feature = "stun")]
        nats: Vec::new(),
        #[cfg(feature = "stun")]
        stun: Some(Default::default()),
    })
}

#[track_caller]
fn value(samples: &Samples, name: &str, labels: &[(&str, &str)]) -> f64 {
    let labels = labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let value = samples.get(&(name.to_owned(), labels));
    *value.unwrap_or_else(|| panic!("no {name} in {samples:#?}"))
}

#[test]
fn what_is_counted_is_told() {
    let samples = parse(&encode::encode(snapshot(&["den", "attic"]), process::Usage::now()).expect("text"));
    let value = |name, labels: &[(&str, &str)]| value(&samples, name, labels);
    assert_eq!(value("warren_gossip_received_messages_total", &[("room", "attic")]), (1u64 << 40) as f64);
    assert_eq!(value("warren_gossip_messages_total", &[("room", "den"), ("fate", "invalid")]), 1.0);
    assert_eq!(value("warren_mesh_peers", &[("room", "den")]), 2.0);
    let relayed = [("transport", "tcp"), ("path", "relayed"), ("direction", "outbound")];
    assert_eq!(value("warren_peers", &relayed), 4.0);
    assert_eq!(value("warren_hole_punches_total", &[("kind", "walk"), ("outcome", "missed")]), 6.0);
    assert_eq!(value("warren_dropped_total", &[("queue", "events")]), 8.0);
    assert_eq!(value("warren_known_peers", &[]), 64.0);
    let bucket = |le| value("warren_ping_rtt_seconds_bucket", &[("le", le)]);
    assert_eq!((bucket("0.001"), bucket("0.03"), bucket("3.0"), bucket("+Inf")), (1.0, 3.0, 3.0, 4.0));
    assert_eq!(
        (value("warren_ping_rtt_seconds_count", &[]), value("warren_ping_rtt_seconds_sum", &[])),
        (4.0, 5.041)
    );
    assert!(value("process_resident_memory_bytes", &[]) > 100_000.0);
}

#[test]
fn a_room_can_be_called_anything() {
    let names = ["a\"} 1\\n", "\\", "{le=\"+Inf\"}", "# EOF", "π"].map(|name| name.replace(' ', "_"));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let samples = parse(&encode::encode(snapshot(&names), process::Usage::default()).expect("text"));
    for name in names {
        assert_eq!(value(&samples, "warren_room_members", &[("room", name)]), 3.0);
    }
}

#[test]
fn a_node_in_no_room_tells_the_rest() {
    let page = encode::encode(snapshot(&[]), process::Usage::default()).expect("text");
    let samples = parse(&page);
    assert!(samples.keys().all(|(name, _)| name.starts_with("warren_")), "{page}");
    assert!(samples.len() > 20, "{page}");
}

#[test]
fn the_most_that_there_can_be_is_bounded() {
    let long = |n: usize| format!("{n:02}{}", "\"".repeat(limits::ROOM_NAME_BYTES - 2));
    let names: Vec<String> = (0..limits::ROOMS).map(long).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let page = encode::encode(snapshot(&names), process::Usage::now()).expect("text");
    assert_eq!(parse(&page).keys().filter(|(name, _)| name == "warren_mesh_peers").count(), limits::ROOMS);
    // Eleven series a room.
    assert!(
        page.len() < 32 * 1024 + limits::ROOMS * 11 * (2 * limits::ROOM_NAME_BYTES + 80),
        "{}",
        page.len()
    );
}
