//! How often something may happen, and who has used that up.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use crate::limits;

/// So many at once, and one more in each `each`. Costs one instant, whatever the burst.
#[derive(Debug)]
pub(in super::super) struct Pace {
    each: Duration,
    burst: u32,
    /// What was used is paid for at this time.
    paid: Option<Instant>,
}

impl Pace {
    pub(in super::super) fn new(burst: u32, each: Duration) -> Self {
        Pace { each, burst, paid: None }
    }

    /// Whether it may happen now; then that is one less.
    pub(in super::super) fn take(&mut self, now: Instant) -> bool {
        let paid = self.paid.filter(|paid| *paid > now).unwrap_or(now);
        let may = paid.duration_since(now) <= self.each * self.burst.saturating_sub(1);
        if may {
            self.paid = Some(paid + self.each);
        }
        may
    }
}

/// What one source of datagrams may still do.
#[derive(Debug)]
pub(super) struct Account {
    source: IpAddr,
    pub(super) datagrams: Pace,
    /// Peers and addresses that were not known before.
    pub(super) news: Pace,
    heard: Instant,
}

impl Account {
    fn new(source: IpAddr, now: Instant) -> Self {
        Account {
            source,
            datagrams: Pace::new(limits::MDNS_SOURCE_BURST, limits::MDNS_SOURCE_PACE),
            news: Pace::new(limits::MDNS_NEW_BURST, limits::MDNS_NEW_PACE),
            heard: now,
        }
    }
}

/// The accounts of those heard lately. So one that floods the link is not heard out, while others are.
#[derive(Debug)]
pub(super) struct Accounts {
    each: Vec<Account>,
    /// For all who came when there was no place: a flood under many forged addresses ends up here.
    rest: Account,
}

impl Accounts {
    pub(super) fn new(now: Instant) -> Self {
        Accounts { each: Vec::new(), rest: Account::new(Ipv4Addr::UNSPECIFIED.into(), now) }
    }

    pub(super) fn of(&mut self, source: IpAddr, now: Instant) -> &mut Account {
        let known = self.each.iter().position(|account| account.source == source);
        let at = match known {
            Some(at) => at,
            None if self.make_place(now) => {
                self.each.push(Account::new(source, now));
                self.each.len() - 1
            }
            None => return &mut self.rest,
        };
        let account = &mut self.each[at];
        account.heard = now;
        account
    }

    fn make_place(&mut self, now: Instant) -> bool {
        if self.each.len() >= limits::MDNS_SOURCES {
            self.each.retain(|account| now.duration_since(account.heard) < limits::MDNS_SOURCE_SILENCE);
        }
        self.each.len() < limits::MDNS_SOURCES
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.each.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_followed_by_one_at_a_time() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut pace = Pace::new(3, second);
        let taken = |pace: &mut Pace, now| (0..9).filter(|_| pace.take(now)).count();
        assert_eq!(taken(&mut pace, start), 3);
        assert_eq!(taken(&mut pace, start + second), 1);
        assert_eq!(taken(&mut pace, start + second * 100), 3);
    }

    #[test]
    fn sources_without_an_account_share_one() {
        let now = Instant::now();
        let mut accounts = Accounts::new(now);
        let ip = |n: u32| IpAddr::from(n.to_be_bytes());
        let read = (0..10_000).filter(|n| accounts.of(ip(*n), now).datagrams.take(now)).count();
        assert_eq!(read, limits::MDNS_SOURCES + limits::MDNS_SOURCE_BURST as usize);
        assert_eq!(accounts.len(), limits::MDNS_SOURCES);
        let later = now + limits::MDNS_SOURCE_SILENCE;
        accounts.of(ip(77_777), later);
        assert_eq!(accounts.len(), 1, "the silent ones made place");
    }
}
