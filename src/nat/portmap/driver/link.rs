//! The sockets towards one gateway.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use async_io::{Async, ReadableOwned};
use futures::{FutureExt, future::BoxFuture};
use socket2::{Domain, Socket, Type};

use super::super::{
    Event,
    core::{Action, Core},
    pcp, upnp,
};
use crate::limits;

pub(super) struct Link {
    pub(super) core: Core,
    /// Connected to the gateway.
    socket: Inbox,
    /// Where the gateway tells that it was restarted. None: somebody has the port for himself.
    announcements: Option<Inbox>,
    gateway: IpAddr,
    /// Where to look for UPnP. None for IPv6.
    place: Option<upnp::Place>,
    service: Option<upnp::Service>,
    job: Option<BoxFuture<'static, JobResult>>,
}

type JobResult = (Option<upnp::Service>, Result<upnp::Done, upnp::Failure>);

impl Link {
    pub(super) fn new(core: Core, gateway: SocketAddr, own: IpAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind((own, 0))?;
        socket.connect(gateway)?;
        let (announcements, place) = match (own, gateway.ip()) {
            (IpAddr::V4(own), IpAddr::V4(gateway)) => {
                let announcements = announcements(own)
                    .inspect_err(|error| log::debug!("listening to the gateway's announcements: {error}"));
                (announcements.ok(), Some(upnp::Place::new(own, gateway)))
            }
            _ => (None, None),
        };
        let socket = Inbox::new(socket)?;
        Ok(Self { core, socket, announcements, gateway: gateway.ip(), place, service: None, job: None })
    }

    /// Does what the core wants. Returns what it has to tell.
    pub(super) fn act(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(action) = self.core.poll() {
            match action {
                Action::Send(datagram) => {
                    // It will be sent again anyway, and what is wrong is seen when the next one is read.
                    if let Err(error) = self.socket.socket.get_ref().send(&datagram) {
                        log::debug!("sending to the gateway {}: {error}", self.gateway);
                    }
                }
                Action::Job(job) => match self.place {
                    Some(place) => self.job = Some(upnp::run(place, self.service.take(), job).boxed()),
                    // Not asked for: see `Driver::link`.
                    None => self.core.handle_job(Err(upnp::Failure::Silent), Instant::now()),
                },
                Action::Event(event) => events.push(event),
            }
        }
        events
    }

    /// Ready when the core has got something.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut buffer = [0; limits::PORTMAP_DATAGRAM_BYTES];
        if let Some(job) = &mut self.job
            && let Poll::Ready((service, result)) = job.poll_unpin(cx)
        {
            (self.job, self.service) = (None, service);
            self.core.handle_job(result, Instant::now());
            return Poll::Ready(());
        }
        if let Poll::Ready(result) = self.socket.poll(cx, &mut buffer) {
            match result {
                Ok((len, _)) => self.core.handle_datagram(&buffer[..len], Instant::now()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    self.core.handle_unreachable(Instant::now());
                }
                // Others, such as "no route", pass; the core has its timers.
                Err(error) => log::debug!("listening to the gateway {}: {error}", self.gateway),
            }
            return Poll::Ready(());
        }
        if let Some(announcements) = &mut self.announcements
            && let Poll::Ready(result) = announcements.poll(cx, &mut buffer)
        {
            match result {
                Ok((len, from)) if from.ip() == self.gateway => {
                    self.core.handle_announcement(&buffer[..len], Instant::now());
                }
                Ok(_) => {}
                Err(error) => {
                    log::debug!("listening to the gateway's announcements: {error}");
                    self.announcements = None;
                }
            }
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// A socket for what gateways say to all hosts; several programs of this machine may have one (RFC 6886, section
/// 3.2.1).
fn announcements(own: Ipv4Addr) -> io::Result<Inbox> {
    let all_hosts = Ipv4Addr::new(224, 0, 0, 1);
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((all_hosts, pcp::ANNOUNCEMENTS)).into())?;
    // The kernel is in this group on all interfaces anyway; this asks for it on this one.
    socket.join_multicast_v4(&all_hosts, &own)?;
    Inbox::new(socket.into())
}

struct Inbox {
    socket: Arc<Async<UdpSocket>>,
    /// There was nothing to read: done when there may be.
    empty: Option<ReadableOwned<UdpSocket>>,
}

impl Inbox {
    fn new(socket: UdpSocket) -> io::Result<Self> {
        Ok(Self { socket: Arc::new(Async::new(socket)?), empty: None })
    }

    fn poll(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        loop {
            if let Some(empty) = &mut self.empty {
                ready!(Pin::new(empty).poll(cx))?;
                self.empty = None;
            }
            match self.socket.get_ref().recv_from(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.empty = Some(self.socket.clone().readable_owned());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }
}
