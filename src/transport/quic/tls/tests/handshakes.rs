//! Whole handshakes, in memory, as QUIC does them.

use std::sync::Arc;

use libp2p::{PeerId, identity::Keypair};
use rustls::{
    AlertDescription, ClientConfig, Error, HandshakeKind, ProtocolVersion, ServerConfig, SignatureScheme,
    client::ResolvesClientCert,
    pki_types::CertificateDer,
    quic::{ClientConnection, Connection, ServerConnection, Version},
    sign::CertifiedKey,
};

use super::{Draft, alg_id, der, ed25519, hosts, libp2p_extension};
use crate::transport::quic::tls::{
    CertificateError, Credentials, Shown, client_config, peer_id, server_config,
};

/// Which side failed, why, and what it tells the other.
#[derive(Debug)]
struct Failure {
    side: &'static str,
    error: Error,
    alert: Option<AlertDescription>,
}

impl Failure {
    fn reason(&self) -> &CertificateError {
        CertificateError::of(&self.error).unwrap_or_else(|| panic!("not about a certificate: {self:?}"))
    }
}

struct Pair {
    client: Connection,
    server: Connection,
}

impl Pair {
    fn new(client: ClientConfig, server: ServerConfig) -> Self {
        let name = "libp2p".try_into().expect("a name");
        let client = ClientConnection::new(Arc::new(client), Version::V1, name, vec![1]);
        let server = ServerConnection::new(Arc::new(server), Version::V1, vec![2]);
        Pair {
            client: Connection::Client(client.expect("a client")),
            server: Connection::Server(server.expect("a server")),
        }
    }

    /// Until nobody has anything to say.
    fn run(mut self) -> Result<Self, Failure> {
        loop {
            let said = say(&mut self.client, &mut self.server, "server")?
                | say(&mut self.server, &mut self.client, "client")?;
            if !said {
                return Ok(self);
            }
        }
    }
}

fn say(from: &mut Connection, to: &mut Connection, side: &'static str) -> Result<bool, Failure> {
    let mut said = false;
    loop {
        let mut bytes = Vec::new();
        let change = from.write_hs(&mut bytes);
        to.read_hs(&bytes).map_err(|error| Failure { side, error, alert: to.alert() })?;
        said |= !bytes.is_empty();
        if change.is_none() && bytes.is_empty() {
            return Ok(said);
        }
    }
}

