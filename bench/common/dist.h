/* SPDX-License-Identifier: Apache-2.0 */
/* Durations given on a command line: fixed, uniform or exponential; and fractions. */
#ifndef BENCH_DIST_H
#define BENCH_DIST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "rng.h"

/* What dist_parse takes, for --help. */
#define DIST_SYNTAX "T, uniform:T:T or exp:MEAN; T in µs, or with us, ms, s"

enum dist_kind { DIST_FIXED, DIST_UNIFORM, DIST_EXP };

struct dist {
	enum dist_kind kind;
	uint64_t a_ns, b_ns; /* the value; lowest and highest; the mean */
};

/* option names it in the message: "--ack-delay". -EINVAL. At most an hour. */
int dist_parse(const char *option, const char *text, struct dist *ret, struct err *err);
uint64_t dist_draw(const struct dist *dist, struct rng *rng);
/* Every draw is 0. */
bool dist_is_zero(const struct dist *dist);

/* A decimal number from 0 to max, whole string. */
int fraction_parse(const char *option, const char *text, double max, double *ret, struct err *err);

#endif
