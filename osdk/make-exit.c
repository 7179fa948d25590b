/* SPDX-License-Identifier: MPL-2.0
 *
 * A function for GNU make: $(exit-as FILE) ends make with the status that FILE holds.
 *
 * make itself can only end with 0, 1 or 2, whatever the command it ran ended with. `make run CMD='...'` promises
 * the command's own status, so the Makefile loads this ("Loading Dynamic Objects" in make's manual). Where it
 * cannot be built, make reports the status as it always does and ends with 2.
 */
#include <gnumake.h>
#include <stdio.h>
#include <stdlib.h>

int plugin_is_GPL_compatible;

static char *exit_as(const char *name, unsigned int argc, char **argv)
{
    int status;
    FILE *file = fopen(argv[0], "r");

    (void)name;
    (void)argc;
    if (file && fscanf(file, "%d", &status) == 1)
        exit(status);
    if (file)
        fclose(file);
    return NULL;
}

int make_exit_gmk_setup(void);

int make_exit_gmk_setup(void)
{
    gmk_add_function("exit-as", exit_as, 1, 1, GMK_FUNC_DEFAULT);
    return 1;
}
