/* SPDX-License-Identifier: Apache-2.0 */
/* Wait: parked until the sandbox has reached a phase or an end, by handle, so that a new sandbox of
 * the name is not mistaken for it. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "service.h"
#include "status.h"

struct fp_wait {
	struct fp_service *svc;
	struct fp_park park;
	struct fp_deadline deadline;
	struct fp_idle idle;
	int rank;
	char name[REG_NAME_MAX + 1], phase[16]; /* for messages */
	fp_sandbox_fn done;
	void *arg;
	bool *ret_gone; /* while fp_wait runs: set when done was called */
};

#define WAIT_OF(member, at) ((struct fp_wait *)((char *)(at)-offsetof(struct fp_wait, member)))

static void wait_end(struct fp_wait *w, int status, const char *message,
		     const struct reg_sandbox_view *view)
{
	fp_park_del(&w->park);
	fp_deadline_clear(&w->deadline);
	fp_idle_del(w->svc, &w->idle);
	if (w->ret_gone)
		*w->ret_gone = true;
	w->done(w->arg, status, message, view);
	free(w);
}

static void wait_fail(struct fp_wait *w, int status, const char *what)
{
	struct fp_fail fail;

	fp_fail(&fail, status, "sandbox '%s' %s", w->name, what);
	wait_end(w, fail.status, fail.msg, NULL);
}

static void check(struct fp_park *park, enum reg_status status, const struct reg_sandbox_view *view)
{
	struct fp_wait *w = WAIT_OF(park, park);

	if (status != REG_OK || view->state == REG_GONE)
		wait_fail(w, G_NOT_FOUND, "was deleted meanwhile");
	else if (fp_phase_rank(fp_phase(view)) >= w->rank)
		wait_end(w, G_OK, "", view);
}

static void on_deadline(struct fp_deadline *deadline)
{
	struct fp_wait *w = WAIT_OF(deadline, deadline);
	char what[64];

	snprintf(what, sizeof(what), "has not reached %s in time", w->phase);
	wait_fail(w, G_DEADLINE_EXCEEDED, what);
}

static void on_drain(struct fp_idle *idle)
{
	wait_fail(WAIT_OF(idle, idle), G_UNAVAILABLE,
		  "is still waited for, but this worker is shutting down; ask again");
}

void fp_wait_cancel(struct fp_wait *w)
{
	wait_end(w, G_CANCELLED, "", NULL);
}

/* timeout_ms on top of now, without overflow. */
static uint64_t wait_deadline(const struct fp_wait_args *args)
{
	uint64_t now = clock_mono_ns(), at;

	if (args->timeout_ms <= 0 || (uint64_t)args->timeout_ms > (UINT64_MAX - now) / NS_PER_MS)
		return args->deadline_ns;
	at = now + (uint64_t)args->timeout_ms * NS_PER_MS;
	return at < args->deadline_ns ? at : args->deadline_ns;
}

static int wait_find(struct fp_service *svc, const struct fp_wait_args *args,
		     struct reg_sandbox_view *view, int *ret_rank, struct fp_fail *fail)
{
	char q[FP_QUOTED_MAX + 8];

	*ret_rank = *args->phase ? fp_phase_rank(args->phase) : FP_PHASE_RANK_END;
	if (*ret_rank < 0)
		return fp_fail(fail, G_INVALID_ARGUMENT,
			       "unknown phase '%s': must be Pending, Bound, Running, Terminating, "
			       "Succeeded, Failed, Expired or Lost, or empty for any end",
			       fp_quote(args->phase, q));
	if (args->timeout_ms < 0)
		return fp_fail(fail, G_INVALID_ARGUMENT,
			       "timeout_ms %" PRId64 ": must not be negative", args->timeout_ms);
	if (fp_idle_check(svc, fail))
		return fail->status;
	return fp_lookup(svc, args->ns, args->name, view, fail);
}

struct fp_wait *fp_wait(struct fp_service *svc, const struct fp_wait_args *args, fp_sandbox_fn done,
			void *arg)
{
	struct reg_sandbox_view view;
	struct fp_fail fail;
	struct fp_wait *w;
	bool gone = false;
	int rank;

	if (wait_find(svc, args, &view, &rank, &fail)) {
		done(arg, fail.status, fail.msg, NULL);
		return NULL;
	}
	w = calloc(1, sizeof(*w));
	if (!w) {
		done(arg, G_RESOURCE_EXHAUSTED, "this worker is out of memory", NULL);
		return NULL;
	}
	w->svc = svc;
	w->rank = rank;
	snprintf(w->name, sizeof(w->name), "%s", view.name);
	snprintf(w->phase, sizeof(w->phase), "%s", *args->phase ? args->phase : "its end");
	w->done = done;
	w->arg = arg;
	w->ret_gone = &gone;
	w->park.sandbox = view.sandbox;
	w->park.check = check;
	fp_idle_add(svc, &w->idle, false, on_drain);
	fp_deadline_set(&svc->deadlines, &w->deadline, wait_deadline(args), on_deadline);
	fp_park_add(&svc->parks, &w->park);
	if (gone)
		return NULL;
	w->ret_gone = NULL;
	return w;
}
