// SPDX-License-Identifier: MPL-2.0

//! Files whose text is made up when they are read: what procfs and sysfs are built of.
//!
//! A tree that is always the same is a table of [`Row`]s. What comes and goes (a process's folder) is an [`Inode`] of its own, and
//! uses [`OpenText`] for its files.
//!
//! A text is made when a read begins at offset 0, and kept in the open file for the reads that follow: however small they
//! are, together they see one moment.

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

/// Formats into a [`Text`].
macro_rules! put {
    ($text:expr, $($arg:tt)*) => {
        $text.put(format_args!($($arg)*))
    };
}
pub(crate) use put;

/// The text of a file, as bytes: names need not be Unicode.
///
/// Without memory for more, what is added is left out; [`Text::finish`] tells.
#[derive(Debug, Default)]
pub struct Text {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Text {
    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if try_reserve(&mut self.bytes, bytes.len()).is_ok() {
            self.bytes.extend_from_slice(bytes);
        } else {
            self.is_cut = true;
        }
    }

    /// Adds a byte so many times.
    fn fill(&mut self, byte: u8, count: usize) {
        if try_reserve(&mut self.bytes, count).is_ok() {
            self.bytes.resize(self.bytes.len() + count, byte);
        } else {
            self.is_cut = true;
        }
    }

    /// The text.
    ///
    /// # Errors
    ///
    /// ENOMEM if something was left out.
    pub fn finish(self) -> Result<Vec<u8>> {
        if self.is_cut { Err(ENOMEM) } else { Ok(self.bytes) }
    }

    /// Adds formatted text.
    pub fn put(&mut self, arguments: fmt::Arguments<'_>) {
        // Writing to memory does not fail.
        let _ = fmt::Write::write_fmt(self, arguments);
    }

    /// Makes room for `more` bytes, if there is any: what comes is then not moved about.
    pub fn reserve(&mut self, more: usize) {
        // Without it the room is made bit by bit.
        let _ = try_reserve(&mut self.bytes, more);
    }

    /// Adds bytes, those in `special` as a backslash and three octal digits.
    pub fn push_escaped(&mut self, bytes: &[u8], special: &[u8]) {
        for byte in bytes {
            if special.contains(byte) {
                put!(self, "\\{byte:03o}");
            } else {
                self.push(&[*byte]);
            }
        }
    }

