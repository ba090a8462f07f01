/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Homes: the stripes of a pool are shared out among the live workers, so that each searches and
 * releases on cache lines of its own. Who releases at another's home leaves a notice there; a
 * published lowest load per home tells the others when looking there is worth while. A home is a
 * preference: a dead worker's are shared out anew, and any worker may take any slot.
 */
#include "place.h"

#include <x86intrin.h>

/* ---- who lives where ---- */

void reg__homes_move(struct reg *reg)
{
	/* release [N1]: pairs with homes_look; the participant's word before the number */
	atomic_fetch_add_explicit(&reg->hdr->homes, 1, memory_order_release);
}

/* My rank among the live workers, and how many of them there are. False: I am none. */
static bool rank_of(const struct reg_self *me, uint32_t *ret_rank, uint32_t *ret_workers)
{
	/* acquire [F2]: pairs with parts_high_raise */
	uint32_t high = atomic_load_explicit(&me->reg->hdr->parts_high, memory_order_acquire);
	uint32_t rank = REG_NIL, workers = 0;

	for (uint32_t i = 0; i < high && i < REG_PARTICIPANTS_MAX; i++) {
		const struct reg_part *part = reg__part(me->reg, i);
		/* acquire [P1] */
		uint64_t w = part ? atomic_load_explicit(&part->word, memory_order_acquire) : 0;

		if (BITS_GET(w, 0, 8) != PART_LIVE || BITS_GET(w, 8, 8) != REG_KIND_WORKER)
			continue;
		if (i == me->idx)
			rank = workers;
		workers++;
	}
	*ret_rank = rank;
	*ret_workers = workers < REG_HOMES ? workers : REG_HOMES;
	return rank < *ret_workers;
}

void reg__homes_moved(struct reg_self *me, uint32_t now)
{
	uint32_t rank, workers;

	me->homes_seen = now + 1;
	me->homes = 0;
	if (rank_of(me, &rank, &workers))
		for (uint32_t home = rank; home < REG_HOMES; home += workers)
			me->homes |= 1u << home;
	reg__floors_void(me);
}

/* ---- notices: 32768 - load 16 | stripe 16; 0: none. So the greatest is the lowest load ---- */

static uint32_t notice_make(int16_t load, uint32_t stripe)
{
	return (32768u - (uint32_t)load) << 16 | stripe;
}

static void notice_leave(struct reg_pool *pool, uint32_t home, uint32_t notice)
{
	/* relaxed: checked again by the CAS */
	uint32_t now = atomic_load_explicit(&pool->foreign[home], memory_order_relaxed);

	while (now >> 16 < notice >> 16)
		/* release [N2]: pairs with reg__foreign_take; the hint before the notice */
		if (atomic_compare_exchange_weak_explicit(&pool->foreign[home], &now, notice,
							  memory_order_release,
							  memory_order_relaxed))
			return;
}

void reg__notice_leave(struct reg_pool *pool, uint32_t agent, int16_t load)
{
	notice_leave(pool, home_of(agent), notice_make(load, agent / REG_STRIPE));
}

static void foreign_take(struct reg_self *me, uint32_t idx, struct reg_pool *pool, uint32_t home)
{
	/* acquire [N2]: pairs with notice_leave; the pass that follows sees the hint */
	uint32_t notice = atomic_exchange_explicit(&pool->foreign[home], 0, memory_order_acquire);

	if (!notice)
		return;
	reg__floors_sink(me, idx, (int16_t)(32768u - (notice >> 16)), notice & 0xffff);
	/* acquire [N1]: the home may be somebody else's by now, who has voided his floors before
	 * he could see the notice */
	if (atomic_load_explicit(&me->reg->hdr->homes, memory_order_acquire) + 1 != me->homes_seen)
		notice_leave(pool, home, notice);
}

void reg__foreign_take(struct reg_self *me, uint32_t idx, struct reg_pool *pool)
{
	for (uint32_t homes = me->homes; homes; homes &= homes - 1) {
		uint32_t home = (uint32_t)__builtin_ctz(homes);

		/* relaxed: a notice that is not seen yet is seen by the next search */
		if (atomic_load_explicit(&pool->foreign[home], memory_order_relaxed))
			foreign_take(me, idx, pool, home);
	}
}

/* ---- the published lowest loads: tag 16 | load 16 ---- */

static uint32_t low_row(uint32_t image)
{
	return image == REG_NIL ? 0 : 1 + image % (REG_LOWS - 1);
}

static uint32_t low_tag(uint32_t image)
{
	return image == REG_NIL ? 1 : 1 + image / (REG_LOWS - 1);
}
_Static_assert(1 + REG_MAX_IMAGES / (REG_LOWS - 1) < 0x10000, "tags fit");

static int16_t low_load(uint32_t word)
{
	return (int16_t)(word & 0x7fff);
}

static void low_sink(a32 *low, uint32_t tag, int16_t load)
{
	/* seq_cst [N3]: pairs with reg__low_raise; the hint was stored before a locked operation */
	uint32_t now = atomic_load_explicit(low, memory_order_seq_cst);

	while (now >> 16 == tag && low_load(now) > load)
		if (atomic_compare_exchange_weak_explicit(low, &now, tag << 16 | (uint32_t)load,
							  memory_order_seq_cst, /* [N3] */
							  memory_order_seq_cst))
			return;
}

static bool image_has(const struct reg *reg, uint32_t image, uint32_t agent)
{
	const a64 *bits = reg__image_bits(reg, image);

	/* relaxed: who adds the image voids the pool after */
	return bits &&
	       atomic_load_explicit(&bits[agent / 64], memory_order_relaxed) >> (agent % 64) & 1;
}

