//! The web page and its WebSocket: who gets it, who does not, and what a bad client comes to.

use std::{
    io::{BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use warren::limits;

use crate::net::{Dir, Json, LOOPBACK, Node, PATIENCE, finish, until};

/// A node with a page on the loopback interface, and where that says it is.
fn served(name: &str, options: &[&str]) -> (Node, String) {
    let node = Node::start(name, &[&["--web", "127.0.0.1:0"], options].concat());
    let (at, _) = page(&node);
    (node, at)
}

/// What a node says of its page: the address and the token.
fn page(node: &Node) -> (String, String) {
    let url = until("the address of the page", || {
        let log = node.program.log();
        let (_, rest) = log.split_once("the page is at http://")?;
        Some(rest.split_once('\n')?.0.split(": ").next()?.to_owned())
    });
    let (at, rest) = url.split_once('/').expect("a path");
    (at.into(), rest.strip_prefix("#token=").unwrap_or_default().into())
}

/// Asks with these bytes, and returns all that is said until the end.
fn ask(at: &str, request: &str) -> String {
    let mut socket = TcpStream::connect(at).expect("connects");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    socket.write_all(request.as_bytes()).expect("it reads");
    let mut said = String::new();
    socket.read_to_string(&mut said).expect("its end");
    said
}

fn get(at: &str, path: &str, headers: &str) -> String {
    ask(at, &format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n{headers}\r\n"))
}

/// A WebSocket as a browser has it, written by hand.
struct Client(BufReader<TcpStream>);

impl Client {
    /// The socket, or the status of the refusal.
    fn open(at: &str, headers: &str) -> Result<Self, String> {
        Self::on(TcpStream::connect(at).expect("connects"), at, headers)
    }

    fn on(mut stream: TcpStream, at: &str, headers: &str) -> Result<Self, String> {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let host = if headers.contains("Host:") { String::new() } else { format!("Host: {at}\r\n") };
        let head = format!(
            "GET /ws HTTP/1.1\r\n{host}Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).expect("it reads");
        let mut said = Vec::new();
        let mut stream = BufReader::new(stream);
        while !said.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            said.push(byte[0]);
        }
        let said = String::from_utf8(said).expect("text");
        if said.starts_with("HTTP/1.1 101 ") {
            assert!(said.contains("\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{said}");
            return Ok(Self(stream));
        }
        Err(said.split(' ').nth(1).expect("a status").into())
    }

    /// The page's own.
    fn of_page(at: &str) -> Self {
        let mut client = Self::open(at, &format!("Origin: http://{at}\r\n")).expect("taken");
        client.say("{\"cmd\":\"whoami\",\"id\":\"here\"}");
        client.until(|event| event.text("id") == "here");
        client
    }

    /// A frame under a mask. `first`: the bit for the last one of a message, and the opcode.
    fn frame(&mut self, first: u8, payload: &[u8]) {
        let mask = [7, 99, 0, 255];
        let mut frame = vec![first];
        match payload.len() {
            length @ ..126 => frame.push(0x80 | length as u8),
            length @ ..65536 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        // It may have been closed, which the next read will tell.
        let _ = self.0.get_mut().write_all(&frame);
    }

    fn say(&mut self, line: &str) {
        self.frame(0x81, line.as_bytes());
    }

    /// The next frame: its first byte and what is in it. `None` at the end.
    fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).ok()?;
        let mut length = [0; 8];
        let of_length = match head[1] {
            126 => 2,
            127 => 8,
            short => {
                length[7] = short;
                0
            }
        };
        self.0.read_exact(&mut length[8 - of_length..]).ok()?;
        let mut payload = vec![0; u64::from_be_bytes(length) as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some((head[0], payload))
    }

    /// Reads on to an event that fits.
    fn until(&mut self, fits: impl Fn(&Json) -> bool) -> Json {
        loop {
            let (first, payload) = self.next().expect("it goes on");
            assert_eq!(first, 0x81, "a whole text: {}", String::from_utf8_lossy(&payload));
            let event = Json::parse(std::str::from_utf8(&payload).expect("text"));
            if fits(&event) {
                return event;
            }
        }
    }

    /// Reads to the end, and returns with what code it was closed.
    fn closed(&mut self) -> Option<u16> {
        let mut code = None;
        while let Some((first, payload)) = self.next() {
            if first == 0x88 {
                code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            }
        }
        code
    }
}

#[test]
fn the_page_is_there_and_keeps_to_itself() {
    let (_node, at) = served("node", &[]);
    for (path, media_type, part) in [
        ("/", "text/html", "<title>warren</title>"),
        ("/style.css", "text/css", "prefers-color-scheme"),
        ("/app.js", "text/javascript", "WebSocket"),
        ("/icon.svg", "image/svg+xml", "<svg"),
    ] {
        let said = get(&at, path, "");
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.contains(part), "{path}: {said}");
        for header in [
            &format!("content-type: {media_type}"),
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
        ] {
            assert!(said.contains(header), "{path}, {header}: {said}");
        }
        assert!(
            !said.contains("unsafe") && !said.contains("https://"),
            "{path}: nothing comes from elsewhere"
        );
    }
    let page = get(&at, "/", "");
    for inline in ["<style", "style=\"", "onclick=", "javascript:"] {
        assert!(!page.contains(inline), "the policy would stop {inline}");
    }
    for never in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
        assert!(!get(&at, "/app.js", "").contains(never), "{never} takes text for HTML");
    }
    assert!(get(&at, "/../Cargo.toml", "").starts_with("HTTP/1.1 404 "));
    assert!(get(&at, "/ws", "").starts_with("HTTP/1.1 426 "));
    let posted = ask(&at, &format!("POST / HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n"));
    assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
}

#[test]
fn pages_of_others_do_not_get_in() {
    let (_node, at) = served("node", &[]);
    let port = at.rsplit(':').next().expect("a port");
    for (headers, status) in [
        // Another page, also one of another port; and none.
        ("Origin: http://evil.example\r\n".into(), "403"),
        ("Origin: null\r\n".into(), "403"),
        (format!("Origin: https://{at}\r\n"), "403"),
        ("Origin: http://127.0.0.1:1\r\n".into(), "403"),
        (format!("Origin: http://localhost:{port}\r\n"), "403"),
        (String::new(), "403"),
        // A name that leads here.
        (format!("Host: evil.example:{port}\r\nOrigin: http://evil.example:{port}\r\n"), "421"),
        (format!("Host: 127.0.0.1.evil.example:{port}\r\nOrigin: http://{at}\r\n"), "421"),
        ("Host: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\n".into(), "421"),
        (format!("Host: [::1;]:{port}\r\nOrigin: http://[::1;]:{port}\r\n"), "421"),
    ] {
        assert_eq!(Client::open(&at, &headers).err().as_deref(), Some(status), "{headers}");
    }
    for host in [format!("evil.example:{port}"), "127.0.0.1:1".into(), String::new(), format!("{at};x")] {
        let said = ask(&at, &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        assert!(said.starts_with("HTTP/1.1 421 ") && !said.contains("<html"), "{host}: {said}");
    }
    for name in
        [at.clone(), format!("localhost:{port}"), format!("[::1]:{port}"), format!("LOCALHOST:{port}")]
    {
        let headers = format!("Host: {name}\r\nOrigin: http://{}\r\n", name.to_lowercase());
        assert!(Client::open(&at, &headers).is_ok(), "{name}");
    }
}

#[test]
fn off_this_machine_nobody_gets_in_without_the_token() {
    let node = Node::start("node", &["--web", "0.0.0.0:0"]);
    let (elsewhere, token) = page(&node);
    assert!(token.len() >= 32 && token.chars().all(|c| c.is_ascii_hexdigit()), "{token}");
    assert!(!elsewhere.starts_with("0.0.0.0"), "that is no address to open: {elsewhere}");
    let at = format!("127.0.0.1:{}", elsewhere.rsplit(':').next().expect("a port"));
    let of_page = format!("Origin: http://{at}\r\n");
    let wrong = format!("{}{}", if token.starts_with('0') { '1' } else { '0' }, &token[1..]);
    for shown in ["", "token.", &format!("token.{wrong}"), &format!("token.{}", &token[1..]), &token] {
        let headers = format!("{of_page}Sec-WebSocket-Protocol: warren, {shown}\r\n");
        assert_eq!(Client::open(&at, &headers).err().as_deref(), Some("401"), "{shown}");
    }
    assert_eq!(Client::open(&at, &of_page).err().as_deref(), Some("401"));
    let bearer = |word: &str| get(&at, "/ws", &format!("Authorization: Bearer {word}\r\n"));
    assert!(bearer(&wrong).starts_with("HTTP/1.1 401 ") && bearer(&token).starts_with("HTTP/1.1 426 "));
    // The page itself is no secret, and a token is not enough for somebody else's.
    assert!(get(&at, "/", "").starts_with("HTTP/1.1 200 "));
    let protocol = format!("Sec-WebSocket-Protocol: warren, token.{token}\r\n");
    let foreign = format!("Origin: http://evil.example\r\n{protocol}");
    assert_eq!(Client::open(&at, &foreign).err().as_deref(), Some("403"));
    let mut client = Client::open(&at, &format!("{of_page}{protocol}")).expect("taken");
    client.say("{\"cmd\":\"whoami\",\"id\":1}");
    assert_eq!(client.until(|event| event.has("id")).text("peerId"), node.peer);
    assert_eq!(node.program.log().matches(&token).count(), node.program.log().matches("/#token=").count());
}

#[test]
fn it_carries_what_the_other_faces_do() {
    let (mut ada, at) = served("ada", &["--nick", "ada"]);
    let mut bob = Node::beside(&ada, "bob", &["--nick", "bob"]);
    bob.meets(&ada);
    ada.meets(&bob);
    bob.until_mesh(1);
    let mut page = Client::of_page(&at);
    // In two frames, with a ping between them, which is answered.
    page.frame(0x01, b"{\"cmd\":\"send\",\"text\":\"from the");
    page.frame(0x89, b"there?");
    page.frame(0x80, b" page\",\"id\":1}");
    // Something may be told before it.
    let pong = std::iter::from_fn(|| page.next()).find(|(first, _)| *first == 0x8a);
    assert_eq!(pong, Some((0x8a, b"there?".to_vec())));
    let sent = page.until(|event| event.number("id") == 1.0);
    assert_eq!(bob.hear("from the page").text("messageId"), sent.text("messageId"));
    bob.say("a\n<script>alert(1)</script>\u{2028}\"");
    let heard = page.until(|event| event.text("event") == "message");
    assert_eq!(heard.text("text"), "a\n<script>alert(1)</script>\u{2028}\"");
    page.say("{\"cmd\":\"nick\",\"nick\":\"Ada L.\",\"id\":2}");
    page.until(|event| event.number("id") == 2.0 && event.text("event") == "ok");
    bob.wait("the new name", |event| event.text("nick") == "Ada L.");
    ada.program.close_input();
    page.until(|event| event.text("event") == "stopped");
    assert_eq!(page.closed(), Some(1001));
    assert_eq!(ada.program.ends_within(PATIENCE), Some(0));
}

#[test]
fn bad_frames_end_their_connection_and_bad_lines_do_not() {
    let (mut node, at) = served("node", &[]);
    let mut client = Client::of_page(&at);
    for (first, payload, part) in [
        (0x81, &b"{\"cmd\":"[..], "no JSON"),
        (0x81, b"", ""),
        (0x82, b"\x00\x01", "no UTF-8"),
        (0x81, b"{\"cmd\":\"dance\"}", "dance"),
    ] {
        client.frame(first, payload);
        if !part.is_empty() {
            let error = client.until(|event| event.text("event") == "error");
            assert!(error.text("message").contains(part), "{error:?}");
        }
    }
    client.frame(0x88, &1000u16.to_be_bytes());
    assert_eq!(client.closed(), Some(1000), "a goodbye is answered");
    let long = vec![b' '; limits::LINE_BYTES + 1];
    for (first, payload, code) in [
        (0x81, &b"\xff\xfe"[..], 1007),
        (0x81, &long, 1009),
        // Nothing is going on, a reserved opcode, a reserved bit, and a long ping.
        (0x80, b"x", 1002),
        (0x83, b"x", 1002),
        (0xc1, b"x", 1002),
        (0x89, &long[..126], 1002),
    ] {
        let mut client = Client::of_page(&at);
        client.frame(first, payload);
        assert_eq!(client.closed(), Some(code), "{first:x} {payload:.20?}");
    }
    // Pieces that are too long together; a frame that says that it has 2^62 bytes; one without a mask; no frames.
    let mut client = Client::of_page(&at);
    for piece in long.chunks(limits::LINE_BYTES / 3) {
        client.frame(if piece.as_ptr() == long.as_ptr() { 0x01 } else { 0x00 }, piece);
    }
    assert_eq!(client.closed(), Some(1009));
    for (bytes, code) in [
        (&b"\x81\xff\x40\0\0\0\0\0\0\0abcd"[..], 1009),
        (b"\x81\x01x", 1002),
        (b"GET / HTTP/1.1\r\n\r\n", 1002),
    ] {
        let mut client = Client::of_page(&at);
        client.0.get_mut().write_all(bytes).expect("it reads");
        assert_eq!(client.closed(), Some(code), "{bytes:?}");
    }
    node.done("whoami", &[]);
}

#[test]
fn there_is_room_for_so_many_and_for_others_later() {
    let (_node, at) = served("node", &[]);
    let mut crowd: Vec<Client> = (0..limits::WEB_CLIENTS).map(|_| Client::of_page(&at)).collect();
    let of_page = format!("Origin: http://{at}\r\n");
    assert_eq!(Client::open(&at, &of_page).err().as_deref(), Some("503"));
    assert!(get(&at, "/ws", "").starts_with("HTTP/1.1 503 "));
    assert!(get(&at, "/", "").starts_with("HTTP/1.1 200 "), "the page can say so");
    crowd[0].say("{\"cmd\":\"rooms\",\"id\":3}");
    crowd[0].until(|event| event.number("id") == 3.0);
    drop(crowd.pop());
    until("a free place", || Client::open(&at, &of_page).ok());
}

#[test]
fn a_browser_that_stands_still_holds_up_nobody_and_is_told_what_it_missed() {
    let (mut ada, at) = served("ada", &[]);
    let mut bob = Node::beside(&ada, "bob", &[]);
    bob.meets(&ada);
    ada.meets(&bob);
    bob.until_mesh(1);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(16 * 1024).expect("a small buffer");
    socket.connect(&at.parse::<SocketAddr>().expect("an address").into()).expect("connects");
    let mut lazy = Client::on(socket.into(), &at, &format!("Origin: http://{at}\r\n")).expect("taken");
    // One that asks and pings without end and reads nothing.
    let mut asker = Client::of_page(&at);
    asker.0.get_mut().set_nonblocking(true).expect("a flag");
    let frames = [&b"\x89\x84\0\0\0\0ping\x81\x8f\0\0\0\0{\"cmd\":\"rooms\"}"[..]; 100].concat();
    while asker.0.get_mut().write(&frames).is_ok() {}
    let text = "x".repeat(limits::TEXT_BYTES);
    let count = 8 * limits::WEB_EVENT_BYTES / limits::TEXT_BYTES;
    for _ in 0..count {
        bob.say(&text);
        ada.hear(&text);
    }
    let (mut heard, mut missed) = (0, 0.0);
    while heard as f64 + missed < count as f64 {
        let event = lazy.until(|event| ["message", "lagged"].contains(&event.text("event")));
        match event.text("event") {
            "message" => heard += 1,
            _ => missed += event.number("missed"),
        }
    }
    assert!(missed > 0.0 && heard > 0, "{heard} heard, {missed} missed");
    bob.say("again");
    assert_eq!(lazy.until(|event| event.text("event") == "message").text("text"), "again");
}

#[test]
fn who_does_not_answer_a_ping_is_given_up() {
    let (_node, at) = served("node", &[]);
    let mut client = Client::of_page(&at);
    client
        .0
        .get_ref()
        .set_read_timeout(Some(limits::WEB_PING + limits::WEB_PONG + PATIENCE))
        .expect("a time-out");
    let begun = std::time::Instant::now();
    assert_eq!(client.next(), Some((0x89, Vec::new())));
    assert_eq!(client.closed(), None, "there is nobody to tell");
    let lasted = begun.elapsed();
    assert!(lasted + Duration::from_secs(1) > limits::WEB_PING + limits::WEB_PONG, "{lasted:?}");
}

#[test]
fn an_address_that_cannot_be_used_is_quoted() {
    let dir = Dir::new();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
    let addr = taken.local_addr().expect("bound").to_string();
    let ended = finish(&dir, &["run", "--listen", LOOPBACK, "--web", &addr]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&addr) && ended.stderr.contains("give --web another"), "{ended:?}");
    for command in ["run", "relay"] {
        for word in ["8080", "localhost:8080", "127.0.0.1", ""] {
            let ended = finish(&dir, &[command, "--web", word]);
            assert_eq!(ended.code, Some(2), "{word}: {ended:?}");
            assert!(ended.stderr.contains(&format!("--web '{word}'")), "{ended:?}");
        }
    }
    if cfg!(feature = "metrics") {
        let ended = finish(&dir, &["run", "--web", "127.0.0.1:9464", "--metrics", "127.0.0.1:9464"]);
        assert!(ended.code == Some(2) && ended.stderr.contains("'127.0.0.1:9464'"), "{ended:?}");
    }
    let file = dir.file("warren.conf", "web 127.0.0.1:0\n", 0o600);
    let node = Node::start("node", &["--config", &file]);
    assert!(get(&page(&node).0, "/", "").starts_with("HTTP/1.1 200 "));
}
