/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inspector's look at what frames everything else: header, participants, the words of all
 * cells, high marks, and what the file system has given.
 */
#include "inspect.h"

#include <sys/stat.h>
#include <sys/vfs.h>

#define TMPFS 0x01021994 /* f_type */

static void header(struct reg_inspect *ins, enum reg_finding_kind kind, uint64_t a, uint64_t b)
{
	ins_found(ins, kind, (struct ins_found){.subject = INS_HEADER, .w = {a, b}});
}

static bool limit_ok(uint32_t value, uint32_t max)
{
	return value && value <= max;
}

static void look_limits(struct reg_inspect *ins)
{
	const struct reg_header *h = &ins->hdr;
	const struct {
		uint32_t value, max;
	} limits[] = {
		{h->max_agents, REG_MAX_AGENTS},
		{h->max_sandboxes, REG_MAX_SANDBOXES},
		{h->max_pools, REG_MAX_POOLS},
		{h->max_images, REG_MAX_IMAGES},
		{h->slots_unlimited, REG_SLOTS_PER_AGENT_MAX},
	};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
		if (!limit_ok(limits[i].value, limits[i].max))
			header(ins, REG_FINDING_HEADER_LIMITS, limits[i].value, limits[i].max);
}

void ins_look_header(struct reg_inspect *ins)
{
	const struct reg_header *h = &ins->hdr;

	if (h->magic != REG_MAGIC) {
		/* nothing else means anything then */
		header(ins, REG_FINDING_HEADER_MAGIC, h->magic, REG_MAGIC);
		return;
	}
	if (h->version != REG_LAYOUT_VERSION)
		header(ins, REG_FINDING_HEADER_VERSION, h->version, REG_LAYOUT_VERSION);
	if (h->stamp != reg__layout_stamp())
		header(ins, REG_FINDING_HEADER_STAMP, h->stamp, reg__layout_stamp());
	if (h->version != REG_LAYOUT_VERSION || h->stamp != reg__layout_stamp())
		return;
	look_limits(ins);
	if (!ins->geo.bytes)
		return;
	if (h->total_bytes != ins->geo.bytes)
		header(ins, REG_FINDING_HEADER_SIZE, h->total_bytes, ins->geo.bytes);
	if (ins->file_bytes != ins->geo.bytes)
		header(ins, REG_FINDING_HEADER_SIZE, ins->file_bytes, ins->geo.bytes);
	for (unsigned int i = 0; i < REGION_MAX; i++)
		if (memcmp(&h->region[i], &ins->geo.span[i], sizeof(h->region[i])))
			header(ins, REG_FINDING_HEADER_REGIONS, h->region[i].off,
			       ins->geo.span[i].off);
	if (strnlen(h->instance, sizeof(h->instance)) != 32 ||
	    strspn(h->instance, "0123456789abcdef") != 32)
		header(ins, REG_FINDING_HEADER_INSTANCE, strnlen(h->instance, sizeof(h->instance)),
		       32);
}

/* ---- participants ---- */

static void part(struct reg_inspect *ins, enum reg_finding_kind kind, uint32_t idx, uint64_t a,
		 uint64_t b)
{
	ins_found(ins, kind, (struct ins_found){.subject = INS_PART, .a = idx, .w = {a, b}});
}

static void look_part(struct reg_inspect *ins, uint32_t idx)
{
	uint64_t at = ins_at(ins, REGION_PARTS, (uint64_t)idx * sizeof(struct reg_part));
	uint64_t w = ins_u64(ins, at), state = BITS_GET(w, 0, 8), kind = BITS_GET(w, 8, 8);
	uint32_t releasing = ins_u32(ins, at + offsetof(struct reg_part, releasing));
	uint32_t changing = ins_u32(ins, at + offsetof(struct reg_part, changing));
	uint64_t done = ins_u64(ins, at + offsetof(struct reg_part, gp_done)), asked;
	/* relaxed, both: a private copy, or another look */
	uint32_t high = atomic_load_explicit(&ins->hdr.parts_high, memory_order_relaxed);

	asked = ins_u64(ins, offsetof(struct reg_header, gp_requested));
	if (state > PART_LEFT || (state == PART_FREE && kind) ||
	    (state != PART_FREE && (kind < REG_KIND_WORKER || kind > REG_KIND_TOOL)) ||
	    BITS_GET(w, 16, 16))
		part(ins, REG_FINDING_PART_WORD, idx, w, 0);
	if (state == PART_FREE)
		return;
	if (done > asked)
		part(ins, REG_FINDING_PART_GRACE, idx, done, asked);
	if (idx >= high)
		part(ins, REG_FINDING_PARTS_HIGH, idx, w, high);
	if (!ins->alive[idx])
		part(ins, REG_FINDING_PART_DEAD, idx, w, 0);
	if (releasing > ins->geo.max[CELLS_POOLS])
		part(ins, REG_FINDING_PART_MARK, idx, releasing, ins->geo.max[CELLS_POOLS]);
	if (changing > ins->geo.max[CELLS_RECORDS])
		part(ins, REG_FINDING_PART_MARK, idx, changing, ins->geo.max[CELLS_RECORDS]);
}

