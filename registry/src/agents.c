/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Agents, pools and images. Truth about load is the slot words; the mask bits (set = probably in
 * use) and the hint per agent are derived. A hint is a pure function of the hot word and the masks;
 * whoever changes one of these writes the hint and looks again until they agree. Administration
 * (join, images, ready) has one writer, registryd; readers never wait for it.
 */
#include "internal.h"

#include <string.h>
#include <urcu/urcu-memb.h>

a16 *reg__hint(const struct reg *reg, uint32_t agent)
{
	return (a16 *)reg__at(reg, REGION_HINTS, (uint64_t)agent * sizeof(a16));
}

static uint32_t chunk_of(const struct reg_agent *agent, uint32_t chunk)
{
	/* acquire [G1]: pairs with reg__agent_grow; the chunk's memory before its number */
	uint32_t c = chunk < REG_AGENT_CHUNKS
			     ? atomic_load_explicit(&agent->chunk[chunk], memory_order_acquire)
			     : 0;

	return c - 1; /* UINT32_MAX: none */
}

a64 *reg__mask(const struct reg *reg, uint32_t agent, uint32_t chunk)
{
	const struct reg_agent *a = reg__agent(reg, agent);
	uint32_t c = a ? chunk_of(a, chunk) : REG_NIL;

	return c < reg->max[CELLS_CHUNKS] ? (a64 *)reg__at(reg, REGION_CHUNK_MASKS, (uint64_t)c * 8)
					  : NULL;
}

a64 *reg__slot(const struct reg *reg, uint32_t agent, uint32_t slot)
{
	const struct reg_agent *a = reg__agent(reg, agent);
	uint32_t c = a ? chunk_of(a, slot / REG_CHUNK_SLOTS) : REG_NIL;
	uint64_t off = reg->span[REGION_CHUNK_SLOTS].off +
		       ((uint64_t)c * REG_CHUNK_SLOTS + slot % REG_CHUNK_SLOTS) * 8;

	if (c >= reg->max[CELLS_CHUNKS] || !reg__ensured(reg, off, 8))
		return NULL;
	return (a64 *)(void *)(reg->base + off);
}

uint32_t reg__agent_load(const struct reg *reg, const struct reg_agent *agent)
{
	uint32_t load = 0;

	for (uint32_t i = 0; i < REG_AGENT_CHUNKS; i++) {
		uint32_t c = chunk_of(agent, i);

		if (c >= reg->max[CELLS_CHUNKS])
			break;
		/* seq_cst [H1]: pairs with reg__hint_publish in other processes: the last to store
		 * looks again */
		load += (uint32_t)__builtin_popcountll(atomic_load_explicit(
			(a64 *)reg__at(reg, REGION_CHUNK_MASKS, (uint64_t)c * 8),
			memory_order_seq_cst));
	}
	return load;
}

static int16_t hint_of(const struct reg *reg, const struct reg_agent *agent)
{
	/* seq_cst [H1] */
	uint64_t hot = atomic_load_explicit(&agent->hot, memory_order_seq_cst);
	uint32_t load = reg__agent_load(reg, agent);

	return !hot_ready(hot) || load >= hot_slots(hot) ? REG_HINT_FULL : (int16_t)load;
}

/* Dying before the store or before the second look leaves a wrong hint; it heals when it is next
 * nominated, or by a scrub. */
void reg__hint_publish(struct reg *reg, uint32_t agent)
{
	const struct reg_agent *a = reg__agent(reg, agent);
	a16 *hint = reg__hint(reg, agent);
	int16_t v, again;

	if (!a) { /* a damaged bitmap named it: never again */
		atomic_store_explicit(hint, REG_HINT_FULL, memory_order_seq_cst); /* [H1] */
		return;
	}
	v = hint_of(reg, a);
	for (;;) {
		/* seq_cst [H1]: the store before the second look at the truth */
		atomic_store_explicit(hint, v, memory_order_seq_cst);
		again = hint_of(reg, a);
		if (again == v)
			return;
		v = again;
	}
}

/*
 * The bit follows the word: whoever writes the bit looks at the word again, until they agree; a
 * single second look is not enough (a release may stand between look and write while the next
 * holder comes and goes). True when something was mended.
 */
static bool mask_settle(const a64 *slot, a64 *mask, uint64_t bit)
{
	for (bool mended = false;; mended = true) {
		/* seq_cst [H2]: pairs with slot_take: whoever changes slot or bit looks at the
		 * other one after */
		bool used =
			word_state(atomic_load_explicit(slot, memory_order_seq_cst)) != SLOT_FREE;

		if (used == !!(atomic_load_explicit(mask, memory_order_seq_cst) & bit)) /* [H2] */
			return mended;
		if (used)
			atomic_fetch_or_explicit(mask, bit, memory_order_seq_cst);
		else
			atomic_fetch_and_explicit(mask, ~bit, memory_order_seq_cst);
	}
}

