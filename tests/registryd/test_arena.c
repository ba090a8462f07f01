/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsb-registryd as the owner of the arena: makes it, re-attaches it, quarantines a bad one, keeps a
 * second registryd out, and takes back what killed processes held. Nothing here needs an agent.
 */
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "fixture.h"

static int setup(void **state)
{
	*state = fixture_new();
	return 0;
}

static int teardown(void **state)
{
	fixture_free(*state);
	return 0;
}

/* extra: one more option or NULL */
static pid_t start_with(struct fixture *f, const char *extra)
{
	const char *argv[] = {FSB_REGISTRYD,
			      "--arena",
			      f->arena,
			      "--run-dir",
			      f->dir,
			      "--max-sandboxes",
			      "8192",
			      "--agent-timeout=1",
			      "--max-agents=64",
			      "--reap-interval-ms=20",
			      extra,
			      NULL};

	return fixture_spawn(f, argv, NULL, "registryd.log");
}

static pid_t start(struct fixture *f)
{
	pid_t pid = start_with(f, "--no-store");

	assert_true(fixture_attach_arena(f, 10 * NS_PER_S));
	WAIT_FOR(reg_store_loaded(f->reg));
	return pid;
}

static void test_makes_and_ends(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	pid_t pid = start_with(f, NULL);

	assert_true(fixture_attach_arena(f, 10 * NS_PER_S));
	assert_int_equal(stat(f->arena, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_false(reg_store_loaded(f->reg)); /* somebody else says so */
	assert_int_equal(fixture_end(f, pid, SIGTERM), 0);
	assert_true(reg_is_current(f->reg));
}

static void test_usage(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(fixture_wait(f, start_with(f, "--max-agents=0"), 10 * NS_PER_S), 2);
	assert_int_equal(fixture_wait(f, start_with(f, "--frobnicate"), 10 * NS_PER_S), 2);
	assert_int_equal(fixture_wait(f, start_with(f, "stray"), 10 * NS_PER_S), 2);
}

static void test_second_is_refused(void **state)
{
	struct fixture *f = *state;
	pid_t first = start(f);

	assert_int_equal(fixture_wait(f, start_with(f, NULL), 10 * NS_PER_S), 3);
	assert_int_equal(fixture_end(f, first, SIGTERM), 0);
}

/* kill -9 and restart: the same arena, the same epoch, its records untouched. */
static void test_reattach(void **state)
{
	struct fixture *f = *state;
	struct reg_request req = fixture_request("a");
	struct reg_sandbox_view view;
	char instance[64];
	uint64_t epoch;
	reg_sandbox_id a;
	pid_t pid = start(f);

	snprintf(instance, sizeof(instance), "%s", reg_instance(f->reg));
	epoch = reg_epoch(f->reg);
	assert_true(epoch > 0);
	fixture_agent(f, "agent-1", 4);
	assert_int_equal(fixture_end(f, pid, SIGKILL), 128 + SIGKILL);
	a = fixture_run(f, &req); /* creates need no registryd */
	pid = start_with(f, NULL);
	WAIT_FOR(reg_view(f->me, a, &view) == REG_OK &&
		 view.state == REG_LOST); /* it looks after it */
	assert_true(reg_is_current(f->reg));
	assert_string_equal(reg_instance(f->reg), instance);
	assert_int_equal(reg_epoch(f->reg), epoch);
	assert_non_null(strstr(view.message, "agent-1"));
	assert_int_equal(fixture_end(f, pid, SIGTERM), 0);
}

static int count_bad(struct fixture *f)
{
	char pattern[128];
	glob_t found;
	int n;

	snprintf(pattern, sizeof(pattern), "%s.bad-*", f->arena);
	n = glob(pattern, 0, NULL, &found) == 0 ? (int)found.gl_pathc : 0;
	globfree(&found);
	return n;
}

static void test_quarantine_garbage(void **state)
{
	struct fixture *f = *state;
	char junk[65536];
	pid_t pid;

	memset(junk, 0xa5, sizeof(junk));
	assert_int_equal(io_write_file_atomic(AT_FDCWD, f->arena, junk, sizeof(junk), 0600, 0), 0);
	pid = start(f);
	assert_int_equal(count_bad(f), 1);
	assert_int_equal(fixture_end(f, pid, SIGTERM), 0);
}

/* ---- a damaged header: put aside as it is, and a new arena with a later epoch ---- */

struct damage {
	const char *name;
	off_t at; /* a byte of the header; -1: cut to len instead */
	off_t len;
};

/* By the layout: magic, version, stamp, total size, instance, each limit, first and last region. */
static const struct damage damages[] = {
	{"magic", 0, 0},
	{"version", 8, 0},
	{"stamp", 16, 0},
	{"total size", 24, 0},
	{"instance", 40, 0},
	{"agents", 81, 0},
	{"sandboxes", 85, 0},
	{"pools", 89, 0},
	{"images", 93, 0},
	{"unlimited slots", 97, 0},
	{"first region", 104, 0},
	{"a later region", 400, 0},
	{"cut to its header", -1, 4096},
	{"cut to nothing", -1, 0},
};

static char *content(const char *path, size_t *ret_len)
{
	size_t len = 1 << 20; /* everything that the daemon has written by then lies before */
	char *bytes = calloc(1, len);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	assert_non_null(bytes);
	assert_true(fd >= 0);
	n = pread(fd, bytes, len, 0);
	assert_true(n >= 0);
	close(fd);
	*ret_len = (size_t)n;
	return bytes;
}

static void damage(const char *path, const struct damage *d)
{
	char byte;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	if (d->at < 0) {
		assert_int_equal(ftruncate(fd, d->len), 0);
	} else {
		assert_int_equal(pread(fd, &byte, 1, d->at), 1);
		byte = (char)(byte ^ 0x40);
		assert_int_equal(pwrite(fd, &byte, 1, d->at), 1);
	}
	close(fd);
}

/* The one file that was put aside, exactly as it was; removed. */
static void check_kept(struct fixture *f, const char *before, size_t len)
{
	char pattern[128], *after;
	size_t after_len;
	glob_t found;

	snprintf(pattern, sizeof(pattern), "%s.bad-*", f->arena);
	assert_int_equal(glob(pattern, 0, NULL, &found), 0);
	assert_int_equal(found.gl_pathc, 1);
	after = content(found.gl_pathv[0], &after_len);
	assert_int_equal(after_len, len);
	assert_memory_equal(after, before, len);
	assert_int_equal(unlink(found.gl_pathv[0]), 0);
	free(after);
	globfree(&found);
}

static void test_quarantine_damaged(void **state)
{
	struct fixture *f = *state;
	pid_t pid = start(f);
	uint64_t epoch = reg_epoch(f->reg);

	assert_int_equal(fixture_end(f, pid, SIGTERM), 0);
	fixture_detach_arena(f);
	for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
		size_t len;
		char *before;

		print_message("damage: %s\n", damages[i].name);
		damage(f->arena, &damages[i]);
		before = content(f->arena, &len);
		pid = start(f);
		check_kept(f, before, len);
		free(before);
		assert_true(reg_epoch(f->reg) > epoch);
		epoch = reg_epoch(f->reg);
		assert_int_equal(fixture_end(f, pid, SIGTERM), 0);
		fixture_detach_arena(f);
	}
}

/* Two within a second: each is kept. */
static void test_quarantine_twice(void **state)
{
	struct fixture *f = *state;

	for (int i = 1; i <= 3; i++) {
		pid_t pid;

		assert_int_equal(io_write_file_atomic(AT_FDCWD, f->arena, "junk", 4, 0600, 0), 0);
		pid = start(f);
		assert_int_equal(count_bad(f), i);
		assert_int_equal(fixture_end(f, pid, SIGTERM), 0);
		fixture_detach_arena(f);
	}
}

/* A header that looks bad belongs to somebody who lives (another build, or it was damaged under
 * him): it is not taken away from him. */
static void test_no_quarantine_of_owned(void **state)
{
	struct fixture *f = *state;
	const struct damage stamp = {"stamp", 16, 0};
	pid_t first = start(f);

	damage(f->arena, &stamp);
	assert_int_equal(fixture_wait(f, start_with(f, NULL), 10 * NS_PER_S), 3);
	assert_int_equal(count_bad(f), 0);
	assert_true(reg_is_current(f->reg));
	damage(f->arena, &stamp); /* as it was */
	assert_int_equal(fixture_end(f, first, SIGTERM), 0);
}

static void test_removed_arena(void **state)
{
	struct fixture *f = *state;
	pid_t pid = start(f);

	assert_int_equal(unlink(f->arena), 0);
	assert_int_equal(fixture_wait(f, pid, 10 * NS_PER_S), 3);
}

/* ---- reaping ---- */

/* A worker process that reserves, starts the last one, says so and sleeps. */
static pid_t spawn_worker(struct fixture *f, int count, bool starting, int *ret_fd)
{
	int pipe_fd[2];
	pid_t pid;

	assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct fixture child = {0};
		struct reg_lease lease;
		char name[16], done = 1;

		strcpy(child.arena, f->arena);
		if (!fixture_attach_arena(&child, NS_PER_S))
			_exit(1);
		for (int i = 0; i < count; i++) {
			struct reg_request req;

			snprintf(name, sizeof(name), "w%d", i);
			req = fixture_request(name);
			if (reg_reserve(child.me, &req, &lease) != REG_OK)
				_exit(2);
		}
		if (starting && reg_starting(child.me, &lease) != REG_OK)
			_exit(3);
		if (write(pipe_fd[1], &done, 1) != 1)
			_exit(4);
		for (;;)
			pause();
	}
	close(pipe_fd[1]);
	*ret_fd = pipe_fd[0];
	return pid;
}

