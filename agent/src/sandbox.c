/* SPDX-License-Identifier: Apache-2.0 */
/* The table of sandboxes: the launcher's word, mirrored, plus who waits for which start. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "base/pb.h"

static unsigned int bucket_of(const char *id)
{
	unsigned int h = 5381;

	for (; *id; id++)
		h = h * 33 + (unsigned char)*id;
	return h % SANDBOX_BUCKETS;
}

struct agt_sandbox *agt_sandbox_find(struct agent *a, const char *id)
{
	struct agt_sandbox *sb = a->sandboxes[bucket_of(id)];

	while (sb && strcmp(sb->report->meta->id, id))
		sb = sb->next;
	return sb;
}

/* A deep copy in an arena of its own. */
static int copy_message(const ProtobufCMessage *msg, struct pb_arena **ret_arena,
			ProtobufCMessage **ret)
{
	size_t len;
	void *data = pb_pack(msg, &len);
	int rc = data ? pb_unpack(msg->descriptor, data, len, NULL, ret_arena, ret, NULL) : -ENOMEM;

	free(data);
	return rc;
}

static bool is_active(const Report *report)
{
	return report->state != STATE(EXITED);
}

struct agt_sandbox *agt_sandbox_add(struct agent *a, const Report *report)
{
	struct agt_sandbox *sb;
	ProtobufCMessage *copy;
	unsigned int bucket;

	if (!report->meta || agt_sandbox_find(a, report->meta->id))
		return NULL;
	sb = calloc(1, sizeof(*sb));
	if (!sb || copy_message(&report->base, &sb->arena, &copy)) {
		free(sb);
		return NULL;
	}
	sb->report = (Report *)copy;
	fsb__agent__v1__exit_info__init(&sb->exit);
	if (sb->report->exit)
		agt_sandbox_set_exit(sb, sb->report->exit);
	bucket = bucket_of(sb->report->meta->id);
	sb->next = a->sandboxes[bucket];
	a->sandboxes[bucket] = sb;
	a->active += is_active(sb->report);
	return sb;
}

void agt_sandbox_set_state(struct agent *a, struct agt_sandbox *sb,
			   Fsb__Agent__V1__ReportState state)
{
	a->active -= is_active(sb->report);
	sb->report->state = state;
	a->active += is_active(sb->report);
}

void agt_sandbox_set_exit(struct agt_sandbox *sb, const Fsb__Agent__V1__ExitInfo *exit)
{
	sb->exit.code = exit->code;
	sb->exit.signal = exit->signal;
	sb->exit.oom_killed = exit->oom_killed;
	sb->exit.unknown = exit->unknown;
	sb->exit.finished_unix_ns = exit->finished_unix_ns;
	sb->report->exit = &sb->exit;
}

int agt_sandbox_set_meta(struct agt_sandbox *sb, const Fsb__V1__SandboxMeta *meta)
{
	struct pb_arena *arena;
	ProtobufCMessage *copy;
	int rc = copy_message(&meta->base, &arena, &copy);

	if (rc)
		return rc;
	sb->report->meta = (Fsb__V1__SandboxMeta *)copy;
	pb_free(sb->meta_arena);
	sb->meta_arena = arena;
	return 0;
}

void agt_sandbox_drop(struct agent *a, struct agt_sandbox *sb)
{
	struct agt_sandbox **at = &a->sandboxes[bucket_of(sb->report->meta->id)];

	while (*at != sb)
		at = &(*at)->next;
	*at = sb->next;
	a->active -= is_active(sb->report);
	while (sb->waiters) {
		struct agt_waiter *w = sb->waiters;

		sb->waiters = w->next;
		agt_peer_unref(w->peer);
		free(w);
	}
	pb_free(sb->arena);
	pb_free(sb->meta_arena);
	free(sb);
}

void agt_sandboxes_free(struct agent *a)
{
	for (unsigned int i = 0; i < SANDBOX_BUCKETS; i++) {
		while (a->sandboxes[i])
			agt_sandbox_drop(a, a->sandboxes[i]);
	}
}

int agt_sandbox_wait(struct agt_sandbox *sb, struct agt_peer *peer, uint64_t seq,
		     uint64_t received_ns, bool fence)
{
	struct agt_waiter *w = malloc(sizeof(*w));

	if (!w)
		return -ENOMEM;
	*w = (struct agt_waiter){.next = sb->waiters,
				 .peer = agt_peer_ref(peer),
				 .seq = seq,
				 .received_ns = received_ns,
				 .fence = fence};
	sb->waiters = w;
	return 0;
}

/* A fence that met a start under way: answered by how the start went. */
static void answer_fence(struct agent *a, struct agt_sandbox *sb, struct agt_waiter *w,
			 bool running)
{
	Ack ack = FSB__AGENT__V1__ACK__INIT;

	ack.seq = w->seq;
	ack.running = running;
	if (running)
		ack.report = sb->report;
	else if (agt_fence_put(a, sb->report->meta->id, sb->report->meta->generation))
		ack.code = ACK(INTERNAL);
	agt_peer_ack(w->peer, &ack);
}

static void answer_start(struct agt_sandbox *sb, struct agt_waiter *w, AckCode code,
			 const char *message, uint64_t exec_ns)
{
	Ack ack = FSB__AGENT__V1__ACK__INIT;

	if (code != ACK(OK)) {
		agt_peer_ack_code(w->peer, w->seq, code, message);
		return;
	}
	if (exec_ns > w->received_ns)
		sb->start_ns = exec_ns - w->received_ns;
	ack.seq = w->seq;
	ack.start_ns = sb->start_ns;
	ack.started_unix_ns = sb->report->started_unix_ns;
	agt_peer_ack(w->peer, &ack);
}

void agt_sandbox_start_done(struct agent *a, struct agt_sandbox *sb, AckCode code,
			    const char *message, uint64_t exec_ns)
{
	struct agt_waiter *w;

	if (code == ACK(OK) && sb->report->state == STATE(STARTING))
		agt_sandbox_set_state(a, sb, STATE(RUNNING));
	while ((w = sb->waiters)) {
		sb->waiters = w->next;
		if (w->fence)
			answer_fence(a, sb, w, code == ACK(OK));
		else
			answer_start(sb, w, code, message, exec_ns);
		agt_peer_unref(w->peer);
		free(w);
	}
	if (code != ACK(OK))
		agt_sandbox_drop(a, sb);
}

size_t agt_sandbox_reports(struct agent *a, Report ***ret)
{
	size_t n = 0, room = 0;

	*ret = NULL;
	for (unsigned int i = 0; i < SANDBOX_BUCKETS; i++) {
		for (struct agt_sandbox *sb = a->sandboxes[i]; sb; sb = sb->next) {
			if (n == room) {
				Report **grown = reallocarray(*ret, room * 2 + 64, sizeof(**ret));

				if (!grown)
					return n;
				*ret = grown;
				room = room * 2 + 64;
			}
			(*ret)[n++] = sb->report;
		}
	}
	return n;
}
