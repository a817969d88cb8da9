//! What a relay tells two who talk through it: whether it sees the other one where he says that he is.

use std::net::IpAddr;

use libp2p::{PeerId, Stream};
use libp2p_stream::{Control, IncomingStreams};

use super::{Node, conversations};
use crate::{discovery::scope, limits, nat::witness};

/// Who asks.
pub(super) struct Witness {
    incoming: Option<IncomingStreams>,
    /// A unit for each question that may be answered at once.
    places: (async_channel::Sender<()>, async_channel::Receiver<()>),
}

impl Witness {
    /// Only a relay is asked.
    pub(super) fn new(mut control: Control, is_relay: bool) -> Self {
        let incoming = is_relay.then(|| control.accept(witness::PROTOCOL).ok()).flatten();
        Witness { incoming, places: async_channel::bounded(limits::WITNESSED_AT_ONCE) }
    }

    /// The next one who asks.
    pub(super) async fn asked(&mut self) -> (PeerId, Stream) {
        conversations::asked(self.incoming.as_mut()).await
    }
}

impl Node {
    /// Answers whether a peer is seen at an address: those who talk with it through this relay.
    pub(super) fn on_witness(&mut self, asker: PeerId, stream: Stream) {
        let (place, left) = self.witness.places.clone();
        if place.try_send(()).is_err() {
            return log::debug!("{asker} asks when too many do");
        }
        let relay = self.swarm.behaviour().relay_server.as_ref();
        let talks = |peer: &PeerId| relay.is_some_and(|relay| relay.joins(asker, *peer));
        let seen: Vec<(PeerId, IpAddr)> = self.links.seen_at(talks).collect();
        let answer = async move {
            let sees = |peer, ip: IpAddr| seen.contains(&(peer, ip.to_canonical()));
            if let Err(e) = witness::answer(stream, sees).await {
                log::debug!("{asker} asks nothing: {e}");
            }
            // It was put there above.
            let _ = left.try_recv();
        };
        self.executor.spawn(answer).detach();
    }
}

impl super::links::Links {
    /// From which IP addresses those peers that are meant are connected directly.
    fn seen_at(&self, meant: impl Fn(&PeerId) -> bool) -> impl Iterator<Item = (PeerId, IpAddr)> {
        self.addresses(meant).filter_map(|(peer, addr)| Some((peer, scope::ip_of(addr)?)))
    }
}
