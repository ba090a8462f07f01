/* SPDX-License-Identifier: Apache-2.0 */
/* The parent's side: builds worlds, orders stints, gathers what they measured, looks at the books.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "clock.h"
#include "session_types.h"

enum { BLOCKS = 12, SINGLES = 256, ROUNDS_MIN = 5, ROUNDS_MAX = 2000 };
enum { BLOCK_NS = 100000 };

/* ---- building ---- */

static uint32_t power_of_two(uint32_t n)
{
	return n ? UINT32_C(1) << (31 - __builtin_clz(n)) : 0;
}

static uint32_t ring_of(const struct world *world, const struct lane *lane)
{
	uint32_t share = power_of_two(world->circulating / lane->processes);
	const struct subject *subject = lane->subject;

	if (subject->checks)
		return 0;
	if (subject->unit)
		return subject->ring;
	/* what does not scan fills more, where there is room */
	if (subject->arena && subject->ring && (world->slots - world->fill) < 3 * subject->ring)
		return share;
	return subject->arena && subject->ring		? subject->ring
	       : subject->ring && subject->ring < share ? subject->ring
							: share;
}

static uint32_t world_seats(const struct world_run *run)
{
	uint32_t seats = 1;

	for (uint32_t i = 0; i < run->lane_count; i++)
		if (run->lanes[i].lane.processes > seats)
			seats = run->lanes[i].lane.processes;
	return seats;
}

static void calibrate(struct world_run *run, struct lane_run *lane)
{
	struct order order = {.kind = ORDER_CALIBRATE, .lane = lane->lane, .block_ns = BLOCK_NS};

	crew_order(&run->crew, &order);
	lane->lane.pairs = run->crew.shared->out[0].pairs;
}

static void open_world(struct world_run *run)
{
	uint64_t began = clock_mono_ns();

	run->world = world_new(&run->spec);
	if (run->has_arena)
		arena_new(&run->arena, run->world);
	for (uint32_t i = 0; i < run->lane_count; i++) {
		struct lane *lane = &run->lanes[i].lane;

		if (lane->subject->shared_new)
			lane->shared = lane->subject->shared_new(run->world);
		lane->ring = ring_of(run->world, lane);
	}
	crew_start(&run->crew, run->world, run->arena.path, world_seats(run));
	if (run->has_arena) {
		arena_unlink(&run->arena); /* all have attached: nothing stays, whatever happens */
		crew_order(&run->crew, &(struct order){.kind = ORDER_FILL});
		arena_room(&run->arena, &run->crew.shared->room, run->crew.shared->image_room);
	}
	for (uint32_t i = 0; i < run->lane_count; i++)
		calibrate(run, &run->lanes[i]);
	run->build_s = (double)(clock_mono_ns() - began) * 1e-9;
}

