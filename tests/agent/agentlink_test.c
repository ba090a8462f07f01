/* SPDX-License-Identifier: Apache-2.0 */
/* agentlink against a played agent: what is queued, sent, answered, lost and repeated (never), and
 * when a caller hears of it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agentlink/agentlink.h"
#include "base/clock.h"
#include "base/gserver.h"

/* ---- the played agent ---- */

static struct gloop *loop;
static struct gserver *server;
static char address[128];
static struct gcall *stream; /* the one link */
static int hellos, messages, commands;
static bool answer_hello, answer_commands;
static char last_instance[64];

static void on_cancel(struct gcall *call)
{
	gcall_finish(call, G_CANCELLED, "%s", "");
	if (stream == call)
		stream = NULL;
}

static void on_open(struct gcall *call, const ProtobufCMessage *msg)
{
	gcall_set_user(call, NULL, on_cancel);
	stream = call;
}

static void on_message(struct gcall *call, const ProtobufCMessage *msg)
{
	const Fsb__Agent__V1__LinkRequest *request = (const Fsb__Agent__V1__LinkRequest *)msg;
	Fsb__Agent__V1__LinkResponse response = FSB__AGENT__V1__LINK_RESPONSE__INIT;
	Fsb__Agent__V1__HelloReply hello = FSB__AGENT__V1__HELLO_REPLY__INIT;

	messages++;
	if (request->hello) {
		hellos++;
		snprintf(last_instance, sizeof(last_instance), "%s", request->hello->instance);
	}
	if (request->hello && answer_hello) {
		response.hello = &hello;
		gcall_send(call, &response.base);
		response.hello = NULL;
	}
	for (size_t i = 0; i < request->n_commands; i++) {
		Fsb__Agent__V1__Ack ack = FSB__AGENT__V1__ACK__INIT;
		Fsb__Agent__V1__Ack *acks[] = {&ack};

		commands++;
		ack.seq = request->commands[i]->seq;
		ack.message = request->commands[i]->fence->id;
		response.acks = acks;
		response.n_acks = 1;
		if (answer_commands)
			gcall_send(call, &response.base);
	}
}

static void on_half_close(struct gcall *call)
{
	gcall_finish(call, G_OK, "%s", "");
	stream = NULL;
}

static const struct gmethod methods[] = {
	{.path = "/fsb.agent.v1.AgentService/Link",
	 .kind = GMETHOD_BIDI,
	 .request = &fsb__agent__v1__link_request__descriptor,
	 .handler = on_open,
	 .on_message = on_message,
	 .on_half_close = on_half_close},
	{0},
};

static void server_start(void)
{
	struct gserver_options opts = {.methods = methods};

	server = gserver_new(loop, &opts, NULL);
	assert_non_null(server);
	assert_int_equal(gserver_listen(server, address, 0600, NULL, NULL), 0);
	assert_int_equal(gserver_start(server, NULL), 0);
}

static void on_shut_down(void *arg)
{
	*(bool *)arg = true;
}

static void server_stop(void)
{
	bool down = false;

	if (!server)
		return;
	gserver_shutdown(server, 0, on_shut_down, &down);
	while (!down)
		gloop_poll(loop, 100);
	server = gserver_free(server);
}

/* ---- the caller ---- */

struct heard {
	int acked, not_sent, unknown;
	char last[128];
};

static void on_ack(void *arg, enum agentlink_result result, const Fsb__Agent__V1__Ack *ack,
		   const char *reason)
{
	struct heard *heard = arg;

	heard->acked += result == AGENTLINK_ACKED;
	heard->not_sent += result == AGENTLINK_NOT_SENT;
	heard->unknown += result == AGENTLINK_UNKNOWN;
	assert_int_equal(ack != NULL, result == AGENTLINK_ACKED);
	snprintf(heard->last, sizeof(heard->last), "%s", ack ? ack->message : reason);
}

static int ups, downs;

static void on_up(void *arg, const Fsb__Agent__V1__HelloReply *hello)
{
	ups++;
}

static void on_down(void *arg, const char *reason)
{
	downs++;
}

static struct agentlink *link_new(void)
{
	struct agentlink_hello hello = {.instance = "arena", .controller_epoch = 1};
	struct agentlink_handlers handlers = {.on_up = on_up, .on_down = on_down};
	struct agentlink *link = agentlink_new(loop, address, &hello, &handlers, NULL);

	assert_non_null(link);
	return link;
}

