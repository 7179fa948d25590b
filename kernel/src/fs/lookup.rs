// SPDX-License-Identifier: MPL-2.0

//! Lookup: from the text of a path to a place in the tree.
//!
//! The rules of `path_resolution(7)`: components are taken one by one; each directory passed through must be searchable;
//! symbolic links are replaced by what they say, up to 40 of them; `..` goes up through mounts but not beyond the caller's root;
//! a slash at the end asks for a directory. `openat2(2)` can restrict all that ([`Resolve`]).
//!
//! A [`Lookup`] holds everything one call's lookups depend on, so that a call with two paths sees one root and one identity.

use bitflags::bitflags;

use super::{
    inode::{Inode, LinkTarget},
    path::Path,
    permission::Access,
    protected,
    types::*,
};
use crate::{prelude::*, process::Credentials};

/// The most symbolic links one lookup follows.
const MAX_LINKS: u32 = 40;

bitflags! {
    /// Restrictions of a lookup; the values are those of `openat2(2)`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Resolve: u64 {
        /// Do not cross mounts.
        const NO_XDEV = 0x01;
        /// Do not follow links like those of `/proc/PID/fd`.
        const NO_MAGICLINKS = 0x02;
        /// Do not follow symbolic links at all.
        const NO_SYMLINKS = 0x04;
        /// Do not leave the tree below the start.
        const BENEATH = 0x08;
        /// Take the start as the root.
        const IN_ROOT = 0x10;
        /// Only what needs no waiting; nothing here waits.
        const CACHED = 0x20;
    }
}

/// What to do with a symbolic link at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLink {
    /// Go where it points.
    Follow,
    /// Stop at the link itself.
    Stay,
}

/// The last component of a path, not looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Last {
    /// An ordinary name, and whether slashes follow it.
    Name(Vec<u8>, TrailingSlash),
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// Nothing: the path is only slashes.
    Root,
}

/// Whether a name is followed by slashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrailingSlash {
    /// It is.
    Yes,
    /// It is not.
    No,
}

/// Where one call's lookups start and who makes them.
#[derive(Clone)]
pub struct Lookup {
    /// Where relative paths start.
    pub base: Path,
    /// What absolute paths start at, and `..` does not pass.
    pub root: Path,
    /// The caller.
    pub cred: Arc<Credentials>,
    /// Restrictions.
    pub resolve: Resolve,
}

impl Lookup {
    /// Finds the place that `path` names.
    ///
    /// # Errors
    ///
    /// ENOENT, also for an empty path; ENOTDIR, EACCES, ELOOP, ENAMETOOLONG; EXDEV against a restriction.
    pub fn find(&self, path: &[u8], last: LastLink) -> Result<Path> {
        let mut walk = Walk::new(self, path)?;
        walk.reach_end(last)?;
        Ok(walk.at)
    }

    /// Finds the directory that the last component of `path` is in.
    ///
    /// # Errors
    ///
    /// As [`Lookup::find`].
    pub fn find_parent(&self, path: &[u8]) -> Result<(Path, Last)> {
        let mut walk = Walk::new(self, path)?;
        let last = walk.reach_parent()?;
        Ok((walk.at, last))
    }

    /// Goes on where `find_parent` stopped, at the symbolic link `link` in `dir`: the directory and last component of what it
    /// points to. `links` counts the links of the whole lookup.
    ///
    /// # Errors
    ///
    /// As [`Lookup::find`].
    pub fn follow_last(
        &self,
        dir: Path,
        link: &Path,
        slash: TrailingSlash,
        links: &mut u32,
    ) -> Result<Followed> {
        let mut walk = Walk {
            lookup: self,
            at: dir,
            rest: match slash {
                TrailingSlash::Yes => b"/".to_vec(),
                TrailingSlash::No => Vec::new(),
            },
            pos: 0,
            links: *links,
            root: self.effective_root(),
        };
        walk.check_follow(link.inode())?;
        walk.follow(link)?;
        if walk.pos == walk.rest.len() {
            *links = walk.links;
            return Ok(Followed::Place(walk.at));
        }
        let last = walk.reach_parent()?;
        *links = walk.links;
        Ok(Followed::Parent(walk.at, last))
    }

