/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The YAML file of "run -f" and "batch -f". fast-sandbox's keys: image, pool_ref, consistency_mode,
 * command, args, exposed_ports, envs, working_dir. Ours: resources, labels, expire, failure_policy,
 * recovery_timeout_seconds, request_id, network.
 */
#ifndef CTL_SPECFILE_H
#define CTL_SPECFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#include "mem.h"

/* What a user asks for, before it becomes a message. Strings are never NULL after spec_init. */
struct run_spec {
	const char *image, *pool, *working_dir, *network, *request_id;
	bool strong, mode_set;
	struct strv command, args;
	struct i32v ports;
	struct kv envs, labels, resources;
	int64_t expire_unix_s;
	bool auto_recreate;
	int32_t recovery_timeout_s;
};

void spec_init(struct run_spec *spec);

/* 0, or -EINVAL with "FILE:LINE: what is wrong". Strings live in mem. */
int specfile_load(const char *path, struct mem *mem, struct run_spec *spec, struct err *err);
/* The same on text; name stands for the file in messages. */
int specfile_parse(const char *name, const char *text, size_t len, struct mem *mem,
		   struct run_spec *spec, struct err *err);

/* "fast" or "strong"; what names the place in the message. */
int spec_parse_mode(const char *what, const char *text, bool *ret_strong, struct err *err);
/* manual, autorecreate, auto-recreate, auto; any case. */
int spec_parse_policy(const char *what, const char *text, bool *ret_auto, struct err *err);

#endif
