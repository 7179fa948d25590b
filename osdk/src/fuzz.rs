// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask fuzz`: random sequences of memory calls on this kernel and beside it on Debian's Linux.
//!
//! ```text
//! seeds, kept cases ──► plan ──┬──► Linux   ──► a digest for each sequence ─┐
//!                              └──► Tessera ──► a digest for each sequence ─┴─► the same?
//!                                                                                │ no
//!               test/fuzz/cases/NAME.case ◄── both answers ◄── fewer steps ◄─────┘
//! ```
//!
//! The program that runs the sequences is `test/fuzz`, the first process of both kernels. A sequence is a list of lines, one
//! for each step, which mean nothing to this side. Whatever differs (an answer, contents, what is mapped, how the processes
//! end, whether the kernel goes on) is reduced to the fewest steps that still show it, and kept as a case.

mod case;
mod peer;
mod shrink;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use self::{
    case::{Case, Level, Said},
    peer::{Kernel, Pair},
};
use crate::project;

/// The options of the verb.
#[derive(Args)]
pub struct Options {
    /// So many steps in all.
    #[arg(long, default_value_t = 10_000)]
    steps: u64,
    /// The first seed; one is made of the time otherwise.
    #[arg(long)]
    seed: Option<u64>,
    /// So many steps in a sequence.
    #[arg(long, default_value_t = 100)]
    length: u64,
    /// Look for so many differences before giving up.
    #[arg(long, default_value_t = 1)]
    differences: usize,
    /// Say which step differs first in each sequence, without taking away what it does not need.
    #[arg(long)]
    survey: bool,
    /// Run everything twice on this machine's Linux instead: the program must agree with itself.
    #[arg(long)]
    host: bool,
    /// An image of this kernel that was built before, instead of a new one.
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Show what both kernels answer to each step of these cases (files, or seeds), and do nothing else.
    #[arg(long, value_name = "CASE")]
    show: Vec<String>,
}

/// So many sequences are run in one boot.
const BATCH: u64 = 500;

