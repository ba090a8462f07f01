/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What peers command. A simulated agent answers as fsb-agent and its launcher do, word by word of
 * agent.proto; it only starts nothing. Each command is acknowledged exactly once, at its moment.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/pb.h"
#include "base/str.h"
#include "sim.h"
#include "spec.pb-c.h"

enum { SPEC_BYTES_MAX = 64 << 10, IMAGE_REF_MAX = 512 };

static const char no_memory[] = "the simulated agent is out of memory";

static struct sim_sandbox *sandbox_of(struct due_item *item)
{
	return (struct sim_sandbox *)(void *)((char *)item - offsetof(struct sim_sandbox, due));
}

static bool id_is_valid(const char *id)
{
	size_t n = strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");

	return n >= 1 && n <= SIM_ID_MAX && !id[n] && *id != '.';
}

/* ---- events ---- */

static void fill_end(const struct sim_sandbox *sb, Fsb__Agent__V1__SandboxExited *to)
{
	union {
		const char *in;
		char *out; /* the generated structs have no const */
	} ns = {.in = sb->ns}, name = {.in = sb->name}, id = {.in = sb->id};
	union {
		const Fsb__Agent__V1__ExitInfo *in;
		Fsb__Agent__V1__ExitInfo *out;
	} exit = {.in = &sb->exit};

	fsb__agent__v1__sandbox_exited__init(to);
	to->namespace_ = ns.out;
	to->name = name.out;
	to->id = id.out;
	to->generation = sb->generation;
	to->exit = exit.out;
}

static void event_exited(struct sim_sandbox *sb)
{
	Fsb__Agent__V1__Event event = FSB__AGENT__V1__EVENT__INIT;
	Fsb__Agent__V1__SandboxExited exited;

	fill_end(sb, &exited);
	event.kind_case = FSB__AGENT__V1__EVENT__KIND_EXITED;
	event.exited = &exited;
	sim_event(sb->agent, &event);
}

static void event_removed(struct sim_sandbox *sb)
{
	Fsb__Agent__V1__Event event = FSB__AGENT__V1__EVENT__INIT;
	Fsb__Agent__V1__SandboxRemoved removed = FSB__AGENT__V1__SANDBOX_REMOVED__INIT;
	Fsb__Agent__V1__SandboxExited end;

	fill_end(sb, &end);
	removed.namespace_ = end.namespace_;
	removed.name = end.name;
	removed.id = end.id;
	removed.generation = end.generation;
	removed.exit = end.exit;
	event.kind_case = FSB__AGENT__V1__EVENT__KIND_REMOVED;
	event.removed = &removed;
	sim_event(sb->agent, &event);
}

static void set_exit(struct sim_sandbox *sb, int32_t code, int32_t signo)
{
	sb->exit.code = code;
	sb->exit.signal = signo;
	sb->exit.finished_unix_ns = clock_unix_ns();
}

/* ---- answers to who waits ---- */

static void ack_state(struct sim_peer *peer, uint64_t seq, const struct sim_sandbox *sb,
		      AckCode code, const char *message, bool running)
{
	union {
		const char *in;
		char *out; /* the generated struct has no const */
	} text = {.in = message};
	Ack ack = FSB__AGENT__V1__ACK__INIT;
	struct sim_report report = {.bytes = NULL};

	ack.seq = seq;
	ack.code = code;
	ack.message = text.out;
	ack.running = running;
	ack.start_ns = sb->start_ns;
	ack.started_unix_ns = sb->started_unix_ns;
	if (!sim_report_fill(&report, sb))
		ack.report = &report.msg;
	sim_peer_ack(peer, &ack);
	sim_report_done(&report);
}

static void ack_started(struct sim_peer *peer, uint64_t seq, const struct sim_sandbox *sb)
{
	Ack ack = FSB__AGENT__V1__ACK__INIT;

	ack.seq = seq;
	ack.start_ns = sb->start_ns;
	ack.started_unix_ns = sb->started_unix_ns;
	sim_peer_ack(peer, &ack);
}

static void fence(struct sim_peer *peer, uint64_t seq, const char *id, int64_t generation)
{
	struct sim_agent *agent = sim_peer_agent(peer);
	int rc = id_is_valid(id) ? sim_fence_put(agent, id, generation) : -EINVAL;
	char message[160];

	agent->sim->stats.fenced += !rc;
	if (!rc) {
		sim_peer_ack_code(peer, seq, ACK(OK), "");
		return;
	}
	snprintf(message, sizeof(message), "fence '%.64s': %s", id, strerror(-rc));
	sim_peer_ack_code(peer, seq, ACK(INTERNAL), message);
}

