/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mark and sweep of rows: agents that were removed or never joined, pools without agents and
 * sandboxes, images that no agent has. No counts, which a death would falsify: who refers to a row
 * is looked up, before and after the row says RETIRING.
 */
#include "internal.h"

#include <string.h>

#define BATCH	       128  /* rows retired under one grace period */
#define IMAGES_PORTION 4096 /* image rows looked at in one call: each costs a bitmap */

struct candidate {
	enum reg_cells_kind kind;
	struct reg_row row;
	uint32_t entry;
};

struct sweep {
	struct reg_self *me;
	uint32_t n;
	bool wants_records; /* some candidate may be referred to by records */
	struct candidate at[BATCH];
};

static bool test(const uint64_t *bits, uint32_t i)
{
	return bits[i / 64] >> (i % 64) & 1;
}

static void set(uint64_t *bits, uint32_t i, uint32_t max)
{
	if (i < max)
		bits[i / 64] |= UINT64_C(1) << (i % 64);
}

/* ---- who refers to what ---- */

static void mark_by_agents(struct reg_self *me)
{
	struct reg *reg = me->reg;
	uint32_t high = reg__cells_high(reg, CELLS_AGENTS);

	for (uint32_t i = 0; i < high; i++) {
		const struct reg_agent *a = reg__agent(reg, i);
		a64 *word = reg__cell(reg, CELLS_AGENTS, i);

		/* seq_cst [U1]: of any state: one that is NEW may be of a pool already */
		if (!a || !word || !word_state(atomic_load_explicit(word, memory_order_seq_cst)))
			continue;
		/* seq_cst [U1]: pairs with pool_move */
		set(me->pool_marks, atomic_load_explicit(&a->pool, memory_order_seq_cst),
		    reg->max[CELLS_POOLS]);
		for (uint32_t s = 0; s < REG_SLOTS_PER_AGENT_MAX; s++) {
			const a64 *slot = reg__slot(reg, i, s);

			if (!slot)
				break;
			/* seq_cst [U2]: pairs with reg__claim_stands */
			if (word_state(atomic_load_explicit(slot, memory_order_seq_cst)) ==
			    SLOT_FREE)
				continue;
			set(me->agent_marks, i, reg->max[CELLS_AGENTS]);
			break;
		}
	}
}

/* Records of any state: EXITED ones name their agent still, CLAIMED ones their pool already. */
static void mark_by_records(struct reg_self *me)
{
	struct reg *reg = me->reg;
	uint32_t high = reg__cells_high(reg, CELLS_RECORDS);

	for (uint32_t i = 0; i < high; i++) {
		a64 *word = reg__cell(reg, CELLS_RECORDS, i);
		const struct reg_rec *rec = reg__rec(reg, i);

		/* seq_cst [U1]: after RETIRING; the holder filled it before it looked at the row */
		if (!word || !rec || !word_state(atomic_load_explicit(word, memory_order_seq_cst)))
			continue;
		set(me->pool_marks, reg__rec_pool(rec), reg->max[CELLS_POOLS]);
		/* acquire [R3] */
		set(me->agent_marks,
		    place_agent(atomic_load_explicit(&rec->place, memory_order_acquire)),
		    reg->max[CELLS_AGENTS]);
	}
}

static void mark(struct sweep *s)
{
	struct reg_self *me = s->me;

	memset(me->agent_marks, 0, me->reg->agent_words * sizeof(uint64_t));
	memset(me->pool_marks, 0, (me->reg->max[CELLS_POOLS] + 63) / 64 * sizeof(uint64_t));
	mark_by_agents(me);
	if (s->wants_records)
		mark_by_records(me);
}

static bool image_used(const struct reg *reg, uint32_t image)
{
	const a64 *bits = reg__image_bits(reg, image);

	for (uint32_t w = 0; bits && w < reg->agent_words; w++)
		/* seq_cst [U1]: pairs with reg__member_add */
		if (atomic_load_explicit(&bits[w], memory_order_seq_cst))
			return true;
	return false;
}

