/* SPDX-License-Identifier: Apache-2.0 */
/* Everything but creates: wait, delete, update, logs, administration, health; and the master:
 * workers in turn, restarts, drain. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "stack.h"

static void said(const char *word)
{
	if (!strstr(s.err.msg, word))
		fail_msg("'%s' does not say '%s'", s.err.msg, word);
}

static void make(const char *name)
{
	Fastpath__V1__CreateRequest req = FASTPATH__V1__CREATE_REQUEST__INIT;
	Fastpath__V1__CreateRequest__LabelsEntry
		label = FASTPATH__V1__CREATE_REQUEST__LABELS_ENTRY__INIT,
		*labels[] = {&label};
	char image[] = "busybox", text[64], key[] = "team", value[] = "rl";

	snprintf(text, sizeof(text), "%s", name);
	req.image = image;
	req.name = text;
	label.key = key;
	label.value = value;
	req.n_labels = 1;
	req.labels = labels;
	if (CALL_FASTPATH("CreateSandbox", &req, create_response) != G_OK)
		fail_msg("creating '%s': %s", name, s.err.msg);
	assert_string_equal(s.last_label, "rl");
}

static int delete (const char *name, bool wait)
{
	Fsb__V1__DeleteSandboxRequest req = FSB__V1__DELETE_SANDBOX_REQUEST__INIT;
	char text[64];

	snprintf(text, sizeof(text), "%s", name);
	req.name = text;
	req.wait = wait;
	return CALL_FSB("Delete", &req, delete_sandbox_response);
}

/* A delete that is not waited for goes on behind its reply. */
static void until_gone(const char *name)
{
	uint64_t until = clock_mono_ns() + 10 * NS_PER_S;
	int status;

	while ((status = delete (name, false)) == G_OK && clock_mono_ns() < until)
		stack_serve(10);
	assert_int_equal(status, G_NOT_FOUND);
}

struct seen {
	int ended, status, exit_code, messages, serving;
	size_t bytes;
	char phase[32];
};

static void on_waited(void *arg, const struct gresult *result, const ProtobufCMessage *reply)
{
	const Fsb__V1__Sandbox *sandbox = (const Fsb__V1__Sandbox *)reply;
	struct seen *seen = arg;

	seen->ended = 1;
	seen->status = result->status;
	if (!sandbox)
		return;
	seen->exit_code = sandbox->exit_code;
	snprintf(seen->phase, sizeof(seen->phase), "%s", sandbox->phase);
}

static struct gclient_call *start_wait(struct seen *seen, struct gchannel *channel,
				       const char *name, const char *phase, int64_t timeout_ms)
{
	Fsb__V1__WaitSandboxRequest req = FSB__V1__WAIT_SANDBOX_REQUEST__INIT;
	char text[64], phase_text[32];

	memset(seen, 0, sizeof(*seen));
	snprintf(text, sizeof(text), "%s", name);
	snprintf(phase_text, sizeof(phase_text), "%s", phase);
	req.name = text;
	req.phase = phase_text;
	req.timeout_ms = timeout_ms;
	return gclient_unary(channel, "/fsb.v1.SandboxService/Wait", &req.base,
			     &fsb__v1__sandbox__descriptor, 0, on_waited, seen);
}

