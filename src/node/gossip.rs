//! Rooms: joining, saying, hearing, and knowing who is there.

use std::time::{Duration, Instant, SystemTime};

use async_channel::Sender;
use libp2p::{
    PeerId,
    gossipsub::{self, IdentTopic, MessageAcceptance, PublishError, TopicHash},
};

use super::{
    Node, RoomState,
    api::{Answer, Event, Message, MessageId, Refusal, RoomInfo},
    behaviour::{message_id, room_score},
    random_delay, reply,
    tally::Fate,
};
use crate::{
    limits,
    rooms::{
        Nick, Room,
        clock::Timestamp,
        envelope::{self, Body, Envelope, OpenError, Unproven},
        members::{self, Announcer, Change, Members},
        replay::Verdict,
    },
};

/// A message that waits for a place in a peer's queue.
pub(super) struct Outgoing {
    room: Room,
    /// What gossipsub carries, the same at each try.
    data: Vec<u8>,
    answer: Sender<Result<Answer, Refusal>>,
    /// How often no queue had place for it.
    tries: u32,
    /// When to try again.
    due: Instant,
    /// When to give up.
    give_up: Instant,
}

impl Outgoing {
    pub(super) fn due(&self) -> Instant {
        self.due
    }
}

impl Node {
    pub(super) fn join(&mut self, room: Room) -> Result<(), Refusal> {
        if self.rooms.contains_key(&room) {
            return Ok(());
        }
        if self.rooms.len() >= limits::ROOMS {
            return Err(Refusal::TooManyRooms);
        }
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.subscribe(&topic(&room)).map_err(|e| Refusal::Publish(e.to_string()))?;
        if let Err(e) = gossip.set_topic_params(topic(&room), room_score()) {
            log::warn!("room '{room}' goes without scoring: {e}");
        }
        let now = Instant::now();
        let mut members = Members::default();
        // Neighbours that were there before us will not subscribe again.
        let hash = topic(&room).hash();
        let there = gossip.all_peers().filter(|(_, topics)| topics.contains(&&hash)).map(|(peer, _)| *peer);
        let there: Vec<PeerId> = there.collect();
        for peer in &there {
            members.subscribed(*peer, now);
        }
        self.rooms.insert(room.clone(), RoomState { members, announcer: Announcer::new(now), joined: now });
        self.order.push(room.clone());
        self.tally.joined(&room);
        self.seek_room(&room, now);
        for peer in there {
            self.neighbour_in(&room, peer, now);
            self.feed.publish(Event::MemberJoined { room: room.clone(), peer, nick: None });
        }
        Ok(())
    }

    pub(super) fn leave(&mut self, room: &Room) -> Result<(), Refusal> {
        if !self.rooms.contains_key(room) {
            return Err(Refusal::NotInRoom(room.clone()));
        }
        self.say_gone(room);
        self.swarm.behaviour_mut().gossip.unsubscribe(&topic(room));
        self.rooms.remove(room);
        self.tally.left(room);
        self.order.retain(|r| r != room);
        self.leave_room(room);
        Ok(())
    }

    pub(super) fn rename(&mut self, nick: Nick) {
        self.nick = nick;
        let now = Instant::now();
        for room in self.rooms.values_mut() {
            room.announcer.answer(now, Duration::ZERO);
        }
    }

    /// Says something, and answers when gossipsub has taken it, which may be later.
    pub(super) fn send(
        &mut self,
        room: Option<Room>,
        text: String,
        action: bool,
        answer: Sender<Result<Answer, Refusal>>,
    ) {
        match self.check_send(room, text, action) {
            Ok((room, body)) => match self.seal(&room, &body) {
                Ok(data) => {
                    let (due, give_up) = (Instant::now(), Instant::now() + limits::PUBLISH_PATIENCE);
                    self.try_send(Outgoing { room, data, answer, tries: 0, due, give_up });
                }
                Err(e) => reply(&answer, Err(Refusal::Publish(e.to_string()))),
            },
            Err(refusal) => reply(&answer, Err(refusal)),
        }
    }

    /// Tries again what no queue had place for.
    pub(super) fn retry_outgoing(&mut self, now: Instant) {
        if let Some(outgoing) = self.outgoing.take_if(|o| o.due <= now) {
            self.try_send(outgoing);
        }
    }

