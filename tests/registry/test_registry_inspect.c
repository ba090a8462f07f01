/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inspector over dead arenas: a sound one has no finding and is not changed by a byte; each
 * invariant broken on purpose is named, where it is broken; nothing else is said to be broken that
 * does not follow from it.
 */
#include "bed.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what the inspector says ---- */

struct findings {
	uint32_t n[REG_FINDING_MAX];
	char where[REG_FINDING_MAX][64]; /* of the first one */
	struct reg_inspect_sum sum;
	bool print;
};

static void on_finding(void *arg, const struct reg_finding *f)
{
	struct findings *all = arg;

	CHECK(f->kind < REG_FINDING_MAX && *f->name && *f->text && *f->where && *f->words);
	if (!all->n[f->kind]++)
		memcpy(all->where[f->kind], f->where, sizeof(f->where));
	if (all->print)
		(void)fprintf(stderr, "%s %s %s %s\n", reg_finding_class_name(f->class_), f->name,
			      f->where, f->words);
}

static void check(const char *path, struct findings *ret, bool print)
{
	struct reg_inspect *ins;

	memset(ret, 0, sizeof(*ret));
	ret->print = print;
	CHECK_OK(reg_inspect_open(path, &ins));
	CHECK_OK(reg_inspect_check(ins, on_finding, ret, &ret->sum));
	CHECK(!reg_inspect_close(ins));
}

static uint64_t total(const struct findings *f)
{
	return f->sum.findings[REG_FINDING_BROKEN] + f->sum.findings[REG_FINDING_LEFTOVER] +
	       f->sum.findings[REG_FINDING_STALE];
}

/* ---- a sound arena ---- */

static void dump_all(const char *path)
{
	static struct reg_inspect_sandbox sandbox;
	struct reg_inspect_header header;
	struct reg_inspect_region region;
	struct reg_inspect_part part;
	struct reg_inspect_pool pool;
	struct reg_inspect_agent agent;
	struct reg_inspect *ins;
	uint32_t cursor, n[5] = {0}, running = 0;

	CHECK_OK(reg_inspect_open(path, &ins));
	reg_inspect_header(ins, &header);
	CHECK_ST(header.verdict, REG_OK);
	CHECK_EQ(header.limits.sandboxes, rig_limits.sandboxes);
	CHECK_EQ(strlen(header.instance), 32);
	CHECK(!header.owned);
	for (cursor = 0; reg_inspect_region_next(ins, &cursor, &region); n[0]++)
		CHECK(region.name && region.used <= ((region.size + 4095) & ~UINT64_C(4095)));
	for (cursor = 0; reg_inspect_part_next(ins, &cursor, &part); n[1]++)
		CHECK(!part.alive);
	for (cursor = 0; reg_inspect_pool_next(ins, &cursor, &pool); n[2]++)
		CHECK_STR(pool.ns, "default");
	for (cursor = 0; reg_inspect_agent_next(ins, &cursor, &agent); n[3]++) {
		CHECK_EQ(agent.slots, 70);
		CHECK_EQ(agent.chunks, 2);
		CHECK(agent.ready);
		CHECK_EQ(agent.hint, agent.held);
	}
	for (cursor = 0; reg_inspect_sandbox_next(ins, &cursor, &sandbox); n[4]++) {
		running += sandbox.state == REG_RUNNING;
		CHECK_STR(sandbox.pool_name, "pool");
		CHECK_STR(sandbox.name, sandbox.request_id);
	}
	CHECK_EQ(n[0], REGION_MAX);
	CHECK(n[1] >= 1);
	CHECK_EQ(n[2], 2);
	CHECK_EQ(n[3], 4);
	CHECK_EQ(n[4], 9); /* the GONE one is there, the forgotten one is not */
	CHECK_EQ(running, 4);
	(void)reg_inspect_close(ins);
}

