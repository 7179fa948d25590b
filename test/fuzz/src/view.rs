// SPDX-License-Identifier: MPL-2.0

//! What the kernel says of a process's memory, in a form that two kernels can agree on.
//!
//! Only the windows are looked at, and addresses are relative to them. Neighbouring lines that continue each other are one:
//! see [`crate::world::Edges`] for why. A file's name stands without its folder, device and inode.

use std::{ffi::CStr, mem, ops::Range, sync::atomic::Ordering::Relaxed};

use crate::{access, add, symbols::PAGE, world::World};

/// The figures of `/proc/self/status` that do not depend on what is resident, in KiB.
#[derive(Clone, Copy, Default)]
pub struct Figures {
    pub size: u64,
    locked: u64,
    pub data: u64,
}

/// From so many KiB on what is locked is more than the windows.
const ALL_LOCKED: u64 = 1 << 14;

/// One line of `maps`, or several that continue each other.
#[derive(Clone, PartialEq, Eq)]
struct Line<'a> {
    start: u64,
    end: u64,
    perms: &'a str,
    offset: u64,
    name: &'a str,
}

impl<'a> Line<'a> {
    /// Parses a line; `None` if it lies outside of all windows.
    fn parse(windows: &[Range<u64>; 2], text: &'a str) -> Option<Self> {
        let (range, rest) = text.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let (start, end) = (hex(start)?, hex(end)?);
        let window = windows.iter().find(|window| start < window.end && end > window.start)?;
        let mut words = rest.splitn(4, ' ');
        let perms = words.next()?;
        let offset = hex(words.next()?)?;
        // Device and inode are left out.
        let _device = words.next()?;
        let path = words.next()?.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
        // Which mapping next to the heap is called so depends on where mappings end.
        let name = if name == "[heap]" { "" } else { name };
        Some(Self { start: start.max(window.start), end: end.min(window.end), perms, offset, name })
    }

    /// Whether `next` continues it.
    fn goes_on_in(&self, next: &Self) -> bool {
        let expected = if self.name.is_empty() { 0 } else { self.offset + (self.end - self.start) };
        self.end == next.start
            && self.perms == next.perms
            && self.name == next.name
            && (self.name.is_empty() || next.offset == expected)
    }
}

/// Reads a file of `/proc/self` into a buffer, and gives it back as text.
fn read(path: &CStr, buffer: String) -> String {
    const PIECE: usize = 1 << 13;
    let mut bytes = buffer.into_bytes();
    bytes.clear();
    let fd = syscall!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY, 0);
    loop {
        let filled = bytes.len();
        bytes.resize(filled + PIECE, 0);
        let count = syscall!(SYS_read, fd, bytes[filled..].as_mut_ptr(), PIECE);
        bytes.truncate(filled + count.max(0) as usize);
        if count <= 0 {
            break;
        }
    }
    syscall!(SYS_close, fd);
    String::from_utf8(bytes).unwrap_or_default()
}

/// Calls `each` for every line of the windows, merged.
fn for_each_line(windows: &[Range<u64>; 2], text: &str, mut each: impl FnMut(&Line)) {
    let mut last: Option<Line> = None;
    for line in text.lines().filter_map(|line| Line::parse(windows, line)) {
        match &mut last {
            Some(last) if last.goes_on_in(&line) => last.end = line.end,
            _ => {
                if let Some(last) = last.replace(line) {
                    each(&last);
                }
            }
        }
    }
    if let Some(last) = last {
        each(&last);
    }
}

/// Calls `each` for every line of the process's maps.
fn for_each_mapping(world: &mut World, each: impl FnMut(&mut World, &Line)) {
    for_each_in(world, c"/proc/self/maps", each);
}

/// Calls `each` for every line of a process's maps.
fn for_each_in(world: &mut World, path: &CStr, mut each: impl FnMut(&mut World, &Line)) {
    // The buffer is used again and again: nothing is allocated meanwhile.
    let text = read(path, mem::take(&mut world.buffer));
    for_each_line(&world.windows(), &text, |line| each(world, line));
    world.buffer = text;
}

/// Begins a line about a range.
fn tell_range(world: &mut World, start: u64, end: u64) {
    world.out.push_str("\n      ");
    world.print_addr(start);
    world.out.push_str("..");
    world.print_addr(end);
}

