/* SPDX-License-Identifier: Apache-2.0 */
/* A single create: check, reserve, hand over to a start, answer. */
#include "create.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "start.h"
#include "status.h"

/* A chosen name can collide with another worker's of the same nanosecond, a repeated request with
 * one that is just failing. */
enum { RESERVE_TRIES = 4 };

/* Between attempts at a request_id that another create holds, but not visibly yet. */
#define AGAIN_MIN_NS (1 * NS_PER_MS)
#define AGAIN_MAX_NS (50 * NS_PER_MS)

struct create {
	struct fp_service *svc;
	void (*done)(void *arg, const struct fp_created *created);
	void *arg;
	struct fp_deadline deadline, again;
	struct fp_start *start; /* NULL: between two attempts */
	struct fp_plan plan;
	bool planned;
	uint64_t begin_ns, reserve_ns, deadline_ns, again_ns;
};

static void create_run(struct create *c);

/* ---- shared with batches ---- */

uint64_t fp_deadline_or_default(uint64_t deadline_ns)
{
	return deadline_ns == UINT64_MAX ? clock_mono_ns() + FP_DEADLINE_NS : deadline_ns;
}

int fp_create_ready(const struct fp_service *svc, struct fp_fail *fail)
{
	if (svc->draining)
		return fp_fail(fail, G_UNAVAILABLE, "this worker is shutting down; try again");
	if (!reg_store_loaded(svc->reg))
		return fp_fail(fail, G_UNAVAILABLE,
			       "the store is still being loaded; try again in a moment");
	return G_OK;
}

/* "a, b, c" of a namespace, cut with "…" when there are many. */
static void known_pools(struct fp_service *svc, const char *ns, char *buf, size_t size)
{
	struct reg_pool_view pool;
	uint32_t cursor = 0;
	size_t len = 0;

	buf[0] = '\0';
	while (reg_pool_next(svc->me, &cursor, &pool)) {
		size_t more = strlen(pool.name) + 2;

		if (strcmp(pool.ns, ns))
			continue;
		if (len + more + 8 > size) {
			snprintf(buf + len, size - len, ", …");
			return;
		}
		len += (size_t)snprintf(buf + len, size - len, "%s%s", len ? ", " : "", pool.name);
	}
	if (!len)
		snprintf(buf, size, "none");
}

static int fail_no_pool(struct fp_service *svc, const struct fp_plan *plan, struct fp_fail *fail)
{
	char pools[256];

	known_pools(svc, plan->ns, pools, sizeof(pools));
	return fp_fail(fail, G_NOT_FOUND,
		       "pool '%s' does not exist in namespace '%s'; known pools: %s", plan->pool,
		       plan->ns, pools);
}

static void port_list(const struct fp_plan *plan, char *buf, size_t size)
{
	size_t len = 0;

	buf[0] = '\0';
	for (uint32_t i = 0; i < plan->port_count && len < size; i++)
		len += (size_t)snprintf(buf + len, size - len, "%s%u", i ? ", " : "",
					plan->ports[i]);
}

int fp_reserve_fail(struct fp_service *svc, const struct fp_plan *plan, const char *name,
		    enum reg_status status, struct fp_fail *fail)
{
	char ports[REG_PORTS_MAX * 7];

