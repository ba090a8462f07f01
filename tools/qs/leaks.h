/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What sandboxes of an instance have left behind, counted from /proc, mount tables, the cgroup tree
 * and the run directory, and from nothing that fsb itself keeps in its books.
 */
#ifndef QS_LEAKS_H
#define QS_LEAKS_H

#include <stdbool.h>

struct leaks {
	int processes; /* in a cgroup of the instance */
	int mounts;    /* that name the run directory, each mount namespace counted once */
	int cgroups;
	int files; /* sandbox directories; when stopped anything in the run directory, and the arena
		    */
};

/*
 * stopped: the whole stack is down, so its own processes, cgroups and files count, too. Each find
 * is described by one line on stderr (the first 20).
 */
void leaks_count(const char *instance, const char *run_dir, bool stopped, struct leaks *ret);
int leaks_total(const struct leaks *leaks);

#endif
