//! libp2p's *AutoNAT v2*: can others dial this node, and at which of its addresses?
//!
//! ```text
//!   client                                      server
//!     DialRequest, address and nonce ───────────▶
//!     ◀─────────────────────── DialDataRequest      only if the address is not where the client is seen:
//!     DialDataResponse, 30 to 100 kB ───────────▶   who has others dialled pays more than they do
//!     ◀═══════════ a connection of its own ═════    from a port that has never sent anything to the client
//!     ◀──────────────── DialBack, the nonce ────
//!     DialBackResponse ═════════════════════════▶
//!     ◀────────────────────────── DialResponse
//! ```
//! Each message is a protobuf behind its length as a varint. Source: libp2p/specs, autonat/autonat-v2.md.
//!
//! What is tested is a NAT or firewall that has seen us talk to the server. From one IP address the server can tell
//! whether it lets in what comes from *another port* of somebody we talk to, not what comes from another address: behind
//! address-dependent filtering (RFC 4787, section 5) an address seems reachable to everybody whom we ask. STUN with a
//! server that has two addresses knows better ([`super::stun`]), and where it does its word counts.
//!
//! - [`client`] decides which address to have tested when and by whom, and what to make of the answers (pure);
//! - [`server`] decides who may have something dialled, and what (pure);
//! - [`talk`] is both sides of the conversation.

pub mod client;
pub mod server;
pub mod talk;
mod wire;

use libp2p::StreamProtocol;

/// A stream on which the client asks. Who can be dialled, and only who can, offers to be asked.
pub const DIAL_REQUEST: StreamProtocol = StreamProtocol::new("/libp2p/autonat/2/dial-request");

/// A stream on which the nonce comes back.
pub const DIAL_BACK: StreamProtocol = StreamProtocol::new("/libp2p/autonat/2/dial-back");
