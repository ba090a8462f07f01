/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exit and removal events. An exit may be seen here before the worker that commanded the start has
 * its acknowledgement and commits: such an exit waits until the record is RUNNING (or somebody has
 * undone it).
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon.h"

struct rd_exit {
	struct rd_exit *next;
	reg_sandbox_id sandbox;
	struct reg_exit exit;
};

/* true: settled. A delete that came while it was RESTORED is asked for again, now that it can be.
 */
static bool settle(struct rd_daemon *d, reg_sandbox_id sandbox, const struct reg_exit *exit)
{
	struct reg_sandbox_view view;

	if (reg_view(d->me, sandbox, &view) != REG_OK)
		return true;
	if (view.state == REG_RESERVED || view.state == REG_STARTING)
		return false;
	(void)reg_exited(d->me, sandbox, exit); /* of another state: ended by somebody else */
	if (view.state == REG_RESTORED && view.deleting &&
	    reg_stop(d->me, sandbox, REG_STOP_DELETE, NULL) == REG_OK)
		rd_stop_track(d, &view, true);
	return true;
}

void rd_exit_note(struct rd_daemon *d, reg_sandbox_id sandbox, const struct reg_exit *exit)
{
	struct rd_exit *e;

	if (settle(d, sandbox, exit))
		return;
	e = malloc(sizeof(*e));
	if (!e)
		return; /* the agent keeps the exit record and reports it at the next hello */
	*e = (struct rd_exit){.next = d->exits, .sandbox = sandbox, .exit = *exit};
	d->exits = e;
}

void rd_exits_retry(struct rd_daemon *d)
{
	struct rd_exit **at = &d->exits;

	while (*at) {
		struct rd_exit *e = *at;

		if (settle(d, e->sandbox, &e->exit)) {
			*at = e->next;
			free(e);
		} else {
			at = &e->next;
		}
	}
}

void rd_exits_done(struct rd_daemon *d)
{
	while (d->exits) {
		struct rd_exit *e = d->exits;

		d->exits = e->next;
		free(e);
	}
}

/* The record that an event is about: same id, not of a later generation than the event. */
static bool find(struct rd_daemon *d, const char *ns, const char *name, const char *id,
		 int64_t generation, struct reg_sandbox_view *ret)
{
	return reg_get(d->me, ns, name, ret) == REG_OK && strcmp(ret->id, id) == 0 &&
	       generation >= ret->generation;
}

void rd_exit_event(struct rd_agent *agent, const Fsb__Agent__V1__SandboxExited *event)
{
	struct reg_exit exit = rd_exit_of(event->exit);
	struct reg_sandbox_view view;

	if (find(agent->d, event->namespace_, event->name, event->id, event->generation, &view))
		rd_exit_note(agent->d, view.sandbox, &exit);
}

void rd_removed_event(struct rd_agent *agent, const Fsb__Agent__V1__SandboxRemoved *event)
{
	struct reg_exit exit = rd_exit_of(event->exit);
	struct reg_sandbox_view view;

	if (!find(agent->d, event->namespace_, event->name, event->id, event->generation, &view))
		return;
	if (view.state == REG_STOPPING || view.state == REG_RUNNING || view.state == REG_LOST)
		(void)reg_stopped(agent->d->me, view.sandbox, event->exit ? &exit : NULL);
}
