/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of placement share: a search's candidates and passes over their hints (scan.c),
 * the homes that a pool is shared out in (homes.c), and what one participant remembers of its own
 * (floors.c). All of it nominates; place.c decides by slot words.
 */
#ifndef REGISTRY_SRC_PLACE_H
#define REGISTRY_SRC_PLACE_H

#include "internal.h"

#include <immintrin.h>

/* ---- scan.c ---- */
struct choice {
	const a64 *pool, *image;		 /* bitmaps of agents; image NULL: any */
	const a64 *pool_stripes, *image_stripes; /* of stripes that may have some */
	const uint64_t *excluded;		 /* agents; NULL: none */
	uint32_t stripes;
	uint64_t homes; /* which stripes: a bit per home, repeated to 64 bits */
};

/* The agents of a stripe that match. */
static inline uint64_t choice_agents(const struct choice *c, uint32_t stripe)
{
	/* acquire [G3]: pairs with reg__member_add; the agent's row before its bit */
	uint64_t m = atomic_load_explicit(&c->pool[stripe], memory_order_acquire);

	if (m && c->image)
		/* relaxed: a claim is checked by the slot word; the image set is as of some moment
		 * of the call */
		m &= atomic_load_explicit(&c->image[stripe], memory_order_relaxed);
	return c->excluded ? m & ~c->excluded[stripe] : m;
}

static inline bool choice_has(const struct choice *c, uint32_t agent)
{
	return agent / REG_STRIPE < c->stripes &&
	       choice_agents(c, agent / REG_STRIPE) >> (agent % REG_STRIPE) & 1;
}

/* The first agent from stripe *at on, going round, with a hint of at most limit; *at is its stripe
 * then. REG_NIL: none. */
uint32_t reg__scan_first(struct reg_self *me, const struct choice *c, int16_t limit, uint32_t *at);
/* The lowest hint, at least those below *best; lowers *best and returns the agent, or REG_NIL.
 * Stops at a hint of at most enough. */
uint32_t reg__scan_lowest(struct reg_self *me, const struct choice *c, int16_t enough, uint32_t *at,
			  int16_t *best);

/* ---- homes.c ---- */
static inline uint32_t home_of(uint32_t agent)
{
	return agent / REG_STRIPE % REG_HOMES;
}

/* A set of homes as a choice wants it. */
static inline uint64_t homes_pattern(uint32_t homes)
{
	return homes * UINT64_C(0x0001000100010001);
}
_Static_assert(REG_HOMES == 16, "the pattern repeats four times");

/* Others live there by now: the floors are void. */
void reg__homes_moved(struct reg_self *me, uint32_t now);
/* Which homes are mine now. */
static inline void homes_look(struct reg_self *me)
{
	/* acquire [N1]: pairs with reg__homes_move */
	uint32_t now = atomic_load_explicit(&me->reg->hdr->homes, memory_order_acquire);

	if (__builtin_expect(me->homes_seen != now + 1, 0))
		reg__homes_moved(me, now);
}

/* Some home has a notice: looks at the line as a whole. */
static inline bool foreign_any(const struct reg_pool *pool)
{
#ifdef __SANITIZE_THREAD__
	return pool != NULL;
#else
	/* unordered: a notice that is not seen yet is seen by the next search */
	const __m128i *w = (const __m128i *)(uintptr_t)pool->foreign;
	__m128i any = _mm_or_si128(_mm_or_si128(_mm_load_si128(w), _mm_load_si128(w + 1)),
				   _mm_or_si128(_mm_load_si128(w + 2), _mm_load_si128(w + 3)));

	return _mm_movemask_epi8(_mm_cmpeq_epi8(any, _mm_setzero_si128())) != 0xffff;
#endif
}

/* Takes what others have released at my homes of that pool: lowers the floors. */
void reg__foreign_take(struct reg_self *me, uint32_t idx, struct reg_pool *pool);
/* A load at that agent has become lower: rows are those of pool->low in use. */
void reg__lows_sink(struct reg *reg, struct reg_pool *pool, uint64_t rows, uint32_t agent,
		    int16_t load);
void reg__notice_leave(struct reg_pool *pool, uint32_t agent, int16_t load);
/* No candidate of these homes has a lower load than what is returned; of a home in each of lows. */
int16_t reg__low_of(const struct reg_pool *pool, uint32_t image, uint32_t homes,
		    int16_t lows[REG_HOMES]);
/* After a whole pass over a home, with best as the lowest: raises what is published when it lags by
 * step, and looks again. seen: what was published before the pass. */
void reg__low_raise(struct reg_self *me, struct reg_pool *pool, uint32_t image, uint32_t home,
		    const struct choice *c, uint32_t seen, int16_t best, int step);
