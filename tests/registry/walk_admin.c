/* SPDX-License-Identifier: Apache-2.0 */
/* Administration in a walk: agents that join, drain, change and go, pools, sweeps. */
#include <stdio.h>
#include <string.h>

#include "walk_run.h"
#include "walk_step.h"

static void join_one(struct walk_run *run, struct reg_self *me, int i, uint32_t random)
{
	struct ora_agent *agent = &run->ora.agents[i];
	struct reg_agent_info info = {.ns = "default", .node = "n", .address = "a", .host_ip = "h"};
	int capacity = random % 8 == 7 ? 0 : 1 + (int)(random / 8) % run->world->capacity;
	char name[WALK_TEXT], pool[WALK_TEXT];
	reg_agent_id id;

	if (!agent->joined || random % 11 == 0)
		agent->pool = (int)(random / 128) % run->world->pools;
	if (run->world->level && random % 16)
		capacity = run->world->capacity;
	walk_name('a', i, name);
	walk_name('p', agent->pool, pool);
	info.name = name;
	info.pool = pool;
	info.capacity = capacity;
	walk_say(run, "  join a%d, pool p%d, capacity %d", i, agent->pool, capacity);
	CHECK_OK(reg_agent_join(me, &info, &id));
	if (agent->joined)
		CHECK_EQ(id.idx, agent->idx);
	CHECK(ora_agent_by_idx(&run->ora, id.idx) == (agent->joined ? i : ORA_NONE));
	agent->idx = id.idx;
	agent->gen = id.gen;
	agent->joined = true;
	agent->ready = agent->removed = false;
	agent->incarnation++;
	agent->slots = capacity > 0 ? (uint32_t)capacity : run->world->unlimited;
	run->ora.pool_known[agent->pool] = true;
}

static uint32_t image_list(uint32_t bits, char text[][WALK_TEXT], const char **list)
{
	uint32_t n = 0;

	for (int image = 0; image < ORA_IMAGES; image++) {
		if (!(bits >> image & 1))
			continue;
		walk_image(image, text[n]);
		list[n] = text[n];
		n++;
	}
	return n;
}

static reg_agent_id id_of(const struct ora_agent *agent)
{
	return (reg_agent_id){agent->idx, agent->gen};
}

/* The whole set, or what came and what went. */
static void images_one(struct walk_run *run, struct reg_self *me, int i, uint32_t random)
{
	struct ora_agent *agent = &run->ora.agents[i];
	uint32_t all = (1u << run->world->images) - 1, add, drop;
	char text[ORA_IMAGES][WALK_TEXT], more[ORA_IMAGES][WALK_TEXT];
	const char *adds[ORA_IMAGES], *drops[ORA_IMAGES];

	add = random & (run->world->level ? ~0u : random >> 8) & all;
	if (random >> 20 & 1) {
		agent->images = add;
		walk_say(run, "  images of a%d: bits 0x%x", i, add);
		CHECK_OK(reg_agent_set_images(me, id_of(agent), adds, image_list(add, text, adds)));
		return;
	}
	drop = random >> 12 & all;
	agent->images = (agent->images & ~drop) | add;
	walk_say(run, "  images of a%d: and 0x%x, without 0x%x", i, add, drop);
	uint32_t add_n = image_list(add, text, adds), drop_n = image_list(drop, more, drops);

	CHECK_OK(reg_agent_change_images(me, id_of(agent), adds, add_n, drops, drop_n));
}

static void ready_one(struct walk_run *run, struct reg_self *me, int i, uint32_t random)
{
	struct ora_agent *agent = &run->ora.agents[i];
	bool ready = random % 6 != 0;

	walk_say(run, "  a%d ready %d", i, ready);
	CHECK_ST(reg_agent_set_ready(me, id_of(agent), ready),
		 ready && agent->removed ? REG_BAD_STATE : REG_OK);
	if (!agent->removed)
		agent->ready = ready;
}

static void drain_one(struct walk_run *run, struct reg_self *me, int i, uint32_t random)
{
	struct ora_agent *agent = &run->ora.agents[i];

	agent->draining = random % 3 == 0;
	walk_say(run, "  a%d drains %d", i, agent->draining);
	CHECK_OK(reg_agent_set_drain(me, id_of(agent), agent->draining));
}

static void capacity_one(struct walk_run *run, struct reg_self *me, int i, uint32_t random)
{
	struct ora_agent *agent = &run->ora.agents[i];
	int capacity = random % 8 == 7 ? -1 : 1 + (int)(random / 8) % run->world->capacity;

	agent->slots = capacity > 0 ? (uint32_t)capacity : run->world->unlimited;
	walk_say(run, "  a%d capacity %d", i, capacity);
	CHECK_OK(reg_agent_set_capacity(me, id_of(agent), capacity));
}

static void remove_one(struct walk_run *run, struct reg_self *me, int i)
{
	struct ora_agent *agent = &run->ora.agents[i];

	walk_say(run, "  a%d removed", i);
	CHECK_OK(reg_agent_remove(me, id_of(agent)));
	agent->removed = true;
	agent->ready = agent->draining = false;
	agent->images = 0;
	for (uint32_t k = 0; k < run->ora.high; k++)
		if (run->ora.sandboxes[k].state == REG_RUNNING && run->ora.sandboxes[k].agent == i)
			run->ora.sandboxes[k].state = REG_LOST;
}

