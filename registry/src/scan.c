/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Passes over the hints of a request's candidates, a stripe (64 16-bit loads) at a time. Reads
 * only. What a pass finds is as of some moment of it, and nominates.
 */
#include "place.h"

#include <immintrin.h>

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

#define INLINE static inline __attribute__((always_inline))

/* Ties go to the first one behind the last choice, so that they spread. */
INLINE uint32_t pick(struct reg_self *me, uint32_t stripe, uint64_t of)
{
	uint64_t behind = of & ~((UINT64_C(2) << (me->rotor % 64)) - 1);

	me->rotor = stripe * REG_STRIPE + (uint32_t)__builtin_ctzll(behind ? behind : of);
	return me->rotor;
}

/* 64 stripes, those that may have a candidate. */
INLINE uint64_t stripes_at(const struct choice *c, uint32_t word)
{
	/* relaxed: set before the member's bit, and who adds one then voids what was known */
	uint64_t m = atomic_load_explicit(&c->pool_stripes[word], memory_order_relaxed) & c->homes;

	if (m && c->image)
		m &= atomic_load_explicit(&c->image_stripes[word], memory_order_relaxed);
	return m;
}

/* A round over the stripes from a given one. */
struct round {
	uint64_t todo, rest; /* rest: of the first word, what stands before the start */
	uint32_t word, words, left;
};

INLINE struct round round_from(const struct choice *c, uint32_t stripe)
{
	uint32_t words = (c->stripes + 63) / 64, at = stripe < c->stripes ? stripe : 0;
	uint64_t behind = ~UINT64_C(0) << (at % 64), m = stripes_at(c, at / 64);

	return (struct round){m & behind, m & ~behind, at / 64, words, words};
}

/* The next stripe; REG_NIL: round. */
INLINE uint32_t round_next(const struct choice *c, struct round *r)
{
	for (;;) {
		uint32_t stripe;

		while (!r->todo) {
			if (!r->left)
				return REG_NIL;
			r->left--;
			r->word = r->word + 1 == r->words ? 0 : r->word + 1;
			r->todo = r->left ? stripes_at(c, r->word) : r->rest;
		}
		stripe = r->word * 64 + (uint32_t)__builtin_ctzll(r->todo);
		r->todo &= r->todo - 1;
		if (stripe < c->stripes) /* the others came after this search began */
			return stripe;
	}
}

INLINE uint32_t first_by(struct reg_self *me, const struct choice *c, below_fn *below,
			 int16_t limit, uint32_t *at)
{
	const a16 *hints = reg__hint(me->reg, 0);
	struct round r = round_from(c, *at);

	for (uint32_t s; (s = round_next(c, &r)) != REG_NIL;) {
		uint64_t of = choice_agents(c, s);

		if (!of)
			continue;
		of &= below(hints + (uint64_t)s * REG_STRIPE, (int16_t)(limit + 1));
		if (of) {
			*at = s;
			return pick(me, s, of);
		}
	}
	return REG_NIL;
}

/* Lowers *best to the lowest hint of the candidates; returns those that have it, 0: none was lower.
 * Ends: each round lowers *best or drops a bit. */
INLINE uint64_t stripe_lowest(const a16 *hints, uint64_t of, below_fn *below, int16_t *best)
{
	uint64_t lower = of & below(hints, *best);
	bool found = false;

	while (lower) {
		/* relaxed: a hint */
		int16_t v =
			atomic_load_explicit(&hints[__builtin_ctzll(lower)], memory_order_relaxed);

		if (v < *best) {
			*best = v;
			found = true;
			lower = of & below(hints, v);
		} else {
			lower &= lower - 1; /* risen since */
		}
	}
	return found ? of & below(hints, (int16_t)(*best + 1)) : 0;
}

INLINE uint32_t lowest_by(struct reg_self *me, const struct choice *c, below_fn *below,
			  int16_t enough, uint32_t *at, int16_t *best)
{
	const a16 *hints = reg__hint(me->reg, 0);
	struct round r = round_from(c, *at);
	uint32_t agent = REG_NIL;

	for (uint32_t s; *best > enough && (s = round_next(c, &r)) != REG_NIL;) {
		uint64_t of = choice_agents(c, s);

		if (of)
			of = stripe_lowest(hints + (uint64_t)s * REG_STRIPE, of, below, best);
		if (of) {
			*at = s;
			agent = pick(me, s, of);
		}
	}
	return agent;
}

#ifdef WIDE
static WIDE uint32_t first_wide(struct reg_self *me, const struct choice *c, int16_t limit,
				uint32_t *at)
{
	return first_by(me, c, hints_below_wide, limit, at);
}

static WIDE uint32_t lowest_wide(struct reg_self *me, const struct choice *c, int16_t enough,
				 uint32_t *at, int16_t *best)
{
	return lowest_by(me, c, hints_below_wide, enough, at, best);
}
#endif

uint32_t reg__scan_first(struct reg_self *me, const struct choice *c, int16_t limit, uint32_t *at)
{
#ifdef WIDE
	if (me->reg->wide)
		return first_wide(me, c, limit, at);
#endif
	return first_by(me, c, hints_below, limit, at);
}

uint32_t reg__scan_lowest(struct reg_self *me, const struct choice *c, int16_t enough, uint32_t *at,
			  int16_t *best)
{
#ifdef WIDE
	if (me->reg->wide)
		return lowest_wide(me, c, enough, at, best);
#endif
	return lowest_by(me, c, hints_below, enough, at, best);
}
