/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of fsb-registryd share. One thread, one gloop; every function here runs on it. The
 * arena is the truth: whatever stands in these structs can be lost with the process and is found
 * again from the arena and from what the agents report.
 */
#ifndef REGISTRYD_DAEMON_H
#define REGISTRYD_DAEMON_H

#include <stdbool.h>
#include <stdint.h>

#include "agentlink/agentlink.h"
#include "base/err.h"
#include "base/gloop.h"
#include "base/opt.h"
#include "base/procid.h"
#include "map.h"
#include "registry/registry.h"

struct rd_options {
	const char *run_dir, *arena;
	struct opt_list agents;
	uint32_t max_agents, max_sandboxes;
	uint64_t agent_timeout_ns, agent_forget_ns, exited_ttl_ns, reap_interval_ns;
	uint64_t kill_stopped_ns; /* 0: never */
	bool no_store;
};

enum {
	RD_EXIT_OK = 0,
	RD_EXIT_FAILED = 1,
	RD_EXIT_USAGE = 2,
	RD_EXIT_ARENA = 3, /* another registryd has the arena, or it was replaced */
};

struct rd_agent {
	struct rd_daemon *d;
	struct rd_agent *next;
	char *address;
	uint32_t address_hash;
	const char *socket_path; /* inside address; NULL: TCP */
	struct agentlink *link;
	reg_agent_id id; /* idx UINT32_MAX: has never said hello */
	char ns[REG_NAMESPACE_MAX + 1], name[REG_NAME_MAX + 1], pool[REG_NAME_MAX + 1];
	bool from_flag;	  /* given by --agent: kept for ever */
	bool ready, lost; /* as this daemon has told the arena */
	bool dialled;
	bool first_try;	       /* dialled, and neither answered nor failed yet */
	bool dead;	       /* to be freed by the next tick; never used again */
	struct procid process; /* pid 0: not known, or not of this host */
	uint64_t seen_ns;      /* CLOCK_MONOTONIC: last hello, heartbeat or start */
	int64_t seen_unix_ns;  /* the same for readers */
	struct rd_reported
		*reported; /* ids of the last hello, until they are compared with the arena */
};

/* A participant that does not pass grace periods, and since when it was seen at that one. */
struct rd_still {
	uint32_t incarnation;
	uint64_t done, since_ns;
};

struct rd_daemon {
	const struct rd_options *options;
	struct gloop *loop;
	struct reg *reg;
	struct reg_self *me;
	int exit_code;
	uint64_t start_ns;
	bool store_loaded;  /* seen; agents are dialled from then on */
	uint64_t loaded_ns; /* when */
	struct rd_agent *agents;
	struct rd_map agent_by_idx; /* reg_agent_id.idx → struct rd_agent */
	struct gloop_timer *tick, *reap, *scrub, *retention;
	struct rd_still still[REG_PARTICIPANTS_MAX];
	bool backlog_told;
	struct rd_discover *discover;
	struct rd_expiry *expiry;
	struct rd_sweep *sweep;
	struct rd_map stops; /* record idx → struct rd_stop */
	struct rd_condemned *condemned;
	struct rd_orphan *orphans;
	struct rd_exit *exits;
};

/* daemon.c */
int rd_run(const struct rd_options *options);
void rd_end(struct rd_daemon *d, int exit_code);

/* arena.c: attaches or makes the arena, takes the owner role, joins. Exit code; has logged why. */
int rd_arena_open(struct rd_daemon *d);

/* discover.c: watches RUN_DIR/agents and calls rd_agent_add/rd_agent_gone. */
int rd_discover_start(struct rd_daemon *d, struct err *err);
void rd_discover_stop(struct rd_daemon *d);

/* agents.c */
/* An address to dial; known ones are left alone. */
void rd_agent_add(struct rd_daemon *d, const char *address, bool from_flag);
/* Its socket file has vanished. */
void rd_agent_socket_gone(struct rd_daemon *d, const char *address);
/* Agents that the arena knows from a predecessor. */
void rd_agents_from_arena(struct rd_daemon *d);
/* The store is loaded: agents are dialled from the next tick on, and their time begins. */
void rd_agents_dial(struct rd_daemon *d);
/* Its row was given up: it has no id until its next hello. */
void rd_agent_forgotten(struct rd_daemon *d, reg_agent_id id);
/* Liveness, every tick. */
void rd_agents_check(struct rd_daemon *d);
void rd_agents_done(struct rd_daemon *d);
/* The agent that holds a record, by index or (a restored one) by name; NULL: not known to this
 * daemon. */
