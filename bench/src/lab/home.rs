//! A home: a node's host, and the gateways between it and the Internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use super::kind::Kind;
use super::{Cable, Host, Lab};

/// The node's interface in every home.
pub(crate) const INTERFACE: &str = "eth0";

/// Where a node lives. Take it down with [`Home::remove`] when its programs have ended.
pub(crate) struct Home {
    pub(crate) kind: Kind,
    pub(crate) host: Host,
    /// From the inside out.
    gateways: Vec<Host>,
    /// The outermost gateway's, or the node's own.
    pub(crate) uplink: Cable,
    /// Where the node is seen from the outside.
    pub(crate) public: [IpAddr; 2],
}

/// Why there can be no homes on this machine.
pub(crate) fn obstacle() -> Option<String> {
    Lab::obstacle().or_else(|| {
        let nft = Command::new("nft").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        (!nft.is_ok_and(|status| status.success()))
            .then(|| "NATs need the command `nft`, of nftables".to_owned())
    })
}

impl Home {
    /// A new home. Its number tells its networks from all others': 11.N.N.0/24 and 2001:db8:N::/48.
    pub(crate) fn new(lab: &Lab, kind: Kind, name: &str, number: u16) -> Result<Self> {
        let host = lab.host(name)?;
        let (v4, v6) = networks(number);
        if kind == Kind::Public {
            let (uplink, public) = lab.uplink(&host, INTERFACE, v4, v6)?;
            return Ok(Home { kind, host, gateways: Vec::new(), uplink, public });
        }
        let gateway = lab.host(&format!("{name}-gw"))?;
        let outside = match kind {
            Kind::Cgnat => lab.host(&format!("{name}-cgn"))?,
            _ => gateway.clone(),
        };
        let (uplink, public) = lab.uplink(&outside, "wan", v4, v6)?;
        let mut gateways = vec![gateway];
        if kind == Kind::Cgnat {
            let ends = [("lan", [100, 64, 0, 1]), ("wan", [100, 64, 0, 2])];
            let [(lan, above), (wan, below)] = ends.map(|(name, ip)| (name, [(IpAddr::from(ip), 24)]));
            lab.wire([(&outside, lan, &above), (&gateways[0], wan, &below)])?;
            lab.ip(&gateways[0], &["route add default via 100.64.0.1"])?;
            gateways.push(outside);
        }
        let mut ends = [1, 2].map(|n| vec![(IpAddr::from([192, 168, 1, n]), 24)]);
        if kind == Kind::Ipv6Firewall {
            let inside = |n: u16| Ipv6Addr::from([0x2001, 0xdb8, number, 1, 0, 0, 0, n]);
            lab.route(&format!("{}/64", inside(0)), &uplink, public[1])?;
            (1..).zip(&mut ends).for_each(|(n, end)| end.push((inside(n).into(), 64)));
        }
        lab.wire([(&gateways[0], "lan", &ends[0]), (&host, INTERFACE, &ends[1])])?;
        lab.ip(&host, &["route add default via 192.168.1.1"])?;
        if let Some((ip, _)) = ends[0].get(1) {
            lab.ip(&host, &[&format!("route add default via {ip}")])?;
        }
        for gateway in &gateways {
            lab.shell(gateway, FORWARD)?;
            lab.nft(gateway, &rules(kind))?;
        }
        Ok(Home { kind, host, gateways, uplink, public })
    }

    /// Its NATs have been started again: all mappings are gone, and the next ones have other ports, where the kind
    /// leaves ports as they are otherwise.
    pub(crate) fn reboot(&self, lab: &Lab) -> Result<()> {
        for gateway in &self.gateways {
            lab.nft(gateway, &format!("flush ruleset\n{}", rules(self.kind).replace(STABLE, MOVED)))?;
            lab.forget_connections(gateway)?;
        }
        Ok(())
    }

    /// The provider gives it other addresses: those of the networks of this number.
    pub(crate) fn renumber(&mut self, lab: &Lab, number: u16) -> Result<()> {
        let (v4, v6) = networks(number);
        self.public = lab.renumber(&self.uplink, v4, v6)?;
        Ok(())
    }

    /// The node's interface goes down, and with it all its routes.
    pub(crate) fn down(&self, lab: &Lab) -> Result<()> {
        lab.ip(&self.host, &[&format!("link set {INTERFACE} down")])
    }

    /// It comes up, and gets its route again. Only a home behind a NAT has one that is known here.
    pub(crate) fn up(&self, lab: &Lab) -> Result<()> {
        ensure!(!self.gateways.is_empty(), "{} has no router of its own", self.kind);
        lab.ip(&self.host, &[&format!("link set {INTERFACE} up"), "route replace default via 192.168.1.1"])
    }

    /// Nothing goes to this address or comes from there until [`Home::open`].
    pub(crate) fn shut(&self, lab: &Lab, other: IpAddr) -> Result<()> {
        let rules = format!(
            "table ip shut {{ chain silence {{ type filter hook forward priority -2
                ip saddr {other} drop
                ip daddr {other} drop
            }}
            }}"
        );
        self.gateways.iter().try_for_each(|gateway| lab.nft(gateway, &rules))
    }

    pub(crate) fn open(&self, lab: &Lab) -> Result<()> {
        self.gateways.iter().try_for_each(|gateway| lab.nft(gateway, "delete table ip shut"))
    }

    pub(crate) fn remove(self, lab: &Lab) -> Result<()> {
        lab.remove(&self.host)?;
        self.gateways.iter().try_for_each(|gateway| lab.remove(gateway))
    }
}

