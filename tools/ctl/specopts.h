/* SPDX-License-Identifier: Apache-2.0 */
/* The options that say what a sandbox is, the same for run and batch, and how file and flags become
 * one run_spec. */
#ifndef CTL_SPECOPTS_H
#define CTL_SPECOPTS_H

#include "base/opt.h"

#include "mem.h"
#include "specfile.h"

struct spec_flags {
	const char *file, *image, *pool, *ports, *working_dir, *network, *expire, *policy,
		*request_id;
	bool pool_set;
	struct opt_list envs, labels, resources;
	int64_t recovery_s;
	bool recovery_set;
};

/* clang-format off */
#define SPEC_OPTS(f)                                                                               \
	{.name = "file", .letter = 'f', .kind = OPT_STRING, .arg = "YAML",                         \
	 .help = "read the sandbox from this file; flags win over it", .string = &(f).file},       \
	{.name = "image", .kind = OPT_STRING, .arg = "REF", .help = "image reference",             \
	 .string = &(f).image},                                                                    \
	{.name = "pool", .kind = OPT_STRING, .arg = "POOL", .help = "pool; default: default-pool", \
	 .string = &(f).pool, .ret_set = &(f).pool_set},                                           \
	{.name = "ports", .kind = OPT_STRING, .arg = "P,...", .help = "exposed ports",             \
	 .string = &(f).ports},                                                                    \
	{.name = "env", .letter = 'e', .kind = OPT_LIST, .arg = "K=V",                             \
	 .help = "environment variable (repeatable)", .list = &(f).envs},                          \
	{.name = "label", .letter = 'l', .kind = OPT_LIST, .arg = "K=V",                           \
	 .help = "label (repeatable)", .list = &(f).labels},                                       \
	{.name = "resource", .kind = OPT_LIST, .arg = "K=Q",                                       \
	 .help = "cpu, memory or pids limit as a Kubernetes quantity (repeatable)",                \
	 .list = &(f).resources},                                                                  \
	{.name = "workdir", .letter = 'w', .kind = OPT_STRING, .arg = "DIR",                       \
	 .help = "working directory in the sandbox", .string = &(f).working_dir},                  \
	{.name = "network", .kind = OPT_STRING, .arg = "none|shared",                              \
	 .help = "network; default: the agent's", .string = &(f).network},                         \
	{.name = "expire", .kind = OPT_STRING, .arg = "TIME",                                      \
	 .help = "stop then: Unix seconds, RFC 3339, or from now: 90s, 10m, 2h, 1d",               \
	 .string = &(f).expire},                                                                   \
	{.name = "failure-policy", .kind = OPT_STRING, .arg = "P",                                 \
	 .help = "manual or autorecreate", .string = &(f).policy},                                 \
	{.name = "recovery-timeout", .kind = OPT_INT, .arg = "S",                                  \
	 .help = "seconds before a lost sandbox is re-created", .min = 0, .max = INT32_MAX,        \
	 .number = &(f).recovery_s, .ret_set = &(f).recovery_set},                                 \
	{.name = "request-id", .kind = OPT_STRING, .arg = "ID",                                    \
	 .help = "a repeat with the same id returns the first result", .string = &(f).request_id}
/* clang-format on */

/* File first, then the flags that are set; words (may be empty) replace command and args. Refuses a
 * spec without an image. */
int spec_collect(const struct spec_flags *flags, int n_words, char **words, struct mem *mem,
		 struct run_spec *ret, struct err *err);

#endif
