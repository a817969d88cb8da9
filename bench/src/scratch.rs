//! A directory for the files of one run, gone when the run is.

use std::path::PathBuf;

use anyhow::{Context, Result};

pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("warren-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Scratch(dir))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A state directory of its own for the node of this name.
    pub(crate) fn state_dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.0.join("state").join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind it does no harm but take space.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
