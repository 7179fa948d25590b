// SPDX-License-Identifier: MPL-2.0

//! `cpuinfo`, and the files that tell how busy the CPUs are: `stat` and `uptime`.
//!
//! How long each CPU was busy is not kept; what all processes have used is known, and shown in equal parts.

use ostd::{
    arch::{cpu::cpuid::cpuid, tsc_freq},
    cpu::num_cpus,
};

use super::super::{
    synthetic::{Text, put},
    sysfs::cache,
};
use crate::{
    prelude::*,
    process::{Usage, table},
    sched, time,
};

const NANOS_PER_TICK: u64 = 10_000_000;

/// A register of a CPUID leaf, its flags' bits and their names.
type Flags = (u32, fn(core::arch::x86_64::CpuidResult) -> u32, &'static [(u32, &'static str)]);

/// The names of the CPU's features, in Linux's order of words.
const FLAGS: [Flags; 5] = [
    (
        1,
        |leaf| leaf.edx,
        &[
            (0, "fpu"),
            (1, "vme"),
            (2, "de"),
            (3, "pse"),
            (4, "tsc"),
            (5, "msr"),
            (6, "pae"),
            (7, "mce"),
            (8, "cx8"),
            (9, "apic"),
            (11, "sep"),
            (12, "mtrr"),
            (13, "pge"),
            (14, "mca"),
            (15, "cmov"),
            (16, "pat"),
            (17, "pse36"),
            (19, "clflush"),
            (23, "mmx"),
            (24, "fxsr"),
            (25, "sse"),
            (26, "sse2"),
            (27, "ss"),
            (28, "ht"),
        ],
    ),
    (
        0x8000_0001,
        |leaf| leaf.edx,
        &[
            (11, "syscall"),
            (20, "nx"),
            (22, "mmxext"),
            (25, "fxsr_opt"),
            (26, "pdpe1gb"),
            (27, "rdtscp"),
            (29, "lm"),
            (30, "3dnowext"),
            (31, "3dnow"),
        ],
    ),
    (
        1,
        |leaf| leaf.ecx,
        &[
            (0, "pni"),
            (1, "pclmulqdq"),
            (3, "monitor"),
            (9, "ssse3"),
            (12, "fma"),
            (13, "cx16"),
            (19, "sse4_1"),
            (20, "sse4_2"),
            (21, "x2apic"),
            (22, "movbe"),
            (23, "popcnt"),
            (25, "aes"),
            (26, "xsave"),
            (28, "avx"),
            (29, "f16c"),
            (30, "rdrand"),
            (31, "hypervisor"),
        ],
    ),
    (
        0x8000_0001,
        |leaf| leaf.ecx,
        &[(0, "lahf_lm"), (2, "svm"), (4, "cr8_legacy"), (5, "abm"), (6, "sse4a"), (8, "3dnowprefetch")],
    ),
    (
        7,
        |leaf| leaf.ebx,
        &[
            (0, "fsgsbase"),
            (3, "bmi1"),
            (5, "avx2"),
            (7, "smep"),
            (8, "bmi2"),
            (9, "erms"),
            (14, "mpx"),
            (18, "rdseed"),
            (19, "adx"),
            (20, "smap"),
            (23, "clflushopt"),
            (24, "clwb"),
            (29, "sha_ni"),
        ],
    ),
];

