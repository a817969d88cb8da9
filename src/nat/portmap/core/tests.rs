use std::net::Ipv4Addr;

use fastrand::Rng;
use proptest::prelude::*;

use super::*;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const OWN: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);
const EXTERNAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)), 4001);
const WISH: Wish = Wish { protocol: Protocol::Udp, internal: 4001, external: 4001 };
const HOUR: u32 = 3600;

/// A core and the time that goes by for it.
struct Bench {
    core: Core,
    now: Instant,
    events: Vec<Event>,
    jobs: Vec<upnp::Job>,
}

impl Bench {
    fn new(methods: &[Method]) -> Self {
        let rng = Rng::with_seed(7);
        let mut core = Core::new(methods.to_vec(), HOUR, GATEWAY.into(), OWN.into(), rng);
        let now = Instant::now();
        core.want(&[WISH], now);
        Self { core, now, events: Vec::new(), jobs: Vec::new() }
    }

    /// What is sent now.
    fn sent(&mut self) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        while let Some(action) = self.core.poll() {
            match action {
                Action::Send(datagram) => sent.push(datagram),
                Action::Job(job) => self.jobs.push(job),
                Action::Event(event) => self.events.push(event),
            }
        }
        sent
    }

    fn sent_one(&mut self) -> Vec<u8> {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    /// Lets the time go by until something is to be done. Returns how long that took.
    fn wait(&mut self) -> Duration {
        let due = self.core.timeout().expect("something is awaited");
        let waited = due.saturating_duration_since(self.now);
        self.now += waited;
        self.core.handle_timeout(self.now);
        waited
    }

    fn hears(&mut self, datagram: &[u8]) {
        self.core.handle_datagram(datagram, self.now);
    }

    /// The gateway, whose clock shows `epoch`, grants a request.
    fn grants(&mut self, request: &[u8], epoch: u32) {
        self.hears(&pcp::answer(request, 0, epoch, HOUR, EXTERNAL));
    }

    fn mapped(&mut self) -> Option<(SocketAddr, Method)> {
        self.sent();
        self.events.drain(..).rev().find_map(|event| match event {
            Event::Mapped { external, method, .. } => Some((external, method)),
            _ => None,
        })
    }

    fn lost(&mut self) -> bool {
        self.sent();
        self.events.drain(..).any(|event| matches!(event, Event::Lost { external: EXTERNAL, .. }))
    }

    fn report(&self) -> &Report {
        &self.core.report
    }
}

/// By PCP, at its first try.
fn mapped() -> (Bench, Vec<u8>) {
    let mut bench = Bench::new(&Method::ALL);
    let request = bench.sent_one();
    bench.grants(&request, 1000);
    assert_eq!(bench.mapped(), Some((EXTERNAL, Method::Pcp)));
    (bench, request)
}

#[test]
fn a_mapping_is_renewed_at_half_of_its_lease() {
    let (mut bench, request) = mapped();
    let begun = bench.now;
    for round in 1..4 {
        let waited = bench.wait().as_secs();
        assert!((1800..=2250).contains(&waited), "{waited} s");
        let renewal = bench.sent_one();
        assert_eq!(renewal[..42], request[..42], "the same nonce and port");
        assert_eq!(renewal[42..44], 4001u16.to_be_bytes(), "the port that it has");
        bench.grants(&renewal, 1000 + (bench.now - begun).as_secs() as u32);
        assert_eq!(bench.mapped(), Some((EXTERNAL, Method::Pcp)), "{round}");
    }
    assert_eq!(bench.report().pcp, Support::Supported);
    assert_eq!((bench.report().external, bench.report().double_nat), (Some(EXTERNAL.ip()), false));
}