void reg__lows_sink(struct reg *reg, struct reg_pool *pool, uint64_t rows, uint32_t agent,
		    int16_t load)
{
	uint32_t home = home_of(agent);

	for (; rows; rows &= rows - 1) {
		uint32_t row = (uint32_t)__builtin_ctzll(rows) % REG_LOWS;
		a32 *low = &pool->low[row][home];
		/* seq_cst [N3] */
		uint32_t now = atomic_load_explicit(low, memory_order_seq_cst), tag = now >> 16;

		if (!tag || low_load(now) <= load)
			continue;
		if (!row || image_has(reg, (tag - 1) * (REG_LOWS - 1) + row - 1, agent))
			low_sink(low, tag, load);
	}
}

/* The word of the image at a home. One that is another image's changes hands now and then, so that
 * images out of use do not keep theirs. */
uint32_t reg__low_word(struct reg_self *me, struct reg_pool *pool, uint32_t image, uint32_t home)
{
	uint32_t row = low_row(image), tag = low_tag(image);
	a32 *low = &pool->low[row][home];
	/* seq_cst [N3]: before the pass */
	uint32_t now = atomic_load_explicit(low, memory_order_seq_cst);

	if (now >> 16 == tag)
		return now;
	if (now && ++me->low_misses % 256)
		return 0;
	/* relaxed: seq_cst below; only grows */
	if (!(atomic_load_explicit(&pool->lows_used, memory_order_relaxed) >> row & 1))
		/* seq_cst [N3]: in use before it is raised */
		atomic_fetch_or_explicit(&pool->lows_used, UINT64_C(1) << row,
					 memory_order_seq_cst);
	return atomic_compare_exchange_strong_explicit(low, &now, tag << 16, memory_order_seq_cst,
						       memory_order_seq_cst)
		       ? tag << 16
		       : 0;
}

/* Where the word is another image's, the one of all agents of the pool is a bound as well. */
static int16_t low_at(const struct reg_pool *pool, uint32_t row, uint32_t tag, uint32_t home)
{
	/* relaxed: a bound as of some moment of the call; who lowers it has stored the hint before
	 */
	uint32_t now = atomic_load_explicit(&pool->low[row][home], memory_order_relaxed);

	if (now >> 16 != tag)
		now = atomic_load_explicit(&pool->low[0][home], memory_order_relaxed);
	return low_load(now);
}

int16_t reg__low_of(const struct reg_pool *pool, uint32_t image, uint32_t homes,
		    int16_t lows[REG_HOMES])
{
	uint32_t row = low_row(image), tag = low_tag(image);
	int16_t lowest = REG_HINT_FULL;

	for (; homes; homes &= homes - 1) {
		uint32_t home = (uint32_t)__builtin_ctz(homes);

		lows[home] = low_at(pool, row, tag, home);
		if (lows[home] < lowest)
			lowest = lows[home];
	}
	return lowest;
}

void reg__low_raise(struct reg_self *me, struct reg_pool *pool, uint32_t image, uint32_t home,
		    const struct choice *c, uint32_t seen, int16_t best, int step)
{
	a32 *low = &pool->low[low_row(image)][home];
	struct choice there = *c;
	uint32_t at = 0, tag = low_tag(image);
	int16_t again = best;

	if (!seen || best < low_load(seen) + step)
		return;
	/* seq_cst [N3]: the raise before the second pass; a release whose hint the first one did
	 * not see either finds the raised word and lowers it, or its hint is seen now */
	if (!atomic_compare_exchange_strong_explicit(low, &seen, tag << 16 | (uint32_t)best,
						     memory_order_seq_cst, memory_order_relaxed))
		return;
	there.homes = homes_pattern(1u << home);
	(void)reg__scan_lowest(me, &there, 0, &at, &again);
	if (again < best)
		low_sink(low, tag, again);
}

void reg__pool_void(struct reg *reg, uint32_t idx)
{
	struct reg_pool *pool = reg__pool(reg, idx);

	if (!pool)
		return;
	for (uint32_t row = 0; row < REG_LOWS; row++)
		for (uint32_t home = 0; home < REG_HOMES; home++) {
			a32 *low = &pool->low[row][home];
			/* relaxed: the tag is checked again by the CAS */
			uint32_t now = atomic_load_explicit(low, memory_order_relaxed);

			if (now)
				low_sink(low, now >> 16, 0);
		}
	/* release [N4]: pairs with place.c; the hint, or the member's bit, before the number */
	atomic_fetch_add_explicit(&pool->moves, 1, memory_order_release);
}

/* ---- who else is at it ---- */

#define BUSY_TICKS 150000 /* about 50 µs */

bool reg__others_placing(struct reg_self *me)
{
	uint64_t now = __rdtsc();
	/* acquire [F2]: pairs with parts_high_raise */
	uint32_t high = atomic_load_explicit(&me->reg->hdr->parts_high, memory_order_acquire);

	if (now < me->busy_until)
		return true;
	for (uint32_t i = 0; i < high && i < REG_PARTICIPANTS_MAX; i++) {
		const struct reg_part *part = i == me->idx ? NULL : reg__part(me->reg, i);

		/* relaxed: of those who are not at the same time it says nothing */
		if (part && atomic_load_explicit(&part->placing, memory_order_relaxed)) {
			me->busy_until = now + BUSY_TICKS;
			return true;
		}
	}
	return false;
}