/* Answers and forgets those that wait for `what`; message NULL: it went well. */
static void answer(struct sim_sandbox *sb, enum sim_wait what, const char *message)
{
	struct sim_waiter **at = &sb->waiters, *w;

	while ((w = *at)) {
		if (w->what != what) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		if (message && what == SIM_WAIT_FENCE)
			fence(w->peer, w->seq, sb->id, sb->generation);
		else if (message)
			sim_peer_ack_code(w->peer, w->seq, ACK(INTERNAL), message);
		else if (what == SIM_WAIT_START)
			ack_started(w->peer, w->seq, sb);
		else if (what == SIM_WAIT_FENCE)
			ack_state(w->peer, w->seq, sb, ACK(OK), "", true);
		else
			sim_peer_ack_code(w->peer, w->seq, ACK(OK), "");
		sim_peer_unref(w->peer);
		free(w);
	}
}

static void note_lateness(struct sim *sim, const struct due_item *item)
{
	uint64_t late = clock_mono_ns() - item->at_ns;

	sim->stats.late_count++;
	sim->stats.late_ns_sum += (double)late;
	if (late > sim->stats.late_ns_max)
		sim->stats.late_ns_max = late;
}

/* ---- start ---- */

static void on_exit_due(struct due_item *item)
{
	struct sim_sandbox *sb = sandbox_of(item);

	sb->agent->sim->stats.exits++;
	set_exit(sb, 0, 0);
	sim_sandbox_set_state(sb, SIM_EXITED);
	event_exited(sb);
}

static void started(struct sim_sandbox *sb)
{
	struct sim *sim = sb->agent->sim;
	uint64_t now = clock_mono_ns();

	sim->stats.started++;
	sb->start_ns = now - sb->received_ns;
	sb->started_unix_ns = clock_unix_ns();
	sim_sandbox_set_state(sb, SIM_RUNNING);
	answer(sb, SIM_WAIT_START, NULL);
	answer(sb, SIM_WAIT_FENCE, NULL);
	if (sim->o.exits)
		(void)due_set(sim->due, &sb->due, now + dist_draw(&sim->o.exit_after, &sim->rng),
			      on_exit_due);
}

static void on_start_due(struct due_item *item)
{
	struct sim_sandbox *sb = sandbox_of(item);

	note_lateness(sb->agent->sim, item);
	started(sb);
}

static bool has_image(const struct sim_agent *agent, const char *ref)
{
	const struct sim_options *o = &agent->sim->o;

	for (uint32_t i = 0; i < agent->image_count; i++) {
		if (!strcmp(o->images[agent->images ? agent->images[i] : i], ref))
			return true;
	}
	return false;
}

static AckCode check_image(struct sim_agent *agent, const Fsb__Agent__V1__Start *start,
			   struct err *err)
{
	struct pb_arena *arena;
	ProtobufCMessage *spec;
	char ref[IMAGE_REF_MAX];
	AckCode code = ACK(OK);

	if (pb_unpack(&fsb__v1__sandbox_spec__descriptor, start->spec.data, start->spec.len, NULL,
		      &arena, &spec, err)) {
		agent->sim->stats.refused_spec++;
		return ACK(BAD_SPEC);
	}
	if (str_image_canonical(((const Fsb__V1__SandboxSpec *)spec)->image, ref, sizeof(ref))) {
		err_set(err, -EINVAL, "image '%.200s' is not an image reference",
			((const Fsb__V1__SandboxSpec *)spec)->image);
		agent->sim->stats.refused_spec++;
		code = ACK(BAD_SPEC);
	} else if (!has_image(agent, ref)) {
		err_set(err, -ENOENT,
			"image \"%.150s\" is not in the store of simulated agent '%s'", ref,
			agent->name);
		agent->sim->stats.refused_image++;
		code = ACK(IMAGE_NOT_FOUND);
	}
	pb_free(arena);
	return code;
}

