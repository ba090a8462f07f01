/* SPDX-License-Identifier: Apache-2.0 */
/* Records histories; see lin_record.h. */
#include "lin_record.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/failpoint.h"

enum { LEASES = 6 };

struct worker {
	struct rec_shared *shared;
	struct reg_self *me;
	uint32_t no;
	uint64_t random;
	struct rec_log *log;
	struct reg_lease leases[LEASES]; /* RESERVED or STARTING, mine */
	bool started[LEASES];
	uint32_t lease_count;
};

/* ---- other orders ---- */
static _Thread_local uint64_t stir_random = 1;
static _Thread_local uint32_t stir_percent;
static _Thread_local uint32_t stir_nap = 60000; /* ns at most */

/* At a named step between two shared writes: let others in between. */
static void stir(const char *name)
{
	(void)name;
	if (!stir_percent || rig_below(&stir_random, 100) >= stir_percent)
		return;
	if (rig_below(&stir_random, 4)) {
		(void)sched_yield();
		return;
	}
	for (uint32_t i = rig_below(&stir_random, 400); i; i--)
		__builtin_ia32_pause();
}

/*
 * And between any two instructions: a timer interrupts the worker for a while, again and again.
 */
static _Thread_local timer_t tick_timer;
static _Thread_local bool tick_on;

static void tick_next(void)
{
	struct itimerspec in = {.it_value.tv_nsec = 1000 + rig_below(&stir_random, 40000)};

	if (tick_on)
		(void)timer_settime(tick_timer, 0, &in, NULL);
}

static void on_tick(int sig)
{
	struct timespec nap = {.tv_nsec = 1000 + rig_below(&stir_random, stir_nap)};
	int saved = errno;

	(void)sig;
	if (tick_on)
		(void)nanosleep(&nap, NULL);
	tick_next();
	errno = saved;
}

static void tick_begin(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN};

	event._sigev_un._tid = gettid();
	CHECK_EQ(timer_create(CLOCK_MONOTONIC, &event, &tick_timer), 0);
}

void rec_prepare(void)
{
	struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};

	CHECK_EQ(sigaction(SIGRTMIN, &action, NULL), 0);
#ifdef FSB_FAILPOINTS
	failpoint_hook(stir);
#endif
}

/* ---- time ---- */
static uint64_t now(void)
{
	struct timespec ts;

	/* CLOCK_MONOTONIC is one for all processors and processes. seq_cst, both: a call is between
	 * its times in every processor's eyes, its stores included. */
	atomic_thread_fence(memory_order_seq_cst);
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	atomic_thread_fence(memory_order_seq_cst);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static struct lin_op *begin(struct worker *w, enum lin_kind kind)
{
	struct lin_op *op = &w->log->ops[w->log->count++];

	*op = (struct lin_op){.kind = kind, .worker = (uint8_t)w->no, .from = now()};
	return op;
}

static void end(struct lin_op *op, enum reg_status status)
{
	op->to = now();
	op->status = status;
}

static uint8_t agent_no(const struct worker *w, reg_agent_id agent)
{
	for (uint8_t i = 0; i < LIN_AGENTS; i++)
		if (w->shared->agents[i].idx == agent.idx)
			return i;
	return LIN_NONE;
}

/* ---- calls ---- */
struct texts {
	char name[LIN_MEMBERS][16], rid[LIN_MEMBERS][16];
	uint16_t ports[LIN_MEMBERS][8];
};

static void ask(struct worker *w, uint32_t n, struct lin_member *m, struct texts *texts,
		struct reg_request *req)
{
	const struct rec_round *round = &w->shared->round;
	uint32_t first = rig_below(&w->random, round->names);
	uint32_t ports = round->ports && n == 1 ? rig_below(&w->random, 1u << round->ports) : 0;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t count = 0;

		m[i] = (struct lin_member){.name = (uint8_t)((first + i) % round->names),
					   .rid = LIN_NONE,
					   .ports = (uint8_t)ports,
					   .image = (uint8_t)(rig_below(&w->random, 4) == 0)};
		(void)snprintf(texts->name[i], sizeof(texts->name[i]), "n%u", m[i].name);
		req[i] = rig_request(texts->name[i]);
		req[i].image = m[i].image ? "other" : "img";
		if (round->rids && n == 1 && rig_below(&w->random, 2)) {
			m[i].rid = (uint8_t)rig_below(&w->random, round->rids);
			m[i].hash = (uint8_t)rig_below(&w->random, 2);
			(void)snprintf(texts->rid[i], sizeof(texts->rid[i]), "r%u", m[i].rid);
			req[i].request_id = texts->rid[i];
			req[i].request_hash = m[i].hash;
		}
		for (uint16_t p = 0; p < 8; p++)
			if (ports >> p & 1)
				texts->ports[i][count++] = (uint16_t)(80 + p);
		req[i].ports = texts->ports[i];
		req[i].port_count = count;
	}
}

