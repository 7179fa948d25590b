// SPDX-License-Identifier: MPL-2.0

//! Memory of user programs: glue between the system calls and the VMAR framework.

pub mod fault;

use ostd::mm::VmSpace;

use crate::prelude::*;

/// The address space of a process.
pub struct AddressSpace {
    vm_space: Arc<VmSpace>,
}

static KERNEL_SPACE: SpinLock<Option<Arc<AddressSpace>>> = SpinLock::new(None);

impl AddressSpace {
    /// An empty address space.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { vm_space: Arc::new(VmSpace::new()) })
    }

    /// The empty address space of tasks that have no program.
    pub fn kernel() -> Arc<Self> {
        KERNEL_SPACE.lock().get_or_insert_with(Self::new).clone()
    }

    /// Makes it the current CPU's.
    pub fn activate(&self) {
        self.vm_space.activate();
    }

    /// The page tables.
    pub fn vm_space(&self) -> &Arc<VmSpace> {
        &self.vm_space
    }
}
