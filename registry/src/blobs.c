/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts of variable length (specs, labels, messages) in size classes. A blob's word names the
 * participant that made or last owned it and the record it is for; a reference in the record names
 * blob and generation. A reader copies, then checks the generation.
 */
#include "internal.h"

#include <string.h>

static struct reg_blob *blob_at(const struct reg *reg, unsigned int cls, uint32_t idx)
{
	uint64_t off;

	if (cls >= REG_BLOB_CLASSES || idx >= reg->max[CELLS_BLOB0 + cls])
		return NULL;
	off = reg->span[REGION_BLOB + cls].off + (uint64_t)idx * reg_blob_unit[cls];
	if (!reg__ensured(reg, off, reg_blob_unit[cls]))
		return NULL;
	return (struct reg_blob *)(void *)(reg->base + off);
}

/* Copies a then b behind each other, in 8-byte release stores: a late reader may be copying the
 * unit's former contents. */
static void blob_fill(struct reg_blob *blob, const uint8_t *a, uint32_t a_len, const uint8_t *b,
		      uint32_t b_len)
{
	uint32_t len = a_len + b_len, i = 0;
	uint64_t w;

	for (; i + 8 <= a_len; i += 8) {
		memcpy(&w, a + i, 8);
		/* release [B1]: pairs with reg__blob_read; a reader that sees this sees the newer
		 * blob word, too */
		__atomic_store_n(&blob->data[i / 8], w, __ATOMIC_RELEASE);
	}
	for (; i < len; i += 8) {
		uint32_t of_a = i < a_len ? a_len - i : 0, at_b = i + of_a - a_len;
		uint32_t of_b = b_len - at_b < 8 - of_a ? b_len - at_b : 8 - of_a;

		w = 0;
		if (of_a)
			memcpy(&w, a + i, of_a);
		if (of_b)
			memcpy((uint8_t *)&w + of_a, b + at_b, of_b);
		__atomic_store_n(&blob->data[i / 8], w, __ATOMIC_RELEASE); /* release [B1] */
	}
	__atomic_store_n(&blob->len, len, __ATOMIC_RELEASE); /* release [B1] */
}

enum reg_status reg__blob_new(struct reg_self *me, uint32_t record, const void *a, uint32_t a_len,
			      const void *b, uint32_t b_len, uint64_t *ret_ref)
{
	uint64_t len = (uint64_t)a_len + b_len + sizeof(struct reg_blob);

	for (unsigned int cls = 0; cls < REG_BLOB_CLASSES; cls++) {
		uint32_t idx;
		uint64_t word;
		enum reg_status st;

		if (len > reg_blob_unit[cls])
			continue;
		st = reg__cell_take(me, CELLS_BLOB0 + cls, BLOB_USED, record, REG_LIMIT_BLOBS, &idx,
				    &word);
		if (st == REG_LIMIT_BLOBS)
			continue; /* a larger class may have room */
		if (st)
			return st;
		blob_fill(blob_at(me->reg, cls, idx), a, a_len, b, b_len);
		*ret_ref = ref_make(cls, idx, word_gen(word));
		return REG_OK;
	}
	return len > reg_blob_unit[REG_BLOB_CLASSES - 1] ? REG_TOO_LARGE : REG_LIMIT_BLOBS;
}

void reg__blob_free(struct reg *reg, uint64_t ref)
{
	a64 *cell = ref & REF_VALID && ref_class(ref) < REG_BLOB_CLASSES
			    ? reg__cell(reg, CELLS_BLOB0 + ref_class(ref), ref_idx(ref))
			    : NULL;

	if (!cell)
		return;
	/* relaxed: checked again by the CAS in reg__cell_free */
	uint64_t w = atomic_load_explicit(cell, memory_order_relaxed);

	if (word_state(w) == BLOB_USED && word_gen(w) == ref_gen(ref))
		(void)reg__cell_free(reg, CELLS_BLOB0 + ref_class(ref), ref_idx(ref), w);
}

