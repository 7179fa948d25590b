// SPDX-License-Identifier: MPL-2.0

//! The folder of a process, and of each of its threads.

use super::{
    super::{
        file::{FileOps, OpenFlags},
        file_system::FileSystem,
        inode::{Inode, LinkTarget},
        synthetic::{OpenText, SyntheticFs, Text, metadata},
        types::*,
    },
    fd::{FdFolder, FdKind},
    info, list_tasks, maps,
    memory::{self, OpenMem, OpenPageMap},
    mounts, parse_number, status,
};
use crate::{
    mm::AddressSpace,
    prelude::*,
    process::{Credentials, credentials::CapSet, table},
};

/// A process or a thread, weakly held.
#[derive(Clone)]
pub struct Task {
    pid: Pid,
    process: Weak<Process>,
    /// One thread of it; without, the process as a whole.
    thread: Option<(Tid, Weak<Thread>)>,
}

impl Task {
    /// A process as a whole.
    pub fn of_process(process: &Arc<Process>) -> Self {
        Self { pid: process.pid(), process: Arc::downgrade(process), thread: None }
    }

    fn of_thread(thread: &Arc<Thread>) -> Self {
        let this = Some((thread.tid(), Arc::downgrade(thread)));
        Self { thread: this, ..Self::of_process(thread.process()) }
    }

    /// The process's number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The thread's number, or that of the process.
    pub fn tid(&self) -> Tid {
        self.thread.as_ref().map_or(self.pid, |(tid, _)| *tid)
    }

    /// Whether it is one thread.
    pub fn is_thread(&self) -> bool {
        self.thread.is_some()
    }

    /// An inode number for its file `index`.
    pub fn ino(&self, index: usize) -> u64 {
        (u64::from(self.tid()) << 32) | (u64::from(self.is_thread()) << 31) | (index as u64 + 1)
    }

    /// The process, a zombie included.
    ///
    /// # Errors
    ///
    /// ESRCH if it is gone.
    pub fn process(&self) -> Result<Arc<Process>> {
        let process = self.process.upgrade().ok_or(ESRCH)?;
        let found = table::process(self.pid).filter(|found| Arc::ptr_eq(found, &process)).ok_or(ESRCH)?;
        match &self.thread {
            Some((_, thread)) if thread.strong_count() == 0 => Err(ESRCH),
            _ => Ok(found),
        }
    }

    /// The thread, or the oldest of the process.
    ///
    /// # Errors
    ///
    /// ESRCH if there is none (any more).
    pub fn thread(&self) -> Result<Arc<Thread>> {
        match &self.thread {
            Some((tid, thread)) => {
                let thread = thread.upgrade().ok_or(ESRCH)?;
                table::thread(*tid).filter(|found| Arc::ptr_eq(found, &thread)).ok_or(ESRCH)
            }
            None => self.process()?.main_thread().ok_or(ESRCH),
        }
    }

    /// The address space; none once the process has ended.
    ///
    /// # Errors
    ///
    /// ESRCH if the process is gone.
    pub fn vm(&self) -> Result<Option<Arc<AddressSpace>>> {
        Ok(self.process()?.vm())
    }

    /// Fails unless the caller may look into the task: it is its own, or has the same user and group and no more
    /// capabilities, and lets itself be looked into (`ptrace(2)`, "Ptrace access mode checking").
    ///
    /// # Errors
    ///
    /// EACCES; ESRCH.
    pub fn check_access(&self) -> Result<()> {
        let process = self.process()?;
        let Some(caller) = Thread::current() else { return Ok(()) };
        if Arc::ptr_eq(caller.process(), &process) {
            return Ok(());
        }
        let own = caller.credentials();
        if own.has(CapSet::SYS_PTRACE) {
            return Ok(());
        }
        let theirs = self.thread()?.credentials();
        let same_user = [theirs.uid, theirs.euid, theirs.suid].iter().all(|uid| *uid == own.fsuid);
        let same_group = [theirs.gid, theirs.egid, theirs.sgid].iter().all(|gid| *gid == own.fsgid);
        let is_weaker = own.effective.contains(theirs.permitted);
        if same_user && same_group && is_weaker && process.dumpable.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(EACCES)
        }
    }

    /// Who its files belong to.
    fn owner(&self) -> (u32, u32) {
        let dumpable = self.process().is_ok_and(|process| process.dumpable.load(Ordering::Relaxed));
        match self.thread() {
            Ok(thread) if dumpable => {
                let credentials: Arc<Credentials> = thread.credentials();
                (credentials.euid, credentials.egid)
            }
            _ => (0, 0),
        }
    }

    /// The attributes of its file `index`.
    pub fn metadata(&self, fs: &SyntheticFs, index: usize, kind: FileType, mode: u16) -> Metadata {
        let born = super::super::current::now();
        let (uid, gid) = self.owner();
        Metadata { uid, gid, ..metadata(fs, self.ino(index), kind, mode, born) }
    }
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    /// Whoever its mode lets.
    Mode,
    /// Who may look into the task.
    Access,
}

