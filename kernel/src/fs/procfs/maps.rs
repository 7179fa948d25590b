// SPDX-License-Identifier: MPL-2.0

//! `maps`, `smaps` and `smaps_rollup`: the mappings of a task.

use core::ops::Range;

use vmar::{
    mapping::{MappedMemory, MappingFlags},
    object::VmoKind,
    perms::VmPerms,
    vmar::{
        query::{MappingInfo, PageCounts},
        watch::WatchModes,
    },
};
use vmar_ostd::Ostd;

use super::{
    super::{
        synthetic::{Fields, Text, put},
        types::DeviceId,
    },
    task::Task,
};
use crate::{
    mm::{
        self, AddressSpace,
        layout::TASK_SIZE,
        mapped_file::{Known, SharedMemory, is_fully_shared},
    },
    prelude::*,
};

/// The column that names start in.
const NAME_COLUMN: usize = 73;

/// How long most lines are: those without a name.
const USUAL_LINE: usize = 50;

/// How long a line can be without a name: three numbers of 16 digits, two of 8, one of 20, four letters and eight
/// characters between them; and what [`Fields`] wants beyond.
const LONGEST_FIELDS: usize = 3 * 16 + 2 * 8 + 20 + 4 + 8 + 15;

/// The device that shared anonymous memory is said to be on.
const SHARED_MEMORY: DeviceId = DeviceId::new(0, 1);

type Info<'a> = MappingInfo<'a, Ostd>;

/// `maps`.
pub(super) fn maps(task: &Task, text: &mut Text) -> Result<()> {
    if let Some(vm) = task.vm()? {
        let places = Places::of(&vm);
        text.reserve(vm.vmar().usage().mappings * USUAL_LINE);
        let guard = vm.vmar().query(0..TASK_SIZE);
        guard.iter().try_for_each(|mapping| line(&places, &mapping, text))?;
    }
    Ok(())
}

/// `smaps`.
pub(super) fn smaps(task: &Task, text: &mut Text) -> Result<()> {
    let Some(vm) = task.vm()? else { return Ok(()) };
    let places = Places::of(&vm);
    mm::finish_frees();
    let guard = vm.vmar().query(0..TASK_SIZE);
    for mapping in guard.iter() {
        line(&places, &mapping, text)?;
        let mut sums = Sums::default();
        sums.add(&mapping);
        row(text, "Size", mapping.range().len());
        row(text, "KernelPageSize", PAGE_SIZE);
        row(text, "MMUPageSize", PAGE_SIZE);
        sums.show(text, Parts::Hidden);
        put!(text, "THPeligible:    0\nVmFlags: ");
        flags(&mapping, text);
        text.push(b"\n");
    }
    Ok(())
}

/// `smaps_rollup`: the sums over all mappings.
pub(super) fn smaps_rollup(task: &Task, text: &mut Text) -> Result<()> {
    let vm = task.vm()?.ok_or(ESRCH)?;
    let mut sums = Sums::default();
    mm::finish_frees();
    let guard = vm.vmar().query(0..TASK_SIZE);
    let (mut first, mut last) = (None, 0);
    for mapping in guard.iter() {
        first.get_or_insert(mapping.range().start);
        last = mapping.range().end;
        sums.add(&mapping);
    }
    let start = text.len();
    put!(text, "{:08x}-{last:08x} ---p 00000000 00:00 0 ", first.unwrap_or(0));
    text.pad_from(start, NAME_COLUMN);
    text.push(b"[rollup]\n");
    sums.show(text, Parts::Shown);
    Ok(())
}

/// What is named by where it is. Looked up before the mappings are held still: whoever moves the end of the heap holds the
/// heap first.
struct Places {
    heap: Range<Vaddr>,
    stack: Vaddr,
}

impl Places {
    fn of(vm: &AddressSpace) -> Self {
        Self { heap: vm.heap(), stack: vm.stack_start() }
    }
}

