// SPDX-License-Identifier: MPL-2.0

//! Waiting for many files at once: `poll(2)` and `select(2)`.
//!
//! Both come down to one loop: ask each file, with a waker in its queues; sleep if none is ready; ask again when woken. Files
//! that are asked again have the waker already.

use linux_raw_sys::general::RLIMIT_NOFILE;

use super::{time::read_timeval, usage::TimeVal};
use crate::{
    fs::{
        file::File,
        poll::{PollEvents, PollTable},
    },
    prelude::*,
    signal,
    time::{Deadline, TimeSpec, monotonic},
    wait::Sleeper,
};

/// One file to wait for: what counts of it, and what of that is there.
struct Watched {
    /// None for a descriptor that is to be passed over.
    file: Option<Arc<File>>,
    wanted: PollEvents,
    found: PollEvents,
}

/// Waits until one of `files` is ready, and answers how many are.
fn wait_ready(files: &mut [Watched], deadline: Deadline) -> Result<usize> {
    let sleeper = Sleeper::new();
    let mut table = PollTable::new(sleeper.waker());
    let count = ask(files, &mut table);
    if count > 0 || deadline == Deadline::Monotonic(Duration::ZERO) {
        return Ok(count);
    }
    table.check()?;
    let mut query = PollTable::query();
    let ready = deadline.sleep(&sleeper, || match ask(files, &mut query) {
        0 => None,
        count => Some(count),
    });
    match ready {
        Err(ETIMEDOUT) => Ok(0),
        result => result,
    }
}

/// Asks every file, and answers how many are ready. Once one is, nobody needs to be woken by the others.
fn ask(files: &mut [Watched], table: &mut PollTable) -> usize {
    let mut count = 0;
    for watched in files {
        if let Some(file) = &watched.file {
            watched.found = file.poll(table) & watched.wanted;
        }
        if !watched.found.is_empty() {
            count += 1;
            table.stop();
        }
    }
    count
}

/// `struct pollfd`.
#[repr(C)]
#[derive(Pod, Clone, Copy)]
struct PollFd {
    fd: i32,
    events: u16,
    found: u16,
}

/// `poll(2)`.
pub fn sys_poll(ctx: &Ctx, fds: Vaddr, count: u32, timeout: i32) -> Result<usize> {
    let deadline = match u64::try_from(timeout) {
        Ok(0) => Deadline::Monotonic(Duration::ZERO),
        Ok(millis) => Deadline::Monotonic(monotonic().saturating_add(Duration::from_millis(millis))),
        Err(_) => Deadline::Never,
    };
    poll_until(ctx, fds, count as usize, deadline)
}

/// Polls; after a signal without a handler, for the time that is left.
fn poll_until(ctx: &Ctx, fds: Vaddr, count: usize, deadline: Deadline) -> Result<usize> {
    match poll(ctx, fds, count, deadline) {
        Err(ERESTARTSYS) => {
            ctx.thread.signals.set_restart(Box::new(move |ctx| poll_until(ctx, fds, count, deadline)));
            Err(ERESTART_RESTARTBLOCK)
        }
        result => result,
    }
}

/// `ppoll(2)`.
pub fn sys_ppoll(
    ctx: &Ctx,
    fds: Vaddr,
    count: u32,
    timeout: Vaddr,
    mask: Vaddr,
    size: usize,
) -> Result<usize> {
    with_limit_and_mask(ctx, timeout, [mask, size], |deadline| poll(ctx, fds, count as usize, deadline))
}

/// Waits by `attempt` for the time at `timeout`, and writes back what is left of it; with the signal mask of that address and
/// size, if there is one.
fn with_limit_and_mask(
    ctx: &Ctx,
    timeout: Vaddr,
    [mask, size]: [usize; 2],
    attempt: impl FnOnce(Deadline) -> Result<usize>,
) -> Result<usize> {
    let deadline = match timeout {
        0 => Deadline::Never,
        addr => deadline_after(TimeSpec::read(ctx, addr)?),
    };
    let mask = signal::read_mask(ctx, mask, size)?;
    let result = signal::with_mask(ctx, mask, || attempt(deadline).map_err(without_sa_restart));
    if let Some(left) = left_of(deadline) {
        let _ = ctx.vm.write_val(timeout, &left);
    }
    result
}

fn poll(ctx: &Ctx, fds: Vaddr, count: usize, deadline: Deadline) -> Result<usize> {
    if count as u64 > ctx.process.rlimits.soft(RLIMIT_NOFILE) {
        return Err(EINVAL);
    }
    let mut entries: Vec<PollFd> = ctx.vm.read_vec(fds, count)?;
    let table = ctx.files();
    let mut files = try_with_capacity(count)?;
    for entry in &entries {
        let file = if entry.fd < 0 { None } else { table.get(entry.fd).ok() };
        let found = match &file {
            None if entry.fd >= 0 => PollEvents::NVAL,
            _ => PollEvents::empty(),
        };
        let wanted = PollEvents::from_bits_retain(u32::from(entry.events)) | PollEvents::ALWAYS;
        files.push(Watched { file, wanted, found });
    }
    let ready = wait_ready(&mut files, deadline)?;
    for (entry, watched) in entries.iter_mut().zip(&files) {
        entry.found = watched.found.bits() as u16;
    }
    ctx.vm.write_slice(fds, &entries)?;
    Ok(ready)
}

