/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sandbox records: filling one, copying one, taking everything back. The constant part is written
 * by the owner alone while the record is CLAIMED, in release stores; a reader copies it in acquire
 * loads and then looks whether the record word still names the same generation. There is no "being
 * written" mark, so a stopped writer stops no reader.
 */
#include "internal.h"

#include <string.h>

void reg__words_in(uint64_t *dst, const void *src, uint32_t len)
{
	uint64_t w;

	for (uint32_t i = 0; i < len; i += 8) {
		memcpy(&w, (const uint8_t *)src + i, 8);
		/* release [R2]: pairs with reg__words_out; who sees these bytes sees the record
		 * word that allowed them */
		__atomic_store_n(&dst[i / 8], w, __ATOMIC_RELEASE);
	}
}

void reg__words_out(void *dst, const uint64_t *src, uint32_t len)
{
	for (uint32_t i = 0; i < len; i += 8) {
		uint64_t w = __atomic_load_n(&src[i / 8], __ATOMIC_ACQUIRE); /* acquire [R2] */

		memcpy((uint8_t *)dst + i, &w, 8);
	}
}

/* cap: bytes of dst; text is shorter (checked by the caller). Only the words up to the NUL are
 * written. */
void reg__str_in(uint64_t *dst, uint32_t cap, const char *text)
{
	size_t len = strlen(text) + 1;

	for (size_t i = 0; i < len && i < cap; i += 8) {
		uint64_t w = 0;

		memcpy(&w, text + i, len - i < 8 ? len - i : 8);
		__atomic_store_n(&dst[i / 8], w, __ATOMIC_RELEASE); /* release [R2] */
	}
}

/* Always ends with a NUL within cap bytes, whatever the arena holds. */
void reg__str_out(char *dst, const uint64_t *src, uint32_t cap)
{
	for (uint32_t i = 0; i < cap; i += 8) {
		uint64_t w = __atomic_load_n(&src[i / 8], __ATOMIC_ACQUIRE); /* acquire [R2] */

		memcpy(dst + i, &w, 8);
		if (memchr(dst + i, 0, 8))
			return;
	}
	dst[cap - 1] = 0;
}

static uint64_t word_of(const uint64_t *field)
{
	return __atomic_load_n(field, __ATOMIC_ACQUIRE); /* acquire [R2] */
}

static void word_set(uint64_t *field, uint64_t value)
{
	__atomic_store_n(field, value, __ATOMIC_RELEASE); /* release [R2] */
}

uint32_t reg__rec_pool(const struct reg_rec *rec)
{
	return (uint32_t)word_of(&rec->pool_and_consistency);
}

uint32_t reg__rec_ports(const struct reg_rec *rec, uint16_t *ret)
{
	uint32_t n = (uint32_t)BITS_GET(word_of(&rec->pool_and_consistency), 40, 8);

	n = n < REG_PORTS_MAX ? n : REG_PORTS_MAX;
	for (uint32_t i = 0; i < n; i += 4) {
		uint64_t w = word_of(&rec->ports[i / 4]);

		memcpy(ret + i, &w, 8);
	}
	return n;
}

bool reg__rec_is(const struct reg *reg, reg_sandbox_id id, struct reg_rec **ret_rec, a64 **ret_word,
		 uint64_t *ret_value)
{
	*ret_word = reg__cell(reg, CELLS_RECORDS, id.idx);
	*ret_rec = reg__rec(reg, id.idx);
	if (!*ret_word || !*ret_rec)
		return false;
	/* acquire [R1]: pairs with the transitions; what they published */
	*ret_value = atomic_load_explicit(*ret_word, memory_order_acquire);
	return word_state(*ret_value) && word_gen(*ret_value) == id.gen;
}

static void ports_in(struct reg_rec *rec, const uint16_t *ports, uint32_t n)
{
	uint16_t all[REG_PORTS_MAX] = {0};

	for (uint32_t i = 0; i < n; i++)
		all[i] = ports[i];
	for (uint32_t i = 0; i < n; i += 4) {
		uint64_t w;

		memcpy(&w, all + i, 8);
		word_set(&rec->ports[i / 4], w);
	}
}