/// Where a mapping comes from.
enum Origin {
    Nowhere,
    /// A name of the kernel's own.
    Named(&'static str),
    /// A device, an inode number and a name.
    File(DeviceId, u64, Vec<u8>),
}

fn origin(places: &Places, mapping: &Info<'_>) -> Result<Origin> {
    match mapping.mappable().and_then(|known| Known::of(&**known)) {
        Some(Known::File(mapped)) => {
            let path = mapped.file().path();
            let meta = path.inode().metadata();
            return Ok(Origin::File(meta.dev, meta.ino, path.display()?));
        }
        Some(Known::Memory(memory)) => {
            // Each piece of shared memory is a file of its own in Linux.
            let number = memory.object().id() as u64 >> 4 & 0xffff_ffff;
            return Ok(Origin::File(SHARED_MEMORY, number, SharedMemory::NAME.into()));
        }
        Some(Known::Segment(segment)) => {
            return Ok(Origin::File(SHARED_MEMORY, segment.id() as u64, segment.name()));
        }
        None => {}
    }
    let range = mapping.range();
    let Places { heap, stack } = places;
    if range.start <= heap.end && range.end >= heap.start && !heap.is_empty() {
        return Ok(Origin::Named("[heap]"));
    }
    if (range.start..=range.end).contains(stack) {
        return Ok(Origin::Named("[stack]"));
    }
    Ok(Origin::Nowhere)
}

fn line(places: &Places, mapping: &Info<'_>, text: &mut Text) -> Result<()> {
    let start = text.len();
    let range = mapping.range();
    let perms = mapping.perms();
    let letter = |perm, letter| if perms.contains(perm) { letter } else { b'-' };
    let origin = origin(places, mapping)?;
    let (device, inode) = match &origin {
        Origin::File(device, inode, _) => (*device, *inode),
        _ => (DeviceId::default(), 0),
    };
    let mut fields = Fields::<LONGEST_FIELDS>::default();
    fields.push_hex(range.start as u64, 8);
    fields.push(*b"-");
    fields.push_hex(range.end as u64, 8);
    fields.push([
        b' ',
        letter(VmPerms::READ, b'r'),
        letter(VmPerms::WRITE, b'w'),
        letter(VmPerms::EXEC, b'x'),
        if mapping.is_shared() { b's' } else { b'p' },
        b' ',
    ]);
    fields.push_hex(mapping.offset() as u64, 8);
    fields.push(*b" ");
    fields.push_hex(device.major.into(), 2);
    fields.push(*b":");
    fields.push_hex(device.minor.into(), 2);
    fields.push(*b" ");
    fields.push_decimal(inode);
    let name = match &origin {
        Origin::Nowhere => &[],
        Origin::Named(name) => name.as_bytes(),
        Origin::File(_, _, name) => name,
    };
    if name.is_empty() {
        fields.push(*b" \n");
        text.push(fields.as_bytes());
    } else {
        fields.push(*b" ");
        text.push(fields.as_bytes());
        text.pad_from(start, NAME_COLUMN);
        text.push_escaped(name, b"\n");
        text.push(b"\n");
    }
    Ok(())
}

fn row(text: &mut Text, name: &str, bytes: usize) {
    let name = format!("{name}:");
    put!(text, "{name:<16}{:8} kB\n", bytes / 1024);
}

/// Whether the proportional share is also told by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parts {
    Shown,
    Hidden,
}

/// What is counted of mappings.
#[derive(Default)]
struct Sums {
    counts: PageCounts,
    locked: usize,
    shares: [usize; 3],
}

impl Sums {
    fn add(&mut self, mapping: &Info<'_>) {
        let counts = mapping.count_pages();
        if mapping.flags().contains(MappingFlags::LOCKED) {
            self.locked += counts.share;
        }
        let kind = match mapping.memory() {
            MappedMemory::Vmo { object, .. } if counts.anonymous == 0 => match object.kind() {
                VmoKind::File => 1,
                VmoKind::SharedMemory => 2,
            },
            _ => 0,
        };
        self.shares[kind] += counts.share;
        let sums = &mut self.counts;
        sums.resident += counts.resident;
        sums.anonymous += counts.anonymous;
        sums.shared_clean += counts.shared_clean;
        sums.shared_dirty += counts.shared_dirty;
        sums.private_clean += counts.private_clean;
        sums.private_dirty += counts.private_dirty;
        sums.referenced += counts.referenced;
        sums.share += counts.share;
        sums.dirty_share += counts.dirty_share;
    }

