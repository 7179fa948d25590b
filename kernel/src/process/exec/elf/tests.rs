// SPDX-License-Identifier: MPL-2.0

use ostd::prelude::ktest;
use vmar::{rss::RssKind, vmar::populate::Populate};
use vmar_ostd::reserve;

use super::*;
use crate::{
    fs::{
        OpenFlags, Path,
        io::Source,
        lookup::{Lookup, Resolve},
        mount::{Mount, MountFlags, Volume},
        open::{self, OpenHow},
        ramfs::RamFs,
    },
    mm,
    process::{Credentials, rlimit::Rlimits},
};

const BASE: Vaddr = 0x40_0000;
const TEXT_PAGES: usize = 32;
/// One page and a half of the file, and zeros up to the end of the third.
const DATA: Vaddr = BASE + TEXT_PAGES * PAGE_SIZE;
const DATA_SIZE: usize = PAGE_SIZE + PAGE_SIZE / 2;

/// A file in a file system of its own.
fn program() -> Arc<File> {
    let mount = Mount::new(Volume::of(RamFs::new_root()), None, b"test", MountFlags::RELATIME);
    let root = mount.root().clone();
    let root = Path::new(mount, root);
    let cred = Arc::new(Credentials::root());
    let tree = Lookup { base: root.clone(), root, cred, resolve: Resolve::empty() };
    let how = OpenHow { flags: OpenFlags::CREAT | OpenFlags::RDWR, mode: 0o755 };
    let file = open::open(&tree, b"program", how).unwrap();
    let mut bytes = header();
    let content = (bytes.len()..(TEXT_PAGES + 2) * PAGE_SIZE).map(|at| (at % 251) as u8 + 1);
    bytes.extend(content.collect::<Vec<_>>());
    assert_eq!(file.write(&mut Source::from_bytes(&bytes)), Ok(bytes.len()));
    file
}

fn header() -> Vec<u8> {
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = |bytes: &mut Vec<u8>, value: u16| bytes.extend_from_slice(&value.to_le_bytes());
    half(&mut bytes, ET_EXEC);
    half(&mut bytes, EM_X86_64);
    bytes.extend_from_slice(&1u32.to_le_bytes());
    for word in [BASE as u64, HEADER_LEN as u64, 0] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(&0u32.to_le_bytes());
    for value in [HEADER_LEN as u16, PROGRAM_HEADER_LEN as u16, 2, 64, 0, 0] {
        half(&mut bytes, value);
    }
    let text = (TEXT_PAGES * PAGE_SIZE) as u64;
    let segments = [
        (PF_R | PF_X, 0, BASE as u64, text, text),
        (PF_R | PF_W, text, DATA as u64, DATA_SIZE as u64, 3 * PAGE_SIZE as u64),
    ];
    for (flags, offset, addr, file_size, memory_size) in segments {
        bytes.extend_from_slice(&PT_LOAD.to_le_bytes());
        bytes.extend_from_slice(&flags.to_le_bytes());
        for word in [offset, addr, addr, file_size, memory_size, PAGE_SIZE as u64] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }
    bytes
}

/// Maps the program into a new space.
fn load(file: &Arc<File>) -> Arc<AddressSpace> {
    let vm = AddressSpace::new(&Rlimits::initial()).unwrap();
    let elf = ElfFile::read(file).unwrap();
    map_segments(vm.vmar(), file, &elf, 0, &mut ProgramLayout::default()).unwrap();
    vm
}

fn free_frames() -> usize {
    mm::finish_frees();
    reserve::free_frames()
}

#[ktest]
fn h2_a_second_process_adds_no_frame_for_its_text() {
    let file = program();
    let text = BASE..DATA;
    let first = load(&file);
    first.vmar().populate(text.clone(), Populate::Read).unwrap();
    let second = load(&file);
    // What the page table takes, and the mixed page of the data, is taken now.
    second.vmar().populate(BASE..BASE + PAGE_SIZE, Populate::Read).unwrap();
    let before = free_frames();
    second.vmar().populate(text.clone(), Populate::Read).unwrap();
    assert_eq!(free_frames(), before, "the text takes frames");
    assert_eq!(second.vmar().rss().pages(RssKind::File), TEXT_PAGES);
    // Data that is only read takes none either, written it takes a copy.
    second.vmar().populate(DATA..DATA + PAGE_SIZE, Populate::Read).unwrap();
    assert_eq!(free_frames(), before);
    second.vmar().populate(DATA..DATA + PAGE_SIZE, Populate::Write).unwrap();
    assert_eq!(free_frames(), before - 1);
    let mut bytes = [0; 2];
    second.vmar().read_bytes(DATA - 1, &mut bytes).unwrap();
    let expected = |at: usize| (at % 251) as u8 + 1;
    let at = TEXT_PAGES * PAGE_SIZE;
    assert_eq!(bytes, [expected(at - 1), expected(at)]);
}

#[ktest]
fn h4_what_follows_the_data_in_its_page_is_zeros() {
    let file = program();
    let vm = load(&file);
    let mut bytes = [1; 8];
    vm.vmar().read_bytes(DATA + DATA_SIZE - 2, &mut bytes).unwrap();
    let at = TEXT_PAGES * PAGE_SIZE + DATA_SIZE;
    assert_eq!(bytes, [((at - 2) % 251) as u8 + 1, ((at - 1) % 251) as u8 + 1, 0, 0, 0, 0, 0, 0]);
    let mut bytes = [1; 4];
    vm.vmar().read_bytes(DATA + 2 * PAGE_SIZE, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 4]);
    assert_eq!(vm.vmar().rss().pages(RssKind::Anonymous), 1, "the page in between is the program's own");
}