static int fence(struct agentlink *link, const char *id, uint64_t deadline_ns, struct heard *heard)
{
	Fsb__Agent__V1__Command command = FSB__AGENT__V1__COMMAND__INIT;
	Fsb__Agent__V1__Fence f = FSB__AGENT__V1__FENCE__INIT;
	char buf[128];

	snprintf(buf, sizeof(buf), "%s", id);
	f.id = buf;
	command.kind_case = FSB__AGENT__V1__COMMAND__KIND_FENCE;
	command.fence = &f;
	return agentlink_command(link, &command, deadline_ns, on_ack, heard);
}

#define until(cond)                                                                                \
	({                                                                                         \
		uint64_t until__end = clock_mono_ns() + 10 * NS_PER_S;                             \
		while (!(cond) && clock_mono_ns() < until__end)                                    \
			gloop_poll(loop, 5);                                                       \
		(cond);                                                                            \
	})

static int case_setup(void **state)
{
	snprintf(address, sizeof(address), "unix:/tmp/fsb-agentlink-%d.sock", getpid());
	hellos = messages = commands = ups = downs = 0;
	answer_hello = answer_commands = true;
	stream = NULL;
	return 0;
}

static int case_teardown(void **state)
{
	server_stop();
	unlink(address + 5);
	return 0;
}

