//! The key that a node is known by: made once, kept in a file that other libp2p programs can read.
//!
//! The file holds a libp2p `PrivateKey` protobuf, as `Keypair::to_protobuf_encoding` and its counterparts in
//! go and js write it (libp2p specs, peer-ids).

use std::{
    fs, io,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use libp2p::identity::{DecodingError, KeyType, Keypair, secp256k1};
use sha2::{Digest, Sha256};

use crate::{files, limits};

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot read the identity file '{0}': {1}")]
    Read(PathBuf, io::Error),
    #[error("cannot write the identity file '{0}': {1}")]
    Write(PathBuf, io::Error),
    #[error("the identity file '{0}' is empty; remove it to make a new identity")]
    Empty(PathBuf),
    #[error("the identity file '{0}' is no regular file; name one that is, or one to be made")]
    NotAFile(PathBuf),
    #[error("the identity file '{0}' has {1} bytes, more than any key; is it the right file?")]
    Large(PathBuf, u64),
    #[error("the identity file '{0}' holds no libp2p private key ({1}); remove it to make a new identity")]
    Corrupt(PathBuf, DecodingError),
    #[error("the identity file '{0}' holds a {1} key; warren takes secp256k1 and ed25519")]
    Kind(PathBuf, &'static str),
    #[error("others can {0} the identity file '{1}' (mode {2:03o}); run: chmod 600 '{1}'")]
    Exposed(&'static str, PathBuf, u32),
    #[error("the key could not be encoded: {0}")]
    Encode(DecodingError),
}

/// A fresh identity of warren's default kind, secp256k1.
pub fn generate() -> Keypair {
    Keypair::generate_secp256k1()
}

/// The identity that belongs to a number: the same one everywhere, so anyone can have it. For tests.
pub fn from_seed(seed: u64) -> Keypair {
    for attempt in 0u32.. {
        let hash = Sha256::new()
            .chain_update("warren secret key seed")
            .chain_update(seed.to_be_bytes())
            .chain_update(attempt.to_be_bytes())
            .finalize();
        // All but 2^-128 of all hashes are keys.
        if let Ok(secret) = secp256k1::SecretKey::try_from_bytes(hash.to_vec()) {
            return secp256k1::Keypair::from(secret).into();
        }
    }
    unreachable!("one of 2^32 hashes is a key")
}

/// Reads the identity in `path`.
///
/// A file that others may write is refused; one that others may read is used with a warning, because it is
/// too late to help, and a router that stops talking helps less.
pub fn load(path: &Path) -> Result<Keypair, IdentityError> {
    let read = |e| IdentityError::Read(path.into(), e);
    let file = fs::File::open(path).map_err(read)?;
    let metadata = file.metadata().map_err(read)?;
    if !metadata.is_file() {
        return Err(IdentityError::NotAFile(path.into()));
    }
    if metadata.len() > limits::KEY_FILE_BYTES {
        return Err(IdentityError::Large(path.into(), metadata.len()));
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(IdentityError::Exposed("write", path.into(), mode));
    }
    if mode & 0o044 != 0 {
        log::warn!("{}", IdentityError::Exposed("read", path.into(), mode));
    }
    let mut bytes = Vec::new();
    file.take(limits::KEY_FILE_BYTES).read_to_end(&mut bytes).map_err(read)?;
    if bytes.is_empty() {
        return Err(IdentityError::Empty(path.into()));
    }
    let key = Keypair::from_protobuf_encoding(&bytes).map_err(|e| IdentityError::Corrupt(path.into(), e))?;
    match key.key_type() {
        KeyType::Secp256k1 | KeyType::Ed25519 => Ok(key),
        KeyType::RSA => Err(IdentityError::Kind(path.into(), "RSA")),
        KeyType::Ecdsa => Err(IdentityError::Kind(path.into(), "ECDSA")),
    }
}

/// Reads the identity in `path`, or makes one there with `generate` if there is no file.
pub fn load_or_create(path: &Path, generate: fn() -> Keypair) -> Result<Keypair, IdentityError> {
    match load(path) {
        Err(IdentityError::Read(_, e)) if e.kind() == io::ErrorKind::NotFound => {
            let key = generate();
            save(&key, path)?;
            log::info!("made a new identity in '{}'", path.display());
            Ok(key)
        }
        result => result,
    }
}

/// Writes an identity to `path` for its owner only, replacing what is there at once or not at all.
pub fn save(key: &Keypair, path: &Path) -> Result<(), IdentityError> {
    let bytes = key.to_protobuf_encoding().map_err(IdentityError::Encode)?;
    files::write_atomically(path, &bytes).map_err(|e| IdentityError::Write(path.into(), e))
}

/// The name of a key's kind, in words.
pub fn kind(key: &Keypair) -> &'static str {
    match key.key_type() {
        KeyType::Ed25519 => "ed25519",
        KeyType::Secp256k1 => "secp256k1",
        KeyType::RSA => "rsa",
        KeyType::Ecdsa => "ecdsa",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A directory that is gone when the test is over.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("warren-identity-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).expect("temporary directory");
            Self(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_new_identity_is_private_and_stays_the_same() {
        let dir = Dir::new("new");
        let path = dir.0.join("state/identity.key");
        let made = load_or_create(&path, generate).expect("makes");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(dir.0.join("state")).expect("there").mode() & 0o777, 0o700);
        let loaded = load_or_create(&path, generate).expect("loads");
        assert_eq!(made.public(), loaded.public());
        assert_eq!(fs::read_dir(dir.0.join("state")).expect("there").count(), 1, "no temporary file is left");
    }

    #[test]
    fn ed25519_is_accepted() {
        let dir = Dir::new("ed25519");
        let path = dir.0.join("key");
        let key = Keypair::generate_ed25519();
        save(&key, &path).expect("saves");
        assert_eq!(load(&path).expect("loads").public(), key.public());
    }

    #[test]
    fn a_bad_file_is_refused_with_its_name() {
        let dir = Dir::new("bad");
        let path = dir.0.join("key");
        for (bytes, part) in [
            (&b""[..], "is empty"),
            (&b"hello"[..], "no libp2p private key"),
            (&[0u8; 20_000][..], "20000 bytes"),
        ] {
            fs::write(&path, bytes).expect("writes");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
            let error = load(&path).expect_err("refused").to_string();
            assert!(error.contains(part) && error.contains("key"), "{error}");
        }
        let error = load(&dir.0).expect_err("a directory").to_string();
        assert!(error.contains("regular file"), "{error}");
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        let dir = Dir::new("mode");
        let path = dir.0.join("key");
        save(&generate(), &path).expect("saves");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(load(&path).is_ok(), "readable by others: used, with a warning");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o662)).expect("chmod");
        assert!(matches!(load(&path), Err(IdentityError::Exposed("write", _, 0o662))));
    }

    #[test]
    fn a_seed_always_gives_the_same_key() {
        assert_eq!(from_seed(1).public(), from_seed(1).public());
        assert_ne!(from_seed(1).public(), from_seed(2).public());
    }
}
