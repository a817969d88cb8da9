//! HTTP/1.1 as far as a gateway needs it: one request per connection, an answer with a length, in chunks or up to the
//! end (RFC 9112). Redirects are errors.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
};

use async_io::Async;
use futures::{AsyncReadExt, AsyncWriteExt};

use crate::{limits, within::within};

/// An `http` address of a machine known by its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    host: SocketAddrV4,
    /// With the slash; printable ASCII, so that it cannot end its line.
    path: String,
}

impl Url {
    /// Only addresses on `ip`.
    pub(super) fn on(ip: Ipv4Addr, text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_at_checked(7)?;
        if !scheme.eq_ignore_ascii_case("http://") {
            return None;
        }
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = match host.parse() {
            Ok(host) => host,
            Err(_) => SocketAddrV4::new(host.parse().ok()?, 80),
        };
        let url = Self { host, path: if path.is_empty() { "/".into() } else { path.into() } };
        (*host.ip() == ip && host.port() != 0 && url.is_harmless()).then_some(url)
    }

    /// Another address on the same machine: whole, or relative to this.
    pub(super) fn join(&self, text: &str) -> Option<Self> {
        let text = text.trim();
        if text.contains("://") {
            return Self::on(*self.host.ip(), text);
        }
        let path = match text.starts_with('/') {
            true => text.to_owned(),
            false => {
                let before = self.path.split('?').next().unwrap_or_default();
                let dir = before.rsplit_once('/').map_or("", |(dir, _)| dir);
                format!("{dir}/{text}")
            }
        };
        let url = Self { host: self.host, path };
        url.is_harmless().then_some(url)
    }

