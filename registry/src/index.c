/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unique keys: (namespace, name), (namespace, request id), (agent, port), agents, pools, images.
 * Open addressing in buckets of one cache line; a count per bucket says whether to look further.
 * Lock free, without deletion marks.
 *
 * Inserting a key that must be unique, with others inserting it at the same time:
 *   1. look: a COMMITTED entry of that key → exists
 *   2. publish mine as TENTATIVE in the first empty place
 *   3. look again: COMMITTED → I retract. TENTATIVE at a lower position → I retract. TENTATIVE at a
 * higher one → I remove it.
 *   4. TENTATIVE → COMMITTED; if mine is gone I was removed → exists
 * Of two inserters each publishes before it looks (both seq_cst), so at least one sees the other;
 * positions are totally ordered, so the lowest is never sent away by a tentative one. Removal in
 * step 3 is a CAS on the exact entry and fails once it has been committed. Without that removal two
 * can win, when the lower place becomes free only after the higher one has looked.
 */
#include "internal.h"

#include <immintrin.h>
#include <string.h>

struct place {
	a64 *entry;
	uint32_t distance; /* buckets from the key's home */
	uint32_t at;	   /* position in the window: distance and entry */
	uint64_t value;
};

/* Both halves of the product: each bit of the factors moves about half of the bits. */
static inline uint64_t fold(uint64_t a, uint64_t b)
{
	unsigned __int128 p = (unsigned __int128)a * b;

	return (uint64_t)p ^ (uint64_t)(p >> 64);
}

/* Sixteen bytes per multiplication; the last ones may overlap those before. Arbitrary odd
 * constants.
 */
static inline uint64_t hash_bytes(uint64_t h, const char *text, uint32_t len)
{
	const uint64_t k = UINT64_C(0x9fb21c651e98df25);
	const char *end = text + len;

	h ^= len * UINT64_C(0x8445d61a4e774913);
	if (len < 8)
		return fold(h ^ reg__tail_word(text, len), k);
	if (len < 16)
		return fold(h ^ reg__eight(text), k ^ reg__eight(end - 8));
	for (; end - text > 16; text += 16)
		h = fold(h ^ reg__eight(text), k ^ reg__eight(text + 8));
	return fold(h ^ reg__eight(end - 16), k ^ reg__eight(end - 8));
}

#define HASH_START UINT64_C(0x8445d61a4e774912)

/* Never 0. */
static inline uint64_t mix(uint64_t h)
{
	h = fold(h ^ UINT64_C(0xff51afd7ed558ccd), UINT64_C(0xc4ceb9fe1a85ec53));
	return h ? h : 1;
}

uint64_t reg__hash_of(const char *a, uint32_t a_len, const char *b, uint32_t b_len)
{
	uint64_t h = hash_bytes(HASH_START, a, a_len);

	return mix(b ? hash_bytes(h, b, b_len) : h);
}

uint64_t reg__hash(const char *a, const char *b)
{
	return reg__hash_of(a, (uint32_t)strlen(a), b, b ? (uint32_t)strlen(b) : 0);
}

/* As reg__hash_of, the namespace once for both. */
void reg__want_keys(struct reg_want *want)
{
	const struct reg_request *req = want->req;
	uint64_t ns = hash_bytes(HASH_START, req->ns, want->ns_len);

	want->name_hash = mix(hash_bytes(ns, req->name, want->name_len));
	want->request_hash = want->request_id_len
				     ? mix(hash_bytes(ns, req->request_id, want->request_id_len))
				     : 0;
}

struct reg_key reg__key_text(const char *a, const char *b)
{
	return (struct reg_key){.hash = reg__hash(a, b), .a = a, .b = b};
}

struct reg_key reg__key_port(uint32_t agent, uint32_t port)
{
	return (struct reg_key){
		.hash = mix(((uint64_t)agent << 17 | port) + UINT64_C(0x5bd1e9955bd1e995)),
		.agent = agent,
		.port = port,
	};
}

