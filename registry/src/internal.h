/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the registry share: the mapping, checked access to everything in it, and the
 * functions between modules. Contents of the arena are hostile until checked: every index read from
 * it goes through an accessor that returns NULL when it is out of range or its memory was never
 * allocated.
 */
#ifndef REGISTRY_SRC_INTERNAL_H
#define REGISTRY_SRC_INTERNAL_H

#include <string.h>

#include "base/failpoint.h"
#include "layout.h"
#include "text.h"
#include "word.h"

#include <pthread.h>
#include <urcu/urcu-bp.h>

struct reg {
	int fd;
	uint8_t *base;
	uint64_t bytes;
	struct reg_header *hdr;
	char *path;
	uint64_t dev, ino;
	bool owner;
	/* Record locks can't tell the threads of one process apart: who joins, leaves or reaps
	 * holds this (never shared memory), and own has a bit per participant that joined through
	 * this mapping. */
	pthread_mutex_t roles;
	a64 own[REG_PARTICIPANTS_MAX / 64];
	/* constants of this arena, copied at attach so that nobody can change them under us */
	uint32_t max[CELLS_MAX];
	uint32_t slots_unlimited;
	uint32_t agent_words;	/* 64-bit words of a bitmap of agents: stripes */
	uint32_t stripe_words;	/* of a bitmap of stripes */
	uint32_t members_words; /* of both, as a pool and an image have them */
	uint32_t bucket_mask[INDEX_MAX];
	struct reg_span span[REGION_MAX];
	/* by region: units from its beginning whose memory is there, as far as this process has
	 * looked; at most their number */
	a32 known[REGION_MAX];
	/* the grace thread of this mapping, under roles; and the list of mappings for fork */
	pthread_t grace_thread;
	bool grace_running;
	a32 grace_stop;
	struct reg *mapped_next;
	bool popcnt; /* the processor counts bits */
	bool wide;   /* the processor compares 32 hints at once (AVX-512BW) */
};

#define FULL_MEMOS 64
struct reg_full_memo {
	uint32_t pool, image; /* + 1 */
	uint64_t full;	      /* the pool's word under which nothing was found free */
};

/*
 * What a worker knows about the candidates of a request (pool and image) at his own homes: none has
 * a hint below the floor but those that he has released since, which are in fresh. Void when the
 * pool's moves have gone on.
 */
#define FLOORS 32
#define FRESH  8
struct reg_floor {
	uint32_t pool, image;
	uint64_t moves;
	struct reg_pool *row;
	const a64 *pool_bits, *image_bits; /* image NULL: any */
	uint32_t stripe;		   /* where the next search begins */
	uint32_t fresh_count;
	bool sunk; /* one of fresh may be below the floor */
	uint32_t fresh[FRESH];
};
struct reg_floors {
	uint16_t value[FLOORS]; /* together, so that a release compares with all of them at once */
	struct reg_floor of[FLOORS];
};

#define NAME_MEMOS 16

/* Units that this participant freed: their words are FREE, their hint bits still set (cells.c). */
#define REG_MAGAZINE 64
struct reg_magazine {
	uint32_t n, idx[REG_MAGAZINE];
};

/* A row by index and the generation of its cell; 0 is no generation. */
struct reg_row {
	uint32_t idx, gen;
};

/* Rows that earlier requests named, with the text of the name: looked at again by the cell word. */
struct reg_pool_memo {
	struct reg_row row;
	uint32_t ns_len, name_len;
	char ns[64], name[256];
};

struct reg_image_memo {
	struct reg_row row;
	uint32_t ref_len;
	char ref[512];
};

