/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by gserver.c (the server's life and its admission) and gcall.c (one call's life). */
#ifndef BASE_GSERVER_INT_H
#define BASE_GSERVER_INT_H

#include "base/gserver.h"
#include "gint.h"

/* One method of the table, or the catch-all (def is NULL) that answers what is not in it. */
struct gmethod_slot {
	struct gserver *server;
	const struct gmethod *def;
	void *handle;	/* gRPC's */
	uint32_t armed; /* calls waiting for a request */
};

/*
 * One call. refs counts the batches in flight and our own frames that still use it; it goes back to
 * the server's pool when refs is 0 and the owner has finished it.
 */
struct gcall {
	struct gserver *server;
	struct gmethod_slot *slot;
	struct gcall *self; /* for the accessors that take it const and cache */
	struct gcall *next; /* in the pool */
	grpc_call *call;
	uint32_t refs;
	bool delivered;	    /* the owner has it, so on_cancel and the finish concern him */
	bool finished;	    /* by the owner */
	bool told;	    /* on_cancel was called */
	bool cancelled;	    /* the client went away, or the deadline passed */
	bool broken;	    /* a send failed: nothing more can be sent */
	bool refused;	    /* we end it ourselves: a malformed message */
	bool sending;	    /* a send batch is in flight */
	bool metadata_sent; /* initial metadata is in some batch */
	bool status_sent;   /* the status is in some batch */
	bool close_armed;   /* RECV_CLOSE is in some batch */
	int core_cancelled; /* written by gRPC */

	grpc_byte_buffer *payload;
	grpc_metadata_array metadata;
	grpc_call_details details; /* of the catch-all */
	gpr_timespec deadline;
	struct gtag on_request, on_sent, on_received, on_closed;

	struct gout_queue out;
	int status;

	void *user;
	void (*on_cancel)(struct gcall *call);
	void (*on_drained)(struct gcall *call);
	char *peer;
	char *path; /* of the catch-all */
	uint64_t started_ns;
	uint64_t deadline_ns;
	char message[512]; /* last: all before it is cleared for each request */
};

/* ---- gserver.c ---- */
grpc_server *gserver__core(struct gserver *server);
struct gloop *gserver__loop(struct gserver *server);
const struct gserver_options *gserver__options(const struct gserver *server);
/* A request was taken by a call of slot (or the arming was withdrawn: taken is false): keeps enough
 * calls armed. */
void gserver__call_left(struct gmethod_slot *slot, bool taken);
/* A call has ended: takes it back into the pool. */
void gserver__call_ended(struct gcall *call, bool was_taken);

/* ---- gcall.c ---- */
struct gcall *gcall__new(struct gserver *server);
void gcall__free(struct gcall *call);
/* Makes the call wait for a request of slot. */
void gcall__arm(struct gcall *call, struct gmethod_slot *slot);

#endif