static bool pool_declared(const struct reg *reg, uint32_t pool)
{
	const struct reg_pool *p = reg__pool(reg, pool);

	/* seq_cst [U1]: pairs with reg_pool_upsert */
	return p && atomic_load_explicit(&p->declared, memory_order_seq_cst);
}

static bool agent_wanted(const struct reg *reg, uint32_t agent)
{
	const struct reg_agent *a = reg__agent(reg, agent);
	/* seq_cst [U1]: pairs with capacity_set */
	uint64_t hot = atomic_load_explicit(&a->hot, memory_order_seq_cst);

	/* relaxed: before that hot word when it has joined */
	return !(hot_flags(hot) & HOT_REMOVED) &&
	       atomic_load_explicit(&a->incarnation, memory_order_relaxed);
}

/* As of the last mark. */
static bool used(const struct sweep *s, const struct candidate *c)
{
	const struct reg *reg = s->me->reg;

	switch (c->kind) {
	case CELLS_AGENTS:
		return test(s->me->agent_marks, c->row.idx) || agent_wanted(reg, c->row.idx);
	case CELLS_POOLS:
		return test(s->me->pool_marks, c->row.idx) || pool_declared(reg, c->row.idx);
	default:
		return image_used(reg, c->row.idx);
	}
}

/* ---- candidates ---- */

static void propose(struct sweep *s, enum reg_cells_kind kind, uint32_t idx)
{
	a64 *word = reg__cell(s->me->reg, kind, idx);
	/* acquire [C2] */
	uint64_t w = word ? atomic_load_explicit(word, memory_order_acquire) : 0;
	struct candidate c = {.kind = kind, .row = {idx, word_gen(w)}};

	if (s->n < BATCH && word_state(w) == ROW_LIVE && !used(s, &c))
		s->at[s->n++] = c;
}

static void gather(struct sweep *s)
{
	struct reg_self *me = s->me;
	uint32_t high = reg__cells_high(me->reg, CELLS_IMAGES), i;

	mark(s); /* by agents alone: cheap, and nearly always enough to say no */
	for (i = 0; i < reg__cells_high(me->reg, CELLS_AGENTS); i++)
		propose(s, CELLS_AGENTS, i);
	for (i = 0; i < reg__cells_high(me->reg, CELLS_POOLS); i++)
		propose(s, CELLS_POOLS, i);
	s->wants_records = s->n > 0;
	if (me->sweep_image >= high)
		me->sweep_image = 0;
	for (i = 0; i < IMAGES_PORTION && me->sweep_image < high && s->n < BATCH; i++)
		propose(s, CELLS_IMAGES, me->sweep_image++);
}

/* Drops the candidates that keep says no to. */
static void keep_only(struct sweep *s, bool (*keep)(struct sweep *s, struct candidate *c))
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n; i++)
		if (keep(s, &s->at[i]))
			s->at[n++] = s->at[i];
	s->n = n;
}

static bool is_unused(struct sweep *s, struct candidate *c)
{
	return !used(s, c);
}

/* ---- retiring ---- */

/* From here on whoever wants the row says so in its word. */
static bool say_retiring(struct sweep *s, struct candidate *c)
{
	a64 *word = reg__cell(s->me->reg, c->kind, c->row.idx);
	/* relaxed: checked by the CAS */
	uint64_t w = atomic_load_explicit(word, memory_order_relaxed);

	/* seq_cst [U1]: before the second look at who refers to it */
	if (word_state(w) == ROW_LIVE && word_gen(w) == c->row.gen &&
	    atomic_compare_exchange_strong_explicit(
		    word, &w, cell_mark(w, ROW_RETIRING, s->me->idx, c->entry),
		    memory_order_seq_cst, memory_order_relaxed))
		return true;
	reg__retire_drop(s->me, c->entry);
	return false;
}

