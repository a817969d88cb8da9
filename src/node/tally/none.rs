//! The same for a build in which nobody can ask: nothing is counted.

use std::time::Duration;

use libp2p::gossipsub;

use super::{Dial, Fate, Outcome, Recall, Way};
use crate::rooms::Room;

#[derive(Default)]
pub(crate) struct Tally(());

pub(crate) type Ears = gossipsub::IdentityTransform;

impl Tally {
    pub(crate) fn ears(&self) -> Ears {
        gossipsub::IdentityTransform
    }

    pub(crate) fn joined(&mut self, _: &Room) {}

    pub(crate) fn left(&mut self, _: &Room) {}

    pub(crate) fn published(&mut self, _: &Room, _: usize) {}

    pub(crate) fn heard(&mut self, _: &Room, _: Fate) {}

    pub(crate) fn dialled(&mut self, _: Dial) {}

    pub(crate) fn pinged(&mut self, _: Duration) {}

    pub(crate) fn punched(&mut self, _: Way, _: Outcome) {}

    pub(crate) fn recalled(&mut self, _: Recall) {}

    #[cfg(feature = "kad")]
    pub(crate) fn queried(&mut self, _: bool, _: bool) {}
}
