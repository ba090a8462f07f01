/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of base's pure functions: errors, time, numbers, names, UTF-8, image references,
 * process identity. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/procid.h"
#include "base/str.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- err ---- */

static void test_err(void **state)
{
	struct err err = ERR_INIT;

	assert_int_equal(err_set(&err, -EINVAL, "bad '%s'", "x"), -EINVAL);
	assert_int_equal(err.code, -EINVAL);
	assert_string_equal(err.msg, "bad 'x'");
	assert_int_equal(err_wrap(&err, "create '%s'", "a"), -EINVAL);
	assert_string_equal(err.msg, "create 'a': bad 'x'");
	assert_int_equal(err_errno(&err, ENOENT, "open '%s'", "/x"), -ENOENT);
	assert_int_equal(err.code, -ENOENT);
	assert_string_equal(err.msg, "open '/x': No such file or directory");
	err_set(&err, -EIO, "again: %s", err.msg);
	assert_string_equal(err.msg, "again: open '/x': No such file or directory");
	err_errno(&err, 99999, "odd");
	assert_string_equal(err.msg, "odd: unknown error");
}

static void test_err_null(void **state)
{
	assert_int_equal(err_set(NULL, -EINVAL, "x"), -EINVAL);
	assert_int_equal(err_errno(NULL, EIO, "x"), -EIO);
	assert_int_equal(err_wrap(NULL, "x"), 0);
}

static void test_err_long(void **state)
{
	struct err err = ERR_INIT;
	char text[400];

	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	err_set(&err, -EINVAL, "%s", text);
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
	assert_string_equal(err.msg + sizeof(err.msg) - 5, "a...");
	err_wrap(&err, "wrapped");
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
	assert_memory_equal(err.msg, "wrapped: aaa", 12);
	assert_string_equal(err.msg + sizeof(err.msg) - 4, "...");
	text[255] = '\0'; /* fits exactly */
	err_set(&err, -EINVAL, "%s", text);
	assert_string_equal(err.msg, text);
}

static void test_bug(void **state)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		(void)close(STDERR_FILENO);
		base_bug(1 + 1 == 2);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	base_bug(false);
}

/* ---- clock ---- */

static void test_clock_now(void **state)
{
	uint64_t before = clock_mono_ns();

	assert_true(clock_mono_ns() >= before);
	assert_true(clock_unix_ns() > INT64_C(1700000000) * (int64_t)NS_PER_S);
}

static void test_rfc3339_format(void **state)
{
	static const struct {
		int64_t ns;
		const char *text;
	} cases[] = {
		{0, ""},
		{1, "1970-01-01T00:00:00.000000001Z"},
		{-1, "1969-12-31T23:59:59.999999999Z"},
		{INT64_C(1767323045000000006), "2026-01-02T03:04:05.000000006Z"},
		{INT64_MAX, "2262-04-11T23:47:16.854775807Z"},
		{INT64_MIN, "1677-09-21T00:12:43.145224192Z"},
	};
	char buf[36];

	for (size_t i = 0; i < COUNT(cases); i++) {
		int64_t back;

		assert_string_equal(clock_rfc3339(cases[i].ns, buf, sizeof(buf)), cases[i].text);
		if (cases[i].ns == 0 || cases[i].ns == INT64_MIN)
			continue; /* INT64_MIN: its whole second is below the range */
		assert_int_equal(clock_parse_rfc3339(buf, &back), 0);
		assert_int_equal(back, cases[i].ns);
	}
}

