//! What somebody must show who is not at this machine.

use std::{fmt, io};

use rustix::rand::{GetRandomFlags, getrandom};
use subtle::ConstantTimeEq;

use crate::{face::json::hex, limits};

/// Random bytes of the system, written in hexadecimal.
#[derive(PartialEq)]
pub(super) struct Token(String);

impl Token {
    /// A new one.
    pub(super) fn new() -> io::Result<Self> {
        let mut bytes = [0; limits::WEB_TOKEN_BYTES];
        // So few bytes come at once (getrandom(2)).
        match getrandom(&mut bytes, GetRandomFlags::empty())? == bytes.len() {
            true => Ok(Self(hex(&bytes))),
            false => Err(io::Error::other("the system has no random numbers")),
        }
    }

    /// Whether this is the token. How long that takes tells nothing but the length.
    pub(super) fn is(&self, word: &str) -> bool {
        self.0.as_bytes().ct_eq(word.as_bytes()).into()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_another_and_no_part_of_one_is_one() {
        let (one, other) = (Token::new().expect("random"), Token::new().expect("random"));
        let word = one.to_string();
        assert_eq!(word.len(), 2 * limits::WEB_TOKEN_BYTES);
        assert!(one.is(&word) && !other.is(&word) && one != other);
        for wrong in
            ["", &word[1..], &word.to_uppercase().replace(char::is_numeric, "A"), &format!("{word}0")]
        {
            assert!(!one.is(wrong), "{wrong}");
        }
    }
}
