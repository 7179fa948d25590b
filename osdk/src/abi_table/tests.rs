// SPDX-License-Identifier: MPL-2.0

//! Tests of the table: reading it, the cases it names, and what is wrong with it.

use super::{Kernel, Outcome, Proof, Runs, faults, matches, outcomes, page::render, parse};

const TABLE: &str = "[mmap]\n\"MAP_SHARED\" = [\"mem/mmap/shared_*\"]\n\"MAP_SYNC\" = { absent = \"no such memory\" }\n\
                     [brk]\n\"all\" = [\"mem/brk/grows\"]\n";

fn cases() -> Vec<String> {
    ["mem/mmap/shared_a", "mem/mmap/shared_b", "mem/brk/grows", "file/open/x"].map(str::to_owned).into()
}

fn all_passed() -> Runs {
    let passed = |_| cases().into_iter().map(|case| (case, Outcome::Passed)).collect();
    Kernel::ALL.map(|kernel| (kernel, passed(kernel))).into()
}

#[test]
fn the_table_is_read_in_its_order() {
    let calls = parse(TABLE).unwrap();
    let names: Vec<&str> = calls.iter().map(|call| call.name.as_str()).collect();
    assert_eq!(names, ["mmap", "brk"]);
    assert_eq!(calls[0].entries[1].proof, Proof::Absent("no such memory".to_owned(), Vec::new()));
    assert!(parse("[mmap]\n\"x\" = []\n").is_err());
    assert!(parse("[mmap]\n\"x\" = 1\n").is_err());
}

#[test]
fn a_star_stands_for_anything() {
    let is =
        |pattern: &str, text: &str| matches(&pattern.split('*').map(str::to_owned).collect::<Vec<_>>(), text);
    assert!(is("a/b", "a/b") && !is("a/b", "a/bc"));
    assert!(is("a/*", "a/b") && is("a/*_is_*", "a/b_is_c") && !is("a/*_is_*", "a/b"));
    assert!(is("*b", "ab") && !is("ab*b", "ab"));
}

#[test]
fn a_log_tells_how_cases_went() {
    let said = outcomes("ok mem/a\nFAIL mem/b: why: x\nskip mem/c: no\nother\nabi: 1 passed\n");
    let of = |case: &str| said.get(case).copied();
    assert_eq!((of("mem/a"), of("mem/b")), (Some(Outcome::Passed), Some(Outcome::Failed)));
    assert_eq!((of("mem/c"), said.len()), (Some(Outcome::Skipped), 3));
}

#[test]
fn what_is_wrong_is_found() {
    let calls = parse(TABLE).unwrap();
    assert_eq!(faults(&calls, &cases(), &all_passed()), Vec::<String>::new());

    let mut failed = all_passed();
    failed.get_mut(&Kernel::Tessera).unwrap().insert("mem/brk/grows".to_owned(), Outcome::Failed);
    assert_eq!(faults(&calls, &cases(), &failed), ["brk, all: mem/brk/grows failed in the step abi"]);

    let mut more = cases();
    more.push("mem/new".to_owned());
    assert_eq!(faults(&calls, &more, &all_passed()).len(), 1);
    // Nothing is left for the one name, and the other is a case less.
    assert_eq!(faults(&calls, &cases()[..2], &all_passed()).len(), 1);
}

#[test]
fn what_is_absent_can_name_the_cases_that_skip() {
    let table = TABLE.replace("[\"mem/brk/grows\"]", "{ absent = \"no heap\", cases = [\"mem/brk/*\"] }");
    let calls = parse(&table).unwrap();
    let mut runs = all_passed();
    runs.get_mut(&Kernel::Tessera).unwrap().insert("mem/brk/grows".to_owned(), Outcome::Skipped);
    assert!(faults(&calls, &cases(), &runs).is_empty());
    assert!(parse("[brk]\n\"all\" = { cases = [\"mem/brk/grows\"] }\n").is_err());
}

#[test]
fn one_linux_is_enough() {
    let calls = parse(TABLE).unwrap();
    let mut runs = all_passed();
    runs.get_mut(&Kernel::Linux).unwrap().insert("mem/brk/grows".to_owned(), Outcome::Skipped);
    assert!(faults(&calls, &cases(), &runs).is_empty());
    runs.get_mut(&Kernel::Host).unwrap().remove("mem/brk/grows");
    assert_eq!(faults(&calls, &cases(), &runs), ["brk, all: mem/brk/grows passed on no Linux"]);
}

#[test]
fn the_page_has_it_all() {
    let page = render(&parse(TABLE).unwrap(), &cases(), &all_passed());
    for line in [
        "| Tessera | 3 | 0 | 0 |",
        "| all | 3 | 2 | 1 | 3 |",
        "| MAP_SHARED | `mem/mmap`: `shared_a`, `shared_b` |",
        "| MAP_SYNC | *absent:* no such memory |",
    ] {
        assert!(page.contains(line), "{line} is missing in:\n{page}");
    }
}
