//! What came of all faults: a table for people, lines of JSON for the record.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use super::fault::Fault;
use crate::table::Table;

/// Unit: seconds from the fault until all of a room hear each other again.
const AIM: f64 = 30.0;

/// What a fault did to one room.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) fault: Fault,
    pub(super) number: usize,
    pub(super) room: &'static str,
    /// From the fault until each hears all that each other one says. `None`: not within the time that was given.
    /// Unit: seconds.
    pub(super) resumed: Option<f64>,
    /// Lines that were to be heard of those whose connection was not touched, and were not.
    pub(super) kept_lost: usize,
    /// Lines that were to be heard from a moment before the fault to the end, by all of the room.
    pub(super) said: usize,
    pub(super) lost: usize,
    /// Of those, the ones that the speaker's program had taken: the speaker does not know.
    pub(super) taken_lost: usize,
    pub(super) repeated: usize,
    /// How `a` and `b` were connected before and in the end.
    pub(super) paths: [String; 2],
    /// From the fault until `a` and `b` called their connection direct for the last time, if they did so after the
    /// fault. Unit: seconds.
    pub(super) direct: Option<f64>,
    /// What else went wrong.
    pub(super) trouble: Option<String>,
}

/// One room in a line.
pub(super) fn line(record: &Record) -> String {
    let mut line = format!(
        "{:>3} {} {}: resumed after {}, {} -> {}, {} of {} lines lost, {} of them taken, {} between untouched, {} twice",
        record.number,
        record.fault,
        record.room,
        record.resumed.map_or_else(|| "-".to_owned(), |time| format!("{time:.1} s")),
        record.paths[0],
        record.paths[1],
        record.lost,
        record.said,
        record.taken_lost,
        record.kept_lost,
        record.repeated,
    );
    if let Some(trouble) = &record.trouble {
        line.push_str("; ");
        line.push_str(trouble);
    }
    line
}

/// Adds all of them to a file.
pub(super) fn record(file: &Path, records: &[Record]) -> Result<()> {
    let mut out = std::fs::File::options().append(true).create(true).open(file);
    let out = out.as_mut().ok().with_context(|| format!("cannot write {}", file.display()))?;
    for record in records {
        let line = json!({
            "fault": record.fault.to_string(),
            "trial": record.number,
            "room": record.room,
            "resumedS": record.resumed,
            "untouchedLost": record.kept_lost,
            "said": record.said,
            "lost": record.lost,
            "takenLost": record.taken_lost,
            "repeated": record.repeated,
            "pathBefore": record.paths[0],
            "pathAfter": record.paths[1],
            "directS": record.direct,
            "trouble": record.trouble,
        });
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Prints the table. Returns the aims that were missed.
pub(super) fn print(records: &[Record]) -> Vec<String> {
    let mut table = Table::new(&[
        "fault",
        "room",
        "resumed s",
        "direct s",
        "before",
        "after",
        "said",
        "lost",
        "taken",
        "untouched",
        "twice",
    ]);
    let seconds = |time: Option<f64>| time.map_or_else(|| "-".to_owned(), |time| format!("{time:.1}"));
    for record in records {
        table.row(&[
            record.fault.to_string(),
            record.room.to_owned(),
            seconds(record.resumed),
            seconds(record.direct),
            record.paths[0].clone(),
            record.paths[1].clone(),
            record.said.to_string(),
            record.lost.to_string(),
            record.taken_lost.to_string(),
            record.kept_lost.to_string(),
            record.repeated.to_string(),
        ]);
    }
    table.print();
    records.iter().filter_map(missed).collect()
}

/// Why a record is not good enough.
fn missed(record: &Record) -> Option<String> {
    let why = match record {
        Record { trouble: Some(trouble), .. } => trouble.clone(),
        Record { resumed: None, .. } => "the conversation did not resume".to_owned(),
        Record { resumed: Some(time), .. } if *time > AIM => {
            format!("resumed after {time:.1} s, aim {AIM} s")
        }
        Record { kept_lost: 1.., .. } => {
            format!("{} lines were lost between members that were not touched", record.kept_lost)
        }
        Record { repeated: 1.., .. } => format!("{} lines were shown twice", record.repeated),
        _ => return None,
    };
    Some(format!("{}, room {}: {why}", record.fault, record.room))
}
