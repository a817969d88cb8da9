//! Names to records: asks this machine's files and its name servers.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    pin::pin,
    sync::Arc,
};

use async_io::Async;
use futures::{
    AsyncReadExt, AsyncWriteExt,
    future::{Either, select},
};

use super::{
    Config, LookupError, ServerError,
    message::{Kind, Query, Record, Reply, is_name},
    system::{ResolvConf, Settings},
};
use crate::{aside::aside, limits, within::within};

/// The IP addresses that are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Any,
    V4,
    V6,
}

impl Family {
    fn has(self, ip: &IpAddr) -> bool {
        match self {
            Family::Any => true,
            Family::V4 => ip.is_ipv4(),
            Family::V6 => ip.is_ipv6(),
        }
    }
}

/// A stub resolver without state: what it returns is what the files and the servers say now.
///
/// There is no cache; the name server on the router or in the provider's network has one.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    config: Arc<Config>,
}

type Lookup<T> = Result<Vec<T>, LookupError>;

impl Resolver {
    pub(super) fn new(config: Config) -> Self {
        Resolver { config: Arc::new(config) }
    }

    /// The addresses of a host, the most promising first; never none.
    pub(super) async fn addresses(&self, name: &str, family: Family) -> Lookup<IpAddr> {
        if let Some(known) = well_known(name) {
            return wanted(known, family, name);
        }
        let settings = self.settings(name).await?;
        if settings.addresses.iter().any(|ip| family.has(ip)) {
            return wanted(settings.addresses, family, name);
        }
        let conf = &settings.resolv_conf;
        let v6 = self.ips(conf, name, Kind::Aaaa);
        let v4 = self.ips(conf, name, Kind::A);
        match family {
            Family::V6 => v6.await,
            Family::V4 => v4.await,
            Family::Any => match race(v6, v4, name).await {
                (Ok(v6), Ok(v4)) => Ok(interleave(v6, v4)),
                (Ok(ips), Err(_)) | (Err(_), Ok(ips)) => Ok(ips),
                // Most names that do not work do not work for either family, and IPv4 is what people look at.
                (Err(_), Err(error)) => Err(error),
            },
        }
    }

    /// The TXT records of a name; never none.
    pub(super) async fn texts(&self, name: &str) -> Lookup<String> {
        if well_known(name).is_some() {
            return Err(LookupError::NoRecords { name: name.to_owned(), kind: Kind::Txt.name() });
        }
        let settings = self.settings(name).await?;
        let records = self.records(&settings.resolv_conf, name, Kind::Txt).await?;
        let texts = records.into_iter().filter_map(|record| match record {
            Record::Text(text) => Some(text),
            Record::Ip(_) => None,
        });
        Ok(texts.collect())
    }

    /// Reads the files, away from the loop's thread.
    async fn settings(&self, name: &str) -> Result<Settings, LookupError> {
        // RFC 6761, section 6.4 and RFC 7686, section 2: no server shall be asked for these.
        if is_below(name, "invalid") || is_below(name, "onion") {
            return Err(LookupError::NoSuchName { name: name.to_owned() });
        }
        if !is_name(name) {
            return Err(LookupError::BadName { name: name.to_owned() });
        }
        let (config, name) = (Arc::clone(&self.config), name.to_owned());
        let load = move || Settings::load(&config.resolv_conf, &config.hosts, &name);
        if let Ok(loaded) = aside(load.clone())
            && let Ok(settings) = loaded.recv().await
        {
            return Ok(settings);
        }
        // No thread is to be had: then the loop waits for the disk.
        Ok(load())
    }

    async fn ips(&self, conf: &ResolvConf, name: &str, kind: Kind) -> Lookup<IpAddr> {
        let records = self.records(conf, name, kind).await?;
        let ips = records.into_iter().filter_map(|record| match record {
            Record::Ip(ip) => Some(ip),
            Record::Text(_) => None,
        });
        Ok(ips.take(limits::DNS_ADDRESSES).collect())
    }

    async fn records(&self, conf: &ResolvConf, name: &str, kind: Kind) -> Lookup<Record> {
        let late = || Err(LookupError::TimedOut { name: name.to_owned() });
        within(limits::DNS_LOOKUP_TIMEOUT, self.ask_in_turn(conf, name, kind)).await.unwrap_or_else(late)
    }

    /// Asks each server in turn, several times, until one gives an answer.
    async fn ask_in_turn(&self, conf: &ResolvConf, name: &str, kind: Kind) -> Lookup<Record> {
        let owned = || name.to_owned();
        let timeout = conf.timeout.unwrap_or(self.config.try_timeout);
        let mut failure = LookupError::TimedOut { name: owned() };
        for server in (0..conf.tries).flat_map(|_| &conf.servers) {
            let asked = async {
                let mut addr = server.resolve()?;
                addr.set_port(self.config.port);
                ask(addr, name, kind).await
            };
            let cause = match within(timeout, asked).await.unwrap_or(Err(ServerError::TimedOut)) {
                Ok(Reply::Records(records)) if records.is_empty() => {
                    return Err(LookupError::NoRecords { name: owned(), kind: kind.name() });
                }
                Ok(Reply::Records(records)) => return Ok(records),
                Ok(Reply::NoSuchName) => return Err(LookupError::NoSuchName { name: owned() }),
                Ok(Reply::Failed(code)) => ServerError::Code(code),
                Ok(Reply::Malformed | Reply::Truncated | Reply::Stray) => ServerError::Malformed,
                Err(error) => error,
            };
            log::debug!("asking {server} for {name}: {cause}");
            failure = LookupError::NoAnswer { name: owned(), server: server.ip.to_string(), cause };
        }
        Err(failure)
    }
}

