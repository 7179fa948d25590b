// SPDX-License-Identifier: MPL-2.0

//! Robust futexes: what becomes of the locks that a thread holds when it ends, as in `get_robust_list(2)`.
//!
//! ```text
//! head: │ next ─┼─► entry ─► entry ─► ... ─► head      the locks it holds, each at a fixed distance from its entry
//!       │ distance │ pending ─┼─► entry                what it was about to take or give up
//! ```
//!
//! The list is a program's own, so it may be garbage: the walk ends at the first address that cannot be read, and after so many
//! entries.

use linux_raw_sys::general::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};

use super::{
    Scope, pi, wake,
    word::{self, Use, with_words},
};
use crate::{mm::AddressSpace, prelude::*};

/// The size of `struct robust_list_head`.
pub const ROBUST_LIST_HEAD_LEN: usize = size_of::<ListHead>();

/// The most entries that are looked at.
const MAX_ENTRIES: usize = 2048;

/// `struct robust_list_head`.
#[repr(C)]
#[derive(Pod, Clone, Copy)]
struct ListHead {
    next: usize,
    distance: isize,
    pending: usize,
}

/// An entry: its address, and whether its lock is one of [`pi`]'s, which the lowest bit of the pointer says.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    addr: Vaddr,
    is_pi: bool,
}

impl From<usize> for Entry {
    fn from(pointer: usize) -> Self {
        Self { addr: pointer & !1, is_pi: pointer & 1 != 0 }
    }
}

/// Why a thread gives its futexes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// It ends.
    Exit,
    /// It becomes another program.
    Exec,
}

/// Releases what `thread`, which is about to leave `vm`, still holds.
pub fn thread_leaves(thread: &Arc<Thread>, vm: &AddressSpace, leaving: Leaving) {
    let head = thread.robust_list.swap(0, Ordering::Relaxed);
    if head != 0 {
        // Whatever cannot be read or changed is the program's own fault.
        let _ = release_list(thread.tid(), vm, head);
    }
    pi::release_claims_on(thread, leaving);
}

fn release_list(tid: Tid, vm: &AddressSpace, head_addr: Vaddr) -> Result<()> {
    let head: ListHead = vm.read_val(head_addr)?;
    let pending = Entry::from(head.pending);
    let mut entry = Entry::from(head.next);
    for _ in 0..MAX_ENTRIES {
        if entry.addr == head_addr {
            break;
        }
        // First: once it is released, somebody else may reuse its memory.
        let next = vm.read_val::<usize>(entry.addr);
        if entry.addr != pending.addr {
            release(tid, vm, entry.addr.wrapping_add_signed(head.distance), entry.is_pi, false)?;
        }
        entry = Entry::from(next?);
    }
    if pending.addr != 0 {
        release(tid, vm, pending.addr.wrapping_add_signed(head.distance), pending.is_pi, true)?;
    }
    Ok(())
}

/// Marks the lock at `addr` as left behind if the thread `tid` has it, and wakes who waits.
fn release(tid: Tid, vm: &AddressSpace, addr: Vaddr, is_pi: bool, is_pending: bool) -> Result<()> {
    let owned = |word: u32| word & FUTEX_TID_MASK == tid;
    let died = |word: u32| owned(word).then_some((word & FUTEX_WAITERS) | FUTEX_OWNER_DIED);
    let old = with_words(vm, &[(addr, Use::Change)], || word::update(vm, addr, died))?;
    // It may have died between the unlocking and the waking.
    let was_unlocked = is_pending && old == 0;
    if !is_pi && (was_unlocked || (owned(old) && old & FUTEX_WAITERS != 0)) {
        // Who waits there may wait for something else.
        let _ = wake(vm, addr, Scope::Shared, 1, u32::MAX);
    }
    Ok(())
}