static struct reg_bucket *bucket_at(const struct reg *reg, enum reg_index_kind kind, uint64_t hash,
				    uint32_t distance)
{
	uint64_t n = (hash + distance) & reg->bucket_mask[kind];

	return reg__at(reg, REGION_INDEX + kind, n * sizeof(struct reg_bucket));
}

void reg__index_prefetch(const struct reg *reg, enum reg_index_kind kind, uint64_t hash)
{
	/* for writing; of memory that is not there yet it does nothing */
	__builtin_prefetch(bucket_at(reg, kind, hash, 0), 1);
}

static bool bucket_there(const struct reg *reg, const struct reg_bucket *b)
{
	return reg__ensured(reg, reg__off(reg, b), sizeof(*b));
}

static bool record_matches(const struct reg *reg, enum reg_index_kind kind,
			   const struct reg_key *key, uint32_t idx)
{
	const struct reg_rec *rec = reg__rec(reg, idx);
	uint16_t ports[REG_PORTS_MAX];

	if (!rec)
		return false;
	if (kind == INDEX_PORTS) {
		/* acquire [R3]: pairs with the store in place.c; the ports of the record that is
		 * placed there */
		uint64_t place = atomic_load_explicit(&rec->place, memory_order_acquire);
		uint32_t n = reg__rec_ports(rec, ports);

		for (uint32_t i = 0; i < n; i++)
			if (ports[i] == key->port)
				return place_agent(place) == key->agent;
		return false;
	}
	return reg__text_is(rec->ns, key->a, sizeof(rec->ns)) &&
	       reg__text_is(kind == INDEX_NAMES ? rec->name : rec->request_id, key->b,
			    kind == INDEX_NAMES ? sizeof(rec->name) : sizeof(rec->request_id));
}

/* The entry's cell has this key, under the entry's generation. */
static bool matches(const struct reg *reg, enum reg_index_kind kind, const struct reg_key *key,
		    uint64_t entry)
{
	uint32_t idx = entry_cell(entry);
	a64 *word;

	switch (kind) {
	case INDEX_AGENTS:
	case INDEX_POOLS:
	case INDEX_IMAGES:
		return reg__row_matches(reg, kind, key, entry);
	default:
		word = reg__cell(reg, CELLS_RECORDS, idx);
		if (!word || !record_matches(reg, kind, key, idx))
			return false;
		/* acquire [R1]: pairs with the record's transitions; the key was read from this
		 * generation */
		return word_gen(atomic_load_explicit(word, memory_order_acquire)) ==
		       entry_gen(entry);
	}
}

/* Next entry with this key at or after position *at, other than skip (NULL: none); false at the end
 * of the window. */
static bool next_match(const struct reg *reg, enum reg_index_kind kind, const struct reg_key *key,
		       const a64 *skip, uint32_t *at, struct place *ret)
{
	for (uint32_t d = *at / REG_BUCKET_ENTRIES; d < REG_PROBE_MAX; d++) {
		struct reg_bucket *b = bucket_at(reg, kind, key->hash, d);

		if (!bucket_there(reg, b))
			return false;
		for (uint32_t i = *at % REG_BUCKET_ENTRIES; i < REG_BUCKET_ENTRIES; i++) {
			/* seq_cst [I1]: pairs with publish; of two inserters one sees the other */
			uint64_t e = atomic_load_explicit(&b->entry[i], memory_order_seq_cst);

			*at = d * REG_BUCKET_ENTRIES + i + 1;
			if (entry_state(e) && entry_tag_is(e, key->hash) && &b->entry[i] != skip &&
			    matches(reg, kind, key, e)) {
				*ret = (struct place){&b->entry[i], d, *at - 1, e};
				return true;
			}
		}
		/* seq_cst [I2]: pairs with overflow_add; whoever lives further on was announced
		 * before */
		if (!atomic_load_explicit(&b->overflow, memory_order_seq_cst))
			return false;
		*at = (d + 1) * REG_BUCKET_ENTRIES;
	}
	return false;
}

