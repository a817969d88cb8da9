//! The key that a peer has.

use anyhow::Result;
use libp2p::identity::{Keypair, ed25519, secp256k1};
use sha2::{Digest, Sha256};

#[derive(Clone, Copy)]
pub(crate) enum KeyType {
    Secp256k1,
    Ed25519,
}

impl std::str::FromStr for KeyType {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "secp256k1" => Ok(KeyType::Secp256k1),
            "ed25519" => Ok(KeyType::Ed25519),
            other => Err(format!("`{other}` is no key type: use secp256k1 or ed25519")),
        }
    }
}

/// The seed is spread over 32 bytes, which for any seed are a valid secret of either kind of key.
pub(crate) fn keypair(key_type: KeyType, seed: Option<u64>) -> Result<Keypair> {
    let secret = seed.map(|seed| Sha256::digest(seed.to_le_bytes()));
    Ok(match (key_type, secret) {
        (KeyType::Secp256k1, None) => secp256k1::Keypair::generate().into(),
        (KeyType::Ed25519, None) => ed25519::Keypair::generate().into(),
        (KeyType::Secp256k1, Some(bytes)) => {
            secp256k1::Keypair::from(secp256k1::SecretKey::try_from_bytes(bytes)?).into()
        }
        (KeyType::Ed25519, Some(bytes)) => {
            ed25519::Keypair::from(ed25519::SecretKey::try_from_bytes(bytes)?).into()
        }
    })
}
