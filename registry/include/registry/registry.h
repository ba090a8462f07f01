/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registry: agents, slots and sandboxes in one shared-memory arena, used by several processes
 * at once without locks.
 *
 *	struct reg *reg;
 *	struct reg_self *me;
 *	reg_attach("/dev/shm/fsb-default", &reg);
 *	reg_join(reg, REG_KIND_WORKER, &me);
 *	struct reg_request req = {.ns = "default", .pool = "default-pool", .name = "a",
 *				  .id = id, .image = "busybox", ...};
 *	struct reg_lease lease;
 *	// name, slot, ports and record are ours
 *	if (reg_reserve(me, &req, &lease) == REG_OK) {
 *		// from here a death means "ask the agent"
 *		reg_starting(me, &lease);
 *		... command the agent ...
 *		// RUNNING, owned by nobody
 *		reg_commit(me, &lease, &started);
 *	}
 *
 * Caveats
 *   - A process attaches an arena once. It must never open and close the arena file by other
 *     means: POSIX record locks, which prove that a participant lives, fall with any close of the
 *     file in the process.
 *   - Nothing survives a fork: the child attaches and joins for itself.
 *   - While anybody has joined through it, a mapping has one thread of its own: it waits for the
 *     process's readers when somebody reclaims. It blocks all signals and ends with the last leave.
 *   - A struct reg_self serves one thread at a time; several threads join several times.
 *   - Strings in requests are borrowed until return; what comes back is copied into the caller's
 *     structs.
 *
 * Guarantees
 *   (a) A slot, a name in a namespace, a port on one agent has never two owners.
 *   (b) reserve, starting, commit, abort, release (stopping, stopped, exited), get and list are
 *       lock free: with any one process stopped or dead at any step, the others complete.
 *   (c) With one caller at a time reserve picks an agent with the lowest score: allocated +
 *       (image cached ? 0 : 1000); ties are spread. Under concurrency (another participant is
 *       inside a placement, or was during about the last 50 µs) the load may be above the lowest
 *       by the claims in flight plus two; an agent without the image is still chosen only when
 *       every matching one with it had no room at some moment of the call, or a load of 1000 more.
 *   (d) reserve answers REG_NO_CAPACITY only after an authoritative pass over the slot words found
 *       none free.
 *   (e) What a reserve, commit or update has returned, every later get and list sees (in any
 *       process).
 *   (f) What a dead participant held is found by its index in the slot and record words, and comes
 *       back by reg_reap.
 *
 * Status values are returned by value; nothing here logs, allocates after attach, or sets errno.
 */
#ifndef REGISTRY_REGISTRY_H
#define REGISTRY_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define REG_STATUS_LIST(X)                                                                         \
	X(OK, "ok")                                                                                \
	X(INVALID, "an argument is out of its documented range")                                   \
	X(NAME_EXISTS, "the name is taken in this namespace")                                      \
	X(NAME_TERMINATING, "the name is held by a sandbox that is being stopped")                 \
	X(REQUEST_SEEN, "the request id was used before; the first result is returned")            \
	X(REQUEST_MISMATCH, "the request id was used before with another request")                 \
	X(NO_POOL, "no such pool in this namespace")                                               \
	X(NO_CAPACITY, "no agent of the pool has a free slot")                                     \
	X(PORT_CONFLICT, "every agent with a free slot has one of the ports in use")               \
	X(NOT_FOUND, "no such object")                                                             \
	X(CONFLICT, "changed meanwhile by somebody else; read again")                              \
	X(STALE, "the handle is of an earlier generation")                                         \
	X(BAD_STATE, "not possible in the sandbox's present state")                                \
	X(DELETING, "done, and a delete has been asked for meanwhile: stop it")                    \
	X(LIMIT_SANDBOXES, "the arena's limit of sandbox records is reached")                      \
	X(LIMIT_AGENTS, "the arena's limit of agents is reached")                                  \
	X(LIMIT_POOLS, "the arena's limit of pools is reached")                                    \
	X(LIMIT_IMAGES, "the arena's limit of images is reached")                                  \
	X(LIMIT_SLOTS, "the arena's limit of slots is reached")                                    \
	X(LIMIT_PARTICIPANTS, "the arena's limit of participants is reached")                      \
	X(LIMIT_BLOBS, "no room for a spec of this size")                                          \
	X(TOO_LARGE, "a text or the encoded spec is longer than its limit")                        \
	X(NO_SPACE, "the file system of the arena is full")                                        \
	X(NO_ARENA, "no arena file at that path")                                                  \
	X(BAD_MAGIC, "the file is not an arena, or its creation was never finished")               \
	X(BAD_LAYOUT, "the arena was made by a build with another layout")                         \
	X(CORRUPT, "the arena's contents contradict themselves")                                   \
	X(IN_USE, "another live process holds that role")                                          \
	X(TIMEOUT, "the deadline has passed")                                                      \
	X(IO, "a system call on the arena file failed")                                            \
	X(BACKLOG, "too much waits for a participant that stands still")

