//! Gives client and server the sockets, a clock and the names' addresses.
//!
//! [`new`] makes a future to be spawned, and a [`Handle`] to wish things and to hear what was found.

mod beside;
mod outlook;
mod targets;

use std::{io, net::SocketAddr, task::Poll, time::Instant};

use futures::{
    FutureExt,
    future::{BoxFuture, pending, poll_fn},
};
use futures_timer::Delay;
use ring::rand::{SecureRandom, SystemRandom};
use smol::future::{or, race};

use self::{beside::Beside, outlook::Outlook, targets::Silent};
use super::{
    Family, ServerName,
    client::{Client, Counters as ClientCounters, Depth, Event as Found, Target},
    schedule::Schedule,
    server::{Counters as ServerCounters, Server, Socket},
    verdict::Verdict,
};
use crate::{
    limits,
    transport::quic::{Datagram, Datagrams},
};

/// What to do.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Whom to ask; the first [`limits::STUN_SERVER_NAMES`] count. Without any nothing is asked.
    pub servers: Vec<ServerName>,
    /// Whether to answer others, and how.
    pub serve: Option<Serve>,
    /// Where names are looked up.
    #[cfg(feature = "dns")]
    pub dns: crate::transport::dns::Config,
}

/// How to answer others.
#[derive(Clone, Debug, Default)]
pub struct Serve {
    /// Addresses of sockets of our own, for behaviour discovery: another port, and where there is another IP
    /// address, both ports of that.
    pub beside: Vec<SocketAddr>,
    /// How others see our sockets that are bound to a wildcard, or behind a NAT: bound and seen.
    pub seen: Vec<(SocketAddr, SocketAddr)>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Others see us there, and it is no address for one destination only.
    External { addr: SocketAddr, family: Family },
    /// Not any longer.
    Expired { addr: SocketAddr, family: Family },
    /// What kind of NAT there is: after each check that found something else than the one before it, or that was
    /// wished for.
    Verdict(Box<Verdict>),
}

/// How much was asked, answered and dropped so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub client: ClientCounters,
    pub server: ServerCounters,
}

/// Why there is no driver.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the system gives no random numbers")]
    Random,
    #[error("cannot open the STUN server's second address {addr}: {source}")]
    Beside { addr: SocketAddr, source: io::Error },
}

/// Talks to the driver. Dropping it ends the driver.
#[derive(Debug)]
pub struct Handle {
    wishes: async_channel::Sender<Wish>,
    /// What was found. Who reads slowly hears the latest only.
    pub events: async_channel::Receiver<Event>,
    /// Where the sockets beside QUIC's are bound.
    pub beside: Vec<SocketAddr>,
}

#[derive(Debug)]
enum Wish {
    Changed,
    Fresh,
    Servers(Vec<ServerName>),
    Counters(async_channel::Sender<Counters>),
}

impl Handle {
    /// Our addresses changed, or there are sockets now: everything may be different.
    pub fn addresses_changed(&self) {
        self.wish(Wish::Changed);
    }

    /// Somebody is going to use the outside ports soon: a verdict comes, and is kept fresh for
    /// [`limits::STUN_WISH`].
    pub fn wish_fresh(&self) {
        self.wish(Wish::Fresh);
    }

    /// Asks these servers from now on.
    pub fn set_servers(&self, servers: Vec<ServerName>) {
        self.wish(Wish::Servers(servers));
    }

    /// `None` when the driver has ended.
    pub fn counters(&self) -> impl Future<Output = Option<Counters>> + Send + use<> {
        let (sender, receiver) = async_channel::bounded(1);
        let wishes = self.wishes.clone();
        async move {
            wishes.send(Wish::Counters(sender)).await.ok()?;
            receiver.recv().await.ok()
        }
    }

    fn wish(&self, wish: Wish) {
        // When so many are waiting, the driver is about to look at everything anyway.
        let _ = self.wishes.try_send(wish);
    }
}

