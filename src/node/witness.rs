//! What a relay tells two who talk through it: whether it sees the other one where he says that he is.

use std::{net::IpAddr, sync::Arc};

use libp2p::{PeerId, Stream};
use libp2p_stream::{Control, IncomingStreams};

use super::{Node, conversations};
use crate::{limits, nat::witness};

/// Who asks.
pub(super) struct Witness {
    incoming: Option<IncomingStreams>,
    /// Held once more by each answer under way.
    answers: Arc<()>,
}

impl Witness {
    /// Only a relay is asked.
    pub(super) fn new(mut control: Control, is_relay: bool) -> Self {
        let incoming = is_relay.then(|| control.accept(witness::PROTOCOL).ok()).flatten();
        Witness { incoming, answers: Arc::default() }
    }

    /// The next one who asks.
    pub(super) async fn asked(&mut self) -> (PeerId, Stream) {
        conversations::asked(self.incoming.as_mut()).await
    }
}

impl Node {
    /// Answers whether a peer is seen at an address: those who talk with it through this relay.
    pub(super) fn on_witness(&mut self, asker: PeerId, stream: Stream) {
        if Arc::strong_count(&self.witness.answers) > limits::WITNESSED_AT_ONCE {
            return log::debug!("{asker} asks when too many do");
        }
        let under_way = self.witness.answers.clone();
        let relay = self.swarm.behaviour().relay_server.as_ref();
        let talks = |peer: &PeerId| relay.is_some_and(|relay| relay.joins(asker, *peer));
        let seen: Vec<(PeerId, IpAddr)> = self.links.ips(talks).collect();
        let answer = async move {
            let sees = |peer, ip: IpAddr| seen.contains(&(peer, ip.to_canonical()));
            if let Err(e) = witness::answer(stream, sees).await {
                log::debug!("{asker} asks nothing: {e}");
            }
            drop(under_way);
        };
        self.executor.spawn(answer).detach();
    }
}
