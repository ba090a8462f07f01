/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placement: which agent, which slot, whose ports. Hints nominate the least loaded agent (64 16-bit
 * loads at a time); a CAS on a slot word decides. Before refusing, one authoritative pass over the
 * slot words of every candidate; what it found is remembered under the pool's release number, so
 * that the next refusal is quick and the next release undoes it. Lock free.
 */
#include "internal.h"

#include <immintrin.h>
#include <string.h>

struct choice {
	const a64 *pool, *image;  /* bitmaps of agents; image NULL: any */
	const uint64_t *excluded; /* NULL: none */
	uint32_t words;
};

static inline uint64_t candidates(const struct choice *c, uint32_t w)
{
	/* acquire [G3]: pairs with pool_move; the agent's row before its bit */
	uint64_t m = atomic_load_explicit(&c->pool[w], memory_order_acquire);

	if (m && c->image) {
		/* relaxed: a claim is checked by the slot word; the image set is as of some moment
		 * of the call */
		uint64_t img = atomic_load_explicit(&c->image[w], memory_order_relaxed);

		m &= img;
	}
	return c->excluded ? m & ~c->excluded[w] : m;
}

#ifdef __SANITIZE_THREAD__
/* One by one, with atomics, so that ThreadSanitizer sees what happens. */
static uint64_t hints_below(const a16 *hints, int16_t value)
{
	uint64_t below = 0;

	for (unsigned int i = 0; i < 64; i++)
		below |= (uint64_t)(atomic_load_explicit(&hints[i], memory_order_relaxed) <
				    value) /* hint */
			 << i;
	return below;
}
#else
/*
 * Of 64 hints those that are lower, a bit each. Unordered vector reads: each lane is a load as of
 * some moment, and nominates only.
 */
static inline uint64_t hints_below(const a16 *hints, int16_t value)
{
	const __m128i *lanes = (const __m128i *)(uintptr_t)hints;
	__m128i than = _mm_set1_epi16(value);
	uint64_t below = 0;

	for (unsigned int g = 0; g < 4; g++) {
		__m128i low = _mm_cmpgt_epi16(than, _mm_load_si128(&lanes[2 * g]));
		__m128i high = _mm_cmpgt_epi16(than, _mm_load_si128(&lanes[2 * g + 1]));

		below |= (uint64_t)(uint16_t)_mm_movemask_epi8(_mm_packs_epi16(low, high))
			 << (16 * g);
	}
	return below;
}

/* The same in two instructions per 32 hints, where the processor has them. */
#define WIDE __attribute__((target("avx512bw")))
static inline WIDE uint64_t hints_below_wide(const a16 *hints, int16_t value)
{
	const void *lanes = (const void *)(uintptr_t)hints;
	__m512i than = _mm512_set1_epi16(value);
	__mmask32 low = _mm512_cmplt_epi16_mask(_mm512_load_si512(lanes), than);
	__mmask32 high = _mm512_cmplt_epi16_mask(_mm512_load_si512((const char *)lanes + 64), than);

	return (uint64_t)high << 32 | low;
}
#endif

typedef uint64_t below_fn(const a16 *hints, int16_t value);

/*
 * Lowers *best to the lowest hint of the candidates in mask; true when there was a lower one. Loads
 * are level in practice, so nearly always the first comparison says no, and otherwise one or two
 * steps find the minimum. Ends: each round lowers *best or drops a bit.
 */
static inline __attribute__((always_inline)) bool word_lower(const a16 *hints, uint64_t mask,
							     below_fn *below_of, int16_t *best)
{
	uint64_t below = mask & below_of(hints, *best);
	bool lower = false;

	while (below) {
		/* relaxed: a hint */
		int16_t v =
			atomic_load_explicit(&hints[__builtin_ctzll(below)], memory_order_relaxed);

		if (v < *best) {
			*best = v;
			lower = true;
			below = mask & below_of(hints, v);
		} else {
			below &= below - 1; /* risen since */
		}
	}
	return lower;
}

/* The word of candidates that holds the lowest hint; REG_NIL: none has room. */
static inline __attribute__((always_inline)) uint32_t
lowest_by(struct reg_self *me, const struct choice *c, below_fn *below_of, int16_t *ret_best)
{
	uint32_t best_word = REG_NIL, w = me->rotor / 64 % c->words;
	const a16 *hints = reg__hint(me->reg, 0);
	int16_t best = REG_HINT_FULL;

	for (uint32_t n = 0; n < c->words && best; n++, w = w + 1 == c->words ? 0 : w + 1) {
		uint64_t m = candidates(c, w);

		if (m && word_lower(hints + (uint64_t)w * 64, m, below_of, &best))
			best_word = w;
	}
	*ret_best = best;
	return best_word;
}

