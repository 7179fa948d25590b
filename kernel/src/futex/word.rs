// SPDX-License-Identifier: MPL-2.0

//! The word of a futex in user memory, read and changed atomically.
//!
//! Words are used with their buckets locked. When memory has run out, whoever is ended to make room may have to get into the
//! same bucket first, so nobody may wait for memory there. A word that is not in memory, or cannot be written yet, is therefore
//! `EFAULT` at once, and [`with_words`] brings it in with no bucket locked:
//!
//! ```text
//! lock ─► load, compare, change ─► done
//!  ▲          │ EFAULT
//!  └─ bring in ◄┘ unlocked; the end if that cannot be done
//! ```

use crate::{mm::AddressSpace, prelude::*, process::local::without_faults, usermem::check_range};

/// What is to be done with a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Only to read it.
    Read,
    /// To change it too.
    Change,
}

/// Does `attempt`, which locks buckets and then uses `words`, as often as it takes until it finds them in memory.
///
/// # Errors
///
/// `EFAULT` if a word cannot be used so; those of `attempt`, which has changed nothing when it answers `EFAULT`.
pub(super) fn with_words<R>(
    vm: &AddressSpace,
    words: &[(Vaddr, Use)],
    mut attempt: impl FnMut() -> Result<R>,
) -> Result<R> {
    loop {
        match attempt() {
            Err(EFAULT) => words.iter().try_for_each(|(addr, what)| bring_in(vm, *addr, *what))?,
            result => return result,
        }
    }
}

/// `EINVAL` unless `addr` is aligned, `EFAULT` unless a word there lies in user space.
pub(super) fn check(addr: Vaddr) -> Result<()> {
    if !addr.is_multiple_of(size_of::<u32>()) {
        return Err(EINVAL);
    }
    check_range(addr, size_of::<u32>())
}

/// Reads the word at `addr`.
///
/// # Errors
///
/// `EFAULT` unless it is in memory; `EINVAL` if it is not aligned.
pub(super) fn load(vm: &AddressSpace, addr: Vaddr) -> Result<u32> {
    without_faults(|| load_slowly(vm, addr))
}

/// Makes the word at `addr` `new` if it is `old`. Answers what it was.
///
/// # Errors
///
/// `EFAULT` unless it is in memory to be written; `EINVAL` if it is not aligned.
pub(super) fn compare_exchange(vm: &AddressSpace, addr: Vaddr, old: u32, new: u32) -> Result<u32> {
    without_faults(|| compare_exchange_slowly(vm, addr, old, new))
}

/// Changes the word at `addr` to what `change` makes of it; leaves it alone where that gives nothing. Answers what it was.
///
/// # Errors
///
/// As [`compare_exchange`].
pub(super) fn update(
    vm: &AddressSpace,
    addr: Vaddr,
    mut change: impl FnMut(u32) -> Option<u32>,
) -> Result<u32> {
    let mut old = load(vm, addr)?;
    loop {
        let Some(new) = change(old) else { return Ok(old) };
        match compare_exchange(vm, addr, old, new)? {
            found if found == old => return Ok(old),
            found => old = found,
        }
    }
}

/// Has the word at `addr` in memory; only an unmapping or a fork takes it away again.
fn bring_in(vm: &AddressSpace, addr: Vaddr, what: Use) -> Result<()> {
    let value = load_slowly(vm, addr)?;
    if what == Use::Change {
        // Whatever it is now, it stays that.
        compare_exchange_slowly(vm, addr, value, value)?;
    }
    Ok(())
}

fn load_slowly(vm: &AddressSpace, addr: Vaddr) -> Result<u32> {
    check(addr)?;
    vm.reader(addr, size_of::<u32>())?.atomic_load().map_err(|_| EFAULT)
}

fn compare_exchange_slowly(vm: &AddressSpace, addr: Vaddr, old: u32, new: u32) -> Result<u32> {
    check(addr)?;
    let reader = vm.reader(addr, size_of::<u32>())?;
    let writer = vm.writer(addr, size_of::<u32>())?;
    let (found, _) = writer.atomic_compare_exchange(&reader, old, new).map_err(|_| EFAULT)?;
    Ok(found)
}
