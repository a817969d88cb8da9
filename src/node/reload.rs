//! The configuration file, read again: what a running node can take over it takes over, and it names the rest.

use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use smol::future;

use super::{
    Node,
    api::{Answer, Event, Refusal},
    nick_of, others, reply,
};
use crate::{
    aside::aside,
    config::{Changes, Config, ConfigError, Source},
    limits, logs,
    rooms::Room,
};

/// What the file said.
pub(super) type Reread = Box<Result<Config, ConfigError>>;

/// The configuration in force.
pub(super) struct Reloads {
    now: Config,
    /// The words at the start, some of which hold until the end.
    start: Source,
    /// The file is being read.
    reading: Option<Receiver<Reread>>,
    /// Who asked for that.
    asker: Option<Sender<Result<Answer, Refusal>>>,
}

impl Reloads {
    pub(super) fn new(config: &Config) -> Self {
        Reloads { now: config.clone(), start: config.source.clone(), reading: None, asker: None }
    }

    /// Waits for the file.
    pub(super) async fn read(&mut self) -> Reread {
        match &self.reading {
            // Without a word the thread has panicked.
            Some(reading) => match reading.recv().await {
                Ok(read) => read,
                Err(_) => Box::new(Err(ConfigError::NoFile)),
            },
            None => future::pending().await,
        }
    }
}

impl Node {
    /// Begins to read the file, which may be on a slow disk.
    pub(super) fn reload(&mut self, answer: Sender<Result<Answer, Refusal>>) {
        if self.reloads.reading.is_some() {
            return reply(&answer, Err(Refusal::Reload("it is being read already".into())));
        }
        let source = self.reloads.now.source.clone();
        match aside(move || Box::new(source.read_again())) {
            Ok(reading) => {
                self.reloads.reading = Some(reading);
                self.reloads.asker = Some(answer);
            }
            Err(e) => reply(&answer, Err(Refusal::Reload(e.to_string()))),
        }
    }

    /// The file was read: all of it is taken over or nothing.
    pub(super) fn on_reread(&mut self, read: Reread) {
        self.reloads.reading = None;
        let result = match *read {
            Ok(config) => self.take_over(config),
            Err(e) => Err(Refusal::Reload(e.to_string())),
        };
        match &result {
            Ok(changes) => {
                log::info!("reloaded; {}", changes.sentence());
                if !changes.restart.is_empty() {
                    log::warn!(
                        "changed in the file, but only a restart changes it: {}",
                        changes.restart.join(", ")
                    );
                }
            }
            Err(refusal) => log::warn!("{refusal}"),
        }
        if let Some(asker) = self.reloads.asker.take() {
            reply(&asker, result.map(Answer::Reloaded));
        }
    }

    fn take_over(&mut self, new: Config) -> Result<Changes, Refusal> {
        let old = &self.reloads.now;
        let changes = new.source.changes(&old.source, &self.reloads.start);
        let leave: Vec<Room> = old.rooms.iter().filter(|room| !new.rooms.contains(room)).cloned().collect();
        let join: Vec<Room> = new.rooms.iter().filter(|room| !old.rooms.contains(room)).cloned().collect();
        let stay = self.order.iter().filter(|room| !leave.contains(room) && !join.contains(room)).count();
        if stay + join.len() > limits::ROOMS {
            return Err(Refusal::TooManyRooms);
        }
        let now = Instant::now();
        if old.log != new.log {
            logs::set(new.log);
        }
        if old.nick != new.nick {
            let me = self.swarm.local_peer_id();
            self.rename(new.nick.clone().unwrap_or_else(|| nick_of(me)));
        }
        self.change_rooms(&leave, join, &new.rooms);
        self.change_peers(&new, now);
        #[cfg(feature = "relay-server")]
        self.swarm.behaviour_mut().set_relay_limits(&new);
        self.reloads.now = new;
        // Perhaps it is read again because the clock was set, or the network is another one: others shall know.
        for room in self.rooms.values_mut() {
            room.announcer.answer(now, Duration::ZERO);
        }
        Ok(changes)
    }

    /// Rooms that were joined or left otherwise stay so. The file's first room is the first.
    fn change_rooms(&mut self, leave: &[Room], join: Vec<Room>, all: &[Room]) {
        for room in leave {
            // It may have been left before.
            let _ = self.leave(room);
        }
        for room in join {
            if let Err(why) = self.join(room.clone()) {
                self.feed.publish(Event::Trouble(format!("room '{room}' was not joined: {why}")));
            }
        }
        self.order.sort_by_key(|room| all.iter().position(|other| other == room).unwrap_or(all.len()));
    }

    /// Whom to connect to, to be reached through, and to ask.
    fn change_peers(&mut self, new: &Config, now: Instant) {
        let old = &self.reloads.now;
        if old.lan != new.lan {
            self.company.set_lan(new.lan.clone());
            self.look_around(now);
        }
        let old = &self.reloads.now;
        if old.bootstrap != new.bootstrap {
            let connected = |peer: &_| self.links.has(peer);
            self.bootstraps.replace(others(&new.bootstrap, *self.swarm.local_peer_id()), connected, now);
        }
        if old.relays != new.relays {
            for listener in self.relays.rename(new.relays.iter().cloned(), now) {
                self.swarm.remove_listener(listener);
            }
        }
        #[cfg(feature = "stun")]
        {
            self.outside.rename(new.stun_servers.clone());
            self.ask_peers_for_stun();
        }
    }
}