static void test_wait(void **state)
{
	const struct reg_exit exit = {.code = 3, .finished_unix_ns = 1};
	struct gchannel *other = stack_channel();
	struct reg_sandbox_view view;
	struct seen seen, second;

	make("waited");
	start_wait(&seen, s.channel, "waited", "Running", 0);
	stack_until(&seen.ended, 1);
	assert_string_equal(seen.phase, "Running");
	start_wait(&seen, s.channel, "waited", "", 100);
	stack_until(&seen.ended, 1);
	assert_int_equal(seen.status, G_DEADLINE_EXCEEDED);
	start_wait(&seen, s.channel, "waited", "", 0);
	start_wait(&second, other, "waited", "Succeeded", 0);
	stack_serve(50);
	assert_int_equal(seen.ended + second.ended, 0);
	assert_int_equal(reg_get(s.me, "default", "waited", &view), REG_OK);
	assert_int_equal(reg_exited(s.me, view.sandbox, &exit), REG_OK);
	stack_until(&seen.ended, 1);
	stack_until(&second.ended, 1);
	assert_int_equal(seen.exit_code, 3);
	assert_string_equal(second.phase, "Failed");
	start_wait(&seen, s.channel, "waited", "done", 0);
	stack_until(&seen.ended, 1);
	assert_int_equal(seen.status, G_INVALID_ARGUMENT);
	assert_int_equal(delete ("waited", true), G_OK);
	assert_int_equal(s.removes, 1); /* an exited one needs no stop */
	gchannel_free(other);
}

static void test_wait_ends_with_a_delete_or_a_cancel(void **state)
{
	struct gclient_call *call;
	struct seen seen;

	make("gone");
	start_wait(&seen, s.channel, "gone", "", 0);
	stack_serve(50);
	assert_int_equal(delete ("gone", true), G_OK);
	stack_until(&seen.ended, 1);
	assert_int_equal(seen.status, G_NOT_FOUND);
	make("gone");
	call = start_wait(&seen, s.channel, "gone", "", 0);
	stack_serve(50);
	gclient_cancel(call);
	stack_until(&seen.ended, 1);
	assert_int_equal(delete ("gone", false), G_OK);
	until_gone("gone");
}

static const Fastpath__V1__UpdateResponse *update(Fastpath__V1__UpdateRequest *req)
{
	assert_int_equal(CALL_FASTPATH("UpdateSandbox", req, update_response), G_OK);
	return s.reply;
}

static void test_update(void **state)
{
	Fastpath__V1__UpdateRequest req = FASTPATH__V1__UPDATE_REQUEST__INIT;
	Fastpath__V1__UpdateRequest__LabelsEntry
		label = FASTPATH__V1__UPDATE_REQUEST__LABELS_ENTRY__INIT,
		*labels[] = {&label};
	char name[] = "changed", key[] = "app", value[] = "x", revision[] = "2026-01-01T00:00:00Z";
	const Fastpath__V1__UpdateResponse *reply;

	make("changed");
	req.sandbox_name = name;
	req.update_case = FASTPATH__V1__UPDATE_REQUEST__UPDATE_EXPIRE_TIME_SECONDS;
	req.expire_time_seconds = INT64_C(4000000000);
	label.key = key;
	label.value = value;
	req.labels = labels;
	req.n_labels = 1;
	s.metas = 0;
	reply = update(&req);
	assert_true(reply->success);
	assert_string_equal(reply->message, "sandbox updated successfully");
	assert_int_equal(reply->sandbox->expire_time_seconds, INT64_C(4000000000));
	stack_until(&s.metas, 1);
	req.n_labels = 0;
	req.update_case = FASTPATH__V1__UPDATE_REQUEST__UPDATE_RECOVERY_TIMEOUT_SECONDS;
	req.recovery_timeout_seconds = -1;
	reply = update(&req);
	assert_false(reply->success);
	assert_non_null(strstr(reply->message, "failed to update sandbox: recovery_timeout"));
	req.update_case = FASTPATH__V1__UPDATE_REQUEST__UPDATE_RESET_REVISION;
	req.reset_revision = revision;
	assert_int_equal(CALL_FASTPATH("UpdateSandbox", &req, update_response), G_UNIMPLEMENTED);
	name[0] = 'x';
	req.update_case = FASTPATH__V1__UPDATE_REQUEST__UPDATE__NOT_SET;
	reply = update(&req);
	assert_false(reply->success);
	assert_string_equal(reply->message, "failed to get sandbox: Sandbox.sandbox.fast.io "
					    "\"xhanged\" not found");
}

