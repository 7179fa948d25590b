// SPDX-License-Identifier: MPL-2.0

//! `devices/system/node`: memory is one node, which all processors are near.

use ostd::cpu::num_cpus;

use super::{
    super::{
        procfs,
        synthetic::{Row, Text, put},
    },
    cpu::{all, push_list, push_map},
    line,
};

pub(super) const FOLDER: &[Row] = &[
    Row::text("has_cpu", |text| line(text, "0")),
    Row::text("has_generic_initiator", |text| line(text, "")),
    Row::text("has_memory", |text| line(text, "0")),
    Row::text("has_normal_memory", |text| line(text, "0")),
    Row::folder(
        "node0",
        &[
            Row::numbered_link("cpu", "../../cpu/cpu").each(num_cpus),
            Row::text("cpulist", |text| push_list(text, all(0))),
            Row::text("cpumap", |text| push_map(text, all(0))),
            Row::text("distance", |text| line(text, "10")),
            Row::text("meminfo", procfs::node_meminfo),
            Row::text("numastat", numastat),
            Row::text("vmstat", procfs::node_vmstat),
        ],
    ),
    Row::text("online", |text| line(text, "0")),
    Row::text("possible", |text| line(text, "0")),
];

/// Where memory was taken from is not counted: there is one place.
fn numastat(text: &mut Text) {
    for name in ["numa_hit", "numa_miss", "numa_foreign", "interleave_hit", "local_node", "other_node"] {
        put!(text, "{name} 0\n");
    }
}
