// SPDX-License-Identifier: MPL-2.0

//! Snapshots: objects that have pages in common until one of them writes.
//!
//! ```text
//!   before            after a snapshot            after the object wrote page 1       after the snapshot is gone
//!
//!   object            object     snapshot         object     snapshot                 object
//!   A B C               │  (none)  │              │  b │       │                      A b C
//!                       └──► A B C ◄┘             └──► A B C ◄─┘
//!                            layer
//! ```
//!
//! The pages that two objects have in common lie in a *layer* that nobody writes. Each of them looks at its own pages first and then
//! at the layer; what it writes it copies. A layer has two children: objects, or, where a child was snapshotted again, layers. So
//! all objects that come from one by snapshots are the leaves of a binary tree.
//!
//! When a child goes, one is left: what it can see of the layer becomes its own, the rest is freed, and the layer goes. A chain is
//! therefore never longer than the number of snapshots that live.
//!
//! What a child has cut off or punched is [hidden](Hidden) from it. What it sees, and nobody has, comes from the *source* of the
//! layer, a pager, and becomes the layer's; what is hidden comes from the child's own.
//!
//! # Invariants
//!
//! - A page of a layer is never written, nor mapped writable.
//! - Outside of the tree's lock each layer has two children, unless memory to merge it into the one that is left was lacking, or
//!   its source is another than that of the child.
//!
//! Order of locks: the pages of an object, then the tree.

use alloc::{
    sync::{Arc, Weak},
    vec::Vec,
};
use core::ops::Range;

use super::{hidden::Hidden, page_map::PageMap, source::Source, vmo::Vmo_};
use crate::{
    error::{Error, OutOfMemory},
    fallible::{try_arc, try_reserve},
    machine::{Frame, Machine, SleepLock},
};

/// The layers of a family of objects.
pub(super) struct Tree<M: Machine>(M::Lock<Layers<M>>);

struct Layers<M: Machine>(Vec<Option<Layer<M>>>);

struct Layer<M: Machine> {
    /// How long the object was when it was snapshotted, in bytes: what a source gives past that is nobody's.
    size: usize,
    pages: PageMap<M::Frame>,
    source: Option<Arc<dyn Source<M>>>,
    below: Option<Link>,
    children: [Option<Child<M>>; 2],
}

enum Child<M: Machine> {
    Layer(usize),
    Object(Weak<Vmo_<M>>),
}

/// How a layer is seen from above.
#[derive(Debug)]
pub(super) struct Link {
    layer: usize,
    /// Which of its pages is the first.
    base: usize,
    hidden: Hidden,
}

impl Link {
    /// Returns which page of the layer page `index` is, if it is seen.
    fn sees(&self, index: usize) -> Option<usize> {
        if self.hidden.contains(index) { None } else { index.checked_add(self.base) }
    }
}

/// What an object has below its own pages.
pub(super) struct Below<M: Machine> {
    tree: Arc<Tree<M>>,
    link: Link,
}

/// What is found below.
pub(super) enum Found<M: Machine> {
    /// The page is hidden: it is not below.
    Hidden,
    /// A page of a layer.
    Page(M::Frame),
    /// No layer has the page. It comes from this source, as page so-and-so of it, or is zeros.
    Missing(Option<Arc<dyn Source<M>>>, usize),
}

/// What can be given to a snapshot or taken from it without asking for memory again.
pub(super) struct Snapshot<M: Machine> {
    tree: Arc<Tree<M>>,
    upper: Hidden,
    child: Hidden,
}

impl<M: Machine> Snapshot<M> {
    /// Asks for the memory that a snapshot of an object with `below` needs.
    pub(super) fn prepare(below: Option<&Below<M>>) -> Result<Self, OutOfMemory> {
        let tree = match below {
            Some(below) => below.tree.clone(),
            None => try_arc(Tree(SleepLock::new(Layers(Vec::new()))))?,
        };
        let mut upper = Hidden::default();
        upper.try_reserve(1)?;
        let mut child = Hidden::default();
        child.try_reserve(1)?;
        Ok(Self { tree, upper, child })
    }

