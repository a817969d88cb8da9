//! What was seen in one IP family, and what of it has been told.

use std::{net::SocketAddr, time::Instant};

use async_channel::{Sender, TrySendError};

use super::Event;
use crate::nat::stun::{
    Family,
    verdict::{Evidence, FilterTest, Filtering, Observation, Verdict},
};

pub(super) struct Outlook {
    family: Family,
    evidence: Evidence,
    /// There was somebody to ask.
    is_asked: bool,
    /// The check is over.
    pub(super) is_done: bool,
    /// The latest verdict that was, or is to be told.
    latest: Option<Verdict>,
    /// It is still to be told.
    is_untold: bool,
    /// The address that others shall use, and the one that was told.
    external: Option<SocketAddr>,
    told: Option<SocketAddr>,
}

/// What a check showed beside the verdict.
pub(super) struct Conclusion {
    pub(super) is_another_nat: bool,
    /// Its filtering is known, or was not before either.
    pub(super) is_whole: bool,
    /// It maps in another way than before.
    pub(super) is_another_kind: bool,
}

impl Outlook {
    pub(super) fn new(family: Family) -> Self {
        Outlook {
            family,
            evidence: Evidence::new(family),
            is_asked: false,
            is_done: true,
            latest: None,
            is_untold: false,
            external: None,
            told: None,
        }
    }

    /// A check begins. `is_asked`: there is a server to ask in this family.
    pub(super) fn begin(&mut self, is_asked: bool, now: Instant) {
        self.evidence.begin(now);
        self.is_done = false;
        self.is_asked = is_asked;
    }

    pub(super) fn observe(&mut self, observation: Observation, now: Instant) {
        self.evidence.observe(observation);
        self.set_external(&self.evidence.verdict(now));
    }

    pub(super) fn test(&mut self, test: FilterTest) {
        self.evidence.test(test);
    }

    /// The check has enough for a verdict, or is over.
    pub(super) fn conclude(&mut self, is_done: bool, is_wished: bool, now: Instant) -> Conclusion {
        self.is_done |= is_done;
        let verdict = self.evidence.verdict(now);
        self.set_external(&verdict);
        // Of a family that this machine does not have there is nothing to say, unless it had it before.
        let is_news = match &self.latest {
            Some(latest) => !latest.agrees_with(&verdict),
            None => self.is_asked,
        };
        let had_filtering = self.latest.as_ref().is_some_and(|latest| latest.filtering != Filtering::Unknown);
        let conclusion = Conclusion {
            is_another_nat: self.evidence.is_another_nat(),
            is_whole: !had_filtering || verdict.filtering != Filtering::Unknown,
            is_another_kind: self.latest.as_ref().is_some_and(|latest| latest.mapping != verdict.mapping),
        };
        if is_news {
            log::info!("{}", verdict.shown(now));
        }
        self.is_untold |= is_news || (is_wished && self.is_asked);
        if self.is_asked || self.latest.is_some() {
            self.latest = Some(verdict);
        }
        conclusion
    }

    /// Tells the latest verdict once more if it is still fresh.
    pub(super) fn repeat(&mut self, now: Instant) {
        self.is_untold |= self.latest.as_ref().is_some_and(|latest| latest.is_fresh(now));
    }

    pub(super) fn fresh_until(&self) -> Option<Instant> {
        self.evidence.fresh_until()
    }

    /// `false`: nobody listens any more.
    pub(super) fn tell(&mut self, news: &Sender<Event>) -> bool {
        match self.try_tell(news) {
            Ok(()) | Err(TrySendError::Full(_)) => true,
            Err(TrySendError::Closed(_)) => false,
        }
    }

    fn try_tell(&mut self, news: &Sender<Event>) -> Result<(), TrySendError<Event>> {
        let family = self.family;
        if self.told != self.external
            && let Some(addr) = self.told
        {
            news.try_send(Event::Expired { addr, family })?;
            self.told = None;
        }
        if self.told.is_none()
            && let Some(addr) = self.external
        {
            news.try_send(Event::External { addr, family })?;
            self.told = Some(addr);
        }
        if self.is_untold
            && let Some(verdict) = &self.latest
        {
            news.try_send(Event::Verdict(Box::new(verdict.clone())))?;
            self.is_untold = false;
        }
        Ok(())
    }

    /// An address is of use to others unless it is for one destination only.
    fn set_external(&mut self, verdict: &Verdict) {
        let is_useful = !verdict.mapping.depends_on_destination();
        self.external = verdict.external.first().copied().filter(|_| is_useful);
    }
}
