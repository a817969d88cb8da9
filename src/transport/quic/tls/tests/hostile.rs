//! Bytes from somebody who means no good: nothing panics, and nothing that was touched is accepted.

use libp2p::identity::Keypair;
use proptest::prelude::*;

use super::{
    Draft, der, hosts, own, signed_key_extension, today,
    vectors::{ECDSA, ED25519, MISMATCH, SECP256K1, hex},
    verify,
};

fn ours(host: &Keypair) -> Vec<u8> {
    own::certificate(host).expect("a certificate").end_entity_cert().expect("one").to_vec()
}

/// Certificates that are accepted.
fn valid() -> Vec<Vec<u8>> {
    let mut valid: Vec<_> = hosts().iter().map(ours).collect();
    valid.extend([hex(ED25519), hex(SECP256K1)]);
    #[cfg(feature = "foreign-keys")]
    valid.extend([hex(ECDSA), hex(super::vectors::RSA)]);
    for certificate in &valid {
        verify(certificate, today()).expect("a valid certificate");
    }
    valid
}

/// Its own key or the host key signed every byte, or the byte is the signature.
#[test]
fn any_flipped_bit_is_refused() {
    for mut certificate in valid() {
        for bit in 0..certificate.len() * 8 {
            certificate[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&certificate, today()).is_err(), "bit {bit} of {certificate:x?}");
            certificate[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn any_truncation_is_refused() {
    for certificate in valid() {
        for length in 0..certificate.len() {
            assert!(verify(&certificate[..length], today()).is_err(), "{length} bytes of {certificate:x?}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..1024)) {
        prop_assert!(verify(&bytes, today()).is_err());
    }

    /// Pieces that look like DER get further than bytes do.
    #[test]
    fn any_elements_are_refused(bytes in elements()) {
        prop_assert!(verify(&bytes, today()).is_err());
    }

    /// A real certificate with some of it replaced, removed or repeated.
    #[test]
    fn any_splice_is_refused(
        which in 0..4_usize,
        from in any::<prop::sample::Index>(),
        removed in 0..40_usize,
        inserted in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut certificate = hex([ED25519, SECP256K1, ECDSA, MISMATCH][which]);
        let before = certificate.clone();
        let from = from.index(certificate.len());
        let to = (from + removed).min(certificate.len());
        certificate.splice(from..to, inserted);
        prop_assume!(certificate != before);
        prop_assert!(verify(&certificate, today()).is_err());
    }

    /// Everything is right and signed, but what the extension says is not.
    #[test]
    fn any_host_key_is_refused(
        key in prop::collection::vec(any::<u8>(), 0..128),
        key_type in 0..5_u8,
        signature in prop::collection::vec(any::<u8>(), 0..128),
    ) {
        let mut draft = Draft::new(&Keypair::generate_ed25519());
        let typed = [&[0x08, key_type, 0x12, key.len() as u8][..], &key].concat();
        for key in [key, typed] {
            draft.extensions = vec![signed_key_extension(&key, &signature, None)];
            prop_assert!(verify(&draft.finish(), today()).is_err());
        }
    }
}

/// Elements within elements, with the tags that certificates have.
fn elements() -> impl Strategy<Value = Vec<u8>> {
    let tags = prop::sample::select(vec![
        der::BOOLEAN,
        der::INTEGER,
        der::BIT_STRING,
        der::OCTET_STRING,
        der::OBJECT_IDENTIFIER,
        der::UTC_TIME,
        der::GENERALIZED_TIME,
        der::SEQUENCE,
        der::context(0),
        der::context(3),
    ]);
    let contents = prop::collection::vec(any::<u8>(), 0..16);
    let leaf = (tags, contents).prop_map(|(tag, contents)| der::write(tag, &[&contents]));
    leaf.prop_recursive(5, 64, 8, |inner| {
        let tags = prop::sample::select(vec![der::SEQUENCE, der::context(0), der::context(3)]);
        (tags, prop::collection::vec(inner, 0..8))
            .prop_map(|(tag, parts)| der::write(tag, &[&parts.concat()]))
    })
}
