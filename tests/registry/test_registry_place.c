/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placement with several workers: called one after another they choose what a walk over all agents
 * would, whoever releases and whoever has died; at once they never refuse while there is room, and
 * keep the loads level.
 */
#include "rig.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AGENTS = 600, WORKERS = 5, LIVE_MAX = 4000, IMAGES = 3 };

static const struct reg_limits limits = {
	.agents = 1024, .sandboxes = 16384, .pools = 16, .images = 64};

/* ---- a model: agents with loads, and who asks ---- */
struct world {
	struct rig rig;
	struct reg_self *worker[WORKERS + 1]; /* the last one is no worker */
	struct {
		reg_agent_id id;
		uint32_t load, slots;
		bool ready, image[IMAGES];
	} agent[AGENTS];
	struct live {
		struct reg_lease lease;
		uint32_t owner, agent;
	} live[LIVE_MAX];
	uint32_t agents, count, names;
	uint64_t random;
};

static const char *const image_names[IMAGES] = {"one", "two", "three"};

static void set_images(struct world *w, uint32_t i)
{
	const char *list[IMAGES];
	uint32_t n = 0;

	for (uint32_t k = 0; k < IMAGES; k++) {
		w->agent[i].image[k] = rig_below(&w->random, k + 2) == 0;
		if (w->agent[i].image[k])
			list[n++] = image_names[k];
	}
	CHECK_OK(reg_agent_set_images(w->rig.me, w->agent[i].id, list, n));
}

static void world_open(struct world *w, uint32_t agents, uint32_t slots_max, uint64_t seed)
{
	*w = (struct world){.agents = agents, .random = rig_seed(seed)};
	rig_open(&w->rig, &limits);
	for (uint32_t i = 0; i < WORKERS; i++)
		CHECK_OK(reg_join(w->rig.reg, REG_KIND_WORKER, &w->worker[i]));
	CHECK_OK(reg_join(w->rig.reg, REG_KIND_REGISTRYD, &w->worker[WORKERS]));
	for (uint32_t i = 0; i < agents; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "a%u", i);
		w->agent[i].slots = 1 + rig_below(&w->random, slots_max);
		w->agent[i].id = rig_agent(&w->rig, name, (int32_t)w->agent[i].slots);
		w->agent[i].ready = true;
		set_images(w, i);
	}
}

static uint32_t agent_of(const struct world *w, uint32_t idx)
{
	for (uint32_t i = 0; i < w->agents; i++)
		if (w->agent[i].id.idx == idx)
			return i;
	CHECK(false);
	return 0;
}

static uint32_t score(const struct world *w, uint32_t i, int image)
{
	return w->agent[i].load + (image >= 0 && w->agent[i].image[image] ? 0 : 1000);
}

static uint32_t best_score(const struct world *w, int image)
{
	uint32_t best = UINT32_MAX;

	for (uint32_t i = 0; i < w->agents; i++)
		if (w->agent[i].ready && w->agent[i].load < w->agent[i].slots &&
		    score(w, i, image) < best)
			best = score(w, i, image);
	return best;
}

static enum reg_status ask(struct world *w, uint32_t who, int image, struct reg_lease *ret)
{
	struct reg_request req;
	char name[16];

	(void)snprintf(name, sizeof(name), "s%u", w->names++);
	req = rig_request(name);
	req.image = image < 0 ? "none" : image_names[image];
	return reg_reserve(w->worker[who], &req, ret);
}

static void reserve_image(struct world *w, uint32_t who, int image)
{
	uint32_t best = best_score(w, image), i;
	struct live *live = &w->live[w->count];

	if (w->count == LIVE_MAX)
		return;
	rig_note("worker %u, image %d, %u held", who, image, w->count);
	if (best == UINT32_MAX) {
		CHECK_ST(ask(w, who, image, &live->lease), REG_NO_CAPACITY);
		return;
	}
	CHECK_OK(ask(w, who, image, &live->lease));
	i = agent_of(w, live->lease.agent.idx);
	CHECK(w->agent[i].ready && w->agent[i].load < w->agent[i].slots);
	CHECK_EQ(score(w, i, image), best);
	w->agent[i].load++;
	live->agent = i;
	live->owner = who;
	w->count++;
}

static void reserve(struct world *w, uint32_t who)
{
	reserve_image(w, who, (int)rig_below(&w->random, IMAGES + 1) - 1);
}

