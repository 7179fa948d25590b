// SPDX-License-Identifier: MPL-2.0

//! Files of `/sys` about processors and memory: sysfs(5), and what lscpu(1) and libnuma read.

use std::{collections::BTreeSet, fs};

use super::sets_memory_up_lazily;
use crate::harness::Case;

pub const CASES: &[Case] = cases!["sysfs":
    cpus_are_online,
    each_cpu_has_a_folder,
    folders_list_what_is_in_them,
    topology_has_the_cpu_in_its_sets,
    topology_agrees_with_cpuinfo,
    caches_are_as_large_as_their_parts,
    memory_is_a_node_of_all_cpus,
    memory_of_the_node_is_that_of_the_machine,
];

const CPU: &str = "/sys/devices/system/cpu";
const NODE: &str = "/sys/devices/system/node";

fn need_sysfs() {
    if fs::metadata(CPU).is_err() {
        skip!("no sysfs");
    }
}

fn text(path: &str) -> String {
    match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => panic!("reading {path}: {error}"),
    }
}

fn number(path: &str) -> usize {
    match text(path).trim().parse() {
        Ok(number) => number,
        Err(_) => panic!("{path} is no number"),
    }
}

/// The numbers in a list such as `0-3,7`.
fn list(path: &str) -> Vec<usize> {
    let text = text(path);
    let part = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
    };
    let parts = text.trim().split(',').filter(|part| !part.is_empty());
    parts.flat_map(|range| part(range).unwrap_or_else(|| panic!("{path} is {text:?}"))).collect()
}

/// The numbers of the bits that are set in a map such as `f,00000000`.
fn map(path: &str) -> Vec<usize> {
    let text = text(path);
    let groups = text.trim().rsplit(',').map(|group| u32::from_str_radix(group, 16).unwrap_or_default());
    let bits = |(group, word): (usize, u32)| {
        (0..32).filter(move |bit| word & 1 << bit != 0).map(move |bit| group * 32 + bit)
    };
    groups.enumerate().flat_map(bits).collect()
}

fn names_in(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("reading {folder}: {error}"));
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn cpus_are_online() {
    need_sysfs();
    let [online, possible, present] =
        ["online", "possible", "present"].map(|name| list(&format!("{CPU}/{name}")));
    check!(online.contains(&0) && online.iter().all(|cpu| present.contains(cpu)), "{online:?}");
    check!(present.iter().all(|cpu| possible.contains(cpu)), "{present:?}");
    let in_cpuinfo = text("/proc/cpuinfo").lines().filter(|line| line.starts_with("processor\t")).count();
    check_eq!(in_cpuinfo, online.len());
    check!(number(&format!("{CPU}/kernel_max")) >= possible.len() - 1);
}

fn each_cpu_has_a_folder() {
    need_sysfs();
    let is_cpu = |name: &&String| name.strip_prefix("cpu").is_some_and(|rest| rest.parse::<usize>().is_ok());
    let names = names_in(CPU);
    let expected =
        list(&format!("{CPU}/present")).iter().map(|cpu| format!("cpu{cpu}")).collect::<BTreeSet<_>>();
    check_eq!(names.iter().filter(is_cpu).cloned().collect::<BTreeSet<_>>(), expected);
    for name in ["cpu", "cpu00", "cpu9999", "cpux", "cpu0x", "cpu+0"] {
        check!(fs::metadata(format!("{CPU}/{name}")).is_err(), "{name} is there");
    }
}

fn folders_list_what_is_in_them() {
    need_sysfs();
    let mut numbers = BTreeSet::new();
    for cpu in list(&format!("{CPU}/online")) {
        let folder = format!("{CPU}/cpu{cpu}");
        for name in names_in(&folder) {
            let found = fs::symlink_metadata(format!("{folder}/{name}"));
            let Ok(found) = found else { panic!("{folder}/{name} is listed and not there") };
            check!(
                numbers.insert(std::os::unix::fs::MetadataExt::ino(&found)),
                "{folder}/{name} is two files"
            );
        }
        check!(fs::metadata(format!("{folder}/topology")).is_ok_and(|found| found.is_dir()));
    }
}

fn topology_has_the_cpu_in_its_sets() {
    need_sysfs();
    for cpu in list(&format!("{CPU}/online")) {
        let file = |name: &str| format!("{CPU}/cpu{cpu}/topology/{name}");
        let mut inner = vec![cpu];
        for name in ["thread_siblings", "core_siblings"] {
            let (bits, cpus) = (map(&file(name)), list(&file(&format!("{name}_list"))));
            check_eq!(bits, cpus);
            check!(inner.iter().all(|cpu| cpus.contains(cpu)), "{cpus:?} has not {inner:?}");
            inner = cpus;
        }
    }
}

