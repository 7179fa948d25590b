// SPDX-License-Identifier: MPL-2.0

//! The file system on `/dev/pts`: a node for each pseudoterminal, and `ptmx`.

use core::iter::successors;

use linux_raw_sys::general::DEVPTS_SUPER_MAGIC;
use spin::Once;

use super::{
    file_system::{FileSystem, FileSystemType},
    inode::Inode,
    synthetic::{SyntheticFs, metadata},
    types::*,
};
use crate::{
    prelude::*,
    tty::pty::{self, Pty},
};

/// The number of `ptmx`.
pub const PTMX: DeviceId = DeviceId::new(5, 2);

const PTMX_INO: u64 = 2;
/// The inode number of terminal 0.
const FIRST_INO: u64 = 3;

/// The type `devpts`: one instance.
pub struct Devpts;

impl FileSystemType for Devpts {
    fn name(&self) -> &'static str {
        "devpts"
    }

    fn mount(&self, _source: &[u8], _options: &[u8]) -> Result<Arc<dyn FileSystem>> {
        static INSTANCE: Once<Arc<SyntheticFs>> = Once::new();
        let root = |fs: &Arc<SyntheticFs>| -> Arc<dyn Inode> {
            Arc::new(Node { fs: fs.clone(), what: What::Root, born: super::current::now() })
        };
        Ok(INSTANCE.call_once(|| SyntheticFs::new("devpts", DEVPTS_SUPER_MAGIC, root)).clone())
    }
}

/// What is in the file system.
enum What {
    Root,
    Ptmx,
    Terminal(u32, Arc<Pty>),
}

struct Node {
    fs: Arc<SyntheticFs>,
    what: What,
    born: Timestamp,
}

impl Inode for Node {
    fn metadata(&self) -> Metadata {
        let make = |ino, kind, mode| metadata(&self.fs, ino, kind, mode, self.born);
        match &self.what {
            What::Root => make(1, FileType::Directory, 0o755),
            What::Ptmx => Metadata { rdev: PTMX, ..make(PTMX_INO, FileType::CharDevice, 0o666) },
            What::Terminal(index, pty) => {
                let attr = *pty.node.lock();
                let meta = make(FIRST_INO + u64::from(*index), FileType::CharDevice, attr.mode);
                let (atime, mtime, ctime) = (attr.born, attr.born, attr.born);
                Metadata { rdev: pty.device(), uid: attr.uid, gid: attr.gid, atime, mtime, ctime, ..meta }
            }
        }
    }

    fn file_system(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        let What::Terminal(_, pty) = &self.what else { return Err(EPERM) };
        let mut attr = pty.node.lock();
        attr.mode = change.mode.unwrap_or(attr.mode);
        attr.uid = change.uid.unwrap_or(attr.uid);
        attr.gid = change.gid.unwrap_or(attr.gid);
        Ok(())
    }

    fn lookup_is_stable(&self) -> bool {
        false
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if !matches!(self.what, What::Root) {
            return Err(ENOTDIR);
        }
        let what = match name {
            b"ptmx" => What::Ptmx,
            _ => {
                let name = core::str::from_utf8(name).map_err(|_| ENOENT)?;
                let index: u32 = name.parse().map_err(|_| ENOENT)?;
                if index.to_string() != name {
                    return Err(ENOENT);
                }
                What::Terminal(index, pty::pair(index).ok_or(ENOENT)?)
            }
        };
        Ok(Arc::new(Self { fs: self.fs.clone(), what, born: self.born }))
    }

    fn readdir(&self, from: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        if !matches!(self.what, What::Root) {
            return Err(ENOTDIR);
        }
        let indices = successors(pty::next_pair(0), |index| pty::next_pair(index + 1));
        let terminals = indices.map(|index| (index.to_string(), FIRST_INO + u64::from(index)));
        let all = [("ptmx".to_owned(), PTMX_INO)].into_iter().chain(terminals);
        for (name, ino) in all {
            // Inode numbers begin where positions do.
            if ino < from {
                continue;
            }
            let entry = DirEntry { name: name.as_bytes(), ino, kind: FileType::CharDevice, next: ino + 1 };
            if !visit(entry) {
                break;
            }
        }
        Ok(())
    }
}
