//! Asking for what was missed, and answering who asks: [`recall`] over a stream of its own.
//!
//! A connection that dies takes along what was said into it, by both ends, and they notice at different times. So
//! each end asks as soon as it knows, once more a little later, and also when it is asked itself.

use std::{
    collections::{HashMap, VecDeque},
    io,
    time::{Duration, Instant},
};

use async_channel::{Receiver, Sender};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use libp2p::{PeerId, Stream, StreamProtocol};
use libp2p_stream::{Control, IncomingStreams};

use super::{
    Node,
    conversations::{self, Turn},
    gossip::topic,
    tally::{self, Fate},
};
use crate::{
    limits,
    rooms::{
        Room,
        recall::{self, Recent, Request},
    },
    within::within,
};

pub(super) const PROTOCOL: StreamProtocol = StreamProtocol::new("/warren/recall/1.0.0");

/// What is needed for it.
pub(super) struct Recalls {
    control: Control,
    incoming: IncomingStreams,
    pub(super) recent: Recent,
    /// Something may have been missed that anybody may know.
    gap: Option<Gap>,
    /// Peers to ask.
    wishes: HashMap<PeerId, Wish>,
    /// When a peer was last asked, and answered. Only peers that are connected.
    asked: HashMap<PeerId, Instant>,
    answered: HashMap<PeerId, Instant>,
    /// What others told, not yet looked at.
    told: VecDeque<(Room, Vec<u8>)>,
    /// Questions and answers under way.
    running: usize,
    tell: Sender<Done>,
    done: Receiver<Done>,
}

/// A time of which something may be missing.
struct Gap {
    since: Instant,
    /// After that, nobody has it any more.
    until: Instant,
}

/// When to ask a peer, how often after that, and for what was said since when.
struct Wish {
    due: Instant,
    again: u8,
    since: Instant,
}

/// What a task has come to.
pub(super) enum Done {
    /// A peer wants to know something; the stream is for the answer.
    Asked(PeerId, Request, Stream),
    /// A peer has told us this of a room.
    Told(PeerId, Room, Vec<Vec<u8>>),
    /// It came to nothing, or the answer is on its way.
    Nothing,
}

impl Recalls {
    pub(super) fn new(mut control: Control) -> Option<Self> {
        let incoming = control.accept(PROTOCOL).ok()?;
        let (tell, done) = async_channel::bounded(limits::RECALLS_AT_ONCE);
        Some(Recalls {
            control,
            incoming,
            recent: Recent::default(),
            gap: None,
            wishes: HashMap::new(),
            asked: HashMap::new(),
            answered: HashMap::new(),
            told: VecDeque::new(),
            running: 0,
            tell,
            done,
        })
    }

    /// The next thing to do.
    pub(super) async fn turn(&mut self) -> Turn<Done> {
        conversations::turn(&mut self.incoming, &self.done).await
    }

    /// When [`Node::recall`] has something to do.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        if !self.told.is_empty() {
            return Some(now);
        }
        // What is due waits until there is place.
        let has_place = self.running < limits::RECALLS_AT_ONCE;
        self.wishes.values().map(|wish| wish.due).min().filter(|_| has_place)
    }

    fn wish(&mut self, peer: PeerId, due: Instant, again: u8, since: Instant) {
        // What it was to be asked for anyway stays in.
        let since = self.wishes.get(&peer).map_or(since, |wish| since.min(wish.since));
        self.wishes.insert(peer, Wish { due, again, since });
    }

    fn forget(&mut self, peer: &PeerId) {
        self.wishes.remove(peer);
        self.asked.remove(peer);
        self.answered.remove(peer);
    }
}

