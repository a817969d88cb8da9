//! What is measured: the cells of the study, and who says what when. Pure, and decided by the seed alone.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use fastrand::Rng;

use crate::lab::kind::Kind;
use crate::program::Carrier;

/// The transports that warrens are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Quic,
    /// Every second node has TCP only, the others have both and dial by QUIC first.
    Mixed,
    /// Every node has both, as by default.
    Both,
}

/// Who carries the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Warren(Transport),
    /// Upstream libp2p on tokio.
    Reference(Carrier),
    /// The same with one setting of a sweep.
    Tuned(Carrier, Tuning),
    /// mosquitto, a central broker, with a client in each namespace.
    Broker,
}

/// What is swept over. warren has no option for either, so it is done with upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sweep {
    /// gossipsub's D: to how many peers a message goes.
    FanOut,
    /// Whether signatures are looked at.
    Validation,
}

/// A setting of the reference peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tuning {
    FanOut(u16),
    IsStrict(bool),
}

/// Values of D.
const FAN_OUTS: [u16; 4] = [3, 4, 6, 8];

impl Sweep {
    pub(super) fn tunings(self) -> Vec<Tuning> {
        match self {
            Sweep::FanOut => FAN_OUTS.map(Tuning::FanOut).into(),
            Sweep::Validation => [true, false].map(Tuning::IsStrict).into(),
        }
    }

    /// Whom each node dials: as many as the greatest mesh wants, so that all have the same connections to choose from.
    pub(super) fn dials(self, otherwise: usize) -> usize {
        match self {
            Sweep::FanOut => FAN_OUTS.into_iter().map(usize::from).fold(otherwise, usize::max),
            Sweep::Validation => otherwise,
        }
    }
}

impl Tuning {
    pub(super) fn sweep(self) -> Sweep {
        match self {
            Tuning::FanOut(_) => Sweep::FanOut,
            Tuning::IsStrict(_) => Sweep::Validation,
        }
    }

    /// Options of the reference peer.
    pub(super) fn options(self) -> [String; 2] {
        match self {
            Tuning::FanOut(fan_out) => ["--fan-out".to_owned(), fan_out.to_string()],
            Tuning::IsStrict(is_strict) => {
                ["--validation".to_owned(), if is_strict { "strict" } else { "none" }.to_owned()]
            }
        }
    }
}

impl FromStr for Sweep {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "fan-out" => Ok(Sweep::FanOut),
            "validation" => Ok(Sweep::Validation),
            other => Err(format!("`{other}` cannot be swept over: use fan-out or validation")),
        }
    }
}

/// One run with one kind of node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) subject: Subject,
    pub(super) impaired: bool,
    /// Nodes live behind NATs.
    pub(super) nat: bool,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Subject::Warren(Transport::Tcp) => "warren-tcp",
            Subject::Warren(Transport::Quic) => "warren-quic",
            Subject::Warren(Transport::Mixed) => "warren-mixed",
            Subject::Warren(Transport::Both) => "warren-both",
            Subject::Reference(Carrier::Tcp) => "tokio-tcp",
            Subject::Reference(Carrier::Quic) => "tokio-quic",
            Subject::Tuned(carrier, tuning) => return write!(f, "{}-{tuning}", Subject::Reference(*carrier)),
            Subject::Broker => "mosquitto",
        })
    }
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tuning::FanOut(fan_out) => write!(f, "d{fan_out}"),
            Tuning::IsStrict(true) => f.write_str("strict"),
            Tuning::IsStrict(false) => f.write_str("unchecked"),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nat = if self.nat { "-nat" } else { "" };
        write!(f, "{}{nat}-{}", self.subject, if self.impaired { "impaired" } else { "clean" })
    }
}

/// A message that somebody shall say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Since the start of the phase.
    pub(super) at: Duration,
    pub(super) author: u16,
    pub(super) number: u32,
}

/// Somebody who goes, and comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Absence {
    pub(super) node: u16,
    /// Since the start of the phase.
    pub(super) from: Duration,
    pub(super) to: Duration,
}

/// What is said in each cell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Workload {
    pub(super) nodes: u16,
    /// Messages a second from each node.
    pub(super) rate: f64,
    /// Unit: bytes.
    pub(super) size: usize,
    pub(super) seed: u64,
}

impl Workload {
    /// What is said within `span`, in order. Each node has moments of its own, at random, and its messages come a
    /// period apart, give or take a tenth.
    pub(super) fn lines(&self, span: Duration) -> Vec<Line> {
        let mut lots = Rng::with_seed(self.seed);
        let period = 1.0 / self.rate;
        let mut lines = Vec::new();
        for author in 0..self.nodes {
            let phase = lots.f64() * period;
            for number in 0..(span.as_secs_f64() * self.rate).floor() as u32 {
                let late = period * 0.1 * (lots.f64() - 0.5);
                let at = Duration::from_secs_f64((phase + f64::from(number) * period + late).max(0.0));
                lines.push(Line { at, author, number });
            }
        }
        lines.sort_by_key(|line| (line.at, line.author));
        lines
    }

