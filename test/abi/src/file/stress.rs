// SPDX-License-Identifier: MPL-2.0

//! Many at once: processes and threads that change the same files, folders, locks and descriptors.

use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
};

use libc::{F_OFD_SETLKW, F_SETLKW, F_UNLCK, F_WRLCK, LOCK_EX, LOCK_UN, O_APPEND, O_EXCL, O_WRONLY};

use super::*;
use crate::child::Child;

pub const CASES: &[Case] = cases!["file/stress", slow:
    one_creates_and_one_removes,
    exclusive_creation_has_one_winner,
    renames_lose_nothing,
    folders_move_into_each_other,
    paths_through_folders_that_move,
    links_come_and_go,
    token_goes_round_through_pipes,
    pipe_with_many_writers_and_readers,
    record_locks_keep_a_counter,
    open_file_locks_keep_a_counter,
    whole_file_locks_keep_a_counter,
    append_and_truncate,
    descriptors_of_threads,
    readers_of_a_growing_file,
    deep_and_wide_trees,
];

/// Runs `body` in that many processes, numbered from 0, and waits for all.
fn together(count: usize, body: impl Fn(usize)) {
    let children: Vec<_> = (0..count).map(|index| Child::spawn(|| body(index))).collect();
    children.into_iter().for_each(Child::join);
}

/// Fails the case unless the call succeeds or fails with one of these.
#[track_caller]
fn fine<T>(result: sys::Result<T>, errors: &[i32]) -> bool {
    match result {
        Ok(_) => true,
        Err(error) => {
            check!(errors.contains(&error.0), "{error}");
            false
        }
    }
}

fn one_creates_and_one_removes() {
    let dir = new_dir();
    together(4, |index| {
        for round in 0..300 {
            let path = format!("{dir}/{}", round % 5);
            if index % 2 == 0 {
                match sys::open(&path, O_CREAT | O_RDWR, 0o600) {
                    Ok(fd) => {
                        check_eq!(sys::write(fd, b"content"), Ok(7));
                        check_eq!(content(fd), b"content");
                        sys::close(fd);
                    }
                    Err(error) => panic!("creating gives {error}"),
                }
            } else {
                fine(unlink(&path), &[libc::ENOENT]);
            }
        }
    });
    for name in list(&dir, 4096) {
        ok!(unlink(&format!("{dir}/{name}")));
    }
    ok!(rmdir(&dir));
}

fn exclusive_creation_has_one_winner() {
    let dir = new_dir();
    let wins = crate::child::shared_words();
    together(4, |_| {
        for (round, wins) in wins[..100].iter().enumerate() {
            let flags = O_CREAT | O_EXCL | O_RDWR;
            if fine(sys::open(&format!("{dir}/{round}"), flags, 0o600).map(sys::close), &[libc::EEXIST]) {
                wins.fetch_add(1, SeqCst);
            }
        }
    });
    check!(wins[..100].iter().all(|count| count.load(SeqCst) == 1));
}

fn renames_lose_nothing() {
    let dirs: Vec<_> = (0..3).map(|_| new_dir()).collect();
    (0..12).for_each(|number| put(&format!("{}/{number}", dirs[number % 3]), number.to_string().as_bytes()));
    together(4, |index| {
        for round in 0..300 {
            let (from, to) = ((round + index) % 3, (round * 7 + index * 5) % 3);
            let name = (round * 11 + index) % 12;
            fine(rename(&format!("{}/{name}", dirs[from]), &format!("{}/{name}", dirs[to])), &[libc::ENOENT]);
        }
    });
    let mut names: Vec<_> =
        dirs.iter().flat_map(|dir| list(dir, 4096).into_iter().map(move |name| (name, dir))).collect();
    names.sort();
    check_eq!(names.len(), 12);
    for (name, dir) in names {
        check_eq!(get(&format!("{dir}/{name}")), name.as_bytes());
    }
}

fn folders_move_into_each_other() {
    let top = new_dir();
    for name in ["a", "b", "c"] {
        ok!(mkdir(&format!("{top}/{name}"), 0o755));
    }
    ok!(mkdir(&format!("{top}/a/x"), 0o755));
    let errors = [libc::ENOENT, libc::EINVAL, libc::ENOTEMPTY, libc::EEXIST];
    together(3, |index| {
        let names = ["a", "b", "c"];
        for round in 0..200 {
            let (one, other) = (names[(round + index) % 3], names[(round + index + 1) % 3]);
            fine(rename(&format!("{top}/{one}/x"), &format!("{top}/{other}/x")), &errors);
            // Into itself must never work, or the tree would lose a loop.
            fine(rename(&format!("{top}/{one}"), &format!("{top}/{other}/{one}")), &errors);
            fine(rename(&format!("{top}/{other}/{one}"), &format!("{top}/{one}")), &errors);
        }
    });
    // All four folders can still be reached from the top, and their `..` leads back.
    let mut found = 0;
    let mut pending = vec![(top.clone(), ok!(stat(&top)).st_ino)];
    while let Some((path, ino)) = pending.pop() {
        for name in list(&path, 4096) {
            let child = format!("{path}/{name}");
            check_eq!(ok!(stat(&format!("{child}/.."))).st_ino, ino);
            pending.push((child.clone(), ok!(stat(&child)).st_ino));
            found += 1;
        }
        check_eq!(ok!(stat(&path)).st_nlink as usize, 2 + list(&path, 4096).len());
    }
    check_eq!(found, 4);
}

