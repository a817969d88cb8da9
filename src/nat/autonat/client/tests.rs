use proptest::prelude::*;

use super::*;

/// Servers in a world with virtual time, which answer as they are told.
struct World {
    client: Client,
    now: Instant,
    /// Questions asked so far.
    asked: Vec<Ask>,
}

const GOOD: &str = "/ip4/203.0.113.1/tcp/4001";
const OTHER: &str = "/ip4/203.0.113.1/udp/4001/quic-v1";
const SIX: &str = "/ip6/2001:db8::1/tcp/4001";

fn addr(text: &str) -> Multiaddr {
    text.parse().expect("a multiaddr")
}

impl World {
    fn new(addrs: &[&str]) -> Self {
        let mut world = World { client: Client::default(), now: Instant::now(), asked: Vec::new() };
        world.offer(addrs);
        world
    }

    fn offer(&mut self, addrs: &[&str]) {
        self.client.offer(addrs.iter().map(|text| addr(text)), self.now);
    }

    fn server(&mut self, ip: [u8; 4]) -> PeerId {
        let peer = PeerId::random();
        self.client.server(peer, ip.into(), self.now);
        peer
    }

    /// Lets time pass. Returns how often a server was asked.
    fn run(&mut self, time: Duration, answer: impl Fn(&Ask) -> Outcome) -> usize {
        let (end, before) = (self.now + time, self.asked.len());
        loop {
            while let Some(ask) = self.client.next(self.now, 0.0) {
                let outcome = answer(&ask);
                self.client.answered(&ask, outcome, 0, self.now, 0.0);
                self.asked.push(ask);
            }
            match self.client.next_due().filter(|due| *due <= end) {
                Some(due) => {
                    assert!(due > self.now, "it would be called again and again at the same time");
                    self.now = due;
                }
                None => break,
            }
        }
        self.now = end;
        self.asked.len() - before
    }

    fn minutes(&mut self, minutes: u64, answer: impl Fn(&Ask) -> Outcome) -> usize {
        self.run(Duration::from_secs(60 * minutes), answer)
    }
}

fn always(outcome: Outcome) -> impl Fn(&Ask) -> Outcome {
    move |_| outcome
}

#[test]
fn without_a_server_nothing_is_known_and_nothing_done() {
    let mut world = World::new(&[GOOD]);
    assert_eq!((world.client.next(world.now, 0.0), world.client.next_due()), (None, None));
    assert_eq!(world.client.verdict(), Verdict::Unknown);
}

#[test]
fn one_server_is_enough_where_there_is_one() {
    for (outcome, verdict) in
        [(Outcome::Reached, Verdict::Reachable), (Outcome::Unreached, Verdict::Unreachable)]
    {
        let mut world = World::new(&[GOOD]);
        world.server([198, 51, 100, 1]);
        assert_eq!(world.minutes(1, always(outcome)), 1);
        assert_eq!(world.client.verdict(), verdict);
        assert_eq!(world.client.is_reachable(&addr(GOOD)), Some(outcome == Outcome::Reached));
    }
}

#[test]
fn two_of_different_owners_have_to_agree() {
    let mut world = World::new(&[GOOD]);
    let servers = [1, 2, 3].map(|n| world.server([198, 51, n, 1]));
    world.server([198, 51, 1, 2]);
    let answer = |ask: &Ask| if ask.server == servers[0] { Outcome::Unreached } else { Outcome::Reached };
    let asked = world.minutes(1, answer);
    assert!((2..=3).contains(&asked), "{asked}");
    assert_eq!(world.client.verdict(), Verdict::Reachable);
    // Those of one owner are one voice, be they ever so many.
    let mut world = World::new(&[GOOD]);
    (1..50).for_each(|n| _ = world.server([198, 51, 100, n]));
    assert_eq!(world.minutes(1, always(Outcome::Reached)), 1);
}

#[test]
fn two_that_contradict_each_other_say_nothing() {
    let mut world = World::new(&[GOOD]);
    let one = world.server([198, 51, 1, 1]);
    world.server([198, 51, 2, 1]);
    let answer = |ask: &Ask| if ask.server == one { Outcome::Unreached } else { Outcome::Reached };
    assert_eq!(world.run(Duration::from_secs(30), answer), 2);
    assert_eq!(world.client.verdict(), Verdict::Unknown);
}

