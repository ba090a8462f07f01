/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch: all members checked and reserved in one pass, started side by side, reported in groups
 * as they are decided. Owns the books of its members; what happens to one between RESERVED and
 * RUNNING is start.c's.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "batch_members.h"
#include "create.h"
#include "fsb.pb-c.h"
#include "start.h"
#include "stop.h"

enum {
	REPORT_MAX = 64, /* members per report, and so per message */
	START_MS = 20,	 /* per member, on top of the default deadline, when the client has none */
};

struct decided {
	struct fp_start *start; /* while it is under way */
	reg_sandbox_id sandbox;
	uint64_t agent_ns, start_ns, total_ns;
	int status;
	char *message; /* of a failure */
	bool joined;   /* another call's sandbox: not ours to roll back */
	bool again; /* to be reserved once more: the call that has its request_id is not through */
};

struct batch {
	struct fp_service *svc;
	struct fp_batch_handlers handlers;
	char name[REG_NAME_MAX + 1];
	bool all, launching, flush_posted, ended;
	uint32_t count, pending, rolling;
	uint32_t started, failed; /* as reported */
	uint64_t begin_ns, reserve_ns, last_ns;
	struct fp_deadline deadline, again;
	uint64_t again_ns;
	bool again_set, again_all; /* the timer; for the whole batch, nothing of which is held */
	struct fp_plan plan;
	struct fp_members ms;
	struct decided *members;
	uint32_t *ready; /* decided and not yet reported */
	uint32_t n_ready;
	int first_status; /* of the first failure */
	char first_message[640];
};

#define AGAIN_MIN_NS (1 * NS_PER_MS)
#define AGAIN_MAX_NS (50 * NS_PER_MS)

static void batch_settle(struct batch *b);
static bool member_again(struct batch *b, uint32_t index);

static struct batch *batch_free(struct batch *b)
{
	if (!b)
		return NULL;
	for (uint32_t i = 0; b->members && i < b->count; i++)
		free(b->members[i].message);
	free(b->members);
	free(b->ready);
	fp_members_done(&b->ms);
	fp_plan_done(&b->plan);
	free(b);
	return NULL;
}

/* ---- reporting ---- */

static void member_fill(struct batch *b, uint32_t index, struct reg_sandbox_view *view,
			struct fp_batch_member *ret)
{
	const struct decided *m = &b->members[index];

	*ret = (struct fp_batch_member){
		.index = index,
		.created = {.status = m->status,
			    .message = m->message ? m->message : "",
			    .timings = {.reserve_ns = b->reserve_ns,
					.agent_ns = m->agent_ns,
					.start_ns = m->start_ns,
					.total_ns = m->total_ns,
					.worker = (int32_t)reg_self_idx(b->svc->me)}},
	};
	if (m->status == G_OK) {
		if (reg_view(b->svc->me, m->sandbox, view) == REG_OK) {
			ret->created.view = view;
		} else {
			ret->created.status = G_ABORTED;
			ret->created.message =
				"the sandbox was started, and deleted before this reply";
		}
	}
	if (ret->created.status == G_OK)
		b->started++;
	else
		b->failed++;
}

static void batch_report(struct batch *b)
{
	struct reg_sandbox_view *views = calloc(REPORT_MAX, sizeof(*views));
	struct fp_batch_member members[REPORT_MAX];
	uint32_t at = 0;

	while (views && at < b->n_ready) {
		uint32_t n = 0;

		for (; n < REPORT_MAX && at < b->n_ready; n++, at++)
			member_fill(b, b->ready[at], &views[n], &members[n]);
		b->handlers.on_members(b->handlers.arg, members, n);
	}
	b->n_ready = 0;
	free(views);
}

static void batch_end(struct batch *b, int status, const char *message)
{
	const struct fp_batch_summary summary = {
		.name = b->name,
		.requested = b->count,
		.started = b->started,
		.failed = b->failed,
		.reserve_ns = b->reserve_ns,
		.total_ns = b->last_ns ? b->last_ns - b->begin_ns : 0,
	};

	fp_deadline_clear(&b->deadline);
	fp_deadline_clear(&b->again);
	b->handlers.on_end(b->handlers.arg, status, message, &summary);
	b->ended = true;
	if (!b->flush_posted)
		batch_free(b);
}

