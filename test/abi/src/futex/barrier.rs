// SPDX-License-Identifier: MPL-2.0

//! membarrier(2).

use super::*;

pub const CASES: &[Case] = cases!["futex/barrier":
    query_tells_what_there_is,
    global_barrier,
    private_barrier_needs_registration,
    bad_arguments_are_einval,
];

const QUERY: i32 = 0;
const GLOBAL: i32 = 1;
const PRIVATE_EXPEDITED: i32 = 8;
const REGISTER_PRIVATE_EXPEDITED: i32 = 16;

fn membarrier(command: i32, flags: u32) -> sys::Result {
    syscall!(SYS_membarrier, command, flags, 0)
}

fn query_tells_what_there_is() {
    let commands = ok!(membarrier(QUERY, 0)) as i32;
    let needed = GLOBAL | PRIVATE_EXPEDITED | REGISTER_PRIVATE_EXPEDITED;
    check_eq!(commands & needed, needed);
}

fn global_barrier() {
    check_eq!(membarrier(GLOBAL, 0), Ok(0));
}

fn private_barrier_needs_registration() {
    errno_is!(membarrier(PRIVATE_EXPEDITED, 0), EPERM);
    check_eq!(membarrier(REGISTER_PRIVATE_EXPEDITED, 0), Ok(0));
    std::thread::scope(|scope| {
        scope.spawn(|| (0..100).for_each(|_| std::hint::spin_loop()));
        check_eq!(membarrier(PRIVATE_EXPEDITED, 0), Ok(0));
    });
}

fn bad_arguments_are_einval() {
    errno_is!(membarrier(GLOBAL, 1), EINVAL);
    errno_is!(membarrier(-1, 0), EINVAL);
    errno_is!(membarrier(1 << 20, 0), EINVAL);
    errno_is!(membarrier(3, 0), EINVAL);
}
