/* SPDX-License-Identifier: Apache-2.0 */
/* The single operations of a walk, by both and compared. */
#ifndef TESTS_REGISTRY_WALK_STEP_H
#define TESTS_REGISTRY_WALK_STEP_H

#include "walk_run.h"

void walk_say(const struct walk_run *run, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void walk_step(struct walk_run *run, const struct walk_op *op);

/* walk_reserve.c */
void walk_reserve(struct walk_run *run, struct reg_self *me, const struct walk_op *op);
void walk_batch(struct walk_run *run, struct reg_self *me, const struct walk_op *op);
uint32_t walk_mix(uint32_t a, uint32_t b);

/* walk_admin.c */
void walk_administer(struct walk_run *run, struct reg_self *me, const struct walk_op *op);
void walk_pool(struct walk_run *run, struct reg_self *me, const struct walk_op *op);
void walk_sweep(struct walk_run *run, struct reg_self *me);

/* walk_rest.c */
void walk_insert(struct walk_run *run, struct reg_self *me, const struct walk_op *op);
void walk_get(struct walk_run *run, struct reg_self *me, const struct walk_op *op);
void walk_stale(struct walk_run *run, struct reg_self *me, const struct walk_op *op);
void walk_leave(struct walk_run *run, const struct walk_op *op);
void walk_store(struct walk_run *run, struct reg_self *me);

#endif
