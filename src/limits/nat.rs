//! Bounds of reaching and being reached through NATs.

use std::time::Duration;

// ---- relays -------------------------------------------------------------------------------------

/// Reservations of a node that others cannot dial. Unit: relays. One may die.
pub const RESERVATIONS: usize = 2;

/// Relays that are remembered. Unit: relays.
pub const RELAYS: usize = 32;

/// How long a reservation is held before it is asked for anew. Unit: time.
///
/// Relays give an hour by custom; ours give that too. The second try still comes in time.
pub const RELAY_RENEW: Duration = Duration::from_secs(25 * 60);

/// After a relay was lost it is asked again in so long; each time after that is twice as long ...
pub const RELAY_RETRY_FIRST: Duration = Duration::from_secs(1);

/// ... up to this. Unit: time.
pub const RELAY_RETRY_MOST: Duration = Duration::from_secs(5 * 60);

/// Reservations that `warren relay` gives. Unit: reservations, each a connection of about 30 kB.
pub const RELAY_RESERVATIONS: usize = 256;

/// Reservations of one peer. Unit: reservations. A renewal overlaps what it replaces.
pub const RELAY_RESERVATIONS_PER_PEER: usize = 2;

/// How long a reservation lasts. Unit: time. An hour, as everywhere.
pub const RELAY_RESERVATION: Duration = Duration::from_secs(60 * 60);

/// Circuits through `warren relay` at once. Unit: circuits, with up to 16 kB under way in each direction.
pub const RELAY_CIRCUITS: usize = 128;

/// Circuits of one peer, to it and from it. Unit: circuits. A room of eight behind the worst of NATs.
pub const RELAY_CIRCUITS_PER_PEER: usize = 16;

/// How long a circuit lasts. Unit: time. A conversation; who still needs it makes a new one.
pub const RELAY_CIRCUIT: Duration = Duration::from_secs(6 * 60 * 60);

/// Bytes through one circuit, both directions together. Unit: bytes. 100,000 chat messages, but no films.
pub const RELAY_CIRCUIT_BYTES: u64 = 64 * 1024 * 1024;

/// Reservations, and circuits, of one peer that may come at once; and how long one more takes after that.
pub const RELAY_BURST_PER_PEER: u32 = 30;

/// See [`RELAY_BURST_PER_PEER`]. Unit: time.
pub const RELAY_RATE_PER_PEER: Duration = Duration::from_secs(60);

/// The same for all peers of one IP address, behind which may be a home or a quarter of a town.
pub const RELAY_BURST_PER_IP: u32 = 240;

/// See [`RELAY_BURST_PER_IP`]. Unit: time.
pub const RELAY_RATE_PER_IP: Duration = Duration::from_secs(10);

const _: () = assert!(RELAY_CIRCUITS_PER_PEER < RELAY_CIRCUITS && RELAY_BURST_PER_PEER < RELAY_BURST_PER_IP);
const _: () = assert!(2 * RELAY_RENEW.as_secs() < RELAY_RESERVATION.as_secs());

// ---- direct connections ------------------------------------------------------------------------

/// How long the agreement on a direct connection may take. Unit: time. Four messages through a relay.
pub const DCUTR_TIMEOUT: Duration = Duration::from_secs(10);

/// Addresses told in it, and taken from it. Unit: addresses.
pub const DCUTR_ADDRESSES: usize = 8;

/// Bytes of one of its messages. Unit: bytes. As libp2p has it.
pub const DCUTR_MESSAGE_BYTES: usize = 4096;

/// Attempts at a direct connection beside one relayed connection. Unit: attempts.
pub const DCUTR_ATTEMPTS: u32 = 6;

/// Between the first two; each time after that is four times as long. Unit: time.
pub const DCUTR_RETRY: Duration = Duration::from_secs(5);

/// Agreements under way. Unit: agreements, each a stream and a task.
pub const DCUTR_AT_ONCE: usize = 16;

const _: () = assert!(DCUTR_ADDRESSES * (super::ADDRESS_BYTES + 3) + 8 < DCUTR_MESSAGE_BYTES);