/* The word for that image at a home, made when it is nobody's; 0: it is another image's. */
uint32_t reg__low_word(struct reg_self *me, struct reg_pool *pool, uint32_t image, uint32_t home);
/* Somebody else is inside a placement, or was a moment ago. */
bool reg__others_placing(struct reg_self *me);

/* ---- ports.c ---- */
/* The agents that are known to use one of the ports; words long. */
void reg__ports_exclude(const struct reg *reg, const uint16_t *ports, uint32_t n,
			uint64_t *excluded, uint32_t words);
/* One of them is in use there. Sets *undecided_too when its holder may yet lose it. */
bool reg__ports_taken(struct reg *reg, uint32_t agent, const uint16_t *ports, uint32_t n,
		      bool *undecided_too);

/* ---- floors.c ---- */
/* What is known about the request's candidates at my homes. NULL: there is no such pool. */
struct reg_floor *reg__floor_make(struct reg_self *me, uint32_t i, uint32_t pool, uint32_t image);
static inline struct reg_floor *floor_of(struct reg_self *me, uint32_t pool, uint32_t image)
{
	uint32_t i = (pool * 31 + (image + 1) * 7) % FLOORS;
	struct reg_floor *f = &me->floors.of[i];

	if (__builtin_expect(f->pool != pool || f->image != image, 0))
		f = reg__floor_make(me, i, pool, image);
	return f;
}

/* The agent matches: as choice_has without what is excluded. */
static inline bool floor_has(const struct reg_floor *f, uint32_t agent)
{
	uint32_t word = agent / 64, bit = agent % 64;

	/* acquire [G3], then relaxed: as in choice_agents */
	if (!(atomic_load_explicit(&f->pool_bits[word], memory_order_acquire) >> bit & 1))
		return false;
	return !f->image_bits ||
	       atomic_load_explicit(&f->image_bits[word], memory_order_relaxed) >> bit & 1;
}

/* Administration has made room: nothing is known any more. */
void reg__floor_moved(struct reg_self *me, struct reg_floor *floor, uint64_t moves);
/* A floor of that pool is at most this from now on, and worth a look at the stripe. */
void reg__floors_sink(struct reg_self *me, uint32_t pool, int16_t load, uint32_t stripe);
void reg__floor_raise(struct reg_self *me, struct reg_floor *floor, int16_t to);
static inline int16_t floor_value(const struct reg_self *me, const struct reg_floor *floor)
{
	return (int16_t)me->floors.value[floor - me->floors.of];
}
/* All of the agents that I have released lately, for the lowest. */
uint32_t reg__fresh_lowest(struct reg_self *me, struct reg_floor *f, const uint64_t *excluded,
			   int16_t *best);
/* The best of the agents that I have released lately; REG_NIL: none as low as the floor. */
static inline uint32_t floor_fresh(struct reg_self *me, struct reg_floor *f,
				   const uint64_t *excluded, int16_t *ret_hint)
{
	int16_t limit = floor_value(me, f);

	*ret_hint = REG_HINT_FULL;
	if (__builtin_expect(f->sunk, 0))
		return reg__fresh_lowest(me, f, excluded, ret_hint);
	while (f->fresh_count) { /* none is below the floor: the last one at it will do */
		uint32_t a = f->fresh[f->fresh_count - 1];
		/* relaxed: a hint */
		int16_t hint = atomic_load_explicit(reg__hint(me->reg, a), memory_order_relaxed);

		if (hint <= limit && hint != REG_HINT_FULL && floor_has(f, a) &&
		    !(excluded && excluded[a / 64] >> (a % 64) & 1)) {
			*ret_hint = hint;
			return a;
		}
		f->fresh_count--;
	}
	return REG_NIL;
}

/* ---- a release ---- */

/* A slot has become free: the agent's hint is load now. Tells those who may rely on a higher one.
 * Who dies in here has lowered the hint and not told everybody: his reaper voids what is known. */
static inline void load_lowered(struct reg_self *me, uint32_t idx, struct reg_pool *pool,
				uint32_t agent, int16_t load)
{
	/* acquire [N1]: pairs with reg__homes_move; after the hint: who lives there by now and has
	 * not been told has passed over it later */
	uint32_t homes = atomic_load_explicit(&me->reg->hdr->homes, memory_order_acquire);
	uint64_t rows;

	if (load == REG_HINT_FULL || !pool)
		return;
	reg__floors_fresh(me, idx, agent, load);
	/* seq_cst [N3]: as in low_sink: a row that comes into use later is raised after a pass that
	 * sees the hint */
	rows = atomic_load_explicit(&pool->lows_used, memory_order_seq_cst);
	if (rows)
		reg__lows_sink(me->reg, pool, rows, agent, load);
	if (homes + 1 != me->homes_seen || !(me->homes >> home_of(agent) & 1))
		reg__notice_leave(pool, agent, load);
}

#endif
