/* SPDX-License-Identifier: Apache-2.0 */
/* Percentiles by sorting; the samples here have at most some ten thousand values. */
#include "sample.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void sample_add(struct sample *sample, uint64_t ns)
{
	if (sample->n == sample->size) {
		size_t size = sample->size ? 2 * sample->size : 64;
		uint64_t *larger = realloc(sample->ns, size * sizeof(*larger));

		if (!larger) {
			(void)fputs("out of memory\n", stderr);
			exit(1);
		}
		sample->ns = larger;
		sample->size = size;
	}
	sample->ns[sample->n++] = ns;
}

static int compare(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left;
	uint64_t b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

uint64_t sample_percentile(struct sample *sample, double p)
{
	size_t rank;

	if (!sample->n)
		return 0;
	qsort(sample->ns, sample->n, sizeof(*sample->ns), compare);
	rank = (size_t)ceil(p / 100.0 * (double)sample->n);
	return sample->ns[rank ? rank - 1 : 0];
}

void sample_free(struct sample *sample)
{
	free(sample->ns);
	*sample = (struct sample){NULL};
}
