/* SPDX-License-Identifier: Apache-2.0 */
/* Read-only copies of agents, pools and images for those who look: listings, endpoints, statistics.
 * Wait-free per row. */
#include "internal.h"

#include <string.h>

enum reg_status reg_agent_get(struct reg_self *me, reg_agent_id agent, struct reg_agent_view *ret)
{
	struct reg_agent_cold cold;
	struct reg_agent *a;

	reg__read_lock(); /* the row keeps its texts, and its pool's */
	enum reg_status st = reg__agent_of(me->reg, agent, &a);

	if (st) {
		reg__read_unlock();
		return st;
	}
	memset(ret, 0, sizeof(*ret));
	reg__agent_cold(me->reg, a, &cold);
	ret->id = agent;
	reg__row_text(ret->ns, sizeof(ret->ns), a->ns);
	reg__row_text(ret->name, sizeof(ret->name), a->name);
	reg__text_copy(ret->node, sizeof(ret->node), cold.node);
	reg__text_copy(ret->address, sizeof(ret->address), cold.address);
	reg__text_copy(ret->host_ip, sizeof(ret->host_ip), cold.host_ip);
	ret->shared_network = cold.shared_network != 0;
	/* relaxed, all: a picture for humans, each value true at some moment */
	uint64_t hot = atomic_load_explicit(&a->hot, memory_order_relaxed);
	const struct reg_pool *p =
		reg__pool(me->reg, atomic_load_explicit(&a->pool, memory_order_relaxed));

	if (p)
		reg__row_text(ret->pool, sizeof(ret->pool), p->name);
	reg__read_unlock();
	ret->capacity = (int32_t)(int64_t)atomic_load_explicit(&a->capacity, memory_order_relaxed);
	ret->incarnation = atomic_load_explicit(&a->incarnation, memory_order_relaxed);
	ret->slots = hot_capacity(hot);
	ret->ready = hot_flags(hot) & HOT_UP;
	ret->draining = hot_flags(hot) & HOT_DRAINING;
	ret->removed = hot_flags(hot) & HOT_REMOVED;
	ret->allocated = reg__agent_load(me->reg, a);
	ret->heartbeat_unix_ns =
		(int64_t)atomic_load_explicit(&a->heartbeat_unix_ns, memory_order_relaxed);
	ret->reserved_total = reg__agent_taken(me->reg, agent.idx);
	return REG_OK;
}

enum reg_status reg_agent_find(struct reg_self *me, const char *ns, const char *name,
			       reg_agent_id *ret)
{
	struct reg_row row;

	if (!reg__find_agent(me->reg, ns, name, &row))
		return REG_NOT_FOUND;
	*ret = (reg_agent_id){row.idx, row.gen};
	return REG_OK;
}

bool reg_agent_next(struct reg_self *me, uint32_t *cursor, struct reg_agent_view *ret)
{
	uint32_t high = reg__cells_high(me->reg, CELLS_AGENTS);

	while (*cursor < high) {
		struct reg_row row = reg__row_now(me->reg, CELLS_AGENTS, (*cursor)++);

		if (row.idx != REG_NIL &&
		    !reg_agent_get(me, (reg_agent_id){row.idx, row.gen}, ret) && ret->incarnation)
			return true;
	}
	return false;
}

static uint32_t bits_count(const struct reg *reg, const a64 *bits)
{
	uint32_t n = 0;

	for (uint32_t w = 0; w < reg->agent_words; w++)
		/* relaxed: counting */
		n += (uint32_t)__builtin_popcountll(
			atomic_load_explicit(&bits[w], memory_order_relaxed));
	return n;
}

/* Inside a read section, so that the row found in use keeps its text. */
static bool image_ref(const struct reg *reg, uint32_t image, char ref[REG_IMAGE_MAX + 1])
{
	bool there;

	reg__read_lock();
	there = reg__row_now(reg, CELLS_IMAGES, image).idx != REG_NIL;
	if (there)
		reg__row_text(ref, REG_IMAGE_MAX + 1, reg__image(reg, image)->ref);
	reg__read_unlock();
	return there;
}

bool reg_image_next(struct reg_self *me, uint32_t *cursor, char ref[REG_IMAGE_MAX + 1],
		    uint32_t *ret_agents)
{
	while (*cursor < reg__cells_high(me->reg, CELLS_IMAGES)) {
		uint32_t i = (*cursor)++;
		const a64 *bits = reg__image_bits(me->reg, i);
		uint32_t n = bits ? bits_count(me->reg, bits) : 0;

		if (!n || !image_ref(me->reg, i, ref))
			continue;
		*ret_agents = n;
		return true;
	}
	return false;
}

bool reg_agent_image_next(struct reg_self *me, reg_agent_id agent, uint32_t *cursor,
			  char ref[REG_IMAGE_MAX + 1])
{
	struct reg_agent *a;
	uint32_t image;

	if (reg__agent_of(me->reg, agent, &a))
		return false;
	while (reg__agent_image_at(me->reg, agent.idx, cursor, &image))
		if (image_ref(me->reg, image, ref))
			return true;
	return false;
}

static void pool_sum(struct reg_self *me, uint32_t pool, struct reg_pool_view *ret)
{
	const a64 *bits = reg__pool_bits(me->reg, pool);

	for (uint32_t i = 0; bits && i < reg__cells_high(me->reg, CELLS_AGENTS); i++) {
		const struct reg_agent *a = reg__agent(me->reg, i);

		/* relaxed: a picture for humans */
		if (!a ||
		    !(atomic_load_explicit(&bits[i / 64], memory_order_relaxed) >> (i % 64) & 1))
			continue;
		uint64_t hot = atomic_load_explicit(&a->hot, memory_order_relaxed);

		if (!atomic_load_explicit(&a->incarnation, memory_order_relaxed))
			continue; /* known by name alone */
		ret->agents++;
		ret->ready_agents += hot_ready(hot);
		ret->slots += hot_capacity(hot);
		ret->allocated += reg__agent_load(me->reg, a);
	}
}

bool reg_pool_next(struct reg_self *me, uint32_t *cursor, struct reg_pool_view *ret)
{
	while (*cursor < reg__cells_high(me->reg, CELLS_POOLS)) {
		uint32_t i = (*cursor)++;
		const struct reg_pool *p = reg__pool(me->reg, i);

		reg__read_lock();
		if (reg__row_now(me->reg, CELLS_POOLS, i).idx == REG_NIL) {
			reg__read_unlock();
			continue;
		}
		memset(ret, 0, sizeof(*ret));
		reg__row_text(ret->ns, sizeof(ret->ns), p->ns);
		reg__row_text(ret->name, sizeof(ret->name), p->name);
		reg__read_unlock();
		ret->unmet_demand =
			atomic_load_explicit(&p->unmet, memory_order_relaxed); /* statistic */
		pool_sum(me, i, ret);
		return true;
	}
	return false;
}
