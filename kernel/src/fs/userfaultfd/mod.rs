// SPDX-License-Identifier: MPL-2.0

//! Faults that a program serves itself, as in `userfaultfd(2)` of Linux 6.1.
//!
//! ```text
//!   a thread faults ──► framework: watched ──► UserFaultFd::handle ──► Queue ──► read(2) by whoever serves
//!         ▲                                        waits │                            │
//!         └───────────── tries again ◄──────── woken ◄───┴──── UFFDIO_COPY, _WAKE, .. ┘
//! ```
//!
//! The framework ([`vmar::vmar::watch`]) knows what is watched, hands faults over, fills pages and keeps the marks of what is
//! write-protected. Here are the descriptor, the queue of those who wait ([`queue`]), its ioctls ([`ioctl`]), and what
//! it is told of changes of the mappings ([`event`]).
//!
//! A userfaultfd belongs to one address space, that of the program that made it, whoever uses the descriptor. It does not keep
//! the space alive.

mod abi;
mod device;
pub mod event;
mod ioctl;
mod queue;

use linux_raw_sys::general::{
    O_CLOEXEC, O_NONBLOCK, RLIMIT_NOFILE, UFFD_EVENT_PAGEFAULT, UFFD_PAGEFAULT_FLAG_MINOR,
    UFFD_PAGEFAULT_FLAG_WP, UFFD_PAGEFAULT_FLAG_WRITE, UFFD_USER_MODE_ONLY,
};
use ostd::task::Task;
use spin::Once;
use vmar::{
    error::OutOfMemory,
    vmar::{
        fault::{Access, Cause, FaultError},
        watch::{FaultHandler, HandReason, HandedFault},
    },
};

pub use self::device::Factory;
use self::{
    abi::{API_IOCTLS, Features, MINOR_IOCTLS, Message, RANGE_IOCTLS, WP_IOCTLS},
    event::Changing,
    queue::{Queue, Taken},
};
use super::{
    anon::AnonInode,
    file::{File, FileOps, OpenFlags},
    file_table::CloseOnExec,
    io::Sink,
    poll::{Blocking, PollEvents, PollTable, wait_ready},
    synthetic::{Text, put},
    types::FileType,
};
use crate::{
    mm::AddressSpace,
    prelude::*,
    process::{credentials::CapSet, local},
    wait::{WaitQueue, wait_killable},
};

const LABEL: &str = "anon_inode:[userfaultfd]";

/// Set among the features once `UFFDIO_API` has been asked for.
const INITIALIZED: u32 = 1 << 31;

/// `vm.unprivileged_userfaultfd`: whether everybody may serve faults of the kernel.
static UNPRIVILEGED: AtomicBool = AtomicBool::new(false);

/// The value of `vm.unprivileged_userfaultfd`.
pub fn unprivileged() -> u32 {
    UNPRIVILEGED.load(Ordering::Relaxed).into()
}

/// Changes `vm.unprivileged_userfaultfd`.
///
/// # Errors
///
/// EINVAL for anything but 0 and 1.
pub fn set_unprivileged(value: i64) -> Result<()> {
    let value = match value {
        0 => false,
        1 => true,
        _ => return Err(EINVAL),
    };
    UNPRIVILEGED.store(value, Ordering::Relaxed);
    Ok(())
}

/// Which faults are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    /// All.
    All,
    /// Those of user mode; others end in a bus error (`UFFD_USER_MODE_ONLY`).
    UserMode,
}

/// An open userfaultfd.
pub struct UserFaultFd {
    /// Set before anybody can use it.
    space: Once<Weak<AddressSpace>>,
    served: Served,
    /// With which a descriptor for a forked child's is opened.
    open_flags: OpenFlags,
    features: AtomicU32,
    is_released: AtomicBool,
    /// How many changes of the mappings are under way that it has not read of; until then nothing is filled.
    changing: AtomicUsize,
    queue: SpinLock<Queue>,
    /// Those who wait for something to read.
    readers: Arc<WaitQueue>,
    /// Of a forked child's: the parent's, which is to be told.
    birth: SpinLock<Option<Changing>>,
    me: Weak<Self>,
}

