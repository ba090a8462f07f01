/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows with a name: pools, images, agents. Found by the unique-key index, with a memory of earlier
 * answers per participant; made when there is none, by any number of participants at once. A row is
 * named by its index and its cell's generation: whoever keeps one looks at the cell word again.
 */
#include "internal.h"

#include <sched.h>
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

/*
 * The stripe's bit before the member's: a search that sees the member finds its stripe. Who removes
 * the last member clears the stripe's bit and looks at the members again, who adds one looks at the
 * stripe's bit again; so of two at once one mends it. Dying in between leaves a stripe that is
 * looked at in vain, or the member of a join that never returned.
 */
void reg__member_add(const struct reg *reg, a64 *bits, uint32_t agent)
{
	uint32_t stripe = agent / REG_STRIPE;
	a64 *stripes = &(bits - reg->stripe_words)[stripe / 64];
	uint64_t bit = UINT64_C(1) << (stripe % 64);

	atomic_fetch_or_explicit(stripes, bit, memory_order_seq_cst); /* [G3] */
	/* seq_cst [F1] [G3] [U1]: pairs with candidates in scan.c and with the sweep's look; the
	 * agent's row before its bit */
	atomic_fetch_or_explicit(&bits[stripe], UINT64_C(1) << (agent % 64), memory_order_seq_cst);
	if (!(atomic_load_explicit(stripes, memory_order_seq_cst) & bit)) /* [G3] */
		atomic_fetch_or_explicit(stripes, bit, memory_order_seq_cst);
}

void reg__member_remove(const struct reg *reg, a64 *bits, uint32_t agent)
{
	uint32_t stripe = agent / REG_STRIPE;
	a64 *stripes = &(bits - reg->stripe_words)[stripe / 64];
	uint64_t bit = UINT64_C(1) << (agent % 64), of_stripe = UINT64_C(1) << (stripe % 64);

	/* seq_cst, all [G3]: the clearing before the second look */
	if ((atomic_fetch_and_explicit(&bits[stripe], ~bit, memory_order_seq_cst) & ~bit) != 0)
		return;
	atomic_fetch_and_explicit(stripes, ~of_stripe, memory_order_seq_cst);
	if (atomic_load_explicit(&bits[stripe], memory_order_seq_cst)) /* [G3] */
		atomic_fetch_or_explicit(stripes, of_stripe, memory_order_seq_cst);
}

/* ---- texts: written while NEW, constant until the row is free again ---- */

static void text_in(char *to, uint32_t cap, const char *text)
{
	uint64_t *dst = (uint64_t *)(void *)to;
	size_t len = strlen(text) + 1;

	for (size_t i = 0; i < cap; i += 8) {
		uint64_t w = 0;

		if (i < len)
			memcpy(&w, text + i, len - i < 8 ? len - i : 8);
		/* release [R2]: pairs with reg__row_text; who sees it sees the newer cell word */
		__atomic_store_n(&dst[i / 8], w, __ATOMIC_RELEASE);
	}
}

void reg__row_text(char *dst, size_t size, const char *from)
{
	const uint64_t *src = (const uint64_t *)(const void *)from;

	for (size_t i = 0; i < size; i += 8) {
		uint64_t w = __atomic_load_n(&src[i / 8], __ATOMIC_ACQUIRE); /* acquire [R2] */

		memcpy(dst + i, &w, size - i < 8 ? size - i : 8);
		if (memchr(&w, 0, 8))
			break;
	}
	dst[size - 1] = 0;
}

static bool key_is(const struct reg *reg, enum reg_index_kind kind, const struct reg_key *key,
		   uint32_t idx)
{
	const struct reg_agent *a;
	const struct reg_pool *p;
	const struct reg_image *i;

	switch (kind) {
	case INDEX_AGENTS:
		a = reg__agent(reg, idx);
		return a && reg__text_is(a->ns, key->a, sizeof(a->ns)) &&
		       reg__text_is(a->name, key->b, sizeof(a->name));
	case INDEX_POOLS:
		p = reg__pool(reg, idx);
		return p && reg__text_is(p->ns, key->a, sizeof(p->ns)) &&
		       reg__text_is(p->name, key->b, sizeof(p->name));
	default:
		i = reg__image(reg, idx);
		return i && reg__text_is(i->ref, key->a, sizeof(i->ref));
	}
}

