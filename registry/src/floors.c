/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one participant remembers between its searches, in memory of its own: per request (pool and
 * image) a floor under the hints at its homes, the stripe where the last search ended, and the
 * agents that it released itself. A floor that is too low costs a pass; too high it may not be, so
 * everything that lowers a hint at a home sinks it.
 */
#include "place.h"

struct reg_floor *reg__floor_make(struct reg_self *me, uint32_t i, uint32_t pool, uint32_t image)
{
	struct reg_floor *f = &me->floors.of[i];

	*f = (struct reg_floor){.pool = REG_NIL,
				.image = image,
				.row = reg__pool(me->reg, pool),
				.pool_bits = reg__pool_bits(me->reg, pool),
				.image_bits =
					image == REG_NIL ? NULL : reg__image_bits(me->reg, image),
				.stripe = me->rotor / REG_STRIPE};
	me->floors.value[i] = 0;
	if (!f->row || !f->pool_bits)
		return NULL;
	f->pool = pool;
	/* none of the number before, so that it is not believed yet */
	f->moves = ~atomic_load_explicit(&f->row->moves, memory_order_relaxed);
	return f;
}

void reg__floor_moved(struct reg_self *me, struct reg_floor *f, uint64_t moves)
{
	f->moves = moves;
	reg__floor_raise(me, f, 0);
}

void reg__floors_void(struct reg_self *me)
{
	for (uint32_t i = 0; i < FLOORS; i++) {
		me->floors.of[i].pool = REG_NIL;
		me->floors.value[i] = 0;
	}
}

void reg__floor_raise(struct reg_self *me, struct reg_floor *f, int16_t to)
{
	me->floors.value[f - me->floors.of] = (uint16_t)to;
	f->sunk = false;
	f->fresh_count = 0; /* of before the pass, which has looked at them too */
}

/* The floors that are not below the load, a bit each. */
static inline __attribute__((always_inline)) uint32_t not_below(const struct reg_floors *floors,
								int16_t load)
{
	const __m128i *lanes = (const __m128i *)(const void *)floors->value;
	__m128i than =
		_mm_set1_epi16((int16_t)(load - 1)); /* values are 0..32767: signed is fine */
	uint32_t bits = 0;

	for (unsigned int g = 0; g < FLOORS / 16; g++) {
		__m128i low = _mm_cmpgt_epi16(_mm_loadu_si128(&lanes[2 * g]), than);
		__m128i high = _mm_cmpgt_epi16(_mm_loadu_si128(&lanes[2 * g + 1]), than);

		bits |= (uint32_t)(uint16_t)_mm_movemask_epi8(_mm_packs_epi16(low, high))
			<< (16 * g);
	}
	return bits;
}
_Static_assert(FLOORS == 32, "two rounds of sixteen, a bit each in 32");

void reg__floors_sink(struct reg_self *me, uint32_t pool, int16_t load, uint32_t stripe)
{
	for (uint32_t bits = not_below(&me->floors, load); bits; bits &= bits - 1) {
		uint32_t i = (uint32_t)__builtin_ctz(bits);

		if (me->floors.of[i].pool != pool)
			continue;
		me->floors.value[i] = (uint16_t)load;
		me->floors.of[i].stripe = stripe;
	}
}

/* Makes room for one more: who is at the floor or above is found by a pass as well; when all are
 * below it, the floor sinks to the lowest of them, and the passes find them. */
static __attribute__((noinline)) void fresh_drop(struct reg_self *me, struct reg_floor *f,
						 uint32_t i)
{
	int16_t lowest = REG_HINT_FULL;
	uint32_t kept = 0;

	for (uint32_t k = 0; k < FRESH; k++) {
		/* relaxed: a hint */
		int16_t hint =
			atomic_load_explicit(reg__hint(me->reg, f->fresh[k]), memory_order_relaxed);

		if (hint >= (int16_t)me->floors.value[i])
			continue;
		f->fresh[kept++] = f->fresh[k];
		if (hint < lowest)
			lowest = hint;
	}
	if (kept == FRESH) {
		me->floors.value[i] = (uint16_t)lowest;
		kept = 0;
	}
	f->fresh_count = kept;
}

void reg__floors_fresh(struct reg_self *me, uint32_t pool, uint32_t agent, int16_t load)
{
	for (uint32_t bits = not_below(&me->floors, load); bits; bits &= bits - 1) {
		uint32_t i = (uint32_t)__builtin_ctz(bits), count;
		struct reg_floor *f = &me->floors.of[i];
		const a64 *members;

		if (f->pool != pool)
			continue;
		members = f->image_bits ? f->image_bits : f->pool_bits;
		/* relaxed: a member that comes later voids the floor */
		if (!(atomic_load_explicit(&members[agent / 64], memory_order_relaxed) >>
			      (agent % 64) &
		      1))
			continue;
		count = f->fresh_count;
		if (!count || f->fresh[count - 1] != agent) {
			if (__builtin_expect(count == FRESH, 0)) {
				fresh_drop(me, f, i);
				count = f->fresh_count;
			}
			f->fresh[count] = agent;
			f->fresh_count = count + 1;
		}
		if (load < (int16_t)me->floors.value[i])
			f->sunk = true;
	}
}

/* All of them, for the lowest; keeps those that are not above the floor. */
uint32_t reg__fresh_lowest(struct reg_self *me, struct reg_floor *f, const uint64_t *excluded,
			   int16_t *best)
{
	int16_t limit = floor_value(me, f);
	uint32_t agent = REG_NIL, kept = 0;

	f->sunk = false;
	for (uint32_t k = 0; k < f->fresh_count; k++) {
		uint32_t a = f->fresh[k];
		/* relaxed: a hint */
		int16_t hint = atomic_load_explicit(reg__hint(me->reg, a), memory_order_relaxed);

		if (hint > limit || hint == REG_HINT_FULL)
			continue; /* taken again */
		f->sunk |= hint < limit;
		f->fresh[kept++] = a;
		if (hint < *best && floor_has(f, a) &&
		    !(excluded && excluded[a / 64] >> (a % 64) & 1)) {
			*best = hint;
			agent = a;
		}
	}
	f->fresh_count = kept;
	return agent;
}
