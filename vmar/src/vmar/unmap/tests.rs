// SPDX-License-Identifier: MPL-2.0

use alloc::{vec, vec::Vec};

use proptest::prelude::*;

use super::super::testing::*;
use crate::{
    error::{Error, Limit},
    object::VmoKind,
    rss::RssKind,
    sim::{PAGE_SIZE, Process, Sim},
};

#[test]
fn v12_unmap_cuts_what_it_must_and_no_more() {
    for cut in [0..6, 0..2, 4..6, 2..4, 4..9, 7..9] {
        let process = process();
        map(&process, 0..6, RW);
        touch(&process, 0..6);
        process.vmar.unmap(pages(cut.clone())).unwrap();
        let model: Model = (0..6).map(|page| (!cut.contains(&page)).then_some(RW)).collect();
        assert_eq!(pages_and_perms(&process), runs(&model));
        for page in 0..6 {
            let byte = process.read_byte(at(page));
            assert_eq!(byte.ok(), (!cut.contains(&page)).then_some(page as u8 + 1));
        }
        process.audit();
    }
}

#[test]
fn v12_unmap_of_holes_and_many_mappings() {
    let process = process();
    for page in [0, 2, 3, 7] {
        map(&process, page..page + 1, if page == 3 { R } else { RW });
    }
    touch(&process, 0..1);
    touch(&process, 7..8);
    process.vmar.unmap(pages(1..8)).unwrap();
    assert_eq!(pages_and_perms(&process), [(0..1, RW)]);
    process.vmar.unmap(pages(1..8)).unwrap();
    assert_eq!(process.read_byte(at(0)), Ok(1));
    process.audit();
}

#[test]
fn v12_unmap_of_a_part_of_an_object_keeps_offsets() {
    let process = process();
    let vmo = object(&process, 8, VmoKind::File);
    over(&process, 0..8, R).vmo(vmo.dup()).shared().build().unwrap();
    process.vmar.unmap(pages(2..5)).unwrap();
    let offsets: Vec<_> = layout(&process).into_iter().map(|seen| (seen.pages, seen.offset)).collect();
    assert_eq!(offsets, [(0..2, 0), (5..8, 5 * PAGE_SIZE)]);
    assert_eq!(process.read_byte(at(6)), Ok(7));
    process.audit();
}

#[test]
fn v12_unmap_refuses_bad_ranges() {
    let process = process();
    let end = process.vmar.user_range().end;
    let unmap = |range| process.vmar.unmap(range);
    assert_eq!(unmap(at(0) + 1..at(1)), Err(Error::InvalidAlignment));
    assert_eq!(unmap(at(0)..at(1) + 1), Err(Error::InvalidAlignment));
    assert_eq!(unmap(at(1)..at(1)), Err(Error::InvalidSize));
    assert_eq!(unmap(end - PAGE_SIZE..end + PAGE_SIZE), Err(Error::OutOfRange));
}

#[test]
fn v12_unmap_in_the_middle_keeps_the_limit_on_mappings() {
    let process = process();
    map(&process, 0..5, RW);
    process.vmar.limits().set(Limit::Mappings, 1);
    assert_eq!(process.vmar.unmap(pages(2..3)), Err(Error::LimitExceeded(Limit::Mappings)));
    assert_eq!(pages_and_perms(&process), [(0..5, RW)]);
    process.vmar.unmap(pages(0..1)).unwrap();
}

#[test]
fn v12_unmap_of_what_was_never_touched_leaves_the_page_table_alone() {
    let process = process();
    map(&process, 0..100, RW);
    let before = process.vmar.machine().transactions();
    process.vmar.unmap(pages(0..100)).unwrap();
    assert_eq!(process.vmar.machine().transactions(), before);

    map(&process, 0..100, RW);
    touch(&process, 50..51);
    let before = process.vmar.machine().transactions();
    process.vmar.unmap(pages(51..100)).unwrap();
    process.vmar.unmap(pages(0..50)).unwrap();
    assert_eq!(process.vmar.machine().transactions(), before);
    process.vmar.unmap(pages(0..100)).unwrap();
    assert_eq!(process.vmar.machine().transactions(), before + 1);
}