#[test]
fn a_gateway_that_answered_before_is_asked_with_growing_pauses_until_the_lease_ends() {
    let (mut bench, _) = mapped();
    let mut waits = vec![bench.wait()];
    while !bench.lost() {
        waits.push(bench.wait());
        assert!(waits.len() < 30, "{waits:?}");
    }
    let total: Duration = waits.iter().sum();
    assert_eq!(total.as_secs(), u64::from(HOUR));
    assert_eq!(waits[1..4], limits::PORTMAP_QUICK);
    let grow = &waits[4..waits.len() - 1];
    assert!((2.7..3.3).contains(&grow[0].as_secs_f64()), "{grow:?}");
    for pair in grow.windows(2) {
        let factor = pair[1].as_secs_f64() / pair[0].as_secs_f64();
        assert!((1.6..2.5).contains(&factor), "{grow:?}");
    }
}

#[test]
fn silence_leads_from_one_method_to_the_next_and_then_to_long_pauses() {
    let mut bench = Bench::new(&Method::ALL);
    let begun = bench.now;
    let mut requests = bench.sent();
    while bench.jobs.is_empty() {
        bench.wait();
        requests.extend(bench.sent());
    }
    let versions: Vec<u8> = requests.iter().map(|request| request[0]).collect();
    assert_eq!(versions, [2, 2, 2, 0, 0, 0], "three times PCP, three times NAT-PMP");
    assert_eq!(bench.now - begun, 2 * limits::PORTMAP_QUICK.iter().sum::<Duration>());
    for factor in [1, 2, 4, 8, 16, 16] {
        bench.jobs.clear();
        bench.core.handle_job(Err(upnp::Failure::Silent), bench.now);
        bench.sent();
        let pause = bench.wait().div_duration_f64(factor * limits::PORTMAP_PAUSE);
        assert!((0.89..1.11).contains(&pause), "{pause}");
        bench.sent();
        while bench.jobs.is_empty() {
            bench.wait();
            bench.sent();
        }
    }
    let silent = Support::Silent;
    let report = bench.report();
    assert_eq!([&report.pcp, &report.natpmp, &report.upnp], [&silent; 3]);
}

#[test]
fn another_version_leads_to_natpmp() {
    let mut bench = Bench::new(&Method::ALL);
    bench.sent_one();
    bench.hears(&[0, 128, 0, 1, 0, 0, 0, 9]);
    assert_eq!(bench.sent_one(), natpmp::ADDRESS);
    bench.hears(&[0, 128, 0, 0, 0, 0, 0, 9, 198, 51, 100, 7]);
    assert_eq!(bench.sent_one(), natpmp::map(Protocol::Udp, 4001, 4001, HOUR));
    let granted = [0, 129, 0, 0, 0, 0, 0, 9, 0x0f, 0xa1, 0x0f, 0xa1, 0, 0, 0x0e, 0x10];
    bench.hears(&granted);
    assert_eq!(bench.mapped(), Some((EXTERNAL, Method::NatPmp)));
    bench.hears(&granted);
    assert_eq!(bench.mapped(), None, "the same again");

    bench.wait();
    assert_eq!(bench.sent().len(), 2, "a renewal asks for the address too");
    bench.hears(&[0, 128, 0, 0, 0, 0, 8, 0, 203, 0, 113, 9]);
    assert!(bench.lost(), "the address is another");
}

#[test]
fn a_closed_port_leads_to_upnp_at_once() {
    let mut bench = Bench::new(&Method::ALL);
    bench.sent_one();
    bench.core.handle_unreachable(bench.now);
    assert!(bench.sent().is_empty());
    let (protocol, internal, external, lease) = (Protocol::Udp, 4001, 4001, HOUR);
    assert_eq!(bench.jobs, [upnp::Job::Map { protocol, internal, external, lease }]);
    let done = upnp::Done::Mapped { external: EXTERNAL, lease, permanent: true };
    bench.core.handle_job(Ok(done), bench.now);
    assert_eq!(bench.mapped(), Some((EXTERNAL, Method::Upnp)));
    assert!(bench.report().permanent);
    assert_eq!(bench.wait(), limits::PORTMAP_UPNP_RENEWAL);
    bench.sent();
    assert_eq!(bench.jobs.len(), 2, "asked for again, in case that the gateway has forgotten it");
    bench.core.handle_job(Err(upnp::Failure::Silent), bench.now);
    assert_eq!(bench.mapped(), None);
    assert!(bench.wait() < Duration::from_secs(4), "and again");

    bench.sent();
    bench.jobs.clear();
    bench.core.handle_job(Ok(done), bench.now);
    bench.core.want(&[], bench.now);
    bench.sent();
    assert_eq!(bench.jobs, [upnp::Job::Unmap { protocol, external }]);
    assert!(!bench.core.is_released());
    bench.core.handle_job(Ok(upnp::Done::Unmapped), bench.now);
    assert!(bench.core.is_released() && bench.lost());
}

