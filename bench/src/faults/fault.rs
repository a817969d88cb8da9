//! The faults, by name.

use std::fmt;
use std::str::FromStr;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The relay that carries the relayed room is killed, and stays dead.
    RelayKilled,
    /// It is killed, and started again with another address.
    RelayMoved,
    /// That happens to both at once. Members know them by name, and the names move with them.
    BothRelaysMoved,
    /// The NATs of `a` lose all mappings, and give out other ports from then on.
    NatRebooted,
    /// The provider of `a` gives it another public address.
    AddressChanged,
    /// The interface of the host of `a` goes down for [`AWAY`](super::world::AWAY), and comes up.
    InterfaceFlapped,
    /// The cable between the gateway of `a` and the Internet is pulled for so long.
    CablePulled,
    /// A running program's clock jumps by so many years.
    ClockSet(Whose, i64),
    /// A program is killed, and starts again with a clock that is wrong by so many years.
    StartedWrong(Whose, i64),
}

/// Whose clock it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// That of `a`.
    Member,
    /// Those of all members.
    Members,
    /// That of both relays if it jumps, and else of the one that carries the relayed room.
    Relay,
}

use Fault::*;

/// What a fault touches: what is said between others must all be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touched {
    Nothing,
    /// The connections of the relayed room.
    Relayed,
    /// Those of the member `a` of each room.
    First,
    Everything,
}

pub(super) const FAULTS: [Fault; 17] = [
    RelayKilled,
    RelayMoved,
    BothRelaysMoved,
    NatRebooted,
    AddressChanged,
    InterfaceFlapped,
    CablePulled,
    ClockSet(Whose::Member, -10),
    ClockSet(Whose::Member, 10),
    ClockSet(Whose::Relay, -10),
    ClockSet(Whose::Relay, 10),
    StartedWrong(Whose::Member, -10),
    StartedWrong(Whose::Member, 10),
    StartedWrong(Whose::Members, -10),
    StartedWrong(Whose::Members, 10),
    StartedWrong(Whose::Relay, -10),
    StartedWrong(Whose::Relay, 10),
];

/// One of each sort.
pub(super) const QUICK: [Fault; 4] = [RelayKilled, NatRebooted, CablePulled, ClockSet(Whose::Member, 10)];

impl Fault {
    pub(super) fn turns_clocks(&self) -> bool {
        matches!(self, ClockSet(..) | StartedWrong(..))
    }

    pub(super) fn touches(&self) -> Touched {
        match self {
            RelayKilled | RelayMoved | BothRelaysMoved | StartedWrong(Whose::Relay, _) => Touched::Relayed,
            NatRebooted | AddressChanged | InterfaceFlapped | CablePulled => Touched::First,
            StartedWrong(Whose::Member, _) => Touched::First,
            StartedWrong(Whose::Members, _) => Touched::Everything,
            ClockSet(..) => Touched::Nothing,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, whose, years) = match self {
            RelayKilled => return f.pad("relay-killed"),
            RelayMoved => return f.pad("relay-moved"),
            BothRelaysMoved => return f.pad("both-relays-moved"),
            NatRebooted => return f.pad("nat-rebooted"),
            AddressChanged => return f.pad("address-changed"),
            InterfaceFlapped => return f.pad("interface-flapped"),
            CablePulled => return f.pad("cable-pulled"),
            ClockSet(whose, years) => ("clock", whose, years),
            StartedWrong(whose, years) => ("started", whose, years),
        };
        let whose = match whose {
            Whose::Member => "",
            Whose::Members => "all-",
            Whose::Relay => "relay-",
        };
        f.pad(&format!("{whose}{kind}-{}", if *years < 0 { "back" } else { "forth" }))
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = FAULTS.into_iter().find(|fault| fault.to_string() == word);
        found.ok_or_else(|| {
            let all = FAULTS.map(|fault| fault.to_string()).join(", ");
            format!("`{word}` is no fault: use one of {all}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        assert!(FAULTS.iter().all(|fault| fault.to_string().parse() == Ok(*fault)));
        assert!(QUICK.iter().all(|fault| FAULTS.contains(fault)));
        assert!("relay".parse::<Fault>().is_err());
    }
}
