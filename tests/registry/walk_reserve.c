/* SPDX-License-Identifier: Apache-2.0 */
/* Reservations of a walk, single and in batches: the reason of each refusal, and the score of each
 * choice. */
#include "walk_run.h"

#include <stdio.h>
#include <string.h>

#include "walk_step.h"

uint32_t walk_mix(uint32_t a, uint32_t b)
{
	uint64_t x =
		(a + UINT64_C(1)) * UINT64_C(0x9e3779b97f4a7c15) + b * UINT64_C(0xda942042e4dd58b5);

	return (uint32_t)(x >> 33);
}

struct asked {
	struct ora_ask ask;
	struct reg_request req;
	char name[WALK_TEXT], rid[WALK_TEXT], pool[WALK_TEXT], image[WALK_TEXT];
};

static void make_ask(const struct walk_run *run, const struct walk_op *op, struct asked *ret)
{
	const struct walk_world *w = run->world;
	struct ora_ask *ask = &ret->ask;

	*ask = (struct ora_ask){.name = op->a % w->names,
				.rid = op->b % 3 == 0 ? op->b / 3 % w->rids : ORA_NONE,
				.hash = op->c % 2,
				.pool = op->c % 61 == 60 ? ORA_POOLS - 1 : op->c / 2 % w->pools,
				.image = op->d % (w->images == 1 ? 16 : w->images + 1)};

	if (ask->image > w->images) /* the one behind the last is known to nobody */
		ask->image = 0;
	if (op->d % 3 == 0)
		ask->port_count = op->e % (ORA_PORTS + 1);
	for (uint32_t p = 0; p < ask->port_count; p++) { /* distinct, in no order */
		int step = op->e / 4 % w->ports, first = op->e / 64 % w->ports;

		ask->ports[p] = (uint16_t)(80 + (first + (int)p * (step % 2 ? 1 : w->ports - 1)) %
							w->ports);
		if (p >= (uint32_t)w->ports)
			ask->port_count = (uint32_t)w->ports;
	}
	walk_name('n', ask->name, ret->name);
	walk_name('p', ask->pool, ret->pool);
	walk_image(ask->image, ret->image);
	ret->rid[0] = '\0';
	if (ask->rid != ORA_NONE)
		walk_name('r', ask->rid, ret->rid);
}

/* After the struct has come to rest: it points into itself. */
static void make_request(struct asked *asked)
{
	asked->req = (struct reg_request){.ns = "default",
					  .name = asked->name,
					  .id = asked->name,
					  .pool = asked->pool,
					  .image = asked->image,
					  .request_id = asked->rid,
					  .request_hash = asked->ask.hash,
					  .ports = asked->ask.ports,
					  .port_count = asked->ask.port_count,
					  .spec = asked->name,
					  .spec_len = (uint32_t)strlen(asked->name) + 1,
					  .created_unix_ns = 1700000000000000000};
}

static void check_choice(struct walk_run *run, const struct ora_ask *ask,
			 const struct reg_lease *lease, uint32_t best)
{
	int agent = ora_agent_by_idx(&run->ora, lease->agent.idx);
	uint32_t score;

	CHECK(agent >= 0);
	walk_say(run, " (a%d slot %u, handle %u/%u)", agent, lease->slot, lease->sandbox.idx,
		 lease->sandbox.gen);
	CHECK(ora_may_take(&run->ora, agent, ask));
	score = ora_score(&run->ora, agent, ask->image);
	CHECK_EQ(score, best);
	CHECK(lease->slot < run->ora.agents[agent].slots);
	CHECK(!ora_slot_held(&run->ora, agent, lease->slot));
	run->sum->heavy += score >= 1000 && run->ora.agents[agent].images >> ask->image & 1;
}

/* A member of a batch is CLAIMED until all are through. */
static struct ora_sandbox *note(struct walk_run *run, struct reg_self *me,
				const struct ora_ask *ask, const struct reg_lease *lease,
				enum reg_state state)
{
	struct ora_sandbox *s = &run->ora.sandboxes[ora_unused(&run->ora)];

	*s = (struct ora_sandbox){.state = state,
				  .handle = lease->sandbox,
				  .name = ask->name,
				  .rid = ask->rid,
				  .rid_held = ask->rid != ORA_NONE,
				  .hash = ask->hash,
				  .pool = ask->pool,
				  .image = ask->image,
				  .owner = reg_self_idx(me),
				  .agent = ora_agent_by_idx(&run->ora, lease->agent.idx),
				  .held = true,
				  .ports_held = true,
				  .slot = lease->slot,
				  .slot_gen = lease->slot_gen,
				  .port_count = ask->port_count};
	memcpy(s->ports, ask->ports, sizeof(s->ports));
	return s;
}

