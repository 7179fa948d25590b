// SPDX-License-Identifier: MPL-2.0

//! Operations of several threads on one space, in very many schedules.
//!
//! Run by `RUSTFLAGS="--cfg shuttle" cargo test -p vmar --features sim --test concurrent --target-dir target/shuttle`.
//! The simulated machine yields at each lock, before and after each transaction, and before each access of a program.
//! `VMAR_SCHEDULES` sets how many schedules each case is tried in.

#![cfg(all(shuttle, feature = "sim"))]

mod objects;
mod regions;
mod write_back;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use aster_rights::Rights;
use shuttle::thread;
use vmar::{
    error::Error,
    machine::Frame,
    object::{Grant, Pager, Vmo, VmoKind},
    perms::VmPerms,
    placement::Placement,
    rss::RssKind,
    sim::{PAGE_SIZE, Process, Sim, SimFrame},
    vmar::{ForkPolicy, discard::Discard, fault::FaultError, remap::RemapTarget},
};

const BASE: usize = 0x100_0000;
const OTHER: usize = BASE + PAGE_SIZE;
const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);

/// Tries a case in many schedules, random ones and ones with few but ill-placed preemptions.
fn check(case: impl Fn() + Send + Sync + Clone + 'static) {
    let schedules = std::env::var("VMAR_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(3000);
    shuttle::check_random(case.clone(), schedules);
    shuttle::check_pct(case, schedules, 3);
}

fn process() -> (Sim, Process) {
    let sim = Sim::new(3);
    let process = Process::new(&sim, 0).unwrap();
    (sim, process)
}

fn map_anonymous(process: &Process, pages: usize) {
    process.vmar.new_map(pages * PAGE_SIZE).perms(RW).placement(Placement::Exactly(BASE)).build().unwrap();
}

/// Starts a thread of `process` on CPU `cpu`.
fn spawn<T: Send + 'static>(
    process: &Process,
    cpu: usize,
    body: impl FnOnce(Process) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let process = process.thread_on(cpu);
    thread::spawn(move || body(process))
}

fn end(sim: &Sim, processes: impl IntoIterator<Item = Process>) {
    let processes: Vec<_> = processes.into_iter().collect();
    processes.iter().for_each(Process::audit);
    drop(processes);
    sim.assert_no_leaks();
}

#[test]
fn v15_fault_against_unmap() {
    check(|| {
        let (sim, process) = process();
        map_anonymous(&process, 2);
        let writer = spawn(&process, 1, |process| {
            let results = [process.write(BASE, &[1]), process.write(OTHER, &[2]), process.write(BASE, &[3])];
            for result in results {
                assert!(matches!(result, Ok(()) | Err(FaultError::NotMapped)), "{result:?}");
            }
        });
        process.vmar.unmap(BASE..BASE + 2 * PAGE_SIZE).unwrap();
        assert_eq!(process.read_byte(BASE), Err(FaultError::NotMapped));
        writer.join().unwrap();
        assert_eq!((sim.live_frames(), process.vmar.rss().total_pages()), (0, 0));
        end(&sim, [process]);
    });
}

#[test]
fn v15_fault_against_fault() {
    check(|| {
        let (sim, process) = process();
        map_anonymous(&process, 1);
        let threads = [1, 2].map(|cpu| {
            spawn(&process, cpu, move |process| {
                process.read_byte(BASE).unwrap();
                process.write(BASE + cpu, &[cpu as u8]).unwrap();
                assert_eq!(process.read_byte(BASE + cpu), Ok(cpu as u8));
            })
        });
        process.write(BASE, &[9]).unwrap();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(process.read(BASE, 3).unwrap(), [9, 1, 2]);
        assert_eq!((sim.live_frames(), process.vmar.rss().pages(RssKind::Anonymous)), (1, 1));
        end(&sim, [process]);
    });
}

