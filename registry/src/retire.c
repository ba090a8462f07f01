/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The retire list: what administration has unpublished and what must not be used anew before a
 * grace period is over. An entry is named before anything is unpublished and freed after everything
 * is reclaimed, so a death in between leaves an entry that says what to go on with. The list is
 * short and fixed: when it is full, who would retire more is refused.
 */
#include "internal.h"

static struct reg_retire *entry_at(const struct reg *reg, uint32_t entry)
{
	return (struct reg_retire *)reg__at(reg, REGION_RETIRE,
					    (uint64_t)entry * sizeof(struct reg_retire));
}

static bool kind_valid(uint64_t what)
{
	unsigned int kind = retire_kind(what);

	return kind == CELLS_AGENTS || kind == CELLS_POOLS || kind == CELLS_IMAGES ||
	       kind == CELLS_COLD;
}

/* First drains what can be drained. REG_BACKLOG: somebody stands still, nothing was done. */
enum reg_status reg__retire_name(struct reg_self *me, enum reg_cells_kind kind, struct reg_row row,
				 uint32_t *ret_entry)
{
	uint64_t what = retire_make(kind, me->idx, row.idx, row.gen);

	for (int tries = 0; tries < 2; tries++) {
		for (uint32_t i = 0; i < REG_RETIRE_MAX; i++) {
			struct reg_retire *e = entry_at(me->reg, i);
			uint64_t empty = 0;

			/* relaxed: checked again by the CAS */
			if (atomic_load_explicit(&e->what, memory_order_relaxed))
				continue;
			/* acq_rel [T1]: pairs with entry_free; from here on the reaper finds it */
			if (atomic_compare_exchange_strong_explicit(&e->what, &empty, what,
								    memory_order_acq_rel,
								    memory_order_relaxed)) {
				(void)FAILPOINT("retire.named");
				*ret_entry = i;
				return REG_OK;
			}
		}
		if (!reg__retire_drain(me))
			break;
	}
	return REG_BACKLOG;
}

static void entry_free(struct reg_retire *e)
{
	/* relaxed: before the word that lets the next one in */
	atomic_store_explicit(&e->number, 0, memory_order_relaxed);
	/* release [T1]: pairs with reg__retire_name */
	atomic_store_explicit(&e->what, 0, memory_order_release);
}

void reg__retire_drop(struct reg_self *me, uint32_t entry)
{
	entry_free(entry_at(me->reg, entry));
}

/* Unpublished, and number was requested after that: whoever comes when it is over reclaims it. */
void reg__retire_time(struct reg_self *me, uint32_t entry, uint64_t number)
{
	struct reg_retire *e = entry_at(me->reg, entry);
	/* relaxed: ours */
	uint64_t what = atomic_load_explicit(&e->what, memory_order_relaxed);

	/* relaxed: before the word that shows it to others */
	atomic_store_explicit(&e->number, number, memory_order_relaxed);
	/* release [T1]: pairs with reg__retire_drain */
	atomic_store_explicit(&e->what, retire_with_owner(what, CELL_OWNER_NONE),
			      memory_order_release);
	reg__count(me, REG_COUNT_RETIRED);
	(void)FAILPOINT("retire.timed");
}

#define POISON UINT64_C(0xdbdbdbdbdbdbdbdb)

/* A reader that is still here is wrong: the torture test looks for this. */
static void poison(void *what, uint64_t bytes)
{
	uint64_t *words = what;

	for (uint64_t i = 0; i < bytes / 8; i++)
		__atomic_store_n(&words[i], POISON, __ATOMIC_RELEASE); /* release [R2] */
}

static void reclaim_pool(struct reg *reg, uint32_t idx)
{
	struct reg_pool *p = reg__pool(reg, idx);

	poison(p->ns, sizeof(p->ns));
	poison(p->name, sizeof(p->name));
}

/* Everything here can be repeated, as often as reclaimers die of it; freeing the cell ends it. */
static void reclaim(struct reg_self *me, enum reg_cells_kind kind, struct reg_row row,
		    uint32_t entry)
{
	struct reg *reg = me->reg;
	a64 *word = reg__cell(reg, kind, row.idx);
	/* acquire [C2]: what its last users left */
	uint64_t w = word ? atomic_load_explicit(word, memory_order_acquire) : 0;

	if (word_state(w) != ROW_RETIRED || word_gen(w) != row.gen || word_record(w) != entry ||
	    !reg__row_there(reg, kind, row.idx))
		return;
	switch (kind) {
	case CELLS_COLD:
		poison(reg__cold(reg, row.idx), sizeof(struct reg_agent_cold));
		break;
	case CELLS_POOLS:
		reclaim_pool(reg, row.idx);
		break;
	case CELLS_IMAGES:
		poison(reg__image(reg, row.idx)->ref, sizeof(struct reg_image));
		break;
	case CELLS_AGENTS:
		reg__agent_reclaim(me, row.idx);
		poison(reg__agent(reg, row.idx)->ns, sizeof(reg__agent(reg, row.idx)->ns));
		poison(reg__agent(reg, row.idx)->name, sizeof(reg__agent(reg, row.idx)->name));
		break;
	default:
		return;
	}
	(void)FAILPOINT("retire.poisoned");
	(void)reg__cell_free(reg, kind, row.idx, w);
}

