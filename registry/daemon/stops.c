/* SPDX-License-Identifier: Apache-2.0 */
/*
 * STOPPING records until somebody has confirmed the end: ours (expiry, exited-ttl) at once, a
 * worker's when two seconds have passed without a confirmation, because the worker may be dead.
 * Stop is idempotent at the agent, so commanding twice does no harm.
 *
 * With its agent lost nobody can confirm. Such a record is let go: a user must be able to delete a
 * LOST sandbox. If the agent comes back with it after all, merge.c has it removed: by its age, when
 * it is of this arena's time, or because its id was noted here. (What is forgotten is a sandbox of
 * an earlier arena's time whose record was let go before registryd's last restart: it is adopted
 * again.)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon.h"

#define RESEND_NS (2 * NS_PER_S)

struct rd_stop {
	reg_sandbox_id sandbox;
	uint64_t due_ns;
	bool in_flight;
};

enum { CONDEMNED_MAX = 4096 };

struct rd_condemned {
	uint32_t count;
	char ids[CONDEMNED_MAX][REG_ID_MAX + 1]; /* a ring */
};

struct sent {
	struct rd_daemon *d;
	reg_sandbox_id sandbox;
};

static void condemn(struct rd_daemon *d, const char *id)
{
	if (!d->condemned)
		d->condemned = calloc(1, sizeof(*d->condemned));
	if (d->condemned)
		snprintf(d->condemned->ids[d->condemned->count++ % CONDEMNED_MAX], REG_ID_MAX + 1,
			 "%s", id);
}

bool rd_stop_is_condemned(const struct rd_daemon *d, const char *id)
{
	for (uint32_t i = 0; d->condemned && i < d->condemned->count && i < CONDEMNED_MAX; i++) {
		if (strcmp(d->condemned->ids[i], id) == 0)
			return true;
	}
	return false;
}

static struct rd_stop *find(struct rd_daemon *d, reg_sandbox_id sandbox)
{
	struct rd_stop *s = rd_map_get(&d->stops, sandbox.idx);

	return s && s->sandbox.gen == sandbox.gen ? s : NULL;
}

static void on_ack(void *arg, enum agentlink_result result, const Fsb__Agent__V1__Ack *ack,
		   const char *reason)
{
	struct sent *sent = arg;
	struct rd_stop *s = find(sent->d, sent->sandbox);
	struct reg_exit exit;

	if (s)
		s->in_flight = false;
	if (result == AGENTLINK_ACKED && ack->code == FSB__AGENT__V1__ACK_CODE__OK) {
		if (ack->report)
			exit = rd_exit_of(ack->report->exit);
		(void)reg_stopped(sent->d->me, sent->sandbox,
				  ack->report && ack->report->exit ? &exit : NULL);
	} else {
		log_warn("stop not confirmed", "err=%s",
			 result == AGENTLINK_ACKED ? ack->message : reason);
	}
	free(sent);
}

static int command(struct rd_agent *agent, const char *id, int64_t generation, bool keep_files,
		   agentlink_ack_fn fn, void *arg)
{
	Fsb__Agent__V1__Stop stop = FSB__AGENT__V1__STOP__INIT;
	Fsb__Agent__V1__Command msg = FSB__AGENT__V1__COMMAND__INIT;

	stop.id = (char *)(uintptr_t)id;
	stop.generation = generation;
	stop.keep_files = keep_files;
	msg.kind_case = FSB__AGENT__V1__COMMAND__KIND_STOP;
	msg.stop = &stop;
	return agentlink_command(agent->link, &msg, 0, fn, arg);
}

static void send_stop(struct rd_daemon *d, struct rd_stop *s, struct rd_agent *agent,
		      const struct reg_sandbox_view *view)
{
	struct sent *sent = malloc(sizeof(*sent));

	if (!sent)
		return;
	*sent = (struct sent){.d = d, .sandbox = s->sandbox};
	s->due_ns = clock_mono_ns() + RESEND_NS;
	if (command(agent, view->id, view->generation, view->expiring && !view->deleting, on_ack,
		    sent) < 0)
		free(sent);
	else
		s->in_flight = true;
}

/* true: there is nothing left to do for it. */
static bool drive_one(struct rd_daemon *d, struct rd_stop *s, uint64_t now)
{
	struct reg_sandbox_view view;
	struct rd_agent *agent;

	if (reg_view(d->me, s->sandbox, &view) != REG_OK || view.state != REG_STOPPING)
		return true;
	if (s->in_flight || now < s->due_ns)
		return false;
	agent = rd_agent_of(d, &view);
	if (rd_agent_is_up(agent)) {
		send_stop(d, s, agent, &view);
	} else if (rd_agent_is_out(d, agent)) {
		log_warn("stop taken as done: its agent is lost", "namespace=%s name=%s agent=%s",
			 view.ns, view.name, view.agent_name);
		condemn(d, view.id);
		(void)reg_stopped(d->me, s->sandbox, NULL);
		return true;
	}
	return false;
}

void rd_stops_drive(struct rd_daemon *d)
{
	uint64_t now = clock_mono_ns();
	uint32_t i = 0;

	while (i < d->stops.size) {
		struct rd_stop *s = d->stops.cells[i].value;

		/* deleting may shift a later cell into this place: look at it again. One shifted
		 * round the end waits a tick */
		if (s && drive_one(d, s, now))
			free(rd_map_del(&d->stops, s->sandbox.idx));
		else
			i++;
	}
}

void rd_stop_track(struct rd_daemon *d, const struct reg_sandbox_view *view, bool now)
{
	uint64_t mono = clock_mono_ns();
	struct rd_stop *s = rd_map_get(&d->stops, view->sandbox.idx);

	if (!s) {
		s = calloc(1, sizeof(*s));
		if (!s || rd_map_put(&d->stops, view->sandbox.idx, s) < 0) {
			free(s);
			return; /* the sweep finds it again */
		}
	} else if (s->sandbox.gen == view->sandbox.gen) {
		if (now && !s->in_flight)
			s->due_ns = mono;
		goto drive;
	}
	*s = (struct rd_stop){.sandbox = view->sandbox, .due_ns = now ? mono : mono + RESEND_NS};
drive:
	if (now && drive_one(d, s, mono))
		free(rd_map_del(&d->stops, view->sandbox.idx));
}

void rd_stops_done(struct rd_daemon *d)
{
	for (uint32_t i = 0; i < d->stops.size; i++)
		free(d->stops.cells[i].value);
	rd_map_done(&d->stops);
	free(d->condemned);
}

/* ---- what has no record ---- */

static void on_leftover_ack(void *arg, enum agentlink_result result, const Fsb__Agent__V1__Ack *ack,
			    const char *reason)
{
	if (result != AGENTLINK_ACKED || ack->code != FSB__AGENT__V1__ACK_CODE__OK)
		log_warn("left-over not removed", "err=%s",
			 result == AGENTLINK_ACKED ? ack->message : reason);
}

void rd_stop_leftover(struct rd_agent *agent, const char *id, int64_t generation, const char *why)
{
	log_warn("left-over sandbox is removed", "id=%s generation=%lld agent=%s why=%s", id,
		 (long long)generation, agent->name, why);
	if (command(agent, id, generation, false, on_leftover_ack, NULL) < 0)
		log_warn("left-over not removed", "id=%s err=%s", id, "the link's queue is full");
}
