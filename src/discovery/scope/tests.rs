use proptest::prelude::*;

use super::*;

const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn networks(on_link: &[(&str, u8)], lan: &[&str]) -> Networks {
    let lan: Vec<Prefix> = lan.iter().map(|text| text.parse().expect("a network")).collect();
    Networks::new(on_link.iter().map(|(text, len)| (ip(text), *len)), &lan)
}

fn may_dial(networks: &Networks, addr: &str) -> bool {
    networks.may_dial(&addr.parse().expect("a multiaddr"))
}

/// The address of a TCP port there.
fn at(text: &str) -> String {
    format!("/{}/{text}/tcp/4001", if text.contains(':') { "ip6" } else { "ip4" })
}

#[test]
fn public_addresses_may_be_dialled_from_anywhere() {
    let public = [
        "1.1.1.1",
        "172.15.0.1",
        "172.32.0.1",
        "100.63.0.1",
        "100.128.0.1",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "223.255.255.255",
        "2001:db8::1",
        "2a00::1",
        "2002:cb00:7101::1",
        "64:ff9b::203.0.113.1",
        "::ffff:203.0.113.1",
    ];
    for networks in
        [networks(&[], &[]), networks(&[("192.168.1.2", 24)], &[]), networks(&[("::1", 128)], &[])]
    {
        for text in public {
            assert!(may_dial(&networks, &at(text)), "{text}");
        }
    }
}

#[test]
fn nobodys_addresses_may_never_be_dialled() {
    let everything = networks(&[("192.168.1.2", 24), ("fd00::1", 8)], &["0.0.0.0/0", "::/0"]);
    for text in [
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.251",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "ff02::fb",
        "ff0e::1",
        "::ffff:0.0.0.0",
        "::ffff:224.0.0.1",
        "::10.0.0.1",
        "2002:a00:1::1",
        "2002:7f00:1::",
        "64:ff9b::10.0.0.1",
        "64:ff9b::127.0.0.1",
        "fe80::1",
        "127.0.0.1",
        "::1",
        "192.168.1.0",
        "192.168.1.255",
    ] {
        assert!(!may_dial(&everything, &at(text)), "{text}");
    }
    assert!(!may_dial(&everything, "/ip4/203.0.113.1/tcp/0"));
    assert!(!may_dial(&everything, "/ip4/203.0.113.1/udp/0/quic-v1"));
}

#[test]
fn local_addresses_may_be_dialled_in_our_networks_only() {
    let local = [
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.1",
        "192.168.7.7",
        "100.64.0.1",
        "100.127.0.1",
        "169.254.3.4",
        "192.0.0.8",
        "198.18.0.1",
        "fc00::1",
        "fd12:3456::1",
        "fec0::1",
        "200:1234::1",
        "::ffff:192.168.7.7",
    ];
    for networks in [networks(&[], &[]), networks(&[("192.168.1.2", 24), ("fd00:9::1", 64)], &[])] {
        for text in local {
            assert!(!may_dial(&networks, &at(text)), "{text}");
        }
    }
    for (text, on_link, len) in [
        ("10.1.2.3", "10.1.2.1", 24),
        ("172.16.0.1", "172.17.0.1", 12),
        ("100.64.0.1", "100.64.0.2", 10),
        ("169.254.3.4", "169.254.0.1", 16),
        ("fd12:3456::1", "fd12:3456::2", 64),
        ("200:1234::1", "201::5", 7),
        ("::ffff:192.168.7.7", "192.168.7.1", 24),
    ] {
        assert!(may_dial(&networks(&[(on_link, len)], &[]), &at(text)), "{text} from {on_link}/{len}");
        assert!(!may_dial(&networks(&[(on_link, 128)], &[]), &at(text)), "{text}");
    }
    assert!(may_dial(&networks(&[("192.168.1.2", 24)], &["10.0.0.0/8"]), &at("10.1.2.3")));
    assert!(!may_dial(&networks(&[("10.1.2.1", 0)], &[]), &at("10.1.2.3")), "that is no network");
}

