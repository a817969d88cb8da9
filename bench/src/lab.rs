//! A network of namespaces for programs that shall meet as strangers do: each host has a network stack of its own.
//!
//! ```text
//!   PREFIX-hub   routes between uplinks: the Internet         bridge "home": one segment
//!                p0              p1              p2           ├─ p3         ├─ p4      counted here
//! ───────────────┼───────────────┼───────────────┼────────────┼─────────────┼───────
//!                eth0            eth0            eth0         eth1          eth0       the hosts' ends
//!   PREFIX-a ────┘  PREFIX-b ────┘  PREFIX-gw ───┴────────────┘             └──── PREFIX-c
//! ```
//!
//! Every cable hangs between a host and the hub. An uplink ends at the hub's router, in a /24 and a /48 of its own;
//! other cables end at a bridge, and the hub has no address there. Nothing leads out: no cable ends in the machine's
//! own namespace, and the hub knows no way but to its hosts. PREFIX is this process' own, so that several labs can
//! stand at once.
//!
//! A bridge is for few hosts. Linux has one table of neighbours for all namespaces together (`gc_thresh3`, 1024
//! entries by default): 30 hosts that all talk with each other on one segment overflow it, and packets are lost.
//!
//! Whatever becomes of the bench, the lab is taken down: by a janitor, a shell that reads a pipe of which the bench
//! holds the other end, and acts when that closes.

mod conntrack;
pub(crate) mod home;
pub(crate) mod kind;
pub(crate) mod reflector;
pub(crate) mod weather;

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use self::weather::{Sky, Weather};

/// How long the kernel may take for what it does at once: a cable that comes up.
const PROMPTLY: Duration = Duration::from_secs(5);

/// Between two looks at something that cannot be waited for.
const LOOK: Duration = Duration::from_millis(5);

/// Ends what runs in the namespaces of a lab, and them: `$1` is their prefix. Only a lab's programs can be in them.
const JANITOR: &str = r#"
cat >/dev/null
for space in $(ip netns list | cut -d' ' -f1 | grep "^$1-"); do
    ip netns pids "$space" | xargs -r kill -9
    ip netns del "$space"
    rm -rf "/etc/netns/$space"
done
"#;

/// A network under construction and in use. Drop it after the programs in it.
pub(crate) struct Lab {
    prefix: String,
    janitor: Child,
    /// Cables so far.
    cables: AtomicUsize,
}

/// A machine of the lab: a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    space: String,
}

/// One between a host and a bridge.
#[derive(Clone, Debug)]
pub(crate) struct Cable {
    host: Host,
    /// Its name in the host.
    interface: String,
    hub: Host,
    /// Its name in the hub.
    port: String,
}

/// One end of a cable between two hosts: the host, the name of the interface there, and its addresses with their
/// prefix lengths.
pub(crate) type End<'a> = (&'a Host, &'a str, &'a [(IpAddr, u8)]);

/// What went over a cable, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) packets: u64,
    /// With Ethernet headers.
    pub(crate) bytes: u64,
}

/// What an Ethernet header adds to a packet, as the kernel counts. Unit: bytes.
const ETHERNET: u64 = 14;

impl Counters {
    /// Without Ethernet headers: IP packets, and the little ARP that goes with them.
    pub(crate) fn ip_bytes(&self) -> u64 {
        self.bytes.saturating_sub(ETHERNET * self.packets)
    }

    pub(crate) fn since(&self, before: Counters) -> Counters {
        Counters { packets: self.packets - before.packets, bytes: self.bytes - before.bytes }
    }
}

impl Lab {
    /// Why there can be no lab on this machine, in a few words; `None` if there can be one.
    pub(crate) fn obstacle() -> Option<String> {
        let name = format!("warren-lab-{}-try", std::process::id());
        let tried = Command::new("ip").args(["netns", "add", &name]).output();
        match tried {
            Err(_) => Some("network namespaces need the command `ip`, of iproute2".to_owned()),
            Ok(done) if !done.status.success() => {
                let why = String::from_utf8_lossy(&done.stderr);
                Some(format!("network namespaces need root: {}", why.trim().replace('\n', "; ")))
            }
            Ok(_) => {
                // If that fails, so will the lab, and say why.
                let _ = Command::new("ip").args(["netns", "del", &name]).output();
                None
            }
        }
    }

