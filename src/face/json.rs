//! The JSON schema: the one module that knows how commands and events look in JSON. README documents it.
//!
//! A command is one object on one line, `{"cmd":"send","text":"hi","id":1}`, or one of the bare words
//! `send TEXT` and `connect ADDR`. Each is answered by exactly one `ok` or `error` event with its `id`.

#[cfg(feature = "control")]
mod reading;
mod value;

use std::fmt::Write as _;

use libp2p::{Multiaddr, PeerId};

#[cfg(feature = "control")]
pub use self::reading::Reading;
use self::value::Value;

#[cfg(all(feature = "stun", feature = "portmap"))]
use crate::nat::portmap::{Report, Support};
#[cfg(feature = "stun")]
use crate::{nat::meaning::Meaning, survey::Survey};
use crate::{
    node::api::{Answer, Command, Event, Message, NatInfo, PeerInfo, Refusal, RoomInfo, Stats, WhoAmI},
    rooms::{Nick, Room},
};

/// A command with what its answer needs.
#[derive(Debug)]
pub struct Ask {
    /// The command.
    pub command: Command,
    /// Its name, repeated in the answer.
    pub name: &'static str,
    /// Its `id` as it shall be repeated, in JSON.
    pub id: Option<String>,
}

/// Why a line is no command.
#[derive(Debug)]
pub struct BadLine {
    /// A word for programs: `bad_json`, `bad_command` or `bad_value`.
    pub code: &'static str,
    /// A sentence for people, which quotes what is wrong.
    pub message: String,
    /// The command's name, if it is one.
    pub name: Option<&'static str>,
    /// The line's `id`, if it could be read.
    pub id: Option<String>,
}

impl BadLine {
    /// Of a command that is not known (yet).
    pub fn new(code: &'static str, message: String) -> Self {
        Self { code, message, name: None, id: None }
    }
}

/// Reads one line.
pub fn parse(line: &str) -> Result<Ask, BadLine> {
    let line = line.trim();
    if line.starts_with('{') { parse_object(line) } else { parse_words(line) }
}

/// One line for an event.
pub fn event(event: &Event) -> String {
    match event {
        Event::Started(me) => who_am_i(Object::event("started"), me).text("version", VERSION).line(),
        Event::Listening(addr) => Object::event("listening").show("addr", addr).line(),
        Event::ListeningStopped(addr) => Object::event("listening_stopped").show("addr", addr).line(),
        Event::PeerConnected { peer, addr, inbound, is_relayed } => Object::event("peer_connected")
            .show("peerId", peer)
            .show("addr", addr)
            .text("direction", direction(*inbound))
            .text("path", path(*is_relayed))
            .line(),
        Event::PathChanged { peer, addr, is_relayed } => Object::event("peer_path")
            .show("peerId", peer)
            .show("addr", addr)
            .text("path", path(*is_relayed))
            .line(),
        Event::PeerDisconnected { peer, cause } => {
            Object::event("peer_disconnected").show("peerId", peer).text("cause", cause).line()
        }
        Event::MemberJoined { room, peer, nick } => member("member_joined", room, peer, nick.as_ref()),
        Event::MemberRenamed { room, peer, nick } => member("member_renamed", room, peer, Some(nick)),
        Event::MemberLeft { room, peer, nick } => member("member_left", room, peer, nick.as_ref()),
        #[cfg(feature = "stun")]
        Event::Nat(meaning) => nat(Object::event("nat"), meaning).line(),
        #[cfg(feature = "autonat")]
        Event::Reachability { verdict, addrs } => Object::event("reachability")
            .text("verdict", verdict.word())
            .array("addrs", addrs.iter().map(|addr| string(&addr.to_string())))
            .line(),
        Event::Message(message) => self::message(message),
        Event::Trouble(text) => error(None, None, "trouble", text),
        Event::Stopped => Object::event("stopped").line(),
    }
}

/// One line that says how many events were lost.
pub fn lagged(missed: usize) -> String {
    Object::event("lagged").number("missed", missed).line()
}

/// One line that answers a command.
pub fn answer(name: &str, id: Option<&str>, result: &Result<Answer, Refusal>) -> String {
    let answer = match result {
        Ok(answer) => answer,
        Err(refusal) => return error(Some(name), id, code(refusal), &refusal.to_string()),
    };
    let ok = Object::event("ok").text("cmd", name).id(id);
    match answer {
        Answer::Done => ok,
        Answer::Sent { room, id } => ok.show("room", room).text("messageId", &hex(id)),
        Answer::Peers(peers) => ok.array("peers", peers.iter().map(peer_info)),
        Answer::Rooms(rooms) => ok.array("rooms", rooms.iter().map(room_info)),
        Answer::WhoAmI(me) => who_am_i(ok, me),
        Answer::Stats(stats) => self::stats(ok, stats),
        Answer::Status(me, stats) => self::stats(who_am_i(ok, me), stats),
        Answer::Nat(info) => nat_info(ok, info),
        Answer::Reloaded(changes) => ok
            .array("changed", changes.live.iter().map(|option| string(option)))
            .array("restart", changes.restart.iter().map(|option| string(option))),
    }
    .line()
}

