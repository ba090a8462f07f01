/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of sandboxes for readers: get, view, next, spec, labels. Lock free: bounded retries, and
 * no writer is waited for. */
#include "internal.h"

#include <string.h>

#define COPY_TRIES 8

static uint64_t field(const uint64_t *f)
{
	return __atomic_load_n(f, __ATOMIC_ACQUIRE); /* acquire [R2] */
}

static void copy_exit(const struct reg_rec *rec, uint32_t gen, struct reg_exit *ret)
{
	/* acquire [X1]: pairs with reg__exit_store; relaxed would do for the value, the order keeps
	 * exit and finish together */
	uint64_t e = atomic_load_explicit(&rec->exit, memory_order_acquire);
	uint64_t f = atomic_load_explicit(&rec->finished, memory_order_acquire);
	int64_t v = tagged_value(e);

	memset(ret, 0, sizeof(*ret));
	if (tagged_gen(e) != gen || !(v & 1))
		return;
	ret->code = (int32_t)((v >> 4) & 0x1ff) - 1;
	ret->signal = (int32_t)((v >> 13) & 0x7f);
	ret->oom_killed = v & 2;
	ret->unknown = v & 4;
	if (tagged_gen(f) == gen && tagged_value(f))
		ret->finished_unix_ns =
			(int64_t)field(&rec->created_unix_ns) + tagged_value(f) * INT64_C(1000000);
}

static void copy_agent(struct reg *reg, const struct reg_rec *rec, struct reg_sandbox_view *ret)
{
	uint64_t place = atomic_load_explicit(&rec->place, memory_order_acquire); /* [R3] */
	const struct reg_agent *a = reg__agent(reg, place_agent(place));
	struct reg_row row = reg__row_now(reg, CELLS_AGENTS, place_agent(place));
	struct reg_agent_cold cold;

	ret->agent = (reg_agent_id){row.idx, row.gen};
	ret->slot = place & PLACE_HELD ? place_slot(place) : REG_NIL;
	ret->slot_gen = place_gen(place);
	ret->agent_name[0] = ret->agent_node[0] = ret->agent_host_ip[0] = 0;
	ret->agent_shared_network = false;
	if (!a || row.idx == REG_NIL)
		return;
	/* the record refers to the row, so it stays; else the record is gone, and its word says so
	 */
	reg__row_text(ret->agent_name, sizeof(ret->agent_name), a->name);
	reg__agent_cold(reg, a, &cold);
	reg__text_copy(ret->agent_node, sizeof(ret->agent_node), cold.node);
	reg__text_copy(ret->agent_host_ip, sizeof(ret->agent_host_ip), cold.host_ip);
	ret->agent_shared_network = cold.shared_network != 0;
}

/*
 * What a reference leads to; its length, 0: nothing. Repeated while others replace it, which is
 * their progress. One that stands and leads nowhere is of another generation; or the record is
 * being taken down, which its word tells afterwards.
 */
static uint32_t read_blob(const struct reg *reg, const a64 *slot, uint32_t gen, void *buf,
			  uint32_t cap)
{
	/* acquire [B2]: pairs with the stores of the references */
	uint64_t ref = atomic_load_explicit(slot, memory_order_acquire), again;

	for (;; ref = again) {
		uint32_t len;

		if (reg__blob_read(reg, ref, gen, 0, buf, cap, &len))
			return len;
		again = atomic_load_explicit(slot, memory_order_acquire); /* [B2] */
		if (again == ref)
			return 0;
	}
}

/* The spec and, behind it, the image reference: in the record or in a blob. False: not there. */
static bool read_spec(const struct reg *reg, const struct reg_rec *rec, uint32_t gen, uint32_t from,
		      void *buf, uint32_t cap, uint32_t *ret_len)
{
	/* acquire [B2]: pairs with spec_in */
	uint64_t ref = atomic_load_explicit(&rec->spec, memory_order_acquire);

	if (!(ref & REF_INLINE))
		return reg__blob_read(reg, ref, gen, from, buf, cap, ret_len);
	*ret_len = ref_inline_len(ref);
	if (*ret_len > sizeof(rec->text) || from > *ret_len)
		return false;
	reg__text_read(rec->text, *ret_len, from, buf, cap);
	return true;
}

static void copy_blobs(struct reg *reg, const struct reg_rec *rec, uint32_t gen,
		       struct reg_sandbox_view *ret)
{
	uint32_t len, image = 0;

