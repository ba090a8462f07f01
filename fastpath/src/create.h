/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by single and batch creates: why a reservation was refused, in the client's words, and
 * what a finished one looks like. */
#ifndef FASTPATH_CREATE_H
#define FASTPATH_CREATE_H

#include "service.h"

struct fp_start;

/* Sets the sentence for a refusal of reg_reserve; returns the gRPC status. */
int fp_reserve_fail(struct fp_service *svc, const struct fp_plan *plan, const char *name,
		    enum reg_status status, struct fp_fail *fail);
/* Creates are refused until the arena holds what the store held, and when the worker drains. */
int fp_create_ready(const struct fp_service *svc, struct fp_fail *fail);
/* The client's deadline, or ours from now when it has none. */
uint64_t fp_deadline_or_default(uint64_t deadline_ns);
/* Fills created for a start that has ended. view: room, used when status is G_OK; the sandbox may
 * be gone by then. */
void fp_created_fill(struct fp_service *svc, const struct fp_start *start, int status,
		     const char *message, struct reg_sandbox_view *view, struct fp_created *ret);

#endif
