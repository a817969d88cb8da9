//! Asks STUN servers: repeats what gets lost, believes only answers that were asked for, and hands on what they say.
//!
//! One check of an IP family goes like this:
//! 1. All its servers are asked at once, from the same socket.
//! 2. A [`Depth::Full`] check goes on with the first server that has a second address (RFC 5780): it shall answer
//!    from there. What arrives tells which strangers the NAT lets in.
//! 3. After that, and not before, since it opens the NAT's door for them, the other addresses are asked directly.
//!    What they see tells by what the NAT tells its mappings apart.
//!
//! No clock, no socket: what goes in and out are datagrams and instants.

mod transaction;

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use sha2::{Digest, Sha256};

use self::transaction::{Purpose, Transaction};
use super::{
    Change, Family,
    message::{self, Binding, Class, Flaw, Id},
    verdict::{FilterTest, Observation},
};
use crate::{
    discovery::scope::{Prefix, is_public},
    limits,
};

/// Whom to ask, and where we ask from: the address of the socket, its IP being the one that the route has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub server: SocketAddr,
    pub local: SocketAddr,
}

/// How much of the NAT to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Only what the servers see.
    Light,
    /// The behaviour too, where a server can help with that.
    Full,
}

/// A datagram to send, from the socket that all of this is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A server saw us.
    Observed(Observation),
    /// A test of filtering is over.
    Tested(FilterTest),
    /// A server is of no use now.
    Failed { server: SocketAddr, cause: Failure },
    /// Enough is known of a family for a verdict, although some server may still answer.
    Settled(Family),
    /// The check of a family is over.
    Done(Family),
}

/// Why a server is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("does not answer")]
    Silent,
    #[error("refuses with error {0}")]
    Refused(u16),
    #[error("answers without an address")]
    NoAddress,
}

/// Checks, and responses that were dropped, by reason, and errors. Each wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Checks begun, of one IP family each.
    pub checks: u32,
    /// No STUN, or not readable.
    pub malformed: u32,
    /// The fingerprint is wrong.
    pub fingerprint: u32,
    /// No request has this id; a repeated answer, or a guess.
    pub unmatched: u32,
    /// The id is right, and the sender is not the one who was asked.
    pub stranger: u32,
    /// Attributes that would have to be understood, or another method.
    pub not_understood: u32,
    /// Errors of servers.
    pub errors: u32,
}

/// The client. See the [module](self).
#[derive(Debug)]
pub struct Client {
    ids: Ids,
    transactions: Vec<Transaction>,
    /// What is under way, by family.
    rounds: [Round; 2],
    events: VecDeque<Event>,
    /// Second addresses of servers, and when we last sent there.
    spoken_to: VecDeque<(IpAddr, Instant)>,
    counters: Counters,
}

/// One check of a family.
#[derive(Debug, Default)]
struct Round {
    is_running: bool,
    is_full: bool,
    has_answer: bool,
    has_settled: bool,
    /// The server that helps with behaviour, and its other address.
    helper: Option<(Target, SocketAddr)>,
    is_mapping: bool,
}

