//! How this node is seen from outside: STUN, asked of those it depends on anyway and of servers that were named.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Instant,
};

use libp2p::{Multiaddr, multiaddr::Protocol};
use smol::Executor;

use super::Node;
use crate::{
    config::Config,
    discovery::scope,
    limits,
    nat::stun::{
        Family, ServerName,
        driver::{self, Event, Handle, Serve},
        verdict::Verdict,
    },
    transport::quic::Datagrams,
};

/// What STUN knows.
pub(super) struct Outside {
    /// The client and, on a relay, the server. Without QUIC there is none.
    stun: Option<Handle>,
    /// Servers that the operator named.
    named: Vec<ServerName>,
    /// Those that are asked.
    asked: Vec<ServerName>,
    /// What kind of NAT there is.
    pub(super) verdicts: BTreeMap<Family, Verdict>,
}

impl Outside {
    /// Starts it on the sockets of QUIC, if there are any.
    pub(super) fn new(config: &Config, datagrams: Option<Datagrams>, executor: &Executor<'static>) -> Self {
        let named = config.stun_servers.clone();
        let stun = datagrams.and_then(|datagrams| start(config, datagrams, executor));
        Outside { stun, asked: named.clone(), named, verdicts: BTreeMap::new() }
    }

    /// The next thing that was found.
    pub(super) async fn seen(&mut self) -> Event {
        if let Some(stun) = &self.stun
            && let Ok(event) = stun.events.recv().await
        {
            return event;
        }
        // There is none, or it has ended with the sockets.
        std::future::pending().await
    }
}

fn start(config: &Config, datagrams: Datagrams, executor: &Executor<'static>) -> Option<Handle> {
    let serve = || {
        // Another port is what it takes to tell others whether their NAT looks at ports.
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let beside = any.into_iter().filter(|ip| config.listens_on(*ip)).map(|ip| (ip, 0).into()).collect();
        Serve { beside, seen: Vec::new() }
    };
    let with = driver::Config {
        servers: config.stun_servers.clone(),
        serve: config.is_relay.then(serve),
        ..driver::Config::default()
    };
    let (driver, handle) = driver::new(datagrams, with)
        .inspect_err(|e| log::warn!("nobody can be asked how this node is seen from outside: {e}"))
        .ok()?;
    executor.spawn(driver).detach();
    Some(handle)
}

impl Node {
    pub(super) fn on_stun(&mut self, event: Event) {
        match event {
            Event::External { addr, .. } => {
                log::info!("from outside, the UDP port of this node is {addr}");
                self.observed(quic_addr(addr));
            }
            Event::Expired { addr, .. } => {
                log::info!("from outside, the UDP port of this node is no longer {addr}");
                self.not_observed(&quic_addr(addr));
            }
            Event::Verdict(verdict) => {
                log::info!("the NAT: {}", verdict.shown(Instant::now()));
                self.outside.verdicts.insert(verdict.family, *verdict);
            }
        }
    }

    /// Peers that this node depends on are asked how they see it: who runs a relay answers STUN at its QUIC port.
    pub(super) fn ask_peers_for_stun(&mut self) {
        let Some(stun) = &self.outside.stun else { return };
        let helpful = self.links.addresses(|peer| self.bootstraps.has(peer) || self.relays.is_used(peer));
        let mut servers = self.outside.named.clone();
        for server in helpful.filter_map(server_at) {
            if !servers.contains(&server) && servers.len() < limits::STUN_SERVER_NAMES {
                servers.push(server);
            }
        }
        if servers != self.outside.asked {
            stun.set_servers(servers.clone());
            self.outside.asked = servers;
        }
    }

    /// The addresses of this machine have changed: so may the NAT have.
    pub(super) fn look_outside(&self) {
        if let Some(stun) = &self.outside.stun {
            stun.addresses_changed();
        }
    }
}

fn quic_addr(addr: std::net::SocketAddr) -> Multiaddr {
    Multiaddr::from(addr.ip()).with(Protocol::Udp(addr.port())).with(Protocol::QuicV1)
}

/// The server that a peer with this address has, if it has one and QUIC goes there.
fn server_at(addr: &Multiaddr) -> Option<ServerName> {
    let parts: Vec<Protocol<'_>> = addr.iter().collect();
    match parts[..] {
        [_, Protocol::Udp(port), Protocol::QuicV1, ..] => {
            Some(ServerName { host: scope::ip_of(addr)?.to_string(), port })
        }
        _ => None,
    }
}
