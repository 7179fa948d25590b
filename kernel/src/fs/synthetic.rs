// SPDX-License-Identifier: MPL-2.0

//! Files whose text is made up when they are read: what procfs and sysfs are built of.
//!
//! A tree that is always the same is a table of [`Row`]s, one of which may stand for a family: `cpu0`, `cpu1` and so on. What comes and goes (a process's folder) is an [`Inode`] of its own, and
//! uses [`OpenText`] for its files.
//!
//! A text is made when a read begins at offset 0, and kept in the open file for the reads that follow: however small they
//! are, together they see one moment.

use alloc::borrow::Cow;

pub(crate) use super::text::put;
pub use super::text::{Fields, Text};
use super::{
    file::{File, FileOps, OpenFlags, Position, WriteAt},
    file_system::{FileSystem, anonymous_device},
    inode::{Inode, LinkTarget},
    io::{Sink, Source},
    types::*,
};
use crate::prelude::*;

/// The longest text that can be written to a file in one go.
const MAX_WRITE: usize = PAGE_SIZE;

type Show = Box<dyn Fn(&mut Text) -> Result<()> + Send + Sync>;
type Store = Box<dyn Fn(&[u8]) -> Result<()> + Send + Sync>;

/// An open file with a made-up text.
pub struct OpenText {
    show: Show,
    store: Option<Store>,
    text: Mutex<Option<Vec<u8>>>,
}

impl OpenText {
    /// A file with the text that `show` makes.
    pub fn new(show: impl Fn(&mut Text) -> Result<()> + Send + Sync + 'static) -> Self {
        Self { show: Box::new(show), store: None, text: Mutex::new(None) }
    }

    /// The same, which hands what is written to it to `store`.
    pub fn with_store(self, store: impl Fn(&[u8]) -> Result<()> + Send + Sync + 'static) -> Self {
        Self { store: Some(Box::new(store)), ..self }
    }
}

impl FileOps for OpenText {
    fn position(&self) -> Position {
        Position::Seekable
    }

    fn read_at(&self, _file: &File, pos: u64, dst: &mut Sink<'_>) -> Result<usize> {
        let mut kept = self.text.lock();
        let text = match &mut *kept {
            Some(text) if pos > 0 => text,
            kept => {
                let mut text = Text::default();
                (self.show)(&mut text)?;
                kept.insert(text.finish()?)
            }
        };
        let rest = usize::try_from(pos).ok().and_then(|pos| text.get(pos..)).unwrap_or(&[]);
        if rest.is_empty() { Ok(0) } else { dst.write_bytes(rest) }
    }

    fn write_at(&self, _file: &File, at: WriteAt, src: &mut Source<'_>) -> Result<(u64, usize)> {
        let store = self.store.as_ref().ok_or(EINVAL)?;
        let bytes = src.read_all(MAX_WRITE)?;
        store(&bytes)?;
        let start = match at {
            WriteAt::Offset(offset) => offset,
            WriteAt::End => 0,
        };
        Ok((start, bytes.len()))
    }

    fn seek(&self, _file: &File, current: u64, offset: i64, whence: Whence) -> Result<u64> {
        seek_plain(current, offset, whence)
    }
}

/// `lseek` of a file that has no end.
///
/// # Errors
///
/// EINVAL for an offset before the start, or one that does not count from the start or from where the file is.
pub fn seek_plain(current: u64, offset: i64, whence: Whence) -> Result<u64> {
    let base = match whence {
        Whence::Set => 0,
        Whence::Current => current,
        Whence::End | Whence::Data | Whence::Hole => return Err(EINVAL),
    };
    base.checked_add_signed(offset).ok_or(EINVAL)
}

/// One name in a folder that is always the same.
pub struct Row {
    /// The name.
    pub name: &'static str,
    /// The permission bits of a file.
    pub mode: u16,
    /// What it is.
    pub node: Node,
    /// How many there are, if this is a family: their names end in numbers from 0 on.
    pub family: Option<fn() -> usize>,
}

/// The numbers of the families that a file is in: that of the innermost first.
pub type Numbers = [usize; 2];

