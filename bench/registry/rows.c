/* SPDX-License-Identifier: Apache-2.0 */
/* The table of the baselines that scan. */
#include "rows.h"

#include <stdlib.h>

#include "base/err.h"

static uint32_t row_score(const struct row *row)
{
	return row->allocated | (row->free ? 0 : ROW_FULL);
}

void shared_lock_init(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attr;

	base_bug(pthread_mutexattr_init(&attr) != 0);
	base_bug(pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED) != 0);
	base_bug(pthread_mutex_init(lock, &attr) != 0);
	base_bug(pthread_mutexattr_destroy(&attr) != 0);
}

void *rows_new(const struct world *world)
{
	uint32_t count = world->spec.agents;
	struct rows *rows = shared_memory(sizeof(*rows) + count * sizeof(struct row));

	shared_lock_init(&rows->lock);
	rows->count = count;
	rows->list = shared_memory(count * sizeof(*rows->list));
	for (uint32_t i = 0; i < count; i++) {
		struct row *row = &rows->row[i];

		row->pool = ROW_POOL;
		row->images = world->agents[i].image_bits;
		row->slots = WORLD_SLOTS;
		row->allocated = world_base_of(world, i);
		row->free = ((UINT64_C(1) << WORLD_SLOTS) - 1) & UINT64_MAX << row->allocated;
		row->score = row_score(row);
	}
	return rows;
}

void *rows_enter(const struct seat *seat)
{
	struct rows_user *user = calloc(1, sizeof(*user));

	base_bug(!user);
	user->rows = seat->shared;
	user->world = seat->world;
	user->draw = seat->idx * 997;
	user->random = seat->idx;
	user->tally = seat->tally;
	return user;
}

void row_take(struct rows *rows, uint32_t at, struct reg_lease *lease)
{
	struct row *row = &rows->row[at];

	lease->agent.idx = at;
	lease->slot = (uint32_t)__builtin_ctzll(row->free);
	row->free &= row->free - 1;
	row->allocated++;
	row->score = row_score(row);
}

void row_give(struct rows *rows, const struct reg_lease *lease)
{
	struct row *row = &rows->row[lease->agent.idx];

	row->free |= UINT64_C(1) << lease->slot;
	row->allocated--;
	row->score = row_score(row);
}

uint64_t rows_unbalanced(const void *shared, const struct world *world)
{
	const struct rows *rows = shared;
	uint64_t wrong = 0;

	for (uint32_t i = 0; i < rows->count; i++) {
		const struct row *row = &rows->row[i];
		uint32_t taken = row->slots - (uint32_t)__builtin_popcountll(row->free);

		wrong += taken != row->allocated;
		wrong += taken > world_base_of(world, i) ? taken - world_base_of(world, i)
							 : world_base_of(world, i) - taken;
	}
	return wrong;
}
