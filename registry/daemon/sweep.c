/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walks over the records. The steady one goes in small portions, so that a million records cost no
 * more per second than a few thousand do; it finds expire times, unconfirmed stops and old exits. A
 * whole one follows an agent's hello or loss, at once.
 * A record costs 0.15 to 0.4 µs (two-core VM): a portion at most 1.3 ms of each tick's 25, a pass
 * over 4,000 records 100 ms, over a million 6 s, a whole walk over a million a third of a second.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon.h"

enum { PORTION = 4000 };
#define PASS_NS (100 * NS_PER_MS) /* at least so long from the start of a pass to the next */

struct rd_sweep {
	uint32_t cursor;
	uint64_t pass_started_ns;
	bool between; /* waiting for the next pass */
	bool whole;   /* a whole walk is asked for */
	struct reg_sandbox_view view;
};

struct rd_sweep *rd_sweep_new(struct rd_daemon *d)
{
	return calloc(1, sizeof(struct rd_sweep));
}

struct rd_sweep *rd_sweep_free(struct rd_sweep *sweep)
{
	free(sweep);
	return NULL;
}

void rd_sweep_soon(struct rd_daemon *d)
{
	d->sweep->whole = true;
}

/* When the agent of a record was last heard of. */
static int64_t last_seen(struct rd_daemon *d, const struct reg_sandbox_view *view,
			 const struct rd_agent *agent)
{
	struct reg_agent_view row;

	if (agent)
		return agent->seen_unix_ns;
	if (view->agent.idx != UINT32_MAX && reg_agent_get(d->me, view->agent, &row) == REG_OK &&
	    row.heartbeat_unix_ns)
		return row.heartbeat_unix_ns;
	return clock_unix_ns() - (int64_t)(clock_mono_ns() - d->loaded_ns);
}

static void lose(struct rd_daemon *d, const struct reg_sandbox_view *view,
		 const struct rd_agent *agent)
{
	char message[REG_MESSAGE_MAX + 1], since[40];
	int64_t seen = last_seen(d, view, agent);

	clock_rfc3339(seen, since, sizeof(since));
	memcpy(since + 19, "Z", 2); /* to the second: what follows is noise to a reader */
	if (view->agent_name[0])
		snprintf(message, sizeof(message), "agent %.150s unreachable since %s",
			 view->agent_name, since);
	else
		snprintf(message, sizeof(message), "was not at any agent when the arena was lost");
	if (reg_lost(d->me, view->sandbox, message) != REG_OK)
		return;
	log_warn("sandbox lost", "namespace=%s name=%s id=%s err=%s", view->ns, view->name,
		 view->id, message);
	if (view->deleting && reg_stop(d->me, view->sandbox, REG_STOP_DELETE, NULL) == REG_OK)
		rd_stop_track(d, view, true);
}

static void delete_when_old(struct rd_daemon *d, const struct reg_sandbox_view *view)
{
	int64_t age = clock_unix_ns() - view->exit.finished_unix_ns;

	if (age < (int64_t)d->options->exited_ttl_ns)
		return;
	if (reg_stop(d->me, view->sandbox, REG_STOP_DELETE, NULL) == REG_OK)
		rd_stop_track(d, view, true);
}

static void visit(struct rd_daemon *d, const struct reg_sandbox_view *view)
{
	struct rd_agent *agent;

	switch (view->state) {
	case REG_RESERVED:
	case REG_STARTING:
		rd_expiry_note(d, view->sandbox, view->expire_unix_s);
		break;
	case REG_RUNNING:
		rd_expiry_note(d, view->sandbox, view->expire_unix_s);
		/* fall through */
	case REG_RESTORED:
		agent = rd_agent_of(d, view);
		if (rd_agent_is_out(d, agent))
			lose(d, view, agent);
		break;
	case REG_STOPPING:
		rd_stop_track(d, view, false);
		break;
	case REG_EXITED:
		delete_when_old(d, view);
		break;
	default:
		break;
	}
}

static void compare_with_report(struct rd_daemon *d, const struct reg_sandbox_view *view)
{
	struct rd_agent *agent = rd_agent_of(d, view);

	if (rd_agent_is_up(agent) && agent->reported && !rd_merge_was_reported(agent, view->id))
		rd_merge_missing(agent, view);
}

static void walk_all(struct rd_daemon *d)
{
	struct rd_sweep *s = d->sweep;
	uint32_t cursor = 0;

	s->whole = false;
	while (reg_next(d->me, &cursor, NULL, &s->view)) {
		compare_with_report(d, &s->view);
		visit(d, &s->view);
	}
	for (struct rd_agent *a = d->agents; a; a = a->next)
		rd_merge_forget(a);
}

void rd_sweep_portion(struct rd_daemon *d)
{
	struct rd_sweep *s = d->sweep;
	uint64_t now = clock_mono_ns();

	if (s->whole)
		walk_all(d);
	if (s->between && now - s->pass_started_ns < PASS_NS)
		return;
	if (s->between || !s->cursor)
		s->pass_started_ns = now;
	s->between = false;
	for (int i = 0; i < PORTION; i++) {
		if (!reg_next(d->me, &s->cursor, NULL, &s->view)) {
			s->cursor = 0;
			s->between = true;
			return;
		}
		visit(d, &s->view);
	}
}
