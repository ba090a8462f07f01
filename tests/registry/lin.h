/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Histories of concurrent calls, and the judgement whether there is an order of single moments, one
 * or a few per call and within it, that a registry run by one caller at a time could have answered
 * so (Wing and Gong's search, with a memory of what has been tried). Knows nothing of registry/src.
 */
/* clang-format off */
/*
 * What a call promises at one moment, and what only at several:
 *
 *   reserve, a gang      One moment: the names, request ids, slots and ports are free, and from then on theirs. Before, but
 *                        within the same call, a moment in which no agent with the image had room, when the chosen one has
 *                        no image.
 *   NO_CAPACITY          One moment in which no slot is free; with ports: for each agent a moment without a free slot.
 *   PORT_CONFLICT        For each agent a moment without a free slot or with one of the ports in use, and one moment in which
 *                        some agent has one of them in use.
 *   NAME_*, REQUEST_*    One moment in which it is held.
 *   get, starting, commit, abort, stop, stopped: one moment.
 *   list                 For each sandbox a moment in which it is, or is not, visible.
 *
 * Exceptions by name, each only while the other call is open:
 *
 *   in flight            A reservation holds what it asks for before it is visible; one with ports and a gang may hold other
 *                        slots and ports for a moment, and one that is refused its keys.
 *   on its way out       An abort or a stop frees name, slot and ports at any moment until its end.
 */
/* clang-format on */
#ifndef TESTS_REGISTRY_LIN_H
#define TESTS_REGISTRY_LIN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "registry/registry.h"

enum {
	LIN_AGENTS = 4,
	LIN_SLOTS = 3,
	LIN_MEMBERS = 3,
	LIN_OPS = 40,
	LIN_SANDBOXES = 40,
	LIN_NONE = 255,
};

enum lin_kind {
	LIN_RESERVE, /* one or, as a gang, several: all or none */
	LIN_STARTING,
	LIN_COMMIT,
	LIN_ABORT,
	LIN_STOP, /* to delete */
	LIN_STOPPED,
	LIN_GET,
	LIN_LIST,
};

struct lin_member {
	uint8_t name, rid, hash; /* rid LIN_NONE: none */
	uint8_t ports;		 /* a bit each */
	uint8_t image;		 /* 0: what agents with image have; 1: what nobody has */
	enum reg_status status;
	reg_sandbox_id sandbox; /* its own, or the one in the way */
	uint8_t agent, slot;
};

struct lin_op {
	uint64_t from, to; /* one clock for all workers */
	enum lin_kind kind;
	uint8_t worker;
	enum reg_status status;
	uint8_t n; /* members; seen */
	struct lin_member member[LIN_MEMBERS];
	reg_sandbox_id sandbox;		    /* whose transition; GET: found */
	uint8_t name;			    /* GET: asked */
	enum reg_state state;		    /* GET: found; STOP: before */
	bool deleting;			    /* GET */
	uint8_t agent, slot;		    /* GET */
	reg_sandbox_id seen[LIN_SANDBOXES]; /* LIST */
};

struct lin_world {
	uint8_t agents;
	uint8_t slots[LIN_AGENTS];
	bool image[LIN_AGENTS];
	bool gangs_at_once; /* the members of a gang appear in one moment, not one by one */
};

struct lin_history {
	struct lin_world world;
	uint32_t count;
	struct lin_op ops[LIN_OPS];
};

struct lin_overlap {
	uint32_t most; /* calls open at one moment */
	double mean;   /* over all calls: the most that were open at one moment within it */
};

enum lin_verdict { LIN_YES, LIN_NO, LIN_TOO_HARD };

enum lin_verdict lin_judge(const struct lin_history *history);
void lin_overlap(const struct lin_history *history, struct lin_overlap *ret);
void lin_print(const struct lin_history *history, FILE *to);

#endif
