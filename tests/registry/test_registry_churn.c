/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Administration under load: agents, pools and images come and go and are swept, by several
 * processes at once, while others reserve and release. Nobody ever gets a place in a pool that he
 * did not ask for, nothing is lost, and at the end no row is left.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "internal.h"
#include "rig.h"

enum { POOLS = 4, AGENTS = 12, WORKERS = 3, KEPT = 4, IMAGES = 10 };

struct shared {
	_Atomic uint32_t end, ready;
	_Atomic uint64_t got[POOLS], refused, no_pool;
	struct rig_barrier barrier;
};

static void pool_name(char *text, size_t size, uint32_t pool)
{
	(void)snprintf(text, size, "pool%u", pool);
}

/* ---- those who reserve ---- */

/* Agent k is of pool k % POOLS, whatever row it has by now. */
static void check_place(struct rig *rig, reg_sandbox_id id, uint32_t pool)
{
	struct reg_sandbox_view view;
	char want[16];

	pool_name(want, sizeof(want), pool);
	CHECK_OK(reg_view(rig->me, id, &view));
	CHECK_STR(view.pool, want);
	CHECK_EQ(strncmp(view.agent_name, "agent", 5), 0);
	CHECK_EQ((uint32_t)(view.agent_name[5] - 'a') % POOLS, pool);
}

static void worker_fn(struct rig *rig, void *arg)
{
	struct shared *s = arg;
	uint32_t who = atomic_fetch_add(&s->ready, 1);
	uint64_t seed = 77 + who;
	reg_sandbox_id kept[KEPT];
	uint32_t n = 0;

	for (uint32_t i = 0; !atomic_load(&s->end); i++) {
		uint32_t pool = rig_below(&seed, POOLS);
		struct reg_request req;
		struct reg_lease lease;
		enum reg_status st;
		char name[32], pool_text[16], image[16];

		(void)snprintf(name, sizeof(name), "w%u-%u", who, i);
		(void)snprintf(image, sizeof(image), "image%u", rig_below(&seed, IMAGES));
		pool_name(pool_text, sizeof(pool_text), pool);
		req = rig_request(name);
		req.pool = pool_text;
		req.image = image;
		st = reg_reserve(rig->me, &req, &lease);
		if (st) {
			CHECK(st == REG_NO_POOL || st == REG_NO_CAPACITY);
			atomic_fetch_add(st == REG_NO_POOL ? &s->no_pool : &s->refused, 1);
			if (n)
				rig_delete(rig, kept[--n]);
			continue;
		}
		atomic_fetch_add(&s->got[pool], 1);
		check_place(rig, lease.sandbox, pool);
		if (i % 3 == 0 || n == KEPT) {
			CHECK_OK(reg_abort(rig->me, &lease));
			continue;
		}
		CHECK_OK(reg_starting(rig->me, &lease));
		CHECK_OK(reg_commit(rig->me, &lease, NULL));
		kept[n++] = lease.sandbox;
	}
	while (n)
		rig_delete(rig, kept[--n]);
}

/* ---- administration ---- */

/* Refusals that leave what was there: rows that wait for their grace period count as rows, and a
 * maker may stand between its two steps. */
static bool refused(enum reg_status st)
{
	return st == REG_BACKLOG || st == REG_CONFLICT || st == REG_LIMIT_POOLS ||
	       st == REG_LIMIT_AGENTS || st == REG_LIMIT_IMAGES;
}

/* Two of these, beside the one that has the agents. */
static void pools_fn(struct rig *rig, void *arg)
{
	struct shared *s = arg;
	uint64_t seed = 5 + atomic_fetch_add(&s->ready, 1);

	while (!atomic_load(&s->end)) {
		struct reg_sweep_result swept;
		enum reg_status st;
		char name[16];

		pool_name(name, sizeof(name), rig_below(&seed, POOLS));
		st = reg_pool_upsert(rig->me, "default", name);
		CHECK(st == REG_OK || refused(st));
		st = reg_pool_remove(rig->me, "default", name);
		CHECK(st == REG_OK || st == REG_IN_USE || st == REG_NO_POOL || st == REG_BACKLOG);
		st = reg_sweep(rig->me, &swept);
		CHECK(st == REG_OK || st == REG_BACKLOG);
	}
}

static enum reg_status come(struct rig *rig, uint32_t k, uint64_t *seed, reg_agent_id *ret)
{
	char name[16], pool[16], address[32];
	struct reg_agent_info info = {.ns = "default",
				      .name = name,
				      .pool = pool,
				      .address = address,
				      .capacity = (int32_t)rig_below(seed, 6) + 1};

	(void)snprintf(name, sizeof(name), "agent%c", 'a' + (int)k);
	(void)snprintf(address, sizeof(address), "unix:/%u", rig_below(seed, 1000));
	pool_name(pool, sizeof(pool), k % POOLS);
	return reg_agent_join(rig->me, &info, ret);
}

