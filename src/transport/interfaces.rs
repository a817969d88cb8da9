use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    task::{Context, Poll, ready},
};

use futures::FutureExt;
use futures_timer::Delay;

use crate::{
    limits,
    transport::{
        address::needs_zone,
        netlink::{Event, Watch},
    },
};

/// What happened to the addresses of this machine.
pub(crate) enum Change {
    Up(IpAddr),
    Down(IpAddr),
    /// The watcher broke: nothing is known any more. It will be opened again after a pause.
    Lost(io::Error),
}

/// The addresses of this machine, watched by one netlink socket for all listeners.
///
/// IPv6 link-local addresses are left out. Nobody could dial them: without a zone they mean nothing, and the
/// zone's name is only known to the machine that dials.
#[derive(Default)]
pub(crate) struct Interfaces {
    /// The watcher, if it is wanted.
    watcher: Option<Watch>,
    /// Addresses that were reported as up.
    up: BTreeSet<IpAddr>,
    /// When to open the watcher again.
    retry: Option<Delay>,
}

impl Interfaces {
    /// Starts to watch, unless that is being done already.
    pub(crate) fn watch(&mut self) -> io::Result<()> {
        if self.watcher.is_none() && self.retry.is_none() {
            self.watcher = Some(Watch::new()?);
        }
        Ok(())
    }

    /// Closes the netlink socket.
    pub(crate) fn unwatch(&mut self) {
        *self = Interfaces::default();
    }

    /// Addresses reported as up and not yet as down.
    pub(crate) fn up(&self) -> impl Iterator<Item = IpAddr> {
        self.up.iter().copied()
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Change> {
        loop {
            if let Some(retry) = &mut self.retry {
                ready!(retry.poll_unpin(cx));
                self.retry = None;
                if let Err(error) = self.watch() {
                    return Poll::Ready(self.lose(error));
                }
            }
            // Where nothing is watched, `watch` will be called by the task that polls, so no waker is needed.
            let Some(watcher) = &mut self.watcher else { return Poll::Pending };
            match ready!(watcher.poll(cx)) {
                Ok(Event::Up(ip)) => {
                    if !needs_zone(ip) && self.up.insert(ip) {
                        return Poll::Ready(Change::Up(ip));
                    }
                }
                Ok(Event::Down(ip)) => {
                    if self.up.remove(&ip) {
                        return Poll::Ready(Change::Down(ip));
                    }
                }
                // Which interface it is makes no difference to a listener.
                Ok(Event::Assigned(_) | Event::Removed(_) | Event::LinkUp(_)) => {}
                Err(error) => return Poll::Ready(self.lose(error)),
            }
        }
    }

    fn lose(&mut self, error: io::Error) -> Change {
        self.unwatch();
        self.retry = Some(Delay::new(limits::INTERFACE_RETRY));
        Change::Lost(error)
    }
}

#[cfg(test)]
mod tests {
    use futures::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_broken_watcher_is_opened_again() {
        let mut interfaces = Interfaces::default();
        interfaces.watch().expect("netlink");
        let first_up = |interfaces: &mut Interfaces| {
            let change = smol::block_on(poll_fn(|cx| interfaces.poll(cx)));
            assert!(matches!(change, Change::Up(_)), "every machine has an address");
            assert_eq!(interfaces.up().count(), 1);
        };
        first_up(&mut interfaces);
        assert!(matches!(interfaces.lose(io::ErrorKind::BrokenPipe.into()), Change::Lost(_)));
        assert_eq!(interfaces.up().count(), 0, "nothing is known any more");
        interfaces.watch().expect("nothing to do: the retry is on its way");
        assert!(interfaces.watcher.is_none());
        interfaces.retry = Some(Delay::new(Duration::ZERO));
        first_up(&mut interfaces);
    }
}
