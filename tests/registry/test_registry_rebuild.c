/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After the arena was lost: records come back from the store and from the agents, in either order,
 * also beyond an agent's capacity, and every field survives.
 */
#include "rig.h"

#include <stdio.h>
#include <string.h>

/* Kept in whole ms after the creation in rig_request. */
#define FINISHED INT64_C(1700000003125000000)

static struct reg_restore restore_of(const char *name, enum reg_state state)
{
	struct reg_restore restore = {.req = rig_request(name),
				      .state = state,
				      .agent_name = "a",
				      .generation = 3,
				      .started_unix_ns = 44,
				      .from_store = true};

	return restore;
}

static void test_fields(void **state)
{
	struct rig *rig = *state;
	struct reg_restore restore = restore_of("one", REG_EXITED);
	struct reg_sandbox_view view;
	struct reg_lease lease;
	uint16_t ports[2] = {443, 80};
	reg_sandbox_id id, other;
	char buf[16];
	uint32_t len;

	restore.req.request_id = "r";
	restore.req.request_hash = 12;
	restore.req.ports = ports;
	restore.req.port_count = 2;
	restore.req.labels = "lab";
	restore.req.labels_len = 3;
	restore.req.expire_unix_s = 5;
	restore.req.policy = REG_AUTO_RECREATE;
	restore.req.recovery_timeout_s = 6;
	restore.req.consistency = REG_STRONG;
	restore.exit =
		(struct reg_exit){.code = 7, .oom_killed = true, .finished_unix_ns = FINISHED};
	restore.message = "from the store";
	CHECK_OK(reg_insert(rig->me, &restore, &id));
	CHECK_OK(reg_get(rig->me, "default", "one", &view));
	CHECK_EQ(view.sandbox.idx, id.idx);
	CHECK_EQ(view.sandbox.gen, id.gen);
	CHECK_EQ(view.state, REG_EXITED);
	CHECK_EQ(view.owner, UINT32_MAX);
	CHECK_EQ(view.exit.code, 7);
	CHECK(view.exit.oom_killed);
	CHECK_EQ(view.exit.finished_unix_ns, FINISHED);
	CHECK_EQ(view.generation, 3);
	CHECK_EQ(view.started_unix_ns, 44);
	CHECK_EQ(view.expire_unix_s, 5);
	CHECK_EQ(view.policy, REG_AUTO_RECREATE);
	CHECK_EQ(view.recovery_timeout_s, 6);
	CHECK_EQ(view.consistency, REG_STRONG);
	CHECK_EQ(view.request_hash, 12);
	CHECK_EQ(view.port_count, 2);
	CHECK_EQ(view.ports[0], 443);
	CHECK_STR(view.message, "from the store");
	CHECK_STR(view.request_id, "r");
	CHECK_STR(view.pool, "pool"); /* although no agent has named it yet */
	CHECK_OK(reg_labels(rig->me, id, buf, sizeof(buf), &len));
	CHECK_EQ(len, 3);
	CHECK_EQ(reg_dirty_count(rig->reg), 0); /* stored already */
	CHECK_EQ(view.stored_revision, view.revision);
	CHECK_ST(reg_insert(rig->me, &restore, &other), REG_NAME_EXISTS);
	(void)rig_agent(rig, "a", 1);
	restore.req.name = "two"; /* the request id still works */
	CHECK_ST(reg_reserve(rig->me, &restore.req, &lease), REG_REQUEST_SEEN);
	CHECK_EQ(lease.sandbox.idx, id.idx);
	rig_delete(rig, id);
	CHECK_OK(reg_view(rig->me, id, &view));
	CHECK_EQ(view.state, REG_GONE); /* the store holds it */
	CHECK_EQ(rig_store_run(rig), 1);
	CHECK_EMPTY(rig);
}

