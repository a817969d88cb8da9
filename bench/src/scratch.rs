//! A directory for the files of one run, gone when the run is.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};

/// The directory, and how many state directories were made in it.
pub(crate) struct Scratch(PathBuf, AtomicUsize);

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("warren-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Scratch(dir, AtomicUsize::new(0)))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A new state directory for a node: what an earlier run of it remembered would be dialled in this one.
    pub(crate) fn state_dir(&self, name: &str) -> Result<PathBuf> {
        let number = self.1.fetch_add(1, Ordering::Relaxed);
        let dir = self.0.join("state").join(format!("{number}-{name}"));
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
