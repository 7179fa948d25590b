// SPDX-License-Identifier: MPL-2.0

//! What becomes of watchers and marks when memory is forked or moved.

use alloc::{sync::Arc, vec::Vec};
use core::ops::Range;

use super::{FaultHandler, Watch, WatchSlot, Watcher};
use crate::{error::OutOfMemory, fallible, machine::Machine, mapping::VmMapping, vmar::Mappings};

/// Who watches a forked space in another's place.
type Successor = Arc<dyn FaultHandler>;

/// Whether a move of pages was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::vmar) enum Moved {
    Yes,
    No,
}

impl<M: Machine> Mappings<M> {
    /// Takes over who watches `parent`, as far as they go on with a fork.
    pub(in crate::vmar) fn fork_watchers(&mut self, parent: &Self) -> Result<(), OutOfMemory> {
        let Some(watch) = &parent.watch else { return Ok(()) };
        let mut copy = Watch::default();
        let mut successors: Vec<(&Arc<dyn FaultHandler>, Option<Successor>)> = Vec::new();
        for watcher in &watch.watchers {
            let Some(Watcher { handler, modes }) = watcher else {
                fallible::try_push(&mut copy.watchers, None)?;
                continue;
            };
            let known = successors.iter().position(|(known, _)| Arc::ptr_eq(known, handler));
            let at = match known {
                Some(at) => at,
                None => {
                    fallible::try_push(&mut successors, (handler, handler.fork()?))?;
                    successors.len() - 1
                }
            };
            let successor = successors[at].1.as_ref();
            let copied = successor.map(|handler| Watcher { handler: handler.clone(), modes: *modes });
            fallible::try_push(&mut copy.watchers, copied)?;
        }
        if copy.watchers.iter().any(Option::is_some) {
            self.watch = Some(fallible::try_box(copy)?);
        }
        Ok(())
    }

    /// Returns who watches the copy, for a forked space, of a mapping of `parent` at `range`; copies its marks then, unless it is
    /// wiped.
    #[cold]
    #[inline(never)]
    pub(in crate::vmar) fn fork_watched(
        &mut self,
        parent: &Self,
        range: &Range<usize>,
        mapping: &VmMapping<M>,
        is_wiped: bool,
    ) -> Result<Option<WatchSlot>, OutOfMemory> {
        let (Some(watch), Some(from)) = (&mut self.watch, &parent.watch) else { return Ok(None) };
        let Some(slot) = mapping.watch.filter(|slot| watch.watcher(*slot).is_some()) else { return Ok(None) };
        if !is_wiped {
            let numbers = Watch::numbers::<M>(range);
            let mut result = Ok(());
            from.marks.for_each(numbers.clone(), |page| {
                if result.is_ok() {
                    result = watch.marks.prepare(page);
                }
            });
            result?;
            watch.marks.commit(&numbers);
        }
        Ok(Some(slot))
    }

    /// Makes ready what a move of `from`, a part of the mapping that becomes `copy`, to `to` does to marks; takes the watcher from
    /// `copy` if it does not follow.
    #[cold]
    #[inline(never)]
    pub(in crate::vmar) fn prepare_marks_move(
        &mut self,
        copy: &mut VmMapping<M>,
        from: &Range<usize>,
        to: &Range<usize>,
    ) -> Result<(), OutOfMemory> {
        let Some(slot) = copy.watch else { return Ok(()) };
        let Some(watch) = &mut self.watch else { return Ok(()) };
        if !watch.watcher(slot).is_some_and(|watcher| watcher.handler.follows_moves()) {
            copy.watch = None;
            return Ok(());
        }
        let (from, to) = (Watch::numbers::<M>(from), Watch::numbers::<M>(to));
        let mut moved = Vec::new();
        let mut result = Ok(());
        watch.marks.for_each(from.clone(), |page| {
            if result.is_ok() {
                result = fallible::try_push(&mut moved, to.start + (page - from.start));
            }
        });
        result?;
        for page in moved {
            if let Err(error) = watch.marks.prepare(page) {
                watch.marks.abandon(&to);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Ends what [`prepare_marks_move`](Self::prepare_marks_move) has begun: the pages have moved, or they have not.
    #[cold]
    #[inline(never)]
    pub(in crate::vmar) fn end_marks_move(&mut self, from: &Range<usize>, to: &Range<usize>, moved: Moved) {
        let Some(watch) = &mut self.watch else { return };
        let to = Watch::numbers::<M>(to);
        match moved {
            Moved::Yes => {
                watch.marks.clear(&Watch::numbers::<M>(from));
                watch.marks.commit(&to);
            }
            Moved::No => watch.marks.abandon(&to),
        }
    }
}
