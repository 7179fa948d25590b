// SPDX-License-Identifier: MPL-2.0

//! Mapping in place of what is there.

use super::*;

#[test]
fn v10_replacing_cuts_splits_and_removes() {
    let process = process();
    map(&process, 0..10, RW);
    touch(&process, 0..10);
    over(&process, 4..6, R).build().unwrap();
    assert_eq!(pages_and_perms(&process), [(0..4, RW), (4..6, R), (6..10, RW)]);
    assert_eq!(process.read_byte(at(4)), Ok(0));
    assert_eq!(process.read_byte(at(3)), Ok(4));
    over(&process, 3..8, RX).build().unwrap();
    assert_eq!(pages_and_perms(&process), [(0..3, RW), (3..8, RX), (8..10, RW)]);
    over(&process, 0..12, R).build().unwrap();
    assert_eq!(pages_and_perms(&process), [(0..12, R)]);
    assert!(process.vmar.space().walk().is_empty());
    process.audit();
}

#[test]
fn v10_replacing_is_one_transaction_and_one_flush() {
    let process = process();
    let sim = process.vmar.machine();
    map(&process, 0..10, RW);
    touch(&process, 0..10);
    let before = (sim.transactions(), sim.flushes());
    over(&process, 2..8, R).build().unwrap();
    assert_eq!((sim.transactions(), sim.flushes()), (before.0 + 1, before.1 + 1));
}

fn three_kinds(process: &Process) {
    map(process, 0..4, RW);
    over(process, 4..8, R).vmo(object(process, 4, VmoKind::File)).build().unwrap();
    over(process, 8..12, RW).vmo(object(process, 4, VmoKind::SharedMemory)).shared().build().unwrap();
    touch(process, 0..4);
    touch(process, 8..12);
}

#[test]
fn v10_replacing_fails_whole_or_not_at_all() {
    let allocations =
        fail_each_allocation(three_kinds, |process| over(process, 2..10, RW).build().map(|_| ()));
    assert!(allocations > 0);
    let allocations = fail_each_allocation(three_kinds, |process| {
        let vmo = Vmo::new(process.vmar.machine(), 8 * PAGE_SIZE, VmoKind::File)?;
        over(process, 2..10, RW).vmo(vmo).build().map(|_| ())
    });
    assert!(allocations > 1);
}

#[test]
fn v10_replacing_by_a_device_fails_whole_or_not_at_all() {
    let io = SimIoMem::new(8);
    let allocations = fail_each_allocation(three_kinds, |process| {
        over(process, 2..10, RW).device(io.clone(), 0, CachePolicy::WriteBack).build().map(|_| ())
    });
    assert!(allocations > 1);
}

#[test]
fn v10_what_refuses_a_replacement_changes_nothing() {
    let process = process();
    three_kinds(&process);
    let before = snapshot(&process);
    process.vmar.limits().set(Limit::AddressSpace, 14 * PAGE_SIZE);
    let result = over(&process, 2..18, RW).build();
    assert_eq!(result, Err(Error::LimitExceeded(Limit::AddressSpace)));
    let result = over(&process, 2..4, RW).vmo(object(&process, 1, VmoKind::File)).vmo_offset(1).build();
    assert_eq!(result, Err(Error::InvalidAlignment));
    assert_eq!(snapshot(&process), before);
}
