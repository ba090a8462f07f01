/* SPDX-License-Identifier: Apache-2.0 */
/* Participants: join, leave, the limit, who is alive and who is reaped, the owner role, and the
 * arena's own identity. */
#include "rig.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static uint32_t count_parts(struct rig *rig, uint32_t *ret_alive)
{
	struct reg_participant part;
	uint32_t cursor = 0, n = 0;

	*ret_alive = 0;
	while (reg_participant_next(rig->me, &cursor, &part)) {
		CHECK(part.idx < REG_PARTICIPANTS_MAX);
		*ret_alive += part.alive;
		n++;
	}
	return n;
}

static uint32_t reap(struct rig *rig)
{
	struct reg_reap_result result;

	CHECK_OK(reg_reap(rig->me, rig_abort_orphan, rig, &result));
	return result.participants;
}

static void test_join_and_leave(void **state)
{
	struct rig *rig = *state;
	struct reg_self *selves[REG_PARTICIPANTS_MAX], *one_more = NULL;
	struct reg_participant part;
	uint32_t alive, cursor = 0, idx;

	CHECK_EQ(count_parts(rig, &alive), 1);
	CHECK(reg_participant_next(rig->me, &cursor, &part));
	CHECK_EQ(part.idx, reg_self_idx(rig->me));
	CHECK_EQ(part.pid, getpid());
	CHECK_EQ(part.kind, REG_KIND_TOOL);
	CHECK(reg_self_reg(rig->me) == rig->reg);
	for (int i = 1; i < REG_PARTICIPANTS_MAX; i++) {
		CHECK_OK(reg_join(rig->reg, REG_KIND_WORKER, &selves[i]));
		for (int j = 1; j < i; j++)
			CHECK(reg_self_idx(selves[j]) != reg_self_idx(selves[i]));
	}
	CHECK_ST(reg_join(rig->reg, REG_KIND_WORKER, &one_more), REG_LIMIT_PARTICIPANTS);
	CHECK(!one_more);
	CHECK_EQ(count_parts(rig, &alive), REG_PARTICIPANTS_MAX);
	CHECK_EQ(alive, REG_PARTICIPANTS_MAX);
	CHECK_EQ(reap(rig), 0); /* our own are alive although our own locks look free to us */
	idx = reg_self_idx(selves[77]);
	CHECK(!reg_leave(selves[77]));
	CHECK_OK(reg_join(rig->reg, REG_KIND_CRDSYNC, &selves[77]));
	CHECK_EQ(reg_self_idx(selves[77]), idx);
	for (int i = 1; i < REG_PARTICIPANTS_MAX; i++)
		(void)reg_leave(selves[i]);
	CHECK_EQ(count_parts(rig, &alive), 1);
	CHECK(!reg_leave(NULL));
	CHECK(!reg_detach(NULL));
}

static void counters_fn(struct rig *rig, void *arg)
{
	struct reg_request req = rig_request("one");
	struct reg_lease lease;

	CHECK_OK(reg_reserve(rig->me, &req, &lease));
	CHECK_ST(reg_reserve(rig->me, &req, &lease), REG_NAME_EXISTS);
	lease.sandbox = (reg_sandbox_id){0, 0};
	*(uint32_t *)arg = reg_self_idx(rig->me);
	(void)raise(SIGKILL);
}

static void test_dead_are_reaped(void **state)
{
	struct rig *rig = *state;
	uint32_t *idx = rig_shared_alloc(sizeof(*idx)), alive, incarnation = 0;
	struct reg_participant part;
	struct reg_reap_result result;

	(void)rig_agent(rig, "a", 1);
	for (int round = 0; round < 5; round++) {
		uint32_t cursor = 0;

		CHECK(rig_join_killed(rig_fork(rig, counters_fn, idx)));
		CHECK_EQ(count_parts(rig, &alive), 2);
		CHECK_EQ(alive, 1);
		while (reg_participant_next(rig->me, &cursor, &part))
			if (part.idx == *idx)
				break;
		CHECK_EQ(part.idx, *idx);
		CHECK(!part.alive);
		CHECK_EQ(part.kind, REG_KIND_WORKER);
		CHECK_EQ(part.reserved, 1);
		CHECK_EQ(part.refused, 1);
		CHECK(part.incarnation > incarnation || round == 0);
		incarnation = part.incarnation;
		CHECK_OK(reg_reap(rig->me, rig_abort_orphan, rig, &result));
		CHECK_EQ(result.participants, 1);
		CHECK_EQ(result.released, 1);
		CHECK_EQ(result.orphans, 0);
		CHECK_EQ(count_parts(rig, &alive), 1);
		CHECK_EMPTY(rig);
	}
	rig_shared_free(idx, sizeof(*idx));
}

