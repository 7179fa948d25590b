// SPDX-License-Identifier: MPL-2.0

//! Memory runs out and comes back: all of it can be had, the shell survives who takes it, and nothing leaks.

use super::{Case, Said, case};
use crate::initramfs::Root;

/// A command line that does something many times and says whether as much memory is free afterwards as before. What files have in
/// memory that can be read again counts as free: there is more of it with each part of a program that is used first.
///
/// The kernel's caches of small objects fill up first, in rounds that are not counted, and then they breathe: what is free
/// goes up and down by some pages with each program that is started to find it out. So the most of twenty readings is what
/// counts, and of that not a page may be lost. A page that an object or two keep comes back some rounds later, and what has leaked
/// does not: before something is said to be lost, there are some rounds more.
macro_rules! keeps_memory {
    ($what:literal, $few:literal, $many:literal) => {
        keeps_memory!($what, $few, $many, 0)
    };
    ($what:literal, $few:literal, $many:literal, $slack:literal) => {
        concat!(
            "loop() { i=0; while [ $i -lt $1 ]; do ",
            $what,
            "; i=$((i+1)); done; }; ",
            "free() { sed -n 's/^MemAvailable: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo; }; ",
            "most() { i=0; most=0; while [ $i -lt 20 ]; do f=$(free); [ $f -gt $most ] && most=$f; i=$((i+1)); done; }; ",
            "loop ",
            $few,
            "; most; before=$most; loop ",
            $many,
            "; for again in 1 2 3 4 5; do most; [ $((most + ", $slack, ")) -ge $before ] && break; loop ", $few, "; done; ",
            "[ $((most + ", $slack, ")) -ge $before ] && echo kept || echo $before kB before, $most kB after"
        )
    };
}

/// A command line that has everything taken in every way, and compares what is free again with what was after the time before.
/// What the kernel keeps for use again stops growing after a few times; what it loses does not.
const HOSTILE: &str = "free() { sed -n 's/^MemFree: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo; }; \
     hostile 3 >/dev/null; sleep 1; after=$(free); \
     for again in 1 2 3 4; do \
         before=$after; hostile 12; a=$?; sleep 1; after=$(free); \
         [ $a = 0 ] || break; \
         [ $((before - after)) -le 512 ] && echo the shell lives && exit; \
     done; echo status $a, $before kB before, $after kB after";

/// A command line that has two programs want 7/10 of what is free, each, which they fill ten times: one of them is ended, and
/// the shell goes on. So it is whatever memory the machine has.
const EXHAUSTED: &str = "available=$(sed -n 's/^MemAvailable: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo); \
     want=$((available * 717)); \
     for i in 1 2; do dd if=/dev/zero of=/dev/null bs=$want count=10 2>/dev/null & done; \
     wait %1; a=$?; wait %2; b=$?; \
     case \" $a $b \" in *' 137 '*) echo the shell lives;; *) echo $a $b;; esac";

/// Shell functions that look at what the kernel says of memory.
macro_rules! looking {
    ($($what:literal),+) => {
        concat!(
            "kib() { sed -n \"s/^$1: *\\([0-9]*\\) kB/\\1/p\" /proc/meminfo; }; ",
            "ended() { sed -n 's/^oom_kill //p' /proc/vmstat; }; ",
            // A process, whose number is then in $!, that has come to have so many bytes and keeps them.
            "holds() { (head -c $1 /dev/zero; sleep 1000) | tail -c $1 >/dev/null & ",
            "until [ $(cut -d' ' -f2 /proc/$!/statm) -ge $(($1 / 4096)) ]; do sleep 1; done; }; ",
            $($what),+
        )
    };
}

/// A command line that fills a tmpfs, once with a bound beyond all memory and once within it, and has all of it back afterwards.
const TMPFS_FILLED: &str = looking!(
    "free=$(kib MemFree); \
     mount -t tmpfs -o size=4G fill /mnt; timeout 60 dd if=/dev/zero of=/mnt/a bs=64k 2>/dev/null; a=$?; \
     echo goes on >/tmp/b && cat /tmp/b; umount /mnt; \
     mount -t tmpfs -o size=16M fill /mnt; dd if=/dev/zero of=/mnt/a bs=64k 2>&1 | grep -c 'No space left'; \
     umount /mnt; [ $a != 0 ] && [ $(($(kib MemFree) + 4096)) -ge $free ] && echo back || echo $a $free $(kib MemFree)"
);

/// A command line that has many processes, each of which starts others and takes memory, more than there is.
const HOGS: &str = "bomb() { [ $1 = 0 ] && return; bomb $(($1 - 1)) & bomb $(($1 - 1)) & \
         timeout 10 tail -c 30000000 /dev/zero & wait; }; \
     bomb 5; grep -q 'oom_kill 0' /proc/vmstat || echo the shell lives";

