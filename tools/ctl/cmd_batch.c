/* SPDX-License-Identifier: Apache-2.0 */
/* batch: many sandboxes from one spec in one call; members are shown as they start. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "ctl.h"
#include "members.h"
#include "msg.h"
#include "specopts.h"
#include "text.h"

static struct {
	struct spec_flags spec;
	const char *name, *mode, *consistency, *members, *output;
	bool consistency_set, count_set, wait_stored;
	int64_t count;
} flags;

static const struct opt opts[] = {
	{.name = "count",
	 .letter = 'c',
	 .kind = OPT_INT,
	 .arg = "N",
	 .help = "how many; default: as many as --members has, else 1",
	 .min = 1,
	 .max = 10000,
	 .number = &flags.count,
	 .ret_set = &flags.count_set},
	{.name = "name",
	 .kind = OPT_STRING,
	 .arg = "NAME",
	 .help = "members are NAME-0, NAME-1, ...; default: batch-<time>",
	 .string = &flags.name},
	{.name = "mode",
	 .kind = OPT_STRING,
	 .arg = "all|partial",
	 .help = "all: either all members start or none stays",
	 .def = "all",
	 .string = &flags.mode},
	{.name = "members",
	 .kind = OPT_STRING,
	 .arg = "FILE",
	 .help = "JSON lines with a member's own command, args and envs",
	 .string = &flags.members},
	SPEC_OPTS(flags.spec),
	{.name = "consistency",
	 .kind = OPT_STRING,
	 .arg = "fast|strong",
	 .help = "strong: in the store before they start",
	 .string = &flags.consistency,
	 .ret_set = &flags.consistency_set},
	{.name = "wait-stored",
	 .kind = OPT_FLAG,
	 .help = "return when the store has all of them",
	 .flag = &flags.wait_stored},
	CTL_OUTPUT_OPT("text|json", "text", &flags.output),
	{.name = NULL},
};

struct batch {
	int requested, started, failed;
	bool json, progress;
	char name[256];
	uint64_t began_ns, took_ns, reserve_ns;
	json_t *members;
};

static void show_progress(const struct batch *b)
{
	if (b->progress)
		(void)fprintf(stderr, "\r%d of %d started, %d failed ", b->started, b->requested,
			      b->failed);
}

static void end_progress(const struct batch *b)
{
	if (b->progress && b->started + b->failed)
		(void)fputc('\n', stderr);
}

static json_t *json_member(const Fsb__V1__BatchMember *m)
{
	json_t *object = json_pack("{s:i,s:s}", "index", m->index, "status", gstatus_name(m->code));

	if (m->message[0])
		json_object_set_new(object, "message", json_string(m->message));
	if (m->sandbox)
		json_object_set_new(object, "sandbox", msg_json_sandbox(m->sandbox));
	return object;
}

static void add_member(struct batch *b, const Fsb__V1__BatchMember *m)
{
	if (m->code == G_OK) {
		b->started++;
		b->took_ns = clock_mono_ns() - b->began_ns;
	} else {
		b->failed++;
		if (!b->json)
			(void)fprintf(stderr, "%smember %d: %s: %s\n", b->progress ? "\r" : "",
				      m->index, gstatus_name(m->code), m->message);
	}
	if (b->json)
		json_array_append_new(b->members, json_member(m));
}

static void on_reply(void *arg, const ProtobufCMessage *msg)
{
	const Fsb__V1__CreateBatchResponse *reply = (const Fsb__V1__CreateBatchResponse *)msg;
	struct batch *b = arg;

	for (size_t i = 0; i < reply->n_members; i++)
		add_member(b, reply->members[i]);
	if (reply->summary) {
		(void)snprintf(b->name, sizeof(b->name), "%s", reply->summary->name);
		b->started = reply->summary->started;
		b->failed = reply->summary->failed;
		b->reserve_ns = reply->summary->reserve_ns;
	}
	show_progress(b);
}

static void print_json(struct batch *b)
{
	json_t *object = json_pack("{s:s,s:i,s:i,s:i,s:I,s:I}", "name", b->name, "requested",
				   b->requested, "started", b->started, "failed", b->failed,
				   "reserve_us", (json_int_t)(b->reserve_ns / NS_PER_US), "took_us",
				   (json_int_t)(b->took_ns / NS_PER_US));

	json_object_set_new(object, "members", take_ptr(b->members));
	msg_print_json(object);
}

static void print_text(const struct batch *b)
{
	char took[40], reserve[40];

	text_duration(b->took_ns, took, sizeof(took));
	text_duration(b->reserve_ns, reserve, sizeof(reserve));
	if (b->started == b->requested)
		printf("🎉 Batch created successfully in %s\n", took);
	else
		printf("Batch: %d of %d members started\n", b->started, b->requested);
	printf("Name:      %s\nStarted:   %d of %d\nReserved:  in %s\n", b->name, b->started,
	       b->requested, reserve);
	if (b->started)
		printf("Members:   %s-0 ... %s-%d\n", b->name, b->name, b->requested - 1);
}

static int make_request(struct ctl *ctl, int npos, char **pos, Fsb__V1__CreateBatchRequest *request,
			struct err *err)
{
	struct members members = {.highest_index = -1};
	struct run_spec spec;
	int rc = spec_collect(&flags.spec, npos, pos, &ctl->mem, &spec, err);

	if (!rc && flags.consistency_set) {
		spec.mode_set = true;
		rc = spec_parse_mode("--consistency", flags.consistency, &spec.strong, err);
	}
	if (!rc && flags.members)
		rc = members_load(flags.members, &ctl->mem, &members, err);
	if (rc)
		return rc;
	request->name = mem_strdup(&ctl->mem, flags.name ? flags.name : "");
	request->count = flags.count_set ? (int32_t)flags.count : members.highest_index + 1;
	if (request->count < 1)
		request->count = 1;
	if (members.highest_index >= request->count)
		return err_set(err, -EINVAL, "--members has index %d, but --count is %d",
			       members.highest_index, request->count);
	request->spec = msg_spec(&ctl->mem, &spec);
	request->options = msg_options(&ctl->mem, ctl->ns, &spec);
	if (flags.wait_stored)
		request->options->wait_for = FSB__V1__WAIT_FOR__WAIT_STORED;
	request->n_overrides = members.n;
	request->overrides = members.items;
	return 0;
}

static int check_flags(const struct ctl *ctl, Fsb__V1__CreateBatchRequest *request, struct err *err)
{
	int rc = ctl_check_output(flags.output, "text json", err);

	if (!rc)
		rc = ctl_one_namespace(ctl, err);
	if (rc)
		return rc;
	if (strcmp(flags.mode, "all") && strcmp(flags.mode, "partial"))
		return err_set(err, -EINVAL, "--mode '%s' must be all or partial", flags.mode);
	request->mode = strcmp(flags.mode, "partial") ? FSB__V1__BATCH_MODE__ALL_OR_NOTHING
						      : FSB__V1__BATCH_MODE__PARTIAL;
	return 0;
}

static int batch(struct ctl *ctl, int npos, char **pos, struct err *err)
{
	Fsb__V1__CreateBatchRequest request = FSB__V1__CREATE_BATCH_REQUEST__INIT;
	struct batch b = {.progress = isatty(STDERR_FILENO)};
	int status = G_OK;
	int rc = check_flags(ctl, &request, err);

	if (!rc)
		rc = make_request(ctl, npos, pos, &request, err);
	if (!rc)
		rc = ctl_connect(ctl, err);
	if (rc)
		return rc;
	b.json = !strcmp(flags.output, "json");
	b.requested = request.count;
	b.members = json_array();
	b.began_ns = clock_mono_ns();
	rc = gclient_stream_wait(ctl->channel, FSB_V1 "CreateBatch", &request.base,
				 &fsb__v1__create_batch_response__descriptor, ctl->timeout_ns,
				 on_reply, &b, &status, err);
	end_progress(&b);
	if (!rc && b.json)
		print_json(&b);
	else if (!rc)
		print_text(&b);
	json_decref(b.members);
	if (rc)
		return -EIO;
	return b.started == b.requested ? 0 : CTL_FAILED;
}

const struct ctl_command ctl_cmd_batch = {
	.name = "batch",
	.args = "[COMMAND [ARG...]]",
	.summary = "create many sandboxes in one call",
	.opts = opts,
	.epilog = "  fsb-ctl batch --count 100 --name step --image busybox sh -c 'hostname'\n"
		  "  fsb-ctl batch --members jobs.jsonl -f spec.yaml --mode partial -o json\n"
		  "\n"
		  "Exit status 1 when a member did not start.",
	.max_pos = -1,
	.verbatim_from = 0,
	.run = batch,
};
