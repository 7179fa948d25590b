// SPDX-License-Identifier: MPL-2.0

//! `/proc/self/maps`, `smaps` and `mem`: their exact form, and that they tell what is there.

use std::os::unix::fs::MetadataExt;

use libc::{
    MAP_PRIVATE, MAP_SHARED, O_CLOEXEC, O_RDONLY, O_RDWR, O_WRONLY, PROT_EXEC, PROT_NONE, PROT_READ,
    PROT_WRITE,
};

use super::{
    ANON, ANON_SHARED, PAGE, RW, anon, anon_shared, free_range, lone_anon, number_pages, page_numbers, peek,
    poke,
};
use crate::{
    child::{Child, Turn},
    harness::Case,
    procfs::{self, Vma},
    sys, tmp,
};

pub const CASES: &[Case] = cases!["mem/maps":
    every_line_has_the_exact_form,
    lines_are_in_order_and_apart,
    rights_are_spelled_out,
    shared_anonymous_is_dev_zero,
    file_shows_offset_device_inode_and_path,
    newline_in_a_path_is_escaped,
    program_is_there,
    stack_is_there,
    vdso_is_at_its_auxv_address,
    small_reads_give_the_same_text,
    can_be_read_at_an_offset,
    of_a_child_by_its_pid,
    of_nobody_is_enoent,
    cannot_be_written,
    new_mapping_shows_at_once,
];

pub const SMAPS: &[Case] = cases!["mem/smaps":
    has_every_field,
    header_lines_are_those_of_maps,
    rss_is_the_sum_of_its_parts,
    pss_of_shared_pages_is_a_share,
    dirty_and_clean_are_told_apart,
    flags_tell_rights,
    flags_tell_may_rights_of_a_read_only_open,
];

pub const MEM: &[Case] = cases!["mem/procmem":
    reads_own_memory,
    writes_own_memory,
    writes_read_only_private_memory,
    reads_across_pages,
    unmapped_is_eio,
    stops_at_a_hole,
    of_a_child,
];

fn every_line_has_the_exact_form() {
    let text = procfs::text("maps");
    check!(text.ends_with('\n'));
    for line in text.lines() {
        let Some(vma) = Vma::parse(line) else { panic!("{line:?} cannot be parsed") };
        let fields = format!(
            "{:08x}-{:08x} {} {:08x} {} {} ",
            vma.start, vma.end, vma.perms, vma.offset, vma.dev, vma.inode
        );
        // The path, if there is one, starts in column 74.
        let expected = if vma.path.is_empty() { fields } else { format!("{fields:<73}{}", vma.path) };
        check_eq!(line, expected);
        let device: Vec<_> = vma.dev.split(':').map(str::len).collect();
        check!(device.len() == 2 && device.iter().all(|&digits| digits >= 2), "{line:?}");
        check!(vma.start % PAGE == 0 && vma.end % PAGE == 0 && vma.start < vma.end, "{line:?}");
        let bytes = vma.perms.as_bytes();
        check!(bytes.len() == 4 && (0..3).all(|index| bytes[index] == b'-' || bytes[index] == b"rwx"[index]));
        check!(b"ps".contains(&bytes[3]), "{line:?}");
    }
}

fn lines_are_in_order_and_apart() {
    for _ in 0..20 {
        lone_anon(1);
    }
    for pair in procfs::maps().windows(2) {
        check!(pair[0].end <= pair[1].start, "{pair:x?}");
    }
}

fn rights_are_spelled_out() {
    for (prot, text) in [
        (PROT_NONE, "---"),
        (PROT_READ, "r--"),
        (PROT_WRITE, "-w-"),
        (PROT_EXEC, "--x"),
        (PROT_READ | PROT_WRITE, "rw-"),
        (PROT_READ | PROT_EXEC, "r-x"),
        (PROT_WRITE | PROT_EXEC, "-wx"),
        (PROT_READ | PROT_WRITE | PROT_EXEC, "rwx"),
    ] {
        let perms = |flags| procfs::vma_at(ok!(sys::mmap(0, PAGE, prot, flags, -1, 0))).map(|vma| vma.perms);
        check_eq!(perms(ANON), Some(format!("{text}p")));
        check_eq!(perms(ANON_SHARED), Some(format!("{text}s")));
    }
}

