//! UPnP Internet Gateway Devices, versions 1 and 2: finds the gateway's service by SSDP and calls it by SOAP.
//!
//! Everything that answers is taken for a liar. Only datagrams from the gateway are read; its description and its
//! service must be at the address of the gateway; no redirect is followed; sizes, counts and times are bounded.

mod http;
mod ssdp;
#[cfg(test)]
mod tests;
mod xml;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use self::http::Url;
use super::Protocol;
use crate::{discovery::scope, limits, within::within};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Lease: seconds.
    Map {
        protocol: Protocol,
        internal: u16,
        external: u16,
        lease: u32,
    },
    Unmap {
        protocol: Protocol,
        external: u16,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// `permanent`: the gateway knows no leases.
    Mapped {
        external: SocketAddr,
        lease: u32,
        permanent: bool,
    },
    Unmapped,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody there.
    Silent,
    Refused(String),
}

/// Where to look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) own: Ipv4Addr,
    pub(super) gateway: Ipv4Addr,
    /// Where searches are sent.
    search: [SocketAddrV4; 2],
}

impl Place {
    pub(super) fn new(own: Ipv4Addr, gateway: Ipv4Addr) -> Self {
        Self { own, gateway, search: [ssdp::GROUP, SocketAddrV4::new(gateway, ssdp::GROUP.port())] }
    }
}

/// A service of the gateway that maps ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    control: Url,
    kind: &'static str,
}

/// Does one thing, with `known` if the service was found before. Comes back with the service if it answered.
pub(super) async fn run(
    place: Place,
    known: Option<Service>,
    job: Job,
) -> (Option<Service>, Result<Done, Failure>) {
    let all = async {
        let service = match known {
            Some(service) => service,
            None => match find(place).await {
                Ok(service) => service,
                Err(failure) => return (None, Err(failure)),
            },
        };
        match carry_out(&service, place, job).await {
            Ok(done) => (Some(service), Ok(done)),
            // It may have moved to another port.
            Err(Trouble::Http(error)) => (None, Err(Failure::Refused(format!("UPnP service: {error}")))),
            Err(Trouble::Code(code)) => (Some(service), Err(Failure::Refused(explain(code)))),
            Err(Trouble::Odd(what)) => (Some(service), Err(Failure::Refused(what.into()))),
        }
    };
    match within(limits::UPNP_JOB, all).await {
        Some(result) => result,
        None => (None, Err(Failure::Refused("UPnP service: too slow".into()))),
    }
}

