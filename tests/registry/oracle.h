/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A brute-force registry: plain arrays, strings compared, every question answered by looking at
 * everything. It shares no code with registry/src.
 */
#ifndef TESTS_REGISTRY_ORACLE_H
#define TESTS_REGISTRY_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#include "registry/registry.h"

enum {
	ORA_AGENTS = 40,
	ORA_SANDBOXES = 512,
	ORA_IMAGES = 12,
	ORA_PORTS = 4,
	ORA_SLOTS = 64,
	ORA_POOLS = 4,
};

struct ora_agent {
	bool joined, ready;
	uint32_t idx; /* reg_agent_id */
	int pool;
	uint32_t slots;
	bool image[ORA_IMAGES];
	bool slot[ORA_SLOTS]; /* held */
};

struct ora_sandbox {
	enum reg_state state; /* REG_FREE: unused */
	bool deleting, expiring;
	bool maybe_stored;
	reg_sandbox_id handle;
	char name[16], request_id[16]; /* "": none */
	uint64_t hash;
	int pool, image;
	int agent; /* index in agents; -1: holds no slot */
	uint32_t slot, slot_gen;
	uint16_t ports[ORA_PORTS];
	uint32_t port_count;
};

struct oracle {
	struct ora_agent agents[ORA_AGENTS];
	struct ora_sandbox sandboxes[ORA_SANDBOXES];
	bool pool_known[ORA_POOLS]; /* pools stay when their agents move away */
};

struct ora_ask {
	char name[16], request_id[16];
	uint64_t hash;
	int pool, image;
	uint16_t ports[ORA_PORTS];
	uint32_t port_count;
};

/* What reserve has to answer. */
struct ora_answer {
	enum reg_status status;
	enum reg_status or_status; /* just as right: two things are wrong at once */
	int other;		   /* sandbox that is in the way; -1: none */
	uint32_t score;		   /* lowest score among agents that qualify; UINT32_MAX: none */
};

void ora_answer(const struct oracle *ora, const struct ora_ask *ask, struct ora_answer *ret);
uint32_t ora_allocated(const struct oracle *ora, int agent);
uint32_t ora_score(const struct oracle *ora, int agent, int image);
/* May this agent be chosen for it at all? */
bool ora_may_take(const struct oracle *ora, int agent, const struct ora_ask *ask);
int ora_agent_by_idx(const struct oracle *ora, uint32_t idx);
int ora_unused(const struct oracle *ora);
/* Holds its slot and ports. */
bool ora_holds(const struct ora_sandbox *sandbox);
/* Found by name. */
bool ora_visible(const struct ora_sandbox *sandbox);
void ora_give_back(struct oracle *ora, struct ora_sandbox *sandbox);

#endif
