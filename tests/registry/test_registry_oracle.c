/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One caller, hundreds of thousands of random operations: what the registry answers, and the score
 * of the agent that it chooses, equal what the brute-force oracle says; at the end the books
 * balance.
 */
#include "oracle.h"
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct run {
	struct rig rig;
	struct oracle ora;
	uint64_t random;
	uint32_t chosen, refused; /* that both kinds happen is part of the test */
	uint32_t by_status[REG_STATUS_MAX];
};

static const char *const pools[ORA_POOLS] = {"p0", "p1", "p2", "p3"}; /* p3: nobody joins it */

static void image_name(int image, char *buf, size_t size)
{
	(void)snprintf(buf, size, "docker.io/library/image-%d:latest", image);
}

static void join_agent(struct run *run, int i)
{
	struct ora_agent *agent = &run->ora.agents[i];
	int32_t capacity = (int32_t)rig_below(&run->random, 9) - 1;
	struct reg_agent_info info = {.ns = "default", .node = "n", .address = "a", .host_ip = "h"};
	reg_agent_id id;
	char name[16];

	if (!agent->joined || rig_below(&run->random, 8) == 0)
		agent->pool = (int)rig_below(&run->random, ORA_POOLS - 1);
	(void)snprintf(name, sizeof(name), "agent-%d", i);
	info.name = name;
	info.pool = pools[agent->pool];
	info.capacity = capacity;
	CHECK_OK(reg_agent_join(run->rig.me, &info, &id));
	if (agent->joined)
		CHECK_EQ(id.idx, agent->idx);
	agent->idx = id.idx;
	agent->joined = true;
	agent->ready = false;
	agent->slots = capacity > 0 ? (uint32_t)capacity : ORA_SLOTS / 4;
	run->ora.pool_known[agent->pool] = true;
}

static void set_images(struct run *run, int i)
{
	struct ora_agent *agent = &run->ora.agents[i];
	char text[ORA_IMAGES][64];
	const char *list[ORA_IMAGES];
	uint32_t n = 0;

	for (int image = 0; image < ORA_IMAGES; image++) {
		agent->image[image] = rig_below(&run->random, 4) == 0;
		if (!agent->image[image])
			continue;
		image_name(image, text[n], sizeof(text[n]));
		list[n] = text[n];
		n++;
	}
	CHECK_OK(reg_agent_set_images(run->rig.me, (reg_agent_id){agent->idx}, list, n));
}

static void change_agent(struct run *run)
{
	int i = (int)rig_below(&run->random, ORA_AGENTS);
	struct ora_agent *agent = &run->ora.agents[i];

	switch (rig_below(&run->random, 4)) {
	case 0:
		join_agent(run, i);
		set_images(run, i);
		break;
	case 1:
		if (agent->joined)
			set_images(run, i);
		break;
	default:
		break;
	}
	if (!agent->joined)
		return;
	agent->ready = rig_below(&run->random, 5) != 0;
	CHECK_OK(reg_agent_set_ready(run->rig.me, (reg_agent_id){agent->idx}, agent->ready));
}

static void make_ask(struct run *run, struct ora_ask *ask)
{
	*ask = (struct ora_ask){.hash = rig_below(&run->random, 2)};
	(void)snprintf(ask->name, sizeof(ask->name), "s%u", rig_below(&run->random, 400));
	if (rig_below(&run->random, 3) == 0)
		(void)snprintf(ask->request_id, sizeof(ask->request_id), "r%u",
			       rig_below(&run->random, 300));
	ask->pool = rig_below(&run->random, 50) == 0 ? ORA_POOLS - 1
						     : (int)rig_below(&run->random, ORA_POOLS - 1);
	ask->image = (int)rig_below(&run->random, ORA_IMAGES);
	if (rig_below(&run->random, 3) != 0)
		return;
	ask->port_count = 1 + rig_below(&run->random, ORA_PORTS);
	for (uint32_t p = 0; p < ask->port_count; p++) /* distinct, in no order */
		ask->ports[p] = (uint16_t)(1 + (rig_below(&run->random, 4) + p * 4) * 7 % 16);
}

static void note_reserved(struct run *run, const struct ora_ask *ask, const struct reg_lease *lease,
			  uint32_t best)
{
	int i = ora_unused(&run->ora), agent = ora_agent_by_idx(&run->ora, lease->agent.idx);
	struct ora_sandbox *sandbox = &run->ora.sandboxes[i];
	uint32_t score;

	CHECK(agent >= 0);
	CHECK(ora_may_take(&run->ora, agent, ask));
	score = ora_score(&run->ora, agent, ask->image);
	if (score > best)
		CHECK_EQ(score, best);
	CHECK(lease->slot < run->ora.agents[agent].slots);
	CHECK(!run->ora.agents[agent].slot[lease->slot]);
	run->ora.agents[agent].slot[lease->slot] = true;
	*sandbox = (struct ora_sandbox){.state = REG_RESERVED,
					.handle = lease->sandbox,
					.hash = ask->hash,
					.pool = ask->pool,
					.image = ask->image,
					.agent = agent,
					.slot = lease->slot,
					.slot_gen = lease->slot_gen,
					.port_count = ask->port_count};
	memcpy(sandbox->ports, ask->ports, sizeof(sandbox->ports));
	memcpy(sandbox->name, ask->name, sizeof(sandbox->name));
	memcpy(sandbox->request_id, ask->request_id, sizeof(sandbox->request_id));
	run->chosen++;
}

