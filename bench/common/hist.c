/* SPDX-License-Identifier: Apache-2.0 */
/* See hist.h. */
#include "hist.h"

#include <math.h>
#include <string.h>

void hist_clear(struct hist *hist)
{
	memset(hist, 0, sizeof(*hist));
}

/* Below 2 << SUB the cell is the value. Above, shift leaves SUB + 1 bits, of which the top one is
 * always set and is replaced by the number of the doubling. */
uint32_t hist_cell(uint64_t ns)
{
	unsigned int shift;

	if (ns < UINT64_C(2) << HIST_SUB_BITS)
		return (uint32_t)ns;
	if (ns >> HIST_TOP_BIT)
		return HIST_CELLS - 1;
	shift = 63 - (unsigned int)__builtin_clzll(ns) - HIST_SUB_BITS;
	return (uint32_t)((shift << HIST_SUB_BITS) + (ns >> shift));
}

uint64_t hist_cell_end(uint32_t cell)
{
	uint32_t shift;
	uint64_t top;

	if (cell < 2U << HIST_SUB_BITS)
		return cell;
	shift = (cell >> HIST_SUB_BITS) - 1;
	top = cell - (shift << HIST_SUB_BITS);
	return ((top + 1) << shift) - 1;
}

void hist_add(struct hist *hist, uint64_t ns)
{
	if (!hist->count || ns < hist->min_ns)
		hist->min_ns = ns;
	if (ns > hist->max_ns)
		hist->max_ns = ns;
	hist->count++;
	hist->sum_ns += (double)ns;
	hist->cells[hist_cell(ns)]++;
}

uint64_t hist_quantile(const struct hist *hist, double q)
{
	uint64_t rank = (uint64_t)ceil(q * (double)hist->count), seen = 0, end;

	if (!hist->count)
		return 0;
	if (rank < 1)
		rank = 1;
	if (rank >= hist->count)
		return hist->max_ns;
	for (uint32_t i = 0; i < HIST_CELLS; i++) {
		seen += hist->cells[i];
		if (seen < rank)
			continue;
		end = i == HIST_CELLS - 1 ? hist->max_ns : hist_cell_end(i);
		return end < hist->max_ns ? end : hist->max_ns;
	}
	return hist->max_ns;
}

double hist_mean(const struct hist *hist)
{
	return hist->count ? hist->sum_ns / (double)hist->count : 0;
}