static void test_states(void **state)
{
	struct rig *rig = *state;
	static const enum reg_state good[] = {REG_RESTORED, REG_EXITED, REG_EXPIRED, REG_LOST};
	static const enum reg_state bad[] = {REG_FREE,	  REG_CLAIMED,	REG_RESERVED, REG_STARTING,
					     REG_RUNNING, REG_STOPPING, REG_GONE};
	struct reg_restore restore;
	reg_sandbox_id id;

	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		restore = restore_of("one", good[i]);
		restore.from_store = false;
		restore.agent_name = i % 2 ? "" : NULL;
		CHECK_OK(reg_insert(rig->me, &restore, &id));
		CHECK_EQ(rig_state(rig, id), good[i]);
		CHECK_EQ(reg_dirty_count(rig->reg), 1); /* not from the store */
		rig_delete(rig, id);
		(void)rig_store_run(rig);
	}
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		restore = restore_of("one", bad[i]);
		CHECK_ST(reg_insert(rig->me, &restore, &id), REG_INVALID);
	}
	CHECK_EMPTY(rig);
}

static void test_adopt(void **state)
{
	struct rig *rig = *state;
	struct reg_restore restore = restore_of("one", REG_RESTORED);
	reg_agent_id a = rig_agent(rig, "a", 2);
	struct reg_sandbox_view view;
	struct reg_request req = rig_request("two");
	struct reg_lease lease;
	uint16_t port = 80;
	reg_sandbox_id id;

	restore.req.ports = req.ports = &port;
	restore.req.port_count = req.port_count = 1;
	CHECK_OK(reg_insert(rig->me, &restore, &id));
	CHECK_OK(reg_view(rig->me, id, &view));
	CHECK_EQ(view.agent.idx, a.idx); /* where it was; no slot yet: */
	rig_check_free_slots(rig, "pool", 2);
	CHECK_OK(reg_adopt(rig->me, id, a));
	CHECK_OK(reg_adopt(rig->me, id, a)); /* again: it runs there already */
	CHECK_OK(reg_view(rig->me, id, &view));
	CHECK_EQ(view.state, REG_RUNNING);
	CHECK_EQ(view.agent.idx, a.idx);
	CHECK_EQ(view.generation, 3);
	CHECK_SOUND(rig);
	CHECK_ST(reg_reserve(rig->me, &req, &lease), REG_PORT_CONFLICT); /* it has its port */
	rig_check_free_slots(rig, "pool", 1);
	CHECK_OK(reg_lost(rig->me, id, "x"));
	CHECK_OK(reg_adopt(rig->me, id, a)); /* LOST, with its slot still held: the same one */
	CHECK_EQ(rig_state(rig, id), REG_RUNNING);
	rig_check_free_slots(rig, "pool", 1);
	rig_delete(rig, id);
	rig_check_free_slots(rig, "pool", 2);
	(void)rig_store_run(rig);
	CHECK_EMPTY(rig);
}

/* Nothing that runs is ever without a slot, also when the agent has fewer than it runs. */
static void test_beyond_capacity(void **state)
{
	struct rig *rig = *state;
	reg_agent_id a = rig_agent(rig, "a", 2);
	struct reg_agent_view agent;
	struct reg_books books;
	reg_sandbox_id ids[10];
	char name[16];

	for (int i = 0; i < 10; i++) {
		struct reg_restore restore;

		(void)snprintf(name, sizeof(name), "n%d", i);
		restore = restore_of(name, REG_RESTORED);
		CHECK_OK(reg_insert(rig->me, &restore, &ids[i]));
		CHECK_OK(reg_adopt(rig->me, ids[i], a));
	}
	reg_books(rig->me, &books);
	CHECK_EQ(books.contradictions, 0);
	CHECK_EQ(books.slots_held, 10);
	CHECK_OK(reg_agent_get(rig->me, a, &agent));
	CHECK_EQ(agent.allocated, 10);
	CHECK_EQ(agent.slots, 2);
	rig_check_free_slots(rig, "pool", 0);
	for (int i = 9; i >= 2; i--) /* the last ones first: the first two slots stay taken */
		rig_delete(rig, ids[i]);
	rig_check_free_slots(rig, "pool", 0);
	rig_delete(rig, ids[1]);
	rig_delete(rig, ids[0]);
	rig_check_free_slots(rig, "pool", 2);
	(void)rig_store_run(rig);
	CHECK_EMPTY(rig);
}

