//! Requests and responses as bytes (RFC 9110, RFC 9112). Pure.

use std::fmt::Write;

use crate::limits;

/// A request. It has no body: those that do are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    method: String,
    target: String,
    /// HTTP/1.1; otherwise 1.0.
    is_11: bool,
    headers: Vec<(String, Vec<u8>)>,
}

/// A response with its whole body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Request {
    /// `GET`, `HEAD` and so on.
    pub fn method(&self) -> &str {
        &self.method
    }

    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// What is asked for, without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The value of a header field, whatever the case of its name; the first one, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// Whether the client wants to ask again on this connection.
    pub fn keeps_alive(&self) -> bool {
        let connection = self.header("connection").unwrap_or_default();
        let says = |word: &str| connection.split(',').any(|part| part.trim().eq_ignore_ascii_case(word));
        if self.is_11 { !says("close") } else { says("keep-alive") }
    }

    /// Whether the client names this server as a machine's own programs do: by an IP address or as `localhost`. A web
    /// page of somebody else whose name was made to lead here (DNS rebinding) cannot.
    pub fn is_for_this_machine(&self) -> bool {
        let Some(host) = self.header("host") else { return false };
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
    }
}

impl Response {
    /// A body of this media type.
    pub fn new(status: u16, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("content-type", media_type.into())], body: body.into() }
    }

    /// Plain text.
    pub fn text(status: u16, body: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body)
    }

    /// With another header field.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// As it is sent. `is_head`: without the body, whose length is told all the same.
    pub(super) fn bytes(&self, is_head: bool, keeps: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            // Writing to a string does not fail.
            let _ = write!(head, "{name}: {value}\r\n");
        }
        // Behind 101 comes another protocol, and no body (RFC 9110, section 8.6).
        if self.status != 101 {
            let connection = if keeps { "keep-alive" } else { "close" };
            let _ = write!(head, "content-length: {}\r\nconnection: {connection}\r\n", self.body.len());
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        if !is_head {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

/// Takes a request off the front of `buffer`. `None`: there is more to come. The error says what is wrong, and is the
/// last word on a connection.
pub(super) fn take_request(buffer: &mut Vec<u8>) -> Result<Option<Request>, Response> {
    let mut headers = [httparse::EMPTY_HEADER; limits::HTTP_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(buffer) {
        Ok(httparse::Status::Complete(length)) if length <= limits::HTTP_HEAD_BYTES => length,
        Ok(httparse::Status::Partial) if buffer.len() < limits::HTTP_HEAD_BYTES => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Response::text(431, "the request's head is too long\n"));
        }
        Err(e) => return Err(Response::text(400, &format!("this is no HTTP/1.1 request: {e}\n"))),
    };
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Response::text(400, "this is no HTTP/1.1 request\n"));
    };
    let headers = parsed.headers.iter().map(|field| (field.name.to_owned(), field.value.to_owned()));
    let request = Request {
        method: method.into(),
        target: target.into(),
        is_11: version == 1,
        headers: headers.collect(),
    };
    // What is in a body would be read as the next request.
    let has = |name: &str| request.headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    let lengths = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    if has("transfer-encoding") || lengths.into_iter().any(|(_, length)| length != b"0") {
        return Err(Response::text(413, "a request with a body is not for this server\n"));
    }
    buffer.drain(..length);
    Ok(Some(request))
}

fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        // The reason is for people, and may be empty.
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn take(bytes: &[u8]) -> Result<Option<Request>, u16> {
        take_request(&mut bytes.to_vec()).map_err(|response| response.status)
    }

    #[test]
    fn requests_come_one_after_the_other() {
        let mut bytes = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\nHEAD / HTTP/1.0\r\n\r\nGET".to_vec();
        let first = take_request(&mut bytes).expect("good").expect("whole");
        assert_eq!((first.method(), first.path(), first.header("HOST")), ("GET", "/a", Some("x")));
        assert!(first.keeps_alive() && !first.is_head());
        let second = take_request(&mut bytes).expect("good").expect("whole");
        assert!(!second.keeps_alive() && second.is_head());
        assert_eq!((take_request(&mut bytes), bytes), (Ok(None), b"GET".to_vec()));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (bytes, status) in [
            (&b"\x16\x03\x01\x00"[..], 400),
            (b"GET / SIP/2.0\r\n\r\n", 400),
            (b"GET / HTTP/2.0\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nbad name: 1\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 413),
            (b"POST / HTTP/1.1\r\ncontent-length: 0\r\nContent-Length: 3\r\n\r\nabc", 413),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", 413),
        ] {
            assert_eq!(take(bytes), Err(status), "{}", String::from_utf8_lossy(bytes));
        }
        let many = "a: b\r\n".repeat(limits::HTTP_HEADERS + 1);
        assert_eq!(take(format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes()), Err(431));
        let long = "a".repeat(limits::HTTP_HEAD_BYTES);
        assert_eq!(take(format!("GET /{long}").as_bytes()), Err(431));
        assert_eq!(take(format!("GET / HTTP/1.1\r\nx: {long}\r\n\r\n").as_bytes()), Err(431));
    }

    #[test]
    fn a_name_that_leads_here_is_not_this_machine() {
        for (host, is_for_us) in [
            ("127.0.0.1:9464", true),
            ("localhost", true),
            ("LocalHost:1", true),
            ("[::1]:9464", true),
            ("192.0.2.1", true),
            ("evil.example:9464", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            let request = take(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
            assert_eq!(request.expect("good").expect("whole").is_for_this_machine(), is_for_us, "{host}");
        }
    }

    #[test]
    fn a_head_tells_the_length_of_what_it_leaves_out() {
        let response = Response::text(200, "hello").with("x-y", "z");
        let whole = String::from_utf8(response.bytes(false, true)).expect("text");
        let head = String::from_utf8(response.bytes(true, true)).expect("text");
        assert_eq!(whole, format!("{head}hello"));
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("\r\nx-y: z\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-length: 5\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_a_request_or_refused_or_goes_on(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let before = bytes.clone();
            if let Ok(None) = take_request(&mut bytes) {
                prop_assert_eq!(before, bytes);
            }
        }

        #[test]
        fn a_request_is_the_same_in_pieces(path in "/[a-z]{0,9}", value in "[ -~]{0,20}", cut in 0usize..40) {
            let whole = format!("GET {path} HTTP/1.1\r\nName: {value}\r\n\r\n").into_bytes();
            let cut = cut.min(whole.len() - 1);
            prop_assert_eq!(take(&whole[..cut]), Ok(None));
            let request = take(&whole).expect("good").expect("whole");
            prop_assert_eq!(request.path(), path);
            prop_assert_eq!(request.header("name"), Some(value.trim()));
        }
    }
}
