/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Channels and client calls. A unary call is one batch. A stream has up to four in flight
 * (metadata, message out, message in, status) and ends when all have come back; its end is reported
 * once, and a channel being freed reports for its calls at once.
 */
#include <errno.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/gclient.h"
#include "gint.h"

#define MAX_REPLY_BYTES (16 << 20)

/* Replies come from our own servers and may be long lists. */
static const struct pb_limits reply_limits = {
	.max_bytes = (size_t)256 << 20,
	.max_objects = 4000000,
};

struct gclient_method {
	struct gclient_method *next;
	void *handle; /* gRPC's */
	char path[];
};

struct gchannel {
	struct gloop *loop;
	grpc_channel *core;
	struct gclient_method *methods; /* as many as the program has methods */
	struct gclient_call *calls;	/* not yet reported */
	bool closing;
	char target[];
};

struct gclient_call {
	struct gchannel *channel; /* NULL once the end was reported */
	struct gclient_call *prev, *next;
	grpc_call *call;
	const ProtobufCMessageDescriptor *desc;
	uint32_t refs; /* batches in flight, and our frames that still use it */
	bool unary;
	bool status_in;	  /* the peer's status is known */
	bool sending;	  /* a send batch is in flight */
	bool closed;	  /* half-close was asked for */
	bool close_sent;  /* it is in some batch */
	bool send_failed; /* the stream is over for sending */
	bool paused;	  /* the owner takes no more messages for now */
	bool read_due;	  /* while paused: a read to start later; counted in refs */

	struct gtag on_status, on_started, on_received, on_sent;
	grpc_metadata_array initial, trailing;
	grpc_byte_buffer *request, *reply;
	grpc_status_code status;
	grpc_slice details;
	int own_status; /* not G_OK: overrides what the peer says */
	char own_message[256];
	struct gout_queue out;

	void (*on_done)(void *arg, const struct gresult *result, const ProtobufCMessage *reply);
	struct gstream_handlers handlers; /* arg is on_done's, too */
	struct pb_arena *reply_arena;	  /* during on_done */
};

/* ---- channels ---- */

static grpc_channel *channel_create_core(const char *target)
{
	static char authority_key[] = GRPC_ARG_DEFAULT_AUTHORITY, localhost[] = "localhost";
	grpc_arg args[] = {
		gint__arg(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1), /* a connection of its own */
		gint__arg(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS,
			  100), /* the least that gRPC takes */
		gint__arg(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000),
		gint__arg(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000),
		gint__arg(GRPC_ARG_ENABLE_RETRIES, 0),
		gint__arg(GRPC_ARG_ENABLE_HTTP_PROXY, 0),
		gint__arg(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1),
		gint__arg(GRPC_ARG_CLIENT_IDLE_TIMEOUT_MS, INT_MAX),
		gint__arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, MAX_REPLY_BYTES),
		gint__arg(GRPC_ARG_ENABLE_CHANNELZ, 0),
		{.type = GRPC_ARG_STRING, .key = authority_key, .value.string = localhost},
	};
	grpc_channel_args list = {.num_args = sizeof(args) / sizeof(args[0]), .args = args};
	grpc_channel_credentials *creds = grpc_insecure_credentials_create();
	grpc_channel *core;

	/* The authority is for unix sockets, whose path strict servers refuse; else it is the
	 * target. */
	if (strncmp(target, "unix:", 5) != 0)
		list.num_args--;
	core = grpc_channel_create(target, creds, &list);
	grpc_channel_credentials_release(creds);
	return core;
}

struct gchannel *gchannel_new(struct gloop *loop, const char *target, struct err *err)
{
	struct gchannel *channel;

	if (!target[0]) {
		(void)err_set(err, -EINVAL, "the target is empty; use unix:/path or host:port");
		return NULL;
	}
	channel = calloc(1, sizeof(*channel) + strlen(target) + 1);
	if (!channel) {
		(void)err_set(err, -ENOMEM, "out of memory for a channel");
		return NULL;
	}
	memcpy(channel->target, target, strlen(target) + 1);
	channel->loop = loop;
	channel->core = channel_create_core(target);
	return channel;
}

const char *gchannel_target(const struct gchannel *channel)
{
	return channel->target;
}

/* The method's registration with gRPC, made at its first use: no copy and no hashing of the path
 * afterwards. */
