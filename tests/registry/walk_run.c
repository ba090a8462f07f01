/* SPDX-License-Identifier: Apache-2.0 */
/* Carries out a script: each operation by the registry and by the oracle, and the same answer. Here
 * single sandboxes. */
#include "walk_run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "walk_step.h"

void walk_say(const struct walk_run *run, const char *format, ...)
{
	va_list args;

	if (!run->loud)
		return;
	va_start(args, format);
	(void)vprintf(format, args);
	va_end(args);
	(void)fflush(stdout);
}

/* ---- one sandbox ---- */
static struct reg_lease lease_of(const struct walk_run *run, const struct ora_sandbox *s)
{
	return (struct reg_lease){
		.sandbox = s->handle,
		.agent = {.idx = s->agent == ORA_NONE ? UINT32_MAX : run->ora.agents[s->agent].idx},
		.slot = s->slot,
		.slot_gen = s->slot_gen};
}

static void remember_dead(struct walk_run *run, const struct reg_lease *lease,
			  const struct ora_sandbox *s)
{
	if (s->state == REG_FREE)
		run->stale[run->stale_count++ % WALK_DEAD] = *lease;
}

static void adopt(struct walk_run *run, struct reg_self *me, struct ora_sandbox *s, int agent)
{
	enum reg_status want = s->deleting ? REG_DELETING : REG_OK, have;
	struct reg_sandbox_view view;
	bool running = s->state == REG_RUNNING;

	have = reg_adopt(me, s->handle,
			 (reg_agent_id){run->ora.agents[agent].idx, run->ora.agents[agent].gen});
	if (running || (s->state != REG_LOST && s->state != REG_RESTORED)) {
		CHECK_ST(have, running && s->agent == agent ? REG_OK : REG_BAD_STATE);
		return;
	}
	if (run->ora.agents[agent].removed) { /* it stays what it was, with nothing */
		CHECK_ST(have, REG_STALE);
		s->agent = agent;
		s->held = false;
		return;
	}
	CHECK_ST(have, want);
	CHECK_OK(reg_view(me, s->handle, &view));
	CHECK_EQ(view.agent.idx, run->ora.agents[agent].idx);
	if (!s->held || s->agent != agent)
		CHECK(!ora_slot_held(&run->ora, agent, view.slot));
	CHECK_ST(ora_adopt(&run->ora, s, agent, view.slot, view.slot_gen), want);
}

static void found(struct walk_run *run, struct reg_self *me, struct ora_sandbox *s)
{
	struct reg_sandbox_view view;

	if (s->state == REG_LOST && !s->held) { /* it gets a slot where it was */
		if (s->agent == ORA_NONE) {
			CHECK_ST(reg_found(me, s->handle), REG_NOT_FOUND);
			return;
		}
		if (run->ora.agents[s->agent].removed) {
			CHECK_ST(reg_found(me, s->handle), REG_STALE);
			return;
		}
		CHECK_ST(reg_found(me, s->handle), s->deleting ? REG_DELETING : REG_OK);
		CHECK_OK(reg_view(me, s->handle, &view));
		CHECK_EQ(view.agent.idx, run->ora.agents[s->agent].idx);
		CHECK(!ora_slot_held(&run->ora, s->agent, view.slot));
		(void)ora_adopt(&run->ora, s, s->agent, view.slot, view.slot_gen);
		return;
	}
	CHECK_ST(reg_found(me, s->handle), ora_found(s));
}

static void update(struct walk_run *run, struct reg_self *me, const struct walk_op *op,
		   struct ora_sandbox *s)
{
	struct reg_update u = {.fields = op->b % 8 & (REG_SET_EXPIRE | REG_SET_POLICY),
			       .expire_unix_s = 1800000000 + op->c,
			       .policy = op->d % 2 ? REG_AUTO_RECREATE : REG_MANUAL};
	char text[WALK_TEXT];

	if (op->b / 8 % 2) {
		u.fields |= REG_SET_LABELS;
		s->labels = ++run->labels;
		walk_labels(s->labels, text);
		u.labels = text;
		u.labels_len = (uint32_t)strlen(text);
	}
	CHECK_OK(reg_update(me, s->handle, &u));
	if (u.fields & REG_SET_EXPIRE)
		s->expire = u.expire_unix_s;
	if (u.fields & REG_SET_POLICY)
		s->policy = u.policy;
}

