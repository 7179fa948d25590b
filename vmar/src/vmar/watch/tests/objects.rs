// SPDX-License-Identifier: MPL-2.0

//! Watched mappings of objects.

use super::*;
use crate::machine::PageFlags;

#[test]
fn of_an_object_what_it_has_is_minor_and_the_rest_is_missing() {
    let process = process();
    let vmo = object(&process, 4, VmoKind::SharedMemory);
    vmo.decommit(2 * PAGE_SIZE..3 * PAGE_SIZE).unwrap();
    over(&process, 0..4, RW).vmo(vmo.dup().to_dynamic()).shared().fault_around().build().unwrap();
    let handler = Arc::new(Recorder::new(serve(&process)));
    watch(&process, 0..4, MISSING | WatchModes::MINOR, &handler);
    assert_eq!(process.read_byte(at(0)).unwrap(), 1);
    assert_eq!(process.read_byte(at(2)).unwrap(), 102);
    let mut byte = [0];
    vmo.read_bytes(2 * PAGE_SIZE, &mut byte).unwrap();
    assert_eq!(byte, [102]);
    process.write(at(3), &[9]).unwrap();
    let reasons = [
        (0, HandReason::Minor, Access::Read),
        (2, HandReason::Missing, Access::Read),
        (3, HandReason::Minor, Access::Write),
    ];
    assert_eq!(handler.take(), reasons);
    // Only what nobody has.
    unwatch(&process, 0..4);
    watch(&process, 0..4, MISSING, &handler);
    assert_eq!(process.read_byte(at(1)).unwrap(), 2);
    assert_eq!(handler.take(), []);
    vmo.resize(PAGE_SIZE).unwrap();
    assert_eq!(process.read_byte(at(2)), Err(FaultError::BusError));
    let fill = |content| process.vmar.fill(pages(0..4), at(2), content, WriteProtection::Cleared);
    assert_eq!(fill(Fill::Zeros), Err(Error::BusError));
    process.audit();
}

#[test]
fn pages_of_an_object_are_marked_before_they_are_there() {
    let process = process();
    let vmo = object(&process, 4, VmoKind::SharedMemory);
    over(&process, 0..4, RW).vmo(vmo.dup().to_dynamic()).shared().fault_around().build().unwrap();
    let handler = Arc::new(Recorder::new(serve(&process)));
    watch(&process, 0..4, WRITES, &handler);
    mark(&process, 0..4);
    assert_eq!(process.read_byte(at(1)).unwrap(), 2);
    process.write(at(1), &[5]).unwrap();
    process.write(at(2), &[6]).unwrap();
    let writes = [(1, HandReason::Write, Access::Write), (2, HandReason::Write, Access::Write)];
    assert_eq!(handler.take(), writes);
    // Marks outlive the entries.
    process.vmar.discard(pages(0..4), Discard::Now).unwrap();
    process.write(at(3), &[7]).unwrap();
    assert_eq!(handler.take(), [(3, HandReason::Write, Access::Write)]);
    process.audit();
}

#[test]
fn marked_page_of_an_object_is_there_before_its_write_is_handed_over() {
    for is_shared in [true, false] {
        let process = process();
        let vmo = object(&process, 2, VmoKind::SharedMemory);
        vmo.decommit(0..2 * PAGE_SIZE).unwrap();
        let map = over(&process, 0..2, RW).vmo(vmo.dup().to_dynamic());
        if is_shared { map.shared().build() } else { map.build() }.unwrap();
        let handler = Arc::new(Recorder::new(refuse()));
        watch(&process, 0..2, WRITES, &handler);
        mark(&process, 0..2);
        assert_eq!(process.write(at(1), &[1]), Err(FaultError::BusError));
        assert_eq!(handler.take(), [(1, HandReason::Write, Access::Write)]);
        let entries = process.resident();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].props.flags.contains(PageFlags::PRIVATE), !is_shared);
        assert!(!entries[0].props.flags.contains(PageFlags::WRITE));
        // A copy, too, is one of a page that the object has.
        assert_eq!(vmo.resident_count(), 1);
        process.audit();
    }
}

#[test]
fn a_private_mapping_of_an_object_gets_pages_of_its_own() {
    let process = process();
    let vmo = object(&process, 2, VmoKind::SharedMemory);
    vmo.decommit(0..2 * PAGE_SIZE).unwrap();
    over(&process, 0..2, RW).vmo(vmo.dup().to_dynamic()).build().unwrap();
    let handler = Arc::new(Recorder::new(serve(&process)));
    watch(&process, 0..2, MISSING | WRITES, &handler);
    assert_eq!(process.read_byte(at(0)).unwrap(), 100);
    assert_eq!(vmo.resident_count(), 0);
    let fill = |content| process.vmar.fill(pages(0..2), at(1), content, WriteProtection::Set);
    assert_eq!(fill(Fill::Zeros), Ok(()));
    handler.take();
    process.write(at(1), &[3]).unwrap();
    assert_eq!(handler.take(), [(1, HandReason::Write, Access::Write)]);
    process.audit();
}