#[test]
fn v15_fault_against_protect() {
    check(|| {
        let (sim, process) = process();
        map_anonymous(&process, 1);
        let writer = spawn(&process, 1, |process| {
            (1..4_u8).take_while(|value| process.write(BASE, &[*value]).is_ok()).last().unwrap_or(0)
        });
        process.vmar.protect(BASE..OTHER, VmPerms::READ).unwrap();
        let seen = process.read_byte(BASE).unwrap();
        assert_eq!(writer.join().unwrap(), seen, "a write came after write access was gone");
        end(&sim, [process]);
    });
}

#[test]
fn v15_fault_against_discard_and_remap() {
    check(|| {
        let (sim, process) = process();
        map_anonymous(&process, 2);
        let writer = spawn(&process, 1, |process| {
            process.write(OTHER, &[1]).unwrap();
            for value in 1..3 {
                let result = process.write(BASE, &[value]);
                assert!(matches!(result, Ok(()) | Err(FaultError::NotMapped)), "{result:?}");
            }
        });
        process.vmar.discard(BASE..OTHER + PAGE_SIZE, Discard::Now).unwrap();
        let target = BASE + 16 * PAGE_SIZE;
        process.vmar.remap(BASE..OTHER, PAGE_SIZE, RemapTarget::Fixed(target)).unwrap();
        let moved = process.read_byte(target).unwrap();
        writer.join().unwrap();
        // What was written before the move has moved; what came after could not be written.
        assert_eq!(process.read_byte(target), Ok(moved));
        end(&sim, [process]);
    });
}

#[test]
fn v15_truncation_against_fault() {
    check(|| {
        let (sim, process) = process();
        let vmo = Vmo::new(&sim, 2 * PAGE_SIZE, VmoKind::File).unwrap();
        let shared = process.vmar.new_map(2 * PAGE_SIZE).perms(RW).vmo(vmo.dup()).shared().fault_around();
        shared.placement(Placement::Exactly(BASE)).build().unwrap();
        let private = process.vmar.new_map(2 * PAGE_SIZE).perms(RW).vmo(vmo.dup()).fault_around();
        let private = private.build().unwrap();
        let threads = [(1, OTHER), (2, private + PAGE_SIZE)].map(|(cpu, addr)| {
            spawn(&process, cpu, move |process| {
                for result in [process.read_byte(addr).map(drop), process.write(addr, &[1])] {
                    assert!(matches!(result, Ok(()) | Err(FaultError::BusError)), "{result:?}");
                }
            })
        });
        vmo.resize(PAGE_SIZE).unwrap();
        assert_eq!(process.read_byte(OTHER), Err(FaultError::BusError));
        assert_eq!(process.read_byte(private + PAGE_SIZE), Err(FaultError::BusError));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        vmo.resize(2 * PAGE_SIZE).unwrap();
        assert_eq!(process.read_byte(OTHER), Ok(0));
        assert_eq!(process.read_byte(private + PAGE_SIZE), Ok(0));
        process.audit();
        drop(vmo);
        end(&sim, [process]);
    });
}

#[test]
fn v15_two_resizes_against_a_mapping_that_comes_and_goes() {
    check(|| {
        let (sim, process) = process();
        let vmo = Arc::new(Vmo::new(&sim, 2 * PAGE_SIZE, VmoKind::SharedMemory).unwrap());
        let resizers = [PAGE_SIZE, 2 * PAGE_SIZE].map(|size| {
            let vmo = vmo.clone();
            thread::spawn(move || vmo.resize(size).unwrap())
        });
        for _ in 0..2 {
            let map = process.vmar.new_map(2 * PAGE_SIZE).perms(RW).vmo(vmo.dup()).shared();
            map.placement(Placement::Replacing(BASE)).build().unwrap();
            let result = process.write(OTHER, &[7]);
            assert!(matches!(result, Ok(()) | Err(FaultError::BusError)), "{result:?}");
        }
        resizers.into_iter().for_each(|thread| thread.join().unwrap());
        process.audit();
        drop(vmo);
        end(&sim, [process]);
    });
}

