// SPDX-License-Identifier: MPL-2.0

//! Messages on their way, and what goes with them: descriptors and credentials.

use alloc::collections::LinkedList;

use super::{Address, garbage};
use crate::{
    fs::File,
    prelude::*,
    process::{
        credentials::{CapSet, Uid},
        rlimit::INFINITY,
    },
};

/// What a message takes of a buffer beside its bytes, so that empty messages are bounded too.
const OVERHEAD: usize = 256;

/// `struct ucred`.
#[repr(C)]
#[derive(Pod, Clone, Copy, Debug, PartialEq, Eq)]
pub struct UCred {
    /// The process.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl UCred {
    /// Those of a peer that is not there.
    pub const NOBODY: Self = Self { pid: 0, uid: u32::MAX, gid: u32::MAX };

    /// The caller's, with its effective user and group: what `SO_PEERCRED` tells.
    pub fn effective() -> Self {
        Thread::current().map_or(Self::NOBODY, |thread| {
            let own = thread.credentials();
            Self { pid: thread.process().pid() as i32, uid: own.euid, gid: own.egid }
        })
    }

    /// The caller's, with its real user and group: what goes with messages.
    pub fn real() -> Self {
        Thread::current().map_or(Self::NOBODY, |thread| {
            let own = thread.credentials();
            Self { pid: thread.process().pid() as i32, uid: own.uid, gid: own.gid }
        })
    }

    /// Fails unless the caller may say that these are its own.
    ///
    /// # Errors
    ///
    /// EPERM.
    pub fn check(&self) -> Result<()> {
        let Some(thread) = Thread::current() else { return Ok(()) };
        let own = thread.credentials();
        let pid_is_own = self.pid == thread.process().pid() as i32 || own.has(CapSet::SYS_ADMIN);
        let uid_is_own = [own.uid, own.euid, own.suid].contains(&self.uid) || own.has(CapSet::SETUID);
        let gid_is_own = [own.gid, own.egid, own.sgid].contains(&self.gid) || own.has(CapSet::SETGID);
        if pid_is_own && uid_is_own && gid_is_own { Ok(()) } else { Err(EPERM) }
    }
}

/// What is sent with a message.
#[derive(Default)]
pub struct Control {
    /// Files whose descriptors are passed on.
    pub files: Vec<Arc<File>>,
    /// What the sender says it is.
    pub credentials: Option<UCred>,
}

/// Files in flight, by the user who has sent them.
static IN_FLIGHT: SpinLock<BTreeMap<Uid, usize>> = SpinLock::new(BTreeMap::new());

/// Files that are on their way.
pub struct FlyingFiles {
    files: Vec<Arc<File>>,
    sender: Uid,
    count: usize,
}

impl FlyingFiles {
    /// Sends files off.
    ///
    /// # Errors
    ///
    /// ETOOMANYREFS if too many of the caller's are on their way (`RLIMIT_NOFILE`).
    pub fn new(files: Vec<Arc<File>>) -> Result<Self> {
        let count = files.len();
        let Some(thread) = Thread::current().filter(|_| count > 0) else {
            return Ok(Self { files, sender: 0, count: 0 });
        };
        let own = thread.credentials();
        let limit = match own.has(CapSet::SYS_RESOURCE) || own.has(CapSet::SYS_ADMIN) {
            true => INFINITY,
            false => thread.process().rlimits.soft(linux_raw_sys::general::RLIMIT_NOFILE),
        };
        let mut in_flight = IN_FLIGHT.lock();
        let sum = in_flight.entry(own.uid).or_insert(0);
        if *sum as u64 > limit {
            return Err(ETOOMANYREFS);
        }
        *sum += count;
        drop(in_flight);
        garbage::depart(&files);
        Ok(Self { files, sender: own.uid, count })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The files.
    pub fn files(&self) -> &[Arc<File>] {
        &self.files
    }

    /// Takes the files; they have arrived.
    pub fn take(&mut self) -> Vec<Arc<File>> {
        self.land();
        core::mem::take(&mut self.files)
    }

    fn land(&mut self) {
        let count = core::mem::take(&mut self.count);
        if count == 0 {
            return;
        }
        garbage::arrive(&self.files);
        let mut in_flight = IN_FLIGHT.lock();
        if let Some(sum) = in_flight.get_mut(&self.sender) {
            *sum -= count;
            if *sum == 0 {
                in_flight.remove(&self.sender);
            }
        }
    }
}

impl Drop for FlyingFiles {
    fn drop(&mut self) {
        if self.files.is_empty() {
            return;
        }
        self.land();
        GRAVES.lock().push_back(core::mem::take(&mut self.files));
        dig();
    }
}

/// Files that nobody has received, to be closed: those of each message.
static GRAVES: SpinLock<LinkedList<Vec<Arc<File>>>> = SpinLock::new(LinkedList::new());
static IS_DIGGING: AtomicBool = AtomicBool::new(false);

/// Closes what is in [`GRAVES`], one after the other: what a file leaves behind when it is closed comes there as well, instead
/// of being closed within.
fn dig() {
    while !GRAVES.lock().is_empty() && !IS_DIGGING.swap(true, Ordering::AcqRel) {
        loop {
            let files = GRAVES.lock().pop_front();
            match files {
                Some(files) => drop(files),
                None => break,
            }
        }
        IS_DIGGING.store(false, Ordering::Release);
    }
}

/// A message, or a piece of a stream.
pub struct Message {
    data: Vec<u8>,
    /// How many bytes of it were read.
    pub start: usize,
    /// Where it comes from.
    pub from: Option<Arc<Address>>,
    /// Who has sent it.
    pub credentials: UCred,
    /// What goes with it.
    pub files: FlyingFiles,
}

impl Message {
    /// A message.
    pub fn new(data: Vec<u8>, from: Option<Arc<Address>>, credentials: UCred, files: FlyingFiles) -> Self {
        Self { data, start: 0, from, credentials, files }
    }

    /// What was not read of it.
    pub fn rest(&self) -> &[u8] {
        &self.data[self.start..]
    }

    /// What it takes of a buffer.
    fn charge(&self) -> usize {
        self.data.len() + OVERHEAD
    }
}

/// What was sent to a socket and not read yet.
#[derive(Default)]
pub struct Inbox {
    messages: VecDeque<Message>,
    charge: usize,
}

impl Inbox {
    /// What its messages take of the senders' buffers, in bytes.
    pub fn charge(&self) -> usize {
        self.charge
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> usize {
        self.messages.iter().map(|message| message.rest().len()).sum()
    }

    /// The files that go with its messages.
    pub fn files(&self) -> impl Iterator<Item = &Arc<File>> {
        self.messages.iter().flat_map(|message| message.files.files())
    }

    /// Makes room for a message.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub fn reserve(&mut self) -> Result<()> {
        try_reserve(&mut self.messages, 1)
    }

    /// Adds a message, for which room was made.
    pub fn push(&mut self, message: Message) {
        self.charge += message.charge();
        self.messages.push_back(message);
    }

    /// The message at `index`.
    pub fn get(&self, index: usize) -> Option<&Message> {
        self.messages.get(index)
    }

    /// The first message.
    pub fn front_mut(&mut self) -> Option<&mut Message> {
        self.messages.front_mut()
    }

    /// Takes out the first message.
    pub fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.charge -= message.charge();
        Some(message)
    }

    /// Takes out all messages.
    pub fn take_all(&mut self) -> VecDeque<Message> {
        self.charge = 0;
        core::mem::take(&mut self.messages)
    }
}
