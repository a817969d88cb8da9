//! The clock of a gateway, which begins anew when it forgets its mappings.

use std::time::Instant;

/// The last that was heard, and when.
#[derive(Default)]
pub(super) struct Epoch {
    last: Option<(u32, Instant)>,
}

impl Epoch {
    /// Whether a clock that shows `epoch` has run on since the last time (RFC 6887, section 8.5; RFC 6886, section
    /// 3.6, has a rule with more tolerance).
    pub(super) fn fits(&self, epoch: u32, now: Instant) -> bool {
        let Some((then, at)) = self.last else { return true };
        // Out of order, by no more than a second.
        if u64::from(epoch) + 1 < u64::from(then) {
            return false;
        }
        let ours = now.saturating_duration_since(at).as_secs();
        let theirs = u64::from(epoch.saturating_sub(then));
        ours + 2 >= theirs - theirs / 16 && theirs + 2 >= ours - ours / 16
    }

    /// The same, and remembers it.
    pub(super) fn update(&mut self, epoch: u32, now: Instant) -> bool {
        let fits = self.fits(epoch, now);
        self.last = Some((epoch, now));
        fits
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_that_drifts_fits_and_one_that_was_set_back_does_not() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1600);
        let mut epoch = Epoch::default();
        assert!(epoch.update(5000, now), "the first time says nothing");
        for (theirs, fits) in [
            (4998, false),
            (5000, false),
            (6497, false),
            (6498, true),
            (6600, true),
            (6708, true),
            (6710, false),
        ] {
            assert_eq!(epoch.fits(theirs, later), fits, "{theirs}");
        }
        assert!(epoch.fits(4999, now), "datagrams may overtake each other");
        assert!(!epoch.update(3, later) && epoch.update(4, later), "the new clock counts from now on");
        assert!(epoch.fits(u32::MAX, later + Duration::from_secs(u32::MAX.into())));
    }
}