    /// An empty lab.
    pub(crate) fn new() -> Result<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("warren-lab-{}x{number}", std::process::id());
        let mut janitor = Command::new("sh");
        janitor.args(["-c", JANITOR, "janitor", &prefix]).stdin(Stdio::piped()).stdout(Stdio::null());
        // In a process group of its own: the interrupt key is for the bench.
        let janitor = janitor.stderr(Stdio::null()).process_group(0).spawn().context("cannot start sh")?;
        let lab = Lab { prefix, janitor, cables: AtomicUsize::new(0) };
        lab.space(&lab.hub())?;
        // A cable that is cut and mended is as it was.
        let router = "echo 1 >/proc/sys/net/ipv4/ip_forward
            echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
            echo 1 >/proc/sys/net/ipv6/conf/all/keep_addr_on_down";
        lab.shell(&lab.hub(), router)?;
        Ok(lab)
    }

    /// A new cable between a host and the Internet, on which the host has the first address of `v4`/24 and of `v6`/48.
    /// It is up, and the addresses can be used, when this returns.
    pub(crate) fn uplink(
        &self,
        host: &Host,
        interface: &str,
        v4: Ipv4Addr,
        v6: Ipv6Addr,
    ) -> Result<(Cable, [IpAddr; 2])> {
        let nets = [(IpAddr::V4(v4), 24), (IpAddr::V6(v6), 48)];
        let [ours, routers] = [1, 254].map(|last| nets.map(|(net, len)| (nth(net, last), len)));
        let cable = self.cable(host, interface, None, &ours)?;
        let (hub, port, space) = (self.hub().space, &cable.port, &host.space);
        for (router, len) in routers {
            let nodad = if router.is_ipv6() { " nodad" } else { "" };
            ip(&[
                &format!("-n {hub} addr add {router}/{len} dev {port}{nodad}"),
                // From the hub no way leads on.
                &format!("-n {space} route add default via {router} dev {interface}"),
            ])?;
        }
        Ok((cable, ours.map(|(ip, _)| ip)))
    }

    /// Both ends of an uplink get other addresses, in other networks: those of [`Lab::uplink`]. The old ones are
    /// gone at once, and what is sent to them is lost.
    pub(crate) fn renumber(&self, cable: &Cable, v4: Ipv4Addr, v6: Ipv6Addr) -> Result<[IpAddr; 2]> {
        let nets = [(IpAddr::V4(v4), 24), (IpAddr::V6(v6), 48)];
        let ends = [(&cable.hub.space, &cable.port, 254), (&cable.host.space, &cable.interface, 1)];
        for (space, interface, last) in ends {
            ip(&[&format!("-n {space} addr flush dev {interface} scope global")])?;
            for (net, len) in nets {
                let nodad = if net.is_ipv6() { " nodad" } else { "" };
                ip(&[&format!("-n {space} addr add {}/{len} dev {interface}{nodad}", nth(net, last))])?;
            }
        }
        for (net, _) in nets {
            let (space, router) = (&cable.host.space, nth(net, 254));
            ip(&[&format!("-n {space} route replace default via {router} dev {}", cable.interface)])?;
        }
        Ok(nets.map(|(net, _)| nth(net, 1)))
    }

    /// A NAT forgets all connections, and with them all mappings.
    pub(crate) fn forget_connections(&self, host: &Host) -> Result<()> {
        self.on(host, conntrack::flush)
    }

    /// A new segment: whoever is plugged in hears all of the others.
    pub(crate) fn bridge(&self, name: &str) -> Result<()> {
        // Without snooping: multicast reaches everybody, as over a simple switch.
        ip(&[
            &format!("-n {} link add {name} type bridge stp_state 0 mcast_snooping 0", self.hub().space),
            &format!("-n {} link set {name} up", self.hub().space),
        ])
    }

    /// A new machine without cables. It has loopback.
    pub(crate) fn host(&self, name: &str) -> Result<Host> {
        let host = Host { space: format!("{}-{name}", self.prefix) };
        self.space(&host)?;
        Ok(host)
    }

    /// A new cable between a host and a bridge, with addresses and their prefix lengths for the host's end. It is up,
    /// and the addresses can be used, when this returns.
    pub(crate) fn plug(
        &self,
        host: &Host,
        interface: &str,
        bridge: &str,
        addrs: &[(IpAddr, u8)],
    ) -> Result<Cable> {
        self.cable(host, interface, Some(bridge), addrs)
    }

    fn cable(
        &self,
        host: &Host,
        interface: &str,
        bridge: Option<&str>,
        addrs: &[(IpAddr, u8)],
    ) -> Result<Cable> {
        let number = self.cables.fetch_add(1, Ordering::Relaxed);
        let (hub, port) = (self.hub().space, format!("p{number}"));
        let space = &host.space;
        let mut steps = vec![
            format!("link add {port} netns {hub} type veth peer name {interface} netns {space}"),
            format!("-n {hub} link set {port} up"),
        ];
        if let Some(bridge) = bridge {
            steps.push(format!("-n {hub} link set {port} master {bridge}"));
        }
        for (addr, len) in addrs {
            // Nobody else has it: there is nothing to wait for.
            let nodad = if addr.is_ipv6() { " nodad" } else { "" };
            steps.push(format!("-n {space} addr add {addr}/{len} dev {interface}{nodad}"));
        }
        steps.push(format!("-n {space} link set {interface} up"));
        ip(&steps.iter().map(String::as_str).collect::<Vec<_>>())?;
        let cable = Cable { host: host.clone(), interface: interface.to_owned(), hub: self.hub(), port };
        cable.wait_until(true)?;
        Ok(cable)
    }

    /// A cable between two hosts, which bypasses the hub. It is up, and the addresses can be used, when this returns.
    pub(crate) fn wire(&self, ends: [End<'_>; 2]) -> Result<()> {
        let [(a, a_name, _), (b, b_name, _)] = ends;
        let (a, b) = (&a.space, &b.space);
        ip(&[&format!("link add {a_name} netns {a} type veth peer name {b_name} netns {b}")])?;
        for (host, interface, addrs) in ends {
            let space = &host.space;
            for (addr, len) in addrs {
                let nodad = if addr.is_ipv6() { " nodad" } else { "" };
                ip(&[&format!("-n {space} addr add {addr}/{len} dev {interface}{nodad}")])?;
            }
            ip(&[&format!("-n {space} link set {interface} up")])?;
        }
        ends.iter().try_for_each(|(host, interface, _)| wait_until(host, interface, true))
    }

    /// Runs `ip` on a host with each of these lines.
    pub(crate) fn ip(&self, host: &Host, lines: &[&str]) -> Result<()> {
        lines.iter().try_for_each(|line| ip(&[&format!("-n {} {line}", host.space)]))
    }

    /// The Internet sends what is for the network `net` over this uplink: `via` is its other end.
    pub(crate) fn route(&self, net: &str, cable: &Cable, via: IpAddr) -> Result<()> {
        ip(&[&format!("-n {} route add {net} via {via} dev {}", cable.hub.space, cable.port)])
    }

    /// What programs that are started on a host from now on know by name, until it is written anew: lines of
    /// hosts(5). `ip netns exec` shows them this file in place of the machine's.
    pub(crate) fn names(&self, host: &Host, lines: &str) -> Result<()> {
        let dir = Path::new("/etc/netns").join(&host.space);
        let file = dir.join("hosts");
        // In place: who has it open, or mounted, shall see it.
        std::fs::create_dir_all(&dir)
            .and_then(|()| std::fs::write(&file, lines))
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// Loads a set of nftables rules on a host.
    pub(crate) fn nft(&self, host: &Host, rules: &str) -> Result<()> {
        let mut nft = self.command(host, Path::new("nft"));
        let nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut nft = nft.spawn().context("cannot run nft")?;
        let mut stdin = nft.stdin.take().context("nft takes no input")?;
        stdin.write_all(rules.as_bytes())?;
        drop(stdin);
        let done = nft.wait_with_output()?;
        ensure!(done.status.success(), "nft: {}\n{rules}", String::from_utf8_lossy(&done.stderr).trim());
        Ok(())
    }

    /// What `make` makes while its thread is on `host`: sockets stay there, whoever uses them.
    pub(crate) fn on<T: Send>(&self, host: &Host, make: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        host.on(make)
    }

    /// Takes down a host whose programs have ended, with its cables.
    pub(crate) fn remove(&self, host: &Host) -> Result<()> {
        ip(&[&format!("netns del {}", host.space)])
    }

    /// Packets that a host has sent from this interface.
    pub(crate) fn sent(&self, host: &Host, interface: &str) -> Result<u64> {
        let links = links(host)?;
        let link = links.iter().find(|link| link["ifname"] == interface);
        link.and_then(|link| link["stats64"]["tx"]["packets"].as_u64()).context("an interface is gone")
    }

    /// Packets through the Internet take `delay` from here on, one way. See [`weather`].
    ///
    /// # Errors
    /// This machine has no TUN devices.
    pub(crate) fn slow_down(&self, delay: Duration) -> Result<()> {
        self.sky(Weather { delay, ..Weather::default() })?;
        self.detour(true)
    }

    /// Weather for the Internet, which comes with [`Lab::detour`]. Once in a lab.
    ///
    /// # Errors
    /// This machine has no TUN devices.
    pub(crate) fn sky(&self, weather: Weather) -> Result<Sky> {
        Sky::new(self, &self.hub(), weather)
    }

    /// Whether what goes through the Internet has to do with its weather. It has not, to begin with.
    pub(crate) fn detour(&self, on: bool) -> Result<()> {
        weather::detour(self, &self.hub(), on)
    }

    /// A command that runs `program` on `host`. Its process is the program's: `ip` becomes it.
    pub(crate) fn command(&self, host: &Host, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &host.space]).arg(program);
        command
    }

    /// What went over each of `cables` since it was plugged in.
    pub(crate) fn counters(&self, cables: &[&Cable]) -> Result<Vec<Counters>> {
        let links = links(&self.hub())?;
        let of = |cable: &&Cable| -> Result<Counters> {
            let link = links.iter().find(|link| link["ifname"] == cable.port.as_str());
            let stats = &link.with_context(|| format!("the cable {cable:?} is gone"))?["stats64"];
            let both = |what: &str| -> Result<u64> {
                let [rx, tx] = ["rx", "tx"].map(|way| stats[way][what].as_u64());
                Ok(rx.context("a cable without counters")? + tx.context("a cable without counters")?)
            };
            Ok(Counters { packets: both("packets")?, bytes: both("bytes")? })
        };
        cables.iter().map(of).collect()
    }

    fn hub(&self) -> Host {
        Host { space: format!("{}-hub", self.prefix) }
    }

    /// A namespace whose network stack keeps quiet: nothing asks for routers or looks for duplicates of its
    /// addresses, so addresses work at once and what is counted is the programs'.
    fn space(&self, host: &Host) -> Result<()> {
        ip(&[&format!("netns add {}", host.space)])?;
        let quiet = "for kind in default all; do
                for setting in accept_dad=0 accept_ra=0 router_solicitations=0; do
                    file=/proc/sys/net/ipv6/conf/$kind/${setting%=*}
                    [ ! -e $file ] || echo ${setting#*=} >$file
                done
            done
            ip link set lo up";
        self.shell(host, quiet)
    }

    /// Runs a few lines of shell on a host.
    pub(crate) fn shell(&self, host: &Host, lines: &str) -> Result<()> {
        let done = self.command(host, Path::new("sh")).args(["-ec", lines]).output()?;
        ensure!(done.status.success(), "{}: {}", host.space, String::from_utf8_lossy(&done.stderr).trim());
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The end of its input is its sign; and if it were gone already, nothing could be done.
        drop(self.janitor.stdin.take());
        let _ = self.janitor.wait();
    }
}

