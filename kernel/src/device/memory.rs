// SPDX-License-Identifier: MPL-2.0

//! The devices of major number 1: `/dev/null`, `zero`, `full`, `random`, `urandom` and `kmsg` (`null(4)`, `full(4)`,
//! `random(4)`).
//!
//! None of them has a state or an offset that means anything, so all opens of one share its value.

use linux_raw_sys::ioctl::{RNDADDTOENTCNT, RNDCLEARPOOL, RNDGETENTCNT, RNDRESEEDCRNG, RNDZAPENTCNT};

use crate::{
    fs::{
        FileOps, Inode, OpenFlags,
        device::Device,
        file::{File, Mappable, Position, WriteAt},
        io::{Sink, Source},
        poll::{Blocking, PollEvents, PollTable},
        types::{DeviceId, Whence},
    },
    prelude::*,
    process::credentials::CapSet,
    random,
    wait::WaitQueue,
};

/// How many random bits the pool is said to hold; it is always full (Linux since 5.18 says the same).
pub const ENTROPY_BITS: u32 = 256;

/// How many bytes are made up or looked at in one go.
const CHUNK: usize = 256;

/// The longest record that can be written to the log.
const MAX_RECORD: usize = 992;

/// A device of major number 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryDevice {
    /// Takes everything, has nothing.
    Null,
    /// Takes everything, has zeros without end.
    Zero,
    /// Is full, and has zeros without end.
    Full,
    /// Has random bytes without end.
    Random,
    /// The same.
    Urandom,
    /// The kernel's log.
    Kmsg,
}

impl MemoryDevice {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Null, Self::Zero, Self::Full, Self::Random, Self::Urandom, Self::Kmsg];

    /// The name of its node in `/dev`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Zero => "zero",
            Self::Full => "full",
            Self::Random => "random",
            Self::Urandom => "urandom",
            Self::Kmsg => "kmsg",
        }
    }

    /// Its number (`devices.txt`).
    pub const fn number(self) -> DeviceId {
        let minor = match self {
            Self::Null => 3,
            Self::Zero => 5,
            Self::Full => 7,
            Self::Random => 8,
            Self::Urandom => 9,
            Self::Kmsg => 11,
        };
        DeviceId::new(1, minor)
    }

    /// The mode of its node.
    pub const fn mode(self) -> u16 {
        match self {
            Self::Kmsg => 0o644,
            _ => 0o666,
        }
    }
}

impl Device for MemoryDevice {
    fn open(&self, _inode: &Arc<dyn Inode>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(*self))
    }
}

impl FileOps for MemoryDevice {
    fn position(&self) -> Position {
        Position::Seekable
    }

    fn read_at(&self, file: &File, _pos: u64, dst: &mut Sink<'_>) -> Result<usize> {
        match self {
            Self::Null => Ok(0),
            Self::Zero | Self::Full => dst.fill_zeros(dst.avail()),
            Self::Random | Self::Urandom => read_random(dst),
            Self::Kmsg => match file.blocking() {
                Blocking::No => Err(EAGAIN),
                // The log is outside the machine: there is never a record to read.
                Blocking::Yes => WaitQueue::new().wait_interruptible(None, || None),
            },
        }
    }

    fn write_at(&self, _file: &File, at: WriteAt, src: &mut Source<'_>) -> Result<(u64, usize)> {
        let start = match at {
            WriteAt::Offset(offset) => offset,
            WriteAt::End => 0,
        };
        let count = match self {
            // What is thrown away is not even looked at.
            Self::Null | Self::Zero => {
                let count = src.remain();
                drop(src.take(count)?);
                count
            }
            Self::Full => return Err(ENOSPC),
            Self::Random | Self::Urandom => look_at(src)?,
            Self::Kmsg => log(src)?,
        };
        Ok((start, count))
    }

    fn seek(&self, _file: &File, _current: u64, _offset: i64, _whence: Whence) -> Result<u64> {
        Ok(0)
    }

    fn poll(&self, _file: &File, _table: &mut PollTable) -> PollEvents {
        match self {
            Self::Kmsg => PollEvents::WRITABLE,
            _ => PollEvents::READABLE | PollEvents::WRITABLE,
        }
    }

    fn ioctl(&self, _file: &File, command: u32, arg: usize) -> Result<usize> {
        if !matches!(self, Self::Random | Self::Urandom) {
            return Err(ENOTTY);
        }
        let thread = Thread::current().ok_or(ENOTTY)?;
        match command {
            RNDGETENTCNT => {
                let vm = thread.process().vm().ok_or(EFAULT)?;
                vm.write_val(arg, &(ENTROPY_BITS as i32))?;
            }
            // The pool cannot be changed, and needs no help.
            RNDADDTOENTCNT | RNDZAPENTCNT | RNDCLEARPOOL | RNDRESEEDCRNG => {
                thread.credentials().require(CapSet::SYS_ADMIN)?;
            }
            _ => return Err(EINVAL),
        }
        Ok(0)
    }

    fn mappable(&self, _file: &File) -> Result<Mappable> {
        match self {
            Self::Zero => Ok(Mappable::Zero),
            _ => Err(ENODEV),
        }
    }
}

fn read_random(dst: &mut Sink<'_>) -> Result<usize> {
    let mut bytes = [0; CHUNK];
    let mut total = 0;
    while dst.avail() > 0 {
        let part = CHUNK.min(dst.avail());
        random::fill(&mut bytes[..part]);
        match dst.write_bytes(&bytes[..part]) {
            Ok(count) => total += count,
            Err(_) if total > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

/// Takes bytes that would be mixed into the pool. The generator needs none.
fn look_at(src: &mut Source<'_>) -> Result<usize> {
    let mut bytes = [0; CHUNK];
    let mut total = 0;
    while src.remain() > 0 {
        match src.read_bytes(&mut bytes) {
            Ok(count) => total += count,
            Err(_) if total > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

fn log(src: &mut Source<'_>) -> Result<usize> {
    if src.remain() > MAX_RECORD {
        return Err(EINVAL);
    }
    let record = src.read_all(MAX_RECORD)?;
    let text = String::from_utf8_lossy(&record);
    // A priority in angle brackets may come first.
    let text = match text.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        Some((priority, rest)) if priority.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        _ => &text,
    };
    info!("{}", text.trim_end());
    Ok(record.len())
}
