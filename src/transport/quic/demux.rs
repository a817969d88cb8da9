//! What else comes to the socket: STUN and hole punching share it with QUIC, so that the address they learn
//! or open is the one that QUIC is reachable at.

use std::{
    fmt, io,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::socket::Socket;
use crate::{limits, transport::listeners::suits};

/// RFC 8489, section 5.
const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// Bytes of a STUN header.
const STUN_HEADER: usize = 20;

/// How warren's own punch packets begin. The first byte is none of those that RFC 9443 gives to a protocol.
pub const PUNCH_MAGIC: [u8; 8] = *b"\x0fwarren\n";

/// A protocol beside QUIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Stun,
    /// Datagrams that begin with [`PUNCH_MAGIC`].
    Punch,
}

impl Kind {
    /// What a datagram is, unless it is QUIC or nothing at all.
    ///
    /// The first byte alone does not tell, as RFC 9443 would have it: a peer may grease QUIC's fixed bit (RFC
    /// 9287). So STUN is the cookie, two zero bits and a length that fits; QUIC looks like this by a chance of
    /// 1 in 2^48.
    pub fn of(bytes: &[u8]) -> Option<Kind> {
        if bytes.starts_with(&PUNCH_MAGIC) {
            return Some(Kind::Punch);
        }
        let header = bytes.get(..STUN_HEADER)?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let is_stun =
            header[0] & 0xc0 == 0 && header[4..8] == STUN_COOKIE && bytes.len() == STUN_HEADER + length;
        is_stun.then_some(Kind::Stun)
    }
}

/// A datagram that is not QUIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub from: SocketAddr,
    /// Where the socket that received it is bound.
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

/// Receives one kind of datagrams from all sockets of a transport, and sends on them. Dropping it ends that.
///
/// At most [`limits::SIDE_DATAGRAMS`] wait here; later ones are lost, as datagrams are.
#[derive(Clone)]
pub struct Datagrams {
    queue: async_channel::Receiver<Datagram>,
    sockets: Arc<Sockets>,
}

impl Datagrams {
    /// The next datagram. `None` when another handle for the same kind took over, or the transport has ended.
    pub async fn recv(&self) -> Option<Datagram> {
        self.queue.recv().await.ok()
    }

    /// Sends from the listening socket of the receiver's IP family: the port that QUIC is reachable at.
    ///
    /// # Errors
    /// `AddrNotAvailable` without such a socket, `WouldBlock` when it is full, and what the kernel says.
    pub fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        let socket = self.sockets.of_family(to).ok_or(io::ErrorKind::AddrNotAvailable)?;
        socket.send_to(bytes, to)
    }

    /// Where the socket is bound that [`Self::send_to`] would use.
    pub fn local_for(&self, to: SocketAddr) -> Option<SocketAddr> {
        self.sockets.of_family(to).map(|socket| socket.local)
    }

    /// The next dial of `remote` comes from this socket, which must not block: it has found a way there. It takes no
    /// other dials, and ends with its connection.
    pub fn adopt(&self, remote: SocketAddr, socket: UdpSocket) {
        let mut table = self.sockets.table();
        table.won.retain(|(other, _)| *other != remote);
        if table.won.len() >= limits::PUNCH_WON {
            table.won.remove(0);
        }
        table.won.push((remote, socket));
    }

    /// Where the sockets are bound.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.sockets.table().sockets.iter().filter_map(Weak::upgrade).map(|socket| socket.local).collect()
    }
}

impl fmt::Debug for Datagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagrams").field("local_addrs", &self.local_addrs()).finish_non_exhaustive()
    }
}

/// The listening sockets of a transport, and who wants what they receive beside QUIC.
#[derive(Default)]
pub(super) struct Sockets(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// In the order of listening. The sockets belong to their endpoints.
    sockets: Vec<Weak<Socket>>,
    stun: Option<async_channel::Sender<Datagram>>,
    punch: Option<async_channel::Sender<Datagram>>,
    /// Sockets that found a way through two NATs, and where it leads.
    won: Vec<(SocketAddr, UdpSocket)>,
    /// Datagrams that nobody wanted, or had place for.
    dropped: u32,
}

