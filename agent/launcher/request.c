/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent asks for, one request at a time. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "sandbox.h"

static void handle_stop(struct launcher *l, uint64_t seq, const Fsb__Agent__V1__Stop *stop)
{
	struct sandbox *sb = sandbox_find(l, stop->id);

	/* A stop of an earlier generation is late: that one is gone. */
	if (!sb || (stop->generation && stop->generation < sb->generation)) {
		conn_reply(l, conn_serial(l), seq, ACK(OK), "");
		return;
	}
	sandbox_stop(sb, seq, stop->grace_s, stop->keep_files);
}

static void handle_remove(struct launcher *l, uint64_t seq, const char *id)
{
	struct sandbox *sb = sandbox_find(l, id);

	if (sb)
		sandbox_remove(sb, seq);
	else
		conn_reply(l, conn_serial(l), seq, ACK(OK), "");
}

static void handle_set_meta(struct launcher *l, uint64_t seq, const Fsb__V1__SandboxMeta *meta)
{
	struct sandbox *sb = sandbox_find(l, meta->id);
	char msg[256];
	int rc = sb ? state_set_meta(l, meta) : 0;

	if (rc) {
		snprintf(msg, sizeof(msg), "write the meta of '%s': %s", meta->id, strerror(-rc));
		conn_reply(l, conn_serial(l), seq, ACK(INTERNAL), msg);
		return;
	}
	conn_reply(l, conn_serial(l), seq, ACK(OK), "");
}

bool request_handle(struct launcher *l, const Request *request, struct pb_arena *arena)
{
	switch (request->kind_case) {
	case FSB__LAUNCHER__V1__REQUEST__KIND_START:
		return sandbox_start(l, request->seq, request->start, arena);
	case FSB__LAUNCHER__V1__REQUEST__KIND_STOP:
		handle_stop(l, request->seq, request->stop);
		return false;
	case FSB__LAUNCHER__V1__REQUEST__KIND_REMOVE:
		handle_remove(l, request->seq, request->remove->id);
		return false;
	case FSB__LAUNCHER__V1__REQUEST__KIND_SET_META:
		handle_set_meta(l, request->seq, request->set_meta);
		return false;
	case FSB__LAUNCHER__V1__REQUEST__KIND_SHUTDOWN:
		l->quitting = true;
		return false;
	default:
		conn_reply(l, conn_serial(l), request->seq, ACK(INTERNAL),
			   "the launcher does not know this request");
		return false;
	}
}

static void send_report(struct launcher *l, const struct sandbox *sb)
{
	Notice notice = FSB__LAUNCHER__V1__NOTICE__INIT;
	Fsb__Agent__V1__SandboxReport live;
	Fsb__Launcher__V1__StateRecord *stored;
	Fsb__V1__SandboxMeta meta;
	struct pb_arena *arena = NULL;

	sandbox_describe(sb, &live, &meta);
	if (!state_read(l, sb->id, &arena, &stored)) {
		live.meta = stored->report->meta;
		live.spec = stored->report->spec;
	}
	notice.kind = FSB__LAUNCHER__V1__NOTICE_KIND__REPORT;
	notice.report = &live;
	conn_send(l, &notice);
	pb_free(arena);
}

void request_list(struct launcher *l)
{
	Notice notice = FSB__LAUNCHER__V1__NOTICE__INIT;

	for (unsigned int i = 0; i < SANDBOX_BUCKETS; i++) {
		for (struct sandbox *sb = l->sandboxes[i]; sb; sb = sb->next)
			send_report(l, sb);
	}
	notice.kind = FSB__LAUNCHER__V1__NOTICE_KIND__LISTED;
	conn_send(l, &notice);
}