/// What a file in the folder is.
enum Kind {
    Text(Guard, fn(&Task, &mut Text) -> Result<()>),
    Setting(fn(&Task, &mut Text) -> Result<()>, fn(&Task, &[u8]) -> Result<()>),
    Link(fn(&Task) -> Result<LinkTarget>),
    Mem,
    PageMap,
    Descriptors(FdKind),
    Threads,
}

/// A file of the folder.
struct TaskRow {
    name: &'static str,
    mode: u16,
    kind: Kind,
}

const fn open_text(name: &'static str, show: fn(&Task, &mut Text) -> Result<()>) -> TaskRow {
    TaskRow { name, mode: 0o444, kind: Kind::Text(Guard::Mode, show) }
}

const fn guarded_text(name: &'static str, mode: u16, show: fn(&Task, &mut Text) -> Result<()>) -> TaskRow {
    TaskRow { name, mode, kind: Kind::Text(Guard::Access, show) }
}

const fn setting(
    name: &'static str,
    show: fn(&Task, &mut Text) -> Result<()>,
    store: fn(&Task, &[u8]) -> Result<()>,
) -> TaskRow {
    TaskRow { name, mode: 0o644, kind: Kind::Setting(show, store) }
}

const fn link(name: &'static str, target: fn(&Task) -> Result<LinkTarget>) -> TaskRow {
    TaskRow { name, mode: 0o777, kind: Kind::Link(target) }
}

static ROWS: &[TaskRow] = &[
    TaskRow { name: "fd", mode: 0o500, kind: Kind::Descriptors(FdKind::Link) },
    TaskRow { name: "fdinfo", mode: 0o555, kind: Kind::Descriptors(FdKind::Info) },
    guarded_text("auxv", 0o400, info::auxv),
    open_text("cgroup", |_, text| {
        text.push(b"0::/\n");
        Ok(())
    }),
    open_text("cmdline", info::cmdline),
    setting("comm", info::comm, info::set_comm),
    TaskRow { mode: 0o200, ..setting("clear_refs", memory::cannot_be_read, memory::clear_refs) },
    link("cwd", |task| Ok(LinkTarget::File(task.thread().map_err(|_| ENOENT)?.fs().cwd()))),
    guarded_text("environ", 0o400, info::environ),
    link("exe", |task| task.process()?.exe().map(LinkTarget::File).ok_or(ENOENT)),
    guarded_text("io", 0o400, info::io),
    open_text("limits", info::limits),
    guarded_text("maps", 0o444, maps::maps),
    TaskRow { name: "mem", mode: 0o600, kind: Kind::Mem },
    open_text("mountinfo", mounts::mountinfo),
    open_text("mounts", mounts::mounts),
    setting("oom_adj", info::oom_adj, info::set_oom_adj),
    open_text("oom_score", info::oom_score),
    setting("oom_score_adj", info::oom_score_adj, info::set_oom_score_adj),
    TaskRow { name: "pagemap", mode: 0o400, kind: Kind::PageMap },
    guarded_text("personality", 0o400, info::personality),
    link("root", |task| Ok(LinkTarget::File(task.thread().map_err(|_| ENOENT)?.fs().root()))),
    guarded_text("smaps", 0o444, maps::smaps),
    guarded_text("smaps_rollup", 0o444, maps::smaps_rollup),
    open_text("stat", status::stat),
    open_text("statm", status::statm),
    open_text("status", status::status),
    open_text("wchan", |_, text| {
        text.push(b"0");
        Ok(())
    }),
    // The last: the folder of a thread has all but this.
    TaskRow { name: "task", mode: 0o555, kind: Kind::Threads },
];

fn rows_of(task: &Task) -> &'static [TaskRow] {
    if task.is_thread() { &ROWS[..ROWS.len() - 1] } else { ROWS }
}

impl TaskRow {
    fn file_type(&self) -> FileType {
        match self.kind {
            Kind::Text(..) | Kind::Setting(..) | Kind::Mem | Kind::PageMap => FileType::Regular,
            Kind::Link(_) => FileType::Symlink,
            Kind::Descriptors(_) | Kind::Threads => FileType::Directory,
        }
    }
}

