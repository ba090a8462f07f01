/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One operation: a create and the delete that follows it, a get, a list, a batch or an echo. Its
 * latency counts from the moment it was scheduled for, whenever it was sent.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "fastpath.pb-c.h"
#include "fsb.pb-c.h"
#include "health.pb-c.h"
#include "load.h"

#define SANDBOX_SERVICE	 "/fsb.v1.SandboxService/"
#define FASTPATH_SERVICE "/fastpath.v1.FastPathService/"

enum { BATCH_DELETES = 32, SPEC_PAD_MAX = 60000 };

static struct gchannel *channel_of(struct load *load, const struct op *op)
{
	return load->channels[op->channel];
}

static uint32_t next_channel(struct load *load)
{
	uint32_t at = load->next_channel;

	load->next_channel = (at + 1) % (uint32_t)load->o.connections;
	return at;
}

static char *unconst(const char *text)
{
	union {
		const char *in;
		char *out; /* the generated structs have no const */
	} u = {.in = text};

	return u.out;
}

const char *call_title(const struct load *load)
{
	static const char *const titles[] = {"create", "create", "get", "list", "batch", "echo"};

	return titles[load->o.mode];
}

/* ---- the end of an operation ---- */

static void sent(struct load *load, struct op *op)
{
	op->sent_ns = clock_mono_ns();
	load->pending++;
}

/* The reply that the latency is about. */
static void answered(struct load *load, struct op *op, int status, const char *message)
{
	uint64_t now = clock_mono_ns();

	load->pending--;
	load->in_flight--;
	if (status != G_OK)
		reason_note(load, call_title(load), status, message);
	if (!op->measured)
		return;
	if (status != G_OK) {
		load->n.errors++;
		return;
	}
	load->n.done++;
	load->last_done_ns = now;
	hist_add(&load->hists[HIST_MAIN], now - op->sched_ns);
	hist_add(&load->hists[HIST_SERVICE], now - op->sent_ns);
	hist_add(&load->hists[HIST_LAG], op->sent_ns - op->sched_ns);
}

/* Nothing was sent. */
static void not_sent(struct load *load, struct op *op)
{
	load->pending++;
	answered(load, op, G_RESOURCE_EXHAUSTED, "fsb-load is out of memory");
	books_drop(load, op);
	drive_ended(load);
}

/* After such a failure the request may have had its effect. */
static bool is_ambiguous(int status)
{
	return status == G_UNAVAILABLE || status == G_DEADLINE_EXCEEDED || status == G_CANCELLED ||
	       status == G_UNKNOWN || status == G_INTERNAL || status == G_ABORTED;
}

/* ---- delete ---- */

static void on_deleted(void *arg, const struct gresult *result, const ProtobufCMessage *reply)
{
	struct op *op = arg;
	struct load *load = op->load;

	load->pending--;
	if (result->status == G_OK) {
		load->n.deleted++;
		if (op->measured && load->driving)
			hist_add(&load->hists[HIST_DELETE], clock_mono_ns() - op->sched_ns);
		books_drop(load, op);
	} else if (result->status == G_NOT_FOUND) {
		/* Only what was created for certain and never failed to be deleted can vanish. */
		load->n.vanished += op->created;
		reason_note(load, "delete", result->status, result->message);
		books_drop(load, op);
	} else {
		load->n.delete_errors++;
		op->created = false; /* a repeat may find it gone */
		op->listed = true;   /* for the books to delete it again */
		reason_note(load, "delete", result->status, result->message);
	}
	if (load->driving)
		drive_ended(load);
}

static struct gclient_call *send_delete(struct load *load, struct op *op, const char *name,
					void (*done)(void *arg, const struct gresult *result,
						     const ProtobufCMessage *reply))
{
	Fsb__V1__DeleteSandboxRequest request = FSB__V1__DELETE_SANDBOX_REQUEST__INIT;
	Fastpath__V1__DeleteRequest fast = FASTPATH__V1__DELETE_REQUEST__INIT;

	if (load->o.mode == MODE_FASTPATH) {
		fast.sandbox_name = unconst(name);
		fast.namespace_ = unconst(load->o.namespace_);
		return gclient_unary(channel_of(load, op), FASTPATH_SERVICE "DeleteSandbox",
				     &fast.base, &fastpath__v1__delete_response__descriptor,
				     load->o.timeout_ns, done, op);
	}
	request.name = unconst(name);
	request.namespace_ = unconst(load->o.namespace_);
	request.grace_seconds = -1;
	request.wait = true;
	return gclient_unary(channel_of(load, op), SANDBOX_SERVICE "Delete", &request.base,
			     &fsb__v1__delete_sandbox_response__descriptor, load->o.timeout_ns,
			     done, op);
}

