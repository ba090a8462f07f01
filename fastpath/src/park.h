/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that wait for a change of a sandbox which somebody else makes: a store write, an exit, the
 * end of a delete. The registry bumps one counter for all of them; a thread sleeps on it and posts
 * to the loop, where every parked call looks at its sandbox. Looks are spaced so that they take at
 * most a fifth of the worker's time however many calls are parked.
 */
#ifndef FASTPATH_PARK_H
#define FASTPATH_PARK_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/queue.h>

#include "base/gloop.h"
#include "registry/registry.h"

struct fp_park;
TAILQ_HEAD(fp_park_list, fp_park);

struct fp_park {
	TAILQ_ENTRY(fp_park) link;
	struct fp_park_list *on; /* NULL: not parked */
	reg_sandbox_id sandbox;
	/*
	 * Looks whether it is time; view is set when status is REG_OK (REG_STALE: the sandbox is
	 * gone). May unpark and free itself and others.
	 */
	void (*check)(struct fp_park *park, enum reg_status status,
		      const struct reg_sandbox_view *view);
};

struct fp_parks {
	struct gloop *loop;
	struct reg_self *me;
	struct fp_park_list waiting, looking;
	struct gloop_timer *timer;
	bool timer_set;
	uint64_t next_look_ns; /* not before this time */
	/* Shared with the thread. */
	pthread_t thread;
	bool thread_started;
	int posted, stop; /* accessed by __atomic builtins */
};

int fp_parks_init(struct fp_parks *parks, struct gloop *loop, struct reg_self *me);
/* Ends the thread; nothing may be parked. Fine on a zeroed one. */
void fp_parks_done(struct fp_parks *parks);

/* Parks and looks at once: check may be called, and the park be gone, before this returns. */
void fp_park_add(struct fp_parks *parks, struct fp_park *park);
/* Fine when it is not parked. */
void fp_park_del(struct fp_park *park);

#endif
