/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the dead leave behind. The reaper takes a dead participant's byte lock for itself: that is
 * the role and the proof of death in one, since a living one holds it. Everything is found by the
 * owner in the words; each step can be repeated by another reaper when this one dies, too, because
 * what it took over names it.
 */
#include "internal.h"

#include <fcntl.h>
#include <unistd.h>

struct reaping {
	struct reg_self *me;
	uint32_t dead;
	void (*fn)(void *arg, const struct reg_orphan *orphan);
	void *arg;
	struct reg_reap_result *res;
};

/* CAS owner → me, same state. False when it has changed: then it was not the dead one's any more.
 */
static bool take_over(struct reaping *r, a64 *word, uint64_t *w, enum reg_state state,
		      unsigned int flags)
{
	uint64_t next = rec_move(*w, state, r->me->idx, flags);

	/* seq_cst [R1] [D1] [B3]: what the dead one published; before the looks of reg__undo */
	if (!atomic_compare_exchange_strong_explicit(word, w, next, memory_order_seq_cst,
						     memory_order_relaxed))
		return false;
	*w = next;
	return true;
}

static void slot_take_over(struct reaping *r, const struct reg_lease *lease)
{
	a64 *word = reg__slot(r->me->reg, lease->agent.idx, lease->slot);
	/* relaxed: checked again by the CAS */
	uint64_t w = word ? atomic_load_explicit(word, memory_order_relaxed) : 0;

	if (word_state(w) == SLOT_RESERVED && word_gen(w) == lease->slot_gen &&
	    word_owner(w) == r->dead)
		(void)atomic_compare_exchange_strong_explicit(
			word, &w, cell_hand_over(w, SLOT_RESERVED, r->me->idx),
			memory_order_acq_rel, memory_order_relaxed); /* [S1] */
}

/* Perhaps sent to the agent: ours from here, the caller asks the agent. */
static void orphan(struct reaping *r, uint32_t idx, uint64_t w)
{
	struct reg_rec *rec = reg__rec(r->me->reg, idx);
	/* acquire [R3] */
	uint64_t place = atomic_load_explicit(&rec->place, memory_order_acquire);
	struct reg_orphan o = {
		.lease = {
			.sandbox = {idx, word_gen(w)},
			.agent = {place_agent(place),
				  reg__row_now(r->me->reg, CELLS_AGENTS, place_agent(place)).gen},
			.slot = place_slot(place),
			.slot_gen = place_gen(place),
		}};

	slot_take_over(r, &o.lease);
	r->res->orphans++;
	if (r->fn)
		r->fn(r->arg, &o);
}

/*
 * It died while it adopted: nobody's again, with the slot and the ports that it was given, or
 * without. Until the CAS nobody else moves the record, so the placement can be made whole before.
 */
static bool unadopt(struct reaping *r, uint32_t idx, a64 *word, uint64_t *w)
{
	struct reg *reg = r->me->reg;
	struct reg_rec *rec = reg__rec(reg, idx);
	/* acquire [R3] */
	uint64_t next, place = atomic_load_explicit(&rec->place, memory_order_acquire);

	if (rec_to_unadopted(*w, r->dead, &next))
		return false;
	if (reg__place_held(reg, place, idx)) /* reap_slot makes it BUSY */
		(void)reg__ports_claim(reg, place_agent(place), idx, word_gen(*w));
	else
		reg__unplace(r->me, idx, rec, word_gen(*w));
	/* acq_rel [R1] */
	if (!atomic_compare_exchange_strong_explicit(word, w, next, memory_order_acq_rel,
						     memory_order_relaxed))
		return false;
	*w = next;
	return true;
}

