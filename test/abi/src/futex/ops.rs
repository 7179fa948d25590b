// SPDX-License-Identifier: MPL-2.0

//! Operations on two futexes: requeueing, and waking on both.

use std::thread;

use libc::*;

use super::*;
use crate::signal::until;

pub const CASES: &[Case] = cases!["futex/ops":
    requeue_moves_waiters,
    requeue_counts_both,
    cmp_requeue_of_another_value_is_eagain,
    requeue_of_negative_numbers_is_einval,
    wake_op_changes_the_word,
    wake_op_wakes_both_if_the_comparison_holds,
    wake_op_unknown_is_enosys,
    bad_second_address,
];

fn requeue(first: &AtomicU32, second: &AtomicU32, wakes: i32, moves: i32) -> sys::Result {
    syscall!(SYS_futex, at(first), FUTEX_REQUEUE, wakes, moves, at(second))
}

fn cmp_requeue(first: &AtomicU32, second: &AtomicU32, wakes: i32, moves: i32, expected: u32) -> sys::Result {
    syscall!(SYS_futex, at(first), FUTEX_CMP_REQUEUE, wakes, moves, at(second), expected)
}

fn requeue_moves_waiters() {
    let (first, second) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| check_eq!(wait_for(&first, 0, 0), Ok(0)));
        }
        let mut moved = 0;
        until("moving all three", || {
            moved += ok!(cmp_requeue(&first, &second, 0, 10, 0));
            moved == 3
        });
        check_eq!(wake(&first, 10, 0), Ok(0));
        check_eq!(wake(&second, 10, 0), Ok(3));
    });
}

fn requeue_counts_both() {
    let (first, second) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| check_eq!(wait_for(&first, 0, 0), Ok(0)));
        }
        let mut touched = 0;
        until("touching both", || {
            touched += ok!(cmp_requeue(&first, &second, 1 - touched.min(1) as i32, 10, 0));
            touched == 2
        });
        check_eq!(requeue(&second, &second, 10, 0), Ok(1));
    });
}

fn cmp_requeue_of_another_value_is_eagain() {
    let (first, second) = (AtomicU32::new(1), AtomicU32::new(0));
    errno_is!(cmp_requeue(&first, &second, 1, 1, 0), EAGAIN);
    check_eq!(cmp_requeue(&first, &second, 1, 1, 1), Ok(0));
    check_eq!(requeue(&first, &second, 1, 1), Ok(0));
}

fn requeue_of_negative_numbers_is_einval() {
    let (first, second) = (AtomicU32::new(0), AtomicU32::new(0));
    errno_is!(requeue(&first, &second, -1, 1), EINVAL);
    errno_is!(requeue(&first, &second, 1, -1), EINVAL);
}

fn encode(op: i32, operand: i32, cmp: i32, compared: i32) -> u32 {
    (op << 28 | cmp << 24 | (operand & 0xfff) << 12 | compared & 0xfff) as u32
}

fn wake_op(first: &AtomicU32, second: &AtomicU32, encoded: u32) -> sys::Result {
    syscall!(SYS_futex, at(first), FUTEX_WAKE_OP, 1, 1, at(second), encoded)
}

fn wake_op_changes_the_word() {
    const SHIFT: i32 = FUTEX_OP_OPARG_SHIFT;
    let first = AtomicU32::new(0);
    for (op, operand, before, after) in [
        (FUTEX_OP_SET, 7, 1, 7),
        (FUTEX_OP_ADD, -1, 5, 4),
        (FUTEX_OP_OR, 6, 1, 7),
        (FUTEX_OP_ANDN, 6, 7, 1),
        (FUTEX_OP_XOR, 3, 1, 2),
        (FUTEX_OP_OR | SHIFT, 4, 1, 17),
    ] {
        let second = AtomicU32::new(before);
        check_eq!(wake_op(&first, &second, encode(op, operand, FUTEX_OP_CMP_EQ, 0)), Ok(0));
        check_eq!(value(&second), after, "operation {op}");
    }
}

fn wake_op_wakes_both_if_the_comparison_holds() {
    let (first, second) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| check_eq!(wait_for(&second, 0, 0), Ok(0)));
        // The old value is compared: it is not greater than 0.
        for _ in 0..50 {
            check_eq!(wake_op(&first, &second, encode(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_GT, 0)), Ok(0));
        }
        until("the waiter", || {
            ok!(wake_op(&first, &second, encode(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_GE, 0))) == 1
        });
    });
}

fn wake_op_unknown_is_enosys() {
    let (first, second) = (AtomicU32::new(0), AtomicU32::new(0));
    errno_is!(wake_op(&first, &second, encode(5, 0, 0, 0)), ENOSYS);
    errno_is!(wake_op(&first, &second, encode(0, 0, 6, 0)), ENOSYS);
}

fn bad_second_address() {
    let first = AtomicU32::new(0);
    errno_is!(syscall!(SYS_futex, at(&first), FUTEX_REQUEUE, 1, 1, 0x1000), EFAULT);
    errno_is!(syscall!(SYS_futex, at(&first), FUTEX_REQUEUE, 1, 1, at(&first) + 2), EINVAL);
    errno_is!(syscall!(SYS_futex, at(&first), FUTEX_WAKE_OP, 1, 1, 0x1000, 0), EFAULT);
}
