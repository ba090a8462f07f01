/* SPDX-License-Identifier: Apache-2.0 */
/* The members of a batch before they are started: checked, named, encoded, reserved. Lives as long
 * as the batch: a member may have to be reserved once more. */
#ifndef FASTPATH_BATCH_MEMBERS_H
#define FASTPATH_BATCH_MEMBERS_H

#include "service.h"

enum {
	FP_BATCH_MAX = 10000,
	/* Encoded specs of all members together: they are copied to the arena and to the agents. */
	FP_BATCH_BYTES_MAX = 64 << 20,
};

struct fp_members {
	uint32_t count;
	uint64_t deadline_ns;
	struct fp_member *members;
	struct fp_blob **specs; /* a reference each */
	struct reg_lease *leases;
	enum reg_status *status;
	struct reg_request *requests;
};

/* count, mode and overrides. */
int fp_batch_check(const struct fp_batch_args *args, struct fp_fail *fail);
/* plan's name is chosen here when it is empty. */
int fp_members_make(struct fp_plan *plan, const struct fp_batch_args *args, struct fp_members *ret,
		    struct fp_fail *fail);
void fp_members_done(struct fp_members *ms);
/*
 * true: every member is reserved, or was seen before by its request id. Not all: without `all` the
 * status says which are; with it nothing is held.
 */
bool fp_members_reserve(struct reg_self *me, const struct fp_plan *plan, struct fp_members *ms,
			bool all);

#endif
