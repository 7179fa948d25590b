// SPDX-License-Identifier: MPL-2.0

//! Memory that no file is behind.

use super::*;

#[test]
fn n13_anonymous_memory_is_private_and_zeroed_unless_asked_otherwise() {
    let (mut flat, mut one, mut two) = (flat(8), program(), program());
    for flags in [PRIVATE, SHARED] {
        let start = flat.map(&mut one, &Request { flags, ..anonymous(2 * PAGE, RW) }).unwrap();
        assert!(bytes(&flat, &one, start, 2 * PAGE).iter().all(|byte| *byte == 0));
        assert_eq!(one.mappings()[0].sharing(), Sharing::Private);
        flat.write(&one, start, &[7; 2 * PAGE]).unwrap();
        let other = flat.map(&mut two, &Request { flags, ..anonymous(2 * PAGE, RW) }).unwrap();
        assert_ne!(start, other);
        flat.unmap(&mut one, start..start + 2 * PAGE).unwrap();
        flat.unmap(&mut two, other..other + 2 * PAGE).unwrap();
    }
    let uninitialized = PRIVATE | MapFlags::UNINITIALIZED;
    let start = flat.map(&mut one, &Request { flags: uninitialized, ..anonymous(PAGE, RW) }).unwrap();
    assert_eq!(bytes(&flat, &one, start, PAGE), [7; PAGE]);
    // A file's copy is that of the file, whatever is asked.
    let short = MemFile::new(1, 1).open();
    let start = flat.map(&mut one, &of(&short, 0, PAGE, RW, uninitialized)).unwrap();
    assert_eq!(bytes(&flat, &one, start, 3), [1, 0, 0]);
    flat.exit(one);
    flat.exit(two);
}

#[test]
fn n13_mremap_wants_an_exact_match_and_moves_nothing() {
    let (mut flat, mut program) = (flat(16), program());
    let start = flat.map(&mut program, &anonymous(4 * PAGE, RW)).unwrap();
    let at = |pages: usize| start + pages * PAGE;
    flat.write(&program, at(3), b"kept").unwrap();
    let mut remap = |old, new_len, fixed| flat.remap(&mut program, old, new_len, fixed);
    for old in [at(0)..at(3), at(1)..at(4), at(0)..at(5), at(8)..at(9)] {
        assert_eq!(remap(old, PAGE, None), Err(Error::NotMapped));
    }
    assert_eq!(remap(at(0)..at(4), 0, None), Err(Error::InvalidSize));
    assert_eq!(remap(at(0)..at(0), PAGE, None), Err(Error::InvalidSize));
    assert_eq!(remap(at(0)..at(4), usize::MAX, None), Err(Error::InvalidSize));
    assert_eq!(remap(at(0)..at(4), PAGE, Some(at(8))), Err(Error::InvalidOptions));
    assert_eq!(remap(at(0)..at(4), 5 * PAGE, None), Err(Error::NoRoom));
    // Smaller, and as large as before.
    assert_eq!(remap(at(0)..at(4), 2 * PAGE - 1, Some(at(0))), Ok(start));
    assert_eq!(remap(at(0)..at(4), PAGE, None), Err(Error::NotMapped));
    assert_eq!(remap(at(0)..at(2), 4 * PAGE, None), Ok(start));
    assert_eq!(bytes(&flat, &program, at(3), 4), b"kept");
    // What others see, or could, stays.
    let copied = MemFile::new(2, 4 * PAGE).without(Capabilities::MAP_DIRECT).open();
    let direct = MemFile::new(3, 4 * PAGE).open();
    for request in [
        of(&copied, 0, 2 * PAGE, R, PRIVATE),
        of(&direct, 0, 2 * PAGE, R, PRIVATE),
        of(&direct, 0, 2 * PAGE, RW, SHARED),
    ] {
        let start = flat.map(&mut program, &request).unwrap();
        for new_len in [PAGE, 2 * PAGE] {
            let result = flat.remap(&mut program, start..start + 2 * PAGE, new_len, None);
            assert_eq!(result, Err(Error::NotSupported));
        }
    }
    flat.exit(program);
    assert_eq!(flat.free_pages(), 16);
}

#[test]
fn n13_an_allocation_is_trimmed_and_its_ends_can_go() {
    let (mut flat, mut program) = (flat(16), program());
    let start = flat.map(&mut program, &anonymous(5 * PAGE, RW)).unwrap();
    assert_eq!(flat.free_pages(), 11);
    let next = flat.map(&mut program, &anonymous(2 * PAGE, RW)).unwrap();
    assert_eq!(next, start + 6 * PAGE, "what is trimmed is not used");
    flat.unmap(&mut program, next..next + 2 * PAGE).unwrap();
    let at = |page: usize| start + page * PAGE;
    flat.write(&program, at(2), b"kept").unwrap();
    flat.unmap(&mut program, at(4)..at(5)).unwrap();
    flat.unmap(&mut program, at(0)..at(1)).unwrap();
    assert_eq!(flat.free_pages(), 13);
    assert_eq!(flat.unmap(&mut program, at(2)..at(3)), Err(Error::NotSupported));
    assert_eq!(flat.unmap(&mut program, at(0)..at(2)), Err(Error::NotMapped));
    assert_eq!(bytes(&flat, &program, at(2), 4), b"kept");
    assert_eq!(program.mappings()[0].range(), at(1)..at(4));
    flat.unmap(&mut program, at(1)..at(4)).unwrap();
    assert_eq!(flat.free_pages(), 16);
}
