// SPDX-License-Identifier: MPL-2.0

//! Tests of the layer as a whole, on trees of their own.

use ostd::prelude::ktest;

use super::{
    file::{AccessMode, File, OpenFlags},
    file_system::FileSystemType,
    inode::{Allocate, LinkTarget},
    io::{Sink, Source},
    lookup::{LastLink, Lookup, Resolve},
    memfd::{self, SealFlags, Sealing},
    mount::{self, Detach, Mount, MountFlags, Volume},
    namei::{self, Removal},
    open::{self, OpenHow},
    path::Path,
    pipe,
    poll::{PollEvents, PollTable},
    procfs::Procfs,
    ramfs::RamFs,
    types::*,
};
use crate::{
    prelude::*,
    process::{Credentials, credentials::CapSet},
};

/// A lookup in a file system of its own.
fn tree() -> Lookup {
    let mount = Mount::new(Volume::of(RamFs::new_root()), None, b"test", MountFlags::RELATIME);
    let root = mount.root().clone();
    let root = Path::new(mount, root);
    Lookup { base: root.clone(), root, cred: Arc::new(Credentials::root()), resolve: Resolve::empty() }
}

fn mkdir(tree: &Lookup, path: &[u8]) -> Result<()> {
    namei::create(tree, path, NewNode::Directory, 0o755).map(drop)
}

fn symlink(tree: &Lookup, target: &[u8], path: &[u8]) -> Result<()> {
    namei::create(tree, path, NewNode::Symlink(target), 0o777).map(drop)
}

fn open(tree: &Lookup, path: &[u8], flags: OpenFlags) -> Result<Arc<File>> {
    open::open(tree, path, OpenHow { flags, mode: 0o644 })
}

fn create(tree: &Lookup, path: &[u8]) -> Arc<File> {
    open(tree, path, OpenFlags::CREAT | OpenFlags::RDWR).unwrap()
}

fn rename(tree: &Lookup, old: &[u8], new: &[u8], mode: RenameMode) -> Result<()> {
    namei::rename(tree, old, tree, new, mode)
}

fn exists(tree: &Lookup, path: &[u8]) -> bool {
    tree.find(path, LastLink::Stay).is_ok()
}

fn write(file: &File, bytes: &[u8]) -> Result<usize> {
    file.write(&mut Source::from_bytes(bytes))
}

fn read(file: &File, len: usize) -> Result<Vec<u8>> {
    let mut buf = vec![0; len];
    let count = file.read(&mut Sink::from_bytes(&mut buf))?;
    buf.truncate(count);
    Ok(buf)
}

fn pread(file: &File, pos: u64, len: usize) -> Vec<u8> {
    let mut buf = vec![0xff; len];
    let count = file.pread(pos, &mut Sink::from_bytes(&mut buf)).unwrap();
    buf.truncate(count);
    buf
}

#[ktest]
fn lookup_follows_links_and_refuses_circles() {
    let tree = tree();
    mkdir(&tree, b"a").unwrap();
    create(&tree, b"a/file");
    symlink(&tree, b"a", b"to_a").unwrap();
    symlink(&tree, b"/a/file", b"to_file").unwrap();
    symlink(&tree, b"loop", b"loop").unwrap();
    symlink(&tree, b"nowhere", b"dangling").unwrap();
    assert!(tree.find(b"to_a/file", LastLink::Follow).is_ok());
    assert_eq!(tree.find(b"to_file/", LastLink::Follow).err(), Some(ENOTDIR));
    assert_eq!(tree.find(b"a/file/x", LastLink::Follow).err(), Some(ENOTDIR));
    assert_eq!(tree.find(b"loop", LastLink::Follow).err(), Some(ELOOP));
    assert_eq!(tree.find(b"dangling", LastLink::Follow).err(), Some(ENOENT));
    assert_eq!(tree.find(b"dangling", LastLink::Stay).unwrap().inode().kind(), FileType::Symlink);
    assert_eq!(tree.find(b"to_a/", LastLink::Stay).unwrap().inode().kind(), FileType::Directory);
    assert_eq!(tree.find(b"", LastLink::Follow).err(), Some(ENOENT));
    assert_eq!(tree.find(&[b'x'; 256], LastLink::Follow).err(), Some(ENAMETOOLONG));
    assert_eq!(tree.find(&[b'/'; PATH_MAX], LastLink::Follow).err(), Some(ENAMETOOLONG));
    let top = tree.find(b"a/../../..", LastLink::Follow).unwrap();
    assert!(top.is_same(&tree.root));
}

