//! One certificate at a time: what is accepted, and why the others are refused.

use libp2p::identity::Keypair;
use rustls::pki_types::{CertificateDer, alg_id};

use super::{Draft, at, der, ed25519, extension, hosts, p256, signed_key_extension, today, verify};
use crate::{
    limits,
    transport::quic::tls::{CertificateError, own, peer_id},
};

/// 2.5.29.19, basic constraints.
const CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];

fn host() -> Keypair {
    Keypair::generate_ed25519()
}

fn draft() -> Draft {
    Draft::new(&host())
}

/// Why the certificate that was drawn up with this change is refused.
fn refused(change: impl FnOnce(&mut Draft)) -> CertificateError {
    let mut draft = draft();
    change(&mut draft);
    verify(&draft.finish(), today()).expect_err("a refusal")
}

fn utc(text: &str) -> Vec<u8> {
    der::write(der::UTC_TIME, &[text.as_bytes()])
}

fn generalized(text: &str) -> Vec<u8> {
    der::write(der::GENERALIZED_TIME, &[text.as_bytes()])
}

#[test]
fn ours_is_accepted_at_any_time() {
    for host in hosts() {
        let ours = own::certificate(&host).expect("a certificate");
        let ours = ours.end_entity_cert().expect("one");
        for now in [0, limits::CLOCK_FLOOR, u32::MAX.into(), 60_000_000_000] {
            assert_eq!(verify(ours, at(now)), Ok(host.public().to_peer_id()));
        }
        assert!(ours.len() < 450, "{} bytes", ours.len());
        assert_eq!(peer_id(std::slice::from_ref(ours)), Ok(host.public().to_peer_id()));
    }
}

#[test]
fn each_of_ours_has_another_key_and_serial_number() {
    let host = host();
    let [a, b] = [0; 2].map(|_| own::certificate(&host).expect("a certificate"));
    let [a, b] = [&a, &b].map(|made| made.end_entity_cert().expect("one").to_vec());
    assert_ne!(a, b);
}

#[test]
fn a_plain_draft_is_accepted() {
    for host in hosts() {
        assert_eq!(verify(&Draft::new(&host).finish(), today()), Ok(host.public().to_peer_id()));
        let algorithm = der::write(der::SEQUENCE, &[&alg_id::ED25519]);
        let draft = Draft::with_key(&host, ed25519(), algorithm);
        assert_eq!(verify(&draft.finish(), today()), Ok(host.public().to_peer_id()));
    }
}

#[test]
fn the_extension_may_be_critical_or_not() {
    for is_critical in [None, Some(false), Some(true)] {
        let host = host();
        let mut draft = Draft::new(&host);
        draft.extensions = vec![super::libp2p_extension(&host, &draft.spki, is_critical)];
        assert_eq!(verify(&draft.finish(), today()), Ok(host.public().to_peer_id()));
    }
}

#[test]
fn the_extension_must_be_there_once() {
    assert_eq!(refused(|draft| draft.extensions.clear()), CertificateError::NoHostKey);
    let other = || extension(CONSTRAINTS, None, b"\x30\x00");
    assert_eq!(refused(|draft| draft.extensions = vec![other()]), CertificateError::NoHostKey);
    let twice = refused(|draft| draft.extensions.push(draft.extensions[0].clone()));
    assert!(matches!(twice, CertificateError::Malformed(part) if part.contains("two")), "{twice}");
}

#[test]
fn other_extensions_are_ignored_unless_critical() {
    for is_critical in [None, Some(false)] {
        let mut draft = draft();
        draft.extensions.insert(0, extension(CONSTRAINTS, is_critical, b"\x30\x00"));
        draft.extensions.push(extension(b"\x2a\x03\x04", is_critical, b"not even DER"));
        verify(&draft.finish(), today()).expect("a valid certificate");
    }
    for at in [0, 1] {
        let critical = extension(CONSTRAINTS, Some(true), b"\x30\x00");
        assert_eq!(refused(|draft| draft.extensions.insert(at, critical)), CertificateError::Critical);
    }
}

#[test]
fn a_host_key_that_did_not_sign_is_refused() {
    let other = host().public().encode_protobuf();
    let wrong = signed_key_extension(&other, &[7; 64], None);
    assert_eq!(refused(|draft| draft.extensions = vec![wrong]), CertificateError::HostSignature);
    let other = super::libp2p_extension(&host(), b"another key", None);
    assert_eq!(refused(|draft| draft.extensions = vec![other]), CertificateError::HostSignature);
    let empty = signed_key_extension(&host().public().encode_protobuf(), &[], None);
    assert_eq!(refused(|draft| draft.extensions = vec![empty]), CertificateError::HostSignature);
}

