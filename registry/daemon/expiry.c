/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Expire times as a heap, one entry per record. The heap is a cache: when an entry falls due the
 * record is read, and what it says counts. A sandbox that is still starting runs first and is
 * stopped then.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon.h"

#define STARTING_RETRY_NS ((int64_t)(20 * NS_PER_MS))

struct entry {
	reg_sandbox_id sandbox;
	int64_t expire_unix_s;
	int64_t due_unix_ns; /* heap key */
	uint32_t place;
};

struct rd_expiry {
	struct entry **heap;
	uint32_t count, cap;
	struct rd_map by_idx;
};

struct rd_expiry *rd_expiry_new(struct rd_daemon *d)
{
	return calloc(1, sizeof(struct rd_expiry));
}

struct rd_expiry *rd_expiry_free(struct rd_expiry *expiry)
{
	if (!expiry)
		return NULL;
	for (uint32_t i = 0; i < expiry->count; i++)
		free(expiry->heap[i]);
	free(expiry->heap);
	rd_map_done(&expiry->by_idx);
	free(expiry);
	return NULL;
}

/* ---- the heap ---- */

static void place(struct rd_expiry *x, struct entry *e, uint32_t at)
{
	x->heap[at] = e;
	e->place = at;
}

/* Puts e where its key belongs, starting at the free place at. */
static void sift(struct rd_expiry *x, struct entry *e, uint32_t at)
{
	while (at && x->heap[(at - 1) / 2]->due_unix_ns > e->due_unix_ns) {
		place(x, x->heap[(at - 1) / 2], at);
		at = (at - 1) / 2;
	}
	for (;;) {
		uint32_t child = 2 * at + 1;

		if (child + 1 < x->count &&
		    x->heap[child + 1]->due_unix_ns < x->heap[child]->due_unix_ns)
			child++;
		if (child >= x->count || x->heap[child]->due_unix_ns >= e->due_unix_ns)
			break;
		place(x, x->heap[child], at);
		at = child;
	}
	place(x, e, at);
}

static void forget(struct rd_expiry *x, struct entry *e)
{
	struct entry *last = x->heap[--x->count];

	if (last != e)
		sift(x, last, e->place);
	rd_map_del(&x->by_idx, e->sandbox.idx);
	free(e);
}

static bool make_room(struct rd_expiry *x)
{
	uint32_t cap = x->cap ? x->cap * 2 : 256;
	void *bigger;

	if (x->count < x->cap)
		return true;
	bigger = reallocarray(x->heap, cap, sizeof(x->heap[0]));
	if (!bigger)
		return false;
	x->heap = bigger;
	x->cap = cap;
	return true;
}

static int64_t due_of(int64_t unix_s)
{
	const int64_t max = INT64_MAX / (int64_t)NS_PER_S;

	return (unix_s > max ? max : unix_s) * (int64_t)NS_PER_S;
}

void rd_expiry_note(struct rd_daemon *d, reg_sandbox_id sandbox, int64_t expire_unix_s)
{
	struct rd_expiry *x = d->expiry;
	struct entry *e = rd_map_get(&x->by_idx, sandbox.idx);

	if (e && e->sandbox.gen == sandbox.gen && e->expire_unix_s == expire_unix_s)
		return;
	if (e)
		forget(x, e);
	if (!expire_unix_s || !make_room(x))
		return; /* no room: the sweep comes by again */
	e = malloc(sizeof(*e));
	if (!e || rd_map_put(&x->by_idx, sandbox.idx, e) < 0) {
		free(e);
		return;
	}
	*e = (struct entry){.sandbox = sandbox,
			    .expire_unix_s = expire_unix_s,
			    .due_unix_ns = due_of(expire_unix_s)};
	x->count++;
	sift(x, e, x->count - 1);
}

/* ---- what is due ---- */

static void expire(struct rd_daemon *d, struct reg_sandbox_view *view)
{
	if (reg_stop(d->me, view->sandbox, REG_STOP_EXPIRE, NULL) != REG_OK)
		return; /* it has ended otherwise meanwhile */
	log_info("sandbox expired", "namespace=%s name=%s id=%s late_ms=%lld", view->ns, view->name,
		 view->id,
		 (long long)((clock_unix_ns() - due_of(view->expire_unix_s)) / (int64_t)NS_PER_MS));
	if (reg_view(d->me, view->sandbox, view) == REG_OK)
		rd_stop_track(d, view, true);
}

static void run_one(struct rd_daemon *d, struct entry *e, int64_t now)
{
	struct reg_sandbox_view view;

	if (reg_view(d->me, e->sandbox, &view) != REG_OK || !view.expire_unix_s) {
		forget(d->expiry, e);
	} else if (due_of(view.expire_unix_s) > now) {
		rd_expiry_note(d, view.sandbox, view.expire_unix_s); /* put off */
	} else if (view.state == REG_RESERVED || view.state == REG_STARTING) {
		e->due_unix_ns = now + STARTING_RETRY_NS;
		sift(d->expiry, e, e->place);
	} else {
		/* RESTORED and LOST ones are noted again when their agent brings them back */
		forget(d->expiry, e);
		if (view.state == REG_RUNNING)
			expire(d, &view);
	}
}

void rd_expiry_run(struct rd_daemon *d)
{
	struct rd_expiry *x = d->expiry;
	int64_t now = clock_unix_ns();

	while (x->count && x->heap[0]->due_unix_ns <= now)
		run_one(d, x->heap[0], now);
}
