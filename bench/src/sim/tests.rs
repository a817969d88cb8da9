use warren::limits;

use super::plan::{Bounds, Plan};
use super::world::{Event, World};

pub(super) fn plan(nodes: usize, seed: u64) -> Plan {
    Plan {
        nodes,
        delay: 45_000,
        jitter: 10_000,
        loss: 0.01,
        work: 300,
        talkers: 5,
        rate: 1.0,
        size: 128,
        warmup: 5_000_000,
        duration: 5_000_000,
        joins: 0.0,
        form: false,
        hubs: 1,
        fan_out: limits::MESH[0],
        links: Bounds::default(),
        seed,
    }
}

fn ran(plan: Plan) -> World {
    let mut world = World::new(plan).expect("envelopes can be signed");
    world.run(|_, _| {});
    world
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_one_another() {
    let tally = |seed| ran(Plan { joins: 2.0, ..plan(80, seed) }).tally;
    assert_eq!(tally(3), tally(3));
    assert_ne!(tally(3), tally(4));
}

#[test]
fn a_newcomer_is_heard_by_all_that_were_there() {
    let world = ran(Plan { joins: 4.0, ..plan(150, 6) });
    let newcomers = &world.tally.newcomers;
    assert_eq!((newcomers.joins, newcomers.joined.len(), newcomers.heard_by_all.len()), (20, 20, 20));
    // A dial of a bootstrap node, a lookup and a dial of a member take more than a quarter of a second; nobody is heard
    // before he is connected.
    assert!(newcomers.joined.percentile(0.0) > 250.0);
    assert!(newcomers.heard_by_all.percentile(0.0) > newcomers.joined.percentile(0.0));
}

#[test]
fn a_greater_fan_out_takes_fewer_hops_and_more_copies() {
    let of = |fan_out| ran(Plan { fan_out, ..plan(300, 2) });
    let (narrow, wide) = (of(3), of(8));
    assert!(narrow.tally.hops.mean() > wide.tally.hops.mean() + 1.0);
    assert!(narrow.tally.text_duplicates * 2 < wide.tally.text_duplicates);
    assert!(narrow.nodes.iter().all(|node| node.links.mesh() <= 8), "3 and 3, and two between heartbeats");
}

#[test]
fn a_node_keeps_as_many_connections_as_its_bounds_say() {
    let median = |links| {
        let mut counts: Vec<usize> =
            ran(Plan { links, ..plan(200, 3) }).nodes.iter().map(|node| node.links.len()).collect();
        counts.sort_unstable();
        counts[100]
    };
    // Who began one closes it, so some have less than they would keep.
    let few = median(Bounds::default());
    assert!((limits::ROOM_LINKS - 2..=limits::ROOM_LINKS + 3).contains(&few), "{few}");
    assert!(median(Bounds { low: 30, high: 40 }) >= 25);
}

#[test]
fn a_full_table_forgets_and_a_room_that_fits_does_not() {
    let members = limits::MEMBERS;
    let large = ran(Plan { talkers: 40, warmup: 1_000_000, duration: 1_000_000, ..plan(members + 100, 1) });
    assert!(large.nodes.iter().all(|node| node.members.len() == members));
    assert!(large.tally.forgotten > 0, "some of those who speak are not in it");
    assert_eq!(ran(plan(200, 1)).tally.forgotten, 0);
}

#[test]
fn every_copy_that_is_sent_has_one_fate() {
    for seed in 0..4 {
        let world = ran(Plan { joins: 5.0, loss: 0.1, ..plan(120, seed) });
        let copies = world.tally.copies;
        assert!(copies.sent > 5 * 5 * 119, "{copies:?}");
        assert_eq!(
            copies.sent,
            copies.delivered + copies.duplicate + copies.cut + copies.under_way,
            "{copies:?}"
        );
        assert!(world.tally.repeated > 0);
    }
}

#[test]
fn a_room_that_is_well_hears_everything() {
    let world = ran(plan(100, 1));
    assert_eq!(world.tally.text_audience, 25 * 99);
    assert_eq!(world.tally.text_deliveries, world.tally.text_audience);
    assert_eq!(world.tally.latency.len(), world.tally.text_audience);
}

/// Five nodes in a line, exact to the microsecond: a message that the first says is heard after 1, 2, 3 and 4 hops.
#[test]
fn a_line_of_nodes_takes_as_many_hops_as_it_has() {
    let mut world =
        World::new(Plan { jitter: 0, loss: 0.0, rate: 0.0, form: true, joins: 1e-9, ..plan(5, 1) })
            .expect("envelopes can be signed");
    world.queue = super::queue::Queue::new();
    for n in 0..5 {
        world.nodes[n].alive = true;
        world.alive += 1;
    }
    for n in 0..4 {
        world.connect(n, n + 1, false);
    }
    world.tally.is_open = true;
    world.queue.add(1_000_000, Event::Say(0));
    while let Some((at, event)) = world.queue.next() {
        // Who hears somebody for the first time would answer it.
        if !matches!(event, Event::Announce(_)) {
            world.now = at;
            world.handle(event);
        }
    }
    let (delay, work) = (45_000, 300);
    let latencies = [0.25, 0.5, 0.75, 1.0].map(|share| world.tally.latency.percentile(share));
    assert_eq!(latencies, [1, 2, 3, 4].map(|hops| ((hops * (delay + work)) / 1000) as f64));
    let hops = &world.tally.hops;
    assert_eq!((hops.len(), hops.percentile(0.25), hops.most(), hops.mean()), (4, 1.0, 4.0, 2.5));
    assert_eq!(world.tally.text_duplicates, 0, "nobody sends back what it was sent");
}

#[test]
fn a_room_forms_from_nothing() {
    let world = ran(Plan { form: true, joins: 10.0, ..plan(60, 2) });
    assert_eq!(world.tally.newcomers.joins, 60);
    assert_eq!(world.tally.newcomers.joined.len(), 60, "everybody has found somebody");
    let few = |n: &super::world::Node| n.links.len() < limits::ROOM_NEIGHBOURS;
    assert!(!world.nodes.iter().any(few), "and enough of them");
}

#[test]
fn meshes_stay_within_gossipsubs_bounds() {
    let world = ran(plan(150, 5));
    let [_, low, high] = limits::MESH;
    for node in &world.nodes {
        // Between two heartbeats others may come on top, or go.
        assert!((low - 1..=high + 2).contains(&node.links.mesh()), "{}", node.links.mesh());
    }
}
