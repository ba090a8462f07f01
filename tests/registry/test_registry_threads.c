/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads over one mapping, each a participant of its own: the storm under ThreadSanitizer, which
 * does not connect two mappings of a page. Without it, one more stress test.
 */
#include "rig.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4 };

struct shared {
	struct rig *rig;
	uint32_t rounds;
	_Atomic uint32_t winners, failures, left;
	struct rig_barrier barrier;
};

struct thread {
	struct shared *shared;
	struct reg_self *me;
	uint64_t random;
	uint32_t no;
	pthread_t id;
};

static const char text[1000] = "spec and labels, long enough to be copied word by word";

/* Threads can't use cmocka's longjmp. */
static void must(struct thread *thread, bool ok, const char *what)
{
	if (ok)
		return;
	(void)fprintf(stderr, "thread %u: not true: %s\n", thread->no, what);
	atomic_fetch_add_explicit(&thread->shared->failures, 1, memory_order_relaxed);
}
#define MUST(cond) must(thread, !!(cond), #cond)

static void run_threads(struct shared *shared, void *(*fn)(void *))
{
	struct thread threads[THREADS];

	atomic_store_explicit(&shared->left, THREADS, memory_order_relaxed);
	for (uint32_t i = 0; i < THREADS; i++) {
		threads[i] = (struct thread){.shared = shared, .no = i, .random = 77 + i};
		CHECK_EQ(pthread_create(&threads[i].id, NULL, fn, &threads[i]), 0);
	}
	for (uint32_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(threads[i].id, NULL), 0);
	CHECK_EQ(shared->failures, 0);
}

static void life(struct thread *thread, const struct reg_request *req)
{
	struct reg_started started = {.started_unix_ns = 1};
	struct reg_lease lease;
	enum reg_status status = reg_reserve(thread->me, req, &lease);

	if (status != REG_OK) {
		MUST(status == REG_NAME_EXISTS || status == REG_NAME_TERMINATING ||
		     status == REG_NO_CAPACITY || status == REG_PORT_CONFLICT ||
		     status == REG_REQUEST_SEEN);
		return;
	}
	if (rig_below(&thread->random, 3) == 0) {
		MUST(reg_abort(thread->me, &lease) == REG_OK);
		return;
	}
	status = reg_starting(thread->me, &lease);
	if (status == REG_DELETING) {
		MUST(reg_abort(thread->me, &lease) == REG_OK);
		return;
	}
	MUST(status == REG_OK);
	status = reg_commit(thread->me, &lease, &started);
	MUST(status == REG_OK || status == REG_DELETING);
}

static void change(struct thread *thread)
{
	struct reg_update update = {
		.fields = REG_SET_LABELS | REG_SET_EXPIRE, .labels = "a=b", .labels_len = 3};
	struct reg_exit ex = {.code = 2};
	struct reg_sandbox_view view;
	char name[32];

	(void)snprintf(name, sizeof(name), "n%u", rig_below(&thread->random, 40));
	if (reg_get(thread->me, "default", name, &view) != REG_OK)
		return;
	MUST(strcmp(view.name, name) == 0);
	switch (rig_below(&thread->random, 5)) {
	case 0:
		(void)reg_exited(thread->me, view.sandbox, &ex);
		break;
	case 1:
		(void)reg_update(thread->me, view.sandbox, &update);
		break;
	case 2:
		(void)reg_watch(thread->me, view.sandbox);
		break;
	default:
		(void)!reg_stop(thread->me, view.sandbox, REG_STOP_DELETE, NULL);
		break;
	}
	(void)reg_stopped(thread->me, view.sandbox, NULL);
}

static void look(struct thread *thread)
{
	static _Thread_local char buf[8192];
	struct reg_sandbox_view view;
	struct reg_agent_view agent;
	struct reg_pool_view pool;
	uint32_t len;

	for (uint32_t cursor = 0; reg_next(thread->me, &cursor, NULL, &view);) {
		MUST(view.name[0] == 'n');
		(void)!reg_spec(thread->me, view.sandbox, buf, sizeof(buf), &len);
		(void)!reg_labels(thread->me, view.sandbox, buf, sizeof(buf), &len);
	}
	for (uint32_t cursor = 0; reg_agent_next(thread->me, &cursor, &agent);)
		MUST(agent.name[0] == 'a');
	for (uint32_t cursor = 0; reg_pool_next(thread->me, &cursor, &pool);)
		MUST(strcmp(pool.name, "pool") == 0);
	(void)reg_store_lag_ns(thread->me);
}