fn handshake(client: ClientConfig, server: ServerConfig) -> Result<(PeerId, PeerId), Failure> {
    let pair = Pair::new(client, server).run()?;
    assert!(!pair.client.is_handshaking() && !pair.server.is_handshaking());
    let seen = |connection: &Connection| {
        assert_eq!(connection.alpn_protocol(), Some(&b"libp2p"[..]));
        assert_eq!(connection.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(connection.handshake_kind(), Some(HandshakeKind::Full));
        peer_id(connection.peer_certificates().expect("certificates")).expect("a peer")
    };
    Ok((seen(&pair.client), seen(&pair.server)))
}

fn id(host: &Keypair) -> PeerId {
    host.public().to_peer_id()
}

fn client(host: &Keypair) -> ClientConfig {
    client_config(host, None).expect("a configuration")
}

fn server(host: &Keypair) -> ServerConfig {
    server_config(host).expect("a configuration")
}

fn showing(certified: CertifiedKey) -> Arc<Shown> {
    Arc::new(Shown(Arc::new(certified)))
}

/// Shows no certificate.
#[derive(Debug)]
struct Nothing;

impl ResolvesClientCert for Nothing {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[test]
fn each_side_learns_who_the_other_is() {
    for a in hosts() {
        for b in hosts() {
            let client = client_config(&a, Some(id(&b))).expect("a configuration");
            assert_eq!(handshake(client, server(&b)).expect("a handshake"), (id(&b), id(&a)));
        }
    }
}

#[test]
fn whoever_answers_is_taken_when_nobody_is_expected() {
    let [a, b] = hosts();
    assert_eq!(handshake(client(&a), server(&b)).expect("a handshake"), (id(&b), id(&a)));
}

#[test]
fn the_same_credentials_serve_any_number_of_handshakes() {
    let [a, b] = hosts();
    let (ours, theirs) = (Credentials::new(&a).expect("a"), Credentials::new(&b).expect("b"));
    let server = theirs.server_config().expect("a configuration");
    for _ in 0..3 {
        let client = ours.client_config(Some(id(&b))).expect("a configuration");
        handshake(client, server.clone()).expect("a handshake");
    }
    // Also with oneself: that it is no use is for the swarm to find.
    let client = ours.client_config(Some(id(&a))).expect("a configuration");
    handshake(client, ours.server_config().expect("a configuration")).expect("a handshake");
}

#[test]
fn another_peer_than_the_dialled_one_is_refused() {
    let [a, b] = hosts();
    let failure = handshake(client_config(&a, Some(id(&a))).expect("a configuration"), server(&b));
    let failure = failure.expect_err("the wrong peer");
    assert_eq!(failure.side, "client");
    assert_eq!(*failure.reason(), CertificateError::Peer { expected: id(&a).into(), found: id(&b).into() });
    assert_eq!(failure.alert, Some(AlertDescription::CertificateUnknown));
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let [a, b] = hosts();
    let mut anonymous = client(&a);
    anonymous.client_auth_cert_resolver = Arc::new(Nothing);
    let failure = handshake(anonymous, server(&b)).expect_err("nobody");
    assert_eq!((failure.side, failure.error), ("server", Error::NoCertificatesPresented));
    assert_eq!(failure.alert, Some(AlertDescription::CertificateRequired));
}

#[test]
fn a_certificate_is_no_use_without_its_key() {
    let [a, b] = hosts();
    let stolen = Draft::new(&a).finish();
    let stolen = || CertifiedKey::new(vec![stolen.clone().into()], super::p256());

    let mut thief = client(&b);
    thief.client_auth_cert_resolver = showing(stolen());
    let failure = handshake(thief, server(&b)).expect_err("a thief");
    assert_eq!(failure.side, "server");
    assert_eq!(failure.error, Error::InvalidCertificate(rustls::CertificateError::BadSignature));

    let mut thief = server(&b);
    thief.cert_resolver = showing(stolen());
    let failure = handshake(client_config(&b, Some(id(&a))).expect("one"), thief).expect_err("a thief");
    assert_eq!(failure.side, "client");
    assert_eq!(failure.error, Error::InvalidCertificate(rustls::CertificateError::BadSignature));
}

/// Its own key signs the handshake, but no host vouches for that key.
#[test]
fn a_host_key_copied_from_another_certificate_is_refused() {
    let [a, b] = hosts();
    let mut copy = Draft::new(&b);
    copy.extensions = vec![libp2p_extension(&a, &Draft::new(&a).spki, None)];
    let mut forger = server(&b);
    forger.cert_resolver = showing(copy.certified());
    let failure = handshake(client(&b), forger).expect_err("a forgery");
    assert_eq!((failure.side, failure.reason()), ("client", &CertificateError::HostSignature));
}

#[test]
fn two_certificates_are_refused() {
    let [a, b] = hosts();
    let draft = Draft::new(&a);
    let chain: Vec<CertificateDer<'_>> = vec![draft.finish().into(), draft.finish().into()];
    let chain = showing(CertifiedKey::new(chain, draft.key.clone()));

    let mut many = client(&a);
    many.client_auth_cert_resolver = chain.clone();
    let failure = handshake(many, server(&b)).expect_err("two");
    assert_eq!((failure.side, failure.reason()), ("server", &CertificateError::Count(2)));

    let mut many = server(&a);
    many.cert_resolver = chain;
    let failure = handshake(client(&b), many).expect_err("two");
    assert_eq!((failure.side, failure.reason()), ("client", &CertificateError::Count(2)));
}

#[test]
fn certificates_on_ed25519_are_taken() {
    let [a, b] = hosts();
    let algorithm = der::write(der::SEQUENCE, &[&alg_id::ED25519]);
    let mut other = client(&a);
    other.client_auth_cert_resolver = showing(Draft::with_key(&a, ed25519(), algorithm).certified());
    assert_eq!(handshake(other, server(&b)).expect("a handshake"), (id(&b), id(&a)));
}

#[test]
fn another_application_protocol_is_refused() {
    let [a, b] = hosts();
    for other in [vec![b"h3".to_vec()], vec![]] {
        let mut client = client(&a);
        client.alpn_protocols = other.clone();
        let failure = handshake(client, server(&b)).expect_err("no common protocol");
        assert_eq!((failure.side, failure.error), ("server", Error::NoApplicationProtocol));
        assert_eq!(failure.alert, Some(AlertDescription::NoApplicationProtocol));
    }
}

#[test]
fn no_server_name_is_sent() {
    let [a, b] = hosts();
    let pair = Pair::new(client(&a), server(&b)).run().expect("a handshake");
    let Connection::Server(server) = pair.server else { panic!("a server") };
    assert_eq!(server.server_name(), None);
}

/// And one that is sent does not matter.
#[test]
fn a_server_name_is_ignored() {
    let [a, b] = hosts();
    let mut client = client(&a);
    client.enable_sni = true;
    assert_eq!(handshake(client, server(&b)).expect("a handshake"), (id(&b), id(&a)));
}

#[test]
fn nothing_is_left_to_resume_from() {
    let [a, b] = hosts();
    let pair = Pair::new(client(&a), server(&b)).run().expect("a handshake");
    let Connection::Client(client) = pair.client else { panic!("a client") };
    assert_eq!(client.tls13_tickets_received(), 0);
}
