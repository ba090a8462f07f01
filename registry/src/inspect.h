/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the inspector: the mapping that is read only and never at a hole, loads from it that
 * are bounded by the layout's arithmetic (never by what the file says), and the list of what a look
 * found. Words are loaded once each; nothing here writes to the arena.
 */
#ifndef REGISTRY_SRC_INSPECT_H
#define REGISTRY_SRC_INSPECT_H

#include "internal.h"
#include "registry/inspect.h"

#define INS_PAGE_SHIFT 12
#define INS_KEEP       65536 /* findings of one look that are followed up */

/* What a finding is about: subject, sub (a kind of cells, of index, a class of blobs), a, b. */
enum ins_subject {
	INS_HEADER,
	INS_CELL,  /* sub: cells kind; a */
	INS_SLOT,  /* a: agent, b: slot */
	INS_ENTRY, /* sub: index kind; a: bucket, b: entry */
	INS_BUCKET,
	INS_PART,
	INS_CHUNK_OF, /* a: agent, b: its chunk */
	INS_PORT,     /* a: port */
	INS_RETIRE,   /* a: entry of the retire list */
};

struct ins_found {
	uint16_t kind;
	uint8_t subject, sub;
	uint32_t a, b;
	uint64_t w[2];
};

struct ins_list {
	struct ins_found *at;
	uint32_t n, room;
	bool cut;
};

struct reg_inspect {
	int fd;
	const uint8_t *base;
	uint64_t map_bytes, file_bytes;
	uint64_t *there;       /* bit per page: no hole when it was last looked at */
	struct reg_header hdr; /* a copy: of the last look */
	enum reg_status verdict;
	struct reg geo; /* constants and spans only; nothing of it is mapped */
	bool alive[REG_PARTICIPANTS_MAX], owned, live;

	/* of one look */
	struct ins_list *found;
	struct reg_inspect_sum *sum;
	uint32_t high[CELLS_MAX];
	uint64_t *blob_seen[REG_BLOB_CLASSES]; /* bit per blob: a reference leads to it */
	uint32_t *images_of;		       /* per agent: bits of images that are its */
	uint32_t *chunk_of;		       /* per chunk: agent + 1 */
	int32_t *passed[INDEX_MAX]; /* per bucket: entries that went past, less its count of them */
	bool no_memory;
};

/* ---- inspect.c ---- */
static inline bool ins_there(const struct reg_inspect *ins, uint64_t off)
{
	uint64_t page = off >> INS_PAGE_SHIFT;

	return off < ins->map_bytes && ins->there[page / 64] >> (page % 64) & 1;
}

/* The word at an 8-byte aligned offset; 0 where nothing is, as a hole reads. */
static inline uint64_t ins_u64(const struct reg_inspect *ins, uint64_t off)
{
	/* relaxed, and so every load here: another look decides what was passing */
	return ins_there(ins, off)
		       ? __atomic_load_n((const uint64_t *)(const void *)(ins->base + off),
					 __ATOMIC_RELAXED)
		       : 0;
}

static inline uint32_t ins_u32(const struct reg_inspect *ins, uint64_t off)
{
	return (uint32_t)(ins_u64(ins, off & ~UINT64_C(7)) >> (off % 8 * 8));
}

/* len is a multiple of 8, off is aligned. */
static inline void ins_copy(const struct reg_inspect *ins, uint64_t off, void *dst, uint64_t len)
{
	for (uint64_t i = 0; i < len; i += 8) {
		uint64_t w = ins_u64(ins, off + i);

		memcpy((uint8_t *)dst + i, &w, 8);
	}
}

static inline uint64_t ins_at(const struct reg_inspect *ins, enum reg_region region, uint64_t off)
{
	return ins->geo.span[region].off + off;
}

/* The word of a cell; 0 (free) when there is no such cell. */
static inline uint64_t ins_cell(const struct reg_inspect *ins, enum reg_cells_kind kind,
				uint32_t idx)
{
	return idx < ins->geo.max[kind]
		       ? ins_u64(ins, ins_at(ins, REGION_CELL_WORDS + kind, (uint64_t)idx * 8))
		       : 0;
}

/* A row of agents of a pool or an image: its words of stripes, then its words of members. */
static inline uint64_t ins_stripes(const struct reg_inspect *ins, enum reg_region region,
				   uint32_t row, uint32_t word)
{
	return ins_u64(ins,
		       ins_at(ins, region, ((uint64_t)row * ins->geo.members_words + word) * 8));
}

static inline uint64_t ins_members(const struct reg_inspect *ins, enum reg_region region,
				   uint32_t row, uint32_t word)
{
	return ins_stripes(ins, region, row, ins->geo.stripe_words + word);
}

/* Bit idx of a region that is a bitmap. */
static inline bool ins_bit(const struct reg_inspect *ins, enum reg_region region, uint64_t idx)
{
	return ins_u64(ins, ins_at(ins, region, idx / 64 * 8)) >> (idx % 64) & 1;
}

/* From idx on the first whose first byte is no hole; max when there is none. */
uint32_t ins_next(const struct reg_inspect *ins, enum reg_region region, uint32_t size,
		  uint32_t idx, uint32_t max);
/* One more finding of this look. */
void ins_found(struct reg_inspect *ins, enum reg_finding_kind kind, struct ins_found f);
/* Which pages are no holes now, who lives now, the header as it is now. False: no memory. */
bool ins_refresh(struct reg_inspect *ins);
/* A text of cap bytes that has an end and (unless empty is allowed) a beginning. */
bool ins_text_ok(const char *text, uint32_t cap, bool empty);

/* ---- owners ---- */
enum ins_owner { OWNER_NOBODY, OWNER_ALIVE, OWNER_DEAD, OWNER_UNKNOWN };
/* UNKNOWN: no participant has that number now. */
enum ins_owner ins_owner(const struct reg_inspect *ins, uint32_t owner);

/* ---- the parts of a look ---- */
void ins_look_header(struct reg_inspect *ins);
void ins_look_parts(struct reg_inspect *ins);
void ins_look_cells(struct reg_inspect *ins);
void ins_look_agents(struct reg_inspect *ins);
void ins_look_rows(struct reg_inspect *ins);
void ins_look_entries(struct reg_inspect *ins);
void ins_look_records(struct reg_inspect *ins);
void ins_look_blobs(struct reg_inspect *ins); /* after the records */

/* ---- inspect_slots.c ---- */
int16_t ins_hint(const struct reg_inspect *ins, uint32_t agent);
/* The offset of the slot's word; false: the agent has no memory for that slot. */
bool ins_slot_at(const struct reg_inspect *ins, uint32_t agent, uint32_t slot, uint64_t *ret_off);

/* ---- inspect_index.c ---- */
/* What a search for the key, made as readers make it, comes to. */
struct ins_search {
	uint32_t own;	/* committed entries for exactly that cell and generation */
	uint32_t other; /* committed entries of that key for others */
};
struct ins_search ins_search(const struct reg_inspect *ins, enum reg_index_kind kind,
			     const struct reg_key *key, uint32_t cell, uint32_t gen);

/* A record as it was at one moment. False: it went on changing, or is free. */
bool ins_record(const struct reg_inspect *ins, uint32_t idx, uint64_t *ret_word,
		struct reg_rec *ret);

#endif