uint32_t reg__retire_drain(struct reg_self *me)
{
	struct reg *reg = me->reg;
	uint64_t passed = reg__grace_passed(reg);
	uint32_t n = 0;

	for (uint32_t i = 0; i < REG_RETIRE_MAX; i++) {
		struct reg_retire *e = entry_at(reg, i);
		/* acquire [T1]: pairs with reg__retire_time; its number */
		uint64_t what = atomic_load_explicit(&e->what, memory_order_acquire);

		/* relaxed: checked by the CAS on what: the number belongs to that word */
		if (!kind_valid(what) || retire_owner(what) != CELL_OWNER_NONE ||
		    atomic_load_explicit(&e->number, memory_order_relaxed) > passed)
			continue;
		/* acq_rel [T1]: one reclaims it; should it die, its reaper lets others go on */
		if (!atomic_compare_exchange_strong_explicit(
			    &e->what, &what, retire_with_owner(what, me->idx), memory_order_acq_rel,
			    memory_order_relaxed))
			continue;
		(void)FAILPOINT("retire.claimed");
		reclaim(me, (enum reg_cells_kind)retire_kind(what),
			(struct reg_row){retire_idx(what), retire_gen(what)}, i);
		(void)FAILPOINT("retire.reclaimed");
		entry_free(e);
		n++;
	}
	reg__count_add(me, REG_COUNT_RECLAIMED, n);
	return n;
}

/* A cold record that its agent no longer names. */
static bool cold_is_out(struct reg *reg, struct reg_row row, a64 *word, uint64_t w, uint32_t entry)
{
	if (word_state(w) == ROW_RETIRED)
		return word_record(w) == entry;
	const struct reg_agent *a = reg__agent(reg, word_record(w));

	/* acquire [G2]: pairs with reg__cold_publish */
	if (a && atomic_load_explicit(&a->cold, memory_order_acquire) == row.idx + 1)
		return false;
	/* acq_rel [C2] */
	return atomic_compare_exchange_strong_explicit(
		word, &w, cell_mark(w, ROW_RETIRED, CELL_OWNER_NONE, entry), memory_order_acq_rel,
		memory_order_relaxed);
}

/* Where the dead one stood says the cell: unpublished or not. */
static bool is_out(struct reg *reg, enum reg_cells_kind kind, struct reg_row row, uint32_t entry)
{
	a64 *word = reg__cell(reg, kind, row.idx);
	/* acquire [C2] */
	uint64_t w = word ? atomic_load_explicit(word, memory_order_acquire) : 0;

	if (word_gen(w) != row.gen || word_state(w) < ROW_LIVE)
		return false;
	if (kind == CELLS_COLD)
		return cold_is_out(reg, row, word, w, entry);
	if (word_state(w) != ROW_RETIRED || word_record(w) != entry)
		return false;
	reg__row_unindex(reg, kind, row);
	return true;
}

void reg__retire_reap(struct reg_self *me, uint32_t dead)
{
	for (uint32_t i = 0; i < REG_RETIRE_MAX; i++) {
		struct reg_retire *e = entry_at(me->reg, i);
		/* acquire [T1] */
		uint64_t what = atomic_load_explicit(&e->what, memory_order_acquire);
		struct reg_row row = {retire_idx(what), retire_gen(what)};

		if (!kind_valid(what) || retire_owner(what) != dead)
			continue;
		if (dead != me->idx &&
		    !atomic_compare_exchange_strong_explicit(
			    &e->what, &what, retire_with_owner(what, me->idx), memory_order_acq_rel,
			    memory_order_relaxed)) /* [T1] */
			continue;
		if (is_out(me->reg, (enum reg_cells_kind)retire_kind(what), row, i))
			reg__retire_time(me, i, reg__grace_start(me->reg));
		else
			entry_free(e);
	}
}

uint32_t reg_backlog(const struct reg *reg)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < REG_RETIRE_MAX; i++)
		/* relaxed: a figure */
		n += !!atomic_load_explicit(&entry_at(reg, i)->what, memory_order_relaxed);
	return n;
}
