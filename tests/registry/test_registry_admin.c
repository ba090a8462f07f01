/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Administration alone: capacity, drain, removal and return, image sets, pools, sweeps; every limit
 * a typed refusal that leaves what was there; handles and remembered rows after reuse.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "internal.h"
#include "rig.h"

#define LONG_NS (60 * NS_PER_S)

static void open_with(struct rig *rig, const struct reg_limits *limits)
{
	rig_open(rig, limits);
}

/* Sweeps until nothing waits and nothing goes any more. */
static void sweep_all(struct rig *rig)
{
	struct reg_sweep_result res;

	do {
		CHECK_OK(reg_sweep(rig->me, &res));
		CHECK_OK(reg_synchronize(rig->me, LONG_NS));
	} while (res.retired || res.reclaimed || res.backlog);
}

static uint32_t images_of(struct rig *rig, reg_agent_id agent)
{
	char ref[REG_IMAGE_MAX + 1];
	uint32_t cursor = 0, n = 0;

	while (reg_agent_image_next(rig->me, agent, &cursor, ref))
		n++;
	return n;
}

static bool has_image(struct rig *rig, reg_agent_id agent, const char *image)
{
	char ref[REG_IMAGE_MAX + 1];
	uint32_t cursor = 0;

	while (reg_agent_image_next(rig->me, agent, &cursor, ref))
		if (!strcmp(ref, image))
			return true;
	return false;
}

static uint32_t rows(struct rig *rig, enum reg_cells_kind kind)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < rig->reg->max[kind]; i++) {
		a64 *word = reg__cell(rig->reg, kind, i);

		n += word && word_state(atomic_load(word));
	}
	return n;
}

/* ---- capacity ---- */

static void run_many(struct rig *rig, const char *prefix, uint32_t n, reg_sandbox_id *ret)
{
	for (uint32_t i = 0; i < n; i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "%s%u", prefix, i);
		struct reg_request req = rig_request(name);

		ret[i] = rig_run(rig, &req);
	}
}

/* Down to 5 while 8 run, given back in every order of the eight: none until 4 are left, then
 * exactly as many as fit. */
static void test_shrink(void **state)
{
	struct rig *rig = *state;
	reg_agent_id agent = rig_agent(rig, "a", 8);
	uint64_t seed = rig_seed(3);

	for (uint32_t round = rig_scaled(200); round; round--) {
		reg_sandbox_id ids[8];
		struct reg_agent_view view;

		CHECK_OK(reg_agent_set_capacity(rig->me, agent, 8));
		run_many(rig, "s", 8, ids);
		CHECK_OK(reg_agent_set_capacity(rig->me, agent, 5));
		CHECK_OK(reg_agent_get(rig->me, agent, &view));
		CHECK_EQ(view.slots, 5);
		CHECK_EQ(view.allocated, 8);
		for (uint32_t left = 8; left; left--) {
			uint32_t i = rig_below(&seed, left);

			rig_check_free_slots(rig, "pool", left < 5 ? 5 - left : 0);
			rig_delete(rig, ids[i]);
			ids[i] = ids[left - 1];
		}
		rig_check_free_slots(rig, "pool", 5);
	}
	CHECK_OK(reg_agent_set_capacity(rig->me, agent, 0));
	rig_check_free_slots(rig, "pool", rig_limits.slots_per_agent_unlimited);
	CHECK_ST(reg_agent_set_capacity(rig->me, agent, REG_SLOTS_PER_AGENT_MAX + 1), REG_INVALID);
	CHECK_OK(reg_agent_set_capacity(rig->me, agent, -1));
	rig_check_free_slots(rig, "pool", rig_limits.slots_per_agent_unlimited);
	CHECK_EMPTY(rig);
}

/* What runs beyond the capacity by adoption counts, and room comes only below it. */
static void test_adopted_beyond(void **state)
{
	struct rig *rig = *state;
	reg_agent_id agent = rig_agent(rig, "a", 2);
	reg_sandbox_id ids[5];

	for (int i = 0; i < 5; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "r%d", i);
		struct reg_restore restore = {.req = rig_request(name),
					      .state = REG_RESTORED,
					      .agent_name = "a",
					      .generation = 1};

		CHECK_OK(reg_insert(rig->me, &restore, &ids[i]));
		CHECK_OK(reg_adopt(rig->me, ids[i], agent));
	}
	for (int i = 0; i < 5; i++) {
		rig_check_free_slots(rig, "pool", i > 3 ? (uint32_t)(i - 3) : 0);
		rig_delete(rig, ids[i]);
	}
	rig_check_free_slots(rig, "pool", 2);
	CHECK_EMPTY(rig);
}

