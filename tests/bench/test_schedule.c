/* SPDX-License-Identifier: Apache-2.0 */
/* The open loop's arithmetic: arrivals on an absolute schedule, and when a rate counts as reached.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "hist.h"
#include "schedule.h"

#define S  UINT64_C(1000000000)
#define MS UINT64_C(1000000)

static void arrivals_are_poisson(void **state)
{
	struct schedule s;
	uint64_t at, last = 0, n = 0, measured = 0;
	double sum = 0, squares = 0;

	schedule_init(&s, 1000, 100 * S, 10 * S, 90 * S, 3);
	while (schedule_take(&s, UINT64_MAX - 1, &at)) {
		double gap = (double)(at - (n ? last : 100 * S));

		assert_true(at >= last && at >= 100 * S && at < 200 * S);
		sum += gap;
		squares += gap * gap;
		last = at;
		n++;
		measured += schedule_is_measured(&s, at);
	}
	assert_int_equal(schedule_next_ns(&s), UINT64_MAX);
	/* 100,000 expected: within five standard deviations */
	assert_in_range(n, 100000 - 1581, 100000 + 1581);
	assert_in_range(measured, 90000 - 1500, 90000 + 1500);
	/* a gap's standard deviation is its mean */
	assert_in_range(
		(uint64_t)(squares / (double)n / (sum / (double)n) / (sum / (double)n) * 1000),
		1940, 2060);
}

static void nothing_is_due_early(void **state)
{
	struct schedule s;
	uint64_t first, at;

	schedule_init(&s, 10, 5 * S, 0, 60 * S, 1);
	first = schedule_next_ns(&s);
	assert_false(schedule_take(&s, first - 1, &at));
	assert_int_equal(schedule_next_ns(&s), first);
	assert_true(schedule_take(&s, first, &at));
	assert_int_equal(at, first);
	assert_true(schedule_next_ns(&s) > first);
}

/* The same seed gives the same moments, whether they are asked for in time or much too late. */
static void lateness_does_not_move_arrivals(void **state)
{
	struct schedule prompt, late;
	uint64_t a, b, n = 0;

	schedule_init(&prompt, 500, 0, 0, 10 * S, 11);
	schedule_init(&late, 500, 0, 0, 10 * S, 11);
	for (; schedule_take(&prompt, schedule_next_ns(&prompt), &a); n++) {
		assert_true(schedule_take(&late, 100 * S, &b));
		assert_int_equal(a, b);
	}
	assert_true(n > 1000);
	assert_false(schedule_take(&late, 100 * S, &b));
}

/*
 * A server that answers in 1 ms and stalls once for 1 s, at 1,000/s for 10 s: whoever was due
 * during the stall waited for its end. A tenth of all arrivals are, evenly spread: p99 is about 0.9
 * s, and the largest the stall. From the moment of sending (as a loop that waits sees it) only one
 * would.
 */
static void a_stall_is_charged_to_all_who_were_due(void **state)
{
	struct hist *hist = calloc(1, sizeof(*hist));
	struct schedule s;
	uint64_t at, end;

	assert_non_null(hist);
	schedule_init(&s, 1000, 0, 0, 10 * S, 2);
	while (schedule_take(&s, UINT64_MAX - 1, &at)) {
		end = at + MS;
		if (at >= 4 * S && at < 5 * S)
			end = 5 * S + MS;
		hist_add(hist, end - at);
	}
	assert_int_equal(hist_quantile(hist, 0.5) / MS, 1);
	assert_in_range(hist_quantile(hist, 0.99), 850 * MS, 950 * MS);
	assert_in_range(hist->max_ns, 980 * MS, 1002 * MS);
	free(hist);
}

static void a_rate_is_reached_or_not(void **state)
{
	/* all of it, and the last a bit after the window */
	struct outcome o = {10 * S, 5000, 5000, 10 * S + 3 * MS};

	assert_true(outcome_offered(&o) == 500);
	assert_in_range((uint64_t)outcome_achieved(&o), 499, 500);
	assert_true(outcome_reached(&o));
	/* all ended well, but it took twice as long */
	o.spent_ns = 20 * S;
	assert_true(outcome_achieved(&o) == 250);
	assert_false(outcome_reached(&o));
	/* in time, but 2 % were dropped or failed */
	o.spent_ns = 10 * S;
	o.done = 4900;
	assert_true(outcome_achieved(&o) == 490);
	assert_false(outcome_reached(&o));
	o.done = 4960;
	assert_true(outcome_reached(&o));
	/* nothing was due, or nothing ended: never reached */
	o = (struct outcome){10 * S, 0, 0, 0};
	assert_false(outcome_reached(&o));
	o.arrivals = 100;
	assert_false(outcome_reached(&o));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arrivals_are_poisson),
		cmocka_unit_test(nothing_is_due_early),
		cmocka_unit_test(lateness_does_not_move_arrivals),
		cmocka_unit_test(a_stall_is_charged_to_all_who_were_due),
		cmocka_unit_test(a_rate_is_reached_or_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
