/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A prototype of placement by level bitmaps, for comparison. A stripe is 64 agents with one word
 * per load; stripes are dealt out to the processes; each searches its own from where it last found
 * the lowest, and others' only when they publish a lower load. Level words follow the agent's
 * counter: who moves an agent looks at the counter again and repairs until they agree.
 *
 * It does less than the registry: the free mask decides (a death can lose a slot), no authoritative
 * pass before a refusal, no generations, no ports, no duplicate names, no adoption of a dead
 * process's stripes. full adds a name in a hash table and a record of name and placement.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "request.h"

enum { AGENTS = 64, NAMES = 1 << 16, NOWHERE = UINT8_MAX };

typedef _Atomic uint64_t a64;
typedef _Atomic uint8_t a8;

struct agent {
	_Alignas(64) a64 free; /* slots, a bit each: the truth */
	a64 load;
	uint64_t images;
	a64 slot[WORLD_SLOTS]; /* record that holds it */
};

struct stripe {
	_Alignas(64) a64 levels; /* bit L: level[L] may have an agent */
	a64 level[WORLD_SLOTS];	 /* agents with that load */
	uint64_t image[WORLD_IMAGES];
};

/* Per process and image: no agent of its stripes that has the image has a lower load. Lowered by
 * whoever releases, raised by the process itself. */
struct lowest {
	_Alignas(64) a8 of_image[WORLD_IMAGES];
};

struct record {
	_Alignas(64) a64 state;
	uint64_t entry, agent_and_slot;
	char name[REQUEST_NAME_BYTES + 4];
};

struct table {
	uint32_t stripe_count;
	struct stripe *stripes;
	struct agent *agents;
	struct lowest lowest[SEATS_MAX];
	a64 names[NAMES];
	struct record record[SEATS_MAX][WORLD_CIRCULATING];
};

struct user {
	struct table *table;
	const struct world *world;
	struct requests *requests;
	struct tally *tally;
	uint32_t seat, seats, at; /* at: the stripe where the next search begins */
	uint32_t draw, freed_count;
	uint32_t freed[WORLD_CIRCULATING]; /* records of this process that are free */
};

/* ---- levels ---- */

static void level_add(struct stripe *stripe, uint64_t bit, uint64_t load)
{
	if (load >= WORLD_SLOTS)
		return;
	/* seq_cst here and below: the word, then its bit, in one order for all */
	if (atomic_fetch_or(&stripe->level[load], bit) == 0)
		atomic_fetch_or(&stripe->levels, UINT64_C(1) << load);
}

static void level_remove(struct stripe *stripe, uint64_t bit, uint64_t load)
{
	if (load >= WORLD_SLOTS || (atomic_fetch_and(&stripe->level[load], ~bit) & ~bit))
		return;
	atomic_fetch_and(&stripe->levels, ~(UINT64_C(1) << load));
	if (atomic_load(&stripe->level[load])) /* somebody came meanwhile */
		atomic_fetch_or(&stripe->levels, UINT64_C(1) << load);
}

static void settle(struct table *table, uint32_t agent)
{
	struct stripe *stripe = &table->stripes[agent / AGENTS];
	uint64_t bit = UINT64_C(1) << (agent % AGENTS), load;

	do {
		load = atomic_load(&table->agents[agent].load);
		for (uint64_t l = 0; l < WORLD_SLOTS; l++)
			if (l != load && atomic_load(&stripe->level[l]) & bit)
				level_remove(stripe, bit, l);
		level_add(stripe, bit, load);
	} while (atomic_load(&table->agents[agent].load) != load);
}

static void move(struct table *table, uint32_t agent, uint64_t from, uint64_t to)
{
	struct stripe *stripe = &table->stripes[agent / AGENTS];
	uint64_t bit = UINT64_C(1) << (agent % AGENTS);

	level_add(stripe, bit, to);
	level_remove(stripe, bit, from);
	if (atomic_load(&table->agents[agent].load) != to)
		settle(table, agent);
}

/* ---- search ---- */

/* The lowest load below limit of a stripe's agents with the image; NOWHERE: none. */
static uint32_t stripe_lowest(const struct stripe *stripe, uint32_t image, uint32_t limit,
			      uint32_t *ret_agent)
{
	/* relaxed: nominates only */
	uint64_t levels = atomic_load_explicit(&stripe->levels, memory_order_relaxed);

	for (; levels; levels &= levels - 1) {
		uint32_t load = (uint32_t)__builtin_ctzll(levels);
		uint64_t with;

		if (load >= limit)
			break;
		with = atomic_load_explicit(&stripe->level[load], memory_order_relaxed) &
		       stripe->image[image];
		if (with) {
			*ret_agent = (uint32_t)__builtin_ctzll(with);
			return load;
		}
	}
	return NOWHERE;
}

