/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop: one completion queue, served by one thread. Timers bound how long the queue is waited
 * on. Other threads put work in a list and push one wake-up tag through the queue: an empty batch
 * on a call that exists only for that (the C API has no alarm).
 */
#include <dlfcn.h>
#include <errno.h>
#include <grpc/support/log.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "gint.h"

struct gpost {
	struct gpost *next;
	void (*fn)(void *arg);
	void *arg;
};

struct gloop {
	grpc_completion_queue *cq;
	pthread_t thread;
	struct gtimers timers;
	struct gwatcher *watcher; /* NULL until the first fd or signal */
	bool posted_here;	  /* the loop's own thread has posted: no wake-up needed */

	grpc_channel *wake_channel;
	grpc_call *wake_call;
	struct gtag wake_tag;

	pthread_mutex_t mu; /* guards what follows; any thread */
	struct gpost *posts, *posts_tail;
	bool wake_pending; /* the wake-up tag is in the queue */
	bool stop;
};

static __thread char last_error[160];

const char *gloop__last_error(void)
{
	return last_error;
}

void gloop__clear_error(void)
{
	last_error[0] = '\0';
}

/* gRPC reports why an address could not be bound only to its log: keep the system's words from it.
 */
static void loop_grpc_log(gpr_log_func_args *args)
{
	const char *os_error = strstr(args->message, "os_error:\"");

	if (args->severity == GPR_LOG_SEVERITY_ERROR && os_error) {
		os_error += strlen("os_error:\"");
		(void)snprintf(last_error, sizeof(last_error), "%.*s", (int)strcspn(os_error, "\""),
			       os_error);
	}
	log_debug("grpc", "text=%s", args->message);
}

/* absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle), as Debian 12 exports it. */
#define DEADLOCK_MODE_SYMBOL                                                                       \
	"_ZN4absl7debian329SetMutexDeadlockDetectionModeENS0_15OnDeadlockCycleE"

/*
 * Debian's abseil is built with the deadlock detector of its mutexes switched on: every lock that
 * gRPC takes is entered into one graph of the process, under one spin lock. With 5,000 channels
 * that was a third of the CPU (docs/performance.md). The function has no C name and is not worth
 * linking a C++ library for: where it is missing the detector stays.
 */
static void loop_quiet_deadlock_detector(void)
{
	union {
		void *symbol;
		void (*set)(int mode);
	} mode = {dlsym(RTLD_DEFAULT, DEADLOCK_MODE_SYMBOL)};

	if (mode.symbol)
		mode.set(0); /* absl::OnDeadlockCycle::kIgnore */
}

static void loop_wake_fn(struct gtag *tag, bool ok);

/*
 * gRPC starts threads here (with the queue, and with the first channel), and later more from those:
 * they inherit a full signal mask, so that signals reach only the threads of ours that want them.
 */
