/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log-linear histogram of durations: exact below 256 ns, then 128 cells per doubling, so that a
 * quantile is at most 1/128 (0.8 %) above the true one. The largest and the smallest value are kept
 * exactly.
 */
#ifndef BENCH_HIST_H
#define BENCH_HIST_H

#include <stdint.h>

/* Up to 2^40 ns, 18 minutes; longer ones count in the last cell. */
enum { HIST_SUB_BITS = 7, HIST_TOP_BIT = 40 };
#define HIST_CELLS ((uint32_t)((HIST_TOP_BIT - HIST_SUB_BITS + 1) << HIST_SUB_BITS))

struct hist {
	uint64_t count, min_ns, max_ns;
	double sum_ns;
	uint64_t cells[HIST_CELLS];
};

void hist_clear(struct hist *hist);
void hist_add(struct hist *hist, uint64_t ns);
/* The least recorded duration that at least the share q (0 to 1) does not exceed, rounded up to its
 * cell's end and never above the largest; 0 when empty. */
uint64_t hist_quantile(const struct hist *hist, double q);
double hist_mean(const struct hist *hist);
/* The cell of a duration, and the largest duration of a cell: for tests. */
uint32_t hist_cell(uint64_t ns);
uint64_t hist_cell_end(uint32_t cell);

#endif