#[test]
fn this_machine_may_be_dialled_when_nobody_else_can_reach_us() {
    let alone = networks(&[("127.0.0.1", 8), ("::1", 128)], &[]);
    for text in ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"] {
        assert!(may_dial(&alone, &at(text)), "{text}");
        assert!(!may_dial(&networks(&[("127.0.0.1", 8), ("10.0.0.1", 8)], &[]), &at(text)), "{text}");
        assert!(!may_dial(&networks(&[], &[]), &at(text)), "{text}");
    }
    assert!(!may_dial(&alone, &at("192.168.1.1")));
}

#[test]
fn only_addresses_of_our_transports_may_be_dialled() {
    let networks = networks(&[("fe80::5", 64)], &[]);
    for text in [
        "/ip4/203.0.113.1/tcp/1",
        "/ip4/203.0.113.1/udp/1/quic-v1",
        "/ip6zone/eth0/ip6/fe80::1/tcp/1",
        &format!("/ip4/203.0.113.1/udp/1/quic-v1/p2p/{PEER}"),
        &format!("/ip4/203.0.113.1/tcp/1/p2p/{PEER}/p2p-circuit"),
        &format!("/ip4/203.0.113.1/tcp/1/p2p/{PEER}/p2p-circuit/p2p/{PEER}"),
    ] {
        assert!(may_dial(&networks, text), "{text}");
    }
    for text in [
        "",
        "/ip4/203.0.113.1",
        "/ip4/203.0.113.1/udp/1",
        "/ip4/203.0.113.1/udp/1/quic",
        "/ip4/203.0.113.1/tcp/1/ws",
        "/ip4/203.0.113.1/tcp/1/tls/ws",
        "/ip4/203.0.113.1/udp/1/quic-v1/webtransport",
        "/dns4/example.com/tcp/1",
        "/dnsaddr/example.com",
        "/ip6zone/eth0/ip6/2001:db8::1/tcp/1",
        "/ip6zone/eth0/ip4/203.0.113.1/tcp/1",
        "/ip4/203.0.113.1/tcp/1/p2p-circuit",
        &format!("/ip4/192.168.1.1/tcp/1/p2p/{PEER}/p2p-circuit"),
        &format!("/ip4/203.0.113.1/tcp/1/p2p/{PEER}/p2p-circuit/p2p/{PEER}/p2p-circuit"),
        &format!("/ip4/203.0.113.1/tcp/1/p2p/{PEER}/p2p/{PEER}"),
        &format!("/p2p/{PEER}"),
        &format!("/p2p/{PEER}/p2p-circuit"),
    ] {
        assert!(!may_dial(&networks, text), "{text}");
    }
}

#[test]
fn neighbours_are_on_this_machine_or_in_a_network_of_ours_that_is_not_public() {
    let networks = networks(&[("192.168.1.2", 24), ("203.0.113.1", 24)], &["10.0.0.0/8"]);
    for text in ["127.0.0.1", "::1", "192.168.1.9", "10.9.9.9", "::ffff:10.9.9.9"] {
        assert!(networks.is_neighbour(ip(text)), "{text}");
    }
    for text in ["203.0.113.9", "192.168.2.9", "2001:db8::1", "0.0.0.0"] {
        assert!(!networks.is_neighbour(ip(text)), "{text}");
    }
    assert!(networks.is_on_link(ip("203.0.113.9")) && !networks.is_on_link(ip("192.168.2.9")));
}

#[test]
fn a_relayed_peer_is_nowhere() {
    let of = |text: &str| ip_of(&text.parse().expect("a multiaddr"));
    assert_eq!(of("/ip4/203.0.113.1/tcp/1"), Some(ip("203.0.113.1")));
    assert_eq!(of("/ip6/::ffff:203.0.113.1/udp/1/quic-v1"), Some(ip("203.0.113.1")));
    assert_eq!(of("/ip6zone/eth0/ip6/fe80::1/tcp/1"), Some(ip("fe80::1")));
    assert_eq!(of(&format!("/ip4/203.0.113.1/tcp/1/p2p/{PEER}/p2p-circuit")), None);
    assert_eq!(of("/dns4/example.com/tcp/1"), None);
    assert_eq!(of(""), None);
}

