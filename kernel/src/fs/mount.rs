// SPDX-License-Identifier: MPL-2.0

//! Mounts: how file systems are put together into one tree.
//!
//! ```text
//!   Volume: one file system and its dentries        Mount: a (part of a) volume attached at a place
//!      └─ shared by all mounts of it                   └─ its own flags; bind mounts are further mounts
//! ```
//!
//! There is one mount namespace. The table maps a place (mount, dentry) to what is mounted on it. A mount that is attached is
//! in the table; one that is detached lives on as long as an open file or a working directory is inside it. The last mount of a
//! volume takes its dentries apart.
//!
//! Lock: the table's lock comes after all dentry locks; nothing else is locked while it is held.

use bitflags::bitflags;
use linux_raw_sys::general as abi;
use spin::Once;

use super::{
    dentry::Dentry,
    file_system::FileSystem,
    path::Path,
    ramfs::RamFs,
    types::{DeviceId, FileType},
};
use crate::prelude::*;

bitflags! {
    /// What a mount forbids or leaves out; the values are those of `mount(2)`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct MountFlags: u32 {
        /// No writing.
        const RDONLY = abi::MS_RDONLY;
        /// Set-user-ID and set-group-ID bits have no effect.
        const NOSUID = abi::MS_NOSUID;
        /// Device nodes cannot be opened.
        const NODEV = abi::MS_NODEV;
        /// Files cannot be executed, nor mapped for execution.
        const NOEXEC = abi::MS_NOEXEC;
        /// Access times are left alone.
        const NOATIME = abi::MS_NOATIME;
        /// Access times of directories are left alone.
        const NODIRATIME = abi::MS_NODIRATIME;
        /// Access times are updated when older than the others, or a day old.
        const RELATIME = abi::MS_RELATIME;
        /// Access times are always updated.
        const STRICTATIME = abi::MS_STRICTATIME;
    }
}

/// One file system with its dentries.
pub struct Volume {
    fs: Arc<dyn FileSystem>,
    root: Arc<Dentry>,
}

/// By the devices of their file systems.
static VOLUMES: Mutex<BTreeMap<DeviceId, Weak<Volume>>> = Mutex::new(BTreeMap::new());

impl Volume {
    /// The volume of a file system, the same one for each mount of it.
    pub fn of(fs: Arc<dyn FileSystem>) -> Arc<Self> {
        let mut volumes = VOLUMES.lock();
        volumes.retain(|_, volume| volume.strong_count() > 0);
        if let Some(volume) = volumes.get(&fs.device()).and_then(Weak::upgrade) {
            return volume;
        }
        let (device, root) = (fs.device(), Dentry::new_root(fs.root()));
        let volume = Arc::new(Self { fs, root });
        volumes.insert(device, Arc::downgrade(&volume));
        volume
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        self.root.forget_tree();
        self.fs.unmounted();
    }
}

/// A volume, or a part of it, seen through one set of flags.
pub struct Mount {
    id: u32,
    volume: Arc<Volume>,
    root: Arc<Dentry>,
    source: Box<[u8]>,
    flags: AtomicU32,
    point: SpinLock<Option<Path>>,
}

impl Mount {
    /// A mount of `root` in `volume`, attached nowhere yet.
    pub fn new(
        volume: Arc<Volume>,
        root: Option<Arc<Dentry>>,
        source: &[u8],
        flags: MountFlags,
    ) -> Arc<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(20);
        let root = root.unwrap_or_else(|| volume.root.clone());
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            volume,
            root,
            source: source.into(),
            flags: AtomicU32::new(flags.bits()),
            point: SpinLock::new(None),
        })
    }

    /// The number shown in `/proc/PID/mountinfo`.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The file system.
    pub fn fs(&self) -> &Arc<dyn FileSystem> {
        &self.volume.fs
    }

    /// The volume.
    pub fn volume(&self) -> &Arc<Volume> {
        &self.volume
    }

    /// The dentry that the mount shows as its root.
    pub fn root(&self) -> &Arc<Dentry> {
        &self.root
    }

    /// What was given as the source to `mount(2)`.
    pub fn source(&self) -> &[u8] {
        &self.source
    }

    /// The flags.
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_truncate(self.flags.load(Ordering::Relaxed))
    }

    /// Replaces the flags (`MS_REMOUNT`).
    pub fn set_flags(&self, flags: MountFlags) {
        self.flags.store(flags.bits(), Ordering::Relaxed);
    }

    /// Where the mount is attached; `None` for the root of the tree and for detached mounts.
    pub fn point(&self) -> Option<Path> {
        self.point.lock().clone()
    }

    /// Fails with EROFS if nothing may be written through this mount.
    ///
    /// # Errors
    ///
    /// EROFS.
    pub fn require_writable(&self) -> Result<()> {
        if self.flags().contains(MountFlags::RDONLY) { Err(EROFS) } else { Ok(()) }
    }
}

#[derive(Default)]
struct Table {
    /// All attached mounts by their numbers, which is the order they were attached in.
    list: BTreeMap<u32, Arc<Mount>>,
    /// What is mounted on a place: (mount, address of the dentry). A mount holds its dentry, so the address stays its own.
    by_point: BTreeMap<(u32, usize), Arc<Mount>>,
}

