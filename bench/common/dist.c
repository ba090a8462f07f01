/* SPDX-License-Identifier: Apache-2.0 */
/* See dist.h. */
#include "dist.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define MAX_NS (3600 * NS_PER_S)

/* A plain decimal number at the start of text; strtod alone would take "nan", "0x1p3" and " 1". */
static bool decimal(const char *text, double *ret, const char **ret_end)
{
	char *end;

	if (!strspn(text, "0123456789.") || strspn(text, "0123456789.") > 18)
		return false;
	errno = 0;
	*ret = strtod(text, &end);
	*ret_end = end;
	return !errno && end == text + strspn(text, "0123456789.");
}

/* One T up to stop (which is ':' or '\0'). */
static bool duration(const char *text, char stop, uint64_t *ret, const char **ret_end)
{
	static const struct {
		const char *name;
		double ns;
	} units[] = {{"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"", 1e3}};
	double value;
	const char *at;

	if (!decimal(text, &value, &at))
		return false;
	for (unsigned int i = 0; i < 4; i++) {
		size_t n = strlen(units[i].name);

		if (strncmp(at, units[i].name, n) || at[n] != stop)
			continue;
		if (value * units[i].ns > (double)MAX_NS)
			return false;
		*ret = (uint64_t)llround(value * units[i].ns);
		*ret_end = at + n + (stop ? 1 : 0);
		return true;
	}
	return false;
}

static bool parse(const char *text, struct dist *ret)
{
	const char *at = text;

	if (!strncmp(text, "uniform:", 8)) {
		ret->kind = DIST_UNIFORM;
		return duration(text + 8, ':', &ret->a_ns, &at) &&
		       duration(at, '\0', &ret->b_ns, &at) && ret->a_ns <= ret->b_ns;
	}
	ret->kind = strncmp(text, "exp:", 4) ? DIST_FIXED : DIST_EXP;
	return duration(text + (ret->kind == DIST_EXP ? 4 : 0), '\0', &ret->a_ns, &at);
}

int dist_parse(const char *option, const char *text, struct dist *ret, struct err *err)
{
	struct dist dist = {0};

	if (!parse(text, &dist))
		return err_set(err, -EINVAL, "%s '%.60s': want %s, at most 3600s", option, text,
			       DIST_SYNTAX);
	*ret = dist;
	return 0;
}

uint64_t dist_draw(const struct dist *dist, struct rng *rng)
{
	double ns;

	switch (dist->kind) {
	case DIST_UNIFORM:
		return dist->a_ns + rng_below(rng, dist->b_ns - dist->a_ns + 1);
	case DIST_EXP:
		ns = rng_exp(rng, (double)dist->a_ns);
		return ns < (double)MAX_NS ? (uint64_t)ns : MAX_NS;
	default:
		return dist->a_ns;
	}
}

bool dist_is_zero(const struct dist *dist)
{
	return !dist->a_ns && !dist->b_ns;
}

int fraction_parse(const char *option, const char *text, double max, double *ret, struct err *err)
{
	const char *end;
	double value;

	if (!decimal(text, &value, &end) || *end || value > max)
		return err_set(err, -EINVAL, "%s '%.60s': want a number from 0 to %g", option, text,
			       max);
	*ret = value;
	return 0;
}
