/* SPDX-License-Identifier: Apache-2.0 */
/* Server and client of base against each other over a unix socket; both are served by one loop on
 * one thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/gclient.h"
#include "base/gloop.h"
#include "base/gserver.h"
#include "gtest.pb-c.h"

#define UNARY  "/gtest.Echo/Unary"
#define COUNT  "/gtest.Echo/Count"
#define CHAT   "/gtest.Echo/Chat"
#define WAIT_S 20

static struct {
	char dir[64], path[96], target[112];
	struct gloop *loop;
	struct gserver *server;
	struct gchannel *channel;
	struct gcall *parked;
	int requests, cancelled, drained, finished, last_status;
	bool stopped;
} t;

/* ---- the server under test ---- */

static void cancel_fn(struct gcall *call)
{
	assert_true(gcall_cancelled(call));
	t.cancelled++;
	if (call == t.parked)
		t.parked = NULL;
	gcall_fail(call, G_CANCELLED, "%s", "");
}

static void unary_fn(struct gcall *call, const ProtobufCMessage *msg)
{
	const Gtest__Ping *ping = (const Gtest__Ping *)msg;

	t.requests++;
	if (strcmp(ping->text, "fail") == 0) {
		gcall_fail(call, G_NOT_FOUND, "no sandbox '%s' here", "x");
	} else if (strcmp(ping->text, "park") == 0) {
		t.parked = call;
		gcall_set_user(call, &t, cancel_fn);
	} else {
		gcall_reply(call, msg);
	}
}

static void count_drained_fn(struct gcall *call)
{
	assert_int_equal(gcall_queued_bytes(call), 0);
	t.drained++;
}

static void count_fn(struct gcall *call, const ProtobufCMessage *msg)
{
	const Gtest__Ping *ping = (const Gtest__Ping *)msg;
	Gtest__Ping reply = GTEST__PING__INIT;

	gcall_set_on_drained(call, count_drained_fn);
	for (int i = 0; i < ping->number; i++) {
		reply.number = i;
		reply.text = ping->text;
		assert_int_equal(gcall_send(call, &reply.base), 0);
	}
	if (strcmp(ping->text, "park") == 0) {
		t.parked = call;
		gcall_set_user(call, &t, cancel_fn);
	} else {
		gcall_finish(call, ping->number == 7 ? G_ABORTED : G_OK,
			     ping->number == 7 ? "%s" : "%.0s", "seven");
	}
}

static void chat_open_fn(struct gcall *call, const ProtobufCMessage *msg)
{
	assert_null(msg);
	gcall_set_user(call, &t, cancel_fn);
}

static void chat_message_fn(struct gcall *call, const ProtobufCMessage *msg)
{
	const Gtest__Ping *ping = (const Gtest__Ping *)msg;

	if (strcmp(ping->text, "hang up") == 0)
		gcall_finish(call, G_UNAVAILABLE, "hung up");
	else
		assert_int_equal(gcall_send(call, msg), 0);
}

static void chat_half_close_fn(struct gcall *call)
{
	gcall_finish(call, G_OK, "%s", "");
}

static const struct gmethod methods[] = {
	{.path = UNARY,
	 .kind = GMETHOD_UNARY,
	 .request = &gtest__ping__descriptor,
	 .handler = unary_fn},
	{.path = COUNT,
	 .kind = GMETHOD_SERVER_STREAM,
	 .request = &gtest__ping__descriptor,
	 .handler = count_fn},
	{.path = CHAT,
	 .kind = GMETHOD_BIDI,
	 .request = &gtest__ping__descriptor,
	 .handler = chat_open_fn,
	 .on_message = chat_message_fn,
	 .on_half_close = chat_half_close_fn},
	{.path = NULL},
};

static void finished_fn(void *ctx, const char *path, int status, uint64_t ns)
{
	assert_ptr_equal(ctx, &t);
	assert_int_equal(path[0], '/');
	assert_true(ns < WAIT_S * NS_PER_S);
	t.finished++;
	t.last_status = status;
}

static struct gserver *server_new(uint32_t max_calls)
{
	struct gserver_options opts = {
		.methods = methods,
		.ctx = &t,
		.max_calls = max_calls,
		.max_message_bytes = 1 << 20,
		.on_finished = finished_fn,
	};
	struct gserver *server = gserver_new(t.loop, &opts, NULL);

