//! Which address to have tested when, and by whom; and whether others can dial this node. Pure.
//!
//! An address is tested in rounds. In each, servers are asked until two of different owners agree, or nobody else is
//! there to be asked. What has been known is not given up for one round that says otherwise: a second one has to, a
//! little later. What stays as it is gets asked about less and less often.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};

use crate::{
    discovery::scope::{self, Prefix},
    limits,
};

/// What is known of our addresses, and of those who can tell.
#[derive(Debug, Default)]
pub struct Client {
    candidates: Vec<Candidate>,
    servers: BTreeMap<PeerId, Server>,
    verdict: Verdict,
    /// A round has ended, or there are other addresses, since somebody asked for that.
    is_news: bool,
    /// Questions under way.
    asking: usize,
    /// Questions so far; wraps.
    number: u32,
    /// Bytes that servers have wanted, and since when they are counted.
    paid: Option<(Instant, u32)>,
}

/// Whether others can dial this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody has said.
    #[default]
    Unknown,
    Reachable,
    /// By IPv6 only, and there is IPv4: who has no IPv6 cannot.
    Partly,
    Unreachable,
}

impl Verdict {
    /// For programs.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Unknown => "unknown",
            Verdict::Reachable => "reachable",
            Verdict::Partly => "partly",
            Verdict::Unreachable => "unreachable",
        }
    }

    /// For people.
    pub fn sentence(self) -> &'static str {
        match self {
            Verdict::Unknown => "nobody says any more whether others can dial this node",
            Verdict::Reachable => "others can dial this node",
            Verdict::Partly => "others can dial this node by IPv6 only",
            Verdict::Unreachable => "others cannot dial this node",
        }
    }
}

/// An address that may be dialled from outside.
#[derive(Debug)]
struct Candidate {
    addr: Multiaddr,
    /// What is believed.
    standing: Option<bool>,
    /// How many owners of servers said so in the last round.
    voices: usize,
    /// Rounds in a row that said otherwise.
    contrary: u32,
    /// The end of the last round.
    judged: Option<Instant>,
    /// When it is to be tested; or when the round goes on.
    due: Instant,
    /// The next pause.
    rest: Duration,
    /// The question under way.
    asked: Option<u32>,
    /// Who was asked in this round.
    tried: Vec<PeerId>,
    /// Who said what in it.
    votes: Vec<(Prefix, bool)>,
}

/// A connected peer that dials others back.
#[derive(Debug)]
struct Server {
    /// Where it is.
    ip: IpAddr,
    /// The question that it is being asked.
    busy: Option<u32>,
    /// It is not asked before.
    free: Instant,
    /// The next pause, if it does not answer.
    rest: Duration,
    /// When it was last asked.
    used: Option<Instant>,
}

/// A question to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub server: PeerId,
    pub addr: Multiaddr,
    /// Tells it from all others; wraps.
    pub number: u32,
    /// Bytes that may be paid for it.
    pub allowance: u32,
}

/// How a question ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server has reached us.
    Reached,
    /// It could not.
    Unreached,
    /// It has not dialled, or that says nothing.
    Declined,
    /// It has no time now.
    Busy,
    /// There was no answer.
    Failed,
    /// It says that it has reached us, and nobody came.
    Lied,
}

impl Client {
    /// A peer with this address, connected directly, dials back those who ask.
    pub fn server(&mut self, peer: PeerId, ip: IpAddr, now: Instant) {
        if self.servers.len() >= limits::AUTONAT_SERVERS && !self.servers.contains_key(&peer) {
            return;
        }
        let is_voice = self.servers.values().all(|server| server.owner() != Prefix::of_owner(ip));
        let server = self.servers.entry(peer).or_insert(Server {
            ip,
            busy: None,
            free: now,
            rest: limits::AUTONAT_SERVER_RETRY,
            used: None,
        });
        server.ip = ip;
        if is_voice {
            let wanting = |candidate: &&mut Candidate| candidate.voices < limits::AUTONAT_VOICES;
            for candidate in self.candidates.iter_mut().filter(wanting) {
                let since = candidate.judged.map(|judged| judged + limits::AUTONAT_AGAIN);
                candidate.due = candidate.due.min(since.map_or(now, |since| since.max(now)));
            }
        }
    }

