//! Whether a home behaves as its name says: asked by plain UDP, before any experiment.
//!
//! ```text
//!   node's socket ── gateways ──▶ reflector: 2 addresses x 2 ports
//! ```
//! Mapping: from where does each of the four see the socket? Filtering: a second socket sends to one of them; which
//! of the other three get a packet back to it?

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::home::{self, Home, INTERFACE};
use super::kind::Kind;
use super::{Host, Lab};

/// A packet that has not come after so long does not come: several times the way there. Unit: time.
const SILENCE: Duration = Duration::from_millis(400);

/// Two addresses of one family, two ports of each: `[address][port]`.
struct Reflector {
    sockets: [[UdpSocket; 2]; 2],
}

/// What was found.
#[derive(Debug, PartialEq)]
struct Found {
    mapping: Mapping,
    filtering: Filtering,
}

/// RFC 4787, section 4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mapping {
    /// The address is not translated.
    None,
    EndpointIndependent,
    /// By address and port, with ports one after the other.
    Sequential,
    /// Likewise, without an order.
    Random,
    /// Nothing gets out.
    Blocked,
}

/// RFC 4787, section 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filtering {
    EndpointIndependent,
    AddressDependent,
    AddressAndPortDependent,
    Blocked,
}

/// Networks of the homes that are only looked at.
const VERIFIED: u16 = 60_000;

/// Makes a home of each of these kinds, and fails if one is not what its name says. `reboots`: also after its NATs
/// have been started again, when nothing of before may get in.
pub(crate) fn verify(lab: &Lab, kinds: &[Kind], reboots: bool) -> Result<()> {
    let host = lab.host("reflector")?;
    let (v4, v6) = home::networks(VERIFIED);
    let (_, [first_v4, first_v6]) = lab.uplink(&host, INTERFACE, v4, v6)?;
    let second = |first: IpAddr| match first {
        IpAddr::V4(ip) => IpAddr::from((ip.to_bits() + 10).to_be_bytes()),
        IpAddr::V6(ip) => IpAddr::from((ip.to_bits() + 10).to_be_bytes()),
    };
    let addrs = [first_v4, first_v6].map(|first| [first, second(first)]);
    let lines = addrs.map(|[_, second]| {
        let rest = if second.is_ipv6() { "/48 dev eth0 nodad" } else { "/24 dev eth0" };
        format!("addr add {second}{rest}")
    });
    lab.ip(&host, &[&lines[0], &lines[1]])?;
    let check = |kind: Kind, number: u16| -> Result<()> {
        let home = Home::new(lab, kind, &format!("v{number}"), VERIFIED + number)?;
        compare(lab, &home, &host, addrs)?;
        if reboots && kind != Kind::Public {
            Reflector::new(lab, &host, addrs[0])?.watch_reboot(lab, &home)?;
            compare(lab, &home, &host, addrs)?;
        }
        home.remove(lab)
    };
    let check = &check;
    std::thread::scope(|scope| {
        let checks: Vec<_> =
            kinds.iter().zip(1..).map(|(kind, number)| scope.spawn(move || check(*kind, number))).collect();
        let count = checks.len();
        for check in checks {
            check.join().map_err(|_| anyhow!("a check panicked"))??;
        }
        println!("{count} kinds of homes behave as their names say");
        lab.remove(&host)
    })
}

/// Compares a home with its name.
fn compare(lab: &Lab, home: &Home, reflector: &Host, addrs: [[IpAddr; 2]; 2]) -> Result<()> {
    let [v4, v6] = addrs;
    let found = Reflector::new(lab, reflector, v4)?.look(lab, home)?;
    let wanted = wanted(home.kind);
    ensure!(found == wanted, "{}: wanted {wanted:?}, found {found:?}", home.kind);
    if home.kind == Kind::Ipv6Firewall {
        let found = Reflector::new(lab, reflector, v6)?.look(lab, home)?;
        let wanted = Found { mapping: Mapping::None, filtering: Filtering::AddressAndPortDependent };
        ensure!(found == wanted, "{} over IPv6: wanted {wanted:?}, found {found:?}", home.kind);
    }
    Ok(())
}

fn wanted(kind: Kind) -> Found {
    let (mapping, filtering) = match kind {
        Kind::Public => (Mapping::None, Filtering::EndpointIndependent),
        Kind::FullCone => (Mapping::EndpointIndependent, Filtering::EndpointIndependent),
        Kind::AddressRestricted => (Mapping::EndpointIndependent, Filtering::AddressDependent),
        Kind::PortRestricted | Kind::Cgnat => {
            (Mapping::EndpointIndependent, Filtering::AddressAndPortDependent)
        }
        Kind::SymmetricSequential => (Mapping::Sequential, Filtering::AddressAndPortDependent),
        Kind::SymmetricRandom | Kind::Ipv6Firewall => (Mapping::Random, Filtering::AddressAndPortDependent),
        Kind::UdpBlocked => (Mapping::Blocked, Filtering::Blocked),
    };
    Found { mapping, filtering }
}

