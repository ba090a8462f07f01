/* SPDX-License-Identifier: Apache-2.0 */
/* Conversions: maps, spec encoding, ids and hashes, the status and phase tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent.pb-c.h"
#include "base/pb.h"
#include "fsb.pb-c.h"
#include "plan.h"
#include "status.h"

static struct fp_fail fail;

struct pairs {
	struct fp_entry entry[4];
	struct fp_entry *at[4];
	struct fp_map map;
};

/* Texts by twos, ends with NULL. */
static struct fp_map *pairs(struct pairs *p, const char *const *texts)
{
	size_t n = 0;

	for (; texts[2 * n]; n++) {
		fsb__v1__sandbox_spec__envs_entry__init(
			(Fsb__V1__SandboxSpec__EnvsEntry *)&p->entry[n]);
		p->entry[n].key = fp_borrow(texts[2 * n]);
		p->entry[n].value = fp_borrow(texts[2 * n + 1]);
		p->at[n] = &p->entry[n];
	}
	p->map = (struct fp_map){n, p->at};
	return &p->map;
}

static void test_map_is_sorted_and_last_wins(void **state)
{
	struct pairs a, b, c;
	struct fp_map sorted;

	pairs(&a, (const char *const[]){"z", "1", "a", "2", "z", "3", NULL});
	pairs(&b, (const char *const[]){"m", "4", "a", "5", NULL});
	assert_int_equal(fp_map_sorted(&a.map, &b.map, &sorted), 0);
	assert_int_equal(sorted.n, 3);
	assert_string_equal(sorted.entries[0]->key, "a");
	assert_string_equal(fp_map_get(&sorted, "a"), "5");
	assert_string_equal(fp_map_get(&sorted, "m"), "4");
	assert_string_equal(fp_map_get(&sorted, "z"), "3");
	assert_null(fp_map_get(&sorted, "zz"));
	assert_true(fp_map_has_all(&sorted, &b.map));
	pairs(&c, (const char *const[]){"m", "x", NULL});
	assert_false(fp_map_has_all(&sorted, &c.map));
	fp_map_free(&sorted);
}

static Fsb__V1__SandboxSpec *decode(const struct fp_blob *blob, struct pb_arena **arena)
{
	ProtobufCMessage *msg;

	assert_int_equal(pb_unpack(&fsb__v1__sandbox_spec__descriptor, blob->data, blob->len, NULL,
				   arena, &msg, NULL),
			 0);
	return (Fsb__V1__SandboxSpec *)msg;
}

static void test_spec_with_override(void **state)
{
	Fsb__V1__SandboxSpec spec = FSB__V1__SANDBOX_SPEC__INIT, *got;
	char *command[] = {fp_borrow("sh")}, *args[] = {fp_borrow("-c"), fp_borrow("true")};
	char *other[] = {fp_borrow("false")};
	struct fp_override over = {.n_args = 1, .args = other};
	struct fp_blob *plain, *blob;
	struct pb_arena *arena;
	struct pairs base, more;

	spec.image = fp_borrow("busybox");
	spec.n_command = 1;
	spec.command = command;
	spec.n_args = 2;
	spec.args = args;
	pairs(&base, (const char *const[]){"B", "1", "A", "2", NULL});
	spec.n_envs = base.map.n;
	spec.envs = (Fsb__V1__SandboxSpec__EnvsEntry **)base.map.entries;
	over.envs = *pairs(&more, (const char *const[]){"B", "3", NULL});
	assert_int_equal(fp_spec_encode(&spec, NULL, &plain, &fail), G_OK);
	assert_int_equal(fp_spec_encode(&spec, &over, &blob, &fail), G_OK);
	got = decode(blob, &arena);
	assert_string_equal(got->image, "busybox");
	assert_string_equal(got->command[0], "sh");
	assert_int_equal(got->n_args, 1);
	assert_string_equal(got->args[0], "false");
	assert_int_equal(got->n_envs, 2);
	assert_string_equal(got->envs[0]->key, "A");
	assert_string_equal(got->envs[1]->value, "3");
	pb_free(arena);
	got = decode(plain, &arena);
	assert_int_equal(got->n_args, 2);
	assert_string_equal(got->envs[1]->value, "1");
	pb_free(arena);
	fp_blob_unref(plain);
	fp_blob_unref(blob);
}

static void test_labels_round_trip(void **state)
{
	struct fp_labels labels;
	struct fp_blob *blob;
	struct pairs p;

	pairs(&p, (const char *const[]){"team", "rl", "app", "x", NULL});
	assert_int_equal(fp_labels_encode(&p.map, &blob, &fail), G_OK);
	assert_int_equal(fp_labels_decode(blob->data, blob->len, &labels), 0);
	assert_int_equal(labels.map.n, 2);
	assert_string_equal(fp_map_get(&labels.map, "team"), "rl");
	fp_labels_done(&labels);
	fp_blob_unref(blob);
}

/* printf 'web:default:1700000000000000001' | md5sum */
static void test_id_is_the_wires(void **state)
{
	char id[FP_ID_LEN + 1];

	assert_int_equal(fp_sandbox_id("web", "default", INT64_C(1700000000000000001), id), 0);
	assert_string_equal(id, "fe3175f5812f4b60b0db5f59e0feaf1e");
}

