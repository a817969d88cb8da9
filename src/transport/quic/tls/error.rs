use std::{fmt, sync::Arc};

use libp2p::PeerId;

/// Why no certificate or configuration could be made. Nothing that a peer does leads here.
#[derive(Debug)]
pub enum Error {
    /// The machine gave no randomness for the certificate's key.
    Random,
    /// The host key did not sign.
    Sign(String),
    /// rustls refused what it was given.
    Tls(rustls::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Random => write!(f, "cannot make a TLS key: the system has no randomness"),
            Error::Sign(reason) => write!(f, "cannot sign a TLS certificate with the host key: {reason}"),
            Error::Tls(error) => write!(f, "cannot set up TLS: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Tls(error) => Some(error),
            Error::Random | Error::Sign(_) => None,
        }
    }
}

impl From<rustls::Error> for Error {
    fn from(error: rustls::Error) -> Self {
        Error::Tls(error)
    }
}

/// Why a peer's certificate was refused.
///
/// A handshake fails with it wrapped into a [`rustls::Error`]; [`of`](CertificateError::of) finds it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateError {
    /// Not exactly one certificate.
    Count(usize),
    /// Longer than [`QUIC_CERTIFICATE_BYTES`](crate::limits::QUIC_CERTIFICATE_BYTES).
    TooLong(usize),
    /// Not the DER of an X.509 certificate of version 3; which part is not.
    Malformed(&'static str),
    /// There is a critical extension besides libp2p's.
    Critical,
    /// There is no libp2p extension.
    NoHostKey,
    /// The host key is of a type that this build does not know; its name.
    HostKeyType(&'static str),
    /// The host key cannot be decoded.
    HostKey,
    /// The host key did not sign the certificate's key.
    HostSignature,
    /// The certificate's key or signature is none of those in use: weak, rare, or no named curve.
    Algorithm,
    /// The certificate's own key did not sign it.
    SelfSignature,
    /// Valid from a moment that has not come. Unit: seconds since 1970.
    NotYetValid { from: i64, now: u64 },
    /// Valid until a moment that has passed. Unit: seconds since 1970.
    Expired { until: i64, now: u64 },
    /// Another peer than the one that was dialled.
    Peer { expected: Box<PeerId>, found: Box<PeerId> },
}

impl CertificateError {
    /// The reason in an error of rustls, if it is one of these.
    pub fn of(error: &rustls::Error) -> Option<&Self> {
        match error {
            rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => {
                other.0.downcast_ref()
            }
            _ => None,
        }
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "the peer sent {count} certificates, not one"),
            Self::TooLong(bytes) => write!(f, "the peer's certificate has {bytes} bytes, which is too long"),
            Self::Malformed(part) => write!(f, "the peer's certificate has a malformed {part}"),
            Self::Critical => write!(f, "the peer's certificate has an unknown critical extension"),
            Self::NoHostKey => write!(f, "the peer's certificate has no libp2p extension"),
            Self::HostKeyType(name) => write!(f, "the peer's host key is {name}, which this build lacks"),
            Self::HostKey => write!(f, "the peer's host key cannot be decoded"),
            Self::HostSignature => write!(f, "the peer's host key did not sign its certificate's key"),
            Self::Algorithm => write!(f, "the peer's certificate has an unsupported key or signature"),
            Self::SelfSignature => write!(f, "the peer's certificate is not signed by its own key"),
            Self::NotYetValid { from, now } => {
                write!(f, "the peer's certificate is valid from {from}, and it is {now}: is the clock right?")
            }
            Self::Expired { until, now } => {
                write!(f, "the peer's certificate was valid until {until}, and it is {now}")
            }
            Self::Peer { expected, found } => write!(f, "the peer is {found}, not {expected}"),
        }
    }
}

impl std::error::Error for CertificateError {}

impl From<CertificateError> for rustls::Error {
    fn from(error: CertificateError) -> Self {
        rustls::CertificateError::Other(rustls::OtherError(Arc::new(error))).into()
    }
}