static void test_sound(void **state)
{
	static struct findings found;
	struct stat before, after;
	struct bed bed;

	(void)state;
	bed_make(&bed);
	CHECK_EQ(stat(bed.rig.path, &before), 0);
	check(bed.rig.path, &found, true);
	CHECK_EQ(total(&found), 0);
	CHECK(!found.sum.live);
	CHECK_EQ(found.sum.looks, 1);
	CHECK_EQ(found.sum.records, 9);
	CHECK_EQ(found.sum.slots_held, 6); /* 4 running, lost, stopping */
	CHECK_EQ(found.sum.agents, 4);
	CHECK_EQ(found.sum.ports, 6);
	dump_all(bed.rig.path);
	CHECK_EQ(stat(bed.rig.path, &after), 0);
	CHECK_EQ(after.st_blocks, before.st_blocks);
	CHECK_EQ(after.st_size, before.st_size);
	CHECK_EQ(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
	CHECK_EQ(bed_changed(&bed), 0);
	bed_free(&bed);
}

/* Marks of allocation that lie must not lead to holes, either. */
static void test_holes_stay(void **state)
{
	static struct findings found;
	struct stat before, after;
	struct bed bed;

	(void)state;
	bed_make(&bed);
	memset(bed_at(&bed, REGION_ENSURED, 0), 0xff, bed.geo.bytes / 65536 / 8);
	for (unsigned int k = 0; k < CELLS_MAX; k++)
		bed_header(&bed)->high[k] = UINT32_MAX;
	CHECK_EQ(stat(bed.rig.path, &before), 0);
	check(bed.rig.path, &found, false);
	dump_all(bed.rig.path);
	CHECK_EQ(found.n[REG_FINDING_MEMORY], 1);
	CHECK_EQ(stat(bed.rig.path, &after), 0);
	CHECK_EQ(after.st_blocks, before.st_blocks);
	bed_free(&bed);
}

/* ---- one thing wrong at a time ---- */

static uint64_t with_state(uint64_t w, unsigned int state)
{
	return (w & ~UINT64_C(15)) | state;
}

static uint64_t with_owner(uint64_t w, uint32_t owner)
{
	return (w & ~BITS_PUT(1023, CELL_OWNER_SHIFT, CELL_OWNER_WIDTH)) |
	       BITS_PUT(owner, CELL_OWNER_SHIFT, CELL_OWNER_WIDTH);
}

static a64 *word_of(struct bed *bed, const char *name)
{
	return bed_cell(bed, CELLS_RECORDS, bed_find(bed, name));
}

static struct reg_rec *rec_of(struct bed *bed, const char *name)
{
	return bed_rec(bed, bed_find(bed, name));
}

static a64 *blob_cell(struct bed *bed, uint64_t ref)
{
	CHECK(ref & REF_VALID);
	return bed_cell(bed, CELLS_BLOB0 + ref_class(ref), ref_idx(ref));
}

static uint64_t *blob_head(struct bed *bed, uint64_t ref)
{
	return bed_at(bed, REGION_BLOB + ref_class(ref),
		      (uint64_t)ref_idx(ref) * reg_blob_unit[ref_class(ref)]);
}

static a64 *free_entry(struct bed *bed, enum reg_index_kind kind, uint32_t bucket)
{
	struct reg_bucket *b = bed_bucket(bed, kind, bucket);

	for (int i = 0; i < REG_BUCKET_ENTRIES; i++)
		if (!b->entry[i])
			return &b->entry[i];
	CHECK(false);
	return NULL;
}

#define POKE(name) static void poke_##name(struct bed *bed)
POKE(magic)
{
	bed_header(bed)->magic ^= 1;
}
POKE(version)
{
	bed_header(bed)->version++;
}
POKE(stamp)
{
	bed_header(bed)->stamp ^= UINT64_C(1) << 40;
}
POKE(limit_none)
{
	bed_header(bed)->max_pools = 0;
}
POKE(limit_high)
{
	bed_header(bed)->max_agents = REG_MAX_AGENTS + 1;
}
POKE(size)
{
	bed_header(bed)->total_bytes += 65536;
}
POKE(region)
{
	bed_header(bed)->region[REGION_RECORDS].off += 4096;
}
POKE(instance)
{
	bed_header(bed)->instance[31] = 'X';
}
POKE(memory)
{
	a64 *bits = bed_at(bed, REGION_ENSURED, 0);

	bits[bed->geo.bytes / 65536 / 64 - 1] = ~UINT64_C(0);
}
POKE(high)
{
	bed_header(bed)->high[CELLS_RECORDS] = 2;
}
POKE(high_over)
{
	bed_header(bed)->high[CELLS_BLOB1] = UINT32_MAX;
}
POKE(free_word)
{
	*bed_cell(bed, CELLS_RECORDS, 100) = UINT64_C(1) << 50;
}
POKE(state_word)
{
	*bed_cell(bed, CELLS_CHUNKS, 0) |= 15;
}
POKE(part_state)
{
	bed_part(bed, 0)->word = 9;
}
POKE(part_kind)
{
	bed_part(bed, 0)->word = part_word(PART_LIVE, 77, 1);
}
POKE(part_mark)
{
	bed_part(bed, 0)->word = part_word(PART_LEFT, REG_KIND_WORKER, 1);
	bed_part(bed, 0)->changing = rig_limits.sandboxes + 1;
}
POKE(part_grace)
{
	bed_part(bed, 0)->word = part_word(PART_LEFT, REG_KIND_WORKER, 1);
	bed_part(bed, 0)->gp_done = UINT64_MAX;
}
POKE(parts_high)
{
	bed_part(bed, 0)->word = part_word(PART_LIVE, REG_KIND_WORKER, 1);
	bed_header(bed)->parts_high = 0;
}
POKE(owner_unknown)
{
	a64 *w = word_of(bed, "running");

	*w = with_owner(with_state(*w, REG_STARTING), 200);
}
POKE(owner_of_running)
{
	a64 *w = word_of(bed, "running");

	bed_part(bed, 0)->word = part_word(PART_LIVE, REG_KIND_WORKER, 1);
	*w = with_owner(*w, 0);
}
POKE(owner_none)
{
	a64 *w = word_of(bed, "running");

	*w = with_owner(with_state(*w, REG_RESERVED), CELL_OWNER_NONE);
}
POKE(text)
{
	memset(rec_of(bed, "running")->name, 'x', 256);
}
POKE(text_empty)
{
	rec_of(bed, "running")->id[0] = 0;
}
POKE(hash)
{
	rec_of(bed, "running")->name_hash ^= 1;
}
POKE(request_hash)
{
	rec_of(bed, "running")->request_key_hash ^= 1;
}
POKE(pool)
{
	rec_of(bed, "running")->pool_and_consistency |= 0xf;
}
POKE(port_twice)
{
	struct reg_rec *rec = rec_of(bed, "ported");

	rec->ports[0] = (rec->ports[0] & ~UINT64_C(0xffff0000)) | (rec->ports[0] & 0xffff) << 16;
}
POKE(port_many)
{
	rec_of(bed, "ported")->pool_and_consistency |= BITS_PUT(255, 40, 8);
}
POKE(name_gone)
{
	*bed_entry(bed, INDEX_NAMES, bed_find(bed, "running"), NULL) = 0;
}
POKE(request_gone)
{
	*bed_entry(bed, INDEX_REQUESTS, bed_find(bed, "lost"), NULL) = 0;
}
POKE(port_gone)
{
	*bed_entry(bed, INDEX_PORTS, bed_find(bed, "ported"), NULL) = 0;
}
POKE(place_none)
{
	rec_of(bed, "running")->place = 0;
}
POKE(place_wild)
{
	rec_of(bed, "running")->place |= BITS_PUT(0x3ffff, 0, 18);
}
POKE(place_of_gone)
{
	uint32_t gone = 0;

	while (word_state(*bed_cell(bed, CELLS_RECORDS, gone)) != REG_GONE)
		gone++;
	bed_rec(bed, gone)->place |= PLACE_HELD;
}
POKE(slot_freed)
{
	a64 *slot = bed_slot_of(bed, bed_find(bed, "running"));

	*slot = cell_free(*slot);
}
POKE(slot_generation)
{
	*bed_slot_of(bed, bed_find(bed, "lost")) += UINT64_C(1) << CELL_GEN_SHIFT;
}
POKE(spec_none)
{
	rec_of(bed, "running")->spec = 0;
}
POKE(spec_short)
{
	rec_of(bed, "running")->spec = ref_inline(3);
}
POKE(spec_wild)
{
	rec_of(bed, "large")->spec = ref_make(15, 7, 1);
}
POKE(spec_freed)
{
	a64 *w = blob_cell(bed, rec_of(bed, "large")->spec);

	*w = cell_free(*w);
}
POKE(labels_freed)
{
	a64 *w = blob_cell(bed, rec_of(bed, "running")->labels);

	*w = cell_free(*w);
}
POKE(labels_wild)
{
	rec_of(bed, "running")->labels = ref_make(2, 0xfffffff, 1);
}
POKE(revision)
{
	struct reg_rec *rec = rec_of(bed, "running");

	rec->stored = rec->revision + 1;
}
POKE(head)
{
	a64 *w = word_of(bed, "running");

	bed_part(bed, 0)->word = part_word(PART_LIVE, REG_KIND_WORKER, 1);
	*w = rec_move(*w, REG_CLAIMED, 0, REC_GANG);
	rec_of(bed, "running")->head = head_make(0x3fffff, 1);
}
POKE(gang)
{
	struct reg_pool *pool = bed_at(bed, REGION_POOLS, 0);

	pool->gang = gang_take(pool->gang, 99);
}
POKE(slot_owner)
{
	a64 *slot = bed_slot_of(bed, bed_find(bed, "running"));

	bed_part(bed, 0)->word = part_word(PART_LIVE, REG_KIND_WORKER, 1);
	*slot = with_owner(*slot, 0);
}
POKE(slot_nobody)
{
	a64 *slot = bed_slot_of(bed, bed_find(bed, "running"));

	*slot = with_state(*slot, SLOT_RESERVED);
}
POKE(slot_wild)
{
	*bed_slot_of(bed, bed_find(bed, "running")) |= BITS_PUT(0x3fffff, CELL_RECORD_SHIFT, 22);
}
POKE(slot_second)
{
	a64 *slot = bed_at(bed, REGION_CHUNK_SLOTS, 40 * 8);

	CHECK_EQ(word_state(*slot), SLOT_FREE);
	*slot = cell_take(*slot, SLOT_BUSY, CELL_OWNER_NONE, bed_find(bed, "running"));
}
POKE(chunk_wild)
{
	bed_agent(bed, 1)->chunk[1] = UINT32_MAX;
}
POKE(chunk_free)
{
	a64 *w = bed_cell(bed, CELLS_CHUNKS, bed_agent(bed, 1)->chunk[0] - 1);

	*w = cell_free(*w);
}
POKE(chunk_twice)
{
	bed_agent(bed, 1)->chunk[1] = bed_agent(bed, 1)->chunk[0];
}
POKE(chunk_foreign)
{
	bed_agent(bed, 1)->chunk[1] = bed_agent(bed, 0)->chunk[1];
}
POKE(agent_generation)
{
	struct reg_agent *a = bed_agent(bed, 1);

	a->hot = hot_pack(hot_slots(a->hot), hot_capacity(a->hot), hot_flags(a->hot), 77);
}
POKE(agent_cold)
{
	bed_agent(bed, 1)->cold = bed_agent(bed, 2)->cold;
}
POKE(agent_images)
{
	bed_agent(bed, 1)->images = REG_AGENT_IMAGES_MAX + 1;
}
POKE(row_owner)
{
	a64 *w = bed_cell(bed, CELLS_AGENTS, 1);

	*w = cell_mark(*w, ROW_RETIRING, CELL_OWNER_NONE, 0);
}
POKE(row_live_owned)
{
	a64 *w = bed_cell(bed, CELLS_POOLS, 0);

	bed_part(bed, 0)->word = part_word(PART_LIVE, REG_KIND_WORKER, 1);
	*w = cell_mark(*w, ROW_LIVE, 0, 0);
}
POKE(row_retired)
{
	a64 *w = bed_cell(bed, CELLS_IMAGES, 0);

	*w = cell_mark(*w, ROW_RETIRED, CELL_OWNER_NONE, 3);
}
POKE(retire_live)
{
	struct reg_retire *e = bed_at(bed, REGION_RETIRE, 2 * sizeof(*e));

	e->what = retire_make(CELLS_IMAGES, CELL_OWNER_NONE, 0,
			      word_gen(*bed_cell(bed, CELLS_IMAGES, 0)));
}
POKE(retire_wild)
{
	struct reg_retire *e = bed_at(bed, REGION_RETIRE, 1023 * sizeof(*e));

	e->what = UINT64_MAX;
}
POKE(slots_many)
{
	bed_agent(bed, 1)->hot = hot_make(4096, true);
}
POKE(agent_pool)
{
	bed_agent(bed, 1)->pool = 9;
}
POKE(agent_text)
{
	bed_agent(bed, 1)->name[0] = 0;
}
POKE(image_text)
{
	memset(bed_at(bed, REGION_IMAGES, 0), 'i', sizeof(struct reg_image));
}
POKE(agent_entry)
{
	*bed_entry(bed, INDEX_AGENTS, 1, NULL) = 0;
}
POKE(pool_entry)
{
	*bed_entry(bed, INDEX_POOLS, 0, NULL) = 0;
}
POKE(image_entry)
{
	*bed_entry(bed, INDEX_IMAGES, 0, NULL) = 0;
}
POKE(entry_state)
{
	*bed_entry(bed, INDEX_NAMES, bed_find(bed, "running"), NULL) |= 3;
}
POKE(entry_wild)
{
	*bed_entry(bed, INDEX_NAMES, bed_find(bed, "running"), NULL) |= BITS_PUT(0x3fffff, 14, 22);
}
POKE(entry_alone)
{
	*free_entry(bed, INDEX_NAMES, 5) = entry_make(ENTRY_COMMITTED, UINT64_C(5) << 52, 3000, 7);
}
POKE(entry_of_gone)
{
	uint32_t gone = 0;

	while (word_state(*bed_cell(bed, CELLS_RECORDS, gone)) != REG_GONE)
		gone++;
	*free_entry(bed, INDEX_NAMES, (uint32_t)bed_rec(bed, gone)->name_hash) =
		entry_make(ENTRY_COMMITTED, bed_rec(bed, gone)->name_hash, gone,
			   word_gen(*bed_cell(bed, CELLS_RECORDS, gone)));
}
POKE(entry_tentative)
{
	a64 *e = bed_entry(bed, INDEX_NAMES, bed_find(bed, "running"), NULL);

	*e = (*e & ~UINT64_C(3)) | ENTRY_TENTATIVE;
}
POKE(entry_far)
{
	uint32_t bucket;
	a64 *e = bed_entry(bed, INDEX_NAMES, bed_find(bed, "running"), &bucket);

	*free_entry(bed, INDEX_NAMES, bucket + 100) = *e;
	*e = 0;
}
POKE(entry_tag)
{
	*bed_entry(bed, INDEX_AGENTS, 1, NULL) ^= 1 << 5;
}
POKE(entry_hidden)
{
	uint32_t bucket;
	a64 *e = bed_entry(bed, INDEX_NAMES, bed_find(bed, "running"), &bucket);

	*free_entry(bed, INDEX_NAMES, bucket + 1) = *e;
	*e = 0;
}
POKE(entry_twice)
{
	uint32_t bucket;
	uint64_t e = *bed_entry(bed, INDEX_NAMES, bed_find(bed, "running"), &bucket);

	*free_entry(bed, INDEX_NAMES, bucket) = e;
}
/* Two sandboxes of one name. */
POKE(name_twice)
{
	uint32_t a = bed_find(bed, "running"), b = bed_find(bed, "large"), bucket;
	a64 *e = bed_entry(bed, INDEX_NAMES, b, NULL), *mine;

	mine = bed_entry(bed, INDEX_NAMES, a, &bucket);
	memcpy(bed_rec(bed, b)->name, bed_rec(bed, a)->name, 256);
	bed_rec(bed, b)->name_hash = bed_rec(bed, a)->name_hash;
	*e = 0;
	*free_entry(bed, INDEX_NAMES, bucket) =
		entry_make(ENTRY_COMMITTED, bed_rec(bed, a)->name_hash, b,
			   word_gen(*bed_cell(bed, CELLS_RECORDS, b)));
	CHECK(entry_state(*mine) == ENTRY_COMMITTED);
}
POKE(blob_length)
{
	*blob_head(bed, rec_of(bed, "large")->spec) |= 0xffffff;
}
POKE(blob_twice)
{
	uint64_t labels = rec_of(bed, "running")->labels;

	rec_of(bed, "running")->message = labels;
}
/* leftovers */
POKE(part_dead)
{
	bed_part(bed, 0)->word = part_word(PART_LIVE, REG_KIND_WORKER, 1);
}
POKE(not_settled)
{
	uint32_t idx = bed_find(bed, "running");
	a64 *w = bed_cell(bed, CELLS_RECORDS, idx);

	*w = with_state(*w, REG_EXITED);
}
POKE(late_ref)
{
	uint64_t ref = rec_of(bed, "running")->labels;

	rec_of(bed, "running")->message = ref_make(ref_class(ref), ref_idx(ref), ref_gen(ref) + 1);
}
POKE(blob_unused)
{
	rec_of(bed, "running")->labels = 0;
}
POKE(chunk_unused)
{
	struct reg_agent *a = bed_agent(bed, 3);

	a->chunk[1] = 0;
	a->hot = hot_pack(64, 64, hot_flags(a->hot), hot_gen(a->hot));
}
POKE(row_dead)
{
	a64 *w = bed_cell(bed, CELLS_POOLS, 5);

	bed_part(bed, 0)->word = part_word(PART_LIVE, REG_KIND_WORKER, 1);
	*w = cell_take(*w, ROW_NEW, 0, 0);
	bed_header(bed)->high[CELLS_POOLS] = 6;
	*(a64 *)bed_at(bed, REGION_CELL_BITS + CELLS_POOLS, 0) |= 32;
}
POKE(cold_unused)
{
	bed_agent(bed, 1)->cold = 0;
}
/* Its port leads to another one of the same agent. */
POKE(port_shared)
{
	struct reg_rec *a = rec_of(bed, "ported"), *b = rec_of(bed, "ported2");

	CHECK_EQ(place_agent(a->place), place_agent(b->place)); /* the one with the image */
	b->ports[0] = (b->ports[0] & ~UINT64_C(0xffff)) | (a->ports[0] & 0xffff);
}
/* hints */
POKE(mask)
{
	*(a64 *)bed_at(bed, REGION_CHUNK_MASKS, 0) ^= UINT64_C(1) << 33;
}
POKE(hint)
{
	*(a16 *)bed_at(bed, REGION_HINTS, 2) += 1;
}
POKE(cell_bit)
{
	*(a64 *)bed_at(bed, REGION_CELL_BITS + CELLS_RECORDS, 0) &= ~UINT64_C(1);
}
POKE(overflow)
{
	bed_bucket(bed, INDEX_NAMES, 3)->overflow += 1;
}
static a64 *members_of(struct bed *bed, enum reg_region region, uint32_t row)
{
	return (a64 *)bed_at(bed, region, (uint64_t)row * bed->geo.members_words * 8) +
	       bed->geo.stripe_words;
}
POKE(pool_bit)
{
	members_of(bed, REGION_POOL_BITS, 0)[0] ^= 1;
}
POKE(image_bit)
{
	members_of(bed, REGION_IMAGE_BITS, 0)[0] |= UINT64_C(1) << 60;
}
POKE(stripe)
{
	members_of(bed, REGION_IMAGE_BITS, 0)[0] = 0;
}
POKE(member_hidden)
{
	*(a64 *)bed_at(bed, REGION_IMAGE_BITS, 0) = 0;
}
POKE(low)
{
	struct reg_pool *pool = bed_at(bed, REGION_POOLS, 0);

	pool->lows_used |= 1;
	pool->low[0][0] = 1 << 16 | 60;
}
POKE(low_unused)
{
	struct reg_pool *pool = bed_at(bed, REGION_POOLS, 0);

	pool->lows_used &= ~UINT64_C(2);
	pool->low[1][0] = 1 << 16;
}
POKE(port_row)
{
	bed_header(bed)->port[7] = 65536;
}
POKE(port_bit)
{
	/* the row lies in memory that nobody asked for so far */
	a64 *bits = bed_at(bed, REGION_PORT_BITS, 0);
	a64 *ensured = bed_at(bed, REGION_ENSURED, 0);
	uint64_t chunk = bed->geo.span[REGION_PORT_BITS].off >> REG_CHUNK_SHIFT;

	ensured[chunk / 64] |= UINT64_C(1) << (chunk % 64);
	bed_header(bed)->port[0] = 80;
	*bits = 1;
}
POKE(limit)
{
	struct reg_agent *a = bed_agent(bed, 1);

	a->hot = hot_with_slots(a->hot, hot_slots(a->hot) - 1);
}
POKE(image_unlisted)
{
	bed_agent(bed, 1)->image[0] = 0;
}
POKE(dirty)
{
	*(a64 *)bed_at(bed, REGION_DIRTY, 0) = 0;
}
POKE(ensured)
{
	a64 *bits = bed_at(bed, REGION_ENSURED, 0);
	uint64_t chunk = bed->geo.span[REGION_RECORDS].off >> REG_CHUNK_SHIFT;

	bits[chunk / 64] &= ~(UINT64_C(1) << (chunk % 64));
}

static const struct poke {
	const char *name;
	void (*fn)(struct bed *bed);
	enum reg_finding_kind want;
	const char *where; /* how it begins */
} pokes[] = {
#define P(name, want, where)                                                                       \
	{                                                                                          \
#name, poke_##name, REG_FINDING_##want, where                                      \
	}
	P(magic, HEADER_MAGIC, "header"),
	P(version, HEADER_VERSION, "header"),
	P(stamp, HEADER_STAMP, "header"),
	P(limit_none, HEADER_LIMITS, "header"),
	P(limit_high, HEADER_LIMITS, "header"),
	P(size, HEADER_SIZE, "header"),
	P(region, HEADER_REGIONS, "header"),
	P(instance, HEADER_INSTANCE, "header"),
	P(memory, MEMORY, "header"),
	P(high, HIGH_MARK, "record 2"),
	P(high_over, HIGH_MARK, "header"),
	P(free_word, CELL_WORD, "record 100"),
	P(state_word, CELL_WORD, "chunk 0"),
	P(part_state, PART_WORD, "participant 0"),
	P(part_kind, PART_WORD, "participant 0"),
	P(part_mark, PART_MARK, "participant 0"),
	P(part_grace, PART_GRACE, "participant 0"),
	P(parts_high, PARTS_HIGH, "participant 0"),
	P(owner_unknown, RECORD_OWNER, "record "),
	P(owner_of_running, RECORD_OWNER, "record "),
	P(owner_none, RECORD_OWNER, "record "),
	P(text, RECORD_TEXT, "record "),
	P(text_empty, RECORD_TEXT, "record "),
	P(hash, RECORD_HASH, "record "),
	P(request_hash, RECORD_HASH, "record "),
	P(pool, RECORD_POOL, "record "),
	P(port_twice, RECORD_PORTS, "record "),
	P(port_many, RECORD_PORTS, "record "),
	P(name_gone, RECORD_NAME, "record "),
	P(request_gone, RECORD_REQUEST, "record "),
	P(port_gone, RECORD_PORT, "record "),
	P(place_none, RECORD_PLACE, "record "),
	P(place_wild, RECORD_PLACE, "record "),
	P(place_of_gone, RECORD_PLACE, "record "),
	P(slot_freed, RECORD_SLOT, "record "),
	P(slot_generation, RECORD_SLOT, "record "),
	P(spec_none, RECORD_BLOB, "record "),
	P(spec_short, RECORD_BLOB, "record "),
	P(spec_wild, RECORD_BLOB, "record "),
	P(spec_freed, RECORD_BLOB, "record "),
	P(labels_freed, RECORD_BLOB, "record "),
	P(labels_wild, RECORD_BLOB, "record "),
	P(revision, RECORD_REVISION, "record "),
	P(head, RECORD_HEAD, "record "),
	P(gang, GANG, "pool 0"),
	P(slot_owner, SLOT_OWNER, "agent "),
	P(slot_nobody, SLOT_OWNER, "agent "),
	P(slot_wild, SLOT_RECORD, "agent "),
	P(slot_second, SLOT_RECORD, "agent "),
	P(chunk_wild, CHUNK, "agent 1 chunk 1"),
	P(chunk_free, CHUNK, "agent 1 chunk 0"),
	P(chunk_foreign, CHUNK, "agent 1 chunk 1"),
	P(chunk_twice, CHUNK_TWICE, "agent 1 chunk 1"),
	P(agent_generation, AGENT_GENERATION, "agent 1"),
	P(agent_cold, AGENT_COLD, "agent 1"),
	P(agent_images, AGENT_IMAGES, "agent 1"),
	P(row_owner, ROW_OWNER, "agent 1"),
	P(row_live_owned, ROW_OWNER, "pool 0"),
	P(row_retired, ROW_RETIRED, "image 0"),
	P(retire_live, RETIRE, "retire list entry 2"),
	P(retire_wild, RETIRE, "retire list entry 1023"),
	P(slots_many, AGENT_SLOTS, "agent 1"),
	P(agent_pool, AGENT_POOL, "agent 1"),
	P(agent_text, ROW_TEXT, "agent 1"),
	P(image_text, ROW_TEXT, "image 0"),
	P(agent_entry, ROW_ENTRY, "agent 1"),
	P(pool_entry, ROW_ENTRY, "pool 0"),
	P(image_entry, ROW_ENTRY, "image 0"),
	P(entry_state, ENTRY_WORD, "index names"),
	P(entry_wild, ENTRY_WORD, "index names"),
	P(entry_alone, ENTRY_DANGLING, "index names bucket 5"),
	P(entry_of_gone, ENTRY_DANGLING, "index names"),
	P(entry_tentative, ENTRY_WORD, "index names"),
	P(entry_far, ENTRY_KEY, "index names"),
	P(entry_tag, ENTRY_KEY, "index agents"),
	P(entry_hidden, ENTRY_HIDDEN, "index names"),
	P(entry_twice, ENTRY_TWICE, "record "),
	P(name_twice, ENTRY_TWICE, "record "),
	P(blob_length, BLOB_LENGTH, "blob 2 "),
	P(blob_twice, BLOB_TWICE, "record "),
	P(part_dead, PART_DEAD, "participant 0"),
	P(not_settled, NOT_SETTLED, "record "),
	P(late_ref, LATE_REF, "record "),
	P(blob_unused, BLOB_UNUSED, "blob 0 "),
	P(chunk_unused, CHUNK_UNUSED, "chunk "),
	P(row_dead, OWNER_DEAD, "pool 5"),
	P(cold_unused, COLD_UNUSED, "cold "),
	P(port_shared, PORT_SHARED, "record "),
	P(mask, MASK, "agent 0 chunk 0"),
	P(hint, HINT, "agent 1"),
	P(cell_bit, CELL_BIT, "record 0"),
	P(overflow, OVERFLOW, "index names bucket 3"),
	P(pool_bit, POOL_BIT, "agent 0"),
	P(port_row, PORT_ROW, "port 65536"),
	P(port_bit, PORT_BIT, "port 80"),
	P(limit, LIMIT, "agent 1"),
	P(image_unlisted, IMAGE_UNLISTED, "agent 1"),
	P(image_bit, IMAGE_BIT, "image 0"),
	P(stripe, STRIPE, "image 0"),
	P(member_hidden, MEMBER_HIDDEN, "image 0"),
	P(low, LOW, "pool 0"),
	P(low_unused, LOW, "pool 0"),
	P(dirty, DIRTY, "record "),
	P(ensured, ENSURED, "header"),
#undef P
};

/* A class that is less than broken must stay less: nothing broken beside it. */
static void check_class(const struct poke *poke, const struct findings *found)
{
	static const enum reg_finding_class classes[REG_FINDING_MAX] = {
#define CLASS(name, class_, text) REG_FINDING_##class_,
		REG_FINDING_LIST(CLASS)
#undef CLASS
	};
	enum reg_finding_class want = classes[poke->want];

	CHECK(found->sum.findings[want] > 0);
	/* that one's former port leads to it no more */
	if (want != REG_FINDING_BROKEN && poke->fn != poke_port_shared)
		CHECK_EQ(found->sum.findings[REG_FINDING_BROKEN], 0);
	if (want == REG_FINDING_STALE)
		CHECK_EQ(found->sum.findings[REG_FINDING_LEFTOVER], 0);
}

static void test_each_invariant(void **state)
{
	static struct findings found;
	bool seen[REG_FINDING_MAX] = {false};
	struct bed bed;

	(void)state;
	bed_make(&bed);
	for (size_t i = 0; i < sizeof(pokes) / sizeof(pokes[0]); i++) {
		const struct poke *poke = &pokes[i];

		bed_restore(&bed);
		poke->fn(&bed);
		check(bed.rig.path, &found, false);
		if (!found.n[poke->want])
			check(bed.rig.path, &found, true);
		rig_note("poke '%s': found %u, first at '%s'", poke->name, found.n[poke->want],
			 found.where[poke->want]);
		CHECK(found.n[poke->want] > 0);
		CHECK(!strncmp(found.where[poke->want], poke->where, strlen(poke->where)));
		check_class(poke, &found);
		seen[poke->want] = true;
		bed_restore(&bed);
		check(bed.rig.path, &found, true);
		CHECK_EQ(total(&found), 0);
	}
	seen[REG_FINDING_OWNER_DEAD] = true; /* below */
	for (int k = 0; k < REG_FINDING_MAX; k++) {
		rig_note("finding %d is poked", k);
		CHECK(seen[k]);
	}
	bed_free(&bed);
}

/* ---- what a killed process leaves ---- */

static void test_killed(void **state)
{
	static struct findings found;
	struct bed bed;

	(void)state;
	bed_make_killed(&bed);
	check(bed.rig.path, &found, true);
	CHECK(!found.sum.live);
	CHECK_EQ(found.sum.findings[REG_FINDING_BROKEN], 0);
	CHECK_EQ(found.n[REG_FINDING_PART_DEAD], 1);
	CHECK_EQ(found.n[REG_FINDING_OWNER_DEAD], 4); /* two records, two slots */
	CHECK_EQ(found.sum.findings[REG_FINDING_STALE], 0);
	CHECK_EQ(bed_changed(&bed), 0);
	bed_free(&bed);
}

/* ---- what is no arena ---- */

static void test_no_arena(void **state)
{
	static struct findings found;
	struct reg_inspect *ins = NULL;
	struct reg_inspect_header header;
	struct bed bed;
	int fd;

	(void)state;
	rig_path(&bed.rig);
	CHECK_ST(reg_inspect_open(bed.rig.path, &ins), REG_NO_ARENA);
	CHECK_ST(reg_inspect_open("/dev/shm", &ins), REG_BAD_MAGIC);
	CHECK(!ins);
	CHECK(!reg_inspect_close(NULL));
	fd = open(bed.rig.path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	for (size_t len = 0; len < 70000; len = len * 3 + 5) { /* zeros, shorter and longer */
		CHECK_EQ(ftruncate(fd, (off_t)len), 0);
		CHECK_OK(reg_inspect_open(bed.rig.path, &ins));
		reg_inspect_header(ins, &header);
		CHECK_ST(header.verdict, REG_BAD_MAGIC);
		(void)reg_inspect_close(ins);
		check(bed.rig.path, &found, false);
		CHECK_EQ(found.n[REG_FINDING_HEADER_MAGIC], 1);
		CHECK_EQ(total(&found), 1);
	}
	(void)close(fd);
	(void)unlink(bed.rig.path);
}

/* What is left of a file that was cut: the size is wrong, the rest reads as empty. */
static void test_truncated(void **state)
{
	static struct findings found;
	struct bed bed;

	(void)state;
	bed_make(&bed);
	for (uint64_t len = bed.size - 1; len > sizeof(struct reg_header); len = len / 2) {
		CHECK_EQ(truncate(bed.rig.path, (off_t)len), 0);
		check(bed.rig.path, &found, false);
		CHECK(found.n[REG_FINDING_HEADER_SIZE] > 0);
	}
	bed_free(&bed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sound),	       cmocka_unit_test(test_holes_stay),
		cmocka_unit_test(test_each_invariant), cmocka_unit_test(test_killed),
		cmocka_unit_test(test_no_arena),       cmocka_unit_test(test_truncated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
