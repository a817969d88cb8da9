//! coturn, from Debian: its server for our client, its clients for our server.

use std::{
    net::UdpSocket,
    process::{Child, Command, Stdio},
    time::Duration,
};

use warren::nat::stun::{
    Family,
    driver::{Config, Event, Serve},
    verdict::{Filtering, Mapping},
};

use super::{Node, asking, free_ports, helper, loopback, nothing_was_dropped, run};

/// Whether there is such a program; says so if not.
fn has(program: &str) -> bool {
    let found = Command::new(program).arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        println!("skipped: no {program}");
    }
    found.is_ok()
}

/// coturn's server on two addresses with two ports each.
struct Turnserver {
    process: Child,
    /// Of its files.
    dir: std::path::PathBuf,
    port: u16,
}

impl Turnserver {
    fn start() -> Self {
        let [port, other] = free_ports();
        let dir = std::env::temp_dir().join(format!("warren-coturn-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let mut command = Command::new("turnserver");
        // No file of its own, no relaying, no other address.
        command.args(["-n", "--stun-only", "--no-auth", "--no-tcp", "--no-tls", "--no-dtls", "--no-cli"]);
        command.args(["--listening-ip", "127.0.0.1", "--listening-ip", "127.0.0.2"]);
        command.args(["--relay-ip", "127.0.0.1", "--relay-threads", "1", "--log-file", "stdout"]);
        command.args(["--listening-port", &port.to_string(), "--alt-listening-port", &other.to_string()]);
        command.arg("--pidfile").arg(dir.join("pid")).arg("--db").arg(dir.join("db"));
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("turnserver starts");
        let server = Turnserver { process, dir, port };
        server.until_it_answers();
        server
    }

    fn until_it_answers(&self) {
        let socket = UdpSocket::bind(loopback(1, 0)).expect("a port");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time");
        for _ in 0..200 {
            // While nobody listens the kernel says so at the next call.
            let _ = socket.send_to(b"\x00\x01\x00\x00\x21\x12\xa4\x42transaction!", loopback(2, self.port));
            if socket.recv(&mut [0; 100]).is_ok() {
                return;
            }
        }
        panic!("turnserver does not answer");
    }
}

impl Drop for Turnserver {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn coturn_tells_us_how_we_are_seen_and_lets_us_find_out_the_rest() {
    if !has("turnserver") {
        return;
    }
    let coturn = Turnserver::start();
    run(async |executor| {
        let mut client = Node::new(executor, asking(&[loopback(1, coturn.port).to_string()]));
        let local = client.listen(loopback(1, 0)).await;
        assert_eq!(client.event().await, Event::External { addr: local, family: Family::V4 });
        let verdict = client.verdict(Family::V4).await;
        println!("{}", verdict.shown(std::time::Instant::now()));
        assert_eq!((verdict.mapping, verdict.filtering), (Mapping::NoNat, Filtering::EndpointIndependent));
        assert_eq!((verdict.observations.len(), verdict.tests.len()), (4, 2), "{verdict:?}");
        let counters = client.stun.counters().await.expect("it runs").client;
        assert!(nothing_was_dropped(&counters), "{counters:?}");
    });
}

/// Runs a client of coturn against the server of a node and returns what it prints.
async fn ask(program: &'static str, options: &'static [&'static str], server: &Node, port: u16) -> String {
    let output = smol::unblock(move || {
        let mut command = Command::new("timeout");
        command.args(["30", program]).args(options).args(["-p", &port.to_string()]);
        command.args(["-L", "127.0.0.1", "127.0.0.1"]).stdin(Stdio::null()).output().expect("it runs")
    });
    let output = output.await;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    println!("{text}\n{:?}", server.stun.counters().await);
    text
}

#[test]
fn natdiscovery_of_coturn_understands_our_server() {
    if !has("turnutils_natdiscovery") {
        return;
    }
    run(async |executor| {
        let (server, addr) = helper(executor).await;
        let text = ask("turnutils_natdiscovery", &["-m", "-f"], &server, addr.port()).await;
        for said in [
            "No NAT! (Endpoint Independent Mapping)",
            "NAT with Endpoint Independent Mapping!",
            "NAT with Endpoint Independent Filtering!",
        ] {
            assert!(text.contains(said), "it does not say {said:?}: {text}");
        }
    });
}

/// With a second address its next request would have RESPONSE-PORT, which we refuse and it waits for.
#[test]
fn stunclient_of_coturn_understands_our_server() {
    if !has("turnutils_stunclient") {
        return;
    }
    run(async |executor| {
        let config = Config { serve: Some(Serve::default()), ..Config::default() };
        let mut server = Node::new(executor, config);
        let addr = server.listen(loopback(1, 0)).await;
        let text = ask("turnutils_stunclient", &[], &server, addr.port()).await;
        assert!(text.contains("UDP reflexive addr: 127.0.0.1:"), "{text}");
    });
}
