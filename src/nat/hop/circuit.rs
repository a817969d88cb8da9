//! A circuit: two streams, of which each gets what the other one says.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::io::{AsyncRead, AsyncWrite};
use futures_timer::Delay;

use super::places::Limits;
use crate::limits;

thread_local! {
    /// What all circuits read into; what cannot be written at once is kept elsewhere. Nothing that is polled with it
    /// polls another circuit.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; limits::RELAY_BUFFER]);
}

/// Why a circuit ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("both ends have said all")]
    Said,
    #[error("it has carried its share of bytes")]
    Bytes,
    #[error("its time is over")]
    Time,
    #[error("one end has taken nothing for {} s", limits::RELAY_STALL.as_secs())]
    Stalled,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Carries what comes, up to the limits of a circuit, and says how much it was.
///
/// What is under way is in the streams' own windows, and up to [`limits::RELAY_BUFFER`] here in each direction, while
/// one end takes less than the other one says. An idle circuit has no buffer.
pub(super) async fn carry(
    a: impl AsyncRead + AsyncWrite + Unpin,
    b: impl AsyncRead + AsyncWrite + Unpin,
    limits: &Limits,
) -> (u64, End) {
    let (mut a, mut b) = (a, b);
    let (mut there, mut back) = (Way::default(), Way::default());
    let mut timer = Delay::new(limits.circuit_time);
    let end = poll_fn(|cx| {
        let over = BUFFER.with_borrow_mut(|buffer| {
            [there.poll(&mut a, &mut b, buffer, cx), back.poll(&mut b, &mut a, buffer, cx)]
        });
        let mut is_over = true;
        for over in over {
            match over {
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                Poll::Ready(Ok(())) => {}
                Poll::Pending => is_over = false,
            }
        }
        if there.carried + back.carried > limits.circuit_bytes {
            return Poll::Ready(End::Bytes);
        }
        if is_over {
            return Poll::Ready(End::Said);
        }
        Pin::new(&mut timer).poll(cx).map(|()| End::Time)
    })
    .await;
    (there.carried + back.carried, end)
}

/// One direction.
#[derive(Default)]
struct Way {
    /// What was read and could not be written yet, from `at` on.
    held: Vec<u8>,
    at: usize,
    /// Something was written since the last flush.
    is_dirty: bool,
    /// There is no more to read.
    is_said: bool,
    /// The other end knows that.
    is_closed: bool,
    /// Runs while the other end takes nothing.
    stall: Option<Delay>,
    carried: u64,
}

impl Way {
    fn poll(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        buffer: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), End>> {
        if self.is_closed {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..limits::RELAY_READS {
            if self.poll_write(to, cx)?.is_pending() {
                return self.poll_stall(cx);
            }
            if self.is_said {
                if Pin::new(&mut *to).poll_close(cx)?.is_pending() {
                    return self.poll_stall(cx);
                }
                self.is_closed = true;
                return Poll::Ready(Ok(()));
            }
            let Poll::Ready(count) = Pin::new(&mut *from).poll_read(cx, buffer)? else {
                self.stall = None;
                if self.is_dirty {
                    self.is_dirty = Pin::new(&mut *to).poll_flush(cx)?.is_pending();
                }
                return Poll::Pending;
            };
            self.carried += count as u64;
            self.is_said = count == 0;
            let written = match Pin::new(&mut *to).poll_write(cx, &buffer[..count]) {
                _ if count == 0 => 0,
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
                }
                Poll::Ready(Ok(written)) => {
                    (self.is_dirty, self.stall) = (true, None);
                    written
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e.into())),
                Poll::Pending => 0,
            };
            self.held.extend_from_slice(&buffer[written..count]);
        }
        // Others have their turn, and then we go on.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what is held, and gives its memory back.
    fn poll_write(
        &mut self,
        to: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.at < self.held.len() {
            match Pin::new(&mut *to).poll_write(cx, &self.held[self.at..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.at += written;
                    (self.is_dirty, self.stall) = (true, None);
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => return Poll::Pending,
            }
        }
        (self.held, self.at) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    /// Waits for the other end, but not for ever.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let stall = self.stall.get_or_insert_with(|| Delay::new(limits::RELAY_STALL));
        Pin::new(stall).poll(cx).map(|()| Err(End::Stalled))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::{Arc, Mutex},
        task::Waker,
        time::Duration,
    };

    use futures::{
        FutureExt,
        future::join,
        io::{AsyncReadExt, AsyncWriteExt},
    };
    use proptest::prelude::*;

    use super::*;

    /// One direction of a stream that holds so many bytes.
    #[derive(Default)]
    struct Pipe {
        bytes: VecDeque<u8>,
        room: usize,
        is_closed: bool,
        wakers: Vec<Waker>,
    }

    /// An end of a stream.
    struct Side {
        reads: Arc<Mutex<Pipe>>,
        writes: Arc<Mutex<Pipe>>,
    }

    fn stream(room: usize) -> (Side, Side) {
        let pipe = || Arc::new(Mutex::new(Pipe { room, ..Pipe::default() }));
        let (a, b) = (pipe(), pipe());
        (Side { reads: a.clone(), writes: b.clone() }, Side { reads: b, writes: a })
    }

    impl Pipe {
        fn wake(&mut self) {
            self.wakers.drain(..).for_each(Waker::wake);
        }
    }

    impl AsyncRead for Side {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let mut pipe = self.reads.lock().expect("unpoisoned");
            let count = buffer.len().min(pipe.bytes.len());
            if count == 0 && !pipe.is_closed {
                pipe.wakers.push(cx.waker().clone());
                return Poll::Pending;
            }
            buffer.iter_mut().zip(pipe.bytes.drain(..count)).for_each(|(to, byte)| *to = byte);
            pipe.wake();
            Poll::Ready(Ok(count))
        }
    }