static void reserve(struct run *run)
{
	struct reg_request req;
	struct reg_lease lease;
	struct ora_answer want;
	struct ora_ask ask;
	enum reg_status have;
	char image[64];

	if (ora_unused(&run->ora) < 0)
		return;
	make_ask(run, &ask);
	ora_answer(&run->ora, &ask, &want);
	image_name(ask.image, image, sizeof(image));
	req = rig_request(ask.name);
	req.pool = pools[ask.pool];
	req.image = image;
	req.request_id = ask.request_id;
	req.request_hash = ask.hash;
	req.ports = ask.ports;
	req.port_count = ask.port_count;
	have = reg_reserve(run->rig.me, &req, &lease);
	if (have != want.or_status)
		CHECK_ST(have, want.status);
	run->by_status[have]++;
	if (have == REG_OK) {
		note_reserved(run, &ask, &lease, want.score);
		return;
	}
	run->refused++;
	if (want.other >= 0 && have == want.status) {
		CHECK_EQ(lease.sandbox.idx, run->ora.sandboxes[want.other].handle.idx);
		CHECK_EQ(lease.sandbox.gen, run->ora.sandboxes[want.other].handle.gen);
	}
}

static void gone(struct run *run, struct ora_sandbox *sandbox)
{
	ora_give_back(&run->ora, sandbox);
	sandbox->state = REG_FREE; /* GONE for the store: no longer of interest here */
}

static void stop(struct run *run, struct ora_sandbox *sandbox, enum reg_stop_reason reason)
{
	enum reg_state prior;

	if (reason == REG_STOP_EXPIRE && sandbox->state != REG_RUNNING) {
		if (sandbox->state == REG_STOPPING)
			return; /* the header leaves a second expiry open */
		CHECK_ST(reg_stop(run->rig.me, sandbox->handle, reason, NULL), REG_BAD_STATE);
		return;
	}
	CHECK_OK(reg_stop(run->rig.me, sandbox->handle, reason, &prior));
	CHECK_EQ(prior, sandbox->state);
	if (reason == REG_STOP_DELETE)
		sandbox->deleting = true;
	else
		sandbox->expiring = true;
	if (sandbox->state == REG_RESERVED || sandbox->state == REG_STARTING)
		return;
	sandbox->state = REG_STOPPING; /* one that was LOST keeps its slot until it is confirmed */
}

static void start(struct run *run, struct ora_sandbox *sandbox)
{
	struct reg_lease lease = {.sandbox = sandbox->handle,
				  .agent = {run->ora.agents[sandbox->agent].idx},
				  .slot = sandbox->slot,
				  .slot_gen = sandbox->slot_gen};
	struct reg_started started = {.started_unix_ns = 5};

	if (rig_below(&run->random, 5) == 0) {
		CHECK_OK(reg_abort(run->rig.me, &lease));
		gone(run, sandbox);
	} else if (sandbox->state == REG_RESERVED) {
		CHECK_ST(reg_starting(run->rig.me, &lease),
			 sandbox->deleting ? REG_DELETING : REG_OK);
		if (!sandbox->deleting)
			sandbox->state = REG_STARTING;
	} else {
		CHECK_ST(reg_commit(run->rig.me, &lease, &started),
			 sandbox->deleting ? REG_DELETING : REG_OK);
		sandbox->state = sandbox->deleting ? REG_STOPPING : REG_RUNNING;
	}
}

static void end(struct run *run, struct ora_sandbox *sandbox)
{
	struct reg_exit ex = {.code = (int32_t)rig_below(&run->random, 3), .finished_unix_ns = 9};

	switch (rig_below(&run->random, 4)) {
	case 0:
		if (sandbox->state == REG_RUNNING)
			CHECK_OK(reg_lost(run->rig.me, sandbox->handle, "lost"));
		else if (sandbox->state == REG_LOST)
			CHECK_OK(reg_found(run->rig.me, sandbox->handle));
		else
			return;
		sandbox->state = sandbox->state == REG_RUNNING ? REG_LOST : REG_RUNNING;
		return;
	case 1:
		if (sandbox->state != REG_RUNNING && sandbox->state != REG_LOST)
			return;
		CHECK_OK(reg_exited(run->rig.me, sandbox->handle, &ex));
		ora_give_back(&run->ora, sandbox);
		sandbox->state = REG_EXITED;
		return;
	case 2:
		stop(run, sandbox, rig_below(&run->random, 3) ? REG_STOP_DELETE : REG_STOP_EXPIRE);
		return;
	default:
		break;
	}
	if (sandbox->state != REG_STOPPING)
		return;
	CHECK_OK(reg_stopped(run->rig.me, sandbox->handle, &ex));
	if (sandbox->deleting) {
		gone(run, sandbox);
		return;
	}
	ora_give_back(&run->ora, sandbox);
	sandbox->state = REG_EXPIRED;
}

