//! Where a node keeps what it keeps.

use std::{
    env,
    path::{Path, PathBuf},
};

use super::IdentitySource;

/// The files of a node beside its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The address book.
    pub peers: PathBuf,
    /// What the clock may have come to.
    pub clock: PathBuf,
}

impl Kept {
    /// They belong to an identity: beside the key, unless a directory was named for all that is kept.
    pub(super) fn new(identity: &IdentitySource, state_dir: Option<PathBuf>) -> Option<Self> {
        if let Some(dir) = state_dir {
            return Some(Kept::in_dir(&dir));
        }
        match identity {
            IdentitySource::State(key) => key.parent().map(Kept::in_dir),
            IdentitySource::File(key) => {
                let beside = |end| {
                    let mut name = key.file_name()?.to_os_string();
                    name.push(end);
                    Some(key.with_file_name(name))
                };
                Some(Kept { peers: beside(".peers")?, clock: beside(".clock")? })
            }
            IdentitySource::Seed(_) | IdentitySource::Temporary => None,
        }
    }

    fn in_dir(dir: &Path) -> Self {
        Kept { peers: dir.join("peers"), clock: dir.join("clock") }
    }
}

/// The XDG base directory specification's place for state.
pub(super) fn usual_state_dir() -> Option<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let base =
        absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(base.join("warren"))
}