/// One line for something that went wrong.
pub fn error(name: Option<&str>, id: Option<&str>, code: &str, message: &str) -> String {
    let error = Object::event("error");
    let error = match name {
        Some(name) => error.text("cmd", name),
        None => error,
    };
    error.id(id).text("error", code).text("message", message).line()
}

/// An identity, for `warren id --json`.
pub fn identity(peer: &PeerId, kind: &str, public_key: &[u8]) -> String {
    Object::new().show("peerId", peer).text("keyType", kind).text("publicKey", &hex(public_key)).line()
}

/// One line with one command: the other end of [`parse`].
#[cfg(feature = "control")]
pub fn command(command: &Command, id: u32) -> String {
    let cmd = |name| Object::new().text("cmd", name).number("id", id);
    match command {
        Command::Send { room, text, action } => cmd("send")
            .maybe("room", room.as_ref())
            .text("kind", if *action { "action" } else { "text" })
            .text("text", text),
        Command::Join(room) => cmd("join").show("room", room),
        Command::Leave(room) => cmd("leave").show("room", room),
        Command::Connect(addr) => cmd("connect").show("addr", addr),
        Command::Disconnect(peer) => cmd("disconnect").show("peerId", peer),
        Command::Nick(nick) => cmd("nick").show("nick", nick),
        Command::Peers => cmd("peers"),
        Command::Rooms => cmd("rooms"),
        Command::WhoAmI => cmd("whoami"),
        Command::Stats => cmd("stats"),
        Command::Status => cmd("status"),
        Command::Nat => cmd("nat"),
        Command::Reload => cmd("reload"),
        Command::Quit => cmd("quit"),
    }
    .line()
}

/// What `warren nat` found.
#[cfg(feature = "stun")]
pub fn survey(found: &Survey) -> String {
    let object = Object::new()
        .array("interfaces", found.interfaces.iter().map(|(ip, prefix)| string(&format!("{ip}/{prefix}"))))
        .array("nats", found.nats.iter().map(|meaning| nat(Object::new(), meaning).line()));
    #[cfg(feature = "portmap")]
    let object = object.array("routers", found.routers.iter().map(router));
    object.line()
}

#[cfg(feature = "stun")]
fn nat(object: Object, meaning: &Meaning) -> Object {
    object
        .text("family", &meaning.family)
        .text("mapping", meaning.mapping)
        .text("filtering", meaning.filtering)
        .text("ports", meaning.ports)
        .array("external", meaning.external.iter().map(|addr| string(&addr.to_string())))
        .text("reach", meaning.reach)
}

#[cfg(all(feature = "stun", feature = "portmap"))]
fn router(report: &Report) -> String {
    let support = |support: &Support| match support {
        Support::Untried => "untried",
        Support::Supported => "works",
        Support::Silent => "silent",
        Support::Refused(_) => "refused",
    };
    Object::new()
        .text("family", if report.is_ipv6 { "IPv6" } else { "IPv4" })
        .maybe("gateway", report.gateway.as_ref())
        .text("pcp", support(&report.pcp))
        .text("natpmp", support(&report.natpmp))
        .text("upnp", support(&report.upnp))
        .maybe("externalIp", report.external.as_ref())
        .flag("doubleNat", report.double_nat)
        .flag("notNeeded", report.not_needed)
        .line()
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn parse_words(line: &str) -> Result<Ask, BadLine> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let (name, command) = match word {
        "send" => ("send", Command::Send { room: None, text: rest.into(), action: false }),
        "connect" => {
            let addr = value("addr", rest.trim()).map_err(|bad| BadLine { name: Some("connect"), ..bad })?;
            ("connect", Command::Connect(addr))
        }
        _ => {
            let message = format!("'{}' is no JSON object and no 'send TEXT' or 'connect ADDR'", quote(line));
            return Err(BadLine::new("bad_json", message));
        }
    };
    Ok(Ask { command, name, id: None })
}

fn parse_object(line: &str) -> Result<Ask, BadLine> {
    let bad_json = |message| BadLine::new("bad_json", message);
    let fields =
        Fields(value::parse(line).map_err(|e| bad_json(format!("'{}' is no JSON: {e}", quote(line))))?);
    let id = match fields.0.field("id") {
        Some(id @ (Value::String(_) | Value::Number(_))) => Some(id.to_string()),
        _ => None,
    };
    match fields.command() {
        Ok((name, command)) => Ok(Ask { command, name, id }),
        Err(bad) => Err(BadLine { name: fields.name(), id, ..bad }),
    }
}