#[test]
fn a_host_key_that_cannot_be_read_is_refused() {
    let is_known = cfg!(feature = "foreign-keys");
    let foreign =
        |name| if is_known { CertificateError::HostKey } else { CertificateError::HostKeyType(name) };
    for (key, reason) in [
        (&b"\x08\x00\x12\x03abc"[..], foreign("RSA")),
        (b"\x08\x03\x12\x03abc", foreign("ECDSA")),
        (b"\x08\x01\x12\x03abc", CertificateError::HostKey),
        (b"\x08\x07\x12\x03abc", CertificateError::HostKey),
        (b"\xff\xff", CertificateError::HostKey),
        (b"", CertificateError::HostKey),
    ] {
        let strange = signed_key_extension(key, &[0; 64], None);
        assert_eq!(refused(|draft| draft.extensions = vec![strange]), reason);
    }
}

#[test]
fn what_another_key_signed_is_refused() {
    assert_eq!(verify(&draft().finish_by(&*p256()), today()), Err(CertificateError::SelfSignature));
    assert_eq!(verify(&draft().finish_by(&*ed25519()), today()), Err(CertificateError::SelfSignature));
}

#[test]
fn weak_and_unknown_algorithms_are_refused() {
    // ecdsa-with-SHA1, ecdsa-with-SHA224, sha1WithRSAEncryption, and none.
    for identifier in [
        &b"\x06\x07\x2a\x86\x48\xce\x3d\x04\x01"[..],
        b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x01",
        b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05\x05\x00",
        b"",
        // Known, but of another key.
        &alg_id::ED25519,
    ] {
        let algorithm = der::write(der::SEQUENCE, &[identifier]);
        let reason = refused(|draft| {
            draft.algorithm = algorithm.clone();
            draft.outer_algorithm = algorithm;
        });
        assert_eq!(reason, CertificateError::Algorithm);
    }
}

#[test]
fn the_algorithm_must_be_the_same_inside_and_outside() {
    let outer = der::write(der::SEQUENCE, &[&alg_id::ED25519]);
    let reason = refused(|draft| draft.outer_algorithm = outer);
    assert!(matches!(reason, CertificateError::Malformed(part) if part.contains("differs")), "{reason}");
}

/// "Whose Curve Is It Anyway": parameters that spell the curve out, be it the right one.
#[test]
fn a_curve_without_a_name_is_refused() {
    let host = host();
    let mut draft = Draft::new(&host);
    let mut spki = der::Reader::new(&draft.spki).inside(der::SEQUENCE).expect("a key");
    spki.element(der::SEQUENCE).expect("an algorithm");
    let key = spki.element(der::BIT_STRING).expect("a key").whole;
    let ec_public_key = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01";
    let parameters = der::write(der::SEQUENCE, &[b"\x02\x01\x01", b"\x30\x00"]);
    let algorithm = der::write(der::SEQUENCE, &[ec_public_key, &parameters]);
    draft.spki = der::write(der::SEQUENCE, &[&algorithm, key]);
    draft.extensions = vec![super::libp2p_extension(&host, &draft.spki, None)];
    assert_eq!(verify(&draft.finish(), today()), Err(CertificateError::Algorithm));
}

#[test]
fn deprecated_and_old_forms_are_refused() {
    for unique_id in [&b"\x81\x02\x00\x01"[..], b"\x82\x02\x00\x01"] {
        let reason = refused(|draft| draft.unique_ids = unique_id.to_vec());
        assert_eq!(reason, CertificateError::Malformed("extension"));
    }
    for version in [&b""[..], b"\xa0\x03\x02\x01\x00", b"\xa0\x03\x02\x01\x01", b"\xa0\x03\x02\x01\x03"] {
        let reason = refused(|draft| draft.version = version.to_vec());
        assert!(matches!(reason, CertificateError::Malformed(part) if part.contains("version")), "{reason}");
    }
}

#[test]
fn only_the_time_between_the_dates_will_do() {
    let mut draft = draft();
    draft.from = utc("260601000000Z");
    draft.until = utc("270601000000Z");
    let certificate = draft.finish();
    // 2026-06-01 and 2027-06-01: `date -u -d 2026-06-01 +%s`.
    let (from, until) = (1_780_272_000, 1_811_808_000);
    for now in [from, from + 1, until] {
        verify(&certificate, at(now)).expect("a valid certificate");
    }
    let early = CertificateError::NotYetValid { from: 1_780_272_000, now: from - 1 };
    assert_eq!(verify(&certificate, at(from - 1)), Err(early));
    let late = CertificateError::Expired { until: 1_811_808_000, now: until + 1 };
    assert_eq!(verify(&certificate, at(until + 1)), Err(late));
    assert!(matches!(verify(&certificate, at(u64::MAX)), Err(CertificateError::Expired { .. })));
}

