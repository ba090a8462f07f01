/* SPDX-License-Identifier: Apache-2.0 */
/* Rebuilding: records from the store or from an agent's report, and the slots of what already runs.
 */
#include "internal.h"

#include <string.h>

/* A record that holds nothing but its keys, CLAIMED by me. */
static enum reg_status insert_hidden(struct reg_self *me, const struct reg_restore *r,
				     reg_sandbox_id *ret, struct reg_row *ret_pool,
				     struct reg_row *ret_agent)
{
	const struct reg_request *req = &r->req;
	struct reg_want want = {
		.req = req,
		.ns_len = (uint32_t)strlen(req->ns),
		.name_len = (uint32_t)strlen(req->name),
		.id_len = (uint32_t)strlen(req->id),
		.image_len = (uint32_t)strlen(req->image),
		.request_id_len = req->request_id ? (uint32_t)strlen(req->request_id) : 0,
	};
	struct reg *reg = me->reg;
	struct reg_hit other;
	struct reg_key key = {.a = req->ns};
	enum reg_status st;

	/* on a new arena no agent has joined yet: the record keeps its pool's and its agent's name
	 */
	st = reg__pool_intern(me, r->req.ns, r->req.pool, ret_pool);
	if (st)
		return st;
	if (r->agent_name && *r->agent_name)
		st = reg__agent_intern(me, r->req.ns, r->agent_name, ret_pool->idx, ret_agent);
	if (st)
		return st;
	reg__want_keys(&want);
	st = reg__rec_new(me, &want, ret_pool->idx, r->generation, ret);
	if (st)
		return st;
	if (want.request_id_len) {
		key.b = req->request_id;
		key.hash = want.request_hash;
		st = reg__index_insert(reg, INDEX_REQUESTS, &key, ret->idx, ret->gen, &other);
		if (st == REG_NAME_EXISTS)
			st = REG_OK; /* a newer record has it; this one keeps its name */
	}
	key.b = req->name;
	key.hash = want.name_hash;
	if (!st)
		st = reg__index_insert(reg, INDEX_NAMES, &key, ret->idx, ret->gen, &other);
	if (st)
		reg__undo(me, ret->idx);
	return st;
}

static bool restore_valid(const struct reg_restore *r)
{
	const struct reg_request *q = &r->req;

	return q->ns && *q->ns && strlen(q->ns) <= REG_NAMESPACE_MAX && q->name && *q->name &&
	       strlen(q->name) <= REG_NAME_MAX && q->id && *q->id && strlen(q->id) <= REG_ID_MAX &&
	       q->image && strlen(q->image) <= REG_IMAGE_MAX && q->pool && *q->pool &&
	       strlen(q->pool) <= REG_NAME_MAX &&
	       (!r->agent_name || strlen(r->agent_name) <= REG_NAME_MAX) &&
	       (!q->request_id || strlen(q->request_id) <= REG_REQUEST_ID_MAX) &&
	       q->port_count <= REG_PORTS_MAX && q->spec_len <= REG_SPEC_MAX &&
	       q->labels_len <= REG_LABELS_MAX && q->expire_unix_s >= 0 &&
	       q->expire_unix_s <= TAGGED_MAX &&
	       (r->state == REG_RESTORED || r->state == REG_EXITED || r->state == REG_EXPIRED ||
		r->state == REG_LOST);
}

/* Where it was last, if anywhere; true when both rows stand, and from here on do so for as long as
 * the record is there. */
static bool placed_last(struct reg_self *me, reg_sandbox_id id, struct reg_row pool,
			struct reg_row agent)
{
	struct reg *reg = me->reg;

	if (agent.idx != REG_NIL)
		/* seq_cst [R3] [U1]: before the look at the row */
		atomic_store_explicit(&reg__rec(reg, id.idx)->place,
				      place_make(agent.idx, 0, 0) & ~PLACE_HELD,
				      memory_order_seq_cst);
	if (reg__row_stands(reg, CELLS_POOLS, pool) &&
	    (agent.idx == REG_NIL || reg__row_stands(reg, CELLS_AGENTS, agent)))
		return true;
	reg__undo(me, id.idx);
	return false;
}

