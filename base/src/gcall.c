/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of one server call: armed → request → handler → replies → status → back to the pool. A
 * call that its handler finishes at once costs one batch; only one that is kept gets a batch of its
 * own that tells of cancellation.
 */
#include <errno.h>
#include <grpc/support/alloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gserver_int.h"

static void call_request_fn(struct gtag *tag, bool ok);
static void call_sent_fn(struct gtag *tag, bool ok);
static void call_received_fn(struct gtag *tag, bool ok);
static void call_closed_fn(struct gtag *tag, bool ok);

struct gcall *gcall__new(struct gserver *server)
{
	struct gcall *call = malloc(sizeof(*call));

	if (call)
		call->server = server;
	return call;
}

void gcall__free(struct gcall *call)
{
	free(call);
}

void gcall__arm(struct gcall *call, struct gmethod_slot *slot)
{
	grpc_completion_queue *cq = gloop__cq(gserver__loop(call->server));
	grpc_server *core = gserver__core(call->server);
	grpc_call_error r;

	memset(call, 0, offsetof(struct gcall, message));
	call->message[0] = '\0';
	call->self = call;
	call->server = slot->server;
	call->slot = slot;
	call->on_request.fn = call_request_fn;
	call->on_sent.fn = call_sent_fn;
	call->on_received.fn = call_received_fn;
	call->on_closed.fn = call_closed_fn;
	grpc_metadata_array_init(&call->metadata);
	if (slot->def) {
		bool payload = slot->def->kind != GMETHOD_BIDI;

		r = grpc_server_request_registered_call(
			core, slot->handle, &call->call, &call->deadline, &call->metadata,
			payload ? &call->payload : NULL, cq, cq, &call->on_request);
	} else {
		grpc_call_details_init(&call->details);
		r = grpc_server_request_call(core, &call->call, &call->details, &call->metadata, cq,
					     cq, &call->on_request);
	}
	base_bug(r != GRPC_CALL_OK);
}

static void call_clear(struct gcall *call)
{
	if (call->payload)
		grpc_byte_buffer_destroy(call->payload);
	grpc_metadata_array_destroy(&call->metadata);
	if (!call->slot->def)
		grpc_call_details_destroy(&call->details);
	gout__sent(&call->out);
	gout__clear(&call->out);
	gpr_free(call->peer);
	gpr_free(call->path);
	if (call->call)
		grpc_call_unref(call->call);
}

static void call_end(struct gcall *call)
{
	const struct gserver_options *opts = gserver__options(call->server);

	if (opts->on_finished)
		opts->on_finished(opts->ctx, gcall_path(call), call->status,
				  clock_mono_ns() - call->started_ns);
	call_clear(call);
	gserver__call_ended(call, true);
}

static void call_unref(struct gcall *call)
{
	if (--call->refs == 0 && call->finished)
		call_end(call);
}

static void call_batch(struct gcall *call, const grpc_op *ops, size_t count, struct gtag *tag)
{
	call->refs++;
	base_bug(grpc_call_start_batch(call->call, ops, count, tag, NULL) != GRPC_CALL_OK);
}

static void call_add_close(struct gcall *call, grpc_op *op)
{
	op->op = GRPC_OP_RECV_CLOSE_ON_SERVER;
	op->data.recv_close_on_server.cancelled = &call->core_cancelled;
	call->close_armed = true;
}

/* ---- sending ---- */

static bool call_dead(const struct gcall *call)
{
	return call->cancelled || call->broken;
}

static void call_add_status(struct gcall *call, grpc_op *op, grpc_slice *details)
{
	op->op = GRPC_OP_SEND_STATUS_FROM_SERVER;
	op->data.send_status_from_server.status = (grpc_status_code)call->status;
	if (call->message[0]) {
		*details = grpc_slice_from_copied_string(call->message);
		op->data.send_status_from_server.status_details = details;
	}
	call->status_sent = true;
}

/* Sends what may be sent now: one batch is in flight at a time, with at most one message in it. */
static void call_pump(struct gcall *call, bool want_status)
{
	grpc_op ops[4];
	grpc_slice details = grpc_empty_slice();
	size_t n = 0;

	if (call->sending || call->status_sent || call_dead(call))
		return;
	if (!call->out.head && !want_status)
		return;
	memset(ops, 0, sizeof(ops));
	if (!call->metadata_sent) {
		ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
		call->metadata_sent = true;
	}
	if (call->out.head)
		gout__start(&call->out, &ops[n++]);
	if (want_status && !call->out.head) {
		call_add_status(call, &ops[n++], &details);
		if (!call->close_armed)
			call_add_close(call, &ops[n++]);
	}
	call->sending = true;
	call_batch(call, ops, n, &call->on_sent);
	grpc_slice_unref(details);
}

