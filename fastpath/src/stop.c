/* SPDX-License-Identifier: Apache-2.0 */
/* Driving a stop (see stop.h). */
#include "stop.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "status.h"

enum { GRACE_DEFAULT_S = 10, GRACE_MAX_S = 3600, ANSWER_S = 20 };

struct stop {
	struct fp_service *svc;
	reg_sandbox_id sandbox;
	char id[REG_ID_MAX + 1];
	fp_stopped_fn on_end;
	void *arg;
};

static void stop_end(struct stop *stop, bool confirmed)
{
	if (stop->on_end)
		stop->on_end(stop->arg, confirmed);
	free(stop);
}

static void on_ack(void *arg, enum agentlink_result result, const Fsb__Agent__V1__Ack *ack,
		   const char *reason)
{
	struct stop *stop = arg;
	bool confirmed = result == AGENTLINK_ACKED && ack->code == FSB__AGENT__V1__ACK_CODE__OK;

	if (confirmed)
		/* STALE when fsb-registryd was faster. */
		(void)reg_stopped(stop->svc->me, stop->sandbox, NULL);
	else
		log_warn("stop not confirmed, left to fsb-registryd", "sandbox=%s reason=%s",
			 stop->id, result == AGENTLINK_ACKED ? ack->message : reason);
	stop_end(stop, confirmed);
}

/* A sandbox whose process has ended needs no signal, and a lost one may still run. */
static bool needs_remove_only(enum reg_state state)
{
	return state == REG_EXITED || state == REG_EXPIRED;
}

static int stop_send(struct stop *stop, const struct reg_sandbox_view *view, int32_t grace_s)
{
	Fsb__Agent__V1__Command command = FSB__AGENT__V1__COMMAND__INIT;
	Fsb__Agent__V1__Remove removal = FSB__AGENT__V1__REMOVE__INIT;
	Fsb__Agent__V1__Stop halt = FSB__AGENT__V1__STOP__INIT;
	struct agentlink *link;
	struct fp_fail fail;
	uint64_t wait_s;

	if (fp_links_get(stop->svc->links, view->agent, &link, NULL, &fail))
		return -1;
	if (needs_remove_only(view->state)) {
		removal.id = stop->id;
		command.kind_case = FSB__AGENT__V1__COMMAND__KIND_REMOVE;
		command.remove = &removal;
	} else {
		halt.id = stop->id;
		halt.generation = view->generation;
		halt.grace_s = grace_s > GRACE_MAX_S ? GRACE_MAX_S : grace_s;
		command.kind_case = FSB__AGENT__V1__COMMAND__KIND_STOP;
		command.stop = &halt;
	}
	wait_s = ANSWER_S + (halt.grace_s > 0 ? (uint64_t)halt.grace_s : GRACE_DEFAULT_S);
	return agentlink_command(link, &command, wait_s * NS_PER_S, on_ack, stop);
}

void fp_stop_drive(struct fp_service *svc, const struct reg_sandbox_view *view, int32_t grace_s,
		   fp_stopped_fn on_end, void *arg)
{
	struct stop *stop = calloc(1, sizeof(*stop));

	if (!stop) {
		if (on_end)
			on_end(arg, false);
		return;
	}
	stop->svc = svc;
	stop->sandbox = view->sandbox;
	memcpy(stop->id, view->id, sizeof(stop->id));
	stop->on_end = on_end;
	stop->arg = arg;
	if (view->agent.idx == UINT32_MAX) {
		(void)reg_stopped(svc->me, stop->sandbox, NULL);
		stop_end(stop, true);
	} else if (stop_send(stop, view, grace_s)) {
		log_warn("stop not sent, left to fsb-registryd", "sandbox=%s agent=%s", stop->id,
			 view->agent_name);
		stop_end(stop, false);
	}
}

/* Who made the sandbox leave these states drives the stop; in the others somebody else does. */
static bool ours_to_drive(enum reg_state prior)
{
	return prior == REG_RUNNING || prior == REG_EXITED || prior == REG_EXPIRED ||
	       prior == REG_LOST;
}

int fp_stop_request(struct fp_service *svc, struct reg_sandbox_view *view, int32_t grace_s,
		    struct fp_fail *fail)
{
	enum reg_state prior;
	enum reg_status status = reg_stop(svc->me, view->sandbox, REG_STOP_DELETE, &prior);

	if (status == REG_STALE)
		return G_OK;
	if (status != REG_OK)
		return fp_fail_reg(fail, status, view->name);
	if (ours_to_drive(prior)) {
		/* The view may be older than the state that the stop ended. */
		view->state = prior;
		fp_stop_drive(svc, view, grace_s, NULL, NULL);
	}
	return G_OK;
}

void fp_stop(struct fp_service *svc, reg_sandbox_id sandbox, int32_t grace_s, fp_stopped_fn on_end,
	     void *arg)
{
	struct reg_sandbox_view view;
	enum reg_state prior;

	if (reg_view(svc->me, sandbox, &view) == REG_OK &&
	    reg_stop(svc->me, sandbox, REG_STOP_DELETE, &prior) == REG_OK && ours_to_drive(prior)) {
		view.state = prior;
		fp_stop_drive(svc, &view, grace_s, on_end, arg);
		return;
	}
	if (on_end)
		on_end(arg, false);
}
