/* SPDX-License-Identifier: Apache-2.0 */
/* A process's identity that survives pid reuse: pid and start time (field 22 of /proc/PID/stat,
 * clock ticks since boot). */
#ifndef BASE_PROCID_H
#define BASE_PROCID_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct procid {
	int32_t pid;
	uint64_t start_ticks;
};

/* 0, -ESRCH when there is no such process (a zombie counts as gone), or another negative errno. */
int procid_of(pid_t pid, struct procid *ret);
/* The process still exists and is the same one. */
bool procid_alive(const struct procid *id);

#endif