#[test]
fn a_clock_that_is_surely_wrong_refuses_nobody_for_coming_early() {
    let mut draft = draft();
    draft.from = utc("260601000000Z");
    for now in [0, limits::CLOCK_FLOOR - 1] {
        verify(&draft.finish(), at(now)).expect("a valid certificate");
    }
    assert!(matches!(
        verify(&draft.finish(), at(limits::CLOCK_FLOOR)),
        Err(CertificateError::NotYetValid { .. })
    ));
    // What has expired in the past of a clock that is behind has expired.
    draft.from = utc("700101000000Z");
    draft.until = utc("700101000001Z");
    assert!(matches!(verify(&draft.finish(), at(2)), Err(CertificateError::Expired { .. })));
}

#[test]
fn dates_are_read_as_the_calendar_has_them() {
    // Each by `date -u -d @SECONDS`.
    for (until, last) in [
        (utc("700101000000Z"), 0),
        (utc("000229235959Z"), 951_868_799),
        (utc("491231235959Z"), 2_524_607_999),
        (generalized("19700101000000Z"), 0),
        (generalized("20000301000000Z"), 951_868_800),
        (generalized("21000301000000Z"), 4_107_542_400),
        (generalized("40960101000000Z"), 67_090_118_400),
        (generalized("99991231235959Z"), 253_402_300_799),
    ] {
        let mut draft = draft();
        draft.from = utc("500101000000Z");
        draft.until = until.clone();
        let certificate = draft.finish();
        verify(&certificate, at(last)).unwrap_or_else(|error| panic!("{until:?}: {error}"));
        assert!(verify(&certificate, at(last + 1)).is_err(), "{until:?}");
    }
}

#[test]
fn malformed_dates_are_refused() {
    for until in [
        utc("4912312359Z"),
        utc("491231235959"),
        utc("491231235959+0000"),
        utc("491331235959Z"),
        utc("490031235959Z"),
        utc("491232235959Z"),
        utc("491231245959Z"),
        utc("491231236059Z"),
        utc("491231235960Z"),
        utc("49123123595xZ"),
        utc(""),
        generalized("491231235959Z"),
        generalized("20991231235959.5Z"),
        generalized("-0991231235959Z"),
        der::write(der::INTEGER, &[b"491231235959Z"]),
        Vec::new(),
    ] {
        assert_eq!(refused(|draft| draft.until = until), CertificateError::Malformed("date"));
    }
}

#[test]
fn not_one_byte_more_is_accepted() {
    let mut certificate = draft().finish();
    certificate.push(0);
    assert_eq!(verify(&certificate, today()), Err(CertificateError::Malformed("outer part")));
    let filler = extension(b"\x2a\x03\x04", None, &vec![0; limits::QUIC_CERTIFICATE_BYTES]);
    let reason = refused(|draft| draft.extensions.push(filler));
    assert!(matches!(reason, CertificateError::TooLong(bytes) if bytes > limits::QUIC_CERTIFICATE_BYTES));
}

#[test]
fn a_chain_is_one_certificate() {
    let certificate = CertificateDer::from(draft().finish());
    assert_eq!(peer_id(&[]), Err(CertificateError::Count(0)));
    assert_eq!(peer_id(&[certificate.clone(), certificate]), Err(CertificateError::Count(2)));
}

#[test]
fn lengths_have_one_form() {
    let read = |bytes: &[u8]| der::Reader::new(bytes).contents(der::OCTET_STRING).map(<[u8]>::to_vec);
    for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x1234, 0xffff] {
        let contents = vec![7; length];
        assert_eq!(read(&der::write(der::OCTET_STRING, &[&contents])), Ok(contents));
    }
    for wrong in [
        // Indefinite, longer than needed, too long for us, and cut off.
        &b"\x04\x80\x00\x00"[..],
        b"\x04\x81\x01x",
        b"\x04\x82\x00\x01x",
        b"\x04\x83\x00\x00\x01x",
        b"\x04\x84\xff\xff\xff\xff",
        b"\x04\x02x",
        b"\x04\x82\x01",
        b"\x04\x81",
        b"\x04",
        b"",
        // Another tag.
        b"\x24\x01x",
    ] {
        assert_eq!(read(wrong), Err(der::Malformed), "{wrong:x?}");
    }
}
