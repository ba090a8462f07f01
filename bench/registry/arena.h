/* SPDX-License-Identifier: Apache-2.0 */
/* The arena of a world: agents, the base of sandboxes that run all the time, the books. */
#ifndef BENCH_ARENA_H
#define BENCH_ARENA_H

#include "subject.h"

struct arena {
	const struct world *world;
	struct reg *reg;
	struct reg_self *me; /* the parent's, for administration */
	char path[64];
};

/* The file stays until arena_unlink: the processes of the world attach by its path. */
void arena_new(struct arena *arena, const struct world *world);
void arena_unlink(const struct arena *arena);
void arena_done(struct arena *arena);

/* In a process: reserves and commits the base, as nobody's. */
void arena_fill(struct reg *reg, const struct world *world);

/* Free slots, over all and of the agents with each image. */
void arena_room(const struct arena *arena, uint64_t *ret_room,
		uint64_t ret_image_room[WORLD_IMAGES]);

/* Contradictions in the arena, and differences of its counts to what is held: the base, and held
 * leases beside it, of which hidden ones have no names. */
uint64_t arena_unbalanced(const struct arena *arena, uint64_t held, bool hidden);
/* Leases that name one slot twice; slot UINT32_MAX: no slot in particular. Sorts. */
uint64_t leases_twice(struct reg_lease *leases, uint32_t count);

struct spread {
	uint32_t lowest, highest;
};
/* Loads of equal agents: where one image is asked for and only some have it, those; *ret_others the
 * ones without. Else all. */
void arena_spread(const struct arena *arena, struct spread *ret, struct spread *ret_others);

/* Prints what failed and ends the process. */
void must(enum reg_status status, const char *what);

#endif
