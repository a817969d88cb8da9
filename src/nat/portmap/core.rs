//! What to say to one gateway and when. No I/O: datagrams and results in, [`Action`]s out, `now` as an argument.
//!
//! One protocol is in use at a time. A protocol that has never answered is given up after a quick phase, and the next
//! one is tried; one that has answered is asked with growing pauses until a lease ends, and then all begin again.

mod epoch;
mod replies;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use fastrand::Rng;

use self::epoch::Epoch;
use super::{
    Event, Method, Protocol, Report, Support, Wish, natpmp,
    pcp::{self, Nonce},
    upnp,
};
use crate::{discovery::scope, limits};

/// What the driver has to do.
#[derive(Debug)]
pub(super) enum Action {
    /// Send it to the gateway.
    Send(Vec<u8>),
    /// Do it and come back with the result; there is one job at a time.
    Job(upnp::Job),
    Event(Event),
}

pub(super) struct Core {
    methods: Vec<Method>,
    /// The index of the method in use. Beyond the end: all have failed.
    at: usize,
    /// The gateway speaks that method.
    proven: bool,
    /// How long to ask for. Unit: seconds.
    lease: u32,
    own: IpAddr,
    rng: Rng,
    mappings: Vec<Mapping>,
    /// NAT-PMP's external address.
    address: Address,
    epoch: Epoch,
    /// The job under way is for this one.
    busy: Option<(Protocol, u16)>,
    /// Times that all methods have failed.
    failures: u32,
    /// When to try all of them again.
    resume: Option<Instant>,
    /// When a restart was announced last.
    announced: Option<Instant>,
    report: Report,
    /// What was reported last.
    reported: Option<Report>,
    actions: VecDeque<Action>,
}

/// A wish and what became of it.
struct Mapping {
    wish: Wish,
    nonce: Nonce,
    grant: Option<Grant>,
    /// To be deleted, and forgotten then.
    leaving: bool,
    /// When to ask (again). None while a job is under way.
    due: Option<Instant>,
    /// Requests sent since the last answer.
    tries: u32,
}

struct Grant {
    external: SocketAddr,
    until: Instant,
    /// It was told as [`Event::Mapped`].
    told: bool,
}

#[derive(Default)]
struct Address {
    known: Option<IpAddr>,
    /// When to ask (again).
    due: Option<Instant>,
    tries: u32,
}

impl Core {
    /// Asks `gateway`, which is reached from `own`, for leases of so many seconds.
    pub(super) fn new(methods: Vec<Method>, lease: u32, gateway: IpAddr, own: IpAddr, rng: Rng) -> Self {
        let report = Report { gateway: Some(gateway), own: Some(own), ..Report::new(own.is_ipv6()) };
        let mut core = Self {
            methods,
            at: 0,
            proven: false,
            lease,
            own,
            rng,
            mappings: Vec::new(),
            address: Address::default(),
            epoch: Epoch::default(),
            busy: None,
            failures: 0,
            resume: None,
            announced: None,
            report,
            reported: None,
            actions: VecDeque::new(),
        };
        core.tell();
        core
    }

