/* SPDX-License-Identifier: Apache-2.0 */
/* Results as JSON, for bench/run. Names and texts come from our own tables and need no escaping. */
#include <stdlib.h>

#include "clock.h"
#include "session_types.h"

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void quantiles(FILE *f, const char *name, struct samples *s)
{
	double per_ns = ticks_per_ns();

	qsort(s->ticks, s->count, sizeof(*s->ticks), compare);
	(void)fprintf(f,
		      ", \"%s\": {\"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"p99_9\": %.1f, "
		      "\"max\": %.1f}",
		      name, s->ticks[s->count / 2] / per_ns, s->ticks[s->count * 90 / 100] / per_ns,
		      s->ticks[s->count * 99 / 100] / per_ns,
		      s->ticks[s->count * 999 / 1000] / per_ns, s->ticks[s->count - 1] / per_ns);
}

static void spreads(FILE *f, const struct lane_run *run)
{
	if (run->spread.lowest <= run->spread.highest)
		(void)fprintf(f, ", \"spread\": %u, \"highest_load\": %u",
			      run->spread.highest - run->spread.lowest, run->spread.highest);
	if (run->spread_others.lowest < run->spread_others.highest)
		(void)fprintf(f, ", \"spread_others\": %u",
			      run->spread_others.highest - run->spread_others.lowest);
}

static void counters(FILE *f, const struct lane_run *run)
{
	static const struct {
		const char *name;
		enum reg_counter counters[4];
	} sums[] = {
		{"retries",
		 {REG_COUNT_LOST_CAS, REG_COUNT_NOMINATION_FAILED, REG_COUNT_GANG_WAIT,
		  REG_COUNT_MAX}},
		{"steals", {REG_COUNT_STEAL, REG_COUNT_MAX, REG_COUNT_MAX, REG_COUNT_MAX}},
		{"passes", {REG_COUNT_PASS, REG_COUNT_MAX, REG_COUNT_MAX, REG_COUNT_MAX}},
	};

	for (uint32_t s = 0; s < sizeof(sums) / sizeof(sums[0]); s++) {
		uint64_t sum = 0;

		for (uint32_t i = 0; i < 4; i++)
			if (sums[s].counters[i] < REG_COUNT_MAX)
				sum += run->count[sums[s].counters[i]];
		(void)fprintf(f, ", \"%s\": %.6f", sums[s].name,
			      (double)sum / (double)run->tally.takes);
	}
}

static void lane_write(FILE *f, struct lane_run *run)
{
	const struct lane *lane = &run->lane;
	const struct tally *t = &run->tally;

	(void)fprintf(f, "      {\"subject\": \"%s\", \"processes\": %u, \"foreign\": %s",
		      lane->subject->name, lane->processes, lane->foreign ? "true" : "false");
	(void)fprintf(f, ", \"unit\": %u, \"takes_only\": %s, \"checks\": %s",
		      lane->subject->unit ? lane->subject->unit : 1,
		      lane->subject->takes ? "true" : "false",
		      lane->subject->checks ? "true" : "false");
	(void)fprintf(f, ", \"leases_per_process\": %u, \"pairs_per_block\": %u, \"samples\": %lu",
		      lane->ring, lane->pairs, (unsigned long)run->take.count);
	if (run->block_ns > 0)
		(void)fprintf(f, ", \"pairs_per_second\": %.0f", run->pairs / run->block_ns * 1e9);
	if (run->take.count) {
		quantiles(f, "reserve_ns", &run->take);
		quantiles(f, "release_ns", &run->give);
		quantiles(f, "both_ns", &run->pair);
	}
	(void)fprintf(f, ", \"refused\": %lu, \"refused_while_free\": %lu, \"port_conflicts\": %lu",
		      (unsigned long)t->refused, (unsigned long)t->refused_while_free,
		      (unsigned long)t->conflicts);
	(void)fprintf(f, ", \"image_misses\": %lu, \"image_misses_with_room\": %lu",
		      (unsigned long)t->misses, (unsigned long)t->misses_with_room);
	(void)fprintf(f, ", \"unbalanced\": %lu, \"duplicates\": %lu",
		      (unsigned long)run->unbalanced, (unsigned long)run->twice);
	if (lane->subject->arena && t->takes)
		counters(f, run);
	spreads(f, run);
	(void)fprintf(f, ", \"blocks\": %lu, \"blocks_together\": %lu, \"round_ns\": [",
		      (unsigned long)run->blocks, (unsigned long)run->blocks_together);
	for (uint32_t i = 0; i < run->rounds; i++)
		if (run->round_ns[i] > 0)
			(void)fprintf(f, "%s%.2f", i ? ", " : "", run->round_ns[i]);
		else
			(void)fprintf(f, "%snull", i ? ", " : "");
	(void)fprintf(f, "]}");
}

static void world_write(FILE *f, const struct session *session, const struct world_run *run)
{
	const struct world_spec *spec = &run->spec;

	(void)fprintf(
		f, "    {\"session\": \"%s\", \"agents\": %u, \"fill\": %u, \"images\": \"%s\"",
		session->name, spec->agents, spec->fill_percent, world_images_name(spec->images));
	(void)fprintf(f, ", \"ports\": %s, \"still\": %s, \"free_slots\": %ld, \"free_hot\": %ld",
		      spec->ports ? "true" : "false", spec->still ? "true" : "false",
		      (long)spec->free_slots, (long)spec->free_hot_slots);
	(void)fprintf(f, ", \"slots_per_agent\": %d, \"build_s\": %.2f, \"lanes\": [\n",
		      WORLD_SLOTS, run->build_s);
	for (uint32_t i = 0; i < run->lane_count; i++) {
		lane_write(f, &run->lanes[i]);
		(void)fprintf(f, i + 1 < run->lane_count ? ",\n" : "\n    ]}");
	}
}

void report_write(const struct plan *plan, FILE *f)
{
	const char *comma = "";

	(void)fprintf(f, "{\n  \"clock_ns\": %.2f,\n  \"worlds\": [\n", ticks_cost_ns());
	for (uint32_t s = 0; s < plan->session_count; s++)
		for (uint32_t w = 0; w < plan->sessions[s]->world_count; w++) {
			(void)fprintf(f, "%s", comma);
			world_write(f, plan->sessions[s], &plan->sessions[s]->worlds[w]);
			comma = ",\n";
		}
	(void)fprintf(f, "\n  ]\n}\n");
}

uint64_t report_unbalanced(const struct plan *plan)
{
	uint64_t sum = 0;

	for (uint32_t s = 0; s < plan->session_count; s++)
		for (uint32_t w = 0; w < plan->sessions[s]->world_count; w++) {
			const struct world_run *run = &plan->sessions[s]->worlds[w];

			for (uint32_t i = 0; i < run->lane_count; i++)
				sum += run->lanes[i].unbalanced + run->lanes[i].twice;
		}
	return sum;
}
