// SPDX-License-Identifier: MPL-2.0

//! The VMAR machine on OSTD.
//!
//! ```text
//!   vmar::Machine        Ostd                a zero-sized handle: there is one machine
//!   vmar::AddressSpace   OstdSpace           a VmSpace; transact = one cursor, one flush
//!   vmar::Cursor         OstdCursor          a CursorMut
//!   vmar::Frame          OstdFrame           an untyped frame
//!   vmar::SleepLock      OstdLock            a RwMutex
//!   vmar::Counter        OstdCounter         one atomic per CPU
//! ```
//!
//! Three things are this crate's own. [`allocator`]: a free frame is within reach of every CPU. [`reserve`]: user memory
//! runs out before the kernel's does, because OSTD panics when it cannot allocate a page-table node. [`reclaim`]: what is
//! unmapped comes back only after every CPU has switched contexts; the amount that waits for that is bounded.

#![no_std]
#![deny(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;
/// So that the example reads as it does in another crate.
#[cfg(ktest)]
extern crate self as vmar_ostd;

pub mod allocator;
mod counter;
mod cursor;
mod frame;
mod lock;
mod machine;
mod present;
pub mod reclaim;
pub mod reserve;
mod space;
mod spare;
mod table;

#[cfg(ktest)]
mod test;

pub use counter::OstdCounter;
pub use cursor::OstdCursor;
pub use frame::{OstdBlank, OstdFrame};
pub use lock::OstdLock;
pub use machine::{DeviceMemory, Ostd, inject_fault_counter};
pub use space::OstdSpace;