static void reap_record(struct reaping *r, uint32_t idx)
{
	struct reg *reg = r->me->reg;
	a64 *word = reg__cell(reg, CELLS_RECORDS, idx);
	struct reg_rec *rec = reg__rec(reg, idx);
	/* acquire [R1] */
	uint64_t w = word && rec ? atomic_load_explicit(word, memory_order_acquire) : 0;
	unsigned int state = word_state(w);

	/* a finisher that died between the transition and the slot: repeatable by anyone */
	if (state == REG_EXITED || state == REG_EXPIRED)
		reg__unplace(r->me, idx, rec, word_gen(w));
	while (word_owner(w) == r->dead) {
		switch (word_state(w)) {
		case REG_CLAIMED:
		case REG_RESERVED:
			if (!take_over(r, word, &w, REG_CLAIMED, REC_DELETING))
				continue; /* a delete was marked at this moment */
			(void)FAILPOINT("reap.record-taken");
			reg__undo(r->me, idx);
			r->res->released++;
			return;
		case REG_STARTING:
			if (r->dead == r->me->idx)
				return; /* leaving with work at an agent: reg_leave keeps us as LEFT
					 */
			if (!take_over(r, word, &w, REG_STARTING, rec_flags(w)))
				continue;
			orphan(r, idx, w);
			return;
		case REG_LOST:
		case REG_RESTORED:
			if (!unadopt(r, idx, word, &w))
				continue; /* an exit or a delete was marked */
			if (word_state(w) == REG_EXITED) {
				reg__unplace(r->me, idx, rec, word_gen(w));
				reg__changed(r->me, idx, rec);
			}
			return;
		default:
			return;
		}
	}
}

/* A slot that the dead one reserved: its record is gone or placed elsewhere → free; placed here and
 * handed over → BUSY. */
static void reap_slot(struct reaping *r, uint32_t agent, uint32_t slot)
{
	struct reg *reg = r->me->reg;
	a64 *word = reg__slot(reg, agent, slot);
	/* acquire [S1] */
	uint64_t w = word ? atomic_load_explicit(word, memory_order_acquire) : 0;

	if (word_state(w) != SLOT_RESERVED || word_owner(w) != r->dead)
		return;
	struct reg_rec *rec = reg__rec(reg, word_record(w));
	/* acquire [R3] */
	uint64_t place = rec ? atomic_load_explicit(&rec->place, memory_order_acquire) : 0;

	if (place == place_make(agent, slot, word_gen(w)))
		(void)atomic_compare_exchange_strong_explicit(
			word, &w, cell_hand_over(w, SLOT_BUSY, CELL_OWNER_NONE),
			memory_order_acq_rel, memory_order_relaxed); /* [S1] */
	else
		reg__slot_free(r->me, agent, slot, word_gen(w), word_record(w));
}

static bool referenced(const struct reg *reg, uint32_t record, uint64_t ref)
{
	const struct reg_rec *rec = reg__rec(reg, record);
	a64 *word = reg__cell(reg, CELLS_RECORDS, record);
	/* acquire [R1]: a reference that came too late, into a later generation, keeps nothing */
	uint64_t w = rec && word ? atomic_load_explicit(word, memory_order_acquire) : 0;

	/* acquire [B2] */
	return word_state(w) && reg__blob_is(reg, ref, word_gen(w)) &&
	       (atomic_load_explicit(&rec->spec, memory_order_acquire) == ref ||
		atomic_load_explicit(&rec->labels, memory_order_acquire) == ref ||
		atomic_load_explicit(&rec->message, memory_order_acquire) == ref);
}

static void reap_blobs(struct reaping *r)
{
	struct reg *reg = r->me->reg;

	for (unsigned int cls = 0; cls < REG_BLOB_CLASSES; cls++) {
		uint32_t high = reg__cells_high(reg, CELLS_BLOB0 + cls);

		for (uint32_t i = 0; i < high; i++) {
			a64 *word = reg__cell(reg, CELLS_BLOB0 + cls, i);
			/* acquire [C2] */
			uint64_t w = word ? atomic_load_explicit(word, memory_order_acquire) : 0;

			if (word_state(w) == BLOB_USED && word_owner(w) == r->dead &&
			    !referenced(reg, word_record(w), ref_make(cls, i, word_gen(w))))
				(void)reg__cell_free(reg, CELLS_BLOB0 + cls, i, w);
		}
	}
}