	assert_non_null(server);
	return server;
}

static void server_start(uint32_t max_calls)
{
	struct err err = ERR_INIT;

	t.server = server_new(max_calls);
	if (gserver_listen(t.server, t.target, 0660, NULL, &err) < 0)
		fail_msg("listen: %s", err.msg);
	assert_int_equal(gserver_start(t.server, NULL), 0);
}

static int setup_with(uint32_t max_calls)
{
	memset(&t, 0, sizeof(t));
	(void)snprintf(t.dir, sizeof(t.dir), "%s", "/tmp/fsb-test-grpc.XXXXXX");
	if (!mkdtemp(t.dir))
		return -1;
	(void)snprintf(t.path, sizeof(t.path), "%s/s.sock", t.dir);
	(void)snprintf(t.target, sizeof(t.target), "unix:%s", t.path);
	t.loop = gloop_new(NULL);
	server_start(max_calls);
	t.channel = gchannel_new(t.loop, t.target, NULL);
	assert_non_null(t.channel);
	return 0;
}

static int setup(void **state)
{
	(void)state;
	return setup_with(0);
}

static int setup_tight(void **state)
{
	(void)state;
	return setup_with(5);
}

static int teardown(void **state)
{
	(void)state;
	t.channel = gchannel_free(t.channel);
	t.server = gserver_free(t.server);
	t.loop = gloop_free(t.loop);
	(void)unlink(t.path);
	(void)rmdir(t.dir);
	return 0;
}

/* Serves events until *what is at least want. */
static void wait_for(const int *what, int want)
{
	uint64_t until_ns = clock_mono_ns() + WAIT_S * NS_PER_S;

	while (*what < want && clock_mono_ns() < until_ns)
		(void)gloop_poll(t.loop, 100);
	assert_true(*what >= want);
}

static int unary(struct gchannel *channel, const char *path, const char *text, uint64_t deadline_ns,
		 struct err *err)
{
	Gtest__Ping ping = GTEST__PING__INIT;
	union {
		const char *in;
		char *out;
	} in = {.in = text};
	struct pb_arena *arena = NULL;
	ProtobufCMessage *reply = NULL;
	int status = -1;

	ping.text = in.out;
	ping.number = 42;
	if (gclient_unary_wait(channel, path, &ping.base, &gtest__ping__descriptor, deadline_ns,
			       &status, &arena, &reply, err) == 0) {
		assert_string_equal(((Gtest__Ping *)reply)->text, text);
		assert_int_equal(((Gtest__Ping *)reply)->number, 42);
	}
	(void)pb_free(arena);
	return status;
}

/* ---- what a client sees ---- */

struct seen {
	int messages, ended, status;
	char text[256];
	bool in_order;
};

static void seen_message_fn(void *arg, const ProtobufCMessage *msg)
{
	struct seen *seen = arg;

	seen->in_order = seen->in_order && ((const Gtest__Ping *)msg)->number == seen->messages;
	seen->messages++;
}

static void seen_close_fn(void *arg, const struct gresult *result)
{
	struct seen *seen = arg;

	seen->ended++;
	seen->status = result->status;
	(void)snprintf(seen->text, sizeof(seen->text), "%s", result->message);
}

static void seen_done_fn(void *arg, const struct gresult *result, const ProtobufCMessage *reply)
{
	assert_int_equal(reply != NULL, result->status == G_OK);
	seen_close_fn(arg, result);
}

static struct gstream_handlers seen_handlers(struct seen *seen)
{
	*seen = (struct seen){.in_order = true, .status = -1};
	return (struct gstream_handlers){
		.on_message = seen_message_fn, .on_close = seen_close_fn, .arg = seen};
}

static struct gclient_call *start_unary(struct seen *seen, const char *kind)
{
	Gtest__Ping ping = GTEST__PING__INIT;
	char text[16];

	(void)seen_handlers(seen);
	(void)snprintf(text, sizeof(text), "%s", kind);
	ping.text = text;
	return gclient_unary(t.channel, UNARY, &ping.base, &gtest__ping__descriptor, 0,
			     seen_done_fn, seen);
}

