//! The certificate: how ours is made, and what is asked of a peer's.

use libp2p::{
    PeerId,
    identity::{Keypair, PublicKey},
};
use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use rustls::{
    SignatureScheme,
    crypto::ring::sign::any_ecdsa_type,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, UnixTime, alg_id},
    sign::CertifiedKey,
};

use super::{
    CertificateError, Error,
    der::{self, Malformed, Reader},
    provider::SIGNATURES,
};
use crate::limits;

/// What comes before the certificate's key when the host key signs it.
const PREFIX: &[u8] = b"libp2p-tls-handshake:";

/// The object identifier of libp2p's extension, 1.3.6.1.4.1.53594.1.1.
const EXTENSION: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xa2, 0x5a, 0x01, 0x01];

/// From when and until when ours is valid: always, as a peer's clock may be wrong as well. These are the
/// moments of the specification's test vectors.
const VALID_FROM: &[u8] = b"19750101000000Z";
const VALID_UNTIL: &[u8] = b"40960101000000Z";

/// A new certificate for this host key, with the key that signed it.
///
/// On P-256 and not Ed25519: every libp2p implementation takes it, and BoringSSL's default is to refuse the other.
pub(super) fn make(host: &Keypair) -> Result<CertifiedKey, Error> {
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

/// A certificate that a peer sent, in its parts. Nothing in it is true before [`verify`](Self::verify).
#[derive(Debug)]
pub(super) struct Certificate<'a> {
    /// What the certificate's own key signed.
    signed: &'a [u8],
    /// The contents of the `AlgorithmIdentifier`s.
    signature_algorithm: &'a [u8],
    key_algorithm: &'a [u8],
    signature: &'a [u8],
    key: &'a [u8],
    /// All of the `SubjectPublicKeyInfo`: what the host key signed.
    spki: &'a [u8],
    /// Seconds since 1970.
    valid_from: i64,
    valid_until: i64,
    /// In libp2p's protobuf form.
    host_key: &'a [u8],
    host_signature: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// The only certificate of a chain.
    pub(super) fn only(chain: &'a [CertificateDer<'_>]) -> Result<Self, CertificateError> {
        match chain {
            [certificate] => Certificate::read(certificate),
            _ => Err(CertificateError::Count(chain.len())),
        }
    }

    /// RFC 5280, section 4.1.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, CertificateError> {
        if bytes.len() > limits::QUIC_CERTIFICATE_BYTES {
            return Err(CertificateError::TooLong(bytes.len()));
        }
        let (signed, signature_algorithm, signature) = outer(bytes).map_err(malformed("outer part"))?;
        let mut fields = Reader::new(signed).inside(der::SEQUENCE).map_err(malformed("body"))?;
        let names = names(&mut fields).map_err(malformed("version, serial number, algorithm or name"))?;
        if names.signature_algorithm != signature_algorithm {
            return Err(CertificateError::Malformed("algorithm: it is given twice and differs"));
        }
        let (valid_from, valid_until) =
            validity(names.validity).ok_or(CertificateError::Malformed("date"))?;
        let (spki, key_algorithm, key) = public_key(&mut fields).map_err(malformed("public key"))?;
        let (host_key, host_signature) = extensions(fields)?;
        Ok(Certificate {
            signed,
            signature_algorithm,
            key_algorithm,
            signature,
            key,
            spki,
            valid_from,
            valid_until,
            host_key,
            host_signature,
        })
    }

    /// All that the specification asks of a certificate at this time; what is cheap comes first.
    pub(super) fn verify(&self, now: UnixTime) -> Result<PeerId, CertificateError> {
        self.verify_validity(now)?;
        let host = self.host_key()?;
        if !host.verify(&[PREFIX, self.spki].concat(), self.host_signature) {
            return Err(CertificateError::HostSignature);
        }
        // Both identifiers have to match byte by byte, so a curve is a named one.
        let algorithm = SIGNATURES
            .all
            .iter()
            .find(|known| {
                *known.signature_alg_id() == *self.signature_algorithm
                    && *known.public_key_alg_id() == *self.key_algorithm
            })
            .ok_or(CertificateError::Algorithm)?;
        algorithm
            .verify_signature(self.key, self.signed, self.signature)
            .map_err(|_| CertificateError::SelfSignature)?;
        Ok(host.to_peer_id())
    }

    pub(super) fn peer_id(&self) -> Result<PeerId, CertificateError> {
        Ok(self.host_key()?.to_peer_id())
    }

    pub(super) fn spki(&self) -> SubjectPublicKeyInfoDer<'a> {
        self.spki.into()
    }

    fn host_key(&self) -> Result<PublicKey, CertificateError> {
        PublicKey::try_decode_protobuf(self.host_key).map_err(|_| match self.host_key {
            // The key type comes first, as field 1.
            [0x08, 0, ..] => CertificateError::HostKeyType("RSA"),
            [0x08, 3, ..] => CertificateError::HostKeyType("ECDSA"),
            _ => CertificateError::HostKey,
        })
    }

    /// See the module's [documentation](super) on clocks.
    fn verify_validity(&self, now: UnixTime) -> Result<(), CertificateError> {
        let now = now.as_secs();
        let instant = i64::try_from(now).unwrap_or(i64::MAX);
        if instant > self.valid_until {
            return Err(CertificateError::Expired { until: self.valid_until, now });
        }
        if instant < self.valid_from && now >= limits::CLOCK_FLOOR {
            return Err(CertificateError::NotYetValid { from: self.valid_from, now });
        }
        Ok(())
    }
}

