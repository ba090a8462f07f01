/* SPDX-License-Identifier: Apache-2.0 */
/* What peers command, one command at a time. Each is acknowledged exactly once, here or when the
 * launcher has answered. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "base/cleanup.h"
#include "base/failpoint.h"
#include "base/pb.h"
#include "base/str.h"

enum { SPEC_BYTES_MAX = 64 << 10 };

/* A command on its way through the launcher. */
struct pending {
	struct agt_peer *peer;
	uint64_t seq;
	char id[ID_MAX + 1];
};

static bool id_is_valid(const char *id)
{
	size_t n = strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");

	return n >= 1 && n <= ID_MAX && !id[n] && *id != '.';
}

/* ---- start ---- */

static void on_started(struct agent *a, const Notice *notice, void *arg)
{
	struct pending *p = arg;
	struct agt_sandbox *sb = agt_sandbox_find(a, p->id);
	uint64_t exec_ns = 0;

	free(p);
	if (!sb)
		return; /* told already, by a notice of the launcher */
	if (!notice) {
		/* The new launcher's list says what became of it. What it has found half-started
		 * still has processes: the answer waits for its removal. */
		sb->doomed = sb->report->state == STATE(STARTING);
		if (!sb->doomed || !sb->seen)
			agt_sandbox_start_done(a, sb, sb->doomed ? ACK(INTERNAL) : ACK(OK),
					       sb->doomed ? AGT_LAUNCHER_DIED : "", 0);
		return;
	}
	if (notice->report) {
		sb->report->started_unix_ns = notice->report->started_unix_ns;
		exec_ns = notice->n_step_ns ? notice->step_ns[notice->n_step_ns - 1] : 0;
	}
	agt_sandbox_start_done(a, sb, notice->code, notice->message, exec_ns);
}

/* Asks the launcher for what spec and image amount to. */
static int launch(struct agent *a, struct agt_sandbox *sb, const struct image *image,
		  const Fsb__V1__SandboxSpec *spec, struct err *err)
{
	Request request = FSB__LAUNCHER__V1__REQUEST__INIT;
	Fsb__Launcher__V1__Start start = FSB__LAUNCHER__V1__START__INIT;
	struct pending *p;
	int rc = merge_start(spec, sb->report->meta->name, image, &a->defaults, &start, err);

	if (rc)
		return rc;
	p = calloc(1, sizeof(*p));
	start.meta = sb->report->meta;
	start.spec = sb->report->spec;
	request.kind_case = FSB__LAUNCHER__V1__REQUEST__KIND_START;
	request.start = &start;
	if (p)
		snprintf(p->id, sizeof(p->id), "%s", sb->report->meta->id);
	rc = p ? agt_launch_send(a, &request, false, on_started, p) : -ENOMEM;
	merge_done(&start);
	if (rc) {
		free(p);
		err_errno(err, -rc, "ask the launcher to start '%s'", sb->report->meta->name);
	}
	return rc;
}

/* Checks that cost nothing; OK, or why not. */
static AckCode admit(struct agent *a, const Fsb__Agent__V1__Start *start, struct err *err)
{
	const Fsb__V1__SandboxMeta *meta = start->meta;

	if (!meta || !id_is_valid(meta->id)) {
		err_set(err, -EINVAL,
			"sandbox id '%.80s' is not 1 to %d letters, digits, '-', '_' or '.'",
			meta ? meta->id : "", ID_MAX);
		return ACK(BAD_SPEC);
	}
	if (!str_is_dns1123_subdomain(meta->name)) {
		err_set(err, -EINVAL, "sandbox name '%.80s' is not a DNS-1123 name", meta->name);
		return ACK(BAD_SPEC);
	}
	if (start->spec.len > SPEC_BYTES_MAX) {
		err_set(err, -EINVAL, "the encoded spec has %zu bytes; at most %d are taken",
			start->spec.len, SPEC_BYTES_MAX);
		return ACK(BAD_SPEC);
	}
	if (agt_fence_forbids(a, meta->id, meta->generation)) {
		err_set(err, -EPERM, "sandbox '%s' generation %lld was fenced", meta->name,
			(long long)meta->generation);
		return ACK(FENCED);
	}
	if (a->capacity > 0 && a->active >= a->capacity) {
		err_set(err, -ENOSPC, "agent '%s' is full: %u of %lld sandboxes are active",
			a->name, a->active, (long long)a->capacity);
		return ACK(RESOURCES);
	}
	return ACK(OK);
}

