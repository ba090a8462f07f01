/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A gRPC server over C-core for protobuf-c messages. A method table says what is served; unknown
 * methods get UNIMPLEMENTED, malformed messages INVALID_ARGUMENT, both without reaching a handler.
 * All callbacks run on the loop's thread.
 *
 * A call lives from its handler until it was finished AND the peer has it (or is gone). The handler
 * may finish at once or keep the call and finish later; every call must be finished exactly once.
 * After on_cancel the call is dead for sending but must still be finished (any status), so that
 * owners have one place to let go. So who keeps a call, and every BIDI method, sets on_cancel. A
 * malformed message on a BIDI call ends it with INVALID_ARGUMENT and is on_cancel to the owner.
 */
#ifndef BASE_GSERVER_H
#define BASE_GSERVER_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/gloop.h"
#include "base/pb.h"

struct gserver;
struct gcall;

enum gmethod_kind {
	GMETHOD_UNARY,	       /* one request, gcall_reply or gcall_fail */
	GMETHOD_SERVER_STREAM, /* one request, gcall_send*, gcall_finish */
	GMETHOD_BIDI,	       /* on_open, on_message*, gcall_send*, gcall_finish */
};

struct gmethod {
	const char *path; /* "/package.Service/Method" */
	enum gmethod_kind kind;
	const ProtobufCMessageDescriptor *request;
	/* UNARY, SERVER_STREAM: the request has arrived; msg is borrowed until return. BIDI: the
	 * stream is open, msg is NULL. */
	void (*handler)(struct gcall *call, const ProtobufCMessage *msg);
	/* BIDI: one message, borrowed until return. */
	void (*on_message)(struct gcall *call, const ProtobufCMessage *msg);
	/* BIDI: the client has half-closed; finish the call. */
	void (*on_half_close)(struct gcall *call);
};

struct gserver_options {
	const struct gmethod *methods; /* ends with a NULL path; kept */
	void *ctx;		       /* gserver_ctx() */
	uint32_t max_calls; /* in flight, at most one more per method; the rest wait in C-core. 0:
			       4096 */
	uint32_t max_message_bytes; /* 0: 4 MiB */
	struct pb_limits pb;
	/* Called for each finished call: method path, gstatus, ns. May be NULL. */
	void (*on_finished)(void *ctx, const char *path, int status, uint64_t ns);
};

struct gserver *gserver_new(struct gloop *loop, const struct gserver_options *opts,
			    struct err *err);
/* "unix:/path" or "127.0.0.1:0"; before gserver_start. *ret_port (may be NULL) is the TCP port
 * bound. Unix sockets get mode. */
int gserver_listen(struct gserver *server, const char *address, unsigned int mode, int *ret_port,
		   struct err *err);
int gserver_start(struct gserver *server, struct err *err);
/* Serves a connection accepted elsewhere (takes fd). After gserver_start, on the loop's thread. */
int gserver_add_fd(struct gserver *server, int fd, struct err *err);
/* No new calls; done(arg) once all calls have ended, cancelling what still runs after grace_ns. */
void gserver_shutdown(struct gserver *server, uint64_t grace_ns, void (*done)(void *arg),
		      void *arg);
/* After done was called; a server that is not shut down yet is, without grace, by running the loop.
 * Returns NULL. */
struct gserver *gserver_free(struct gserver *server);
void *gserver_ctx(const struct gserver *server);

/* ---- calls ---- */
struct gserver *gcall_server(const struct gcall *call);
const char *gcall_path(const struct gcall *call);
const char *gcall_peer(const struct gcall *call);
/* CLOCK_MONOTONIC ns when the client gives up; UINT64_MAX: never. */
uint64_t gcall_deadline_ns(const struct gcall *call);
uint64_t gcall_started_ns(const struct gcall *call);
/* The owner's own pointer; on_cancel is called once when the client went away or the deadline
 * passed before the finish. */
void gcall_set_user(struct gcall *call, void *user, void (*on_cancel)(struct gcall *call));
void *gcall_user(const struct gcall *call);
bool gcall_cancelled(const struct gcall *call);

/* UNARY: the reply with status OK; finishes the call. msg is borrowed. */
void gcall_reply(struct gcall *call, const ProtobufCMessage *msg);
/* Finishes any kind with a status other than OK. */
void gcall_fail(struct gcall *call, int status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Streams: queues a message (encoded at once, msg borrowed). Order is kept. -EPIPE: the peer is
 * gone; -ENOMEM. */
int gcall_send(struct gcall *call, const ProtobufCMessage *msg);
/* Bytes queued and not yet written: above a limit of your choice pause, and go on in on_drained. */
size_t gcall_queued_bytes(const struct gcall *call);
/* Called on the loop's thread whenever the queue has become empty. */
void gcall_set_on_drained(struct gcall *call, void (*on_drained)(struct gcall *call));
/* Streams: status after all queued messages. status G_OK takes fmt "". */
void gcall_finish(struct gcall *call, int status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