enum reg_status {
#define REG_STATUS_ENUM(name, text) REG_##name,
	REG_STATUS_LIST(REG_STATUS_ENUM)
#undef REG_STATUS_ENUM
		REG_STATUS_MAX
};

#define REG_USE __attribute__((warn_unused_result))

const char *reg_status_name(enum reg_status status); /* "NO_CAPACITY" */
const char *reg_status_text(enum reg_status status); /* the sentence above */

/* Lengths without the NUL. */
enum {
	REG_NAMESPACE_MAX = 63,
	REG_NAME_MAX = 253,
	REG_ID_MAX = 63,
	REG_REQUEST_ID_MAX = 127,
	REG_IMAGE_MAX = 511,
	REG_ADDRESS_MAX = 255,
	REG_MESSAGE_MAX = 255,
	REG_PORTS_MAX = 32,
	REG_SPEC_MAX = 65536,
	REG_LABELS_MAX = 16384,
	REG_AGENT_IMAGES_MAX = 1000,
	REG_SLOTS_PER_AGENT_MAX = 4096,
	REG_PARTICIPANTS_MAX = 256,
};

/* ---- typed ids ---- */
typedef struct {
	uint32_t idx; /* UINT32_MAX: none */
	uint32_t gen; /* of the row: REG_STALE when another agent, or none, has it by now */
} reg_agent_id;

/* A sandbox record: index and generation; a stale one is refused with REG_STALE. 0/0 is never
 * valid. */
typedef struct {
	uint32_t idx;
	uint32_t gen;
} reg_sandbox_id;

/* What a reservation holds; needed for starting, commit and abort. */
struct reg_lease {
	reg_sandbox_id sandbox;
	reg_agent_id agent;
	uint32_t slot;
	uint32_t slot_gen;
};

/* ---- the arena ---- */
struct reg;	 /* one mapping of an arena in this process */
struct reg_self; /* one participant */

struct reg_limits {
	uint32_t agents;		    /* 0: 16384; at most 131072 */
	uint32_t sandboxes;		    /* 0: 1048576; at most 4194304 */
	uint32_t pools;			    /* 0: 4096 */
	uint32_t images;		    /* 0: 65536 */
	uint32_t slots_per_agent_unlimited; /* what capacity <= 0 means; 0: 4096 */
};

/*
 * Makes the arena file (0600) for path, which must not exist, and attaches. Takes the owner role
 * (one registryd per arena): REG_IN_USE when another live process has it. Sparse: memory is
 * allocated as it is used, and a full file system is REG_NO_SPACE from the call that needed it.
 */
REG_USE enum reg_status reg_create(const char *path, const struct reg_limits *limits,
				   struct reg **ret);
/* Attaches and checks everything: magic, layout stamp, sizes, offsets. *ret is set only on REG_OK.
 */
REG_USE enum reg_status reg_attach(const char *path, struct reg **ret);
/* Takes the owner role on an attached arena (registryd). REG_IN_USE: another live process has it.
 */
REG_USE enum reg_status reg_own(struct reg *reg);
/* Every reg_self of it must have left. NULL is fine. Returns NULL. */
struct reg *reg_detach(struct reg *reg);
/* The file at the path is still this arena (not replaced by a new one). */
bool reg_is_current(const struct reg *reg);
const char *reg_instance(const struct reg *reg);    /* 32 hex digits, new for each arena */
uint64_t reg_epoch(const struct reg *reg);	    /* controller epoch */
int64_t reg_created_unix_ns(const struct reg *reg); /* when reg_create made it */
enum reg_status reg_epoch_bump(struct reg *reg, uint64_t at_least); /* owner only */
void reg_limits_get(const struct reg *reg, struct reg_limits *ret);
uint64_t reg_bytes_allocated(const struct reg *reg); /* st_blocks * 512 */

/* ---- participants ---- */
enum reg_kind {
	REG_KIND_WORKER = 1,
	REG_KIND_REGISTRYD,
	REG_KIND_CRDSYNC,
	REG_KIND_TOOL,
};