fn malformed(part: &'static str) -> impl Fn(Malformed) -> CertificateError {
    move |Malformed| CertificateError::Malformed(part)
}

/// What is signed, how, and the signature.
fn outer(bytes: &[u8]) -> Result<(&[u8], &[u8], &[u8]), Malformed> {
    let mut reader = Reader::new(bytes);
    let mut parts = reader.inside(der::SEQUENCE)?;
    reader.end()?;
    let signed = parts.element(der::SEQUENCE)?.whole;
    let algorithm = parts.contents(der::SEQUENCE)?;
    let signature = parts.bits()?;
    parts.end()?;
    Ok((signed, algorithm, signature))
}

struct Names<'a> {
    signature_algorithm: &'a [u8],
    validity: Reader<'a>,
}

/// The fields up to the subject. Whom a certificate is for, and who issued it, says nothing here.
fn names<'a>(fields: &mut Reader<'a>) -> Result<Names<'a>, Malformed> {
    let mut version = fields.inside(der::context(0))?;
    if version.contents(der::INTEGER)? != [2] {
        return Err(Malformed);
    }
    version.end()?;
    let _serial = fields.contents(der::INTEGER)?;
    let signature_algorithm = fields.contents(der::SEQUENCE)?;
    let _issuer = fields.contents(der::SEQUENCE)?;
    let validity = fields.inside(der::SEQUENCE)?;
    let _subject = fields.contents(der::SEQUENCE)?;
    Ok(Names { signature_algorithm, validity })
}

/// All of the `SubjectPublicKeyInfo`, its algorithm and its key.
fn public_key<'a>(fields: &mut Reader<'a>) -> Result<(&'a [u8], &'a [u8], &'a [u8]), Malformed> {
    let spki = fields.element(der::SEQUENCE)?;
    let mut parts = Reader::new(spki.contents);
    let algorithm = parts.contents(der::SEQUENCE)?;
    let key = parts.bits()?;
    parts.end()?;
    Ok((spki.whole, algorithm, key))
}

/// The host key and its signature, from libp2p's extension. The deprecated unique identifiers, which may
/// come first, are refused, as the specification allows.
fn extensions<'a>(mut fields: Reader<'a>) -> Result<(&'a [u8], &'a [u8]), CertificateError> {
    let bad = malformed("extension");
    if fields.is_empty() {
        return Err(CertificateError::NoHostKey);
    }
    let mut outer = fields.inside(der::context(3)).map_err(&bad)?;
    fields.end().map_err(&bad)?;
    let mut list = outer.inside(der::SEQUENCE).map_err(&bad)?;
    outer.end().map_err(&bad)?;
    let mut found = None;
    while !list.is_empty() {
        let (identifier, is_critical, value) = extension_parts(&mut list).map_err(&bad)?;
        if identifier == EXTENSION {
            let signed_key = signed_key(value).map_err(malformed("libp2p extension"))?;
            if found.replace(signed_key).is_some() {
                return Err(CertificateError::Malformed("libp2p extension: there are two"));
            }
        } else if is_critical {
            return Err(CertificateError::Critical);
        }
    }
    found.ok_or(CertificateError::NoHostKey)
}

fn extension_parts<'a>(list: &mut Reader<'a>) -> Result<(&'a [u8], bool, &'a [u8]), Malformed> {
    let mut parts = list.inside(der::SEQUENCE)?;
    let identifier = parts.contents(der::OBJECT_IDENTIFIER)?;
    let is_critical = match parts.optional(der::BOOLEAN)? {
        // DER leaves out what is the default, but some writers do not.
        None | Some([0]) => false,
        Some([0xff]) => true,
        Some(_) => return Err(Malformed),
    };
    let value = parts.contents(der::OCTET_STRING)?;
    parts.end()?;
    Ok((identifier, is_critical, value))
}

/// `SignedKey` of the specification.
fn signed_key(value: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let mut reader = Reader::new(value);
    let mut parts = reader.inside(der::SEQUENCE)?;
    reader.end()?;
    let key = parts.contents(der::OCTET_STRING)?;
    let signature = parts.contents(der::OCTET_STRING)?;
    parts.end()?;
    Ok((key, signature))
}

fn validity(mut dates: Reader<'_>) -> Option<(i64, i64)> {
    let from = date(&mut dates)?;
    let until = date(&mut dates)?;
    dates.end().ok()?;
    Some((from, until))
}

/// RFC 5280, section 4.1.2.5: `YYMMDDHHMMSSZ` up to 2049, `YYYYMMDDHHMMSSZ` from then on. In seconds since 1970.
fn date(dates: &mut Reader<'_>) -> Option<i64> {
    let (year, rest) = match dates.optional(der::UTC_TIME).ok()? {
        Some(text) => {
            let (year, rest) = text.split_at_checked(2)?;
            let year = number(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        None => {
            let (year, rest) = dates.contents(der::GENERALIZED_TIME).ok()?.split_at_checked(4)?;
            (number(year)?, rest)
        }
    };
    let fields: &[u8; 10] = rest.strip_suffix(b"Z")?.try_into().ok()?;
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| number(&fields[at..at + 2]));
    let (month, day, hour, minute, second) = (month?, day?, hour?, minute?, second?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

/// In the calendar of today, also for times before it. The year begins in March, so that the day that
/// leap years have more is its last; 153 days in any five months from there on.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let months = (month + 9) % 12;
    let years = year - i64::from(month <= 2);
    let leap_days = years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400);
    years * 365 + leap_days + (months * 153 + 2) / 5 + day - 1 - 719_468
}
