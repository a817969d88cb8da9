//! Two nodes that meet through a relay, and what they say to each other before, while and after the connection
//! becomes direct.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{author, exchange};
use crate::node::{Event, Node, PROMPTLY};

/// From the moment that the way is open until both call the connection direct: attempts that began before have
/// failed by then, and those after them succeeded. Upstream begins anew when its dial has failed, after 5 s; js-libp2p
/// too; warren, whose second attempt takes another warren, 10 s after the first.
const TO_DIRECT: Duration = Duration::from_secs(20);

/// Between two lines that each says while the way changes, and for how long they go on after that.
const PACE: Duration = Duration::from_millis(100);
const LAST_WORDS: Duration = Duration::from_secs(1);

/// All of those must be heard so long after the last of it at the most.
const LATE: Duration = Duration::from_secs(3);

/// How long both may take to hear each other when the relay has ended. Upstream ends without a word to those who are
/// connected over QUIC, who notice after 10 s.
const TO_RESUME: Duration = Duration::from_secs(20);

/// The two, and who they are.
pub(super) struct Pair {
    /// The dialler and the target.
    pub(super) nodes: [Node; 2],
    ids: [String; 2],
}

/// How the connection became direct, and what became of the lines said meanwhile.
pub(super) struct Change {
    /// When the later of the two noticed.
    pub(super) at: Instant,
    /// Where it leads to, at the dialler's end.
    pub(super) addr: String,
    /// Lines of both.
    pub(super) said: usize,
    pub(super) lost: usize,
    pub(super) repeated: usize,
}

impl Pair {
    pub(super) fn new(mut dialler: Node, mut target: Node) -> Result<Self> {
        let ids = [author(&mut dialler)?, author(&mut target)?];
        Ok(Pair { nodes: [dialler, target], ids })
    }

    /// Waits until each has said that it is connected with the other one, which must be through the relay. Returns
    /// when the later of them noticed.
    pub(super) fn are_relayed(&mut self) -> Result<Instant> {
        let mut at = None;
        for (node, peer) in self.nodes.iter_mut().zip([&self.ids[1], &self.ids[0]]) {
            let connected =
                node.wait("peer_connected", PROMPTLY, |event| is_about(event, "peer_connected", peer))?;
            ensure!(connected.str("path") == "relayed", "expected relayed: {connected}");
            at = at.max(Some(connected.at));
        }
        at.context("nobody is there")
    }

    /// Has both say a line every [`PACE`] until a second after both call the connection direct.
    pub(super) fn become_direct(&mut self) -> Result<Change> {
        let deadline = Instant::now() + TO_DIRECT;
        let (mut said, mut ways, mut end) = (0, [None, None], None);
        while end.is_none_or(|end| Instant::now() < end) {
            for (n, node) in self.nodes.iter_mut().enumerate() {
                // The same text of both would be one message.
                node.line(&format!("send line {said} of {n}"))?;
                if ways[n].is_none() && Instant::now() > deadline {
                    bail!("{}", node.complaint("did not call the connection direct in time"));
                }
            }
            said += 1;
            std::thread::sleep(PACE);
            for (n, (node, way)) in self.nodes.iter_mut().zip(&mut ways).enumerate() {
                let peer = &self.ids[1 - n];
                *way = way.take().or_else(|| node.said(|event| is_about(event, "peer_path", peer)));
            }
            if end.is_none() && ways.iter().all(Option::is_some) {
                end = Some(Instant::now() + LAST_WORDS);
            }
        }
        let [Some(ours), Some(theirs)] = ways else { bail!("nobody called the connection direct") };
        for event in [&ours, &theirs] {
            ensure!(event.str("path") == "direct", "expected direct: {event}");
        }
        let (at, addr) = (ours.at.max(theirs.at), ours.str("addr").to_owned());
        let (lost, repeated) = self.count(said);
        Ok(Change { at, addr, said: 2 * said, lost, repeated })
    }

    /// Has both say a line every [`PACE`] until each has heard one of the other. Returns how long that took.
    ///
    /// Gossip may use any of a peer's connections. What it has given to the relayed one when the relay ends is lost.
    pub(super) fn resume(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        let mut heard = [None, None];
        for number in 0.. {
            for (n, node) in self.nodes.iter_mut().enumerate() {
                node.line(&format!("send again {number} of {n}"))?;
                let is_line = |event: &Event| event.is("message") && event.str("text").starts_with("again ");
                heard[n] = heard[n].take().or_else(|| node.said(is_line));
            }
            if begun.elapsed() > TO_RESUME && heard.iter().any(Option::is_none) {
                let [dialler, target] =
                    self.nodes.each_ref().map(|node| node.complaint("was there when the relay ended"));
                bail!("one heard nothing after that:\n    {dialler}\n    {target}");
            }
            if let [Some(ours), Some(theirs)] = &heard {
                return Ok(ours.at.max(theirs.at) - begun);
            }
            std::thread::sleep(PACE);
        }
        bail!("this takes for ever")
    }

    /// How many of the first lines of both were not heard at all, and how many more often than once.
    fn count(&mut self, said: usize) -> (usize, usize) {
        let deadline = Instant::now() + LATE;
        let mut heard = vec![[0; 2]; said];
        loop {
            for (line, counts) in heard.iter_mut().enumerate() {
                for (n, count) in counts.iter_mut().enumerate() {
                    *count += self.nodes[1 - n].messages(&format!("line {line} of {n}")).len();
                }
            }
            let lost = heard.iter().flatten().filter(|count| **count == 0).count();
            if lost == 0 || Instant::now() > deadline {
                return (lost, heard.iter().flatten().map(|count: &usize| count.saturating_sub(1)).sum());
            }
            std::thread::sleep(PACE);
        }
    }

    /// Waits until each knows the other one to be in the room.
    pub(super) fn are_in_the_room(&mut self) -> Result<()> {
        for (node, peer) in self.nodes.iter_mut().zip([&self.ids[1], &self.ids[0]]) {
            node.wait("member_joined", PROMPTLY, |event| is_about(event, "member_joined", peer))?;
        }
        Ok(())
    }

    /// Each says something that the other one hears once.
    pub(super) fn talk(&mut self, occasion: &str) -> Result<()> {
        let [dialler, target] = &mut self.nodes;
        exchange(dialler, &self.ids[0], target, occasion)?;
        exchange(target, &self.ids[1], dialler, occasion)
    }

    /// Neither has said that the connection is another one.
    pub(super) fn stay_relayed(&mut self) -> Result<()> {
        let told = self.nodes.iter_mut().find_map(|node| node.said(|event| event.is("peer_path")));
        told.map_or(Ok(()), |event| bail!("the way changed: {event}"))
    }
}

fn is_about(event: &Event, name: &str, peer: &str) -> bool {
    event.is(name) && event.str("peerId") == peer
}