REG_USE enum reg_status reg_join(struct reg *reg, enum reg_kind kind, struct reg_self **ret);
/* Whatever it still holds stays under its index until reaped. NULL is fine. Returns NULL. */
struct reg_self *reg_leave(struct reg_self *me);
uint32_t reg_self_idx(const struct reg_self *me);
struct reg *reg_self_reg(const struct reg_self *me);

struct reg_participant {
	uint32_t idx;
	uint32_t incarnation;
	enum reg_kind kind;
	int32_t pid;
	bool alive;
	uint64_t reserved, committed, aborted, refused; /* since it joined */
};
/* Next live or dead-and-unreaped participant at or after *cursor; false at the end. Start with 0.
 */
bool reg_participant_next(struct reg_self *me, uint32_t *cursor, struct reg_participant *ret);

/* What reg_reap found: records whose command may have reached the agent. me owns them now; ask the
 * agent (fence), then reg_commit or reg_abort with the lease. */
struct reg_orphan {
	struct reg_lease lease;
};
struct reg_reap_result {
	uint32_t participants; /* dead ones that were reaped */
	uint32_t released;     /* reservations taken back: nothing had been sent */
	uint32_t orphans;      /* passed to fn */
};
/* Finds dead participants, takes back what they held. Re-checks after taking the role; callable by
 * any participant at any time. */
enum reg_status reg_reap(struct reg_self *me,
			 void (*fn)(void *arg, const struct reg_orphan *orphan), void *arg,
			 struct reg_reap_result *ret);
/*
 * Waits until every read section of every participant that runs now has ended (a grace period over
 * processes). REG_TIMEOUT: somebody stands still. Not from inside a callback of the registry.
 */
REG_USE enum reg_status reg_synchronize(struct reg_self *me, uint64_t timeout_ns);
/* A live participant that has not passed the newest grace period: stopped, or just about to. */
struct reg_laggard {
	uint32_t idx, incarnation;
	int32_t pid;   /* who holds its byte lock; 0: this process, or of another pid namespace */
	uint64_t done; /* as long as this stays, it stands still */
};
bool reg_laggard_next(struct reg_self *me, uint32_t *cursor, struct reg_laggard *ret);
/* Compares hints (counters, masks, bitmaps) with the slot words and mends the hints. Returns how
 * many were mended. */
uint32_t reg_scrub(struct reg_self *me);

/* ---- waking up ---- */
/* A change counter of this participant: bumped when a sandbox that it watches has changed. */
uint32_t reg_watch_seq(const struct reg_self *me);
/* Sleeps until the counter is no longer seen, or timeout_ns (UINT64_MAX: for ever), or
 * reg_watch_kick. May run in another thread. */
void reg_watch_wait(struct reg_self *me, uint32_t seen, uint64_t timeout_ns);
void reg_watch_kick(struct reg_self *me);
/* Asks for a bump at each later change of that sandbox (phase, store revision). Check the state
 * after calling this. */
enum reg_status reg_watch(struct reg_self *me, reg_sandbox_id sandbox);

/* ---- agents and pools ---- */
struct reg_agent_info {
	const char *ns, *name; /* the key */
	const char *pool;      /* in the same namespace; made when it does not exist */
	const char *node;
	const char *address; /* "unix:/path" or "host:port" */
	const char *host_ip; /* endpoints of shared-network sandboxes */
	bool shared_network; /* of sandboxes whose spec names no network */
	int32_t capacity;    /* <= 0: unlimited */
};

struct reg_agent_view {
	reg_agent_id id;
	uint32_t incarnation; /* grows with each join under the same name */
	char ns[REG_NAMESPACE_MAX + 1], name[REG_NAME_MAX + 1], pool[REG_NAME_MAX + 1];
	char node[REG_NAME_MAX + 1], address[REG_ADDRESS_MAX + 1], host_ip[64];
	bool shared_network;
	int32_t capacity; /* as given */
	uint32_t slots;	  /* what capacity means here */
	uint32_t allocated;
	bool ready;
	bool draining; /* takes no new ones, whether ready or not */
	bool removed;  /* and kept for as long as a sandbox refers to it, or until it returns */
	int64_t heartbeat_unix_ns;
	uint64_t reserved_total; /* slots taken so far, given back or not */
};

