// SPDX-License-Identifier: MPL-2.0

//! Interest lists: `epoll(7)`.

use libc::{
    EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLET, EPOLLEXCLUSIVE, EPOLLHUP, EPOLLIN,
    EPOLLONESHOT, EPOLLOUT, SIGALRM,
};

use crate::{child::Child, harness::Case, sys, tmp};

pub const CASES: &[Case] = cases!["poll/epoll":
    tells_events_and_data,
    level_is_told_again,
    edge_is_told_once,
    oneshot_is_told_until_rearmed,
    modify_changes_interest,
    delete_ends_it,
    closed_file_is_gone,
    duplicate_keeps_it,
    hang_up_is_always_told,
    several_files_at_once,
    more_files_than_room_take_turns,
    waits_until_ready,
    times_out,
    times_out_with_nanoseconds,
    signal_is_eintr,
    mask_is_in_force_while_waiting,
    nested_wakes,
    nested_can_be_polled,
    loops_are_eloop,
    deep_nesting_is_eloop,
    regular_file_is_eperm,
    itself_is_einval,
    twice_is_eexist,
    missing_is_enoent,
    same_file_under_two_numbers,
    exclusive_is_checked,
    bad_arguments,
    bad_pointers_are_efault,
    survives_fork,
];

fn epoll() -> i32 {
    ok!(syscall!(SYS_epoll_create1, EPOLL_CLOEXEC)) as i32
}

fn control(epoll: i32, operation: i32, fd: i32, events: i32, data: u64) -> sys::Result {
    let event = libc::epoll_event { events: events as u32, u64: data };
    syscall!(SYS_epoll_ctl, epoll, operation, fd, &raw const event)
}

fn add(epoll: i32, fd: i32, events: i32, data: u64) -> sys::Result {
    control(epoll, EPOLL_CTL_ADD, fd, events, data)
}

fn wait(epoll: i32, room: usize, timeout: i32) -> sys::Result<Vec<(u32, u64)>> {
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; room];
    let count = syscall!(SYS_epoll_wait, epoll, events.as_mut_ptr(), room, timeout)?;
    Ok(events[..count].iter().map(|event| (event.events, event.u64)).collect())
}

fn pipe() -> (i32, i32) {
    ok!(sys::pipe(libc::O_CLOEXEC | libc::O_NONBLOCK))
}

const IN: u32 = EPOLLIN as u32;
const OUT: u32 = EPOLLOUT as u32;

fn tells_events_and_data() {
    let (ep, (reader, writer)) = (epoll(), pipe());
    ok!(add(ep, reader, EPOLLIN, u64::MAX - 5));
    ok!(add(ep, writer, EPOLLOUT, 7));
    check_eq!(wait(ep, 4, 0), Ok(vec![(OUT, 7)]));
    check_eq!(sys::write(writer, b"x"), Ok(1));
    let mut events = ok!(wait(ep, 4, 0));
    events.sort_unstable();
    check_eq!(events, [(IN, u64::MAX - 5), (OUT, 7)]);
}

fn level_is_told_again() {
    let (ep, (reader, writer)) = (epoll(), pipe());
    ok!(add(ep, reader, EPOLLIN, 1));
    check_eq!(sys::write(writer, b"ab"), Ok(2));
    check_eq!(wait(ep, 4, 0), Ok(vec![(IN, 1)]));
    check_eq!(sys::read(reader, &mut [0]), Ok(1));
    check_eq!(wait(ep, 4, 0), Ok(vec![(IN, 1)]));
    check_eq!(sys::read(reader, &mut [0]), Ok(1));
    check_eq!(wait(ep, 4, 0), Ok(vec![]));
}

fn edge_is_told_once() {
    let (ep, (reader, writer)) = (epoll(), pipe());
    ok!(add(ep, reader, EPOLLIN | EPOLLET, 1));
    check_eq!(sys::write(writer, b"ab"), Ok(2));
    check_eq!(wait(ep, 4, 0), Ok(vec![(IN, 1)]));
    check_eq!(wait(ep, 4, 0), Ok(vec![]));
    check_eq!(sys::read(reader, &mut [0]), Ok(1));
    check_eq!(wait(ep, 4, 0), Ok(vec![]));
    check_eq!(sys::write(writer, b"c"), Ok(1));
    check_eq!(wait(ep, 4, 0), Ok(vec![(IN, 1)]));
}

