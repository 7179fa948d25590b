// SPDX-License-Identifier: MPL-2.0

//! The root that the guest finds: a cpio archive made of Debian's packages and a few files of our own.
//!
//! ```text
//! Debian's packages ──┐
//! osdk/root/ ─────────┼──► Tree (one entry for each path) ──► newc archive
//! --add DIR ──────────┤
//! the session ────────┘
//! ```
//!
//! No program comes from the host: its versions may differ, and it may not be Debian. Every program is as Debian
//! built it. Like Debian 12 itself the root has one `/usr`: `/bin`, `/sbin`, `/lib` and `/lib64` are links into it.

mod packages;
mod tree;

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use walkdir::WalkDir;

pub use self::{
    packages::{alone, linux},
    tree::Tree,
};
use crate::project;

/// Which programs the root has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Root {
    /// busybox, with a link for each of its applets.
    #[default]
    Busybox,
    /// Debian's own programs, dynamically linked; busybox only for what they do not have.
    Debian,
}

/// What goes into the root.
#[derive(Args, Default)]
pub struct Contents {
    /// The programs in it.
    #[arg(long, value_enum, default_value_t)]
    pub root: Root,
    /// A folder whose contents go into the root, over what is there.
    #[arg(long, value_name = "DIR")]
    pub add: Vec<PathBuf>,
    /// A program of the host to put into the root's /usr/bin.
    #[arg(long, value_name = "FILE")]
    pub program: Vec<PathBuf>,
}

/// What `/init` is to do, handed over as files in `/etc/tessera`.
pub struct Session {
    /// There is a terminal, perhaps of a known size in rows and columns.
    pub terminal: Option<Option<(u16, u16)>>,
    /// A shell starts as after a login, which throws away what was typed before it.
    pub login: bool,
    /// The terminal's type.
    pub term: Option<String>,
    /// The command line to run; none is an interactive shell.
    pub command: Option<String>,
    /// What the command reads; none is nothing.
    pub input: Option<Vec<u8>>,
}

/// Packages of each root: the resolver adds what they depend on.
const BUSYBOX: &[&str] = &["busybox-static"];
const DEBIAN: &[&str] = &[
    "bash",
    "coreutils",
    "dash",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "mawk",
    "ncurses-base",
    "sed",
    "tar",
];

/// Packages that others depend on only to be installed, which never happens here.
const NOT_NEEDED: &[&str] = &["dpkg", "gcc-12-base", "debconf", "perl-base", "cdebconf"];

/// Folders of packages that no program here reads.
const NOT_PACKED: &[&str] = &[
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/lib/x86_64-linux-gnu/gconv",
    "var/lib/dpkg",
];

