//! What came of a run, for people.

use warren::limits;

use super::tally::{Spread, seconds};
use super::world::{Plan, World};
use crate::table::Table;

pub(super) fn heading(plan: &Plan) -> String {
    let ms = |micros: u64| micros as f64 / 1000.0;
    format!(
        "sim: {} members, {} ms +- {} ms each way, {} % lost; {} talk {} times a second, {} bytes; {} join each second{}; \
         seed {}",
        plan.nodes,
        ms(plan.delay),
        ms(plan.jitter),
        plan.loss * 100.0,
        plan.talkers.min(plan.nodes),
        plan.rate,
        plan.size,
        plan.joins,
        if plan.form { " from nothing" } else { "" },
        plan.seed
    )
}

pub(super) fn print(world: &World) {
    let (tally, measured) = (&world.tally, &world.measured);
    let time = seconds(0, world.plan.duration);
    let mut table = Table::new(&["", ""]);
    let mut row = |what: &str, words: String| table.row(&[what.to_owned(), words]);
    let of = |spread: &Spread| {
        format!("{} / {} / {}", spread.percentile(0.5), spread.percentile(0.95), spread.percentile(0.99))
    };
    row("texts: said, heard of what should be", format!("{}, {:.3} %", tally.texts, delivery(world)));
    row("latency p50 / p95 / p99, ms", of(&tally.latency));
    row("hops p50 / p95 / p99, mean", format!("{}, {:.2}", of(&tally.hops), tally.hops.mean()));
    let asked_for = 100.0 * tally.asked_for as f64 / tally.text_deliveries as f64;
    row("heard by IHAVE and IWANT only", format!("{asked_for:.3} %"));
    row("copies of a text heard twice, each delivery", format!("{:.2}", duplicates(world)));
    row("bytes on the wire for a text, each delivery", format!("{:.0}", bytes_per_delivery(world)));
    let kb = |bytes: u64| bytes as f64 / 1000.0 / time / world.alive as f64;
    let bytes = measured.bytes;
    row(
        "kB/s of a node: texts + presence + control + finding",
        format!(
            "{:.2} + {:.2} + {:.2} + {:.2} = {:.2}",
            2.0 * kb(bytes.text),
            2.0 * kb(bytes.presence),
            2.0 * kb(bytes.control),
            2.0 * kb(bytes.finding),
            2.0 * kb(bytes.all())
        ),
    );
    let greatest = world.busiest as f64 / 1000.0 / time;
    row("kB/s of the busiest node", format!("{greatest:.2}"));
    row("announcements a second", format!("{:.2}", measured.announcements as f64 / time));
    row("dials, denied, closed for being too many, a second", {
        let each = |n: u64| n as f64 / time;
        format!("{:.2}, {:.2}, {:.2}", each(measured.dials), each(measured.denied), each(measured.thinned))
    });
    let links = spread(world, |world, n| world.nodes[n].links.len());
    let mesh = spread(world, |world, n| world.nodes[n].mesh());
    row("connections: median, greatest", format!("{}, {}", links.percentile(0.5), links.most()));
    row("in the mesh: median, least, greatest", {
        format!("{}, {}, {}", mesh.percentile(0.5), mesh.percentile(0.0), mesh.most())
    });
    let members = spread(world, |world, n| world.nodes[n].members.len());
    let candidates = spread(world, |world, n| world.nodes[n].candidates.len());
    row("table of members: median, bound", format!("{}, {}", members.percentile(0.5), limits::MEMBERS));
    row("candidates: median, bound", format!("{}, {}", candidates.percentile(0.5), limits::CANDIDATES));
    row("records of the room in the DHT, bound", {
        format!("{}, {}", world.dht.records(), limits::DHT_PROVIDERS_PER_KEY)
    });
    row("joined, of them with neighbours, with enough", {
        format!("{}, {}, {}", tally.joins, tally.joined.len(), tally.settled.len())
    });
    if tally.joins > 0 {
        row("  first neighbour after ms, p50 / p95 / p99", of(&tally.joined));
        row("  as many as wanted", of(&tally.settled));
        row("  first heard", of(&tally.heard));
    }
    table.print();
    let copies = tally.copies;
    println!(
        "copies: {} sent = {} delivered + {} heard twice + {} cut off + {} under way at the end; {} packets repeated",
        copies.sent, copies.delivered, copies.duplicate, copies.cut, copies.under_way, tally.repeated
    );
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