/// The networks of a number.
pub(crate) fn networks(number: u16) -> (Ipv4Addr, Ipv6Addr) {
    let [high, low] = number.to_be_bytes();
    ([11, high, low, 0].into(), Ipv6Addr::from([0x2001, 0xdb8, number, 0, 0, 0, 0, 0]))
}

/// A gateway is a router, whose mappings live as long as RFC 4787, REQ-5 has it at least.
const FORWARD: &str = "echo 1 >/proc/sys/net/ipv4/ip_forward
    echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
    echo 30 >/proc/sys/net/netfilter/nf_conntrack_udp_timeout
    echo 300 >/proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream";

/// Only answers come in, and the gateway itself does not answer: a packet that nobody asked for and that it took for
/// itself would hold its tuple, and the next mapping would jump to another port.
const RESTRICTED: &str = r#"
    chain forwarding { type filter hook forward priority 0
        iifname "wan" ct state established,related accept
        iifname "wan" drop
    }
    chain incoming { type filter hook input priority 0
        iifname "wan" ct state new drop
    }
"#;

/// Ports stay what they are, as long as that is possible. An empty prerouting chain has answers found.
const CONE: &str = r#"
    chain out { type nat hook postrouting priority srcnat
        oifname "wan" meta l4proto { tcp, udp } masquerade
        oifname "wan" masquerade
    }
    chain in { type nat hook prerouting priority dstnat; }
"#;

/// What a cone does with ports, and what it does once it has been rebooted: ports that the kernel gives to no socket,
/// so it keeps none. Still each inside port has one outside.
const STABLE: &str = "meta l4proto { tcp, udp } masquerade\n";
const MOVED: &str = "meta l4proto { tcp, udp } masquerade to :10000-19999\n";

/// What is sent to a port that the inside has used is for whoever used it.
const FULL_CONE: &str = r#"
    map cone { type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout 5m; }
    chain out { type nat hook postrouting priority srcnat
        oifname "wan" meta l4proto udp update @cone { udp sport : ip saddr . udp sport }
        oifname "wan" masquerade
    }
    chain in { type nat hook prerouting priority dstnat
        iifname "wan" meta l4proto udp dnat to udp dport map @cone
    }
    chain incoming { type filter hook input priority 0
        iifname "wan" ct state new drop
    }
"#;

/// Of TCP only answers come in.
const FULL_FILTER: &str = r#"
    chain forwarding { type filter hook forward priority 0
        iifname "wan" meta l4proto udp accept
        iifname "wan" ct state established,related accept
        iifname "wan" drop
    }
"#;

/// As above, but only from addresses that the inside has sent to.
const ADDRESS_FILTER: &str = r#"
    set asked { type ipv4_addr . inet_service . ipv4_addr; flags dynamic,timeout; timeout 5m; }
    chain forwarding { type filter hook forward priority 0
        iifname "lan" meta l4proto udp update @asked { ip saddr . udp sport . ip daddr }
        iifname "wan" ct state established,related accept
        iifname "wan" meta l4proto udp ip daddr . udp dport . ip saddr @asked accept
        iifname "wan" drop
    }
"#;

/// Each destination sees another port.
const RANDOM: &str = r#"
    chain out { type nat hook postrouting priority srcnat
        oifname "wan" masquerade fully-random
    }
    chain in { type nat hook prerouting priority dstnat; }
"#;

/// Each destination sees the next port. `PORTS` is a map from numbers to ports: a bare number would be taken for a
/// port in the order of bytes that this machine has.
const SEQUENTIAL: &str = r#"
    chain out { type nat hook postrouting priority srcnat
        oifname "wan" meta l4proto { tcp, udp } masquerade to :numgen inc mod 4096 map { PORTS }
    }
    chain in { type nat hook prerouting priority dstnat; }
"#;

const NO_UDP: &str = r#"
    chain silence { type filter hook forward priority -1
        meta l4proto udp drop
    }
"#;

/// IPv6 has no NAT.
const IPV6: &str = r#"
table ip6 home {
    chain forwarding { type filter hook forward priority 0
        iifname "wan" ct state established,related accept
        iifname "wan" meta l4proto ipv6-icmp icmpv6 type { packet-too-big, destination-unreachable } accept
        iifname "wan" drop
    }
}
"#;

/// What makes a gateway one of its kind.
fn rules(kind: Kind) -> String {
    let (parts, rest): (&[&str], &str) = match kind {
        Kind::Public => (&[], ""),
        Kind::FullCone => (&[FULL_CONE, FULL_FILTER], ""),
        Kind::AddressRestricted => (&[FULL_CONE, ADDRESS_FILTER], ""),
        Kind::PortRestricted | Kind::Cgnat => (&[CONE, RESTRICTED], ""),
        Kind::SymmetricSequential => (&[SEQUENTIAL, RESTRICTED], ""),
        Kind::SymmetricRandom => (&[RANDOM, RESTRICTED], ""),
        Kind::UdpBlocked => (&[CONE, RESTRICTED, NO_UDP], ""),
        Kind::Ipv6Firewall => (&[RANDOM, RESTRICTED], IPV6),
    };
    let ports: Vec<String> = (0..4096).map(|number| format!("{number}:{}", 20_000 + number)).collect();
    format!("table ip home {{{}}}\n{rest}", parts.concat()).replace("PORTS", &ports.join(","))
}