struct reg_self {
	struct reg *reg;
	uint32_t idx;
	struct reg_part *part;
	uint32_t cursor[CELLS_MAX]; /* word of the hint bitmap where the next search starts */
	struct reg_magazine magazine[CELLS_MAX]; /* records and blobs only */
	uint32_t rotor;				 /* spreads ties */
	uint64_t *excluded; /* bitmap of agents whose ports conflict, agent_words long */
	struct reg_full_memo memo[FULL_MEMOS];
	uint64_t gang_given_up; /* admission word under which a gang was waited for in vain */
	struct reg_pool_memo pool_memo[NAME_MEMOS];
	struct reg_image_memo image_memo[NAME_MEMOS];
	/* administration: a bit per row; and where the sweep of images goes on */
	uint64_t *agent_marks, *pool_marks, *image_marks;
	uint32_t sweep_image;
	struct reg_floors floors;
	uint32_t homes_seen; /* of the header, + 1: for which homes was found out */
	uint32_t homes;	     /* mine, a bit each; 0: none, then every search is a whole pass */
	uint32_t low_misses; /* published words that were another image's */
	uint64_t busy_until; /* of the processor's clock: somebody else was placing */
};

/* ---- arena.c ---- */
/* Everything that decides how bytes are read: sizes, offsets of the words that cross processes,
 * constants. */
uint64_t reg__layout_stamp(void);
/* Defaults in place of zeros; false when one is over its maximum. */
bool reg__limits_fill(const struct reg_limits *in, struct reg_limits *out);
/* Fills the constants and spans of reg from limits; the same limits always give the same layout. */
void reg__layout_from(struct reg *reg, const struct reg_limits *lim);
bool reg__layout_fits_bits(const struct reg *reg);
/* Memory of [off, off+len) is allocated: safe to touch. REG_NO_SPACE, REG_IO. */
enum reg_status reg__ensure(struct reg *reg, uint64_t off, uint64_t len);

static inline void *reg__at(const struct reg *reg, enum reg_region region, uint64_t off)
{
	return reg->base + reg->span[region].off + off;
}

static inline bool reg__ensured_at(const struct reg *reg, uint64_t chunk)
{
	const a64 *bits = (const a64 *)reg__at(reg, REGION_ENSURED, 0);

	/* relaxed: a chunk once allocated stays so; who sees an old 0 treats it as empty or asks
	 * the kernel again */
	return atomic_load_explicit(&bits[chunk / 64], memory_order_relaxed) >> (chunk % 64) & 1;
}

/* Inline: a reservation asks dozens of times. */
static inline bool reg__ensured(const struct reg *reg, uint64_t off, uint64_t len)
{
	uint64_t c = off >> REG_CHUNK_SHIFT, last = (off + len - 1) >> REG_CHUNK_SHIFT;

	for (; __builtin_expect(c < last, 0); c++)
		if (!reg__ensured_at(reg, c))
			return false;
	return reg__ensured_at(reg, last);
}

static inline uint64_t reg__off(const struct reg *reg, const void *p)
{
	return (uint64_t)((const uint8_t *)p - reg->base);
}

/* The slow way to find out; also looks how far the region's memory is there. */
bool reg__unit_there(const struct reg *reg, unsigned int region, unsigned int kind, uint64_t size,
		     uint32_t idx);
/* A unit of a region; NULL when out of range or never allocated. */
static inline void *reg__unit(const struct reg *reg, unsigned int region, unsigned int kind,
			      uint64_t size, uint32_t idx)
{
	/* relaxed: memory that is there stays there; of this process alone */
	uint32_t known = atomic_load_explicit(&reg->known[region], memory_order_relaxed);

	if (__builtin_expect(idx >= known, 0) && !reg__unit_there(reg, region, kind, size, idx))
		return NULL;
	return reg->base + reg->span[region].off + idx * size;
}

#define REG_ACCESSOR(name, type, region, kind)                                                     \
	static inline type *name(const struct reg *reg, uint32_t idx)                              \
	{                                                                                          \
		return reg__unit(reg, region, kind, sizeof(type), idx);                            \
	}