impl Node {
    /// One of two connections to a peer is gone, and what was under way on it: there is another one to ask over, and
    /// nobody else needs to be asked. In a room that forms connections are doubled and closed all the time.
    ///
    /// `died`: nobody closed it, so the peer may go on speaking into it for a while.
    pub(super) fn recall_over(&mut self, peer: PeerId, died: bool, now: Instant) {
        if self.rooms.values().any(|state| state.members.is_neighbour(&peer)) {
            let (again, within) = if died { (1, limits::DEAD_LINK) } else { (0, limits::RECALL_CLOSED) };
            self.recalls.wish(peer, now, again, before(now, within));
        }
    }

    /// The last connection to a peer is gone, and what was under way on it: nothing, where it was in no mesh.
    pub(super) fn may_have_missed(&mut self, peer: &PeerId, was_in_mesh: bool, now: Instant) {
        self.recalls.forget(peer);
        if was_in_mesh {
            self.note_gap(now);
        }
    }

    /// A neighbour is there, perhaps again: it may know what this node has missed.
    pub(super) fn ask_neighbour(&mut self, peer: PeerId, now: Instant) {
        let open = self.recalls.gap.as_ref().filter(|gap| now < gap.until);
        if let Some(since) = open.map(|gap| gap.since) {
            self.recalls.wish(peer, now, 1, since);
        }
    }

    fn note_gap(&mut self, now: Instant) {
        let begun = before(now, limits::DEAD_LINK);
        let open = self.recalls.gap.as_ref().filter(|gap| now < gap.until);
        let since = open.map_or(begun, |gap| gap.since);
        self.recalls.gap = Some(Gap { since, until: now + limits::RECALL_AGE });
    }

    /// Asks whom to ask is due, and looks at what others have told.
    pub(super) fn recall(&mut self, now: Instant) {
        for _ in 0..limits::RECALL_TURN {
            let Some((room, envelope)) = self.recalls.told.pop_front() else { break };
            self.hear_recalled(&room, envelope);
        }
        while self.recalls.running < limits::RECALLS_AT_ONCE {
            let Some((peer, wish)) = self.recalls.wishes.iter_mut().find(|(_, wish)| wish.due <= now) else {
                return;
            };
            let (peer, since) = (*peer, wish.since);
            match wish.again.checked_sub(1) {
                Some(again) => *wish = Wish { due: now + limits::RECALL_AGAIN, again, since },
                None => drop(self.recalls.wishes.remove(&peer)),
            }
            self.ask(peer, since, now);
        }
    }

    fn ask(&mut self, peer: PeerId, since: Instant, now: Instant) {
        self.recalls.asked.insert(peer, now);
        let shared = self.rooms.iter().filter(|(_, state)| state.members.is_neighbour(&peer));
        let requests = shared.map(|(room, state)| {
            // What was said before this node came is not for it.
            let within = now.duration_since(since.max(state.joined));
            self.recalls.recent.request(room, within)
        });
        let requests: Vec<Request> = requests.collect();
        if requests.is_empty() || self.plain {
            return;
        }
        let (control, tell) = (self.recalls.control.clone(), self.recalls.tell.clone());
        self.recalls.running += 1;
        self.tally.recalled(tally::Recall::Asked);
        let task = async move {
            for request in requests {
                let mut control = control.clone();
                let asked = in_time(async move {
                    let stream = control.open_stream(peer, PROTOCOL).await.map_err(io::Error::other)?;
                    let answer = ask_over(stream, &request).await?;
                    Ok((request.room, answer))
                });
                match asked.await {
                    // The node may have ended.
                    Ok((room, told)) => drop(tell.send(Done::Told(peer, room, told)).await),
                    // Where it failed once it fails again.
                    Err(e) => {
                        log::debug!("{peer} does not tell what was missed: {e}");
                        break;
                    }
                }
            }
            let _ = tell.send(Done::Nothing).await;
        };
        self.executor.spawn(task).detach();
    }