    fn effective_root(&self) -> Path {
        if self.resolve.contains(Resolve::IN_ROOT) { self.base.clone() } else { self.root.clone() }
    }

    /// Fails unless `dir` is a directory that the caller may search.
    ///
    /// # Errors
    ///
    /// ENOTDIR; EACCES.
    pub fn check_search(&self, dir: &Path) -> Result<()> {
        let protection = dir.inode().protection();
        if protection.kind != FileType::Directory {
            return Err(ENOTDIR);
        }
        self.cred.check_protection(protection, Access::EXEC)
    }

    /// Finds the entry `name` of `dir`, without following it if it is a link.
    ///
    /// # Errors
    ///
    /// ENOENT; EACCES; ENOTDIR; ENAMETOOLONG.
    pub fn find_entry(&self, dir: &Path, name: &[u8]) -> Result<Path> {
        if name.len() > NAME_MAX {
            return Err(ENAMETOOLONG);
        }
        self.check_search(dir)?;
        Ok(dir.child(dir.dentry().lookup(name)?).enter_mounts())
    }
}

/// What a link at the end of a path led to.
pub enum Followed {
    /// A place of its own (a link of `/proc/PID/fd`).
    Place(Path),
    /// A directory, and the name to look up in it.
    Parent(Path, Last),
}

/// What to do with a component that is a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// It is what is looked for.
    Stay,
    /// Follow it to what is looked for.
    Follow,
    /// Follow it on the way.
    Pass,
}

struct Walk<'a> {
    lookup: &'a Lookup,
    at: Path,
    rest: Vec<u8>,
    pos: usize,
    links: u32,
    root: Path,
}

impl<'a> Walk<'a> {
    fn new(lookup: &'a Lookup, path: &[u8]) -> Result<Self> {
        if path.is_empty() {
            return Err(ENOENT);
        }
        if path.len() >= PATH_MAX {
            return Err(ENAMETOOLONG);
        }
        let mut walk = Self {
            lookup,
            at: lookup.base.clone(),
            rest: path.to_vec(),
            pos: 0,
            links: 0,
            root: lookup.effective_root(),
        };
        if path[0] == b'/' {
            walk.jump_to_root()?;
        }
        Ok(walk)
    }

    fn jump_to_root(&mut self) -> Result<()> {
        if self.lookup.resolve.contains(Resolve::BENEATH) {
            return Err(EXDEV);
        }
        self.move_to(self.root.clone())
    }

    /// Goes to `place`, if the restrictions allow the mount it is in.
    fn move_to(&mut self, place: Path) -> Result<()> {
        let crosses = !Arc::ptr_eq(place.mount(), self.at.mount());
        if crosses && self.lookup.resolve.contains(Resolve::NO_XDEV) {
            return Err(EXDEV);
        }
        self.at = place;
        Ok(())
    }

    /// Takes the next component; the range of its bytes in `rest`.
    fn next(&mut self) -> Option<core::ops::Range<usize>> {
        while self.rest.get(self.pos) == Some(&b'/') {
            self.pos += 1;
        }
        let start = self.pos;
        while self.rest.get(self.pos).is_some_and(|byte| *byte != b'/') {
            self.pos += 1;
        }
        (start < self.pos).then_some(start..self.pos)
    }

    /// Whether only slashes are left, and whether there are any.
    fn tail(&self) -> Option<TrailingSlash> {
        let tail = &self.rest[self.pos..];
        if tail.iter().any(|byte| *byte != b'/') {
            None
        } else if tail.is_empty() {
            Some(TrailingSlash::No)
        } else {
            Some(TrailingSlash::Yes)
        }
    }

