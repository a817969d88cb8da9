//! Makes a NAT forget what it knows: the kernel's table of connections, emptied by one netlink message.

use anyhow::{Context, Result, ensure};
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_DELETE` of linux/netfilter/nfnetlink_conntrack.h.
const DELETE: u16 = 1 << 8 | 2;

/// `NLM_F_REQUEST` and `NLM_F_ACK` of linux/netlink.h.
const FLAGS: u16 = 1 | 4;

/// Forgets all connections of the namespace that this thread is in, as `conntrack -F` does.
pub(super) fn flush() -> Result<()> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(NETFILTER));
    let socket = socket.context("no netlink socket")?;
    // struct nlmsghdr: length, type, flags, sequence, port. Then struct nfgenmsg: family (any), version, resource.
    let mut message = Vec::new();
    message.extend(20_u32.to_ne_bytes());
    message.extend([DELETE, FLAGS].map(u16::to_ne_bytes).concat());
    message.extend([1_u32, 0].map(u32::to_ne_bytes).concat());
    message.extend([0; 4]);
    let kernel = SocketAddrNetlink::new(0, 0);
    sendto(&socket, &message, SendFlags::empty(), &kernel).context("netlink takes no message")?;
    let mut answer = [0; 256];
    let (_, length) = recv(&socket, &mut answer, RecvFlags::empty()).context("netlink does not answer")?;
    // A header, and the error, which is 0 where there is none.
    ensure!(length >= 20, "netlink answers {length} bytes");
    let error = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    let why = std::io::Error::from_raw_os_error(-error);
    ensure!(error == 0, "the kernel does not forget its connections: {why}");
    Ok(())
}
