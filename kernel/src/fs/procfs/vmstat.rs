// SPDX-License-Identifier: MPL-2.0

//! `vmstat` and `zoneinfo`: every count that Debian's Linux 6.1 keeps, in its order. What does not happen here (swapping, huge
//! pages, moving pages about) has the count 0.
//!
//! All memory is in one zone of one node.

use super::{
    super::synthetic::{Text, put},
    system::Census,
};
use crate::{
    mm::{self, oom},
    prelude::*,
    process::table,
};

/// Counts of a zone.
const ZONE: [&str; 11] = [
    "nr_free_pages",
    "nr_zone_inactive_anon",
    "nr_zone_active_anon",
    "nr_zone_inactive_file",
    "nr_zone_active_file",
    "nr_zone_unevictable",
    "nr_zone_write_pending",
    "nr_mlock",
    "nr_bounce",
    "nr_zspages",
    "nr_free_cma",
];

/// Counts of allocations by node.
const NUMA: [&str; 6] =
    ["numa_hit", "numa_miss", "numa_foreign", "numa_interleave", "numa_local", "numa_other"];

/// Counts of a node.
const NODE: [&str; 43] = [
    "nr_inactive_anon",
    "nr_active_anon",
    "nr_inactive_file",
    "nr_active_file",
    "nr_unevictable",
    "nr_slab_reclaimable",
    "nr_slab_unreclaimable",
    "nr_isolated_anon",
    "nr_isolated_file",
    "workingset_nodes",
    "workingset_refault_anon",
    "workingset_refault_file",
    "workingset_activate_anon",
    "workingset_activate_file",
    "workingset_restore_anon",
    "workingset_restore_file",
    "workingset_nodereclaim",
    "nr_anon_pages",
    "nr_mapped",
    "nr_file_pages",
    "nr_dirty",
    "nr_writeback",
    "nr_writeback_temp",
    "nr_shmem",
    "nr_shmem_hugepages",
    "nr_shmem_pmdmapped",
    "nr_file_hugepages",
    "nr_file_pmdmapped",
    "nr_anon_transparent_hugepages",
    "nr_vmscan_write",
    "nr_vmscan_immediate_reclaim",
    "nr_dirtied",
    "nr_written",
    "nr_throttled_written",
    "nr_kernel_misc_reclaimable",
    "nr_foll_pin_acquired",
    "nr_foll_pin_released",
    "nr_kernel_stack",
    "nr_page_table_pages",
    "nr_sec_page_table_pages",
    "nr_swapcached",
    "pgpromote_success",
    "pgpromote_candidate",
];

/// Thresholds, and what has happened since the start.
const EVENTS: [&str; 111] = [
    "nr_dirty_threshold",
    "nr_dirty_background_threshold",
    "pgpgin",
    "pgpgout",
    "pswpin",
    "pswpout",
    "pgalloc_dma",
    "pgalloc_dma32",
    "pgalloc_normal",
    "pgalloc_movable",
    "pgalloc_device",
    "allocstall_dma",
    "allocstall_dma32",
    "allocstall_normal",
    "allocstall_movable",
    "allocstall_device",
    "pgskip_dma",
    "pgskip_dma32",
    "pgskip_normal",
    "pgskip_movable",
    "pgskip_device",
    "pgfree",
    "pgactivate",
    "pgdeactivate",
    "pglazyfree",
    "pgfault",
    "pgmajfault",
    "pglazyfreed",
    "pgrefill",
    "pgreuse",
    "pgsteal_kswapd",
    "pgsteal_direct",
    "pgdemote_kswapd",
    "pgdemote_direct",
    "pgscan_kswapd",
    "pgscan_direct",
    "pgscan_direct_throttle",
    "pgscan_anon",
    "pgscan_file",
    "pgsteal_anon",
    "pgsteal_file",
    "zone_reclaim_failed",
    "pginodesteal",
    "slabs_scanned",
    "kswapd_inodesteal",
    "kswapd_low_wmark_hit_quickly",
    "kswapd_high_wmark_hit_quickly",
    "pageoutrun",
    "pgrotated",
    "drop_pagecache",
    "drop_slab",
    "oom_kill",
    "numa_pte_updates",
    "numa_huge_pte_updates",
    "numa_hint_faults",
    "numa_hint_faults_local",
    "numa_pages_migrated",
    "pgmigrate_success",
    "pgmigrate_fail",
    "thp_migration_success",
    "thp_migration_fail",
    "thp_migration_split",
    "compact_migrate_scanned",
    "compact_free_scanned",
    "compact_isolated",
    "compact_stall",
    "compact_fail",
    "compact_success",
    "compact_daemon_wake",
    "compact_daemon_migrate_scanned",
    "compact_daemon_free_scanned",
    "htlb_buddy_alloc_success",
    "htlb_buddy_alloc_fail",
    "unevictable_pgs_culled",
    "unevictable_pgs_scanned",
    "unevictable_pgs_rescued",
    "unevictable_pgs_mlocked",
    "unevictable_pgs_munlocked",
    "unevictable_pgs_cleared",
    "unevictable_pgs_stranded",
    "thp_fault_alloc",
    "thp_fault_fallback",
    "thp_fault_fallback_charge",
    "thp_collapse_alloc",
    "thp_collapse_alloc_failed",
    "thp_file_alloc",
    "thp_file_fallback",
    "thp_file_fallback_charge",
    "thp_file_mapped",
    "thp_split_page",
    "thp_split_page_failed",
    "thp_deferred_split_page",
    "thp_split_pmd",
    "thp_scan_exceed_none_pte",
    "thp_scan_exceed_swap_pte",
    "thp_scan_exceed_share_pte",
    "thp_split_pud",
    "thp_zero_page_alloc",
    "thp_zero_page_alloc_failed",
    "thp_swpout",
    "thp_swpout_fallback",
    "balloon_inflate",
    "balloon_deflate",
    "balloon_migrate",
    "swap_ra",
    "swap_ra_hit",
    "ksm_swpin_copy",
    "cow_ksm",
    "direct_map_level2_splits",
    "direct_map_level3_splits",
    "nr_unstable",
];

