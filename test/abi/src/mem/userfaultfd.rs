// SPDX-License-Identifier: MPL-2.0

//! userfaultfd(2) and ioctl_userfaultfd(2): faults that a program serves itself.
//!
//! ```text
//!   thread of the case           the case
//!   peek(addr) ── waits ──►  uffd.next() ── uffd.copy(addr) ──┐
//!        ▲                                                   │
//!        └───────────────────── goes on ◄────────────────────┘
//! ```

use std::thread::{self, ScopedJoinHandle};

use crate::{harness::Case, sys, sys::Result};

mod api;
mod event;
mod fill;
mod outside;
mod protect;
mod shared;
mod wait;

/// The groups of this call, in the order they run.
pub const GROUPS: [&[Case]; 7] =
    [api::CASES, fill::CASES, protect::CASES, shared::CASES, wait::CASES, event::CASES, outside::CASES];

const IOCTL_API: u32 = 0xc018_aa3f;
const IOCTL_REGISTER: u32 = 0xc020_aa00;
const IOCTL_UNREGISTER: u32 = 0x8010_aa01;
const IOCTL_WAKE: u32 = 0x8010_aa02;
const IOCTL_COPY: u32 = 0xc028_aa03;
const IOCTL_ZEROPAGE: u32 = 0xc020_aa04;
const IOCTL_WRITEPROTECT: u32 = 0xc018_aa06;
const IOCTL_CONTINUE: u32 = 0xc020_aa07;

const API: u64 = 0xaa;

const USER_MODE_ONLY: i32 = 1;

const FEATURE_EVENT_FORK: u64 = 1 << 1;
const FEATURE_EVENT_REMAP: u64 = 1 << 2;
const FEATURE_EVENT_REMOVE: u64 = 1 << 3;
const FEATURE_EVENT_UNMAP: u64 = 1 << 6;
const FEATURE_SIGBUS: u64 = 1 << 7;
const FEATURE_THREAD_ID: u64 = 1 << 8;
const FEATURE_MINOR_SHMEM: u64 = 1 << 10;
const FEATURE_EXACT_ADDRESS: u64 = 1 << 11;
/// All that Linux 6.1 has.
const FEATURES_6_1: u64 = 0x1fff;

const MODE_MISSING: u64 = 1;
const MODE_WP: u64 = 2;
const MODE_MINOR: u64 = 4;

const COPY_DONTWAKE: u64 = 1;
const COPY_WP: u64 = 2;
const PROTECT_WP: u64 = 1;
const PROTECT_DONTWAKE: u64 = 2;

const EVENT_PAGEFAULT: u8 = 0x12;
const EVENT_FORK: u8 = 0x13;
const EVENT_REMAP: u8 = 0x14;
const EVENT_REMOVE: u8 = 0x15;
const EVENT_UNMAP: u8 = 0x16;

const FLAG_WRITE: u64 = 1;
const FLAG_WP: u64 = 2;
const FLAG_MINOR: u64 = 4;

const PAGE: usize = super::PAGE;

/// `struct uffd_msg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Message {
    event: u8,
    args: [u64; 3],
}

impl Message {
    fn of(bytes: &[u8]) -> Self {
        let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap_or([0; 8]));
        check_eq!(word(0) >> 8, 0, "what is reserved is zeros");
        Self { event: bytes[0], args: [word(8), word(16), word(24)] }
    }
}

/// A fault as it is read, without the features that add something.
fn fault(addr: usize, flags: u64) -> Message {
    Message { event: EVENT_PAGEFAULT, args: [flags, addr as u64, 0] }
}

/// A userfaultfd.
#[derive(Clone, Copy)]
struct Uffd(i32);

fn open(flags: i32) -> Result<Uffd> {
    syscall!(SYS_userfaultfd, flags).map(|fd| Uffd(fd as i32))
}

impl Uffd {
    /// One that waits, with these features.
    #[track_caller]
    fn with(features: u64) -> Self {
        let uffd = ok!(open(libc::O_CLOEXEC));
        ok!(uffd.api(API, features));
        uffd
    }

    /// One that serves the missing pages of a range.
    #[track_caller]
    fn missing(addr: usize, pages: usize) -> Self {
        let uffd = Self::with(0);
        ok!(uffd.register(addr, pages, MODE_MISSING));
        uffd
    }

    /// One that serves writes to the pages of a range, which is protected.
    #[track_caller]
    fn protecting(addr: usize, pages: usize) -> Self {
        let uffd = Self::with(0);
        ok!(uffd.register(addr, pages, MODE_WP));
        ok!(uffd.protect(addr, pages, PROTECT_WP));
        uffd
    }

