//! A local network of two machines that reaches nobody else: network namespaces with a switch between them.
//!
//! ```text
//!   10.77.0.1/24, fd77::1/64: eth0 ══ port1 ── bridge ── port2 ══ eth0 :10.77.0.2/24, fd77::2/64
//! ```

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// The switch, and what is connected to it.
pub(crate) struct Lan {
    pub(crate) machines: [Machine; 2],
    /// Gone when the machines are.
    _switch: Machine,
}

/// A network namespace, held by a process that only waits.
pub(crate) struct Machine(Child);

impl Lan {
    /// Whether this user may make one.
    pub(crate) fn is_possible() -> bool {
        let mut ip = Command::new("unshare");
        ip.args(["-n", "ip", "link"]).stdout(Stdio::null()).stderr(Stdio::null());
        ip.status().is_ok_and(|status| status.success())
    }

    pub(crate) fn new() -> Result<Self> {
        let switch = Machine::new()?;
        let machines = [Machine::new()?, Machine::new()?];
        switch.ip("link add name bridge type bridge")?;
        switch.ip("link set bridge up")?;
        for (machine, n) in machines.iter().zip(1..) {
            switch.ip(&format!("link add port{n} type veth peer name eth0 netns {}", machine.0.id()))?;
            switch.ip(&format!("link set port{n} master bridge up"))?;
            machine.ip("link set lo up")?;
            machine.ip("link set eth0 up")?;
            machine.ip(&format!("addr add 10.77.0.{n}/24 dev eth0"))?;
            machine.ip(&format!("addr add fd77::{n}/64 dev eth0 nodad"))?;
            // As at home, though nobody is there. js-libp2p leaves it to the routes where its multicasts go.
            machine.ip("route add default via 10.77.0.254 dev eth0")?;
        }
        Ok(Lan { machines, _switch: switch })
    }
}

impl Machine {
    fn new() -> Result<Self> {
        // Longer than any check takes, and it is ended on drop.
        let holder =
            Command::new("unshare").args(["-n", "sleep", "3600"]).spawn().context("cannot run unshare")?;
        let machine = Machine(holder);
        let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let deadline = Instant::now() + Duration::from_secs(10);
        while namespace(&machine.0.id().to_string()) == namespace("self") {
            ensure!(Instant::now() < deadline, "unshare made no network namespace");
            sleep(Duration::from_millis(5));
        }
        Ok(machine)
    }

    /// A command that runs on this machine.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0.id())).arg(program);
        command
    }

    fn ip(&self, arguments: &str) -> Result<()> {
        let status = self.command("ip").args(arguments.split(' ')).status().context("cannot run nsenter")?;
        ensure!(status.success(), "`ip {arguments}` ended with {status}");
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