/* By who reserved it, or committed by him and deleted by another one. */
static void release(struct world *w, uint32_t who, bool own)
{
	uint32_t at = rig_below(&w->random, w->count ? w->count : 1);
	struct live *live = &w->live[at];

	if (!w->count)
		return;
	if (own) {
		CHECK_OK(reg_abort(w->worker[live->owner], &live->lease));
	} else {
		CHECK_OK(reg_starting(w->worker[live->owner], &live->lease));
		CHECK_OK(reg_commit(w->worker[live->owner], &live->lease, NULL));
		CHECK_OK(reg_stop(w->worker[who], live->lease.sandbox, REG_STOP_DELETE, NULL));
		CHECK_OK(reg_stopped(w->worker[who], live->lease.sandbox, NULL));
	}
	w->agent[live->agent].load--;
	*live = w->live[--w->count];
}

static void administrate(struct world *w)
{
	uint32_t i = rig_below(&w->random, w->agents);

	if (rig_below(&w->random, 2)) {
		set_images(w, i);
		return;
	}
	w->agent[i].ready = !w->agent[i].ready || rig_below(&w->random, 2);
	CHECK_OK(reg_agent_set_ready(w->rig.me, w->agent[i].id, w->agent[i].ready));
}

/* A worker comes, or one leaves, which gives back what he holds: the homes are shared out anew. */
static void come_or_go(struct world *w)
{
	uint32_t who = rig_below(&w->random, WORKERS);

	for (uint32_t i = 0; i < w->count;)
		if (w->live[i].owner == who) {
			w->agent[w->live[i].agent].load--;
			w->live[i] = w->live[--w->count];
		} else {
			i++;
		}
	if (w->worker[who])
		w->worker[who] = reg_leave(w->worker[who]);
	else
		CHECK_OK(reg_join(w->rig.reg, REG_KIND_WORKER, &w->worker[who]));
}

static void walk(struct world *w, uint32_t steps, bool foreign)
{
	uint32_t who = 0, held = 50;

	for (uint32_t n = 0; n < steps; n++) {
		if (rig_below(&w->random, 20) == 0 || !w->worker[who])
			who = rig_below(&w->random, WORKERS + 1);
		if (!w->worker[who])
			continue;
		if (rig_below(&w->random, 300) == 0)
			held = rig_below(&w->random, LIVE_MAX);
		for (uint32_t i = rig_below(&w->random, 400) ? 0 : w->count / 2; i; i--)
			release(w, who, true);
		if (rig_below(&w->random, 100) == 0)
			administrate(w);
		if (rig_below(&w->random, 300) == 0)
			come_or_go(w);
		if (!w->worker[who])
			continue;
		if (w->count < held && rig_below(&w->random, 8))
			reserve(w, who);
		else
			release(w, who, !foreign || rig_below(&w->random, 2));
	}
	CHECK_SOUND(&w->rig);
}

static void world_close(struct world *w)
{
	for (uint32_t i = 0; i <= WORKERS; i++)
		w->worker[i] = reg_leave(w->worker[i]);
	rig_close(&w->rig);
}

/* Each releases his own; then also others what somebody has committed. */
static void test_exact(void **state)
{
	static struct world w;

	(void)state;
	world_open(&w, AGENTS, 6, 4711);
	walk(&w, rig_scaled(20000), false);
	world_close(&w);
}

static void test_exact_foreign(void **state)
{
	static struct world w;

	(void)state;
	for (uint32_t round = 0; round < (rig_long() ? 10 : 2); round++) {
		world_open(&w, round % 2 ? 40 : AGENTS, 6, 815 + round);
		walk(&w, 12000, true);
		world_close(&w);
	}
}

/* More releases at once than a worker keeps in mind, of different depths. */
static void test_exact_after_bursts(void **state)
{
	static struct world w;

	(void)state;
	world_open(&w, 300, 8, 31);
	for (uint32_t round = 0; round < 30; round++) {
		uint32_t who = round / 10, left = rig_below(&w.random, 900);

		while (w.count < 1000)
			reserve_image(&w, who, round % 2 ? -1 : 0);
		while (w.count > left)
			release(&w, who, true);
	}
	world_close(&w);
}