/// Client and server for the sockets of `datagrams`. The future has to run as long as they are wanted.
///
/// # Errors
/// When the system gives no random numbers, or a socket of [`Serve::beside`] cannot be had.
pub fn new(datagrams: Datagrams, config: Config) -> Result<(impl Future<Output = ()> + Send, Handle), Error> {
    let mut seed = [0; 32];
    SystemRandom::new().fill(&mut seed).map_err(|_| Error::Random)?;
    let mut beside = Vec::new();
    for addr in config.serve.iter().flat_map(|serve| &serve.beside).take(limits::STUN_SOCKETS).copied() {
        beside.push(Beside::bind(addr).map_err(|source| Error::Beside { addr, source })?);
    }
    let (wishes, wished) = async_channel::bounded(limits::STUN_WISHES);
    let (news, events) = async_channel::bounded(limits::STUN_NEWS);
    let handle = Handle { wishes, events, beside: beside.iter().map(|socket| socket.local).collect() };
    let now = Instant::now();
    let mut driver = Driver {
        client: Client::new(seed),
        server: config.serve.is_some().then(|| Server::new(now)),
        schedule: Schedule::new(now),
        outlooks: Family::ALL.map(Outlook::new),
        depth: Depth::Full,
        silent: Silent::default(),
        resolving: None,
        datagrams,
        beside,
        wished,
        news,
        config,
    };
    driver.name_sockets();
    Ok((driver.run(), handle))
}

struct Driver {
    client: Client,
    server: Option<Server>,
    schedule: Schedule,
    /// What was seen and told, by family.
    outlooks: [Outlook; 2],
    /// Of the check that is under way or was the last.
    depth: Depth,
    silent: Silent,
    /// The servers' addresses are being looked up, for a check of that depth.
    resolving: Option<(Depth, BoxFuture<'static, Vec<SocketAddr>>)>,
    datagrams: Datagrams,
    beside: Vec<Beside>,
    wished: async_channel::Receiver<Wish>,
    news: async_channel::Sender<Event>,
    config: Config,
}

/// What happened.
enum Step {
    /// On QUIC's socket; `None` when that ended.
    Datagram(Option<Datagram>),
    Beside(Datagram),
    /// `None`: nobody wishes for anything any more.
    Wish(Option<Wish>),
    Resolved(Depth, Vec<SocketAddr>),
    Due,
}

impl Driver {
    /// Waits, handles one thing, drains.
    async fn run(mut self) {
        for turn in 1_usize.. {
            let step = self.next().await;
            let now = Instant::now();
            match step {
                Step::Datagram(Some(datagram)) => {
                    if !self.client.handle_input(datagram.from, &datagram.bytes, now) {
                        self.serve(&datagram, now);
                    }
                }
                Step::Beside(datagram) => self.serve(&datagram, now),
                Step::Wish(Some(wish)) => self.grant(wish, now),
                Step::Resolved(depth, servers) => self.check(&servers, depth, now),
                Step::Due => {}
                Step::Datagram(None) | Step::Wish(None) => return,
            }
            // Whatever happened: a flood shall not keep us from what is due.
            self.client.handle_timeout(now);
            if self.schedule.due().is_some_and(|due| due <= now) {
                self.begin(now);
            }
            self.drain(now);
            if !self.tell() {
                return;
            }
            if turn % limits::STUN_TURNS == 0 {
                smol::future::yield_now().await;
            }
        }
    }

    async fn next(&mut self) -> Step {
        let Driver { datagrams, beside, wished, resolving, client, schedule, .. } = self;
        let due = client.poll_timeout().into_iter().chain(schedule.due()).min();
        let received = async { Step::Datagram(datagrams.recv().await) };
        let wish = async { Step::Wish(wished.recv().await.ok()) };
        let others = poll_fn(|cx| match (beside::poll(beside, cx), &mut *resolving) {
            (Poll::Ready(datagram), _) => Poll::Ready(Step::Beside(datagram)),
            (Poll::Pending, Some((depth, resolving))) => {
                resolving.poll_unpin(cx).map(|servers| Step::Resolved(*depth, servers))
            }
            (Poll::Pending, None) => Poll::Pending,
        });
        let timer = async {
            match due {
                Some(due) => Delay::new(due.saturating_duration_since(Instant::now())).await,
                None => pending().await,
            }
            Step::Due
        };
        or(wish, or(race(received, others), timer)).await
    }

    fn grant(&mut self, wish: Wish, now: Instant) {
        match wish {
            Wish::Changed => {
                self.name_sockets();
                self.schedule.changed(now);
            }
            Wish::Servers(servers) => {
                self.config.servers = servers;
                self.schedule.changed(now);
            }
            Wish::Fresh => {
                self.schedule.wish_fresh(now);
                self.outlooks.iter_mut().for_each(|outlook| outlook.repeat(now));
            }
            // Who does not wait for the answer needs none.
            Wish::Counters(sender) => drop(sender.try_send(Counters {
                client: self.client.counters(),
                server: self.server.as_ref().map(Server::counters).unwrap_or_default(),
            })),
        }
    }