#[test]
fn a_refusal_lasts_as_long_as_it_says() {
    for (lifetime, pause) in [(0, 30), (600, 600), (u32::MAX, 1800)] {
        let mut bench = Bench::new(&Method::ALL);
        let request = bench.sent_one();
        bench.hears(&pcp::answer(&request, pcp::NO_RESOURCES, 5, lifetime, EXTERNAL));
        assert!(bench.sent().is_empty());
        assert_eq!(bench.report().pcp, Support::Refused("NO_RESOURCES".into()));
        assert_eq!(bench.wait().as_secs(), pause);
        let request = bench.sent_one();
        bench.grants(&request, 5 + pause as u32);
        assert_eq!(bench.mapped(), Some((EXTERNAL, Method::Pcp)));
    }
}

#[test]
fn a_gateway_that_may_not_or_sees_another_address_is_asked_by_the_next_method() {
    const NOT_AUTHORIZED: u8 = 2;
    const ADDRESS_MISMATCH: u8 = 12;
    for code in [NOT_AUTHORIZED, ADDRESS_MISMATCH] {
        let mut bench = Bench::new(&Method::ALL);
        let request = bench.sent_one();
        bench.hears(&pcp::answer(&request, code, 5, 1800, EXTERNAL));
        assert_eq!(bench.sent_one(), natpmp::ADDRESS);
        assert_eq!(bench.report().pcp, Support::Refused(pcp::name(code).into()));
    }
}

#[test]
fn answers_to_somebody_else_are_not_ours() {
    let mut bench = Bench::new(&Method::ALL);
    let request = bench.sent_one();
    for (at, what) in [(24, "nonce"), (36, "protocol"), (40, "port")] {
        let mut other = request.clone();
        other[at] ^= 1;
        bench.grants(&other, 5);
        assert_eq!(bench.mapped(), None, "{what}");
    }
    bench.hears(&request);
    assert_eq!(bench.mapped(), None, "our own words");
}

#[test]
fn a_restart_of_the_gateway_brings_all_mappings_anew() {
    let mut bench = Bench::new(&Method::ALL);
    let tcp = Wish { protocol: Protocol::Tcp, ..WISH };
    bench.core.want(&[WISH, tcp], bench.now);
    let requests = bench.sent();
    requests.iter().for_each(|request| bench.grants(request, 1000));
    bench.sent();
    bench.wait();
    let request = bench.sent_one();
    bench.grants(&request, 3);
    let other = bench.sent_one();
    assert_ne!(other[36], request[36], "the other protocol, at once");
}

#[test]
fn an_announced_restart_is_believed_once_in_a_while() {
    let announcement = |epoch: u8| [&[2, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, epoch][..], &[0; 12]].concat();
    let (mut bench, _) = mapped();
    bench.now += Duration::from_secs(100);
    let fits: Vec<u8> = [&[2, 128, 0, 0, 0, 0, 0, 0][..], &1100u32.to_be_bytes(), &[0; 12]].concat();
    bench.core.handle_announcement(&fits, bench.now);
    assert!(bench.core.timeout().expect("a renewal") > bench.now + limits::PORTMAP_ANNOUNCED);
    bench.core.handle_announcement(&announcement(0), bench.now);
    assert!(bench.wait() <= limits::PORTMAP_ANNOUNCED);
    let request = bench.sent_one();
    bench.grants(&request, 5);
    assert_eq!(bench.mapped(), Some((EXTERNAL, Method::Pcp)));
    bench.core.handle_announcement(&announcement(0), bench.now);
    assert!(bench.wait() > limits::PORTMAP_ANNOUNCED, "too soon after the last");
}

