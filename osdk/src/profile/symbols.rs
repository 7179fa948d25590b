// SPDX-License-Identifier: MPL-2.0

//! Whose code is at an address.
//!
//! Tessera's image has symbols and line tables, which also tell what was inlined where. Debian's kernel has neither;
//! its symbols are those that it lists itself, in `/proc/kallsyms`.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    rc::Rc,
};

use addr2line::Loader;
use anyhow::{Result, anyhow};

/// A function, by its number; equal names have equal numbers.
pub type Function = usize;

/// The code of programs, which is not looked into.
const PROGRAM: &str = "[program]";

/// Knows whose code is where.
pub struct Symbols {
    source: Source,
    names: Vec<String>,
    numbers: HashMap<String, Function>,
    cache: HashMap<u64, Rc<[Function]>>,
}

enum Source {
    Image(Box<Loader>),
    List(BTreeMap<u64, String>),
}

impl Symbols {
    /// The symbols of an image with line tables.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is no ELF file.
    pub fn of_image(path: &Path) -> Result<Self> {
        let loader = Loader::new(path).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        Ok(Self::new(Source::Image(Box::new(loader))))
    }

    /// The symbols of a list with lines like those of `/proc/kallsyms`.
    pub fn of_list(list: &str) -> Self {
        let symbols = list.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            let is_code = matches!(words.next()?, "t" | "T" | "w" | "W");
            let name = words.next()?;
            // Labels inside of functions that no compiler has made.
            (is_code && !name.starts_with(".L")).then(|| (address, name.to_owned()))
        });
        let mut by_address = BTreeMap::new();
        // Where there are several names, the first one.
        symbols.for_each(|(address, name)| {
            by_address.entry(address).or_insert(name);
        });
        Self::new(Source::List(by_address))
    }

    fn new(source: Source) -> Self {
        Self { source, names: Vec::new(), numbers: HashMap::new(), cache: HashMap::new() }
    }

    /// The name of a function. That of an inlined one has the file it is from, since its path is not known.
    pub fn name(&self, function: Function) -> &str {
        &self.names[function]
    }

    /// The function that the code at an address belongs to, and the functions inlined there, the innermost last.
    pub fn at(&mut self, address: u64) -> Rc<[Function]> {
        if let Some(known) = self.cache.get(&address) {
            return known.clone();
        }
        let names = match &self.source {
            _ if address >> 63 == 0 => vec![PROGRAM.to_owned()],
            Source::Image(loader) => in_image(loader, address),
            Source::List(list) => {
                let symbol = list.range(..=address).next_back();
                vec![symbol.map_or(format!("{address:#x}"), |(_, name)| name.clone())]
            }
        };
        let functions: Rc<[Function]> = names.into_iter().map(|name| self.number(name)).collect();
        self.cache.insert(address, functions.clone());
        functions
    }

    fn number(&mut self, name: String) -> Function {
        *self.numbers.entry(name).or_insert_with_key(|name| {
            self.names.push(name.clone());
            self.names.len() - 1
        })
    }
}

fn in_image(loader: &Loader, address: u64) -> Vec<String> {
    let mut names = Vec::new();
    if let Ok(mut frames) = loader.find_frames(address) {
        while let Ok(Some(frame)) = frames.next() {
            let name = frame.function.as_ref().and_then(|function| function.raw_name().ok());
            let file = frame.location.and_then(|location| location.file);
            names.push(format!("{} ({})", short(&name.unwrap_or_default()), short_file(file.unwrap_or("?"))));
        }
    }
    // The last one is the function that the others are inlined in: that name is better known from its symbol.
    names.pop();
    let symbol = loader.find_symbol(address);
    let name = symbol.map(|symbol| format!("{:#}", rustc_demangle::demangle(symbol)));
    names.push(name.map_or(format!("{address:#x}"), |name| short(&name)));
    names.reverse();
    names
}

