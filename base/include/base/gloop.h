/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One event loop = one gRPC completion queue served by one thread. Server calls, client calls,
 * timers and work posted by other threads all arrive here, so code above it needs no locks. gRPC
 * types stay in base/src/g*.c. Create a loop only after the last fork of the process.
 */
#ifndef BASE_GLOOP_H
#define BASE_GLOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct gloop;

/* grpc_init + queue. gives; NULL on failure. */
struct gloop *gloop_new(struct err *err);
/* After gloop_run has returned; every server, channel and timer must be gone. Returns NULL. */
struct gloop *gloop_free(struct gloop *loop);

/* Serves events until gloop_stop. Runs in the thread that created the loop. */
void gloop_run(struct gloop *loop);
/* Serves what is due, waits at most timeout_ms for the first event; for blocking clients. True when
 * something was served. */
bool gloop_poll(struct gloop *loop, int timeout_ms);
/* Ends gloop_run after the current event. From any thread, not from a signal handler: for signals
 * use gloop_on_signal. */
void gloop_stop(struct gloop *loop);

/* Calls fn(arg) on the loop's thread, in order of posting. From any thread. -ENOMEM. */
int gloop_post(struct gloop *loop, void (*fn)(void *arg), void *arg);

/*
 * Blocks signo in the calling thread and calls fn on the loop's thread when it is sent to the
 * process. Call it right after gloop_new, before other threads exist. Children inherit the blocked
 * signal: unblock it before exec.
 */
int gloop_on_signal(struct gloop *loop, int signo, void (*fn)(void *arg, int signo), void *arg,
		    struct err *err);

/* Calls fn on the loop's thread whenever fd is readable (level-triggered, by one helper thread with
 * epoll). */
struct gloop_fd;
struct gloop_fd *gloop_fd_add(struct gloop *loop, int fd, void (*fn)(void *arg, int fd), void *arg,
			      struct err *err);
/* fn will not be called again; the fd stays the caller's. Returns NULL. */
struct gloop_fd *gloop_fd_del(struct gloop_fd *watch);

/* One-shot timers on the loop's thread; many are cheap (a heap of ours and one gRPC alarm). */
struct gloop_timer;
struct gloop_timer *gloop_timer_new(struct gloop *loop, void (*fn)(void *arg), void *arg);
/* (Re)arms to fire after delay_ns. */
void gloop_timer_set(struct gloop_timer *timer, uint64_t delay_ns);
void gloop_timer_cancel(struct gloop_timer *timer);
struct gloop_timer *gloop_timer_free(struct gloop_timer *timer);

/* The numbers of google.rpc.Code. */
enum gstatus {
	G_OK = 0,
	G_CANCELLED = 1,
	G_UNKNOWN = 2,
	G_INVALID_ARGUMENT = 3,
	G_DEADLINE_EXCEEDED = 4,
	G_NOT_FOUND = 5,
	G_ALREADY_EXISTS = 6,
	G_PERMISSION_DENIED = 7,
	G_RESOURCE_EXHAUSTED = 8,
	G_FAILED_PRECONDITION = 9,
	G_ABORTED = 10,
	G_OUT_OF_RANGE = 11,
	G_UNIMPLEMENTED = 12,
	G_INTERNAL = 13,
	G_UNAVAILABLE = 14,
	G_DATA_LOSS = 15,
	G_UNAUTHENTICATED = 16,
};
const char *gstatus_name(int code); /* "NOT_FOUND" */

#endif