REG_ACCESSOR(reg__rec, struct reg_rec, REGION_RECORDS, CELLS_RECORDS)
REG_ACCESSOR(reg__agent, struct reg_agent, REGION_AGENTS, CELLS_AGENTS)
REG_ACCESSOR(reg__pool, struct reg_pool, REGION_POOLS, CELLS_POOLS)
REG_ACCESSOR(reg__image, struct reg_image, REGION_IMAGES, CELLS_IMAGES)
REG_ACCESSOR(reg__cold, struct reg_agent_cold, REGION_COLD, CELLS_COLD)

struct reg_part *reg__part(const struct reg *reg, uint32_t idx); /* NULL: never used */

/* ---- stats.c ---- */
/* The line's counters as they stand are what its former holders counted. */
void reg__counters_join(struct reg_part *part);
/* What the present holder has counted. */
void reg__counters_since_join(const struct reg_part *part, struct reg_participant *ret);

/* ---- cells.c ---- */
/* The word of a cell, NULL when out of range or never allocated. */
static inline a64 *reg__cell(const struct reg *reg, enum reg_cells_kind kind, uint32_t idx)
{
	return reg__unit(reg, REGION_CELL_WORDS + kind, kind, sizeof(a64), idx);
}
/* The same two of a record, cell that the caller holds: what took it has looked at its memory. */
static inline a64 *reg__cell_held(const struct reg *reg, enum reg_cells_kind kind, uint32_t idx)
{
	return (a64 *)(void *)(reg->base + reg->span[REGION_CELL_WORDS + kind].off +
			       (uint64_t)idx * 8);
}

static inline struct reg_rec *reg__rec_held(const struct reg *reg, uint32_t idx)
{
	return (struct reg_rec *)(void *)(reg->base + reg->span[REGION_RECORDS].off +
					  (uint64_t)idx * sizeof(struct reg_rec));
}
/* Takes a free cell: FREE → state under me. *ret_idx, *ret_word. full is the status for "none
 * free". */
enum reg_status reg__cell_take(struct reg_self *me, enum reg_cells_kind kind, unsigned int state,
			       uint32_t record, enum reg_status full, uint32_t *ret_idx,
			       uint64_t *ret_word);
/* Takes exactly that cell; REG_STALE: it is not free. */
enum reg_status reg__cell_take_at(struct reg_self *me, enum reg_cells_kind kind, uint32_t idx,
				  unsigned int state, uint32_t record, uint64_t *ret_word);
/* Which unit the next take will nominate, when that is known; REG_NIL. For prefetching. */
uint32_t reg__cell_next(const struct reg_self *me, enum reg_cells_kind kind);
/* Frees exactly this word; false when it has changed. */
bool reg__cell_free(struct reg *reg, enum reg_cells_kind kind, uint32_t idx, uint64_t word);
/* The same into my magazine (records and blobs only). */
bool reg__cell_keep(struct reg_self *me, enum reg_cells_kind kind, uint32_t idx, uint64_t word);
/* The same for a word that nobody but me may change now. */
void reg__cell_drop(struct reg_self *me, enum reg_cells_kind kind, uint32_t idx, uint64_t word);
/* What the magazines hold is for everybody again. */
void reg__cells_offer(struct reg_self *me);
uint32_t reg__cells_high(const struct reg *reg, enum reg_cells_kind kind);

/* ---- blobs.c ---- */
/* a, then b behind it, as whole words. */
void reg__text_fill(uint64_t *dst, const void *a, uint32_t a_len, const void *b, uint32_t b_len);
/* Up to cap bytes of such a text of len bytes, from that offset on. */
void reg__text_read(const uint64_t *data, uint64_t len, uint32_t from, void *buf, uint32_t cap);
enum reg_status reg__blob_new(struct reg_self *me, reg_sandbox_id owner, const void *a,
			      uint32_t a_len, const void *b, uint32_t b_len, uint64_t *ret_ref);
void reg__blob_free(struct reg_self *me, uint64_t ref);
/* The reference leads to a blob made for that generation of its record. */
bool reg__blob_is(const struct reg *reg, uint64_t ref, uint32_t gen);
/* Copies up to cap bytes from offset; false when the reference is stale or of another generation of
 * the record. *ret_len is the whole length. */
