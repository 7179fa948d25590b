// SPDX-License-Identifier: MPL-2.0

//! What `/proc/self` tells of memory, parsed strictly: a line of another form fails the case.

mod cases;
mod io;
mod sysfs;

use std::ops::Range;

use crate::harness::Case;

pub const GROUPS: &[&[Case]] = &[cases::CASES, io::CASES, sysfs::CASES];

/// One line of `/proc/self/maps`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vma {
    pub start: usize,
    pub end: usize,
    /// Four letters, such as `rw-p`.
    pub perms: String,
    pub offset: usize,
    /// `major:minor` in hexadecimal.
    pub dev: String,
    pub inode: u64,
    /// A path, a name in brackets, or nothing.
    pub path: String,
}

impl Vma {
    /// Parses one line.
    pub fn parse(line: &str) -> Option<Self> {
        let mut rest = line;
        let mut field = || {
            let (field, after) = rest.split_once(' ').unwrap_or((rest, ""));
            rest = after;
            field
        };
        let (start, end) = field().split_once('-')?;
        let perms = field().to_string();
        let offset = usize::from_str_radix(field(), 16).ok()?;
        let dev = field().to_string();
        let inode = field().parse().ok()?;
        let path = rest.trim_start().to_string();
        let hex = |text| usize::from_str_radix(text, 16).ok();
        Some(Self { start: hex(start)?, end: hex(end)?, perms, offset, dev, inode, path })
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.end - self.start
    }
}

/// The whole text of a file under `/proc/self`.
pub fn text(name: &str) -> String {
    match std::fs::read(format!("/proc/self/{name}")) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => panic!("reading /proc/self/{name}: {error}"),
    }
}

/// All mappings, in order.
pub fn maps() -> Vec<Vma> {
    text("maps")
        .lines()
        .map(|line| Vma::parse(line).unwrap_or_else(|| panic!("a line of maps of unknown form: {line:?}")))
        .collect()
}

/// The mapping that holds `addr`.
pub fn vma_at(addr: usize) -> Option<Vma> {
    let text = text("maps");
    let hex = |number| usize::from_str_radix(number, 16).ok();
    let line = text.lines().find(|line| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        range.is_some_and(|(start, end)| hex(start) <= Some(addr) && Some(addr) < hex(end))
    });
    line.map(|line| Vma::parse(line).unwrap_or_else(|| panic!("a line of maps of unknown form: {line:?}")))
}

/// Start, end and permissions of all mappings that touch `range`, cut to it: `[(0, 2, "rw-p")]` in pages from its start.
pub fn layout(range: Range<usize>) -> Vec<(usize, usize, String)> {
    maps()
        .into_iter()
        .filter(|vma| vma.start < range.end && range.start < vma.end)
        .map(|vma| {
            let page = |addr: usize| (addr.clamp(range.start, range.end) - range.start) / 4096;
            (page(vma.start), page(vma.end), vma.perms)
        })
        .collect()
}

/// A field of `/proc/self/smaps` in KiB, for the mapping that holds `addr`.
pub fn smaps_kib(addr: usize, name: &str) -> usize {
    let text = text("smaps");
    let mut inside = false;
    for line in text.lines() {
        if let Some(vma) = Vma::parse(line) {
            inside = (vma.start..vma.end).contains(&addr);
        } else if inside && let Some(value) = field_kib(line, name) {
            return value;
        }
    }
    panic!("smaps has no {name} for {addr:#x}")
}

/// The flags of `/proc/self/smaps`'s `VmFlags` line, for the mapping that holds `addr`.
pub fn vm_flags(addr: usize) -> Vec<String> {
    let text = text("smaps");
    let mut inside = false;
    for line in text.lines() {
        if let Some(vma) = Vma::parse(line) {
            inside = (vma.start..vma.end).contains(&addr);
        } else if inside && let Some(flags) = line.strip_prefix("VmFlags:") {
            return flags.split_whitespace().map(String::from).collect();
        }
    }
    panic!("smaps has no VmFlags for {addr:#x}")
}

/// A field of `/proc/self/status` in KiB.
pub fn status_kib(name: &str) -> usize {
    match text("status").lines().find_map(|line| field_kib(line, name)) {
        Some(value) => value,
        None => panic!("status has no {name}"),
    }
}

/// Whether the process has this capability: a number of `linux/capability.h`.
pub fn has_capability(number: u32) -> bool {
    let text = text("status");
    let set =
        text.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    set.is_none_or(|set| set & (1 << number) != 0)
}

/// Whether the kernel counts memory in meminfo before it is in a zone, where it comes when it is needed. None of Linux's own
/// releases does.
pub fn sets_memory_up_lazily() -> bool {
    let command_line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    command_line.split_whitespace().any(|word| word == "deferred_init=lazy")
}

/// The numbers of `/proc/self/statm`, in pages: size, resident, shared, text, lib, data, dt.
pub fn statm() -> Vec<usize> {
    let text = text("statm");
    match text.split_whitespace().map(str::parse).collect() {
        Ok(numbers) => numbers,
        Err(_) => panic!("statm holds {text:?}"),
    }
}

/// The value of `name:   123 kB`.
fn field_kib(line: &str, name: &str) -> Option<usize> {
    let value = line.strip_prefix(name)?.strip_prefix(':')?;
    value.trim().strip_suffix(" kB")?.trim().parse().ok()
}
