/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Agents: join, readiness, capacity, drain, removal and return. Administration has one writer per
 * agent (registryd; draining: anybody), and nobody who reserves, releases or reads waits for it.
 */
#include "internal.h"

#include <string.h>

/* ---- which agent ---- */

enum reg_status reg__agent_of(const struct reg *reg, reg_agent_id id, struct reg_agent **ret)
{
	struct reg_agent *a = reg__agent(reg, id.idx);
	a64 *word = a ? reg__cell(reg, CELLS_AGENTS, id.idx) : NULL;
	/* acquire [C2]: the row's contents */
	uint64_t w = word ? atomic_load_explicit(word, memory_order_acquire) : 0;

	if (!word_gen(w))
		return REG_NOT_FOUND; /* never used */
	if (word_gen(w) != id.gen || !row_state_found(word_state(w)))
		return REG_STALE;
	*ret = a;
	return REG_OK;
}

/* Before anybody finds the row: whoever does may join it at once. */
void reg__agent_row_init(struct reg *reg, uint32_t idx, uint32_t gen, uint32_t pool)
{
	struct reg_agent *a = reg__agent(reg, idx);
	a64 *bits = pool == REG_NIL ? NULL : reg__pool_bits(reg, pool);

	/* relaxed, all: published by the index */
	atomic_store_explicit(&a->hot, hot_pack(0, 0, 0, gen), memory_order_relaxed);
	atomic_store_explicit(reg__hint(reg, idx), REG_HINT_FULL, memory_order_relaxed);
	atomic_store_explicit(&a->incarnation, 0, memory_order_relaxed);
	atomic_store_explicit(&a->heartbeat_unix_ns, 0, memory_order_relaxed);
	atomic_store_explicit(&a->capacity, 0, memory_order_relaxed);
	atomic_store_explicit(&a->images, 0, memory_order_relaxed);
	atomic_store_explicit(&a->pool, pool, memory_order_relaxed);
	if (bits) /* not ready: it only keeps the stripe */
		reg__member_add(reg, bits, idx);
}

/* After a grace period, RETIRED: nobody refers to it. Repeatable. The chunks stay with the row. */
void reg__agent_reclaim(struct reg_self *me, uint32_t idx)
{
	struct reg *reg = me->reg;
	struct reg_agent *a = reg__agent(reg, idx);
	/* relaxed: ours */
	a64 *bits = reg__pool_bits(reg, atomic_load_explicit(&a->pool, memory_order_relaxed));

	reg__images_clear(reg, idx);
	if (bits)
		reg__member_remove(reg, bits, idx);
	reg__cold_drop(me, idx);
	/* relaxed: ours */
	atomic_store_explicit(&a->pool, REG_NIL, memory_order_relaxed);
}

/* ---- the hot word ---- */

/* Of that generation only: false when the row is another agent's by now. seq_cst [H1] [U2]: the
 * truth before the hint; whoever has claimed a slot looks at it after. */
static bool hot_change(struct reg_agent *a, uint32_t gen, unsigned int set, unsigned int clear)
{
	uint64_t hot = atomic_load_explicit(&a->hot, memory_order_relaxed); /* checked by the CAS */

	while (hot_gen(hot) == gen)
		if (atomic_compare_exchange_weak_explicit(
			    &a->hot, &hot, hot_with_flags(hot, set, clear), memory_order_seq_cst,
			    memory_order_relaxed))
			return true;
	return false;
}

/*
 * The largest u with u + (slots held at and above u) <= capacity: so many of the lowest slots may
 * be taken. As u grows by one the sum grows by one or stays, so it is found from above. Without
 * slots held beyond the capacity it is the capacity.
 */
static uint32_t limit_of(const struct reg *reg, uint32_t agent, uint32_t capacity)
{
	uint32_t u = 0, beyond = 0;

	while (u < REG_SLOTS_PER_AGENT_MAX && reg__slot(reg, agent, u))
		u++;
	u = u > capacity ? u : capacity;
	while (u && u + beyond > capacity) {
		const a64 *slot = reg__slot(reg, agent, --u);

		/* seq_cst [U2]: pairs with the claim: it is seen here, or looks at the hot word
		 * after us */
		beyond += slot &&
			  word_state(atomic_load_explicit(slot, memory_order_seq_cst)) != SLOT_FREE;
	}
	return u;
}

