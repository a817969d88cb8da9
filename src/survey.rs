//! `warren nat`: what situation this machine is in, told to a person or to a program.

use std::{collections::BTreeMap, fmt, net::IpAddr, time::Instant};

use libp2p::{Multiaddr, Transport as _, core::transport::ListenerId, identity::Keypair};
use smol::Executor;

#[cfg(feature = "portmap")]
use crate::nat::portmap::{self, PortMapper, Report, Support, Wish};
use crate::{
    config::NatConfig,
    limits,
    nat::{
        meaning::Meaning,
        stun::{
            Family,
            driver::{self, Event},
            verdict::{Filtering, Verdict},
        },
    },
    transport::{
        self,
        quic::{self, Kind},
    },
    within::within,
};

/// What was found.
#[derive(Debug, Default)]
pub struct Survey {
    /// The addresses of this machine, with the lengths of their networks' prefixes.
    pub interfaces: Vec<(IpAddr, u8)>,
    /// What kind of NAT there is.
    pub nats: Vec<Meaning>,
    /// Nobody was asked: no server is known.
    pub is_unasked: bool,
    /// What the router does, by IP family.
    #[cfg(feature = "portmap")]
    pub routers: Vec<Report>,
}

/// Looks around for [`limits::SURVEY`] at the most.
///
/// # Errors
/// When no socket or no random numbers can be had, in a sentence.
pub async fn look(config: &NatConfig, executor: &Executor<'static>) -> Result<Survey, String> {
    let interfaces = transport::on_link().unwrap_or_default();
    let (mut quic, driver) = quic::Transport::new(&Keypair::generate_ed25519()).map_err(|e| e.to_string())?;
    let quic_task = executor.spawn(driver);
    for addr in &config.listen {
        // A machine without IPv6 has the other one.
        if let Err(e) = quic.listen_on(ListenerId::next(), addr.clone()) {
            log::info!("not looking from {addr}: {e}");
        }
    }
    let with = driver::Config {
        servers: config.servers.clone(),
        serve: None,
        #[cfg(feature = "dns")]
        dns: Default::default(),
    };
    let (driver, stun) = driver::new(quic.datagrams(Kind::Stun), with).map_err(|e| e.to_string())?;
    let stun_task = executor.spawn(driver);
    stun.addresses_changed();
    let mut verdicts: BTreeMap<Family, Verdict> = BTreeMap::new();
    let begun = Instant::now();
    if !config.servers.is_empty() {
        within(limits::SURVEY, hear(&stun.events, &mut verdicts)).await;
    }
    #[cfg(feature = "portmap")]
    let routers = match config.portmap {
        true => ask_router(&quic, executor, limits::SURVEY.saturating_sub(begun.elapsed())).await,
        false => Vec::new(),
    };
    log::debug!("looked around for {:.1} s", begun.elapsed().as_secs_f64());
    drop((quic_task, stun_task));
    Ok(Survey {
        interfaces,
        nats: verdicts.values().map(Meaning::of).collect(),
        is_unasked: config.servers.is_empty(),
        #[cfg(feature = "portmap")]
        routers,
    })
}

/// Takes in what is found, until nothing more is to be expected.
async fn hear(events: &async_channel::Receiver<Event>, verdicts: &mut BTreeMap<Family, Verdict>) {
    while let Ok(event) = events.recv().await {
        let Event::Verdict(verdict) = event else { continue };
        verdicts.insert(verdict.family, *verdict);
        let is_known = |verdict: &Verdict| verdict.filtering != Filtering::Unknown;
        if verdicts.len() == 2 && verdicts.values().all(is_known) {
            return;
        }
    }
}

/// What the router says when it is asked for a port.
#[cfg(feature = "portmap")]
async fn ask_router(
    quic: &quic::Transport,
    executor: &Executor<'static>,
    time: std::time::Duration,
) -> Vec<Report> {
    let Some(port) = quic.datagrams(Kind::Punch).local_addrs().first().map(std::net::SocketAddr::port) else {
        return Vec::new();
    };
    let (mapper, future) = PortMapper::new(portmap::Config::default());
    let task = executor.spawn(future);
    mapper.want(vec![Wish { protocol: portmap::Protocol::Udp, internal: port, external: port }]);
    let mut reports: BTreeMap<bool, Report> = BTreeMap::new();
    let asked = async {
        while let Some(event) = mapper.next().await {
            if let portmap::Event::Report(report) = event {
                let is_settled = |report: &Report| {
                    let all = [&report.pcp, &report.natpmp, &report.upnp];
                    report.not_needed
                        || all.contains(&&Support::Supported)
                        || all.iter().all(|support| **support != Support::Untried)
                };
                reports.insert(report.is_ipv6, report);
                if reports.len() == 2 && reports.values().all(is_settled) {
                    return;
                }
            }
        }
    };
    within(time.max(limits::SURVEY_REST), asked).await;
    mapper.stop().await;
    drop(task);
    reports.into_values().collect()
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interfaces: Vec<String> = self
            .interfaces
            .iter()
            .filter(|(ip, _)| !ip.is_loopback())
            .map(|(ip, prefix)| format!("{ip}/{prefix}"))
            .collect();
        writeln!(
            f,
            "addresses  {}",
            if interfaces.is_empty() { "none".into() } else { interfaces.join(", ") }
        )?;
        for nat in &self.nats {
            let external: Vec<String> = nat.external.iter().map(ToString::to_string).collect();
            writeln!(
                f,
                "{}       mapping {}, filtering {}, ports {}",
                nat.family, nat.mapping, nat.filtering, nat.ports
            )?;
            writeln!(
                f,
                "           seen as {}",
                if external.is_empty() { "nobody".into() } else { external.join(", ") }
            )?;
        }
        #[cfg(feature = "portmap")]
        for report in &self.routers {
            writeln!(f, "router     {}", router(report))?;
        }
        for nat in &self.nats {
            writeln!(f, "so         {}: {}", nat.family, nat.reach)?;
        }
        if self.is_unasked {
            writeln!(f, "so         nobody was asked: name a relay, a bootstrap node or a --stun-server")?;
        } else if self.nats.is_empty() {
            writeln!(f, "so         nobody answered: UDP may be blocked, or the server be down")?;
        }
        Ok(())
    }
}

#[cfg(feature = "portmap")]
fn router(report: &Report) -> String {
    let family = if report.is_ipv6 { "IPv6" } else { "IPv4" };
    let Some(gateway) = report.gateway else { return format!("{family}: none") };
    if report.not_needed {
        return format!("{family}: {gateway}, and nothing to map: the address of this machine is public");
    }
    let support = |name: &str, support: &Support| match support {
        Support::Untried => format!("{name} not tried"),
        Support::Supported => format!("{name} works"),
        Support::Silent => format!("{name} unanswered"),
        Support::Refused(why) => format!("{name} refused ({why})"),
    };
    let methods =
        [support("PCP", &report.pcp), support("NAT-PMP", &report.natpmp), support("UPnP", &report.upnp)]
            .join(", ");
    let external = report.external.map(|ip| format!("; its own outside address is {ip}")).unwrap_or_default();
    let double = if report.double_nat { ", so there is another NAT behind it" } else { "" };
    format!("{family}: {gateway}: {methods}{external}{double}")
}

/// The wildcard addresses to look from.
pub fn everywhere(port: u16) -> Vec<Multiaddr> {
    ["/ip4/0.0.0.0", "/ip6/::"]
        .iter()
        .filter_map(|ip| format!("{ip}/udp/{port}/quic-v1").parse().ok())
        .collect()
}