bool reg__index_find(const struct reg *reg, enum reg_index_kind kind, const struct reg_key *key,
		     struct reg_hit *ret)
{
	uint32_t at = 0;
	struct place p;
	bool found = false;

	while (next_match(reg, kind, key, NULL, &at, &p)) {
		bool committed = entry_state(p.value) == ENTRY_COMMITTED;

		if (!found || committed)
			*ret = (struct reg_hit){entry_cell(p.value), entry_gen(p.value), committed};
		found = true;
		if (committed)
			return true;
	}
	return found;
}

/* If we die after this, the count is too high: longer searches, nothing else. */
static void overflow_add(const struct reg *reg, enum reg_index_kind kind, uint64_t hash, uint32_t d)
{
	/* seq_cst [I2]: pairs with next_match; before the entry further on is published */
	atomic_fetch_add_explicit(&bucket_at(reg, kind, hash, d)->overflow, 1,
				  memory_order_seq_cst);
}

static void overflow_sub(const struct reg *reg, enum reg_index_kind kind, uint64_t hash,
			 uint32_t upto)
{
	for (uint32_t d = 0; d < upto; d++)
		/* seq_cst [I2]: after the entry is gone */
		atomic_fetch_sub_explicit(&bucket_at(reg, kind, hash, d)->overflow, 1,
					  memory_order_seq_cst);
}

/* Step 2: into the first empty place from home on. */
static enum reg_status publish(struct reg *reg, enum reg_index_kind kind, uint64_t hash,
			       uint64_t entry, struct place *ret)
{
	for (uint32_t d = 0; d < REG_PROBE_MAX; d++) {
		struct reg_bucket *b = bucket_at(reg, kind, hash, d);
		enum reg_status st = reg__ensure(reg, reg__off(reg, b), sizeof(*b));

		if (st) {
			overflow_sub(reg, kind, hash, d);
			return st;
		}
		for (uint32_t i = 0; i < REG_BUCKET_ENTRIES; i++) {
			uint64_t empty = 0;

			/* relaxed: checked again by the CAS */
			if (atomic_load_explicit(&b->entry[i], memory_order_relaxed))
				continue;
			/* seq_cst [I1]: pairs with next_match; the record's key before its entry,
			 * mine before my second look */
			if (atomic_compare_exchange_strong_explicit(&b->entry[i], &empty, entry,
								    memory_order_seq_cst,
								    memory_order_relaxed)) {
				*ret = (struct place){&b->entry[i], d, d * REG_BUCKET_ENTRIES + i,
						      entry};
				return REG_OK;
			}
		}
		overflow_add(reg, kind, hash, d);
	}
	overflow_sub(reg, kind, hash, REG_PROBE_MAX);
	return REG_LIMIT_SANDBOXES;
}

static enum reg_status retract(struct reg *reg, enum reg_index_kind kind, uint64_t hash,
			       const struct place *mine)
{
	uint64_t e = mine->value;

	/* seq_cst [I1]; it may have been removed by another inserter already */
	(void)atomic_compare_exchange_strong_explicit(mine->entry, &e, 0, memory_order_seq_cst,
						      memory_order_relaxed);
	overflow_sub(reg, kind, hash, mine->distance);
	return REG_NAME_EXISTS;
}

/* Step 3: true when mine may be committed. */
static bool outrank(const struct reg *reg, enum reg_index_kind kind, const struct reg_key *key,
		    const struct place *mine, struct reg_hit *ret_other)
{
	uint32_t at = 0;
	struct place p;

	while (next_match(reg, kind, key, mine->entry, &at, &p)) {
		uint64_t e = p.value;

		*ret_other = (struct reg_hit){entry_cell(e), entry_gen(e),
					      entry_state(e) == ENTRY_COMMITTED};
		if (entry_state(e) == ENTRY_COMMITTED || p.at < mine->at)
			return false;
		/* seq_cst [I1]: fails when its owner has committed it meanwhile: look at that place
		 * again */
		if (!atomic_compare_exchange_strong_explicit(p.entry, &e, 0, memory_order_seq_cst,
							     memory_order_seq_cst))
			at = p.at;
	}
	return true;
}

