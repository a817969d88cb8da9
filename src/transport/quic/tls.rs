//! The libp2p TLS handshake for QUIC: who the other side is, on rustls with ring.
//!
//! Written by the [specification] of 2022; where it leaves a choice, this is what was chosen and why.
//!
//! - **One certificate for all connections** of a process, on a P-256 key of its own: [`Credentials`]. It is
//!   valid from 1975 to 4096, for who reads a wrong clock.
//! - **A peer's certificate** is one, of version 3, of P-256 or Ed25519, signed by itself and within its dates;
//!   it carries the libp2p extension once, in which the host key signed the certificate's; its other critical
//!   extensions are none. Which other schemes would cost what is said beside the list, in `provider.rs`.
//! - **Host keys** are ed25519 and secp256k1, and with the feature `foreign-keys` ECDSA and RSA. Otherwise
//!   those are refused by name.
//! - **The dates** have to be checked, says the specification, against "the time it is received". They
//!   protect nobody: the host key signs neither of them, so whoever has the certificate's key can write others.
//!   Routers without a clock chip boot in 1970 and may have no internet to learn the time from, while Go's and
//!   JavaScript's certificates begin an hour before they were made. So a clock that is behind
//!   [`CLOCK_FLOOR`](crate::limits::CLOCK_FLOOR), which is surely wrong, refuses nobody for coming early. It is
//!   still true that what expired before a clock that is behind has expired; and a clock that may be right is
//!   obeyed.
//! - **No server name** is sent, and one that comes is ignored, as the specification demands.
//! - **No resumption, no tickets, no 0-RTT**: the specification knows none. A resumption would save two signature
//!   checks and no round trip, and cost memory for each peer.
//!
//! # What it costs
//!
//! Bytes of a stripped x86_64 program with `opt-level = "z"` and fat LTO that does whole handshakes in memory,
//! against the same program with host keys and Noise only:
//!
//! | | bytes | xz -9e |
//! |---|---|---|
//! | all of this, with rustls and ring | 839,000 | 401,000 |
//! | of which this module | 13,000 | |
//! | and with `rcgen` to write certificates and `x509-parser` to read them | +232,000 | +80,000 |
//! | and with `x509-cert` to read them | +67,000 | +24,000 |
//! | and with `foreign-keys`: ECDSA, RSA, or both | +46,000, +60,000, +99,000 | +14,000, +19,000, +34,000 |
//!
//! Of ring's share 152,000 bytes are a table for P-256, which only x86_64 and aarch64 have.
//!
//! [specification]: https://github.com/libp2p/specs/blob/master/tls/tls.md

mod certificate;
mod der;
mod error;
mod own;
mod provider;
#[cfg(test)]
mod tests;
mod verifier;

use std::sync::Arc;

use libp2p::{PeerId, identity::Keypair};
#[cfg(any(test, feature = "fuzzing"))]
use rustls::pki_types::UnixTime;
use rustls::{
    ClientConfig, ServerConfig, SignatureScheme,
    client::{ResolvesClientCert, Resumption},
    crypto::CryptoProvider,
    pki_types::CertificateDer,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    version::TLS13,
};

pub use self::error::{CertificateError, Error};
use self::{certificate::Certificate, verifier::Verifier};

/// The only application protocol.
pub const ALPN: &[u8] = b"libp2p";

/// What comes before the certificate's key when the host key signs it.
const PREFIX: &[u8] = b"libp2p-tls-handshake:";

/// The object identifier of libp2p's extension, 1.3.6.1.4.1.53594.1.1.
const EXTENSION: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xa2, 0x5a, 0x01, 0x01];

/// How a dialler of `expected`, or of whoever answers, handshakes. Makes a certificate; who dials more than
/// once keeps [`Credentials`].
pub fn client_config(key: &Keypair, expected: Option<PeerId>) -> Result<ClientConfig, Error> {
    Credentials::new(key)?.client_config(expected)
}

/// How a listener handshakes. Makes a certificate; who dials as well keeps [`Credentials`].
pub fn server_config(key: &Keypair) -> Result<ServerConfig, Error> {
    Credentials::new(key)?.server_config()
}

/// Who is at the other end of a connection whose handshake is finished and showed these certificates.
///
/// Checks no signature, as the handshake did so. Never fails on what a handshake accepted.
pub fn peer_id(chain: &[CertificateDer<'_>]) -> Result<PeerId, CertificateError> {
    Certificate::only(chain)?.peer_id()
}

/// Reads a certificate and checks it at a time, as a handshake does.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn verify(certificate: &[u8], now: UnixTime) -> Result<PeerId, CertificateError> {
    Certificate::read(certificate)?.verify(now)
}

/// What a host shows of itself: a certificate and its key. Made once per process and cheap to clone.
#[derive(Clone, Debug)]
pub struct Credentials {
    shown: Arc<Shown>,
    provider: Arc<CryptoProvider>,
}

impl Credentials {
    /// Makes a key and signs it by the host's. Takes two signatures.
    pub fn new(key: &Keypair) -> Result<Self, Error> {
        let shown = Arc::new(Shown(Arc::new(own::certificate(key)?)));
        Ok(Credentials { shown, provider: Arc::new(provider::provider()) })
    }

    /// How a dialler of `expected`, or of whoever answers, handshakes. Cheap enough for every dial.
    pub fn client_config(&self, expected: Option<PeerId>) -> Result<ClientConfig, Error> {
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { expected }))
            .with_client_cert_resolver(self.shown.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// How a listener handshakes.
    pub fn server_config(&self) -> Result<ServerConfig, Error> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(Verifier { expected: None }))
            .with_cert_resolver(self.shown.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.ignore_client_order = !provider::has_aes();
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }
}

/// Shows the one certificate to everybody.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}
