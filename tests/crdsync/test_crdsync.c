/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsb-crdsync as a process, on a real arena and a real SQLite file: newest state wins, short lives
 * leave no row, kill -9 at each step and a successor, and how late the store is.
 */
#include <stdio.h>
#include <string.h>

#include "rig.h"

static void test_newest_state(void **state)
{
	struct test *t = *state;
	const struct reg_exit exit = {.code = 0, .finished_unix_ns = clock_unix_ns()};
	struct reg_request req;
	reg_sandbox_id a;
	pid_t pid;

	fixture_agent(t->f, "agent-1", 8);
	req = fixture_request("a");
	a = fixture_run(t->f, &req);
	pid = start_loaded(t);
	WAIT_FOR(is_stored(t, a));
	assert_phase(t, "a", "Running");
	assert_reg(REG_OK, reg_exited(t->f->me, a, &exit));
	WAIT_FOR(is_stored(t, a));
	assert_phase(t, "a", "Succeeded");
	assert_string_equal(query(t, "SELECT count(*) FROM objects"), "1");
	assert_int_equal(fixture_end(t->f, pid, SIGTERM), 0);
}

static void test_short_life_leaves_no_row(void **state)
{
	struct test *t = *state;
	struct reg_request req = fixture_request("short");
	reg_sandbox_id a, b;
	pid_t pid;

	fixture_agent(t->f, "agent-1", 8);
	pid = start_loaded(t);
	fixture_stop(pid);
	a = fixture_run(t->f, &req);
	fixture_delete(t->f, a);
	assert_true(is_freed(t, a)); /* without waiting for a store that never saw it */
	req = fixture_request("long");
	b = fixture_run(t->f, &req);
	assert_int_equal(kill(pid, SIGCONT), 0);
	WAIT_FOR(is_stored(t, b));
	assert_string_equal(query(t, "SELECT group_concat(name) FROM objects"), "long");
	assert_int_equal(fixture_end(t->f, pid, SIGTERM), 0);
}

static void test_delete_removes_row(void **state)
{
	struct test *t = *state;
	struct reg_request req = fixture_request("a");
	reg_sandbox_id a, again;
	pid_t pid;

	fixture_agent(t->f, "agent-1", 8);
	pid = start_loaded(t);
	a = fixture_run(t->f, &req);
	WAIT_FOR(is_stored(t, a));
	fixture_delete(t->f, a);
	req = fixture_request("a"); /* the name is free at once, the row's turn comes */
	req.id = "second-id";
	again = fixture_run(t->f, &req);
	WAIT_FOR(is_freed(t, a) && is_stored(t, again));
	assert_string_equal(query(t, "SELECT group_concat(id) FROM objects"), "second-id");
	assert_int_equal(fixture_end(t->f, pid, SIGTERM), 0);
}

static void test_sigterm_writes_the_rest(void **state)
{
	struct test *t = *state;
	char name[16];
	pid_t pid;

	fixture_agent(t->f, "agent-1", 2000);
	pid = start_loaded(t);
	fixture_stop(pid);
	for (int i = 0; i < 1200; i++) {
		struct reg_request req;

		snprintf(name, sizeof(name), "s%d", i);
		req = fixture_request(name);
		fixture_run(t->f, &req);
	}
	assert_int_equal(kill(pid, SIGTERM), 0);
	assert_int_equal(kill(pid, SIGCONT), 0);
	assert_int_equal(fixture_wait(t->f, pid, 10 * NS_PER_S), 0);
	assert_int_equal(reg_dirty_count(t->f->reg), 0);
	assert_string_equal(query(t, "SELECT count(*) FROM objects"), "1200");
}

/* kill -9 at one step of a turn that holds a new record, a changed one and a deletion; a successor
 * converges. */
static void kill_at(struct test *t, const char *failpoint)
{
	const struct reg_exit exit = {.code = 3, .finished_unix_ns = clock_unix_ns()};
	struct reg_request req;
	reg_sandbox_id changed, deleted, fresh;
	char env[96];
	pid_t pid;

	fixture_agent(t->f, "agent-1", 8);
	pid = start_loaded(t);
	req = fixture_request("changed");
	changed = fixture_run(t->f, &req);
	req = fixture_request("deleted");
	deleted = fixture_run(t->f, &req);
	WAIT_FOR(is_stored(t, changed) && is_stored(t, deleted));
	assert_int_equal(fixture_end(t->f, pid, SIGTERM), 0);

	assert_reg(REG_OK, reg_exited(t->f->me, changed, &exit));
	fixture_delete(t->f, deleted);
	req = fixture_request("fresh");
	fresh = fixture_run(t->f, &req);
	snprintf(env, sizeof(env), "FSB_FAILPOINT=%s=kill", failpoint);
	pid = start_with(t, t->url, env);
	assert_int_equal(fixture_wait(t->f, pid, 10 * NS_PER_S), 128 + SIGKILL);

	pid = start_loaded(t);
	WAIT_FOR(is_stored(t, changed) && is_stored(t, fresh) && is_freed(t, deleted));
	assert_phase(t, "changed", "Failed");
	assert_phase(t, "fresh", "Running");
	assert_string_equal(query(t, "SELECT count(*) FROM objects"), "2");
	assert_int_equal(reg_dirty_count(t->f->reg), 0);
	assert_int_equal(fixture_end(t->f, pid, SIGTERM), 0);
}

