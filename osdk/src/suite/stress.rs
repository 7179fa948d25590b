// SPDX-License-Identifier: MPL-2.0

//! stress-ng, as Debian built it: each of its stressors of memory, processes and signals by itself, and all of them at once.

use anyhow::Result;

use super::Case;
use crate::initramfs::{Contents, Root, Tree};

const PACKAGE: &str = "stress-ng";

/// Libraries of its graphics stressor that it opens by name when that one runs.
const NOT_NEEDED: &[&str] = &["libgl1-mesa-dri", "libllvm15"];

/// The stressors, with what each needs to be told so that it fits into the machine's memory.
const STRESSORS: &[(&str, &str)] = &[
    ("mmap", "--mmap-bytes 32m"),
    ("mmapfork", ""),
    ("mmapfixed", ""),
    ("mmapaddr", ""),
    ("mmapmany", ""),
    ("mremap", "--mremap-bytes 16m"),
    ("mprotect", ""),
    ("madvise", ""),
    ("brk", ""),
    ("bigheap", "--bigheap-growth 64k"),
    ("fork", ""),
    ("vfork", ""),
    ("clone", ""),
    ("vm", "--vm-bytes 32m"),
    ("vm-rw", "--vm-rw-bytes 16m"),
    ("vm-segv", ""),
    ("ptrace", ""),
    ("vm-addr", ""),
    ("munmap", ""),
    ("msync", "--msync-bytes 16m"),
    ("mincore", ""),
    ("malloc", "--malloc-bytes 32m"),
    ("stack", ""),
    ("shm", "--shm-bytes 2m"),
    ("shm-sysv", "--shm-sysv-bytes 2m"),
    ("memfd", "--memfd-bytes 32m"),
    ("tmpfs", ""),
    ("userfaultfd", "--userfaultfd-bytes 4m"),
    ("fault", ""),
    ("mlock", ""),
    ("mlockmany", "--pathological --mlockmany-procs 64"),
    ("sigsegv", ""),
    ("pagemove", "--pagemove-bytes 4m"),
    ("remap", ""),
    ("tlb-shootdown", ""),
    ("exec", "--exec-max 256"),
    ("pthread", ""),
    ("futex", ""),
    ("sigabrt", ""),
    ("sigchld", ""),
    ("sigfd", ""),
    ("sigfpe", ""),
    ("sigio", ""),
    ("signal", ""),
    ("signest", ""),
    ("sigpending", ""),
    ("sigpipe", ""),
    ("sigq", ""),
    ("sigrt", ""),
    ("sigsuspend", ""),
    ("sigtrap", ""),
];

/// Those that `make test` runs, too: one of each kind.
const QUICK: &[&str] =
    &["mmap", "mremap", "mprotect", "fork", "vm", "stack", "memfd", "sigsegv", "exec", "futex"];

/// Those that do nothing for root.
const FOR_USERS: &[&str] = &["exec"];

/// What is said to each: a run of some seconds that checks what it does.
const OPTIONS: &str = "--timeout 5 --verify --no-rand-seed --temp-path /tmp --oomable";

/// How long all of them run together, in seconds; and before that, for caches to be what they will be.
const MIXED_SECONDS: u64 = 600;
const WARM_UP_SECONDS: u64 = 30;

/// Each stressor by itself, two of it at a time.
pub fn cases() -> Vec<Case> {
    let case = |&(name, options): &(&str, &str)| {
        let command =
            as_user_if(FOR_USERS.contains(&name), format!("stress-ng --{name} 2 {options} {OPTIONS}"));
        Case::new(name, command, 120).quick_if(QUICK.contains(&name))
    };
    STRESSORS.iter().map(case).collect()
}

/// A command line that is carried out by somebody who is not root, if so, with files enough: exec's processes share theirs.
fn as_user_if(is_user: bool, command: String) -> String {
    if is_user { format!("(ulimit -n 20000; su -s /bin/sh nobody -c '{command}')") } else { command }
}

/// All of them, one instance each; then free memory must be back where it was after a first short run, but for what caches keep.
///
/// Where everybody wants everything, some find nothing to work with, or are ended while they count: stress-ng says so, and that is no
/// failure (stress-ng(1), EXIT STATUS). What it has checked and found wrong is.
pub fn mixed() -> Vec<Case> {
    /// What free memory may have become less by, in KiB.
    const SLACK: u64 = 4096;
    /// All were successful; some were without resources; some counts cannot be trusted.
    const SOUND: &str = "0|3|7";
    let run = |is_user: bool| {
        let stressors: String = STRESSORS
            .iter()
            .filter(|(name, _)| FOR_USERS.contains(name) == is_user)
            .map(|(name, options)| format!("--{name} 1 {options} "))
            .collect();
        as_user_if(
            is_user,
            format!("stress-ng {stressors} --timeout $seconds --verify --temp-path /tmp --oomable"),
        )
    };
    let all = format!("{} & user=$!; {}; all=$?; wait $user; user=$?", run(true), run(false));
    let free = "sync; echo 3 >/proc/sys/vm/drop_caches; sleep 1; awk '/^MemFree/ { print $2 }' /proc/meminfo";
    let command = format!(
        "all() {{ export seconds=$1; {all}; }}; all {WARM_UP_SECONDS}; before=$({free}); all {MIXED_SECONDS}; \
         for status in $all $user; do case $status in {SOUND}) ;; *) exit $status ;; esac; done; \
         after=$({free}); \
         echo \"@figures stress-ng ended with $all and $user; $before KiB free before, $after KiB after\"; \
         [ $((before - after)) -le {SLACK} ] || exit 9"
    );
    vec![Case::new("all-at-once", command, WARM_UP_SECONDS + MIXED_SECONDS + 300)]
}

/// A root of Debian's programs with stress-ng.
///
/// # Errors
///
/// When a package cannot be had.
pub fn tree() -> Result<Tree> {
    let mut tree = Tree::new(&Contents { root: Root::Debian, ..Contents::default() })?;
    tree.add_packages(PACKAGE, &[PACKAGE], NOT_NEEDED)?;
    Ok(tree)
}
