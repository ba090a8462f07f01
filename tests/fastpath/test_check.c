/* SPDX-License-Identifier: Apache-2.0 */
/* Validation of create requests: each bad value is refused with a sentence that names it, and
 * nothing good is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "check.h"
#include "fsb.pb-c.h"
#include "plan.h"

static struct fp_fail fail;

#define refused(call, word)                                                                        \
	do {                                                                                       \
		assert_int_equal(call, G_INVALID_ARGUMENT);                                        \
		if (!strstr(fail.msg, word))                                                       \
			fail_msg("'%s' does not say '%s'", fail.msg, word);                        \
	} while (0)

static char long_text[70001];

static const char *repeat(char c, size_t n)
{
	memset(long_text, c, n);
	long_text[n] = '\0';
	return long_text;
}

static void test_name(void **state)
{
	assert_int_equal(fp_check_name("name", "a", &fail), G_OK);
	assert_int_equal(fp_check_name("name", "a-1.b", &fail), G_OK);
	refused(fp_check_name("name", "", &fail), "name is empty");
	refused(fp_check_name("name", "Upper", &fail), "Upper");
	refused(fp_check_name("name", "-a", &fail), "'-a'");
	refused(fp_check_name("name", "a_b", &fail), "a_b");
	refused(fp_check_name("name", "a..b", &fail), "a..b");
	refused(fp_check_name("name", repeat('a', 254), &fail), "254 bytes");
	refused(fp_check_name("name", "a\nb", &fail), "a?b");
}

static void test_namespace_and_pool(void **state)
{
	assert_int_equal(fp_check_namespace("default", &fail), G_OK);
	refused(fp_check_namespace("a.b", &fail), "a.b");
	refused(fp_check_namespace(repeat('a', 64), &fail), "aaaa");
	assert_int_equal(fp_check_pool("default-pool", &fail), G_OK);
	refused(fp_check_pool("No", &fail), "No");
}

static void test_image(void **state)
{
	char image[REG_IMAGE_MAX + 1];

	assert_int_equal(fp_check_image("busybox", image, &fail), G_OK);
	assert_string_equal(image, "docker.io/library/busybox:latest");
	refused(fp_check_image("", image, &fail), "image is empty");
	refused(fp_check_image("Bad Image", image, &fail), "Bad Image");
	refused(fp_check_image(repeat('a', 600), image, &fail), "image");
}

static void test_ports(void **state)
{
	const int32_t good[] = {1, 65535, 80}, zero[] = {80, 0}, big[] = {65536}, minus[] = {-1},
		      twice[] = {80, 81, 80};
	int32_t many[33];
	uint16_t ports[REG_PORTS_MAX];

	for (int i = 0; i < 33; i++)
		many[i] = i + 1;
	assert_int_equal(fp_check_ports(good, 3, ports, &fail), G_OK);
	assert_int_equal(ports[1], 65535);
	refused(fp_check_ports(zero, 2, ports, &fail),
		"invalid port 0: must be between 1 and 65535");
	refused(fp_check_ports(big, 1, ports, &fail), "65536");
	refused(fp_check_ports(minus, 1, ports, &fail), "-1");
	refused(fp_check_ports(twice, 3, ports, &fail), "port 80 is given twice");
	refused(fp_check_ports(many, 33, ports, &fail), "33 exposed ports");
	assert_int_equal(fp_check_ports(many, 32, ports, &fail), G_OK);
}

static struct fp_map one(const char *key, const char *value)
{
	static struct fp_entry entry;
	static struct fp_entry *entries[1] = {&entry};

	entry.key = fp_borrow(key);
	entry.value = fp_borrow(value);
	return (struct fp_map){1, entries};
}

static int resource(const char *key, const char *value)
{
	struct fp_map map = one(key, value);

	return fp_check_resources(&map, &fail);
}

static void test_resources(void **state)
{
	assert_int_equal(resource("cpu", "500m"), G_OK);
	assert_int_equal(resource("memory", "64Mi"), G_OK);
	assert_int_equal(resource("pids", "100"), G_OK);
	refused(resource("gpu", "1"), "unknown resource 'gpu'");
	refused(resource("cpu", "lots"), "lots");
	refused(resource("memory", "0"), "greater than 0");
	refused(resource("pids", "1500m"), "whole number");
	refused(resource("memory", "-1"), "-1");
}

static void test_envs_and_labels(void **state)
{
	struct fp_map map = one("PATH", "");

	assert_int_equal(fp_check_envs(&map, &fail), G_OK);
	map = one("", "x");
	refused(fp_check_envs(&map, &fail), "empty name");
	map = one("a=b", "x");
	refused(fp_check_envs(&map, &fail), "a=b");
	map = one("example.com/team", "rl");
	assert_int_equal(fp_check_labels(&map, &fail), G_OK);
	map = one("team!", "rl");
	refused(fp_check_labels(&map, &fail), "team!");
	map = one("team", "r l");
	refused(fp_check_labels(&map, &fail), "r l");
}

static void test_small_fields(void **state)
{
	int64_t now = clock_unix_ns();
	char *empty_word[] = {fp_borrow("")};

	assert_int_equal(fp_check_working_dir("", &fail), G_OK);
	assert_int_equal(fp_check_working_dir("/srv", &fail), G_OK);
	refused(fp_check_working_dir("srv", &fail), "srv");
	assert_int_equal(fp_check_network("shared", &fail), G_OK);
	refused(fp_check_network("host", &fail), "host");
	assert_int_equal(fp_check_expire(0, now, &fail), G_OK);
	assert_int_equal(fp_check_expire(now / (int64_t)NS_PER_S + 2, now, &fail), G_OK);
	refused(fp_check_expire(1000, now, &fail), "1000 is in the past");
	refused(fp_check_expire(-5, now, &fail), "-5");
	refused(fp_check_expire(INT64_MAX, now, &fail), "9223372036854775807");
	refused(fp_check_recovery(-1, &fail), "-1");
	refused(fp_check_policy(7, &fail), "7");
	assert_int_equal(fp_check_policy(REG_AUTO_RECREATE, &fail), G_UNIMPLEMENTED);
	refused(fp_check_request_id(repeat('r', 128), 0, &fail), "128 bytes");
	refused(fp_check_request_id(repeat('r', 125), 5, &fail), "at most 122");
	refused(fp_check_argv("command", empty_word, 1, &fail), "command[0] is empty");
	assert_int_equal(fp_check_argv("args", empty_word, 1, &fail), G_OK);
}

static struct fp_create_args good_args(Fsb__V1__SandboxSpec *spec)
{
	fsb__v1__sandbox_spec__init(spec);
	spec->image = fp_borrow("busybox");
	return (struct fp_create_args){
		.ns = "", .pool = "", .name = "", .request_id = "", .spec = spec};
}

static void test_plan_defaults(void **state)
{
	Fsb__V1__SandboxSpec spec;
	struct fp_create_args args = good_args(&spec);
	struct fp_plan plan;

	assert_int_equal(fp_plan_make(&args, false, 0, &plan, &fail), G_OK);
	assert_string_equal(plan.ns, "default");
	assert_string_equal(plan.pool, "default-pool");
	assert_string_equal(plan.image, "docker.io/library/busybox:latest");
	assert_int_equal(plan.recovery_timeout_s, 60);
	assert_false(plan.strong);
	assert_null(plan.labels);
	fp_plan_done(&plan);
}

static bool strong(int consistency, bool by_default)
{
	Fsb__V1__SandboxSpec spec;
	struct fp_create_args args = good_args(&spec);
	struct fp_plan plan;
	bool is;

	args.consistency = consistency;
	assert_int_equal(fp_plan_make(&args, by_default, 0, &plan, &fail), G_OK);
	is = plan.strong;
	fp_plan_done(&plan);
	return is;
}

static void test_plan_consistency(void **state)
{
	Fsb__V1__SandboxSpec spec;
	struct fp_create_args args = good_args(&spec);
	struct fp_plan plan;

	assert_false(strong(FP_CONSISTENCY_DEFAULT, false));
	assert_true(strong(FP_CONSISTENCY_DEFAULT, true));
	assert_false(strong(FP_CONSISTENCY_FAST, true));
	assert_true(strong(FP_CONSISTENCY_STRONG, false));
	args.consistency = args.consistency_given = 9;
	refused(fp_plan_make(&args, false, 0, &plan, &fail), "9");
	args.consistency = 0;
	args.wait_for = 4;
	refused(fp_plan_make(&args, false, 0, &plan, &fail), "4");
}

static void test_plan_sizes(void **state)
{
	Fsb__V1__SandboxSpec spec;
	struct fp_create_args args = good_args(&spec);
	struct fp_plan plan;
	char *words[1] = {fp_borrow(repeat('x', 70000))};

	spec.n_args = 1;
	spec.args = words;
	refused(fp_plan_make(&args, false, 0, &plan, &fail), "at most 65536");
	spec.n_args = 0;
	args.ns = repeat('n', 100);
	refused(fp_plan_make(&args, false, 0, &plan, &fail), "100 bytes");
	args.ns = "";
	args.name = repeat('n', 63);
	assert_int_equal(fp_plan_make(&args, false, 10000, &plan, &fail), G_OK);
	fp_plan_done(&plan);
}

static void test_plan_batch_name_leaves_room(void **state)
{
	Fsb__V1__SandboxSpec spec;
	struct fp_create_args args = good_args(&spec);
	struct fp_plan plan;
	char name[REG_NAME_MAX + 1];

	/* 250 bytes: labels of 49 joined by dots. */
	for (int i = 0; i < 250; i++)
		name[i] = i % 50 == 49 && i < 249 ? '.' : 'a';
	name[250] = '\0';
	args.name = name;
	assert_int_equal(fp_plan_make(&args, false, 0, &plan, &fail), G_OK);
	fp_plan_done(&plan);
	assert_int_equal(fp_plan_make(&args, false, 100, &plan, &fail), G_OK);
	fp_plan_done(&plan);
	refused(fp_plan_make(&args, false, 1000, &plan, &fail), "253");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_name),
		cmocka_unit_test(test_namespace_and_pool),
		cmocka_unit_test(test_image),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_resources),
		cmocka_unit_test(test_envs_and_labels),
		cmocka_unit_test(test_small_fields),
		cmocka_unit_test(test_plan_defaults),
		cmocka_unit_test(test_plan_consistency),
		cmocka_unit_test(test_plan_sizes),
		cmocka_unit_test(test_plan_batch_name_leaves_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
