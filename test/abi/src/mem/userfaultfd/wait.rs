// SPDX-License-Identifier: MPL-2.0

//! Who waits, for what and for how long: read and poll, faults of the kernel, signals, the end of the descriptor.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use libc::{SIGBUS, SIGKILL, SIGUSR1};

use super::{
    super::{anon, page_numbers, peek, poke},
    *,
};
use crate::child::{Child, Turn, killed_by, shared_words};

pub const CASES: &[Case] = cases!["mem/userfaultfd":
    read_without_anything_is_eagain,
    read_into_too_little_is_einval,
    one_read_takes_several_faults,
    fault_is_read_once,
    poll_of_one_that_waits_is_an_error,
    poll_tells_of_a_fault,
    close_lets_all_go_on,
    close_by_a_forked_holder_too_is_needed,
    unregister_lets_those_go_on_who_wait,
    read_call_waits_for_its_buffer,
    write_call_waits_for_its_buffer,
    user_mode_only_refuses_the_kernel,
    sigbus_feature_raises_it_at_once,
    thread_is_told_with_the_feature,
    exact_address_is_told_with_the_feature,
    handler_of_a_signal_runs_while_a_fault_waits,
    kill_ends_a_fault_that_waits,
    kill_ends_a_call_that_waits,
    many_threads_wait_for_one_page,
    another_process_serves_the_faults,
    space_that_is_gone_is_esrch,
];

fn read_without_anything_is_eagain() {
    let at = anon(1);
    let uffd = Uffd::missing(at, 1);
    uffd.set_nonblocking(true);
    errno_is!(uffd.read(), EAGAIN);
}

fn read_into_too_little_is_einval() {
    let uffd = Uffd::with(0);
    errno_is!(sys::read(uffd.0, &mut [0; 31]), EINVAL);
    errno_is!(sys::read(uffd.0, &mut []), EINVAL);
}

fn one_read_takes_several_faults() {
    let at = anon(2);
    let uffd = Uffd::missing(at, 2);
    thread::scope(|scope| {
        scope.spawn(|| peek(at));
        scope.spawn(|| peek(at + PAGE));
        a_moment();
        let mut bytes = [0; 100];
        let count = ok!(sys::read(uffd.0, &mut bytes));
        check_eq!(count, 64);
        let mut faults = [Message::of(&bytes[..32]), Message::of(&bytes[32..64])];
        faults.sort_by_key(|message| message.args[1]);
        check_eq!(faults, [fault(at, 0), fault(at + PAGE, 0)]);
        uffd.copy(at, 2, 1, 0);
    });
}

fn fault_is_read_once() {
    let at = anon(1);
    let uffd = Uffd::missing(at, 1);
    beside(
        || peek(at),
        |_| {
            uffd.next();
            check!(uffd.is_silent());
            uffd.set_nonblocking(true);
            check_eq!(uffd.poll(), 0);
            uffd.copy(at, 1, 1, 0);
        },
    );
}

fn poll_of_one_that_waits_is_an_error() {
    let uffd = Uffd::with(0);
    check_eq!(uffd.poll(), libc::POLLERR);
    uffd.set_nonblocking(true);
    check_eq!(uffd.poll(), 0);
}

fn poll_tells_of_a_fault() {
    let at = anon(1);
    let uffd = Uffd::missing(at, 1);
    uffd.set_nonblocking(true);
    beside(
        || peek(at),
        |_| {
            let mut polled = libc::pollfd { fd: uffd.0, events: libc::POLLIN, revents: 0 };
            check_eq!(syscall!(SYS_poll, &raw mut polled, 1, 5000), Ok(1));
            check_eq!(polled.revents, libc::POLLIN);
            check_eq!(uffd.next(), fault(at, 0));
            uffd.copy(at, 1, 1, 0);
        },
    );
}

fn close_lets_all_go_on() {
    let at = anon(4);
    let uffd = Uffd::missing(at, 4);
    let values = thread::scope(|scope| {
        let threads = [0, 1, 2].map(|page| scope.spawn(move || peek(at + page * PAGE)));
        uffd.next();
        a_moment();
        uffd.close();
        threads.map(|thread| thread.join().unwrap_or(0xff))
    });
    check_eq!(values, [0, 0, 0]);
    poke(at + 3 * PAGE, 1);
    check_eq!(page_numbers(at, 4), [0, 0, 0, 1]);
}

fn close_by_a_forked_holder_too_is_needed() {
    let at = anon(1);
    let uffd = Uffd::missing(at, 1);
    let turn = Turn::new();
    let holder = Child::spawn(|| turn.wait());
    let value = beside(
        || peek(at),
        |thread| {
            uffd.next();
            uffd.close();
            a_moment();
            check!(!thread.is_finished());
            turn.post();
        },
    );
    check_eq!(value, 0);
    holder.join();
}