static void wait_parked(void)
{
	uint64_t until_ns = clock_mono_ns() + WAIT_S * NS_PER_S;

	while (!t.parked && clock_mono_ns() < until_ns)
		(void)gloop_poll(t.loop, 100);
	assert_non_null(t.parked);
}

/* ---- unary ---- */

static void test_unary_ok(void **state)
{
	(void)state;
	for (int i = 0; i < 200; i++)
		assert_int_equal(unary(t.channel, UNARY, "hello", 0, NULL), G_OK);
	wait_for(&t.finished, 200);
	assert_int_equal(t.last_status, G_OK);
}

static void test_unary_fail_carries_status_and_text(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(unary(t.channel, UNARY, "fail", 0, &err), G_NOT_FOUND);
	assert_string_equal(err.msg, "NOT_FOUND: no sandbox 'x' here");
	assert_int_equal(err.code, -EIO);
}

static void test_unknown_method(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	for (int i = 0; i < 50; i++) /* more than are armed at a time */
		assert_int_equal(unary(t.channel, "/gtest.Echo/Nope", "", 0, &err),
				 G_UNIMPLEMENTED);
	assert_string_equal(err.msg, "UNIMPLEMENTED: unknown method /gtest.Echo/Nope");
}

static void test_malformed_request(void **state)
{
	Gtest__RawPing raw = GTEST__RAW_PING__INIT;
	uint8_t bytes[] = {'a', 0xff, 'b'};
	struct pb_arena *arena = NULL;
	ProtobufCMessage *reply = NULL;
	struct err err = ERR_INIT;
	int status = -1;

	(void)state;
	raw.text = (ProtobufCBinaryData){.data = bytes, .len = sizeof(bytes)};
	assert_int_equal(gclient_unary_wait(t.channel, UNARY, &raw.base, &gtest__ping__descriptor,
					    0, &status, &arena, &reply, &err),
			 -EIO);
	assert_int_equal(status, G_INVALID_ARGUMENT);
	assert_non_null(strstr(err.msg, "gtest.Ping"));
	assert_null(arena);
	wait_for(&t.finished, 1);
	assert_int_equal(t.last_status, G_INVALID_ARGUMENT);
}

static void test_message_over_the_limit(void **state)
{
	Gtest__Ping ping = GTEST__PING__INIT;
	size_t len = 2 << 20; /* the server takes 1 MiB */
	uint8_t *body = calloc(1, len);
	struct pb_arena *arena = NULL;
	ProtobufCMessage *reply = NULL;
	int status = -1;

	(void)state;
	ping.body = (ProtobufCBinaryData){.data = body, .len = len};
	assert_int_equal(gclient_unary_wait(t.channel, UNARY, &ping.base, &gtest__ping__descriptor,
					    0, &status, &arena, &reply, NULL),
			 -EIO);
	assert_int_equal(status, G_RESOURCE_EXHAUSTED);
	ping.body.len = 900 << 10; /* arrives in many pieces */
	assert_int_equal(gclient_unary_wait(t.channel, UNARY, &ping.base, &gtest__ping__descriptor,
					    0, &status, &arena, &reply, NULL),
			 0);
	assert_int_equal(((Gtest__Ping *)reply)->body.len, 900 << 10);
	(void)pb_free(arena);
	free(body);
}

static void test_many_calls_in_flight(void **state)
{
	enum { CALLS = 300 };
	static struct seen seen[CALLS];

	(void)state;
	for (int i = 0; i < CALLS; i++)
		assert_non_null(start_unary(&seen[i], "hello"));
	for (int i = 0; i < CALLS; i++)
		wait_for(&seen[i].ended, 1);
	for (int i = 0; i < CALLS; i++)
		assert_int_equal(seen[i].status, G_OK);
}

/* ---- cancellation, deadlines ---- */

static void test_server_sees_a_cancelled_call(void **state)
{
	struct seen seen;
	struct gclient_call *call = start_unary(&seen, "park");

	(void)state;
	wait_parked();
	assert_int_equal(gcall_deadline_ns(t.parked), UINT64_MAX);
	gclient_cancel(call);
	wait_for(&t.cancelled, 1);
	wait_for(&seen.ended, 1);
	assert_int_equal(seen.status, G_CANCELLED);
	wait_for(&t.finished, 1);
	assert_int_equal(t.last_status, G_CANCELLED);
}

