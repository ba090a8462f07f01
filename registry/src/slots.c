/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slots of agents: taking and freeing them, and what is derived from their words: the mask bits
 * (set = probably in use) and one hint per agent. Truth about load is the slot words. A hint is a
 * pure function of the hot word and the masks; whoever changes one of these writes the hint and
 * looks again until they agree.
 */
#include "internal.h"

static inline uint32_t chunk_of(const struct reg_agent *agent, uint32_t chunk)
{
	/* acquire [G1]: pairs with reg__agent_grow; the chunk's memory before its number */
	uint32_t c = chunk < REG_AGENT_CHUNKS
			     ? atomic_load_explicit(&agent->chunk[chunk], memory_order_acquire)
			     : 0;

	return c - 1; /* UINT32_MAX: none */
}

static inline a64 *mask_at(const struct reg *reg, uint32_t chunk)
{
	return (a64 *)reg__at(reg, REGION_CHUNK_MASKS, (uint64_t)chunk * 8);
}

/* The words of a chunk's slots; NULL: none. */
static inline a64 *words_at(const struct reg *reg, uint32_t chunk)
{
	uint64_t len = REG_CHUNK_SLOTS * 8;
	uint64_t off = reg->span[REGION_CHUNK_SLOTS].off + chunk * len;

	if (chunk >= reg->max[CELLS_CHUNKS] || !reg__ensured(reg, off, len))
		return NULL;
	return (a64 *)(void *)(reg->base + off);
}

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

static inline uint32_t bits_of(const struct reg *reg, uint64_t mask)
{
	if (__builtin_expect(reg->popcnt, 1)) {
		uint64_t n;

		__asm__("popcnt %1, %0" : "=r"(n) : "r"(mask) : "cc");
		return (uint32_t)n;
	}
	return (uint32_t)__builtin_popcountll(mask);
}

static inline uint32_t mask_load(const struct reg *reg, uint32_t chunk)
{
	/* seq_cst [H1]: pairs with reg__hint_publish in other processes: the last to store looks
	 * again */
	return bits_of(reg, atomic_load_explicit(mask_at(reg, chunk), memory_order_seq_cst));
}

static __attribute__((noinline)) uint32_t load_of_rest(const struct reg *reg,
						       const struct reg_agent *agent)
{
	uint32_t load = 0;

	for (uint32_t i = 1; i < REG_AGENT_CHUNKS; i++) {
		uint32_t c = chunk_of(agent, i);

		if (c >= reg->max[CELLS_CHUNKS])
			break;
		load += mask_load(reg, c);
	}
	return load;
}

