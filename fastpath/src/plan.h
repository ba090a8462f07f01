/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a create request comes to once it was checked: the values that all of its members share,
 * ready for reg_reserve. A single create is a plan with one member.
 */
#ifndef FASTPATH_PLAN_H
#define FASTPATH_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "ident.h"
#include "spec.h"

enum fp_consistency { FP_CONSISTENCY_DEFAULT, FP_CONSISTENCY_FAST, FP_CONSISTENCY_STRONG };

/* As the client gave it; everything is borrowed. Texts are never NULL. */
struct fp_create_args {
	const char *ns, *pool; /* "": the defaults */
	const char *name;      /* "": chosen. Batch: the members' prefix */
	const char *request_id;
	const Fsb__V1__SandboxSpec *spec;
	struct fp_map labels;
	int consistency;       /* enum fp_consistency; others: unknown */
	int consistency_given; /* the wire's number, for the message */
	int wait_for;	       /* Fsb__V1__WaitFor */
	int64_t expire_unix_s;
	int policy;
	int32_t recovery_timeout_s;
	uint64_t deadline_ns; /* CLOCK_MONOTONIC; UINT64_MAX: the client has none */
};

struct fp_plan {
	char ns[REG_NAMESPACE_MAX + 1], pool[REG_NAME_MAX + 1];
	char name[REG_NAME_MAX + 1]; /* "": to be chosen */
	char request_id[REG_REQUEST_ID_MAX + 1];
	char image[REG_IMAGE_MAX + 1]; /* canonical */
	uint16_t ports[REG_PORTS_MAX];
	uint32_t port_count;
	struct fp_blob *spec;
	struct fp_blob *labels; /* NULL: none */
	bool strong, wait_stored;
	int64_t expire_unix_s;
	int32_t recovery_timeout_s;
	uint64_t hash; /* of what was asked for, without consistency and deadline */
};

/* members: 0 for a single create, else the batch's count (names and request ids get "-<i>" and
 * "/<i>"). plan is zeroed first. */
int fp_plan_make(const struct fp_create_args *args, bool default_strong, uint32_t members,
		 struct fp_plan *plan, struct fp_fail *fail);
void fp_plan_done(struct fp_plan *plan);

/* One member: what differs. */
struct fp_member {
	char name[REG_NAME_MAX + 1], id[FP_ID_LEN + 1];
	char request_id[REG_REQUEST_ID_MAX + 1];
	int64_t created_unix_ns;
	uint64_t hash;
	const struct fp_blob *spec; /* borrowed */
};
/* request borrows plan and member. */
void fp_plan_request(const struct fp_plan *plan, const struct fp_member *member,
		     struct reg_request *request);

#endif