static void test_labels_are_merged_and_select(void **state)
{
	Fsb__V1__ListSandboxesRequest list = FSB__V1__LIST_SANDBOXES_REQUEST__INIT;
	Fsb__V1__ListSandboxesRequest__LabelsEntry
		label = FSB__V1__LIST_SANDBOXES_REQUEST__LABELS_ENTRY__INIT,
		*labels[] = {&label};
	const Fsb__V1__ListSandboxesResponse *reply;
	char key[] = "app", value[] = "x", phase[] = "Nonsense";

	make("other");
	label.key = key;
	label.value = value;
	list.labels = labels;
	list.n_labels = 1;
	assert_int_equal(CALL_FSB("List", &list, list_sandboxes_response), G_OK);
	reply = s.reply;
	assert_int_equal(reply->n_items, 1);
	assert_string_equal(reply->items[0]->name, "changed");
	assert_int_equal(reply->items[0]->n_labels, 2);
	list.n_labels = 0;
	assert_int_equal(CALL_FSB("List", &list, list_sandboxes_response), G_OK);
	reply = s.reply;
	assert_int_equal(reply->n_items, 2);
	assert_string_equal(reply->items[1]->name, "other");
	list.phase = phase;
	assert_int_equal(CALL_FSB("List", &list, list_sandboxes_response), G_INVALID_ARGUMENT);
	said("Nonsense");
	assert_int_equal(delete ("changed", true), G_OK);
	assert_int_equal(delete ("other", true), G_OK);
}

static void on_chunk(void *arg, const ProtobufCMessage *msg)
{
	struct seen *seen = arg;

	seen->messages++;
	seen->bytes += ((const Fsb__V1__SandboxLogsChunk *)msg)->data.len;
}

static void on_close(void *arg, const struct gresult *result)
{
	struct seen *seen = arg;

	seen->ended = 1;
	seen->status = result->status;
	snprintf(s.err.msg, sizeof(s.err.msg), "%s", result->message);
}

static void test_logs(void **state)
{
	Fsb__V1__SandboxLogsRequest req = FSB__V1__SANDBOX_LOGS_REQUEST__INIT;
	struct seen seen = {0};
	struct gstream_handlers handlers = {on_chunk, on_close, &seen};
	struct gclient_call *call;
	char name[] = "logged", *text = malloc(65537);

	assert_non_null(text);
	memset(text, 'x', 65536);
	text[65536] = '\0';
	make("logged");
	s.log_text = text;
	s.log_repeat = 300; /* 19 MiB: more than any window, so the pauses are taken */
	req.name = name;
	call = gclient_server_stream(s.channel, "/fsb.v1.SandboxService/Logs", &req.base,
				     &fsb__v1__sandbox_logs_chunk__descriptor, 0, &handlers);
	assert_non_null(call);
	gclient_pause(call, true);
	stack_serve(500);
	gclient_pause(call, false);
	stack_until(&seen.ended, 1);
	assert_int_equal(seen.status, G_OK);
	assert_int_equal(seen.bytes, 300 * 65536);
	name[0] = 'x';
	seen.ended = 0;
	gclient_server_stream(s.channel, "/fsb.v1.SandboxService/Logs", &req.base,
			      &fsb__v1__sandbox_logs_chunk__descriptor, 0, &handlers);
	stack_until(&seen.ended, 1);
	assert_int_equal(seen.status, G_NOT_FOUND);
	assert_int_equal(delete ("logged", true), G_OK);
	free(text);
}

