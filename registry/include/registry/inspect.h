/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks into an arena file from outside, of a living instance or of a dead one, and checks that
 * what is in it fits together.
 *
 *	struct reg_inspect *ins;
 *	struct reg_inspect_sum sum;
 *	if (reg_inspect_open("/dev/shm/fsb-default", &ins) == REG_OK)
 *		reg_inspect_check(ins, print_finding, NULL, &sum);
 *	ins = reg_inspect_close(ins);
 *
 * Caveats
 *   - Never in a process that has attached the same arena: closing any descriptor of the file drops
 *     that process's record locks, which prove that its participants live.
 *   - Not thread safe; one thread per struct reg_inspect.
 *
 * Guarantees
 *   (a) The file is opened and mapped for reading only; no participant joins, no lock is taken.
 *   (b) Holes of the file are never touched, so that reading allocates no memory of a tmpfs.
 *   (c) The contents are hostile: whatever they are, no call crashes or runs for ever, except that
 *       somebody truncates the file meanwhile (nobody of fsb does).
 *   (d) On a live arena what only looked wrong because it was changing is not reported: a finding
 *       counts when the same words contradict each other in several looks.
 */
#ifndef REGISTRY_INSPECT_H
#define REGISTRY_INSPECT_H

#include "registry/registry.h"