fn oneshot_is_told_until_rearmed() {
    let (ep, (reader, writer)) = (epoll(), pipe());
    ok!(add(ep, reader, EPOLLIN | EPOLLONESHOT, 1));
    check_eq!(sys::write(writer, b"a"), Ok(1));
    check_eq!(wait(ep, 4, 0), Ok(vec![(IN, 1)]));
    check_eq!(sys::write(writer, b"b"), Ok(1));
    check_eq!(wait(ep, 4, 0), Ok(vec![]));
    ok!(control(ep, EPOLL_CTL_MOD, reader, EPOLLIN | EPOLLONESHOT, 2));
    check_eq!(wait(ep, 4, 0), Ok(vec![(IN, 2)]));
}

fn modify_changes_interest() {
    let (ep, (_reader, writer)) = (epoll(), pipe());
    ok!(add(ep, writer, EPOLLIN, 1));
    check_eq!(wait(ep, 4, 0), Ok(vec![]));
    ok!(control(ep, EPOLL_CTL_MOD, writer, EPOLLOUT, 9));
    check_eq!(wait(ep, 4, 0), Ok(vec![(OUT, 9)]));
}

fn delete_ends_it() {
    let (ep, (_reader, writer)) = (epoll(), pipe());
    ok!(add(ep, writer, EPOLLOUT, 1));
    ok!(syscall!(SYS_epoll_ctl, ep, EPOLL_CTL_DEL, writer, 0));
    check_eq!(wait(ep, 4, 0), Ok(vec![]));
    ok!(add(ep, writer, EPOLLOUT, 2));
    check_eq!(wait(ep, 4, 0), Ok(vec![(OUT, 2)]));
}

fn closed_file_is_gone() {
    let (ep, (_reader, writer)) = (epoll(), pipe());
    ok!(add(ep, writer, EPOLLOUT, 1));
    sys::close(writer);
    check_eq!(wait(ep, 4, 0), Ok(vec![]));
    errno_is!(control(ep, EPOLL_CTL_DEL, writer, 0, 0), EBADF);
}

fn duplicate_keeps_it() {
    let (ep, (_reader, writer)) = (epoll(), pipe());
    let copy = ok!(syscall!(SYS_dup, writer)) as i32;
    ok!(add(ep, writer, EPOLLOUT, 1));
    sys::close(writer);
    check_eq!(wait(ep, 4, 0), Ok(vec![(OUT, 1)]));
    sys::close(copy);
    check_eq!(wait(ep, 4, 0), Ok(vec![]));
}

fn hang_up_is_always_told() {
    let (ep, (reader, writer)) = (epoll(), pipe());
    ok!(add(ep, reader, 0, 1));
    check_eq!(wait(ep, 4, 0), Ok(vec![]));
    sys::close(writer);
    check_eq!(wait(ep, 4, 0), Ok(vec![(EPOLLHUP as u32, 1)]));
}

fn several_files_at_once() {
    let ep = epoll();
    for data in 0..20 {
        let (_reader, writer) = pipe();
        ok!(add(ep, writer, EPOLLOUT, data));
    }
    let mut seen: Vec<u64> = ok!(wait(ep, 30, 0)).into_iter().map(|(_, data)| data).collect();
    seen.sort_unstable();
    check_eq!(seen, (0..20).collect::<Vec<_>>());
}

fn more_files_than_room_take_turns() {
    let ep = epoll();
    for data in 0..6 {
        let (_reader, writer) = pipe();
        ok!(add(ep, writer, EPOLLOUT, data));
    }
    let mut seen: Vec<u64> = (0..3).flat_map(|_| ok!(wait(ep, 2, 0))).map(|(_, data)| data).collect();
    seen.sort_unstable();
    check_eq!(seen, [0, 1, 2, 3, 4, 5]);
}

fn waits_until_ready() {
    let (ep, (reader, writer)) = (epoll(), pipe());
    ok!(add(ep, reader, EPOLLIN, 1));
    let child = Child::spawn(|| {
        sys::sleep_us(20_000);
        check_eq!(sys::write(writer, b"x"), Ok(1));
    });
    check_eq!(wait(ep, 4, -1), Ok(vec![(IN, 1)]));
    child.join();
}

