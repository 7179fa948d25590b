// SPDX-License-Identifier: MPL-2.0

//! Protections: what is refused, what the host gets, what the guest is told (Q1 to Q3, Q15).

use super::*;

#[test]
fn q1_mprotect_refuses_bad_numbers_and_takes_length_0() {
    for sizes in SIZES {
        let space = space_of(sizes, 8);
        let page = space.page_size();
        let addr = zeros(&space, BASE, 2 * page, RW);
        assert_eq!(space.sys_mprotect(addr + 1, page, READ), Err(Errno::INVAL), "an address within a page");
        assert_eq!(space.sys_mprotect(addr + page / 2, page, READ), Err(Errno::INVAL));
        for bit in [0x10, 0x20, 0x40, 0x80, 0x100, 1 << 31, 1 << 40] {
            assert_eq!(space.sys_mprotect(addr, page, READ | bit), Err(Errno::INVAL), "bit {bit:#x}");
        }
        assert_eq!(space.sys_mprotect(addr, page, READ | 8), Ok(()), "PROT_SEM is of no effect");
        space.protect(addr, page, RW).unwrap();
        let end = space.range().end;
        assert_eq!(space.sys_mprotect(end, page, READ), Err(Errno::NOMEM), "behind the guest's range");
        assert_eq!(space.sys_mprotect(end - page, 2 * page, READ), Err(Errno::NOMEM), "across its end");
        assert_eq!(space.sys_mprotect(BASE - page, page, READ), Err(Errno::NOMEM), "below it");
        assert_eq!(space.sys_mprotect(addr, usize::MAX, READ), Err(Errno::NOMEM), "more than there is");
        let before = snapshot(&space);
        assert_eq!(space.sys_mprotect(addr, 0, READ), Ok(()));
        assert_eq!(space.sys_mprotect(end + page, 0, 0xff), Ok(()), "nothing is looked at");
        assert_eq!(snapshot(&space), before);
        assert_eq!(space.sys_mprotect(addr, 1, READ), Ok(()), "a length is rounded up");
        assert_eq!(prot_of(&space, addr + page - 1).perms, R);
        assert_eq!(prot_of(&space, addr + page).perms, RW);
    }
}

#[test]
fn q2_the_guests_exec_is_the_hosts_read_and_the_guest_is_told_its_own_bits() {
    for sizes in SIZES {
        let space = space_of(sizes, 8);
        let unit = space.page_size().max(space.granule());
        let all = (0..8).map(VmPerms::from_bits_truncate);
        let host_addr = |addr| space.host_address(addr).unwrap();
        for (at, perms) in all.clone().enumerate() {
            // Made so, and changed to it.
            let addr = zeros(&space, BASE + at * unit, space.page_size(), perms);
            for before in all.clone() {
                assert_eq!(prot_of(&space, addr).perms, perms);
                let found = &host_map(host_addr(addr)..host_addr(addr) + 1)[0].flags;
                assert!(!found.contains('x'));
                let readable = !perms.is_empty();
                assert_eq!(found.starts_with('r'), readable, "{perms:?} is {found} on the host");
                assert_eq!(found.contains('w'), perms.contains(W));
                space.protect(addr, 1, before).unwrap();
                space.protect(addr, 1, perms).unwrap();
            }
        }
        audit(&space);
    }
    // There is no way to ask for it.
    for prot in [HostProt::None, HostProt::Read, HostProt::ReadWrite] {
        assert_eq!(HostProt::of(X).max(prot), HostProt::Read.max(prot));
    }
}

#[test]
fn q3_a_host_page_has_the_union_of_four_guest_pages_in_every_combination() {
    let kinds = [None, Some(NONE), Some(R), Some(W), Some(X), Some(RW)];
    let space = space_of((PageSize::Kib4, PageSize::Kib16), 2);
    let page = space.page_size();
    for combination in 0..kinds.len().pow(4) {
        let of = |at: usize| kinds[combination / kinds.len().pow(at as u32) % kinds.len()];
        space.unmap(BASE, 4 * page).unwrap();
        for at in 0..4 {
            // Every other combination is reached by mprotect.
            match of(at) {
                Some(perms) if combination % 2 == 0 => {
                    zeros(&space, BASE + at * page, page, perms);
                }
                Some(perms) => {
                    zeros(&space, BASE + at * page, page, [RW, R, NONE][combination % 3]);
                    space.protect(BASE + at * page, page, perms).unwrap();
                }
                None => {}
            }
        }
        audit(&space);
        for at in 0..4 {
            let found = space.query(BASE + at * page..BASE + (at + 1) * page);
            assert_eq!(found.first().map(|info| info.prot.perms), of(at));
        }
    }
}

#[test]
fn q3_head_tail_and_the_inside_of_one_host_page_are_protected() {
    let space = space_of((PageSize::Kib4, PageSize::Kib16), 6);
    let page = space.page_size();
    let count = 20;
    for start in 0..count {
        for end in start + 1..=count {
            zeros(&space, BASE, count * page, R);
            space.write(BASE, b"x").unwrap_err();
            space.protect(BASE + start * page, (end - start) * page, RW).unwrap();
            audit(&space);
            space.protect(BASE + start * page, (end - start) * page, NONE).unwrap();
            audit(&space);
            for at in 0..count {
                let inside = (start..end).contains(&at);
                assert_eq!(prot_of(&space, BASE + at * page).perms, if inside { NONE } else { R });
            }
        }
    }
}

#[test]
fn q15_protection_bits_of_a_processor_are_taken_where_it_has_them() {
    let make = |arch| {
        GuestSpace::builder(PageSize::Kib4).range(BASE..BASE + (1 << 20)).arch_prot(arch).build().unwrap()
    };
    let bits = [(0x10, ArchProt::BTI), (0x20, ArchProt::MTE)];
    for known in
        [ArchProt::empty(), ArchProt::BTI, ArchProt::MTE, ArchProt::BTI | ArchProt::MTE, ArchProt::SAO]
    {
        let space = make(known);
        for (bit, arch) in bits {
            let mapped = space.sys_mmap(0, 4096, READ | EXEC | bit, PRIVATE | ANONYMOUS, None, 0);
            let plain = space.sys_mmap(0, 4096, READ, PRIVATE | ANONYMOUS, None, 0).unwrap();
            let protected = space.sys_mprotect(plain, 4096, READ | bit);
            if known.contains(arch) {
                let found = &space.query(mapped.unwrap()..mapped.unwrap() + 1)[0];
                assert_eq!(found.prot, Prot { perms: R | X, arch }, "kept, and told");
                assert_eq!(protected, Ok(()));
                assert_eq!(space.query(plain..plain + 1)[0].prot.arch, arch);
            } else {
                assert_eq!(mapped, Err(Errno::INVAL));
                assert_eq!(protected, Err(Errno::INVAL));
                assert_eq!(space.query(plain..plain + 1)[0].prot, R.into(), "unchanged");
            }
        }
        for unknown in [0x40, 0x80] {
            assert_eq!(space.sys_mmap(0, 4096, unknown, PRIVATE | ANONYMOUS, None, 0), Err(Errno::INVAL));
        }
    }
}
