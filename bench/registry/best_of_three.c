/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As other orchestrators place: make the list of all agents that could take one (every agent looked
 * at), draw three of them, take the one with the lowest score. Not exact, and not quick either,
 * because of the list.
 */
#include <stdlib.h>

#include "base/err.h"
#include "rows.h"

enum { SAMPLES = 3 };

static uint32_t list_candidates(const struct rows *rows, uint32_t *list)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < rows->count; i++) {
		list[n] = i;
		n += rows->row[i].pool == ROW_POOL && !(rows->row[i].score & ROW_FULL);
	}
	return n;
}

static uint32_t best_of(struct rows_user *user, const uint32_t *list, uint32_t count,
			uint32_t image)
{
	uint32_t best = UINT32_MAX, at = 0;

	for (uint32_t i = 0; i < SAMPLES; i++) {
		uint32_t drawn = list[(world_random(&user->random) >> 32) * count >> 32];
		const struct row *row = &user->rows->row[drawn];
		uint32_t score = row->score + ((row->images >> image & 1) ? 0 : ROW_MISSING);

		if (score < best) {
			best = score;
			at = drawn;
		}
	}
	return at;
}

static bool best_take(void *self, struct reg_lease *lease)
{
	struct rows_user *user = self;
	struct rows *rows = user->rows;
	uint32_t image = user->world->draws[user->draw++ % WORLD_DRAWS], count;

	base_bug(pthread_mutex_lock(&rows->lock) != 0);
	count = list_candidates(rows, rows->list);
	if (count)
		row_take(rows, best_of(user, rows->list, count, image), lease);
	base_bug(pthread_mutex_unlock(&rows->lock) != 0);
	if (!count) {
		user->tally->refused++;
		return lease_refused(lease);
	}
	return true;
}

static void best_give(void *self, struct reg_lease *lease)
{
	struct rows *rows = ((struct rows_user *)self)->rows;

	if (lease_none(lease))
		return;
	base_bug(pthread_mutex_lock(&rows->lock) != 0);
	row_give(rows, lease);
	base_bug(pthread_mutex_unlock(&rows->lock) != 0);
}

SUBJECT_PAIRS(best)

const struct subject subject_best_of_three = {
	.name = "best_of_three",
	.what = "best of three drawn from a list of all candidates, one process-shared mutex",
	.shared_new = rows_new,
	.enter = rows_enter,
	.pairs = best_pairs,
	.take = best_take,
	.give = best_give,
	.leave = free,
	.unbalanced = rows_unbalanced,
};
