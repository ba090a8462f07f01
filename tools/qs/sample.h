/* SPDX-License-Identifier: Apache-2.0 */
/* A set of measured durations and its percentiles (nearest rank). */
#ifndef QS_SAMPLE_H
#define QS_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

struct sample {
	uint64_t *ns;
	size_t n, size;
};

/* Out of memory ends the program. */
void sample_add(struct sample *sample, uint64_t ns);
/* Percentile p in (0, 100]; 0 for an empty sample. Sorts. */
uint64_t sample_percentile(struct sample *sample, double p);
void sample_free(struct sample *sample);

#endif
