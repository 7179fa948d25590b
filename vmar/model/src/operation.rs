// SPDX-License-Identifier: MPL-2.0

//! What a step does, and how it is made of bytes.
//!
//! Addresses are numbers of pages of the arena. A number that chooses among what is there at the time (processes, objects,
//! regions) counts round: there is no step that means nothing.

use std::{fmt, ops::Range};

use vmar::{
    error::Limit,
    mapping::Sharing,
    perms::VmPerms,
    vmar::{
        ForkPolicy,
        advise::Advice,
        discard::Discard,
        fault::Access,
        history::Which,
        lock::LockMode,
        populate::Populate,
        watch::{WatchModes, WriteProtection},
    },
};

use crate::{naive::Who, script::STEP_SIZE};

/// One process does something.
#[derive(Clone, Debug)]
pub struct Step {
    /// Which process, counted round.
    pub who: usize,
    /// What there is too little of meanwhile.
    pub shortage: Shortage,
    /// What it does.
    pub operation: Operation,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.who, self.operation)?;
        match self.shortage {
            Shortage::None => Ok(()),
            Shortage::Allocation(nth) => write!(f, ", allocation {nth} fails"),
            Shortage::Allocations(nth) => write!(f, ", allocations fail from {nth} on"),
            Shortage::Frames(count) => write!(f, ", {count} frames are left"),
        }
    }
}

/// What an operation finds too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// Nothing.
    None,
    /// The allocation after so many others fails.
    Allocation(usize),
    /// All allocations after so many fail.
    Allocations(usize),
    /// There are so many frames and no more.
    Frames(usize),
}

/// Numbers of pages, from the start of the arena.
pub type Pages = Range<usize>;

/// What is mapped.
#[derive(Clone, Copy, Debug)]
pub enum Mapped {
    Anonymous,
    Object {
        id: usize,
        /// The first page of the object that is shown.
        index: usize,
        sharing: Sharing,
        may_write: bool,
        fault_around: bool,
    },
}

/// Where something goes.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    Anywhere,
    Exactly,
    Hint,
    Replacing,
}

/// What becomes of a range that moves.
#[derive(Clone, Copy, Debug)]
pub enum Destination {
    InPlace,
    MayMove,
    /// To this page.
    Fixed(usize),
    DontUnmap,
}

/// What a page is filled with.
#[derive(Clone, Copy, Debug)]
pub enum Filling {
    Page,
    Zeros,
    Object,
}

/// What is done.
#[derive(Clone, Debug)]
pub enum Operation {
    Map {
        pages: Pages,
        access: VmPerms,
        mapped: Mapped,
        place: Place,
    },
    Unmap(Pages),
    Protect {
        pages: Pages,
        access: VmPerms,
    },
    Remap {
        old: Pages,
        count: usize,
        to: Destination,
    },
    Fork {
        cpu: usize,
        policy: ForkPolicy,
    },
    End,
    Resize {
        id: usize,
        size: usize,
    },
    Decommit {
        id: usize,
        range: Range<usize>,
    },
    WriteObject {
        id: usize,
        index: usize,
        word: usize,
    },
    Discard {
        pages: Pages,
        how: Discard,
    },
    Zero(Pages),
    Lock {
        pages: Pages,
        mode: LockMode,
    },
    Unlock(Pages),
    LockAll(LockMode),
    UnlockAll,
    /// New mappings are locked.
    LockWhatComes(LockMode),
    Advise {
        pages: Pages,
        advice: Advice,
    },
    Populate {
        pages: Pages,
        how: Populate,
    },
    Seal(Pages),
    Label {
        pages: Pages,
        label: u8,
    },
    SetLimit {
        limit: Limit,
        value: usize,
    },
    Watch {
        pages: Pages,
        modes: WatchModes,
        who: Who,
    },
    Unwatch(Pages),
    UnwatchAll(Who),
    WriteProtect {
        pages: Pages,
        protection: WriteProtection,
    },
    Fill {
        page: usize,
        filling: Filling,
        protection: WriteProtection,
    },
    ForgetAccesses(Which),
    TrackWrites,
    Region {
        which: usize,
        inside: (usize, usize),
        act: RegionAct,
    },
    NewRegion(Pages),
    Access {
        page: usize,
        word: usize,
        access: Access,
        cpu: usize,
    },
    AccessFromOutside {
        page: usize,
        word: usize,
        writes: bool,
        forced: bool,
    },
    Compare,
}

