/* SPDX-License-Identifier: Apache-2.0 */
/* What happens around a create that is under way: cancel, delete, repeat, drain, deaths, a new
 * arena, an agent that is not there. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "stack.h"

struct seen {
	int ended, status;
	char id[64], message[300];
};

static void on_created(void *arg, const struct gresult *result, const ProtobufCMessage *reply)
{
	struct seen *seen = arg;

	seen->ended = 1;
	seen->status = result->status;
	snprintf(seen->message, sizeof(seen->message), "%s", result->message);
	if (reply)
		snprintf(seen->id, sizeof(seen->id), "%s", ((const Fsb__V1__Sandbox *)reply)->id);
}

static struct gclient_call *start(struct seen *seen, struct gchannel *channel, const char *name,
				  const char *request_id)
{
	Fsb__V1__CreateSandboxRequest req = FSB__V1__CREATE_SANDBOX_REQUEST__INIT;
	Fsb__V1__SandboxOptions options = FSB__V1__SANDBOX_OPTIONS__INIT;
	Fsb__V1__SandboxSpec spec = FSB__V1__SANDBOX_SPEC__INIT;
	char text[64], rid[64], image[] = "busybox";

	memset(seen, 0, sizeof(*seen));
	snprintf(text, sizeof(text), "%s", name);
	snprintf(rid, sizeof(rid), "%s", request_id);
	req.name = text;
	req.spec = &spec;
	req.options = &options;
	options.request_id = rid;
	spec.image = image;
	return gclient_unary(channel, "/fsb.v1.SandboxService/CreateSandbox", &req.base,
			     &fsb__v1__sandbox__descriptor, 20 * NS_PER_S, on_created, seen);
}

static enum reg_state state_of(const char *name)
{
	struct reg_sandbox_view view;

	return reg_get(s.me, "default", name, &view) == REG_OK ? view.state : REG_FREE;
}

static void until_state(const char *name, enum reg_state want)
{
	uint64_t until = clock_mono_ns() + 10 * NS_PER_S;

	while (state_of(name) != want && clock_mono_ns() < until)
		stack_serve(5);
	assert_int_equal(state_of(name), want);
}

static int delete (const char *name)
{
	Fsb__V1__DeleteSandboxRequest req = FSB__V1__DELETE_SANDBOX_REQUEST__INIT;
	char text[64];

	snprintf(text, sizeof(text), "%s", name);
	req.name = text;
	return CALL_FSB("Delete", &req, delete_sandbox_response);
}

static void test_cancelled_create_is_kept(void **state)
{
	struct gclient_call *call;
	struct seen seen;

	s.mode = START_LATE;
	call = start(&seen, s.channel, "kept", "");
	stack_until(&s.starts, 1);
	gclient_cancel(call);
	stack_until(&seen.ended, 1);
	stack_serve(50);
	assert_int_equal(state_of("kept"), REG_STARTING);
	stack_release();
	until_state("kept", REG_RUNNING);
	s.mode = START_ACK;
	assert_int_equal(delete ("kept"), G_OK);
	until_state("kept", REG_FREE);
}

static void test_delete_during_create(void **state)
{
	struct seen seen;

	s.mode = START_LATE;
	s.starts = s.stops = 0;
	start(&seen, s.channel, "short", "");
	stack_until(&s.starts, 1);
	assert_int_equal(delete ("short"), G_OK);
	stack_release();
	stack_until(&seen.ended, 1);
	assert_int_equal(seen.status, G_ABORTED);
	stack_until(&s.stops, 1);
	until_state("short", REG_FREE);
}

static void test_repeat_in_flight_waits(void **state)
{
	struct gchannel *other = stack_channel();
	struct seen first, second;

	s.mode = START_LATE;
	s.starts = 0;
	start(&first, s.channel, "", "same");
	stack_until(&s.starts, 1);
	start(&second, other, "", "same");
	stack_serve(100);
	assert_int_equal(first.ended + second.ended, 0);
	stack_release();
	stack_until(&first.ended, 1);
	stack_until(&second.ended, 1);
	assert_int_equal(first.status, G_OK);
	assert_int_equal(second.status, G_OK);
	assert_string_equal(first.id, second.id);
	assert_int_equal(s.starts, 1);
	gchannel_free(other);
}

static void test_exactly_the_free_slots(void **state)
{
	enum { CHANNELS = 4, CALLS = 40 };
	struct gchannel *channels[CHANNELS];
	struct seen seen[CALLS];
	int good = 0, full = 0;
	char name[32];

	/* One is taken by the test before: 31 of 32 are free. */
	s.mode = START_ACK;
	for (int i = 0; i < CHANNELS; i++)
		channels[i] = stack_channel();
	for (int i = 0; i < CALLS; i++) {
		snprintf(name, sizeof(name), "slot-%d", i);
		start(&seen[i], channels[i % CHANNELS], name, "");
	}
	for (int i = 0; i < CALLS; i++) {
		stack_until(&seen[i].ended, 1);
		good += seen[i].status == G_OK;
		full += seen[i].status == G_RESOURCE_EXHAUSTED;
	}
	assert_int_equal(good, 31);
	assert_int_equal(full, CALLS - 31);
	for (int i = 0; i < CALLS; i++) {
		snprintf(name, sizeof(name), "slot-%d", i);
		(void)delete (name);
	}
	for (int i = 0; i < CHANNELS; i++)
		gchannel_free(channels[i]);
}