    /// It is connected no longer.
    pub fn gone(&mut self, peer: &PeerId) {
        self.servers.remove(peer);
    }

    /// All addresses that may be dialled from outside, the most likely first. Others are forgotten. One at another IP
    /// address puts all that was believed in question.
    pub fn offer(&mut self, addrs: impl IntoIterator<Item = Multiaddr>, now: Instant) {
        let mut known: Vec<Candidate> = std::mem::take(&mut self.candidates);
        let before: Vec<Option<IpAddr>> =
            known.iter().map(|candidate| scope::ip_of(&candidate.addr)).collect();
        for addr in addrs {
            let is_new = self.candidates.iter().all(|candidate| candidate.addr != addr);
            if is_new && self.candidates.len() < limits::AUTONAT_CANDIDATES {
                let known =
                    known.iter().position(|candidate| candidate.addr == addr).map(|i| known.swap_remove(i));
                self.candidates.push(known.unwrap_or_else(|| Candidate::new(addr, now)));
            }
        }
        if self.candidates.iter().any(|candidate| !before.contains(&scope::ip_of(&candidate.addr))) {
            self.shaken(now);
        }
        self.judge();
    }

    /// The addresses or routes of this machine have changed: what was believed may be wrong.
    pub fn shaken(&mut self, now: Instant) {
        for candidate in &mut self.candidates {
            candidate.rest = limits::AUTONAT_REST;
            candidate.contrary = limits::AUTONAT_CONTRARY - 1;
            candidate.tried.clear();
            candidate.votes.clear();
            candidate.due = candidate.due.min(now + limits::AUTONAT_SETTLE);
        }
    }

    /// Somebody came by a way that he would not have taken if he could have dialled us.
    pub fn doubt(&mut self, now: Instant) {
        for candidate in self.candidates.iter_mut().filter(|candidate| candidate.standing == Some(true)) {
            let least = candidate.judged.map_or(now, |judged| (judged + limits::AUTONAT_DOUBT).max(now));
            candidate.due = candidate.due.min(least);
        }
    }

    /// What to ask now, if anything. To be called again until there is nothing; `jitter` in 0..1 spreads what comes
    /// later.
    pub fn next(&mut self, now: Instant, jitter: f64) -> Option<Ask> {
        while self.asking < limits::AUTONAT_ASKING && !self.servers.is_empty() {
            let due = self.candidates.iter().enumerate().filter(|(_, candidate)| candidate.is_due(now));
            let (index, _) = due.min_by_key(|(_, candidate)| candidate.due)?;
            let candidate = &mut self.candidates[index];
            match choose(&self.servers, candidate, now) {
                Choice::Ask(peer) => {
                    self.number = self.number.wrapping_add(1);
                    let (addr, number) = (candidate.addr.clone(), self.number);
                    candidate.asked = Some(number);
                    candidate.tried.push(peer);
                    self.asking += 1;
                    if let Some(server) = self.servers.get_mut(&peer) {
                        server.busy = Some(number);
                        server.used = Some(now);
                    }
                    return Some(Ask { server: peer, addr, number, allowance: self.allowance(now) });
                }
                Choice::Wait(until) => candidate.due = until,
                Choice::Nobody => self.conclude(index, now, jitter),
            }
        }
        None
    }

    /// When [`Self::next`] has something to do.
    pub fn next_due(&self) -> Option<Instant> {
        let is_idle = self.asking < limits::AUTONAT_ASKING && !self.servers.is_empty();
        let free = self.candidates.iter().filter(|candidate| is_idle && candidate.asked.is_none());
        free.map(|candidate| candidate.due).min()
    }

