//! The figures of the earlier study beside those of this one, and why they differ.

use std::fmt::Write;

use super::{punches, stun, sweep};
use crate::study::figures::Figures;
use crate::study::plan::{Subject, Transport};
use crate::study::{Done, Setting};

/// What the earlier study found: 16 nodes on one machine, 67 nodes over 7 agents; 45 ms with a standard deviation of
/// 10 ms, 1 % loss, 1 message of 128 bytes a second and node.
const STUN: f64 = 96.0;
const PUNCHED: f64 = 88.0;
const QUIC_LATENCY: f64 = -18.0;
const QUIC_CPU: f64 = 9.0;
const VALIDATION_MS: f64 = 1.1;
const DELIVERY: f64 = 99.0;

pub(super) fn write(text: &mut String, setting: &Setting, done: &[Done]) -> std::fmt::Result {
    let find = |transport, impaired| {
        let wanted = |cell: &&Done| {
            let cell = cell.figures.cell;
            cell.subject == Subject::Warren(transport) && cell.impaired == impaired && !cell.nat
        };
        done.iter().find(wanted).map(|done| &done.figures)
    };
    let mut rows: Vec<[String; 4]> = Vec::new();
    let pair = find(Transport::Tcp, true).zip(find(Transport::Quic, true));
    if let Some((tcp, quic)) = pair {
        rows.push(quic_latency(setting, tcp, quic));
        rows.push(quic_cpu(tcp, quic));
    }
    let warrens: Vec<&Figures> = done
        .iter()
        .map(|done| &done.figures)
        .filter(|cell| cell.cell.is_warren() && cell.cell.impaired && !cell.cell.nat)
        .collect();
    if let Some(worst) = warrens.iter().min_by(|a, b| a.delivery().total_cmp(&b.delivery())) {
        rows.push(delivery(worst));
    }
    let all: Vec<&Figures> = done.iter().map(|done| &done.figures).collect();
    match (sweep::validations(&all), find(Transport::Tcp, false)) {
        (Some((strict, none)), _) => rows.push(swept_validation(strict, none)),
        (None, Some(clean)) => rows.push(validation(clean)),
        (None, None) => {}
    }
    // The earlier study's was impaired.
    let homes = done.iter().filter(|done| done.figures.cell.nat);
    if let Some(cell) = homes.max_by_key(|done| done.figures.cell.impaired) {
        rows.push(discovery(done, cell));
        rows.push(punching(cell));
    }
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(text, "## Beside the earlier study\n\n| | earlier | here | |\n|---|---|---|---|")?;
    rows.iter().try_for_each(|row| writeln!(text, "| {} |", row.join(" | ")))?;
    writeln!(text)
}

fn quic_latency(setting: &Setting, tcp: &Figures, quic: &Figures) -> [String; 4] {
    let change = |share: f64| 100.0 * (quic.percentile(share) / tcp.percentile(share) - 1.0);
    let (p50, p95, p99) = (change(0.5), change(0.95), change(0.99));
    let why = if (p50 - QUIC_LATENCY).abs() <= 5.0 {
        "the same within 5 points".to_owned()
    } else {
        let untouched = 100.0 * (1.0 - setting.weather.loss).powf(tcp.path_hops);
        let tail = match (p99 < 0.0, p99 < p50) {
            (true, true) => "; what QUIC gains it gains in the tail",
            (false, false) => {
                "; the tail does not gain by QUIC either, as packets that overtake each other look lost to it"
            }
            _ => "",
        };
        let machine = match tcp.busy.max(quic.busy) > 0.95 {
            true => "; with a machine that had no core to spare, waiting for one is in all of it",
            false => "",
        };
        format!(
            "a message crosses {:.1} links over TCP and {:.1} over QUIC (by arrival), and takes {:.2} and {:.2} times the \
             delay of those; {untouched:.0} % of messages meet no loss on the way, so both carry the median alike{tail}{machine}",
            tcp.path_hops, quic.path_hops, tcp.path_ratio, quic.path_ratio,
        )
    };
    [
        "latency of QUIC beside TCP under loss".to_owned(),
        format!("{QUIC_LATENCY:+} %"),
        format!("{p50:+.1} % (p50), {p95:+.1} % (p95), {p99:+.1} % (p99)"),
        why,
    ]
}

