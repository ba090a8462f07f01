/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsb-crdsync as a process, on a real arena and a real SQLite file: newest state wins, short lives
 * leave no row, kill -9 at each step and a successor, rebuild of a lost arena, and stores that
 * can't be used.
 */
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "fixture.h"

struct test {
	struct fixture *f;
	char db[128], url[160];
};

static int setup(void **state)
{
	struct test *t = calloc(1, sizeof(*t));

	t->f = fixture_new();
	snprintf(t->db, sizeof(t->db), "%s/store.db", t->f->dir);
	snprintf(t->url, sizeof(t->url), "sqlite:%s", t->db);
	fixture_create_arena(t->f);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct test *t = *state;

	fixture_free(t->f);
	free(t);
	return 0;
}

/* It has joined: signals have their handlers from before that. */
static bool has_joined(struct test *t, pid_t pid)
{
	struct reg_participant p;
	uint32_t cursor = 0;

	while (reg_participant_next(t->f->me, &cursor, &p)) {
		if (p.pid == pid)
			return true;
	}
	return false;
}

static pid_t start_with(struct test *t, const char *url, const char *env)
{
	const char *const argv[] = {FSB_CRDSYNC, "--arena", t->f->arena, "--store", url, NULL};

	return fixture_spawn(t->f, argv, env, "crdsync.log");
}

static pid_t start(struct test *t)
{
	return start_with(t, t->url, NULL);
}

/* Started and the store loaded. */
static pid_t start_loaded(struct test *t)
{
	pid_t pid = start(t);

	WAIT_FOR(reg_store_loaded(t->f->reg) && has_joined(t, pid));
	return pid;
}

/* One number or text of the database; the file may not exist yet. */
static char *query(struct test *t, const char *sql)
{
	static char result[65536];
	sqlite3_stmt *stmt = NULL;
	sqlite3 *db = NULL;

	strcpy(result, "(nothing)");
	if (sqlite3_open_v2(t->db, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK) {
		sqlite3_busy_timeout(db, 5000);
		if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK &&
		    sqlite3_step(stmt) == SQLITE_ROW)
			snprintf(result, sizeof(result), "%s",
				 (const char *)sqlite3_column_text(stmt, 0));
		sqlite3_finalize(stmt);
	}
	sqlite3_close(db);
	return result;
}

