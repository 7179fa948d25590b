// SPDX-License-Identifier: MPL-2.0

//! Another process's memory, or one's own by the same way.

use std::ffi::CString;

use super::{Role, Verb};
use crate::{
    maker::{Maker, args},
    step::Args,
    symbols::{Kind, PAGE, WHO},
    sys,
    view::{self, Shown},
    world::World,
};

const TRANSFER: &[Kind] = &[Kind::One(WHO), Kind::Address, Kind::Number, Kind::Address, Kind::Number];
const MEM: &[Kind] = &[Kind::One(WHO), Kind::Address, Kind::Address, Kind::Number];

pub static VM_READV: Verb = Verb {
    name: "process_vm_readv",
    kinds: TRANSFER,
    weight: 3,
    role: Role::Plain,
    make: transfer,
    run: |world, args| {
        if overlap(world, args) {
            return;
        }
        let (pid, local, remote) = vectors(world, args);
        world.tell(syscall!(SYS_process_vm_readv, pid, local.as_ptr(), 1, remote.as_ptr(), 1, 0));
    },
};

pub static VM_WRITEV: Verb = Verb {
    name: "process_vm_writev",
    kinds: TRANSFER,
    weight: 3,
    role: Role::Plain,
    make: transfer,
    run: |world, args| {
        if overlap(world, args) {
            return;
        }
        let (pid, local, remote) = vectors(world, args);
        world.tell(syscall!(SYS_process_vm_writev, pid, local.as_ptr(), 1, remote.as_ptr(), 1, 0));
    },
};

fn transfer(maker: &mut Maker) -> Args {
    let who = maker.who();
    let (local, len) = maker.buffer();
    let (remote, other) = maker.buffer();
    args([who, local, len.min(4 * PAGE), remote, other.min(4 * PAGE)])
}

/// The process, and one vector each. The other process's is no longer: Linux makes all pages of it present, also those that nothing
/// is copied to.
fn vectors(world: &World, args: &Args) -> (i32, [u64; 2], [u64; 2]) {
    (world.pid(args[0] as usize), [args[1], args[2]], [args[3], args[4].min(args[2])])
}

/// Leaves out a transfer between places that overlap, which may be the same memory: in which order bytes are copied is left open.
fn overlap(world: &mut World, args: &Args) -> bool {
    let [_, local, local_len, remote, remote_len, _] = *args;
    let is_overlap = local < remote.saturating_add(remote_len) && remote < local.saturating_add(local_len)
        || shows_same(world, args);
    if is_overlap {
        world.out.push_str("left out: the places overlap");
    }
    is_overlap
}

/// Whether both places may show the same part of one object.
fn shows_same(world: &mut World, args: &Args) -> bool {
    let [who, local, local_len, remote, remote_len, _] = *args;
    let own = view::shown_by(world, c"/proc/self/maps", local..local.saturating_add(local_len));
    if own.is_empty() {
        return false;
    }
    let path = CString::new(format!("/proc/{}/maps", world.pid(who as usize))).unwrap_or_default();
    let others = view::shown_by(world, &path, remote..remote.saturating_add(remote_len));
    let meet =
        |a: &Shown, b: &Shown| a.name == b.name && a.part.start < b.part.end && b.part.start < a.part.end;
    own.iter().any(|own| others.iter().any(|other| meet(own, other)))
}

pub static MEM_READ: Verb = Verb {
    name: "mem_read",
    kinds: MEM,
    weight: 1,
    role: Role::Plain,
    make: mem,
    run: |world, args| {
        let Some(fd) = open(world, args[0]) else { return };
        world.tell(syscall!(SYS_pread64, fd, args[1], args[3], args[2]));
        syscall!(SYS_close, fd);
    },
};

pub static MEM_WRITE: Verb = Verb {
    name: "mem_write",
    kinds: MEM,
    weight: 1,
    role: Role::Plain,
    make: mem,
    run: |world, args| {
        let Some(fd) = open(world, args[0]) else { return };
        world.tell(syscall!(SYS_pwrite64, fd, args[1], args[3], args[2]));
        syscall!(SYS_close, fd);
    },
};

fn mem(maker: &mut Maker) -> Args {
    let who = maker.who();
    let (local, len) = maker.buffer();
    let (remote, _) = maker.pages(1);
    args([who, local, remote + maker.random.below(PAGE), len.min(2 * PAGE)])
}

/// Opens `/proc/PID/mem`; tells why not.
fn open(world: &mut World, who: u64) -> Option<i64> {
    let path = CString::new(format!("/proc/{}/mem", world.pid(who as usize))).unwrap_or_default();
    let fd = syscall!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDWR, 0);
    if sys::errno(fd).is_some() {
        world.tell(fd);
        return None;
    }
    Some(fd)
}
