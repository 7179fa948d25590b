// SPDX-License-Identifier: MPL-2.0
//
// malloc, calloc, realloc and free in random order, small and large, with every byte checked.

#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>

#include "check.h"

enum { SLOTS = 256, ROUNDS = 12000 };

static unsigned char *blocks[SLOTS];
static size_t sizes[SLOTS];
static unsigned char marks[SLOTS];

static uint32_t state = 12345;

static uint32_t next(void) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static size_t some_size(void) {
    switch (next() % 64) {
    case 0:
        return next() % (1 << 21);
    case 1:
    case 2:
    case 3:
        return next() % (1 << 17);
    default:
        return next() % 2000;
    }
}

// Looks at the first and last bytes, and at one in each page.
static void check_block(int at, size_t size) {
    for (size_t i = 0; i < size; i += i < 64 || i + 64 >= size ? 1 : (i + 4096 + 64 < size ? 4096 : size - 64 - i)) {
        if (blocks[at][i] != marks[at]) {
            check(!"a byte is not what was written");
            return;
        }
    }
}

int main(void) {
    for (int round = 0; round < ROUNDS; round++) {
        int at = next() % SLOTS;
        size_t size = some_size();
        if (blocks[at] == NULL) {
            if (next() % 2) {
                blocks[at] = calloc(size, 1);
                marks[at] = 0;
                sizes[at] = size;
                check(blocks[at] != NULL);
                check_block(at, size);
            } else {
                blocks[at] = malloc(size);
                check(blocks[at] != NULL);
            }
        } else {
            check_block(at, sizes[at]);
            if (next() % 3 == 0) {
                free(blocks[at]);
                blocks[at] = NULL;
                continue;
            }
            unsigned char *moved = realloc(blocks[at], size ? size : 1);
            check(moved != NULL);
            blocks[at] = moved;
            check_block(at, size < sizes[at] ? size : sizes[at]);
        }
        sizes[at] = size;
        marks[at] = next();
        memset(blocks[at], marks[at], size);
    }
    for (int at = 0; at < SLOTS; at++) {
        if (blocks[at]) {
            check_block(at, sizes[at]);
        }
        free(blocks[at]);
    }
    malloc_trim(0);
    void *aligned = NULL;
    check(posix_memalign(&aligned, 1 << 16, 100) == 0 && (uintptr_t)aligned % (1 << 16) == 0);
    free(aligned);
    // More than there are addresses.
    void *volatile huge = malloc(SIZE_MAX / 4);
    check(huge == NULL && errno == ENOMEM);
    return finish("malloc");
}
