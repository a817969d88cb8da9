//! What a service has beside a person's node: a socket to be steered at, and a log that others keep.

#[cfg(feature = "control")]
use std::env;
#[cfg(any(feature = "metrics", feature = "web"))]
use std::net::SocketAddr;
use std::path::PathBuf;

use super::ConfigError;
#[cfg(feature = "control")]
use super::path;
use crate::logs::Format;

/// A socket for those who steer the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// It was named: it must work.
    At(PathBuf),
    /// Where a service usually has it.
    Usual(PathBuf),
    /// Without.
    Off,
}

/// Without a word, a service of systemd has its socket where its runtime files are.
pub(super) fn control(word: Option<String>) -> Result<Control, ConfigError> {
    #[cfg(not(feature = "control"))]
    return match word {
        Some(word) if word != "off" => Err(ConfigError::NoControl(word)),
        _ => Ok(Control::Off),
    };
    #[cfg(feature = "control")]
    Ok(match path("control", word)? {
        Some(word) if word.as_os_str() == "off" => Control::Off,
        Some(path) => Control::At(path),
        None => runtime_dir().map_or(Control::Off, |dir| Control::Usual(dir.join("control"))),
    })
}

/// What systemd made for this service, the first one if there are several.
#[cfg(feature = "control")]
pub fn runtime_dir() -> Option<PathBuf> {
    let dirs = env::var_os("RUNTIME_DIRECTORY")?;
    env::split_paths(&dirs).next().filter(|dir| dir.is_absolute())
}

/// Where to listen. `bad` is what to say of a word that is no address.
#[cfg(any(feature = "metrics", feature = "web"))]
pub(super) fn address(
    word: Option<String>,
    bad: fn(String) -> ConfigError,
) -> Result<Option<SocketAddr>, ConfigError> {
    word.map(|word| word.parse().map_err(|_| bad(word))).transpose()
}

/// Refuses a word that this build cannot use.
#[cfg(not(all(feature = "metrics", feature = "web")))]
pub(super) fn none(word: Option<String>, why: fn(String) -> ConfigError) -> Result<(), ConfigError> {
    word.map_or(Ok(()), |word| Err(why(word)))
}

/// The page and the metrics are for different people, so each has a port of its own.
#[cfg(all(feature = "metrics", feature = "web"))]
pub(super) fn are_apart(metrics: Option<SocketAddr>, web: Option<SocketAddr>) -> Result<(), ConfigError> {
    match web.filter(|web| metrics == Some(*web) && web.port() > 0) {
        Some(addr) => Err(ConfigError::OneAddress(addr)),
        None => Ok(()),
    }
}

/// Without a word, as standard error has it.
pub(super) fn log_format(word: Option<String>) -> Result<Format, ConfigError> {
    match word.as_deref() {
        None => Ok(Format::usual()),
        Some("full") => Ok(Format::Full),
        Some("timed") => Ok(Format::Timed),
        Some("plain") => Ok(Format::Plain),
        Some("journal") => Ok(Format::Journal),
        Some(word) => Err(ConfigError::LogFormat(word.into())),
    }
}
