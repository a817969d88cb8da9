//! Stands in for the crate `ed25519-dalek`, with which libp2p-identity signs and checks Ed25519 keys (see
//! `[patch.crates-io]` in the root manifest): the part of its interface that libp2p-identity uses, made of ring, which
//! encrypts every connection anyway.
//!
//! The original brings its own arithmetic and a table of 30 kB that does not pack. Both make the signatures of RFC 8032,
//! and refuse those whose `s` is not below the order of the group.
#![forbid(unsafe_code)]

pub use signature::{Error, Signer, Verifier};

use std::sync::Arc;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

/// The 32 random bytes that RFC 8032 calls the private key.
pub type SecretKey = [u8; 32];

/// A signature: the point `R` and the number `s`, 32 bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature([u8; 64]);

/// A public key. 32 bytes that are no point of the curve are one too, for which no signature holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyingKey([u8; 32]);

/// A secret key, and what it takes to sign with it.
#[derive(Clone)]
pub struct SigningKey {
    secret: Zeroizing<SecretKey>,
    public: VerifyingKey,
    pair: Arc<Ed25519KeyPair>,
}

impl Signature {
    pub fn to_bytes(&self) -> [u8; 64] {
        self.0
    }
}

impl TryFrom<&[u8]> for Signature {
    type Error = Error;

    /// From 64 bytes, whatever they are.
    ///
    /// # Errors
    /// Where they are more or fewer.
    fn try_from(bytes: &[u8]) -> Result<Self, Error> {
        bytes.try_into().map(Self).map_err(|_| Error::new())
    }
}

impl VerifyingKey {
    /// # Errors
    /// None: what is wrong with a key is found out where a signature is checked.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, Error> {
        Ok(Self(*bytes))
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub fn to_bytes(&self) -> [u8; 32] {
        self.0
    }
}

impl Verifier<Signature> for VerifyingKey {
    fn verify(&self, bytes: &[u8], signature: &Signature) -> Result<(), Error> {
        UnparsedPublicKey::new(&ED25519, self.0).verify(bytes, &signature.0).map_err(|_| Error::new())
    }
}

impl SigningKey {
    /// From any 32 bytes.
    pub fn from_bytes(secret: &SecretKey) -> Self {
        let Ok(pair) = Ed25519KeyPair::from_seed_unchecked(secret) else {
            unreachable!("it refuses what has not 32 bytes, and nothing else")
        };
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        Self { secret: Zeroizing::new(*secret), public: VerifyingKey(public), pair: Arc::new(pair) }
    }

    /// From the secret key followed by the public one.
    ///
    /// # Errors
    /// Where they do not belong together.
    pub fn from_keypair_bytes(bytes: &[u8; 64]) -> Result<Self, Error> {
        let (secret, public) = bytes.split_at(32);
        let key = Self::from_bytes(secret.try_into().map_err(|_| Error::new())?);
        if key.public.0 == public { Ok(key) } else { Err(Error::new()) }
    }

    pub fn to_bytes(&self) -> SecretKey {
        *self.secret
    }

    /// The secret key followed by the public one.
    pub fn to_keypair_bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&*self.secret);
        bytes[32..].copy_from_slice(&self.public.0);
        bytes
    }

    pub fn verifying_key(&self) -> VerifyingKey {
        self.public
    }
}

impl Signer<Signature> for SigningKey {
    fn try_sign(&self, bytes: &[u8]) -> Result<Signature, Error> {
        self.pair.sign(bytes).as_ref().try_into()
    }
}

#[cfg(test)]
mod tests;
