//! `warren id` and key files.

use std::{fs, os::unix::fs::MetadataExt, os::unix::fs::PermissionsExt};

use libp2p::identity::Keypair;

use crate::net::{Dir, Json, finish};

#[test]
fn an_identity_is_made_once_and_shown_twice() {
    let dir = Dir::new();
    let key = dir.path("new/key");
    let first = finish(&dir, &["id", "--identity", &key]);
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(first.stdout.contains("16U") && first.stdout.contains("secp256k1"), "{first:?}");
    let metadata = fs::metadata(&key).expect("the key file");
    assert_eq!(metadata.mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(dir.path("new")).expect("its directory").mode() & 0o777, 0o700);
    let inode = metadata.ino();

    let second = finish(&dir, &["id", "--identity", &key]);
    assert_eq!((second.code, &second.stdout), (Some(0), &first.stdout));
    let json = finish(&dir, &["id", "--identity", &key, "--json"]);
    let json = Json::parse(&json.stdout);
    assert!(first.stdout.contains(json.text("peerId")) && first.stdout.contains(json.text("publicKey")));
    assert_eq!(json.text("keyType"), "secp256k1");
    assert_eq!(fs::metadata(&key).expect("still there").ino(), inode, "not written again: flash wears out");
}

#[test]
fn without_a_path_it_is_kept_where_state_belongs() {
    let dir = Dir::new();
    assert_eq!(finish(&dir, &["id"]).code, Some(0));
    assert!(fs::exists(dir.path("state/warren/identity.key")).expect("a look"));
    assert_eq!(finish(&dir, &["id", "--state-dir", &dir.path("service")]).code, Some(0));
    assert!(fs::exists(dir.path("service/identity.key")).expect("a look"));
}

#[test]
fn other_programs_can_read_and_write_the_file() {
    let dir = Dir::new();
    for kind in ["secp256k1", "ed25519"] {
        let path = dir.path(kind);
        let made = finish(&dir, &["id", "--json", "--key-type", kind, "--identity", &path]);
        let json = Json::parse(&made.stdout);
        assert_eq!(json.text("keyType"), kind);
        let key = Keypair::from_protobuf_encoding(&fs::read(&path).expect("written")).expect("a libp2p key");
        assert_eq!(json.text("peerId"), key.public().to_peer_id().to_string());
        let public: String = key.public().encode_protobuf().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(json.text("publicKey"), public);
    }
    let theirs = Keypair::generate_ed25519();
    let path = dir.file("theirs", theirs.to_protobuf_encoding().expect("encodes"), 0o600);
    let shown = finish(&dir, &["id", "--identity", &path]);
    assert!(shown.stdout.contains(&theirs.public().to_peer_id().to_string()), "{shown:?}");
}

#[test]
fn a_seed_always_gives_the_same_identity_and_touches_no_file() {
    let dir = Dir::new();
    let id = |seed: &str| finish(&dir, &["id", "--secret-key-seed", seed]).stdout;
    assert_eq!(id("1"), id("1"));
    assert_ne!(id("1"), id("2"));
    assert!(!fs::exists(dir.path("state")).expect("a look"));
}

#[test]
fn a_bad_key_file_is_refused_with_its_path() {
    let dir = Dir::new();
    let good = Keypair::generate_secp256k1().to_protobuf_encoding().expect("encodes");
    let cut = &good[..good.len() - 1];
    let files = [
        (dir.file("empty", "", 0o600), "empty"),
        (dir.file("text", "hello", 0o600), "no libp2p private key"),
        (dir.file("cut", cut, 0o600), "no libp2p private key"),
        (dir.file("large", vec![0; 100_000], 0o600), "100000 bytes"),
        (dir.file("writable", &good, 0o622), "chmod 600"),
        (dir.file("group-writable", &good, 0o660), "chmod 600"),
        (dir.path("."), "regular file"),
        (dir.file("occupied", "", 0o600) + "/key", "occupied"),
    ];
    for (path, part) in &files {
        for command in [&["id"][..], &["run", "--listen", crate::net::LOOPBACK]] {
            let ended = finish(&dir, &[command, &["--identity", path]].concat());
            assert_eq!(ended.code, Some(1), "{path}: {ended:?}");
            assert_eq!(ended.stdout, "", "{path}");
            assert_eq!(ended.stderr.lines().count(), 1, "{path}: {ended:?}");
            assert!(ended.stderr.contains(path.as_str()) && ended.stderr.contains(part), "{path}: {ended:?}");
        }
    }
}

#[test]
fn a_bad_key_file_in_the_state_directory_is_refused_too() {
    let dir = Dir::new();
    fs::create_dir(dir.path("own")).expect("a directory");
    let path = dir.file("own/identity.key", "hello", 0o600);
    let words = ["run", "--listen", crate::net::LOOPBACK, "--state-dir", &dir.path("own")];
    let ended = finish(&dir, &words);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&path), "{ended:?}");
    assert_eq!(fs::read(&path).expect("still there"), b"hello", "never replaced behind somebody's back");
}

#[test]
fn a_key_file_that_others_can_read_is_used_with_a_warning() {
    let dir = Dir::new();
    let good = Keypair::generate_secp256k1().to_protobuf_encoding().expect("encodes");
    let path = dir.file("shown", good, 0o644);
    let ended = finish(&dir, &["id", "--identity", &path]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("chmod 600") && ended.stderr.contains(&path), "{ended:?}");
}

#[test]
fn a_copy_replaces_what_was_there_and_is_private() {
    let dir = Dir::new();
    let copy = dir.file("copy", "something else", 0o666);
    let ended = finish(&dir, &["id", "--secret-key-seed", "4", "--identity-out", &copy]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let metadata = fs::metadata(&copy).expect("there");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let shown = finish(&dir, &["id", "--identity", &copy]);
    assert_eq!(shown.stdout, ended.stdout);

    let nowhere = dir.file("occupied", "", 0o600) + "/copy";
    let ended = finish(&dir, &["id", "--secret-key-seed", "4", "--identity-out", &nowhere]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&nowhere), "{ended:?}");
}
