//! Whether others can dial this node: it asks those who dial back, and is one of them if it can be dialled itself.
//!
//! What others can dial is published, and what they cannot is not ([`Node::own_addresses`]). A node that everybody can
//! dial needs no place at a relay and serves the DHT; before anybody has said anything all is as without this.

use std::{collections::BTreeSet, net::IpAddr, time::Instant};

use async_channel::{Receiver, Sender};
use libp2p::{
    Multiaddr, PeerId, Stream, Transport as _,
    core::{
        Endpoint,
        transport::{DialOpts, PortUse},
    },
    identify,
};
use libp2p_stream::{Control, IncomingStreams};

use super::{Node, api::Event, conversations, jitter};
use crate::{
    config::Config,
    discovery::scope::{self, Networks},
    limits,
    nat::autonat::{
        DIAL_BACK, DIAL_REQUEST,
        client::{Ask, Client, Outcome, Verdict},
        server::{Server, Terms},
        talk::{self, Request},
    },
    transport::{self, Authenticated, Carriers},
    within::within,
};

/// Both sides of AutoNAT.
pub(super) struct AutoNat {
    control: Control,
    client: Client,
    /// Questions under way, and what has come back.
    pending: Vec<Pending>,
    /// Who has come in by what way since the first of them.
    arrivals: Vec<(PeerId, Way)>,
    /// Those who bring a nonce.
    backs: IncomingStreams,
    /// Streams on which a nonce is read or confirmed.
    reading: usize,
    /// Addresses of the router that lead here.
    mapped: Vec<Multiaddr>,
    /// Those that the operator has told are not in question.
    told: Vec<Multiaddr>,
    /// Those that were found good and are published.
    confirmed: Vec<Multiaddr>,
    listening: BTreeSet<IpAddr>,
    /// There may be other addresses than there were.
    is_stale: bool,
    /// What the faces know.
    published: Verdict,
    /// When it will have been so for long enough to do without relays.
    sure_at: Option<Instant>,
    is_sure: bool,
    server: Server,
    /// Those who ask us, while we serve.
    requests: Option<IncomingStreams>,
    /// Streams on which somebody is told that there is no time.
    rejecting: usize,
    /// Dials from new ports. Made for the first who asks.
    dialler: Option<Authenticated>,
    carriers: Carriers,
    tell: Sender<News>,
    news: Receiver<News>,
}

/// A question to which there is no answer yet.
struct Pending {
    ask: Ask,
    nonce: u64,
    /// The nonce has come back, as it should.
    is_back: bool,
}

/// What a connection is made of, as far as a test can tell.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Way {
    is_quic: bool,
    is_ipv4: bool,
}

impl Way {
    /// `None`: through a relay.
    fn of(addr: &Multiaddr) -> Option<Self> {
        scope::ip_of(addr).map(|ip| Way { is_quic: scope::is_quic(addr), is_ipv4: ip.is_ipv4() })
    }
}

/// What came of a conversation.
pub(super) enum News {
    Answered { ask: Ask, nonce: u64, outcome: Outcome, paid: u32 },
    Heard(PeerId, Option<(u64, Stream)>),
    Confirmed,
    Wanted(PeerId, Option<Request<Stream>>),
    Served(PeerId),
    Rejected,
}

/// Something for the node to do.
pub(super) enum Turn {
    Asked(PeerId, Stream),
    Back(PeerId, Stream),
    News(News),
}

impl AutoNat {
    pub(super) fn new(config: &Config, mut control: Control) -> Option<Self> {
        let backs = control.accept(DIAL_BACK).ok()?;
        let (tell, news) = async_channel::bounded(limits::AUTONAT_SERVING);
        Some(AutoNat {
            control,
            client: Client::default(),
            pending: Vec::new(),
            arrivals: Vec::new(),
            backs,
            reading: 0,
            mapped: Vec::new(),
            told: config.external.clone(),
            confirmed: Vec::new(),
            listening: BTreeSet::new(),
            is_stale: true,
            published: Verdict::Unknown,
            sure_at: None,
            is_sure: false,
            server: Server::default(),
            requests: None,
            rejecting: 0,
            dialler: None,
            carriers: config.carriers,
            tell,
            news,
        })
    }

    /// What was said last of whether others can dial this node.
    pub(super) fn verdict(&self) -> Verdict {
        self.published
    }

    /// The next thing to do.
    pub(super) async fn turn(&mut self) -> Turn {
        let Self { backs, requests, news, .. } = self;
        let back = async {
            let (peer, stream) = conversations::asked(Some(backs)).await;
            Turn::Back(peer, stream)
        };
        let asked = async {
            let (peer, stream) = conversations::asked(requests.as_mut()).await;
            Turn::Asked(peer, stream)
        };
        let news = async { Turn::News(conversations::result(news).await) };
        smol::future::or(news, smol::future::or(back, asked)).await
    }