static void execute(struct test *t, const char *sql)
{
	sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open(t->db, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static bool is_stored(struct test *t, reg_sandbox_id sandbox)
{
	struct reg_sandbox_view view;

	assert_reg(REG_OK, reg_view(t->f->me, sandbox, &view));
	return view.stored_revision == view.revision;
}

static bool is_freed(struct test *t, reg_sandbox_id sandbox)
{
	struct reg_sandbox_view view;

	return reg_view(t->f->me, sandbox, &view) == REG_STALE;
}

/* Row and record agree, and the record holds the newest state. */
static void assert_phase(struct test *t, const char *name, const char *phase)
{
	char sql[256];

	snprintf(sql, sizeof(sql),
		 "SELECT json_extract(json, '$.status.phase') FROM objects WHERE name = '%s'",
		 name);
	assert_string_equal(query(t, sql), phase);
}

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
	assert_int_equal(kill(pid, SIGSTOP), 0);
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
	assert_int_equal(kill(pid, SIGSTOP), 0);
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

/* ---- rebuild ---- */

struct kept {
	struct reg_sandbox_view view;
	uint8_t spec[8192], labels[1024];
};

static void keep(struct test *t, const char *name, struct kept *to)
{
	uint32_t len;

	memset(to, 0, sizeof(*to));
	assert_reg(REG_OK, reg_get(t->f->me, "default", name, &to->view));
	assert_reg(REG_OK, reg_spec(t->f->me, to->view.sandbox, to->spec, sizeof(to->spec), &len));
	assert_reg(REG_OK,
		   reg_labels(t->f->me, to->view.sandbox, to->labels, sizeof(to->labels), &len));
}

static void assert_same(const struct kept *a, const struct kept *b, enum reg_state state)
{
	assert_int_equal(b->view.state, state);
	assert_string_equal(a->view.name, b->view.name);
	assert_string_equal(a->view.id, b->view.id);
	assert_string_equal(a->view.pool, b->view.pool);
	assert_string_equal(a->view.image, b->view.image);
	assert_string_equal(a->view.request_id, b->view.request_id);
	assert_string_equal(a->view.agent_name, b->view.agent_name);
	assert_string_equal(a->view.message, b->view.message);
	assert_int_equal(a->view.request_hash, b->view.request_hash);
	assert_int_equal(a->view.created_unix_ns, b->view.created_unix_ns);
	assert_int_equal(a->view.started_unix_ns, b->view.started_unix_ns);
	assert_int_equal(a->view.expire_unix_s, b->view.expire_unix_s);
	assert_int_equal(a->view.generation, b->view.generation);
	assert_int_equal(a->view.policy, b->view.policy);
	assert_int_equal(a->view.recovery_timeout_s, b->view.recovery_timeout_s);
	assert_int_equal(a->view.consistency, b->view.consistency);
	assert_int_equal(a->view.port_count, b->view.port_count);
	assert_memory_equal(a->view.ports, b->view.ports, sizeof(a->view.ports));
	assert_memory_equal(&a->view.exit, &b->view.exit, sizeof(a->view.exit));
	assert_int_equal(a->view.spec_len, b->view.spec_len);
	assert_memory_equal(a->spec, b->spec, sizeof(a->spec));
	assert_int_equal(a->view.labels_len, b->view.labels_len);
	assert_memory_equal(a->labels, b->labels, sizeof(a->labels));
}

/* Records in the states that a store can hold. Two agents: the same ports can't be used twice on
 * one. */
static void make_all(struct test *t)
{
	static const char *const names[] = {"runs", "exited", "expired", "lost", "strong"};
	const struct reg_exit exit = {
		.code = -1, .signal = 9, .oom_killed = true, .finished_unix_ns = clock_unix_ns()};
	reg_sandbox_id id[5];

	for (int i = 0; i < 5; i++) {
		char agent[16];
		struct reg_request req;

		snprintf(agent, sizeof(agent), "agent-%d", i);
		fixture_agent(t->f, agent, 1);
		req = fixture_request_ports(names[i]);
		if (i == 4)
			req.consistency = REG_STRONG;
		id[i] = fixture_run(t->f, &req);
	}
	assert_reg(REG_OK, reg_exited(t->f->me, id[1], &exit));
	assert_reg(REG_OK, reg_stop(t->f->me, id[2], REG_STOP_EXPIRE, NULL));
	assert_reg(REG_OK, reg_stopped(t->f->me, id[2], &exit));
	assert_reg(REG_OK, reg_lost(t->f->me, id[3], "agent agent-3 unreachable since \"then\""));
}

static void test_rebuild(void **state)
{
	static const char *const names[] = {"runs", "exited", "expired", "lost", "strong"};
	static const enum reg_state states[] = {REG_RESTORED, REG_EXITED, REG_EXPIRED, REG_LOST,
						REG_RESTORED};
	static struct kept before[5], after;
	struct test *t = *state;
	pid_t pid = start_loaded(t);

	make_all(t);
	for (int i = 0; i < 5; i++)
		keep(t, names[i], &before[i]);
	assert_int_equal(fixture_end(t->f, pid, SIGTERM), 0);
	fixture_detach_arena(t->f);
	assert_int_equal(unlink(t->f->arena), 0);

	fixture_create_arena(t->f);
	assert_false(reg_store_loaded(t->f->reg));
	pid = start_loaded(t);
	for (int i = 0; i < 5; i++) {
		keep(t, names[i], &after);
		assert_same(&before[i], &after, states[i]);
		assert_true(is_stored(t, after.view.sandbox));
	}
	assert_int_equal(reg_dirty_count(t->f->reg), 0);
	assert_int_equal(fixture_end(t->f, pid, SIGTERM), 0);
}

/* A delete that was asked for is not forgotten with the arena. */
static void test_rebuild_deleting(void **state)
{
	struct test *t = *state;
	struct reg_request req = fixture_request("going");
	struct reg_sandbox_view view;
	reg_sandbox_id a;
	pid_t pid = start_loaded(t);

	fixture_agent(t->f, "agent-1", 1);
	a = fixture_run(t->f, &req);
	assert_reg(REG_OK, reg_stop(t->f->me, a, REG_STOP_DELETE, NULL));
	WAIT_FOR(is_stored(t, a));
	assert_phase(t, "going", "Terminating");
	assert_int_equal(fixture_end(t->f, pid, SIGKILL), 128 + SIGKILL);
	fixture_detach_arena(t->f);
	assert_int_equal(unlink(t->f->arena), 0);
	fixture_create_arena(t->f);
	pid = start_loaded(t);
	assert_reg(REG_OK, reg_get(t->f->me, "default", "going", &view));
	assert_int_equal(view.state, REG_RESTORED);
	assert_true(view.deleting);
	assert_int_equal(fixture_end(t->f, pid, SIGTERM), 0);
}

/* Killed between the inserts and their publication: the next one finishes the load. */
static void test_kill_while_loading(void **state)
{
	struct test *t = *state;
	pid_t pid = start_loaded(t);

	make_all(t);
	assert_int_equal(fixture_end(t->f, pid, SIGTERM), 0);
	fixture_detach_arena(t->f);
	assert_int_equal(unlink(t->f->arena), 0);
	fixture_create_arena(t->f);
	pid = start_with(t, t->url, "FSB_FAILPOINT=crdsync.inserted=kill");
	assert_int_equal(fixture_wait(t->f, pid, 10 * NS_PER_S), 128 + SIGKILL);
	assert_false(reg_store_loaded(t->f->reg));
	pid = start_loaded(t);
	assert_string_equal(query(t, "SELECT count(*) FROM objects"), "5");
	assert_int_equal(fixture_end(t->f, pid, SIGTERM), 0);
}

/* Two rows of one name: the older one's deletion had not had its turn. One that can't be read stays
 * for whoever can. */
static void test_stale_and_unreadable_rows(void **state)
{
	struct test *t = *state;
	struct reg_request req = fixture_request("a");
	struct reg_sandbox_view view;
	reg_sandbox_id a;
	pid_t pid = start_loaded(t);

	fixture_agent(t->f, "agent-1", 8);
	a = fixture_run(t->f, &req);
	WAIT_FOR(is_stored(t, a));
	assert_int_equal(fixture_end(t->f, pid, SIGTERM), 0);
	execute(t, "INSERT INTO objects SELECT 'newer', namespace, name,"
		   " json_set(json, '$.status.sandboxID', 'newer',"
		   " '$.metadata.annotations.\"sandbox.fast.io/request-id\"', 'r2') FROM objects;"
		   "INSERT INTO objects VALUES('bad', 'default', 'bad', '{');");
	fixture_detach_arena(t->f);
	assert_int_equal(unlink(t->f->arena), 0);
	fixture_create_arena(t->f);
	pid = start_loaded(t);
	assert_reg(REG_OK, reg_get(t->f->me, "default", "a", &view));
	assert_string_equal(view.id, "newer");
	assert_string_equal(
		query(t, "SELECT group_concat(id) FROM (SELECT id FROM objects ORDER BY id)"),
		"bad,newer");
	assert_int_equal(fixture_end(t->f, pid, SIGTERM), 0);
}

/* ---- stores ---- */

static void test_other_store(void **state)
{
	struct test *t = *state;
	struct reg_request req = fixture_request("a");
	char other[160];
	pid_t pid = start_loaded(t);
	reg_sandbox_id a;

	fixture_agent(t->f, "agent-1", 8);
	a = fixture_run(t->f, &req);
	WAIT_FOR(is_stored(t, a));
	assert_int_equal(fixture_end(t->f, pid, SIGTERM), 0);
	/* an empty one gets everything */
	snprintf(t->db, sizeof(t->db), "%s/other.db", t->f->dir);
	snprintf(other, sizeof(other), "sqlite:%s", t->db);
	pid = start_with(t, other, NULL);
	WAIT_FOR(strcmp(query(t, "SELECT group_concat(name) FROM objects"), "a") == 0);
	assert_int_equal(fixture_end(t->f, pid, SIGTERM), 0);
	/* one with rows of another arena is not judged by this one */
	execute(t, "UPDATE meta SET value = 'another' WHERE key = 'instance'");
	pid = start_with(t, other, NULL);
	assert_int_equal(fixture_wait(t->f, pid, 10 * NS_PER_S), 2);
	assert_string_equal(query(t, "SELECT count(*) FROM objects"), "1");
}

static void test_bad_stores(void **state)
{
	struct test *t = *state;

	assert_int_equal(fixture_wait(t->f, start_with(t, "oracle:x", NULL), 10 * NS_PER_S), 2);
	assert_int_equal(
		io_write_file_atomic(AT_FDCWD, t->db, "no database here, only text ", 28, 0600, 0),
		0);
	assert_int_equal(fixture_wait(t->f, start(t), 10 * NS_PER_S), 2);
	assert_false(reg_store_loaded(t->f->reg));
}

/* A second crdsync waits for the first one's end. */
static void test_second_crdsync(void **state)
{
	struct test *t = *state;
	struct reg_request req = fixture_request("a");
	reg_sandbox_id a;
	pid_t first = start_loaded(t), second;

	fixture_agent(t->f, "agent-1", 8);
	second = start(t);
	a = fixture_run(t->f, &req);
	WAIT_FOR(is_stored(t, a));
	assert_int_equal(fixture_end(t->f, first, SIGKILL), 128 + SIGKILL);
	req = fixture_request("b");
	a = fixture_run(t->f, &req);
	WAIT_FOR(is_stored(t, a));
	assert_int_equal(fixture_end(t->f, second, SIGTERM), 0);
}

/* With the database locked by somebody else nothing is lost, and trying again does not burn the
 * processor. */
static void test_locked_database(void **state)
{
	struct test *t = *state;
	struct reg_request req = fixture_request("a");
	struct rusage before, after;
	sqlite3 *db = NULL;
	reg_sandbox_id a;
	pid_t pid = start_loaded(t);
	int64_t used_us;

	fixture_agent(t->f, "agent-1", 8);
	assert_int_equal(sqlite3_open(t->db, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	a = fixture_run(t->f, &req);
	usleep(500000); /* the time in which it must not get through, and not spin */
	assert_false(is_stored(t, a));
	assert_int_equal(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	WAIT_FOR(is_stored(t, a));
	getrusage(RUSAGE_CHILDREN, &before);
	assert_int_equal(fixture_end(t->f, pid, SIGTERM), 0);
	getrusage(RUSAGE_CHILDREN, &after);
	used_us = (after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000 +
		  (after.ru_utime.tv_usec - before.ru_utime.tv_usec);
	assert_true(used_us < 300000);
}

/* A replaced arena ends the process, so that its supervisor starts one for the new arena. */
static void test_arena_replaced(void **state)
{
	struct test *t = *state;
	pid_t pid = start_loaded(t);

	assert_int_equal(unlink(t->f->arena), 0);
	assert_int_equal(fixture_wait(t->f, pid, 10 * NS_PER_S), 3);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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
		TEST(test_rebuild),
		TEST(test_rebuild_deleting),
		TEST(test_kill_while_loading),
		TEST(test_stale_and_unreadable_rows),
		TEST(test_other_store),
		TEST(test_bad_stores),
		TEST(test_second_crdsync),
		TEST(test_locked_database),
		TEST(test_arena_replaced),
		TEST(test_lag_100),
		TEST(test_lag_1000),
		TEST(test_lag_paced),
		TEST(test_urgent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
