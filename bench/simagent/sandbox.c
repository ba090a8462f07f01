/* SPDX-License-Identifier: Apache-2.0 */
/* What the simulated agents "run": one table for all of them, keyed by agent and id, and their
 * tombstones. In memory only: a new process knows nothing. */
#include <errno.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/pb.h"
#include "sim.h"

enum { FENCES_MAX = 1 << 20, PREFIX_MAX = 10 };

struct fence {
	struct table_node node;
	uint32_t agent;
	int64_t generation;
	char id[SIM_ID_MAX + 1];
};

static uint64_t key_of(const struct sim_agent *agent, const char *id)
{
	return table_hash(id, agent->idx);
}

struct sim_sandbox *sim_sandbox_find(struct sim_agent *agent, const char *id)
{
	uint64_t key = key_of(agent, id);
	struct table_node *node = table_chain(&agent->sim->sandboxes, key);

	for (; node; node = node->next) {
		struct sim_sandbox *sb = (struct sim_sandbox *)node; /* its first member */

		if (node->hash == key && sb->agent == agent && !strcmp(sb->id, id))
			return sb;
	}
	return NULL;
}

/* Keeps copies: the encoded meta, the spec, and both names as strings. */
static int keep(struct sim_sandbox *sb, const Fsb__V1__SandboxMeta *meta, const uint8_t *spec,
		size_t spec_len)
{
	size_t meta_len = fsb__v1__sandbox_meta__get_packed_size(meta);
	size_t ns_len = strlen(meta->namespace_) + 1, name_len = strlen(meta->name) + 1;
	uint8_t *data = malloc(meta_len + spec_len + ns_len + name_len);
	char *names = (char *)data + meta_len + spec_len;

	if (!data)
		return -ENOMEM;
	fsb__v1__sandbox_meta__pack(meta, data);
	if (spec_len)
		memcpy(data + meta_len, spec, spec_len);
	memcpy(names, meta->namespace_, ns_len);
	memcpy(names + ns_len, meta->name, name_len);
	free(sb->data);
	sb->data = data;
	sb->meta_len = meta_len;
	sb->spec_len = spec_len;
	sb->ns = names;
	sb->name = names + ns_len;
	return 0;
}

int sim_sandbox_set_meta(struct sim_sandbox *sb, const Fsb__V1__SandboxMeta *meta)
{
	return keep(sb, meta, sb->data + sb->meta_len, sb->spec_len);
}

struct sim_sandbox *sim_sandbox_add(struct sim_agent *agent, const Fsb__Agent__V1__Start *start)
{
	struct sim_sandbox *sb = calloc(1, sizeof(*sb));
	struct sim *sim = agent->sim;

	if (!sb || keep(sb, start->meta, start->spec.data, start->spec.len) ||
	    table_add(&sim->sandboxes, &sb->node, key_of(agent, start->meta->id))) {
		if (sb)
			free(sb->data);
		free(sb);
		return NULL;
	}
	fsb__agent__v1__exit_info__init(&sb->exit);
	snprintf(sb->id, sizeof(sb->id), "%s", start->meta->id);
	sb->generation = start->meta->generation;
	sb->agent = agent;
	sb->next = agent->sandboxes;
	if (sb->next)
		sb->next->prev = sb;
	agent->sandboxes = sb;
	agent->active++;
	if (++sim->stats.running > sim->stats.running_max)
		sim->stats.running_max = sim->stats.running;
	return sb;
}

void sim_sandbox_set_state(struct sim_sandbox *sb, enum sim_state state)
{
	struct sim_agent *agent = sb->agent;

	if (sb->state != SIM_EXITED && state == SIM_EXITED) {
		agent->active--;
		agent->sim->stats.running--;
	}
	sb->state = state;
}

void sim_sandbox_drop(struct sim_sandbox *sb)
{
	struct sim *sim = sb->agent->sim;
	struct sim_waiter *w;

	sim_sandbox_set_state(sb, SIM_EXITED);
	due_cancel(sim->due, &sb->due);
	table_del(&sim->sandboxes, &sb->node);
	if (sb->prev)
		sb->prev->next = sb->next;
	else
		sb->agent->sandboxes = sb->next;
	if (sb->next)
		sb->next->prev = sb->prev;
	while ((w = sb->waiters)) {
		sb->waiters = w->next;
		sim_peer_unref(w->peer);
		free(w);
	}
	free(sb->data);
	free(sb);
}