/*
 * Adds the agent, or takes it back with its sandboxes (same ns/name), also after a removal. Not
 * ready until reg_agent_set_ready; whether it drains stays. Several agents may be administered at
 * once, one agent by one participant (registryd). A refusal (REG_LIMIT_*, REG_BACKLOG,
 * REG_CONFLICT: somebody stands still between two steps of making the same row) leaves what was
 * there.
 */
REG_USE enum reg_status reg_agent_join(struct reg_self *me, const struct reg_agent_info *info,
				       reg_agent_id *ret);
enum reg_status reg_agent_set_ready(struct reg_self *me, reg_agent_id agent, bool ready);
enum reg_status reg_agent_heartbeat(struct reg_self *me, reg_agent_id agent, int64_t unix_ns);
/* No new ones from its return on (a reservation that holds its slot by then may still become
 * visible); false: again. By anybody. */
enum reg_status reg_agent_set_drain(struct reg_self *me, reg_agent_id agent, bool drain);
/* <= 0: unlimited. While in use: what runs stays, and no new one until fewer than that are held. */
enum reg_status reg_agent_set_capacity(struct reg_self *me, reg_agent_id agent, int32_t capacity);
/*
 * No new ones, no images, no pool. What runs there becomes LOST and keeps its slot; a start under
 * way ends as its owner says. Until nothing refers to it any more the agent can return by
 * reg_agent_join, with its sandboxes (reg_found); then a sweep frees its row, and handles to it are
 * REG_STALE.
 */
enum reg_status reg_agent_remove(struct reg_self *me, reg_agent_id agent);
/* The whole set of cached images, canonical references; at most REG_AGENT_IMAGES_MAX. */
enum reg_status reg_agent_set_images(struct reg_self *me, reg_agent_id agent,
				     const char *const *images, uint32_t count);
/* What came and what went; a reference in both stays. Costs what it changes and what the agent has,
 * not what the arena has. REG_TOO_LARGE: the set would be; nothing is changed. */
enum reg_status reg_agent_change_images(struct reg_self *me, reg_agent_id agent,
					const char *const *add_refs, uint32_t add_n,
					const char *const *drop_refs, uint32_t drop_n);
REG_USE enum reg_status reg_agent_get(struct reg_self *me, reg_agent_id agent,
				      struct reg_agent_view *ret);
REG_USE enum reg_status reg_agent_find(struct reg_self *me, const char *ns, const char *name,
				       reg_agent_id *ret);
/* Next agent at or after *cursor; false at the end. Start with 0. */
bool reg_agent_next(struct reg_self *me, uint32_t *cursor, struct reg_agent_view *ret);
/* Next image known to the arena at or after *cursor, with the number of agents that have it; false
 * at the end. */
bool reg_image_next(struct reg_self *me, uint32_t *cursor, char ref[REG_IMAGE_MAX + 1],
		    uint32_t *ret_agents);
/* Next image of one agent. */
bool reg_agent_image_next(struct reg_self *me, reg_agent_id agent, uint32_t *cursor,
			  char ref[REG_IMAGE_MAX + 1]);

struct reg_pool_view {
	char ns[REG_NAMESPACE_MAX + 1], name[REG_NAME_MAX + 1];
	uint32_t agents, ready_agents, slots, allocated;
	uint64_t unmet_demand; /* refusals for want of capacity since the arena was made */
};
bool reg_pool_next(struct reg_self *me, uint32_t *cursor, struct reg_pool_view *ret);
/* Makes the pool, or keeps one that an agent's join has made: it stays when it has no agents. At
 * any time. */
REG_USE enum reg_status reg_pool_upsert(struct reg_self *me, const char *ns, const char *name);
/* REG_IN_USE: it has agents or sandboxes (deleted ones that the store may still hold included);
 * REG_NO_POOL; REG_BACKLOG. At any time. */
REG_USE enum reg_status reg_pool_remove(struct reg_self *me, const char *ns, const char *name);

/* ---- reclaiming ---- */
struct reg_sweep_result {
	uint32_t reclaimed; /* things whose grace period was over: free now */
	uint32_t retired;   /* rows that nobody uses: free after a grace period */
	uint32_t backlog;   /* things that wait for a grace period */
};
/*
 * Frees what waited long enough, then looks for rows that nobody uses: removed agents without
 * sandboxes, pools that are not upserted and have neither agents nor sandboxes, images that no
 * agent has (a portion of their rows per call). By anybody, at any time; registryd does it every
 * ten seconds. REG_BACKLOG: the list is full, because somebody stands still (reg_laggard_next).
 */
enum reg_status reg_sweep(struct reg_self *me, struct reg_sweep_result *ret);
uint32_t reg_backlog(const struct reg *reg);