/// A pager that lets others run before it answers.
#[derive(Debug, Default)]
struct SlowPager(AtomicUsize);

impl Pager<Sim> for SlowPager {
    fn read_page(&self, index: usize, frame: &SimFrame) -> Result<(), Error> {
        thread::yield_now();
        frame.write(0, &[index as u8 + 1]);
        self.0.fetch_add(1, SeqCst);
        thread::yield_now();
        Ok(())
    }
}

#[test]
fn v15_faults_on_one_page_of_a_slow_pager_agree() {
    check(|| {
        let (sim, process) = process();
        let pager = Arc::new(SlowPager::default());
        let vmo = Vmo::with_pager(&sim, PAGE_SIZE, VmoKind::File, pager).unwrap();
        let map = process.vmar.new_map(PAGE_SIZE).perms(RW).vmo(vmo.dup()).shared();
        map.placement(Placement::Exactly(BASE)).build().unwrap();
        let threads = [1, 2].map(|cpu| {
            spawn(&process, cpu, move |process| {
                assert_eq!(process.read_byte(BASE), Ok(1));
                process.write(BASE + cpu, &[cpu as u8]).unwrap();
            })
        });
        // The space's lock is free while the pager is at work.
        let elsewhere = process.vmar.new_map(PAGE_SIZE).perms(RW).build().unwrap();
        process.vmar.unmap(elsewhere..elsewhere + PAGE_SIZE).unwrap();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(process.read(BASE, 3).unwrap(), [1, 1, 2]);
        assert_eq!(vmo.resident_count(), 1);
        process.audit();
        drop(vmo);
        end(&sim, [process]);
    });
}

#[test]
fn v16_fork_against_fault() {
    check(|| {
        let (sim, parent) = process();
        map_anonymous(&parent, 2);
        parent.write(BASE, &[0]).unwrap();
        let writer = spawn(&parent, 1, |parent| {
            for value in 1..3 {
                parent.write(BASE, &[value]).unwrap();
                parent.write(OTHER, &[value]).unwrap();
            }
        });
        let child = parent.fork_on(2).unwrap();
        // The child's memory is the parent's at one point of time: the second page is never ahead of the first.
        let (first, second) = (child.read_byte(BASE).unwrap(), child.read_byte(OTHER).unwrap());
        assert!(first == second || first == second + 1, "{first} {second}");
        child.write(BASE, &[100]).unwrap();
        writer.join().unwrap();
        assert_eq!((parent.read_byte(BASE), parent.read_byte(OTHER)), (Ok(2), Ok(2)));
        assert_eq!((child.read_byte(BASE), child.read_byte(OTHER)), (Ok(100), Ok(second)));
        end(&sim, [parent, child]);
    });
}