/* Until what is stored fits the slot words: the last to store has looked last. */
void reg__agent_limit(struct reg *reg, uint32_t agent)
{
	struct reg_agent *a = reg__agent(reg, agent);
	/* seq_cst [U2] */
	uint64_t hot = a ? atomic_load_explicit(&a->hot, memory_order_seq_cst) : 0;

	while (a) {
		uint32_t u = limit_of(reg, agent, hot_capacity(hot));

		if (u == hot_slots(hot))
			return;
		if (atomic_compare_exchange_strong_explicit(&a->hot, &hot, hot_with_slots(hot, u),
							    memory_order_seq_cst,
							    memory_order_seq_cst)) /* [U2] [H1] */
			hot = hot_with_slots(hot, u);
	}
}

/* ---- join ---- */

static bool info_valid(const struct reg_agent_info *i)
{
	return i->ns && *i->ns && strlen(i->ns) <= REG_NAMESPACE_MAX && i->name && *i->name &&
	       strlen(i->name) <= REG_NAME_MAX && i->pool && *i->pool &&
	       strlen(i->pool) <= REG_NAME_MAX && (!i->node || strlen(i->node) <= REG_NAME_MAX) &&
	       (!i->address || strlen(i->address) <= REG_ADDRESS_MAX) &&
	       (!i->host_ip || strlen(i->host_ip) < 64);
}

static void pool_move(struct reg *reg, struct reg_agent *a, uint32_t agent, uint32_t pool)
{
	/* relaxed: one writer */
	uint32_t before = atomic_load_explicit(&a->pool, memory_order_relaxed);
	a64 *old = before == pool ? NULL : reg__pool_bits(reg, before);

	if (old)
		reg__member_remove(reg, old, agent);
	/* seq_cst [G4] [U1] [U2]: pairs with reg__slot_free, who claims, and who retires the pool;
	 * before the hot word makes it ready there */
	atomic_store_explicit(&a->pool, pool, memory_order_seq_cst);
	reg__member_add(reg, reg__pool_bits(reg, pool), agent);
}

static uint32_t slots_for(const struct reg *reg, int64_t capacity)
{
	return capacity <= 0
		       ? reg->slots_unlimited
		       : (capacity > REG_SLOTS_PER_AGENT_MAX ? UINT32_MAX : (uint32_t)capacity);
}

static void capacity_set(struct reg *reg, struct reg_agent *a, uint32_t agent, int64_t given,
			 uint32_t slots, unsigned int clear)
{
	/* relaxed: checked by the CAS */
	uint64_t hot = atomic_load_explicit(&a->hot, memory_order_relaxed);

	/* relaxed: for humans */
	atomic_store_explicit(&a->capacity, (uint64_t)given, memory_order_relaxed);
	/* seq_cst [H1] [U2]: the smaller of both limits first, then what the words allow */
	while (!atomic_compare_exchange_weak_explicit(
		&a->hot, &hot,
		hot_pack(hot_slots(hot) < slots ? hot_slots(hot) : slots, slots,
			 hot_flags(hot) & ~clear, hot_gen(hot)),
		memory_order_seq_cst, memory_order_relaxed))
		;
	(void)FAILPOINT("agent.capacity-set");
	reg__agent_limit(reg, agent);
}

#define JOIN_TRIES 1000 /* looks at a row that somebody else works on */

struct joining {
	const struct reg_agent_info *info;
	uint32_t slots;
	struct reg_row agent;
	struct reg_cold_change cold;
};

/* The agent's row, held; made when there is none, beside the other agents of its pool. */
static enum reg_status join_hold(struct reg_self *me, struct joining *j)
{
	struct reg_row pool = {REG_NIL, 0};

