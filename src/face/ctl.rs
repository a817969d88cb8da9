//! `warren ctl`: a running node is asked, or steered, through its control socket.
//!
//! A program of its own that blocks where it waits: one thread, one socket.

mod client;
mod words;

use std::{
    env, io,
    io::{BufRead, Read, Write},
    os::fd::AsFd,
    path::PathBuf,
};

use libp2p::{Multiaddr, PeerId};

use self::client::{Client, Heard};
use crate::{
    cli::{self, Order},
    config, limits,
    node::api::Command,
    rooms::{NameError, Nick, Room, unprintable},
};

/// Why `warren ctl` ends without success.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    #[error("{0}")]
    Name(#[from] NameError),
    #[error("'{word}' is no multiaddr ({why}); write it like /ip4/192.0.2.1/tcp/4001")]
    Address { word: String, why: String },
    #[error("'{word}' is no peer ID ({why}); 'warren ctl peers' lists those connected")]
    Peer { word: String, why: String },
    #[error("no node listens at '{}' ({why}); start one with --control, or name its socket with --control or $WARREN_CONTROL", .path.display())]
    NoNode { path: PathBuf, why: io::Error },
    #[error(
        "no control socket is in the usual places; start a node with --control, or name its socket with --control or $WARREN_CONTROL"
    )]
    Nowhere,
    #[error("the connection with the node broke: {0}")]
    Broken(io::Error),
    #[error("the node has ended")]
    Gone,
    #[error("the node takes no more clients: {0}")]
    Full(String),
    #[error("{}", .0.why)]
    Refused(Refusal),
    #[error("line {line} of standard input: {why}; the lines before it were sent")]
    Line { line: usize, why: String },
    #[error("standard input or output failed: {0}")]
    Stdio(io::Error),
}

/// What was not done.
#[derive(Debug)]
pub struct Refusal {
    /// A sentence for people.
    why: String,
    /// The node's line, if it was the node.
    line: Option<String>,
}

impl CtlError {
    /// 1: the node refused, or a file failed; 2: a word is wrong; 3: no node answers.
    pub fn code(&self) -> u8 {
        match self {
            CtlError::Name(_) | CtlError::Address { .. } | CtlError::Peer { .. } => 2,
            CtlError::NoNode { .. }
            | CtlError::Nowhere
            | CtlError::Broken(_)
            | CtlError::Gone
            | CtlError::Full(_) => 3,
            CtlError::Refused(_) | CtlError::Line { .. } | CtlError::Stdio(_) => 1,
        }
    }
}