/* Many dead at once; joiners take other lines meanwhile. */
static void die_fn(struct rig *rig, void *arg)
{
	(void)rig;
	(void)arg;
	(void)raise(SIGKILL);
}

static void test_many_dead(void **state)
{
	struct rig *rig = *state;
	uint32_t alive;

	for (int i = 0; i < 40; i++)
		CHECK(rig_join_killed(rig_fork(rig, die_fn, NULL)));
	CHECK_EQ(count_parts(rig, &alive), 41);
	CHECK_EQ(alive, 1);
	CHECK_EQ(reap(rig), 40);
	CHECK_EQ(reap(rig), 0);
	CHECK_EQ(count_parts(rig, &alive), 1);
}

/* ---- a living one is never reaped, also when it is stopped ---- */
static void stopped_fn(struct rig *rig, void *arg)
{
	struct reg_request req = rig_request("one");
	struct reg_lease lease;

	(void)arg;
	CHECK_OK(reg_reserve(rig->me, &req, &lease));
	(void)kill(getpid(), SIGSTOP);
	CHECK_OK(reg_starting(rig->me, &lease));
	(void)kill(getpid(), SIGSTOP);
	CHECK_OK(reg_commit(rig->me, &lease, &(struct reg_started){0}));
}

static void reap_fn(struct rig *rig, void *arg)
{
	(void)arg;
	CHECK_EQ(reap(rig), 0);
}

static void test_stopped_is_alive(void **state)
{
	struct rig *rig = *state;
	struct reg_sandbox_view view;
	uint32_t alive;
	pid_t pid;

	(void)rig_agent(rig, "a", 1);
	pid = rig_fork(rig, stopped_fn, NULL);
	for (int i = 0; i < 2; i++) {
		CHECK(rig_join_stopped(pid));
		CHECK_EQ(reap(rig), 0);
		rig_join(rig_fork(rig, reap_fn, NULL));
		CHECK_EQ(count_parts(rig, &alive), 2);
		CHECK_EQ(alive, 2);
		(void)kill(pid, SIGCONT);
	}
	rig_join(pid);
	CHECK_OK(reg_get(rig->me, "default", "one", &view));
	CHECK_EQ(view.state, REG_RUNNING);
	rig_delete_all(rig);
	CHECK_EMPTY(rig);
}

/* Whoever left in order but forgot something: that stays under its index until it is reaped. */
static void forgetful_fn(struct rig *rig, void *arg)
{
	struct reg_request req = rig_request("one");
	struct reg_lease lease;

	(void)arg;
	CHECK_OK(reg_reserve(rig->me, &req, &lease));
}

static void test_left_with_something(void **state)
{
	struct rig *rig = *state;
	struct reg_self *other;

	(void)rig_agent(rig, "a", 1);
	rig_join(rig_fork(rig, forgetful_fn, NULL));
	CHECK_OK(reg_join(rig->reg, REG_KIND_WORKER, &other)); /* does not inherit it */
	(void)reap(rig);
	CHECK_EMPTY(rig);
	(void)reg_leave(other);
	rig_check_free_slots(rig, "pool", 1);
}

/* Reapers race each other and joiners; each dead one is reaped exactly once. */
struct shared {
	struct rig_barrier barrier;
	_Atomic uint32_t reaped;
};

static void racing_fn(struct rig *rig, void *arg)
{
	struct shared *shared = arg;

	for (int i = 0; i < 20; i++) {
		rig_barrier_wait(&shared->barrier, 4);
		atomic_fetch_add_explicit(&shared->reaped, reap(rig), memory_order_relaxed);
		rig_barrier_wait(&shared->barrier, 4);
	}
	rig_barrier_wait(&shared->barrier, 4); /* counted, may leave */
}

static void test_reapers_race(void **state)
{
	struct rig *rig = *state;
	struct shared *shared = rig_shared_alloc(sizeof(*shared));
	uint32_t *idx = rig_shared_alloc(sizeof(*idx)), alive;
	uint32_t reaped = 0;
	pid_t pids[3];

	(void)rig_agent(rig, "a", 8);
	for (int i = 0; i < 3; i++)
		pids[i] = rig_fork(rig, racing_fn, shared);
	for (int i = 0; i < 20; i++) {
		for (int n = 0; n < 3; n++)
			CHECK(rig_join_killed(rig_fork(rig, n ? die_fn : counters_fn, idx)));
		rig_barrier_wait(&shared->barrier, 4); /* they reap now */
		rig_barrier_wait(&shared->barrier, 4);
		reaped += reap(rig);
		CHECK_EQ(count_parts(rig, &alive), 4);
		CHECK_EMPTY(rig);
	}
	CHECK_EQ(reaped + shared->reaped, 60); /* each dead one once */
	rig_barrier_wait(&shared->barrier, 4);
	for (int i = 0; i < 3; i++)
		rig_join(pids[i]);
	rig_shared_free(shared, sizeof(*shared));
	rig_shared_free(idx, sizeof(*idx));
}

