/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The allocator of everything type-stable: a word per unit that decides, a hint bit per unit that
 * nominates. A taker sets the hint bit to keep others away, then CASes the word FREE → in use; who
 * loses the CAS leaves the bit set and goes on. Wrong bits (a death between the two) are mended by
 * the pass over the words before "full", and by reg_scrub. Lock free.
 */
#include "internal.h"

static a64 *hint_word(const struct reg *reg, enum reg_cells_kind kind, uint32_t word)
{
	return (a64 *)reg__at(reg, REGION_CELL_BITS + kind, (uint64_t)word * 8);
}

/* Where the unit itself lives, so that its memory is there before anybody holds it. */
static void unit_span(const struct reg *reg, enum reg_cells_kind kind, uint32_t idx,
		      uint64_t *ret_off, uint64_t *ret_len)
{
	static const struct {
		int region;
		uint32_t bytes;
	} unit[CELLS_MAX] = {
		[CELLS_RECORDS] = {REGION_RECORDS, sizeof(struct reg_rec)},
		[CELLS_CHUNKS] = {REGION_CHUNK_SLOTS, REG_CHUNK_SLOTS * 8},
		[CELLS_AGENTS] = {REGION_AGENTS, sizeof(struct reg_agent)},
		[CELLS_POOLS] = {REGION_POOLS, sizeof(struct reg_pool)},
		[CELLS_IMAGES] = {REGION_IMAGES, sizeof(struct reg_image)},
		[CELLS_COLD] = {REGION_COLD, sizeof(struct reg_agent_cold)},
		[CELLS_BLOB0] = {REGION_BLOB, 640},
		[CELLS_BLOB1] = {REGION_BLOB + 1, 2176},
		[CELLS_BLOB2] = {REGION_BLOB + 2, 8320},
		[CELLS_BLOB3] = {REGION_BLOB + 3, 66624},
	};

	*ret_off = reg->span[unit[kind].region].off + (uint64_t)idx * unit[kind].bytes;
	*ret_len = unit[kind].bytes;
}

static void high_raise(struct reg *reg, enum reg_cells_kind kind, uint32_t idx)
{
	a32 *high = &reg->hdr->high[kind];
	/* relaxed: only grows; scans read it with acquire [C1] */
	uint32_t now = atomic_load_explicit(high, memory_order_relaxed);

	while (now <= idx)
		/* release [C1]: pairs with reg__cells_high; raised before the cell's word is taken,
		 * so no scan misses a holder */
		if (atomic_compare_exchange_weak_explicit(high, &now, idx + 1, memory_order_release,
							  memory_order_relaxed))
			return;
}

uint32_t reg__cells_high(const struct reg *reg, enum reg_cells_kind kind)
{
	/* acquire [C1]: pairs with high_raise */
	uint32_t high = atomic_load_explicit(&reg->hdr->high[kind], memory_order_acquire);

	return high < reg->max[kind] ? high : reg->max[kind];
}

/* FREE → in use, by the word alone; its memory is there. */
static bool take_unit(struct reg_self *me, enum reg_cells_kind kind, uint32_t idx,
		      unsigned int state, uint32_t record, uint64_t *ret_word)
{
	a64 *word = reg__cell(me->reg, kind, idx);
	/* relaxed: checked again by the CAS */
	uint64_t w = word ? atomic_load_explicit(word, memory_order_relaxed) : 1;
	uint64_t next = cell_take(w, state, me->idx, record);

	/* acq_rel [C2]: pairs with free_exactly and reg__cell_drop; what the last holder did to
	 * the unit comes before what we do */
	if (word_state(w) || !atomic_compare_exchange_strong_explicit(
				     word, &w, next, memory_order_acq_rel, memory_order_relaxed))
		return false;
	*ret_word = next;
	return true;
}

/* One attempt at one unit. REG_OK, REG_STALE (somebody has it), REG_NO_SPACE, REG_IO. */
static enum reg_status try_unit(struct reg_self *me, enum reg_cells_kind kind, uint32_t idx,
				unsigned int state, uint32_t record, uint64_t *ret_word)
{
	struct reg *reg = me->reg;
	uint64_t off, len;
	enum reg_status st;

	st = reg__ensure(reg, reg->span[REGION_CELL_WORDS + kind].off + (uint64_t)idx * 8, 8);
	if (st)
		return st;
	unit_span(reg, kind, idx, &off, &len);
	st = reg__ensure(reg, off, len);
	if (st)
		return st;
	high_raise(reg, kind, idx);
	return take_unit(me, kind, idx, state, record, ret_word) ? REG_OK : REG_STALE;
}