#[ktest]
fn openat2_restrictions_hold() {
    let mut tree = tree();
    mkdir(&tree, b"jail").unwrap();
    mkdir(&tree, b"jail/in").unwrap();
    symlink(&tree, b"/jail", b"jail/out").unwrap();
    tree.base = tree.find(b"jail", LastLink::Follow).unwrap();
    tree.resolve = Resolve::BENEATH;
    assert!(tree.find(b"in/..", LastLink::Follow).is_ok());
    assert_eq!(tree.find(b"..", LastLink::Follow).err(), Some(EXDEV));
    assert_eq!(tree.find(b"/jail", LastLink::Follow).err(), Some(EXDEV));
    assert_eq!(tree.find(b"out", LastLink::Follow).err(), Some(EXDEV));
    tree.resolve = Resolve::IN_ROOT;
    assert!(tree.find(b"../../in", LastLink::Follow).is_ok());
    assert_eq!(tree.find(b"out", LastLink::Follow).err(), Some(ENOENT));
    tree.resolve = Resolve::NO_SYMLINKS;
    assert_eq!(tree.find(b"out", LastLink::Follow).err(), Some(ELOOP));
}

#[ktest]
fn creating_through_a_dangling_link_creates_its_target() {
    let tree = tree();
    mkdir(&tree, b"d").unwrap();
    symlink(&tree, b"d/new", b"link").unwrap();
    let exclusive = OpenFlags::CREAT | OpenFlags::EXCL | OpenFlags::RDWR;
    assert_eq!(open(&tree, b"link", exclusive).err(), Some(EEXIST));
    create(&tree, b"link");
    assert_eq!(tree.find(b"d/new", LastLink::Stay).unwrap().inode().kind(), FileType::Regular);
    assert_eq!(open(&tree, b"link", OpenFlags::NOFOLLOW).err(), Some(ELOOP));
    assert_eq!(open(&tree, b"d", OpenFlags::RDWR).err(), Some(EISDIR));
    assert_eq!(open(&tree, b"d/new", OpenFlags::DIRECTORY).err(), Some(ENOTDIR));
    assert_eq!(open(&tree, b"new/", OpenFlags::CREAT | OpenFlags::RDWR).err(), Some(EISDIR));
}

#[ktest]
fn link_counts_follow_names() {
    let tree = tree();
    let nlink = |path: &[u8]| tree.find(path, LastLink::Stay).unwrap().inode().metadata().nlink;
    mkdir(&tree, b"a").unwrap();
    mkdir(&tree, b"b").unwrap();
    mkdir(&tree, b"a/sub").unwrap();
    assert_eq!((nlink(b"a"), nlink(b"b"), nlink(b"/")), (3, 2, 4));
    rename(&tree, b"a/sub", b"b/sub", RenameMode::Replace).unwrap();
    assert_eq!((nlink(b"a"), nlink(b"b")), (2, 3));
    create(&tree, b"a/f");
    let target = tree.find(b"a/f", LastLink::Stay).unwrap();
    namei::link(&tree, &target, b"b/g").unwrap();
    assert_eq!(nlink(b"a/f"), 2);
    rename(&tree, b"a/f", b"b/g", RenameMode::Replace).unwrap();
    assert!(exists(&tree, b"a/f"), "a rename between two names of one file does nothing");
    rename(&tree, b"a/f", b"b/sub", RenameMode::Exchange).unwrap();
    assert_eq!((nlink(b"a"), nlink(b"b"), nlink(b"b/sub")), (3, 2, 2));
    namei::remove(&tree, b"b/g", Removal::File).unwrap();
    assert_eq!(nlink(b"b/sub"), 1);
    let open_file = create(&tree, b"b/sub");
    namei::remove(&tree, b"b/sub", Removal::File).unwrap();
    assert_eq!(open_file.inode().metadata().nlink, 0);
    assert!(open_file.path().is_removed());
}