impl Reflector {
    fn new(lab: &Lab, host: &Host, addrs: [IpAddr; 2]) -> Result<Self> {
        let bind = |addr: IpAddr| -> Result<[UdpSocket; 2]> { Ok([bind(addr)?, bind(addr)?]) };
        let sockets = lab.on(host, || Ok([bind(addrs[0])?, bind(addrs[1])?]))?;
        Ok(Reflector { sockets })
    }

    fn look(&self, lab: &Lab, home: &Home) -> Result<Found> {
        let any = match self.sockets[0][0].local_addr()?.ip() {
            IpAddr::V4(_) => IpAddr::from([0, 0, 0, 0]),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let [first, second] = lab.on(&home.host, || Ok([bind(any)?, bind(any)?]))?;
        Ok(Found { mapping: self.mapping(home, &first)?, filtering: self.filtering(&second)? })
    }

    /// Reboots the NATs of a home: the way in must be closed then, and the next one another.
    fn watch_reboot(&self, lab: &Lab, home: &Home) -> Result<()> {
        let [[reflector, _], _] = &self.sockets;
        let socket = lab.on(&home.host, || bind(IpAddr::from([0, 0, 0, 0])))?;
        let call = || -> Result<SocketAddr> {
            socket.send_to(b"here I am", reflector.local_addr()?)?;
            heard(reflector)?.context("nothing gets out")
        };
        let answer = |to: SocketAddr| -> Result<bool> {
            reflector.send_to(b"there you are", to)?;
            Ok(heard(&socket)?.is_some())
        };
        let before = call()?;
        ensure!(answer(before)?, "{}: answers do not get in", home.kind);
        home.reboot(lab)?;
        ensure!(!answer(before)?, "{}: {before} still leads in after a reboot", home.kind);
        let after = call()?;
        ensure!(before != after && answer(after)?, "{}: from {before} to {after} by a reboot", home.kind);
        Ok(())
    }

    fn mapping(&self, home: &Home, socket: &UdpSocket) -> Result<Mapping> {
        let mut seen = Vec::new();
        for reflector in self.sockets.iter().flatten() {
            socket.send_to(b"where am I", reflector.local_addr()?)?;
            seen.extend(heard(reflector)?);
        }
        if seen.is_empty() {
            return Ok(Mapping::Blocked);
        }
        ensure!(seen.len() == 4, "{}: the reflector heard {} packets of 4", home.kind, seen.len());
        let port = socket.local_addr()?.port();
        if seen.iter().all(|from| !home.public.contains(&from.ip())) {
            ensure!(seen.iter().all(|from| from.port() == port), "ports of {seen:?} were translated");
            return Ok(Mapping::None);
        }
        ensure!(seen.iter().all(|from| home.public.contains(&from.ip())), "{}: seen as {seen:?}", home.kind);
        let is_public = home.kind == Kind::Public;
        let steps: Vec<i32> =
            seen.windows(2).map(|pair| i32::from(pair[1].port()) - i32::from(pair[0].port())).collect();
        Ok(match &steps[..] {
            [0, 0, 0] if is_public => Mapping::None,
            [0, 0, 0] => Mapping::EndpointIndependent,
            [1, 1, 1] => Mapping::Sequential,
            _ if steps.contains(&0) || steps.iter().all(|step| step.abs() < 16) => {
                anyhow::bail!("{}: ports of {seen:?} have no order that is known", home.kind)
            }
            _ => Mapping::Random,
        })
    }

    fn filtering(&self, socket: &UdpSocket) -> Result<Filtering> {
        let [[asked, other_port], [other_address, stranger]] = &self.sockets;
        socket.send_to(b"let me in", asked.local_addr()?)?;
        let Some(mapped) = heard(asked)? else { return Ok(Filtering::Blocked) };
        let answer = |from: &UdpSocket| -> Result<bool> {
            from.send_to(b"knock", mapped)?;
            Ok(heard(socket)?.is_some())
        };
        // Strangers first: an answer from one address must not open the door to another.
        let found = [answer(stranger)?, answer(other_address)?, answer(other_port)?];
        ensure!(answer(asked)?, "answers do not get in");
        match found {
            [true, true, true] => Ok(Filtering::EndpointIndependent),
            [false, false, true] => Ok(Filtering::AddressDependent),
            [false, false, false] => Ok(Filtering::AddressAndPortDependent),
            _ => anyhow::bail!("a stranger, another address, another port got in: {found:?}"),
        }
    }
}

fn bind(addr: IpAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((addr, 0)).with_context(|| format!("no socket at {addr}"))?;
    socket.set_read_timeout(Some(SILENCE))?;
    Ok(socket)
}

/// Who sent the next packet, if one comes.
fn heard(socket: &UdpSocket) -> Result<Option<SocketAddr>> {
    match socket.recv_from(&mut [0; 64]) {
        Ok((_, from)) => Ok(Some(from)),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
            Ok(None)
        }
        Err(e) => Err(e.into()),
    }
}
