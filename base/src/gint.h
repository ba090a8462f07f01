/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the gRPC helper files (g*.c) share: the tag that every batch carries, the loop's hooks, and
 * messages as byte buffers. Only these files include <grpc/...>.
 */
#ifndef BASE_GINT_H
#define BASE_GINT_H

#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>
#include <stddef.h>

#include "base/gloop.h"
#include "base/pb.h"

#define gcontainer_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* The address of a gtag is the tag of a batch: the loop calls fn when the batch completes. */
struct gtag {
	void (*fn)(struct gtag *tag, bool ok);
};

/* ---- gloop.c ---- */
grpc_completion_queue *gloop__cq(struct gloop *loop);
/* Makes the loop's thread look at its posts and at the watcher. From any thread. */
void gloop__wake(struct gloop *loop);
/* gRPC's last error text of this thread, reduced to the operating system's words where it has any;
 * "" when none. */
const char *gloop__last_error(void);
void gloop__clear_error(void);
gpr_timespec gloop__timespec(uint64_t mono_ns);
grpc_arg gint__arg(const char *key, int value);

/* ---- gtimer.c: the loop's heap of timers ---- */
struct gtimers {
	struct gloop_timer **heap; /* smallest (due, seq) first */
	size_t armed;		   /* entries in the heap */
	size_t timers;		   /* timers that exist: the heap has room for all of them */
	size_t room;
	uint64_t seq; /* orders timers that are due at the same ns */
};
struct gtimers *gloop__timers(struct gloop *loop);
/* When the first timer is due; UINT64_MAX: none is armed. */
uint64_t gtimers__next_ns(const struct gtimers *timers);
/* Runs what was due at now_ns. True when a timer ran. */
bool gtimers__run(struct gtimers *timers, uint64_t now_ns);

/* ---- gwatch.c: fds and signals ---- */
struct gwatcher;
struct gwatcher **gloop__watcher(struct gloop *loop);
/* Runs the handlers of signals and fds that the helper thread has found ready. NULL is allowed. */
void gwatcher__serve(struct gwatcher *watcher);
struct gwatcher *gwatcher__free(struct gwatcher *watcher);

/* ---- gclient.c ---- */
struct gchannel;
struct gclient_call;
struct gloop *gchannel__loop(struct gchannel *channel);
/* In on_done: the memory of the reply is the caller's from now on. */
struct pb_arena *gclient__take_reply(struct gclient_call *call);

/* ---- gwire.c: protobuf-c messages as byte buffers, and the queue of a stream's outgoing ones ----
 */
grpc_byte_buffer *gwire__encode(const ProtobufCMessage *msg, size_t *ret_len);
/* As pb_unpack. buf may be NULL (no message at all): -EBADMSG. */
int gwire__decode(const ProtobufCMessageDescriptor *desc, grpc_byte_buffer *buf,
		  const struct pb_limits *limits, struct pb_arena **ret_arena,
		  ProtobufCMessage **ret_msg, struct err *err);

struct gout {
	struct gout *next;
	grpc_byte_buffer *buf;
	size_t len;
};
struct gout_queue {
	struct gout *head, *tail;
	size_t bytes; /* of the entries, and of the one in flight until gout__sent */
	size_t in_flight_bytes;
	grpc_byte_buffer *in_flight;
};
int gout__push(struct gout_queue *queue, const ProtobufCMessage *msg);
/* Moves the head to in_flight and fills op with it; more may be behind it, which lets gRPC gather
 * writes. */
void gout__start(struct gout_queue *queue, grpc_op *op);
/* The message in flight has been written (or was lost). */
void gout__sent(struct gout_queue *queue);
/* Drops everything but the message in flight. */
void gout__clear(struct gout_queue *queue);

#endif
