// SPDX-License-Identifier: MPL-2.0

use alloc::{vec, vec::Vec};
use core::{iter, ops::Range};

use super::*;
use crate::{
    fallible::inject,
    object::VmoKind,
    perms::VmPerms,
    placement::Placement,
    rss::RssKind,
    sim::{PAGE_SIZE, Process, Sim},
    vmar::fault::FaultError,
};

const BASE: usize = 0x100_0000;
const FILE_PAGES: usize = 6;
const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);
const RX: VmPerms = VmPerms::READ.union(VmPerms::EXEC);

/// What the file has at an offset: never zero.
fn file_byte(offset: usize) -> u8 {
    (offset % 251) as u8 + 1
}

/// What the file has from an offset on. It repeats itself, and what repeats is copied: Miri takes long over each byte.
fn file_bytes(range: Range<usize>) -> Vec<u8> {
    let period: Vec<_> = (range.start..range.start + 251).map(file_byte).collect();
    let mut bytes = period.repeat(range.len().div_ceil(251));
    bytes.truncate(range.len());
    bytes
}

fn image(sim: &Sim) -> ElfImage<Sim> {
    let file = Vmo::new(sim, FILE_PAGES * PAGE_SIZE, VmoKind::File).unwrap();
    file.write_bytes(0, &file_bytes(0..FILE_PAGES * PAGE_SIZE)).unwrap();
    ElfImage::new(file).unwrap()
}

fn map(process: &Process, segment: SegmentVmo<Sim>, perms: VmPerms) {
    let map = process.vmar.new_map(segment.size).perms(perms).vmo(segment.vmo).vmo_offset(segment.offset);
    map.fault_around().placement(Placement::Exactly(BASE)).build().unwrap();
}

/// The number of the frame that is mapped at a page of the segment.
fn frame_at(process: &Process, page: usize) -> Option<u64> {
    let entries = process.vmar.space().walk();
    entries.iter().find(|entry| entry.addr == BASE + page * PAGE_SIZE).and_then(|entry| entry.frame)
}

/// What a segment has, byte by byte, from the start of its first page on.
fn expected(segment: &Segment, page: usize) -> Vec<u8> {
    let lead = segment.addr % page;
    let size = (lead + segment.memory_size).next_multiple_of(page);
    let mut bytes = vec![0; size];
    let file = segment.file_offset..segment.file_offset + segment.file_size;
    bytes[lead..lead + segment.file_size].copy_from_slice(&file_bytes(file));
    bytes
}

#[test]
fn h1_faults_outside_a_segment_or_of_another_kind_go_to_the_program() {
    let sim = Sim::new(1);
    let image = image(&sim);
    let process = Process::new(&sim, 0).unwrap();
    let segment = Segment::new(0x40_0010, 0x10, 2 * PAGE_SIZE, 3 * PAGE_SIZE);
    map(&process, image.segment(&segment).unwrap(), RX);
    assert_eq!(process.write(BASE, &[1]), Err(FaultError::NoPermission));
    assert_eq!(process.read_byte(BASE - 1), Err(FaultError::NotMapped));
    assert_eq!(process.read_byte(BASE + 4 * PAGE_SIZE), Err(FaultError::NotMapped));
    assert_eq!(process.fetch_byte(BASE + 0x10), Ok(file_byte(0x10)));
    process.vmar.protect(BASE..BASE + PAGE_SIZE, VmPerms::READ).unwrap();
    assert_eq!(process.fetch_byte(BASE + 0x10), Err(FaultError::NoPermission));
    process.audit();
    // A mapping may reach beyond the segment: nothing is there.
    let segment = image.segment(&segment).unwrap();
    let past = process.vmar.new_map(segment.size + PAGE_SIZE).read().vmo(segment.vmo);
    let past = past.vmo_offset(segment.offset).build().unwrap();
    assert_eq!(process.read_byte(past + segment.size), Err(FaultError::BusError));
}

