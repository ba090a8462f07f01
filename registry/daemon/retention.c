/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What nobody needs any more: agents that are gone for long and have no sandboxes, rows that no one
 * uses, and (when asked for) a process that stands still and so keeps everything from being freed.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon.h"

enum { SWEEPS = 8 }; /* of 128 rows each, in one turn */

/* ---- agents ---- */

static bool is_gone(struct rd_daemon *d, const struct reg_agent_view *view)
{
	const struct rd_agent *a = rd_map_get(&d->agent_by_idx, view->id.idx);
	int64_t seen = view->heartbeat_unix_ns;

	if (a && !a->lost)
		return false;
	/* one that never gave a sign of life: since the store was loaded */
	if (!seen)
		seen = clock_unix_ns() - (int64_t)(clock_mono_ns() - d->loaded_ns);
	return clock_unix_ns() - seen > (int64_t)d->options->agent_forget_ns;
}

static void forget_agents(struct rd_daemon *d)
{
	struct reg_agent_view view;
	uint32_t cursor = 0;

	while (reg_agent_next(d->me, &cursor, &view)) {
		if (view.removed || view.ready || view.allocated || !is_gone(d, &view) ||
		    reg_agent_remove(d->me, view.id) != REG_OK)
			continue;
		rd_agent_forgotten(d, view.id);
		log_info("agent forgotten", "agent=%s namespace=%s pool=%s", view.name, view.ns,
			 view.pool);
	}
}

/* ---- rows ---- */

static void sweep(struct rd_daemon *d)
{
	struct reg_sweep_result res;
	enum reg_status st = REG_OK;

	for (int i = 0; i < SWEEPS; i++) {
		st = reg_sweep(d->me, &res);
		if (res.retired || res.reclaimed)
			log_info("rows swept", "retired=%u free=%u waiting=%u", res.retired,
				 res.reclaimed, res.backlog);
		if (st != REG_OK || !res.retired)
			break;
	}
	if (st != REG_OK && !d->backlog_told)
		log_warn("nothing can be freed", "waiting=%u err=%s", res.backlog,
			 reg_status_text(st));
	d->backlog_told = st != REG_OK;
}

/* ---- who stands still ---- */

static void end_stopped(struct rd_daemon *d, const struct reg_laggard *l, uint64_t since_ns)
{
	if (!l->pid || kill(l->pid, SIGKILL) != 0)
		log_error("a process stands still", "pid=%d participant=%u s=%lu err=%s", l->pid,
			  l->idx, (unsigned long)(since_ns / NS_PER_S),
			  l->pid ? strerror(errno) : "not of this pid namespace");
	else
		log_error("killed a process that stood still", "pid=%d participant=%u s=%lu",
			  l->pid, l->idx, (unsigned long)(since_ns / NS_PER_S));
}

static void look_at_laggards(struct rd_daemon *d)
{
	uint64_t now = clock_mono_ns();
	struct reg_laggard l;
	uint32_t cursor = 0;

	while (reg_laggard_next(d->me, &cursor, &l)) {
		struct rd_still *s = &d->still[l.idx];

		if (s->incarnation != l.incarnation || s->done != l.done || !s->since_ns)
			*s = (struct rd_still){l.incarnation, l.done, now};
		else if (l.idx != reg_self_idx(d->me) &&
			 now - s->since_ns > d->options->kill_stopped_ns) {
			end_stopped(d, &l, now - s->since_ns);
			s->since_ns = now; /* not again at once */
		}
	}
}

uint64_t rd_retention_interval_ns(const struct rd_daemon *d)
{
	uint64_t ns = d->options->agent_forget_ns / 4;

	if (d->options->kill_stopped_ns && d->options->kill_stopped_ns / 4 < ns)
		ns = d->options->kill_stopped_ns / 4;
	return ns < NS_PER_S / 4 ? NS_PER_S / 4 : (ns > 10 * NS_PER_S ? 10 * NS_PER_S : ns);
}

void rd_retention_run(struct rd_daemon *d)
{
	if (!d->store_loaded)
		return;
	forget_agents(d);
	sweep(d);
	if (d->options->kill_stopped_ns)
		look_at_laggards(d);
}
