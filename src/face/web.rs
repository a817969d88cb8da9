//! A web page to see and steer a node with: `--web`.
//!
//! The page is a few files in this program; what it shows comes over a WebSocket at `/ws`, which carries the JSON lines
//! of the other faces, one object a text frame. Whoever may open that socket may do what the node's user may, so it is
//! not opened to pages of somebody else (`Origin`), not under names that were made to lead here (`Host`), and, where
//! others than this machine can connect, to nobody without the token.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod socket;
mod token;

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use async_channel::Sender;
use data_encoding::BASE64;
use sha1::{Digest, Sha1};
use smol::Executor;

use self::token::Token;
use super::http::{Outcome, Request, Response, Server, Upgrade};
use crate::{limits, node::api::Handle, transport};

/// The page's files: path, media type, content.
const FILES: [(&str, &str, &[u8]); 4] = [
    ("/", "text/html; charset=utf-8", include_bytes!("web/page/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_bytes!("web/page/style.css")),
    ("/app.js", "text/javascript; charset=utf-8", include_bytes!("web/page/app.js")),
    ("/icon.svg", "image/svg+xml", include_bytes!("web/page/icon.svg")),
];

/// The protocol that the page speaks over its WebSocket; the token follows it as `token.HEX`, as browsers let a page
/// say nothing else in a handshake.
const PROTOCOL: &str = "warren";

/// Listens for those who open the page.
pub struct Endpoint {
    server: Server,
    desk: Desk,
}

/// What requests are answered from.
struct Desk {
    /// The port that clients must name.
    port: u16,
    /// What clients must show, unless only this machine can connect.
    token: Option<Token>,
}

/// Each WebSocket holds a copy, and the server one: so many there are. Nothing is sent.
type Seats = Sender<Infallible>;

impl Endpoint {
    /// Listens at this address, and says where the page is.
    ///
    /// # Errors
    /// With the address: it is taken or not of this machine, or there are no random numbers for a token.
    pub fn bind(addr: SocketAddr) -> Result<Self, (SocketAddr, io::Error)> {
        let bind = || {
            let server = Server::bind(addr)?;
            let addr = server.local_addr()?;
            let token = if addr.ip().is_loopback() { None } else { Some(Token::new()?) };
            Ok((server, addr, token))
        };
        let (server, addr, token) = bind().map_err(|e| (addr, e))?;
        match &token {
            None => log::info!("the page is at http://{addr}/"),
            Some(token) => {
                for addr in reached_at(addr) {
                    // The part behind '#' stays in the browser.
                    log::warn!(
                        "the page is at http://{addr}/#token={token}: whoever has this URL steers the node"
                    );
                }
            }
        }
        Ok(Self { server, desk: Desk { port: addr.port(), token } })
    }

    /// Answers from now on. What is returned ends when it is dropped or awaited, and then when nobody has the page any
    /// more: WebSockets go on for as long as the node, and have its last words to hear.
    pub fn spawn(
        self,
        executor: &Arc<Executor<'static>>,
        handle: Handle,
    ) -> impl Future<Output = ()> + Send + use<> {
        let Self { server, desk } = self;
        let (seats, gone) = async_channel::bounded(1);
        // One of the server's own, however many connections it has.
        let seats: Arc<Seats> = Arc::new(seats);
        let desk = Arc::new(desk);
        let spawner = executor.clone();
        let handler = move |request: Request| {
            let answer = desk.answer(&request, &seats, &handle, &spawner);
            async move { answer }
        };
        let task = executor.spawn(server.run(executor.clone(), handler));
        async move {
            drop(task);
            // Nothing is ever sent: the channel closes with the last seat.
            let _: Result<Infallible, _> = gone.recv().await;
        }
    }
}

impl Desk {
    fn answer(
        &self,
        request: &Request,
        seats: &Arc<Seats>,
        handle: &Handle,
        executor: &Arc<Executor<'static>>,
    ) -> Outcome {
        let Some(host) = authority(request, self.port) else {
            return refuse(421, "this page is opened by an IP address or as localhost, with its own port\n");
        };
        if !matches!(request.method(), "GET" | "HEAD") {
            return Outcome::Answer(safe(
                Response::text(405, "this is asked by GET\n").with("allow", "GET, HEAD"),
                host,
            ));
        }
        if request.path() != "/ws" {
            let file = FILES.iter().find(|(path, ..)| *path == request.path());
            return match file {
                Some((_, media_type, content)) => {
                    Outcome::Answer(safe(Response::new(200, media_type, *content), host))
                }
                None => refuse(404, "there are / and /ws\n"),
            };
        }
        if !self.is_known(request) {
            return refuse(
                401,
                "the token is missing or wrong; open the URL that the node printed at its start\n",
            );
        }
        if seats.sender_count() > limits::WEB_CLIENTS {
            return refuse(503, "as many have this page open as can; close one\n");
        }
        match self.admit(request, host) {
            Ok(response) => {
                let (seat, handle, executor) = (Seats::clone(seats), handle.clone(), executor.clone());
                let upgrade: Upgrade = Box::new(move |stream, early| {
                    executor.spawn(socket::serve(stream, early, handle, seat)).detach();
                });
                Outcome::Upgrade(response, upgrade)
            }
            Err((status, why)) => refuse(status, why),
        }
    }

    /// Whether a request shows the token. Programs may do so by `Authorization: Bearer HEX`.
    fn is_known(&self, request: &Request) -> bool {
        let shown = words(request, "sec-websocket-protocol").find_map(|word| word.strip_prefix("token."));
        let bearer = || request.header("authorization")?.strip_prefix("Bearer ");
        self.token.as_ref().is_none_or(|token| token.is(shown.or_else(bearer).unwrap_or_default()))
    }

    /// The end of the handshake (RFC 6455, section 4.2), or why there is none. The page asks without an
    /// upgrade to learn why it was refused, since browsers do not tell.
    fn admit(&self, request: &Request, host: &str) -> Result<Response, (u16, &'static str)> {
        let says = |name, word: &str| words(request, name).any(|other| other.eq_ignore_ascii_case(word));
        let key = request.header("sec-websocket-key").map(|key| BASE64.decode(key.as_bytes()));
        let Some(Ok(key)) = key.filter(|key| matches!(key, Ok(key) if key.len() == 16)) else {
            return Err((426, "this speaks WebSocket\n"));
        };
        if !says("upgrade", "websocket")
            || !says("connection", "upgrade")
            || !says("sec-websocket-version", "13")
            || request.method() != "GET"
        {
            return Err((426, "this speaks WebSocket, version 13\n"));
        }
        let origin = request.header("origin").and_then(|origin| origin.strip_prefix("http://"));
        if !origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host)) {
            return Err((403, "this is for the node's own page; its Origin is http:// and the Host\n"));
        }
        let response = Response::text(101, "")
            .with("upgrade", "websocket")
            .with("connection", "Upgrade")
            .with("sec-websocket-accept", accept(&key));
        let response = match says("sec-websocket-protocol", PROTOCOL) {
            true => response.with("sec-websocket-protocol", PROTOCOL),
            false => response,
        };
        Ok(response)
    }
}

