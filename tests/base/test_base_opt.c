/* SPDX-License-Identifier: Apache-2.0 */
/* opt.c: what is accepted, what each error says, and --help/--version as a program would show them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/opt.h"

static struct {
	bool verbose, verbose_set, name_set;
	const char *name, *plain;
	int64_t count;
	struct opt_list items;
} got;

static const struct opt table[] = {
	{.name = "name",
	 .letter = 'n',
	 .kind = OPT_STRING,
	 .arg = "NAME",
	 .help = "who",
	 .def = "default",
	 .string = &got.name,
	 .ret_set = &got.name_set},
	{.name = "plain", .kind = OPT_STRING, .help = "no default", .string = &got.plain},
	{.name = "count",
	 .letter = 'c',
	 .kind = OPT_INT,
	 .arg = "N",
	 .help = "how many",
	 .def = "2",
	 .min = 1,
	 .max = 10,
	 .number = &got.count},
	{.name = "verbose",
	 .letter = 'v',
	 .kind = OPT_FLAG,
	 .help = "say more",
	 .flag = &got.verbose,
	 .ret_set = &got.verbose_set},
	{.name = "item", .kind = OPT_LIST, .arg = "X", .help = "repeatable", .list = &got.items},
	{0},
};

static struct opt_program prog = {.usage = "prog [options] [FILE...]",
				  .summary = "Tests options.",
				  .opts = table,
				  .epilog = "example: prog x"};

static int npos;
static struct err err;
static char *args[16];

/* Parses NULL-terminated arguments behind argv[0]. */
static int parse(const char *const *list)
{
	int argc = 0;

	free(got.items.items);
	memset(&got, 0, sizeof(got));
	got.plain = "untouched";
	npos = -1;
	err = (struct err)ERR_INIT;
	args[argc++] = (char[]){"prog"};
	for (; *list; list++)
		args[argc++] = (char *)(uintptr_t)*list; /* never written to */
	args[argc] = NULL;
	return opt_parse(&prog, argc, args, &npos, &err);
}

#define PARSE(...) parse((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static void test_defaults(void **state)
{
	assert_int_equal(PARSE(), OPT_OK);
	assert_int_equal(npos, 0);
	assert_string_equal(got.name, "default");
	assert_string_equal(got.plain, "untouched");
	assert_int_equal(got.count, 2);
	assert_false(got.verbose);
	assert_false(got.name_set);
	assert_int_equal(got.items.count, 0);
}

static void test_forms(void **state)
{
	assert_int_equal(PARSE("--name", "a", "--count=7", "-v", "--item", "x", "--item=y"),
			 OPT_OK);
	assert_string_equal(got.name, "a");
	assert_true(got.name_set);
	assert_int_equal(got.count, 7);
	assert_true(got.verbose && got.verbose_set);
	assert_int_equal(got.items.count, 2);
	assert_string_equal(got.items.items[0], "x");
	assert_string_equal(got.items.items[1], "y");
	assert_int_equal(PARSE("-n", "b", "-c3"), OPT_OK);
	assert_string_equal(got.name, "b");
	assert_int_equal(got.count, 3);
	assert_int_equal(PARSE("--name="), OPT_OK);
	assert_string_equal(got.name, "");
	assert_int_equal(PARSE("--name", "a=b", "--plain=c=d"), OPT_OK);
	assert_string_equal(got.name, "a=b");
	assert_string_equal(got.plain, "c=d");
	assert_int_equal(PARSE("--name", "--verbose"),
			 OPT_OK); /* a value, whatever it looks like */
	assert_string_equal(got.name, "--verbose");
	assert_false(got.verbose);
	assert_int_equal(PARSE("--name", "a", "--name", "b"), OPT_OK); /* the last one wins */
	assert_string_equal(got.name, "b");
}

