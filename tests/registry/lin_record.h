/* SPDX-License-Identifier: Apache-2.0 */
/* Makes histories: workers, threads or processes, that call the registry at once in a small world
 * and note when each call began and ended. */
#ifndef TESTS_REGISTRY_LIN_RECORD_H
#define TESTS_REGISTRY_LIN_RECORD_H

#include "lin.h"
#include "rig.h"

enum { REC_WORKERS = 4, REC_OPS = LIN_OPS / REC_WORKERS };

/* What a round is like; the seed decides. */
struct rec_round {
	struct lin_world world;
	uint64_t seed;
	uint32_t workers, ops; /* calls of each */
	uint32_t names, rids, ports;
	bool gangs, scrubs;
	bool ticks;    /* workers are interrupted at any instruction */
	uint32_t slow; /* this worker is interrupted for longer; REC_WORKERS and more: nobody */
	uint32_t stir; /* of 100 passes of a failpoint so many give way to others */
};

struct rec_log {
	uint32_t count;
	struct lin_op ops[REC_OPS];
};

struct rec_shared {
	struct rig_barrier barrier;
	struct rec_round round;
	bool over;
	reg_agent_id agents[LIN_AGENTS];
	struct rec_log log[REC_WORKERS];
};

/* Before workers start: the steps at which they give way. */
void rec_prepare(void);
/* One worker, from barrier to barrier until it is over; the parent takes part in each barrier. */
void rec_worker(struct rec_shared *shared, struct reg_self *me, uint32_t no);
/* The parent's part of a round: sets the world up, lets the workers go, gathers and cleans up. */
void rec_round(struct rig *rig, struct rec_shared *shared, uint64_t seed, struct lin_history *ret);
void rec_over(struct rec_shared *shared);

#endif
