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

void reg__text_fill(uint64_t *dst, const void *a, uint32_t a_len, const void *b, uint32_t b_len)
{
	uint32_t whole = a_len / 8 * 8, at = a_len - whole, used;
	uint8_t seam[8] = {0};

	reg__words_in(dst, a, whole);
	if (!at) { /* an empty spec may be NULL */
		reg__tail_in(dst + whole / 8, b, b_len);
		return;
	}
	memcpy(seam, (const uint8_t *)a + whole, at);
	used = b_len < 8 - at ? b_len : 8 - at;
	if (used)
		memcpy(seam + at, b, used);
	reg__word_in(dst + whole / 8, reg__eight(seam));
	if (b_len > used)
		reg__tail_in(dst + whole / 8 + 1, (const uint8_t *)b + used, b_len - used);
}

enum reg_status reg__blob_new(struct reg_self *me, reg_sandbox_id owner, const void *a,
			      uint32_t a_len, const void *b, uint32_t b_len, uint64_t *ret_ref)
{
	uint64_t len = (uint64_t)a_len + b_len + sizeof(struct reg_blob);

	for (unsigned int cls = 0; cls < REG_BLOB_CLASSES; cls++) {
		struct reg_blob *blob;
		uint32_t idx;
		uint64_t word;
		enum reg_status st;

		if (len > reg_blob_unit[cls])
			continue;
		st = reg__cell_take(me, CELLS_BLOB0 + cls, BLOB_USED, owner.idx, REG_LIMIT_BLOBS,
				    &idx, &word);
		if (st == REG_LIMIT_BLOBS)
			continue; /* a larger class may have room */
		if (st)
			return st;
		blob = blob_at(me->reg, cls, idx);
		reg__text_fill(blob->data, a, a_len, b, b_len);
		/* release [B1] */
		__atomic_store_n(&blob->head, (uint64_t)owner.gen << 32 | (a_len + b_len),
				 __ATOMIC_RELEASE);
		*ret_ref = ref_make(cls, idx, word_gen(word));
		return REG_OK;
	}
	return len > reg_blob_unit[REG_BLOB_CLASSES - 1] ? REG_TOO_LARGE : REG_LIMIT_BLOBS;
}

void reg__blob_free(struct reg_self *me, uint64_t ref)
{
	a64 *cell = ref & REF_VALID && ref_class(ref) < REG_BLOB_CLASSES
			    ? reg__cell(me->reg, CELLS_BLOB0 + ref_class(ref), ref_idx(ref))
			    : NULL;

	if (!cell)
		return;
	/* relaxed: checked again by the CAS in reg__cell_keep */
	uint64_t w = atomic_load_explicit(cell, memory_order_relaxed);

	while (word_state(w) == BLOB_USED && word_gen(w) == ref_gen(ref)) {
		/* in a damaged arena its memory may never have been there: nothing for the magazine
		 */
		bool there = blob_at(me->reg, ref_class(ref), ref_idx(ref)) != NULL;

		if (there ? reg__cell_keep(me, CELLS_BLOB0 + ref_class(ref), ref_idx(ref), w)
			  : reg__cell_free(me->reg, CELLS_BLOB0 + ref_class(ref), ref_idx(ref), w))
			return;
		/* another one that replaces the reference, too, has made itself the owner */
		w = atomic_load_explicit(cell, memory_order_relaxed);
	}
}

static bool blob_is(const struct reg *reg, uint64_t ref)
{
	a64 *cell = reg__cell(reg, CELLS_BLOB0 + ref_class(ref), ref_idx(ref));
	/* acquire [B1]: pairs with reg__blob_new and C2; the copy before it belongs to this
	 * generation when the word still says so */
	uint64_t w = cell ? atomic_load_explicit(cell, memory_order_acquire) : 0;

	return word_state(w) == BLOB_USED && word_gen(w) == ref_gen(ref);
}

