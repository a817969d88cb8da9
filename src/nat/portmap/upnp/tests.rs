//! Against a gateway of our own making, on the loopback, which says odd things.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use super::*;

const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;
const MAP: Job = Job::Map { protocol: Protocol::Udp, internal: 4001, external: 4002, lease: 3600 };

/// The gateway: answers to requests, by what is in them. `{port}` stands for its own port.
struct Fake {
    place: Place,
    requests: Arc<Mutex<Vec<String>>>,
}

type Answers = Vec<(&'static str, String)>;

impl Fake {
    /// The first of `answers` whose words are in a request is the answer to it; none closes the connection.
    fn new(location: &str, answers: Answers) -> Self {
        let http = TcpListener::bind((LOCAL, 0)).expect("a port");
        let port = http.local_addr().expect("a port").port().to_string();
        let ssdp = UdpSocket::bind((LOCAL, 0)).expect("a port");
        let SocketAddr::V4(search) = ssdp.local_addr().expect("a port") else { panic!("IPv4") };
        let found = format!("HTTP/1.1 200 OK\r\nLOCATION: {}\r\n\r\n", location.replace("{port}", &port));
        thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((_, from)) = ssdp.recv_from(&mut buffer) {
                ssdp.send_to(found.as_bytes(), from).expect("the loopback");
            }
        });
        let requests = Arc::default();
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in http.incoming() {
                serve(stream.expect("a connection"), &answers, &port, &seen);
            }
        });
        Self { place: Place { own: LOCAL, gateway: LOCAL, search: [search; 2] }, requests }
    }

    fn run(&self, job: Job) -> Result<Done, Failure> {
        smol::block_on(run(self.place, None, job)).1
    }

    fn requests(&self, word: &str) -> usize {
        self.requests.lock().expect("no panic").iter().filter(|request| request.contains(word)).count()
    }
}

fn serve(mut stream: TcpStream, answers: &Answers, port: &str, seen: &Mutex<Vec<String>>) {
    let mut request = String::new();
    let mut buffer = [0; 4096];
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket");
    while !(request.contains("\r\n\r\n") && (request.starts_with("GET") || request.contains("</s:Envelope>")))
    {
        match stream.read(&mut buffer) {
            Ok(len) if len > 0 => request.push_str(&String::from_utf8_lossy(&buffer[..len])),
            _ => return,
        }
    }
    seen.lock().expect("no panic").push(request.clone());
    let answer = answers.iter().find(|(word, _)| request.contains(word));
    if let Some((_, answer)) = answer {
        // The other side may have heard enough.
        let _ = stream.write_all(answer.replace("{port}", port).as_bytes());
    }
}

const ROOT: &str = "http://127.0.0.1:{port}/root.xml";

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n\r\n{body}")
}

fn error(code: u16) -> String {
    format!("HTTP/1.1 500 Internal Server Error\r\n\r\n<e><errorCode>{code}</errorCode></e>")
}

fn description(kind: &str, url: &str) -> String {
    ok(&format!(
        "<root><service><serviceType>{kind}</serviceType><controlURL>{url}</controlURL></service></root>"
    ))
}

fn address(ip: &str) -> (&'static str, String) {
    ("#GetExternalIPAddress", ok(&format!("<NewExternalIPAddress>{ip}</NewExternalIPAddress>")))
}

fn gateway(kind: &str, add: Answers) -> Fake {
    let known = vec![("GET /root.xml", description(kind, "/ctl")), address("198.51.100.7")];
    Fake::new(ROOT, [known, add].concat())
}

fn mapped(port: u16, permanent: bool) -> Result<Done, Failure> {
    let external = SocketAddr::from(([198, 51, 100, 7], port));
    Ok(Done::Mapped { external, lease: 3600, permanent })
}

#[test]
fn both_versions_map() {
    let reserved = ok("<u:NewReservedPort>5005</u:NewReservedPort>");
    let second = gateway(V2, vec![("#AddAnyPortMapping", reserved)]);
    assert_eq!(second.run(MAP), mapped(5005, false));
    for kind in &KINDS[1..] {
        let first = gateway(kind, vec![("#AddPortMapping", ok("<r/>"))]);
        assert_eq!(first.run(MAP), mapped(4002, false));
        for part in ["<NewInternalClient>127.0.0.1<", "<NewInternalPort>4001<", "<NewLeaseDuration>3600<"] {
            assert_eq!(first.requests(part), 1, "{part}");
        }
    }
}

