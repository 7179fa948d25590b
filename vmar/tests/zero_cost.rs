// SPDX-License-Identifier: MPL-2.0

//! Rights in the type cost nothing: compiles the crate with optimization and compares machine code.
//!
//! The functions compared are those of `vmar::sim::unchecked`.

use std::{env, fs, path::Path, process::Command};

#[test]
fn v3_a_check_in_the_type_leaves_no_machine_code() {
    let assembly = compile();
    let by_type = Function::find(&assembly, "unmap_checked_by_type");
    let unchecked = Function::find(&assembly, "unmap_unchecked");
    let by_value = Function::find(&assembly, "unmap_checked_by_value");
    assert_eq!(by_type, unchecked, "the check in the type has left code");
    // The comparison can tell a difference: a check of values is one.
    assert_ne!(by_value, unchecked, "the comparison is blind");
}

#[test]
fn v3_rights_in_the_type_take_no_room() {
    use std::mem::size_of;

    use aster_rights::{FullRights, Rights, TRightSet};
    use vmar::{sim::Sim, vmar::Vmar};

    assert_eq!(size_of::<TRightSet<FullRights>>(), 0);
    assert_eq!(size_of::<Vmar<Sim, TRightSet<FullRights>>>(), size_of::<usize>());
    assert!(size_of::<Vmar<Sim, Rights>>() > size_of::<usize>());
}

/// Compiles the crate to assembly and returns that.
fn compile() -> String {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("zero-cost");
    let output = Command::new(env!("CARGO"))
        .args(["rustc", "--lib", "--release", "--features", "sim", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .args(["--", "--emit", "asm", "-C", "codegen-units=1", "-C", "debuginfo=0"])
        .output()
        .expect("cargo cannot be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = fs::read_dir(target.join("release/deps")).expect("there is no output");
    let newest = files
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(|path| is_assembly(path))
        .max_by_key(|path| path.metadata().and_then(|data| data.modified()).ok());
    fs::read_to_string(newest.expect("there is no assembly")).expect("the assembly cannot be read")
}

fn is_assembly(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "s")
        && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmar-"))
}

/// The code of one function.
#[derive(Debug, PartialEq, Eq)]
struct Function {
    instructions: Vec<String>,
}

impl Function {
    /// Finds the function whose mangled name has `name` in it; one that the compiler has found to be the same as
    /// another is an alias of that.
    fn find(assembly: &str, name: &str) -> Self {
        // The length before the name, as both mangling schemes have it, keeps longer names out.
        let mangled = format!("{}{name}", name.len());
        let alias = assembly.lines().find_map(|line| {
            let line = line.trim();
            let (symbol, same) = match line.strip_prefix(".set") {
                Some(rest) => rest.split_once(',')?,
                None => line.split_once(" = ")?,
            };
            symbol.contains(&mangled).then(|| format!("{}:", same.trim()))
        });
        let is_start = |line: &str| match &alias {
            Some(label) => line == label,
            None => line.ends_with(':') && !line.starts_with('.') && line.contains(&mangled),
        };
        let mut labels = Vec::new();
        let instructions: Vec<String> = assembly
            .lines()
            .skip_while(|line| !is_start(line))
            .skip(1)
            .take_while(|line| !line.starts_with(".Lfunc_end"))
            .map(str::trim)
            .filter(|line| !line.starts_with('.') && !line.starts_with('#') && !line.is_empty())
            .map(|line| with_numbered_labels(line, &mut labels))
            .collect();
        assert!(!instructions.is_empty(), "there is no function {name}");
        Self { instructions }
    }
}

/// Replaces the names of local labels, which differ from function to function, by the order in which they are used.
fn with_numbered_labels(line: &str, labels: &mut Vec<String>) -> String {
    let mut result = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(".L") {
        let end = rest[at + 2..]
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .map_or(rest.len(), |length| at + 2 + length);
        let label = &rest[at..end];
        let number = labels.iter().position(|known| known == label).unwrap_or_else(|| {
            labels.push(label.to_string());
            labels.len() - 1
        });
        result.push_str(&rest[..at]);
        result.push_str(&format!("label {number}"));
        rest = &rest[end..];
    }
    result + rest
}
