/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several processes at once: as many successes as there are free slots and no slot twice, one
 * winner per name and per request id, one owner per port; after a storm of everything the books
 * balance.
 */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/failpoint.h"

enum { PROCS = 4, SLOTS = 24, AGENTS = 5 };

struct shared {
	struct rig_barrier barrier;
	uint32_t procs, rounds;
	uint32_t agent_slots; /* all together */
	enum reg_status status[PROCS][SLOTS];
	struct reg_lease lease[PROCS][SLOTS];
	_Atomic uint32_t totals[REG_STATUS_MAX];
	_Atomic bool done;
	bool slowly; /* everybody rests at the step where others can come in between */
};

struct job {
	struct shared *shared;
	uint32_t no;
	uint64_t random;
};

/* Runs fn in n children with their numbers; the parent runs parent_fn with the same barrier (n + 1
 * meet). */
static void run_children(struct rig *rig, struct shared *shared, rig_fn fn)
{
	pid_t pids[PROCS];
	struct job job = {.shared = shared};

	for (uint32_t i = 0; i < shared->procs; i++) {
		job.no = i;
		job.random = 1000003 * (i + 1);
		pids[i] = rig_fork(rig, fn, &job);
	}
	for (uint32_t i = 0; i < shared->procs; i++)
		rig_join(pids[i]);
}

/* ---- N free slots, N at once ---- */
static void fill_child(struct rig *rig, void *arg)
{
	struct job *job = arg;
	struct shared *shared = job->shared;
	uint32_t each = shared->agent_slots / shared->procs;
	struct reg_request req;
	char name[64];

#ifdef FSB_FAILPOINTS
	failpoint_set(shared->slowly ? "reserve.mask-taken=sleep:1" : NULL);
#endif
	for (uint32_t round = 0; round < shared->rounds; round++) {
		rig_barrier_wait(&shared->barrier, shared->procs + 1);
		for (uint32_t i = 0; i < each; i++) {
			(void)snprintf(name, sizeof(name), "r%u-p%u-%u", round, job->no, i);
			req = rig_request(name);
			req.request_id = i % 2 ? name : NULL;
			shared->status[job->no][i] =
				reg_reserve(rig->me, &req, &shared->lease[job->no][i]);
		}
		rig_barrier_wait(&shared->barrier, shared->procs + 1);
		rig_barrier_wait(&shared->barrier, shared->procs + 1); /* the parent has looked */
		for (uint32_t i = 0; i < each; i++)
			CHECK_OK(reg_abort(rig->me, &shared->lease[job->no][i]));
		rig_barrier_wait(&shared->barrier, shared->procs + 1);
	}
}

/* Mends hints all the time, also those of a claim or a release under way: hints must never decide.
 */
static void scrub_child(struct rig *rig, void *arg)
{
	const struct shared *shared = arg;

	while (!atomic_load_explicit(&shared->done, memory_order_relaxed))
		(void)reg_scrub(rig->me);
}

static void check_filled(struct rig *rig, const struct shared *shared)
{
	uint32_t each = shared->agent_slots / shared->procs;
	static uint8_t taken[AGENTS + 1][64];
	struct reg_request req = rig_request("one-more");
	struct reg_lease lease;

	memset(taken, 0, sizeof(taken));
	for (uint32_t p = 0; p < shared->procs; p++)
		for (uint32_t i = 0; i < each; i++) {
			const struct reg_lease *got = &shared->lease[p][i];

			CHECK_ST(shared->status[p][i], REG_OK);
			CHECK(got->agent.idx <= AGENTS && got->slot < 64);
			CHECK_EQ(taken[got->agent.idx][got->slot]++, 0);
		}
	CHECK_ST(reg_reserve(rig->me, &req, &lease), REG_NO_CAPACITY);
	CHECK_SOUND(rig);
}

static void fill_rounds(struct rig *rig, uint32_t procs, bool slowly)
{
	struct shared *shared = rig_shared_alloc(sizeof(*shared));
	struct job job = {.shared = shared};
	pid_t pids[PROCS], scrubber;

	shared->procs = procs;
	shared->rounds = slowly ? rig_scaled(60) : rig_scaled(1000);
	shared->slowly = slowly;
	shared->agent_slots = SLOTS;
	for (uint32_t i = 0; i < procs; i++) {
		job.no = i;
		pids[i] = rig_fork(rig, fill_child, &job);
	}
	scrubber = rig_fork(rig, scrub_child, shared);
	for (uint32_t round = 0; round < shared->rounds; round++) {
		rig_note("%u processes, round %u", procs, round);
		rig_barrier_wait(&shared->barrier, procs + 1); /* go */
		rig_barrier_wait(&shared->barrier, procs + 1); /* all have reserved */
		check_filled(rig, shared);
		rig_barrier_wait(&shared->barrier, procs + 1); /* abort */
		rig_barrier_wait(&shared->barrier, procs + 1);
	}
	for (uint32_t i = 0; i < procs; i++)
		rig_join(pids[i]);
	atomic_store_explicit(&shared->done, true, memory_order_relaxed);
	rig_join(scrubber);
	rig_shared_free(shared, sizeof(*shared));
	CHECK_EMPTY(rig);
	rig_check_free_slots(rig, "pool", SLOTS);
}

