// SPDX-License-Identifier: MPL-2.0

//! execveat(2): a program named from a folder, or by its descriptor alone.

use libc::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, O_CLOEXEC, O_PATH, O_RDONLY};

use super::*;
use crate::{
    program::{output_of, strings},
    tmp,
};

pub const CASES: &[Case] = cases!["process/execveat":
    at_a_folder,
    at_a_descriptor,
    errors,
];

fn execveat(dir: i32, path: &str, args: &[&str], flags: i32) -> sys::Result {
    let args: Vec<_> = args.iter().map(|arg| sys::c_string(arg)).collect();
    let path = sys::c_string(path);
    syscall!(SYS_execveat, dir, path.as_ptr(), strings(&args).as_ptr(), [0_usize].as_ptr(), flags)
}

const ROLE: [&str; 4] = ["abi", "--helper", "process/arguments", "x"];

fn at_a_folder() {
    let told = output_of(|| {
        let dir = ok!(sys::open("/proc/self", O_PATH, 0));
        let error = execveat(dir, "exe", &ROLE, 0);
        panic!("execveat gives {error:?}");
    });
    check_eq!(told, r#"["x"] []"#);
}

fn at_a_descriptor() {
    for flags in [O_RDONLY, O_PATH, O_RDONLY | O_CLOEXEC] {
        let told = output_of(|| {
            let fd = ok!(sys::open("/proc/self/exe", flags, 0));
            let error = execveat(fd, "", &ROLE, AT_EMPTY_PATH);
            panic!("execveat gives {error:?}");
        });
        check_eq!(told, r#"["x"] []"#);
    }
    let told = output_of(|| {
        let fd = ok!(sys::open("/proc/self/exe", O_RDONLY, 0));
        let args = ["abi", "--helper", "process/auxv"];
        let error = execveat(fd, "", &args, AT_EMPTY_PATH).map(|_| fd);
        panic!("execveat gives {error:?}");
    });
    check!(told.starts_with("/dev/fd/"), "{told}");
}

fn errors() {
    let link = tmp::path();
    ok!(syscall!(SYS_symlink, c"/proc/self/exe".as_ptr(), sys::c_string(&link).as_ptr()));
    errno_is!(execveat(AT_FDCWD, &link, &ROLE, AT_SYMLINK_NOFOLLOW), ELOOP);
    errno_is!(execveat(AT_FDCWD, "", &ROLE, 0), ENOENT);
    errno_is!(execveat(AT_FDCWD, &link, &ROLE, 1 << 20), EINVAL);
    errno_is!(execveat(999, "x", &ROLE, 0), EBADF);
    errno_is!(execveat(tmp::file(b""), "x", &ROLE, 0), ENOTDIR);
    errno_is!(execveat(tmp::file(b""), "", &ROLE, AT_EMPTY_PATH), EACCES);
}
