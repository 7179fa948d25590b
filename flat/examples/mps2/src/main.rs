// SPDX-License-Identifier: MPL-2.0

//! Files of a ROM, mapped on a board without an MMU, and a table of what holds there.
//!
//! ```text
//!   0x0000_0000  image: code, and a tar archive ──► mapped in place
//!   0x2000_0000  RAM: a heap for the accounts, and a pool of pages ──► copies, anonymous memory
//! ```
//!
//! `cargo run --release` in this folder starts it in QEMU. It ends with a status other than 0 if a row fails.

#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod rom;
mod rows;

use cortex_m::singleton;
use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hprintln};
use panic_semihosting as _;
use vmar_flat::{Arena, Flat};

/// A page, in bytes.
const PAGE: usize = 512;
/// How many pages the pool has.
const POOL: usize = 64;

#[global_allocator]
static HEAP: emballoc::Allocator<{ 64 * 1024 }> = emballoc::Allocator::new();

#[entry]
fn main() -> ! {
    // One page more, since it need not start at a page.
    let Some(memory) = singleton!(: [u8; (POOL + 1) * PAGE] = [0xa5; (POOL + 1) * PAGE]) else {
        unreachable!("the program starts once")
    };
    let Ok(mut flat) = Flat::new(Arena::new(memory), PAGE) else {
        unreachable!("the pool is large enough, and the heap as well")
    };
    let pages = flat.free_pages();
    let (mut passed, mut failed) = (0, 0);
    hprintln!("{} pages of {} bytes at {:#x}", pages, PAGE, vmar_flat::Memory::range(flat.memory()).start);
    hprintln!("{:<6} {:<44} what", "", "row");
    for row in rows::ALL {
        let mut result = (row.check)(&mut flat);
        if flat.free_pages() != pages || flat.regions() != 0 {
            result = result.and(Err("memory is left behind"));
        }
        match result {
            Ok(()) => {
                passed += 1;
                hprintln!("{:<6} {:<44} {}", "ok", row.name, row.what);
            }
            Err(why) => {
                failed += 1;
                hprintln!("{:<6} {:<44} {}: {}", "FAILED", row.name, row.what, why);
            }
        }
    }
    hprintln!("flat: {} passed, {} failed", passed, failed);
    debug::exit(if failed == 0 { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE });
    loop {
        cortex_m::asm::wfi();
    }
}
