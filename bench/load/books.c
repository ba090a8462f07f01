/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this run has made. Every name stays in the books until its delete is confirmed or its create
 * was refused for certain. At the end the server is asked for all that bears the run's label: what
 * is found is deleted, and what should not have been found is a leak.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "fsb.pb-c.h"
#include "health.pb-c.h"
#include "load.h"

#define CONNECT_NS (30 * NS_PER_S)
#define CLOSE_NS   (60 * NS_PER_S)

enum { DELETES_IN_FLIGHT = 64, CREATES_IN_FLIGHT = 64, POLL_MS = 20 };

static char *unconst(const char *text)
{
	union {
		const char *in;
		char *out; /* the generated structs have no const */
	} u = {.in = text};

	return u.out;
}

struct op *books_find(struct load *load, const char *name)
{
	uint64_t hash = table_hash(name, 0);
	struct table_node *node = table_chain(&load->ops, hash);

	for (; node; node = node->next) {
		struct op *op = (struct op *)node; /* its first member */

		if (node->hash == hash && !strcmp(op->name, name))
			return op;
	}
	return NULL;
}

int books_add(struct load *load, struct op *op)
{
	return table_add(&load->ops, &op->node, table_hash(op->name, 0));
}

void books_drop(struct load *load, struct op *op)
{
	due_cancel(load->due, &op->due);
	table_del(&load->ops, &op->node);
	free(op->members);
	free(op);
}

/* ---- the start ---- */

static int connect_one(struct load *load, struct gchannel *channel, struct err *err)
{
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	uint64_t until = clock_mono_ns() + CONNECT_NS;
	struct pb_arena *arena;
	ProtobufCMessage *msg;
	int status, rc;

	for (;;) {
		bool serving = false;

		rc = gclient_unary_wait(channel, "/grpc.health.v1.Health/Check", &request.base,
					&grpc__health__v1__health_check_response__descriptor,
					5 * NS_PER_S, &status, &arena, &msg, err);
		if (!rc) {
			serving = ((const Grpc__Health__V1__HealthCheckResponse *)msg)->status == 1;
			pb_free(arena);
		}
		if (serving)
			return 0;
		if (clock_mono_ns() > until)
			return err_set(err, -ETIMEDOUT, "'%s' is not SERVING: %s", load->o.target,
				       rc ? err->msg : "it says so itself");
		(void)gloop_poll(load->loop, POLL_MS);
	}
}

static int connect_all(struct load *load, struct err *err)
{
	int rc = 0;

	load->channels = calloc((size_t)load->o.connections, sizeof(struct gchannel *));
	if (!load->channels)
		return err_set(err, -ENOMEM, "out of memory");
	for (int64_t i = 0; i < load->o.connections && !rc; i++) {
		load->channels[i] = gchannel_new(load->loop, load->o.target, err);
		rc = load->channels[i] ? connect_one(load, load->channels[i], err) : err->code;
	}
	return rc;
}

static int admin(struct load *load, const char *path, const ProtobufCMessage *request,
		 const ProtobufCMessageDescriptor *reply, struct pb_arena **ret_arena,
		 ProtobufCMessage **ret, struct err *err)
{
	int status;

	return gclient_unary_wait(load->channels[0], path, request, reply, load->o.timeout_ns,
				  &status, ret_arena, ret, err);
}

/* Real agents or simulated ones: no figure goes without that. */
static int look_at_agents(struct load *load, struct err *err)
{
	Fsb__V1__ListAgentsRequest request = FSB__V1__LIST_AGENTS_REQUEST__INIT;
	const Fsb__V1__ListAgentsResponse *reply;
	struct pb_arena *arena;
	ProtobufCMessage *msg;
	int rc;

	request.namespace_ = unconst(load->o.namespace_);
	request.pool = unconst(load->o.pool);
	rc = admin(load, "/fsb.v1.AdminService/ListAgents", &request.base,
		   &fsb__v1__list_agents_response__descriptor, &arena, &msg, err);
	if (rc)
		return rc;
	reply = (const Fsb__V1__ListAgentsResponse *)msg;
	for (size_t i = 0; i < reply->n_items; i++) {
		load->agents += !strcmp(reply->items[i]->state, "Ready");
		load->simulated_agents += !strcmp(reply->items[i]->state, "Ready") &&
					  !strcmp(reply->items[i]->node, "simulated");
	}
	pb_free(arena);
	return 0;
}