/// `cpuinfo`. All CPUs are alike.
pub(super) fn cpuinfo(text: &mut Text) {
    let vendor = cpuid(0, 0);
    let vendor: Vec<u8> =
        vendor.iter().flat_map(|leaf| [leaf.ebx, leaf.edx, leaf.ecx]).flat_map(u32::to_le_bytes).collect();
    let signature = cpuid(1, 0).map_or(0, |leaf| leaf.eax);
    let (family, model, stepping) = decode(signature);
    let name: Vec<u8> = (0x8000_0002..=0x8000_0004)
        .filter_map(|leaf| cpuid(leaf, 0))
        .flat_map(|leaf| [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx])
        .flat_map(u32::to_le_bytes)
        .take_while(|byte| *byte != 0)
        .collect();
    let kilohertz = tsc_freq() / 1000;
    let count = num_cpus();
    for cpu in 0..count {
        put!(text, "processor\t: {cpu}\nvendor_id\t: {}\n", String::from_utf8_lossy(&vendor));
        put!(text, "cpu family\t: {family}\nmodel\t\t: {model}\n");
        put!(text, "model name\t: {}\nstepping\t: {stepping}\n", String::from_utf8_lossy(&name).trim());
        put!(text, "cpu MHz\t\t: {}.{:03}\n", kilohertz / 1000, kilohertz % 1000);
        if let Some(cache) = cache::all().find(|cache| cache.level == 2) {
            put!(text, "cache size\t: {} KB\n", cache.size / 1024);
        }
        put!(text, "physical id\t: 0\nsiblings\t: {count}\ncore id\t\t: {cpu}\ncpu cores\t: {count}\n");
        put!(text, "apicid\t\t: {cpu}\ninitial apicid\t: {cpu}\nfpu\t\t: yes\nfpu_exception\t: yes\n");
        put!(text, "cpuid level\t: {}\nwp\t\t: yes\nflags\t\t:", cpuid(0, 0).map_or(0, |leaf| leaf.eax));
        for (leaf, register, names) in FLAGS {
            let bits = cpuid(leaf, 0).map_or(0, register);
            let names = names.iter().filter(|(bit, _)| bits & (1 << bit) != 0);
            names.for_each(|(_, name)| put!(text, " {name}"));
        }
        let bogomips = kilohertz / 5;
        put!(text, "\nbugs\t\t:\nbogomips\t: {}.{:02}\n", bogomips / 100, bogomips % 100);
        text.push(b"clflush size\t: 64\ncache_alignment\t: 64\n");
        let sizes = cpuid(0x8000_0008, 0).map_or(0x3028, |leaf| leaf.eax);
        put!(text, "address sizes\t: {} bits physical, {} bits virtual\n", sizes & 0xff, sizes >> 8 & 0xff);
        text.push(b"power management:\n\n");
    }
}

/// Family, model and stepping of a CPU's signature.
fn decode(signature: u32) -> (u32, u32, u32) {
    let field = |low: u32, bits: u32| signature >> low & ((1 << bits) - 1);
    let family = field(8, 4);
    let model = field(4, 4);
    let family_sum = if family == 15 { family + field(20, 8) } else { family };
    let model_sum = if family == 6 || family == 15 { field(16, 4) << 4 | model } else { model };
    (family_sum, model_sum, field(0, 4))
}

/// What all processes have used, those that have been waited for included.
fn total_usage() -> Usage {
    sched::charge_current();
    let mut total = Usage::default();
    for process in table::all() {
        total += process.usage();
        total += process.times.lock().children;
    }
    total
}

/// Nanoseconds in user mode, in the kernel and idle, over all CPUs.
fn times() -> (u64, u64, u64) {
    let usage = total_usage();
    let all = time::monotonic_nanos() * num_cpus() as u64;
    let busy = usage.user_nanos + usage.system_nanos;
    (usage.user_nanos, usage.system_nanos, all.saturating_sub(busy))
}

/// `stat`.
pub(super) fn stat(text: &mut Text) {
    let (user, system, idle) = times();
    let count = num_cpus() as u64;
    let mut line = |name: &str, share: u64| {
        let [user, system, idle] = [user, system, idle].map(|nanos| nanos / share / NANOS_PER_TICK);
        put!(text, "{name} {user} 0 {system} {idle} 0 0 0 0 0 0\n");
    };
    // The sum has two blanks behind its name.
    line("cpu ", 1);
    for cpu in 0..count {
        line(&format!("cpu{cpu}"), count);
    }
    let usage = total_usage();
    let boot = time::realtime().saturating_sub(time::monotonic());
    put!(text, "intr 0\nctxt {}\n", usage.voluntary_switches + usage.involuntary_switches);
    put!(text, "btime {}\nprocesses {}\n", boot.as_secs(), table::with(|table| table.last_pid()));
    put!(text, "procs_running {}\nprocs_blocked 0\n", sched::runnable_count());
    text.push(b"softirq 0 0 0 0 0 0 0 0 0 0 0\n");
}

/// `uptime`: seconds since boot, and seconds that CPUs were idle.
pub(super) fn uptime(text: &mut Text) {
    let (_, _, idle) = times();
    let [up, idle] = [time::monotonic_nanos(), idle].map(|nanos| nanos / NANOS_PER_TICK);
    put!(text, "{}.{:02} {}.{:02}\n", up / 100, up % 100, idle / 100, idle % 100);
}
