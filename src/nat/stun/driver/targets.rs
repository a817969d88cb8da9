//! From names to whom to ask, and from where.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Instant,
};

use futures::future::{BoxFuture, FutureExt, join_all};

use super::Config;
use crate::{
    limits,
    nat::stun::{Family, ServerName, client::Target},
};

/// The addresses of the servers, the first of each name and family before the second ones. All names are looked
/// up at once.
pub(super) fn resolve(config: &Config) -> BoxFuture<'static, Vec<SocketAddr>> {
    let lookups: Vec<_> = config.servers.iter().take(limits::STUN_SERVER_NAMES).cloned().collect();
    let config = config.clone();
    async move {
        let begun = Instant::now();
        let found = join_all(lookups.iter().map(|name| look_up(name, &config))).await;
        log::debug!("looked up {} STUN servers in {:?}", lookups.len(), begun.elapsed());
        let of_rank = |rank| found.iter().flat_map(move |of_name| of_rank(of_name, rank));
        // A name with two addresses may be one server with two, and that is all it takes to know a mapping.
        of_rank(0).chain(of_rank(1)).collect()
    }
    .boxed()
}

/// The `rank`th address of each family.
fn of_rank(addrs: &[SocketAddr], rank: usize) -> impl Iterator<Item = SocketAddr> {
    Family::ALL
        .into_iter()
        .filter_map(move |family| addrs.iter().filter(|addr| Family::of(**addr) == family).nth(rank).copied())
}

async fn look_up(name: &ServerName, config: &Config) -> Vec<SocketAddr> {
    let ips = match name.host.parse::<IpAddr>() {
        Ok(ip) => vec![ip],
        Err(_) => by_name(&name.host, config).await,
    };
    ips.into_iter().map(|ip| SocketAddr::new(ip, name.port)).collect()
}

#[cfg(feature = "dns")]
async fn by_name(host: &str, config: &Config) -> Vec<IpAddr> {
    match crate::transport::dns::addresses(host, config.dns.clone()).await {
        Ok(ips) => ips,
        Err(error) => {
            log::info!("STUN server: {error}");
            Vec::new()
        }
    }
}

#[cfg(not(feature = "dns"))]
async fn by_name(host: &str, _: &Config) -> Vec<IpAddr> {
    log::info!("the STUN server {host} is left out: this build does not resolve names");
    Vec::new()
}

/// Where a request to `server` comes from when it is sent on the socket bound at `bound`: with the IP that the
/// kernel's route has. `None`: there is no route. Sends nothing.
pub(super) fn local(bound: SocketAddr, server: SocketAddr) -> Option<SocketAddr> {
    if !bound.ip().is_unspecified() {
        return Some(bound);
    }
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(server).ok()?;
    Some(SocketAddr::new(socket.local_addr().ok()?.ip(), bound.port()))
}

/// Servers that were of no use when last asked. Only some servers are asked at a time, so others go first.
#[derive(Default)]
pub(super) struct Silent(Vec<SocketAddr>);

impl Silent {
    pub(super) fn remember(&mut self, server: SocketAddr) {
        self.forget(server);
        if self.0.len() == limits::STUN_SILENT {
            self.0.remove(0);
        }
        self.0.push(server);
    }

    pub(super) fn forget(&mut self, server: SocketAddr) {
        self.0.retain(|other| *other != server);
    }

    /// Orders the useful before those that were not, and of these the one first that failed the longest ago.
    pub(super) fn to_the_end(&self, targets: &mut [Target]) {
        targets.sort_by_key(|target| self.0.iter().position(|silent| *silent == target.server));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_gives_a_wildcard_its_address() {
        let of = |bound: &str, server: &str| {
            let parse = |text: &str| text.parse().expect("an address");
            local(parse(bound), parse(server)).map(|addr| addr.to_string())
        };
        assert_eq!(of("0.0.0.0:4001", "127.0.0.1:9").as_deref(), Some("127.0.0.1:4001"));
        assert_eq!(of("127.0.0.5:4001", "127.0.0.1:9").as_deref(), Some("127.0.0.5:4001"));
    }

    #[test]
    fn servers_that_are_down_are_asked_last_and_by_turns() {
        let addr = |port| SocketAddr::from(([198, 51, 100, 1], port));
        let mut targets: Vec<_> = (1..=6).map(|port| Target { server: addr(port), local: addr(9) }).collect();
        let mut silent = Silent::default();
        for port in [3, 1, 2, 3] {
            silent.remember(addr(port));
        }
        silent.forget(addr(2));
        silent.to_the_end(&mut targets);
        let ports: Vec<_> = targets.iter().map(|target| target.server.port()).collect();
        assert_eq!(ports, [2, 4, 5, 6, 1, 3]);
        for port in 1..1000 {
            silent.remember(addr(port));
        }
        assert_eq!(silent.0.len(), limits::STUN_SILENT);
    }

    #[test]
    fn the_first_addresses_of_all_names_come_before_the_second() {
        let config = Config {
            servers: ["127.0.0.1:1", "[::1]:2", "127.0.0.3:3"]
                .map(|name| name.parse().expect("a name"))
                .into(),
            ..Config::default()
        };
        let found = smol::block_on(resolve(&config));
        assert_eq!(found, ["127.0.0.1:1", "[::1]:2", "127.0.0.3:3"].map(|a| a.parse().expect("an address")));
        let addrs: Vec<SocketAddr> =
            ["127.0.0.1:1", "127.0.0.2:1", "[::1]:1"].map(|a| a.parse().expect("an address")).into();
        assert_eq!(of_rank(&addrs, 0).collect::<Vec<_>>(), [addrs[0], addrs[2]]);
        assert_eq!(of_rank(&addrs, 1).collect::<Vec<_>>(), [addrs[1]]);
    }
}