static void test_deadline_ends_both_sides(void **state)
{
	uint64_t begin_ns = clock_mono_ns();
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(unary(t.channel, UNARY, "park", 100 * NS_PER_MS, &err),
			 G_DEADLINE_EXCEEDED);
	assert_in_range(clock_mono_ns() - begin_ns, 99 * NS_PER_MS, 5 * NS_PER_S);
	wait_for(&t.cancelled, 1);
	wait_for(&t.finished, 1);
}

static void test_a_parked_call_can_be_answered_later(void **state)
{
	Gtest__Ping ping = GTEST__PING__INIT;
	struct seen seen;

	(void)state;
	assert_non_null(start_unary(&seen, "park"));
	wait_parked();
	assert_ptr_equal(gcall_user(t.parked), &t);
	assert_ptr_equal(gcall_server(t.parked), t.server);
	assert_string_equal(gcall_path(t.parked), UNARY);
	assert_non_null(gcall_peer(t.parked));
	assert_false(gcall_cancelled(t.parked));
	gcall_reply(t.parked, &ping.base);
	wait_for(&seen.ended, 1);
	assert_int_equal(seen.status, G_OK);
	assert_int_equal(t.cancelled, 0);
}

static void test_server_sees_a_client_that_is_gone(void **state)
{
	struct seen seen;

	(void)state;
	assert_non_null(start_unary(&seen, "park"));
	wait_parked();
	t.channel = gchannel_free(t.channel);
	assert_int_equal(seen.ended, 1); /* reported before gchannel_free returned */
	assert_int_equal(seen.status, G_CANCELLED);
	wait_for(&t.cancelled, 1);
	assert_int_equal(seen.ended, 1);
}

/* ---- streams ---- */

static void test_server_stream_keeps_order(void **state)
{
	Gtest__Ping ping = GTEST__PING__INIT;
	struct seen seen;
	int status = -1;

	(void)state;
	(void)seen_handlers(&seen);
	ping.number = 1000;
	assert_int_equal(gclient_stream_wait(t.channel, COUNT, &ping.base, &gtest__ping__descriptor,
					     0, seen_message_fn, &seen, &status, NULL),
			 0);
	assert_int_equal(status, G_OK);
	assert_int_equal(seen.messages, 1000);
	assert_true(seen.in_order);
}

static void test_server_stream_status_comes_after_messages(void **state)
{
	Gtest__Ping ping = GTEST__PING__INIT;
	struct err err = ERR_INIT;
	struct seen seen;
	int status = -1;

	(void)state;
	(void)seen_handlers(&seen);
	ping.number = 7;
	assert_int_equal(gclient_stream_wait(t.channel, COUNT, &ping.base, &gtest__ping__descriptor,
					     0, seen_message_fn, &seen, &status, &err),
			 -EIO);
	assert_int_equal(status, G_ABORTED);
	assert_string_equal(err.msg, "ABORTED: seven");
	assert_int_equal(seen.messages, 7);
}

static void test_drained_is_told(void **state)
{
	Gtest__Ping ping = GTEST__PING__INIT;
	char text[] = "park";
	struct seen seen;
	struct gstream_handlers handlers = seen_handlers(&seen);

	(void)state;
	ping.number = 100;
	ping.text = text;
	assert_non_null(gclient_server_stream(t.channel, COUNT, &ping.base,
					      &gtest__ping__descriptor, 0, &handlers));
	wait_for(&t.drained, 1);
	wait_for(&seen.messages, 100);
	assert_int_equal(t.drained, 1);
	gcall_finish(t.parked, G_OK, "%s", "");
	wait_for(&seen.ended, 1);
	assert_int_equal(seen.status, G_OK);
}

static void test_a_paused_stream_is_held_back(void **state)
{
	Gtest__Ping ping = GTEST__PING__INIT;
	char text[] = "pause";
	struct seen seen;
	struct gstream_handlers handlers = seen_handlers(&seen);
	struct gclient_call *call;

	(void)state;
	ping.number = 100;
	ping.text = text;
	call = gclient_server_stream(t.channel, COUNT, &ping.base, &gtest__ping__descriptor, 0,
				     &handlers);
	assert_non_null(call);
	gclient_pause(call, true);
	wait_for(&seen.messages, 1); /* the read that was under way */
	for (int i = 0; i < 20; i++)
		(void)gloop_poll(t.loop, 5);
	assert_int_equal(seen.messages, 1);
	assert_int_equal(seen.ended, 0);
	gclient_pause(call, false);
	wait_for(&seen.ended, 1);
	assert_int_equal(seen.messages, 100);
	assert_true(seen.in_order);
	assert_int_equal(seen.status, G_OK);
}