static void as_many_as_free(struct rig *rig, bool slowly)
{
	static const int32_t capacity[AGENTS] = {1, 2, 5, 6, 10}; /* together SLOTS */
	char name[16];

	for (int i = 0; i < AGENTS; i++) {
		(void)snprintf(name, sizeof(name), "a%d", i);
		rig_images(rig, rig_agent(rig, name, capacity[i]), i % 2 ? "img" : "other");
	}
	for (uint32_t procs = 2; procs <= PROCS; procs++)
		fill_rounds(rig, procs, slowly);
}

static void test_as_many_as_free(void **state)
{
	as_many_as_free(*state, false);
}

#ifdef FSB_FAILPOINTS
/* Everybody rests between a mask bit and its slot word, while the masks are mended: the word
 * decides, not the mask. */
static void test_as_many_as_free_slowly(void **state)
{
	as_many_as_free(*state, true);
}
#endif

/* ---- one name, one request id, one port per round ---- */
static void same_child(struct rig *rig, void *arg)
{
	struct job *job = arg;
	struct shared *shared = job->shared;
	bool by_name = shared->agent_slots == 1;
	struct reg_request req;
	struct reg_lease lease;
	enum reg_status status;
	char common[64], own[64];

#ifdef FSB_FAILPOINTS
	failpoint_set(shared->slowly ? "reserve.request-tentative=sleep:1" : NULL);
#endif
	for (uint32_t round = 0; round < shared->rounds; round++) {
		(void)snprintf(common, sizeof(common), "round-%u", round);
		(void)snprintf(own, sizeof(own), "round-%u-%u", round, job->no);
		req = rig_request(by_name ? common : own);
		req.request_id = by_name ? NULL : common;
		rig_barrier_wait(&shared->barrier, shared->procs);
		status = reg_reserve(rig->me, &req, &lease);
		shared->status[job->no][0] = status;
		rig_barrier_wait(&shared->barrier, shared->procs);
		rig_note("round %u, process %u", round, job->no);
		if (job->no == 0) {
			uint32_t winners = 0;

			for (uint32_t p = 0; p < shared->procs; p++)
				if (shared->status[p][0] == REG_OK)
					winners++;
				else
					CHECK_ST(shared->status[p][0],
						 by_name ? REG_NAME_EXISTS : REG_REQUEST_SEEN);
			CHECK_EQ(winners, 1);
		}
		rig_barrier_wait(&shared->barrier, shared->procs);
		if (status == REG_OK)
			CHECK_OK(reg_abort(rig->me, &lease));
	}
}

static void same_thing(struct rig *rig, bool by_name, bool slowly)
{
	for (uint32_t procs = 2; procs <= PROCS; procs++) {
		struct shared *shared = rig_shared_alloc(sizeof(*shared));

		shared->procs = procs;
		shared->rounds = slowly ? rig_scaled(200) : rig_scaled(5000);
		shared->slowly = slowly;
		shared->agent_slots = by_name; /* which kind */
		run_children(rig, shared, same_child);
		rig_shared_free(shared, sizeof(*shared));
		CHECK_EMPTY(rig);
	}
}

static void test_same_name(void **state)
{
	(void)rig_agent(*state, "a", 16);
	same_thing(*state, true, false);
}

static void test_same_request_id(void **state)
{
	(void)rig_agent(*state, "a", 16);
	same_thing(*state, false, false);
}

#ifdef FSB_FAILPOINTS
/* All of them have published the key before the first one looks. */
static void test_same_request_id_slowly(void **state)
{
	(void)rig_agent(*state, "a", 16);
	same_thing(*state, false, true);
}
#endif

static void port_child(struct rig *rig, void *arg)
{
	struct job *job = arg;
	struct shared *shared = job->shared;
	uint16_t ports[3] = {80, 90, 70};
	struct reg_request req;
	struct reg_lease lease;
	char name[64];

	for (uint32_t round = 0; round < shared->rounds; round++) {
		(void)snprintf(name, sizeof(name), "p%u", job->no);
		req = rig_request(name);
		req.ports = ports + job->no % 2;
		req.port_count = 1 + (job->no + round) % 2;
		rig_barrier_wait(&shared->barrier, shared->procs);
		shared->status[job->no][0] = reg_reserve(rig->me, &req, &lease);
		shared->lease[job->no][0] = lease;
		rig_barrier_wait(&shared->barrier, shared->procs);
		if (job->no == 0)
			for (uint32_t p = 0; p < shared->procs; p++)
				CHECK(shared->status[p][0] == REG_OK ||
				      shared->status[p][0] == REG_PORT_CONFLICT);
		rig_barrier_wait(&shared->barrier, shared->procs);
		if (shared->status[job->no][0] == REG_OK)
			CHECK_OK(reg_abort(rig->me, &lease));
	}
}

