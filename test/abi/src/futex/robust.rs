// SPDX-License-Identifier: MPL-2.0

//! Robust lists: set_robust_list(2), get_robust_list(2), and what the end of a thread does with its list.

use libc::*;

use super::*;
use crate::{
    child::{Child, killed_by},
    mem::{ANON_SHARED, PAGE, RW},
    signal::own_tid,
};

pub const CASES: &[Case] = cases!["futex/robust":
    list_is_told,
    bad_length_is_einval,
    nobody_is_esrch,
    held_locks_are_marked,
    waiter_is_woken,
    pending_lock_is_marked,
    other_owners_locks_stay,
    killing_does_it_too,
    garbage_does_no_harm,
    endless_list_ends,
];

const OWNER_DIED: u32 = 0x4000_0000;
const WAITERS: u32 = 0x8000_0000;

/// A head and two entries with their locks, in memory that a child shares.
#[repr(C)]
struct List {
    head: [usize; 3],
    entries: [Entry; 2],
}

#[repr(C)]
struct Entry {
    next: usize,
    lock: AtomicU32,
}

const DISTANCE: usize = std::mem::offset_of!(Entry, lock);

fn list() -> &'static mut List {
    let at = ok!(sys::mmap(0, PAGE, RW, ANON_SHARED, -1, 0));
    // SAFETY: mapped, aligned, zero, and nobody else's but the children's.
    unsafe { &mut *(at as *mut List) }
}

impl List {
    /// Links both entries, and gives both locks to the caller.
    fn fill(&mut self) {
        let [first, second] = [0, 1].map(|index| &raw const self.entries[index] as usize);
        self.entries[0].next = second;
        self.entries[1].next = &raw const self.head as usize;
        self.head = [first, DISTANCE, 0];
        for entry in &self.entries {
            entry.lock.store(own_tid() as u32, SeqCst);
        }
    }

    fn register(&self) {
        ok!(syscall!(SYS_set_robust_list, &raw const self.head, 24));
    }

    fn locks(&self) -> [u32; 2] {
        [value(&self.entries[0].lock), value(&self.entries[1].lock)]
    }
}

fn list_is_told() {
    let list = list();
    list.register();
    let (mut head, mut len) = (0_usize, 0_usize);
    ok!(syscall!(SYS_get_robust_list, 0, &raw mut head, &raw mut len));
    check_eq!((head, len), (&raw const list.head as usize, 24));
    ok!(syscall!(SYS_get_robust_list, own_tid(), &raw mut head, &raw mut len));
}

fn bad_length_is_einval() {
    errno_is!(syscall!(SYS_set_robust_list, 0x1000, 23), EINVAL);
    errno_is!(syscall!(SYS_set_robust_list, 0x1000, 0), EINVAL);
}

fn nobody_is_esrch() {
    let (mut head, mut len) = (0_usize, 0_usize);
    errno_is!(syscall!(SYS_get_robust_list, 1 << 22, &raw mut head, &raw mut len), ESRCH);
}

fn held_locks_are_marked() {
    let list = list();
    Child::spawn(|| {
        list.fill();
        list.register();
    })
    .join();
    check_eq!(list.locks(), [OWNER_DIED, OWNER_DIED]);
}

fn waiter_is_woken() {
    let list = list();
    let child = Child::spawn(|| {
        list.fill();
        list.entries[0].lock.fetch_or(WAITERS, SeqCst);
        list.register();
        crate::signal::a_while();
    });
    let word = &list.entries[0].lock;
    loop {
        match value(word) {
            now if now & OWNER_DIED != 0 => break,
            0 => sys::sleep_us(500),
            now => {
                let _ = wait_for(word, now, 0);
            }
        }
    }
    check_eq!(value(word), OWNER_DIED | WAITERS);
    child.join();
}

fn pending_lock_is_marked() {
    let list = list();
    Child::spawn(|| {
        list.fill();
        list.head = [&raw const list.head as usize, DISTANCE, &raw const list.entries[1] as usize];
        list.register();
    })
    .join();
    check_eq!(list.locks()[1], OWNER_DIED);
    check!(list.locks()[0] != OWNER_DIED);
}

fn other_owners_locks_stay() {
    let list = list();
    Child::spawn(|| {
        list.fill();
        list.entries[0].lock.store(1, SeqCst);
        list.register();
    })
    .join();
    check_eq!(list.locks(), [1, OWNER_DIED]);
}

fn killing_does_it_too() {
    let list = list();
    let killer = killed_by(|| {
        list.fill();
        list.register();
        crate::signal::raise_process(SIGKILL);
    });
    check_eq!(killer, Some(SIGKILL));
    check_eq!(list.locks(), [OWNER_DIED, OWNER_DIED]);
}

fn garbage_does_no_harm() {
    for head in [8_usize, 0xffff_8000_0000_0000, usize::MAX - 7] {
        Child::spawn(|| {
            ok!(syscall!(SYS_set_robust_list, head, 24));
        })
        .join();
    }
    let list = list();
    Child::spawn(|| {
        list.head = [0xdead_0000, DISTANCE, 0xdead_0001];
        list.register();
    })
    .join();
}

fn endless_list_ends() {
    let list = list();
    Child::spawn(|| {
        list.fill();
        list.entries[1].next = &raw const list.entries[0] as usize;
        list.register();
    })
    .join();
    check_eq!(list.locks(), [OWNER_DIED, OWNER_DIED]);
}
