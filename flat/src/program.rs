// SPDX-License-Identifier: MPL-2.0

//! A program: its mappings, and what bounds them.

use alloc::{sync::Arc, vec::Vec};
use core::ops::Range;

use aster_rights::Rights;
use vmar::{
    backing::{Personality, Tracing},
    error::Error,
    fallible::try_reserve,
    limits::Limits,
    mapping::Sharing,
    perms::VmPerms,
};

use crate::File;

/// A program, as far as its memory goes.
///
/// It is made of what it has mapped, and ends with [`Flat::exit`](crate::Flat::exit): dropping it leaves its memory in use.
#[derive(Debug)]
#[must_use = "its memory is freed by `Flat::exit`"]
pub struct Program {
    /// Sorted by their start. Several may start at one address, or overlap: they show the same.
    pub(crate) mappings: Vec<Mapping>,
    pub(crate) limits: Limits,
    pub(crate) ceiling: Rights,
    pub(crate) personality: Personality,
    pub(crate) tracing: Tracing,
    /// Bytes of all mappings.
    pub(crate) size: usize,
}

impl Program {
    /// Makes a program that has nothing mapped, and may map within `limits`.
    pub fn new(limits: Limits) -> Self {
        Self {
            mappings: Vec::new(),
            limits,
            ceiling: Rights::all(),
            personality: Personality::Usual,
            tracing: Tracing::Untraced,
            size: 0,
        }
    }

    /// Lets no mapping ever do what `ceiling` lacks.
    pub fn with_ceiling(mut self, ceiling: Rights) -> Self {
        self.ceiling = ceiling;
        self
    }

    /// Gives it a personality.
    pub fn with_personality(mut self, personality: Personality) -> Self {
        self.personality = personality;
        self
    }

    /// Returns the bounds on what it may map.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns its mappings, ascending by their addresses.
    pub fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    /// Makes room for one mapping more.
    pub(crate) fn try_reserve(&mut self) -> Result<(), Error> {
        Ok(try_reserve(&mut self.mappings, 1)?)
    }

    /// Adds a mapping, for which there is room.
    pub(crate) fn insert(&mut self, mapping: Mapping) {
        self.size += mapping.range.len();
        let at = self.mappings.partition_point(|other| other.range.start <= mapping.range.start);
        self.mappings.insert(at, mapping);
    }

    pub(crate) fn remove(&mut self, index: usize) -> Mapping {
        let mapping = self.mappings.remove(index);
        self.size -= mapping.range.len();
        mapping
    }

    /// Returns which mapping is exactly that of `range`.
    pub(crate) fn exactly(&self, range: &Range<usize>) -> Option<usize> {
        self.mappings.iter().position(|mapping| mapping.range == *range)
    }

    /// Returns the mappings that have all of `range`.
    pub(crate) fn around(&self, range: Range<usize>) -> impl Iterator<Item = &Mapping> {
        let has =
            move |mapping: &&Mapping| mapping.range.start <= range.start && range.end <= mapping.range.end;
        self.mappings.iter().filter(has)
    }
}

/// What a program has mapped at a range of addresses.
#[derive(Clone, Debug)]
pub struct Mapping {
    pub(crate) range: Range<usize>,
    pub(crate) perms: VmPerms,
    pub(crate) sharing: Sharing,
    pub(crate) place: Place,
}

/// Where a mapping's memory is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// The file's own, shown from `offset` on.
    Direct { file: Arc<dyn File>, offset: usize },
    /// A region of the pool, which starts where the mapping does.
    Copied,
}

/// What a copy shows: equal copies of equal keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) file: u64,
    pub(crate) offset: usize,
    pub(crate) size: usize,
}

impl Mapping {
    /// Returns its addresses (bytes).
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Returns what it allows, and may ever allow. No hardware sees to that.
    pub fn perms(&self) -> VmPerms {
        self.perms
    }

    /// Returns whether writes are seen by others.
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// Returns whether it shows the file's own memory.
    pub fn is_direct(&self) -> bool {
        matches!(self.place, Place::Direct { .. })
    }
}
