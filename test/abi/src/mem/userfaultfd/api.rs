// SPDX-License-Identifier: MPL-2.0

//! The descriptor, UFFDIO_API, UFFDIO_REGISTER and UFFDIO_UNREGISTER, and who may have one.

use libc::{O_CLOEXEC, O_NONBLOCK, PROT_NONE, PROT_READ};

use super::{
    super::{ANON, RW, anon, anon_shared, lone_anon, peek},
    *,
};
use crate::{child::in_child, procfs};

pub const CASES: &[Case] = cases!["mem/userfaultfd":
    descriptor_takes_its_flags,
    unknown_flag_is_einval,
    api_tells_features_and_ioctls,
    nothing_works_before_api,
    second_api_is_einval,
    api_of_another_number_is_einval_and_zeros,
    unknown_feature_is_einval_and_zeros,
    api_at_a_bad_pointer_is_efault,
    unknown_ioctl_is_einval,
    register_tells_the_ioctls_of_the_range,
    register_with_a_bad_mode_is_einval,
    register_of_a_bad_range_is_einval,
    register_of_nothing_mapped_is_einval,
    register_passes_over_holes,
    register_of_a_file_is_einval,
    register_minor_of_anonymous_memory_is_einval,
    register_of_shared_memory_that_may_not_be_written_is_eperm,
    register_of_what_is_anothers_is_ebusy,
    register_again_of_ones_own_succeeds,
    register_without_rights_to_the_memory_succeeds,
    registered_and_unregistered_neighbours_are_apart,
    unregister_makes_neighbours_one_again,
    vm_flags_tell_the_modes,
    unregister_lets_faults_be_served_as_usual,
    unregister_of_nothing_mapped_is_einval,
    split_off_parts_stay_registered,
    unprivileged_needs_user_mode_only,
    event_fork_needs_a_privilege,
    descriptor_is_named_and_described_in_proc,
];

fn descriptor_takes_its_flags() {
    let uffd = ok!(open(O_CLOEXEC | O_NONBLOCK));
    check_eq!(syscall!(SYS_fcntl, uffd.0, libc::F_GETFD), Ok(libc::FD_CLOEXEC as usize));
    let flags = ok!(syscall!(SYS_fcntl, uffd.0, libc::F_GETFL));
    check!(flags as i32 & O_NONBLOCK != 0);
    let plain = ok!(open(0));
    check_eq!(syscall!(SYS_fcntl, plain.0, libc::F_GETFD), Ok(0));
}

fn unknown_flag_is_einval() {
    errno_is!(open(2).map(|uffd| uffd.0), EINVAL);
    errno_is!(open(libc::O_APPEND).map(|uffd| uffd.0), EINVAL);
}

fn api_tells_features_and_ioctls() {
    let uffd = ok!(open(0));
    let (features, ioctls) = ok!(uffd.api(API, 0));
    check_eq!(features & FEATURES_6_1, FEATURES_6_1);
    check_eq!(ioctls, 1 << 0 | 1 << 1 | 1 << 0x3f);
}

fn nothing_works_before_api() {
    let at = anon(1);
    let uffd = ok!(open(O_NONBLOCK));
    errno_is!(uffd.register(at, 1, MODE_MISSING), EINVAL);
    errno_is!(uffd.read(), EINVAL);
    check_eq!(uffd.poll(), libc::POLLERR);
    ok!(uffd.api(API, 0));
    errno_is!(uffd.read(), EAGAIN);
    check_eq!(uffd.poll(), 0);
}

fn second_api_is_einval() {
    let uffd = Uffd::with(0);
    errno_is!(uffd.api(API, 0), EINVAL);
}

fn api_of_another_number_is_einval_and_zeros() {
    let uffd = ok!(open(0));
    let mut words = [API + 1, 0, 7];
    errno_is!(uffd.ioctl(IOCTL_API, &mut words), EINVAL);
    check_eq!(words, [0, 0, 0]);
    ok!(uffd.api(API, 0));
}

fn unknown_feature_is_einval_and_zeros() {
    let uffd = ok!(open(0));
    let mut words = [API, 1 << 40, 7];
    errno_is!(uffd.ioctl(IOCTL_API, &mut words), EINVAL);
    check_eq!(words, [0, 0, 0]);
}

fn api_at_a_bad_pointer_is_efault() {
    let uffd = ok!(open(0));
    errno_is!(syscall!(SYS_ioctl, uffd.0, IOCTL_API, 8), EFAULT);
    ok!(uffd.api(API, 0));
    errno_is!(syscall!(SYS_ioctl, uffd.0, IOCTL_REGISTER, 8), EFAULT);
    errno_is!(syscall!(SYS_ioctl, uffd.0, IOCTL_COPY, 8), EFAULT);
    errno_is!(syscall!(SYS_ioctl, uffd.0, IOCTL_WAKE, 8), EFAULT);
}

fn unknown_ioctl_is_einval() {
    let uffd = Uffd::with(0);
    errno_is!(uffd.ioctl(0xc020_aa30, &mut [0; 8]), EINVAL);
}

