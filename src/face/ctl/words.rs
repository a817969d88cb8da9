//! What a node answers, for people. Texts of others are made harmless for a terminal.

use std::{fmt::Write as _, time::Duration};

use crate::{
    face::{json::Reading, repl::printable},
    node::api::Command,
};

/// What to print for a command that succeeded, without the last line's end.
pub(super) fn answer(command: &Command, answer: &Reading) -> String {
    match command {
        Command::Status => status(answer),
        Command::Peers => peers(answer),
        Command::Rooms => rooms(answer),
        Command::Nat => nat(answer),
        Command::Reload => reload(answer),
        Command::Join(room) => format!("in {room} now"),
        Command::Leave(room) => format!("left {room}"),
        Command::Nick(nick) => format!("called {nick} now"),
        Command::Connect(addr) => format!("dialling {addr}"),
        Command::Disconnect(peer) => format!("disconnected from {peer}"),
        Command::Quit => "the node ends".into(),
        Command::Send { .. } | Command::WhoAmI | Command::Stats => String::new(),
    }
}

/// A message with its room and its author.
pub(super) fn message(message: &Reading) -> String {
    let who = match message.text("peerId") {
        "" => "somebody".into(),
        peer => format!("{} ({})", name(message), short(peer)),
    };
    let (room, text) = (message.text("room"), printable(message.text("text")));
    match message.text("kind") {
        "action" => format!("[{room}] * {who} {text}"),
        _ => format!("[{room}] {who}: {text}"),
    }
}

fn status(status: &Reading) -> String {
    let count = |name| status.count(name).unwrap_or_default();
    let up = Duration::from_millis(count("uptimeMs")).as_secs();
    let peer = status.text("peerId");
    let mut text = format!("{} ({peer})\n", name(status));
    let mut row = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<12}{value}");
    };
    row("up", format!("{} d {:02}:{:02}:{:02}", up / 86_400, up / 3600 % 24, up / 60 % 60, up % 60));
    for (name, field) in [("listening", "listening"), ("external", "external")] {
        status.texts(field).iter().for_each(|addr| row(name, format!("{addr}/p2p/{peer}")));
    }
    row("rooms", or_none(status.texts("rooms").join(", ")));
    row("connected", format!("{}; in the address book: {}", count("connections"), count("knownPeers")));
    row("messages", format!("{} sent, {} heard", count("sent"), count("delivered")));
    let bad = ["duplicate", "stale", "forged", "malformed", "oversized", "unknown", "dropped"];
    let bad: Vec<String> = bad
        .iter()
        .map(|name| (name, count(name)))
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    row("not shown", or_none(bad.join(", ")));
    row("dials", format!("{} came about, {} failed", count("dials"), count("dialFailures")));
    row("as a relay", format!("{} reservations, {} circuits", count("reservations"), count("circuits")));
    text.truncate(text.trim_end().len());
    text
}

fn peers(answer: &Reading) -> String {
    let peers = answer.objects("peers");
    if peers.is_empty() {
        return "nobody is connected".into();
    }
    let peer = |peer: &Reading| {
        let rtt = peer.number("rttMs").map_or_else(|| "-".into(), |ms| format!("{ms} ms"));
        let (path, addrs) = (peer.text("path"), peer.texts("addrs").join(" "));
        let agent = printable(peer.text("agent"));
        format!("{} {}  {rtt}  {path}  {addrs}  {agent}", peer.text("peerId"), name(peer))
    };
    lines(peers.iter().map(peer))
}

fn rooms(answer: &Reading) -> String {
    let rooms = answer.objects("rooms");
    if rooms.is_empty() {
        return "in no room".into();
    }
    let room = |room: &Reading| {
        let member = |member: &Reading| format!("{} ({})", name(member), short(member.text("peerId")));
        let members: Vec<String> = room.objects("members").iter().map(member).collect();
        let members = if members.is_empty() { "nobody else yet".into() } else { members.join(", ") };
        format!("{}: {members}", room.text("room"))
    };
    lines(rooms.iter().map(room))
}

