//! One connection, and who waits for what of it.

use std::{
    collections::HashMap,
    hash::Hash,
    io,
    net::SocketAddr,
    task::{Context, Poll, Waker},
    time::Instant,
};

use quinn_proto::{
    Connection, ConnectionError, ConnectionEvent, ConnectionHandle, Dir, EndpointEvent, Event, FinishError,
    ReadError, ReadableError, Side, StreamEvent, StreamId, Transmit, VarInt, WriteError,
};
use rustls::pki_types::CertificateDer;

use super::wake;
use crate::limits;

/// The error code of everything that ends without a complaint.
const NO_ERROR: VarInt = VarInt::from_u32(0);

pub(in crate::transport::quic) struct Link {
    pub(super) handle: ConnectionHandle,
    quic: Connection,
    /// When the handshake is given up.
    handshake_by: Option<Instant>,
    /// An inbound handshake that counts as half-open.
    is_half_open: bool,
    /// Why nothing more will come of this connection.
    lost: Option<ConnectionError>,
    close: Close,
    /// Its place in the core's list of links that may send.
    pub(super) is_ready: bool,
    /// There is something to send since the core asked last.
    is_dirty: bool,
    /// quinn-proto knows nothing of it any more.
    pub(super) is_drained: bool,
    /// Nobody will ask for it any more.
    pub(super) is_released: bool,
    /// What the core's timer table says.
    deadline: Option<Instant>,
    /// Where the peer was last.
    remote: SocketAddr,
    has_moved: bool,
    waiting: Waiting,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Close {
    No,
    /// After what was written is sent.
    Asked,
    /// The CONNECTION_CLOSE is to be sent.
    Begun,
    Sent,
}

/// The tasks that wait. One each, as the poll functions of libp2p and futures have it.
#[derive(Default)]
struct Waiting {
    /// For the handshake, a new address of the peer, or the end.
    change: Option<Waker>,
    /// For a stream of the peer's.
    inbound: Option<Waker>,
    /// For leave to open a stream.
    outbound: Option<Waker>,
    closed: Option<Waker>,
    readers: HashMap<StreamId, Waker>,
    writers: HashMap<StreamId, Waker>,
}

impl Link {
    pub(super) fn dialled(handle: ConnectionHandle, quic: Connection, now: Instant) -> Self {
        Link {
            handle,
            remote: quic.remote_address(),
            quic,
            handshake_by: Some(now + limits::QUIC_HANDSHAKE_TIMEOUT),
            is_half_open: false,
            lost: None,
            close: Close::No,
            is_ready: false,
            is_dirty: false,
            is_drained: false,
            is_released: false,
            deadline: None,
            has_moved: false,
            waiting: Waiting::default(),
        }
    }

    pub(super) fn accepted(handle: ConnectionHandle, quic: Connection, now: Instant) -> Self {
        Link { is_half_open: true, ..Link::dialled(handle, quic, now) }
    }

    pub(in crate::transport::quic) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// The certificates of the peer. `None` before the handshake is complete.
    pub(in crate::transport::quic) fn peer_chain(&self) -> Option<Vec<CertificateDer<'static>>> {
        let identity = self.quic.crypto_session().peer_identity()?;
        identity.downcast().ok().map(|chain| *chain)
    }

    /// Ready when the handshake is complete.
    pub(in crate::transport::quic) fn poll_connected(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        match &self.lost {
            Some(error) => Poll::Ready(Err(error.clone())),
            None if self.handshake_by.is_none() => Poll::Ready(Ok(())),
            None => wait(&mut self.waiting.change, cx),
        }
    }

