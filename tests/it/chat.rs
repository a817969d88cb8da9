//! What is said arrives: once, whole, in order, and at those who are in the room.

use std::{
    collections::BTreeSet,
    io::Write,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use warren::limits;

use crate::net::{Node, line, object, pair};

#[test]
fn two_nodes_talk_both_ways() {
    let (mut ada, mut bob) = pair();
    let before = now_ms();
    let id = ada.say("hi, bob");
    let heard = bob.hear("hi, bob");
    assert_eq!(heard.text("room"), "lobby");
    assert_eq!(heard.text("peerId"), ada.peer);
    assert_eq!(heard.text("nick"), "ada");
    assert_eq!(heard.text("kind"), "text");
    assert_eq!(heard.text("messageId"), id);
    assert_eq!(id.len(), 64, "SHA-256 in hexadecimal");
    assert!(heard.number("timeMs") >= before && heard.number("timeMs") <= now_ms(), "{heard:?}");

    bob.say("hi, ada");
    assert_eq!(ada.hear("hi, ada").text("peerId"), bob.peer);
    assert_eq!((ada.stat("sent"), ada.stat("delivered")), (1.0, 1.0));
    assert!(ada.other_messages().is_empty(), "nobody hears himself");
}

#[test]
fn an_action_is_told_from_a_text() {
    let (mut ada, mut bob) = pair();
    ada.done("send", &[("text", "waves"), ("kind", "action"), ("room", "lobby")]);
    assert_eq!(bob.hear("waves").text("kind"), "action");
}

#[test]
fn any_text_arrives_as_it_was_written() {
    let (mut ada, mut bob) = pair();
    let longest = "ü".repeat(limits::TEXT_BYTES / 2);
    let escaped = "\u{1}".repeat(limits::TEXT_BYTES);
    for text in ["two\nlines", " \" \\ \u{1b}[2J \u{0} \u{202e}", "🦫 größer", &longest, &escaped] {
        ada.say(text);
        bob.hear(text);
    }
}

#[test]
fn the_same_text_twice_is_two_messages() {
    let (mut ada, mut bob) = pair();
    let (first, second) = (ada.say("again"), ada.say("again"));
    assert_ne!(first, second);
    let heard = [bob.hear("again"), bob.hear("again")].map(|m| m.text("messageId").to_owned());
    assert_eq!(heard, [first, second]);
}

/// ```text
///   left ── middle ── right
/// ```
#[test]
fn a_line_of_three_delivers_exactly_once() {
    const EACH: usize = 20;
    let (mut left, mut middle, mut right) = line();
    assert_eq!(left.peers(), [middle.peer.clone()]);
    assert_eq!(right.peers(), [middle.peer.clone()]);

    let mut said: Vec<BTreeSet<String>> = Vec::new();
    for node in [&mut left, &mut middle, &mut right] {
        said.push((0..EACH).map(|n| node.say(&format!("message {n}"))).collect());
    }
    // Behind the last word on every way there is nothing left to come.
    let last = [&mut left, &mut middle, &mut right].map(|node| node.say("the last word"));
    for (me, node) in [&mut left, &mut middle, &mut right].into_iter().enumerate() {
        for from in (0..3).filter(|from| *from != me) {
            node.wait("the last word", |event| event.text("messageId") == last[from]);
        }
        let heard: Vec<String> =
            node.other_messages().iter().map(|message| message.text("messageId").to_owned()).collect();
        let once: BTreeSet<String> = heard.iter().cloned().collect();
        assert_eq!(heard.len(), 2 * EACH, "nothing is missing or repeated");
        let others = (0..3).filter(|from| *from != me).flat_map(|from| said[from].clone()).collect();
        assert_eq!(once, others);
        assert_eq!(node.stat("delivered"), (2 * EACH + 2) as f64);
    }
    assert_eq!(left.peers(), [middle.peer.clone()], "still a line");
    assert_eq!(right.peers(), [middle.peer.clone()], "still a line");
}

#[test]
fn ten_thousand_messages_arrive_in_order_with_a_publisher_that_does_not_wait() {
    const COUNT: usize = 10_000;
    let (mut ada, mut bob) = pair();
    let text = |n: usize| format!("{n:0128}");

    let mut input = ada.program.take_input();
    let publisher = thread::spawn(move || {
        for n in 0..COUNT {
            let command = object(&[("cmd", "send"), ("text", &text(n)), ("id", &n.to_string())]);
            input.write_all(command.as_bytes()).expect("the node reads on");
        }
        input
    });
    for n in 0..COUNT {
        let heard = bob.wait("a message", |event| event.text("event") == "message");
        assert_eq!(heard.text("text"), text(n));
    }
    let _input = publisher.join().expect("no panics");
    for n in 0..COUNT {
        let reply = ada.wait("a reply", |event| event.has("id"));
        assert_eq!((reply.text("event"), reply.text("id")), ("ok", n.to_string().as_str()), "{reply:?}");
    }
    bob.say("enough");
    ada.hear("enough");
    for counter in ["duplicate", "stale", "forged", "malformed", "oversized", "dropped"] {
        assert_eq!(bob.stat(counter), 0.0, "{counter}");
    }
    assert_eq!(bob.stat("delivered"), COUNT as f64);
}

#[test]
fn a_room_is_heard_by_those_who_are_in_it() {
    let (mut ada, mut bob) = pair();
    ada.done("join", &[("room", "den")]);
    let refused = ada.ask("send", &[("room", "den"), ("text", "anyone?")]);
    assert_eq!((refused.text("event"), refused.text("error")), ("error", "no_peers"));

    bob.done("join", &[("room", "den")]);
    let is_in_the_den = |peer: String| {
        move |event: &crate::net::Json| {
            event.text("event") == "member_joined"
                && event.text("room") == "den"
                && event.text("peerId") == peer
        }
    };
    ada.wait("bob in the den", is_in_the_den(bob.peer.clone()));
    bob.wait("ada in the den", is_in_the_den(ada.peer.clone()));
    ada.done("send", &[("room", "den"), ("text", "psst")]);
    assert_eq!(bob.hear("psst").text("room"), "den");
    let rooms = |node: &mut Node| -> Vec<String> {
        node.done("rooms", &[]).list("rooms").iter().map(|room| room.text("room").to_owned()).collect()
    };
    assert_eq!(rooms(&mut ada), ["lobby", "den"]);

    bob.done("leave", &[("room", "den")]);
    let left = ada.event_of("member_left", &bob.peer);
    assert_eq!(left.text("room"), "den");
    assert_eq!(ada.ask("send", &[("room", "den"), ("text", "hello?")]).text("error"), "no_peers");
    assert_eq!(rooms(&mut bob), ["lobby"]);
    ada.say("in the lobby");
    bob.hear("in the lobby");
}

#[test]
fn a_name_is_known_and_a_new_one_too() {
    let (mut ada, mut bob) = pair();
    let named = |node: &mut Node, peer: &str, nick: &str| {
        let what = format!("{nick}'s name");
        node.wait(&what, |event| {
            ["member_joined", "member_renamed"].contains(&event.text("event"))
                && event.text("peerId") == peer
                && event.text("nick") == nick
        })
    };
    // The first event may have been the nameless subscription.
    if bob.done("peers", &[]).list("peers")[0].text("nick").is_empty() {
        named(&mut bob, &ada.peer, "ada");
    }
    ada.done("nick", &[("nick", "Ada L.")]);
    assert_eq!(ada.done("whoami", &[]).text("nick"), "Ada L.");
    ada.say("I have a new name");
    assert_eq!(bob.hear("I have a new name").text("nick"), "Ada L.");
    named(&mut bob, &ada.peer, "Ada L.");
    let rooms = bob.done("rooms", &[]).list("rooms");
    let members = rooms[0].list("members");
    assert_eq!((members[0].text("peerId"), members[0].text("nick")), (ada.peer.as_str(), "Ada L."));
}

/// A new name reaches the others though its owner says nothing.
#[test]
fn a_new_name_is_announced() {
    let (mut ada, mut bob) = pair();
    ada.done("nick", &[("nick", "countess")]);
    bob.wait("the new name", |event| {
        event.text("event") == "member_renamed"
            && event.text("peerId") == ada.peer
            && event.text("nick") == "countess"
    });
}

#[test]
fn members_further_away_are_known_and_their_leaving_too() {
    let (mut left, _middle, right) = line();
    left.meets(&right);
    let peer = right.peer.clone();
    right.program.signal(rustix::process::Signal::TERM);
    left.event_of("member_left", &peer);
}

#[test]
fn publish_waits_for_somebody_and_speaks_once() {
    let mut ada = Node::start("ada", &["--publish", "first words", "--publish", "second words"]);
    let mut bob = Node::beside(&ada, "bob", &[]);
    bob.hear("first words");
    bob.hear("second words");
    let mut late = Node::beside(&ada, "late", &[]);
    late.meets(&ada);
    ada.meets(&late);
    ada.say("the end");
    late.hear("the end");
    bob.hear("the end");
    assert!(late.other_messages().is_empty() && bob.other_messages().is_empty());
}

#[test]
fn plain_nodes_talk_in_bare_text() {
    let mut ada = Node::start("ada", &["--plain", "--room", "plain"]);
    let mut bob = Node::beside(&ada, "bob", &["--plain", "--room", "plain"]);
    ada.meets(&bob);
    bob.meets(&ada);
    let id = ada.say("hi");
    let heard = bob.hear("hi");
    assert_eq!((heard.text("peerId"), heard.text("room")), (ada.peer.as_str(), "plain"));
    assert_eq!(heard.text("messageId"), id);
    // SHA-256 of "hi".
    assert_eq!(id, "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4");
    assert!(!heard.has("nick"), "bare text has no room for a name");
    bob.say("hi yourself");
    ada.hear("hi yourself");
    let refused = ada.ask("send", &[("text", "waves"), ("kind", "action")]);
    assert_eq!(refused.text("error"), "no_actions");
}

#[test]
fn ten_thousand_plain_messages_arrive() {
    const COUNT: usize = 10_000;
    let mut ada = Node::start("ada", &["--plain"]);
    let mut bob = Node::beside(&ada, "bob", &["--plain"]);
    ada.meets(&bob);
    bob.meets(&ada);
    let mut input = ada.program.take_input();
    let publisher = thread::spawn(move || {
        for n in 0..COUNT {
            input.write_all(format!("send {n:0128}\n").as_bytes()).expect("the node reads on");
        }
        input
    });
    let heard: BTreeSet<String> = (0..COUNT)
        .map(|_| bob.wait("a message", |event| event.text("event") == "message").text("text").to_owned())
        .collect();
    assert_eq!(heard.len(), COUNT, "each once");
    let _input = publisher.join().expect("no panics");
}

#[test]
fn a_plain_node_and_one_with_envelopes_do_not_hear_each_other_and_go_on() {
    let (mut ada, mut bob) = pair();
    let mut plain = Node::beside(&ada, "plain", &["--plain"]);
    ada.meets(&plain);
    plain.meets(&ada);
    plain.say("bare");
    ada.say("sealed");
    bob.hear("sealed");
    bob.say("still here");
    ada.hear("still here");
    assert!(ada.other_messages().is_empty() && bob.other_messages().is_empty());
    assert!(plain.other_messages().is_empty());
}

/// ```text
///   left ── middle (nobody reads its output) ── right
/// ```
#[test]
fn a_slow_reader_is_told_what_it_missed_and_holds_nobody_up() {
    let (mut left, mut middle, mut right) = line();
    let text = |n: usize| format!("{n:0width$}", width = limits::TEXT_BYTES);
    // As many as are kept for a slow reader, and what fits into pipes, and then some.
    let count = limits::EVENT_BYTES / limits::TEXT_BYTES + 60;
    middle.program.pause(true);
    for n in 0..count {
        left.say(&text(n));
        right.hear(&text(n));
    }
    right.say("anybody there?");
    left.hear("anybody there?");

    middle.program.pause(false);
    let mut heard = 0;
    let missed = loop {
        let event = middle.next_event().expect("it lives");
        match event.text("event") {
            "message" => {
                assert_eq!(event.text("text"), text(heard), "in order up to the gap");
                heard += 1;
            }
            "lagged" => break event.number("missed"),
            _ => {}
        }
    };
    assert!(heard < count, "not all of them can have been kept");
    assert!(missed >= (count - heard) as f64, "{heard} of {count} were heard, yet only {missed} missed");
    left.say("welcome back");
    middle.hear("welcome back");
    assert_eq!(middle.stat("delivered"), (count + 2) as f64);
}

fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as f64
}
