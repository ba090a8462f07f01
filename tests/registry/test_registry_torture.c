/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers look for poison: they stay in a read section with an agent's cold record and a pool's
 * name while others replace, retire and reclaim these as fast as they can. Built a second time
 * without the wait for grace periods, where a reader must meet poison, or this test shows nothing.
 */
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "internal.h"
#include "rig.h"

enum { READERS = 2 };

struct shared {
	_Atomic uint32_t end, met;
	_Atomic uint64_t sections;
};

/* "n17" in each text: of one record, and the same at each look. */
static bool whole(const struct reg_agent_cold *cold)
{
	char node[256], address[256], host[64];

	reg__row_text(node, sizeof(node), cold->node);
	reg__row_text(address, sizeof(address), cold->address);
	reg__row_text(host, sizeof(host), cold->host_ip);
	return node[0] == 'n' && !strcmp(node, address) && !strcmp(node, host);
}

static bool look_at_cold(struct rig *rig, const struct reg_agent *a)
{
	const struct reg_agent_cold *cold = reg__cold_read(rig->reg, a);
	char before[256], after[256];
	bool good = cold && whole(cold);

	if (!cold)
		return true;
	reg__row_text(before, sizeof(before), cold->node);
	for (int i = 0; i < 40 && good; i++) {
		reg__pause();
		good = whole(cold);
	}
	reg__row_text(after, sizeof(after), cold->node);
	return good && !strcmp(before, after);
}

static bool look_at_pools(struct rig *rig)
{
	uint32_t high = reg__cells_high(rig->reg, CELLS_POOLS);
	char name[256];

	for (uint32_t i = 0; i < high; i++) {
		if (reg__row_now(rig->reg, CELLS_POOLS, i).idx == REG_NIL)
			continue;
		for (int n = 0; n < 20; n++) {
			reg__row_text(name, sizeof(name), reg__pool(rig->reg, i)->name);
			if (strncmp(name, "pool", 4) != 0)
				return false;
		}
	}
	return true;
}

static void reader_fn(struct rig *rig, void *arg)
{
	struct shared *s = arg;
	reg_agent_id id;

	CHECK_OK(reg_agent_find(rig->me, "default", "a", &id));
	while (!atomic_load(&s->end)) {
		reg__read_lock();
		bool good = look_at_cold(rig, reg__agent(rig->reg, id.idx)) && look_at_pools(rig);

		reg__read_unlock();
		atomic_fetch_add(&s->sections, 1);
		if (!good) {
			atomic_fetch_add(&s->met, 1);
			atomic_store(&s->end, 1);
		}
	}
}

static void replace(struct rig *rig, uint32_t n)
{
	char text[32];
	struct reg_agent_info info = {.ns = "default",
				      .name = "a",
				      .pool = "pool",
				      .node = text,
				      .address = text,
				      .host_ip = text,
				      .capacity = 1};
	reg_agent_id id;
	enum reg_status st;

	(void)snprintf(text, sizeof(text), "n%u", n);
	while ((st = reg_agent_join(rig->me, &info, &id)) == REG_BACKLOG)
		CHECK_OK(reg_synchronize(rig->me, 60 * NS_PER_S));
	CHECK_OK(st);
}

static void come_and_go(struct rig *rig, uint32_t n)
{
	struct reg_sweep_result swept;
	char name[16];
	enum reg_status st;

	(void)snprintf(name, sizeof(name), "pool%u", n % 3);
	/* the rows wait for their grace period */
	while ((st = reg_pool_upsert(rig->me, "default", name)) == REG_LIMIT_POOLS)
		CHECK_OK(reg_synchronize(rig->me, 60 * NS_PER_S));
	CHECK_OK(st);
	while ((st = reg_pool_remove(rig->me, "default", name)) == REG_BACKLOG)
		CHECK_OK(reg_synchronize(rig->me, 60 * NS_PER_S));
	CHECK_OK(st);
	if (n % 4 == 0)
		CHECK_OK(reg_sweep(rig->me, &swept));
}

static void test_torture(void **state)
{
	struct rig *rig = *state;
	struct shared *s = rig_shared_alloc(sizeof(*s));
	uint64_t deadline = clock_mono_ns() + (rig_long() ? 60 : 2) * NS_PER_S;
	pid_t pids[READERS];
	uint32_t n = 0;

	replace(rig, 0);
	for (int i = 0; i < READERS; i++)
		pids[i] = rig_fork(rig, reader_fn, s);
	while (!atomic_load(&s->sections))
		(void)sched_yield();
	for (; clock_mono_ns() < deadline && !atomic_load(&s->end); n++) {
		replace(rig, n + 1);
		come_and_go(rig, n);
	}
	atomic_store(&s->end, 1);
	for (int i = 0; i < READERS; i++)
		rig_join(pids[i]);
	print_message("%u replaced, %lu read sections\n", n,
		      (unsigned long)atomic_load(&s->sections));
	if (atomic_load(&s->met))
		print_message("a reader met poison\n");
	CHECK_EQ(atomic_load(&s->met), 0);
	rig_shared_free(s, sizeof(*s));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_torture, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