fn unregister_lets_those_go_on_who_wait() {
    let at = anon(2);
    let uffd = Uffd::missing(at, 2);
    let value = beside(
        || peek(at),
        |_| {
            uffd.next();
            ok!(uffd.unregister(at, 2));
        },
    );
    check_eq!(value, 0);
}

fn read_call_waits_for_its_buffer() {
    let at = anon(1);
    let uffd = Uffd::missing(at, 1);
    let (reader, writer) = ok!(sys::pipe(0));
    check_eq!(sys::write(writer, b"hello"), Ok(5));
    let count = beside(
        || syscall!(SYS_read, reader, at + 10, 5),
        |_| {
            check_eq!(uffd.next(), fault(at, FLAG_WRITE));
            uffd.copy(at, 1, 1, 0);
        },
    );
    check_eq!(count, Ok(5));
    check_eq!((peek(at), peek(at + 10), peek(at + 14)), (1, b'h', b'o'));
}

fn write_call_waits_for_its_buffer() {
    let at = anon(1);
    let uffd = Uffd::missing(at, 1);
    let (reader, writer) = ok!(sys::pipe(0));
    let count = beside(
        || syscall!(SYS_write, writer, at, 3),
        |_| {
            check_eq!(uffd.next(), fault(at, 0));
            uffd.copy(at, 1, 9, 0);
        },
    );
    check_eq!(count, Ok(3));
    let mut bytes = [1; 3];
    check_eq!(sys::read(reader, &mut bytes), Ok(3));
    check_eq!(bytes, [9, 0, 0]);
}

fn user_mode_only_refuses_the_kernel() {
    let at = anon(2);
    let uffd = ok!(open(USER_MODE_ONLY));
    ok!(uffd.api(API, 0));
    ok!(uffd.register(at, 2, MODE_MISSING));
    let (reader, writer) = ok!(sys::pipe(0));
    check_eq!(sys::write(writer, b"hello"), Ok(5));
    errno_is!(syscall!(SYS_read, reader, at, 5), EFAULT);
    check!(uffd.is_silent());
    uffd.fills_what_is_read(at, 4);
}

fn sigbus_feature_raises_it_at_once() {
    let at = anon(2);
    let uffd = Uffd::with(FEATURE_SIGBUS);
    ok!(uffd.register(at, 2, MODE_MISSING));
    // A forked child is not watched: the fault must be the case's own.
    let (signal, code, addr) = crate::fault::try_read(at + 5)
        .map_or_else(|fault| (fault.signal, fault.code, fault.addr), |value| panic!("it reads {value}"));
    check_eq!((signal, code), (SIGBUS, crate::fault::BUS_ADRERR));
    check_eq!(addr / PAGE * PAGE, at);
    let (reader, writer) = ok!(sys::pipe(0));
    check_eq!(sys::write(writer, b"hello"), Ok(5));
    errno_is!(syscall!(SYS_read, reader, at, 5), EFAULT);
    uffd.copy(at, 1, 6, 0);
    check_eq!(peek(at), 6);
    check!(uffd.is_silent());
}

fn thread_is_told_with_the_feature() {
    let at = anon(1);
    let uffd = Uffd::with(FEATURE_THREAD_ID);
    ok!(uffd.register(at, 1, MODE_MISSING));
    let tid = AtomicUsize::new(0);
    beside(
        || {
            tid.store(ok!(syscall!(SYS_gettid)), SeqCst);
            peek(at)
        },
        |_| {
            let message = uffd.next();
            check_eq!(message.args[2] as u32 as usize, tid.load(SeqCst));
            uffd.copy(at, 1, 1, 0);
        },
    );
}

fn exact_address_is_told_with_the_feature() {
    let at = anon(1);
    let uffd = Uffd::with(FEATURE_EXACT_ADDRESS);
    ok!(uffd.register(at, 1, MODE_MISSING));
    beside(
        || poke(at + 1234, 1),
        |_| {
            check_eq!(uffd.next(), fault(at + 1234, FLAG_WRITE));
            uffd.copy(at, 1, 1, 0);
        },
    );
}

static HANDLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn note(_: i32) {
    HANDLED.fetch_add(1, SeqCst);
}

fn handler_of_a_signal_runs_while_a_fault_waits() {
    // SAFETY: the handler only adds to an atomic number.
    unsafe { libc::signal(SIGUSR1, note as *const () as usize) };
    let at = anon(1);
    let uffd = Uffd::missing(at, 1);
    let tid = AtomicUsize::new(0);
    let value = beside(
        || {
            tid.store(ok!(syscall!(SYS_gettid)), SeqCst);
            peek(at)
        },
        |thread| {
            uffd.next();
            ok!(syscall!(SYS_tgkill, sys::getpid(), tid.load(SeqCst), SIGUSR1));
            // It faults again when the handler is done.
            check_eq!(uffd.next(), fault(at, 0));
            check_eq!(HANDLED.load(SeqCst), 1);
            check!(!thread.is_finished());
            uffd.copy(at, 1, 3, 0);
        },
    );
    check_eq!(value, 3);
}