static void test_rfc3339_parse(void **state)
{
	static const struct {
		const char *text;
		int64_t ns;
	} good[] = {
		{"1970-01-01T00:00:00Z", 0},
		{"1970-01-01t00:00:01z", 1000000000},
		{"1970-01-01T01:00:00+01:00", 0},
		{"1969-12-31T18:30:00.5-05:30", 500000000},
		{"1970-01-01T00:00:00.1234567899Z", 123456789},
		{"1972-02-29T00:00:00Z", INT64_C(68169600000000000)},
		{"2000-02-29T00:00:00Z", INT64_C(951782400000000000)},
		{"1972-06-30T23:59:60Z", INT64_C(78796800000000000)},
	};
	static const char *const bad[] = {
		"",
		"1970-01-01",
		"1970-01-01T00:00:00",
		"1970-01-01 00:00:00Z",
		"1970-1-01T00:00:00Z",
		"1970-13-01T00:00:00Z",
		"1970-00-01T00:00:00Z",
		"1970-02-30T00:00:00Z",
		"1900-02-29T00:00:00Z",
		"1971-02-29T00:00:00Z",
		"1970-01-00T00:00:00Z",
		"1970-01-01T24:00:00Z",
		"1970-01-01T00:60:00Z",
		"1970-01-01T00:00:61Z",
		"1970-01-01T00:00:00.Z",
		"1970-01-01T00:00:00+0100",
		"1970-01-01T00:00:00+24:00",
		"1970-01-01T00:00:00+01:60",
		"1970-01-01T00:00:00ZZ",
		"0001-01-01T00:00:00Z", /* not in an int64 of ns */
		"2263-01-01T00:00:00Z",
		"-970-01-01T00:00:00Z",
	};
	int64_t ns;

	for (size_t i = 0; i < COUNT(good); i++) {
		assert_int_equal(clock_parse_rfc3339(good[i].text, &ns), 0);
		assert_int_equal(ns, good[i].ns);
	}
	for (size_t i = 0; i < COUNT(bad); i++) {
		ns = 42;
		if (clock_parse_rfc3339(bad[i], &ns) != -EINVAL)
			fail_msg("'%s' was accepted", bad[i]);
		assert_int_equal(ns, 42);
	}
}

/* ---- numbers ---- */

static void test_i64(void **state)
{
	static const char *const bad[] = {"", "-", "+1", " 1", "1 ", "0x1", "1.0", "--1", "a"};
	static const char *const range[] = {"9223372036854775808", "-9223372036854775809",
					    "99999999999999999999999"};
	int64_t v = 7;

	assert_int_equal(str_to_i64("9223372036854775807", INT64_MIN, INT64_MAX, &v), 0);
	assert_int_equal(v, INT64_MAX);
	assert_int_equal(str_to_i64("-9223372036854775808", INT64_MIN, INT64_MAX, &v), 0);
	assert_int_equal(v, INT64_MIN);
	assert_int_equal(str_to_i64("-0", INT64_MIN, INT64_MAX, &v), 0);
	assert_int_equal(v, 0);
	assert_int_equal(str_to_i64("0012", 12, 12, &v), 0);
	assert_int_equal(v, 12);
	assert_int_equal(str_to_i64("13", 0, 12, &v), -ERANGE);
	assert_int_equal(str_to_i64("-1", 0, 12, &v), -ERANGE);
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(str_to_i64(bad[i], INT64_MIN, INT64_MAX, &v), -EINVAL);
	for (size_t i = 0; i < COUNT(range); i++)
		assert_int_equal(str_to_i64(range[i], INT64_MIN, INT64_MAX, &v), -ERANGE);
	assert_int_equal(v, 12);
}