/// What a [`Row`] is.
pub enum Node {
    /// A file with this text.
    Text(fn(&mut Text)),
    /// A file whose text depends on the families it is in.
    NumberedText(fn(&mut Text, Numbers)),
    /// A file with this text that can be written.
    Setting(fn(&mut Text), fn(&[u8]) -> Result<()>),
    /// A symbolic link.
    Link(&'static str),
    /// A symbolic link whose target depends on who asks.
    DynamicLink(fn() -> Result<String>),
    /// A symbolic link whose target ends in the number of the family it is in.
    NumberedLink(&'static str),
    /// A folder.
    Folder(&'static [Row]),
}

impl Row {
    /// A file that everybody can read.
    pub const fn text(name: &'static str, show: fn(&mut Text)) -> Self {
        Self::of(name, 0o444, Node::Text(show))
    }

    /// A file that everybody can read, whose text depends on the families it is in.
    pub const fn numbered_text(name: &'static str, show: fn(&mut Text, Numbers)) -> Self {
        Self::of(name, 0o444, Node::NumberedText(show))
    }

    /// A file that everybody can read and the superuser can write.
    pub const fn setting(name: &'static str, show: fn(&mut Text), store: fn(&[u8]) -> Result<()>) -> Self {
        Self::of(name, 0o644, Node::Setting(show, store))
    }

    /// A symbolic link.
    pub const fn link(name: &'static str, target: &'static str) -> Self {
        Self::of(name, 0o777, Node::Link(target))
    }

    /// A symbolic link whose target depends on who asks.
    pub const fn dynamic_link(name: &'static str, target: fn() -> Result<String>) -> Self {
        Self::of(name, 0o777, Node::DynamicLink(target))
    }

    /// A symbolic link to what `target` and the number of the family it is in make.
    pub const fn numbered_link(name: &'static str, target: &'static str) -> Self {
        Self::of(name, 0o777, Node::NumberedLink(target))
    }

    /// A folder.
    pub const fn folder(name: &'static str, rows: &'static [Row]) -> Self {
        Self::of(name, 0o555, Node::Folder(rows))
    }

    const fn of(name: &'static str, mode: u16, node: Node) -> Self {
        Self { name, mode, node, family: None }
    }

    /// As many of it as `count` says, their names ending in numbers.
    pub const fn each(self, count: fn() -> usize) -> Self {
        Self { family: Some(count), ..self }
    }

    /// The names that it stands for, with the number of each.
    fn names(&'static self) -> impl Iterator<Item = (Cow<'static, str>, usize)> {
        let count = self.family.map_or(1, |count| count());
        (0..count).map(move |number| match self.family {
            None => (self.name.into(), 0),
            Some(_) => (format!("{}{number}", self.name).into(), number),
        })
    }

    /// The number by which it goes under `name`, if it does.
    fn number_of(&self, name: &[u8]) -> Option<usize> {
        let rest = name.strip_prefix(self.name.as_bytes())?;
        let Some(count) = self.family else { return rest.is_empty().then_some(0) };
        let is_number = rest.iter().all(u8::is_ascii_digit) && (rest.len() == 1 || !rest.starts_with(b"0"));
        let number = core::str::from_utf8(rest).ok().filter(|_| is_number)?.parse().ok()?;
        (number < count()).then_some(number)
    }

    /// The type of the file.
    pub fn kind(&self) -> FileType {
        match self.node {
            Node::Text(_) | Node::NumberedText(_) | Node::Setting(..) => FileType::Regular,
            Node::Link(_) | Node::DynamicLink(_) | Node::NumberedLink(_) => FileType::Symlink,
            Node::Folder(_) => FileType::Directory,
        }
    }

    /// The inode number: rows stay where they are.
    pub fn ino(&self) -> u64 {
        self.numbered_ino([0; 2])
    }

    fn numbered_ino(&self, [inner, outer]: Numbers) -> u64 {
        let row = 0xf000_0000 | (core::ptr::from_ref(self).addr() as u64 & 0x0fff_ffff);
        row | (inner as u64) << 32 | (outer as u64) << 48
    }
}

/// A file system of made-up files.
pub struct SyntheticFs {
    this: Weak<Self>,
    name: &'static str,
    magic: u64,
    device: DeviceId,
    root: fn(&Arc<SyntheticFs>) -> Arc<dyn Inode>,
}

impl SyntheticFs {
    /// The file system `name`, whose root `root` makes.
    pub fn new(name: &'static str, magic: u32, root: fn(&Arc<SyntheticFs>) -> Arc<dyn Inode>) -> Arc<Self> {
        let device = anonymous_device();
        Arc::new_cyclic(|this| Self { this: this.clone(), name, magic: magic.into(), device, root })
    }
}

impl FileSystem for SyntheticFs {
    fn type_name(&self) -> &'static str {
        self.name
    }

    fn root(&self) -> Arc<dyn Inode> {
        match self.this.upgrade() {
            Some(this) => (self.root)(&this),
            // Not while it is being asked.
            None => super::anon::AnonInode::new(FileType::Directory, 0),
        }
    }

    fn device(&self) -> DeviceId {
        self.device
    }

    fn stats(&self) -> FsStats {
        FsStats { magic: self.magic, block_size: PAGE_SIZE as u64, ..FsStats::default() }
    }
}

/// The inode of a [`Row`].
pub struct StaticInode {
    fs: Arc<SyntheticFs>,
    row: &'static Row,
    numbers: Numbers,
    born: Timestamp,
}

impl StaticInode {
    /// The inode of `row`.
    pub fn inode(fs: &Arc<SyntheticFs>, row: &'static Row) -> Arc<dyn Inode> {
        Self::numbered(fs, row, [0; 2])
    }

    fn numbered(fs: &Arc<SyntheticFs>, row: &'static Row, numbers: Numbers) -> Arc<dyn Inode> {
        Arc::new(Self { fs: fs.clone(), row, numbers, born: super::current::now() })
    }

    /// The numbers of `row`, which is in this folder and has `number` in its family.
    fn numbers_in(numbers: Numbers, row: &Row, number: usize) -> Numbers {
        if row.family.is_some() { [number, numbers[0]] } else { numbers }
    }

    fn rows(&self) -> Result<&'static [Row]> {
        match self.row.node {
            Node::Folder(rows) => Ok(rows),
            _ => Err(ENOTDIR),
        }
    }
}

/// The attributes of a made-up file that is as old as `born` and belongs to root.
pub fn metadata(fs: &SyntheticFs, ino: u64, kind: FileType, mode: u16, born: Timestamp) -> Metadata {
    let meta = Metadata::new(fs.device, ino, kind, mode);
    Metadata { block_size: 1024, atime: born, mtime: born, ctime: born, btime: born, ..meta }
}

/// Hands those of `rows` on to `visit` whose position, counted from 2 on, is `from` or more. Answers whether to go on.
pub fn list_rows(rows: &'static [Row], from: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> bool {
    list_numbered(rows, [0; 2], from, visit)
}

fn list_numbered(
    rows: &'static [Row],
    numbers: Numbers,
    from: u64,
    visit: &mut dyn FnMut(DirEntry<'_>) -> bool,
) -> bool {
    let skipped = usize::try_from(from.saturating_sub(2)).unwrap_or(usize::MAX);
    let names = rows.iter().flat_map(|row| row.names().map(move |name| (row, name)));
    names.enumerate().skip(skipped).all(|(index, (row, (name, number)))| {
        visit(DirEntry {
            name: name.as_bytes(),
            ino: row.numbered_ino(StaticInode::numbers_in(numbers, row, number)),
            kind: row.kind(),
            next: index as u64 + 3,
        })
    })
}

impl Inode for StaticInode {
    fn metadata(&self) -> Metadata {
        let ino = self.row.numbered_ino(self.numbers);
        let mut meta = metadata(&self.fs, ino, self.row.kind(), self.row.mode, self.born);
        if let Node::Folder(rows) = self.row.node {
            let folders = rows.iter().filter(|row| row.kind() == FileType::Directory);
            meta.nlink += folders.map(|row| row.family.map_or(1, |count| count())).sum::<usize>() as u32;
        }
        meta
    }

    fn kind(&self) -> FileType {
        self.row.kind()
    }

    fn file_system(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let found = self.rows()?.iter().find_map(|row| Some((row, row.number_of(name)?)));
        let (row, number) = found.ok_or(ENOENT)?;
        Ok(Self::numbered(&self.fs, row, Self::numbers_in(self.numbers, row, number)))
    }

    fn readdir(&self, from: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        list_numbered(self.rows()?, self.numbers, from, visit);
        Ok(())
    }

    fn read_link(&self) -> Result<LinkTarget> {
        match &self.row.node {
            Node::Link(target) => Ok(LinkTarget::Path(target.as_bytes().into())),
            Node::DynamicLink(target) => Ok(LinkTarget::Path(target()?.into_bytes().into())),
            Node::NumberedLink(target) => {
                Ok(LinkTarget::Path(format!("{target}{}", self.numbers[0]).into_bytes().into()))
            }
            _ => Err(EINVAL),
        }
    }

    fn resize(&self, _size: u64) -> Result<()> {
        // Opening with O_TRUNC is how shells write to settings.
        Ok(())
    }

    fn open(&self, _flags: OpenFlags) -> Result<Option<Arc<dyn FileOps>>> {
        let text = |show: fn(&mut Text)| {
            OpenText::new(move |text| {
                show(text);
                Ok(())
            })
        };
        Ok(match self.row.node {
            Node::Text(show) => Some(Arc::new(text(show))),
            Node::NumberedText(show) => {
                let numbers = self.numbers;
                Some(Arc::new(OpenText::new(move |text| {
                    show(text, numbers);
                    Ok(())
                })))
            }
            Node::Setting(show, store) => Some(Arc::new(text(show).with_store(store))),
            _ => None,
        })
    }
}