/// What is done through a capability to a region.
#[derive(Clone, Copy, Debug)]
pub enum RegionAct {
    Destroy,
    Dissolve,
    Map(VmPerms),
    Unmap,
    Protect(VmPerms),
    UnmapBeyond,
}

/// How many pages of the arena operations start at; there is room behind them for the largest.
pub const STARTS: usize = 56;

/// How many pages an operation has at most.
pub const LARGEST: usize = 8;

impl Step {
    /// Makes a step of bytes.
    pub fn new(bytes: &[u8; STEP_SIZE]) -> Self {
        let mut draw = Draw(bytes.iter());
        Self {
            who: draw.below(8),
            shortage: match draw.below(32) {
                number @ 0..2 => Shortage::Allocation(number),
                number @ 2..4 => Shortage::Allocation(number * 2),
                4 => Shortage::Allocations(draw.below(6)),
                5 => Shortage::Frames(draw.below(4)),
                _ => Shortage::None,
            },
            operation: Operation::draw(&mut draw),
        }
    }
}

impl Operation {
    fn draw(draw: &mut Draw<'_>) -> Self {
        match draw.below(64) {
            0..=5 => Self::Map {
                pages: draw.pages(),
                access: draw.access(),
                mapped: match draw.below(4) {
                    0 => Mapped::Anonymous,
                    kind => Mapped::Object {
                        id: draw.below(8),
                        index: draw.below(16),
                        sharing: if kind == 1 { Sharing::Shared } else { Sharing::Private },
                        may_write: !draw.one_in(4),
                        fault_around: draw.one_in(2),
                    },
                },
                place: draw.pick(&[Place::Anywhere, Place::Exactly, Place::Hint, Place::Replacing]),
            },
            6..=8 => Self::Unmap(draw.pages()),
            9..=12 => Self::Protect { pages: draw.pages(), access: draw.access() },
            13..=16 => Self::draw_remap(draw),
            17..=18 => Self::Fork {
                cpu: draw.below(3),
                policy: draw.pick(&[ForkPolicy::Backup, ForkPolicy::Backup, ForkPolicy::Copy]),
            },
            19 => Self::End,
            20 => Self::Resize { id: draw.below(8), size: draw.below(40) },
            21 => {
                let start = draw.below(40);
                Self::Decommit { id: draw.below(8), range: start..start + draw.below(8) }
            }
            22 => Self::WriteObject { id: draw.below(8), index: draw.below(20), word: draw.below(2) },
            23..=24 => Self::Discard {
                pages: draw.pages(),
                how: draw.pick(&[Discard::Now, Discard::NowEvenLocked, Discard::AnyTime]),
            },
            25 => Self::Zero(draw.pages()),
            26..=27 => {
                Self::Lock { pages: draw.pages(), mode: draw.pick(&[LockMode::Now, LockMode::OnFault]) }
            }
            28 => match draw.below(8) {
                0..=4 => Self::Unlock(draw.pages()),
                5 => Self::LockAll(draw.pick(&[LockMode::Now, LockMode::OnFault])),
                6 => Self::UnlockAll,
                _ => Self::LockWhatComes(draw.pick(&[LockMode::Now, LockMode::OnFault])),
            },
            29 => Self::Advise { pages: draw.pages(), advice: draw.advice() },
            30..=31 => Self::Populate {
                pages: draw.pages(),
                how: draw.pick(&[Populate::Read, Populate::Write, Populate::AsNeeded]),
            },
            32 => Self::Seal(draw.pages()),
            33 => Self::Label { pages: draw.pages(), label: draw.below(3) as u8 },
            34 => Self::draw_limit(draw),
            35..=37 => Self::Watch { pages: draw.pages(), modes: draw.modes(), who: draw.watcher() },
            38 => Self::Unwatch(draw.pages()),
            39 if draw.one_in(4) => Self::UnwatchAll(draw.watcher()),
            39..=40 => Self::WriteProtect { pages: draw.pages(), protection: draw.protection() },
            41 => Self::Fill {
                page: draw.below(STARTS),
                filling: draw.pick(&[Filling::Page, Filling::Zeros, Filling::Object]),
                protection: draw.protection(),
            },
            42 => Self::ForgetAccesses(draw.pick(&[Which::All, Which::Anonymous, Which::Objects])),
            43 => Self::TrackWrites,
            44 => Self::NewRegion(draw.pages()),
            45..=47 => Self::Region {
                which: draw.below(8),
                inside: (draw.below(8), draw.below(8)),
                act: match draw.below(8) {
                    0 => RegionAct::Destroy,
                    1 => RegionAct::Dissolve,
                    2..=4 => RegionAct::Map(draw.access()),
                    5 => RegionAct::Unmap,
                    6 => RegionAct::Protect(draw.access()),
                    _ => RegionAct::UnmapBeyond,
                },
            },
            48..=50 => Self::AccessFromOutside {
                page: draw.below(STARTS),
                word: draw.below(2),
                writes: draw.one_in(2),
                forced: draw.one_in(2),
            },
            51 => Self::Compare,
            _ => Self::Access {
                page: draw.below(STARTS),
                word: draw.below(2),
                access: draw.pick(&[Access::Read, Access::Write, Access::Write, Access::Exec]),
                cpu: draw.below(3),
            },
        }
    }