static void reserve(struct worker *w)
{
	uint32_t n = w->shared->round.gangs && rig_below(&w->random, 3) == 0
			     ? 2 + rig_below(&w->random, LIN_MEMBERS - 1)
			     : 1;
	enum reg_status status[LIN_MEMBERS] = {0}, all;
	struct reg_request req[LIN_MEMBERS];
	struct reg_lease leases[LIN_MEMBERS] = {0};
	struct lin_member members[LIN_MEMBERS];
	struct texts texts;
	struct lin_op *op;

	if (w->lease_count + n > LEASES)
		return;
	ask(w, n, members, &texts, req);
	op = begin(w, LIN_RESERVE);
	if (n == 1)
		all = status[0] = reg_reserve(w->me, &req[0], &leases[0]);
	else
		all = reg_reserve_batch(w->me, req, n, true, leases, status);
	end(op, all);
	op->n = (uint8_t)n;
	for (uint32_t i = 0; i < n; i++) {
		op->member[i] = members[i];
		op->member[i].status = status[i];
		op->member[i].sandbox = leases[i].sandbox;
		op->member[i].agent = agent_no(w, leases[i].agent);
		op->member[i].slot = (uint8_t)leases[i].slot;
		if (all == REG_OK) {
			w->started[w->lease_count] = false;
			w->leases[w->lease_count++] = leases[i];
		}
	}
}

static void abort_one(struct worker *w, uint32_t i)
{
	struct lin_op *op = begin(w, LIN_ABORT);

	end(op, reg_abort(w->me, &w->leases[i]));
	op->sandbox = w->leases[i].sandbox;
	w->leases[i] = w->leases[--w->lease_count];
	w->started[i] = w->started[w->lease_count];
}

static void go_on(struct worker *w)
{
	struct reg_started started = {.started_unix_ns = 1};
	uint32_t i = rig_below(&w->random, w->lease_count);
	struct lin_op *op;

	if (rig_below(&w->random, 3) == 0) {
		abort_one(w, i);
		return;
	}
	op = begin(w, w->started[i] ? LIN_COMMIT : LIN_STARTING);
	op->sandbox = w->leases[i].sandbox;
	if (!w->started[i]) {
		end(op, reg_starting(w->me, &w->leases[i]));
		w->started[i] = op->status == REG_OK;
		return;
	}
	end(op, reg_commit(w->me, &w->leases[i], &started));
	w->leases[i] = w->leases[--w->lease_count];
	w->started[i] = w->started[w->lease_count];
}

/* Looks a name up, and perhaps ends what it finds. */
static void look(struct worker *w, bool stop)
{
	struct lin_op *op;
	struct reg_sandbox_view view;
	uint8_t name = (uint8_t)rig_below(&w->random, w->shared->round.names);
	char text[16];

	(void)snprintf(text, sizeof(text), "n%u", name);
	op = begin(w, LIN_GET);
	end(op, reg_get(w->me, "default", text, &view));
	op->name = name;
	if (op->status != REG_OK)
		return;
	op->sandbox = view.sandbox;
	op->state = view.state;
	op->deleting = view.deleting;
	op->agent = agent_no(w, view.agent);
	op->slot = (uint8_t)view.slot;
	if (!stop || w->log->count + 2 > w->shared->round.ops)
		return;
	op = begin(w, LIN_STOP);
	op->sandbox = view.sandbox;
	end(op, reg_stop(w->me, view.sandbox, REG_STOP_DELETE, &op->state));
	if (op->status != REG_OK || op->state < REG_RUNNING)
		return;
	op = begin(w, LIN_STOPPED);
	op->sandbox = view.sandbox;
	end(op, reg_stopped(w->me, view.sandbox, NULL));
}

static void list(struct worker *w)
{
	struct lin_op *op = begin(w, LIN_LIST);
	struct reg_sandbox_view view;
	uint32_t cursor = 0;

	while (op->n < LIN_SANDBOXES && reg_next(w->me, &cursor, NULL, &view))
		op->seen[op->n++] = view.sandbox;
	end(op, REG_OK);
}

static void one_call(struct worker *w)
{
	uint32_t what = rig_below(&w->random, 100);

	if (w->shared->round.scrubs && what % 5 == 0)
		(void)reg_scrub(w->me); /* hints mended under everybody; no answer to judge */
	if (what < 45)
		reserve(w);
	else if (what < 75 && w->lease_count)
		go_on(w);
	else if (what < 80 && w->no == 0)
		list(w);
	else
		look(w, what % 2);
}