static void test_quantity(void **state)
{
	static const struct {
		const char *text;
		int64_t milli;
	} good[] = {
		{"0", 0},
		{"0E", 0},
		{"0e999", 0},
		{"1", 1000},
		{"+1", 1000},
		{"500m", 500},
		{"1.5", 1500},
		{".5", 500},
		{"5.", 5000},
		{"1e3", 1000000},
		{"1E3", 1000000},
		{"1e-3", 1},
		{"1e-9", 1}, /* rounded up */
		{"1n", 1},
		{"1001u", 2},
		{"2k", 2000000},
		{"2G", INT64_C(2000000000000)},
		{"1E", -1}, /* 10^18 units are 10^21 milli-units */
		{"64Mi", INT64_C(67108864000)},
		{"1.5Gi", INT64_C(1610612736000)},
		{"1.000000000000000001Ki", 1024001},
		{"0.0000000000000000001", 1},
		{"9223372036854775807m", INT64_MAX},
		{"9223372036854775.807", INT64_MAX},
		{"9223372036854775.8071", -1},
		{"9223372036854775808m", -1},
		{"99999999999999999999999999999999999999999999", -1},
		{"1e999", -1},
		{"8Ei", -1},
		{"7.999Pi", INT64_C(9006073354834149376)},
	};
	static const char *const bad[] = {"",	   "-1",  ".",	"m",   "1mm",	"1 Mi",
					  "1Mib",  "1ki", "1K", "1e",  "1e+",	"1ei",
					  "1.2.3", "0x1", "1i", "++1", "1e1.5", "1Mi1"};
	int64_t v;

	for (size_t i = 0; i < COUNT(good); i++) {
		int r = str_to_quantity_milli(good[i].text, &v);

		if (r != (good[i].milli < 0 ? -ERANGE : 0))
			fail_msg("'%s' gave %d", good[i].text, r);
		if (r == 0 && v != good[i].milli)
			fail_msg("'%s' gave %lld", good[i].text, (long long)v);
	}
	for (size_t i = 0; i < COUNT(bad); i++) {
		int r = str_to_quantity_milli(bad[i], &v);

		if (r != -EINVAL)
			fail_msg("'%s' gave %d", bad[i], r);
	}
}

/* ---- names ---- */

static const char *repeat(char *buf, char c, size_t n)
{
	memset(buf, c, n);
	buf[n] = '\0';
	return buf;
}

static void test_dns_names(void **state)
{
	static const char *const good[] = {"a", "0", "a-b", "a--b", "my-name-123"};
	static const char *const bad[] = {"", "-", "-a", "a-", "A", "a_b", "a b", "\xc3\xa4"};
	char buf[300];

	for (size_t i = 0; i < COUNT(good); i++) {
		assert_true(str_is_dns1123_label(good[i]));
		assert_true(str_is_dns1123_subdomain(good[i]));
	}
	for (size_t i = 0; i < COUNT(bad); i++) {
		assert_false(str_is_dns1123_label(bad[i]));
		assert_false(str_is_dns1123_subdomain(bad[i]));
	}
	assert_false(str_is_dns1123_label("a.b"));
	assert_true(str_is_dns1123_subdomain("a.b-c.d"));
	assert_false(str_is_dns1123_subdomain("a..b"));
	assert_false(str_is_dns1123_subdomain(".a"));
	assert_false(str_is_dns1123_subdomain("a."));
	assert_false(str_is_dns1123_subdomain("a.-b"));
	assert_true(str_is_dns1123_label(repeat(buf, 'a', 63)));
	assert_false(str_is_dns1123_label(repeat(buf, 'a', 64)));
	assert_true(str_is_dns1123_subdomain(repeat(buf, 'a', 253)));
	assert_false(str_is_dns1123_subdomain(repeat(buf, 'a', 254)));
}

static void test_labels(void **state)
{
	static const char *const good_keys[] = {"a", "A_b.c-1", "example.com/x", "a/b"};
	static const char *const bad_keys[] = {"",   "/",  "a/",    "/a",  "a/b/c",
					       "-a", "a-", "A.B/c", "a b", "\xc3\xa4"};
	static const char *const good_values[] = {"", "a", "A_b.c-1", "1"};
	static const char *const bad_values[] = {"-a", "a.", "a b", "a/b", "_"};
	char buf[400];

	for (size_t i = 0; i < COUNT(good_keys); i++)
		assert_true(str_is_label_key(good_keys[i]));
	for (size_t i = 0; i < COUNT(bad_keys); i++)
		if (str_is_label_key(bad_keys[i]))
			fail_msg("key '%s' was accepted", bad_keys[i]);
	for (size_t i = 0; i < COUNT(good_values); i++)
		assert_true(str_is_label_value(good_values[i]));
	for (size_t i = 0; i < COUNT(bad_values); i++)
		assert_false(str_is_label_value(bad_values[i]));
	assert_true(str_is_label_value(repeat(buf, 'a', 63)));
	assert_false(str_is_label_value(repeat(buf, 'a', 64)));
	repeat(buf, 'a', 253);
	memcpy(buf + 253, "/b", 3);
	assert_true(str_is_label_key(buf));
	repeat(buf, 'a', 254);
	memcpy(buf + 254, "/b", 3);
	assert_false(str_is_label_key(buf));
}

