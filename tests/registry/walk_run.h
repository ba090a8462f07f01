/* SPDX-License-Identifier: Apache-2.0 */
/* One run of a walk: what its two halves (operations, comparison) share. */
#ifndef TESTS_REGISTRY_WALK_RUN_H
#define TESTS_REGISTRY_WALK_RUN_H

#include "walk.h"

struct walk_run {
	const struct walk_world *world;
	struct reg *reg;
	struct reg_self *who[WALK_PARTS];
	struct oracle ora;
	struct walk_sum *sum;
	bool loud;
	/* handles of the dead; names of what they were */
	struct reg_lease stale[WALK_DEAD];
	uint32_t stale_count;
	uint32_t labels; /* versions given out */
};

enum { WALK_TEXT = 64 };
void walk_image(int image, char *buf);
void walk_name(char kind, int number, char *buf); /* n7, r7, p7 */
void walk_labels(uint32_t version, char *buf);
/* Everything that can be looked at equals what the oracle has. */
void walk_compare(struct walk_run *run);
/* One sandbox by its name. */
void walk_compare_one(struct walk_run *run, struct reg_self *me, const struct ora_sandbox *s);

#endif
