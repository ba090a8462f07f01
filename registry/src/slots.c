/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slots of agents: taking and freeing them, and what is derived from their words: the mask bits
 * (set = probably in use) and one hint per agent. Truth about load is the slot words. A hint is a
 * pure function of the hot word and the masks; whoever changes one of these writes the hint and
 * looks again until they agree.
 */
#include "internal.h"

a16 *reg__hint(const struct reg *reg, uint32_t agent)
{
	return (a16 *)reg__at(reg, REGION_HINTS, (uint64_t)agent * sizeof(a16));
}

static uint32_t chunk_of(const struct reg_agent *agent, uint32_t chunk)
{
	/* acquire [G1]: pairs with reg__agent_grow; the chunk's memory before its number */
	uint32_t c = chunk < REG_AGENT_CHUNKS
			     ? atomic_load_explicit(&agent->chunk[chunk], memory_order_acquire)
			     : 0;

	return c - 1; /* UINT32_MAX: none */
}

a64 *reg__mask(const struct reg *reg, uint32_t agent, uint32_t chunk)
{
	const struct reg_agent *a = reg__agent(reg, agent);
	uint32_t c = a ? chunk_of(a, chunk) : REG_NIL;

	return c < reg->max[CELLS_CHUNKS] ? (a64 *)reg__at(reg, REGION_CHUNK_MASKS, (uint64_t)c * 8)
					  : NULL;
}

a64 *reg__slot(const struct reg *reg, uint32_t agent, uint32_t slot)
{
	const struct reg_agent *a = reg__agent(reg, agent);
	uint32_t c = a ? chunk_of(a, slot / REG_CHUNK_SLOTS) : REG_NIL;
	uint64_t off = reg->span[REGION_CHUNK_SLOTS].off +
		       ((uint64_t)c * REG_CHUNK_SLOTS + slot % REG_CHUNK_SLOTS) * 8;

	if (c >= reg->max[CELLS_CHUNKS] || !reg__ensured(reg, off, 8))
		return NULL;
	return (a64 *)(void *)(reg->base + off);
}

