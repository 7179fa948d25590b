// SPDX-License-Identifier: MPL-2.0

//! Changing the names in directories: further names, removal, renaming. Whoever calls has the locks of the directories that the layer
//! above takes.

use super::{
    super::{inode::Inode, types::*},
    RamInode,
    inode::{is_directory, ram},
};
use crate::prelude::*;

/// The most names of one file.
const MAX_LINKS: u32 = u32::MAX - 1;

impl RamInode {
    pub(super) fn link_name(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let node = ram(target)?;
        let mut entries = self.directory()?.write();
        entries.check_vacant(name)?;
        let nlink = node.attr.lock().nlink;
        match nlink {
            MAX_LINKS.. => return Err(EMLINK),
            // The first name of a file made without one: counted with the inode.
            0 => {}
            _ => self.fs.count_inode()?,
        }
        entries.set(name, target.clone());
        drop(entries);
        node.change_nlink(1);
        self.modified();
        Ok(())
    }

    pub(super) fn unlink_name(&self, name: &[u8]) -> Result<()> {
        let mut entries = self.directory()?.write();
        if is_directory(entries.get(name)?) {
            return Err(EISDIR);
        }
        let removed = entries.remove(name);
        drop(entries);
        if let Some(inode) = removed {
            lose_name(&inode)?;
        }
        self.modified();
        Ok(())
    }

    pub(super) fn remove_directory(&self, name: &[u8]) -> Result<()> {
        let mut entries = self.directory()?.write();
        ram(entries.get(name)?)?.directory()?.write().kill()?;
        let removed = entries.remove(name);
        drop(entries);
        if let Some(inode) = removed {
            lose_name(&inode)?;
        }
        self.change_nlink(-1);
        self.modified();
        Ok(())
    }

    pub(super) fn rename_entry(
        &self,
        old: &[u8],
        new_dir: &Arc<dyn Inode>,
        new: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
        let target_dir = ram(new_dir)?;
        let moved_directories = if target_dir.ino == self.ino {
            let mut entries = self.directory()?.write();
            let step = plan(entries.get(old)?, entries.get(new).ok(), mode)?;
            entries.remove(old);
            if let (Some(target), RenameMode::Exchange) = (&step.target, mode) {
                entries.set(old, target.clone());
            }
            entries.set(new, step.source.clone());
            step
        } else {
            let (mut from, mut to);
            if self.ino < target_dir.ino {
                from = self.directory()?.write();
                to = target_dir.directory()?.write();
            } else {
                to = target_dir.directory()?.write();
                from = self.directory()?.write();
            }
            let target = to.get(new).ok();
            if target.is_none() {
                to.check_vacant(new)?;
            }
            let step = plan(from.get(old)?, target, mode)?;
            from.remove(old);
            if let (Some(target), RenameMode::Exchange) = (&step.target, mode) {
                from.set(old, target.clone());
            }
            to.set(new, step.source.clone());
            step
        };
        let Step { source, target } = moved_directories;
        let (from_dirs, to_dirs) = match (&target, mode) {
            (Some(target), RenameMode::Exchange) => {
                ram(target)?.changed();
                let delta = i32::from(is_directory(&source)) - i32::from(is_directory(target));
                (-delta, delta)
            }
            (Some(target), _) => {
                lose_name(target)?;
                // The moved directory takes the place of one that goes.
                (-i32::from(is_directory(&source)), 0)
            }
            (None, _) => (-i32::from(is_directory(&source)), i32::from(is_directory(&source))),
        };
        self.change_nlink(from_dirs);
        target_dir.change_nlink(to_dirs);
        ram(&source)?.changed();
        self.modified();
        target_dir.modified();
        Ok(())
    }
}

/// Counts one name less of `inode`, which has just lost one to a removal or a rename.
fn lose_name(inode: &Arc<dyn Inode>) -> Result<()> {
    let node = ram(inode)?;
    node.change_nlink(if is_directory(inode) { -2 } else { -1 });
    if node.attr.lock().nlink > 0 {
        node.fs.release_inode();
    }
    Ok(())
}

/// What a rename moves, and what it meets.
struct Step {
    source: Arc<dyn Inode>,
    target: Option<Arc<dyn Inode>>,
}

/// Checks what a rename would do, and marks a directory that it replaces as removed.
fn plan(source: &Arc<dyn Inode>, target: Option<&Arc<dyn Inode>>, mode: RenameMode) -> Result<Step> {
    match (target, mode) {
        (Some(_), RenameMode::NoReplace) => return Err(EEXIST),
        (None, RenameMode::Exchange) => return Err(ENOENT),
        (Some(target), RenameMode::Replace) => match (is_directory(source), is_directory(target)) {
            (true, false) => return Err(ENOTDIR),
            (false, true) => return Err(EISDIR),
            (true, true) => ram(target)?.directory()?.write().kill()?,
            (false, false) => {}
        },
        _ => {}
    }
    Ok(Step { source: source.clone(), target: target.cloned() })
}
