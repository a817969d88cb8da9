//! What came of a run, for people.

use warren::limits;

use super::plan::Plan;
use super::tally::{Spread, seconds};
use super::world::World;
use crate::table::Table;

pub(super) fn heading(plan: &Plan) -> String {
    let ms = |micros: u64| micros as f64 / 1000.0;
    format!(
        "sim: {} members, {} ms +- {} ms each way, {} % lost; {} talk {} times a second, {} bytes; {} join each second{}; \
         fan-out {}, {} to {} connections; seed {}",
        plan.nodes,
        ms(plan.delay),
        ms(plan.jitter),
        plan.loss * 100.0,
        plan.talkers.min(plan.nodes),
        (1000.0 * plan.rate).round() / 1000.0,
        plan.size,
        plan.joins,
        if plan.form { " from nothing" } else { "" },
        plan.fan_out,
        plan.links.low,
        plan.links.high,
        plan.seed
    )
}

pub(super) fn print(world: &World) {
    let mut table = Table::new(&["", ""]);
    let mut row = |what: &str, words: String| table.row(&[what.to_owned(), words]);
    messages(world, &mut row);
    company(world, &mut row);
    tables(world, &mut row);
    if world.tally.newcomers.joins > 0 {
        newcomers(world, &mut row);
    }
    table.print();
    let (copies, repeated) = (world.tally.copies, world.tally.repeated);
    println!(
        "copies: {} sent = {} delivered + {} heard twice + {} cut off + {} under way at the end; {repeated} packets repeated",
        copies.sent, copies.delivered, copies.duplicate, copies.cut, copies.under_way
    );
}

fn messages(world: &World, row: &mut impl FnMut(&str, String)) {
    let tally = &world.tally;
    row("texts: said, heard of what should be", format!("{}, {:.3} %", tally.texts, delivery(world)));
    row("latency p50 / p95 / p99, ms", of(&tally.latency));
    row("hops p50 / p95 / p99, mean", format!("{}, {:.2}", of(&tally.hops), tally.hops.mean()));
    row("heard by IHAVE and IWANT only", format!("{:.3} %", asked_for(world)));
    row("copies of a text heard twice, each delivery", format!("{:.2}", duplicates(world)));
    row("bytes on the wire for a text, each delivery", format!("{:.0}", bytes_per_delivery(world)));
    let bytes = world.measured.bytes;
    let kb = |bytes: u64| format!("{:.2}", kb_each(world, bytes));
    row(
        "kB/s of a node: texts + presence + control + finding",
        format!(
            "{} + {} + {} + {} = {}",
            kb(bytes.text),
            kb(bytes.presence),
            kb(bytes.control),
            kb(bytes.finding),
            kb(bytes.all())
        ),
    );
    row("kB/s of the busiest node", format!("{:.2}", world.busiest as f64 / 1000.0 / duration(world)));
    row("time that a node works on what is new to it", format!("{:.2} %", work(world)));
}

fn company(world: &World, row: &mut impl FnMut(&str, String)) {
    row("announcements a second", format!("{:.2}", each(world, world.measured.announcements)));
    let measured = &world.measured;
    row("dials, denied by members, by bootstrap nodes, closed for being too many, a second", {
        let counts = [measured.dials, measured.denied, measured.turned_away, measured.thinned];
        counts.map(|count| format!("{:.2}", each(world, count))).join(", ")
    });
    row("lookups a second, nobody answered", {
        format!("{:.2}, {:.2} %", each(world, measured.lookups), unanswered(world))
    });
}

fn tables(world: &World, row: &mut impl FnMut(&str, String)) {
    let links = spread(world, |world, n| world.nodes[n].links.len());
    let mesh = spread(world, |world, n| world.nodes[n].links.mesh());
    row("connections: median, greatest, bounds", {
        let bounds = world.plan.links;
        format!("{}, {}, {} to {}", links.percentile(0.5), links.most(), bounds.low, bounds.high)
    });
    row("in the mesh: median, least, greatest", {
        format!("{}, {}, {}", mesh.percentile(0.5), mesh.percentile(0.0), mesh.most())
    });
    let members = spread(world, |world, n| world.nodes[n].members.len());
    let candidates = spread(world, |world, n| world.nodes[n].candidates.len());
    row("table of members: median, bound", format!("{}, {}", members.percentile(0.5), limits::MEMBERS));
    row("who speaks and was forgotten, the table being full, a node and minute", {
        let each = each(world, world.measured.forgotten) / world.alive as f64;
        format!("{:.2}", 60.0 * each)
    });
    row("candidates: median, bound", format!("{}, {}", candidates.percentile(0.5), limits::CANDIDATES));
    row("records of the room in the DHT, bound", {
        format!("{}, {}", world.dht.records(), limits::DHT_PROVIDERS_PER_KEY)
    });
}

