//! The certificate that we show, of one fixed shape.

use std::sync::Arc;

use libp2p::identity::Keypair;
use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use rustls::{
    SignatureAlgorithm, SignatureScheme,
    pki_types::alg_id,
    sign::{CertifiedKey, Signer, SigningKey, public_key_to_spki},
};

use super::{EXTENSION, Error, PREFIX, der};

/// From when and until when ours is valid: always, as a peer's clock may be wrong as well. These are the
/// moments of the specification's test vectors.
const VALID_FROM: &[u8] = b"19750101000000Z";
const VALID_UNTIL: &[u8] = b"40960101000000Z";

/// A new certificate for this host key, with the key that signed it.
///
/// On P-256 and not Ed25519: every libp2p implementation takes it, and BoringSSL's default is to refuse the
/// other.
pub(super) fn certificate(host: &Keypair) -> Result<CertifiedKey, Error> {
    let key = P256::generate()?;
    let spki = public_key_to_spki(&alg_id::ECDSA_P256, key.0.public_key());
    let mut serial = [0; 8];
    SystemRandom::new().fill(&mut serial).map_err(|_| Error::Random)?;
    // Positive, and without leading zeros.
    serial[0] = serial[0] & 0x3f | 0x40;

    let body = body(&serial, &spki, &extension(host, &spki)?);
    let signature = der::write(der::BIT_STRING, &[&[0], &key.sign(&body)?]);
    let certificate = der::write(der::SEQUENCE, &[&body, &algorithm(), &signature]);
    Ok(CertifiedKey::new(vec![certificate.into()], Arc::new(key)))
}

/// A key on P-256. rustls could load it, but only together with all that P-384 needs: 37 kB (x86_64).
#[derive(Clone, Debug)]
struct P256(Arc<EcdsaKeyPair>);

impl P256 {
    fn generate() -> Result<Self, Error> {
        let random = SystemRandom::new();
        let encoded = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            .map_err(|_| Error::Random)?;
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, encoded.as_ref(), &random)
            .map(|key| P256(Arc::new(key)))
            .map_err(|_| Error::Random)
    }
}

impl SigningKey for P256 {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.scheme()).then(|| -> Box<dyn Signer> { Box::new(self.clone()) })
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for P256 {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let signature = self.0.sign(&SystemRandom::new(), message);
        signature
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| rustls::Error::FailedToGetRandomBytes)
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

/// `ecdsa-with-SHA256`, as `AlgorithmIdentifier`.
fn algorithm() -> Vec<u8> {
    der::write(der::SEQUENCE, &[&alg_id::ECDSA_SHA256])
}

/// RFC 5280, section 4.1: the `TBSCertificate`. It names nobody.
fn body(serial: &[u8], spki: &[u8], extension: &[u8]) -> Vec<u8> {
    let nobody = der::write(der::SEQUENCE, &[]);
    let version_3 = der::write(der::context(0), &[&der::write(der::INTEGER, &[&[2]])]);
    // Before 2050 it has to be UTCTime, which leaves out the century.
    let from = der::write(der::UTC_TIME, &[&VALID_FROM[2..]]);
    let until = der::write(der::GENERALIZED_TIME, &[VALID_UNTIL]);
    der::write(
        der::SEQUENCE,
        &[
            &version_3,
            &der::write(der::INTEGER, &[serial]),
            &algorithm(),
            &nobody,
            &der::write(der::SEQUENCE, &[&from, &until]),
            &nobody,
            spki,
            &der::write(der::context(3), &[&der::write(der::SEQUENCE, &[extension])]),
        ],
    )
}

/// libp2p's extension. Not critical, so that those who know nothing of it can read the certificate.
fn extension(host: &Keypair, spki: &[u8]) -> Result<Vec<u8>, Error> {
    let signature = host.sign(&[PREFIX, spki].concat()).map_err(|e| Error::Sign(e.to_string()))?;
    let signed_key = der::write(
        der::SEQUENCE,
        &[
            &der::write(der::OCTET_STRING, &[&host.public().encode_protobuf()]),
            &der::write(der::OCTET_STRING, &[&signature]),
        ],
    );
    let identifier = der::write(der::OBJECT_IDENTIFIER, &[EXTENSION]);
    Ok(der::write(der::SEQUENCE, &[&identifier, &der::write(der::OCTET_STRING, &[&signed_key])]))
}