    fn is_harmless(&self) -> bool {
        self.path.len() <= limits::UPNP_URL_BYTES && self.path.bytes().all(|byte| byte.is_ascii_graphic())
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer in time")]
    Slow,
    #[error("the answer is too long")]
    TooLong,
    #[error("the answer is no HTTP")]
    Malformed,
    #[error("HTTP status {0}")]
    Status(u16),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// What is at an address.
pub(super) async fn fetch(url: &Url) -> Result<String, Error> {
    let answer = exchange(url, &format!("GET {} HTTP/1.1\r\n{}\r\n", url.path, head(url))).await?;
    if answer.status == 200 { Ok(answer.body) } else { Err(Error::Status(answer.status)) }
}

/// The answer to a SOAP call, whatever its status.
pub(super) async fn post(url: &Url, action: &str, body: &str) -> Result<Answer, Error> {
    let (path, head, len) = (&url.path, head(url), body.len());
    let request = format!(
        "POST {path} HTTP/1.1\r\n{head}SOAPAction: {action}\r\nContent-Type: text/xml; charset=\"utf-8\"\r\n\
         Content-Length: {len}\r\n\r\n{body}"
    );
    exchange(url, &request).await
}

fn head(url: &Url) -> String {
    format!("Host: {}\r\nConnection: close\r\nUser-Agent: warren UPnP/1.1\r\n", url.host)
}

async fn exchange(url: &Url, request: &str) -> Result<Answer, Error> {
    let exchange = async {
        let addr = SocketAddr::new(IpAddr::V4(*url.host.ip()), url.host.port());
        let mut stream = Async::<TcpStream>::connect(addr).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut reader = Reader::default();
        let mut buffer = [0; 2048];
        loop {
            let len = stream.read(&mut buffer).await?;
            if let Some(answer) = reader.read(&buffer[..len])? {
                return Ok(answer);
            }
        }
    };
    within(limits::UPNP_HTTP, exchange).await.unwrap_or(Err(Error::Slow))
}

/// What has come of an answer. Pure: bytes in.
#[derive(Default)]
struct Reader {
    bytes: Vec<u8>,
    head: Option<Head>,
}

struct Head {
    status: u16,
    body: Body,
}

enum Body {
    /// From this byte to that.
    Length(usize, usize),
    /// The next chunk begins at this byte; the content so far.
    Chunks(usize, Vec<u8>),
    /// From this byte to the end.
    Rest(usize),
}

impl Reader {
    /// Takes what one `read` brought, which is nothing at the end. The answer, when it is whole.
    fn read(&mut self, bytes: &[u8]) -> Result<Option<Answer>, Error> {
        let searched = self.bytes.len().saturating_sub(3);
        self.bytes.extend(bytes);
        if self.bytes.len() > limits::UPNP_HTTP_BYTES {
            return Err(Error::TooLong);
        }
        if self.head.is_none() {
            match find(&self.bytes, b"\r\n\r\n", searched) {
                Some(end) if end <= limits::UPNP_HEAD_BYTES => self.head = Some(read_head(&self.bytes, end)?),
                None if self.bytes.len() <= limits::UPNP_HEAD_BYTES => {}
                _ => return Err(Error::TooLong),
            }
        }
        let is_end = bytes.is_empty();
        let Some(Head { status, body }) = &mut self.head else {
            return if is_end { Err(Error::Malformed) } else { Ok(None) };
        };
        let content = match body {
            Body::Length(from, to) => self.bytes.get(*from..*to),
            Body::Chunks(at, content) => read_chunks(&self.bytes, at, content)?.then_some(&content[..]),
            Body::Rest(from) => is_end.then_some(self.bytes.get(*from..).unwrap_or_default()),
        };
        match content {
            Some(content) => {
                let body = String::from_utf8_lossy(content).into_owned();
                Ok(Some(Answer { status: *status, body }))
            }
            None if is_end => Err(Error::Malformed),
            None => Ok(None),
        }
    }
}

/// Status and length of the answer whose head ends before `end`.
fn read_head(bytes: &[u8], end: usize) -> Result<Head, Error> {
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| Error::Malformed)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().filter(|line| line.starts_with("HTTP/1.")).and_then(|line| line.get(9..12));
    let status = status.and_then(|status| status.parse().ok()).ok_or(Error::Malformed)?;
    let from = end + 4;
    let mut body = Body::Rest(from);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("Transfer-Encoding") {
            match value.eq_ignore_ascii_case("chunked") {
                // It overrides a length (RFC 9112, section 6.3).
                true => body = Body::Chunks(from, Vec::new()),
                false => return Err(Error::Malformed),
            }
        } else if name.eq_ignore_ascii_case("Content-Length") && !matches!(body, Body::Chunks(..)) {
            let len: usize = value.parse().map_err(|_| Error::Malformed)?;
            if len > limits::UPNP_HTTP_BYTES {
                return Err(Error::TooLong);
            }
            body = Body::Length(from, from + len);
        }
    }
    Ok(Head { status, body })
}

/// Takes the chunks that are whole (RFC 9112, section 7.1). `true`: that was the last.
fn read_chunks(bytes: &[u8], at: &mut usize, content: &mut Vec<u8>) -> Result<bool, Error> {
    loop {
        let Some(line_end) = find(bytes, b"\r\n", *at) else {
            let is_short = bytes.len() - *at <= limits::UPNP_HEAD_BYTES;
            return if is_short { Ok(false) } else { Err(Error::Malformed) };
        };
        let line = std::str::from_utf8(&bytes[*at..line_end]).map_err(|_| Error::Malformed)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| Error::Malformed)?;
        if size > limits::UPNP_HTTP_BYTES {
            return Err(Error::TooLong);
        }
        if size == 0 {
            return Ok(true);
        }
        let (from, to) = (line_end + 2, line_end + 2 + size);
        let Some(end) = bytes.get(to..to + 2) else { return Ok(false) };
        if end != b"\r\n" {
            return Err(Error::Malformed);
        }
        content.extend(&bytes[from..to]);
        *at = to + 2;
    }
}

