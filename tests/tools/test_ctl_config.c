/* SPDX-License-Identifier: Apache-2.0 */
/* The config search and its precedence, in a directory of the test's own. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "base/io.h"
#include "config.h"

static char dir[] = "/tmp/fsb-test-config-XXXXXX";

static void put(const char *path, const char *content)
{
	assert_int_equal(io_write_file_atomic(AT_FDCWD, path, content, strlen(content), 0644, 0),
			 0);
}

static int set_up(void **state)
{
	return mkdtemp(dir) && !chdir(dir) && !mkdir("home", 0755) && !mkdir("home/.fsb", 0755) &&
			       !mkdir(".fsb", 0755)
		       ? 0
		       : -1;
}

static int tear_down(void **state)
{
	return chdir("/") || io_remove_tree(AT_FDCWD, dir);
}

static int clean(void **state)
{
	char home[256];

	(void)snprintf(home, sizeof(home), "%s/home", dir);
	(void)setenv("HOME", home, 1);
	(void)unsetenv("ENDPOINT");
	(void)unsetenv("NAMESPACE");
	(void)unlink(".fsb/config.json");
	(void)unlink("home/.fsb/config.json");
	return 0;
}

static void load(const struct config_flags *flags, struct config *ret)
{
	struct err err = ERR_INIT;

	if (config_load(flags, ret, &err))
		fail_msg("%s", err.msg);
}

static void test_defaults(void **state)
{
	struct config config;

	load(&(struct config_flags){NULL}, &config);
	assert_string_equal(config.ns, "default");
	assert_false(config.ns_set);
	assert_string_equal(config.source, "");
	assert_true(!strcmp(config.endpoint, CONFIG_DEFAULT_TCP) ||
		    !strcmp(config.endpoint, "unix:" CONFIG_DEFAULT_SOCKET));
}

static void test_search_order(void **state)
{
	struct config config;

	put("home/.fsb/config.json", "{\"endpoint\":\"home:1\",\"namespace\":\"hns\"}");
	load(&(struct config_flags){NULL}, &config);
	assert_string_equal(config.endpoint, "home:1");
	assert_string_equal(config.ns, "hns");
	put(".fsb/config.json", "{\"endpoint\":\"here:1\",\"editor\":\"ignored\"}");
	load(&(struct config_flags){NULL}, &config);
	assert_string_equal(config.endpoint, "here:1");
	assert_string_equal(config.ns, "default"); /* files are not merged */
	put("own.json", "{\"namespace\":\"own\"}");
	load(&(struct config_flags){.config = "own.json"}, &config);
	assert_string_equal(config.ns, "own");
	assert_string_equal(config.source, "own.json");
}

static void test_precedence(void **state)
{
	struct config config;

	put(".fsb/config.json", "{\"endpoint\":\"file:1\",\"namespace\":\"file\"}");
	(void)setenv("ENDPOINT", "env:1", 1);
	(void)setenv("NAMESPACE", "", 1); /* empty is as good as unset */
	load(&(struct config_flags){NULL}, &config);
	assert_string_equal(config.endpoint, "env:1");
	assert_string_equal(config.ns, "file");
	load(&(struct config_flags){.endpoint = "flag:1", .ns = ""}, &config);
	assert_string_equal(config.endpoint, "flag:1");
	assert_string_equal(config.ns, "");
	assert_true(config.ns_set);
}

static void expect_error(const struct config_flags *flags, int code, const char *part)
{
	struct config config;
	struct err err = ERR_INIT;

	assert_int_equal(config_load(flags, &config, &err), code);
	if (!strstr(err.msg, part))
		fail_msg("'%s' lacks '%s'", err.msg, part);
}

static void test_errors(void **state)
{
	expect_error(&(struct config_flags){.config = "missing.json"}, -ENOENT, "missing.json");
	put("bad.json", "{\"endpoint\":\n");
	expect_error(&(struct config_flags){.config = "bad.json"}, -EBADMSG, "bad.json");
	put("bad.json", "{\"endpoint\":7}");
	expect_error(&(struct config_flags){.config = "bad.json"}, -EBADMSG, "must be a string");
	put("bad.json", "[]");
	expect_error(&(struct config_flags){.config = "bad.json"}, -EBADMSG, "object");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_defaults, clean),
		cmocka_unit_test_setup(test_search_order, clean),
		cmocka_unit_test_setup(test_precedence, clean),
		cmocka_unit_test_setup(test_errors, clean),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
