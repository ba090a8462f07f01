/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Failures that the registry this one replaces is known for, each as a test of its own: what went
 * wrong there stands above it.
 */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t allocated(struct rig *rig, reg_agent_id agent)
{
	struct reg_agent_view view;

	CHECK_OK(reg_agent_get(rig->me, agent, &view));
	return view.allocated;
}

static reg_sandbox_id run(struct rig *rig, const char *name, const uint16_t *port)
{
	struct reg_request req = rig_request(name);

	req.ports = port;
	req.port_count = port ? 1 : 0;
	return rig_run(rig, &req);
}

static enum reg_status try_name(struct rig *rig, const char *name, const uint16_t *port)
{
	struct reg_request req = rig_request(name);
	struct reg_lease lease;
	enum reg_status status;

	req.ports = port;
	req.port_count = port ? 1 : 0;
	status = reg_reserve(rig->me, &req, &lease);
	if (status == REG_OK)
		CHECK_OK(reg_abort(rig->me, &lease));
	return status;
}

/*
 * The best agent was chosen first and taken afterwards; when somebody else had taken it in between,
 * the create failed, however many other agents were free. Here as many callers as there are slots,
 * one on each agent, all at once: each gets one.
 */
enum { R1_PROCS = 8, R1_EACH = 8 };

struct r1 {
	struct rig_barrier barrier;
	uint32_t rounds;
};

struct r1_job {
	struct r1 *shared;
	uint32_t no;
};

static void r1_child(struct rig *rig, void *arg)
{
	const struct r1_job *job = arg;
	struct reg_lease leases[R1_EACH];
	char more[16];

	for (uint32_t round = 0; round < job->shared->rounds; round++) {
		rig_note("round %u of process %u", round, job->no);
		rig_barrier_wait(&job->shared->barrier, R1_PROCS);
		for (uint32_t i = 0; i < R1_EACH; i++) {
			struct reg_request req;
			char name[32];

			(void)snprintf(name, sizeof(name), "r%u-%u-%u", round, job->no, i);
			req = rig_request(name);
			CHECK_OK(reg_reserve(rig->me, &req, &leases[i]));
		}
		rig_barrier_wait(&job->shared->barrier, R1_PROCS);
		(void)snprintf(more, sizeof(more), "more-%u", job->no);
		CHECK_ST(try_name(rig, more, NULL), REG_NO_CAPACITY);
		rig_barrier_wait(&job->shared->barrier, R1_PROCS);
		for (uint32_t i = 0; i < R1_EACH; i++)
			CHECK_OK(reg_abort(rig->me, &leases[i]));
	}
}

static void test_r1_a_lost_race_for_the_best_agent_is_no_refusal(void **state)
{
	struct rig *rig = *state;
	struct r1 *shared = rig_shared_alloc(sizeof(*shared));
	struct r1_job job = {.shared = shared};
	pid_t pids[R1_PROCS];

	for (uint32_t i = 0; i < R1_PROCS * R1_EACH; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "a%u", i);
		(void)rig_agent(rig, name, 1);
	}
	shared->rounds = rig_scaled(100);
	for (job.no = 0; job.no < R1_PROCS; job.no++)
		pids[job.no] = rig_fork(rig, r1_child, &job);
	for (uint32_t i = 0; i < R1_PROCS; i++)
		rig_join(pids[i]);
	rig_shared_free(shared, sizeof(*shared));
	CHECK_EMPTY(rig);
}

/*
 * A release only counted one down: given twice, it took the slot and the ports of a neighbour, and
 * the agent took more than it had room for. Here whoever releases names what he holds, and the
 * second time finds nothing.
 */
static void test_r2_a_release_given_twice_takes_nothing_from_a_neighbour(void **state)
{
	static const uint16_t first_port = 81, second_port = 82;
	struct reg_exit ex = {.code = 1};
	struct rig *rig = *state;
	reg_agent_id agent = rig_agent(rig, "a", 2);
	reg_sandbox_id first = run(rig, "first", &first_port);
	reg_sandbox_id second = run(rig, "second", &second_port), third;

	CHECK_EQ(allocated(rig, agent), 2);
	CHECK_OK(reg_stop(rig->me, first, REG_STOP_DELETE, NULL));
	CHECK_OK(reg_stopped(rig->me, first, &ex));
	CHECK_EQ(allocated(rig, agent), 1);
	for (int again = 0; again < 3; again++) {
		CHECK_ST(reg_stopped(rig->me, first, &ex), REG_STALE);
		CHECK_ST(reg_exited(rig->me, first, &ex), REG_STALE);
		CHECK_ST(reg_stop(rig->me, first, REG_STOP_DELETE, NULL), REG_STALE);
		CHECK_EQ(allocated(rig, agent), 1);
	}
	CHECK_ST(try_name(rig, "other", &second_port), REG_PORT_CONFLICT);
	/* the same when somebody else has the slot and the port by now */
	third = run(rig, "third", &first_port);
	CHECK_ST(reg_stopped(rig->me, first, &ex), REG_STALE);
	CHECK_EQ(allocated(rig, agent), 2);
	CHECK_ST(try_name(rig, "other", NULL), REG_NO_CAPACITY);
	CHECK_EQ(rig_state(rig, second), REG_RUNNING);
	CHECK_EQ(rig_state(rig, third), REG_RUNNING);
}

