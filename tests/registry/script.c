/* SPDX-License-Identifier: Apache-2.0 */
/* The sequence of operations of the kill and stop matrices; see script.h. */
#include "script.h"

#include <stdio.h>
#include <string.h>

#include "failpoints.h"

#define SCRIPT_NAME(name) name,
const char *const script_failpoints[] = {REG_FAILPOINTS(SCRIPT_NAME) NULL};

enum { HELD_PORT = 7000, CAPACITY = 16 };

struct script {
	struct rig *rig;
	char name[8][40];
	uint16_t ports[3];
	uint32_t names;
	const char *prefix;
};

static const char labels[600] = "labels";
static const char spec[3000] = "spec";

/* ---- the world ---- */
static reg_sandbox_id hold(struct rig *rig, const char *name, const char *pool, uint16_t port)
{
	struct reg_request req = rig_request(name);

	req.pool = pool;
	req.request_id = name;
	req.request_hash = 1;
	req.labels = labels; /* the spec is short and lives in the record */
	req.labels_len = sizeof(labels);
	req.ports = &port;
	req.port_count = port ? 1 : 0;
	return rig_run(rig, &req);
}

void script_world(struct rig *rig, struct script_world *ret)
{
	(void)rig_agent_in(rig, "full", "full", 1);
	ret->held[0] = hold(rig, "held-full", "full", 0);
	ret->a = rig_agent(rig, "a", CAPACITY);
	ret->held[1] = hold(rig, "held-a", "pool", HELD_PORT);
	ret->b = rig_agent(rig, "b", CAPACITY);
	ret->held[2] = hold(rig, "held-b", "pool", HELD_PORT);
	(void)rig_store_run(rig);
}

const uint32_t script_free_slots = 2 * CAPACITY - 2;

/* Rows go one after another: agents, then pools and images that nobody uses, each after a grace
 * period. */
static void rows_go(struct rig *rig)
{
	struct reg_sweep_result swept = {.backlog = 1};
	struct reg_pool_view pool;

	for (int i = 0; i < 6 || swept.backlog; i++) {
		CHECK(i < 1000);
		for (uint32_t cursor = 0; reg_pool_next(rig->me, &cursor, &pool);)
			if (strncmp(pool.name, "xp-", 3) == 0)
				(void)!reg_pool_remove(rig->me, pool.ns, pool.name);
		CHECK_OK(reg_sweep(rig->me, &swept));
		CHECK_OK(reg_synchronize(rig->me, UINT64_C(60000000000)));
	}
}

void script_agents(struct rig *rig)
{
	struct reg_agent_view agent;

	rig_images(rig, rig_agent(rig, "b", CAPACITY), NULL);
	for (uint32_t cursor = 0; reg_agent_next(rig->me, &cursor, &agent);)
		if (strncmp(agent.name, "x-", 2) == 0)
			CHECK_OK(reg_agent_remove(rig->me, agent.id));
}

void script_rows_check(struct rig *rig)
{
	struct reg_agent_view agent;
	struct reg_pool_view pool;
	uint32_t agents = 0, pools = 0;

	rows_go(rig);
	for (uint32_t cursor = 0; reg_agent_next(rig->me, &cursor, &agent);)
		agents++;
	for (uint32_t cursor = 0; reg_pool_next(rig->me, &cursor, &pool);)
		pools++;
	CHECK_EQ(agents, 3);
	CHECK_EQ(pools, 2);
}

static bool is_held(const struct script_world *world, reg_sandbox_id sandbox)
{
	for (int i = 0; i < 3; i++)
		if (world->held[i].idx == sandbox.idx && world->held[i].gen == sandbox.gen)
			return true;
	return false;
}

void script_clean(struct rig *rig, const struct script_world *world)
{
	struct reg_sandbox_view view;
	uint32_t cursor = 0;

	while (reg_next(rig->me, &cursor, NULL, &view))
		if (!is_held(world, view.sandbox))
			rig_delete(rig, view.sandbox);
	(void)reg_dirty_rescan(rig->me);
	(void)rig_store_run(rig);
}

