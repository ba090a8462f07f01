/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Outbound: the arena's dirty set → the store, newest state first written, once per turn. Has no
 * policy. What is taken and not written is dirty again; what can't be written for a reason of its
 * own waits by itself and holds up nothing else.
 */
#ifndef CRDSYNC_WRITER_H
#define CRDSYNC_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "registry/registry.h"
#include "store.h"

struct crd_writer;

/* Borrows all three. NULL: out of memory. gives. */
struct crd_writer *crd_writer_new(struct reg_self *me, struct crd_store *store);
/* Takes NULL. Returns NULL. */
struct crd_writer *crd_writer_free(struct crd_writer *writer);

/*
 * One turn: takes what is dirty (at most CRD_BATCH_MAX), writes it in one transaction, publishes
 * it. *ret_taken (may be NULL) is how many were taken. Negative errno: the store refused;
 * everything taken is dirty again.
 */
enum { CRD_BATCH_MAX = 512 };
int crd_writer_turn(struct crd_writer *writer, uint32_t *ret_taken, struct err *err);

/* Objects that wait by themselves because they can't be written; what is due becomes dirty again in
 * the next turn. */
uint32_t crd_writer_parked(const struct crd_writer *writer);

struct crd_writer_stats {
	uint64_t turns, commits, written, deleted, skipped, failed;
};
void crd_writer_stats_get(const struct crd_writer *writer, struct crd_writer_stats *ret);

#endif