static void test_a_paused_stream_can_be_cancelled(void **state)
{
	Gtest__Ping ping = GTEST__PING__INIT;
	char text[] = "pause";
	struct seen seen;
	struct gstream_handlers handlers = seen_handlers(&seen);
	struct gclient_call *call;

	(void)state;
	ping.number = 100;
	ping.text = text;
	call = gclient_server_stream(t.channel, COUNT, &ping.base, &gtest__ping__descriptor, 0,
				     &handlers);
	assert_non_null(call);
	gclient_pause(call, true);
	wait_for(&seen.messages, 1);
	gclient_cancel(call);
	wait_for(&seen.ended, 1);
	assert_int_equal(seen.status, G_CANCELLED);
	assert_int_equal(seen.messages, 1);
}

static void test_bidi_echo(void **state)
{
	Gtest__Ping ping = GTEST__PING__INIT;
	struct seen seen;
	struct gstream_handlers handlers = seen_handlers(&seen);
	struct gclient_call *call =
		gclient_bidi(t.channel, CHAT, &gtest__ping__descriptor, 0, &handlers);

	(void)state;
	assert_non_null(call);
	for (int i = 0; i < 1000; i++) {
		ping.number = i;
		assert_int_equal(gclient_send(call, &ping.base), 0);
	}
	wait_for(&seen.messages, 1000);
	assert_int_equal(seen.ended, 0);
	gclient_half_close(call);
	assert_int_equal(gclient_send(call, &ping.base), -EPIPE);
	wait_for(&seen.ended, 1);
	assert_true(seen.in_order);
	assert_int_equal(seen.messages, 1000);
	assert_int_equal(seen.status, G_OK);
	assert_int_equal(t.cancelled, 0);
}

static void test_bidi_server_hangs_up(void **state)
{
	Gtest__Ping ping = GTEST__PING__INIT;
	char text[] = "hang up";
	struct seen seen;
	struct gstream_handlers handlers = seen_handlers(&seen);
	struct gclient_call *call =
		gclient_bidi(t.channel, CHAT, &gtest__ping__descriptor, 0, &handlers);

	(void)state;
	ping.text = text;
	assert_int_equal(gclient_send(call, &ping.base), 0);
	assert_int_equal(gclient_send(call, &ping.base), 0); /* comes too late: dropped */
	wait_for(&seen.ended, 1);
	assert_int_equal(seen.status, G_UNAVAILABLE);
	assert_string_equal(seen.text, "hung up");
	wait_for(&t.finished, 1);
}

static void test_bidi_cancel_reaches_the_server(void **state)
{
	Gtest__Ping ping = GTEST__PING__INIT;
	struct seen seen;
	struct gstream_handlers handlers = seen_handlers(&seen);
	struct gclient_call *call =
		gclient_bidi(t.channel, CHAT, &gtest__ping__descriptor, 0, &handlers);

	(void)state;
	assert_int_equal(gclient_send(call, &ping.base), 0);
	wait_for(&seen.messages, 1);
	gclient_cancel(call);
	assert_int_equal(gclient_send(call, &ping.base), -EPIPE);
	wait_for(&seen.ended, 1);
	wait_for(&t.cancelled, 1);
	wait_for(&t.finished, 1);
	assert_int_equal(seen.status, G_CANCELLED);
	assert_int_equal(seen.ended, 1);
}

static void test_bidi_malformed_message(void **state)
{
	Gtest__RawPing raw = GTEST__RAW_PING__INIT;
	uint8_t bytes[] = {0xff};
	struct seen seen;
	struct gstream_handlers handlers = seen_handlers(&seen);
	struct gclient_call *call =
		gclient_bidi(t.channel, CHAT, &gtest__ping__descriptor, 0, &handlers);

	(void)state;
	raw.text = (ProtobufCBinaryData){.data = bytes, .len = sizeof(bytes)};
	assert_int_equal(gclient_send(call, &raw.base), 0);
	wait_for(&seen.ended, 1);
	assert_int_equal(seen.status, G_INVALID_ARGUMENT);
	assert_non_null(strstr(seen.text, "gtest.Ping"));
	wait_for(&t.finished, 1);
	assert_int_equal(t.cancelled, 1); /* the owner was told */
	assert_int_equal(t.last_status, G_INVALID_ARGUMENT);
}

