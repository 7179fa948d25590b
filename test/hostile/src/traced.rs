// SPDX-License-Identifier: MPL-2.0

//! `hostile traced`: memory runs out, and the process that is ended for it has a debugger, which keeps it at its end.
//!
//! ```text
//!   victim    has taken all memory; killed for that, it stops once more before it is gone
//!   debugger  lets it lie there
//!   others    want memory: that of the victim, which will never want it again
//! ```
//!
//! It succeeds if the others get theirs.

use std::time::Duration;

use crate::sys;

/// What the others want, and what the victim takes at a time.
const SIZE: usize = 32 << 20;

const WRITABLE: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// Runs it; returns whether the others went on.
pub fn run() -> bool {
    sys::set_oom_score("-1000");
    let (Some(pipe), Some(page)) = (sys::pipe(), sys::map(4096, WRITABLE, libc::MAP_PRIVATE)) else {
        return false;
    };
    // Made while there is memory for it.
    let others = sys::fork(|| {
        sys::read_into(pipe.reader, page, 1);
        take();
    });
    let Some(victim) = sys::fork(|| {
        sys::set_oom_score("1000");
        if sys::have_parent_trace() {
            loop {
                take();
            }
        }
    }) else {
        return false;
    };
    let is_at_its_end = sys::wait_for_stop(victim) == Some(libc::SIGSTOP)
        && sys::see_end_of(victim)
        && sys::wait_for_stop(victim) == Some(libc::SIGTRAP | libc::PTRACE_EVENT_EXIT << 8);
    // Not even what is written need be in memory.
    while !sys::write_piece(pipe.writer) {}
    let go_on = others.is_some_and(|pid| sys::ends_within(pid, Duration::from_secs(60)));
    sys::kill(victim);
    sys::let_go(victim);
    let has_ended = sys::ends_within(victim, Duration::from_secs(60));
    for (is_so, what) in [
        (is_at_its_end, "the victim was killed, and stopped at its end"),
        (go_on, "the others went on"),
        (has_ended, "the victim ended when it was let go"),
    ] {
        println!("{what}: {is_so}");
    }
    is_at_its_end && go_on && has_ended
}

fn take() {
    if let Some(addr) = sys::map(SIZE, WRITABLE, libc::MAP_PRIVATE) {
        (addr..addr + SIZE).step_by(4096).for_each(sys::touch);
    }
}
