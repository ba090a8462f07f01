/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Absolute deadlines to some ten microseconds, on a gloop's thread: a heap and one timerfd. (A
 * gloop_timer is as coarse as gRPC's poller, a millisecond.)
 */
#ifndef BENCH_DUE_H
#define BENCH_DUE_H

#include <stddef.h>
#include <stdint.h>

#include "base/gloop.h"

struct due;

/* Part of the caller's struct, zeroed before its first use. */
struct due_item {
	uint64_t at_ns; /* CLOCK_MONOTONIC */
	size_t place;	/* in the heap, from 1; 0: not waiting */
	void (*fn)(struct due_item *item);
};

/* gives. */
struct due *due_new(struct gloop *loop, struct err *err);
/* What still waits is forgotten. Returns NULL. */
struct due *due_free(struct due *due);
/* Calls fn at at_ns, or soon when that has passed, never from inside this call; an item that waits
 * is moved. -ENOMEM. */
int due_set(struct due *due, struct due_item *item, uint64_t at_ns,
	    void (*fn)(struct due_item *item));
void due_cancel(struct due *due, struct due_item *item);

#endif