/* ---- sandboxes ---- */
enum reg_state {
	REG_FREE = 0,
	REG_CLAIMED,  /* being filled; not visible */
	REG_RESERVED, /* holds name and slot; nothing sent to the agent */
	REG_STARTING, /* the command may have been sent */
	REG_RUNNING,
	REG_STOPPING,
	REG_EXITED,   /* slot and ports free; exit known */
	REG_EXPIRED,  /* stopped by its expiry; slot and ports free */
	REG_LOST,     /* its agent is gone */
	REG_RESTORED, /* from the store after the arena was lost; its agent has not reported yet; no
			 slot */
	REG_GONE,     /* deleted, but the store may still hold it: only crdsync sees these */
};
const char *reg_state_name(enum reg_state state);

enum reg_consistency { REG_FAST = 0, REG_STRONG = 1 };
enum reg_policy { REG_MANUAL = 0, REG_AUTO_RECREATE = 1 };

struct reg_request {
	const char *ns, *name, *id; /* id: unique text, e.g. 32 hex digits */
	const char *pool;
	const char *image;	/* canonical reference; need not be known to any agent */
	const char *request_id; /* NULL or "": none */
	uint64_t request_hash;	/* of what the client asked for, to tell a repeat from a misuse of
				   request_id */
	const uint16_t *ports;
	uint32_t port_count;
	const void *spec; /* encoded fsb.v1.SandboxSpec */
	uint32_t spec_len;
	const void *labels; /* encoded fsb.v1.StringMap; NULL: none */
	uint32_t labels_len;
	int64_t created_unix_ns;
	int64_t expire_unix_s; /* 0: never */
	enum reg_policy policy;
	int32_t recovery_timeout_s;
	enum reg_consistency consistency;
};

struct reg_exit {
	int32_t code;	/* -1: killed by a signal, or unknown */
	int32_t signal; /* 0: none */
	bool oom_killed;
	bool unknown;
	int64_t finished_unix_ns;
};

struct reg_sandbox_view {
	reg_sandbox_id sandbox;
	enum reg_state state;
	bool deleting; /* a delete has been asked for */
	bool expiring; /* STOPPING because of its expiry */
	char ns[REG_NAMESPACE_MAX + 1], name[REG_NAME_MAX + 1], id[REG_ID_MAX + 1];
	char pool[REG_NAME_MAX + 1], image[REG_IMAGE_MAX + 1];
	char request_id[REG_REQUEST_ID_MAX + 1];
	reg_agent_id agent; /* idx UINT32_MAX: none */
	char agent_name[REG_NAME_MAX + 1], agent_node[REG_NAME_MAX + 1], agent_host_ip[64];
	bool agent_shared_network; /* the agent's default */
	uint32_t slot;		   /* UINT32_MAX: holds none */
	uint32_t slot_gen;
	uint32_t owner; /* participant, UINT32_MAX: nobody */
	uint16_t ports[REG_PORTS_MAX];
	uint32_t port_count;
	int64_t created_unix_ns, started_unix_ns;
	struct reg_exit exit; /* EXITED, EXPIRED */
	int64_t generation;   /* fencing: grows with each reset or re-creation */
	int64_t expire_unix_s;
	enum reg_policy policy;
	int32_t recovery_timeout_s;
	enum reg_consistency consistency;
	uint64_t revision;	  /* grows with each change */
	uint64_t stored_revision; /* newest revision that the store is known to have; 0: none */
	uint64_t dirty_since_ns; /* CLOCK_MONOTONIC, of the oldest change not yet stored; 0: none */
	uint64_t request_hash;	 /* as given in the request */
	uint32_t spec_len, labels_len;
	uint64_t labels_token; /* of the labels as of this view; see REG_IF_LABELS */
	char message[REG_MESSAGE_MAX + 1];
};

/*
 * The whole reservation: record, request id, name, slot and ports. Linearises when the record
 * becomes RESERVED. On REG_REQUEST_SEEN, REG_REQUEST_MISMATCH, REG_NAME_EXISTS and
 * REG_NAME_TERMINATING ret->sandbox is the other one's handle (its idx/gen; 0/0 when it is gone
 * already); nothing else is held. Lock free.
 */
REG_USE enum reg_status reg_reserve(struct reg_self *me, const struct reg_request *req,
				    struct reg_lease *ret);
