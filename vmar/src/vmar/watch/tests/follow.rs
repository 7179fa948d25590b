// SPDX-License-Identifier: MPL-2.0

//! Watched memory that is forked or moved.

use super::*;

#[test]
fn a_forked_child_is_watched_only_if_somebody_goes_on() {
    for policy in [ForkPolicy::Copy, ForkPolicy::Backup] {
        let process = process();
        process.vmar.set_fork_policy(policy);
        map(&process, 0..6, RW);
        touch(&process, 0..6);
        let heir = Arc::new(Recorder::new(refuse()));
        let alone = Arc::new(Recorder::new(serve(&process)));
        let mut followed = Recorder::new(serve(&process));
        followed.heir = Some(heir.clone());
        let followed = Arc::new(followed);
        watch(&process, 0..2, WRITES, &alone);
        watch(&process, 2..4, WRITES | MISSING, &followed);
        mark(&process, 0..2);
        mark(&process, 2..4);
        process.vmar.discard(pages(3..4), Discard::Now).unwrap();
        let child = process.fork_on(1).unwrap();
        process.audit();
        child.audit();
        // The parent's are as they were.
        process.write(at(0), &[50]).unwrap();
        process.write(at(2), &[51]).unwrap();
        assert_eq!((alone.take().len(), followed.take().len()), (1, 1));
        // The child's are its own.
        child.write(at(0), &[60]).unwrap();
        assert_eq!(child.read_byte(at(2)).unwrap(), 3);
        assert_eq!(child.write(at(2), &[61]), Err(FaultError::BusError));
        assert_eq!(child.read_byte(at(3)), Err(FaultError::BusError));
        let expected = [(2, HandReason::Write, Access::Write), (3, HandReason::Missing, Access::Read)];
        assert_eq!(heir.take(), expected);
        assert_eq!(child.vmar.watchers().unwrap().len(), 1);
        assert_eq!(process.read_byte(at(0)).unwrap(), 50);
        // Two of the three are alike in the child, but for the pages that are watched.
        assert_eq!(layout(&child).len(), 3);
        process.audit();
        child.audit();
    }
}

#[test]
fn what_is_borrowed_is_shown_before_it_is_watched() {
    let process = process();
    process.vmar.set_fork_policy(ForkPolicy::Backup);
    map(&process, 0..6, RW);
    touch(&process, 0..6);
    let child = process.fork_on(1).unwrap();
    let handler = Arc::new(Recorder::new(serve(&child)));
    watch(&child, 1..5, MISSING | WRITES, &handler);
    mark(&child, 1..5);
    assert_eq!(child.read_byte(at(2)).unwrap(), 3);
    child.write(at(2), &[9]).unwrap();
    assert_eq!(handler.take(), [(2, HandReason::Write, Access::Write)]);
    process.write(at(2), &[8]).unwrap();
    child.audit();
    process.audit();
    drop(process);
    child.write(at(3), &[7]).unwrap();
    assert_eq!(handler.take(), [(3, HandReason::Write, Access::Write)]);
    let grandchild = child.fork_on(0).unwrap();
    assert_eq!(grandchild.read_byte(at(2)).unwrap(), 9);
    grandchild.write(at(4), &[1]).unwrap();
    child.audit();
    grandchild.audit();
}

#[test]
fn a_move_takes_marks_along_only_for_who_follows() {
    for follows in [false, true] {
        let process = process();
        map(&process, 0..2, RW);
        touch(&process, 0..2);
        let mut handler = Recorder::new(serve(&process));
        handler.follows = follows;
        let handler = Arc::new(handler);
        watch(&process, 0..2, MISSING | WRITES, &handler);
        mark(&process, 1..2);
        map(&process, 8..12, RW);
        process.vmar.remap(pages(0..2), 4 * PAGE_SIZE, RemapTarget::Fixed(at(8))).unwrap();
        process.write(at(8), &[20]).unwrap();
        process.write(at(9), &[21]).unwrap();
        assert_eq!(process.read_byte(at(10)).unwrap(), if follows { 110 } else { 0 });
        let expected: &[_] = match follows {
            true => &[(9, HandReason::Write, Access::Write), (10, HandReason::Missing, Access::Read)],
            false => &[],
        };
        assert_eq!(handler.take(), expected);
        // What is mapped anew at the old place is nobody's.
        map(&process, 0..2, RW);
        touch(&process, 0..2);
        assert_eq!(handler.take(), []);
        process.audit();
    }
}

#[test]
fn what_is_left_behind_by_a_move_is_missing() {
    let (process, handler) = watched(0..2, MISSING | WRITES);
    touch(&process, 0..2);
    handler.take();
    mark(&process, 0..2);
    let to = RemapTarget::DontUnmap(Placement::Replacing(at(8)));
    process.vmar.remap(pages(0..2), 2 * PAGE_SIZE, to).unwrap();
    assert_eq!(process.read_byte(at(8)).unwrap(), 1);
    process.write(at(9), &[3]).unwrap();
    assert_eq!(handler.take(), []);
    process.write(at(0), &[1]).unwrap();
    assert_eq!(handler.take(), [(0, HandReason::Missing, Access::Write)]);
    process.audit();
}
