// SPDX-License-Identifier: MPL-2.0

//! Forking a process with so many resident pages more than it has anyhow, and the copying afterwards.

use super::{Operation, SELF, SELF_TO_EXIT, operations};
use crate::{
    arena::{Area, write},
    clock::{self, Samples},
    sys::{self, Result, check, exec, exit, fork, pipe, receive, send, wait, wait_for},
};

pub const OPERATIONS: &[Operation] = operations! {
    "fork_0", 0, 1, 50, alone::<0>, "`fork` as the parent sees it, of a small process";
    "fork_100", 0, 1, 50, alone::<100>, "the same with 100 more resident pages";
    "fork_1000", 0, 1, 30, alone::<1000>, "the same with 1,000 more resident pages";
    "fork_25000", 0, 1, 5, alone::<25_000>, "the same with 25,000 more resident pages";
    "fork_exit_wait_0", 0, 1, 50, exit_wait::<0>, "`fork`, the child's `_exit`, `wait4`, of a small process";
    "fork_exit_wait_100", 0, 1, 50, exit_wait::<100>, "the same with 100 more resident pages";
    "fork_exit_wait_1000", 0, 1, 30, exit_wait::<1000>, "the same with 1,000 more resident pages";
    "fork_exit_wait_25000", 0, 1, 5, exit_wait::<25_000>, "the same with 25,000 more resident pages";
    "fork_exec_wait_0", 0, 1, 30, exec_wait::<0>, "`fork`, `execve` of a small static program that ends at once, `wait4`";
    "fork_exec_wait_100", 0, 1, 30, exec_wait::<100>, "the same with 100 more resident pages";
    "fork_exec_wait_1000", 0, 1, 20, exec_wait::<1000>, "the same with 1,000 more resident pages";
    "fork_exec_wait_25000", 0, 1, 5, exec_wait::<25_000>, "the same with 25,000 more resident pages";
    "fork_write_1000", 1000, 1, 10, write_all::<1000>, "`fork`, and the parent's writes to 1,000 resident pages while the child lives, which copy them all";
    "fork_write_25000", 25_000, 1, 3, write_all::<25_000>, "the same with 25,000 pages";
    "cow_parent", 1, 100, 20, parent_writes::<1000>, "the parent's first write to one of 1,000 pages after `fork`, while the child lives, which copies the page; mean of 100";
    "cow_parent_25000", 1, 100, 5, parent_writes::<25_000>, "the same with 25,000 pages";
    "cow_child", 1, 100, 20, child_writes, "the child's first write to one of 1,000 pages, which copies the page; mean of 100";
    "cow_last", 0, 100, 20, last_holder_writes, "the parent's first write to one of 1,000 pages after the child has ended; mean of 100";
};

/// Pages written to after each fork, which are one sample.
const BATCH: usize = 100;

/// A child that waits until it is told to go on.
struct Waiting {
    pid: isize,
    go: [i32; 2],
}

impl Waiting {
    /// Lets the child end, and waits for that.
    fn release(&self) -> Result {
        check("write", send(self.go[1]))?;
        wait(self.pid)
    }
}

/// A child that waits, then ends. It waits at once, so that its end is no part of what `fork` takes.
fn waiting_child(go: [i32; 2], samples: Option<&mut Samples>) -> Result<Waiting> {
    // Only what is a sample is between marks.
    let start = samples.is_some().then(clock::begin);
    let pid = fork();
    if pid == 0 {
        receive(go[0]);
        exit(0);
    }
    if let (Some(samples), Some(start)) = (samples, start) {
        samples.add(start, clock::end());
    }
    check("fork", pid)?;
    Ok(Waiting { pid, go })
}

fn alone<const PAGES: usize>(samples: &mut Samples) -> Result {
    let area = Area::resident(PAGES.max(1))?;
    let go = pipe()?;
    while samples.wants_more() {
        waiting_child(go, Some(samples))?.release()?;
        area.write_all();
    }
    Ok(())
}

fn exit_wait<const PAGES: usize>(samples: &mut Samples) -> Result {
    let area = Area::resident(PAGES.max(1))?;
    while samples.wants_more() {
        let mut status = 0;
        let start = clock::begin();
        let pid = fork();
        if pid == 0 {
            exit(0);
        }
        let answer = wait_for(pid, &mut status);
        samples.add(start, clock::end());
        check("fork", pid)?;
        check("wait4", answer)?;
        area.write_all();
    }
    Ok(())
}

fn exec_wait<const PAGES: usize>(samples: &mut Samples) -> Result {
    let area = Area::resident(PAGES.max(1))?;
    while samples.wants_more() {
        let mut status = 0;
        let start = clock::begin();
        let pid = fork();
        if pid == 0 {
            exec(SELF, &SELF_TO_EXIT);
            exit(1);
        }
        let answer = wait_for(pid, &mut status);
        samples.add(start, clock::end());
        check("fork", pid)?;
        check("wait4", answer)?;
        if status != 0 {
            return sys::wrong("the program was not executed");
        }
        area.write_all();
    }
    Ok(())
}

fn write_all<const PAGES: usize>(samples: &mut Samples) -> Result {
    let area = Area::resident(PAGES)?;
    let go = pipe()?;
    while samples.wants_more() {
        let start = clock::begin();
        let pid = fork();
        if pid == 0 {
            receive(go[0]);
            exit(0);
        }
        area.write_all();
        samples.add(start, clock::end());
        check("fork", pid)?;
        Waiting { pid, go }.release()?;
        area.write_all();
    }
    Ok(())
}

#[inline(always)]
fn write_batch(area: &Area) {
    (0..BATCH).for_each(|page| write(area.at(page)));
}

fn parent_writes<const PAGES: usize>(samples: &mut Samples) -> Result {
    let area = Area::resident(PAGES)?;
    let go = pipe()?;
    while samples.wants_more() {
        let child = waiting_child(go, None)?;
        samples.time(|| write_batch(&area));
        child.release()?;
        area.write_all();
    }
    Ok(())
}

/// The child takes the sample and leaves it in memory that both share.
fn child_writes(samples: &mut Samples) -> Result {
    let area = Area::resident(1000)?;
    let shared = Area::shared(1)?;
    let result = shared.base as *mut u64;
    while samples.wants_more() {
        let pid = fork();
        if pid == 0 {
            let start = clock::begin();
            write_batch(&area);
            let ticks = clock::end() - start;
            // SAFETY: the page is mapped.
            unsafe { result.write_volatile(ticks) };
            exit(0);
        }
        check("fork", pid)?;
        wait(pid)?;
        // SAFETY: as above.
        samples.add(0, unsafe { result.read_volatile() });
        area.write_all();
    }
    Ok(())
}

fn last_holder_writes(samples: &mut Samples) -> Result {
    let area = Area::resident(1000)?;
    let go = pipe()?;
    while samples.wants_more() {
        waiting_child(go, None)?.release()?;
        samples.time(|| write_batch(&area));
        area.write_all();
    }
    Ok(())
}
