// SPDX-License-Identifier: MPL-2.0

//! Dentries: the tree of names, kept over what the file systems say.
//!
//! ```text
//!        parent (strong)              children (strong, while the name exists)
//!   "usr" ◄──────────── "bin"    "usr" ────────────► "bin"
//! ```
//!
//! A dentry is one name of one inode. The tree serves `..`, `getcwd` and mount points, and saves asking the file system for
//! names it has told before. A directory that changes by itself is asked each time, and so is everything below it: what is found
//! there is kept by nobody but its users, and would keep itself if it also kept its children.
//!
//! Invariants: a name that has been removed or replaced is out of its parent's `children` before the call that removed it
//! returns, and its dentry says so (`is_removed`); parents outlive children. The cycle of strong references is broken when
//! a name is removed, or for a whole tree by [`Dentry::forget_tree`] at unmount.
//!
//! The lock of `children` is the directory's lock: lookup of an unknown name, creation and removal hold it, so a file
//! system sees one change at a time in each directory. See `fs` for its place in the order of locks.

use alloc::collections::LinkedList;

use ostd::sync::MutexGuard;

use super::inode::Inode;
use crate::prelude::*;

/// The known names of a directory.
pub type Children = BTreeMap<Box<[u8]>, Arc<Dentry>>;

/// One name of one inode.
pub struct Dentry {
    inode: Arc<dyn Inode>,
    place: SpinLock<Place>,
    children: Mutex<Children>,
    /// Whether the parent keeps this name. Nothing is renamed from or to a directory that changes by itself.
    is_kept: bool,
    removed: AtomicBool,
    mounts: AtomicU32,
}

struct Place {
    name: Box<[u8]>,
    parent: Option<Arc<Dentry>>,
}

impl Dentry {
    /// The root of a tree.
    pub fn new_root(inode: Arc<dyn Inode>) -> Arc<Self> {
        Self::build(inode, Place { name: Box::from(&b"/"[..]), parent: None })
    }

    /// A name in `parent`, not yet among its children.
    pub fn new_child(parent: &Arc<Self>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Self> {
        Self::build(inode, Place { name: name.into(), parent: Some(parent.clone()) })
    }

    /// The place of a file that has no name any more, or never had one (`O_TMPFILE`).
    pub fn new_unnamed(parent: &Arc<Self>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Self> {
        let dentry = Self::new_child(parent, name, inode);
        dentry.removed.store(true, Ordering::Release);
        dentry
    }

    fn build(inode: Arc<dyn Inode>, place: Place) -> Arc<Self> {
        let is_kept = place.parent.as_ref().is_none_or(|parent| parent.keeps_children());
        Arc::new(Self {
            inode,
            place: SpinLock::new(place),
            children: Mutex::new(BTreeMap::new()),
            is_kept,
            removed: AtomicBool::new(false),
            mounts: AtomicU32::new(0),
        })
    }

    /// The inode of this name.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    /// The name within the parent.
    pub fn name(&self) -> Box<[u8]> {
        self.place.lock().name.clone()
    }

    /// The directory that holds the name; `None` for a root.
    pub fn parent(&self) -> Option<Arc<Self>> {
        self.place.lock().parent.clone()
    }

    /// Whether the name is gone.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Whether something is mounted here.
    pub fn is_mount_point(&self) -> bool {
        self.mounts.load(Ordering::Acquire) > 0
    }

    /// Whether names that were found are known from then on.
    fn keeps_children(&self) -> bool {
        self.is_kept && self.inode.lookup_is_stable()
    }

    /// Whether something is mounted here, or below where names are kept only for that reason.
    fn leads_to_mount(&self) -> bool {
        self.is_mount_point()
            || !self.keeps_children() && self.lock_children().values().any(|child| child.leads_to_mount())
    }

    /// Counts one more mount here.
    pub fn add_mount(&self) {
        self.mounts.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts one mount less here.
    pub fn remove_mount(&self) {
        self.mounts.fetch_sub(1, Ordering::AcqRel);
    }

    /// Takes the directory's lock.
    pub fn lock_children(&self) -> MutexGuard<'_, Children> {
        self.children.lock()
    }

    /// Finds the entry `name` (never `.` or `..`).
    ///
    /// # Errors
    ///
    /// ENOENT; ENOTDIR.
    pub fn lookup(self: &Arc<Self>, name: &[u8]) -> Result<Arc<Self>> {
        self.lookup_locked(&mut self.lock_children(), name)
    }

    /// [`Dentry::lookup`] for a caller that holds the lock.
    ///
    /// # Errors
    ///
    /// ENOENT; ENOTDIR.
    pub fn lookup_locked(self: &Arc<Self>, children: &mut Children, name: &[u8]) -> Result<Arc<Self>> {
        if let Some(child) = children.get(name)
            && (self.keeps_children() || child.leads_to_mount())
        {
            return Ok(child.clone());
        }
        let inode = self.inode.lookup(name)?;
        Ok(self.adopt(children, name, inode))
    }

    /// Makes the dentry of an inode that the file system has just found or created under `name`.
    pub fn adopt(self: &Arc<Self>, children: &mut Children, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Self> {
        let child = Self::new_child(self, name, inode);
        if self.keeps_children() {
            children.insert(name.into(), child.clone());
        }
        child
    }

    /// Notes that the file system has removed the entry `name`.
    pub fn disown(children: &mut Children, name: &[u8]) {
        if let Some(child) = children.remove(name) {
            child.removed.store(true, Ordering::Release);
        }
    }

    /// Notes that the file system has given `self` the name `name` in `parent`, whose lock the caller holds.
    pub fn move_to(self: &Arc<Self>, parent: &Arc<Self>, children: &mut Children, name: &[u8]) {
        let old = core::mem::replace(
            &mut *self.place.lock(),
            Place { name: name.into(), parent: Some(parent.clone()) },
        );
        // Dropped only here, with the spin lock released: it may be the last reference to the old parent.
        drop(old);
        if parent.keeps_children() {
            children.insert(name.into(), self.clone());
        }
    }

    /// Keeps an entry in the tree that would not be kept otherwise, and those that lead to it, because something is mounted on it.
    pub fn pin(self: &Arc<Self>) {
        let mut at = self.clone();
        while !at.is_kept
            && let Some(parent) = at.parent()
        {
            parent.lock_children().insert(at.name(), at);
            at = parent;
        }
    }

    /// Whether `self` is `other` or one of the directories above it.
    pub fn is_ancestor_of(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        let mut at = Some(other.clone());
        while let Some(dentry) = at {
            if Arc::ptr_eq(self, &dentry) {
                return true;
            }
            at = dentry.parent();
        }
        false
    }

    /// Takes a tree apart that nobody can reach any more, without recursion, and with no more memory than a little for each
    /// directory.
    pub fn forget_tree(self: &Arc<Self>) {
        let mut pending = LinkedList::from([self.clone()]);
        while let Some(dentry) = pending.pop_back() {
            let children = core::mem::take(&mut *dentry.children.lock());
            pending.extend(children.into_values().filter(|child| !child.children.lock().is_empty()));
        }
    }
}

impl Drop for Dentry {
    fn drop(&mut self) {
        // A long chain of removed directories must not be dropped by recursion.
        let mut next = self.place.get_mut().parent.take();
        while let Some(dentry) = next {
            next = Arc::into_inner(dentry).and_then(|mut dentry| dentry.place.get_mut().parent.take());
        }
    }
}