#[ktest]
fn renames_that_cannot_be_change_nothing() {
    let tree = tree();
    mkdir(&tree, b"d").unwrap();
    mkdir(&tree, b"d/e").unwrap();
    create(&tree, b"f");
    let cases: [(&[u8], &[u8], Errno); 8] = [
        (b"d", b"d/e/x", EINVAL),
        (b"d/e", b"d", ENOTEMPTY),
        (b"f", b"d", EISDIR),
        (b"d", b"f", ENOTDIR),
        (b"f", b"g/", ENOTDIR),
        (b"nothing", b"g", ENOENT),
        (b"d/.", b"g", EBUSY),
        (b"f", b"d/..", EBUSY),
    ];
    for (old, new, error) in cases {
        assert_eq!(rename(&tree, old, new, RenameMode::Replace), Err(error));
    }
    assert_eq!(rename(&tree, b"f", b"d", RenameMode::NoReplace), Err(EEXIST));
    assert_eq!(rename(&tree, b"f", b"g", RenameMode::Exchange), Err(ENOENT));
    assert!(exists(&tree, b"d/e") && exists(&tree, b"f") && !exists(&tree, b"g"));
    assert_eq!(namei::remove(&tree, b"d", Removal::Directory), Err(ENOTEMPTY));
    assert_eq!(namei::remove(&tree, b"d", Removal::File), Err(EISDIR));
    assert_eq!(namei::remove(&tree, b"f", Removal::Directory), Err(ENOTDIR));
    assert_eq!(namei::remove(&tree, b"d/.", Removal::Directory), Err(EINVAL));
    assert_eq!(namei::remove(&tree, b"d/..", Removal::Directory), Err(ENOTEMPTY));
}

#[ktest]
fn a_removed_directory_takes_no_more_files() {
    let mut tree = tree();
    mkdir(&tree, b"d").unwrap();
    let gone = tree.find(b"d", LastLink::Follow).unwrap();
    namei::remove(&tree, b"d", Removal::Directory).unwrap();
    tree.base = gone;
    assert_eq!(mkdir(&tree, b"x"), Err(ENOENT));
    assert!(tree.find(b"..", LastLink::Follow).unwrap().is_same(&tree.root));
}

#[ktest]
fn a_listing_neither_misses_nor_repeats() {
    let tree = tree();
    for name in [b"a", b"b", b"c", b"d"] {
        create(&tree, name);
    }
    let dir = open(&tree, b"/", OpenFlags::DIRECTORY).unwrap();
    let next = |count: usize| {
        let mut names: Vec<Vec<u8>> = Vec::new();
        dir.readdir(&mut |entry| {
            let fits = names.len() < count;
            if fits {
                names.push(entry.name.to_vec());
            }
            fits
        })
        .unwrap();
        names
    };
    assert_eq!(next(3), [&b"."[..], b"..", b"a"]);
    namei::remove(&tree, b"b", Removal::File).unwrap();
    namei::remove(&tree, b"a", Removal::File).unwrap();
    create(&tree, b"e");
    assert_eq!(next(9), [b"c", b"d"], "what came after the start waits for the next listing");
    assert!(next(9).is_empty());
    dir.seek(0, Whence::Set).unwrap();
    assert_eq!(next(9), [&b"."[..], b"..", b"c", b"d", b"e"]);
}