/* Slots held in the pool, by whomever; -1: the pool is not known. */
static int look_at_pool(struct load *load, int64_t *ret_allocated, struct err *err)
{
	Fsb__V1__ListPoolsRequest request = FSB__V1__LIST_POOLS_REQUEST__INIT;
	const Fsb__V1__ListPoolsResponse *reply;
	struct pb_arena *arena;
	ProtobufCMessage *msg;
	int rc;

	request.namespace_ = unconst(load->o.namespace_);
	rc = admin(load, "/fsb.v1.AdminService/ListPools", &request.base,
		   &fsb__v1__list_pools_response__descriptor, &arena, &msg, err);
	if (rc)
		return rc;
	reply = (const Fsb__V1__ListPoolsResponse *)msg;
	*ret_allocated = -1;
	for (size_t i = 0; i < reply->n_items; i++) {
		if (!strcmp(reply->items[i]->name, load->o.pool))
			*ret_allocated = reply->items[i]->allocated;
	}
	pb_free(arena);
	return 0;
}

int books_open(struct load *load, struct err *err)
{
	int rc = connect_all(load, err);

	if (!rc)
		rc = look_at_agents(load, err);
	if (!rc)
		rc = look_at_pool(load, &load->allocated_before, err);
	return rc;
}

int books_populate(struct load *load, struct err *err)
{
	size_t want = (size_t)load->o.population, begun = 0;

	if (!want)
		return 0;
	load->population = calloc(want, sizeof(struct op *));
	if (!load->population)
		return err_set(err, -ENOMEM, "out of memory for %zu sandboxes", want);
	while (begun < want || load->pending) {
		for (; begun < want && load->pending < CREATES_IN_FLIGHT; begun++)
			call_populate(load);
		(void)gloop_poll(load->loop, 1000);
	}
	if (load->population_count < want)
		return err_set(err, -EIO,
			       "only %zu of the --population of %zu could be created: "
			       "%s: %s",
			       load->population_count, want,
			       load->reason_count ? gstatus_name(load->reasons[0].status) : "",
			       load->reason_count ? load->reasons[0].text : "");
	return 0;
}

/* ---- the end ---- */

/* Deletes that only the books wait for. */
static void on_swept(void *arg, const struct gresult *result, const ProtobufCMessage *reply)
{
	struct load *load = arg;

	load->pending--;
	if (result->status == G_OK)
		load->n.recovered++;
	else if (result->status != G_NOT_FOUND)
		reason_note(load, "last delete", result->status, result->message);
}

static void sweep_one(struct load *load, const char *name)
{
	Fsb__V1__DeleteSandboxRequest request = FSB__V1__DELETE_SANDBOX_REQUEST__INIT;

	request.name = unconst(name);
	request.namespace_ = unconst(load->o.namespace_);
	request.grace_seconds = -1;
	request.wait = true;
	while (load->pending >= DELETES_IN_FLIGHT)
		(void)gloop_poll(load->loop, 1000);
	load->pending++;
	if (!gclient_unary(load->channels[0], "/fsb.v1.SandboxService/Delete", &request.base,
			   &fsb__v1__delete_sandbox_response__descriptor, load->o.timeout_ns,
			   on_swept, load))
		load->pending--;
}