/*
 * One look at the home bucket for a key with these bits: true when none of its entries (but skip)
 * can be of this key and none of those that wanted this bucket lives further on. Then there is
 * nobody in the whole window: steps 1 and 3 in one pass over one line. *ret_empty: the first empty
 * place, or REG_BUCKET_ENTRIES.
 */
#ifdef __SANITIZE_THREAD__
static bool home_clear(const struct reg_bucket *b, uint64_t hash, const a64 *skip,
		       uint32_t *ret_empty)
{
	*ret_empty = REG_BUCKET_ENTRIES;
	for (uint32_t i = 0; i < REG_BUCKET_ENTRIES; i++) {
		/* seq_cst [I1]: as in next_match */
		uint64_t e = atomic_load_explicit(&b->entry[i], memory_order_seq_cst);

		if (!e)
			*ret_empty = i < *ret_empty ? i : *ret_empty;
		else if (entry_tag_is(e, hash) && &b->entry[i] != skip)
			return false;
	}
	/* seq_cst [I2]: as in next_match */
	return !atomic_load_explicit(&b->overflow, memory_order_seq_cst);
}
#else
/* Of each of the eight words the low half, which holds state, tag and a part of the cell: never 0
 * in an entry that is in use. */
static inline __m128i low_halves(const __m128i *two)
{
	return _mm_castps_si128(_mm_shuffle_ps(_mm_castsi128_ps(_mm_load_si128(two)),
					       _mm_castsi128_ps(_mm_load_si128(two + 1)), 0x88));
}

static inline unsigned int lanes_equal(__m128i a, __m128i b, __m128i to)
{
	return (unsigned int)_mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(a, to))) |
	       (unsigned int)_mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(b, to))) << 4;
}

/* Vector loads: the processor keeps each word whole, and none moves over the locked publication
 * before the second look. In which order the words of one look are read does not matter. */
static inline bool home_clear(const struct reg_bucket *b, uint64_t hash, const a64 *skip,
			      uint32_t *ret_empty)
{
	const __m128i *words = (const __m128i *)(uintptr_t)b, tags = _mm_set1_epi32(ENTRY_TAG_MASK);
	const __m128i none = _mm_setzero_si128(),
		      tag = _mm_set1_epi32((int)entry_make(0, hash, 0, 0));
	__m128i low = low_halves(words), high = low_halves(words + 2);
	__m128i empty = _mm_packs_epi32(_mm_cmpeq_epi32(low, none), _mm_cmpeq_epi32(high, none));
	__m128i same = _mm_packs_epi32(_mm_cmpeq_epi32(_mm_and_si128(low, tags), tag),
				       _mm_cmpeq_epi32(_mm_and_si128(high, tags), tag));
	/* a bit per word: those that are empty, behind them those that are not and have the tag */
	unsigned int bits = (unsigned int)_mm_movemask_epi8(
		_mm_packs_epi16(empty, _mm_andnot_si128(empty, same)));

	*ret_empty = (uint32_t)__builtin_ctz(bits | 1u << REG_BUCKET_ENTRIES);
	if (skip)
		bits &= ~(0x100u << (skip - b->entry));
	/* the eighth word is the count of those further on */
	return (bits & 0x7f80) == 1u << REG_BUCKET_ENTRIES;
}
#endif

/* Steps 1 and 2, the long way. */
static enum reg_status look_and_publish(struct reg *reg, enum reg_index_kind kind,
					const struct reg_key *key, uint64_t entry,
					struct place *ret, struct reg_hit *ret_other)
{
	struct reg_hit hit;

	if (reg__index_find(reg, kind, key, &hit) && hit.committed) {
		*ret_other = hit;
		return REG_NAME_EXISTS;
	}
	return publish(reg, kind, key->hash, entry, ret);
}

static inline void published(enum reg_index_kind kind)
{
	if (kind == INDEX_REQUESTS)
		(void)FAILPOINT("reserve.request-tentative");
}