#[test]
fn v12_unmap_fails_whole_or_not_at_all() {
    let allocations = fail_each_allocation(
        |process| {
            map(process, 0..9, RW);
            touch(process, 0..9);
            let vmo = object(process, 4, VmoKind::File);
            for page in [2, 4, 6] {
                over(process, page..page + 1, R).vmo(vmo.dup()).build().unwrap();
            }
        },
        |process| process.vmar.unmap(pages(1..8)),
    );
    assert!(allocations > 0, "the scenario allocates nothing");
}

#[test]
fn v17_clear_empties_the_space_in_one_pass() {
    let sim = Sim::new(2);
    {
        let process = Process::new(&sim, 0).unwrap();
        let vmo = object(&process, 4, VmoKind::SharedMemory);
        map(&process, 0..4, RW);
        touch(&process, 0..4);
        over(&process, 4..8, RW).vmo(vmo.dup()).shared().build().unwrap();
        touch(&process, 4..8);
        over(&process, 10..14, RW).vmo(vmo).build().unwrap();
        touch(&process, 11..12);
        let before = (sim.transactions(), sim.flushes());
        process.vmar.clear();
        assert_eq!((sim.transactions(), sim.flushes()), (before.0 + 1, before.1 + 1));
        assert_eq!(layout(&process), []);
        assert!(process.vmar.space().walk().is_empty());
        assert_eq!(process.vmar.usage().address_space, 0);
        assert_eq!(process.vmar.rss().total_pages(), 0);
        process.audit();
        // The space is as good as new.
        map(&process, 0..1, RW);
        assert_eq!(process.read_byte(at(0)), Ok(0));
        process.vmar.clear();
        // The object has gone with its last mapping.
        assert_eq!(sim.live_frames(), 0);
    }
    sim.assert_no_leaks();
}

#[test]
fn v18_each_operation_leaves_the_counts_exact() {
    let process = process();
    let count = |kind| process.vmar.rss().pages(kind);
    let file = object(&process, 4, VmoKind::File);
    let shared = object(&process, 4, VmoKind::SharedMemory);
    map(&process, 0..4, RW);
    over(&process, 4..8, RW).vmo(file).build().unwrap();
    over(&process, 8..12, RW).vmo(shared).shared().build().unwrap();
    assert_eq!(process.vmar.rss().total_pages(), 0);
    touch(&process, 0..2);
    process.read_byte(at(2)).unwrap();
    touch(&process, 4..5);
    process.read_byte(at(5)).unwrap();
    touch(&process, 8..10);
    // The frame of zeros is not counted, a private copy is anonymous.
    assert_eq!(count(RssKind::Anonymous), 3);
    assert_eq!(count(RssKind::File), 1);
    assert_eq!(count(RssKind::SharedMemory), 2);
    process.vmar.unmap(pages(1..5)).unwrap();
    assert_eq!((count(RssKind::Anonymous), count(RssKind::File)), (1, 1));
    process.vmar.unmap(pages(5..9)).unwrap();
    assert_eq!((count(RssKind::File), count(RssKind::SharedMemory)), (0, 1));
    process.audit();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 1 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn v12_unmap_of_any_range_is_as_the_model_says(
        steps in prop::collection::vec((0usize..40, 1usize..20, any::<bool>()), 1..if cfg!(miri) { 10 } else { 40 }),
    ) {
        let process = process();
        let mut model: Model = vec![None; 60];
        for (start, count, unmaps) in steps {
            let range = start..start + count;
            if unmaps {
                process.vmar.unmap(pages(range.clone())).unwrap();
                model[range].fill(None);
            } else {
                map(&process, range.clone(), RW);
                touch(&process, start..start + count.min(2));
                model[range].fill(Some(RW));
            }
            process.audit();
            prop_assert_eq!(pages_and_perms(&process), runs(&model));
            let mapped = model.iter().flatten().count();
            prop_assert_eq!(process.vmar.usage().address_space, mapped * PAGE_SIZE);
        }
    }
}
