/* SPDX-License-Identifier: Apache-2.0 */
/* Where positionals are found among options: the words that a sandbox's own command starts with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "args.h"

static bool flag;
static const char *text;

static const struct opt opts[] = {
	{.name = "image", .kind = OPT_STRING, .string = &text},
	{.name = "file", .letter = 'f', .kind = OPT_STRING, .string = &text},
	{.name = "follow", .letter = 'F', .kind = OPT_FLAG, .flag = &flag},
	{.name = NULL},
};

static int find(const char *line, int n)
{
	static char buf[256];
	char *argv[32];
	int argc = 0;

	strncpy(buf, line, sizeof(buf) - 1);
	for (char *word = strtok(buf, " "); word; word = strtok(NULL, " "))
		argv[argc++] = word;
	return args_positional(opts, argc, argv, 1, n);
}

static void test_first(void **state)
{
	assert_int_equal(find("p run --image x", 0), 1);
	assert_int_equal(find("p --image x run", 0), 3);
	assert_int_equal(find("p --image=x run", 0), 2);
	assert_int_equal(find("p -f x run", 0), 3);
	assert_int_equal(find("p -fx run", 0), 2);
	assert_int_equal(find("p -F --follow run", 0), 3);
	assert_int_equal(find("p - run", 0), 1);
}

static void test_second(void **state)
{
	assert_int_equal(find("p name sh -c x", 1), 2);
	assert_int_equal(find("p name --image x sh -c x", 1), 4);
	assert_int_equal(find("p --image x name sh", 1), 4);
}

static void test_none_and_end(void **state)
{
	assert_int_equal(find("p --image x", 0), 3);
	assert_int_equal(find("p name", 1), 2);
	assert_int_equal(find("p name -- sh", 1), 2);
	assert_int_equal(find("p -- name", 0), 1);
	/* A value is missing: nothing is found beyond the end. */
	assert_true(find("p --image", 0) >= 2);
}

static void test_unknown_option_is_a_flag(void **state)
{
	assert_int_equal(find("p --unknown run", 0), 2);
	assert_int_equal(find("p -z run", 0), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first),
		cmocka_unit_test(test_second),
		cmocka_unit_test(test_none_and_end),
		cmocka_unit_test(test_unknown_option_is_a_flag),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