    /// Makes a layer of `pages`, seen by `object`, of `size` bytes, as far as it goes, and from page `window.start` on by `snapshot`.
    ///
    /// Returns what the two have below from now on. `pages` and `below` are those of the object, and empty after.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]; nothing has changed then.
    pub(super) fn split(
        mut self,
        (object, size): (&Arc<Vmo_<M>>, usize),
        (snapshot, window): (&Arc<Vmo_<M>>, Range<usize>),
        pages: &mut PageMap<M::Frame>,
        below: &mut Option<Below<M>>,
    ) -> Result<(Below<M>, Below<M>), OutOfMemory> {
        let tree = self.tree.clone();
        let mut layers = tree.0.write();
        let at = layers.vacancy()?;
        // From here on nothing fails.
        let below = below.take().map(|below| below.link);
        if let Some(link) = &below
            && let Some(child) = layers.child_slot(link.layer, |child| child.is_object(Arc::as_ptr(object)))
        {
            *child = Some(Child::Layer(at));
        }
        layers.0[at] = Some(Layer {
            size,
            pages: core::mem::take(pages),
            source: object.source().cloned(),
            below,
            children: [object, snapshot].map(|object| Some(Child::Object(Arc::downgrade(object)))),
        });
        self.upper.add(size.div_ceil(M::PAGE_SIZE)..usize::MAX);
        self.child.add(window.len()..usize::MAX);
        let below = |base, hidden| Below { tree: tree.clone(), link: Link { layer: at, base, hidden } };
        Ok((below(0, self.upper), below(window.start, self.child)))
    }
}

impl<M: Machine> Below<M> {
    /// Looks for page `index`.
    pub(super) fn find(&self, index: usize) -> Found<M> {
        self.tree.0.read().find(&self.link, index).0
    }

    /// Gives page `index`, which `source` has made, to the layer that lacks it: so all see the same. Returns whether it is still
    /// wanted.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`].
    pub(super) fn fill(
        &self,
        index: usize,
        source: &Arc<dyn Source<M>>,
        frame: M::Frame,
    ) -> Result<bool, OutOfMemory> {
        let mut layers = self.tree.0.write();
        let (Found::Missing(Some(found), index), layer) = layers.find(&self.link, index) else {
            return Ok(false);
        };
        if !Arc::ptr_eq(&found, source) {
            return Ok(false);
        }
        let layer = layers.layer_mut(layer);
        let start = index * M::PAGE_SIZE;
        frame.zero(layer.size.saturating_sub(start).min(M::PAGE_SIZE)..M::PAGE_SIZE);
        layer.pages.insert(index, frame)?;
        Ok(true)
    }

    /// Returns the first page at or after `index` that a layer has.
    pub(super) fn next_resident(&self, index: usize) -> Option<usize> {
        let layers = self.tree.0.read();
        let mut next = None;
        // Each layer is asked; what it has may be hidden, or be that of another index above.
        let mut link = Some(&self.link);
        let mut base = 0_usize;
        while let Some(below) = link {
            base = base.checked_add(below.base)?;
            let layer = layers.layer(below.layer);
            let mut at = index.checked_add(base)?;
            while let Some((found, _)) = layer.pages.next(at) {
                let own = found - base;
                if next.is_some_and(|next| own >= next) {
                    break;
                }
                if matches!(layers.find(&self.link, own).0, Found::Page(_)) {
                    next = Some(own);
                    break;
                }
                at = found + 1;
            }
            link = layer.below.as_ref();
        }
        next
    }

    /// Makes room to [hide](Self::hide) a range.
    pub(super) fn try_reserve(&mut self) -> Result<(), OutOfMemory> {
        self.link.hidden.try_reserve(1)
    }

    /// Hides `pages`. Needs room.
    pub(super) fn hide(&mut self, pages: Range<usize>) {
        self.link.hidden.add(pages);
    }