static bool call_want_status(const struct gcall *call)
{
	return call->finished || call->refused;
}

/* The call is over before its owner has finished it. */
static void call_tell_owner(struct gcall *call)
{
	gout__clear(&call->out);
	if (!call->delivered || call->finished || call->told || !call->on_cancel)
		return;
	call->told = true;
	call->on_cancel(call);
}

static void call_sent_fn(struct gtag *tag, bool ok)
{
	struct gcall *call = gcontainer_of(tag, struct gcall, on_sent);
	bool had_message = call->out.in_flight != NULL;

	call->sending = false;
	gout__sent(&call->out);
	if (!ok) {
		call->broken = true; /* the close event that tells of it is on its way */
		gout__clear(&call->out);
	}
	call_pump(call, call_want_status(call));
	if (had_message && !call->out.bytes && !call_dead(call) && !call->finished &&
	    call->on_drained)
		call->on_drained(call);
	call_unref(call);
}

static void call_closed_fn(struct gtag *tag, bool ok)
{
	struct gcall *call = gcontainer_of(tag, struct gcall, on_closed);

	(void)ok;
	if (call->core_cancelled) {
		call->cancelled = true;
		call_tell_owner(call);
	}
	call_unref(call);
}

/* ---- receiving ---- */

static void call_fail_malformed(struct gcall *call, const struct err *err)
{
	call->refused = true;
	call->status = G_INVALID_ARGUMENT;
	(void)snprintf(call->message, sizeof(call->message), "the request is not a valid %s: %s",
		       call->slot->def->request->name, err->msg);
	call_pump(call, true);
}

/* Decodes the payload and gives it to fn; a malformed one ends the call. */
static bool call_deliver(struct gcall *call,
			 void (*fn)(struct gcall *call, const ProtobufCMessage *msg))
{
	struct pb_arena *arena = NULL;
	ProtobufCMessage *msg = NULL;
	struct err err = ERR_INIT;
	int r = gwire__decode(call->slot->def->request, call->payload,
			      &gserver__options(call->server)->pb, &arena, &msg, &err);

	if (r < 0) {
		call_fail_malformed(call, &err);
		return false;
	}
	call->delivered = true;
	fn(call, msg);
	(void)pb_free(arena);
	return true;
}

static void call_read(struct gcall *call)
{
	grpc_op op;

	memset(&op, 0, sizeof(op));
	op.op = GRPC_OP_RECV_MESSAGE;
	op.data.recv_message.recv_message = &call->payload;
	call_batch(call, &op, 1, &call->on_received);
}

static void call_received_fn(struct gtag *tag, bool ok)
{
	struct gcall *call = gcontainer_of(tag, struct gcall, on_received);
	const struct gmethod *def = call->slot->def;

	if (call->finished || call->refused || call_dead(call) || !ok) {
		call_unref(call);
		return;
	}
	if (!call->payload) {
		/* No message either because the client has half-closed or because the stream broke;
		 * the close event tells of the latter. */
		if (!grpc_call_failed_before_recv_message(call->call) && def->on_half_close)
			def->on_half_close(call);
	} else if (call_deliver(call, def->on_message)) {
		grpc_byte_buffer_destroy(call->payload);
		call->payload = NULL;
		if (!call->finished && !call_dead(call))
			call_read(call);
	} else {
		call_tell_owner(call);
	}
	call_unref(call);
}

static uint64_t call_deadline_ns(gpr_timespec deadline)
{
	gpr_timespec mono = gpr_convert_clock_type(deadline, GPR_CLOCK_MONOTONIC);

	if (gpr_time_cmp(mono, gpr_inf_future(GPR_CLOCK_MONOTONIC)) == 0)
		return UINT64_MAX;
	if (mono.tv_sec < 0)
		return 0;
	return (uint64_t)mono.tv_sec * NS_PER_S + (uint64_t)mono.tv_nsec;
}