static enum reg_cells_kind cells_of(enum reg_index_kind kind)
{
	return kind == INDEX_AGENTS ? CELLS_AGENTS
				    : (kind == INDEX_POOLS ? CELLS_POOLS : CELLS_IMAGES);
}

/* The entry's row is in use and has this key; for the index. */
bool reg__row_matches(const struct reg *reg, enum reg_index_kind kind, const struct reg_key *key,
		      uint64_t entry)
{
	uint32_t idx = entry_cell(entry);
	a64 *word = reg__cell(reg, cells_of(kind), idx);

	if (!word || !key_is(reg, kind, key, idx))
		return false;
	/* acquire [R1]: the key was read from this generation */
	uint64_t w = atomic_load_explicit(word, memory_order_acquire);

	return row_state_used(word_state(w)) && word_gen(w) == entry_gen(entry);
}

/* ---- is it still that row? ---- */

/* Its memory is; of a sound arena's rows in use always. */
bool reg__row_there(const struct reg *reg, enum reg_cells_kind kind, uint32_t idx)
{
	switch (kind) {
	case CELLS_AGENTS:
		return reg__agent(reg, idx);
	case CELLS_POOLS:
		return reg__pool(reg, idx) && reg__pool_bits(reg, idx);
	case CELLS_IMAGES:
		return reg__image(reg, idx) && reg__image_bits(reg, idx);
	default:
		return reg__cold(reg, idx);
	}
}

/*
 * In use, under that generation; of a row whose key is committed. One that somebody is about to
 * retire becomes LIVE again, since whoever asks has a use for it, and so does one whose maker
 * stands still before its last step. seq_cst [U1]: a user has stored what refers to the row before
 * this look, and the retirer looks for that after it said RETIRING; see docs/memory-model.md.
 */
bool reg__row_revive(const struct reg *reg, enum reg_cells_kind kind, struct reg_row row)
{
	a64 *word = reg__cell(reg, kind, row.idx);
	uint64_t w = word ? atomic_load_explicit(word, memory_order_seq_cst) : 0; /* [U1] */

	while (word_gen(w) == row.gen &&
	       (word_state(w) == ROW_RETIRING || word_state(w) == ROW_NEW))
		/* seq_cst [U1]: fails when the retirer, or the maker, was first */
		if (atomic_compare_exchange_weak_explicit(
			    word, &w, cell_hand_over(w, ROW_LIVE, CELL_OWNER_NONE),
			    memory_order_seq_cst, memory_order_seq_cst))
			return true;
	return word_gen(w) == row.gen && (word_state(w) == ROW_LIVE || word_state(w) == ROW_HELD);
}

static bool holder_is_gone(const struct reg *reg, uint64_t w)
{
	return !reg__part_own(reg, word_owner(w)) &&
	       !reg__byte_locked(reg, REG_LOCK_PART(word_owner(w)));
}

/* So that no sweep takes it before it is let go, or its holder is reaped. A dead one's is taken. */
bool reg__row_hold(struct reg_self *me, enum reg_cells_kind kind, struct reg_row row)
{
	a64 *word = reg__cell(me->reg, kind, row.idx);
	/* relaxed: checked by the CAS */
	uint64_t w = word ? atomic_load_explicit(word, memory_order_relaxed) : 0;

	/* seq_cst [U1]: fails when a retirer was first */
	return word_gen(w) == row.gen &&
	       (word_state(w) == ROW_LIVE ||
		(word_state(w) == ROW_HELD && holder_is_gone(me->reg, w))) &&
	       atomic_compare_exchange_strong_explicit(word, &w, cell_mark(w, ROW_HELD, me->idx, 0),
						       memory_order_seq_cst, memory_order_relaxed);
}

void reg__row_let_go(struct reg_self *me, enum reg_cells_kind kind, struct reg_row row)
{
	uint64_t w = cell_mark(BITS_PUT(row.gen, CELL_GEN_SHIFT, GEN_WIDTH), ROW_HELD, me->idx, 0);

	/* seq_cst [U1]: what we did to the row comes before any retirer's look */
	(void)atomic_compare_exchange_strong_explicit(reg__cell(me->reg, kind, row.idx), &w,
						      cell_mark(w, ROW_LIVE, CELL_OWNER_NONE, 0),
						      memory_order_seq_cst, memory_order_relaxed);
}