/* Somebody who lowered a hint may not have told the others. */
static void pools_void(struct reg *reg)
{
	uint32_t high = reg__cells_high(reg, CELLS_POOLS);

	for (uint32_t i = 0; i < high; i++)
		reg__pool_void(reg, i);
}

/* Where it made room, and what it changed, without having told the others. By [P1] before the index
 * is given away. */
static void reap_marks(struct reaping *r, struct reg_part *part)
{
	/* acquire: pairs with reg__changed */
	uint32_t changing = atomic_load_explicit(&part->changing, memory_order_acquire);
	/* acquire [F2] */
	uint32_t releasing = atomic_load_explicit(&part->releasing, memory_order_acquire);
	struct reg_pool *pool = releasing ? reg__pool(r->me->reg, releasing - 1) : NULL;
	struct reg_rec *rec = changing ? reg__rec(r->me->reg, changing - 1) : NULL;

	if (pool)
		reg__pool_full_clear(pool);
	if (rec && r->dead != r->me->idx) /* at worst a mark too many */
		reg__changed(r->me, changing - 1, rec);
	atomic_store_explicit(&part->releasing, 0, memory_order_release); /* [F2] */
	atomic_store_explicit(&part->changing, 0, memory_order_release);
	/* relaxed: a preference */
	atomic_store_explicit(&part->placing, 0, memory_order_relaxed);
	if (r->dead != r->me->idx)
		pools_void(r->me->reg);
}

/* A hint bit that hides a free cell, or the other way round. */
static uint32_t scrub_cells(struct reg *reg, enum reg_cells_kind kind)
{
	uint32_t mended = 0, high = reg__cells_high(reg, kind);

	for (uint32_t i = 0; i < high; i++) {
		a64 *hint = (a64 *)reg__at(reg, REGION_CELL_BITS + kind, (uint64_t)(i / 64) * 8);
		a64 *word = reg__cell(reg, kind, i);
		uint64_t bit = UINT64_C(1) << (i % 64);

		/* relaxed, all: hints; a bit cleared under a taker costs somebody one lost CAS */
		if (word && !word_state(atomic_load_explicit(word, memory_order_relaxed)) &&
		    atomic_load_explicit(hint, memory_order_relaxed) & bit) {
			atomic_fetch_and_explicit(hint, ~bit, memory_order_relaxed);
			mended++;
		}
	}
	return mended;
}

void reg__reap_holdings(struct reg_self *me, uint32_t idx,
			void (*fn)(void *arg, const struct reg_orphan *orphan), void *arg,
			struct reg_reap_result *res)
{
	struct reaping r = {.me = me, .dead = idx, .fn = fn, .arg = arg, .res = res};
	uint32_t high = reg__cells_high(me->reg, CELLS_RECORDS);

	for (uint32_t i = 0; i < high; i++)
		reap_record(&r, i);
	(void)FAILPOINT("reap.records-done");
	high = reg__cells_high(me->reg, CELLS_AGENTS);
	for (uint32_t a = 0; a < high; a++) {
		for (uint32_t s = 0; s < REG_SLOTS_PER_AGENT_MAX && reg__slot(me->reg, a, s); s++)
			reap_slot(&r, a, s);
		/* a mask bit without a slot, or a hint not yet written: who comes next is alone and
		 * wants the right loads */
		if (idx != me->idx && reg__agent(me->reg, a))
			(void)reg__agent_heal(me->reg, a);
	}
	(void)FAILPOINT("reap.slots-done");
	reg__gangs_reap(me->reg, idx);
	reap_blobs(&r);
	reg__retire_reap(me, idx);
	reg__rows_reap(me, idx);
	/* its magazines; a living one loses the exclusive nomination of its units, nothing else */
	if (idx != me->idx) {
		for (int k = 0; k < CELLS_MAX; k++)
			(void)scrub_cells(me->reg, k);
	}
	reap_marks(&r, reg__part(me->reg, idx));
}

