//! How quinn-proto is set up: every choice that differs from its defaults, and why.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use libp2p::{PeerId, identity::Keypair};
use quinn_proto::{
    ClientConfig, ConnectionIdGenerator, EndpointConfig, HashedConnectionIdGenerator, IdleTimeout,
    ServerConfig, TimeSource, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use ring::{
    hkdf, hmac,
    rand::{SecureRandom, SystemRandom},
};

use super::{Error, tls};
use crate::limits;

/// What all sockets of a transport share: who we are, and the limits of a connection.
pub(super) struct Setup {
    pub(super) keys: Keys,
    credentials: tls::Credentials,
    /// Of a connection that we begin.
    transport: Arc<TransportConfig>,
    server: Arc<ServerConfig>,
}

impl Setup {
    pub(super) fn new(key: &Keypair) -> Result<Self, Error> {
        Setup::with_keys(key, Keys::new(key)?)
    }

    pub(super) fn with_keys(key: &Keypair, keys: Keys) -> Result<Self, Error> {
        let credentials = tls::Credentials::new(key).map_err(Error::tls)?;
        let transport = Arc::new(transport_config(limits::QUIC_KEEP_ALIVE));
        let server = Arc::new(server_config(&credentials, &keys)?);
        Ok(Setup { keys, credentials, transport, server })
    }

    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// For a dial of `expected`, or of whoever answers.
    pub(super) fn client(&self, expected: Option<PeerId>) -> Result<ClientConfig, Error> {
        let tls = self.credentials.client_config(expected).map_err(Error::tls)?;
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).map_err(Error::tls)?));
        config.transport_config(Arc::clone(&self.transport));
        Ok(config)
    }
}

impl fmt::Debug for Setup {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("transport", &self.transport).finish_non_exhaustive()
    }
}

fn transport_config(keep_alive: Duration) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(limits::QUIC_STREAMS.into())
        // libp2p has no use for streams of one direction, nor for datagrams.
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(limits::QUIC_STREAM_WINDOW.into())
        .receive_window(limits::QUIC_WINDOW.into())
        .send_window(limits::QUIC_SEND_WINDOW)
        .crypto_buffer_size(limits::QUIC_CRYPTO_BUFFER)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(millis(limits::QUIC_IDLE)))))
        .keep_alive_interval(Some(keep_alive));
    // As they are: CUBIC, 333 ms as the first guess of a round trip (RFC 9002, section 6.2.2), MTU discovery up
    // to 1452 bytes, no ACK frequency extension (gossip is small messages, to be acknowledged soon).
    config
}

fn server_config(credentials: &tls::Credentials, keys: &Keys) -> Result<ServerConfig, Error> {
    let tls = credentials.server_config().map_err(Error::tls)?;
    let crypto = Arc::new(QuicServerConfig::try_from(tls).map_err(Error::tls)?);
    let token_key = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&keys.token);
    let mut config = ServerConfig::new(crypto, Arc::new(token_key));
    let time_source: Arc<TokenClock> = Arc::clone(&keys.token_clock);
    config
        .transport_config(Arc::new(transport_config(limits::QUIC_KEEP_ALIVE_ACCEPTED)))
        .migration(true)
        .time_source(time_source)
        // The core decides about each handshake at once, so none waits for it, nor what follows.
        .max_incoming(1)
        .incoming_buffer_size(0)
        .incoming_buffer_size_total(0);
    Ok(config)
}

/// Whole milliseconds of a constant far below the 49 days that fit.
const fn millis(duration: Duration) -> u32 {
    duration.as_millis() as u32
}

/// The secrets of a transport, and those of one of its sockets.
#[derive(Clone)]
pub(super) struct Keys {
    /// Signs stateless resets (RFC 9000, section 10.3), and tells our connection ids from noise. From the
    /// identity, so that a node that was restarted tells its former peers at once, rather than leaving them
    /// to a time-out.
    reset: [u8; 32],
    /// Seals Retry tokens, which live for seconds.
    token: [u8; 32],
    /// Where quinn-proto's own random numbers begin, in tests. They make the nonces of Retry tokens, so
    /// otherwise each endpoint asks the system.
    seed: Option<[u8; 32]>,
    pub(super) token_clock: Arc<TokenClock>,
}

impl Keys {
    fn new(key: &Keypair) -> Result<Self, Error> {
        let fresh = || {
            let mut bytes = [0; 32];
            SystemRandom::new().fill(&mut bytes).map(|()| bytes).map_err(|_| Error::Random)
        };
        // Not every kind of key can be derived from (RSA); then the peers have to wait.
        let reset = key.derive_secret(b"warren quic stateless reset").map_or_else(fresh, Ok)?;
        Ok(Keys { reset, token: fresh()?, seed: None, token_clock: Arc::default() })
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn from_seed(seed: u8) -> Self {
        let [reset, token, seed] = [0, 1, 2].map(|n| [seed + n; 32]);
        Keys { reset, token, seed: Some(seed), token_clock: Arc::default() }
    }

    /// The keys of one socket. Two sockets with one key would reset each other's connections for whoever saw
    /// a connection id on one and sends it to the other (RFC 9000, section 21.11).
    pub(super) fn of_socket(&self, addr: SocketAddr) -> Self {
        Keys { reset: derive(&self.reset, addr.to_string().as_bytes()), ..self.clone() }
    }

    pub(super) fn connection_ids(&self) -> HashedConnectionIdGenerator {
        HashedConnectionIdGenerator::from_key(self.connection_id_key())
    }

    pub(super) fn endpoint_config(&self) -> Arc<EndpointConfig> {
        let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &self.reset)));
        let key = self.connection_id_key();
        config
            .cid_generator(move || -> Box<dyn ConnectionIdGenerator> {
                Box::new(HashedConnectionIdGenerator::from_key(key))
            })
            .rng_seed(self.seed);
        Arc::new(config)
    }

    fn connection_id_key(&self) -> u64 {
        let secret = derive(&self.reset, b"connection ids");
        secret.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// A secret made of another one in such a way that it says nothing about that.
fn derive(secret: &[u8; 32], purpose: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), purpose);
    let mut derived = [0; 32];
    derived.copy_from_slice(tag.as_ref());
    derived
}

/// The time in Retry tokens: since the endpoint began, told by the core. A router's wall clock jumps by
/// decades when NTP finds it, and would make tokens of a moment ago look old.
#[derive(Debug, Default)]
pub(super) struct TokenClock(Mutex<(Option<Instant>, Duration)>);

impl TokenClock {
    pub(super) fn set(&self, now: Instant) {
        let mut clock = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = *clock.0.get_or_insert(now);
        clock.1 = now.saturating_duration_since(start);
    }
}

impl TimeSource for TokenClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

#[cfg(test)]
mod tests {
    use quinn_proto::ConnectionIdGenerator;

    use super::*;

    #[test]
    fn a_restarted_node_knows_the_ids_it_gave_and_other_sockets_do_not() {
        let key = Keypair::generate_ed25519();
        let addr = |port| SocketAddr::from(([0, 0, 0, 0], port));
        let ids = |port| Keys::new(&key).expect("randomness").of_socket(addr(port)).connection_ids();
        let id = ids(4001).generate_cid();
        assert!(ids(4001).validate(&id).is_ok());
        assert!(ids(4002).validate(&id).is_err());
    }
}
