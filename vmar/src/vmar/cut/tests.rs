// SPDX-License-Identifier: MPL-2.0

use alloc::{sync::Arc, vec::Vec};
use core::{
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use crate::{
    mapping::{Joint, Mappable},
    object::{Vmo, VmoKind},
    perms::VmPerms,
    placement::Placement,
    sim::{PAGE_SIZE, Process, Sim},
    vmar::{advise::Advice, lock::LockMode},
};

const BASE: usize = 0x100_0000;
const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);

/// Counts the cuts.
#[derive(Debug, Default)]
struct Known(AtomicUsize);

impl Mappable for Known {
    fn joint(&self) -> Joint {
        Joint::Counted
    }

    fn note_cut(&self) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn pages(range: Range<usize>) -> Range<usize> {
    BASE + range.start * PAGE_SIZE..BASE + range.end * PAGE_SIZE
}

/// A process with eight pages of an object, each mapping of which counts.
fn process() -> (Process, Arc<Known>) {
    let sim = Sim::new(1);
    let known = Arc::new(Known::default());
    let process = Process::new(&sim, 0).unwrap();
    let vmo = Vmo::new(&sim, 8 * PAGE_SIZE, VmoKind::SharedMemory).unwrap();
    let map = process.vmar.new_map(8 * PAGE_SIZE).perms(RW).placement(Placement::Exactly(BASE));
    map.vmo(vmo).shared().mappable(known.clone()).build().unwrap();
    (process, known)
}

/// Where mappings begin, in pages.
fn starts(process: &Process) -> Vec<usize> {
    let query = process.vmar.query(pages(0..8));
    query.iter().map(|info| (info.range().start - BASE) / PAGE_SIZE).collect()
}

#[test]
fn what_was_cut_stays_cut() {
    let (process, known) = process();
    process.write(BASE + 2 * PAGE_SIZE, &[7]).unwrap();
    process.vmar.protect(pages(2..4), VmPerms::READ).unwrap();
    process.vmar.protect(pages(2..4), RW).unwrap();
    assert_eq!(starts(&process), [0, 2, 4]);
    assert_eq!(Arc::strong_count(&known), 4);
    assert!(known.0.load(SeqCst) > 0);
    process.vmar.unmap(pages(1..5)).unwrap();
    assert_eq!(starts(&process), [0, 5]);
    assert_eq!(Arc::strong_count(&known), 3);
    process.audit();
}

#[test]
fn change_that_changes_nothing_cuts_nothing() {
    let (process, known) = process();
    process.write(BASE + 2 * PAGE_SIZE, &[7]).unwrap();
    process.vmar.unlock(pages(2..4)).unwrap();
    process.vmar.advise(pages(3..8), Advice::Normal).unwrap();
    process.vmar.protect(pages(2..4), RW).unwrap();
    assert_eq!((starts(&process), known.0.load(SeqCst)), ([0].to_vec(), 0));
    process.vmar.lock(pages(2..4), LockMode::OnFault).unwrap();
    process.vmar.lock(pages(3..4), LockMode::OnFault).unwrap();
    assert_eq!((starts(&process), known.0.load(SeqCst)), ([0, 2, 4].to_vec(), 2));
    // Half of it is.
    process.vmar.unlock(pages(1..3)).unwrap();
    assert_eq!((starts(&process), known.0.load(SeqCst)), ([0, 2, 3, 4].to_vec(), 3));
    assert_eq!(process.read_byte(BASE + 2 * PAGE_SIZE), Ok(7));
    process.audit();
}