#ifdef WIDE
static WIDE uint32_t lowest_wide(struct reg_self *me, const struct choice *c, int16_t *ret_best)
{
	return lowest_by(me, c, hints_below_wide, ret_best);
}
#endif

static uint32_t lowest_word(struct reg_self *me, const struct choice *c, int16_t *ret_best)
{
#ifdef WIDE
	if (me->reg->wide)
		return lowest_wide(me, c, ret_best);
#endif
	return lowest_by(me, c, hints_below, ret_best);
}

/* The least loaded candidate by hint; REG_NIL: none has room. Repeats only when a hint changed
 * between the two looks. */
static uint32_t nominate(struct reg_self *me, const struct choice *c)
{
	int16_t best;

	for (uint32_t w; (w = lowest_word(me, c, &best)) != REG_NIL;) {
		uint64_t eq = candidates(c, w) &
			      hints_below(reg__hint(me->reg, w * 64), (int16_t)(best + 1));
		/* ties go to the first one behind the last choice, so that they spread */
		uint64_t behind = eq & ~((UINT64_C(2) << (me->rotor % 64)) - 1);

		if (!eq)
			continue;
		me->rotor = w * 64 + (uint32_t)__builtin_ctzll(behind ? behind : eq);
		return me->rotor;
	}
	return REG_NIL;
}

/* ---- ports ---- */

/* The record keeps them in the order of the request; at most 32, nearly always 0 or 1. */
static uint32_t ports_ascending(const struct reg_rec *rec, uint16_t *ret)
{
	uint32_t n = reg__rec_ports(rec, ret);

	for (uint32_t i = 1; i < n; i++) {
		uint16_t port = ret[i];
		uint32_t j = i;

		for (; j && ret[j - 1] > port; j--)
			ret[j] = ret[j - 1];
		ret[j] = port;
	}
	return n;
}

void reg__ports_free(struct reg *reg, uint32_t agent, uint32_t record, uint32_t gen, uint32_t limit)
{
	const struct reg_rec *rec = reg__rec(reg, record);
	uint16_t ports[REG_PORTS_MAX];
	uint32_t n = rec ? ports_ascending(rec, ports) : 0;

	for (uint32_t i = 0; i < n && i < limit; i++) {
		struct reg_key key = reg__key_port(agent, ports[i]);

		reg__index_remove(reg, INDEX_PORTS, &key, record, gen);
	}
}

/* In ascending order, so that of two that want the same ports one gets the first one; each by the
 * index's own claim. Undone on the first conflict. */
enum reg_status reg__ports_claim(struct reg *reg, uint32_t agent, uint32_t record, uint32_t gen)
{
	uint16_t ports[REG_PORTS_MAX];
	uint32_t n = ports_ascending(reg__rec(reg, record), ports);

	for (uint32_t i = 0; i < n; i++) {
		struct reg_key key = reg__key_port(agent, ports[i]);
		struct reg_hit other;
		enum reg_status st = reg__index_insert(reg, INDEX_PORTS, &key, record, gen, &other);

		if (st == REG_NAME_EXISTS && other.cell == record && other.gen == gen)
			continue; /* ours already: an adoption repeated */
		if (st) {
			reg__ports_free(reg, agent, record, gen, i);
			return st == REG_NAME_EXISTS ? REG_PORT_CONFLICT : st;
		}
		(void)FAILPOINT("reserve.port-claimed");
	}
	return REG_OK;
}

static bool ports_taken(const struct reg *reg, uint32_t agent, const uint16_t *ports, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct reg_key key = reg__key_port(agent, ports[i]);
		struct reg_hit hit;

		if (reg__index_find(reg, INDEX_PORTS, &key, &hit))
			return true;
	}
	return false;
}

/* ---- one agent ---- */

struct search {
	uint32_t record, pool, image;
	uint16_t ports[REG_PORTS_MAX];
	uint32_t port_count;
	bool conflict; /* some agent with room had a port in use */
};