/* RETIRED when nobody refers to it and nobody took it back; then nobody finds it any more. */
static bool decide(struct sweep *s, struct candidate *c)
{
	struct reg_self *me = s->me;
	a64 *word = reg__cell(me->reg, c->kind, c->row.idx);
	uint64_t w = cell_mark(BITS_PUT(c->row.gen, CELL_GEN_SHIFT, GEN_WIDTH), ROW_RETIRING,
			       me->idx, c->entry);
	bool retired = !used(s, c);
	uint64_t next = retired ? cell_hand_over(w, ROW_RETIRED, CELL_OWNER_NONE)
				: cell_hand_over(w, ROW_LIVE, CELL_OWNER_NONE);

	/* seq_cst [U1]: fails when somebody took it back */
	if (!atomic_compare_exchange_strong_explicit(word, &w, next, memory_order_seq_cst,
						     memory_order_relaxed) ||
	    !retired) {
		reg__retire_drop(me, c->entry);
		return false;
	}
	(void)FAILPOINT("sweep.retired");
	reg__row_unindex(me->reg, c->kind, c->row);
	return true;
}

static uint32_t retire_all(struct sweep *s)
{
	struct reg_self *me = s->me;
	uint64_t number;

	keep_only(s, say_retiring);
	if (!s->n)
		return 0;
	(void)FAILPOINT("sweep.retiring");
	/* the exchanges that said RETIRING are the barrier: what was stored before another's look
	 * at such a word is seen by this mark */
	mark(s);
	keep_only(s, decide);
	number = reg__grace_start(me->reg);
	for (uint32_t i = 0; i < s->n; i++)
		reg__retire_time(me, s->at[i].entry, number);
	return s->n;
}

enum reg_status reg_sweep(struct reg_self *me, struct reg_sweep_result *ret)
{
	struct sweep s = {.me = me};
	enum reg_status st = REG_OK;
	uint32_t named;

	*ret = (struct reg_sweep_result){.reclaimed = reg__retire_drain(me)};
	gather(&s);
	if (s.wants_records) {
		mark(&s);
		keep_only(&s, is_unused);
	}
	for (named = 0; named < s.n && !st; named++)
		st = reg__retire_name(me, s.at[named].kind, s.at[named].row, &s.at[named].entry);
	if (st)
		named--;
	s.n = named;
	if (s.n)
		ret->retired = retire_all(&s);
	ret->backlog = reg_backlog(me->reg);
	return st;
}

/* ---- pools ---- */

static bool names_valid(const char *ns, const char *name)
{
	return ns && *ns && strlen(ns) <= REG_NAMESPACE_MAX && name && *name &&
	       strlen(name) <= REG_NAME_MAX;
}

enum reg_status reg_pool_upsert(struct reg_self *me, const char *ns, const char *name)
{
	struct reg_row row;

	if (!names_valid(ns, name))
		return REG_INVALID;
	do {
		enum reg_status st = reg__pool_intern(me, ns, name, &row);

		if (st)
			return st;
		/* seq_cst [U1]: before the look at its word */
		atomic_store_explicit(&reg__pool(me->reg, row.idx)->declared, 1,
				      memory_order_seq_cst);
	} while (!reg__row_stands(me->reg, CELLS_POOLS, row));
	return REG_OK;
}

enum reg_status reg_pool_remove(struct reg_self *me, const char *ns, const char *name)
{
	struct sweep s = {.me = me, .n = 1, .wants_records = true};
	struct candidate *c = &s.at[0];
	enum reg_status st;
	bool declared;

	if (!names_valid(ns, name))
		return REG_INVALID;
	c->kind = CELLS_POOLS;
	if (!reg__find_pool(me->reg, ns, name, &c->row))
		return REG_NO_POOL;
	mark(&s);
	if (test(me->pool_marks, c->row.idx))
		return REG_IN_USE;
	st = reg__retire_name(me, CELLS_POOLS, c->row, &c->entry);
	if (st)
		return st;
	/* seq_cst [U1]: a declaration that comes after this is seen by the second look */
	declared = atomic_exchange_explicit(&reg__pool(me->reg, c->row.idx)->declared, 0,
					    memory_order_seq_cst);
	if (retire_all(&s))
		return REG_OK;
	if (declared) /* relaxed: somebody uses it, so it is not looked at for this */
		atomic_store_explicit(&reg__pool(me->reg, c->row.idx)->declared, 1,
				      memory_order_relaxed);
	return REG_IN_USE;
}
