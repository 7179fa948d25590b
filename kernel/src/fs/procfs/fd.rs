// SPDX-License-Identifier: MPL-2.0

//! `/proc/PID/fd` and `/proc/PID/fdinfo`: the open files of a process by number.

use linux_raw_sys::general::O_CLOEXEC;

use super::{
    super::{
        CloseOnExec, Fd,
        file::{AccessMode, File, FileOps, OpenFlags},
        file_system::FileSystem,
        inode::{Inode, LinkTarget},
        synthetic::{OpenText, SyntheticFs, Text, put},
        types::*,
    },
    parse_number,
    task::Task,
};
use crate::prelude::*;

/// Inode numbers of descriptors begin here.
const FIRST_INDEX: usize = 1 << 8;

/// Which of the two folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FdKind {
    /// `fd`: links to the files.
    Link,
    /// `fdinfo`: files that tell of them.
    Info,
}

impl FdKind {
    fn file_type(self) -> FileType {
        match self {
            Self::Link => FileType::Symlink,
            Self::Info => FileType::Regular,
        }
    }

    fn index(self, fd: Fd) -> usize {
        FIRST_INDEX + fd as usize * 2 + usize::from(self == Self::Info)
    }
}

/// One of the two folders.
pub struct FdFolder {
    fs: Arc<SyntheticFs>,
    task: Task,
    kind: FdKind,
    index: usize,
}

impl FdFolder {
    /// The folder of `task`, its file `index`.
    pub fn new(fs: Arc<SyntheticFs>, task: Task, kind: FdKind, index: usize) -> Self {
        Self { fs, task, kind, index }
    }
}

impl Inode for FdFolder {
    fn metadata(&self) -> Metadata {
        let mode = if self.kind == FdKind::Link { 0o500 } else { 0o555 };
        self.task.metadata(&self.fs, self.index, FileType::Directory, mode)
    }

    fn kind(&self) -> FileType {
        FileType::Directory
    }

    fn file_system(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn lookup_is_stable(&self) -> bool {
        false
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let fd = parse_number(name).and_then(|fd| Fd::try_from(fd).ok()).ok_or(ENOENT)?;
        self.task.check_access()?;
        let file = file_of(&self.task, fd)?;
        Ok(Arc::new(Descriptor {
            fs: self.fs.clone(),
            task: self.task.clone(),
            kind: self.kind,
            fd,
            access: file.access(),
        }))
    }

    fn readdir(&self, from: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        self.task.check_access()?;
        let Ok(thread) = self.task.thread() else { return Ok(()) };
        let mut start = from.saturating_sub(2) as usize;
        while let Some(fd) = thread.files().next_open(start) {
            start = fd as usize + 1;
            let name = format!("{fd}");
            let entry = DirEntry {
                name: name.as_bytes(),
                ino: self.task.ino(self.kind.index(fd)),
                kind: self.kind.file_type(),
                next: start as u64 + 2,
            };
            if !visit(entry) {
                break;
            }
        }
        Ok(())
    }
}

fn file_of(task: &Task, fd: Fd) -> Result<Arc<File>> {
    task.thread().and_then(|thread| thread.files().get(fd)).map_err(|_| ENOENT)
}

/// What is in the two folders.
struct Descriptor {
    fs: Arc<SyntheticFs>,
    task: Task,
    kind: FdKind,
    fd: Fd,
    access: AccessMode,
}

impl Inode for Descriptor {
    fn metadata(&self) -> Metadata {
        let mode = match self.kind {
            FdKind::Info => 0o444,
            FdKind::Link => {
                let read = if self.access.contains(AccessMode::READ) { 0o500 } else { 0 };
                let write = if self.access.contains(AccessMode::WRITE) { 0o300 } else { 0 };
                read | write
            }
        };
        let size = if self.kind == FdKind::Link { 64 } else { 0 };
        let kind = self.kind.file_type();
        Metadata { size, ..self.task.metadata(&self.fs, self.kind.index(self.fd), kind, mode) }
    }

    fn kind(&self) -> FileType {
        self.kind.file_type()
    }

    fn file_system(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn read_link(&self) -> Result<LinkTarget> {
        if self.kind == FdKind::Info {
            return Err(EINVAL);
        }
        self.task.check_access()?;
        Ok(LinkTarget::File(file_of(&self.task, self.fd)?.path().clone()))
    }

    fn open(&self, _flags: OpenFlags) -> Result<Option<Arc<dyn FileOps>>> {
        if self.kind == FdKind::Link {
            return Ok(None);
        }
        self.task.check_access()?;
        let (task, fd) = (self.task.clone(), self.fd);
        Ok(Some(Arc::new(OpenText::new(move |text| show(&task, fd, text)))))
    }
}

fn show(task: &Task, fd: Fd, text: &mut Text) -> Result<()> {
    let file = file_of(task, fd)?;
    let closes = task.thread()?.files().is_close_on_exec(fd).is_ok_and(|close| close == CloseOnExec::Yes);
    let flags = file.flags().bits() | if closes { O_CLOEXEC } else { 0 };
    put!(text, "pos:\t{}\nflags:\t0{:o}\n", file.offset(), flags);
    put!(text, "mnt_id:\t{}\nino:\t{}\n", file.path().mount().id(), file.inode().metadata().ino);
    file.ops().fdinfo(&file, text);
    Ok(())
}
