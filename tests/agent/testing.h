/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of launcher and agent share: a run directory of their own, children, and counts of
 * what must not be left over. */
#ifndef TESTS_AGENT_TESTING_H
#define TESTS_AGENT_TESTING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct testbed {
	char instance[32]; /* unique to this process, so that cgroups are, too */
	char run_dir[64];
	char bin_dir[256]; /* where the programs under test are */
};

/* Skips the whole test program (exit 77-free: prints why and exits 0) unless run by root. */
void testing_need_root(void);
void testbed_make(struct testbed *bed);
/* Removes the run directory and cgroups; fails when processes of the bed are left. */
void testbed_remove(struct testbed *bed);

/* fork+exec of bin_dir/argv[0]; stderr to run_dir/log/test.log. */
pid_t testing_spawn(const struct testbed *bed, char *const argv[]);
/* SIGNAL and wait; returns the wait status. */
int testing_end(pid_t pid, int signo);
/* The pid in a pid file, waiting for the file up to 5 s. */
pid_t testing_pid_file(const char *path);
bool testing_gone(pid_t pid); /* waits up to 5 s */

/* What may leak. */
struct leftovers {
	int mounts;    /* lines of /proc/self/mountinfo that name the run directory */
	int cgroups;   /* directories below fsb/INSTANCE, all hierarchies */
	int states;    /* directories in state/NAME that are a sandbox's */
	int processes; /* whose root or cgroup is the bed's */
};
struct leftovers testing_count(const struct testbed *bed, const char *agent);

/* printf-formatted command by system(3); the exit code. */
int testing_sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Polls every 2 ms for up to 10 s. */
#define wait_until(cond)                                                                           \
	({                                                                                         \
		bool wait__ok = false;                                                             \
		for (int wait__i = 0; wait__i < 5000 && !(wait__ok = (cond)); wait__i++)           \
			usleep(2000);                                                              \
		wait__ok;                                                                          \
	})

#endif