    fn reach_parent(&mut self) -> Result<Last> {
        while let Some(name) = self.next() {
            let Some(slash) = self.tail() else {
                self.step(name, Link::Pass)?;
                continue;
            };
            if self.at.inode().kind() != FileType::Directory {
                return Err(ENOTDIR);
            }
            let name = &self.rest[name];
            return Ok(match name {
                b"." => Last::Dot,
                b".." => Last::DotDot,
                _ if name.len() > NAME_MAX => return Err(ENAMETOOLONG),
                _ => Last::Name(name.to_vec(), slash),
            });
        }
        Ok(Last::Root)
    }

    fn reach_end(&mut self, last: LastLink) -> Result<()> {
        let mut slash = TrailingSlash::No;
        while let Some(name) = self.next() {
            let link = match self.tail() {
                Some(TrailingSlash::No) if last == LastLink::Stay => Link::Stay,
                Some(TrailingSlash::No) => Link::Follow,
                Some(TrailingSlash::Yes) => {
                    slash = TrailingSlash::Yes;
                    Link::Follow
                }
                None => Link::Pass,
            };
            self.step(name, link)?;
        }
        if slash == TrailingSlash::Yes && self.at.inode().kind() != FileType::Directory {
            return Err(ENOTDIR);
        }
        Ok(())
    }

    /// Goes one component further.
    fn step(&mut self, name: core::ops::Range<usize>, link: Link) -> Result<()> {
        self.lookup.check_search(&self.at)?;
        let name = &self.rest[name];
        match name {
            b"." => return Ok(()),
            b".." => {
                let at_top = self.at.is_same(&self.lookup.base);
                if at_top && self.lookup.resolve.contains(Resolve::BENEATH) {
                    return Err(EXDEV);
                }
                let parent = self.at.parent(&self.root);
                return self.move_to(parent);
            }
            _ if name.len() > NAME_MAX => return Err(ENAMETOOLONG),
            _ => {}
        }
        let entry = self.at.dentry().lookup(name)?;
        if entry.is_mount_point() {
            let found = self.at.child(entry).enter_mounts();
            return self.move_to(found);
        }
        if link != Link::Stay && entry.inode().kind() == FileType::Symlink {
            if link == Link::Follow {
                self.check_follow(entry.inode())?;
            }
            let link = self.at.child(entry);
            return self.follow(&link);
        }
        self.at.descend(entry);
        Ok(())
    }

    /// Fails if the caller must not follow `link`, the last component, in the present directory.
    fn check_follow(&self, link: &Arc<dyn Inode>) -> Result<()> {
        protected::check_follow(&self.lookup.cred, self.at.inode().protection(), link.protection().uid)
    }

    /// Puts what `link`, an entry of the present directory, says in front of what is left.
    fn follow(&mut self, link: &Path) -> Result<()> {
        self.links += 1;
        if self.links > MAX_LINKS || self.lookup.resolve.contains(Resolve::NO_SYMLINKS) {
            return Err(ELOOP);
        }
        match link.inode().read_link()? {
            LinkTarget::File(place) => {
                if self.lookup.resolve.contains(Resolve::NO_MAGICLINKS) {
                    return Err(ELOOP);
                }
                if self.lookup.resolve.intersects(Resolve::BENEATH | Resolve::IN_ROOT) {
                    return Err(EXDEV);
                }
                self.move_to(place)
            }
            LinkTarget::Path(target) => {
                if target.is_empty() {
                    return Err(ENOENT);
                }
                let absolute = target[0] == b'/';
                let mut rest = target.into_vec();
                // Links to links that are not the last of their paths make it longer and longer.
                try_reserve(&mut rest, self.rest.len() - self.pos)?;
                rest.extend_from_slice(&self.rest[self.pos..]);
                (self.rest, self.pos) = (rest, 0);
                if absolute { self.jump_to_root() } else { Ok(()) }
            }
        }
    }
}
