use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    process::{Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use async_io::Timer;
use warren::nat::portmap::{Config, Event, Method, PortMapper, Protocol, Report, Support, Wish};

use crate::{
    alone::run_in_an_empty_network,
    home::{Home, WAN},
};

macro_rules! in_a_home {
    ($($test:ident => $child:ident($run:expr);)*) => {$(
        #[test]
        fn $test() {
            for (program, argument) in [("miniupnpd", "--version"), ("nft", "--version")] {
                let mut command = Command::new(program);
                if command.arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
                    println!("skipped: {program} is not installed");
                    return;
                }
            }
            run_in_an_empty_network(concat!("portmap::", stringify!($child)));
        }

        #[test]
        #[ignore = "run in a network of its own"]
        fn $child() {
            smol::block_on($run);
        }
    )*};
}

in_a_home! {
    pcp_maps_renews_and_releases => child_pcp(maps_and_releases(Method::Pcp));
    natpmp_maps_renews_and_releases => child_natpmp(maps_and_releases(Method::NatPmp));
    upnp_maps_and_releases => child_upnp(maps_and_releases(Method::Upnp));
    pcp_maps_again_after_the_gateway_was_restarted => child_pcp_restart(maps_again(Method::Pcp));
    natpmp_maps_again_after_the_gateway_was_restarted => child_natpmp_restart(maps_again(Method::NatPmp));
    the_first_method_that_works_is_used => child_fallback(falls_back());
    a_gateway_that_refuses_is_told => child_refused(is_refused_behind_a_carrier());
    a_gateway_that_appears_is_asked => child_appears(follows_the_route());
    pcp_opens_the_firewall_for_ipv6 => child_ipv6(opens_ipv6());
}

const LEASE: Duration = Duration::from_secs(4);

fn mapper(methods: &[Method], lease: Duration) -> PortMapper {
    let (mapper, future) = PortMapper::new(Config { methods: methods.to_vec(), lease });
    smol::spawn(future).detach();
    mapper
}

fn udp(port: u16) -> Wish {
    Wish { protocol: Protocol::Udp, internal: port, external: port }
}

/// The next event, or a panic when the test takes longer than any machine needs.
async fn next(mapper: &PortMapper) -> Event {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    let end = *BEGUN.get_or_init(Instant::now) + Duration::from_secs(60);
    let late = async {
        Timer::at(end).await;
        panic!("what was to happen did not");
    };
    let event = smol::future::or(late, mapper.next()).await.expect("the future runs");
    println!("{event:?}");
    event
}

/// The next mapping of a protocol by a method at the gateway's address, and when it ends.
async fn mapped(mapper: &PortMapper, wanted: Protocol, by: Method) -> (SocketAddr, Instant) {
    mapped_at(mapper, wanted, by, WAN.into()).await
}

async fn mapped_at(mapper: &PortMapper, wanted: Protocol, by: Method, ip: IpAddr) -> (SocketAddr, Instant) {
    loop {
        if let Event::Mapped { protocol, external, method, until, .. } = next(mapper).await
            && (protocol, method, external.ip()) == (wanted, by, ip)
        {
            return (external, until);
        }
    }
}

async fn report(mapper: &PortMapper, is_it: impl Fn(&Report) -> bool) -> Report {
    loop {
        match next(mapper).await {
            Event::Report(report) if is_it(&report) => return report,
            _ => {}
        }
    }
}

async fn maps_and_releases(method: Method) {
    let mut home = Home::new();
    home.start_daemon(true);
    let socket = UdpSocket::bind("192.168.1.2:4001").expect("a socket");
    let external = SocketAddr::from((WAN, 4001));
    assert!(!home.reaches(external, &socket), "the firewall is closed");

    let mapper = mapper(&[method], LEASE);
    mapper.want(vec![udp(4001), Wish { protocol: Protocol::Tcp, internal: 4001, external: 4001 }]);
    let (udp, until) = mapped(&mapper, Protocol::Udp, method).await;
    assert_eq!(udp, external);
    assert_eq!(mapped(&mapper, Protocol::Tcp, method).await.0, external);
    assert!(home.reaches(external, &socket));

    {
        let (again, later) = mapped(&mapper, Protocol::Udp, method).await;
        assert!(again == external && later > until, "renewed");
        let (_, later) = mapped(&mapper, Protocol::Udp, method).await;
        assert!(later - until >= LEASE / 2);
        assert!(home.reaches(external, &socket), "after the first lease would have ended");
    }

    let begun = Instant::now();
    mapper.stop().await;
    println!("released in {:?}", begun.elapsed());
    assert!(!home.reaches(external, &socket), "released");
    assert!(!home.rules().contains("dnat"), "{}", home.rules());
}

