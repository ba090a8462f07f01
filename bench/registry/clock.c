/* SPDX-License-Identifier: Apache-2.0 */
/* Rate and cost of the counter. */
#include "clock.h"

#include <stdlib.h>

#include "base/clock.h"

double ticks_per_ns(void)
{
	static double rate;

	if (rate == 0) {
		uint64_t ns = clock_mono_ns(), ticks = ticks_begin();

		while (clock_mono_ns() - ns < 50 * NS_PER_MS)
			;
		rate = (double)(ticks_end() - ticks) / (double)(clock_mono_ns() - ns);
	}
	return rate;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

double ticks_cost_ns(void)
{
	enum { COUNT = 1001 };
	static uint64_t cost[COUNT];

	for (int i = 0; i < COUNT; i++) {
		uint64_t begin = ticks_begin();

		cost[i] = ticks_end() - begin;
	}
	qsort(cost, COUNT, sizeof(cost[0]), compare);
	return (double)cost[COUNT / 2] / ticks_per_ns();
}
