//! The transports in a hostile environment: a process out of descriptors, interfaces that come and go.
//!
//! What a test does to its process or its network must not reach the other tests, so each one here runs
//! itself again as a child, which is the `#[ignore]`d test named after it.

#[cfg(feature = "quic")]
mod quic;
mod tcp;

use std::{
    env,
    pin::Pin,
    process::{Command, Stdio},
    time::Duration,
};

use async_io::Timer;
use futures::future::poll_fn;
use libp2p::{Multiaddr, Transport, core::transport::TransportEvent};

/// Runs an ignored test in a process of its own.
fn run_alone(child: &str) {
    run(Command::new(this_program()), child);
}

/// Runs an ignored test in a process and a network of its own, where there is nothing but a loopback that is
/// down.
fn run_in_an_empty_network(child: &str) {
    let isolated = Command::new("unshare").args(["-n", "ip", "link"]).stdout(Stdio::null()).status();
    if !isolated.is_ok_and(|status| status.success()) {
        println!("skipped: a network namespace needs root, unshare and ip");
        return;
    }
    let mut command = Command::new("unshare");
    command.arg("-n").arg(this_program());
    run(command, child);
}

fn this_program() -> std::path::PathBuf {
    env::current_exe().expect("a test program")
}

fn run(mut command: Command, child: &str) {
    let output = command.args(["--exact", child, "--ignored"]).output().expect("a child process");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{child} failed:\n{}", said.join("\n"));
    assert!(said[0].contains("1 passed"), "{child} did not run:\n{}", said.join("\n"));
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.expect("the ip program").success(), "ip {arguments}");
}

fn multiaddr(text: &str) -> Multiaddr {
    text.parse().expect("a multiaddr")
}

/// The next event, or a panic when there is none for a time that no machine needs.
async fn next<T: Transport + Unpin>(transport: &mut T) -> TransportEvent<T::ListenerUpgrade, T::Error> {
    let event = poll_fn(|cx| Pin::new(&mut *transport).poll(cx));
    let late = async {
        Timer::after(Duration::from_secs(20)).await;
        panic!("no event");
    };
    smol::future::or(event, late).await
}
