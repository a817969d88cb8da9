//! Who provides what: the part of the DHT that this node keeps for others, and its own keys.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
    iter,
    time::Instant,
};

use libp2p::{
    PeerId,
    kad::{
        ProviderRecord, Record, RecordKey,
        store::{Error, RecordStore, Result},
    },
};

use crate::limits;

/// Provider records, bounded by count in every direction; values are not kept at all.
///
/// Who fills it up gets in the way of its own kind first: beyond its share, a provider replaces its own oldest
/// record, and a key its oldest provider. When the whole store is full, the oldest record goes. Providers that
/// are there renew theirs, so those of an honest one are never the oldest for long.
pub(super) struct Records {
    me: PeerId,
    by_key: HashMap<RecordKey, Vec<Kept>>,
    /// How many records each provider has.
    by_provider: HashMap<PeerId, usize>,
    /// Keys that this node provides.
    own: Vec<ProviderRecord>,
    /// Records in `by_key`.
    count: usize,
    /// Counts the records that ever came: their order, which several may have within one instant.
    clock: u32,
}

struct Kept {
    record: ProviderRecord,
    /// When it came or was renewed, by [`Records::clock`].
    since: u32,
}

impl Records {
    pub(super) fn new(me: PeerId) -> Self {
        Records {
            me,
            by_key: HashMap::new(),
            by_provider: HashMap::new(),
            own: Vec::new(),
            count: 0,
            clock: 0,
        }
    }

    /// Records kept for others.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.count
    }

    /// Makes room for one more record of `provider` under `key`.
    fn make_room(&mut self, key: &RecordKey, provider: &PeerId) {
        let of_provider = self.by_provider.get(provider).is_some_and(|n| *n >= limits::DHT_KEYS_PER_PROVIDER);
        let of_key = self.by_key.get(key).is_some_and(|kept| kept.len() >= limits::DHT_PROVIDERS_PER_KEY);
        if of_provider {
            self.drop_oldest(|record| record.provider == *provider);
        } else if of_key {
            self.drop_oldest(|record| record.key == *key);
        } else if self.count >= limits::DHT_RECORDS {
            let now = Instant::now();
            self.drop_expired(now);
            if self.count >= limits::DHT_RECORDS {
                self.drop_oldest(|_| true);
            }
        }
    }

    fn drop_oldest(&mut self, of: impl Fn(&ProviderRecord) -> bool) {
        let all = self.by_key.values().flatten().filter(|kept| of(&kept.record));
        // Wrapping: the distance from the newest is what counts.
        let oldest = all.max_by_key(|kept| self.clock.wrapping_sub(kept.since));
        if let Some((key, provider)) = oldest.map(|kept| (kept.record.key.clone(), kept.record.provider)) {
            self.remove_provider(&key, &provider);
        }
    }

    fn drop_expired(&mut self, now: Instant) {
        let all = self.by_key.values().flatten().map(|kept| &kept.record);
        let expired = all.filter(|record| record.is_expired(now));
        let expired: Vec<_> = expired.map(|record| (record.key.clone(), record.provider)).collect();
        for (key, provider) in expired {
            self.remove_provider(&key, &provider);
        }
    }
}