impl Host {
    /// See [`Lab::on`].
    pub(crate) fn on<T: Send>(&self, make: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let space = Path::new("/run/netns").join(&self.space);
        let inside = || {
            let space = File::open(&space).with_context(|| format!("no {}", space.display()))?;
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(space.as_fd(), kind)?;
            make()
        };
        // A thread of its own, since one that has moved would stay there.
        std::thread::scope(|scope| scope.spawn(inside).join()).map_err(|_| anyhow!("a thread panicked"))?
    }
}

impl Cable {
    /// Pulls the plug. The host keeps its addresses and routes, as a real one does.
    pub(crate) fn cut(&self) -> Result<()> {
        self.set("down")?;
        self.wait_until(false)
    }

    /// Puts it back in.
    pub(crate) fn mend(&self) -> Result<()> {
        self.set("up")?;
        self.wait_until(true)
    }

    /// What the host sends meets this weather, by the kernel's own netem, whose lots no seed decides.
    ///
    /// # Errors
    /// The kernel has no netem, as few have. [`Lab::sky`] does the same in user space.
    pub(crate) fn weather(&self, weather: &Weather) -> Result<()> {
        let Weather { delay, jitter, loss, .. } = weather;
        let (delay, jitter, loss) = (delay.as_micros(), jitter.as_micros(), 100.0 * loss);
        let spread = if jitter > 0 { " distribution normal" } else { "" };
        self.tc(&format!(
            "qdisc replace dev {} root netem limit 10000 delay {delay}us {jitter}us{spread} loss {loss}%",
            self.interface
        ))
    }

