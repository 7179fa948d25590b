// SPDX-License-Identifier: MPL-2.0

//! Debian's packages, fetched and unpacked, never installed.
//!
//! apt-get resolves as if nothing were installed, so that what a root holds does not depend on the host; it also
//! checks the signatures. Packages and unpacked roots are kept under `target/`: a second call does nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::project;

/// Makes sure that `target/root/NAME` holds these packages and what they depend on; returns it.
///
/// # Errors
///
/// When a package cannot be found, fetched or unpacked.
pub fn unpack(name: &str, packages: &[&str], without: &[&str]) -> Result<PathBuf> {
    let root = project::target("root");
    let folder = root.join(name);
    let stamp_path = root.join(format!("{name}.packages"));
    let stamp = format!("{} but {}\n", packages.join(" "), without.join(" "));
    if fs::read_to_string(&stamp_path).is_ok_and(|old| old == stamp) && folder.is_dir() {
        return Ok(folder);
    }

    eprintln!("tessera: fetching Debian's packages for the root: {}", packages.join(" "));
    let scratch = scratch()?;
    for archive in fetch(packages)? {
        let file = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if without.iter().any(|name| file.split('_').next() == Some(name)) {
            continue;
        }
        unpack_archive(&archive, scratch.path())?;
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("{} cannot be removed", folder.display()))?;
    }
    fs::rename(scratch.keep(), &folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    fs::write(&stamp_path, stamp).context("target/root cannot be written")?;
    Ok(folder)
}

