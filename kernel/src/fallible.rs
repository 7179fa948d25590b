// SPDX-License-Identifier: MPL-2.0

//! Lists that programs make long: each allocation can fail, and fails first.
//!
//! What the kernel needs at any moment (a page table, a node of a map, room in a queue when something is woken) comes out of the
//! reserve that programs leave it. So a list of more than a page that a program has the kernel make is refused while there is
//! memory for it, unless most of the reserve is left beside it:
//!
//! ```text
//!   free    0 ................ kept ........ reserve ............................... all
//!           │ small things, lists   │ lists of more than a page,     │ and programs' │
//!           │ of a page at most     │ the size of which is left over │ memory        │
//! ```
//!
//! No program may have the kernel need a run of memory that it must have: what grows with what a program does, and may come to
//! more than a page, is made by these functions, or is of small pieces (a map, a linked list).

use alloc::collections::TryReserveError;

use crate::{mm, prelude::*};

/// A vector, or a queue.
pub trait Growing {
    /// The size of an item, in bytes.
    const ITEM: usize;

    /// How many items there is room for.
    fn capacity(&self) -> usize;

    /// How many more items there is room for.
    fn spare(&self) -> usize;

    /// Makes room for `additional` more items.
    ///
    /// # Errors
    ///
    /// If there is no memory.
    fn grow(&mut self, additional: usize, by: Growth) -> core::result::Result<(), TryReserveError>;
}

/// How much room is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// What was asked for.
    Exact,
    /// At least as much as there was, so that repeated calls stay cheap.
    Double,
}

macro_rules! growing {
    ($list:ident) => {
        impl<T> Growing for $list<T> {
            const ITEM: usize = size_of::<T>();

            fn capacity(&self) -> usize {
                $list::capacity(self)
            }

            fn spare(&self) -> usize {
                $list::capacity(self) - self.len()
            }

            fn grow(&mut self, additional: usize, by: Growth) -> core::result::Result<(), TryReserveError> {
                match by {
                    Growth::Exact => self.try_reserve_exact(additional),
                    Growth::Double => self.try_reserve(additional),
                }
            }
        }
    };
}

growing!(Vec);
growing!(VecDeque);

/// Makes room for `additional` more items, with some to spare so that repeated calls stay cheap.
///
/// # Errors
///
/// `ENOMEM`; the list is as it was.
#[inline]
pub fn try_reserve<L: Growing>(list: &mut L, additional: usize) -> Result<()> {
    if list.spare() >= additional { Ok(()) } else { grow(list, additional, Growth::Double) }
}

#[inline(never)]
fn grow<L: Growing>(list: &mut L, additional: usize, by: Growth) -> Result<()> {
    let items = match by {
        Growth::Exact => list.capacity().saturating_add(additional),
        Growth::Double => list.capacity().saturating_add(additional.max(list.capacity())),
    };
    let bytes = items.saturating_mul(L::ITEM);
    if bytes > PAGE_SIZE && !mm::can_kernel_spare(bytes) {
        return Err(ENOMEM);
    }
    list.grow(additional, by).map_err(|_| ENOMEM)
}

/// An empty vector with room for `capacity` items and no more.
///
/// # Errors
///
/// `ENOMEM`.
pub fn try_with_capacity<T>(capacity: usize) -> Result<Vec<T>> {
    let mut vec = Vec::new();
    if capacity > 0 {
        grow(&mut vec, capacity, Growth::Exact)?;
    }
    Ok(vec)
}

/// Appends `item`.
///
/// # Errors
///
/// `ENOMEM`; the vector is as it was and `item` is dropped.
pub fn try_push<T>(vec: &mut Vec<T>, item: T) -> Result<()> {
    try_reserve(vec, 1)?;
    vec.push(item);
    Ok(())
}

/// Collects an iterator into a vector.
///
/// # Errors
///
/// `ENOMEM`; what was collected so far is dropped.
pub fn try_collect<T>(items: impl IntoIterator<Item = T>) -> Result<Vec<T>> {
    let mut items = items.into_iter();
    let mut vec = try_with_capacity(items.size_hint().0)?;
    items.try_for_each(|item| try_push(&mut vec, item))?;
    Ok(vec)
}

/// A vector of `count` times `value`.
///
/// # Errors
///
/// `ENOMEM`.
pub fn try_filled<T: Clone>(value: T, count: usize) -> Result<Vec<T>> {
    let mut vec = try_with_capacity(count)?;
    vec.resize(count, value);
    Ok(vec)
}

/// A vector with the items of a slice.
///
/// # Errors
///
/// `ENOMEM`.
pub fn try_to_vec<T: Clone>(items: &[T]) -> Result<Vec<T>> {
    let mut vec = try_with_capacity(items.len())?;
    vec.extend_from_slice(items);
    Ok(vec)
}

#[cfg(ktest)]
mod test {
    use ostd::prelude::ktest;

    use super::*;

    #[ktest]
    fn what_nobody_could_have_is_refused() {
        let most = vmar_ostd::reserve::free_frames() * PAGE_SIZE;
        assert_eq!(try_filled(0u8, most), Err(ENOMEM));
        assert_eq!(try_with_capacity::<u64>(usize::MAX), Err(ENOMEM));
        let mut queue = VecDeque::from([1u8]);
        assert_eq!(try_reserve(&mut queue, most), Err(ENOMEM));
        assert_eq!(queue, [1]);
        assert_eq!(try_reserve(&mut queue, 2 * PAGE_SIZE), Ok(()));
        assert!(queue.spare() >= 2 * PAGE_SIZE);
        assert_eq!(try_collect(0..3), Ok(vec![0, 1, 2]));
        assert_eq!(try_to_vec(&[1, 2]), Ok(vec![1, 2]));
    }
}
