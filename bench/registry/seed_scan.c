/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The algorithm of the registry that fsb replaces, written in C: under one lock the agents are
 * copied into a list (allocated for each call), then each agent is locked for itself and filtered
 * by string comparisons (length first, as Go does), its images are compared one by one, and the
 * lowest of allocated + 1000 for a missing image is locked again, looked at again and taken; a copy
 * of it is returned. In its favour: no logging, no garbage, agents are a dense array of pointers
 * and not a hash map to be iterated.
 */
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "rows.h"

struct text {
	const char *p;
	size_t len;
};

struct seed_agent {
	pthread_mutex_t lock;
	struct text id, ns, pool;
	struct text images[WORLD_IMAGES_PER_AGENT];
	uint32_t image_count;
	int32_t capacity, allocated;
	struct seed_agent *next_of_bucket;
};

/* Texts are made before the processes exist and never change, so they need not be shared. */
struct seed {
	pthread_mutex_t lock;
	uint32_t agent_count, bucket_mask;
	uint32_t start;		    /* where the next scan begins: ties go to different agents */
	struct seed_agent **agents; /* in no particular order, as a Go map gives them */
	struct seed_agent **buckets;
	struct text images[WORLD_IMAGES];
	struct seed_agent agent[]; /* shared */
};

struct seed_user {
	struct seed *seed;
	const struct world *world;
	uint32_t draw;
	struct tally *tally;
	struct seed_agent copy; /* what allocate returned */
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

/* A copy of all of them, as of now. */
static struct seed_agent **snapshot(struct seed *seed)
{
	uint32_t count = seed->agent_count, at;
	struct seed_agent **list = malloc(count * sizeof(struct seed_agent *));

	base_bug(!list || pthread_mutex_lock(&seed->lock) != 0);
	at = seed->start;
	for (uint32_t i = 0; i < count; i++) {
		list[i] = seed->agents[at];
		at = at + 1 == count ? 0 : at + 1;
	}
	seed->start = (seed->start + 7919) % count;
	base_bug(pthread_mutex_unlock(&seed->lock) != 0);
	return list;
}

static bool has_room(const struct seed_agent *agent)
{
	return agent->capacity <= 0 || agent->allocated < agent->capacity;
}

static struct seed_agent *best_agent(const struct seed *seed, struct seed_agent **list,
				     struct text ns, struct text pool, struct text image)
{
	struct seed_agent *best = NULL;
	int32_t best_score = 1000000;

