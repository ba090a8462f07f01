/* SPDX-License-Identifier: Apache-2.0 */
/* What the launcher says unasked: its list after each connect, exits, removals. They become records
 * here and events to registryd. */
#include <string.h>

#include "agent.h"
#include "base/log.h"

typedef Fsb__Agent__V1__Event Event;

static void event_exited(struct agent *a, const struct agt_sandbox *sb)
{
	const Fsb__V1__SandboxMeta *meta = sb->report->meta;
	Event event = FSB__AGENT__V1__EVENT__INIT;
	Fsb__Agent__V1__SandboxExited exited = FSB__AGENT__V1__SANDBOX_EXITED__INIT;

	exited.namespace_ = meta->namespace_;
	exited.name = meta->name;
	exited.id = meta->id;
	exited.generation = meta->generation;
	exited.exit = sb->report->exit;
	event.kind_case = FSB__AGENT__V1__EVENT__KIND_EXITED;
	event.exited = &exited;
	agt_event(a, &event);
}

static void event_removed(struct agent *a, const struct agt_sandbox *sb)
{
	const Fsb__V1__SandboxMeta *meta = sb->report->meta;
	Event event = FSB__AGENT__V1__EVENT__INIT;
	Fsb__Agent__V1__SandboxRemoved removed = FSB__AGENT__V1__SANDBOX_REMOVED__INIT;

	removed.namespace_ = meta->namespace_;
	removed.name = meta->name;
	removed.id = meta->id;
	removed.generation = meta->generation;
	removed.exit = sb->report->exit;
	event.kind_case = FSB__AGENT__V1__EVENT__KIND_REMOVED;
	event.removed = &removed;
	agt_event(a, &event);
}

static void sandbox_exited(struct agent *a, struct agt_sandbox *sb,
			   const Fsb__Agent__V1__ExitInfo *exit)
{
	bool news = sb->report->state != STATE(EXITED);

	if (exit)
		agt_sandbox_set_exit(sb, exit);
	agt_sandbox_set_state(a, sb, STATE(EXITED));
	agt_logs_sandbox_ended(a, sb->report->meta->id);
	if (news)
		event_exited(a, sb);
}

static void sandbox_removed(struct agent *a, struct agt_sandbox *sb, const Report *report)
{
	if (report && report->exit)
		agt_sandbox_set_exit(sb, report->exit);
	if (report && report->stopped) {
		sb->report->stopped = true;
		event_removed(a, sb);
		return;
	}
	agt_logs_sandbox_ended(a, sb->report->meta->id);
	if (sb->report->state == STATE(STARTING)) {
		/* A start that a former agent had asked for, or of a launcher that died, and that
		 * failed: nobody was told that it ran. */
		agt_sandbox_start_done(a, sb, ACK(INTERNAL),
				       sb->doomed ? AGT_LAUNCHER_DIED : "the start failed", 0);
		return;
	}
	event_removed(a, sb);
	agt_sandbox_drop(a, sb);
}

static void sandbox_reported(struct agent *a, const Report *report)
{
	struct agt_sandbox *sb = report->meta ? agt_sandbox_find(a, report->meta->id) : NULL;

	if (!sb) {
		sb = agt_sandbox_add(a, report);
		if (!sb)
			log_error("sandbox not taken over", "id=%s",
				  report->meta ? report->meta->id : "");
		else
			sb->seen = true;
		return;
	}
	sb->seen = true;
	sb->report->started_unix_ns = report->started_unix_ns;
	sb->report->stopped = report->stopped;
	/* Whoever waits for the start learns of it here when the launcher that was asked has died.
	 */
	if (report->state != STATE(STARTING) && sb->report->state == STATE(STARTING))
		agt_sandbox_start_done(a, sb, ACK(OK), "", 0);
	if (report->state == STATE(EXITED))
		sandbox_exited(a, sb, report->exit);
}

void agt_listing_begins(struct agent *a)
{
	for (unsigned int i = 0; i < SANDBOX_BUCKETS; i++) {
		for (struct agt_sandbox *sb = a->sandboxes[i]; sb; sb = sb->next)
			sb->seen = false;
	}
}

/* What the launcher does not know is gone, unless it is still to be asked for. */
static void listing_ends(struct agent *a)
{
	for (unsigned int i = 0; i < SANDBOX_BUCKETS; i++) {
		struct agt_sandbox *sb = a->sandboxes[i], *next;

		for (; sb; sb = next) {
			next = sb->next;
			if (!sb->seen && (sb->doomed || sb->report->state != STATE(STARTING)))
				sandbox_removed(a, sb, NULL);
		}
	}
}

void agt_notice(struct agent *a, const Notice *notice)
{
	const Report *report = notice->report;
	struct agt_sandbox *sb =
		report && report->meta ? agt_sandbox_find(a, report->meta->id) : NULL;

	switch (notice->kind) {
	case FSB__LAUNCHER__V1__NOTICE_KIND__REPORT:
		if (report)
			sandbox_reported(a, report);
		break;
	case FSB__LAUNCHER__V1__NOTICE_KIND__LISTED:
		listing_ends(a);
		break;
	case FSB__LAUNCHER__V1__NOTICE_KIND__EXITED:
		if (sb)
			sandbox_exited(a, sb, report->exit);
		break;
	case FSB__LAUNCHER__V1__NOTICE_KIND__REMOVED:
		if (sb)
			sandbox_removed(a, sb, report);
		break;
	default:
		break;
	}
}