static void stop(struct reg_self *me, const struct walk_op *op, struct ora_sandbox *s)
{
	enum reg_stop_reason reason = op->b % 4 ? REG_STOP_DELETE : REG_STOP_EXPIRE;
	enum reg_state before = s->state, prior = REG_FREE;
	reg_sandbox_id handle = s->handle;
	enum reg_status want = ora_stop(s, reason);

	CHECK_ST(reg_stop(me, handle, reason, &prior), want);
	if (want == REG_OK)
		CHECK_EQ(prior, before);
}

static void one_sandbox(struct walk_run *run, struct reg_self *me, const struct walk_op *op,
			struct ora_sandbox *s)
{
	struct reg_lease lease = lease_of(run, s);
	struct reg_started started = {.started_unix_ns = 5};
	struct reg_exit ex = {.code = op->b % 3, .finished_unix_ns = 9};
	/* the owner's calls come from the owner, mostly */
	if (op->kind >= WALK_STARTING && op->kind <= WALK_ABORT && op->c % 8)
		for (int i = 0; i < run->world->parts; i++)
			if (reg_self_idx(run->who[i]) == s->owner)
				me = run->who[i];
	uint32_t idx = reg_self_idx(me);

	walk_say(run, "  %s n%d (%s) by %u", walk_kind_name(op->kind), s->name,
		 reg_state_name(s->state), idx);
	switch (op->kind) {
	case WALK_STARTING:
		CHECK_ST(reg_starting(me, &lease), ora_starting(s, idx));
		break;
	case WALK_COMMIT:
		CHECK_ST(reg_commit(me, &lease, &started), ora_commit(s, idx));
		break;
	case WALK_ABORT:
		CHECK_ST(reg_abort(me, &lease), ora_abort(&run->ora, s, idx));
		break;
	case WALK_STOP:
		stop(me, op, s);
		break;
	case WALK_STOPPED:
		CHECK_ST(reg_stopped(me, lease.sandbox, &ex), ora_stopped(&run->ora, s));
		break;
	case WALK_EXITED:
		CHECK_ST(reg_exited(me, lease.sandbox, &ex), ora_exited(s));
		break;
	case WALK_LOST:
		CHECK_ST(reg_lost(me, lease.sandbox, "lost"), ora_lost(s));
		break;
	case WALK_FOUND:
		found(run, me, s);
		break;
	case WALK_ADOPT:
		if (run->ora.agents[op->b % run->world->agents].joined)
			adopt(run, me, s, op->b % run->world->agents);
		break;
	case WALK_UPDATE:
		update(run, me, op, s);
		break;
	default:
		walk_compare_one(run, me, s);
	}
	remember_dead(run, &lease, s);
}

static void one_call(struct walk_run *run, struct reg_self *me, const struct walk_op *op)
{
	switch (op->kind) {
	case WALK_RESERVE:
		walk_reserve(run, me, op);
		break;
	case WALK_BATCH:
		walk_batch(run, me, op);
		break;
	case WALK_INSERT:
		walk_insert(run, me, op);
		break;
	case WALK_GET:
		walk_get(run, me, op);
		break;
	case WALK_STALE:
		walk_stale(run, me, op);
		break;
	case WALK_LEAVE:
		walk_leave(run, op);
		break;
	case WALK_STORE:
		walk_store(run, me);
		break;
	case WALK_POOL:
		walk_pool(run, me, op);
		break;
	case WALK_SWEEP:
		walk_sweep(run, me);
		break;
	case WALK_SCRUB:
		(void)reg_scrub(me);
		break;
	default:
		walk_compare(run);
	}
}

void walk_step(struct walk_run *run, const struct walk_op *op)
{
	struct reg_self *me = run->who[op->who % run->world->parts];
	uint32_t used = ora_used(&run->ora);

	run->sum->ops++;
	if (op->kind >= WALK_STARTING && op->kind <= WALK_UPDATE && op->kind != WALK_INSERT) {
		if (!used)
			return;
		one_sandbox(run, me, op, &run->ora.sandboxes[ora_nth(&run->ora, op->a % used)]);
	} else if (op->kind <= WALK_REMOVE) {
		walk_administer(run, me, op);
	} else {
		one_call(run, me, op);
	}
	run->sum->by_kind[op->kind]++;
}