/* The best of one process's stripes, begun at stripe first; ends at a load of enough. */
static uint32_t home_lowest(const struct user *user, uint32_t home, uint32_t first, uint32_t image,
			    uint32_t limit, uint32_t enough, uint32_t *ret_agent)
{
	const struct table *table = user->table;
	uint32_t best = limit, s = first;

	do {
		uint32_t bit = 0, load = stripe_lowest(&table->stripes[s], image, best, &bit);

		if (load < best) {
			best = load;
			*ret_agent = s * AGENTS + bit;
		}
		if (best <= enough)
			break;
		s += user->seats;
		if (s >= table->stripe_count)
			s = home;
	} while (s != first);
	return best;
}

static uint32_t search(struct user *user, uint32_t image)
{
	struct table *table = user->table;
	a8 *mine = &table->lowest[user->seat].of_image[image];
	uint8_t floor = atomic_load(mine);
	uint32_t agent = UINT32_MAX, best = WORLD_SLOTS;

	if (user->seat < table->stripe_count)
		best = home_lowest(user, user->seat, user->at, image, best, floor, &agent);
	/* seq_cst: unless a release has lowered it meanwhile */
	if (best > floor)
		(void)atomic_compare_exchange_strong(mine, &floor, (uint8_t)best);
	for (uint32_t other = 0; other < user->seats; other++) {
		uint32_t theirs = atomic_load_explicit(&table->lowest[other].of_image[image],
						       memory_order_relaxed);

		if (other == user->seat || theirs >= best || other >= table->stripe_count)
			continue;
		best = home_lowest(user, other, other, image, best, theirs, &agent);
	}
	if (agent != UINT32_MAX && agent / AGENTS % user->seats == user->seat)
		user->at = agent / AGENTS;
	return agent;
}

/* ---- slots ---- */

static bool agent_take(struct user *user, uint32_t agent, uint32_t record, struct reg_lease *lease)
{
	struct agent *a = &user->table->agents[agent];
	uint64_t free_slots = atomic_load_explicit(&a->free, memory_order_relaxed);

	while (free_slots) {
		uint64_t bit = free_slots & -free_slots;
		uint64_t before = atomic_fetch_and(&a->free, ~bit), load;

		if (before & bit) {
			lease->agent.idx = agent;
			lease->slot = (uint32_t)__builtin_ctzll(bit);
			/* release: as the registry's word would be */
			atomic_store_explicit(&a->slot[lease->slot], record + 1,
					      memory_order_release);
			load = atomic_fetch_add(&a->load, 1);
			move(user->table, agent, load, load + 1);
			return true;
		}
		free_slots = before & ~bit;
	}
	return false;
}

static bool place(struct user *user, uint32_t image, uint32_t record, struct reg_lease *lease)
{
	uint32_t agent;

	while ((agent = search(user, image)) != UINT32_MAX) {
		if (agent_take(user, agent, record, lease))
			return true;
		settle(user->table, agent);
	}
	return false;
}

/* Tells the owner of the stripe that there is a lower load. */
static void lower(struct user *user, uint32_t agent, uint8_t load)
{
	struct lowest *lowest = &user->table->lowest[agent / AGENTS % user->seats];

	for (uint64_t left = user->table->agents[agent].images; left; left &= left - 1) {
		a8 *of = &lowest->of_image[__builtin_ctzll(left)];
		uint8_t seen = atomic_load_explicit(of, memory_order_relaxed);

		while (load < seen && !atomic_compare_exchange_weak(of, &seen, load))
			;
	}
}

static void unplace(struct user *user, const struct reg_lease *lease)
{
	struct agent *a = &user->table->agents[lease->agent.idx];
	uint64_t load;

	atomic_store_explicit(&a->slot[lease->slot], 0, memory_order_release);
	load = atomic_fetch_sub(&a->load, 1);
	atomic_fetch_or(&a->free, UINT64_C(1) << lease->slot);
	move(user->table, lease->agent.idx, load, load - 1);
	lower(user, lease->agent.idx, (uint8_t)(load - 1));
}

/* Requests for an image that no agent with room has are placed anywhere: image WORLD_IMAGES - 1 is
 * kept for "any". */
static bool place_scored(struct user *user, uint32_t image, uint32_t record,
			 struct reg_lease *lease)
{
	if (place(user, image, record, lease) || place(user, WORLD_IMAGES - 1, record, lease))
		return true;
	user->tally->refused++;
	return lease_refused(lease);
}

static bool slot_take(void *self, struct reg_lease *lease)
{
	struct user *user = self;

	return place_scored(user, user->world->draws[user->draw++ % WORLD_DRAWS], 0, lease);
}

static void slot_give(void *self, struct reg_lease *lease)
{
	if (!lease_none(lease))
		unplace(self, lease);
}

SUBJECT_PAIRS(slot)

/* ---- with a name and a record ---- */

static uint64_t name_hash(const char *name)
{
	uint64_t words[3] = {0}, hash;

	memcpy(words, name, REQUEST_NAME_BYTES);
	hash = (words[0] ^ words[1] * UINT64_C(0x9e3779b97f4a7c15)) + words[2];
	hash = (hash ^ hash >> 33) * UINT64_C(0xff51afd7ed558ccd);
	return hash ^ hash >> 33;
}