/// Shell functions with a hundred processes that live at a time.
macro_rules! hundred {
    ($what:literal) => {
        looking!(
            "before=$(kib KernelStack); for i in $(seq 100); do sleep 1000 & done; ",
            // All of them but the last end.
            "one_lives() { for i in $(seq 99); do kill %$i; wait %$i; done; }; ",
            "more() { echo $(($(kib KernelStack) - before)); }; ",
            $what
        )
    };
}

/// A machine with so much memory that runs out of it.
const fn exhausted(name: &'static str, memory: &'static str, processors: u32) -> Case {
    Case { memory, processors, ..small(name, EXHAUSTED, Said::All(&["the shell lives\n"])) }
}

/// A case on a machine with little memory.
const fn small(name: &'static str, command: &'static str, said: Said) -> Case {
    Case { memory: "512M", seconds: 600, ..case(name, command, said) }
}

/// The cases.
pub(super) const CASES: &[Case] = &[
    small(
        "fill-100",
        keeps_memory!("dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null", 10, 100),
        Said::Exactly("kept\n"),
    ),
    Case {
        root: Root::Debian,
        ..case(
            "drop-caches",
            looking!(
                "sums() { find /usr -type f | sort | xargs md5sum | md5sum; }; \
                 before=$(sums); full=$(kib Cached); echo 1 >/proc/sys/vm/drop_caches; left=$(kib Cached); \
                 [ $((full - left)) -gt 20000 ] && [ \"$(sums)\" = \"$before\" ] && echo dropped and read again \
                     || echo $full kB, $left kB left"
            ),
            Said::Exactly("dropped and read again\n"),
        )
    },
    Case {
        root: Root::Debian,
        ..case(
            "major-faults",
            // A program whose file must be read, and the same once more: first the files of all that is asked with.
            looking!(
                "majors() { set -- $(cat /proc/$$/stat); echo ${13}; }; look() { find /proc/self -maxdepth 0 >/dev/null; }; \
                 echo 1 >/proc/sys/vm/drop_caches; majors >/dev/null; none=$(majors); look; once=$(majors); look; twice=$(majors); \
                 [ $none -gt 0 ] && [ $once -gt $none ] && [ $twice = $once ] && echo read once \
                     || echo $none major faults, then $once, then $twice"
            ),
            Said::Exactly("read once\n"),
        )
    },
    Case {
        root: Root::Debian,
        memory: "384M",
        ..small(
            "cache-before-programs",
            // As much as is promised, which is more than is free: what files have in memory makes room, and nobody is ended.
            looking!(
                "cat $(find /usr -type f) >/dev/null; \
                 free=$(kib MemFree) available=$(kib MemAvailable); want=$((available - 4096)); \
                 dd if=/dev/zero of=/dev/null bs=${want}k count=1 2>/dev/null && [ $want -gt $free ] && [ $(ended) = 0 ] \
                     && echo nobody was ended || echo $free kB free, $available kB available, $(ended) ended"
            ),
            Said::Exactly("nobody was ended\n"),
        )
    },
    small(
        "oom-is-told",
        looking!(
            "tail -c 525000000 /dev/zero & wait $!; a=$?; \
             dmesg | grep -qE 'tail invoked oom-killer: gfp_mask=0x[0-9a-f]+' && \
             dmesg | grep -qE '\\[ *1\\] +0 +1 .* (init|sh)$' && \
             dmesg | grep -qE \"Out of memory: Killed process $! \\(tail\\) total-vm:[0-9]+kB, anon-rss:[0-9]+kB, \
file-rss:[0-9]+kB, shmem-rss:0kB, UID:0 pgtables:[0-9]+kB oom_score_adj:0$\" && echo $a, $(ended) ended"
        ),
        Said::All(&["\n137, 1 ended\n"]),
    ),
    small(
        "oom-score-is-obeyed",
        looking!(
            "holds 100000000; a=$!; holds 40000000; b=$!; echo 900 >/proc/$b/oom_score_adj; \
             highest=$(for p in /proc/[0-9]*; do echo $(cat $p/oom_score) ${p#/proc/}; done | sort -n | tail -n 1); \
             tail -c 525000000 /dev/zero & c=$!; wait $c; d=$?; \
             first=$(dmesg | sed -n 's/.*Out of memory: Killed process \\([0-9]*\\) .*/\\1/p' | head -n 1); \
             [ \"$first\" = \"${highest#* }\" ] && [ $first = $b ] && kill -0 $a && echo $d, as told \
                 || echo $highest, $a $b $c, $first first"
        ),
        Said::All(&["\n137, as told\n"]),
    ),
    small(
        "oom-kills-who-asks",
        looking!(
            "echo 1 >/proc/sys/vm/oom_kill_allocating_task; holds 60000000; a=$!; \
             echo 900 >/proc/$a/oom_score_adj; tail -c 525000000 /dev/zero & wait $!; b=$?; kill -0 $a && echo $b"
        ),
        Said::All(&["\n137\n"]),
    ),
    small(
        "stacks-of-ended-threads",
        // The kernel keeps what it has of them for others as long as one that is younger lives, and sixteen for ever.
        hundred!(
            "all=$(more); one_lives; kept=$(more); (sleep 0) & wait $!; again=$(more); \
             kill %100; wait; sleep 1; left=$(more); \
             [ $kept -ge 3000 ] && [ $kept -le $all ] && [ $again -le $all ] && [ $left -le 512 ] && echo given back \
                 || echo $all kB, $kept kB, $again kB, $left kB more"
        ),
        Said::All(&["given back\n"]),
    ),
    small(
        "stacks-when-memory-is-short",
        hundred!(
            "one_lives; kept=$(more); tail -c 525000000 /dev/zero & wait $!; a=$?; left=$(more); \
             [ $kept -ge 3000 ] && [ $left -le 512 ] && [ $(ended) = 1 ] && echo $a, given back \
                 || echo $kept kB, $left kB more, $(ended) ended"
        ),
        Said::All(&["137, given back\n"]),
    ),
    Case { memory: "256M", ..small("tmpfs-filled-256m", TMPFS_FILLED, Said::All(&["goes on\n1\nback\n"])) },
    Case {
        memory: "384M",
        processors: 2,
        ..small("tmpfs-filled-384m-smp", TMPFS_FILLED, Said::All(&["goes on\n1\nback\n"]))
    },
    Case { memory: "256M", ..small("hogs-256m", HOGS, Said::All(&["the shell lives\n"])) },
    Case { memory: "384M", processors: 2, ..small("hogs-384m-smp", HOGS, Said::All(&["the shell lives\n"])) },
    small(
        "memory-exhausted",
        // Four programs that want 200 MB each, none of which ends by itself.
        "for i in 1 2 3 4; do timeout 20 tail -c 200000000 /dev/zero & done; \
         wait %1; a=$?; wait %2; b=$?; wait %3; c=$?; wait %4; d=$?; \
         case \" $a $b $c $d \" in *' 137 '*) echo the shell lives;; *) echo $a $b $c $d;; esac",
        Said::All(&["the shell lives\n"]),
    ),
    exhausted("memory-exhausted-256m", "256M", 1),
    exhausted("memory-exhausted-384m-smp", "384M", 2),
    exhausted("memory-exhausted-512m-smp", "512M", 2),
    exhausted("memory-exhausted-1g", "1G", 1),
    Case {
        processors: 2,
        ..small(
            "memory-to-the-last",
            // On one processor after the other, a program that wants more than is free (and less than the machine has: more
            // would be refused). What it had when it was ended is what /proc/meminfo had promised, but for 4 MiB; busybox
            // takes KiB for pages.
            "for cpu in 0 1 0 1; do \
                 promised=$(sed -n 's/^MemAvailable: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo); \
                 time -v taskset -c $cpu tail -c 525000000 /dev/zero 2>/tmp/time; a=$?; \
                 had=$(sed -n 's/.*Maximum resident.*: //p' /tmp/time); had=$((had / 4)); \
                 grep -q 'terminated by signal 9' /tmp/time && [ $had -ge $((promised - 4096)) ] \
                     && echo all || echo $a $had of $promised kB; \
             done",
            Said::Exactly("all\nall\nall\nall\n"),
        )
    },
    Case { memory: "256M", ..small("hostile", HOSTILE, Said::All(&["the shell lives\n"])) },
    Case {
        memory: "256M",
        processors: 2,
        ..small("hostile-smp", HOSTILE, Said::All(&["the shell lives\n"]))
    },
    Case {
        memory: "512M",
        processors: 2,
        ..small(
            "hostile-random",
            "hostile random 20 && echo the shell lives",
            Said::All(&["the shell lives\n"]),
        )
    },
    Case {
        memory: "256M",
        processors: 2,
        ..small("locked", "hostile locked && echo the shell lives", Said::All(&["the shell lives\n"]))
    },
    small("traced", "hostile traced && echo the shell lives", Said::All(&["the shell lives\n"])),
    small("fork-10000", keeps_memory!("(exit 0)", 3_000, 10_000), Said::Exactly("kept\n")),
    Case {
        processors: 2,
        // What one processor allocates and another frees fills the caches of both, slowly: 140 kB in the first 10,000 rounds,
        // and then some pages now and then. Hence an allowance of 64 kB.
        ..small("fork-10000-smp", keeps_memory!("(exit 0)", 10_000, 10_000, 64), Said::Exactly("kept\n"))
    },
    small(
        "map-1000",
        keeps_memory!("dd if=/dev/zero of=/dev/null bs=100M count=0 2>/dev/null", 500, 1000),
        Said::Exactly("kept\n"),
    ),
];
