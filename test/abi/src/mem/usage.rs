// SPDX-License-Identifier: MPL-2.0

//! What the kernel counts: statm, the Vm fields of status, and the faults and peaks of getrusage(2).
//!
//! Linux keeps the resident counts per CPU and reads them loosely, so changes here are large and bounds wide.

use libc::{
    MADV_DONTNEED, MAP_NORESERVE, MAP_SHARED, PROT_EXEC, PROT_NONE, PROT_READ, RUSAGE_CHILDREN, RUSAGE_SELF,
};

use super::{ANON, ANON_SHARED, PAGE, RW, anon, anon_shared, lone_anon, number_pages, page_numbers, poke};
use crate::{
    child::in_child,
    harness::Case,
    procfs::{statm, status_kib},
    program::{become_role, role},
    sys, tmp,
};

pub const CASES: &[Case] = cases!["mem/usage":
    statm_size_follows_the_mappings,
    statm_resident_follows_the_touches,
    statm_shared_counts_shared_and_file_pages,
    status_agrees_with_statm,
    vmrss_is_the_sum_of_its_parts,
    rss_parts_tell_what_kind,
    vmdata_counts_private_writable_only,
    vmpeak_stays_when_memory_goes,
    vmhwm_stays_when_memory_goes,
    vmexe_and_vmlib_are_there,
    vmpte_grows_with_sparse_touches,
    child_starts_with_its_parents_size,
    a_large_mapping_counts_in_full,
    minor_faults_count_touches,
    minor_faults_do_not_count_second_touches,
    minor_faults_count_copies_after_fork,
    populate_saves_faults,
    populated_pages_count_as_faults,
    locked_pages_count_as_faults,
    advised_pages_count_as_faults,
    populated_copies_count_as_faults,
    touches_by_the_kernel_count,
    refused_touches_do_not_count,
    faults_begin_anew_in_a_child_and_outlive_exec,
    maxrss_tells_the_peak,
    maxrss_tells_the_peak_of_the_heap,
    maxrss_outlives_exec,
    children_count_once_waited_for,
    children_tell_the_largest_peak,
    rusage_errors,
];

/// Pages enough to be seen through loose counters.
const MANY: usize = 4096;

fn about(value: usize, expected: usize) -> bool {
    value.abs_diff(expected) <= expected / 4
}

/// Minor faults, major faults and the peak of the resident set in KiB.
fn usage(who: i32) -> (usize, usize, usize) {
    let mut usage = [0_i64; 18];
    ok!(syscall!(SYS_getrusage, who, usage.as_mut_ptr()));
    (usage[8] as usize, usage[9] as usize, usage[4] as usize)
}

fn statm_size_follows_the_mappings() {
    let before = statm()[0];
    let at = anon(100);
    check_eq!(statm()[0], before + 100);
    ok!(sys::munmap(at + 10 * PAGE, 50 * PAGE));
    check_eq!(statm()[0], before + 50);
    ok!(sys::mprotect(at, 10 * PAGE, PROT_NONE));
    check_eq!(statm()[0], before + 50);
    ok!(sys::mmap(at, 20 * PAGE, RW, ANON | libc::MAP_FIXED, -1, 0));
    check_eq!(statm()[0], before + 60);
}

fn statm_resident_follows_the_touches() {
    let at = anon(MANY);
    let before = statm()[1];
    number_pages(at, MANY, 1);
    check!(about(statm()[1] - before, MANY), "{} of {MANY}", statm()[1] - before);
    ok!(sys::madvise(at, MANY * PAGE, MADV_DONTNEED));
    check!(statm()[1] < before + MANY / 4);
}

fn statm_shared_counts_shared_and_file_pages() {
    let (private, shared) = (anon(MANY), anon_shared(MANY));
    let before = statm()[2];
    number_pages(private, MANY, 1);
    check!(statm()[2] < before + MANY / 4);
    number_pages(shared, MANY, 1);
    check!(about(statm()[2] - before, MANY), "{} of {MANY}", statm()[2] - before);
}

fn status_agrees_with_statm() {
    anon(777);
    check_eq!(status_kib("VmSize"), statm()[0] * 4);
    check!(status_kib("VmPeak") >= status_kib("VmSize"));
    check!(status_kib("VmHWM") * 5 / 4 + 256 >= status_kib("VmRSS"));
}

fn vmrss_is_the_sum_of_its_parts() {
    number_pages(anon(100), 100, 1);
    let text = crate::procfs::text("status");
    let field = |name: &str| -> usize {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().strip_suffix(" kB"));
        match line.and_then(|value| value.trim().parse().ok()) {
            Some(value) => value,
            None => panic!("status has no {name}"),
        }
    };
    check_eq!(field("VmRSS"), field("RssAnon") + field("RssFile") + field("RssShmem"));
}