/// A handler ends these calls even if it was installed with `SA_RESTART`.
fn without_sa_restart(error: Errno) -> Errno {
    if error == ERESTARTSYS { ERESTARTNOHAND } else { error }
}

/// The deadline after so much time; a deadline at zero stands for "do not wait".
fn deadline_after(spec: TimeSpec) -> Deadline {
    match spec {
        TimeSpec { seconds: 0, nanos: 0 } => Deadline::Monotonic(Duration::ZERO),
        spec => Deadline::Monotonic(spec.deadline_from_now()),
    }
}

/// What was left of a time limit, as Linux writes it back. A program that cannot take it has lost nothing.
fn left_of(deadline: Deadline) -> Option<TimeSpec> {
    match deadline {
        Deadline::Monotonic(deadline) => Some(deadline.saturating_sub(monotonic()).into()),
        Deadline::Never | Deadline::Real(_) => None,
    }
}

/// The number of bits in a word of `fd_set`.
const WORD_BITS: usize = 64;

/// The three sets of `select(2)`, and what each asks for and shows.
const SETS: [(PollEvents, PollEvents); 3] = [
    (PollEvents::READABLE.union(PollEvents::RDBAND), PollEvents::HUP.union(PollEvents::ERR)),
    (PollEvents::WRITABLE.union(PollEvents::WRBAND), PollEvents::ERR),
    (PollEvents::PRI, PollEvents::empty()),
];

/// `select(2)`.
pub fn sys_select(
    ctx: &Ctx,
    count: i32,
    read: Vaddr,
    write: Vaddr,
    except: Vaddr,
    timeout: Vaddr,
) -> Result<usize> {
    let deadline = match timeout {
        0 => Deadline::Never,
        addr => deadline_after(read_timeval(ctx, addr)?.into()),
    };
    let result = select(ctx, count, [read, write, except], deadline).map_err(without_sa_restart);
    if let Some(left) = left_of(deadline) {
        let left = TimeVal { seconds: left.seconds, micros: left.nanos / 1000 };
        let _ = ctx.vm.write_val(timeout, &left);
    }
    result
}

/// `pselect6(2)`: the last argument points to the mask's address and size.
pub fn sys_pselect6(
    ctx: &Ctx,
    count: i32,
    read: Vaddr,
    write: Vaddr,
    except: Vaddr,
    timeout: Vaddr,
    mask: Vaddr,
) -> Result<usize> {
    let mask = match mask {
        0 => [0; 2],
        addr => ctx.vm.read_val(addr)?,
    };
    with_limit_and_mask(ctx, timeout, mask, |deadline| select(ctx, count, [read, write, except], deadline))
}

fn select(ctx: &Ctx, count: i32, sets: [Vaddr; 3], deadline: Deadline) -> Result<usize> {
    let limit = ctx.process.rlimits.soft(RLIMIT_NOFILE).min(1 << 20) as usize;
    let count = usize::try_from(count).map_err(|_| EINVAL)?.min(limit);
    let words = count.div_ceil(WORD_BITS);
    let mut wanted: [Vec<u64>; 3] = Default::default();
    for (set, addr) in wanted.iter_mut().zip(sets) {
        *set = if addr != 0 { ctx.vm.read_vec(addr, words)? } else { try_filled(0, words)? };
    }
    let has = |set: &[u64], fd: usize| set[fd / WORD_BITS] >> (fd % WORD_BITS) & 1 != 0;

    let table = ctx.files();
    let mut fds = Vec::new();
    let mut files = Vec::new();
    for fd in 0..count {
        let mut events = PollEvents::empty();
        for (set, (asks, shows)) in wanted.iter().zip(SETS) {
            if has(set, fd) {
                events |= asks | shows;
            }
        }
        if !events.is_empty() {
            let file = Some(table.get(fd as i32)?);
            try_push(&mut fds, fd)?;
            try_push(&mut files, Watched { file, wanted: events, found: PollEvents::empty() })?;
        }
    }
    let mut found = [try_filled(0, words)?, try_filled(0, words)?, try_filled(0, words)?];
    wait_ready(&mut files, deadline)?;

    let mut ready = 0;
    for (fd, watched) in fds.iter().zip(&files) {
        for (index, (asks, shows)) in SETS.into_iter().enumerate() {
            if has(&wanted[index], *fd) && watched.found.intersects(asks | shows) {
                found[index][fd / WORD_BITS] |= 1 << (fd % WORD_BITS);
                ready += 1;
            }
        }
    }
    for (set, addr) in found.iter().zip(sets) {
        if addr != 0 {
            ctx.vm.write_slice(addr, set)?;
        }
    }
    Ok(ready)
}
