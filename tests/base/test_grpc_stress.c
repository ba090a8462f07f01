/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of all kinds begun, cancelled and timed out at random, with channels and servers replaced
 * under them: each ends once. */
#include "grpc_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIVE 64

struct live {
	struct seen seen;
	struct gclient_call *call; /* NULL: the slot is free */
	bool bidi;
};

static struct live lives[LIVE];
static int begun, ended;

static unsigned int dice(unsigned int sides)
{
	return (unsigned int)rand() % sides;
}

static void live_close_fn(void *arg, const struct gresult *result)
{
	struct live *live = arg;

	assert_non_null(live->call);
	assert_in_range(result->status, G_OK, G_UNAUTHENTICATED);
	if (result->status == G_OK && !live->bidi)
		assert_true(live->seen.in_order);
	live->call = NULL;
	ended++;
}

static void live_done_fn(void *arg, const struct gresult *result, const ProtobufCMessage *reply)
{
	assert_int_equal(reply != NULL, result->status == G_OK);
	live_close_fn(arg, result);
}

static void live_message_fn(void *arg, const ProtobufCMessage *msg)
{
	struct live *live = arg;

	seen_message_fn(&live->seen, msg);
	if (dice(200) == 0)
		gclient_cancel(live->call);
}

static void begin(struct live *live)
{
	static char hello[] = "hello", fail[] = "fail", park[] = "park";
	char *const texts[] = {hello, fail, park};
	struct gstream_handlers handlers = {
		.on_message = live_message_fn, .on_close = live_close_fn, .arg = live};
	Gtest__Ping ping = GTEST__PING__INIT;
	uint64_t deadline_ns = dice(2) ? 0 : dice(20) * NS_PER_MS + 1;

	*live = (struct live){.seen.in_order = true};
	ping.text = texts[dice(3)];
	ping.number = (int)dice(100);
	switch (dice(3)) {
	case 0:
		live->call = gclient_unary(t.channel, UNARY, &ping.base, &gtest__ping__descriptor,
					   deadline_ns, live_done_fn, live);
		break;
	case 1:
		live->call =
			gclient_server_stream(t.channel, COUNT, &ping.base,
					      &gtest__ping__descriptor, deadline_ns, &handlers);
		break;
	default:
		live->bidi = true;
		live->call = gclient_bidi(t.channel, CHAT, &gtest__ping__descriptor, deadline_ns,
					  &handlers);
	}
	assert_non_null(live->call);
	begun++;
}

static void act(struct live *live)
{
	static char hang_up[] = "hang up";
	Gtest__Ping ping = GTEST__PING__INIT;

	switch (dice(4)) {
	case 0:
		gclient_cancel(live->call);
		break;
	case 1:
		if (live->bidi)
			gclient_half_close(live->call);
		break;
	default:
		if (dice(10) == 0)
			ping.text = hang_up;
		for (int i = 0; live->bidi && i < 10; i++)
			(void)gclient_send(live->call, &ping.base);
	}
}

static void replace_something(void)
{
	if (dice(2)) {
		t.channel = gchannel_free(t.channel);
		for (int i = 0; i < LIVE; i++)
			assert_null(lives[i].call);
		t.channel = gchannel_new(t.loop, t.target, NULL);
		assert_non_null(t.channel);
	} else {
		server_stop(dice(2) * 10 * NS_PER_MS);
		server_start(dice(2) ? 0 : 5);
	}
}

static void test_every_call_ends_once(void **state)
{
	const char *text = getenv("FSB_STRESS");
	int rounds = text ? atoi(text) : 20000;

	(void)state;
	srand(1);
	for (int i = 0; i < rounds; i++) {
		struct live *live = &lives[dice(LIVE)];

		if (!live->call)
			begin(live);
		else
			act(live);
		for (unsigned int polls = dice(8); polls > 0; polls--)
			(void)gloop_poll(t.loop, 0);
		if (dice(500) == 0)
			replace_something();
	}
	t.channel = gchannel_free(t.channel);
	assert_int_equal(begun, ended);
	server_stop(0); /* ends only when the server's calls have all ended, too */
	print_message("%d calls, %d cancelled at the server\n", begun, t.cancelled);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		grpc_test(test_every_call_ends_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