#[test]
fn v16_copies_of_several_holders_at_once() {
    check(|| {
        let (sim, parent) = process();
        map_anonymous(&parent, 1);
        parent.write(BASE, &[7, 7]).unwrap();
        let child = parent.fork_on(1).unwrap();
        let threads = [1, 2]
            .map(|cpu| spawn(&parent, cpu, move |parent| parent.write(BASE + cpu, &[cpu as u8]).unwrap()));
        let exiting = thread::spawn(move || {
            child.write(BASE, &[9]).unwrap();
            assert_eq!(child.read(BASE, 3).unwrap(), [9, 7, 0]);
            child.audit();
            drop(child);
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        exiting.join().unwrap();
        assert_eq!(parent.read(BASE, 3).unwrap(), [7, 1, 2]);
        assert_eq!(sim.live_frames(), 1);
        end(&sim, [parent]);
    });
}

#[test]
fn v20_a_write_from_outside_against_fork() {
    check(|| {
        let (sim, parent) = process();
        map_anonymous(&parent, 1);
        parent.write(BASE, &[1]).unwrap();
        let debugger = spawn(&parent, 1, |parent| {
            assert_eq!(parent.vmar.write_bytes(BASE, &[2]), Ok(1));
            assert_eq!(parent.vmar.write_bytes(BASE + 1, &[3]), Ok(1));
        });
        let child = parent.fork_on(2).unwrap();
        let seen = child.read(BASE, 2).unwrap();
        assert!(seen == [1, 0] || seen == [2, 0] || seen == [2, 3], "{seen:?}");
        debugger.join().unwrap();
        assert_eq!(child.read(BASE, 2).unwrap(), seen);
        assert_eq!(parent.read(BASE, 2).unwrap(), [2, 3]);
        end(&sim, [parent, child]);
    });
}

#[test]
fn b4_revocation_against_fault_and_protect() {
    check(|| {
        let (sim, process) = process();
        let vmo = Vmo::new(&sim, PAGE_SIZE, VmoKind::SharedMemory).unwrap();
        let (grant, revoker) = vmo.grant().unwrap();
        let map = process.vmar.new_map(PAGE_SIZE).perms(RW).grant(&grant).shared();
        map.placement(Placement::Exactly(BASE)).build().unwrap();
        let writer = spawn(&process, 1, |process| {
            (1..4_u8).take_while(|value| process.write(BASE, &[*value]).is_ok()).last().unwrap_or(0)
        });
        let changer = spawn(&process, 2, |process| {
            process.vmar.protect(BASE..OTHER, VmPerms::READ).unwrap();
            let result = process.vmar.protect(BASE..OTHER, RW);
            assert!(matches!(result, Ok(()) | Err(Error::AccessDenied)), "{result:?}");
        });
        revoker.revoke(Rights::WRITE);
        let mut seen = [0];
        vmo.read_bytes(0, &mut seen).unwrap();
        assert_eq!(process.write(BASE, &[9]), Err(FaultError::NoPermission));
        changer.join().unwrap();
        // The other thread was stopped by the revocation, or by the first protect.
        let last = writer.join().unwrap();
        assert_eq!(last, seen[0], "a write came after write access was gone");
        assert_eq!(process.vmar.protect(BASE..OTHER, RW), Err(Error::AccessDenied));
        assert_eq!(process.read_byte(BASE), Ok(seen[0]));
        assert_eq!(vmo.count_writers(), 0);
        drop((vmo, grant, revoker));
        end(&sim, [process]);
    });
}

#[test]
fn b4_revocation_against_mapping_and_fork() {
    check(|| {
        let (sim, parent) = process();
        let vmo = Vmo::new(&sim, PAGE_SIZE, VmoKind::SharedMemory).unwrap();
        let (grant, revoker) = vmo.grant().unwrap();
        let map = |process: &Process, grant: &Grant<Sim>, at| {
            let map = process.vmar.new_map(PAGE_SIZE).perms(RW).grant(grant).shared();
            map.placement(Placement::Exactly(at)).build()
        };
        map(&parent, &grant, BASE).unwrap();
        let forker = spawn(&parent, 1, |parent| parent.fork_on(1).unwrap());
        let mapper = {
            let grant = grant.clone();
            spawn(&parent, 2, move |parent| {
                let result = map(&parent, &grant, OTHER);
                assert!(matches!(result, Ok(_) | Err(Error::AccessDenied)), "{result:?}");
                result.is_ok()
            })
        };
        revoker.revoke(Rights::WRITE);
        let (child, is_mapped) = (forker.join().unwrap(), mapper.join().unwrap());
        for process in [&parent, &child] {
            assert_eq!(process.write(BASE, &[1]), Err(FaultError::NoPermission));
            assert_eq!(process.vmar.protect(BASE..OTHER, RW), Err(Error::AccessDenied));
        }
        if is_mapped {
            assert_eq!(parent.write(OTHER, &[1]), Err(FaultError::NoPermission));
        }
        assert_eq!(vmo.count_writers(), 0);
        drop((vmo, grant, revoker));
        end(&sim, [parent, child]);
    });
}

/// A program with `count` pages, each written with its number plus one, that is forked through backups.
fn forking_process(count: usize) -> (Sim, Process) {
    let (sim, process) = process();
    process.vmar.set_fork_policy(ForkPolicy::Backup);
    map_anonymous(&process, count);
    (0..count).for_each(|page| process.write(BASE + page * PAGE_SIZE, &[page as u8 + 1]).unwrap());
    (sim, process)
}

#[test]
fn r3_of_two_faults_on_a_borrowed_page_the_slower_finds_it() {
    check(|| {
        let (sim, parent) = forking_process(2);
        let child = parent.fork_on(2).unwrap();
        let threads = [1, 2].map(|cpu| {
            spawn(&parent, cpu, move |process| {
                assert_eq!(process.read_byte(OTHER), Ok(2));
                process.write(BASE + cpu, &[cpu as u8]).unwrap();
            })
        });
        child.write(BASE, &[9]).unwrap();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(parent.read(BASE, 3).unwrap(), [1, 1, 2]);
        assert_eq!(child.read(BASE, 3).unwrap(), [9, 0, 0]);
        assert_eq!(sim.live_frames(), 3);
        end(&sim, [parent, child]);
    });
}

#[test]
fn r7_what_other_threads_write_during_a_fork_is_seen_by_both_or_by_one() {
    check(|| {
        let (sim, parent) = forking_process(1);
        let writer = spawn(&parent, 1, |process| {
            (2..5).for_each(|value| process.write(BASE, &[value]).unwrap());
        });
        let child = parent.fork_on(2).unwrap();
        let seen = child.read_byte(BASE).unwrap();
        writer.join().unwrap();
        assert!((1..5).contains(&seen));
        assert_eq!((child.read_byte(BASE), parent.read_byte(BASE)), (Ok(seen), Ok(4)));
        end(&sim, [parent, child]);
    });
}

#[test]
fn r7_a_child_ends_while_its_parent_works() {
    check(|| {
        let (sim, parent) = forking_process(4);
        let child = parent.fork_on(2).unwrap();
        child.write(BASE, &[50]).unwrap();
        let ender = thread::spawn(move || drop(child));
        for page in [1, 3] {
            parent.write(BASE + page * PAGE_SIZE + 1, &[7]).unwrap();
        }
        parent.vmar.unmap(BASE + 2 * PAGE_SIZE..BASE + 3 * PAGE_SIZE).unwrap();
        assert_eq!(parent.read(OTHER, 2).unwrap(), [2, 7]);
        ender.join().unwrap();
        assert_eq!((parent.read_byte(BASE), parent.read(BASE + 3 * PAGE_SIZE, 2)), (Ok(1), Ok(vec![4, 7])));
        assert_eq!((sim.live_frames(), sim.live_spaces()), (3, 1));
        end(&sim, [parent]);
    });
}

#[test]
fn r7_a_fork_against_the_end_of_the_last_child() {
    check(|| {
        let (sim, parent) = forking_process(3);
        let first = parent.fork_on(2).unwrap();
        let ender = thread::spawn(move || drop(first));
        parent.write(OTHER, &[20]).unwrap();
        let second = parent.fork_on(1).unwrap();
        assert_eq!((second.read_byte(BASE), second.read_byte(OTHER)), (Ok(1), Ok(20)));
        second.write(BASE, &[10]).unwrap();
        ender.join().unwrap();
        assert_eq!((parent.read_byte(BASE), second.read_byte(BASE)), (Ok(1), Ok(10)));
        end(&sim, [parent, second]);
    });
}

#[test]
fn r7_parent_and_child_end_at_once() {
    check(|| {
        let (sim, parent) = forking_process(3);
        let child = parent.fork_on(2).unwrap();
        let grandchild = child.fork_on(1).unwrap();
        let enders = [parent, child].map(|process| thread::spawn(move || drop(process)));
        assert_eq!(grandchild.read_byte(OTHER), Ok(2));
        enders.into_iter().for_each(|ender| ender.join().unwrap());
        assert_eq!((sim.live_frames(), sim.live_spaces()), (3, 1));
        end(&sim, [grandchild]);
    });
}
