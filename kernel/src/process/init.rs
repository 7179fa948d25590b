// SPDX-License-Identifier: MPL-2.0

//! The first process.
//!
//! The kernel's command line is `[NAME=VALUE | WORD]... [-- ARGUMENT...]`, with the kernel's own path in front. `init=PATH`
//! names the first program; it gets the arguments behind `--`, an environment of `HOME=/` and `TERM=linux`, and the console
//! as its descriptors 0 to 2. `fork=copy` and `fork=backup` choose one way to fork for all programs. See `docs/src/boot.md`.

use ostd::{cpu::CpuId, power::ExitCode, task::TaskOptions};
use vmar::vmar::ForkPolicy;

use crate::{
    fs::{CloseOnExec, FileTable, FsContext, OpenFlags, open::open_as_kernel},
    mm::{AddressSpace, mempolicy::MemPolicy},
    prelude::*,
    process::{
        Credentials, TaskData, ThreadLocal, ThreadName, TimerSlack,
        exec::{self, Strings},
        rlimit::Rlimits,
        table::{self, ReservedPid},
        thread::ThreadParts,
        worker,
    },
    sched::{self, SchedEntity},
    signal::{ProcessSignals, ThreadSignals},
};

/// Starts the first process from a task of its own: it reads files, which may sleep.
pub fn start(cmdline: &'static str) {
    let spawned =
        TaskOptions::new(move || launch(cmdline)).data(TaskData::Kernel(SchedEntity::new())).spawn();
    if let Err(error) = spawned {
        error!("no task for the first process: {:?}", error);
    }
}

fn launch(cmdline: &str) {
    sched::spawn_switcher(CpuId::bsp());
    crate::fs::init();
    crate::device::init();
    if let Err(error) = launch_first(cmdline) {
        error!("the first program cannot be run: {:?}", error);
        ostd::power::poweroff(ExitCode::Failure);
    }
}

fn launch_first(cmdline: &str) -> Result<()> {
    let (options, arguments) = match cmdline.split_once(" -- ") {
        Some((options, arguments)) => (options, arguments),
        None => (cmdline.strip_suffix(" --").unwrap_or(cmdline), ""),
    };
    let option = |name| options.split_whitespace().find_map(|word| word.strip_prefix(name));
    let path = option("init=").unwrap_or("/init");
    let argv = [path].into_iter().chain(arguments.split_whitespace()).map(str::as_bytes);
    let argv = Strings::from_slices(argv);
    let envp = Strings::from_slices([&b"HOME=/"[..], b"TERM=linux"]);

    if let Some(name) = option("fork=") {
        set_fork_policy(name);
    }
    let limits = Rlimits::initial();
    let program = exec::prepare_first(path, argv, envp, &limits)?;
    let files = open_console()?;
    let pid = ReservedPid::new()?;
    let process = Arc::new(Process::new(pid.number(), program.vm.clone(), ProcessSignals::new(), limits));
    process.set_exe(Some(program.exe));
    let parts = ThreadParts {
        name: ThreadName::new(&program.name),
        credentials: Arc::new(Credentials::root()),
        files: Arc::new(files),
        fs: Arc::new(FsContext::default()),
        signals: ThreadSignals::new(),
        sched: SchedEntity::new(),
        mem_policy: MemPolicy::default(),
        timer_slack: TimerSlack::default(),
    };
    let thread = Arc::new(Thread::new(pid.number(), process.clone(), parts));
    let worker = worker::hire(thread.clone(), ThreadLocal::new(program.vm), program.registers)?;
    process.add_thread(thread.clone())?;
    table::with(|table| {
        table.add_process(process, 0, 0);
        table.add_thread(thread);
    });
    worker.start();
    Ok(())
}

/// Sets how programs are forked.
fn set_fork_policy(name: &str) {
    let policy = match name {
        "by-size" => ForkPolicy::BySize,
        "copy" => ForkPolicy::Copy,
        "backup" => ForkPolicy::Backup,
        _ => return warn!("fork={} is none of by-size, copy and backup", name),
    };
    AddressSpace::set_fork_policy(policy);
}

/// A table with the console as its descriptors 0, 1 and 2; an empty one if there is no console.
fn open_console() -> Result<FileTable> {
    let files = FileTable::new();
    match open_as_kernel(b"/dev/console", OpenFlags::RDWR | OpenFlags::NOCTTY) {
        Ok(console) => {
            for _ in 0..3 {
                files.insert(console.clone(), CloseOnExec::No, 0, 3)?;
            }
        }
        Err(error) => warn!("the console cannot be opened: {:?}", error),
    }
    Ok(files)
}