struct reg_row reg__row_now(const struct reg *reg, enum reg_cells_kind kind, uint32_t idx)
{
	a64 *word = reg__cell(reg, kind, idx);
	/* acquire [C2]: the row's contents */
	uint64_t w = word ? atomic_load_explicit(word, memory_order_acquire) : 0;

	return row_state_found(word_state(w)) && reg__row_there(reg, kind, idx)
		       ? (struct reg_row){idx, word_gen(w)}
		       : (struct reg_row){REG_NIL, 0};
}

/* ---- finding ---- */

static bool find(const struct reg *reg, enum reg_index_kind kind, const char *a, const char *b,
		 struct reg_row *ret)
{
	struct reg_key key = reg__key_text(a, b);
	struct reg_hit hit;

	if (!reg__index_find(reg, kind, &key, &hit) || !hit.committed)
		return false;
	*ret = (struct reg_row){hit.cell, hit.gen};
	return reg__row_there(reg, cells_of(kind), hit.cell) &&
	       reg__row_stands(reg, cells_of(kind), *ret);
}

bool reg__find_pool(const struct reg *reg, const char *ns, const char *name, struct reg_row *ret)
{
	return find(reg, INDEX_POOLS, ns, name, ret);
}

bool reg__find_image(const struct reg *reg, const char *ref, struct reg_row *ret)
{
	return find(reg, INDEX_IMAGES, ref, NULL, ret);
}

bool reg__find_agent(const struct reg *reg, const char *ns, const char *name, struct reg_row *ret)
{
	return find(reg, INDEX_AGENTS, ns, name, ret);
}

/* Where the answer for a text is remembered. */
static inline uint32_t memo_at(const char *text, uint32_t len)
{
	uint64_t last = len < 8 ? reg__tail_word(text, len) : reg__eight(text + len - 8);

	return (uint32_t)(((last ^ len) * UINT64_C(0x9fb21c651e98df25)) >> 32) % NAME_MEMOS;
}

/*
 * The text is remembered here, beside the generation under which the row had it: a row keeps its
 * text as long as it keeps its generation, so one look at the cell word says that it still is the
 * row of that name, without a read section and without reading the shared text.
 */
bool reg__pool_of(struct reg_self *me, const char *ns, uint32_t ns_len, const char *name,
		  uint32_t name_len, struct reg_row *ret)
{
	struct reg_pool_memo *memo = &me->pool_memo[memo_at(name, name_len)];

	if (memo->row.gen && memo->name_len == name_len && memo->ns_len == ns_len &&
	    reg__text_same(memo->name, name, name_len) && reg__text_same(memo->ns, ns, ns_len) &&
	    reg__row_stands(me->reg, CELLS_POOLS, memo->row)) {
		*ret = memo->row;
		return true;
	}
	if (!reg__find_pool(me->reg, ns, name, ret))
		return false;
	if (ns_len < sizeof(memo->ns) && name_len < sizeof(memo->name)) {
		memo->row = *ret;
		memo->ns_len = ns_len;
		memo->name_len = name_len;
		reg__text_copy(memo->ns, sizeof(memo->ns), ns);
		reg__text_copy(memo->name, sizeof(memo->name), name);
	}
	return true;
}

bool reg__image_of(struct reg_self *me, const char *ref, uint32_t len, struct reg_row *ret)
{
	struct reg_image_memo *memo = &me->image_memo[memo_at(ref, len)];

	if (memo->row.gen && memo->ref_len == len && reg__text_same(memo->ref, ref, len) &&
	    reg__row_stands(me->reg, CELLS_IMAGES, memo->row)) {
		*ret = memo->row;
		return true;
	}
	if (!reg__find_image(me->reg, ref, ret))
		return false;
	if (len < sizeof(memo->ref)) {
		memo->row = *ret;
		memo->ref_len = len;
		reg__text_copy(memo->ref, sizeof(memo->ref), ref);
	}
	return true;
}