/* Spread over the processors: two that share one take turns, others are really at once. */
static void to_processor(uint32_t no)
{
	cpu_set_t all, one;
	int nth = (int)no;

	CPU_ZERO(&one);
	if (sched_getaffinity(0, sizeof(all), &all) != 0)
		return;
	nth %= CPU_COUNT(&all);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all) && nth-- == 0)
			CPU_SET(cpu, &one);
	(void)sched_setaffinity(0, sizeof(one), &one);
}

void rec_worker(struct rec_shared *shared, struct reg_self *me, uint32_t no)
{
	to_processor(no);
	tick_begin();
	for (;;) {
		struct worker w = {.shared = shared, .me = me, .no = no, .log = &shared->log[no]};

		rig_barrier_wait(&shared->barrier, REC_WORKERS + 1); /* the world is ready */
		if (shared->over)
			break;
		w.log->count = 0;
		w.random = stir_random = shared->round.seed * 31 + no + 1;
		(void)rig_random(&w.random);
		stir_percent = shared->round.stir;
		tick_on = shared->round.ticks;
		/* one of them slowly, so that the others get on beside one call of his */
		stir_nap = shared->round.slow == no ? 1000000 : 60000;
		rig_barrier_wait(&shared->barrier, REC_WORKERS + 1);
		tick_next();
		while (no < shared->round.workers && w.log->count < shared->round.ops)
			one_call(&w);
		stir_percent = 0;
		tick_on = false;
		rig_barrier_wait(&shared->barrier, REC_WORKERS + 1); /* all have stopped */
		while (w.lease_count)
			CHECK_OK(reg_abort(me, &w.leases[--w.lease_count]));
		rig_barrier_wait(&shared->barrier, REC_WORKERS + 1);
	}
	(void)timer_delete(tick_timer);
}

/* ---- the parent ---- */
static void make_round(struct rec_round *round, uint64_t seed)
{
	uint64_t random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;

	for (int i = 0; i < 4; i++)
		(void)rig_random(&random);
	*round = (struct rec_round){.seed = seed,
				    .workers = REC_WORKERS,
				    .ops = 5 + rig_below(&random, REC_OPS - 4),
				    .names = 3 + rig_below(&random, 8),
				    .rids = rig_below(&random, 3),
				    .ports = rig_below(&random, 3) ? 0 : 1 + rig_below(&random, 2),
				    .gangs = rig_below(&random, 3) == 0,
				    .scrubs = rig_below(&random, 2),
				    .ticks = rig_below(&random, 2),
				    .slow = rig_below(&random, 2 * REC_WORKERS),
				    .stir = 25 + rig_below(&random, 50)};
	round->world.gangs_at_once = true;
	round->world.agents = (uint8_t)(2 + rig_below(&random, LIN_AGENTS - 1));
	for (uint32_t a = 0; a < round->world.agents; a++) {
		round->world.slots[a] =
			(uint8_t)(1 + rig_below(&random, 2) * rig_below(&random, LIN_SLOTS));
		round->world.image[a] = rig_below(&random, 2);
	}
}

static void make_agents(struct rig *rig, struct rec_shared *shared)
{
	const struct lin_world *world = &shared->round.world;
	char name[16];

	for (uint32_t a = 0; a < LIN_AGENTS; a++) {
		(void)snprintf(name, sizeof(name), "a%u", a);
		shared->agents[a] = rig_agent(rig, name, a < world->agents ? world->slots[a] : 1);
		rig_images(rig, shared->agents[a], world->image[a] ? "img" : NULL);
		CHECK_OK(reg_agent_set_ready(rig->me, shared->agents[a], a < world->agents));
	}
}

void rec_round(struct rig *rig, struct rec_shared *shared, uint64_t seed, struct lin_history *ret)
{
	make_round(&shared->round, seed);
	make_agents(rig, shared);
	rig_barrier_wait(&shared->barrier, REC_WORKERS + 1);
	rig_barrier_wait(&shared->barrier, REC_WORKERS + 1);
	rig_barrier_wait(&shared->barrier, REC_WORKERS + 1);
	*ret = (struct lin_history){.world = shared->round.world};
	for (uint32_t i = 0; i < shared->round.workers; i++)
		for (uint32_t k = 0; k < shared->log[i].count; k++)
			ret->ops[ret->count++] = shared->log[i].ops[k];
	rig_barrier_wait(&shared->barrier, REC_WORKERS + 1);
	rig_delete_all(rig);
}

void rec_over(struct rec_shared *shared)
{
	shared->over = true;
	rig_barrier_wait(&shared->barrier, REC_WORKERS + 1);
}
