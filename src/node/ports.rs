//! Ports of the home router that lead to this node.

use std::collections::BTreeMap;

use libp2p::{Multiaddr, multiaddr::Protocol};
use smol::Executor;

use super::Node;
use crate::{
    config::Config,
    discovery::scope,
    nat::portmap::{self, Event, PortMapper, Report, Wish},
};

/// The mappings, and what is known of the router.
pub(super) struct Ports {
    /// None where nobody from outside is expected, or the operator wants none.
    mapper: Option<PortMapper>,
    wishes: Vec<Wish>,
    /// What the router made of them, by IP family: whether it is IPv6.
    pub(super) reports: BTreeMap<bool, Report>,
}

impl Ports {
    pub(super) fn new(config: &Config, executor: &Executor<'static>) -> Self {
        let mapper = config.portmap.then(|| {
            let (mapper, future) = PortMapper::new(portmap::Config::default());
            executor.spawn(future).detach();
            mapper
        });
        Ports { mapper, wishes: Vec::new(), reports: BTreeMap::new() }
    }

    /// The next thing that the router did.
    pub(super) async fn next(&mut self) -> Event {
        if let Some(mapper) = &self.mapper
            && let Some(event) = mapper.next().await
        {
            return event;
        }
        std::future::pending().await
    }

    /// Gives the ports back. Takes a bounded time.
    pub(super) async fn close(&mut self) {
        if let Some(mapper) = self.mapper.take() {
            mapper.stop().await;
        }
    }
}

impl Node {
    pub(super) fn on_port(&mut self, event: Event) {
        match event {
            Event::Mapped { protocol, external, method, .. } => {
                let addr = multiaddr(protocol, external);
                log::debug!("the router leads {addr} here ({method})");
                #[cfg(feature = "autonat")]
                self.autonat.mapped(addr.clone());
                self.swarm.add_external_address(addr);
            }
            Event::Lost { protocol, external, .. } => {
                let addr = multiaddr(protocol, external);
                log::info!("the router leads {addr} here no longer");
                #[cfg(feature = "autonat")]
                self.autonat.unmapped(&addr);
                self.swarm.remove_external_address(&addr);
            }
            Event::Report(report) => {
                log::debug!("{report:?}");
                self.ports.reports.insert(report.is_ipv6, report);
            }
        }
    }

    /// The router is asked to open the ports at which this node listens on more than this machine.
    pub(super) fn wish_for_ports(&mut self) {
        let wish = |addr: &Multiaddr| {
            scope::ip_of(addr).filter(|ip| !ip.is_loopback())?;
            let (protocol, internal) = addr.iter().find_map(|part| match part {
                Protocol::Udp(port) => Some((portmap::Protocol::Udp, port)),
                Protocol::Tcp(port) => Some((portmap::Protocol::Tcp, port)),
                _ => None,
            })?;
            // Those that come in by a relay are not for the router.
            (!scope::is_circuit(addr)).then_some(Wish { protocol, internal, external: internal })
        };
        let mut wishes: Vec<Wish> = Vec::new();
        for wish in self.swarm.listeners().filter_map(wish) {
            if !wishes.contains(&wish) {
                wishes.push(wish);
            }
        }
        if let Some(mapper) = self.ports.mapper.as_ref().filter(|_| wishes != self.ports.wishes) {
            mapper.want(wishes.clone());
            self.ports.wishes = wishes;
        }
    }
}

fn multiaddr(protocol: portmap::Protocol, external: std::net::SocketAddr) -> Multiaddr {
    let addr = Multiaddr::from(external.ip());
    match protocol {
        portmap::Protocol::Udp => addr.with(Protocol::Udp(external.port())).with(Protocol::QuicV1),
        portmap::Protocol::Tcp => addr.with(Protocol::Tcp(external.port())),
    }
}