    /// Who is away when, if this share of the nodes is for 5 s. All come back early enough to be heard again.
    pub(super) fn absences(&self, share: f64, span: Duration) -> Vec<Absence> {
        let mut lots = Rng::with_seed(self.seed ^ 0xc4);
        let mut nodes: Vec<u16> = (0..self.nodes).collect();
        lots.shuffle(&mut nodes);
        nodes.truncate((f64::from(self.nodes) * share).round() as usize);
        let away = Duration::from_secs(5).min(span / 4);
        let absence = |node| {
            let from = span.mul_f64(0.6 * lots.f64());
            Absence { node, from, to: from + away }
        };
        nodes.into_iter().map(absence).collect()
    }

    /// What is written in a message, filled up to the size.
    pub(super) fn text(&self, phase: char, line: &Line) -> String {
        let head = format!("{phase} {} {} ", line.author, line.number);
        format!("{head:x<size$}", size = self.size)
    }

    /// Whom each node dials, of those before it, where nobody discovers others: this many, at random.
    pub(super) fn dials(&self, count: usize) -> Vec<Vec<u16>> {
        let mut lots = Rng::with_seed(self.seed ^ 0xd1);
        let choose = |node: u16| {
            let mut earlier: Vec<u16> = (0..node).collect();
            lots.shuffle(&mut earlier);
            earlier.truncate(count);
            earlier
        };
        (0..self.nodes).map(choose).collect()
    }

    /// Behind what each node lives, with `--topology nat`: a guess at what homes have.
    pub(super) fn homes(&self) -> Vec<Kind> {
        use Kind::*;
        let street = [
            PortRestricted,
            SymmetricRandom,
            Public,
            Cgnat,
            PortRestricted,
            AddressRestricted,
            PortRestricted,
            FullCone,
            Cgnat,
            PortRestricted,
            SymmetricSequential,
            UdpBlocked,
        ];
        (0..usize::from(self.nodes)).map(|node| street[node % street.len()]).collect()
    }
}

/// Author and number of a message, and the phase in which it was said.
pub(super) fn read(text: &str) -> Option<(char, u16, u32)> {
    let mut words = text.split(' ');
    let phase = words.next()?.parse().ok()?;
    Some((phase, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(seed: u64) -> Workload {
        Workload { nodes: 16, rate: 2.0, size: 128, seed }
    }

    #[test]
    fn the_same_seed_gives_the_same_work() {
        let span = Duration::from_secs(30);
        let all = |seed| {
            let work = workload(seed);
            (work.lines(span), work.absences(0.25, span), work.dials(4))
        };
        assert_eq!(all(7), all(7));
        let (one, other) = (all(7), all(8));
        assert!(one.0 != other.0 && one.1 != other.1 && one.2 != other.2);
    }

    #[test]
    fn everybody_says_as_much_as_asked() {
        let lines = workload(1).lines(Duration::from_secs(10));
        assert!((0..16).all(|author| lines.iter().filter(|line| line.author == author).count() == 20));
        assert!(lines.is_sorted_by_key(|line| line.at));
        assert!(lines.iter().all(|line| line.at < Duration::from_millis(10_600)));
    }

    #[test]
    fn a_text_has_its_size_and_is_read_as_it_was_written() {
        let line = Line { at: Duration::ZERO, author: 3, number: 17 };
        let text = workload(1).text('m', &line);
        assert_eq!((text.len(), read(&text)), (128, Some(('m', 3, 17))));
        assert_eq!(read("hello"), None);
    }

    #[test]
    fn a_sweep_names_its_cells_and_what_the_reference_peer_is_told() {
        let names = |sweep: Sweep| {
            let cell =
                |tuning| Cell { subject: Subject::Tuned(Carrier::Quic, tuning), impaired: true, nat: false };
            sweep.tunings().into_iter().map(|tuning| cell(tuning).to_string()).collect::<Vec<_>>()
        };
        let fan_outs = ["tokio-quic-d3-impaired", "tokio-quic-d4-impaired", "tokio-quic-d6-impaired"];
        assert_eq!(names(Sweep::FanOut)[..3], fan_outs);
        assert_eq!(names(Sweep::Validation), ["tokio-quic-strict-impaired", "tokio-quic-unchecked-impaired"]);
        assert_eq!(Tuning::FanOut(3).options(), ["--fan-out", "3"]);
        assert_eq!(Tuning::IsStrict(false).options(), ["--validation", "none"]);
        assert!(Sweep::FanOut.dials(4) >= 8, "or a mesh of 8 could not be");
        assert_eq!(Sweep::Validation.dials(4), 4);
        let error = "loss".parse::<Sweep>().expect_err("no such sweep");
        assert_eq!(error, "`loss` cannot be swept over: use fan-out or validation");
    }

    #[test]
    fn whom_a_node_dials_was_there_before() {
        let dials = workload(1).dials(4);
        assert!(dials.iter().enumerate().all(|(node, to)| {
            to.len() == node.min(4) && to.iter().all(|other| usize::from(*other) < node)
        }));
    }
}