#[test]
fn a_private_external_address_is_reported_and_not_announced() {
    let mut bench = Bench::new(&Method::ALL);
    let request = bench.sent_one();
    let carrier = SocketAddr::from(([100, 64, 7, 7], 4001));
    bench.hears(&pcp::answer(&request, 0, 5, HOUR, carrier));
    assert_eq!(bench.mapped(), None);
    assert!(bench.report().double_nat);
    assert_eq!(bench.report().external, Some(carrier.ip()));
    assert!(bench.wait().as_secs() >= 1800, "it is kept");
    assert_eq!(bench.sent().len(), 1);
}

#[test]
fn what_is_no_longer_wished_for_is_deleted() {
    let (mut bench, request) = mapped();
    bench.core.want(&[], bench.now);
    let deletion = bench.sent_one();
    assert_eq!(deletion[4..8], [0; 4], "a lifetime of 0");
    assert_eq!(deletion[24..42], request[24..42], "the same mapping");
    assert!(!bench.core.is_released());
    bench.grants(&request, 1000);
    assert!(!bench.core.is_released(), "a late answer to an earlier request");
    bench.hears(&pcp::answer(&deletion, 0, 1000, 0, EXTERNAL));
    assert!(bench.core.is_released() && bench.lost());
    assert_eq!(bench.core.timeout(), None, "nothing is left to do");
}

#[test]
fn a_deletion_that_nobody_hears_is_given_up() {
    let (mut bench, _) = mapped();
    bench.core.want(&[], bench.now);
    let mut sent = bench.sent().len();
    while !bench.core.is_released() {
        bench.wait();
        sent += bench.sent().len();
    }
    assert_eq!(sent, limits::PORTMAP_QUICK.len());
}

#[test]
fn nothing_is_sent_before_there_is_a_wish() {
    let mut core = Core::new(Method::ALL.to_vec(), HOUR, GATEWAY.into(), OWN.into(), Rng::with_seed(1));
    assert!(matches!(core.poll(), Some(Action::Event(Event::Report(_)))));
    assert!(core.poll().is_none() && core.timeout().is_none());
}

#[test]
fn without_a_method_nothing_is_awaited() {
    let mut bench = Bench::new(&[]);
    assert!(bench.sent().is_empty() && bench.core.timeout().is_none());
}

proptest! {
    /// Whatever the gateway says: no panic, and no more than a handful of requests for each word of it.
    #[test]
    fn any_gateway_is_borne(words: Vec<(u8, Vec<u8>, u32)>) {
        let mut bench = Bench::new(&Method::ALL);
        let mut request = bench.sent_one();
        for (kind, bytes, number) in words {
            match kind % 8 {
                0 => bench.hears(&bytes),
                1 => bench.hears(&[&[0, 128 + (kind >> 6), 0, 0], &number.to_be_bytes(), &bytes[..]].concat()),
                2 if request.len() == 60 => bench.hears(&pcp::answer(&request, kind >> 4, number, number, EXTERNAL)),
                3 => bench.core.handle_unreachable(bench.now),
                4 => bench.core.handle_announcement(&bytes, bench.now),
                5 => bench.core.handle_job(Ok(upnp::Done::Mapped { external: EXTERNAL, lease: number, permanent: false }), bench.now),
                6 => bench.core.want(if number % 2 == 0 { &[] } else { &[WISH] }, bench.now),
                _ => if bench.core.timeout().is_some() { bench.wait(); },
            }
            let sent = bench.sent();
            prop_assert!(sent.len() <= 4, "{sent:?}");
            prop_assert!(bench.core.timeout().is_none_or(|due| due > bench.now), "it would spin");
            request = sent.into_iter().next_back().unwrap_or(request);
        }
    }
}