fn quic_cpu(tcp: &Figures, quic: &Figures) -> [String; 4] {
    let change = 100.0 * (quic.cpu_s / tcp.cpu_s - 1.0);
    let why = if (change - QUIC_CPU).abs() <= 5.0 {
        "the same within 5 points".to_owned()
    } else {
        format!(
            "{:.1} packets per delivery over QUIC and {:.1} over TCP, with {:.1} and {:.1} connections a node; QUIC's are \
             encrypted and acknowledged one by one in the process, TCP's by the kernel, whose work is in the process' \
             time only in part",
            quic.packets / quic.delivered as f64,
            tcp.packets / tcp.delivered as f64,
            quic.connections,
            tcp.connections,
        )
    };
    [
        "CPU time of QUIC beside TCP under loss".to_owned(),
        format!("{QUIC_CPU:+} %"),
        format!("{change:+.1} %"),
        why,
    ]
}

fn delivery(worst: &Figures) -> [String; 4] {
    let share = 100.0 * worst.delivery();
    let missing = worst.expected - worst.delivered.min(worst.expected);
    let why = match missing {
        0 => format!("nothing is missing in {} deliveries of any transport", worst.expected),
        _ if share > DELIVERY => format!("better; {missing} of {} deliveries are missing", worst.expected),
        _ => format!("worse; {missing} of {} deliveries are missing", worst.expected),
    };
    [
        "delivery under loss, worst transport".to_owned(),
        format!("> {DELIVERY} %, fan-out 6"),
        format!("{share:.4} % ({}), fan-out {}", worst.cell, warren::limits::MESH[0]),
        why,
    ]
}

/// What a link costs without any delay bounds what validation can cost on it.
fn validation(clean: &Figures) -> [String; 4] {
    let per_link = clean.percentile(0.5) / clean.graph_hops;
    [
        "strict validation, median".to_owned(),
        format!("+{VALIDATION_MS} ms"),
        format!("at most {per_link:.2} ms a link"),
        format!(
            "it cannot be switched off, so it is not measured alone: this is all that {} takes for a link without delay, \
             checking included, on a machine that was {:.0} % busy",
            clean.cell,
            100.0 * clean.busy
        ),
    ]
}

/// As upstream has it, with and without.
fn swept_validation(strict: &Figures, none: &Figures) -> [String; 4] {
    [
        "strict validation, median".to_owned(),
        format!("+{VALIDATION_MS} ms"),
        format!("{:+.2} ms (upstream)", strict.percentile(0.5) - none.percentile(0.5)),
        format!(
            "{} beside {}, {:+.2} ms at p99; a message crosses {:.1} links, at each of which it is checked; warren checks always",
            strict.cell,
            none.cell,
            strict.percentile(0.99) - none.percentile(0.99),
            strict.path_hops,
        ),
    ]
}

fn discovery(done: &[Done], cell: &Done) -> [String; 4] {
    let (found, of) = stun(done, cell.figures.nodes);
    let share = 100.0 * found as f64 / of as f64;
    let why = match share > STUN {
        true => format!("{found} of {of} nodes from which UDP gets out; who cannot send UDP is not asked"),
        false => format!("{} of {of} nodes got no answer within the measured time", of - found),
    };
    ["STUN finds the address".to_owned(), format!("{STUN} %"), format!("{share:.1} %"), why]
}

fn punching(cell: &Done) -> [String; 4] {
    let count = |outcome| punches(&cell.record, "", outcome);
    let (opened, missed, failed) = (count("opened"), count("missed"), count("failed"));
    let all = opened + missed + failed;
    if all == 0.0 {
        let none = "no node tried: whoever it wanted could be dialled";
        return ["hole punching".to_owned(), format!("{PUNCHED} %"), "-".to_owned(), none.to_owned()];
    }
    let share = 100.0 * opened / all;
    [
        "hole punching".to_owned(),
        format!("{PUNCHED} %"),
        format!("{share:.1} %"),
        format!(
            "{opened} of {all} attempts opened a way, {missed} missed, {failed} found no agreement; the mix of NATs is a guess \
             at what homes have, with pairs among them that no punch opens, and a pair that misses tries again"
        ),
    ]
}