static void test_delete_while_restored(void **state)
{
	struct rig *rig = *state;
	struct reg_restore restore = restore_of("one", REG_RESTORED);
	reg_agent_id a = rig_agent(rig, "a", 2);
	struct reg_sandbox_view view;
	enum reg_state prior;
	reg_sandbox_id id;

	CHECK_OK(reg_insert(rig->me, &restore, &id));
	CHECK_OK(reg_stop(rig->me, id, REG_STOP_DELETE, &prior));
	CHECK_EQ(prior, REG_RESTORED);
	CHECK_OK(reg_view(rig->me, id, &view));
	CHECK(view.deleting);
	CHECK_ST(reg_adopt(rig->me, id, a), REG_DELETING);
	CHECK_EQ(rig_state(rig, id), REG_STOPPING);
	CHECK_OK(reg_stopped(rig->me, id, NULL));
	CHECK_EQ(rig_state(rig, id), REG_GONE);
	(void)rig_store_run(rig);
	/* its agent never comes back: LOST, then asked again */
	CHECK_OK(reg_insert(rig->me, &restore, &id));
	CHECK_OK(reg_stop(rig->me, id, REG_STOP_DELETE, NULL));
	CHECK_OK(reg_lost(rig->me, id, "not reported"));
	CHECK_OK(reg_stop(rig->me, id, REG_STOP_DELETE, NULL));
	CHECK_OK(reg_stopped(rig->me, id, NULL));
	(void)rig_store_run(rig);
	/* or reports its exit */
	CHECK_OK(reg_insert(rig->me, &restore, &id));
	CHECK_OK(reg_exited(rig->me, id, &(struct reg_exit){.code = 3}));
	CHECK_OK(reg_view(rig->me, id, &view));
	CHECK_EQ(view.state, REG_EXITED);
	CHECK_EQ(view.exit.code, 3);
	rig_delete(rig, id);
	(void)rig_store_run(rig);
	CHECK_EMPTY(rig);
}

/* What an agent reports and the store does not know: inserted as RESTORED and adopted; it is dirty.
 */
static void test_unknown_to_the_store(void **state)
{
	struct rig *rig = *state;
	struct reg_restore restore = restore_of("one", REG_RESTORED);
	reg_agent_id a = rig_agent(rig, "a", 2);
	reg_sandbox_id id;

	restore.from_store = false;
	CHECK_OK(reg_insert(rig->me, &restore, &id));
	CHECK_OK(reg_adopt(rig->me, id, a));
	CHECK_EQ(rig_store_run(rig), 1);
	CHECK(!reg_store_loaded(rig->reg));
	reg_store_loaded_set(rig->reg);
	CHECK(reg_store_loaded(rig->reg));
	rig_delete(rig, id);
	(void)rig_store_run(rig);
	CHECK_EMPTY(rig);
}

static void test_adopt_refused(void **state)
{
	struct rig *rig = *state;
	reg_agent_id a = rig_agent(rig, "a", 2), none = {50}, far = {UINT32_MAX};
	struct reg_restore restore = restore_of("one", REG_RESTORED);
	struct reg_request req = rig_request("two");
	struct reg_lease lease;
	reg_sandbox_id id;

	CHECK_OK(reg_insert(rig->me, &restore, &id));
	CHECK_ST(reg_adopt(rig->me, id, none), REG_NOT_FOUND);
	CHECK_ST(reg_adopt(rig->me, id, far), REG_NOT_FOUND);
	CHECK_EQ(rig_state(rig, id), REG_RESTORED);
	CHECK_OK(reg_reserve(rig->me, &req, &lease));
	CHECK_ST(reg_adopt(rig->me, lease.sandbox, a), REG_BAD_STATE);
	CHECK_OK(reg_abort(rig->me, &lease));
	rig_delete(rig, id);
	restore.state = REG_EXITED;
	restore.req.name = "three";
	CHECK_OK(reg_insert(rig->me, &restore, &id));
	CHECK_ST(reg_adopt(rig->me, id, a), REG_BAD_STATE);
	rig_delete(rig, id);
	(void)rig_store_run(rig);
	CHECK_EMPTY(rig);
}

/* Several processes insert and adopt the same ones: one record each. */
struct shared {
	struct rig_barrier barrier;
	_Atomic uint32_t inserted;
	_Atomic bool done;
	reg_agent_id agent;
};

