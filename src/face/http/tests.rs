//! Clients of all kinds meet a server on loopback.

use std::{
    io::{Read, Write},
    net::TcpStream as Socket,
    thread,
    time::Duration,
};

use super::*;

/// A server that answers `/` with "hello", gives `/echo` away, and never answers `/slow`, in a thread of its own that
/// ends with the test. Returns where it is.
fn server() -> SocketAddr {
    let server = Server::bind(([127, 0, 0, 1], 0).into()).expect("binds");
    let addr = server.local_addr().expect("bound");
    thread::spawn(move || {
        let executor = Arc::new(Executor::new());
        let spawner = executor.clone();
        let handler = move |request: Request| {
            let spawner = spawner.clone();
            async move {
                match request.path() {
                    "/echo" => {
                        let echo = move |mut stream: Async<TcpStream>, early: Vec<u8>| {
                            let task = async move {
                                let mut bytes = [0; 64];
                                let mut length = early.len();
                                bytes[..length].copy_from_slice(&early);
                                while length > 0 && stream.write_all(&bytes[..length]).await.is_ok() {
                                    length = stream.read(&mut bytes).await.unwrap_or(0);
                                }
                            };
                            spawner.spawn(task).detach();
                        };
                        Outcome::Upgrade(Response::text(101, "").with("upgrade", "echo"), Box::new(echo))
                    }
                    "/slow" => future::pending().await,
                    _ => Outcome::Answer(Response::text(200, "hello")),
                }
            }
        };
        futures_timer::block_on(executor.run(server.run(executor.clone(), handler)));
    });
    addr
}

fn connect(addr: SocketAddr) -> Socket {
    let socket = Socket::connect(addr).expect("connects");
    socket.set_read_timeout(Some(Duration::from_secs(40))).expect("a time-out");
    socket
}

/// All that it says to these bytes, to the end of the connection. A reset ends it as well.
fn talk(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = connect(addr);
    let mut said = Vec::new();
    // It may have closed by now, which is what is to be seen.
    let _ = socket.write_all(bytes);
    let _ = socket.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

#[track_caller]
fn answers(addr: SocketAddr) {
    let said = talk(addr, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("\r\n\r\nhello"), "{said}");
}

#[test]
fn several_requests_go_over_one_connection() {
    let said = talk(
        server(),
        b"GET / HTTP/1.1\r\n\r\nHEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    );
    assert_eq!((said.matches("HTTP/1.1 200").count(), said.matches("hello").count()), (3, 2), "{said}");
}

#[test]
fn garbage_is_told_so_and_harms_nobody() {
    let addr = server();
    for bytes in [&b"\x16\x03\x01\x02\x00\x01"[..], b"\n\n\n\0\n", b"GET / HTTP/9\r\n\r\n", &[0xff; 5000]] {
        let said = talk(addr, bytes);
        assert!(said.starts_with("HTTP/1.1 400 "), "{bytes:?}: {said}");
        answers(addr);
    }
}

#[test]
fn a_head_without_end_is_cut_off() {
    let addr = server();
    let said = talk(addr, &[b"GET / HTTP/1.1\r\nx: ", &vec![b'a'; limits::HTTP_HEAD_BYTES][..]].concat());
    assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
    let said =
        talk(addr, &[b"GET / HTTP/1.1\r\n", &b"x: y\r\n".repeat(limits::HTTP_HEADERS + 1)[..]].concat());
    assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
    answers(addr);
}

#[test]
fn who_dawdles_is_told_and_left() {
    let addr = server();
    let mut socket = connect(addr);
    socket.write_all(b"GET / HT").expect("written");
    answers(addr);
    let mut said = String::new();
    socket.read_to_string(&mut said).expect("its end");
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
}

#[test]
fn who_holds_a_thousand_connections_keeps_nobody_out() {
    let addr = server();
    let mut sockets: Vec<Socket> = Vec::new();
    for n in 0..1000 {
        let mut socket = connect(addr);
        let beginning: &[u8] = [&b""[..], b"GET /slow HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nx:"][n % 3];
        // It may have been closed for a later one.
        let _ = socket.write_all(beginning);
        sockets.push(socket);
        // As many as a system with 1,024 files a process allows beside the server's.
        if sockets.len() > 400 {
            sockets.remove(0);
        }
    }
    answers(addr);
    let is_open = |socket: &mut Socket| {
        socket.set_nonblocking(true).expect("a flag");
        matches!(socket.read(&mut [0]), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    };
    let open = sockets.iter_mut().filter_map(|socket| is_open(socket).then_some(())).count();
    assert!(open <= limits::HTTP_CONNECTIONS, "{open} are open");
}

#[test]
fn a_connection_can_become_something_else() {
    let addr = server();
    let mut socket = connect(addr);
    socket.write_all(b"GET /echo HTTP/1.1\r\n\r\nearly").expect("written");
    let mut said = Vec::new();
    while !said.ends_with(b"\r\n\r\nearly") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("a byte");
        said.push(byte[0]);
    }
    let head = String::from_utf8(said).expect("text");
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("upgrade: echo"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
    socket.write_all(b"late").expect("written");
    let mut said = [0; 4];
    socket.read_exact(&mut said).expect("an echo");
    assert_eq!(&said, b"late");
}
