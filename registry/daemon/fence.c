/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking an agent "do you run it?". The question is a fence: after a "no" no command that lies
 * unread in somebody's stream can start it any more, so the answer stays true.
 */
#include <stdlib.h>

#include "base/log.h"
#include "daemon.h"

struct ask {
	struct rd_daemon *d;
	rd_fence_fn fn;
	void *arg;
};

static enum rd_fence answer_of(const Fsb__Agent__V1__Ack *ack)
{
	if (ack->code != FSB__AGENT__V1__ACK_CODE__OK)
		return RD_FENCE_NO_ANSWER;
	if (ack->running)
		return RD_FENCE_RUNNING;
	if (ack->report && ack->report->state == FSB__AGENT__V1__REPORT_STATE__EXITED)
		return RD_FENCE_EXITED;
	return RD_FENCE_NOT;
}

static void on_ack(void *arg, enum agentlink_result result, const Fsb__Agent__V1__Ack *ack,
		   const char *reason)
{
	struct ask *ask = arg;
	enum rd_fence answer = RD_FENCE_NO_ANSWER;

	if (result == AGENTLINK_ACKED) {
		answer = answer_of(ack);
		if (answer == RD_FENCE_NO_ANSWER)
			log_warn("fence refused", "code=%s err=%s", agentlink_code_name(ack->code),
				 ack->message);
	}
	ask->fn(ask->d, ask->arg, answer, ack ? ack->report : NULL);
	free(ask);
}

void rd_fence_ask(struct rd_agent *agent, const char *id, int64_t generation, rd_fence_fn fn,
		  void *arg)
{
	Fsb__Agent__V1__Fence fence = FSB__AGENT__V1__FENCE__INIT;
	Fsb__Agent__V1__Command command = FSB__AGENT__V1__COMMAND__INIT;
	struct ask *ask = malloc(sizeof(*ask));

	fence.id = (char *)(uintptr_t)id;
	fence.generation = generation;
	command.kind_case = FSB__AGENT__V1__COMMAND__KIND_FENCE;
	command.fence = &fence;
	if (ask)
		*ask = (struct ask){.d = agent->d, .fn = fn, .arg = arg};
	if (!ask || agentlink_command(agent->link, &command, 0, on_ack, ask) < 0) {
		free(ask);
		fn(agent->d, arg, RD_FENCE_NO_ANSWER, NULL);
	}
}