/* As above, by the lease of a reservation that was aborted. */
static void test_r2_an_abort_given_twice(void **state)
{
	struct reg_started started = {.started_unix_ns = 1};
	struct reg_request one = rig_request("one"), two = rig_request("two");
	struct rig *rig = *state;
	reg_agent_id agent = rig_agent(rig, "a", 1);
	struct reg_lease first, second;

	CHECK_OK(reg_reserve(rig->me, &one, &first));
	CHECK_OK(reg_abort(rig->me, &first));
	CHECK_OK(reg_reserve(rig->me, &two, &second));
	CHECK_EQ(second.slot, first.slot);
	CHECK_ST(reg_abort(rig->me, &first), REG_STALE);
	CHECK_ST(reg_starting(rig->me, &first), REG_STALE);
	CHECK_ST(reg_commit(rig->me, &first, &started), REG_STALE);
	CHECK_EQ(allocated(rig, agent), 1);
	CHECK_OK(reg_abort(rig->me, &second));
	CHECK_EMPTY(rig);
}

/*
 * An agent that was given up and came back began at zero: no slot and no port of its running
 * sandboxes was counted, and new ones came on top. Here it comes back with what it had.
 */
static void test_r3_an_agent_that_returns_has_its_sandboxes(void **state)
{
	static const uint16_t port = 81;
	struct rig *rig = *state;
	reg_agent_id agent = rig_agent(rig, "a", 4), again;
	reg_sandbox_id held[3];
	struct reg_sweep_result swept;

	held[0] = run(rig, "s0", &port);
	held[1] = run(rig, "s1", NULL);
	held[2] = run(rig, "s2", NULL);
	CHECK_OK(reg_agent_remove(rig->me, agent));
	CHECK_ST(try_name(rig, "other", NULL), REG_NO_CAPACITY);
	CHECK_OK(reg_sweep(rig->me, &swept)); /* it is referred to: its row stays */
	again = rig_agent(rig, "a", 4);
	CHECK_EQ(again.idx, agent.idx);
	CHECK_EQ(allocated(rig, again), 3);
	CHECK_ST(try_name(rig, "other", &port), REG_PORT_CONFLICT);
	rig_check_free_slots(rig, "pool", 1);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(rig_state(rig, held[i]), REG_LOST);
		CHECK_OK(reg_found(rig->me, held[i]));
	}
	CHECK_EQ(allocated(rig, again), 3);
	/* with less capacity than it has in use: nothing new, nothing lost */
	again = rig_agent(rig, "a", 2);
	CHECK_EQ(allocated(rig, again), 3);
	CHECK_ST(try_name(rig, "other", NULL), REG_NO_CAPACITY);
	rig_delete(rig, held[1]);
	CHECK_ST(try_name(rig, "other", NULL), REG_NO_CAPACITY);
	rig_delete(rig, held[2]);
	rig_check_free_slots(rig, "pool", 1);
	CHECK_EQ(rig_state(rig, held[0]), REG_RUNNING);
}

/*
 * What ran already was counted by a pass of its own beside creates, heartbeats and reconciliation:
 * what had been created before the pass was counted twice, and what had no object yet not at all.
 * Here a record holds its slot by itself: told twice it is one, and whoever reserves meanwhile sees
 * each slot as free or held.
 */
enum { R4_AGENTS = 4, R4_SLOTS = 16, R4_KEPT = 40 };

struct r4 {
	struct rig_barrier barrier;
	reg_agent_id agents[R4_AGENTS];
	_Atomic bool done;
	uint32_t reserved;
};

