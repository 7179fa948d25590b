// SPDX-License-Identifier: MPL-2.0

//! Neighbours that become one mapping.

use proptest::prelude::*;

use super::*;

/// A kind of mapping for a random sequence.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Anonymous,
    Private(usize),
    Shared(usize),
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 1 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn v8_neighbours_merge_exactly_where_they_continue_each_other(
        steps in prop::collection::vec((0usize..24, 1usize..8, 0usize..8, any::<bool>()), 1..if cfg!(miri) { 10 } else { 40 }),
    ) {
        let process = process();
        let vmo: Vmo<Sim, TRightSet<FullRights>> = object(&process, 64, VmoKind::File);
        // Of each page: what it shows, and with which permissions.
        let mut model: Vec<Option<(u8, usize, VmPerms)>> = vec![None; 40];
        for (start, count, what, is_writable) in steps {
            let range = start..start + count;
            let perms = if is_writable { RW } else { R };
            // Offsets often fit together: those of one object are the page's number, or three more.
            let kind = match what {
                0..=2 => Kind::Anonymous,
                3..=4 => Kind::Private(start),
                5 => Kind::Private(start + 3),
                _ => Kind::Shared(start),
            };
            let options = over(&process, range.clone(), perms);
            match kind {
                Kind::Anonymous => options.build(),
                Kind::Private(page) => options.vmo(vmo.dup()).vmo_offset(page * PAGE_SIZE).build(),
                Kind::Shared(page) => options.vmo(vmo.dup()).vmo_offset(page * PAGE_SIZE).shared().build(),
            }
            .unwrap();
            for page in range {
                model[page] = Some(match kind {
                    Kind::Anonymous => (0, 0, perms),
                    Kind::Private(first) => (1, first + page - start, perms),
                    Kind::Shared(first) => (2, first + page - start, perms),
                });
            }
            process.audit();
            let mut expected: Vec<core::ops::Range<usize>> = vec![];
            for page in 0..model.len() {
                let Some((kind, offset, perms)) = model[page] else { continue };
                let continues = page > 0
                    && model[page - 1].is_some_and(|(below_kind, below_offset, below_perms)| {
                        kind == below_kind && perms == below_perms && (kind == 0 || offset == below_offset + 1)
                    });
                match expected.last_mut() {
                    Some(last) if continues => last.end = page + 1,
                    _ => expected.push(page..page + 1),
                }
            }
            let seen: Vec<_> = layout(&process).into_iter().map(|seen| seen.pages).collect();
            prop_assert_eq!(seen, expected);
            let total = model.iter().flatten().count() * PAGE_SIZE;
            prop_assert_eq!(process.vmar.usage().address_space, total);
        }
    }
}