fn nat(answer: &Reading) -> String {
    let family = |nat: &Reading| {
        let external = or_none(nat.texts("external").join(" "));
        format!(
            "{:<11} mapping {}, filtering {}, ports {}\n            seen as {external}\n            {}",
            nat.text("family"),
            nat.text("mapping"),
            nat.text("filtering"),
            nat.text("ports"),
            nat.text("reach"),
        )
    };
    let mut all: Vec<String> = answer.objects("nats").iter().map(family).collect();
    if all.is_empty() {
        all.push("nat         nothing is known yet".into());
    }
    all.push(format!(
        "dialled     {}",
        match answer.text("verdict") {
            "reachable" => "others can dial this node",
            "partly" => "others can dial this node by IPv6 only",
            "unreachable" => "others cannot dial this node",
            _ => "nobody has said whether others can dial this node",
        }
    ));
    all.push(format!("relays      {}", or_none(answer.texts("relays").join(" "))));
    all.join("\n")
}

fn reload(answer: &Reading) -> String {
    let changed = match answer.texts("changed") {
        changed if changed.is_empty() => "nothing has changed".into(),
        changed => format!("changed: {}", changed.join(", ")),
    };
    match answer.texts("restart") {
        restart if restart.is_empty() => changed,
        restart => format!("{changed}\nonly a restart changes: {}", restart.join(", ")),
    }
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.collect::<Vec<_>>().join("\n")
}

fn or_none(text: String) -> String {
    if text.is_empty() { "none".into() } else { text }
}

fn name(of: &Reading) -> &str {
    match of.text("nick") {
        "" => "?",
        nick => nick,
    }
}

/// The end of a peer ID: its beginning is the same for all of a kind.
fn short(peer: &str) -> String {
    let end: String = peer.chars().skip(peer.chars().count().saturating_sub(6)).collect();
    format!("…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Changes,
        face::json,
        node::api::{Answer, NatInfo, Stats, WhoAmI},
    };

    /// What a person reads of an answer, by way of the JSON that the node writes.
    fn read(command: Command, said: Answer) -> String {
        let line = json::answer("cmd", Some("1"), &Ok(said));
        answer(&command, &Reading::of(&line).expect("an object"))
    }

    #[test]
    fn answers_are_told_as_the_node_writes_them() {
        let me = WhoAmI {
            peer: libp2p::PeerId::random(),
            nick: "ada".parse().expect("valid"),
            listening: vec!["/ip4/127.0.0.1/tcp/4001".parse().expect("valid")],
            external: vec![],
            rooms: vec!["den".parse().expect("valid")],
        };
        let stats = Stats { sent: 7, forged: 2, uptime: Duration::from_secs(90_061), ..Stats::default() };
        let text = read(Command::Status, Answer::Status(me.clone(), Box::new(stats)));
        let parts = [
            format!("ada ({})", me.peer),
            format!("listening   /ip4/127.0.0.1/tcp/4001/p2p/{}", me.peer),
            "up          1 d 01:01:01".into(),
            "rooms       den".into(),
            "7 sent, 0 heard".into(),
            "not shown   2 forged".into(),
        ];
        parts.iter().for_each(|part| assert!(text.contains(part.as_str()), "{part} in {text}"));
        assert_eq!(read(Command::Peers, Answer::Peers(vec![])), "nobody is connected");
        assert_eq!(read(Command::Rooms, Answer::Rooms(vec![])), "in no room");
        let mut info = NatInfo::default();
        info.relays.push(me.peer);
        let nat = read(Command::Nat, Answer::Nat(info));
        assert!(nat.contains("nobody has said") && nat.contains(&me.peer.to_string()), "{nat}");
        let changes = Changes { live: vec!["room", "nick"], restart: vec!["dht"] };
        assert_eq!(
            read(Command::Reload, Answer::Reloaded(changes)),
            "changed: room, nick\nonly a restart changes: dht"
        );
    }

    #[test]
    fn words_of_others_cannot_take_over_the_terminal() {
        let line = r#"{"event":"message","room":"den","peerId":"16Uiu2HAmABCDEF","nick":"eve","kind":"text","text":"a\u001b[2J\nb"}"#;
        let shown = message(&Reading::of(line).expect("an object"));
        assert_eq!(shown, "[den] eve (…ABCDEF): a\u{fffd}[2J\n    b");
    }
}