/*
 * Slot, placement, ports, in this order; undone in reverse. Dying after the slot: the reaper finds
 * the slot by our index. After the placement: by the record, which is CLAIMED and ours. REG_OK,
 * REG_STALE (no free slot there), REG_PORT_CONFLICT, or a lack of memory.
 */
static enum reg_status take_on(struct reg_self *me, const struct search *s, uint32_t agent,
			       uint32_t slot, struct reg_lease *ret)
{
	struct reg *reg = me->reg;
	struct reg_rec *rec = reg__rec(reg, s->record);
	uint32_t gen;
	enum reg_status st;

	if (slot != REG_NIL ? !reg__slot_take(me, agent, slot, s->record, &gen)
			    : !reg__slot_claim(me, agent, s->record, false, &slot, &gen))
		return REG_STALE;
	/* release [R3]: pairs with record_matches in index.c */
	atomic_store_explicit(&rec->place, place_make(agent, slot, gen), memory_order_release);
	(void)FAILPOINT("reserve.placed");
	if (s->port_count) {
		st = reg__ports_claim(reg, agent, s->record, ret->sandbox.gen);
		if (st) {
			reg__unplace(me, s->record, rec, ret->sandbox.gen);
			return st;
		}
	}
	ret->agent.idx = agent;
	ret->slot = slot;
	ret->slot_gen = gen;
	return REG_OK;
}

/* slot REG_NIL: any by the mask, which nominates only. */
static enum reg_status try_agent(struct reg_self *me, struct search *s, uint32_t agent,
				 uint32_t slot, struct reg_lease *ret)
{
	enum reg_status st = REG_PORT_CONFLICT;

	if (!s->port_count || !ports_taken(me->reg, agent, s->ports, s->port_count))
		st = take_on(me, s, agent, slot, ret);
	if (st == REG_PORT_CONFLICT) {
		s->conflict = true;
		me->excluded[agent / 64] |= UINT64_C(1) << (agent % 64);
	}
	return st;
}

/* So many failures in a row are a storm or a damaged arena, whose hints heal to what is not so; the
 * pass over the words ends either way and decides. */
#define FAILED_NOMINATIONS_MAX 1000

/* Nominations until one succeeds or no hint shows room. A failed one heals its agent's hints, so
 * the loop ends. */
static enum reg_status by_hint(struct reg_self *me, struct search *s, const struct choice *c,
			       struct reg_lease *ret)
{
	for (uint32_t agent, failed = 0; (agent = nominate(me, c)) != REG_NIL;) {
		enum reg_status st = try_agent(me, s, agent, REG_NIL, ret);

		if (st != REG_STALE && st != REG_PORT_CONFLICT)
			return st;
		if (st == REG_STALE) {
			if (++failed == FAILED_NOMINATIONS_MAX)
				break;
			(void)reg__agent_heal(me->reg, agent);
			reg__pause();
		}
	}
	return REG_STALE;
}

/* A free word below the capacity is room only while no more are held in all: an agent may hold some
 * beyond a capacity that shrank. */
static bool room_by_words(const struct reg *reg, uint32_t agent, uint32_t slots)
{
	uint32_t held = 0;

	for (uint32_t i = 0; i < REG_SLOTS_PER_AGENT_MAX && held < slots; i++) {
		a64 *slot = reg__slot(reg, agent, i);

		if (!slot)
			return true;
		/* seq_cst [F1]: as in by_word */
		held += word_state(atomic_load_explicit(slot, memory_order_seq_cst)) != SLOT_FREE;
	}
	return held < slots;
}

/* The authoritative pass: every slot word of every candidate. */
static enum reg_status by_word(struct reg_self *me, struct search *s, const struct choice *c,
			       struct reg_lease *ret)
{
	for (uint32_t w = 0; w < c->words; w++) {
		for (uint64_t m = candidates(c, w); m; m &= m - 1) {
			uint32_t agent = w * 64 + (uint32_t)__builtin_ctzll(m);
			const struct reg_agent *a = reg__agent(me->reg, agent);
			/* seq_cst [F1]: after the pool was marked as being refused */
			uint64_t hot = a ? atomic_load_explicit(&a->hot, memory_order_seq_cst) : 0;

			for (uint32_t i = 0; hot_ready(hot) && i < hot_slots(hot); i++) {
				a64 *slot = reg__slot(me->reg, agent, i);
				enum reg_status st;

				/* seq_cst [F1]: a release before our mark is seen here, one after
				 * it clears the mark */
				if (!slot || word_state(atomic_load_explicit(
						     slot, memory_order_seq_cst)) != SLOT_FREE)
					continue;
				if (!room_by_words(me->reg, agent, hot_slots(hot)))
					break;
				(void)reg__agent_heal(me->reg, agent);
				/* exactly this word: its mask bit may be in the hands of one who
				 * stands still */
				st = try_agent(me, s, agent, i, ret);
				if (st == REG_PORT_CONFLICT)
					break;
				if (st != REG_STALE)
					return st;
			}
		}
	}
	return REG_STALE;
}