fn paths_through_folders_that_move() {
    let dir = new_dir();
    ok!(mkdir(&format!("{dir}/a"), 0o755));
    put(&format!("{dir}/a/file"), b"content");
    let mover = Child::spawn(|| {
        for _ in 0..300 {
            ok!(rename(&format!("{dir}/a"), &format!("{dir}/b")));
            ok!(rename(&format!("{dir}/b"), &format!("{dir}/a")));
        }
    });
    let mut seen = 0;
    for _ in 0..600 {
        for name in ["a", "b"] {
            match sys::open(&format!("{dir}/{name}/file"), O_RDONLY, 0) {
                Ok(fd) => {
                    check_eq!(content(fd), b"content");
                    sys::close(fd);
                    seen += 1;
                }
                Err(error) => check_eq!(error, sys::Errno(libc::ENOENT)),
            }
        }
    }
    mover.join();
    check!(seen > 0);
}

fn links_come_and_go() {
    let (fd, path) = tmp::named_file(b"content");
    let dir = new_dir();
    together(4, |index| {
        for round in 0..200 {
            let name = format!("{dir}/{index}-{}", round % 3);
            ok!(link(&path, &name));
            check!(ok!(stat(&name)).st_nlink >= 2);
            ok!(unlink(&name));
        }
    });
    check_eq!(ok!(fstat(fd)).st_nlink, 1);
    check!(list(&dir, 4096).is_empty());
}

fn token_goes_round_through_pipes() {
    const ROUNDS: u32 = 300;
    let pipes: Vec<_> = (0..4).map(|_| ok!(sys::pipe(0))).collect();
    let children: Vec<_> = (0..4)
        .map(|index| {
            let (pipes, reader) = (&pipes, pipes[index].0);
            Child::spawn(move || {
                for _ in 0..ROUNDS {
                    let mut token = [0; 4];
                    check_eq!(sys::read(reader, &mut token), Ok(4));
                    let next = u32::from_le_bytes(token) + 1;
                    check_eq!(sys::write(pipes[(index + 1) % 4].1, &next.to_le_bytes()), Ok(4));
                }
            })
        })
        .collect();
    check_eq!(sys::write(pipes[0].1, &0_u32.to_le_bytes()), Ok(4));
    children.into_iter().for_each(Child::join);
    let mut token = [0; 4];
    check_eq!(sys::read(pipes[0].0, &mut token), Ok(4));
    check_eq!(u32::from_le_bytes(token), 4 * ROUNDS);
}

