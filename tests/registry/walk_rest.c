/* SPDX-License-Identifier: Apache-2.0 */
/* The rarer operations of a walk: records from the store, stale handles, participants that leave,
 * the store; and the run itself. */
#include "walk_run.h"

#include <string.h>
#include <unistd.h>

#include "walk_step.h"

/* Ports far from what reserve asks for: a record that ran somewhere claims them there whatever
 * else. */
static uint16_t own_port(struct walk_run *run)
{
	return (uint16_t)(2000 + run->labels++ % 60000);
}

void walk_insert(struct walk_run *run, struct reg_self *me, const struct walk_op *op)
{
	static const enum reg_state states[] = {REG_RESTORED, REG_EXITED, REG_EXPIRED, REG_LOST};
	char name[WALK_TEXT], pool[WALK_TEXT], image[WALK_TEXT], agent_name[WALK_TEXT];
	int agent = op->c % run->world->agents;
	struct ora_sandbox s = {.state = states[op->b % 4],
				.name = op->a % run->world->names,
				.rid = ORA_NONE,
				.pool = op->c % run->world->pools,
				.image = op->d % run->world->images,
				.owner = UINT32_MAX,
				.agent = run->ora.agents[agent].joined ? agent : ORA_NONE,
				.ports = {own_port(run)},
				.port_count = 1};
	struct ora_ask ask = {.name = s.name, .rid = ORA_NONE, .pool = s.pool};
	struct reg_restore restore = {.state = s.state,
				      .agent_name = s.agent == ORA_NONE ? NULL : agent_name,
				      .generation = 3};
	struct ora_answer want;
	enum reg_status have;

	if (ora_used(&run->ora) + run->ora.gone >= run->ora.limit ||
	    ora_used(&run->ora) == ORA_SANDBOXES)
		return;
	walk_name('n', s.name, name);
	walk_name('p', s.pool, pool);
	walk_name('a', agent, agent_name);
	walk_image(s.image, image);
	restore.req = (struct reg_request){.ns = "default",
					   .name = name,
					   .id = name,
					   .pool = pool,
					   .image = image,
					   .ports = s.ports,
					   .port_count = 1,
					   .spec = name,
					   .spec_len = (uint32_t)strlen(name) + 1};
	ora_answer(&run->ora, &ask, &want);
	have = reg_insert(me, &restore, &s.handle);
	walk_say(run, "  insert %s as %s: %s", name, reg_state_name(s.state),
		 reg_status_name(have));
	CHECK_ST(have, want.by_name == ORA_NONE ? REG_OK : REG_NAME_EXISTS);
	run->ora.pool_known[s.pool] = true;
	if (have == REG_OK)
		run->ora.sandboxes[ora_unused(&run->ora)] = s;
}

void walk_get(struct walk_run *run, struct reg_self *me, const struct walk_op *op)
{
	struct ora_ask ask = {.name = op->a % run->world->names, .rid = ORA_NONE};
	struct reg_sandbox_view view;
	struct ora_answer want;
	char name[WALK_TEXT];

	ora_answer(&run->ora, &ask, &want);
	if (want.by_name != ORA_NONE) {
		walk_compare_one(run, me, &run->ora.sandboxes[want.by_name]);
		return;
	}
	walk_name('n', ask.name, name);
	CHECK_ST(reg_get(me, "default", name, &view), REG_NOT_FOUND);
}

/* Nobody gets anything by the handle of one that is gone. */
void walk_stale(struct walk_run *run, struct reg_self *me, const struct walk_op *op)
{
	uint32_t n = run->stale_count < WALK_DEAD ? run->stale_count : WALK_DEAD;
	struct reg_started started = {.started_unix_ns = 6};
	struct reg_exit ex = {.code = 9};
	const struct reg_lease *lease;
	struct reg_sandbox_view view;
	enum reg_status st;

	if (!n)
		return;
	lease = &run->stale[op->a % n];
	switch (op->b % 7) {
	case 0:
		st = reg_starting(me, lease);
		break;
	case 1:
		st = reg_commit(me, lease, &started);
		break;
	case 2:
		st = reg_abort(me, lease);
		break;
	case 3:
		st = reg_stop(me, lease->sandbox, REG_STOP_DELETE, NULL);
		break;
	case 4:
		st = reg_stopped(me, lease->sandbox, &ex);
		break;
	case 5:
		st = reg_exited(me, lease->sandbox, &ex);
		break;
	default:
		st = reg_view(me, lease->sandbox, &view);
		if (st == REG_OK) /* the store has it yet */
			CHECK_EQ(view.state, REG_GONE);
		CHECK(st == REG_OK || st == REG_STALE);
		return;
	}
	walk_say(run, "  stale handle, call %d: %s", op->b % 7, reg_status_name(st));
	CHECK(st == REG_STALE || st == REG_BAD_STATE);
}

/* ---- participants ---- */
struct orphans {
	struct walk_run *run;
	uint32_t idx, heir, count;
};

