//! The machine's own settings: `resolv.conf` and the hosts file. Text in, values out; the only I/O is in
//! [`Settings::load`].

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::Duration,
};

use crate::{limits, transport::address::Endpoint};

/// What the settings say about one name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) resolv_conf: ResolvConf,
    /// The addresses that the hosts file has for the name.
    pub(super) addresses: Vec<IpAddr>,
}

impl Settings {
    /// Reads both files. Blocks, but not for long: a lookup costs more.
    ///
    /// That is done for each lookup instead of watching for changes: nothing can be missed, and nothing has
    /// to be kept. A file that cannot be read counts as empty, as with every other resolver.
    pub(super) fn load(resolv_conf: &Path, hosts_file: &Path, name: &str) -> Self {
        let addresses =
            read(hosts_file, |file| hosts(BufReader::new(file.take(limits::DNS_HOSTS_BYTES)), name));
        let text = read(resolv_conf, |file| {
            let mut text = Vec::new();
            file.take(limits::DNS_RESOLV_CONF_BYTES).read_to_end(&mut text)?;
            Ok(text)
        });
        Settings { resolv_conf: ResolvConf::parse(&String::from_utf8_lossy(&text)), addresses }
    }
}

fn read<T: Default>(path: &Path, reader: impl FnOnce(File) -> io::Result<T>) -> T {
    File::open(path).and_then(reader).unwrap_or_else(|error| {
        log::debug!("doing without {}: {error}", path.display());
        T::default()
    })
}

/// The part of resolv.conf(5) that is honoured.
///
/// `search`, `domain` and `ndots` are not: names in addresses are complete, and a resolver that tries
/// others asks strangers for them. Nor are `sortlist`, `rotate` and the other options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResolvConf {
    /// In the order they are asked, never empty. Ports are 0: the file has none.
    pub(super) servers: Vec<Endpoint>,
    /// How long a server may take, if it says so.
    pub(super) timeout: Option<Duration>,
    /// How often each server is asked.
    pub(super) tries: u32,
}

impl ResolvConf {
    /// Takes what can be understood and leaves the rest, as C libraries do.
    pub(super) fn parse(text: &str) -> Self {
        let mut conf = ResolvConf { servers: Vec::new(), timeout: None, tries: limits::DNS_TRIES };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") if conf.servers.len() < limits::DNS_SERVERS => {
                    conf.servers.extend(words.next().and_then(server));
                }
                Some("options") => words.for_each(|word| conf.option(word)),
                _ => {}
            }
        }
        if conf.servers.is_empty() {
            // resolv.conf(5): without any, the server is on this machine.
            conf.servers.push(Endpoint { ip: Ipv4Addr::LOCALHOST.into(), port: 0, zone: None });
        }
        conf
    }

    fn option(&mut self, word: &str) {
        match word.split_once(':').map(|(option, value)| (option, value.parse::<u32>())) {
            Some(("timeout", Ok(seconds))) => {
                let timeout = Duration::from_secs(u64::from(seconds.max(1)));
                self.timeout = Some(timeout.min(limits::DNS_LOOKUP_TIMEOUT));
            }
            Some(("attempts", Ok(tries))) => self.tries = tries.clamp(1, limits::DNS_TRIES_MAX),
            _ => {}
        }
    }
}

/// An address, for IPv6 perhaps with a zone: `fe80::1%eth0` is what a router announces to its LAN.
fn server(word: &str) -> Option<Endpoint> {
    let (ip, zone) = match word.split_once('%') {
        Some((ip, zone)) => (ip, Some(zone.to_owned())),
        None => (word, None),
    };
    Some(Endpoint { ip: ip.parse().ok()?, port: 0, zone })
}

/// The addresses of a name in hosts(5): `ADDRESS NAME ALIAS... # comment`.
fn hosts(lines: impl BufRead, name: &str) -> io::Result<Vec<IpAddr>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut addresses = Vec::new();
    for line in lines.split(b'\n') {
        let line = line?;
        let Some(line) = line.split(|&byte| byte == b'#').next().and_then(|line| str::from_utf8(line).ok())
        else {
            continue;
        };
        let mut words = line.split_whitespace();
        let address = words.next();
        if words.any(|alias| alias.eq_ignore_ascii_case(name)) {
            addresses.extend(address.and_then(|address| address.parse::<IpAddr>().ok()));
            if addresses.len() >= limits::DNS_ADDRESSES {
                break;
            }
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn servers(text: &str) -> Vec<String> {
        ResolvConf::parse(text).servers.iter().map(|server| server.to_string()).collect()
    }

    #[test]
    fn resolv_conf_names_servers_in_order() {
        let text = "# by dhcp\nnameserver 192.0.2.1\n  nameserver\t2001:db8::1 # second\n\
                    nameserver fe80::1%eth0\n\
                    nameserver 192.0.2.4\n";
        assert_eq!(servers(text), ["192.0.2.1:0", "[2001:db8::1]:0", "[fe80::1%eth0]:0"]);
    }

    #[test]
    fn without_a_server_this_machine_is_asked() {
        for text in ["", "search lan", "nameserver", "nameserver example.org", "; nameserver 192.0.2.1"] {
            assert_eq!(servers(text), ["127.0.0.1:0"], "{text:?}");
        }
    }

    #[test]
    fn options_are_bounded() {
        let conf = ResolvConf::parse("options timeout:1 attempts:3 edns0");
        assert_eq!((conf.timeout, conf.tries), (Some(Duration::from_secs(1)), 3));
        let conf = ResolvConf::parse("options timeout:4294967295 attempts:4294967295");
        assert_eq!((conf.timeout, conf.tries), (Some(limits::DNS_LOOKUP_TIMEOUT), limits::DNS_TRIES_MAX));
        let conf = ResolvConf::parse("options timeout:0 attempts:0");
        assert_eq!((conf.timeout, conf.tries), (Some(Duration::from_secs(1)), 1));
        let conf = ResolvConf::parse("options timeout:x attempts");
        assert_eq!((conf.timeout, conf.tries), (None, limits::DNS_TRIES));
    }

    #[test]
    fn hosts_are_found_by_name_and_alias() {
        let text = b"192.0.2.1 router router.lan # 192.0.2.9 pi\n\n\xff\xfe\n192.0.2.2\tpi\n\
                     2001:db8::2 PI\nnonsense pi";
        let of = |name| {
            let addresses = hosts(&text[..], name).expect("bytes can be read");
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of("router.lan"), ["192.0.2.1"]);
        assert_eq!(of("Pi."), ["192.0.2.2", "2001:db8::2"]);
        assert_eq!(of("lan"), [""; 0]);
    }

    #[test]
    fn missing_files_are_empty_files() {
        let nowhere = Path::new("/nonexistent/file");
        let settings = Settings::load(nowhere, nowhere, "pi");
        assert_eq!(settings, Settings { resolv_conf: ResolvConf::parse(""), addresses: Vec::new() });
    }

    proptest! {
        #[test]
        fn any_text_can_be_read(bytes: Vec<u8>, name: String) {
            let conf = ResolvConf::parse(&String::from_utf8_lossy(&bytes));
            prop_assert!((1..=limits::DNS_SERVERS).contains(&conf.servers.len()));
            prop_assert!(hosts(&bytes[..], &name).is_ok());
        }
    }
}
