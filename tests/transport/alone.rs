//! Tests that run themselves again in a process or network of their own.
#![allow(dead_code, reason = "not every test program uses all of it")]

use std::{
    env,
    process::{Command, Stdio},
};

/// Runs an ignored test in a process of its own.
pub(crate) fn run_alone(child: &str) {
    run(Command::new(this_program()), child);
}

/// Runs an ignored test in a process and a network of its own, where there is nothing but a loopback that is
/// down.
pub(crate) fn run_in_an_empty_network(child: &str) {
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

pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.expect("the ip program").success(), "ip {arguments}");
}