/* In the order of the real agent's checks. */
static AckCode admit(struct sim_agent *agent, const Fsb__Agent__V1__Start *start, struct err *err)
{
	const Fsb__V1__SandboxMeta *meta = start->meta;
	struct sim *sim = agent->sim;

	if (!meta || !id_is_valid(meta->id) || !str_is_dns1123_subdomain(meta->name) ||
	    start->spec.len > SPEC_BYTES_MAX) {
		sim->stats.refused_spec++;
		err_set(err, -EINVAL,
			"want a sandbox id of 1 to %d letters, digits, '-', '_' or '.', a DNS-1123 "
			"name and a spec of at most %d bytes",
			SIM_ID_MAX, SPEC_BYTES_MAX);
		return ACK(BAD_SPEC);
	}
	if (sim_fence_forbids(agent, meta->id, meta->generation)) {
		sim->stats.refused_fenced++;
		err_set(err, -EPERM, "sandbox '%s' generation %lld was fenced", meta->name,
			(long long)meta->generation);
		return ACK(FENCED);
	}
	if (sim->o.capacity > 0 && agent->active >= sim->o.capacity) {
		sim->stats.refused_full++;
		err_set(err, -ENOSPC,
			"simulated agent '%s' is full: %u of %lld sandboxes are active",
			agent->name, agent->active, (long long)sim->o.capacity);
		return ACK(RESOURCES);
	}
	return check_image(agent, start, err);
}

/* The id is known: the same start again, or another generation. */
static void start_again(struct sim_peer *peer, uint64_t seq, struct sim_sandbox *sb,
			int64_t generation)
{
	char message[256];

	sb->agent->sim->stats.repeats++;
	if (sb->generation != generation) {
		snprintf(message, sizeof(message),
			 "sandbox '%.80s' is here with generation %lld; generation %lld was asked "
			 "for",
			 sb->name, (long long)sb->generation, (long long)generation);
		ack_state(peer, seq, sb, sb->generation > generation ? ACK(FENCED) : ACK(EXISTS),
			  message, false);
	} else if (sb->state != SIM_STARTING) {
		ack_state(peer, seq, sb, ACK(OK), "", false);
	} else if (sim_sandbox_wait(sb, peer, seq, SIM_WAIT_START)) {
		sim_peer_ack_code(peer, seq, ACK(RESOURCES), no_memory);
	}
}

static void begin_start(struct sim_peer *peer, uint64_t seq, const Fsb__Agent__V1__Start *start,
			uint64_t received_ns)
{
	struct sim_agent *agent = sim_peer_agent(peer);
	struct sim *sim = agent->sim;
	struct sim_sandbox *sb = sim_sandbox_add(agent, start);
	uint64_t delay = dist_draw(&sim->o.ack_delay, &sim->rng);
	int rc = sb ? sim_sandbox_wait(sb, peer, seq, SIM_WAIT_START) : -ENOMEM;

	if (!rc) {
		sb->received_ns = received_ns;
		if (delay)
			rc = due_set(sim->due, &sb->due, received_ns + delay, on_start_due);
		else
			started(sb);
	}
	if (!rc)
		return;
	if (sb)
		sim_sandbox_drop(sb);
	sim_peer_ack_code(peer, seq, ACK(RESOURCES), no_memory);
}

static void command_start(struct sim_peer *peer, uint64_t seq, const Fsb__Agent__V1__Start *start,
			  uint64_t received_ns)
{
	struct sim_agent *agent = sim_peer_agent(peer);
	struct sim *sim = agent->sim;
	struct err err = ERR_INIT;
	struct sim_sandbox *sb = start->meta ? sim_sandbox_find(agent, start->meta->id) : NULL;
	AckCode code;

	sim->stats.starts++;
	if (sb) {
		start_again(peer, seq, sb, start->meta->generation);
		return;
	}
	code = admit(agent, start, &err);
	if (code == ACK(OK) && sim->o.fail_rate > 0 && rng_unit(&sim->rng) <= sim->o.fail_rate) {
		sim->stats.failed++;
		code = ACK(INTERNAL);
		err_set(&err, -EIO, "a failure was simulated (--fail-rate)");
	}
	if (code == ACK(OK))
		begin_start(peer, seq, start, received_ns);
	else
		sim_peer_ack_code(peer, seq, code, err.msg);
}

/* ---- stop and remove ---- */

static void end_stop(struct sim_sandbox *sb)
{
	if (sb->state != SIM_EXITED) {
		set_exit(sb, -1, SIGKILL);
		sb->agent->sim->stats.stopped++;
	}
	sim_sandbox_set_state(sb, SIM_EXITED);
	sb->stopped = sb->keep_files;
	event_removed(sb);
	answer(sb, SIM_WAIT_STOP, NULL);
	if (!sb->keep_files)
		sim_sandbox_drop(sb);
}

static void on_stop_due(struct due_item *item)
{
	struct sim_sandbox *sb = sandbox_of(item);

	note_lateness(sb->agent->sim, item);
	end_stop(sb);
}

