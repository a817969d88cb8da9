//! How many answers others get: an allowance for each owner of a network, and one for all together.
//!
//! Who asks by UDP can do so in somebody else's name, and the answer goes to that one. So what counts is where
//! answers go, in the short run and in the long.

use std::{collections::BTreeMap, net::IpAddr, time::Instant};

use crate::{discovery::scope::Prefix, limits};

#[derive(Debug)]
pub(super) struct Allowances {
    owners: BTreeMap<Prefix, Bucket>,
    all: Bucket,
}

impl Allowances {
    pub(super) fn new(now: Instant) -> Self {
        Allowances { owners: BTreeMap::new(), all: Bucket::full(limits::STUN_BURST, now) }
    }

    /// Whether `ip` may get an answer now; if so, it counts as given.
    pub(super) fn take(&mut self, ip: IpAddr, now: Instant) -> bool {
        let owner = Prefix::of_owner(ip);
        self.all.refill(limits::STUN_RATE, limits::STUN_BURST, now);
        if let Some(bucket) = self.owners.get_mut(&owner) {
            bucket.refill(limits::STUN_OWNER_RATE, limits::STUN_OWNER_BURST, now);
            return bucket.has_one() && self.all.take() && bucket.take();
        }
        if !self.all.has_one() {
            return false;
        }
        if self.owners.len() >= limits::STUN_OWNERS {
            self.forget_the_whole(now);
        }
        // There is place now: not so many can have begun to use up theirs, see the assertion in `limits`.
        if self.owners.len() >= limits::STUN_OWNERS {
            return false;
        }
        let mut bucket = Bucket::full(limits::STUN_OWNER_BURST, now);
        let taken = bucket.take() && self.all.take();
        self.owners.insert(owner, bucket);
        taken
    }

    /// Forgets owners who could use all of their allowance again: they are like those we do not know.
    fn forget_the_whole(&mut self, now: Instant) {
        self.owners.retain(|_, bucket| {
            bucket.refill(limits::STUN_OWNER_RATE, limits::STUN_OWNER_BURST, now);
            bucket.micros < u64::from(limits::STUN_OWNER_BURST) * MICROS
        });
    }
}

/// Parts of one answer.
const MICROS: u64 = 1_000_000;

/// A token bucket.
#[derive(Debug)]
struct Bucket {
    /// Answers left, in millionths.
    micros: u64,
    /// When it was last refilled.
    at: Instant,
}

impl Bucket {
    fn full(burst: u32, now: Instant) -> Self {
        Bucket { micros: u64::from(burst) * MICROS, at: now }
    }

    fn refill(&mut self, rate: u32, burst: u32, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_micros();
        let more = u64::try_from(passed).unwrap_or(u64::MAX).saturating_mul(rate.into());
        self.micros = self.micros.saturating_add(more).min(u64::from(burst) * MICROS);
        self.at = self.at.max(now);
    }

    fn has_one(&self) -> bool {
        self.micros >= MICROS
    }

    fn take(&mut self) -> bool {
        let has_one = self.has_one();
        if has_one {
            self.micros -= MICROS;
        }
        has_one
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ip(owner: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(owner << 8 | 1).into()
    }

    #[test]
    fn an_owner_has_a_burst_and_a_rate() {
        let now = Instant::now();
        let mut allowances = Allowances::new(now);
        let taken =
            |allowances: &mut Allowances, now| (0..1000).filter(|_| allowances.take(ip(1), now)).count();
        assert_eq!(taken(&mut allowances, now), limits::STUN_OWNER_BURST as usize);
        assert!(allowances.take(ip(2), now), "others have theirs");
        let later = now + Duration::from_secs(2);
        assert_eq!(taken(&mut allowances, later), 2 * limits::STUN_OWNER_RATE as usize);
        let idle = later + Duration::from_secs(3600);
        assert_eq!(taken(&mut allowances, idle), limits::STUN_OWNER_BURST as usize);
    }

    #[test]
    fn a_flood_from_everywhere_gets_the_rate_for_all_and_little_memory() {
        let start = Instant::now();
        let mut allowances = Allowances::new(start);
        let mut given = 0;
        for i in 0..1_000_000_u32 {
            let now = start + Duration::from_micros(u64::from(i) * 20);
            given += usize::from(allowances.take(ip(i), now));
            assert!(allowances.owners.len() <= limits::STUN_OWNERS);
        }
        // 20 s.
        let most = (limits::STUN_BURST + 20 * limits::STUN_RATE) as usize;
        assert!((most - 2..=most).contains(&given), "{given} of {most}");
    }

    #[test]
    fn a_clock_that_stands_still_gives_nothing() {
        let now = Instant::now();
        let mut allowances = Allowances::new(now + Duration::from_secs(1));
        for _ in 0..2 * limits::STUN_OWNER_BURST {
            allowances.take(ip(1), now);
        }
        assert!(!allowances.take(ip(1), now));
    }
}