/* Not by F_GETLK alone: that a process is ourselves it cannot say. */
static bool maybe_dead(const struct reg *reg, uint32_t idx, uint64_t w)
{
	if (reg__part_own(reg, idx) || BITS_GET(w, 0, 8) == PART_FREE)
		return false;
	if (BITS_GET(w, 0, 8) == PART_LEFT)
		return true;
	return !reg__byte_locked(reg, REG_LOCK_PART(idx));
}

enum reg_status reg_reap(struct reg_self *me,
			 void (*fn)(void *arg, const struct reg_orphan *orphan), void *arg,
			 struct reg_reap_result *ret)
{
	*ret = (struct reg_reap_result){0};
	pthread_mutex_lock(&me->reg->roles); /* of the threads of this process, one reaps */
	for (uint32_t i = 0; i < REG_PARTICIPANTS_MAX; i++) {
		struct reg_part *part = reg__part(me->reg, i);
		/* acquire [P1]: pairs with reg_leave */
		uint64_t w = part ? atomic_load_explicit(&part->word, memory_order_acquire) : 0;

		if (!part || !maybe_dead(me->reg, i, w))
			continue;
		if (reg__lock_byte(me->reg, REG_LOCK_PART(i), F_WRLCK))
			continue; /* alive after all, or another reaper has the role */
		/* acquire [P1]: once more, now that nobody else can */
		if (atomic_load_explicit(&part->word, memory_order_acquire) == w) {
			(void)FAILPOINT("reap.role-taken");
			reg__reap_holdings(me, i, fn, arg, ret);
			/* release [P1]: pairs with join_at; its holdings are taken back before the
			 * index is given away */
			(void)atomic_compare_exchange_strong_explicit(
				&part->word, &w, part_word(PART_FREE, 0, (uint32_t)(w >> 32)),
				memory_order_release, memory_order_relaxed);
			reg__homes_move(me->reg);
			ret->participants++;
		}
		(void)reg__lock_byte(me->reg, REG_LOCK_PART(i), F_UNLCK);
	}
	pthread_mutex_unlock(&me->reg->roles);
	reg__count_add(me, REG_COUNT_REAPED, ret->participants);
	reg__count_add(me, REG_COUNT_REAP_RELEASED, ret->released);
	reg__count_add(me, REG_COUNT_REAP_ORPHAN, ret->orphans);
	return REG_OK;
}

uint32_t reg_scrub(struct reg_self *me)
{
	uint32_t mended = 0, high = reg__cells_high(me->reg, CELLS_AGENTS);

	for (uint32_t a = 0; a < high; a++)
		if (reg__agent(me->reg, a))
			mended += reg__agent_heal(me->reg, a);
	pools_void(me->reg);
	mended += reg__ports_scrub(me->reg);
	/* not what is kept in magazines: bits of free units are right there, and the dead's are
	 * mended when they are reaped */
	for (int k = CELLS_CHUNKS; k < CELLS_BLOB0; k++)
		mended += scrub_cells(me->reg, k);
	high = reg__cells_high(me->reg, CELLS_RECORDS);
	for (uint32_t i = 0; i < high; i++) {
		a64 *word = reg__cell(me->reg, CELLS_RECORDS, i);
		struct reg_rec *rec = reg__rec(me->reg, i);
		/* acquire [R1] */
		uint64_t w = word && rec ? atomic_load_explicit(word, memory_order_acquire) : 0;

		if (word_state(w) == REG_EXITED || word_state(w) == REG_EXPIRED)
			reg__unplace(me, i, rec, word_gen(w));
	}
	reg__count_add(me, REG_COUNT_SCRUBBED, mended);
	return mended;
}
