/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packed words and their transitions: pure functions on plain integers, no atomics. Each word
 * has its widths as a table.
 *
 *   every cell word   state 4 | generation 28 | use 32          (state 0 is FREE; the generation
 * grows when it is freed) record word       use = owner 10 | flags 4 | change 18 slot word use =
 * owner 10 | record 22                (states SLOT_*) blob word         use = owner 10 | record 22
 * (state 1) index entry       state 2 | tag 12 | cell 22 | generation 28
 */
#ifndef REGISTRY_SRC_WORD_H
#define REGISTRY_SRC_WORD_H

#include <stdbool.h>
#include <stdint.h>

#include "registry/registry.h"

#define BITS_GET(word, shift, width) (((word) >> (shift)) & ((UINT64_C(1) << (width)) - 1))
#define BITS_PUT(value, shift, width)                                                              \
	(((uint64_t)(value) & ((UINT64_C(1) << (width)) - 1)) << (shift))

#define GEN_WIDTH	  28
#define GEN_MASK	  ((UINT32_C(1) << GEN_WIDTH) - 1)
#define CELL_STATE_SHIFT  0
#define CELL_STATE_WIDTH  4
#define CELL_GEN_SHIFT	  4
#define CELL_OWNER_SHIFT  32
#define CELL_OWNER_WIDTH  10
#define CELL_OWNER_NONE	  ((UINT32_C(1) << CELL_OWNER_WIDTH) - 1)
#define CELL_RECORD_SHIFT 42
#define CELL_RECORD_WIDTH 22
#define REC_FLAGS_SHIFT	  42
#define REC_FLAGS_WIDTH	  4
#define REC_CHANGE_SHIFT  46
#define REC_CHANGE_WIDTH  18

_Static_assert(CELL_GEN_SHIFT + GEN_WIDTH == CELL_OWNER_SHIFT,
	       "state and generation fill the low half");
_Static_assert(CELL_RECORD_SHIFT + CELL_RECORD_WIDTH == 64, "a slot word is full");
_Static_assert(REC_CHANGE_SHIFT + REC_CHANGE_WIDTH == 64, "a record word is full");
_Static_assert(REG_PARTICIPANTS_MAX < CELL_OWNER_NONE, "owners fit");
_Static_assert(REG_GONE < (1 << CELL_STATE_WIDTH), "record states fit");

enum { SLOT_FREE, SLOT_RESERVED, SLOT_BUSY };
enum { BLOB_FREE, BLOB_USED };

/*
 * Rows (agents, pools, images), cold records and chunks. NEW: its owner fills it; a row is in use
 * as soon as its key is committed. RETIRING: its owner looks whether anybody refers to it, and
 * anybody who wants it takes it back to LIVE. RETIRED: nobody finds it any more; free after a grace
 * period. Both name their entry of the retire list in place of a record. HELD: LIVE, and its owner
 * works on it.
 */
enum { ROW_FREE, ROW_NEW, ROW_LIVE, ROW_RETIRING, ROW_RETIRED, ROW_HELD };

/* Its contents are complete. */
static inline bool row_state_found(unsigned int state)
{
	return state == ROW_LIVE || state == ROW_RETIRING || state == ROW_HELD;
}

/* LIVE under that generation, whoever made it. */
static inline bool row_word_live(uint64_t w, uint32_t gen)
{
	return (uint32_t)w == (gen << CELL_GEN_SHIFT | ROW_LIVE << CELL_STATE_SHIFT);
}

/* Holds its key against other makers. */
static inline bool row_state_used(unsigned int state)
{
	return state == ROW_NEW || row_state_found(state);
}

enum {
	REC_DELETING = 1,  /* a delete was asked for */
	REC_EXPIRING = 2,  /* stopped because of its expiry */
	REC_EXIT_SEEN = 4, /* exited before it was committed, or while it is being adopted */
	REC_GANG = 8,	   /* CLAIMED: RESERVED as soon as its head is */
};

static inline unsigned int word_state(uint64_t w)
{
	return BITS_GET(w, CELL_STATE_SHIFT, CELL_STATE_WIDTH);
}

static inline uint32_t word_gen(uint64_t w)
{
	return BITS_GET(w, CELL_GEN_SHIFT, GEN_WIDTH);
}

static inline uint32_t word_owner(uint64_t w)
{
	return BITS_GET(w, CELL_OWNER_SHIFT, CELL_OWNER_WIDTH);
}