    pub(super) fn on_recall(&mut self, turn: Turn<Done>) {
        let now = Instant::now();
        match turn {
            Turn::Asked(peer, stream) => {
                if self.recalls.running < limits::RECALLS_AT_ONCE {
                    self.recalls.running += 1;
                    let tell = self.recalls.tell.clone();
                    let task = async move {
                        let done = match in_time(read_request(*stream)).await {
                            Ok((request, stream)) => Done::Asked(peer, request, stream),
                            Err(_) => Done::Nothing,
                        };
                        let _ = tell.send(done).await;
                    };
                    self.executor.spawn(task).detach();
                }
            }
            Turn::Done(Done::Asked(peer, request, stream)) => self.answer(peer, request, stream, now),
            Turn::Done(Done::Told(peer, room, told)) => {
                if !told.is_empty() {
                    log::debug!("{peer} tells {} messages of room '{room}' that were missed", told.len());
                }
                let told = told.into_iter().map(|envelope| (room.clone(), envelope));
                let place = limits::RECALL_MESSAGES.saturating_sub(self.recalls.told.len());
                self.recalls.told.extend(told.take(place));
            }
            Turn::Done(Done::Nothing) => self.recalls.running = self.recalls.running.saturating_sub(1),
        }
    }

    fn answer(&mut self, peer: PeerId, request: Request, mut stream: Stream, now: Instant) {
        let last = self.recalls.answered.get(&peer);
        let is_early = last.is_some_and(|at| now < *at + limits::RECALL_REST);
        if is_early || !self.links.has(&peer) || !self.rooms.contains_key(&request.room) {
            self.recalls.running = self.recalls.running.saturating_sub(1);
            return;
        }
        self.recalls.answered.insert(peer, now);
        self.tally.recalled(tally::Recall::Answered);
        // It knows of a connection that died, and this node may not yet. Whoever else comes needs not be asked for that:
        // they would take it for a loss of their own, and so on through the room.
        let last = self.recalls.asked.get(&peer);
        if last.is_none_or(|at| now >= *at + 2 * limits::RECALL_AGAIN) {
            self.recalls.wish(peer, now, 0, before(now, request.within().min(limits::DEAD_LINK)));
        }
        let answer = recall::encode(self.recalls.recent.answer(&request, now));
        let tell = self.recalls.tell.clone();
        let task = async move {
            let sent = in_time(async move {
                write(&mut stream, &answer).await?;
                stream.close().await
            });
            if let Err(e) = sent.await {
                log::debug!("{peer} does not take what it missed: {e}");
            }
            let _ = tell.send(Done::Nothing).await;
        };
        self.executor.spawn(task).detach();
    }

    /// Shows it if it is new, and passes it on to those who may have missed it, too.
    fn hear_recalled(&mut self, room: &Room, envelope: Vec<u8>) {
        if self.hear_in(room.clone(), &envelope, None) == Fate::Accepted {
            self.tally.recalled(tally::Recall::Recovered);
            // They may have it: then it is their gossipsub's to know.
            let _ = self.swarm.behaviour_mut().gossip.publish(topic(room), envelope);
        }
    }
}

/// So long ago, as far as there is such a time.
fn before(now: Instant, ago: Duration) -> Instant {
    now.checked_sub(ago).unwrap_or(now)
}

async fn ask_over(mut stream: Stream, request: &Request) -> io::Result<Vec<Vec<u8>>> {
    write(&mut stream, &request.encode()).await?;
    let answer = read(&mut stream, limits::RECALL_ANSWER_BYTES).await?;
    recall::decode(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it sends no answer"))
}

async fn read_request(mut stream: Stream) -> io::Result<(Request, Stream)> {
    let request = read(&mut stream, limits::RECALL_REQUEST_BYTES).await?;
    let request = Request::decode(&request).ok_or(io::ErrorKind::InvalidData)?;
    Ok((request, stream))
}

/// A message behind its length in 4 bytes, the greatest first.
async fn write(stream: &mut Stream, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await?;
    stream.flush().await
}

/// Such a message, of `most` bytes at the most.
async fn read(stream: &mut Stream, most: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{length} bytes, more than {most}")));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn in_time<T>(part: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    within(limits::RECALL_TIMEOUT, part).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}
