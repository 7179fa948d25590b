// SPDX-License-Identifier: MPL-2.0

mod limits;
mod merge;
mod replace;

use alloc::{vec, vec::Vec};

use aster_rights::{FullRights, TRightSet};

use super::{
    super::{FullVmar, fault::FaultError, testing::*},
    *,
};
use crate::{
    backing::{Capabilities, FileState, Refusal},
    limits::Limits,
    object::VmoKind,
    placement::Window,
    rss::RssKind,
    sim::{PAGE_SIZE, Process, Sim, SimIoMem},
};

#[test]
fn v9_size_must_be_whole_pages() {
    let process = process();
    for size in [0, 1, PAGE_SIZE - 1, PAGE_SIZE + 1, usize::MAX] {
        assert_eq!(process.vmar.new_map(size).build(), Err(Error::InvalidSize));
    }
}

#[test]
fn v9_alignment_must_be_a_power_of_two_of_pages_and_is_kept() {
    let process = process();
    for align in [0, 1, 100, PAGE_SIZE / 2, 3 * PAGE_SIZE] {
        assert_eq!(process.vmar.new_map(PAGE_SIZE).align(align).build(), Err(Error::InvalidAlignment));
    }
    for shift in 0..10 {
        let align = PAGE_SIZE << shift;
        let addr = process.vmar.new_map(PAGE_SIZE).align(align).read().build().unwrap();
        assert!(addr.is_multiple_of(align));
    }
    let off = Placement::Exactly(at(1));
    let result = process.vmar.new_map(PAGE_SIZE).align(64 * PAGE_SIZE).placement(off).build();
    assert_eq!(result, Err(Error::InvalidAlignment));
    process.audit();
}

#[test]
fn v9_addresses_must_be_whole_pages_within_the_space() {
    let process = process();
    let end = process.vmar.user_range().end;
    type Make = fn(usize) -> Placement;
    for make in [Placement::Exactly as Make, Placement::Replacing as Make] {
        let build = |addr| process.vmar.new_map(2 * PAGE_SIZE).placement(make(addr)).build();
        assert_eq!(build(at(0) + 1), Err(Error::InvalidAlignment));
        assert_eq!(build(end - PAGE_SIZE), Err(Error::OutOfRange));
        assert_eq!(build(usize::MAX - PAGE_SIZE + 1), Err(Error::OutOfRange));
        assert_eq!(build(0), Err(Error::OutOfRange));
        assert_eq!(build(end - 2 * PAGE_SIZE), Ok(end - 2 * PAGE_SIZE));
        process.vmar.clear();
    }
    assert_eq!(
        process.vmar.new_map(PAGE_SIZE).placement(Placement::Hint(at(0) + 1)).build(),
        Err(Error::InvalidAlignment)
    );
}

#[test]
fn v9_offsets_must_be_whole_pages_that_do_not_overflow() {
    let process = process();
    let vmo = object(&process, 2, VmoKind::File);
    let build = |offset| process.vmar.new_map(2 * PAGE_SIZE).read().vmo(vmo.dup()).vmo_offset(offset).build();
    assert_eq!(build(1), Err(Error::InvalidAlignment));
    assert_eq!(build(usize::MAX - PAGE_SIZE + 1), Err(Error::InvalidOffset));
    // Past the end of the object is fine: that is for the fault to say.
    let addr = build(PAGE_SIZE).unwrap();
    assert_eq!(process.read_byte(addr), Ok(2));
    assert_eq!(process.read_byte(addr + PAGE_SIZE), Err(FaultError::BusError));
    let io = SimIoMem::new(4);
    let device = |pages: usize, offset| {
        process.vmar.new_map(pages * PAGE_SIZE).device(io.clone(), offset, CachePolicy::WriteBack).build()
    };
    assert_eq!(device(5, 0), Err(Error::InvalidOffset));
    assert_eq!(device(4, PAGE_SIZE), Err(Error::InvalidOffset));
    assert!(device(3, PAGE_SIZE).is_ok());
}