static bool blob_is(const struct reg *reg, uint64_t ref)
{
	a64 *cell = reg__cell(reg, CELLS_BLOB0 + ref_class(ref), ref_idx(ref));
	/* acquire [B1]: pairs with blob_fill and C2; the copy before it belongs to this generation
	 * when the word still says so */
	uint64_t w = cell ? atomic_load_explicit(cell, memory_order_acquire) : 0;

	return word_state(w) == BLOB_USED && word_gen(w) == ref_gen(ref);
}

bool reg__blob_read(const struct reg *reg, uint64_t ref, uint32_t from, void *buf, uint32_t cap,
		    uint32_t *ret_len)
{
	const struct reg_blob *blob;
	uint64_t len;

	if (!(ref & REF_VALID) || ref_class(ref) >= REG_BLOB_CLASSES || !blob_is(reg, ref))
		return false;
	blob = blob_at(reg, ref_class(ref), ref_idx(ref));
	if (!blob)
		return false;
	len = __atomic_load_n(&blob->len, __ATOMIC_ACQUIRE); /* acquire [B1] */
	if (len > reg_blob_unit[ref_class(ref)] - sizeof(*blob) || from > len)
		return false;
	for (uint64_t i = from; i < len && i - from < cap;) {
		uint64_t w =
			__atomic_load_n(&blob->data[i / 8], __ATOMIC_ACQUIRE); /* acquire [B1] */

		for (uint64_t end = (i / 8 + 1) * 8; i < end && i < len && i - from < cap; i++)
			((uint8_t *)buf)[i - from] = ((uint8_t *)&w)[i % 8];
	}
	*ret_len = (uint32_t)len;
	return blob_is(reg, ref);
}

void reg__blob_own(struct reg_self *me, uint64_t ref)
{
	a64 *cell = ref & REF_VALID && ref_class(ref) < REG_BLOB_CLASSES
			    ? reg__cell(me->reg, CELLS_BLOB0 + ref_class(ref), ref_idx(ref))
			    : NULL;

	if (!cell)
		return;
	/* relaxed: checked again by the CAS */
	uint64_t w = atomic_load_explicit(cell, memory_order_relaxed);

	if (word_state(w) == BLOB_USED && word_gen(w) == ref_gen(ref))
		/* relaxed: the owner in the word is only for the reaper, which runs after our death
		 */
		(void)atomic_compare_exchange_strong_explicit(
			cell, &w, cell_hand_over(w, BLOB_USED, me->idx), memory_order_relaxed,
			memory_order_relaxed);
}

/*
 * new blob (mine) → old one marked as mine → reference swapped → old one freed. Dying in between
 * leaves a blob that is mine and not referenced: the reaper frees it. The reference carries the
 * record's generation also when empty, so that a swap that comes too late, after the record was
 * reused, fails.
 */
enum reg_status reg__blob_swap(struct reg_self *me, uint32_t record, uint32_t gen, a64 *slot,
			       const uint64_t *seen, const void *data, uint32_t len)
{
	/* acquire [B2]: pairs with the CAS below; the blob's contents after its reference */
	uint64_t old = atomic_load_explicit(slot, memory_order_acquire), next = ref_none(gen);
	a64 *word = reg__cell(me->reg, CELLS_RECORDS, record);

	if (len) {
		enum reg_status st = reg__blob_new(me, record, data, len, NULL, 0, &next);

		if (st)
			return st;
	}
	(void)FAILPOINT("update.blob-filled");
	for (;;) {
		/* acquire [R1]: pairs with record transitions; the reference read before belongs to
		 * that generation */
		uint64_t w = atomic_load_explicit(word, memory_order_acquire);

		if (word_gen(w) != gen || !rec_state_visible(word_state(w)) ||
		    (!(old & REF_VALID) && ref_gen(old) != gen)) {
			reg__blob_free(me->reg, next);
			return REG_STALE;
		}
		if (seen && *seen != old) {
			reg__blob_free(me->reg, next);
			return REG_CONFLICT;
		}
		reg__blob_own(me, old);
		/* acq_rel [B2]: pairs with readers of the reference; contents before reference */
		if (atomic_compare_exchange_strong_explicit(slot, &old, next, memory_order_acq_rel,
							    memory_order_acquire))
			break;
	}
	(void)FAILPOINT("update.swapped");
	reg__blob_free(me->reg, old);
	return REG_OK;
}
