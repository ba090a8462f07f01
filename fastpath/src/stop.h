/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ends a sandbox that the registry has as STOPPING: commands the agent, reports its confirmation to
 * the registry. What can't be confirmed (agent away, link broken) is left to fsb-registryd, which
 * drives every stop that nobody confirms.
 */
#ifndef FASTPATH_STOP_H
#define FASTPATH_STOP_H

#include "service.h"

typedef void (*fp_stopped_fn)(void *arg, bool confirmed);

/* view: the sandbox as it was before reg_stop (borrowed). on_end may be NULL; it may be called
 * before this returns. */
void fp_stop_drive(struct fp_service *svc, const struct reg_sandbox_view *view, int32_t grace_s,
		   fp_stopped_fn on_end, void *arg);
/* A client's delete of what it saw as view: reg_stop, and the drive when it is ours. Gone meanwhile
 * is G_OK. */
int fp_stop_request(struct fp_service *svc, struct reg_sandbox_view *view, int32_t grace_s,
		    struct fp_fail *fail);
/* The same by handle, for roll-backs: reg_stop and, when it is ours to drive, fp_stop_drive. */
void fp_stop(struct fp_service *svc, reg_sandbox_id sandbox, int32_t grace_s, fp_stopped_fn on_end,
	     void *arg);

#endif
