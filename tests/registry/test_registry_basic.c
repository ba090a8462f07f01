/* SPDX-License-Identifier: Apache-2.0 */
/* One process: each call of the life of a sandbox does what the header says, in each state, and
 * refuses what it should. */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Kept in whole ms after the creation in rig_request. */
#define FINISHED INT64_C(1700000003125000000)

static void test_whole_life(void **state)
{
	struct rig *rig = *state;
	reg_agent_id agent = rig_agent(rig, "a", 2);
	uint16_t ports[] = {8080, 22};
	struct reg_request req = rig_request("one");
	struct reg_sandbox_view view;
	struct reg_lease lease;
	struct reg_started started = {.started_unix_ns = 77, .start_ns = 5};
	enum reg_state prior;

	req.request_id = "rid";
	req.ports = ports;
	req.port_count = 2;
	req.expire_unix_s = 99;
	CHECK_OK(reg_reserve(rig->me, &req, &lease));
	CHECK_EQ(lease.agent.idx, agent.idx);
	CHECK_OK(reg_get(rig->me, "default", "one", &view));
	CHECK_EQ(view.state, REG_RESERVED);
	CHECK_EQ(view.owner, reg_self_idx(rig->me));
	CHECK_EQ(view.sandbox.idx, lease.sandbox.idx);
	CHECK_EQ(view.sandbox.gen, lease.sandbox.gen);
	CHECK_EQ(view.slot, lease.slot);
	CHECK_EQ(view.slot_gen, lease.slot_gen);
	CHECK_OK(reg_starting(rig->me, &lease));
	CHECK_EQ(rig_state(rig, lease.sandbox), REG_STARTING);
	CHECK_OK(reg_commit(rig->me, &lease, &started));
	CHECK_OK(reg_get(rig->me, "default", "one", &view));
	CHECK_EQ(view.state, REG_RUNNING);
	CHECK_EQ(view.owner, UINT32_MAX);
	CHECK_EQ(view.started_unix_ns, 77);
	CHECK_EQ(view.port_count, 2);
	CHECK_EQ(view.ports[0], 8080); /* request order */
	CHECK_EQ(view.ports[1], 22);
	CHECK_EQ(view.expire_unix_s, 99);
	CHECK_STR(view.request_id, "rid");
	CHECK_STR(view.id, "one");
	CHECK_STR(view.pool, "pool");
	CHECK_STR(view.image, "img");
	CHECK_STR(view.agent_name, "a");
	CHECK_STR(view.agent_node, "node");
	CHECK_STR(view.agent_host_ip, "127.0.0.1");
	CHECK_EQ(view.created_unix_ns, req.created_unix_ns);
	CHECK_EQ(view.spec_len, 4);
	CHECK_OK(reg_stop(rig->me, lease.sandbox, REG_STOP_DELETE, &prior));
	CHECK_EQ(prior, REG_RUNNING);
	CHECK_ST(reg_reserve(rig->me, &req, &lease), REG_REQUEST_SEEN);
	CHECK_OK(reg_stopped(rig->me, lease.sandbox, NULL));
	CHECK_ST(reg_get(rig->me, "default", "one", &view), REG_NOT_FOUND);
	CHECK_ST(reg_view(rig->me, lease.sandbox, &view), REG_STALE);
	CHECK_EMPTY(rig);
}