#ifdef __cplusplus
extern "C" {
#endif

struct reg_inspect;

/* Also REG_OK when the header is damaged (see reg_inspect_header). REG_NO_ARENA, REG_IO: it cannot
 * be read; REG_BAD_MAGIC: not a regular file. */
REG_USE enum reg_status reg_inspect_open(const char *path, struct reg_inspect **ret);
/* NULL is fine. Returns NULL. */
struct reg_inspect *reg_inspect_close(struct reg_inspect *ins);

/* ---- what may be wrong ---- */
enum reg_finding_class {
	REG_FINDING_BROKEN,   /* contradicts a guarantee: must never be */
	REG_FINDING_LEFTOVER, /* what a dead participant left; comes back by the next reg_reap, or
				 is lost until the arena is rebuilt, as docs/shm-layout.md says */
	REG_FINDING_STALE, /* a hint that is wrong: costs time, heals at its use or by reg_scrub */
	REG_FINDING_CLASSES
};
const char *reg_finding_class_name(enum reg_finding_class class_);

#define REG_FINDING_LIST(X)                                                                        \
	X(HEADER_MAGIC, BROKEN, "the magic is not an arena's")                                     \
	X(HEADER_VERSION, BROKEN, "the layout version is another one")                             \
	X(HEADER_STAMP, BROKEN, "the layout stamp is of another build")                            \
	X(HEADER_LIMITS, BROKEN, "a limit is 0 or over its maximum")                               \
	X(HEADER_SIZE, BROKEN, "the size is not what the limits ask for")                          \
	X(HEADER_REGIONS, BROKEN, "a region is not where the limits put it")                       \
	X(HEADER_INSTANCE, BROKEN, "the instance id is not 32 hex digits")                         \
	X(MEMORY, BROKEN, "more is marked as allocated than the file has")                         \
	X(HIGH_MARK, BROKEN, "in use above its kind's high mark, where no scan looks")             \
	X(CELL_WORD, BROKEN, "a word that no cell of that kind can have")                          \
	X(PART_WORD, BROKEN, "a participant's word that cannot be")                                \
	X(PART_MARK, BROKEN, "a participant's mark names what does not exist")                     \
	X(PART_GRACE, BROKEN, "a grace period that nobody asked for has been passed")              \
	X(PARTS_HIGH, BROKEN, "a participant above the mark, where nobody looks for it")           \
	X(RECORD_OWNER, BROKEN, "the state needs another owner than the record has")               \
	X(RECORD_TEXT, BROKEN, "a text is empty or has no end")                                    \
	X(RECORD_HASH, BROKEN, "the stored hash is not that of the key")                           \
	X(RECORD_POOL, BROKEN, "the pool does not exist")                                          \
	X(RECORD_PORTS, BROKEN, "more ports than there may be, 0, or one of them twice")           \
	X(RECORD_NAME, BROKEN, "the name does not lead to the record")                             \
	X(RECORD_REQUEST, BROKEN, "the request id leads to no record")                             \
	X(RECORD_PORT, BROKEN, "a port does not lead to a record")                                 \
	X(RECORD_PLACE, BROKEN, "the placement names no slot, or is missing, or should not be")    \
	X(RECORD_SLOT, BROKEN, "the slot of the placement is not the record's")                    \
	X(RECORD_BLOB, BROKEN, "the spec, or a reference, leads to nothing of the record")         \
	X(RECORD_HEAD, BROKEN, "a member of a gang without a head")                                \
	X(RECORD_REVISION, BROKEN, "stored more than there is")                                    \
	X(SLOT_OWNER, BROKEN, "the slot's owner is none, or should be none")                       \
	X(SLOT_RECORD, BROKEN, "the slot is held for a record that is not placed there")           \
	X(AGENT_GENERATION, BROKEN, "the hot word is of another generation than the row")          \
	X(GANG, BROKEN, "a gang is being placed by nobody")                                        \
	X(CHUNK, BROKEN, "an agent's chunk of slots is not there, free, or another's")             \
	X(CHUNK_TWICE, BROKEN, "a chunk of slots is named twice")                                  \
	X(AGENT_SLOTS, BROKEN, "more slots than the agent has memory for")                         \
	X(AGENT_COLD, BROKEN, "the agent names a cold record that is not its own")                 \
	X(AGENT_IMAGES, BROKEN, "more images than an agent may have")                              \
	X(AGENT_POOL, BROKEN, "the agent's pool does not exist")                                   \
	X(ROW_OWNER, BROKEN, "the row's state needs another owner than it has")                    \
	X(ROW_RETIRED, BROKEN, "retired, and no entry of the retire list names it")                \
	X(RETIRE, BROKEN, "an entry of the retire list that names nothing retired")                \
	X(ROW_TEXT, BROKEN, "a name is empty or has no end")                                       \
	X(ROW_ENTRY, BROKEN, "the name does not lead to the row")                                  \
	X(MEMBER_HIDDEN, BROKEN,                                                                   \
	  "an agent of a pool or an image in a stripe that no search looks at")                    \
	X(ENTRY_WORD, BROKEN, "an index entry that cannot be")                                     \
	X(ENTRY_DANGLING, BROKEN, "an index entry of something that is gone")                      \
	X(ENTRY_KEY, BROKEN, "an index entry where its key does not belong")                       \
	X(ENTRY_TWICE, BROKEN, "two entries of one key")                                           \
	X(ENTRY_HIDDEN, BROKEN, "a bucket's count is too low: entries further on are not found")   \
	X(PORT_ROW, BROKEN, "a row for a port that cannot be")                                     \
	X(BLOB_LENGTH, BROKEN, "a blob is longer than its unit, or shorter than the spec")         \
	X(BLOB_TWICE, BROKEN, "two references lead to one blob")                                   \
	X(PART_DEAD, LEFTOVER, "a dead participant that is not reaped yet")                        \
	X(OWNER_DEAD, LEFTOVER, "owned by a dead participant")                                     \
	X(NOT_SETTLED, LEFTOVER, "ended, and the slot is still held")                              \
	X(LATE_REF, LEFTOVER, "a reference that came too late, which nobody follows")              \
	X(BLOB_UNUSED, LEFTOVER, "a blob without a reference")                                     \
	X(COLD_UNUSED, LEFTOVER, "a cold record that its agent does not name")                     \
	X(CHUNK_UNUSED, LEFTOVER, "a chunk of slots without an agent")                             \
	X(PORT_SHARED, LEFTOVER, "runs with a port that another sandbox holds")                    \
	X(MASK, STALE, "mask bits that differ from the slot words")                                \
	X(HINT, STALE, "the agent's hint differs from its masks and its hot word")                 \
	X(LIMIT, STALE, "not as many slots may be taken as the slot words allow")                  \
	X(CELL_BIT, STALE, "a cell in use whose hint bit says free")                               \
	X(OVERFLOW, STALE, "a bucket's count is too high: longer searches")                        \
	X(STRIPE, STALE, "a stripe that is looked at in vain")                                     \
	X(LOW, STALE, "a published lowest load is above an agent's")                               \
	X(PORT_BIT, STALE, "a port is marked as in use where nobody has it")                       \
	X(POOL_BIT, STALE, "a pool's bitmap differs from the agents' rows")                        \
	X(IMAGE_UNLISTED, STALE, "an agent has an image that is not on its list")                  \
	X(IMAGE_BIT, STALE, "an image's bitmap names an agent that does not exist")                \
	X(DIRTY, STALE, "newer than stored and not marked; the next crdsync finds it")             \
	X(ENSURED, STALE, "memory in use that is not marked as allocated")

enum reg_finding_kind {
#define REG_FINDING_ENUM(name, class_, text) REG_FINDING_##name,
	REG_FINDING_LIST(REG_FINDING_ENUM)
#undef REG_FINDING_ENUM
		REG_FINDING_MAX
};

struct reg_finding {
	enum reg_finding_kind kind;
	enum reg_finding_class class_;
	const char *name; /* "RECORD_SLOT" */
	const char *text; /* the sentence above */
	char where[64];	  /* "record 12", "agent 3 slot 5" */
	char words[96];	  /* the words that contradict each other */
};

struct reg_inspect_sum {
	bool live;				/* some participant or an owner has its lock */
	unsigned int looks;			/* 1 on a dead arena and on a clean one */
	uint64_t findings[REG_FINDING_CLASSES]; /* confirmed, those not passed to fn included */
	uint64_t transient; /* seen in the first look and explained by a later one */
	bool cut;	    /* more than a look can remember: the first 65536 were followed up */
	uint64_t records, slots_held, names, request_ids, ports, blobs, agents, pools, images;
};

/* Looks at everything, on a live arena up to three times, and passes each confirmed finding to fn,
 * broken ones first. REG_OK also with findings; REG_IO: out of memory. */
REG_USE enum reg_status reg_inspect_check(struct reg_inspect *ins,
					  void (*fn)(void *arg, const struct reg_finding *finding),
					  void *arg, struct reg_inspect_sum *ret);

/* ---- what is there ---- */
struct reg_inspect_region {
	const char *name;
	uint64_t off, size, used; /* bytes; used: of pages that are not holes */
};
struct reg_inspect_header {
	enum reg_status verdict; /* what reg_attach would say to this header; with another one than
				    REG_OK only header fields can be dumped */
	uint64_t magic, version, stamp, total_bytes, file_bytes, allocated_bytes;
	char instance[40]; /* as it is, with a NUL at the end */
	int64_t created_unix_ns;
	struct reg_limits limits;
	uint64_t epoch;
	bool store_loaded;
	bool owned; /* a live process has the owner role */
	uint32_t participants_high;
};
void reg_inspect_header(struct reg_inspect *ins, struct reg_inspect_header *ret);
/* The calls below give nothing when the verdict is not REG_OK. Each begins at *cursor (start with
 * 0) and is false at the end. Copies of words as they are, each true at some moment. */
bool reg_inspect_region_next(struct reg_inspect *ins, uint32_t *cursor,
			     struct reg_inspect_region *ret);

struct reg_inspect_part {
	uint32_t idx, incarnation;
	unsigned int state; /* 0 free, 1 live, 2 left with starts under way */
	unsigned int kind;  /* enum reg_kind */
	int32_t pid;
	bool alive; /* has its lock */
	uint64_t reserved, committed, aborted, refused;
	uint32_t releasing, changing; /* pool, record; UINT32_MAX: none */
};
/* Those that were ever used. */
bool reg_inspect_part_next(struct reg_inspect *ins, uint32_t *cursor, struct reg_inspect_part *ret);

struct reg_inspect_pool {
	uint32_t idx, agents; /* bits in its bitmap */
	char ns[REG_NAMESPACE_MAX + 1], name[REG_NAME_MAX + 1];
	uint64_t full, unmet;
};
bool reg_inspect_pool_next(struct reg_inspect *ins, uint32_t *cursor, struct reg_inspect_pool *ret);

struct reg_inspect_agent {
	uint32_t idx, incarnation, pool, slots, held, chunks;
	int32_t hint; /* INT16_MAX: takes nothing */
	bool ready;
	char ns[REG_NAMESPACE_MAX + 1], name[REG_NAME_MAX + 1];
	char node[REG_NAME_MAX + 1], address[REG_ADDRESS_MAX + 1];
	char pool_name[REG_NAME_MAX + 1];
	int64_t heartbeat_unix_ns;
};
bool reg_inspect_agent_next(struct reg_inspect *ins, uint32_t *cursor,
			    struct reg_inspect_agent *ret);

struct reg_inspect_sandbox {
	uint32_t idx, gen, owner; /* UINT32_MAX: nobody */
	unsigned int state;	  /* enum reg_state */
	unsigned int flags;	  /* deleting 1, expiring 2, exit seen 4, gang 8 */
	uint64_t word;
	char ns[REG_NAMESPACE_MAX + 1], name[REG_NAME_MAX + 1], id[REG_ID_MAX + 1];
	char request_id[REG_REQUEST_ID_MAX + 1], pool_name[REG_NAME_MAX + 1];
	uint32_t pool, agent, slot, slot_gen; /* agent UINT32_MAX: none */
	bool held;			      /* the slot is the record's */
	uint16_t ports[REG_PORTS_MAX];
	uint32_t port_count, spec_len;
	int64_t generation, created_unix_ns, started_unix_ns;
	uint64_t revision, stored;
	bool dirty, urgent;
};
/* Every record in use, invisible ones included. */
bool reg_inspect_sandbox_next(struct reg_inspect *ins, uint32_t *cursor,
			      struct reg_inspect_sandbox *ret);

#ifdef __cplusplus
}
#endif

#endif
