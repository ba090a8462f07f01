/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock of singly timed operations: the processor's own counter, which costs a third of a
 * clock_gettime. Fenced on both sides, so that nothing of the operation is left out. Blocks are
 * timed by clock_mono_ns.
 */
#ifndef BENCH_CLOCK_H
#define BENCH_CLOCK_H

#include <stdint.h>
#include <x86intrin.h>

static inline uint64_t ticks_begin(void)
{
	uint64_t t;

	_mm_lfence();
	t = __rdtsc();
	_mm_lfence();
	return t;
}

static inline uint64_t ticks_end(void)
{
	unsigned int cpu;
	uint64_t t = __rdtscp(&cpu);

	_mm_lfence();
	return t;
}

/* Measured against clock_mono_ns, once per process. */
double ticks_per_ns(void);
/* What is in each singly timed figure: the median of nothing, timed. */
double ticks_cost_ns(void);

#endif