fn shared_anonymous_is_dev_zero() {
    let (first, second) = (procfs::vma_at(anon_shared(1)), procfs::vma_at(anon_shared(2)));
    let (Some(first), Some(second)) = (first, second) else { panic!("a shared mapping is not in maps") };
    check_eq!(first.path, "/dev/zero (deleted)");
    check!(first.inode != 0 && first.inode != second.inode);
}

fn file_shows_offset_device_inode_and_path() {
    let (fd, path) = tmp::named_file(&[1; 3 * PAGE]);
    let at = ok!(sys::mmap(0, 2 * PAGE, PROT_READ, MAP_SHARED, fd, PAGE as i64));
    let Some(vma) = procfs::vma_at(at) else { panic!("a mapped file is not in maps") };
    let status = match std::fs::metadata(&path) {
        Ok(status) => status,
        Err(error) => panic!("stat of {path}: {error}"),
    };
    let device = format!("{:02x}:{:02x}", libc::major(status.dev()), libc::minor(status.dev()));
    check_eq!((vma.offset, vma.inode, vma.path, vma.dev), (PAGE, status.ino(), path, device));
    check_eq!((vma.end - vma.start, vma.perms), (2 * PAGE, "r--s".into()));
}

fn newline_in_a_path_is_escaped() {
    let path = format!("{}/a\nb c", tmp::dir());
    let fd = ok!(sys::open(&path, O_RDWR | libc::O_CREAT, 0o600));
    check_eq!(sys::write(fd, b"x"), Ok(1));
    let at = ok!(sys::mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0));
    check_eq!(procfs::vma_at(at).map(|vma| vma.path), Some(format!("{}/a\\012b c", tmp::dir())));
}

fn program_is_there() {
    let Ok(exe) = std::fs::read_link("/proc/self/exe") else { panic!("no /proc/self/exe") };
    let own = procfs::vma_at(program_is_there as *const () as usize);
    let Some(own) = own else { panic!("the program's code is not in maps") };
    check_eq!((own.perms.as_str(), Some(own.path.as_str())), ("r-xp", exe.to_str()));
    static DATA: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(7);
    let data = procfs::vma_at(DATA.as_ptr() as usize).map(|vma| vma.perms);
    check_eq!(data, Some("rw-p".into()));
}

fn stack_is_there() {
    let local = 0_u8;
    let vma = procfs::vma_at(std::hint::black_box(&raw const local) as usize);
    check_eq!(
        vma.map(|vma| (vma.path, vma.offset, vma.dev, vma.inode)),
        Some(("[stack]".into(), 0, "00:00".into(), 0))
    );
}

fn vdso_is_at_its_auxv_address() {
    // SAFETY: a lookup in the auxiliary vector.
    let at = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) } as usize;
    if at == 0 {
        skip!("no vdso");
    }
    check_eq!(procfs::vma_at(at).map(|vma| (vma.path, vma.perms)), Some(("[vdso]".into(), "r-xp".into())));
    check_eq!(super::bytes(at, 4), b"\x7fELF");
}

fn small_reads_give_the_same_text() {
    for step in [100, 1000, 4096] {
        let fd = ok!(sys::open("/proc/self/maps", O_RDONLY | O_CLOEXEC, 0));
        let (mut text, mut part) = (Vec::new(), vec![0; step]);
        loop {
            match ok!(sys::read(fd, &mut part)) {
                0 => break,
                count => text.extend_from_slice(&part[..count]),
            }
        }
        check_eq!(String::from_utf8_lossy(&text), procfs::text("maps"));
        sys::close(fd);
    }
}

fn can_be_read_at_an_offset() {
    let fd = ok!(sys::open("/proc/self/maps", O_RDONLY | O_CLOEXEC, 0));
    let text = procfs::text("maps");
    let mut part = [0; 20];
    check_eq!(sys::pread(fd, &mut part, 30), Ok(20));
    check_eq!(&part, &text.as_bytes()[30..50]);
    check_eq!(syscall!(SYS_lseek, fd, 5, libc::SEEK_SET), Ok(5));
    check_eq!(sys::read(fd, &mut part), Ok(20));
    check_eq!(&part, &text.as_bytes()[5..25]);
}

