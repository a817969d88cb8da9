//! What an operator reads on standard error: one line for each thing, whatever it quotes.

use std::{
    env,
    io::{self, Write},
    os::fd::AsFd,
    sync::{PoisonError, RwLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use env_logger::{Builder, Logger};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::rooms::unprintable;

/// How much to log, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// 0 warnings, 1 info, 2 debug, 3 trace; `RUST_LOG` goes first.
    pub verbosity: u8,
    /// How a line looks.
    pub format: Format,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `[INFO  warren::node] text`.
    #[default]
    Full,
    /// `2026-11-21T22:43:14.123Z [INFO  warren::node] text`, for a file.
    Timed,
    /// `info: text`, for syslog and logread, which know the time and the program.
    Plain,
    /// `<6>text`: the level as sd-daemon(3) has it, which the journal takes out of the line again.
    Journal,
}

impl Format {
    /// [`Self::Journal`] if standard error goes there, else [`Self::Full`].
    pub fn usual() -> Self {
        let goes_there = || {
            let stat = rustix::fs::fstat(io::stderr().as_fd()).ok()?;
            Some(env::var("JOURNAL_STREAM").ok()? == format!("{}:{}", stat.st_dev, stat.st_ino))
        };
        if goes_there().unwrap_or(false) { Format::Journal } else { Format::Full }
    }

    /// One line with its end.
    fn line(self, level: Level, target: &str, text: &str, now: SystemTime) -> String {
        let mut line = match self {
            Format::Full => format!("[{level:<5} {target}] "),
            Format::Timed => format!("{} [{level:<5} {target}] ", utc(now)),
            Format::Plain => format!("{}: ", level.as_str().to_ascii_lowercase()),
            Format::Journal => format!("<{}>", priority(level)),
        };
        for c in text.chars() {
            match unprintable(c) {
                true => line.extend(c.escape_default()),
                false => line.push(c),
            }
        }
        line.push('\n');
        line
    }
}

/// The log of this process, which can become another one.
struct Current(RwLock<Option<Logger>>);

static CURRENT: Current = Current(RwLock::new(None));

/// Logs from now on, or from now on otherwise.
pub fn set(config: LogConfig) {
    let level = match config.verbosity {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let write = move |to: &mut env_logger::fmt::Formatter, record: &Record<'_>| {
        let text = record.args().to_string();
        to.write_all(config.format.line(record.level(), record.target(), &text, SystemTime::now()).as_bytes())
    };
    let logger = Builder::new().filter_level(level).parse_default_env().format(write).build();
    log::set_max_level(logger.filter());
    *CURRENT.0.write().unwrap_or_else(PoisonError::into_inner) = Some(logger);
    // From the second time on it is there already.
    let _ = log::set_logger(&CURRENT);
}

impl Current {
    fn with(&self, act: impl FnOnce(&Logger)) {
        if let Some(logger) = self.0.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            act(logger);
        }
    }
}

impl Log for Current {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let mut is_enabled = false;
        self.with(|logger| is_enabled = logger.enabled(metadata));
        is_enabled
    }

    fn log(&self, record: &Record<'_>) {
        self.with(|logger| logger.log(record));
    }

    fn flush(&self) {
        self.with(Log::flush);
    }
}

/// Of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// RFC 3339 with milliseconds.
fn utc(now: SystemTime) -> String {
    // A clock before 1970 stands at its beginning.
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// The Gregorian date of a day since 1970. Years are counted from March on, so that a leap day is the last one.
fn date(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097; // days of 400 years
    let days = days + 719_468; // from the first of March of the year 0
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, (month + 2) % 12 + 1);
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7)
    }

    #[test]
    fn a_line_is_one_line_whatever_it_quotes() {
        let text = "it says 'a\n<0>b\u{1b}[2J'";
        let line = |format: Format| format.line(Level::Warn, "warren::node", text, at(0));
        assert_eq!(line(Format::Full), "[WARN  warren::node] it says 'a\\n<0>b\\u{1b}[2J'\n");
        assert_eq!(line(Format::Plain), "warn: it says 'a\\n<0>b\\u{1b}[2J'\n");
        assert_eq!(line(Format::Journal), "<4>it says 'a\\n<0>b\\u{1b}[2J'\n");
        assert!(line(Format::Timed).starts_with("1970-01-01T00:00:00.007Z [WARN  warren::node] it"));
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        // By `date -u -d @N`.
        for (seconds, text) in [
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (951_868_800, "2000-03-01T00:00:00.007Z"),
            (1_709_164_800, "2024-02-29T00:00:00.007Z"),
            (1_735_689_599, "2024-12-31T23:59:59.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            assert_eq!(utc(at(seconds)), text);
        }
    }
}