bool reg__blob_read(const struct reg *reg, uint64_t ref, uint32_t gen, uint32_t from, void *buf,
		    uint32_t cap, uint32_t *ret_len);
/* Before a reference is replaced: the replacer becomes the blob's owner, so that its reaper finds
 * it. */
void reg__blob_own(struct reg_self *me, uint64_t ref);
/* Swaps *slot of that sandbox to a new blob (or to none) and frees the old one. seen (or NULL):
 * only when the slot leads to that reference (0: to none), else REG_CONFLICT. */
enum reg_status reg__blob_swap(struct reg_self *me, reg_sandbox_id id, a64 *slot,
			       const uint64_t *seen, const void *data, uint32_t len);

/* ---- index.c ---- */
#define REG_PROBE_MAX 64 /* buckets looked at; the tables are at most about a third full */
struct reg_key {
	uint64_t hash;
	const char *a, *b;    /* namespace and text; or only a */
	uint32_t agent, port; /* INDEX_PORTS */
};
struct reg_hit {
	uint32_t cell, gen;
	bool committed;
};
uint64_t reg__hash(const char *a, const char *b);
uint64_t reg__hash_of(const char *a, uint32_t a_len, const char *b, uint32_t b_len);
struct reg_want;
/* The hashes of its keys, from their lengths. */
void reg__want_keys(struct reg_want *want);
struct reg_key reg__key_text(const char *a, const char *b);
struct reg_key reg__key_port(uint32_t agent, uint32_t port);
/* The key's cache line will be looked at soon. */
void reg__index_prefetch(const struct reg *reg, enum reg_index_kind kind, uint64_t hash);
bool reg__index_find(const struct reg *reg, enum reg_index_kind kind, const struct reg_key *key,
		     struct reg_hit *ret);
/* REG_OK, REG_NAME_EXISTS with *ret_other, REG_NO_SPACE, REG_LIMIT_SANDBOXES when the window is
 * full. */
enum reg_status reg__index_insert(struct reg *reg, enum reg_index_kind kind,
				  const struct reg_key *key, uint32_t cell, uint32_t gen,
				  struct reg_hit *ret_other);
void reg__index_remove(struct reg *reg, enum reg_index_kind kind, const struct reg_key *key,
		       uint32_t cell, uint32_t gen);
/* The same by one who alone may remove it now: without an exchange when it is committed. */
void reg__index_remove_mine(struct reg *reg, enum reg_index_kind kind, uint64_t hash, uint32_t cell,
			    uint32_t gen);
uint32_t reg__index_count(const struct reg *reg, enum reg_index_kind kind, uint32_t *ret_stale);

/* ---- slots.c ---- */
a64 *reg__slot(const struct reg *reg, uint32_t agent, uint32_t slot); /* NULL: none */
a64 *reg__mask(const struct reg *reg, uint32_t agent, uint32_t chunk);
static inline a16 *reg__hint(const struct reg *reg, uint32_t agent)
{
	return (a16 *)reg__at(reg, REGION_HINTS, (uint64_t)agent * sizeof(a16));
}
int16_t reg__hint_publish(struct reg *reg, uint32_t agent); /* returns it */
uint32_t reg__agent_load(const struct reg *reg, const struct reg_agent *agent);
/* How often a slot of it has been taken: the sum of the generations. For humans. */
uint64_t reg__agent_taken(const struct reg *reg, uint32_t agent);
/* Compares the masks with the slot words and mends them; returns what was mended. */
uint32_t reg__agent_heal(struct reg *reg, uint32_t agent);
/* Takes exactly that slot, for the record. */
bool reg__slot_take(struct reg_self *me, uint32_t agent, uint32_t slot, uint32_t record,
		    uint32_t *ret_gen);
/* Takes any free slot of that agent, also one beyond its capacity when over. */
bool reg__slot_claim(struct reg_self *me, uint32_t agent, uint32_t record, bool over,
		     uint32_t *ret_slot, uint32_t *ret_gen);
