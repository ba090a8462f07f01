/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows with a name: pools, images, agents. Found by the unique-key index, with a memory of earlier
 * answers per participant; made when there is none.
 */
#include "internal.h"

#include <string.h>

/* A row of a region of bitmaps: the stripes that may have a member, then the members. */
static a64 *members(const struct reg *reg, enum reg_region region, enum reg_cells_kind kind,
		    uint32_t row)
{
	uint64_t len = (uint64_t)reg->members_words * 8;
	uint64_t off = reg->span[region].off + row * len;

	return row < reg->max[kind] && reg__ensured(reg, off, len)
		       ? (a64 *)(void *)(reg->base + off) + reg->stripe_words
		       : NULL;
}

a64 *reg__pool_bits(const struct reg *reg, uint32_t pool)
{
	return members(reg, REGION_POOL_BITS, CELLS_POOLS, pool);
}

a64 *reg__image_bits(const struct reg *reg, uint32_t image)
{
	return members(reg, REGION_IMAGE_BITS, CELLS_IMAGES, image);
}

/* The stripe's bit before the member's: a search that sees the member finds its stripe. Dying in
 * between leaves a stripe that is looked at in vain. */
void reg__member_add(const struct reg *reg, a64 *bits, uint32_t agent)
{
	uint32_t stripe = agent / REG_STRIPE;

	atomic_fetch_or_explicit(&(bits - reg->stripe_words)[stripe / 64],
				 UINT64_C(1) << (stripe % 64), memory_order_seq_cst);
	/* seq_cst [F1] [G3]: pairs with candidates in scan.c; the agent's row before its bit */
	atomic_fetch_or_explicit(&bits[stripe], UINT64_C(1) << (agent % 64), memory_order_seq_cst);
}

/* One writer, administration: nobody adds a member to the stripe meanwhile. */
void reg__member_remove(const struct reg *reg, a64 *bits, uint32_t agent)
{
	uint32_t stripe = agent / REG_STRIPE;
	uint64_t bit = UINT64_C(1) << (agent % 64);

	/* relaxed, both: nominates only */
	if (atomic_fetch_and_explicit(&bits[stripe], ~bit, memory_order_relaxed) == bit)
		atomic_fetch_and_explicit(&(bits - reg->stripe_words)[stripe / 64],
					  ~(UINT64_C(1) << (stripe % 64)), memory_order_relaxed);
}

bool reg__find_pool(const struct reg *reg, const char *ns, const char *name, uint32_t *ret)
{
	struct reg_key key = reg__key_text(ns, name);
	struct reg_hit hit;

	if (!reg__index_find(reg, INDEX_POOLS, &key, &hit))
		return false;
	*ret = hit.cell;
	return true;
}

bool reg__find_image(const struct reg *reg, const char *ref, uint32_t *ret)
{
	struct reg_key key = reg__key_text(ref, NULL);
	struct reg_hit hit;

	if (!reg__index_find(reg, INDEX_IMAGES, &key, &hit))
		return false;
	*ret = hit.cell;
	return true;
}

/* Where the answer for a text is remembered: its end tells pools and images apart best. */
static uint32_t *memo_at(uint32_t *memo, const char *text)
{
	size_t len = strlen(text);

	return &memo[(len + (len ? (unsigned char)text[len - 1] + text[len / 2] : 0)) % NAME_MEMOS];
}

bool reg__pool_of(struct reg_self *me, const char *ns, const char *name, uint32_t *ret)
{
	uint32_t *memo = memo_at(me->pool_memo, name);
	const struct reg_pool *row = *memo ? reg__pool(me->reg, *memo - 1) : NULL;

	if (row && !strncmp(row->name, name, sizeof(row->name)) &&
	    !strncmp(row->ns, ns, sizeof(row->ns))) {
		*ret = *memo - 1;
		return true;
	}
	if (!reg__find_pool(me->reg, ns, name, ret))
		return false;
	*memo = *ret + 1;
	return true;
}

bool reg__image_of(struct reg_self *me, const char *ref, uint32_t *ret)
{
	uint32_t *memo = memo_at(me->image_memo, ref);
	const struct reg_image *row = *memo ? reg__image(me->reg, *memo - 1) : NULL;

	if (row && !strncmp(row->ref, ref, sizeof(row->ref))) {
		*ret = *memo - 1;
		return true;
	}
	if (!reg__find_image(me->reg, ref, ret))
		return false;
	*memo = *ret + 1;
	return true;
}

/* A row that does not exist yet: cell, memory of its bitmap, key, index. Dying before the index
 * leaves an unused row (administration only; the row is one of many and found by nobody). */
enum reg_status reg__row_add(struct reg_self *me, enum reg_cells_kind cells,
			     enum reg_index_kind index, const char *a, const char *b,
			     enum reg_status full, uint32_t *ret)
{
	struct reg *reg = me->reg;
	struct reg_key key = reg__key_text(a, b);
	uint64_t bits = (uint64_t)reg->members_words * 8, word;
	struct reg_hit other;
	uint32_t idx;
	enum reg_status st = reg__cell_take(me, cells, 1, 0, full, &idx, &word);

	if (st)
		return st;
	if (cells == CELLS_POOLS) {
		st = reg__ensure(reg, reg->span[REGION_POOL_BITS].off + idx * bits, bits);
		memcpy(reg__pool(reg, idx)->ns, a, strlen(a) + 1);
		memcpy(reg__pool(reg, idx)->name, b, strlen(b) + 1);
	} else if (cells == CELLS_IMAGES) {
		st = reg__ensure(reg, reg->span[REGION_IMAGE_BITS].off + idx * bits, bits);
		memcpy(reg__image(reg, idx)->ref, a, strlen(a) + 1);
	} else {
		memcpy(reg__agent(reg, idx)->ns, a, strlen(a) + 1);
		memcpy(reg__agent(reg, idx)->name, b, strlen(b) + 1);
		reg__agent_row_init(reg, idx, b);
	}
	if (!st)
		st = reg__index_insert(reg, index, &key, idx, word_gen(word), &other);
	if (st) {
		(void)reg__cell_free(reg, cells, idx, word);
		if (st == REG_NAME_EXISTS && other.gen) {
			*ret = other.cell; /* another process was first with the same row */
			return REG_OK;
		}
		return st == REG_LIMIT_SANDBOXES ? full : st == REG_NAME_EXISTS ? REG_IN_USE : st;
	}
	*ret = idx;
	return REG_OK;
}

enum reg_status reg__pool_intern(struct reg_self *me, const char *ns, const char *name,
				 uint32_t *ret)
{
	if (reg__find_pool(me->reg, ns, name, ret))
		return REG_OK;
	return reg__row_add(me, CELLS_POOLS, INDEX_POOLS, ns, name, REG_LIMIT_POOLS, ret);
}

enum reg_status reg__agent_intern(struct reg_self *me, const char *ns, const char *name,
				  uint32_t *ret)
{
	struct reg_key key = reg__key_text(ns, name);
	struct reg_hit hit;

	if (reg__index_find(me->reg, INDEX_AGENTS, &key, &hit)) {
		*ret = hit.cell;
		return REG_OK;
	}
	return reg__row_add(me, CELLS_AGENTS, INDEX_AGENTS, ns, name, REG_LIMIT_AGENTS, ret);
}
