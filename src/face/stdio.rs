//! Standard input and output without threads and without blocking the loop.
//!
//! Terminals and pipes are waited for through the reactor and then read or written as they are. They are
//! not made non-blocking: that flag belongs to the open file, which the shell and other programs share.
//! Regular files and `/dev/null` cannot be waited for and need not be.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use async_io::Async;
use futures_timer::Delay;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::FileType,
    io::Errno,
};

use crate::limits;

/// Lines of standard input.
pub struct Lines {
    file: File,
    /// What was read.
    buffer: Vec<u8>,
    /// How much of `buffer` was in lines that have been taken.
    taken: usize,
    /// How much of `buffer` has been looked through for a line's end.
    searched: usize,
    /// In the middle of a line that was too long.
    skipping: bool,
    /// The last line may have no end.
    ended: bool,
    /// Bytes until others have their turn.
    turn: usize,
    /// Whether there are others who write: who is alone rests only in a line that does not end, of which nothing comes
    /// out in between.
    in_turns: bool,
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// Its text, without the line's end.
    Text(String),
    /// It had more than [`limits::LINE_BYTES`] bytes and was skipped.
    TooLong,
    /// It was no UTF-8.
    NotText,
}

/// Standard output.
pub struct Output {
    file: File,
}

/// A file that may or may not be waited for.
enum File {
    Polled(Async<OwnedFd>),
    Direct(OwnedFd),
}

/// A pipe that is ready takes this much without blocking (POSIX `PIPE_BUF` on Linux).
const WRITE_BYTES: usize = 4096;

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

impl Lines {
    /// Lines of this process's standard input.
    pub fn stdin() -> io::Result<Self> {
        Ok(Self::new(io::stdin().as_fd().try_clone_to_owned()?))
    }

    /// Lines of any open file.
    pub fn new(fd: OwnedFd) -> Self {
        Self {
            file: File::new(fd),
            buffer: Vec::new(),
            taken: 0,
            searched: 0,
            skipping: false,
            ended: false,
            turn: READ_BYTES,
            in_turns: false,
        }
    }

    /// The same of one of several who write: who writes without end rests in between.
    #[cfg(feature = "control")]
    pub fn in_turns(fd: OwnedFd) -> Self {
        Self { in_turns: true, ..Self::new(fd) }
    }

    /// The next line; `None` at the end.
    pub async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(Some(line));
            }
            if self.ended {
                return Ok(None);
            }
            let length = self.buffer.len();
            self.buffer.resize(length + READ_BYTES, 0);
            let read = self.file.read(&mut self.buffer[length..]).await;
            self.buffer.truncate(length + *read.as_ref().unwrap_or(&0));
            let read = read?;
            self.ended = read == 0;
            self.rest(read).await;
        }
    }

    /// The executor runs a task that is always ready many times before the node has its turn, so yielding does not do.
    async fn rest(&mut self, read: usize) {
        if !self.in_turns && !self.skipping {
            return;
        }
        self.turn = self.turn.saturating_sub(read);
        if self.turn == 0 {
            self.turn = READ_BYTES;
            Delay::new(limits::TURN_REST).await;
        }
    }

    /// A line out of what was read.
    fn take_line(&mut self) -> Option<Line> {
        loop {
            let end =
                self.buffer[self.searched..].iter().position(|b| *b == b'\n').map(|i| self.searched + i);
            let (end, rest) = match end {
                Some(end) => (end, end + 1),
                // The last line, without an end.
                None if self.ended && self.taken < self.buffer.len() => {
                    (self.buffer.len(), self.buffer.len())
                }
                None if self.buffer.len() - self.taken > limits::LINE_BYTES => {
                    self.buffer.clear();
                    (self.taken, self.searched) = (0, 0);
                    if !std::mem::replace(&mut self.skipping, true) {
                        return Some(Line::TooLong);
                    }
                    return None;
                }
                None => {
                    // Once for all of the lines that were in it.
                    self.buffer.drain(..std::mem::take(&mut self.taken));
                    self.searched = self.buffer.len();
                    return None;
                }
            };
            let line = &self.buffer[self.taken..end];
            (self.taken, self.searched) = (rest, rest);
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            return Some(match std::str::from_utf8(line) {
                _ if line.len() > limits::LINE_BYTES => Line::TooLong,
                Ok(text) => Line::Text(text.into()),
                Err(_) => Line::NotText,
            });
        }
    }
}

impl Output {
    /// This process's standard output.
    pub fn stdout() -> io::Result<Self> {
        Ok(Self { file: File::new(io::stdout().as_fd().try_clone_to_owned()?) })
    }

