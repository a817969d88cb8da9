//! The configuration read again, and what is then another one than before.

use std::{fs, path::Path};

use super::{Config, ConfigError};
use crate::cli;

/// The words that a [`Config`] was made of.
#[derive(Clone, Debug)]
pub enum Source {
    Run(Box<Words<cli::Run>>),
    Relay(Box<Words<cli::Relay>>),
}

/// Of one subcommand.
#[derive(Clone, Debug, Default)]
pub struct Words<T> {
    /// Those of the command line, among them the file's name.
    given: T,
    /// Those of the file, too.
    all: T,
}

/// Options by name whose words are not what they were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that a running node takes over.
    pub live: Vec<&'static str>,
    /// Those that it has only from its start.
    pub restart: Vec<&'static str>,
}

impl Changes {
    /// What was taken over, for people.
    pub fn sentence(&self) -> String {
        match self.live.is_empty() {
            true => "nothing has changed".into(),
            false => format!("changed: {}", self.live.join(", ")),
        }
    }
}

impl Default for Source {
    fn default() -> Self {
        Source::Run(Box::default())
    }
}

impl Source {
    pub(super) fn run(given: cli::Run, all: cli::Run) -> Self {
        Source::Run(Box::new(Words { given, all }))
    }

    pub(super) fn relay(given: cli::Relay, all: cli::Relay) -> Self {
        Source::Relay(Box::new(Words { given, all }))
    }

    /// Whether there is a file to read again.
    pub fn has_file(&self) -> bool {
        self.file().is_some()
    }

    /// What the file says now, below the words of the command line. Reads from the disk.
    ///
    /// # Errors
    /// As at the start; and where there is no file, or one that may not end.
    pub fn read_again(&self) -> Result<Config, ConfigError> {
        let file = Path::new(self.file().ok_or(ConfigError::NoFile)?);
        if fs::metadata(file).is_ok_and(|found| !found.is_file()) {
            return Err(ConfigError::Unrepeatable(file.into()));
        }
        match self {
            Source::Run(words) => Config::run(words.given.clone()),
            Source::Relay(words) => Config::relay(words.given.clone()),
        }
    }

    fn file(&self) -> Option<&str> {
        match self {
            Source::Run(words) => words.given.config.as_deref(),
            Source::Relay(words) => words.given.config.as_deref(),
        }
    }

    /// What is different from `before`; those that need a restart are compared with `start`.
    pub fn changes(&self, before: &Source, start: &Source) -> Changes {
        let is_live = |name: &&str| LIVE.contains(name);
        Changes {
            live: self.differences(before).into_iter().filter(is_live).collect(),
            restart: self.differences(start).into_iter().filter(|name| !is_live(name)).collect(),
        }
    }

    fn differences(&self, other: &Source) -> Vec<&'static str> {
        match (self, other) {
            (Source::Run(words), Source::Run(others)) => run_differences(&words.all, &others.all),
            (Source::Relay(words), Source::Relay(others)) => relay_differences(&words.all, &others.all),
            // One does not become the other.
            _ => Vec::new(),
        }
    }
}

/// Options that a running node takes over.
const LIVE: [&str; 13] = [
    "room",
    "nick",
    "bootstrap",
    "stun-server",
    "relay",
    "lan",
    "max-reservations",
    "max-circuits",
    "max-circuits-per-peer",
    "circuit-minutes",
    "circuit-mib",
    "log-format",
    "verbose",
];

/// Writes a function that names the options that differ. One that is forgotten in the list does not compile.
macro_rules! differences {
    ($name:ident, $words:path, $($field:ident: $option:literal),* $(,)?) => {
        fn $name(one: &$words, other: &$words) -> Vec<&'static str> {
            let $words { $($field),* } = one;
            let all = [$(($option, *$field != other.$field)),*];
            all.into_iter().filter(|(_, is_other)| *is_other).map(|(option, _)| option).collect()
        }
    };
}

differences!(
    run_differences, cli::Run,
    room: "room", nick: "nick", bootstrap: "bootstrap", stun_server: "stun-server", relay: "relay", listen: "listen",
    external: "external", lan: "lan", dht: "dht", no_discovery: "no-discovery", identity: "identity",
    identity_out: "identity-out", secret_key_seed: "secret-key-seed", state_dir: "state-dir", publish: "publish",
    no_stdin: "no-stdin", json: "json", plain: "plain", tcp_only: "tcp-only", disable_udp: "disable-udp",
    udp_port: "udp-port", quic_only: "quic-only", no_ipv6: "no-ipv6", no_mdns: "no-mdns", no_portmap: "no-portmap",
    control: "control", log_format: "log-format", metrics: "metrics", web: "web",
    config: "config", check: "check", verbose: "verbose",
);

differences!(
    relay_differences, cli::Relay,
    port: "port", listen: "listen", bootstrap: "bootstrap", room: "room", nick: "nick", external: "external",
    lan: "lan", dht: "dht", no_discovery: "no-discovery", identity: "identity", identity_out: "identity-out",
    secret_key_seed: "secret-key-seed", state_dir: "state-dir", no_stdin: "no-stdin", json: "json", ipv6: "ipv6",
    no_ipv6: "no-ipv6", no_mdns: "no-mdns", no_portmap: "no-portmap", max_reservations: "max-reservations",
    max_circuits: "max-circuits", max_circuits_per_peer: "max-circuits-per-peer", circuit_minutes: "circuit-minutes",
    circuit_mib: "circuit-mib", control: "control", log_format: "log-format", metrics: "metrics", web: "web",
    config: "config", check: "check", verbose: "verbose",
);

#[cfg(test)]
mod tests {
    use super::*;

    fn source(rooms: &[&str], port: Option<&str>) -> Source {
        let all = cli::Run {
            room: rooms.iter().map(|room| (*room).into()).collect(),
            udp_port: port.map(Into::into),
            ..cli::Run::default()
        };
        Source::run(cli::Run::default(), all)
    }

    #[test]
    fn what_needs_a_restart_is_named_until_it_is_as_at_the_start() {
        let start = source(&["a"], None);
        let first = source(&["b"], Some("5000"));
        assert_eq!(first.changes(&start, &start), Changes { live: vec!["room"], restart: vec!["udp-port"] });
        let second = source(&["b"], Some("5000"));
        assert_eq!(second.changes(&first, &start), Changes { live: vec![], restart: vec!["udp-port"] });
        assert_eq!(
            source(&["a"], None).changes(&second, &start),
            Changes { live: vec!["room"], restart: vec![] }
        );
    }

    #[test]
    fn without_a_file_there_is_nothing_to_read_again() {
        assert!(matches!(source(&[], None).read_again(), Err(ConfigError::NoFile)));
        let given = cli::Run { config: Some("/dev/null".into()), ..cli::Run::default() };
        let source = Source::run(given.clone(), given);
        assert!(matches!(source.read_again(), Err(ConfigError::Unrepeatable(_))));
    }
}
