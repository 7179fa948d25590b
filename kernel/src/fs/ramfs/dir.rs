// SPDX-License-Identifier: MPL-2.0

//! The entries of a directory in memory.
//!
//! Every entry has a position that it keeps as long as it lives, and positions are given out in ascending order: a listing that
//! goes on from a position neither misses nor repeats an entry, whatever was added and removed in between.

use alloc::collections::LinkedList;

use super::{super::types::*, RamInode};
use crate::{fs::inode::Inode, prelude::*};

/// The first position; those below are `.` and `..`.
const FIRST: u64 = 2;

struct Entry {
    name: Arc<[u8]>,
    inode: Arc<dyn Inode>,
}

#[derive(Default)]
pub(super) struct Entries {
    positions: BTreeMap<Arc<[u8]>, u64>,
    entries: BTreeMap<u64, Entry>,
    next: u64,
    /// The directory has been removed: nothing can be added.
    dead: bool,
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }

    pub(super) fn get(&self, name: &[u8]) -> Result<&Arc<dyn Inode>> {
        let position = self.positions.get(name).ok_or(ENOENT)?;
        self.entries.get(position).map(|entry| &entry.inode).ok_or(ENOENT)
    }

    /// Fails unless an entry `name` can be added.
    pub(super) fn check_vacant(&self, name: &[u8]) -> Result<()> {
        if self.dead {
            return Err(ENOENT);
        }
        if self.positions.contains_key(name) { Err(EEXIST) } else { Ok(()) }
    }

    /// Adds an entry, in place of the one with that name if there is one.
    pub(super) fn set(&mut self, name: &[u8], inode: Arc<dyn Inode>) {
        if let Some(position) = self.positions.get(name) {
            if let Some(entry) = self.entries.get_mut(position) {
                entry.inode = inode;
            }
            return;
        }
        let position = self.next.max(FIRST);
        self.next = position + 1;
        let name: Arc<[u8]> = name.into();
        self.positions.insert(name.clone(), position);
        self.entries.insert(position, Entry { name, inode });
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Arc<dyn Inode>> {
        let position = self.positions.remove(name)?;
        self.entries.remove(&position).map(|entry| entry.inode)
    }

    /// Marks an empty directory as removed.
    pub(super) fn kill(&mut self) -> Result<()> {
        if self.len() > 0 {
            return Err(ENOTEMPTY);
        }
        self.dead = true;
        Ok(())
    }

    pub(super) fn list(&self, from: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) {
        for (position, Entry { name, inode }) in self.entries.range(from..) {
            let meta = inode.metadata();
            let entry = DirEntry { name, ino: meta.ino, kind: meta.kind, next: position + 1 };
            if !visit(entry) {
                break;
            }
        }
    }

    /// A position behind all entries.
    pub(super) fn end(&self) -> u64 {
        self.next.max(FIRST)
    }

    fn take_all(&mut self) -> impl Iterator<Item = Arc<dyn Inode>> + use<> {
        self.positions.clear();
        core::mem::take(&mut self.entries).into_values().map(|entry| entry.inode)
    }
}

/// Takes a tree apart that nobody can reach any more, without recursion, and with no more memory than a little for each folder.
pub(super) fn forget_tree(root: Arc<dyn Inode>) {
    let mut pending = LinkedList::from([root]);
    while let Some(folder) = pending.pop_back() {
        let Some(entries) = entries_of(&folder) else { continue };
        let all = entries.write().take_all();
        pending.extend(all.filter(|inode| entries_of(inode).is_some_and(|entries| entries.read().len() > 0)));
    }
}

fn entries_of(inode: &Arc<dyn Inode>) -> Option<&RwMutex<Entries>> {
    inode.downcast_ref::<RamInode>().and_then(RamInode::entries)
}
