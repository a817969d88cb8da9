//! What is worth handing to quinn-proto, which copies a datagram before it looks at it.

use quinn_proto::{ConnectionId, ConnectionIdGenerator, HashedConnectionIdGenerator};

use crate::transport::quic::config::Keys;

/// RFC 9000, section 14.1: datagrams that begin a connection have at least this many bytes.
const INITIAL_BYTES: usize = 1200;

/// RFC 9000, section 10.3: anything shorter than a stateless reset is nothing.
const SHORTEST: usize = 21;

/// Bytes of a connection id of ours.
const ID_BYTES: usize = 8;

/// Tells noise from what could be QUIC for us, by the version-independent header (RFC 8999) alone. Our
/// connection ids carry a keyed hash of 40 bits, so that noise is told from packets of a connection of which
/// nothing is known any more (a restarted node) as well: those deserve a stateless reset.
pub(super) struct Filter(HashedConnectionIdGenerator);

impl Filter {
    pub(super) fn new(keys: &Keys) -> Self {
        Filter(keys.connection_ids())
    }

    /// `is_known` says whether there is a connection with the sender: a stateless reset has no connection id.
    pub(super) fn is_plausible(&self, bytes: &[u8], is_known: impl FnOnce() -> bool) -> bool {
        if bytes.len() < SHORTEST {
            return false;
        }
        match bytes[0] & 0x80 {
            // A short header: the connection id follows, in the length that we give to them.
            0 => self.is_ours(&bytes[1..=ID_BYTES]) || is_known(),
            // A long one: version (4 bytes), length of the id (1 byte), id. Whoever begins a connection, or
            // asks for versions, chooses the id; everyone else has ours.
            _ => bytes.len() >= INITIAL_BYTES || long_id(bytes).is_some_and(|id| self.is_ours(id)),
        }
    }

    fn is_ours(&self, id: &[u8]) -> bool {
        id.len() == ID_BYTES && self.0.validate(&ConnectionId::new(id)).is_ok()
    }
}

fn long_id(bytes: &[u8]) -> Option<&[u8]> {
    let len = usize::from(*bytes.get(5)?);
    bytes.get(6..6 + len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter() -> (Filter, Vec<u8>) {
        let keys = Keys::from_seed(1);
        let id = keys.connection_ids().generate_cid();
        (Filter::new(&keys), id.to_vec())
    }

    fn short(id: &[u8], len: usize) -> Vec<u8> {
        let mut bytes = [&[0x40], id].concat();
        bytes.resize(len, 7);
        bytes
    }

    fn long(id: &[u8], len: usize) -> Vec<u8> {
        let mut bytes = [&[0xc0, 0, 0, 0, 1, id.len() as u8], id].concat();
        bytes.resize(len, 7);
        bytes
    }

    #[test]
    fn what_carries_our_connection_id_passes() {
        let (filter, id) = filter();
        assert!(filter.is_plausible(&short(&id, 21), || false));
        assert!(filter.is_plausible(&long(&id, 50), || false));
    }

    #[test]
    fn noise_does_not() {
        let (filter, id) = filter();
        let mut foreign = id.clone();
        foreign[7] ^= 1;
        assert!(!filter.is_plausible(&short(&foreign, 100), || false));
        assert!(!filter.is_plausible(&long(&foreign, 1199), || false));
        assert!(!filter.is_plausible(&long(&id[..7], 100), || false));
        assert!(!filter.is_plausible(&short(&id, 20), || true));
        assert!(!filter.is_plausible(&[], || true));
    }

    #[test]
    fn a_peer_may_send_a_stateless_reset() {
        let (filter, id) = filter();
        let mut foreign = id;
        foreign[7] ^= 1;
        assert!(filter.is_plausible(&short(&foreign, 21), || true));
    }

    #[test]
    fn a_handshake_may_begin_with_any_id() {
        let (filter, _) = filter();
        assert!(filter.is_plausible(&long(&[9; 20], 1200), || false));
    }
}