static uint64_t name_insert(struct table *table, const char *name, uint32_t record)
{
	uint64_t hash = name_hash(name), at = hash % NAMES;

	for (;; at = (at + 1) % NAMES) {
		uint64_t empty = 0;

		if (atomic_compare_exchange_strong(&table->names[at], &empty,
						   (hash & ~UINT64_C(0xffffffff)) | (record + 1)))
			return at;
	}
}

static bool full_take(void *self, struct reg_lease *lease)
{
	struct user *user = self;
	const struct request *r = &user->requests->one[user->requests->next++];
	uint32_t idx = user->freed[--user->freed_count];
	struct record *record = &user->table->record[user->seat][idx];

	record->entry = name_insert(user->table, r->name, user->seat * WORLD_CIRCULATING + idx);
	memcpy(record->name, r->name, sizeof(record->name));
	lease->sandbox.idx = idx;
	if (!place_scored(user, r->image, idx, lease)) {
		atomic_store_explicit(&user->table->names[record->entry], 0, memory_order_release);
		user->freed[user->freed_count++] = idx;
		return false;
	}
	record->agent_and_slot = (uint64_t)lease->agent.idx << 32 | lease->slot;
	/* release: the record before its state */
	atomic_store_explicit(&record->state, 1, memory_order_release);
	return true;
}

static void full_give(void *self, struct reg_lease *lease)
{
	struct user *user = self;
	struct record *record = &user->table->record[user->seat][lease->sandbox.idx];

	if (lease_none(lease))
		return;
	unplace(user, lease);
	atomic_store_explicit(&user->table->names[record->entry], 0, memory_order_release);
	atomic_store_explicit(&record->state, 0, memory_order_release);
	user->freed[user->freed_count++] = lease->sandbox.idx;
}

SUBJECT_PAIRS(full)

static void full_prepare(void *self, uint32_t n)
{
	requests_prepare(((struct user *)self)->requests, n);
}

/* ---- building ---- */

static void agent_init(struct table *table, const struct world *world, uint32_t idx)
{
	uint32_t load = world_base_of(world, idx);
	uint64_t bit = UINT64_C(1) << (idx % AGENTS);
	struct stripe *stripe = &table->stripes[idx / AGENTS];
	struct agent *agent = &table->agents[idx];

	agent->images = world->agents[idx].image_bits | UINT64_C(1) << (WORLD_IMAGES - 1);
	agent->load = load;
	agent->free = ((UINT64_C(1) << WORLD_SLOTS) - 1) & UINT64_MAX << load;
	level_add(stripe, bit, load);
	for (uint64_t left = agent->images; left; left &= left - 1)
		stripe->image[__builtin_ctzll(left)] |= bit;
}

static void *table_new(const struct world *world)
{
	struct table *table = shared_memory(sizeof(*table));

	table->stripe_count = (world->spec.agents + AGENTS - 1) / AGENTS;
	table->stripes = shared_memory(table->stripe_count * sizeof(struct stripe));
	table->agents = shared_memory(world->spec.agents * sizeof(struct agent));
	for (uint32_t i = 0; i < world->spec.agents; i++)
		agent_init(table, world, i);
	return table;
}

static void *table_enter(const struct seat *seat)
{
	struct user *user = calloc(1, sizeof(*user));

	base_bug(!user);
	user->table = seat->shared;
	user->world = seat->world;
	user->requests = requests_new(seat->world, REQUEST_FULL, seat->idx);
	user->tally = seat->tally;
	user->seat = user->at = seat->idx;
	user->seats = seat->count;
	user->draw = seat->idx * 997;
	while (user->freed_count < WORLD_CIRCULATING) {
		user->freed[user->freed_count] = user->freed_count;
		user->freed_count++;
	}
	for (uint32_t i = 0; i < WORLD_IMAGES; i++) /* another number of homes than before */
		atomic_store(&user->table->lowest[seat->idx].of_image[i], 0);
	return user;
}

static void table_leave(void *self)
{
	struct user *user = self;

	requests_free(user->requests);
	free(user);
}

static uint64_t table_unbalanced(const void *shared, const struct world *world)
{
	const struct table *table = shared;
	uint64_t wrong = 0;

	for (uint32_t i = 0; i < world->spec.agents; i++) {
		uint64_t load = atomic_load(&table->agents[i].load);
		uint64_t held = WORLD_SLOTS -
				(uint64_t)__builtin_popcountll(atomic_load(&table->agents[i].free));

		wrong += load != held || load != world_base_of(world, i);
	}
	return wrong;
}

#define STRIPES(subject_name, prefix, text)                                                        \
	.name = subject_name, .what = text, .shared_new = table_new, .enter = table_enter,         \
	.pairs = prefix##_pairs, .take = prefix##_take, .give = prefix##_give,                     \
	.leave = table_leave, .unbalanced = table_unbalanced

const struct subject subject_stripes_slot = {
	STRIPES("stripes_slot", slot, "prototype with level bitmaps per stripe, the slot alone"),
};

const struct subject subject_stripes_full = {
	STRIPES("stripes_full", full, "the same with a name and a record"),
	.prepare = full_prepare,
};