/* Of a member of a batch, the batch. */
static const struct op *owner_of(struct load *load, const char *name)
{
	const char *dash = strrchr(name, '-');
	char base[128];

	if (load->o.mode != MODE_BATCH || !dash)
		return books_find(load, name);
	snprintf(base, sizeof(base), "%.*s", (int)(dash - name), name);
	return books_find(load, base);
}

/* What the server has of this run. Counts it when it is the first look; deletes it. */
static int sweep(struct load *load, bool first, size_t *ret_count, struct err *err)
{
	Fsb__V1__ListSandboxesRequest request = FSB__V1__LIST_SANDBOXES_REQUEST__INIT;
	Fsb__V1__ListSandboxesRequest__LabelsEntry
		label = FSB__V1__LIST_SANDBOXES_REQUEST__LABELS_ENTRY__INIT,
		*labels[] = {&label};
	const Fsb__V1__ListSandboxesResponse *reply;
	struct pb_arena *arena;
	ProtobufCMessage *msg;
	int rc;

	label.key = unconst(LOAD_LABEL);
	label.value = unconst(load->o.prefix);
	request.namespace_ = unconst(load->o.namespace_);
	request.n_labels = 1;
	request.labels = labels;
	rc = admin(load, "/fsb.v1.SandboxService/List", &request.base,
		   &fsb__v1__list_sandboxes_response__descriptor, &arena, &msg, err);
	if (rc)
		return rc;
	reply = (const Fsb__V1__ListSandboxesResponse *)msg;
	*ret_count = reply->n_items;
	for (size_t i = 0; i < reply->n_items; i++) {
		/* fastpath.v1 confirms a delete before it is done. */
		if (!strcmp(reply->items[i]->phase, "Terminating"))
			continue;
		if (first && owner_of(load, reply->items[i]->name))
			load->n.left++;
		else if (first)
			load->n.leaked++;
		sweep_one(load, reply->items[i]->name);
	}
	pb_free(arena);
	while (load->pending)
		(void)gloop_poll(load->loop, 1000);
	return 0;
}

/* Everything that still lives by intention: the population, and what was being held. */
static void delete_living(struct load *load)
{
	struct op *op;

	for (size_t i = 0; i < load->ops.size; i++) {
		struct table_node *node = load->ops.buckets[i], *next;

		for (; node; node = next) {
			next = node->next;
			op = (struct op *)node; /* its first member */
			if (!op->created)
				continue;
			due_cancel(load->due, &op->due);
			call_delete(load, op);
		}
		while (load->pending >= DELETES_IN_FLIGHT)
			(void)gloop_poll(load->loop, 1000);
	}
	while (load->pending)
		(void)gloop_poll(load->loop, 1000);
}

static void forget_all(struct load *load)
{
	for (size_t i = 0; i < load->ops.size; i++) {
		while (load->ops.buckets[i])
			books_drop(load, (struct op *)load->ops.buckets[i]);
	}
}

bool books_balanced(const struct load *load)
{
	const struct load_counts *n = &load->n;

	return !n->leaked && !n->vanished && !n->remaining &&
	       n->created <= n->deleted + n->recovered &&
	       (!load->o.exclusive || load->allocated_after == load->allocated_before);
}

bool books_close(struct load *load)
{
	uint64_t until = clock_mono_ns() + CLOSE_NS;
	struct err err = ERR_INIT;
	size_t count = 0;
	bool first = true;
	int rc;

	delete_living(load);
	for (;;) {
		rc = sweep(load, first, &count, &err);
		if ((!rc && !count) || clock_mono_ns() > until)
			break;
		first = first && rc;
		(void)gloop_poll(load->loop, POLL_MS);
	}
	if (rc)
		reason_note(load, "last list", G_UNAVAILABLE, err.msg);
	load->n.remaining = rc ? 1 : count;
	if (look_at_pool(load, &load->allocated_after, &err))
		load->allocated_after = -1;
	forget_all(load);
	free(load->population);
	load->population = NULL;
	return books_balanced(load);
}
