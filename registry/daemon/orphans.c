/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dead participants. What they had only reserved, reg_reap takes back; what they may have sent to
 * an agent belongs to us until the agent has said (fence) whether it runs: commit or abort. An
 * agent that does not answer keeps the record STARTING, under our ownership, until it is declared
 * lost; then the record is committed and LOST, so that its name says what happened. If we die
 * before, our successor reaps us and asks again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon.h"

#define ASK_AGAIN_NS (500 * NS_PER_MS)

struct rd_orphan {
	struct rd_orphan *next;
	struct reg_lease lease;
	uint64_t due_ns;
	bool asked, done;
};

static void on_orphan(void *arg, const struct reg_orphan *found)
{
	struct rd_daemon *d = arg;
	struct rd_orphan *o = calloc(1, sizeof(*o));

	if (!o)
		return; /* ours in the arena still; a restart finds it */
	o->lease = found->lease;
	o->next = d->orphans;
	d->orphans = o;
}

void rd_reap(struct rd_daemon *d)
{
	struct reg_reap_result result = {0};
	enum reg_status st = reg_reap(d->me, on_orphan, d, &result);

	if (st != REG_OK)
		log_error("reaping failed", "err=%s", reg_status_text(st));
	if (result.participants)
		log_warn("dead participants reaped", "participants=%u released=%u orphans=%u",
			 result.participants, result.released, result.orphans);
	rd_orphans_drive(d);
}

static enum reg_status commit(struct rd_daemon *d, struct rd_orphan *o, int64_t started_unix_ns)
{
	const struct reg_started started = {.started_unix_ns = started_unix_ns};
	struct reg_sandbox_view view;
	enum reg_status st = reg_commit(d->me, &o->lease, &started);

	o->done = true;
	if (st == REG_DELETING && reg_view(d->me, o->lease.sandbox, &view) == REG_OK)
		rd_stop_track(d, &view, true);
	return st;
}

static struct rd_orphan *find(struct rd_daemon *d, reg_sandbox_id sandbox)
{
	for (struct rd_orphan *o = d->orphans; o; o = o->next) {
		if (o->lease.sandbox.idx == sandbox.idx && o->lease.sandbox.gen == sandbox.gen)
			return o;
	}
	return NULL;
}

static void on_answer(struct rd_daemon *d, void *arg, enum rd_fence answer,
		      const Fsb__Agent__V1__SandboxReport *report)
{
	reg_sandbox_id *sandbox = arg;
	struct rd_orphan *o = find(d, *sandbox);
	struct reg_exit exit;

	free(sandbox);
	if (!o || o->done)
		return;
	o->asked = false;
	switch (answer) {
	case RD_FENCE_RUNNING:
		(void)commit(d, o, report ? report->started_unix_ns : clock_unix_ns());
		break;
	case RD_FENCE_EXITED:
		exit = rd_exit_of(report->exit);
		(void)commit(d, o, report->started_unix_ns);
		rd_exit_note(d, o->lease.sandbox, &exit);
		break;
	case RD_FENCE_NOT:
		(void)reg_abort(d->me, &o->lease);
		o->done = true;
		break;
	case RD_FENCE_NO_ANSWER:
		break;
	}
	if (o->done)
		log_info("orphan settled", "record=%u running=%d", o->lease.sandbox.idx,
			 answer != RD_FENCE_NOT);
}

static void give_up(struct rd_daemon *d, struct rd_orphan *o, const struct reg_sandbox_view *view)
{
	char message[REG_MESSAGE_MAX + 1];

	snprintf(message, sizeof(message),
		 "its worker died during the start and agent %.100s is unreachable: it may or may "
		 "not run",
		 view->agent_name);
	if (commit(d, o, clock_unix_ns()) == REG_OK)
		reg_lost(d->me, o->lease.sandbox, message);
}

static void drive_one(struct rd_daemon *d, struct rd_orphan *o, uint64_t now)
{
	struct reg_sandbox_view view;
	struct rd_agent *agent;
	reg_sandbox_id *sandbox;

	if (o->asked || o->done || now < o->due_ns)
		return;
	if (reg_view(d->me, o->lease.sandbox, &view) != REG_OK) {
		o->done = true;
		return;
	}
	o->due_ns = now + ASK_AGAIN_NS;
	agent = rd_agent_of(d, &view);
	if (rd_agent_is_up(agent)) {
		sandbox = malloc(sizeof(*sandbox));
		if (!sandbox)
			return;
		*sandbox = o->lease.sandbox;
		o->asked = true;
		rd_fence_ask(agent, view.id, view.generation, on_answer, sandbox);
	} else if (rd_agent_is_out(d, agent)) {
		give_up(d, o, &view);
	} else {
		o->due_ns = now; /* as soon as the link is up */
	}
}

void rd_orphans_drive(struct rd_daemon *d)
{
	struct rd_orphan **at = &d->orphans;
	uint64_t now = clock_mono_ns();

	for (struct rd_orphan *o = d->orphans; o; o = o->next)
		drive_one(d, o, now);
	while (*at) {
		struct rd_orphan *o = *at;

		if (o->done && !o->asked) {
			*at = o->next;
			free(o);
		} else {
			at = &o->next;
		}
	}
}

void rd_orphans_done(struct rd_daemon *d)
{
	while (d->orphans) {
		struct rd_orphan *o = d->orphans;

		d->orphans = o->next;
		free(o);
	}
}
