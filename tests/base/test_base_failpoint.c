/* SPDX-License-Identifier: Apache-2.0 */
/* failpoint.c: each action in a child, counts, roles, the trace file, and the refusal of a
 * malformed text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/io.h"

static int teardown(void **state)
{
	failpoint_set(NULL);
	failpoint_role("");
	(void)unsetenv("FSB_FAILPOINT_ROLE");
	(void)unsetenv("FSB_FAILPOINT_TRACE");
	return 0;
}

static void test_unarmed(void **state)
{
	assert_false(failpoint_armed);
	assert_false(FAILPOINT("a"));
	failpoint_set("");
	assert_false(failpoint_armed);
}

static void test_err(void **state)
{
	failpoint_set("a=err,b.c-d=err@2");
	assert_true(failpoint_armed);
	assert_true(FAILPOINT("a"));
	assert_true(FAILPOINT("a"));
	assert_false(FAILPOINT("other"));
	assert_false(FAILPOINT("b.c-d"));
	assert_true(FAILPOINT("b.c-d"));
	assert_false(FAILPOINT("b.c-d"));
	failpoint_set(NULL);
	assert_false(failpoint_armed);
	assert_false(FAILPOINT("a"));
}

static void test_role(void **state)
{
	assert_int_equal(setenv("FSB_FAILPOINT_ROLE", "worker", 1), 0);
	failpoint_set("a=err@1");
	assert_false(FAILPOINT("a")); /* not counted, either */
	failpoint_role("other");
	assert_false(FAILPOINT("a"));
	failpoint_role("worker");
	assert_true(FAILPOINT("a"));
}

static void test_sleep(void **state)
{
	uint64_t before = clock_mono_ns();

	failpoint_set("a=sleep:20");
	assert_false(FAILPOINT("a"));
	assert_true(clock_mono_ns() - before >= 20 * NS_PER_MS);
}

/* Status of a child that passes failpoint "a" and then exits with 0. */
static int child_status(const char *text, int options)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		(void)close(STDERR_FILENO);
		failpoint_set(text);
		(void)FAILPOINT("a");
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, options), pid);
	if (WIFSTOPPED(status)) {
		int end;

		assert_int_equal(kill(pid, SIGCONT), 0);
		assert_int_equal(waitpid(pid, &end, 0), pid);
		assert_int_equal(end, 0);
	}
	return status;
}

static void test_actions(void **state)
{
	int status = child_status("a=kill", 0);

	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
	status = child_status("a=stop", WUNTRACED);
	assert_true(WIFSTOPPED(status));
	assert_int_equal(WSTOPSIG(status), SIGSTOP);
	status = child_status("a=exit", 0);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 1);
	assert_int_equal(child_status("a=kill@2", 0), 0);
}

static void test_malformed(void **state)
{
	static const char *const bad[] = {"a",	     "=err",	 "a=",	       "a=maybe", "a=err@0",
					  "a=err@x", "a=sleep:", "a=sleep:-1", "a=err,b"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int status = child_status(bad[i], 0);

		assert_true(WIFEXITED(status));
		if (WEXITSTATUS(status) != 2)
			fail_msg("'%s' was accepted", bad[i]);
	}
}

static void test_trace(void **state)
{
	char path[] = "/tmp/fsb-test-failpoint-XXXXXX", *text = NULL;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(setenv("FSB_FAILPOINT_TRACE", path, 1), 0);
	failpoint_set("a=err@2,b=err");
	(void)FAILPOINT("a");
	(void)FAILPOINT("b");
	(void)FAILPOINT("a");
	(void)FAILPOINT("c");
	assert_int_equal(io_read_file(AT_FDCWD, path, 100, &text, NULL), 0);
	(void)unlink(path);
	assert_string_equal(text, "b\na\n");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_unarmed, teardown),
		cmocka_unit_test_teardown(test_err, teardown),
		cmocka_unit_test_teardown(test_role, teardown),
		cmocka_unit_test_teardown(test_sleep, teardown),
		cmocka_unit_test_teardown(test_actions, teardown),
		cmocka_unit_test_teardown(test_malformed, teardown),
		cmocka_unit_test_teardown(test_trace, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
