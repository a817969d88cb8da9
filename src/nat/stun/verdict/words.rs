//! Verdicts in words that a person understands, with those of RFC 4787 behind them.

use std::{fmt, time::Instant};

use super::{Allocation, Filtering, Ignorance, Mapping, Verdict};

/// A verdict as text, at a time. From [`Verdict::shown`].
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    pub(super) verdict: &'a Verdict,
    pub(super) now: Instant,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown { verdict, now } = *self;
        write!(f, "{}: {}", verdict.family, verdict.mapping)?;
        if verdict.filtering != Filtering::Unknown {
            let link = if verdict.mapping == Mapping::NoNat { "with a firewall that" } else { "and" };
            match (verdict.mapping, verdict.filtering) {
                (Mapping::NoNat, Filtering::EndpointIndependent) => write!(f, ", open to everybody")?,
                _ => write!(f, ", {link} {}", verdict.filtering)?,
            }
        }
        if verdict.allocation != Allocation::Single {
            write!(f, "; {}", verdict.allocation)?;
        }
        if let Some(first) = verdict.observations.first() {
            f.write_str("; seen as ")?;
            list(f, verdict.external.iter())?;
            if verdict.mapping != Mapping::NoNat {
                write!(f, " instead of {}", first.local)?;
            }
            f.write_str("; says ")?;
            list(f, verdict.observations.iter().map(|seen| seen.server))?;
            let age = now.saturating_duration_since(first.at).as_secs();
            write!(f, ", {age} s ago")?;
        }
        Ok(())
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mapping::NoNat => "no NAT",
            Mapping::EndpointIndependent => {
                "a NAT that uses one outside port for all (endpoint-independent mapping)"
            }
            Mapping::AddressDependent => {
                "a NAT that uses another outside port for each address we send to (address-dependent mapping)"
            }
            Mapping::AddressAndPortDependent => {
                "a NAT that uses another outside port for each address and port we send to (address- and \
                 port-dependent mapping, \"symmetric\")"
            }
            Mapping::Unknown(Ignorance::NoAnswer) => "unknown: no server answers",
            Mapping::Unknown(Ignorance::OneServer) => "a NAT of unknown kind: one server only",
            Mapping::Unknown(Ignorance::OneAddress) => "a NAT of unknown kind: one server address only",
        })
    }
}

impl fmt::Display for Filtering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Filtering::EndpointIndependent => "lets in everybody (endpoint-independent filtering)",
            Filtering::AddressDependent => {
                "lets in only addresses that we sent to (address-dependent filtering)"
            }
            Filtering::AddressAndPortDependent => {
                "lets in only addresses and ports that we sent to (address- and port-dependent filtering)"
            }
            Filtering::Unknown => "lets in who knows whom",
        })
    }
}

impl fmt::Display for Allocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allocation::Single => f.write_str("one port"),
            Allocation::Sequential { step, spread } => {
                write!(f, "ports one after the other (step {step}, spread {spread})")
            }
            Allocation::Random { spread } => write!(f, "random ports (spread {spread})"),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, items: impl Iterator<Item = impl fmt::Display>) -> fmt::Result {
    for (i, item) in items.enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}