enum reg_status reg_insert(struct reg_self *me, const struct reg_restore *r, reg_sandbox_id *ret)
{
	struct reg *reg = me->reg;
	struct reg_row pool, agent;
	reg_sandbox_id id;
	enum reg_status st;

	if (!restore_valid(r))
		return REG_INVALID;
	do { /* again when a sweep took a row that this record refers to only now */
		agent = (struct reg_row){REG_NIL, 0};
		st = insert_hidden(me, r, &id, &pool, &agent);
		if (st)
			return st;
	} while (!placed_last(me, id, pool, agent));
	struct reg_rec *rec = reg__rec(reg, id.idx);
	a64 *word = reg__cell(reg, CELLS_RECORDS, id.idx);
	/* relaxed, all: the record is CLAIMED by me; published by its word below */
	uint64_t w = atomic_load_explicit(word, memory_order_relaxed), message;

	atomic_store_explicit(&rec->started_unix_ns, (uint64_t)r->started_unix_ns,
			      memory_order_relaxed);
	if (r->from_store) {
		/* what the store has is the revision as it stands */
		atomic_store_explicit(&rec->store, STORE_MAYBE, memory_order_relaxed);
		atomic_store_explicit(&rec->stored,
				      atomic_load_explicit(&rec->revision, memory_order_relaxed),
				      memory_order_relaxed);
	}
	if (r->state == REG_EXITED || r->state == REG_EXPIRED)
		reg__exit_store(rec, id.gen, &r->exit);
	if (r->message && *r->message &&
	    !reg__blob_new(me, id, r->message, (uint32_t)strnlen(r->message, REG_MESSAGE_MAX), NULL,
			   0, &message))
		atomic_store_explicit(&rec->message, message, memory_order_release); /* [B2] */
	if (!r->from_store)
		reg__changing(me, id.idx);
	/* release [R1]: visible */
	atomic_store_explicit(word, rec_move(w, r->state, CELL_OWNER_NONE, 0),
			      memory_order_release);
	if (!r->from_store)
		reg__changed(me, id.idx, rec);
	*ret = id;
	return REG_OK;
}

/* A slot for what runs there already: within the capacity when there is room, beyond it when not.
 */
static enum reg_status slot_for(struct reg_self *me, uint32_t agent, uint32_t record,
				uint32_t *ret_slot, uint32_t *ret_gen)
{
	for (uint32_t slots = 0; slots <= REG_SLOTS_PER_AGENT_MAX; slots += REG_CHUNK_SLOTS) {
		enum reg_status st = slots ? reg__agent_grow(me, agent, slots) : REG_OK;

		if (st)
			return st;
		if (reg__slot_claim(me, agent, record, true, ret_slot, ret_gen))
			return REG_OK;
		if (reg__agent_heal(me->reg, agent) &&
		    reg__slot_claim(me, agent, record, true, ret_slot, ret_gen))
			return REG_OK;
	}
	return REG_LIMIT_SLOTS;
}

bool reg__place_held(const struct reg *reg, uint64_t place, uint32_t record)
{
	a64 *slot = reg__slot(reg, place_agent(place), place_slot(place));
	/* acquire [S1] */
	uint64_t s = slot ? atomic_load_explicit(slot, memory_order_acquire) : 0;

	return place & PLACE_HELD && word_state(s) != SLOT_FREE &&
	       word_gen(s) == place_gen(place) && word_record(s) == record;
}

static bool held_on(const struct reg *reg, uint64_t place, uint32_t agent, uint32_t record)
{
	return place_agent(place) == agent && reg__place_held(reg, place, record);
}

/* Slot (RESERVED by me) → placement → BUSY. Dying before the placement: the reaper frees the slot;
 * after it: marks it BUSY. */