static void await(int fd)
{
	char byte;

	assert_int_equal(read(fd, &byte, 1), 1);
	close(fd);
}

static uint32_t held(struct fixture *f)
{
	struct reg_books books;

	reg_books(f->me, &books);
	return books.slots_held;
}

static void test_reap_reserved(void **state)
{
	struct fixture *f = *state;
	struct reg_sandbox_view view;
	struct reg_books books;
	pid_t pid = start(f), worker;
	int fd;

	fixture_agent(f, "agent-1", 8);
	worker = spawn_worker(f, 5, false, &fd);
	await(fd);
	assert_int_equal(held(f), 5);
	kill(worker, SIGKILL);
	waitpid(worker, NULL, 0);
	WAIT_FOR(held(f) == 0);
	assert_reg(REG_NOT_FOUND, reg_get(f->me, "default", "w0", &view));
	reg_books(f->me, &books);
	assert_int_equal(books.names, 0);
	assert_int_equal(books.request_ids, 0);
	assert_int_equal(books.sandboxes, 0);
	assert_int_equal(books.contradictions, 0);
	assert_int_equal(fixture_end(f, pid, SIGTERM), 0);
}

/* One whose command may have been sent, at an agent that never answers: held until the agent is
 * lost, then LOST by name. */
static void test_reap_started_without_agent(void **state)
{
	struct fixture *f = *state;
	struct reg_sandbox_view view;
	pid_t pid = start(f), worker;
	int fd;

	fixture_agent(f, "agent-1", 8);
	worker = spawn_worker(f, 2, true, &fd);
	await(fd);
	kill(worker, SIGKILL);
	waitpid(worker, NULL, 0);
	WAIT_FOR(reg_get(f->me, "default", "w1", &view) == REG_OK && view.state == REG_LOST);
	assert_non_null(strstr(view.message, "worker died"));
	WAIT_FOR(reg_get(f->me, "default", "w0", &view) == REG_NOT_FOUND);
	/* and it can be deleted, though nobody confirms the stop */
	assert_reg(REG_OK, reg_get(f->me, "default", "w1", &view));
	assert_reg(REG_OK, reg_stop(f->me, view.sandbox, REG_STOP_DELETE, NULL));
	WAIT_FOR(reg_get(f->me, "default", "w1", &view) == REG_NOT_FOUND);
	assert_int_equal(held(f), 0);
	assert_int_equal(fixture_end(f, pid, SIGTERM), 0);
}

