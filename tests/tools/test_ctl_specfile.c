/* SPDX-License-Identifier: Apache-2.0 */
/* The YAML sandbox file, the members file, and how flags are merged over them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "members.h"
#include "msg.h"
#include "specfile.h"
#include "specopts.h"

static struct mem mem;

static int clean(void **state)
{
	mem_free(&mem);
	return 0;
}

static void parse(const char *text, struct run_spec *spec)
{
	struct err err = ERR_INIT;

	spec_init(spec);
	if (specfile_parse("f.yaml", text, strlen(text), &mem, spec, &err))
		fail_msg("%s", err.msg);
}

static void expect_error(const char *text, const char *part)
{
	struct run_spec spec;
	struct err err = ERR_INIT;

	spec_init(&spec);
	assert_int_equal(specfile_parse("f.yaml", text, strlen(text), &mem, &spec, &err), -EINVAL);
	if (!strstr(err.msg, part))
		fail_msg("'%s' lacks '%s'", err.msg, part);
}

static void test_all_keys(void **state)
{
	struct run_spec spec;

	parse("image: busybox\npool_ref: p\nconsistency_mode: strong\ncommand: [sh, -c]\n"
	      "args:\n  - 'echo $X'\nexposed_ports: [80, 443]\nenvs: {X: '1', Y: two}\n"
	      "working_dir: /app\nresources: {cpu: 500m}\nlabels: {a: b}\nexpire: 4102444800\n"
	      "failure_policy: AutoRecreate\nrecovery_timeout_seconds: 5\nrequest_id: r\n"
	      "network: shared\n",
	      &spec);
	assert_string_equal(spec.image, "busybox");
	assert_string_equal(spec.pool, "p");
	assert_true(spec.strong && spec.mode_set && spec.auto_recreate);
	assert_int_equal(spec.command.n, 2);
	assert_string_equal(spec.args.items[0], "echo $X");
	assert_int_equal(spec.ports.n, 2);
	assert_int_equal(spec.ports.items[1], 443);
	assert_string_equal(kv_get(&spec.envs, "Y"), "two");
	assert_string_equal(kv_get(&spec.resources, "cpu"), "500m");
	assert_int_equal(spec.expire_unix_s, 4102444800);
	assert_int_equal(spec.recovery_timeout_s, 5);
	assert_string_equal(spec.network, "shared");
}

static void test_defaults_and_nulls(void **state)
{
	struct run_spec spec;

	parse("image: a\nargs:\npool_ref: ~\n", &spec);
	assert_string_equal(spec.pool, "default-pool");
	assert_int_equal(spec.args.n, 0);
	assert_false(spec.strong);
}

static void test_refusals_name_the_line(void **state)
{
	expect_error("image: a\nimmage: b\n", "f.yaml:2: unknown key 'immage'");
	expect_error("image: a\nimage: b\n", "f.yaml:2: image is given twice");
	expect_error("image: a\nargs: x\n", "f.yaml:2: args must be a list");
	expect_error("image: a\nenvs: [x]\n", "f.yaml:2: envs must be a map");
	expect_error("image: [a]\n", "f.yaml:1: image must be a string");
	expect_error("image: a\nexposed_ports: [0]\n",
		     "invalid port 0: must be between 1 and 65535");
	expect_error("image: a\nexposed_ports: [65536]\n", "invalid port 65536");
	expect_error("image: a\n\nconsistency_mode: quick\n", "f.yaml:3: consistency_mode 'quick'");
	expect_error("image: a\nexpire: soon\n", "f.yaml:2: expire 'soon'");
	expect_error("image: a\nenvs: {A: 1, A: 2}\n", "envs.A is given twice");
	expect_error("image: a\nlabels: {A: [1]}\n", "labels.A must be a string");
	expect_error("- a\n", "must be a map");
	expect_error("", "empty");
	expect_error("image: \"a\\0b\"\n", "NUL");
	expect_error("image: 'a\n", "f.yaml:");
}

static void test_flags_win(void **state)
{
	struct spec_flags flags = {.image = "other", .ports = "1,2"};
	struct run_spec spec;
	struct err err = ERR_INIT;
	char sh[] = "sh";
	char *words[] = {sh};

	assert_int_equal(spec_collect(&flags, 1, words, &mem, &spec, &err), 0);
	assert_string_equal(spec.image, "other");
	assert_int_equal(spec.ports.items[1], 2);
	assert_string_equal(spec.command.items[0], "sh");
	flags.image = NULL;
	assert_int_equal(spec_collect(&flags, 0, NULL, &mem, &spec, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "no image"));
	flags.image = "x";
	flags.ports = "80,0";
	assert_int_equal(spec_collect(&flags, 0, NULL, &mem, &spec, &err), -EINVAL);
}

static void test_messages(void **state)
{
	struct run_spec spec;
	const Fastpath__V1__CreateRequest *create;

	parse("image: a\nenvs: {K: V}\nexposed_ports: [80]\nconsistency_mode: strong\n", &spec);
	create = msg_create(&mem, "ns", "n", &spec);
	assert_string_equal(create->namespace_, "ns");
	assert_int_equal(create->consistency_mode, FASTPATH__V1__CONSISTENCY_MODE__STRONG);
	assert_string_equal(create->envs[0]->value, "V");
	assert_int_equal(msg_spec(&mem, &spec)->exposed_ports[0], 80);
	assert_int_equal(msg_options(&mem, "ns", &spec)->consistency,
			 FSB__V1__CONSISTENCY__CONSISTENCY_STRONG);
}

static void test_members(void **state)
{
	struct members members;
	struct err err = ERR_INIT;

	assert_int_equal(
		members_parse("m", "{\"args\":[\"a\"]}\n\n{\"index\":5,\"envs\":{\"A\":\"b\"}}\n",
			      &mem, &members, &err),
		0);
	assert_int_equal(members.n, 2);
	assert_int_equal(members.highest_index, 5);
	assert_string_equal(members.items[0]->args[0], "a");
	assert_string_equal(members.items[1]->envs[0]->key, "A");
}

static void test_members_refusals(void **state)
{
	static const char *const bad[][2] = {
		{"{\n", "m:1: not JSON"},
		{"{}\n{\"commands\":[]}\n", "m:2: unknown key 'commands'"},
		{"{\"args\":[1]}\n", "args must be a list of strings"},
		{"{\"index\":-1}\n", "index"},
		{"{\"index\":0}\n{\"index\":0}\n", "m:2: index 0 is given twice"},
		{"[]\n", "must be a JSON object"},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct members members;
		struct err err = ERR_INIT;

		assert_int_equal(members_parse("m", bad[i][0], &mem, &members, &err), -EINVAL);
		if (!strstr(err.msg, bad[i][1]))
			fail_msg("'%s' lacks '%s'", err.msg, bad[i][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_all_keys, clean),
		cmocka_unit_test_teardown(test_defaults_and_nulls, clean),
		cmocka_unit_test_teardown(test_refusals_name_the_line, clean),
		cmocka_unit_test_teardown(test_flags_win, clean),
		cmocka_unit_test_teardown(test_messages, clean),
		cmocka_unit_test_teardown(test_members, clean),
		cmocka_unit_test_teardown(test_members_refusals, clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