/// `userfaultfd(2)`.
///
/// # Errors
///
/// EPERM if the caller may not serve faults of the kernel; EINVAL for unknown flags; EMFILE; ENOMEM.
pub fn create(ctx: &Ctx, flags: u32) -> Result<usize> {
    let is_allowed = flags & UFFD_USER_MODE_ONLY != 0
        || UNPRIVILEGED.load(Ordering::Relaxed)
        || ctx.credentials().has(CapSet::SYS_PTRACE);
    if !is_allowed {
        return Err(EPERM);
    }
    open(ctx.vm, flags)
}

/// Opens one for the caller's `space` in the caller's table.
///
/// # Errors
///
/// EINVAL for unknown flags; EMFILE; ENOMEM.
fn open(space: &Arc<AddressSpace>, flags: u32) -> Result<usize> {
    if flags & !(UFFD_USER_MODE_ONLY | O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(EINVAL);
    }
    let served = if flags & UFFD_USER_MODE_ONLY != 0 { Served::UserMode } else { Served::All };
    let open_flags = OpenFlags::from_bits_truncate(flags & (O_CLOEXEC | O_NONBLOCK));
    let uffd = UserFaultFd::new(served, open_flags, 0, None);
    uffd.belong_to(space);
    uffd.install().map(|fd| fd as usize)
}

impl UserFaultFd {
    fn new(served: Served, open_flags: OpenFlags, features: u32, birth: Option<Changing>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            space: Once::new(),
            served,
            open_flags,
            features: AtomicU32::new(features),
            is_released: AtomicBool::new(false),
            changing: AtomicUsize::new(0),
            queue: SpinLock::new(Queue::new()),
            readers: Arc::new(WaitQueue::new()),
            birth: SpinLock::new(birth),
            me: me.clone(),
        })
    }

    fn belong_to(&self, space: &Arc<AddressSpace>) {
        self.space.call_once(|| Arc::downgrade(space));
    }

    /// The space whose faults it serves, if that is still there.
    fn space(&self) -> Option<Arc<AddressSpace>> {
        self.space.get()?.upgrade()
    }

    fn is_initialized(&self) -> bool {
        self.features.load(Ordering::Relaxed) & INITIALIZED != 0
    }

    fn has(&self, feature: Features) -> bool {
        u64::from(self.features.load(Ordering::Relaxed)) & feature.bits() != 0
    }

    fn is_released(&self) -> bool {
        self.is_released.load(Ordering::SeqCst)
    }

    /// Serves nothing any more: what it watches is left alone, and whoever waits for it goes on.
    fn detach(&self) {
        self.is_released.store(true, Ordering::SeqCst);
        if let (Some(space), Some(me)) = (self.space(), self.me.upgrade()) {
            let handler: Arc<dyn FaultHandler> = me;
            space.vmar().unwatch_all(&handler);
        }
        self.wake(0..Vaddr::MAX);
        self.wake_events();
        self.readers.wake_all();
    }

    /// What is read of a fault of the running thread.
    fn message_for(&self, thread: &Thread, fault: &HandedFault<'_>) -> Message {
        let addr = match self.has(Features::EXACT_ADDRESS) {
            true => fault.addr,
            false => fault.addr / PAGE_SIZE * PAGE_SIZE,
        };
        let mut flags = match fault.reason {
            HandReason::Missing => 0,
            HandReason::Minor => UFFD_PAGEFAULT_FLAG_MINOR,
            HandReason::Write => UFFD_PAGEFAULT_FLAG_WP,
        };
        if fault.access == Access::Write {
            flags |= UFFD_PAGEFAULT_FLAG_WRITE;
        }
        let tid = if self.has(Features::THREAD_ID) { thread.tid() } else { 0 };
        Message::new(UFFD_EVENT_PAGEFAULT, [flags.into(), addr as u64, tid.into()])
    }

    /// Opens a descriptor for it in the table of the running thread.
    fn install(self: Arc<Self>) -> Result<u32> {
        let thread = Thread::current().ok_or(ESRCH)?;
        let flags = self.open_flags;
        let file = File::new_anonymous(AnonInode::new(FileType::Anonymous, 0o600), LABEL, self, flags);
        let close_on_exec =
            if flags.contains(OpenFlags::CLOEXEC) { CloseOnExec::Yes } else { CloseOnExec::No };
        let limit = usize::try_from(thread.process().rlimits.soft(RLIMIT_NOFILE)).unwrap_or(usize::MAX);
        thread.files().insert(file, close_on_exec, 0, limit).map(|fd| fd as u32)
    }
}