#[test]
fn owners_and_hosts_have_networks() {
    assert_eq!(Prefix::of_owner(ip("203.0.113.7")).to_string(), "203.0.113.0/24");
    assert_eq!(Prefix::of_owner(ip("2001:db8:1:2::3")).to_string(), "2001:db8:1::/48");
    assert_eq!(Prefix::of_host(ip("::ffff:203.0.113.7")).to_string(), "203.0.113.7/32");
    assert_eq!(Prefix::of_host(ip("2001:db8:1:2::3")).to_string(), "2001:db8:1:2::/64");
}

#[test]
fn a_bad_network_is_refused_with_what_is_wrong() {
    let error = |text: &str| text.parse::<Prefix>().expect_err("wrong").to_string();
    assert_eq!(
        error("home"),
        "'home' is no network; write an address and a length, such as 10.1.0.0/16 or fd00:1::/48"
    );
    for text in ["", "/", "10.0.0.0/", "10.0.0/8", "10.0.0.0/-1", "10.0.0.0/x", "10.0.0.0/8/8", "/8"] {
        assert!(error(text).contains("is no network"), "{text}");
    }
    assert_eq!(error("10.0.0.0/33"), "'10.0.0.0/33' has a length of more than 32 bits");
    assert_eq!(error("fd00::/129"), "'fd00::/129' has a length of more than 128 bits");
    assert_eq!(
        error("10.1.2.3/16"),
        "'10.1.2.3/16' has bits set behind its length; the network is 10.1.0.0/16"
    );
    for text in ["10.1.0.0/16", "0.0.0.0/0", "::/0", "fd00:1::/48", "192.0.2.1/32"] {
        assert_eq!(text.parse::<Prefix>().expect("right").to_string(), text);
    }
    assert_eq!("192.0.2.1".parse::<Prefix>().expect("right").to_string(), "192.0.2.1/32");
}

proptest! {
    #[test]
    fn any_address_gets_an_answer(bytes: Vec<u8>, v4: [u8; 4], v6: [u8; 16], len: u8) {
        let networks = Networks::new([(IpAddr::from(v4), len), (IpAddr::from(v6), len)], &[]);
        if let Ok(addr) = Multiaddr::try_from(bytes) {
            networks.may_dial(&addr);
            ip_of(&addr);
        }
        for ip in [IpAddr::from(v4), IpAddr::from(v6)] {
            let network = Prefix::of(ip, len);
            prop_assert!(network.contains(ip));
            prop_assert_eq!(network.to_string().parse::<Prefix>().expect("its own text"), network);
        }
    }

    #[test]
    fn without_networks_nothing_local_is_dialled(v4: [u8; 4], v6: [u8; 16], port: u16) {
        for ip in [IpAddr::from(v4), IpAddr::from(v6)] {
            let addr = Multiaddr::from(ip).with(Protocol::Tcp(port));
            let is_private = match ip.to_canonical() {
                IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_multicast()
                    || ip.is_broadcast() || ip.is_unspecified(),
                IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local()
                    || ip.is_multicast() || ip.is_unspecified(),
            };
            prop_assert!(!(is_private && Networks::default().may_dial(&addr)), "{}", addr);
        }
    }
}

#[test]
fn a_relay_is_known_by_the_address_through_it() {
    let [relay, peer] = [PeerId::random(), PeerId::random()];
    let parse = |text: String| -> Multiaddr { text.parse().expect("valid") };
    let through = parse(format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit/p2p/{peer}"));
    assert_eq!(relay_of(&through), Some(relay));
    assert_eq!(relay_of(&parse(format!("/ip4/192.0.2.1/tcp/1/p2p/{peer}"))), None);
    assert_eq!(relay_of(&parse(format!("/ip4/192.0.2.1/tcp/1/p2p-circuit/p2p/{peer}"))), None);
}
