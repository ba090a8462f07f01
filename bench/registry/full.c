/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registry itself, through its public header. The three cases (alone, full, full_cold) of one
 * number of agents share an arena in /dev/shm, whose file is unlinked at once. A quarter of the
 * slots is held by full reservations; each case replaces leases of a ring of its own, the cold one
 * those of the whole rest.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "registry/registry.h"
#include "subject.h"

enum { FIXTURES_MAX = 8, PREPARED = 256, SPEC_BYTES = 512, RINGS = 2 };

/* What a caller has ready when it calls reg_reserve. */
struct prepared {
	struct reg_request req;
	char name[24], id[40], request_id[40];
};

struct fixture {
	uint32_t agents;
	int users;
	struct world *world;
	struct reg *reg;
	struct reg_self *me;
	uint64_t counter; /* makes names unique */
	uint32_t held;	  /* leases, over all rings */
	uint8_t spec[SPEC_BYTES];
	struct reg_lease *base; /* held all the time, but for the cold case */
	uint32_t base_size;
};

struct ring {
	struct fixture *fixture;
	bool full;
	struct reg_lease *leases, fresh;
	uint32_t size, oldest;
	struct prepared prepared[PREPARED];
	uint32_t next; /* of prepared */
};

static struct fixture fixtures[FIXTURES_MAX];

static void must(enum reg_status status, const char *what)
{
	if (status == REG_OK)
		return;
	(void)fprintf(stderr, "%s: %s: %s\n", what, reg_status_name(status),
		      reg_status_text(status));
	abort();
}

/* ---- requests ---- */

/* The last digits of text become value in decimal: what snprintf would do, ten times faster. */
static void put_digits(char *text, size_t len, uint64_t value)
{
	while (len) {
		text[--len] = (char)('0' + value % 10);
		value /= 10;
	}
}

static void prepared_init(struct prepared *p, const struct fixture *fixture, bool full)
{
	(void)snprintf(p->name, sizeof(p->name), full ? "bench-00000000000000" : "b0000000000");
	(void)snprintf(p->id, sizeof(p->id), "%032d", 0);
	(void)snprintf(p->request_id, sizeof(p->request_id),
		       "7f1d2c3b-0000-4000-8000-000000000000");
	p->req = (struct reg_request){
		.ns = WORLD_NAMESPACE,
		.pool = WORLD_POOL,
		.name = p->name,
		.id = p->id,
		.request_id = full ? p->request_id : NULL,
		.spec = full ? fixture->spec : NULL,
		.spec_len = full ? SPEC_BYTES : 0,
	};
}

static void prepare_one(struct ring *ring, uint32_t at, int64_t now)
{
	struct prepared *p = &ring->prepared[at];
	uint64_t value = ++ring->fixture->counter;

	put_digits(p->name + strlen(p->name) - 10, 10, value);
	put_digits(p->id + 12, 20, value);
	put_digits(p->request_id + 24, 12, value);
	p->req.image = world_image((uint32_t)(value % WORLD_WANTED));
	p->req.request_hash = value * UINT64_C(0x9e3779b97f4a7c15);
	p->req.created_unix_ns = now;
}

static void ring_prepare(void *self, uint32_t n)
{
	struct ring *ring = self;
	int64_t now = clock_unix_ns();

	base_bug(n > PREPARED);
	for (uint32_t i = 0; i < n; i++)
		prepare_one(ring, i, now);
	ring->next = 0;
}

/* ---- the pair ---- */

static void ring_reserve(void *self)
{
	struct ring *ring = self;
	enum reg_status status =
		reg_reserve(ring->fixture->me, &ring->prepared[ring->next++].req, &ring->fresh);

	if (__builtin_expect(status != REG_OK, 0))
		must(status, "reg_reserve");
}

static void ring_release(void *self)
{
	struct ring *ring = self;
	enum reg_status status = reg_abort(ring->fixture->me, &ring->leases[ring->oldest]);

	if (__builtin_expect(status != REG_OK, 0))
		must(status, "reg_abort");
	ring->leases[ring->oldest] = ring->fresh;
	ring->oldest = ring->oldest + 1 == ring->size ? 0 : ring->oldest + 1;
}

static void ring_pairs(void *self, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		ring_reserve(self);
		ring_release(self);
	}
}

/* ---- the arena ---- */