uint32_t reg__agent_heal(struct reg *reg, uint32_t agent)
{
	uint32_t mended = 0;

	for (uint32_t s = 0; s < REG_SLOTS_PER_AGENT_MAX; s++) {
		a64 *slot = reg__slot(reg, agent, s), *mask = reg__mask(reg, agent, s / 64);

		if (!slot || !mask)
			break;
		mended += mask_settle(slot, mask, UINT64_C(1) << (s % 64));
	}
	/* relaxed: compared for counting only */
	int16_t before = atomic_load_explicit(reg__hint(reg, agent), memory_order_relaxed);

	reg__hint_publish(reg, agent);
	return mended +
	       (before != atomic_load_explicit(reg__hint(reg, agent), memory_order_relaxed));
}

void reg__pool_full_clear(struct reg_pool *pool)
{
	/* seq_cst [F1]: pairs with place.c: the freed slot before this look; the refuser marks
	 * before its pass */
	uint64_t full = atomic_load_explicit(&pool->full, memory_order_seq_cst);

	while (full & 1)
		/* seq_cst [F1]: the next number, not active: every memo of the old one is void */
		if (atomic_compare_exchange_weak_explicit(&pool->full, &full, (full | 1) + 1,
							  memory_order_seq_cst,
							  memory_order_seq_cst))
			return;
}

void reg__room_begin(struct reg_self *me, uint32_t pool)
{
	/* relaxed: published by what makes the room, a release */
	atomic_store_explicit(&me->part->releasing, pool + 1, memory_order_relaxed);
}

void reg__room_end(struct reg_self *me, uint32_t pool)
{
	struct reg_pool *p = reg__pool(me->reg, pool);

	if (p)
		reg__pool_full_clear(p);
	/* release [F2]: pairs with release_under_way; who no longer sees the mark sees the cleared
	 * memo */
	atomic_store_explicit(&me->part->releasing, 0, memory_order_release);
}

/*
 * The slot word → FREE is the release; mask, hint and memo follow. In between, whoever remembers
 * that the pool is full is told to look for himself by the mark in our line, also when we are
 * stopped or dead there. Repeatable by anybody: a reaper finishes.
 */
void reg__slot_free(struct reg_self *me, uint32_t agent, uint32_t slot, uint32_t gen,
		    uint32_t record)
{
	struct reg *reg = me->reg;
	a64 *word = reg__slot(reg, agent, slot), *mask = reg__mask(reg, agent, slot / 64);
	struct reg_agent *a = reg__agent(reg, agent);
	uint64_t w;

	if (!word || !mask || !a)
		return;
	/* seq_cst [G4]: pairs with pool_move; looked at again below */
	uint32_t pool = atomic_load_explicit(&a->pool, memory_order_seq_cst), now;

	reg__room_begin(me, pool);
	/* relaxed: checked again by the CAS */
	w = atomic_load_explicit(word, memory_order_relaxed);
	while (word_state(w) != SLOT_FREE && word_gen(w) == gen && word_record(w) == record)
		/* seq_cst [S1] [F1] [F2] [H2]: pairs with the claim; what the last holder did
		 * before the next one's */
		if (atomic_compare_exchange_weak_explicit(
			    word, &w, cell_free(w), memory_order_seq_cst, memory_order_relaxed))
			break;
	(void)FAILPOINT("undo.slot-freed");
	(void)mask_settle(word, mask, UINT64_C(1) << (slot % 64));
	(void)FAILPOINT("undo.mask-cleared");
	reg__hint_publish(reg, agent);
	now = atomic_load_explicit(&a->pool, memory_order_seq_cst); /* [G4] */
	if (now != pool && reg__pool(reg, now)) /* the agent joined another pool meanwhile */
		reg__pool_full_clear(reg__pool(reg, now));
	reg__room_end(me, pool);
}

/* ---- pools and images ---- */

a64 *reg__pool_bits(const struct reg *reg, uint32_t pool)
{
	uint64_t len = (uint64_t)reg->agent_words * 8;
	uint64_t off = reg->span[REGION_POOL_BITS].off + pool * len;

	return pool < reg->max[CELLS_POOLS] && reg__ensured(reg, off, len)
		       ? (a64 *)(void *)(reg->base + off)
		       : NULL;
}

