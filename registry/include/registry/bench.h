/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For measuring only: the slot decision apart from the rest of a reservation. A bench opens records
 * that nobody can find (no name, no request id, no dirty bit), then takes and frees slots for them
 * with the very functions that reg_reserve and reg_abort use. Not for products: a slot taken this
 * way belongs to no visible sandbox, and goes back by reg_bench_close or by a reap.
 */
#ifndef REGISTRY_BENCH_H
#define REGISTRY_BENCH_H

#include "registry/registry.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a placement looks for, resolved once. */
struct reg_bench_target {
	uint32_t pool, image; /* image UINT32_MAX: known to no agent */
};
REG_USE enum reg_status reg_bench_target(struct reg_self *me, const char *ns, const char *pool,
					 const char *image, struct reg_bench_target *ret);

/* A record CLAIMED by me with the request's fields and ports, and nothing else. */
REG_USE enum reg_status reg_bench_open(struct reg_self *me, const struct reg_request *req,
				       struct reg_lease *ret);
/* Slot and ports for lease->sandbox; fills the rest of the lease. As reg_reserve: REG_NO_CAPACITY,
 * REG_PORT_CONFLICT. */
REG_USE enum reg_status reg_bench_take(struct reg_self *me, const struct reg_bench_target *target,
				       struct reg_lease *lease);
/* Slot and ports back; also of a record that another participant opened. */
void reg_bench_give(struct reg_self *me, const struct reg_lease *lease);
/* The record back, and what it still holds. Its opener only. */
void reg_bench_close(struct reg_self *me, const struct reg_lease *lease);

#ifdef __cplusplus
}
#endif

#endif
