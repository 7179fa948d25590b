// SPDX-License-Identifier: MPL-2.0

//! What is in `/dev`: `null(4)`, `full(4)`, `random(4)`, and links to the caller's own files.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use libc::{MAP_PRIVATE, MAP_SHARED, O_RDONLY, O_RDWR, O_WRONLY, PROT_READ, PROT_WRITE};

use crate::{child::in_child, harness::Case, sys};

pub const GROUPS: &[&[Case]] = &[CASES];

const CASES: &[Case] = cases!["device":
    numbers_are_those_of_linux,
    null_swallows_and_is_empty,
    zero_has_zeros,
    zero_can_be_mapped,
    full_is_full,
    random_is_random,
    offsets_mean_nothing,
    unknown_ioctls_are_enotty,
    bad_pointers_are_efault,
    poll_is_always_ready,
    standard_streams_have_links,
    fd_leads_to_open_files,
    shm_is_writable_by_all,
    node_without_driver_is_enxio,
    tty_without_terminal_is_enxio,
];

fn open(name: &str) -> i32 {
    ok!(sys::open(&format!("/dev/{name}"), O_RDWR, 0))
}

fn numbers_are_those_of_linux() {
    for (name, major, minor) in [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
        ("ptmx", 5, 2),
    ] {
        let Ok(meta) = std::fs::metadata(format!("/dev/{name}")) else { panic!("no /dev/{name}") };
        check!(meta.file_type().is_char_device(), "{name}");
        check_eq!((libc::major(meta.rdev()), libc::minor(meta.rdev())), (major, minor), "{name}");
    }
}

fn null_swallows_and_is_empty() {
    let fd = open("null");
    check_eq!((sys::write(fd, &[1; 5000]), sys::read(fd, &mut [0; 9])), (Ok(5000), Ok(0)));
}

fn zero_has_zeros() {
    let (fd, mut bytes) = (open("zero"), [7; 5000]);
    check_eq!(sys::read(fd, &mut bytes), Ok(5000));
    check!(bytes.iter().all(|byte| *byte == 0));
    check_eq!(sys::write(fd, b"gone"), Ok(4));
}

fn zero_can_be_mapped() {
    let fd = open("zero");
    let private = ok!(sys::mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
    let shared = ok!(sys::mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    // SAFETY: both are mapped for reading and writing.
    let byte = |at: usize| unsafe { (at as *const u8).read_volatile() };
    in_child(|| {
        for at in [private, shared] {
            check_eq!(byte(at), 0);
            // SAFETY: as above.
            unsafe { (at as *mut u8).write_volatile(5) };
        }
    });
    check_eq!((byte(private), byte(shared)), (0, 5));
    errno_is!(sys::mmap(0, 4096, PROT_READ, MAP_SHARED, open("null"), 0), ENODEV);
}

fn full_is_full() {
    let (fd, mut bytes) = (open("full"), [7; 10]);
    errno_is!(sys::write(fd, b"x"), ENOSPC);
    check_eq!((sys::read(fd, &mut bytes), bytes), (Ok(10), [0; 10]));
}

fn random_is_random() {
    for name in ["random", "urandom"] {
        let (fd, mut one, mut other) = (open(name), [0; 64], [0; 64]);
        check_eq!((sys::read(fd, &mut one), sys::read(fd, &mut other)), (Ok(64), Ok(64)));
        check!(one != other && one != [0; 64]);
        check_eq!(sys::write(fd, b"some more"), Ok(9));
        let mut bits = -1_i32;
        ok!(syscall!(SYS_ioctl, fd, 0x8004_5200_u32, &raw mut bits));
        check!(bits > 0);
    }
}

fn offsets_mean_nothing() {
    let fd = open("zero");
    check_eq!(syscall!(SYS_lseek, fd, 12345, libc::SEEK_SET), Ok(0));
    check_eq!(sys::pread(fd, &mut [7; 4], 1 << 40), Ok(4));
    check_eq!(sys::pwrite(open("null"), b"x", 99), Ok(1));
}

fn unknown_ioctls_are_enotty() {
    for name in ["null", "zero"] {
        errno_is!(syscall!(SYS_ioctl, open(name), libc::TCGETS, [0_u64; 16].as_mut_ptr()), ENOTTY);
    }
}

fn bad_pointers_are_efault() {
    errno_is!(syscall!(SYS_read, open("zero"), 8, 4), EFAULT);
    errno_is!(syscall!(SYS_read, open("urandom"), 8, 4), EFAULT);
    // What null does not look at cannot be wrong.
    check_eq!(syscall!(SYS_write, open("null"), 8, 4), Ok(4));
}

fn poll_is_always_ready() {
    let mut entry = libc::pollfd { fd: open("null"), events: libc::POLLIN | libc::POLLOUT, revents: 0 };
    check_eq!(syscall!(SYS_poll, &raw mut entry, 1, 0), Ok(1));
    check_eq!(entry.revents, libc::POLLIN | libc::POLLOUT);
}

fn standard_streams_have_links() {
    for (number, name) in ["stdin", "stdout", "stderr"].into_iter().enumerate() {
        let target = std::fs::read_link(format!("/dev/{name}"));
        check_eq!(target.ok(), Some(format!("/proc/self/fd/{number}").into()));
    }
}

fn fd_leads_to_open_files() {
    let (reader, writer) = ok!(sys::pipe(0));
    let again = ok!(sys::open(&format!("/dev/fd/{writer}"), O_WRONLY, 0));
    check_eq!(sys::write(again, b"x"), Ok(1));
    check_eq!(sys::read(reader, &mut [0; 4]), Ok(1));
}

fn shm_is_writable_by_all() {
    let Ok(meta) = std::fs::metadata("/dev/shm") else { skip!("no /dev/shm") };
    if std::fs::metadata("/").is_ok_and(|root| root.dev() == meta.dev()) {
        skip!("nothing is mounted at /dev or /dev/shm");
    }
    check_eq!(meta.mode() & 0o7777, 0o1777);
    let path = format!("/dev/shm/abi-{}", sys::getpid());
    let fd = ok!(sys::open(&path, O_RDWR | libc::O_CREAT | libc::O_EXCL, 0o600));
    ok!(sys::ftruncate(fd, 4096));
    ok!(sys::mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    check!(std::fs::remove_file(&path).is_ok());
}

fn node_without_driver_is_enxio() {
    let path = crate::tmp::path();
    let name = sys::c_string(&path);
    match syscall!(SYS_mknod, name.as_ptr(), libc::S_IFCHR | 0o600, libc::makedev(300, 7)) {
        Ok(_) => match sys::open(&path, O_RDONLY, 0) {
            Err(error) if error.0 == libc::EACCES => skip!("devices cannot be opened in /tmp"),
            opened => errno_is!(opened, ENXIO),
        },
        Err(error) => check_eq!(error, sys::Errno(libc::EPERM)),
    }
}

fn tty_without_terminal_is_enxio() {
    in_child(|| {
        ok!(syscall!(SYS_setsid));
        errno_is!(sys::open("/dev/tty", O_RDWR, 0), ENXIO);
    });
}