/* The free bits of one hint word. REG_STALE: none. */
static enum reg_status take_in_word(struct reg_self *me, enum reg_cells_kind kind, uint32_t w,
				    unsigned int state, uint32_t record, uint32_t *ret_idx,
				    uint64_t *ret_word)
{
	a64 *hint = hint_word(me->reg, kind, w);
	/* relaxed: a hint */
	uint64_t used = atomic_load_explicit(hint, memory_order_relaxed);

	while (~used) {
		unsigned int bit = (unsigned int)__builtin_ctzll(~used);
		uint32_t idx = w * 64 + bit;

		if (idx >= me->reg->max[kind])
			break;
		/* relaxed: a hint; the CAS on the word decides */
		used = atomic_fetch_or_explicit(hint, UINT64_C(1) << bit, memory_order_relaxed);
		if (used >> bit & 1)
			continue;
		used |= UINT64_C(1) << bit;
		enum reg_status st = try_unit(me, kind, idx, state, record, ret_word);

		if (st == REG_STALE)
			continue;
		if (st) /* no memory: the unit is free for a later try; relaxed: a hint */
			atomic_fetch_and_explicit(hint, ~(UINT64_C(1) << bit),
						  memory_order_relaxed);
		me->cursor[kind] = w;
		*ret_idx = idx;
		return st;
	}
	return REG_STALE;
}

/*
 * By the hint bits: round what was ever in use, from where the last search ended, so that memory is
 * reused before more is touched; then on into fresh words, a cache line of hints at a time, so that
 * two growing participants part.
 */
static enum reg_status take_by_hint(struct reg_self *me, enum reg_cells_kind kind,
				    unsigned int state, uint32_t record, uint32_t *ret_idx,
				    uint64_t *ret_word)
{
	uint32_t total = (me->reg->max[kind] + 63) / 64;
	uint32_t known = (reg__cells_high(me->reg, kind) + 63) / 64, w = me->cursor[kind];

	w = w < known ? w : 0;
	for (uint32_t n = 0; n < known; n++, w = w + 1 == known ? 0 : w + 1) {
		enum reg_status st = take_in_word(me, kind, w, state, record, ret_idx, ret_word);

		if (st != REG_STALE)
			return st;
	}
	/* rows of administration stay dense: a stripe of agents is a word */
	for (w = kind >= CELLS_CHUNKS && kind <= CELLS_IMAGES ? known : (known + 7) / 8 * 8;
	     w < total; w++) {
		enum reg_status st = take_in_word(me, kind, w, state, record, ret_idx, ret_word);

		if (st != REG_STALE)
			return st;
	}
	return REG_STALE;
}

/* Exactly that unit. REG_STALE: somebody has it. */
enum reg_status reg__cell_take_at(struct reg_self *me, enum reg_cells_kind kind, uint32_t idx,
				  unsigned int state, uint32_t record, uint64_t *ret_word)
{
	enum reg_status st = try_unit(me, kind, idx, state, record, ret_word);

	if (!st)
		/* relaxed: a hint */
		atomic_fetch_or_explicit(hint_word(me->reg, kind, idx / 64),
					 UINT64_C(1) << (idx % 64), memory_order_relaxed);
	return st;
}

/* The file system is full: what was in use once has its memory already. */
static enum reg_status take_allocated(struct reg_self *me, enum reg_cells_kind kind,
				      unsigned int state, uint32_t record, uint32_t *ret_idx,
				      uint64_t *ret_word)
{
	uint32_t high = reg__cells_high(me->reg, kind);
	uint64_t off, len;

	for (uint32_t idx = 0; idx < high; idx++) {
		a64 *word = reg__cell(me->reg, kind, idx);

		unit_span(me->reg, kind, idx, &off, &len);
		/* relaxed: checked again by the CAS */
		if (!word || word_state(atomic_load_explicit(word, memory_order_relaxed)) ||
		    !reg__ensured(me->reg, off, len) ||
		    try_unit(me, kind, idx, state, record, ret_word))
			continue;
		/* relaxed: a hint */
		atomic_fetch_or_explicit(hint_word(me->reg, kind, idx / 64),
					 UINT64_C(1) << (idx % 64), memory_order_relaxed);
		*ret_idx = idx;
		return REG_OK;
	}
	return REG_NO_SPACE;
}

