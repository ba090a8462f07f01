/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty set and the store's side of a record: newest revision, nothing for what came and went,
 * GONE until forgotten, urgent first, lag, rescan after a writer's death, and the wake-ups across
 * processes.
 */
#include "rig.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

static reg_sandbox_id take_one(struct rig *rig)
{
	reg_sandbox_id taken[2];

	CHECK_EQ(reg_dirty_take(rig->me, taken, 2), 1);
	return taken[0];
}

static void change(struct rig *rig, reg_sandbox_id id, int64_t expire)
{
	struct reg_update update = {.fields = REG_SET_EXPIRE, .expire_unix_s = expire};

	CHECK_OK(reg_update(rig->me, id, &update));
}

static void test_newest_revision(void **state)
{
	struct rig *rig = *state;
	struct reg_request req = rig_request("one");
	struct reg_sandbox_view view;
	uint64_t revision;
	reg_sandbox_id id, taken;

	(void)rig_agent(rig, "a", 4);
	CHECK_EQ(reg_dirty_count(rig->reg), 0);
	CHECK_EQ(reg_store_lag_ns(rig->me), 0);
	id = rig_run(rig, &req);
	for (int i = 1; i <= 5; i++)
		change(rig, id, i);
	CHECK_EQ(reg_dirty_count(rig->reg), 1); /* coalesced */
	CHECK(reg_store_lag_ns(rig->me) > 0);
	taken = take_one(rig);
	CHECK_EQ(taken.idx, id.idx);
	CHECK_EQ(taken.gen, id.gen);
	CHECK_EQ(reg_dirty_take(rig->me, &taken, 1), 0);
	CHECK_OK(reg_store_begin(rig->me, id, &view));
	CHECK_EQ(view.expire_unix_s, 5);
	CHECK_EQ(view.stored_revision, 0);
	CHECK(view.dirty_since_ns > 0);
	revision = view.revision;
	change(rig, id, 6); /* meanwhile */
	CHECK_OK(reg_stored(rig->me, id, revision, 10));
	CHECK_OK(reg_view(rig->me, id, &view));
	CHECK_EQ(view.stored_revision, revision);
	CHECK(view.revision > revision);
	CHECK(view.dirty_since_ns > 0);
	(void)take_one(rig); /* dirty again */
	CHECK_OK(reg_store_begin(rig->me, id, &view));
	CHECK_EQ(view.expire_unix_s, 6);
	CHECK_OK(reg_stored(rig->me, id, view.revision, 10));
	CHECK_OK(reg_stored(rig->me, id, revision, 10)); /* an old one does not go back */
	CHECK_OK(reg_view(rig->me, id, &view));
	CHECK_EQ(view.stored_revision, view.revision);
	CHECK_EQ(view.dirty_since_ns, 0);
	CHECK_EQ(reg_store_lag_ns(rig->me), 0);
	CHECK_EQ(reg_dirty_count(rig->reg), 0);
}

static void test_every_change_is_dirty(void **state)
{
	struct rig *rig = *state;
	struct reg_request req = rig_request("one");
	struct reg_exit ex = {.code = 0};
	struct reg_lease lease;
	uint64_t last = 0;

	(void)rig_agent(rig, "a", 4);
	for (int step = 0; step < 7; step++) {
		struct reg_sandbox_view view;

		rig_note("step %d", step);
		switch (step) {
		case 0:
			CHECK_OK(reg_reserve(rig->me, &req, &lease));
			break;
		case 1:
			CHECK_OK(reg_starting(rig->me, &lease));
			break;
		case 2:
			CHECK_OK(reg_commit(rig->me, &lease, &(struct reg_started){0}));
			break;
		case 3:
			CHECK_OK(reg_lost(rig->me, lease.sandbox, "l"));
			break;
		case 4:
			CHECK_OK(reg_found(rig->me, lease.sandbox));
			break;
		case 5:
			CHECK_OK(reg_exited(rig->me, lease.sandbox, &ex));
			break;
		default:
			CHECK_OK(reg_stop(rig->me, lease.sandbox, REG_STOP_DELETE, NULL));
			break;
		}
		CHECK_OK(reg_view(rig->me, lease.sandbox, &view));
		CHECK(view.revision > last);
		last = view.revision;
		CHECK_EQ(rig_store_run(rig), 1);
	}
	rig_delete(rig, lease.sandbox);
	CHECK_EQ(rig_store_run(rig), 1);
	CHECK_EMPTY(rig);
}