static void fill(struct reg_rec *rec, const struct reg_request *req, uint32_t pool, uint32_t gen,
		 int64_t generation)
{
	/* release [R3]: a late reader of the last holder's copy that sees this sees the newer
	 * record word */
	atomic_store_explicit(&rec->place, 0, memory_order_release);
	atomic_store_explicit(&rec->started_unix_ns, 0, memory_order_release); /* [R2] */
	/* relaxed, the others: nobody reads them before the record is published, or looks at the
	 * generation in them */
	atomic_store_explicit(&rec->dirty_since_ns, 0, memory_order_relaxed);
	atomic_store_explicit(&rec->watchers, 0, memory_order_relaxed);
	atomic_store_explicit(&rec->store, STORE_NONE, memory_order_relaxed);
	atomic_store_explicit(&rec->expire, tagged_make(req->expire_unix_s, gen),
			      memory_order_relaxed);
	atomic_store_explicit(&rec->policy,
			      tagged_make((int64_t)req->recovery_timeout_s << 4 | req->policy, gen),
			      memory_order_relaxed);
	atomic_store_explicit(&rec->exit, tagged_make(0, gen), memory_order_relaxed);
	atomic_store_explicit(&rec->finished, tagged_make(0, gen), memory_order_relaxed);
	uint64_t revision = atomic_fetch_add_explicit(&rec->revision, 1, memory_order_relaxed) + 1;

	word_set(&rec->generation, (uint64_t)generation);
	word_set(&rec->base_revision, revision);
	word_set(&rec->created_unix_ns, (uint64_t)req->created_unix_ns);
	word_set(&rec->request_hash, req->request_hash);
	word_set(&rec->spec_len, req->spec_len);
	word_set(&rec->pool_and_consistency, (uint64_t)pool | BITS_PUT(req->consistency, 32, 8) |
						     BITS_PUT(req->port_count, 40, 8));
	ports_in(rec, req->ports, req->port_count);
	reg__str_in(rec->ns, sizeof(rec->ns), req->ns);
	reg__str_in(rec->id, sizeof(rec->id), req->id);
	reg__str_in(rec->request_id, sizeof(rec->request_id),
		    req->request_id ? req->request_id : "");
	reg__str_in(rec->name, sizeof(rec->name), req->name);
}

/* The hashes of the keys, and their cache lines on the way while the rest is filled in. */
static void keys_in(const struct reg *reg, struct reg_rec *rec, const struct reg_request *req)
{
	uint64_t name = reg__hash(req->ns, req->name), request = 0;

	reg__index_prefetch(reg, INDEX_NAMES, name);
	if (req->request_id && *req->request_id) {
		request = reg__hash(req->ns, req->request_id);
		reg__index_prefetch(reg, INDEX_REQUESTS, request);
	}
	word_set(&rec->name_hash, name);
	word_set(&rec->request_key_hash, request);
}

/* A reference left by a swap that came after the teardown and died: its blob is nobody's any more.
 */
static void refs_reset(struct reg *reg, struct reg_rec *rec, uint32_t gen)
{
	a64 *refs[] = {&rec->labels, &rec->message, &rec->spec};

	for (int i = 0; i < 3; i++)
		/* acq_rel [B2]: pairs with reg__blob_swap */
		reg__blob_free(reg, atomic_exchange_explicit(refs[i], ref_none(gen),
							     memory_order_acq_rel));
}

static enum reg_status blobs_in(struct reg_self *me, uint32_t idx, struct reg_rec *rec,
				const struct reg_request *req)
{
	uint64_t ref;
	enum reg_status st = reg__blob_new(me, idx, req->spec, req->spec_len, req->image,
					   (uint32_t)strlen(req->image), &ref);

	if (st)
		return st;
	/* release [B2]: pairs with the readers of the reference */
	atomic_store_explicit(&rec->spec, ref, memory_order_release);
	if (!req->labels_len)
		return REG_OK;
	st = reg__blob_new(me, idx, req->labels, req->labels_len, NULL, 0, &ref);
	if (st)
		return st;
	atomic_store_explicit(&rec->labels, ref, memory_order_release); /* [B2] */
	return REG_OK;
}

/* A record CLAIMED by me and filled; nothing else refers to it yet. */
enum reg_status reg__rec_new(struct reg_self *me, const struct reg_request *req, uint32_t pool,
			     int64_t generation, reg_sandbox_id *ret)
{
	uint32_t idx;
	uint64_t word;
	enum reg_status st =
		reg__cell_take(me, CELLS_RECORDS, REG_CLAIMED, 0, REG_LIMIT_SANDBOXES, &idx, &word);

	if (st)
		return st;
	(void)FAILPOINT("reserve.record-claimed");
	struct reg_rec *rec = reg__rec(me->reg, idx);

	keys_in(me->reg, rec, req);
	refs_reset(me->reg, rec, word_gen(word));
	fill(rec, req, pool, word_gen(word), generation);
	st = blobs_in(me, idx, rec, req);
	if (st) {
		reg__undo(me, idx);
		return st;
	}
	(void)FAILPOINT("reserve.record-filled");
	*ret = (reg_sandbox_id){idx, word_gen(word)};
	return REG_OK;
}

