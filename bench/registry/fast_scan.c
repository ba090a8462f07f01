/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The best plain scan that we could write: one cache line per agent, pool and image as numbers and
 * bits, all agents looked at under one process-shared mutex, the lowest score taken.
 */
#include <stdlib.h>

#include "base/err.h"
#include "rows.h"

/*
 * Index of the row with the lowest score. Loads are level in the steady state, so the first test,
 * which needs one word of the row, ends nearly every round and is predicted; computing each score
 * without branches took about twice as long, gathering 16 scores into a vector register longer.
 */
static uint32_t lowest(const struct row *rows, uint32_t count, uint32_t pool, uint32_t image,
		       uint32_t *ret_score)
{
	uint32_t best = ROW_FULL, at = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t score = rows[i].score;

		if (score >= best || rows[i].pool != pool)
			continue;
		score += (rows[i].images >> image & 1) ? 0 : ROW_MISSING;
		if (score < best) {
			best = score;
			at = i;
		}
	}
	*ret_score = best;
	return at;
}

static bool fast_take(void *self, struct reg_lease *lease)
{
	struct rows_user *user = self;
	struct rows *rows = user->rows;
	uint32_t image = user->world->draws[user->draw++ % WORLD_DRAWS], score, at;

	base_bug(pthread_mutex_lock(&rows->lock) != 0);
	at = lowest(rows->row, rows->count, ROW_POOL, image, &score);
	if (!(score & ROW_FULL))
		row_take(rows, at, lease);
	base_bug(pthread_mutex_unlock(&rows->lock) != 0);
	if (score & ROW_FULL) {
		user->tally->refused++;
		return lease_refused(lease);
	}
	return true;
}

static void fast_give(void *self, struct reg_lease *lease)
{
	struct rows *rows = ((struct rows_user *)self)->rows;

	if (lease_none(lease))
		return;
	base_bug(pthread_mutex_lock(&rows->lock) != 0);
	row_give(rows, lease);
	base_bug(pthread_mutex_unlock(&rows->lock) != 0);
}

SUBJECT_PAIRS(fast)

const struct subject subject_fast_scan = {
	.name = "fast_scan",
	.what = "the best plain scan: 64-byte rows, image as a bit, one process-shared mutex",
	.shared_new = rows_new,
	.enter = rows_enter,
	.pairs = fast_pairs,
	.take = fast_take,
	.give = fast_give,
	.leave = free,
	.unbalanced = rows_unbalanced,
};

/* ---- a table for each process: what the machine gives two of them that share nothing ---- */

struct tables {
	struct rows *of[SEATS_MAX];
};

static void *tables_new(const struct world *world)
{
	struct tables *tables = shared_memory(sizeof(*tables));

	for (uint32_t i = 0; i < SEATS_MAX; i++)
		tables->of[i] = rows_new(world);
	return tables;
}

static void *private_enter(const struct seat *seat)
{
	struct seat own = *seat;

	own.shared = ((struct tables *)seat->shared)->of[seat->idx];
	return rows_enter(&own);
}

static uint64_t tables_unbalanced(const void *shared, const struct world *world)
{
	const struct tables *tables = shared;
	uint64_t wrong = 0;

	for (uint32_t i = 0; i < SEATS_MAX; i++)
		wrong += rows_unbalanced(tables->of[i], world);
	return wrong;
}

const struct subject subject_scan_private = {
	.name = "scan_private",
	.what = "as fast_scan, each process with a table of its own",
	.apart = true,
	.shared_new = tables_new,
	.enter = private_enter,
	.pairs = fast_pairs,
	.take = fast_take,
	.give = fast_give,
	.leave = free,
	.unbalanced = tables_unbalanced,
};