/* Step 4. */
static inline bool commit(a64 *at, uint64_t entry)
{
	/* seq_cst [I1]: from here on nobody removes it but its owner */
	return atomic_compare_exchange_strong_explicit(at, &entry,
						       entry + (ENTRY_COMMITTED - ENTRY_TENTATIVE),
						       memory_order_seq_cst, memory_order_relaxed);
}

/* Mine was removed by another inserter before I could commit it. */
static enum reg_status sent_away(struct reg *reg, enum reg_index_kind kind,
				 const struct reg_key *key, const struct place *mine,
				 struct reg_hit *ret_other)
{
	*ret_other = (struct reg_hit){0, 0, false};
	(void)reg__index_find(reg, kind, key, ret_other);
	return retract(reg, kind, key->hash, mine);
}

/* Steps 3 and 4, the long way. */
static enum reg_status rank_and_commit(struct reg *reg, enum reg_index_kind kind,
				       const struct reg_key *key, const struct place *mine,
				       struct reg_hit *ret_other)
{
	if (!outrank(reg, kind, key, mine, ret_other))
		return retract(reg, kind, key->hash, mine);
	return commit(mine->entry, mine->value) ? REG_OK
						: sent_away(reg, kind, key, mine, ret_other);
}

static __attribute__((noinline)) enum reg_status
insert_far(struct reg *reg, enum reg_index_kind kind, const struct reg_key *key, uint64_t entry,
	   struct reg_hit *ret_other)
{
	struct place mine;
	enum reg_status st = look_and_publish(reg, kind, key, entry, &mine, ret_other);

	if (st)
		return st;
	published(kind);
	return rank_and_commit(reg, kind, key, &mine, ret_other);
}

/* The end of one that is published at home; alone: only its commitment has failed. */
static __attribute__((noinline)) enum reg_status
finish_far(struct reg *reg, enum reg_index_kind kind, const struct reg_key *key,
	   const struct place *mine, bool alone, struct reg_hit *ret_other)
{
	return alone ? sent_away(reg, kind, key, mine, ret_other)
		     : rank_and_commit(reg, kind, key, mine, ret_other);
}

/* In one pass over the home bucket, if that says all. */
enum reg_status reg__index_insert(struct reg *reg, enum reg_index_kind kind,
				  const struct reg_key *key, uint32_t cell, uint32_t gen,
				  struct reg_hit *ret_other)
{
	uint64_t entry = entry_make(ENTRY_TENTATIVE, key->hash, cell, gen), empty = 0;
	struct reg_bucket *home = bucket_at(reg, kind, key->hash, 0);
	uint32_t i, other;

	/* seq_cst [I1]: as in publish */
	if (!bucket_there(reg, home) || !home_clear(home, key->hash, NULL, &i) ||
	    i == REG_BUCKET_ENTRIES ||
	    !atomic_compare_exchange_strong_explicit(&home->entry[i], &empty, entry,
						     memory_order_seq_cst, memory_order_relaxed))
		return insert_far(reg, kind, key, entry, ret_other);
	published(kind);
	bool alone = home_clear(home, key->hash, &home->entry[i], &other);

	if (__builtin_expect(alone && commit(&home->entry[i], entry), 1))
		return REG_OK;
	return finish_far(reg, kind, key, &(struct place){&home->entry[i], 0, i, entry}, alone,
			  ret_other);
}

/* An entry that is committed is changed by nobody but who removes it. */
static void entry_clear(a64 *entry, uint64_t e, bool mine, bool *ret_cleared)
{
	if (mine && entry_state(e) == ENTRY_COMMITTED) {
		/* release [I1]: the last of this record's key that anybody can see */
		atomic_store_explicit(entry, 0, memory_order_release);
		*ret_cleared = true;
		return;
	}
	/* seq_cst [I1]: another inserter may have removed a tentative one, and a third one may live
	 * there by now */
	*ret_cleared = atomic_compare_exchange_strong_explicit(entry, &e, 0, memory_order_seq_cst,
							       memory_order_relaxed);
}