fn rss_parts_tell_what_kind() {
    let fd = tmp::file(&vec![1; MANY * PAGE]);
    let kinds = [anon(MANY), ok!(sys::mmap(0, MANY * PAGE, PROT_READ, MAP_SHARED, fd, 0)), anon_shared(MANY)];
    let parts = || ["RssAnon", "RssFile", "RssShmem"].map(status_kib);
    for (kind, at) in kinds.into_iter().enumerate() {
        let before = parts();
        if kind == 1 {
            page_numbers(at, MANY);
        } else {
            number_pages(at, MANY, 1);
        }
        let after = parts();
        // A file in a tmpfs counts as shared memory.
        let grown: Vec<_> = (0..3).map(|part| after[part].saturating_sub(before[part])).collect();
        let seen = if kind == 1 { grown[1].max(grown[2]) } else { grown[kind] };
        check!(about(seen, MANY * 4), "kind {kind}: {grown:?} KiB");
    }
}

fn vmdata_counts_private_writable_only() {
    let before = status_kib("VmData");
    ok!(sys::mmap(0, 100 * PAGE, PROT_READ, ANON, -1, 0));
    ok!(sys::mmap(0, 100 * PAGE, PROT_READ | PROT_EXEC, ANON, -1, 0));
    ok!(sys::mmap(0, 100 * PAGE, RW, ANON_SHARED, -1, 0));
    check_eq!(status_kib("VmData"), before);
    let at = anon(100);
    check_eq!(status_kib("VmData"), before + 400);
    ok!(sys::mprotect(at, 50 * PAGE, PROT_READ));
    check_eq!(status_kib("VmData"), before + 200);
    ok!(sys::munmap(at, 100 * PAGE));
    check_eq!(status_kib("VmData"), before);
}

fn vmpeak_stays_when_memory_goes() {
    let at = anon(10_000);
    let peak = status_kib("VmSize");
    ok!(sys::munmap(at, 10_000 * PAGE));
    check_eq!(status_kib("VmPeak"), peak);
    check_eq!(status_kib("VmSize"), peak - 40_000);
}

fn vmhwm_stays_when_memory_goes() {
    let at = anon(MANY);
    number_pages(at, MANY, 1);
    ok!(sys::munmap(at, MANY * PAGE));
    check!(status_kib("VmHWM") >= MANY * 4 * 3 / 4);
    check!(status_kib("VmRSS") < status_kib("VmHWM"));
}

fn vmexe_and_vmlib_are_there() {
    check!(status_kib("VmExe") > 0);
    let _ = (status_kib("VmLib"), status_kib("VmSwap"), status_kib("VmPTE"));
}

fn vmpte_grows_with_sparse_touches() {
    const STEP: usize = 2 << 20;
    let before = status_kib("VmPTE");
    let at = ok!(sys::mmap(0, 256 * STEP, RW, ANON | MAP_NORESERVE, -1, 0));
    (0..256).for_each(|step| poke(at + step * STEP, 1));
    check!(status_kib("VmPTE") >= before + 900, "{before} KiB, then {} KiB", status_kib("VmPTE"));
}

fn child_starts_with_its_parents_size() {
    anon(500);
    let (size, data) = (statm()[0], status_kib("VmData"));
    in_child(|| {
        check_eq!((statm()[0], status_kib("VmData")), (size, data));
        anon(100);
    });
    check_eq!(statm()[0], size);
}

fn a_large_mapping_counts_in_full() {
    let before = statm();
    ok!(sys::mmap(0, 1 << 40, RW, ANON | MAP_NORESERVE, -1, 0));
    let after = statm();
    check_eq!(after[0] - before[0], 1 << 28);
    check!(after[1] < before[1] + 1024);
}

fn minor_faults_count_touches() {
    let at = lone_anon(300);
    let before = usage(RUSAGE_SELF).0;
    number_pages(at, 300, 1);
    let faults = usage(RUSAGE_SELF).0 - before;
    check!((300..400).contains(&faults), "{faults} faults for 300 touches");
}

fn minor_faults_do_not_count_second_touches() {
    let at = lone_anon(300);
    number_pages(at, 300, 1);
    let before = usage(RUSAGE_SELF).0;
    number_pages(at, 300, 2);
    let faults = usage(RUSAGE_SELF).0 - before;
    check!(faults < 50, "{faults} faults for pages that are there");
}

