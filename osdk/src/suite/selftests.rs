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

/// All cases.
pub fn cases() -> Vec<Case> {
    let run =
        |name: &str, command: &str, seconds| Case::new(name, format!("cd /{PLACE} && {command}"), seconds);
    vec![
        Case::left_out("hugepage-mmap", HUGE),
        Case::left_out("hugepage-shm", HUGE),
        Case::left_out("map_hugetlb", HUGE),
        Case::left_out("hugepage-mremap", HUGE),
        Case::left_out("hugepage-vmemmap", HUGE),
        Case::left_out("hugetlb-madvise", HUGE),
        run("map_fixed_noreplace", "./map_fixed_noreplace", 30).quick_if(true),
        Case::left_out("gup_test", MODULE),
        run("userfaultfd-anon", "./userfaultfd anon 20 16", 300),
        run("userfaultfd-anon-dev", "./userfaultfd anon:dev 20 16", 300),
        Case::left_out("userfaultfd-hugetlb", HUGE),
        run("userfaultfd-shmem", "./userfaultfd shmem 20 16", 300),
        run("userfaultfd-shmem-dev", "./userfaultfd shmem:dev 20 16", 300),
        Case::left_out("compaction_test", HUGE),
        run("on-fault-limit", "setpriv --reuid=65534 --regid=65534 --clear-groups ./on-fault-limit", 30)
            .quick_if(true),
        run("map_populate", "./map_populate", 30).quick_if(true),
        run("mlock-random-test", "./mlock-random-test", 120).quick_if(true),
        run("mlock2-tests", "./mlock2-tests", 60).quick_if(true),
        run("mrelease_test", "./mrelease_test", 120),
        run("mremap_test", "./mremap_test", 300),
        Case::left_out("thuge-gen", HUGE),
        run("virtual_address_range", "./virtual_address_range", 300),
        run("va_128TBswitch", "./va_128TBswitch", 60),
        Case::left_out("test_vmalloc.sh", MODULE),
        run("mremap_dontunmap", "./mremap_dontunmap", 60).quick_if(true),
        Case::left_out("test_hmm.sh", MODULE),
        run("madv_populate", "./madv_populate", 60),
        run("memfd_secret", "./memfd_secret", 60),
        Case::left_out("ksm_tests", MERGING),
        Case::left_out("migration", NUMA),
        run("protection_keys_64", "./protection_keys_64", 120),
        Case::left_out("protection_keys_32", KEYS),
        run("soft-dirty", "./soft-dirty", 60),
        Case::left_out("khugepaged", HUGE),
        Case::left_out("split_huge_page_test", HUGE),
        Case::left_out("transhuge-stress", HUGE),
        Case::left_out("write_to_hugetlbfs", HUGE),
    ]
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
    fs::create_dir_all(&programs).context("target/selftests cannot be made")?;
    let absolute = |path: &Path| std::path::absolute(path).context("the working folder is gone");
    let libraries = absolute(libraries)?;
    let mut flags = format!("EXTRA_CFLAGS=-w -include sys/syscall.h -I{}", libraries.join("usr/include").display());
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
    for case in cases() {
        let super::Run::Command { command, .. } = case.run else { continue };
        let program = command.split("./").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
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