/// The fields of a command.
struct Fields(Value);

/// All there are, as README lists them.
const COMMANDS: [&str; 14] = [
    "send",
    "join",
    "leave",
    "connect",
    "disconnect",
    "nick",
    "peers",
    "rooms",
    "whoami",
    "stats",
    "status",
    "nat",
    "reload",
    "quit",
];

impl Fields {
    /// The name of the command, if there is one of that name.
    fn name(&self) -> Option<&'static str> {
        let word = self.optional("cmd").ok()??;
        COMMANDS.into_iter().find(|name| *name == word)
    }

    fn command(&self) -> Result<(&'static str, Command), BadLine> {
        Ok(match self.text("cmd")? {
            "send" => {
                let action = match self.optional("kind")? {
                    None | Some("text") => false,
                    Some("action") => true,
                    Some(kind) => return Err(bad_value("kind", kind, "say text or action")),
                };
                let room = self.optional("room")?.map(|room| value("room", room)).transpose()?;
                ("send", Command::Send { room, text: self.text("text")?.into(), action })
            }
            "join" => ("join", Command::Join(value("room", self.text("room")?)?)),
            "leave" => ("leave", Command::Leave(value("room", self.text("room")?)?)),
            "connect" => ("connect", Command::Connect(value("addr", self.text("addr")?)?)),
            "disconnect" => ("disconnect", Command::Disconnect(value("peerId", self.text("peerId")?)?)),
            "nick" => ("nick", Command::Nick(value("nick", self.text("nick")?)?)),
            "peers" => ("peers", Command::Peers),
            "rooms" => ("rooms", Command::Rooms),
            "whoami" => ("whoami", Command::WhoAmI),
            "stats" => ("stats", Command::Stats),
            "status" => ("status", Command::Status),
            "nat" => ("nat", Command::Nat),
            "reload" => ("reload", Command::Reload),
            "quit" => ("quit", Command::Quit),
            other => {
                let message =
                    format!("the command '{}' is not known; there are {}", quote(other), COMMANDS.join(", "));
                return Err(BadLine::new("bad_command", message));
            }
        })
    }

    fn text(&self, name: &str) -> Result<&str, BadLine> {
        self.optional(name)?.ok_or_else(|| {
            BadLine::new("bad_command", format!("the field '{name}' is missing; give it as a string"))
        })
    }

    fn optional(&self, name: &str) -> Result<Option<&str>, BadLine> {
        match self.0.field(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.text() {
                Some(text) => Ok(Some(text)),
                None => Err(bad_value(name, &value.to_string(), "it must be a string")),
            },
        }
    }
}

/// What a string in a command can stand for.
trait FromWord: Sized {
    fn parse(word: &str) -> Result<Self, String>;
}

macro_rules! value_by_from_str {
    ($($type:ty),*) => {
        $(impl FromWord for $type {
            fn parse(word: &str) -> Result<Self, String> {
                word.parse().map_err(|e| format!("{e}"))
            }
        })*
    };
}
value_by_from_str!(Room, Nick, Multiaddr, PeerId);

fn value<T: FromWord>(name: &str, word: &str) -> Result<T, BadLine> {
    T::parse(word).map_err(|why| bad_value(name, word, &why))
}

fn bad_value(name: &str, word: &str, why: &str) -> BadLine {
    BadLine::new("bad_value", format!("'{}' is no good as '{name}': {why}", quote(word)))
}

/// Enough of a word to recognise it.
fn quote(word: &str) -> String {
    const MOST: usize = 80;
    let mut short: String = word.chars().take(MOST).collect();
    if short.len() < word.len() {
        short.push('…');
    }
    short
}

fn message(message: &Message) -> String {
    let line = Object::event("message").show("room", &message.room);
    let line = line.maybe("peerId", message.author.as_ref()).maybe("nick", message.nick.as_ref());
    line.text("kind", if message.action { "action" } else { "text" })
        .text("text", &message.text)
        .number("timeMs", message.time_ms)
        .text("messageId", &hex(&message.id))
        .line()
}

fn member(name: &str, room: &Room, peer: &PeerId, nick: Option<&Nick>) -> String {
    Object::event(name).show("room", room).show("peerId", peer).maybe("nick", nick).line()
}

fn who_am_i(object: Object, me: &WhoAmI) -> Object {
    object
        .show("peerId", &me.peer)
        .show("nick", &me.nick)
        .array("rooms", me.rooms.iter().map(|room| string(room.as_str())))
        .array("listening", me.listening.iter().map(|addr| string(&addr.to_string())))
        .array("external", me.external.iter().map(|addr| string(&addr.to_string())))
}