fn minor_faults_count_copies_after_fork() {
    let at = lone_anon(300);
    number_pages(at, 300, 1);
    in_child(|| {
        let before = usage(RUSAGE_SELF).0;
        // Backwards: a kernel may copy what comes next in the same fault.
        (0..300).rev().for_each(|page| poke(at + page * PAGE, 2));
        let faults = usage(RUSAGE_SELF).0 - before;
        check!((300..400).contains(&faults), "{faults} faults for 300 copies");
    });
}

fn populate_saves_faults() {
    let at = ok!(sys::mmap(0, 300 * PAGE, RW, ANON | libc::MAP_POPULATE, -1, 0));
    let before = usage(RUSAGE_SELF).0;
    number_pages(at, 300, 1);
    let faults = usage(RUSAGE_SELF).0 - before;
    check!(faults < 50, "{faults} faults for populated pages");
}

/// How many faults are counted while `body` runs.
fn faults_of(body: impl FnOnce()) -> usize {
    let before = usage(RUSAGE_SELF).0;
    body();
    usage(RUSAGE_SELF).0 - before
}

/// Fails the case unless so many faults are counted, give or take what the program itself needs.
#[track_caller]
fn expect_faults(expected: usize, body: impl FnOnce()) {
    let faults = faults_of(body);
    check!((expected..expected + 50).contains(&faults), "{faults} faults instead of {expected}");
}

fn populated_pages_count_as_faults() {
    let map = |prot, flags| _ = ok!(sys::mmap(0, 300 * PAGE, prot, flags | libc::MAP_POPULATE, -1, 0));
    expect_faults(300, || map(RW, ANON));
    expect_faults(300, || map(PROT_READ, ANON));
    expect_faults(300, || map(RW, ANON_SHARED));
    expect_faults(0, || map(PROT_NONE, ANON));
}

fn locked_pages_count_as_faults() {
    let at = lone_anon(16);
    number_pages(at, 4, 1);
    let locked = |body: &dyn Fn()| {
        let faults = faults_of(body);
        check!((12..12 + 10).contains(&faults), "{faults} faults for 12 pages");
    };
    locked(&|| _ = ok!(syscall!(SYS_mlock, at, 16 * PAGE)));
    expect_faults(0, || _ = ok!(syscall!(SYS_mlock, at, 16 * PAGE)));
    let other = lone_anon(12);
    expect_faults(0, || _ = ok!(syscall!(SYS_mlock2, other, 12 * PAGE, 1)));
    locked(&|| number_pages(other, 12, 1));
}

fn advised_pages_count_as_faults() {
    let (written, read) = (lone_anon(300), lone_anon(300));
    number_pages(written + 100 * PAGE, 50, 1);
    let advise = |at, advice| _ = ok!(sys::madvise(at, 300 * PAGE, advice));
    expect_faults(250, || advise(written, libc::MADV_POPULATE_WRITE));
    expect_faults(0, || advise(written, libc::MADV_POPULATE_WRITE));
    expect_faults(0, || advise(written, libc::MADV_POPULATE_READ));
    expect_faults(300, || advise(read, libc::MADV_POPULATE_READ));
    expect_faults(0, || advise(read, libc::MADV_POPULATE_READ));
    expect_faults(300, || advise(read, libc::MADV_POPULATE_WRITE));
    check_eq!(page_numbers(written + 98 * PAGE, 4), [0, 0, 1, 2]);
}

fn populated_copies_count_as_faults() {
    let at = lone_anon(300);
    number_pages(at, 300, 1);
    in_child(|| {
        expect_faults(0, || _ = ok!(sys::madvise(at, 300 * PAGE, libc::MADV_POPULATE_READ)));
        expect_faults(300, || _ = ok!(sys::madvise(at, 300 * PAGE, libc::MADV_POPULATE_WRITE)));
        expect_faults(0, || number_pages(at, 300, 2));
    });
    check_eq!(page_numbers(at, 3), [1, 2, 3]);
}

fn touches_by_the_kernel_count() {
    let (at, fd) = (lone_anon(300), ok!(sys::open("/dev/zero", libc::O_RDONLY, 0)));
    let before = usage(RUSAGE_SELF).0;
    (0..300).for_each(|page| check_eq!(syscall!(SYS_read, fd, at + page * PAGE, 1), Ok(1)));
    let faults = usage(RUSAGE_SELF).0 - before;
    check!((300..400).contains(&faults), "{faults} faults for 300 touches");
}

fn refused_touches_do_not_count() {
    let (at, fd) = (super::free_range(1), ok!(sys::open("/dev/zero", libc::O_RDONLY, 0)));
    let before = usage(RUSAGE_SELF).0;
    (0..300).for_each(|_| errno_is!(syscall!(SYS_read, fd, at, 1), EFAULT));
    (0..300).for_each(|_| check!(crate::fault::try_read(at).is_err()));
    let faults = usage(RUSAGE_SELF).0 - before;
    check!(faults < 100, "{faults} faults for pages that cannot be touched");
}

