/* SPDX-License-Identifier: Apache-2.0 */
/* The edge's tables (see status.h). */
#include "status.h"

#include <string.h>

#include "agent.pb-c.h"

static const int reg_table[REG_STATUS_MAX] = {
	[REG_OK] = G_OK,
	[REG_INVALID] = G_INVALID_ARGUMENT,
	[REG_NAME_EXISTS] = G_ALREADY_EXISTS,
	[REG_NAME_TERMINATING] = G_ALREADY_EXISTS,
	[REG_REQUEST_SEEN] = G_ALREADY_EXISTS,
	[REG_REQUEST_MISMATCH] = G_INVALID_ARGUMENT,
	[REG_NO_POOL] = G_NOT_FOUND,
	[REG_NO_CAPACITY] = G_RESOURCE_EXHAUSTED,
	[REG_PORT_CONFLICT] = G_RESOURCE_EXHAUSTED,
	[REG_NOT_FOUND] = G_NOT_FOUND,
	[REG_CONFLICT] = G_ABORTED,
	[REG_STALE] = G_NOT_FOUND,
	[REG_BAD_STATE] = G_FAILED_PRECONDITION,
	[REG_DELETING] = G_ABORTED,
	[REG_LIMIT_SANDBOXES] = G_RESOURCE_EXHAUSTED,
	[REG_LIMIT_AGENTS] = G_RESOURCE_EXHAUSTED,
	[REG_LIMIT_POOLS] = G_RESOURCE_EXHAUSTED,
	[REG_LIMIT_IMAGES] = G_RESOURCE_EXHAUSTED,
	[REG_LIMIT_SLOTS] = G_RESOURCE_EXHAUSTED,
	[REG_LIMIT_PARTICIPANTS] = G_RESOURCE_EXHAUSTED,
	[REG_LIMIT_BLOBS] = G_RESOURCE_EXHAUSTED,
	[REG_TOO_LARGE] = G_INVALID_ARGUMENT,
	[REG_NO_SPACE] = G_RESOURCE_EXHAUSTED,
	[REG_NO_ARENA] = G_UNAVAILABLE,
	[REG_BAD_MAGIC] = G_INTERNAL,
	[REG_BAD_LAYOUT] = G_INTERNAL,
	[REG_CORRUPT] = G_INTERNAL,
	[REG_IN_USE] = G_FAILED_PRECONDITION,
	[REG_TIMEOUT] = G_DEADLINE_EXCEEDED,
	[REG_IO] = G_INTERNAL,
};

int fp_status_of_reg(enum reg_status status)
{
	if ((unsigned int)status >= REG_STATUS_MAX)
		return G_INTERNAL;
	/* A status added to the registry but not to the table must not turn into success. */
	if (status != REG_OK && reg_table[status] == G_OK)
		return G_INTERNAL;
	return reg_table[status];
}

int fp_status_of_ack(int code)
{
	switch (code) {
	case FSB__AGENT__V1__ACK_CODE__OK:
		return G_OK;
	case FSB__AGENT__V1__ACK_CODE__IMAGE_NOT_FOUND:
		return G_NOT_FOUND;
	case FSB__AGENT__V1__ACK_CODE__BAD_SPEC:
		return G_INVALID_ARGUMENT;
	case FSB__AGENT__V1__ACK_CODE__RESOURCES:
		return G_RESOURCE_EXHAUSTED;
	case FSB__AGENT__V1__ACK_CODE__FENCED:
		return G_ABORTED;
	case FSB__AGENT__V1__ACK_CODE__EXISTS:
		return G_ALREADY_EXISTS;
	case FSB__AGENT__V1__ACK_CODE__STALE_EPOCH:
		return G_UNAVAILABLE;
	case FSB__AGENT__V1__ACK_CODE__STILL_RUNNING:
		return G_FAILED_PRECONDITION;
	default:
		return G_INTERNAL;
	}
}

int fp_fail_reg(struct fp_fail *fail, enum reg_status status, const char *what)
{
	return fp_fail(fail, fp_status_of_reg(status), "%s: %s", what, reg_status_text(status));
}

const char *fp_phase(const struct reg_sandbox_view *view)
{
	switch (view->state) {
	case REG_FREE:
	case REG_CLAIMED:
	case REG_RESERVED:
	case REG_RESTORED:
		return "Pending";
	case REG_STARTING:
		return "Bound";
	case REG_RUNNING:
		return "Running";
	case REG_STOPPING:
	case REG_GONE:
		return "Terminating";
	case REG_EXITED:
		return view->exit.code == 0 && !view->exit.unknown ? "Succeeded" : "Failed";
	case REG_EXPIRED:
		return "Expired";
	case REG_LOST:
		return "Lost";
	}
	return "Pending";
}

int fp_phase_rank(const char *phase)
{
	static const struct {
		const char *name;
		int rank;
	} ranks[] = {
		{"Pending", 0},
		{"Bound", 1},
		{"Running", 2},
		{"Terminating", 3},
		{"Succeeded", FP_PHASE_RANK_END},
		{"Failed", FP_PHASE_RANK_END},
		{"Expired", FP_PHASE_RANK_END},
		{"Lost", FP_PHASE_RANK_END},
	};

	for (size_t i = 0; i < sizeof(ranks) / sizeof(ranks[0]); i++) {
		if (!strcmp(ranks[i].name, phase))
			return ranks[i].rank;
	}
	return -1;
}
