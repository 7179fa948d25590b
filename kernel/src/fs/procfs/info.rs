// SPDX-License-Identifier: MPL-2.0

//! The short files of a task: its command line, its limits, its share of the blame when memory runs out.

use linux_raw_sys::general::{
    RLIMIT_AS, RLIMIT_CORE, RLIMIT_CPU, RLIMIT_DATA, RLIMIT_FSIZE, RLIMIT_LOCKS, RLIMIT_MEMLOCK,
    RLIMIT_MSGQUEUE, RLIMIT_NICE, RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_RSS, RLIMIT_RTPRIO, RLIMIT_RTTIME,
    RLIMIT_SIGPENDING, RLIMIT_STACK,
};

use super::{
    super::synthetic::{Text, put},
    parse_setting,
    task::Task,
};
use crate::{
    mm::{AddressSpace, oom},
    prelude::*,
    process::{ThreadName, credentials::CapSet, rlimit::INFINITY},
};

/// The values of `oom_score_adj`.
const SCORE_RANGE: core::ops::RangeInclusive<i64> = -1000..=1000;
/// The value of `oom_adj` that stands for the lowest score; the highest is 15.
const OOM_DISABLE: i64 = -17;

/// How many bytes of a task's strings are read in one go.
const CHUNK: usize = PAGE_SIZE;

/// Adds what the program has at `range`, as far as it can be read.
fn push_memory(vm: &AddressSpace, range: core::ops::Range<Vaddr>, text: &mut Text) {
    let mut bytes = [0; 256];
    let mut at = range.start;
    while at < range.end {
        let wanted = bytes.len().min(range.end - at);
        match vm.vmar().read_bytes_forced(at, &mut bytes[..wanted]) {
            Ok(count) if count > 0 => {
                text.push(&bytes[..count]);
                at += count;
            }
            _ => break,
        }
    }
}

/// `cmdline`: the arguments, each with a NUL. A program may have written over them, up to where its environment ends.
pub(super) fn cmdline(task: &Task, text: &mut Text) -> Result<()> {
    let Some(vm) = task.vm()? else { return Ok(()) };
    let layout = vm.layout();
    if layout.args.is_empty() {
        return Ok(());
    }
    let mut last = [0];
    let is_plain = vm.vmar().read_bytes_forced(layout.args.end - 1, &mut last) == Ok(1) && last[0] == 0;
    if is_plain {
        push_memory(&vm, layout.args, text);
        return Ok(());
    }
    let mut bytes = [0; CHUNK];
    let mut at = layout.args.start;
    while at < layout.env.end {
        let wanted = CHUNK.min(layout.env.end - at);
        let Ok(count) = vm.vmar().read_bytes_forced(at, &mut bytes[..wanted]) else { break };
        let end = bytes[..count].iter().position(|byte| *byte == 0);
        text.push(&bytes[..end.unwrap_or(count)]);
        at += count;
        if end.is_some() || count == 0 {
            break;
        }
    }
    Ok(())
}

/// `environ`.
pub(super) fn environ(task: &Task, text: &mut Text) -> Result<()> {
    if let Some(vm) = task.vm()? {
        push_memory(&vm, vm.layout().env, text);
    }
    Ok(())
}

/// `auxv`.
pub(super) fn auxv(task: &Task, text: &mut Text) -> Result<()> {
    if let Some(vm) = task.vm()? {
        vm.layout().auxv.iter().for_each(|word| text.push(&word.to_ne_bytes()));
    }
    Ok(())
}

/// The name of the task; that of its last thread once it has ended.
pub(super) fn name_of(task: &Task) -> Result<ThreadName> {
    match task.thread() {
        Ok(thread) => Ok(thread.name()),
        Err(_) => Ok(*task.process()?.last_name.lock()),
    }
}

/// `comm`.
pub(super) fn comm(task: &Task, text: &mut Text) -> Result<()> {
    text.push(name_of(task)?.as_bytes());
    text.push(b"\n");
    Ok(())
}

/// Writing `comm`: only the process's own threads can.
pub(super) fn set_comm(task: &Task, bytes: &[u8]) -> Result<()> {
    let thread = task.thread()?;
    if Thread::current().is_some_and(|caller| !Arc::ptr_eq(caller.process(), thread.process())) {
        return Err(EINVAL);
    }
    thread.set_name(ThreadName::new(bytes));
    Ok(())
}

/// `io`: the counts of storage, of which there is none.
pub(super) fn io(task: &Task, text: &mut Text) -> Result<()> {
    let process = task.process()?;
    let io = if task.is_thread() {
        task.thread()?.usage().io
    } else {
        // As on Linux, with that of the children that were waited for.
        let mut io = process.usage().io;
        io += process.times.lock().children.io;
        io
    };
    put!(text, "rchar: {}\nwchar: {}\n", io.read_bytes, io.written_bytes);
    put!(text, "syscr: {}\nsyscw: {}\n", io.reads, io.writes);
    // No file system here has a disk.
    put!(text, "read_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n");
    Ok(())
}

