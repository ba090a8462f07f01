/* SPDX-License-Identifier: Apache-2.0 */
/* The life of one crdsync: attach, open, load, write until told to stop. */
#ifndef CRDSYNC_CRDSYNC_H
#define CRDSYNC_CRDSYNC_H

#include <signal.h>

struct crdsync_options {
	const char *arena; /* path */
	const char *store; /* URL */
};

/* Set by a signal handler to end the run. */
extern volatile sig_atomic_t crdsync_stop;

enum {
	CRDSYNC_EXIT_OK = 0,
	CRDSYNC_EXIT_FAILED = 1,
	CRDSYNC_EXIT_USAGE = 2, /* also a store that can't be used as it is */
	CRDSYNC_EXIT_ARENA = 3, /* no arena, or it was replaced: start again */
};

/* Returns the exit code; has logged why. */
int crdsync_run(const struct crdsync_options *options);

#endif