    /// Adds spaces until the line that began at `start` has `width` columns.
    pub fn pad_from(&mut self, start: usize, width: usize) {
        self.fill(b' ', (start + width).saturating_sub(self.bytes.len()));
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// The fields of a line, put together on the stack: for texts of thousands of lines, in which each piece that is added to a
/// [`Text`] by itself, let alone formatted, would take several times as long.
///
/// Whoever makes the line knows that `SIZE` bytes are enough, and 15 more than it needs; what is too much is left out.
pub struct Fields<const SIZE: usize> {
    bytes: [u8; SIZE],
    len: usize,
}

impl<const SIZE: usize> Default for Fields<SIZE> {
    #[inline]
    fn default() -> Self {
        Self { bytes: [0; SIZE], len: 0 }
    }
}

impl<const SIZE: usize> Fields<SIZE> {
    /// Adds bytes.
    #[inline]
    pub fn push<const COUNT: usize>(&mut self, bytes: [u8; COUNT]) {
        self.push_first(bytes, COUNT);
    }

    /// Adds the first `count` bytes, and writes the others behind them: how many are written is known to the compiler.
    #[inline]
    fn push_first<const COUNT: usize>(&mut self, bytes: [u8; COUNT], count: usize) {
        if let Some(place) = self.bytes.get_mut(self.len..self.len + COUNT) {
            place.copy_from_slice(&bytes);
            self.len += count;
        }
    }

    /// Adds `number` in hexadecimal, with at least `width` digits, which is 1 to 16.
    #[inline]
    pub fn push_hex(&mut self, number: u64, width: u32) {
        let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).clamp(width, 16);
        let from_the_left = number << (u64::BITS - 4 * digits);
        self.push_first(hex((from_the_left >> 32) as u32), digits.min(8) as usize);
        if digits > 8 {
            self.push_first(hex(from_the_left as u32), digits as usize - 8);
        }
    }

    /// Adds `number` in decimal.
    pub fn push_decimal(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        for digit in &digits[first..] {
            self.push([*digit]);
        }
    }

    /// The line.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The eight digits of `number` in hexadecimal, all at once: each gets a byte of one word.
fn hex(number: u32) -> [u8; 8] {
    let spread = u64::from(number);
    let spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    let digits = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // 1 in the bytes of those that are letters.
    let letters = (digits + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    let to_letter = u64::from(b'a' - b'0' - 10);
    (digits + 0x3030_3030_3030_3030 + letters * to_letter).to_be_bytes()
}

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
}

/// What a [`Row`] is.
pub enum Node {
    /// A file with this text.
    Text(fn(&mut Text)),
    /// A file with this text that can be written.
    Setting(fn(&mut Text), fn(&[u8]) -> Result<()>),
    /// A symbolic link.
    Link(&'static str),
    /// A symbolic link whose target depends on who asks.
    DynamicLink(fn() -> Result<String>),
    /// A folder.
    Folder(&'static [Row]),
}

impl Row {
    /// A file that everybody can read.
    pub const fn text(name: &'static str, show: fn(&mut Text)) -> Self {
        Self { name, mode: 0o444, node: Node::Text(show) }
    }

    /// A file that everybody can read and the superuser can write.
    pub const fn setting(name: &'static str, show: fn(&mut Text), store: fn(&[u8]) -> Result<()>) -> Self {
        Self { name, mode: 0o644, node: Node::Setting(show, store) }
    }

    /// A symbolic link.
    pub const fn link(name: &'static str, target: &'static str) -> Self {
        Self { name, mode: 0o777, node: Node::Link(target) }
    }

    /// A symbolic link whose target depends on who asks.
    pub const fn dynamic_link(name: &'static str, target: fn() -> Result<String>) -> Self {
        Self { name, mode: 0o777, node: Node::DynamicLink(target) }
    }

    /// A folder.
    pub const fn folder(name: &'static str, rows: &'static [Row]) -> Self {
        Self { name, mode: 0o555, node: Node::Folder(rows) }
    }

    /// The type of the file.
    pub fn kind(&self) -> FileType {
        match self.node {
            Node::Text(_) | Node::Setting(..) => FileType::Regular,
            Node::Link(_) | Node::DynamicLink(_) => FileType::Symlink,
            Node::Folder(_) => FileType::Directory,
        }
    }

    /// The inode number: rows stay where they are.
    pub fn ino(&self) -> u64 {
        0xf000_0000 | (core::ptr::from_ref(self).addr() as u64 & 0x0fff_ffff)
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
    born: Timestamp,
}

impl StaticInode {
    /// The inode of `row`.
    pub fn inode(fs: &Arc<SyntheticFs>, row: &'static Row) -> Arc<dyn Inode> {
        Arc::new(Self { fs: fs.clone(), row, born: super::current::now() })
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
    let skipped = usize::try_from(from.saturating_sub(2)).unwrap_or(usize::MAX);
    rows.iter().enumerate().skip(skipped).all(|(index, row)| {
        visit(DirEntry {
            name: row.name.as_bytes(),
            ino: row.ino(),
            kind: row.kind(),
            next: index as u64 + 3,
        })
    })
}

impl Inode for StaticInode {
    fn metadata(&self) -> Metadata {
        let mut meta = metadata(&self.fs, self.row.ino(), self.row.kind(), self.row.mode, self.born);
        if let Node::Folder(rows) = self.row.node {
            meta.nlink += rows.iter().filter(|row| row.kind() == FileType::Directory).count() as u32;
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
        let row = self.rows()?.iter().find(|row| row.name.as_bytes() == name).ok_or(ENOENT)?;
        Ok(Self::inode(&self.fs, row))
    }

    fn readdir(&self, from: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        list_rows(self.rows()?, from, visit);
        Ok(())
    }

    fn read_link(&self) -> Result<LinkTarget> {
        match &self.row.node {
            Node::Link(target) => Ok(LinkTarget::Path(target.as_bytes().into())),
            Node::DynamicLink(target) => Ok(LinkTarget::Path(target()?.into_bytes().into())),
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
            Node::Setting(show, store) => Some(Arc::new(text(show).with_store(store))),
            _ => None,
        })
    }
}

#[cfg(ktest)]
mod tests {
    use ostd::prelude::ktest;

    use super::*;

    #[ktest]
    fn fields_are_what_formatting_makes_of_them() {
        let numbers =
            (0..64).flat_map(|bit| [0, 1 << bit, (1 << bit) - 1, u64::MAX >> bit, 0x0123_4567_89ab_cdef]);
        for number in numbers {
            let mut fields = Fields::<80>::default();
            fields.push_hex(number, 8);
            fields.push(*b"-");
            fields.push_hex(number, 2);
            fields.push(*b" ");
            fields.push_decimal(number);
            let expected = format!("{number:08x}-{number:02x} {number}");
            assert_eq!(fields.as_bytes(), expected.as_bytes());
        }
    }

    #[ktest]
    fn what_is_too_much_is_left_out() {
        let mut fields = Fields::<4>::default();
        fields.push(*b"abc");
        fields.push(*b"de");
        fields.push_hex(1, 1);
        assert_eq!(fields.as_bytes(), b"abc");
    }
}
