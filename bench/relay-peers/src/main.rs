//! For measuring relays: upstream libp2p's relay server on tokio, and many peers in one process that use any relay, as
//! honest ones do or as hostile ones do.
//!
//! Each says JSON lines on standard output. The peers do what the lines on standard input tell them, one after the
//! other, and end with the end of input.

mod crowd;
mod from;
mod hostile;
mod peer;
mod server;
mod talk;

use anyhow::Result;
use argh::FromArgs;
use serde_json::Value;

/// Upstream libp2p's relay, and peers that use a relay.
#[derive(FromArgs)]
struct Args {
    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Relay(server::Args),
    Crowd(crowd::Args),
    Hostile(hostile::Args),
}

#[tokio::main]
async fn main() -> Result<()> {
    let args: Args = argh::from_env();
    match args.command {
        Command::Relay(args) => server::run(args).await,
        Command::Crowd(args) => crowd::run(args).await,
        Command::Hostile(args) => hostile::run(args).await,
    }
}

/// Says one line. A reader that is gone wants no more.
fn say(line: Value) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}
