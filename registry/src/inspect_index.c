/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inspector's look at the unique-key indexes: does each entry lead to what has that key, does a
 * search find it, do the counts of the buckets say at least how far to look.
 */
#include "inspect.h"

#include <string.h>

#define COUNT_MAX (1 << 30) /* of a bucket's count what is compared */

static const enum reg_cells_kind cells_of[INDEX_MAX] = {
	[INDEX_NAMES] = CELLS_RECORDS, [INDEX_REQUESTS] = CELLS_RECORDS,
	[INDEX_PORTS] = CELLS_RECORDS, [INDEX_AGENTS] = CELLS_AGENTS,
	[INDEX_POOLS] = CELLS_POOLS,   [INDEX_IMAGES] = CELLS_IMAGES,
};

static uint64_t bucket_at(const struct reg_inspect *ins, enum reg_index_kind kind, uint64_t n)
{
	return ins_at(ins, REGION_INDEX + kind,
		      (n & ins->geo.bucket_mask[kind]) * sizeof(struct reg_bucket));
}

/* Text of cap bytes at off is exactly text. */
static bool text_is(const struct reg_inspect *ins, uint64_t off, uint32_t cap, const char *text)
{
	size_t len = strlen(text) + 1;

	for (uint32_t i = 0; i < len && i < cap; i += 8) {
		uint64_t w = ins_u64(ins, off + i);

		if (memcmp(&w, text + i, len - i < 8 ? len - i : 8))
			return false;
	}
	return len <= cap;
}

static bool port_is(const struct reg_inspect *ins, const struct reg_key *key, uint32_t cell)
{
	uint64_t at = ins_at(ins, REGION_RECORDS, (uint64_t)cell * sizeof(struct reg_rec));
	uint64_t n =
		BITS_GET(ins_u64(ins, at + offsetof(struct reg_rec, pool_and_consistency)), 40, 8);

	if (place_agent(ins_u64(ins, at + offsetof(struct reg_rec, place))) != key->agent)
		return false;
	for (uint32_t i = 0; i < n && i < REG_PORTS_MAX; i++) {
		uint64_t w = ins_u64(ins, at + offsetof(struct reg_rec, ports) + i / 4 * 8);

		if ((uint16_t)(w >> (i % 4 * 16)) == key->port)
			return true;
	}
	return false;
}

static bool key_is(const struct reg_inspect *ins, enum reg_index_kind kind,
		   const struct reg_key *key, uint32_t cell)
{
	uint64_t rec = ins_at(ins, REGION_RECORDS, (uint64_t)cell * sizeof(struct reg_rec));
	uint64_t agent = ins_at(ins, REGION_AGENTS, (uint64_t)cell * sizeof(struct reg_agent));
	uint64_t pool = ins_at(ins, REGION_POOLS, (uint64_t)cell * sizeof(struct reg_pool));
	uint64_t image = ins_at(ins, REGION_IMAGES, (uint64_t)cell * sizeof(struct reg_image));

	switch (kind) {
	case INDEX_NAMES:
		return text_is(ins, rec + offsetof(struct reg_rec, ns), 64, key->a) &&
		       text_is(ins, rec + offsetof(struct reg_rec, name), 256, key->b);
	case INDEX_REQUESTS:
		return text_is(ins, rec + offsetof(struct reg_rec, ns), 64, key->a) &&
		       text_is(ins, rec + offsetof(struct reg_rec, request_id), 128, key->b);
	case INDEX_PORTS:
		return port_is(ins, key, cell);
	case INDEX_AGENTS:
		return text_is(ins, agent + offsetof(struct reg_agent, ns), 64, key->a) &&
		       text_is(ins, agent + offsetof(struct reg_agent, name), 256, key->b);
	case INDEX_POOLS:
		return text_is(ins, pool + offsetof(struct reg_pool, ns), 64, key->a) &&
		       text_is(ins, pool + offsetof(struct reg_pool, name), 256, key->b);
	default:
		return text_is(ins, image + offsetof(struct reg_image, ref), 512, key->a);
	}
}

struct ins_search ins_search(const struct reg_inspect *ins, enum reg_index_kind kind,
			     const struct reg_key *key, uint32_t cell, uint32_t gen)
{
	struct ins_search ret = {0};

	for (uint32_t d = 0; d < REG_PROBE_MAX; d++) {
		uint64_t at = bucket_at(ins, kind, key->hash + d);

		for (uint32_t i = 0; i < REG_BUCKET_ENTRIES; i++) {
			uint64_t e = ins_u64(ins, at + (uint64_t)i * 8);
			uint32_t c = entry_cell(e);

			if (entry_state(e) != ENTRY_COMMITTED || !entry_tag_is(e, key->hash))
				continue;
			if (c == cell && entry_gen(e) == gen)
				ret.own++;
			else if (word_gen(ins_cell(ins, cells_of[kind], c)) == entry_gen(e) &&
				 word_state(ins_cell(ins, cells_of[kind], c)) &&
				 key_is(ins, kind, key, c))
				ret.other++;
		}
		if (!ins_u64(ins, at + offsetof(struct reg_bucket, overflow)))
			break;
	}
	return ret;
}