static void merger(struct rig *rig, void *arg)
{
	struct shared *shared = arg;
	struct reg_sandbox_view view;
	char name[16];

	for (uint32_t i = 0; i < 300; i++) {
		struct reg_restore restore;
		enum reg_status status;
		reg_sandbox_id id;

		(void)snprintf(name, sizeof(name), "m%u", i);
		restore = restore_of(name, REG_RESTORED);
		if (i % 10 == 0)
			rig_barrier_wait(&shared->barrier, 3);
		status = reg_insert(rig->me, &restore, &id);
		if (status == REG_OK)
			atomic_fetch_add_explicit(&shared->inserted, 1, memory_order_relaxed);
		else
			CHECK_ST(status, REG_NAME_EXISTS);
		while (reg_get(rig->me, "default", name, &view) == REG_NOT_FOUND)
			; /* the winner is about to publish it */
		status = reg_adopt(rig->me, view.sandbox, shared->agent);
		CHECK(status == REG_OK || status == REG_BAD_STATE);
	}
}

static void test_merge_at_once(void **state)
{
	struct rig *rig = *state;
	struct shared *shared = rig_shared_alloc(sizeof(*shared));
	struct reg_agent_view agent;
	pid_t pids[3];

	shared->agent = rig_agent(rig, "a", 1);
	for (int i = 0; i < 3; i++)
		pids[i] = rig_fork(rig, merger, shared);
	for (int i = 0; i < 3; i++)
		rig_join(pids[i]);
	CHECK_EQ(shared->inserted, 300);
	CHECK_SOUND(rig);
	CHECK_OK(reg_agent_get(rig->me, shared->agent, &agent));
	CHECK_EQ(agent.allocated, 300);
	rig_delete_all(rig);
	CHECK_EMPTY(rig);
	rig_shared_free(shared, sizeof(*shared));
}

/* Deletes and exits of what is just being adopted: whatever comes first, no slot is left that
 * nobody names. */
static void adopter_fn(struct rig *rig, void *arg)
{
	struct shared *shared = arg;
	struct reg_restore restore = restore_of("raced", REG_RESTORED);

	for (uint32_t i = 0, n = rig_scaled(20000); i < n; i++) {
		enum reg_status status;
		reg_sandbox_id id;

		restore.state = i % 2 ? REG_RESTORED : REG_LOST;
		restore.from_store = i % 4 == 0;
		if (reg_insert(rig->me, &restore, &id) != REG_OK)
			continue;
		atomic_fetch_add_explicit(&shared->inserted, 1, memory_order_relaxed);
		status = reg_adopt(rig->me, id, shared->agent);
		CHECK(status == REG_OK || status == REG_DELETING || status == REG_STALE ||
		      status == REG_BAD_STATE);
		(void)!reg_stop(rig->me, id, REG_STOP_DELETE, NULL);
		(void)reg_stopped(rig->me, id, NULL);
		(void)rig_store_run(rig);
	}
	atomic_store_explicit(&shared->done, true, memory_order_release);
}

static void deleter_fn(struct rig *rig, void *arg)
{
	struct shared *shared = arg;
	struct reg_exit ex = {.code = 1};
	struct reg_sandbox_view view;

	for (uint32_t i = 0; !atomic_load_explicit(&shared->done, memory_order_acquire); i++) {
		if (reg_get(rig->me, "default", "raced", &view) != REG_OK)
			continue;
		if (i % 3 == 0)
			(void)reg_exited(rig->me, view.sandbox, &ex);
		(void)!reg_stop(rig->me, view.sandbox, REG_STOP_DELETE, NULL);
		(void)reg_stopped(rig->me, view.sandbox, &ex);
	}
}

static void test_deleted_while_adopted(void **state)
{
	struct rig *rig = *state;
	struct shared *shared = rig_shared_alloc(sizeof(*shared));
	pid_t pids[3];

	shared->agent = rig_agent(rig, "a", 4);
	for (int i = 0; i < 3; i++)
		pids[i] = rig_fork(rig, i ? deleter_fn : adopter_fn, shared);
	for (int i = 0; i < 3; i++)
		rig_join(pids[i]);
	CHECK(shared->inserted > 100);
	CHECK_SOUND(rig);
	rig_delete_all(rig);
	CHECK_EMPTY(rig);
	rig_check_free_slots(rig, "pool", 4);
	rig_shared_free(shared, sizeof(*shared));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_fields, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_states, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_adopt, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_beyond_capacity, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_delete_while_restored, rig_setup,
						rig_teardown),
		cmocka_unit_test_setup_teardown(test_unknown_to_the_store, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_adopt_refused, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_merge_at_once, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_deleted_while_adopted, rig_setup,
						rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