static void check_in_the_way(struct walk_run *run, const struct ora_answer *want,
			     enum reg_status have, const struct reg_lease *lease)
{
	int other = have == REG_REQUEST_SEEN || have == REG_REQUEST_MISMATCH  ? want->by_rid
		    : have == REG_NAME_EXISTS || have == REG_NAME_TERMINATING ? want->by_name
									      : ORA_NONE;

	if (other == ORA_NONE || run->ora.sandboxes[other].state == REG_CLAIMED)
		return;
	CHECK_EQ(lease->sandbox.idx, run->ora.sandboxes[other].handle.idx);
	CHECK_EQ(lease->sandbox.gen, run->ora.sandboxes[other].handle.gen);
}

static void check_status(enum reg_status have, uint64_t want)
{
	if (want >> have & 1)
		return;
	for (int st = 0; st < REG_STATUS_MAX; st++)
		if (want >> st & 1)
			(void)fprintf(stderr, "right would be %s\n",
				      reg_status_name((enum reg_status)st));
	CHECK_ST(have, (enum reg_status)__builtin_ctzll(want));
}

static void note_refusal(struct walk_run *run, int pool, enum reg_status status)
{
	run->sum->by_status[status]++;
	if (status == REG_NO_CAPACITY || status == REG_PORT_CONFLICT)
		run->ora.unmet[pool]++;
}

void walk_reserve(struct walk_run *run, struct reg_self *me, const struct walk_op *op)
{
	struct reg_lease lease = {.agent = {UINT32_MAX}};
	struct ora_answer want;
	struct asked asked;
	enum reg_status have;

	if (ora_used(&run->ora) == ORA_SANDBOXES)
		return;
	make_ask(run, op, &asked);
	make_request(&asked);
	ora_answer(&run->ora, &asked.ask, &want);
	have = reg_reserve(me, &asked.req, &lease);
	walk_say(run, "  reserve %s rid '%s' hash %d pool %s image %d ports %u:%u,%u,%u: %s",
		 asked.name, asked.rid, (int)asked.ask.hash, asked.pool, asked.ask.image,
		 asked.ask.port_count, asked.ask.ports[0], asked.ask.ports[1], asked.ask.ports[2],
		 reg_status_name(have));
	check_status(have, want.statuses);
	note_refusal(run, asked.ask.pool, have);
	if (have == REG_OK) {
		check_choice(run, &asked.ask, &lease, want.score);
		(void)note(run, me, &asked.ask, &lease, REG_RESERVED);
	} else {
		check_in_the_way(run, &want, have, &lease);
	}
}

/* ---- batch ---- */
struct batch {
	uint32_t n;
	bool all;
	struct asked asked[WALK_MEMBERS];
	struct reg_request reqs[WALK_MEMBERS];
	struct reg_lease leases[WALK_MEMBERS];
	enum reg_status status[WALK_MEMBERS];
};

static void batch_publish(struct walk_run *run)
{
	for (uint32_t i = 0; i < run->ora.high; i++)
		if (run->ora.sandboxes[i].state == REG_CLAIMED)
			run->ora.sandboxes[i].state = REG_RESERVED;
}

/* Member by member; those that are held count for the next one. */
static void batch_check_done(struct walk_run *run, struct reg_self *me, const struct batch *b)
{
	struct ora_answer want;

	for (uint32_t i = 0; i < b->n; i++) {
		ora_answer(&run->ora, &b->asked[i].ask, &want);
		walk_say(run, " %s %s", b->asked[i].name, reg_status_name(b->status[i]));
		check_status(b->status[i], want.statuses);
		if (b->status[i] == REG_OK) {
			check_choice(run, &b->asked[i].ask, &b->leases[i], want.score);
			(void)note(run, me, &b->asked[i].ask, &b->leases[i], REG_CLAIMED);
		} else {
			check_in_the_way(run, &want, b->status[i], &b->leases[i]);
			note_refusal(run, b->asked[i].ask.pool, b->status[i]);
		}
	}
	batch_publish(run);
}

/* Earlier members were held somewhere, nobody says where: each fills at most one agent, or one
 * slot. */