#[test]
fn a_second_voice_is_heard_when_it_comes() {
    let mut world = World::new(&[GOOD]);
    world.server([198, 51, 1, 1]);
    world.minutes(1, always(Outcome::Reached));
    let second = world.server([198, 51, 2, 1]);
    world.minutes(1, always(Outcome::Reached));
    assert!(world.asked.iter().any(|ask| ask.server == second));
    assert_eq!(world.asked.len(), 3, "one, and then both");
}

#[test]
fn one_bad_round_changes_nothing_and_the_second_does() {
    let mut world = World::new(&[GOOD]);
    world.server([198, 51, 1, 1]);
    world.minutes(1, always(Outcome::Reached));
    let until_next = world.client.next_due().expect("tested again") - world.now;
    world.run(until_next, always(Outcome::Unreached));
    assert_eq!(world.client.verdict(), Verdict::Reachable);
    // It was a bad moment.
    world.run(limits::AUTONAT_AGAIN, always(Outcome::Reached));
    let until_next = world.client.next_due().expect("tested again") - world.now;
    world.run(until_next, always(Outcome::Unreached));
    assert_eq!(world.client.verdict(), Verdict::Reachable);
    world.run(limits::AUTONAT_AGAIN, always(Outcome::Unreached));
    assert_eq!(world.client.verdict(), Verdict::Unreachable);
}

#[test]
fn what_stays_as_it_is_is_asked_for_less_and_less() {
    let mut world = World::new(&[GOOD]);
    world.server([198, 51, 1, 1]);
    let first_hour = world.minutes(60, always(Outcome::Reached));
    let day = world.minutes(24 * 60, always(Outcome::Reached));
    assert!((4..=6).contains(&first_hour) && (22..=25).contains(&day), "{first_hour}, {day}");
}

#[test]
fn other_addresses_are_tested_at_once_and_one_round_is_enough_then() {
    let mut world = World::new(&[GOOD]);
    world.server([198, 51, 1, 1]);
    world.minutes(120, always(Outcome::Reached));
    world.client.shaken(world.now);
    assert_eq!(world.run(limits::AUTONAT_SETTLE, always(Outcome::Unreached)), 1);
    assert_eq!(world.client.verdict(), Verdict::Unreachable);
}

#[test]
fn a_failed_use_is_a_reason_to_ask_but_not_all_the_time() {
    let mut world = World::new(&[GOOD]);
    world.server([198, 51, 1, 1]);
    world.minutes(120, always(Outcome::Reached));
    let mut asked = 0;
    for _ in 0..600 {
        world.client.doubt(world.now);
        asked += world.run(Duration::from_secs(1), always(Outcome::Reached));
    }
    assert!((9..=11).contains(&asked), "{asked} in ten minutes");
}

#[test]
fn an_answer_to_a_question_of_before_the_change_does_not_count() {
    let mut world = World::new(&[GOOD]);
    world.server([198, 51, 1, 1]);
    let ask = world.client.next(world.now, 0.0).expect("a question");
    world.client.shaken(world.now);
    world.client.answered(&ask, Outcome::Reached, 0, world.now, 0.0);
    assert_eq!(world.client.verdict(), Verdict::Unknown);
    world.minutes(1, always(Outcome::Unreached));
    assert_eq!(world.client.verdict(), Verdict::Unreachable);
}

#[test]
fn who_has_no_time_or_lies_is_left_alone() {
    for (outcome, most) in [(Outcome::Busy, 12), (Outcome::Failed, 12), (Outcome::Lied, 5)] {
        let mut world = World::new(&[GOOD, OTHER]);
        world.server([198, 51, 1, 1]);
        let asked = world.minutes(4 * 60, always(outcome));
        assert!((1..=most).contains(&asked), "{outcome:?}: {asked}");
        assert_eq!(world.client.verdict(), Verdict::Unknown);
    }
}

#[test]
fn an_address_that_nobody_can_test_does_not_hold_up_the_verdict() {
    let mut world = World::new(&[GOOD, SIX]);
    world.server([198, 51, 1, 1]);
    let answer = |ask: &Ask| if ask.addr == addr(SIX) { Outcome::Declined } else { Outcome::Unreached };
    world.minutes(1, answer);
    assert_eq!(world.client.verdict(), Verdict::Unreachable);
}

