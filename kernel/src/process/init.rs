// SPDX-License-Identifier: MPL-2.0

//! The first process.

use ostd::{cpu::CpuId, task::TaskOptions};

use crate::{prelude::*, process::TaskData, sched::SchedEntity};

/// Starts the first process from a task of its own: it reads files, which may sleep.
pub fn start(cmdline: &'static str) {
    let spawned =
        TaskOptions::new(move || launch(cmdline)).data(TaskData::Kernel(SchedEntity::new())).spawn();
    if let Err(error) = spawned {
        error!("no task for the first process: {:?}", error);
    }
}

fn launch(_cmdline: &str) {
    crate::sched::spawn_switcher(CpuId::bsp());
    crate::power::power_off();
}
