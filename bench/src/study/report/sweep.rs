//! Upstream with several settings of one thing, and warren as it is beside them.

use std::fmt::Write;

use super::number;
use crate::study::figures::Figures;
use crate::study::plan::{Subject, Sweep, Tuning};

pub(super) fn write(text: &mut String, cells: &[&Figures]) -> std::fmt::Result {
    for sweep in [Sweep::FanOut, Sweep::Validation] {
        let swept: Vec<(Tuning, &Figures)> =
            cells.iter().filter_map(|cell| Some((tuning(cell, sweep)?, *cell))).collect();
        if swept.is_empty() {
            continue;
        }
        writeln!(text, "## {}\n\n{}\n", title(sweep), explanation(sweep))?;
        let columns = "| cell | setting | delivered, % | p50 ms | p95 ms | p99 ms | IP bytes per delivery | packets per \
                       delivery | CPU us per delivery | connections | links, shortest | by arrival |";
        writeln!(text, "{columns}\n|{}", "---|".repeat(12))?;
        for (tuning, cell) in &swept {
            row(text, cell, &setting(*tuning))?;
        }
        let as_it_is = match sweep {
            Sweep::FanOut => "6",
            Sweep::Validation => "strict, its own",
        };
        cells.iter().filter(|cell| cell.cell.is_warren()).try_for_each(|cell| row(text, cell, as_it_is))?;
        writeln!(text)?;
        match sweep {
            Sweep::FanOut => ends(text, &swept)?,
            Sweep::Validation => difference(text, cells)?,
        }
    }
    Ok(())
}

/// The cells with and without a look at signatures.
pub(super) fn validations<'a>(cells: &[&'a Figures]) -> Option<(&'a Figures, &'a Figures)> {
    let find = |is_strict| {
        cells
            .iter()
            .find(|cell| tuning(cell, Sweep::Validation) == Some(Tuning::IsStrict(is_strict)))
            .copied()
    };
    find(true).zip(find(false))
}

fn tuning(cell: &Figures, sweep: Sweep) -> Option<Tuning> {
    match cell.cell.subject {
        Subject::Tuned(_, tuning) if tuning.sweep() == sweep => Some(tuning),
        _ => None,
    }
}

fn title(sweep: Sweep) -> &'static str {
    match sweep {
        Sweep::FanOut => "Fan-out",
        Sweep::Validation => "Validation",
    }
}

fn explanation(sweep: Sweep) -> &'static str {
    match sweep {
        Sweep::FanOut => {
            "Upstream on tokio with gossipsub's D at several values, the bounds of a mesh from D - 1 to 2 D. Each of its \
             nodes dials 8 others, so that all values choose from the same connections. warren has no option for it: its D \
             is 6, and its connections are those that it finds."
        }
        Sweep::Validation => {
            "Upstream on tokio, whose gossipsub looks at the signature of each message that is new, or at none. They are \
             made in either case. warren checks its own envelopes' signatures, and nothing switches that off."
        }
    }
}

fn setting(tuning: Tuning) -> String {
    match tuning {
        Tuning::FanOut(fan_out) => fan_out.to_string(),
        Tuning::IsStrict(true) => "strict".to_owned(),
        Tuning::IsStrict(false) => "none".to_owned(),
    }
}

fn row(text: &mut String, cell: &Figures, setting: &str) -> std::fmt::Result {
    let per_delivery = |value: f64| value / cell.delivered as f64;
    writeln!(
        text,
        "| {} | {setting} | {:.4} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        cell.cell,
        100.0 * cell.delivery(),
        number(cell.percentile(0.5), 1),
        number(cell.percentile(0.95), 1),
        number(cell.percentile(0.99), 1),
        number(cell.bytes_per_delivery(), 0),
        number(per_delivery(cell.packets), 1),
        number(per_delivery(cell.cpu_s) * 1e6, 0),
        number(cell.connections, 1),
        number(cell.graph_hops, 2),
        number(cell.path_hops, 2),
    )
}

/// The least fan-out beside the greatest.
fn ends(text: &mut String, swept: &[(Tuning, &Figures)]) -> std::fmt::Result {
    let ([(least, low), .., (most, high)], Some(_)) = (swept, swept.get(1)) else { return Ok(()) };
    let ratio = |of: &dyn Fn(&Figures) -> f64| of(high) / of(low);
    writeln!(
        text,
        "From a fan-out of {} to one of {} IP bytes per delivery are {:.2} times as many and CPU time {:.2} times as much; \
         latency is {:.2} times as long at the median and {:.2} times at p99.\n",
        setting(*least),
        setting(*most),
        ratio(&Figures::bytes_per_delivery),
        ratio(&|cell| cell.cpu_s / cell.delivered as f64),
        ratio(&|cell| cell.percentile(0.5)),
        ratio(&|cell| cell.percentile(0.99)),
    )
}

fn difference(text: &mut String, cells: &[&Figures]) -> std::fmt::Result {
    let Some((strict, none)) = validations(cells) else { return Ok(()) };
    let cpu_us = |cell: &Figures| cell.cpu_s * 1e6 / cell.delivered as f64;
    writeln!(
        text,
        "Checking adds {:+.2} ms at the median, {:+.2} ms at p99, and {:+.0} us of CPU time a delivery. A single run \
         has its noise in all three: repeat it.\n",
        strict.percentile(0.5) - none.percentile(0.5),
        strict.percentile(0.99) - none.percentile(0.99),
        cpu_us(strict) - cpu_us(none),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Carrier;
    use crate::study::plan::{Cell, Transport};

    fn cell(subject: Subject, ms: f64, cpu_s: f64) -> Figures {
        Figures::blank(Cell { subject, impaired: true, nat: false }, vec![ms; 1000], cpu_s)
    }

    fn tuned(tuning: Tuning, ms: f64, cpu_s: f64) -> Figures {
        cell(Subject::Tuned(Carrier::Quic, tuning), ms, cpu_s)
    }

    fn written(cells: &[Figures]) -> String {
        let mut text = String::new();
        write(&mut text, &cells.iter().collect::<Vec<_>>()).expect("a String takes everything");
        text
    }

    #[test]
    fn what_checking_adds_is_strict_less_none() {
        let warren = cell(Subject::Warren(Transport::Quic), 70.0, 1.0);
        let (strict, none) =
            (tuned(Tuning::IsStrict(true), 74.5, 0.8), tuned(Tuning::IsStrict(false), 73.0, 0.6));
        let text = written(&[warren, strict, none]);
        assert!(text.contains("| tokio-quic-unchecked-impaired | none | 100.0000 | 73.0 |"), "{text}");
        assert!(text.contains("| warren-quic-impaired | strict, its own | 100.0000 | 70.0 |"), "{text}");
        assert!(text.contains("adds +1.50 ms at the median, +1.50 ms at p99, and +200 us"), "{text}");
        assert!(!text.contains("## Fan-out"));
    }

    #[test]
    fn the_least_fan_out_is_beside_the_greatest() {
        let fan_outs = [(3, 100.0, 0.5), (6, 90.0, 0.8), (8, 80.0, 1.0)];
        let text = written(&fan_outs.map(|(d, ms, cpu_s)| tuned(Tuning::FanOut(d), ms, cpu_s)));
        assert!(
            text.contains("From a fan-out of 3 to one of 8") && text.contains("CPU time 2.00 times"),
            "{text}"
        );
        assert!(text.contains("latency is 0.80 times as long at the median"), "{text}");
        assert_eq!(written(&[cell(Subject::Broker, 1.0, 1.0)]), "", "no sweep, no section");
    }
}