#[ktest]
fn holes_read_as_zeros_and_take_no_space() {
    let tree = tree();
    let file = create(&tree, b"f");
    let far = 10 * PAGE_SIZE as u64 + 100;
    file.pwrite(far, &mut Source::from_bytes(b"end")).unwrap();
    let meta = file.inode().metadata();
    assert_eq!((meta.size, meta.blocks), (far + 3, 8));
    assert_eq!(pread(&file, far - 2, 10), b"\0\0end");
    assert_eq!(pread(&file, 5, 3), [0; 3]);
    assert_eq!(file.seek(0, Whence::Data).unwrap(), 10 * PAGE_SIZE as u64);
    assert_eq!(file.seek(far as i64, Whence::Hole).unwrap(), far + 3);
    assert_eq!(file.seek(0, Whence::Hole).unwrap(), 0);
    assert_eq!(file.seek(far as i64 + 3, Whence::Data), Err(ENXIO));
    assert_eq!(file.seek(-1, Whence::Set), Err(EINVAL));
    file.inode().resize(far + 1).unwrap();
    file.inode().resize(far + 3).unwrap();
    assert_eq!(pread(&file, far, 3), b"e\0\0", "what was cut off does not come back");
}

#[ktest]
fn fallocate_reserves_and_punches() {
    let tree = tree();
    let file = create(&tree, b"f");
    let page = PAGE_SIZE as u64;
    write(&file, &vec![7; 3 * PAGE_SIZE]).unwrap();
    file.inode().allocate(Allocate::PunchHole, 100, 2 * page).unwrap();
    assert_eq!(pread(&file, 99, 2), [7, 0]);
    assert_eq!(pread(&file, 100 + 2 * page - 1, 2), [0, 7]);
    assert_eq!(file.inode().metadata().blocks, 16);
    file.inode().allocate(Allocate::Extend, 0, 5 * page).unwrap();
    let meta = file.inode().metadata();
    assert_eq!((meta.size, meta.blocks), (5 * page, 40));
}

#[ktest]
fn appending_ignores_the_offset() {
    let tree = tree();
    let file = create(&tree, b"f");
    write(&file, b"one").unwrap();
    let append = open(&tree, b"f", OpenFlags::WRONLY | OpenFlags::APPEND).unwrap();
    write(&append, b"two").unwrap();
    assert_eq!(append.offset(), 6);
    assert_eq!(read(&append, 1), Err(EBADF));
    assert_eq!(pread(&file, 0, 9), b"onetwo");
    let cut = open(&tree, b"f", OpenFlags::RDWR | OpenFlags::TRUNC).unwrap();
    assert_eq!(read(&cut, 9).unwrap(), b"");
}

#[ktest]
fn pipes_end_and_break() {
    let (reader, writer) = pipe::new_pipe(OpenFlags::NONBLOCK).unwrap();
    let ready = |file: &File| file.poll(&mut PollTable::query());
    assert_eq!(read(&reader, 1), Err(EAGAIN));
    assert_eq!(ready(&reader), PollEvents::empty());
    assert_eq!(ready(&writer), PollEvents::WRITABLE);
    assert_eq!(write(&writer, b"hello"), Ok(5));
    assert_eq!(write(&writer, b" you"), Ok(4));
    assert_eq!(read(&reader, 7).unwrap(), b"hello y");
    assert_eq!(ready(&reader), PollEvents::READABLE);
    assert_eq!(reader.require(AccessMode::WRITE), Err(EBADF));
    drop(writer);
    assert_eq!(ready(&reader), PollEvents::READABLE | PollEvents::HUP);
    assert_eq!(read(&reader, 7).unwrap(), b"ou");
    assert_eq!(read(&reader, 7).unwrap(), b"");
    let (reader, writer) = pipe::new_pipe(OpenFlags::NONBLOCK).unwrap();
    drop(reader);
    assert_eq!(write(&writer, b"x"), Err(EPIPE));
    assert_eq!(ready(&writer), PollEvents::WRITABLE | PollEvents::ERR);
}