    /// The end of [`Cable::weather`].
    pub(crate) fn calm(&self) -> Result<()> {
        self.tc(&format!("qdisc del dev {} root", self.interface))
    }

    fn tc(&self, line: &str) -> Result<()> {
        let mut tc = Command::new("tc");
        let done =
            tc.args(["-n", &self.host.space]).args(line.split(' ')).output().context("cannot run tc")?;
        let why = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "tc {line}: {}", why.trim());
        Ok(())
    }

    fn set(&self, state: &str) -> Result<()> {
        ip(&[&format!("-n {} link set {} {state}", self.hub.space, self.port)])
    }

    fn wait_until(&self, up: bool) -> Result<()> {
        wait_until(&self.host, &self.interface, up)
    }
}

/// Waits until the host sees that a cable is up, or that it is not.
fn wait_until(host: &Host, interface: &str, up: bool) -> Result<()> {
    let deadline = Instant::now() + PROMPTLY;
    loop {
        let links = links(host)?;
        let found = links.iter().find(|link| link["ifname"] == interface);
        let found = found.and_then(|link| link["operstate"].as_str()).unwrap_or_default();
        if (found == "UP") == up {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{interface} of {} stays {found}", host.space);
        std::thread::sleep(LOOK);
    }
}

/// The `last`-th address of a network.
fn nth(net: IpAddr, last: u8) -> IpAddr {
    match net {
        IpAddr::V4(net) => Ipv4Addr::from_bits(net.to_bits() + u32::from(last)).into(),
        IpAddr::V6(net) => Ipv6Addr::from_bits(net.to_bits() + u128::from(last)).into(),
    }
}

/// The interfaces of a host as `ip -json` tells of them.
fn links(host: &Host) -> Result<Vec<Value>> {
    let done = Command::new("ip").args(["-n", &host.space, "-stats", "-json", "link"]).output()?;
    ensure!(done.status.success(), "ip link: {}", String::from_utf8_lossy(&done.stderr).trim());
    serde_json::from_slice(&done.stdout).context("`ip -json` speaks another language")
}

/// Runs `ip` with each of these lines, and stops at the first that fails.
fn ip(lines: &[&str]) -> Result<()> {
    for line in lines {
        let done = Command::new("ip").args(line.split(' ')).output().context("cannot run ip")?;
        ensure!(done.status.success(), "ip {line}: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// How many namespaces of this lab there are.
    fn spaces(prefix: &str) -> usize {
        let list = Command::new("ip").args(["netns", "list"]).output().expect("ip runs");
        String::from_utf8_lossy(&list.stdout).lines().filter(|line| line.starts_with(prefix)).count()
    }

    #[test]
    fn hosts_hear_each_other_and_nobody_is_left_behind() -> Result<()> {
        if let Some(obstacle) = Lab::obstacle() {
            // Straight to standard error: nobody shall take this for a success that was seen.
            writeln!(std::io::stderr(), "skipped: {obstacle}")?;
            return Ok(());
        }
        let lab = Lab::new()?;
        lab.bridge("home")?;
        let build = |n: u8| -> Result<(Host, Cable)> {
            let host = lab.host(&format!("h{n}"))?;
            let v6 = Ipv6Addr::from([0x2001, 0xdb8, n.into(), 0, 0, 0, 0, 0]);
            let (cable, _) = lab.uplink(&host, "eth0", [11, 0, n, 0].into(), v6)?;
            lab.plug(&host, "eth1", "home", &[([10, 0, 0, n].into(), 24)])?;
            Ok((host, cable))
        };
        let ((a, cable), _b) = (build(1)?, build(2)?);
        // A shell is all that is there for certain: the kernel refuses a connection at once where it gets through.
        let reaches = |addr: &str| -> Result<bool> {
            let connect = format!("exec 3<>/dev/tcp/{addr}/9");
            let done = lab.command(&a, Path::new("timeout")).args(["2", "bash", "-c", &connect]).output()?;
            Ok(String::from_utf8_lossy(&done.stderr).contains("refused"))
        };
        let before = lab.counters(&[&cable])?;
        assert!(reaches("11.0.2.1")? && reaches("2001:db8:2::1")? && reaches("10.0.0.2")?);
        assert!(!reaches("192.0.2.1")?, "nothing leads out");
        let spent = lab.counters(&[&cable])?[0].since(before[0]);
        assert!(spent.packets >= 4 && spent.ip_bytes() < spent.bytes, "{spent:?}");
        cable.cut()?;
        assert!(!reaches("11.0.2.1")? && reaches("10.0.0.2")?);
        cable.mend()?;
        assert!(reaches("11.0.2.1")? && reaches("2001:db8:2::1")?);
        let prefix = lab.prefix.clone();
        assert_eq!(spaces(&prefix), 3);
        // Somebody who would stay.
        let mut sleeper = lab.command(&a, Path::new("sh"));
        let mut sleeper = sleeper.args(["-c", "echo; exec sleep 1000"]).stdout(Stdio::piped()).spawn()?;
        sleeper.stdout.take().expect("piped").read_exact(&mut [0])?;
        drop(lab);
        assert_eq!(spaces(&prefix), 0);
        assert!(!sleeper.wait()?.success(), "it was ended");
        Ok(())
    }
}
