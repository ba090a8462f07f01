/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One slot of an agent and all that changes with it: its word, its mask bit, the agent's hint. The
 * steps of a claim, inline, so that a placement looks everything up once.
 */
#ifndef REGISTRY_SRC_SEAT_H
#define REGISTRY_SRC_SEAT_H

#include "internal.h"

/* ---- slots.c ---- */
/* The load of all chunks but the first. */
uint32_t reg__load_of_rest(const struct reg *reg, const struct reg_agent *agent);
/* The hint that others had seen was perhaps too high. */
void reg__seat_lowered(struct reg_self *me, const struct reg_agent *a, uint32_t agent,
		       int16_t hint);

/* ---- chunks ---- */
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
	return reg__unit(reg, REGION_CHUNK_SLOTS, CELLS_CHUNKS, REG_CHUNK_SLOTS * 8, chunk);
}

/* ---- load and hint ---- */
static inline uint32_t bits_of(const struct reg *reg, uint64_t mask)
{
	if (__builtin_expect(reg->popcnt, 1)) {
		uint64_t n;

		__asm__("popcnt %1, %0" : "=r"(n) : "r"(mask) : "cc");
		return (uint32_t)n;
	}
	return (uint32_t)__builtin_popcountll(mask);
}

static inline uint32_t mask_load(const struct reg *reg, const a64 *mask)
{
	/* seq_cst [H1]: pairs with reg__hint_publish in other processes: the last to store looks
	 * again */
	return bits_of(reg, atomic_load_explicit(mask, memory_order_seq_cst));
}

/* first: the mask of its first chunk. Nearly all agents have one. */
static inline uint32_t load_by(const struct reg *reg, const struct reg_agent *agent,
			       const a64 *first)
{
	uint32_t load = mask_load(reg, first);

	if (__builtin_expect(chunk_of(agent, 1) != REG_NIL, 0))
		load += reg__load_of_rest(reg, agent);
	return load;
}

static inline uint32_t load_of(const struct reg *reg, const struct reg_agent *agent)
{
	uint32_t c = chunk_of(agent, 0);

	return c < reg->max[CELLS_CHUNKS] ? load_by(reg, agent, mask_at(reg, c)) : 0;
}

static inline int16_t hint_make(uint64_t hot, uint32_t load)
{
	return !hot_ready(hot) || load >= hot_capacity(hot) ? REG_HINT_FULL : (int16_t)load;
}

/* ---- a seat ---- */
/* A slot and all that changes with it, looked up once. */
struct seat {
	struct reg_agent *a;
	a64 *word, *mask;
	const a64 *first; /* mask of the agent's first chunk: it stays that for good */
	a16 *hint;
	uint32_t agent, slot;
	uint64_t bit;
};

static inline __attribute__((always_inline)) bool
seat_at(const struct reg *reg, struct reg_agent *a, uint32_t agent, uint32_t slot, struct seat *ret)
{
	uint32_t c = chunk_of(a, slot / REG_CHUNK_SLOTS);
	uint32_t first = slot < REG_CHUNK_SLOTS ? c : chunk_of(a, 0);
	a64 *words = words_at(reg, c);

	if (!words || first >= reg->max[CELLS_CHUNKS])
		return false;
	ret->a = a;
	ret->word = &words[slot % REG_CHUNK_SLOTS];
	ret->mask = mask_at(reg, c);
	ret->first = mask_at(reg, first);
	ret->hint = reg__hint(reg, agent);
	ret->agent = agent;
	ret->slot = slot;
	ret->bit = UINT64_C(1) << (slot % REG_CHUNK_SLOTS);
	return true;
}

/*
 * The hint as it will be once our mask bit has changed, by a plain store: the change of the bit, a
 * locked operation, comes between this store and the look in hint_check. Of all who do the same,
 * the one whose change of a mask is the last sees in its look all masks as they stay and every hint
 * stored before, so either the hint is right or it mends it; who mends looks again after.
 * (Comparing with what the change itself returned would not do: tests/registry/model_hint.py.)
 * hot: as of some moment of the call.
 */
static inline void hint_predict(const struct reg *reg, const struct seat *s, uint64_t hot, int by)
{
	uint32_t load = load_by(reg, s->a, s->first);

	if (by > 0 || load)
		load += (uint32_t)by;
	/* relaxed: checked again by hint_check */
	atomic_store_explicit(s->hint, hint_make(hot, load), memory_order_relaxed);
}

