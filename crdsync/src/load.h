/* SPDX-License-Identifier: Apache-2.0 */
/* Inbound, once at the start: an arena that is new gets what the store holds; one that is not is
 * what the store follows. */
#ifndef CRDSYNC_LOAD_H
#define CRDSYNC_LOAD_H

#include <stdint.h>

#include "base/err.h"
#include "registry/registry.h"
#include "store.h"

struct crd_load_stats {
	uint32_t rows, inserted, present, removed, unreadable, marked;
};

/*
 * Makes arena and store one. When nothing was loaded yet: inserts all rows and publishes
 * store_loaded. Else: removes rows of sandboxes that are gone, marks what no store ever got.
 * -EINVAL: the arena was loaded from another store than this one.
 */
int crd_load(struct reg_self *me, struct crd_store *store, struct crd_load_stats *ret,
	     struct err *err);

#endif