static void *channel_method(struct gchannel *channel, const char *path)
{
	struct gclient_method *method;

	for (method = channel->methods; method; method = method->next)
		if (strcmp(method->path, path) == 0)
			return method->handle;
	method = malloc(sizeof(*method) + strlen(path) + 1);
	if (!method)
		return NULL;
	memcpy(method->path, path, strlen(path) + 1);
	method->handle = grpc_channel_register_call(channel->core, method->path, NULL, NULL);
	method->next = channel->methods;
	channel->methods = method;
	return method->handle;
}

/* ---- a call's end ---- */

static void call_fail(struct gclient_call *call, int status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void stream_read_due(struct gclient_call *call);

/* Ends the call with a status of our own. */
static void call_fail(struct gclient_call *call, int status, const char *fmt, ...)
{
	va_list args;

	if (call->own_status != G_OK)
		return;
	va_start(args, fmt);
	(void)vsnprintf(call->own_message, sizeof(call->own_message), fmt, args);
	va_end(args);
	call->own_status = status;
	(void)grpc_call_cancel(call->call, NULL);
	stream_read_due(call);
}

static void call_unlink(struct gclient_call *call)
{
	if (call->prev)
		call->prev->next = call->next;
	else
		call->channel->calls = call->next;
	if (call->next)
		call->next->prev = call->prev;
	call->channel = NULL;
}

static void call_done(struct gclient_call *call, const struct gresult *result)
{
	struct gresult malformed = {.status = G_INTERNAL};
	ProtobufCMessage *reply = NULL;
	struct err err = ERR_INIT;
	char text[sizeof(call->own_message) + 64];

	if (result->status == G_OK && gwire__decode(call->desc, call->reply, &reply_limits,
						    &call->reply_arena, &reply, &err) < 0) {
		(void)snprintf(text, sizeof(text), "the reply is not a valid %s: %s",
			       call->desc->name, err.msg);
		malformed.message = text;
		result = &malformed;
	}
	call->on_done(call->handlers.arg, result, reply);
	(void)pb_free(call->reply_arena);
}

/* The one report of the call's end. */
static void call_report(struct gclient_call *call)
{
	struct gresult result = {.status = call->own_status, .message = call->own_message};
	char *details = NULL;

	if (!call->channel)
		return;
	call_unlink(call);
	if (call->own_status == G_OK) {
		result.status = (int)call->status;
		if (GRPC_SLICE_LENGTH(call->details))
			result.message = details = grpc_slice_to_c_string(call->details);
	}
	if (call->unary)
		call_done(call, &result);
	else
		call->handlers.on_close(call->handlers.arg, &result);
	gpr_free(details);
}

static void call_free(struct gclient_call *call)
{
	gout__sent(&call->out);
	gout__clear(&call->out);
	grpc_metadata_array_destroy(&call->initial);
	grpc_metadata_array_destroy(&call->trailing);
	if (call->request)
		grpc_byte_buffer_destroy(call->request);
	if (call->reply)
		grpc_byte_buffer_destroy(call->reply);
	grpc_slice_unref(call->details);
	grpc_call_unref(call->call);
	free(call);
}

static void call_unref(struct gclient_call *call)
{
	if (--call->refs == 0) {
		call_report(call);
		call_free(call);
	}
}

struct gchannel *gchannel_free(struct gchannel *channel)
{
	if (!channel)
		return NULL;
	channel->closing = true;
	while (channel->calls) {
		struct gclient_call *call = channel->calls;

		call_fail(call, G_CANCELLED, "the channel to '%s' was closed", channel->target);
		call_report(call); /* its last event frees it */
	}
	grpc_channel_destroy(channel->core);
	while (channel->methods) {
		struct gclient_method *method = channel->methods;

		channel->methods = method->next;
		free(method);
	}
	free(channel);
	return NULL;
}

/* ---- a call's beginning ---- */

static void call_batch(struct gclient_call *call, const grpc_op *ops, size_t count,
		       struct gtag *tag)
{
	call->refs++;
	base_bug(grpc_call_start_batch(call->call, ops, count, tag, NULL) != GRPC_CALL_OK);
}

static struct gclient_call *call_new(struct gchannel *channel, const char *path,
				     const ProtobufCMessageDescriptor *reply, uint64_t deadline_ns)
{
	void *method = channel->closing ? NULL : channel_method(channel, path);
	struct gclient_call *call = method ? calloc(1, sizeof(*call)) : NULL;
	uint64_t now_ns;

	if (!call)
		return NULL;
	now_ns = deadline_ns ? clock_mono_ns() : 0;
	if (!deadline_ns || deadline_ns > UINT64_MAX - now_ns)
		deadline_ns = UINT64_MAX - now_ns;
	call->call = grpc_channel_create_registered_call(
		channel->core, NULL, GRPC_PROPAGATE_DEFAULTS, gloop__cq(channel->loop), method,
		gloop__timespec(now_ns + deadline_ns), NULL);
	call->desc = reply;
	call->details = grpc_empty_slice();
	grpc_metadata_array_init(&call->initial);
	grpc_metadata_array_init(&call->trailing);
	call->channel = channel;
	call->next = channel->calls;
	if (call->next)
		call->next->prev = call;
	channel->calls = call;
	return call;
}

static void op_recv_initial(struct gclient_call *call, grpc_op *op)
{
	op->op = GRPC_OP_RECV_INITIAL_METADATA;
	op->data.recv_initial_metadata.recv_initial_metadata = &call->initial;
}

static void op_recv_status(struct gclient_call *call, grpc_op *op)
{
	op->op = GRPC_OP_RECV_STATUS_ON_CLIENT;
	op->data.recv_status_on_client.trailing_metadata = &call->trailing;
	op->data.recv_status_on_client.status = &call->status;
	op->data.recv_status_on_client.status_details = &call->details;
}

static void op_recv_message(struct gclient_call *call, grpc_op *op)
{
	op->op = GRPC_OP_RECV_MESSAGE;
	op->data.recv_message.recv_message = &call->reply;
}

/* The request and the half-close behind it. Returns the number of ops. */
static size_t op_send_request(struct gclient_call *call, const ProtobufCMessage *request,
			      grpc_op *ops)
{
	size_t len;

	call->request = gwire__encode(request, &len);
	ops[0].op = GRPC_OP_SEND_MESSAGE;
	ops[0].data.send_message.send_message = call->request;
	ops[1].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
	call->closed = call->close_sent = true;
	return 2;
}

static void unary_done_fn(struct gtag *tag, bool ok)
{
	(void)ok; /* always true: the status says how it went */
	call_unref(gcontainer_of(tag, struct gclient_call, on_status));
}

struct gclient_call *gclient_unary(struct gchannel *channel, const char *path,
				   const ProtobufCMessage *request,
				   const ProtobufCMessageDescriptor *reply, uint64_t deadline_ns,
				   void (*on_done)(void *arg, const struct gresult *result,
						   const ProtobufCMessage *reply),
				   void *arg)
{
	struct gclient_call *call = call_new(channel, path, reply, deadline_ns);
	grpc_op ops[6];
	size_t n = 0;

	if (!call)
		return NULL;
	call->unary = true;
	call->on_done = on_done;
	call->handlers.arg = arg;
	call->on_status.fn = unary_done_fn;
	memset(ops, 0, sizeof(ops));
	ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
	n += op_send_request(call, request, &ops[n]);
	op_recv_initial(call, &ops[n++]);
	op_recv_message(call, &ops[n++]);
	op_recv_status(call, &ops[n++]);
	call_batch(call, ops, n, &call->on_status);
	return call;
}

/* ---- streams ---- */

static void stream_status_fn(struct gtag *tag, bool ok)
{
	struct gclient_call *call = gcontainer_of(tag, struct gclient_call, on_status);

	(void)ok;
	call->status_in = true;
	gout__clear(&call->out);
	call_unref(call);
}

static void stream_started_fn(struct gtag *tag, bool ok)
{
	(void)ok; /* when the stream could not be opened its status says so */
	call_unref(gcontainer_of(tag, struct gclient_call, on_started));
}

static void stream_read(struct gclient_call *call)
{
	grpc_op op;

	memset(&op, 0, sizeof(op));
	op_recv_message(call, &op);
	call_batch(call, &op, 1, &call->on_received);
}

static void stream_deliver(struct gclient_call *call)
{
	struct pb_arena *arena = NULL;
	ProtobufCMessage *msg = NULL;
	struct err err = ERR_INIT;

	if (gwire__decode(call->desc, call->reply, &reply_limits, &arena, &msg, &err) < 0) {
		call_fail(call, G_INTERNAL, "the peer's message is not a valid %s: %s",
			  call->desc->name, err.msg);
		return;
	}
	call->handlers.on_message(call->handlers.arg, msg);
	(void)pb_free(arena);
}

/* Reads go on until there are no more messages, also after the status has come. */
static void stream_received_fn(struct gtag *tag, bool ok)
{
	struct gclient_call *call = gcontainer_of(tag, struct gclient_call, on_received);
	grpc_byte_buffer *reply = call->reply;

	if (ok && reply) {
		if (call->channel && call->own_status == G_OK)
			stream_deliver(call);
		grpc_byte_buffer_destroy(reply);
		call->reply = NULL;
		if (call->paused && call->channel && call->own_status == G_OK) {
			call->read_due = true;
			return; /* the reference stays with the read that is due */
		}
		if (call->channel) /* else nobody listens, and the queue may be shut down */
			stream_read(call);
	}
	call_unref(call);
}

/* Starts the read that a pause put off. */
static void stream_read_due(struct gclient_call *call)
{
	if (!call->read_due)
		return;
	call->read_due = false;
	stream_read(call);
	call_unref(call);
}

void gclient_pause(struct gclient_call *call, bool pause)
{
	call->paused = pause;
	if (!pause)
		stream_read_due(call);
}

/* Opens the stream: ops[0..n) go with the initial metadata. */
static void stream_start(struct gclient_call *call, grpc_op *ops, size_t n,
			 const struct gstream_handlers *handlers)
{
	grpc_op status;

	call->handlers = *handlers;
	call->on_started.fn = stream_started_fn;
	call->on_received.fn = stream_received_fn;
	call->on_status.fn = stream_status_fn;
	memset(&status, 0, sizeof(status));
	op_recv_status(call, &status);
	call_batch(call, &status, 1, &call->on_status);
	op_recv_initial(call, &ops[n++]);
	call_batch(call, ops, n, &call->on_started);
	stream_read(call);
}

struct gclient_call *gclient_server_stream(struct gchannel *channel, const char *path,
					   const ProtobufCMessage *request,
					   const ProtobufCMessageDescriptor *reply,
					   uint64_t deadline_ns,
					   const struct gstream_handlers *handlers)
{
	struct gclient_call *call = call_new(channel, path, reply, deadline_ns);
	grpc_op ops[4];
	size_t n = 0;

	if (!call)
		return NULL;
	memset(ops, 0, sizeof(ops));
	ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
	n += op_send_request(call, request, &ops[n]);
	stream_start(call, ops, n, handlers);
	return call;
}

/* Sends what may be sent now; one batch is in flight at a time. */
static void stream_pump(struct gclient_call *call)
{
	grpc_op ops[2];
	size_t n = 0;

	if (call->sending || call->close_sent || call->send_failed || call->status_in)
		return;
	if (!call->channel) /* freed: the queue may be shut down */
		return;
	memset(ops, 0, sizeof(ops));
	if (call->out.head)
		gout__start(&call->out, &ops[n++]);
	if (call->closed && !call->out.head) {
		ops[n++].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
		call->close_sent = true;
	}
	if (!n)
		return;
	call->sending = true;
	call_batch(call, ops, n, &call->on_sent);
}

static void stream_sent_fn(struct gtag *tag, bool ok)
{
	struct gclient_call *call = gcontainer_of(tag, struct gclient_call, on_sent);

	call->sending = false;
	gout__sent(&call->out);
	if (!ok) {
		call->send_failed = true; /* the status is on its way */
		gout__clear(&call->out);
	}
	stream_pump(call);
	call_unref(call);
}

struct gclient_call *gclient_bidi(struct gchannel *channel, const char *path,
				  const ProtobufCMessageDescriptor *reply, uint64_t deadline_ns,
				  const struct gstream_handlers *handlers)
{
	struct gclient_call *call = call_new(channel, path, reply, deadline_ns);
	grpc_op ops[2];

	if (!call)
		return NULL;
	memset(ops, 0, sizeof(ops));
	ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
	call->on_sent.fn = stream_sent_fn;
	stream_start(call, ops, 1, handlers);
	return call;
}

int gclient_send(struct gclient_call *call, const ProtobufCMessage *msg)
{
	int r;

	if (call->closed || call->send_failed || call->status_in || call->own_status != G_OK)
		return -EPIPE;
	r = gout__push(&call->out, msg);
	if (r < 0)
		return r;
	stream_pump(call);
	return 0;
}

void gclient_half_close(struct gclient_call *call)
{
	call->closed = true;
	stream_pump(call);
}

void gclient_cancel(struct gclient_call *call)
{
	call_fail(call, G_CANCELLED, "cancelled by the caller");
}

struct gloop *gchannel__loop(struct gchannel *channel)
{
	return channel->loop;
}

struct pb_arena *gclient__take_reply(struct gclient_call *call)
{
	return take_ptr(call->reply_arena);
}