#[test]
fn reachable_by_ipv6_only_is_not_reachable() {
    let mut world = World::new(&[GOOD, SIX]);
    world.server([198, 51, 1, 1]);
    let answer = |ask: &Ask| if ask.addr == addr(SIX) { Outcome::Reached } else { Outcome::Unreached };
    world.minutes(1, answer);
    assert_eq!(world.client.verdict(), Verdict::Partly);
    assert_eq!(world.client.reachable().collect::<Vec<_>>(), [&addr(SIX)]);
    // Over one of the transports is enough.
    let mut world = World::new(&[GOOD, OTHER]);
    world.server([198, 51, 1, 1]);
    world.minutes(1, |ask| if ask.addr == addr(OTHER) { Outcome::Reached } else { Outcome::Unreached });
    assert_eq!(world.client.verdict(), Verdict::Reachable);
}

#[test]
fn an_address_that_is_gone_proves_nothing() {
    let mut world = World::new(&[GOOD, OTHER]);
    world.server([198, 51, 1, 1]);
    world.minutes(1, always(Outcome::Reached));
    world.offer(&[SIX]);
    assert_eq!((world.client.verdict(), world.client.reachable().count()), (Verdict::Unknown, 0));
}

#[test]
fn servers_of_the_same_family_are_asked_first() {
    let mut world = World::new(&[SIX]);
    world.server([198, 51, 1, 1]);
    let six = PeerId::random();
    world.client.server(six, "2001:db8:1::1".parse().expect("an address"), world.now);
    assert_eq!(world.client.next(world.now, 0.0).map(|ask| ask.server), Some(six));
}

#[test]
fn there_is_a_bound_to_what_is_paid() {
    let mut world = World::new(&[GOOD]);
    world.server([198, 51, 1, 1]);
    let mut paid = 0;
    let end = world.now + Duration::from_secs(60 * 60 - 1);
    while world.now < end {
        while let Some(ask) = world.client.next(world.now, 0.0) {
            paid += ask.allowance;
            world.client.answered(&ask, Outcome::Reached, ask.allowance, world.now, 0.0);
        }
        world.now += Duration::from_secs(10);
        world.client.shaken(world.now);
    }
    assert_eq!(paid, limits::AUTONAT_PAID_MOST);
}

proptest! {
    /// Whatever happens: bounds hold, no server is asked twice at once or hurried, and the verdict fits what is known.
    #[test]
    fn anything_may_happen(steps in prop::collection::vec((0..8u8, any::<u8>(), 0..100u64), 1..300)) {
        let mut client = Client::default();
        let mut now = Instant::now();
        let peers: Vec<PeerId> = (0..8).map(|_| PeerId::random()).collect();
        let addrs: Vec<Multiaddr> = (1..20).map(|n| addr(&format!("/ip4/203.0.113.{n}/tcp/1"))).collect();
        let mut asks: Vec<Ask> = Vec::new();
        let mut last: BTreeMap<PeerId, Instant> = BTreeMap::new();
        for (kind, value, time) in steps {
            now += Duration::from_secs(time);
            let n = usize::from(value);
            match kind {
                0 => client.server(peers[n % 8], [198, 51, value % 4, value].into(), now),
                1 => {
                    // If it comes again it is another one.
                    client.gone(&peers[n % 8]);
                    last.remove(&peers[n % 8]);
                    asks.iter_mut().filter(|ask| ask.server == peers[n % 8]).for_each(|ask| ask.allowance = 0);
                }
                2 => client.offer(addrs.iter().skip(n % 10).take(n % 12).cloned(), now),
                3 => client.shaken(now),
                4 => client.doubt(now),
                _ if !asks.is_empty() => {
                    let ask = asks.swap_remove(n % asks.len());
                    let outcomes = [Outcome::Reached, Outcome::Unreached, Outcome::Declined, Outcome::Busy,
                        Outcome::Failed, Outcome::Lied];
                    client.answered(&ask, outcomes[n % 6], 50, now, 0.5);
                    if ask.allowance > 0 {
                        last.insert(ask.server, now);
                    }
                }
                _ => {}
            }
            while let Some(ask) = client.next(now, 0.5) {
                prop_assert!(client.servers.contains_key(&ask.server));
                let answered = last.get(&ask.server);
                prop_assert!(answered.is_none_or(|at| now >= *at + limits::AUTONAT_SERVER_PAUSE));
                prop_assert!(asks.iter().all(|other| other.server != ask.server || other.allowance == 0));
                asks.push(ask);
            }
            prop_assert!(asks.len() <= limits::AUTONAT_ASKING);
            prop_assert!(client.candidates.len() <= limits::AUTONAT_CANDIDATES);
            let is_any = client.reachable().next().is_some();
            prop_assert_eq!(is_any, matches!(client.verdict(), Verdict::Reachable | Verdict::Partly));
        }
    }
}