#[derive(Debug)]
enum Trouble {
    Http(http::Error),
    /// A UPnP error.
    Code(u16),
    Odd(&'static str),
}

impl From<http::Error> for Trouble {
    fn from(error: http::Error) -> Self {
        Trouble::Http(error)
    }
}

const V2: &str = "urn:schemas-upnp-org:service:WANIPConnection:2";

/// The services that map ports, the best first.
const KINDS: [&str; 3] =
    [V2, "urn:schemas-upnp-org:service:WANIPConnection:1", "urn:schemas-upnp-org:service:WANPPPConnection:1"];

/// The service that the gateway uses: of those with an external address, the first with a public one.
async fn find(place: Place) -> Result<Service, Failure> {
    let locations = ssdp::search(place).await.map_err(|error| Failure::Refused(format!("SSDP: {error}")))?;
    let mut failure = Failure::Silent;
    let mut services = Vec::new();
    for location in locations {
        match http::fetch(&location).await {
            Ok(text) => services.extend(listed(&text, &location)),
            Err(error) => failure = Failure::Refused(format!("UPnP description: {error}")),
        }
    }
    services.sort_by_key(|service| KINDS.iter().position(|kind| *kind == service.kind));
    services.dedup();
    let mut fallback = None;
    for service in services.into_iter().take(limits::UPNP_CONNECTIONS) {
        match external_ip(&service).await {
            Ok(ip) if scope::is_public(ip.into()) => return Ok(service),
            Ok(ip) if !ip.is_unspecified() => fallback = fallback.or(Some(service)),
            Ok(_) => failure = Failure::Refused("the gateway has no external address".into()),
            Err(_) => failure = Failure::Refused("the UPnP service tells no external address".into()),
        }
    }
    fallback.ok_or(failure)
}

/// What a description lists of our kinds, as far as it is at the place of the description.
fn listed(description: &str, location: &Url) -> Vec<Service> {
    let found = xml::services(description);
    let base = found.base.and_then(|base| location.join(&base)).unwrap_or_else(|| location.clone());
    let known = found.services.iter().filter_map(|(kind, path)| {
        let kind = KINDS.into_iter().find(|known| known == kind)?;
        Some(Service { control: base.join(path)?, kind })
    });
    known.collect()
}

async fn carry_out(service: &Service, place: Place, job: Job) -> Result<Done, Trouble> {
    match job {
        Job::Map { protocol, internal, external, lease } => {
            let ip = external_ip(service).await?;
            let mut wish = Mapping { protocol, internal, external, lease, own: place.own };
            let port = map(service, &mut wish).await?;
            // The gateway's own idea of how long is not told: it is what we asked for.
            let external = SocketAddr::new(ip.into(), port);
            Ok(Done::Mapped { external, lease, permanent: wish.lease == 0 })
        }
        Job::Unmap { protocol, external } => {
            let arguments = [
                ("NewRemoteHost", String::new()),
                ("NewExternalPort", external.to_string()),
                ("NewProtocol", protocol.to_string()),
            ];
            match call(service, "DeletePortMapping", &arguments).await {
                // 714: there is none, which is what we want.
                Ok(_) | Err(Trouble::Code(714)) => Ok(Done::Unmapped),
                Err(trouble) => Err(trouble),
            }
        }
    }
}

async fn external_ip(service: &Service) -> Result<Ipv4Addr, Trouble> {
    let answer = call(service, "GetExternalIPAddress", &[]).await?;
    // Some say nothing instead of 0.0.0.0 while they have none.
    match xml::value(&answer, "NewExternalIPAddress") {
        Some(ip) => ip.trim().parse().map_err(|_| Trouble::Odd("the UPnP service told a strange address")),
        None => Ok(Ipv4Addr::UNSPECIFIED),
    }
}

struct Mapping {
    protocol: Protocol,
    internal: u16,
    external: u16,
    lease: u32,
    own: Ipv4Addr,
}

/// Adds a mapping, perhaps of another external port or without a lease. Returns the port.
async fn map(service: &Service, wish: &mut Mapping) -> Result<u16, Trouble> {
    // IGD 2 finds a free port itself.
    let mut action = if service.kind == V2 { "AddAnyPortMapping" } else { "AddPortMapping" };
    let mut last = Trouble::Odd("the UPnP service has no free port");
    for _ in 0..limits::UPNP_PORTS {
        let trouble = match call(service, action, &arguments(wish)).await {
            Ok(answer) => {
                let reserved =
                    xml::value(&answer, "NewReservedPort").and_then(|port| port.trim().parse().ok());
                return Ok(reserved.filter(|port| *port != 0).unwrap_or(wish.external));
            }
            Err(trouble) => trouble,
        };
        match trouble {
            // Permanent leases only: see `Done::Mapped`.
            Trouble::Code(725) if wish.lease != 0 => wish.lease = 0,
            // Not known: IGD 1 in the clothes of IGD 2.
            Trouble::Code(401 | 602) if action == "AddAnyPortMapping" => action = "AddPortMapping",
            // External and internal port must be the same.
            Trouble::Code(724) if wish.external != wish.internal => wish.external = wish.internal,
            // Somebody else has it, or it is not to be had.
            Trouble::Code(718 | 729 | 606 | 501) if wish.external != 0 => {
                wish.external = fastrand::u16(1024..);
            }
            _ => return Err(trouble),
        }
        last = trouble;
    }
    Err(last)
}

fn arguments(wish: &Mapping) -> [(&'static str, String); 8] {
    [
        ("NewRemoteHost", String::new()),
        ("NewExternalPort", wish.external.to_string()),
        ("NewProtocol", wish.protocol.to_string()),
        ("NewInternalPort", wish.internal.to_string()),
        ("NewInternalClient", wish.own.to_string()),
        ("NewEnabled", "1".into()),
        ("NewPortMappingDescription", "warren".into()),
        ("NewLeaseDuration", wish.lease.to_string()),
    ]
}

/// Calls an action. The answer is XML.
async fn call(service: &Service, action: &str, arguments: &[(&str, String)]) -> Result<String, Trouble> {
    use std::fmt::Write;

    let kind = service.kind;
    let mut body = format!(
        "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:{action} xmlns:u=\"{kind}\">"
    );
    for (name, value) in arguments {
        // Writing to a string does not fail; the values are numbers and words of ours.
        let _ = write!(body, "<{name}>{value}</{name}>");
    }
    let _ = write!(body, "</u:{action}></s:Body></s:Envelope>\r\n");
    let answer = http::post(&service.control, &format!("\"{kind}#{action}\""), &body).await?;
    match answer.status {
        200 => Ok(answer.body),
        status => match xml::value(&answer.body, "errorCode").and_then(|code| code.trim().parse().ok()) {
            Some(code) => Err(Trouble::Code(code)),
            None => Err(Trouble::Http(http::Error::Status(status))),
        },
    }
}

/// WANIPConnection:1, section 2.4.16.4, and WANIPConnection:2, section 2.5.16.4.
fn explain(code: u16) -> String {
    let why = match code {
        501 => "the action failed",
        606 => "not authorized",
        718 => "all ports that were tried belong to somebody else",
        725 => "permanent mappings only",
        728 => "no room for more mappings",
        _ => "refused",
    };
    format!("UPnP error {code}: {why}")
}
