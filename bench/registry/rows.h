/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the baselines that scan have in common: a cache line per agent, one process-shared mutex. No
 * names, no records, and whoever dies inside leaves the mutex locked.
 */
#ifndef BENCH_ROWS_H
#define BENCH_ROWS_H

#include <pthread.h>

#include "subject.h"

/* One cache line. The first 16 bytes are all that a scan reads. */
struct row {
	uint32_t score; /* allocated; with the top bit set when it can't take another one */
	uint32_t pool;
	uint64_t images; /* a bit each */
	uint64_t free;	 /* slots, a bit each */
	uint32_t slots, allocated;
	uint8_t pad[32];
};
_Static_assert(sizeof(struct row) == 64, "a row is one cache line");

enum { ROW_FULL = 1u << 31, ROW_POOL = 1, ROW_MISSING = 1000 };

struct rows {
	pthread_mutex_t lock;
	uint32_t count;
	uint32_t *list; /* of candidates, guarded by the lock, in shared memory */
	_Alignas(64) struct row row[];
};

struct rows_user {
	struct rows *rows;
	const struct world *world;
	uint32_t draw;
	uint64_t random;
	struct tally *tally;
};

void *rows_new(const struct world *world);
void *rows_enter(const struct seat *seat);
uint64_t rows_unbalanced(const void *shared, const struct world *world);
void shared_lock_init(pthread_mutex_t *lock);

/* Both under the lock. */
void row_take(struct rows *rows, uint32_t at, struct reg_lease *lease);
void row_give(struct rows *rows, const struct reg_lease *lease);

#endif