fn pipe_with_many_writers_and_readers() {
    const RECORDS: usize = 200;
    let (reader, writer) = ok!(sys::pipe(0));
    let counts = crate::child::shared_words();
    let writers: Vec<_> = (0..3_usize)
        .map(|index| {
            Child::spawn(move || {
                sys::close(reader);
                for number in 0..RECORDS {
                    let record = [(index * RECORDS + number) as u64; 64];
                    // SAFETY: numbers as bytes.
                    let bytes = unsafe { std::slice::from_raw_parts(record.as_ptr().cast::<u8>(), 512) };
                    check_eq!(sys::write(writer, bytes), Ok(512));
                }
            })
        })
        .collect();
    sys::close(writer);
    let readers: Vec<_> = (0..2)
        .map(|_| {
            Child::spawn(move || {
                let mut record = [0; 512];
                loop {
                    match ok!(sys::read(reader, &mut record)) {
                        0 => break,
                        count => check_eq!(count, 512, "records are of one size, so reads are, too"),
                    }
                    check!(record.chunks(8).all(|word| word == &record[..8]));
                    counts[usize::from(u16::from_le_bytes([record[0], record[1]])) / 2].fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    writers.into_iter().chain(readers).for_each(Child::join);
    check!(counts[..3 * RECORDS / 2].iter().all(|count| count.load(SeqCst) == 2));
}

/// Adds 1 to the number in a file, `rounds` times in each of 4 processes, under a lock of the file that each opens for
/// itself.
fn count_under(locked: impl Fn(i32, bool)) {
    const ROUNDS: u64 = 100;
    let (fd, path) = tmp::named_file(&0_u64.to_le_bytes());
    together(4, |_| {
        let own = open(&path, O_RDWR);
        for _ in 0..ROUNDS {
            locked(own, true);
            let mut number = [0; 8];
            check_eq!(sys::pread(own, &mut number, 0), Ok(8));
            let next = u64::from_le_bytes(number) + 1;
            ok!(syscall!(SYS_sched_yield));
            check_eq!(sys::pwrite(own, &next.to_le_bytes(), 0), Ok(8));
            locked(own, false);
        }
    });
    check_eq!(content(fd), (4 * ROUNDS).to_le_bytes());
}

fn set_lock(fd: i32, command: i32, on: bool) {
    // SAFETY: plain numbers.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = (if on { F_WRLCK } else { F_UNLCK }) as i16;
    ok!(syscall!(SYS_fcntl, fd, command, &raw mut lock));
}

fn record_locks_keep_a_counter() {
    count_under(|fd, on| set_lock(fd, F_SETLKW, on));
}

fn open_file_locks_keep_a_counter() {
    count_under(|fd, on| set_lock(fd, F_OFD_SETLKW, on));
}

fn whole_file_locks_keep_a_counter() {
    count_under(|fd, on| _ = ok!(syscall!(SYS_flock, fd, if on { LOCK_EX } else { LOCK_UN })));
}

fn append_and_truncate() {
    let path = tmp::path();
    put(&path, b"");
    together(3, |index| {
        let fd = open(&path, if index == 0 { O_WRONLY } else { O_WRONLY | O_APPEND });
        for _ in 0..300 {
            if index == 0 {
                ok!(sys::ftruncate(fd, 0));
            } else {
                check_eq!(sys::write(fd, &[b'a'; 100]), Ok(100));
            }
        }
    });
    let rest = get(&path);
    check!(rest.len().is_multiple_of(100) && rest.iter().all(|&byte| byte == b'a'), "{} bytes", rest.len());
}

fn descriptors_of_threads() {
    let (file, path) = tmp::named_file(b"content");
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for index in 0..4 {
            let (path, done) = (&path, &done);
            scope.spawn(move || {
                for round in 0..200 {
                    match index {
                        // Others' descriptors vanish meanwhile; a read sees the whole file or none.
                        0 => _ = ok!(syscall!(SYS_dup2, file, 200 + round % 8)),
                        1 => sys::close(200 + round % 8),
                        2 => match sys::pread(200 + round % 8, &mut [0; 9], 0) {
                            Ok(count) => check_eq!(count, 7),
                            Err(error) => check_eq!(error, sys::Errno(libc::EBADF)),
                        },
                        _ => {
                            let fd = open(path, O_RDONLY);
                            check_eq!(content(fd), b"content");
                            sys::close(fd);
                        }
                    }
                }
                done.fetch_add(1, SeqCst);
            });
        }
    });
    check_eq!(done.load(SeqCst), 4);
}

fn readers_of_a_growing_file() {
    const SIZE: usize = 2 << 20;
    let path = tmp::path();
    put(&path, b"");
    let value = |at: usize| (at / 1000 % 251) as u8 + 1;
    together(3, |index| {
        let fd = open(&path, O_RDWR);
        if index == 0 {
            let all: Vec<u8> = (0..SIZE).map(value).collect();
            for (number, part) in all.chunks(10_007).enumerate() {
                check_eq!(sys::pwrite(fd, part, number * 10_007), Ok(part.len()));
            }
            return;
        }
        let mut part = vec![0; 30_000];
        let mut at = 0;
        while at < SIZE {
            let count = ok!(sys::pread(fd, &mut part, at));
            // What is below the size has been written.
            check!(part[..count].iter().enumerate().all(|(index, &byte)| byte == value(at + index)));
            at += count;
        }
    });
}

fn deep_and_wide_trees() {
    let top = new_dir();
    together(3, |index| {
        let mut path = format!("{top}/{index}");
        ok!(mkdir(&path, 0o755));
        for depth in 0..40 {
            (0..5).for_each(|number| put(&format!("{path}/f{number}"), path.as_bytes()));
            check_eq!(list(&path, 300).len(), 5);
            path = format!("{path}/d{depth}");
            ok!(mkdir(&path, 0o755));
        }
        while path.len() > top.len() + 2 {
            for name in list(&path, 4096) {
                ok!(unlink(&format!("{path}/{name}")));
            }
            ok!(rmdir(&path));
            path.truncate(path.rfind('/').unwrap_or(0));
        }
        for name in list(&path, 4096) {
            ok!(unlink(&format!("{path}/{name}")));
        }
    });
    check_eq!(list(&top, 4096), ["0", "1", "2"]);
}
