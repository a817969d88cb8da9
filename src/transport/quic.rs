//! QUIC. So far its security: the [libp2p TLS handshake](tls).

pub mod tls;
