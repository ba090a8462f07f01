/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty set: a bit per record, level-triggered, so that it cannot overflow, coalesces by itself
 * and survives the death of either side. Writers set, crdsync takes; a second bitmap says what goes
 * first. No system call unless crdsync sleeps.
 */
#include "internal.h"

#include <time.h>

#include "base/clock.h"

static a64 *bits(const struct reg *reg, enum reg_region region)
{
	return (a64 *)reg__at(reg, region, 0);
}

/* The oldest unwritten change's time, to the clock's tick: a lag is a matter of milliseconds. */
uint64_t reg__coarse_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

void reg_dirty_kick(struct reg *reg)
{
	/* seq_cst [D3]: pairs with reg_dirty_wait */
	atomic_fetch_add_explicit(&reg->hdr->dirty_seq, 1, memory_order_seq_cst);
	reg__futex_wake(&reg->hdr->dirty_seq);
}

void reg__dirty_mark(struct reg *reg, uint32_t idx, struct reg_rec *rec, bool urgent)
{
	uint64_t bit = UINT64_C(1) << (idx % 64), none = 0;

	/* relaxed: a figure */
	if (!atomic_load_explicit(&rec->dirty_since_ns, memory_order_relaxed))
		(void)atomic_compare_exchange_strong_explicit(
			&rec->dirty_since_ns, &none, reg__coarse_ns(), memory_order_relaxed,
			memory_order_relaxed);
	if (urgent) {
		/* release [D4]: pairs with the taker's exchange; urgent before dirty, so that the
		 * taker of the bit sees both */
		atomic_fetch_or_explicit(&bits(reg, REGION_URGENT)[idx / 64], bit,
					 memory_order_release);
	}
	a64 *dirty = &bits(reg, REGION_DIRTY)[idx / 64];

	/* seq_cst [D3]: the bit before the look at the sleeper; release part: the change before its
	 * bit. A bit that is set after the exchange behind the change is cleared later, and its
	 * taker, an exchange as well, then reads the change. */
	if (!(atomic_load_explicit(dirty, memory_order_seq_cst) & bit))
		atomic_fetch_or_explicit(dirty, bit, memory_order_seq_cst);
	if (urgent) /* after the bit: whoever takes this away finds it */
		atomic_store_explicit(&reg->hdr->urgent_pending, 1,
				      memory_order_release); /* [D4] */
	uint32_t sleeping =
		atomic_load_explicit(&reg->hdr->dirty_sleeping, memory_order_seq_cst); /* [D3] */

	if (!sleeping)
		return;
	/* The kick first: who dies or stops before it leaves it to the next one. The mark names the
	 * sleep, so that a late one takes back no later mark. */
	reg_dirty_kick(reg);
	(void)atomic_compare_exchange_strong_explicit(&reg->hdr->dirty_sleeping, &sleeping, 0,
						      memory_order_seq_cst, memory_order_relaxed);
}

/* Takes bits of one word while there is room. Urgent ones are in the urgent map as well as in the
 * dirty one. */
static uint32_t take_word(struct reg_self *me, uint32_t w, uint64_t mask, reg_sandbox_id *ret,
			  uint32_t max)
{
	uint32_t n = 0;

	for (; mask && n < max; mask &= mask - 1) {
		uint64_t bit = mask & -mask;
		uint32_t idx = w * 64 + (uint32_t)__builtin_ctzll(mask);
		a64 *word = reg__cell(me->reg, CELLS_RECORDS, idx);

		struct reg_rec *rec = reg__rec(me->reg, idx);

		/* seq_cst [D3] [D4]: pairs with reg__dirty_mark; the change is visible to who took
		 * its bit, */
		if (!(atomic_fetch_and_explicit(&bits(me->reg, REGION_DIRTY)[w], ~bit,
						memory_order_seq_cst) &
		      bit))
			continue;
		/* seq_cst [D3]: also when the bit was somebody else's: pairs with reg__changed,
		 * which raises the revision before it finds the bit set */
		if (rec)
			(void)atomic_load_explicit(&rec->revision, memory_order_seq_cst);
		atomic_fetch_and_explicit(&bits(me->reg, REGION_URGENT)[w], ~bit,
					  memory_order_relaxed); /* hint of order */
		/* seq_cst [D3]: pairs with member_show, which changes the word before it finds the
		 * bit set; else reg_store_begin looks again */
		uint64_t v = word ? atomic_load_explicit(word, memory_order_seq_cst) : 0;

		if (!word_state(v) || word_state(v) == REG_CLAIMED)
			continue; /* gone before its turn; a teardown that leaves something marks
				     again */
		ret[n++] = (reg_sandbox_id){idx, word_gen(v)};
	}
	return n;
}