/* What crdsync and registryd do beside the workers. */
static void administrate(struct thread *thread, uint32_t i)
{
	static const char *const images[] = {"img", "other"};
	struct reg_agent_info info = {.ns = "default",
				      .name = i % 2 ? "a1" : "a2",
				      .pool = "pool",
				      .node = "n",
				      .address = "x",
				      .host_ip = "",
				      .capacity = (int32_t)(4 + i % 3)};
	struct reg_sandbox_view view;
	struct reg_reap_result result;
	reg_sandbox_id taken[8];
	reg_agent_id agent;

	MUST(reg_agent_join(thread->me, &info, &agent) == REG_OK);
	MUST(reg_agent_set_images(thread->me, agent, images, i % 3) == REG_OK);
	MUST(reg_agent_set_ready(thread->me, agent, true) == REG_OK);
	MUST(reg_agent_heartbeat(thread->me, agent, i) == REG_OK);
	for (uint32_t n = reg_dirty_take(thread->me, taken, 8); n > 0; n--) {
		if (reg_store_begin(thread->me, taken[n - 1], &view) != REG_OK)
			continue;
		if (view.state == REG_GONE)
			(void)reg_store_forgotten(thread->me, taken[n - 1]);
		else
			(void)reg_stored(thread->me, taken[n - 1], view.revision, 1);
	}
	MUST(reg_reap(thread->me, NULL, NULL, &result) == REG_OK);
	MUST(result.participants == 0);
	(void)reg_scrub(thread->me);
}

static void *storm_fn(void *arg)
{
	struct thread *thread = arg;
	uint16_t ports[2];
	struct reg_request req;
	char name[32], request_id[32];

	if (reg_join(thread->shared->rig->reg, REG_KIND_WORKER, &thread->me) != REG_OK)
		abort();
	for (uint32_t i = 0; i < thread->shared->rounds; i++) {
		if (thread->no == 0 && i % 4 == 0)
			administrate(thread, i);
		(void)snprintf(name, sizeof(name), "n%u", rig_below(&thread->random, 40));
		(void)snprintf(request_id, sizeof(request_id), "r%u",
			       rig_below(&thread->random, 40));
		req = rig_request(name);
		req.request_id = rig_below(&thread->random, 2) ? request_id : NULL;
		ports[0] = (uint16_t)(1 + rig_below(&thread->random, 10));
		ports[1] = (uint16_t)(ports[0] + 1);
		req.ports = ports;
		req.port_count = rig_below(&thread->random, 3);
		req.spec = text;
		req.spec_len = 100 + rig_below(&thread->random, 900);
		req.labels = text;
		req.labels_len = rig_below(&thread->random, 700);
		life(thread, &req);
		change(thread);
		if (i % 4 == 0)
			look(thread);
	}
	(void)reg_leave(thread->me);
	return NULL;
}

static void test_storm(void **state)
{
	struct rig *rig = *state;
	struct shared shared = {.rig = rig, .rounds = rig_scaled(20000)};
	char name[16];

	for (int i = 0; i < 4; i++) {
		(void)snprintf(name, sizeof(name), "a%d", i);
		rig_images(rig, rig_agent(rig, name, 6), i % 2 ? "img" : NULL);
	}
	run_threads(&shared, storm_fn);
	CHECK_SOUND(rig);
	rig_delete_all(rig);
	CHECK_EMPTY(rig);
}

static void *winner_fn(void *arg)
{
	struct thread *thread = arg;
	struct reg_request req;
	struct reg_lease lease;
	char name[32];

	if (reg_join(thread->shared->rig->reg, REG_KIND_WORKER, &thread->me) != REG_OK)
		abort();
	for (uint32_t i = 0; i < thread->shared->rounds; i++) {
		enum reg_status status;

		(void)snprintf(name, sizeof(name), "n%u", i);
		req = rig_request(name);
		rig_barrier_wait(&thread->shared->barrier, THREADS);
		status = reg_reserve(thread->me, &req, &lease);
		MUST(status == REG_OK || status == REG_NAME_EXISTS);
		if (status == REG_OK)
			atomic_fetch_add_explicit(&thread->shared->winners, 1,
						  memory_order_relaxed);
		rig_barrier_wait(&thread->shared->barrier, THREADS);
		if (status == REG_OK)
			MUST(reg_abort(thread->me, &lease) == REG_OK);
	}
	(void)reg_leave(thread->me);
	return NULL;
}