/* ---- the owner and the arena ---- */
static void own_fn(struct rig *rig, void *arg)
{
	CHECK_ST(reg_own(rig->reg), *(enum reg_status *)arg);
	CHECK_EQ(reg_epoch_bump(rig->reg, 1) == REG_OK, *(enum reg_status *)arg == REG_OK);
}

static void own_and_stop_fn(struct rig *rig, void *arg)
{
	(void)arg;
	CHECK_OK(reg_own(rig->reg));
	(void)kill(getpid(), SIGSTOP);
}

static void test_owner(void **state)
{
	struct rig rig = {0};
	enum reg_status in_use = REG_IN_USE, ok = REG_OK;
	uint64_t epoch;
	pid_t pid;

	(void)state;
	rig_open(&rig, &rig_limits); /* the creator owns it */
	epoch = reg_epoch(rig.reg);
	rig_join(rig_fork(&rig, own_fn, &in_use));
	CHECK_OK(reg_own(rig.reg)); /* again is fine */
	CHECK_OK(reg_epoch_bump(rig.reg, 0));
	CHECK(reg_epoch(rig.reg) > epoch);
	CHECK_OK(reg_epoch_bump(rig.reg, 1000));
	CHECK(reg_epoch(rig.reg) >= 1000);
	(void)reg_leave(rig.me);
	(void)reg_detach(rig.reg); /* gives the role up */
	rig_join(rig_fork(&rig, own_fn, &ok));
	pid = rig_fork(&rig, own_and_stop_fn, NULL);
	CHECK(rig_join_stopped(pid));
	rig_join(rig_fork(&rig, own_fn, &in_use));
	rig_end(pid);
	rig_join(rig_fork(&rig, own_fn, &ok)); /* its death gives it up, too */
	CHECK_OK(reg_attach(rig.path, &rig.reg));
	CHECK_OK(reg_join(rig.reg, REG_KIND_TOOL, &rig.me));
	CHECK_EQ(reap(&rig), 1);
	rig_close(&rig);
}

static void test_identity(void **state)
{
	struct rig rig = {0};
	struct reg_limits limits = rig_limits, got;
	struct reg *again = NULL;
	char instance[64], path[128];

	(void)state;
	rig_open(&rig, &limits);
	reg_limits_get(rig.reg, &got);
	CHECK_EQ(got.agents, limits.agents);
	CHECK_EQ(got.sandboxes, limits.sandboxes);
	CHECK_EQ(got.pools, limits.pools);
	CHECK_EQ(got.images, limits.images);
	CHECK_EQ(got.slots_per_agent_unlimited, limits.slots_per_agent_unlimited);
	CHECK(reg_bytes_allocated(rig.reg) > 0);
	CHECK(reg_created_unix_ns(rig.reg) > 0);
	CHECK_EQ(strlen(reg_instance(rig.reg)), 32);
	(void)snprintf(instance, sizeof(instance), "%s", reg_instance(rig.reg));
	(void)snprintf(path, sizeof(path), "%s", rig.path);
	CHECK(reg_is_current(rig.reg));
	CHECK(reg_create(rig.path, &limits, &again) != REG_OK); /* it exists */
	CHECK(!again);
	CHECK(reg_is_current(rig.reg));
	CHECK_EQ(unlink(rig.path), 0);
	CHECK(!reg_is_current(rig.reg));
	rig_close(&rig);
	rig_path(&rig);
	(void)snprintf(rig.path, sizeof(rig.path), "%s", path);
	CHECK_OK(reg_create(rig.path, &limits, &rig.reg));
	CHECK(strcmp(instance, reg_instance(rig.reg)) != 0);
	CHECK(reg_is_current(rig.reg));
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_join_and_leave, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_dead_are_reaped, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_many_dead, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_stopped_is_alive, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_left_with_something, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_reapers_race, rig_setup, rig_teardown),
		cmocka_unit_test(test_owner),
		cmocka_unit_test(test_identity),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
