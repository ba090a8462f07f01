/* SPDX-License-Identifier: Apache-2.0 */
/* A lost arena rebuilt from the store, and stores that can't be used, are locked, or are another's.
 */
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/io.h"
#include "rig.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_rebuild),
		TEST(test_rebuild_deleting),
		TEST(test_kill_while_loading),
		TEST(test_stale_and_unreadable_rows),
		TEST(test_other_store),
		TEST(test_bad_stores),
		TEST(test_second_crdsync),
		TEST(test_locked_database),
		TEST(test_arena_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
