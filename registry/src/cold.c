/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cold records of agents: node, address, host. Each is written once, published by its agent's
 * row, and replaced as a whole; readers use it in place inside a read section, and the old one is
 * free after a grace period.
 */
#include "internal.h"

#include <string.h>

static void words_in(uint64_t *dst, const void *src, uint64_t bytes)
{
	for (uint64_t i = 0; i < bytes / 8; i++) {
		uint64_t w;

		memcpy(&w, (const uint8_t *)src + i * 8, 8);
		/* relaxed: published by the row */
		__atomic_store_n(&dst[i], w, __ATOMIC_RELAXED);
	}
}

static void cold_fill(struct reg_agent_cold *dst, const struct reg_agent_info *info)
{
	struct reg_agent_cold cold = {.shared_network = info->shared_network};

	reg__text_copy(cold.node, sizeof(cold.node), info->node ? info->node : "");
	reg__text_copy(cold.address, sizeof(cold.address), info->address ? info->address : "");
	reg__text_copy(cold.host_ip, sizeof(cold.host_ip), info->host_ip ? info->host_ip : "");
	words_in((uint64_t *)(void *)dst, &cold, sizeof(cold));
}

/* Inside a read section, and good until its end; NULL: none. */
const struct reg_agent_cold *reg__cold_read(const struct reg *reg, const struct reg_agent *a)
{
	/* acquire [G2]: pairs with reg__cold_publish */
	uint32_t cold = atomic_load_explicit(&a->cold, memory_order_acquire);

	return cold ? reg__cold(reg, cold - 1) : NULL;
}

void reg__agent_cold(const struct reg *reg, const struct reg_agent *a, struct reg_agent_cold *ret)
{
	const struct reg_agent_cold *cold;

	memset(ret, 0, sizeof(*ret));
	reg__read_lock();
	cold = reg__cold_read(reg, a);
	if (cold) {
		reg__row_text(ret->node, sizeof(ret->node), cold->node);
		reg__row_text(ret->address, sizeof(ret->address), cold->address);
		reg__row_text(ret->host_ip, sizeof(ret->host_ip), cold->host_ip);
		ret->shared_network =
			__atomic_load_n(&cold->shared_network, __ATOMIC_RELAXED); /* constant */
	}
	reg__read_unlock();
}

static bool same(const struct reg *reg, const struct reg_agent *a,
		 const struct reg_agent_info *info)
{
	struct reg_agent_cold now, then;

	reg__agent_cold(reg, a, &now);
	cold_fill(&then, info);
	return !strcmp(now.node, then.node) && !strcmp(now.address, then.address) &&
	       !strcmp(now.host_ip, then.host_ip) && now.shared_network == then.shared_network;
}

/* Everything that can be refused; nothing is visible yet. One writer: registryd. */
enum reg_status reg__cold_prepare(struct reg_self *me, uint32_t agent,
				  const struct reg_agent_info *info, struct reg_cold_change *ret)
{
	struct reg *reg = me->reg;
	struct reg_agent *a = reg__agent(reg, agent);
	enum reg_status st;

	*ret = (struct reg_cold_change){.fresh = {REG_NIL, 0}, .old = {REG_NIL, 0}};
	/* relaxed: one writer */
	uint32_t old = atomic_load_explicit(&a->cold, memory_order_relaxed);

	if (old && same(reg, a, info))
		return REG_OK;
	if (old) {
		/* relaxed: named by the row, so it stays; NEW still when its publisher just died */
		ret->old = (struct reg_row){
			old - 1, word_gen(atomic_load_explicit(reg__cell(reg, CELLS_COLD, old - 1),
							       memory_order_relaxed))};
		st = reg__retire_name(me, CELLS_COLD, ret->old, &ret->entry);
		if (st)
			return st;
	}
	st = reg__cell_take(me, CELLS_COLD, ROW_NEW, agent, REG_BACKLOG, &ret->fresh.idx,
			    &ret->word);
	if (st) {
		if (old)
			reg__retire_drop(me, ret->entry);
		ret->fresh.idx = REG_NIL;
		return st;
	}
	cold_fill(reg__cold(reg, ret->fresh.idx), info);
	(void)FAILPOINT("cold.filled");
	return REG_OK;
}

void reg__cold_abandon(struct reg_self *me, const struct reg_cold_change *change)
{
	if (change->fresh.idx == REG_NIL)
		return;
	if (change->old.idx != REG_NIL)
		reg__retire_drop(me, change->entry);
	(void)reg__cell_free(me->reg, CELLS_COLD, change->fresh.idx, change->word);
}

/* Dying after the row names the new one: the reaper makes that LIVE, and the old one's entry says
 * what is left to do. */
void reg__cold_publish(struct reg_self *me, uint32_t agent, const struct reg_cold_change *change)
{
	struct reg *reg = me->reg;
	struct reg_agent *a = reg__agent(reg, agent);

	if (change->fresh.idx == REG_NIL)
		return;
	/* release [G2]: pairs with reg__cold_read; its contents before its number */
	atomic_store_explicit(&a->cold, change->fresh.idx + 1, memory_order_release);
	(void)FAILPOINT("cold.published");
	/* release [C2]: nobody's from here on */
	atomic_store_explicit(reg__cell(reg, CELLS_COLD, change->fresh.idx),
			      cell_hand_over(change->word, ROW_LIVE, CELL_OWNER_NONE),
			      memory_order_release);
	if (change->old.idx == REG_NIL)
		return;
	a64 *word = reg__cell(reg, CELLS_COLD, change->old.idx);
	/* relaxed: named by our entry, so ours */
	uint64_t w = atomic_load_explicit(word, memory_order_relaxed);

	/* release [C2]: unpublished */
	atomic_store_explicit(word, cell_mark(w, ROW_RETIRED, CELL_OWNER_NONE, change->entry),
			      memory_order_release);
	(void)FAILPOINT("cold.retired");
	reg__retire_time(me, change->entry, reg__grace_start(reg));
}

/* Of a row that is reclaimed itself: nobody can read through it. Repeatable. */
void reg__cold_drop(struct reg_self *me, uint32_t agent)
{
	struct reg *reg = me->reg;
	struct reg_agent *a = reg__agent(reg, agent);
	/* relaxed: ours */
	uint32_t cold = atomic_load_explicit(&a->cold, memory_order_relaxed);
	a64 *word = cold ? reg__cell(reg, CELLS_COLD, cold - 1) : NULL;
	uint64_t w = word ? atomic_load_explicit(word, memory_order_relaxed) : 0; /* ours */

	if (word_state(w) && word_record(w) == agent && word_state(w) != ROW_RETIRED)
		(void)reg__cell_free(reg, CELLS_COLD, cold - 1, w);
	atomic_store_explicit(&a->cold, 0, memory_order_relaxed); /* ours */
}
