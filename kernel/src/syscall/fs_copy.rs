// SPDX-License-Identifier: MPL-2.0

//! Copying between files inside the kernel: sendfile, copy_file_range, splice, tee, vmsplice.
//!
//! Bytes go through a buffer of the kernel. What has been read but could not be written is not lost: positions move, and pipes
//! are drained, by what was written.

use core::cmp::min;

use super::fs_util::{offset, sinks, sources, written};
use crate::{
    fs::{
        Fd, File, OpenFlags,
        file::{AccessMode, Position},
        io::{Sink, Source},
        namei::same_inode,
        pipe::{Pipe, PipeEnd},
        poll::Blocking,
        types::{FileType, Whence},
    },
    prelude::*,
    usermem::MAX_RW_COUNT,
};

/// Bytes moved at once.
const STEP: usize = 64 * 1024;

const SPLICE_F_NONBLOCK: u32 = 2;
/// All flags of `splice`.
const SPLICE_FLAGS: u32 = 0xf;

/// Where a call reads or writes: at an offset the caller keeps in memory, or at the file's own.
struct Cursor {
    user: Option<Vaddr>,
    pos: u64,
}

impl Cursor {
    fn new(ctx: &Ctx, file: &File, addr: Vaddr) -> Result<Self> {
        if addr == 0 {
            return Ok(Self { user: None, pos: file.offset() });
        }
        Ok(Self { user: Some(addr), pos: offset(ctx.vm.read_val(addr)?)? })
    }

    /// Puts the position back to where it came from.
    fn store(&self, ctx: &Ctx, file: &File) -> Result<()> {
        match self.user {
            Some(addr) => ctx.vm.write_val(addr, &(self.pos as i64)),
            None => file.seek(self.pos as i64, Whence::Set).map(drop),
        }
    }
}