    /// Starts to look up the servers; the check follows.
    fn begin(&mut self, now: Instant) {
        if self.config.servers.is_empty() || self.datagrams.local_addrs().is_empty() {
            // Until somebody tells that there are some.
            self.schedule.rest();
            return;
        }
        let depth = self.schedule.begin(now, fastrand::f64());
        self.resolving = Some((depth, targets::resolve(&self.config)));
    }

    fn check(&mut self, servers: &[SocketAddr], depth: Depth, now: Instant) {
        self.resolving = None;
        let found = servers.iter().filter_map(|server| {
            let local = targets::local(self.datagrams.local_for(*server)?, *server)?;
            Some(Target { server: *server, local })
        });
        let mut found: Vec<Target> = found.collect();
        self.silent.to_the_end(&mut found);
        self.depth = depth;
        log::debug!("asking {} STUN servers: {depth:?}", found.len());
        for family in Family::ALL {
            let is_asked = found.iter().any(|target| Family::of(target.server) == family);
            self.outlooks[family as usize].begin(is_asked, now);
            self.client.check(family, &found, depth, now);
        }
    }

    /// Tells the server which sockets there are.
    fn name_sockets(&mut self) {
        let Some(server) = &mut self.server else { return };
        let seen = self.config.serve.iter().flat_map(|serve| &serve.seen);
        let bound = self.datagrams.local_addrs().into_iter().chain(self.beside.iter().map(|b| b.local));
        server.set_sockets(bound.map(|bound| match seen.clone().find(|(b, _)| *b == bound) {
            Some((_, seen)) => Socket { bound, seen: Some(*seen) },
            None => Socket::bound(bound),
        }));
    }

    fn serve(&mut self, datagram: &Datagram, now: Instant) {
        let Some(server) = &mut self.server else { return };
        let Some(reply) = server.handle(datagram.from, datagram.to, &datagram.bytes, now) else { return };
        let sent = match self.beside.iter().find(|socket| socket.local == reply.from) {
            Some(socket) => socket.send_to(&reply.bytes, reply.to),
            None => self.datagrams.send_to(&reply.bytes, reply.to),
        };
        if let Err(error) = sent {
            log::debug!("a STUN answer to {} is lost: {error}", reply.to);
        }
    }

    /// Sends what there is to send, and learns what there is to learn.
    fn drain(&mut self, now: Instant) {
        while let Some(transmit) = self.client.poll_transmit() {
            // It will be repeated.
            if let Err(error) = self.datagrams.send_to(&transmit.bytes, transmit.to) {
                log::debug!("a STUN request to {} is lost: {error}", transmit.to);
            }
        }
        while let Some(found) = self.client.poll_event() {
            match found {
                Found::Observed(seen) => {
                    self.silent.forget(seen.server);
                    self.outlooks[Family::of(seen.server) as usize].observe(seen, now);
                }
                Found::Tested(test) => self.outlooks[Family::of(test.server) as usize].test(test),
                Found::Failed { server, cause } => {
                    log::debug!("STUN server {server} {cause}");
                    self.silent.remember(server);
                }
                Found::Settled(family) | Found::Done(family) => {
                    self.conclude(family, matches!(found, Found::Done(_)), now);
                }
            }
        }
    }

    fn conclude(&mut self, family: Family, is_done: bool, now: Instant) {
        let is_wished = self.schedule.is_wished(now);
        let outlook = &mut self.outlooks[family as usize];
        let conclusion = outlook.conclude(is_done, is_wished, now);
        if conclusion.is_another_nat {
            // That one knows nothing of whom we wrote to.
            self.client.forget_spoken();
            if !conclusion.is_whole {
                self.schedule.changed(now);
            }
        }
        // A look at everything is the answer to any change, but not to one that such a look itself found.
        if conclusion.is_another_kind && self.depth == Depth::Light {
            self.schedule.changed(now);
        }
        let fresh = self.outlooks.iter().filter_map(Outlook::fresh_until).min();
        let all_done = self.outlooks.iter().all(|outlook| outlook.is_done);
        match fresh {
            Some(stale) => self.schedule.succeeded(stale, now),
            None if all_done => self.schedule.failed(now, fastrand::f64()),
            None => {}
        }
    }

    /// Tells what has not been told. `false`: nobody listens any more. A listener that is slow hears later, and
    /// then only the latest.
    fn tell(&mut self) -> bool {
        let Driver { outlooks, news, .. } = self;
        outlooks.iter_mut().all(|outlook| outlook.tell(news))
    }
}