#[test]
fn v9_rights_bound_permissions() {
    let process = process();
    let vmo = object(&process, 1, VmoKind::File);
    let build = |rights, perms, sharing| {
        let vmo = vmo.dup().to_dynamic().limit(rights);
        let options = process.vmar.new_map(PAGE_SIZE).perms(perms).vmo(vmo);
        if sharing == Sharing::Shared { options.shared().build() } else { options.build() }
    };
    let all = Rights::READ | Rights::WRITE | Rights::EXEC;
    for sharing in [Sharing::Shared, Sharing::Private] {
        assert!(build(all, RW, sharing).is_ok());
        assert_eq!(build(all - Rights::READ, NONE, sharing), Err(Error::AccessDenied));
        assert_eq!(build(all - Rights::EXEC, RX, sharing), Err(Error::AccessDenied));
        assert!(build(all - Rights::WRITE, R, sharing).is_ok());
    }
    assert_eq!(build(all - Rights::WRITE, RW, Sharing::Shared), Err(Error::AccessDenied));
    assert!(build(all - Rights::WRITE, RW, Sharing::Private).is_ok());
}

/// A file.
#[derive(Debug)]
struct Named;

impl Mappable for Named {}

#[test]
fn v9_what_backs_a_mapping_bounds_it_and_is_kept() {
    let process = process();
    let state = Backing::MEMORY.state | FileState::NO_EXEC;
    let no_exec = Backing { state, ..Backing::MEMORY };
    let vmo = || object(&process, 1, VmoKind::File);
    let options = || process.vmar.new_map(PAGE_SIZE).vmo(vmo()).mappable(Arc::new(Named)).backing(no_exec);
    assert_eq!(options().perms(RX).build(), Err(Error::Refused(Refusal::NoExec)));
    assert_eq!(options().perms(RX).plan(), Err(Error::Refused(Refusal::NoExec)));
    let addr = options().read().personality(Personality::ReadImpliesExec).build().unwrap();
    assert_eq!(process.vmar.protect(addr..addr + PAGE_SIZE, RX), Err(Error::AccessDenied));
    let guard = process.vmar.query(addr..addr + 1);
    let info = guard.first().unwrap();
    let mappable: &dyn core::any::Any = info.mappable().unwrap().as_ref();
    assert!(mappable.is::<Named>());
}

#[test]
fn n6_what_cannot_be_executed_in_place_is_copied_in() {
    let process = process();
    let vmo = object(&process, 2, VmoKind::File);
    let capabilities = Capabilities::all() - Capabilities::EXEC_MAP;
    let backing = Backing { capabilities, ..Backing::MEMORY };
    let options = |perms| over(&process, 0..2, perms).vmo(vmo.dup()).backing(backing).fault_around();
    assert_eq!(options(RX).shared().build(), Err(Error::Refused(Refusal::BeyondCapabilities)));
    assert_eq!(options(R).plan().unwrap().method, Method::CopyOnWrite);
    assert_eq!(options(RX).plan().unwrap().method, Method::CopyIn);
    options(RX).build().unwrap();
    assert_eq!([process.fetch_byte(at(0)), process.read_byte(at(1))], [Ok(1), Ok(2)]);
    // The pages are the mapping's own: no frame of the object is shown.
    assert_eq!(process.vmar.rss().pages(RssKind::Anonymous), 2);
    vmo.write_bytes(0, &[9]).unwrap();
    assert_eq!(process.read_byte(at(0)), Ok(1));
    let child = process.fork_on(1).unwrap();
    assert_eq!([child.fetch_byte(at(0)), child.fetch_byte(at(1))], [Ok(1), Ok(2)]);
    process.vmar.protect(pages(0..2), RW).unwrap();
    process.write(at(0), &[7]).unwrap();
    assert_eq!([child.read_byte(at(0)), process.read_byte(at(0))], [Ok(1), Ok(7)]);
    process.audit();
    child.audit();
}

#[test]
fn n14_what_backs_a_mapping_decides_its_may_bits() {
    let process = process();
    let vmo = object(&process, 1, VmoKind::File);
    let capabilities = Capabilities::all() - Capabilities::WRITE_MAP;
    let backing = Backing { capabilities, ..Backing::MEMORY };
    let options = || over(&process, 0..1, R).vmo(vmo.dup()).backing(backing);
    options().shared().build().unwrap();
    assert_eq!(process.vmar.protect(pages(0..1), RW), Err(Error::AccessDenied));
    process.vmar.protect(pages(0..1), RX).unwrap();
    options().build().unwrap();
    process.vmar.protect(pages(0..1), RW).unwrap();
}