#[test]
fn what_a_gateway_wants_otherwise_is_done() {
    let leases = vec![("<NewLeaseDuration>3600<", error(725)), ("#AddPortMapping", ok("<r/>"))];
    assert_eq!(gateway(KINDS[1], leases).run(MAP), mapped(4002, true));
    let same = vec![("<NewExternalPort>4001<", ok("<r/>")), ("#AddPortMapping", error(724))];
    assert_eq!(gateway(KINDS[1], same).run(MAP), mapped(4001, false));
    let older = vec![("#AddAnyPortMapping", error(401)), ("#AddPortMapping", ok("<r/>"))];
    assert_eq!(gateway(V2, older).run(MAP), mapped(4002, false));

    let taken =
        gateway(KINDS[1], vec![("<NewExternalPort>4002<", error(718)), ("#AddPortMapping", ok("<r/>"))]);
    let Ok(Done::Mapped { external, .. }) = taken.run(MAP) else { panic!("another port is free") };
    assert!(external.port() >= 1024 && external.port() != 4002);
    let full = gateway(KINDS[1], vec![("#AddPortMapping", error(718))]);
    assert_eq!(full.run(MAP), Err(Failure::Refused(explain(718))));
    assert_eq!(full.requests("#AddPortMapping"), limits::UPNP_PORTS);
    let never = gateway(KINDS[1], vec![("#AddPortMapping", error(402))]);
    assert_eq!((never.run(MAP), never.requests("#AddPortMapping")), (Err(Failure::Refused(explain(402))), 1));
}

#[test]
fn what_is_not_there_counts_as_deleted() {
    let unmap = Job::Unmap { protocol: Protocol::Tcp, external: 4002 };
    assert_eq!(gateway(V2, vec![("#DeletePortMapping", ok("<r/>"))]).run(unmap), Ok(Done::Unmapped));
    assert_eq!(gateway(V2, vec![("#DeletePortMapping", error(714))]).run(unmap), Ok(Done::Unmapped));
}

#[test]
fn of_several_connections_the_public_one_is_used() {
    let service = |url| {
        format!("<service><serviceType>{}</serviceType><controlURL>{url}</controlURL></service>", KINDS[1])
    };
    let [down, inner, outer] = ["/down", "/inner", "/outer"].map(service);
    let ip = |ip| ok(&format!("<NewExternalIPAddress>{ip}</NewExternalIPAddress>"));
    let fake = Fake::new(
        ROOT,
        vec![
            ("GET /", ok(&format!("<root>{down}{inner}{outer}</root>"))),
            ("POST /down", ip("0.0.0.0")),
            ("POST /inner", ip("192.168.0.9")),
            ("#GetExternalIPAddress", ip("198.51.100.7")),
            ("POST /outer", ok("<r/>")),
        ],
    );
    assert_eq!(fake.run(MAP), mapped(4002, false));
}

#[test]
fn nobody_is_asked_but_the_gateway() {
    let elsewhere = TcpListener::bind(("127.0.0.2", 0)).expect("a port");
    elsewhere.set_nonblocking(true).expect("a socket");
    let there = format!("http://{}/root.xml", elsewhere.local_addr().expect("a port"));
    let begun = Instant::now();
    assert_eq!(Fake::new(&there, vec![]).run(MAP), Err(Failure::Silent));
    assert!(begun.elapsed() < limits::UPNP_SEARCH + Duration::from_secs(2));
    let control = Fake::new(ROOT, vec![("GET /", description(V2, &there))]);
    assert_eq!(control.run(MAP), Err(Failure::Silent));
    let redirect = format!("HTTP/1.1 302 Found\r\nLocation: {there}\r\n\r\n");
    let Err(Failure::Refused(why)) = Fake::new(ROOT, vec![("GET /", redirect)]).run(MAP) else {
        panic!("redirects are refused")
    };
    assert!(why.ends_with("HTTP status 302"), "{why}");
    assert!(elsewhere.accept().is_err(), "nobody came");
}

#[test]
fn bombs_do_not_go_off() {
    let entities = "<!DOCTYPE r [<!ENTITY a \"aaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]><root>&b;</root>";
    assert_eq!(Fake::new(ROOT, vec![("GET /", ok(entities))]).run(MAP), Err(Failure::Silent));
    let endless = ok(&"<a>".repeat(limits::UPNP_HTTP_BYTES));
    let Err(Failure::Refused(why)) = Fake::new(ROOT, vec![("GET /", endless)]).run(MAP) else {
        panic!("too long")
    };
    assert!(why.ends_with("too long"), "{why}");
}

#[test]
fn a_gateway_that_never_ends_its_answer_is_not_waited_for() {
    let http = TcpListener::bind((LOCAL, 0)).expect("a port");
    let url = format!("http://{}/", http.local_addr().expect("a port"));
    let begun = Instant::now();
    let fetched = smol::block_on(http::fetch(&Url::on(LOCAL, &url).expect("its address")));
    assert!(matches!(fetched, Err(http::Error::Slow)), "{fetched:?}");
    assert!(begun.elapsed() < limits::UPNP_HTTP + Duration::from_secs(5));
}
