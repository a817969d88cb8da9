//! Signatures by libp2p keys, checked as libp2p checks them, only faster.
//!
//! Checking is most of what a node does for a message. For secp256k1 keys, which are the usual ones, libsecp256k1
//! does it in two thirds of the time of the k256 crate inside libp2p. k256 keeps signing, where it is the faster
//! one, and the rare work of handshakes. Both must agree about every signature, which the tests here see to.

use libp2p::identity::PublicKey;
use secp256k1::{Message, ecdsa};
use sha2::{Digest, Sha256};

/// Whether `signature` is what the owner of `key` makes of `bytes`: ed25519 as in RFC 8032; secp256k1 as ECDSA over
/// SHA-256 in DER, with the lower of the two values of `s` that hold.
pub fn verify(key: &PublicKey, bytes: &[u8], signature: &[u8]) -> bool {
    match key.clone().try_into_secp256k1() {
        Ok(key) => secp256k1::PublicKey::from_slice(&key.to_bytes())
            .and_then(|key| ecdsa::Signature::from_der(signature)?.verify(digest(bytes), &key))
            .is_ok(),
        Err(_) => key.verify(bytes, signature),
    }
}

fn digest(bytes: &[u8]) -> Message {
    Message::from_digest(Sha256::digest(bytes).into())
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_libp2p_signs_holds(bytes: Vec<u8>, ed25519: bool) {
            let key = if ed25519 { Keypair::generate_ed25519() } else { Keypair::generate_secp256k1() };
            prop_assert!(verify(&key.public(), &bytes, &key.sign(&bytes).expect("signs")));
        }

        #[test]
        fn what_libp2p_refuses_does_not_hold(bytes: Vec<u8>, bit: prop::sample::Index) {
            let key = Keypair::generate_secp256k1();
            let mut signature = key.sign(&bytes).expect("signs");
            let bit = bit.index(signature.len() * 8);
            signature[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!key.public().verify(&bytes, &signature));
            prop_assert!(!verify(&key.public(), &bytes, &signature));
        }
    }

    /// Of the two values of `s` that hold, only the lower one counts: nobody can make a second message of one.
    #[test]
    fn the_higher_s_is_refused_by_both() {
        let key = Keypair::generate_secp256k1();
        let signature = key.sign(b"once").expect("signs");
        let compact = ecdsa::Signature::from_der(&signature).expect("DER").serialize_compact();
        let s = compact[32..].try_into().expect("32 bytes");
        let other_s =
            secp256k1::SecretKey::from_secret_bytes(s).expect("in range").negate().to_secret_bytes();
        let high = ecdsa::Signature::from_compact(&[&compact[..32], &other_s].concat()).expect("in range");
        let high = high.serialize_der();
        assert!(!key.public().verify(b"once", &high));
        assert!(!verify(&key.public(), b"once", &high));
    }
}