/* Created and deleted before its turn: the store never hears of it. */
static void test_came_and_went(void **state)
{
	struct rig *rig = *state;
	struct reg_request req = rig_request("one");
	struct reg_sandbox_view view;
	reg_sandbox_id id, taken;

	(void)rig_agent(rig, "a", 4);
	id = rig_run(rig, &req);
	rig_delete(rig, id);
	CHECK_EQ(rig_state(rig, id), REG_FREE);
	while (reg_dirty_take(rig->me, &taken, 1))
		CHECK_ST(reg_store_begin(rig->me, taken, &view), REG_STALE);
	/* taken, then deleted before the write began */
	id = rig_run(rig, &req);
	taken = take_one(rig);
	rig_delete(rig, id);
	CHECK_ST(reg_store_begin(rig->me, taken, &view), REG_STALE);
	CHECK_EMPTY(rig);
}

static void test_gone_until_forgotten(void **state)
{
	struct rig *rig = *state;
	struct reg_request req = rig_request("one");
	struct reg_sandbox_view view;
	struct reg_lease lease;
	struct reg_books books;
	reg_sandbox_id id, taken, second;
	uint32_t cursor = 0;

	(void)rig_agent(rig, "a", 4);
	req.request_id = "r";
	id = rig_run(rig, &req);
	taken = take_one(rig);
	CHECK_OK(reg_store_begin(rig->me, taken, &view)); /* from here the store may hold it */
	CHECK_ST(reg_store_forgotten(rig->me, id), REG_BAD_STATE);
	rig_delete(rig, id);
	CHECK_OK(reg_view(rig->me, id, &view));
	CHECK_EQ(view.state, REG_GONE);
	CHECK_STR(view.id, "one"); /* what the store has to delete */
	CHECK_ST(reg_get(rig->me, "default", "one", &view), REG_NOT_FOUND);
	CHECK(!reg_next(rig->me, &cursor, NULL, &view));
	CHECK_OK(reg_stored(rig->me, id, 1, 1)); /* the write that was under way */
	reg_books(rig->me, &books);
	CHECK_EQ(books.sandboxes, 1);
	CHECK_EQ(books.slots_held + books.names + books.request_ids, 0);
	/* name and request id are free */
	CHECK_OK(reg_reserve(rig->me, &req, &lease));
	second = lease.sandbox;
	CHECK(second.idx != id.idx);
	CHECK_OK(reg_abort(rig->me, &lease));
	while (reg_dirty_take(rig->me, &taken, 1)) {
		if (taken.idx != id.idx)
			continue;
		CHECK_OK(reg_store_begin(rig->me, taken, &view));
		CHECK_EQ(view.state, REG_GONE);
		reg_dirty_again(rig->me, taken); /* the store was busy */
		taken = take_one(rig);
		CHECK_EQ(taken.idx, id.idx);
		CHECK_OK(reg_store_begin(rig->me, taken, &view));
		CHECK_OK(reg_store_forgotten(rig->me, taken));
	}
	CHECK_ST(reg_view(rig->me, id, &view), REG_STALE);
	CHECK_ST(reg_store_forgotten(rig->me, id), REG_STALE);
	CHECK_EMPTY(rig);
}