void script_check(struct rig *rig, const struct script_world *world)
{
	struct reg_agent_view agent;
	struct reg_books books;
	uint32_t cursor = 0;

	(void)world;
	reg_books(rig->me, &books);
	CHECK_EQ(books.contradictions, 0);
	CHECK_EQ(books.sandboxes, 3);
	CHECK_EQ(books.slots_held, 3);
	CHECK_EQ(books.names, 3);
	CHECK_EQ(books.request_ids, 3);
	CHECK_EQ(books.ports, 2);
	CHECK_EQ(books.blobs, 3);
	(void)reg_scrub(rig->me);
	while (reg_agent_next(rig->me, &cursor, &agent))
		CHECK_EQ(agent.allocated, strncmp(agent.name, "x-", 2) ? 1 : 0);
}

/* ---- the steps ---- */
static struct reg_request ask(struct script *script, const char *what)
{
	char *name = script->name[script->names++ % 8];
	struct reg_request req;

	(void)snprintf(name, sizeof(script->name[0]), "%s-%s", script->prefix, what);
	req = rig_request(name);
	req.request_id = name;
	req.request_hash = 2;
	req.ports = script->ports;
	req.port_count = 3;
	req.spec = spec;
	req.spec_len = sizeof(spec);
	req.labels = labels;
	req.labels_len = sizeof(labels);
	return req;
}

static void abort_paths(struct script *script)
{
	struct reg_request req = ask(script, "abort");
	struct reg_self *me = script->rig->me;
	struct reg_lease lease;

	CHECK_OK(reg_reserve(me, &req, &lease));
	CHECK_OK(reg_abort(me, &lease));
	CHECK_OK(reg_reserve(me, &req, &lease));
	CHECK_OK(reg_starting(me, &lease));
	CHECK_OK(reg_abort(me, &lease));
	CHECK_OK(reg_reserve(me, &req, &lease));
	CHECK_OK(reg_stop(me, lease.sandbox, REG_STOP_DELETE, NULL));
	CHECK_ST(reg_starting(me, &lease), REG_DELETING);
	CHECK_OK(reg_abort(me, &lease));
	CHECK_OK(reg_reserve(me, &req, &lease));
	CHECK_OK(reg_starting(me, &lease));
	CHECK_OK(reg_stop(me, lease.sandbox, REG_STOP_DELETE, NULL));
	CHECK_ST(reg_commit(me, &lease, &(struct reg_started){.started_unix_ns = 3}), REG_DELETING);
	CHECK_OK(reg_stopped(me, lease.sandbox, NULL));
}

static void refusals(struct script *script)
{
	struct reg_self *me = script->rig->me;
	struct reg_request req = ask(script, "refused");
	uint16_t port = HELD_PORT, some[3];
	struct reg_lease lease;

	req.name = "held-a";
	CHECK_ST(reg_reserve(me, &req, &lease), REG_NAME_EXISTS);
	req = ask(script, "refused");
	req.request_id = "held-a";
	req.request_hash = 1;
	CHECK_ST(reg_reserve(me, &req, &lease), REG_REQUEST_SEEN);
	req = ask(script, "refused");
	req.ports = &port;
	req.port_count = 1;
	CHECK_ST(reg_reserve(me, &req, &lease), REG_PORT_CONFLICT);
	/* some of the ports first, then the one in use: the undo gives the first ones back */
	memcpy(some, script->ports, sizeof(some));
	some[1] = HELD_PORT;
	req.ports = some;
	req.port_count = 3;
	CHECK_ST(reg_reserve(me, &req, &lease), REG_PORT_CONFLICT);
	req = ask(script, "refused");
	req.pool = "full";
	CHECK_ST(reg_reserve(me, &req, &lease), REG_NO_CAPACITY);
	req.port_count = 0;
	CHECK_ST(reg_reserve(me, &req, &lease), REG_NO_CAPACITY);
	CHECK_ST(reg_reserve(me, &req, &lease), REG_NO_CAPACITY); /* by the memo */
}

