/* SPDX-License-Identifier: Apache-2.0 */
/* A worker process: attaches the arena, serves the connections that the master passes, until
 * SIGTERM or the master's end. */
#ifndef FASTPATH_WORKER_H
#define FASTPATH_WORKER_H

#include <sys/types.h>

#include "options.h"

enum {
	FP_EXIT_OK = 0,
	FP_EXIT_FAILED = 1,
	FP_EXIT_USAGE = 2,
	FP_EXIT_ARENA = 3, /* no arena within the time, or it was replaced: attach again */
};

/* What a worker tells its master, one byte each: pass connections, pass no more. */
#define FP_SAYS_READY	 "r"
#define FP_SAYS_DRAINING "d"

/* sock: where connections come from, and where the worker says how it is. Returns the exit code. */
int fp_worker_main(const struct fp_options *opts, int index, pid_t master, int sock);

#endif