/* Frees exactly that slot if it still is record's; then the mask, the hint and the pool's memo. */
void reg__slot_free(struct reg_self *me, uint32_t agent, uint32_t slot, uint32_t gen,
		    uint32_t record);
void reg__pool_full_clear(struct reg_pool *pool);
/* Around anything that makes room in a pool: between the two nobody trusts a memo of "full". */
void reg__room_begin(struct reg_self *me, uint32_t pool);
void reg__room_end(struct reg_self *me, uint32_t pool);
enum reg_status reg__agent_grow(struct reg_self *me, uint32_t agent, uint32_t slots);

/* ---- homes.c ---- */
/* A worker has come or gone. */
void reg__homes_move(struct reg *reg);
/* What is known about loads in that pool is void: after a hint there was lowered by administration,
 * or may have been by one who died before he told the others. */
void reg__pool_void(struct reg *reg, uint32_t pool);
/* ---- floors.c ---- */
void reg__floors_void(struct reg_self *me);
/* I have released a slot of that agent. */
void reg__floors_fresh(struct reg_self *me, uint32_t pool, uint32_t agent, int16_t load);

/* ---- rows.c ---- */
/* Bitmaps of agents; the stripes that may have a member stand stripe_words before. */
a64 *reg__pool_bits(const struct reg *reg, uint32_t pool);
a64 *reg__image_bits(const struct reg *reg, uint32_t image);
void reg__member_add(const struct reg *reg, a64 *bits, uint32_t agent);
void reg__member_remove(const struct reg *reg, a64 *bits, uint32_t agent);
/* A row's text, of at least size bytes there; constant inside a read section that has found the row
 * in use. Always ends with a NUL. */
void reg__row_text(char *dst, size_t size, const char *from);
bool reg__row_matches(const struct reg *reg, enum reg_index_kind kind, const struct reg_key *key,
		      uint64_t entry);
/* It still is that row. After whatever refers to it was stored: no sweep takes it from here on. */
bool reg__row_revive(const struct reg *reg, enum reg_cells_kind kind, struct reg_row row);
static inline bool reg__row_stands(const struct reg *reg, enum reg_cells_kind kind,
				   struct reg_row row)
{
	const a64 *word = reg__cell(reg, kind, row.idx);
	/* seq_cst [U1]: as in reg__row_revive, which looks at everything but LIVE */
	uint64_t w = word ? atomic_load_explicit(word, memory_order_seq_cst) : 0;

	if (__builtin_expect(row_word_live(w, row.gen), 1))
		return true;
	return reg__row_revive(reg, kind, row);
}
/* Against sweeps, for as long as the caller works on it; false: somebody else works on it, or it
 * goes. */
bool reg__row_hold(struct reg_self *me, enum reg_cells_kind kind, struct reg_row row);
void reg__row_let_go(struct reg_self *me, enum reg_cells_kind kind, struct reg_row row);
bool reg__row_there(const struct reg *reg, enum reg_cells_kind kind, uint32_t idx);
/* The row as it is in use now; idx REG_NIL: not. */
struct reg_row reg__row_now(const struct reg *reg, enum reg_cells_kind kind, uint32_t idx);
bool reg__find_pool(const struct reg *reg, const char *ns, const char *name, struct reg_row *ret);
bool reg__find_image(const struct reg *reg, const char *ref, struct reg_row *ret);
bool reg__find_agent(const struct reg *reg, const char *ns, const char *name, struct reg_row *ret);
/* The first two with a memory of earlier answers; of texts of these lengths. */
bool reg__pool_of(struct reg_self *me, const char *ns, uint32_t ns_len, const char *name,
		  uint32_t name_len, struct reg_row *ret);
bool reg__image_of(struct reg_self *me, const char *ref, uint32_t len, struct reg_row *ret);
/* The row of that name, made when there is none. A new agent is not ready and has no slots until it
 * joins; with a pool (or REG_NIL) that has agents it is put beside them. */