/* A stale or foreign handle is refused in each call and changes nothing. */
static void test_stale_handles(void **state)
{
	struct rig *rig = *state;
	struct reg_request req = rig_request("one");
	struct reg_started started = {0};
	struct reg_exit ex = {.code = 1};
	struct reg_update update = {.fields = REG_SET_EXPIRE, .expire_unix_s = 1};
	struct reg_sandbox_view view;
	struct reg_lease lease, old;
	reg_sandbox_id bad[4];
	uint32_t len;
	char buf[16];

	(void)rig_agent(rig, "a", 1);
	CHECK_OK(reg_reserve(rig->me, &req, &old));
	CHECK_OK(reg_abort(rig->me, &old));
	CHECK_ST(reg_abort(rig->me, &old), REG_STALE);
	CHECK_OK(reg_reserve(rig->me, &req, &lease));
	CHECK_ST(reg_starting(rig->me, &old), REG_STALE);
	CHECK_ST(reg_commit(rig->me, &old, &started), REG_STALE);
	CHECK_ST(reg_abort(rig->me, &old), REG_STALE);
	bad[0] = old.sandbox;
	bad[1] = (reg_sandbox_id){0, 0};
	bad[2] = (reg_sandbox_id){UINT32_MAX, UINT32_MAX};
	bad[3] = (reg_sandbox_id){lease.sandbox.idx, lease.sandbox.gen + 1};
	for (int i = 0; i < 4; i++) {
		rig_note("handle %d", i);
		CHECK(reg_view(rig->me, bad[i], &view) != REG_OK);
		CHECK(reg_stop(rig->me, bad[i], REG_STOP_DELETE, NULL) != REG_OK);
		CHECK(reg_stopped(rig->me, bad[i], NULL) != REG_OK);
		CHECK(reg_exited(rig->me, bad[i], &ex) != REG_OK);
		CHECK(reg_lost(rig->me, bad[i], "x") != REG_OK);
		CHECK(reg_found(rig->me, bad[i]) != REG_OK);
		CHECK(reg_adopt(rig->me, bad[i], lease.agent) != REG_OK);
		CHECK(reg_update(rig->me, bad[i], &update) != REG_OK);
		CHECK(reg_watch(rig->me, bad[i]) != REG_OK);
		CHECK(reg_dirty_urgent(rig->me, bad[i]) != REG_OK);
		CHECK(reg_spec(rig->me, bad[i], buf, sizeof(buf), &len) != REG_OK);
		CHECK(reg_store_begin(rig->me, bad[i], &view) != REG_OK);
		CHECK(reg_store_forgotten(rig->me, bad[i]) != REG_OK);
		reg_dirty_again(rig->me, bad[i]);
	}
	CHECK_EQ(rig_state(rig, lease.sandbox), REG_RESERVED);
	CHECK_OK(reg_abort(rig->me, &lease));
	CHECK_EMPTY(rig);
}

static void test_names_and_request_ids(void **state)
{
	struct rig *rig = *state;
	struct reg_request one = rig_request("one"), two = rig_request("two");
	struct reg_lease first, lease;

	(void)rig_agent(rig, "a", 8);
	one.request_id = "r";
	one.request_hash = 7;
	CHECK_OK(reg_reserve(rig->me, &one, &first));
	CHECK_ST(reg_reserve(rig->me, &one, &lease), REG_REQUEST_SEEN);
	CHECK_EQ(lease.sandbox.idx, first.sandbox.idx);
	CHECK_EQ(lease.sandbox.gen, first.sandbox.gen);
	one.request_hash = 8;
	CHECK_ST(reg_reserve(rig->me, &one, &lease), REG_REQUEST_MISMATCH);
	CHECK_EQ(lease.sandbox.idx, first.sandbox.idx);
	one.request_id = "s";
	CHECK_ST(reg_reserve(rig->me, &one, &lease), REG_NAME_EXISTS);
	CHECK_EQ(lease.sandbox.idx, first.sandbox.idx);
	one.request_id = NULL;
	CHECK_ST(reg_reserve(rig->me, &one, &lease), REG_NAME_EXISTS);
	/* the refused id "s" is held by nobody; the same id in another namespace is another one */
	two.request_id = "s";
	CHECK_OK(reg_reserve(rig->me, &two, &lease));
	CHECK_OK(reg_abort(rig->me, &lease));
	CHECK_OK(reg_starting(rig->me, &first));
	CHECK_OK(reg_commit(rig->me, &first, &(struct reg_started){0}));
	CHECK_OK(reg_stop(rig->me, first.sandbox, REG_STOP_DELETE, NULL));
	CHECK_ST(reg_reserve(rig->me, &one, &lease), REG_NAME_TERMINATING);
	CHECK_EQ(lease.sandbox.idx, first.sandbox.idx);
	CHECK_OK(reg_stopped(rig->me, first.sandbox, NULL));
	CHECK_OK(reg_reserve(rig->me, &one, &lease));
	CHECK_OK(reg_abort(rig->me, &lease));
	CHECK_EMPTY(rig);
}

/* A delete asked for before the start: the owner sees it at starting and at commit. */
static void test_delete_in_flight(void **state)
{
	struct rig *rig = *state;
	struct reg_request req = rig_request("one");
	struct reg_started started = {0};
	struct reg_lease lease;
	enum reg_state prior;

	(void)rig_agent(rig, "a", 1);
	CHECK_OK(reg_reserve(rig->me, &req, &lease));
	CHECK_OK(reg_stop(rig->me, lease.sandbox, REG_STOP_DELETE, &prior));
	CHECK_EQ(prior, REG_RESERVED);
	CHECK_ST(reg_starting(rig->me, &lease), REG_DELETING);
	CHECK_OK(reg_abort(rig->me, &lease));
	CHECK_OK(reg_reserve(rig->me, &req, &lease));
	CHECK_OK(reg_starting(rig->me, &lease));
	CHECK_ST(reg_stop(rig->me, lease.sandbox, REG_STOP_EXPIRE, &prior), REG_BAD_STATE);
	CHECK_OK(reg_stop(rig->me, lease.sandbox, REG_STOP_DELETE, &prior));
	CHECK_EQ(prior, REG_STARTING);
	CHECK_ST(reg_commit(rig->me, &lease, &started), REG_DELETING);
	CHECK_EQ(rig_state(rig, lease.sandbox), REG_STOPPING);
	CHECK_OK(reg_stopped(rig->me, lease.sandbox, NULL));
	CHECK_EMPTY(rig);
}

