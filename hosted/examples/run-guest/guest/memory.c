// SPDX-License-Identifier: MPL-2.0
//
// Walks through every memory call and compares results with Linux's. What holds here holds on this machine's own Linux first: the same source
// is built for it, and run.
//
// Whether an address can be read or written is asked by handing it to the kernel, which says EFAULT where it cannot.

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include "check.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#define MADV_KEEPONFORK 19
#endif

static size_t page;
static int zeros, scratch;
static const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS;

static int readable(const void *addr) {
    // /dev/null does not look at what it is given; a pipe does.
    int ends[2];
    if (pipe(ends) != 0) {
        return -1;
    }
    ssize_t count = write(ends[1], addr, 1);
    close(ends[0]);
    close(ends[1]);
    return count == 1;
}

static int writable(void *addr) {
    // The byte that is there, if it can be known; else any.
    char byte = readable(addr) ? *(volatile char *)addr : 0;
    return pwrite(scratch, &byte, 1, 0) == 1 && pread(scratch, addr, 1, 0) == 1;
}

static unsigned char *map(size_t pages, int prot) {
    void *addr = mmap(NULL, pages * page, prot, anonymous, -1, 0);
    check(addr != MAP_FAILED && (uintptr_t)addr % page == 0);
    return addr;
}

// Room for so many pages, with nothing in it.
static unsigned char *room(size_t pages) {
    unsigned char *addr = map(pages, PROT_NONE);
    check(munmap(addr, pages * page) == 0);
    return addr;
}