static void test_kill_taken(void **state)
{
	kill_at(*state, "crdsync.taken");
}

static void test_kill_begun(void **state)
{
	kill_at(*state, "crdsync.begun");
}

static void test_kill_written(void **state)
{
	kill_at(*state, "crdsync.written");
}

static void test_kill_committed(void **state)
{
	kill_at(*state, "crdsync.committed");
}

static void test_kill_published(void **state)
{
	kill_at(*state, "crdsync.published");
}

/* ---- figures ---- */

/*
 * n FAST creates from one process, pause_us apart: prints the lag. No bound: the machine does other
 * things, too. The histogram is of all so far.
 */
static void measure_lag(struct test *t, int n, useconds_t pause_us)
{
	struct reg_hist_view lag;
	uint64_t start_ns, made_ns;
	char name[48];

	start_ns = clock_mono_ns();
	for (int i = 0; i < n; i++) {
		struct reg_request req;

		snprintf(name, sizeof(name), "n%d-p%u-s%d", n, pause_us, i);
		req = fixture_request(name);
		fixture_run(t->f, &req);
		if (pause_us)
			usleep(pause_us);
	}
	made_ns = clock_mono_ns();
	WAIT_FOR(reg_dirty_count(t->f->reg) == 0 && reg_store_lag_ns(t->f->me) == 0);
	reg_hist_get(t->f->reg, REG_HIST_STORE_LAG, &lag);
	print_message("%d creates in %.1f ms, all stored %.1f ms after the last; lag p50 %.1f p99 "
		      "%.1f max %.1f ms (%lu writes so far)\n",
		      n, (double)(made_ns - start_ns) / 1e6,
		      (double)(clock_mono_ns() - made_ns) / 1e6, (double)lag.p50_ns / 1e6,
		      (double)lag.p99_ns / 1e6, (double)lag.max_ns / 1e6, (unsigned long)lag.count);
}

static void lag_of(struct test *t, int n, useconds_t pause_us)
{
	char count[16];
	pid_t pid = start_loaded(t);

	fixture_agent(t->f, "agent-1", 4000);
	measure_lag(t, n, pause_us);
	assert_int_equal(fixture_end(t->f, pid, SIGTERM), 0);
	snprintf(count, sizeof(count), "%d", n);
	assert_string_equal(query(t, "SELECT count(*) FROM objects"), count);
	fixture_print_log(t->f, "crdsync.log");
}

static void test_lag_100(void **state)
{
	lag_of(*state, 100, 0);
}

static void test_lag_1000(void **state)
{
	lag_of(*state, 1000, 0);
}

static void test_lag_paced(void **state)
{
	lag_of(*state, 1000, 500);
}

/* What waits for the store is not held up by the gathering of others. */
static void test_urgent(void **state)
{
	struct test *t = *state;
	struct reg_request req;
	struct reg_sandbox_view view;
	uint64_t start_ns, worst_ns = 0;
	char name[32];
	pid_t pid = start_loaded(t);

	fixture_agent(t->f, "agent-1", 100);
	for (int i = 0; i < 50; i++) {
		struct reg_lease lease;

		snprintf(name, sizeof(name), "strong-%d", i);
		req = fixture_request(name);
		req.consistency = REG_STRONG;
		start_ns = clock_mono_ns();
		assert_reg(REG_OK, reg_reserve(t->f->me, &req, &lease));
		assert_reg(REG_OK, reg_watch(t->f->me, lease.sandbox));
		assert_reg(REG_OK, reg_dirty_urgent(t->f->me, lease.sandbox));
		do {
			uint32_t seen = reg_watch_seq(t->f->me);

			assert_reg(REG_OK, reg_view(t->f->me, lease.sandbox, &view));
			if (view.stored_revision < view.revision)
				reg_watch_wait(t->f->me, seen, 10 * NS_PER_S);
		} while (view.stored_revision < view.revision &&
			 clock_mono_ns() - start_ns < 10 * NS_PER_S);
		assert_true(view.stored_revision >= view.revision);
		if (clock_mono_ns() - start_ns > worst_ns)
			worst_ns = clock_mono_ns() - start_ns;
		assert_reg(REG_OK, reg_abort(t->f->me, &lease));
	}
	print_message("reserve to stored: worst of 50 %.1f ms\n", (double)worst_ns / 1e6);
	assert_int_equal(fixture_end(t->f, pid, SIGTERM), 0);
	assert_string_equal(query(t, "SELECT count(*) FROM objects"), "0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_newest_state),
		TEST(test_short_life_leaves_no_row),
		TEST(test_delete_removes_row),
		TEST(test_sigterm_writes_the_rest),
		TEST(test_kill_taken),
		TEST(test_kill_begun),
		TEST(test_kill_written),
		TEST(test_kill_committed),
		TEST(test_kill_published),
		TEST(test_lag_100),
		TEST(test_lag_1000),
		TEST(test_lag_paced),
		TEST(test_urgent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
