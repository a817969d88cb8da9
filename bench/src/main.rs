//! Measures warren beside its peers. `bench/README.md` says what each command measures.

mod faults;
mod fixed_point;
mod footprint;
mod gossip;
mod interop;
mod lab;
mod lan;
mod link;
mod mesh;
mod metrics;
mod nat;
mod node;
mod power_cuts;
mod process;
mod program;
mod relay;
mod relay_load;
mod relay_siege;
mod rooms;
mod scratch;
mod sim;
mod story;
mod study;
mod table;
mod tally;
mod transport;

use std::process::ExitCode;

use argh::FromArgs;

/// Measures warren beside its peers.
#[derive(FromArgs)]
struct Args {
    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Faults(faults::Args),
    Gossip(gossip::Args),
    Footprint(footprint::Args),
    Interop(interop::Args),
    Link(link::Args),
    Metrics(metrics::Args),
    Nat(nat::Args),
    PowerCuts(power_cuts::Args),
    RelayLoad(relay_load::Args),
    RelaySiege(relay_siege::Args),
    Rooms(rooms::Args),
    Sim(sim::Args),
    Study(study::Args),
    Transport(transport::Args),
}

fn main() -> ExitCode {
    let args: Args = argh::from_env();
    let done = match args.command {
        Command::Faults(args) => faults::run(args),
        Command::Gossip(args) => gossip::run(args),
        Command::Footprint(args) => footprint::run(args),
        Command::Interop(args) => interop::run(args),
        Command::Link(args) => link::run(args),
        Command::Metrics(args) => metrics::run(args),
        Command::Nat(args) => nat::run(args),
        Command::PowerCuts(args) => power_cuts::run(args),
        Command::RelayLoad(args) => relay_load::run(args),
        Command::RelaySiege(args) => relay_siege::run(args),
        Command::Rooms(args) => rooms::run(args),
        Command::Sim(args) => sim::run(args),
        Command::Study(args) => study::run(args),
        Command::Transport(args) => transport::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