void call_delete(struct load *load, struct op *op)
{
	sent(load, op);
	if (send_delete(load, op, op->name, on_deleted))
		return;
	load->pending--;
	load->n.delete_errors++;
	op->listed = true;
	if (load->driving)
		drive_ended(load);
}

static void on_hold_over(struct due_item *item)
{
	struct op *op = (struct op *)(void *)((char *)item - offsetof(struct op, due));

	op->sched_ns = item->at_ns;
	call_delete(op->load, op);
}

/* Its delete is due --hold after the create's end. */
static void delete_later(struct load *load, struct op *op)
{
	uint64_t hold = dist_draw(&load->o.hold, &load->rng);

	op->sched_ns = clock_mono_ns();
	if (load->o.foreign_deletes)
		op->channel = (op->channel + 1) % (uint32_t)load->o.connections;
	if (!hold || due_set(load->due, &op->due, op->sched_ns + hold, on_hold_over))
		call_delete(load, op);
}

/* ---- create ---- */

static void create_ended(struct load *load, struct op *op, int status)
{
	if (status == G_OK) {
		op->created = true;
		load->n.created++;
		if (load->ops.count > load->alive_max)
			load->alive_max = load->ops.count;
		delete_later(load, op);
		return;
	}
	if (is_ambiguous(status))
		op->listed = true; /* may exist: the books look for it */
	else
		books_drop(load, op);
	drive_ended(load);
}

static void note_timings(struct load *load, const struct op *op, const Fsb__V1__Timings *t)
{
	if (!t || !op->measured)
		return;
	hist_add(&load->hists[HIST_RESERVE], t->reserve_ns);
	hist_add(&load->hists[HIST_AGENT], t->agent_ns);
	hist_add(&load->hists[HIST_SERVER], t->total_ns);
	if (t->worker >= 0 && t->worker < WORKERS_MAX)
		load->workers[t->worker]++;
}

static void on_created(void *arg, const struct gresult *result, const ProtobufCMessage *reply)
{
	struct op *op = arg;
	struct load *load = op->load;

	answered(load, op, result->status, result->message);
	if (result->status == G_OK && load->o.mode == MODE_CREATE)
		note_timings(load, op, ((const Fsb__V1__Sandbox *)reply)->timings);
	create_ended(load, op, result->status);
}

/* A request's variable parts, built in place. */
struct body {
	Fsb__V1__SandboxSpec spec;
	Fsb__V1__SandboxOptions options;
	Fsb__V1__SandboxOptions__LabelsEntry label, *labels[1];
	Fsb__V1__SandboxSpec__EnvsEntry pad, *pads[1];
	char request_id[80];
};

static char pad_text[SPEC_PAD_MAX + 1];

/* An environment variable of spec_bytes brings the spec to the size that was asked for. */
static void fill_body(struct load *load, const char *name, struct body *b)
{
	fsb__v1__sandbox_spec__init(&b->spec);
	fsb__v1__sandbox_options__init(&b->options);
	fsb__v1__sandbox_options__labels_entry__init(&b->label);
	fsb__v1__sandbox_spec__envs_entry__init(&b->pad);
	b->spec.image = unconst(load->o.image);
	b->spec.n_command = (size_t)load->o.command_count;
	b->spec.command = (char **)(uintptr_t)load->o.command;
	if (load->o.spec_bytes) {
		memset(pad_text, 'x', (size_t)load->o.spec_bytes);
		b->pad.key = unconst("PAD");
		b->pad.value = pad_text;
		b->pads[0] = &b->pad;
		b->spec.n_envs = 1;
		b->spec.envs = b->pads;
	}
	snprintf(b->request_id, sizeof(b->request_id), "r-%s", name);
	b->label.key = unconst(LOAD_LABEL);
	b->label.value = unconst(load->o.prefix);
	b->labels[0] = &b->label;
	b->options.namespace_ = unconst(load->o.namespace_);
	b->options.pool = unconst(load->o.pool);
	b->options.request_id = b->request_id;
	b->options.n_labels = 1;
	b->options.labels = b->labels;
	b->options.consistency = load->o.strong ? FSB__V1__CONSISTENCY__CONSISTENCY_STRONG
						: FSB__V1__CONSISTENCY__CONSISTENCY_FAST;
}

typedef void (*reply_fn)(void *arg, const struct gresult *result, const ProtobufCMessage *reply);

static struct gclient_call *send_create(struct load *load, struct op *op, reply_fn done)
{
	Fsb__V1__CreateSandboxRequest request = FSB__V1__CREATE_SANDBOX_REQUEST__INIT;
	struct body b;