    /// What came of a question, and how many bytes were paid for it.
    pub fn answered(&mut self, ask: &Ask, outcome: Outcome, paid: u32, now: Instant, jitter: f64) {
        self.asking = self.asking.saturating_sub(1);
        if let Some((_, sum)) = &mut self.paid {
            *sum = sum.saturating_add(paid);
        }
        let server = self.servers.get_mut(&ask.server);
        // One that went meanwhile and came again is another one.
        let owner = server.filter(|server| server.busy == Some(ask.number)).map(|server| {
            server.answered(outcome, now);
            server.owner()
        });
        let candidate =
            self.candidates.iter_mut().enumerate().find(|(_, candidate)| candidate.addr == ask.addr);
        let Some((index, candidate)) = candidate.filter(|(_, one)| one.asked == Some(ask.number)) else {
            return;
        };
        candidate.asked = None;
        // The addresses have changed meanwhile: the answer is to yesterday's question.
        if !candidate.tried.contains(&ask.server) {
            return;
        }
        let vote = match outcome {
            Outcome::Reached => Some(true),
            Outcome::Unreached => Some(false),
            _ => None,
        };
        if let (Some(vote), Some(owner)) = (vote, owner) {
            candidate.votes.push((owner, vote));
            let agreeing = candidate.votes.iter().filter(|(_, other)| *other == vote).count();
            if agreeing >= limits::AUTONAT_VOICES {
                self.conclude(index, now, jitter);
            }
        }
    }

    /// Whether something may have changed of what follows, since this was last asked.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.is_news)
    }

    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// What is believed of an address.
    pub fn is_reachable(&self, addr: &Multiaddr) -> Option<bool> {
        self.candidates.iter().find(|candidate| candidate.addr == *addr)?.standing
    }

    /// Addresses at which others can dial this node.
    pub fn reachable(&self) -> impl Iterator<Item = &Multiaddr> {
        let reachable = self.candidates.iter().filter(|candidate| candidate.standing == Some(true));
        reachable.map(|candidate| &candidate.addr)
    }

    /// The round is over.
    fn conclude(&mut self, index: usize, now: Instant, jitter: f64) {
        let candidate = &mut self.candidates[index];
        let before = candidate.standing;
        candidate.conclude(now, jitter);
        if candidate.standing != before {
            let found = if candidate.standing == Some(true) { "can" } else { "cannot" };
            log::debug!("others {found} dial this node at {}", candidate.addr);
        }
        self.judge();
    }

    fn judge(&mut self) {
        self.is_news = true;
        let is_ipv4 = |candidate: &Candidate| scope::ip_of(&candidate.addr).is_some_and(|ip| ip.is_ipv4());
        let count = |standing: bool, among: &dyn Fn(&Candidate) -> bool| {
            let of = |candidate: &&Candidate| candidate.standing == Some(standing) && among(candidate);
            self.candidates.iter().filter(of).count()
        };
        let is_open = self.candidates.iter().any(|one| one.standing.is_none() && one.judged.is_none());
        self.verdict = match (count(true, &|_| true), count(false, &|_| true)) {
            (0, 0) => Verdict::Unknown,
            (0, _) if is_open && self.verdict != Verdict::Unreachable => Verdict::Unknown,
            (0, _) => Verdict::Unreachable,
            _ if count(true, &is_ipv4) == 0 && count(false, &is_ipv4) > 0 => Verdict::Partly,
            _ => Verdict::Reachable,
        };
    }

    /// Bytes that may be paid now.
    fn allowance(&mut self, now: Instant) -> u32 {
        let (since, sum) = self.paid.get_or_insert((now, 0));
        if now.saturating_duration_since(*since) >= limits::AUTONAT_PAID_PERIOD {
            (*since, *sum) = (now, 0);
        }
        limits::AUTONAT_PAID_MOST.saturating_sub(*sum).min(limits::AUTONAT_DATA_MOST)
    }
}

/// What can be done about a candidate.
enum Choice {
    Ask(PeerId),
    /// Somebody will have time then.
    Wait(Instant),
    Nobody,
}