/* ---- connections ---- */

static void test_dead_target_fails_at_once(void **state)
{
	struct gchannel *channel = gchannel_new(t.loop, "unix:/nonexistent/fsb.sock", NULL);
	struct err err = ERR_INIT;
	uint64_t begin_ns = clock_mono_ns();

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(unary(channel, UNARY, "hello", 10 * NS_PER_S, &err),
				 G_UNAVAILABLE);
	assert_true(clock_mono_ns() - begin_ns < 2 * NS_PER_S);
	(void)gchannel_free(channel);
}

static void stopped_fn(void *arg)
{
	*(bool *)arg = true;
}

static void server_stop(uint64_t grace_ns)
{
	uint64_t until_ns = clock_mono_ns() + WAIT_S * NS_PER_S;

	t.stopped = false;
	gserver_shutdown(t.server, grace_ns, stopped_fn, &t.stopped);
	while (!t.stopped && clock_mono_ns() < until_ns)
		(void)gloop_poll(t.loop, 100);
	assert_true(t.stopped);
	t.server = gserver_free(t.server);
}

static void test_reconnects_after_a_restart(void **state)
{
	uint64_t begin_ns;

	(void)state;
	assert_int_equal(unary(t.channel, UNARY, "one", 0, NULL), G_OK);
	server_stop(NS_PER_S);
	assert_int_equal(unary(t.channel, UNARY, "two", 0, NULL), G_UNAVAILABLE);
	server_start(0);
	begin_ns = clock_mono_ns();
	while (unary(t.channel, UNARY, "three", 0, NULL) != G_OK) {
		assert_true(clock_mono_ns() - begin_ns < 5 * NS_PER_S);
		(void)gloop_poll(t.loop, 10);
	}
	print_message("reconnected after %u ms\n",
		      (unsigned int)((clock_mono_ns() - begin_ns) / NS_PER_MS));
}

static void test_shutdown_waits_then_cancels(void **state)
{
	uint64_t begin_ns;
	struct seen seen;

	(void)state;
	assert_non_null(start_unary(&seen, "park"));
	wait_parked();
	begin_ns = clock_mono_ns();
	server_stop(200 * NS_PER_MS);
	assert_in_range(clock_mono_ns() - begin_ns, 195 * NS_PER_MS, 5 * NS_PER_S);
	assert_int_equal(t.cancelled, 1);
	wait_for(&seen.ended, 1);
	assert_int_not_equal(seen.status, G_OK);
}

static void test_shutdown_of_an_idle_server_is_quick(void **state)
{
	uint64_t begin_ns = clock_mono_ns();

	(void)state;
	assert_int_equal(unary(t.channel, UNARY, "one", 0, NULL), G_OK);
	server_stop(10 * NS_PER_S);
	assert_true(clock_mono_ns() - begin_ns < 2 * NS_PER_S);
}

static void test_accepted_fd_is_served(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct gchannel *channel;
	char target[128];
	struct seen seen = {.status = -1};
	Gtest__Ping ping = GTEST__PING__INIT;
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/a.sock", t.dir);
	(void)snprintf(target, sizeof(target), "unix:%s", addr.sun_path);
	assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(listener, 8), 0);
	channel = gchannel_new(t.loop, target, NULL);
	assert_non_null(gclient_unary(channel, UNARY, &ping.base, &gtest__ping__descriptor, 0,
				      seen_done_fn, &seen));
	(void)gloop_poll(t.loop, 10); /* the client connects */
	assert_int_equal(gserver_add_fd(t.server, accept(listener, NULL, NULL), NULL), 0);
	wait_for(&seen.ended, 1);
	assert_int_equal(seen.status, G_OK);
	(void)gchannel_free(channel);
	(void)close(listener);
	(void)unlink(addr.sun_path);
}

