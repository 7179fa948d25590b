// SPDX-License-Identifier: MPL-2.0
//
// Files through stdio: written, read, searched, listed, removed.

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

int main(void) {
    char folder[] = "run-guest-XXXXXX";
    check(mkdtemp(folder) != NULL);
    char path[64];
    snprintf(path, sizeof path, "%s/numbers", folder);
    FILE *file = fopen(path, "w+");
    check(file != NULL);
    for (int i = 0; i < 5000; i++) {
        fprintf(file, "%d %.3f\n", i, i / 8.0);
    }
    check(fflush(file) == 0);
    struct stat found;
    check(stat(path, &found) == 0 && S_ISREG(found.st_mode) && found.st_size == ftell(file));
    check((found.st_mode & 0777) == (0666 & ~umask(022)));
    rewind(file);
    int lines = 0, number;
    double eighth;
    while (fscanf(file, "%d %lf", &number, &eighth) == 2) {
        check(number == lines && eighth == lines / 8.0);
        lines++;
    }
    check(lines == 5000);
    check(fseek(file, -10, SEEK_END) == 0);
    char tail[16];
    check(fgets(tail, sizeof tail, file) && strstr("4999 624.875\n", tail) != NULL);
    fclose(file);

    DIR *dir = opendir(folder);
    check(dir != NULL);
    int entries = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        entries += strcmp(entry->d_name, "numbers") == 0;
    }
    check(entries == 1);
    closedir(dir);

    char other[64];
    snprintf(other, sizeof other, "%s/link", folder);
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    check(fd == -1 && errno == ENOTDIR);
    fd = open(folder, O_RDONLY | O_DIRECTORY);
    check(fd >= 0);
    int more = dup(fd);
    check(more > fd && close(more) == 0 && close(fd) == 0);
    refused(close(fd), EBADF);
    refused(open(other, O_RDONLY), ENOENT);
    check(unlink(path) == 0);
    check(rmdir(folder) == 0);
    refused(access(folder, F_OK), ENOENT);
    // Pointers to nothing.
    char *volatile nothing = (char *)16;
    int zero = open("/dev/zero", O_RDONLY);
    int ends[2];
    check(zero >= 0 && pipe(ends) == 0);
    refused(write(ends[1], nothing, 10), EFAULT);
    refused(read(zero, nothing, 10), EFAULT);
    return finish("stdio");
}
