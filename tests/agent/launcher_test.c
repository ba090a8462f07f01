/* SPDX-License-Identifier: Apache-2.0 */
/* fsb-launcher on its own: a start and its exit, what a start costs step by step. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "launcher_client.h"

static struct testbed bed;
static pid_t launcher;

static void launcher_start(void)
{
	char *argv[] = {(char[]){"fsb-launcher"},
			(char[]){"--foreground"},
			(char[]){"--name"},
			(char[]){"a"},
			(char[]){"--instance"},
			bed.instance,
			(char[]){"--run-dir"},
			bed.run_dir,
			NULL};

	launcher = testing_spawn(&bed, argv);
}

static int setup(void **state)
{
	testbed_make(&bed);
	assert_int_equal(
		testing_sh("set -e; l=%s/images/layers/base; mkdir -p $l/bin $l/etc; "
			   "cp /bin/busybox $l/bin/; for a in sh sleep cat echo true ls; do "
			   "ln -s busybox $l/bin/$a; done; "
			   "echo root:x:0:0::/root:/bin/sh > $l/etc/passwd",
			   bed.run_dir),
		0);
	launcher_start();
	return 0;
}

static int teardown(void **state)
{
	testing_end(launcher, SIGTERM);
	testbed_remove(&bed);
	return 0;
}

static char *read_log(const char *id)
{
	char path[256], *text;

	snprintf(path, sizeof(path), "%s/state/a/%s/log", bed.run_dir, id);
	return io_read_file(-100, path, 1 << 20, &text, NULL) ? NULL : text;
}

static void test_start_and_exit(void **state)
{
	struct lclient c;
	const Notice *notice;
	cleanup_free char *log = NULL;
	uint64_t seq;

	lclient_connect(&c, &bed, "a");
	assert_non_null(lclient_wait(&c, NOTICE(LISTED), 0));
	seq = lclient_send_start(&c, lclient_sh("one", "echo hello; hostname; exit 7"));
	notice = lclient_wait(&c, NOTICE(REPLY), seq);
	assert_non_null(notice);
	assert_string_equal(notice->message, "");
	assert_int_equal(notice->code, ACK(OK));
	notice = lclient_wait(&c, NOTICE(EXITED), 0);
	assert_non_null(notice);
	assert_int_equal(notice->report->exit->code, 7);
	log = read_log("one");
	assert_non_null(log);
	assert_memory_equal(log, "hello\n", 6);
	seq = lclient_send_remove(&c, "one");
	assert_int_equal(lclient_wait(&c, NOTICE(REPLY), seq)->code, ACK(OK));
	lclient_close(&c);
	assert_int_equal(testing_count(&bed, "a").states, 0);
	assert_int_equal(testing_count(&bed, "a").cgroups, 0);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static uint64_t median(uint64_t *values, int n)
{
	qsort(values, (size_t)n, sizeof(*values), compare);
	return values[n / 2];
}

enum { ROUNDS = 60, STEPS_MAX = 16 };

/* Not a pass or fail by time, which depends on the machine: it prints the medians. */
static void test_cost_of_steps(void **state)
{
	static const char *const names[] = {"cgroup", "namespaces", "network", "root",
					    "mounts", "files",	    "user",    "workdir",
					    "limits", "privileges", "exec"};
	static uint64_t steps[STEPS_MAX][ROUNDS], total[ROUNDS];
	struct lclient c;
	size_t n = 0;

	lclient_connect(&c, &bed, "a");
	for (int i = 0; i < ROUNDS; i++) {
		char id[32];
		uint64_t seq, t0;
		const Notice *notice;

		snprintf(id, sizeof(id), "cost-%d", i);
		t0 = clock_mono_ns();
		seq = lclient_send_start(&c, lclient_sh(id, "exec sleep 100"));
		notice = lclient_wait(&c, NOTICE(REPLY), seq);
		total[i] = clock_mono_ns() - t0;
		assert_non_null(notice);
		assert_string_equal(notice->message, "");
		n = notice->n_step_ns - 1;
		for (size_t k = 0; k < n; k++)
			steps[k][i] = notice->step_ns[k + 1] - notice->step_ns[k];
		if (!getenv("FSB_TEST_BURST"))
			usleep(25000);
		seq = lclient_send_stop(&c, id, -1, false);
		assert_non_null(lclient_wait(&c, NOTICE(REPLY), seq));
	}
	lclient_close(&c);
	for (size_t k = 0; k < n; k++)
		print_message("%-12s %5llu us\n", names[k],
			      (unsigned long long)median(steps[k], ROUNDS) / 1000);
	print_message("start seen by the client: %llu us\n",
		      (unsigned long long)median(total, ROUNDS) / 1000);
	assert_int_equal(testing_count(&bed, "a").states, 0);
	assert_int_equal(testing_count(&bed, "a").cgroups, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_start_and_exit),
		cmocka_unit_test(test_cost_of_steps),
	};

	testing_need_root();
	return cmocka_run_group_tests(tests, setup, teardown);
}
