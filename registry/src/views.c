/* SPDX-License-Identifier: Apache-2.0 */
/* Read-only copies of agents, pools and images for those who look: listings, endpoints, statistics.
 * Wait-free per row. */
#include "internal.h"

#include <string.h>

enum reg_status reg_agent_get(struct reg_self *me, reg_agent_id agent, struct reg_agent_view *ret)
{
	const struct reg_agent *a = reg__agent(me->reg, agent.idx);
	a64 *word = reg__cell(me->reg, CELLS_AGENTS, agent.idx);
	struct reg_agent_cold cold;

	/* acquire [G3]: pairs with pool_move and the cell; the row's texts */
	if (!a || !word || !word_state(atomic_load_explicit(word, memory_order_acquire)))
		return REG_NOT_FOUND;
	memset(ret, 0, sizeof(*ret));
	reg__agent_cold(a, &cold);
	ret->id = agent;
	reg__text_copy(ret->ns, sizeof(ret->ns), a->ns);
	reg__text_copy(ret->name, sizeof(ret->name), a->name);
	reg__text_copy(ret->node, sizeof(ret->node), cold.node);
	reg__text_copy(ret->address, sizeof(ret->address), cold.address);
	reg__text_copy(ret->host_ip, sizeof(ret->host_ip), cold.host_ip);
	ret->shared_network = cold.shared_network != 0;
	ret->capacity = (int32_t)cold.capacity;
	/* relaxed, all: a picture for humans, each value true at some moment */
	uint64_t hot = atomic_load_explicit(&a->hot, memory_order_relaxed);
	const struct reg_pool *p =
		reg__pool(me->reg, atomic_load_explicit(&a->pool, memory_order_relaxed));

	if (p)
		reg__text_copy(ret->pool, sizeof(ret->pool), p->name);
	ret->incarnation = atomic_load_explicit(&a->incarnation, memory_order_relaxed);
	ret->slots = hot_slots(hot);
	ret->ready = hot_ready(hot);
	ret->allocated = reg__agent_load(me->reg, a);
	ret->heartbeat_unix_ns =
		(int64_t)atomic_load_explicit(&a->heartbeat_unix_ns, memory_order_relaxed);
	ret->reserved_total = reg__agent_taken(me->reg, agent.idx);
	return REG_OK;
}

enum reg_status reg_agent_find(struct reg_self *me, const char *ns, const char *name,
			       reg_agent_id *ret)
{
	struct reg_key key = reg__key_text(ns, name);
	struct reg_hit hit;

	if (!reg__index_find(me->reg, INDEX_AGENTS, &key, &hit))
		return REG_NOT_FOUND;
	ret->idx = hit.cell;
	return REG_OK;
}

bool reg_agent_next(struct reg_self *me, uint32_t *cursor, struct reg_agent_view *ret)
{
	uint32_t high = reg__cells_high(me->reg, CELLS_AGENTS);

	while (*cursor < high)
		if (!reg_agent_get(me, (reg_agent_id){(*cursor)++}, ret) && ret->incarnation)
			return true;
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

bool reg_image_next(struct reg_self *me, uint32_t *cursor, char ref[REG_IMAGE_MAX + 1],
		    uint32_t *ret_agents)
{
	while (*cursor < reg__cells_high(me->reg, CELLS_IMAGES)) {
		uint32_t i = (*cursor)++;
		const struct reg_image *row = reg__image(me->reg, i);
		const a64 *bits = reg__image_bits(me->reg, i);
		uint32_t n = row && bits ? bits_count(me->reg, bits) : 0;

		if (!n)
			continue;
		reg__text_copy(ref, REG_IMAGE_MAX + 1, row->ref);
		*ret_agents = n;
		return true;
	}
	return false;
}

bool reg_agent_image_next(struct reg_self *me, reg_agent_id agent, uint32_t *cursor,
			  char ref[REG_IMAGE_MAX + 1])
{
	if (agent.idx >= me->reg->max[CELLS_AGENTS])
		return false;
	while (*cursor < reg__cells_high(me->reg, CELLS_IMAGES)) {
		uint32_t i = (*cursor)++;
		const struct reg_image *row = reg__image(me->reg, i);
		const a64 *bits = reg__image_bits(me->reg, i);

		/* relaxed: a picture for humans */
		if (!row || !bits ||
		    !(atomic_load_explicit(&bits[agent.idx / 64], memory_order_relaxed) >>
			      (agent.idx % 64) &
		      1))
			continue;
		reg__text_copy(ref, REG_IMAGE_MAX + 1, row->ref);
		return true;
	}
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

		ret->agents++;
		ret->ready_agents += hot_ready(hot);
		ret->slots += hot_slots(hot);
		ret->allocated += reg__agent_load(me->reg, a);
	}
}

bool reg_pool_next(struct reg_self *me, uint32_t *cursor, struct reg_pool_view *ret)
{
	while (*cursor < reg__cells_high(me->reg, CELLS_POOLS)) {
		uint32_t i = (*cursor)++;
		const struct reg_pool *p = reg__pool(me->reg, i);
		a64 *word = reg__cell(me->reg, CELLS_POOLS, i);

		/* acquire [C2]: the row's texts */
		if (!p || !word || !word_state(atomic_load_explicit(word, memory_order_acquire)))
			continue;
		memset(ret, 0, sizeof(*ret));
		reg__text_copy(ret->ns, sizeof(ret->ns), p->ns);
		reg__text_copy(ret->name, sizeof(ret->name), p->name);
		ret->unmet_demand =
			atomic_load_explicit(&p->unmet, memory_order_relaxed); /* statistic */
		pool_sum(me, i, ret);
		return true;
	}
	return false;
}