#[test]
fn v5_the_ceiling_of_a_space_bounds_all_its_mappings() {
    let ceiling = Rights::READ | Rights::WRITE;
    let vmar = FullVmar::with_ceiling(Sim::new(1), Limits::new(), ceiling).unwrap();
    assert_eq!(vmar.new_map(PAGE_SIZE).perms(RX).build(), Err(Error::AccessDenied));
    let addr = vmar.new_map(PAGE_SIZE).perms(RW).build().unwrap();
    assert_eq!(vmar.protect(addr..addr + PAGE_SIZE, RX), Err(Error::AccessDenied));
}

#[test]
fn v9_contradicting_options_are_refused() {
    let process = process();
    assert_eq!(process.vmar.new_map(PAGE_SIZE).shared().build(), Err(Error::InvalidOptions));
    let vmo = object(&process, 1, VmoKind::SharedMemory);
    let shared = process.vmar.new_map(PAGE_SIZE).vmo(vmo).shared();
    assert_eq!(shared.flags(MappingFlags::GROWS_DOWN).build(), Err(Error::InvalidOptions));
}

#[test]
fn v9_exactly_refuses_what_is_occupied() {
    let process = process();
    map(&process, 2..4, RW);
    for range in [0..3, 2..3, 3..9, 0..9, 2..4] {
        let place = Placement::Exactly(at(range.start));
        let result = process.vmar.new_map(range.len() * PAGE_SIZE).placement(place).build();
        assert_eq!(result, Err(Error::Occupied), "{range:?}");
    }
    for range in [0..2, 4..9] {
        let place = Placement::Exactly(at(range.start));
        let result = process.vmar.new_map(range.len() * PAGE_SIZE).placement(place).build();
        assert_eq!(result, Ok(at(range.start)));
    }
}

#[test]
fn v9_hints_are_followed_where_there_is_room() {
    let process = process();
    let hint = |page| process.vmar.new_map(2 * PAGE_SIZE).placement(Placement::Hint(at(page))).build();
    assert_eq!(hint(3), Ok(at(3)));
    let elsewhere = hint(4).unwrap();
    assert!(elsewhere != at(4) && elsewhere >= at(100));
    // Below the floor is as good as at it.
    let floor = process.vmar.window().floor;
    let low = process.vmar.new_map(PAGE_SIZE).placement(Placement::Hint(PAGE_SIZE)).build();
    assert_eq!(low, Ok(floor));
    process.audit();
}

#[test]
fn v9_below_stays_below() {
    let process = process();
    let below = |page, count| {
        process.vmar.new_map(count * PAGE_SIZE).perms(RW).placement(Placement::Below(at(page))).build()
    };
    assert_eq!(below(10, 4), Ok(at(6)));
    assert_eq!(below(10, 4), Ok(at(2)));
    assert_eq!(process.vmar.new_map(1 << 40).placement(Placement::Below(at(1))).build(), Err(Error::NoRoom));
}

#[test]
fn v9_apart_keeps_what_is_behind_free() {
    let process = process();
    let map = |page, placement, flags| {
        process.vmar.new_map(PAGE_SIZE).placement(placement).flags(flags).build().map(|addr| addr - at(page))
    };
    let apart = |page| map(page, Placement::Apart(at(page), PAGE_SIZE), MappingFlags::empty());
    map(10, Placement::Exactly(at(10)), MappingFlags::empty()).unwrap();
    assert_eq!(apart(9), Err(Error::Occupied));
    assert_eq!(apart(8), Ok(0));
    assert_eq!(apart(11), Ok(0));
    // What grows down keeps its distance.
    map(400, Placement::Exactly(at(400)), MappingFlags::GROWS_DOWN).unwrap();
    assert_eq!(apart(143), Err(Error::Occupied));
    assert_eq!(apart(142), Ok(0));
    process.audit();
}

#[test]
fn v9_between_is_bottom_up_unless_the_hint_is_free() {
    let process = process();
    let between = |hint: Option<usize>, count| {
        let placement = Placement::Between { hint: hint.map(at), from: at(4), below: at(10) };
        process.vmar.new_map(count * PAGE_SIZE).perms(RW).placement(placement).build()
    };
    assert_eq!(between(None, 2), Ok(at(4)));
    assert_eq!(between(Some(8), 1), Ok(at(8)));
    assert_eq!(between(Some(8), 2), Ok(at(6)));
    // The hint may lie below; what would reach beyond the end is placed elsewhere.
    assert_eq!(between(Some(2), 1), Ok(at(2)));
    assert_eq!(between(Some(9), 2), Err(Error::NoRoom));
    assert_eq!(between(None, 1), Ok(at(9)));
    assert_eq!(between(None, 1), Err(Error::NoRoom));
    process.audit();
}