#[test]
fn h2_whole_pages_are_the_frames_of_the_image_until_they_are_written() {
    let sim = Sim::new(1);
    let image = image(&sim);
    let frames: Vec<_> =
        (0..FILE_PAGES).map(|page| image.file.object().commit(page, Purpose::Read).unwrap().id()).collect();
    let segment = Segment::new(0x1000_0020, PAGE_SIZE + 0x20, 3 * PAGE_SIZE, 4 * PAGE_SIZE);
    let before = sim.live_frames();
    let text = Process::new(&sim, 0).unwrap();
    map(&text, image.segment(&segment).unwrap(), RX);
    for page in 1..3 {
        text.fetch_byte(BASE + page * PAGE_SIZE).unwrap();
        assert_eq!(frame_at(&text, page), Some(frames[1 + page]));
    }
    assert_eq!(sim.live_frames(), before, "no copy is made to be read");
    assert_eq!(text.vmar.rss().pages(RssKind::File), 2);
    text.audit();
    let data = Process::new(&sim, 0).unwrap();
    map(&data, image.segment(&segment).unwrap(), RW);
    assert_eq!(data.read_byte(BASE + PAGE_SIZE), Ok(file_byte(2 * PAGE_SIZE)));
    assert_eq!(frame_at(&data, 1), Some(frames[2]));
    data.write(BASE + PAGE_SIZE, &[9]).unwrap();
    assert_ne!(frame_at(&data, 1), Some(frames[2]));
    assert_eq!(sim.live_frames(), before + 1);
    assert_eq!(text.read_byte(BASE + PAGE_SIZE), Ok(file_byte(2 * PAGE_SIZE)), "the copy is private");
    data.audit();
}

#[test]
fn h2_a_segment_of_whole_pages_is_the_file_itself() {
    let sim = Sim::new(1);
    let image = image(&sim);
    let mut segment = Segment::new(0x20, 0x20, 100, 100);
    assert!(!image.segment(&segment).unwrap().vmo.is_same_object(&image.file));
    (segment.before, segment.behind) = (Outside::AsInFile, Outside::AsInFile);
    let whole = image.segment(&segment).unwrap();
    assert!(whole.vmo.is_same_object(&image.file));
    assert_eq!((whole.offset, whole.size), (0, PAGE_SIZE));
    assert!(!whole.vmo.rights().contains(Rights::WRITE), "the file is out of reach");
}

#[test]
fn h2_data_that_end_within_a_page_need_no_object_to_be_mapped_privately() {
    let sim = Sim::new(1);
    let image = image(&sim);
    let process = Process::new(&sim, 0).unwrap();
    let as_in_file = |segment| Segment { before: Outside::AsInFile, ..segment };
    let segment = as_in_file(Segment::new(0x123, PAGE_SIZE + 0x123, PAGE_SIZE + 10, PAGE_SIZE + 20));
    let PrivateSegment { segment: found, zeros } = image.private_segment(&segment).unwrap();
    assert!(found.vmo.is_same_object(&image.file));
    assert_eq!(zeros, PAGE_SIZE + 0x123 + 10..2 * PAGE_SIZE);
    map(&process, found, RW);
    process.vmar.write_bytes(BASE + zeros.start, &vec![0; zeros.len()]).unwrap();
    let mut expected = file_bytes(PAGE_SIZE..3 * PAGE_SIZE);
    expected[zeros].fill(0);
    assert_eq!(process.read(BASE, 2 * PAGE_SIZE), Ok(expected));
    process.audit();
    // Whole pages have no zeros, and where there are more of them than in the last page there is an object.
    let whole = as_in_file(Segment::new(0x123, 0x123, PAGE_SIZE - 0x123, PAGE_SIZE - 0x123));
    assert_eq!(image.private_segment(&whole).unwrap().zeros.len(), 0);
    let longer = as_in_file(Segment::new(0, 0, PAGE_SIZE + 1, 3 * PAGE_SIZE));
    let shifted = Segment::new(0, 1, 10, 10);
    let before = Segment::new(0x123, 0x123, 100, 100);
    for segment in [longer, shifted, before] {
        let PrivateSegment { segment, zeros } = image.private_segment(&segment).unwrap();
        assert!(!segment.vmo.is_same_object(&image.file) && zeros.is_empty());
    }
}