/* What never started leaves no exit behind, only answers. */
static void stop_starting(struct sim_sandbox *sb)
{
	static const char why[] = "the sandbox was stopped while it was starting";

	answer(sb, SIM_WAIT_START, why);
	answer(sb, SIM_WAIT_FENCE, why);
	answer(sb, SIM_WAIT_STOP, NULL);
	sim_sandbox_drop(sb);
}

static void command_stop(struct sim_peer *peer, uint64_t seq, const Fsb__Agent__V1__Stop *stop)
{
	struct sim_agent *agent = sim_peer_agent(peer);
	struct sim *sim = agent->sim;
	struct sim_sandbox *sb = sim_sandbox_find(agent, stop->id);
	uint64_t delay;

	sim->stats.stops++;
	/* A stop of an earlier generation is late: that one is gone. */
	if (!sb || (stop->generation && stop->generation < sb->generation)) {
		sim_peer_ack_code(peer, seq, ACK(OK), "");
		return;
	}
	sb->keep_files = stop->keep_files && (sb->state != SIM_STOPPING || sb->keep_files);
	if (sim_sandbox_wait(sb, peer, seq, SIM_WAIT_STOP)) {
		sim_peer_ack_code(peer, seq, ACK(RESOURCES), no_memory);
		return;
	}
	if (sb->state == SIM_STARTING) {
		stop_starting(sb);
	} else if (sb->state == SIM_EXITED) {
		end_stop(sb);
	} else if (sb->state == SIM_RUNNING) {
		delay = dist_draw(&sim->o.stop_delay, &sim->rng);
		sim_sandbox_set_state(sb, SIM_STOPPING);
		due_cancel(sim->due, &sb->due);
		if (!delay || due_set(sim->due, &sb->due, clock_mono_ns() + delay, on_stop_due))
			end_stop(sb);
	}
}

static void command_remove(struct sim_peer *peer, uint64_t seq, const char *id)
{
	struct sim_agent *agent = sim_peer_agent(peer);
	struct sim_sandbox *sb = sim_sandbox_find(agent, id);
	char message[256];

	agent->sim->stats.removes++;
	if (sb && sb->state != SIM_EXITED) {
		snprintf(message, sizeof(message),
			 "sandbox '%.64s' (%.64s) is still running: stop it first", sb->name, id);
		sim_peer_ack_code(peer, seq, ACK(STILL_RUNNING), message);
		return;
	}
	if (sb) {
		event_removed(sb);
		sim_sandbox_drop(sb);
	}
	sim_peer_ack_code(peer, seq, ACK(OK), "");
}

/* ---- the others ---- */

static void command_fence(struct sim_peer *peer, uint64_t seq, const Fsb__Agent__V1__Fence *ask)
{
	struct sim_agent *agent = sim_peer_agent(peer);
	struct sim_sandbox *sb = sim_sandbox_find(agent, ask->id);

	agent->sim->stats.fences++;
	if (!sb || sb->generation < ask->generation)
		fence(peer, seq, ask->id, ask->generation);
	else if (sb->state != SIM_STARTING || sim_sandbox_wait(sb, peer, seq, SIM_WAIT_FENCE))
		ack_state(peer, seq, sb, ACK(OK), "", true);
}

static void command_set_meta(struct sim_peer *peer, uint64_t seq, const Fsb__V1__SandboxMeta *meta)
{
	struct sim_sandbox *sb = sim_sandbox_find(sim_peer_agent(peer), meta->id);

	if (sb && sb->generation == meta->generation && sim_sandbox_set_meta(sb, meta))
		sim_peer_ack_code(peer, seq, ACK(RESOURCES), no_memory);
	else
		sim_peer_ack_code(peer, seq, ACK(OK), "");
}

void sim_command(struct sim_peer *peer, const Command *command, uint64_t received_ns)
{
	struct sim_stats *stats = &sim_peer_agent(peer)->sim->stats;

	stats->commands++;
	if (!sim_peer_is_current(peer)) {
		stats->refused_epoch++;
		sim_peer_ack_code(
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
		command_remove(peer, command->seq, command->remove->id);
		break;
	case FSB__AGENT__V1__COMMAND__KIND_FENCE:
		command_fence(peer, command->seq, command->fence);
		break;
	case FSB__AGENT__V1__COMMAND__KIND_SET_META:
		command_set_meta(peer, command->seq, command->set_meta);
		break;
	default:
		sim_peer_ack_code(peer, command->seq, ACK(INTERNAL),
				  "the agent does not know this command");
		break;
	}
}
