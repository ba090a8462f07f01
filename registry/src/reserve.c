/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reservation: record, request id, name, slot, ports, in this order, each naming its owner; then
 * the record word CLAIMED → RESERVED, which is where the whole operation linearises. Undone in
 * reverse. Dying anywhere before that word: the record is CLAIMED by the dead one and the reaper
 * takes everything back. Lock free, no system call once the memory is allocated.
 */
#include "internal.h"

#include <string.h>

/* Its length; false: too short or too long. */
static inline bool fits(const char *text, uint32_t min, uint32_t max, uint32_t *ret_len)
{
	*ret_len = reg__text_len(text, max);
	return *ret_len <= max && *ret_len >= min;
}

static bool ports_valid(const struct reg_request *req)
{
	for (uint32_t i = 0; i < req->port_count; i++) {
		if (!req->ports[i])
			return false;
		for (uint32_t j = 0; j < i; j++)
			if (req->ports[i] == req->ports[j])
				return false;
	}
	return true;
}

enum reg_status reg__request_check(const struct reg_request *req, struct reg_want *ret)
{
	ret->req = req;
	ret->request_id_len = 0;
	if (!req->ns || !req->name || !req->id || !req->pool || !req->image || !*req->ns ||
	    !*req->name || !*req->id)
		return REG_INVALID;
	if (!fits(req->ns, 1, REG_NAMESPACE_MAX, &ret->ns_len) ||
	    !fits(req->name, 1, REG_NAME_MAX, &ret->name_len) ||
	    !fits(req->id, 1, REG_ID_MAX, &ret->id_len) ||
	    !fits(req->image, 0, REG_IMAGE_MAX, &ret->image_len) ||
	    !fits(req->pool, 0, REG_NAME_MAX, &ret->pool_len) ||
	    (req->request_id &&
	     !fits(req->request_id, 0, REG_REQUEST_ID_MAX, &ret->request_id_len)) ||
	    req->spec_len > REG_SPEC_MAX || req->labels_len > REG_LABELS_MAX)
		return REG_TOO_LARGE;
	if (req->port_count > REG_PORTS_MAX || !ports_valid(req) || req->expire_unix_s < 0 ||
	    req->expire_unix_s > TAGGED_MAX || req->recovery_timeout_s < 0 ||
	    (req->spec_len && !req->spec))
		return REG_INVALID;
	return REG_OK;
}

/* Somebody else has the request id: the first result, or that the same id means something else. */
static enum reg_status request_seen(struct reg *reg, const struct reg_request *req,
				    const struct reg_hit *other)
{
	const struct reg_rec *rec = reg__rec(reg, other->cell);
	a64 *word = reg__cell(reg, CELLS_RECORDS, other->cell);
	bool same = !rec || __atomic_load_n(&rec->request_hash, __ATOMIC_ACQUIRE) ==
				    req->request_hash; /* [R2] */

	/* acquire [R1]: the hash was read from this generation; of one that is gone it says nothing
	 */
	if (!same && word && other->gen &&
	    word_gen(atomic_load_explicit(word, memory_order_acquire)) == other->gen)
		return REG_REQUEST_MISMATCH;
	return REG_REQUEST_SEEN;
}

static enum reg_status name_taken(struct reg *reg, const struct reg_hit *other)
{
	a64 *word = reg__cell(reg, CELLS_RECORDS, other->cell);
	/* acquire [R1]: why it is in the way */
	uint64_t w = word ? atomic_load_explicit(word, memory_order_acquire) : 0;

	if (word_gen(w) == other->gen &&
	    (word_state(w) == REG_STOPPING ||
	     (word_state(w) == REG_CLAIMED && rec_flags(w) & REC_DELETING)))
		return REG_NAME_TERMINATING;
	return REG_NAME_EXISTS;
}

enum reg_status reg__request_claim(struct reg *reg, const struct reg_want *want,
				   struct reg_lease *ret)
{
	struct reg_key key = {
		.hash = want->request_hash, .a = want->req->ns, .b = want->req->request_id};
	struct reg_hit other = {0};
	enum reg_status st;

	if (!want->request_id_len)
		return REG_OK;
	st = reg__index_insert(reg, INDEX_REQUESTS, &key, ret->sandbox.idx, ret->sandbox.gen,
			       &other);
	if (st == REG_NAME_EXISTS) {
		ret->sandbox = (reg_sandbox_id){other.cell, other.gen};
		return request_seen(reg, want->req, &other);
	}
	if (!st)
		(void)FAILPOINT("reserve.request-claimed");
	return st;
}

enum reg_status reg__name_claim(struct reg *reg, const struct reg_want *want, struct reg_lease *ret)
{
	struct reg_key key = {.hash = want->name_hash, .a = want->req->ns, .b = want->req->name};
	struct reg_hit other = {0};
	enum reg_status st = reg__index_insert(reg, INDEX_NAMES, &key, ret->sandbox.idx,
					       ret->sandbox.gen, &other);

	if (st == REG_NAME_EXISTS) {
		ret->sandbox = (reg_sandbox_id){other.cell, other.gen};
		return name_taken(reg, &other);
	}
	if (!st)
		(void)FAILPOINT("reserve.name-claimed");
	return st;
}