fn times_out() {
    let (ep, (reader, _writer)) = (epoll(), pipe());
    ok!(add(ep, reader, EPOLLIN, 1));
    let start = sys::monotonic_ms();
    check_eq!(wait(ep, 4, 60), Ok(vec![]));
    let passed = sys::monotonic_ms() - start;
    check!((55..3000).contains(&passed), "{passed} ms");
}

fn times_out_with_nanoseconds() {
    let ep = epoll();
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    let start = sys::monotonic_ms();
    let spec = [0_i64, 30_000_000];
    match syscall!(SYS_epoll_pwait2, ep, &raw mut event, 1, spec.as_ptr(), 0, 0) {
        Err(error) if error.0 == libc::ENOSYS => skip!("no epoll_pwait2"),
        done => check_eq!(done, Ok(0)),
    }
    check!((25..3000).contains(&(sys::monotonic_ms() - start)));
    let bad = [0_i64, 1_000_000_000];
    errno_is!(syscall!(SYS_epoll_pwait2, ep, &raw mut event, 1, bad.as_ptr(), 0, 0), EINVAL);
}

extern "C" fn nothing(_: i32) {}

fn alarm_after(micros: i64) {
    // SAFETY: the handler does nothing.
    unsafe { libc::signal(SIGALRM, nothing as *const () as usize) };
    ok!(syscall!(SYS_setitimer, libc::ITIMER_REAL, [0, 0, 0, micros].as_ptr(), 0));
}

fn signal_is_eintr() {
    let ep = epoll();
    alarm_after(30_000);
    errno_is!(wait(ep, 4, 5000), EINTR);
}

fn mask_is_in_force_while_waiting() {
    let ep = epoll();
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    let alarm = 1_u64 << (SIGALRM - 1);
    alarm_after(20_000);
    check_eq!(syscall!(SYS_epoll_pwait, ep, &raw mut event, 1, 60, &raw const alarm, 8), Ok(0));
    ok!(syscall!(SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const alarm, 0, 8));
    alarm_after(20_000);
    let none = 0_u64;
    errno_is!(syscall!(SYS_epoll_pwait, ep, &raw mut event, 1, 5000, &raw const none, 8), EINTR);
    errno_is!(syscall!(SYS_epoll_pwait, ep, &raw mut event, 1, 0, &raw const none, 4), EINVAL);
}

fn nested_wakes() {
    let (outer, inner, (reader, writer)) = (epoll(), epoll(), pipe());
    ok!(add(inner, reader, EPOLLIN, 1));
    ok!(add(outer, inner, EPOLLIN, 2));
    check_eq!(wait(outer, 4, 0), Ok(vec![]));
    let child = Child::spawn(|| {
        sys::sleep_us(20_000);
        check_eq!(sys::write(writer, b"x"), Ok(1));
    });
    check_eq!(wait(outer, 4, -1), Ok(vec![(IN, 2)]));
    check_eq!(wait(inner, 4, 0), Ok(vec![(IN, 1)]));
    check_eq!(sys::read(reader, &mut [0]), Ok(1));
    check_eq!(wait(outer, 4, 0), Ok(vec![]));
    child.join();
}

fn nested_can_be_polled() {
    let (ep, (reader, writer)) = (epoll(), pipe());
    ok!(add(ep, reader, EPOLLIN, 1));
    let mut entry = libc::pollfd { fd: ep, events: libc::POLLIN, revents: 0 };
    check_eq!(syscall!(SYS_poll, &raw mut entry, 1, 0), Ok(0));
    check_eq!(sys::write(writer, b"x"), Ok(1));
    check_eq!(syscall!(SYS_poll, &raw mut entry, 1, 100), Ok(1));
    check_eq!(entry.revents, libc::POLLIN);
}

fn loops_are_eloop() {
    let (one, two, three) = (epoll(), epoll(), epoll());
    ok!(add(one, two, EPOLLIN, 0));
    errno_is!(add(two, one, EPOLLIN, 0), ELOOP);
    ok!(add(two, three, EPOLLIN, 0));
    errno_is!(add(three, one, EPOLLIN, 0), ELOOP);
}