/* ---- making ---- */

struct wanted {
	enum reg_index_kind index;
	const char *a, *b;
	uint32_t pool; /* of an agent; REG_NIL: not known */
	enum reg_status full;
};

static bool stripe_has(const struct reg *reg, uint32_t stripe, bool used)
{
	for (uint32_t i = stripe * 64; i < stripe * 64 + 64; i++) {
		a64 *word = i < reg->max[CELLS_AGENTS] ? reg__cell(reg, CELLS_AGENTS, i) : NULL;
		/* relaxed: a choice, not a claim */
		bool is = word && word_state(atomic_load_explicit(word, memory_order_relaxed));

		if (is == used && i < reg->max[CELLS_AGENTS])
			return true;
	}
	return false;
}

static enum reg_status take_in_stripe(struct reg_self *me, uint32_t stripe, uint32_t *ret_idx,
				      uint64_t *ret_word)
{
	for (uint32_t i = stripe * 64; i < stripe * 64 + 64 && i < me->reg->max[CELLS_AGENTS];
	     i++) {
		a64 *word = reg__cell(me->reg, CELLS_AGENTS, i);

		/* relaxed: checked again by the CAS */
		if (word && word_state(atomic_load_explicit(word, memory_order_relaxed)))
			continue;
		enum reg_status st = reg__cell_take_at(me, CELLS_AGENTS, i, ROW_NEW, 0, ret_word);

		if (st == REG_STALE)
			continue;
		*ret_idx = i;
		return st;
	}
	return REG_STALE;
}

/* A stripe of 64 rows is one word of each bitmap and two cache lines of hints: better of one pool
 * alone. First where the pool has agents, then where nobody has one, then anywhere. */
static enum reg_status take_agent(struct reg_self *me, uint32_t pool, uint32_t *ret_idx,
				  uint64_t *ret_word)
{
	struct reg *reg = me->reg;
	a64 *bits = pool == REG_NIL ? NULL : reg__pool_bits(reg, pool);
	enum reg_status st = REG_STALE;

	for (uint32_t s = 0; bits && s < reg->agent_words && st == REG_STALE; s++)
		/* relaxed: a choice, not a claim */
		if (atomic_load_explicit(&bits[s], memory_order_relaxed))
			st = take_in_stripe(me, s, ret_idx, ret_word);
	for (uint32_t s = 0; s < reg->agent_words && st == REG_STALE; s++)
		if (!stripe_has(reg, s, true))
			st = take_in_stripe(me, s, ret_idx, ret_word);
	if (st == REG_STALE || st == REG_NO_SPACE)
		st = reg__cell_take(me, CELLS_AGENTS, ROW_NEW, 0, REG_LIMIT_AGENTS, ret_idx,
				    ret_word);
	return st;
}

static enum reg_status fill(struct reg *reg, const struct wanted *want, uint32_t idx, uint32_t gen)
{
	uint64_t bits = (uint64_t)reg->members_words * 8;
	struct reg_pool *p;
	struct reg_agent *a;

	switch (want->index) {
	case INDEX_POOLS:
		p = reg__pool(reg, idx);
		text_in(p->ns, sizeof(p->ns), want->a);
		text_in(p->name, sizeof(p->name), want->b);
		/* relaxed, both: published by the index; a memo of the row's last holder is void */
		atomic_store_explicit(&p->declared, 0, memory_order_relaxed);
		atomic_store_explicit(&p->unmet, 0, memory_order_relaxed);
		reg__pool_full_clear(p);
		return reg__ensure(reg, reg->span[REGION_POOL_BITS].off + idx * bits, bits);
	case INDEX_IMAGES:
		text_in(reg__image(reg, idx)->ref, sizeof(reg__image(reg, idx)->ref), want->a);
		return reg__ensure(reg, reg->span[REGION_IMAGE_BITS].off + idx * bits, bits);
	default:
		a = reg__agent(reg, idx);
		text_in(a->ns, sizeof(a->ns), want->a);
		text_in(a->name, sizeof(a->name), want->b);
		reg__agent_row_init(reg, idx, gen, want->pool);
		return REG_OK;
	}
}

