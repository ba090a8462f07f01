/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies in the arena: every shared struct, the region table, the limits. Types only. Changing
 * the size or the order of anything here changes the layout stamp, and an attach refuses an arena
 * of another stamp.
 */
#ifndef REGISTRY_SRC_LAYOUT_H
#define REGISTRY_SRC_LAYOUT_H

#include <stdatomic.h>
#include <stdint.h>

#include "registry/registry.h"

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2,
	       "64-bit atomics must be lock free: they are shared between processes");
_Static_assert(ATOMIC_INT_LOCK_FREE == 2,
	       "32-bit atomics must be lock free: they are shared between processes");

typedef _Atomic uint64_t a64;
typedef _Atomic uint32_t a32;
typedef _Atomic int16_t a16;

#define REG_MAGIC	   UINT64_C(0x316e65726142736b) /* arbitrary, never reused for another format */
#define REG_LAYOUT_VERSION UINT64_C(1)
#define REG_NIL		   UINT32_MAX
#define REG_LINE	   64
#define REG_CHUNK_SHIFT	   16 /* memory is allocated from the file system in steps of 64 KiB */
#define REG_CHUNK_SLOTS	   64 /* slot words per chunk, one mask word each */
#define REG_AGENT_CHUNKS   (REG_SLOTS_PER_AGENT_MAX / REG_CHUNK_SLOTS)
#define REG_HINT_FULL	   INT16_MAX
#define REG_PORT_ROWS	   256
#define REG_MAX_AGENTS	   131072u
#define REG_MAX_SANDBOXES  4194304u
#define REG_MAX_POOLS	   65536u
#define REG_MAX_IMAGES	   262144u

/* ---- cells: the words of everything that is handed out and taken back ---- */
enum reg_cells_kind {
	CELLS_RECORDS,
	CELLS_CHUNKS,
	CELLS_AGENTS,
	CELLS_POOLS,
	CELLS_IMAGES,
	CELLS_COLD,
	CELLS_BLOB0, /* one per size class */
	CELLS_BLOB1,
	CELLS_BLOB2,
	CELLS_BLOB3,
	CELLS_MAX
};
#define REG_BLOB_CLASSES 4

enum reg_index_kind {
	INDEX_NAMES,
	INDEX_REQUESTS,
	INDEX_PORTS,
	INDEX_AGENTS,
	INDEX_POOLS,
	INDEX_IMAGES,
	INDEX_MAX
};

/* ---- regions, in file order ---- */
enum reg_region {
	REGION_HEADER,
	REGION_ENSURED, /* a bit per 64 KiB of the file: allocated */
	REGION_PARTS,
	REGION_CELL_BITS, /* + kind: hint, bit set = probably in use */
	REGION_CELL_WORDS = REGION_CELL_BITS + CELLS_MAX,
	REGION_INDEX = REGION_CELL_WORDS + CELLS_MAX, /* + kind */
	REGION_HINTS = REGION_INDEX + INDEX_MAX,      /* a16 per agent */
	REGION_CHUNK_MASKS,			      /* a64 per chunk */
	REGION_CHUNK_SLOTS,			      /* 64 a64 per chunk */
	REGION_AGENTS,
	REGION_COLD,
	REGION_AGENT_IMAGES, /* REG_AGENT_IMAGES_MAX a32 per agent */
	REGION_RETIRE,
	REGION_POOLS,
	REGION_POOL_BITS, /* a bitmap of agents per pool, before it one of stripes */
	REGION_IMAGES,
	REGION_IMAGE_BITS, /* the same per image */
	REGION_PORT_BITS,  /* a bitmap of agents per port in frequent use */
	REGION_DIRTY,
	REGION_URGENT,
	REGION_RECORDS,
	REGION_BLOB, /* + class */
	REGION_MAX = REGION_BLOB + REG_BLOB_CLASSES
};

struct reg_span {
	uint64_t off, size;
};