    /// Returns how many layers there are below one another.
    #[cfg(test)]
    pub(super) fn depth(&self) -> usize {
        let layers = self.tree.0.read();
        let below = |link: &&Link| layers.layer(link.layer).below.as_ref();
        core::iter::successors(Some(&self.link), below).count()
    }

    /// Takes the object at `object`, which is gone, out of the tree. Returns the object that has a layer for itself now, if one has.
    pub(super) fn leave(self, object: *const Vmo_<M>) -> Option<Weak<Vmo_<M>>> {
        let mut gone = Vec::new();
        let survivor = {
            let mut layers = self.tree.0.write();
            layers.remove_child(self.link.layer, |child| child.is_object(object), &mut gone)
        };
        // Dropped without the lock.
        drop(gone);
        survivor
    }

    /// Makes the pages of layers that `object` has for itself the object's own: `pages`. Returns whether nothing is below any more.
    pub(super) fn absorb(
        &mut self,
        object: &Arc<Vmo_<M>>,
        pages: &mut PageMap<M::Frame>,
        source: Option<&Arc<dyn Source<M>>>,
    ) -> bool {
        let mut layers = self.tree.0.write();
        loop {
            let at = self.link.layer;
            match layers.layer(at).only_child() {
                Some(Child::Object(_)) => {}
                _ => return false,
            }
            let child = || Child::Object(Arc::downgrade(object));
            match layers.merge(&mut self.link, pages, source, child) {
                Merge::Bottom => return true,
                Merge::Deeper => {}
                Merge::Kept => return false,
            }
        }
    }
}

/// How far a merge came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Merge {
    /// The layer is gone, and nothing was below it.
    Bottom,
    /// The layer is gone; the link leads to the next.
    Deeper,
    /// The layer is still there.
    Kept,
}

impl<M: Machine> Layers<M> {
    fn layer(&self, at: usize) -> &Layer<M> {
        match self.0.get(at) {
            Some(Some(layer)) => layer,
            _ => unreachable!("a link leads to a layer that is there"),
        }
    }

    fn layer_mut(&mut self, at: usize) -> &mut Layer<M> {
        match self.0.get_mut(at) {
            Some(Some(layer)) => layer,
            _ => unreachable!("a link leads to a layer that is there"),
        }
    }

    /// Returns a slot that is free.
    fn vacancy(&mut self) -> Result<usize, OutOfMemory> {
        if let Some(at) = self.0.iter().position(Option::is_none) {
            return Ok(at);
        }
        try_reserve(&mut self.0, 1)?;
        self.0.push(None);
        Ok(self.0.len() - 1)
    }

    /// Looks for page `index` of what `link` leads to; returns the layer that the search ended at, too.
    fn find(&self, link: &Link, index: usize) -> (Found<M>, usize) {
        let mut at = link.layer;
        let Some(mut index) = link.sees(index) else { return (Found::Hidden, at) };
        loop {
            let layer = self.layer(at);
            if let Some(page) = layer.pages.get(index) {
                return (Found::Page(page.clone()), at);
            }
            match layer.below.as_ref().and_then(|below| Some((below.layer, below.sees(index)?))) {
                Some(next) => (at, index) = next,
                None => return (Found::Missing(layer.source.clone(), index), at),
            }
        }
    }

    fn child_slot(
        &mut self,
        at: usize,
        is_wanted: impl Fn(&Child<M>) -> bool,
    ) -> Option<&mut Option<Child<M>>> {
        self.layer_mut(at).children.iter_mut().find(|child| child.as_ref().is_some_and(&is_wanted))
    }