	for (uint32_t i = 0; i < seed->agent_count; i++) {
		struct seed_agent *agent = list[i];
		int32_t score = INT32_MAX;

		base_bug(pthread_mutex_lock(&agent->lock) != 0);
		if (text_equal(agent->pool, pool) && text_equal(agent->ns, ns) && has_room(agent))
			score = agent->allocated + (has_image(agent, image) ? 0 : 1000);
		base_bug(pthread_mutex_unlock(&agent->lock) != 0);
		if (score < best_score) {
			best_score = score;
			best = agent;
		}
	}
	return best;
}

/* Fails when it was filled up meanwhile, though others have room: so does the original. */
static bool take_best(struct seed_user *user, struct seed_agent *best)
{
	bool room;

	base_bug(pthread_mutex_lock(&best->lock) != 0);
	room = has_room(best);
	if (room) {
		best->allocated++;
		user->copy = *best;
	}
	base_bug(pthread_mutex_unlock(&best->lock) != 0);
	return room;
}

static bool seed_take(void *self, struct reg_lease *lease)
{
	static const struct text ns = {WORLD_NAMESPACE, sizeof(WORLD_NAMESPACE) - 1};
	static const struct text pool = {WORLD_POOL, sizeof(WORLD_POOL) - 1};
	struct seed_user *user = self;
	struct seed *seed = user->seed;
	uint8_t image = user->world->draws[user->draw++ % WORLD_DRAWS];
	struct seed_agent **list = snapshot(seed);
	struct seed_agent *best = best_agent(seed, list, ns, pool, seed->images[image]);

	free(list);
	if (!best || !take_best(user, best)) {
		user->tally->refused++;
		return lease_refused(lease);
	}
	lease->agent.idx = (uint32_t)(best - seed->agent);
	lease->slot = UINT32_MAX; /* it only counts */
	return true;
}

/* By the agent's name, as the replaced one does. */
static void seed_give(void *self, struct reg_lease *lease)
{
	struct seed *seed = ((struct seed_user *)self)->seed;
	struct seed_agent *agent;
	struct text id;

	if (lease_none(lease))
		return;
	id = seed->agent[lease->agent.idx].id;
	base_bug(pthread_mutex_lock(&seed->lock) != 0);
	agent = seed->buckets[text_hash(id) & seed->bucket_mask];
	while (agent && !text_equal(agent->id, id))
		agent = agent->next_of_bucket;
	base_bug(pthread_mutex_unlock(&seed->lock) != 0);
	if (!agent)
		return;
	base_bug(pthread_mutex_lock(&agent->lock) != 0);
	if (agent->allocated > 0)
		agent->allocated--;
	base_bug(pthread_mutex_unlock(&agent->lock) != 0);
}

SUBJECT_PAIRS(seed)

static void agent_init(struct seed_agent *agent, const struct world *world, uint32_t idx)
{
	const struct world_agent *from = &world->agents[idx];

	shared_lock_init(&agent->lock);
	agent->id = text_new(from->name);
	agent->ns = text_new(WORLD_NAMESPACE);
	agent->pool = text_new(WORLD_POOL);
	agent->capacity = WORLD_SLOTS;
	agent->allocated = (int32_t)world_base_of(world, idx);
	agent->image_count = WORLD_IMAGES_PER_AGENT;
	for (uint32_t i = 0; i < WORLD_IMAGES_PER_AGENT; i++)
		agent->images[i] = text_new(world_image(from->images[i]));
}

static void *seed_new(const struct world *world)
{
	uint32_t count = world->spec.agents;
	struct seed *seed = shared_memory(sizeof(*seed) + count * sizeof(seed->agent[0]));

	base_bug(count % 7919 == 0);
	shared_lock_init(&seed->lock);
	seed->agent_count = count;
	for (seed->bucket_mask = 1; seed->bucket_mask < count; seed->bucket_mask *= 2)
		;
	seed->buckets = calloc(seed->bucket_mask--, sizeof(struct seed_agent *));
	seed->agents = calloc(count, sizeof(struct seed_agent *));
	base_bug(!seed->buckets || !seed->agents);
	for (uint32_t i = 0; i < WORLD_IMAGES; i++)
		seed->images[i] = text_new(world_image(i));
	for (uint32_t i = 0; i < count; i++) {
		struct seed_agent *agent = &seed->agent[i];
		struct seed_agent **bucket;

		agent_init(agent, world, i);
		bucket = &seed->buckets[text_hash(agent->id) & seed->bucket_mask];
		agent->next_of_bucket = *bucket;
		*bucket = agent;
		/* count and 7919 have no common divisor, so every place is filled once */
		seed->agents[(uint64_t)i * 7919 % count] = agent;
	}
	return seed;
}

static void *seed_enter(const struct seat *seat)
{
	struct seed_user *user = calloc(1, sizeof(*user));

	base_bug(!user);
	user->seed = seat->shared;
	user->world = seat->world;
	user->draw = seat->idx * 997;
	user->tally = seat->tally;
	return user;
}

static uint64_t seed_unbalanced(const void *shared, const struct world *world)
{
	const struct seed *seed = shared;
	uint64_t wrong = 0;

	for (uint32_t i = 0; i < seed->agent_count; i++) {
		int64_t more = seed->agent[i].allocated - (int64_t)world_base_of(world, i);

		wrong += (uint64_t)(more < 0 ? -more : more);
	}
	return wrong;
}

const struct subject subject_seed = {
	.name = "seed_algorithm",
	.what = "as the replaced registry places: a copy of the list, a lock per agent, strings "
		"compared",
	.ring = 16, /* filling a larger one would take longer than measuring */
	.shared_new = seed_new,
	.enter = seed_enter,
	.pairs = seed_pairs,
	.take = seed_take,
	.give = seed_give,
	.leave = free,
	.unbalanced = seed_unbalanced,
};