/*
 * Somebody is between making a slot of the pool free and clearing the memo. Looked at before the
 * memo: who is not seen here has either not made it free yet, or has cleared the memo already.
 */
static bool release_under_way(const struct reg *reg, uint32_t pool)
{
	/* acquire [F2]: pairs with parts_high_raise */
	uint32_t high = atomic_load_explicit(&reg->hdr->parts_high, memory_order_acquire);

	for (uint32_t i = 0; i < high && i < REG_PARTICIPANTS_MAX; i++) {
		const struct reg_part *part = reg__part(reg, i);

		/* acquire [F2]: pairs with reg__slot_free */
		if (part &&
		    atomic_load_explicit(&part->releasing, memory_order_acquire) == pool + 1)
			return true;
	}
	return false;
}

static struct reg_full_memo *memo_of(struct reg_self *me, uint32_t pool, uint32_t image)
{
	/* the two groups of a request must not share a place: a refusal looks at both */
	return &me->memo[image == REG_NIL
				 ? pool * 31 % (FULL_MEMOS / 2)
				 : FULL_MEMOS / 2 + (pool * 31 + image) % (FULL_MEMOS / 2)];
}

/*
 * One group of candidates (those with the image; then all of the pool): hints, then the pass.
 * "Full" is remembered in this process under the pool's number; a release, or anything that makes
 * room, moves the number on when somebody may remember.
 */
static enum reg_status from_group(struct reg_self *me, struct search *s, const struct choice *c,
				  uint32_t image, struct reg_lease *ret)
{
	struct reg_pool *pool = reg__pool(me->reg, s->pool);
	struct reg_full_memo *memo = memo_of(me, s->pool, image);
	enum reg_status st = by_hint(me, s, c, ret);

	if (st != REG_STALE)
		return st;
	bool look = release_under_way(me->reg, s->pool);
	/* seq_cst [F1]: pairs with reg__pool_full_clear; the mark before the pass, and after the
	 * look at the releasers */
	uint64_t full = atomic_fetch_or_explicit(&pool->full, 1, memory_order_seq_cst);

	if (!look && !s->port_count && (full & 1) && memo->pool == s->pool + 1 &&
	    memo->image == image + 1 && memo->full == full)
		return REG_STALE;
	st = by_word(me, s, c, ret);
	if (st == REG_STALE && !s->port_count && !look)
		*memo = (struct reg_full_memo){s->pool + 1, image + 1, full | 1};
	return st;
}

enum reg_status reg__place(struct reg_self *me, uint32_t pool, uint32_t image, uint32_t record,
			   struct reg_lease *ret)
{
	struct search s = {.record = record, .pool = pool, .image = image};
	uint32_t high = reg__cells_high(me->reg, CELLS_AGENTS);
	struct choice c = {
		.pool = reg__pool_bits(me->reg, pool),
		.image = image == REG_NIL ? NULL : reg__image_bits(me->reg, image),
		.words = (high + 63) / 64,
	};
	enum reg_status st = REG_STALE;

	if (!c.pool || !c.words)
		return REG_NO_CAPACITY;
	s.port_count = reg__rec_ports(reg__rec(me->reg, record), s.ports);
	if (s.port_count) {
		memset(me->excluded, 0, c.words * sizeof(uint64_t));
		c.excluded = me->excluded;
	}
	if (c.image)
		st = from_group(me, &s, &c, image, ret);
	if (st == REG_STALE) {
		/* All of them, so that an agent whose images change between the two passes is not
		 * missed by both; who has the image had no room a moment ago. */
		c.image = NULL;
		st = from_group(me, &s, &c, REG_NIL, ret);
	}
	if (st != REG_STALE)
		return st;
	return s.conflict ? REG_PORT_CONFLICT : REG_NO_CAPACITY;
}
