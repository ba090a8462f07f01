/* SPDX-License-Identifier: Apache-2.0 */
/* The edge's tables: registry status and agent acknowledgement to gRPC status, registry state to
 * the phase on the wire. Pure. */
#ifndef FASTPATH_STATUS_H
#define FASTPATH_STATUS_H

#include <stdbool.h>

#include "fail.h"
#include "registry/registry.h"

/* enum gstatus. */
int fp_status_of_reg(enum reg_status status);
/* code: Fsb__Agent__V1__AckCode. */
int fp_status_of_ack(int code);
/* "what: the registry's sentence", with the status of the table. Returns the status. */
int fp_fail_reg(struct fp_fail *fail, enum reg_status status, const char *what);

/* "Pending", "Bound", "Running", "Terminating", "Succeeded", "Failed", "Expired", "Lost". */
const char *fp_phase(const struct reg_sandbox_view *view);
/*
 * How far along a phase is: Pending 0, Bound 1, Running 2, Terminating 3, then the ends 4; -1 when
 * the text is no phase. A sandbox whose rank has reached that of a phase is in it or can't get
 * there any more (Lost may turn to Running again, and counts as an end because nobody should wait
 * for that).
 */
int fp_phase_rank(const char *phase);
enum { FP_PHASE_RANK_END = 4 };

#endif
