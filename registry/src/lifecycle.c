/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens to a sandbox after it runs: stop, stopped, exited, lost, found, update. Several
 * processes may report the same thing; each transition is one CAS on the record word and what
 * follows it is exact and repeatable. Lock free.
 */
#include "internal.h"

#include <string.h>

typedef enum reg_status (*transition_fn)(uint64_t w, uint64_t *ret_next);

/* Code, signal and flags in 36 bits: valid 1 | oom 1 | unknown 1 | - 1 | code+1 9 | signal 7. */
static int64_t exit_pack(const struct reg_exit *e)
{
	int code = e->code < 0 || e->code > 255 ? 0 : e->code + 1;

	return 1 | (e->oom_killed ? 2 : 0) | (e->unknown ? 4 : 0) | (int64_t)code << 4 |
	       (int64_t)(e->signal & 0x7f) << 13;
}

void reg__exit_store(struct reg_rec *rec, uint32_t gen, const struct reg_exit *e)
{
	/* acquire [X1]: pairs with the CASes of other reporters */
	uint64_t old = atomic_load_explicit(&rec->exit, memory_order_acquire);
	uint64_t fin = atomic_load_explicit(&rec->finished, memory_order_acquire); /* [X1] */
	int64_t created =
		(int64_t)__atomic_load_n(&rec->created_unix_ns, __ATOMIC_ACQUIRE); /* [R2] */
	/* rounded up, so that a sandbox never ends before it has started */
	int64_t ms = e->finished_unix_ns > created
			     ? (e->finished_unix_ns - created + 999999) / 1000000
			     : 0;

	if (tagged_gen(old) != gen || tagged_value(old) & 1)
		return; /* another incarnation's, or the first report stands */
	ms = ms < 1 ? 1 : ms > TAGGED_MAX ? TAGGED_MAX : ms;
	if (tagged_gen(fin) == gen) /* acq_rel [X1]: finish before exit */
		(void)atomic_compare_exchange_strong_explicit(
			&rec->finished, &fin, tagged_make(ms, gen), memory_order_acq_rel,
			memory_order_relaxed);
	(void)atomic_compare_exchange_strong_explicit(
		&rec->exit, &old, tagged_make(exit_pack(e), gen), memory_order_acq_rel,
		memory_order_relaxed); /* [X1] */
}

/* Runs one transition in its CAS loop. *ret_before and *ret_after are the words around it. */
static enum reg_status apply(struct reg_self *me, reg_sandbox_id id, transition_fn fn,
			     struct reg_rec **ret_rec, uint64_t *ret_before, uint64_t *ret_after)
{
	a64 *word;

	if (!reg__rec_is(me->reg, id, ret_rec, &word, ret_before))
		return REG_STALE;
	reg__changing(me, id.idx);
	do {
		enum reg_status st = word_gen(*ret_before) == id.gen && word_state(*ret_before)
					     ? fn(*ret_before, ret_after)
					     : REG_STALE;

		if (st)
			return st;
		if (*ret_after == *ret_before)
			return REG_OK;
		/* acq_rel [R1] */
	} while (!atomic_compare_exchange_weak_explicit(
		word, ret_before, *ret_after, memory_order_acq_rel, memory_order_acquire));
	return REG_OK;
}

static enum reg_status to_stop_delete(uint64_t w, uint64_t *next)
{
	return rec_to_stop(w, REG_STOP_DELETE, next);
}

static enum reg_status to_stop_expire(uint64_t w, uint64_t *next)
{
	return rec_to_stop(w, REG_STOP_EXPIRE, next);
}

enum reg_status reg_stop(struct reg_self *me, reg_sandbox_id sandbox, enum reg_stop_reason reason,
			 enum reg_state *ret_prior)
{
	struct reg_rec *rec;
	uint64_t before, after;
	enum reg_status st =
		apply(me, sandbox, reason == REG_STOP_DELETE ? to_stop_delete : to_stop_expire,
		      &rec, &before, &after);

	if (st)
		return st;
	(void)FAILPOINT("stop.marked");
	if (ret_prior)
		*ret_prior = (enum reg_state)word_state(before);
	reg__changed(me, sandbox.idx, rec);
	return REG_OK;
}

/* The slot word of a record that has left its agent is freed; ports, too. */
static void settled(struct reg_self *me, reg_sandbox_id id, struct reg_rec *rec)
{
	reg__unplace(me, id.idx, rec, id.gen);
	reg__changed(me, id.idx, rec);
}

enum reg_status reg_stopped(struct reg_self *me, reg_sandbox_id sandbox,
			    const struct reg_exit *exit)
{
	struct reg_rec *rec;
	a64 *word;
	uint64_t w, next;

	if (!reg__rec_is(me->reg, sandbox, &rec, &word, &w))
		return REG_STALE;
	if (exit)
		reg__exit_store(rec, sandbox.gen, exit);
	reg__changing(me, sandbox.idx);
	do {
		enum reg_status st = word_gen(w) == sandbox.gen && word_state(w)
					     ? rec_to_stopped(w, me->idx, &next)
					     : REG_STALE;

		if (st)
			return st;
		if (next == w)
			return REG_OK;
		/* seq_cst [R1] [D1] [B3]: of several finishers one gets through; CLAIMED names it,
		 * so that its death is repaired */
	} while (!atomic_compare_exchange_weak_explicit(word, &w, next, memory_order_seq_cst,
							memory_order_acquire));
	(void)FAILPOINT("stopped.moved");
	if (word_state(next) == REG_CLAIMED)
		reg__undo(me, sandbox.idx);
	else if (word_state(next) == REG_EXITED || word_state(next) == REG_EXPIRED)
		settled(me, sandbox, rec);
	return REG_OK;
}

