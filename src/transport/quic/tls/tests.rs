mod certificates;
mod handshakes;
mod hostile;
mod vectors;

use std::time::Duration;

use libp2p::identity::Keypair;
use rustls::{
    SignatureScheme,
    crypto::ring::sign::{any_ecdsa_type, any_eddsa_type},
    pki_types::{PrivatePkcs8KeyDer, UnixTime, alg_id},
    sign::{CertifiedKey, SigningKey},
};
use std::sync::Arc;

use super::{der, own, verify};

/// 2026-11-21.
fn today() -> UnixTime {
    at(1_795_219_200)
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn hosts() -> [Keypair; 2] {
    [Keypair::generate_ed25519(), Keypair::generate_secp256k1()]
}

/// A certificate's key on P-256.
fn p256() -> Arc<dyn SigningKey> {
    let algorithm = &ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
    let key = ring::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &ring::rand::SystemRandom::new());
    any_ecdsa_type(&PrivatePkcs8KeyDer::from(key.expect("a key").as_ref()).into()).expect("a key")
}

fn ed25519() -> Arc<dyn SigningKey> {
    let key = ring::signature::Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new());
    any_eddsa_type(&PrivatePkcs8KeyDer::from(key.expect("a key").as_ref())).expect("a key")
}

/// The parts of a certificate, to be bent before it is signed. Written anew here, so that the certificates
/// of the tests are not ours by construction.
struct Draft {
    key: Arc<dyn SigningKey>,
    /// With the tag, as everything below.
    version: Vec<u8>,
    algorithm: Vec<u8>,
    outer_algorithm: Vec<u8>,
    from: Vec<u8>,
    until: Vec<u8>,
    spki: Vec<u8>,
    /// Between the public key and the extensions.
    unique_ids: Vec<u8>,
    extensions: Vec<Vec<u8>>,
}

impl Draft {
    fn new(host: &Keypair) -> Self {
        let key = p256();
        let algorithm = der::write(der::SEQUENCE, &[&alg_id::ECDSA_SHA256]);
        Draft::with_key(host, key, algorithm)
    }

    fn with_key(host: &Keypair, key: Arc<dyn SigningKey>, algorithm: Vec<u8>) -> Self {
        let spki = key.public_key().expect("a public key").to_vec();
        Draft {
            version: b"\xa0\x03\x02\x01\x02".to_vec(),
            outer_algorithm: algorithm.clone(),
            algorithm,
            from: der::write(der::UTC_TIME, &[b"260101000000Z"]),
            until: der::write(der::UTC_TIME, &[b"491231235959Z"]),
            unique_ids: Vec::new(),
            extensions: vec![libp2p_extension(host, &spki, None)],
            spki,
            key,
        }
    }

    fn signed(&self) -> Vec<u8> {
        let extensions = self.extensions.concat();
        let extensions = match self.extensions[..] {
            [] => Vec::new(),
            _ => der::write(0xa3, &[&der::write(der::SEQUENCE, &[&extensions])]),
        };
        let validity = der::write(der::SEQUENCE, &[&self.from, &self.until]);
        let serial = b"\x02\x01\x01";
        // CN=x, as some peers name themselves.
        let name = b"\x30\x0c\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x0c\x01x";
        der::write(
            der::SEQUENCE,
            &[
                &self.version,
                serial,
                &self.algorithm,
                name,
                &validity,
                name,
                &self.spki,
                &self.unique_ids,
                &extensions,
            ],
        )
    }

    fn finish(&self) -> Vec<u8> {
        self.finish_by(&*self.key)
    }

    /// Signed by another key than its own.
    fn finish_by(&self, key: &dyn SigningKey) -> Vec<u8> {
        let signed = self.signed();
        let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519];
        let signature = key.choose_scheme(&schemes).expect("a signer").sign(&signed).expect("a signature");
        let signature = der::write(der::BIT_STRING, &[&[0], &signature]);
        der::write(der::SEQUENCE, &[&signed, &self.outer_algorithm, &signature])
    }

    fn certified(&self) -> CertifiedKey {
        CertifiedKey::new(vec![self.finish().into()], self.key.clone())
    }
}

fn libp2p_extension(host: &Keypair, spki: &[u8], is_critical: Option<bool>) -> Vec<u8> {
    let signature = host.sign(&[b"libp2p-tls-handshake:", spki].concat()).expect("a signature");
    signed_key_extension(&host.public().encode_protobuf(), &signature, is_critical)
}

fn signed_key_extension(host_key: &[u8], signature: &[u8], is_critical: Option<bool>) -> Vec<u8> {
    let signed_key = der::write(
        der::SEQUENCE,
        &[&der::write(der::OCTET_STRING, &[host_key]), &der::write(der::OCTET_STRING, &[signature])],
    );
    extension(b"\x2b\x06\x01\x04\x01\x83\xa2\x5a\x01\x01", is_critical, &signed_key)
}

fn extension(identifier: &[u8], is_critical: Option<bool>, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = match is_critical {
        None => &[],
        Some(false) => &[der::BOOLEAN, 1, 0],
        Some(true) => &[der::BOOLEAN, 1, 0xff],
    };
    let identifier = der::write(der::OBJECT_IDENTIFIER, &[identifier]);
    der::write(der::SEQUENCE, &[&identifier, critical, &der::write(der::OCTET_STRING, &[value])])
}
