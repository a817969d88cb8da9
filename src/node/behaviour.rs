//! The protocols that a node speaks, composed.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

#[cfg(any(feature = "kad", feature = "mdns", feature = "relay-server"))]
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    connection_limits::{self, ConnectionLimits},
    gossipsub::{
        self, MessageAuthenticity, PeerScoreParams, PeerScoreThresholds, TopicScoreParams, ValidationMode,
    },
    identify,
    identity::Keypair,
    ping,
    swarm::NetworkBehaviour,
};
use sha2::{Digest, Sha256};

use super::{gate::Gate, meshed::Meshed, tally::Ears};
#[cfg(feature = "kad")]
use crate::discovery::kad;
#[cfg(feature = "mdns")]
use crate::discovery::mdns;
#[cfg(feature = "relay-server")]
use crate::nat::hop;
use crate::{config::Config, limits, nat::circuit};

/// How the name of the program begins that a warren says it is.
pub(super) const AGENT: &str = "warren/";

/// What every node speaks.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    /// First, so that a connection over the limits costs nobody else anything.
    limits: connection_limits::Behaviour,
    pub(super) gate: Gate,
    pub(super) gossip: Meshed,
    #[cfg(feature = "kad")]
    pub(super) kad: Toggle<kad::Behaviour>,
    pub(super) identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(super) circuits: circuit::Behaviour,
    /// For protocols that need no more than a stream.
    streams: libp2p_stream::Behaviour,
    #[cfg(feature = "relay-server")]
    pub(super) relay_server: Toggle<hop::Behaviour>,
    #[cfg(feature = "mdns")]
    mdns: Toggle<mdns::Behaviour>,
}

impl Behaviour {
    /// What a relay gives from now on, if this is one.
    #[cfg(feature = "relay-server")]
    pub(super) fn set_relay_limits(&mut self, config: &Config) {
        if let Some(relay) = self.relay_server.as_mut() {
            relay.set_limits(config.relay_limits);
            *self.limits.limits_mut() = connection_limits(config);
        }
    }

    /// `plain` decides who proves authorship. In warren's rooms the envelope does, and gossipsub carries it
    /// under the libp2p pubsub policy *StrictNoSign*: one signature per message, checked once per message.
    /// With *StrictSign* on top, gossipsub would check a second signature on each of the several copies
    /// that a mesh delivers. Plain rooms are for programs that know only StrictSign.
    pub(super) fn new(
        key: &Keypair,
        config: &Config,
        circuits: circuit::Behaviour,
        streams: libp2p_stream::Behaviour,
        again: &Again,
        ears: Ears,
    ) -> Result<Self, String> {
        let (authenticity, mode) = match config.plain {
            true => (MessageAuthenticity::Signed(key.clone()), ValidationMode::Strict),
            false => (MessageAuthenticity::Anonymous, ValidationMode::Anonymous),
        };
        let gossip_config = gossip_config(mode, again.clone()).map_err(|e| e.to_string())?;
        let mut gossip = gossipsub::Behaviour::new_with_transform(authenticity, gossip_config, ears)?;
        gossip.with_peer_score(score_params(), score_thresholds())?;
        // Others are told which life of this node they talk with: see `Links::tells_lives`.
        let agent = format!("{AGENT}{} {:08x}", env!("CARGO_PKG_VERSION"), fastrand::u32(..));
        let identify = identify::Config::new("/warren/1.0.0".into(), key.public())
            .with_agent_version(agent)
            .with_interval(limits::IDENTIFY_INTERVAL)
            .with_push_listen_addr_updates(true)
            .with_cache_size(0);
        let ping =
            ping::Config::new().with_interval(limits::PING_INTERVAL).with_timeout(limits::PING_TIMEOUT);
        Ok(Self {
            limits: connection_limits::Behaviour::new(connection_limits(config)),
            gate: Gate::default(),
            gossip: Meshed::new(gossip),
            #[cfg(feature = "kad")]
            kad: kad(key, config).into(),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping),
            circuits,
            streams,
            #[cfg(feature = "relay-server")]
            relay_server: relay_server(key, config).into(),
            #[cfg(feature = "mdns")]
            mdns: config.mdns.then(|| local_discovery(key)).flatten().into(),
        })
    }
}

#[cfg(feature = "relay-server")]
fn relay_server(key: &Keypair, config: &Config) -> Option<hop::Behaviour> {
    config.is_relay.then(|| hop::Behaviour::new(key.public().to_peer_id(), config.relay_limits))
}

#[cfg(feature = "kad")]
fn kad(key: &Keypair, config: &Config) -> Option<kad::Behaviour> {
    let dht = config.dht?;
    if dht == kad::Dht::Public {
        log::warn!(
            "--dht public: strangers see this node's address and a hash of its rooms' names, and asking them costs \
             far more traffic than a DHT of warrens"
        );
    }
    let mut kad = kad::Behaviour::new(key.public().to_peer_id(), dht);
    kad.set_server(config.is_relay);
    Some(kad)
}