	ret->spec_len = (uint32_t)field(&rec->spec_len);
	if (read_spec(reg, rec, gen, ret->spec_len, ret->image, REG_IMAGE_MAX, &len) &&
	    len >= ret->spec_len)
		image = len - ret->spec_len;
	ret->image[image < REG_IMAGE_MAX ? image : REG_IMAGE_MAX] = 0;
	len = read_blob(reg, &rec->message, gen, ret->message, REG_MESSAGE_MAX);
	ret->message[len < REG_MESSAGE_MAX ? len : REG_MESSAGE_MAX] = 0;
	/* acquire [B2]: pairs with reg__blob_swap; taken before whoever compares it reads the
	 * labels */
	ret->labels_token = atomic_load_explicit(&rec->labels, memory_order_acquire);
	if (!reg__blob_is(reg, ret->labels_token, gen))
		ret->labels_token = 0;
	ret->labels_len = read_blob(reg, &rec->labels, gen, NULL, 0);
}

static void copy_texts(struct reg *reg, const struct reg_rec *rec, struct reg_sandbox_view *ret)
{
	const struct reg_pool *pool = reg__pool(reg, reg__rec_pool(rec));
	char name[sizeof(rec->name)], id[sizeof(rec->id)], rid[sizeof(rec->request_id)];

	reg__str_out(ret->ns, rec->ns, sizeof(rec->ns));
	reg__str_out(name, rec->name, sizeof(name));
	memcpy(ret->name, name, sizeof(ret->name));
	ret->name[sizeof(ret->name) - 1] = 0;
	reg__str_out(id, rec->id, sizeof(id));
	memcpy(ret->id, id, sizeof(ret->id));
	reg__str_out(rid, rec->request_id, sizeof(rid));
	memcpy(ret->request_id, rid, sizeof(ret->request_id));
	ret->pool[0] = 0;
	if (pool)
		reg__row_text(ret->pool, sizeof(ret->pool), pool->name);
}

static void copy_numbers(const struct reg_rec *rec, uint32_t gen, struct reg_sandbox_view *ret)
{
	/* relaxed, all: each is true at some moment; the tag tells another generation's value */
	uint64_t expire = atomic_load_explicit(&rec->expire, memory_order_relaxed);
	uint64_t policy = atomic_load_explicit(&rec->policy, memory_order_relaxed);
	/* acquire [D5]: pairs with reg_stored; the store has it when this says so */
	uint64_t stored = atomic_load_explicit(&rec->stored, memory_order_acquire);

	ret->created_unix_ns = (int64_t)field(&rec->created_unix_ns);
	ret->started_unix_ns = (int64_t)atomic_load_explicit(&rec->started_unix_ns,
							     memory_order_acquire); /* [R2] */
	ret->generation = (int64_t)field(&rec->generation);
	ret->request_hash = field(&rec->request_hash);
	ret->consistency = (enum reg_consistency)BITS_GET(field(&rec->pool_and_consistency), 32, 8);
	ret->port_count = reg__rec_ports(rec, ret->ports);
	ret->expire_unix_s = tagged_gen(expire) == gen ? tagged_value(expire) : 0;
	ret->policy = (enum reg_policy)(tagged_value(policy) & 0xf);
	ret->recovery_timeout_s = (int32_t)(tagged_value(policy) >> 4);
	ret->stored_revision = stored >= field(&rec->base_revision) ? stored : 0;
	ret->dirty_since_ns = atomic_load_explicit(&rec->dirty_since_ns, memory_order_relaxed);
	copy_exit(rec, gen, &ret->exit);
}

static void copy_word(uint64_t w, struct reg_sandbox_view *ret)
{
	ret->state = (enum reg_state)word_state(w);
	ret->deleting = rec_flags(w) & REC_DELETING;
	ret->expiring = rec_flags(w) & REC_EXPIRING;
	ret->owner = word_owner(w) == CELL_OWNER_NONE ? REG_NIL : word_owner(w);
}

enum reg_status reg_view(struct reg_self *me, reg_sandbox_id sandbox, struct reg_sandbox_view *ret)
{
	struct reg_rec *rec;
	a64 *word;
	uint64_t w, after;

