/* SPDX-License-Identifier: Apache-2.0 */
/* See grpc_fixture.h. */
#include "grpc_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fixture t;

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
		reply.body = ping->body;
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

struct gserver *server_new(uint32_t max_calls)
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

void server_start(uint32_t max_calls)
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

int setup(void **state)
{
	(void)state;
	return setup_with(0);
}

int setup_tight(void **state)
{
	(void)state;
	return setup_with(5);
}

int teardown(void **state)
{
	(void)state;
	t.channel = gchannel_free(t.channel);
	t.server = gserver_free(t.server);
	t.loop = gloop_free(t.loop);
	(void)unlink(t.path);
	(void)rmdir(t.dir);
	return 0;
}

void wait_for(const int *what, int want)
{
	uint64_t until_ns = clock_mono_ns() + WAIT_S * NS_PER_S;

	while (*what < want && clock_mono_ns() < until_ns)
		(void)gloop_poll(t.loop, 100);
	assert_true(*what >= want);
}

int unary(struct gchannel *channel, const char *path, const char *text, uint64_t deadline_ns,
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

void seen_message_fn(void *arg, const ProtobufCMessage *msg)
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

void seen_done_fn(void *arg, const struct gresult *result, const ProtobufCMessage *reply)
{
	assert_int_equal(reply != NULL, result->status == G_OK);
	seen_close_fn(arg, result);
}

struct gstream_handlers seen_handlers(struct seen *seen)
{
	*seen = (struct seen){.in_order = true, .status = -1};
	return (struct gstream_handlers){
		.on_message = seen_message_fn, .on_close = seen_close_fn, .arg = seen};
}

struct gclient_call *start_unary(struct seen *seen, const char *kind)
{
	Gtest__Ping ping = GTEST__PING__INIT;
	char text[16];

	(void)seen_handlers(seen);
	(void)snprintf(text, sizeof(text), "%s", kind);
	ping.text = text;
	return gclient_unary(t.channel, UNARY, &ping.base, &gtest__ping__descriptor, 0,
			     seen_done_fn, seen);
}

void wait_parked(void)
{
	uint64_t until_ns = clock_mono_ns() + WAIT_S * NS_PER_S;

	while (!t.parked && clock_mono_ns() < until_ns)
		(void)gloop_poll(t.loop, 100);
	assert_non_null(t.parked);
}

static void stopped_fn(void *arg)
{
	*(bool *)arg = true;
}

void server_stop(uint64_t grace_ns)
{
	uint64_t until_ns = clock_mono_ns() + WAIT_S * NS_PER_S;

	t.stopped = false;
	gserver_shutdown(t.server, grace_ns, stopped_fn, &t.stopped);
	while (!t.stopped && clock_mono_ns() < until_ns)
		(void)gloop_poll(t.loop, 100);
	assert_true(t.stopped);
	t.server = gserver_free(t.server);
}
