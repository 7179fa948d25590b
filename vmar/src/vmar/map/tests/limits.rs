// SPDX-License-Identifier: MPL-2.0

//! Bounds on what a space may hold.

use super::*;

#[test]
fn v11_address_space_limit_counts_what_a_replacement_adds() {
    let process = process();
    process.vmar.limits().set(Limit::AddressSpace, 10 * PAGE_SIZE);
    map(&process, 0..8, R);
    let limited = Err(Error::LimitExceeded(Limit::AddressSpace));
    assert_eq!(process.vmar.new_map(3 * PAGE_SIZE).build(), limited);
    assert_eq!(over(&process, 6..11, R).build(), limited);
    assert_eq!(over(&process, 6..10, RW).build(), Ok(at(6)));
    assert_eq!(over(&process, 0..10, R).build(), Ok(at(0)));
    assert_eq!(process.vmar.usage().address_space, 10 * PAGE_SIZE);
    assert_eq!(process.vmar.usage().peak_address_space, 10 * PAGE_SIZE);
}

#[test]
fn v11_data_limit_counts_private_writable_memory() {
    let process = process();
    process.vmar.limits().set(Limit::Data, 4 * PAGE_SIZE);
    map(&process, 0..3, RW);
    map(&process, 10..20, R);
    let vmo = object(&process, 8, VmoKind::SharedMemory);
    over(&process, 20..28, RW).vmo(vmo).shared().build().unwrap();
    over(&process, 600..610, RW).flags(MappingFlags::GROWS_DOWN).build().unwrap();
    assert_eq!(process.vmar.usage().data, 3 * PAGE_SIZE);
    assert_eq!(over(&process, 3..5, RW).build(), Err(Error::LimitExceeded(Limit::Data)));
    assert_eq!(over(&process, 2..4, RW).build(), Ok(at(2)));
    // What is replaced makes room, whatever it was.
    assert_eq!(over(&process, 9..11, RW).build(), Err(Error::LimitExceeded(Limit::Data)));
    assert_eq!(over(&process, 10..14, RW).build(), Ok(at(10)));
    assert_eq!(process.vmar.usage().data, 8 * PAGE_SIZE);
    process.audit();
}

#[test]
fn v11_stack_limit_bounds_growth() {
    let process = process();
    process.vmar.limits().set(Limit::Stack, 6 * PAGE_SIZE);
    over(&process, 600..604, RW).flags(MappingFlags::GROWS_DOWN).build().unwrap();
    process.write(at(598), &[1]).unwrap();
    assert_eq!(process.write(at(597), &[1]), Err(FaultError::NotMapped));
    assert_eq!(process.vmar.usage().stack, 6 * PAGE_SIZE);
    process.audit();
}

#[test]
fn v11_locked_limit_counts_locked_memory() {
    let process = process();
    process.vmar.limits().set(Limit::Locked, 4 * PAGE_SIZE);
    over(&process, 0..3, RW).flags(MappingFlags::LOCKED).build().unwrap();
    let more = |range| over(&process, range, RW).flags(MappingFlags::LOCKED).build();
    assert_eq!(more(10..12), Err(Error::LimitExceeded(Limit::Locked)));
    // What is replaced counts until it is gone, as in Linux.
    assert_eq!(more(2..4), Err(Error::LimitExceeded(Limit::Locked)));
    assert_eq!(more(3..4), Ok(at(3)));
    assert_eq!(more(3..4), Err(Error::LimitExceeded(Limit::Locked)));
    assert_eq!(process.vmar.usage().locked, 4 * PAGE_SIZE);
}

#[test]
fn v11_the_number_of_mappings_is_limited() {
    let process = process();
    process.vmar.limits().set(Limit::Mappings, 4);
    for page in 0..5 {
        map(&process, 2 * page..2 * page + 1, R);
    }
    let result = over(&process, 20..21, R).build();
    assert_eq!(result, Err(Error::LimitExceeded(Limit::Mappings)));
    assert_eq!(Limits::new().get(Limit::Mappings), 65_530);
}
