//! The sockets, jobs and timers of the [`Core`]s: one per IP family that has somebody to ask.

mod link;

use std::{
    task::{Context, Poll},
    time::Instant,
};

use async_channel::{Receiver, Sender};
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, poll_fn},
    stream::{self, BoxStream},
};
use futures_timer::Delay;

use self::link::Link;
use super::{
    Config, Event, Method, Wish,
    core::Core,
    route::{Route, routes},
};
use crate::{limits, transport::routes::Changes, within::within};

pub(super) struct Driver {
    config: Config,
    /// Ends when all is to be released.
    wished: BoxStream<'static, Vec<Wish>>,
    events: Sender<Event>,
    wishes: Vec<Wish>,
    /// None: the kernel does not tell, so the gateway is not looked up again.
    changes: Option<Changes>,
    /// When to look up the gateway.
    look_up: Option<Instant>,
    /// Of IPv4 and IPv6, as last looked up.
    routes: [Option<Route>; 2],
    links: [Option<Link>; 2],
    timer: Timer,
}

/// What there is to do.
enum Step {
    Want(Vec<Wish>),
    Stop,
    Changed,
    /// A link has seen something.
    Seen,
    Due,
}

impl Driver {
    pub(super) fn new(config: Config, wished: Receiver<Vec<Wish>>, events: Sender<Event>) -> Self {
        let changes = Changes::new().inspect_err(|error| log::warn!("following the gateway: {error}")).ok();
        Self {
            config,
            wished: Box::pin(stream::unfold(wished, |wished| async move {
                let wishes = wished.recv().await.ok()?;
                Some((wishes, wished))
            })),
            events,
            wishes: Vec::new(),
            changes,
            look_up: Some(Instant::now()),
            routes: [None, None],
            links: [None, None],
            timer: Timer::default(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut turns = 0;
        loop {
            if !self.flush().await {
                break;
            }
            self.timer.set(self.due());
            match poll_fn(|cx| self.poll(cx)).await {
                Step::Want(wishes) => {
                    self.wishes = wishes;
                    let links = self.links.iter_mut().flatten();
                    links.for_each(|link| link.core.want(&self.wishes, Instant::now()));
                }
                Step::Stop => break,
                Step::Changed => self.look_up = Some(Instant::now() + limits::PORTMAP_SETTLE),
                Step::Seen => {}
                Step::Due => self.handle_timeout().await,
            }
            turns += 1;
            if turns % limits::PORTMAP_TURNS == 0 {
                smol::future::yield_now().await;
            }
        }
        if within(limits::PORTMAP_RELEASE, self.release()).await.is_none() {
            log::info!("the gateway does not release our ports; they stay open until their leases end");
        }
    }

    /// Does what the cores want. `false`: nobody reads the events any more.
    async fn flush(&mut self) -> bool {
        for link in self.links.iter_mut().flatten() {
            for event in link.act() {
                if self.events.send(event).await.is_err() {
                    return false;
                }
            }
        }
        true
    }

    fn due(&self) -> Option<Instant> {
        let links = self.links.iter().flatten().filter_map(|link| link.core.timeout());
        links.chain(self.look_up).min()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if let Poll::Ready(wishes) = self.wished.poll_next_unpin(cx) {
            return Poll::Ready(wishes.map_or(Step::Stop, Step::Want));
        }
        if self.poll_links(cx).is_ready() {
            return Poll::Ready(Step::Seen);
        }
        if let Some(changes) = &mut self.changes
            && let Poll::Ready(result) = changes.poll(cx)
        {
            if let Err(error) = result {
                log::warn!("following the gateway: {error}");
                self.changes = None;
            }
            return Poll::Ready(Step::Changed);
        }
        self.timer.poll(cx).map(|()| Step::Due)
    }

    fn poll_links(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.links.iter_mut().flatten().any(|link| link.poll(cx).is_ready()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    async fn handle_timeout(&mut self) {
        let now = Instant::now();
        self.links.iter_mut().flatten().for_each(|link| link.core.handle_timeout(now));
        if self.look_up.is_some_and(|at| at <= now) {
            self.look_up = None;
            match routes() {
                Ok(routes) => self.follow(routes).await,
                Err(error) => {
                    log::warn!("looking for the gateway: {error}");
                    self.look_up = Some(now + limits::PORTMAP_PAUSE);
                }
            }
        }
    }

    /// Begins anew where the route is another than before.
    async fn follow(&mut self, routes: [Route; 2]) {
        for (index, route) in routes.into_iter().enumerate() {
            if self.routes[index] == Some(route) {
                continue;
            }
            self.routes[index] = Some(route);
            let mut events = Vec::new();
            if let Some(link) = self.links[index].take() {
                events.extend(link.core.abandon());
            }
            match self.link(&route) {
                Some(link) => self.links[index] = Some(link),
                None => events.push(Event::Report(route.report())),
            }
            for event in events {
                // `flush` notices it too.
                let _ = self.events.send(event).await;
            }
        }
    }

    fn link(&self, route: &Route) -> Option<Link> {
        let (gateway, own) = route.needed()?;
        // IPv6 has no NAT-PMP, and UPnP has another service for it.
        let methods = self.config.methods.iter().copied();
        let methods: Vec<_> = methods.filter(|method| own.is_ipv4() || *method == Method::Pcp).collect();
        if methods.is_empty() {
            return None;
        }
        let lease = u32::try_from(self.config.lease.as_secs()).unwrap_or(u32::MAX);
        let mut core = Core::new(methods, lease, gateway.ip(), own, rng());
        core.want(&self.wishes, Instant::now());
        let link = Link::new(core, gateway, own);
        link.inspect_err(|error| log::warn!("cannot speak with the gateway {gateway}: {error}")).ok()
    }

    async fn release(&mut self) {
        self.links.iter_mut().flatten().for_each(|link| link.core.want(&[], Instant::now()));
        loop {
            // Nobody needs to know any more.
            self.links.iter_mut().flatten().for_each(|link| drop(link.act()));
            if self.links.iter().flatten().all(|link| link.core.is_released()) {
                return;
            }
            self.timer.set(self.due());
            let due = poll_fn(|cx| match self.poll_links(cx) {
                Poll::Ready(()) => Poll::Ready(false),
                Poll::Pending => self.timer.poll(cx).map(|()| true),
            });
            if due.await {
                let now = Instant::now();
                self.links.iter_mut().flatten().for_each(|link| link.core.handle_timeout(now));
            }
        }
    }
}

/// Nonces must not be guessed by the neighbours: fastrand's own seed is made of the time and a thread's number, that
/// of a [`RandomState`](std::hash::RandomState) comes from the kernel.
fn rng() -> fastrand::Rng {
    use std::hash::{BuildHasher, Hasher, RandomState};
    fastrand::Rng::with_seed(RandomState::new().build_hasher().finish())
}

/// One timer for whatever is due next.
#[derive(Default)]
struct Timer {
    at: Option<Instant>,
    delay: Option<BoxFuture<'static, ()>>,
}

impl Timer {
    fn set(&mut self, at: Option<Instant>) {
        if self.at != at {
            self.at = at;
            self.delay = at.map(|at| Delay::new(at.saturating_duration_since(Instant::now())).boxed());
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(delay) = &mut self.delay else { return Poll::Pending };
        let done = delay.poll_unpin(cx);
        if done.is_ready() {
            *self = Self::default();
        }
        done
    }
}