/// Moves up to `count` bytes by `step`, which is given the most to move and returns what it has moved. Errors count only
/// before the first byte.
fn pump(count: usize, mut step: impl FnMut(usize) -> Result<usize>) -> Result<usize> {
    let mut total = 0;
    while total < count {
        match step(min(STEP, count - total)) {
            Ok(0) => break,
            Ok(moved) => total += moved,
            Err(error) if total == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(total)
}

pub(super) fn sys_sendfile(ctx: &Ctx, out_fd: Fd, in_fd: Fd, pos: Vaddr, count: usize) -> Result<usize> {
    let files = ctx.files();
    let input = files.get(in_fd)?;
    input.require(AccessMode::READ)?;
    let output = files.get(out_fd)?;
    output.require(AccessMode::WRITE)?;
    if input.ops().position() == Position::Stream {
        return Err(if pos != 0 { ESPIPE } else { EINVAL });
    }
    if input.inode().kind() == FileType::Directory || output.flags().contains(OpenFlags::APPEND) {
        return Err(EINVAL);
    }
    let mut cursor = Cursor::new(ctx, &input, pos)?;
    let mut bytes = try_filled(0, min(count, STEP))?;
    let result = pump(min(count, MAX_RW_COUNT), |limit| {
        let read = input.pread(cursor.pos, &mut Sink::from_bytes(&mut bytes[..limit]))?;
        let moved = output.write(&mut Source::from_bytes(&bytes[..read]))?;
        cursor.pos += moved as u64;
        Ok(moved)
    });
    let moved = ctx.thread.io.count_copy(written(result))?;
    cursor.store(ctx, &input)?;
    Ok(moved)
}

pub(super) fn sys_copy_file_range(
    ctx: &Ctx,
    in_fd: Fd,
    in_pos: Vaddr,
    out_fd: Fd,
    out_pos: Vaddr,
    count: usize,
    flags: u32,
) -> Result<usize> {
    let files = ctx.files();
    let (input, output) = (files.get(in_fd)?, files.get(out_fd)?);
    if flags != 0 {
        return Err(EINVAL);
    }
    for file in [&input, &output] {
        match file.inode().kind() {
            FileType::Regular => {}
            FileType::Directory => return Err(EISDIR),
            _ => return Err(EINVAL),
        }
    }
    input.require(AccessMode::READ)?;
    output.require(AccessMode::WRITE)?;
    if output.flags().contains(OpenFlags::APPEND) {
        return Err(EBADF);
    }
    let mut from = Cursor::new(ctx, &input, in_pos)?;
    let mut to = Cursor::new(ctx, &output, out_pos)?;
    let count = min(count, MAX_RW_COUNT);
    let (from_end, to_end) = match (from.pos.checked_add(count as u64), to.pos.checked_add(count as u64)) {
        (Some(from_end), Some(to_end)) => (from_end, to_end),
        _ => return Err(EOVERFLOW),
    };
    if same_inode(input.inode(), output.inode()) && from.pos < to_end && to.pos < from_end {
        return Err(EINVAL);
    }
    let mut bytes = try_filled(0, min(count, STEP))?;
    let moved = pump(count, |limit| {
        let read = input.pread(from.pos, &mut Sink::from_bytes(&mut bytes[..limit]))?;
        let moved = output.pwrite(to.pos, &mut Source::from_bytes(&bytes[..read]))?;
        from.pos += moved as u64;
        to.pos += moved as u64;
        Ok(moved)
    });
    let moved = ctx.thread.io.count_copy(moved)?;
    from.store(ctx, &input)?;
    to.store(ctx, &output)?;
    Ok(moved)
}

/// The pipe behind an open file, if there is one.
fn pipe_of(file: &File) -> Option<&Arc<Pipe>> {
    file.downcast_ops::<PipeEnd>().map(PipeEnd::pipe)
}

fn blocking(file: &File, flags: u32) -> Blocking {
    if flags & SPLICE_F_NONBLOCK != 0 { Blocking::No } else { file.blocking() }
}

pub(super) fn sys_splice(
    ctx: &Ctx,
    in_fd: Fd,
    in_pos: Vaddr,
    out_fd: Fd,
    out_pos: Vaddr,
    count: usize,
    flags: u32,
) -> Result<usize> {
    if count == 0 {
        return Ok(0);
    }
    if flags & !SPLICE_FLAGS != 0 {
        return Err(EINVAL);
    }
    let files = ctx.files();
    let (input, output) = (files.get(in_fd)?, files.get(out_fd)?);
    input.require(AccessMode::READ)?;
    output.require(AccessMode::WRITE)?;
    let count = min(count, MAX_RW_COUNT);
    let result = match (pipe_of(&input), pipe_of(&output)) {
        (None, None) => Err(EINVAL),
        (Some(_), _) if in_pos != 0 => Err(ESPIPE),
        (_, Some(_)) if out_pos != 0 => Err(ESPIPE),
        (Some(from), Some(to)) if Arc::ptr_eq(from, to) => Err(EINVAL),
        (Some(from), _) => splice_from_pipe(ctx, from, blocking(&input, flags), &output, out_pos, count),
        (None, Some(to)) => splice_to_pipe(ctx, &input, in_pos, to, blocking(&output, flags), count),
    };
    written(result)
}

fn splice_from_pipe(
    ctx: &Ctx,
    pipe: &Pipe,
    blocking: Blocking,
    output: &File,
    out_pos: Vaddr,
    count: usize,
) -> Result<usize> {
    if output.flags().contains(OpenFlags::APPEND) {
        return Err(EINVAL);
    }
    let mut cursor = match out_pos {
        0 => None,
        _ if output.ops().position() == Position::Stream => return Err(ESPIPE),
        addr => Some(Cursor::new(ctx, output, addr)?),
    };
    let mut wait = blocking;
    let moved = pump(count, |limit| {
        let bytes = match pipe.peek(limit, wait) {
            // Only the first bytes are waited for.
            Err(EAGAIN) if wait != blocking => return Ok(0),
            peeked => peeked?,
        };
        wait = Blocking::No;
        let mut src = Source::from_bytes(&bytes);
        let moved = match &mut cursor {
            Some(cursor) => output.pwrite(cursor.pos, &mut src)?,
            None => output.write(&mut src)?,
        };
        pipe.consume(moved);
        if let Some(cursor) = &mut cursor {
            cursor.pos += moved as u64;
        }
        Ok(moved)
    })?;
    if let Some(cursor) = cursor {
        cursor.store(ctx, output)?;
    }
    Ok(moved)
}

fn splice_to_pipe(
    ctx: &Ctx,
    input: &File,
    in_pos: Vaddr,
    pipe: &Pipe,
    blocking: Blocking,
    count: usize,
) -> Result<usize> {
    let mut cursor = match (in_pos, input.ops().position()) {
        (0, Position::Stream) => None,
        (_, Position::Stream) => return Err(ESPIPE),
        (addr, Position::Seekable) => Some(Cursor::new(ctx, input, addr)?),
    };
    let room = pipe.wait_room(blocking)?;
    let mut bytes = try_filled(0, min(min(count, room), STEP))?;
    let mut dst = Sink::from_bytes(&mut bytes);
    let read = match &cursor {
        Some(cursor) => input.pread(cursor.pos, &mut dst)?,
        None => input.read(&mut dst)?,
    };
    // What has been read from a stream must go somewhere, even if another writer has taken the room meanwhile.
    let moved = pipe.write(&mut Source::from_bytes(&bytes[..read]), Blocking::Yes, OpenFlags::empty())?;
    if let Some(cursor) = &mut cursor {
        cursor.pos += moved as u64;
        cursor.store(ctx, input)?;
    }
    Ok(moved)
}

pub(super) fn sys_tee(ctx: &Ctx, in_fd: Fd, out_fd: Fd, count: usize, flags: u32) -> Result<usize> {
    if flags & !SPLICE_FLAGS != 0 {
        return Err(EINVAL);
    }
    if count == 0 {
        return Ok(0);
    }
    let files = ctx.files();
    let (input, output) = (files.get(in_fd)?, files.get(out_fd)?);
    input.require(AccessMode::READ)?;
    output.require(AccessMode::WRITE)?;
    let (from, to) = match (pipe_of(&input), pipe_of(&output)) {
        (Some(from), Some(to)) if !Arc::ptr_eq(from, to) => (from, to),
        _ => return Err(EINVAL),
    };
    let room = written(to.wait_room(blocking(&output, flags)))?;
    let bytes = from.peek(min(count, room), blocking(&input, flags))?;
    written(to.write(&mut Source::from_bytes(&bytes), blocking(&output, flags), OpenFlags::empty()))
}

pub(super) fn sys_vmsplice(ctx: &Ctx, fd: Fd, iov: Vaddr, count: usize, flags: u32) -> Result<usize> {
    if flags & !SPLICE_FLAGS != 0 {
        return Err(EINVAL);
    }
    let file = ctx.files().get(fd)?;
    file.require(AccessMode::NONE)?;
    let pipe = pipe_of(&file).ok_or(EBADF)?;
    if file.access().contains(AccessMode::WRITE) {
        let mut src = sources(ctx, iov, count)?;
        written(pipe.write(&mut src, blocking(&file, flags), OpenFlags::empty()))
    } else {
        pipe.read(&mut sinks(ctx, iov, count)?, blocking(&file, flags))
    }
}
