// SPDX-License-Identifier: MPL-2.0

//! `status`, `stat` and `statm` of a task.

use linux_raw_sys::general::{RLIMIT_RSS, RLIMIT_SIGPENDING};
use ostd::cpu::num_cpus;
use vmar::{limits::Usage as Held, rss::RssKind};

use super::{
    super::{
        synthetic::{Text, put},
        types::DeviceId,
    },
    info,
    task::Task,
};
use crate::{
    mm::AddressSpace,
    prelude::*,
    signal::{Disposition, SIGNAL_COUNT, SigSet, Slot},
    tty,
};

const NANOS_PER_TICK: u64 = 10_000_000;

/// In `flags` of `stat`: its addresses are random; it has not run a program of its own.
const PF_RANDOMIZE: u32 = 0x0040_0000;
const PF_FORKNOEXEC: u32 = 0x40;
const ADDR_NO_RANDOMIZE: u32 = 0x004_0000;

/// What a task does, by the letter of `ps(1)`.
fn state_of(task: &Task) -> Result<(char, &'static str)> {
    let process = task.process()?;
    if process.is_zombie() {
        return Ok(('Z', "zombie"));
    }
    match task.thread() {
        Ok(thread) if thread.tracing.is_stopped() => Ok(('t', "tracing stop")),
        // A tracer can let a thread go on alone.
        Ok(thread) if process.is_stopped() && !thread.tracing.is_traced() => Ok(('T', "stopped")),
        Ok(thread) if thread.is_sleeping() => Ok(('S', "sleeping")),
        Ok(_) => Ok(('R', "running")),
        Err(_) => Ok(('X', "dead")),
    }
}

/// The signals of a process that are ignored, and those that have a handler.
fn actions_of(process: &Process) -> (SigSet, SigSet) {
    let (mut ignored, mut caught) = (SigSet::EMPTY, SigSet::EMPTY);
    for signal in 1..=SIGNAL_COUNT as u8 {
        match process.signals.action(signal).disposition() {
            Disposition::Ignore => ignored.add(signal),
            Disposition::Handler(_) => caught.add(signal),
            Disposition::Default => {}
        }
    }
    (ignored, caught)
}

const fn kib(bytes: usize) -> usize {
    bytes / 1024
}

/// What `status` and `statm` tell of an address space.
struct Memory {
    held: Held,
    file: usize,
    anonymous: usize,
    shared: usize,
    code: usize,
}

impl Memory {
    fn of(vm: &AddressSpace) -> Self {
        let pages = |kind| vm.vmar().rss().pages(kind);
        let code = vm.layout().code;
        let start = code.start / PAGE_SIZE * PAGE_SIZE;
        Self {
            held: vm.vmar().usage(),
            file: pages(RssKind::File),
            anonymous: pages(RssKind::Anonymous),
            shared: pages(RssKind::SharedMemory),
            code: code.end.next_multiple_of(PAGE_SIZE) - start,
        }
    }

    fn resident(&self) -> usize {
        self.file + self.anonymous + self.shared
    }
}

/// `status`.
pub(super) fn status(task: &Task, text: &mut Text) -> Result<()> {
    let process = task.process()?;
    let thread = task.thread().ok();
    let (state, word) = state_of(task)?;
    text.push(b"Name:\t");
    text.push_escaped(info::name_of(task)?.as_bytes(), b"\n\\");
    text.push(b"\n");
    if let Some(thread) = &thread {
        put!(text, "Umask:\t0{:03o}\n", thread.fs().umask());
    }
    put!(text, "State:\t{state} ({word})\nTgid:\t{}\nNgid:\t0\nPid:\t{}\n", task.pid(), task.tid());
    let tracer = thread.as_ref().and_then(|thread| thread.tracing.tracer()).map_or(0, |tracer| tracer.tid());
    put!(text, "PPid:\t{}\nTracerPid:\t{tracer}\n", process.parent_pid());
    ids(task, text);
    put!(text, "NStgid:\t{}\nNSpid:\t{}\n", task.pid(), task.tid());
    put!(text, "NSpgid:\t{}\nNSsid:\t{}\n", process.group(), process.session());
    if let Some(vm) = process.vm() {
        memory(&vm, text);
        put!(text, "CoreDumping:\t0\nTHP_enabled:\t0\n");
    }
    put!(text, "Threads:\t{}\n", process.thread_count());
    signals(&process, thread.as_deref(), text);
    if let Some(thread) = &thread {
        let own = thread.credentials();
        let sets = [
            ("CapInh", own.inheritable.bits()),
            ("CapPrm", own.permitted.bits()),
            ("CapEff", own.effective.bits()),
            ("CapBnd", own.bounding.bits()),
            ("CapAmb", 0),
        ];
        for (name, bits) in sets {
            put!(text, "{name}:\t{bits:016x}\n");
        }
        put!(text, "NoNewPrivs:\t{}\nSeccomp:\t0\nSeccomp_filters:\t0\n", u8::from(own.no_new_privs));
        // Nothing is done against speculation here.
        text.push(b"Speculation_Store_Bypass:\tvulnerable\nSpeculationIndirectBranch:\talways enabled\n");
        cpus(thread, text);
        let usage = thread.usage();
        put!(text, "voluntary_ctxt_switches:\t{}\n", usage.voluntary_switches);
        put!(text, "nonvoluntary_ctxt_switches:\t{}\n", usage.involuntary_switches);
    }
    Ok(())
}

