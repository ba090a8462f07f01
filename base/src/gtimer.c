/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One-shot timers in a binary heap. The loop waits no longer than until the first one is due, so an
 * armed timer costs neither an object of gRPC nor a thread. All on the loop's thread.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "gint.h"

#define NOT_ARMED SIZE_MAX

struct gloop_timer {
	struct gtimers *timers;
	void (*fn)(void *arg);
	void *arg;
	uint64_t due_ns;
	uint64_t seq;
	size_t idx; /* in the heap, or NOT_ARMED */
};

static bool timer_before(const struct gloop_timer *a, const struct gloop_timer *b)
{
	return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->seq < b->seq;
}

static void heap_put(struct gtimers *timers, size_t idx, struct gloop_timer *timer)
{
	timers->heap[idx] = timer;
	timer->idx = idx;
}

static void heap_up(struct gtimers *timers, size_t idx, struct gloop_timer *timer)
{
	while (idx > 0 && timer_before(timer, timers->heap[(idx - 1) / 2])) {
		heap_put(timers, idx, timers->heap[(idx - 1) / 2]);
		idx = (idx - 1) / 2;
	}
	heap_put(timers, idx, timer);
}

static void heap_down(struct gtimers *timers, size_t idx, struct gloop_timer *timer)
{
	for (;;) {
		size_t child = 2 * idx + 1;

		if (child >= timers->armed)
			break;
		if (child + 1 < timers->armed &&
		    timer_before(timers->heap[child + 1], timers->heap[child]))
			child++;
		if (!timer_before(timers->heap[child], timer))
			break;
		heap_put(timers, idx, timers->heap[child]);
		idx = child;
	}
	heap_put(timers, idx, timer);
}

/* Puts timer where its key belongs, starting from a place whose occupant is gone. */
static void heap_settle(struct gtimers *timers, size_t idx, struct gloop_timer *timer)
{
	if (idx > 0 && timer_before(timer, timers->heap[(idx - 1) / 2]))
		heap_up(timers, idx, timer);
	else
		heap_down(timers, idx, timer);
}

static void heap_remove(struct gtimers *timers, struct gloop_timer *timer)
{
	size_t idx = timer->idx;
	struct gloop_timer *last = timers->heap[--timers->armed];

	timer->idx = NOT_ARMED;
	if (last != timer)
		heap_settle(timers, idx, last);
}

uint64_t gtimers__next_ns(const struct gtimers *timers)
{
	return timers->armed ? timers->heap[0]->due_ns : UINT64_MAX;
}

bool gtimers__run(struct gtimers *timers, uint64_t now_ns)
{
	uint64_t last_seq =
		timers->seq; /* a timer that arms itself for now waits for the next round */
	bool ran = false;

	while (timers->armed && timers->heap[0]->due_ns <= now_ns &&
	       timers->heap[0]->seq <= last_seq) {
		struct gloop_timer *timer = timers->heap[0];

		heap_remove(timers, timer);
		timer->fn(timer->arg); /* may free the timer */
		ran = true;
	}
	return ran;
}

/* Room for every timer is made when it is created, so that arming can't fail. */
static bool heap_reserve(struct gtimers *timers)
{
	size_t room = timers->room ? 2 * timers->room : 16;
	struct gloop_timer **heap;

	if (timers->timers < timers->room)
		return true;
	heap = realloc(timers->heap, room * sizeof(struct gloop_timer *));
	if (!heap)
		return false;
	timers->heap = heap;
	timers->room = room;
	return true;
}

struct gloop_timer *gloop_timer_new(struct gloop *loop, void (*fn)(void *arg), void *arg)
{
	struct gtimers *timers = gloop__timers(loop);
	struct gloop_timer *timer;

	if (!heap_reserve(timers))
		return NULL;
	timer = malloc(sizeof(*timer));
	if (!timer)
		return NULL;
	*timer = (struct gloop_timer){.timers = timers, .fn = fn, .arg = arg, .idx = NOT_ARMED};
	timers->timers++;
	return timer;
}

void gloop_timer_set(struct gloop_timer *timer, uint64_t delay_ns)
{
	struct gtimers *timers = timer->timers;
	uint64_t now_ns = clock_mono_ns();
	size_t idx = timer->idx == NOT_ARMED ? timers->armed++ : timer->idx;

	timer->due_ns = delay_ns < UINT64_MAX - now_ns ? now_ns + delay_ns : UINT64_MAX - 1;
	timer->seq = ++timers->seq;
	heap_settle(timers, idx, timer);
}

void gloop_timer_cancel(struct gloop_timer *timer)
{
	if (timer->idx != NOT_ARMED)
		heap_remove(timer->timers, timer);
}

struct gloop_timer *gloop_timer_free(struct gloop_timer *timer)
{
	if (!timer)
		return NULL;
	gloop_timer_cancel(timer);
	timer->timers->timers--;
	free(timer);
	return NULL;
}
