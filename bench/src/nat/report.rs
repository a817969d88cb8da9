//! What came of all meetings: tables for people, lines of JSON for the record.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use super::kinds::{Expected, LIKELY, expected};
use super::trial::{Outcome, Trial};
use crate::lab::kind::{KINDS, Kind};
use crate::table::{Limit, Table, aim, median};

/// Aims for pairs that need no more than a punch. Unit: seconds from the first connection to the direct one.
const MEDIAN: f64 = 1.0;
const P99: f64 = 3.0;

/// One meeting in a line.
pub(super) fn line(trial: &Trial) -> String {
    let mut line = format!(
        "{:>4} {} x {}: {:?}, heard after {}, direct after {}, packets {} + {}, {} of {} lines lost, {} twice",
        trial.number,
        trial.a,
        trial.b,
        trial.outcome,
        seconds(trial.to_message),
        seconds(trial.to_direct),
        trial.packets[0],
        trial.packets[1],
        trial.lost,
        trial.said,
        trial.repeated,
    );
    if let Some(trouble) = &trial.trouble {
        line.push_str("; ");
        line.push_str(trouble);
    }
    line
}

/// Adds all meetings to a file.
pub(super) fn record(file: &Path, trials: &[Trial]) -> Result<()> {
    let mut out = std::fs::File::options().append(true).create(true).open(file);
    let out = out.as_mut().ok().with_context(|| format!("cannot write {}", file.display()))?;
    for trial in trials {
        let line = json!({
            "a": trial.a.to_string(),
            "b": trial.b.to_string(),
            "trial": trial.number,
            "expected": expected(trial.a, trial.b).to_string(),
            "outcome": word(trial.outcome),
            "toMessageS": trial.to_message,
            "toDirectS": trial.to_direct,
            "addrs": trial.addrs,
            "packets": trial.packets,
            "said": trial.said,
            "lost": trial.lost,
            "repeated": trial.repeated,
            "trouble": trial.trouble,
        });
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Prints the tables. Returns what is worse than expected.
pub(super) fn print(pairs: &[(Kind, Kind)], trials: &[Trial]) -> Vec<String> {
    let of = |a: Kind, b: Kind| -> Vec<&Trial> {
        trials.iter().filter(|trial| (trial.a, trial.b) == (a.min(b), a.max(b))).collect()
    };
    let used: Vec<Kind> =
        KINDS.into_iter().filter(|kind| pairs.iter().any(|(a, b)| a == kind || b == kind)).collect();
    if pairs.len() > 1 {
        matrix(&used, |a, b| summary(&of(a, b)));
    }
    let mut cells = Table::new(&[
        "pair", "expected", "direct", "relayed", "failed", "heard s", "direct s", "worst", "packets", "lost",
        "twice",
    ]);
    let mut failures = Vec::new();
    for (a, b) in pairs {
        let of = of(*a, *b);
        cells.row(&row(*a, *b, &of));
        failures.extend(of.iter().filter_map(|trial| flaw(trial)));
        failures.extend(shortfall(*a, *b, &of));
    }
    failures.extend(bad_luck(trials));
    cells.print();
    let plain = trials.iter().filter(|trial| expected(trial.a, trial.b) == Expected::Direct);
    let mut times: Vec<f64> = plain.filter_map(|trial| trial.to_direct).collect();
    times.sort_by(f64::total_cmp);
    if let Some(p99) = times.get((times.len() * 99).div_ceil(100).saturating_sub(1)) {
        println!();
        aim("time to direct, median", median(&times), " s", Limit::AtMost(MEDIAN));
        aim("time to direct, p99", *p99, " s", Limit::AtMost(P99));
    }
    failures
}

fn matrix(kinds: &[Kind], cell: impl Fn(Kind, Kind) -> String) {
    let names: Vec<String> = kinds.iter().map(Kind::to_string).collect();
    let heading: Vec<&str> = std::iter::once("").chain(names.iter().map(String::as_str)).collect();
    let mut table = Table::new(&heading);
    for (row, a) in kinds.iter().enumerate() {
        let cells = kinds.iter().enumerate().map(
            |(column, b)| {
                if column < row { String::new() } else { cell(*a, *b) }
            },
        );
        table.row(&std::iter::once(a.to_string()).chain(cells).collect::<Vec<_>>());
    }
    table.print();
    println!();
}

/// `direct 0.45`, `relayed`, `direct 3/4`.
fn summary(trials: &[&Trial]) -> String {
    let count = |outcome| trials.iter().filter(|trial| trial.outcome == outcome).count();
    let times: Vec<f64> = trials.iter().filter_map(|trial| trial.to_direct).collect();
    match (count(Outcome::Direct), count(Outcome::Relayed), count(Outcome::Failed)) {
        (0, 0, 0) => String::new(),
        (direct, 0, 0) if direct > 0 => format!("direct {:.2}", median(&times)),
        (0, _, 0) => "relayed".to_owned(),
        (direct, _, 0) => format!("direct {direct}/{}", trials.len()),
        (.., failed) => format!("FAILED {failed}/{}", trials.len()),
    }
}

fn row(a: Kind, b: Kind, trials: &[&Trial]) -> Vec<String> {
    let count = |outcome| trials.iter().filter(|trial| trial.outcome == outcome).count().to_string();
    let sum = |of: fn(&Trial) -> usize| trials.iter().map(|trial| of(trial)).sum::<usize>().to_string();
    let times =
        |of: fn(&Trial) -> Option<f64>| trials.iter().filter_map(|trial| of(trial)).collect::<Vec<_>>();
    let direct = times(|trial| trial.to_direct);
    let worst = direct.iter().copied().reduce(f64::max);
    let packets: Vec<f64> =
        trials.iter().flat_map(|trial| trial.packets).map(|packets| packets as f64).collect();
    vec![
        format!("{a} x {b}"),
        expected(a, b).to_string(),
        count(Outcome::Direct),
        count(Outcome::Relayed),
        count(Outcome::Failed),
        figure(median(&times(|trial| trial.to_message))),
        figure(median(&direct)),
        figure(worst.unwrap_or(f64::NAN)),
        format!("{:.0}", median(&packets)),
        sum(|trial| trial.lost),
        sum(|trial| trial.repeated),
    ]
}

/// What no meeting may end with.
fn flaw(trial: &Trial) -> Option<String> {
    let flaw = match trial {
        Trial { trouble: Some(trouble), .. } => trouble.clone(),
        Trial { outcome: Outcome::Failed, .. } => "they did not hear each other".to_owned(),
        Trial { lost, .. } if *lost > 0 => format!("{lost} lines were lost"),
        Trial { repeated, .. } if *repeated > 0 => format!("{repeated} lines were shown twice"),
        _ => return None,
    };
    Some(format!("{} x {}, meeting {}: {flaw}", trial.a, trial.b, trial.number))
}

/// Meetings of those that are left to chance that may end otherwise than is likely: as many as `least` leaves, and a few
/// where there are too few meetings for it to mean anything.
fn misses(meetings: usize, least: f64, few: usize) -> usize {
    // Of 60 at 95 %, 3, though that product is a little less.
    few.max((meetings as f64 * (1.0 - least) + 1e-6) as usize)
}

/// Whether the pairs that are left to chance, together, are worse than expected. With one meeting each, a pair alone
/// says nothing.
fn bad_luck(trials: &[Trial]) -> Option<String> {
    let likely = |trial: &&Trial| matches!(expected(trial.a, trial.b), Expected::Likely(_));
    let likely: Vec<&Trial> = trials.iter().filter(likely).collect();
    let missed = likely.iter().filter(|trial| trial.outcome != Outcome::Direct).count();
    let is_much = missed > misses(likely.len(), LIKELY, 2);
    is_much.then(|| format!("of all {} meetings with a likely end, {missed} had another one", likely.len()))
}

/// Whether a pair is worse than expected, or better than can be.
fn shortfall(a: Kind, b: Kind, trials: &[&Trial]) -> Option<String> {
    let direct = trials.iter().filter(|trial| trial.outcome == Outcome::Direct).count();
    let expected = expected(a, b);
    let is_met = match expected {
        Expected::Direct => direct == trials.len(),
        Expected::Likely(least) => trials.len() - direct <= misses(trials.len(), least, 1),
        Expected::Relayed => direct == 0,
    };
    (!is_met).then(|| format!("{a} x {b}: expected {expected}, direct were {direct} of {}", trials.len()))
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Direct => "direct",
        Outcome::Relayed => "relayed",
        Outcome::Failed => "failed",
    }
}

fn seconds(time: Option<f64>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{time:.2} s"))
}

fn figure(value: f64) -> String {
    if value.is_nan() { "-".to_owned() } else { format!("{value:.2}") }
}