/// Runs `wait` in a child whose memory it is to wait for, and kills it when it does.
fn kill_while(wait: impl FnOnce(usize) + Send) {
    let words = shared_words();
    let signal = killed_by(|| {
        let at = anon(1);
        let uffd = Uffd::missing(at, 1);
        let own = sys::getpid();
        beside(
            || wait(at),
            |_| {
                uffd.next();
                words[0].store(1, SeqCst);
                ok!(sys::kill(own, SIGKILL));
                loop {
                    a_moment();
                }
            },
        );
    });
    check_eq!(signal, Some(SIGKILL));
    check_eq!(words[0].load(SeqCst), 1);
}

fn kill_ends_a_fault_that_waits() {
    kill_while(|at| _ = peek(at));
}

fn kill_ends_a_call_that_waits() {
    kill_while(|at| {
        let (reader, writer) = ok!(sys::pipe(0));
        check_eq!(sys::write(writer, b"x"), Ok(1));
        let _ = syscall!(SYS_read, reader, at, 1);
    });
}

fn many_threads_wait_for_one_page() {
    let at = anon(1);
    let uffd = Uffd::missing(at, 1);
    let sum: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| usize::from(peek(at)))).collect();
        uffd.next();
        a_moment();
        uffd.copy(at, 1, 5, 0);
        threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    });
    check_eq!(sum, 40);
}

fn another_process_serves_the_faults() {
    let at = anon(2);
    let uffd = Uffd::missing(at, 2);
    let source = anon(1);
    poke(source, 11);
    // Whoever has the descriptor fills the memory of who made it, from memory of his own.
    let server = Child::spawn(|| {
        poke(source, 22);
        check_eq!(uffd.next(), fault(at + PAGE, 0));
        check_eq!(uffd.copy_from(at + PAGE, source, 1, 0), (Ok(0), PAGE as i64));
    });
    check_eq!(peek(at + PAGE), 22);
    server.join();
}

fn space_that_is_gone_is_esrch() {
    let (reader, writer) = ok!(sys::pipe(0));
    let at = anon(1);
    let (left, right) = socket_pair();
    let child = Child::spawn(|| {
        let uffd = Uffd::missing(at, 1);
        send_descriptor(left, uffd.0);
        check_eq!(sys::read(reader, &mut [0]), Ok(1));
    });
    let uffd = Uffd(receive_descriptor(right));
    uffd.copy(at, 1, 1, 0);
    check_eq!(sys::write(writer, b"."), Ok(1));
    child.join();
    errno_is!(uffd.copy_from(at, anon(1), 1, 0).0, ESRCH);
    errno_is!(uffd.zeropage(at, 1, 0).0, ESRCH);
    errno_is!(uffd.register(at, 1, MODE_MISSING), ENOMEM);
    errno_is!(uffd.unregister(at, 1), ENOMEM);
}

fn socket_pair() -> (i32, i32) {
    let mut ends = [-1; 2];
    ok!(syscall!(SYS_socketpair, libc::AF_UNIX, libc::SOCK_STREAM, 0, ends.as_mut_ptr()));
    (ends[0], ends[1])
}

/// A message with room for one descriptor.
#[repr(C, align(8))]
struct Control {
    header: libc::cmsghdr,
    fd: i32,
    padding: i32,
}

fn with_message<T>(control: &mut Control, call: impl FnOnce(*mut libc::msghdr) -> T) -> T {
    let mut byte = [b'.'];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: all zeros is a value of this plain structure.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = std::ptr::from_mut(control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    call(&raw mut message)
}

fn control(fd: i32) -> Control {
    // SAFETY: all zeros is a value of this plain structure.
    let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
    header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<i32>()) as _;
    header.cmsg_level = libc::SOL_SOCKET;
    header.cmsg_type = libc::SCM_RIGHTS;
    Control { header, fd, padding: 0 }
}

fn send_descriptor(socket: i32, fd: i32) {
    let sent = with_message(&mut control(fd), |message| syscall!(SYS_sendmsg, socket, message, 0));
    check_eq!(sent, Ok(1));
}

fn receive_descriptor(socket: i32) -> i32 {
    let mut control = control(-1);
    check_eq!(with_message(&mut control, |message| syscall!(SYS_recvmsg, socket, message, 0)), Ok(1));
    check_eq!(control.padding, 0);
    control.fd
}