impl FaultHandler for UserFaultFd {
    fn handle(&self, fault: &HandedFault<'_>) -> core::result::Result<(), FaultError> {
        let task = Task::current().ok_or(FaultError::BusError)?;
        let thread = Thread::of(&task).ok_or(FaultError::BusError)?;
        let is_of_user =
            fault.cause == Cause::Program && local::of(&task).is_some_and(|local| local.is_in_user_fault());
        if self.has(Features::SIGBUS) || (self.served == Served::UserMode && !is_of_user) {
            return Err(FaultError::BusError);
        }
        if self.is_released() {
            // It is about to watch nothing.
            Task::yield_now();
            return Ok(());
        }
        if fault.cause == Cause::Debugger {
            // Who looks in through /proc/PID/mem or ptrace(2) does not wait (Linux 6.1: `access_remote_vm` takes no retry).
            return Err(FaultError::BusError);
        }
        let waiting = self.enqueue(self.message_for(&thread, fault))?;
        if self.is_released() || !fault.stands() {
            return Ok(());
        }
        self.readers.wake_all();
        let waited = match is_of_user {
            true => waiting.queue().wait_interruptible(None, || waiting.is_woken().then_some(())),
            false => wait_killable(waiting.queue(), || waiting.is_woken().then_some(())),
        };
        waited.map_err(|_| FaultError::Interrupted)
    }

    fn fork(&self) -> core::result::Result<Option<Arc<dyn FaultHandler>>, OutOfMemory> {
        if !self.has(Features::EVENT_FORK) {
            return Ok(None);
        }
        let Some(me) = self.me.upgrade() else { return Ok(None) };
        let features = self.features.load(Ordering::Relaxed);
        Ok(Some(Self::new(self.served, self.open_flags, features, Some(Changing::of(me)))))
    }

    fn follows_moves(&self) -> bool {
        self.has(Features::EVENT_REMAP)
    }
}

impl FileOps for UserFaultFd {
    fn read(&self, file: &File, dst: &mut Sink<'_>) -> Result<usize> {
        if !self.is_initialized() || dst.avail() < Message::SIZE {
            return Err(EINVAL);
        }
        let mut total = 0;
        let mut blocking = file.blocking();
        while dst.avail() >= Message::SIZE {
            let next = wait_ready(&self.readers, blocking, || self.take()).and_then(|taken| match taken {
                Taken::Message(message) => Ok(message),
                Taken::Fork(event) => self.resolve_fork(&event),
            });
            let written =
                next.and_then(|message| match dst.write_bytes(zerocopy::IntoBytes::as_bytes(&message))? {
                    Message::SIZE => Ok(()),
                    _ => Err(EFAULT),
                });
            match written {
                Ok(()) => total += Message::SIZE,
                Err(_) if total != 0 => break,
                Err(error) => return Err(error),
            }
            // Only the first is waited for.
            blocking = Blocking::No;
        }
        Ok(total)
    }

    fn poll(&self, file: &File, table: &mut PollTable) -> PollEvents {
        table.observe(&self.readers);
        if !self.is_initialized() || file.blocking() == Blocking::Yes {
            return PollEvents::ERR;
        }
        if self.has_something_to_read() { PollEvents::IN } else { PollEvents::empty() }
    }

    fn ioctl(&self, _file: &File, command: u32, arg: usize) -> Result<usize> {
        self.obey(command, arg)
    }

    fn fdinfo(&self, _file: &File, out: &mut Text) {
        let (pending, total) = self.count_faults();
        let features = self.features.load(Ordering::Relaxed);
        let ioctls = API_IOCTLS | RANGE_IOCTLS | WP_IOCTLS | MINOR_IOCTLS;
        let api = linux_raw_sys::general::UFFD_API;
        put!(out, "pending:\t{pending}\ntotal:\t{total}\nAPI:\t{api:x}:{features:x}:{ioctls:x}\n");
    }

    fn release(&self, _file: &File) {
        self.detach();
    }
}
