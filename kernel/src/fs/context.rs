// SPDX-License-Identifier: MPL-2.0

//! What a process knows of the tree: its working directory, its root and its umask.
//!
//! Shared between processes made with `CLONE_FS`, copied otherwise.

use super::path::Path;
use crate::prelude::*;

/// Working directory, root directory and file mode creation mask.
pub struct FsContext {
    places: RwLock<Places>,
    umask: AtomicU32,
}

#[derive(Clone)]
struct Places {
    cwd: Path,
    root: Path,
}

impl FsContext {
    /// The context of the first process: everything at `root`, umask 022.
    pub fn new(root: Path) -> Self {
        Self { places: RwLock::new(Places { cwd: root.clone(), root }), umask: AtomicU32::new(0o022) }
    }

    /// A copy for a process that does not share it.
    pub fn fork(&self) -> Self {
        Self { places: RwLock::new(self.places.read().clone()), umask: AtomicU32::new(self.umask().into()) }
    }

    /// The working directory.
    pub fn cwd(&self) -> Path {
        self.places.read().cwd.clone()
    }

    /// The root directory.
    pub fn root(&self) -> Path {
        self.places.read().root.clone()
    }

    /// Changes the working directory.
    pub fn set_cwd(&self, cwd: Path) {
        // The old path is dropped with the lock released.
        let old = core::mem::replace(&mut self.places.write().cwd, cwd);
        drop(old);
    }

    /// Changes the root directory.
    pub fn set_root(&self, root: Path) {
        let old = core::mem::replace(&mut self.places.write().root, root);
        drop(old);
    }

    /// The umask.
    pub fn umask(&self) -> u16 {
        self.umask.load(Ordering::Relaxed) as u16
    }

    /// Sets the umask to the permission bits of `mask`, and returns the old one.
    pub fn set_umask(&self, mask: u16) -> u16 {
        self.umask.swap((mask & 0o777).into(), Ordering::Relaxed) as u16
    }
}

impl Default for FsContext {
    fn default() -> Self {
        Self::new(super::mount::root())
    }
}

impl Clone for FsContext {
    fn clone(&self) -> Self {
        self.fork()
    }
}
