//! One request and its repetitions (RFC 8489, section 6.2.1).

use std::{net::SocketAddr, time::Instant};

use super::Target;
use crate::{
    limits,
    nat::stun::{Change, Family, message::Id, verdict::FilterTest},
};

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A server we know.
    Server,
    /// Shall be answered from elsewhere.
    Filtering(Change),
    /// Another address of a server.
    Mapping,
}

impl Purpose {
    pub(super) fn change(self) -> Option<Change> {
        match self {
            Purpose::Filtering(change) => Some(change),
            Purpose::Server | Purpose::Mapping => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) id: Id,
    /// Its place among all requests: the order in which a NAT saw them, unless the first sending got lost.
    pub(super) number: u32,
    pub(super) purpose: Purpose,
    /// The server it is about.
    pub(super) target: Target,
    pub(super) to: SocketAddr,
    /// Who alone may answer.
    pub(super) answer_from: SocketAddr,
    /// Times it was sent, or is to be sent now.
    pub(super) sends: u32,
    pub(super) is_unsent: bool,
    /// When it is sent again, or given up.
    pub(super) due: Instant,
}

impl Transaction {
    pub(super) fn new(
        id: Id,
        number: u32,
        purpose: Purpose,
        target: Target,
        to: SocketAddr,
        answer_from: SocketAddr,
        now: Instant,
    ) -> Self {
        let due = now + limits::STUN_RTO;
        Transaction { id, number, purpose, target, to, answer_from, sends: 1, is_unsent: true, due }
    }

    pub(super) fn family(&self) -> Family {
        Family::of(self.to)
    }

    /// `false`: it was sent often enough and waited for long enough.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        if now < self.due {
            return true;
        }
        let (most, last_wait) = match self.purpose {
            Purpose::Server => (limits::STUN_SENDS, limits::STUN_LAST_WAIT),
            Purpose::Filtering(_) | Purpose::Mapping => {
                (limits::STUN_TEST_SENDS, limits::STUN_TEST_LAST_WAIT)
            }
        };
        if self.sends >= most {
            return false;
        }
        let pauses = if self.sends + 1 == most { last_wait } else { 1 << self.sends };
        self.sends += 1;
        self.is_unsent = true;
        self.due = now + limits::STUN_RTO * pauses;
        true
    }

    pub(super) fn test(&self, change: Change, is_answered: bool, now: Instant) -> FilterTest {
        FilterTest { local: self.target.local, server: self.to, change, is_answered, at: now }
    }
}