/// Does what was ordered. That nobody reads the output any more is an end like any other.
pub fn run(words: cli::Ctl) -> Result<(), CtlError> {
    match order(words) {
        Err(CtlError::Stdio(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn order(words: cli::Ctl) -> Result<(), CtlError> {
    let (json, control) = (words.json, words.control);
    let command = match words.order {
        Order::Status(_) => Command::Status,
        Order::Peers(_) => Command::Peers,
        Order::Rooms(_) => Command::Rooms,
        Order::Nat(_) => Command::Nat,
        Order::Reload(_) => Command::Reload,
        Order::Quit(_) => Command::Quit,
        Order::Join(words) => Command::Join(words.room.parse()?),
        Order::Leave(words) => Command::Leave(words.room.parse()?),
        Order::Nick(words) => Command::Nick(words.nick.parse::<Nick>()?),
        Order::Connect(words) => Command::Connect(address(words.addr)?),
        Order::Disconnect(words) => Command::Disconnect(peer(words.peer)?),
        Order::Send(words) => return send(words, || Client::connect(socket(control)?), json),
        Order::Listen(words) => return listen(words, || Client::connect(socket(control)?), json),
    };
    let mut client = Client::connect(socket(control)?)?;
    let answer = client.ask(&command);
    if json {
        return tell(answer);
    }
    print(&words::answer(&command, &answer?.reading))
}

fn address(word: String) -> Result<Multiaddr, CtlError> {
    word.parse().map_err(|e| CtlError::Address { word, why: format!("{e}") })
}

fn peer(word: String) -> Result<PeerId, CtlError> {
    word.parse().map_err(|e| CtlError::Peer { word, why: format!("{e}") })
}

/// Where the node listens: as said, or else where there is something.
fn socket(word: Option<String>) -> Result<PathBuf, CtlError> {
    let of = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = word.map(PathBuf::from).or_else(|| of("WARREN_CONTROL")) {
        return Ok(path);
    }
    let places = [
        config::runtime_dir(),
        of("XDG_RUNTIME_DIR").map(|dir| dir.join("warren")),
        Some("/run/warren".into()),
        Some("/var/run/warren".into()),
    ];
    let mut places = places.into_iter().flatten().map(|dir| dir.join("control"));
    places.find(|path| path.exists()).ok_or(CtlError::Nowhere)
}

/// The words, or each line of standard input that is not empty. The next one goes when the node has taken the last.
fn send(
    words: cli::CtlSend,
    connect: impl FnOnce() -> Result<Client, CtlError>,
    json: bool,
) -> Result<(), CtlError> {
    let room: Option<Room> = words.room.map(|room| room.parse()).transpose()?;
    let say = |text| Command::Send { room: room.clone(), text, action: false };
    let mut client = connect()?;
    if !words.text.is_empty() {
        let answer = client.ask(&say(words.text.join(" ")));
        return if json { tell(answer) } else { answer.map(drop) };
    }
    let mut input = io::stdin().lock();
    for line in 1.. {
        let bad = |why: String| CtlError::Line { line, why };
        let mut bytes = Vec::new();
        let most = limits::LINE_BYTES as u64;
        let read = (&mut input).take(most + 1).read_until(b'\n', &mut bytes).map_err(CtlError::Stdio)?;
        if read == 0 {
            break;
        }
        if bytes.pop_if(|end| *end == b'\n').is_some() {
            bytes.pop_if(|end| *end == b'\r');
        }
        let text = String::from_utf8(bytes).map_err(|_| bad("it is no UTF-8".into()))?;
        if text.len() > limits::TEXT_BYTES {
            return Err(bad(format!("it has more than {} bytes", limits::TEXT_BYTES)));
        }
        if text.is_empty() {
            continue;
        }
        let answer = client.ask(&say(text));
        let told = if json { tell(answer) } else { answer.map(drop) };
        match told {
            Err(CtlError::Refused(refusal)) => return Err(bad(refusal.why)),
            told => told?,
        }
    }
    Ok(())
}

/// Prints what is said until the node ends, or nobody reads it any more.
fn listen(
    words: cli::CtlListen,
    connect: impl FnOnce() -> Result<Client, CtlError>,
    json: bool,
) -> Result<(), CtlError> {
    let rooms: Vec<Room> = words.room.iter().map(|room| room.parse()).collect::<Result<_, _>>()?;
    let mut client = connect()?;
    let me = client.ask(&Command::WhoAmI)?.reading;
    let joined = me.texts("rooms");
    if let Some(room) = rooms.iter().find(|room| !joined.contains(&room.as_str())) {
        let why = format!("not in room '{room}'; join it first");
        return Err(CtlError::Refused(Refusal { why, line: None }));
    }
    let with_names = words.names || rustix::termios::isatty(io::stdout().as_fd());
    loop {
        let Heard { line, reading } = match client.hear(io::stdout().as_fd())? {
            Some(heard) => heard,
            None => return Ok(()),
        };
        match reading.text("event") {
            "message"
                if rooms.is_empty() || rooms.iter().any(|room| room.as_str() == reading.text("room")) =>
            {
                match (json, with_names) {
                    (true, _) => print(&line)?,
                    (false, true) => print(&words::message(&reading))?,
                    (false, false) => print(&one_line(reading.text("text")))?,
                }
            }
            "lagged" if json => print(&line)?,
            "lagged" => {
                let missed = reading.number("missed").unwrap_or_default();
                eprintln!("warren: {missed} events were lost here: what reads this is too slow");
            }
            "stopped" => return Ok(()),
            _ => {}
        }
    }
}

/// Prints the node's line, be it a refusal.
fn tell(answer: Result<Heard, CtlError>) -> Result<(), CtlError> {
    if let Ok(Heard { line, .. }) | Err(CtlError::Refused(Refusal { line: Some(line), .. })) = &answer {
        print(line)?;
    }
    answer.map(drop)
}

fn print(text: &str) -> Result<(), CtlError> {
    let mut output = io::stdout().lock();
    writeln!(output, "{text}").and_then(|()| output.flush()).map_err(CtlError::Stdio)
}

/// A message is one line, whatever its author wrote.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if unprintable(c) && c != '\t' { '\u{fffd}' } else { c }).collect()
}
