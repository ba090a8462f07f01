/* SPDX-License-Identifier: Apache-2.0 */
/* Delete: the registry is told at once, the agent is commanded, and a caller that wants to may wait
 * until nothing is left. */
#include <stddef.h>
#include <stdlib.h>

#include "create.h"
#include "service.h"
#include "status.h"
#include "stop.h"

struct fp_delete {
	struct fp_service *svc;
	struct fp_park park;
	struct fp_deadline deadline;
	struct fp_idle idle;
	fp_status_fn done;
	void *arg;
	bool *ret_gone; /* while fp_delete runs: set when done was called */
};

#define DELETE_OF(member, at)                                                                      \
	((struct fp_delete *)((char *)(at)-offsetof(struct fp_delete, member)))

static void delete_end(struct fp_delete *d, int status, const char *message)
{
	fp_park_del(&d->park);
	fp_deadline_clear(&d->deadline);
	fp_idle_del(d->svc, &d->idle);
	if (d->ret_gone)
		*d->ret_gone = true;
	d->done(d->arg, status, message);
	free(d);
}

static void check(struct fp_park *park, enum reg_status status, const struct reg_sandbox_view *view)
{
	if (status != REG_OK || view->state == REG_GONE)
		delete_end(DELETE_OF(park, park), G_OK, "");
}

static void on_deadline(struct fp_deadline *deadline)
{
	delete_end(DELETE_OF(deadline, deadline), G_DEADLINE_EXCEEDED,
		   "the delete was accepted, but its end was not confirmed in time");
}

static void on_drain(struct fp_idle *idle)
{
	delete_end(DELETE_OF(idle, idle), G_UNAVAILABLE,
		   "the delete was accepted; this worker is shutting down before its end");
}

void fp_delete_cancel(struct fp_delete *d)
{
	delete_end(d, G_CANCELLED, "");
}

static struct fp_delete *delete_park(struct fp_service *svc, reg_sandbox_id sandbox,
				     uint64_t deadline_ns, fp_status_fn done, void *arg)
{
	struct fp_delete *d = calloc(1, sizeof(*d));
	bool gone = false;

	if (!d) {
		done(arg, G_RESOURCE_EXHAUSTED,
		     "the delete was accepted; this worker has no memory to wait for its end");
		return NULL;
	}
	d->svc = svc;
	d->done = done;
	d->arg = arg;
	d->ret_gone = &gone;
	d->park.sandbox = sandbox;
	d->park.check = check;
	fp_idle_add(svc, &d->idle, false, on_drain);
	fp_deadline_set(&svc->deadlines, &d->deadline, fp_deadline_or_default(deadline_ns),
			on_deadline);
	fp_park_add(&svc->parks, &d->park);
	if (gone)
		return NULL;
	d->ret_gone = NULL;
	return d;
}

struct fp_delete *fp_delete(struct fp_service *svc, const struct fp_delete_args *args,
			    fp_status_fn done, void *arg)
{
	struct reg_sandbox_view view;
	struct fp_fail fail;

	if (fp_lookup(svc, args->ns, args->name, &view, &fail)) {
		done(arg, fail.status, fail.msg);
		return NULL;
	}
	if (fp_stop_request(svc, &view, args->grace_s, &fail)) {
		done(arg, fail.status, fail.msg);
		return NULL;
	}
	if (!args->wait)
		done(arg, G_OK, "");
	else if (fp_idle_check(svc, &fail))
		done(arg, fail.status,
		     "the delete was accepted, but this worker can't wait for it");
	else
		return delete_park(svc, view.sandbox, args->deadline_ns, done, arg);
	return NULL;
}
