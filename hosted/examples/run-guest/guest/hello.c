// SPDX-License-Identifier: MPL-2.0
//
// Says what it was given, and ends with the number of its arguments.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
    printf("hello from %s\n", argv[0]);
    for (int i = 1; i < argc; i++) {
        printf("argument %d: %s\n", i, argv[i]);
    }
    volatile double two = 2;
    printf("the root of two is %.6f\n", sqrt(two));
    const char *greeting = getenv("GREETING");
    fprintf(stderr, "%s\n", greeting ? greeting : "(no greeting)");
    char *text = malloc(32);
    snprintf(text, 32, "page size %ld", sysconf(_SC_PAGESIZE));
    puts(text);
    free(text);
    return argc - 1;
}