#[test]
fn v9_anywhere_is_top_down_in_the_window_and_bottom_up_beyond() {
    let process = process();
    process.vmar.set_window(Window { floor: at(0), base: at(10), bottom: at(10), ceiling: at(20) });
    let map = |count: usize| {
        let place = process.vmar.find_room(count * PAGE_SIZE, PAGE_SIZE);
        let start = process.vmar.new_map(count * PAGE_SIZE).perms(RW).build();
        assert_eq!(place, start);
        start
    };
    assert_eq!(map(4), Ok(at(6)));
    assert_eq!(map(4), Ok(at(2)));
    assert_eq!(map(4), Ok(at(10)));
    assert_eq!(map(2), Ok(at(0)));
    assert_eq!(map(6), Ok(at(14)));
    assert_eq!(map(1), Err(Error::NoRoom));
    assert_eq!(layout(&process).len(), 1);
    assert_eq!(process.vmar.find_room(0, PAGE_SIZE), Err(Error::InvalidSize));
    assert_eq!(process.vmar.find_room(PAGE_SIZE, 1), Err(Error::InvalidAlignment));
    process.audit();
}

#[test]
fn v9_others_keep_away_from_what_grows_down() {
    const GUARD: usize = super::super::place::GUARD_PAGES;
    let process = process();
    let ceiling = at(2 * GUARD + 30);
    process.vmar.set_window(Window { floor: at(0), base: ceiling, bottom: at(0), ceiling });
    let stack = over(&process, GUARD + 10..GUARD + 20, RW).flags(MappingFlags::GROWS_DOWN);
    stack.build().unwrap();
    let map = |count: usize| process.vmar.new_map(count * PAGE_SIZE).perms(R).build();
    assert_eq!(map(GUARD + 10), Ok(at(GUARD + 20)));
    assert_eq!(map(4), Ok(at(6)));
    assert_eq!(map(7), Err(Error::NoRoom));
    assert_eq!(process.vmar.new_map(PAGE_SIZE).placement(Placement::Hint(at(10))).build(), Ok(at(5)));
    // Whoever insists may.
    let place = Placement::Exactly(at(GUARD + 9));
    assert_eq!(process.vmar.new_map(PAGE_SIZE).placement(place).build(), Ok(at(GUARD + 9)));
}

#[test]
fn v9_flags_and_device_memory_are_kept() {
    let process = process();
    let io = SimIoMem::new(4);
    let device = |perms| {
        process
            .vmar
            .new_map(2 * PAGE_SIZE)
            .perms(perms)
            .device(io.clone(), PAGE_SIZE, CachePolicy::Uncacheable)
            .shared()
            .flags(MappingFlags::DONT_DUMP)
            .build()
    };
    let addr = device(RW).unwrap();
    // Mapped at once: no fault is needed.
    assert_eq!(process.vmar.space().walk().len(), 2);
    process.cpu().store(process.vmar.space(), addr, &[5]).unwrap();
    let mut byte = [0];
    io.read(PAGE_SIZE, &mut byte);
    assert_eq!(byte, [5]);
    assert_eq!(layout(&process)[0].flags, MappingFlags::DONT_DUMP);
    process.audit();
}

#[test]
fn v9_populated_and_locked_mappings_are_resident() {
    let process = process();
    let resident = || process.vmar.rss().total_pages();
    over(&process, 0..4, RW).populate().build().unwrap();
    assert_eq!(resident(), 4);
    over(&process, 10..12, RW).flags(MappingFlags::LOCKED).build().unwrap();
    assert_eq!(resident(), 6);
    over(&process, 20..22, RW).flags(MappingFlags::ANY_LOCK).build().unwrap();
    process.vmar.set_default_flags(MappingFlags::LOCKED);
    map(&process, 30..32, RW);
    assert_eq!(resident(), 8);
    assert_eq!(process.vmar.usage().locked, 6 * PAGE_SIZE);
    process.audit();
}

#[test]
fn populating_leaves_out_what_is_locked_as_it_is_touched() {
    let process = process();
    let map = |flags| process.vmar.new_map(2 * PAGE_SIZE).perms(RW).flags(flags).populate().build().unwrap();
    map(MappingFlags::ANY_LOCK);
    assert_eq!(process.vmar.rss().total_pages(), 0);
    map(MappingFlags::empty());
    assert_eq!(process.vmar.rss().total_pages(), 2);
    process.audit();
}