/// What has a count that may be other than 0.
struct Counts {
    census: Census,
    faults: u64,
    major_faults: u64,
}

impl Counts {
    fn take() -> Self {
        let (mut faults, mut major_faults) = (0, 0);
        for process in table::all() {
            let mut usage = process.usage();
            usage += process.times.lock().children;
            faults += usage.minor_faults + usage.major_faults;
            major_faults += usage.major_faults;
        }
        Self { census: Census::take(), faults, major_faults }
    }

    fn get(&self, name: &str) -> u64 {
        let census = &self.census;
        let pages = |bytes: usize| (bytes / PAGE_SIZE) as u64;
        match name {
            "nr_free_pages" => pages(census.free),
            "nr_zone_active_anon" | "nr_active_anon" | "nr_anon_pages" => census.anonymous as u64,
            "nr_zone_active_file" | "nr_active_file" => census.cached as u64,
            "nr_zone_inactive_anon" | "nr_inactive_anon" | "nr_shmem" => census.files as u64,
            "nr_mlock" => pages(census.locked),
            "nr_slab_unreclaimable" => pages(census.slab),
            "nr_mapped" => census.mapped as u64,
            "nr_file_pages" => (census.files + census.cached) as u64,
            "nr_kernel_stack" => (census.stacks / 1024) as u64,
            "nr_page_table_pages" => census.tables as u64,
            "pgfault" => self.faults,
            "pgmajfault" => self.major_faults,
            "oom_kill" => oom::count_ended(),
            "drop_pagecache" => mm::cache::count_drops(),
            _ => 0,
        }
    }
}

/// `vmstat`.
pub(super) fn vmstat(text: &mut Text) {
    let counts = Counts::take();
    for name in ZONE.iter().chain(&NUMA).chain(&NODE).chain(&EVENTS) {
        put!(text, "{name} {}\n", counts.get(name));
    }
}

/// `vmstat` of the one node of memory.
pub(in super::super) fn node_vmstat(text: &mut Text) {
    let counts = Counts::take();
    for name in ZONE.iter().chain(&NUMA).chain(&NODE) {
        put!(text, "{name} {}\n", counts.get(name));
    }
}

/// `zoneinfo`.
pub(super) fn zoneinfo(text: &mut Text) {
    let counts = Counts::take();
    let total = mm::total_memory() / PAGE_SIZE;
    let kept = vmar_ostd::reserve::reserve();
    put!(text, "Node 0, zone   Normal\n  per-node stats");
    NODE.iter().for_each(|name| put!(text, "\n      {name:<12} {}", counts.get(name)));
    put!(text, "\n  pages free     {}\n        boost    0", counts.get("nr_free_pages"));
    put!(text, "\n        min      {}\n        low      {kept}\n        high     {kept}", kept / 2);
    put!(text, "\n        spanned  {total}\n        present  {total}\n        managed  {total}");
    put!(text, "\n        cma      0\n        protection: (0, 0)");
    ZONE.iter().chain(&NUMA).for_each(|name| put!(text, "\n      {name:<12} {}", counts.get(name)));
    put!(text, "\n  pagesets");
    for cpu in 0..ostd::cpu::num_cpus() {
        put!(
            text,
            "\n    cpu: {cpu}\n              count: 0\n              high:  0\n              batch: 1"
        );
        put!(text, "\n  vm stats threshold: 0");
    }
    put!(text, "\n  node_unreclaimable:  0\n  start_pfn:           0\n");
}