/// Tells what is mapped.
pub fn tell_maps(world: &mut World) {
    for_each_mapping(world, |world, line| {
        tell_range(world, line.start, line.end);
        add(&mut world.out, format_args!(" {}", line.perms));
        if !line.name.is_empty() {
            add(&mut world.out, format_args!(" {:#x} {}", line.offset, line.name));
        }
    });
}

/// Whether a range lies within one mapping as far as a program can tell.
pub fn is_one_mapping(world: &mut World, start: u64, end: u64) -> bool {
    let mut is_one = false;
    for_each_mapping(world, |_, line| is_one |= line.start <= start && end <= line.end);
    is_one
}

/// Where the mapping of an address starts, as far as a program can tell.
pub fn start_of_mapping(world: &mut World, addr: u64) -> Option<u64> {
    let mut start = None;
    for_each_mapping(world, |_, line| {
        if (line.start..line.end).contains(&addr) {
            start = Some(line.start);
        }
    });
    start
}

/// Whether all of a range is mapped.
pub fn is_mapped(world: &mut World, start: u64, len: u64) -> bool {
    let (mut at, end) = (start, start.saturating_add(len));
    for_each_mapping(world, |_, line| {
        if line.start <= at {
            at = at.max(line.end);
        }
    });
    at >= end
}

/// Whether any of a range shows a file of that name.
pub fn shows(world: &mut World, start: u64, len: u64, name: &str) -> bool {
    let mut is_shown = false;
    for_each_mapping(world, |_, line| {
        is_shown |= line.name == name && line.start < start.saturating_add(len) && start < line.end;
    });
    is_shown
}

/// Whether an address shows a file or shared memory that can be written or executed there, not read.
///
/// The kernel itself then reads a page that is mapped, and no other.
pub fn is_of_unreadable_object(world: &mut World, addr: u64) -> bool {
    let mut is_found = false;
    for_each_mapping(world, |_, line| {
        let is_unreadable = line.perms.starts_with("-w") || line.perms.starts_with("--x");
        is_found |= (line.start..line.end).contains(&addr) && !line.name.is_empty() && is_unreadable;
    });
    is_found
}

/// Which of so many pages from an address on show a file or shared memory.
///
/// Whether one of the others is resident that was only ever read is a matter of how zeros are mapped.
pub fn pages_of_objects(world: &mut World, start: u64, count: usize) -> Vec<bool> {
    pages_of_objects_in(world, c"/proc/self/maps", start, count)
}

/// The same, by what `path` says.
pub fn pages_of_objects_in(world: &mut World, path: &CStr, start: u64, count: usize) -> Vec<bool> {
    let mut pages = vec![false; count];
    for_each_in(world, path, |_, line| {
        for (page, is_of_object) in (start..).step_by(PAGE as usize).zip(&mut pages) {
            *is_of_object |= (line.start..line.end).contains(&page) && !line.name.is_empty();
        }
    });
    pages
}

/// A part of an object, in bytes.
pub struct Shown {
    /// The name of the file; that of several others is the same.
    pub name: String,
    pub part: Range<u64>,
}

/// What a range shows of objects, by what `path` says.
pub fn shown_by(world: &mut World, path: &CStr, range: Range<u64>) -> Vec<Shown> {
    let mut all = Vec::new();
    for_each_in(world, path, |_, line| {
        let (start, end) = (line.start.max(range.start), line.end.min(range.end));
        if start < end && !line.name.is_empty() {
            let part = line.offset + (start - line.start)..line.offset + (end - line.start);
            all.push(Shown { name: line.name.to_owned(), part });
        }
    });
    all
}

/// The figures of the process.
pub fn figures() -> Figures {
    let text = read(c"/proc/self/status", String::new());
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    Figures { size: kib("VmSize:"), locked: kib("VmLck:"), data: kib("VmData:") }
}

/// Tells how much more the process has of each than when it began.
pub fn tell_figures(world: &mut World) {
    let (now, before) = (figures(), world.baseline);
    let (size, data) = (now.size as i64 - before.size as i64, now.data as i64 - before.data as i64);
    add(&mut world.out, format_args!("= size {size:+} data {data:+} locked "));
    match now.locked {
        0..ALL_LOCKED => add(&mut world.out, format_args!("{}", now.locked)),
        _ => world.out.push_str("all"),
    }
}

/// The marks of `VmFlags` that are told: those that a call sets, and the rights.
const MARKS: [&str; 17] =
    ["rd", "wr", "ex", "sh", "mr", "mw", "me", "gd", "lo", "sr", "rr", "dc", "dd", "wf", "um", "uw", "ui"];