/* slot and blob words */
static inline uint32_t word_record(uint64_t w)
{
	return BITS_GET(w, CELL_RECORD_SHIFT, CELL_RECORD_WIDTH);
}

static inline unsigned int rec_flags(uint64_t w)
{
	return BITS_GET(w, REC_FLAGS_SHIFT, REC_FLAGS_WIDTH);
}

static inline uint32_t gen_next(uint32_t gen)
{
	gen = (gen + 1) & GEN_MASK;
	return gen ? gen : 1; /* 0 is never a generation in use */
}

/* FREE → in use under the next generation. */
static inline uint64_t cell_take(uint64_t w, unsigned int state, uint32_t owner, uint32_t record)
{
	return BITS_PUT(state, CELL_STATE_SHIFT, CELL_STATE_WIDTH) |
	       BITS_PUT(gen_next(word_gen(w)), CELL_GEN_SHIFT, GEN_WIDTH) |
	       BITS_PUT(owner, CELL_OWNER_SHIFT, CELL_OWNER_WIDTH) |
	       BITS_PUT(record, CELL_RECORD_SHIFT, CELL_RECORD_WIDTH);
}

/* in use → FREE; the generation stays in the word, the next taker counts on. */
static inline uint64_t cell_free(uint64_t w)
{
	return BITS_PUT(word_gen(w), CELL_GEN_SHIFT, GEN_WIDTH);
}

/* Same slot or blob, other state and owner. */
static inline uint64_t cell_hand_over(uint64_t w, unsigned int state, uint32_t owner)
{
	return BITS_PUT(state, CELL_STATE_SHIFT, CELL_STATE_WIDTH) |
	       BITS_PUT(word_gen(w), CELL_GEN_SHIFT, GEN_WIDTH) |
	       BITS_PUT(owner, CELL_OWNER_SHIFT, CELL_OWNER_WIDTH) |
	       BITS_PUT(word_record(w), CELL_RECORD_SHIFT, CELL_RECORD_WIDTH);
}

/* Same generation, everything else anew. */
static inline uint64_t cell_mark(uint64_t w, unsigned int state, uint32_t owner, uint32_t record)
{
	return BITS_PUT(state, CELL_STATE_SHIFT, CELL_STATE_WIDTH) |
	       BITS_PUT(word_gen(w), CELL_GEN_SHIFT, GEN_WIDTH) |
	       BITS_PUT(owner, CELL_OWNER_SHIFT, CELL_OWNER_WIDTH) |
	       BITS_PUT(record, CELL_RECORD_SHIFT, CELL_RECORD_WIDTH);
}

/* The next record word of the same generation: the change count moves, so that no two words of a
 * generation are equal soon. */
static inline uint64_t rec_move(uint64_t w, enum reg_state state, uint32_t owner,
				unsigned int flags)
{
	return BITS_PUT(state, CELL_STATE_SHIFT, CELL_STATE_WIDTH) |
	       BITS_PUT(word_gen(w), CELL_GEN_SHIFT, GEN_WIDTH) |
	       BITS_PUT(owner, CELL_OWNER_SHIFT, CELL_OWNER_WIDTH) |
	       BITS_PUT(flags, REC_FLAGS_SHIFT, REC_FLAGS_WIDTH) |
	       BITS_PUT((w >> REC_CHANGE_SHIFT) + 1, REC_CHANGE_SHIFT, REC_CHANGE_WIDTH);
}

static inline bool rec_state_visible(unsigned int state)
{
	return state >= REG_RESERVED && state <= REG_RESTORED;
}

/*
 * Transitions of a record, decided on a plain word. Each sets *ret_next and says what the caller's
 * function returns; REG_OK and REG_DELETING mean "apply", any other status "leave it".
 */
enum reg_status rec_to_starting(uint64_t w, uint32_t me, uint64_t *ret_next);
enum reg_status rec_to_committed(uint64_t w, uint32_t me, uint64_t *ret_next);
enum reg_status rec_to_member(uint64_t w, uint32_t me, uint64_t *ret_next);
enum reg_status rec_to_shown(uint64_t w, uint64_t *ret_next);
enum reg_status rec_to_abort(uint64_t w, uint32_t me, uint64_t *ret_next);
enum reg_status rec_to_stop(uint64_t w, enum reg_stop_reason reason, uint64_t *ret_next);
enum reg_status rec_to_stopped(uint64_t w, uint32_t me, uint64_t *ret_next);
enum reg_status rec_to_exited(uint64_t w, uint64_t *ret_next);
enum reg_status rec_to_adopting(uint64_t w, uint32_t me, uint64_t *ret_next);
enum reg_status rec_to_adopted(uint64_t w, uint32_t me, uint64_t *ret_next);
enum reg_status rec_to_unadopted(uint64_t w, uint32_t me, uint64_t *ret_next);
enum reg_status rec_to_lost(uint64_t w, uint64_t *ret_next);
enum reg_status rec_to_found(uint64_t w, uint64_t *ret_next);

