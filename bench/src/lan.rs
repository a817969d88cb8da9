//! A local network of two machines that reaches nobody else: hosts of a lab on one segment.
//!
//! ```text
//!   10.77.0.1/24, fd77::1/64: eth0 ══ bridge ══ eth0 :10.77.0.2/24, fd77::2/64
//! ```

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::lab::{Host, Lab};

/// The network, and who is on it.
pub(crate) struct Lan {
    machines: [Host; 2],
    lab: Lab,
}

impl Lan {
    pub(crate) fn new() -> Result<Self> {
        let lab = Lab::new()?;
        lab.bridge("home")?;
        let machine = |n: u8| -> Result<Host> {
            let host = lab.host(&format!("m{n}"))?;
            let v6 = Ipv6Addr::from([0xfd77, 0, 0, 0, 0, 0, 0, n.into()]);
            lab.plug(&host, "eth0", "home", &[(IpAddr::from([10, 77, 0, n]), 24), (v6.into(), 64)])?;
            // As at home, though nobody is there. js-libp2p leaves it to the routes where its multicasts go.
            lab.ip(&host, &["route add default via 10.77.0.254 dev eth0"])?;
            Ok(host)
        };
        Ok(Lan { machines: [machine(1)?, machine(2)?], lab })
    }

    /// A command that runs on one of the two machines.
    pub(crate) fn command(&self, machine: usize, program: impl AsRef<Path>) -> Command {
        self.lab.command(&self.machines[machine], program.as_ref())
    }
}