    /// Any open file.
    #[cfg(feature = "control")]
    pub fn new(fd: OwnedFd) -> Self {
        Self { file: File::new(fd) }
    }

    /// Whether a person is looking.
    pub fn is_terminal(&self) -> bool {
        rustix::termios::isatty(self.file.fd())
    }

    /// Writes all of it, waiting for the reader where need be.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let chunk = &bytes[..bytes.len().min(WRITE_BYTES)];
            let written = self.file.write(chunk).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }
}

impl File {
    fn new(fd: OwnedFd) -> Self {
        // epoll refuses regular files; so does a reactor that is out of memory, and then direct I/O still works.
        let polled = match rustix::fs::fstat(&fd).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::RegularFile) | Err(_) => None,
            Ok(_) => fd.try_clone().ok().and_then(|fd| Async::new_nonblocking(fd).ok()),
        };
        polled.map_or(Self::Direct(fd), Self::Polled)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Polled(file) => file.get_ref().as_fd(),
            Self::Direct(file) => file.as_fd(),
        }
    }

    async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.wait(PollFlags::IN).await?;
            match rustix::io::read(self.fd(), &mut *buffer) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.wait(PollFlags::OUT).await?;
            match rustix::io::write(self.fd(), bytes) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Waits until a read or write will not block. The kernel has the last word, because what the reactor
    /// remembers may be out of date, and a call that blocks would stop the whole node.
    async fn wait(&self, flags: PollFlags) -> io::Result<()> {
        let Self::Polled(file) = self else { return Ok(()) };
        while !self.is_ready(flags)? {
            match flags.contains(PollFlags::IN) {
                true => file.readable().await?,
                false => file.writable().await?,
            }
        }
        Ok(())
    }

    /// Asks the kernel, without waiting.
    fn is_ready(&self, flags: PollFlags) -> io::Result<bool> {
        let fd = self.fd();
        let mut fds = [PollFd::new(&fd, flags)];
        match rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn lines(input: &[u8]) -> Vec<Line> {
        let (reader, mut writer) = io::pipe().expect("pipe");
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || writer.write_all(&input));
        let lines = smol::block_on(async {
            let mut lines = Lines::new(reader.into());
            let mut all = Vec::new();
            while let Some(line) = lines.next().await.expect("reads") {
                all.push(line);
            }
            all
        });
        feeder.join().expect("feeder").expect("writes");
        lines
    }

    fn text(text: &str) -> Line {
        Line::Text(text.into())
    }

    #[test]
    fn lines_come_as_they_were_written() {
        assert_eq!(lines(b"one\ntwo\r\n\nlast"), [text("one"), text("two"), text(""), text("last")]);
        assert_eq!(lines(b""), []);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_the_next_one_read() {
        let mut input = vec![b'x'; 3 * limits::LINE_BYTES];
        input.extend(b"\nnext\n");
        assert_eq!(lines(&input), [Line::TooLong, text("next")]);
    }

    #[test]
    fn a_line_without_end_leaves_others_their_turn() {
        let endless = std::fs::File::open("/dev/zero").expect("is there").into();
        let turns = smol::block_on(async {
            let mut lines = Lines::new(endless);
            assert_eq!(lines.next().await.expect("reads"), Some(Line::TooLong));
            let mut turns = 0;
            let others = async {
                while turns < 10 {
                    Delay::new(limits::TURN_REST).await;
                    turns += 1;
                }
            };
            let line = async { panic!("a line: {:?}", lines.next().await) };
            smol::future::or(line, others).await;
            turns
        });
        assert_eq!(turns, 10);
    }

    #[test]
    fn the_longest_line_is_read_whole() {
        let mut input = vec![b'x'; limits::LINE_BYTES];
        input.push(b'\n');
        assert_eq!(lines(&input), [text(&"x".repeat(limits::LINE_BYTES))]);
    }

    #[test]
    fn what_is_no_text_is_told_apart() {
        assert_eq!(lines(b"a\n\xff\xfe\nb\n"), [text("a"), Line::NotText, text("b")]);
    }

    #[test]
    fn a_regular_file_is_read_too() {
        let path = std::env::temp_dir().join(format!("warren-lines-{}", std::process::id()));
        std::fs::write(&path, "a\nb\n").expect("writes");
        let file = std::fs::File::open(&path).expect("opens");
        std::fs::remove_file(&path).expect("removes");
        smol::block_on(async {
            let mut lines = Lines::new(file.into());
            assert_eq!(lines.next().await.expect("reads"), Some(text("a")));
            assert_eq!(lines.next().await.expect("reads"), Some(text("b")));
            assert_eq!(lines.next().await.expect("reads"), None);
        });
    }
}
