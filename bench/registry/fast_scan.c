/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The best plain scan that we could write: one cache line per agent, pool and image as numbers and
 * bits, no branch in the loop but the last one, one process-shared mutex. It places and takes a
 * slot; it has no names, no records, and whoever dies in it leaves the mutex locked.
 */
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/err.h"
#include "subject.h"

/* One cache line. The first 16 bytes are all that the scan reads. */
struct row {
	uint32_t score; /* allocated; with the top bit set when it can't take another one */
	uint32_t pool;
	uint64_t images; /* a bit each */
	uint64_t free;	 /* slots, a bit each */
	uint32_t slots, allocated;
	uint8_t pad[32];
};
_Static_assert(sizeof(struct row) == 64, "a row is one cache line");
_Static_assert(WORLD_WANTED + WORLD_OTHERS <= 64, "an image is a bit of one word");

struct shared {
	pthread_mutex_t lock;
	_Alignas(64) struct row rows[];
};

struct lease {
	uint32_t agent, slot;
};

struct fast_scan {
	struct world *world;
	struct shared *shared;
	size_t shared_bytes;
	struct lease fresh, ring[WORLD_RING];
	uint32_t oldest, next_image;
};

enum { CANT_TAKE = 1u << 31, POOL = 1, MISSING = 1000 };

static uint32_t row_score(const struct row *row)
{
	return row->allocated | (row->free ? 0 : CANT_TAKE);
}

/*
 * Index of the row with the lowest score. Loads are level in the steady state, so the first test,
 * which needs one word of the row, ends nearly every round and is predicted; computing each score
 * without branches took about twice as long.
 */
static uint32_t lowest(const struct row *rows, uint32_t count, uint32_t pool, uint32_t image,
		       uint32_t *ret_score)
{
	uint32_t best = CANT_TAKE, at = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t score = rows[i].score;

		if (score >= best || rows[i].pool != pool)
			continue;
		score += (rows[i].images >> image & 1) ? 0 : MISSING;
		if (score < best) {
			best = score;
			at = i;
		}
	}
	*ret_score = best;
	return at;
}

static bool place(struct shared *shared, uint32_t count, uint32_t image, struct lease *ret)
{
	uint32_t score;
	struct row *row;

	base_bug(pthread_mutex_lock(&shared->lock) != 0);
	ret->agent = lowest(shared->rows, count, POOL, image, &score);
	row = &shared->rows[ret->agent];
	if (!(score & CANT_TAKE)) {
		ret->slot = (uint32_t)__builtin_ctzll(row->free);
		row->free &= row->free - 1;
		row->allocated++;
		row->score = row_score(row);
	}
	base_bug(pthread_mutex_unlock(&shared->lock) != 0);
	return !(score & CANT_TAKE);
}

static void give_back(struct shared *shared, const struct lease *lease)
{
	struct row *row = &shared->rows[lease->agent];

	base_bug(pthread_mutex_lock(&shared->lock) != 0);
	row->free |= UINT64_C(1) << lease->slot;
	row->allocated--;
	row->score = row_score(row);
	base_bug(pthread_mutex_unlock(&shared->lock) != 0);
}

static void fast_reserve(void *self)
{
	struct fast_scan *fast = self;

	base_bug(!place(fast->shared, fast->world->agent_count, fast->next_image, &fast->fresh));
	fast->next_image = (fast->next_image + 1) % WORLD_WANTED;
}

static void fast_release(void *self)
{
	struct fast_scan *fast = self;

	give_back(fast->shared, &fast->ring[fast->oldest]);
	fast->ring[fast->oldest] = fast->fresh;
	fast->oldest = (fast->oldest + 1) % WORLD_RING;
}

static void fast_pairs(void *self, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		fast_reserve(self);
		fast_release(self);
	}
}

static void lock_init(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attr;

	base_bug(pthread_mutexattr_init(&attr) != 0);
	base_bug(pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED) != 0);
	base_bug(pthread_mutex_init(lock, &attr) != 0);
	base_bug(pthread_mutexattr_destroy(&attr) != 0);
}

static void add_agents(struct fast_scan *fast)
{
	for (uint32_t i = 0; i < fast->world->agent_count; i++) {
		const struct world_agent *agent = &fast->world->agents[i];
		struct row *row = &fast->shared->rows[i];

		row->pool = POOL;
		row->slots = agent->slots;
		row->free = agent->slots == 64 ? UINT64_MAX : (UINT64_C(1) << agent->slots) - 1;
		row->free &= UINT64_MAX << agent->held; /* at least 16 slots, far fewer held */
		row->allocated = row->score = agent->held;
		for (uint32_t j = 0; j < WORLD_IMAGES_PER_AGENT; j++)
			row->images |= UINT64_C(1) << agent->images[j];
	}
}

static void *fast_open(uint32_t agents)
{
	struct fast_scan *fast = calloc(1, sizeof(*fast));

	base_bug(!fast);
	fast->world = world_new(agents);
	fast->shared_bytes = sizeof(struct shared) + agents * sizeof(struct row);
	fast->shared = mmap(NULL, fast->shared_bytes, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	base_bug(fast->shared == MAP_FAILED);
	lock_init(&fast->shared->lock);
	add_agents(fast);
	for (uint32_t i = 0; i < WORLD_RING; i++) {
		fast_reserve(fast);
		fast->ring[i] = fast->fresh;
	}
	return fast;
}

static uint64_t fast_unbalanced(void *self)
{
	const struct fast_scan *fast = self;
	uint64_t held = 0, wrong = 0;

	for (uint32_t i = 0; i < fast->world->agent_count; i++) {
		const struct row *row = &fast->shared->rows[i];
		uint32_t taken = row->slots - (uint32_t)__builtin_popcountll(row->free);

		held += taken;
		wrong += taken != row->allocated;
	}
	return wrong +
	       (held > fast->world->fill ? held - fast->world->fill : fast->world->fill - held);
}

static uint64_t fast_close(void *self)
{
	struct fast_scan *fast = self;
	uint64_t wrong = fast_unbalanced(self);

	(void)munmap(fast->shared, fast->shared_bytes);
	world_free(fast->world);
	free(fast);
	return wrong;
}

const struct subject subject_fast_scan = {
	.name = "fast_scan",
	.what = "placement and slot by the best plain scan: 64-byte rows, image as a bit, one "
		"process-shared mutex",
	.by_agents = true,
	.open = fast_open,
	.pairs = fast_pairs,
	.reserve = fast_reserve,
	.release = fast_release,
	.unbalanced = fast_unbalanced,
	.close = fast_close,
};