fn of_a_child_by_its_pid() {
    let (ready, go, at) = (Turn::new(), Turn::new(), free_range(3));
    let child = Child::spawn(|| {
        ok!(sys::mmap(at, 3 * PAGE, PROT_READ, ANON | libc::MAP_FIXED, -1, 0));
        ready.post();
        go.wait();
    });
    ready.wait();
    let text = std::fs::read_to_string(format!("/proc/{}/maps", child.pid)).unwrap_or_default();
    let found = text.lines().filter_map(Vma::parse).find(|vma| vma.start == at);
    go.post();
    child.join();
    check_eq!(found.map(|vma| (vma.end, vma.perms)), Some((at + 3 * PAGE, "r--p".into())));
    check_eq!(procfs::vma_at(at), None);
}

fn of_nobody_is_enoent() {
    let child = Child::spawn(|| {});
    let path = format!("/proc/{}/maps", child.pid);
    child.join();
    errno_is!(sys::open(&path, O_RDONLY, 0), ENOENT);
}

fn cannot_be_written() {
    match sys::open("/proc/self/maps", O_WRONLY, 0) {
        // Root may open it, but there is nothing to write to.
        Ok(fd) => match sys::write(fd, b"x") {
            Err(error) if [libc::EINVAL, libc::EIO, libc::EBADF].contains(&error.0) => {}
            other => panic!("writing to maps gives {other:?}"),
        },
        Err(error) => check_eq!(error, sys::Errno(libc::EACCES)),
    }
}

fn new_mapping_shows_at_once() {
    let at = free_range(2);
    for _ in 0..50 {
        ok!(sys::mmap(at, 2 * PAGE, RW, ANON | libc::MAP_FIXED, -1, 0));
        check_eq!(procfs::vma_at(at).map(|vma| (vma.start, vma.end)), Some((at, at + 2 * PAGE)));
        ok!(sys::munmap(at, 2 * PAGE));
        check_eq!(procfs::vma_at(at), None);
    }
}

fn has_every_field() {
    let at = lone_anon(2);
    poke(at, 1);
    for (name, value) in [
        ("Size", 8),
        ("KernelPageSize", 4),
        ("MMUPageSize", 4),
        ("Rss", 4),
        ("Pss", 4),
        ("Shared_Clean", 0),
        ("Shared_Dirty", 0),
        ("Private_Clean", 0),
        ("Private_Dirty", 4),
        ("Referenced", 4),
        ("Anonymous", 4),
        ("AnonHugePages", 0),
        ("Swap", 0),
        ("Locked", 0),
    ] {
        check_eq!(procfs::smaps_kib(at, name), value, "{name}");
    }
}

fn header_lines_are_those_of_maps() {
    let smaps = procfs::text("smaps");
    let headers: Vec<Vma> = smaps.lines().filter_map(Vma::parse).collect();
    check_eq!(headers, procfs::maps());
}

fn parts(at: usize) -> [usize; 4] {
    ["Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty"].map(|name| procfs::smaps_kib(at, name))
}

fn rss_is_the_sum_of_its_parts() {
    let fd = tmp::file(&[1; 8 * PAGE]);
    let file = ok!(sys::mmap(0, 8 * PAGE, RW, MAP_PRIVATE, fd, 0));
    number_pages(file, 3, 1);
    let (private, shared) = (lone_anon(8), anon_shared(8));
    number_pages(private, 5, 1);
    number_pages(shared, 4, 1);
    for at in [file, private, shared] {
        check_eq!(parts(at).iter().sum::<usize>(), procfs::smaps_kib(at, "Rss"));
    }
    check_eq!(procfs::smaps_kib(private, "Rss"), 20);
    check_eq!(procfs::smaps_kib(shared, "Rss"), 16);
}

fn pss_of_shared_pages_is_a_share() {
    let (at, ready, go) = (lone_anon(8), Turn::new(), Turn::new());
    number_pages(at, 8, 1);
    check_eq!(procfs::smaps_kib(at, "Pss"), 32);
    let child = Child::spawn(|| {
        ready.post();
        go.wait();
    });
    ready.wait();
    check_eq!((procfs::smaps_kib(at, "Rss"), procfs::smaps_kib(at, "Pss")), (32, 16));
    check_eq!(parts(at), [0, 32, 0, 0]);
    go.post();
    child.join();
    check_eq!(procfs::smaps_kib(at, "Pss"), 32);
    check_eq!(parts(at), [0, 0, 0, 32]);
}