enum reg_status reg_exited(struct reg_self *me, reg_sandbox_id sandbox, const struct reg_exit *exit)
{
	struct reg_rec *rec;
	a64 *word;
	uint64_t before, after;
	enum reg_status st;

	if (!reg__rec_is(me->reg, sandbox, &rec, &word, &before))
		return REG_STALE;
	if (rec_to_exited(before, &after))
		return REG_BAD_STATE;
	/* before the state that lets others read it */
	reg__exit_store(rec, sandbox.gen, exit);
	(void)FAILPOINT("exited.noted");
	st = apply(me, sandbox, rec_to_exited, &rec, &before, &after);
	if (st)
		return st;
	(void)FAILPOINT("exited.moved");
	if (before != after && word_state(after) == REG_EXITED)
		settled(me, sandbox, rec);
	return REG_OK;
}

enum reg_status reg_lost(struct reg_self *me, reg_sandbox_id sandbox, const char *message)
{
	struct reg_rec *rec;
	uint64_t before, after;
	enum reg_status st = apply(me, sandbox, rec_to_lost, &rec, &before, &after);

	if (st)
		return st;
	if (message && *message)
		st = reg__blob_swap(me, sandbox, &rec->message, NULL, message,
				    (uint32_t)strnlen(message, REG_MESSAGE_MAX));
	reg__changed(me, sandbox.idx, rec);
	return st;
}

enum reg_status reg_found(struct reg_self *me, reg_sandbox_id sandbox)
{
	struct reg_rec *rec;
	a64 *word;
	uint64_t before, after;
	enum reg_status st;

	if (!reg__rec_is(me->reg, sandbox, &rec, &word, &before))
		return REG_STALE;
	/* acquire [R3] */
	uint64_t place = atomic_load_explicit(&rec->place, memory_order_acquire);

	/* from the store, or given up half-way: it needs a slot of its own */
	if (word_state(before) == REG_LOST && !(place & PLACE_HELD)) {
		struct reg_row agent = reg__row_now(me->reg, CELLS_AGENTS, place_agent(place));

		return reg_adopt(me, sandbox, (reg_agent_id){agent.idx, agent.gen});
	}
	st = apply(me, sandbox, rec_to_found, &rec, &before, &after);
	if (st)
		return st;
	(void)reg__blob_swap(me, sandbox, &rec->message, NULL, NULL, 0);
	reg__changed(me, sandbox.idx, rec);
	return REG_OK;
}

/* A value tagged with the generation: a writer that was stopped and comes too late changes nothing
 * of another sandbox. */
static bool tagged_store(a64 *field, uint32_t gen, int64_t (*change)(int64_t old, const void *arg),
			 const void *arg)
{
	/* relaxed: a value on its own; revision and dirty bit follow with release */
	uint64_t old = atomic_load_explicit(field, memory_order_relaxed);

	do {
		if (tagged_gen(old) != gen)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
		field, &old, tagged_make(change(tagged_value(old), arg), gen), memory_order_release,
		memory_order_relaxed)); /* release: the mark of reg__changing before it */
	return true;
}

static int64_t set_expire(int64_t old, const void *arg)
{
	(void)old;
	return ((const struct reg_update *)arg)->expire_unix_s;
}

static int64_t set_policy(int64_t old, const void *arg)
{
	const struct reg_update *u = arg;
	int64_t policy = u->fields & REG_SET_POLICY ? (int64_t)u->policy : old & 0xf;
	int64_t recovery = u->fields & REG_SET_RECOVERY ? u->recovery_timeout_s : old >> 4;

	return recovery << 4 | policy;
}

enum reg_status reg_update(struct reg_self *me, reg_sandbox_id sandbox, const struct reg_update *u)
{
	struct reg_rec *rec;
	a64 *word;
	uint64_t w;

	if (u->fields & ~(uint32_t)(REG_SET_EXPIRE | REG_SET_POLICY | REG_SET_RECOVERY |
				    REG_SET_LABELS | REG_IF_LABELS) ||
	    (u->fields & REG_SET_EXPIRE &&
	     (u->expire_unix_s < 0 || u->expire_unix_s > TAGGED_MAX)) ||
	    (u->fields & REG_SET_RECOVERY && u->recovery_timeout_s < 0))
		return REG_INVALID;
	if (u->fields & REG_SET_LABELS && u->labels_len > REG_LABELS_MAX)
		return REG_TOO_LARGE;
	if (!reg__rec_is(me->reg, sandbox, &rec, &word, &w) || !rec_state_visible(word_state(w)))
		return REG_STALE;
	reg__changing(me, sandbox.idx);
	if (u->fields & REG_SET_LABELS) {
		enum reg_status st =
			reg__blob_swap(me, sandbox, &rec->labels,
				       u->fields & REG_IF_LABELS ? &u->labels_seen : NULL,
				       u->labels, u->labels_len);

		if (st)
			return st;
	}
	if (u->fields & REG_SET_EXPIRE && !tagged_store(&rec->expire, sandbox.gen, set_expire, u))
		return REG_STALE;
	if (u->fields & (REG_SET_POLICY | REG_SET_RECOVERY) &&
	    !tagged_store(&rec->policy, sandbox.gen, set_policy, u))
		return REG_STALE;
	reg__changed(me, sandbox.idx, rec);
	return REG_OK;
}
