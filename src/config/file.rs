//! A configuration file is the command line, one option a line; here the two are laid over each other.

use std::{fs, io::Read, path::Path};

use super::{Config, ConfigError};
use crate::{cli, limits};

/// Reads a file of options, one a line, and lays the command line's words over them. Each line is checked by
/// itself with `check`, so that what is wrong has a line number.
pub(super) fn with_file<T: argh::FromArgs + Default + Clone>(
    words: T,
    file: &Path,
    merge: fn(T, T) -> T,
    check: fn(T) -> Result<Config, ConfigError>,
) -> Result<T, ConfigError> {
    let error = |why: String| ConfigError::File { file: file.into(), why };
    let opened = fs::File::open(file).map_err(|e| error(e.to_string()))?;
    let mut text = String::new();
    let read = opened.take(limits::CONFIG_FILE_BYTES + 1).read_to_string(&mut text);
    read.map_err(|e| error(e.to_string()))?;
    if text.len() as u64 > limits::CONFIG_FILE_BYTES {
        return Err(error(format!("it has more than {} bytes", limits::CONFIG_FILE_BYTES)));
    }
    let mut from_file = T::default();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = |why| ConfigError::Line { file: file.into(), line: number + 1, why };
        match line.trim_start_matches("--").split_whitespace().next() {
            Some("config") => {
                return Err(at("'config' cannot stand in a file; put all options into one".into()));
            }
            Some("check") => {
                return Err(at("'check' cannot stand in a file; it is for the command line".into()));
            }
            _ => {}
        }
        let options: T = cli::parse_line(line).map_err(at)?;
        check(options.clone()).map_err(|e| at(e.to_string()))?;
        // A later line goes before an earlier one, as it would on the command line.
        from_file = merge(options, from_file);
    }
    Ok(merge(words, from_file))
}

/// `first` where it says something, else `then`. What may be repeated adds up, `then` in front: so lines of
/// a file keep their order, and those of the command line follow.
pub(super) fn merge_run(first: cli::Run, then: cli::Run) -> cli::Run {
    cli::Run {
        room: list(first.room, then.room),
        nick: first.nick.or(then.nick),
        bootstrap: list(first.bootstrap, then.bootstrap),
        relay: list(first.relay, then.relay),
        stun_server: list(first.stun_server, then.stun_server),
        listen: list(first.listen, then.listen),
        external: list(first.external, then.external),
        lan: list(first.lan, then.lan),
        dht: first.dht.or(then.dht),
        no_discovery: first.no_discovery || then.no_discovery,
        identity: first.identity.or(then.identity),
        identity_out: first.identity_out.or(then.identity_out),
        secret_key_seed: first.secret_key_seed.or(then.secret_key_seed),
        state_dir: first.state_dir.or(then.state_dir),
        publish: list(first.publish, then.publish),
        no_stdin: first.no_stdin || then.no_stdin,
        json: first.json || then.json,
        plain: first.plain || then.plain,
        tcp_only: first.tcp_only || then.tcp_only,
        disable_udp: first.disable_udp || then.disable_udp,
        udp_port: first.udp_port.or(then.udp_port),
        quic_only: first.quic_only || then.quic_only,
        no_ipv6: first.no_ipv6 || then.no_ipv6,
        no_mdns: first.no_mdns || then.no_mdns,
        no_portmap: first.no_portmap || then.no_portmap,
        control: first.control.or(then.control),
        log_format: first.log_format.or(then.log_format),
        metrics: first.metrics.or(then.metrics),
        web: first.web.or(then.web),
        config: first.config.or(then.config),
        check: first.check || then.check,
        verbose: first.verbose.max(then.verbose),
    }
}

pub(super) fn merge_relay(first: cli::Relay, then: cli::Relay) -> cli::Relay {
    cli::Relay {
        port: first.port.or(then.port),
        listen: list(first.listen, then.listen),
        bootstrap: list(first.bootstrap, then.bootstrap),
        room: list(first.room, then.room),
        nick: first.nick.or(then.nick),
        external: list(first.external, then.external),
        lan: list(first.lan, then.lan),
        dht: first.dht.or(then.dht),
        no_discovery: first.no_discovery || then.no_discovery,
        identity: first.identity.or(then.identity),
        identity_out: first.identity_out.or(then.identity_out),
        secret_key_seed: first.secret_key_seed.or(then.secret_key_seed),
        state_dir: first.state_dir.or(then.state_dir),
        no_stdin: first.no_stdin || then.no_stdin,
        json: first.json || then.json,
        ipv6: first.ipv6 || then.ipv6,
        no_ipv6: first.no_ipv6 || then.no_ipv6,
        no_mdns: first.no_mdns || then.no_mdns,
        no_portmap: first.no_portmap || then.no_portmap,
        max_reservations: first.max_reservations.or(then.max_reservations),
        max_circuits: first.max_circuits.or(then.max_circuits),
        max_circuits_per_peer: first.max_circuits_per_peer.or(then.max_circuits_per_peer),
        circuit_minutes: first.circuit_minutes.or(then.circuit_minutes),
        circuit_mib: first.circuit_mib.or(then.circuit_mib),
        control: first.control.or(then.control),
        log_format: first.log_format.or(then.log_format),
        metrics: first.metrics.or(then.metrics),
        web: first.web.or(then.web),
        config: first.config.or(then.config),
        check: first.check || then.check,
        verbose: first.verbose.max(then.verbose),
    }
}

fn list(first: Vec<String>, mut then: Vec<String>) -> Vec<String> {
    then.extend(first);
    then
}
