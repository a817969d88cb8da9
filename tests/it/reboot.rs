//! A router without a clock chip: it starts in 1970, or when its firmware was made.

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::net::{Dir, Json, LOOPBACK, Node};

/// Where Debian and others put libfaketime. `None`: it is not installed, and that is said.
fn library() -> Option<PathBuf> {
    let multiarch = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let dirs = multiarch.chain([PathBuf::from("/usr/lib"), PathBuf::from("/usr/local/lib")]);
    let found = dirs.map(|dir| dir.join("faketime/libfaketimeMT.so.1")).find(|library| library.is_file());
    if found.is_none() {
        println!("skipped: libfaketime is not installed (Debian: faketime)");
    }
    found
}

/// A node whose clock shows what the file `clock` in its directory says; that for durations is the machine's.
fn start(dir: &Arc<Dir>, library: &str, clock: &str, words: &[&str]) -> Node {
    let file = dir.file("clock-shown", format!("{clock}\n"), 0o600);
    let env = [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", &file),
        ("FAKETIME_NO_CACHE", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ];
    let words = [&["run", "--listen", LOOPBACK, "--no-discovery"], words].concat();
    Node::start_with(dir.clone(), "router", &words, &env)
}

/// What a node said `before` the reboot and `after` it, as somebody far away heard it.
fn lines(node: &mut Node, said: &[String]) -> Vec<Json> {
    said.iter().map(|text| node.hear(text)).collect()
}

#[test]
fn after_a_power_cut_it_is_heard_at_once_and_in_order_though_its_clock_is_in_1970() {
    let Some(library) = library() else { return };
    let library = library.to_str().expect("text");
    let quiet = ["--tcp-only"];
    let mut hub = Node::start("hub", &quiet);
    // It never speaks with the router itself, and has nothing to go by but what the hub hands on.
    let mut far = Node::beside(&hub, "far", &quiet);
    far.meets(&hub);
    let dir = Arc::new(Dir::new());
    let addr = hub.addr.clone();
    let words = ["--tcp-only", "--bootstrap", &addr];
    let mut router = start(&dir, library, "+0", &words);
    let peer = router.peer.clone();
    far.event_of("member_joined", &peer);
    hub.until_mesh(2);

    // More than the replay filter remembers one by one, so the rest is known by its time alone.
    let before: Vec<String> = (0..140).map(|n| format!("before {n}")).collect();
    for text in &before {
        router.say(text);
    }
    let heard = lines(&mut far, &before);
    // Dropping it kills it.
    drop(router);

    for (life, clock) in ["1970-01-01 00:00:20", "@2025-06-01 00:00:00", "-300s"].into_iter().enumerate() {
        let mut router = start(&dir, library, clock, &words);
        assert_eq!(router.peer, peer, "it is still the same");
        router.event_of("peer_connected", &hub.peer);
        router.meets(&hub);
        let after: Vec<String> = (0..20).map(|n| format!("after {life} {n}")).collect();
        for text in &after {
            router.say(text);
        }
        let mut last = heard.last().expect("many").number("timeMs");
        for line in lines(&mut far, &after) {
            assert!(line.number("timeMs") >= last, "{line:?} is from before {last}");
            last = line.number("timeMs");
        }
        assert_eq!(far.stat("stale"), 0.0, "nothing was taken for a replay");
    }
}

#[test]
fn on_its_first_boot_it_is_heard_beyond_its_neighbours_whatever_its_clock_says() {
    let Some(library) = library() else { return };
    let library = library.to_str().expect("text");
    let quiet = ["--tcp-only"];
    let hub = Node::start("hub", &quiet);
    let mut far = Node::beside(&hub, "far", &quiet);
    far.meets(&hub);
    let words = ["--tcp-only", "--bootstrap", &hub.addr];

    for clock in ["1970-01-01 00:00:20", "@2025-06-01 00:00:00"] {
        let mut router = start(&Arc::new(Dir::new()), library, clock, &words);
        // It knows the hub's name from the hub's first word, which says what time it is, too.
        router.event_of("member_renamed", &hub.peer);
        let text = format!("here since {clock}");
        router.say(&text);
        let shown = far.hear(&text).number("timeMs");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("later").as_millis() as f64;
        assert!((now - 600_000.0..=now).contains(&shown), "{shown} at {now}");
        // That it is there was perhaps too old when it said so first; it says so again.
        far.event_of("member_joined", &router.peer);
    }
}