static void change_sandbox(struct run *run)
{
	struct ora_sandbox *sandbox = &run->ora.sandboxes[rig_below(&run->random, ORA_SANDBOXES)];

	switch (sandbox->state) {
	case REG_FREE:
		return;
	case REG_RESERVED:
	case REG_STARTING:
		if (rig_below(&run->random, 12) == 0)
			stop(run, sandbox, REG_STOP_DELETE);
		else
			start(run, sandbox);
		return;
	default:
		end(run, sandbox);
	}
}

static void compare_sandboxes(struct run *run)
{
	struct reg_sandbox_view view;
	uint32_t cursor = 0, listed = 0, visible = 0;

	for (int i = 0; i < ORA_SANDBOXES; i++) {
		const struct ora_sandbox *sandbox = &run->ora.sandboxes[i];

		if (!ora_visible(sandbox))
			continue;
		visible++;
		CHECK_OK(reg_get(run->rig.me, "default", sandbox->name, &view));
		CHECK_EQ(view.state, sandbox->state);
		CHECK_EQ(view.deleting, sandbox->deleting);
		CHECK_EQ(view.sandbox.idx, sandbox->handle.idx);
		CHECK_STR(view.request_id, sandbox->request_id);
		if (sandbox->agent >= 0) {
			CHECK_EQ(view.agent.idx, run->ora.agents[sandbox->agent].idx);
			CHECK_EQ(view.slot, sandbox->slot);
		}
	}
	while (reg_next(run->rig.me, &cursor, "default", &view))
		listed++;
	CHECK_EQ(listed, visible);
}

static void compare(struct run *run)
{
	struct reg_agent_view view;
	struct reg_books books;
	uint32_t held = 0;

	for (int i = 0; i < ORA_AGENTS; i++) {
		struct ora_agent *agent = &run->ora.agents[i];

		if (!agent->joined)
			continue;
		CHECK_OK(reg_agent_get(run->rig.me, (reg_agent_id){agent->idx}, &view));
		CHECK_EQ(view.allocated, ora_allocated(&run->ora, i));
		CHECK_EQ(view.slots, agent->slots);
		CHECK_EQ(view.ready, agent->ready);
		held += view.allocated;
	}
	reg_books(run->rig.me, &books);
	CHECK_EQ(books.contradictions, 0);
	CHECK_EQ(books.slots_held, held);
	compare_sandboxes(run);
}

static void random_operations(struct run *run, uint32_t n, uint64_t seed)
{
	uint32_t pace = 10;

	for (uint32_t op = 0; op < n; op++) {
		uint32_t what = rig_below(&run->random, 100);

		rig_note("operation %u of seed %llu", op, (unsigned long long)seed);
		if (op % 5000 == 0)
			pace = 5 + rig_below(&run->random, 60); /* emptier and fuller times */
		if (what < 2)
			change_agent(run);
		else if (what < 2 + pace)
			reserve(run);
		else if (what == 99)
			(void)rig_store_run(&run->rig);
		else
			for (int i = 0; i < 4; i++)
				change_sandbox(run);
		if (op % 2000 == 0)
			compare(run);
	}
}

static void test_oracle(void **state)
{
	static struct run run;
	struct reg_limits limits = rig_limits;
	uint64_t seed = rig_seed(20260101);

	(void)state;
	memset(&run, 0, sizeof(run));
	run.random = seed;
	limits.slots_per_agent_unlimited = ORA_SLOTS / 4;
	rig_open(&run.rig, &limits);
	random_operations(&run, rig_scaled(400000), seed);
	compare(&run);
	printf("%u reserved, %u refused:", run.chosen, run.refused);
	for (int i = 1; i < REG_STATUS_MAX; i++)
		if (run.by_status[i])
			printf(" %s %u", reg_status_name((enum reg_status)i), run.by_status[i]);
	printf("\n");
	CHECK(run.chosen > 1000 && run.by_status[REG_NO_CAPACITY] > 0 &&
	      run.by_status[REG_PORT_CONFLICT] > 0 && run.by_status[REG_REQUEST_SEEN] > 0 &&
	      run.by_status[REG_NAME_TERMINATING] > 0 && run.by_status[REG_NO_POOL] > 0);
	rig_delete_all(&run.rig);
	CHECK_EMPTY(&run.rig);
	rig_close(&run.rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_oracle)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