/* Those with the image carry a thousand more than those without. */
static void test_image_against_load(void **state)
{
	struct rig rig;
	struct reg_self *worker;
	reg_agent_id with, without;
	struct reg_lease lease;
	uint32_t loads[2] = {0};

	(void)state;
	rig_open(&rig, &limits);
	CHECK_OK(reg_join(rig.reg, REG_KIND_WORKER, &worker));
	with = rig_agent(&rig, "with", 4096);
	without = rig_agent(&rig, "without", 4096);
	rig_images(&rig, with, "img");
	for (uint32_t i = 0; i < 1010; i++) {
		char name[16];
		struct reg_request req;

		(void)snprintf(name, sizeof(name), "s%u", i);
		req = rig_request(name);
		CHECK_OK(reg_reserve(worker, &req, &lease));
		loads[lease.agent.idx == without.idx]++;
		CHECK(lease.agent.idx == with.idx || lease.agent.idx == without.idx);
		/* one with the image at n is level with one without it at n - 1000 */
		if (i < 1000)
			CHECK_EQ(loads[1], 0);
		else
			CHECK(loads[0] <= loads[1] + 1001 && loads[1] + 1000 <= loads[0] + 1);
	}
	(void)reg_leave(worker);
	rig_close(&rig);
}

/* ---- ports ---- */

enum { PORT_AGENTS = 150, PORT_KINDS = 3 };

struct port_world {
	struct rig rig;
	struct reg_self *worker[3];
	reg_agent_id agent[PORT_AGENTS];
	uint32_t load[PORT_AGENTS];
	bool used[PORT_AGENTS][PORT_KINDS];
	struct {
		reg_sandbox_id sandbox;
		uint32_t agent, ports; /* a bit per kind */
	} live[PORT_AGENTS * PORT_KINDS];
	uint32_t count, names;
	uint64_t random;
};

static uint32_t port_best(const struct port_world *w, uint32_t ports)
{
	uint32_t best = UINT32_MAX;

	for (uint32_t i = 0; i < PORT_AGENTS; i++) {
		bool taken = false;

		for (uint32_t k = 0; k < PORT_KINDS; k++)
			taken |= (ports >> k & 1) && w->used[i][k];
		if (!taken && w->load[i] < best)
			best = w->load[i];
	}
	return best;
}

static void port_reserve(struct port_world *w)
{
	struct reg_self *worker = w->worker[rig_below(&w->random, 3)];
	uint32_t ports = 1 + rig_below(&w->random, (1 << PORT_KINDS) - 1), i = 0;
	uint32_t best = port_best(w, ports);
	struct reg_request req;
	struct reg_lease lease;
	uint16_t list[PORT_KINDS];
	char name[16];

	(void)snprintf(name, sizeof(name), "p%u", w->names++);
	req = rig_request(name);
	req.ports = list;
	for (uint32_t k = 0; k < PORT_KINDS; k++)
		if (ports >> k & 1)
			list[req.port_count++] = (uint16_t)(8080 + k);
	if (best == UINT32_MAX) {
		CHECK_ST(reg_reserve(worker, &req, &lease), REG_PORT_CONFLICT);
		return;
	}
	CHECK_OK(reg_reserve(worker, &req, &lease));
	while (w->agent[i].idx != lease.agent.idx)
		i++;
	CHECK_EQ(w->load[i], best);
	w->load[i]++;
	for (uint32_t k = 0; k < PORT_KINDS; k++)
		if (ports >> k & 1) {
			CHECK(!w->used[i][k]);
			w->used[i][k] = true;
		}
	CHECK_OK(reg_starting(worker, &lease));
	CHECK_OK(reg_commit(worker, &lease, NULL));
	w->live[w->count].sandbox = lease.sandbox;
	w->live[w->count].agent = i;
	w->live[w->count++].ports = ports;
}

static void port_release(struct port_world *w)
{
	uint32_t at = rig_below(&w->random, w->count);
	uint32_t i = w->live[at].agent;

	CHECK_OK(reg_stop(w->rig.me, w->live[at].sandbox, REG_STOP_DELETE, NULL));
	CHECK_OK(reg_stopped(w->rig.me, w->live[at].sandbox, NULL));
	w->load[i]--;
	for (uint32_t k = 0; k < PORT_KINDS; k++)
		if (w->live[at].ports >> k & 1)
			w->used[i][k] = false;
	w->live[at] = w->live[--w->count];
}

/* Ports that are in use on nearly every agent: whoever has none of them free is left out, whoever
 * has is found, with the lowest load. */