impl Client {
    /// `seed`: unpredictable bytes. From them come the ids, which nobody who has not seen the request can guess.
    pub fn new(seed: [u8; 32]) -> Self {
        Client {
            ids: Ids { seed, next: 0 },
            transactions: Vec::new(),
            rounds: Default::default(),
            events: VecDeque::new(),
            spoken_to: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Begins a check of one family. One that is under way ends without a word.
    ///
    /// The first [`limits::STUN_SERVERS`] targets of the family count. Without any it is [done](Event::Done) at once.
    pub fn check(&mut self, family: Family, targets: &[Target], depth: Depth, now: Instant) {
        self.counters.checks = self.counters.checks.wrapping_add(1);
        self.transactions.retain(|transaction| transaction.family() != family);
        self.rounds[family as usize] =
            Round { is_running: true, is_full: depth == Depth::Full, ..Round::default() };
        let mut asked: Vec<SocketAddr> = Vec::new();
        for target in targets.iter().filter(|target| Family::of(target.server) == family) {
            if !asked.contains(&target.server) && asked.len() < limits::STUN_SERVERS {
                asked.push(target.server);
                self.ask(Purpose::Server, *target, target.server, target.server, now);
            }
        }
        self.proceed(family, now);
    }

    /// Takes a datagram. Whether it was for a client: if not, a server may want it.
    ///
    /// A response is never for anybody else, whether it is believed or dropped and [counted](Self::counters).
    pub fn handle_input(&mut self, from: SocketAddr, bytes: &[u8], now: Instant) -> bool {
        if !message::is_response(bytes) {
            return false;
        }
        let dropped = match message::read(bytes) {
            Ok(binding) => self.handle_response(from, &binding, now),
            Err(Flaw::Form) => Some(&mut self.counters.malformed),
            Err(Flaw::Fingerprint) => Some(&mut self.counters.fingerprint),
        };
        if let Some(counter) = dropped {
            *counter = counter.wrapping_add(1);
        }
        true
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let mut i = 0;
        while i < self.transactions.len() {
            if self.transactions[i].handle_timeout(now) {
                i += 1;
                continue;
            }
            let silent = self.transactions.remove(i);
            match silent.purpose {
                Purpose::Server => self.tell(Event::Failed { server: silent.to, cause: Failure::Silent }),
                Purpose::Filtering(change) => self.tell(Event::Tested(silent.test(change, false, now))),
                // It is one address of a server that answered, so no failure.
                Purpose::Mapping => {}
            }
        }
        for family in Family::ALL {
            self.proceed(family, now);
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.transactions.iter().map(|transaction| transaction.due).min()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        let transaction = self.transactions.iter_mut().find(|transaction| transaction.is_unsent)?;
        transaction.is_unsent = false;
        let bytes = message::request(transaction.id, transaction.purpose.change())?;
        Some(Transmit { to: transaction.to, bytes })
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The NAT is another one: its doors are closed.
    pub fn forget_spoken(&mut self) {
        self.spoken_to.clear();
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Returns the counter of why a response was dropped.
    fn handle_response(&mut self, from: SocketAddr, binding: &Binding, now: Instant) -> Option<&mut u32> {
        let Some(index) = self.transactions.iter().position(|asked| asked.id == binding.id) else {
            return Some(&mut self.counters.unmatched);
        };
        if !binding.is_binding || !binding.unknown.is_empty() {
            return Some(&mut self.counters.not_understood);
        }
        let asked = &self.transactions[index];
        // An answer from where it was asked although it should have come from elsewhere: the server does not do that.
        let is_unmoved = from != asked.answer_from && from == asked.to;
        if from != asked.answer_from && !is_unmoved {
            return Some(&mut self.counters.stranger);
        }
        let asked = self.transactions.remove(index);
        let family = asked.family();
        match (binding.class, binding.mapped) {
            (Class::Error, _) => {
                self.counters.errors = self.counters.errors.wrapping_add(1);
                let cause = Failure::Refused(binding.error.unwrap_or_default());
                self.fail(&asked, cause);
            }
            (_, Some(mapped)) if Family::of(mapped) == family && mapped.port() != 0 => match asked.purpose {
                Purpose::Filtering(_) if is_unmoved => {}
                Purpose::Filtering(change) => self.tell(Event::Tested(asked.test(change, true, now))),
                Purpose::Server | Purpose::Mapping => self.observe(&asked, mapped, binding.other, now),
            },
            _ => self.fail(&asked, Failure::NoAddress),
        }
        self.proceed(family, now);
        None
    }

    fn fail(&mut self, asked: &Transaction, cause: Failure) {
        if let Purpose::Server = asked.purpose {
            self.tell(Event::Failed { server: asked.to, cause });
        }
    }

    fn observe(&mut self, asked: &Transaction, mapped: SocketAddr, other: Option<SocketAddr>, now: Instant) {
        self.tell(Event::Observed(Observation {
            local: asked.target.local,
            server: asked.to,
            mapped,
            at: now,
            number: asked.number,
        }));
        let round = &mut self.rounds[asked.family() as usize];
        round.has_answer = true;
        if round.is_full
            && round.helper.is_none()
            && asked.purpose == Purpose::Server
            && let Some(other) = other.filter(|other| may_ask(asked.to, *other))
        {
            round.helper = Some((asked.target, other));
            self.test_filtering(asked.target, other, now);
        }
    }

    /// Step 2, unless the NAT's door for the other address may still be open from an earlier check.
    fn test_filtering(&mut self, target: Target, other: SocketAddr, now: Instant) {
        let server = target.server;
        self.spoken_to.retain(|(_, at)| now.duration_since(*at) < limits::STUN_QUIET);
        let has_other_ip = other.ip() != server.ip();
        if self.spoken_to.iter().any(|(ip, _)| *ip == other.ip()) {
            return;
        }
        if has_other_ip {
            self.ask(Purpose::Filtering(Change::BOTH), target, server, other, now);
        }
        if other.port() != server.port() {
            let answer_from = SocketAddr::new(server.ip(), other.port());
            self.ask(Purpose::Filtering(Change::PORT), target, server, answer_from, now);
        }
    }

    /// Step 3.
    fn test_mapping(&mut self, target: Target, other: SocketAddr, now: Instant) {
        let server = target.server;
        if self.spoken_to.len() == limits::STUN_QUIET_ADDRESSES {
            self.spoken_to.pop_front();
        }
        self.spoken_to.retain(|(ip, _)| *ip != other.ip());
        self.spoken_to.push_back((other.ip(), now));
        let beside =
            [SocketAddr::new(other.ip(), server.port()), SocketAddr::new(server.ip(), other.port()), other];
        let mut asked = vec![server];
        for to in beside {
            if !asked.contains(&to) {
                asked.push(to);
                self.ask(Purpose::Mapping, target, to, to, now);
            }
        }
    }

    /// Goes to the next step of a check if it is time.
    fn proceed(&mut self, family: Family, now: Instant) {
        let round = &self.rounds[family as usize];
        if !round.is_running {
            return;
        }
        let under_way = |transaction: &&Transaction| transaction.family() == family;
        let is_testing = |transaction: &Transaction| transaction.purpose != Purpose::Server;
        if let Some((target, other)) = round.helper
            && !round.is_mapping
            && !self.transactions.iter().filter(under_way).any(is_testing)
        {
            self.rounds[family as usize].is_mapping = true;
            self.test_mapping(target, other, now);
        }
        let mut left = self.transactions.iter().filter(under_way);
        let is_done = left.clone().next().is_none();
        let round = &mut self.rounds[family as usize];
        let settles = round.has_answer
            && left.all(|left| left.purpose == Purpose::Server && left.sends >= limits::STUN_SETTLED_SENDS);
        if settles && !round.has_settled && !is_done {
            round.has_settled = true;
            self.tell(Event::Settled(family));
        } else if is_done {
            round.is_running = false;
            self.tell(Event::Done(family));
        }
    }

    fn ask(
        &mut self,
        purpose: Purpose,
        target: Target,
        to: SocketAddr,
        answer_from: SocketAddr,
        now: Instant,
    ) {
        let (id, number) = self.ids.next();
        self.transactions.push(Transaction::new(id, number, purpose, target, to, answer_from, now));
        debug_assert!(self.transactions.len() <= 2 * limits::STUN_TRANSACTIONS);
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() == 2 * limits::STUN_EVENTS {
            // Whoever reads so little wants the latest.
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

/// Whether a server may send us to another address: one as public as its own, or of the same owner. Otherwise a
/// server outside could have us knock at doors inside.
fn may_ask(server: SocketAddr, other: SocketAddr) -> bool {
    let is_related = is_public(server.ip()) && is_public(other.ip())
        || Prefix::of_owner(server.ip()).contains(other.ip().to_canonical());
    Family::of(other) == Family::of(server)
        && other != server
        && other.port() != 0
        && is_related
        && !other.ip().is_unspecified()
        && !other.ip().is_multicast()
}

/// Ids in a row that nobody can foretell who does not know the seed: SHA-256 of seed and number.
struct Ids {
    seed: [u8; 32],
    next: u32,
}

impl Ids {
    fn next(&mut self) -> (Id, u32) {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let hash = Sha256::new().chain_update(self.seed).chain_update(number.to_be_bytes()).finalize();
        (std::array::from_fn(|i| hash[i]), number)
    }
}

impl std::fmt::Debug for Ids {
    /// The seed is nobody's business.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ids").field("next", &self.next).finish_non_exhaustive()
    }
}
