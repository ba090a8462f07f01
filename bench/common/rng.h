/* SPDX-License-Identifier: Apache-2.0 */
/* Random numbers that a seed repeats: xoshiro256** (Blackman and Vigna), seeded by splitmix64. Not
 * for secrets. */
#ifndef BENCH_RNG_H
#define BENCH_RNG_H

#include <stdint.h>

struct rng {
	uint64_t s[4];
};

void rng_seed(struct rng *rng, uint64_t seed);
uint64_t rng_u64(struct rng *rng);
/* 0 to n - 1, n > 0; the bias is below n / 2^64. */
uint64_t rng_below(struct rng *rng, uint64_t n);
/* In (0, 1]. */
double rng_unit(struct rng *rng);
/* Exponentially distributed with that mean, in its unit. */
double rng_exp(struct rng *rng, double mean);

#endif
