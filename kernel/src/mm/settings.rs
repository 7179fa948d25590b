// SPDX-License-Identifier: MPL-2.0

//! What is to be done when memory has run out, as `/proc/sys/vm` has it (`proc(5)`).

use crate::prelude::*;

/// Whether the program that wants memory is ended when there is none, rather than the one with the highest score.
pub static OOM_KILL_ALLOCATING_TASK: Setting = Setting::new(0);
/// Whether the log lists all programs when one of them is ended for lack of memory.
pub static OOM_DUMP_TASKS: Setting = Setting::new(1);

/// A number; any but 0 means yes.
pub struct Setting {
    value: AtomicI32,
}

impl Setting {
    const fn new(value: i32) -> Self {
        Self { value: AtomicI32::new(value) }
    }

    /// Its value.
    pub fn get(&self) -> i32 {
        self.value.load(Ordering::Relaxed)
    }

    /// Changes it.
    ///
    /// # Errors
    ///
    /// EINVAL for a number that is too large.
    pub fn set(&self, value: i64) -> Result<()> {
        self.value.store(i32::try_from(value).map_err(|_| EINVAL)?, Ordering::Relaxed);
        Ok(())
    }
}
