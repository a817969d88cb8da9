//! One dial of one address with names in it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, poll_fn},
    stream::FuturesUnordered,
};
use futures_timer::Delay;
use libp2p::{
    Multiaddr, Transport,
    core::transport::{DialOpts, TransportError},
    multiaddr::Protocol,
};

use super::{
    Error,
    resolver::{Family, Resolver},
};
use crate::limits;

/// Resolves names and dials what they stand for, both at once: an address is dialled as soon as it is known,
/// and while one does not answer the next is tried beside it. The first connection wins.
pub(super) struct Attempt<T: Transport> {
    /// What the caller wants to reach.
    addr: Multiaddr,
    opts: DialOpts,
    transport: Arc<Mutex<T>>,
    resolver: Resolver,
    /// Addresses with a name in them, to be looked up.
    names: VecDeque<Multiaddr>,
    /// Addresses without, to be dialled.
    targets: VecDeque<Multiaddr>,
    lookups: FuturesUnordered<Lookup<T::Error>>,
    dials: FuturesUnordered<T::Dial>,
    lookups_left: usize,
    dials_left: usize,
    /// The head start of the latest dial, while it lasts.
    head_start: Option<Delay>,
    /// What went wrong so far; no longer than lookups and targets together.
    causes: Vec<Error<T::Error>>,
}

type Lookup<E> = BoxFuture<'static, Result<Vec<Multiaddr>, Error<E>>>;

enum Step<T: Transport> {
    LookedUp(Result<Vec<Multiaddr>, Error<T::Error>>),
    Dialled(Result<T::Output, T::Error>),
    /// The latest dial had its head start.
    NextDial,
    /// Nothing is left to wait for.
    Exhausted,
}

