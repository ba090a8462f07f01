/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delete: one sandbox over fastpath.v1 as fast-sandbox does it; with --wait, --grace, --all or
 * several names over fsb.v1, many calls in flight at once.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"
#include "msg.h"
#include "text.h"

static struct {
	bool all, wait, grace_set;
	int64_t grace_s;
} flags;

static const struct opt opts[] = {
	{.name = "all",
	 .kind = OPT_FLAG,
	 .help = "every sandbox of the namespace; with -n \"\" of all",
	 .flag = &flags.all},
	{.name = "wait",
	 .kind = OPT_FLAG,
	 .help = "return when everything of it is gone",
	 .flag = &flags.wait},
	{.name = "grace",
	 .kind = OPT_INT,
	 .arg = "S",
	 .help = "seconds between TERM and KILL; -1: KILL at once; default: 10",
	 .min = -1,
	 .max = 86400,
	 .number = &flags.grace_s,
	 .ret_set = &flags.grace_set},
	{.name = NULL},
};

static int delete_one(struct ctl *ctl, char *name, struct err *err)
{
	cleanup_pb struct pb_arena *arena = NULL;
	Fastpath__V1__DeleteRequest request = FASTPATH__V1__DELETE_REQUEST__INIT;
	ProtobufCMessage *msg = NULL;
	int rc;

	request.sandbox_name = name;
	request.namespace_ = ctl->ns;
	rc = ctl_call(ctl, FASTPATH_V1 "DeleteSandbox", &request.base,
		      &fastpath__v1__delete_response__descriptor, &arena, &msg, err);
	if (!rc)
		printf("Sandbox %s deletion triggered\n", name);
	return rc;
}

/* ---- many ---- */

enum { MAX_IN_FLIGHT = 64 };

struct many {
	struct ctl *ctl;
	struct strv names, spaces;
	size_t next, done, failed;
};

struct many_call {
	struct many *many;
	size_t index;
};

static void on_deleted(void *arg, const struct gresult *result, const ProtobufCMessage *reply)
{
	const struct many_call *call = arg;
	struct many *many = call->many;
	const char *name = many->names.items[call->index];

	many->done++;
	if (result->status == G_OK) {
		printf("Sandbox %s %s\n", name, flags.wait ? "deleted" : "deletion triggered");
	} else if (result->status != G_NOT_FOUND || !flags.all) {
		many->failed++;
		(void)fprintf(stderr, "Error: %s: %s: %s\n", name, gstatus_name(result->status),
			      result->message);
	}
}

static int start_delete(struct many *many, size_t index, struct err *err)
{
	Fsb__V1__DeleteSandboxRequest request = FSB__V1__DELETE_SANDBOX_REQUEST__INIT;
	struct many_call *call = mem_alloc(&many->ctl->mem, sizeof(*call));

	*call = (struct many_call){.many = many, .index = index};
	request.name = many->names.items[index];
	request.namespace_ = many->spaces.items[index];
	request.grace_seconds = flags.grace_set ? (int32_t)flags.grace_s : 0;
	request.wait = flags.wait;
	if (!gclient_unary(many->ctl->channel, FSB_V1 "Delete", &request.base,
			   &fsb__v1__delete_sandbox_response__descriptor, many->ctl->timeout_ns,
			   on_deleted, call))
		return err_set(err, -ENOMEM, "out of memory");
	return 0;
}

static int delete_many(struct many *many, struct err *err)
{
	int rc = ctl_connect(many->ctl, err);

	while (!rc && many->done < many->names.n) {
		while (!rc && many->next < many->names.n && many->next - many->done < MAX_IN_FLIGHT)
			rc = start_delete(many, many->next++, err);
		(void)gloop_poll(many->ctl->loop, 1000);
	}
	if (rc)
		return rc;
	return many->failed ? CTL_FAILED : 0;
}

static int find_all(struct many *many, struct err *err)
{
	cleanup_pb struct pb_arena *arena = NULL;
	struct ctl *ctl = many->ctl;
	Fsb__V1__ListSandboxesRequest request = FSB__V1__LIST_SANDBOXES_REQUEST__INIT;
	const Fsb__V1__ListSandboxesResponse *reply;
	ProtobufCMessage *msg = NULL;
	int rc;

	request.namespace_ = ctl->ns;
	rc = ctl_call(ctl, FSB_V1 "List", &request.base,
		      &fsb__v1__list_sandboxes_response__descriptor, &arena, &msg, err);
	if (rc)
		return rc;
	reply = (const Fsb__V1__ListSandboxesResponse *)msg;
	for (size_t i = 0; i < reply->n_items; i++) {
		strv_add(&ctl->mem, &many->names, mem_strdup(&ctl->mem, reply->items[i]->name));
		strv_add(&ctl->mem, &many->spaces,
			 mem_strdup(&ctl->mem, reply->items[i]->namespace_));
	}
	return 0;
}

static int delete_sandboxes(struct ctl *ctl, int npos, char **pos, struct err *err)
{
	struct many many = {.ctl = ctl};
	int rc;

	if (flags.all == (npos > 0))
		return err_set(err, -EINVAL, "give either names or --all");
	if (flags.all) {
		rc = find_all(&many, err);
		return rc ? rc : delete_many(&many, err);
	}
	rc = ctl_one_namespace(ctl, err);
	if (rc)
		return rc;
	if (npos == 1 && !flags.wait && !flags.grace_set)
		return delete_one(ctl, pos[0], err);
	for (int i = 0; i < npos; i++) {
		strv_add(&ctl->mem, &many.names, pos[i]);
		strv_add(&ctl->mem, &many.spaces, ctl->ns);
	}
	return delete_many(&many, err);
}

const struct ctl_command ctl_cmd_delete = {
	.name = "delete",
	.alias = "rm",
	.args = "NAME...",
	.summary = "stop and remove sandboxes",
	.opts = opts,
	.max_pos = -1,
	.verbatim_from = -1,
	.run = delete_sandboxes,
};
