//! Stands in for the crate `k256`, with which libp2p-identity signs and checks secp256k1 keys (see `[patch.crates-io]`
//! in the root manifest): the part of its interface that libp2p-identity uses, made of libsecp256k1.
//!
//! To check a signature is most of what a node does for a message, and libsecp256k1 does it in three quarters of the
//! time of the original, which is 100 kB larger. Both make the same signatures (RFC 6979) and refuse the same ones: the
//! tests have some that the original made.
#![forbid(unsafe_code)]

pub use sha2;

/// Signatures and keys, as the original names them.
pub mod ecdsa {
    pub use signature::{self, Error};

    use std::sync::LazyLock;

    use secp256k1::{Message, PublicKey, Secp256k1, SecretKey, SignOnly, VerifyOnly, ecdsa};
    use sha2::{Digest, Sha256};
    use signature::{Signer, hazmat::PrehashVerifier};

    use crate::elliptic_curve::Generate;

    /// Checking takes no secrets, so one is enough.
    static CHECKS: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);

    /// A signature whose `s` may be the higher one of the two that hold, which is then refused.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Signature(ecdsa::Signature);

    /// A signature in DER.
    pub struct DerSignature(ecdsa::SerializedSignature);

    /// A secret key, and all that it takes to sign with it.
    #[derive(Clone)]
    pub struct SigningKey {
        secret: SecretKey,
        public: VerifyingKey,
        /// Blinded once, by a hash of the key: who measures time or power learns of blinded numbers.
        context: Secp256k1<SignOnly>,
    }

    /// A public key.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct VerifyingKey(PublicKey);

    /// A public key as SEC 1 encodes it, section 2.3.3.
    pub struct Sec1Point {
        bytes: [u8; 65],
        length: usize,
    }

    impl Signature {
        /// From DER, without any liberties.
        ///
        /// # Errors
        /// Where this is something else.
        pub fn from_der(bytes: &[u8]) -> Result<Self, Error> {
            ecdsa::Signature::from_der(bytes).map(Self).map_err(|_| Error::new())
        }

        pub fn to_der(&self) -> DerSignature {
            DerSignature(self.0.serialize_der())
        }
    }

    impl DerSignature {
        /// 8 to 72 bytes.
        pub fn to_bytes(&self) -> Box<[u8]> {
            self.0.to_vec().into()
        }
    }

    impl SigningKey {
        /// From 32 bytes, a number with the greatest first.
        ///
        /// # Errors
        /// Where they are more or fewer, zero, or not below the order of the curve.
        pub fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
            let bytes: [u8; 32] = bytes.try_into().map_err(|_| Error::new())?;
            let secret = SecretKey::from_byte_array(bytes).map_err(|_| Error::new())?;
            let mut context = Secp256k1::signing_only();
            context.seeded_randomize(
                &Sha256::new_with_prefix(b"blinding").chain_update(bytes).finalize().into(),
            );
            let public = VerifyingKey(secret.public_key(&context));
            Ok(Self { secret, public, context })
        }

        pub fn verifying_key(&self) -> &VerifyingKey {
            &self.public
        }

        pub fn to_bytes(&self) -> [u8; 32] {
            self.secret.secret_bytes()
        }
    }

    impl Drop for SigningKey {
        fn drop(&mut self) {
            self.secret.non_secure_erase();
        }
    }

    impl Generate for SigningKey {
        fn generate_from_rng(rng: &mut impl rand_core::CryptoRng) -> Self {
            let mut bytes = [0; 32];
            loop {
                rng.fill_bytes(&mut bytes);
                // Of 2^128 numbers one is too large.
                if let Ok(key) = Self::from_slice(&bytes) {
                    return key;
                }
            }
        }
    }

    impl Signer<Signature> for SigningKey {
        fn try_sign(&self, bytes: &[u8]) -> Result<Signature, Error> {
            let message = Message::from_digest(Sha256::digest(bytes).into());
            Ok(Signature(self.context.sign_ecdsa(message, &self.secret)))
        }
    }

    impl VerifyingKey {
        /// From 33 bytes, or the 65 without compression.
        ///
        /// # Errors
        /// Where they are no point of the curve, or encoded in another way.
        pub fn from_sec1_bytes(bytes: &[u8]) -> Result<Self, Error> {
            match bytes.first() {
                Some(2..=4) => PublicKey::from_slice(bytes).map(Self).map_err(|_| Error::new()),
                // The hybrid form of X9.62 is none of SEC 1.
                _ => Err(Error::new()),
            }
        }

        pub fn to_sec1_point(&self, is_compressed: bool) -> Sec1Point {
            let mut bytes = self.0.serialize_uncompressed();
            let length = if is_compressed { 33 } else { 65 };
            if is_compressed {
                bytes[..33].copy_from_slice(&self.0.serialize());
            }
            Sec1Point { bytes, length }
        }
    }

    impl Sec1Point {
        pub fn as_bytes(&self) -> &[u8] {
            &self.bytes[..self.length]
        }
    }

    impl PrehashVerifier<Signature> for VerifyingKey {
        fn verify_prehash(&self, digest: &[u8], signature: &Signature) -> Result<(), Error> {
            let digest: [u8; 32] = digest.try_into().map_err(|_| Error::new())?;
            let result = CHECKS.verify_ecdsa(Message::from_digest(digest), &signature.0, &self.0);
            result.map_err(|_| Error::new())
        }
    }
}

/// What is not ECDSA's alone.
pub mod elliptic_curve {
    /// Made at random.
    pub trait Generate: Sized {
        fn generate_from_rng(rng: &mut impl rand_core::CryptoRng) -> Self;
    }
}

#[cfg(test)]
mod tests;