/* Nearly all agents have one chunk. */
static inline uint32_t load_of(const struct reg *reg, const struct reg_agent *agent)
{
	uint32_t c = chunk_of(agent, 0);

	if (c >= reg->max[CELLS_CHUNKS])
		return 0;
	return mask_load(reg, c) + (chunk_of(agent, 1) == REG_NIL ? 0 : load_of_rest(reg, agent));
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

static inline int16_t hint_make(uint64_t hot, uint32_t load)
{
	return !hot_ready(hot) || load >= hot_capacity(hot) ? REG_HINT_FULL : (int16_t)load;
}

static inline int16_t hint_of(const struct reg *reg, const struct reg_agent *agent)
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
 * The hint as it will be once our mask bit has changed, by a plain store: the change of the bit, a
 * locked operation, comes between this store and the look in hint_check. Of all who do the same,
 * the one whose change of a mask is the last sees in its look all masks as they stay and every hint
 * stored before, so either the hint is right or it mends it; who mends looks again after.
 * (Comparing with what the change itself returned would not do: tests/registry/model_hint.py.)
 */
static inline void hint_predict(struct reg *reg, const struct reg_agent *a, uint32_t agent, int by)
{
	/* relaxed, all: checked again by hint_check */
	uint64_t hot = atomic_load_explicit(&a->hot, memory_order_relaxed);
	uint32_t load = load_of(reg, a);

	if (by > 0 || load)
		load += (uint32_t)by;
	atomic_store_explicit(reg__hint(reg, agent), hint_make(hot, load), memory_order_relaxed);
}

/* True when it had to be mended. */
static inline bool hint_check(struct reg *reg, const struct reg_agent *a, uint32_t agent,
			      int16_t *ret)
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

void reg__room_begin(struct reg_self *me, uint32_t pool)
{
	/* relaxed: published by what makes the room, a release */
	atomic_store_explicit(&me->part->releasing, pool + 1, memory_order_relaxed);
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

/* A slot and all that changes with it, looked up once. */
struct seat {
	struct reg_agent *a;
	a64 *word, *mask;
	uint32_t agent, slot;
	uint64_t bit;
};

static inline bool seat_at(const struct reg *reg, struct reg_agent *a, uint32_t agent,
			   uint32_t slot, struct seat *ret)
{
	uint32_t c = a ? chunk_of(a, slot / REG_CHUNK_SLOTS) : REG_NIL;
	a64 *words = words_at(reg, c);

	if (!words)
		return false;
	*ret = (struct seat){.a = a,
			     .word = &words[slot % REG_CHUNK_SLOTS],
			     .mask = mask_at(reg, c),
			     .agent = agent,
			     .slot = slot,
			     .bit = UINT64_C(1) << (slot % REG_CHUNK_SLOTS)};
	return true;
}

/* The hint that others had seen was perhaps too high. */
static void seat_lowered(struct reg_self *me, const struct seat *s, int16_t hint)
{
	/* relaxed: a pool that it joins meanwhile is made void by the join */
	uint32_t pool = atomic_load_explicit(&s->a->pool, memory_order_relaxed);

	reg__load_lowered(me, pool, reg__pool(me->reg, pool), s->agent, hint);
}

/* FREE → RESERVED on exactly this word; mask bit and hint follow. Dying in between leaves both too
 * low: that costs others a failed nomination, which heals them. */
static inline bool seat_take(struct reg_self *me, const struct seat *s, uint32_t record,
			     uint32_t *ret_gen)
{
	/* relaxed: checked again by the CAS */
	uint64_t w = atomic_load_explicit(s->word, memory_order_relaxed), next;
	int16_t hint;

	next = cell_take(w, SLOT_RESERVED, me->idx, record);
#ifdef REG_BROKEN_SLOT_BY_MASK /* what the linearisability test has to find: the mask decides */
	atomic_store_explicit(s->word, next, memory_order_seq_cst);
#else
	if (word_state(w) != SLOT_FREE)
		return false;
	/* seq_cst [S1] [H2]: the claim. Pairs with slot_give; from here the reaper finds it by our
	 * index. */
	if (!atomic_compare_exchange_strong_explicit(s->word, &w, next, memory_order_seq_cst,
						     memory_order_relaxed))
		return false;
#endif
	(void)FAILPOINT("reserve.slot-claimed");
	hint_predict(me->reg, s->a, s->agent, 1);
	/* seq_cst [H1] [H2]: the bit after the word; who frees the slot clears the bit and looks at
	 * the word again */
	atomic_fetch_or_explicit(s->mask, s->bit, memory_order_seq_cst);
	(void)FAILPOINT("reserve.mask-taken");
	if (hint_check(me->reg, s->a, s->agent, &hint))
		seat_lowered(me, s, hint);
	(void)FAILPOINT("reserve.hint-published");
	*ret_gen = word_gen(next);
	return true;
}

bool reg__slot_take(struct reg_self *me, uint32_t agent, uint32_t slot, uint32_t record,
		    uint32_t *ret_gen)
{
	struct seat s;

	return seat_at(me->reg, reg__agent(me->reg, agent), agent, slot, &s) &&
	       seat_take(me, &s, record, ret_gen);
}

/* One chunk by its mask bits, which nominate only. */
static inline bool chunk_claim(struct reg_self *me, struct seat first, uint64_t valid,
			       uint32_t record, uint32_t *ret_slot, uint32_t *ret_gen)
{
	/* relaxed: nominates only */
	for (valid &= ~atomic_load_explicit(first.mask, memory_order_relaxed); valid;
	     valid &= valid - 1) {
		uint32_t n = (uint32_t)__builtin_ctzll(valid);
		struct seat s = first;

		s.word += n;
		s.slot += n;
		s.bit <<= n;
		if (seat_take(me, &s, record, ret_gen)) {
			*ret_slot = s.slot;
			return true;
		}
		reg__count(me, REG_COUNT_LOST_CAS);
	}
	return false;
}

bool reg__slot_claim(struct reg_self *me, uint32_t agent, uint32_t record, bool over,
		     uint32_t *ret_slot, uint32_t *ret_gen)
{
	struct reg_agent *a = reg__agent(me->reg, agent);
	struct seat first;
	/* relaxed: a capacity as of some moment of the call */
	uint64_t hot = a ? atomic_load_explicit(&a->hot, memory_order_relaxed) : 0;
	uint32_t slots = over ? REG_SLOTS_PER_AGENT_MAX : hot_slots(hot);

	if (!a || (!over && !hot_ready(hot)))
		return false;
	for (uint32_t c = 0; c * 64 < slots; c++) {
		uint32_t left = slots - c * 64;
		uint64_t valid = left >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << left) - 1;

		if (!seat_at(me->reg, a, agent, c * REG_CHUNK_SLOTS, &first))
			continue;
		if (chunk_claim(me, first, valid, record, ret_slot, ret_gen))
			return true;
	}
	return false;
}

/* The word → FREE when it still is that record's. */
static inline void slot_give(struct reg_self *me, a64 *word, uint32_t gen, uint32_t record)
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
	struct seat s;
	int16_t hint;

	if (!seat_at(reg, reg__agent(reg, agent), agent, slot, &s))
		return;
	/* seq_cst [G4]: pairs with pool_move; looked at again below */
	uint32_t pool = atomic_load_explicit(&s.a->pool, memory_order_seq_cst), now;

	struct reg_pool *row = reg__pool(reg, pool);

	reg__room_begin(me, pool);
	slot_give(me, s.word, gen, record);
	(void)FAILPOINT("undo.slot-freed");
	/* relaxed: a prediction; not when a repeat comes late */
	if (atomic_load_explicit(s.mask, memory_order_relaxed) & s.bit &&
	    word_state(atomic_load_explicit(s.word, memory_order_relaxed)) == SLOT_FREE)
		hint_predict(reg, s.a, agent, -1);
	/* seq_cst [F1] [H1] [H2]: the bit after the word; the next taker may be there already, so
	 * look at the word again */
	atomic_fetch_and_explicit(s.mask, ~s.bit, memory_order_seq_cst);
	(void)FAILPOINT("undo.mask-cleared");
	(void)mask_settle(s.word, s.mask, s.bit);
	/* seq_cst [U2]: beyond the limit, so that it may rise */
	if (slot >= hot_slots(atomic_load_explicit(&s.a->hot, memory_order_seq_cst)))
		reg__agent_limit(reg, agent);
	(void)hint_check(reg, s.a, agent, &hint);
	reg__load_lowered(me, pool, row, agent, hint);
	now = atomic_load_explicit(&s.a->pool, memory_order_seq_cst); /* [G4] */
	if (now != pool && reg__pool(reg, now)) { /* the agent joined another pool meanwhile */
		reg__pool_void(reg, now);
		reg__pool_full_clear(reg__pool(reg, now));
	}
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