int sim_sandbox_wait(struct sim_sandbox *sb, struct sim_peer *peer, uint64_t seq,
		     enum sim_wait what)
{
	struct sim_waiter *w = malloc(sizeof(*w));

	if (!w)
		return -ENOMEM;
	*w = (struct sim_waiter){
		.next = sb->waiters, .peer = sim_peer_ref(peer), .seq = seq, .what = what};
	sb->waiters = w;
	return 0;
}

/* ---- reports ---- */

static Fsb__Agent__V1__ReportState wire_state(const struct sim_sandbox *sb)
{
	switch (sb->state) {
	case SIM_STARTING:
		return FSB__AGENT__V1__REPORT_STATE__STARTING;
	case SIM_EXITED:
		return FSB__AGENT__V1__REPORT_STATE__EXITED;
	default:
		return FSB__AGENT__V1__REPORT_STATE__RUNNING;
	}
}

int sim_report_fill(struct sim_report *room, const struct sim_sandbox *sb)
{
	union {
		const Fsb__Agent__V1__ExitInfo *in;
		Fsb__Agent__V1__ExitInfo *out; /* the generated struct has no const */
	} exit = {.in = &sb->exit};
	uint8_t *at = malloc(sb->meta_len + sb->spec_len + 2 * PREFIX_MAX);
	const size_t len[2] = {sb->meta_len, sb->spec_len};
	const uint8_t *from = sb->data;

	fsb__agent__v1__sandbox_report__init(&room->msg);
	room->bytes = at;
	if (!at)
		return -ENOMEM;
	for (unsigned int i = 0; i < 2; i++) {
		size_t prefix = pb_put_varint(at, len[i]);

		memcpy(at + prefix, from, len[i]);
		room->fields[i] = (ProtobufCMessageUnknownField){
			.tag = i + 1,
			.wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED,
			.len = prefix + len[i],
			.data = at,
		};
		at += prefix + len[i];
		from += len[i];
	}
	room->msg.base.n_unknown_fields = 2;
	room->msg.base.unknown_fields = room->fields;
	room->msg.state = wire_state(sb);
	room->msg.started_unix_ns = sb->started_unix_ns;
	room->msg.stopped = sb->stopped;
	if (sb->state == SIM_EXITED)
		room->msg.exit = exit.out;
	return 0;
}

void sim_report_done(struct sim_report *room)
{
	free(room->bytes);
	room->bytes = NULL;
}

/* ---- tombstones ---- */

static struct fence *fence_find(struct sim_agent *agent, const char *id, uint64_t key)
{
	struct table_node *node = table_chain(&agent->sim->fences, key);

	for (; node; node = node->next) {
		struct fence *f = (struct fence *)node; /* its first member */

		if (node->hash == key && f->agent == agent->idx && !strcmp(f->id, id))
			return f;
	}
	return NULL;
}

int sim_fence_put(struct sim_agent *agent, const char *id, int64_t generation)
{
	uint64_t key = key_of(agent, id);
	struct fence *f = fence_find(agent, id, key);

	if (f) {
		if (generation > f->generation)
			f->generation = generation;
		return 0;
	}
	if (agent->sim->fences.count >= FENCES_MAX)
		return -ENOSPC;
	f = calloc(1, sizeof(*f));
	if (!f || table_add(&agent->sim->fences, &f->node, key)) {
		free(f);
		return -ENOMEM;
	}
	f->agent = agent->idx;
	f->generation = generation;
	snprintf(f->id, sizeof(f->id), "%s", id);
	return 0;
}

bool sim_fence_forbids(struct sim_agent *agent, const char *id, int64_t generation)
{
	const struct fence *f = fence_find(agent, id, key_of(agent, id));

	return f && f->generation >= generation;
}

void sim_sandboxes_free(struct sim *sim)
{
	for (int64_t i = 0; sim->agents && i < sim->o.agents; i++) {
		while (sim->agents[i].sandboxes)
			sim_sandbox_drop(sim->agents[i].sandboxes);
	}
	for (size_t i = 0; i < sim->fences.size; i++) {
		struct table_node *node = sim->fences.buckets[i], *next;

		for (; node; node = next) {
			next = node->next;
			free(node); /* a struct fence begins with it */
		}
	}
	table_done(&sim->sandboxes);
	table_done(&sim->fences);
}
