/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slots of agents. Truth about load is the slot words; the mask bits (set = probably in use) and
 * the hint per agent are derived. A hint is a pure function of the hot word and the masks; whoever
 * changes one of these writes the hint and looks again until they agree.
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

static int16_t hint_of(const struct reg *reg, const struct reg_agent *agent)
{
	/* seq_cst [H1] */
	uint64_t hot = atomic_load_explicit(&agent->hot, memory_order_seq_cst);
	uint32_t load = reg__agent_load(reg, agent);

	return !hot_ready(hot) || load >= hot_slots(hot) ? REG_HINT_FULL : (int16_t)load;
}

/* Dying before the store or before the second look leaves a wrong hint; it heals when it is next
 * nominated, or by a scrub. */
void reg__hint_publish(struct reg *reg, uint32_t agent)
{
	const struct reg_agent *a = reg__agent(reg, agent);
	a16 *hint = reg__hint(reg, agent);
	int16_t v, again;

	if (!a) { /* a damaged bitmap named it: never again */
		atomic_store_explicit(hint, REG_HINT_FULL, memory_order_seq_cst); /* [H1] */
		return;
	}
	v = hint_of(reg, a);
	for (;;) {
		/* seq_cst [H1]: the store before the second look at the truth */
		atomic_store_explicit(hint, v, memory_order_seq_cst);
		again = hint_of(reg, a);
		if (again == v)
			return;
		v = again;
	}
}

/*
 * The bit follows the word: whoever writes the bit looks at the word again, until they agree; a
 * single second look is not enough (a release may stand between look and write while the next
 * holder comes and goes). True when something was mended.
 */
static bool mask_settle(const a64 *slot, a64 *mask, uint64_t bit)
{
	for (bool mended = false;; mended = true) {
		/* seq_cst [H2]: pairs with slot_take: whoever changes slot or bit looks at the
		 * other one after */
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
	uint32_t mended = 0;

	for (uint32_t s = 0; s < REG_SLOTS_PER_AGENT_MAX; s++) {
		a64 *slot = reg__slot(reg, agent, s), *mask = reg__mask(reg, agent, s / 64);

		if (!slot || !mask)
			break;
		mended += mask_settle(slot, mask, UINT64_C(1) << (s % 64));
	}
	/* relaxed: compared for counting only */
	int16_t before = atomic_load_explicit(reg__hint(reg, agent), memory_order_relaxed);

	reg__hint_publish(reg, agent);
	return mended +
	       (before != atomic_load_explicit(reg__hint(reg, agent), memory_order_relaxed));
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

void reg__room_end(struct reg_self *me, uint32_t pool)
{
	struct reg_pool *p = reg__pool(me->reg, pool);

	if (p)
		reg__pool_full_clear(p);
	/* release [F2]: pairs with release_under_way; who no longer sees the mark sees the cleared
	 * memo */
	atomic_store_explicit(&me->part->releasing, 0, memory_order_release);
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
	uint64_t w;

	if (!word || !mask || !a)
		return;
	/* seq_cst [G4]: pairs with pool_move; looked at again below */
	uint32_t pool = atomic_load_explicit(&a->pool, memory_order_seq_cst), now;

	reg__room_begin(me, pool);
	/* relaxed: checked again by the CAS */
	w = atomic_load_explicit(word, memory_order_relaxed);
	while (word_state(w) != SLOT_FREE && word_gen(w) == gen && word_record(w) == record)
		/* seq_cst [S1] [F1] [F2] [H2]: pairs with the claim; what the last holder did
		 * before the next one's */
		if (atomic_compare_exchange_weak_explicit(
			    word, &w, cell_free(w), memory_order_seq_cst, memory_order_relaxed))
			break;
	(void)FAILPOINT("undo.slot-freed");
	(void)mask_settle(word, mask, UINT64_C(1) << (slot % 64));
	(void)FAILPOINT("undo.mask-cleared");
	reg__hint_publish(reg, agent);
	now = atomic_load_explicit(&a->pool, memory_order_seq_cst); /* [G4] */
	if (now != pool && reg__pool(reg, now)) /* the agent joined another pool meanwhile */
		reg__pool_full_clear(reg__pool(reg, now));
	reg__room_end(me, pool);
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
