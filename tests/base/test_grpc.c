/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of every kind between the server and the client of base, over a unix socket, served by one
 * loop on one thread. */
#include "grpc_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

/* The client's side of flow control is never served here, so most of it stays queued at the server.
 */
static void test_cancel_of_a_blocked_stream(void **state)
{
	static char text[] = "park";
	Gtest__Ping ping = GTEST__PING__INIT;
	uint8_t *body = calloc(1, 64 << 10);
	struct seen seen;
	struct gstream_handlers handlers = seen_handlers(&seen);
	struct gclient_call *call;

	(void)state;
	ping.number = 500;
	ping.text = text;
	ping.body = (ProtobufCBinaryData){.data = body, .len = 64 << 10};
	call = gclient_server_stream(t.channel, COUNT, &ping.base, &gtest__ping__descriptor, 0,
				     &handlers);
	wait_parked();
	assert_true(gcall_queued_bytes(t.parked) > 1 << 20);
	gclient_cancel(call);
	wait_for(&seen.ended, 1);
	wait_for(&t.finished, 1);
	assert_int_equal(t.cancelled, 1);
	assert_int_equal(t.last_status, G_CANCELLED);
	free(body);
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
		grpc_test(test_cancel_of_a_blocked_stream),
		grpc_test(test_a_paused_stream_is_held_back),
		grpc_test(test_a_paused_stream_can_be_cancelled),
		grpc_test(test_bidi_echo),
		grpc_test(test_bidi_server_hangs_up),
		grpc_test(test_bidi_cancel_reaches_the_server),
		grpc_test(test_bidi_malformed_message),
		cmocka_unit_test_setup_teardown(test_calls_above_the_limit_wait, setup_tight,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
