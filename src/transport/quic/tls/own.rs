//! The certificate that we show, of one fixed shape.

use libp2p::identity::Keypair;
use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use rustls::{
    SignatureScheme,
    crypto::ring::sign::any_ecdsa_type,
    pki_types::{PrivatePkcs8KeyDer, alg_id},
    sign::CertifiedKey,
};

use super::{EXTENSION, Error, PREFIX, der};

/// From when and until when ours is valid: always, as a peer's clock may be wrong as well. These are the
/// moments of the specification's test vectors.
const VALID_FROM: &[u8] = b"19750101000000Z";
const VALID_UNTIL: &[u8] = b"40960101000000Z";

/// A new certificate for this host key, with the key that signed it.
///
/// On P-256 and not Ed25519: every libp2p implementation takes it, and BoringSSL's default is to refuse the other.
pub(super) fn certificate(host: &Keypair) -> Result<CertifiedKey, Error> {
    let random = SystemRandom::new();
    let key =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(|_| Error::Random)?;
    let key = any_ecdsa_type(&PrivatePkcs8KeyDer::from(key.as_ref()).into())?;
    let mut serial = [0; 8];
    random.fill(&mut serial).map_err(|_| Error::Random)?;
    // Positive, and without leading zeros.
    serial[0] = serial[0] & 0x3f | 0x40;

    let spki = key.public_key().ok_or_else(|| no_signer("it does not know its public half"))?.into_owned();
    let tbs = to_be_signed(&serial, &spki, &extension(host, &spki)?);
    let signer = key
        .choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256])
        .ok_or_else(|| no_signer("it cannot sign"))?;
    let signature = signer.sign(&tbs)?;
    let certificate =
        der::write(der::SEQUENCE, &[&tbs, &algorithm(), &der::write(der::BIT_STRING, &[&[0], &signature])]);
    Ok(CertifiedKey::new(vec![certificate.into()], key))
}

fn no_signer(reason: &str) -> Error {
    Error::Tls(rustls::Error::General(format!("a key was made, but {reason}")))
}

/// `ecdsa-with-SHA256`, as `AlgorithmIdentifier`.
fn algorithm() -> Vec<u8> {
    der::write(der::SEQUENCE, &[&alg_id::ECDSA_SHA256])
}

/// RFC 5280, section 4.1: the `TBSCertificate`. It names nobody.
fn to_be_signed(serial: &[u8], spki: &[u8], extension: &[u8]) -> Vec<u8> {
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