a64 *reg__image_bits(const struct reg *reg, uint32_t image)
{
	uint64_t len = (uint64_t)reg->agent_words * 8;
	uint64_t off = reg->span[REGION_IMAGE_BITS].off + image * len;

	return image < reg->max[CELLS_IMAGES] && reg__ensured(reg, off, len)
		       ? (a64 *)(void *)(reg->base + off)
		       : NULL;
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
static void agent_row_init(struct reg *reg, uint32_t idx, const char *name)
{
	/* relaxed: published by the index */
	atomic_store_explicit(reg__hint(reg, idx), REG_HINT_FULL, memory_order_relaxed);
	cold_write(reg__agent(reg, idx), &(struct reg_agent_info){.name = name});
}

/* A row that does not exist yet: cell, memory of its bitmap, key, index. Dying before the index
 * leaves an unused row (administration only; the row is one of many and found by nobody). */
static enum reg_status row_add(struct reg_self *me, enum reg_cells_kind cells,
			       enum reg_index_kind index, const char *a, const char *b,
			       enum reg_status full, uint32_t *ret)
{
	struct reg *reg = me->reg;
	struct reg_key key = reg__key_text(a, b);
	uint64_t bits = (uint64_t)reg->agent_words * 8, word;
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
		agent_row_init(reg, idx, b);
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
	return row_add(me, CELLS_POOLS, INDEX_POOLS, ns, name, REG_LIMIT_POOLS, ret);
}

/* ---- agents ---- */

enum reg_status reg__agent_grow(struct reg_self *me, uint32_t agent, uint32_t slots)
{
	struct reg_agent *a = reg__agent(me->reg, agent);

	for (uint32_t i = 0; i * REG_CHUNK_SLOTS < slots; i++) {
		uint32_t idx, none = 0;
		uint64_t word;

		if (chunk_of(a, i) != REG_NIL)
			continue;
		/* If we die after the take the chunk is lost until the arena is rebuilt:
		 * administration, bounded by its deaths. */
		enum reg_status st =
			reg__cell_take(me, CELLS_CHUNKS, 1, 0, REG_LIMIT_SLOTS, &idx, &word);

		if (st)
			return st;
		/* release [G1]: pairs with chunk_of; an adoption may grow it at the same time */
		if (!atomic_compare_exchange_strong_explicit(&a->chunk[i], &none, idx + 1,
							     memory_order_release,
							     memory_order_relaxed))
			(void)reg__cell_free(me->reg, CELLS_CHUNKS, idx, word);
	}
	return REG_OK;
}

void reg__agent_cold(const struct reg_agent *a, struct reg_agent_cold *ret)
{
	uint64_t seq;

	reg__rcu_thread();
	urcu_memb_read_lock();
	for (int tries = 0; tries < 8; tries++) {
		/* acquire [G2]: pairs with cold_write */
		seq = atomic_load_explicit(&a->cold_seq, memory_order_acquire);
		reg__words_out(ret, (const uint64_t *)(const void *)&a->cold[seq & 1],
			       sizeof(*ret));
		/* unchanged: a writer in the midst of the next one writes the other copy */
		if (atomic_load_explicit(&a->cold_seq, memory_order_acquire) == seq) /* [G2] */
			break;
	}
	urcu_memb_read_unlock();
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
	uint64_t bit = UINT64_C(1) << (agent % 64);

	if (old) /* relaxed: nominates only */
		atomic_fetch_and_explicit(&old[agent / 64], ~bit, memory_order_relaxed);
	/* seq_cst [G4]: pairs with reg__slot_free; before the hot word makes it ready there */
	atomic_store_explicit(&a->pool, pool, memory_order_seq_cst);
	/* release [G3]: pairs with place.c; the agent's row before its bit */
	atomic_fetch_or_explicit(&reg__pool_bits(reg, pool)[agent / 64], bit, memory_order_release);
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
	return row_add(me, CELLS_AGENTS, INDEX_AGENTS, ns, name, REG_LIMIT_AGENTS, ret);
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
			st = row_add(me, CELLS_IMAGES, INDEX_IMAGES, images[i], NULL,
				     REG_LIMIT_IMAGES, &img);
			if (st)
				return st;
		}
		reg__room_begin(me, pool);
		/* seq_cst [F1]: before the memo is cleared */
		atomic_fetch_or_explicit(&reg__image_bits(reg, img)[agent.idx / 64], bit,
					 memory_order_seq_cst);
		reg__room_end(me, pool);
	}
	for (uint32_t img = 0; img < reg__cells_high(reg, CELLS_IMAGES); img++) {
		struct reg_image *row = reg__image(reg, img);
		a64 *bits = reg__image_bits(reg, img);

		/* relaxed: one writer */
		if (row && bits &&
		    atomic_load_explicit(&bits[agent.idx / 64], memory_order_relaxed) & bit &&
		    !listed(images, count, row->ref))
			atomic_fetch_and_explicit(&bits[agent.idx / 64], ~bit,
						  memory_order_relaxed);
	}
	return REG_OK;
}