static void test_one_winner(void **state)
{
	struct rig *rig = *state;
	struct shared shared = {.rig = rig, .rounds = rig_scaled(20000)};

	(void)rig_agent(rig, "a", 16);
	run_threads(&shared, winner_fn);
	CHECK_EQ(shared.winners, shared.rounds);
	CHECK_EMPTY(rig);
}

/* Joining and leaving threads beside a process that reaps: none of them is ever taken for dead. */
static void *joiner_fn(void *arg)
{
	struct thread *thread = arg;
	struct reg_request req;
	struct reg_lease lease;
	char name[32];

	(void)snprintf(name, sizeof(name), "t%u", thread->no);
	req = rig_request(name);
	for (uint32_t i = 0; i < thread->shared->rounds; i++) {
		if (reg_join(thread->shared->rig->reg, REG_KIND_WORKER, &thread->me) != REG_OK)
			abort();
		MUST(reg_reserve(thread->me, &req, &lease) == REG_OK);
		MUST(reg_starting(thread->me, &lease) == REG_OK);
		MUST(reg_abort(thread->me, &lease) == REG_OK);
		thread->me = reg_leave(thread->me);
	}
	atomic_fetch_sub_explicit(&thread->shared->left, 1, memory_order_relaxed);
	return NULL;
}

static void reaper_fn(struct rig *rig, void *arg)
{
	const _Atomic uint32_t *done = arg;
	struct reg_reap_result result;

	while (!atomic_load_explicit(done, memory_order_relaxed)) {
		CHECK_OK(reg_reap(rig->me, rig_abort_orphan, rig, &result));
		CHECK_EQ(result.participants, 0);
	}
}

static void test_joins_beside_a_reaper(void **state)
{
#ifdef __SANITIZE_THREAD__
	/* it can't follow the fork of a process that has threads; the other presets run this */
	print_message("skipped: ThreadSanitizer can't follow a fork beside a thread\n");
	skip();
#endif
	struct rig *rig = *state;
	struct shared shared = {.rig = rig, .rounds = rig_scaled(2000)};
	_Atomic uint32_t *done = rig_shared_alloc(sizeof(*done));
	pid_t pid;

	RIG_SKIP_PROCESSES();
	(void)rig_agent(rig, "a", 16);
	pid = rig_fork(rig, reaper_fn, done);
	run_threads(&shared, joiner_fn);
	atomic_store_explicit(done, 1, memory_order_relaxed);
	rig_join(pid);
	CHECK_EMPTY(rig);
	rig_shared_free(done, sizeof(*done));
}

/* Threads that read through another thread's self come and go: liburcu's list of readers forgets
 * them. */
static void *passing_reader(void *arg)
{
	struct rig *rig = arg;
	struct reg_sandbox_view view;

	CHECK_OK(reg_get(rig->me, "default", "read", &view));
	return NULL;
}

static void test_readers_come_and_go(void **state)
{
	struct rig *rig = *state;
	struct reg_request req = rig_request("read");
	pthread_attr_t attr;

	(void)rig_agent(rig, "a", 1);
	(void)rig_run(rig, &req);
	CHECK(!pthread_attr_init(&attr));
	CHECK(!pthread_attr_setstacksize(&attr, 64 << 20)); /* not kept for the next thread */
	for (int i = 0; i < 8; i++) {
		pthread_t thread;

		CHECK(!pthread_create(&thread, &attr, passing_reader, rig));
		CHECK(!pthread_join(thread, NULL));
	}
	(void)pthread_attr_destroy(&attr);
	rig_delete_all(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_readers_come_and_go, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_joins_beside_a_reaper, rig_setup,
						rig_teardown),
		cmocka_unit_test_setup_teardown(test_one_winner, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_storm, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
