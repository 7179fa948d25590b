// SPDX-License-Identifier: MPL-2.0

//! A guest on a host: its rows one by one, random calls beside Linux and beside a model, and the example of the book.
//!
//! One program, since all of it shares what refuses host calls and audits the host's map.

mod example;
mod files;
mod fork;
mod linux;
mod model;
mod protect;
mod range;
mod refusal;
mod remap;
mod segment;
mod support;

use std::{
    os::fd::AsFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use support::{
    BASE, NONE, Picky, R, RW, SIZES, THREE, W, X, audit, bytes, file_of, host_map,
    oracle::{Linux, Segment, fork, wait},
    pattern, snapshot, space_of,
};
use vmar_hosted::{
    Advice, ArchProt, Change, Error, GuestSpace, MapOptions, OldRange, OnFork, PageSize, Placement, Prot,
    RemapTarget, Side, VmPerms, Window,
    host::{Errno, HostProt},
    posix::Posix,
};

const READ: u64 = 1;
const WRITE: u64 = 2;
const EXEC: u64 = 4;
const SHARED: u64 = 1;
const PRIVATE: u64 = 2;
const FIXED: u64 = 0x10;
const ANONYMOUS: u64 = 0x20;
const NOREPLACE: u64 = 0x100000;

/// Maps private zeros at an address.
fn zeros(space: &GuestSpace<Picky>, addr: usize, len: usize, perms: VmPerms) -> usize {
    space.map(&MapOptions::new(len).prot(perms).placement(Placement::Replacing(addr))).unwrap()
}

fn prot_of(space: &GuestSpace<Picky>, addr: usize) -> Prot {
    space.query(addr..addr + 1)[0].prot
}
