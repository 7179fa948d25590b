// SPDX-License-Identifier: MPL-2.0

//! System V shared memory (Q17).

use super::*;

const SHM_RDONLY: u64 = 0o10000;
const SHM_RND: u64 = 0o20000;
const SHM_REMAP: u64 = 0o40000;

#[test]
fn q17_segments_are_attached_and_detached_in_all_sizes() {
    for sizes in SIZES {
        let unit = sizes.0.bytes().max(sizes.1.bytes());
        let align = 2 * unit;
        let space = GuestSpace::builder(sizes.0)
            .granule(sizes.1)
            .range(BASE..BASE + 32 * unit)
            .segment_align(align)
            .build_on(Picky::new(sizes.1))
            .unwrap();
        assert!(BASE.is_multiple_of(align));
        let page = space.page_size();
        let segment = Segment::new(2 * unit - 5);
        let at = BASE + 2 * align;
        // Rounding.
        assert_eq!(space.sys_shmat(segment.0, at + 1, 0), Err(Errno::INVAL));
        assert_eq!(space.sys_shmat(segment.0, at + unit, 0), Err(Errno::INVAL), "a page, but no SHMLBA");
        assert_eq!(space.sys_shmat(segment.0, at + align - 1, SHM_RND), Ok(at));
        assert_eq!(space.sys_shmat(segment.0, at, 0), Err(Errno::INVAL), "in use");
        assert_eq!(space.sys_shmat(segment.0, 0, SHM_REMAP), Err(Errno::INVAL), "without an address");
        assert_eq!(space.sys_shmat(-1, 0, 0), Err(Errno::INVAL), "no such segment");
        // Two attachments show the same bytes.
        let other = space.sys_shmat(segment.0, 0, SHM_RDONLY).unwrap();
        assert!(other.is_multiple_of(align));
        space.write(at + 10, b"shared").unwrap();
        assert_eq!(bytes(&space, other + 10, 6), b"shared");
        assert!(space.write(other, b"x").is_err());
        assert_eq!(space.sys_mprotect(other, page, READ | WRITE), Err(Errno::ACCESS));
        assert_eq!(bytes(&space, at, 2 * unit).len(), 2 * unit, "readable to the end of its last page");
        audit(&space);
        // In place of what is there.
        zeros(&space, BASE, 4 * unit, RW);
        assert_eq!(space.sys_shmat(segment.0, BASE, 0), Err(Errno::INVAL));
        assert_eq!(space.sys_shmat(segment.0, BASE, SHM_REMAP), Ok(BASE));
        assert_eq!(bytes(&space, BASE + 10, 6), b"shared");
        assert_eq!(bytes(&space, BASE + 2 * unit, unit), vec![0; unit], "what is behind it stays");
        // The exact start.
        assert_eq!(space.sys_shmdt(at + page), Err(Errno::INVAL));
        assert_eq!(space.sys_shmdt(at + 1), Err(Errno::INVAL));
        assert_eq!(space.sys_shmdt(BASE + 2 * unit), Err(Errno::INVAL), "no segment");
        assert_eq!(space.sys_shmdt(at), Ok(()));
        assert_eq!(space.sys_shmdt(at), Err(Errno::INVAL), "once");
        assert!(space.query(at..at + 2 * unit).is_empty());
        // What is left of one whose start is gone is still found by where it started.
        space.unmap(other, page).unwrap();
        assert_eq!(space.sys_shmdt(other), if 2 * unit > page { Ok(()) } else { Err(Errno::INVAL) });
        assert_eq!(space.sys_shmdt(BASE), Ok(()));
        assert_eq!(space.query(BASE..BASE + 32 * unit).len(), 1);
        audit(&space);
    }
}

#[test]
fn q17_shmat_and_shmdt_have_the_results_of_linux() {
    const START: usize = 0x30_0000_0000;
    const PAGES: usize = 16;
    let end = START + PAGES * 4096;
    let ours = GuestSpace::builder(PageSize::Kib4).range(START..end).build().unwrap();
    let linux = Linux::new(START..end);
    let (mut rng, _seed) = support::random("shm");
    let segments: Vec<_> =
        [1, 4096, 5000, 3 * 4096].map(|size| [Segment::new(size), Segment::new(size)]).into();
    for _ in 0..support::steps(4000) {
        let addr = START + rng.usize(0..PAGES - 3) * 4096;
        let odd = addr + [0, 0, 0, 1, 2048][rng.usize(0..5)];
        match rng.u8(0..8) {
            0..3 => {
                let flags = [0, SHM_RND, SHM_REMAP, SHM_RDONLY, SHM_RND | SHM_REMAP][rng.usize(0..5)];
                let which = rng.usize(0..segments.len());
                let result = ours.sys_shmat(segments[which][0].0, odd, flags);
                assert_eq!(result, linux.shmat(segments[which][1].0, odd, flags), "{odd:#x} {flags:#o}");
            }
            3 | 4 => {
                // What Linux detaches beside one of its own that goes by the same start is not for us to follow.
                assert_eq!(ours.sys_shmdt(odd), linux.shmdt(odd), "shmdt {odd:#x}");
            }
            5 => assert_eq!(ours.sys_munmap(addr, 4096), linux.munmap(addr, 4096)),
            6 => {
                let (len, prot) = (rng.usize(1..4) * 4096, rng.u64(0..4));
                assert_eq!(ours.sys_mprotect(addr, len, prot), linux.mprotect(addr, len, prot));
            }
            _ => {
                let data = [rng.u8(..); 8];
                assert_eq!(ours.write(addr, &data).unwrap_or(0), linux.write(addr, &data));
            }
        }
        for page in (START..end).step_by(4096) {
            let (mut one, mut two) = ([0; 4096], [0; 4096]);
            assert_eq!(ours.read(page, &mut one).unwrap_or(0), linux.read(page, &mut two), "page {page:#x}");
            assert_eq!(one, two, "page {page:#x}");
        }
    }
}