static void on_orphan(void *arg, const struct reg_orphan *orphan)
{
	struct orphans *o = arg;

	for (uint32_t i = 0; i < o->run->ora.high; i++) {
		struct ora_sandbox *s = &o->run->ora.sandboxes[i];

		if (s->state != REG_STARTING || s->owner != o->idx ||
		    s->handle.idx != orphan->lease.sandbox.idx)
			continue;
		CHECK_EQ(orphan->lease.sandbox.gen, s->handle.gen);
		CHECK_EQ(orphan->lease.agent.idx, o->run->ora.agents[s->agent].idx);
		CHECK_EQ(orphan->lease.slot, s->slot);
		CHECK_EQ(orphan->lease.slot_gen, s->slot_gen);
		s->owner = o->heir;
		o->count++;
		return;
	}
	CHECK(!"an orphan that the oracle knows");
}

/* One leaves and comes back; what it had begun goes to its heir or is taken back. */
void walk_leave(struct walk_run *run, const struct walk_op *op)
{
	int who = op->who % run->world->parts, heir = (who + 1) % run->world->parts;
	struct orphans o = {.run = run,
			    .idx = reg_self_idx(run->who[who]),
			    .heir = reg_self_idx(run->who[heir])};
	struct reg_reap_result res;
	uint32_t want = 0;

	walk_say(run, "  participant %u leaves", o.idx);
	run->who[who] = reg_leave(run->who[who]);
	for (uint32_t i = 0; i < run->ora.high; i++)
		want += run->ora.sandboxes[i].state == REG_STARTING &&
			run->ora.sandboxes[i].owner == o.idx;
	CHECK_OK(reg_reap(run->who[heir], on_orphan, &o, &res));
	CHECK_EQ(res.orphans, want);
	CHECK_EQ(o.count, want);
	for (uint32_t i = 0; i < run->ora.high; i++)
		if (run->ora.sandboxes[i].state == REG_RESERVED &&
		    run->ora.sandboxes[i].owner == o.idx)
			ora_gone(&run->ora, &run->ora.sandboxes[i]);
	CHECK_OK(reg_join(run->reg, REG_KIND_WORKER, &run->who[who]));
}

/* The store writes all that is dirty, and forgets what is gone. */
void walk_store(struct walk_run *run, struct reg_self *me)
{
	struct rig rig = {.reg = run->reg, .me = me};

	walk_say(run, "  store");
	(void)rig_store_run(&rig);
	run->ora.gone = 0;
	memset(run->ora.gone_agent, 0, sizeof(run->ora.gone_agent));
	memset(run->ora.gone_pool, 0, sizeof(run->ora.gone_pool));
	for (uint32_t i = 0; i < run->ora.high; i++)
		if (run->ora.sandboxes[i].state != REG_FREE)
			run->ora.sandboxes[i].maybe_stored = true;
	CHECK_EQ(reg_dirty_count(run->reg), 0);
}

/* ---- the run ---- */
static void clean_up(struct walk_run *run)
{
	struct rig rig = {.reg = run->reg, .me = run->who[0]};

	for (uint32_t i = 0; i < run->ora.high; i++) {
		struct ora_sandbox *s = &run->ora.sandboxes[i];
		struct reg_lease lease = {.sandbox = s->handle};

		if (s->state != REG_RESERVED && s->state != REG_STARTING)
			continue;
		for (int p = 0; p < run->world->parts; p++)
			if (reg_self_idx(run->who[p]) == s->owner)
				CHECK_OK(reg_abort(run->who[p], &lease));
	}
	rig_delete_all(&rig);
	CHECK_EMPTY(&rig);
}

void walk_run(const struct walk *walk, const char *path, bool loud, struct walk_sum *sum)
{
	static struct walk_run run;
	struct reg_limits limits = {.agents = 384,
				    .sandboxes = walk->world.records,
				    .pools = 8,
				    .images = 16,
				    .slots_per_agent_unlimited = walk->world.unlimited};

	run = (struct walk_run){.world = &walk->world, .sum = sum, .loud = loud};
	run.ora.limit = walk->world.records;
	(void)unlink(path);
	CHECK_OK(reg_create(path, &limits, &run.reg));
	for (int i = 0; i < walk->world.parts; i++)
		CHECK_OK(reg_join(run.reg, REG_KIND_WORKER, &run.who[i]));
	for (uint32_t i = 0; i < walk->count; i++) {
		rig_note("seed %llu, world %s, operation %u (%s)", (unsigned long long)walk->seed,
			 walk->world.name, i, walk_kind_name(walk->ops[i].kind));
		walk_say(&run, "%u", i);
		walk_step(&run, &walk->ops[i]);
		walk_say(&run, "\n");
	}
	walk_compare(&run);
	clean_up(&run);
	for (int i = 0; i < walk->world.parts; i++)
		(void)reg_leave(run.who[i]);
	(void)reg_detach(run.reg);
	(void)unlink(path);
}