/* ---- entries ---- */

struct entry {
	enum reg_index_kind kind;
	uint32_t bucket;
	uint64_t e, w; /* the entry, the word of its cell */
};

/* How far the entry is from the home of its key; REG_PROBE_MAX and more: it does not belong there.
 */
static uint32_t distance(const struct reg_inspect *ins, const struct entry *at, uint64_t hash)
{
	if (!entry_tag_is(at->e, hash))
		return REG_PROBE_MAX;
	return (uint32_t)((at->bucket - hash) & ins->geo.bucket_mask[at->kind]);
}

static uint32_t port_distance(const struct reg_inspect *ins, const struct entry *at, uint64_t rec)
{
	uint64_t n =
		BITS_GET(ins_u64(ins, rec + offsetof(struct reg_rec, pool_and_consistency)), 40, 8);
	uint32_t agent = place_agent(ins_u64(ins, rec + offsetof(struct reg_rec, place)));

	for (uint32_t i = 0; i < n && i < REG_PORTS_MAX; i++) {
		uint64_t w = ins_u64(ins, rec + offsetof(struct reg_rec, ports) + i / 4 * 8);
		struct reg_key key = reg__key_port(agent, (uint16_t)(w >> (i % 4 * 16)));
		uint32_t d = distance(ins, at, key.hash);

		if (d < REG_PROBE_MAX)
			return d;
	}
	return REG_PROBE_MAX;
}

/* By the texts of the cell: what the index would have been asked for. */
static uint32_t entry_distance(const struct reg_inspect *ins, const struct entry *at)
{
	uint32_t cell = entry_cell(at->e);
	uint64_t rec = ins_at(ins, REGION_RECORDS, (uint64_t)cell * sizeof(struct reg_rec));
	char a[sizeof(((struct reg_image *)0)->ref)], b[256];
	uint64_t off;

	switch (at->kind) {
	case INDEX_NAMES:
		return distance(ins, at, ins_u64(ins, rec + offsetof(struct reg_rec, name_hash)));
	case INDEX_REQUESTS:
		return distance(ins, at,
				ins_u64(ins, rec + offsetof(struct reg_rec, request_key_hash)));
	case INDEX_PORTS:
		return port_distance(ins, at, rec);
	case INDEX_IMAGES:
		off = ins_at(ins, REGION_IMAGES, (uint64_t)cell * sizeof(struct reg_image));
		ins_copy(ins, off + offsetof(struct reg_image, ref), a, sizeof(a));
		a[sizeof(a) - 1] = 0;
		return distance(ins, at, reg__hash(a, NULL));
	default:
		off = at->kind == INDEX_AGENTS ? ins_at(ins, REGION_AGENTS,
							(uint64_t)cell * sizeof(struct reg_agent)) +
							 offsetof(struct reg_agent, ns)
					       : ins_at(ins, REGION_POOLS,
							(uint64_t)cell * sizeof(struct reg_pool)) +
							 offsetof(struct reg_pool, ns);
		/* in both rows the name follows the namespace */
		ins_copy(ins, off, a, 64);
		ins_copy(ins, off + 64, b, sizeof(b));
		a[63] = b[sizeof(b) - 1] = 0;
		return distance(ins, at, reg__hash(a, b));
	}
}
_Static_assert(offsetof(struct reg_agent, name) == offsetof(struct reg_agent, ns) + 64, "behind");
_Static_assert(offsetof(struct reg_pool, name) == offsetof(struct reg_pool, ns) + 64, "behind");

static void look_entry(struct reg_inspect *ins, const struct entry *at, uint32_t i)
{
	enum reg_cells_kind cells = cells_of[at->kind];
	struct ins_found f = {.subject = INS_ENTRY,
			      .sub = (uint8_t)at->kind,
			      .a = at->bucket,
			      .b = i,
			      .w = {at->e, at->w}};
	enum ins_owner owner = ins_owner(ins, word_owner(at->w));
	uint32_t d;

	if ((entry_state(at->e) != ENTRY_TENTATIVE && entry_state(at->e) != ENTRY_COMMITTED) ||
	    entry_cell(at->e) >= ins->geo.max[cells]) {
		ins_found(ins, REG_FINDING_ENTRY_WORD, f);
		return;
	}
	if (cells != CELLS_RECORDS && word_state(at->w) == ROW_RETIRED &&
	    word_gen(at->w) == entry_gen(at->e)) {
		/* who retired it takes the entry out next, or its reaper does */
		ins_found(ins, REG_FINDING_OWNER_DEAD, f);
		return;
	}
	if (!word_state(at->w) || word_gen(at->w) != entry_gen(at->e) ||
	    (cells == CELLS_RECORDS && word_state(at->w) == REG_GONE)) {
		ins_found(ins, REG_FINDING_ENTRY_DANGLING, f);
		return;
	}
	if (entry_state(at->e) == ENTRY_TENTATIVE && owner == OWNER_NOBODY)
		ins_found(ins, REG_FINDING_ENTRY_WORD, f);
	else if (entry_state(at->e) == ENTRY_TENTATIVE && owner != OWNER_ALIVE)
		ins_found(ins, REG_FINDING_OWNER_DEAD, f);
	d = entry_distance(ins, at);
	if (d >= REG_PROBE_MAX) {
		ins_found(ins, REG_FINDING_ENTRY_KEY, f);
		return;
	}
	for (uint32_t k = 1; k <= d; k++)
		ins->passed[at->kind][(at->bucket - k) & ins->geo.bucket_mask[at->kind]]++;
}