fn find(bytes: &[u8], what: &[u8], from: usize) -> Option<usize> {
    let found = bytes.get(from..)?.windows(what.len()).position(|window| window == what);
    found.map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    fn url(text: &str) -> Option<String> {
        Url::on(GATEWAY, text).map(|url| format!("{}{}", url.host, url.path))
    }

    #[test]
    fn only_addresses_of_the_gateway_are_taken() {
        assert_eq!(url("http://192.168.1.1:5000/root.xml").as_deref(), Some("192.168.1.1:5000/root.xml"));
        assert_eq!(url(" HTTP://192.168.1.1").as_deref(), Some("192.168.1.1:80/"));
        for bad in [
            "http://192.168.1.2/",
            "http://127.0.0.1:80/",
            "https://192.168.1.1/",
            "http://192.168.1.1@192.168.1.2/",
            "http://192.168.1.1:0/",
            "http://192.168.1.1:99999/",
            "http://router/",
            "http://192.168.1.1/a\r\nb",
            "http://192.168.1.1/ü",
            "http:/",
            "ürl:///",
            "",
        ] {
            assert_eq!(url(bad), None, "{bad}");
        }
        assert_eq!(url(&format!("http://192.168.1.1/{}", "a".repeat(limits::UPNP_URL_BYTES))), None);
    }

    #[test]
    fn relative_addresses_stay_on_the_gateway() {
        let base = Url::on(GATEWAY, "http://192.168.1.1:5000/igd/root.xml?/x").expect("a good address");
        let join = |text| base.join(text).map(|url| format!("{}{}", url.host, url.path));
        assert_eq!(join("/ctl").as_deref(), Some("192.168.1.1:5000/ctl"));
        assert_eq!(join("ctl").as_deref(), Some("192.168.1.1:5000/igd/ctl"));
        assert_eq!(join("http://192.168.1.1:80/ctl").as_deref(), Some("192.168.1.1:80/ctl"));
        assert_eq!(join("http://198.51.100.1/ctl"), None);
        assert_eq!(join("//198.51.100.1/ctl").as_deref(), Some("192.168.1.1:5000//198.51.100.1/ctl"));
        assert_eq!(join("/a b"), None);
    }

    /// What is made of an answer that comes in pieces of so many bytes.
    fn read(text: &str, pieces: usize) -> Result<Answer, Error> {
        let mut reader = Reader::default();
        for piece in text.as_bytes().chunks(pieces) {
            if let Some(answer) = reader.read(piece)? {
                return Ok(answer);
            }
        }
        reader.read(&[]).and_then(|answer| answer.ok_or(Error::Malformed))
    }

    #[test]
    fn answers_may_have_any_kind_of_length_and_come_in_any_pieces() {
        for text in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello, and more",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            "HTTP/1.0 200\r\nServer: x\r\n\r\nhello",
        ] {
            for pieces in [1, 2, 7, 1000] {
                let answer = read(text, pieces).expect(text);
                assert_eq!((answer.status, &*answer.body), (200, "hello"), "{text}");
            }
        }
    }

    #[test]
    fn answers_that_are_too_long_or_no_answers_are_refused() {
        let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "a".repeat(limits::UPNP_HTTP_BYTES));
        let head = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "a".repeat(limits::UPNP_HEAD_BYTES));
        let huge = "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n";
        let chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n";
        for text in [&*endless, &head, huge, chunk] {
            assert!(matches!(read(text, 1000), Err(Error::TooLong)), "{}", &text[..40]);
        }
        for text in [
            "",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n",
        ] {
            assert!(matches!(read(text, 3), Err(Error::Malformed)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>, body in "[0-9a-f;\r\n]{0,40}", pieces in 1usize..9) {
            let _ = Reader::default().read(&bytes);
            let _ = read(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}"), pieces);
            let _ = Url::on(GATEWAY, &String::from_utf8_lossy(&bytes));
        }
    }
}
