// SPDX-License-Identifier: MPL-2.0

//! Programs that take all there is: they are refused, the kernel goes on, and all of it comes back.

use alloc::{boxed::Box, vec::Vec};

use vmar::{
    error::Error,
    limits::Limits,
    perms::VmPerms,
    placement::Placement,
    vmar::{
        FullVmar,
        fault::{Access, FaultError},
        populate::Populate,
        remap::RemapTarget,
    },
};

use super::*;

const RW: VmPerms = VmPerms::READ.union(VmPerms::WRITE);
const PAGES: usize = 4096;

/// So many frames are left free by programs, while this lives.
struct Left(usize);

impl Left {
    fn free(frames: usize) -> Self {
        let default = reserve::reserve();
        reserve::set_reserve(frames);
        Self(default)
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        reserve::set_reserve(self.0);
    }
}

/// Tells that an operation was done, or refused for lack of memory.
fn is_done<T>(result: Result<T, Error>) -> bool {
    match result {
        Ok(_) => true,
        Err(Error::OutOfMemory) => false,
        Err(error) => panic!("refused for another reason: {error:?}"),
    }
}

/// Takes memory through page faults until none is left, and returns how many pages that was.
fn take_all(vmar: &FullVmar<Ostd>, start: usize) -> usize {
    let taken =
        (0..PAGES).find(|page| match vmar.handle_page_fault(start + page * PAGE_SIZE, Access::Write) {
            Ok(()) => false,
            Err(FaultError::OutOfMemory) => true,
            Err(error) => panic!("refused for another reason: {error:?}"),
        });
    taken.unwrap_or(PAGES)
}

/// Does with little memory left what programs may ask for, none of which may panic.
fn ask_for_everything(vmar: &FullVmar<Ostd>, start: usize) {
    let half = start + PAGES / 2 * PAGE_SIZE;
    is_done(vmar.fork());
    is_done(vmar.new_region(PAGE_SIZE).own_tables().build());
    is_done(vmar.populate(half..half + 16 * PAGE_SIZE, Populate::Write));
    is_done(vmar.write_bytes(start + (PAGES - 1) * PAGE_SIZE, &[1]));
    is_done(vmar.remap(start..start + 8 * PAGE_SIZE, 16 * PAGE_SIZE, RemapTarget::MayMove));
    for page in 0..64 {
        let at = half + 2 * page * PAGE_SIZE;
        is_done(vmar.protect(at..at + PAGE_SIZE, VmPerms::READ));
        is_done(vmar.new_map(PAGE_SIZE).perms(RW).placement(Placement::Replacing(at)).build());
    }
}

/// Checks that the kernel gets what it needs for itself.
fn kernel_goes_on() {
    let options = FrameAllocOptions::new();
    let frames: Vec<_> = (0..32).map(|_| options.alloc_frame()).collect();
    assert!(frames.iter().all(Result::is_ok), "the kernel lacks a frame");
    let lists: Vec<Box<[u8]>> = (0..64).map(|_| alloc::vec![1; 2048].into_boxed_slice()).collect();
    assert_eq!(lists.len(), 64);
}

#[ktest]
fn b6_programs_are_refused_and_the_kernel_goes_on_whatever_is_left() {
    reclaim::synchronize();
    for left in [0, 1, 2, 3, 5, 8, 16, 100, 1000] {
        let kept = Left::free(reserve::free_frames() - left);
        let space = FullVmar::new(Ostd, Limits::new());
        if let Ok(vmar) = &space {
            let start = vmar.new_map(PAGES * PAGE_SIZE).perms(RW).build();
            if let Ok(start) = start {
                let taken = take_all(vmar, start);
                // Some may have come back from others meanwhile.
                assert!(taken <= left + 64, "{taken} pages where {left} were left");
                kernel_goes_on();
                ask_for_everything(vmar, start);
                kernel_goes_on();
                // What gives memory back needs none.
                vmar.clear();
            }
        }
        drop(kept);
        assert!(Ostd.alloc().is_ok(), "what was given back is not there");
    }
}

#[ktest]
fn b6_an_operation_that_is_refused_has_changed_nothing() {
    let vmar = FullVmar::new(Ostd, Limits::new()).unwrap();
    let start = vmar.new_map(16 * PAGE_SIZE).perms(RW).build().unwrap();
    assert_eq!(vmar.write_bytes(start, &[7]), Ok(1));
    let kept = Left::free(4 * reserve::free_frames());
    let (rss, mappings) = (vmar.rss().total_pages(), vmar.usage().mappings);
    assert_eq!(vmar.handle_page_fault(start + PAGE_SIZE, Access::Write), Err(FaultError::OutOfMemory));
    assert_eq!(vmar.populate(start..start + 4 * PAGE_SIZE, Populate::Write), Err(Error::OutOfMemory));
    assert!(matches!(vmar.fork(), Err(Error::OutOfMemory)));
    assert!(matches!(vmar.new_region(PAGE_SIZE).own_tables().build(), Err(Error::OutOfMemory)));
    assert_eq!((vmar.rss().total_pages(), vmar.usage().mappings), (rss, mappings));
    // To read what is not there takes no memory, once there is a node for it; nor does what is there.
    let mut bytes = [1; 2];
    assert_eq!(vmar.read_bytes(start, &mut bytes), Ok(2));
    assert_eq!(bytes, [7, 0]);
    assert_eq!(vmar.unmap(start..start + 16 * PAGE_SIZE), Ok(()));
    drop(kept);
}