static uint32_t take_map(struct reg_self *me, bool urgent, reg_sandbox_id *ret, uint32_t max)
{
	uint32_t high = reg__cells_high(me->reg, CELLS_RECORDS), n = 0;

	for (uint32_t w = 0; w * 64 < high && n < max; w++) {
		/* relaxed: taken by the exchange */
		uint64_t mask =
			atomic_load_explicit(&bits(me->reg, REGION_DIRTY)[w], memory_order_relaxed);

		if (urgent)
			mask &= atomic_load_explicit(&bits(me->reg, REGION_URGENT)[w],
						     memory_order_relaxed);
		if (mask)
			n += take_word(me, w, mask, ret + n, max - n);
	}
	return n;
}

static bool any_marked(const struct reg *reg, enum reg_region region)
{
	uint32_t high = reg__cells_high(reg, CELLS_RECORDS);

	for (uint32_t w = 0; w * 64 < high; w++)
		/* seq_cst [D3]: after sleeping was announced */
		if (atomic_load_explicit(&bits(reg, region)[w], memory_order_seq_cst))
			return true;
	return false;
}

uint32_t reg_dirty_take(struct reg_self *me, reg_sandbox_id *ret, uint32_t max)
{
	uint32_t n = 0;

	/* acq_rel [D4]: pairs with reg__dirty_mark */
	if (atomic_exchange_explicit(&me->reg->hdr->urgent_pending, 0, memory_order_acq_rel)) {
		n = take_map(me, true, ret, max);
		if (n == max && any_marked(me->reg, REGION_URGENT))
			atomic_store_explicit(&me->reg->hdr->urgent_pending, 1,
					      memory_order_release); /* [D4] */
	}
	return n < max ? n + take_map(me, false, ret + n, max - n) : n;
}

void reg_dirty_again(struct reg_self *me, reg_sandbox_id sandbox)
{
	struct reg_rec *rec;
	a64 *word;
	uint64_t w;

	if (reg__rec_is(me->reg, sandbox, &rec, &word, &w))
		reg__dirty_mark(me->reg, sandbox.idx, rec, false);
}

uint32_t reg_dirty_rescan(struct reg_self *me)
{
	uint32_t high = reg__cells_high(me->reg, CELLS_RECORDS), n = 0;

	for (uint32_t i = 0; i < high; i++) {
		a64 *word = reg__cell(me->reg, CELLS_RECORDS, i);
		struct reg_rec *rec = reg__rec(me->reg, i);
		/* acquire [R1]: the record's state as published */
		uint64_t w = word && rec ? atomic_load_explicit(word, memory_order_acquire) : 0;

		if (!word_state(w) || word_state(w) == REG_CLAIMED)
			continue;
		/* relaxed: a mark too many is a write too many */
		if (word_state(w) == REG_GONE ||
		    atomic_load_explicit(&rec->stored, memory_order_relaxed) !=
			    atomic_load_explicit(&rec->revision, memory_order_relaxed)) {
			reg__dirty_mark(me->reg, i, rec, false);
			n++;
		}
	}
	return n;
}

void reg_dirty_wait(struct reg_self *me, uint64_t timeout_ns)
{
	struct reg_header *h = me->reg->hdr;
	/* seq_cst [D3]: pairs with reg__dirty_mark and reg_dirty_kick: announce, look, sleep */
	uint32_t seq = atomic_load_explicit(&h->dirty_seq, memory_order_seq_cst);

	atomic_store_explicit(&h->dirty_sleeping, seq << 1 | 1, memory_order_seq_cst);
	if (!any_marked(me->reg, REGION_DIRTY))
		(void)reg__futex_wait(&h->dirty_seq, seq, timeout_ns);
	atomic_store_explicit(&h->dirty_sleeping, 0, memory_order_seq_cst); /* [D3] */
}

enum reg_status reg_dirty_urgent(struct reg_self *me, reg_sandbox_id sandbox)
{
	struct reg_rec *rec;
	a64 *word;
	uint64_t w;

	if (!reg__rec_is(me->reg, sandbox, &rec, &word, &w))
		return REG_STALE;
	reg__dirty_mark(me->reg, sandbox.idx, rec, true);
	return REG_OK;
}

uint32_t reg_dirty_count(const struct reg *reg)
{
	uint32_t high = reg__cells_high(reg, CELLS_RECORDS), n = 0;

	for (uint32_t w = 0; w * 64 < high; w++)
		/* relaxed: a figure */
		n += (uint32_t)__builtin_popcountll(
			atomic_load_explicit(&bits(reg, REGION_DIRTY)[w], memory_order_relaxed));
	return n;
}

bool reg_dirty_urgent_waiting(const struct reg *reg)
{
	/* acquire [D4] */
	return atomic_load_explicit(&reg->hdr->urgent_pending, memory_order_acquire);
}

