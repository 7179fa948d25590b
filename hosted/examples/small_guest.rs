// SPDX-License-Identifier: MPL-2.0

//! A guest with pages of 16 KiB: its memory calls served on this machine, whatever the size of the pages here.

use std::sync::{Arc, Mutex};

use vmar_hosted::{
    Change, GuestSpace, MapOptions, OldRange, PageSize, Placement, RemapTarget, VmPerms, host::Errno,
};

/// The size of the guest's pages.
const PAGE: usize = 16 << 10;

pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Whoever translates the guest's code is told where it may have changed.
    let stale = Arc::new(Mutex::new(Vec::new()));
    let notes = stale.clone();
    let space = GuestSpace::builder(PageSize::Kib16)
        .range(0..1 << 32)
        .observer(move |change: &Change| notes.lock().unwrap().push(change.range()))
        .build()?;

    // A loader puts a program's text where it belongs, and its heap behind it.
    let rw = VmPerms::READ | VmPerms::WRITE;
    let text = MapOptions::new(2 * PAGE).prot(rw).placement(Placement::Exactly(0x40_0000));
    let text = space.map(&text)?;
    space.write(text, b"machine code")?;
    space.protect(text, 2 * PAGE, VmPerms::READ | VmPerms::EXEC)?;
    space.begin_heap(text + 2 * PAGE);
    assert!(space.write(text, b"not any more").is_err());

    // The guest's system calls: its own numbers in, errno out. 0x22 is MAP_PRIVATE | MAP_ANONYMOUS.
    let end = space.brk(0)?;
    assert_eq!(space.brk(end + 100)?, end + 100);
    let addr = space.sys_mmap(0, 3 * PAGE, 3, 0x22, None, 0)?;
    assert_eq!(addr % PAGE, 0);
    assert_eq!(
        space.sys_mprotect(addr + 4096, PAGE, 1),
        Err(Errno::INVAL),
        "a page of the host's is none of the guest's"
    );
    assert_eq!(space.sys_munmap(addr, PAGE), Ok(()));

    // Or typed, where an emulator knows what it wants.
    let moved = space.remap(addr + PAGE, 2 * PAGE, 8 * PAGE, RemapTarget::MayMove, OldRange::Unmapped)?;
    space.write(moved + 7 * PAGE, b"here")?;
    let mut bytes = [0; 4];
    space.read(moved + 7 * PAGE, &mut bytes)?;
    assert_eq!(&bytes, b"here");

    // What runs the guest's code gets pointers.
    let pointer = space.host_address(moved).expect("it is in the guest's range");
    println!("the guest's {moved:#x} is at {pointer:#x} here");
    for mapping in space.query(space.range()) {
        println!("{:#10x}..{:#10x} {:?}", mapping.range.start, mapping.range.end, mapping.prot.perms);
    }
    assert!(stale.lock().unwrap().contains(&(text..text + 2 * PAGE)));
    Ok(())
}
