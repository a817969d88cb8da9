//! What is a relay's own: its port, and what it gives.

#[cfg(feature = "relay-server")]
use std::time::Duration;

use super::{Config, ConfigError, check_run, number};
use crate::cli;
#[cfg(feature = "relay-server")]
use crate::{limits, nat::hop::Limits};

/// The port of `warren relay`, the one that libp2p programs use by habit.
const RELAY_PORT: u16 = 4001;

pub(super) fn check_relay(words: cli::Relay) -> Result<Config, ConfigError> {
    if words.port.is_some() && !words.listen.is_empty() {
        return Err(ConfigError::Conflict("port", "listen"));
    }
    let port = match &words.port {
        Some(word) => number("port", word, 1, u16::MAX.into())? as u16,
        None => RELAY_PORT,
    };
    #[cfg(feature = "relay-server")]
    let relay_limits = limits(&words)?;
    #[cfg(not(feature = "relay-server"))]
    no_limits(&words)?;
    let words = cli::Run {
        room: words.room,
        nick: words.nick,
        bootstrap: words.bootstrap,
        listen: words.listen,
        external: words.external,
        lan: words.lan,
        dht: words.dht,
        no_discovery: words.no_discovery,
        identity: words.identity,
        identity_out: words.identity_out,
        secret_key_seed: words.secret_key_seed,
        state_dir: words.state_dir,
        no_stdin: words.no_stdin,
        json: words.json,
        no_ipv6: words.no_ipv6,
        no_mdns: words.no_mdns,
        no_portmap: words.no_portmap,
        control: words.control,
        log_format: words.log_format,
        metrics: words.metrics,
        web: words.web,
        verbose: words.verbose,
        ..cli::Run::default()
    };
    if words.dht.as_deref() == Some("public") {
        return Err(ConfigError::Dht {
            word: "public".into(),
            known: "private or off: a relay serves warrens",
        });
    }
    let config = check_run(words, &[], Some(port))?;
    #[cfg(feature = "relay-server")]
    let config = Config { relay_limits, ..config };
    Ok(config)
}

/// What a relay gives.
#[cfg(feature = "relay-server")]
fn limits(words: &cli::Relay) -> Result<Limits, ConfigError> {
    let given = |option, word: &Option<String>, usual: u64, most: u64| match word {
        Some(word) => number(option, word, 1, most),
        None => Ok(usual),
    };
    let reservations = given(
        "max-reservations",
        &words.max_reservations,
        limits::RELAY_RESERVATIONS,
        limits::RELAY_RESERVATIONS_MOST,
    )?;
    let circuits =
        given("max-circuits", &words.max_circuits, limits::RELAY_CIRCUITS, limits::RELAY_CIRCUITS_MOST)?;
    let per_peer = given(
        "max-circuits-per-peer",
        &words.max_circuits_per_peer,
        limits::RELAY_CIRCUITS_PER_PEER,
        limits::RELAY_CIRCUITS_PER_PEER_MOST,
    )?;
    let minutes = given(
        "circuit-minutes",
        &words.circuit_minutes,
        limits::RELAY_CIRCUIT_MINUTES,
        limits::RELAY_CIRCUIT_MINUTES_MOST,
    )?;
    let mib =
        given("circuit-mib", &words.circuit_mib, limits::RELAY_CIRCUIT_MIB, limits::RELAY_CIRCUIT_MIB_MOST)?;
    Ok(Limits {
        reservations: reservations as usize,
        circuits: circuits as usize,
        circuits_per_peer: per_peer as usize,
        circuit_time: Duration::from_secs(minutes * 60),
        circuit_bytes: mib << 20,
    })
}

#[cfg(not(feature = "relay-server"))]
fn no_limits(words: &cli::Relay) -> Result<(), ConfigError> {
    let options = [
        ("max-reservations", &words.max_reservations),
        ("max-circuits", &words.max_circuits),
        ("max-circuits-per-peer", &words.max_circuits_per_peer),
        ("circuit-minutes", &words.circuit_minutes),
        ("circuit-mib", &words.circuit_mib),
    ];
    match options.into_iter().find(|(_, word)| word.is_some()) {
        Some((option, _)) => Err(ConfigError::NoRelay(option)),
        None => Ok(()),
    }
}
