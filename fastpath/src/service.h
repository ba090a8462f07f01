/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service: what can be asked of fsb, without saying over which protocol. Every function takes
 * its arguments as borrowed plain data and answers by exactly one call of its done callback,
 * possibly before it returns. All of it runs on the loop's thread.
 */
#ifndef FASTPATH_SERVICE_H
#define FASTPATH_SERVICE_H

#include "deadline.h"
#include "links.h"
#include "park.h"
#include "plan.h"

enum {
	/* Calls in flight in one worker; more are not read from their connections. */
	FP_CALLS_MAX = 16384,
	/* Of these, calls that only wait; more are refused, so that creates always find room. */
	FP_IDLE_MAX = 12288,
};
/* Deadline of creates and deletes whose client has none. */
#define FP_DEADLINE_NS (60 * NS_PER_S)

/* A call that waits for somebody else for as long as it takes: a drain ends it before it is cut
 * off. */
struct fp_idle {
	TAILQ_ENTRY(fp_idle) link;
	bool listed, at_once;
	void (*end)(struct fp_idle *idle);
};

struct fp_service {
	struct gloop *loop;
	struct reg *reg;
	struct reg_self *me;
	struct fp_links *links;
	struct fp_parks parks;
	struct fp_deadlines deadlines;
	bool default_strong;
	bool draining;
	struct fp_deadline linger;
	TAILQ_HEAD(, fp_idle) idle;
	uint32_t idle_count;
	TAILQ_HEAD(, fp_start) store_waits, fencing; /* start.c */
	struct gloop_timer *store_timer;
	bool store_timer_set;
	uint64_t store_absent_since_ns; /* 0: fsb-crdsync is there */
};

struct fp_service_options {
	struct gloop *loop;
	struct reg *reg;     /* attached; stays the caller's */
	struct reg_self *me; /* joined as a worker; stays the caller's */
	bool default_strong;
};
/* gives; NULL when out of memory. */
struct fp_service *fp_service_new(const struct fp_service_options *opts);
/* Every call has been answered. Returns NULL. */
struct fp_service *fp_service_free(struct fp_service *svc);
/*
 * New calls are refused. Who only waits (Wait, Delete with wait, followed logs) may go on for
 * linger_ns, then gets UNAVAILABLE; health watchers hear NOT_SERVING at once.
 */
void fp_service_drain(struct fp_service *svc, uint64_t linger_ns);
/* Creates are served: the arena holds what the store held. */
bool fp_service_ready(const struct fp_service *svc);

/* For the modules of the service. */
/* No room for another call that waits, or the worker is ending. */
int fp_idle_check(const struct fp_service *svc, struct fp_fail *fail);
/* at_once: a drain does not let it linger. */
void fp_idle_add(struct fp_service *svc, struct fp_idle *idle, bool at_once,
		 void (*end)(struct fp_idle *idle));
void fp_idle_del(struct fp_service *svc, struct fp_idle *idle);
/* Default namespace, name checked, found: G_OK and *ret. */
int fp_lookup(struct fp_service *svc, const char *ns, const char *name,
	      struct reg_sandbox_view *ret, struct fp_fail *fail);

/* ---- create ---- */
struct fp_timings {
	uint64_t reserve_ns, agent_ns, start_ns, total_ns;
	int32_t worker;
};
struct fp_created {
	int status;			     /* enum gstatus */
	const char *message;		     /* never NULL */
	const struct reg_sandbox_view *view; /* NULL unless G_OK */
	struct fp_timings timings;
};
/*
 * Once reserved, a create goes on whether or not somebody still listens: it is kept when the agent
 * confirms it and undone when the agent refuses. A client that gave up finds it by its name or
 * request_id. A deadline or a lost store before the command was sent undoes it; while wait_for
 * stored is pending it stops it again.
 */
void fp_create(struct fp_service *svc, const struct fp_create_args *args,
	       void (*done)(void *arg, const struct fp_created *created), void *arg);

struct fp_member_args {
	uint32_t index;
	struct fp_override over;
};
struct fp_batch_args {
	struct fp_create_args common;
	int32_t count;
	int mode; /* Fsb__V1__BatchMode */
	const struct fp_member_args *overrides;
	size_t n_overrides;
};
struct fp_batch_member {
	uint32_t index;
	struct fp_created created;
};
struct fp_batch_summary {
	const char *name;
	uint32_t requested, started, failed;
	uint64_t reserve_ns, total_ns;
};
struct fp_batch_handlers {
	/* Some members are decided; views are borrowed until return. */
	void (*on_members)(void *arg, const struct fp_batch_member *members, size_t n);
	/* The last call. summary is NULL when the request was refused as a whole. */
	void (*on_end)(void *arg, int status, const char *message,
		       const struct fp_batch_summary *summary);
	void *arg;
};
/*
 * PARTIAL: members are reported as they start or fail. ALL_OR_NOTHING: successes are reported when
 * all have started; when one fails, those that had started are stopped, every member is reported as
 * failed, and the end has the first failure's status.
 */