static void on_flush(void *arg)
{
	struct batch *b = arg;

	b->flush_posted = false;
	if (b->ended)
		batch_free(b);
	else
		batch_report(b);
}

/* Members that are decided in one turn of the loop go into one report. */
static void batch_flush_later(struct batch *b)
{
	if (b->flush_posted)
		return;
	b->flush_posted = gloop_post(b->svc->loop, on_flush, b) == 0;
}

/* ---- deciding ---- */

static void member_failed(struct batch *b, uint32_t index, int status, const char *message)
{
	struct decided *m = &b->members[index];

	m->status = status;
	free(m->message);
	m->message = strdup(message);
	if (b->first_status == G_OK) {
		b->first_status = status;
		snprintf(b->first_message, sizeof(b->first_message), "member %" PRIu32 ": %s",
			 index, message);
	}
}

static void member_decided(struct batch *b, uint32_t index)
{
	b->pending--;
	b->ready[b->n_ready++] = index;
	if (b->launching)
		return;
	if (b->pending == 0)
		batch_settle(b);
	else if (!b->all)
		batch_flush_later(b);
}

static void on_start_end(struct fp_start *start, int status, const char *message)
{
	struct batch *b = start->owner;
	struct decided *m = &b->members[start->index];
	uint64_t now = clock_mono_ns();

	m->start = NULL;
	if (start->join_lost && member_again(b, start->index))
		return;
	m->sandbox = start->lease.sandbox;
	m->agent_ns = start->agent_ns;
	m->start_ns = start->start_ns;
	m->total_ns = now - b->begin_ns;
	if (status != G_OK) {
		member_failed(b, start->index, status, message);
	} else {
		b->last_ns = now;
		reg_hist_add(b->svc->me, REG_HIST_TOTAL, m->total_ns);
	}
	member_decided(b, start->index);
}

static void member_given_up(struct batch *b, uint32_t index)
{
	b->members[index].again = false;
	member_failed(b, index, G_DEADLINE_EXCEEDED,
		      "its request_id is held by a create that has not come to anything yet");
	member_decided(b, index);
}

static void on_deadline(struct fp_deadline *deadline)
{
	struct batch *b = (struct batch *)((char *)deadline - offsetof(struct batch, deadline));

	b->launching = true; /* nothing settles while we walk */
	for (uint32_t i = 0; i < b->count; i++) {
		if (b->members[i].start)
			fp_start_abandon(b->members[i].start, "the deadline has passed", b->all);
		else if (b->members[i].again)
			member_given_up(b, i);
	}
	b->launching = false;
	if (b->pending == 0 && b->rolling == 0)
		batch_settle(b);
}

/* ---- all or nothing: undoing ---- */

static void batch_rolled_back(struct batch *b)
{
	for (uint32_t i = 0; i < b->count; i++) {
		if (b->members[i].status == G_OK)
			member_failed(b, i, G_ABORTED, "rolled back: another member failed");
	}
	batch_report(b);
	batch_end(b, b->first_status, b->first_message);
}

static void on_stopped(void *arg, bool confirmed)
{
	struct batch *b = arg;

	/* Not confirmed: STOPPING, and fsb-registryd's to finish. */
	if (--b->rolling == 0)
		batch_rolled_back(b);
}

static void batch_roll_back(struct batch *b)
{
	b->rolling = 1;
	for (uint32_t i = 0; i < b->count; i++) {
		if (b->members[i].status != G_OK || b->members[i].joined)
			continue;
		b->rolling++;
		fp_stop(b->svc, b->members[i].sandbox, -1, on_stopped, b);
	}
	on_stopped(b, true);
}