    /// When [`Node::keep_reachable`] has something to do.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.client.next_due().into_iter().chain(self.sure_at).min()
    }

    /// There may be other addresses than there were.
    pub(super) fn addresses_changed(&mut self) {
        self.is_stale = true;
    }

    /// The router leads an address here.
    #[cfg(feature = "portmap")]
    pub(super) fn mapped(&mut self, addr: Multiaddr) {
        self.mapped.push(addr);
        self.mapped.truncate(limits::PORTMAP_MAPPINGS);
        self.is_stale = true;
    }

    /// It does so no longer.
    #[cfg(feature = "portmap")]
    pub(super) fn unmapped(&mut self, addr: &Multiaddr) {
        self.mapped.retain(|other| other != addr);
        self.is_stale = true;
    }

    /// The addresses at which this node listens. If they are other ones, it is in another network, perhaps.
    pub(super) fn look_around(&mut self, listening: BTreeSet<IpAddr>, now: Instant) {
        if self.listening != listening {
            self.listening = listening;
            self.client.shaken(now);
        }
        self.is_stale = true;
    }

    /// Somebody came through a relay although he knows where we can be dialled.
    pub(super) fn doubt(&mut self, now: Instant) {
        self.client.doubt(now);
    }

    pub(super) fn gone(&mut self, peer: &PeerId) {
        self.client.gone(peer);
    }

    /// Whether others were found to be able to dial this node, and for long enough.
    pub(super) fn is_surely_reachable(&self) -> bool {
        self.is_sure
    }

    /// Whether it was found that not everybody can dial this node.
    #[cfg(feature = "kad")]
    pub(super) fn is_found_private(&self) -> bool {
        matches!(self.published, Verdict::Unreachable | Verdict::Partly)
    }

    /// Whether an address was found not to lead here.
    pub(super) fn leads_nowhere(&self, addr: &Multiaddr) -> bool {
        self.client.is_reachable(addr) == Some(false)
    }

    /// Somebody has dialled us. Returns whether he was asked to.
    pub(super) fn came_in(&mut self, peer: PeerId, addr: &Multiaddr) -> bool {
        if let Some(way) = Way::of(addr).filter(|_| !self.pending.is_empty()) {
            if self.arrivals.len() >= limits::AUTONAT_SERVERS {
                self.arrivals.remove(0);
            }
            self.arrivals.push((peer, way));
        }
        self.pending.iter().any(|pending| pending.ask.server == peer)
    }

    /// Somebody brings a nonce. Whether it is one that we wait for, and he came by the way that was asked about: over a
    /// connection that he did not have to dial, everybody could say that he has.
    fn is_expected(&mut self, peer: PeerId, nonce: u64) -> bool {
        let Self { pending, arrivals, .. } = self;
        let expected = pending.iter_mut().find(|pending| pending.nonce == nonce && !pending.is_back);
        let Some(expected) = expected else { return false };
        let way = Way::of(&expected.ask.addr);
        expected.is_back = arrivals.iter().any(|(other, by)| *other == peer && Some(*by) == way);
        expected.is_back
    }
}

impl Node {
    /// Asks what is to be asked, and serves others while this node is of use to them.
    pub(super) fn keep_reachable(&mut self, now: Instant) {
        if std::mem::take(&mut self.autonat.is_stale) {
            let candidates = self.candidates();
            self.autonat.client.offer(candidates, now);
        }
        if self.autonat.sure_at.is_some_and(|at| at <= now) {
            self.autonat.sure_at = None;
            self.autonat.is_sure = true;
        }
        while let Some(ask) = self.autonat.client.next(now, jitter()) {
            self.ask_for_dial(ask);
        }
        if self.autonat.client.take_news() {
            self.take_in_verdict(now);
        }
        let is_of_use = self.is_relay || self.is_external || self.autonat.published == Verdict::Reachable;
        if is_of_use != self.autonat.requests.is_some() {
            self.autonat.requests = match is_of_use {
                true => self.autonat.control.accept(DIAL_REQUEST).ok(),
                false => None,
            };
        }
    }