    fn draw_remap(draw: &mut Draw<'_>) -> Self {
        let mut old = draw.pages();
        let mut count = if draw.one_in(3) { old.len() } else { 1 + draw.below(LARGEST) };
        if draw.one_in(8) {
            old.end = old.start;
            count = count.max(1);
        }
        let to = match draw.below(4) {
            0 => Destination::InPlace,
            1 => Destination::MayMove,
            2 => Destination::Fixed(draw.below(STARTS)),
            _ => Destination::DontUnmap,
        };
        Self::Remap { old, count, to }
    }

    fn draw_limit(draw: &mut Draw<'_>) -> Self {
        let limit = draw.pick(&[Limit::AddressSpace, Limit::Data, Limit::Locked, Limit::Mappings]);
        let value = if draw.one_in(2) { usize::MAX } else { draw.below(40) };
        Self::SetLimit { limit, value }
    }
}

/// Bytes that choices are made of. When there are none left, the first of what can be chosen is.
struct Draw<'a>(std::slice::Iter<'a, u8>);

impl Draw<'_> {
    /// A number below `bound`, which is at most 256.
    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or(0)) % bound
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    fn pages(&mut self) -> Pages {
        let start = self.below(STARTS);
        start..start + 1 + self.below(LARGEST)
    }

    fn access(&mut self) -> VmPerms {
        const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);
        const RX: VmPerms = VmPerms::READ.union(VmPerms::EXEC);
        self.pick(&[RW, RW, RW, VmPerms::READ, RX, VmPerms::empty(), VmPerms::ACCESS])
    }

    fn advice(&mut self) -> Advice {
        self.pick(&[
            Advice::DontFork,
            Advice::DoFork,
            Advice::WipeOnFork,
            Advice::KeepOnFork,
            Advice::Random,
            Advice::Normal,
        ])
    }

    fn modes(&mut self) -> WatchModes {
        self.pick(&[
            WatchModes::MISSING,
            WatchModes::WRITES,
            WatchModes::MISSING.union(WatchModes::WRITES),
            WatchModes::MINOR,
            WatchModes::all(),
        ])
    }

    fn watcher(&mut self) -> Who {
        self.pick(&[Who::Stays, Who::Follows])
    }

    fn protection(&mut self) -> WriteProtection {
        self.pick(&[WriteProtection::Set, WriteProtection::Set, WriteProtection::Cleared])
    }
}
