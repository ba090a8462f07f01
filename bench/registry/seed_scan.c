/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The algorithm of the registry that fsb replaces, written in C: one mutex, agents behind pointers,
 * every filter a string comparison (length first, as Go does), each agent's images compared one by
 * one, the lowest of allocated + 1000 for a missing image, a copy of the agent returned. In its
 * favour: no logging, no snapshot of the list, no garbage, no locks per agent, and agents are a
 * dense array of pointers and not a hash map to be iterated.
 */
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "subject.h"

struct text {
	const char *p;
	size_t len;
};

struct seed_agent {
	struct text id, ns, pool;
	struct text images[WORLD_IMAGES_PER_AGENT];
	uint32_t image_count;
	int32_t capacity, allocated;
	struct seed_agent *next_of_bucket;
};

struct seed {
	struct world *world;
	pthread_mutex_t lock;
	struct seed_agent **agents; /* in no particular order, as a Go map gives them */
	struct seed_agent **buckets;
	uint32_t bucket_mask;
	uint32_t start; /* where the next scan begins: ties go to different agents */
	struct text wanted[WORLD_WANTED];
	uint32_t next_image;
	struct seed_agent fresh, ring[WORLD_RING]; /* what allocate returned: copies */
	uint32_t oldest;
};

static struct text text_new(const char *text)
{
	struct text copy = {strdup(text), strlen(text)};

	base_bug(!copy.p);
	return copy;
}

static bool text_equal(struct text a, struct text b)
{
	return a.len == b.len && memcmp(a.p, b.p, a.len) == 0;
}

static uint32_t text_hash(struct text text)
{
	uint32_t hash = 2166136261u; /* FNV-1a */

	for (size_t i = 0; i < text.len; i++)
		hash = (hash ^ (uint8_t)text.p[i]) * 16777619u;
	return hash;
}

static bool has_image(const struct seed_agent *agent, struct text image)
{
	for (uint32_t i = 0; i < agent->image_count; i++)
		if (text_equal(agent->images[i], image))
			return true;
	return false;
}

static struct seed_agent *best_agent(const struct seed *seed, struct text ns, struct text pool,
				     struct text image)
{
	uint32_t count = seed->world->agent_count, at = seed->start;
	struct seed_agent *best = NULL;
	int32_t best_score = 1000000;

	for (uint32_t i = 0; i < count; i++) {
		struct seed_agent *agent = seed->agents[at];
		int32_t score;

		at = at + 1 == count ? 0 : at + 1;
		if (!text_equal(agent->pool, pool) || !text_equal(agent->ns, ns))
			continue;
		if (agent->capacity > 0 && agent->allocated >= agent->capacity)
			continue;
		score = agent->allocated + (has_image(agent, image) ? 0 : 1000);
		if (score < best_score) {
			best_score = score;
			best = agent;
		}
	}
	return best;
}

static bool seed_allocate(struct seed *seed, struct text ns, struct text pool, struct text image,
			  struct seed_agent *ret)
{
	struct seed_agent *best;

	base_bug(pthread_mutex_lock(&seed->lock) != 0);
	best = best_agent(seed, ns, pool, image);
	if (best) {
		best->allocated++;
		*ret = *best;
	}
	seed->start = (seed->start + 7919) % seed->world->agent_count;
	base_bug(pthread_mutex_unlock(&seed->lock) != 0);
	return best;
}

static void seed_free(struct seed *seed, struct text id)
{
	struct seed_agent *agent;

	base_bug(pthread_mutex_lock(&seed->lock) != 0);
	agent = seed->buckets[text_hash(id) & seed->bucket_mask];
	while (agent && !text_equal(agent->id, id))
		agent = agent->next_of_bucket;
	if (agent && agent->allocated > 0)
		agent->allocated--;
	base_bug(pthread_mutex_unlock(&seed->lock) != 0);
}

static struct seed_agent *agent_new(const struct world_agent *from)
{
	struct seed_agent *agent = calloc(1, sizeof(*agent));

	base_bug(!agent);
	agent->id = text_new(from->name);
	agent->ns = text_new(WORLD_NAMESPACE);
	agent->pool = text_new(WORLD_POOL);
	agent->capacity = (int32_t)from->slots;
	agent->allocated = (int32_t)from->held;
	agent->image_count = WORLD_IMAGES_PER_AGENT;
	for (uint32_t i = 0; i < WORLD_IMAGES_PER_AGENT; i++)
		agent->images[i] = text_new(world_image(from->images[i]));
	return agent;
}