    pub(super) fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                let acceptance = self.hear(message, propagation_source);
                if matches!(acceptance, MessageAcceptance::Reject) {
                    log::debug!("{propagation_source} passed on a bad message");
                }
                let gossip = &mut self.swarm.behaviour_mut().gossip;
                // False: the message has left gossipsub's cache, and is not passed on.
                gossip.report_message_validation_result(&message_id, &propagation_source, acceptance);
            }
            gossipsub::Event::Subscribed { peer_id, topic } => self.on_subscribed(peer_id, &topic),
            gossipsub::Event::Unsubscribed { peer_id, topic } => {
                if let Some(room) = self.room_of(&topic) {
                    self.member_left(room, peer_id);
                }
            }
            gossipsub::Event::SlowPeer { peer_id, failed_messages } => {
                let lost = failed_messages.priority + failed_messages.non_priority;
                self.stats.dropped = self.stats.dropped.wrapping_add(lost as u32);
                log::info!("{peer_id} is too slow: {lost} messages to it were dropped");
            }
            gossipsub::Event::GossipsubNotSupported { peer_id } => {
                log::info!("{peer_id} speaks no gossipsub: it can be in no room");
            }
        }
    }

    /// Makes the announcements that are due.
    pub(super) fn announce(&mut self, now: Instant) {
        if self.plain {
            return;
        }
        let due = |(room, state): (&Room, &RoomState)| state.announcer.is_due(now).then(|| room.clone());
        let rooms: Vec<Room> = self.rooms.iter().filter_map(due).collect();
        if rooms.is_empty() {
            return;
        }
        let addrs = self.own_addresses();
        for room in rooms {
            let published = self.publish(&room, &Body::Here(addrs.clone()));
            let Some(state) = self.rooms.get_mut(&room) else { continue };
            match published {
                Ok(_) => state.announcer.done(now),
                // Nobody is there, or all are busy: the next newcomer will be told.
                Err(_) => state.announcer.postpone(now),
            }
        }
    }

    pub(super) fn expire_members(&mut self, now: Instant) {
        let mut gone = Vec::new();
        for (room, state) in &mut self.rooms {
            gone.extend(state.members.expire(now).into_iter().map(|peer| (room.clone(), peer)));
        }
        for (room, peer) in gone {
            self.feed.publish(Event::MemberLeft { room, peer, nick: None });
        }
    }

    /// The connection to a neighbour is gone. Where it was the only one, nobody else could tell us of it, so it counts
    /// as gone; but it did not say goodbye, and stays somebody to dial.
    pub(super) fn neighbour_gone(&mut self, peer: &PeerId) {
        let mut left = Vec::new();
        for (room, state) in &mut self.rooms {
            state.members.disconnected(peer);
            if !state.members.has_neighbour() && state.members.member(peer).is_some() {
                left.push(room.clone());
            }
        }
        for room in left {
            self.member_lost(room, *peer);
        }
    }

    pub(super) fn room_infos(&self) -> Vec<RoomInfo> {
        let gossip = &self.swarm.behaviour().gossip;
        let info = |room: &Room| {
            let members = self.rooms.get(room).into_iter().flat_map(|state| state.members.iter());
            RoomInfo {
                room: room.clone(),
                members: members.map(|(peer, member)| (*peer, member.nick.clone())).collect(),
                mesh: gossip.mesh_peers(&topic(room).hash()).count(),
            }
        };
        self.order.iter().map(info).collect()
    }

    pub(super) fn nick_in_any_room(&self, peer: &PeerId) -> Option<Nick> {
        self.rooms.values().find_map(|state| state.members.member(peer)?.nick.clone())
    }

    pub(super) fn say_goodbye(&mut self) {
        for room in self.order.clone() {
            self.say_gone(&room);
        }
    }

    fn say_gone(&mut self, room: &Room) {
        if !self.plain {
            // When nobody hears it, nobody misses it.
            let _ = self.publish(room, &Body::Gone);
        }
    }

    fn check_send(&self, room: Option<Room>, text: String, action: bool) -> Result<(Room, Body), Refusal> {
        let room = match room {
            Some(room) if self.rooms.contains_key(&room) => room,
            Some(room) => return Err(Refusal::NotInRoom(room)),
            None => self.order.first().cloned().ok_or(Refusal::NoRoom)?,
        };
        if text.is_empty() {
            return Err(Refusal::EmptyText);
        }
        if text.len() > limits::TEXT_BYTES {
            return Err(Refusal::TextTooLong(text.len()));
        }
        if action && self.plain {
            return Err(Refusal::NoActions);
        }
        Ok((room, if action { Body::Action(text) } else { Body::Text(text) }))
    }

    fn try_send(&mut self, mut outgoing: Outgoing) {
        let now = Instant::now();
        self.again.set(outgoing.tries);
        let published = self.hand_over(&outgoing.room, &outgoing.data, true);
        self.again.set(0);
        let result = match published {
            Ok(id) => Ok(Answer::Sent { room: outgoing.room, id }),
            Err(PublishError::AllQueuesFull(peers)) if now >= outgoing.give_up => {
                Err(Refusal::Publish(format!("the queues of all {peers} peers stay full")))
            }
            Err(PublishError::AllQueuesFull(_)) => {
                outgoing.due = now + publish_retry(outgoing.tries);
                outgoing.tries += 1;
                self.outgoing = Some(outgoing);
                return;
            }
            Err(PublishError::NoPeersSubscribedToTopic) => Err(Refusal::NoPeers(outgoing.room)),
            Err(PublishError::Duplicate) => Err(Refusal::Publish(
                "the same text was sent a moment ago, and plain rooms drop repeats".into(),
            )),
            Err(e) => Err(Refusal::Publish(e.to_string())),
        };
        if result.is_ok() {
            self.stats.sent = self.stats.sent.wrapping_add(1);
        }
        reply(&outgoing.answer, result);
    }

    /// Signs and publishes.
    fn publish(&mut self, room: &Room, body: &Body) -> Result<MessageId, PublishError> {
        let data = self.seal(room, body)?;
        self.hand_over(room, &data, body.is_said())
    }

    /// What gossipsub is to carry.
    fn seal(&mut self, room: &Room, body: &Body) -> Result<Vec<u8>, PublishError> {
        match body {
            Body::Text(text) if self.plain => Ok(text.as_bytes().to_vec()),
            _ => {
                let time = self.clock.tick(SystemTime::now());
                self.keep_time();
                envelope::seal(&self.key, room, &self.nick, time, body).map_err(PublishError::SigningError)
            }
        }
    }

    /// Gives it to gossipsub. `is_said`: it is something that others may ask for again.
    fn hand_over(&mut self, room: &Room, data: &[u8], is_said: bool) -> Result<MessageId, PublishError> {
        let id = message_id(data);
        self.swarm.behaviour_mut().gossip.publish(topic(room), data)?;
        self.tally.published(room, data.len());
        if !self.plain && is_said {
            self.recalls.recent.note(room, &id, data, Instant::now());
        }
        Ok(id)
    }

    fn hear(&mut self, message: gossipsub::Message, from: PeerId) -> MessageAcceptance {
        let Some(room) = self.room_of(&message.topic) else { return MessageAcceptance::Ignore };
        let fate = match self.plain {
            true => self.hear_plain(room.clone(), message),
            false => self.hear_in(room.clone(), &message.data, Some(from)),
        };
        self.tally.heard(&room, fate);
        match fate {
            Fate::Accepted => MessageAcceptance::Accept,
            // Whoever passes on what is no text in a plain room may know of no such rule.
            Fate::Invalid if !self.plain => MessageAcceptance::Reject,
            // Perhaps good for others; it costs its sender nothing.
            _ => MessageAcceptance::Ignore,
        }
    }

    /// Judges what may be a message of a warren room, and shows it if it is good. `from`: who handed it to us just
    /// now, if it is not from somebody's memory.
    pub(super) fn hear_in(&mut self, room: Room, data: &[u8], from: Option<PeerId>) -> Fate {
        // Most of what others remember came by gossip as well, and is not worth a look at its signature.
        let is_old =
            |message: &Unproven| from.is_none() && self.replay.knows(&message.author(), message.time());
        let opened = match envelope::read(data) {
            Ok(message) if is_old(&message) => return Fate::Known,
            Ok(message) => message.prove(),
            Err(error) => Err(error),
        };
        let stats = &mut self.stats;
        let envelope = match opened {
            Ok(envelope) => envelope,
            Err(error) => {
                let (counter, fate) = match error {
                    OpenError::Oversized(_) => (&mut stats.oversized, Fate::Invalid),
                    OpenError::Malformed(_) => (&mut stats.malformed, Fate::Invalid),
                    OpenError::Forged => (&mut stats.forged, Fate::Invalid),
                    OpenError::Version(_) => (&mut stats.unknown, Fate::Unknown),
                };
                *counter = counter.wrapping_add(1);
                log::debug!("a message is not shown: {error}");
                return fate;
            }
        };
        if envelope.room != room {
            self.stats.malformed = self.stats.malformed.wrapping_add(1);
            return Fate::Invalid;
        }
        let verdict = self.judge_time(&envelope, from == Some(envelope.author));
        let (counter, fate) = match verdict {
            Verdict::Fresh => {
                let id = message_id(data);
                if envelope.body.is_said() {
                    self.recalls.recent.note(&room, &id, data, Instant::now());
                }
                self.show(room, envelope, id);
                return Fate::Accepted;
            }
            Verdict::Duplicate => (&mut self.stats.duplicate, Fate::Known),
            Verdict::Stale => (&mut self.stats.stale, Fate::Stale),
        };
        *counter = counter.wrapping_add(1);
        fate
    }

    /// Whether a message whose signature holds is new; moves the clock along.
    fn judge_time(&mut self, envelope: &Envelope, is_live: bool) -> Verdict {
        if envelope.author == *self.swarm.local_peer_id() {
            return Verdict::Duplicate;
        }
        let wall = SystemTime::now();
        let (before, now) = (self.clock.now(wall), Instant::now());
        if is_live {
            self.clock.told(envelope.time, now);
        }
        let room = self.clock.room(wall, now);
        let verdict = self.replay.check(envelope.author, envelope.time, room, is_live);
        match verdict {
            Verdict::Fresh => {
                self.follow_time(envelope.time, is_live, wall);
                // Our clock was far behind: others took what we said for old. Say it again.
                if self.clock.now(wall).back(limits::STALE_AFTER) > before {
                    for room in self.rooms.values_mut() {
                        room.announcer.answer(now, Duration::ZERO);
                    }
                }
            }
            // Perhaps a newcomer whose clock was never set: an announcement of ours sets it.
            Verdict::Stale => self.answer_newcomer(&envelope.room, now),
            Verdict::Duplicate => {}
        }
        verdict
    }

    fn show(&mut self, room: Room, envelope: Envelope, id: MessageId) {
        let Envelope { author, nick, time, body, .. } = envelope;
        match body {
            Body::Text(text) => self.show_text(room, author, nick, text, false, time, id),
            Body::Action(text) => self.show_text(room, author, nick, text, true, time, id),
            Body::Here(addrs) => {
                self.member_heard(&room, author, &nick);
                self.member_at(&room, author, addrs, Instant::now());
            }
            Body::Gone => self.member_left(room, author),
            Body::Unknown(kind) => {
                self.stats.unknown = self.stats.unknown.wrapping_add(1);
                log::debug!("{author} sent a message of kind {kind}, which is not known here");
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "they are the fields of the event")]
    fn show_text(
        &mut self,
        room: Room,
        author: PeerId,
        nick: Nick,
        text: String,
        action: bool,
        time: Timestamp,
        id: MessageId,
    ) {
        self.member_heard(&room, author, &nick);
        self.stats.delivered = self.stats.delivered.wrapping_add(1);
        let (author, nick, time_ms) = (Some(author), Some(nick), time.ms());
        self.feed.publish(Event::Message(Message { room, author, nick, text, action, time_ms, id }));
    }

    /// Judges a message of a plain room, whose signature gossipsub has checked.
    fn hear_plain(&mut self, room: Room, message: gossipsub::Message) -> Fate {
        let id = message_id(&message.data);
        if message.data.len() > limits::TEXT_BYTES {
            self.stats.oversized = self.stats.oversized.wrapping_add(1);
            return Fate::Invalid;
        }
        let Ok(text) = String::from_utf8(message.data) else {
            self.stats.malformed = self.stats.malformed.wrapping_add(1);
            return Fate::Invalid;
        };
        if let (Some(author), Some(number)) = (message.source, message.sequence_number)
            && !self.plain_seen.insert(author, number)
        {
            self.stats.duplicate = self.stats.duplicate.wrapping_add(1);
            return Fate::Known;
        }
        self.stats.delivered = self.stats.delivered.wrapping_add(1);
        let time_ms = self.clock.now(SystemTime::now()).ms();
        let (author, nick, action) = (message.source, None, false);
        self.feed.publish(Event::Message(Message { room, author, nick, text, action, time_ms, id }));
        Fate::Accepted
    }

    fn on_subscribed(&mut self, peer: PeerId, topic: &TopicHash) {
        let Some(room) = self.room_of(topic) else { return };
        let now = Instant::now();
        if let Some(state) = self.rooms.get_mut(&room) {
            let is_full = state.members.is_full();
            let is_new = state.members.subscribed(peer, now) == Change::Joined;
            if is_new {
                self.feed.publish(Event::MemberJoined { room: room.clone(), peer, nick: None });
            }
            // A neighbour is told at once: nobody else may be there to do it. One that was a member before is likely to
            // know; should it have been started again, in a large room others will do as well. To tell each would be 38
            // announcements a second among 1,000 (`warren-bench sim`).
            if is_new && !is_full || fastrand::f64() < members::answer_chance(state.members.len()) {
                state.announcer.answer(now, Duration::ZERO);
            }
            self.neighbour_in(&room, peer, now);
            self.ask_neighbour(peer, now);
        }
        if self.order.first() == Some(&room) {
            for text in std::mem::take(&mut self.publish) {
                match self.publish(&room, &Body::Text(text)) {
                    Ok(_) => self.stats.sent = self.stats.sent.wrapping_add(1),
                    Err(e) => self.feed.publish(Event::Trouble(format!("--publish failed in '{room}': {e}"))),
                }
            }
        }
    }

    fn member_heard(&mut self, room: &Room, peer: PeerId, nick: &Nick) {
        let now = Instant::now();
        let Some(state) = self.rooms.get_mut(room) else { return };
        let event = match state.members.heard(peer, nick, now) {
            Change::Joined => {
                self.answer_newcomer(room, now);
                Event::MemberJoined { room: room.clone(), peer, nick: Some(nick.clone()) }
            }
            Change::Renamed => Event::MemberRenamed { room: room.clone(), peer, nick: nick.clone() },
            Change::None => return,
        };
        self.feed.publish(event);
    }

    /// It said so.
    fn member_left(&mut self, room: Room, peer: PeerId) {
        if self.rooms.get(&room).is_some_and(|state| state.members.member(&peer).is_some()) {
            self.company.wishes.gone(&room, &peer);
            self.member_lost(room, peer);
        }
    }

    fn member_lost(&mut self, room: Room, peer: PeerId) {
        let Some(state) = self.rooms.get_mut(&room) else { return };
        let nick = state.members.member(&peer).and_then(|member| member.nick.clone());
        if state.members.left(&peer) {
            self.feed.publish(Event::MemberLeft { room, peer, nick });
        }
    }

    /// In a small room everybody answers a newcomer, in a large one a few do.
    fn answer_newcomer(&mut self, room: &Room, now: Instant) {
        if let Some(state) = self.rooms.get_mut(room)
            && fastrand::f64() < members::answer_chance(state.members.len())
        {
            state.announcer.answer(now, random_delay(limits::PRESENCE_DELAY));
        }
    }

    fn room_of(&self, topic: &TopicHash) -> Option<Room> {
        self.rooms.keys().find(|room| room.as_str() == topic.as_str()).cloned()
    }
}

/// How long to wait after a try for which no queue had place, the first being 0.
fn publish_retry(tries: u32) -> Duration {
    limits::PUBLISH_RETRY.saturating_mul(1 << tries.min(16)).min(limits::PUBLISH_RETRY_MOST)
}

/// A room's gossipsub topic has the room's name.
pub(super) fn topic(room: &Room) -> IdentTopic {
    IdentTopic::new(room.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_become_rarer_and_none_is_the_last() {
        assert_eq!(publish_retry(0), limits::PUBLISH_RETRY);
        assert_eq!(publish_retry(3), 8 * limits::PUBLISH_RETRY);
        assert_eq!(publish_retry(u32::MAX), limits::PUBLISH_RETRY_MOST);
    }
}