#[test]
fn h3_pages_behind_the_file_part_are_zeroed_frames() {
    let sim = Sim::new(1);
    let image = image(&sim);
    let process = Process::new(&sim, 0).unwrap();
    let segment = Segment::new(0, 0, PAGE_SIZE, 4 * PAGE_SIZE);
    map(&process, image.segment(&segment).unwrap(), RW);
    let before = sim.live_frames();
    assert_eq!(process.read(BASE + PAGE_SIZE, PAGE_SIZE), Ok(vec![0; PAGE_SIZE]));
    process.write(BASE + 2 * PAGE_SIZE + 5, &[1]).unwrap();
    assert_eq!(process.read(BASE + 2 * PAGE_SIZE, 7), Ok(vec![0, 0, 0, 0, 0, 1, 0]));
    assert_eq!(sim.live_frames(), before + 2);
    process.audit();
}

/// Every segment of three small pages at most: what its pages are made of gives its bytes.
#[test]
fn h4_every_layout_of_three_pages_gives_the_bytes_of_the_file_between_zeros() {
    const PAGE: usize = 4;
    let step = if cfg!(miri) { 7 } else { 1 };
    let mut count = 0;
    for addr in (0..3 * PAGE).step_by(step) {
        for memory_size in (1..=3 * PAGE).step_by(step) {
            for file_size in (0..=memory_size).step_by(step) {
                for file_offset in 0..3 * PAGE {
                    let segment = Segment::new(addr, file_offset, file_size, memory_size);
                    let layout = Layout::new(&segment, PAGE).unwrap();
                    assert_eq!(bytes_of(&layout, PAGE), expected(&segment, PAGE), "{segment:?}");
                    count += 1;
                }
            }
        }
    }
    assert!(cfg!(miri) || count > 10_000);
}

fn bytes_of(layout: &Layout, page: usize) -> Vec<u8> {
    let page_of_file = |index: usize| (index * page..(index + 1) * page).map(file_byte);
    let pages = layout.pages.clone().map(|index| match layout.piece(index, page) {
        Piece::Outside => panic!("page {index} is one of {layout:?}"),
        Piece::Zeros => vec![0; page],
        Piece::File(index) => page_of_file(index).collect(),
        Piece::Mixed(index, keep) => page_of_file(index)
            .enumerate()
            .map(|(at, byte)| if keep.contains(&at) { byte } else { 0 })
            .collect(),
        Piece::Scattered(bytes, at) => {
            let behind = page - at - bytes.len();
            let before = iter::repeat_n(0, at);
            before.chain(bytes.map(file_byte)).chain(iter::repeat_n(0, behind)).collect()
        }
    });
    let bytes: Vec<Vec<u8>> = pages.collect();
    assert_eq!(layout.piece(layout.pages.end, page), Piece::Outside);
    bytes.concat()
}

/// The same on the simulated machine, read and written, shared and private, at the offsets next to where pages meet.
#[test]
fn h4_mixed_pages_have_zeros_before_and_behind_the_file_part() {
    let near =
        [0, 1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 2 * PAGE_SIZE, 3 * PAGE_SIZE - 1, 3 * PAGE_SIZE];
    let near = if cfg!(miri) { &near[1..3] } else { &near[..] };
    let sim = Sim::new(1);
    let image = image(&sim);
    let addrs = if cfg!(miri) { &[1][..] } else { &[0, 1, PAGE_SIZE / 2, PAGE_SIZE - 1] };
    for addr in addrs.iter().copied() {
        for shift in [0, 3] {
            for file_size in near {
                for memory_size in near.iter().filter(|size| *size >= file_size && **size != 0) {
                    let segment = Segment::new(addr, PAGE_SIZE + addr + shift, *file_size, *memory_size);
                    check_on_sim(&sim, &image, &segment);
                }
            }
        }
    }
}