/* True when it had to be mended. *ret_hot: the hot word that it agrees with, or has agreed. */
static inline bool hint_check(struct reg *reg, const struct seat *s, int16_t *ret,
			      uint64_t *ret_hot)
{
	/* seq_cst [H1]: after the change of our bit, as the second look in reg__hint_publish */
	int16_t hint = atomic_load_explicit(s->hint, memory_order_seq_cst);
	/* seq_cst [H1] [U2] */
	uint64_t hot = atomic_load_explicit(&s->a->hot, memory_order_seq_cst);
	bool right = hint == hint_make(hot, load_by(reg, s->a, s->first));

	*ret_hot = hot;
	*ret = __builtin_expect(right, 1) ? hint : reg__hint_publish(reg, s->agent);
	return !right;
}

/* FREE → RESERVED on exactly this word; mask bit and hint follow. Dying in between leaves both too
 * low: that costs others a failed nomination, which heals them. *hot: as of some moment of the
 * call; then as of one behind the claim. */
static inline __attribute__((always_inline)) bool seat_take(struct reg_self *me,
							    const struct seat *s, uint32_t record,
							    uint64_t *hot, uint32_t *ret_gen)
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
	hint_predict(me->reg, s, *hot, 1);
	/* seq_cst [H1] [H2]: the bit after the word; who frees the slot clears the bit and looks at
	 * the word again */
	atomic_fetch_or_explicit(s->mask, s->bit, memory_order_seq_cst);
	(void)FAILPOINT("reserve.mask-taken");
	if (__builtin_expect(hint_check(me->reg, s, &hint, hot), 0))
		reg__seat_lowered(me, s->a, s->agent, hint);
	(void)FAILPOINT("reserve.hint-published");
	*ret_gen = word_gen(next);
	return true;
}

/* From the first seat of a chunk to that of the lowest bit. */
static inline void seat_move(struct seat *s, uint64_t bits)
{
	uint32_t n = (uint32_t)__builtin_ctzll(bits);

	s->word += n;
	s->slot += n;
	s->bit = bits & -bits;
}

/* One chunk by its mask bits, which nominate only. first: its first seat, then the one taken. */
static inline __attribute__((always_inline)) bool chunk_claim(struct reg_self *me,
							      struct seat *first, uint64_t valid,
							      uint32_t record, uint64_t *hot,
							      uint32_t *ret_gen)
{
	a64 *words = first->word;
	uint32_t slot = first->slot;

	/* relaxed: nominates only */
	for (valid &= ~atomic_load_explicit(first->mask, memory_order_relaxed); valid;
	     valid &= valid - 1) {
		uint32_t n = (uint32_t)__builtin_ctzll(valid);

		first->word = words + n;
		first->slot = slot + n;
		first->bit = valid & -valid;
		if (__builtin_expect(seat_take(me, first, record, hot, ret_gen), 1))
			return true;
		reg__count(me, REG_COUNT_LOST_CAS);
	}
	return false;
}

/* Any seat of that agent, one beyond its capacity only when over. *ret_hot: as of a moment behind
 * the claim. */
static inline __attribute__((always_inline)) bool
agent_claim(struct reg_self *me, struct reg_agent *a, uint32_t agent, uint32_t record, bool over,
	    uint32_t *ret_slot, uint32_t *ret_gen, uint64_t *ret_hot)
{
	/* relaxed: a capacity as of some moment of the call */
	uint64_t hot = atomic_load_explicit(&a->hot, memory_order_relaxed);
	uint32_t slots = over ? REG_SLOTS_PER_AGENT_MAX : hot_slots(hot);

	if (!over && !hot_ready(hot))
		return false;
	for (uint32_t at = 0; at < slots; at += REG_CHUNK_SLOTS) {
		uint32_t left = slots - at;
		uint64_t valid = left >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << left) - 1;
		struct seat s;

		if (!seat_at(me->reg, a, agent, at, &s))
			continue;
		*ret_hot = hot;
		if (__builtin_expect(chunk_claim(me, &s, valid, record, ret_hot, ret_gen), 1)) {
			*ret_slot = s.slot;
			return true;
		}
	}
	return false;
}

/*
 * After the claim of a slot: the agent takes new ones, this slot is below its limit, and it is of
 * that pool. Who drains, shrinks, moves or removes an agent changes the hot word or the pool first
 * and looks at the slot words after; so either that one sees the claim, or we see the change and
 * give the slot back. hot: as of a moment behind the claim.
 */
static inline bool reg__claim_stands(const struct reg_agent *a, uint64_t hot, uint32_t slot,
				     uint32_t pool)
{
	/* seq_cst [U2]: after the CAS on the slot word, as hot is */
	return hot_ready(hot) && slot < hot_slots(hot) &&
	       atomic_load_explicit(&a->pool, memory_order_seq_cst) == pool;
}

#endif