fn newcomers(world: &World, row: &mut impl FnMut(&str, String)) {
    let newcomers = &world.tally.newcomers;
    row("joined, of them with neighbours, with enough, heard by all", {
        let all = [&newcomers.joined, &newcomers.settled, &newcomers.heard_by_all].map(Spread::len);
        format!("{}, {}, {}, {}", newcomers.joins, all[0], all[1], all[2])
    });
    row("  first neighbour after ms, p50 / p95 / p99", of(&newcomers.joined));
    row("  as many as wanted", of(&newcomers.settled));
    row("  first heard somebody", of(&newcomers.heard));
    row("  heard by all that were there before it", of(&newcomers.heard_by_all));
    let first = if world.plan.form { 0 } else { world.plan.nodes };
    let came = (first..world.nodes.len()).filter(|n| world.nodes[*n].alive);
    let mut known = Spread::default();
    came.for_each(|n| known.add(world.nodes[n].members.len() as u64));
    row("  members that one of them knows of at the end: median, bound", {
        format!("{}, {}", known.percentile(0.5), limits::MEMBERS)
    });
}

fn of(spread: &Spread) -> String {
    format!("{} / {} / {}", spread.percentile(0.5), spread.percentile(0.95), spread.percentile(0.99))
}

/// Unit: seconds.
fn duration(world: &World) -> f64 {
    seconds(0, world.plan.duration)
}

/// So often a second while texts were counted.
pub(super) fn each(world: &World, count: u64) -> f64 {
    count as f64 / duration(world)
}

/// What a node sends and receives of so many bytes that were sent. Unit: kB/s.
pub(super) fn kb_each(world: &World, bytes: u64) -> f64 {
    2.0 * each(world, bytes) / 1000.0 / world.alive as f64
}

/// Of the time of a node, mean, so much went into messages that were new to it. Unit: percent.
pub(super) fn work(world: &World) -> f64 {
    let delivered = world.measured.copies.delivered as f64 / world.alive as f64;
    100.0 * delivered * world.plan.work as f64 / world.plan.duration as f64
}

/// Questions to the DHT that nobody had a place for. Unit: percent.
pub(super) fn unanswered(world: &World) -> f64 {
    100.0 * world.measured.unanswered as f64 / world.measured.lookups as f64
}

/// Texts that came because they were asked for. Unit: percent.
pub(super) fn asked_for(world: &World) -> f64 {
    100.0 * world.tally.asked_for as f64 / world.tally.text_deliveries as f64
}

/// Of the texts that all others should have heard, how many they did. Unit: percent.
pub(super) fn delivery(world: &World) -> f64 {
    100.0 * world.tally.text_deliveries as f64 / world.tally.text_audience as f64
}

pub(super) fn duplicates(world: &World) -> f64 {
    world.tally.text_duplicates as f64 / world.tally.text_deliveries as f64
}

/// Bytes of all kinds, sent and received, for each text that was delivered.
pub(super) fn all_bytes_per_delivery(world: &World) -> f64 {
    2.0 * world.measured.bytes.all() as f64 / world.tally.text_deliveries as f64
}

/// Connections of a node, mean.
pub(super) fn connections(world: &World) -> f64 {
    spread(world, |world, n| world.nodes[n].links.len()).mean()
}

/// Bytes of texts and of what carries them about, for each that was delivered.
pub(super) fn bytes_per_delivery(world: &World) -> f64 {
    (world.measured.bytes.text + world.measured.bytes.control) as f64 / world.tally.text_deliveries as f64
}

fn spread(world: &World, of: impl Fn(&World, usize) -> usize) -> Spread {
    let mut spread = Spread::default();
    for n in (0..world.nodes.len()).filter(|n| world.nodes[*n].alive) {
        spread.add(of(world, n) as u64);
    }
    spread
}