/* One attempt: cell, contents, key, LIVE. A death in between leaves the row NEW under its maker's
 * index: reg__rows_reap. REG_NAME_EXISTS: somebody else is at it, or done. */
static enum reg_status make(struct reg_self *me, const struct wanted *want, struct reg_row *ret)
{
	struct reg *reg = me->reg;
	enum reg_cells_kind kind = cells_of(want->index);
	struct reg_key key = reg__key_text(want->a, want->b);
	struct reg_hit other;
	uint32_t idx;
	uint64_t word;
	enum reg_status st = kind == CELLS_AGENTS ? take_agent(me, want->pool, &idx, &word)
						  : reg__cell_take(me, kind, ROW_NEW, 0, want->full,
								   &idx, &word);

	if (st)
		return st;
	(void)FAILPOINT("row.taken");
	st = fill(reg, want, idx, word_gen(word));
	(void)FAILPOINT("row.filled");
	if (!st)
		st = reg__index_insert(reg, want->index, &key, idx, word_gen(word), &other);
	if (st) {
		(void)reg__cell_free(reg, kind, idx, word);
		return st == REG_LIMIT_SANDBOXES ? want->full : st;
	}
	(void)FAILPOINT("row.committed");
	*ret = (struct reg_row){idx, word_gen(word)};
	/* acq_rel [C2]: nobody's from here on, if nobody who found it has said so already */
	(void)atomic_compare_exchange_strong_explicit(
		reg__cell(reg, kind, idx), &word, cell_hand_over(word, ROW_LIVE, CELL_OWNER_NONE),
		memory_order_acq_rel, memory_order_relaxed);
	return REG_OK;
}

/* Another maker of the same key that stands still between its two steps is waited for so often. */
#define INTERN_TRIES 1000

/*
 * Only a committed entry counts: a tentative one may still be sent away, and its row with it. Of
 * those who are at it at once the lowest is not sent away, so one of them gets through.
 */
static enum reg_status intern(struct reg_self *me, const struct wanted *want, struct reg_row *ret)
{
	for (int tries = 0; tries < INTERN_TRIES; tries++) {
		enum reg_status st;

		if (find(me->reg, want->index, want->a, want->b, ret))
			return REG_OK;
		st = make(me, want, ret);
		/* what waits for a grace period that is over meanwhile is free now */
		if (st == want->full && reg__retire_drain(me))
			continue;
		if (st != REG_NAME_EXISTS)
			return st;
		if (tries > 10)
			(void)sched_yield();
	}
	return REG_CONFLICT;
}

enum reg_status reg__pool_intern(struct reg_self *me, const char *ns, const char *name,
				 struct reg_row *ret)
{
	return intern(me, &(struct wanted){INDEX_POOLS, ns, name, REG_NIL, REG_LIMIT_POOLS}, ret);
}

enum reg_status reg__image_intern(struct reg_self *me, const char *ref, struct reg_row *ret)
{
	return intern(me, &(struct wanted){INDEX_IMAGES, ref, NULL, REG_NIL, REG_LIMIT_IMAGES},
		      ret);
}

enum reg_status reg__agent_intern(struct reg_self *me, const char *ns, const char *name,
				  uint32_t pool, struct reg_row *ret)
{
	return intern(me, &(struct wanted){INDEX_AGENTS, ns, name, pool, REG_LIMIT_AGENTS}, ret);
}

/* ---- the key of a row that goes, or whose maker died ---- */

static bool key_of(const struct reg *reg, enum reg_cells_kind kind, uint32_t idx, char a[512],
		   char b[256], struct reg_key *ret)
{
	const struct reg_agent *agent = kind == CELLS_AGENTS ? reg__agent(reg, idx) : NULL;
	const struct reg_pool *pool = kind == CELLS_POOLS ? reg__pool(reg, idx) : NULL;
	const struct reg_image *image = kind == CELLS_IMAGES ? reg__image(reg, idx) : NULL;

	if (!agent && !pool && !image)
		return false;
	if (image) {
		reg__row_text(a, 512, image->ref);
	} else {
		reg__row_text(a, 64, agent ? agent->ns : pool->ns);
		reg__row_text(b, 256, agent ? agent->name : pool->name);
	}
	*ret = reg__key_text(a, image ? NULL : b);
	return true;
}

