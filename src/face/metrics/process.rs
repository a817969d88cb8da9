//! What the kernel says of this process (proc(5)), by the names that Prometheus' client libraries have for it.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

/// What the process uses; what cannot be read is not told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Usage {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    /// Since 1970 by the clock as it is now: where that is set after the start, this moves along.
    pub(super) start_seconds: Option<f64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
    pub(super) threads: Option<u64>,
}

impl Usage {
    pub(super) fn now() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let stat = Stat::parse(&read("/proc/self/stat"));
        let hertz = rustix::param::clock_ticks_per_second().max(1) as f64;
        let page = rustix::param::page_size() as u64;
        let up = clock_gettime(ClockId::Boottime);
        let up = up.tv_sec as f64 + up.tv_nsec as f64 / 1e9;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|time| time.as_secs_f64());
        let started = |stat: &Stat| Some(now? - (up - stat.started as f64 / hertz));
        Usage {
            cpu_seconds: stat.as_ref().map(|stat| stat.cpu as f64 / hertz),
            resident_bytes: stat.as_ref().map(|stat| stat.resident_pages * page),
            virtual_bytes: stat.as_ref().map(|stat| stat.virtual_bytes),
            start_seconds: stat.as_ref().and_then(started),
            // One of them is the directory that is being read.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|fds| (fds.count() as u64).saturating_sub(1)),
            max_fds: getrlimit(Resource::Nofile).current,
            threads: stat.map(|stat| stat.threads),
        }
    }
}

/// Fields of `/proc/self/stat`; times are in clock ticks.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu: u64,
    threads: u64,
    /// After the boot.
    started: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(stat: &str) -> Option<Self> {
        // The second field is the program's name in brackets, which may have anything in it.
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        // proc(5) counts from 1, and two fields are gone.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Stat {
            cpu: field(14)? + field(15)?,
            threads: field(20)?,
            started: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let line = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 2 0 3600 4096000 321 18446744073709551615 1\n";
        let stat =
            Stat { cpu: 300, threads: 2, started: 3600, virtual_bytes: 4_096_000, resident_pages: 321 };
        assert_eq!(Stat::parse(line), Some(stat));
        for bad in
            ["", "7 (a", "7 (a) S 1 2", "7 (a) S 1 2 3 4 5 6 7 8 9 10 -1 50 0 0 20 0 2 0 3600 4096000 321"]
        {
            assert_eq!(Stat::parse(bad), None);
        }
    }

    #[test]
    fn this_process_is_there() {
        let usage = Usage::now();
        assert!(
            usage.resident_bytes > Some(100_000) && usage.virtual_bytes >= usage.resident_bytes,
            "{usage:?}"
        );
        assert!(
            usage.open_fds >= Some(3) && usage.threads >= Some(1) && usage.max_fds >= usage.open_fds,
            "{usage:?}"
        );
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        let age = now - usage.start_seconds.expect("a time");
        assert!((-1.0..100_000.0).contains(&age), "{age}");
    }
}
