//! A conversation at a terminal: what is typed goes to the current room, what is said is shown.
//!
//! The terminal keeps its own line editing. A message that arrives while somebody types takes the line;
//! what was typed is still there, and Ctrl-R shows it again.

use std::{fmt::Write as _, io};

use async_channel::{Receiver, Sender};
use libp2p::PeerId;
use smol::future;

use super::stdio::{Line, Lines, Output};
use crate::{
    limits,
    node::{
        Item,
        api::{Answer, Command, Event, Handle, Listener, PeerInfo, RoomInfo, WhoAmI},
    },
    rooms::{Nick, Room, unprintable},
};

/// What a typed line asks for.
#[derive(Debug)]
enum Typed {
    /// A command for the node.
    Ask(Command),
    /// Enter a room and talk there from now on.
    Join(Room),
    /// The list of commands.
    Help,
    /// Nothing.
    Nothing,
    /// A line that cannot be understood.
    Bad(String),
}

/// How things look.
#[derive(Clone, Copy)]
struct Style {
    /// A person is looking: take the line before writing on it.
    terminal: bool,
    /// Colours are welcome.
    colour: bool,
}

/// Talks with a person until the node ends. `events` must have listened since before the node ran.
pub async fn run(handle: Handle, events: Listener, input: Option<Lines>, output: Output) -> io::Result<()> {
    let terminal = output.is_terminal();
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let style = Style { terminal, colour };
    let (answers, answers_out) = async_channel::bounded(limits::COMMANDS);
    let read = async {
        match input {
            Some(input) => read(handle, input, answers).await,
            // Dropping the handle would end the node.
            None => future::pending().await,
        }
    };
    future::or(write(style, events, answers_out, output), read).await
}

async fn read(handle: Handle, mut input: Lines, answers: Sender<String>) -> io::Result<()> {
    let mut current: Option<Room> = None;
    while let Some(line) = input.next().await? {
        let typed = match line {
            Line::Text(line) => parse(&line, current.as_ref()),
            Line::TooLong => Typed::Bad(format!("a line cannot have more than {} bytes", limits::LINE_BYTES)),
            Line::NotText => Typed::Bad("a line must be UTF-8".into()),
        };
        let answer = match typed {
            Typed::Nothing => continue,
            Typed::Help => HELP.into(),
            Typed::Bad(why) => format!("! {why}"),
            Typed::Join(room) => match handle.ask(Command::Join(room.clone())).await {
                Ok(_) => {
                    current = Some(room.clone());
                    format!("* you are in {room} now; what you type goes there")
                }
                Err(refusal) => format!("! {refusal}"),
            },
            Typed::Ask(command) => {
                if matches!(&command, Command::Leave(room) if current.as_ref() == Some(room)) {
                    current = None;
                }
                match handle.ask(command.clone()).await {
                    Ok(answer) => self::answer(&command, &answer),
                    Err(refusal) => Some(format!("! {refusal}")),
                }
                .unwrap_or_default()
            }
        };
        if !answer.is_empty() && answers.send(answer).await.is_err() {
            break;
        }
    }
    // End of input. The answer would be to nobody's question.
    let _ = handle.submit(Command::Quit).await;
    future::pending().await
}

async fn write(style: Style, events: Listener, answers: Receiver<String>, output: Output) -> io::Result<()> {
    loop {
        let answer = async {
            match answers.recv().await {
                Ok(answer) => Some(answer),
                Err(_) => future::pending().await,
            }
        };
        let event = async {
            Some(match events.next().await? {
                Item::Event(event) => render(&event, style).unwrap_or_default(),
                Item::Missed(missed) => format!("! {missed} events were lost: this terminal is too slow"),
            })
        };
        match future::or(answer, event).await {
            Some(text) if text.is_empty() => {}
            Some(text) => output.write_all(style.line(&text).as_bytes()).await?,
            None => return Ok(()),
        }
    }
}

const HELP: &str = "\
* /join ROOM      enter a room and talk there      /leave [ROOM]   leave it
* /peers          who is connected                 /rooms          rooms and who is there
* /connect ADDR   dial a peer                      /whoami         who and where you are
* /nick NAME      take another name                /me DOES        say what you do
* /quit           end (so does Ctrl-D)             //text          say something that begins with /
* Ctrl-R shows again what you were typing when a message came in";