bool reg__blob_is(const struct reg *reg, uint64_t ref, uint32_t gen)
{
	const struct reg_blob *blob;

	if (!(ref & REF_VALID) || ref_class(ref) >= REG_BLOB_CLASSES || !blob_is(reg, ref))
		return false;
	blob = blob_at(reg, ref_class(ref), ref_idx(ref));
	/* acquire [B1] */
	return blob && __atomic_load_n(&blob->head, __ATOMIC_ACQUIRE) >> 32 == gen;
}

void reg__text_read(const uint64_t *data, uint64_t len, uint32_t from, void *buf, uint32_t cap)
{
	for (uint64_t i = from; i < len && i - from < cap;) {
		/* acquire [B1] [R2] */
		uint64_t w = __atomic_load_n(&data[i / 8], __ATOMIC_ACQUIRE);

		for (uint64_t end = (i / 8 + 1) * 8; i < end && i < len && i - from < cap; i++)
			((uint8_t *)buf)[i - from] = ((uint8_t *)&w)[i % 8];
	}
}

bool reg__blob_read(const struct reg *reg, uint64_t ref, uint32_t gen, uint32_t from, void *buf,
		    uint32_t cap, uint32_t *ret_len)
{
	const struct reg_blob *blob;
	uint64_t head;

	if (!reg__blob_is(reg, ref, gen))
		return false;
	blob = blob_at(reg, ref_class(ref), ref_idx(ref));
	head = __atomic_load_n(&blob->head, __ATOMIC_ACQUIRE); /* acquire [B1] */
	*ret_len = (uint32_t)head;
	if (*ret_len > reg_blob_unit[ref_class(ref)] - sizeof(*blob) || from > *ret_len)
		return false;
	reg__text_read(blob->data, *ret_len, from, buf, cap);
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

/* The swap came too late: the record is being taken down or is another sandbox by now. That one's
 * readers ignore what was put in, by the generation in its head, until it is taken out here. */
static void take_back(struct reg_self *me, a64 *slot, uint64_t ref)
{
	uint64_t mine = ref;

	/* relaxed, both: it led nobody anywhere */
	if (ref & REF_VALID)
		(void)atomic_compare_exchange_strong_explicit(slot, &mine, 0, memory_order_relaxed,
							      memory_order_relaxed);
	reg__blob_free(me, ref);
}

static bool record_stands(const a64 *word, uint32_t gen)
{
	/* seq_cst [B3]: pairs with reg__undo, which leaves the visible states before it looks at
	 * the references, as we look here after we have changed one */
	uint64_t w = atomic_load_explicit(word, memory_order_seq_cst);

	return word_gen(w) == gen && rec_state_visible(word_state(w));
}

/*
 * new blob (mine) → old one marked as mine → reference swapped → old one freed → a look whether the
 * record still stands. Dying in between leaves a blob that is mine and not referenced, or
 * referenced by a record of another generation: the reaper frees it.
 */
enum reg_status reg__blob_swap(struct reg_self *me, reg_sandbox_id id, a64 *slot,
			       const uint64_t *seen, const void *data, uint32_t len)
{
	/* acquire [B2]: pairs with the CAS below; the blob's contents after its reference */
	uint64_t old = atomic_load_explicit(slot, memory_order_acquire), next = 0, held;
	a64 *word = reg__cell(me->reg, CELLS_RECORDS, id.idx);

	if (len) {
		enum reg_status st = reg__blob_new(me, id, data, len, NULL, 0, &next);

		if (st)
			return st;
	}
	(void)FAILPOINT("update.blob-filled");
	do {
		held = reg__blob_is(me->reg, old, id.gen) ? old : 0;
		if (!record_stands(word, id.gen) || (seen && *seen != held)) {
			reg__blob_free(me, next);
			return record_stands(word, id.gen) ? REG_CONFLICT : REG_STALE;
		}
		reg__blob_own(me, held);
		(void)FAILPOINT("update.checked");
		/* seq_cst [B2] [B3]: pairs with readers of the reference; contents before reference
		 */
	} while (!atomic_compare_exchange_strong_explicit(slot, &old, next, memory_order_seq_cst,
							  memory_order_acquire));
	(void)FAILPOINT("update.swapped");
	reg__blob_free(me, held);
	if (!record_stands(word, id.gen))
		take_back(me, slot, next);
	return REG_OK;
}