static void test_positionals(void **state)
{
	assert_int_equal(PARSE("one", "-v", "two", "--count", "3", "-", "--", "--name", "-x"),
			 OPT_OK);
	assert_int_equal(npos, 5);
	assert_string_equal(args[1], "one");
	assert_string_equal(args[2], "two");
	assert_string_equal(args[3], "-");
	assert_string_equal(args[4], "--name");
	assert_string_equal(args[5], "-x");
	assert_true(got.verbose);
	assert_string_equal(got.name, "default");
	prog.stop_at_positional = true;
	assert_int_equal(PARSE("-v", "run", "--name", "-x", "--", "y"), OPT_OK);
	prog.stop_at_positional = false;
	assert_int_equal(npos, 5);
	assert_string_equal(args[1], "run");
	assert_string_equal(args[2], "--name");
	assert_string_equal(args[4], "--");
	assert_true(got.verbose);
	assert_false(got.name_set);
}

static void expect_error(int r, const char *text)
{
	assert_int_equal(r, -EINVAL);
	assert_int_equal(err.code, -EINVAL);
	assert_string_equal(err.msg, text);
	assert_int_equal(npos, -1);
}

static void test_errors(void **state)
{
	expect_error(PARSE("--nam", "x"), "unknown option '--nam'; --help lists the options");
	expect_error(PARSE("--names=x"), "unknown option '--names=x'; --help lists the options");
	expect_error(PARSE("-x"), "unknown option '-x'; --help lists the options");
	expect_error(PARSE("--=x"), "unknown option '--=x'; --help lists the options");
	expect_error(PARSE("--name"), "--name needs a value: --name NAME");
	expect_error(PARSE("--plain"), "--plain needs a value: --plain VALUE");
	expect_error(PARSE("-c"), "--count needs a value: --count N");
	expect_error(PARSE("--count", "0"), "--count '0': want a whole number from 1 to 10");
	expect_error(PARSE("--count", "11"), "--count '11': want a whole number from 1 to 10");
	expect_error(PARSE("--count", "1x"), "--count '1x': want a whole number from 1 to 10");
	expect_error(PARSE("--count="), "--count '': want a whole number from 1 to 10");
	expect_error(PARSE("--verbose=yes"), "--verbose takes no value, but 'yes' was given");
	expect_error(PARSE("-vn"), "--verbose takes no value, but 'n' was given");
	assert_int_equal(
		opt_parse(&prog, 2, (char *[]){args[0], (char[]){"-x"}, NULL}, &npos, NULL),
		-EINVAL);
}

/* stdout of a child that parses one argument. */
static void output_of(const char *arg, char *buf, size_t size)
{
	size_t len = 0;
	int fds[2], status;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	(void)fflush(NULL);
	pid = fork();
	if (pid == 0) {
		int r;

		(void)dup2(fds[1], STDOUT_FILENO);
		r = PARSE(arg);
		free(got.items.items);
		(void)fflush(stdout);
		_exit(r == OPT_EXIT && npos == -1 ? 0 : 1);
	}
	(void)close(fds[1]);
	for (ssize_t n; (n = read(fds[0], buf + len, size - 1 - len)) > 0; len += (size_t)n)
		;
	buf[len] = '\0';
	(void)close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_help(void **state)
{
	char text[2048], again[2048];

	output_of("--help", text, sizeof(text));
	assert_string_equal(text, "usage: prog [options] [FILE...]\n"
				  "\n"
				  "Tests options.\n"
				  "\n"
				  "options:\n"
				  "  -n, --name NAME    who (default: default)\n"
				  "      --plain VALUE  no default\n"
				  "  -c, --count N      how many (default: 2)\n"
				  "  -v, --verbose      say more\n"
				  "      --item X       repeatable\n"
				  "  -h, --help         show this text\n"
				  "      --version      show the version\n"
				  "\n"
				  "example: prog x\n");
	output_of("-h", again, sizeof(again));
	assert_string_equal(text, again);
	output_of("--version", text, sizeof(text));
	assert_memory_equal(text, "prog ", 5);
	assert_int_equal(text[strlen(text) - 1], '\n');
}

static int cleanup(void **state)
{
	free(got.items.items);
	got.items.items = NULL;
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),    cmocka_unit_test(test_forms),
		cmocka_unit_test(test_positionals), cmocka_unit_test(test_errors),
		cmocka_unit_test(test_help),
	};

	return cmocka_run_group_tests(tests, NULL, cleanup);
}
