// SPDX-License-Identifier: MPL-2.0

//! The files of a root before they are packed.
//!
//! Invariants: each path has one entry, the last that was put there (a folder never replaces a link to one); the
//! folder of each entry has an entry too; no path leads through one of the links from `/` into `/usr`.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use cpio::newc;

/// The kind of a file, as in `st_mode`.
const S_IFDIR: u32 = 0o040000;
const S_IFREG: u32 = 0o100000;
const S_IFLNK: u32 = 0o120000;

/// What is at a path.
#[derive(Clone)]
enum Node {
    Folder { mode: u32 },
    Link { target: String },
    File { mode: u32, contents: Vec<u8> },
    HostFile { mode: u32, path: PathBuf },
}

/// A root: paths (without a leading slash) and what is there, folders before their contents.
#[derive(Clone, Default)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    /// Whether something is at a path.
    pub fn has(&self, path: &str) -> bool {
        self.nodes.contains_key(&normal(path))
    }

    /// Puts a folder there; one that is there takes the mode, and so does the target of a link into `/usr`.
    pub fn folder(&mut self, path: &str, mode: u32) {
        let path = normal(&format!("{path}/."));
        self.insert(path.trim_end_matches("/.").to_owned(), Node::Folder { mode });
    }

    /// Puts a symbolic link there.
    pub fn link(&mut self, path: &str, target: &str) {
        self.insert(normal(path), Node::Link { target: target.to_owned() });
    }

    /// Puts a symbolic link there unless something is.
    pub fn link_if_absent(&mut self, path: &str, target: &str) {
        if !self.has(path) {
            self.link(path, target);
        }
    }

    /// Puts a file with these contents there.
    pub fn file(&mut self, path: &str, contents: Vec<u8>, mode: u32) {
        self.insert(normal(path), Node::File { mode, contents });
    }

    /// Puts a copy of a file of the host there; it is read when the tree is written.
    pub fn file_of_host(&mut self, path: &str, source: &Path, mode: u32) {
        self.insert(normal(path), Node::HostFile { mode, path: source.to_owned() });
    }

    fn insert(&mut self, path: String, node: Node) {
        let mut folder = path.as_str();
        while let Some((parent, _)) = folder.rsplit_once('/') {
            self.nodes.entry(parent.to_owned()).or_insert(Node::Folder { mode: 0o755 });
            folder = parent;
        }
        self.nodes.insert(path, node);
    }

    /// Writes the tree as a newc archive; returns its size in bytes.
    ///
    /// Everything belongs to root and is as old as the epoch: the same tree gives the same archive.
    ///
    /// # Errors
    ///
    /// When a file of the host cannot be read, or the archive cannot be written.
    pub fn write(&self, path: &Path) -> Result<u64> {
        let cannot_write = || format!("{} cannot be written", path.display());
        let mut out = BufWriter::new(File::create(path).with_context(cannot_write)?);
        for (number, (name, node)) in (1..).zip(&self.nodes) {
            let header = newc::Builder::new(name).ino(number).uid(0).gid(0);
            let (mode, contents) = match node {
                Node::Folder { mode } => (S_IFDIR | mode, Vec::new()),
                Node::Link { target } => (S_IFLNK | 0o777, target.clone().into_bytes()),
                Node::File { mode, contents } => (S_IFREG | mode, contents.clone()),
                Node::HostFile { mode, path } => {
                    let contents = std::fs::read(path);
                    (S_IFREG | mode, contents.with_context(|| format!("{} cannot be read", path.display()))?)
                }
            };
            let links = if matches!(node, Node::Folder { .. }) { 2 } else { 1 };
            write_entry(&mut out, header.mode(mode).nlink(links), &contents).with_context(cannot_write)?;
        }
        newc::trailer(&mut out).with_context(cannot_write)?;
        let file = out.into_inner().map_err(|error| error.into_error()).with_context(cannot_write)?;
        Ok(file.metadata().with_context(cannot_write)?.len())
    }
}

fn write_entry(out: &mut impl Write, header: newc::Builder, contents: &[u8]) -> io::Result<()> {
    let size = u32::try_from(contents.len())
        .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "larger than the format allows"))?;
    let mut entry = header.write(out, size);
    entry.write_all(contents)?;
    entry.finish().map(|_| ())
}

/// A path without slashes around it, in `/usr` where the root only has links into it.
fn normal(path: &str) -> String {
    let path = path.trim_start_matches("./").trim_matches('/');
    match path.split_once('/') {
        Some(("bin" | "sbin" | "lib" | "lib64", _)) => format!("usr/{path}"),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Node, Tree, normal};

    #[test]
    fn paths_lead_into_usr() {
        assert_eq!(normal("/bin/sh"), "usr/bin/sh");
        assert_eq!(normal("lib64/ld.so"), "usr/lib64/ld.so");
        assert_eq!(normal("bin"), "bin");
        assert_eq!(normal("usr/bin/sh"), "usr/bin/sh");
        assert_eq!(normal("./etc/"), "etc");
    }

    #[test]
    fn folder_does_not_replace_the_link_into_usr() {
        let mut tree = Tree::default();
        tree.link("bin", "usr/bin");
        tree.folder("bin", 0o755);
        tree.file("bin/x", Vec::new(), 0o755);
        assert!(matches!(tree.nodes["bin"], Node::Link { .. }));
        assert!(tree.has("usr/bin/x") && tree.has("bin/x"));
    }

    #[test]
    fn folders_come_before_their_contents_and_are_never_missing() {
        let mut tree = Tree::default();
        tree.file("a/b/c", b"1".to_vec(), 0o644);
        tree.file("a-b", Vec::new(), 0o644);
        let names: Vec<_> = tree.nodes.keys().map(String::as_str).collect();
        for name in &names {
            if let Some((parent, _)) = name.rsplit_once('/') {
                let position = |wanted: &str| names.iter().position(|n| *n == wanted);
                assert!(position(parent).is_some_and(|parent| Some(parent) < position(name)));
            }
        }
    }

    #[test]
    fn archive_holds_what_was_put_in() {
        let mut tree = Tree::default();
        tree.folder("tmp", 0o1777);
        tree.link("sh", "busybox");
        tree.file("etc/name", b"tessera\n".to_vec(), 0o644);
        let path = tempfile::NamedTempFile::new().unwrap();
        tree.write(path.path()).unwrap();

        let mut input = std::fs::File::open(path.path()).unwrap();
        let mut seen = Vec::new();
        loop {
            let mut reader = cpio::NewcReader::new(input).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let mut contents = String::new();
            std::io::Read::read_to_string(&mut reader, &mut contents).unwrap();
            seen.push((reader.entry().name().to_owned(), reader.entry().mode(), contents));
            input = reader.finish().unwrap();
        }
        let expected = [
            ("etc", 0o040755, ""),
            ("etc/name", 0o100644, "tessera\n"),
            ("sh", 0o120777, "busybox"),
            ("tmp", 0o041777, ""),
        ];
        assert_eq!(seen, expected.map(|(name, mode, contents)| (name.to_owned(), mode, contents.to_owned())));
    }
}