	switch (status) {
	case REG_NAME_EXISTS:
		return fp_fail(
			fail, G_ALREADY_EXISTS,
			"sandboxes.sandbox.fast.io \"%s\" already exists in namespace \"%s\"", name,
			plan->ns);
	case REG_NAME_TERMINATING:
		return fp_fail(
			fail, G_ALREADY_EXISTS,
			"sandboxes.sandbox.fast.io \"%s\" already exists in namespace \"%s\" and "
			"is terminating; its name is free when that is done",
			name, plan->ns);
	case REG_REQUEST_SEEN:
		return fp_fail(fail, G_UNAVAILABLE,
			       "request_id '%s': the first attempt has just ended; try again",
			       plan->request_id);
	case REG_REQUEST_MISMATCH:
		return fp_fail(
			fail, G_INVALID_ARGUMENT,
			"request_id '%s' was used before with another request; a repeat must be "
			"the same in all but consistency",
			plan->request_id);
	case REG_NO_POOL:
		return fail_no_pool(svc, plan, fail);
	case REG_PORT_CONFLICT:
		port_list(plan, ports, sizeof(ports));
		return fp_fail(
			fail, G_RESOURCE_EXHAUSTED,
			"insufficient capacity or port conflict in pool %s: %s (asked for: %s)",
			plan->pool, reg_status_text(status), ports);
	case REG_NO_CAPACITY:
		return fp_fail(fail, G_RESOURCE_EXHAUSTED,
			       "insufficient capacity or port conflict in pool %s: %s", plan->pool,
			       reg_status_text(status));
	default:
		return fp_fail_reg(fail, status, name);
	}
}

void fp_created_fill(struct fp_service *svc, const struct fp_start *start, int status,
		     const char *message, struct reg_sandbox_view *view, struct fp_created *ret)
{
	*ret = (struct fp_created){
		.status = status,
		.message = message,
		.timings = {.agent_ns = start->agent_ns,
			    .start_ns = start->start_ns,
			    .worker = (int32_t)reg_self_idx(svc->me)},
	};
	if (status != G_OK)
		return;
	if (reg_view(svc->me, start->lease.sandbox, view) == REG_OK) {
		ret->view = view;
		return;
	}
	ret->status = G_ABORTED;
	ret->message = "the sandbox was started, and deleted before this reply";
}

/* ---- the single create ---- */

static void create_answer(struct create *c, const struct fp_created *created)
{
	c->done(c->arg, created);
	fp_deadline_clear(&c->deadline);
	fp_deadline_clear(&c->again);
	if (c->planned)
		fp_plan_done(&c->plan);
	free(c);
}

static void create_refuse(struct create *c, const struct fp_fail *fail)
{
	const struct fp_created created = {.status = fail->status, .message = fail->msg};

	create_answer(c, &created);
}

static void on_again(struct fp_deadline *deadline)
{
	create_run((struct create *)((char *)deadline - offsetof(struct create, again)));
}

/*
 * The create that holds the request_id is not visible yet, has withdrawn for a third one, or has
 * failed: in each case this one has its own turn. False: there is no time left.
 */
static bool create_again(struct create *c)
{
	uint64_t at = clock_mono_ns() + c->again_ns;

	if (at >= c->deadline_ns || c->svc->draining)
		return false;
	c->again_ns = c->again_ns * 2 < AGAIN_MAX_NS ? c->again_ns * 2 : AGAIN_MAX_NS;
	c->start = NULL;
	fp_deadline_set(&c->svc->deadlines, &c->again, at, on_again);
	return true;
}

static void on_end(struct fp_start *start, int status, const char *message)
{
	struct create *c = start->owner;
	struct reg_sandbox_view view;
	struct fp_created created;

	if (start->join_lost && create_again(c))
		return;
	fp_created_fill(c->svc, start, status, message, &view, &created);
	created.timings.reserve_ns = c->reserve_ns;
	created.timings.total_ns = clock_mono_ns() - c->begin_ns;
	if (created.status == G_OK)
		reg_hist_add(c->svc->me, REG_HIST_TOTAL, created.timings.total_ns);
	create_answer(c, &created);
}

static void on_deadline(struct fp_deadline *deadline)
{
	struct create *c = (struct create *)((char *)deadline - offsetof(struct create, deadline));

	struct fp_fail fail;

	if (c->start) {
		fp_start_abandon(c->start, "the deadline has passed", false);
		return;
	}
	fp_fail(&fail, G_DEADLINE_EXCEEDED,
		"request_id '%s' is held by a create that has not come to anything yet",
		c->plan.request_id);
	create_refuse(c, &fail);
}

