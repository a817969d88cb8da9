//! Ports of the home router: asks the default gateway to hand what arrives at a port of its own to us.
//!
//! - PCP (RFC 6887) comes first, then NAT-PMP (RFC 6886), then UPnP IGD 1 and 2. The first that works is used.
//! - Leases are finite, renewed at half of their time and released at the end. A gateway that was restarted shows it
//!   by its epoch, which PCP and NAT-PMP tell, also by multicast; UPnP mappings are asked for again every ten minutes.
//! - An external address that is not public means that the gateway is itself behind a NAT. The mapping is kept, as it
//!   is half of the way, and [`Report::double_nat`] tells; it is no [`Event::Mapped`].
//! - A machine whose own address is public needs none of this, nor does one without a gateway.
//! - For IPv6 there is nothing to map, but PCP opens the firewall for the address that we speak with.
//! - Nothing is sent to anybody but the default gateway, and the SSDP group on its interface. Only the gateway is
//!   believed, and it cannot lead us anywhere else.
//! - While nothing happens the next renewal is the only timer.
//!
//! Not done: WANIPv6FirewallControl of IGD 2, PCP's options and its PEER opcode, proxies, gateways other than that of
//! the default route in the main table, events of UPnP (so no notice of a restart other than by asking).

mod core;
mod driver;
mod natpmp;
mod pcp;
mod route;
mod upnp;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use async_channel::{Receiver, Sender};

use self::driver::Driver;
use crate::{limits, within::within};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Udp,
    Tcp,
}

/// A port of ours that should be reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    pub protocol: Protocol,
    pub internal: u16,
    /// The external port to ask for first. The gateway may give another.
    pub external: u16,
}

/// The protocols, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Pcp,
    NatPmp,
    Upnp,
}

impl Method {
    pub const ALL: [Method; 3] = [Method::Pcp, Method::NatPmp, Method::Upnp];
}

/// What a gateway made of a protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Support {
    /// Not asked: another one works, or nothing was wished for.
    #[default]
    Untried,
    Supported,
    /// No answer.
    Silent,
    /// An answer, but no mapping: why.
    Refused(String),
}

/// The situation in one IP family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub is_ipv6: bool,
    /// The default gateway. None where the best default route has none, or there is no such route.
    pub gateway: Option<IpAddr>,
    /// Our address on the way to it, or to the Internet if there is no gateway.
    pub own: Option<IpAddr>,
    pub pcp: Support,
    pub natpmp: Support,
    pub upnp: Support,
    /// The address of the gateway on its far side, as it says.
    pub external: Option<IpAddr>,
    /// That address is not public: there is one more NAT behind the gateway, its own or a carrier's.
    pub double_nat: bool,
    /// Our own address is public (IPv4), or there is no gateway to ask.
    pub not_needed: bool,
    /// The gateway knows permanent mappings only (UPnP): ours stay if we are killed.
    pub permanent: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// What arrives at `external` comes to our port `internal`, for as long as this is not [lost](Event::Lost). Told
    /// again with each renewal. `external` is a public address.
    Mapped {
        protocol: Protocol,
        internal: u16,
        external: SocketAddr,
        method: Method,
        /// The end of the lease; it will be renewed before.
        until: Instant,
    },
    /// That is no longer so.
    Lost { protocol: Protocol, internal: u16, external: SocketAddr },
    /// Something in the situation has changed, or is known for the first time.
    Report(Report),
}

/// How to ask. The default is right but for tests.
#[derive(Clone, Debug)]
pub struct Config {
    pub methods: Vec<Method>,
    /// How long a mapping is asked for, in whole seconds.
    pub lease: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { methods: Method::ALL.to_vec(), lease: limits::PORTMAP_LEASE }
    }
}

/// Keeps the ports mapped that are wished for. See the [module](self).
pub struct PortMapper {
    wishes: Sender<Vec<Wish>>,
    events: Receiver<Event>,
}

impl PortMapper {
    /// Comes with a future that has to run beside; it ends after [`PortMapper::stop`], or when the mapper is
    /// dropped, with the mappings released as far as the gateway answers within [`limits::PORTMAP_RELEASE`].
    pub fn new(config: Config) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (wishes, wished) = async_channel::bounded(1);
        let (sender, events) = async_channel::bounded(limits::PORTMAP_EVENTS);
        (Self { wishes, events }, Driver::new(config, wished, sender).run())
    }

    /// From now on these are wished for, instead of those before. More than [`limits::PORTMAP_MAPPINGS`] are
    /// ignored. Nothing is asked of the gateway before this is called.
    pub fn want(&self, mut wishes: Vec<Wish>) {
        wishes.truncate(limits::PORTMAP_MAPPINGS);
        // Older wishes that were not yet read are of no interest; if the future is gone, nor are these.
        let _ = self.wishes.force_send(wishes);
    }

    /// The next event; `None` when the future is gone.
    pub async fn next(&self) -> Option<Event> {
        self.events.recv().await.ok()
    }

    /// Releases the mappings. Takes [`limits::PORTMAP_RELEASE`] at most if the future runs; what was not released by
    /// then ends with its lease.
    pub async fn stop(self) {
        self.wishes.close();
        let drained = async { while self.events.recv().await.is_ok() {} };
        // The driver has the same bound; this is for one that does not run.
        within(2 * limits::PORTMAP_RELEASE, drained).await;
    }
}

impl Protocol {
    /// The IANA number.
    fn number(self) -> u8 {
        match self {
            Protocol::Udp => 17,
            Protocol::Tcp => 6,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Udp => "UDP",
            Protocol::Tcp => "TCP",
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::Pcp => "PCP",
            Method::NatPmp => "NAT-PMP",
            Method::Upnp => "UPnP",
        })
    }
}

impl Report {
    fn new(is_ipv6: bool) -> Self {
        Self {
            is_ipv6,
            gateway: None,
            own: None,
            pcp: Support::Untried,
            natpmp: Support::Untried,
            upnp: Support::Untried,
            external: None,
            double_nat: false,
            not_needed: false,
            permanent: false,
        }
    }

    fn support(&mut self, method: Method) -> &mut Support {
        match method {
            Method::Pcp => &mut self.pcp,
            Method::NatPmp => &mut self.natpmp,
            Method::Upnp => &mut self.upnp,
        }
    }
}