static void loop_create_core(struct gloop *loop)
{
	sigset_t all, old;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	gpr_set_log_function(loop_grpc_log);
	loop_quiet_deadlock_detector();
	grpc_init();
	loop->cq = grpc_completion_queue_create_for_next(NULL);
	loop->wake_channel =
		grpc_lame_client_channel_create("wake", GRPC_STATUS_UNAVAILABLE, "wake");
	loop->wake_call =
		grpc_channel_create_call(loop->wake_channel, NULL, GRPC_PROPAGATE_DEFAULTS,
					 loop->cq, grpc_slice_from_static_string("/wake"), NULL,
					 gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
}

struct gloop *gloop_new(struct err *err)
{
	struct gloop *loop = calloc(1, sizeof(*loop));

	if (!loop) {
		(void)err_set(err, -ENOMEM, "out of memory for an event loop");
		return NULL;
	}
	(void)pthread_mutex_init(&loop->mu, NULL);
	loop->thread = pthread_self();
	loop->wake_tag.fn = loop_wake_fn;
	loop_create_core(loop);
	return loop;
}

static void loop_drop_posts(struct gloop *loop)
{
	while (loop->posts) {
		struct gpost *post = loop->posts;

		loop->posts = post->next;
		free(post);
	}
}

struct gloop *gloop_free(struct gloop *loop)
{
	grpc_event event;

	if (!loop)
		return NULL;
	loop->watcher = gwatcher__free(loop->watcher);
	grpc_call_unref(loop->wake_call);
	grpc_channel_destroy(loop->wake_channel);
	grpc_completion_queue_shutdown(loop->cq);
	for (;;) { /* the last events of cancelled calls free their structs */
		event = grpc_completion_queue_next(loop->cq, gpr_inf_future(GPR_CLOCK_MONOTONIC),
						   NULL);
		if (event.type == GRPC_QUEUE_SHUTDOWN)
			break;
		if (event.type == GRPC_OP_COMPLETE && event.tag != &loop->wake_tag)
			((struct gtag *)event.tag)->fn(event.tag, event.success != 0);
	}
	grpc_completion_queue_destroy(loop->cq);
	loop_drop_posts(loop);
	base_bug(loop->timers.timers != 0);
	free(loop->timers.heap);
	(void)pthread_mutex_destroy(&loop->mu);
	free(loop);
	grpc_shutdown_blocking();
	return NULL;
}

grpc_completion_queue *gloop__cq(struct gloop *loop)
{
	return loop->cq;
}

struct gtimers *gloop__timers(struct gloop *loop)
{
	return &loop->timers;
}

struct gwatcher **gloop__watcher(struct gloop *loop)
{
	return &loop->watcher;
}

gpr_timespec gloop__timespec(uint64_t mono_ns)
{
	if (mono_ns == UINT64_MAX)
		return gpr_inf_future(GPR_CLOCK_MONOTONIC);
	return (gpr_timespec){
		.tv_sec = (int64_t)(mono_ns / NS_PER_S),
		.tv_nsec = (int32_t)(mono_ns % NS_PER_S),
		.clock_type = GPR_CLOCK_MONOTONIC,
	};
}

grpc_arg gint__arg(const char *key, int value)
{
	union {
		const char *in;
		char *out; /* gRPC's struct wants it so, and doesn't write to it */
	} name = {.in = key};

	return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = name.out, .value.integer = value};
}

/* ---- work from other threads ---- */

/* Sends the wake-up tag unless it is on its way. An empty batch only touches the queue, so any
 * thread may start one. */
static void loop_wake_unlock(struct gloop *loop)
{
	bool send = !loop->wake_pending;

	loop->wake_pending = true;
	(void)pthread_mutex_unlock(&loop->mu);
	if (send)
		base_bug(grpc_call_start_batch(loop->wake_call, NULL, 0, &loop->wake_tag, NULL) !=
			 GRPC_CALL_OK);
}

void gloop__wake(struct gloop *loop)
{
	(void)pthread_mutex_lock(&loop->mu);
	loop_wake_unlock(loop);
}

int gloop_post(struct gloop *loop, void (*fn)(void *arg), void *arg)
{
	struct gpost *post = malloc(sizeof(*post));

	if (!post)
		return -ENOMEM;
	*post = (struct gpost){.fn = fn, .arg = arg};
	(void)pthread_mutex_lock(&loop->mu);
	if (loop->posts)
		loop->posts_tail->next = post;
	else
		loop->posts = post;
	loop->posts_tail = post;
	if (pthread_equal(pthread_self(), loop->thread)) {
		loop->posted_here = true;
		(void)pthread_mutex_unlock(&loop->mu);
	} else {
		loop_wake_unlock(loop);
	}
	return 0;
}

void gloop_stop(struct gloop *loop)
{
	(void)pthread_mutex_lock(&loop->mu);
	loop->stop = true;
	if (pthread_equal(pthread_self(), loop->thread))
		(void)pthread_mutex_unlock(&loop->mu); /* it is looked at after this event */
	else
		loop_wake_unlock(loop);
}