static void call_answer_unknown(struct gcall *call)
{
	call->path = grpc_slice_to_c_string(call->details.method);
	gcall_fail(call, G_UNIMPLEMENTED, "unknown method %.256s", call->path);
}

static void call_start(struct gcall *call)
{
	const struct gmethod *def = call->slot->def;

	if (!def) {
		call_answer_unknown(call);
	} else if (def->kind == GMETHOD_BIDI) {
		call->delivered = true;
		def->handler(call, NULL);
		if (!call->finished)
			call_read(call);
	} else if (!call_deliver(call, def->handler)) {
		call->finished = true; /* there is no owner */
	}
	if (!call->close_armed) {
		grpc_op op;

		memset(&op, 0, sizeof(op));
		call_add_close(call, &op);
		call_batch(call, &op, 1, &call->on_closed);
	}
}

static void call_request_fn(struct gtag *tag, bool ok)
{
	struct gcall *call = gcontainer_of(tag, struct gcall, on_request);

	gserver__call_left(call->slot, ok);
	if (!ok) { /* the server is being shut down */
		call_clear(call);
		gserver__call_ended(call, false);
		return;
	}
	call->refs = 1;
	call->started_ns = clock_mono_ns();
	call->deadline_ns =
		call_deadline_ns(call->slot->def ? call->deadline : call->details.deadline);
	call_start(call);
	call_unref(call);
}

/* ---- the owner's calls ---- */

struct gserver *gcall_server(const struct gcall *call)
{
	return call->server;
}

const char *gcall_path(const struct gcall *call)
{
	return call->slot->def ? call->slot->def->path : call->path;
}

const char *gcall_peer(const struct gcall *call)
{
	if (!call->peer)
		call->self->peer = grpc_call_get_peer(call->call);
	return call->peer;
}

uint64_t gcall_deadline_ns(const struct gcall *call)
{
	return call->deadline_ns;
}

uint64_t gcall_started_ns(const struct gcall *call)
{
	return call->started_ns;
}

void gcall_set_user(struct gcall *call, void *user, void (*on_cancel)(struct gcall *call))
{
	call->user = user;
	call->on_cancel = on_cancel;
}

void *gcall_user(const struct gcall *call)
{
	return call->user;
}

bool gcall_cancelled(const struct gcall *call)
{
	return call->cancelled || call->refused;
}

static int call_cancel_status(const struct gcall *call)
{
	return call->deadline_ns <= clock_mono_ns() ? G_DEADLINE_EXCEEDED : G_CANCELLED;
}

/* message is already set. */
static void call_finish(struct gcall *call, int status)
{
	base_bug(call->finished);
	call->refs++;
	call->finished = true;
	if (!call->refused)
		call->status = call->cancelled ? call_cancel_status(call) : status;
	call_pump(call, true);
	call_unref(call);
}

void gcall_reply(struct gcall *call, const ProtobufCMessage *msg)
{
	base_bug(call->slot->def->kind != GMETHOD_UNARY);
	if (!call_dead(call) && gout__push(&call->out, msg) < 0) {
		gcall_fail(call, G_RESOURCE_EXHAUSTED, "out of memory for the reply");
		return;
	}
	call_finish(call, G_OK);
}

static void call_set_message(struct gcall *call, const char *fmt, va_list args)
	__attribute__((format(printf, 2, 0)));

static void call_set_message(struct gcall *call, const char *fmt, va_list args)
{
	if (!call->refused)
		(void)vsnprintf(call->message, sizeof(call->message), fmt, args);
}

void gcall_fail(struct gcall *call, int status, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	call_set_message(call, fmt, args);
	va_end(args);
	call_finish(call, status == G_OK ? G_INTERNAL : status);
}

void gcall_finish(struct gcall *call, int status, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	call_set_message(call, fmt, args);
	va_end(args);
	call_finish(call, status);
}

int gcall_send(struct gcall *call, const ProtobufCMessage *msg)
{
	int r;

	base_bug(call->finished);
	if (call_dead(call) || call->refused)
		return -EPIPE;
	r = gout__push(&call->out, msg);
	if (r < 0)
		return r;
	call_pump(call, false);
	return 0;
}

size_t gcall_queued_bytes(const struct gcall *call)
{
	return call->out.bytes;
}

void gcall_set_on_drained(struct gcall *call, void (*on_drained)(struct gcall *call))
{
	call->on_drained = on_drained;
}