    /// Has a missing page read, which is told and filled with `value`.
    #[track_caller]
    fn fills_what_is_read(self, addr: usize, value: u8) {
        let fill = |_: &ScopedJoinHandle<'_, u8>| {
            check_eq!(self.next(), fault(addr, 0));
            self.copy(addr, 1, value, 0);
        };
        check_eq!(beside(|| super::peek(addr), fill), value);
    }

    /// Has `value` written to a protected page, which is told and allowed.
    #[track_caller]
    fn lets_write(self, addr: usize, value: u8) {
        let allow = |_: &ScopedJoinHandle<'_, ()>| {
            check_eq!(self.next(), fault(addr, FLAG_WRITE | FLAG_WP));
            ok!(self.protect(addr, 1, 0));
        };
        beside(|| super::poke(addr, value), allow);
        check_eq!(super::peek(addr), value);
    }

    fn ioctl<const N: usize>(self, command: u32, words: &mut [u64; N]) -> Result {
        syscall!(SYS_ioctl, self.0, command, words.as_mut_ptr())
    }

    /// The features and the ioctls there are.
    fn api(self, api: u64, features: u64) -> Result<(u64, u64)> {
        let mut words = [api, features, 0];
        self.ioctl(IOCTL_API, &mut words).map(|_| (words[1], words[2]))
    }

    /// The ioctls that the range has.
    fn register(self, addr: usize, pages: usize, mode: u64) -> Result<u64> {
        let mut words = [addr as u64, (pages * PAGE) as u64, mode, 0];
        self.ioctl(IOCTL_REGISTER, &mut words).map(|_| words[3])
    }

    fn unregister(self, addr: usize, pages: usize) -> Result {
        self.ioctl(IOCTL_UNREGISTER, &mut [addr as u64, (pages * PAGE) as u64])
    }

    fn wake(self, addr: usize, pages: usize) -> Result {
        self.ioctl(IOCTL_WAKE, &mut [addr as u64, (pages * PAGE) as u64])
    }

    /// The result, and what is said of how much was copied.
    fn copy_from(self, target: usize, source: usize, pages: usize, mode: u64) -> (Result, i64) {
        let mut words = [target as u64, source as u64, (pages * PAGE) as u64, mode, 0];
        let result = self.ioctl(IOCTL_COPY, &mut words);
        (result, words[4] as i64)
    }

    /// Copies pages that begin with `value`, `value + 1`, ...
    #[track_caller]
    fn copy(self, target: usize, pages: usize, value: u8, mode: u64) {
        let source = super::anon(pages);
        super::number_pages(source, pages, value);
        check_eq!(self.copy_from(target, source, pages, mode), (Ok(0), (pages * PAGE) as i64));
        ok!(sys::munmap(source, pages * PAGE));
    }

    fn zeropage(self, addr: usize, pages: usize, mode: u64) -> (Result, i64) {
        let mut words = [addr as u64, (pages * PAGE) as u64, mode, 0];
        let result = self.ioctl(IOCTL_ZEROPAGE, &mut words);
        (result, words[3] as i64)
    }

    fn proceed(self, addr: usize, pages: usize, mode: u64) -> (Result, i64) {
        let mut words = [addr as u64, (pages * PAGE) as u64, mode, 0];
        let result = self.ioctl(IOCTL_CONTINUE, &mut words);
        (result, words[3] as i64)
    }

    fn protect(self, addr: usize, pages: usize, mode: u64) -> Result {
        self.ioctl(IOCTL_WRITEPROTECT, &mut [addr as u64, (pages * PAGE) as u64, mode])
    }

    /// Reads one message.
    fn read(self) -> Result<Message> {
        let mut bytes = [0xaa; 32];
        sys::read(self.0, &mut bytes).map(|count| {
            check_eq!(count, 32);
            Message::of(&bytes)
        })
    }

    /// Waits for the next message.
    #[track_caller]
    fn next(self) -> Message {
        ok!(self.read())
    }

    /// Has reads wait, or not.
    fn set_nonblocking(self, is_nonblocking: bool) {
        ok!(syscall!(SYS_fcntl, self.0, libc::F_SETFL, if is_nonblocking { libc::O_NONBLOCK } else { 0 }));
    }

    /// What poll says at once of what can be read.
    fn poll(self) -> i16 {
        let mut polled = libc::pollfd { fd: self.0, events: libc::POLLIN, revents: 0 };
        ok!(syscall!(SYS_poll, &raw mut polled, 1, 0));
        polled.revents
    }

    /// Whether there is nothing to read.
    fn is_silent(self) -> bool {
        self.set_nonblocking(true);
        let result = self.read();
        self.set_nonblocking(false);
        result == Err(sys::Errno(libc::EAGAIN))
    }

    fn close(self) {
        sys::close(self.0);
    }
}

/// Runs `access` in a thread beside `serve`, which gets the thread's number and handle; the value of the access.
fn beside<T: Send>(access: impl FnOnce() -> T + Send, serve: impl FnOnce(&ScopedJoinHandle<'_, T>)) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(access);
        serve(&thread);
        match thread.join() {
            Ok(value) => value,
            Err(_) => panic!("the thread has panicked"),
        }
    })
}

/// Waits for a moment in which a thread could go on, if nothing held it.
fn a_moment() {
    thread::sleep(std::time::Duration::from_millis(30));
}