/* ---- drain, removal, return ---- */

static void test_drain(void **state)
{
	struct rig *rig = *state;
	reg_agent_id a = rig_agent(rig, "a", 4);
	struct reg_agent_view view;
	reg_sandbox_id id;

	run_many(rig, "s", 1, &id);
	CHECK_OK(reg_agent_set_drain(rig->me, a, true));
	rig_check_free_slots(rig, "pool", 0);
	CHECK_OK(reg_agent_get(rig->me, a, &view));
	CHECK(view.ready && view.draining);
	CHECK_OK(reg_agent_set_ready(rig->me, a, false));
	CHECK_OK(reg_agent_set_ready(rig->me, a, true)); /* still draining */
	rig_check_free_slots(rig, "pool", 0);
	(void)rig_agent(rig, "a", 4); /* a join does not end it */
	rig_check_free_slots(rig, "pool", 0);
	CHECK_EQ(rig_state(rig, id), REG_RUNNING);
	CHECK_OK(reg_agent_set_drain(rig->me, a, false));
	rig_check_free_slots(rig, "pool", 3);
	rig_delete(rig, id);
	CHECK_EMPTY(rig);
}

/* Removed with three running ones, back with them: the same row, the same slots, none lost, none
 * twice. */
static void test_remove_and_return(void **state)
{
	struct rig *rig = *state;
	reg_agent_id a = rig_agent(rig, "a", 4), again;
	struct reg_sandbox_view before[3], after;
	reg_sandbox_id ids[3];
	struct reg_agent_view view;

	run_many(rig, "s", 3, ids);
	for (int i = 0; i < 3; i++)
		CHECK_OK(reg_view(rig->me, ids[i], &before[i]));
	CHECK_OK(reg_agent_remove(rig->me, a));
	CHECK_ST(reg_agent_set_ready(rig->me, a, true), REG_BAD_STATE);
	sweep_all(rig);
	rig_check_free_slots(rig, "pool", 0);
	CHECK_OK(reg_agent_get(rig->me, a, &view));
	CHECK(view.removed && !view.ready);
	CHECK_EQ(view.allocated, 3);
	for (int i = 0; i < 3; i++) {
		CHECK_OK(reg_view(rig->me, ids[i], &after));
		CHECK_EQ(after.state, REG_LOST);
		CHECK_STR(after.agent_name, "a");
		CHECK_EQ(after.slot, before[i].slot);
	}
	again = rig_agent(rig, "a", 4);
	CHECK_EQ(again.idx, a.idx);
	CHECK_EQ(again.gen, a.gen);
	rig_check_free_slots(rig, "pool", 1);
	for (int i = 0; i < 3; i++)
		CHECK_OK(reg_found(rig->me, ids[i]));
	rig_check_free_slots(rig, "pool", 1);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(rig_state(rig, ids[i]), REG_RUNNING);
		rig_delete(rig, ids[i]);
	}
	CHECK_EMPTY(rig);
}

