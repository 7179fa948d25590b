// SPDX-License-Identifier: MPL-2.0

//! Linux's own tests of memory: `tools/testing/selftests/vm` of Debian's source package, fetched and built, never kept.
//!
//! The cases are those of its `run_vmtests.sh`, with the same arguments.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use super::Case;
use crate::{
    initramfs::{self, Contents, Root, Tree},
    project,
};

const PACKAGE: &str = "linux-source-6.1";
/// What the tests are built with and need when they run.
const LIBRARIES: &[&str] = &["libcap2", "libcap-dev", "libnuma1", "libnuma-dev"];
const LIBRARY_FOLDERS: &[&str] = &["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
/// What is taken out of the source.
const PARTS: &[&str] = &[
    "tools/testing/selftests/vm",
    "tools/testing/selftests/kselftest.h",
    "tools/testing/selftests/kselftest_harness.h",
    "tools/testing/selftests/lib.mk",
    "tools/testing/selftests/x86",
    "scripts/subarch.include",
    "mm/gup_test.h",
    "lib/test_hmm_uapi.h",
];
/// Where the programs are in the guest.
const PLACE: &str = "usr/lib/selftests";

const HUGE: &str = "needs huge pages";
const NUMA: &str = "needs several memory nodes";
const MODULE: &str = "needs a module or an option of Linux's own, which tests its inside";
const MERGING: &str = "needs the merging of equal pages, which this kernel is without";
const KEYS: &str = "needs a processor with protection keys, or a 32-bit one";

/// Who may not lock as much as he likes: the user of this case.
const NOBODY: &str = "on-fault-limit";

/// A name, the program with its arguments, and how many seconds it may take.
const RUN: &[(&str, &str, u64)] = &[
    ("map_fixed_noreplace", "map_fixed_noreplace", 30),
    ("userfaultfd-anon", "userfaultfd anon 20 16", 300),
    ("userfaultfd-anon-dev", "userfaultfd anon:dev 20 16", 300),
    ("userfaultfd-shmem", "userfaultfd shmem 20 16", 300),
    ("userfaultfd-shmem-dev", "userfaultfd shmem:dev 20 16", 300),
    (NOBODY, "on-fault-limit", 30),
    ("map_populate", "map_populate", 30),
    ("mlock-random-test", "mlock-random-test", 120),
    ("mlock2-tests", "mlock2-tests", 60),
    ("mrelease_test", "mrelease_test", 120),
    ("mremap_test", "mremap_test", 300),
    ("virtual_address_range", "virtual_address_range", 300),
    ("va_128TBswitch", "va_128TBswitch", 60),
    ("mremap_dontunmap", "mremap_dontunmap", 60),
    ("madv_populate", "madv_populate", 60),
    ("memfd_secret", "memfd_secret", 60),
    ("protection_keys_64", "protection_keys_64", 120),
    ("soft-dirty", "soft-dirty", 60),
];

/// What is not run, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("hugepage-mmap", HUGE),
    ("hugepage-shm", HUGE),
    ("map_hugetlb", HUGE),
    ("hugepage-mremap", HUGE),
    ("hugepage-vmemmap", HUGE),
    ("hugetlb-madvise", HUGE),
    ("userfaultfd-hugetlb", HUGE),
    ("compaction_test", HUGE),
    ("thuge-gen", HUGE),
    ("khugepaged", HUGE),
    ("split_huge_page_test", HUGE),
    ("transhuge-stress", HUGE),
    ("write_to_hugetlbfs", HUGE),
    ("gup_test", MODULE),
    ("test_vmalloc.sh", MODULE),
    ("test_hmm.sh", MODULE),
    ("ksm_tests", MERGING),
    ("migration", NUMA),
    ("protection_keys_32", KEYS),
];

/// Those that `make test` runs, too.
const QUICK: &[&str] = &[
    "map_fixed_noreplace",
    NOBODY,
    "map_populate",
    "mlock-random-test",
    "mlock2-tests",
    "mrelease_test",
    "mremap_dontunmap",
    "madv_populate",
    "soft-dirty",
];