fn register_tells_the_ioctls_of_the_range() {
    let at = anon(4);
    let uffd = Uffd::with(0);
    let basic = 1 << 2 | 1 << 3 | 1 << 4;
    let ioctls = ok!(uffd.register(at, 1, MODE_MISSING));
    check_eq!(ioctls & 0xdf, basic);
    let ioctls = ok!(uffd.register(at + PAGE, 1, MODE_MISSING | MODE_WP));
    check_eq!(ioctls & 0xdf, basic | 1 << 6);
    let shared = anon_shared(1);
    let ioctls = ok!(uffd.register(shared, 1, MODE_MINOR));
    check_eq!(ioctls & 0xdf, basic | 1 << 7);
}

fn register_with_a_bad_mode_is_einval() {
    let at = anon(1);
    let uffd = Uffd::with(0);
    errno_is!(uffd.register(at, 1, 0), EINVAL);
    errno_is!(uffd.register(at, 1, 1 << 10), EINVAL);
    errno_is!(uffd.register(at, 1, MODE_MISSING | 1 << 63), EINVAL);
}

fn register_of_a_bad_range_is_einval() {
    let at = anon(2);
    let uffd = Uffd::with(0);
    errno_is!(uffd.register(at + 1, 1, MODE_MISSING), EINVAL);
    errno_is!(uffd.register(at, 0, MODE_MISSING), EINVAL);
    errno_is!(uffd.ioctl(IOCTL_REGISTER, &mut [at as u64, 100, MODE_MISSING, 0]), EINVAL);
    errno_is!(uffd.register(super::super::BEYOND, 1, MODE_MISSING), EINVAL);
    errno_is!(uffd.ioctl(IOCTL_REGISTER, &mut [at as u64, !0 << 12, MODE_MISSING, 0]), EINVAL);
}

fn register_of_nothing_mapped_is_einval() {
    let at = lone_anon(2);
    let uffd = Uffd::with(0);
    ok!(sys::munmap(at, PAGE));
    errno_is!(uffd.register(at, 1, MODE_MISSING), EINVAL);
    errno_is!(uffd.register(at - PAGE, 2, MODE_MISSING), EINVAL);
}

fn register_passes_over_holes() {
    let at = lone_anon(3);
    ok!(sys::munmap(at + PAGE, PAGE));
    let uffd = Uffd::with(0);
    ok!(uffd.register(at, 3, MODE_MISSING));
    uffd.copy(at, 1, 1, 0);
    uffd.copy(at + 2 * PAGE, 1, 3, 0);
    check_eq!((peek(at), peek(at + 2 * PAGE)), (1, 3));
}

fn register_of_a_file_is_einval() {
    let fd = ok!(sys::open("/proc/self/exe", libc::O_RDONLY, 0));
    let at = ok!(sys::mmap(0, PAGE, PROT_READ, libc::MAP_PRIVATE, fd, 0));
    let uffd = Uffd::with(0);
    // SAFETY: all zeros is a value of this plain structure.
    let mut system: libc::statfs = unsafe { std::mem::zeroed() };
    ok!(syscall!(SYS_fstatfs, fd, &raw mut system));
    if system.f_type as u64 == libc::TMPFS_MAGIC as u64 && uffd.register(at, 1, MODE_MISSING).is_ok() {
        skip!("the program lies in a tmpfs, which can be registered");
    }
    errno_is!(uffd.register(at, 1, MODE_MISSING), EINVAL);
    errno_is!(uffd.unregister(at, 1), EINVAL);
}

fn register_minor_of_anonymous_memory_is_einval() {
    let uffd = Uffd::with(0);
    errno_is!(uffd.register(anon(1), 1, MODE_MINOR), EINVAL);
    errno_is!(uffd.register(anon(1), 1, MODE_MISSING | MODE_MINOR), EINVAL);
}

fn register_of_shared_memory_that_may_not_be_written_is_eperm() {
    let name = sys::c_string("read-only");
    let fd = ok!(syscall!(SYS_memfd_create, name.as_ptr(), 0));
    ok!(sys::ftruncate(fd as i32, PAGE));
    let reader = ok!(sys::open(&format!("/proc/self/fd/{fd}"), libc::O_RDONLY, 0));
    let at = ok!(sys::mmap(0, PAGE, PROT_READ, libc::MAP_SHARED, reader, 0));
    let uffd = Uffd::with(0);
    errno_is!(uffd.register(at, 1, MODE_MISSING), EPERM);
}

fn register_of_what_is_anothers_is_ebusy() {
    let at = anon(4);
    let first = Uffd::missing(at + PAGE, 1);
    let second = Uffd::with(0);
    errno_is!(second.register(at, 4, MODE_MISSING), EBUSY);
    // Nothing of it was registered.
    ok!(first.register(at, 4, MODE_MISSING));
    first.close();
    ok!(second.register(at, 4, MODE_MISSING));
}

fn register_again_of_ones_own_succeeds() {
    let at = anon(2);
    let uffd = Uffd::missing(at, 1);
    ok!(uffd.register(at, 2, MODE_MISSING));
    ok!(uffd.register(at, 2, MODE_MISSING | MODE_WP));
    uffd.copy(at, 2, 5, 0);
    check_eq!((peek(at), peek(at + PAGE)), (5, 6));
}