static void test_utf8(void **state)
{
	static const char *const good[] = {"",
					   "abc",
					   "\x7f",
					   "\xc2\x80",
					   "\xdf\xbf",
					   "\xe0\xa0\x80",
					   "\xed\x9f\xbf",
					   "\xee\x80\x80",
					   "\xef\xbf\xbf",
					   "\xf0\x90\x80\x80",
					   "\xf4\x8f\xbf\xbf"};
	static const char *const bad[] = {"\x80",
					  "\xc0\x80",
					  "\xc1\xbf",
					  "\xc2",
					  "\xc2\x41",
					  "\xe0\x9f\xbf",
					  "\xed\xa0\x80",
					  "\xe2\x82",
					  "\xe2\x82\x41",
					  "\xf0\x8f\xbf\xbf",
					  "\xf4\x90\x80\x80",
					  "\xf5\x80\x80\x80",
					  "\xff",
					  "ab\xfe"};

	for (size_t i = 0; i < COUNT(good); i++)
		assert_true(str_is_utf8(good[i], strlen(good[i])));
	for (size_t i = 0; i < COUNT(bad); i++)
		if (str_is_utf8(bad[i], strlen(bad[i])))
			fail_msg("bad[%zu] was accepted", i);
	assert_false(str_is_utf8("a\0b", 3));
	assert_false(str_is_utf8("\0", 1));
	assert_false(str_is_utf8("\xe2\x82\xac", 2)); /* cut short by len */
}

static void test_hex(void **state)
{
	char buf[9];

	assert_string_equal(str_hex("\x00\x9f\xff\x10", 4, buf), "009fff10");
	assert_string_equal(str_hex("", 0, buf), "");
}

/* ---- image references ---- */

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define SHA   "@sha256:" HEX64

static void test_image_good(void **state)
{
	static const char *const cases[][2] = {
		{"busybox", "docker.io/library/busybox:latest"},
		{"busybox:1.36", "docker.io/library/busybox:1.36"},
		{"me/tool", "docker.io/me/tool:latest"},
		{"a/b/c", "docker.io/a/b/c:latest"},
		{"docker.io/busybox", "docker.io/library/busybox:latest"},
		{"index.docker.io/busybox", "docker.io/library/busybox:latest"},
		{"docker.io/library/busybox:latest", "docker.io/library/busybox:latest"},
		{"localhost/x", "localhost/x:latest"},
		{"localhost:5000/x:v1", "localhost:5000/x:v1"},
		{"host:5000/x", "host:5000/x:latest"},
		{"ghcr.io/a/b:t", "ghcr.io/a/b:t"},
		{"GHCR.io/a", "GHCR.io/a:latest"},
		{"[::1]:5000/x", "[::1]:5000/x:latest"},
		{"[fe80::1]/x", "[fe80::1]/x:latest"},
		{"a.b/c", "a.b/c:latest"},
		{"ab/c", "docker.io/ab/c:latest"},
		{"busybox" SHA, "docker.io/library/busybox" SHA},
		{"busybox:1" SHA, "docker.io/library/busybox:1" SHA},
		{"quay.io/x/y" SHA, "quay.io/x/y" SHA},
		{"x@sha512+b64:" HEX64, "docker.io/library/x@sha512+b64:" HEX64},
		{"a--b", "docker.io/library/a--b:latest"},
		{"a__b.c_d", "docker.io/library/a__b.c_d:latest"},
		{"x:_Tag.1-2", "docker.io/library/x:_Tag.1-2"},
	};
	char buf[512], twice[512];

	for (size_t i = 0; i < COUNT(cases); i++) {
		if (str_image_canonical(cases[i][0], buf, sizeof(buf)) != 0)
			fail_msg("'%s' was refused", cases[i][0]);
		assert_string_equal(buf, cases[i][1]);
		assert_int_equal(str_image_canonical(buf, twice, sizeof(twice)), 0);
		assert_string_equal(twice, buf);
	}
}