static void test_listening_on_unix_sockets(void **state)
{
	struct gserver *other = server_new(0);
	struct err err = ERR_INIT;
	char plain[80], target[96];
	struct stat st;
	FILE *file;

	(void)state;
	assert_int_equal(stat(t.path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	assert_int_equal(gserver_listen(other, t.target, 0660, NULL, &err), -EADDRINUSE);
	assert_non_null(strstr(err.msg, t.path));
	(void)snprintf(plain, sizeof(plain), "%s/plain", t.dir);
	(void)snprintf(target, sizeof(target), "unix:%s", plain);
	file = fopen(plain, "w");
	(void)fclose(file);
	assert_int_equal(gserver_listen(other, target, 0660, NULL, &err), -EEXIST);
	(void)unlink(plain);
	assert_true(gserver_listen(other, "unix:/nonexistent/x", 0660, NULL, &err) < 0);
	print_message("%s\n", err.msg);
	(void)gserver_free(other);
	assert_int_equal(unary(t.channel, UNARY, "still there", 0, NULL), G_OK);
}

static void test_stale_socket_is_replaced(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	server_stop(0);
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", t.path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	(void)close(fd); /* the file stays */
	server_start(0);
}

static void test_tcp_port(void **state)
{
	struct gserver *server = server_new(0), *other = server_new(0);
	struct gchannel *channel;
	struct err err = ERR_INIT;
	char target[32];
	int port = 0;

	(void)state;
	assert_int_equal(gserver_listen(server, "127.0.0.1:0", 0, &port, NULL), 0);
	assert_true(port > 0);
	assert_int_equal(gserver_start(server, NULL), 0);
	(void)snprintf(target, sizeof(target), "127.0.0.1:%d", port);
	channel = gchannel_new(t.loop, target, NULL);
	assert_string_equal(gchannel_target(channel), target);
	assert_int_equal(unary(channel, UNARY, "tcp", 0, NULL), G_OK);
	assert_true(gserver_listen(other, target, 0, NULL, &err) < 0);
	print_message("%s\n", err.msg);
	(void)gchannel_free(channel);
	(void)gserver_free(server);
	(void)gserver_free(other);
}

/* Five calls at most: what is above waits, and is served when one ends. */
static void test_calls_above_the_limit_wait(void **state)
{
	enum { CALLS = 40 };
	static struct seen seen[CALLS];

	(void)state;
	for (int i = 0; i < CALLS; i++)
		assert_non_null(start_unary(&seen[i], i % 4 ? "hello" : "fail"));
	for (int i = 0; i < CALLS; i++)
		wait_for(&seen[i].ended, 1);
	for (int i = 0; i < CALLS; i++)
		assert_int_equal(seen[i].status, i % 4 ? G_OK : G_NOT_FOUND);
}

#define grpc_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		grpc_test(test_unary_ok),
		grpc_test(test_unary_fail_carries_status_and_text),
		grpc_test(test_unknown_method),
		grpc_test(test_malformed_request),
		grpc_test(test_message_over_the_limit),
		grpc_test(test_many_calls_in_flight),
		grpc_test(test_server_sees_a_cancelled_call),
		grpc_test(test_deadline_ends_both_sides),
		grpc_test(test_a_parked_call_can_be_answered_later),
		grpc_test(test_server_sees_a_client_that_is_gone),
		grpc_test(test_server_stream_keeps_order),
		grpc_test(test_server_stream_status_comes_after_messages),
		grpc_test(test_drained_is_told),
		grpc_test(test_a_paused_stream_is_held_back),
		grpc_test(test_a_paused_stream_can_be_cancelled),
		grpc_test(test_bidi_echo),
		grpc_test(test_bidi_server_hangs_up),
		grpc_test(test_bidi_cancel_reaches_the_server),
		grpc_test(test_bidi_malformed_message),
		grpc_test(test_dead_target_fails_at_once),
		grpc_test(test_reconnects_after_a_restart),
		grpc_test(test_shutdown_waits_then_cancels),
		grpc_test(test_shutdown_of_an_idle_server_is_quick),
		grpc_test(test_accepted_fd_is_served),
		grpc_test(test_listening_on_unix_sockets),
		grpc_test(test_stale_socket_is_replaced),
		grpc_test(test_tcp_port),
		cmocka_unit_test_setup_teardown(test_calls_above_the_limit_wait, setup_tight,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