static void join_agent(struct fixture *fixture, const struct world_agent *agent)
{
	const char *images[WORLD_IMAGES_PER_AGENT];
	struct reg_agent_info info = {
		.ns = WORLD_NAMESPACE,
		.name = agent->name,
		.pool = WORLD_POOL,
		.node = "bench",
		.address = "unix:/nowhere",
		.host_ip = "127.0.0.1",
		.capacity = (int32_t)agent->slots,
	};
	reg_agent_id id;

	for (uint32_t i = 0; i < WORLD_IMAGES_PER_AGENT; i++)
		images[i] = world_image(agent->images[i]);
	must(reg_agent_join(fixture->me, &info, &id), "reg_agent_join");
	must(reg_agent_set_images(fixture->me, id, images, WORLD_IMAGES_PER_AGENT),
	     "reg_agent_set_images");
	must(reg_agent_set_ready(fixture->me, id, true), "reg_agent_set_ready");
}

static void create_arena(struct fixture *fixture)
{
	struct reg_limits limits = {.agents = fixture->agents,
				    .sandboxes = 4 * fixture->world->fill};
	char path[64];

	(void)snprintf(path, sizeof(path), "/dev/shm/fsb-bench-%d-%u", (int)getpid(),
		       fixture->agents);
	must(reg_create(path, &limits, &fixture->reg), "reg_create");
	(void)unlink(path); /* nothing stays, whatever happens */
	must(reg_join(fixture->reg, REG_KIND_WORKER, &fixture->me), "reg_join");
	reg_store_loaded_set(fixture->reg);
	for (uint32_t i = 0; i < fixture->agents; i++)
		join_agent(fixture, &fixture->world->agents[i]);
}

static struct ring *ring_new(struct fixture *fixture, bool full, struct reg_lease *leases,
			     uint32_t size)
{
	struct ring *ring = calloc(1, sizeof(*ring));

	base_bug(!ring || !leases);
	ring->fixture = fixture;
	ring->full = full;
	ring->leases = leases;
	ring->size = size;
	for (uint32_t i = 0; i < PREPARED; i++)
		prepared_init(&ring->prepared[i], fixture, full);
	return ring;
}

static void ring_fill(struct ring *ring)
{
	for (uint32_t i = 0; i < ring->size; i++) {
		ring_prepare(ring, 1);
		ring_reserve(ring);
		ring->leases[i] = ring->fresh;
		ring->fixture->held++;
	}
}

static struct fixture *fixture_new(struct fixture *fixture, uint32_t agents)
{
	struct ring *filler;

	*fixture = (struct fixture){.agents = agents, .users = 1, .world = world_new(agents)};
	for (uint32_t i = 0; i < SPEC_BYTES; i++)
		fixture->spec[i] = (uint8_t)(i * 37);
	create_arena(fixture);
	fixture->base_size = fixture->world->fill - RINGS * WORLD_RING;
	fixture->base = calloc(fixture->base_size, sizeof(*fixture->base));
	filler = ring_new(fixture, true, fixture->base, fixture->base_size);
	ring_fill(filler);
	free(filler);
	return fixture;
}

static struct fixture *fixture_get(uint32_t agents)
{
	struct fixture *empty = NULL;

	for (int i = 0; i < FIXTURES_MAX; i++) {
		if (fixtures[i].users && fixtures[i].agents == agents) {
			fixtures[i].users++;
			return &fixtures[i];
		}
		if (!fixtures[i].users && !empty)
			empty = &fixtures[i];
	}
	base_bug(!empty);
	return fixture_new(empty, agents);
}

/* ---- the books ---- */

