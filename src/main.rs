//! Arguments, configuration, run, exit code; nothing else.

#[cfg(all(target_env = "musl", target_feature = "crt-static"))]
mod stubs;
mod trap;

use std::process::ExitCode;

use warren::{
    cli::{self, Exit, Subcommand},
    program,
    rooms::unprintable,
};

fn main() -> ExitCode {
    trap::tell_where();
    let words: Result<Vec<String>, _> = std::env::args_os().skip(1).map(|word| word.into_string()).collect();
    let words = match words {
        Ok(words) => words,
        Err(word) => return usage(&format!("'{}' is no UTF-8; write it in other letters", word.display())),
    };
    let warren = match cli::parse(&words) {
        Ok(warren) => warren,
        Err(Exit::Help(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(Exit::Usage(message)) => return usage(&message),
    };
    let result = match warren.command {
        _ if warren.version => {
            println!("warren {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Some(Subcommand::Run(words)) => program::run(words),
        Some(Subcommand::Relay(words)) => program::relay(words),
        Some(Subcommand::Id(words)) => program::id(words),
        Some(Subcommand::Nat(words)) => program::nat(words),
        Some(Subcommand::Ctl(words)) => program::ctl(words),
        None => return usage("a subcommand is missing: run, relay, id, nat or ctl; see 'warren --help'"),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure.to_string());
            ExitCode::from(failure.code())
        }
    }
}

/// The exit code of a wrong command line, as everywhere in Unix.
fn usage(message: &str) -> ExitCode {
    complain(message);
    ExitCode::from(2)
}

/// One line on standard error. It may quote a word with anything in it, so what would begin a line of its own
/// or play with the terminal is written as an escape.
fn complain(message: &str) {
    let mut line = String::with_capacity(message.len());
    for c in message.chars() {
        match unprintable(c) {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    eprintln!("warren: {line}");
}