static void remove_entry(struct reg *reg, enum reg_index_kind kind, uint64_t hash, uint32_t cell,
			 uint32_t gen, bool mine)
{
	for (uint32_t d = 0; d < REG_PROBE_MAX; d++) {
		struct reg_bucket *b = bucket_at(reg, kind, hash, d);
		bool cleared;

		if (!bucket_there(reg, b))
			return;
		for (uint32_t i = 0; i < REG_BUCKET_ENTRIES; i++) {
			/* relaxed: checked again by the CAS, or ours */
			uint64_t e = atomic_load_explicit(&b->entry[i], memory_order_relaxed);

			if (!entry_state(e) || entry_cell(e) != cell || entry_gen(e) != gen ||
			    !entry_tag_is(e, hash))
				continue;
			entry_clear(&b->entry[i], e, mine, &cleared);
			if (cleared)
				overflow_sub(reg, kind, hash, d);
			return;
		}
		/* relaxed: our own entry's announcement is ours, or our predecessor's whose death
		 * we know of */
		if (!atomic_load_explicit(&b->overflow, memory_order_relaxed))
			return;
	}
}

void reg__index_remove(struct reg *reg, enum reg_index_kind kind, const struct reg_key *key,
		       uint32_t cell, uint32_t gen)
{
	remove_entry(reg, kind, key->hash, cell, gen, false);
}

/* Committed and in its home bucket, found in one look; false: the long way. */
static bool remove_home(struct reg_bucket *b, uint64_t hash, uint32_t cell, uint32_t gen)
{
#ifdef __SANITIZE_THREAD__
	(void)b, (void)hash, (void)cell, (void)gen;
#else
	const __m128i *words = (const __m128i *)(uintptr_t)b;
	uint64_t entry = entry_make(ENTRY_COMMITTED, hash, cell, gen);
	unsigned int same = lanes_equal(low_halves(words), low_halves(words + 2),
					_mm_set1_epi32((int)(uint32_t)entry)) &
			    ((1u << REG_BUCKET_ENTRIES) - 1);

	for (; same; same &= same - 1) {
		a64 *at = &b->entry[__builtin_ctz(same)];

		/* relaxed: ours, if it is that one */
		if (atomic_load_explicit(at, memory_order_relaxed) != entry)
			continue;
		/* release [I1]: as in entry_clear */
		atomic_store_explicit(at, 0, memory_order_release);
		return true;
	}
#endif
	return false;
}

void reg__index_remove_mine(struct reg *reg, enum reg_index_kind kind, uint64_t hash, uint32_t cell,
			    uint32_t gen)
{
	struct reg_bucket *home = bucket_at(reg, kind, hash, 0);

	if (!bucket_there(reg, home) || !remove_home(home, hash, cell, gen))
		remove_entry(reg, kind, hash, cell, gen, true);
}

/* For the books: entries in use, and of those such that no longer belong to a record of their
 * generation. */
uint32_t reg__index_count(const struct reg *reg, enum reg_index_kind kind, uint32_t *ret_stale)
{
	uint32_t n = 0;

	for (uint64_t i = 0; i <= reg->bucket_mask[kind]; i++) {
		struct reg_bucket *b = reg__at(reg, REGION_INDEX + kind, i * sizeof(*b));

		if (!bucket_there(reg, b))
			continue;
		for (int j = 0; j < REG_BUCKET_ENTRIES; j++) {
			/* relaxed: counting only */
			uint64_t e = atomic_load_explicit(&b->entry[j], memory_order_relaxed);
			a64 *word = reg__cell(reg, CELLS_RECORDS, entry_cell(e));

			if (!entry_state(e))
				continue;
			n++;
			/* relaxed: counting only */
			uint64_t w = word ? atomic_load_explicit(word, memory_order_relaxed) : 0;

			if (!word_state(w) || word_gen(w) != entry_gen(e))
				(*ret_stale)++;
		}
	}
	return n;
}
