//! How this node is seen from outside: STUN, asked of those it depends on anyway and of servers that were named.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use libp2p::{Multiaddr, multiaddr::Protocol};
use smol::Executor;

use super::{Node, api};
use crate::{
    config::Config,
    discovery::scope,
    limits,
    nat::meaning::Meaning,
    nat::stun::{
        Family, ServerName,
        driver::{self, Event, Handle, Serve},
        verdict::Verdict,
    },
    transport::{self, address::needs_zone, quic::Datagrams},
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

    /// The operator names other servers.
    pub(super) fn rename(&mut self, named: Vec<ServerName>) {
        self.named = named;
    }

    /// What was asked and answered so far; `None` where nobody asks.
    #[cfg(feature = "metrics")]
    pub(super) fn counters(&self) -> impl Future<Output = Option<driver::Counters>> + Send + use<> {
        let counters = self.stun.as_ref().map(Handle::counters);
        async move { counters?.await }
    }

    /// Somebody is about to be met through the NAT: what is known of it has to be of now.
    pub(super) fn wish_fresh(&self) {
        if let Some(stun) = &self.stun {
            stun.wish_fresh();
        }
    }

    /// Whether it was seen that a port lets in only what comes from IP addresses that it has sent to: of a server's two
    /// addresses the other one was not heard.
    #[cfg(feature = "autonat")]
    pub(super) fn is_for_acquaintances(&self, addr: &Multiaddr) -> bool {
        let Some(seen) = quic_socket(addr).map(SocketAddr::from) else { return false };
        let of_port = self.verdicts.values().find(|verdict| verdict.external.contains(&seen));
        of_port.is_some_and(Verdict::is_address_dependent)
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
    let with = driver::Config {
        servers: config.stun_servers.clone(),
        serve: config.is_relay.then(|| serve(config)),
        #[cfg(feature = "dns")]
        dns: Default::default(),
    };
    let alone = driver::Config { serve: with.serve.as_ref().map(|_| Serve::default()), ..with.clone() };
    let made = match driver::new(datagrams.clone(), with) {
        // Somebody has the second port: what is left is to tell others how they are seen.
        Err(driver::Error::Beside { addr, source }) => {
            log::info!(
                "the STUN server goes without {addr}, and cannot tell others the kind of their NAT: {source}"
            );
            driver::new(datagrams, alone)
        }
        made => made,
    };
    let (driver, handle) = made
        .inspect_err(|e| log::warn!("nobody can be asked how this node is seen from outside: {e}"))
        .ok()?;
    executor.spawn(driver).detach();
    Some(handle)
}

/// The STUN server of a relay: at the port of QUIC, and at the next one, since it takes another port to tell others
/// whether their NAT looks at ports. For that it has to say where these are, which a wildcard does not.
fn serve(config: &Config) -> Serve {
    let own = transport::on_link().unwrap_or_default();
    let ip_for = |family: Family| {
        let external = config.external.iter().filter_map(scope::ip_of);
        let own = own.iter().map(|(ip, _)| *ip);
        let of_family = |ip: &IpAddr| Family::of((*ip, 0).into()) == family && !needs_zone(*ip);
        let usable = external.chain(own).filter(of_family);
        // A public one before one in a house, and that before one of this machine only.
        usable.min_by_key(|ip| (ip.is_loopback(), !scope::is_public(*ip)))
    };
    let mut serve = Serve::default();
    for (bound, port) in config.listen.iter().filter_map(quic_socket) {
        let ip = if bound.is_unspecified() { ip_for(Family::of((bound, 0).into())) } else { Some(bound) };
        // Without a port of one's own choice there is no next one to be found at.
        let (Some(ip), Some(beside)) = (ip, port.checked_add(1).filter(|_| port > 0)) else { continue };
        serve.beside.push((bound, beside).into());
        serve.seen.extend([port, beside].map(|port| ((bound, port).into(), (ip, port).into())));
    }
    serve
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
                self.feed.publish(api::Event::Nat(Meaning::of(&verdict)));
                self.outside.verdicts.insert(verdict.family, *verdict);
                self.answer_punch();
            }
        }
    }

    /// Peers that this node depends on are asked how they see it: who runs a relay answers STUN at its QUIC port.
    pub(super) fn ask_peers_for_stun(&mut self) {
        let Some(stun) = &self.outside.stun else { return };
        let helpful = self.links.addresses(|peer| self.bootstraps.has(peer) || self.relays.is_used(peer));
        let mut servers = self.outside.named.clone();
        for server in helpful.filter_map(|(_, addr)| server_at(addr)) {
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

fn quic_addr(addr: SocketAddr) -> Multiaddr {
    Multiaddr::from(addr.ip()).with(Protocol::Udp(addr.port())).with(Protocol::QuicV1)
}

/// Where QUIC goes with this address.
fn quic_socket(addr: &Multiaddr) -> Option<(IpAddr, u16)> {
    let parts: Vec<Protocol<'_>> = addr.iter().collect();
    match parts[..] {
        [_, Protocol::Udp(port), Protocol::QuicV1, ..] => Some((scope::ip_of(addr)?, port)),
        _ => None,
    }
}

/// The server that a peer with this address has, if it has one.
fn server_at(addr: &Multiaddr) -> Option<ServerName> {
    quic_socket(addr).map(|(ip, port)| ServerName { host: ip.to_string(), port })
}