static enum reg_status adopt_slot(struct reg_self *me, reg_sandbox_id id, struct reg_rec *rec,
				  uint32_t agent)
{
	/* acquire [R3] */
	uint64_t place = atomic_load_explicit(&rec->place, memory_order_acquire);
	uint32_t slot, gen;
	enum reg_status st;

	if (held_on(me->reg, place, agent, id.idx))
		return REG_OK;
	reg__unplace(me, id.idx, rec, id.gen);
	st = slot_for(me, agent, id.idx, &slot, &gen);
	if (st)
		return st;
	(void)FAILPOINT("adopt.slot-claimed");
	reg__agent_limit(me->reg, agent); /* it may be beyond the capacity */
	/* release [R3] */
	atomic_store_explicit(&rec->place, place_make(agent, slot, gen), memory_order_release);
	(void)FAILPOINT("adopt.placed");
	/* it runs: a conflict can only be with a record that does not */
	(void)reg__ports_claim(me->reg, agent, id.idx, id.gen);
	a64 *word = reg__slot(me->reg, agent, slot);
	/* relaxed: ours */
	uint64_t w = atomic_load_explicit(word, memory_order_relaxed);

	atomic_store_explicit(word, cell_hand_over(w, SLOT_BUSY, CELL_OWNER_NONE),
			      memory_order_release); /* [S1] */
	return REG_OK;
}

/* Runs an owner's transition; nobody else moves the record away from us, others only mark it. */
static enum reg_status adoption(struct reg_self *me, a64 *word, uint64_t *w,
				enum reg_status (*fn)(uint64_t w, uint32_t me, uint64_t *ret_next))
{
	uint32_t gen = word_gen(*w);
	uint64_t next;
	enum reg_status st;

	do {
		st = word_gen(*w) == gen ? fn(*w, me->idx, &next) : REG_STALE;
		if ((st && st != REG_DELETING) || next == *w)
			return st;
		/* acq_rel [R1]: LOST or RESTORED under an owner, and what it becomes */
	} while (!atomic_compare_exchange_weak_explicit(word, w, next, memory_order_acq_rel,
							memory_order_acquire));
	*w = next;
	return st;
}

/*
 * First the record becomes ours (the state stays, so that readers go on seeing it), then the slot,
 * then RUNNING. Who deletes it or reports its exit meanwhile marks it. Dying with it: the reaper
 * gives it back, with the slot when it has got one.
 */
enum reg_status reg_adopt(struct reg_self *me, reg_sandbox_id sandbox, reg_agent_id agent)
{
	struct reg_agent *a;
	struct reg_rec *rec;
	a64 *word;
	uint64_t w;
	enum reg_status st;

	st = reg__agent_of(me->reg, agent, &a);
	if (st)
		return st;
	if (!reg__rec_is(me->reg, sandbox, &rec, &word, &w))
		return REG_STALE;
	reg__changing(me, sandbox.idx);
	st = adoption(me, word, &w, rec_to_adopting);
	if (st)
		return st;
	if (word_state(w) == REG_RUNNING)
		/* acquire [R3] */
		return held_on(me->reg, atomic_load_explicit(&rec->place, memory_order_acquire),
			       agent.idx, sandbox.idx)
			       ? REG_OK
			       : REG_BAD_STATE;
	(void)FAILPOINT("adopt.owned");
	st = adopt_slot(me, sandbox, rec, agent.idx);
	/* seq_cst [U2]: after the claim; the agent was removed meanwhile, so back to LOST without
	 * it */
	if (!st && hot_flags(atomic_load_explicit(&a->hot, memory_order_seq_cst)) & HOT_REMOVED) {
		reg__unplace(me, sandbox.idx, rec, sandbox.gen);
		st = REG_STALE;
	}
	if (st) {
		(void)adoption(me, word, &w, rec_to_unadopted);
	} else {
		st = adoption(me, word, &w, rec_to_adopted);
		(void)FAILPOINT("adopt.moved");
		(void)reg__blob_swap(me, sandbox, &rec->message, NULL, NULL, 0);
	}
	if (word_state(w) == REG_EXITED)
		reg__unplace(me, sandbox.idx, rec, sandbox.gen);
	reg__changed(me, sandbox.idx, rec);
	return st;
}
