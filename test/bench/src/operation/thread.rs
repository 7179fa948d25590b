// SPDX-License-Identifier: MPL-2.0

//! Threads, and handing over from one to another.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{Operation, operations};
use crate::{
    clock::Samples,
    sys::{Result, Stack, check, exit, exit_thread, fork, pipe, receive, send, wait},
};

pub const OPERATIONS: &[Operation] = operations! {
    "thread_create", 0, 1, 100, create, "`clone` of a thread, as its creator sees it";
    "thread_create_join", 0, 1, 100, create_join, "the same until the thread has ended and its creator knows";
    "pipe_round_trip", 0, 1, 200, pipe_round_trip, "a byte to another process through a pipe, and one back through another";
    "context_switch", 0, 2, 200, switch, "a thread wakes another through a futex and waits: half of a round trip";
};

extern "C" fn end_at_once(_: usize) -> ! {
    exit_thread()
}

fn create(samples: &mut Samples) -> Result {
    let mut stack = Stack::new();
    while samples.wants_more() {
        check("clone", samples.time(|| stack.thread(end_at_once, 0)))?;
        stack.join();
    }
    Ok(())
}

fn create_join(samples: &mut Samples) -> Result {
    let mut stack = Stack::new();
    while samples.wants_more() {
        let answer = samples.time(|| {
            let answer = stack.thread(end_at_once, 0);
            stack.join();
            answer
        });
        check("clone", answer)?;
    }
    Ok(())
}

fn pipe_round_trip(samples: &mut Samples) -> Result {
    let (there, back) = (pipe()?, pipe()?);
    let pid = fork();
    if pid == 0 {
        // Without the writing end of its own, so that it sees the end of the other's.
        crate::sys::close(there[1]);
        while receive(there[0]) == 1 {
            send(back[1]);
        }
        exit(0);
    }
    check("fork", pid)?;
    while samples.wants_more() {
        let answers = samples.time(|| (send(there[1]), receive(back[0])));
        check("write", answers.0)?;
        check("read", answers.1)?;
    }
    crate::sys::close(there[1]);
    wait(pid)
}

/// Whose turn it is; the other one waits for its own.
static TURN: AtomicU32 = AtomicU32::new(MINE);
const MINE: u32 = 0;
const OTHER: u32 = 1;
const END: u32 = 2;

#[inline(always)]
fn hand_over(to: u32) {
    TURN.store(to, Ordering::SeqCst);
    syscall!(libc::SYS_futex, TURN.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1);
}

/// Waits until it is no longer the turn of `whose`; returns whose it is.
#[inline(always)]
fn wait_while(whose: u32) -> u32 {
    loop {
        let turn = TURN.load(Ordering::SeqCst);
        if turn != whose {
            return turn;
        }
        syscall!(libc::SYS_futex, TURN.as_ptr(), libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, whose, 0);
    }
}

extern "C" fn hand_back(_: usize) -> ! {
    while wait_while(MINE) == OTHER {
        hand_over(MINE);
    }
    exit_thread()
}

fn switch(samples: &mut Samples) -> Result {
    let mut stack = Stack::new();
    check("clone", stack.thread(hand_back, 0))?;
    while samples.wants_more() {
        samples.time(|| {
            hand_over(OTHER);
            wait_while(OTHER)
        });
    }
    hand_over(END);
    stack.join();
    Ok(())
}
