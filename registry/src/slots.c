/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slots of agents: taking and freeing them, and what is derived from their words: the mask bits
 * (set = probably in use) and one hint per agent. Truth about load is the slot words. A hint is a
 * pure function of the hot word and the masks; whoever changes one of these writes the hint and
 * looks again until they agree.
 */
#include "place.h"
#include "seat.h"

a64 *reg__mask(const struct reg *reg, uint32_t agent, uint32_t chunk)
{
	const struct reg_agent *a = reg__agent(reg, agent);
	uint32_t c = a ? chunk_of(a, chunk) : REG_NIL;

	return c < reg->max[CELLS_CHUNKS] ? mask_at(reg, c) : NULL;
}

a64 *reg__slot(const struct reg *reg, uint32_t agent, uint32_t slot)
{
	const struct reg_agent *a = reg__agent(reg, agent);
	a64 *words = a ? words_at(reg, chunk_of(a, slot / REG_CHUNK_SLOTS)) : NULL;

	return words ? &words[slot % REG_CHUNK_SLOTS] : NULL;
}

uint32_t reg__load_of_rest(const struct reg *reg, const struct reg_agent *agent)
{
	uint32_t load = 0;

	for (uint32_t i = 1; i < REG_AGENT_CHUNKS; i++) {
		uint32_t c = chunk_of(agent, i);

		if (c >= reg->max[CELLS_CHUNKS])
			break;
		load += mask_load(reg, mask_at(reg, c));
	}
	return load;
}

uint32_t reg__agent_load(const struct reg *reg, const struct reg_agent *agent)
{
	return load_of(reg, agent);
}

uint64_t reg__agent_taken(const struct reg *reg, uint32_t agent)
{
	uint64_t taken = 0;

	for (uint32_t s = 0; s < REG_SLOTS_PER_AGENT_MAX; s++) {
		const a64 *slot = reg__slot(reg, agent, s);

		if (!slot)
			break;
		/* relaxed: for humans */
		taken += word_gen(atomic_load_explicit(slot, memory_order_relaxed));
	}
	return taken;
}

static int16_t hint_of(const struct reg *reg, const struct reg_agent *agent)
{
	/* seq_cst [H1] */
	uint64_t hot = atomic_load_explicit(&agent->hot, memory_order_seq_cst);

	return hint_make(hot, load_of(reg, agent));
}

/* Dying before the store or before the second look leaves a wrong hint; it heals when it is next
 * nominated, or by a scrub. */
int16_t reg__hint_publish(struct reg *reg, uint32_t agent)
{
	const struct reg_agent *a = reg__agent(reg, agent);
	a16 *hint = reg__hint(reg, agent);
	int16_t v, again;

	if (!a) { /* a damaged bitmap named it: never again */
		atomic_store_explicit(hint, REG_HINT_FULL, memory_order_seq_cst); /* [H1] */
		return REG_HINT_FULL;
	}
	v = hint_of(reg, a);
	for (;;) {
		/* seq_cst [H1]: the store before the second look at the truth */
		atomic_store_explicit(hint, v, memory_order_seq_cst);
		again = hint_of(reg, a);
		if (again == v)
			return v;
		v = again;
	}
}

/*
 * The bit follows the word: whoever writes the bit looks at the word again, until they agree; a
 * single second look is not enough (a release may stand between look and write while the next
 * holder comes and goes). True when something was mended.
 */
static inline bool mask_settle(const a64 *slot, a64 *mask, uint64_t bit)
{
	for (bool mended = false;; mended = true) {
		/* seq_cst [H2]: pairs with reg__slot_take, which changes the word before the bit */
		bool used =
			word_state(atomic_load_explicit(slot, memory_order_seq_cst)) != SLOT_FREE;

		if (used == !!(atomic_load_explicit(mask, memory_order_seq_cst) & bit)) /* [H2] */
			return mended;
		if (used)
			atomic_fetch_or_explicit(mask, bit, memory_order_seq_cst);
		else
			atomic_fetch_and_explicit(mask, ~bit, memory_order_seq_cst);
	}
}

