/* SPDX-License-Identifier: Apache-2.0 */
/* log.c: lines as they arrive at stderr, which the test replaces by a packet socket: one packet is
 * one write(2). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"

static int sockets[2] = {-1, -1}, saved_stderr = -1;

static int setup(void **state)
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
		return -1;
	saved_stderr = dup(STDERR_FILENO);
	(void)unsetenv("FSB_LOG");
	log_init("test");
	log_set_level(LOG_INFO);
	return dup2(sockets[1], STDERR_FILENO) < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	(void)dup2(saved_stderr, STDERR_FILENO);
	(void)close(saved_stderr);
	(void)close(sockets[0]);
	(void)close(sockets[1]);
	return 0;
}

/* The next line without its newline; "" when there is none. */
static const char *line(void)
{
	static char buf[8192];
	ssize_t n = recv(sockets[0], buf, sizeof(buf) - 1, MSG_DONTWAIT);

	if (n <= 0)
		return "";
	buf[n] = '\0';
	if (buf[n - 1] != '\n' || memchr(buf, '\n', (size_t)n - 1))
		return "not one line";
	buf[n - 1] = '\0';
	return buf;
}

/* What follows the event. */
static const char *pairs(void)
{
	const char *text = line(), *event = strstr(text, " event=\"e\"");

	return event ? event + strlen(" event=\"e\"") : text;
}

static void test_head(void **state)
{
	char want[128], ts[64];
	const char *text;
	int64_t when;
	int n = -1;

	log_info("it has \"begun\"", "");
	text = line();
	assert_int_equal(sscanf(text, "ts=%63s%n", ts, &n), 1);
	assert_int_equal(clock_parse_rfc3339(ts, &when), 0);
	(void)snprintf(want, sizeof(want),
		       " level=info comp=test pid=%d event=\"it has \\\"begun\\\"\"", getpid());
	assert_string_equal(text + n, want);
}

static void test_conversions(void **state)
{
	log_warn("e", "s=%s d=%d u=%u x=%x c=%c p=100%%", "text", -3, 4u, 255u, 'q');
	assert_string_equal(pairs(), " s=text d=-3 u=4 x=ff c=q p=100%");
	log_error("e", "ld=%ld lu=%lu lld=%lld llu=%llu zu=%zu zd=%zd lx=%lx", -1L, 2UL, -3LL,
		  UINT64_MAX + 0ULL, (size_t)5, (ssize_t)-6, 0xabcUL);
	assert_string_equal(pairs(),
			    " ld=-1 lu=2 lld=-3 llu=18446744073709551615 zu=5 zd=-6 lx=abc");
	log_info("e", "a=%d b=%.2f c=%s", 1, 2.0, "x"); /* not known: as it stands from there on */
	assert_string_equal(pairs(), " a=1 b=%.2f c=%s");
	log_info("e", "plain");
	assert_string_equal(pairs(), " plain");
}

static void test_quoting(void **state)
{
	log_info("e", "a=%s b=%s c=%s", "", "two words", "q\"q");
	assert_string_equal(pairs(), " a=\"\" b=\"two words\" c=\"q\\\"q\"");
	log_info("e", "a=%s b=%s", "x\ny\tz\r", "k=v");
	assert_string_equal(pairs(), " a=\"x\\ny\\tz\\x0d\" b=\"k=v\"");
	log_info("e", "a=%s b=%s", "back\\slash", "\x7f");
	assert_string_equal(pairs(), " a=\"back\\\\slash\" b=\"\\x7f\"");
	log_info("e", "a=%s c=%c", "\xc3\xa4", '\n');
	assert_string_equal(pairs(), " a=\xc3\xa4 c=\\n");
}

static void test_long_line(void **state)
{
	char text[6000];
	const char *got;

	memset(text, 'y', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_info("e", "a=%s b=%d", text, 1);
	got = line();
	assert_int_equal(strlen(got), 4095);
	assert_string_equal(got + 4095 - 6, "yyy...");
}

static void test_levels(void **state)
{
	log_debug("e", "a=%d", 1);
	assert_string_equal(line(), "");
	log_set_level(LOG_DEBUG);
	log_debug("e", "a=%d", 1);
	assert_string_equal(pairs(), " a=1");
	log_set_level(LOG_ERROR);
	log_warn("e", "a=%d", 1);
	assert_string_equal(line(), "");
	assert_int_equal(setenv("FSB_LOG", "warn", 1), 0);
	log_init("test");
	assert_int_equal(log_get_level(), LOG_WARN);
	assert_int_equal(setenv("FSB_LOG", "nonsense", 1), 0);
	log_init("test");
	assert_int_equal(log_get_level(), LOG_WARN);
	(void)unsetenv("FSB_LOG");
}

static void *writer(void *arg)
{
	for (int i = 0; i < 100; i++)
		log_info("e", "who=%s i=%d", (const char *)arg, i);
	return NULL;
}

static void test_threads(void **state)
{
	char names[4][8] = {"one", "two", "three", "four"};
	pthread_t threads[4];
	int lines = 0;

	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, writer, names[i]), 0);
	for (int i = 0; i < 400; i++) { /* blocking: the threads wait while the socket is full */
		char buf[512];
		ssize_t n = recv(sockets[0], buf, sizeof(buf), 0);

		assert_true(n > 0);
		assert_int_equal(buf[n - 1], '\n');
		assert_memory_equal(buf, "ts=", 3);
		lines++;
	}
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(lines, 400);
	assert_string_equal(line(), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_head, setup, teardown),
		cmocka_unit_test_setup_teardown(test_conversions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_quoting, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_levels, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
