//! Being a relay: who has a place here stays, whatever the crowd.

use libp2p::PeerId;

use super::Node;
#[cfg(feature = "relay-server")]
use crate::nat::hop;

impl Node {
    /// Whether a peer has a place at this relay.
    pub(super) fn is_served(&self, peer: &PeerId) -> bool {
        #[cfg(feature = "relay-server")]
        return self.swarm.behaviour().relay_server.as_ref().is_some_and(|relay| relay.has(peer));
        #[cfg(not(feature = "relay-server"))]
        {
            let _ = peer;
            false
        }
    }

    /// How many connected peers have one.
    pub(super) fn served(&self) -> usize {
        #[cfg(feature = "relay-server")]
        return self
            .swarm
            .behaviour()
            .relay_server
            .as_ref()
            .map_or(0, |relay| self.links.len().min(relay.holders()));
        #[cfg(not(feature = "relay-server"))]
        0
    }

    /// Reservations and circuits now.
    pub(super) fn places_given(&self) -> [u32; 2] {
        #[cfg(feature = "relay-server")]
        return self.swarm.behaviour().relay_server.as_ref().map_or([0; 2], hop::Behaviour::given);
        #[cfg(not(feature = "relay-server"))]
        [0; 2]
    }

    #[cfg(feature = "relay-server")]
    pub(super) fn on_relay_server(&mut self, event: hop::Event) {
        match event {
            hop::Event::Holds(peer) => {
                log::debug!("{peer} has a place at this relay");
                self.swarm.behaviour_mut().gate.hold(peer);
            }
            hop::Event::Lost(peer) => {
                log::debug!("{peer} has no place at this relay any more");
                self.swarm.behaviour_mut().gate.lose(peer);
            }
        }
    }
}
