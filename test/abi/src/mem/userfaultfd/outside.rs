// SPDX-License-Identifier: MPL-2.0

//! Who gets at watched memory, or at a userfaultfd, by another way: `/proc/PID/mem`, process_vm_readv(2) and writev,
//! `/dev/userfaultfd`.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use libc::{O_CLOEXEC, O_NONBLOCK, O_RDWR};

use super::{
    super::{anon, page_numbers, peek, poke},
    *,
};
use crate::child::in_child;

pub const CASES: &[Case] = cases!["mem/userfaultfd":
    mem_of_proc_does_not_wait_for_a_missing_page,
    mem_of_proc_does_not_write_a_protected_page,
    process_vm_readv_waits_for_a_missing_page,
    process_vm_writev_waits_for_a_missing_page,
    process_vm_writev_waits_for_a_protected_page,
    device_makes_descriptors,
    device_knows_one_command_and_its_flags,
    device_needs_no_privilege_once_it_is_open,
];

fn open_mem() -> i32 {
    ok!(sys::open("/proc/self/mem", O_RDWR | O_CLOEXEC, 0))
}

fn mem_of_proc_does_not_wait_for_a_missing_page() {
    let at = anon(3);
    let uffd = Uffd::missing(at, 3);
    let mem = open_mem();
    let mut bytes = [7; 2 * PAGE];
    errno_is!(sys::pread(mem, &mut bytes[..4], at), EIO);
    errno_is!(sys::pwrite(mem, &[1], at + 5), EIO);
    check_eq!(bytes, [7; 2 * PAGE]);
    uffd.copy(at, 1, 9, 0);
    // What comes before it is read.
    check_eq!(sys::pread(mem, &mut bytes, at), Ok(PAGE));
    check_eq!((bytes[0], bytes[1], bytes[PAGE]), (9, 0, 7));
    check_eq!(sys::pwrite(mem, &bytes, at), Ok(PAGE));
    check!(uffd.is_silent());
    ok!(uffd.unregister(at, 3));
    check_eq!(page_numbers(at, 3), [9, 0, 0]);
}

fn mem_of_proc_does_not_write_a_protected_page() {
    let at = anon(1);
    poke(at, 3);
    let uffd = Uffd::protecting(at, 1);
    let mem = open_mem();
    let mut bytes = [0];
    check_eq!(sys::pread(mem, &mut bytes, at), Ok(1));
    check_eq!(bytes, [3]);
    errno_is!(sys::pwrite(mem, &[4], at), EIO);
    check_eq!(peek(at), 3);
    check!(uffd.is_silent());
    ok!(uffd.protect(at, 1, 0));
    check_eq!(sys::pwrite(mem, &[4], at), Ok(1));
    check_eq!(peek(at), 4);
}

/// Moves eight bytes between two addresses of this process, by the call named.
fn process_vm(call: libc::c_long, local: usize, remote: usize) -> Result {
    let (local, remote) = ([local, 8], [remote, 8]);
    match call {
        libc::SYS_process_vm_readv => {
            syscall!(SYS_process_vm_readv, sys::getpid(), &raw const local, 1, &raw const remote, 1, 0)
        }
        _ => syscall!(SYS_process_vm_writev, sys::getpid(), &raw const local, 1, &raw const remote, 1, 0),
    }
}

fn process_vm_readv_waits_for_a_missing_page() {
    let (at, here) = (anon(1), anon(1));
    let uffd = Uffd::missing(at, 1);
    let count = beside(
        || process_vm(libc::SYS_process_vm_readv, here, at),
        |_| {
            check_eq!(uffd.next(), fault(at, 0));
            uffd.copy(at, 1, 6, 0);
        },
    );
    check_eq!((count, peek(here)), (Ok(8), 6));
}

fn process_vm_writev_waits_for_a_missing_page() {
    let (at, here) = (anon(1), anon(1));
    poke(here, 5);
    let uffd = Uffd::missing(at, 1);
    let count = beside(
        || process_vm(libc::SYS_process_vm_writev, here, at + 8),
        |_| {
            check_eq!(uffd.next(), fault(at, FLAG_WRITE));
            uffd.copy(at, 1, 6, 0);
        },
    );
    check_eq!((count, peek(at), peek(at + 8)), (Ok(8), 6, 5));
}

fn process_vm_writev_waits_for_a_protected_page() {
    let (at, here) = (anon(1), anon(1));
    poke(at, 3);
    poke(here, 5);
    let uffd = Uffd::protecting(at, 1);
    let count = beside(
        || process_vm(libc::SYS_process_vm_writev, here, at),
        |_| {
            check_eq!(uffd.next(), fault(at, FLAG_WRITE | FLAG_WP));
            check_eq!(peek(at), 3);
            ok!(uffd.protect(at, 1, 0));
        },
    );
    check_eq!((count, peek(at)), (Ok(8), 5));
}

const DEVICE: &str = "/dev/userfaultfd";
const IOC_NEW: u32 = 0xaa00;

/// The device; nothing goes on where there is none, or it cannot be opened.
fn open_device() -> i32 {
    match sys::open(DEVICE, O_RDWR | O_CLOEXEC, 0) {
        Ok(fd) => fd,
        Err(error) => skip!("{DEVICE}: {error:?}"),
    }
}

fn make(device: i32, flags: i32) -> Result<Uffd> {
    syscall!(SYS_ioctl, device, IOC_NEW, flags).map(|fd| Uffd(fd as i32))
}

fn device_makes_descriptors() {
    let device = open_device();
    let node = std::fs::metadata(DEVICE).unwrap_or_else(|error| panic!("{DEVICE}: {error}"));
    check!(node.file_type().is_char_device());
    check_eq!(node.permissions().mode() & 0o777, 0o600);
    let at = anon(1);
    let uffd = ok!(make(device, O_CLOEXEC));
    sys::close(device);
    ok!(uffd.api(API, 0));
    ok!(uffd.register(at, 1, MODE_MISSING));
    uffd.fills_what_is_read(at, 8);
}

fn device_knows_one_command_and_its_flags() {
    let device = open_device();
    errno_is!(syscall!(SYS_ioctl, device, IOC_NEW + 1, 0), EINVAL);
    errno_is!(syscall!(SYS_ioctl, device, IOCTL_API, 0), EINVAL);
    errno_is!(make(device, 2).map(|uffd| uffd.0), EINVAL);
    let uffd = ok!(make(device, O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY));
    let flags = ok!(syscall!(SYS_fcntl, uffd.0, libc::F_GETFL)) as i32;
    check_eq!(flags & O_NONBLOCK, O_NONBLOCK);
    check_eq!(syscall!(SYS_fcntl, uffd.0, libc::F_GETFD), Ok(libc::FD_CLOEXEC as usize));
    errno_is!(sys::read(device, &mut [0; 32]), EINVAL);
    errno_is!(sys::write(device, &[0; 32]), EINVAL);
}

fn device_needs_no_privilege_once_it_is_open() {
    let device = open_device();
    in_child(|| {
        sys::become_unprivileged();
        errno_is!(sys::open(DEVICE, O_RDWR, 0), EACCES);
        let uffd = ok!(make(device, 0));
        ok!(uffd.api(API, 0));
    });
}
