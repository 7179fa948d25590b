// SPDX-License-Identifier: MPL-2.0

//! Allocation that can say no: the one seam through which this crate asks for heap memory.
//!
//! An operation of the framework that fails has changed nothing, and lack of memory is one way to fail. So nothing in
//! this crate may reach the allocator by a path that aborts: whatever grows a vector or makes a box calls a function of
//! this module and gets [`OutOfMemory`] where there is none. Stable Rust has fallible vectors only, hence
//! [`TryBox`], a box made out of one.
//!
//! Because every request passes through [`gate`], a test can make each of them fail in turn (module `inject`, present
//! in tests and with the feature `sim`): run the operation with the first request failing, then with the second, and
//! so on until none is left to fail, and check after each that nothing has changed. A machine's frame allocator calls
//! [`gate`] as well, so that frames are counted together with heap memory.

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::{
    fmt,
    ops::{Deref, DerefMut},
};

pub use crate::error::OutOfMemory;

/// Asks whether an allocation may be tried now; to be called once before each.
///
/// Outside of tests this always says yes and costs nothing.
///
/// # Errors
///
/// [`OutOfMemory`] if a test has chosen this request to fail.
#[inline]
pub fn gate() -> Result<(), OutOfMemory> {
    #[cfg(any(test, feature = "sim"))]
    crate::sim::assert_no_cursor("memory is allocated");
    #[cfg(any(test, feature = "sim"))]
    if inject::refuses() {
        return Err(OutOfMemory);
    }
    Ok(())
}

/// Makes room for `additional` more items, with some to spare so that repeated calls stay cheap.
///
/// # Errors
///
/// [`OutOfMemory`]; the vector is as it was.
pub fn try_reserve<T>(vec: &mut Vec<T>, additional: usize) -> Result<(), OutOfMemory> {
    if vec.capacity() - vec.len() >= additional {
        return Ok(());
    }
    gate()?;
    vec.try_reserve(additional).map_err(|_| OutOfMemory)
}

/// Makes room for `additional` more items and no more.
///
/// # Errors
///
/// [`OutOfMemory`]; the vector is as it was.
pub fn try_reserve_exact<T>(vec: &mut Vec<T>, additional: usize) -> Result<(), OutOfMemory> {
    if vec.capacity() - vec.len() >= additional {
        return Ok(());
    }
    gate()?;
    vec.try_reserve_exact(additional).map_err(|_| OutOfMemory)
}

/// An empty vector with room for `capacity` items.
///
/// # Errors
///
/// [`OutOfMemory`].
pub fn try_with_capacity<T>(capacity: usize) -> Result<Vec<T>, OutOfMemory> {
    let mut vec = Vec::new();
    try_reserve_exact(&mut vec, capacity)?;
    Ok(vec)
}

/// Appends `item`.
///
/// # Errors
///
/// [`OutOfMemory`]; the vector is as it was and `item` is dropped.
pub fn try_push<T>(vec: &mut Vec<T>, item: T) -> Result<(), OutOfMemory> {
    try_reserve(vec, 1)?;
    vec.push(item);
    Ok(())
}

/// Collects an iterator into a vector.
///
/// # Errors
///
/// [`OutOfMemory`]; what was collected so far is dropped.
pub fn try_collect<T>(items: impl IntoIterator<Item = T>) -> Result<Vec<T>, OutOfMemory> {
    let items = items.into_iter();
    let mut vec = try_with_capacity(items.size_hint().0)?;
    for item in items {
        try_push(&mut vec, item)?;
    }
    Ok(vec)
}

/// An owning pointer to one `T` on the heap, made by [`try_box`].
///
/// Stable Rust cannot make a `Box<T>` fallibly, but it can make a `Box<[T; 1]>` out of a vector; this hides the array.
pub struct TryBox<T>(Box<[T; 1]>);

impl<T> TryBox<T> {
    /// Moves the value out and frees its memory.
    pub fn into_inner(self) -> T {
        let [value] = *self.0;
        value
    }
}

impl<T> Deref for TryBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0[0]
    }
}

impl<T> DerefMut for TryBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0[0]
    }
}

impl<T: fmt::Debug> fmt::Debug for TryBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Moves `value` to the heap.
///
/// # Errors
///
/// [`OutOfMemory`]; `value` is dropped.
pub fn try_box<T>(value: T) -> Result<TryBox<T>, OutOfMemory> {
    let mut vec = try_with_capacity(1)?;
    vec.push(value);
    vec.try_into().map(TryBox).map_err(|_| OutOfMemory)
}

/// Moves `value` to the heap behind a shared, counted pointer.
///
/// Stable Rust has no fallible `Arc`. This asks for a block of the same size first and gives it back just before the
/// `Arc` takes its own, so lack of memory is seen here unless another CPU takes the last block in between; what covers
/// that rest is the machine's reserve for the kernel's own allocations.
///
/// # Errors
///
/// [`OutOfMemory`]; `value` is dropped.
pub fn try_arc<T>(value: T) -> Result<Arc<T>, OutOfMemory> {
    let probe: Vec<(usize, usize, T)> = try_with_capacity(1)?;
    drop(probe);
    Ok(Arc::new(value))
}

