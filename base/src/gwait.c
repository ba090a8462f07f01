/* SPDX-License-Identifier: Apache-2.0 */
/* The client calls that block: they serve the loop until their call has ended. */
#include <errno.h>

#include "base/gclient.h"
#include "gint.h"

struct gwait {
	struct gclient_call *call;
	bool ended;
	int status;
	struct pb_arena *arena;
	const ProtobufCMessage *reply;
	struct err *err;
	void (*on_message)(void *arg, const ProtobufCMessage *msg);
	void *arg;
};

static void wait_set_result(struct gwait *wait, const struct gresult *result)
{
	wait->ended = true;
	wait->status = result->status;
	if (result->status != G_OK)
		(void)err_set(wait->err, -EIO, "%s: %s", gstatus_name(result->status),
			      result->message);
}

static void wait_done_fn(void *arg, const struct gresult *result, const ProtobufCMessage *reply)
{
	struct gwait *wait = arg;

	wait_set_result(wait, result);
	wait->arena = gclient__take_reply(wait->call); /* the reply outlives the call */
	wait->reply = reply;
}

static int wait_for_end(struct gwait *wait, struct gloop *loop, int *ret_status)
{
	if (!wait->call) {
		wait->status = G_RESOURCE_EXHAUSTED;
		(void)err_set(wait->err, -EIO, "%s: out of memory for a call",
			      gstatus_name(wait->status));
	}
	while (wait->call && !wait->ended)
		(void)gloop_poll(loop, -1);
	if (ret_status)
		*ret_status = wait->status;
	return wait->status == G_OK ? 0 : -EIO;
}

int gclient_unary_wait(struct gchannel *channel, const char *path, const ProtobufCMessage *request,
		       const ProtobufCMessageDescriptor *reply, uint64_t deadline_ns,
		       int *ret_status, struct pb_arena **ret_arena, ProtobufCMessage **ret_reply,
		       struct err *err)
{
	struct gwait wait = {.err = err};
	union {
		const ProtobufCMessage *in;
		ProtobufCMessage *out; /* the caller owns it from here on */
	} msg;
	int r;

	wait.call = gclient_unary(channel, path, request, reply, deadline_ns, wait_done_fn, &wait);
	r = wait_for_end(&wait, gchannel__loop(channel), ret_status);
	if (r < 0)
		return r;
	msg.in = wait.reply;
	*ret_arena = wait.arena;
	*ret_reply = msg.out;
	return 0;
}

static void wait_message_fn(void *arg, const ProtobufCMessage *msg)
{
	struct gwait *wait = arg;

	wait->on_message(wait->arg, msg);
}

static void wait_close_fn(void *arg, const struct gresult *result)
{
	wait_set_result(arg, result);
}

int gclient_stream_wait(struct gchannel *channel, const char *path, const ProtobufCMessage *request,
			const ProtobufCMessageDescriptor *reply, uint64_t deadline_ns,
			void (*on_message)(void *arg, const ProtobufCMessage *msg), void *arg,
			int *ret_status, struct err *err)
{
	struct gwait wait = {.err = err, .on_message = on_message, .arg = arg};
	struct gstream_handlers handlers = {
		.on_message = wait_message_fn,
		.on_close = wait_close_fn,
		.arg = &wait,
	};

	wait.call = gclient_server_stream(channel, path, request, reply, deadline_ns, &handlers);
	return wait_for_end(&wait, gchannel__loop(channel), ret_status);
}
