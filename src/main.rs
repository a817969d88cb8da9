//! Arguments, configuration, run, exit code; nothing else.

use std::process::ExitCode;

use warren::{
    cli::{self, Exit, Subcommand},
    program,
};

fn main() -> ExitCode {
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
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
        None => return usage("a subcommand is missing: run, relay or id; see 'warren --help'"),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(program::Failure::Usage(error)) => usage(&error.to_string()),
        Err(failure) => {
            eprintln!("warren: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// The exit code of a wrong command line, as everywhere in Unix.
fn usage(message: &str) -> ExitCode {
    eprintln!("warren: {message}");
    ExitCode::from(2)
}
