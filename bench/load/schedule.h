/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When operations are due, and whether a rate was reached: arithmetic without a clock. Arrivals are
 * a Poisson process whose moments are drawn from the start of the run on and never from when an
 * earlier operation ended, so a server that stalls is charged for everything that was due
 * meanwhile.
 */
#ifndef LOAD_SCHEDULE_H
#define LOAD_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "rng.h"

struct schedule {
	struct rng rng;
	uint64_t start_ns, measure_ns, end_ns; /* warm-up until measure_ns */
	double gap_ns;			       /* mean */
	double offset_ns;		       /* of the next arrival from start_ns */
};

/* rate: arrivals per second, > 0. */
void schedule_init(struct schedule *s, double rate, uint64_t start_ns, uint64_t warmup_ns,
		   uint64_t duration_ns, uint64_t seed);
/* The moment of the next arrival; UINT64_MAX when there is none before the end. */
uint64_t schedule_next_ns(const struct schedule *s);
/* An arrival whose moment has come: true, and *ret_at_ns is that moment. */
bool schedule_take(struct schedule *s, uint64_t now_ns, uint64_t *ret_at_ns);
/* The moment is in the measured window, not in the warm-up. */
bool schedule_is_measured(const struct schedule *s, uint64_t at_ns);

/* What became of the operations of the measured window. */
struct outcome {
	uint64_t window_ns; /* its length */
	uint64_t arrivals;  /* were due in it */
	uint64_t done;	    /* of these ended well */
	uint64_t spent_ns;  /* from its start to the last of these ends */
};
/* Per second: arrivals over the window. */
double outcome_offered(const struct outcome *o);
/* Per second: done over the longer of the window and what it took. */
double outcome_achieved(const struct outcome *o);
/* The rate was served: at least 99 % of what was due ended well, and in the time. */
bool outcome_reached(const struct outcome *o);

#endif