static void test_urgent_first(void **state)
{
	struct rig *rig = *state;
	reg_sandbox_id ids[40], taken[40];
	struct reg_request req;
	char name[16];

	(void)rig_agent(rig, "a", 64);
	for (int i = 0; i < 40; i++) {
		(void)snprintf(name, sizeof(name), "n%d", i);
		req = rig_request(name);
		ids[i] = rig_run(rig, &req);
	}
	CHECK(!reg_dirty_urgent_waiting(rig->reg));
	CHECK_OK(reg_dirty_urgent(rig->me, ids[33]));
	CHECK_OK(reg_dirty_urgent(rig->me, ids[21]));
	CHECK(reg_dirty_urgent_waiting(rig->reg));
	CHECK_EQ(reg_dirty_take(rig->me, taken, 2), 2);
	CHECK(taken[0].idx == ids[33].idx || taken[0].idx == ids[21].idx);
	CHECK(taken[1].idx == ids[33].idx || taken[1].idx == ids[21].idx);
	CHECK(taken[0].idx != taken[1].idx);
	CHECK(!reg_dirty_urgent_waiting(rig->reg));
	CHECK_EQ(reg_dirty_take(rig->me, taken, 40), 38);
	CHECK_EQ(reg_dirty_take(rig->me, taken, 40), 0);
	/* urgent again although nothing is new */
	CHECK_OK(reg_dirty_urgent(rig->me, ids[1]));
	CHECK_EQ(take_one(rig).idx, ids[1].idx);
}

/* A writer took everything and died: the next one finds it by rescan. */
static void dying_writer(struct rig *rig, void *arg)
{
	reg_sandbox_id taken[40];
	struct reg_sandbox_view view;

	(void)arg;
	CHECK_EQ(reg_dirty_take(rig->me, taken, 40), 10);
	for (int i = 0; i < 5; i++)
		CHECK_OK(reg_store_begin(rig->me, taken[i], &view));
	CHECK_OK(reg_stored(rig->me, taken[0], view.revision, 1));
	(void)raise(SIGKILL);
}

static void test_rescan(void **state)
{
	struct rig *rig = *state;
	reg_sandbox_id ids[10];
	struct reg_reap_result result;
	struct reg_request req;
	char name[16];

	(void)rig_agent(rig, "a", 64);
	for (int i = 0; i < 10; i++) {
		(void)snprintf(name, sizeof(name), "n%d", i);
		req = rig_request(name);
		ids[i] = rig_run(rig, &req);
	}
	CHECK(rig_join_killed(rig_fork(rig, dying_writer, NULL)));
	CHECK_OK(reg_reap(rig->me, rig_abort_orphan, rig, &result));
	for (int i = 0; i < 10; i++)
		rig_delete(rig, ids[i]);
	CHECK(reg_dirty_rescan(rig->me) >= 4);
	(void)rig_store_run(rig); /* the begun ones are GONE and are forgotten now */
	CHECK_EMPTY(rig);
}

/* ---- waking ---- */
struct shared {
	_Atomic uint32_t at;
	_Atomic uint64_t woken_ns;
	reg_sandbox_id id;
};

/* The other one may be further already. */
static void wait_for(_Atomic uint32_t *at, uint32_t value)
{
	while (atomic_load_explicit(at, memory_order_acquire) < value)
		(void)clock_mono_ns();
}

static void sleeping_writer(struct rig *rig, void *arg)
{
	struct shared *shared = arg;
	uint64_t start = clock_mono_ns();

	reg_dirty_wait(rig->me, 50 * NS_PER_MS);
	CHECK(clock_mono_ns() - start >= 45 * NS_PER_MS); /* nothing was dirty */
	for (uint32_t round = 1; round <= 200; round++) {
		atomic_store_explicit(&shared->at, round * 2 - 1, memory_order_release);
		start = clock_mono_ns();
		while (reg_dirty_count(rig->reg) == 0) {
			reg_dirty_wait(rig->me, 20 * NS_PER_S);
			CHECK(clock_mono_ns() - start < 10 * NS_PER_S);
		}
		CHECK(rig_store_run(rig) > 0);
		atomic_store_explicit(&shared->at, round * 2, memory_order_release);
	}
	/* a kick wakes, too */
	atomic_store_explicit(&shared->at, 1001, memory_order_release);
	start = clock_mono_ns();
	reg_dirty_wait(rig->me, 20 * NS_PER_S);
	CHECK(clock_mono_ns() - start < 10 * NS_PER_S);
	atomic_store_explicit(&shared->at, 1002, memory_order_release);
}