/* Ports before the slot, the slot before the placement: who dies in between leaves the placement,
 * and with it the way to finish. */
void reg__unplace(struct reg_self *me, uint32_t idx, struct reg_rec *rec, uint32_t gen)
{
	/* acquire [R3]: pairs with the store of the placement */
	uint64_t place = atomic_load_explicit(&rec->place, memory_order_acquire);

	if (!(place & PLACE_HELD))
		return;
	/* acquire [R1]: after the placement: who comes late to a record that is another sandbox's
	 * by now must not take that one's slot */
	if (word_gen(atomic_load_explicit(reg__cell(me->reg, CELLS_RECORDS, idx),
					  memory_order_acquire)) != gen)
		return;
	reg__ports_free(me->reg, place_agent(place), idx, gen, REG_PORTS_MAX);
	(void)FAILPOINT("undo.ports-freed");
	reg__slot_free(me, place_agent(place), place_slot(place), place_gen(place), idx);
	/* acq_rel [R3]: the agent stays readable, only "held" goes; fails when somebody else was
	 * first */
	(void)atomic_compare_exchange_strong_explicit(&rec->place, &place, place & ~PLACE_HELD,
						      memory_order_acq_rel, memory_order_relaxed);
	(void)FAILPOINT("undo.place-cleared");
}

static void keys_remove(struct reg *reg, uint32_t idx, const struct reg_rec *rec, uint32_t gen)
{
	struct reg_key key = {.hash = word_of(&rec->name_hash)};

	reg__index_remove(reg, INDEX_NAMES, &key, idx, gen);
	(void)FAILPOINT("undo.name-freed");
	if (word_of(&rec->request_id[0])) {
		key.hash = word_of(&rec->request_key_hash);
		reg__index_remove(reg, INDEX_REQUESTS, &key, idx, gen);
	}
	(void)FAILPOINT("undo.request-freed");
}

/*
 * Each step is exact (it names record and generation) and idempotent; the record word goes last, so
 * a reaper finds the record CLAIMED by the dead one and repeats all of it. Half-filled texts are no
 * danger: an entry is removed only when it names this record and generation, and entries are made
 * only after the texts are complete. What the store may hold stays as GONE until crdsync has
 * deleted it there.
 */
void reg__undo(struct reg_self *me, uint32_t idx)
{
	struct reg *reg = me->reg;
	struct reg_rec *rec = reg__rec(reg, idx);
	a64 *word = reg__cell(reg, CELLS_RECORDS, idx);
	/* relaxed: ours */
	uint64_t w = atomic_load_explicit(word, memory_order_relaxed);
	uint32_t gen = word_gen(w);

	reg__index_prefetch(reg, INDEX_NAMES, word_of(&rec->name_hash));
	reg__index_prefetch(reg, INDEX_REQUESTS, word_of(&rec->request_key_hash));
	reg__unplace(me, idx, rec, gen);
	keys_remove(reg, idx, rec, gen);
	uint64_t store = STORE_NONE;

	/* seq_cst [D1]: pairs with reg_store_begin: either it marked the store before and we leave
	 * it GONE, or it finds us deleted */
	(void)atomic_compare_exchange_strong_explicit(&rec->store, &store, STORE_DELETED,
						      memory_order_seq_cst, memory_order_seq_cst);
	if (store == STORE_MAYBE) {
		reg__changing(me, idx);
		/* release [R1]: pairs with readers; GONE is for crdsync only */
		atomic_store_explicit(word, rec_move(w, REG_GONE, CELL_OWNER_NONE, 0),
				      memory_order_release);
		(void)FAILPOINT("undo.record-gone");
		reg__changed(me, idx, rec);
		return;
	}
	refs_reset(reg, rec, gen);
	(void)FAILPOINT("undo.blobs-freed");
	reg__watchers_wake(reg, rec);
	(void)reg__cell_free(reg, CELLS_RECORDS, idx, w);
	(void)FAILPOINT("undo.record-freed");
	reg__watchers_wake(reg, rec);
}

void reg__changing(struct reg_self *me, uint32_t idx)
{
	/* relaxed: published by the change, a release */
	atomic_store_explicit(&me->part->changing, idx + 1, memory_order_relaxed);
}

void reg__changed(struct reg_self *me, uint32_t idx, struct reg_rec *rec)
{
	struct reg *reg = me->reg;

	/* release [D2]: pairs with the copy in view; a copy that is older than this revision is
	 * written again */
	atomic_fetch_add_explicit(&rec->revision, 1, memory_order_release);
	reg__dirty_mark(reg, idx, false);
	reg__watchers_wake(reg, rec);
	/* release: the reaper who sees no mark finds all of the above done */
	atomic_store_explicit(&me->part->changing, 0, memory_order_release);
}
