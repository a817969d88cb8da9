//! The node's clock over restarts: what it may come to is written down before it comes to it.

use std::{
    path::{Path, PathBuf},
    time::{Instant, SystemTime},
};

use super::Node;
use crate::{
    aside::aside,
    config::Config,
    rooms::clock::{self, Clock, Reserve, Timestamp},
};

/// Where it is kept, if it is.
pub(super) struct Times(Option<(PathBuf, Reserve)>);

impl Times {
    /// `clock` goes on from where an earlier run may have been.
    pub(super) fn new(config: &Config, clock: &mut Clock) -> Self {
        // Plain messages have no time.
        let Some(path) = config.kept.as_ref().filter(|_| !config.plain).map(|kept| &kept.clock) else {
            return Times(None);
        };
        let file = clock::load(path).unwrap_or_else(|e| {
            log::warn!("'{}' cannot be read, so this node goes by the machine's clock: {e}", path.display());
            None
        });
        let reserve = Reserve::new(file, clock, SystemTime::now(), Instant::now());
        Times(Some((path.clone(), reserve)))
    }
}

impl Node {
    /// Nothing has been said yet in this life: what it begins with is written first, and waited for.
    pub(super) fn begin_time(&mut self) {
        if let Times(Some((path, reserve))) = &mut self.times {
            let until = reserve.begin(&self.clock, SystemTime::now());
            write(path, until);
        }
    }

    /// A message that is new says that it is `time` elsewhere. `is_live`: a neighbour says so of itself, just now.
    pub(super) fn follow_time(&mut self, time: Timestamp, is_live: bool, wall: SystemTime) {
        let mut is_doubtful = false;
        if let Times(Some((_, reserve))) = &mut self.times
            && is_live
        {
            reserve.told(time, wall);
            is_doubtful = reserve.is_doubtful();
        }
        self.clock.follow(time, wall, is_doubtful);
        self.keep_time();
    }

    /// The clock has moved.
    pub(super) fn keep_time(&mut self) {
        let Times(Some((path, reserve))) = &mut self.times else { return };
        let wall = SystemTime::now();
        let wanted = reserve.wanted(&self.clock, wall, Instant::now());
        if reserve.is_carried_away(&self.clock, wall) {
            log::warn!(
                "the clock of messages was days ahead of the machine's, which is right by now: it goes back"
            );
            self.clock.go_back(wall);
        }
        let (Some(until), path) = (wanted, path.clone()) else { return };
        // Flash may take a second for it; there is more left than that. Nobody waits for the answer.
        if let Err(e) = aside(move || write(&path, until)) {
            log::warn!("how far the clock has come cannot be written down: {e}");
        }
    }

    /// What was written down ahead is given back, but for a goodbye. It is little, and waited for; nothing is written
    /// after that.
    pub(super) fn end_time(&mut self) {
        if let Times(Some((path, mut reserve))) = std::mem::replace(&mut self.times, Times(None))
            && let Some(until) = reserve.end(&self.clock, SystemTime::now())
        {
            write(&path, until);
        }
    }
}

fn write(path: &Path, until: Timestamp) {
    if let Err(e) = clock::save(path, until) {
        log::warn!("'{}' cannot be written, so a reboot may set this node's clock back: {e}", path.display());
    }
}