/* Every member is decided. */
static void batch_settle(struct batch *b)
{
	fp_deadline_clear(&b->deadline);
	if (b->all && b->first_status != G_OK) {
		batch_roll_back(b);
		return;
	}
	batch_report(b);
	batch_end(b, G_OK, "");
}

/* ---- launching ---- */

static void member_launch(struct batch *b, uint32_t i)
{
	struct fp_members *ms = &b->ms;
	struct fp_start_params params = {
		.strong = b->plan.strong,
		.wait_stored = b->plan.wait_stored,
		.deadline_ns = ms->deadline_ns,
		.on_end = on_start_end,
		.owner = b,
		.index = i,
	};
	struct fp_start *start = fp_start_new(b->svc, &params);

	if (!start) {
		if (ms->status[i] == REG_OK)
			(void)reg_abort(b->svc->me, &ms->leases[i]);
		member_failed(b, i, G_RESOURCE_EXHAUSTED, "this worker is out of memory");
		member_decided(b, i);
		return;
	}
	b->members[i].start = start;
	b->members[i].joined = ms->status[i] == REG_REQUEST_SEEN;
	if (b->members[i].joined)
		fp_start_join(start, ms->leases[i].sandbox);
	else
		fp_start_run(start, &ms->leases[i], ms->specs[i]);
}

/* What the registry said of a member: started, joined, asked again, or refused. */
static void member_go(struct batch *b, uint32_t i)
{
	enum reg_status status = b->ms.status[i];
	struct fp_fail fail;

	if (status == REG_OK || (status == REG_REQUEST_SEEN && b->ms.leases[i].sandbox.gen)) {
		member_launch(b, i);
		return;
	}
	if (status == REG_REQUEST_SEEN && member_again(b, i))
		return;
	fp_reserve_fail(b->svc, &b->plan, b->ms.members[i].name, status, &fail);
	member_failed(b, i, fail.status, fail.msg);
	member_decided(b, i);
}

static void batch_launched(struct batch *b)
{
	b->launching = false;
	if (b->pending == 0)
		batch_settle(b);
	else if (!b->all && b->n_ready)
		batch_flush_later(b);
}

static void batch_launch(struct batch *b)
{
	fp_deadline_set(&b->svc->deadlines, &b->deadline, b->ms.deadline_ns, on_deadline);
	b->launching = true;
	b->pending = b->count;
	for (uint32_t i = 0; i < b->count; i++)
		member_go(b, i);
	batch_launched(b);
}

/* All or nothing, and not all could be reserved: nothing is held. */
static void batch_refused(struct batch *b)
{
	struct fp_fail fail;

	for (uint32_t i = 0; i < b->count; i++) {
		b->ready[b->n_ready++] = i;
		if (b->ms.status[i] == REG_OK)
			continue;
		fp_reserve_fail(b->svc, &b->plan, b->ms.members[i].name, b->ms.status[i], &fail);
		member_failed(b, i, fail.status, fail.msg);
	}
	/* The rest was fine, and goes down with them. */
	batch_rolled_back(b);
}

/* ---- once more ---- */

static void batch_run(struct batch *b);

static void on_again(struct fp_deadline *deadline)
{
	struct batch *b = (struct batch *)((char *)deadline - offsetof(struct batch, again));

	b->again_set = false;
	if (b->again_all) {
		b->again_all = false;
		batch_run(b);
		return;
	}
	b->launching = true;
	for (uint32_t i = 0; i < b->count; i++) {
		if (!b->members[i].again)
			continue;
		b->members[i].again = false;
		b->ms.leases[i] = (struct reg_lease){0};
		b->ms.status[i] = reg_reserve(b->svc->me, &b->ms.requests[i], &b->ms.leases[i]);
		member_go(b, i);
	}
	batch_launched(b);
}

/* False: there is no time left. */
static bool again_later(struct batch *b)
{
	uint64_t at = clock_mono_ns() + b->again_ns;

	if (b->again_set)
		return true;
	if (at >= b->ms.deadline_ns || b->svc->draining)
		return false;
	b->again_ns = b->again_ns * 2 < AGAIN_MAX_NS ? b->again_ns * 2 : AGAIN_MAX_NS;
	b->again_set = true;
	fp_deadline_set(&b->svc->deadlines, &b->again, at, on_again);
	return true;
}