static void test_exits(void **state)
{
	struct rig *rig = *state;
	struct reg_exit ex = {.code = 3, .oom_killed = true, .finished_unix_ns = FINISHED}, got;
	struct reg_request req = rig_request("one"), two = rig_request("two");
	struct reg_sandbox_view view;
	uint16_t port = 80;
	reg_sandbox_id id;
	enum reg_state prior;

	(void)rig_agent(rig, "a", 1);
	req.ports = two.ports = &port;
	req.port_count = two.port_count = 1;
	id = rig_run(rig, &req);
	CHECK_OK(reg_exited(rig->me, id, &ex));
	CHECK_OK(reg_exited(rig->me, id, &ex)); /* idempotent */
	CHECK_OK(reg_view(rig->me, id, &view));
	CHECK_EQ(view.state, REG_EXITED);
	got = view.exit;
	CHECK_EQ(got.code, 3);
	CHECK(got.oom_killed && !got.unknown);
	CHECK_EQ(got.signal, 0);
	CHECK_EQ(got.finished_unix_ns, FINISHED);
	rig_delete(rig, rig_run(rig, &two)); /* slot and port are free */
	CHECK_OK(reg_stop(rig->me, id, REG_STOP_DELETE, &prior));
	CHECK_EQ(prior, REG_EXITED);
	CHECK_EQ(rig_state(rig, id), REG_STOPPING);
	CHECK_OK(reg_stopped(rig->me, id, NULL));
	/* STOPPING: the exit is noted only */
	id = rig_run(rig, &req);
	CHECK_OK(reg_stop(rig->me, id, REG_STOP_EXPIRE, NULL));
	ex = (struct reg_exit){.code = -1, .signal = 9, .finished_unix_ns = FINISHED};
	CHECK_OK(reg_exited(rig->me, id, &ex));
	CHECK_OK(reg_view(rig->me, id, &view));
	CHECK_EQ(view.state, REG_STOPPING);
	CHECK(view.expiring && !view.deleting);
	CHECK_OK(reg_stopped(rig->me, id, NULL));
	CHECK_OK(reg_view(rig->me, id, &view));
	CHECK_EQ(view.state, REG_EXPIRED);
	CHECK_EQ(view.exit.signal, 9);
	CHECK_EQ(view.exit.code, -1);
	rig_delete(rig, id);
	CHECK_EMPTY(rig);
}

/* An expiry during which a delete is asked for ends with nothing left. */
static void test_expire_then_delete(void **state)
{
	struct rig *rig = *state;
	struct reg_request req = rig_request("one");
	reg_sandbox_id id;
	enum reg_state prior;

	(void)rig_agent(rig, "a", 1);
	id = rig_run(rig, &req);
	CHECK_OK(reg_stop(rig->me, id, REG_STOP_EXPIRE, NULL));
	CHECK_OK(reg_stop(rig->me, id, REG_STOP_DELETE, &prior));
	CHECK_EQ(prior, REG_STOPPING);
	CHECK_OK(reg_stopped(rig->me, id, NULL));
	CHECK_EQ(rig_state(rig, id), REG_FREE);
	/* EXPIRE of what does not run */
	id = rig_run(rig, &req);
	CHECK_OK(reg_exited(rig->me, id, &(struct reg_exit){.code = 0}));
	CHECK_ST(reg_stop(rig->me, id, REG_STOP_EXPIRE, NULL), REG_BAD_STATE);
	rig_delete(rig, id);
	CHECK_EMPTY(rig);
}