static void keep_orphan(void *arg, const struct reg_orphan *orphan)
{
	*(struct reg_lease *)arg = orphan->lease;
}

static void test_worker_dies_during_create(void **state)
{
	struct gchannel *other = stack_channel();
	struct reg_reap_result reaped;
	struct reg_sandbox_view view;
	struct reg_participant p;
	struct reg_lease lease = {0};
	struct seen seen;
	uint32_t cursor = 0;

	s.mode = START_LATE;
	s.starts = 0;
	start(&seen, other, "orphan", "");
	stack_until(&s.starts, 1);
	assert_int_equal(reg_get(s.me, "default", "orphan", &view), REG_OK);
	while (reg_participant_next(s.me, &cursor, &p)) {
		if (p.idx == view.owner)
			assert_int_equal(kill(p.pid, SIGKILL), 0);
	}
	stack_until(&seen.ended, 1);
	assert_int_equal(seen.status, G_UNAVAILABLE);
	/* its connection may fall before its locks do */
	for (uint64_t until = clock_mono_ns() + 10 * NS_PER_S;;) {
		assert_int_equal(reg_reap(s.me, keep_orphan, &lease, &reaped), REG_OK);
		if (reaped.orphans || clock_mono_ns() > until)
			break;
		stack_serve(10);
	}
	assert_int_equal(reaped.orphans, 1);
	assert_int_equal(reg_abort(s.me, &lease), REG_OK);
	s.mode = START_ACK;
	s.n_late = 0;
	start(&seen, other, "orphan", "");
	stack_until(&seen.ended, 1);
	assert_int_equal(seen.status, G_OK);
	assert_int_equal(delete ("orphan"), G_OK);
	until_state("orphan", REG_FREE);
	gchannel_free(other);
}

static void test_agent_comes_back_elsewhere(void **state)
{
	struct reg_agent_info agent = {
		.ns = "default",
		.name = "agent-0",
		.pool = "default-pool",
		.node = "node",
		.address = "unix:/nowhere/agent.sock",
		.host_ip = "127.0.0.1",
		.capacity = 32,
	};
	struct seen seen;

	assert_int_equal(reg_agent_join(s.me, &agent, &s.agent_id), REG_OK);
	assert_int_equal(reg_agent_set_ready(s.me, s.agent_id, true), REG_OK);
	start(&seen, s.channel, "moved", "");
	stack_until(&seen.ended, 1);
	assert_int_equal(seen.status, G_UNAVAILABLE);
	assert_non_null(strstr(seen.message, "agent 'agent-0' can't be reached"));
	assert_int_equal(state_of("moved"), REG_FREE);
	agent.address = s.agent_address;
	assert_int_equal(reg_agent_join(s.me, &agent, &s.agent_id), REG_OK);
	assert_int_equal(reg_agent_set_ready(s.me, s.agent_id, true), REG_OK);
	start(&seen, s.channel, "moved", "");
	stack_until(&seen.ended, 1);
	assert_int_equal(seen.status, G_OK);
	assert_int_equal(delete ("moved"), G_OK);
	until_state("moved", REG_FREE);
}