    /// Ready when the peer has another address, or when the connection is lost.
    pub(in crate::transport::quic) fn poll_change(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SocketAddr, ConnectionError>> {
        match &self.lost {
            Some(error) => Poll::Ready(Err(error.clone())),
            None if std::mem::take(&mut self.has_moved) => Poll::Ready(Ok(self.remote)),
            None => wait(&mut self.waiting.change, cx),
        }
    }

    /// A stream that the peer opened.
    pub(in crate::transport::quic) fn poll_inbound(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamId, ConnectionError>> {
        if let Some(stream) = self.quic.streams().accept(Dir::Bi) {
            return Poll::Ready(Ok(stream));
        }
        match &self.lost {
            Some(error) => Poll::Ready(Err(error.clone())),
            None => wait(&mut self.waiting.inbound, cx),
        }
    }

    /// A stream of ours, when the peer permits one more.
    pub(in crate::transport::quic) fn poll_outbound(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamId, ConnectionError>> {
        if let Some(error) = &self.lost {
            return Poll::Ready(Err(error.clone()));
        }
        match self.quic.streams().open(Dir::Bi) {
            Some(stream) => Poll::Ready(Ok(stream)),
            None => wait(&mut self.waiting.outbound, cx),
        }
    }

    /// Closes the connection after what was written is on its way, as far as the peer takes it at once.
    /// Ready when the peer has been told, once.
    pub(in crate::transport::quic) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.close == Close::Sent || (self.lost.is_some() && self.close == Close::No) {
            return Poll::Ready(());
        }
        self.close();
        wait(&mut self.waiting.closed, cx)
    }

    /// Reads what is there. Zero bytes are the end of the stream, unless `buf` is empty.
    pub(in crate::transport::quic) fn poll_read(
        &mut self,
        stream: StreamId,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut recv = self.quic.recv_stream(stream);
        let mut chunks = match recv.read(true) {
            Ok(chunks) => chunks,
            Err(ReadableError::ClosedStream | ReadableError::IllegalOrderedRead) => {
                return Poll::Ready(Ok(0));
            }
        };
        let mut count = 0;
        let end = loop {
            if count == buf.len() {
                break None;
            }
            match chunks.next(buf.len() - count) {
                Ok(Some(chunk)) => {
                    buf[count..count + chunk.bytes.len()].copy_from_slice(&chunk.bytes);
                    count += chunk.bytes.len();
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        self.is_dirty |= chunks.finalize().should_transmit();
        match (end, &self.lost) {
            (Some(ReadError::Reset(_)), _) if count == 0 => Poll::Ready(Err(reset("the peer gave it up"))),
            (Some(ReadError::Blocked), None) if count == 0 => {
                wait_in(&mut self.waiting.readers, stream, cx);
                Poll::Pending
            }
            // What arrived before the end of the connection is read first.
            (Some(ReadError::Blocked), Some(error)) if count == 0 => Poll::Ready(Err(error.clone().into())),
            _ => Poll::Ready(Ok(count)),
        }
    }

    pub(in crate::transport::quic) fn poll_write(
        &mut self,
        stream: StreamId,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = &self.lost {
            return Poll::Ready(Err(error.clone().into()));
        }
        match self.quic.send_stream(stream).write(bytes) {
            Ok(count) => {
                self.is_dirty = true;
                Poll::Ready(Ok(count))
            }
            Err(WriteError::Blocked) => {
                wait_in(&mut self.waiting.writers, stream, cx);
                Poll::Pending
            }
            Err(WriteError::Stopped(_)) => Poll::Ready(Err(reset("the peer reads no more"))),
            Err(WriteError::ClosedStream) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Nothing more will be written. The end follows the bytes that were.
    pub(in crate::transport::quic) fn finish(&mut self, stream: StreamId) -> io::Result<()> {
        if let Some(error) = &self.lost {
            return Err(error.clone().into());
        }
        self.end_stream(stream);
        Ok(())
    }

    /// Nobody here will read or write the stream any more. What was written still arrives, and its end after it:
    /// protocols drop a stream with their last word in it, as Kademlia does.
    pub(in crate::transport::quic) fn let_go(&mut self, stream: StreamId, reading: bool, writing: bool) {
        self.waiting.readers.remove(&stream);
        self.waiting.writers.remove(&stream);
        // Errors mean that this direction has ended already.
        if reading && self.quic.recv_stream(stream).stop(NO_ERROR).is_ok() {
            self.is_dirty = true;
        }
        if writing {
            self.end_stream(stream);
        }
    }

    fn end_stream(&mut self, stream: StreamId) {
        let mut send = self.quic.send_stream(stream);
        self.is_dirty |= match send.finish() {
            Ok(()) => true,
            // Who reads no more does not miss the end, but waits for it (RFC 9000, section 3.5).
            Err(FinishError::Stopped(_)) => send.reset(NO_ERROR).is_ok(),
            Err(FinishError::ClosedStream) => false,
        };
    }

    pub(super) fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.is_dirty)
    }

    pub(super) fn handle_event(&mut self, event: ConnectionEvent) {
        self.quic.handle_event(event);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.deadline = None;
        self.quic.handle_timeout(now);
        if self.handshake_by.is_some_and(|by| by <= now) {
            self.lose(ConnectionError::TimedOut);
            self.close();
        }
    }

    pub(super) fn poll_endpoint_event(&mut self) -> Option<EndpointEvent> {
        if self.is_drained {
            return None;
        }
        let event = self.quic.poll_endpoint_events()?;
        self.is_drained = event.is_drained();
        Some(event)
    }

    pub(super) fn poll_transmit(
        &mut self,
        now: Instant,
        segments: usize,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        loop {
            if let Some(transmit) = self.quic.poll_transmit(now, segments, buf) {
                return Some(transmit);
            }
            match self.close {
                Close::Asked => {
                    self.quic.close(now, NO_ERROR, bytes::Bytes::new());
                    self.close = Close::Begun;
                }
                Close::Begun => {
                    self.close = Close::Sent;
                    wake(&mut self.waiting.closed);
                    return None;
                }
                Close::No | Close::Sent => return None,
            }
        }
    }

    /// Takes in what quinn-proto has to tell.
    pub(super) fn notice(&mut self) {
        while let Some(event) = self.quic.poll() {
            self.on_event(event);
        }
        if self.remote != self.quic.remote_address() {
            self.remote = self.quic.remote_address();
            self.has_moved = true;
            wake(&mut self.waiting.change);
        }
    }

    /// True once, when an inbound handshake came to its end, be it good or bad.
    pub(super) fn take_end_of_handshake(&mut self) -> bool {
        let ended = self.is_half_open && (self.handshake_by.is_none() || self.lost.is_some());
        self.is_half_open &= !ended;
        ended
    }

    /// The deadline as the core knows it, and as it is now.
    pub(super) fn next_deadline(&mut self) -> (Option<Instant>, Option<Instant>) {
        let before = self.deadline;
        let handshake = self.handshake_by.filter(|_| self.lost.is_none());
        self.deadline = match self.is_drained {
            true => None,
            false => self.quic.poll_timeout().into_iter().chain(handshake).min(),
        };
        (before, self.deadline)
    }

    pub(super) fn release(&mut self) {
        self.is_released = true;
        if self.lost.is_none() {
            self.close();
        }
    }

    /// The connection ends without a word to the peer.
    pub(super) fn end(&mut self) {
        self.lose(ConnectionError::LocallyClosed);
        self.is_drained = true;
        self.deadline = None;
        self.close = Close::Sent;
        wake(&mut self.waiting.closed);
    }

    /// Whether this connection is one that can follow us to another address.
    pub(super) fn migrate(&mut self) -> bool {
        let can = self.quic.side() == Side::Client && self.handshake_by.is_none() && self.lost.is_none();
        if can {
            self.quic.local_address_changed();
        }
        can
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected => {
                self.handshake_by = None;
                wake(&mut self.waiting.change);
            }
            Event::ConnectionLost { reason } => self.lose(reason),
            Event::Stream(StreamEvent::Opened { .. }) => wake(&mut self.waiting.inbound),
            Event::Stream(StreamEvent::Available { .. }) => wake(&mut self.waiting.outbound),
            Event::Stream(StreamEvent::Readable { id }) => {
                wake(&mut self.waiting.readers.remove(&id));
            }
            Event::Stream(
                StreamEvent::Writable { id } | StreamEvent::Stopped { id, .. } | StreamEvent::Finished { id },
            ) => wake(&mut self.waiting.writers.remove(&id)),
            Event::HandshakeDataReady | Event::DatagramReceived | Event::DatagramsUnblocked => {}
        }
    }

    fn close(&mut self) {
        if self.close == Close::No {
            self.close = Close::Asked;
            self.is_dirty = true;
            self.lose(ConnectionError::LocallyClosed);
        }
    }

    /// The first reason is the one that counts.
    fn lose(&mut self, reason: ConnectionError) {
        if self.lost.is_none() {
            self.lost = Some(reason);
            self.waiting.wake_all();
        }
    }
}

impl Waiting {
    /// All but the one who waits for a close to be sent.
    fn wake_all(&mut self) {
        for waker in [&mut self.change, &mut self.inbound, &mut self.outbound] {
            wake(waker);
        }
        for (_, waker) in self.readers.drain().chain(self.writers.drain()) {
            waker.wake();
        }
    }
}

fn reset(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, why)
}

fn wait<T>(place: &mut Option<Waker>, cx: &Context<'_>) -> Poll<T> {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
    Poll::Pending
}

fn wait_in<K: Eq + Hash>(places: &mut HashMap<K, Waker>, key: K, cx: &Context<'_>) {
    places.entry(key).and_modify(|waker| waker.clone_from(cx.waker())).or_insert_with(|| cx.waker().clone());
}
