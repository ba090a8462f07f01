/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two processes at one thing, as fast as they can: no refusal that was never true, no copy of what
 * is gone, no row undone by who was second.
 */
#include "rig.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct race {
	struct rig_barrier barrier;
	_Atomic uint64_t handle; /* idx << 32 | gen */
	_Atomic bool done;
	uint32_t rounds;
	const char *name;
};

static struct race *race_new(uint32_t rounds)
{
	struct race *race = rig_shared_alloc(sizeof(*race));

	race->rounds = rig_scaled(rounds);
	return race;
}

/* ---- a free slot is found while its agent's images change ---- */
static void images_fn(struct rig *rig, void *arg)
{
	struct race *race = arg;
	reg_agent_id a;

	CHECK_OK(reg_agent_find(rig->me, "default", "a", &a));
	for (uint32_t i = 0; !race->done; i++)
		rig_images(rig, a, i % 2 ? "img" : NULL);
}

static void test_images_change(void **state)
{
	struct rig *rig = *state;
	struct race *race = race_new(300000);
	struct reg_request req = rig_request("placed");
	struct reg_lease lease;
	pid_t pid;

	rig_images(rig, rig_agent(rig, "a", 1), "img"); /* the row exists */
	pid = rig_fork(rig, images_fn, race);
	for (uint32_t i = 0; i < race->rounds; i++) {
		CHECK_OK(reg_reserve(rig->me, &req, &lease));
		CHECK_OK(reg_abort(rig->me, &lease));
	}
	race->done = true;
	rig_join(pid);
	CHECK_EMPTY(rig);
	rig_shared_free(race, sizeof(*race));
}

/* ---- a spec is whole or stale ---- */
static void spec_reader_fn(struct rig *rig, void *arg)
{
	struct race *race = arg;
	char buf[8];
	uint32_t len;

	while (!race->done) {
		uint64_t h = race->handle;
		reg_sandbox_id id = {(uint32_t)(h >> 32), (uint32_t)h};

		memset(buf, 'x', sizeof(buf));
		if (h && reg_spec(rig->me, id, buf, sizeof(buf), &len) == REG_OK) {
			CHECK_EQ(len, 4);
			CHECK(memcmp(buf, "spec", 4) == 0);
		}
	}
}

static void test_spec_of_what_goes(void **state)
{
	struct rig *rig = *state;
	struct race *race = race_new(300000);
	struct reg_request req = rig_request("read");
	struct reg_lease lease;
	pid_t pid;

	(void)rig_agent(rig, "a", 1);
	pid = rig_fork(rig, spec_reader_fn, race);
	for (uint32_t i = 0; i < race->rounds; i++) {
		CHECK_OK(reg_reserve(rig->me, &req, &lease));
		race->handle = (uint64_t)lease.sandbox.idx << 32 | lease.sandbox.gen;
		CHECK_OK(reg_abort(rig->me, &lease));
	}
	race->done = true;
	rig_join(pid);
	rig_shared_free(race, sizeof(*race));
}

/* ---- a request id is compared with its own request ---- */
static void same_request(struct rig *rig, const char *name, uint32_t rounds)
{
	for (uint32_t i = 0; i < rounds; i++) {
		struct reg_request req = rig_request(name), other = rig_request("other");
		enum reg_status st;
		struct reg_lease lease;

		req.request_id = "the same";
		req.request_hash = 1;
		st = reg_reserve(rig->me, &req, &lease);
		CHECK(st == REG_OK || st == REG_REQUEST_SEEN);
		if (!st)
			CHECK_OK(reg_abort(rig->me, &lease));
		other.request_hash = 2; /* the record again, with another hash */
		other.name = st ? "b" : "c";
		if (!reg_reserve(rig->me, &other, &lease))
			CHECK_OK(reg_abort(rig->me, &lease));
	}
}

static void same_request_fn(struct rig *rig, void *arg)
{
	same_request(rig, "n2", ((struct race *)arg)->rounds);
}

static void test_request_hash(void **state)
{
	struct rig *rig = *state;
	struct race *race = race_new(200000);
	pid_t pid;

	(void)rig_agent(rig, "a", 8);
	pid = rig_fork(rig, same_request_fn, race);
	same_request(rig, "n1", race->rounds);
	rig_join(pid);
	CHECK_EMPTY(rig);
	rig_shared_free(race, sizeof(*race));
}