uint32_t reg__agent_load(const struct reg *reg, const struct reg_agent *agent)
{
	uint32_t load = 0;

	for (uint32_t i = 0; i < REG_AGENT_CHUNKS; i++) {
		uint32_t c = chunk_of(agent, i);

		if (c >= reg->max[CELLS_CHUNKS])
			break;
		/* seq_cst [H1]: pairs with reg__hint_publish in other processes: the last to store
		 * looks again */
		load += (uint32_t)__builtin_popcountll(atomic_load_explicit(
			(a64 *)reg__at(reg, REGION_CHUNK_MASKS, (uint64_t)c * 8),
			memory_order_seq_cst));
	}
	return load;
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

static int16_t hint_make(uint64_t hot, uint32_t load)
{
	return !hot_ready(hot) || load >= hot_slots(hot) ? REG_HINT_FULL : (int16_t)load;
}

static int16_t hint_of(const struct reg *reg, const struct reg_agent *agent)
{
	/* seq_cst [H1] */
	uint64_t hot = atomic_load_explicit(&agent->hot, memory_order_seq_cst);

	return hint_make(hot, reg__agent_load(reg, agent));
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
 * The hint as it will be once our mask bit has changed, by a plain store: the change of the bit, a
 * locked operation, comes between this store and the look in hint_check. Of all who do the same,
 * the one whose change of a mask is the last sees in its look all masks as they stay and every hint
 * stored before, so either the hint is right or it mends it; who mends looks again after.
 * (Comparing with what the change itself returned would not do: tests/registry/model_hint.py.)
 */
static void hint_predict(struct reg *reg, const struct reg_agent *a, uint32_t agent, int by)
{
	/* relaxed, all: checked again by hint_check */
	uint64_t hot = atomic_load_explicit(&a->hot, memory_order_relaxed);
	uint32_t load = reg__agent_load(reg, a);

	if (by > 0 || load)
		load += (uint32_t)by;
	atomic_store_explicit(reg__hint(reg, agent), hint_make(hot, load), memory_order_relaxed);
}

/* True when it had to be mended. */
static bool hint_check(struct reg *reg, const struct reg_agent *a, uint32_t agent, int16_t *ret)
{
	/* seq_cst [H1]: after the change of our bit, as the second look in reg__hint_publish */
	*ret = atomic_load_explicit(reg__hint(reg, agent), memory_order_seq_cst);
	if (__builtin_expect(*ret == hint_of(reg, a), 1))
		return false;
	*ret = reg__hint_publish(reg, agent);
	return true;
}

/*
 * The bit follows the word: whoever writes the bit looks at the word again, until they agree; a
 * single second look is not enough (a release may stand between look and write while the next
 * holder comes and goes). True when something was mended.
 */
static bool mask_settle(const a64 *slot, a64 *mask, uint64_t bit)
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

void reg__room_begin(struct reg_self *me, uint32_t pool)
{
	/* relaxed: published by what makes the room, a release */
	atomic_store_explicit(&me->part->releasing, pool + 1, memory_order_relaxed);
}

static void releasing_end(struct reg_self *me, uint32_t pool)
{
	struct reg_pool *p = reg__pool(me->reg, pool);

	if (p)
		reg__pool_full_clear(p);
	/* release [F2]: pairs with release_under_way; who no longer sees the mark sees the cleared
	 * memo */
	atomic_store_explicit(&me->part->releasing, 0, memory_order_release);
}

void reg__room_end(struct reg_self *me, uint32_t pool)
{
	reg__pool_void(me->reg, pool);
	releasing_end(me, pool);
}

/* FREE → RESERVED on exactly this word; mask bit and hint follow. Dying in between leaves both too
 * low: that costs others a failed nomination, which heals them. */
bool reg__slot_take(struct reg_self *me, uint32_t agent, uint32_t slot, uint32_t record,
		    uint32_t *ret_gen)
{
	const struct reg_agent *a = reg__agent(me->reg, agent);
	a64 *word = reg__slot(me->reg, agent, slot), *mask = reg__mask(me->reg, agent, slot / 64);
	int16_t hint;

	if (!word || !mask)
		return false;
	/* relaxed: checked again by the CAS */
	uint64_t w = atomic_load_explicit(word, memory_order_relaxed), next;

	next = cell_take(w, SLOT_RESERVED, me->idx, record);
#ifdef REG_BROKEN_SLOT_BY_MASK /* what the linearisability test has to find: the mask decides */
	atomic_store_explicit(word, next, memory_order_seq_cst);
#else
	if (word_state(w) != SLOT_FREE)
		return false;
	/* seq_cst [S1] [H2]: the claim. Pairs with slot_give; from here the reaper finds it by our
	 * index. */
	if (!atomic_compare_exchange_strong_explicit(word, &w, next, memory_order_seq_cst,
						     memory_order_relaxed))
		return false;
#endif
	(void)FAILPOINT("reserve.slot-claimed");
	hint_predict(me->reg, a, agent, 1);
	/* seq_cst [H1] [H2]: the bit after the word; who frees the slot clears the bit and looks at
	 * the word again */
	atomic_fetch_or_explicit(mask, UINT64_C(1) << (slot % 64), memory_order_seq_cst);
	(void)FAILPOINT("reserve.mask-taken");
	if (hint_check(me->reg, a, agent, &hint)) /* perhaps it was too high: relaxed as in heal */
		reg__load_lowered(me, atomic_load_explicit(&a->pool, memory_order_relaxed), agent,
				  hint);
	(void)FAILPOINT("reserve.hint-published");
	*ret_gen = word_gen(next);
	return true;
}

/* One chunk by its mask bits, which nominate only. */
static bool chunk_claim(struct reg_self *me, uint32_t agent, uint32_t chunk, uint64_t valid,
			uint32_t record, uint32_t *ret_slot, uint32_t *ret_gen)
{
	a64 *mask = reg__mask(me->reg, agent, chunk);
	/* relaxed: nominates only */
	uint64_t used = mask ? atomic_load_explicit(mask, memory_order_relaxed) : ~UINT64_C(0);

	for (valid &= ~used; valid; valid &= valid - 1) {
		uint32_t slot = chunk * 64 + (uint32_t)__builtin_ctzll(valid);

		if (reg__slot_take(me, agent, slot, record, ret_gen)) {
			*ret_slot = slot;
			return true;
		}
		reg__count(me, REG_COUNT_LOST_CAS);
	}
	return false;
}

bool reg__slot_claim(struct reg_self *me, uint32_t agent, uint32_t record, bool over,
		     uint32_t *ret_slot, uint32_t *ret_gen)
{
	const struct reg_agent *a = reg__agent(me->reg, agent);
	/* relaxed: a capacity as of some moment of the call */
	uint64_t hot = a ? atomic_load_explicit(&a->hot, memory_order_relaxed) : 0;
	uint32_t slots = over ? REG_SLOTS_PER_AGENT_MAX : hot_slots(hot);

	if (!a || (!over && !hot_ready(hot)))
		return false;
	for (uint32_t c = 0; c * 64 < slots; c++) {
		uint32_t left = slots - c * 64;
		uint64_t valid = left >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << left) - 1;

		if (chunk_claim(me, agent, c, valid, record, ret_slot, ret_gen))
			return true;
	}
	return false;
}

/* The word → FREE when it still is that record's. */
static void slot_give(struct reg_self *me, a64 *word, uint32_t gen, uint32_t record)
{
	/* relaxed: ours, or checked again by the CAS */
	uint64_t w = atomic_load_explicit(word, memory_order_relaxed);

	if (word_state(w) == SLOT_RESERVED && word_owner(w) == me->idx && word_gen(w) == gen &&
	    word_record(w) == record) {
		/* release [S1]: nobody else moves a word that I have reserved. The locked change of
		 * the mask behind it is the barrier of [F1] [H2]. */
		atomic_store_explicit(word, cell_free(w), memory_order_release);
		return;
	}
	while (word_state(w) != SLOT_FREE && word_gen(w) == gen && word_record(w) == record)
		/* seq_cst [S1] [F1] [F2] [H2]: pairs with the claim; what the last holder did
		 * before the next one's */
		if (atomic_compare_exchange_weak_explicit(
			    word, &w, cell_free(w), memory_order_seq_cst, memory_order_relaxed))
			return;
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
	a64 *word = reg__slot(reg, agent, slot), *mask = reg__mask(reg, agent, slot / 64);
	struct reg_agent *a = reg__agent(reg, agent);
	uint64_t bit = UINT64_C(1) << (slot % 64);
	int16_t hint;

	if (!word || !mask || !a)
		return;
	/* seq_cst [G4]: pairs with pool_move; looked at again below */
	uint32_t pool = atomic_load_explicit(&a->pool, memory_order_seq_cst), now;

	reg__room_begin(me, pool);
	slot_give(me, word, gen, record);
	(void)FAILPOINT("undo.slot-freed");
	/* relaxed: a prediction; not when a repeat comes late */
	if (atomic_load_explicit(mask, memory_order_relaxed) & bit &&
	    word_state(atomic_load_explicit(word, memory_order_relaxed)) == SLOT_FREE)
		hint_predict(reg, a, agent, -1);
	/* seq_cst [F1] [H1] [H2]: the bit after the word; the next taker may be there already, so
	 * look at the word again */
	atomic_fetch_and_explicit(mask, ~bit, memory_order_seq_cst);
	(void)FAILPOINT("undo.mask-cleared");
	(void)mask_settle(word, mask, bit);
	(void)hint_check(reg, a, agent, &hint);
	reg__load_lowered(me, pool, agent, hint);
	now = atomic_load_explicit(&a->pool, memory_order_seq_cst); /* [G4] */
	if (now != pool && reg__pool(reg, now)) { /* the agent joined another pool meanwhile */
		reg__pool_void(reg, now);
		reg__pool_full_clear(reg__pool(reg, now));
	}
	releasing_end(me, pool);
}

enum reg_status reg__agent_grow(struct reg_self *me, uint32_t agent, uint32_t slots)
{
	struct reg_agent *a = reg__agent(me->reg, agent);

	for (uint32_t i = 0; i * REG_CHUNK_SLOTS < slots; i++) {
		uint32_t idx, none = 0;
		uint64_t word;

		if (chunk_of(a, i) != REG_NIL)
			continue;
		/* If we die after the take the chunk is lost until the arena is rebuilt:
		 * administration, bounded by its deaths. */
		enum reg_status st =
			reg__cell_take(me, CELLS_CHUNKS, 1, 0, REG_LIMIT_SLOTS, &idx, &word);

		if (st)
			return st;
		/* release [G1]: pairs with chunk_of; an adoption may grow it at the same time */
		if (!atomic_compare_exchange_strong_explicit(&a->chunk[i], &none, idx + 1,
							     memory_order_release,
							     memory_order_relaxed))
			(void)reg__cell_free(me->reg, CELLS_CHUNKS, idx, word);
	}
	return REG_OK;
}