	fill_body(load, op->name, &b);
	request.name = op->name;
	request.spec = &b.spec;
	request.options = &b.options;
	return gclient_unary(channel_of(load, op), SANDBOX_SERVICE "CreateSandbox", &request.base,
			     &fsb__v1__sandbox__descriptor, load->o.timeout_ns, done, op);
}

static struct gclient_call *send_fastpath(struct load *load, struct op *op)
{
	Fastpath__V1__CreateRequest request = FASTPATH__V1__CREATE_REQUEST__INIT;
	Fastpath__V1__CreateRequest__LabelsEntry
		label = FASTPATH__V1__CREATE_REQUEST__LABELS_ENTRY__INIT,
		*labels[] = {&label};
	Fastpath__V1__CreateRequest__EnvsEntry pad = FASTPATH__V1__CREATE_REQUEST__ENVS_ENTRY__INIT,
					       *pads[] = {&pad};
	struct body b;

	fill_body(load, op->name, &b);
	label.key = b.label.key;
	label.value = b.label.value;
	pad.key = b.pad.key;
	pad.value = b.pad.value;
	request.name = op->name;
	request.image = b.spec.image;
	request.n_command = b.spec.n_command;
	request.command = b.spec.command;
	request.n_envs = b.spec.n_envs;
	request.envs = pads;
	request.namespace_ = b.options.namespace_;
	request.pool_ref = b.options.pool;
	request.request_id = b.request_id;
	request.n_labels = 1;
	request.labels = labels;
	request.consistency_mode = load->o.strong ? FASTPATH__V1__CONSISTENCY_MODE__STRONG
						  : FASTPATH__V1__CONSISTENCY_MODE__FAST;
	return gclient_unary(channel_of(load, op), FASTPATH_SERVICE "CreateSandbox", &request.base,
			     &fastpath__v1__create_response__descriptor, load->o.timeout_ns,
			     on_created, op);
}

static void on_populated(void *arg, const struct gresult *result, const ProtobufCMessage *reply)
{
	struct op *op = arg;
	struct load *load = op->load;

	load->pending--;
	load->in_flight--;
	if (result->status == G_OK) {
		op->created = true;
		load->n.created++;
		load->population[load->population_count++] = op;
		return;
	}
	reason_note(load, "population", result->status, result->message);
	if (is_ambiguous(result->status))
		op->listed = true;
	else
		books_drop(load, op);
}

/* ---- batch ---- */

static void batch_deletes(struct load *load, struct op *op);

static void on_member_deleted(void *arg, const struct gresult *result,
			      const ProtobufCMessage *reply)
{
	struct op *op = arg;
	struct load *load = op->load;

	load->pending--;
	op->members_in_flight--;
	if (result->status == G_OK) {
		load->n.deleted++;
		op->members_started--;
	} else {
		load->n.delete_errors++;
		op->listed = true;
		reason_note(load, "delete", result->status, result->message);
	}
	batch_deletes(load, op);
}

/* Keeps so many deletes of the members in flight; ends the operation after the last. */
static void batch_deletes(struct load *load, struct op *op)
{
	char name[96];

	while (op->next_member < load->o.batch && op->members_in_flight < BATCH_DELETES) {
		int32_t i = op->next_member++;

		if (!op->members[i])
			continue;
		snprintf(name, sizeof(name), "%s-%d", op->name, i);
		load->pending++;
		op->members_in_flight++;
		if (!send_delete(load, op, name, on_member_deleted)) {
			load->pending--;
			op->members_in_flight--;
			op->listed = true;
		}
	}
	if (op->members_in_flight || op->next_member < load->o.batch)
		return;
	if (!op->listed)
		books_drop(load, op);
	drive_ended(load);
}

static void on_members(void *arg, const ProtobufCMessage *msg)
{
	const Fsb__V1__CreateBatchResponse *reply = (const Fsb__V1__CreateBatchResponse *)msg;
	struct op *op = arg;

	for (size_t i = 0; i < reply->n_members; i++) {
		const Fsb__V1__BatchMember *m = reply->members[i];

		if (m->code != G_OK) {
			reason_note(op->load, "member", m->code, m->message);
		} else if (m->index >= 0 && m->index < op->load->o.batch &&
			   !op->members[m->index]) {
			op->members[m->index] = 1;
			op->members_started++;
			op->load->n.created++;
		}
	}
}

