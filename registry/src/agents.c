/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Agents: join, readiness, images, the cold part of a row. Administration has one writer,
 * registryd; readers never wait for it.
 */
#include "internal.h"

#include <string.h>

/* Writes the copy that readers do not use, then turns to it. A reader that is slower than two
 * changes copies again. */
static void cold_write(struct reg_agent *a, const struct reg_agent_info *info)
{
	/* relaxed: one writer */
	uint64_t seq = atomic_load_explicit(&a->cold_seq, memory_order_relaxed);
	struct reg_agent_cold cold = {.capacity = info->capacity,
				      .shared_network = info->shared_network};

	reg__text_copy(cold.name, sizeof(cold.name), info->name);
	reg__text_copy(cold.node, sizeof(cold.node), info->node ? info->node : "");
	reg__text_copy(cold.address, sizeof(cold.address), info->address ? info->address : "");
	reg__text_copy(cold.host_ip, sizeof(cold.host_ip), info->host_ip ? info->host_ip : "");
	reg__words_in((uint64_t *)(void *)&a->cold[(seq + 1) & 1], &cold, sizeof(cold));
	/* release [G2]: pairs with reg__agent_cold */
	atomic_store_explicit(&a->cold_seq, seq + 1, memory_order_release);
}

/* Before anybody finds the row: whoever does may join it at once. */
void reg__agent_row_init(struct reg *reg, uint32_t idx, const char *name)
{
	/* relaxed: published by the index */
	atomic_store_explicit(reg__hint(reg, idx), REG_HINT_FULL, memory_order_relaxed);
	cold_write(reg__agent(reg, idx), &(struct reg_agent_info){.name = name});
}

void reg__agent_cold(const struct reg_agent *a, struct reg_agent_cold *ret)
{
	uint64_t seq;

	reg__read_lock();
	for (int tries = 0; tries < 8; tries++) {
		/* acquire [G2]: pairs with cold_write */
		seq = atomic_load_explicit(&a->cold_seq, memory_order_acquire);
		reg__words_out(ret, (const uint64_t *)(const void *)&a->cold[seq & 1],
			       sizeof(*ret));
		/* unchanged: a writer in the midst of the next one writes the other copy */
		if (atomic_load_explicit(&a->cold_seq, memory_order_acquire) == seq) /* [G2] */
			break;
	}
	reg__read_unlock();
	ret->name[sizeof(ret->name) - 1] = ret->node[sizeof(ret->node) - 1] = 0;
	ret->address[sizeof(ret->address) - 1] = ret->host_ip[sizeof(ret->host_ip) - 1] = 0;
}

static bool info_valid(const struct reg_agent_info *i)
{
	return i->ns && *i->ns && strlen(i->ns) <= REG_NAMESPACE_MAX && i->name && *i->name &&
	       strlen(i->name) <= REG_NAME_MAX && i->pool && *i->pool &&
	       strlen(i->pool) <= REG_NAME_MAX && (!i->node || strlen(i->node) <= REG_NAME_MAX) &&
	       (!i->address || strlen(i->address) <= REG_ADDRESS_MAX) &&
	       (!i->host_ip || strlen(i->host_ip) < 64);
}

static void pool_move(struct reg *reg, struct reg_agent *a, uint32_t agent, uint32_t pool)
{
	/* relaxed: one writer */
	a64 *old = reg__pool_bits(reg, atomic_load_explicit(&a->pool, memory_order_relaxed));

	if (old)
		reg__member_remove(reg, old, agent);
	/* seq_cst [G4]: pairs with reg__slot_free; before the hot word makes it ready there */
	atomic_store_explicit(&a->pool, pool, memory_order_seq_cst);
	reg__member_add(reg, reg__pool_bits(reg, pool), agent);
}