static void loop_run_posts(struct gloop *loop)
{
	struct gpost *posts;

	(void)pthread_mutex_lock(&loop->mu);
	posts = loop->posts;
	loop->posts = NULL;
	(void)pthread_mutex_unlock(&loop->mu);
	while (posts) {
		struct gpost *post = posts;

		posts = post->next;
		post->fn(post->arg);
		free(post);
	}
}

static void loop_wake_fn(struct gtag *tag, bool ok)
{
	struct gloop *loop = gcontainer_of(tag, struct gloop, wake_tag);

	(void)ok;
	/* Cleared before the lists are looked at: what is added from now on brings a tag of its
	 * own. */
	(void)pthread_mutex_lock(&loop->mu);
	loop->wake_pending = false;
	(void)pthread_mutex_unlock(&loop->mu);
	gwatcher__serve(loop->watcher);
	loop_run_posts(loop);
}

/* ---- serving ---- */

static bool loop_serve_due(struct gloop *loop)
{
	bool served = loop->posted_here;

	if (loop->posted_here) {
		loop->posted_here = false;
		loop_run_posts(loop);
	}
	if (loop->timers.armed)
		served = gtimers__run(&loop->timers, clock_mono_ns()) || served;
	return served;
}

/* Serves what is due or one event, for which it waits until until_ns at most. True when something
 * was served. */
static bool loop_step(struct gloop *loop, uint64_t until_ns)
{
	bool served = loop_serve_due(loop);
	uint64_t timer_ns = gtimers__next_ns(&loop->timers);
	grpc_event event;

	if (served || loop->posted_here)
		until_ns = 0;
	event = grpc_completion_queue_next(
		loop->cq, gloop__timespec(timer_ns < until_ns ? timer_ns : until_ns), NULL);
	if (event.type == GRPC_OP_COMPLETE) {
		((struct gtag *)event.tag)->fn(event.tag, event.success != 0);
		return true;
	}
	return served || loop_serve_due(loop);
}

static bool loop_take_stop(struct gloop *loop)
{
	bool stop;

	(void)pthread_mutex_lock(&loop->mu);
	stop = loop->stop;
	loop->stop = false;
	(void)pthread_mutex_unlock(&loop->mu);
	return stop;
}

void gloop_run(struct gloop *loop)
{
	while (!loop_take_stop(loop))
		(void)loop_step(loop, UINT64_MAX);
}

bool gloop_poll(struct gloop *loop, int timeout_ms)
{
	uint64_t wait_ns = timeout_ms > 0 ? (uint64_t)timeout_ms * NS_PER_MS : 0;

	if (timeout_ms < 0)
		return loop_step(loop, UINT64_MAX);
	return loop_step(loop, wait_ns ? clock_mono_ns() + wait_ns : 0);
}

const char *gstatus_name(int code)
{
	static const char *const names[] = {
		[G_OK] = "OK",
		[G_CANCELLED] = "CANCELLED",
		[G_UNKNOWN] = "UNKNOWN",
		[G_INVALID_ARGUMENT] = "INVALID_ARGUMENT",
		[G_DEADLINE_EXCEEDED] = "DEADLINE_EXCEEDED",
		[G_NOT_FOUND] = "NOT_FOUND",
		[G_ALREADY_EXISTS] = "ALREADY_EXISTS",
		[G_PERMISSION_DENIED] = "PERMISSION_DENIED",
		[G_RESOURCE_EXHAUSTED] = "RESOURCE_EXHAUSTED",
		[G_FAILED_PRECONDITION] = "FAILED_PRECONDITION",
		[G_ABORTED] = "ABORTED",
		[G_OUT_OF_RANGE] = "OUT_OF_RANGE",
		[G_UNIMPLEMENTED] = "UNIMPLEMENTED",
		[G_INTERNAL] = "INTERNAL",
		[G_UNAVAILABLE] = "UNAVAILABLE",
		[G_DATA_LOSS] = "DATA_LOSS",
		[G_UNAUTHENTICATED] = "UNAUTHENTICATED",
	};

	if (code < 0 || code > G_UNAUTHENTICATED)
		return "UNKNOWN";
	return names[code];
}