fn register_without_rights_to_the_memory_succeeds() {
    let at = ok!(sys::mmap(0, PAGE, PROT_NONE, ANON, -1, 0));
    let uffd = Uffd::missing(at, 1);
    uffd.copy(at, 1, 9, 0);
    ok!(sys::mprotect(at, PAGE, PROT_READ));
    check_eq!(peek(at), 9);
}

/// Where the mappings in `pages` pages from `at` on begin, in pages.
fn starts(at: usize, pages: usize) -> Vec<usize> {
    let layout = procfs::layout(at..at + pages * PAGE);
    layout.into_iter().map(|(start, ..)| start).collect()
}

fn registered_and_unregistered_neighbours_are_apart() {
    let at = lone_anon(4);
    let uffd = Uffd::missing(at + PAGE, 2);
    check_eq!(starts(at, 4), [0, 1, 3]);
    ok!(uffd.register(at + 3 * PAGE, 1, MODE_MISSING));
    check_eq!(starts(at, 4), [0, 1]);
    ok!(uffd.register(at, 1, MODE_WP));
    check_eq!(starts(at, 4), [0, 1]);
}

fn unregister_makes_neighbours_one_again() {
    let at = lone_anon(4);
    let uffd = Uffd::missing(at + PAGE, 2);
    ok!(uffd.unregister(at + PAGE, 1));
    check_eq!(starts(at, 4), [0, 2, 3]);
    uffd.close();
    check_eq!(starts(at, 4), [0]);
}

fn vm_flags_tell_the_modes() {
    let at = lone_anon(3);
    let uffd = Uffd::missing(at, 1);
    ok!(uffd.register(at + PAGE, 1, MODE_WP));
    let flags = |page: usize| {
        let flags = procfs::vm_flags(at + page * PAGE);
        ["um", "uw"].map(|name| flags.iter().any(|flag| flag == name))
    };
    check_eq!(flags(0), [true, false]);
    check_eq!(flags(1), [false, true]);
    check_eq!(flags(2), [false, false]);
}

fn unregister_lets_faults_be_served_as_usual() {
    let at = anon(2);
    let uffd = Uffd::missing(at, 2);
    ok!(uffd.unregister(at, 2));
    check_eq!(peek(at), 0);
    errno_is!(uffd.copy_from(at + PAGE, anon(1), 1, 0).0, ENOENT);
    check!(uffd.is_silent());
}

fn unregister_of_nothing_mapped_is_einval() {
    let at = lone_anon(1);
    let uffd = Uffd::with(0);
    ok!(sys::munmap(at, PAGE));
    errno_is!(uffd.unregister(at, 1), EINVAL);
    errno_is!(uffd.unregister(at + 1, 1), EINVAL);
}

fn split_off_parts_stay_registered() {
    let at = anon(3);
    let uffd = Uffd::missing(at, 3);
    ok!(sys::mprotect(at + PAGE, PAGE, PROT_READ));
    ok!(sys::mprotect(at + PAGE, PAGE, RW));
    uffd.fills_what_is_read(at + PAGE, 7);
}

fn unprivileged_needs_user_mode_only() {
    let setting = std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd").unwrap_or_default();
    let everybody_may = setting.trim() == "1";
    in_child(|| {
        sys::become_unprivileged();
        ok!(open(USER_MODE_ONLY));
        if everybody_may {
            ok!(open(0));
            return;
        }
        errno_is!(open(0).map(|uffd| uffd.0), EPERM);
        // The right to have one comes before what it is to be like.
        errno_is!(open(2).map(|uffd| uffd.0), EPERM);
    });
}

fn event_fork_needs_a_privilege() {
    in_child(|| {
        sys::become_unprivileged();
        let uffd = ok!(open(USER_MODE_ONLY));
        let mut words = [API, FEATURE_EVENT_FORK, 7];
        errno_is!(uffd.ioctl(IOCTL_API, &mut words), EPERM);
        check_eq!(words, [0, 0, 0]);
        ok!(uffd.api(API, FEATURE_EVENT_UNMAP));
    });
}

fn descriptor_is_named_and_described_in_proc() {
    let at = anon(1);
    let uffd = Uffd::missing(at, 1);
    let path = format!("/proc/self/fd/{}", uffd.0);
    let name = ok!(std::fs::read_link(path).map_err(|error| error.to_string()));
    check_eq!(name.to_string_lossy(), "anon_inode:[userfaultfd]");
    let described = |wanted: &str| {
        let path = format!("/proc/self/fdinfo/{}", uffd.0);
        let text = ok!(std::fs::read_to_string(path).map_err(|error| error.to_string()));
        check!(text.contains(wanted), "{text:?} has no {wanted:?}");
    };
    described("pending:\t0\ntotal:\t0\nAPI:\taa:80000000:80000000000");
    beside(
        || peek(at),
        |_| {
            uffd.next();
            described("pending:\t0\ntotal:\t1\n");
            uffd.copy(at, 1, 1, 0);
        },
    );
}