enum reg_status reg__pool_intern(struct reg_self *me, const char *ns, const char *name,
				 struct reg_row *ret);
enum reg_status reg__image_intern(struct reg_self *me, const char *ref, struct reg_row *ret);
enum reg_status reg__agent_intern(struct reg_self *me, const char *ns, const char *name,
				  uint32_t pool, struct reg_row *ret);
/* Nobody finds it by its name from here on. Repeatable. */
void reg__row_unindex(struct reg *reg, enum reg_cells_kind kind, struct reg_row row);
/* What a dead participant was making or about to retire. */
void reg__rows_reap(struct reg_self *me, uint32_t dead);

/* ---- agents.c ---- */
/* REG_NOT_FOUND, REG_STALE. */
enum reg_status reg__agent_of(const struct reg *reg, reg_agent_id id, struct reg_agent **ret);
/* Before anybody finds the row: whoever does may join it at once. */
void reg__agent_row_init(struct reg *reg, uint32_t idx, uint32_t gen, uint32_t pool);
void reg__agent_reclaim(struct reg_self *me, uint32_t idx);
/* Brings the number of slots that may be taken into line with the slot words. */
void reg__agent_limit(struct reg *reg, uint32_t agent);

/* ---- cold.c ---- */
struct reg_cold_change {
	struct reg_row fresh, old; /* idx REG_NIL: none */
	uint64_t word;		   /* of fresh */
	uint32_t entry;		   /* of the retire list, for old */
};
const struct reg_agent_cold *reg__cold_read(const struct reg *reg, const struct reg_agent *a);
void reg__agent_cold(const struct reg *reg, const struct reg_agent *a, struct reg_agent_cold *ret);
enum reg_status reg__cold_prepare(struct reg_self *me, uint32_t agent,
				  const struct reg_agent_info *info, struct reg_cold_change *ret);
void reg__cold_abandon(struct reg_self *me, const struct reg_cold_change *change);
void reg__cold_publish(struct reg_self *me, uint32_t agent, const struct reg_cold_change *change);
void reg__cold_drop(struct reg_self *me, uint32_t agent);

/* ---- images.c ---- */
/* The next image of the agent at or after place *at of its list. */
bool reg__agent_image_at(const struct reg *reg, uint32_t agent, uint32_t *at, uint32_t *ret_image);
void reg__images_clear(struct reg *reg, uint32_t agent);

/* ---- retire.c ---- */
enum reg_status reg__retire_name(struct reg_self *me, enum reg_cells_kind kind, struct reg_row row,
				 uint32_t *ret_entry);
void reg__retire_drop(struct reg_self *me, uint32_t entry);
void reg__retire_time(struct reg_self *me, uint32_t entry, uint64_t number);
uint32_t reg__retire_drain(struct reg_self *me); /* how many were reclaimed */
void reg__retire_reap(struct reg_self *me, uint32_t dead);

/* ---- lifecycle.c ---- */
/* The first report stands; another generation's record is left alone. */
void reg__exit_store(struct reg_rec *rec, uint32_t gen, const struct reg_exit *e);

/* ---- restore.c ---- */
/* The slot that the placement names is held by that record. */
bool reg__place_held(const struct reg *reg, uint64_t place, uint32_t record);

/* ---- place.c ---- */
/* Takes a slot for the record on the best agent of the pool and its ports; stores the placement in
 * the record. */
enum reg_status reg__place(struct reg_self *me, uint32_t pool, uint32_t image, uint32_t record,
			   struct reg_lease *ret);

/* ---- ports.c ---- */
/* Idempotent: what this record has already, it keeps. */
enum reg_status reg__ports_claim(struct reg *reg, uint32_t agent, uint32_t record, uint32_t gen);
void reg__ports_free(struct reg *reg, uint32_t agent, uint32_t record, uint32_t gen,
		     uint32_t limit);
uint32_t reg__ports_scrub(struct reg *reg);