fn check_on_sim(sim: &Sim, image: &ElfImage<Sim>, segment: &Segment) {
    let frames = sim.live_frames();
    let expected = expected(segment, PAGE_SIZE);
    // Read first; written first; written through a shared mapping.
    for (writes, is_shared) in [(false, false), (true, false), (true, true)] {
        let process = Process::new(sim, 0).unwrap();
        let vmo = image.segment(segment).unwrap();
        assert_eq!(vmo.size, expected.len());
        let map = process.vmar.new_map(vmo.size).perms(RW).vmo(vmo.vmo).vmo_offset(vmo.offset);
        let map = if is_shared && !cannot_be_shared(segment) { map.shared() } else { map };
        map.placement(Placement::Exactly(BASE)).build().unwrap();
        if writes {
            for (page, bytes) in expected.chunks(PAGE_SIZE).enumerate() {
                process.write(BASE + page * PAGE_SIZE + 7, &bytes[7..8]).unwrap();
            }
        }
        assert_eq!(process.read(BASE, expected.len()).unwrap(), expected, "{segment:?}");
        process.audit();
    }
    assert_eq!(sim.live_frames(), frames, "{segment:?} leaks");
}

/// A segment that is the file itself has no right to be written.
fn cannot_be_shared(segment: &Segment) -> bool {
    Layout::new(segment, PAGE_SIZE).unwrap().is_all_of_file(PAGE_SIZE)
}

#[test]
fn h5_copies_are_made_visible_to_instruction_fetch() {
    let sim = Sim::new(1);
    let image = image(&sim);
    let process = Process::new(&sim, 0).unwrap();
    let segment = Segment::new(0, 0, 2 * PAGE_SIZE + 10, 2 * PAGE_SIZE + 10);
    map(&process, image.segment(&segment).unwrap(), RX);
    process.fetch_byte(BASE + PAGE_SIZE).unwrap();
    let after = sim.instruction_syncs();
    let second = Process::new(&sim, 0).unwrap();
    map(&second, image.segment(&segment).unwrap(), RX);
    second.fetch_byte(BASE + PAGE_SIZE).unwrap();
    assert_eq!(
        sim.instruction_syncs(),
        after,
        "the image's own frames are coherent once they have been executed"
    );
    // A mixed page is a copy, in each of the segments.
    process.fetch_byte(BASE + 2 * PAGE_SIZE).unwrap();
    assert_eq!(sim.instruction_syncs(), after + 1);
    second.fetch_byte(BASE + 2 * PAGE_SIZE).unwrap();
    assert_eq!(sim.instruction_syncs(), after + 2);
    // So is what a debugger writes where it can be executed.
    let before = sim.instruction_syncs();
    process.vmar.write_bytes_forced(BASE + PAGE_SIZE, &[0xcc]).unwrap();
    let after = sim.instruction_syncs();
    assert!(after > before);
    assert_eq!(process.fetch_byte(BASE + PAGE_SIZE), Ok(0xcc));
    assert_eq!(sim.instruction_syncs(), after);
    // What a program copies by writing is executed later.
    process.vmar.protect(BASE..BASE + PAGE_SIZE, RW).unwrap();
    process.write(BASE, &[0x90]).unwrap();
    assert_eq!(sim.instruction_syncs(), after);
    process.vmar.protect(BASE..BASE + PAGE_SIZE, RX).unwrap();
    assert_eq!(process.fetch_byte(BASE), Ok(0x90));
    assert_eq!(sim.instruction_syncs(), after + 1);
    process.audit();
}

