/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stint, as one process of it sees it: enter, fill the ring, warm up, then blocks of pairs
 * between two looks at the clock (means), then pairs timed singly (quantiles). Processes start each
 * block together.
 */
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "clock.h"
#include "crew.h"
#include "arena.h"

enum { WARM_BLOCKS = 4 }; /* a number, for all processes the same: they wait for each other */

static uint32_t unit_of(const struct subject *subject)
{
	return subject->unit ? subject->unit : 1;
}

static void prepare(const struct subject *subject, void *self, uint32_t pairs)
{
	if (subject->prepare)
		subject->prepare(self, pairs * unit_of(subject));
}

/* Pairs of which the takes alone are timed. */
static uint64_t takes_ns(const struct subject *subject, void *self, struct ring *ring, uint32_t n)
{
	uint64_t ticks = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint64_t begin;

		prepare(subject, self, 1);
		subject->give(self, &ring->src[ring->pos]);
		begin = ticks_begin();
		(void)subject->take(self, &ring->dst[ring->pos]);
		ticks += ticks_end() - begin;
		ring_next(ring, unit_of(subject));
	}
	return (uint64_t)((double)ticks / ticks_per_ns());
}

static void run_block(struct stint *s, const struct lane *lane, uint32_t pairs, struct block *ret)
{
	const struct subject *subject = lane->subject;

	if (!subject->takes)
		prepare(subject, s->self, pairs);
	crew_barrier(s->shared, lane->processes, &s->barriers);
	ret->begin = clock_mono_ns();
	if (subject->takes)
		ret->takes_ns = takes_ns(subject, s->self, &s->ring, pairs);
	else
		subject->pairs(s->self, &s->ring, pairs);
	ret->end = clock_mono_ns();
}

static void run_singles(struct stint *s, const struct lane *lane, uint32_t count)
{
	const struct subject *subject = lane->subject;
	struct seat_out *out = &s->shared->out[s->idx];

	for (uint32_t i = 0; i < count; i++) {
		uint64_t begin, middle, end;

		/* in step, or releases of a neighbour's would overtake it */
		if (i % lane->pairs == 0)
			crew_barrier(s->shared, lane->processes, &s->barriers);
		prepare(subject, s->self, 1);
		begin = ticks_begin();
		subject->give(s->self, &s->ring.src[s->ring.pos]);
		middle = ticks_end();
		(void)ticks_begin();
		uint64_t take_begin = ticks_begin();
		(void)subject->take(s->self, &s->ring.dst[s->ring.pos]);
		end = ticks_end();
		out->give_ticks[i] = (uint32_t)(middle - begin);
		out->take_ticks[i] = (uint32_t)(end - take_begin);
		ring_next(&s->ring, unit_of(subject));
	}
}

/*
 * What can be taken while a call runs: by this process all that it holds but for what it gave back
 * just before; by each of the others that, too, and in two blocks as many again.
 */
static uint64_t taken_at_most(const struct lane *lane)
{
	uint64_t unit = unit_of(lane->subject), own = lane->ring > unit ? lane->ring - unit : 0;

	return own + (lane->processes - 1) * (lane->ring + 2 * lane->pairs * unit);
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static void enter(struct stint *s, const struct lane *lane)
{
	const struct subject *subject = lane->subject;
	struct seat_out *out = &s->shared->out[s->idx];
	uint64_t taken = taken_at_most(lane);
	struct seat seat = {
		.idx = s->idx,
		.count = lane->processes,
		.world = s->world,
		.reg = s->reg,
		.shared = lane->shared,
		.lease_count = lane->ring,
		.image_room = s->image_room,
		.room = less(s->shared->room, taken),
		.tally = &out->tally,
	};

	for (uint32_t i = 0; i < WORLD_IMAGES; i++)
		s->image_room[i] = less(s->shared->image_room[i], taken);
	s->barriers = 0;
	memset(&out->tally, 0, sizeof(out->tally));
	ring_init(&s->ring, s->shared->leases, s->idx, lane->processes, lane->ring, lane->foreign);
	memset(s->ring.mine[0], 0, lane->ring * sizeof(struct reg_lease));
	memset(s->ring.mine[1], 0, lane->ring * sizeof(struct reg_lease));
	s->self = subject->enter(&seat);
	/* all have joined and know who is at home where */
	crew_barrier(s->shared, lane->processes, &s->barriers);
	for (uint32_t i = 0; i < lane->ring; i += unit_of(subject)) {
		prepare(subject, s->self, 1);
		(void)subject->take(s->self, &s->ring.mine[0][i]);
	}
}

static void leave(struct stint *s, const struct lane *lane)
{
	for (uint32_t i = 0; i < lane->ring; i += unit_of(lane->subject))
		lane->subject->give(s->self, ring_live(&s->ring, i));
	lane->subject->leave(s->self);
	s->self = NULL;
}

static void run(struct stint *s, const struct order *order)
{
	const struct lane *lane = &order->lane;
	struct seat_out *out = &s->shared->out[s->idx];
	struct block warm;

	enter(s, lane);
	for (uint32_t i = 0; i < WARM_BLOCKS; i++)
		run_block(s, lane, lane->pairs, &warm);
	for (uint32_t i = 0; i < order->blocks; i++)
		run_block(s, lane, lane->pairs, &out->block[i]);
	run_singles(s, lane, order->singles);
	crew_barrier(s->shared, lane->processes, &s->barriers);
	out->ring = s->ring;
	out->tally.takes =
		((uint64_t)(WARM_BLOCKS + order->blocks) * lane->pairs + order->singles) *
			unit_of(lane->subject) +
		lane->ring;
}

/* Of a few blocks: one that nobody disturbed. */
static uint64_t quickest_of(struct stint *s, const struct lane *lane, uint32_t pairs)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 4; i++) {
		struct block block;

		run_block(s, lane, pairs, &block);
		if (block.end - block.begin < best)
			best = block.end - block.begin;
	}
	return best;
}

/* How many pairs take about warm_ns; alone. */
static void calibrate(struct stint *s, const struct order *order)
{
	struct lane lane = order->lane;
	const struct subject *subject = lane.subject;
	uint32_t most = subject->block_max ? subject->block_max : PREPARED, pairs = 1;
	struct block block = {0};

	lane.processes = 1;
	enter(s, &lane);
	if (most * unit_of(subject) > lane.ring && lane.foreign)
		most = lane.ring / unit_of(subject);
	run_block(s, &lane, 1, &block); /* first touch */
	while (pairs < most && quickest_of(s, &lane, pairs) < order->block_ns / 2)
		pairs *= 2;
	s->shared->out[s->idx].pairs = pairs;
	leave(s, &lane);
}

void stint_carry_out(struct stint *s)
{
	const struct order *order = &s->shared->order;

	if (s->idx >= (order->kind <= ORDER_CALIBRATE ? 1 : order->lane.processes))
		return;
	switch (order->kind) {
	case ORDER_FILL:
		arena_fill(s->reg, s->world);
		break;
	case ORDER_CALIBRATE:
		calibrate(s, order);
		break;
	case ORDER_RUN:
		run(s, order);
		break;
	case ORDER_LEAVE:
		leave(s, &order->lane);
		break;
	default:
		base_bug(true);
	}
}