static void seed_reserve(void *self)
{
	static const struct text ns = {WORLD_NAMESPACE, sizeof(WORLD_NAMESPACE) - 1};
	static const struct text pool = {WORLD_POOL, sizeof(WORLD_POOL) - 1};
	struct seed *seed = self;

	base_bug(!seed_allocate(seed, ns, pool, seed->wanted[seed->next_image], &seed->fresh));
	seed->next_image = (seed->next_image + 1) % WORLD_WANTED;
}

static void seed_release(void *self)
{
	struct seed *seed = self;

	seed_free(seed, seed->ring[seed->oldest].id);
	seed->ring[seed->oldest] = seed->fresh;
	seed->oldest = (seed->oldest + 1) % WORLD_RING;
}

static void seed_pairs(void *self, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		seed_reserve(self);
		seed_release(self);
	}
}

static void add_agents(struct seed *seed)
{
	uint32_t count = seed->world->agent_count;

	for (uint32_t i = 0; i < count; i++) {
		struct seed_agent *agent = agent_new(&seed->world->agents[i]);
		uint32_t bucket = text_hash(agent->id) & seed->bucket_mask;

		agent->next_of_bucket = seed->buckets[bucket];
		seed->buckets[bucket] = agent;
		/* count and 7919 have no common divisor for the counts in use, so every place is
		 * filled once */
		seed->agents[(uint64_t)i * 7919 % count] = agent;
	}
}

static void *seed_open(uint32_t agents)
{
	struct seed *seed = calloc(1, sizeof(*seed));

	base_bug(!seed || agents % 7919 == 0);
	seed->world = world_new(agents);
	for (seed->bucket_mask = 1; seed->bucket_mask < agents; seed->bucket_mask *= 2)
		;
	seed->buckets = calloc(seed->bucket_mask, sizeof(struct seed_agent *));
	seed->bucket_mask--;
	seed->agents = calloc(agents, sizeof(struct seed_agent *));
	base_bug(!seed->buckets || !seed->agents);
	base_bug(pthread_mutex_init(&seed->lock, NULL) != 0);
	for (uint32_t i = 0; i < WORLD_WANTED; i++)
		seed->wanted[i] = text_new(world_image(i));
	add_agents(seed);
	for (uint32_t i = 0; i < WORLD_RING; i++) {
		seed_reserve(seed);
		seed->ring[i] = seed->fresh;
	}
	return seed;
}

static uint64_t seed_unbalanced(void *self)
{
	const struct seed *seed = self;
	uint64_t sum = 0, wrong = 0;

	for (uint32_t i = 0; i < seed->world->agent_count; i++) {
		const struct seed_agent *agent = seed->agents[i];

		sum += (uint32_t)agent->allocated;
		wrong += agent->allocated < 0 || agent->allocated > agent->capacity;
	}
	return wrong +
	       (sum > seed->world->fill ? sum - seed->world->fill : seed->world->fill - sum);
}

static uint64_t seed_close(void *self)
{
	struct seed *seed = self;
	uint64_t wrong = seed_unbalanced(self);

	for (uint32_t i = 0; i < seed->world->agent_count; i++) {
		struct seed_agent *agent = seed->agents[i];

		for (uint32_t j = 0; j < agent->image_count; j++)
			free((void *)(uintptr_t)agent->images[j].p);
		free((void *)(uintptr_t)agent->id.p);
		free((void *)(uintptr_t)agent->ns.p);
		free((void *)(uintptr_t)agent->pool.p);
		free(agent);
	}
	for (uint32_t i = 0; i < WORLD_WANTED; i++)
		free((void *)(uintptr_t)seed->wanted[i].p);
	free(seed->agents);
	free(seed->buckets);
	world_free(seed->world);
	free(seed);
	return wrong;
}

const struct subject subject_seed = {
	.name = "seed_algorithm",
	.what = "placement as the replaced registry does it: one mutex, strings compared, 8 images "
		"per agent",
	.by_agents = true,
	.open = seed_open,
	.pairs = seed_pairs,
	.reserve = seed_reserve,
	.release = seed_release,
	.unbalanced = seed_unbalanced,
	.close = seed_close,
};