static void look_bucket(struct reg_inspect *ins, enum reg_index_kind kind, uint32_t bucket,
			uint64_t *count)
{
	uint64_t at = bucket_at(ins, kind, bucket);
	uint64_t past = ins_u64(ins, at + offsetof(struct reg_bucket, overflow));

	ins->passed[kind][bucket] -= (int32_t)(past < COUNT_MAX ? past : COUNT_MAX);
	for (uint32_t i = 0; i < REG_BUCKET_ENTRIES; i++) {
		struct entry entry = {kind, bucket, ins_u64(ins, at + (uint64_t)i * 8), 0};

		if (!entry.e)
			continue;
		entry.w = ins_cell(ins, cells_of[kind], entry_cell(entry.e));
		(*count)++;
		look_entry(ins, &entry, i);
	}
}

static void look_counts(struct reg_inspect *ins, enum reg_index_kind kind)
{
	for (uint32_t b = 0; b <= ins->geo.bucket_mask[kind]; b++) {
		int32_t off = ins->passed[kind][b];
		struct ins_found f = {.subject = INS_BUCKET, .sub = (uint8_t)kind, .a = b};

		if (!off)
			continue;
		f.w[0] = ins_u64(ins,
				 bucket_at(ins, kind, b) + offsetof(struct reg_bucket, overflow));
		f.w[1] = f.w[0] + (uint64_t)(int64_t)off; /* it may say anything */
		ins_found(ins, off > 0 ? REG_FINDING_ENTRY_HIDDEN : REG_FINDING_OVERFLOW, f);
	}
}

/* ---- ports in frequent use ---- */

/* A bit keeps searches away from the agent: there must be an entry. */
static void look_port_row(struct reg_inspect *ins, uint32_t row, uint32_t port)
{
	for (uint32_t i = 0; i < ins->geo.agent_words; i++) {
		uint64_t at = ((uint64_t)row * ins->geo.agent_words + i) * 8, wrong = 0;
		uint64_t bits = ins_u64(ins, ins_at(ins, REGION_PORT_BITS, at));

		for (uint64_t left = bits; left; left &= left - 1) {
			uint32_t agent = i * 64 + (uint32_t)__builtin_ctzll(left);
			struct reg_key key = reg__key_port(agent, port);

			if (!ins_search(ins, INDEX_PORTS, &key, REG_NIL, 0).other)
				wrong |= left & -left;
		}
		if (wrong)
			ins_found(ins, REG_FINDING_PORT_BIT,
				  (struct ins_found){.subject = INS_PORT,
						     .a = port,
						     .b = i,
						     .w = {bits, wrong}});
	}
}

static void look_port_rows(struct reg_inspect *ins)
{
	for (uint32_t row = 0; row < REG_PORT_ROWS; row++) {
		uint32_t port = ins_u32(ins, offsetof(struct reg_header, port) + (uint64_t)row * 4);

		if (port > UINT16_MAX)
			ins_found(ins, REG_FINDING_PORT_ROW,
				  (struct ins_found){.subject = INS_PORT,
						     .a = port,
						     .b = row,
						     .w = {port, row}});
		else if (port)
			look_port_row(ins, row, port);
	}
}

void ins_look_entries(struct reg_inspect *ins)
{
	uint64_t counts[INDEX_MAX] = {0};

	for (unsigned int k = 0; k < INDEX_MAX; k++) {
		uint32_t n = ins->geo.bucket_mask[k] + 1;

		for (uint32_t b = ins_next(ins, REGION_INDEX + k, REG_LINE, 0, n); b < n;
		     b = ins_next(ins, REGION_INDEX + k, REG_LINE, b + 1, n))
			look_bucket(ins, (enum reg_index_kind)k, b, &counts[k]);
		look_counts(ins, (enum reg_index_kind)k);
	}
	look_port_rows(ins);
	ins->sum->names = counts[INDEX_NAMES];
	ins->sum->request_ids = counts[INDEX_REQUESTS];
	ins->sum->ports = counts[INDEX_PORTS];
}
