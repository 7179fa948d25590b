// SPDX-License-Identifier: MPL-2.0

//! What caches a processor has, as it tells itself (`CPUID`), read as Linux 6.1 reads it (`arch/x86/kernel/cpu/cacheinfo.c`).
//!
//! | maker | leaf |
//! | --- | --- |
//! | AMD, Hygon with topology extensions | 8000001D, one cache for each subleaf |
//! | AMD, Hygon without | 80000005 and 80000006, each register of which is a cache |
//! | others | 4, one cache for each subleaf |

use core::arch::x86_64::CpuidResult;

use ostd::{arch::cpu::cpuid::cpuid, cpu::num_cpus};

/// What a cache keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Data.
    Data,
    /// Instructions.
    Instruction,
    /// Both.
    Unified,
}

impl Kind {
    /// What Linux calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "Data",
            Self::Instruction => "Instruction",
            Self::Unified => "Unified",
        }
    }
}

/// A cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// How far it is from the processor; the nearest is at level 1.
    pub level: u32,
    /// What it keeps.
    pub kind: Kind,
    /// Its size in bytes.
    pub size: usize,
    /// The size of a line in bytes.
    pub line_size: usize,
    /// In how many lines of a set an address can be.
    pub ways: usize,
    /// Whether all processors have it together; otherwise each has its own.
    pub is_shared: bool,
}

impl Cache {
    /// How many sets it has.
    pub fn sets(&self) -> usize {
        self.size / (self.line_size * self.ways).max(1)
    }

    /// The cache that a subleaf of leaf 4, or of 8000001D, is about.
    fn of_subleaf(leaf: CpuidResult) -> Option<Self> {
        let field = |register: u32, low: u32, bits: u32| (register >> low & ((1 << bits) - 1)) as usize;
        let kind = match field(leaf.eax, 0, 5) {
            1 => Kind::Data,
            2 => Kind::Instruction,
            3 => Kind::Unified,
            _ => return None,
        };
        let (line_size, ways) = (field(leaf.ebx, 0, 12) + 1, field(leaf.ebx, 22, 10) + 1);
        let partitions = field(leaf.ebx, 12, 10) + 1;
        let size = line_size * ways * partitions * (leaf.ecx as usize + 1);
        let is_shared = num_cpus() > 1 && field(leaf.eax, 14, 12) + 1 >= num_cpus();
        Some(Self { level: field(leaf.eax, 5, 3) as u32, kind, size, line_size, ways, is_shared })
    }

    /// A cache of level 1 in a register of leaf 80000005.
    fn first_level(register: u32, kind: Kind) -> Option<Self> {
        let [line_size, _, ways, kibibytes] = register.to_le_bytes().map(usize::from);
        let is_there = kibibytes != 0;
        is_there.then_some(Self { level: 1, kind, size: kibibytes << 10, line_size, ways, is_shared: false })
    }

    /// A cache of level 2 or 3 in a register of leaf 80000006, `size` bytes large.
    fn further_level(register: u32, level: u32, size: usize) -> Option<Self> {
        let line_size = (register & 0xff) as usize;
        let ways = match register >> 12 & 0xf {
            0 => return None,
            6 => 8,
            8 => 16,
            10 => 32,
            11 => 48,
            12 => 64,
            13 => 96,
            14 => 128,
            15 => size / line_size.max(1),
            ways => ways as usize,
        };
        let is_shared = level > 2 && num_cpus() > 1;
        (size != 0).then_some(Self { level, kind: Kind::Unified, size, line_size, ways, is_shared })
    }
}

/// The caches of a processor, the nearest first. All processors are alike.
pub fn all() -> impl Iterator<Item = Cache> {
    let leaf = |number: u32| cpuid(number, 0).unwrap_or(CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 });
    let is_amd = [u32::from_le_bytes(*b"Auth"), u32::from_le_bytes(*b"Hygo")].contains(&leaf(0).ebx);
    let has_extensions = leaf(0x8000_0001).ecx & 1 << 22 != 0;
    let subleaves = match (is_amd, has_extensions) {
        (true, true) => Some(0x8000_001d),
        (true, false) => None,
        (false, _) => Some(4),
    };
    let told = subleaves.into_iter().flat_map(|number| {
        (0..).map_while(move |subleaf| cpuid(number, subleaf).and_then(Cache::of_subleaf)).take(8)
    });
    let (near, far) = (leaf(0x8000_0005), leaf(0x8000_0006));
    let older = [
        Cache::first_level(near.ecx, Kind::Data),
        Cache::first_level(near.edx, Kind::Instruction),
        Cache::further_level(far.ecx, 2, (far.ecx >> 16 << 10) as usize),
        Cache::further_level(far.edx, 3, (far.edx as usize >> 18) << 19),
    ];
    told.chain(older.into_iter().flatten().filter(move |_| subleaves.is_none()))
}

/// How many caches a processor has.
pub fn count() -> usize {
    all().count()
}

#[cfg(ktest)]
mod tests {
    use ostd::prelude::ktest;

    use super::*;

    #[ktest]
    fn registers_say_what_a_cache_is() {
        // 64 KiB in 512 sets of 2 ways.
        let Some(first) = Cache::first_level(0x4002_0140, Kind::Data) else { panic!("there is one") };
        assert_eq!((first.size, first.line_size, first.ways, first.sets()), (64 << 10, 64, 2, 512));
        let Some(second) = Cache::further_level(0x0200_8140, 2, 512 << 10) else { panic!("there is one") };
        assert_eq!((second.ways, second.sets(), second.is_shared), (16, 512, false));
        // 32 KiB in 64 sets of 8 ways.
        let leaf = CpuidResult { eax: 0x21, ebx: 0x01c0_003f, ecx: 63, edx: 0 };
        let Some(told) = Cache::of_subleaf(leaf) else { panic!("there is one") };
        assert_eq!((told.level, told.kind, told.size, told.sets()), (1, Kind::Data, 32 << 10, 64));
        assert_eq!(Cache::of_subleaf(CpuidResult { eax: 0, ..leaf }), None);
    }
}