/// Whether a line of `smaps` begins a mapping.
fn is_head(line: &str) -> bool {
    line.starts_with(|c: char| c.is_ascii_digit() || ('a'..='f').contains(&c))
}

/// Whether a userfaultfd watches an address.
pub fn is_watched(world: &mut World, addr: u64) -> bool {
    let text = read(c"/proc/self/smaps", mem::take(&mut world.buffer));
    let windows = world.windows();
    let mut is_inside = false;
    let mut is_watched = false;
    for line in text.lines() {
        if is_head(line) {
            is_inside =
                Line::parse(&windows, line).is_some_and(|line| (line.start..line.end).contains(&addr));
        } else if let Some(marks) = line.strip_prefix("VmFlags:").filter(|_| is_inside) {
            is_watched = marks.split_whitespace().any(|mark| ["um", "uw", "ui"].contains(&mark));
        }
    }
    world.buffer = text;
    is_watched
}

/// Tells how much memory of its own the process has in each mapping, and the marks of the mapping.
pub fn tell_smaps(world: &mut World) {
    let text = read(c"/proc/self/smaps", mem::take(&mut world.buffer));
    let windows = world.windows();
    let has_zeros = world.shared.has_zeros.load(Relaxed) != 0;
    // Start, end, KiB, marks.
    let mut lines: Vec<(u64, u64, u64, String)> = Vec::new();
    let (mut is_inside, mut is_told) = (false, true);
    let mut current = (0, 0, 0, String::new());
    for line in text.lines() {
        if is_head(line) {
            let parsed = Line::parse(&windows, line);
            is_inside = parsed.is_some();
            if let Some(parsed) = parsed {
                is_told = parsed.name.is_empty() || !has_zeros;
                current = (parsed.start, parsed.end, 0, String::new());
            }
        } else if !is_inside {
            continue;
        } else if let Some(rest) = line.strip_prefix("Anonymous:").filter(|_| is_told) {
            current.2 = rest.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
        } else if let Some(rest) = line.strip_prefix("VmFlags:") {
            let marks: Vec<&str> = rest.split_whitespace().filter(|mark| MARKS.contains(mark)).collect();
            current.3 = marks.join(" ");
            match lines.last_mut() {
                Some(last) if last.1 == current.0 && last.3 == current.3 => {
                    last.1 = current.1;
                    last.2 += current.2;
                }
                _ => lines.push(current.clone()),
            }
        }
    }
    world.buffer = text;
    for (start, end, anonymous, marks) in lines {
        tell_range(world, start, end);
        add(&mut world.out, format_args!(" anonymous {anonymous} marks {marks}"));
    }
}

/// Tells what is in a page: a digest, or why it cannot be read.
pub fn tell_page(world: &mut World, page: u64) {
    world.out.push(' ');
    match access::hash_page(page) {
        Ok(hash) => add(&mut world.out, format_args!("{:x}", hash >> 40)),
        Err(fault) => {
            let letter = if fault.signal == libc::SIGBUS as u64 { 'b' } else { 's' };
            add(&mut world.out, format_args!("{letter}{}", fault.code));
            if fault.addr != page {
                world.out.push('@');
                world.print_addr(fault.addr);
            }
        }
    }
}

/// Tells what is in all pages that may be read.
pub fn tell_all_pages(world: &mut World) {
    for_each_mapping(world, |world, line| {
        if line.perms.starts_with('r') {
            tell_range(world, line.start, line.end);
            for page in (line.start..line.end).step_by(PAGE as usize) {
                tell_page(world, page);
            }
        }
    });
}

/// Tells what is in the files: size, and a digest of the contents.
pub fn tell_files(world: &mut World) {
    const MOST: usize = 64 * PAGE as usize;
    for (name, fd) in [("a", 64), ("b", 65), ("memfd", 69), ("sealed", 70)] {
        // SAFETY: a plain C structure, all of whose bytes may be 0.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        syscall!(SYS_fstat, fd, &raw mut stat);
        let mut bytes = vec![0u8; MOST.min(stat.st_size as usize)];
        let count = syscall!(SYS_pread64, fd, bytes.as_mut_ptr(), bytes.len(), 0);
        let hash = crate::random::digest(0, &bytes) >> 40;
        add(
            &mut world.out,
            format_args!("\n      {name}: {:#x} bytes, {count:#x} read, {hash:x}", stat.st_size),
        );
    }
}
