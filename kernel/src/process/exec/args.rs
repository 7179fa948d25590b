// SPDX-License-Identifier: MPL-2.0

//! Arguments and environment, on their way from the old program to the new.

use linux_raw_sys::general::{ARG_MAX, RLIMIT_STACK};

use crate::{mm::AddressSpace, prelude::*, process::rlimit::Rlimits};

/// The longest single string with its NUL: 32 pages (`MAX_ARG_STRLEN`).
const MAX_STRING: usize = 32 * PAGE_SIZE;
/// The most room for all strings and pointers, whatever the limit on the stack: 6 MiB.
const MAX_TOTAL: usize = 6 << 20;

/// A list of strings, each with its NUL, one behind the other.
#[derive(Clone, Debug, Default)]
pub struct Strings {
    bytes: Vec<u8>,
    count: usize,
}

/// How much room strings and the pointers to them may still take.
pub struct Budget(usize);

impl Budget {
    /// A quarter of the stack's limit, but at least 128 KiB and at most 6 MiB, as `execve(2)` says.
    pub fn new(limits: &Rlimits) -> Self {
        let quarter = usize::try_from(limits.soft(RLIMIT_STACK) / 4).unwrap_or(usize::MAX);
        Self(quarter.min(MAX_TOTAL).max(ARG_MAX as usize))
    }

    fn spend(&mut self, bytes: usize) -> Result<()> {
        self.0 = self.0.checked_sub(bytes).filter(|left| *left > 0).ok_or(E2BIG)?;
        Ok(())
    }
}

impl Strings {
    /// Reads a list of pointers to strings that ends with a null pointer. A null list is an empty one.
    ///
    /// # Errors
    ///
    /// `EFAULT`; `E2BIG` if a string is too long or the budget too small; `ENOMEM`.
    pub fn read(vm: &AddressSpace, list: Vaddr, budget: &mut Budget) -> Result<Self> {
        let mut strings = Self::default();
        if list == 0 {
            return Ok(strings);
        }
        let mut at = list;
        loop {
            let pointer: Vaddr = vm.read_val(at)?;
            if pointer == 0 {
                return Ok(strings);
            }
            budget.spend(size_of::<Vaddr>())?;
            let before = strings.bytes.len();
            vm.append_cstring(pointer, MAX_STRING, &mut strings.bytes).map_err(|error| match error {
                ENAMETOOLONG => E2BIG,
                other => other,
            })?;
            budget.spend(strings.bytes.len() - before)?;
            strings.count += 1;
            at = at.checked_add(size_of::<Vaddr>()).ok_or(EFAULT)?;
        }
    }

    /// A list of strings of the kernel's own, none with a NUL in it.
    pub fn from_slices<'a>(slices: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut strings = Self::default();
        slices.into_iter().for_each(|slice| strings.push(slice));
        strings
    }

    fn push(&mut self, string: &[u8]) {
        self.bytes.extend_from_slice(string);
        self.bytes.push(0);
        self.count += 1;
    }

    /// The same list with `front` in place of its first `replaced` strings.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn with_front(&self, front: &[&[u8]], replaced: usize) -> Result<Self> {
        let mut strings = Self::default();
        let added: usize = front.iter().map(|string| string.len() + 1).sum();
        try_reserve(&mut strings.bytes, added + self.bytes.len())?;
        front.iter().for_each(|string| strings.push(string));
        self.iter().skip(replaced).for_each(|string| strings.push(string));
        Ok(strings)
    }

    /// The strings, without their NULs.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.split_inclusive(|byte| *byte == 0).map(|string| &string[..string.len() - 1])
    }

    /// All strings, with their NULs.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(ktest)]
mod tests {
    use ostd::prelude::ktest;

    use super::*;

    #[ktest]
    fn strings_stand_one_behind_the_other() {
        let strings = Strings::from_slices([&b"one"[..], b"", b"three"]);
        assert_eq!(strings.len(), 3);
        assert_eq!(strings.bytes(), b"one\0\0three\0");
        assert_eq!(strings.iter().collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
    }

    #[ktest]
    fn an_interpreter_takes_the_place_of_the_first_string() {
        let strings = Strings::from_slices([&b"script"[..], b"argument"]);
        let changed = strings.with_front(&[b"/bin/sh", b"-e", b"/bin/script"], 1).unwrap();
        let expected = [&b"/bin/sh"[..], b"-e", b"/bin/script", b"argument"];
        assert_eq!((changed.iter().collect::<Vec<_>>(), changed.len()), (expected.to_vec(), 4));
    }

    #[ktest]
    fn the_budget_is_a_quarter_of_the_stack_within_bounds() {
        let limits = Rlimits::initial();
        assert_eq!(Budget::new(&limits).0, 2 << 20);
        for (soft, expected) in [(0, 128 << 10), (u64::MAX, 6 << 20)] {
            let limit = crate::process::rlimit::Rlimit { soft, hard: u64::MAX };
            assert!(limits.replace(RLIMIT_STACK, limit, |_| Ok(())).is_ok());
            assert_eq!(Budget::new(&limits).0, expected);
        }
    }

    #[ktest]
    fn a_budget_that_is_spent_is_too_small() {
        let mut budget = Budget(10);
        assert_eq!(budget.spend(9), Ok(()));
        assert_eq!(budget.spend(1), Err(E2BIG));
    }
}
