//! Files that appear in a directory, by inotify.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// Bytes of events that are read at once: each is a name of a few.
const BUFFER: usize = 4096;

/// Sees files that are made in a directory, or renamed within it, from its beginning on.
pub(super) struct Watch(OwnedFd, RefCell<VecDeque<String>>);

impl Watch {
    pub(super) fn new(dir: &Path) -> Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).context("no inotify")?;
        inotify::add_watch(&fd, dir, WatchFlags::CREATE | WatchFlags::MOVED_TO)
            .with_context(|| format!("cannot watch {}", dir.display()))?;
        Ok(Watch(fd, RefCell::default()))
    }

    /// Waits for a file whose name fits.
    pub(super) fn until(&self, fits: impl Fn(&str) -> bool, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            while let Some(name) = self.1.borrow_mut().pop_front() {
                if fits(&name) {
                    return Ok(());
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "nothing was written within {limit:?}");
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout))?;
            self.read()?;
        }
    }

    fn read(&self) -> Result<()> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = Reader::new(&self.0, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
                    self.1.borrow_mut().extend(name);
                    if reader.is_buffer_empty() {
                        return Ok(());
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
    }
}
