/* SPDX-License-Identifier: Apache-2.0 */
/* The reply pool, and the parts of replies that several faces build (see face.h). */
#include "face.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "status.h"

enum { CHUNK_BYTES = 256 << 10, ALIGN = 16 };

struct fp_pool_chunk {
	struct fp_pool_chunk *next;
	_Alignas(ALIGN) char data[];
};

void fp_pool_init(struct fp_pool *pool)
{
	pool->chunks = NULL;
	pool->at = pool->inline_;
	pool->used = 0;
	pool->room = sizeof(pool->inline_);
	pool->failed = false;
}

void fp_pool_done(struct fp_pool *pool)
{
	struct fp_pool_chunk *chunk, *next;

	for (chunk = pool->chunks; chunk; chunk = next) {
		next = chunk->next;
		free(chunk);
	}
	fp_pool_init(pool);
}

void *fp_pool_alloc(struct fp_pool *pool, size_t size)
{
	struct fp_pool_chunk *chunk;
	void *p;

	size = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	if (size > pool->room - pool->used) {
		pool->room = size > CHUNK_BYTES ? size : CHUNK_BYTES;
		pool->used = 0;
		chunk = malloc(sizeof(*chunk) + pool->room);
		if (!chunk) {
			pool->room = 0;
			pool->failed = true;
			return NULL;
		}
		chunk->next = pool->chunks;
		pool->chunks = chunk;
		pool->at = chunk->data;
	}
	p = pool->at + pool->used;
	pool->used += size;
	return memset(p, 0, size);
}

char *fp_pool_str(struct fp_pool *pool, const char *text)
{
	size_t size = strlen(text) + 1;
	char *copy;

	if (size == 1)
		return fp_borrow(protobuf_c_empty_string);
	copy = fp_pool_alloc(pool, size);
	return copy ? memcpy(copy, text, size) : fp_borrow(protobuf_c_empty_string);
}

void fp_items_push(struct fp_items *items, void *item)
{
	void **at;

	if (!item)
		return;
	if (items->n == items->room) {
		size_t room = items->room ? items->room * 2 : 32;

		at = fp_pool_alloc(items->pool, room * sizeof(void *));
		if (!at)
			return;
		if (items->n)
			memcpy(at, items->at, items->n * sizeof(void *));
		items->at = at;
		items->room = room;
	}
	items->at[items->n++] = item;
}

struct fp_service *fp_face_service(struct gcall *call)
{
	return gserver_ctx(gcall_server(call));
}

size_t fp_face_endpoints(struct fp_service *svc, struct fp_pool *pool,
			 const struct reg_sandbox_view *view, char ***ret)
{
	char text[sizeof(view->agent_host_ip) + 16];
	uint16_t ports[REG_PORTS_MAX];
	uint32_t n = fp_endpoint_ports(svc, view, ports);
	char **endpoints;

	*ret = NULL;
	if (n == 0)
		return 0;
	endpoints = fp_pool_alloc(pool, n * sizeof(char *));
	if (!endpoints)
		return 0;
	for (uint32_t i = 0; i < n; i++) {
		snprintf(text, sizeof(text), "%s:%u", view->agent_host_ip, ports[i]);
		endpoints[i] = fp_pool_str(pool, text);
	}
	*ret = endpoints;
	return n;
}

static void put_labels(struct fp_service *svc, struct fp_pool *pool,
		       const struct reg_sandbox_view *view, Fsb__V1__Sandbox *msg)
{
	Fsb__V1__Sandbox__LabelsEntry **entries;
	struct fp_labels labels;

	if (view->labels_len == 0 || fp_labels_of(svc->me, view->sandbox, &labels))
		return;
	entries = fp_pool_alloc(pool, labels.map.n * sizeof(Fsb__V1__Sandbox__LabelsEntry *));
	for (size_t i = 0; entries && i < labels.map.n; i++) {
		entries[i] = fp_pool_alloc(pool, sizeof(*entries[i]));
		if (!entries[i])
			break;
		fsb__v1__sandbox__labels_entry__init(entries[i]);
		entries[i]->key = fp_pool_str(pool, labels.map.entries[i]->key);
		entries[i]->value = fp_pool_str(pool, labels.map.entries[i]->value);
		msg->n_labels = i + 1;
	}
	msg->labels = entries;
	fp_labels_done(&labels);
}

Fsb__V1__Sandbox *fp_face_sandbox(struct fp_service *svc, struct fp_pool *pool,
				  const struct reg_sandbox_view *view)
{
	Fsb__V1__Sandbox *msg = fp_pool_alloc(pool, sizeof(*msg));

	if (!msg)
		return NULL;
	fsb__v1__sandbox__init(msg);
	msg->id = fp_pool_str(pool, view->id);
	msg->name = fp_pool_str(pool, view->name);
	msg->namespace_ = fp_pool_str(pool, view->ns);
	msg->pool = fp_pool_str(pool, view->pool);
	msg->agent = fp_pool_str(pool, view->agent_name);
	msg->image = fp_pool_str(pool, view->image);
	msg->phase = fp_pool_str(pool, fp_phase(view));
	msg->n_endpoints = fp_face_endpoints(svc, pool, view, &msg->endpoints);
	msg->created_unix_ns = view->created_unix_ns;
	msg->started_unix_ns = view->started_unix_ns;
	msg->finished_unix_ns = view->exit.finished_unix_ns;
	msg->exit_code = view->exit.code;
	msg->signal = view->exit.signal;
	msg->oom_killed = view->exit.oom_killed;
	msg->message = fp_pool_str(pool, view->message);
	msg->generation = view->generation;
	msg->expire_time_seconds = view->expire_unix_s;
	msg->failure_policy = view->policy;
	msg->recovery_timeout_seconds = view->recovery_timeout_s;
	msg->stored = view->stored_revision >= view->revision;
	put_labels(svc, pool, view, msg);
	return msg;
}

Fsb__V1__Timings *fp_face_timings(struct fp_pool *pool, const struct fp_timings *timings)
{
	Fsb__V1__Timings *msg = fp_pool_alloc(pool, sizeof(*msg));

	if (!msg)
		return NULL;
	fsb__v1__timings__init(msg);
	msg->reserve_ns = timings->reserve_ns;
	msg->agent_ns = timings->agent_ns;
	msg->start_ns = timings->start_ns;
	msg->total_ns = timings->total_ns;
	msg->worker = timings->worker;
	return msg;
}

void fp_face_reply(struct gcall *call, struct fp_pool *pool, const ProtobufCMessage *msg)
{
	if (pool->failed)
		gcall_fail(call, G_RESOURCE_EXHAUSTED, "this worker is out of memory");
	else
		gcall_reply(call, msg);
	fp_pool_done(pool);
}

void fp_face_fail(struct gcall *call, const struct fp_fail *fail)
{
	gcall_fail(call, fail->status, "%s", fail->msg);
}