static void stop_paths(struct script *script)
{
	struct reg_self *me = script->rig->me;
	struct reg_request req = ask(script, "run");
	struct reg_update update = {.fields = REG_SET_LABELS | REG_SET_EXPIRE | REG_SET_POLICY,
				    .expire_unix_s = 9,
				    .labels = "new",
				    .labels_len = 3};
	struct reg_exit ex = {.code = 1, .finished_unix_ns = 3};
	reg_sandbox_id id = rig_run(script->rig, &req);

	CHECK_OK(reg_watch(me, id));
	CHECK_OK(reg_update(me, id, &update));
	CHECK_OK(reg_dirty_urgent(me, id));
	rig_delete(script->rig, id);
	id = rig_run(script->rig, &req);
	CHECK_OK(reg_exited(me, id, &ex));
	rig_delete(script->rig, id);
	id = rig_run(script->rig, &req);
	CHECK_OK(reg_stopped(me, id, &ex)); /* from the agent's side */
	rig_delete(script->rig, id);
	id = rig_run(script->rig, &req);
	CHECK_OK(reg_stop(me, id, REG_STOP_EXPIRE, NULL));
	CHECK_OK(reg_exited(me, id, &ex));
	CHECK_OK(reg_stopped(me, id, &ex));
	rig_delete(script->rig, id);
	id = rig_run(script->rig, &req);
	CHECK_OK(reg_lost(me, id, "agent is gone"));
	CHECK_OK(reg_found(me, id));
	CHECK_OK(reg_lost(me, id, "agent is gone again"));
	rig_delete(script->rig, id);
}

/* The store may hold it: deleting leaves a GONE record until the store has forgotten it. */
static void store_paths(struct script *script)
{
	struct rig *rig = script->rig;
	struct reg_self *me = rig->me;
	struct reg_request req = ask(script, "stored");
	struct reg_update update = {.fields = REG_SET_RECOVERY, .recovery_timeout_s = 9};
	struct reg_sandbox_view view;
	reg_sandbox_id id = rig_run(rig, &req);

	(void)rig_store_run(rig);
	CHECK_OK(reg_update(me, id, &update));
	CHECK_OK(reg_dirty_urgent(me, id));
	rig_delete(rig, id);
	CHECK_OK(reg_view(me, id, &view));
	CHECK_EQ(view.state, REG_GONE);
	reg_dirty_again(me, id);
	(void)rig_store_run(rig);
	CHECK_ST(reg_view(me, id, &view), REG_STALE);
}

static void rebuild_paths(struct script *script)
{
	struct rig *rig = script->rig;
	struct reg_restore restore = {.req = ask(script, "restored"),
				      .state = REG_RESTORED,
				      .agent_name = "a",
				      .generation = 2,
				      .message = "from the store",
				      .from_store = false};
	reg_agent_id a;
	reg_sandbox_id id;

	CHECK_OK(reg_agent_find(rig->me, "default", "a", &a));
	CHECK_OK(reg_insert(rig->me, &restore, &id));
	CHECK_ST(reg_insert(rig->me, &restore, &id), REG_NAME_EXISTS);
	CHECK_OK(reg_adopt(rig->me, id, a));
	rig_delete(rig, id);
	restore.state = REG_EXITED;
	CHECK_OK(reg_insert(rig->me, &restore, &id));
	rig_delete(rig, id);
	restore.state = REG_LOST;
	CHECK_OK(reg_insert(rig->me, &restore, &id));
	CHECK_OK(reg_adopt(rig->me, id, a));
	CHECK_OK(reg_exited(rig->me, id, &(struct reg_exit){.code = 2}));
	rig_delete(rig, id);
}

