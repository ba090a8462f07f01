/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two ways of timing. Blocks of pairs between two clock reads give the mean cost; a clock read
 * costs as much as a small reservation, so a sum of singly timed operations would not. Singly timed
 * operations give the quantiles, each with one clock read in it, whose cost is reported beside
 * them.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "subject.h"

enum { SAMPLES_MAX = 20000, PREPARE_MAX = 256 };

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double measure_median(double *values, uint32_t count)
{
	if (count == 0)
		return 0;
	qsort(values, count, sizeof(*values), compare_double);
	return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

static void quantiles(uint64_t *samples, uint32_t count, struct quantiles *ret)
{
	base_bug(count == 0);
	qsort(samples, count, sizeof(*samples), compare_u64);
	ret->p50 = samples[count / 2];
	ret->p90 = samples[(uint64_t)count * 90 / 100];
	ret->p99 = samples[(uint64_t)count * 99 / 100];
	ret->p999 = samples[(uint64_t)count * 999 / 1000];
	ret->max = samples[count - 1];
}

uint64_t measure_clock_cost_ns(void)
{
	enum { READS = 64, ROUNDS = 1001 };
	static double rounds[ROUNDS];

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t start = clock_mono_ns(), end = start;

		for (int j = 0; j < READS; j++)
			end = clock_mono_ns();
		rounds[i] = (double)(end - start) / READS;
	}
	return (uint64_t)(measure_median(rounds, ROUNDS) + 0.5);
}

uint64_t measure_block(const struct subject *subject, void *self, uint32_t pairs)
{
	uint64_t total = 0;

	while (pairs) {
		/* The CAS pair has nothing to prepare, and chunks would only add clock reads. */
		uint32_t n = subject->prepare && pairs > PREPARE_MAX ? PREPARE_MAX : pairs;
		uint64_t start;

		if (subject->prepare)
			subject->prepare(self, n);
		start = clock_mono_ns();
		subject->pairs(self, n);
		total += clock_mono_ns() - start;
		pairs -= n;
	}
	return total;
}

uint32_t measure_block_size(const struct subject *subject, void *self, uint64_t block_ns)
{
	uint32_t pairs = 1;

	(void)measure_block(subject, self, 1); /* first touch */
	while (pairs < 1u << 20 && measure_block(subject, self, pairs) < block_ns / 2)
		pairs *= 2;
	return pairs;
}

void measure_singly(const struct subject *subject, void *self, uint64_t budget_ns,
		    struct measurement *ret)
{
	static uint64_t reserve[SAMPLES_MAX], release[SAMPLES_MAX], pair[SAMPLES_MAX];
	uint64_t deadline = clock_mono_ns() + budget_ns;
	uint32_t n = 0;

	while (n < SAMPLES_MAX) {
		uint64_t start, middle, end;

		if (subject->prepare)
			subject->prepare(self, 1);
		start = clock_mono_ns();
		subject->reserve(self);
		middle = clock_mono_ns();
		subject->release(self);
		end = clock_mono_ns();
		reserve[n] = middle - start;
		release[n] = end - middle;
		pair[n++] = end - start;
		if (end > deadline)
			break;
	}
	ret->samples = n;
	quantiles(reserve, n, &ret->reserve);
	quantiles(release, n, &ret->release);
	quantiles(pair, n, &ret->pair);
}
