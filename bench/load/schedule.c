/* SPDX-License-Identifier: Apache-2.0 */
/* See schedule.h. */
#include "schedule.h"

#define REACHED 0.99

void schedule_init(struct schedule *s, double rate, uint64_t start_ns, uint64_t warmup_ns,
		   uint64_t duration_ns, uint64_t seed)
{
	rng_seed(&s->rng, seed);
	s->start_ns = start_ns;
	s->measure_ns = start_ns + warmup_ns;
	s->end_ns = s->measure_ns + duration_ns;
	s->gap_ns = 1e9 / rate;
	s->offset_ns = rng_exp(&s->rng, s->gap_ns);
}

uint64_t schedule_next_ns(const struct schedule *s)
{
	if (s->offset_ns >= (double)(s->end_ns - s->start_ns))
		return UINT64_MAX;
	return s->start_ns + (uint64_t)s->offset_ns;
}

bool schedule_take(struct schedule *s, uint64_t now_ns, uint64_t *ret_at_ns)
{
	uint64_t at = schedule_next_ns(s);

	if (at > now_ns || at == UINT64_MAX)
		return false;
	s->offset_ns += rng_exp(&s->rng, s->gap_ns);
	*ret_at_ns = at;
	return true;
}

bool schedule_is_measured(const struct schedule *s, uint64_t at_ns)
{
	return at_ns >= s->measure_ns && at_ns < s->end_ns;
}

double outcome_offered(const struct outcome *o)
{
	return o->window_ns ? (double)o->arrivals / ((double)o->window_ns / 1e9) : 0;
}

double outcome_achieved(const struct outcome *o)
{
	uint64_t ns = o->spent_ns > o->window_ns ? o->spent_ns : o->window_ns;

	return ns ? (double)o->done / ((double)ns / 1e9) : 0;
}

bool outcome_reached(const struct outcome *o)
{
	return o->arrivals && outcome_achieved(o) >= REACHED * outcome_offered(o);
}