/* ---- records.c ---- */
/* A request, and what is found out about it once: lengths, hashes of its keys. */
struct reg_want {
	const struct reg_request *req;
	uint32_t ns_len, name_len, id_len, pool_len, image_len, request_id_len;
	uint64_t name_hash, request_hash; /* request_id_len 0: none */
};
void reg__words_out(void *dst, const uint64_t *src, uint32_t len);
void reg__str_out(char *dst, const uint64_t *src, uint32_t cap);
uint32_t reg__rec_pool(const struct reg_rec *rec);
uint32_t reg__rec_ports(const struct reg_rec *rec, uint16_t *ret);
/* Its word; false: it is of another generation. */
bool reg__rec_word(const struct reg *reg, const struct reg_rec *rec, a64 *word, uint32_t gen,
		   uint64_t *ret_value);
bool reg__rec_is(const struct reg *reg, reg_sandbox_id id, struct reg_rec **ret_rec, a64 **ret_word,
		 uint64_t *ret_value);
/* The lines that reg__rec_new will probably write, on their way while the caller does other things.
 */
void reg__rec_prefetch(const struct reg_self *me, const struct reg_request *req, uint32_t idx);
/* The same in two steps: taken, and filled (undone when that fails). */
enum reg_status reg__rec_take(struct reg_self *me, reg_sandbox_id *ret);
enum reg_status reg__rec_fill(struct reg_self *me, const struct reg_want *want, uint32_t pool,
			      int64_t generation, reg_sandbox_id id);
enum reg_status reg__rec_new(struct reg_self *me, const struct reg_want *want, uint32_t pool,
			     int64_t generation, reg_sandbox_id *ret);
/* A record CLAIMED by me: everything that it holds is taken back. Idempotent: a reaper may repeat
 * it. */
void reg__undo(struct reg_self *me, uint32_t idx);
/* The lines that it will need, asked for all at once instead of one behind the other. */
void reg__undo_prefetch(const struct reg *reg, const struct reg_rec *rec);
/* Slot and ports of a record that stays (EXITED, EXPIRED). Idempotent; nothing when the record is
 * of another generation by now. */
void reg__unplace(struct reg_self *me, uint32_t idx, struct reg_rec *rec, uint32_t gen);
/* Before a change after which the record is nobody's: who dies before reg__changed leaves the mark
 * in its line, and its reaper tells the others. */
void reg__changing(struct reg_self *me, uint32_t idx);
/* After each visible change: revision, dirty bit, watchers. */
void reg__changed(struct reg_self *me, uint32_t idx, struct reg_rec *rec);

/* ---- reserve.c ---- */
/* The lengths, when all is within its limits. */
enum reg_status reg__request_check(const struct reg_request *req, struct reg_want *ret);
/* A key for ret->sandbox, which is CLAIMED and filled; when another one has it, that one's handle
 * takes its place. */
enum reg_status reg__request_claim(struct reg *reg, const struct reg_want *want,
				   struct reg_lease *ret);
enum reg_status reg__name_claim(struct reg *reg, const struct reg_want *want,
				struct reg_lease *ret);
/* Placement of one that is alone: a gang's passing claims refuse nobody. */
enum reg_status reg__place_single(struct reg_self *me, uint32_t pool, uint32_t image,
				  struct reg_lease *ret);
/* The rows under whose numbers it was placed are the rows of these names still. */
bool reg__rows_stand(const struct reg *reg, struct reg_row pool, struct reg_row image);
/* All of a reservation but its publication. */
enum reg_status reg__reserve_hidden(struct reg_self *me, const struct reg_request *req,
				    struct reg_lease *ret);
void reg__publish(struct reg_self *me, const struct reg_lease *lease);
/* Counts a refusal; pool REG_NIL: of none. */
void reg__refused(struct reg_self *me, uint32_t pool, enum reg_status st);

/* ---- batch.c ---- */
/* Who places a gang in that pool, as a number for the next one. */
uint64_t reg__gang_look(const struct reg_self *me, uint32_t pool);
/* After a refusal: placed again when a gang was at work since that look. */
enum reg_status reg__place_admitted(struct reg_self *me, uint32_t pool, uint32_t image,
				    uint64_t before, enum reg_status refusal,
				    struct reg_lease *ret);