static void r4_tell(struct rig *rig, const struct r4 *shared, uint32_t i)
{
	struct reg_restore restore = {.state = REG_RESTORED, .generation = 1};
	struct reg_sandbox_view view;
	reg_sandbox_id id;
	enum reg_status status;
	char name[32];

	(void)snprintf(name, sizeof(name), "kept-%u", i);
	restore.req = rig_request(name);
	status = reg_insert(rig->me, &restore, &id);
	if (status == REG_NAME_EXISTS) { /* told before */
		CHECK_OK(reg_get(rig->me, "default", name, &view));
		id = view.sandbox;
	} else {
		CHECK_OK(status);
	}
	CHECK_OK(reg_adopt(rig->me, id, shared->agents[i % R4_AGENTS]));
}

/* The agents come and report, and report again. */
static void r4_rebuild_child(struct rig *rig, void *arg)
{
	struct r4 *shared = arg;

	rig_barrier_wait(&shared->barrier, 3);
	for (uint32_t round = 0; round < rig_scaled(2000); round++)
		for (uint32_t i = 0; i < R4_KEPT; i++) {
			CHECK_OK(
				reg_agent_heartbeat(rig->me, shared->agents[i % R4_AGENTS], i + 1));
			r4_tell(rig, shared, i);
		}
	atomic_store_explicit(&shared->done, true, memory_order_release);
}

/* Creates and deletes all the while; ends with three running. */
static void r4_create_child(struct rig *rig, void *arg)
{
	struct r4 *shared = arg;
	struct reg_lease lease;
	struct reg_request req;

	rig_barrier_wait(&shared->barrier, 3);
	for (uint32_t i = 0; i == 0 || !atomic_load_explicit(&shared->done, memory_order_acquire);
	     i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "new-%u", i);
		req = rig_request(name);
		CHECK_OK(reg_reserve(rig->me, &req, &lease)); /* a slot is free all the time */
		CHECK_OK(reg_abort(rig->me, &lease));
		shared->reserved++;
	}
	for (uint32_t i = 0; i < 3; i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "stays-%u", i);
		(void)run(rig, name, NULL);
	}
}

static void test_r4_a_rebuild_beside_creates_counts_each_once(void **state)
{
	struct rig *rig = *state;
	struct r4 *shared = rig_shared_alloc(sizeof(*shared));
	uint32_t held = 0;
	pid_t pids[2];

	for (uint32_t a = 0; a < R4_AGENTS; a++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "a%u", a);
		shared->agents[a] = rig_agent(rig, name, R4_SLOTS);
	}
	pids[0] = rig_fork(rig, r4_rebuild_child, shared);
	pids[1] = rig_fork(rig, r4_create_child, shared);
	rig_barrier_wait(&shared->barrier, 3);
	rig_join(pids[0]);
	rig_join(pids[1]);
	printf("%u reservations beside it\n", shared->reserved);
	for (uint32_t a = 0; a < R4_AGENTS; a++)
		held += allocated(rig, shared->agents[a]);
	CHECK_EQ(held, R4_KEPT + 3);
	CHECK_SOUND(rig);
	rig_check_free_slots(rig, "pool", R4_AGENTS * R4_SLOTS - R4_KEPT - 3);
	rig_shared_free(shared, sizeof(*shared));
}

/* Agents were known by their pods' names alone: two of one name in two namespaces were one. */
static void test_r5_one_name_in_two_namespaces_is_two_agents(void **state)
{
	struct rig *rig = *state;
	struct reg_agent_info info = {
		.name = "twin", .pool = "pool", .node = "n", .address = "x", .host_ip = "h"};
	static const char *const spaces[2] = {"here", "there"};
	reg_agent_id agents[2], found;
	struct reg_lease lease;

	for (int i = 0; i < 2; i++) {
		info.ns = spaces[i];
		info.capacity = 1 + i;
		CHECK_OK(reg_agent_join(rig->me, &info, &agents[i]));
		CHECK_OK(reg_agent_set_ready(rig->me, agents[i], true));
	}
	CHECK(agents[0].idx != agents[1].idx);
	for (int i = 0; i < 2; i++) {
		CHECK_OK(reg_agent_find(rig->me, spaces[i], "twin", &found));
		CHECK_EQ(found.idx, agents[i].idx);
		for (int k = 0; k <= i + 1; k++) {
			char name[16];
			struct reg_request req;

			(void)snprintf(name, sizeof(name), "s%d", k);
			req = rig_request(name);
			req.ns = spaces[i];
			CHECK_ST(reg_reserve(rig->me, &req, &lease),
				 k <= i ? REG_OK : REG_NO_CAPACITY);
			if (k <= i)
				CHECK_EQ(lease.agent.idx, agents[i].idx);
		}
	}
	CHECK_EQ(allocated(rig, agents[0]), 1);
	CHECK_EQ(allocated(rig, agents[1]), 2);
	CHECK_OK(reg_agent_remove(rig->me, agents[0]));
	CHECK_OK(reg_agent_find(rig->me, spaces[1], "twin", &found));
	CHECK_EQ(found.idx, agents[1].idx);
}