uint32_t reg__agent_heal(struct reg *reg, uint32_t agent)
{
	const struct reg_agent *a = reg__agent(reg, agent);
	uint32_t mended = 0;

	for (uint32_t s = 0; s < REG_SLOTS_PER_AGENT_MAX; s++) {
		a64 *slot = reg__slot(reg, agent, s), *mask = reg__mask(reg, agent, s / 64);

		if (!slot || !mask)
			break;
		mended += mask_settle(slot, mask, UINT64_C(1) << (s % 64));
	}
	/* relaxed: compared with what it becomes */
	int16_t before = atomic_load_explicit(reg__hint(reg, agent), memory_order_relaxed);
	reg__agent_limit(reg, agent);
	int16_t now = reg__hint_publish(reg, agent);

	if (now < before &&
	    a) /* relaxed: a pool that it joins meanwhile is made void by the join */
		reg__pool_void(reg, atomic_load_explicit(&a->pool, memory_order_relaxed));
	return mended + (before != now);
}

void reg__pool_full_clear(struct reg_pool *pool)
{
	/* seq_cst [F1]: pairs with place.c: the freed slot before this look; the refuser marks
	 * before its pass */
	uint64_t full = atomic_load_explicit(&pool->full, memory_order_seq_cst);

	while (full & 1)
		/* seq_cst [F1]: the next number, not active: every memo of the old one is void */
		if (atomic_compare_exchange_weak_explicit(&pool->full, &full, (full | 1) + 1,
							  memory_order_seq_cst,
							  memory_order_seq_cst))
			return;
}

static inline void room_begin(struct reg_self *me, uint32_t pool)
{
	/* relaxed: published by what makes the room, a release */
	atomic_store_explicit(&me->part->releasing, pool + 1, memory_order_relaxed);
}

void reg__room_begin(struct reg_self *me, uint32_t pool)
{
	room_begin(me, pool);
}

static inline void releasing_end(struct reg_self *me, struct reg_pool *p)
{
	if (p)
		reg__pool_full_clear(p);
	/* release [F2]: pairs with release_under_way; who no longer sees the mark sees the cleared
	 * memo */
	atomic_store_explicit(&me->part->releasing, 0, memory_order_release);
}

void reg__room_end(struct reg_self *me, uint32_t pool)
{
	reg__pool_void(me->reg, pool);
	releasing_end(me, reg__pool(me->reg, pool));
}

__attribute__((cold)) void reg__seat_lowered(struct reg_self *me, const struct reg_agent *a,
					     uint32_t agent, int16_t hint)
{
	/* relaxed: a pool that it joins meanwhile is made void by the join */
	uint32_t pool = atomic_load_explicit(&a->pool, memory_order_relaxed);

	load_lowered(me, pool, reg__pool(me->reg, pool), agent, hint);
}

bool reg__slot_take(struct reg_self *me, uint32_t agent, uint32_t slot, uint32_t record,
		    uint32_t *ret_gen)
{
	struct reg_agent *a = reg__agent(me->reg, agent);
	/* relaxed: for the hint as it will be, which is looked at again */
	uint64_t hot = a ? atomic_load_explicit(&a->hot, memory_order_relaxed) : 0;
	struct seat s;

	return a && seat_at(me->reg, a, agent, slot, &s) &&
	       seat_take(me, &s, record, &hot, ret_gen);
}

bool reg__slot_claim(struct reg_self *me, uint32_t agent, uint32_t record, bool over,
		     uint32_t *ret_slot, uint32_t *ret_gen)
{
	struct reg_agent *a = reg__agent(me->reg, agent);
	uint64_t hot;

	return a && agent_claim(me, a, agent, record, over, ret_slot, ret_gen, &hot);
}

/* The word → FREE when it still is that record's, by a CAS. */
static __attribute__((noinline)) void slot_give_up(a64 *word, uint64_t w, uint32_t gen,
						   uint32_t record)
{
	while (word_state(w) != SLOT_FREE && word_gen(w) == gen && word_record(w) == record)
		/* seq_cst [S1] [F1] [F2] [H2]: pairs with the claim; what the last holder did
		 * before the next one's */
		if (atomic_compare_exchange_weak_explicit(
			    word, &w, cell_free(w), memory_order_seq_cst, memory_order_relaxed))
			return;
}