impl RecordStore for Records {
    type RecordsIter<'a> = iter::Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> =
        iter::Map<std::slice::Iter<'a, ProviderRecord>, fn(&'a ProviderRecord) -> Cow<'a, ProviderRecord>>;

    fn get(&self, _: &RecordKey) -> Option<Cow<'_, Record>> {
        None
    }

    fn put(&mut self, _: Record) -> Result<()> {
        Err(Error::MaxRecords)
    }

    fn remove(&mut self, _: &RecordKey) {}

    fn records(&self) -> Self::RecordsIter<'_> {
        iter::empty()
    }

    fn add_provider(&mut self, mut record: ProviderRecord) -> Result<()> {
        if record.provider == self.me {
            if !self.own.contains(&record) {
                self.own.push(record);
            }
            return Ok(());
        }
        if record.key.as_ref().len() > limits::DHT_KEY_BYTES {
            return Err(Error::ValueTooLarge);
        }
        record.addresses.retain(|addr| addr.len() <= limits::ADDRESS_BYTES);
        record.addresses.truncate(limits::DHT_ADDRESSES);
        self.clock = self.clock.wrapping_add(1);
        let mut of_key = self.by_key.get_mut(&record.key).into_iter().flatten();
        if let Some(kept) = of_key.find(|kept| kept.record.provider == record.provider) {
            *kept = Kept { record, since: self.clock };
            return Ok(());
        }
        self.make_room(&record.key, &record.provider);
        *self.by_provider.entry(record.provider).or_default() += 1;
        self.count += 1;
        self.by_key.entry(record.key.clone()).or_default().push(Kept { record, since: self.clock });
        Ok(())
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        let own = self.own.iter().filter(|record| record.key == *key);
        // The newest first: an answer has room for some of them only.
        let mut kept: Vec<&Kept> = self.by_key.get(key).into_iter().flatten().collect();
        kept.sort_by_key(|kept| self.clock.wrapping_sub(kept.since));
        own.chain(kept.into_iter().map(|kept| &kept.record)).cloned().collect()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        self.own.iter().map(Cow::Borrowed)
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        if *provider == self.me {
            return self.own.retain(|record| record.key != *key);
        }
        let Entry::Occupied(mut of_key) = self.by_key.entry(key.clone()) else { return };
        let before = of_key.get().len();
        of_key.get_mut().retain(|kept| kept.record.provider != *provider);
        if of_key.get().len() == before {
            return;
        }
        self.count -= 1;
        if of_key.get().is_empty() {
            of_key.remove();
        }
        if let Entry::Occupied(mut of_provider) = self.by_provider.entry(*provider) {
            match of_provider.get() {
                1 => drop(of_provider.remove()),
                _ => *of_provider.get_mut() -= 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn key(n: u32) -> RecordKey {
        RecordKey::new(&n.to_be_bytes())
    }

    fn record(n: u32, provider: PeerId) -> ProviderRecord {
        let expires = Some(Instant::now() + Duration::from_secs(3600));
        ProviderRecord { key: key(n), provider, expires, addresses: Vec::new() }
    }

    fn records() -> Records {
        Records::new(PeerId::random())
    }

    #[test]
    fn one_provider_cannot_fill_the_store() {
        let (mut records, honest, greedy) = (records(), PeerId::random(), PeerId::random());
        records.add_provider(record(1, honest)).expect("taken");
        for n in 0..10_000 {
            records.add_provider(record(n, greedy)).expect("taken");
        }
        assert_eq!(records.len(), 1 + limits::DHT_KEYS_PER_PROVIDER);
        assert_eq!(records.providers(&key(1)).len(), 1, "the honest one's");
    }

    #[test]
    fn a_key_keeps_its_newest_providers() {
        let mut records = records();
        let first = PeerId::random();
        records.add_provider(record(1, first)).expect("taken");
        for n in 0..2 * limits::DHT_PROVIDERS_PER_KEY {
            if n % 8 == 0 {
                records.add_provider(record(1, first)).expect("renewed");
            }
            records.add_provider(record(1, PeerId::random())).expect("taken");
        }
        let providers = records.providers(&key(1));
        assert_eq!(providers.len(), limits::DHT_PROVIDERS_PER_KEY);
        assert!(providers.iter().any(|record| record.provider == first), "who renews stays");
    }

    #[test]
    fn own_keys_are_apart() {
        let mut records = records();
        let me = records.me;
        records.add_provider(record(1, me)).expect("taken");
        records.add_provider(record(1, me)).expect("taken");
        assert_eq!((records.len(), records.provided().count(), records.providers(&key(1)).len()), (0, 1, 1));
        records.remove_provider(&key(1), &me);
        assert_eq!(records.provided().count(), 0);
    }

    #[test]
    fn addresses_and_values_are_bounded() {
        let mut records = records();
        let mut long = record(1, PeerId::random());
        long.addresses = vec!["/ip4/192.0.2.1/tcp/1".parse().expect("valid"); 100];
        records.add_provider(long).expect("taken");
        assert_eq!(records.providers(&key(1))[0].addresses.len(), limits::DHT_ADDRESSES);
        let value = Record::new(key(1), vec![0; 10]);
        assert!(records.put(value).is_err());
        let long = ProviderRecord::new(vec![0; limits::DHT_KEY_BYTES + 1], PeerId::random(), Vec::new());
        assert!(records.add_provider(long).is_err());
    }

    proptest! {
        #[test]
        fn the_counts_are_true(steps in prop::collection::vec((0u32..40, 0usize..40, any::<bool>()), 0..600)) {
            let peers: Vec<PeerId> = (0..40).map(|_| PeerId::random()).collect();
            let mut records = records();
            for (n, peer, add) in steps {
                match add {
                    true => records.add_provider(record(n, peers[peer])).expect("taken"),
                    false => records.remove_provider(&key(n), &peers[peer]),
                }
            }
            let all: usize = records.by_key.values().map(Vec::len).sum();
            prop_assert_eq!(all, records.len());
            prop_assert_eq!(all, records.by_provider.values().sum::<usize>());
            prop_assert!(records.by_key.values().all(|kept| !kept.is_empty()));
        }
    }
}