struct reg_header {
	a64 magic; /* written last at creation, with release */
	uint64_t version, stamp, total_bytes;
	char instance[40];
	int64_t created_unix_ns;
	uint32_t max_agents, max_sandboxes, max_pools, max_images;
	uint32_t slots_unlimited, reserved;
	struct reg_span region[REGION_MAX];
	_Alignas(REG_LINE) a64 epoch;	  /* controller epoch; owner writes */
	a32 store_loaded;		  /* crdsync or the owner sets, once */
	_Alignas(REG_LINE) a32 dirty_seq; /* futex of crdsync */
	a32 dirty_sleeping;		  /* dirty_seq << 1 | 1 while crdsync sleeps */
	a32 urgent_pending;
	a32 parts_high; /* participants at and above were never used; only grows */
	_Alignas(REG_LINE) a64 gp_requested; /* newest grace period that somebody asked for; its low
						half is the futex of the grace threads */
	a32 gp_served;			     /* futex of who waits for one */
	_Alignas(REG_LINE)
		a32 high[CELLS_MAX]; /* indexes at and above were never in use; only grows */
	a32 homes; /* grows when a worker comes or goes: the homes are shared out anew */
	_Alignas(REG_LINE) a32 port[REG_PORT_ROWS]; /* rows of REGION_PORT_BITS; 0: unused. Set
						       once: ports.c */
};

/* ---- participants ---- */
enum { PART_FREE, PART_LIVE, PART_LEFT };

/* So near to the wrap of the futex that each arena passes it early. */
#define REG_GRACE_FIRST	 (UINT64_C(0xffffffff) - 15)

#define REG_HIST_SUB	 8
#define REG_HIST_BUCKETS (REG_HIST_SUB * 37) /* values below 2^39 ns = 9 min */

struct reg_part {
	a64 word;    /* state 8 | kind 8 | incarnation 32 */
	a64 gp_done; /* newest grace period that it has passed; its process writes */
	a32 pid;
	a32 wake;			  /* futex: changes seen by its watchers */
	_Alignas(REG_LINE) a32 releasing; /* pool + 1: a slot of it becomes free, and the memo of
			  "full" is not cleared yet */
	a32 changing; /* record + 1: perhaps changed by it, and revision, dirty bit and watchers
			 not yet */
	a32 placing;  /* it is inside a placement */
	/* Statistics, written by the participant alone and never set back: a reader's sums only
	 * grow, whoever leaves, dies or joins here. What had been counted when the present one
	 * joined stands in …_at_join. */
	_Alignas(REG_LINE) a64 count[REG_COUNT_MAX];
	a64 refused[REG_STATUS_MAX];
	a64 count_at_join[REG_COUNT_MAX];
	a64 refused_at_join;
	_Alignas(REG_LINE) a64 hist[REG_HIST_MAX][REG_HIST_BUCKETS];
	a64 hist_max[REG_HIST_MAX];
};

/* ---- index: 7 entries and the count of those that went past, one cache line ---- */
#define REG_BUCKET_ENTRIES 7
struct reg_bucket {
	a64 entry[REG_BUCKET_ENTRIES];
	a64 overflow; /* entries that wanted this bucket or an earlier one and live further on; may
			 be too high after a death */
};
_Static_assert(sizeof(struct reg_bucket) == REG_LINE, "a bucket is one cache line");

/* ---- agents ---- */
struct reg_agent_cold {
	_Alignas(8) char node[256], address[256],
		host_ip[64];	/* never changed once an agent names it */
	int64_t shared_network; /* 0, 1 */
};

#define REG_IMAGES_INLINE 32

struct reg_agent {
	/* what a placement reads: one line for agents of up to 768 slots */
	_Alignas(REG_LINE) a64 hot;  /* word.h; registryd writes, and who frees a slot beyond it */
	a32 pool;		     /* registryd writes before the hot word makes it ready */
	a32 incarnation;	     /* registryd writes; 0: has never joined */
	a32 chunk[REG_AGENT_CHUNKS]; /* cell index + 1; 0: none. Added, never taken away: slot s of
					row r is one word for the life of the arena */
	_Alignas(REG_LINE) a64 heartbeat_unix_ns;
	a64 capacity;			/* as given, signed */
	a32 cold;			/* index + 1 of its cold record; 0: none */
	a32 images;			/* length of the list; registryd writes */
	a32 image[REG_IMAGES_INLINE];	/* row + 1 of what it may have; the rest of the list in
					   REGION_AGENT_IMAGES. The bitmaps decide. */
	_Alignas(REG_LINE) char ns[64]; /* with name the key; constant for a generation */
	char name[256];
};