/* Gone for good: the row is free after a grace period, and whoever kept the handle is told. */
static void test_removed_for_good(void **state)
{
	struct rig *rig = *state;
	reg_agent_id a = rig_agent(rig, "a", 4), b;
	const char *images[] = {"one", "two"};
	struct reg_agent_view view;
	reg_sandbox_id id;

	CHECK_OK(reg_agent_set_images(rig->me, a, images, 2));
	run_many(rig, "s", 1, &id);
	CHECK_OK(reg_agent_remove(rig->me, a));
	sweep_all(rig);
	CHECK_OK(reg_agent_get(rig->me, a, &view)); /* a LOST one refers to it */
	rig_delete(rig, id);
	(void)rig_store_run(rig);
	sweep_all(rig);
	CHECK_ST(reg_agent_get(rig->me, a, &view), REG_STALE);
	CHECK_ST(reg_agent_find(rig->me, "default", "a", &b), REG_NOT_FOUND);
	CHECK_EQ(rows(rig, CELLS_AGENTS), 0);
	CHECK_EQ(rows(rig, CELLS_POOLS), 0);
	CHECK_EQ(rows(rig, CELLS_IMAGES), 0);
	CHECK_EQ(rows(rig, CELLS_COLD), 0);
	b = rig_agent(rig, "b", 2);
	CHECK_EQ(b.idx, a.idx);
	CHECK(b.gen != a.gen);
	CHECK_ST(reg_agent_get(rig->me, a, &view), REG_STALE);
	CHECK_ST(reg_agent_set_ready(rig->me, a, true), REG_STALE);
	CHECK_ST(reg_agent_set_drain(rig->me, a, true), REG_STALE);
	CHECK_ST(reg_agent_set_capacity(rig->me, a, 1), REG_STALE);
	CHECK_ST(reg_agent_set_images(rig->me, a, images, 2), REG_STALE);
	CHECK_ST(reg_agent_heartbeat(rig->me, a, 1), REG_STALE);
	CHECK_ST(reg_agent_remove(rig->me, a), REG_STALE);
	CHECK_ST(reg_agent_get(rig->me, (reg_agent_id){63, 1}, &view), REG_NOT_FOUND);
	CHECK_EQ(images_of(rig, b), 0);
	rig_check_free_slots(rig, "pool", 2);
	CHECK_EMPTY(rig);
}

/* ---- remembered rows ---- */

/* One participant that remembers pool and image rows, which are swept and reused for others. */
static void test_memos_after_reuse(void **state)
{
	struct rig *rig = *state;

	for (uint32_t round = rig_scaled(100); round; round--) {
		char pool[2][16], image[2][16];

		for (int k = 0; k < 2; k++) {
			(void)snprintf(pool[k], sizeof(pool[k]), "p%u", (round + (uint32_t)k) % 3);
			(void)snprintf(image[k], sizeof(image[k]), "i%u",
				       (round + (uint32_t)k) % 3);
			reg_agent_id a = rig_agent_in(rig, k ? "a1" : "a0", pool[k], 1);

			rig_images(rig, a, image[k]);
		}
		for (int k = 0; k < 2; k++) {
			struct reg_request req = rig_request("s");
			struct reg_sandbox_view view;

			req.pool = pool[k];
			req.image = image[k];
			reg_sandbox_id id = rig_run(rig, &req);

			CHECK_OK(reg_view(rig->me, id, &view));
			CHECK_STR(view.pool, pool[k]);
			CHECK_STR(view.agent_name, k ? "a1" : "a0");
			rig_delete(rig, id);
		}
		(void)rig_store_run(rig);
		for (int k = 0; k < 2; k++) {
			struct reg_lease lease;
			struct reg_request req = rig_request("s");
			reg_agent_id a;

			CHECK_OK(reg_agent_find(rig->me, "default", k ? "a1" : "a0", &a));
			CHECK_OK(reg_agent_remove(rig->me, a));
			sweep_all(rig);
			req.pool = pool[k];
			CHECK_ST(reg_reserve(rig->me, &req, &lease), REG_NO_POOL);
		}
	}
	CHECK_EQ(rows(rig, CELLS_POOLS), 0);
}

/* ---- images ---- */

static void names_make(char (*name)[16], const char **list, uint32_t from, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		(void)snprintf(name[i], sizeof(name[i]), "image-%u", from + i);
		list[i] = name[i];
	}
}

