//! What a program writes to a node: lines that should be JSON commands.
#![no_main]

use std::{
    fs::File,
    io::{Seek, Write},
};

use futures::executor::block_on;
use rustix::fs::MemfdFlags;
use warren::{
    face::{
        json::{self, Reading},
        stdio::{Line, Lines},
    },
    limits,
};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut lines = lines(data);
    for expected in data.split_inclusive(|byte| *byte == b'\n') {
        let line = block_on(lines.next()).expect("memory can be read").expect("as many lines as there are");
        check(&line, expected);
        if let Line::Text(text) = line {
            obey(&text);
        }
    }
    assert_eq!(block_on(lines.next()).expect("memory can be read"), None);
});

/// A node's input with this in it.
fn lines(data: &[u8]) -> Lines {
    let mut file = File::from(rustix::fs::memfd_create("input", MemfdFlags::CLOEXEC).expect("memory"));
    file.write_all(data).and_then(|()| file.rewind()).expect("memory");
    Lines::new(file.into())
}

/// Nothing else is read than what was written.
fn check(line: &Line, written: &[u8]) {
    let written = written.strip_suffix(b"\n").unwrap_or(written);
    let is_long = written.len() > limits::LINE_BYTES;
    let written = written.strip_suffix(b"\r").unwrap_or(written);
    match line {
        Line::Text(text) => assert_eq!(text.as_bytes(), written),
        Line::TooLong => assert!(is_long, "{} bytes", written.len()),
        Line::NotText => assert!(std::str::from_utf8(written).is_err()),
    }
}

/// A command says the same when it is written again, and a refusal is JSON.
fn obey(text: &str) {
    match json::parse(text) {
        Ok(ask) => {
            let again = json::parse(&json::command(&ask.command, 1)).expect("it is a command");
            assert_eq!(format!("{:?}", again.command), format!("{:?}", ask.command));
        }
        Err(bad) => {
            let line = json::error(bad.name, bad.id.as_deref(), bad.code, &bad.message);
            let reading = Reading::of(&line).expect("one object");
            assert_eq!((reading.text("event"), reading.text("message")), ("error", bad.message.as_str()));
        }
    }
}
