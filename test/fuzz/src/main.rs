// SPDX-License-Identifier: MPL-2.0

//! Random sequences of memory calls, the same on every kernel, and what came of each call.
//!
//! ```text
//! seed ──► Maker ──► steps ──► two processes with an arena each ──► a line of text for each step ──► digest
//!                      ▲
//! a case: a list of steps
//! ```
//!
//! One static binary. What it does is in a plan, a text file (`/fuzz.plan` for process 1):
//!
//! ```text
//! level 0                     what to print: 0 a digest for each sequence, 1 one for each step, 2 the text of each step,
//!                             3 that of the last step
//! seeds FIRST COUNT LENGTH    run the sequences that COUNT seeds make, of LENGTH steps each
//! case NAME                   run the steps on the lines that follow
//! ```
//!
//! ```text
//! fuzz PLAN                   do that
//! fuzz --print SEED LENGTH    print the steps that a seed makes
//! ```
//!
//! What it prints, apart from the text of steps, is one line for each sequence, `s NAME STEPS DIGEST STATUS`, or at level 1
//! `t NAME STATUS DIGEST...`. The last line is `end`. As process 1 it mounts what it needs first, and turns the machine off
//! afterwards.
//!
//! A sequence is made from its seed alone, never from what a kernel answers. Where the answer of a call depends on what Linux
//! leaves open (whether two neighbouring mappings are one), the call is left out on every kernel: see [`world::Edges`].

#[macro_use]
mod sys;

mod access;
#[path = "../../abi/src/arena.rs"]
mod arena;
mod guest;
mod maker;
mod random;
mod sequence;
mod shared;
mod step;
mod symbols;
mod verb;
mod view;
mod world;

use std::{
    fmt::Write as _,
    fs,
    io::{Write, stdout},
    process::ExitCode,
};

use sequence::Source;
use shared::Level;
use step::Step;

/// The plan of process 1.
const PLAN: &str = "/fuzz.plan";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let is_init = std::process::id() == 1;
    if guest::is_random() {
        if is_init {
            guest::mount_all();
        }
        // It comes back only if that cannot be done.
        guest::start_again(&args);
    }
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        _ if is_init => run(PLAN, "/tmp"),
        ["--print", seed, length] => print(seed, length),
        [plan] => {
            let folder = format!("/dev/shm/fuzz-{}", std::process::id());
            let done = fs::create_dir(&folder).map_err(|error| format!("{folder}: {error}"));
            let done = done.and_then(|()| run(plan, &folder));
            let _ = fs::remove_dir_all(&folder);
            done
        }
        _ => Err("usage: fuzz PLAN | fuzz --print SEED LENGTH".to_owned()),
    };
    if let Err(why) = &done {
        println!("fuzz: {why}");
    }
    if is_init {
        guest::power_off();
    }
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints what a seed makes.
fn print(seed: &str, length: &str) -> Result<(), String> {
    let (Ok(seed), Ok(length)) = (seed.parse(), length.parse()) else {
        return Err("a seed and a length are numbers".to_owned());
    };
    let mut text = String::new();
    for step in maker::sequence(seed, length) {
        step.print(&mut text);
        text.push('\n');
    }
    print!("{text}");
    Ok(())
}

/// Does what a plan says.
fn run(path: &str, folder: &str) -> Result<(), String> {
    let plan = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let mut level = Level::Sequence;
    let mut stage = sequence::Stage::new(folder)?;
    let mut lines = plan.lines().peekable();
    while let Some(line) = lines.next() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            ["level", number] => {
                level = match number {
                    "0" => Level::Sequence,
                    "1" => Level::Step,
                    "2" => Level::Text,
                    _ => Level::Last,
                }
            }
            ["seeds", first, count, length] => {
                let number = |word: &str| word.parse::<u64>().map_err(|_| format!("{word} is no number"));
                let (first, count, length) = (number(first)?, number(count)?, number(length)?);
                for seed in first..first.saturating_add(count) {
                    let source = Source::Seed(seed, length as usize);
                    say(&stage.play(&seed.to_string(), &source, level));
                }
            }
            ["case", name] => {
                let mut steps = Vec::new();
                while let Some(line) =
                    lines.next_if(|line| !line.starts_with(|c: char| c.is_ascii_lowercase()))
                {
                    if !line.is_empty() && !line.starts_with('#') {
                        steps.push(Step::parse(line).ok_or_else(|| format!("{name}: no step: {line}"))?);
                    }
                }
                say(&stage.play(name, &Source::Steps(steps), level));
            }
            _ => return Err(format!("the plan has a line of an unknown form: {line}")),
        }
    }
    say("end\n");
    Ok(())
}

/// Prints; where that cannot be done there is nobody to be told.
fn say(text: &str) {
    let mut out = stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Adds formatted text, which cannot fail.
pub fn add(out: &mut String, text: std::fmt::Arguments) {
    let _ = out.write_fmt(text);
}