/* ---- rows: the store's loader and an agent's join meet in a new arena ---- */
static void loader_fn(struct rig *rig, void *arg)
{
	struct race *race = arg;
	char agent[32], name[32], pool[32];

	for (uint32_t i = 0; i < race->rounds; i++) {
		struct reg_restore restore = {.req = rig_request(name),
					      .state = REG_RESTORED,
					      .agent_name = agent,
					      .from_store = true};
		reg_sandbox_id id;

		(void)snprintf(agent, sizeof(agent), "agent-%u", i);
		(void)snprintf(name, sizeof(name), "name-%u", i);
		(void)snprintf(pool, sizeof(pool), "pool-%u", i);
		restore.req.pool = pool;
		rig_barrier_wait(&race->barrier, 2);
		CHECK_OK(reg_insert(rig->me, &restore, &id));
	}
}

static void test_rows_made_twice(void **state)
{
	/* room for the rounds of a long run */
	static const struct reg_limits limits = {
		.agents = 65536, .sandboxes = 65536, .pools = 65536};
	struct rig rig;
	struct race *race = race_new(3000);
	char agent[32], pool[32];
	pid_t pid;

	(void)state;
	rig_open(&rig, &limits);
	pid = rig_fork(&rig, loader_fn, race);
	for (uint32_t i = 0; i < race->rounds; i++) {
		struct reg_agent_view view;
		struct reg_request req = rig_request("probe");
		struct reg_lease lease;
		reg_agent_id a;

		(void)snprintf(agent, sizeof(agent), "agent-%u", i);
		(void)snprintf(pool, sizeof(pool), "pool-%u", i);
		req.pool = pool;
		rig_barrier_wait(&race->barrier, 2);
		a = rig_agent_in(&rig, agent, pool, 1);
		CHECK_OK(reg_reserve(rig.me, &req, &lease));
		CHECK_EQ(lease.agent.idx, a.idx);
		CHECK_OK(reg_agent_get(rig.me, a, &view));
		CHECK_STR(view.address, "unix:/nowhere");
		CHECK_STR(view.pool, pool);
		CHECK_OK(reg_abort(rig.me, &lease));
	}
	rig_join(pid);
	for (uint32_t i = 0; i < race->rounds; i++) {
		struct reg_agent_view view;
		reg_agent_id a;

		(void)snprintf(agent, sizeof(agent), "agent-%u", i);
		CHECK_OK(reg_agent_find(rig.me, "default", agent, &a));
		CHECK_OK(reg_agent_get(rig.me, a, &view));
		CHECK_STR(view.address, "unix:/nowhere");
	}
	rig_close(&rig);
	rig_shared_free(race, sizeof(*race));
}

/* ---- alone ---- */
static void test_found_without_a_slot(void **state)
{
	struct rig *rig = *state;
	struct reg_restore restore = {
		.req = rig_request("r"), .state = REG_LOST, .agent_name = "a"};
	struct reg_sandbox_view view;
	reg_agent_id a = rig_agent(rig, "a", 1);
	reg_sandbox_id id;

	CHECK_OK(reg_insert(rig->me, &restore, &id));
	CHECK_OK(reg_found(rig->me, id));
	CHECK_OK(reg_view(rig->me, id, &view));
	CHECK_EQ(view.state, REG_RUNNING);
	CHECK_EQ(view.agent.idx, a.idx);
	CHECK(view.slot != UINT32_MAX);
	CHECK_SOUND(rig);
	rig_delete_all(rig);
	CHECK_EMPTY(rig);
}

static void test_create_after_a_death(void **state)
{
	struct rig rig;
	char tmp[192];
	FILE *left;

	(void)state;
	rig_path(&rig);
	(void)snprintf(tmp, sizeof(tmp), "%s.tmp-%d", rig.path, getpid());
	left = fopen(tmp, "w"); /* of a former process with this number */
	CHECK(left && !fclose(left));
	CHECK_OK(reg_create(rig.path, &rig_limits, &rig.reg));
	rig_close(&rig);
	(void)unlink(tmp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_images_change, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_spec_of_what_goes, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_request_hash, rig_setup, rig_teardown),
		cmocka_unit_test(test_rows_made_twice),
		cmocka_unit_test_setup_teardown(test_found_without_a_slot, rig_setup, rig_teardown),
		cmocka_unit_test(test_create_after_a_death),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