fn deep_nesting_is_eloop() {
    let mut inner = epoll();
    for _ in 0..20 {
        let outer = epoll();
        match add(outer, inner, EPOLLIN, 0) {
            Ok(_) => inner = outer,
            Err(error) => {
                check_eq!(error, sys::Errno(libc::ELOOP));
                return;
            }
        }
    }
    panic!("twenty levels of epolls");
}

fn regular_file_is_eperm() {
    errno_is!(add(epoll(), tmp::file(b""), EPOLLIN, 0), EPERM);
    let folder = ok!(sys::open("/", libc::O_RDONLY | libc::O_DIRECTORY, 0));
    errno_is!(add(epoll(), folder, EPOLLIN, 0), EPERM);
}

fn itself_is_einval() {
    let ep = epoll();
    errno_is!(add(ep, ep, EPOLLIN, 0), EINVAL);
}

fn twice_is_eexist() {
    let (ep, (reader, _writer)) = (epoll(), pipe());
    ok!(add(ep, reader, EPOLLIN, 0));
    errno_is!(add(ep, reader, EPOLLIN, 0), EEXIST);
}

fn missing_is_enoent() {
    let (ep, (reader, _writer)) = (epoll(), pipe());
    errno_is!(control(ep, EPOLL_CTL_MOD, reader, EPOLLIN, 0), ENOENT);
    errno_is!(control(ep, EPOLL_CTL_DEL, reader, 0, 0), ENOENT);
}

fn same_file_under_two_numbers() {
    let (ep, (_reader, writer)) = (epoll(), pipe());
    let copy = ok!(syscall!(SYS_dup, writer)) as i32;
    ok!(add(ep, writer, EPOLLOUT, 1));
    ok!(add(ep, copy, EPOLLOUT, 2));
    check_eq!(ok!(wait(ep, 4, 0)).len(), 2);
}

fn exclusive_is_checked() {
    let (ep, (reader, writer)) = (epoll(), pipe());
    ok!(add(ep, reader, EPOLLIN | EPOLLEXCLUSIVE, 3));
    errno_is!(control(ep, EPOLL_CTL_MOD, reader, EPOLLIN, 0), EINVAL);
    errno_is!(control(ep, EPOLL_CTL_MOD, reader, EPOLLIN | EPOLLEXCLUSIVE, 0), EINVAL);
    errno_is!(add(ep, writer, EPOLLOUT | EPOLLEXCLUSIVE | EPOLLONESHOT, 0), EINVAL);
    errno_is!(add(ep, epoll(), EPOLLIN | EPOLLEXCLUSIVE, 0), EINVAL);
    check_eq!(sys::write(writer, b"x"), Ok(1));
    check_eq!(wait(ep, 4, 0), Ok(vec![(IN, 3)]));
}

fn bad_arguments() {
    let (ep, (reader, _writer)) = (epoll(), pipe());
    errno_is!(syscall!(SYS_epoll_create, 0), EINVAL);
    errno_is!(syscall!(SYS_epoll_create1, 1), EINVAL);
    errno_is!(wait(ep, 0, 0), EINVAL);
    errno_is!(control(ep, 99, reader, EPOLLIN, 0), EINVAL);
    errno_is!(add(reader, ep, EPOLLIN, 0), EINVAL);
    errno_is!(add(999, reader, EPOLLIN, 0), EBADF);
    errno_is!(add(ep, 999, EPOLLIN, 0), EBADF);
    errno_is!(wait(reader, 1, 0), EINVAL);
    errno_is!(wait(999, 1, 0), EBADF);
}

fn bad_pointers_are_efault() {
    let (ep, (_reader, writer)) = (epoll(), pipe());
    errno_is!(syscall!(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, writer, 8), EFAULT);
    ok!(add(ep, writer, EPOLLOUT, 1));
    errno_is!(syscall!(SYS_epoll_wait, ep, 8, 1, 0), EFAULT);
    check_eq!(wait(ep, 4, 0), Ok(vec![(OUT, 1)]));
}

fn survives_fork() {
    let (ep, (reader, writer)) = (epoll(), pipe());
    ok!(add(ep, reader, EPOLLIN, 1));
    let child = Child::spawn(|| check_eq!(wait(ep, 4, 5000), Ok(vec![(IN, 1)])));
    sys::sleep_us(10_000);
    check_eq!(sys::write(writer, b"x"), Ok(1));
    child.join();
}