fn ids(task: &Task, text: &mut Text) {
    let Ok(thread) = task.thread() else {
        put!(text, "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t0\nGroups:\t\n");
        return;
    };
    let own = thread.credentials();
    put!(text, "Uid:\t{}\t{}\t{}\t{}\n", own.uid, own.euid, own.suid, own.fsuid);
    put!(text, "Gid:\t{}\t{}\t{}\t{}\n", own.gid, own.egid, own.sgid, own.fsgid);
    let open = thread.files().last_open().map_or(0, |last| last as usize + 1);
    put!(text, "FDSize:\t{}\nGroups:\t", open.next_power_of_two().max(64));
    own.groups.iter().for_each(|group| put!(text, "{group} "));
    text.push(if own.groups.is_empty() { b" \n" } else { b"\n" });
}

fn memory(vm: &AddressSpace, text: &mut Text) {
    let memory = Memory::of(vm);
    let held = memory.held;
    let pages = |count: usize| count * kib(PAGE_SIZE);
    let code = memory.code.min(held.exec);
    let rows = [
        ("VmPeak", kib(held.peak_address_space.max(held.address_space))),
        ("VmSize", kib(held.address_space)),
        ("VmLck", kib(held.locked)),
        ("VmPin", 0),
        ("VmHWM", vm.peak_rss_kib() as usize),
        ("VmRSS", pages(memory.resident())),
        ("RssAnon", pages(memory.anonymous)),
        ("RssFile", pages(memory.file)),
        ("RssShmem", pages(memory.shared)),
        ("VmData", kib(held.data)),
        ("VmStk", kib(held.stack)),
        ("VmExe", kib(code)),
        ("VmLib", kib(held.exec - code)),
        ("VmPTE", pages(table_pages(vm))),
        ("VmSwap", 0),
        ("HugetlbPages", 0),
    ];
    for (name, value) in rows {
        let name = format!("{name}:");
        put!(text, "{name}\t{value:8} kB\n");
    }
}

/// How many pages the page table takes: its last level is counted, those above are what the last level needs at least.
fn table_pages(vm: &AddressSpace) -> usize {
    let leaves: usize = {
        let guard = vm.vmar().query(0..crate::mm::layout::TASK_SIZE);
        guard.iter().map(|mapping| mapping.count_tables()).sum()
    };
    leaves + leaves.div_ceil(512) + leaves.div_ceil(512 * 512) + 1
}

fn signals(process: &Process, thread: Option<&Thread>, text: &mut Text) {
    let (ignored, caught) = actions_of(process);
    let own = thread.map_or(SigSet::EMPTY, |thread| thread.signals.pending());
    let blocked = thread.map_or(SigSet::EMPTY, |thread| thread.signals.blocked());
    put!(text, "SigQ:\t{}/{}\n", Slot::count(process.real_uid()), process.rlimits.soft(RLIMIT_SIGPENDING));
    let sets = [
        ("SigPnd", own),
        ("ShdPnd", process.signals.pending()),
        ("SigBlk", blocked),
        ("SigIgn", ignored),
        ("SigCgt", caught),
    ];
    for (name, set) in sets {
        put!(text, "{name}:\t{:016x}\n", set.bits());
    }
}

fn cpus(thread: &Thread, text: &mut Text) {
    let count = num_cpus().min(64);
    let all = u64::MAX >> (64 - count);
    let allowed = thread.sched.affinity() & all;
    put!(text, "Cpus_allowed:\t{allowed:0width$x}\nCpus_allowed_list:\t", width = count.div_ceil(4));
    let mut cpu = 0;
    let mut separator = "";
    while cpu < count {
        let run = (allowed >> cpu).trailing_ones() as usize;
        match run {
            0 => {}
            1 => put!(text, "{separator}{cpu}"),
            run => put!(text, "{separator}{cpu}-{}", cpu + run - 1),
        }
        if run > 0 {
            separator = ",";
        }
        cpu += run.max(1);
    }
    // A set of 1024 nodes, of which there is the first.
    text.push(b"\nMems_allowed:\t");
    (1..32).for_each(|_| text.push(b"00000000,"));
    text.push(b"00000001\nMems_allowed_list:\t0\n");
}

