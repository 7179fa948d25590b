// SPDX-License-Identifier: MPL-2.0

//! `devices/system/cpu`: the processors, as Linux 6.1 shows them on a machine whose processors cannot be taken out.
//!
//! All of them are cores of one package, and no core runs two threads: so `/proc/cpuinfo` has it, too.

use ostd::cpu::num_cpus;

use super::{
    super::synthetic::{Numbers, Row, Text, put},
    cache::{self, Cache},
    line,
};

/// A file that tells a set of processors as bits, and one that tells it as a list.
macro_rules! sets {
    ($($map:literal, $list:literal: $set:expr;)*) => {
        &[
            Row::numbered_text("die_id", |text, _| line(text, "0")),
            Row::numbered_text("physical_package_id", |text, _| line(text, "0")),
            Row::numbered_text("cluster_id", |text, _| line(text, "65535")),
            Row::numbered_text("core_id", |text, [cpu, _]| put!(text, "{cpu}\n")),
            $(
                Row::numbered_text($map, |text, [cpu, _]| push_map(text, $set(cpu))),
                Row::numbered_text($list, |text, [cpu, _]| push_list(text, $set(cpu))),
            )*
        ]
    };
}

const TOPOLOGY: &[Row] = sets! {
    "thread_siblings", "thread_siblings_list": one;
    "core_cpus", "core_cpus_list": one;
    "cluster_cpus", "cluster_cpus_list": one;
    "core_siblings", "core_siblings_list": all;
    "die_cpus", "die_cpus_list": all;
    "package_cpus", "package_cpus_list": all;
};

const CACHE: &[Row] = &[
    Row::numbered_text("coherency_line_size", |text, at| {
        with_cache(at, |it| put!(text, "{}\n", it.line_size))
    }),
    Row::numbered_text("id", |text, at| with_cache(at, |it| put!(text, "{}\n", sharers(it, at).start))),
    Row::numbered_text("level", |text, at| with_cache(at, |it| put!(text, "{}\n", it.level))),
    Row::numbered_text("number_of_sets", |text, at| with_cache(at, |it| put!(text, "{}\n", it.sets()))),
    Row::numbered_text("physical_line_partition", |text, _| line(text, "1")),
    Row::numbered_text("shared_cpu_list", |text, at| with_cache(at, |it| push_list(text, sharers(it, at)))),
    Row::numbered_text("shared_cpu_map", |text, at| with_cache(at, |it| push_map(text, sharers(it, at)))),
    Row::numbered_text("size", |text, at| with_cache(at, |it| put!(text, "{}K\n", it.size / 1024))),
    Row::numbered_text("type", |text, at| with_cache(at, |it| line(text, it.kind.name()))),
    Row::numbered_text("ways_of_associativity", |text, at| with_cache(at, |it| put!(text, "{}\n", it.ways))),
];

pub(super) const FOLDER: &[Row] = &[
    Row::folder(
        "cpu",
        &[
            Row::folder("cache", &[Row::folder("index", CACHE).each(cache::count)]),
            Row::link("node0", "../../node/node0"),
            Row::folder("topology", TOPOLOGY),
        ],
    )
    .each(num_cpus),
    Row::text("isolated", |text| line(text, "")),
    Row::text("kernel_max", |text| put!(text, "{}\n", crate::sched::MAX_CPUS - 1)),
    Row::text("offline", |text| line(text, "")),
    Row::text("online", |text| push_list(text, all(0))),
    Row::text("possible", |text| push_list(text, all(0))),
    Row::text("present", |text| push_list(text, all(0))),
    Row::folder(
        "smt",
        &[
            Row::text("active", |text| line(text, "0")),
            Row::text("control", |text| line(text, "notsupported")),
        ],
    ),
];

type Cpus = core::ops::Range<usize>;

fn one(cpu: usize) -> Cpus {
    cpu..cpu + 1
}

pub(super) fn all(_: usize) -> Cpus {
    0..num_cpus()
}

/// Runs `show` on the cache that a file is about.
fn with_cache([index, _]: Numbers, show: impl FnOnce(&Cache)) {
    if let Some(cache) = cache::all().nth(index) {
        show(&cache);
    }
}

/// The processors that share a cache.
fn sharers(cache: &Cache, [_, cpu]: Numbers) -> Cpus {
    if cache.is_shared { all(cpu) } else { one(cpu) }
}

/// As `0-3`.
pub(super) fn push_list(text: &mut Text, cpus: Cpus) {
    match cpus.len() {
        1 => put!(text, "{}\n", cpus.start),
        _ => put!(text, "{}-{}\n", cpus.start, cpus.end - 1),
    }
}

/// As `ff,00000000`: groups of 32 bits, and as many digits as the processors of the machine need.
pub(super) fn push_map(text: &mut Text, cpus: Cpus) {
    const GROUP: usize = 32;
    let bits = num_cpus();
    for group in (0..bits.div_ceil(GROUP)).rev() {
        let within = |cpu: &usize| cpu / GROUP == group;
        let word = cpus.clone().filter(within).fold(0_u32, |word, cpu| word | 1 << (cpu % GROUP));
        let digits = (bits - group * GROUP).min(GROUP).div_ceil(4);
        put!(text, "{word:0digits$x}{}", if group == 0 { "\n" } else { "," });
    }
}