static inline void slot_give(struct reg_self *me, a64 *word, uint32_t gen, uint32_t record)
{
	/* relaxed: ours, or checked again by the CAS */
	uint64_t w = atomic_load_explicit(word, memory_order_relaxed);

	if (__builtin_expect(w == cell_mark(BITS_PUT(gen, CELL_GEN_SHIFT, GEN_WIDTH), SLOT_RESERVED,
					    me->idx, record),
			     1))
		/* release [S1]: nobody else moves a word that I have reserved. The locked change of
		 * the mask behind it is the barrier of [F1] [H2]. */
		atomic_store_explicit(word, cell_free(w), memory_order_release);
	else
		slot_give_up(word, w, gen, record);
}

/* The agent joined another pool meanwhile: that one has more room, too. */
static __attribute__((noinline)) void joined_meanwhile(struct reg *reg, uint32_t pool)
{
	struct reg_pool *row = reg__pool(reg, pool);

	if (!row)
		return;
	reg__pool_void(reg, pool);
	reg__pool_full_clear(row);
}

/*
 * The slot word → FREE is the release; mask, hint and memo follow. In between, whoever remembers
 * that the pool is full is told to look for himself by the mark in our line, also when we are
 * stopped or dead there. Repeatable by anybody: a reaper finishes.
 */
void reg__slot_free(struct reg_self *me, uint32_t agent, uint32_t slot, uint32_t gen,
		    uint32_t record)
{
	struct reg *reg = me->reg;
	struct reg_agent *a = reg__agent(reg, agent);
	struct seat s;
	uint64_t hot;
	int16_t hint;

	if (!a || !seat_at(reg, a, agent, slot, &s))
		return;
	/* seq_cst [G4]: pairs with pool_move; looked at again below */
	uint32_t pool = atomic_load_explicit(&a->pool, memory_order_seq_cst), now;
	struct reg_pool *row = reg__pool(reg, pool);

	room_begin(me, pool);
	slot_give(me, s.word, gen, record);
	(void)FAILPOINT("undo.slot-freed");
	/* relaxed: a prediction; not when a repeat comes late */
	if (atomic_load_explicit(s.mask, memory_order_relaxed) & s.bit &&
	    word_state(atomic_load_explicit(s.word, memory_order_relaxed)) == SLOT_FREE)
		hint_predict(reg, &s, atomic_load_explicit(&a->hot, memory_order_relaxed), -1);
	/* seq_cst [F1] [H1] [H2]: the bit after the word; the next taker may be there already, so
	 * look at the word again */
	atomic_fetch_and_explicit(s.mask, ~s.bit, memory_order_seq_cst);
	(void)FAILPOINT("undo.mask-cleared");
	(void)mask_settle(s.word, s.mask, s.bit);
	/* seq_cst [U2]: beyond the limit, so that it may rise */
	if (slot >= hot_slots(atomic_load_explicit(&a->hot, memory_order_seq_cst)))
		reg__agent_limit(reg, agent);
	(void)hint_check(reg, &s, &hint, &hot);
	load_lowered(me, pool, row, agent, hint);
	now = atomic_load_explicit(&a->pool, memory_order_seq_cst); /* [G4] */
	if (__builtin_expect(now != pool, 0))
		joined_meanwhile(reg, now);
	releasing_end(me, row);
}

enum reg_status reg__agent_grow(struct reg_self *me, uint32_t agent, uint32_t slots)
{
	struct reg_agent *a = reg__agent(me->reg, agent);

	for (uint32_t i = 0; i * REG_CHUNK_SLOTS < slots; i++) {
		uint32_t idx, none = 0;
		uint64_t word;

		if (chunk_of(a, i) != REG_NIL)
			continue;
		/* it names the agent: should we die here, our reaper looks whether that has it */
		enum reg_status st = reg__cell_take(me, CELLS_CHUNKS, ROW_NEW, agent,
						    REG_LIMIT_SLOTS, &idx, &word);

		if (st)
			return st;
		(void)FAILPOINT("agent.chunk-taken");
		/* release [G1]: pairs with chunk_of; an adoption may grow it at the same time */
		if (!atomic_compare_exchange_strong_explicit(&a->chunk[i], &none, idx + 1,
							     memory_order_release,
							     memory_order_relaxed))
			(void)reg__cell_free(me->reg, CELLS_CHUNKS, idx, word);
		else /* release [C2]: nobody's from here on */
			atomic_store_explicit(reg__cell(me->reg, CELLS_CHUNKS, idx),
					      cell_hand_over(word, ROW_LIVE, CELL_OWNER_NONE),
					      memory_order_release);
	}
	return REG_OK;
}