/* Orphans of a registryd that dies, too, pass to its successor. */
static void test_reap_by_successor(void **state)
{
	struct fixture *f = *state;
	struct reg_sandbox_view view;
	pid_t pid = start(f), worker;
	int fd;

	fixture_agent(f, "agent-1", 8);
	worker = spawn_worker(f, 1, true, &fd);
	await(fd);
	assert_int_equal(fixture_end(f, pid, SIGKILL), 128 + SIGKILL);
	kill(worker, SIGKILL);
	waitpid(worker, NULL, 0);
	pid = start_with(f, NULL);
	/* owned by this registryd now: kill it before the agent is lost */
	WAIT_FOR(reg_get(f->me, "default", "w0", &view) == REG_OK && view.owner != UINT32_MAX &&
		 view.state == REG_STARTING);
	assert_int_equal(fixture_end(f, pid, SIGKILL), 128 + SIGKILL);
	pid = start_with(f, NULL);
	WAIT_FOR(reg_get(f->me, "default", "w0", &view) == REG_OK && view.state == REG_LOST);
	assert_int_equal(fixture_end(f, pid, SIGTERM), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_makes_and_ends),
		TEST(test_usage),
		TEST(test_second_is_refused),
		TEST(test_reattach),
		TEST(test_quarantine_garbage),
		TEST(test_quarantine_damaged),
		TEST(test_quarantine_twice),
		TEST(test_no_quarantine_of_owned),
		TEST(test_removed_arena),
		TEST(test_reap_reserved),
		TEST(test_reap_started_without_agent),
		TEST(test_reap_by_successor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
