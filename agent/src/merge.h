/* SPDX-License-Identifier: Apache-2.0 */
/* From a sandbox's spec and its image's configuration to what the launcher runs. Pure: no files, no
 * state. */
#ifndef AGENT_MERGE_H
#define AGENT_MERGE_H

#include "image.h"
#include "launcher.pb-c.h"

struct merge_defaults {
	bool shared_network;
	bool disk_layer; /* the writable layer is on disk, not in memory */
	int64_t memory_bytes, cpu_milli, pids;
};

/* Checks what can be checked without the image. 0 or -EINVAL with a sentence that names the value.
 */
int merge_check_spec(const Fsb__V1__SandboxSpec *spec, struct err *err);

/*
 * Fills start's layers, argv, env, cwd, user, network and limits. The arrays are allocated
 * (merge_done), their strings borrow from spec and image except the environment's. -EINVAL: neither
 * names a command, or as merge_check_spec.
 */
int merge_start(const Fsb__V1__SandboxSpec *spec, const char *hostname, const struct image *image,
		const struct merge_defaults *defaults, Fsb__Launcher__V1__Start *start,
		struct err *err);
void merge_done(Fsb__Launcher__V1__Start *start);

#endif