static void test_drain_finishes_creates(void **state)
{
	struct seen seen;

	s.mode = START_LATE;
	s.starts = 0;
	start(&seen, s.channel, "last", "");
	stack_until(&s.starts, 1);
	assert_int_equal(kill(s.pid, SIGTERM), 0);
	stack_serve(200);
	assert_int_equal(seen.ended, 0);
	stack_release();
	stack_until(&seen.ended, 1);
	assert_int_equal(seen.status, G_OK);
}

/* ---- each with a stack of its own ---- */

static int serving(void)
{
	Grpc__Health__V1__HealthCheckRequest req = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;

	assert_int_equal(stack_call("/grpc.health.v1.Health/Check", &req,
				    &grpc__health__v1__health_check_response__descriptor),
			 G_OK);
	return (int)((const Grpc__Health__V1__HealthCheckResponse *)s.reply)->status;
}

static void test_store_not_loaded(void **state)
{
	struct seen seen;

	stack_up_unloaded();
	assert_int_equal(serving(),
			 GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING);
	start(&seen, s.channel, "early", "");
	stack_until(&seen.ended, 1);
	assert_int_equal(seen.status, G_UNAVAILABLE);
	assert_non_null(strstr(seen.message, "the store is still being loaded"));
	reg_store_loaded_set(s.reg);
	assert_int_equal(serving(),
			 GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING);
	stack_down();
}

static uint32_t live_workers(void)
{
	struct reg_participant p;
	uint32_t cursor = 0, n = 0;

	while (reg_participant_next(s.me, &cursor, &p))
		n += p.kind == REG_KIND_WORKER && p.alive;
	return n;
}

static void test_new_arena_is_attached(void **state)
{
	const struct reg_limits limits = {.agents = 16, .sandboxes = 64};
	uint64_t until = clock_mono_ns() + 20 * NS_PER_S;

	stack_up(8, NULL);
	assert_int_equal(live_workers(), 2);
	stack_arena_leave();
	assert_int_equal(unlink(s.arena), 0);
	assert_int_equal(reg_create(s.arena, &limits, &s.reg), REG_OK);
	assert_int_equal(reg_join(s.reg, REG_KIND_REGISTRYD, &s.me), REG_OK);
	assert_int_equal(reg_join(s.reg, REG_KIND_CRDSYNC, &s.store), REG_OK);
	while (live_workers() < 2 && clock_mono_ns() < until)
		stack_serve(20);
	assert_int_equal(live_workers(), 2);
	stack_down();
}

static void test_workers_end_with_their_master(void **state)
{
	uint64_t until = clock_mono_ns() + 10 * NS_PER_S;
	static const char *const args[] = {"--workers", "1", NULL};

	stack_up(8, args);
	assert_int_equal(live_workers(), 1);
	assert_int_equal(kill(s.pid, SIGKILL), 0);
	assert_int_equal(waitpid(s.pid, NULL, 0), s.pid);
	while (live_workers() && clock_mono_ns() < until)
		stack_serve(20);
	assert_int_equal(live_workers(), 0);
	stack_restart(args);
	stack_down();
}

static int up(void **state)
{
	stack_up(32, NULL);
	return 0;
}

static int down(void **state)
{
	stack_down();
	return 0;
}

int main(void)
{
	const struct CMUnitTest shared[] = {
		cmocka_unit_test(test_cancelled_create_is_kept),
		cmocka_unit_test(test_delete_during_create),
		cmocka_unit_test(test_repeat_in_flight_waits),
		cmocka_unit_test(test_exactly_the_free_slots),
		cmocka_unit_test(test_worker_dies_during_create),
		cmocka_unit_test(test_agent_comes_back_elsewhere),
		cmocka_unit_test(test_drain_finishes_creates),
	};
	const struct CMUnitTest own[] = {
		cmocka_unit_test(test_store_not_loaded),
		cmocka_unit_test(test_new_arena_is_attached),
		cmocka_unit_test(test_workers_end_with_their_master),
	};
	int failed = cmocka_run_group_tests(shared, up, down);

	return failed + cmocka_run_group_tests(own, NULL, NULL);
}
