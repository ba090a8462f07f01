/* SPDX-License-Identifier: Apache-2.0 */
/* Durations, points in time and KEY=VALUE lists. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "text.h"

static void expect_duration(uint64_t ns, const char *want)
{
	char buf[40];

	assert_string_equal(text_duration(ns, buf, sizeof(buf)), want);
}

static void test_durations(void **state)
{
	expect_duration(0, "0s");
	expect_duration(400, "0s");
	expect_duration(1500, "2µs");
	expect_duration(999 * NS_PER_US, "999µs");
	expect_duration(1234567, "1.235ms");
	expect_duration(12 * NS_PER_MS, "12ms");
	expect_duration(999999900, "1s");
	expect_duration(1500 * NS_PER_MS, "1.5s");
	expect_duration(61 * NS_PER_S, "1m1s");
	expect_duration(3723 * NS_PER_S, "1h2m3s");
}

static void test_times(void **state)
{
	struct err err = ERR_INIT;
	int64_t now = clock_unix_ns() / (int64_t)NS_PER_S;
	int64_t when = -1;

	assert_int_equal(text_parse_time("t", "0", &when, &err), 0);
	assert_int_equal(when, 0);
	assert_int_equal(text_parse_time("t", "1700000000", &when, &err), 0);
	assert_int_equal(when, 1700000000);
	assert_int_equal(text_parse_time("t", "2026-01-02T03:04:05Z", &when, &err), 0);
	assert_int_equal(when, 1767323045);
	assert_int_equal(text_parse_time("t", "2h", &when, &err), 0);
	assert_true(when >= now + 7200 && when <= now + 7260);
	assert_int_equal(text_parse_time("t", "-5", &when, &err), -EINVAL);
	assert_int_equal(text_parse_time("t", "5w", &when, &err), -EINVAL);
	assert_int_equal(text_parse_time("t", "", &when, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "t ''"));
}

static void test_maps(void **state)
{
	struct mem mem = {NULL};
	struct kv map = {.keys.n = 0};
	struct err err = ERR_INIT;

	assert_int_equal(text_parse_map(&mem, "--labels", "a=1,b=x=y,a=2,c=", &map, &err), 0);
	assert_int_equal(map.keys.n, 3);
	assert_string_equal(kv_get(&map, "a"), "2");
	assert_string_equal(kv_get(&map, "b"), "x=y");
	assert_string_equal(kv_get(&map, "c"), "");
	assert_int_equal(text_parse_map(&mem, "--labels", "a", &map, &err), -EINVAL);
	assert_string_equal(err.msg, "--labels 'a' must be KEY=VALUE");
	assert_int_equal(text_parse_map(&mem, "--labels", "=a", &map, &err), -EINVAL);
	mem_free(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_maps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
