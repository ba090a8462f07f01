/* SPDX-License-Identifier: Apache-2.0 */
/* A record as JSON and back: everything that a rebuild needs, odd texts, and what a decoder must
 * refuse. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "fixture.h"
#include "object.h"

/* The vector of the compatible system: md5 of test-sb:default:1234567890123456789. */
#define VECTOR_ID      "e4b85f2f7d8fb1918a47168a87c62761"
#define VECTOR_CREATED INT64_C(1234567890123456789)

static struct reg_sandbox_view view_of(const struct reg_request *req)
{
	struct reg_sandbox_view v = {
		.state = REG_RUNNING,
		.created_unix_ns = VECTOR_CREATED,
		.started_unix_ns = VECTOR_CREATED + 1234567,
		.generation = 3,
		.revision = 42,
		.expire_unix_s = req->expire_unix_s,
		.policy = req->policy,
		.recovery_timeout_s = req->recovery_timeout_s,
		.consistency = req->consistency,
		.request_hash = req->request_hash,
		.spec_len = req->spec_len,
		.labels_len = req->labels_len,
	};

	strcpy(v.ns, req->ns);
	strcpy(v.name, req->name);
	strcpy(v.id, VECTOR_ID);
	strcpy(v.pool, req->pool);
	strcpy(v.image, req->image);
	strcpy(v.request_id, req->request_id);
	strcpy(v.agent_name, "agent-1");
	strcpy(v.agent_node, "node-1");
	strcpy(v.agent_host_ip, "10.0.0.7");
	return v;
}