enum reg_status reg_agent_join(struct reg_self *me, const struct reg_agent_info *info,
			       reg_agent_id *ret)
{
	struct reg *reg = me->reg;
	uint32_t pool, idx, slots;
	enum reg_status st;

	if (!info_valid(info))
		return REG_INVALID;
	slots = info->capacity <= 0 ? reg->slots_unlimited : (uint32_t)info->capacity;
	if (slots > REG_SLOTS_PER_AGENT_MAX)
		return REG_INVALID;
	st = reg__pool_intern(me, info->ns, info->pool, &pool);
	if (st)
		return st;
	st = reg__agent_intern(me, info->ns, info->name, &idx);
	if (st)
		return st;
	st = reg__agent_grow(me, idx, slots);
	if (st)
		return st;
	struct reg_agent *a = reg__agent(reg, idx);

	cold_write(a, info);
	pool_move(reg, a, idx, pool);
	/* relaxed: for humans */
	atomic_fetch_add_explicit(&a->incarnation, 1, memory_order_relaxed);
	/* seq_cst [H1]: the truth before the hint */
	atomic_store_explicit(&a->hot, hot_make(slots, false), memory_order_seq_cst);
	(void)reg__agent_heal(reg, idx);
	ret->idx = idx;
	return REG_OK;
}

enum reg_status reg_agent_set_ready(struct reg_self *me, reg_agent_id agent, bool ready)
{
	struct reg_agent *a = reg__agent(me->reg, agent.idx);

	if (!a)
		return REG_NOT_FOUND;
	/* relaxed, both: one writer; seq_cst store [H1]: the truth before the hint */
	uint64_t hot = atomic_load_explicit(&a->hot, memory_order_relaxed);
	uint32_t pool = atomic_load_explicit(&a->pool, memory_order_relaxed);

	reg__room_begin(me, pool);
	atomic_store_explicit(&a->hot, hot_make(hot_slots(hot), ready), memory_order_seq_cst);
	reg__hint_publish(me->reg, agent.idx);
	reg__room_end(me, pool);
	return REG_OK;
}

enum reg_status reg_agent_heartbeat(struct reg_self *me, reg_agent_id agent, int64_t unix_ns)
{
	struct reg_agent *a = reg__agent(me->reg, agent.idx);

	if (!a)
		return REG_NOT_FOUND;
	/* relaxed: for humans */
	atomic_store_explicit(&a->heartbeat_unix_ns, (uint64_t)unix_ns, memory_order_relaxed);
	return REG_OK;
}

static bool listed(const char *const *images, uint32_t count, const char *ref)
{
	for (uint32_t i = 0; i < count; i++)
		if (!strcmp(images[i], ref))
			return true;
	return false;
}

enum reg_status reg_agent_set_images(struct reg_self *me, reg_agent_id agent,
				     const char *const *images, uint32_t count)
{
	struct reg *reg = me->reg;
	struct reg_agent *a = reg__agent(reg, agent.idx);
	uint64_t bit = UINT64_C(1) << (agent.idx % 64);

	if (!a)
		return REG_NOT_FOUND;
	if (count > REG_AGENT_IMAGES_MAX)
		return REG_TOO_LARGE;
	/* relaxed: one writer */
	uint32_t pool = atomic_load_explicit(&a->pool, memory_order_relaxed);

	for (uint32_t i = 0; i < count; i++) {
		uint32_t img;
		enum reg_status st;

		if (!*images[i] || strlen(images[i]) > REG_IMAGE_MAX)
			return REG_INVALID;
		if (!reg__find_image(reg, images[i], &img)) {
			st = reg__row_add(me, CELLS_IMAGES, INDEX_IMAGES, images[i], NULL,
					  REG_LIMIT_IMAGES, &img);
			if (st)
				return st;
		}
		reg__room_begin(me, pool);
		reg__member_add(reg, reg__image_bits(reg, img), agent.idx);
		reg__room_end(me, pool);
	}
	for (uint32_t img = 0; img < reg__cells_high(reg, CELLS_IMAGES); img++) {
		struct reg_image *row = reg__image(reg, img);
		a64 *bits = reg__image_bits(reg, img);

		/* relaxed: one writer */
		if (row && bits &&
		    atomic_load_explicit(&bits[agent.idx / 64], memory_order_relaxed) & bit &&
		    !listed(images, count, row->ref))
			reg__member_remove(reg, bits, agent.idx);
	}
	return REG_OK;
}
