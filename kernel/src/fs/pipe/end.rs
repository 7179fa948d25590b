// SPDX-License-Identifier: MPL-2.0

//! The ends of a pipe as open files, and how they are opened: both at once, or one by one through a FIFO's name.

use super::{
    super::{
        Fd,
        anon::AnonInode,
        file::{AccessMode, File, FileOps, OpenFlags},
        inode::Inode,
        io::{Sink, Source},
        poll::{Blocking, PollEvents, PollTable},
        sigio::FileOwner,
        types::FileType,
    },
    Pipe,
};
use crate::prelude::*;

/// One open end of a pipe (or both, of a FIFO opened for reading and writing).
pub struct PipeEnd {
    pipe: Arc<Pipe>,
    access: AccessMode,
    /// The pipe's count of writer opens when this end was opened: without a writer since, poll does not report a hang-up.
    writer_opens: u64,
}

impl PipeEnd {
    fn new(pipe: &Arc<Pipe>, access: AccessMode) -> Self {
        let writer_opens = pipe.state.lock().writer_opens;
        pipe.add_end(access);
        Self { pipe: pipe.clone(), access, writer_opens }
    }

    /// The pipe.
    pub fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        self.pipe.remove_end(self.access);
    }
}

impl FileOps for PipeEnd {
    fn read(&self, file: &File, dst: &mut Sink<'_>) -> Result<usize> {
        self.pipe.read(dst, file.blocking())
    }

    fn write(&self, file: &File, src: &mut Source<'_>) -> Result<usize> {
        self.pipe.write(src, file.blocking(), file.flags())
    }

    fn set_async(&self, owner: &Arc<FileOwner>, fd: Option<Fd>) -> Result<()> {
        if self.access.contains(AccessMode::READ) {
            self.pipe.async_readers.set(owner, fd);
        }
        if self.access.contains(AccessMode::WRITE) {
            self.pipe.async_writers.set(owner, fd);
        }
        Ok(())
    }

    fn poll(&self, _file: &File, table: &mut PollTable) -> PollEvents {
        table.observe(&self.pipe.readable);
        table.observe(&self.pipe.writable);
        let state = self.pipe.state.lock();
        let mut events = PollEvents::empty();
        if self.access.contains(AccessMode::READ) {
            if !state.chunks.is_empty() {
                events |= PollEvents::READABLE;
            }
            if state.writers == 0 && state.writer_opens != self.writer_opens {
                events |= PollEvents::HUP;
            }
        }
        if self.access.contains(AccessMode::WRITE) {
            if !state.is_full() {
                events |= PollEvents::WRITABLE;
            }
            if state.readers == 0 {
                events |= PollEvents::ERR;
            }
        }
        events
    }
}

/// Makes a pipe, and opens both ends: the one to read, the one to write. `flags` may have `NONBLOCK` and `DIRECT`.
///
/// # Errors
///
/// ENOMEM.
pub fn new_pipe(flags: OpenFlags) -> Result<(Arc<File>, Arc<File>)> {
    super::super::current::require_memory()?;
    let inode = AnonInode::new(FileType::Fifo, 0o600);
    let pipe = Pipe::new();
    if let Some(ext) = inode.ext() {
        // Opening `/proc/PID/fd/N` opens the same pipe once more, like a FIFO.
        *ext.fifo.lock() = Arc::downgrade(&pipe);
    }
    let label = format!("pipe:[{}]", inode.metadata().ino);
    let open = |access, flags| {
        let end = Arc::new(PipeEnd::new(&pipe, access));
        File::new_anonymous(inode.clone(), &label, end, flags)
    };
    Ok((open(AccessMode::READ, flags), open(AccessMode::WRITE, flags | OpenFlags::WRONLY)))
}

/// Opens a FIFO, waiting for the other side where fifo(7) says so; or a pipe once more, by `/proc/PID/fd`, without waiting.
///
/// # Errors
///
/// ENXIO for a writer that does not wait when there is no reader; ERESTARTSYS; EINVAL for access to neither side.
pub fn open_fifo(inode: &Arc<dyn Inode>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
    let ext = inode.ext().ok_or(ENXIO)?;
    let has_name = inode.downcast_ref::<AnonInode>().is_none();
    let access = flags.access();
    if access == AccessMode::NONE {
        return Err(EINVAL);
    }
    let end = {
        let mut fifo = ext.fifo.lock();
        let pipe = match fifo.upgrade() {
            Some(pipe) => pipe,
            None => Pipe::new(),
        };
        let lonely = has_name && access == AccessMode::WRITE && pipe.state.lock().readers == 0;
        if lonely && flags.blocking() == Blocking::No {
            return Err(ENXIO);
        }
        *fifo = Arc::downgrade(&pipe);
        PipeEnd::new(&pipe, access)
    };
    let pipe = end.pipe.clone();
    let (readers, writers, reader_opens, writer_opens) = {
        let state = pipe.state.lock();
        (state.readers, state.writers, state.reader_opens, state.writer_opens)
    };
    let came = match access {
        _ if !has_name => Ok(()),
        AccessMode::READ if writers == 0 && flags.blocking() == Blocking::Yes => pipe
            .opened
            .wait_interruptible(None, || (pipe.state.lock().writer_opens != writer_opens).then_some(())),
        AccessMode::WRITE if readers == 0 => pipe
            .opened
            .wait_interruptible(None, || (pipe.state.lock().reader_opens != reader_opens).then_some(())),
        _ => Ok(()),
    };
    came?;
    Ok(Arc::new(end))
}