fn peer_info(info: &PeerInfo) -> String {
    Object::new()
        .show("peerId", &info.peer)
        .maybe("nick", info.nick.as_ref())
        .array("addrs", info.addrs.iter().map(|addr| string(&addr.to_string())))
        .text("direction", direction(info.inbound))
        .text("path", path(info.is_relayed))
        .maybe_number("rttMs", info.rtt.map(|rtt| (rtt.as_secs_f64() * 1e5).round() / 100.0))
        .maybe("agent", info.agent.as_ref())
        .line()
}

fn room_info(info: &RoomInfo) -> String {
    let member = |(peer, nick): &(PeerId, Option<Nick>)| {
        Object::new().show("peerId", peer).maybe("nick", nick.as_ref()).line()
    };
    Object::new()
        .show("room", &info.room)
        .array("members", info.members.iter().map(member))
        .number("mesh", info.mesh)
        .line()
}

fn nat_info(object: Object, info: &NatInfo) -> Object {
    #[cfg(feature = "stun")]
    let object = object.array("nats", info.nats.iter().map(|meaning| nat(Object::new(), meaning).line()));
    #[cfg(feature = "autonat")]
    let object = object.text("verdict", info.verdict.word());
    object.array("relays", info.relays.iter().map(|relay| string(&relay.to_base58())))
}

fn stats(object: Object, stats: &Stats) -> Object {
    object
        .number("sent", stats.sent)
        .number("delivered", stats.delivered)
        .number("duplicate", stats.duplicate)
        .number("stale", stats.stale)
        .number("forged", stats.forged)
        .number("malformed", stats.malformed)
        .number("oversized", stats.oversized)
        .number("unknown", stats.unknown)
        .number("dropped", stats.dropped)
        .number("dials", stats.dials)
        .number("dialFailures", stats.dial_failures)
        .number("inboundFailures", stats.inbound_failures)
        .number("connections", stats.connections)
        .number("knownPeers", stats.known)
        .number("dhtRoutes", stats.routes)
        .number("reservations", stats.reservations)
        .number("circuits", stats.circuits)
        .number("uptimeMs", stats.uptime.as_millis())
}

fn path(is_relayed: bool) -> &'static str {
    if is_relayed { "relayed" } else { "direct" }
}

fn direction(inbound: bool) -> &'static str {
    if inbound { "inbound" } else { "outbound" }
}

/// A word for programs.
fn code(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NoPeers(_) => "no_peers",
        Refusal::NotInRoom(_) | Refusal::NoRoom => "not_in_room",
        Refusal::TooManyRooms => "too_many_rooms",
        Refusal::TextTooLong(_) => "too_long",
        Refusal::EmptyText => "empty",
        Refusal::NoActions => "no_actions",
        Refusal::Dial { .. } => "dial",
        Refusal::NotConnected(_) => "not_connected",
        Refusal::Publish(_) => "publish",
        Refusal::Reload(_) => "reload",
        Refusal::Ended => "ended",
    }
}

/// A JSON object under construction, its fields in the order they are given.
struct Object(String);

impl Object {
    fn new() -> Self {
        Self("{".into())
    }

    fn event(name: &str) -> Self {
        Self::new().text("event", name)
    }

    fn text(self, name: &str, value: &str) -> Self {
        self.raw(name, &string(value))
    }

    fn show(self, name: &str, value: &impl ToString) -> Self {
        self.text(name, &value.to_string())
    }

    fn maybe(self, name: &str, value: Option<&impl ToString>) -> Self {
        match value {
            Some(value) => self.show(name, value),
            None => self,
        }
    }

    fn number(self, name: &str, value: impl ToString) -> Self {
        self.raw(name, &value.to_string())
    }

    #[cfg(all(feature = "stun", feature = "portmap"))]
    fn flag(self, name: &str, value: bool) -> Self {
        self.raw(name, if value { "true" } else { "false" })
    }

    fn maybe_number(self, name: &str, value: Option<f64>) -> Self {
        match value {
            Some(value) => self.number(name, value),
            None => self,
        }
    }

    fn array(self, name: &str, values: impl Iterator<Item = String>) -> Self {
        let values: Vec<String> = values.collect();
        self.raw(name, &format!("[{}]", values.join(",")))
    }

    /// A command's `id`, which is JSON already.
    fn id(self, id: Option<&str>) -> Self {
        match id {
            Some(id) => self.raw("id", id),
            None => self,
        }
    }

    /// Field names are ours and need no escaping.
    fn raw(mut self, name: &str, value: &str) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        let _ = write!(self.0, "\"{name}\":{value}");
        self
    }

    fn line(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// A JSON string.
fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    // Writing into memory cannot fail.
    let _ = value::string(text, &mut out);
    out
}

#[cfg(test)]
mod tests;