/// Folders that must be there, with their modes.
const FOLDERS: &[(&str, u32)] = &[
    ("dev", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr/bin", 0o755),
    ("usr/lib", 0o755),
    ("usr/lib64", 0o755),
    ("usr/local/bin", 0o755),
    ("usr/sbin", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];

/// `/etc/passwd` where bash is the shell.
const PASSWD_WITH_BASH: &str = "root:x:0:0:root:/root:/bin/bash\n\
                                nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";

/// `cargo xtask initramfs`: packs the root and says where it is.
pub fn run(contents: &Contents) -> Result<ExitCode> {
    let name = contents.root.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
    let path = project::target(&format!("initramfs/{name}.cpio"));
    std::fs::create_dir_all(project::target("initramfs")).context("target/initramfs cannot be made")?;
    let mut tree = Tree::new(contents)?;
    tree.add_session(&Session { terminal: Some(None), login: true, term: None, command: None, input: None });
    let size = tree.write(&path)?;
    println!("{} ({} KiB)", path.display(), size / 1024);
    Ok(ExitCode::SUCCESS)
}

impl Tree {
    /// Collects everything but the session.
    ///
    /// # Errors
    ///
    /// When a package cannot be had, or a file cannot be read.
    pub fn new(contents: &Contents) -> Result<Self> {
        let mut tree = Self::default();
        for link in ["bin", "sbin", "lib", "lib64"] {
            tree.link(link, &format!("usr/{link}"));
        }
        for &(path, mode) in FOLDERS {
            tree.folder(path, mode);
        }
        if contents.root == Root::Debian {
            tree.add_packages("debian", DEBIAN, &[])?;
            // What the packages' installation scripts would have linked.
            tree.link_if_absent("usr/bin/awk", "mawk");
            tree.link_if_absent("usr/bin/sh", "dash");
        }
        tree.add_busybox(&packages::unpack("busybox", BUSYBOX, NOT_NEEDED)?.join("bin/busybox"))?;
        tree.add_folder(&project::root().join("osdk/root"), &[])?;
        if contents.root == Root::Debian {
            tree.file("etc/passwd", PASSWD_WITH_BASH.into(), 0o644);
        }
        for folder in &contents.add {
            if !folder.is_dir() {
                bail!("{} is not a folder", folder.display());
            }
            tree.add_folder(folder, &[])?;
        }
        for program in &contents.program {
            let name = program.file_name().context("a program to add has no name")?.to_string_lossy();
            tree.file_of_host(&format!("usr/bin/{name}"), program, 0o755);
        }
        Ok(tree)
    }

    /// Collects what one program needs that is the first one itself, and Debian's `true`, dynamically linked.
    ///
    /// # Errors
    ///
    /// When a package cannot be had.
    pub fn with_init(init: &Path) -> Result<Self> {
        let mut tree = Self::default();
        for link in ["bin", "sbin", "lib", "lib64"] {
            tree.link(link, &format!("usr/{link}"));
        }
        for &(path, mode) in FOLDERS {
            tree.folder(path, mode);
        }
        let debian = packages::unpack("debian", DEBIAN, NOT_NEEDED)?;
        let libraries = "lib/x86_64-linux-gnu";
        let loader = "ld-linux-x86-64.so.2";
        tree.file_of_host("usr/bin/true", &debian.join("bin/true"), 0o755);
        tree.file_of_host(&format!("lib64/{loader}"), &debian.join(libraries).join(loader), 0o755);
        tree.file_of_host(
            &format!("{libraries}/libc.so.6"),
            &debian.join(libraries).join("libc.so.6"),
            0o755,
        );
        tree.file_of_host("init", init, 0o755);
        Ok(tree)
    }

    /// Adds packages and what they depend on, kept under that name, but for those that programs do without.
    ///
    /// # Errors
    ///
    /// When a package cannot be had.
    pub fn add_packages(&mut self, name: &str, packages: &[&str], without: &[&str]) -> Result<()> {
        let without = [NOT_NEEDED, without].concat();
        self.add_folder(&packages::unpack(name, packages, &without)?, NOT_PACKED)
    }

    /// Adds busybox, and a link for each applet that is no program of its own.
    fn add_busybox(&mut self, busybox: &Path) -> Result<()> {
        let list = Command::new(busybox).arg("--list-full").output().context("busybox cannot be run here")?;
        self.file_of_host("usr/bin/busybox", busybox, 0o755);
        for applet in String::from_utf8_lossy(&list.stdout).lines() {
            // Programs look in both folders: what is in the one counts for the other.
            let (folder, name) = applet.rsplit_once('/').unwrap_or(("", applet));
            let elsewhere =
                ["usr/bin", "usr/sbin"].iter().any(|folder| self.has(&format!("{folder}/{name}")));
            if !folder.is_empty() && !elsewhere {
                self.link(applet, "/bin/busybox");
            }
        }
        Ok(())
    }

    /// Adds the contents of a folder of the host, but for the folders named.
    fn add_folder(&mut self, folder: &Path, without: &[&str]) -> Result<()> {
        let entries = WalkDir::new(folder).min_depth(1).sort_by_file_name().into_iter();
        let wanted = |path: &Path| {
            let inside = path.strip_prefix(folder).unwrap_or(path);
            !without.iter().any(|name| Path::new(name) == inside)
        };
        for entry in entries.filter_entry(|entry| wanted(entry.path())) {
            let entry = entry.with_context(|| format!("{} cannot be read", folder.display()))?;
            let path = entry.path();
            let name = path.strip_prefix(folder).unwrap_or(path);
            let name = name.to_str().with_context(|| format!("{}: not a UTF-8 name", path.display()))?;
            let metadata = entry.metadata().with_context(|| format!("{} cannot be read", path.display()))?;
            let mode = metadata.permissions().mode() & 0o7777;
            if metadata.is_dir() {
                self.folder(name, mode);
            } else if metadata.is_symlink() {
                let target = std::fs::read_link(path).with_context(|| format!("{}", path.display()))?;
                self.link(name, &target.to_string_lossy());
            } else if metadata.is_file() {
                self.file_of_host(name, path, mode);
            }
        }
        Ok(())
    }

    /// Adds what `/init` is to do.
    pub fn add_session(&mut self, session: &Session) {
        let mut settings = String::new();
        if let Some(size) = session.terminal {
            settings += "terminal=yes\n";
            settings += if session.login { "login=yes\n" } else { "login=no\n" };
            if let Some((rows, columns)) = size {
                settings += &format!("rows={rows}\ncolumns={columns}\n");
            }
            let is_word =
                |term: &String| term.bytes().all(|b| b.is_ascii_alphanumeric() || b"-+.".contains(&b));
            if let Some(term) = session.term.as_ref().filter(|term| is_word(term)) {
                settings += &format!("TERM={term}\n");
            }
        }
        self.file("etc/tessera/session", settings.into_bytes(), 0o644);
        if let Some(command) = &session.command {
            self.file("etc/tessera/cmd", format!("{command}\n").into_bytes(), 0o644);
        }
        if let Some(input) = &session.input {
            self.file("etc/tessera/stdin", input.clone(), 0o644);
        }
    }
}