#[test]
fn h8_frames_are_given_back_but_those_of_the_image() {
    let sim = Sim::new(1);
    let image = image(&sim);
    let before = sim.live_frames();
    assert_eq!(before, FILE_PAGES);
    let segment = Segment::new(0x30, 0x30, 2 * PAGE_SIZE, 5 * PAGE_SIZE);
    let process = Process::new(&sim, 0).unwrap();
    map(&process, image.segment(&segment).unwrap(), RW);
    for page in 0..5 {
        process.read_byte(BASE + page * PAGE_SIZE).unwrap();
        process.write(BASE + page * PAGE_SIZE, &[1]).unwrap();
    }
    assert!(sim.live_frames() > before + 4);
    process.vmar.unmap(BASE..BASE + 6 * PAGE_SIZE).unwrap();
    sim.quiesce();
    assert_eq!(sim.live_frames(), before, "private, mixed and zero frames are gone, the image's are not");
    process.audit();
    drop((process, image));
    sim.assert_no_leaks();
}

#[test]
fn h8_what_the_file_loses_leaves_segments_too() {
    let sim = Sim::new(1);
    let image = image(&sim);
    let file: Vmo<Sim, aster_rights::TRightSet<aster_rights::FullRights>> =
        image.file.duplicate(Rights::all()).require().unwrap();
    let process = Process::new(&sim, 0).unwrap();
    let segment = Segment::new(0, 0, 3 * PAGE_SIZE + 5, 3 * PAGE_SIZE + 5);
    map(&process, image.segment(&segment).unwrap(), RW);
    process.write(BASE, &[7]).unwrap();
    for page in 1..4 {
        process.read_byte(BASE + page * PAGE_SIZE).unwrap();
    }
    file.decommit(PAGE_SIZE..2 * PAGE_SIZE).unwrap();
    assert_eq!(process.read_byte(BASE + PAGE_SIZE), Ok(0));
    file.resize(2 * PAGE_SIZE).unwrap();
    assert_eq!(process.read_byte(BASE), Ok(7));
    for page in 2..4 {
        assert_eq!(process.read_byte(BASE + page * PAGE_SIZE), Err(FaultError::BusError));
    }
    process.audit();
}

#[test]
fn h8_every_allocation_of_a_segment_fails_in_turn() {
    let sim = Sim::new(1);
    let image = image(&sim);
    let segment = Segment::new(0x30, 0x31, 2 * PAGE_SIZE, 4 * PAGE_SIZE);
    for nth in inject::in_turn() {
        let before = sim.live_frames();
        let process = Process::new(&sim, 0).unwrap();
        let failing = inject::fail_nth(nth);
        let result = (|| {
            let segment = image.segment(&segment)?;
            let map =
                process.vmar.new_map(segment.size).perms(RW).vmo(segment.vmo).vmo_offset(segment.offset);
            map.placement(Placement::Exactly(BASE)).build()?;
            process.read_byte(BASE)?;
            process.write(BASE + PAGE_SIZE, &[1])?;
            process.write(BASE + 3 * PAGE_SIZE, &[1])?;
            Ok::<_, Error>(())
        })();
        let has_failed = failing.has_failed();
        drop(failing);
        process.audit();
        drop(process);
        assert_eq!(sim.live_frames(), before);
        if !has_failed {
            assert_eq!(result, Ok(()));
            assert!(nth > 8, "only {nth} allocations have failed");
            return;
        }
        assert_eq!(result, Err(Error::OutOfMemory));
    }
}

#[test]
fn segments_that_make_no_sense_are_refused() {
    let sim = Sim::new(1);
    let image = image(&sim);
    let refused = |addr, offset, file_size, memory_size| {
        image.segment(&Segment::new(addr, offset, file_size, memory_size)).err()
    };
    assert_eq!(refused(0, 0, 0, 0), Some(Error::InvalidSize));
    assert_eq!(refused(0, 0, 2, 1), Some(Error::InvalidSize));
    assert_eq!(refused(1, 0, 1, usize::MAX), Some(Error::InvalidOffset));
    assert_eq!(refused(0, usize::MAX, 1, 1), Some(Error::InvalidOffset));
    assert_eq!(refused(0, isize::MAX as usize, 1, 1), Some(Error::InvalidOffset));
    let unreadable = image.file.duplicate(Rights::EXEC);
    assert_eq!(ElfImage::new(unreadable).err(), Some(Error::AccessDenied));
}
