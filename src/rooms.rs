//! What a room is made of: names, the signed [`envelope`], the [`clock`] that orders
//! messages, the [`replay`] filter, what was said of late ([`recall`]) and the [`members`] that are there. All of it
//! pure: no I/O, no swarm, `now` as an argument.

pub mod clock;
pub mod envelope;
pub mod members;
pub mod recall;
pub mod replay;

use std::{fmt, str::FromStr, sync::Arc};

use crate::limits;

/// The name of a room: 1 to [`limits::ROOM_NAME_BYTES`] bytes of UTF-8 without white space or control
/// characters. It is the gossipsub topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Room(Arc<str>);

/// A nickname: 1 to [`limits::NICK_BYTES`] bytes of UTF-8 without control characters, trimmed. Anyone may
/// take any nickname; the peer ID next to it is what counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Nick(Arc<str>);

/// Why a word is no room name or nickname.
#[derive(Debug, PartialEq, Eq)]
pub enum NameError {
    /// There is nothing in it.
    Empty { what: &'static str },
    /// It is longer than `most` bytes.
    Long { what: &'static str, word: String, most: usize },
    /// It contains `bad`, which would garble lists and logs.
    Character { what: &'static str, word: String, bad: char },
}

impl FromStr for Room {
    type Err = NameError;

    fn from_str(word: &str) -> Result<Self, NameError> {
        check("room name", word, limits::ROOM_NAME_BYTES, |c| c.is_whitespace() || unprintable(c))?;
        Ok(Self(word.into()))
    }
}

impl FromStr for Nick {
    type Err = NameError;

    fn from_str(word: &str) -> Result<Self, NameError> {
        let word = word.trim();
        check("nickname", word, limits::NICK_BYTES, unprintable)?;
        Ok(Self(word.into()))
    }
}

impl Room {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Nick {
    /// The nickname.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Nick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { what } => write!(f, "a {what} cannot be empty"),
            Self::Long { what, word, most } => {
                write!(f, "the {what} '{word}' has {} bytes; at most {most} fit", word.len())
            }
            Self::Character { what, word, bad } => {
                write!(f, "the {what} '{}' contains {bad:?}; leave it out", word.escape_debug())
            }
        }
    }
}

impl std::error::Error for NameError {}

/// Characters that could move a terminal's cursor, hide text or turn it around: control characters and the
/// bidirectional and invisible formatting ones.
pub fn unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn check(what: &'static str, word: &str, most: usize, bad: impl Fn(char) -> bool) -> Result<(), NameError> {
    if word.is_empty() {
        return Err(NameError::Empty { what });
    }
    if let Some(bad) = word.chars().find(|c| bad(*c)) {
        return Err(NameError::Character { what, word: word.into(), bad });
    }
    if word.len() > most {
        return Err(NameError::Long { what, word: word.into(), most });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_where_they_enter() {
        assert_eq!("lobby".parse::<Room>().map(|r| r.to_string()), Ok("lobby".into()));
        assert!("größe-🦫".parse::<Room>().is_ok());
        assert!("two words".parse::<Room>().is_err());
        assert!("".parse::<Room>().is_err());
        assert!("x".repeat(limits::ROOM_NAME_BYTES + 1).parse::<Room>().is_err());
        assert_eq!(" Ada L. ".parse::<Nick>().map(|n| n.to_string()), Ok("Ada L.".into()));
        assert!("a\u{1b}[2J".parse::<Nick>().is_err());
        assert!("a\u{202e}b".parse::<Nick>().is_err());
    }
}