/// The words of a header field that is a list.
fn words<'a>(request: &'a Request, name: &str) -> impl Iterator<Item = &'a str> {
    request.header(name).unwrap_or_default().split(',').map(str::trim)
}

/// The `Host` of a request, if it is an IP address or `localhost` with this port. A name that somebody else made to
/// lead here (DNS rebinding) is not.
fn authority(request: &Request, port: u16) -> Option<&str> {
    let host = request.header("host")?;
    let (name, named) = match host.rsplit_once(':') {
        Some((name, word)) if !word.ends_with(']') => (name, word.parse().ok()?),
        _ => (host, 80),
    };
    let is_ip = match name.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.parse::<std::net::Ipv4Addr>().is_ok(),
    };
    (named == port && (is_ip || name.eq_ignore_ascii_case("localhost"))).then_some(host)
}

fn refuse(status: u16, why: &str) -> Outcome {
    Outcome::Answer(safe(Response::text(status, why), ""))
}

/// The page may load its own files, talk with its own node, and nothing else; nobody may put it into a frame or keep it.
fn safe(response: Response, host: &str) -> Response {
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ws://{host}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'"
    );
    let policy = if host.is_empty() { "default-src 'none'; frame-ancestors 'none'".into() } else { policy };
    response
        .with("content-security-policy", policy)
        .with("x-content-type-options", "nosniff")
        .with("referrer-policy", "no-referrer")
        .with("cross-origin-resource-policy", "same-origin")
        .with("cache-control", "no-store")
}

/// What proves that the server speaks WebSocket, from the decoded key (RFC 6455, section 4.2.2).
fn accept(key: &[u8]) -> String {
    const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    BASE64.encode(&Sha1::new().chain_update(BASE64.encode(key)).chain_update(GUID).finalize())
}

/// Where others can open the page that listens at `addr`: the addresses of this machine if it listens at all.
fn reached_at(addr: SocketAddr) -> Vec<SocketAddr> {
    if !addr.ip().is_unspecified() {
        return vec![addr];
    }
    let is_fit = |ip: &IpAddr| !ip.is_loopback() && (ip.is_ipv4() || addr.is_ipv6());
    // Where the kernel does not tell, whoever runs the node knows its address.
    let own = transport::on_link().unwrap_or_default().into_iter().map(|(ip, _)| ip).filter(is_fit);
    let own: Vec<_> = own.take(limits::WEB_URLS).map(|ip| SocketAddr::new(ip, addr.port())).collect();
    if own.is_empty() { vec![addr] } else { own }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_is_that_of_the_rfc() {
        let key = BASE64.decode(b"dGhlIHNhbXBsZSBub25jZQ==").expect("base64");
        assert_eq!(accept(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_page_for_all_interfaces_is_found_at_one_of_them() {
        let given: SocketAddr = "192.0.2.1:80".parse().expect("valid");
        assert_eq!(reached_at(given), [given]);
        let own = reached_at("0.0.0.0:8080".parse().expect("valid"));
        assert!(!own.is_empty() && own.iter().all(|addr| addr.port() == 8080 && addr.is_ipv4()), "{own:?}");
    }
}
