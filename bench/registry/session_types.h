/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of plan, session and report. */
#ifndef BENCH_SESSION_TYPES_H
#define BENCH_SESSION_TYPES_H

#include "arena.h"
#include "crew.h"
#include "session.h"

enum { LANES_MAX = 48, WORLDS_MAX = 16, SESSIONS_MAX = 1024 };

struct samples {
	uint32_t *ticks;
	uint64_t count, capacity;
};

struct lane_run {
	struct lane lane;
	double *round_ns; /* per round: the median block's ns per pair (per take, if only they are
			     timed), the mean over its processes; 0: no block ran together */
	uint64_t blocks, blocks_together;
	uint32_t rounds, capacity;
	double pairs, block_ns; /* sums over all blocks: for the mean and the rate */
	struct samples give, take, pair;
	struct tally tally;
	uint64_t count[REG_COUNT_MAX]; /* what the registry counted meanwhile */
	uint64_t unbalanced, twice;
	struct spread spread, spread_others;
};

struct world_run {
	struct world_spec spec;
	struct world *world;
	struct arena arena;
	bool has_arena;
	struct crew crew;
	struct lane_run *lanes;
	uint32_t lane_count;
	double build_s;
};

struct session {
	char name[64];
	double seconds;
	struct world_run worlds[WORLDS_MAX];
	uint32_t world_count;
	uint32_t rounds;
};

struct plan {
	struct session *sessions[SESSIONS_MAX];
	uint32_t session_count;
};

#endif
