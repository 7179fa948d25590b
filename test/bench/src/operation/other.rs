// SPDX-License-Identifier: MPL-2.0

//! Other processes' memory, and what procfs tells of one's own.

use std::ffi::CStr;

use super::{Operation, operations};
use crate::{
    arena::{Area, Crowd, PAGE},
    clock::Samples,
    sys::{Result, check, exit, fork, pipe, receive, send, wait, wrong},
};

pub const OPERATIONS: &[Operation] = operations! {
    "vm_readv_1m", 256, 1, 20, vm_readv, "`process_vm_readv` of 1 MiB that is resident in both processes";
    "maps_1000", 0, 1, 10, maps, "reading all of /proc/self/maps with 1,000 mappings, 32 KiB at a time";
};

const MIB: usize = 256;

fn vm_readv(samples: &mut Samples) -> Result {
    let theirs = Area::resident(MIB)?;
    let go = pipe()?;
    let pid = fork();
    if pid == 0 {
        receive(go[0]);
        exit(0);
    }
    check("fork", pid)?;
    let mine = Area::resident(MIB)?;
    let local = [mine.base, MIB * PAGE];
    let remote = [theirs.base, MIB * PAGE];
    let mut done = Ok(());
    while done.is_ok() && samples.wants_more() {
        let answer = samples
            .time(|| syscall!(libc::SYS_process_vm_readv, pid, local.as_ptr(), 1, remote.as_ptr(), 1, 0));
        done = match check("process_vm_readv", answer) {
            Ok(bytes) if bytes == MIB * PAGE => Ok(()),
            Ok(_) => wrong("process_vm_readv read too little"),
            Err(failure) => Err(failure),
        };
    }
    check("write", send(go[1]))?;
    wait(pid)?;
    done
}

fn maps(samples: &mut Samples) -> Result {
    const PATH: &CStr = c"/proc/self/maps";
    let _crowd = Crowd::new(1000)?;
    let mut buffer = vec![1u8; 32 * 1024];
    let file = check("open", syscall!(libc::SYS_open, PATH.as_ptr(), libc::O_RDONLY))?;
    let mut lines = 0;
    loop {
        let bytes = check("read", read(file, &mut buffer))?;
        if bytes == 0 {
            break;
        }
        lines += buffer[..bytes].iter().filter(|&&byte| byte == b'\n').count();
    }
    if lines < 1000 {
        return wrong("/proc/self/maps has too few lines");
    }
    while samples.wants_more() {
        let answer = samples.time(|| {
            syscall!(libc::SYS_lseek, file, 0, libc::SEEK_SET);
            loop {
                let answer = read(file, &mut buffer);
                if answer <= 0 {
                    return answer;
                }
            }
        });
        check("read", answer)?;
    }
    Ok(())
}

#[inline(always)]
fn read(file: usize, buffer: &mut [u8]) -> isize {
    syscall!(libc::SYS_read, file, buffer.as_mut_ptr(), buffer.len())
}
