// SPDX-License-Identifier: MPL-2.0

//! Host calls that are refused (Q18).

use super::*;

#[test]
fn q18_a_fixed_mapping_that_fails_leaves_everything_as_it_was() {
    for sizes in SIZES {
        let mut failed = 0;
        let unit = sizes.0.bytes().max(sizes.1.bytes());
        let content = pattern(16 * unit);
        let (file, _) = file_of(&content[..9 * unit + 100]);
        let (read_file, _) = file_of(&content);
        let space = space_of(sizes, 16);
        let page = space.page_size();
        let pages = 16 * unit / page;
        // What is there, of every kind, with holes.
        let prepare = || {
            space.unmap(BASE, 16 * unit).unwrap();
            zeros(&space, BASE, 6 * unit, RW);
            space.write(BASE, &content[..6 * unit]).unwrap();
            space.protect(BASE + page, page, NONE).unwrap();
            space.sys_mmap(BASE + 7 * unit, 3 * unit, READ | WRITE, PRIVATE | FIXED, Some(&file), 0).unwrap();
            space.write(BASE + 8 * unit, b"own").unwrap();
            space
                .sys_mmap(BASE + 11 * unit, unit, READ | WRITE, SHARED | FIXED, Some(&read_file), 0)
                .unwrap();
            space
                .sys_mmap(BASE + 13 * unit, unit, READ | WRITE, SHARED | ANONYMOUS | FIXED, None, 0)
                .unwrap();
        };
        let spans = [(0, pages), (1, 1), (1, 6), (2, pages - 3), (pages / 2, 1), (pages / 2, pages / 3)];
        for (start, len) in spans {
            let addr = BASE + start * page;
            let sources = [
                (PRIVATE | ANONYMOUS, None, 0),
                (SHARED | ANONYMOUS, None, 0),
                (PRIVATE, Some(&file), 0),
                (PRIVATE, Some(&file), page as u64),
                (SHARED, Some(&read_file), 0),
            ];
            for (flags, file, offset) in sources {
                prepare();
                let before = snapshot(&space);
                for nth in 0.. {
                    space.host().refuse_after(nth);
                    let result = space.sys_mmap(addr, len * page, READ | WRITE, flags | FIXED, file, offset);
                    if space.host().refuse_none() <= nth {
                        // Mapped, or refused for a reason of its own.
                        assert!(result == Ok(addr) || result == Err(Errno::INVAL), "{result:?}");
                        break;
                    }
                    assert_eq!(result, Err(Errno::NOMEM), "with host call {nth} refused");
                    assert_eq!(snapshot(&space), before, "with host call {nth} refused");
                    audit(&space);
                    failed += 1;
                }
                audit(&space);
            }
        }
        assert!(failed >= 24, "{failed} host calls failed");
    }
}

#[test]
fn q18_a_host_that_takes_nothing_back_breaks_the_space_and_says_so() {
    let mut broken = 0;
    for nth in 0..40 {
        let space = space_of((PageSize::Kib4, PageSize::Kib16), 8);
        zeros(&space, BASE, 12 * 4096, RW);
        space.host().refuse_from(nth);
        let result =
            space.map(&MapOptions::new(9 * 4096).prot(R).placement(Placement::Replacing(BASE + 4096)));
        space.host().refuse_none();
        match result {
            Err(Error::Broken) => {
                broken += 1;
                assert_eq!(space.map(&MapOptions::new(4096)), Err(Error::Broken));
                assert_eq!(space.unmap(BASE, 4096), Err(Error::Broken));
                assert_eq!(space.read(BASE, &mut [0]), Err(Error::Broken));
            }
            Err(Error::Host(Errno::NOMEM)) => audit(&space),
            result => assert_eq!(result, Ok(BASE + 4096)),
        }
    }
    assert!(broken > 0);
}
