//! Waiting for a socket without waking twice for one event.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::task::AtomicWaker;

/// Done when a socket may be ready: wraps one of `async_io`'s futures for that.
///
/// Those are made for a reactor that the waiting thread drives itself. When another thread has been inside of
/// epoll since before they were armed, they take the event for an old one, arm themselves again, and are
/// woken a second time, so that each packet at an idle node would wake both threads twice. Here the wake-up
/// itself is what counts. It may be wrong, so whoever waits has to ask the kernel, and to make a new one when
/// there was nothing.
///
/// To be kept and polled, not made anew at each poll: what was armed would be forgotten.
#[derive(Debug)]
pub(super) struct Readiness<F> {
    armed: F,
    event: Arc<Event>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Event {
    happened: AtomicBool,
    task: AtomicWaker,
}

impl<F> Readiness<F> {
    pub(super) fn new(armed: F) -> Self {
        let event = Arc::new(Event::default());
        let waker = Waker::from(Arc::clone(&event));
        Readiness { armed, event, waker }
    }
}

impl<F: Future<Output = io::Result<()>> + Unpin> Future for Readiness<F> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Readiness { armed, event, waker } = &mut *self;
        // The other way round, what happens in between would wake nobody.
        event.task.register(cx.waker());
        if event.happened.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(armed).poll(&mut Context::from_waker(waker))
    }
}

impl Wake for Event {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.happened.store(true, Ordering::Release);
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::UdpSocket,
        sync::atomic::{AtomicUsize, Ordering},
        thread,
        time::Duration,
    };

    use async_io::Async;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn an_event_wakes_once_even_when_the_reactor_waited_before() {
        let socket = || UdpSocket::bind("127.0.0.1:0").expect("a port");
        let (sender, receiver) = (socket(), Async::new(socket()).expect("a reactor"));
        let to = receiver.get_ref().local_addr().expect("bound");
        let receiver = Arc::new(receiver);
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);
        for round in 1..=10 {
            let mut empty = Readiness::new(Arc::clone(&receiver).readable_owned());
            assert!(Pin::new(&mut empty).poll(&mut cx).is_pending());
            // For no other reason: the reactor's thread is back in epoll long before.
            thread::sleep(Duration::from_millis(2));
            sender.send_to(b"x", to).expect("loopback");
            while wakes.0.load(Ordering::SeqCst) < round {
                thread::yield_now();
            }
            assert!(Pin::new(&mut empty).poll(&mut cx).is_ready());
            assert_eq!(receiver.get_ref().recv(&mut [0; 1]).expect("a datagram"), 1);
            assert_eq!(wakes.0.load(Ordering::SeqCst), round);
        }
    }
}