/* ---- placement: agent+1 18 | slot 12 | slot generation 28 | held 1 ---- */
#define PLACE_HELD (UINT64_C(1) << 63)
static inline uint64_t place_make(uint32_t agent, uint32_t slot, uint32_t gen)
{
	return BITS_PUT(agent + 1, 0, 18) | BITS_PUT(slot, 18, 12) | BITS_PUT(gen, 30, GEN_WIDTH) |
	       PLACE_HELD;
}

static inline uint32_t place_agent(uint64_t p)
{
	return (uint32_t)BITS_GET(p, 0, 18) - 1; /* UINT32_MAX: none */
}

static inline uint32_t place_slot(uint64_t p)
{
	return BITS_GET(p, 18, 12);
}

static inline uint32_t place_gen(uint64_t p)
{
	return BITS_GET(p, 30, GEN_WIDTH);
}

/* ---- a member's head: record 22 | generation 28 ---- */
static inline uint64_t head_make(uint32_t idx, uint32_t gen)
{
	return BITS_PUT(idx, 0, CELL_RECORD_WIDTH) | BITS_PUT(gen, CELL_RECORD_WIDTH, GEN_WIDTH);
}

static inline uint32_t head_idx(uint64_t head)
{
	return BITS_GET(head, 0, CELL_RECORD_WIDTH);
}

static inline uint32_t head_gen(uint64_t head)
{
	return BITS_GET(head, CELL_RECORD_WIDTH, GEN_WIDTH);
}

/* ---- admission of gangs to a pool: number 48 | participant + 1 16 (0: nobody) ---- */
static inline uint64_t gang_take(uint64_t w, uint32_t me)
{
	return ((w >> 16) + 1) << 16 | (me + 1);
}

static inline uint64_t gang_give(uint64_t w)
{
	return ((w >> 16) + 1) << 16;
}

static inline uint32_t gang_owner(uint64_t w)
{
	return (uint32_t)BITS_GET(w, 0, 16) - 1; /* UINT32_MAX: nobody */
}

/*
 * ---- agent hot word: slots 16 | capacity 16 | up 1 | draining 1 | removed 1 | - 1 | generation 28
 * Slots below "slots" may be taken. That is the capacity, or less while the agent holds slots at
 * and above it (after a capacity went down, or an adoption beyond it): the largest number for which
 * it plus what is held at and above it is at most the capacity (limit_of).
 */
enum { HOT_UP = 1, HOT_DRAINING = 2, HOT_REMOVED = 4 };
_Static_assert(REG_SLOTS_PER_AGENT_MAX < 1 << 16, "slots fit");

static inline uint64_t hot_pack(uint32_t slots, uint32_t capacity, unsigned int flags, uint32_t gen)
{
	return BITS_PUT(slots, 0, 16) | BITS_PUT(capacity, 16, 16) | BITS_PUT(flags, 32, 3) |
	       BITS_PUT(gen, 36, GEN_WIDTH);
}

/* Of generation 0, with all of its capacity to be had. */
static inline uint64_t hot_make(uint32_t slots, bool ready)
{
	return hot_pack(slots, slots, ready ? HOT_UP : 0, 0);
}

static inline uint32_t hot_slots(uint64_t hot)
{
	return BITS_GET(hot, 0, 16);
}

static inline uint32_t hot_capacity(uint64_t hot)
{
	return BITS_GET(hot, 16, 16);
}

static inline unsigned int hot_flags(uint64_t hot)
{
	return BITS_GET(hot, 32, 3);
}

static inline uint32_t hot_gen(uint64_t hot)
{
	return BITS_GET(hot, 36, GEN_WIDTH);
}

/* Takes new sandboxes, if there is room. */
static inline bool hot_ready(uint64_t hot)
{
	return hot_flags(hot) == HOT_UP;
}

static inline uint64_t hot_with_slots(uint64_t hot, uint32_t slots)
{
	return hot_pack(slots, hot_capacity(hot), hot_flags(hot), hot_gen(hot));
}

