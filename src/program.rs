//! The subcommands: from checked configuration to the end of the node.

use std::{fs, io, os::fd::AsFd, path::Path, sync::Arc};

use async_signal::{Signal, Signals};
use futures::StreamExt;
use libp2p::identity::Keypair;
use rustix::fs::FlockOperation;
use smol::{Executor, future};

#[cfg(feature = "metrics")]
use crate::face::metrics;
#[cfg(feature = "web")]
use crate::face::web;
use crate::{
    cli,
    config::{Config, ConfigError, IdConfig, IdentitySource},
    face::{
        json,
        json_lines::{self, Carrier},
        repl,
        stdio::{Lines, Output},
    },
    files,
    identity::{self, IdentityError},
    limits,
    logs::{self, LogConfig},
    node::{
        Node, StartError,
        api::{Command, Handle},
    },
    within::within,
};
#[cfg(feature = "control")]
use crate::{
    config,
    face::{
        control::{Control, ControlError},
        ctl,
    },
};
#[cfg(feature = "stun")]
use crate::{config::NatConfig, survey};

/// Why the program ends without success.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line or a configuration file is wrong.
    #[error("{0}")]
    Usage(#[from] ConfigError),
    #[error("{0}")]
    Identity(#[from] IdentityError),
    #[error("another warren uses the identity file '{0}'; give this one its own with --identity")]
    InUse(String),
    #[error("{0}")]
    Start(#[from] StartError),
    #[cfg(feature = "metrics")]
    #[error("cannot tell metrics at {addr}: {why}; give --metrics another address")]
    Metrics { addr: std::net::SocketAddr, why: io::Error },
    #[cfg(feature = "web")]
    #[error("cannot serve the page at {addr}: {why}; give --web another address")]
    Web { addr: std::net::SocketAddr, why: io::Error },
    #[error("standard input or output failed: {0}")]
    Stdio(io::Error),
    #[error("the situation of this machine cannot be found out: {0}")]
    Survey(String),
    #[error("signals cannot be received: {0}")]
    Signals(io::Error),
    #[cfg(feature = "control")]
    #[error("{0}")]
    Control(#[from] ControlError),
    #[cfg(feature = "control")]
    #[error("{0}")]
    Ctl(#[from] ctl::CtlError),
    #[cfg(not(feature = "control"))]
    #[error("nodes cannot be steered: this warren was built without the control socket")]
    NoCtl,
}

impl Failure {
    #[cfg(feature = "web")]
    fn web((addr, why): (std::net::SocketAddr, io::Error)) -> Self {
        Failure::Web { addr, why }
    }

    /// The exit code, as README lists them.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            #[cfg(feature = "control")]
            Failure::Ctl(e) => e.code(),
            _ => 1,
        }
    }
}

/// `warren run`.
pub fn run(words: cli::Run) -> Result<(), Failure> {
    let is_check = words.check;
    let config = Config::run(words)?;
    if is_check { Ok(()) } else { node(config) }
}

/// `warren relay`.
pub fn relay(words: cli::Relay) -> Result<(), Failure> {
    let is_check = words.check;
    let config = Config::relay(words)?;
    if is_check { Ok(()) } else { node(config) }
}

/// `warren id`.
pub fn id(words: cli::Id) -> Result<(), Failure> {
    let config = IdConfig::new(words)?;
    logs::set(LogConfig::default());
    let key = match &config.identity {
        IdentitySource::File(path) | IdentitySource::State(path) => {
            identity::load_or_create(path, config.generate)?
        }
        IdentitySource::Seed(seed) => identity::from_seed(*seed),
        IdentitySource::Temporary => (config.generate)(),
    };
    if let Some(path) = &config.identity_out {
        identity::save(&key, path)?;
    }
    let public = key.public();
    let (peer, encoded) = (public.to_peer_id(), public.encode_protobuf());
    if config.json {
        println!("{}", json::identity(&peer, identity::kind(&key), &encoded));
    } else {
        println!("peer ID     {peer}");
        println!("public key  {} {}", identity::kind(&key), json::hex(&encoded));
    }
    Ok(())
}

/// `warren nat`.
#[cfg(feature = "stun")]
pub fn nat(words: cli::Nat) -> Result<(), Failure> {
    let config = NatConfig::new(words)?;
    logs::set(LogConfig::default());
    let executor = Executor::new();
    let found = futures_timer::block_on(executor.run(survey::look(&config, &executor)));
    let found = found.map_err(Failure::Survey)?;
    match config.json {
        true => println!("{}", json::survey(&found)),
        false => print!("{found}"),
    }
    Ok(())
}

/// `warren nat`, in a build that cannot.
#[cfg(not(feature = "stun"))]
pub fn nat(_: cli::Nat) -> Result<(), Failure> {
    Err(Failure::Survey("this warren was built without STUN".into()))
}

/// `warren ctl`.
#[cfg(feature = "control")]
pub fn ctl(words: cli::Ctl) -> Result<(), Failure> {
    Ok(ctl::run(words)?)
}

/// `warren ctl`, in a build that cannot.
#[cfg(not(feature = "control"))]
pub fn ctl(_: cli::Ctl) -> Result<(), Failure> {
    Err(Failure::NoCtl)
}

fn node(mut config: Config) -> Result<(), Failure> {
    logs::set(config.log);
    // Held until the end: it keeps a second node from being the same peer.
    let (key, lock) = find_key(&config.identity)?;
    // One who could not be who it was has another one's files before it.
    if lock.is_none() && matches!(config.identity, IdentitySource::State(_)) {
        config.kept = None;
    }
    // The identity is ours alone, so these files are.
    if let (Some(_), IdentitySource::State(path) | IdentitySource::File(path)) = (&lock, &config.identity) {
        let kept = config.kept.iter().flat_map(|kept| [&kept.peers, &kept.clock]);
        [path].into_iter().chain(kept).for_each(|path| files::sweep(path));
    }
    if let Some(path) = &config.identity_out {
        identity::save(&key, path)?;
    }
    let executor = Arc::new(Executor::new());
    // Without a file to read again it does what it usually does.
    let reload = config.source.has_file().then_some(Signal::Hup);
    let signals =
        Signals::new([Signal::Int, Signal::Term].into_iter().chain(reload)).map_err(Failure::Signals)?;
    #[cfg(feature = "control")]
    let control = open_control(&config.control)?;
    let input = config.stdin.then(Lines::stdin).transpose().map_err(Failure::Stdio)?;
    let output = Output::stdout().map_err(Failure::Stdio)?;
    #[cfg(feature = "metrics")]
    let metrics = config.metrics.map(metrics::Endpoint::bind).transpose();
    #[cfg(feature = "metrics")]
    let metrics = metrics.map_err(|(addr, why)| Failure::Metrics { addr, why })?;
    #[cfg(feature = "web")]
    let web = config.web.map(web::Endpoint::bind).transpose().map_err(Failure::web)?;
    let (node, handle) = Node::new(&config, key, executor.clone())?;
    #[cfg(feature = "metrics")]
    if let Some(metrics) = metrics {
        executor.spawn(metrics.run(executor.clone(), handle.clone())).detach();
    }
    let events = handle.listen();
    let others: Vec<Option<future::Boxed<()>>> = Vec::from([
        #[cfg(feature = "control")]
        control
            .map(|control| -> future::Boxed<()> { Box::pin(executor.spawn(control.serve(handle.clone()))) }),
        #[cfg(feature = "web")]
        web.map(|web| -> future::Boxed<()> { Box::pin(web.spawn(&executor, handle.clone())) }),
    ]);
    let stop = obey_signals(signals, handle.clone(), executor.clone());
    let face = async {
        match config.json {
            true => json_lines::run(handle, events, input, output, Carrier::Stdio).await,
            false => repl::run(handle, events, input, output).await,
        }
    };
    // On the heap: half a megabyte of stack would be touched once, to move it, and be resident from then on.
    let run = Box::pin(async {
        if until_the_end(node, face, stop).await? {
            // They hear that it is over, unless they do not listen.
            let hear = async {
                for other in others.into_iter().flatten() {
                    other.await;
                }
            };
            within(limits::GOODBYE, hear).await;
        }
        Ok(())
    });
    futures_timer::block_on(executor.run(run))
}

/// The socket for those who steer the node. One that was not named may be missing.
#[cfg(feature = "control")]
fn open_control(wanted: &config::Control) -> Result<Option<Control>, ControlError> {
    match wanted {
        config::Control::At(path) => Control::new(path).map(Some),
        config::Control::Usual(path) => {
            Ok(Control::new(path).inspect_err(|e| log::warn!("{e}; this node goes without")).ok())
        }
        config::Control::Off => Ok(None),
    }
}

/// Runs the node beside its face. The face may take a little longer, to write the last events; if it ends
/// first, for example because nobody reads them any more, the node ends too. Returns whether the node ended by itself.
async fn until_the_end(
    node: Node,
    face: impl Future<Output = io::Result<()>>,
    stop: impl Future<Output = ()>,
) -> Result<bool, Failure> {
    let mut face = std::pin::pin!(face);
    let (ended, is_over) = {
        let node = async {
            node.run().await;
            None
        };
        let speaking = async { Some((&mut face).await) };
        let stop = async {
            stop.await;
            None
        };
        let node = std::pin::pin!(future::or(node, stop));
        match future::or(speaking, node).await {
            Some(result) => (result, false),
            None => (within(limits::GOODBYE, face).await.unwrap_or(Ok(())), true),
        }
    };
    match ended {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Stdio(e)),
        _ => Ok(is_over),
    }
}

/// The first signal asks the node to end, the second one does not ask. SIGHUP has the configuration read again.
async fn obey_signals(mut signals: Signals, handle: Handle, executor: Arc<Executor<'static>>) {
    let (mut is_told, mut reload) = (false, None);
    while let Some(signal) = signals.next().await {
        match signal {
            Ok(Signal::Hup) => {
                let handle = handle.clone();
                // The node says in the log what came of it. One that still waits for its turn is as good as two.
                let again = async move { drop(handle.ask(Command::Reload).await) };
                reload.replace(executor.spawn(again));
            }
            _ if is_told => break,
            _ => {
                handle.stop();
                is_told = true;
            }
        }
    }
}

fn find_key(source: &IdentitySource) -> Result<(Keypair, Option<fs::File>), Failure> {
    match source {
        IdentitySource::Seed(seed) => {
            log::warn!(
                "the identity comes from --secret-key-seed {seed}: anyone can have it; for tests only"
            );
            Ok((identity::from_seed(*seed), None))
        }
        IdentitySource::File(path) => {
            let key = identity::load_or_create(path, identity::generate)?;
            let lock = lock(path).map_err(|InUse| Failure::InUse(path.display().to_string()))?;
            Ok((key, lock))
        }
        IdentitySource::State(path) => match identity::load_or_create(path, identity::generate) {
            Ok(key) => match lock(path) {
                Ok(lock) => Ok((key, lock)),
                Err(InUse) => {
                    log::warn!(
                        "another warren uses '{}'; this one gets a temporary identity (--identity gives it a lasting one)",
                        path.display()
                    );
                    Ok((identity::generate(), None))
                }
            },
            // A router with a full or read-only flash shall still talk.
            Err(e @ (IdentityError::Read(..) | IdentityError::Write(..))) => {
                log::warn!("{e}; using a temporary identity");
                Ok((identity::generate(), None))
            }
            Err(e) => Err(e.into()),
        },
        IdentitySource::Temporary => {
            log::warn!("no home directory: using a temporary identity (--identity gives a lasting one)");
            Ok((identity::generate(), None))
        }
    }
}

struct InUse;

/// Two nodes with one identity would each be cut off by half of their peers. A file system that knows no
/// locks is no reason to stop.
fn lock(path: &Path) -> Result<Option<fs::File>, InUse> {
    let Ok(file) = fs::File::open(path) else { return Ok(None) };
    match rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Err(InUse),
        Ok(()) | Err(_) => Ok(Some(file)),
    }
}