static void test_dirty_wakes(void **state)
{
	struct rig *rig = *state;
	struct shared *shared = rig_shared_alloc(sizeof(*shared));
	struct reg_request req = rig_request("one");
	uint64_t random = 3;
	reg_sandbox_id id;
	pid_t pid;

	(void)rig_agent(rig, "a", 4);
	id = rig_run(rig, &req);
	(void)rig_store_run(rig);
	pid = rig_fork(rig, sleeping_writer, shared);
	for (uint32_t round = 1; round <= 200; round++) {
		wait_for(&shared->at, round * 2 - 1);
		for (uint32_t spin = rig_below(&random, 20000); spin; spin--)
			(void)rig_random(&random);
		change(rig, id, round);
		wait_for(&shared->at, round * 2);
	}
	while (atomic_load_explicit(&shared->at, memory_order_acquire) != 1002)
		reg_dirty_kick(rig->reg);
	rig_join(pid);
	rig_shared_free(shared, sizeof(*shared));
}

/* ---- a waiter for STRONG: sleeps until its record is stored or changed ---- */
static void watcher_fn(struct rig *rig, void *arg)
{
	struct shared *shared = arg;
	struct reg_sandbox_view view;
	uint64_t deadline = clock_mono_ns() + 20 * NS_PER_S;

	for (uint32_t round = 1; round <= 200; round++) {
		CHECK_OK(reg_watch(rig->me, shared->id));
		atomic_store_explicit(&shared->at, round * 2 - 1, memory_order_release);
		for (;;) {
			uint32_t seen = reg_watch_seq(rig->me);

			CHECK_OK(reg_view(rig->me, shared->id, &view));
			if (view.stored_revision >= view.revision && view.expire_unix_s == round)
				break;
			CHECK(clock_mono_ns() < deadline);
			reg_watch_wait(rig->me, seen, 10 * NS_PER_S);
		}
		atomic_store_explicit(&shared->at, round * 2, memory_order_release);
	}
}

static void test_watch_wakes(void **state)
{
	struct rig *rig = *state;
	struct shared *shared = rig_shared_alloc(sizeof(*shared));
	struct reg_request req = rig_request("one");
	uint32_t seq;
	uint64_t start;
	pid_t pid;

	(void)rig_agent(rig, "a", 4);
	shared->id = rig_run(rig, &req);
	pid = rig_fork(rig, watcher_fn, shared);
	for (uint32_t round = 1; round <= 200; round++) {
		wait_for(&shared->at, round * 2 - 1);
		change(rig, shared->id, round);
		CHECK_EQ(rig_store_run(rig), 1);
		wait_for(&shared->at, round * 2);
	}
	rig_join(pid);
	/* our own: timeout, then phase change, then kick */
	start = clock_mono_ns();
	reg_watch_wait(rig->me, reg_watch_seq(rig->me), 30 * NS_PER_MS);
	CHECK(clock_mono_ns() - start >= 25 * NS_PER_MS);
	seq = reg_watch_seq(rig->me);
	CHECK_OK(reg_watch(rig->me, shared->id));
	CHECK_OK(reg_stop(rig->me, shared->id, REG_STOP_DELETE, NULL));
	CHECK(reg_watch_seq(rig->me) != seq);
	reg_watch_wait(rig->me, seq, UINT64_MAX); /* returns at once */
	seq = reg_watch_seq(rig->me);
	CHECK_OK(reg_watch(rig->me, shared->id));
	CHECK_OK(reg_stopped(rig->me, shared->id, NULL));
	CHECK(reg_watch_seq(rig->me) != seq); /* its end is a change, too */
	seq = reg_watch_seq(rig->me);
	reg_watch_kick(rig->me);
	reg_watch_wait(rig->me, seq, UINT64_MAX);
	rig_shared_free(shared, sizeof(*shared));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_newest_revision, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_every_change_is_dirty, rig_setup,
						rig_teardown),
		cmocka_unit_test_setup_teardown(test_came_and_went, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_gone_until_forgotten, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_urgent_first, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_rescan, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_dirty_wakes, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_watch_wakes, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