static inline uint64_t hot_with_flags(uint64_t hot, unsigned int set, unsigned int clear)
{
	return hot_pack(hot_slots(hot), hot_capacity(hot), (hot_flags(hot) & ~clear) | set,
			hot_gen(hot));
}

/* ---- retire list: cell kind + 1: 4 | owner 10 | index 22 | generation 28; 0: empty ---- */
static inline uint64_t retire_make(unsigned int kind, uint32_t owner, uint32_t idx, uint32_t gen)
{
	return BITS_PUT(kind + 1, 0, 4) | BITS_PUT(owner, 4, CELL_OWNER_WIDTH) |
	       BITS_PUT(idx, 14, 22) | BITS_PUT(gen, 36, GEN_WIDTH);
}

static inline unsigned int retire_kind(uint64_t e)
{
	return (unsigned int)BITS_GET(e, 0, 4) - 1;
}

static inline uint32_t retire_owner(uint64_t e)
{
	return BITS_GET(e, 4, CELL_OWNER_WIDTH);
}

static inline uint32_t retire_idx(uint64_t e)
{
	return BITS_GET(e, 14, 22);
}

static inline uint32_t retire_gen(uint64_t e)
{
	return BITS_GET(e, 36, GEN_WIDTH);
}

static inline uint64_t retire_with_owner(uint64_t e, uint32_t owner)
{
	return retire_make(retire_kind(e), owner, retire_idx(e), retire_gen(e));
}

/* ---- values tagged with the record's generation: value 36 | generation 28 ---- */
#define TAGGED_MAX ((INT64_C(1) << 35) - 1)
static inline uint64_t tagged_make(int64_t value, uint32_t gen)
{
	return BITS_PUT(value, 0, 36) | BITS_PUT(gen, 36, GEN_WIDTH);
}

static inline int64_t tagged_value(uint64_t w)
{
	return (int64_t)(w << 28) >> 28; /* sign-extends the low 36 bits */
}

static inline uint32_t tagged_gen(uint64_t w)
{
	return BITS_GET(w, 36, GEN_WIDTH);
}

/* ---- blob reference: class 4 | index 28 | generation 28 | valid 1; 0: none. The spec's may be
 * inline 1 | length 32 instead ---- */
#define REF_VALID  (UINT64_C(1) << 63)
#define REF_INLINE (UINT64_C(1) << 62)
static inline uint64_t ref_make(unsigned int cls, uint32_t idx, uint32_t gen)
{
	return BITS_PUT(cls, 0, 4) | BITS_PUT(idx, 4, 28) | BITS_PUT(gen, 32, GEN_WIDTH) |
	       REF_VALID;
}

static inline uint64_t ref_inline(uint32_t len)
{
	return BITS_PUT(len, 0, 32) | REF_INLINE;
}

static inline uint32_t ref_inline_len(uint64_t ref)
{
	return (uint32_t)BITS_GET(ref, 0, 32);
}

static inline unsigned int ref_class(uint64_t ref)
{
	return BITS_GET(ref, 0, 4);
}

static inline uint32_t ref_idx(uint64_t ref)
{
	return BITS_GET(ref, 4, 28);
}

static inline uint32_t ref_gen(uint64_t ref)
{
	return BITS_GET(ref, 32, GEN_WIDTH);
}

/* ---- index entries ---- */
enum { ENTRY_EMPTY, ENTRY_TENTATIVE, ENTRY_COMMITTED };
static inline uint64_t entry_make(unsigned int state, uint64_t hash, uint32_t cell, uint32_t gen)
{
	return BITS_PUT(state, 0, 2) | BITS_PUT(hash >> 52, 2, 12) | BITS_PUT(cell, 14, 22) |
	       BITS_PUT(gen, 36, GEN_WIDTH);
}

#define ENTRY_TAG_MASK (((1 << 12) - 1) << 2)
static inline unsigned int entry_state(uint64_t e)
{
	return BITS_GET(e, 0, 2);
}

static inline bool entry_tag_is(uint64_t e, uint64_t hash)
{
	return BITS_GET(e, 2, 12) == (hash >> 52);
}

static inline uint32_t entry_cell(uint64_t e)
{
	return BITS_GET(e, 14, 22);
}

static inline uint32_t entry_gen(uint64_t e)
{
	return BITS_GET(e, 36, GEN_WIDTH);
}

#endif
