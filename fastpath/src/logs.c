/* SPDX-License-Identifier: Apache-2.0 */
/* Logs: the agent's stream, passed on. Nothing is kept here: while the reader is full, the agent's
 * stream is not read. */
#include <stddef.h>
#include <stdlib.h>

#include "service.h"
#include "status.h"

struct fp_logs {
	struct fp_service *svc;
	struct gclient_call *call;
	struct fp_logs_handlers handlers;
	struct fp_idle idle;
	bool draining;
};

static void logs_end(struct fp_logs *logs, int status, const char *message)
{
	fp_idle_del(logs->svc, &logs->idle);
	logs->handlers.on_end(logs->handlers.arg, status, message);
	free(logs);
}

static void on_message(void *arg, const ProtobufCMessage *msg)
{
	const Fsb__Agent__V1__LogsChunk *chunk = (const Fsb__Agent__V1__LogsChunk *)msg;
	struct fp_logs *logs = arg;

	logs->handlers.on_chunk(logs->handlers.arg, chunk->data.data, chunk->data.len);
}

static void on_close(void *arg, const struct gresult *result)
{
	struct fp_logs *logs = arg;

	if (logs->draining)
		logs_end(logs, G_UNAVAILABLE, "this worker is shutting down; ask again");
	else
		logs_end(logs, result->status, result->message);
}

static void on_drain(struct fp_idle *idle)
{
	struct fp_logs *logs = (struct fp_logs *)((char *)idle - offsetof(struct fp_logs, idle));

	fp_idle_del(logs->svc, idle);
	logs->draining = true;
	gclient_cancel(logs->call);
}

void fp_logs_cancel(struct fp_logs *logs)
{
	gclient_cancel(logs->call);
}

void fp_logs_pause(struct fp_logs *logs, bool pause)
{
	gclient_pause(logs->call, pause);
}

static int logs_link(struct fp_service *svc, const char *ns, const char *name,
		     struct reg_sandbox_view *view, struct agentlink **ret, struct fp_fail *fail)
{
	int status = fp_idle_check(svc, fail);

	if (!status)
		status = fp_lookup(svc, ns, name, view, fail);
	if (status)
		return status;
	if (view->agent.idx == UINT32_MAX)
		return fp_fail(fail, G_FAILED_PRECONDITION,
			       "sandbox '%s' is on no agent (phase %s): it has no log", view->name,
			       fp_phase(view));
	return fp_links_get(svc->links, view->agent, ret, NULL, fail);
}

struct fp_logs *fp_logs(struct fp_service *svc, const char *ns, const char *name, bool follow,
			const struct fp_logs_handlers *handlers)
{
	Fsb__Agent__V1__LogsRequest request = FSB__AGENT__V1__LOGS_REQUEST__INIT;
	struct gstream_handlers stream = {.on_message = on_message, .on_close = on_close};
	struct reg_sandbox_view view;
	struct agentlink *link;
	struct fp_logs *logs;
	struct fp_fail fail;

	if (logs_link(svc, ns, name, &view, &link, &fail)) {
		handlers->on_end(handlers->arg, fail.status, fail.msg);
		return NULL;
	}
	logs = calloc(1, sizeof(*logs));
	if (!logs) {
		handlers->on_end(handlers->arg, G_RESOURCE_EXHAUSTED,
				 "this worker is out of memory");
		return NULL;
	}
	logs->svc = svc;
	logs->handlers = *handlers;
	request.id = view.id;
	request.follow = follow;
	stream.arg = logs;
	if (follow)
		fp_idle_add(svc, &logs->idle, false, on_drain);
	logs->call = agentlink_logs(link, &request, 0, &stream);
	if (!logs->call) {
		logs_end(logs, G_UNAVAILABLE, "the agent's log can't be opened");
		return NULL;
	}
	return logs;
}