/* As a single create does: the one that holds the request_id is not visible yet, or has failed. */
static bool member_again(struct batch *b, uint32_t index)
{
	b->members[index].again = again_later(b);
	return b->members[index].again;
}

/* Some member was seen before, in a call that is not visible yet: that one is still reserving, or
 * is giving up. */
static bool others_under_way(const struct batch *b)
{
	struct reg_sandbox_view view;

	for (uint32_t i = 0; i < b->count; i++) {
		if (b->ms.status[i] == REG_REQUEST_SEEN &&
		    (!b->ms.leases[i].sandbox.gen ||
		     reg_view(b->svc->me, b->ms.leases[i].sandbox, &view) != REG_OK))
			return true;
	}
	return false;
}

static void batch_run(struct batch *b)
{
	uint64_t begin = clock_mono_ns();
	bool reserved = fp_members_reserve(b->svc->me, &b->plan, &b->ms, b->all);

	b->reserve_ns = clock_mono_ns() - begin;
	/* all or nothing, and one was seen: nothing of it is held */
	if (b->all && others_under_way(b)) {
		b->again_all = again_later(b);
		if (b->again_all)
			return;
	}
	if (reserved)
		reg_hist_add(b->svc->me, REG_HIST_BATCH, b->reserve_ns);
	if (reserved || !b->all)
		batch_launch(b);
	else
		batch_refused(b);
}

static struct batch *batch_new(struct fp_service *svc, const struct fp_batch_args *args,
			       const struct fp_batch_handlers *handlers, const char *name)
{
	struct batch *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->svc = svc;
	b->handlers = *handlers;
	b->begin_ns = clock_mono_ns();
	b->again_ns = AGAIN_MIN_NS;
	b->all = args->mode == FSB__V1__BATCH_MODE__ALL_OR_NOTHING;
	b->count = (uint32_t)args->count;
	snprintf(b->name, sizeof(b->name), "%s", name);
	b->members = calloc(b->count, sizeof(*b->members));
	b->ready = calloc(b->count, sizeof(*b->ready));
	return b->members && b->ready ? b : batch_free(b);
}

static int batch_prepare(struct fp_service *svc, const struct fp_batch_args *args,
			 struct fp_plan *plan, struct fp_members *ms, struct fp_fail *fail)
{
	int status = fp_create_ready(svc, fail);

	if (!status)
		status = fp_batch_check(args, fail);
	if (status)
		return status;
	status =
		fp_plan_make(&args->common, svc->default_strong, (uint32_t)args->count, plan, fail);
	if (status)
		return status;
	status = fp_members_make(plan, args, ms, fail);
	if (status)
		fp_plan_done(plan);
	return status;
}

void fp_batch(struct fp_service *svc, const struct fp_batch_args *args,
	      const struct fp_batch_handlers *handlers)
{
	struct fp_members ms;
	struct fp_plan plan;
	struct fp_fail fail;
	struct batch *b;

	if (batch_prepare(svc, args, &plan, &ms, &fail)) {
		handlers->on_end(handlers->arg, fail.status, fail.msg, NULL);
		return;
	}
	ms.deadline_ns = args->common.deadline_ns;
	if (ms.deadline_ns == UINT64_MAX)
		ms.deadline_ns = clock_mono_ns() + FP_DEADLINE_NS +
				 (uint64_t)args->count * START_MS * NS_PER_MS;
	b = batch_new(svc, args, handlers, plan.name);
	if (!b) {
		handlers->on_end(handlers->arg, G_RESOURCE_EXHAUSTED,
				 "this worker is out of memory", NULL);
		fp_members_done(&ms);
		fp_plan_done(&plan);
		return;
	}
	b->ms = ms;
	b->plan = plan;
	batch_run(b);
}
