//! A slow Internet: its router sends every packet around through a TUN device, behind which packets wait.
//!
//! ```text
//!   p0 ──▶ router ──table 7──▶ slow ──▶ this process, for the delay ──▶ slow ──▶ router ──main table──▶ p1
//! ```
//! The kernel's own netem would do, but few kernels have it. What the bench needs is there whenever it has root.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::{Host, Lab};

/// Packets on their way at once, as in a router's buffer; more are lost. Unit: packets.
const PACKETS: usize = 16 * 1024;

/// An IP packet, as long as they get on Ethernet. Unit: bytes.
const PACKET: usize = 1500;

struct Packet {
    due: Instant,
    bytes: Vec<u8>,
}

/// Makes everything slow that goes through the router `hub` from now on.
pub(super) fn start(lab: &Lab, hub: &Host, delay: Duration) -> Result<()> {
    // The source of a packet is not behind the interface that it comes from.
    lab.shell(hub, "for kind in default all; do echo 0 >/proc/sys/net/ipv4/conf/$kind/rp_filter; done")?;
    let device = lab.on(hub, || {
        let device = DeviceBuilder::new().name("slow").mtu(PACKET as u16).build_sync();
        device.context("this machine has no TUN devices")
    })?;
    for family in ["-4", "-6"] {
        // What comes back, and what the router itself has to say, goes where it is for.
        lab.ip(
            hub,
            &[
                &format!("{family} rule add pref 100 iif slow lookup main"),
                &format!("{family} rule add pref 101 iif lo lookup main"),
                &format!("{family} rule add pref 102 lookup 7"),
                &format!("{family} route add default dev slow table 7"),
            ],
        )?;
    }
    let device = std::sync::Arc::new(device);
    let (sender, waiting) = sync_channel::<Packet>(PACKETS);
    let end = device.clone();
    std::thread::spawn(move || take(&device, &sender, delay));
    std::thread::spawn(move || {
        for packet in waiting {
            std::thread::sleep(packet.due.saturating_duration_since(Instant::now()));
            // A packet that the kernel does not want is lost, as packets are.
            let _ = end.send(&packet.bytes);
        }
    });
    Ok(())
}

/// Reads packets until the lab is taken down, and the device with it.
fn take(device: &SyncDevice, waiting: &SyncSender<Packet>, delay: Duration) {
    let mut packet = [0; PACKET];
    while let Ok(length) = device.recv(&mut packet) {
        let bytes = packet[..length].to_vec();
        // Where no place is left it is lost.
        let _ = waiting.try_send(Packet { due: Instant::now() + delay, bytes });
    }
}
