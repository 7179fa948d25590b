// SPDX-License-Identifier: MPL-2.0

//! Packs the folder `rom/`, and what is made up here, as the archive that the firmware carries.

use std::{env, error::Error, fs, path::PathBuf};

/// A page of the firmware, in bytes.
const PAGE: usize = 512;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::copy("memory.x", out.join("memory.x"))?;
    println!("cargo:rustc-link-search={}", out.display());

    let mut archive = tar::Builder::new(fs::File::create(out.join("rom.tar"))?);
    let mut names: Vec<_> = fs::read_dir("rom")?.collect::<Result<_, _>>()?;
    names.sort_by_key(|entry| entry.file_name());
    for entry in names {
        add(&mut archive, &entry.file_name().to_string_lossy(), &fs::read(entry.path())?)?;
    }
    // Eight pages, no two alike, the last of which is short.
    let table: Vec<u8> = (0..8 * PAGE - 100).map(|at| (at / PAGE * 31 + at * 7) as u8).collect();
    add(&mut archive, "table", &table)?;
    archive.finish()?;
    println!("cargo:rerun-if-changed=rom");
    println!("cargo:rerun-if-changed=memory.x");
    Ok(())
}

/// Adds a file, the same each time it is built.
fn add(archive: &mut tar::Builder<fs::File>, name: &str, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o444);
    header.set_cksum();
    archive.append_data(&mut header, name, bytes)?;
    Ok(())
}