void ins_look_parts(struct reg_inspect *ins)
{
	for (uint32_t i = 0; i < REG_PARTICIPANTS_MAX; i++)
		look_part(ins, i);
}

/* ---- cells ---- */

/* A free word has its generation and nothing else; states by kind. */
static bool cell_word_ok(enum reg_cells_kind kind, uint64_t w)
{
	unsigned int state = word_state(w);

	if (!state)
		return !(w & ~BITS_PUT(GEN_MASK, CELL_GEN_SHIFT, GEN_WIDTH));
	if (!word_gen(w))
		return false;
	if (kind == CELLS_RECORDS)
		return state <= REG_GONE;
	return state <= (kind < CELLS_BLOB0 ? (unsigned int)ROW_HELD : BLOB_USED);
}

static void look_cell(struct reg_inspect *ins, enum reg_cells_kind kind, uint32_t idx)
{
	uint64_t w = ins_cell(ins, kind, idx);
	struct ins_found f = {
		.subject = INS_CELL, .sub = (uint8_t)kind, .a = idx, .w = {w, ins->high[kind]}};

	if (!cell_word_ok(kind, w))
		ins_found(ins, REG_FINDING_CELL_WORD, f);
	if (!word_state(w))
		return;
	if (idx >= ins->high[kind])
		ins_found(ins, REG_FINDING_HIGH_MARK, f);
	if (!ins_bit(ins, REGION_CELL_BITS + kind, idx)) {
		f.w[1] = 0;
		ins_found(ins, REG_FINDING_CELL_BIT, f);
	}
}

/* Memory that the file system has given must be known as given: who maps it takes it as empty
 * otherwise; and what is marked must have been given, or a full file system kills who touches it.
 */
static void look_memory(struct reg_inspect *ins)
{
	uint64_t chunks = ins->geo.bytes >> REG_CHUNK_SHIFT, marked = 0;
	struct statfs fs;
	struct stat sb;

	for (uint64_t c = 0; c < chunks; c++) {
		bool bit = ins_bit(ins, REGION_ENSURED, c), data = false;

		marked += bit;
		for (uint64_t p = 0; p < 1 << (REG_CHUNK_SHIFT - INS_PAGE_SHIFT) && !bit; p++)
			data = data ||
			       ins_there(ins, (c << REG_CHUNK_SHIFT) + (p << INS_PAGE_SHIFT));
		if (data)
			header(ins, REG_FINDING_ENSURED, c, 0);
	}
	/* on others a block may be shared or compressed */
	if (!fstat(ins->fd, &sb) && !fstatfs(ins->fd, &fs) && fs.f_type == TMPFS &&
	    (uint64_t)sb.st_blocks * 512 < marked << REG_CHUNK_SHIFT)
		header(ins, REG_FINDING_MEMORY, marked << REG_CHUNK_SHIFT,
		       (uint64_t)sb.st_blocks * 512);
}

void ins_look_cells(struct reg_inspect *ins)
{
	for (unsigned int k = 0; k < CELLS_MAX; k++) {
		uint32_t max = ins->geo.max[k];
		uint32_t high =
			atomic_load_explicit(&ins->hdr.high[k], memory_order_relaxed); /* a copy */

		ins->high[k] = high < max ? high : max;
		if (high > max)
			header(ins, REG_FINDING_HIGH_MARK, high, max);
		for (uint32_t i = ins_next(ins, REGION_CELL_WORDS + k, 8, 0, max); i < max;
		     i = ins_next(ins, REGION_CELL_WORDS + k, 8, i + 1, max))
			look_cell(ins, (enum reg_cells_kind)k, i);
	}
	look_memory(ins);
}
