/* SPDX-License-Identifier: Apache-2.0 */
/* See deadline.h. */
#include "deadline.h"

#include <errno.h>

#include "base/clock.h"

static void arm(struct fp_deadlines *d, uint64_t at_ns)
{
	uint64_t now = clock_mono_ns();

	d->armed_ns = at_ns;
	gloop_timer_set(d->timer, at_ns > now ? at_ns - now : 0);
}

static void on_timer(void *arg)
{
	struct fp_deadlines *d = arg;
	uint64_t now = clock_mono_ns(), earliest = UINT64_MAX;
	struct fp_deadline *at, *next;

	for (at = TAILQ_FIRST(&d->list); at; at = next) {
		next = TAILQ_NEXT(at, link);
		if (at->at_ns > now) {
			earliest = at->at_ns < earliest ? at->at_ns : earliest;
			continue;
		}
		/* To the front, but still on the list, where the callback of another one may clear
		 * it. */
		TAILQ_REMOVE(&d->list, at, link);
		TAILQ_INSERT_HEAD(&d->list, at, link);
	}
	d->armed_ns = UINT64_MAX;
	if (earliest != UINT64_MAX)
		arm(d, earliest);
	/* A callback may set new ones; they go to the tail and are not due before now. */
	while ((at = TAILQ_FIRST(&d->list)) && at->at_ns <= now) {
		fp_deadline_clear(at);
		at->fn(at);
	}
}

int fp_deadlines_init(struct fp_deadlines *d, struct gloop *loop)
{
	TAILQ_INIT(&d->list);
	d->armed_ns = UINT64_MAX;
	d->timer = gloop_timer_new(loop, on_timer, d);
	return d->timer ? 0 : -ENOMEM;
}

void fp_deadlines_done(struct fp_deadlines *d)
{
	if (d->timer)
		d->timer = gloop_timer_free(d->timer);
}

void fp_deadline_set(struct fp_deadlines *d, struct fp_deadline *deadline, uint64_t at_ns,
		     void (*fn)(struct fp_deadline *deadline))
{
	fp_deadline_clear(deadline);
	if (at_ns == UINT64_MAX)
		return;
	deadline->on = d;
	deadline->at_ns = at_ns;
	deadline->fn = fn;
	TAILQ_INSERT_TAIL(&d->list, deadline, link);
	if (at_ns < d->armed_ns)
		arm(d, at_ns);
}

void fp_deadline_clear(struct fp_deadline *deadline)
{
	if (!deadline->on)
		return;
	TAILQ_REMOVE(&deadline->on->list, deadline, link);
	deadline->on = NULL;
}
