/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A gRPC client over C-core for protobuf-c messages: unary calls, server streams, bidirectional
 * streams, and blocking forms for command-line programs. Callbacks run on the loop's thread; each
 * call ends with exactly one on_done/on_close.
 */
#ifndef BASE_GCLIENT_H
#define BASE_GCLIENT_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/gloop.h"
#include "base/pb.h"

struct gchannel;
struct gclient_call;

/*
 * target: "unix:/path" or "host:port". One connection, made lazily and re-made after failure (after
 * 100 ms at first, then at most 1 s apart; a call while there is none fails at once with
 * UNAVAILABLE). gives. Two channels to one target have two connections.
 */
struct gchannel *gchannel_new(struct gloop *loop, const char *target, struct err *err);
/* Calls still open on it are cancelled and report before this returns: no callback comes later.
 * Returns NULL. */
struct gchannel *gchannel_free(struct gchannel *channel);
const char *gchannel_target(const struct gchannel *channel);

struct gresult {
	int status;	     /* enum gstatus */
	const char *message; /* never NULL; borrowed */
};

/*
 * Unary: on_done gets the reply (borrowed; NULL unless status is OK). deadline_ns is a duration
 * from now, 0: none. Returns NULL only when out of memory; the handle is valid until on_done
 * returns and is for gclient_cancel only.
 */
struct gclient_call *gclient_unary(struct gchannel *channel, const char *path,
				   const ProtobufCMessage *request,
				   const ProtobufCMessageDescriptor *reply, uint64_t deadline_ns,
				   void (*on_done)(void *arg, const struct gresult *result,
						   const ProtobufCMessage *reply),
				   void *arg);

struct gstream_handlers {
	void (*on_message)(void *arg, const ProtobufCMessage *msg); /* borrowed */
	/* The last call for this stream. */
	void (*on_close)(void *arg, const struct gresult *result);
	void *arg;
};

/* One request, many replies. */
struct gclient_call *gclient_server_stream(struct gchannel *channel, const char *path,
					   const ProtobufCMessage *request,
					   const ProtobufCMessageDescriptor *reply,
					   uint64_t deadline_ns,
					   const struct gstream_handlers *handlers);
struct gclient_call *gclient_bidi(struct gchannel *channel, const char *path,
				  const ProtobufCMessageDescriptor *reply, uint64_t deadline_ns,
				  const struct gstream_handlers *handlers);
/* bidi: queues a message (encoded at once); order is kept. -EPIPE after close, -ENOMEM. */
int gclient_send(struct gclient_call *call, const ProtobufCMessage *msg);
/* Streams: while paused no further message is read (one may still come), and the peer is held back
 * by flow control. on_close waits, too; a cancelled call goes on by itself. */
void gclient_pause(struct gclient_call *call, bool pause);
void gclient_half_close(struct gclient_call *call);
/* on_done/on_close still comes, with CANCELLED. */
void gclient_cancel(struct gclient_call *call);

/* ---- blocking forms: they run the loop (gloop_poll) until the call has ended ---- */

/* 0 and *ret_arena and *ret_reply (gives, pb_free) on OK; else -EIO with err->msg "STATUS_NAME:
 * message" and *ret_status set. */
int gclient_unary_wait(struct gchannel *channel, const char *path, const ProtobufCMessage *request,
		       const ProtobufCMessageDescriptor *reply, uint64_t deadline_ns,
		       int *ret_status, struct pb_arena **ret_arena, ProtobufCMessage **ret_reply,
		       struct err *err);
/* on_message for each; returns when the stream has ended. */
int gclient_stream_wait(struct gchannel *channel, const char *path, const ProtobufCMessage *request,
			const ProtobufCMessageDescriptor *reply, uint64_t deadline_ns,
			void (*on_message)(void *arg, const ProtobufCMessage *msg), void *arg,
			int *ret_status, struct err *err);

#endif
