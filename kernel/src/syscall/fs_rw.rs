// SPDX-License-Identifier: MPL-2.0

//! Reading and writing: read, write, their vector and positioned forms, lseek.

use linux_raw_sys::general::{RWF_APPEND, RWF_DSYNC, RWF_HIPRI, RWF_NOWAIT, RWF_SYNC};

use super::fs_util::{offset, sink, sinks, source, sources, written};
use crate::{
    fs::{
        Fd, File,
        file::{AccessMode, Position, WriteAt},
        io::{Sink, Source},
        poll::{PollEvents, PollTable},
        types::Whence,
    },
    prelude::*,
};

fn readable(ctx: &Ctx, fd: Fd) -> Result<Arc<File>> {
    let file = ctx.files().get(fd)?;
    file.require(AccessMode::READ)?;
    Ok(file)
}

fn writable(ctx: &Ctx, fd: Fd) -> Result<Arc<File>> {
    let file = ctx.files().get(fd)?;
    file.require(AccessMode::WRITE)?;
    Ok(file)
}

pub(super) fn sys_read(ctx: &Ctx, fd: Fd, buf: Vaddr, len: usize) -> Result<usize> {
    let (file, mut dst) = (readable(ctx, fd)?, sink(ctx, buf, len)?);
    ctx.thread.io.count_read(file.read(&mut dst))
}

pub(super) fn sys_write(ctx: &Ctx, fd: Fd, buf: Vaddr, len: usize) -> Result<usize> {
    let (file, mut src) = (writable(ctx, fd)?, source(ctx, buf, len)?);
    ctx.thread.io.count_write(written(file.write(&mut src)))
}

pub(super) fn sys_readv(ctx: &Ctx, fd: Fd, iov: Vaddr, count: usize) -> Result<usize> {
    let (file, mut dst) = (readable(ctx, fd)?, sinks(ctx, iov, count)?);
    ctx.thread.io.count_read(file.read(&mut dst))
}

pub(super) fn sys_writev(ctx: &Ctx, fd: Fd, iov: Vaddr, count: usize) -> Result<usize> {
    let (file, mut src) = (writable(ctx, fd)?, sources(ctx, iov, count)?);
    ctx.thread.io.count_write(written(file.write(&mut src)))
}

/// The file for a positioned call. An offset that is negative is refused before the descriptor is looked at.
fn positioned(ctx: &Ctx, fd: Fd, pos: i64) -> Result<(Arc<File>, u64)> {
    let pos = offset(pos)?;
    let file = ctx.files().get(fd)?;
    file.require(AccessMode::NONE)?;
    if file.ops().position() == Position::Stream {
        return Err(ESPIPE);
    }
    Ok((file, pos))
}

pub(super) fn sys_pread64(ctx: &Ctx, fd: Fd, buf: Vaddr, len: usize, pos: i64) -> Result<usize> {
    let (file, pos) = positioned(ctx, fd, pos)?;
    file.require(AccessMode::READ)?;
    let mut dst = sink(ctx, buf, len)?;
    ctx.thread.io.count_read(file.pread(pos, &mut dst))
}

pub(super) fn sys_pwrite64(ctx: &Ctx, fd: Fd, buf: Vaddr, len: usize, pos: i64) -> Result<usize> {
    let (file, pos) = positioned(ctx, fd, pos)?;
    file.require(AccessMode::WRITE)?;
    let mut src = source(ctx, buf, len)?;
    ctx.thread.io.count_write(file.pwrite(pos, &mut src))
}

pub(super) fn sys_preadv(ctx: &Ctx, fd: Fd, iov: Vaddr, count: usize, pos: i64) -> Result<usize> {
    let (file, pos) = positioned(ctx, fd, pos)?;
    file.require(AccessMode::READ)?;
    let mut dst = sinks(ctx, iov, count)?;
    ctx.thread.io.count_read(file.pread(pos, &mut dst))
}

pub(super) fn sys_pwritev(ctx: &Ctx, fd: Fd, iov: Vaddr, count: usize, pos: i64) -> Result<usize> {
    let (file, pos) = positioned(ctx, fd, pos)?;
    file.require(AccessMode::WRITE)?;
    let mut src = sources(ctx, iov, count)?;
    ctx.thread.io.count_write(file.pwrite(pos, &mut src))
}

/// Fails with EAGAIN for `RWF_NOWAIT` on a file that is not ready.
fn check_nowait(file: &File, flags: u32, wanted: PollEvents) -> Result<()> {
    if flags & RWF_NOWAIT != 0 && !file.poll(&mut PollTable::query()).intersects(wanted | PollEvents::ALWAYS)
    {
        return Err(EAGAIN);
    }
    Ok(())
}

pub(super) fn sys_preadv2(
    ctx: &Ctx,
    fd: Fd,
    iov: Vaddr,
    count: usize,
    pos: i64,
    _pos_high: usize,
    flags: u32,
) -> Result<usize> {
    if flags & !(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT) != 0 {
        return Err(EOPNOTSUPP);
    }
    if pos == -1 {
        let file = readable(ctx, fd)?;
        let mut dst: Sink<'_> = sinks(ctx, iov, count)?;
        check_nowait(&file, flags, PollEvents::READABLE)?;
        return ctx.thread.io.count_read(file.read(&mut dst));
    }
    sys_preadv(ctx, fd, iov, count, pos)
}

pub(super) fn sys_pwritev2(
    ctx: &Ctx,
    fd: Fd,
    iov: Vaddr,
    count: usize,
    pos: i64,
    _pos_high: usize,
    flags: u32,
) -> Result<usize> {
    if flags & !(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND) != 0 {
        return Err(EOPNOTSUPP);
    }
    let file = writable(ctx, fd)?;
    let mut src: Source<'_> = sources(ctx, iov, count)?;
    check_nowait(&file, flags, PollEvents::WRITABLE)?;
    if flags & RWF_APPEND != 0 && file.ops().position() == Position::Seekable {
        let (start, count) = file.ops().write_at(&file, WriteAt::End, &mut src)?;
        if pos == -1 {
            file.seek((start + count as u64) as i64, Whence::Set)?;
        }
        return ctx.thread.io.count_write(Ok(count));
    }
    let result = if pos == -1 { written(file.write(&mut src)) } else { file.pwrite(offset(pos)?, &mut src) };
    ctx.thread.io.count_write(result)
}

pub(super) fn sys_lseek(ctx: &Ctx, fd: Fd, by: i64, whence: u32) -> Result<usize> {
    let file = ctx.files().get(fd)?;
    file.require(AccessMode::NONE)?;
    Ok(file.seek(by, Whence::try_from(whence)?)? as usize)
}
