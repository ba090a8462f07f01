/* SPDX-License-Identifier: Apache-2.0 */
/* The life of fsb-registryd: arena, loop, timers, end. What each timer does stands in the files of
 * its own. */
#include "daemon.h"

#include <signal.h>

#include "base/clock.h"
#include "base/log.h"

#define TICK_NS	   (25 * NS_PER_MS)
#define SCRUB_NS   (10 * NS_PER_S)
#define CURRENT_NS (1 * NS_PER_S)

void rd_end(struct rd_daemon *d, int exit_code)
{
	d->exit_code = exit_code;
	gloop_stop(d->loop);
}

static void on_signal(void *arg, int signo)
{
	struct rd_daemon *d = arg;

	log_info("ending", "signal=%d", signo);
	rd_end(d, RD_EXIT_OK);
}

static void check_store(struct rd_daemon *d)
{
	if (d->store_loaded || !reg_store_loaded(d->reg))
		return;
	d->store_loaded = true;
	d->loaded_ns = clock_mono_ns();
	log_info("store loaded", "ms=%lu",
		 (unsigned long)((d->loaded_ns - d->start_ns) / NS_PER_MS));
	rd_agents_dial(d);
}

static void check_current(struct rd_daemon *d)
{
	static uint64_t checked_ns;
	uint64_t now = clock_mono_ns();

	if (now - checked_ns < CURRENT_NS)
		return;
	checked_ns = now;
	if (reg_is_current(d->reg))
		return;
	log_error("arena replaced or removed", "path=%s", d->options->arena);
	rd_end(d, RD_EXIT_ARENA);
}

static void on_tick(void *arg)
{
	struct rd_daemon *d = arg;

	check_current(d);
	check_store(d);
	rd_agents_check(d);
	rd_exits_retry(d);
	rd_orphans_drive(d);
	rd_sweep_portion(d);
	rd_expiry_run(d);
	rd_stops_drive(d);
	gloop_timer_set(d->tick, TICK_NS);
}

static void on_reap(void *arg)
{
	struct rd_daemon *d = arg;

	rd_reap(d);
	gloop_timer_set(d->reap, d->options->reap_interval_ns);
}

static void on_scrub(void *arg)
{
	struct rd_daemon *d = arg;
	uint32_t mended = reg_scrub(d->me);

	if (mended)
		log_info("hints mended", "count=%u", mended);
	gloop_timer_set(d->scrub, SCRUB_NS);
}

static void on_retention(void *arg)
{
	struct rd_daemon *d = arg;

	rd_retention_run(d);
	gloop_timer_set(d->retention, rd_retention_interval_ns(d));
}

static int start_timers(struct rd_daemon *d, struct err *err)
{
	d->tick = gloop_timer_new(d->loop, on_tick, d);
	d->reap = gloop_timer_new(d->loop, on_reap, d);
	d->scrub = gloop_timer_new(d->loop, on_scrub, d);
	d->retention = gloop_timer_new(d->loop, on_retention, d);
	d->expiry = rd_expiry_new(d);
	d->sweep = rd_sweep_new(d);
	if (!d->tick || !d->reap || !d->scrub || !d->retention || !d->expiry || !d->sweep)
		return err_set(err, -1, "out of memory");
	gloop_timer_set(d->tick, 0);
	gloop_timer_set(d->reap, 0);
	gloop_timer_set(d->scrub, SCRUB_NS);
	gloop_timer_set(d->retention, rd_retention_interval_ns(d));
	return 0;
}

static int start(struct rd_daemon *d, struct err *err)
{
	int r;

	d->loop = gloop_new(err);
	if (!d->loop)
		return -1;
	r = gloop_on_signal(d->loop, SIGTERM, on_signal, d, err);
	if (r == 0)
		r = gloop_on_signal(d->loop, SIGINT, on_signal, d, err);
	if (r == 0)
		r = start_timers(d, err);
	if (r < 0)
		return r;
	for (int i = 0; i < d->options->agents.count; i++)
		rd_agent_add(d, d->options->agents.items[i], true);
	rd_agents_from_arena(d);
	return rd_discover_start(d, err);
}

static void stop(struct rd_daemon *d)
{
	rd_discover_stop(d);
	if (d->tick)
		gloop_timer_free(d->tick);
	if (d->reap)
		gloop_timer_free(d->reap);
	if (d->scrub)
		gloop_timer_free(d->scrub);
	if (d->retention)
		gloop_timer_free(d->retention);
	rd_agents_done(d); /* reports what is in flight to the parts below */
	rd_stops_done(d);
	rd_orphans_done(d);
	rd_exits_done(d);
	rd_sweep_free(d->sweep);
	rd_expiry_free(d->expiry);
	if (d->loop)
		gloop_free(d->loop);
}

/* Until the loop takes them: an end asked for while the arena is made comes in order, too. */
static void block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

int rd_run(const struct rd_options *options)
{
	struct rd_daemon d = {.options = options, .start_ns = clock_mono_ns()};
	struct err err = ERR_INIT;

	block_signals();
	d.exit_code = rd_arena_open(&d);
	if (d.exit_code == RD_EXIT_OK) {
		if (start(&d, &err) == 0) {
			gloop_run(d.loop);
		} else {
			log_error("not started", "err=%s", err.msg);
			d.exit_code = RD_EXIT_FAILED;
		}
		stop(&d);
	}
	reg_leave(d.me);
	reg_detach(d.reg);
	log_info("ended", "code=%d", d.exit_code);
	return d.exit_code;
}