static void test_busy_ports(void **state)
{
	static struct port_world w;
	uint32_t refused = 0;

	(void)state;
	w = (struct port_world){.random = rig_seed(5)};
	rig_open(&w.rig, &limits);
	for (uint32_t i = 0; i < 3; i++)
		CHECK_OK(reg_join(w.rig.reg, REG_KIND_WORKER, &w.worker[i]));
	for (uint32_t i = 0; i < PORT_AGENTS; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "a%u", i);
		w.agent[i] = rig_agent(&w.rig, name, 10);
	}
	for (uint32_t n = 0; n < rig_scaled(6000); n++) {
		uint32_t before = w.count;

		if (w.count && rig_below(&w.random, 5) == 0) {
			port_release(&w);
			continue;
		}
		port_reserve(&w);
		refused += w.count == before;
		if (rig_below(&w.random, 500) == 0)
			CHECK_EQ(reg_scrub(w.rig.me), 0);
	}
	CHECK(refused > rig_scaled(6000) / 60);
	CHECK_SOUND(&w.rig);
	while (w.count)
		port_release(&w);
	CHECK_EQ(reg_scrub(w.rig.me), 0);
	for (uint32_t i = 0; i < 3; i++)
		(void)reg_leave(w.worker[i]);
	rig_close(&w.rig);
}

/* ---- a worker's death ---- */

struct part {
	struct rig_barrier barrier;
	_Atomic uint32_t refused, turns;
	_Atomic uint32_t held; /* by all */
};

static void die_with_homes(struct rig *child, void *arg)
{
	struct part *part = arg;
	struct reg_lease lease;

	for (uint32_t i = 0; i < 30; i++) {
		char name[16];
		struct reg_request req;

		(void)snprintf(name, sizeof(name), "d%u", i);
		req = rig_request(name);
		CHECK_OK(reg_reserve(child->me, &req, &lease));
	}
	rig_barrier_wait(&part->barrier, 2);
	for (;;)
		(void)raise(SIGSTOP);
}

/* His homes are another's: what he held comes back, and the choice is exact again, before the reap
 * and after it. */
static void test_homes_after_a_death(void **state)
{
	static struct world w;
	struct part *part = rig_shared_alloc(sizeof(*part));
	struct reg_reap_result res;
	pid_t pid;

	(void)state;
	world_open(&w, AGENTS, 6, 99);
	pid = rig_fork(&w.rig, die_with_homes, part);
	rig_barrier_wait(&part->barrier, 2);
	rig_end(pid);
	CHECK_OK(reg_reap(w.rig.me, NULL, NULL, &res));
	CHECK_EQ(res.released, 30);
	walk(&w, 5000, true);
	world_close(&w);
	rig_shared_free(part, sizeof(*part));
}

/* ---- at once ---- */

/* As many workers as free slots: nobody is ever refused. */
static void one_each(struct rig *child, void *arg)
{
	struct part *part = arg;
	struct reg_lease lease;

	rig_barrier_wait(&part->barrier, 3);
	for (uint32_t i = 0; i < rig_scaled(20000); i++) {
		char name[40];
		struct reg_request req;
		enum reg_status st;

		(void)snprintf(name, sizeof(name), "%u-%u", reg_self_idx(child->me), i);
		req = rig_request(name);
		st = reg_reserve(child->me, &req, &lease);
		if (st != REG_OK)
			atomic_fetch_add(&part->refused, 1);
		else
			CHECK_OK(reg_abort(child->me, &lease));
	}
}

static void test_never_refused_while_free(void **state)
{
	struct part *part = rig_shared_alloc(sizeof(*part));
	struct rig rig;
	reg_agent_id last = {0};
	pid_t pid[3];

	(void)state;
	rig_open(&rig, &limits);
	/* all full but three slots, far from each other */
	for (uint32_t i = 0; i < 400; i++) {
		char name[16];
		struct reg_request req;

		(void)snprintf(name, sizeof(name), "a%u", i);
		last = rig_agent(&rig, name, 1);
		rig_images(&rig, last, i % 2 ? "img" : NULL);
		(void)snprintf(name, sizeof(name), "full-%u", i);
		req = rig_request(name);
		if (i < 397)
			(void)rig_run(&rig, &req);
	}
	for (int i = 0; i < 3; i++)
		pid[i] = rig_fork(&rig, one_each, part);
	for (int i = 0; i < 3; i++)
		rig_join(pid[i]);
	CHECK_EQ(part->refused, 0);
	CHECK_SOUND(&rig);
	rig_close(&rig);
	rig_shared_free(part, sizeof(*part));
}

enum { RING = 256, LEVEL = 10, WITH_IMAGE = 100 };

struct crowd {
	struct rig_barrier barrier;
	_Atomic uint64_t sandbox[2][RING]; /* index + 1 32 | generation 32; 0: none */
	_Atomic uint32_t ranks, refused, no_image;
	bool foreign;
};