static void test_lost_and_found(void **state)
{
	struct rig *rig = *state;
	struct reg_request req = rig_request("one"), two = rig_request("two");
	struct reg_sandbox_view view;
	struct reg_lease lease;
	reg_sandbox_id id;

	(void)rig_agent(rig, "a", 1);
	id = rig_run(rig, &req);
	CHECK_ST(reg_found(rig->me, id), REG_BAD_STATE);
	CHECK_OK(reg_lost(rig->me, id, "agent a is gone"));
	CHECK_OK(reg_view(rig->me, id, &view));
	CHECK_EQ(view.state, REG_LOST);
	CHECK_STR(view.message, "agent a is gone");
	CHECK_ST(reg_reserve(rig->me, &two, &lease), REG_NO_CAPACITY); /* the slot stays */
	CHECK_OK(reg_found(rig->me, id));
	CHECK_EQ(rig_state(rig, id), REG_RUNNING);
	CHECK_OK(reg_lost(rig->me, id, "again"));
	CHECK_OK(reg_exited(rig->me, id, &(struct reg_exit){.code = -1, .unknown = true}));
	CHECK_OK(reg_view(rig->me, id, &view));
	CHECK_EQ(view.state, REG_EXITED);
	CHECK(view.exit.unknown);
	CHECK_OK(reg_reserve(rig->me, &two, &lease));
	CHECK_OK(reg_abort(rig->me, &lease));
	rig_delete(rig, id);
	id = rig_run(rig, &req);
	CHECK_OK(reg_lost(rig->me, id, "gone"));
	rig_delete(rig, id); /* LOST → STOPPING → gone; the slot comes back now */
	rig_check_free_slots(rig, "pool", 1);
	CHECK_EMPTY(rig);
}

/* Stopped by the agent of its own accord: as EXITED. */
static void test_stopped_unasked(void **state)
{
	struct rig *rig = *state;
	struct reg_request req = rig_request("one");
	struct reg_exit ex = {.code = 9, .finished_unix_ns = FINISHED};
	struct reg_sandbox_view view;
	reg_sandbox_id id;

	(void)rig_agent(rig, "a", 1);
	id = rig_run(rig, &req);
	CHECK_OK(reg_stopped(rig->me, id, &ex));
	CHECK_OK(reg_view(rig->me, id, &view));
	CHECK_EQ(view.state, REG_EXITED);
	CHECK_EQ(view.exit.code, 9);
	rig_check_free_slots(rig, "pool", 1);
	rig_delete(rig, id);
	CHECK_EMPTY(rig);
}

/* All or nothing, and as many as possible. */
static void test_batch(void **state)
{
	struct rig *rig = *state;
	struct reg_request reqs[4] = {rig_request("b0"), rig_request("b1"), rig_request("b2"),
				      rig_request("b3")};
	struct reg_sandbox_view view;
	struct reg_lease leases[4];
	enum reg_status status[4];
	uint32_t cursor = 0;

	(void)rig_agent(rig, "a", 3);
	CHECK_ST(reg_reserve_batch(rig->me, reqs, 4, true, leases, status), REG_NO_CAPACITY);
	CHECK_ST(status[3], REG_NO_CAPACITY);
	CHECK(!reg_next(rig->me, &cursor, NULL, &view));
	CHECK_EMPTY(rig);
	CHECK_OK(reg_reserve_batch(rig->me, reqs, 3, true, leases, status));
	for (int i = 0; i < 3; i++) {
		CHECK_OK(status[i]);
		CHECK_OK(reg_get(rig->me, "default", reqs[i].name, &view));
		CHECK_EQ(view.state, REG_RESERVED);
		CHECK_OK(reg_abort(rig->me, &leases[i]));
	}
	CHECK_OK(reg_reserve_batch(rig->me, reqs, 4, false, leases, status));
	CHECK_ST(status[3], REG_NO_CAPACITY);
	for (int i = 0; i < 3; i++)
		CHECK_OK(reg_abort(rig->me, &leases[i]));
	CHECK_EMPTY(rig);
}

static void test_histograms(void **state)
{
	struct rig *rig = *state;
	struct reg_hist_view view;

	reg_hist_get(rig->reg, REG_HIST_TOTAL, &view);
	CHECK_EQ(view.count, 0);
	CHECK_EQ(view.max_ns, 0);
	for (uint64_t us = 1; us <= 1000; us++)
		reg_hist_add(rig->me, REG_HIST_TOTAL, us * 1000);
	reg_hist_get(rig->reg, REG_HIST_TOTAL, &view);
	CHECK_EQ(view.count, 1000);
	CHECK_EQ(view.max_ns, 1000000);
	CHECK(view.p50_ns > 430000 && view.p50_ns < 580000); /* buckets of an eighth */
	CHECK(view.p99_ns > 860000 && view.p99_ns <= 1000000);
	CHECK(view.p50_ns <= view.p90_ns && view.p90_ns <= view.p99_ns);
	reg_hist_add(rig->me, REG_HIST_TOTAL, UINT64_MAX); /* far beyond the last bucket */
	reg_hist_add(rig->me, REG_HIST_TOTAL, 0);
	reg_hist_get(rig->reg, REG_HIST_TOTAL, &view);
	CHECK_EQ(view.count, 1002);
	CHECK(view.name && *view.name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_whole_life, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_stale_handles, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_names_and_request_ids, rig_setup,
						rig_teardown),
		cmocka_unit_test_setup_teardown(test_delete_in_flight, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_exits, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_expire_then_delete, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_lost_and_found, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_stopped_unasked, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_batch, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_histograms, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