/// `personality`.
pub(super) fn personality(task: &Task, text: &mut Text) -> Result<()> {
    put!(text, "{:08x}\n", task.process()?.personality.load(Ordering::Relaxed));
    Ok(())
}

/// `limits`.
pub(super) fn limits(task: &Task, text: &mut Text) -> Result<()> {
    const LIMITS: [(u32, &str, &str); 16] = [
        (RLIMIT_CPU, "Max cpu time", "seconds"),
        (RLIMIT_FSIZE, "Max file size", "bytes"),
        (RLIMIT_DATA, "Max data size", "bytes"),
        (RLIMIT_STACK, "Max stack size", "bytes"),
        (RLIMIT_CORE, "Max core file size", "bytes"),
        (RLIMIT_RSS, "Max resident set", "bytes"),
        (RLIMIT_NPROC, "Max processes", "processes"),
        (RLIMIT_NOFILE, "Max open files", "files"),
        (RLIMIT_MEMLOCK, "Max locked memory", "bytes"),
        (RLIMIT_AS, "Max address space", "bytes"),
        (RLIMIT_LOCKS, "Max file locks", "locks"),
        (RLIMIT_SIGPENDING, "Max pending signals", "signals"),
        (RLIMIT_MSGQUEUE, "Max msgqueue size", "bytes"),
        (RLIMIT_NICE, "Max nice priority", ""),
        (RLIMIT_RTPRIO, "Max realtime priority", ""),
        (RLIMIT_RTTIME, "Max realtime timeout", "us"),
    ];
    let process = task.process()?;
    put!(text, "{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    let value = |value: u64| if value == INFINITY { "unlimited".to_owned() } else { value.to_string() };
    for (resource, name, unit) in LIMITS {
        let limit = process.rlimits.get(resource);
        put!(text, "{name:<25} {:<20} {:<20} ", value(limit.soft), value(limit.hard));
        if unit.is_empty() {
            text.push(b"\n");
        } else {
            put!(text, "{unit:<10}\n");
        }
    }
    Ok(())
}

/// `oom_score`.
pub(super) fn oom_score(task: &Task, text: &mut Text) -> Result<()> {
    put!(text, "{}\n", oom::score(&*task.process()?));
    Ok(())
}

/// `oom_score_adj`.
pub(super) fn oom_score_adj(task: &Task, text: &mut Text) -> Result<()> {
    put!(text, "{}\n", task.process()?.oom_score_adj.load(Ordering::Relaxed));
    Ok(())
}

/// Writing `oom_score_adj`: to protect a process better takes a capability.
pub(super) fn set_oom_score_adj(task: &Task, bytes: &[u8]) -> Result<()> {
    let value = parse_setting(bytes)?;
    if !SCORE_RANGE.contains(&value) {
        return Err(EINVAL);
    }
    store_adjustment(task, value as i32, Unit::New)
}

/// By which file an adjustment is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// `oom_score_adj`. With the capability it also says how low others may go.
    New,
    /// `oom_adj`, which without the capability can only be raised.
    Old,
}

fn store_adjustment(task: &Task, value: i32, unit: Unit) -> Result<()> {
    let process = task.process()?;
    let may_lower = Thread::current().is_none_or(|caller| caller.credentials().has(CapSet::SYS_RESOURCE));
    let least = match unit {
        Unit::New => &process.oom_score_adj_min,
        Unit::Old => &process.oom_score_adj,
    };
    if value < least.load(Ordering::Relaxed) && !may_lower {
        return Err(EACCES);
    }
    process.oom_score_adj.store(value, Ordering::Relaxed);
    if unit == Unit::New && may_lower {
        process.oom_score_adj_min.store(value, Ordering::Relaxed);
    }
    Ok(())
}

/// `oom_adj`: the same in an older unit.
pub(super) fn oom_adj(task: &Task, text: &mut Text) -> Result<()> {
    let value = i64::from(task.process()?.oom_score_adj.load(Ordering::Relaxed));
    let old = match value {
        1000 => 15,
        value => value * -OOM_DISABLE / 1000,
    };
    put!(text, "{old}\n");
    Ok(())
}

/// Writing `oom_adj`.
pub(super) fn set_oom_adj(task: &Task, bytes: &[u8]) -> Result<()> {
    let value = match parse_setting(bytes)? {
        15 => 1000,
        value @ (-16..=15 | OOM_DISABLE) => value * 1000 / -OOM_DISABLE,
        _ => return Err(EINVAL),
    };
    store_adjustment(task, value as i32, Unit::Old)
}