static void test_image_bad(void **state)
{
	static const char *const bad[] = {
		"",
		":",
		"@",
		"/",
		"a/",
		"/a",
		"a//b",
		"A",
		"a/B",
		"a b",
		"a:",
		"a:b:c",
		"a@",
		"a@b",
		"a@sha256:12",
		"a@sha256:",
		"-a",
		"a-",
		"a_",
		"a___b",
		"a..b",
		"a._b",
		".a",
		"a:-t",
		"a:.t",
		"a:t/b",
		"host:/x",
		"host:5x/x",
		"-h.com/x",
		"h-.com/x",
		"h..com/x",
		".com/x",
		"com./x",
		"[::1/x",
		"[]:1/x",
		"[::1]5/x",
		"[::g]/x",
		"h_o.com/x",
		HEX64,
		"a" SHA "0",
		"a@1:" HEX64,
		"a@x+:" HEX64,
		"a\n",
		"\xc3\xa4",
		"a@sha256:"
		"G123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		":5000/x",
		"localhost/",
		"a:1" SHA SHA,
	};
	char buf[512] = "kept";

	for (size_t i = 0; i < COUNT(bad); i++)
		if (str_image_canonical(bad[i], buf, sizeof(buf)) != -EINVAL)
			fail_msg("'%s' was not refused", bad[i]);
	assert_string_equal(buf, "kept");
}

static void test_image_lengths(void **state)
{
	char ref[400], buf[512];

	assert_int_equal(str_image_canonical(repeat(ref, 'a', 237), buf, sizeof(buf)), 0);
	assert_int_equal(str_image_canonical(repeat(ref, 'a', 238), buf, sizeof(buf)),
			 -ENAMETOOLONG);
	assert_int_equal(str_image_canonical("busybox", buf, 33), 0);
	assert_int_equal(str_image_canonical("busybox", buf, 32), -ENAMETOOLONG);
	repeat(ref, 'a', 131);
	ref[1] = ':';
	ref[130] = '\0';
	assert_int_equal(str_image_canonical(ref, buf, sizeof(buf)), 0);
	ref[130] = 'a';
	assert_int_equal(str_image_canonical(ref, buf, sizeof(buf)), -EINVAL);
}

/* ---- procid ---- */

static void test_procid(void **state)
{
	struct procid self, child, other;
	siginfo_t info;
	pid_t pid;

	assert_int_equal(procid_of(getpid(), &self), 0);
	assert_int_equal(self.pid, getpid());
	assert_true(self.start_ticks > 0);
	assert_true(procid_alive(&self));
	other = self;
	other.start_ticks++;
	assert_false(procid_alive(&other));
	assert_int_equal(procid_of(0, &other), -ESRCH);
	assert_int_equal(procid_of(-1, &other), -ESRCH);
	assert_int_equal(procid_of(0x7ffffff0, &other), -ESRCH);

	pid = fork();
	if (pid == 0) {
		(void)pause();
		_exit(0);
	}
	assert_int_equal(procid_of(pid, &child), 0);
	assert_true(procid_alive(&child));
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_false(procid_alive(&child)); /* a zombie is gone */
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_false(procid_alive(&child));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_err),	      cmocka_unit_test(test_err_null),
		cmocka_unit_test(test_err_long),      cmocka_unit_test(test_bug),
		cmocka_unit_test(test_clock_now),     cmocka_unit_test(test_rfc3339_format),
		cmocka_unit_test(test_rfc3339_parse), cmocka_unit_test(test_i64),
		cmocka_unit_test(test_quantity),      cmocka_unit_test(test_dns_names),
		cmocka_unit_test(test_labels),	      cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_hex),	      cmocka_unit_test(test_image_good),
		cmocka_unit_test(test_image_bad),     cmocka_unit_test(test_image_lengths),
		cmocka_unit_test(test_procid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