static uint64_t plan_hash(const char *name, const char *image, int consistency, uint64_t deadline)
{
	Fsb__V1__SandboxSpec spec = FSB__V1__SANDBOX_SPEC__INIT;
	struct fp_create_args args = {.ns = "",
				      .pool = "",
				      .name = name,
				      .request_id = "r",
				      .spec = &spec,
				      .consistency = consistency,
				      .deadline_ns = deadline};
	struct fp_plan plan;
	uint64_t hash;

	spec.image = fp_borrow(image);
	assert_int_equal(fp_plan_make(&args, false, 0, &plan, &fail), G_OK);
	hash = plan.hash;
	fp_plan_done(&plan);
	return hash;
}

static void test_hash_tells_a_repeat(void **state)
{
	uint64_t first = plan_hash("a", "busybox", FP_CONSISTENCY_FAST, 1);

	assert_true(first == plan_hash("a", "busybox", FP_CONSISTENCY_STRONG, 2));
	assert_false(first == plan_hash("b", "busybox", FP_CONSISTENCY_FAST, 1));
	assert_false(first == plan_hash("a", "alpine", FP_CONSISTENCY_FAST, 1));
	assert_false(fp_hash_str(fp_hash_str(FP_HASH_INIT, "a"), "bc") ==
		     fp_hash_str(fp_hash_str(FP_HASH_INIT, "ab"), "c"));
}

static void test_every_registry_status_has_a_code(void **state)
{
	assert_int_equal(fp_status_of_reg(REG_OK), G_OK);
	for (int i = 1; i < REG_STATUS_MAX; i++) {
		int status = fp_status_of_reg((enum reg_status)i);

		if (status == G_OK || status == G_UNKNOWN)
			fail_msg("%s maps to %s", reg_status_name((enum reg_status)i),
				 gstatus_name(status));
	}
	assert_int_equal(fp_status_of_reg(REG_NO_CAPACITY), G_RESOURCE_EXHAUSTED);
	assert_int_equal(fp_status_of_reg(REG_NAME_EXISTS), G_ALREADY_EXISTS);
	assert_int_equal(fp_status_of_reg(REG_NO_POOL), G_NOT_FOUND);
	assert_int_equal(fp_status_of_reg(REG_REQUEST_MISMATCH), G_INVALID_ARGUMENT);
	assert_int_equal(fp_status_of_reg((enum reg_status)999), G_INTERNAL);
}

static void test_ack_codes(void **state)
{
	assert_int_equal(fp_status_of_ack(FSB__AGENT__V1__ACK_CODE__OK), G_OK);
	assert_int_equal(fp_status_of_ack(FSB__AGENT__V1__ACK_CODE__IMAGE_NOT_FOUND), G_NOT_FOUND);
	assert_int_equal(fp_status_of_ack(FSB__AGENT__V1__ACK_CODE__BAD_SPEC), G_INVALID_ARGUMENT);
	assert_int_equal(fp_status_of_ack(FSB__AGENT__V1__ACK_CODE__RESOURCES),
			 G_RESOURCE_EXHAUSTED);
	assert_int_equal(fp_status_of_ack(77), G_INTERNAL);
}

static void test_phases(void **state)
{
	static const struct {
		enum reg_state state;
		int code;
		const char *phase;
	} cases[] = {
		{REG_RESERVED, 0, "Pending"}, {REG_STARTING, 0, "Bound"},
		{REG_RUNNING, 0, "Running"},  {REG_STOPPING, 0, "Terminating"},
		{REG_EXITED, 0, "Succeeded"}, {REG_EXITED, 3, "Failed"},
		{REG_EXITED, -1, "Failed"},   {REG_EXPIRED, 0, "Expired"},
		{REG_LOST, 0, "Lost"},	      {REG_RESTORED, 0, "Pending"},
	};
	struct reg_sandbox_view view = {0};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		view.state = cases[i].state;
		view.exit.code = cases[i].code;
		assert_string_equal(fp_phase(&view), cases[i].phase);
		assert_true(fp_phase_rank(cases[i].phase) >= 0);
	}
	assert_int_equal(fp_phase_rank("running"), -1);
	assert_true(fp_phase_rank("Bound") < fp_phase_rank("Running"));
	assert_true(fp_phase_rank("Terminating") < fp_phase_rank("Lost"));
}

static void test_quoting_cuts_at_characters(void **state)
{
	char q[FP_QUOTED_MAX + 8], text[300];

	memset(text, 'a', 99);
	memcpy(text + 99, "\xc3\xa9zzz", 6);
	fp_quote(text, q);
	assert_int_equal(strlen(q), 99 + 3);
	assert_string_equal(q + 99, "\xe2\x80\xa6");
	assert_string_equal(fp_quote("a\tb", q), "a?b");
	memset(text, 'b', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(fp_fail(&fail, G_INTERNAL, "%s%s%s", text, text, text), G_INTERNAL);
	assert_true(strlen(fail.msg) < sizeof(fail.msg));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map_is_sorted_and_last_wins),
		cmocka_unit_test(test_spec_with_override),
		cmocka_unit_test(test_labels_round_trip),
		cmocka_unit_test(test_id_is_the_wires),
		cmocka_unit_test(test_hash_tells_a_repeat),
		cmocka_unit_test(test_every_registry_status_has_a_code),
		cmocka_unit_test(test_ack_codes),
		cmocka_unit_test(test_phases),
		cmocka_unit_test(test_quoting_cuts_at_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