static void test_images_delta(void **state)
{
	static char name[1001][16];
	static const char *list[1001];
	const char *both[] = {"image-5", "image-5"}, *empty[] = {""};
	struct reg_limits limits = rig_limits;
	struct rig rig;
	reg_agent_id a, b;

	(void)state;
	limits.images = 2100;
	open_with(&rig, &limits);
	a = rig_agent(&rig, "a", 1);
	b = rig_agent(&rig, "b", 1);
	names_make(name, list, 0, 1001);
	CHECK_ST(reg_agent_set_images(rig.me, a, list, 1001), REG_TOO_LARGE);
	CHECK_EQ(images_of(&rig, a), 0);
	CHECK_OK(reg_agent_set_images(rig.me, a, list, 1000));
	CHECK_EQ(images_of(&rig, a), 1000);
	/* one too many: nothing changes; one for one: it does */
	CHECK_ST(reg_agent_change_images(rig.me, a, list + 1000, 1, NULL, 0), REG_TOO_LARGE);
	CHECK_ST(reg_agent_change_images(rig.me, a, empty, 1, NULL, 0), REG_INVALID);
	CHECK_EQ(images_of(&rig, a), 1000);
	CHECK_OK(reg_agent_change_images(rig.me, a, list + 1000, 1, list + 7, 1));
	CHECK_EQ(images_of(&rig, a), 1000);
	CHECK(has_image(&rig, a, "image-1000") && !has_image(&rig, a, "image-7"));
	/* named in both, and twice: stays, once */
	CHECK_OK(reg_agent_change_images(rig.me, a, both, 2, both, 2));
	CHECK_EQ(images_of(&rig, a), 1000);
	CHECK_OK(reg_agent_change_images(rig.me, b, both, 2, NULL, 0));
	CHECK_EQ(images_of(&rig, b), 1);
	CHECK_OK(reg_agent_change_images(rig.me, a, NULL, 0, list, 1000));
	CHECK_EQ(images_of(&rig, a), 1);
	CHECK(has_image(&rig, b, "image-5"));
	CHECK_OK(reg_agent_set_images(rig.me, a, NULL, 0));
	sweep_all(&rig);
	CHECK_EQ(rows(&rig, CELLS_IMAGES), 1);
	rig_close(&rig);
}

/* Against a plain set, in random steps, with sweeps in between. */
static void test_images_random(void **state)
{
	enum { N = 40 };
	struct rig *rig = *state;
	reg_agent_id a = rig_agent(rig, "a", 1);
	uint64_t seed = rig_seed(11);
	static char name[N][16];
	static const char *list[N];
	bool have[N] = {0};

	names_make(name, list, 0, N);
	for (uint32_t step = rig_scaled(1000); step; step--) {
		const char *add[8], *drop[8];
		uint32_t adds = rig_below(&seed, 8), drops = rig_below(&seed, 8), want = 0;
		bool next[N];

		memcpy(next, have, sizeof(next));
		for (uint32_t i = 0; i < drops; i++) {
			uint32_t k = rig_below(&seed, N);

			drop[i] = list[k];
			next[k] = false;
		}
		for (uint32_t i = 0; i < adds; i++) {
			uint32_t k = rig_below(&seed, N);

			add[i] = list[k];
			next[k] = true;
		}
		if (rig_below(&seed, 4)) {
			CHECK_OK(reg_agent_change_images(rig->me, a, add, adds, drop, drops));
			memcpy(have, next, sizeof(have));
		} else {
			CHECK_OK(reg_agent_set_images(rig->me, a, add, adds));
			memset(have, 0, sizeof(have));
			for (uint32_t i = 0; i < adds; i++)
				for (int k = 0; k < N; k++)
					have[k] |= add[i] == list[k];
		}
		for (int k = 0; k < N; k++) {
			want += have[k];
			CHECK_EQ(has_image(rig, a, list[k]), have[k]);
		}
		CHECK_EQ(images_of(rig, a), want);
		if (step % 16 == 0)
			sweep_all(rig);
	}
}

/* ---- limits ---- */

static void test_limit_images(void **state)
{
	static char name[8][16];
	static const char *list[8];
	struct reg_limits limits = rig_limits;
	struct rig rig;
	reg_agent_id a;

	(void)state;
	limits.images = 4;
	open_with(&rig, &limits);
	a = rig_agent(&rig, "a", 1);
	names_make(name, list, 0, 8);
	CHECK_OK(reg_agent_set_images(rig.me, a, list, 3));
	for (int i = 0; i < 3; i++) {
		CHECK_ST(reg_agent_set_images(rig.me, a, list + 3, 5), REG_LIMIT_IMAGES);
		CHECK_ST(reg_agent_change_images(rig.me, a, list + 3, 2, list, 1),
			 REG_LIMIT_IMAGES);
		CHECK_EQ(images_of(&rig, a), 3);
		CHECK(has_image(&rig, a, list[0]) && has_image(&rig, a, list[2]));
		sweep_all(&rig); /* what the refused ones made is gone */
		CHECK_EQ(rows(&rig, CELLS_IMAGES), 3);
	}
	CHECK_OK(reg_agent_change_images(rig.me, a, list + 3, 1, list, 3));
	sweep_all(&rig);
	CHECK_OK(reg_agent_change_images(rig.me, a, list + 4, 3, NULL, 0));
	CHECK_EQ(images_of(&rig, a), 4);
	rig_close(&rig);
}