static enum reg_index_kind index_of(enum reg_cells_kind kind)
{
	return kind == CELLS_AGENTS ? INDEX_AGENTS
				    : (kind == CELLS_POOLS ? INDEX_POOLS : INDEX_IMAGES);
}

void reg__row_unindex(struct reg *reg, enum reg_cells_kind kind, struct reg_row row)
{
	char a[512], b[256];
	struct reg_key key;

	if (key_of(reg, kind, row.idx, a, b, &key))
		reg__index_remove(reg, index_of(kind), &key, row.idx, row.gen);
}

/* Committed: LIVE, as its maker would have done. Else the key goes, then the row. */
static void finish_new(struct reg_self *me, enum reg_cells_kind kind, uint32_t idx, uint64_t w)
{
	struct reg *reg = me->reg;
	char a[512], b[256];
	struct reg_key key;
	struct reg_hit hit;

	if (key_of(reg, kind, idx, a, b, &key) &&
	    reg__index_find(reg, index_of(kind), &key, &hit) && hit.committed && hit.cell == idx &&
	    hit.gen == word_gen(w)) {
		/* acq_rel [C2] */
		(void)atomic_compare_exchange_strong_explicit(
			reg__cell(reg, kind, idx), &w, cell_hand_over(w, ROW_LIVE, CELL_OWNER_NONE),
			memory_order_acq_rel, memory_order_relaxed);
		return;
	}
	reg__row_unindex(reg, kind, (struct reg_row){idx, word_gen(w)});
	(void)reg__cell_free(reg, kind, idx, w);
}

/* Taken for an agent (its number is in the word): named by it, or free again. */
static void finish_part(struct reg_self *me, enum reg_cells_kind kind, uint32_t idx, uint64_t w)
{
	const struct reg_agent *a = reg__agent(me->reg, word_record(w));
	bool named = false;

	/* acquire [G1] [G2] */
	if (a && kind == CELLS_COLD)
		named = atomic_load_explicit(&a->cold, memory_order_acquire) == idx + 1;
	for (uint32_t i = 0; a && kind == CELLS_CHUNKS && i < REG_AGENT_CHUNKS; i++)
		named |= atomic_load_explicit(&a->chunk[i], memory_order_acquire) ==
			 idx + 1; /* [G1] */
	if (named)		  /* acq_rel [C2] */
		(void)atomic_compare_exchange_strong_explicit(
			reg__cell(me->reg, kind, idx), &w,
			cell_hand_over(w, ROW_LIVE, CELL_OWNER_NONE), memory_order_acq_rel,
			memory_order_relaxed);
	else
		(void)reg__cell_free(me->reg, kind, idx, w);
}

static void reap_cell(struct reg_self *me, enum reg_cells_kind kind, uint32_t idx, uint32_t dead)
{
	a64 *word = reg__cell(me->reg, kind, idx);
	/* acquire [C2] */
	uint64_t w = word ? atomic_load_explicit(word, memory_order_acquire) : 0;

	if (word_owner(w) != dead)
		return;
	/* seq_cst [U1]: it had not decided; it no longer needs it */
	if (word_state(w) == ROW_RETIRING || word_state(w) == ROW_HELD)
		(void)atomic_compare_exchange_strong_explicit(
			word, &w, cell_hand_over(w, ROW_LIVE, CELL_OWNER_NONE),
			memory_order_seq_cst, memory_order_relaxed);
	else if (word_state(w) == ROW_NEW && (kind == CELLS_COLD || kind == CELLS_CHUNKS))
		finish_part(me, kind, idx, w);
	else if (word_state(w) == ROW_NEW)
		finish_new(me, kind, idx, w);
}

void reg__rows_reap(struct reg_self *me, uint32_t dead)
{
	static const enum reg_cells_kind kinds[] = {CELLS_AGENTS, CELLS_POOLS, CELLS_IMAGES,
						    CELLS_COLD, CELLS_CHUNKS};

	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		uint32_t high = reg__cells_high(me->reg, kinds[k]);

		for (uint32_t i = 0; i < high; i++)
			reap_cell(me, kinds[k], i, dead);
	}
}
