//! The words of `warren ctl`.

use argh::{ArgsInfo, FromArgs};

/// Ask a running node, or steer it, through its control socket.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(subcommand, name = "ctl", help_triggers("-h", "--help", "help"))]
pub struct Ctl {
    /// the node's socket (default: $WARREN_CONTROL, or the first there is of control in $RUNTIME_DIRECTORY,
    /// $XDG_RUNTIME_DIR/warren, /run/warren and /var/run/warren)
    #[argh(option, arg_name = "path")]
    pub control: Option<String>,

    /// print the node's JSON lines
    #[argh(switch)]
    pub json: bool,

    #[argh(subcommand)]
    pub order: Order,
}

/// What to ask of the node.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(subcommand)]
pub enum Order {
    Status(Status),
    Peers(Peers),
    Rooms(Rooms),
    Send(Send),
    Listen(Listen),
    Join(Join),
    Leave(Leave),
    Connect(Connect),
    Disconnect(Disconnect),
    Nick(Nick),
    Nat(NatNow),
    Reload(Reload),
    Quit(Quit),
}

/// Who the node is, where it listens, and what it has counted.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(subcommand, name = "status", help_triggers("-h", "--help"))]
pub struct Status {}

/// Who is connected.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(subcommand, name = "peers", help_triggers("-h", "--help"))]
pub struct Peers {}

/// The rooms and who is there.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(subcommand, name = "rooms", help_triggers("-h", "--help"))]
pub struct Rooms {}

/// Say something: the words given, or else each line of standard input that is not empty, one after the other.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(subcommand, name = "send", help_triggers("-h", "--help"))]
pub struct Send {
    /// room to say it in (default: the node's first one)
    #[argh(option, arg_name = "name")]
    pub room: Option<String>,

    /// what to say
    #[argh(positional)]
    pub text: Vec<String>,
}

/// Print what is said, a line a message, until interrupted or the node ends. At a terminal with names, otherwise the
/// texts alone.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(subcommand, name = "listen", help_triggers("-h", "--help"))]
pub struct Listen {
    /// room to listen in; may be repeated (default: all that the node is in)
    #[argh(option, arg_name = "name")]
    pub room: Vec<String>,

    /// print rooms and names, too, wherever it goes
    #[argh(switch)]
    pub names: bool,
}

/// Join a room.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(subcommand, name = "join", help_triggers("-h", "--help"))]
pub struct Join {
    /// its name
    #[argh(positional)]
    pub room: String,
}

/// Leave a room.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(subcommand, name = "leave", help_triggers("-h", "--help"))]
pub struct Leave {
    /// its name
    #[argh(positional)]
    pub room: String,
}

/// Dial an address, once.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(subcommand, name = "connect", help_triggers("-h", "--help"))]
pub struct Connect {
    /// multiaddr of a peer
    #[argh(positional)]
    pub addr: String,
}

/// Close all connections to a peer.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(subcommand, name = "disconnect", help_triggers("-h", "--help"))]
pub struct Disconnect {
    /// its peer ID
    #[argh(positional)]
    pub peer: String,
}

/// Take another nickname.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(subcommand, name = "nick", help_triggers("-h", "--help"))]
pub struct Nick {
    /// the name that others shall see
    #[argh(positional)]
    pub nick: String,
}

/// What the node knows of the NAT that it is behind, and of who can dial it.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(subcommand, name = "nat", help_triggers("-h", "--help"))]
pub struct NatNow {}

/// Read the configuration file again, as SIGHUP does.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(subcommand, name = "reload", help_triggers("-h", "--help"))]
pub struct Reload {}

/// End the node.
#[derive(ArgsInfo, FromArgs, Debug)]
#[argh(subcommand, name = "quit", help_triggers("-h", "--help"))]
pub struct Quit {}