/// `dev_t` as `stat` has it.
fn tty_number(device: DeviceId) -> u64 {
    device.encode() & 0xffff_ffff
}

/// `stat`.
pub(super) fn stat(task: &Task, text: &mut Text) -> Result<()> {
    let process = task.process()?;
    let thread = task.thread().ok();
    let (state, _) = state_of(task)?;
    let (group, session) = (process.group(), process.session());
    let (terminal, foreground) = match tty::of_session(session) {
        Some((device, foreground)) => (tty_number(device), foreground as i32),
        None => (0, -1),
    };
    let has_execed = process.has_execed.load(Ordering::Relaxed);
    let is_fixed = process.personality.load(Ordering::Relaxed) & ADDR_NO_RANDOMIZE != 0;
    let flags = if has_execed { 0 } else { PF_FORKNOEXEC } | if is_fixed { 0 } else { PF_RANDOMIZE };
    let usage = match &thread {
        Some(thread) if task.is_thread() => thread.usage(),
        _ => process.usage(),
    };
    let children = process.times.lock().children;
    let ticks = |nanos: u64| nanos / NANOS_PER_TICK;

    put!(text, "{} (", task.tid());
    text.push(info::name_of(task)?.as_bytes());
    put!(text, ") {state} {} {group} {session} {terminal} {foreground} {flags}", process.parent_pid());
    put!(text, " {} {}", usage.minor_faults, children.minor_faults);
    put!(text, " {} {}", usage.major_faults, children.major_faults);
    put!(text, " {} {}", ticks(usage.user_nanos), ticks(usage.system_nanos));
    put!(text, " {} {}", ticks(children.user_nanos), ticks(children.system_nanos));
    let nice = thread.as_ref().map_or(0, |thread| thread.sched.nice());
    let real_time = thread.as_ref().map_or(0, |thread| thread.sched.real_time_priority());
    let priority = thread.as_ref().map_or(20, |thread| thread.sched.shown_priority());
    let start = process.start_time.as_nanos() as u64;
    put!(text, " {priority} {nice} {} 0 {}", process.thread_count(), ticks(start));

    let vm = process.vm();
    let (size, resident) = vm.as_ref().map_or((0, 0), |vm| {
        let memory = Memory::of(vm);
        (memory.held.address_space, memory.resident())
    });
    put!(text, " {size} {resident} {}", process.rlimits.soft(RLIMIT_RSS));
    // Where things are is nobody else's business.
    let may_look = task.check_access().is_ok();
    let layout = vm.as_ref().filter(|_| may_look).map(|vm| vm.layout()).unwrap_or_default();
    put!(text, " {} {} {} 0 0", layout.code.start, layout.code.end, layout.stack_start);

    let (ignored, caught) = actions_of(&process);
    // The sets are cut to the standard signals, as they always were here.
    let set = |set: SigSet| set.bits() & 0x7fff_ffff;
    let own = thread.as_ref().map_or(SigSet::EMPTY, |thread| thread.signals.pending());
    let blocked = thread.as_ref().map_or(SigSet::EMPTY, |thread| thread.signals.blocked());
    put!(text, " {} {} {} {}", set(own), set(blocked), set(ignored), set(caught));
    let signal = process.exit_signal.load(Ordering::Relaxed);
    let cpu = thread.as_ref().and_then(|thread| thread.sched.last_cpu()).map_or(0, u32::from);
    let policy = thread.as_ref().map_or(0, |thread| thread.sched.policy.load(Ordering::Relaxed));
    put!(text, " 0 0 0 {signal} {cpu} {real_time} {policy} 0 0 0");
    let heap = vm.as_ref().filter(|_| may_look).map_or(0, |vm| vm.heap().start);
    put!(text, " {} {} {heap}", layout.data.start, layout.data.end);
    put!(text, " {} {} {} {}", layout.args.start, layout.args.end, layout.env.start, layout.env.end);
    let code = process.exit_status().filter(|_| may_look && process.is_zombie());
    put!(text, " {}\n", code.map_or(0, |status| status.wait_status()));
    Ok(())
}

/// `statm`, in pages.
pub(super) fn statm(task: &Task, text: &mut Text) -> Result<()> {
    let Some(vm) = task.vm()? else {
        text.push(b"0 0 0 0 0 0 0\n");
        return Ok(());
    };
    let memory = Memory::of(&vm);
    let held = memory.held;
    put!(
        text,
        "{} {} {} {} 0 {} 0\n",
        held.address_space / PAGE_SIZE,
        memory.resident(),
        memory.file + memory.shared,
        memory.code / PAGE_SIZE,
        (held.data + held.stack) / PAGE_SIZE,
    );
    Ok(())
}