    /// Takes a child away from the layer `at`, and merges that layer into the child that is left, or takes it away too if none is.
    fn remove_child(
        &mut self,
        mut at: usize,
        is_wanted: impl Fn(&Child<M>) -> bool,
        gone: &mut Vec<Layer<M>>,
    ) -> Option<Weak<Vmo_<M>>> {
        if let Some(child) = self.child_slot(at, is_wanted) {
            *child = None;
        }
        loop {
            match self.layer(at).only_child() {
                Some(Child::Object(object)) => return Some(object.clone()),
                Some(Child::Layer(child)) => {
                    let child = *child;
                    self.merge_into_layer(child);
                    return None;
                }
                None if self.layer(at).children.iter().any(Option::is_some) => return None,
                None => {}
            }
            let layer = self.0[at].take()?;
            let below = layer.below.as_ref().map(|below| below.layer);
            if try_reserve(gone, 1).is_ok() {
                gone.push(layer);
            }
            let below = below?;
            if let Some(child) = self.child_slot(below, |child| child.is_layer(at)) {
                *child = None;
            }
            at = below;
        }
    }

    /// Merges what is below the layer `at`, its only child, into it.
    fn merge_into_layer(&mut self, at: usize) {
        let Some(mut layer) = self.0[at].take() else { return };
        if let Some(mut link) = layer.below.take() {
            let merged = self.merge(&mut link, &mut layer.pages, layer.source.as_ref(), || Child::Layer(at));
            layer.below = (merged != Merge::Bottom).then_some(link);
        }
        self.0[at] = Some(layer);
    }

    /// Moves what can be seen by `link` of the layer that it leads to into `pages`, and lets `link` lead to the next one below, whose
    /// child becomes `child`. What is lacking comes from `source`, above.
    fn merge(
        &mut self,
        link: &mut Link,
        pages: &mut PageMap<M::Frame>,
        source: Option<&Arc<dyn Source<M>>>,
        child: impl FnOnce() -> Child<M>,
    ) -> Merge {
        let at = link.layer;
        let layer = self.layer_mut(at);
        while let Some((index, page)) = layer.pages.next(0) {
            // Whether a page moves or goes: whoever sees the layer sees it by this link.
            let own = index.checked_sub(link.base).filter(|own| link.sees(*own) == Some(index));
            if let Some(own) = own
                && pages.get(own).is_none()
            {
                let page = page.clone();
                if pages.insert(own, page).is_err() {
                    return Merge::Kept;
                }
            }
            layer.pages.remove_range(index..index + 1);
        }
        if !is_same_source(layer.source.as_ref(), source) {
            return Merge::Kept;
        }
        let next = match &layer.below {
            None => None,
            Some(below) => {
                if link.hidden.add_all(&below.hidden, link.base).is_err() {
                    return Merge::Kept;
                }
                Some((below.layer, below.base))
            }
        };
        self.0[at] = None;
        let Some((layer, base)) = next else { return Merge::Bottom };
        (link.layer, link.base) = (layer, link.base + base);
        if let Some(slot) = self.child_slot(layer, |child| child.is_layer(at)) {
            *slot = Some(child());
        }
        Merge::Deeper
    }
}

impl<M: Machine> Layer<M> {
    /// Returns the only child; `None` if there are two, or none.
    fn only_child(&self) -> Option<&Child<M>> {
        match &self.children {
            [Some(child), None] | [None, Some(child)] => Some(child),
            _ => None,
        }
    }
}

impl<M: Machine> Child<M> {
    fn is_object(&self, object: *const Vmo_<M>) -> bool {
        matches!(self, Self::Object(child) if core::ptr::addr_eq(child.as_ptr(), object))
    }

    fn is_layer(&self, at: usize) -> bool {
        matches!(self, Self::Layer(child) if *child == at)
    }
}

fn is_same_source<M: Machine>(a: Option<&Arc<dyn Source<M>>>, b: Option<&Arc<dyn Source<M>>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}

impl<M: Machine> Found<M> {
    /// Asks the source for a page that is missing.
    pub(super) fn fault(source: &Arc<dyn Source<M>>, index: usize) -> Result<M::Frame, Error> {
        use super::source::{Page, Purpose};
        match source.fault(index, Purpose::Read)? {
            Page::Own(frame) | Page::Lent(frame) => Ok(frame),
        }
    }
}