async fn maps_again(method: Method) {
    let mut home = Home::new();
    home.start_daemon(true);
    let socket = UdpSocket::bind("192.168.1.2:4001").expect("a socket");
    let external = SocketAddr::from((WAN, 4001));
    // So long that a renewal cannot be what brings it back.
    let mapper = mapper(&[method], Duration::from_secs(3600));
    mapper.want(vec![udp(4001)]);
    assert_eq!(mapped(&mapper, Protocol::Udp, method).await.0, external);
    // A clock that has shown less than two seconds cannot be seen to begin again.
    Timer::after(Duration::from_secs(4)).await;
    home.kill_daemon();
    assert!(!home.reaches(external, &socket), "forgotten");
    let begun = Instant::now();
    home.start_daemon(true);
    assert_eq!(mapped(&mapper, Protocol::Udp, method).await.0, external);
    println!("mapped again after {:?}", begun.elapsed());
    assert!(home.reaches(external, &socket));
    mapper.stop().await;
}

async fn falls_back() {
    let mut home = Home::new();
    home.start_daemon(true);
    let all = mapper(&Method::ALL, LEASE);
    all.want(vec![udp(4001)]);
    let report = report(&all, |report| !report.is_ipv6 && report.external.is_some()).await;
    assert_eq!((report.gateway, report.own), (Some([192, 168, 1, 1].into()), Some([192, 168, 1, 2].into())));
    assert_eq!(
        (report.pcp, report.natpmp, report.upnp),
        (Support::Supported, Support::Untried, Support::Untried)
    );
    assert!(!report.double_nat && !report.not_needed);
    all.stop().await;

    home.kill_daemon();
    home.start_daemon(false);
    let all = mapper(&Method::ALL, LEASE);
    all.want(vec![udp(4001)]);
    mapped(&all, Protocol::Udp, Method::Upnp).await;
    all.stop().await;
}

/// miniupnpd does not map ports that nobody could reach.
async fn is_refused_behind_a_carrier() {
    let mut home = Home::new();
    home.move_behind_a_carrier();
    home.start_daemon(true);
    let mapper = mapper(&Method::ALL, LEASE);
    mapper.want(vec![udp(4001)]);
    report(&mapper, |report| report.pcp == Support::Refused("NO_RESOURCES".into())).await;
    mapper.stop().await;
}

async fn follows_the_route() {
    let mut home = Home::new();
    home.start_daemon(true);
    crate::alone::ip("route del default");
    let mapper = mapper(&[Method::Pcp], LEASE);
    mapper.want(vec![udp(4001)]);
    let v4 = |report: &Report| !report.is_ipv6;
    assert!(report(&mapper, v4).await.not_needed, "no gateway");
    crate::alone::ip("route add default via 192.168.1.1");
    assert!(!report(&mapper, v4).await.not_needed);
    let (external, _) = mapped(&mapper, Protocol::Udp, Method::Pcp).await;
    crate::alone::ip("route del default");
    loop {
        if next(&mapper).await == (Event::Lost { protocol: Protocol::Udp, internal: 4001, external }) {
            break;
        }
    }
    mapper.stop().await;
}

async fn opens_ipv6() {
    let mut home = Home::new();
    home.start_daemon(true);
    crate::alone::ip("route del default");
    let own: IpAddr = "2001:db8:1::2".parse().expect("an address");
    let socket = UdpSocket::bind((own, 4001)).expect("a socket");
    let external = SocketAddr::from((own, 4001));
    assert!(!home.reaches(external, &socket), "the firewall is closed");
    let mapper = mapper(&Method::ALL, LEASE);
    mapper.want(vec![udp(4001)]);
    assert_eq!(mapped_at(&mapper, Protocol::Udp, Method::Pcp, own).await.0, external);
    assert!(home.reaches(external, &socket));
    mapper.stop().await;
    assert!(!home.reaches(external, &socket), "released");
}
