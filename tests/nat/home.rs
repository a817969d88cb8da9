//! A home with a router, in network namespaces:
//!
//! ```text
//!   this process             gateway                        somebody outside
//!   192.168.1.2  ── home ──  192.168.1.1 | 11.0.0.1 ── wan ──  11.0.0.2
//!   2001:db8:1::2            2001:db8:1::1
//! ```
//!
//! The gateway runs miniupnpd with nftables, which takes documentation networks for private ones. Nothing from outside gets in but what that lets in.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::alone::ip;

pub(crate) const WAN: [u8; 4] = [11, 0, 0, 1];
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Home {
    gateway: Namespace,
    outside: Namespace,
    daemon: Option<Child>,
    files: PathBuf,
}

impl Home {
    /// Makes this process's network, which is an empty one, the home.
    pub(crate) fn new() -> Self {
        let (gateway, outside) = (Namespace::new(), Namespace::new());
        ip("link set lo up");
        ip(&format!("link add home type veth peer name home netns {}", gateway.pid()));
        ip("addr add 192.168.1.2/24 dev home");
        ip("-6 addr add 2001:db8:1::2/64 dev home nodad");
        ip("link set home up");
        gateway.sh(&format!("ip link add wan type veth peer name wan netns {}", outside.pid()));
        gateway.sh("ip link set lo up; ip addr add 192.168.1.1/24 dev home; ip addr add 11.0.0.1/24 dev wan
             ip -6 addr add 2001:db8:1::1/64 dev home nodad; ip -6 addr add 2001:db8:2::1/64 dev wan nodad
             ip link set home up; ip link set wan up
             echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
             nft -f -  <<'END'
             table inet filter {
                 chain forward {
                     type filter hook forward priority 0; policy drop
                     ct state established,related accept
                     iifname home accept
                     jump miniupnpd
                 }
                 chain miniupnpd { }
                 chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
                 chain postrouting {
                     type nat hook postrouting priority 100
                     jump postrouting_miniupnpd
                     meta nfproto ipv4 oifname wan masquerade
                 }
                 chain prerouting_miniupnpd { }
                 chain postrouting_miniupnpd { }
             }\nEND");
        outside.sh("ip link set lo up; ip addr add 11.0.0.2/24 dev wan; ip link set wan up
             ip -6 addr add 2001:db8:2::2/64 dev wan nodad; ip -6 route add default via 2001:db8:2::1");
        ip("route add default via 192.168.1.1");
        ip("-6 route add default via 2001:db8:1::1");
        let files = std::env::temp_dir().join(format!("warren-portmap-{}", std::process::id()));
        fs::create_dir_all(&files).expect("a directory");
        Home { gateway, outside, daemon: None, files }
    }

    /// Starts miniupnpd, with PCP and NAT-PMP or without, and waits until it listens.
    pub(crate) fn start_daemon(&mut self, pcp: bool) {
        let config = self.files.join("miniupnpd.conf");
        let text = format!(
            "ext_ifname=wan\nlistening_ip=home\nhttp_port=5000\nenable_natpmp={pcp}\nenable_upnp=yes\n\
             min_lifetime=2\nmax_lifetime=86400\nsecure_mode=yes\nsystem_uptime=no\n\
             lease_file={dir}/leases\nuuid=00000000-0000-0000-0000-000000000000\n\
             allow 1024-65535 192.168.1.0/24 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n",
            pcp = if pcp { "yes" } else { "no" },
            dir = self.files.display()
        );
        fs::write(&config, text).expect("a file");
        let mut command = self.gateway.enter("miniupnpd");
        command.args(["-d", "-f"]).arg(&config).arg("-P").arg(self.files.join("pid"));
        let log = fs::File::create(self.files.join("log")).expect("a file");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a handle")).stderr(log);
        self.daemon = Some(command.spawn().expect("miniupnpd"));
        // Its HTTP port, 5000, in hexadecimal; the others are opened before.
        let listens = || self.gateway.sh_output("cat /proc/net/tcp /proc/net/tcp6").contains(":1388 ");
        until("miniupnpd listens", listens);
    }

    /// The gateway is behind another NAT.
    pub(crate) fn move_behind_a_carrier(&self) {
        self.gateway.sh("ip addr flush dev wan; ip addr add 100.64.7.7/10 dev wan");
    }

    /// It has no time to say goodbye, and the firewall forgets what it had let in: as after a loss of power.
    pub(crate) fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("it was started");
        daemon.kill().expect("it runs");
        daemon.wait().expect("it ends");
        self.gateway.sh("for chain in miniupnpd prerouting_miniupnpd postrouting_miniupnpd; do
                 nft flush chain inet filter $chain; done");
        let _ = fs::remove_file(self.files.join("leases"));
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.files.join("log")).unwrap_or_default()
    }

    pub(crate) fn rules(&self) -> String {
        self.gateway.sh_output("nft list table inet filter")
    }

    /// Whether a datagram from outside to `to` arrives at `socket`. It is sent until it does or a second is over.
    pub(crate) fn reaches(&self, to: SocketAddr, socket: &UdpSocket) -> bool {
        let word = format!("{to} {:?}", Instant::now());
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
        let mut buffer = [0; 256];
        for _ in 0..10 {
            self.outside.sh(&format!("echo -n '{word}' > /dev/udp/{}/{}", to.ip(), to.port()));
            while let Ok(len) = socket.recv(&mut buffer) {
                if buffer[..len] == *word.as_bytes() {
                    return true;
                }
            }
        }
        false
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // Nothing to do about it if it has ended already.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if std::thread::panicking() {
            println!("{}\n{}", self.rules(), self.log());
        }
        let _ = fs::remove_dir_all(&self.files);
    }
}

/// A network that lives as long as a process that does nothing: `cat`, until its input ends with ours.
struct Namespace(Child);

impl Namespace {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["-n", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let child = command.spawn().expect("unshare");
        let network = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        until("a network namespace", || {
            network(&child.id().to_string()).is_some_and(|new| Some(new) != network("self"))
        });
        Self(child)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid().to_string(), "-n", program]);
        command
    }

    fn sh(&self, script: &str) {
        let status = self.enter("bash").args(["-ec", script]).status();
        assert!(status.expect("bash").success(), "{script}");
    }

    fn sh_output(&self, script: &str) -> String {
        let output = self.enter("bash").args(["-c", script]).output().expect("bash");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
