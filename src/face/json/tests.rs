use proptest::prelude::*;

use super::*;
use crate::limits;

fn parsed(line: &str) -> (Command, Option<String>) {
    let ask = parse(line).unwrap_or_else(|e| panic!("{line}: {}", e.message));
    (ask.command, ask.id)
}

fn bad(line: &str) -> BadLine {
    parse(line).expect_err(line)
}

#[test]
fn commands_are_read_with_their_ids() {
    let (command, id) = parsed(r#"{"cmd":"send","room":"lobby","text":"hi","id":7}"#);
    let Command::Send { room: Some(room), text, action: false } = command else { panic!("{command:?}") };
    assert_eq!((room.as_str(), text.as_str(), id.as_deref()), ("lobby", "hi", Some("7")));
    let (command, id) = parsed(r#"{"id":"a\"b","cmd":"peers"}"#);
    assert!(matches!(command, Command::Peers));
    assert_eq!(id.as_deref(), Some(r#""a\"b""#));
}

#[test]
fn bare_words_are_commands_too() {
    let (command, _) = parsed("send hello  there");
    assert!(matches!(command, Command::Send { room: None, text, .. } if text == "hello  there"));
    assert!(matches!(parsed("connect /ip4/127.0.0.1/tcp/1").0, Command::Connect(_)));
}

#[test]
fn what_is_wrong_is_quoted() {
    for (line, code, part) in [
        ("hello", "bad_json", "hello"),
        ("{", "bad_json", "{"),
        ("[1]", "bad_json", "[1]"),
        (r#"{"cmd":"dance"}"#, "bad_command", "dance"),
        (r#"{"cmd":"send"}"#, "bad_command", "text"),
        (r#"{"cmd":"send","text":5}"#, "bad_value", "5"),
        (r#"{"cmd":"join","room":"a b"}"#, "bad_value", "a b"),
        (r#"{"cmd":"connect","addr":"nowhere"}"#, "bad_value", "nowhere"),
    ] {
        let bad = bad(line);
        assert_eq!(bad.code, code, "{line}");
        assert!(bad.message.contains(part), "{line}: {}", bad.message);
    }
    assert_eq!(bad(r#"{"cmd":"dance","id":3}"#).id.as_deref(), Some("3"));
}

#[test]
fn a_line_of_brackets_does_not_use_up_the_stack() {
    let line = format!("{{\"cmd\":{}", "[".repeat(limits::LINE_BYTES - 10));
    assert_eq!(bad(&line).code, "bad_json");
    let text = "[".repeat(1000);
    assert!(parse(&format!(r#"{{"cmd":"send","text":"{text}"}}"#)).is_ok(), "brackets in a string are text");
}

#[test]
fn events_are_one_line_whatever_is_in_them() {
    let event = Event::Message(Message {
        room: "lobby".parse().expect("valid"),
        author: None,
        nick: None,
        text: "a\n\"b\"\u{0}\u{2028}</script>".into(),
        action: false,
        time_ms: 1_790_000_000_123,
        id: [0xab; 32],
    });
    let line = super::event(&event);
    assert!(!line.contains('\n'));
    let event = value::parse(&line).expect("JSON");
    assert_eq!(event.field("text").and_then(Value::text), Some("a\n\"b\"\u{0}\u{2028}</script>"));
    assert_eq!(event.field("timeMs"), Some(&Value::Number("1790000000123".into())));
}

proptest! {
    #[test]
    fn any_line_is_a_command_or_an_error(line in ".{0,300}") {
        let _ = parse(&line);
    }

    #[test]
    fn any_object_is_a_command_or_an_error(body in r#"[{}\[\]",:a-z0-9\\ ]{0,200}"#) {
        let _ = parse(&format!("{{{body}"));
    }
}

#[cfg(feature = "control")]
#[test]
fn a_command_is_read_as_it_was_written() {
    let room: Room = "den".parse().expect("valid");
    let say = |room, action| Command::Send { room, text: "a \"b\"\n\u{1b}ü".into(), action };
    let commands = [
        say(None, false),
        say(Some(room.clone()), true),
        Command::Join(room.clone()),
        Command::Leave(room),
        Command::Connect("/ip4/127.0.0.1/tcp/1".parse().expect("valid")),
        Command::Disconnect(PeerId::random()),
        Command::Nick("Ada \"L.\"".parse().expect("valid")),
        Command::Peers,
        Command::Rooms,
        Command::WhoAmI,
        Command::Stats,
        Command::Status,
        Command::Nat,
        Command::Reload,
        Command::Quit,
    ];
    for (n, command) in commands.iter().enumerate() {
        let line = super::command(command, n as u32);
        let ask = parse(&line).expect("our own words");
        assert_eq!(format!("{:?}", ask.command), format!("{command:?}"), "{line}");
        assert_eq!(ask.id, Some(n.to_string()));
        assert!(!line.contains('\n'));
    }
}
