// SPDX-License-Identifier: MPL-2.0

//! The page as text.

use std::{collections::BTreeSet, fmt::Write};

use super::{AREA, Call, Entry, Kernel, Outcome, Proof, Runs, named};

const HEAD: &str = "# The memory ABI of Linux

Every memory call, flag by flag, with the cases of the [ABI suite](test.md) that prove it, or the reason why there are none.
The same binary passes on Debian's Linux in QEMU and on Tessera; it must pass on the Linux of the machine it is built on,
too. This page is made from `test/abi/coverage.toml` and the logs of the last run:

```console
$ cargo xtask test --only abi-build --only abi-host --only abi-linux --only abi
$ cargo xtask abi-table
```

A step of `make test` fails if a case named here does not exist or did not pass, if a case about memory is named nowhere, or if
the page is not what these would make of it now.

";

/// Makes the page.
pub(super) fn render(calls: &[Call], cases: &[String], runs: &Runs) -> String {
    let mut page = HEAD.to_owned();
    figures(&mut page, calls, cases, runs);
    overview(&mut page, calls, cases);
    for call in calls {
        section(&mut page, call, cases);
    }
    page
}

/// How many cases passed on which kernel.
fn figures(page: &mut String, calls: &[Call], cases: &[String], runs: &Runs) {
    let mut wanted: BTreeSet<&String> = cases.iter().filter(|case| case.starts_with(AREA)).collect();
    calls.iter().for_each(|call| wanted.extend(cases_of(call, cases)));
    put(page, format_args!("| kernel, both in the same QEMU | passed | failed | skipped |"));
    put(page, format_args!("| --- | ---: | ---: | ---: |"));
    for (kernel, name) in [(Kernel::Linux, "Debian's Linux 6.1"), (Kernel::Tessera, "Tessera")] {
        let outcomes = runs.get(&kernel);
        let outcome = |case: &&String| outcomes.and_then(|outcomes| outcomes.get(*case)).copied();
        let count = |wished| wanted.iter().filter(|case| outcome(case) == Some(wished)).count();
        let [passed, failed, skipped] = [Outcome::Passed, Outcome::Failed, Outcome::Skipped].map(count);
        put(page, format_args!("| {name} | {passed} | {failed} | {skipped} |"));
    }
    page.push('\n');
}

/// How much of each call is proved.
fn overview(page: &mut String, calls: &[Call], cases: &[String]) {
    put(page, format_args!("| call | entries | proved | absent | cases |"));
    put(page, format_args!("| --- | ---: | ---: | ---: | ---: |"));
    let mut sums = [0; 3];
    let mut all = BTreeSet::new();
    for call in calls {
        let named = cases_of(call, cases);
        let absent = call.entries.iter().filter(|entry| entry.is_absent()).count();
        let numbers = [call.entries.len(), call.entries.len() - absent, absent];
        let [entries, proved, absent] = numbers;
        put(page, format_args!("| {} | {entries} | {proved} | {absent} | {} |", call.name, named.len()));
        sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
        all.extend(named);
    }
    let [entries, proved, absent] = sums;
    put(page, format_args!("| all | {entries} | {proved} | {absent} | {} |", all.len()));
}

/// The entries of one call.
fn section(page: &mut String, call: &Call, cases: &[String]) {
    put(page, format_args!("\n## {}\n\n| what | proved by |\n| --- | --- |", call.name));
    for Entry { what, proof } in &call.entries {
        let cell = match proof {
            Proof::Absent(reason, _) => format!("*absent:* {reason}"),
            Proof::Cases(patterns) => by_folder(patterns, cases),
        };
        put(page, format_args!("| {what} | {cell} |"));
    }
}

/// Names of cases, the folder of several in a row told once.
fn by_folder(patterns: &[String], cases: &[String]) -> String {
    let mut seen = BTreeSet::new();
    let found = patterns.iter().flat_map(|pattern| named(pattern, cases)).filter(|case| seen.insert(*case));
    let mut cell = String::new();
    let mut last = "";
    for case in found {
        let (folder, name) = case.rsplit_once('/').unwrap_or(("", case));
        if folder != last {
            let _ = write!(cell, "{}`{folder}`: `{name}`", if cell.is_empty() { "" } else { "; " });
            last = folder;
        } else {
            let _ = write!(cell, ", `{name}`");
        }
    }
    cell
}

/// The cases that a call's entries name.
fn cases_of<'a>(call: &Call, cases: &'a [String]) -> BTreeSet<&'a String> {
    let patterns = call.entries.iter().filter_map(|entry| match &entry.proof {
        Proof::Cases(patterns) => Some(patterns),
        Proof::Absent(..) => None,
    });
    patterns.flatten().flat_map(|pattern| named(pattern, cases)).collect()
}

/// Adds a line; writing to memory does not fail.
fn put(page: &mut String, line: std::fmt::Arguments<'_>) {
    let _ = writeln!(page, "{line}");
}