/// Runs the kept cases and the seeds; fails if anything differs.
pub fn run(options: &Options) -> Result<ExitCode> {
    let program = build()?;
    let kernels = if options.host { [Kernel::Host, Kernel::Host] } else { [Kernel::Linux, Kernel::Tessera] };
    let pair = Pair::new(&program, kernels, options.kernel.as_deref())?;
    if !options.show.is_empty() {
        return show(&pair, &program, options);
    }

    let seed = match options.seed {
        Some(seed) => seed,
        None => {
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs() % 1_000_000 * 1000)
        }
    };
    let count = options.steps.div_ceil(options.length.max(1));
    println!("fuzz: {count} sequences of {} steps from seed {seed} on, and the kept cases", options.length);
    let start = Instant::now();
    let (mut passed, mut failed) = (0, 0);
    let mut first = seed;
    let mut cases = kept()?;
    loop {
        let batch: Vec<u64> = (first..(seed + count).min(first + BATCH)).collect();
        first += batch.len() as u64;
        let said = pair.play(Level::Sequence, &cases, &batch, options.length)?;
        let names = cases.iter().map(|case| case.name.clone()).chain(batch.iter().map(u64::to_string));
        let mut different = Vec::new();
        for name in names {
            let [one, two] = said.each_ref().map(|said| said.get(&name));
            if one.is_some() && one == two {
                passed += 1;
                continue;
            }
            println!("FAIL {name}: {}", differing(&pair, [one, two]));
            failed += 1;
            // What is kept is as small as it can be.
            if different.len() < options.differences && !cases.iter().any(|case| case.name == name) {
                different.push(of_seed(&program, &name, options.length)?);
            }
        }
        if options.survey {
            survey(&pair, &different)?;
        } else {
            different.iter().try_for_each(|case| investigate(&pair, case))?;
        }
        let done = (first - seed) * options.length;
        eprintln!(
            "tessera: {done} of {} steps from seed {seed} on, {failed} differences, {} s",
            count * options.length,
            start.elapsed().as_secs()
        );
        cases.clear();
        if first >= seed + count || failed >= options.differences {
            break;
        }
    }
    println!("fuzz: {passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// In a few words, how two kernels differ.
fn differing(pair: &Pair, said: [Option<&Said>; 2]) -> String {
    let words: Vec<String> = pair
        .kernels
        .iter()
        .zip(said)
        .map(|(kernel, said)| {
            let said = said.map_or("nothing".to_owned(), ToString::to_string);
            format!("{} says {said}", kernel.name())
        })
        .collect();
    words.join(", ")
}

/// Finds out which step differs, takes away all that it does not need, and shows and keeps what is left.
fn investigate(pair: &Pair, case: &Case) -> Result<()> {
    let Some(small) = shrink::shrink(pair, case)? else {
        println!("  it is gone when it is run again");
        return Ok(());
    };
    let answers = last_answers(pair, &small)?;
    let mut text = String::new();
    for (kernel, answer) in pair.kernels.iter().zip(&answers) {
        let _ = writeln!(text, "# {}:", kernel.name());
        answer.lines().for_each(|line| {
            let _ = writeln!(text, "#   {}", line.trim_end());
        });
    }
    for line in &small.steps {
        let _ = writeln!(text, "{line}");
    }
    println!("{text}");
    if pair.kernels[1] == Kernel::Tessera {
        let path = folder().join(format!("{}.case", small.name));
        fs::create_dir_all(folder()).context("test/fuzz/cases cannot be made")?;
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        println!("  kept as test/fuzz/cases/{}.case", small.name);
    }
    Ok(())
}

/// Shows the first step of each case that differs, and the lines in which the answers do.
fn survey(pair: &Pair, cases: &[Case]) -> Result<()> {
    let firsts = shrink::differences(pair, cases)?;
    let cases: Vec<Case> = cases
        .iter()
        .zip(firsts)
        .filter(|(_, first)| first.is_some())
        .map(|(case, first)| case.without(&case.name, |index| Some(index) > first))
        .collect();
    let said = pair.play(Level::Last, &cases, &[], 0)?;
    for case in &cases {
        println!(
            "==== {} ({} steps) {}",
            case.name,
            case.steps.len(),
            case.steps.last().map_or("", String::as_str)
        );
        let texts =
            said.each_ref().map(|said| said.get(&case.name).map_or(String::new(), ToString::to_string));
        for (which, kernel) in pair.kernels.iter().enumerate() {
            let other: Vec<&str> = texts[1 - which].lines().collect();
            for line in texts[which].lines().filter(|line| !other.contains(line)) {
                println!("{:>8}: {}", kernel.name(), line.trim());
            }
        }
    }
    Ok(())
}

/// What each kernel answers to the last step.
fn last_answers(pair: &Pair, case: &Case) -> Result<[String; 2]> {
    let said = pair.play(Level::Text, std::slice::from_ref(case), &[], 0)?;
    Ok(said.map(|said| match said.get(&case.name) {
        Some(Said::Text(text)) => text.rfind("step ").map_or(text.clone(), |start| text[start..].to_owned()),
        Some(other) => other.to_string(),
        None => "nothing".to_owned(),
    }))
}

/// Shows all that both kernels answer.
fn show(pair: &Pair, program: &Path, options: &Options) -> Result<ExitCode> {
    for name in &options.show {
        let case = match name.parse::<u64>() {
            Ok(_) => of_seed(program, name, options.length)?,
            Err(_) => Case::read(Path::new(name))?,
        };
        let said = pair.play(Level::Text, std::slice::from_ref(&case), &[], 0)?;
        for (kernel, said) in pair.kernels.iter().zip(said) {
            println!("==== {}", kernel.name());
            match said.get(&case.name) {
                Some(said) => println!("{said}"),
                None => println!("nothing"),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the program.
fn build() -> Result<PathBuf> {
    let output = project::guest_cargo().args(["build", "--release", "--quiet", "-p", "fuzz"]).output();
    let output = output.context("cargo cannot be started")?;
    if !output.status.success() {
        bail!("test/fuzz does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(project::root().join("test/target/x86_64-unknown-linux-musl/release/fuzz"))
}

/// Where cases are kept.
fn folder() -> PathBuf {
    project::root().join("test/fuzz/cases")
}

/// The cases that were kept, by name.
fn kept() -> Result<Vec<Case>> {
    let mut cases = BTreeMap::new();
    for entry in fs::read_dir(folder()).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "case") {
            let case = Case::read(&path)?;
            cases.insert(case.name.clone(), case);
        }
    }
    Ok(cases.into_values().collect())
}

/// The steps that a seed makes: the program is one of Linux, and so is the host.
fn of_seed(program: &Path, seed: &str, length: u64) -> Result<Case> {
    let output = Command::new(program).args(["--print", seed, &length.to_string()]).output();
    let output = output.context("test/fuzz cannot be run here")?;
    Ok(Case::parse(&format!("seed-{seed}"), &String::from_utf8_lossy(&output.stdout)))
}
