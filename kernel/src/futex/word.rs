// SPDX-License-Identifier: MPL-2.0

//! The word of a futex in user memory, read and changed atomically.

use crate::{mm::AddressSpace, prelude::*, usermem::check_range};

/// `EINVAL` unless `addr` is aligned, `EFAULT` unless a word there lies in user space.
pub(super) fn check(addr: Vaddr) -> Result<()> {
    if !addr.is_multiple_of(size_of::<u32>()) {
        return Err(EINVAL);
    }
    check_range(addr, size_of::<u32>())
}

/// Reads the word at `addr`.
pub(super) fn load(vm: &AddressSpace, addr: Vaddr) -> Result<u32> {
    check(addr)?;
    vm.reader(addr, size_of::<u32>())?.atomic_load().map_err(|_| EFAULT)
}

/// Makes the word at `addr` `new` if it is `old`. Answers what it was.
pub(super) fn compare_exchange(vm: &AddressSpace, addr: Vaddr, old: u32, new: u32) -> Result<u32> {
    check(addr)?;
    let reader = vm.reader(addr, size_of::<u32>())?;
    let writer = vm.writer(addr, size_of::<u32>())?;
    let (found, _) = writer.atomic_compare_exchange(&reader, old, new).map_err(|_| EFAULT)?;
    Ok(found)
}

/// Changes the word at `addr` to what `change` makes of it; leaves it alone where that gives nothing. Answers what it was.
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
