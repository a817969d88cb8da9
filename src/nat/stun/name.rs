//! Names of STUN servers as people write them.

use std::{fmt, net::IpAddr, str::FromStr};

/// RFC 8489, section 18.6.
const PORT: u16 = 3478;

/// Bytes of a DNS name, RFC 1035, section 2.3.4.
const NAME_BYTES: usize = 253;

/// A STUN server: `stun.example.org`, `stun.example.org:19302`, `192.0.2.1`, `[2001:db8::1]:3478`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerName {
    /// A name, or an IP address without brackets.
    pub host: String,
    pub port: u16,
}

/// What is wrong with the name of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("'{0}' is no STUN server; write HOST, HOST:PORT or [IPv6]:PORT, such as stun.example.org:3478")]
    Host(String),
    #[error("'{0}' has no port between 1 and 65535 behind its colon")]
    Port(String),
}

impl FromStr for ServerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad_host = || NameError::Host(text.into());
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(bad_host)?;
                if host.parse::<std::net::Ipv6Addr>().is_err() {
                    return Err(bad_host());
                }
                match port {
                    "" => (host, None),
                    _ => (host, Some(port.strip_prefix(':').ok_or_else(bad_host)?)),
                }
            }
            None if text.parse::<IpAddr>().is_ok() => (text, None),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        if host.is_empty() || host.len() > NAME_BYTES || !host.chars().all(is_host) {
            return Err(bad_host());
        }
        let port = match port {
            None => PORT,
            Some(port) => match port.parse() {
                Ok(0) | Err(_) => return Err(NameError::Port(text.into())),
                Ok(port) => port,
            },
        };
        Ok(ServerName { host: host.into(), port })
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_written_in_many_ways() {
        for (text, shown) in [
            ("stun.example.org", "stun.example.org:3478"),
            ("stun.example.org:19302", "stun.example.org:19302"),
            ("192.0.2.1", "192.0.2.1:3478"),
            ("192.0.2.1:1", "192.0.2.1:1"),
            ("2001:db8::1", "[2001:db8::1]:3478"),
            ("[2001:db8::1]", "[2001:db8::1]:3478"),
            ("[2001:db8::1]:99", "[2001:db8::1]:99"),
        ] {
            let name: ServerName = text.parse().expect(text);
            assert_eq!(name.to_string(), shown);
            assert_eq!(shown.parse(), Ok(name));
        }
    }

    #[test]
    fn what_is_no_server_is_told() {
        for text in ["", ":1", "a b", "[::1", "[::1]1", "[host]:1", "stun:a:b", "a:0", "a:65536", "a:", "x/y"]
        {
            let error = text.parse::<ServerName>().expect_err(text).to_string();
            assert!(error.starts_with(&format!("'{text}'")), "{error}");
        }
    }
}