/// The folder of a task.
pub struct TaskFolder {
    fs: Arc<SyntheticFs>,
    task: Task,
}

impl TaskFolder {
    /// The folder of `task`.
    pub fn inode(fs: &Arc<SyntheticFs>, task: Task) -> Arc<dyn Inode> {
        Arc::new(Self { fs: fs.clone(), task })
    }
}

impl Inode for TaskFolder {
    fn metadata(&self) -> Metadata {
        self.task.metadata(&self.fs, 0, FileType::Directory, 0o555)
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
        self.task.process().map_err(|_| ENOENT)?;
        let (index, row) = rows_of(&self.task)
            .iter()
            .enumerate()
            .find(|(_, row)| row.name.as_bytes() == name)
            .ok_or(ENOENT)?;
        let (fs, task, index) = (self.fs.clone(), self.task.clone(), index + 1);
        Ok(match row.kind {
            Kind::Descriptors(kind) => Arc::new(FdFolder::new(fs, task, kind, index)),
            Kind::Threads => Arc::new(ThreadList { fs, task, index }),
            _ => Arc::new(TaskFile { fs, task, index, row }),
        })
    }

    fn readdir(&self, from: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        self.task.process().map_err(|_| ENOENT)?;
        let skipped = usize::try_from(from.saturating_sub(2)).unwrap_or(usize::MAX);
        let _ = rows_of(&self.task).iter().enumerate().skip(skipped).all(|(index, row)| {
            visit(DirEntry {
                name: row.name.as_bytes(),
                ino: self.task.ino(index + 1),
                kind: row.file_type(),
                next: index as u64 + 3,
            })
        });
        Ok(())
    }
}

/// A file or link in the folder of a task.
struct TaskFile {
    fs: Arc<SyntheticFs>,
    task: Task,
    index: usize,
    row: &'static TaskRow,
}

impl Inode for TaskFile {
    fn metadata(&self) -> Metadata {
        self.task.metadata(&self.fs, self.index, self.row.file_type(), self.row.mode)
    }

    fn kind(&self) -> FileType {
        self.row.file_type()
    }

    fn file_system(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn resize(&self, _size: u64) -> Result<()> {
        Ok(())
    }

    fn read_link(&self) -> Result<LinkTarget> {
        let Kind::Link(target) = self.row.kind else { return Err(EINVAL) };
        self.task.check_access()?;
        target(&self.task)
    }

    fn open(&self, _flags: OpenFlags) -> Result<Option<Arc<dyn FileOps>>> {
        let task = self.task.clone();
        let text = |show: fn(&Task, &mut Text) -> Result<()>| {
            let task = task.clone();
            OpenText::new(move |text| show(&task, text))
        };
        Ok(match self.row.kind {
            Kind::Text(guard, show) => {
                if guard == Guard::Access {
                    task.check_access()?;
                }
                Some(Arc::new(text(show)))
            }
            Kind::Setting(show, store) => {
                let text = text(show);
                Some(Arc::new(text.with_store(move |bytes| store(&task, bytes))))
            }
            Kind::Mem => Some(Arc::new(OpenMem::new(&task)?)),
            Kind::PageMap => Some(Arc::new(OpenPageMap::new(&task)?)),
            Kind::Link(_) | Kind::Descriptors(_) | Kind::Threads => None,
        })
    }
}

/// `/proc/PID/task`.
struct ThreadList {
    fs: Arc<SyntheticFs>,
    task: Task,
    index: usize,
}

impl Inode for ThreadList {
    fn metadata(&self) -> Metadata {
        let meta = self.task.metadata(&self.fs, self.index, FileType::Directory, 0o555);
        let threads = self.task.process().map_or(0, |process| process.thread_count());
        Metadata { nlink: meta.nlink + threads as u32, ..meta }
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
        let tid = parse_number(name).ok_or(ENOENT)?;
        let thread = table::thread(tid).filter(|thread| thread.process().pid() == self.task.pid());
        Ok(TaskFolder::inode(&self.fs, Task::of_thread(&thread.ok_or(ENOENT)?)))
    }

    fn readdir(&self, from: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        let mut threads = self.task.process().map_err(|_| ENOENT)?.threads()?;
        threads.sort_unstable_by_key(|thread| thread.tid());
        let tasks = threads.iter().map(|thread| (thread.tid(), Task::of_thread(thread)));
        list_tasks(tasks, 2, from, visit);
        Ok(())
    }
}