    fn show(&self, text: &mut Text, parts: Parts) {
        let counts = &self.counts;
        row(text, "Rss", counts.resident * PAGE_SIZE);
        row(text, "Pss", counts.share);
        row(text, "Pss_Dirty", counts.dirty_share);
        if parts == Parts::Shown {
            for (name, share) in ["Pss_Anon", "Pss_File", "Pss_Shmem"].into_iter().zip(self.shares) {
                row(text, name, share);
            }
        }
        for (name, pages) in [
            ("Shared_Clean", counts.shared_clean),
            ("Shared_Dirty", counts.shared_dirty),
            ("Private_Clean", counts.private_clean),
            ("Private_Dirty", counts.private_dirty),
            ("Referenced", counts.referenced),
            ("Anonymous", counts.anonymous),
        ] {
            row(text, name, pages * PAGE_SIZE);
        }
        for name in [
            "LazyFree",
            "AnonHugePages",
            "ShmemPmdMapped",
            "FilePmdMapped",
            "Shared_Hugetlb",
            "Private_Hugetlb",
            "Swap",
            "SwapPss",
        ] {
            row(text, name, 0);
        }
        row(text, "Locked", self.locked);
    }
}

/// The two-letter flags of a mapping, in Linux's order.
fn flags(mapping: &Info<'_>, text: &mut Text) {
    let (perms, flags, is_shared) = (mapping.perms(), mapping.flags(), mapping.is_shared());
    let is_device = matches!(mapping.memory(), MappedMemory::Device { .. });
    let may_write = perms.contains(VmPerms::MAY_WRITE);
    let watched = mapping.watcher().map_or(WatchModes::empty(), |(_, modes)| modes);
    for (is_set, name) in [
        (perms.contains(VmPerms::READ), "rd"),
        (perms.contains(VmPerms::WRITE), "wr"),
        (perms.contains(VmPerms::EXEC), "ex"),
        (is_fully_shared(mapping), "sh"),
        (perms.contains(VmPerms::MAY_READ), "mr"),
        (may_write, "mw"),
        (perms.contains(VmPerms::MAY_EXEC), "me"),
        (is_shared, "ms"),
        (flags.contains(MappingFlags::GROWS_DOWN), "gd"),
        (watched.contains(WatchModes::MISSING), "um"),
        (is_device, "pf"),
        (watched.contains(WatchModes::WRITES), "uw"),
        (flags.contains(MappingFlags::LOCKED), "lo"),
        (is_device, "io"),
        (flags.contains(MappingFlags::SEQUENTIAL), "sr"),
        (flags.contains(MappingFlags::RANDOM), "rr"),
        (flags.contains(MappingFlags::DONT_FORK), "dc"),
        (is_device, "de"),
        // Linux 6.1 has no letters for it.
        (flags.contains(MappingFlags::LOCK_ON_FAULT), "??"),
        (flags.contains(MappingFlags::PROMISED), "ac"),
        (flags.contains(MappingFlags::NO_RESERVE), "nr"),
        (flags.contains(MappingFlags::WIPE_ON_FORK), "wf"),
        (flags.contains(MappingFlags::DONT_DUMP), "dd"),
        (!flags.contains(MappingFlags::TRACKED), "sd"),
        (flags.contains(MappingFlags::HUGE_PAGES), "hg"),
        (flags.contains(MappingFlags::NO_HUGE_PAGES), "nh"),
        (flags.contains(MappingFlags::MERGEABLE), "mg"),
        (watched.contains(WatchModes::MINOR), "ui"),
        (flags.contains(MappingFlags::SEALED), "sl"),
    ] {
        if is_set {
            put!(text, "{name} ");
        }
    }
}