	for (int tries = 0; tries < COPY_TRIES; tries++) {
		if (!reg__rec_is(me->reg, sandbox, &rec, &word, &w) || word_state(w) == REG_CLAIMED)
			return REG_STALE;
		/* acquire [D2]: pairs with reg__changed; the copy is at least as new as the
		 * revision it carries */
		ret->revision = atomic_load_explicit(&rec->revision, memory_order_acquire);
		ret->sandbox = sandbox;
		copy_word(w, ret);
		copy_texts(me->reg, rec, ret);
		copy_blobs(me->reg, rec, sandbox.gen, ret);
		copy_agent(me->reg, rec, ret);
		copy_numbers(rec, sandbox.gen, ret);
		/* acquire [R1]: everything above was read before this look */
		after = atomic_load_explicit(word, memory_order_acquire);
		if (word_gen(after) != sandbox.gen || !word_state(after) ||
		    word_state(after) == REG_CLAIMED)
			return REG_STALE;
		if (after == w && atomic_load_explicit(&rec->revision, memory_order_acquire) ==
					  ret->revision) /* [D2] */
			break;
	}
	/* still changing: the copy is of one generation, each field of some moment of this call */
	return REG_OK;
}

enum reg_status reg_get(struct reg_self *me, const char *ns, const char *name,
			struct reg_sandbox_view *ret)
{
	struct reg_key key;

	if (!ns || !name || strlen(ns) > REG_NAMESPACE_MAX || strlen(name) > REG_NAME_MAX)
		return REG_NOT_FOUND;
	key = reg__key_text(ns, name);
	for (int tries = 0; tries < COPY_TRIES; tries++) {
		struct reg_hit hit;

		if (!reg__index_find(me->reg, INDEX_NAMES, &key, &hit))
			return REG_NOT_FOUND;
		if (!reg_view(me, (reg_sandbox_id){hit.cell, hit.gen}, ret))
			return rec_state_visible(ret->state) ? REG_OK : REG_NOT_FOUND;
	}
	return REG_NOT_FOUND;
}

bool reg_next(struct reg_self *me, uint32_t *cursor, const char *ns, struct reg_sandbox_view *ret)
{
	uint32_t high = reg__cells_high(me->reg, CELLS_RECORDS);

	while (*cursor < high) {
		uint32_t idx = (*cursor)++;
		a64 *word = reg__cell(me->reg, CELLS_RECORDS, idx);
		/* relaxed: reg_view looks again */
		uint64_t w = word ? atomic_load_explicit(word, memory_order_relaxed) : 0;

		if (!rec_state_visible(word_state(w)) &&
		    !(word_state(w) == REG_CLAIMED && rec_flags(w) & REC_GANG))
			continue;
		if (reg_view(me, (reg_sandbox_id){idx, word_gen(w)}, ret) ||
		    !rec_state_visible(ret->state))
			continue;
		if (!ns || !*ns || !strcmp(ns, ret->ns))
			return true;
	}
	return false;
}

static enum reg_status blob_out(struct reg_self *me, reg_sandbox_id sandbox, bool spec, void *buf,
				uint32_t cap, uint32_t *ret_len)
{
	struct reg_rec *rec;
	a64 *word;
	uint64_t w;
	uint32_t whole;

	if (!reg__rec_is(me->reg, sandbox, &rec, &word, &w) || word_state(w) == REG_CLAIMED)
		return REG_STALE;
	if (!spec)
		whole = read_blob(me->reg, &rec->labels, sandbox.gen, buf, cap);
	else if (!read_spec(me->reg, rec, sandbox.gen, 0, buf, cap, &whole))
		return REG_STALE;
	else
		whole = (uint32_t)field(&rec->spec_len);
	/* acquire [R1]: what was read belongs to this generation, and was not being taken down,
	 * when the word still says so */
	w = atomic_load_explicit(word, memory_order_acquire);
	if (word_gen(w) != sandbox.gen || !word_state(w) || word_state(w) == REG_CLAIMED)
		return REG_STALE;
	*ret_len = whole;
	return whole <= cap ? REG_OK : REG_TOO_LARGE;
}

enum reg_status reg_spec(struct reg_self *me, reg_sandbox_id sandbox, void *buf, uint32_t cap,
			 uint32_t *ret_len)
{
	return blob_out(me, sandbox, true, buf, cap, ret_len);
}

enum reg_status reg_labels(struct reg_self *me, reg_sandbox_id sandbox, void *buf, uint32_t cap,
			   uint32_t *ret_len)
{
	return blob_out(me, sandbox, false, buf, cap, ret_len);
}