/* What is unpublished and waits for its grace period. Named first, so that a dead one's is found.
 */
#define REG_RETIRE_MAX 1024
struct reg_retire {
	a64 what;   /* word.h; 0: empty */
	a64 number; /* of the grace period; 0: not unpublished yet */
};

/* A pool's agents are taken in stripes of 64 (two lines of hints, one word of every bitmap), and
 * its stripes in homes: stripe k is of home k mod REG_HOMES, whoever lives there. */
#define REG_STRIPE 64
#define REG_HOMES  16
#define REG_LOWS   16 /* requests of a pool (an image, or any) whose lowest loads are published */

struct reg_pool {
	a64 full;      /* seq << 1 | active: word.h */
	a64 moves;     /* grows when administration makes room: what was known of loads is void */
	a64 lows_used; /* bit per row of low that was ever used; only grows */
	a64 gang;      /* who places a gang here: word.h */
	/* by home: a load made there by somebody who does not live there, and the stripe: homes.c
	 */
	_Alignas(REG_LINE) a32 foreign[REG_HOMES];
	/* by image and home: no candidate there has a lower load. tag 16 | load 16 */
	_Alignas(REG_LINE) a32 low[REG_LOWS][REG_HOMES];
	_Alignas(REG_LINE) a64 unmet;	/* refusals; statistic */
	a32 declared;			/* by reg_pool_upsert: stays when empty */
	_Alignas(REG_LINE) char ns[64]; /* constant for a generation */
	char name[256];
};

struct reg_image {
	_Alignas(8) char ref[512]; /* constant for a generation */
};

/* ---- sandboxes ---- */
enum { STORE_NONE, STORE_MAYBE };

/*
 * The first line is all that a reservation's end writes, the second what it reads. Atomics are
 * shared and changed as such; the other words are written by the owner while the record is CLAIMED,
 * then constant for this generation: copied word by word, then the record word is checked.
 */
struct reg_rec {
	a64 place;    /* agent 18 | slot 12 | slot generation 28 | held 1 */
	a64 revision; /* grows over incarnations, too */
	a64 store;    /* STORE_* */
	a64 watchers; /* bit per participant index modulo 64 */
	a64 labels;   /* blob reference */
	a64 message;  /* blob reference */
	a64 spec;     /* blob reference or inline length; owner writes while CLAIMED */
	a64 dirty_since_ns;

	uint64_t name_hash, request_key_hash; /* of the index keys; the latter 0: no request id */
	uint64_t pool_and_consistency;	      /* pool 32 | consistency 8 | port count 8 */
	a64 stored;			      /* highest revision that the store has */
	a64 expire;			      /* unix seconds 36 | record generation 28 */
	a64 policy;   /* policy 4 | recovery seconds 32 | record generation 28 */
	a64 exit;     /* code, signal, flags | record generation 28 */
	a64 finished; /* ms after created 36 | record generation 28 */

	a64 started_unix_ns; /* owner writes while STARTING */
	uint64_t generation;
	uint64_t base_revision;
	uint64_t created_unix_ns;
	uint64_t request_hash;
	uint64_t spec_len;
	uint64_t ports[REG_PORTS_MAX / 4];
	uint64_t ns[8];
	uint64_t id[8];
	uint64_t request_id[16];
	uint64_t name[32];
	uint64_t head;	   /* of a member of a gang: record and generation */
	uint64_t text[81]; /* spec and image reference, when both fit */
};
_Static_assert(sizeof(struct reg_rec) % REG_LINE == 0, "records start on a cache line");

/* ---- blobs ---- */
struct reg_blob {
	uint64_t head; /* generation of the record 28 << 32 | length 32 */
	uint64_t data[];
};

/* bytes of a unit, its 8-byte head included */
static const uint32_t reg_blob_unit[REG_BLOB_CLASSES] = {640, 2176, 8320, 66624};

#endif