/// The fields of /proc/self/stat that count faults: minor ones, those of children, major ones, those of children.
fn stat_faults() -> Vec<usize> {
    let text = crate::procfs::text("stat");
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(7).take(4).filter_map(|field| field.parse().ok()).collect()
}

fn faults_begin_anew_in_a_child_and_outlive_exec() {
    number_pages(anon(MANY), MANY, 1);
    in_child(|| {
        check!(usage(RUSAGE_SELF).0 < MANY / 2, "{} faults", usage(RUSAGE_SELF).0);
        check_eq!((usage(RUSAGE_CHILDREN).0, stat_faults()[1], stat_faults()[3]), (0, 0, 0));
    });
    check!(stat_faults()[0] >= MANY && stat_faults()[0] <= usage(RUSAGE_SELF).0);
    check_eq!(stat_faults()[1], usage(RUSAGE_CHILDREN).0);
    let told = role(&["mem/peak", "0"], || number_pages(anon(MANY), MANY, 1));
    let faults = told.split(' ').nth(1).and_then(|faults| faults.parse::<usize>().ok());
    check!(faults.is_some_and(|faults| faults >= MANY), "{told}");
}

/// Executes itself as often as the first argument says, and then prints its peak in KiB and its minor faults.
pub fn print_peak(args: &[String]) -> i32 {
    match args.first().and_then(|count| count.parse::<usize>().ok()) {
        Some(count) if count > 0 => become_role(&["mem/peak", &(count - 1).to_string()], &[]),
        _ => println!("{} {}", usage(RUSAGE_SELF).2, usage(RUSAGE_SELF).0),
    }
    0
}

fn maxrss_outlives_exec() {
    for count in ["0", "2"] {
        let told = role(&["mem/peak", count], || number_pages(anon(MANY), MANY, 1));
        let peak = told.split(' ').next().and_then(|peak| peak.parse::<usize>().ok());
        check!(peak.is_some_and(|peak| peak >= MANY * 4 * 3 / 4), "{told} after {count} more programs");
    }
}

fn maxrss_tells_the_peak_of_the_heap() {
    let start = sys::brk(0).next_multiple_of(PAGE);
    check_eq!(sys::brk(start + MANY * PAGE), start + MANY * PAGE);
    number_pages(start, MANY, 1);
    check_eq!(sys::brk(start), start);
    let peak = usage(RUSAGE_SELF).2;
    check!(peak >= MANY * 4 * 3 / 4, "{peak} KiB");
}

fn children_tell_the_largest_peak() {
    in_child(|| number_pages(anon(MANY), MANY, 1));
    in_child(|| number_pages(anon(1), 1, 1));
    let peak = usage(RUSAGE_CHILDREN).2;
    check!(peak >= MANY * 4 * 3 / 4, "{peak} KiB");
    // Of children's children as well, and of none that was not waited for.
    in_child(|| {
        check_eq!(usage(RUSAGE_CHILDREN).2, 0);
        in_child(|| in_child(|| number_pages(anon(2 * MANY), 2 * MANY, 1)));
        check!(usage(RUSAGE_CHILDREN).2 >= 2 * MANY * 4 * 3 / 4);
    });
    check!(usage(RUSAGE_CHILDREN).2 >= 2 * MANY * 4 * 3 / 4);
}

fn maxrss_tells_the_peak() {
    let at = anon(MANY);
    number_pages(at, MANY, 1);
    ok!(sys::munmap(at, MANY * PAGE));
    let peak = usage(RUSAGE_SELF).2;
    check!(peak >= MANY * 4 * 3 / 4, "{peak} KiB");
}

fn children_count_once_waited_for() {
    let before = usage(RUSAGE_CHILDREN);
    in_child(|| number_pages(anon(MANY), MANY, 1));
    let after = usage(RUSAGE_CHILDREN);
    check!(after.0 - before.0 >= MANY, "{} faults", after.0 - before.0);
    check!(after.2 >= MANY * 4 * 3 / 4, "{} KiB", after.2);
}

fn rusage_errors() {
    let mut usage = [0_i64; 18];
    errno_is!(syscall!(SYS_getrusage, 5, usage.as_mut_ptr()), EINVAL);
    errno_is!(syscall!(SYS_getrusage, -3_i32, usage.as_mut_ptr()), EINVAL);
    errno_is!(syscall!(SYS_getrusage, RUSAGE_SELF, super::free_range(1)), EFAULT);
}