#[ktest]
fn small_writes_to_a_pipe_are_whole_or_not_at_all() {
    let (reader, writer) = pipe::new_pipe(OpenFlags::NONBLOCK).unwrap();
    let all = vec![1; pipe::DEFAULT_CAPACITY];
    assert_eq!(write(&writer, &vec![1; pipe::DEFAULT_CAPACITY - 10]), Ok(pipe::DEFAULT_CAPACITY - 10));
    assert_eq!(write(&writer, &all[..100]), Err(EAGAIN));
    assert_eq!(write(&writer, &all[..5000]), Ok(10), "a large write takes the room there is");
    assert_eq!(read(&reader, 5000).unwrap().len(), 5000);
    assert_eq!(write(&writer, &all[..100]), Ok(100));
}

#[ktest]
fn packets_keep_their_bounds() {
    let (reader, writer) = pipe::new_pipe(OpenFlags::NONBLOCK | OpenFlags::DIRECT).unwrap();
    write(&writer, b"first").unwrap();
    write(&writer, b"second").unwrap();
    assert_eq!(read(&reader, 3).unwrap(), b"fir");
    assert_eq!(read(&reader, 100).unwrap(), b"second");
}

#[ktest]
fn fifos_meet_behind_a_name() {
    let tree = tree();
    namei::create(&tree, b"fifo", NewNode::Fifo, 0o644).unwrap();
    let lonely = OpenFlags::WRONLY | OpenFlags::NONBLOCK;
    assert_eq!(open(&tree, b"fifo", lonely).err(), Some(ENXIO));
    let reader = open(&tree, b"fifo", OpenFlags::NONBLOCK).unwrap();
    assert_eq!(read(&reader, 1).unwrap(), b"", "without a writer there is nothing to wait for");
    assert_eq!(reader.poll(&mut PollTable::query()), PollEvents::empty());
    let writer = open(&tree, b"fifo", lonely).unwrap();
    assert_eq!(read(&reader, 1), Err(EAGAIN));
    write(&writer, b"x").unwrap();
    assert_eq!(read(&reader, 1).unwrap(), b"x");
    drop(writer);
    assert_eq!(reader.poll(&mut PollTable::query()), PollEvents::HUP);
}

#[ktest]
fn seals_forbid_what_they_say() {
    let file = memfd::create(b"test", Sealing::Allowed).unwrap();
    assert_eq!(file.path().display().unwrap(), b"/memfd:test (deleted)");
    write(&file, b"content").unwrap();
    memfd::add_seals(file.inode(), SealFlags::GROW).unwrap();
    assert_eq!(write(&file, b"more"), Err(EPERM));
    assert_eq!(file.inode().resize(100), Err(EPERM));
    assert_eq!(file.pwrite(0, &mut Source::from_bytes(b"C")), Ok(1));
    memfd::add_seals(file.inode(), SealFlags::SHRINK | SealFlags::WRITE).unwrap();
    assert_eq!(file.inode().resize(1), Err(EPERM));
    assert_eq!(file.pwrite(0, &mut Source::from_bytes(b"c")), Err(EPERM));
    assert_eq!(file.inode().allocate(Allocate::PunchHole, 0, 1), Err(EPERM));
    assert_eq!(pread(&file, 0, 7), b"Content");
    memfd::add_seals(file.inode(), SealFlags::SEAL).unwrap();
    assert_eq!(memfd::add_seals(file.inode(), SealFlags::FUTURE_WRITE), Err(EPERM));
    let sealed = memfd::create(b"sealed", Sealing::Denied).unwrap();
    assert_eq!(memfd::add_seals(sealed.inode(), SealFlags::GROW), Err(EPERM));
}

#[ktest]
fn mounts_hide_and_reveal() {
    let tree = tree();
    mkdir(&tree, b"mnt").unwrap();
    create(&tree, b"mnt/below");
    let point = tree.find(b"mnt", LastLink::Follow).unwrap();
    let volume = Volume::of(RamFs::new_root());
    mount::attach(Mount::new(volume, None, b"inner", MountFlags::RDONLY), point.clone()).unwrap();
    assert!(!exists(&tree, b"mnt/below"));
    assert_eq!(open(&tree, b"mnt/new", OpenFlags::CREAT | OpenFlags::RDWR).err(), Some(EROFS));
    assert_eq!(namei::remove(&tree, b"mnt", Removal::Directory), Err(EBUSY));
    assert!(tree.find(b"mnt/..", LastLink::Follow).unwrap().is_same(&tree.root));
    let inside = tree.find(b"mnt", LastLink::Follow).unwrap();
    assert_eq!(inside.text_from(&tree.root), Ok((b"/mnt".to_vec(), true)));
    assert_eq!(mount::detach(inside.clone(), Detach::Unused), Err(EBUSY), "a place in it is held");
    drop(inside);
    let inside = tree.find(b"mnt", LastLink::Follow).unwrap();
    assert_eq!(mount::detach(inside, Detach::Unused), Ok(()));
    assert!(exists(&tree, b"mnt/below"));
    assert_eq!(mount::detach(point, Detach::Unused), Err(EINVAL));
}

