// SPDX-License-Identifier: MPL-2.0

//! Pipes and FIFOs.
//!
//! ```text
//!   write ─► [frame][frame][frame.....] ─► read      at most `slots` frames; small writes share the last one
//! ```
//!
//! `pipe(7)` sets the rules: writes of up to `PIPE_BUF` bytes are not interleaved with others; reading without writers meets the
//! end, writing without readers EPIPE; with `O_DIRECT` each write is a packet of its own. A FIFO is the same pipe behind a name,
//! with opens that wait for the other side (`fifo(7)`).
//!
//! Bytes move between user memory and frames under the pipe's sleeping lock, so a fault may be served meanwhile.

mod end;

use core::cmp::min;

use ostd::mm::{FrameAllocOptions, UFrame, VmWriter, io::util::HasVmReaderWriter};

pub use self::end::{PipeEnd, new_pipe, open_fifo};
use super::{
    file::{AccessMode, OpenFlags},
    io::{Sink, Source},
    poll::{Blocking, wait_ready},
    sigio::{AsyncList, Readiness},
};
use crate::{prelude::*, wait::WaitQueue};

/// Writes of up to so many bytes are atomic.
pub const PIPE_BUF: usize = PAGE_SIZE;
/// The capacity a pipe starts with, in bytes.
pub const DEFAULT_CAPACITY: usize = 16 * PAGE_SIZE;
/// The largest capacity a user without privileges may ask for, in bytes (`/proc/sys/fs/pipe-max-size`).
pub const MAX_CAPACITY: usize = 1 << 20;

/// Some bytes of a pipe, in one frame.
struct Chunk {
    frame: UFrame,
    start: usize,
    end: usize,
    kind: ChunkKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkKind {
    /// Bytes of a stream; later writes may add to them.
    Stream,
    /// One packet: read as a whole, or its rest is lost.
    Packet,
}

struct State {
    chunks: VecDeque<Chunk>,
    slots: usize,
    readers: usize,
    writers: usize,
    /// How many times the reading end has been opened; FIFO opens wait for a change.
    reader_opens: u64,
    /// How many times the writing end has been opened.
    writer_opens: u64,
    /// A frame kept from the last chunk that was read empty.
    spare: Option<UFrame>,
}

/// The two ends' common middle.
pub struct Pipe {
    state: Mutex<State>,
    readable: Arc<WaitQueue>,
    writable: Arc<WaitQueue>,
    /// Where FIFO opens wait.
    opened: WaitQueue,
    /// Reading ends that want signals.
    async_readers: AsyncList,
    /// Writing ends that want signals.
    async_writers: AsyncList,
}

impl State {
    fn is_full(&self) -> bool {
        self.chunks.len() >= self.slots
    }

    fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.end - chunk.start).sum()
    }

    /// Bytes that can be added to the last chunk.
    fn tail_room(&self) -> usize {
        match self.chunks.back() {
            Some(chunk) if chunk.kind == ChunkKind::Stream => PAGE_SIZE - chunk.end,
            _ => 0,
        }
    }

    fn room(&self) -> usize {
        self.slots.saturating_sub(self.chunks.len()) * PAGE_SIZE + self.tail_room()
    }

    fn new_frame(&mut self) -> Result<UFrame> {
        if let Some(frame) = self.spare.take() {
            return Ok(frame);
        }
        vmar_ostd::reserve::ensure_user_frame().map_err(|_| ENOMEM)?;
        Ok(FrameAllocOptions::new().zeroed(false).alloc_frame().map_err(|_| ENOMEM)?.into())
    }

    fn read(&mut self, dst: &mut Sink<'_>) -> Result<usize> {
        let mut total = 0;
        while dst.avail() > 0 {
            let Some(chunk) = self.chunks.front_mut() else { break };
            let len = chunk.end - chunk.start;
            let wanted = min(len, dst.avail());
            let copied = match dst.write_from(chunk.frame.reader().skip(chunk.start).limit(wanted)) {
                Ok(copied) => copied,
                Err(error) => return if total > 0 { Ok(total) } else { Err(error) },
            };
            total += copied;
            chunk.start += copied;
            let kind = chunk.kind;
            if chunk.start == chunk.end || (kind == ChunkKind::Packet && copied == wanted) {
                self.spare = self.chunks.pop_front().map(|chunk| chunk.frame);
            }
            if copied < wanted || kind == ChunkKind::Packet {
                break;
            }
        }
        Ok(total)
    }

    fn write(&mut self, src: &mut Source<'_>, kind: ChunkKind) -> Result<usize> {
        let mut total = 0;
        while src.remain() > 0 {
            match self.write_once(src, kind) {
                Ok(0) => break,
                Ok(count) => total += count,
                Err(_) if total > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    /// Adds bytes to one chunk; 0 if there is no room.
    fn write_once(&mut self, src: &mut Source<'_>, kind: ChunkKind) -> Result<usize> {
        if kind == ChunkKind::Stream
            && self.tail_room() > 0
            && let Some(chunk) = self.chunks.back_mut()
        {
            let count = src.read_to(chunk.frame.writer().skip(chunk.end))?;
            chunk.end += count;
            return Ok(count);
        }
        if self.is_full() {
            return Ok(0);
        }
        try_reserve(&mut self.chunks, 1)?;
        let frame = self.new_frame()?;
        let mut chunk = Chunk { frame, start: 0, end: 0, kind };
        match src.read_to(&mut chunk.frame.writer()) {
            Ok(count) => chunk.end = count,
            Err(error) => {
                self.spare = Some(chunk.frame);
                return Err(error);
            }
        }
        let count = chunk.end;
        self.chunks.push_back(chunk);
        Ok(count)
    }
}

impl Pipe {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                chunks: VecDeque::new(),
                slots: DEFAULT_CAPACITY / PAGE_SIZE,
                readers: 0,
                writers: 0,
                reader_opens: 0,
                writer_opens: 0,
                spare: None,
            }),
            readable: Arc::new(WaitQueue::new()),
            writable: Arc::new(WaitQueue::new()),
            opened: WaitQueue::new(),
            async_readers: AsyncList::default(),
            async_writers: AsyncList::default(),
        })
    }

    /// Bytes that can be read at once (`FIONREAD`).
    pub fn len(&self) -> usize {
        self.state.lock().len()
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.state.lock().chunks.is_empty()
    }

    /// The capacity in bytes (`F_GETPIPE_SZ`).
    pub fn capacity(&self) -> usize {
        self.state.lock().slots * PAGE_SIZE
    }

    /// Changes the capacity to at least `bytes`, and returns what it is then (`F_SETPIPE_SZ`).
    ///
    /// # Errors
    ///
    /// EBUSY if more is in the pipe; EINVAL for a size that cannot be.
    pub fn set_capacity(&self, bytes: usize) -> Result<usize> {
        let slots = bytes.max(PAGE_SIZE).checked_next_power_of_two().ok_or(EINVAL)? / PAGE_SIZE;
        if slots > i32::MAX as usize / PAGE_SIZE {
            return Err(EINVAL);
        }
        let mut state = self.state.lock();
        if slots < state.chunks.len() {
            return Err(EBUSY);
        }
        state.slots = slots;
        drop(state);
        self.writable.wake_all();
        Ok(slots * PAGE_SIZE)
    }

    /// Reads what there is, waiting for the first byte.
    ///
    /// # Errors
    ///
    /// EAGAIN, ERESTARTSYS, EFAULT.
    pub fn read(&self, dst: &mut Sink<'_>, blocking: Blocking) -> Result<usize> {
        if dst.avail() == 0 {
            return Ok(0);
        }
        wait_ready(&self.readable, blocking, || {
            let mut state = self.state.lock();
            if state.chunks.is_empty() {
                return if state.writers == 0 { Ok(0) } else { Err(EAGAIN) };
            }
            let was_full = state.is_full();
            let result = state.read(dst);
            let wake = was_full && !state.is_full();
            drop(state);
            if wake {
                self.writable.wake_all();
            }
            if result.is_ok() {
                self.async_writers.tell(Readiness::Out);
            }
            result
        })
    }

    /// Writes all of `src`, waiting for room as needed.
    ///
    /// # Errors
    ///
    /// EPIPE without readers; EAGAIN, ERESTARTSYS, EFAULT, ENOMEM if nothing was written.
    pub fn write(&self, src: &mut Source<'_>, blocking: Blocking, flags: OpenFlags) -> Result<usize> {
        let kind = if flags.contains(OpenFlags::DIRECT) { ChunkKind::Packet } else { ChunkKind::Stream };
        let whole = src.remain();
        if whole == 0 {
            return Ok(0);
        }
        let mut total = 0;
        while total < whole {
            let step = wait_ready(&self.writable, blocking, || {
                let mut state = self.state.lock();
                if state.readers == 0 {
                    return Err(EPIPE);
                }
                let needed = if whole <= PIPE_BUF && kind == ChunkKind::Stream { whole } else { 1 };
                let room = if kind == ChunkKind::Packet && state.is_full() { 0 } else { state.room() };
                if room < needed {
                    return Err(EAGAIN);
                }
                let result = state.write(src, kind);
                drop(state);
                self.readable.wake_all();
                if result.is_ok() {
                    self.async_readers.tell(Readiness::In);
                }
                result
            });
            match step {
                Ok(count) => total += count,
                Err(error) if total == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(total)
    }

    /// Waits until a write of one byte would not.
    ///
    /// # Errors
    ///
    /// EPIPE without readers; EAGAIN, ERESTARTSYS.
    pub fn wait_room(&self, blocking: Blocking) -> Result<usize> {
        wait_ready(&self.writable, blocking, || {
            let state = self.state.lock();
            match (state.readers, state.room()) {
                (0, _) => Err(EPIPE),
                (_, 0) => Err(EAGAIN),
                (_, room) => Ok(room),
            }
        })
    }

    /// Copies up to `limit` bytes from the front without taking them, waiting for the first. Empty at the end.
    ///
    /// # Errors
    ///
    /// EAGAIN, ERESTARTSYS, ENOMEM.
    pub fn peek(&self, limit: usize, blocking: Blocking) -> Result<Vec<u8>> {
        wait_ready(&self.readable, blocking, || {
            let state = self.state.lock();
            if state.chunks.is_empty() {
                return if state.writers == 0 { Ok(Vec::new()) } else { Err(EAGAIN) };
            }
            let mut bytes = Vec::new();
            for chunk in &state.chunks {
                let len = min(chunk.end - chunk.start, limit - bytes.len());
                let old = bytes.len();
                try_reserve(&mut bytes, len)?;
                bytes.resize(old + len, 0);
                chunk.frame.reader().skip(chunk.start).read(&mut VmWriter::from(&mut bytes[old..]));
                if bytes.len() == limit {
                    break;
                }
            }
            Ok(bytes)
        })
    }

    /// Takes `count` bytes from the front that have been peeked at.
    pub fn consume(&self, count: usize) {
        let mut left = count;
        let mut state = self.state.lock();
        while left > 0 {
            let Some(chunk) = state.chunks.front_mut() else { break };
            let step = min(left, chunk.end - chunk.start);
            chunk.start += step;
            left -= step;
            if chunk.start == chunk.end {
                state.chunks.pop_front();
            }
        }
        drop(state);
        self.writable.wake_all();
        self.async_writers.tell(Readiness::Out);
    }

    fn add_end(&self, access: AccessMode) {
        let mut state = self.state.lock();
        if access.contains(AccessMode::READ) {
            state.readers += 1;
            state.reader_opens += 1;
        }
        if access.contains(AccessMode::WRITE) {
            state.writers += 1;
            state.writer_opens += 1;
        }
        drop(state);
        self.opened.wake_all();
    }

    fn remove_end(&self, access: AccessMode) {
        let mut state = self.state.lock();
        if access.contains(AccessMode::READ) {
            state.readers -= 1;
        }
        if access.contains(AccessMode::WRITE) {
            state.writers -= 1;
        }
        let unused = state.readers == 0 && state.writers == 0;
        let is_one_sided = (state.readers == 0) != (state.writers == 0);
        if unused {
            // What nobody has read is lost with the last end of a FIFO.
            state.chunks.clear();
            state.spare = None;
        }
        drop(state);
        self.readable.wake_all();
        self.writable.wake_all();
        if is_one_sided {
            self.async_readers.tell(Readiness::In);
            self.async_writers.tell(Readiness::Out);
        }
    }
}
