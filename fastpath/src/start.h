/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One sandbox on its way from RESERVED to RUNNING: the store wait of STRONG, the command to the
 * agent, its acknowledgement, the fence when the link broke, the store wait afterwards. Single
 * creates and batch members both go through here. A start outlives the call that wanted it until it
 * is known whether the sandbox runs; then it frees itself.
 */
#ifndef FASTPATH_START_H
#define FASTPATH_START_H

#include "service.h"

enum fp_start_state {
	FP_START_NEW,
	FP_START_STORE,	 /* STRONG: RESERVED, waiting for the store */
	FP_START_SENT,	 /* STARTING, waiting for the agent */
	FP_START_FENCE,	 /* STARTING, asking the agent what became of the command */
	FP_START_STORED, /* RUNNING, waiting for the store */
	FP_START_JOIN,	 /* somebody else's create with the same request_id */
};

struct fp_start {
	TAILQ_ENTRY(fp_start) link;	  /* on svc->store_waits while store_listed */
	TAILQ_ENTRY(fp_start) fence_link; /* on svc->fencing in state FENCE */
	struct fp_service *svc;
	enum fp_start_state state;
	struct reg_lease lease;
	struct fp_blob *spec; /* until it is sent */
	bool strong, wait_stored, alone, rollback, store_listed;
	bool join_lost; /* the create that was joined has not come to anything */
	uint64_t deadline_ns, revision;
	uint64_t sent_ns, agent_ns, start_ns;
	struct fp_park park;
	struct gloop_timer *timer; /* fence: next attempt */
	uint64_t backoff_ns, unready_since_ns;
	void (*on_end)(struct fp_start *start, int status, const char *message);
	void *owner;
	uint32_t index;
	char name[REG_NAME_MAX + 1], agent[REG_NAME_MAX + 1];
};

struct fp_start_params {
	bool strong, wait_stored;
	bool alone; /* no other command follows in this turn: send at once */
	uint64_t deadline_ns;
	/* Called once, perhaps before fp_start_run or _join returns; the start is no longer the
	 * owner's then. */
	void (*on_end)(struct fp_start *start, int status, const char *message);
	void *owner;
	uint32_t index;
};
/* gives; NULL when out of memory. Holds nothing yet: fp_start_free, or one of the next two. */
struct fp_start *fp_start_new(struct fp_service *svc, const struct fp_start_params *params);
void fp_start_free(struct fp_start *start);
/* Takes over a reservation. spec: shared. */
void fp_start_run(struct fp_start *start, const struct reg_lease *lease, struct fp_blob *spec);
/* Waits for the outcome of another create of that sandbox. */
void fp_start_join(struct fp_start *start, reg_sandbox_id sandbox);
/*
 * The owner waits no longer: on_end is called from inside. Not started yet: undone. Being started:
 * resolved in the background, and kept when it runs unless rollback. Running, but the store has not
 * confirmed: stopped.
 */
void fp_start_abandon(struct fp_start *start, const char *why, bool rollback);

/* At the end of the service: lets go of those that still ask; their records are the reaper's. */
void fp_start_drop_all(struct fp_service *svc);
/* Timer of the service while somebody waits for the store: notices that no fsb-crdsync is there. */
void fp_store_watch(void *svc);

#endif