/// Makes sure that `target/root/NAME` holds these packages without what they depend on; returns it.
///
/// # Errors
///
/// When a package cannot be found, fetched or unpacked.
pub fn alone(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let folder = project::target("root").join(name);
    if folder.is_dir() {
        return Ok(folder);
    }
    eprintln!("tessera: fetching Debian's {}", packages.join(" "));
    let scratch = scratch()?;
    let cache = cache()?;
    with_some_lists(&cache, |apt| {
        let plan = apt.plan(packages)?;
        packages.iter().try_for_each(|package| unpack_one(apt, &plan, package, scratch.path()))
    })?;
    fs::rename(scratch.keep(), &folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    Ok(folder)
}

/// Makes sure that Debian's Linux is there, without what it would need to be installed; returns the kernel's image.
///
/// The image is the one with version numbers in its name that the package called `name` depends on.
///
/// # Errors
///
/// When a package cannot be found, fetched or unpacked.
pub fn linux(name: &str) -> Result<PathBuf> {
    let folder = project::target("root").join(name);
    if let Some(image) = image_in(&folder) {
        return Ok(image);
    }
    eprintln!("tessera: fetching Debian's {name}");
    let scratch = scratch()?;
    let cache = cache()?;
    with_some_lists(&cache, |apt| {
        let plan = apt.plan(&[name])?;
        let start = "linux-image-";
        let is_image =
            |package: &&str| package.starts_with(start) && package.as_bytes()[start.len()].is_ascii_digit();
        let package = archive_names(&plan).filter_map(|archive| archive.split('_').next()).find(is_image);
        unpack_one(apt, &plan, package.context("apt-get knows no image of Linux")?, scratch.path())
    })?;
    fs::rename(scratch.keep(), &folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    image_in(&folder).with_context(|| format!("{name} has no kernel"))
}

/// Fetches one package of a plan, and unpacks it.
fn unpack_one(apt: &Apt<'_>, plan: &str, package: &str, folder: &Path) -> Result<()> {
    let archive = archive_names(plan).find(|archive| archive.split('_').next() == Some(package));
    let archive = archive.with_context(|| format!("apt-get knows no {package}"))?;
    apt.run(&["download"], &[package])?;
    unpack_archive(&apt.cache.join("archives").join(archive), folder)
}

/// Makes a folder to unpack into.
fn scratch() -> Result<tempfile::TempDir> {
    let root = project::target("root");
    fs::create_dir_all(&root).context("target/root cannot be made")?;
    tempfile::tempdir_in(&root).context("no folder can be made in target/root")
}

/// The kernel's image among unpacked files.
fn image_in(folder: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(folder.join("boot")).ok()?;
    let mut paths = files.filter_map(|file| Some(file.ok()?.path()));
    paths.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-")))
}

fn unpack_archive(archive: &Path, folder: &Path) -> Result<()> {
    let status = Command::new("dpkg-deb").arg("-x").arg(archive).arg(folder).status();
    if !status.context("dpkg-deb cannot be started: is this Debian?")?.success() {
        bail!("{} cannot be unpacked", archive.display());
    }
    Ok(())
}

/// Fetches packages and what they depend on; returns the archives.
fn fetch(packages: &[&str]) -> Result<Vec<PathBuf>> {
    with_some_lists(&cache()?, |apt| apt.fetch(packages))
}

/// Makes the folders that apt-get works in.
fn cache() -> Result<PathBuf> {
    // apt-get works in a folder of its own.
    let cache = std::path::absolute(project::target("debs")).context("the working folder is gone")?;
    for folder in ["archives/partial", "empty/partial", "lists/partial"] {
        fs::create_dir_all(cache.join(folder)).context("target/debs cannot be made")?;
    }
    fs::write(cache.join("nothing-installed"), "").context("target/debs cannot be written")?;
    Ok(cache)
}

/// Tries with the host's lists of packages, and again with fresh ones if they are missing or old.
fn with_some_lists<T>(cache: &Path, work: impl Fn(&Apt<'_>) -> Result<T>) -> Result<T> {
    work(&Apt { cache, own_lists: false }).or_else(|_| {
        // Lists of our own need no root.
        let apt = Apt { cache, own_lists: true };
        apt.run(&["update"], &[])?;
        work(&apt)
    })
}

/// How packages are asked for.
const INSTALL: &[&str] = &["--no-install-recommends", "--yes", "install"];

/// apt-get with a cache of our own.
struct Apt<'a> {
    cache: &'a Path,
    own_lists: bool,
}

impl Apt<'_> {
    fn fetch(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let plan = self.plan(packages)?;
        self.run(&[&["--download-only"], INSTALL].concat(), packages)?;
        let archives: Vec<PathBuf> =
            archive_names(&plan).map(|name| self.cache.join("archives").join(name)).collect();
        match archives.iter().find(|archive| !archive.exists()) {
            Some(missing) => bail!("apt-get did not fetch {}", missing.display()),
            None if archives.is_empty() => bail!("apt-get found nothing to fetch"),
            None => Ok(archives),
        }
    }

    /// The list of what is to be fetched for some packages, whether it is in the cache or not.
    fn plan(&self, packages: &[&str]) -> Result<String> {
        // apt-get leaves out what is in the cache, so the plan is made for an empty one.
        let empty = format!("Dir::Cache::archives={}", self.cache.join("empty").display());
        self.run(&[&["-o", &empty, "--print-uris"], INSTALL].concat(), packages)
    }

    fn run(&self, arguments: &[&str], packages: &[&str]) -> Result<String> {
        let option = |name: &str, path: &str| format!("{name}={}", self.cache.join(path).display());
        let mut apt = Command::new("apt-get");
        // Where `download` puts what it fetches.
        apt.current_dir(self.cache.join("archives"));
        apt.args(["-qq", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root", "-o"]);
        apt.args([&option("Dir::State::status", "nothing-installed"), "-o", &option("Dir::Cache", "")]);
        if self.own_lists {
            apt.args(["-o", &option("Dir::State::lists", "lists")]);
        }
        let output = apt.args(arguments).args(packages).stdin(Stdio::null()).output();
        let output = output.context("apt-get cannot be started: is this Debian?")?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            bail!("apt-get could not get {}: {words}", packages.join(" "));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The file names in apt-get's list of what it would fetch: `'URI' NAME SIZE HASH` on each line.
fn archive_names(plan: &str) -> impl Iterator<Item = &str> {
    plan.lines().filter(|line| line.starts_with('\'')).filter_map(|line| line.split_whitespace().nth(1))
}

#[cfg(test)]
mod tests {
    use super::archive_names;

    #[test]
    fn archive_names_skip_what_is_no_package() {
        let plan = "Reading...\n'http://x/a.deb' a_1%3a2_amd64.deb 12 SHA256:0\n\n'http://x/b.deb' b_1_all.deb 3 x\n";
        assert_eq!(archive_names(plan).collect::<Vec<_>>(), ["a_1%3a2_amd64.deb", "b_1_all.deb"]);
    }
}
