/* SPDX-License-Identifier: Apache-2.0 */
/* When operations begin: at the schedule's moments, or (closed loop) when one has ended. */
#include <signal.h>
#include <stddef.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "load.h"

#define START_NS (20 * NS_PER_MS) /* until the first moment */

enum { BURST = 128 }; /* begun in one turn of the loop */

static double cpu_s(void)
{
	struct rusage usage;

	(void)getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* ---- open loop ---- */

static void arrive(struct load *load, uint64_t at_ns)
{
	bool measured = schedule_is_measured(&load->schedule, at_ns);

	load->n.all_arrivals++;
	load->n.arrivals += measured;
	if (load->in_flight < (uint64_t)load->o.in_flight_max) {
		call_begin(load, at_ns, measured);
		return;
	}
	load->n.all_dropped++;
	load->n.dropped += measured;
}

static void on_arrival(struct due_item *item)
{
	struct load *load = (struct load *)(void *)((char *)item - offsetof(struct load, arrival));
	uint64_t at, next;

	for (int i = 0; i < BURST && schedule_take(&load->schedule, clock_mono_ns(), &at); i++)
		arrive(load, at);
	next = schedule_next_ns(&load->schedule);
	if (next == UINT64_MAX || due_set(load->due, item, next, on_arrival))
		load->ended = true;
}

/* ---- closed loop ---- */

static void begin_now(struct load *load)
{
	uint64_t now = clock_mono_ns();
	bool measured = schedule_is_measured(&load->schedule, now);

	load->n.all_arrivals++;
	load->n.arrivals += measured;
	call_begin(load, now, measured);
}

static void on_end(struct due_item *item)
{
	struct load *load = (struct load *)(void *)((char *)item - offsetof(struct load, end));

	load->ended = true;
}

void drive_ended(struct load *load)
{
	if (load->o.closed && load->driving && !load->ended)
		begin_now(load);
}

static void on_signal(void *arg, int signo)
{
	struct load *load = arg;

	load->interrupted = load->ended = true;
	due_cancel(load->due, &load->arrival);
}

/* ---- the run ---- */

static void begin(struct load *load)
{
	const struct load_options *o = &load->o;
	uint64_t start = clock_mono_ns() + START_NS;

	schedule_init(&load->schedule, o->closed ? 1 : o->rate, start, o->warmup_ns, o->duration_ns,
		      (uint64_t)o->seed);
	load->driving = true;
	if (!o->closed) {
		(void)due_set(load->due, &load->arrival, schedule_next_ns(&load->schedule),
			      on_arrival);
		return;
	}
	(void)due_set(load->due, &load->end, load->schedule.end_ns, on_end);
	for (int64_t i = 0; i < o->closed; i++)
		begin_now(load);
}

void drive_run(struct load *load)
{
	struct err err = ERR_INIT;
	uint64_t wall = clock_mono_ns();
	double cpu = cpu_s();

	(void)gloop_on_signal(load->loop, SIGINT, on_signal, load, &err);
	(void)gloop_on_signal(load->loop, SIGTERM, on_signal, load, &err);
	begin(load);
	/* Each request has a deadline, so this ends. */
	while (!load->ended || load->pending)
		(void)gloop_poll(load->loop, 1000);
	load->driving = false;
	load->cpu_s = cpu_s() - cpu;
	load->wall_s = (double)(clock_mono_ns() - wall) / 1e9;
}
