//! How far a node's clock may have come, kept in a small file, so that it never runs backwards: neither over a reboot
//! of a router without a clock chip, nor over a power cut.
//!
//! Peers know a message that they have seen by its author's timestamps, which rise. An author that begins again in 1970
//! is heard by its neighbours, to whom it speaks itself, but others take what they are handed on for a replay. So what
//! may be said within the next [`limits::CLOCK_RESERVE`] is written down before it is said, and the next life goes on
//! from there:
//!
//! ```text
//! # warren clock 1
//! # ...
//! 1790000000000            milliseconds since 1970: no timestamp of this node was as late
//! ```

use std::{
    fs, io,
    io::Read,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use super::{Clock, LAST_PLAUSIBLE_MS, PLAUSIBLE_MS, Timestamp, ms};
use crate::{files, limits};

/// The first line. Another number would mean that the last one means something else.
const HEADER: &str = "# warren clock 1";

const EXPLANATION: &str = "\
# The time up to which this node may have dated its messages, in milliseconds since 1970: the next start goes on from
# there, whatever the machine's clock says. Without this file it goes by that clock alone.
";

/// What is in the file, and when it has to be another. Pure.
#[derive(Debug)]
pub struct Reserve {
    /// No timestamp of this node is as late, as far as the file says.
    until: Timestamp,
    /// Where this life began to count because the wall clock was behind: as long as it does no more, little is used.
    counting_from: Option<Timestamp>,
    /// The wall clock at the start, and when that was.
    start: (SystemTime, Instant),
    /// Somebody or something agrees with the wall clock.
    is_trusted: bool,
    /// Nothing speaks for it: it is not later than what was written down in an earlier life, or there was none.
    is_doubtful: bool,
    /// Writes that are allowed now, and when they were counted.
    allowed: (u32, Instant),
}

impl Reserve {
    /// With what the file says. `clock` goes on from there.
    pub fn new(file: Option<Timestamp>, clock: &mut Clock, wall: SystemTime, now: Instant) -> Self {
        let until = file.unwrap_or_default();
        let is_behind = until > clock.latest();
        clock.begin_at(until);
        Reserve {
            until,
            counting_from: is_behind.then_some(until),
            start: (wall, now),
            is_trusted: false,
            is_doubtful: is_behind || file.is_none(),
            allowed: (limits::CLOCK_SAVES, now),
        }
    }

    /// What the file must say for this life to begin.
    pub fn begin(&mut self, clock: &Clock, wall: SystemTime) -> Timestamp {
        self.until = self.end_of_stretch(clock, wall);
        self.until
    }

    /// What the file must say from now on, if that is something else. To be asked whenever `clock` has moved.
    pub fn wanted(&mut self, clock: &Clock, wall: SystemTime, now: Instant) -> Option<Timestamp> {
        self.is_trusted = self.is_trusted || self.has_been_set(wall, now);
        let until = self.end_of_stretch(clock, wall);
        let used = self.used(clock, wall);
        let left = if self.is_counting(used) { Duration::ZERO } else { limits::CLOCK_LEFT };
        // The file may also be years ahead of a clock that is right by now.
        let is_far = self.is_trusted && self.until > until.ahead(limits::CLOCK_AHEAD);
        if (used.ahead(left) < self.until && !is_far) || !self.is_allowed(now) {
            return None;
        }
        self.until = until;
        Some(until)
    }

    /// A neighbour says what time it is. Who says about the same as the wall clock vouches for it.
    pub fn told(&mut self, time: Timestamp, wall: SystemTime) {
        let wall = ms(wall);
        let is_near = time.ms().abs_diff(wall) < limits::CLOCK_AHEAD.as_millis() as u64;
        self.is_trusted = self.is_trusted || (is_near && is_plausible(wall));
    }

    /// Whether the wall clock may be years behind, though it shows a time that can be: firmware without a clock chip
    /// begins when it was made. To one that went on while the machine was off, that was set since the start, or that a
    /// neighbour agrees with, no other neighbour can say so.
    pub fn is_doubtful(&self) -> bool {
        self.is_doubtful && !self.is_trusted
    }

    /// What the file may say after a clean end, of which no more is to come than a goodbye. `None`: as it does.
    pub fn end(&mut self, clock: &Clock, wall: SystemTime) -> Option<Timestamp> {
        let until = self.used(clock, wall).ahead(limits::CLOCK_COUNT);
        (until != self.until && until.ahead(limits::CLOCK_STEP) < self.until).then(|| {
            self.until = until;
            until
        })
    }

    /// How far the clock has come. One that was carried away goes back, once it is sure that it was: a machine that was
    /// once in 2080 shall not be there for ever.
    fn used(&self, clock: &Clock, wall: SystemTime) -> Timestamp {
        if self.is_carried_away(clock, wall) { Timestamp::from_ms(ms(wall)) } else { clock.latest() }
    }

    /// Whether the clock is days ahead of a wall clock that is right: it was there when that one was wrong, or followed
    /// somebody.
    pub fn is_carried_away(&self, clock: &Clock, wall: SystemTime) -> bool {
        self.is_trusted && clock.latest() > Timestamp::from_ms(ms(wall)).ahead(2 * limits::CLOCK_AHEAD)
    }

    fn end_of_stretch(&self, clock: &Clock, wall: SystemTime) -> Timestamp {
        let used = self.used(clock, wall);
        match self.is_counting(used) {
            // So a machine that starts again and again stays where it is.
            true => {
                used.ahead(limits::CLOCK_COUNT).max(Timestamp::from_ms(ms(wall)).ahead(limits::CLOCK_RESERVE))
            }
            false => used.ahead(limits::CLOCK_RESERVE),
        }
    }

    fn is_counting(&self, used: Timestamp) -> bool {
        self.counting_from.is_some_and(|from| used < from.ahead(limits::CLOCK_COUNT) && used >= from)
    }

    /// Whether the wall clock was set since the start, in whichever direction, to a time that can be.
    fn has_been_set(&self, wall: SystemTime, now: Instant) -> bool {
        let (wall_then, then) = self.start;
        let expected = wall_then + now.saturating_duration_since(then);
        let off = wall.duration_since(expected).unwrap_or_else(|e| e.duration());
        off > limits::CLOCK_STEP && is_plausible(ms(wall))
    }

    /// What others say can make the clock run, but not wear out the flash.
    fn is_allowed(&mut self, now: Instant) -> bool {
        let (left, then) = self.allowed;
        let passed = now.saturating_duration_since(then).as_secs() / limits::CLOCK_SAVE_EVERY.as_secs();
        let earned = u32::try_from(passed).unwrap_or(u32::MAX);
        let left = left.saturating_add(earned).min(limits::CLOCK_SAVES);
        let counted = then + limits::CLOCK_SAVE_EVERY * earned.min(limits::CLOCK_SAVES);
        let counted = if left == limits::CLOCK_SAVES { now } else { counted };
        self.allowed = (left.saturating_sub(1), counted);
        left > 0
    }
}

fn is_plausible(ms: u64) -> bool {
    (PLAUSIBLE_MS..=LAST_PLAUSIBLE_MS).contains(&ms)
}

/// Reads the file. `None` where there is none, or it says nothing that could be.
///
/// # Errors
/// Those of the file system.
pub fn load(path: &Path) -> io::Result<Option<Timestamp>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut bytes = Vec::new();
    file.take(limits::CLOCK_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(from_text(&String::from_utf8_lossy(&bytes)))
}

/// Replaces the file, at once or not at all.
///
/// # Errors
/// Those of the file system: the node does without, so say it and go on.
pub fn save(path: &Path, until: Timestamp) -> io::Result<()> {
    files::write_atomically(path, to_text(until).as_bytes())
}

fn to_text(until: Timestamp) -> String {
    // Rounded up.
    format!("{HEADER}\n{EXPLANATION}{}\n", until.ms().saturating_add(1))
}

fn from_text(text: &str) -> Option<Timestamp> {
    let mut lines = text.lines();
    if lines.next()?.trim_end() != HEADER {
        return None;
    }
    let ms: u64 = lines.find(|line| !line.starts_with('#'))?.trim().parse().ok()?;
    let latest = LAST_PLAUSIBLE_MS + 2 * limits::CLOCK_AHEAD.as_millis() as u64;
    (ms <= latest).then(|| Timestamp::from_ms(ms))
}

#[cfg(test)]
mod tests;