/* The authoritative pass: over every word that was ever in use. */
static enum reg_status take_by_word(struct reg_self *me, enum reg_cells_kind kind,
				    unsigned int state, uint32_t record, uint32_t *ret_idx,
				    uint64_t *ret_word)
{
	for (uint32_t idx = 0; idx < me->reg->max[kind]; idx++) {
		a64 *word = reg__cell(me->reg, kind, idx);

		/* relaxed: checked again by the CAS */
		if (word && word_state(atomic_load_explicit(word, memory_order_relaxed)))
			continue;
		enum reg_status st = try_unit(me, kind, idx, state, record, ret_word);

		if (st == REG_STALE)
			continue;
		if (!st) {
			/* relaxed: a hint */
			atomic_fetch_or_explicit(hint_word(me->reg, kind, idx / 64),
						 UINT64_C(1) << (idx % 64), memory_order_relaxed);
			*ret_idx = idx;
		}
		return st;
	}
	return REG_STALE;
}

uint32_t reg__cell_next(const struct reg_self *me, enum reg_cells_kind kind)
{
	const struct reg_magazine *mag = &me->magazine[kind];

	return mag->n ? mag->idx[mag->n - 1] : REG_NIL;
}

enum reg_status reg__cell_take(struct reg_self *me, enum reg_cells_kind kind, unsigned int state,
			       uint32_t record, enum reg_status full, uint32_t *ret_idx,
			       uint64_t *ret_word)
{
	struct reg_magazine *mag = &me->magazine[kind];
	enum reg_status st;

	while (mag->n) {
		*ret_idx = mag->idx[--mag->n];
		if (take_unit(me, kind, *ret_idx, state, record, ret_word))
			return REG_OK;
	}
	if (kind == CELLS_RECORDS || kind >= CELLS_BLOB0) /* those that have a magazine */
		reg__count(me, REG_COUNT_MAGAZINE_MISS);
	st = take_by_hint(me, kind, state, record, ret_idx, ret_word);
	if (st == REG_STALE)
		st = take_by_word(me, kind, state, record, ret_idx, ret_word);
	if (st == REG_NO_SPACE)
		st = take_allocated(me, kind, state, record, ret_idx, ret_word);
	return st == REG_STALE ? full : st;
}

static bool free_exactly(const struct reg *reg, enum reg_cells_kind kind, uint32_t idx,
			 uint64_t word)
{
	a64 *cell = reg__cell(reg, kind, idx);

	/* acq_rel [C2]: pairs with take_unit; our use of the unit before the next holder's */
	return cell &&
	       atomic_compare_exchange_strong_explicit(cell, &word, cell_free(word),
						       memory_order_acq_rel, memory_order_relaxed);
}

static void hint_clear(const struct reg *reg, enum reg_cells_kind kind, uint32_t idx)
{
	/* relaxed: a hint. If we die before it the bit stays set: hidden until the reaper, the pass
	 * over the words or a scrub. */
	atomic_fetch_and_explicit(hint_word(reg, kind, idx / 64), ~(UINT64_C(1) << (idx % 64)),
				  memory_order_relaxed);
}

bool reg__cell_free(struct reg *reg, enum reg_cells_kind kind, uint32_t idx, uint64_t word)
{
	if (!free_exactly(reg, kind, idx, word))
		return false;
	hint_clear(reg, kind, idx);
	return true;
}

/* A unit whose word has just become FREE by our hand. */
static void keep_or_offer(struct reg_self *me, enum reg_cells_kind kind, uint32_t idx)
{
	struct reg_magazine *mag = &me->magazine[kind];

	if (mag->n < REG_MAGAZINE)
		mag->idx[mag->n++] = idx;
	else
		hint_clear(me->reg, kind, idx);
}

bool reg__cell_keep(struct reg_self *me, enum reg_cells_kind kind, uint32_t idx, uint64_t word)
{
	if (!free_exactly(me->reg, kind, idx, word))
		return false;
	keep_or_offer(me, kind, idx);
	return true;
}

void reg__cell_drop(struct reg_self *me, enum reg_cells_kind kind, uint32_t idx, uint64_t word)
{
	/* release [C2]: as in free_exactly; a store, since nobody else changes this word */
	atomic_store_explicit(reg__cell_held(me->reg, kind, idx), cell_free(word),
			      memory_order_release);
	keep_or_offer(me, kind, idx);
}

/* A bit cleared under somebody who took the unit meanwhile costs a taker one lost CAS. */
void reg__cells_offer(struct reg_self *me)
{
	for (int k = 0; k < CELLS_MAX; k++) {
		struct reg_magazine *mag = &me->magazine[k];

		while (mag->n)
			hint_clear(me->reg, (enum reg_cells_kind)k, mag->idx[--mag->n]);
	}
}
