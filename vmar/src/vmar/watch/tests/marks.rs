// SPDX-License-Identifier: MPL-2.0

//! Pages whose writes are handed over.

use super::*;

#[test]
fn a_write_to_a_marked_page_is_handed_over_and_a_read_is_not() {
    let (process, handler) = watched(0..4, WRITES);
    touch(&process, 0..3);
    mark(&process, 0..4);
    assert_eq!(process.read_byte(at(1)).unwrap(), 2);
    // It was not resident, so it could not be marked.
    process.write(at(3), &[1]).unwrap();
    assert_eq!(handler.take(), []);
    process.write(at(1), &[9]).unwrap();
    process.write(at(1), &[10]).unwrap();
    assert_eq!(handler.take(), [(1, HandReason::Write, Access::Write)]);
    process.audit();
    process.vmar.write_protect(pages(0..4), WriteProtection::Cleared).unwrap();
    touch(&process, 0..4);
    assert_eq!(handler.take(), []);
    process.audit();
}

#[test]
fn marks_stay_whatever_the_permissions_do() {
    let (process, handler) = watched(0..2, WRITES);
    touch(&process, 0..2);
    mark(&process, 0..2);
    process.vmar.protect(pages(0..1), R).unwrap();
    assert_eq!(process.write(at(0), &[1]), Err(FaultError::NoPermission));
    process.vmar.protect(pages(0..1), RW).unwrap();
    process.audit();
    process.write(at(0), &[1]).unwrap();
    process.vmar.protect(pages(0..2), R).unwrap();
    process.vmar.protect(pages(0..2), RW).unwrap();
    process.write(at(1), &[1]).unwrap();
    assert_eq!(handler.take().len(), 2);
    process.audit();
}

#[test]
fn marks_go_with_the_pages() {
    let (process, handler) = watched(0..4, WRITES);
    touch(&process, 0..4);
    mark(&process, 0..4);
    process.vmar.discard(pages(0..1), Discard::Now).unwrap();
    process.vmar.zero(pages(1..2)).unwrap();
    process.vmar.unmap(pages(2..3)).unwrap();
    map(&process, 2..3, RW);
    watch(&process, 2..3, WRITES, &handler);
    touch(&process, 0..3);
    assert_eq!(handler.take(), []);
    process.write(at(3), &[1]).unwrap();
    assert_eq!(handler.take().len(), 1);
    process.audit();
}