static int member_make(const struct fp_plan *plan, struct fp_member *member, struct fp_fail *fail)
{
	member->created_unix_ns = clock_unix_ns();
	member->hash = plan->hash;
	member->spec = plan->spec;
	memcpy(member->request_id, plan->request_id, sizeof(member->request_id));
	if (*plan->name)
		memcpy(member->name, plan->name, sizeof(member->name));
	else
		snprintf(member->name, sizeof(member->name), "sb-%" PRId64,
			 member->created_unix_ns);
	if (fp_sandbox_id(member->name, plan->ns, member->created_unix_ns, member->id))
		return fp_fail(fail, G_INTERNAL, "libcrypto offers no md5");
	return G_OK;
}

static bool is_set(reg_sandbox_id sandbox)
{
	return sandbox.idx || sandbox.gen;
}

/* *ret: REG_OK (a lease), REG_REQUEST_SEEN (the first one's handle in it), or a refusal with fail
 * set. */
static enum reg_status create_reserve(struct create *c, const struct fp_plan *plan,
				      struct reg_lease *ret, struct fp_fail *fail)
{
	struct fp_member member;
	struct reg_request request;
	enum reg_status status = REG_INVALID;
	uint64_t begin = clock_mono_ns();

	for (int i = 0; i < RESERVE_TRIES; i++) {
		*ret = (struct reg_lease){0};
		if (member_make(plan, &member, fail))
			return REG_INVALID;
		fp_plan_request(plan, &member, &request);
		status = reg_reserve(c->svc->me, &request, ret);
		if (status == REG_REQUEST_SEEN && is_set(ret->sandbox))
			return status;
		if (status != REG_REQUEST_SEEN && !(status == REG_NAME_EXISTS && !*plan->name))
			break;
	}
	c->reserve_ns = clock_mono_ns() - begin;
	if (status == REG_OK)
		reg_hist_add(c->svc->me, REG_HIST_RESERVE, c->reserve_ns);
	else
		fp_reserve_fail(c->svc, plan, member.name, status, fail);
	return status;
}

static void create_run(struct create *c)
{
	const struct fp_plan *plan = &c->plan;
	const struct fp_start_params params = {
		.strong = plan->strong,
		.wait_stored = plan->wait_stored,
		.alone = true,
		.deadline_ns = c->deadline_ns,
		.on_end = on_end,
		.owner = c,
	};
	struct fp_fail fail;
	struct reg_lease lease;
	enum reg_status status;

	c->start = fp_start_new(c->svc, &params);
	if (!c->start) {
		fp_fail(&fail, G_RESOURCE_EXHAUSTED, "this worker is out of memory");
		create_refuse(c, &fail);
		return;
	}
	fp_deadline_set(&c->svc->deadlines, &c->deadline, c->deadline_ns, on_deadline);
	status = create_reserve(c, plan, &lease, &fail);
	if (status != REG_OK && !(status == REG_REQUEST_SEEN && is_set(lease.sandbox))) {
		fp_start_free(c->start);
		if (status != REG_REQUEST_SEEN || !create_again(c))
			create_refuse(c, &fail);
		return;
	}
	if (status == REG_OK)
		fp_start_run(c->start, &lease, plan->spec);
	else
		fp_start_join(c->start, lease.sandbox);
}

void fp_create(struct fp_service *svc, const struct fp_create_args *args,
	       void (*done)(void *arg, const struct fp_created *created), void *arg)
{
	struct create *c = calloc(1, sizeof(*c));
	const struct fp_created nomem = {.status = G_RESOURCE_EXHAUSTED,
					 .message = "this worker is out of memory"};
	struct fp_fail fail;

	if (!c) {
		done(arg, &nomem);
		return;
	}
	c->svc = svc;
	c->done = done;
	c->arg = arg;
	c->begin_ns = clock_mono_ns();
	c->again_ns = AGAIN_MIN_NS;
	c->deadline_ns = fp_deadline_or_default(args->deadline_ns);
	if (fp_create_ready(svc, &fail) ||
	    fp_plan_make(args, svc->default_strong, 0, &c->plan, &fail)) {
		create_refuse(c, &fail);
		return;
	}
	c->planned = true;
	create_run(c);
}
