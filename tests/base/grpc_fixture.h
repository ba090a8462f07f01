/* SPDX-License-Identifier: Apache-2.0 */
/* A server with one method of each kind, a client of it, and a loop that serves both: for the tests
 * of the gRPC helpers. */
#ifndef TESTS_BASE_GRPC_FIXTURE_H
#define TESTS_BASE_GRPC_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/gclient.h"
#include "base/gloop.h"
#include "base/gserver.h"
#include "gtest.pb-c.h"

/* Echoes; text "fail" fails with NOT_FOUND, "park" keeps the call in t.parked. */
#define UNARY "/gtest.Echo/Unary"
/* Sends .number messages, numbered; "park" keeps the call then, 7 ends with ABORTED. */
#define COUNT "/gtest.Echo/Count"
/* Echoes; "hang up" ends with UNAVAILABLE. */
#define CHAT   "/gtest.Echo/Chat"
#define WAIT_S 20

struct fixture {
	char dir[64], path[96], target[112];
	struct gloop *loop;
	struct gserver *server;
	struct gchannel *channel;
	struct gcall *parked;
	int requests;		   /* of UNARY */
	int cancelled, drained;	   /* calls of on_cancel, on_drained */
	int finished, last_status; /* calls of on_finished */
	bool stopped;
};
extern struct fixture t;

/* What a client has seen of one call. */
struct seen {
	int messages, ended, status;
	char text[256];
	bool in_order;
};

int setup(void **state);
int setup_tight(void **state); /* at most five calls */
int teardown(void **state);
#define grpc_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

struct gserver *server_new(uint32_t max_calls);
void server_start(uint32_t max_calls);
void server_stop(uint64_t grace_ns);

/* Serves events until *what is at least want. */
void wait_for(const int *what, int want);
void wait_parked(void);

/* A blocking call; checks the echo and returns the status. */
int unary(struct gchannel *channel, const char *path, const char *text, uint64_t deadline_ns,
	  struct err *err);
struct gclient_call *start_unary(struct seen *seen, const char *text);
/* Clears seen and returns handlers that fill it. */
struct gstream_handlers seen_handlers(struct seen *seen);
void seen_message_fn(void *arg, const ProtobufCMessage *msg);
void seen_done_fn(void *arg, const struct gresult *result, const ProtobufCMessage *reply);

#endif
