//! `nat --reachability`: does a node behind each kind of NAT find out whether others can dial it? It asks one relay
//! (AutoNAT v2), which has one address, as most have.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::home::{self, Home, INTERFACE};
use super::trial::World;
use crate::lab::kind::{KINDS, Kind};
use crate::node::Node;
use crate::table::Table;

/// How long a node may take: several addresses that nobody reaches, one after the other, 6 s each.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a node shall find. Who knocks from the relay's address and a new port is let in by address-dependent filtering:
/// from there it looks like a full cone.
fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Public | Kind::FullCone | Kind::AddressRestricted => "reachable",
        _ => "unreachable",
    }
}

impl World<'_> {
    /// Has a node of each kind ask, and prints what it found.
    pub(super) fn reachability(&self) -> Result<()> {
        let found: Vec<_> = std::thread::scope(|scope| {
            let asked: Vec<_> =
                (0..).zip(KINDS).map(|(number, kind)| scope.spawn(move || self.ask(kind, number))).collect();
            asked.into_iter().map(|asked| asked.join()).collect()
        });
        let mut table = Table::new(&["kind", "expected", "found", "after s", "where"]);
        let mut failures = 0;
        for (kind, found) in KINDS.into_iter().zip(found) {
            let (verdict, after, addrs) = match found {
                Ok(Ok(found)) => found,
                Ok(Err(e)) => (format!("{e:#}"), f64::NAN, String::new()),
                Err(_) => ("a panic".into(), f64::NAN, String::new()),
            };
            failures += usize::from(verdict != expected(kind));
            table.row(&[kind.to_string(), expected(kind).into(), verdict, format!("{after:.1}"), addrs]);
        }
        table.print();
        ensure!(failures == 0, "{failures} kinds are taken for something else");
        Ok(())
    }

    fn ask(&self, kind: Kind, number: usize) -> Result<(String, f64, String)> {
        let [of_relay, of_home] = [1, 2].map(|n| (4 * number + n) as u16);
        let relay_host = self.lab.host(&format!("{number}r"))?;
        let (v4, v6) = home::networks(of_relay);
        self.lab.uplink(&relay_host, INTERFACE, v4, v6)?;
        let home = Home::new(self.lab, kind, &format!("{number}a"), of_home)?;
        let (relay, bootstrap) = self.start_relay(&relay_host, number)?;
        let mut command = self.lab.command(&home.host, &self.warren.path);
        let name = format!("{number}-{kind}");
        let verbose = self.logs.is_some();
        self.warren.member(&mut command, "nat", 1, &self.scratch.state_dir(&name)?, verbose);
        command.arg("--no-mdns");
        for addr in &bootstrap {
            command.args(["--bootstrap", addr]);
        }
        let started = Instant::now();
        let mut node = Node::start_logged(&name, command, None, self.log(&name)?)?;
        let event = node.wait("whether others can dial it", PATIENCE, |event| event.is("reachability"))?;
        let after = event.at.saturating_duration_since(started).as_secs_f64();
        let addrs = event.body["addrs"].as_array().map(Vec::as_slice).unwrap_or_default();
        let addrs: Vec<&str> = addrs.iter().filter_map(|addr| addr.as_str()).collect();
        let addrs = addrs.join(" ");
        let verdict = event.str("verdict").to_owned();
        node.stop()?;
        drop(relay);
        home.remove(self.lab)?;
        self.lab.remove(&relay_host)?;
        Ok((verdict, after, addrs))
    }
}