static void test_limit_pools_and_agents(void **state)
{
	struct reg_limits limits = rig_limits;
	struct rig rig;
	char text[16];
	reg_agent_id first = {0}, id;
	struct reg_agent_info info = {.ns = "default", .name = "one-more", .pool = "p0"};

	(void)state;
	limits.agents = 8;
	limits.pools = 4;
	open_with(&rig, &limits);
	for (int i = 0; i < 8; i++) {
		char pool[16];

		(void)snprintf(text, sizeof(text), "a%d", i);
		(void)snprintf(pool, sizeof(pool), "p%d", i % 3);
		id = rig_agent_in(&rig, text, pool, 1);
		first = i ? first : id;
	}
	CHECK_ST(reg_agent_join(rig.me, &info, &id), REG_LIMIT_AGENTS);
	CHECK_OK(reg_pool_upsert(rig.me, "default", "p3"));
	CHECK_OK(reg_pool_upsert(rig.me, "default", "p3"));
	CHECK_ST(reg_pool_upsert(rig.me, "default", "p4"), REG_LIMIT_POOLS);
	CHECK_ST(reg_pool_upsert(rig.me, "", "p4"), REG_INVALID);
	/* to a pool that does not fit: the agent stays where it is */
	info.name = "a0";
	info.pool = "p4";
	CHECK_ST(reg_agent_join(rig.me, &info, &id), REG_LIMIT_POOLS);
	rig_check_free_slots(&rig, "p0", 3);
	CHECK_OK(reg_pool_remove(rig.me, "default", "p3"));
	CHECK_ST(reg_pool_remove(rig.me, "default", "p3"), REG_NO_POOL);
	sweep_all(&rig);
	CHECK_OK(reg_agent_join(rig.me, &info, &id));
	rig_check_free_slots(&rig, "p0", 2);
	/* and a row that is freed is another one's */
	CHECK_OK(reg_agent_remove(rig.me, first));
	sweep_all(&rig);
	info.name = "one-more";
	CHECK_OK(reg_agent_join(rig.me, &info, &id));
	CHECK_EQ(id.idx, first.idx);
	rig_close(&rig);
}

static void test_pool_in_use(void **state)
{
	struct rig *rig = *state;
	reg_agent_id a = rig_agent_in(rig, "a", "busy", 1);
	struct reg_request req = rig_request("s");
	struct reg_lease lease;
	reg_sandbox_id id;

	req.pool = "busy";
	CHECK_ST(reg_pool_remove(rig->me, "default", "busy"), REG_IN_USE);
	id = rig_run(rig, &req);
	CHECK_OK(reg_exited(rig->me, id, &(struct reg_exit){.code = 0}));
	CHECK_OK(reg_agent_remove(rig->me, a));
	CHECK_ST(reg_pool_remove(rig->me, "default", "busy"), REG_IN_USE);
	CHECK_ST(reg_reserve(rig->me, &req, &lease), REG_NAME_EXISTS);
	rig_delete(rig, id);
	(void)rig_store_run(rig);
	sweep_all(rig);
	CHECK_ST(reg_reserve(rig->me, &req, &lease), REG_NO_POOL);
	CHECK_ST(reg_pool_remove(rig->me, "default", "busy"), REG_NO_POOL);
	/* declared ones stay without agents */
	CHECK_OK(reg_pool_upsert(rig->me, "default", "busy"));
	sweep_all(rig);
	CHECK_ST(reg_reserve(rig->me, &req, &lease), REG_NO_CAPACITY);
	CHECK_OK(reg_pool_remove(rig->me, "default", "busy"));
	CHECK_ST(reg_reserve(rig->me, &req, &lease), REG_NO_POOL);
}

/* Pools own stripes of 64 rows while there are stripes. */
static void test_stripes(void **state)
{
	struct reg_limits limits = rig_limits;
	struct rig rig;

	(void)state;
	limits.agents = 256;
	open_with(&rig, &limits);
	for (int i = 0; i < 120; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "a%d", i);
		reg_agent_id id = rig_agent_in(&rig, name, i % 2 ? "odd" : "even", 1);

		CHECK_EQ(id.idx / 64, (uint32_t)(i % 2));
	}
	CHECK_EQ(rig_agent_in(&rig, "third", "third", 1).idx / 64, 2);
	rig_close(&rig);
}