static const struct image *find_image(struct agent *a, const char *name, struct err *err)
{
	const struct image *image;
	char ref[IMAGE_REF_MAX];

	if (str_image_canonical(name, ref, sizeof(ref))) {
		err_set(err, -EINVAL, "image '%.200s' is not an image reference", name);
		return NULL;
	}
	image = image_store_find(a->images, ref);
	if (!image)
		err_set(err, -ENOENT,
			"image \"%.150s\" is not in the store of agent '%s': load it first", ref,
			a->name);
	return image;
}

/* Adds the record, STARTING with the peer waiting, and launches it. */
static AckCode begin_start(struct agt_peer *peer, uint64_t seq, const Fsb__Agent__V1__Start *start,
			   uint64_t received_ns, struct err *err)
{
	struct agent *a = agt_peer_agent(peer);
	Report report = FSB__AGENT__V1__SANDBOX_REPORT__INIT;
	struct pb_arena *arena;
	ProtobufCMessage *spec;
	const struct image *image;
	struct agt_sandbox *sb;
	int rc = pb_unpack(&fsb__v1__sandbox_spec__descriptor, start->spec.data, start->spec.len,
			   NULL, &arena, &spec, err);

	if (rc) {
		err_wrap(err, "spec of '%s'", start->meta->name);
		return ACK(BAD_SPEC);
	}
	image = find_image(a, ((const Fsb__V1__SandboxSpec *)spec)->image, err);
	if (!image) {
		pb_free(arena);
		return err->code == -ENOENT ? ACK(IMAGE_NOT_FOUND) : ACK(BAD_SPEC);
	}
	report.meta = start->meta;
	report.spec = start->spec;
	sb = agt_sandbox_add(a, &report);
	rc = sb ? agt_sandbox_wait(sb, peer, seq, received_ns, false) : -ENOMEM;
	if (rc)
		err_set(err, rc, "agent '%s' is out of memory", a->name);
	else
		rc = launch(a, sb, image, (const Fsb__V1__SandboxSpec *)spec, err);
	pb_free(arena);
	if (rc && sb)
		agt_sandbox_drop(a, sb);
	return !rc ? ACK(OK) : rc == -EINVAL || rc == -EMSGSIZE ? ACK(BAD_SPEC) : ACK(RESOURCES);
}

/* The id is known: the same start again, or another generation. */
static void start_again(struct agt_peer *peer, uint64_t seq, struct agt_sandbox *sb,
			int64_t generation, uint64_t received_ns)
{
	const Fsb__V1__SandboxMeta *meta = sb->report->meta;
	Ack ack = FSB__AGENT__V1__ACK__INIT;
	char message[256];

	if (meta->generation == generation && sb->report->state == STATE(STARTING)) {
		if (agt_sandbox_wait(sb, peer, seq, received_ns, false))
			agt_peer_ack_code(peer, seq, ACK(RESOURCES), "the agent is out of memory");
		return;
	}
	ack.seq = seq;
	ack.start_ns = sb->start_ns;
	ack.started_unix_ns = sb->report->started_unix_ns;
	ack.report = sb->report;
	if (meta->generation != generation) {
		snprintf(message, sizeof(message),
			 "sandbox '%s' is here with generation %lld; generation %lld was asked for",
			 meta->name, (long long)meta->generation, (long long)generation);
		ack.code = meta->generation > generation ? ACK(FENCED) : ACK(EXISTS);
		ack.message = message;
	}
	agt_peer_ack(peer, &ack);
}

static void command_start(struct agt_peer *peer, uint64_t seq, const Fsb__Agent__V1__Start *start,
			  uint64_t received_ns)
{
	struct agent *a = agt_peer_agent(peer);
	struct err err = ERR_INIT;
	struct agt_sandbox *sb = start->meta ? agt_sandbox_find(a, start->meta->id) : NULL;
	AckCode code;

	(void)FAILPOINT("agent.start");
	if (sb) {
		start_again(peer, seq, sb, start->meta->generation, received_ns);
		return;
	}
	code = admit(a, start, &err);
	if (code == ACK(OK))
		code = begin_start(peer, seq, start, received_ns, &err);
	if (code != ACK(OK))
		agt_peer_ack_code(peer, seq, code, err.msg);
}

/* ---- the others: the launcher's answer is passed on ---- */

static void on_answered(struct agent *a, const Notice *notice, void *arg)
{
	struct pending *p = arg;

	/* NULL only when this agent ends, and then the peer is gone. */
	if (notice)
		agt_peer_ack_code(p->peer, p->seq, notice->code, notice->message);
	agt_peer_unref(p->peer);
	free(p);
}

