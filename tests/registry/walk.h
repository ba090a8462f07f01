/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random walks: a world, a script of operations for it, and a run of the script against an arena
 * and the oracle at once. An operation holds plain numbers that are taken modulo what there is when
 * its turn comes, so that any part of a script is a script, and a failing one can be shrunk.
 */
#ifndef TESTS_REGISTRY_WALK_H
#define TESTS_REGISTRY_WALK_H

#include "oracle.h"
#include "rig.h"

enum { WALK_PARTS = 3, WALK_OPS = 4000, WALK_MEMBERS = 8, WALK_DEAD = 32 };

/* weight, name; the weights sum up to what a busy registry sees */
#define WALK_KINDS(X)                                                                              \
	X(JOIN, 3)                                                                                 \
	X(READY, 4)                                                                                \
	X(IMAGES, 2)                                                                               \
	X(DRAIN, 2)                                                                                \
	X(CAPACITY, 3)                                                                             \
	X(REMOVE, 2)                                                                               \
	X(RESERVE, 50)                                                                             \
	X(BATCH, 8)                                                                                \
	X(STARTING, 22)                                                                            \
	X(COMMIT, 22)                                                                              \
	X(ABORT, 10)                                                                               \
	X(STOP, 18)                                                                                \
	X(STOPPED, 18)                                                                             \
	X(EXITED, 6)                                                                               \
	X(LOST, 4)                                                                                 \
	X(FOUND, 4)                                                                                \
	X(INSERT, 2)                                                                               \
	X(ADOPT, 3)                                                                                \
	X(UPDATE, 3)                                                                               \
	X(GET, 6)                                                                                  \
	X(STALE, 6)                                                                                \
	X(LEAVE, 1)                                                                                \
	X(STORE, 2)                                                                                \
	X(POOL, 1)                                                                                 \
	X(SWEEP, 1)                                                                                \
	X(SCRUB, 1)                                                                                \
	X(COMPARE, 1)

enum walk_kind {
#define WALK_ENUM(name, weight) WALK_##name,
	WALK_KINDS(WALK_ENUM)
#undef WALK_ENUM
		WALK_KIND_MAX
};

struct walk_op {
	uint8_t kind, who;
	uint16_t a, b, c, d, e;
};

struct walk_world {
	const char *name;
	int agents, pools, images;
	int capacity; /* at most; one in eight agents is unlimited */
	uint32_t unlimited, records;
	int names, rids, ports, parts;
	bool level; /* nearly all agents of the full capacity */
};

struct walk {
	uint64_t seed;
	struct walk_world world;
	uint32_t count;
	struct walk_op ops[WALK_OPS];
};

/* What a run was like, summed up over runs. */
struct walk_sum {
	uint64_t ops, compares;
	uint64_t by_kind[WALK_KIND_MAX];    /* done, not skipped */
	uint64_t by_status[REG_STATUS_MAX]; /* of reserve */
	uint64_t batches_all, batches_undone;
	uint64_t reclaimed, swept; /* by sweeps; agents and pools that were gone after one */
	uint64_t heavy;		   /* chosen with the image, above what a missing one weighs */
};

/* The seed alone decides world and script. */
void walk_make(struct walk *walk, uint64_t seed);
const char *walk_kind_name(unsigned kind);
/* Runs it in a new arena at path; in a child process: a difference ends it (rig.h). loud prints
 * each operation. */
void walk_run(const struct walk *walk, const char *path, bool loud, struct walk_sum *sum);

#endif