/*
 * n reservations in one pass. They become visible together, at the moment at which the first of
 * them does: who finds one of them finds all.
 *
 * all: either all or none. ret_status[i] then tells which members stood in the way (REG_OK: this
 * one did not, and is not held either), and a batch whose first refusal is REG_REQUEST_SEEN is
 * looked at to its end, also when there is no room for it. Such batches of one pool are placed one
 * behind another, so that of two that want too much together one succeeds; who waits does so for 10
 * ms at most. They should name one pool.
 *
 * Not all: as many as possible, each as reg_reserve would have it after those before it.
 *
 * ret_leases and ret_status have n entries; REG_OK when at least one (all: every one) is reserved,
 * else the status of the lowest member that was refused. Leases of refused members are as after
 * reg_reserve. Lock free but for that wait.
 */
REG_USE enum reg_status reg_reserve_batch(struct reg_self *me, const struct reg_request *reqs,
					  uint32_t n, bool all, struct reg_lease *ret_leases,
					  enum reg_status *ret_status);
/* RESERVED → STARTING; before the command is sent. REG_DELETING: a delete was asked for; abort. */
REG_USE enum reg_status reg_starting(struct reg_self *me, const struct reg_lease *lease);
struct reg_started {
	int64_t started_unix_ns;
	uint64_t start_ns; /* agent: command received to exec; for the histogram */
};
/* STARTING → RUNNING, owned by nobody. REG_DELETING: it is STOPPING now, command the stop. */
REG_USE enum reg_status reg_commit(struct reg_self *me, const struct reg_lease *lease,
				   const struct reg_started *started);
/* RESERVED or STARTING → gone: slot, ports, name, request id, record. Only when nothing runs at the
 * agent. */
enum reg_status reg_abort(struct reg_self *me, const struct reg_lease *lease);

/* Finds by name what is visible (RESERVED and later; not GONE). */
REG_USE enum reg_status reg_get(struct reg_self *me, const char *ns, const char *name,
				struct reg_sandbox_view *ret);
/* By handle; also GONE ones. REG_STALE when it is another sandbox now. */
REG_USE enum reg_status reg_view(struct reg_self *me, reg_sandbox_id sandbox,
				 struct reg_sandbox_view *ret);
/* Next visible sandbox at or after *cursor, of namespace ns (NULL or "": all); false at the end.
 * Start with 0. */
bool reg_next(struct reg_self *me, uint32_t *cursor, const char *ns, struct reg_sandbox_view *ret);
/* Copies the spec or labels blob; *ret_len ≤ cap or REG_TOO_LARGE with *ret_len = what is needed.
 */
REG_USE enum reg_status reg_spec(struct reg_self *me, reg_sandbox_id sandbox, void *buf,
				 uint32_t cap, uint32_t *ret_len);
REG_USE enum reg_status reg_labels(struct reg_self *me, reg_sandbox_id sandbox, void *buf,
				   uint32_t cap, uint32_t *ret_len);

/* Field mask of reg_update. */
enum {
	REG_SET_EXPIRE = 1u << 0,
	REG_SET_POLICY = 1u << 1,
	REG_SET_RECOVERY = 1u << 2,
	REG_SET_LABELS = 1u << 3,
	REG_IF_LABELS = 1u << 4, /* with SET_LABELS: only if labels_seen still holds */
};
struct reg_update {
	uint32_t fields;
	int64_t expire_unix_s;
	enum reg_policy policy;
	int32_t recovery_timeout_s;
	const void *labels; /* replaces all */
	uint32_t labels_len;
	uint64_t labels_seen; /* REG_IF_LABELS: labels_token of a view taken before the labels were
				 read; else REG_CONFLICT and nothing is changed */
};
enum reg_status reg_update(struct reg_self *me, reg_sandbox_id sandbox,
			   const struct reg_update *update);

enum reg_stop_reason { REG_STOP_DELETE, REG_STOP_EXPIRE };
/*
 * Asks for the end of a sandbox.
 *   RUNNING → STOPPING: REG_OK, command the agent's stop, then reg_stopped.
 *   STOPPING: marks it as to be deleted too (DELETE): REG_OK; whoever drives the stop goes on.
 *   RESERVED, STARTING: marks it; its owner will see REG_DELETING. REG_OK.
 *   RESTORED (DELETE): marks it; reg_adopt will answer REG_DELETING, after reg_lost or reg_exited
 *     ask again. REG_OK.
 *   EXITED, EXPIRED, LOST (DELETE): → STOPPING without slot: REG_OK; command the agent's remove,
 *     then reg_stopped.
 *   EXPIRE in other states than RUNNING: REG_BAD_STATE.
 * *ret_prior (may be NULL) is the state before.
 */
