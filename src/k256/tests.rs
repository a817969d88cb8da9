use proptest::prelude::*;
use sha2::{Digest, Sha256};
use signature::{Signer, hazmat::PrehashVerifier};

use crate::ecdsa::{Signature, SigningKey, VerifyingKey};

/// Secret key, public key, message, and the signature that k256 0.14.0 makes of it.
const VECTORS: [(&str, &str, &[u8], &str); 4] = [
    (
        "0000000000000000000000000000000000000000000000000000000000000001",
        "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        b"",
        "3044022077c8d336572f6f466055b5f70f433851f8f535f6c4fc71133a6cfd71079d03b702200ed9f5eb8aa5b266abac35d416c3207e7a538bf5f37649727d7a9823b1069577",
    ),
    (
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140",
        "0379be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        b"Satoshi Nakamoto",
        "3045022100fd567d121db66e382991534ada77a6bd3106f0a1098c231e47993447cd6af2d002206b39cd0eb1bc8603e159ef5c20a5c8ad685a45b06ce9bebed3f153d10d93bed5",
    ),
    (
        "0707070707070707070707070707070707070707070707070707070707070707",
        "02989c0b76cb563971fdc9bef31ec06c3560f3249d6ee9e5d83c57625596e05f6f",
        b"rooms between machines",
        "30440220396f59343f46097f6268948dcdb5375396adfb87df8b10a3af5d10cdb48535f4022075121f9d96efdf635f38ced045adcb6ca8317b2637c543b0961bea87c599a22a",
    ),
    (
        "c90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b14e5c9",
        "02dd308afec5777e13121fa72b9cc1b7cc0139715309b086c960e18fd969774eb8",
        b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef!",
        "30450221009c590c8dc6086aff53df8421b68b912f6c9825660033c9d01cfda60bd20016b9022028a4a55d00edfc115e89135ed98a4df25f403ea8e4c9b87fd5e586721508800b",
    ),
];

/// The third of them with the other value of `s`.
const HIGH_S: (&str, &[u8], &str) = (
    "0707070707070707070707070707070707070707070707070707070707070707",
    b"rooms between machines",
    "30450220396f59343f46097f6268948dcdb5375396adfb87df8b10a3af5d10cdb48535f40221008aede0626910209ca0c7312fba523492127d61c077835c8b29b674050a9c9f17",
);

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.bytes().map(|digit| (digit as char).to_digit(16).expect("hex") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn holds(key: &VerifyingKey, bytes: &[u8], signature: &[u8]) -> bool {
    let signature = Signature::from_der(signature);
    signature.is_ok_and(|signature| key.verify_prehash(&Sha256::digest(bytes), &signature).is_ok())
}

fn sign(key: &SigningKey, bytes: &[u8]) -> Vec<u8> {
    Signer::<Signature>::sign(key, bytes).to_der().to_bytes().into_vec()
}

#[test]
fn keys_and_signatures_are_those_of_the_original() {
    for (secret, public, bytes, signature) in VECTORS {
        let key = SigningKey::from_slice(&hex(secret)).expect("valid");
        assert_eq!(key.verifying_key().to_sec1_point(true).as_bytes(), hex(public));
        assert_eq!(sign(&key, bytes), hex(signature));
        assert!(holds(key.verifying_key(), bytes, &hex(signature)));
    }
}

/// Nobody can make a second message of one.
#[test]
fn of_the_two_values_of_s_the_higher_one_is_refused() {
    let (secret, bytes, high) = HIGH_S;
    let key = SigningKey::from_slice(&hex(secret)).expect("valid");
    assert!(!holds(key.verifying_key(), bytes, &hex(high)));
}

#[test]
fn a_public_key_comes_in_two_forms() {
    let key = *SigningKey::from_slice(&[7; 32]).expect("valid").verifying_key();
    let (short, long) = (key.to_sec1_point(true), key.to_sec1_point(false));
    assert_eq!((short.as_bytes().len(), long.as_bytes().len()), (33, 65));
    for point in [&short, &long] {
        assert_eq!(VerifyingKey::from_sec1_bytes(point.as_bytes()).ok(), Some(key));
    }
    let no_point = [&[2][..], &[255; 32]].concat();
    let mut hybrid = long.as_bytes().to_vec();
    hybrid[0] = 6 + (hybrid[64] & 1);
    for bytes in [&hybrid, &no_point, &[][..], &[0], &short.as_bytes()[..32], &long.as_bytes()[..64]] {
        assert!(VerifyingKey::from_sec1_bytes(bytes).is_err(), "{bytes:x?}");
    }
}

#[test]
fn what_is_no_number_below_the_order_is_no_secret_key() {
    let order = hex("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");
    for bytes in [&order, &[0; 32][..], &[255; 32], &[1; 31], &[1; 33]] {
        assert!(SigningKey::from_slice(bytes).is_err(), "{bytes:x?}");
    }
}

proptest! {
    #[test]
    fn what_was_signed_holds_and_what_was_changed_does_not(
        secret in proptest::array::uniform32(1u8..),
        bytes: Vec<u8>,
        bit: prop::sample::Index,
    ) {
        let key = SigningKey::from_slice(&secret);
        prop_assume!(key.is_ok());
        let key = key.expect("checked");
        let mut signature = sign(&key, &bytes);
        prop_assert!(holds(key.verifying_key(), &bytes, &signature));
        let bit = bit.index(signature.len() * 8);
        signature[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!holds(key.verifying_key(), &bytes, &signature));
    }

    #[test]
    fn whatever_comes_is_no_reason_to_panic(bytes: Vec<u8>) {
        let _ = (Signature::from_der(&bytes), VerifyingKey::from_sec1_bytes(&bytes), SigningKey::from_slice(&bytes));
    }
}
