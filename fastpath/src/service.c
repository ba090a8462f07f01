/* SPDX-License-Identifier: Apache-2.0 */
/* What all calls share: the context, looking a sandbox up, and the list of calls that a drain ends
 * early. */
#include "service.h"

#include <stddef.h>
#include <stdlib.h>

#include "base/clock.h"
#include "check.h"
#include "start.h"
#include "status.h"

struct fp_service *fp_service_new(const struct fp_service_options *opts)
{
	struct fp_service *svc = calloc(1, sizeof(*svc));

	if (!svc)
		return NULL;
	svc->loop = opts->loop;
	svc->reg = opts->reg;
	svc->me = opts->me;
	svc->default_strong = opts->default_strong;
	TAILQ_INIT(&svc->idle);
	TAILQ_INIT(&svc->store_waits);
	TAILQ_INIT(&svc->fencing);
	svc->links = fp_links_new(svc->loop, svc->me);
	svc->store_timer = gloop_timer_new(svc->loop, fp_store_watch, svc);
	if (!svc->links || !svc->store_timer || fp_deadlines_init(&svc->deadlines, svc->loop) ||
	    fp_parks_init(&svc->parks, svc->loop, svc->me))
		return fp_service_free(svc);
	return svc;
}

struct fp_service *fp_service_free(struct fp_service *svc)
{
	if (!svc)
		return NULL;
	fp_parks_done(&svc->parks);
	fp_deadlines_done(&svc->deadlines);
	if (svc->store_timer)
		gloop_timer_free(svc->store_timer);
	/* Commands that are still open are reported as unknown here, and want to be fenced. */
	fp_links_free(svc->links);
	fp_start_drop_all(svc);
	free(svc);
	return NULL;
}

static void end_lingering(struct fp_deadline *linger)
{
	struct fp_service *svc =
		(struct fp_service *)((char *)linger - offsetof(struct fp_service, linger));
	struct fp_idle *idle;

	while ((idle = TAILQ_FIRST(&svc->idle)))
		idle->end(idle);
}

void fp_service_drain(struct fp_service *svc, uint64_t linger_ns)
{
	struct fp_idle *idle, *next;

	svc->draining = true;
	/* Each ends itself only. */
	for (idle = TAILQ_FIRST(&svc->idle); idle; idle = next) {
		next = TAILQ_NEXT(idle, link);
		if (idle->at_once)
			idle->end(idle);
	}
	fp_deadline_set(&svc->deadlines, &svc->linger, clock_mono_ns() + linger_ns, end_lingering);
}

bool fp_service_ready(const struct fp_service *svc)
{
	return !svc->draining && reg_store_loaded(svc->reg);
}

int fp_idle_check(const struct fp_service *svc, struct fp_fail *fail)
{
	if (svc->draining)
		return fp_fail(fail, G_UNAVAILABLE, "this worker is shutting down; ask again");
	if (svc->idle_count >= FP_IDLE_MAX)
		return fp_fail(
			fail, G_RESOURCE_EXHAUSTED,
			"this worker has %d waiting calls already: wait for fewer at once, or "
			"over another connection",
			FP_IDLE_MAX);
	return G_OK;
}

void fp_idle_add(struct fp_service *svc, struct fp_idle *idle, bool at_once,
		 void (*end)(struct fp_idle *idle))
{
	svc->idle_count++;
	idle->at_once = at_once;
	idle->end = end;
	idle->listed = true;
	TAILQ_INSERT_TAIL(&svc->idle, idle, link);
}

void fp_idle_del(struct fp_service *svc, struct fp_idle *idle)
{
	if (!idle->listed)
		return;
	svc->idle_count--;
	TAILQ_REMOVE(&svc->idle, idle, link);
	idle->listed = false;
}

int fp_lookup(struct fp_service *svc, const char *ns, const char *name,
	      struct reg_sandbox_view *ret, struct fp_fail *fail)
{
	enum reg_status reg;
	int status;

	if (!*ns)
		ns = "default";
	status = fp_check_name("sandbox_name", name, fail);
	if (!status)
		status = fp_check_namespace(ns, fail);
	if (status)
		return status;
	reg = reg_get(svc->me, ns, name, ret);
	if (reg == REG_OK)
		return G_OK;
	if (reg == REG_NOT_FOUND)
		/* The resource name is what clients of the compatible wire look for. */
		return fp_fail(fail, G_NOT_FOUND,
			       "sandboxes.sandbox.fast.io \"%s\" not found in namespace \"%s\"",
			       name, ns);
	return fp_fail_reg(fail, reg, name);
}