uint64_t reg_store_lag_ns(struct reg_self *me)
{
	uint32_t high = reg__cells_high(me->reg, CELLS_RECORDS);
	uint64_t oldest = UINT64_MAX, now;

	for (uint32_t i = 0; i < high; i++) {
		a64 *word = reg__cell(me->reg, CELLS_RECORDS, i);
		struct reg_rec *rec = reg__rec(me->reg, i);
		/* relaxed, both: a figure */
		uint64_t w = word && rec ? atomic_load_explicit(word, memory_order_relaxed) : 0;
		uint64_t since = word_state(w) ? atomic_load_explicit(&rec->dirty_since_ns,
								      memory_order_relaxed)
					       : 0;

		if (since && since < oldest && word_state(w) != REG_CLAIMED)
			oldest = since;
	}
	now = clock_mono_ns();
	return oldest == UINT64_MAX || oldest >= now ? 0 : now - oldest;
}

/*
 * The mark NONE → MAYBE comes before the write to the store, so whatever happens to crdsync, a
 * deletion after it leaves a GONE record, and one before it is found here as CLAIMED or as another
 * generation. A mark that hits the record's next generation only makes that one's deletion go
 * through GONE.
 */
enum reg_status reg_store_begin(struct reg_self *me, reg_sandbox_id sandbox,
				struct reg_sandbox_view *ret)
{
	uint64_t none = STORE_NONE, w;
	struct reg_rec *rec;
	a64 *word;

	if (!reg__rec_is(me->reg, sandbox, &rec, &word, &w))
		return REG_STALE;
	/* seq_cst [D1]: pairs with reg__undo: the mark, then the look */
	(void)atomic_compare_exchange_strong_explicit(&rec->store, &none, STORE_MAYBE,
						      memory_order_seq_cst, memory_order_seq_cst);
	w = atomic_load_explicit(word, memory_order_seq_cst);
	if (word_gen(w) != sandbox.gen || word_state(w) == REG_CLAIMED)
		return REG_STALE;
	return reg_view(me, sandbox, ret);
}

enum reg_status reg_stored(struct reg_self *me, reg_sandbox_id sandbox, uint64_t revision,
			   uint64_t lag_ns)
{
	struct reg_rec *rec;
	a64 *word;
	uint64_t w, stored, since;

	if (!reg__rec_is(me->reg, sandbox, &rec, &word, &w))
		return REG_STALE;
	/* relaxed: read before the revision, so that a change after it keeps its own time */
	since = atomic_load_explicit(&rec->dirty_since_ns, memory_order_relaxed);
	stored = atomic_load_explicit(&rec->stored,
				      memory_order_relaxed); /* checked again by the CAS */
	/* revisions grow over incarnations: a late call for an earlier one never says anything
	 * about the present one */
	while (stored < revision &&
	       /* release [D5]: pairs with the waiters' copy; the store has it before this says so
		*/
	       !atomic_compare_exchange_weak_explicit(&rec->stored, &stored, revision,
						      memory_order_release, memory_order_relaxed))
		;
	stored = stored < revision ? revision : stored;
	/* acquire [D2]: pairs with reg__changed */
	if (atomic_load_explicit(&rec->revision, memory_order_acquire) == stored)
		(void)atomic_compare_exchange_strong_explicit(&rec->dirty_since_ns, &since, 0,
							      memory_order_relaxed,
							      memory_order_relaxed); /* a figure */
	else
		atomic_store_explicit(&rec->dirty_since_ns, reg__coarse_ns(),
				      memory_order_relaxed); /* a figure */
	reg_hist_add(me, REG_HIST_STORE_LAG, lag_ns);
	reg__watchers_wake(me->reg, rec);
	return REG_OK;
}

enum reg_status reg_store_forgotten(struct reg_self *me, reg_sandbox_id sandbox)
{
	struct reg_rec *rec;
	a64 *word;
	uint64_t w;

	if (!reg__rec_is(me->reg, sandbox, &rec, &word, &w))
		return REG_STALE;
	if (word_state(w) != REG_GONE)
		return REG_BAD_STATE;
	/* seq_cst [R1] [D1] [B3]: ours now; who reaps us finds it CLAIMED and makes it GONE again
	 */
	if (!atomic_compare_exchange_strong_explicit(
		    word, &w, rec_move(w, REG_CLAIMED, me->idx, REC_DELETING), memory_order_seq_cst,
		    memory_order_relaxed))
		return REG_STALE;
	/* relaxed: ours */
	atomic_store_explicit(&rec->store, STORE_NONE, memory_order_relaxed);
	reg__undo(me, sandbox.idx);
	return REG_OK;
}
