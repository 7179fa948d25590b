// SPDX-License-Identifier: MPL-2.0

//! Arguments of steps as text, both ways: names for flags and files, addresses relative to what they lie in.
//!
//! ```text
//! A+0x3000    the arena, at the same address everywhere
//! H+0x3000    what brk moves the end of, wherever the kernel put it
//! S+0x10      memory of the program itself, readable and writable
//! ```

use crate::add;

/// The arena: where things are mapped. In the range of `MAP_32BIT`, and across a border of two page-table nodes.
pub const ARENA: u64 = 0x4000_0000;
pub const ARENA_PAGES: u64 = 1024;
pub const ARENA_END: u64 = ARENA + ARENA_PAGES * PAGE;
/// Pages at the start of the heap that are left free for it.
pub const HEAP_PAGES: u64 = 32;
/// Bytes of the program's own that steps may use.
pub const SCRATCH: u64 = 1 << 16;
pub const PAGE: u64 = 4096;

/// What stands for the begin of the heap and of the program's memory in a step. No kernel has such addresses.
pub const HEAP_MARK: u64 = 0x4845_0000_0000_0000;
pub const SCRATCH_MARK: u64 = 0x5343_0000_0000_0000;
/// An address is relative to a mark if it is nearer than that, in either direction.
const NEAR: u64 = 1 << 32;

/// Names of values.
pub type Names = &'static [(&'static str, u64)];

/// What an argument is.
#[derive(Clone, Copy)]
pub enum Kind {
    Number,
    Address,
    /// Bits that are or-ed.
    Flags(Names),
    /// One of these.
    One(Names),
}

/// An offset from a mark, if the number is near to it.
pub fn offset_from(mark: u64, number: u64) -> Option<i64> {
    let offset = number.wrapping_sub(mark) as i64;
    (offset.unsigned_abs() < NEAR).then_some(offset)
}

/// Prints an offset behind the letter of what it is relative to.
pub fn print_offset(letter: char, offset: i64, out: &mut String) {
    let sign = if offset < 0 { '-' } else { '+' };
    add(out, format_args!("{letter}{sign}{:#x}", offset.unsigned_abs()));
}

impl Kind {
    /// Prints a value.
    pub fn print(self, value: u64, out: &mut String) {
        let plain = |value: u64, out: &mut String| add(out, format_args!("{value:#x}"));
        match self {
            Self::Number => plain(value, out),
            Self::Address => match value {
                ARENA..=ARENA_END => print_offset('A', (value - ARENA) as i64, out),
                _ => match (offset_from(HEAP_MARK, value), offset_from(SCRATCH_MARK, value)) {
                    (Some(offset), _) => print_offset('H', offset, out),
                    (_, Some(offset)) => print_offset('S', offset, out),
                    _ => plain(value, out),
                },
            },
            Self::One(names) => match names.iter().find(|(_, known)| *known == value) {
                Some((name, _)) => out.push_str(name),
                None => plain(value, out),
            },
            Self::Flags(names) => {
                let mut rest = value;
                let mut is_first = true;
                for &(name, flag) in names {
                    if rest & flag == flag && flag != 0 {
                        out.push_str(if is_first { "" } else { "|" });
                        out.push_str(name);
                        rest &= !flag;
                        is_first = false;
                    }
                }
                if rest != 0 || is_first {
                    out.push_str(if is_first { "" } else { "|" });
                    plain(rest, out);
                }
            }
        }
    }

    /// Reads what [`Kind::print`] has printed.
    pub fn parse(self, text: &str) -> Option<u64> {
        let number = |text: &str| match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        };
        match self {
            Self::Number => number(text),
            Self::Address => {
                let mark = match text.chars().next()? {
                    'A' => ARENA,
                    'H' => HEAP_MARK,
                    'S' => SCRATCH_MARK,
                    _ => return number(text),
                };
                let (sign, digits) = text[1..].split_at_checked(1)?;
                match sign {
                    "+" => Some(mark.wrapping_add(number(digits)?)),
                    "-" => Some(mark.wrapping_sub(number(digits)?)),
                    _ => None,
                }
            }
            Self::One(names) | Self::Flags(names) => {
                let named =
                    |word: &str| names.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
                text.split('|').try_fold(0, |sum, word| Some(sum | named(word).or_else(|| number(word))?))
            }
        }
    }
}

pub const PROT: Names =
    &[("R", 1), ("W", 2), ("X", 4), ("SEM", 8), ("GROWSDOWN", 0x100_0000), ("GROWSUP", 0x200_0000)];

pub const MAP: Names = &[
    ("SHARED_VALIDATE", 3),
    ("SHARED", 1),
    ("PRIVATE", 2),
    ("FIXED_NOREPLACE", 0x10_0000),
    ("FIXED", 0x10),
    ("ANON", 0x20),
    ("32BIT", 0x40),
    ("GROWSDOWN", 0x100),
    ("DENYWRITE", 0x800),
    ("EXECUTABLE", 0x1000),
    ("LOCKED", 0x2000),
    ("NORESERVE", 0x4000),
    ("POPULATE", 0x8000),
    ("NONBLOCK", 0x1_0000),
    ("STACK", 0x2_0000),
    ("HUGETLB", 0x4_0000),
    ("SYNC", 0x8_0000),
];

/// The descriptors of a sequence: what they are is in `world.rs`, in the same order.
pub const FILES: Names = &[
    ("a", 64),
    ("b", 65),
    ("a_ro", 66),
    ("a_wo", 67),
    ("b_append", 68),
    ("memfd", 69),
    ("sealed", 70),
    ("memfd_ro", 71),
    ("zero", 72),
    ("pipe", 73),
    ("closed", 99),
    ("none", u64::MAX),
];

/// Which of the two processes.
pub const WHO: Names = &[("p0", 0), ("p1", 1), ("nobody", 2)];