    impl AsyncWrite for Side {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let mut pipe = self.writes.lock().expect("unpoisoned");
            let count = bytes.len().min(pipe.room - pipe.bytes.len());
            if count == 0 && !bytes.is_empty() {
                pipe.wakers.push(cx.waker().clone());
                return Poll::Pending;
            }
            pipe.bytes.extend(&bytes[..count]);
            pipe.wake();
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            let mut pipe = self.writes.lock().expect("unpoisoned");
            pipe.is_closed = true;
            pipe.wake();
            Poll::Ready(Ok(()))
        }
    }

    fn limits(bytes: u64) -> Limits {
        Limits { circuit_bytes: bytes, ..Limits::default() }
    }

    proptest! {
        #[test]
        fn both_get_all_that_the_other_says(
            of_a in prop::collection::vec(any::<u8>(), 0..20_000),
            of_b in prop::collection::vec(any::<u8>(), 0..1000),
            room in 200usize..50_000,
        ) {
            let ((mut a, at_a), (mut b, at_b)) = (stream(room), stream(room.div_ceil(2)));
            let limits = limits(1 << 20);
            let carried = carry(at_a, at_b, &limits);
            let (mut end_a, mut end_b) = (Vec::new(), Vec::new());
            // Two tasks at each end, or they would wait for each other.
            let (mut a2, mut b2) = (
                Side { reads: a.reads.clone(), writes: a.writes.clone() },
                Side { reads: b.reads.clone(), writes: b.writes.clone() },
            );
            let says = |side: &mut Side, bytes: Vec<u8>| {
                let (reads, writes) = (side.reads.clone(), side.writes.clone());
                async move {
                    let mut side = Side { reads, writes };
                    side.write_all(&bytes).await.expect("writes");
                    side.close().await.expect("closes");
                }
            };
            let (say_a, say_b) = (says(&mut a2, of_a.clone()), says(&mut b2, of_b.clone()));
            let hears = join(a.read_to_end(&mut end_a), b.read_to_end(&mut end_b));
            let ((count, end), _) = smol::block_on(join(carried, join(join(say_a, say_b), hears)));
            prop_assert!(matches!(end, End::Said), "{end}");
            prop_assert_eq!(count, (of_a.len() + of_b.len()) as u64);
            prop_assert!(end_a == of_b && end_b == of_a);
        }
    }

    #[test]
    fn it_ends_with_its_bytes_or_its_time() {
        let ((mut a, at_a), (_b, at_b)) = (stream(1000), stream(1000));
        let few = limits(99);
        a.write_all(&[7; 100]).now_or_never().expect("room").expect("writes");
        let (count, end) = smol::block_on(carry(at_a, at_b, &few));
        assert!(count == 100 && matches!(end, End::Bytes), "{end}");
        let ((_a, at_a), (_b, at_b)) = (stream(1), stream(1));
        let short = Limits { circuit_time: Duration::from_millis(1), ..limits(99) };
        let (count, end) = smol::block_on(carry(at_a, at_b, &short));
        assert!(count == 0 && matches!(end, End::Time), "{end}");
    }

    /// The one that says more than the other one takes has to wait, and so little is held for it.
    #[test]
    fn who_does_not_read_makes_the_other_one_wait() {
        let ((mut a, at_a), (b, at_b)) = (stream(1000), stream(2000));
        let limits = limits(1 << 30);
        let mut carried = std::pin::pin!(carry(at_a, at_b, &limits));
        let mut said = 0;
        for _ in 0..1000 {
            if let Some(Ok(())) = a.write_all(&[7; 1000]).now_or_never() {
                said += 1000;
            }
            assert!(carried.as_mut().now_or_never().is_none());
        }
        assert_eq!(b.reads.lock().expect("unpoisoned").bytes.len(), 2000);
        assert!(said <= 1000 + limits::RELAY_BUFFER + 2000 + 1000, "{said}");
        assert!(said > 3000, "{said}");
    }
}