    pub(super) fn on_autonat(&mut self, turn: Turn) {
        match turn {
            Turn::Asked(peer, stream) => self.on_dial_request(peer, stream),
            Turn::Back(peer, mut stream) => {
                if !self.autonat.pending.is_empty() && self.autonat.reading < limits::AUTONAT_BACKS {
                    self.autonat.reading += 1;
                    self.tell_autonat(async move {
                        let heard = async { talk::hear(&mut stream).await.ok() };
                        let nonce = within(limits::AUTONAT_HANDOVER, heard).await.flatten();
                        News::Heard(peer, nonce.map(|nonce| (nonce, stream)))
                    });
                }
            }
            Turn::News(News::Heard(peer, heard)) => {
                self.autonat.reading -= 1;
                if let Some((nonce, stream)) = heard
                    && self.autonat.is_expected(peer, nonce)
                {
                    self.autonat.reading += 1;
                    self.tell_autonat(async move {
                        // Whether that arrives is for the server to say.
                        within(limits::AUTONAT_HANDOVER, talk::confirm(stream)).await;
                        News::Confirmed
                    });
                }
            }
            Turn::News(News::Confirmed) => self.autonat.reading -= 1,
            Turn::News(News::Answered { ask, nonce, outcome, paid }) => {
                self.on_answer(&ask, nonce, outcome, paid)
            }
            Turn::News(News::Wanted(peer, None)) | Turn::News(News::Served(peer)) => {
                self.autonat.server.done(&peer);
            }
            Turn::News(News::Wanted(peer, Some(request))) => self.dial_for(peer, request),
            Turn::News(News::Rejected) => self.autonat.rejecting -= 1,
        }
    }

    /// What a connected peer says of itself: whether it dials others back.
    pub(super) fn offered_dial_backs(&mut self, peer: PeerId, info: &identify::Info, now: Instant) {
        let ip = self.links.ips(|other| *other == peer).next().map(|(_, ip)| ip);
        // Some do so on connections of one direction only and say so on each; who does not any more fails to answer.
        if let Some(ip) = ip.filter(|_| info.protocols.contains(&DIAL_REQUEST)) {
            self.autonat.client.server(peer, ip, now);
        }
    }

    fn ask_for_dial(&mut self, ask: Ask) {
        // That it is not guessed matters little: the one who could gain by it is the one who is told.
        let nonce = fastrand::u64(..);
        log::debug!("asking {} whether it can dial {}", ask.server, ask.addr);
        self.autonat.pending.push(Pending { ask: ask.clone(), nonce, is_back: false });
        let mut control = self.autonat.control.clone();
        self.tell_autonat(async move {
            let asked = async {
                let stream = control.open_stream(ask.server, DIAL_REQUEST).await.ok()?;
                Some(talk::ask(stream, &ask.addr, nonce, ask.allowance).await)
            };
            // Who is late has been paid for all that we know.
            let (outcome, paid) = within(limits::AUTONAT_ASK, asked)
                .await
                .flatten()
                .unwrap_or((Outcome::Failed, ask.allowance));
            News::Answered { ask, nonce, outcome, paid }
        });
    }

    fn on_answer(&mut self, ask: &Ask, nonce: u64, outcome: Outcome, paid: u32) {
        let pending = &mut self.autonat.pending;
        let index = pending.iter().position(|pending| pending.nonce == nonce);
        let is_back = index.is_some_and(|index| pending.swap_remove(index).is_back);
        if pending.is_empty() {
            self.autonat.arrivals.clear();
        }
        let outcome = match outcome {
            Outcome::Reached if !is_back => Outcome::Lied,
            Outcome::Reached if self.is_for_acquaintances(&ask.addr) => Outcome::Unreached,
            other => other,
        };
        log::debug!("{} on {}: {outcome:?}, for {paid} bytes", ask.server, ask.addr);
        self.autonat.client.answered(ask, outcome, paid, Instant::now(), jitter());
    }

    /// Whether STUN knows that only those are let in there whom we have sent something. Who dials us back is one.
    fn is_for_acquaintances(&self, addr: &Multiaddr) -> bool {
        #[cfg(feature = "stun")]
        return self.outside.is_for_acquaintances(addr);
        #[cfg(not(feature = "stun"))]
        {
            let _ = addr;
            false
        }
    }

    /// Makes true what was found.
    fn take_in_verdict(&mut self, now: Instant) {
        let reachable: Vec<Multiaddr> = self.autonat.client.reachable().cloned().collect();
        let before = std::mem::replace(&mut self.autonat.confirmed, reachable.clone());
        let news: Vec<_> = reachable.iter().filter(|addr| !before.contains(addr)).cloned().collect();
        let external: Vec<&Multiaddr> = self.swarm.external_addresses().collect();
        let is_bad = |addr: &&Multiaddr| {
            let was_good = before.contains(addr) && !reachable.contains(addr);
            // Of a relay the operator says where it is.
            !self.is_relay && external.contains(addr) && (was_good || self.autonat.leads_nowhere(addr))
        };
        let bad: Vec<Multiaddr> = before.iter().chain(&self.autonat.mapped).filter(is_bad).cloned().collect();
        for addr in &news {
            log::info!("others can reach this node at {addr}");
            self.swarm.add_external_address(addr.clone());
        }
        for addr in &bad {
            log::info!("others cannot reach this node at {addr}");
            self.swarm.remove_external_address(addr);
        }
        let verdict = self.autonat.client.verdict();
        if verdict != self.autonat.published {
            self.on_verdict(verdict, reachable, now);
        } else if news.is_empty() && bad.is_empty() {
            return;
        }
        self.moved(now);
    }