/// A path of Rust without its generic arguments, `Type::f` for `<Type as Trait>::f`.
fn short(name: &str) -> String {
    let mut out = String::new();
    let mut rest = name;
    while let Some(next) = rest.chars().next() {
        if next != '<' {
            out.push(next);
            rest = &rest[next.len_utf8()..];
            continue;
        }
        let (inside, behind) = split_brackets(rest);
        // Only at the begin of a path the brackets hold the type that the path goes on from.
        let is_type = !out.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        if is_type {
            out += &short(before_as(inside));
        } else {
            out.truncate(out.trim_end_matches("::").len());
        }
        rest = behind;
    }
    out
}

/// What is inside of the brackets that a name begins with, and what is behind them.
fn split_brackets(name: &str) -> (&str, &str) {
    let mut depth = 0;
    let mut last = ' ';
    for (at, character) in name.char_indices() {
        match character {
            '<' => depth += 1,
            '>' if last != '-' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (&name[1..at], &name[at + 1..]);
        }
        last = character;
    }
    (name.get(1..).unwrap_or_default(), "")
}

/// The type of `Type as Trait`.
fn before_as(inside: &str) -> &str {
    let mut rest = inside;
    let mut at = 0;
    while let Some(next) = rest.chars().next() {
        if rest.starts_with(" as ") {
            return &inside[..at];
        }
        let length = if next == '<' { rest.len() - split_brackets(rest).1.len() } else { next.len_utf8() };
        at += length;
        rest = &rest[length..];
    }
    inside
}

/// The path of a source file from its crate on: `ostd/sync/mutex.rs`.
fn short_file(path: &str) -> String {
    let (before, inside) = path.rsplit_once("/src/").unwrap_or(("", path));
    let folder = before.rsplit('/').next().unwrap_or_default();
    // "ostd-0.19.0"
    let is_version = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    let name = folder.rsplit_once('-').filter(|(_, rest)| is_version(rest)).map_or(folder, |(name, _)| name);
    if name.is_empty() { inside.to_owned() } else { format!("{name}/{inside}") }
}

#[cfg(test)]
mod tests {
    use super::{Symbols, short, short_file};

    #[test]
    fn names_lose_their_generic_arguments() {
        assert_eq!(short("a::b::<c::D<E>, F>::g"), "a::b::g");
        assert_eq!(short("<a::B<C> as d::E<F>>::g::<H>"), "a::B::g");
        assert_eq!(short("<a::B>::c::{closure#0}"), "a::B::c::{closure#0}");
        assert_eq!(short("<<a::B as c::D>::E as F>::g"), "a::B::E::g");
        assert_eq!(short("a::<fn(u8) -> u16>::b"), "a::b");
        assert_eq!(short("core::ptr::drop_glue::<a::B>"), "core::ptr::drop_glue");
        assert_eq!(short("read<u8, ostd::Guard>"), "read");
        assert_eq!(short("broken<"), "broken");
    }

    #[test]
    fn files_begin_with_their_crate() {
        assert_eq!(short_file("/x/registry/ostd-0.19.0/src/sync/mutex.rs"), "ostd/sync/mutex.rs");
        assert_eq!(short_file("/x/kernel/libs/aster-rights/src/lib.rs"), "aster-rights/lib.rs");
        assert_eq!(short_file("/x/library/core/src/sync/atomic.rs"), "core/sync/atomic.rs");
        assert_eq!(short_file("a.rs"), "a.rs");
    }

    #[test]
    fn code_belongs_to_the_symbol_before_it() {
        let mut symbols = Symbols::of_list(
            "ffffffff81000000 T first\nffffffff81000000 T alias\nffffffff81000010 D data\nffffffff81000020 t second\n",
        );
        let mut name = |address| {
            let functions = symbols.at(address);
            symbols.name(functions[0]).to_owned()
        };
        assert_eq!(name(0xffff_ffff_8100_001f), "first");
        assert_eq!(name(0xffff_ffff_8100_0020), "second");
        assert_eq!(name(0xffff_ffff_80ff_ffff), "0xffffffff80ffffff");
        assert_eq!(name(0x40_1000), "[program]");
    }
}