static void on_batch_closed(void *arg, const struct gresult *result)
{
	struct op *op = arg;
	struct load *load = op->load;
	int status = result->status;
	const char *message = result->message;

	op->stream = NULL;
	if (status == G_OK && op->members_started < load->o.batch) {
		status = G_RESOURCE_EXHAUSTED;
		message = "not all members started";
	}
	answered(load, op, status, message);
	if (result->status != G_OK && is_ambiguous(result->status))
		op->listed = true;
	batch_deletes(load, op);
}

static bool send_batch(struct load *load, struct op *op)
{
	Fsb__V1__CreateBatchRequest request = FSB__V1__CREATE_BATCH_REQUEST__INIT;
	const struct gstream_handlers handlers = {
		.on_message = on_members, .on_close = on_batch_closed, .arg = op};
	struct body b;

	op->members = calloc((size_t)load->o.batch, 1);
	if (!op->members)
		return false;
	fill_body(load, op->name, &b);
	request.name = op->name;
	request.count = (int32_t)load->o.batch;
	request.spec = &b.spec;
	request.options = &b.options;
	op->stream = gclient_server_stream(
		channel_of(load, op), SANDBOX_SERVICE "CreateBatch", &request.base,
		&fsb__v1__create_batch_response__descriptor, load->o.timeout_ns, &handlers);
	return op->stream;
}

/* ---- reads and echo ---- */

static void on_read(void *arg, const struct gresult *result, const ProtobufCMessage *reply)
{
	struct op *op = arg;
	struct load *load = op->load;

	answered(load, op, result->status, result->message);
	books_drop(load, op);
	drive_ended(load);
}

static struct gclient_call *send_get(struct load *load, struct op *op)
{
	Fsb__V1__GetSandboxRequest request = FSB__V1__GET_SANDBOX_REQUEST__INIT;
	size_t i = (size_t)rng_below(&load->rng, load->population_count);

	request.name = load->population[i]->name;
	request.namespace_ = unconst(load->o.namespace_);
	return gclient_unary(channel_of(load, op), SANDBOX_SERVICE "Get", &request.base,
			     &fsb__v1__sandbox__descriptor, load->o.timeout_ns, on_read, op);
}

static struct gclient_call *send_list(struct load *load, struct op *op)
{
	Fsb__V1__ListSandboxesRequest request = FSB__V1__LIST_SANDBOXES_REQUEST__INIT;

	request.namespace_ = unconst(load->o.namespace_);
	return gclient_unary(channel_of(load, op), SANDBOX_SERVICE "List", &request.base,
			     &fsb__v1__list_sandboxes_response__descriptor, load->o.timeout_ns,
			     on_read, op);
}

static struct gclient_call *send_echo(struct load *load, struct op *op)
{
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;

	return gclient_unary(channel_of(load, op), "/grpc.health.v1.Health/Check", &request.base,
			     &grpc__health__v1__health_check_response__descriptor,
			     load->o.timeout_ns, on_read, op);
}

/* ---- beginning ---- */

static struct op *op_new(struct load *load)
{
	struct op *op = calloc(1, sizeof(*op));

	if (!op)
		return NULL;
	op->load = load;
	op->channel = next_channel(load);
	snprintf(op->name, sizeof(op->name), "%.40s-%07llu", load->o.prefix,
		 (unsigned long long)load->next_serial++);
	if (books_add(load, op) == 0)
		return op;
	free(op);
	return NULL;
}

static bool send_any(struct load *load, struct op *op)
{
	switch (load->o.mode) {
	case MODE_CREATE:
		return send_create(load, op, on_created);
	case MODE_FASTPATH:
		return send_fastpath(load, op);
	case MODE_GET:
		return send_get(load, op);
	case MODE_LIST:
		return send_list(load, op);
	case MODE_BATCH:
		return send_batch(load, op);
	default:
		return send_echo(load, op);
	}
}

void call_begin(struct load *load, uint64_t sched_ns, bool measured)
{
	struct op *op = op_new(load);

	load->in_flight++;
	if (!op) {
		load->in_flight--;
		load->n.errors += measured;
		reason_note(load, call_title(load), G_RESOURCE_EXHAUSTED,
			    "fsb-load is out of memory");
		drive_ended(load);
		return;
	}
	op->sched_ns = sched_ns;
	op->measured = measured;
	op->sent_ns = clock_mono_ns();
	if (!send_any(load, op)) {
		not_sent(load, op);
		return;
	}
	load->pending++;
}

void call_populate(struct load *load)
{
	struct op *op = op_new(load);

	if (!op)
		return;
	load->in_flight++;
	load->pending++;
	if (send_create(load, op, on_populated))
		return;
	load->in_flight--;
	load->pending--;
	books_drop(load, op);
}
