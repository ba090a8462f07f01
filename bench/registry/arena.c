/* SPDX-License-Identifier: Apache-2.0 */
/* Building an arena and balancing its books, all through the public header. */
#include "arena.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "request.h"

void must(enum reg_status status, const char *what)
{
	if (status == REG_OK)
		return;
	(void)fprintf(stderr, "bench_registry: %s: %s: %s\n", what, reg_status_name(status),
		      reg_status_text(status));
	abort();
}

static void join_agent(const struct arena *arena, const struct world_agent *agent)
{
	const char *images[WORLD_IMAGES_PER_AGENT];
	struct reg_agent_info info = {
		.ns = WORLD_NAMESPACE,
		.name = agent->name,
		.pool = WORLD_POOL,
		.node = "bench",
		.address = "unix:/nowhere",
		.host_ip = "127.0.0.1",
		.capacity = WORLD_SLOTS,
	};
	reg_agent_id id;

	for (uint32_t i = 0; i < WORLD_IMAGES_PER_AGENT; i++)
		images[i] = world_image(agent->images[i]);
	must(reg_agent_join(arena->me, &info, &id), "reg_agent_join");
	must(reg_agent_set_images(arena->me, id, images, WORLD_IMAGES_PER_AGENT),
	     "reg_agent_set_images");
	must(reg_agent_set_ready(arena->me, id, true), "reg_agent_set_ready");
	base_bug(id.idx >= WORLD_AGENTS_MAX);
	arena->world->by_id[id.idx] = agent;
}

void arena_new(struct arena *arena, const struct world *world)
{
	static uint32_t number;
	struct reg_limits limits = {
		.agents = world->spec.agents,
		.sandboxes = (uint32_t)(world->slots + world->slots / 4 + 2 * RING_MAX),
	};

	*arena = (struct arena){.world = world};
	(void)snprintf(arena->path, sizeof(arena->path), "/dev/shm/fsb-bench-%d-%u", (int)getpid(),
		       number++);
	must(reg_create(arena->path, &limits, &arena->reg), "reg_create");
	must(reg_join(arena->reg, REG_KIND_REGISTRYD, &arena->me), "reg_join");
	reg_store_loaded_set(arena->reg);
	for (uint32_t i = 0; i < world->spec.agents; i++)
		join_agent(arena, &world->agents[i]);
}

void arena_unlink(const struct arena *arena)
{
	(void)unlink(arena->path);
}

void arena_done(struct arena *arena)
{
	(void)reg_leave(arena->me);
	(void)reg_detach(arena->reg);
}

/* Images in the order of the draws; where the hot ones shall have exactly so much room, they are
 * filled up first and spared then. */
static uint32_t fill_image(const struct world *world, uint64_t hot_slots, uint64_t i)
{
	if (world->spec.images == IMAGES_HALF) /* the loads level: others want other images */
		return i & 1 ? 0 : WORLD_IMAGES - 1;
	if (world->spec.free_hot_slots < 0)
		return world->draws[i % WORLD_DRAWS];
	return i < hot_slots - (uint64_t)world->spec.free_hot_slots ? 0 : WORLD_IMAGES - 1;
}

void arena_fill(struct reg *reg, const struct world *world)
{
	uint64_t base = world->fill - world->circulating;
	struct requests *requests = requests_new(world, REQUEST_FULL, 0);
	struct reg_started started = {.started_unix_ns = 1, .start_ns = 1000};
	uint64_t hot_slots = (uint64_t)world_image_agents(world, 0) * WORLD_SLOTS;
	struct reg_self *me;

	must(reg_join(reg, REG_KIND_WORKER, &me), "reg_join");
	for (uint64_t i = 0; i < base; i++) {
		struct reg_request *req;
		struct reg_lease lease;

		requests_prepare(requests, 1);
		req = &requests->one[0].req;
		req->image = world_image(fill_image(world, hot_slots, i));
		must(reg_reserve(me, req, &lease), "reg_reserve of the base");
		must(reg_starting(me, &lease), "reg_starting");
		must(reg_commit(me, &lease, &started), "reg_commit");
	}
	(void)reg_leave(me);
	requests_free(requests);
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static const struct world_agent *agent_of(const struct world *world, reg_agent_id id)
{
	return id.idx < WORLD_AGENTS_MAX ? world->by_id[id.idx] : NULL;
}

void arena_room(const struct arena *arena, uint64_t *ret_room,
		uint64_t ret_image_room[WORLD_IMAGES])
{
	struct reg_agent_view view;
	uint32_t cursor = 0;

	*ret_room = 0;
	memset(ret_image_room, 0, WORLD_IMAGES * sizeof(*ret_image_room));
	while (reg_agent_next(arena->me, &cursor, &view)) {
		const struct world_agent *agent = agent_of(arena->world, view.id);
		uint64_t free_slots = less(view.slots, view.allocated);

		base_bug(!agent);
		*ret_room += free_slots;
		for (uint32_t i = 0; i < WORLD_IMAGES; i++)
			ret_image_room[i] += (agent->image_bits >> i & 1) * free_slots;
	}
}

static uint64_t difference(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

uint64_t arena_unbalanced(const struct arena *arena, uint64_t held, bool hidden)
{
	const struct world *world = arena->world;
	uint64_t base = world->fill - world->circulating, named = base + (hidden ? 0 : held);
	uint64_t wrong, allocated = 0;
	struct reg_agent_view view;
	struct reg_books books;
	uint32_t cursor = 0;

	reg_books(arena->me, &books);
	while (reg_agent_next(arena->me, &cursor, &view))
		allocated += view.allocated;
	wrong = difference(books.slots_held, base + held) + difference(books.names, named) +
		difference(allocated, base + held);
	if (!hidden)
		wrong += books.contradictions + difference(books.sandboxes, named);
	if (!hidden && world->spec.ports)
		wrong += difference(books.ports, named);
	return wrong;
}

static int compare_leases(const void *a, const void *b)
{
	const struct reg_lease *x = a, *y = b;

	if (x->agent.idx != y->agent.idx)
		return x->agent.idx < y->agent.idx ? -1 : 1;
	return (x->slot > y->slot) - (x->slot < y->slot);
}

uint64_t leases_twice(struct reg_lease *leases, uint32_t count)
{
	uint64_t twice = 0;

	qsort(leases, count, sizeof(*leases), compare_leases);
	for (uint32_t i = 1; i < count; i++)
		twice += !lease_none(&leases[i]) && leases[i].slot != UINT32_MAX &&
			 !compare_leases(&leases[i - 1], &leases[i]);
	return twice;
}

static void spread_add(struct spread *spread, uint32_t load)
{
	if (load < spread->lowest)
		spread->lowest = load;
	if (load > spread->highest)
		spread->highest = load;
}

void arena_spread(const struct arena *arena, struct spread *ret, struct spread *ret_others)
{
	enum world_images images = arena->world->spec.images;
	bool some = images == IMAGES_HOT || images == IMAGES_HALF;
	struct reg_agent_view view;
	uint32_t cursor = 0;

	*ret = *ret_others = (struct spread){UINT32_MAX, 0};
	while (reg_agent_next(arena->me, &cursor, &view)) {
		const struct world_agent *agent = agent_of(arena->world, view.id);
		bool other = some && agent && !(agent->image_bits & 1);

		spread_add(other ? ret_others : ret, view.allocated);
	}
}