    /// What to do next, as long as there is something.
    pub(super) fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Core::handle_timeout`] wants to be called.
    pub(super) fn timeout(&self) -> Option<Instant> {
        if self.resume.is_some() {
            return self.resume;
        }
        let ends = self.mappings.iter().filter_map(|mapping| mapping.grant.as_ref()).map(|grant| grant.until);
        let waits = self.method() == Some(Method::Upnp) && self.busy.is_some();
        let asks =
            self.mappings.iter().filter(|_| !waits && self.may_ask()).filter_map(|mapping| mapping.due);
        ends.chain(asks).chain(self.address.due).min()
    }

    /// Everything that was wished for is now this.
    pub(super) fn want(&mut self, wishes: &[Wish], now: Instant) {
        for mapping in &mut self.mappings {
            let stays = wishes.iter().any(|wish| is_same(wish, &mapping.wish));
            if mapping.leaving == stays {
                (mapping.leaving, mapping.due, mapping.tries) = (!stays, Some(now), 0);
            }
        }
        for wish in wishes {
            if self.mappings.len() < 2 * limits::PORTMAP_MAPPINGS
                && !self.mappings.iter().any(|mapping| is_same(wish, &mapping.wish))
            {
                let nonce = std::array::from_fn(|_| self.rng.u8(..));
                let due = Some(now);
                let mapping = Mapping { wish: *wish, nonce, grant: None, leaving: false, due, tries: 0 };
                self.mappings.push(mapping);
            }
        }
        self.handle_timeout(now);
    }

    /// Nothing is mapped any more, as far as we can do something about it.
    pub(super) fn is_released(&self) -> bool {
        self.mappings.is_empty()
    }

    /// The gateway is gone, with all that it did for us.
    pub(super) fn abandon(mut self) -> impl Iterator<Item = Event> {
        self.lose_all();
        self.actions.into_iter().filter_map(|action| match action {
            Action::Event(event) => Some(event),
            _ => None,
        })
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.resume.is_some_and(|resume| resume <= now) {
            self.restart(now);
        }
        let ended = |mapping: &Mapping| mapping.grant.as_ref().is_some_and(|grant| grant.until <= now);
        if self.mappings.iter().any(ended) {
            // The gateway had half of the lease to answer.
            self.restart(now);
        }
        // What was never granted needs no deletion; nor does what the gateway does not acknowledge.
        let patience = limits::PORTMAP_QUICK.len() as u32;
        let asks = self.resume.is_none();
        let busy = self.busy;
        self.mappings.retain(|mapping| {
            let is_due = mapping.due.is_some_and(|due| due <= now) || !asks;
            let is_busy = busy == Some((mapping.wish.protocol, mapping.wish.internal));
            let may_stay = is_busy || mapping.grant.is_some() && !(is_due && mapping.tries >= patience);
            !mapping.leaving || may_stay
        });
        while let Some(method) = self.method() {
            if self.ask(method, now) {
                break;
            }
            self.next_method(Support::Silent, now);
        }
        self.tell();
    }

    /// A datagram from the gateway's port.
    pub(super) fn handle_datagram(&mut self, bytes: &[u8], now: Instant) {
        match self.method() {
            Some(Method::Pcp) => match pcp::decode(bytes) {
                Some(pcp::Reply::Mapped(reply)) => self.on_pcp(&reply, now),
                Some(pcp::Reply::OtherVersion) if !self.proven => {
                    self.next_method(Support::Refused("speaks no PCP 2".into()), now);
                }
                _ => {}
            },
            Some(Method::NatPmp) => {
                if let Some(reply) = natpmp::decode(bytes) {
                    self.on_natpmp(&reply, now);
                }
            }
            Some(Method::Upnp) | None => {}
        }
        self.handle_timeout(now);
    }

    /// Nobody listens at the gateway's port.
    pub(super) fn handle_unreachable(&mut self, now: Instant) {
        let closed = || Support::Refused("the port is closed".into());
        // Both have the same port. A gateway that answered before is being restarted.
        while !self.proven && matches!(self.method(), Some(Method::Pcp | Method::NatPmp)) {
            self.next_method(closed(), now);
        }
        self.handle_timeout(now);
    }

    /// What came from the gateway by multicast: perhaps that it was restarted. Anybody can send that, so it is but a
    /// reason to ask, and not too often.
    pub(super) fn handle_announcement(&mut self, bytes: &[u8], now: Instant) {
        let epoch = match (pcp::decode(bytes), natpmp::decode(bytes)) {
            (Some(pcp::Reply::Announced { epoch }), _) | (_, Some(natpmp::Reply::Address { epoch, .. })) => {
                epoch
            }
            _ => return,
        };
        let soon = 2 * limits::PORTMAP_ANNOUNCED;
        let is_news = self.resume.is_some() || !self.epoch.fits(epoch, now);
        if self.announced.is_some_and(|at| now < at + soon) || !is_news {
            return;
        }
        self.announced = Some(now);
        let wait = limits::PORTMAP_ANNOUNCED.mul_f64(self.rng.f64());
        if self.resume.is_some() {
            self.resume = Some(now + wait);
        }
        self.renew_all(now + wait, None);
    }

    /// The job is done. For UPnP there is no other word from the gateway.
    pub(super) fn handle_job(&mut self, result: Result<upnp::Done, upnp::Failure>, now: Instant) {
        let Some((protocol, internal)) = self.busy.take() else { return };
        let index = self.find(protocol, internal).filter(|_| self.method() == Some(Method::Upnp));
        let Some(index) = index else { return self.handle_timeout(now) };
        match result {
            Ok(upnp::Done::Mapped { external, lease, permanent }) => {
                self.report.permanent = permanent;
                let renewal = Some(limits::PORTMAP_UPNP_RENEWAL);
                self.grant(index, external, lease, renewal, now);
            }
            Ok(upnp::Done::Unmapped) => self.remove(index),
            // It will end with its lease.
            Err(_) if self.mappings[index].leaving => self.remove(index),
            Err(upnp::Failure::Silent) if !self.proven => self.next_method(Support::Silent, now),
            Err(upnp::Failure::Refused(why)) if !self.proven => {
                self.next_method(Support::Refused(why), now);
            }
            Err(failure) => {
                *self.report.support(Method::Upnp) = match failure {
                    upnp::Failure::Silent => Support::Silent,
                    upnp::Failure::Refused(why) => Support::Refused(why),
                };
                let mapping = &mut self.mappings[index];
                mapping.tries += 1;
                mapping.due = Some(now + patient(mapping.tries, &mut self.rng));
            }
        }
        self.handle_timeout(now);
    }

    fn method(&self) -> Option<Method> {
        self.methods.get(self.at).copied()
    }

    /// Whether mappings may be asked for: NAT-PMP needs the address first.
    fn may_ask(&self) -> bool {
        match self.method() {
            Some(Method::NatPmp) => self.address.known.is_some(),
            method => method.is_some(),
        }
    }

    /// Asks for all that is due. `false`: the method has failed.
    fn ask(&mut self, method: Method, now: Instant) -> bool {
        // First, and with each renewal, as it may have changed.
        let wanted = self.mappings.iter().any(|mapping| {
            let is_fresh = mapping.tries == 0 && mapping.due.is_some_and(|due| due <= now);
            is_fresh && (mapping.grant.is_some() || self.address.known.is_none())
        });
        if method == Method::NatPmp && wanted && self.address.due.is_none() {
            self.address.due = Some(now);
        }
        if method == Method::NatPmp && self.address.due.is_some_and(|due| due <= now) {
            if self.is_silent(self.address.tries) {
                return false;
            }
            self.address.tries += 1;
            self.address.due = Some(now + wait(self.address.tries, &mut self.rng));
            self.actions.push_back(Action::Send(natpmp::ADDRESS.to_vec()));
        }
        if !self.may_ask() {
            return true;
        }
        for index in 0..self.mappings.len() {
            if self.mappings[index].due.is_none_or(|due| now < due) {
                continue;
            }
            if method == Method::Upnp {
                self.begin_job(index);
                continue;
            }
            if self.is_silent(self.mappings[index].tries) {
                return false;
            }
            let mapping = &mut self.mappings[index];
            mapping.tries += 1;
            mapping.due = Some(now + wait(mapping.tries, &mut self.rng));
            let request = self.request(method, index);
            self.actions.push_back(Action::Send(request));
        }
        true
    }

    fn is_silent(&self, tries: u32) -> bool {
        !self.proven && tries >= limits::PORTMAP_QUICK.len() as u32
    }

    fn request(&self, method: Method, index: usize) -> Vec<u8> {
        let Mapping { wish, nonce, grant, leaving, .. } = &self.mappings[index];
        let Wish { protocol, internal, external } = *wish;
        // Who had a port before would like to have it again.
        let before = grant.as_ref().map(|grant| grant.external);
        let external = before.unwrap_or((pcp::any(self.own), external).into());
        let (external, lifetime) = match leaving {
            true => ((pcp::any(self.own), 0).into(), 0),
            false => (external, self.lease),
        };
        if method == Method::NatPmp {
            return natpmp::map(protocol, internal, external.port(), lifetime);
        }
        pcp::Map { nonce: *nonce, protocol, internal, external, lifetime, client: self.own }.encode()
    }

    fn begin_job(&mut self, index: usize) {
        let mapping = &mut self.mappings[index];
        if self.busy.is_some() {
            return;
        }
        let Wish { protocol, internal, external } = mapping.wish;
        let external = mapping.grant.as_ref().map_or(external, |grant| grant.external.port());
        let job = match mapping.leaving {
            true => upnp::Job::Unmap { protocol, external },
            false => upnp::Job::Map { protocol, internal, external, lease: self.lease },
        };
        mapping.due = None;
        self.busy = Some((protocol, internal));
        self.actions.push_back(Action::Job(job));
    }

    /// The gateway's clock: if it was restarted, all mappings are gone but the one that it just gave.
    fn on_epoch(&mut self, epoch: u32, fresh: Option<usize>, now: Instant) {
        if !self.epoch.update(epoch, now) {
            log::debug!("the gateway was restarted");
            self.renew_all(now, fresh);
        }
    }

    fn renew_all(&mut self, at: Instant, but: Option<usize>) {
        for (index, mapping) in self.mappings.iter_mut().enumerate() {
            if mapping.grant.is_some() && Some(index) != but && mapping.due.is_some_and(|due| at < due) {
                (mapping.due, mapping.tries) = (Some(at), 0);
            }
        }
        if self.method() == Some(Method::NatPmp) && self.address.tries == 0 {
            self.address.due = Some(at);
        }
    }

    /// The gateway gave a mapping for so many seconds. It is asked for again at half of that, or even before.
    fn grant(
        &mut self,
        index: usize,
        external: SocketAddr,
        seconds: u32,
        most: Option<Duration>,
        now: Instant,
    ) {
        self.proven = true;
        self.failures = 0;
        if let Some(method) = self.method() {
            *self.report.support(method) = Support::Supported;
        }
        let lease = Duration::from_secs(seconds.into()).min(limits::PORTMAP_LEASE_MAX);
        // Between 1/2 and 5/8 of the lease (RFC 6887, section 11.2.1).
        let renewal = lease.mul_f64(0.5 + self.rng.f64() / 8.0).max(limits::PORTMAP_RENEWAL_MIN);
        let renewal = most.map_or(renewal, |most| renewal.min(most));
        let mapping = &mut self.mappings[index];
        (mapping.tries, mapping.due) = (0, Some(now + renewal));
        if mapping.leaving {
            // The wish went away while the job was under way.
            mapping.due = Some(now);
        }
        // The lease is believed until it is renewed, however short it was.
        self.set_grant(index, external, lease.max(renewal + limits::PORTMAP_RETRY[0]), now);
    }

    fn set_grant(&mut self, index: usize, external: SocketAddr, lease: Duration, now: Instant) {
        let before = self.mappings[index].grant.as_ref().map(|grant| grant.external);
        if before.is_some_and(|before| before != external) {
            self.lose(index);
        }
        let told = scope::is_public(external.ip()) && !self.mappings[index].leaving;
        self.set_external(external.ip());
        let until = now + lease;
        self.mappings[index].grant = Some(Grant { external, until, told });
        let Wish { protocol, internal, .. } = self.mappings[index].wish;
        if let (true, Some(method)) = (told, self.method()) {
            let event = Event::Mapped { protocol, internal, external, method, until };
            self.actions.push_back(Action::Event(event));
        }
    }

    fn set_external(&mut self, ip: IpAddr) {
        self.report.external = Some(ip).filter(|ip| !ip.is_unspecified());
        self.report.double_nat = scope::is_local(ip);
    }

    /// The gateway speaks the protocol, but does not do this now.
    fn refuse(&mut self, index: usize, why: &str, seconds: u64, now: Instant) {
        self.proven = true;
        if let Some(method) = self.method() {
            *self.report.support(method) = Support::Refused(why.into());
        }
        let [least, most] = limits::PORTMAP_ERROR;
        let pause = Duration::from_secs(seconds).clamp(least, most);
        let mapping = &mut self.mappings[index];
        (mapping.tries, mapping.due) = (0, Some(now + pause));
    }

    /// The method in use does not work; `why` unless something is known already.
    fn next_method(&mut self, why: Support, now: Instant) {
        if let Some(method) = self.method() {
            *self.report.support(method) = why;
        }
        self.begin(self.at + 1, now);
        if self.method().is_none() {
            let pause = limits::PORTMAP_PAUSE.saturating_mul(1 << self.failures.min(8));
            self.resume = Some(now + jitter(pause.min(limits::PORTMAP_RETRY[1]), &mut self.rng));
            self.failures += 1;
        }
    }

    /// All begins again with the first method.
    fn restart(&mut self, now: Instant) {
        self.lose_all();
        self.begin(0, now);
    }

    fn begin(&mut self, at: usize, now: Instant) {
        (self.at, self.proven, self.resume) = (at, false, None);
        (self.address, self.epoch) = (Address::default(), Epoch::default());
        for mapping in &mut self.mappings {
            (mapping.due, mapping.tries) = (Some(now), 0);
        }
    }

    fn find(&self, protocol: Protocol, internal: u16) -> Option<usize> {
        let is_it = |m: &Mapping| m.wish.protocol == protocol && m.wish.internal == internal;
        self.mappings.iter().position(is_it)
    }

    fn remove(&mut self, index: usize) {
        self.lose(index);
        self.mappings.remove(index);
    }

    fn lose_all(&mut self) {
        (0..self.mappings.len()).for_each(|index| self.lose(index));
        self.report.external = None;
        self.report.double_nat = false;
    }

    fn lose(&mut self, index: usize) {
        let mapping = &mut self.mappings[index];
        let Some(Grant { external, told: true, .. }) = mapping.grant.take() else { return };
        let Wish { protocol, internal, .. } = mapping.wish;
        self.actions.push_back(Action::Event(Event::Lost { protocol, internal, external }));
    }

    fn tell(&mut self) {
        if self.reported.as_ref() != Some(&self.report) {
            self.reported = Some(self.report.clone());
            self.actions.push_back(Action::Event(Event::Report(self.report.clone())));
        }
    }
}

/// Whether they are for one port of ours.
fn is_same(a: &Wish, b: &Wish) -> bool {
    a.protocol == b.protocol && a.internal == b.internal
}

/// How long to wait for an answer to that many requests.
fn wait(tries: u32, rng: &mut Rng) -> Duration {
    match limits::PORTMAP_QUICK.get(tries.saturating_sub(1) as usize) {
        Some(wait) => *wait,
        None => patient(tries - limits::PORTMAP_QUICK.len() as u32, rng),
    }
}

/// Likewise, from the first of the long waits on.
fn patient(tries: u32, rng: &mut Rng) -> Duration {
    let [first, longest] = limits::PORTMAP_RETRY;
    jitter(first.saturating_mul(1 << tries.saturating_sub(1).min(9)).min(longest), rng)
}

/// A tenth more or less, so that a house full of nodes does not ask at once (RFC 6887, section 8.1.1).
fn jitter(wait: Duration, rng: &mut Rng) -> Duration {
    wait.mul_f64(0.9 + 0.2 * rng.f64())
}
