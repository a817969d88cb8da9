//! The certificate that a peer shows, and what the specification asks of it.

use std::ops::RangeInclusive;

use libp2p::{PeerId, identity::PublicKey};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};

use super::{
    CertificateError, EXTENSION, PREFIX,
    der::{self, Malformed, Reader},
    provider::SIGNATURES,
};
use crate::limits;

/// A certificate in its parts. Nothing in it is true before [`verify`](Self::verify).
#[derive(Debug)]
pub(super) struct Certificate<'a> {
    signed: Signed<'a>,
    key: Key<'a>,
    /// Seconds since 1970.
    valid: RangeInclusive<i64>,
    host: SignedKey<'a>,
}

/// What the certificate's own key signed, how, and the signature.
#[derive(Debug)]
struct Signed<'a> {
    body: &'a [u8],
    /// What is in the `AlgorithmIdentifier`.
    algorithm: &'a [u8],
    signature: &'a [u8],
}

/// The certificate's own key.
#[derive(Debug)]
struct Key<'a> {
    /// All of the `SubjectPublicKeyInfo`, as the host key signed it.
    spki: &'a [u8],
    /// What is in the `AlgorithmIdentifier`.
    algorithm: &'a [u8],
    bits: &'a [u8],
}

/// `SignedKey` of the specification: the host key in libp2p's protobuf form, and its signature.
#[derive(Debug)]
struct SignedKey<'a> {
    key: &'a [u8],
    signature: &'a [u8],
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
        let signed = signed(bytes).map_err(malformed("outer part"))?;
        let mut fields = Reader::new(signed.body).inside(der::SEQUENCE).map_err(malformed("body"))?;
        let head = head(&mut fields).map_err(malformed("version, serial number, algorithm or name"))?;
        if head.algorithm != signed.algorithm {
            return Err(CertificateError::Malformed("algorithm: it is given twice and differs"));
        }
        let valid = validity(head.validity).ok_or(CertificateError::Malformed("date"))?;
        let key = key(&mut fields).map_err(malformed("public key"))?;
        let host = extensions(fields)?;
        Ok(Certificate { signed, key, valid, host })
    }

    /// All that the specification asks of a certificate at this time; what is cheap comes first.
    pub(super) fn verify(&self, now: UnixTime) -> Result<PeerId, CertificateError> {
        self.verify_validity(now)?;
        let host = self.host_key()?;
        if !host.verify(&[PREFIX, self.key.spki].concat(), self.host.signature) {
            return Err(CertificateError::HostSignature);
        }
        // Both identifiers have to match byte by byte, so a curve is a named one.
        let algorithm = SIGNATURES
            .all
            .iter()
            .find(|known| {
                *known.signature_alg_id() == *self.signed.algorithm
                    && *known.public_key_alg_id() == *self.key.algorithm
            })
            .ok_or(CertificateError::Algorithm)?;
        algorithm
            .verify_signature(self.key.bits, self.signed.body, self.signed.signature)
            .map_err(|_| CertificateError::SelfSignature)?;
        Ok(host.to_peer_id())
    }

    pub(super) fn peer_id(&self) -> Result<PeerId, CertificateError> {
        Ok(self.host_key()?.to_peer_id())
    }

    pub(super) fn spki(&self) -> SubjectPublicKeyInfoDer<'a> {
        self.key.spki.into()
    }

    fn host_key(&self) -> Result<PublicKey, CertificateError> {
        PublicKey::try_decode_protobuf(self.host.key).map_err(|_| match self.host.key {
            // The key type comes first, as field 1.
            [0x08, 0, ..] if !cfg!(feature = "foreign-keys") => CertificateError::HostKeyType("RSA"),
            [0x08, 3, ..] if !cfg!(feature = "foreign-keys") => CertificateError::HostKeyType("ECDSA"),
            _ => CertificateError::HostKey,
        })
    }

    /// See the module's [documentation](super) on clocks.
    fn verify_validity(&self, now: UnixTime) -> Result<(), CertificateError> {
        let now = now.as_secs();
        let instant = i64::try_from(now).unwrap_or(i64::MAX);
        let (from, until) = (*self.valid.start(), *self.valid.end());
        if instant > until {
            return Err(CertificateError::Expired { until, now });
        }
        if instant < from && now >= limits::CLOCK_FLOOR {
            return Err(CertificateError::NotYetValid { from, now });
        }
        Ok(())
    }
}

fn malformed(part: &'static str) -> impl Fn(Malformed) -> CertificateError {
    move |Malformed| CertificateError::Malformed(part)
}

fn signed(bytes: &[u8]) -> Result<Signed<'_>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut parts = reader.inside(der::SEQUENCE)?;
    reader.end()?;
    let body = parts.element(der::SEQUENCE)?.whole;
    let algorithm = parts.contents(der::SEQUENCE)?;
    let signature = parts.bits()?;
    parts.end()?;
    Ok(Signed { body, algorithm, signature })
}

/// What comes before the key.
struct Head<'a> {
    algorithm: &'a [u8],
    validity: Reader<'a>,
}

/// Whom a certificate is for, and who issued it, says nothing here.
fn head<'a>(fields: &mut Reader<'a>) -> Result<Head<'a>, Malformed> {
    let mut version = fields.inside(der::context(0))?;
    // Version 3, the only one with extensions.
    if version.contents(der::INTEGER)? != [2] {
        return Err(Malformed);
    }
    version.end()?;
    let _serial = fields.contents(der::INTEGER)?;
    let algorithm = fields.contents(der::SEQUENCE)?;
    let _issuer = fields.contents(der::SEQUENCE)?;
    let validity = fields.inside(der::SEQUENCE)?;
    let _subject = fields.contents(der::SEQUENCE)?;
    Ok(Head { algorithm, validity })
}

fn key<'a>(fields: &mut Reader<'a>) -> Result<Key<'a>, Malformed> {
    let spki = fields.element(der::SEQUENCE)?;
    let mut parts = Reader::new(spki.contents);
    let algorithm = parts.contents(der::SEQUENCE)?;
    let bits = parts.bits()?;
    parts.end()?;
    Ok(Key { spki: spki.whole, algorithm, bits })
}

/// The contents of libp2p's extension. The deprecated unique identifiers, which may
/// come first, are refused, as the specification allows.
fn extensions<'a>(mut fields: Reader<'a>) -> Result<SignedKey<'a>, CertificateError> {
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

fn signed_key(value: &[u8]) -> Result<SignedKey<'_>, Malformed> {
    let mut reader = Reader::new(value);
    let mut parts = reader.inside(der::SEQUENCE)?;
    reader.end()?;
    let key = parts.contents(der::OCTET_STRING)?;
    let signature = parts.contents(der::OCTET_STRING)?;
    parts.end()?;
    Ok(SignedKey { key, signature })
}

fn validity(mut dates: Reader<'_>) -> Option<RangeInclusive<i64>> {
    let from = date(&mut dates)?;
    let until = date(&mut dates)?;
    dates.end().ok()?;
    Some(from..=until)
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
