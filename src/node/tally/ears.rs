//! Hears every copy of a message that gossipsub is given, also those that it knows already and says nothing of.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use libp2p::gossipsub::{DataTransform, IdentityTransform, Message, RawMessage, TopicHash};

use crate::rooms::Room;

/// Copies heard, by the name of the room. gossipsub owns it and does not give it back, so the node has another end.
#[derive(Clone, Default)]
pub(crate) struct Ears(Arc<Mutex<BTreeMap<String, Heard>>>);

/// What was heard in one room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) copies: u64,
    /// Of their data, without what gossipsub puts around it.
    pub(super) bytes: u64,
}

impl Ears {
    /// Listens in this room. Names that peers make up are not counted, so that they cannot fill the table.
    pub(super) fn joined(&self, room: &Room) {
        self.lock().entry(room.as_str().to_owned()).or_default();
    }

    pub(super) fn left(&self, room: &Room) {
        self.lock().remove(room.as_str());
    }

    pub(super) fn heard(&self, room: &Room) -> Heard {
        self.lock().get(room.as_str()).copied().unwrap_or_default()
    }

    /// Held for a few lines that cannot panic, and never by two: both ends are in the node's loop.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Heard>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DataTransform for Ears {
    fn inbound_transform(&self, message: RawMessage) -> io::Result<Message> {
        if let Some(heard) = self.lock().get_mut(message.topic.as_str()) {
            heard.copies += 1;
            heard.bytes += message.data.len() as u64;
        }
        IdentityTransform.inbound_transform(message)
    }

    fn outbound_transform(&self, topic: &TopicHash, data: Vec<u8>) -> io::Result<Vec<u8>> {
        IdentityTransform.outbound_transform(topic, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(topic: &str, data: &[u8]) -> RawMessage {
        RawMessage {
            source: None,
            data: data.to_vec(),
            sequence_number: None,
            topic: TopicHash::from_raw(topic),
            signature: None,
            key: None,
            validated: false,
        }
    }

    #[test]
    fn every_copy_counts_in_rooms_of_ours_only() {
        let (ears, room): (_, Room) = (Ears::default(), "den".parse().expect("a name"));
        ears.joined(&room);
        for _ in 0..3 {
            let message = ears.inbound_transform(raw("den", b"hello")).expect("a message");
            assert_eq!(message.data, b"hello");
        }
        ears.inbound_transform(raw("elsewhere", b"hello")).expect("a message");
        assert_eq!(ears.heard(&room), Heard { copies: 3, bytes: 15 });
        assert_eq!(ears.lock().len(), 1);
        ears.left(&room);
        assert_eq!(ears.heard(&room), Heard::default());
    }
}
