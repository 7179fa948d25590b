// SPDX-License-Identifier: MPL-2.0

//! Tells in words what a script does, or the fewest of its steps that differ.
//!
//! `cargo run -p vmar-model --example tell -- FILE [SHORT]`; what is left of a script that differs is written to SHORT.

use std::{env, fs, process::ExitCode};

use vmar_model::Script;

fn main() -> ExitCode {
    let mut names = env::args_os().skip(1);
    let Some(file) = names.next() else {
        eprintln!("tell: a file must be named");
        return ExitCode::FAILURE;
    };
    let bytes = match fs::read(&file) {
        Ok(bytes) => bytes,
        Err(error) => {
            eprintln!("tell: {}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    };
    let script = Script(&bytes);
    match script.difference() {
        None => {
            print!("{script}");
            println!("they agree");
        }
        Some(difference) => {
            println!("{difference}");
            if let Some(short) = names.next()
                && let Err(error) = fs::write(&short, &difference.script)
            {
                eprintln!("tell: {}: {error}", short.display());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