/* ---- backlog ---- */

static void stop_self(struct rig *rig, void *arg)
{
	(void)raise(SIGSTOP);
}

/* Somebody stands still while an agent's address changes over and over: a typed refusal with the
 * old address in place, creates go on, and room again when it goes on. */
static void test_backlog(void **state)
{
	struct rig *rig = *state;
	struct reg_agent_info info = {.ns = "default", .name = "a", .pool = "pool", .capacity = 4};
	struct reg_sweep_result swept;
	struct reg_agent_view view;
	enum reg_status st = REG_OK;
	char address[32], last[32] = "";
	reg_agent_id id;
	uint32_t n = 0;
	pid_t pid = rig_fork(rig, stop_self, NULL);

	CHECK(rig_join_stopped(pid));
	for (; !st && n < 3 * REG_RETIRE_MAX; n++) {
		memcpy(last, address, sizeof(last));
		(void)snprintf(address, sizeof(address), "unix:/%u", n);
		info.address = address;
		st = reg_agent_join(rig->me, &info, &id);
	}
	CHECK_ST(st, REG_BACKLOG);
	CHECK(n > REG_RETIRE_MAX);
	CHECK_EQ(reg_backlog(rig->reg), REG_RETIRE_MAX);
	CHECK_OK(reg_agent_get(rig->me, id, &view));
	CHECK_STR(view.address, last);
	CHECK_OK(reg_agent_set_ready(rig->me, id, true));
	rig_check_free_slots(rig, "pool", 4);
	CHECK_OK(reg_pool_upsert(rig->me, "default", "other"));
	CHECK_ST(reg_pool_remove(rig->me, "default", "other"), REG_BACKLOG);
	CHECK_OK(reg_sweep(rig->me, &swept)); /* nothing to retire */
	(void)kill(pid, SIGCONT);
	rig_join(pid);
	CHECK_OK(reg_synchronize(rig->me, LONG_NS));
	CHECK_OK(reg_agent_join(rig->me, &info, &id));
	CHECK_OK(reg_agent_get(rig->me, id, &view));
	CHECK_STR(view.address, address);
	CHECK_OK(reg_pool_remove(rig->me, "default", "other"));
	sweep_all(rig);
	CHECK_EQ(reg_backlog(rig->reg), 0);
	CHECK_EQ(rows(rig, CELLS_COLD), 1);
}

#ifdef FSB_FAILPOINTS
static void grower_fn(struct rig *rig, void *arg)
{
	reg_agent_id a;

	CHECK_OK(reg_agent_find(rig->me, "default", "a", &a));
	failpoint_set("agent.chunk-taken=kill@2");
	(void)reg_agent_set_capacity(rig->me, a, 256);
}

/* Dies between taking a chunk and the row: the reaper finds it. */
static void test_chunk_of_the_dead(void **state)
{
	struct rig *rig = *state;
	struct reg_reap_result res;
	uint32_t before;

	(void)rig_agent(rig, "a", 1);
	before = rows(rig, CELLS_CHUNKS);
	CHECK(rig_join_killed(rig_fork(rig, grower_fn, NULL)));
	CHECK_EQ(rows(rig, CELLS_CHUNKS), before + 2);
	CHECK_OK(reg_reap(rig->me, NULL, NULL, &res));
	CHECK_EQ(rows(rig, CELLS_CHUNKS), before + 1);
	(void)rig_agent(rig, "a", 256);
	CHECK_EQ(rows(rig, CELLS_CHUNKS), 4);
	rig_check_free_slots(rig, "pool", 256);
}
#endif

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_shrink),
		TEST(test_adopted_beyond),
		TEST(test_drain),
		TEST(test_remove_and_return),
		TEST(test_removed_for_good),
		TEST(test_memos_after_reuse),
		cmocka_unit_test(test_images_delta),
		TEST(test_images_random),
		cmocka_unit_test(test_limit_images),
		cmocka_unit_test(test_limit_pools_and_agents),
		TEST(test_pool_in_use),
		cmocka_unit_test(test_stripes),
		TEST(test_backlog),
#ifdef FSB_FAILPOINTS
		TEST(test_chunk_of_the_dead),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