static void administer_one(struct walk_run *run, struct reg_self *me, const struct walk_op *op,
			   int i, uint32_t random)
{
	const struct ora_agent *agent = &run->ora.agents[i];

	if (op->kind == WALK_JOIN)
		join_one(run, me, i, random);
	else if (agent->joined && op->kind == WALK_READY)
		ready_one(run, me, i, random);
	else if (!agent->joined || agent->removed)
		return;
	else if (op->kind == WALK_IMAGES)
		images_one(run, me, i, random);
	else if (op->kind == WALK_DRAIN)
		drain_one(run, me, i, random);
	else if (op->kind == WALK_CAPACITY)
		capacity_one(run, me, i, random);
	else if (op->kind == WALK_REMOVE && random % 4 == 0)
		remove_one(run, me, i);
}

/* One agent, or a sixth of them. */
void walk_administer(struct walk_run *run, struct reg_self *me, const struct walk_op *op)
{
	int agents = run->world->agents, first = op->a % agents;
	int n = op->e % 4 == 0 ? 1 + agents / 6 : 1;

	for (int k = 0; k < n; k++)
		administer_one(run, me, op, (first + k) % agents, walk_mix(op->b, (uint32_t)k));
}

/* ---- pools and sweeps ---- */
static bool pool_used(const struct oracle *ora, int pool)
{
	bool used = ora->gone_pool[pool] > 0;

	for (int i = 0; i < ORA_AGENTS; i++) /* a removed one keeps its row, and that its pool */
		used |= ora->agents[i].joined && ora->agents[i].pool == pool;
	for (uint32_t i = 0; i < ora->high; i++)
		used |= ora->sandboxes[i].state != REG_FREE && ora->sandboxes[i].pool == pool;
	return used;
}

static void forget_pool(struct oracle *ora, int pool)
{
	ora->pool_known[pool] = ora->pool_declared[pool] = false;
	ora->unmet[pool] = 0;
}

/* The last one is never made. */
void walk_pool(struct walk_run *run, struct reg_self *me, const struct walk_op *op)
{
	int pool = op->a % (ORA_POOLS - 1);
	enum reg_status want = REG_OK;
	char name[WALK_TEXT];

	walk_name('p', pool, name);
	walk_say(run, "  %s %s", op->b % 2 ? "upsert" : "remove", name);
	if (op->b % 2) {
		CHECK_OK(reg_pool_upsert(me, "default", name));
		run->ora.pool_known[pool] = run->ora.pool_declared[pool] = true;
		return;
	}
	if (!run->ora.pool_known[pool])
		want = REG_NO_POOL;
	else if (pool_used(&run->ora, pool))
		want = REG_IN_USE;
	CHECK_ST(reg_pool_remove(me, "default", name), want);
	if (want == REG_OK)
		forget_pool(&run->ora, pool);
}

static bool agent_used(const struct oracle *ora, int agent)
{
	for (uint32_t i = 0; i < ora->high; i++)
		if (ora->sandboxes[i].state != REG_FREE && ora->sandboxes[i].agent == agent)
			return true;
	return ora->gone_agent[agent] > 0;
}

/* When a row goes depends on grace periods; only those may go that nobody uses, and their handles
 * are void from then on. */
void walk_sweep(struct walk_run *run, struct reg_self *me)
{
	struct reg_sweep_result res;
	struct reg_agent_view view;
	reg_agent_id id;
	char name[WALK_TEXT];

	CHECK_OK(reg_sweep(me, &res));
	walk_say(run, "  sweep: %u retired, %u free, %u wait", res.retired, res.reclaimed,
		 res.backlog);
	run->sum->reclaimed += res.reclaimed;
	for (int i = 0; i < ORA_AGENTS; i++) {
		struct ora_agent *agent = &run->ora.agents[i];

		walk_name('a', i, name);
		if (!agent->joined || reg_agent_find(me, "default", name, &id) == REG_OK)
			continue;
		CHECK(agent->removed && !agent_used(&run->ora, i));
		CHECK_ST(reg_agent_get(me, id_of(agent), &view), REG_STALE);
		CHECK_ST(reg_agent_set_ready(me, id_of(agent), true), REG_STALE);
		*agent = (struct ora_agent){.pool = 0};
		run->sum->swept++;
	}
	for (int pool = 0; pool < ORA_POOLS; pool++) {
		struct reg_pool_view pools;
		bool there = false;
		uint32_t cursor = 0;

		walk_name('p', pool, name);
		while (!there && reg_pool_next(me, &cursor, &pools))
			there = strcmp(pools.name, name) == 0;
		if (there || !run->ora.pool_known[pool])
			continue;
		CHECK(!run->ora.pool_declared[pool] && !pool_used(&run->ora, pool));
		forget_pool(&run->ora, pool);
		run->sum->swept++;
	}
}
