// SPDX-License-Identifier: MPL-2.0

//! Many forks: in trees, one after the other, and with each allocation failing in turn.

use alloc::{collections::BTreeMap, vec};

use super::*;
use crate::fallible::inject;

/// Contents by page, of one process.
type Contents = BTreeMap<usize, u8>;

/// A number that looks random.
fn random(state: &mut u64, below: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize % below
}

#[test]
fn r7_trees_of_forks_agree_with_a_model() {
    const PAGES: usize = 12;
    let (rounds, steps) = if cfg!(miri) { (1, 20) } else { (300, 60) };
    for seed in 0..rounds {
        let mut state = seed;
        let (sim, first) = process();
        map(&first, 0..PAGES, RW);
        let mut family = vec![(first, Contents::new())];
        for step in 0..steps {
            let who = random(&mut state, family.len());
            let page = random(&mut state, PAGES);
            let count = family.len();
            let (process, contents) = &mut family[who];
            match random(&mut state, 10) {
                0 if count < 6 => {
                    let policy = [ForkPolicy::Backup, ForkPolicy::Copy][random(&mut state, 5) / 4];
                    process.vmar.set_fork_policy(policy);
                    let child = (process.fork_on(random(&mut state, CPUS)).unwrap(), contents.clone());
                    family.push(child);
                }
                1 if count > 1 => drop(family.remove(who)),
                2 => {
                    process.vmar.discard(pages(page..page + 1), Discard::Now).unwrap();
                    contents.remove(&page);
                }
                3..=6 => {
                    process.write(at(page), &[step]).unwrap();
                    contents.insert(page, step);
                }
                _ => {
                    let expected = contents.get(&page).copied().unwrap_or(0);
                    assert_eq!(process.read_byte(at(page)), Ok(expected), "seed {seed}");
                }
            }
            family.iter().for_each(|(process, _)| process.audit());
        }
        for (process, contents) in &family {
            for page in 0..PAGES {
                assert_eq!(process.read_byte(at(page)), Ok(contents.get(&page).copied().unwrap_or(0)));
            }
        }
        drop(family);
        sim.assert_no_leaks();
    }
}

#[test]
fn r14_forks_and_exits_leave_no_chain_and_no_frame() {
    let rounds = if cfg!(miri) { 4 } else { 10_000 };
    let (sim, parent) = process_with(20);
    for round in 0..rounds {
        let child = parent.fork_on(1).unwrap();
        child.write(at(round % 20), &[1]).unwrap();
        parent.write(at(round * 7 % 20) + 1, &[1]).unwrap();
        // A backup borrows from nobody: from a space to its page there is at most one step more.
        assert_eq!(sim.live_spaces(), 3);
        if round % 3 == 0 {
            // A second generation is copied while the first still borrows.
            let grandchild = child.fork_on(2).unwrap();
            assert_eq!(sim.live_spaces(), 4);
            drop(child);
            drop(grandchild);
        } else {
            drop(child);
        }
        assert_eq!((sim.live_frames(), sim.live_spaces()), (20, 1), "after round {round}");
    }
    assert_eq!(entries(&parent), 20);
    parent.audit();
}

#[test]
fn r15_a_fork_that_fails_part_way_changes_nothing() {
    const PAGES: usize = if cfg!(miri) { 5 } else { 30 };
    for borrows in [false, true] {
        let (sim, parent) = process_with(PAGES);
        let vmo = Vmo::new(&sim, PAGE_SIZE, VmoKind::File).unwrap();
        over(&parent, 40..41, R).vmo(vmo).build().unwrap();
        let elder = borrows.then(|| parent.fork_on(2).unwrap());
        let before = (sim.live_frames(), sim.live_spaces());
        for nth in inject::in_turn() {
            let failing = inject::fail_nth(nth);
            let result = parent.vmar.fork();
            if !failing.has_failed() {
                assert!(result.is_ok() && nth > 5, "{nth} allocations");
                break;
            }
            drop(failing);
            assert_eq!(result.err(), Some(Error::OutOfMemory));
            assert_eq!((sim.live_frames(), sim.live_spaces()), before, "allocation {nth}");
            audit([&parent].into_iter().chain(&elder));
        }
        parent.audit();
        for page in 0..PAGES {
            assert_eq!(parent.read_byte(at(page)), Ok(page as u8 + 1));
        }
    }
}

#[test]
fn r15_an_end_that_lacks_memory_leaves_the_rest_borrowed() {
    let (sim, parent) = process_with(30);
    let child = parent.fork_on(1).unwrap();
    touch(&parent, 0..5);
    {
        let _failing = inject::fail_from(0);
        drop(child);
    }
    assert!(is_borrowing(&parent));
    assert_eq!(sim.live_frames(), 30);
    parent.audit();
    // Pages are taken, not copied, and the next fork tries again.
    parent.write(at(20), &[1]).unwrap();
    assert_eq!(sim.live_frames(), 30);
    parent.audit();
    let child = parent.fork_on(1).unwrap();
    assert_eq!(
        (child.read_byte(at(3)), child.read_byte(at(20)), child.read_byte(at(29))),
        (Ok(4), Ok(1), Ok(30))
    );
    audit([&parent, &child]);
    drop((parent, child));
    sim.assert_no_leaks();
}