	for (int tries = 0; tries < JOIN_TRIES; tries++) {
		enum reg_status st;

		if (!reg__find_pool(me->reg, j->info->ns, j->info->pool, &pool))
			pool.idx = REG_NIL;
		st = reg__agent_intern(me, j->info->ns, j->info->name, pool.idx, &j->agent);
		if (st)
			return st;
		if (reg__row_hold(me, CELLS_AGENTS, j->agent))
			return REG_OK;
	}
	return REG_CONFLICT;
}

/* Everything that can be refused. What it made so far is invisible: a row that has never joined,
 * chunks beyond the capacity, a pool without agents, which the sweep takes. */
static enum reg_status join_prepare(struct reg_self *me, struct joining *j)
{
	struct reg_row pool;
	enum reg_status st = reg__agent_grow(me, j->agent.idx, j->slots);

	if (!st)
		st = reg__cold_prepare(me, j->agent.idx, j->info, &j->cold);
	if (st)
		return st;
	st = reg__pool_intern(me, j->info->ns, j->info->pool, &pool);
	if (st)
		reg__cold_abandon(me, &j->cold);
	return st;
}

/* Inside a read section a pool that is found is not another one's before the end; and when it
 * stands after the agent names it, no sweep takes it. false: not there (any more). */
static bool join_pool(struct reg_self *me, struct joining *j)
{
	struct reg *reg = me->reg;
	struct reg_row pool;
	bool there;

	reg__read_lock();
	there = reg__find_pool(reg, j->info->ns, j->info->pool, &pool);
	if (there) {
		pool_move(reg, reg__agent(reg, j->agent.idx), j->agent.idx, pool.idx);
		there = reg__row_stands(reg, CELLS_POOLS, pool);
	}
	reg__read_unlock();
	return there;
}

static enum reg_status join_publish(struct reg_self *me, struct joining *j)
{
	struct reg *reg = me->reg;
	struct reg_agent *a = reg__agent(reg, j->agent.idx);
	struct reg_row pool;

	/* down while it moves: no claim in between counts for the new pool */
	(void)hot_change(a, j->agent.gen, 0, HOT_UP);
	reg__cold_publish(me, j->agent.idx, &j->cold);
	while (!join_pool(me, j)) {
		enum reg_status st = reg__pool_intern(me, j->info->ns, j->info->pool, &pool);

		if (st)
			return st; /* swept in this moment, and others took the last row */
	}
	/* relaxed: for humans, and before the hot word for the sweep */
	atomic_fetch_add_explicit(&a->incarnation, 1, memory_order_relaxed);
	capacity_set(reg, a, j->agent.idx, j->info->capacity, j->slots, HOT_UP | HOT_REMOVED);
	(void)reg__agent_heal(reg, j->agent.idx);
	return REG_OK;
}

enum reg_status reg_agent_join(struct reg_self *me, const struct reg_agent_info *info,
			       reg_agent_id *ret)
{
	struct joining j = {.info = info};
	enum reg_status st;

	if (!info_valid(info))
		return REG_INVALID;
	j.slots = slots_for(me->reg, info->capacity);
	if (j.slots > REG_SLOTS_PER_AGENT_MAX)
		return REG_INVALID;
	st = join_hold(me, &j);
	if (st)
		return st;
	st = join_prepare(me, &j);
	if (!st)
		st = join_publish(me, &j);
	reg__row_let_go(me, CELLS_AGENTS, j.agent);
	if (!st)
		*ret = (reg_agent_id){j.agent.idx, j.agent.gen};
	return st;
}

/* ---- what may happen to it while it is used ---- */

/* Whatever may make room there: nobody trusts a memo of "full" in between. */
static enum reg_status flags_change(struct reg_self *me, reg_agent_id id, struct reg_agent *a,
				    unsigned int set, unsigned int clear)
{
	/* relaxed: a pool that it joins meanwhile is told by the join */
	uint32_t pool = atomic_load_explicit(&a->pool, memory_order_relaxed);
	bool changed;

	reg__room_begin(me, pool);
	changed = hot_change(a, id.gen, set, clear);
	reg__hint_publish(me->reg, id.idx);
	reg__room_end(me, pool);
	return changed ? REG_OK : REG_STALE;
}

