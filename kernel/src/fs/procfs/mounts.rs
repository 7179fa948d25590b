// SPDX-License-Identifier: MPL-2.0

//! `mounts` and `mountinfo`: the tree of mounts as a task sees it from its root.

use super::{
    super::{
        dentry::Dentry,
        mount::{self, Mount, MountFlags},
        path::{Path, ReversedPath},
        synthetic::{Text, put},
    },
    task::Task,
};
use crate::prelude::*;

/// What is written as octal digits in names.
const SPECIAL: &[u8] = b" \t\n\\";

/// All mounts below the task's root, with the path of each.
fn visible(task: &Task) -> Result<Vec<(Arc<Mount>, Vec<u8>)>> {
    let root = task.thread().map_err(|_| EINVAL)?.fs().root();
    let mut visible = Vec::new();
    for mount in mount::all() {
        let place = Path::new(mount.clone(), mount.root().clone());
        let (path, is_below) = place.text_from(&root)?;
        if is_below {
            try_push(&mut visible, (mount, path))?;
        }
    }
    Ok(visible)
}

fn flags(mount: &Mount, text: &mut Text) {
    let flags = mount.flags();
    text.push(if flags.contains(MountFlags::RDONLY) { b"ro" } else { b"rw" });
    for (flag, name) in [
        (MountFlags::NOSUID, "nosuid"),
        (MountFlags::NODEV, "nodev"),
        (MountFlags::NOEXEC, "noexec"),
        (MountFlags::NOATIME, "noatime"),
        (MountFlags::NODIRATIME, "nodiratime"),
        (MountFlags::RELATIME, "relatime"),
    ] {
        if flags.contains(flag) {
            put!(text, ",{name}");
        }
    }
}

fn source(mount: &Mount, text: &mut Text) {
    match mount.source() {
        b"" => text.push(b"none"),
        source => text.push_escaped(source, b" \t\n\\#"),
    }
}

/// `mounts` (`fstab(5)`).
pub(super) fn mounts(task: &Task, text: &mut Text) -> Result<()> {
    for (mount, path) in visible(task)? {
        source(&mount, text);
        text.push(b" ");
        text.push_escaped(&path, SPECIAL);
        put!(text, " {} ", mount.fs().type_name());
        flags(&mount, text);
        put!(text, "{} 0 0\n", mount.fs().show_options());
    }
    Ok(())
}

/// `mountinfo`.
pub(super) fn mountinfo(task: &Task, text: &mut Text) -> Result<()> {
    for (mount, path) in visible(task)? {
        let parent = mount.point().map_or(mount.id(), |point| point.mount().id());
        let device = mount.fs().device();
        put!(text, "{} {parent} {}:{} ", mount.id(), device.major, device.minor);
        text.push_escaped(&path_within(mount.root())?, SPECIAL);
        text.push(b" ");
        text.push_escaped(&path, SPECIAL);
        text.push(b" ");
        flags(&mount, text);
        put!(text, " - {} ", mount.fs().type_name());
        source(&mount, text);
        let access = if mount.flags().contains(MountFlags::RDONLY) { "ro" } else { "rw" };
        put!(text, " {access}{}\n", mount.fs().show_options());
    }
    Ok(())
}

/// The path of a dentry within its file system.
fn path_within(dentry: &Arc<Dentry>) -> Result<Vec<u8>> {
    let mut path = ReversedPath::default();
    let mut at = dentry.clone();
    while let Some(parent) = at.parent() {
        path.add(&at.name())?;
        at = parent;
    }
    Ok(path.finish())
}