fn dirty_and_clean_are_told_apart() {
    let at = lone_anon(8);
    number_pages(at, 2, 1);
    check_eq!(page_numbers(at, 6), [1, 2, 0, 0, 0, 0]);
    let [.., dirty] = parts(at);
    check_eq!(dirty, 8, "pages that were only read are no memory of their own");
    check_eq!(procfs::smaps_kib(at, "Rss"), 8);
}

fn flags_tell_rights() {
    let at = lone_anon(1);
    let flags = procfs::vm_flags(at);
    for flag in ["rd", "wr", "mr", "mw", "me"] {
        check!(flags.iter().any(|have| have == flag), "{flag} in {flags:?}");
    }
    for flag in ["ex", "sh", "lo"] {
        check!(flags.iter().all(|have| have != flag), "{flag} in {flags:?}");
    }
    let flags = procfs::vm_flags(anon_shared(1));
    check!(flags.iter().any(|have| have == "sh"), "{flags:?}");
}

fn flags_tell_may_rights_of_a_read_only_open() {
    let (fd, path) = tmp::named_file(&[1; PAGE]);
    sys::close(fd);
    let fd = ok!(sys::open(&path, O_RDONLY | O_CLOEXEC, 0));
    let flags = procfs::vm_flags(ok!(sys::mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0)));
    check!(flags.iter().any(|have| have == "mr") && flags.iter().all(|have| have != "mw"), "{flags:?}");
}

fn own_memory() -> i32 {
    ok!(sys::open("/proc/self/mem", O_RDWR | O_CLOEXEC, 0))
}

fn reads_own_memory() {
    let at = anon(1);
    poke(at + 9, 99);
    let mut byte = [0];
    check_eq!(sys::pread(own_memory(), &mut byte, at + 9), Ok(1));
    check_eq!(byte, [99]);
}

fn writes_own_memory() {
    let at = anon(1);
    check_eq!(sys::pwrite(own_memory(), b"hi", at + 5), Ok(2));
    check_eq!((peek(at + 4), peek(at + 5), peek(at + 6)), (0, b'h', b'i'));
}

fn writes_read_only_private_memory() {
    let at = anon(1);
    poke(at, 1);
    ok!(sys::mprotect(at, PAGE, PROT_READ));
    // A kernel may be set up to refuse to go past rights here.
    match sys::pwrite(own_memory(), b"f", at) {
        Ok(1) => check_eq!(peek(at), b'f'),
        Err(error) => check_eq!(error, sys::Errno(libc::EIO)),
        other => panic!("writing to mem gives {other:?}"),
    }
    crate::fault::expect_accerr(at, || poke(at, 1));
}

fn reads_across_pages() {
    let at = anon(3);
    number_pages(at, 3, 1);
    let mut content = vec![0; 3 * PAGE];
    check_eq!(sys::pread(own_memory(), &mut content, at), Ok(3 * PAGE));
    check_eq!((content[0], content[PAGE], content[2 * PAGE]), (1, 2, 3));
}

fn unmapped_is_eio() {
    let at = free_range(1);
    errno_is!(sys::pread(own_memory(), &mut [0], at), EIO);
    errno_is!(sys::pwrite(own_memory(), &[0], at), EIO);
}

fn stops_at_a_hole() {
    let at = lone_anon(1);
    let mut content = [7; 100];
    check_eq!(sys::pread(own_memory(), &mut content, at + PAGE - 40), Ok(40));
    check_eq!((content[39], content[40]), (0, 7));
}

fn of_a_child() {
    let (at, ready, go) = (anon(1), Turn::new(), Turn::new());
    let child = Child::spawn(|| {
        poke(at, 42);
        ready.post();
        go.wait();
        check_eq!(peek(at), 43);
    });
    ready.wait();
    let fd = ok!(sys::open(&format!("/proc/{}/mem", child.pid), O_RDWR | O_CLOEXEC, 0));
    let mut byte = [0];
    check_eq!(sys::pread(fd, &mut byte, at), Ok(1));
    check_eq!(byte, [42]);
    check_eq!(sys::pwrite(fd, &[43], at), Ok(1));
    go.post();
    child.join();
    check_eq!(peek(at), 0);
}