void reg__refused(struct reg_self *me, uint32_t pool, enum reg_status st)
{
	struct reg_pool *row = reg__pool(me->reg, pool);

	reg__count_refused(me, st);
	if (row && (st == REG_NO_CAPACITY || st == REG_PORT_CONFLICT))
		/* relaxed: a statistic */
		atomic_fetch_add_explicit(&row->unmet, 1, memory_order_relaxed);
}

enum reg_status reg__place_single(struct reg_self *me, uint32_t pool, uint32_t image,
				  struct reg_lease *ret)
{
	uint64_t gang = reg__gang_look(me, pool);
	enum reg_status st = reg__place(me, pool, image, ret->sandbox.idx, ret);

	if (st == REG_NO_CAPACITY || st == REG_PORT_CONFLICT)
		st = reg__place_admitted(me, pool, image, gang, st, ret);
	return st;
}

/* The rows under whose numbers it was placed are the rows of these names still; a sweep that comes
 * later finds the record. */
bool reg__rows_stand(const struct reg *reg, struct reg_row pool, struct reg_row image)
{
	return reg__row_stands(reg, CELLS_POOLS, pool) &&
	       (image.idx == REG_NIL || reg__row_stands(reg, CELLS_IMAGES, image));
}

/* Everything but the publication: the record stays CLAIMED by me, invisible. REG_CONFLICT: a row
 * was swept meanwhile, once more. */
static enum reg_status reserve_try(struct reg_self *me, const struct reg_request *req,
				   struct reg_lease *ret)
{
	struct reg *reg = me->reg;
	struct reg_lease lease = {.agent = {REG_NIL}};
	struct reg_row pool, image = {REG_NIL, 0};
	uint32_t idx;
	struct reg_want want;
	enum reg_status st;

	reg__rec_prefetch(me, req, reg__cell_next(me, CELLS_RECORDS));
	st = reg__request_check(req, &want);
	if (!st && !reg__pool_of(me, req->ns, want.ns_len, req->pool, want.pool_len, &pool))
		st = REG_NO_POOL;
	if (st) {
		reg__count_refused(me, st);
		return st;
	}
	reg__want_keys(&want);
	reg__index_prefetch(reg, INDEX_NAMES, want.name_hash);
	if (want.request_id_len)
		reg__index_prefetch(reg, INDEX_REQUESTS, want.request_hash);
	if (!reg__image_of(me, req->image, want.image_len, &image))
		image.idx = REG_NIL;
	st = reg__rec_new(me, &want, pool.idx, 1, &lease.sandbox);
	if (st) {
		reg__count_refused(me, st);
		return st;
	}
	idx = lease.sandbox.idx;
	/* in this order: a repeat of the same request is told so, and not that its name exists */
	st = reg__request_claim(reg, &want, &lease);
	if (!st)
		st = reg__name_claim(reg, &want, &lease);
#ifdef REG_BROKEN_PUBLISH_FIRST /* what the linearisability test has to find: seen without a slot  \
				 */
	if (!st)
		atomic_store_explicit(
			reg__cell(reg, CELLS_RECORDS, idx),
			BITS_PUT(REG_RESERVED, CELL_STATE_SHIFT, CELL_STATE_WIDTH) |
				BITS_PUT(lease.sandbox.gen, CELL_GEN_SHIFT, GEN_WIDTH) |
				BITS_PUT(me->idx, CELL_OWNER_SHIFT, CELL_OWNER_WIDTH),
			memory_order_release);
#endif
	if (!st)
		st = reg__place_single(me, pool.idx, image.idx, &lease);
	if (!st && !reg__rows_stand(reg, pool, image))
		st = REG_CONFLICT;
	if (st) {
		reg__undo(me, idx);
		if (st != REG_CONFLICT)
			reg__refused(me, pool.idx, st);
		if (st == REG_REQUEST_SEEN || st == REG_REQUEST_MISMATCH || st == REG_NAME_EXISTS ||
		    st == REG_NAME_TERMINATING)
			*ret = lease;
		return st;
	}
	*ret = lease;
	return REG_OK;
}

enum reg_status reg__reserve_hidden(struct reg_self *me, const struct reg_request *req,
				    struct reg_lease *ret)
{
	enum reg_status st;

	do
		st = reserve_try(me, req, ret);
	while (st == REG_CONFLICT);
	return st;
}

void reg__publish(struct reg_self *me, const struct reg_lease *lease)
{
	struct reg *reg = me->reg;
	struct reg_rec *rec = reg__rec_held(reg, lease->sandbox.idx);
	a64 *word = reg__cell_held(reg, CELLS_RECORDS, lease->sandbox.idx);
	/* relaxed: ours until it is published */
	uint64_t w = atomic_load_explicit(word, memory_order_relaxed);

	/* release [R1]: the linearisation point; pairs with every reader of the word */
	atomic_store_explicit(word, rec_move(w, REG_RESERVED, me->idx, 0), memory_order_release);
	(void)FAILPOINT("reserve.published");
	reg__changed(me, lease->sandbox.idx, rec);
	reg__count(me, REG_COUNT_RESERVED);
}