/// A node that cannot have it works without.
#[cfg(feature = "mdns")]
fn local_discovery(key: &Keypair) -> Option<mdns::Behaviour> {
    let found = mdns::Behaviour::new(key.public().to_peer_id());
    found.inspect_err(|e| log::warn!("peers on the local network cannot be found: {e}")).ok()
}

/// A message's id: SHA-256 of its data, on every peer, whoever relays it.
pub(super) fn message_id(data: &[u8]) -> [u8; 32] {
    Sha256::digest(data).into()
}

/// Lets a message be published once more after no queue had place for it. gossipsub has put its id into the cache of
/// seen ones by then, and takes no other under that id; and it offers the message to others, so it must stay the same
/// one: written anew it would be shown twice. While this is set, what we publish counts under an id that is only ours:
/// the hash covers the number of the try too. Others do not notice, for each peer works out ids itself; all they can
/// see are offers of an id that they do not know, and asking for it brings them a message that they know to be a
/// repetition.
#[derive(Clone, Default)]
pub(super) struct Again(Arc<AtomicU32>);

impl Again {
    /// What is published now was tried so often before.
    pub(super) fn set(&self, tries: u32) {
        self.0.store(tries, Ordering::Relaxed);
    }

    fn id(&self, message: &gossipsub::Message) -> gossipsub::MessageId {
        let hash = Sha256::new_with_prefix(&message.data);
        let hash = match self.0.load(Ordering::Relaxed) {
            0 => hash,
            tries => hash.chain_update(tries.to_be_bytes()),
        };
        hash.finalize().to_vec().into()
    }
}

/// The scoring of a room: only messages that were provably bad count. The defaults punish rooms for being
/// quiet (mesh deliveries, P3 and P3b) and reward talking, neither of which says anything about a person.
pub(super) fn room_score() -> TopicScoreParams {
    TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.0,
        first_message_deliveries_weight: 0.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        // The square counts: 3 bad messages bring -90 and with it the gray list.
        invalid_message_deliveries_weight: -10.0,
        invalid_message_deliveries_decay: 0.9,
        ..TopicScoreParams::default()
    }
}

fn gossip_config(
    mode: ValidationMode,
    again: Again,
) -> Result<gossipsub::Config, gossipsub::ConfigBuilderError> {
    let [mesh, low, high] = limits::MESH;
    gossipsub::ConfigBuilder::default()
        .mesh_n(mesh)
        .mesh_n_low(low)
        .mesh_n_high(high)
        .validation_mode(mode)
        .validate_messages()
        .message_id_fn(move |message| again.id(message))
        .max_transmit_size(limits::GOSSIP_RPC_BYTES)
        .duplicate_cache_time(limits::GOSSIP_SEEN_TTL)
        .heartbeat_interval(limits::GOSSIP_HEARTBEAT)
        .heartbeat_initial_delay(limits::GOSSIP_FIRST_HEARTBEAT)
        .history_length(limits::GOSSIP_HISTORY)
        .history_gossip(limits::GOSSIP_HISTORY)
        .connection_handler_queue_len(limits::GOSSIP_QUEUE)
        .publish_queue_duration(limits::GOSSIP_QUEUE_TTL)
        .forward_queue_duration(limits::GOSSIP_QUEUE_TTL)
        // Own messages go to the mesh like all others: fan-out stays bounded however many are connected.
        .flood_publish(false)
        .build()
}

fn score_params() -> PeerScoreParams {
    PeerScoreParams {
        topics: HashMap::new(),
        // Many machines behind one address (a home, CGNAT, loopback) are what warren is for.
        ip_colocation_factor_weight: 0.0,
        // A slow link is no offence.
        slow_peer_weight: 0.0,
        behaviour_penalty_weight: -1.0,
        behaviour_penalty_threshold: 6.0,
        behaviour_penalty_decay: 0.9,
        decay_interval: Duration::from_secs(10),
        retain_score: Duration::from_secs(10 * 60),
        ..PeerScoreParams::default()
    }
}

fn score_thresholds() -> PeerScoreThresholds {
    PeerScoreThresholds {
        gossip_threshold: -10.0,
        publish_threshold: -40.0,
        graylist_threshold: -80.0,
        ..PeerScoreThresholds::default()
    }
}

fn connection_limits(config: &Config) -> ConnectionLimits {
    #[cfg(feature = "relay-server")]
    let most = if config.is_relay { config.relay_limits.connections() } else { limits::CONNECTIONS };
    #[cfg(not(feature = "relay-server"))]
    let (most, _) = (limits::CONNECTIONS, config);
    ConnectionLimits::default()
        .with_max_established(Some(most))
        .with_max_established_per_peer(Some(limits::CONNECTIONS_PER_PEER))
        .with_max_pending_incoming(Some(limits::PENDING_INBOUND))
        .with_max_pending_outgoing(Some(limits::PENDING_OUTBOUND))
}