REG_USE enum reg_status reg_stop(struct reg_self *me, reg_sandbox_id sandbox,
				 enum reg_stop_reason reason, enum reg_state *ret_prior);
/*
 * The agent has confirmed that nothing of it runs. STOPPING → slot, ports free; then EXPIRED
 * (reason was expiry alone; exit kept when given) or gone (name and request id free). RUNNING,
 * EXITED, LOST when the stop came from the agent's side: as EXITED.
 */
enum reg_status reg_stopped(struct reg_self *me, reg_sandbox_id sandbox,
			    const struct reg_exit *exit);
/* RUNNING, LOST or RESTORED → EXITED; slot and ports free. STOPPING: notes the exit only.
 * Idempotent. */
enum reg_status reg_exited(struct reg_self *me, reg_sandbox_id sandbox,
			   const struct reg_exit *exit);
/* RUNNING, RESTORED → LOST; the slot stays with the agent until its return or removal. message is
 * kept for readers. */
enum reg_status reg_lost(struct reg_self *me, reg_sandbox_id sandbox, const char *message);
/* LOST → RUNNING: its agent is back with it. One that holds no slot (from the store) gets one
 * there, as by reg_adopt. */
enum reg_status reg_found(struct reg_self *me, reg_sandbox_id sandbox);

/* ---- rebuilding ---- */
struct reg_restore {
	struct reg_request req;
	enum reg_state state;	/* RESTORED (it ran or was starting), EXITED, EXPIRED, LOST */
	const char *agent_name; /* where it was; NULL or "": nowhere */
	int64_t generation;
	int64_t started_unix_ns;
	struct reg_exit exit;
	const char *message; /* NULL: none */
	bool from_store;     /* stored already, not dirty */
};
/* Inserts a record that exists in the store or at an agent. REG_NAME_EXISTS when the arena has that
 * name. */
REG_USE enum reg_status reg_insert(struct reg_self *me, const struct reg_restore *restore,
				   reg_sandbox_id *ret);
/* The agent runs it: RESTORED or LOST (or RUNNING there already) → RUNNING on that agent with a
 * slot of its own (also beyond the capacity, so that nothing that runs is ever without a slot) and
 * its ports. REG_DELETING: a delete was asked for while it was RESTORED; it is STOPPING now,
 * command the stop. */
enum reg_status reg_adopt(struct reg_self *me, reg_sandbox_id sandbox, reg_agent_id agent);
/* crdsync has inserted everything that the store holds (or there is no store). */
void reg_store_loaded_set(struct reg *reg);
bool reg_store_loaded(const struct reg *reg);

/* ---- the dirty set (crdsync) ---- */
/* Takes up to max dirty sandboxes, urgent ones first; taken means the bit is cleared. Returns how
 * many. */
uint32_t reg_dirty_take(struct reg_self *me, reg_sandbox_id *ret, uint32_t max);
/* Not written after all: the bit again. */
void reg_dirty_again(struct reg_self *me, reg_sandbox_id sandbox);
/* At the start of a crdsync: the bit again for all whose newest revision is not stored, GONE ones
 * too: what a predecessor had taken when it died. Returns how many. */
uint32_t reg_dirty_rescan(struct reg_self *me);
/* Sleeps until something is dirty, or timeout_ns. */
void reg_dirty_wait(struct reg_self *me, uint64_t timeout_ns);
void reg_dirty_kick(struct reg *reg);
/* Marks a sandbox urgent and dirty, so that it is written first. */
enum reg_status reg_dirty_urgent(struct reg_self *me, reg_sandbox_id sandbox);
uint32_t reg_dirty_count(const struct reg *reg);
/* Something urgent is dirty: commit now, don't gather more. */
bool reg_dirty_urgent_waiting(const struct reg *reg);
/* Now minus the time of the oldest unwritten change; 0: all written. */
uint64_t reg_store_lag_ns(struct reg_self *me);
/*
 * Before writing: marks that the store may hold it from now on, and copies it. REG_STALE: it is
 * gone and was never stored, nothing to do. State GONE: delete it from the store, then
 * reg_store_forgotten.
 */
REG_USE enum reg_status reg_store_begin(struct reg_self *me, reg_sandbox_id sandbox,
					struct reg_sandbox_view *ret);
/* The store has that revision; wakes who waits for it. lag_ns goes into the histogram. */
enum reg_status reg_stored(struct reg_self *me, reg_sandbox_id sandbox, uint64_t revision,
			   uint64_t lag_ns);