enum reg_status reg_agent_set_ready(struct reg_self *me, reg_agent_id agent, bool ready)
{
	struct reg_agent *a;
	enum reg_status st = reg__agent_of(me->reg, agent, &a);

	if (st)
		return st;
	/* relaxed: one writer */
	if (ready && hot_flags(atomic_load_explicit(&a->hot, memory_order_relaxed)) & HOT_REMOVED)
		return REG_BAD_STATE;
	return flags_change(me, agent, a, ready ? HOT_UP : 0, ready ? 0 : HOT_UP);
}

enum reg_status reg_agent_set_drain(struct reg_self *me, reg_agent_id agent, bool drain)
{
	struct reg_agent *a;
	enum reg_status st = reg__agent_of(me->reg, agent, &a);

	if (st)
		return st;
	return flags_change(me, agent, a, drain ? HOT_DRAINING : 0, drain ? 0 : HOT_DRAINING);
}

enum reg_status reg_agent_set_capacity(struct reg_self *me, reg_agent_id agent, int32_t capacity)
{
	uint32_t slots = slots_for(me->reg, capacity);
	struct reg_agent *a;
	enum reg_status st = reg__agent_of(me->reg, agent, &a);

	if (st)
		return st;
	if (slots > REG_SLOTS_PER_AGENT_MAX)
		return REG_INVALID;
	st = reg__agent_grow(me, agent.idx, slots);
	if (st)
		return st;
	/* relaxed: one writer */
	uint32_t pool = atomic_load_explicit(&a->pool, memory_order_relaxed);

	reg__room_begin(me, pool);
	capacity_set(me->reg, a, agent.idx, capacity, slots, 0);
	reg__hint_publish(me->reg, agent.idx);
	reg__room_end(me, pool);
	return REG_OK;
}

enum reg_status reg_agent_heartbeat(struct reg_self *me, reg_agent_id agent, int64_t unix_ns)
{
	struct reg_agent *a;
	enum reg_status st = reg__agent_of(me->reg, agent, &a);

	if (st)
		return st;
	/* relaxed: for humans */
	atomic_store_explicit(&a->heartbeat_unix_ns, (uint64_t)unix_ns, memory_order_relaxed);
	return REG_OK;
}

/* ---- removal ---- */

static void lose_what_runs(struct reg_self *me, uint32_t agent)
{
	struct reg *reg = me->reg;

	for (uint32_t s = 0; s < REG_SLOTS_PER_AGENT_MAX; s++) {
		a64 *slot = reg__slot(reg, agent, s);

		if (!slot)
			break;
		/* seq_cst [U2]: a claim that did not see the removal is seen here */
		uint64_t w = atomic_load_explicit(slot, memory_order_seq_cst);
		a64 *rec = word_state(w) == SLOT_FREE
				   ? NULL
				   : reg__cell(reg, CELLS_RECORDS, word_record(w));
		/* acquire [R1] */
		uint64_t r = rec ? atomic_load_explicit(rec, memory_order_acquire) : 0;

		if (word_state(r) == REG_RUNNING)
			(void)reg_lost(me, (reg_sandbox_id){word_record(w), word_gen(r)},
				       "its agent was removed");
	}
}

enum reg_status reg_agent_remove(struct reg_self *me, reg_agent_id agent)
{
	struct reg_agent *a;
	enum reg_status st = reg__agent_of(me->reg, agent, &a);
	a64 *bits;

	if (st)
		return st;
	if (!hot_change(a, agent.gen, HOT_REMOVED, HOT_UP | HOT_DRAINING))
		return REG_STALE;
	reg__hint_publish(me->reg, agent.idx);
	(void)FAILPOINT("agent.removed");
	/* relaxed: one writer */
	bits = reg__pool_bits(me->reg, atomic_load_explicit(&a->pool, memory_order_relaxed));
	if (bits)
		reg__member_remove(me->reg, bits, agent.idx);
	reg__images_clear(me->reg, agent.idx);
	lose_what_runs(me, agent.idx);
	return REG_OK;
}
