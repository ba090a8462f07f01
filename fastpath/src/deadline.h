/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deadlines of calls: an intrusive list under one timer. Nearly all are met, so setting and
 * dropping one must cost nothing: the timer stays armed for the earliest time it was ever asked
 * for, and looks at the list only then.
 */
#ifndef FASTPATH_DEADLINE_H
#define FASTPATH_DEADLINE_H

#include <stdint.h>
#include <sys/queue.h>

#include "base/gloop.h"

struct fp_deadline {
	TAILQ_ENTRY(fp_deadline) link;
	struct fp_deadlines *on; /* NULL: not set */
	uint64_t at_ns;
	void (*fn)(struct fp_deadline *deadline);
};

struct fp_deadlines {
	TAILQ_HEAD(fp_deadline_list, fp_deadline) list;
	struct gloop_timer *timer;
	uint64_t armed_ns; /* UINT64_MAX: not armed */
};

int fp_deadlines_init(struct fp_deadlines *d, struct gloop *loop);
void fp_deadlines_done(struct fp_deadlines *d);

/* Calls fn once at or soon after at_ns (CLOCK_MONOTONIC; UINT64_MAX: never). Replaces an earlier
 * time. */
void fp_deadline_set(struct fp_deadlines *d, struct fp_deadline *deadline, uint64_t at_ns,
		     void (*fn)(struct fp_deadline *deadline));
/* fn will not be called. Fine when it is not set. */
void fp_deadline_clear(struct fp_deadline *deadline);

#endif
