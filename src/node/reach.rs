//! How others reach this node: at relays, where nobody can dial it.

use std::time::Instant;

use libp2p::{Multiaddr, PeerId, core::transport::ListenerId, identify, multiaddr::Protocol};

use super::{Node, api::NatInfo, jitter};
#[cfg(feature = "stun")]
use crate::nat::meaning::Meaning;
use crate::{
    discovery::scope,
    limits,
    nat::{circuit, relays::Action},
};

impl Node {
    /// What is known of how this node stands to the world outside.
    pub(super) fn nat_now(&self) -> NatInfo {
        NatInfo {
            #[cfg(feature = "stun")]
            nats: self.outside.verdicts.values().map(Meaning::of).collect(),
            #[cfg(feature = "autonat")]
            verdict: self.autonat.verdict(),
            relays: self.relays.held().collect(),
        }
    }

    /// Asks for the reservations that are due.
    pub(super) fn keep_reservations(&mut self, now: Instant) {
        self.relays.want(if self.is_public() { 0 } else { limits::RESERVATIONS });
        while let Some(action) = self.relays.next(now) {
            match action {
                Action::Ask(peer, addr) => {
                    match self.swarm.listen_on(addr.clone().with(Protocol::P2pCircuit)) {
                        Ok(listener) => self.relays.asked(&peer, listener),
                        Err(e) => {
                            log::warn!("the relay at {addr} cannot be used: {e}");
                            self.relays.refused(&peer, now, jitter());
                        }
                    }
                }
                Action::Renew(listener) => self.swarm.behaviour_mut().circuits.renew(listener),
                // It may be closed already.
                Action::Close(listener) => drop(self.swarm.remove_listener(listener)),
            }
        }
    }

    pub(super) fn on_circuit(&mut self, event: circuit::Event) {
        let now = Instant::now();
        match event {
            circuit::Event::Granted { relay, lifetime, is_renewal } => {
                self.relays.accepted(&relay, lifetime, now);
                #[cfg(feature = "stun")]
                self.ask_peers_for_stun();
                if !is_renewal {
                    log::info!("others can reach this node through the relay {relay}");
                }
            }
            circuit::Event::NotRenewed { listener, error } => {
                log::info!("a relay does not hold our place for longer: {error}");
                self.relays.not_renewed(listener, now);
            }
        }
    }

    /// A listener is closed; it may have been one at a relay.
    pub(super) fn listener_closed(&mut self, listener: ListenerId) -> bool {
        match self.relays.closed(listener, Instant::now(), jitter()) {
            Some((peer, delay)) => {
                log::info!("no place at the relay {peer}, next try in {:.0} s", delay.as_secs_f64());
                true
            }
            None => false,
        }
    }

    /// A connected peer offers to be a relay.
    pub(super) fn offered_relay(&mut self, peer: PeerId, info: &identify::Info, now: Instant) {
        if !info.protocols.contains(&circuit::HOP) {
            return;
        }
        let told = info.listen_addrs.iter().filter(|addr| self.company.book.networks().may_dial(addr));
        let addr = self.links.dialled(&peer).or(told.into_iter().next());
        if let Some(addr) = addr.filter(|addr| !scope::is_circuit(addr)).cloned()
            && let Ok(addr) = addr.with_p2p(peer)
        {
            self.relays.found(peer, addr, now);
        }
    }

    /// Others are told of a relay by its addresses, so whoever runs one says by that: here it can be dialled.
    pub(super) fn tell_as_relay(&mut self, addr: &Multiaddr) {
        let is_loopback = scope::ip_of(addr).is_some_and(|ip| ip.is_loopback());
        if self.is_relay && (!is_loopback || self.company.book.networks().may_dial(addr)) {
            self.swarm.add_external_address(addr.clone());
        }
    }

    /// Whether anybody can dial this node: the operator has said so, or others have tried it. A port that the router
    /// opened is a good sign, but until somebody has tried it a place at a relay costs little.
    fn is_public(&self) -> bool {
        #[cfg(feature = "autonat")]
        if self.autonat.is_surely_reachable() {
            return true;
        }
        self.is_relay || self.is_external
    }
}