/// Chosen failures: lets a test say which allocation of this thread fails.
///
/// ```
/// # #[cfg(feature = "sim")] {
/// use vmar::fallible::{inject, try_push};
///
/// let mut list = Vec::new();
/// for nth in 0.. {
///     let failing = inject::fail_nth(nth);
///     let result = try_push(&mut list, 1);
///     if !failing.has_failed() {
///         break; // the operation makes no more than `nth` allocations: all of them have been seen to fail
///     }
///     assert!(result.is_err() && list.is_empty());
/// }
/// # }
/// ```
#[cfg(any(test, feature = "sim"))]
pub mod inject {
    use core::{cell::Cell, marker::PhantomData};
    use std::thread_local;

    /// What is to fail on this thread.
    #[derive(Clone, Copy)]
    enum Plan {
        Nothing,
        /// The request after this many more, and only that one.
        Nth(usize),
        /// That request and each one after it.
        From(usize),
    }

    thread_local! {
        static PLAN: Cell<Plan> = const { Cell::new(Plan::Nothing) };
        static REQUESTS: Cell<usize> = const { Cell::new(0) };
        static REFUSED: Cell<usize> = const { Cell::new(0) };
    }

    /// Failures are in force while this lives; dropping it ends them.
    #[must_use = "failures end when this is dropped"]
    pub struct Failing {
        refused_before: usize,
        /// The plan belongs to the thread that made it.
        _here: PhantomData<*const ()>,
    }

    impl Failing {
        /// Whether any request has been refused since this was made.
        pub fn has_failed(&self) -> bool {
            REFUSED.get() != self.refused_before
        }
    }

    impl Drop for Failing {
        fn drop(&mut self) {
            PLAN.set(Plan::Nothing);
        }
    }

    /// Makes the allocation after `nth` more on this thread fail, and no other.
    pub fn fail_nth(nth: usize) -> Failing {
        arm(Plan::Nth(nth))
    }

    /// What to give to [`fail_nth`], one after the other, so that each allocation of an operation fails in turn: under Miri, which
    /// takes a thousand times as long, every fifth.
    #[cfg(test)]
    pub(crate) fn in_turn() -> impl Iterator<Item = usize> {
        (0..).step_by(if cfg!(miri) { 5 } else { 1 })
    }

    /// Makes every allocation on this thread fail after `nth` more have succeeded.
    pub fn fail_from(nth: usize) -> Failing {
        arm(Plan::From(nth))
    }

    /// How many allocations this thread has asked for so far, refused ones included.
    pub fn requests() -> usize {
        REQUESTS.get()
    }

    fn arm(plan: Plan) -> Failing {
        PLAN.set(plan);
        Failing { refused_before: REFUSED.get(), _here: PhantomData }
    }

    /// Counts one request and tells whether it is to be refused.
    pub(super) fn refuses() -> bool {
        REQUESTS.set(REQUESTS.get() + 1);
        let (refused, rest) = match PLAN.get() {
            Plan::Nothing => (false, Plan::Nothing),
            Plan::Nth(0) => (true, Plan::Nothing),
            Plan::Nth(more) => (false, Plan::Nth(more - 1)),
            Plan::From(0) => (true, Plan::From(0)),
            Plan::From(more) => (false, Plan::From(more - 1)),
        };
        PLAN.set(rest);
        REFUSED.set(REFUSED.get() + usize::from(refused));
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_chosen_request_fails() {
        let failing = inject::fail_nth(1);
        assert!(try_box(1).is_ok());
        assert!(!failing.has_failed());
        assert_eq!(try_box(2).err(), Some(OutOfMemory));
        assert!(failing.has_failed());
        assert!(try_box(3).is_ok());
    }

    #[test]
    fn all_requests_fail_until_the_guard_goes() {
        let failing = inject::fail_from(0);
        assert!(try_arc(1).is_err());
        assert!(try_with_capacity::<u8>(1).is_err());
        drop(failing);
        assert_eq!(*try_arc(1).unwrap(), 1);
    }

    #[test]
    fn a_refused_push_changes_nothing() {
        let mut vec = try_collect([1]).unwrap();
        let failing = inject::fail_from(0);
        while vec.capacity() > vec.len() {
            try_push(&mut vec, 1).unwrap();
        }
        let before = vec.clone();
        assert_eq!(try_push(&mut vec, 2), Err(OutOfMemory));
        assert_eq!(vec, before);
        assert!(failing.has_failed());
    }

    #[test]
    fn room_that_is_there_needs_no_request() {
        let mut vec = try_with_capacity(4).unwrap();
        let before = inject::requests();
        for item in 0..4 {
            try_push(&mut vec, item).unwrap();
        }
        assert_eq!(inject::requests(), before);
    }

    #[test]
    fn a_box_gives_its_value_back() {
        let mut boxed = try_box(alloc::string::String::from("tile")).unwrap();
        boxed.push('s');
        assert_eq!(boxed.into_inner(), "tiles");
    }
}