static TABLE: RwMutex<Table> = RwMutex::new(Table { list: BTreeMap::new(), by_point: BTreeMap::new() });

fn key(point: &Path) -> (u32, usize) {
    (point.mount().id, Arc::as_ptr(point.dentry()) as usize)
}

/// What is mounted on exactly this place.
pub fn mounted_at(point: &Path) -> Option<Arc<Mount>> {
    TABLE.read().by_point.get(&key(point)).cloned()
}

/// All attached mounts, in the order they were attached. Those that come or go meanwhile are in it or not.
pub fn all() -> impl Iterator<Item = Arc<Mount>> {
    let mut next = 0;
    core::iter::from_fn(move || {
        let found = TABLE.read().list.range(next..).next().map(|(_, mount)| mount.clone())?;
        next = found.id + 1;
        Some(found)
    })
}

static ROOT: Once<Path> = Once::new();

/// The root of the tree of all mounts: a tmpfs without limits, made on first use.
pub fn root() -> Path {
    ROOT.call_once(|| {
        let mount = Mount::new(Volume::of(RamFs::new_root()), None, b"rootfs", MountFlags::RELATIME);
        TABLE.write().list.insert(mount.id, mount.clone());
        let root = mount.root().clone();
        Path::new(mount, root)
    })
    .clone()
}

/// Attaches `mount` on `point`.
///
/// # Errors
///
/// ENOENT if the place has been removed.
pub fn attach(mount: Arc<Mount>, point: Path) -> Result<()> {
    if point.is_removed() {
        return Err(ENOENT);
    }
    point.dentry().pin();
    let mut table = TABLE.write();
    point.dentry().add_mount();
    table.by_point.insert(key(&point), mount.clone());
    *mount.point.lock() = Some(point);
    table.list.insert(mount.id, mount);
    Ok(())
}

/// The mounts attached in the mount of `place`, at it or below it.
///
/// # Errors
///
/// ENOMEM.
pub fn below(place: &Path) -> Result<Vec<Arc<Mount>>> {
    let inside = |point: Path| {
        Arc::ptr_eq(point.mount(), place.mount()) && place.dentry().is_ancestor_of(point.dentry())
    };
    try_collect(all().filter(|mount| mount.point().is_some_and(inside)))
}

/// Moves the mount that `from` is the root of to another place (`MS_MOVE`).
///
/// # Errors
///
/// EINVAL if `from` is no root of a mount, or the root of the whole tree; ELOOP if `to` lies inside the mount; ENOTDIR.
pub fn relocate(from: Path, to: Path) -> Result<()> {
    let mount = from.mount().clone();
    if !from.is_mount_root() || mount.point().is_none() {
        return Err(EINVAL);
    }
    let is_directory = |path: &Path| path.inode().kind() == FileType::Directory;
    if is_directory(&from) != is_directory(&to) {
        return Err(ENOTDIR);
    }
    let mut at = Some(to.clone());
    while let Some(place) = at {
        if Arc::ptr_eq(place.mount(), &mount) {
            return Err(ELOOP);
        }
        at = place.mount().point();
    }
    to.dentry().pin();
    let mut table = TABLE.write();
    to.dentry().add_mount();
    let old = mount.point.lock().replace(to.clone());
    if let Some(old) = &old {
        old.dentry().remove_mount();
        table.by_point.remove(&key(old));
    }
    table.by_point.insert(key(&to), mount);
    drop(table);
    Ok(())
}

/// Whether unmounting may leave users of the mount behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detach {
    /// Fail with EBUSY if it is in use.
    Unused,
    /// Take it out of the tree at once, with all below it; it goes when its last user goes (`MNT_DETACH`).
    Lazy,
}

/// Detaches the mount that `path` is the root of.
///
/// # Errors
///
/// EINVAL if `path` is no root of a mount, or the root of the whole tree; EBUSY if it is in use; ENOMEM.
pub fn detach(path: Path, how: Detach) -> Result<()> {
    if !path.is_mount_root() || path.mount().point().is_none() {
        return Err(EINVAL);
    }
    let target = path.mount().clone();
    // What is dropped goes after the table's lock: the last mount takes a whole volume apart.
    let mut dropped = Vec::new();
    let mut table = TABLE.write();
    let mut doomed = try_to_vec(core::slice::from_ref(&target))?;
    let mut next = 0;
    while let Some(above) = doomed.get(next).cloned() {
        next += 1;
        let on_it =
            |mount: &&Arc<Mount>| mount.point().is_some_and(|point| Arc::ptr_eq(point.mount(), &above));
        table.list.values().filter(on_it).try_for_each(|mount| try_push(&mut doomed, mount.clone()))?;
    }
    if how == Detach::Unused {
        // Held by: the list, the table, `path`, `target`, `doomed`.
        if doomed.len() > 1 || Arc::strong_count(&target) > 5 {
            return Err(EBUSY);
        }
    }
    // Four for each: the mount three times, and the one that it is on.
    try_reserve(&mut dropped, 4 * doomed.len())?;
    for mount in doomed {
        let point = mount.point.lock().take();
        if let Some(point) = point {
            point.dentry().remove_mount();
            dropped.extend(table.by_point.remove(&key(&point)));
            dropped.push(point.mount().clone());
        }
        dropped.extend(table.list.remove(&mount.id));
        dropped.push(mount);
    }
    drop(table);
    Ok(())
}