static uint64_t difference(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

/* Contradictions that the arena finds in itself, and how far its counts are from the leases that we
 * hold. */
static uint64_t books_wrong(const struct fixture *fixture, uint32_t held)
{
	struct reg_books books;
	uint64_t wrong, allocated = 0;
	struct reg_agent_view view;
	uint32_t cursor = 0;

	reg_books(fixture->me, &books);
	while (reg_agent_next(fixture->me, &cursor, &view))
		allocated += view.allocated;
	wrong = books.contradictions + books.ports;
	wrong += difference(books.sandboxes, held) + difference(books.slots_held, held);
	wrong += difference(books.names, held) + difference(allocated, held);
	return wrong;
}

static int compare_leases(const void *a, const void *b)
{
	const struct reg_lease *x = a, *y = b;

	if (x->agent.idx != y->agent.idx)
		return x->agent.idx < y->agent.idx ? -1 : 1;
	return (x->slot > y->slot) - (x->slot < y->slot);
}

/* Leases of one ring that name the same slot. (Across rings the arena's own count of held slots
 * would differ.) */
static uint64_t duplicates(const struct ring *ring)
{
	struct reg_lease *sorted = malloc(ring->size * sizeof(*sorted));
	uint64_t same = 0;

	base_bug(!sorted);
	memcpy(sorted, ring->leases, ring->size * sizeof(*sorted));
	qsort(sorted, ring->size, sizeof(*sorted), compare_leases);
	for (uint32_t i = 1; i < ring->size; i++)
		same += compare_leases(&sorted[i - 1], &sorted[i]) == 0;
	free(sorted);
	return same;
}

static uint64_t ring_unbalanced(void *self)
{
	const struct ring *ring = self;

	return books_wrong(ring->fixture, ring->fixture->held) + duplicates(ring);
}

/* Releases size leases; returns how many could not be. */
static uint64_t release_all(struct fixture *fixture, const struct reg_lease *leases, uint32_t size)
{
	uint64_t wrong = 0;

	for (uint32_t i = 0; i < size; i++)
		wrong += reg_abort(fixture->me, &leases[i]) != REG_OK;
	fixture->held -= size;
	return wrong;
}

/* With the last user everything goes back, and then nothing may be left: not a blob, not a request
 * id. */
static uint64_t fixture_put(struct fixture *fixture)
{
	struct reg_books books;
	uint64_t wrong;

	if (--fixture->users > 0)
		return 0;
	wrong = release_all(fixture, fixture->base, fixture->base_size);
	wrong += books_wrong(fixture, 0);
	reg_books(fixture->me, &books);
	wrong += books.request_ids + books.blobs;
	reg_leave(fixture->me);
	reg_detach(fixture->reg);
	free(fixture->base);
	world_free(fixture->world);
	return wrong;
}

/* ---- the three cases ---- */

static void *warm_open(uint32_t agents, bool full)
{
	struct reg_lease *leases = calloc(WORLD_RING, sizeof(*leases));
	struct ring *ring = ring_new(fixture_get(agents), full, leases, WORLD_RING);

	ring_fill(ring);
	return ring;
}

static void *alone_open(uint32_t agents)
{
	return warm_open(agents, false);
}

static void *full_open(uint32_t agents)
{
	return warm_open(agents, true);
}

static void *cold_open(uint32_t agents)
{
	struct fixture *fixture = fixture_get(agents);

	return ring_new(fixture, true, fixture->base, fixture->base_size);
}

static uint64_t warm_close(void *self)
{
	struct ring *ring = self;
	uint64_t wrong = release_all(ring->fixture, ring->leases, ring->size);

	free(ring->leases);
	wrong += fixture_put(ring->fixture);
	free(ring);
	return wrong;
}

static uint64_t cold_close(void *self)
{
	struct ring *ring = self;
	uint64_t wrong = fixture_put(ring->fixture);

	free(ring);
	return wrong;
}

const struct subject subject_alone = {
	.name = "alone",
	.what = "reg_reserve of the least that it takes (short name, no request id, no spec) and "
		"reg_abort",
	.by_agents = true,
	.open = alone_open,
	.prepare = ring_prepare,
	.pairs = ring_pairs,
	.reserve = ring_reserve,
	.release = ring_release,
	.unbalanced = ring_unbalanced,
	.close = warm_close,
};

const struct subject subject_full = {
	.name = "full",
	.what = "reg_reserve with a 20-byte name, request id and 512-byte spec, and reg_abort",
	.by_agents = true,
	.open = full_open,
	.prepare = ring_prepare,
	.pairs = ring_pairs,
	.reserve = ring_reserve,
	.release = ring_release,
	.unbalanced = ring_unbalanced,
	.close = warm_close,
};

const struct subject subject_full_cold = {
	.name = "full_cold",
	.what = "as full, but the ring is nearly the whole fill: what is released has left the "
		"caches",
	.by_agents = true,
	.open = cold_open,
	.prepare = ring_prepare,
	.pairs = ring_pairs,
	.reserve = ring_reserve,
	.release = ring_release,
	.unbalanced = ring_unbalanced,
	.close = cold_close,
};
