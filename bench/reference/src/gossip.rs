//! How gossipsub is set up: as upstream has it, but for a message ID that is the hash of the data, and for what studies
//! sweep over.

use anyhow::{Result, ensure};
use libp2p::gossipsub::{Config, ConfigBuilder, ValidationMode};
use sha2::{Digest, Sha256};

/// What is done about the signatures of messages. They are made in either case.
#[derive(Clone, Copy)]
pub(crate) enum Validation {
    /// A message without an author, a number and a good signature is refused.
    Strict,
    /// Nothing is looked at.
    None,
}

impl std::str::FromStr for Validation {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "strict" => Ok(Validation::Strict),
            "none" => Ok(Validation::None),
            other => Err(format!("`{other}` is no validation: use strict or none")),
        }
    }
}

/// `fan_out` is D, 2 to 32; with it go the least and the most peers of a mesh and how many of them the node dialled
/// itself, in the proportion that they have in upstream's choice for 6 (5, 12 and 2).
pub(crate) fn config(fan_out: usize, validation: Validation) -> Result<Config> {
    ensure!((2..=32).contains(&fan_out), "--fan-out is 2 to 32, not {fan_out}");
    let mode = match validation {
        Validation::Strict => ValidationMode::Strict,
        Validation::None => ValidationMode::None,
    };
    let config = ConfigBuilder::default()
        .validation_mode(mode)
        .mesh_n(fan_out)
        .mesh_n_low(fan_out - 1)
        .mesh_n_high(2 * fan_out)
        .mesh_outbound_min((fan_out / 2).min(2))
        .message_id_fn(|message| Sha256::digest(&message.data).to_vec().into())
        .build()?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fan_out_of_6_is_upstreams_own() {
        let (ours, upstream) = (config(6, Validation::Strict).expect("valid"), Config::default());
        let mesh = |config: &Config| {
            (config.mesh_n_low(), config.mesh_n(), config.mesh_n_high(), config.mesh_outbound_min())
        };
        assert_eq!(mesh(&ours), mesh(&upstream));
    }

    #[test]
    fn gossipsub_takes_every_fan_out_that_is_allowed() {
        for fan_out in 2..=32 {
            let config = config(fan_out, Validation::None).expect("gossipsub takes it");
            assert_eq!((config.mesh_n(), config.mesh_n_high()), (fan_out, 2 * fan_out));
        }
        let error = config(1, Validation::Strict).expect_err("too few");
        assert_eq!(error.to_string(), "--fan-out is 2 to 32, not 1");
        let error = "loose".parse::<Validation>().err().expect("no such thing");
        assert_eq!(error, "`loose` is no validation: use strict or none");
    }
}