/// A lookup in procfs, whose root changes by itself.
fn procfs() -> Lookup {
    let volume = Volume::of(Procfs.mount(b"", b"").unwrap());
    let mount = Mount::new(volume, None, b"proc", MountFlags::RELATIME);
    let root = Path::new(mount.clone(), mount.root().clone());
    Lookup { base: root.clone(), root, cred: Arc::new(Credentials::root()), resolve: Resolve::empty() }
}

#[ktest]
fn what_a_changing_directory_says_is_kept_by_its_users_alone() {
    let tree = procfs();
    let file = tree.find(b"sys/kernel/pid_max", LastLink::Follow).unwrap();
    let folder = file.dentry().parent().unwrap();
    let (file_left, folder_left) = (Arc::downgrade(file.dentry()), Arc::downgrade(&folder));
    drop((file, folder));
    assert!(file_left.upgrade().is_none() && folder_left.upgrade().is_none());
}

#[ktest]
fn a_mount_is_found_below_a_changing_directory() {
    let tree = procfs();
    let point = tree.find(b"sys/kernel", LastLink::Follow).unwrap();
    let inner = Mount::new(Volume::of(RamFs::new_root()), None, b"inner", MountFlags::RELATIME);
    mount::attach(inner, point.clone()).unwrap();
    assert!(!exists(&tree, b"sys/kernel/pid_max"));
    assert!(exists(&tree, b"sys/vm/overcommit_memory"));
    let inside = tree.find(b"sys/kernel", LastLink::Follow).unwrap();
    assert_eq!(mount::detach(inside, Detach::Unused), Ok(()));
    assert!(exists(&tree, b"sys/kernel/pid_max"));
}

#[ktest]
fn permissions_are_checked_on_the_way() {
    let mut tree = tree();
    namei::create(&tree, b"private", NewNode::Directory, 0o700).unwrap();
    create(&tree, b"private/file");
    create(&tree, b"readable");
    let user = Credentials { fsuid: 1000, fsgid: 1000, effective: CapSet::empty(), ..Credentials::root() };
    tree.cred = Arc::new(user);
    assert_eq!(tree.find(b"private/file", LastLink::Follow).err(), Some(EACCES));
    assert_eq!(open(&tree, b"readable", OpenFlags::RDWR).err(), Some(EACCES));
    assert!(open(&tree, b"readable", OpenFlags::empty()).is_ok());
    assert_eq!(mkdir(&tree, b"new"), Err(EACCES));
    assert_eq!(namei::remove(&tree, b"readable", Removal::File), Err(EACCES));
    assert!(open(&tree, b"private", OpenFlags::PATH).is_ok());
}

#[ktest]
fn links_say_where_they_lead() {
    let tree = tree();
    symlink(&tree, b"some/where", b"link").unwrap();
    let place = tree.find(b"link", LastLink::Stay).unwrap();
    assert!(matches!(place.inode().read_link(), Ok(LinkTarget::Path(path)) if &*path == b"some/where"));
    assert_eq!(place.inode().metadata().size, 10);
    assert_eq!(symlink(&tree, b"", b"empty"), Err(ENOENT));
    assert_eq!(symlink(&tree, b"x", b"link"), Err(EEXIST));
    assert_eq!(symlink(&tree, b"x", b"slash/"), Err(ENOENT));
}
