//! Files that are there whole or not at all.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

/// Temporary file beside the target, synced, renamed; mode 0600; the directory is made if need be.
///
/// # Errors
/// Those of the file system; what was there before is there still.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    if !dir.exists() {
        make_private_dir(dir)?;
    }
    let name =
        path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file name"))?;
    let mut temporary = name.to_os_string();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = dir.join(temporary);
    let write = || {
        // A left-over of an earlier process with our id may be in the way.
        let _ = fs::remove_file(&temporary);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        // Without this the rename may be lost with the power; some file systems cannot, and then it is.
        let _ = fs::File::open(dir).and_then(|dir| dir.sync_all());
        Ok(())
    };
    write().inspect_err(|_| {
        // The error that matters is the first one.
        let _ = fs::remove_file(&temporary);
    })
}

/// Removes what writes of `path` left behind that the power did not let come to their end: flash is small. Only whoever
/// is sure that nobody else writes it may do that.
pub fn sweep(path: &Path) {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return;
    };
    // Where the directory cannot be read there is nothing to be done.
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let other = entry.file_name();
        let middle = other
            .to_str()
            .and_then(|other| other.strip_prefix(name)?.strip_prefix('.')?.strip_suffix(".tmp"));
        if middle.is_some_and(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit())) {
            // It does no harm but take space.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// With those above it, for the owner only.
///
/// # Errors
/// Those of the file system.
pub fn make_private_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_power_cut_left_behind_is_swept_and_nothing_else() {
        let dir = std::env::temp_dir().join(format!("warren-sweep-{}", std::process::id()));
        make_private_dir(&dir).expect("a directory");
        let kept = ["peers", "peers.tmp", "peers.12x.tmp", "peers..tmp", "peersons.1.tmp", "key.1.tmp"];
        for name in kept.iter().chain(&["peers.1.tmp", "peers.23456.tmp"]) {
            fs::write(dir.join(name), name).expect("writes");
        }
        sweep(&dir.join("peers"));
        let mut left: Vec<_> =
            fs::read_dir(&dir).expect("there").flatten().map(|entry| entry.file_name()).collect();
        left.sort();
        let mut kept = kept.to_vec();
        kept.sort_unstable();
        fs::remove_dir_all(&dir).expect("ours");
        assert_eq!(left, kept);
    }
}