void reg__gangs_reap(struct reg *reg, uint32_t dead);

/* ---- dirty.c ---- */
uint64_t reg__coarse_ns(void); /* CLOCK_MONOTONIC, to its tick */
/* After the change and an exchange behind it (reg__changed). */
void reg__dirty_mark(struct reg *reg, uint32_t idx, struct reg_rec *rec, bool urgent);
void reg__watchers_call(struct reg *reg, uint64_t mask);
static inline void reg__watchers_wake(struct reg *reg, struct reg_rec *rec)
{
	/* seq_cst [W2]: pairs with reg_watch; after the change */
	uint64_t mask = atomic_load_explicit(&rec->watchers, memory_order_seq_cst);

	if (__builtin_expect(mask != 0, 0))
		reg__watchers_call(reg, mask);
}
void reg__futex_wake(a32 *word);
int reg__futex_wait(a32 *word, uint32_t seen, uint64_t timeout_ns);

/* ---- parts.c / reap.c ---- */
int reg__lock_byte(const struct reg *reg, uint64_t byte,
		   short type); /* F_WRLCK or F_UNLCK, no wait */
bool reg__byte_locked(const struct reg *reg, uint64_t byte);
bool reg__part_own(const struct reg *reg, uint32_t idx); /* of this mapping: alive as we are */
int32_t reg__lock_holder(const struct reg *reg, uint64_t byte); /* pid; 0: not visible here */
#define REG_LOCK_OWNER	   UINT64_C(0)
#define REG_LOCK_PART(idx) (UINT64_C(1) + (idx))
/* Takes back what participant idx held (it is dead, or it is me leaving). */
void reg__reap_holdings(struct reg_self *me, uint32_t idx,
			void (*fn)(void *arg, const struct reg_orphan *orphan), void *arg,
			struct reg_reap_result *res);

/* ---- grace.c ---- */
void reg__grace_map(struct reg *reg);
void reg__grace_unmap(struct reg *reg);
enum reg_status reg__grace_thread_start(struct reg *reg);
void reg__grace_thread_stop(struct reg *reg);
/* After unpublishing: the number of a grace period that begins now. Any number of them may be under
 * way; nobody has to wait for one. */
uint64_t reg__grace_start(struct reg *reg);
/* Every grace period up to the returned one is over. */
uint64_t reg__grace_passed(const struct reg *reg);
/* Every read section that began before that number was given out has ended. */
bool reg__grace_done(const struct reg *reg, uint64_t number);
/* A read section: what is found in it stays what it is until its end. Nests. No system call, no
 * allocation, no waiting inside. */
static inline void reg__read_lock(void)
{
	urcu_bp_read_lock();
}

static inline void reg__read_unlock(void)
{
	urcu_bp_read_unlock();
}

static inline uint64_t part_word(unsigned int state, unsigned int kind, uint32_t incarnation)
{
	return BITS_PUT(state, 0, 8) | BITS_PUT(kind, 8, 8) | BITS_PUT(incarnation, 32, 32);
}

/* One more on the caller's own line. */
static inline void reg__add(a64 *own, uint64_t n)
{
	/* relaxed: own line, one writer, a statistic */
	atomic_store_explicit(own, atomic_load_explicit(own, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static inline void reg__count_add(struct reg_self *me, enum reg_counter counter, uint64_t n)
{
	reg__add(&me->part->count[counter], n);
}

static inline void reg__count(struct reg_self *me, enum reg_counter counter)
{
	reg__count_add(me, counter, 1);
}

/* A reservation that was refused, for that reason. */
static inline void reg__count_refused(struct reg_self *me, enum reg_status reason)
{
	reg__add(&me->part->refused[reason], 1);
}

static inline void reg__pause(void)
{
	__builtin_ia32_pause();
}

#endif
