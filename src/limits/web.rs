//! Bounds of the web page and its WebSockets.

use std::time::Duration;

use super::*;

/// WebSockets at once. Who is one too many is told so by status 503.
pub const WEB_CLIENTS: usize = 8;

/// Bytes of events waiting for one WebSocket, by the size of their texts, as for a client of the control socket: about
/// 3,000 chat lines. Together they may hold 8 MB.
pub const WEB_EVENT_BYTES: usize = 1024 * 1024;

/// Bytes of a WebSocket's buffer for what it reads. A message of up to [`LINE_BYTES`] is put together beside it.
pub const WEB_READ_BYTES: usize = 4096;

/// Bytes read from one WebSocket until others have their turn, for [`TURN_REST`]: 16 MB/s.
pub const WEB_TURN_BYTES: usize = 16 * 1024;

/// How long a WebSocket may be silent before it is pinged. A laptop that is shut does not say goodbye.
pub const WEB_PING: Duration = Duration::from_secs(30);

/// How long nothing may come after a ping, before the connection is given up.
pub const WEB_PONG: Duration = Duration::from_secs(30);

/// How long a WebSocket may take for what is written at once, some 32 kB or a long answer. Whoever stands still for
/// longer finds a closed connection.
pub const WEB_WRITE: Duration = Duration::from_secs(60);

/// How long the closing of a WebSocket may take.
pub const WEB_CLOSE: Duration = Duration::from_secs(2);

/// Bytes of the token that is asked for off the loopback interface. 16 would do.
pub const WEB_TOKEN_BYTES: usize = 20;

/// URLs with the token that are printed for a page that listens at all interfaces.
pub const WEB_URLS: usize = 4;

const _: () = assert!(WEB_EVENT_BYTES > 16 * ENVELOPE_BYTES && WEB_TOKEN_BYTES >= 16);
const _: () = assert!(WEB_READ_BYTES <= WEB_TURN_BYTES && WEB_TURN_BYTES < LINE_BYTES);
