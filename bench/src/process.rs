//! What Linux tells about a running process.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

/// Clock ticks per second of the times in `/proc`: USER_HZ, 100 on every architecture Linux still runs on
/// (proc_pid_stat(5)).
const TICKS_PER_SECOND: u64 = 100;

/// A process at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User plus system time of all its threads, ended ones too; in steps of 10 ms.
    pub(crate) cpu: Duration,
    /// Resident memory, shared pages of its binary and libraries included.
    pub(crate) rss_kb: u64,
    /// Resident memory that belongs to no file: heap and stacks.
    pub(crate) anonymous_kb: u64,
    pub(crate) threads: u64,
    /// Context switches of all its present threads, voluntary (a wake-up ended in sleep) and involuntary.
    pub(crate) switches: u64,
}

pub(crate) fn usage(pid: u32) -> Result<Usage> {
    let dir = PathBuf::from(format!("/proc/{pid}"));
    let read = |name: &str| {
        let path = dir.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let rollup = read("smaps_rollup")?;
    let (threads, switches) = tasks(&dir.join("task"))?;
    Ok(Usage {
        cpu: cpu(&read("stat")?).context("/proc/PID/stat has another form than expected")?,
        rss_kb: field(&rollup, "Rss:"),
        anonymous_kb: field(&rollup, "Anonymous:"),
        threads,
        switches,
    })
}

/// utime and stime, fields 14 and 15. The second field is the name in parentheses and may hold anything.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ').skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

fn tasks(dir: &PathBuf) -> Result<(u64, u64)> {
    let (mut threads, mut switches) = (0, 0);
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        // A thread may end between the listing and the reading.
        let Ok(status) = fs::read_to_string(entry?.path().join("status")) else { continue };
        threads += 1;
        switches +=
            field(&status, "voluntary_ctxt_switches:") + field(&status, "nonvoluntary_ctxt_switches:");
    }
    Ok((threads, switches))
}

/// The number behind a name at the start of a line; 0 if there is none.
fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_process_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20";
        assert_eq!(cpu(stat), Some(Duration::from_secs(3)));
    }

    #[test]
    fn voluntary_switches_are_not_taken_from_the_involuntary_line() {
        let status = "nonvoluntary_ctxt_switches:\t5\nvoluntary_ctxt_switches:\t7\n";
        assert_eq!(field(status, "voluntary_ctxt_switches:"), 7);
        assert_eq!(field(status, "nonvoluntary_ctxt_switches:"), 5);
    }

    #[test]
    fn this_process_can_be_measured() -> Result<()> {
        let usage = usage(std::process::id())?;
        assert!(usage.rss_kb >= usage.anonymous_kb && usage.anonymous_kb > 0 && usage.threads >= 1);
        Ok(())
    }
}
