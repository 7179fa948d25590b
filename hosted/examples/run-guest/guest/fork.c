// SPDX-License-Identifier: MPL-2.0
//
// Memory across fork: copied, shared, wiped.

#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

int main(void) {
    size_t page = sysconf(_SC_PAGESIZE);
    unsigned char *own = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *shared = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(own != MAP_FAILED && shared != MAP_FAILED);
    memset(own, 1, 3 * page);
    check(madvise(own + page, page, MADV_WIPEONFORK) == 0);
    int ends[2];
    check(pipe(ends) == 0);
    for (int round = 0; round < 5; round++) {
        fflush(stdout);
        pid_t child = fork();
        check(child >= 0);
        if (child == 0) {
            check(own[0] == 1 && own[page] == 0 && own[2 * page - 1] == 0 && own[2 * page] == 1);
            own[0] = 2;
            shared[round] = round + 1;
            // The child's memory is its own to map.
            unsigned char *more = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            check(more != MAP_FAILED && more[0] == 0 && munmap(own + 2 * page, page) == 0);
            char *text = malloc(100000);
            strcpy(text, "from the child");
            check(write(ends[1], text, 15) == 15);
            fflush(stdout);
            _exit(failures ? 1 : 40 + round);
        }
        char text[16];
        check(read(ends[0], text, 15) == 15 && strcmp(text, "from the child") == 0);
        int status;
        check(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 40 + round);
        check(own[0] == 1 && own[page] == 1 && own[2 * page] == 1 && shared[round] == round + 1);
    }
    return finish("fork");
}