static void test_admin(void **state)
{
	Fsb__V1__ListAgentsRequest agents = FSB__V1__LIST_AGENTS_REQUEST__INIT;
	Fsb__V1__ListPoolsRequest pools = FSB__V1__LIST_POOLS_REQUEST__INIT;
	Fsb__V1__ListImagesRequest images = FSB__V1__LIST_IMAGES_REQUEST__INIT;
	Fsb__V1__LoadImageRequest load = FSB__V1__LOAD_IMAGE_REQUEST__INIT;
	Fsb__V1__GetStatsRequest stats = FSB__V1__GET_STATS_REQUEST__INIT;
	char path[] = "/layout", name[] = "busybox", relative[] = "layout";

#define ADMIN(method, req, type)                                                                   \
	stack_call("/fsb.v1.AdminService/" method, &(req), &fsb__v1__##type##_response__descriptor)
	assert_int_equal(ADMIN("ListAgents", agents, list_agents), G_OK);
	assert_int_equal(((const Fsb__V1__ListAgentsResponse *)s.reply)->n_items, 1);
	assert_string_equal(((const Fsb__V1__ListAgentsResponse *)s.reply)->items[0]->state,
			    "Ready");
	assert_int_equal(((const Fsb__V1__ListAgentsResponse *)s.reply)->items[0]->n_images, 1);
	assert_int_equal(ADMIN("ListPools", pools, list_pools), G_OK);
	assert_string_equal(((const Fsb__V1__ListPoolsResponse *)s.reply)->items[0]->name,
			    "default-pool");
	assert_int_equal(ADMIN("ListImages", images, list_images), G_OK);
	assert_int_equal(((const Fsb__V1__ListImagesResponse *)s.reply)->items[0]->agents, 1);
	load.layout_path = path;
	load.name = name;
	assert_int_equal(ADMIN("LoadImage", load, load_image), G_OK);
	assert_int_equal(((const Fsb__V1__LoadImageResponse *)s.reply)->agents, 1);
	load.layout_path = relative;
	assert_int_equal(ADMIN("LoadImage", load, load_image), G_INVALID_ARGUMENT);
	assert_int_equal(ADMIN("GetStats", stats, get_stats), G_OK);
	assert_int_equal(((const Fsb__V1__GetStatsResponse *)s.reply)->n_workers, 3);
	assert_true(((const Fsb__V1__GetStatsResponse *)s.reply)->store_loaded);
}

static void on_health(void *arg, const ProtobufCMessage *msg)
{
	struct seen *seen = arg;

	seen->messages++;
	seen->serving = (int)((const Grpc__Health__V1__HealthCheckResponse *)msg)->status;
}

static void test_health(void **state)
{
	Grpc__Health__V1__HealthCheckRequest req = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	struct seen seen = {0};
	struct gstream_handlers handlers = {on_health, on_close, &seen};
	struct gclient_call *call;
	char unknown[] = "nobody";

	call = gclient_server_stream(s.channel, "/grpc.health.v1.Health/Watch", &req.base,
				     &grpc__health__v1__health_check_response__descriptor, 0,
				     &handlers);
	stack_until(&seen.messages, 1);
	assert_int_equal(seen.serving,
			 GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING);
	gclient_cancel(call);
	stack_until(&seen.ended, 1);
	req.service = unknown;
	assert_int_equal(stack_call("/grpc.health.v1.Health/Check", &req,
				    &grpc__health__v1__health_check_response__descriptor),
			 G_NOT_FOUND);
}

/* ---- the master ---- */

static uint32_t workers(int32_t *pids, uint32_t max)
{
	struct reg_participant p;
	uint32_t cursor = 0, n = 0;

	while (reg_participant_next(s.me, &cursor, &p)) {
		if (p.kind != REG_KIND_WORKER || !p.alive)
			continue;
		assert_true(n < max);
		pids[n++] = p.pid;
	}
	return n;
}

static void test_connections_go_round(void **state)
{
	struct gchannel *channels[9], *first = s.channel;
	uint64_t before[256] = {0}, after[256] = {0};
	struct reg_participant p;
	uint32_t cursor = 0;
	char name[32];

	while (reg_participant_next(s.me, &cursor, &p))
		before[p.idx] = p.reserved;
	for (int i = 0; i < 9; i++) {
		s.channel = channels[i] = stack_channel();
		snprintf(name, sizeof(name), "round-%d", i);
		make(name);
	}
	cursor = 0;
	while (reg_participant_next(s.me, &cursor, &p)) {
		after[p.idx] = p.reserved;
		if (p.kind == REG_KIND_WORKER && p.alive)
			assert_int_equal(after[p.idx] - before[p.idx], 3);
	}
	for (int i = 0; i < 9; i++) {
		snprintf(name, sizeof(name), "round-%d", i);
		assert_int_equal(delete (name, true), G_OK);
		if (channels[i] != s.channel)
			gchannel_free(channels[i]);
	}
	gchannel_free(s.channel);
	s.channel = first;
}

static void test_dead_worker_is_replaced(void **state)
{
	uint64_t until = clock_mono_ns() + 10 * NS_PER_S;
	struct reg_reap_result reaped;
	int32_t pids[16], again[16];
	uint32_t n = workers(pids, 16);

	assert_int_equal(n, 3);
	assert_int_equal(kill(pids[1], SIGKILL), 0);
	do {
		stack_serve(20);
		n = workers(again, 16);
	} while (clock_mono_ns() < until &&
		 (n < 3 || again[0] == pids[1] || again[1] == pids[1] || again[2] == pids[1]));
	assert_int_equal(n, 3);
	assert_int_equal(reg_reap(s.me, NULL, NULL, &reaped), REG_OK);
	for (int i = 0; i < 6; i++) {
		struct gchannel *old = s.channel;

		s.channel = stack_channel();
		make("after");
		assert_int_equal(delete ("after", true), G_OK);
		gchannel_free(old);
	}
}

static void test_one_worker_drains_unnoticed(void **state)
{
	struct gchannel *first = s.channel;
	int32_t pids[16], again[16];
	uint32_t n = workers(pids, 16);
	uint64_t until = clock_mono_ns() + 10 * NS_PER_S;
	bool replaced = false;

	assert_int_equal(n, 3);
	s.channel = stack_channel();
	make("warm-up");
	assert_int_equal(kill(pids[2], SIGTERM), 0);
	while (!replaced && clock_mono_ns() < until) {
		gchannel_free(s.channel);
		s.channel = stack_channel();
		make("meanwhile");
		assert_int_equal(delete ("meanwhile", true), G_OK);
		n = workers(again, 16);
		replaced = n == 3;
		for (uint32_t i = 0; i < n; i++)
			replaced = replaced && again[i] != pids[2];
	}
	assert_true(replaced);
	assert_int_equal(delete ("warm-up", true), G_OK);
	gchannel_free(s.channel);
	s.channel = first;
}

static void test_drain_ends_waits(void **state)
{
	struct gchannel *other = stack_channel();
	struct seen seen;

	make("held");
	start_wait(&seen, other, "held", "", 0);
	stack_serve(50);
	assert_int_equal(kill(s.pid, SIGTERM), 0);
	stack_until(&seen.ended, 1);
	assert_int_equal(seen.status, G_UNAVAILABLE);
	gchannel_free(other);
}

static int up(void **state)
{
	static const char *const args[] = {"--workers", "3", NULL};

	stack_up(16, args);
	return 0;
}

static int down(void **state)
{
	stack_down();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wait),
		cmocka_unit_test(test_wait_ends_with_a_delete_or_a_cancel),
		cmocka_unit_test(test_update),
		cmocka_unit_test(test_labels_are_merged_and_select),
		cmocka_unit_test(test_logs),
		cmocka_unit_test(test_admin),
		cmocka_unit_test(test_health),
		cmocka_unit_test(test_connections_go_round),
		cmocka_unit_test(test_dead_worker_is_replaced),
		cmocka_unit_test(test_one_worker_drains_unnoticed),
		cmocka_unit_test(test_drain_ends_waits),
	};

	return cmocka_run_group_tests(tests, up, down);
}