impl<T> Attempt<T>
where
    T: Transport + 'static,
    T::Error: Send,
{
    pub(super) fn new(addr: Multiaddr, opts: DialOpts, transport: Arc<Mutex<T>>, resolver: Resolver) -> Self {
        Attempt {
            names: [addr.clone()].into(),
            addr,
            opts,
            transport,
            resolver,
            targets: VecDeque::new(),
            lookups: FuturesUnordered::new(),
            dials: FuturesUnordered::new(),
            lookups_left: limits::DNS_LOOKUPS,
            dials_left: limits::DNS_DIALS,
            head_start: None,
            causes: Vec::new(),
        }
    }

    /// Dropping the future closes all sockets, those of the losers too.
    pub(super) async fn run(mut self) -> Result<T::Output, Error<T::Error>> {
        loop {
            self.start_lookups();
            self.start_dial();
            match poll_fn(|cx| self.poll(cx)).await {
                Step::LookedUp(Ok(mut addrs)) => {
                    // QUIC first, as everywhere; otherwise in the order of the answer.
                    addrs.sort_by_key(|addr| !addr.iter().any(|part| part == Protocol::QuicV1));
                    let (names, targets): (Vec<_>, _) = addrs.into_iter().partition(has_name);
                    self.names.extend(names);
                    self.targets.extend(targets);
                }
                Step::LookedUp(Err(cause)) => self.causes.push(cause),
                Step::Dialled(Ok(connection)) => return Ok(connection),
                Step::Dialled(Err(cause)) => {
                    log::debug!("dialling {}: {cause}", self.addr);
                    self.causes.push(Error::Transport(cause));
                    self.head_start = None;
                }
                Step::NextDial => self.head_start = None,
                Step::Exhausted => {
                    return Err(Error::Unreachable { addr: self.addr, causes: self.causes });
                }
            }
        }
    }

    fn start_lookups(&mut self) {
        while self.lookups.len() < limits::DNS_LOOKUPS_AT_ONCE {
            let Some(addr) = self.names.pop_front() else { return };
            if self.lookups_left == 0 {
                self.names.clear();
                self.causes.push(Error::TooManyLookups { addr });
                return;
            }
            self.lookups_left -= 1;
            let resolver = self.resolver.clone();
            self.lookups.push(async move { look_up(&resolver, &addr).await }.boxed());
        }
    }

    fn start_dial(&mut self) {
        while self.head_start.is_none() {
            let Some(addr) = self.targets.pop_front() else { return };
            if self.dials_left == 0 {
                self.targets.clear();
                return;
            }
            // The lock is held for this call only; a panic in there leaves nothing half done for us.
            let dial = self.transport.lock().unwrap_or_else(PoisonError::into_inner).dial(addr, self.opts);
            match dial {
                Ok(dial) => {
                    self.dials_left -= 1;
                    self.dials.push(dial);
                    self.head_start = Some(Delay::new(limits::DNS_DIAL_STAGGER));
                }
                Err(TransportError::MultiaddrNotSupported(addr)) => {
                    self.causes.push(Error::NotSupported(addr));
                }
                Err(TransportError::Other(cause)) => self.causes.push(Error::Transport(cause)),
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step<T>> {
        if let Poll::Ready(Some(result)) = self.dials.poll_next_unpin(cx) {
            return Poll::Ready(Step::Dialled(result));
        }
        if let Poll::Ready(Some(result)) = self.lookups.poll_next_unpin(cx) {
            return Poll::Ready(Step::LookedUp(result));
        }
        if self.targets.is_empty() {
            let exhausted = self.lookups.is_empty() && self.dials.is_empty();
            return if exhausted { Poll::Ready(Step::Exhausted) } else { Poll::Pending };
        }
        match &mut self.head_start {
            Some(head_start) => head_start.poll_unpin(cx).map(|()| Step::NextDial),
            None => Poll::Ready(Step::NextDial),
        }
    }
}

/// Whether there is something to resolve in an address.
pub(super) fn has_name(addr: &Multiaddr) -> bool {
    addr.iter().any(|part| is_name(&part))
}

fn is_name(part: &Protocol<'_>) -> bool {
    matches!(part, Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_))
}

/// The addresses that result from resolving the first name in `addr`. They may hold more names.
async fn look_up<E>(resolver: &Resolver, addr: &Multiaddr) -> Result<Vec<Multiaddr>, Error<E>> {
    let Some((index, part)) = addr.iter().enumerate().find(|(_, part)| is_name(part)) else {
        return Ok(vec![addr.clone()]);
    };
    let (name, family) = match &part {
        Protocol::Dns4(name) => (name, Family::V4),
        Protocol::Dns6(name) => (name, Family::V6),
        Protocol::Dnsaddr(name) => {
            let texts = resolver.texts(&format!("_dnsaddr.{name}")).await.map_err(Error::Lookup)?;
            let matching = matching(addr, index, &texts);
            return if matching.is_empty() {
                Err(Error::NoMatch { addr: addr.clone() })
            } else {
                Ok(matching)
            };
        }
        // `is_name` leaves no other.
        Protocol::Dns(name) => (name, Family::Any),
        _ => return Ok(vec![addr.clone()]),
    };
    let ips = resolver.addresses(name, family).await.map_err(Error::Lookup)?;
    Ok(ips.into_iter().filter_map(|ip| addr.replace(index, |_| Some(ip.into()))).collect())
}

/// The addresses in TXT records (`dnsaddr=ADDRESS`) that can stand for the `/dnsaddr` at `index`: those that
/// end with what comes after it, such as the id of the wanted peer.
///
/// See <https://github.com/multiformats/multiaddr/blob/master/protocols/DNSADDR.md>.
fn matching(addr: &Multiaddr, index: usize, texts: &[String]) -> Vec<Multiaddr> {
    let parts: Vec<_> = addr.iter().collect();
    let (before, after) = (&parts[..index], &parts[index + 1..]);
    texts
        .iter()
        .filter_map(|text| text.strip_prefix("dnsaddr=")?.parse::<Multiaddr>().ok())
        .filter(|entry| entry.iter().collect::<Vec<_>>().ends_with(after))
        .take(limits::DNS_ADDRESSES)
        .map(|entry| before.iter().cloned().chain(entry.iter()).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    const OTHER: &str = "/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";

    fn found(addr: &str, texts: &[String]) -> Vec<String> {
        let addr: Multiaddr = addr.parse().expect("a multiaddr");
        let index = addr.iter().position(|part| is_name(&part)).expect("a name");
        matching(&addr, index, texts).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn records_match_whole_components_at_the_end() {
        let texts = [
            format!("dnsaddr=/ip4/192.0.2.1/tcp/4001{PEER}"),
            format!("dnsaddr=/ip4/192.0.2.2/tcp/4001{OTHER}"),
            format!("dnsaddr=/dnsaddr/more.example{PEER}"),
            format!("/ip4/192.0.2.3/tcp/4001{PEER}"),
            "dnsaddr=nonsense".to_owned(),
            "v=spf1 -all".to_owned(),
        ];
        let peer = [format!("/ip4/192.0.2.1/tcp/4001{PEER}"), format!("/dnsaddr/more.example{PEER}")];
        assert_eq!(found(&format!("/dnsaddr/example.org{PEER}"), &texts), peer);
        assert_eq!(found("/dnsaddr/example.org", &texts).len(), 3);
        assert!(found("/dnsaddr/example.org/tcp/4001", &texts).is_empty());
    }

    #[test]
    fn what_comes_before_the_name_stays() {
        let texts = [format!("dnsaddr=/ip4/192.0.2.1/tcp/1{OTHER}")];
        let addr = format!("/ip4/192.0.2.9/tcp/9{PEER}/p2p-circuit/dnsaddr/example.org");
        assert_eq!(
            found(&addr, &texts),
            [format!("/ip4/192.0.2.9/tcp/9{PEER}/p2p-circuit/ip4/192.0.2.1/tcp/1{OTHER}")]
        );
    }

    #[test]
    fn matching_records_are_bounded() {
        let texts = vec!["dnsaddr=/ip4/192.0.2.1/tcp/1".to_owned(); 2 * limits::DNS_ADDRESSES];
        assert_eq!(found("/dnsaddr/example.org", &texts).len(), limits::DNS_ADDRESSES);
    }
}
