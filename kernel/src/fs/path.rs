// SPDX-License-Identifier: MPL-2.0

//! Paths: a place in the tree of all mounts.
//!
//! A [`Path`] is a dentry seen through a mount. Two paths can name one dentry (bind mounts), and a dentry under a mount point
//! is hidden by what is mounted there. Crossing in either direction happens here.

use super::{dentry::Dentry, inode::Inode, mount::Mount};
use crate::prelude::*;

/// A place in the tree of mounts.
#[derive(Clone)]
pub struct Path {
    mount: Arc<Mount>,
    dentry: Arc<Dentry>,
}

impl Path {
    /// The dentry as seen through the mount.
    pub fn new(mount: Arc<Mount>, dentry: Arc<Dentry>) -> Self {
        Self { mount, dentry }
    }

    /// The mount the path goes through.
    pub fn mount(&self) -> &Arc<Mount> {
        &self.mount
    }

    /// The dentry at the end of the path.
    pub fn dentry(&self) -> &Arc<Dentry> {
        &self.dentry
    }

    /// The inode at the end of the path.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        self.dentry.inode()
    }

    /// The path of an entry of this directory.
    pub fn child(&self, dentry: Arc<Dentry>) -> Self {
        Self { mount: self.mount.clone(), dentry }
    }

    /// Goes to an entry of this directory, on the same mount.
    pub fn descend(&mut self, dentry: Arc<Dentry>) {
        self.dentry = dentry;
    }

    /// Whether both are the same place.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount) && Arc::ptr_eq(&self.dentry, &other.dentry)
    }

    /// Whether this is the root of its mount.
    pub fn is_mount_root(&self) -> bool {
        Arc::ptr_eq(&self.dentry, self.mount.root())
    }

    /// Whether the name is gone.
    pub fn is_removed(&self) -> bool {
        self.dentry.is_removed()
    }

    /// Goes to the root of what is mounted here, and of what is mounted on that, as far as it goes.
    pub fn enter_mounts(mut self) -> Self {
        while self.dentry.is_mount_point() {
            let Some(mounted) = super::mount::mounted_at(&self) else { break };
            let root = mounted.root().clone();
            self = Self::new(mounted, root);
        }
        self
    }

    /// Goes from the root of a mount to the place it is mounted on, as far as it goes.
    pub fn leave_mounts(mut self) -> Self {
        while self.is_mount_root() {
            let Some(point) = self.mount.point() else { break };
            self = point;
        }
        self
    }

    /// The directory above this one, no higher than `root`.
    pub fn parent(&self, root: &Self) -> Self {
        if self.is_same(root) {
            return self.clone();
        }
        let outer = self.clone().leave_mounts();
        match outer.dentry.parent() {
            Some(parent) => outer.child(parent).enter_mounts(),
            None => self.clone(),
        }
    }

    /// The path as text from `root` down, without a mark for removed names.
    ///
    /// The second value says whether the path lies below `root` at all; if not, the text starts at the top of its own tree.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub fn text_from(&self, root: &Self) -> Result<(Vec<u8>, bool)> {
        let mut text = ReversedPath::default();
        let mut at = self.clone();
        let reachable = loop {
            if at.is_same(root) {
                break true;
            }
            if at.is_mount_root() {
                match at.mount.point() {
                    Some(point) => {
                        at = point;
                        continue;
                    }
                    None => break false,
                }
            }
            let Some(parent) = at.dentry.parent() else { break false };
            text.add(&at.dentry.name())?;
            at.dentry = parent;
        };
        Ok((text.finish(), reachable))
    }

    /// The path as `/proc/PID/fd` and `/proc/PID/maps` show it: from the caller's root, with ` (deleted)` after a name that
    /// is gone.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub fn display(&self) -> Result<Vec<u8>> {
        const DELETED: &[u8] = b" (deleted)";
        if self.mount.fs().names_are_labels() {
            return Ok(self.dentry.name().into_vec());
        }
        let (mut text, _) = self.text_from(&super::current::root())?;
        if self.is_removed() {
            try_reserve(&mut text, DELETED.len())?;
            text.extend_from_slice(DELETED);
        }
        Ok(text)
    }
}

/// A path that is put together from its end. It can be longer than any that a program gives.
#[derive(Default)]
pub struct ReversedPath(Vec<u8>);

impl ReversedPath {
    /// Puts a name in front.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub fn add(&mut self, name: &[u8]) -> Result<()> {
        try_reserve(&mut self.0, name.len() + 1)?;
        self.0.extend(name.iter().rev());
        self.0.push(b'/');
        Ok(())
    }

    /// The path, which starts with a slash.
    pub fn finish(mut self) -> Vec<u8> {
        if self.0.is_empty() {
            self.0.push(b'/');
        }
        self.0.reverse();
        self.0
    }
}
