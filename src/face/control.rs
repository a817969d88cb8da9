//! The control socket: JSON lines as on standard input and output, for several clients at once.
//!
//! It is a Unix stream socket that only its owner may connect to, from the moment that it exists. Each client has a
//! bounded queue of events and of answers; who does not read loses events, is told how many, and holds up nobody.

use std::{
    fs,
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::{FileTypeExt, MetadataExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use async_io::Async;
use futures::{StreamExt, stream::FuturesUnordered};
use rustix::fs::{FlockOperation, Mode};
use smol::future;
use socket2::{Domain, SockAddr, Socket, Type};

use super::{
    json,
    json_lines::{self, Carrier},
    stdio::{Lines, Output},
};
use crate::{files, limits, node::api::Handle, within::within};

/// A control socket that can be connected to. Dropping it removes it.
pub struct Control {
    listener: Async<UnixListener>,
    path: PathBuf,
    /// Device and inode: another node may have made a socket of its own there since.
    file: (u64, u64),
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("another warren listens at the control socket '{}'; give this one its own with --control", .0.display())]
    InUse(PathBuf),
    #[error("'{}' is no socket, so it stays; name another path with --control", .0.display())]
    NoSocket(PathBuf),
    #[error("cannot make the control socket '{}': {why}", .path.display())]
    Io { path: PathBuf, why: io::Error },
}

impl Control {
    /// Listens at `path`, whose directory is made if need be. The socket of a node that has died is replaced.
    ///
    /// # Errors
    /// Somebody listens there, something else is there, or the file system refuses.
    pub fn new(path: &Path) -> Result<Self, ControlError> {
        let error = |why: io::Error| ControlError::Io { path: path.into(), why };
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        if !dir.exists() {
            files::make_private_dir(dir).map_err(error)?;
        }
        // Held until the end of this function: two nodes must not take each other's new socket for a dead one.
        let _lock = lock(dir);
        make_way(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(error)?;
        // Linux gives the file of a socket the mode that the socket has, so there is no moment with another one.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(|e| error(e.into()))?;
        socket.bind(&SockAddr::unix(path).map_err(error)?).map_err(error)?;
        let file = fs::symlink_metadata(path).map(|file| (file.dev(), file.ino())).map_err(error)?;
        socket.listen(limits::CONTROL_BACKLOG).map_err(error)?;
        let listener = Async::new(UnixListener::from(OwnedFd::from(socket))).map_err(error)?;
        Ok(Self { listener, path: path.into(), file })
    }

    /// Serves clients until the node has ended and they have heard of it.
    pub async fn serve(self, handle: Handle) {
        let mut clients = Clients::new();
        loop {
            let accepted = async { Some(self.listener.accept().await) };
            let ended = async {
                handle.ended().await;
                None
            };
            // Clients have no say in which comes next, but have to be served meanwhile.
            match future::or(ended, future::race(accepted, attend(&mut clients))).await {
                Some(Ok((stream, _))) if clients.len() < limits::CONTROL_CLIENTS => {
                    match stream.into_inner() {
                        Ok(stream) => clients.push(Box::pin(client(stream, handle.clone()))),
                        Err(e) => log::debug!("a client of the control socket is lost: {e}"),
                    }
                }
                Some(Ok((stream, _))) => turn_away(stream),
                Some(Err(e)) => {
                    log::warn!("the control socket takes nobody for a while: {e}");
                    within(limits::CONTROL_REST, attend::<()>(&mut clients)).await;
                }
                None => break,
            }
            // Whoever connects without end must not keep the node waiting.
            future::yield_now().await;
        }
        while clients.next().await.is_some() {}
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let is_ours = |file: &fs::Metadata| (file.dev(), file.ino()) == self.file;
        if fs::symlink_metadata(&self.path).is_ok_and(|file| is_ours(&file)) {
            // What stays there is replaced by the next node.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the socket of a node that has died.
fn make_way(path: &Path) -> Result<(), ControlError> {
    let error = |why: io::Error| ControlError::Io { path: path.into(), why };
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => return Err(ControlError::NoSocket(path.into())),
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(error(e)),
    }
    // A listener whose queue is full is alive, too; so is one that is not ours to ask.
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(error)?;
    probe.set_nonblocking(true).map_err(error)?;
    match probe.connect(&SockAddr::unix(path).map_err(error)?) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(error),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(error(e)),
        _ => Err(ControlError::InUse(path.into())),
    }
}

/// Keeps other nodes from looking at sockets in a directory. Somebody who never lets go of the lock, or a file system
/// that knows none, is no reason to stop.
fn lock(dir: &Path) -> Option<fs::File> {
    let dir = fs::File::open(dir).ok()?;
    for _ in 0..limits::CONTROL_LOCK_TRIES {
        match rustix::fs::flock(dir.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(limits::CONTROL_LOCK),
            Ok(()) | Err(_) => return Some(dir),
        }
    }
    None
}

/// All clients, each to its end.
type Clients = FuturesUnordered<future::Boxed<()>>;

/// Serves them for as long as somebody else takes.
async fn attend<T>(clients: &mut Clients) -> T {
    while clients.next().await.is_some() {}
    future::pending().await
}

/// One client, to its end.
async fn client(stream: UnixStream, handle: Handle) {
    let events = handle.listen_within(limits::CONTROL_EVENT_BYTES);
    let run = async {
        // Nobody else has this open file, so it may be what a shared one must not be.
        stream.set_nonblocking(true)?;
        let input = Lines::in_turns(stream.try_clone()?.into());
        json_lines::run(handle, events, Some(input), Output::new(stream.into()), Carrier::Socket).await
    };
    if let Err(e) = run.await {
        log::debug!("a client of the control socket is gone: {e}");
    }
}

/// Tells one that it is one too many, if that can be done at once.
fn turn_away(stream: Async<UnixStream>) {
    let message = format!("there are {} clients already; try again later", limits::CONTROL_CLIENTS);
    let line = json::error(None, None, "too_many_clients", &message) + "\n";
    // It is non-blocking still, and an empty socket has place for a line.
    let _ = stream.get_ref().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A directory of this test's own.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("warren-control-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).expect("a directory");
            Self(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn it_belongs_to_its_owner_and_goes_with_its_node() {
        let dir = Dir::new("owner");
        let path = dir.0.join("deep/er/control");
        let control = Control::new(&path).expect("a socket");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{mode:o}");
        drop(control);
        assert!(!path.exists());
    }

    #[test]
    fn a_living_one_is_left_alone_and_a_dead_one_replaced() {
        let dir = Dir::new("dead");
        let path = dir.0.join("control");
        let living = Control::new(&path).expect("a socket");
        assert!(matches!(Control::new(&path), Err(ControlError::InUse(_))));
        assert!(path.exists(), "the second one did not take it away");
        drop(living);
        // A listener that is closed without its file being removed is what a killed node leaves behind.
        drop(UnixListener::bind(&path).expect("binds"));
        assert!(path.exists());
        let next = Control::new(&path).expect("the dead one makes way");
        fs::remove_file(&path).expect("removes");
        let other = Control::new(&path).expect("a socket");
        drop(next);
        assert!(path.exists(), "it is not that node's own any more");
        drop(other);
    }

    #[test]
    fn what_is_no_socket_stays() {
        let dir = Dir::new("file");
        let path = dir.0.join("control");
        fs::write(&path, "precious").expect("writes");
        assert!(matches!(Control::new(&path), Err(ControlError::NoSocket(_))));
        assert_eq!(fs::read(&path).expect("reads"), b"precious");
        let long = dir.0.join("x".repeat(120));
        let refused = Control::new(&long).err().expect("a path that is too long");
        assert!(refused.to_string().contains("xxx"), "{refused}");
    }
}