/* The store no longer holds a GONE sandbox: the record is free. */
enum reg_status reg_store_forgotten(struct reg_self *me, reg_sandbox_id sandbox);

/* ---- figures ---- */
/* What each participant counts in lines of its own; read as the sum over all, those that left or
 * died included. */
#define REG_COUNT_LIST(X)                                                                          \
	X(RESERVED, "reserved_total", "reservations that became visible")                          \
	X(COMMITTED, "committed_total", "sandboxes that were started")                             \
	X(ABORTED, "aborted_total", "reservations given back by their owner")                      \
	X(LOST_CAS, "slot_cas_lost", "slots that somebody else took in between")                   \
	X(NOMINATION_FAILED, "nominations_failed", "agents whose hint said room and had none")     \
	X(HOME_HIT, "home_hits", "placements found in the caller's own part of the pool")          \
	X(STEAL, "steals", "placements found in another worker's part")                            \
	X(PASS, "authoritative_passes", "passes over the slot words")                              \
	X(MEMO_REFUSED, "memo_refusals", "searches that ended at a remembered full pool")          \
	X(MAGAZINE_MISS, "magazine_misses", "units taken from the common stock")                   \
	X(GANG_WAIT, "gang_waits", "batches that waited for another one of their pool")            \
	X(GRACE_PERIOD, "grace_periods",                                                           \
	  "arena-wide grace periods that were waited for to their end")                            \
	X(RETIRED, "retired", "things taken out of use, to be freed after a grace period")         \
	X(RECLAIMED, "reclaimed", "things freed after their grace period")                         \
	X(REAPED, "participants_reaped", "dead participants whose holdings were taken back")       \
	X(REAP_RELEASED, "reservations_reaped", "reservations of the dead that were taken back")   \
	X(REAP_ORPHAN, "orphans_found", "starts of the dead that the agent had to be asked about") \
	X(SCRUBBED, "hints_scrubbed", "hints that the scrubber mended")

enum reg_counter {
#define REG_COUNT_ENUM(name, key, text) REG_COUNT_##name,
	REG_COUNT_LIST(REG_COUNT_ENUM)
#undef REG_COUNT_ENUM
		REG_COUNT_MAX
};

const char *reg_counter_name(enum reg_counter counter); /* "reserved_total" */
const char *reg_counter_text(enum reg_counter counter); /* the sentence above */

struct reg_counters {
	uint64_t count[REG_COUNT_MAX];
	uint64_t refused[REG_STATUS_MAX]; /* reserve's refusals by reason; a batch counts each
					     member that it refused */
};
/* Since the arena was made. Never goes down: who joins in the place of another counts on. */
void reg_counters_get(const struct reg *reg, struct reg_counters *ret);

/* Stages of a create, in ns. The caller of the registry times and adds what is not said otherwise.
 */
enum reg_hist {
	REG_HIST_RESERVE,   /* one successful reg_reserve */
	REG_HIST_BATCH,	    /* one reg_reserve_batch, of any size */
	REG_HIST_AGENT,	    /* command sent to its acknowledgement */
	REG_HIST_START,	    /* at the agent: command received to exec; reg_commit adds it */
	REG_HIST_TOTAL,	    /* request received to reply */
	REG_HIST_STORE_LAG, /* change to its write; reg_stored adds it */
	REG_HIST_MAX
};
/* Log-linear buckets of at most an eighth of their value, up to 2^39 ns (nine minutes); what is
 * longer is counted there, and the maximum is kept as it is. */
void reg_hist_add(struct reg_self *me, enum reg_hist hist, uint64_t ns);
struct reg_hist_view {
	const char *name;
	uint64_t count, p50_ns, p90_ns, p99_ns, p999_ns, max_ns;
};
/* All participants together; as reg_counters_get it never goes down. */
void reg_hist_get(const struct reg *reg, enum reg_hist hist, struct reg_hist_view *ret);

struct reg_books {
	uint32_t sandboxes;  /* records in use, GONE ones included */
	uint32_t slots_held; /* slot words that are not free */
	uint32_t names, request_ids, ports;
	uint32_t blobs;
	uint32_t contradictions; /* e.g. a slot whose record does not name it, an index entry
				    without its record */
};
/* Counts everything from the truth words; contradictions must be 0 when nothing else runs. */
void reg_books(struct reg_self *me, struct reg_books *ret);

#ifdef __cplusplus
}
#endif

#endif