    fn on_verdict(&mut self, verdict: Verdict, addrs: Vec<Multiaddr>, now: Instant) {
        match verdict {
            // That is what it is there for.
            Verdict::Unreachable if self.is_relay => {
                log::warn!("nobody can dial this relay: let the router or firewall lead its port here");
            }
            _ => log::info!("{}", verdict.sentence()),
        }
        self.autonat.published = verdict;
        self.autonat.is_sure = false;
        self.autonat.sure_at = (verdict == Verdict::Reachable).then_some(now + limits::AUTONAT_SURE);
        #[cfg(feature = "kad")]
        if let Some(kad) = self.swarm.behaviour_mut().kad.as_mut()
            && !self.is_relay
            && verdict != Verdict::Unknown
        {
            kad.set_server(self.is_external || verdict == Verdict::Reachable);
        }
        self.feed.publish(Event::Reachability { verdict, addrs });
    }

    /// Addresses that may be dialled from outside, the most likely first: those that mean the same to everybody. On a
    /// machine that is a world of its own its loopback addresses are such.
    fn candidates(&self) -> Vec<Multiaddr> {
        let networks = self.company.book.networks();
        let is_public = |addr: &&Multiaddr| {
            let is_loopback = scope::ip_of(addr).is_some_and(|ip| ip.is_loopback());
            let may = Networks::default().may_dial(addr) || is_loopback && networks.may_dial(addr);
            may && !scope::is_circuit(addr) && !self.autonat.told.contains(addr)
        };
        let mapped = self.autonat.mapped.iter();
        let all = mapped.chain(self.swarm.listeners()).chain(self.holes.observed());
        all.filter(is_public).cloned().collect()
    }

    fn on_dial_request(&mut self, peer: PeerId, stream: Stream) {
        let observed: Vec<IpAddr> = self.links.ips(|other| *other == peer).map(|(_, ip)| ip).collect();
        let is_admitted =
            observed.first().is_some_and(|ip| self.autonat.server.admit(peer, *ip, Instant::now()));
        if is_admitted {
            let networks = self.company.book.networks().clone();
            let terms = Terms { asker: peer, observed, networks };
            let price = fastrand::u32(limits::AUTONAT_DATA_LEAST..=limits::AUTONAT_DATA_MOST);
            self.tell_autonat(async move {
                let received = async { Request::receive(stream, &terms, price).await.ok()? };
                News::Wanted(peer, within(limits::AUTONAT_RECEIVE, received).await.flatten())
            });
        } else if self.autonat.rejecting < limits::AUTONAT_SERVING {
            self.autonat.rejecting += 1;
            self.tell_autonat(async move {
                // Who does not want to hear it need not.
                within(limits::AUTONAT_HANDOVER, talk::reject(stream)).await;
                News::Rejected
            });
        }
    }

    /// Dials what somebody wants dialled, from a port that it has never heard of: its NAT may know all others.
    fn dial_for(&mut self, peer: PeerId, request: Request<Stream>) {
        let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let addr = request.addr().clone();
        let dial = self.dialler().map(|dialler| dialler.dial(addr.clone(), opts));
        let Some(Ok(dial)) = dial else {
            log::debug!("{peer} wants to be dialled at {addr}, for which there is no transport");
            return self.autonat.server.done(&peer);
        };
        self.tell_autonat(async move {
            match request.carry_out(peer, dial).await {
                Ok(is_reached) => log::debug!("{peer} was dialled at {addr}; reached: {is_reached}"),
                Err(e) => log::debug!("{peer} does not hear what came of dialling {addr}: {e}"),
            }
            News::Served(peer)
        });
    }

    fn dialler(&mut self) -> Option<&mut Authenticated> {
        if self.autonat.dialler.is_none() {
            let made = transport::beside(&self.key, self.autonat.carriers);
            let (dialler, driver) =
                made.inspect_err(|e| log::warn!("nobody can be dialled back: {e}")).ok()?;
            self.executor.spawn(driver).detach();
            self.autonat.dialler = Some(dialler);
        }
        self.autonat.dialler.as_mut()
    }

    fn tell_autonat(&self, part: impl Future<Output = News> + Send + 'static) {
        let tell = self.autonat.tell.clone();
        let told = async move {
            // The node may have ended.
            let _ = tell.send(part.await).await;
        };
        self.executor.spawn(told).detach();
    }
}
