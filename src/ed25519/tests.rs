use proptest::prelude::*;

use crate::{Signature, Signer, SigningKey, Verifier, VerifyingKey};

/// Secret key, public key, message and signature: the first three of RFC 8032, section 7.1.
const VECTORS: [(&str, &str, &str, &str); 3] = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
];

/// The order of the group, with the lowest byte first.
const ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

fn array<const N: usize>(text: &str) -> [u8; N] {
    hex(text).try_into().expect("as long as that")
}

fn holds(key: VerifyingKey, bytes: &[u8], signature: &[u8]) -> bool {
    Signature::try_from(signature).and_then(|signature| key.verify(bytes, &signature)).is_ok()
}

#[test]
fn keys_and_signatures_are_those_of_the_rfc() {
    for (secret, public, bytes, signature) in VECTORS {
        let key = SigningKey::from_bytes(&array(secret));
        assert_eq!(key.verifying_key().to_bytes(), array(public));
        assert_eq!(key.sign(&hex(bytes)).to_bytes(), array(signature));
        let public = VerifyingKey::from_bytes(&array(public)).expect("never refused");
        assert!(holds(public, &hex(bytes), &hex(signature)));
    }
}

/// Nobody can make a second message of one.
#[test]
fn a_number_that_is_not_below_the_order_is_refused() {
    let (_, public, bytes, signature) = VECTORS[1];
    let mut signature = hex(signature);
    let mut carry = 0;
    for (byte, of_order) in signature[32..].iter_mut().zip(hex(ORDER)) {
        carry += u16::from(*byte) + u16::from(of_order);
        *byte = carry as u8;
        carry >>= 8;
    }
    assert_eq!(carry, 0, "the sum has 32 bytes");
    assert!(!holds(
        VerifyingKey::from_bytes(&array(public)).expect("never refused"),
        &hex(bytes),
        &signature
    ));
}

#[test]
fn a_pair_that_does_not_belong_together_is_refused() {
    let key = SigningKey::from_bytes(&[7; 32]);
    let mut pair = key.to_keypair_bytes();
    let again = SigningKey::from_keypair_bytes(&pair).expect("a pair");
    assert_eq!((again.to_bytes(), again.verifying_key()), ([7; 32], key.verifying_key()));
    pair[63] ^= 1;
    assert!(SigningKey::from_keypair_bytes(&pair).is_err());
}

proptest! {
    #[test]
    fn what_was_signed_holds_and_what_was_changed_does_not(
        secret: [u8; 32],
        bytes: Vec<u8>,
        bit: prop::sample::Index,
    ) {
        let key = SigningKey::from_bytes(&secret);
        let mut signature = key.sign(&bytes).to_bytes();
        prop_assert!(holds(key.verifying_key(), &bytes, &signature));
        let bit = bit.index(signature.len() * 8);
        signature[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!holds(key.verifying_key(), &bytes, &signature));
    }

    #[test]
    fn whatever_comes_holds_not_and_is_no_reason_to_panic(public: [u8; 32], bytes: Vec<u8>, signature: Vec<u8>) {
        prop_assert!(!holds(VerifyingKey::from_bytes(&public).expect("never refused"), &bytes, &signature));
    }
}
