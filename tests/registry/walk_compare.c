/* SPDX-License-Identifier: Apache-2.0 */
/* The registry's views against the oracle's arrays, one by one and in sum. */
#include "walk_run.h"

#include <stdio.h>
#include <string.h>

void walk_image(int image, char *buf)
{
	(void)snprintf(buf, WALK_TEXT, "docker.io/library/image-%d:latest", image);
}

void walk_name(char kind, int number, char *buf)
{
	(void)snprintf(buf, WALK_TEXT, "%c%d", kind, number);
}

void walk_labels(uint32_t version, char *buf)
{
	(void)snprintf(buf, WALK_TEXT, "labels of version %u", version);
}

static void compare_texts(struct walk_run *run, struct reg_self *me, const struct ora_sandbox *s,
			  const struct reg_sandbox_view *view)
{
	char want[WALK_TEXT], have[WALK_TEXT] = "";
	uint32_t len = 0;

	(void)run;
	walk_name('n', s->name, want);
	CHECK_STR(view->name, want);
	CHECK_STR(view->id, want);
	CHECK_OK(reg_spec(me, s->handle, have, sizeof(have), &len));
	CHECK_EQ(len, strlen(want) + 1);
	CHECK_STR(have, want);
	walk_image(s->image, want);
	CHECK_STR(view->image, want);
	walk_name('p', s->pool, want);
	CHECK_STR(view->pool, want);
	want[0] = '\0';
	if (s->rid != ORA_NONE)
		walk_name('r', s->rid, want);
	CHECK_STR(view->request_id, want);
	want[0] = have[0] = '\0';
	if (s->labels)
		walk_labels(s->labels, want);
	CHECK_OK(reg_labels(me, s->handle, have, sizeof(have) - 1, &len));
	CHECK_EQ(len, strlen(want));
	have[len] = '\0';
	CHECK_STR(have, want);
}

void walk_compare_one(struct walk_run *run, struct reg_self *me, const struct ora_sandbox *s)
{
	struct reg_sandbox_view view;
	char name[WALK_TEXT];

	walk_name('n', s->name, name);
	CHECK_OK(reg_get(me, "default", name, &view));
	CHECK_EQ(view.state, s->state);
	CHECK_EQ(view.deleting, s->deleting);
	if (s->state == REG_STOPPING)
		CHECK_EQ(view.expiring, s->expiring);
	CHECK_EQ(view.sandbox.idx, s->handle.idx);
	CHECK_EQ(view.sandbox.gen, s->handle.gen);
	CHECK_EQ(view.owner, s->owner);
	CHECK_EQ(view.port_count, s->port_count);
	CHECK_EQ(view.request_hash, s->hash);
	CHECK_EQ(view.expire_unix_s, s->expire);
	CHECK_EQ(view.policy, s->policy);
	if (s->held) {
		CHECK_EQ(view.agent.idx, run->ora.agents[s->agent].idx);
		CHECK_EQ(view.slot, s->slot);
		CHECK_EQ(view.slot_gen, s->slot_gen);
	} else {
		CHECK_EQ(view.slot, UINT32_MAX);
	}
	compare_texts(run, me, s, &view);
}

static void compare_agents(struct walk_run *run, uint32_t *ret_held)
{
	struct reg_agent_view view;
	uint32_t cursor = 0, listed = 0;

	*ret_held = 0;
	while (reg_agent_next(run->who[0], &cursor, &view)) {
		int i = ora_agent_by_idx(&run->ora, view.id.idx);
		char pool[WALK_TEXT];

		CHECK(i != ORA_NONE);
		CHECK_EQ(view.allocated, ora_allocated(&run->ora, i));
		CHECK_EQ(view.slots, run->ora.agents[i].slots);
		CHECK_EQ(view.ready, run->ora.agents[i].ready);
		CHECK_EQ(view.draining, run->ora.agents[i].draining);
		CHECK_EQ(view.removed, run->ora.agents[i].removed);
		CHECK_EQ(view.incarnation, run->ora.agents[i].incarnation);
		walk_name('p', run->ora.agents[i].pool, pool);
		CHECK_STR(view.pool, pool);
		*ret_held += view.allocated;
		listed++;
	}
	for (int i = 0; i < ORA_AGENTS; i++)
		listed -= run->ora.agents[i].joined;
	CHECK_EQ(listed, 0);
}

static void compare_pool(struct walk_run *run, int pool, const struct reg_pool_view *view)
{
	uint32_t agents = 0, ready = 0, slots = 0, allocated = 0;

	for (int i = 0; i < ORA_AGENTS; i++) {
		const struct ora_agent *a = &run->ora.agents[i];

		if (!a->joined || a->removed || a->pool != pool)
			continue;
		agents++;
		ready += a->ready && !a->draining;
		slots += a->slots;
		allocated += ora_allocated(&run->ora, i);
	}
	CHECK_EQ(view->agents, agents);
	CHECK_EQ(view->ready_agents, ready);
	CHECK_EQ(view->slots, slots);
	CHECK_EQ(view->allocated, allocated);
	CHECK_EQ(view->unmet_demand, run->ora.unmet[pool]);
}

static void compare_pools(struct walk_run *run)
{
	struct reg_pool_view view;
	uint32_t cursor = 0, listed = 0;

	while (reg_pool_next(run->who[0], &cursor, &view)) {
		CHECK(view.name[0] == 'p' && view.name[1] >= '0' && view.name[1] < '0' + ORA_POOLS);
		CHECK(run->ora.pool_known[view.name[1] - '0']);
		compare_pool(run, view.name[1] - '0', &view);
		listed++;
	}
	for (int i = 0; i < ORA_POOLS; i++)
		listed -= run->ora.pool_known[i];
	CHECK_EQ(listed, 0);
}

static void compare_images(struct walk_run *run)
{
	char ref[REG_IMAGE_MAX + 1], want[WALK_TEXT];
	uint32_t cursor = 0, agents, all = 0;

	while (reg_image_next(run->who[0], &cursor, ref, &agents)) {
		for (int image = 0; image < ORA_IMAGES; image++) {
			walk_image(image, want);
			if (strcmp(ref, want) != 0)
				continue;
			for (int i = 0; i < ORA_AGENTS; i++)
				agents -= run->ora.agents[i].images >> image & 1;
			CHECK_EQ(agents, 0);
			all |= 1u << image;
		}
	}
	for (int i = 0; i < ORA_AGENTS; i++)
		CHECK_EQ(run->ora.agents[i].images & ~all, 0);
}

void walk_compare(struct walk_run *run)
{
	struct reg_sandbox_view view;
	struct reg_books books;
	uint32_t held, cursor = 0, listed = 0, rids = 0, ports = 0, used = ora_used(&run->ora);

	run->sum->compares++;
	compare_agents(run, &held);
	compare_pools(run);
	compare_images(run);
	for (uint32_t i = 0; i < run->ora.high; i++) {
		const struct ora_sandbox *s = &run->ora.sandboxes[i];

		if (s->state == REG_FREE)
			continue;
		walk_compare_one(run, run->who[0], s);
		rids += s->rid_held;
		ports += s->held && s->ports_held ? s->port_count : 0;
	}
	while (reg_next(run->who[0], &cursor, "default", &view))
		listed++;
	CHECK_EQ(listed, used);
	reg_books(run->who[0], &books);
	CHECK_EQ(books.contradictions, 0);
	CHECK_EQ(books.slots_held, held);
	CHECK_EQ(books.sandboxes, used + run->ora.gone);
	CHECK_EQ(books.names, used);
	CHECK_EQ(books.request_ids, rids);
	CHECK_EQ(books.ports, ports);
}