fn parse(line: &str, current: Option<&Room>) -> Typed {
    let line = line.trim_end();
    if line.trim_start().is_empty() {
        return Typed::Nothing;
    }
    let say =
        |text: &str, action| Typed::Ask(Command::Send { room: current.cloned(), text: text.into(), action });
    let Some(command) = line.strip_prefix('/') else { return say(line, false) };
    if command.starts_with('/') {
        return say(command, false);
    }
    let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let rest = rest.trim();
    match (word, rest) {
        ("help" | "h" | "?", _) => Typed::Help,
        ("quit" | "q" | "exit", _) => Typed::Ask(Command::Quit),
        ("peers", _) => Typed::Ask(Command::Peers),
        ("rooms", _) => Typed::Ask(Command::Rooms),
        ("whoami", _) => Typed::Ask(Command::WhoAmI),
        ("leave", "") => match current {
            Some(room) => Typed::Ask(Command::Leave(room.clone())),
            None => Typed::Bad("say which room to leave: /leave ROOM".into()),
        },
        ("join" | "connect" | "nick" | "me", "") => {
            Typed::Bad(format!("/{word} needs a word after it; /help lists the commands"))
        }
        ("join", room) => room.parse().map_or_else(bad, Typed::Join),
        ("leave", room) => room.parse().map_or_else(bad, |room| Typed::Ask(Command::Leave(room))),
        ("nick", nick) => nick.parse().map_or_else(bad, |nick| Typed::Ask(Command::Nick(nick))),
        ("me", text) => say(text, true),
        ("connect", addr) => match addr.parse() {
            Ok(addr) => Typed::Ask(Command::Connect(addr)),
            Err(e) => {
                Typed::Bad(format!("'{addr}' is no multiaddr ({e}); write it like /ip4/192.0.2.1/tcp/4001"))
            }
        },
        _ => Typed::Bad(format!("/{word} is no command; /help lists them, //{word} says it")),
    }
}

fn bad(error: impl ToString) -> Typed {
    Typed::Bad(error.to_string())
}

/// What to say of a command that succeeded.
fn answer(command: &Command, answer: &Answer) -> Option<String> {
    match (answer, command) {
        (Answer::Done, Command::Leave(room)) => Some(format!("* you left {room}")),
        (Answer::Done, Command::Nick(nick)) => Some(format!("* you are {nick} now")),
        (Answer::Done, Command::Connect(addr)) => Some(format!("* dialling {addr}")),
        // Nobody types the others.
        (Answer::Done | Answer::Sent { .. } | Answer::Stats(_), _) => None,
        (Answer::Status(..) | Answer::Nat(_) | Answer::Reloaded(_), _) => None,
        (Answer::Peers(peers), _) => Some(peer_list(peers)),
        (Answer::Rooms(rooms), _) => Some(room_list(rooms)),
        (Answer::WhoAmI(me), _) => Some(who_am_i(me)),
    }
}

fn peer_list(peers: &[PeerInfo]) -> String {
    if peers.is_empty() {
        return "* nobody is connected; /connect ADDR dials a peer".into();
    }
    let mut list = format!("* {} connected:", peers.len());
    for info in peers {
        let rtt = info.rtt.map_or_else(|| "-".into(), |rtt| format!("{:.1} ms", rtt.as_secs_f64() * 1e3));
        let addrs: Vec<_> = info.addrs.iter().map(ToString::to_string).collect();
        let (nick, agent) = (name(info.nick.as_ref()), printable(info.agent.as_deref().unwrap_or("")));
        // Writing to a string cannot fail.
        let _ = write!(list, "\n  {} {nick}  {rtt}  {}  {agent}", info.peer, addrs.join(" "));
    }
    list
}

fn room_list(rooms: &[RoomInfo]) -> String {
    if rooms.is_empty() {
        return "* you are in no room; /join ROOM enters one".into();
    }
    let mut list = "* rooms:".to_string();
    for info in rooms {
        let member =
            |(peer, nick): &(PeerId, Option<Nick>)| format!("{} ({})", name(nick.as_ref()), short(peer));
        let members: Vec<_> = info.members.iter().map(member).collect();
        let members = if members.is_empty() { "nobody else yet".into() } else { members.join(", ") };
        let _ = write!(list, "\n  {}: {members}", info.room);
    }
    list
}

fn who_am_i(me: &WhoAmI) -> String {
    let mut text = format!("* you are {} ({})", me.nick, me.peer);
    for addr in me.listening.iter().chain(&me.external) {
        let _ = write!(text, "\n  {addr}/p2p/{}", me.peer);
    }
    text
}