/// One query to one server, by UDP, and by TCP when the answer is too long for that.
async fn ask(server: SocketAddr, name: &str, kind: Kind) -> Result<Reply, ServerError> {
    // `settings` let the name pass, so there is a query for it.
    let query = Query::new(random_id(), name, kind).ok_or(ServerError::Malformed)?;
    match ask_by_udp(server, &query).await? {
        Reply::Truncated => Ok(ask_by_tcp(server, &query).await?),
        reply => Ok(reply),
    }
}

/// Every query has a socket, hence a random port, of its own; and the kernel drops what comes from others
/// than the server.
async fn ask_by_udp(server: SocketAddr, query: &Query) -> io::Result<Reply> {
    let local: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = Async::<UdpSocket>::bind((local, 0))?;
    socket.get_ref().connect(server)?;
    socket.send(query.as_bytes()).await?;
    // On the heap: many futures hold one of these, and are moved.
    let mut buf = vec![0; limits::DNS_UDP_BYTES];
    for _ in 0..limits::DNS_STRAYS {
        let length = socket.recv(&mut buf).await?;
        match query.read(&buf[..length]) {
            Reply::Stray => {}
            reply => return Ok(reply),
        }
    }
    Ok(Reply::Stray)
}

/// RFC 1035, section 4.2.2: each message comes after its length in two bytes.
async fn ask_by_tcp(server: SocketAddr, query: &Query) -> io::Result<Reply> {
    let mut stream = Async::<TcpStream>::connect(server).await?;
    let length = u16::try_from(query.as_bytes().len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query.as_bytes()].concat()).await?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let length = usize::from(u16::from_be_bytes(length));
    if length > limits::DNS_TCP_BYTES {
        return Ok(Reply::Malformed);
    }
    let mut reply = vec![0; length];
    stream.read_exact(&mut reply).await?;
    Ok(query.read(&reply))
}

/// An id that others cannot foresee. The standard library keys its hashers from the kernel's generator,
/// without waiting for it: a router that just booted must not hang here.
fn random_id() -> u16 {
    RandomState::new().hash_one(()) as u16
}

/// Addresses that no server has to be asked for: IP addresses themselves, and this machine (RFC 6761, 6.3).
fn well_known(name: &str) -> Option<Vec<IpAddr>> {
    if let Ok(ip) = name.parse() {
        return Some(vec![ip]);
    }
    is_below(name, "localhost").then(|| vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()])
}

/// Whether a name is `domain` or ends with `.domain`.
fn is_below(name: &str, domain: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case(domain))
}

fn wanted(mut ips: Vec<IpAddr>, family: Family, name: &str) -> Lookup<IpAddr> {
    ips.retain(|ip| family.has(ip));
    match (ips.is_empty(), family) {
        (false, _) => Ok(ips),
        (true, Family::V6) => Err(LookupError::NoRecords { name: name.to_owned(), kind: Kind::Aaaa.name() }),
        (true, _) => Err(LookupError::NoRecords { name: name.to_owned(), kind: Kind::A.name() }),
    }
}

/// Waits for both families; once one has addresses, not much longer for the other.
async fn race(
    v6: impl Future<Output = Lookup<IpAddr>>,
    v4: impl Future<Output = Lookup<IpAddr>>,
    name: &str,
) -> (Lookup<IpAddr>, Lookup<IpAddr>) {
    async fn other(
        first: &Lookup<IpAddr>,
        second: impl Future<Output = Lookup<IpAddr>>,
        name: &str,
    ) -> Lookup<IpAddr> {
        match first {
            Ok(_) => {
                let late = || Err(LookupError::TimedOut { name: name.to_owned() });
                within(limits::DNS_OTHER_FAMILY, second).await.unwrap_or_else(late)
            }
            Err(_) => second.await,
        }
    }
    match select(pin!(v6), pin!(v4)).await {
        Either::Left((v6, v4)) => {
            let v4 = other(&v6, v4, name).await;
            (v6, v4)
        }
        Either::Right((v4, v6)) => {
            let v6 = other(&v4, v6, name).await;
            (v6, v4)
        }
    }
}

/// IPv6 and IPv4 by turns, so that a family that does not work here costs one attempt and not all of them
/// (RFC 8305, section 4).
fn interleave(v6: Vec<IpAddr>, v4: Vec<IpAddr>) -> Vec<IpAddr> {
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut ips = Vec::new();
    loop {
        let pair = [v6.next(), v4.next()];
        if pair == [None, None] {
            return ips;
        }
        ips.extend(pair.into_iter().flatten());
    }
}
