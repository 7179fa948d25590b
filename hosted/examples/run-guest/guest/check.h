// SPDX-License-Identifier: MPL-2.0
//
// What the programs check with: a failure is told with its line, and the status is the number of failures.

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int failures;

#define check(condition)                                                                                              \
    do {                                                                                                              \
        if (!(condition)) {                                                                                           \
            printf("%s:%d: %s (errno %d, %s)\n", __FILE__, __LINE__, #condition, errno, strerror(errno));             \
            failures++;                                                                                               \
        }                                                                                                             \
    } while (0)

// The call fails, with this errno.
#define refused(call, number)                                                                                         \
    do {                                                                                                              \
        errno = 0;                                                                                                    \
        long result_ = (long)(call);                                                                                  \
        if (result_ != -1 || errno != (number)) {                                                                     \
            printf("%s:%d: %s gave %#lx, errno %d (%s) and not %s\n", __FILE__, __LINE__, #call, result_, errno,      \
                   strerror(errno), #number);                                                                         \
            failures++;                                                                                               \
        }                                                                                                             \
    } while (0)

static int finish(const char *name) {
    if (failures == 0) {
        printf("%s: all is well\n", name);
    }
    fflush(stdout);
    return failures != 0;
}