impl Sockets {
    pub(super) fn add(&self, socket: &Arc<Socket>) {
        self.table().sockets.push(Arc::downgrade(socket));
    }

    pub(super) fn remove(&self, socket: &Arc<Socket>) {
        self.table().sockets.retain(|other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(socket)));
    }

    pub(super) fn register(self: &Arc<Self>, kind: Kind) -> Datagrams {
        let (sender, queue) = async_channel::bounded(limits::SIDE_DATAGRAMS);
        *self.table().of_kind(kind) = Some(sender);
        Datagrams { queue, sockets: Arc::clone(self) }
    }

    /// Hands a datagram to whoever registered for it, and copies it only then.
    pub(super) fn deliver(&self, kind: Kind, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let mut table = self.table();
        let taken = bytes.len() <= limits::SIDE_BYTES
            && table.of_kind(kind).as_ref().is_some_and(|sender| {
                !sender.is_full() && sender.try_send(Datagram { from, to, bytes: bytes.into() }).is_ok()
            });
        if !taken {
            table.dropped = table.dropped.wrapping_add(1);
        }
    }

    pub(super) fn take_won(&self, remote: SocketAddr) -> Option<UdpSocket> {
        let won = &mut self.table().won;
        let at = won.iter().position(|(other, _)| *other == remote)?;
        Some(won.remove(at).1)
    }

    pub(super) fn dropped(&self) -> u32 {
        self.table().dropped
    }

    fn of_family(&self, addr: SocketAddr) -> Option<Arc<Socket>> {
        let table = self.table();
        let mut sockets = table.sockets.iter().filter_map(Weak::upgrade);
        sockets.find(|socket| suits(socket.local.ip(), addr.ip()))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn of_kind(&mut self, kind: Kind) -> &mut Option<async_channel::Sender<Datagram>> {
        match kind {
            Kind::Stun => &mut self.stun,
            Kind::Punch => &mut self.punch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A binding request without attributes, RFC 8489, section 5.
    const STUN: [u8; 20] = *b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl";

    #[test]
    fn stun_is_known_by_its_cookie_and_length() {
        assert_eq!(Kind::of(&STUN), Some(Kind::Stun));
        for (at, byte) in [(4, 0x20), (0, 0x40), (0, 0xc0), (3, 4)] {
            let mut other = STUN;
            other[at] = byte;
            assert_eq!(Kind::of(&other), None, "byte {at} as {byte:#x}");
        }
        assert_eq!(Kind::of(&STUN[..19]), None);
        assert_eq!(Kind::of(&[]), None);
    }

    #[test]
    fn punch_packets_are_known_by_their_magic() {
        assert_eq!(Kind::of(&PUNCH_MAGIC), Some(Kind::Punch));
        assert_eq!(Kind::of(&PUNCH_MAGIC[..7]), None);
    }

    #[test]
    fn who_does_not_read_loses_datagrams() {
        let sockets = Arc::new(Sockets::default());
        let addr = SocketAddr::from(([127, 0, 0, 1], 9));
        let deliver = || sockets.deliver(Kind::Stun, addr, addr, &STUN);
        deliver();
        assert_eq!(sockets.dropped(), 1, "nobody registered");
        let datagrams = sockets.register(Kind::Stun);
        for _ in 0..limits::SIDE_DATAGRAMS + 2 {
            deliver();
        }
        assert_eq!((datagrams.queue.len(), sockets.dropped()), (limits::SIDE_DATAGRAMS, 3));
        sockets.deliver(Kind::Punch, addr, addr, &PUNCH_MAGIC);
        assert_eq!(sockets.dropped(), 4, "nobody registered for punches");
    }

    #[test]
    fn a_new_handle_takes_over() {
        let sockets = Arc::new(Sockets::default());
        let old = sockets.register(Kind::Stun);
        let _new = sockets.register(Kind::Stun);
        assert_eq!(smol::block_on(old.recv()), None);
    }
}