struct rd_agent *rd_agent_of(struct rd_daemon *d, const struct reg_sandbox_view *view);
/* Its link is up: commands can go. */
bool rd_agent_is_up(const struct rd_agent *agent);
/* Nobody knows the agent, or it was declared lost: it will confirm nothing in the near future. */
bool rd_agent_is_out(struct rd_daemon *d, const struct rd_agent *agent);

/* merge.c: what an agent reports against what the arena says. */
void rd_merge_reports(struct rd_agent *agent, const Fsb__Agent__V1__HelloReply *hello);
/* Compares one record of this agent with its last report. */
void rd_merge_missing(struct rd_agent *agent, const struct reg_sandbox_view *view);
bool rd_merge_was_reported(const struct rd_agent *agent, const char *id);
void rd_merge_forget(struct rd_agent *agent);
struct reg_exit rd_exit_of(const Fsb__Agent__V1__ExitInfo *info);

/* exits.c: exit and removal events. */
void rd_exit_event(struct rd_agent *agent, const Fsb__Agent__V1__SandboxExited *event);
void rd_removed_event(struct rd_agent *agent, const Fsb__Agent__V1__SandboxRemoved *event);
/* Notes the exit of a record that may not be RUNNING yet: repeated until it is. */
void rd_exit_note(struct rd_daemon *d, reg_sandbox_id sandbox, const struct reg_exit *exit);
void rd_exits_retry(struct rd_daemon *d);
void rd_exits_done(struct rd_daemon *d);

/* stops.c: STOPPING records. */
/* now: command the stop at once (the caller made it STOPPING); else give whoever did 2 s. */
void rd_stop_track(struct rd_daemon *d, const struct reg_sandbox_view *view, bool now);
void rd_stops_drive(struct rd_daemon *d);
/* Something of an agent that no record stands for is to go. */
void rd_stop_leftover(struct rd_agent *agent, const char *id, int64_t generation, const char *why);
/* Its record was let go while its agent was lost: to be stopped should the agent come back with it.
 */
bool rd_stop_is_condemned(const struct rd_daemon *d, const char *id);
void rd_stops_done(struct rd_daemon *d);

/* orphans.c: reaping, and what dead participants had sent to agents. */
void rd_reap(struct rd_daemon *d);
void rd_orphans_drive(struct rd_daemon *d);
void rd_orphans_done(struct rd_daemon *d);

/* fence.c: "do you run it?" for a record; fn is called once, from the loop. */
enum rd_fence { RD_FENCE_RUNNING, RD_FENCE_EXITED, RD_FENCE_NOT, RD_FENCE_NO_ANSWER };
typedef void (*rd_fence_fn)(struct rd_daemon *d, void *arg, enum rd_fence answer,
			    const Fsb__Agent__V1__SandboxReport *report);
void rd_fence_ask(struct rd_agent *agent, const char *id, int64_t generation, rd_fence_fn fn,
		  void *arg);

/* expiry.c */
struct rd_expiry *rd_expiry_new(struct rd_daemon *d);
void rd_expiry_note(struct rd_daemon *d, reg_sandbox_id sandbox, int64_t expire_unix_s);
void rd_expiry_run(struct rd_daemon *d);
struct rd_expiry *rd_expiry_free(struct rd_expiry *expiry);

/* retention.c: agents, rows and processes that nobody needs any more. */
void rd_retention_run(struct rd_daemon *d);
uint64_t rd_retention_interval_ns(const struct rd_daemon *d);

/* sweep.c: a walk over all records in small portions; and whole ones on demand. */
struct rd_sweep *rd_sweep_new(struct rd_daemon *d);
void rd_sweep_portion(struct rd_daemon *d);
/* A whole walk at the next tick (an agent has said hello or was lost). */
void rd_sweep_soon(struct rd_daemon *d);
struct rd_sweep *rd_sweep_free(struct rd_sweep *sweep);

#endif