static void forward(struct agt_peer *peer, uint64_t seq, Request *request)
{
	struct pending *p = calloc(1, sizeof(*p));
	int rc = p ? 0 : -ENOMEM;

	if (p) {
		p->peer = agt_peer_ref(peer);
		p->seq = seq;
		rc = agt_launch_send(agt_peer_agent(peer), request, true, on_answered, p);
	}
	if (!rc)
		return;
	agt_peer_ack_code(peer, seq, ACK(INTERNAL), strerror(-rc));
	if (p)
		agt_peer_unref(p->peer);
	free(p);
}

static void command_stop(struct agt_peer *peer, uint64_t seq, Fsb__Agent__V1__Stop *stop)
{
	Request request = FSB__LAUNCHER__V1__REQUEST__INIT;

	request.kind_case = FSB__LAUNCHER__V1__REQUEST__KIND_STOP;
	request.stop = stop;
	forward(peer, seq, &request);
}

static void command_remove(struct agt_peer *peer, uint64_t seq, Fsb__Agent__V1__Remove *remove_id)
{
	Request request = FSB__LAUNCHER__V1__REQUEST__INIT;

	request.kind_case = FSB__LAUNCHER__V1__REQUEST__KIND_REMOVE;
	request.remove = remove_id;
	forward(peer, seq, &request);
}

static void command_set_meta(struct agt_peer *peer, uint64_t seq, Fsb__V1__SandboxMeta *meta)
{
	struct agt_sandbox *sb = agt_sandbox_find(agt_peer_agent(peer), meta->id);
	Request request = FSB__LAUNCHER__V1__REQUEST__INIT;

	if (!sb || sb->report->meta->generation != meta->generation) {
		agt_peer_ack_code(peer, seq, ACK(OK), "");
		return;
	}
	if (agt_sandbox_set_meta(sb, meta)) {
		agt_peer_ack_code(peer, seq, ACK(RESOURCES), "the agent is out of memory");
		return;
	}
	request.kind_case = FSB__LAUNCHER__V1__REQUEST__KIND_SET_META;
	request.set_meta = meta;
	forward(peer, seq, &request);
}

/* ---- fence ---- */

static void command_fence(struct agt_peer *peer, uint64_t seq, const Fsb__Agent__V1__Fence *fence)
{
	struct agent *a = agt_peer_agent(peer);
	struct agt_sandbox *sb = agt_sandbox_find(a, fence->id);
	Ack ack = FSB__AGENT__V1__ACK__INIT;
	char message[160];
	int rc = 0;

	ack.seq = seq;
	if (sb && sb->report->meta->generation >= fence->generation) {
		if (sb->report->state == STATE(STARTING) &&
		    !agt_sandbox_wait(sb, peer, seq, 0, true))
			return;
		ack.running = true;
		ack.report = sb->report;
	} else {
		rc = id_is_valid(fence->id) ? agt_fence_put(a, fence->id, fence->generation)
					    : -EINVAL;
	}
	if (rc) {
		snprintf(message, sizeof(message), "fence '%.64s': %s", fence->id, strerror(-rc));
		ack.code = ACK(INTERNAL);
		ack.message = message;
	}
	agt_peer_ack(peer, &ack);
}

void agt_command(struct agt_peer *peer, const Command *command, uint64_t received_ns)
{
	if (!agt_peer_is_current(peer)) {
		agt_peer_ack_code(
			peer, command->seq, ACK(STALE_EPOCH),
			"the command comes from a controller epoch that has been superseded");
		return;
	}
	switch (command->kind_case) {
	case FSB__AGENT__V1__COMMAND__KIND_START:
		command_start(peer, command->seq, command->start, received_ns);
		break;
	case FSB__AGENT__V1__COMMAND__KIND_STOP:
		command_stop(peer, command->seq, command->stop);
		break;
	case FSB__AGENT__V1__COMMAND__KIND_REMOVE:
		command_remove(peer, command->seq, command->remove);
		break;
	case FSB__AGENT__V1__COMMAND__KIND_FENCE:
		command_fence(peer, command->seq, command->fence);
		break;
	case FSB__AGENT__V1__COMMAND__KIND_SET_META:
		command_set_meta(peer, command->seq, command->set_meta);
		break;
	default:
		agt_peer_ack_code(peer, command->seq, ACK(INTERNAL),
				  "the agent does not know this command");
		break;
	}
}
