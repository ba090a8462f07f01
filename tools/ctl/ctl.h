/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every fsb-ctl command has: where to connect to, the memory of the command, and calls with
 * the common deadline. A command is a row of a table: options, positionals, help and function;
 * main.c finds it and parses for it.
 */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/gclient.h"
#include "base/opt.h"
#include "base/pb.h"

#include "mem.h"

struct ctl {
	char endpoint[256];
	char ns[256]; /* "" means all namespaces where a command can do that */
	bool ns_set;  /* given by flag, environment or file */
	uint64_t timeout_ns;
	bool timeout_set;
	bool verbose;
	struct mem mem;
	struct gloop *loop; /* NULL until the first call */
	struct gchannel *channel;
};

/* Exit statuses of commands beside 0. */
enum { CTL_FAILED = 1, CTL_USAGE = 2 };

struct ctl_command {
	const char *name;
	const char *alias;   /* may be NULL */
	const char *args;    /* positionals, as usage shows them */
	const char *summary; /* one line */
	const struct opt *opts;
	const char *epilog;
	int min_pos, max_pos; /* max_pos -1: any number */
	/* The positional with this index starts a verbatim command: options after it are the
	 * command's. -1: none. */
	int verbatim_from;
	/*
	 * 0; a positive exit status when the command has said itself what failed; or negative errno
	 * with err set, where -EINVAL means wrong usage. pos[0] is the first positional.
	 */
	int (*run)(struct ctl *ctl, int npos, char **pos, struct err *err);
};

extern const struct ctl_command ctl_cmd_run, ctl_cmd_batch;
extern const struct ctl_command ctl_cmd_list, ctl_cmd_get;
extern const struct ctl_command ctl_cmd_delete, ctl_cmd_update, ctl_cmd_reset;
extern const struct ctl_command ctl_cmd_logs, ctl_cmd_wait;
extern const struct ctl_command ctl_cmd_image, ctl_cmd_agents, ctl_cmd_pools, ctl_cmd_stats;
extern const struct ctl_command ctl_cmd_health, ctl_cmd_arena;

/* Opens ctl->channel (the connection itself is made by the first call). */
int ctl_connect(struct ctl *ctl, struct err *err);
void ctl_done(struct ctl *ctl);

/* One unary call with the common deadline; *ret_arena owns *ret_reply. Failures read "NOT_FOUND:
 * …". */
int ctl_call(struct ctl *ctl, const char *path, const ProtobufCMessage *request,
	     const ProtobufCMessageDescriptor *reply, struct pb_arena **ret_arena,
	     ProtobufCMessage **ret_reply, struct err *err);

/* The namespace of a command about one sandbox: "" is refused there. */
int ctl_one_namespace(const struct ctl *ctl, struct err *err);

/* The row of -o in a command's option table. The first of the values is the default. */
#define CTL_OUTPUT_OPT(values, first, where)                                                       \
	{                                                                                          \
		.name = "output", .letter = 'o', .kind = OPT_STRING, .arg = (values),              \
		.help = "what to print", .def = (first), .string = (where)                         \
	}

/* -o text|json|yaml: checks the value against the space-separated list. */
int ctl_check_output(const char *value, const char *allowed, struct err *err);

static inline void ctl_pb_freep(struct pb_arena **arena)
{
	*arena = (struct pb_arena *)pb_free(*arena);
}
#define cleanup_pb __attribute__((cleanup(ctl_pb_freep)))

#endif
