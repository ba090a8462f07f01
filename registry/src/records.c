/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sandbox records: filling one, copying one, taking everything back. The constant part is written
 * by the owner alone while the record is CLAIMED, in release stores; a reader copies it in acquire
 * loads and then looks whether the record word still names the same generation. There is no "being
 * written" mark, so a stopped writer stops no reader.
 */
#include "internal.h"

#include <string.h>

void reg__words_out(void *dst, const uint64_t *src, uint32_t len)
{
	for (uint32_t i = 0; i < len; i += 8) {
		uint64_t w = __atomic_load_n(&src[i / 8], __ATOMIC_ACQUIRE); /* acquire [R2] */

		memcpy((uint8_t *)dst + i, &w, 8);
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

/*
 * A member of a gang whose head is visible is visible as well; who finds that writes it down, so
 * that everything else goes on as with any RESERVED one. The head cannot be given back before its
 * owner has done the same for each member.
 */
static uint64_t member_shown(const struct reg *reg, const struct reg_rec *rec, a64 *word,
			     uint64_t w)
{
	uint64_t next, head;
	a64 *at;

	while (!rec_to_shown(w, &next)) {
		head = word_of(&rec->head);
		at = reg__cell(reg, CELLS_RECORDS, head_idx(head));
		/* acquire [R1]: the head's publication, which is the whole gang's */
		uint64_t h = at ? atomic_load_explicit(at, memory_order_acquire) : 0;

		if (!rec_state_visible(word_state(h)) || word_gen(h) != head_gen(head)) {
			/* acquire [R1]: a head that has been given back left this one RESERVED */
			next = atomic_load_explicit(word, memory_order_acquire);
			if (next == w)
				return w;
			w = next;
			continue;
		}
		/* acq_rel [R1]: by its owner or by us; fails when it was done or taken back */
		if (atomic_compare_exchange_strong_explicit(word, &w, next, memory_order_acq_rel,
							    memory_order_acquire))
			return next;
	}
	return w;
}

bool reg__rec_word(const struct reg *reg, const struct reg_rec *rec, a64 *word, uint32_t gen,
		   uint64_t *ret_value)
{
	/* acquire [R1]: pairs with the transitions; what they published */
	uint64_t w = atomic_load_explicit(word, memory_order_acquire);

	if (__builtin_expect(word_state(w) == REG_CLAIMED, 0))
		w = member_shown(reg, rec, word, w);
	*ret_value = w;
	return word_state(w) && word_gen(w) == gen;
}

bool reg__rec_is(const struct reg *reg, reg_sandbox_id id, struct reg_rec **ret_rec, a64 **ret_word,
		 uint64_t *ret_value)
{
	*ret_word = reg__cell(reg, CELLS_RECORDS, id.idx);
	*ret_rec = reg__rec(reg, id.idx);
	return *ret_word && *ret_rec && reg__rec_word(reg, *ret_rec, *ret_word, id.gen, ret_value);
}

static void ports_in(struct reg_rec *rec, const uint16_t *ports, uint32_t n)
{
	uint16_t all[REG_PORTS_MAX] = {0};

	for (uint32_t i = 0; i < n; i++)
		all[i] = ports[i];
	reg__words_in(rec->ports, all, (n + 3) / 4 * 8);
}

/* What may change later. Relaxed where nothing is said: nobody reads it before the record is
 * published, or looks at the generation in it. */
static void fill_shared(struct reg_rec *rec, const struct reg_request *req, uint32_t gen)
{
	/* release [R3]: a late reader of the last holder's copy that sees this sees the newer
	 * record word */
	atomic_store_explicit(&rec->place, 0, memory_order_release);
	atomic_store_explicit(&rec->started_unix_ns, 0, memory_order_release); /* [R2] */
	/* as of the publication that follows, which marks it dirty */
	atomic_store_explicit(&rec->dirty_since_ns, reg__coarse_ns(), memory_order_relaxed);
	atomic_store_explicit(&rec->watchers, 0, memory_order_relaxed);
	atomic_store_explicit(&rec->store, STORE_NONE, memory_order_relaxed);
	atomic_store_explicit(&rec->expire, tagged_make(req->expire_unix_s, gen),
			      memory_order_relaxed);
	atomic_store_explicit(&rec->policy,
			      tagged_make((int64_t)req->recovery_timeout_s << 4 | req->policy, gen),
			      memory_order_relaxed);
	atomic_store_explicit(&rec->exit, tagged_make(0, gen), memory_order_relaxed);
	atomic_store_explicit(&rec->finished, tagged_make(0, gen), memory_order_relaxed);
}

static void fill(struct reg_rec *rec, const struct reg_want *want, uint32_t pool, uint32_t gen,
		 int64_t generation)
{
	const struct reg_request *req = want->req;
	/* relaxed, both: a plain step, since what a late change of the last holder adds meanwhile
	 * is nobody's revision: no view of this record is taken while it is CLAIMED */
	uint64_t revision = atomic_load_explicit(&rec->revision, memory_order_relaxed) + 1;

	atomic_store_explicit(&rec->revision, revision, memory_order_relaxed);
	fill_shared(rec, req, gen);
	word_set(&rec->generation, (uint64_t)generation);
	word_set(&rec->base_revision, revision);
	word_set(&rec->created_unix_ns, (uint64_t)req->created_unix_ns);
	word_set(&rec->request_hash, req->request_hash);
	word_set(&rec->spec_len, req->spec_len);
	word_set(&rec->pool_and_consistency, (uint64_t)pool | BITS_PUT(req->consistency, 32, 8) |
						     BITS_PUT(req->port_count, 40, 8));
	if (req->port_count)
		ports_in(rec, req->ports, req->port_count);
	/* with their NULs */
	reg__tail_in(rec->ns, req->ns, want->ns_len + 1);
	reg__tail_in(rec->id, req->id, want->id_len + 1);
	reg__tail_in(rec->request_id, want->request_id_len ? req->request_id : "",
		     want->request_id_len + 1);
	reg__tail_in(rec->name, req->name, want->name_len + 1);
	word_set(&rec->name_hash, want->name_hash);
	word_set(&rec->request_key_hash, want->request_hash);
}

/* In the record when it fits there. */
static enum reg_status spec_in(struct reg_self *me, reg_sandbox_id id, struct reg_rec *rec,
			       const struct reg_want *want)
{
	const struct reg_request *req = want->req;
	uint64_t ref = ref_inline(req->spec_len + want->image_len);

	if (req->spec_len + want->image_len <= sizeof(rec->text)) {
		reg__text_fill(rec->text, req->spec, req->spec_len, req->image, want->image_len);
	} else {
		enum reg_status st = reg__blob_new(me, id, req->spec, req->spec_len, req->image,
						   want->image_len, &ref);

		if (st)
			return st;
	}
	/* release [B2]: pairs with the readers of the reference */
	atomic_store_explicit(&rec->spec, ref, memory_order_release);
	return REG_OK;
}

/* What a late swap put into the references of an earlier generation is ignored and goes here. */
static enum reg_status blobs_in(struct reg_self *me, reg_sandbox_id id, struct reg_rec *rec,
				const struct reg_want *want)
{
	uint64_t labels = 0;
	enum reg_status st;

	/* relaxed: ours; a reference is left here only by a death or a late swap */
	if (__builtin_expect(atomic_load_explicit(&rec->message, memory_order_relaxed) != 0, 0))
		atomic_store_explicit(&rec->message, 0, memory_order_relaxed);
	if (want->req->labels_len) {
		st = reg__blob_new(me, id, want->req->labels, want->req->labels_len, NULL, 0,
				   &labels);
		if (st)
			return st;
	}
	if (atomic_load_explicit(&rec->labels, memory_order_relaxed) != labels)
		atomic_store_explicit(&rec->labels, labels, memory_order_release); /* [B2] */
	return spec_in(me, id, rec, want);
}

void reg__undo_prefetch(const struct reg *reg, const struct reg_rec *rec)
{
	__builtin_prefetch(rec, 1);
	reg__index_prefetch(reg, INDEX_NAMES, word_of(&rec->name_hash));
	reg__index_prefetch(reg, INDEX_REQUESTS, word_of(&rec->request_key_hash));
}

void reg__rec_prefetch(const struct reg_self *me, const struct reg_request *req, uint32_t idx)
{
	const struct reg_rec *rec = idx == REG_NIL ? NULL : reg__rec_held(me->reg, idx);
	uint32_t len = req->spec_len < sizeof(rec->text) ? req->spec_len : sizeof(rec->text);

	if (!rec)
		return;
	__builtin_prefetch(reg__cell_held(me->reg, CELLS_RECORDS, idx), 1);
	for (int i = 0; i < 3; i++)
		__builtin_prefetch((const char *)rec + (size_t)i * REG_LINE, 1);
	__builtin_prefetch(rec->ns, 1);
	__builtin_prefetch(rec->id, 1);
	__builtin_prefetch(rec->request_id, 1);
	__builtin_prefetch(rec->name, 1);
	for (uint32_t at = 0; at < len + REG_LINE; at += REG_LINE)
		__builtin_prefetch((const char *)rec->text + at, 1);
}

enum reg_status reg__rec_take(struct reg_self *me, reg_sandbox_id *ret)
{
	uint32_t idx;
	uint64_t word;
	enum reg_status st =
		reg__cell_take(me, CELLS_RECORDS, REG_CLAIMED, 0, REG_LIMIT_SANDBOXES, &idx, &word);

	if (st)
		return st;
	(void)FAILPOINT("reserve.record-claimed");
	*ret = (reg_sandbox_id){idx, word_gen(word)};
	return REG_OK;
}

enum reg_status reg__rec_fill(struct reg_self *me, const struct reg_want *want, uint32_t pool,
			      int64_t generation, reg_sandbox_id id)
{
	struct reg_rec *rec = reg__rec_held(me->reg, id.idx);
	enum reg_status st;

	fill(rec, want, pool, id.gen, generation);
	st = blobs_in(me, id, rec, want);
	if (st)
		reg__undo(me, id.idx);
	else
		(void)FAILPOINT("reserve.record-filled");
	return st;
}

enum reg_status reg__rec_new(struct reg_self *me, const struct reg_want *want, uint32_t pool,
			     int64_t generation, reg_sandbox_id *ret)
{
	reg_sandbox_id id;
	enum reg_status st = reg__rec_take(me, &id);

	if (!st)
		st = reg__rec_fill(me, want, pool, generation, id);
	if (!st)
		*ret = id;
	return st;
}

/*
 * Ports before the slot, the slot before the placement: who dies in between leaves the placement,
 * and with it the way to finish. mine: the record is CLAIMED by me; who else is still at it (a
 * report that came before) writes the same placement, so a store will do.
 */
static void unplace(struct reg_self *me, uint32_t idx, struct reg_rec *rec, bool mine, uint32_t gen,
		    uint64_t place)
{
	if (BITS_GET(word_of(&rec->pool_and_consistency), 40, 8)) {
		reg__ports_free(me->reg, place_agent(place), idx, gen, REG_PORTS_MAX);
		(void)FAILPOINT("undo.ports-freed");
	}
	reg__slot_free(me, place_agent(place), place_slot(place), place_gen(place), idx);
	/* acq_rel [R3]: the agent stays readable, only "held" goes; fails when somebody else was
	 * first */
	if (mine)
		atomic_store_explicit(&rec->place, place & ~PLACE_HELD, memory_order_release);
	else
		(void)atomic_compare_exchange_strong_explicit(
			&rec->place, &place, place & ~PLACE_HELD, memory_order_acq_rel,
			memory_order_relaxed);
	(void)FAILPOINT("undo.place-cleared");
}

void reg__unplace(struct reg_self *me, uint32_t idx, struct reg_rec *rec, uint32_t gen)
{
	/* acquire [R3]: pairs with the store of the placement */
	uint64_t place = atomic_load_explicit(&rec->place, memory_order_acquire);

	if (!(place & PLACE_HELD))
		return;
	/* acquire [R1]: after the placement: who comes late to a record that is another sandbox's
	 * by now must not take that one's slot */
	if (word_gen(atomic_load_explicit(reg__cell(me->reg, CELLS_RECORDS, idx),
					  memory_order_acquire)) == gen)
		unplace(me, idx, rec, false, gen, place);
}

static void keys_remove(struct reg *reg, uint32_t idx, const struct reg_rec *rec, uint32_t gen)
{
	reg__index_remove_mine(reg, INDEX_NAMES, word_of(&rec->name_hash), idx, gen);
	(void)FAILPOINT("undo.name-freed");
	if (word_of(&rec->request_key_hash))
		reg__index_remove_mine(reg, INDEX_REQUESTS, word_of(&rec->request_key_hash), idx,
				       gen);
	(void)FAILPOINT("undo.request-freed");
}

/* The blobs of a record that is mine and no longer visible. Who dies in between leaves the
 * references, and whoever repeats this finds them. */
static void blobs_free(struct reg_self *me, struct reg_rec *rec)
{
	a64 *refs[] = {&rec->labels, &rec->message, &rec->spec};

	for (int i = 0; i < 3; i++) {
		/* seq_cst [B3]: after the record has left the visible states; pairs with
		 * record_stands: a swap that is not seen here takes its blob back itself */
		uint64_t ref = atomic_load_explicit(refs[i], memory_order_seq_cst);

		if (!(ref & REF_VALID))
			continue;
		reg__blob_free(me, ref);
		/* relaxed: leads nowhere any more */
		atomic_store_explicit(refs[i], 0, memory_order_relaxed);
	}
}

/*
 * Each step is exact (it names record and generation) and idempotent; the record word goes last, so
 * a reaper finds the record CLAIMED by the dead one and repeats all of it. Half-filled texts are no
 * danger: an entry is removed only when it names this record and generation, and entries are made
 * only after the texts are complete. What the store may hold stays as GONE until crdsync has
 * deleted it there.
 *
 * The record is CLAIMED by a seq_cst exchange of ours (or never was visible), so that nobody else
 * changes its word, its entries or, but for a late swap, its references: stores are enough.
 */
void reg__undo(struct reg_self *me, uint32_t idx)
{
	struct reg *reg = me->reg;
	struct reg_rec *rec = reg__rec_held(reg, idx);
	a64 *word = reg__cell_held(reg, CELLS_RECORDS, idx);
	/* relaxed: ours */
	uint64_t w = atomic_load_explicit(word, memory_order_relaxed);
	uint64_t place = atomic_load_explicit(&rec->place, memory_order_acquire); /* [R3] */
	uint32_t gen = word_gen(w);

	if (place & PLACE_HELD)
		unplace(me, idx, rec, true, gen, place);
	keys_remove(reg, idx, rec, gen);
	/* seq_cst [D1]: after the exchange that made it CLAIMED; pairs with reg_store_begin, which
	 * marks and then looks: either we see the mark and leave it GONE, or it sees CLAIMED */
	if (atomic_load_explicit(&rec->store, memory_order_seq_cst) == STORE_MAYBE) {
		reg__changing(me, idx);
		/* release [R1]: pairs with readers; GONE is for crdsync only */
		atomic_store_explicit(word, rec_move(w, REG_GONE, CELL_OWNER_NONE, 0),
				      memory_order_release);
		(void)FAILPOINT("undo.record-gone");
		reg__changed(me, idx, rec);
		return;
	}
	blobs_free(me, rec);
	(void)FAILPOINT("undo.blobs-freed");
	reg__watchers_wake(reg, rec);
	reg__cell_drop(me, CELLS_RECORDS, idx, w);
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

	/* seq_cst [D2] [D3] [W2]: pairs with the copy in view (one that is older than this revision
	 * is written again) and with the taker; between the change and the looks at its dirty bit,
	 * the sleeper and the watchers */
	atomic_fetch_add_explicit(&rec->revision, 1, memory_order_seq_cst);
	reg__dirty_mark(reg, idx, rec, false);
	reg__watchers_wake(reg, rec);
	/* release: the reaper who sees no mark finds all of the above done */
	atomic_store_explicit(&me->part->changing, 0, memory_order_release);
}