static void test_dials_when_needed_and_coalesces(void **state)
{
	struct heard heard = {0};
	struct agentlink *link;

	server_start();
	link = link_new();
	for (int i = 0; i < 20; i++)
		gloop_poll(loop, 1);
	assert_int_equal(hellos, 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(fence(link, "x", 0, &heard), 0);
	assert_int_equal(heard.acked, 0);
	assert_true(until(heard.acked == 100));
	assert_int_equal(hellos, 1);
	assert_int_equal(messages, 2);
	assert_string_equal(last_instance, "arena");
	for (int i = 0; i < 100; i++)
		assert_int_equal(fence(link, "y", 0, &heard), 0);
	assert_true(until(heard.acked == 200));
	assert_int_equal(messages, 3);
	assert_string_equal(heard.last, "y");
	agentlink_free(link);
}

static void test_waits_for_an_agent_that_comes_late(void **state)
{
	struct heard heard = {0};
	struct agentlink *link = link_new();

	assert_int_equal(fence(link, "x", 0, &heard), 0);
	assert_true(until(downs == 1));
	server_start();
	assert_true(until(heard.acked == 1));
	assert_int_equal(downs, 1);
	assert_int_equal(ups, 1);
	agentlink_free(link);
}

static void test_not_sent_when_the_deadline_passes(void **state)
{
	struct heard heard = {0};
	struct agentlink *link = link_new();
	uint64_t t0 = clock_mono_ns();

	assert_int_equal(fence(link, "x", 200 * NS_PER_MS, &heard), 0);
	assert_int_equal(fence(link, "x", 100 * NS_PER_MS, &heard), 0);
	assert_true(until(heard.not_sent == 2));
	assert_true(clock_mono_ns() - t0 >= 200 * NS_PER_MS);
	/* Not sent means never: the agent that comes now does not get it. */
	server_start();
	assert_int_equal(fence(link, "y", 0, &heard), 0);
	assert_true(until(heard.acked == 1));
	assert_int_equal(commands, 1);
	agentlink_free(link);
}

static void test_queued_until_hello_is_answered(void **state)
{
	struct heard heard = {0};
	struct agentlink *link;

	answer_hello = false;
	server_start();
	link = link_new();
	assert_int_equal(fence(link, "x", 300 * NS_PER_MS, &heard), 0);
	assert_true(until(heard.not_sent == 1));
	assert_int_equal(hellos, 1);
	assert_int_equal(commands, 0);
	agentlink_free(link);
}

static void test_unknown_when_sent_and_not_answered(void **state)
{
	struct heard heard = {0};
	struct agentlink *link;

	answer_commands = false;
	server_start();
	link = link_new();
	assert_int_equal(fence(link, "slow", 200 * NS_PER_MS, &heard), 0);
	assert_true(until(heard.unknown == 1));
	assert_int_equal(commands, 1);
	assert_int_equal(fence(link, "lost", 0, &heard), 0);
	assert_true(until(commands == 2));
	gcall_finish(stream, G_UNAVAILABLE, "%s", "going away");
	stream = NULL;
	assert_true(until(heard.unknown == 2));
	assert_non_null(strstr(heard.last, "going away"));
	assert_true(until(downs == 1));
	/* Never sent twice; the next command makes a new connection. */
	answer_commands = true;
	assert_int_equal(fence(link, "next", 0, &heard), 0);
	assert_true(until(heard.acked == 1));
	assert_int_equal(commands, 3);
	assert_int_equal(hellos, 2);
	agentlink_free(link);
}

static void test_reach_limit_ends_with_the_dial(void **state)
{
	struct heard heard = {0};
	struct agentlink *link = link_new();

	agentlink_set_reach_limit(link, 100 * NS_PER_MS);
	assert_int_equal(fence(link, "nobody", 0, &heard), 0);
	assert_true(until(heard.not_sent == 1));
	/* Once sent, only the command's own deadline counts; the limit leaves a busy host time to
	 * dial. */
	agentlink_set_reach_limit(link, 4000 * NS_PER_MS);
	answer_commands = false;
	server_start();
	uint64_t queued_ns = clock_mono_ns();

	assert_int_equal(fence(link, "first", 6000 * NS_PER_MS, &heard), 0);
	assert_true(until(commands == 1));
	assert_true(until(heard.unknown == 1));
	assert_true(clock_mono_ns() - queued_ns >= 5000 * NS_PER_MS);
	assert_int_equal(heard.not_sent, 1);
	agentlink_free(link);
}

static void test_keeps_up(void **state)
{
	struct agentlink *link;

	server_start();
	link = link_new();
	agentlink_keep_up(link, true);
	assert_true(until(ups == 1));
	for (int i = 2; i < 5; i++) {
		gcall_finish(stream, G_UNAVAILABLE, "%s", "again");
		stream = NULL;
		assert_true(until(ups == i));
	}
	agentlink_set_epoch(link, 2);
	assert_true(until(ups == 5));
	agentlink_free(link);
}

static void test_free_reports_what_is_open(void **state)
{
	struct heard sent = {0}, queued = {0};
	struct agentlink *link;

	answer_commands = false;
	server_start();
	link = link_new();
	assert_int_equal(fence(link, "sent", 0, &sent), 0);
	assert_true(until(commands == 1));
	assert_int_equal(fence(link, "queued", 0, &queued), 0);
	agentlink_free(link);
	assert_int_equal(sent.unknown, 1);
	assert_int_equal(queued.not_sent, 1);
	assert_null(agentlink_free(NULL));
}

static void test_limits(void **state)
{
	Fsb__Agent__V1__Command command = FSB__AGENT__V1__COMMAND__INIT;
	Fsb__Agent__V1__Start start = FSB__AGENT__V1__START__INIT;
	struct heard heard = {0};
	struct agentlink *link = link_new();

	start.spec.len = 300 << 10;
	start.spec.data = calloc(1, start.spec.len);
	command.kind_case = FSB__AGENT__V1__COMMAND__KIND_START;
	command.start = &start;
	assert_int_equal(agentlink_command(link, &command, 0, on_ack, &heard), -EMSGSIZE);
	free(start.spec.data);
	for (int i = 0; i < AGENTLINK_MAX_QUEUED; i++)
		assert_int_equal(fence(link, "x", 0, &heard), 0);
	assert_int_equal(fence(link, "x", 0, &heard), -ENOBUFS);
	server_start();
	assert_true(until(heard.acked == AGENTLINK_MAX_QUEUED));
	agentlink_free(link);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_dials_when_needed_and_coalesces, case_setup,
						case_teardown),
		cmocka_unit_test_setup_teardown(test_waits_for_an_agent_that_comes_late, case_setup,
						case_teardown),
		cmocka_unit_test_setup_teardown(test_not_sent_when_the_deadline_passes, case_setup,
						case_teardown),
		cmocka_unit_test_setup_teardown(test_queued_until_hello_is_answered, case_setup,
						case_teardown),
		cmocka_unit_test_setup_teardown(test_unknown_when_sent_and_not_answered, case_setup,
						case_teardown),
		cmocka_unit_test_setup_teardown(test_reach_limit_ends_with_the_dial, case_setup,
						case_teardown),
		cmocka_unit_test_setup_teardown(test_keeps_up, case_setup, case_teardown),
		cmocka_unit_test_setup_teardown(test_free_reports_what_is_open, case_setup,
						case_teardown),
		cmocka_unit_test_setup_teardown(test_limits, case_setup, case_teardown),
	};
	int failed;

	loop = gloop_new(NULL);
	if (!loop)
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	gloop_free(loop);
	return failed;
}