static void test_ports(void **state)
{
	struct rig *rig = *state;
	struct shared *shared = rig_shared_alloc(sizeof(*shared));

	(void)rig_agent(rig, "a", 16);
	(void)rig_agent(rig, "b", 16);
	shared->procs = PROCS;
	shared->rounds = rig_scaled(5000);
	run_children(rig, shared, port_child);
	rig_shared_free(shared, sizeof(*shared));
	CHECK_EMPTY(rig);
}

/* ---- everything at once ---- */
static void mixed_one(struct rig *rig, struct job *job, const struct reg_request *req)
{
	struct reg_started started = {.started_unix_ns = 1};
	struct reg_lease lease;
	enum reg_status status = reg_reserve(rig->me, req, &lease);

	atomic_fetch_add_explicit(&job->shared->totals[status], 1, memory_order_relaxed);
	if (status != REG_OK) {
		CHECK(status == REG_NAME_EXISTS || status == REG_NAME_TERMINATING ||
		      status == REG_NO_CAPACITY || status == REG_PORT_CONFLICT ||
		      status == REG_REQUEST_SEEN || status == REG_REQUEST_MISMATCH);
		return;
	}
	if (rig_below(&job->random, 3) == 0) {
		CHECK_OK(reg_abort(rig->me, &lease));
		return;
	}
	status = reg_starting(rig->me, &lease);
	if (status == REG_DELETING || rig_below(&job->random, 5) == 0) {
		CHECK_OK(reg_abort(rig->me, &lease));
		return;
	}
	CHECK_OK(status);
	status = reg_commit(rig->me, &lease, &started);
	CHECK(status == REG_OK || status == REG_DELETING);
}

/* Ends something that anybody may have made and anybody else may be ending. */
static void mixed_end(struct rig *rig, struct job *job)
{
	struct reg_exit ex = {.code = 1};
	struct reg_sandbox_view view;
	char name[32];

	(void)snprintf(name, sizeof(name), "n%u", rig_below(&job->random, 60));
	if (reg_get(rig->me, "default", name, &view) != REG_OK)
		return;
	CHECK_STR(view.name, name);
	CHECK(view.state >= REG_RESERVED && view.state <= REG_LOST);
	switch (rig_below(&job->random, 4)) {
	case 0:
		(void)reg_exited(rig->me, view.sandbox, &ex);
		break;
	case 1:
		(void)!reg_stop(rig->me, view.sandbox, REG_STOP_EXPIRE, NULL);
		break;
	default:
		(void)!reg_stop(rig->me, view.sandbox, REG_STOP_DELETE, NULL);
		break;
	}
	if (rig_below(&job->random, 2))
		(void)reg_stopped(rig->me, view.sandbox, &ex);
}

static void mixed_child(struct rig *rig, void *arg)
{
	struct job *job = arg;
	struct reg_sandbox_view view;
	struct reg_request req;
	uint32_t cursor;
	uint16_t ports[2];
	char name[32], request_id[32];

	for (uint32_t i = 0; i < job->shared->rounds; i++) {
		(void)snprintf(name, sizeof(name), "n%u", rig_below(&job->random, 60));
		(void)snprintf(request_id, sizeof(request_id), "r%u", rig_below(&job->random, 60));
		req = rig_request(name);
		req.request_id = rig_below(&job->random, 2) ? request_id : NULL;
		ports[0] = (uint16_t)(1 + rig_below(&job->random, 20));
		ports[1] = (uint16_t)(ports[0] + 1);
		req.ports = ports;
		req.port_count = rig_below(&job->random, 3);
		mixed_one(rig, job, &req);
		mixed_end(rig, job);
		if (i % 64 == 0)
			for (cursor = 0; reg_next(rig->me, &cursor, NULL, &view);)
				CHECK(view.name[0] == 'n' && strcmp(view.id, view.name) == 0);
		if (i % 1024 == 0 && job->no == 0)
			(void)rig_store_run(rig);
	}
}

static void test_everything(void **state)
{
	struct rig *rig = *state;
	struct shared *shared = rig_shared_alloc(sizeof(*shared));

	for (int i = 0; i < AGENTS; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "a%d", i);
		rig_images(rig, rig_agent(rig, name, 4), i % 2 ? "img" : NULL);
	}
	shared->procs = PROCS;
	shared->rounds = rig_scaled(30000);
	run_children(rig, shared, mixed_child);
	for (int i = 0; i < REG_STATUS_MAX; i++)
		if (shared->totals[i])
			printf("%s %u, ", reg_status_name((enum reg_status)i), shared->totals[i]);
	printf("\n");
	CHECK(shared->totals[REG_OK] > 100);
	CHECK_SOUND(rig);
	rig_delete_all(rig);
	CHECK_EMPTY(rig);
	rig_check_free_slots(rig, "pool", 4 * AGENTS);
	rig_shared_free(shared, sizeof(*shared));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_as_many_as_free, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_same_name, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_same_request_id, rig_setup, rig_teardown),
#ifdef FSB_FAILPOINTS
		cmocka_unit_test_setup_teardown(test_as_many_as_free_slowly, rig_setup,
						rig_teardown),
		cmocka_unit_test_setup_teardown(test_same_request_id_slowly, rig_setup,
						rig_teardown),
#endif
		cmocka_unit_test_setup_teardown(test_ports, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_everything, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