fn topology_agrees_with_cpuinfo() {
    need_sysfs();
    let cpuinfo = text("/proc/cpuinfo");
    for (cpu, part) in cpuinfo.split("\n\n").filter(|part| part.contains("physical id")).enumerate() {
        let told = |name: &str| {
            let line = part.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_prefix(':'));
            line.and_then(|value| value.trim().parse::<usize>().ok())
        };
        let file = |name: &str| format!("{CPU}/cpu{cpu}/topology/{name}");
        check_eq!(told("physical id"), Some(number(&file("physical_package_id"))));
        check_eq!(told("core id"), Some(number(&file("core_id"))));
        check_eq!(told("siblings"), Some(list(&file("core_siblings_list")).len()));
    }
}

fn caches_are_as_large_as_their_parts() {
    need_sysfs();
    let folder = format!("{CPU}/cpu0/cache");
    if fs::metadata(&folder).is_err() {
        skip!("nothing is known of caches");
    }
    let caches: Vec<_> = names_in(&folder).into_iter().filter(|name| name.starts_with("index")).collect();
    check!(!caches.is_empty());
    for cache in caches {
        let file = |name: &str| format!("{folder}/{cache}/{name}");
        let size = text(&file("size")).trim().strip_suffix('K').and_then(|size| size.parse::<usize>().ok());
        let [line, ways, sets, parts] =
            ["coherency_line_size", "ways_of_associativity", "number_of_sets", "physical_line_partition"]
                .map(|name| number(&file(name)));
        check_eq!(size.map(|size| size * 1024), Some(line * ways * sets * parts));
        check!((1..=4).contains(&number(&file("level"))));
        check!(["Data\n", "Instruction\n", "Unified\n"].contains(&text(&file("type")).as_str()));
        check_eq!(map(&file("shared_cpu_map")), list(&file("shared_cpu_list")));
        check!(list(&file("shared_cpu_list")).contains(&0));
    }
}

fn one_node() {
    need_sysfs();
    if fs::metadata(NODE).is_err() || text(&format!("{NODE}/online")) != "0\n" {
        skip!("this machine has not one node of memory");
    }
}

fn memory_is_a_node_of_all_cpus() {
    one_node();
    for name in ["has_cpu", "has_memory", "has_normal_memory", "possible"] {
        check_eq!(list(&format!("{NODE}/{name}")), [0]);
    }
    let cpus = list(&format!("{CPU}/online"));
    let node = |name: &str| format!("{NODE}/node0/{name}");
    check_eq!((list(&node("cpulist")), map(&node("cpumap"))), (cpus.clone(), cpus.clone()));
    check_eq!(text(&node("distance")), "10\n");
    for cpu in cpus {
        for (link, target) in [
            (node(&format!("cpu{cpu}")), format!("{CPU}/cpu{cpu}")),
            (format!("{CPU}/cpu{cpu}/node0"), format!("{NODE}/node0")),
        ] {
            check_eq!(fs::canonicalize(&link).ok(), Some(target.into()));
        }
    }
}

fn memory_of_the_node_is_that_of_the_machine() {
    one_node();
    let (node, machine) = (text(&format!("{NODE}/node0/meminfo")), text("/proc/meminfo"));
    let names: Vec<_> =
        node.lines().filter_map(|line| line.strip_prefix("Node 0 ")?.split(':').next()).collect();
    check_eq!(names.len(), node.lines().count());
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<usize>().ok())
    };
    let of_node = |name: &str| field(&node, &format!("Node 0 {name}"));
    if sets_memory_up_lazily() {
        check!(of_node("MemTotal") <= field(&machine, "MemTotal"));
    } else {
        check_eq!(of_node("MemTotal"), field(&machine, "MemTotal"));
    }
    let sum = of_node("MemFree").zip(of_node("MemUsed")).map(|(free, used)| free + used);
    check_eq!(sum, of_node("MemTotal"));
    let mut at = 0;
    for name in [
        "MemTotal",
        "MemFree",
        "MemUsed",
        "Active",
        "Mlocked",
        "FilePages",
        "Shmem",
        "Slab",
        "HugePages_Surp",
    ] {
        let found = names[at..].iter().position(|found| *found == name);
        match found {
            Some(further) => at += further,
            None => panic!("{name} is not in its place among {names:?}"),
        }
    }
}