static void one_change(struct rig *rig, uint32_t k, reg_agent_id *id, uint64_t *seed)
{
	static char image[2][16];
	const char *list[] = {image[0], image[1]};
	enum reg_status st = REG_OK;

	for (int i = 0; i < 2; i++)
		(void)snprintf(image[i], sizeof(image[i]), "image%u", rig_below(seed, IMAGES));
	if (!id->gen) {
		st = come(rig, k, seed, id);
		CHECK(st == REG_OK || refused(st));
		if (!st)
			CHECK_OK(reg_agent_set_ready(rig->me, *id, true));
		return;
	}
	switch (rig_below(seed, 7)) {
	case 0:
		CHECK_OK(reg_agent_remove(rig->me, *id));
		*id = (reg_agent_id){0};
		break;
	case 1:
		CHECK_OK(reg_agent_set_capacity(rig->me, *id, (int32_t)rig_below(seed, 6)));
		break;
	case 2:
		CHECK_OK(reg_agent_set_drain(rig->me, *id, rig_below(seed, 2)));
		break;
	case 3:
		st = reg_agent_set_images(rig->me, *id, list, 2);
		break;
	case 4:
		st = reg_agent_change_images(rig->me, *id, list, 1, list + 1, 1);
		break;
	case 5:
		st = come(rig, k, seed, id);
		if (!st)
			CHECK_OK(reg_agent_set_ready(rig->me, *id, true));
		break;
	default:
		CHECK_OK(reg_agent_set_ready(rig->me, *id, rig_below(seed, 4)));
		break;
	}
	if (!refused(st))
		CHECK_OK(st);
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

static void sweep_all(struct rig *rig)
{
	struct reg_sweep_result res;

	do {
		CHECK_OK(reg_sweep(rig->me, &res));
		CHECK_OK(reg_synchronize(rig->me, 60 * NS_PER_S));
	} while (res.retired || res.reclaimed || res.backlog);
}

static void nothing_is_left(struct rig *rig)
{
	struct reg_agent_view view;
	uint32_t cursor = 0;
	char name[16];

	CHECK_EMPTY(rig);
	while (reg_agent_next(rig->me, &cursor, &view))
		CHECK_OK(reg_agent_remove(rig->me, view.id));
	sweep_all(rig);
	for (uint32_t p = 0; p < POOLS; p++) { /* upserted ones are there still */
		enum reg_status st;

		pool_name(name, sizeof(name), p);
		st = reg_pool_remove(rig->me, "default", name);
		CHECK(st == REG_OK || st == REG_NO_POOL);
	}
	sweep_all(rig);
	CHECK_EQ(rows(rig, CELLS_AGENTS), 0);
	CHECK_EQ(rows(rig, CELLS_POOLS), 0);
	CHECK_EQ(rows(rig, CELLS_IMAGES), 0);
	CHECK_EQ(rows(rig, CELLS_COLD), 0);
}

static void test_churn(void **state)
{
	struct rig *rig = *state;
	struct shared *s = rig_shared_alloc(sizeof(*s));
	uint64_t deadline = clock_mono_ns() + (rig_long() ? 60 : 2) * NS_PER_S;
	uint64_t seed = rig_seed(9), got = 0;
	reg_agent_id ids[AGENTS] = {{0}};
	pid_t pids[WORKERS + 2];
	uint32_t changes = 0;

	for (int i = 0; i < WORKERS + 2; i++)
		pids[i] = rig_fork(rig, i < WORKERS ? worker_fn : pools_fn, s);
	for (; clock_mono_ns() < deadline; changes++) {
		uint32_t k = rig_below(&seed, AGENTS);
		struct reg_sweep_result swept;
		enum reg_status st;

		one_change(rig, k, &ids[k], &seed);
		if (changes % 8 == 0) {
			st = reg_sweep(rig->me, &swept);
			CHECK(st == REG_OK || st == REG_BACKLOG);
		}
	}
	atomic_store(&s->end, 1);
	for (int i = 0; i < WORKERS + 2; i++)
		rig_join(pids[i]);
	for (int p = 0; p < POOLS; p++)
		got += atomic_load(&s->got[p]);
	print_message("%u changes, %lu reservations, %lu without capacity, %lu without pool\n",
		      changes, (unsigned long)got, (unsigned long)atomic_load(&s->refused),
		      (unsigned long)atomic_load(&s->no_pool));
	CHECK(got > 0 && atomic_load(&s->refused) > 0);
	nothing_is_left(rig);
	rig_shared_free(s, sizeof(*s));
}

/* ---- the same names, by many at once ---- */

static void interner_fn(struct rig *rig, void *arg)
{
	struct shared *s = arg;

	for (uint32_t round = rig_scaled(300); round; round--) {
		rig_barrier_wait(&s->barrier, 4);
		for (uint32_t p = 0; p < POOLS; p++) {
			char name[16];
			enum reg_status st;

			pool_name(name, sizeof(name), p);
			do /* another one may stand between two steps for a time slice or two */
				st = reg_pool_upsert(rig->me, "default", name);
			while (refused(st));
			CHECK_OK(st);
		}
		rig_barrier_wait(&s->barrier, 4);
		if (atomic_fetch_add(&s->ready, 1) % 4 == 0) {
			struct reg_pool_view view;
			struct reg_sweep_result swept;
			uint32_t cursor = 0, n = 0;

			while (reg_pool_next(rig->me, &cursor, &view))
				n++;
			CHECK_EQ(n, POOLS);
			for (uint32_t p = 0; p < POOLS; p++) {
				char name[16];

				pool_name(name, sizeof(name), p);
				CHECK_OK(reg_pool_remove(rig->me, "default", name));
			}
			CHECK_OK(reg_synchronize(rig->me, 60 * NS_PER_S));
			CHECK_OK(reg_sweep(rig->me, &swept));
		}
	}
}

static void test_many_interners(void **state)
{
	struct rig *rig = *state;
	struct shared *s = rig_shared_alloc(sizeof(*s));
	pid_t pids[4];

	for (int i = 0; i < 4; i++)
		pids[i] = rig_fork(rig, interner_fn, s);
	for (int i = 0; i < 4; i++)
		rig_join(pids[i]);
	nothing_is_left(rig);
	rig_shared_free(s, sizeof(*s));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_churn, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_many_interners, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