/*
 * Ends that forgot the slot: an object deleted before it ran, or after it had failed, and one that
 * was lost and placed again and again, each time with one slot more. Here every end from every
 * state gives back exactly one.
 */
static void r8_bring(struct rig *rig, reg_sandbox_id id, const struct reg_lease *lease,
		     enum reg_state to)
{
	struct reg_started started = {.started_unix_ns = 1};
	struct reg_exit ex = {.code = 1};

	if (to == REG_RESERVED)
		return;
	CHECK_OK(reg_starting(rig->me, lease));
	if (to == REG_STARTING)
		return;
	CHECK_OK(reg_commit(rig->me, lease, &started));
	if (to == REG_STOPPING || to == REG_EXPIRED)
		CHECK_OK(reg_stop(rig->me, id, REG_STOP_EXPIRE, NULL));
	if (to == REG_EXPIRED)
		CHECK_OK(reg_stopped(rig->me, id, &ex));
	if (to == REG_EXITED)
		CHECK_OK(reg_exited(rig->me, id, &ex));
	if (to == REG_LOST)
		CHECK_OK(reg_lost(rig->me, id, "no word from it"));
}

static void test_r8_every_end_gives_the_slot_back(void **state)
{
	static const enum reg_state from[] = {REG_RESERVED, REG_STARTING, REG_RUNNING, REG_STOPPING,
					      REG_EXITED,   REG_EXPIRED,  REG_LOST};
	static const uint16_t port = 81;
	struct rig *rig = *state;
	reg_agent_id agent = rig_agent(rig, "a", 1);

	for (int round = 0; round < 50; round++)
		for (unsigned i = 0; i < sizeof(from) / sizeof(from[0]); i++) {
			struct reg_request req = rig_request("one");
			struct reg_lease lease;

			req.ports = &port;
			req.port_count = 1;
			rig_note("round %d from %s", round, reg_state_name(from[i]));
			CHECK_OK(reg_reserve(rig->me, &req, &lease));
			r8_bring(rig, lease.sandbox, &lease, from[i]);
			CHECK_EQ(rig_state(rig, lease.sandbox), from[i]);
			rig_delete(rig, lease.sandbox);
			if (round % 2)
				(void)rig_store_run(rig);
			CHECK_EQ(allocated(rig, agent), 0);
			CHECK_OK(try_name(rig, "next", &port));
		}
	(void)rig_store_run(rig);
	CHECK_EMPTY(rig);
}

static void test_r8_lost_and_placed_again_holds_one_slot(void **state)
{
	struct rig *rig = *state;
	reg_agent_id agents[2] = {rig_agent(rig, "a", 2), rig_agent(rig, "b", 2)};
	static const uint16_t port = 81;
	reg_sandbox_id id = run(rig, "wanderer", &port);

	for (int round = 0; round < 100; round++) {
		reg_agent_id to = agents[round % 2];

		rig_note("round %d", round);
		CHECK_OK(reg_lost(rig->me, id, "no word from it"));
		CHECK_OK(reg_adopt(rig->me, id, to));
		CHECK_OK(reg_adopt(rig->me, id, to)); /* reported again */
		CHECK_EQ(allocated(rig, to), 1);
		CHECK_EQ(allocated(rig, agents[0]) + allocated(rig, agents[1]), 1);
	}
	rig_check_free_slots(rig, "pool", 3);
	rig_delete(rig, id);
	CHECK_EMPTY(rig);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_r1_a_lost_race_for_the_best_agent_is_no_refusal),
		TEST(test_r2_a_release_given_twice_takes_nothing_from_a_neighbour),
		TEST(test_r2_an_abort_given_twice),
		TEST(test_r3_an_agent_that_returns_has_its_sandboxes),
		TEST(test_r4_a_rebuild_beside_creates_counts_each_once),
		TEST(test_r5_one_name_in_two_namespaces_is_two_agents),
		TEST(test_r8_every_end_gives_the_slot_back),
		TEST(test_r8_lost_and_placed_again_holds_one_slot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