/// A line for an event, if it is worth one.
fn render(event: &Event, style: Style) -> Option<String> {
    Some(match event {
        Event::Started(me) => {
            let rooms: Vec<_> = me.rooms.iter().map(Room::as_str).collect();
            let rooms = if rooms.is_empty() { "no room".into() } else { rooms.join(", ") };
            format!("* you are {} in {rooms}; /help lists commands\n* peer ID {}", me.nick, me.peer)
        }
        Event::Listening(addr) => format!("* listening on {addr}"),
        Event::ListeningStopped(addr) => format!("* no longer listening on {addr}"),
        Event::PeerConnected { peer, addr, .. } => format!("* connected to {} at {addr}", short(peer)),
        Event::PathChanged { peer, addr, is_relayed: false } => {
            format!("* connected to {} directly, at {addr}", short(peer))
        }
        Event::PathChanged { peer, addr, is_relayed: true } => {
            format!("* connected to {} through a relay only, at {addr}", short(peer))
        }
        Event::PeerDisconnected { peer, cause } => {
            format!("* disconnected from {}: {}", short(peer), printable(cause))
        }
        #[cfg(feature = "stun")]
        Event::Nat(nat) => format!("* {}: {}", nat.family, nat.reach),
        #[cfg(feature = "autonat")]
        Event::Reachability { verdict, .. } => format!("* {}", verdict.sentence()),
        Event::MemberJoined { room, peer, nick } => {
            format!("* {} is in {room}", who(peer, nick.as_ref(), style))
        }
        Event::MemberRenamed { room, peer, nick } => {
            format!("* {} in {room} is {}", short(peer), who(peer, Some(nick), style))
        }
        Event::MemberLeft { room, peer, nick } => {
            format!("* {} left {room}", who(peer, nick.as_ref(), style))
        }
        Event::Message(message) => {
            let who = match &message.author {
                Some(peer) => who(peer, message.nick.as_ref(), style),
                None => "somebody".into(),
            };
            let text = printable(&message.text);
            match message.action {
                true => format!("[{}] * {who} {text}", message.room),
                false => format!("[{}] {who}: {text}", message.room),
            }
        }
        Event::Trouble(text) => format!("! {}", printable(text)),
        Event::Stopped => return None,
    })
}

impl Style {
    fn line(self, text: &str) -> String {
        let start = if self.terminal { "\r\x1b[K" } else { "" };
        format!("{start}{text}\n")
    }
}

/// A name with the end of the peer ID, in a colour that belongs to the peer.
fn who(peer: &PeerId, nick: Option<&Nick>, style: Style) -> String {
    let text = format!("{} ({})", name(nick), short(peer));
    if !style.colour {
        return text;
    }
    let sum =
        peer.to_bytes().iter().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
    // The six colours that can be read on black and on white.
    format!("\x1b[{}m{text}\x1b[0m", 31 + sum % 6)
}

fn name(nick: Option<&Nick>) -> &str {
    nick.map_or("?", Nick::as_str)
}

/// The end of a peer ID: its beginning is the same for all of a kind.
fn short(peer: &PeerId) -> String {
    let id = peer.to_base58();
    format!("…{}", &id[id.len().saturating_sub(6)..])
}

/// Text of others, made harmless for a terminal: line breaks are indented, so that no line can pass itself
/// off as somebody else's; what would move the cursor or hide something is replaced.
pub(super) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.trim_end_matches('\n').chars() {
        match c {
            '\n' => printable.push_str("\n    "),
            '\t' => printable.push('\t'),
            c if unprintable(c) => printable.push('\u{fffd}'),
            c => printable.push(c),
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { terminal: false, colour: false };

    #[test]
    fn lines_are_said_and_commands_are_obeyed() {
        assert!(
            matches!(parse("hello", None), Typed::Ask(Command::Send { text, action: false, .. }) if text == "hello")
        );
        assert!(matches!(parse("//etc", None), Typed::Ask(Command::Send { text, .. }) if text == "/etc"));
        assert!(matches!(parse("/me waves", None), Typed::Ask(Command::Send { action: true, .. })));
        assert!(matches!(parse("/join den", None), Typed::Join(room) if room.as_str() == "den"));
        assert!(matches!(parse("  ", None), Typed::Nothing));
        assert!(matches!(parse("/help", None), Typed::Help));
        assert!(matches!(parse("/quit", None), Typed::Ask(Command::Quit)));
    }

    #[test]
    fn what_is_not_understood_is_quoted() {
        for (line, part) in [
            ("/dance", "/dance"),
            ("/connect nowhere", "nowhere"),
            ("/join a b", "a b"),
            ("/nick", "/nick"),
            ("/leave", "/leave ROOM"),
        ] {
            match parse(line, None) {
                Typed::Bad(why) => assert!(why.contains(part), "{line}: {why}"),
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn text_of_others_cannot_take_over_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\r\u{202e}c"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c");
        assert_eq!(printable("one\n[lobby] eve: two"), "one\n    [lobby] eve: two");
    }

    #[test]
    fn a_message_shows_who_said_it_where() {
        let peer = PeerId::random();
        let message = crate::node::api::Message {
            room: "lobby".parse().expect("valid"),
            author: Some(peer),
            nick: Some("ada".parse().expect("valid")),
            text: "hi".into(),
            action: false,
            time_ms: 0,
            id: [0; 32],
        };
        let shown = render(&Event::Message(message), PLAIN).expect("shown");
        assert_eq!(shown, format!("[lobby] ada ({}): hi", short(&peer)));
    }
}
