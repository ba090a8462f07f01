/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A brute-force registry: plain arrays, every question answered by looking at everything. It shares
 * no code with registry/src. Texts are numbers here: name 7 is "n7", and so on (walk.h).
 */
#ifndef TESTS_REGISTRY_ORACLE_H
#define TESTS_REGISTRY_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#include "registry/registry.h"

enum {
	ORA_AGENTS = 320,
	ORA_SANDBOXES = 2600,
	ORA_IMAGES = 8, /* the one behind the last is known to nobody */
	ORA_PORTS = 3,
	ORA_POOLS = 5,
	ORA_NONE = -1,
};

#define ORA_BIT(status) (UINT64_C(1) << (status))

struct ora_agent {
	bool joined, ready, draining;
	bool removed;	   /* and its row is kept */
	uint32_t idx, gen; /* reg_agent_id */
	int pool;
	uint32_t slots;
	uint32_t images;      /* a bit each */
	uint32_t incarnation; /* joins */
};

struct ora_sandbox {
	enum reg_state state; /* REG_FREE: unused; REG_CLAIMED: a member of a batch in the making */
	bool deleting, expiring, exit_seen;
	bool maybe_stored;
	reg_sandbox_id handle;
	int name, rid; /* rid ORA_NONE: none */
	bool rid_held; /* a restored one may have to do without */
	uint64_t hash;
	int pool, image;
	uint32_t owner;	 /* participant; UINT32_MAX: nobody */
	int agent;	 /* where it is or was; ORA_NONE: nowhere yet */
	bool held;	 /* a slot */
	bool ports_held; /* not when somebody else had one of them where it was adopted */
	uint32_t slot, slot_gen;
	uint16_t ports[ORA_PORTS];
	uint32_t port_count;
	int64_t expire;
	enum reg_policy policy;
	uint32_t labels; /* 0: none; else a version of their text */
};

struct oracle {
	struct ora_agent agents[ORA_AGENTS];
	struct ora_sandbox sandboxes[ORA_SANDBOXES];
	uint32_t high;		    /* sandboxes at and above were never used */
	uint32_t limit;		    /* of records, GONE ones included */
	uint32_t gone;		    /* deleted, and the store may have them yet */
	bool pool_known[ORA_POOLS]; /* pools stay when their agents move away */
	bool pool_declared[ORA_POOLS];
	uint64_t unmet[ORA_POOLS];
	uint32_t gone_agent[ORA_AGENTS], gone_pool[ORA_POOLS]; /* what they name */
};

struct ora_ask {
	int name, rid;
	uint64_t hash;
	int pool, image;
	uint16_t ports[ORA_PORTS];
	uint32_t port_count;
};

/* What reserve has to answer. */
struct ora_answer {
	uint64_t statuses;   /* a bit for each that is right: two things may be wrong at once */
	int by_rid, by_name; /* sandboxes in the way; ORA_NONE: none */
	uint32_t score;	     /* lowest among agents that qualify; UINT32_MAX: none */
};

void ora_answer(const struct oracle *ora, const struct ora_ask *ask, struct ora_answer *ret);
uint32_t ora_allocated(const struct oracle *ora, int agent);
uint32_t ora_score(const struct oracle *ora, int agent, int image);
/* May this agent be chosen for it at all? */
bool ora_may_take(const struct oracle *ora, int agent, const struct ora_ask *ask);
/* Agents that may take it, and slots that are free on these. */
void ora_room(const struct oracle *ora, const struct ora_ask *ask, uint32_t *ret_agents,
	      uint32_t *ret_slots);
bool ora_slot_held(const struct oracle *ora, int agent, uint32_t slot);
int ora_agent_by_idx(const struct oracle *ora, uint32_t idx);
/* An unused sandbox; ORA_NONE: the table is full. */
int ora_unused(struct oracle *ora);
uint32_t ora_used(const struct oracle *ora);
/* The nth used one; n below ora_used. */
int ora_nth(const struct oracle *ora, uint32_t n);
/* Found by name. */
bool ora_visible(const struct ora_sandbox *sandbox);

/* What follows a call; each returns what the call has to return and does to the sandbox what that
 * means. me: the calling participant. */
enum reg_status ora_starting(struct ora_sandbox *s, uint32_t me);
enum reg_status ora_commit(struct ora_sandbox *s, uint32_t me);
enum reg_status ora_abort(struct oracle *ora, struct ora_sandbox *s, uint32_t me);
enum reg_status ora_stop(struct ora_sandbox *s, enum reg_stop_reason reason);
enum reg_status ora_stopped(struct oracle *ora, struct ora_sandbox *s);
enum reg_status ora_exited(struct ora_sandbox *s);
enum reg_status ora_lost(struct ora_sandbox *s);
/* LOST with its slot still held → RUNNING. */
enum reg_status ora_found(struct ora_sandbox *s);
/* As adopted on that agent with that slot. */
enum reg_status ora_adopt(const struct oracle *ora, struct ora_sandbox *s, int agent, uint32_t slot,
			  uint32_t slot_gen);
/* It is gone for everybody but the store. */
void ora_gone(struct oracle *ora, struct ora_sandbox *s);

#endif