/// Who is to be asked next: somebody whose owner has not spoken in this round.
fn choose(servers: &BTreeMap<PeerId, Server>, candidate: &Candidate, now: Instant) -> Choice {
    let is_left = |(peer, server): &(&PeerId, &Server)| {
        !candidate.tried.contains(peer) && candidate.votes.iter().all(|(owner, _)| *owner != server.owner())
    };
    let left = || servers.iter().filter(is_left);
    // Of the same IP family, so that there is nothing to pay; then in turn.
    let is_ipv4 = scope::ip_of(&candidate.addr).is_some_and(|ip| ip.is_ipv4());
    let idle = left().filter(|(_, server)| server.busy.is_none() && server.free <= now);
    if let Some((peer, _)) = idle.min_by_key(|(_, server)| (server.ip.is_ipv4() != is_ipv4, server.used)) {
        return Choice::Ask(*peer);
    }
    let soon = |(_, server): (&PeerId, &Server)| match server.busy {
        Some(_) => Some(now + limits::AUTONAT_SERVER_PAUSE),
        None => Some(server.free).filter(|free| *free <= now + limits::AUTONAT_PATIENCE),
    };
    left().filter_map(soon).min().map_or(Choice::Nobody, Choice::Wait)
}

impl Candidate {
    fn new(addr: Multiaddr, now: Instant) -> Self {
        Candidate {
            addr,
            standing: None,
            voices: 0,
            contrary: 0,
            judged: None,
            due: now,
            rest: limits::AUTONAT_REST,
            asked: None,
            tried: Vec::new(),
            votes: Vec::new(),
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.asked.is_none() && self.due <= now
    }

    /// Takes in what was said in this round, and begins the pause before the next one.
    fn conclude(&mut self, now: Instant, jitter: f64) {
        let count = |vote: bool| self.votes.iter().filter(|(_, other)| *other == vote).count();
        let said = match (count(true), count(false)) {
            (limits::AUTONAT_VOICES.., _) => Some(true),
            (_, limits::AUTONAT_VOICES..) => Some(false),
            (1.., 0) => Some(true),
            (0, 1..) => Some(false),
            // Nobody has said anything, or they do not agree.
            _ => None,
        };
        self.voices = said.map_or(0, count);
        self.votes.clear();
        self.tried.clear();
        self.judged = Some(now);
        let mut rest = self.rest;
        match (said, self.standing) {
            (Some(said), None) => self.standing = Some(said),
            (Some(said), Some(standing)) if said != standing => {
                self.contrary += 1;
                rest = limits::AUTONAT_AGAIN;
                if self.contrary >= limits::AUTONAT_CONTRARY {
                    self.standing = Some(said);
                    rest = limits::AUTONAT_REST;
                }
                self.rest = limits::AUTONAT_REST;
            }
            (Some(_), Some(_)) => self.rest = (self.rest * 2).min(limits::AUTONAT_REST_MOST),
            (None, standing) => {
                if standing.is_none() {
                    rest = self.rest / 5;
                }
                self.rest = (self.rest * 2).min(limits::AUTONAT_REST_MOST);
            }
        }
        if said.is_some() && said == self.standing {
            self.contrary = 0;
        }
        self.due = now + rest.mul_f64(1.0 - 0.25 * jitter.clamp(0.0, 1.0));
    }
}

impl Server {
    fn owner(&self) -> Prefix {
        Prefix::of_owner(self.ip)
    }

    fn answered(&mut self, outcome: Outcome, now: Instant) {
        self.busy = None;
        let pause = match outcome {
            Outcome::Reached | Outcome::Unreached | Outcome::Declined => {
                self.rest = limits::AUTONAT_SERVER_RETRY;
                limits::AUTONAT_SERVER_PAUSE
            }
            Outcome::Busy | Outcome::Failed => {
                let rest = self.rest;
                self.rest = (rest * 2).min(limits::AUTONAT_REST_MOST);
                rest
            }
            Outcome::Lied => limits::AUTONAT_REST_MOST,
        };
        self.free = now + pause;
    }
}

#[cfg(test)]
mod tests;