static bool may_be_refused(const struct walk_run *run, const struct batch *b, uint32_t i)
{
	uint32_t agents, slots, before = 0;

	for (uint32_t k = 0; k < i; k++)
		before += b->asked[k].ask.pool == b->asked[i].ask.pool;
	ora_room(&run->ora, &b->asked[i].ask, &agents, &slots);
	return b->asked[i].ask.port_count ? agents <= before : slots <= before;
}

/* A reason that has nothing to do with room, from what was there before and the members before. */
static uint64_t key_refusal(const struct walk_run *run, const struct batch *b, uint32_t i)
{
	const struct ora_ask *ask = &b->asked[i].ask;
	struct ora_answer want;

	ora_answer(&run->ora, ask, &want);
	for (uint32_t k = 0; k < i && want.by_rid == ORA_NONE; k++)
		if (ask->rid != ORA_NONE && b->asked[k].ask.rid == ask->rid &&
		    b->status[k] == REG_OK)
			return ORA_BIT(b->asked[k].ask.hash == ask->hash ? REG_REQUEST_SEEN
									 : REG_REQUEST_MISMATCH);
	for (uint32_t k = 0; k < i && want.by_rid == ORA_NONE && want.by_name == ORA_NONE; k++)
		if (b->asked[k].ask.name == ask->name && b->status[k] == REG_OK)
			return ORA_BIT(REG_NAME_EXISTS);
	return want.statuses;
}

/* All or none, and it was none: each refusal has its reason, and the first one is the answer. */
static void batch_check_undone(struct walk_run *run, const struct batch *b, enum reg_status have)
{
	enum reg_status first = REG_OK;

	for (uint32_t i = 0; i < b->n; i++) {
		enum reg_status st = b->status[i];
		uint64_t want;

		walk_say(run, " %s %s", b->asked[i].name, reg_status_name(st));
		if (st == REG_OK)
			continue;
		first = first ? first : st;
		want = key_refusal(run, b, i);
		if (want & (ORA_BIT(REG_OK) | ORA_BIT(REG_PORT_CONFLICT)) &&
		    may_be_refused(run, b, i))
			want |= ORA_BIT(REG_NO_CAPACITY) |
				(b->asked[i].ask.port_count ? ORA_BIT(REG_PORT_CONFLICT) : 0);
		if (ora_used(&run->ora) + run->ora.gone + i >= run->ora.limit)
			want |= ORA_BIT(REG_LIMIT_SANDBOXES);
		check_status(st, want);
		note_refusal(run, b->asked[i].ask.pool, st);
		if (first != REG_REQUEST_SEEN) /* looked at to its end only after a repeat */
			break;
	}
	CHECK_ST(have, first);
	CHECK(first != REG_OK);
	run->sum->batches_undone++;
}

void walk_batch(struct walk_run *run, struct reg_self *me, const struct walk_op *op)
{
	struct batch b = {.n = 1 + op->e % WALK_MEMBERS, .all = op->e / 8 % 2};
	enum reg_status have, first = REG_OK;
	bool any = false;

	if (ora_used(&run->ora) + b.n > ORA_SANDBOXES)
		return;
	for (uint32_t i = 0; i < b.n; i++) {
		struct walk_op one = {.a = (uint16_t)walk_mix(op->a, i),
				      .b = (uint16_t)walk_mix(op->b, i),
				      .c = op->c, /* one pool, mostly one image */
				      .d = i % 4 == 3 ? (uint16_t)walk_mix(op->d, i) : op->d,
				      .e = (uint16_t)walk_mix(op->e, i)};

		make_ask(run, &one, &b.asked[i]);
		make_request(&b.asked[i]);
		b.reqs[i] = b.asked[i].req;
	}
	have = reg_reserve_batch(me, b.reqs, b.n, b.all, b.leases, b.status);
	walk_say(run, "  batch of %u, all %d: %s:", b.n, b.all, reg_status_name(have));
	for (uint32_t i = 0; i < b.n; i++) {
		first = first ? first : b.status[i];
		any |= b.status[i] == REG_OK;
	}
	if (b.all && have) {
		batch_check_undone(run, &b, have);
	} else {
		CHECK_ST(have, any ? REG_OK : first);
		if (b.all)
			CHECK_ST(first, REG_OK);
		batch_check_done(run, me, &b);
		run->sum->batches_all += b.all;
	}
}