static bool crowd_put(struct rig *child, struct crowd *crowd, _Atomic uint64_t *at, uint32_t rank,
		      uint32_t i)
{
	struct reg_lease lease;
	struct reg_request req;
	char name[40];

	(void)snprintf(name, sizeof(name), "%u-%u", rank, i);
	req = rig_request(name);
	if (reg_reserve(child->me, &req, &lease)) {
		atomic_fetch_add(&crowd->refused, 1);
		return false;
	}
	if (lease.agent.idx % 2)
		atomic_fetch_add(&crowd->no_image, 1);
	CHECK_OK(reg_starting(child->me, &lease));
	CHECK_OK(reg_commit(child->me, &lease, NULL));
	if (at)
		atomic_store(at, (uint64_t)(lease.sandbox.idx + 1) << 32 | lease.sandbox.gen);
	return true;
}

static void crowd_get(struct rig *child, _Atomic uint64_t *at)
{
	uint64_t x = atomic_exchange(at, 0);
	reg_sandbox_id id = {(uint32_t)(x >> 32) - 1, (uint32_t)x};

	if (!x)
		return;
	CHECK_OK(reg_stop(child->me, id, REG_STOP_DELETE, NULL));
	CHECK_OK(reg_stopped(child->me, id, NULL));
}

/* Comes and goes; then all goes, and both fill together. */
static void crowd_child(struct rig *child, void *arg)
{
	struct crowd *crowd = arg;
	uint32_t rank = atomic_fetch_add(&crowd->ranks, 1), n = rig_scaled(10000);
	uint32_t of = crowd->foreign ? 1 - rank : rank;

	rig_barrier_wait(&crowd->barrier, 2);
	for (uint32_t i = 0; i < n; i++) {
		_Atomic uint64_t *mine = &crowd->sandbox[rank][i % RING];

		crowd_get(child, &crowd->sandbox[of][(i + 1) % RING]);
		if (!atomic_load(mine))
			(void)crowd_put(child, crowd, mine, rank, i);
	}
	rig_barrier_wait(&crowd->barrier, 2);
	for (uint32_t i = 0; i < RING; i++)
		crowd_get(child, &crowd->sandbox[rank][i]);
	rig_barrier_wait(&crowd->barrier, 2);
	for (uint32_t i = 0; i < WITH_IMAGE * LEVEL / 2; i++)
		CHECK(crowd_put(child, crowd, NULL, rank, n + i));
}

/* Level to the lowest by the other one's claim in flight and two, at each moment; the image first;
 * nothing refused. */
static void crowd_run(bool foreign)
{
	struct crowd *crowd = rig_shared_alloc(sizeof(*crowd));
	uint32_t cursor = 0, low = UINT32_MAX, high = 0, sum = 0;
	struct reg_agent_view v;
	struct rig rig;
	pid_t pid[2];

	crowd->foreign = foreign;
	rig_open(&rig, &limits);
	for (uint32_t i = 0; i < 2 * WITH_IMAGE; i++) {
		char name[16];
		reg_agent_id id;

		(void)snprintf(name, sizeof(name), "a%u", i);
		id = rig_agent(&rig, name, 60);
		CHECK_EQ(id.idx, i);
		rig_images(&rig, id, i % 2 ? NULL : "img");
	}
	for (int i = 0; i < 2; i++)
		pid[i] = rig_fork(&rig, crowd_child, crowd);
	for (int i = 0; i < 2; i++)
		rig_join(pid[i]);
	CHECK_EQ(crowd->refused, 0);
	CHECK_EQ(crowd->no_image, 0);
	while (reg_agent_next(rig.me, &cursor, &v)) {
		sum += v.allocated;
		if (v.id.idx % 2)
			continue;
		low = v.allocated < low ? v.allocated : low;
		high = v.allocated > high ? v.allocated : high;
	}
	CHECK_EQ(sum, WITH_IMAGE * LEVEL);
	CHECK(high - low <= 4);
	CHECK_SOUND(&rig);
	rig_close(&rig);
	rig_shared_free(crowd, sizeof(*crowd));
}

static void test_level(void **state)
{
	(void)state;
	crowd_run(false);
	crowd_run(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exact),
		cmocka_unit_test(test_exact_foreign),
		cmocka_unit_test(test_exact_after_bursts),
		cmocka_unit_test(test_image_against_load),
		cmocka_unit_test(test_busy_ports),
		cmocka_unit_test(test_homes_after_a_death),
		cmocka_unit_test(test_never_refused_while_free),
		cmocka_unit_test(test_level),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