static void batch_paths(struct script *script)
{
	struct rig *rig = script->rig;
	struct reg_request reqs[3] = {ask(script, "b0"), ask(script, "b1"), ask(script, "b2")};
	struct reg_lease leases[3];
	enum reg_status status[3];

	for (int i = 0; i < 3; i++) {
		reqs[i].ports = script->ports + i;
		reqs[i].port_count = 1;
	}
	CHECK_OK(reg_reserve_batch(rig->me, reqs, 3, true, leases, status));
	for (int i = 0; i < 3; i++)
		CHECK_OK(reg_abort(rig->me, &leases[i]));
	reqs[2].name = "held-b";
	CHECK(reg_reserve_batch(rig->me, reqs, 3, true, leases, status) != REG_OK);
	CHECK_ST(status[2], REG_NAME_EXISTS);
	CHECK_OK(reg_reserve_batch(rig->me, reqs, 3, false, leases, status));
	CHECK_ST(status[2], REG_NAME_EXISTS);
	for (int i = 0; i < 2; i++)
		CHECK_OK(reg_abort(rig->me, &leases[i]));
}

static void agent_paths(struct script *script)
{
	struct rig *rig = script->rig;
	static const char *const images[] = {"img", "other"};
	reg_agent_id b = rig_agent(rig, "b", CAPACITY + 1);

	CHECK_OK(reg_agent_set_images(rig->me, b, images, 2));
	CHECK_OK(reg_agent_heartbeat(rig->me, b, 5));
	CHECK_OK(reg_agent_set_images(rig->me, b, NULL, 0));
	(void)rig_agent(rig, "b", CAPACITY);
	(void)reg_scrub(rig->me);
}

/* A pool and an agent that come and go; the grace period may be somebody else's to hold up. */
static void admin_paths(struct script *script)
{
	static const char *const images[] = {"x-one", "x-two"};
	struct reg_self *me = script->rig->me;
	struct reg_agent_info info = {.ns = "default", .node = "n", .capacity = CAPACITY};
	struct reg_sweep_result swept;
	char name[40], pool[40];
	reg_agent_id id;

	(void)snprintf(name, sizeof(name), "x-%s", script->prefix);
	(void)snprintf(pool, sizeof(pool), "xp-%s", script->prefix);
	info.name = name;
	info.pool = pool;
	CHECK_OK(reg_pool_upsert(me, "default", pool));
	CHECK_OK(reg_agent_join(me, &info, &id));
	CHECK_OK(reg_agent_set_ready(me, id, true));
	CHECK_OK(reg_agent_change_images(me, id, images, 2, NULL, 0));
	CHECK_ST(reg_pool_remove(me, "default", pool), REG_IN_USE);
	info.node = "m"; /* another cold record */
	CHECK_OK(reg_agent_join(me, &info, &id));
	CHECK_OK(reg_agent_set_capacity(me, id, CAPACITY + 64)); /* another chunk, once */
	CHECK_OK(reg_agent_set_capacity(me, id, 3));
	CHECK_OK(reg_agent_set_drain(me, id, true));
	CHECK_OK(reg_agent_set_drain(me, id, false));
	CHECK_OK(reg_agent_change_images(me, id, NULL, 0, images, 1));
	CHECK_OK(reg_agent_remove(me, id));
	for (int i = 0; i < 3; i++) {
		CHECK_OK(reg_sweep(me, &swept));
		(void)!reg_synchronize(me, 2000000);
	}
	(void)!reg_pool_remove(me, "default", pool); /* when its agent's row is free */
	(void)!reg_synchronize(me, 2000000);
	CHECK_OK(reg_sweep(me, &swept));
}

void script_run(struct rig *rig, const char *prefix, uint16_t port_base)
{
	struct script script = {.rig = rig, .prefix = prefix};

	for (uint16_t i = 0; i < 3; i++)
		script.ports[i] = (uint16_t)(port_base + (7 * i) % 10); /* not ascending */
	abort_paths(&script);
	refusals(&script);
	stop_paths(&script);
	store_paths(&script);
	rebuild_paths(&script);
	batch_paths(&script);
	agent_paths(&script);
	admin_paths(&script);
	(void)rig_store_run(rig);
}
