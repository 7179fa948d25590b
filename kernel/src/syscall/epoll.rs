// SPDX-License-Identifier: MPL-2.0

//! The calls of `epoll(7)`, and eventfds.

use linux_raw_sys::general::EPOLL_CTL_DEL;

use crate::{
    fs::{
        Fd,
        epoll::{self, EpollEvent},
        eventfd,
    },
    prelude::*,
    signal::{read_mask, with_mask},
    time::{TimeSpec, monotonic},
};

/// The most events one call can ask for.
const MAX_EVENTS: usize = i32::MAX as usize / size_of::<EpollEvent>();

/// `epoll_create(2)`.
pub fn sys_epoll_create(ctx: &Ctx, size: i32) -> Result<usize> {
    if size <= 0 {
        return Err(EINVAL);
    }
    epoll::create(ctx, 0)
}

/// `epoll_create1(2)`.
pub fn sys_epoll_create1(ctx: &Ctx, flags: u32) -> Result<usize> {
    epoll::create(ctx, flags)
}

/// `epoll_ctl(2)`.
pub fn sys_epoll_ctl(ctx: &Ctx, epfd: Fd, operation: u32, fd: Fd, event: Vaddr) -> Result<usize> {
    let event = match operation {
        EPOLL_CTL_DEL => EpollEvent::default(),
        _ => ctx.vm.read_val(event)?,
    };
    let files = ctx.files();
    let (epoll, target) = (files.get(epfd)?, files.get(fd)?);
    epoll::control(&epoll, operation, fd, &target, event)?;
    Ok(0)
}

/// How long to wait.
enum Limit {
    Now,
    Until(Option<Duration>),
}

impl Limit {
    fn after(duration: Duration) -> Self {
        match duration {
            Duration::ZERO => Self::Now,
            duration => Self::Until(Some(monotonic().saturating_add(duration))),
        }
    }

    fn from_millis(millis: i32) -> Self {
        u64::try_from(millis).map_or(Self::Until(None), |millis| Self::after(Duration::from_millis(millis)))
    }
}

fn wait(ctx: &Ctx, epfd: Fd, events: Vaddr, max: i32, limit: Limit) -> Result<usize> {
    let max = usize::try_from(max).ok().filter(|max| (1..=MAX_EVENTS).contains(max)).ok_or(EINVAL)?;
    crate::usermem::check_range(events, max * size_of::<EpollEvent>())?;
    let file = ctx.files().get(epfd)?;
    let epoll = epoll::of(&file)?;
    let mut report =
        |index, event: EpollEvent| ctx.vm.write_val(events + index * size_of::<EpollEvent>(), &event);
    match limit {
        Limit::Now => epoll.collect(max, &mut report),
        Limit::Until(deadline) => epoll.wait(max, deadline, report),
    }
}

/// `epoll_wait(2)`.
pub fn sys_epoll_wait(ctx: &Ctx, epfd: Fd, events: Vaddr, max: i32, timeout: i32) -> Result<usize> {
    wait(ctx, epfd, events, max, Limit::from_millis(timeout))
}

/// `epoll_pwait(2)`.
pub fn sys_epoll_pwait(
    ctx: &Ctx,
    epfd: Fd,
    events: Vaddr,
    max: i32,
    timeout: i32,
    mask: Vaddr,
    mask_size: usize,
) -> Result<usize> {
    let mask = read_mask(ctx, mask, mask_size)?;
    with_mask(ctx, mask, || wait(ctx, epfd, events, max, Limit::from_millis(timeout)))
}

/// `epoll_pwait2(2)`.
pub fn sys_epoll_pwait2(
    ctx: &Ctx,
    epfd: Fd,
    events: Vaddr,
    max: i32,
    timeout: Vaddr,
    mask: Vaddr,
    mask_size: usize,
) -> Result<usize> {
    let limit = match timeout {
        0 => Limit::Until(None),
        addr => Limit::after(TimeSpec::read(ctx, addr)?.to_duration()?),
    };
    let mask = read_mask(ctx, mask, mask_size)?;
    with_mask(ctx, mask, || wait(ctx, epfd, events, max, limit))
}

/// `eventfd(2)`.
pub fn sys_eventfd(ctx: &Ctx, initial: u32) -> Result<usize> {
    eventfd::create(ctx, initial, 0)
}

/// `eventfd2(2)`.
pub fn sys_eventfd2(ctx: &Ctx, initial: u32, flags: u32) -> Result<usize> {
    eventfd::create(ctx, initial, flags)
}