/* ---- gathering ---- */

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, uint32_t count)
{
	qsort(values, count, sizeof(*values), compare_double);
	return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

static uint64_t block_ns(const struct lane *lane, const struct block *block)
{
	return lane->subject->takes ? block->takes_ns : block->end - block->begin;
}

/*
 * Of several processes only blocks count that ran at the same time: where one was kept from its
 * processor, the other one ran alone and would seem to gain from its company.
 */
static bool ran_together(const struct world_run *run, const struct lane *lane, uint32_t b)
{
	uint64_t first_end = UINT64_MAX, last_begin = 0, shortest = UINT64_MAX, longest = 0;

	for (uint32_t p = 0; p < lane->processes; p++) {
		const struct block *block = &run->crew.shared->out[p].block[b];
		uint64_t ns = block->end - block->begin;

		first_end = block->end < first_end ? block->end : first_end;
		last_begin = block->begin > last_begin ? block->begin : last_begin;
		shortest = ns < shortest ? ns : shortest;
		longest = ns > longest ? ns : longest;
	}
	return first_end > last_begin && 10 * (first_end - last_begin) >= 8 * shortest &&
	       10 * longest <= 15 * shortest;
}

/* ns per pair of one block: the mean over the processes. Adds to the sums the longest of them. */
static double gather_block(const struct world_run *run, struct lane_run *lane, uint32_t b)
{
	uint32_t processes = lane->lane.processes;
	double mean = 0, longest = 0;

	for (uint32_t p = 0; p < processes; p++) {
		double ns = (double)block_ns(&lane->lane, &run->crew.shared->out[p].block[b]);

		mean += ns / lane->lane.pairs / processes;
		longest = ns > longest ? ns : longest;
	}
	lane->pairs += (double)lane->lane.pairs * processes;
	lane->block_ns += longest;
	return mean;
}

static void samples_add(struct samples *samples, const uint32_t *ticks, uint32_t count)
{
	if (samples->count + count > samples->capacity) {
		samples->capacity = 2 * samples->capacity + count;
		samples->ticks =
			realloc(samples->ticks, samples->capacity * sizeof(*samples->ticks));
		base_bug(!samples->ticks);
	}
	memcpy(samples->ticks + samples->count, ticks, count * sizeof(*ticks));
	samples->count += count;
}

static void gather_singles(const struct seat_out *out, struct lane_run *lane, uint32_t count)
{
	uint32_t pair[SINGLES_MAX];

	for (uint32_t i = 0; i < count; i++)
		pair[i] = out->give_ticks[i] + out->take_ticks[i];
	samples_add(&lane->give, out->give_ticks, count);
	samples_add(&lane->take, out->take_ticks, count);
	samples_add(&lane->pair, pair, count);
}

static void gather_tally(struct tally *sum, const struct tally *tally)
{
	sum->takes += tally->takes;
	sum->refused += tally->refused;
	sum->refused_while_free += tally->refused_while_free;
	sum->conflicts += tally->conflicts;
	sum->misses += tally->misses;
	sum->misses_with_room += tally->misses_with_room;
}

static double gather(const struct world_run *run, struct lane_run *lane, uint32_t singles)
{
	double means[BLOCKS], sum = lane->block_ns;
	uint32_t together = 0;

	for (uint32_t b = 0; b < BLOCKS; b++) {
		double mean = gather_block(run, lane, b);

		if (lane->lane.processes == 1 || ran_together(run, &lane->lane, b))
			means[together++] = mean;
	}
	lane->blocks += BLOCKS;
	lane->blocks_together += together;
	for (uint32_t p = 0; p < lane->lane.processes; p++)
		gather_singles(&run->crew.shared->out[p], lane, singles);
	if (lane->rounds == lane->capacity) {
		lane->capacity = 2 * lane->capacity + 64;
		lane->round_ns = realloc(lane->round_ns, lane->capacity * sizeof(double));
		base_bug(!lane->round_ns);
	}
	lane->round_ns[lane->rounds++] = together ? median(means, together) : 0;
	return lane->block_ns - sum;
}

/* ---- the books ---- */

/* While all leases are held. */
static void inspect_held(struct world_run *run, struct lane_run *lane)
{
	static struct reg_lease all[SEATS_MAX * RING_MAX];
	uint32_t count = 0, held = 0;

	for (uint32_t p = 0; p < lane->lane.processes; p++)
		for (uint32_t i = 0; i < lane->lane.ring; i++)
			all[count++] = *ring_live(&run->crew.shared->out[p].ring, i);
	for (uint32_t i = 0; i < count; i++)
		held += !lease_none(&all[i]);
	if (!lane->lane.subject->apart)
		lane->twice += leases_twice(all, count);
	if (!lane->lane.subject->arena || lane->lane.subject->checks)
		return;
	lane->unbalanced += arena_unbalanced(&run->arena, held, lane->lane.subject->hidden);
	arena_spread(&run->arena, &lane->spread, &lane->spread_others);
}

static void inspect_left(const struct world_run *run, struct lane_run *lane)
{
	const struct subject *subject = lane->lane.subject;

	if (subject->arena)
		lane->unbalanced += arena_unbalanced(&run->arena, 0, false);
	else if (subject->unbalanced)
		lane->unbalanced += subject->unbalanced(lane->lane.shared, run->world);
}

/* Adds what the registry has counted since before; with its own counts, so that none is shared. */
static void counters_add(const struct world_run *run, struct lane_run *lane, bool before)
{
	struct reg_counters now;

	if (!lane->lane.subject->arena)
		return;
	reg_counters_get(run->arena.reg, &now);
	for (int i = 0; i < REG_COUNT_MAX; i++)
		lane->count[i] += before ? -now.count[i] : now.count[i]; /* modulo 2^64 */
}

/* ---- rounds ---- */

static uint32_t singles_of(const struct lane *lane)
{
	uint32_t per_block = BLOCKS * lane->pairs;

	/* as long as the blocks at most; a whole number of turns for those that release foreign
	 * ones */
	if (lane->subject->checks)
		return 0;
	if (lane->foreign)
		return SINGLES;
	return per_block < SINGLES ? per_block : SINGLES;
}

static double stint(struct world_run *run, struct lane_run *lane, bool count, bool last)
{
	uint32_t singles = singles_of(&lane->lane);
	struct order order = {
		.kind = ORDER_RUN, .lane = lane->lane, .blocks = BLOCKS, .singles = singles};
	double ns = 0;

	counters_add(run, lane, true);
	crew_order(&run->crew, &order);
	counters_add(run, lane, false);
	for (uint32_t p = 0; p < lane->lane.processes; p++)
		gather_tally(&lane->tally, &run->crew.shared->out[p].tally);
	if (count)
		ns = gather(run, lane, singles);
	if (last)
		inspect_held(run, lane);
	order.kind = ORDER_LEAVE;
	crew_order(&run->crew, &order);
	if (last)
		inspect_left(run, lane);
	return ns;
}

/* Lanes in another order each time, so that none is always behind the same one. */
static double all_lanes(struct session *session, uint32_t round, bool count, bool last)
{
	struct world_run *runs[WORLDS_MAX * LANES_MAX];
	struct lane_run *lanes[WORLDS_MAX * LANES_MAX];
	uint32_t n = 0;
	double ns = 0;

	for (uint32_t w = 0; w < session->world_count; w++)
		for (uint32_t l = 0; l < session->worlds[w].lane_count; l++) {
			runs[n] = &session->worlds[w];
			lanes[n++] = &session->worlds[w].lanes[l];
		}
	for (uint32_t i = 0; i < n; i++) {
		uint32_t at = (uint32_t)((i + (uint64_t)round * 7) % n);

		ns += stint(runs[at], lanes[at], count, last);
	}
	return ns;
}

const char *session_name(const struct session *session)
{
	return session->name;
}

uint32_t session_open(struct session *session)
{
	uint64_t began;
	double rounds;

	(void)ticks_per_ns(); /* once, before the processes exist */
	for (uint32_t w = 0; w < session->world_count; w++)
		open_world(&session->worlds[w]);
	began = clock_mono_ns();
	(void)all_lanes(session, 0, false, false);
	rounds = session->seconds / ((double)(clock_mono_ns() - began) * 1e-9);
	session->rounds = rounds < ROUNDS_MIN	? ROUNDS_MIN
			  : rounds > ROUNDS_MAX ? ROUNDS_MAX
						: (uint32_t)rounds;
	return session->rounds;
}

double session_round(struct session *session, uint32_t round, bool last)
{
	return all_lanes(session, round, true, last);
}

void session_close(struct session *session)
{
	for (uint32_t w = 0; w < session->world_count; w++) {
		struct world_run *run = &session->worlds[w];

		crew_end(&run->crew);
		if (run->has_arena)
			arena_done(&run->arena);
	}
}