static char *encode(const struct reg_sandbox_view *v, const struct reg_request *req)
{
	struct err err = ERR_INIT;
	char *json = NULL;
	size_t len;

	if (crd_object_encode(v, req->spec, req->labels, VECTOR_CREATED + 5, &json, &len, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(strlen(json), len);
	return json;
}

static void round_trip(enum reg_state state, enum reg_state back, bool deleting)
{
	struct reg_request req = fixture_request_ports("test-sb");
	struct reg_sandbox_view v = view_of(&req);
	struct crd_object o;
	struct err err = ERR_INIT;
	char *json;

	v.state = state;
	v.deleting = deleting;
	strcpy(v.message, "why \"it\" is so");
	if (state == REG_EXITED)
		v.exit = (struct reg_exit){.code = -1,
					   .signal = 9,
					   .oom_killed = true,
					   .finished_unix_ns = VECTOR_CREATED + 99};
	json = encode(&v, &req);
	if (crd_object_decode(json, strlen(json), &o, &err) < 0)
		fail_msg("%s in %s", err.msg, json);
	assert_int_equal(o.restore.state, back);
	assert_int_equal(o.deleting, deleting);
	assert_true(o.restore.from_store);
	assert_string_equal(o.restore.req.ns, v.ns);
	assert_string_equal(o.restore.req.name, v.name);
	assert_string_equal(o.restore.req.id, v.id);
	assert_string_equal(o.restore.req.pool, v.pool);
	assert_string_equal(o.restore.req.image, v.image);
	assert_string_equal(o.restore.req.request_id, v.request_id);
	assert_int_equal(o.restore.req.request_hash, v.request_hash);
	assert_int_equal(o.restore.req.port_count, 2);
	assert_int_equal(o.restore.req.ports[0], 8080);
	assert_int_equal(o.restore.req.ports[1], 22);
	assert_int_equal(o.restore.req.spec_len, req.spec_len);
	assert_memory_equal(o.restore.req.spec, req.spec, req.spec_len);
	assert_int_equal(o.restore.req.labels_len, req.labels_len);
	assert_memory_equal(o.restore.req.labels, req.labels, req.labels_len);
	assert_int_equal(o.restore.req.created_unix_ns, v.created_unix_ns);
	assert_int_equal(o.restore.req.expire_unix_s, v.expire_unix_s);
	assert_int_equal(o.restore.req.policy, v.policy);
	assert_int_equal(o.restore.req.recovery_timeout_s, v.recovery_timeout_s);
	assert_int_equal(o.restore.req.consistency, v.consistency);
	assert_int_equal(o.restore.generation, v.generation);
	assert_int_equal(o.restore.started_unix_ns, v.started_unix_ns);
	assert_string_equal(o.restore.agent_name, v.agent_name);
	assert_string_equal(o.restore.message, v.message);
	assert_memory_equal(&o.restore.exit, &v.exit, sizeof(v.exit));
	crd_object_clear(&o);
	free(json);
}

static void test_round_trip(void **state)
{
	round_trip(REG_RESERVED, REG_RESTORED, false);
	round_trip(REG_STARTING, REG_RESTORED, false);
	round_trip(REG_RUNNING, REG_RESTORED, false);
	round_trip(REG_STOPPING, REG_RESTORED, true);
	round_trip(REG_STOPPING, REG_RESTORED, false);
	round_trip(REG_EXITED, REG_EXITED, false);
	round_trip(REG_EXPIRED, REG_EXPIRED, false);
	round_trip(REG_LOST, REG_LOST, false);
}

static const char *text_at(json_t *root, const char *a, const char *b)
{
	const char *text = json_string_value(json_object_get(json_object_get(root, a), b));

	return text ? text : "(none)";
}

/* What the CRD's readers look at. */
static void test_crd_shape(void **state)
{
	struct reg_request req = fixture_request_ports("test-sb");
	struct reg_sandbox_view v = view_of(&req);
	char *json = encode(&v, &req);
	json_t *root = json_loads(json, 0, NULL), *meta = json_object_get(root, "metadata");

	assert_string_equal(json_string_value(json_object_get(root, "apiVersion")),
			    "sandbox.fast.io/v1alpha1");
	assert_string_equal(json_string_value(json_object_get(root, "kind")), "Sandbox");
	assert_string_equal(text_at(root, "metadata", "name"), "test-sb");
	assert_string_equal(text_at(root, "metadata", "creationTimestamp"), "2009-02-13T23:31:30Z");
	assert_string_equal(text_at(root, "metadata", "uid"),
			    "e4b85f2f-7d8f-b191-8a47-168a87c62761");
	assert_string_equal(text_at(root, "metadata", "resourceVersion"), "42");
	assert_string_equal(text_at(meta, "labels", "sandbox.fast.io/created-by"), "fastpath-fast");
	assert_string_equal(text_at(meta, "labels", "app"), "test-sb");
	assert_string_equal(text_at(meta, "annotations", "sandbox.fast.io/createTimestamp"),
			    "1234567890123456789");
	assert_string_equal(text_at(root, "spec", "image"), "busybox");
	assert_string_equal(text_at(root, "spec", "poolRef"), "default-pool");
	assert_string_equal(text_at(root, "spec", "expireTime"), "2100-01-01T00:00:00Z");
	assert_string_equal(text_at(root, "spec", "failurePolicy"), "AutoRecreate");
	assert_string_equal(text_at(root, "status", "phase"), "Running");
	assert_string_equal(text_at(root, "status", "assignedPod"), "agent-1");
	assert_string_equal(text_at(root, "status", "nodeName"), "node-1");
	assert_string_equal(text_at(root, "status", "sandboxID"), VECTOR_ID);
	assert_string_equal(
		json_string_value(json_array_get(
			json_object_get(json_object_get(root, "status"), "endpoints"), 1)),
		"10.0.0.7:22");
	json_decref(root);
	free(json);
}

/* A STRONG one has no created-by label, whatever its labels say; a cut message loses its last half
 * character. */
static void test_strong_and_cut_message(void **state)
{
	struct reg_request req = fixture_request_ports("test-sb");
	struct reg_sandbox_view v = view_of(&req);
	struct crd_object o;
	char *json;

	v.consistency = REG_STRONG;
	memset(v.message, 'x', REG_MESSAGE_MAX);
	v.message[REG_MESSAGE_MAX - 1] = '\xc3';
	json = encode(&v, &req);
	assert_null(strstr(json, CRD_LABEL_CREATED_BY));
	assert_int_equal(crd_object_decode(json, strlen(json), &o, NULL), 0);
	assert_int_equal(o.restore.req.consistency, REG_STRONG);
	assert_int_equal(strlen(o.restore.message), REG_MESSAGE_MAX - 1);
	crd_object_clear(&o);
	free(json);
}

/* An object as kubectl or the Go controller would write it: without what only we add. */
static void test_foreign_object(void **state)
{
	static const char json[] =
		"{\"apiVersion\":\"sandbox.fast.io/v1alpha1\",\"kind\":\"Sandbox\",\"metadata\":{"
		"\"name\":\"a\",\"namespace\":\"default\",\"creationTimestamp\":\"2026-01-02T03:04:"
		"05Z\"},"
		"\"spec\":{\"image\":\"busybox\",\"poolRef\":\"p\"},\"status\":{\"sandboxID\":"
		"\"x\"}}";
	struct crd_object o;
	struct err err = ERR_INIT;

	if (crd_object_decode(json, strlen(json), &o, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(o.restore.state, REG_RESTORED);
	assert_string_equal(o.restore.req.image, "docker.io/library/busybox:latest");
	assert_int_equal(o.restore.req.labels_len, 0);
	assert_int_equal(o.restore.req.created_unix_ns, INT64_C(1767323045) * (int64_t)NS_PER_S);
	crd_object_clear(&o);
}

static void test_refusals(void **state)
{
	static const struct {
		const char *path[2];
		const char *value; /* JSON; NULL: removed */
		const char *named; /* must be in the message */
	} cases[] = {
		{{"metadata", "name"}, NULL, "name"},
		{{"metadata", "namespace"}, "17", "namespace"},
		{{"metadata", "annotations"}, "[]", "annotations"},
		{{"metadata", "labels"}, "{\"a\":1}", "labels"},
		{{"spec", "image"}, "\"\"", "image"},
		{{"spec", "command"}, "\"x\"", "command"},
		{{"spec", "command"}, "[1]", "command"},
		{{"spec", "envs"}, "[\"A=b\"]", "envs"},
		{{"spec", "exposedPorts"}, "[65536]", "exposedPorts"},
		{{"spec", "exposedPorts"}, "[0]", "exposedPorts"},
		{{"spec", "expireTime"}, "\"tomorrow\"", "expireTime"},
		{{"spec", "failurePolicy"}, "\"Never\"", "failurePolicy"},
		{{"spec", "recoveryTimeoutSeconds"}, "1e30", "recoveryTimeoutSeconds"},
		{{"spec", "workingDir"}, "\"a\\u0000b\"", "u0000"},
		{{"status", "phase"}, "\"Melting\"", "phase"},
		{{"status", "sandboxID"}, NULL, "sandboxID"},
		{{"status", "exitCode"}, "\"0\"", "exitCode"},
	};
	struct reg_request req = fixture_request_ports("test-sb");
	struct reg_sandbox_view v = view_of(&req);
	char *good = encode(&v, &req);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *root = json_loads(good, 0, NULL);
		json_t *part = json_object_get(root, cases[i].path[0]);
		struct crd_object o;
		struct err err = ERR_INIT;
		char *json;

		if (cases[i].value)
			json_object_set_new(
				part, cases[i].path[1],
				json_loads(cases[i].value, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL));
		else
			json_object_del(part, cases[i].path[1]);
		json = json_dumps(root, 0);
		if (crd_object_decode(json, strlen(json), &o, &err) != -EBADMSG ||
		    !strstr(err.msg, cases[i].named))
			fail_msg("case %zu: %s", i, err.msg);
		free(json);
		json_decref(root);
	}
	free(good);
}

static void test_not_json(void **state)
{
	static const char *const texts[] = {
		"", "{", "[]", "17", "\xff\xfe", "{}", "{\"a\":1,\"a\":2}"};
	struct crd_object o;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_int_equal(crd_object_decode(texts[i], strlen(texts[i]), &o, NULL), -EBADMSG);
}

static void test_times(void **state)
{
	static const int64_t seconds[] = {1, 1767323045, INT64_C(9223372037),
					  INT64_C(253402300799)};
	char text[32];
	int64_t back;

	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(
			crd_time_parse(crd_time_format(seconds[i], text, sizeof(text)), &back), 0);
		assert_int_equal(back, seconds[i]);
	}
	assert_string_equal(crd_time_format(INT64_MAX, text, sizeof(text)), "9999-12-31T23:59:59Z");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_crd_shape),
		cmocka_unit_test(test_strong_and_cut_message),
		cmocka_unit_test(test_foreign_object),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_not_json),
		cmocka_unit_test(test_times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