static void test_mmap(void) {
    unsigned char *addr = map(3, PROT_READ | PROT_WRITE);
    for (size_t i = 0; i < 3 * page; i++) {
        check(addr[i] == 0);
        addr[i] = i;
    }
    check(addr[page + 5] == (unsigned char)(page + 5));

    // A hint is taken where there is room, and is no more than a hint.
    unsigned char *place = room(4);
    check(mmap(place, page, PROT_READ, anonymous, -1, 0) == place);
    unsigned char *other = mmap(place, page, PROT_READ, anonymous, -1, 0);
    check(other != MAP_FAILED && other != place);
    check(munmap(other, page) == 0);
    check(munmap(place, page) == 0);

    // MAP_FIXED replaces, MAP_FIXED_NOREPLACE does not.
    check(mmap(addr + page, page, PROT_READ | PROT_WRITE, anonymous | MAP_FIXED, -1, 0) == addr + page);
    check(addr[page - 1] == (unsigned char)(page - 1) && addr[page] == 0 && addr[2 * page] == (unsigned char)(2 * page));
    refused(mmap(addr + page, page, PROT_READ, anonymous | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    refused(mmap(addr - page / 2, page, PROT_READ, anonymous | MAP_FIXED_NOREPLACE, -1, 0), EINVAL);
    place = room(1);
    check(mmap(place, page, PROT_READ, anonymous | MAP_FIXED_NOREPLACE, -1, 0) == place);
    check(munmap(place, page) == 0);

    // Numbers that are refused.
    refused(mmap(NULL, 0, PROT_READ, anonymous, -1, 0), EINVAL);
    refused(mmap(addr + 1, page, PROT_READ, anonymous | MAP_FIXED, -1, 0), EINVAL);
    refused(mmap(NULL, page, PROT_READ, MAP_ANONYMOUS, -1, 0), EINVAL);
    refused(mmap(NULL, page, PROT_READ, MAP_PRIVATE, -1, 0), EBADF);
    refused(mmap(NULL, (size_t)-1, PROT_READ, anonymous, -1, 0), ENOMEM);
    refused(mmap(NULL, (size_t)1 << 62, PROT_READ, anonymous, -1, 0), ENOMEM);

    // Each protection.
    for (int prot = 0; prot < 8; prot++) {
        unsigned char *one = map(1, prot);
        if (prot & PROT_READ) {
            check(readable(one));
        }
        check(writable(one) == !!(prot & PROT_WRITE) || prot == PROT_WRITE);
        if (prot == PROT_NONE) {
            check(!readable(one) && !writable(one));
        }
        check(munmap(one, page) == 0);
        check(!readable(one));
    }
    check(munmap(addr, 3 * page) == 0);
}

static void test_files(void) {
    char name[] = "run-guest-XXXXXX";
    int fd = mkstemp(name);
    check(fd >= 0);
    int reader = open(name, O_RDONLY);
    int writer = open(name, O_WRONLY);
    check(unlink(name) == 0);
    unsigned char *bytes = malloc(3 * page);
    for (size_t i = 0; i < 3 * page; i++) {
        bytes[i] = i % 251;
    }
    size_t size = 2 * page + 100;
    check(write(fd, bytes, size) == (ssize_t)size);

    // Private: its own bytes once written. What is behind the file's end in its last page is zero.
    unsigned char *own = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    check(own != MAP_FAILED && memcmp(own, bytes, size) == 0);
    check(own[size] == 0 && own[3 * page - 1] == 0);
    own[7] = 200;
    unsigned char byte;
    check(pread(fd, &byte, 1, 7) == 1 && byte == 7);
    // Discarded, it is the file's again.
    check(madvise(own, page, MADV_DONTNEED) == 0 && own[7] == 7);
    // From an offset.
    unsigned char *second = mmap(NULL, page, PROT_READ, MAP_PRIVATE, fd, page);
    check(second != MAP_FAILED && memcmp(second, bytes + page, page) == 0);
    refused(mmap(NULL, page, PROT_READ, MAP_PRIVATE, fd, 1), EINVAL);

    // Shared: both see it.
    unsigned char *shared = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    check(shared != MAP_FAILED);
    shared[9] = 201;
    check(pread(fd, &byte, 1, 9) == 1 && byte == 201);
    byte = 202;
    check(pwrite(fd, &byte, 1, 10) == 1 && shared[10] == 202);
    check(msync(shared, page, MS_SYNC) == 0);
    check(madvise(shared, page, MADV_DONTNEED) == 0 && shared[9] == 201);

    // How it was opened is what may be done with it.
    refused(mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0), EACCES);
    refused(mmap(NULL, page, PROT_READ, MAP_SHARED, writer, 0), EACCES);
    refused(mmap(NULL, page, PROT_READ, MAP_PRIVATE, writer, 0), EACCES);
    unsigned char *read_only = mmap(NULL, page, PROT_READ, MAP_SHARED, reader, 0);
    check(read_only != MAP_FAILED && read_only[9] == 201);
    refused(mprotect(read_only, page, PROT_READ | PROT_WRITE), EACCES);
    unsigned char *copy = mmap(NULL, page, PROT_READ, MAP_PRIVATE, reader, 0);
    check(mprotect(copy, page, PROT_READ | PROT_WRITE) == 0);
    copy[0] = 99;
    check(read_only[0] == 0);
    int ends[2];
    check(pipe(ends) == 0);
    refused(mmap(NULL, page, PROT_READ, MAP_PRIVATE, ends[0], 0), ENODEV);

    check(munmap(own, size) == 0 && munmap(second, page) == 0 && munmap(shared, page) == 0);
    check(munmap(read_only, page) == 0 && munmap(copy, page) == 0);
    close(ends[0]), close(ends[1]), close(fd), close(reader), close(writer);
    free(bytes);
}

static void test_munmap(void) {
    unsigned char *addr = map(5, PROT_READ | PROT_WRITE);
    memset(addr, 1, 5 * page);
    check(munmap(addr + page, page) == 0);
    check(addr[0] == 1 && !readable(addr + page) && addr[2 * page] == 1);
    check(munmap(addr, 5 * page) == 0);
    check(munmap(addr, 5 * page) == 0);
    refused(munmap(addr + 1, page), EINVAL);
    refused(munmap(addr, 0), EINVAL);
    refused(munmap((void *)-page, 2 * page), EINVAL);
    // A length is rounded up.
    addr = map(2, PROT_READ);
    check(munmap(addr, 1) == 0 && !readable(addr) && readable(addr + page));
    check(munmap(addr + page, page) == 0);
}

static void test_mprotect(void) {
    unsigned char *addr = map(4, PROT_READ | PROT_WRITE);
    memset(addr, 2, 4 * page);
    check(mprotect(addr + page, page, PROT_READ) == 0);
    check(writable(addr) && !writable(addr + page) && addr[page] == 2 && writable(addr + 2 * page));
    check(mprotect(addr + page, page, PROT_NONE) == 0);
    check(!readable(addr + page));
    check(mprotect(addr, 4 * page, PROT_READ | PROT_WRITE) == 0);
    check(addr[page] == 2 && writable(addr + page));
    refused(mprotect(addr + 1, page, PROT_READ), EINVAL);
    refused(mprotect(addr, page, 0x1000), EINVAL);
    check(mprotect(addr, 0, PROT_NONE) == 0 && addr[0] == 2);
    // Up to a hole, with what comes before it done.
    check(munmap(addr + 2 * page, page) == 0);
    refused(mprotect(addr, 4 * page, PROT_READ), ENOMEM);
    check(!writable(addr) && !writable(addr + page) && writable(addr + 3 * page));
    check(munmap(addr, 4 * page) == 0);
}

static void test_mremap(void) {
    unsigned char *place = room(16);
    unsigned char *addr = mmap(place, 2 * page, PROT_READ | PROT_WRITE, anonymous | MAP_FIXED, -1, 0);
    check(addr == place);
    memset(addr, 3, 2 * page);
    // In place, where there is room.
    check(mremap(addr, 2 * page, 4 * page, 0) == addr);
    check(addr[2 * page - 1] == 3 && addr[2 * page] == 0 && writable(addr + 4 * page - 1));
    check(mmap(place + 4 * page, page, PROT_READ, anonymous | MAP_FIXED, -1, 0) == place + 4 * page);
    refused(mremap(addr, 4 * page, 5 * page, 0), ENOMEM);
    // Smaller, in place.
    check(mremap(addr, 4 * page, 2 * page, 0) == addr);
    check(!readable(addr + 2 * page) && readable(addr + 4 * page));
    // Elsewhere.
    check(mmap(place + 2 * page, page, PROT_READ, anonymous | MAP_FIXED, -1, 0) == place + 2 * page);
    unsigned char *moved = mremap(addr, 2 * page, 6 * page, MREMAP_MAYMOVE);
    check(moved != MAP_FAILED && moved != addr && moved[0] == 3 && moved[2 * page] == 0 && !readable(addr));
    // To a fixed place, in place of what is there.
    check(mremap(moved, 6 * page, 3 * page, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place);
    check(place[2 * page - 1] == 3 && place[2 * page] == 0 && !readable(moved) && !readable(moved + 5 * page));
    check(!readable(place + 3 * page) && readable(place + 4 * page));
    // The old range stays, with nothing in it.
    moved = mremap(place, 2 * page, 2 * page, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    check(moved != MAP_FAILED && moved[5] == 3 && place[5] == 0 && writable(place));
    check(munmap(moved, 2 * page) == 0);
    // A second view of what is shared.
    unsigned char *shared = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned char *again = mremap(shared, 0, page, MREMAP_MAYMOVE);
    check(again != MAP_FAILED && again != shared);
    again[1] = 77;
    check(shared[1] == 77);
    refused(mremap(place, 0, page, MREMAP_MAYMOVE), EINVAL);

    refused(mremap(place + 1, page, page, MREMAP_MAYMOVE), EINVAL);
    refused(mremap(place, page, 0, MREMAP_MAYMOVE), EINVAL);
    refused(mremap(place, page, page, MREMAP_FIXED, place + 8 * page), EINVAL);
    refused(mremap(place, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, place), EINVAL);
    refused(mremap(place, 2 * page, 2 * page, MREMAP_MAYMOVE | MREMAP_FIXED, place + page), EINVAL);
    refused(mremap(place, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, place + 8 * page + 1), EINVAL);
    refused(mremap(place + 12 * page, page, 2 * page, MREMAP_MAYMOVE), EFAULT);
    refused(mremap(place + 2 * page, 4 * page, 8 * page, MREMAP_MAYMOVE), EFAULT);
    check(munmap(place, 16 * page) == 0);
    check(munmap(shared, page) == 0 && munmap(again, page) == 0);
}

static void test_brk(void) {
    unsigned char *start = sbrk(0);
    check(start != (void *)-1);
    check(brk(start + 3 * page) == 0 && sbrk(0) == start + 3 * page);
    unsigned char *first = (unsigned char *)(((uintptr_t)start + page - 1) / page * page);
    check(first[0] == 0 && writable(first + page));
    memset(first, 4, 2 * page);
    check(brk(start) == 0 && sbrk(0) == start);
    check(!readable(first + page));
    check(brk(start + 3 * page) == 0 && first[page] == 0);
    refused(brk((void *)((uintptr_t)1 << 60)), ENOMEM);
    check(sbrk(0) == start + 3 * page);
    check(brk(start) == 0);
}

static void test_madvise(void) {
    unsigned char *addr = map(4, PROT_READ | PROT_WRITE);
    memset(addr, 5, 4 * page);
    check(madvise(addr + page, page, MADV_DONTNEED) == 0);
    check(addr[page - 1] == 5 && addr[page] == 0 && addr[2 * page - 1] == 0 && addr[2 * page] == 5);
    check(madvise(addr, 4 * page, MADV_RANDOM) == 0 && madvise(addr, 4 * page, MADV_NORMAL) == 0);
    refused(madvise(addr + 1, page, MADV_DONTNEED), EINVAL);
    refused(madvise(addr, page, 999), EINVAL);
    check(madvise(addr, 0, MADV_DONTNEED) == 0);
    check(madvise(addr, page, MADV_WIPEONFORK) == 0 && madvise(addr, page, MADV_KEEPONFORK) == 0);
    check(munmap(addr + 2 * page, page) == 0);
    refused(madvise(addr, 4 * page, MADV_DONTNEED), ENOMEM);
    check(addr[0] == 0 && addr[3 * page] == 0);
    unsigned char *shared = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    refused(madvise(shared, page, MADV_WIPEONFORK), EINVAL);
    check(munmap(shared, page) == 0 && munmap(addr, 4 * page) == 0);
}

static void test_segments(void) {
    int id = shmget(IPC_PRIVATE, 2 * page, IPC_CREAT | 0600);
    check(id >= 0);
    unsigned char *one = shmat(id, NULL, 0);
    unsigned char *two = shmat(id, NULL, SHM_RDONLY);
    check(one != (void *)-1 && two != (void *)-1 && one != two);
    one[page] = 88;
    check(two[page] == 88 && !writable(two));
    refused(shmat(id, one, 0), EINVAL);
    refused(shmat(id, one + 1, 0), EINVAL);
    refused(shmdt(one + page), EINVAL);
    check(shmdt(one) == 0 && !readable(one) && two[page] == 88);
    refused(shmdt(one), EINVAL);
    check(shmdt(two) == 0);
    check(shmctl(id, IPC_RMID, NULL) == 0);
}

// A function that returns `value`, in the machine's own code.
static void write_function(unsigned char *at, int value) {
#if defined(__x86_64__)
    unsigned char code[] = {0xb8, value, 0, 0, 0, 0xc3};
#elif defined(__aarch64__)
    uint32_t code[] = {0x52800000u | (uint32_t)value << 5, 0xd65f03c0u};
#elif defined(__riscv)
    uint32_t code[] = {0x00000513u | (uint32_t)value << 20, 0x00008067u};
#endif
    memcpy(at, code, sizeof code);
    __builtin___clear_cache((char *)at, (char *)at + sizeof code);
}

static int call(unsigned char *at) {
    int (*function)(void);
    memcpy(&function, &at, sizeof function);
    return function();
}

// Code that was run, and then is other code.
static void test_code(void) {
    int all = PROT_READ | PROT_WRITE | PROT_EXEC;
    unsigned char *addr = map(1, all);
    for (int value = 1; value < 20; value++) {
        write_function(addr, value);
        check(call(addr) == value);
    }
    // Written while it could not be run.
    check(mprotect(addr, page, PROT_READ | PROT_WRITE) == 0);
    write_function(addr, 21);
    check(mprotect(addr, page, PROT_READ | PROT_EXEC) == 0);
    check(call(addr) == 21);
    // Replaced by a mapping of other code.
    unsigned char *other = map(1, PROT_READ | PROT_WRITE);
    write_function(other, 22);
    check(mprotect(other, page, PROT_READ | PROT_EXEC) == 0);
    check(mremap(other, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, addr) == addr);
    check(call(addr) == 22);
    // Unmapped, and mapped anew.
    check(munmap(addr, page) == 0);
    check(mmap(addr, page, all, anonymous | MAP_FIXED, -1, 0) == addr);
    write_function(addr, 23);
    check(call(addr) == 23);
    // Through another view of the same memory.
    char name[] = "run-guest-XXXXXX";
    int fd = mkstemp(name);
    check(fd >= 0 && unlink(name) == 0 && ftruncate(fd, page) == 0);
    unsigned char *view = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    write_function(view, 24);
    check(mmap(addr, page, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, 0) == addr);
    check(call(addr) == 24);
    // Read from a file into memory that is executed.
    check(mmap(addr, page, all, anonymous | MAP_FIXED, -1, 0) == addr);
    for (int value = 25; value < 30; value++) {
        write_function(view, value);
        check(pread(fd, addr, 16, 0) == 16);
        __builtin___clear_cache((char *)addr, (char *)addr + 16);
        check(call(addr) == value);
    }
    check(munmap(view, page) == 0 && munmap(addr, page) == 0);
    close(fd);
}

// Many mappings at once, each with its own protection.
static void test_many(void) {
    enum { COUNT = 200 };
    unsigned char *place = room(COUNT);
    for (int i = 0; i < COUNT; i++) {
        int prot = i % 3 == 0 ? PROT_READ : i % 3 == 1 ? PROT_READ | PROT_WRITE : PROT_NONE;
        check(mmap(place + i * page, page, prot, anonymous | MAP_FIXED, -1, 0) == place + i * page);
    }
    for (int i = 0; i < COUNT; i += 7) {
        check(readable(place + i * page) == (i % 3 != 2));
        check(writable(place + i * page) == (i % 3 == 1));
    }
    check(mprotect(place, COUNT * page, PROT_READ | PROT_WRITE) == 0);
    memset(place, 6, COUNT * page);
    check(munmap(place, COUNT * page) == 0);
}

int main(void) {
    page = sysconf(_SC_PAGESIZE);
    zeros = open("/dev/zero", O_RDONLY);
    char name[] = "run-guest-XXXXXX";
    scratch = mkstemp(name);
    check(zeros >= 0 && scratch >= 0 && unlink(name) == 0);
    unsigned char *zero = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE, zeros, 0);
    check(zero != MAP_FAILED && zero[0] == 0 && writable(zero) && munmap(zero, page) == 0);
    test_mmap();
    test_files();
    test_munmap();
    test_mprotect();
    test_mremap();
    test_brk();
    test_madvise();
    test_segments();
    test_code();
    test_many();
    return finish("memory");
}