/// All cases.
pub fn cases() -> Vec<Case> {
    let run = |&(name, program, seconds): &(&str, &str, u64)| {
        let command = match name {
            NOBODY => format!("chroot --userspec=65534:65534 / /{PLACE}/{program}"),
            _ => format!("cd /{PLACE} && ./{program}"),
        };
        Case::new(name, command, seconds).quick_if(QUICK.contains(&name))
    };
    let left_out = |&(name, reason): &(&str, &'static str)| Case::left_out(name, reason);
    RUN.iter().map(run).chain(LEFT_OUT.iter().map(left_out)).collect()
}

/// Builds the tests, and puts them into a root of Debian's programs.
///
/// # Errors
///
/// When a package cannot be had, or the tests do not build.
pub fn tree() -> Result<Tree> {
    let libraries = initramfs::alone("selftests-libraries", LIBRARIES)?;
    let programs = build(&libraries)?;
    let mut tree = Tree::new(&Contents { root: Root::Debian, ..Contents::default() })?;
    for entry in fs::read_dir(&programs).context("the built tests cannot be read")? {
        let path = entry.context("the built tests cannot be read")?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        tree.file_of_host(&format!("{PLACE}/{name}"), &path, 0o755);
    }
    for name in ["libcap.so.2", "libnuma.so.1"] {
        let mut places = LIBRARY_FOLDERS.iter().map(|folder| libraries.join(folder).join(name));
        let path = places.find(|path| path.exists());
        let path = path.with_context(|| format!("no package has {name}"))?;
        tree.file_of_host(&format!("usr/lib/x86_64-linux-gnu/{name}"), &path, 0o755);
    }
    Ok(tree)
}

/// Builds the tests unless they are built; says where they are.
fn build(libraries: &Path) -> Result<PathBuf> {
    let folder = project::target("selftests");
    let (programs, stamp) = (folder.join("programs"), folder.join("built"));
    if stamp.exists() {
        return Ok(programs);
    }
    let source = unpack(&folder)?;
    eprintln!("tessera: building Linux's tests of memory");
    if programs.exists() {
        fs::remove_dir_all(&programs).context("target/selftests cannot be written")?;
    }
    fs::create_dir_all(&programs).context("target/selftests cannot be made")?;
    let absolute = |path: &Path| std::path::absolute(path).context("the working folder is gone");
    let libraries = absolute(libraries)?;
    let mut flags =
        format!("EXTRA_CFLAGS=-w -include sys/syscall.h -I{}", libraries.join("usr/include").display());
    for folder in LIBRARY_FOLDERS {
        flags += &format!(" -L{}", libraries.join(folder).display());
    }
    // Not everything there builds on every machine: what is missing afterwards is found missing.
    let output = Command::new("make")
        .arg("-C")
        .arg(source.join("tools/testing/selftests/vm"))
        .args(["--keep-going", "--silent", "KHDR_INCLUDES=", &flags])
        .arg(format!("OUTPUT={}", absolute(&programs)?.display()))
        .stdin(Stdio::null())
        .output()
        .context("make cannot be started")?;
    for program in RUN.iter().filter_map(|(_, program, _)| program.split(' ').next()) {
        if !programs.join(program).is_file() {
            bail!("{program} does not build: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
    }
    fs::write(&stamp, "").context("target/selftests cannot be written")?;
    Ok(programs)
}

/// Takes the tests out of the package's archive; says where the source is.
fn unpack(folder: &Path) -> Result<PathBuf> {
    let package = initramfs::alone("linux-source", &[PACKAGE])?;
    let archive = package.join("usr/src").join(format!("{PACKAGE}.tar.xz"));
    eprintln!("tessera: unpacking Linux's tests of memory");
    fs::create_dir_all(folder).context("target/selftests cannot be made")?;
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(folder).arg("-xJf").arg(&archive);
    tar.args(PARTS.iter().map(|part| format!("{PACKAGE}/{part}")));
    let status = tar.status().context("tar cannot be started")?;
    ensure!(status.success(), "{} cannot be unpacked", archive.display());
    Ok(folder.join(PACKAGE))
}