void fp_batch(struct fp_service *svc, const struct fp_batch_args *args,
	      const struct fp_batch_handlers *handlers);

/* ---- read ---- */
int fp_get(struct fp_service *svc, const char *ns, const char *name, struct reg_sandbox_view *ret,
	   struct fp_fail *fail);
struct fp_list_args {
	const char *ns, *pool, *phase; /* "": all */
	struct fp_map labels;	       /* all must match */
};
struct fp_list_handlers {
	/* At most n items follow. */
	void (*on_begin)(void *arg, size_t n);
	void (*on_item)(void *arg, const struct reg_sandbox_view *view); /* borrowed */
	void *arg;
};
/* Sorted by namespace and name; the handlers are called from inside. */
int fp_list(struct fp_service *svc, const struct fp_list_args *args,
	    const struct fp_list_handlers *handlers, struct fp_fail *fail);
/* The ports that others can reach, in the order of the request: all of a sandbox in its agent's
 * network, else none. Returns how many. */
uint32_t fp_endpoint_ports(struct fp_service *svc, const struct reg_sandbox_view *view,
			   uint16_t ret[REG_PORTS_MAX]);

typedef void (*fp_sandbox_fn)(void *arg, int status, const char *message,
			      const struct reg_sandbox_view *view);
struct fp_wait_args {
	const char *ns, *name, *phase; /* phase "": any end */
	int64_t timeout_ms;	       /* 0: none of its own */
	uint64_t deadline_ns;
};
struct fp_wait;
/* The handle is for fp_wait_cancel and dead once done was called; NULL when it was called already.
 */
struct fp_wait *fp_wait(struct fp_service *svc, const struct fp_wait_args *args, fp_sandbox_fn done,
			void *arg);
/* Answers CANCELLED. */
void fp_wait_cancel(struct fp_wait *wait);

/* ---- delete, update ---- */
struct fp_delete_args {
	const char *ns, *name;
	int32_t grace_s;
	bool wait;
	uint64_t deadline_ns;
};
struct fp_delete;
typedef void (*fp_status_fn)(void *arg, int status, const char *message);
/* As fp_wait. The delete itself goes on whatever becomes of the call. */
struct fp_delete *fp_delete(struct fp_service *svc, const struct fp_delete_args *args,
			    fp_status_fn done, void *arg);
void fp_delete_cancel(struct fp_delete *del);

struct fp_update_args {
	const char *ns, *name;
	uint32_t fields; /* REG_SET_* */
	int64_t expire_unix_s;
	int policy;
	int32_t recovery_timeout_s;
	struct fp_map labels; /* merged into what is there */
	bool reset;	      /* asked for: refused with UNIMPLEMENTED */
};
/* ret_found: the sandbox exists, whatever the status is. */
int fp_update(struct fp_service *svc, const struct fp_update_args *args,
	      struct reg_sandbox_view *ret, bool *ret_found, struct fp_fail *fail);

/* ---- logs ---- */
struct fp_logs_handlers {
	void (*on_chunk)(void *arg, const void *data, size_t len);
	/* The last call. */
	void (*on_end)(void *arg, int status, const char *message);
	void *arg;
};
struct fp_logs;
/* The handle is valid until on_end returns; NULL when that was called already. */
struct fp_logs *fp_logs(struct fp_service *svc, const char *ns, const char *name, bool follow,
			const struct fp_logs_handlers *handlers);
void fp_logs_cancel(struct fp_logs *logs);
/* The reader is full, or has caught up. */
void fp_logs_pause(struct fp_logs *logs, bool pause);

/* ---- administration: reads are made by the face directly from the registry ---- */
struct fp_load_args {
	const char *layout_path, *layout_ref, *name, *ns, *pool;
	uint64_t deadline_ns;
};
struct fp_loaded {
	int status;
	const char *message;
	const char *image, *digest;
	uint64_t bytes;
	uint32_t agents;
};
/* One agent after the other (those that share a store find it there); the first refusal ends it. */
void fp_load_image(struct fp_service *svc, const struct fp_load_args *args,
		   void (*done)(void *arg, const struct fp_loaded *loaded), void *arg);

#endif