enum reg_status reg_reserve(struct reg_self *me, const struct reg_request *req,
			    struct reg_lease *ret)
{
	enum reg_status st = reg__reserve_hidden(me, req, ret);

	if (!st)
		reg__publish(me, ret);
	return st;
}

static bool lease_is(struct reg_self *me, const struct reg_lease *lease, struct reg_rec **ret_rec,
		     a64 **ret_word, uint64_t *ret_value)
{
	return reg__rec_is(me->reg, lease->sandbox, ret_rec, ret_word, ret_value);
}

enum reg_status reg_starting(struct reg_self *me, const struct reg_lease *lease)
{
	struct reg_rec *rec;
	a64 *word;
	uint64_t w, next;
	enum reg_status st;

	if (!lease_is(me, lease, &rec, &word, &w))
		return REG_STALE;
	do {
		st = word_gen(w) == lease->sandbox.gen ? rec_to_starting(w, me->idx, &next)
						       : REG_STALE;
		if (st)
			return st;
		/* acq_rel [R1]: from here a death means "ask the agent" */
	} while (!atomic_compare_exchange_weak_explicit(word, &w, next, memory_order_acq_rel,
							memory_order_acquire));
	(void)FAILPOINT("starting.done");
	reg__changed(me, lease->sandbox.idx, rec);
	return REG_OK;
}

/* The slot is no longer in anybody's hands: RESERVED by an owner → BUSY. Repeatable. */
static void slot_busy(struct reg *reg, const struct reg_lease *lease)
{
	a64 *word = reg__slot(reg, lease->agent.idx, lease->slot);
	/* relaxed: checked again by the CAS */
	uint64_t w = word ? atomic_load_explicit(word, memory_order_relaxed) : 0;

	if (word_state(w) == SLOT_RESERVED && word_gen(w) == lease->slot_gen &&
	    word_record(w) == lease->sandbox.idx)
		/* release [S1]: pairs with the reaper's pass */
		(void)atomic_compare_exchange_strong_explicit(
			word, &w, cell_hand_over(w, SLOT_BUSY, CELL_OWNER_NONE),
			memory_order_release, memory_order_relaxed);
}

/* Slot first, record second: who dies in between leaves a STARTING record of its own, which is
 * asked for and committed again. */
enum reg_status reg_commit(struct reg_self *me, const struct reg_lease *lease,
			   const struct reg_started *started)
{
	struct reg_rec *rec;
	a64 *word;
	uint64_t w, next;
	enum reg_status st;

	if (!lease_is(me, lease, &rec, &word, &w))
		return REG_STALE;
	st = rec_to_committed(w, me->idx, &next);
	if (st && st != REG_DELETING)
		return st;
	if (started) {
		/* relaxed: published by the record word */
		atomic_store_explicit(&rec->started_unix_ns, (uint64_t)started->started_unix_ns,
				      memory_order_relaxed);
		reg_hist_add(me, REG_HIST_START, started->start_ns);
	}
	reg__changing(me, lease->sandbox.idx);
	slot_busy(me->reg, lease);
	(void)FAILPOINT("commit.slot-busy");
	do {
		st = word_gen(w) == lease->sandbox.gen ? rec_to_committed(w, me->idx, &next)
						       : REG_STALE;
		if (st && st != REG_DELETING)
			return st;
		/* acq_rel [R1]: RUNNING, owned by nobody */
	} while (!atomic_compare_exchange_weak_explicit(word, &w, next, memory_order_acq_rel,
							memory_order_acquire));
	(void)FAILPOINT("commit.done");
	if (word_state(next) == REG_EXITED)
		reg__unplace(me, lease->sandbox.idx, rec, lease->sandbox.gen);
	reg__changed(me, lease->sandbox.idx, rec);
	reg__count(me, REG_COUNT_COMMITTED);
	return st;
}

enum reg_status reg_abort(struct reg_self *me, const struct reg_lease *lease)
{
	struct reg *reg = me->reg;
	struct reg_rec *rec = reg__rec(reg, lease->sandbox.idx);
	a64 *word = reg__cell(reg, CELLS_RECORDS, lease->sandbox.idx);
	uint64_t w, next;

	if (!rec || !word)
		return REG_STALE;
	reg__undo_prefetch(reg, rec);
	if (!reg__rec_word(reg, rec, word, lease->sandbox.gen, &w))
		return REG_STALE;
	do {
		enum reg_status st = word_gen(w) == lease->sandbox.gen
					     ? rec_to_abort(w, me->idx, &next)
					     : REG_STALE;

		if (st)
			return st;
		/* seq_cst [R1] [D1] [B3]: invisible from here on; before the looks of reg__undo */
	} while (!atomic_compare_exchange_weak_explicit(word, &w, next, memory_order_seq_cst,
							memory_order_acquire));
	(void)FAILPOINT("abort.claimed");
	reg__undo(me, lease->sandbox.idx);
	reg__count(me, REG_COUNT_ABORTED);
	return REG_OK;
}
