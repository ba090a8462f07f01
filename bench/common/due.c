/* SPDX-License-Identifier: Apache-2.0 */
/* See due.h. */
#include "due.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"

/* So many in one turn of the loop, so that what they cause is served in between. */
enum { BURST = 256 };

struct due {
	struct gloop_fd *watch;
	int fd;
	uint64_t armed_ns;	/* what the timerfd is set to; 0: nothing */
	struct due_item **heap; /* heap[1] is the first */
	size_t count, room;
};

static void put(struct due *due, size_t place, struct due_item *item)
{
	due->heap[place] = item;
	item->place = place;
}

static void up(struct due *due, size_t place, struct due_item *item)
{
	for (; place > 1 && item->at_ns < due->heap[place / 2]->at_ns; place /= 2)
		put(due, place, due->heap[place / 2]);
	put(due, place, item);
}

static void down(struct due *due, size_t place, struct due_item *item)
{
	for (;;) {
		size_t child = 2 * place;

		if (child > due->count)
			break;
		if (child < due->count && due->heap[child + 1]->at_ns < due->heap[child]->at_ns)
			child++;
		if (due->heap[child]->at_ns >= item->at_ns)
			break;
		put(due, place, due->heap[child]);
		place = child;
	}
	put(due, place, item);
}

static void settle(struct due *due, size_t place, struct due_item *item)
{
	if (place > 1 && item->at_ns < due->heap[place / 2]->at_ns)
		up(due, place, item);
	else
		down(due, place, item);
}

static void take(struct due *due, struct due_item *item)
{
	struct due_item *last = due->heap[due->count--];
	size_t place = item->place;

	item->place = 0;
	if (last != item)
		settle(due, place, last);
}

/* The timerfd follows the first deadline. Setting it costs a system call, so one that is merely too
 * early is left alone. */
static void arm(struct due *due)
{
	struct itimerspec spec = {0};
	uint64_t at = due->count ? due->heap[1]->at_ns : 0;

	if (!at || (due->armed_ns && due->armed_ns <= at))
		return;
	due->armed_ns = at;
	spec.it_value.tv_sec = (time_t)(at / NS_PER_S);
	spec.it_value.tv_nsec = (long)(at % NS_PER_S);
	base_bug(timerfd_settime(due->fd, TFD_TIMER_ABSTIME, &spec, NULL) != 0);
}

static void on_readable(void *arg, int fd)
{
	struct due *due = arg;
	uint64_t expired, now = clock_mono_ns();

	if (read(fd, &expired, sizeof(expired)) < 0 && errno != EAGAIN)
		base_bug(true);
	due->armed_ns = 0;
	for (int i = 0; i < BURST && due->count && due->heap[1]->at_ns <= now; i++) {
		struct due_item *item = due->heap[1];

		take(due, item);
		item->fn(item); /* may free or set it */
	}
	arm(due);
}

struct due *due_new(struct gloop *loop, struct err *err)
{
	struct due *due = calloc(1, sizeof(*due));

	if (!due) {
		(void)err_set(err, -ENOMEM, "out of memory for timers");
		return NULL;
	}
	due->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (due->fd < 0)
		(void)err_errno(err, errno, "timerfd_create");
	else
		due->watch = gloop_fd_add(loop, due->fd, on_readable, due, err);
	return due->watch ? due : due_free(due);
}

struct due *due_free(struct due *due)
{
	if (!due)
		return NULL;
	if (due->watch)
		gloop_fd_del(due->watch);
	if (due->fd >= 0)
		(void)close(due->fd);
	free(due->heap);
	free(due);
	return NULL;
}

int due_set(struct due *due, struct due_item *item, uint64_t at_ns,
	    void (*fn)(struct due_item *item))
{
	if (!item->place && due->count + 1 >= due->room) {
		size_t room = due->room ? 2 * due->room : 64;
		struct due_item **heap = reallocarray(due->heap, room, sizeof(*heap));

		if (!heap)
			return -ENOMEM;
		due->heap = heap;
		due->room = room;
	}
	item->at_ns = at_ns ? at_ns : 1;
	item->fn = fn;
	settle(due, item->place ? item->place : ++due->count, item);
	arm(due);
	return 0;
}

void due_cancel(struct due *due, struct due_item *item)
{
	if (item->place)
		take(due, item);
}
