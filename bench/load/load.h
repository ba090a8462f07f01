/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A load generator: one thread, one loop. What the files share:
 *   main.c    options, and the run from connecting to the report
 *   call.c    one operation: its requests, its replies, its latency
 *   drive.c   when operations begin: open loop on a schedule, or closed loop
 *   books.c   what was made: deleted at the end, and nothing of it may be left
 *   reason.c  why some failed       report.c  text and JSON       schedule.c  arithmetic
 */
#ifndef LOAD_LOAD_H
#define LOAD_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/gclient.h"
#include "base/opt.h"
#include "dist.h"
#include "due.h"
#include "hist.h"
#include "rng.h"
#include "schedule.h"
#include "table.h"

enum load_mode { MODE_CREATE, MODE_FASTPATH, MODE_GET, MODE_LIST, MODE_BATCH, MODE_ECHO };
enum load_hist {
	HIST_MAIN,    /* create, get, list, batch or echo: from its scheduled moment */
	HIST_DELETE,  /* from when it was due: the create's end and --hold */
	HIST_LAG,     /* from the scheduled moment to the send: the generator's own lateness */
	HIST_SERVICE, /* from the send: what a closed loop would have seen */
	HIST_RESERVE, /* as the server's replies say */
	HIST_AGENT,
	HIST_SERVER,
	HIST_MAX,
};

enum { CONNECTIONS_MAX = 1024, WORKERS_MAX = 256, REASONS_MAX = 24, REASON_BYTES = 112 };

struct load_options {
	const char *target, *mode_text, *namespace_, *pool, *image, *prefix, *json_file;
	enum load_mode mode;
	double rate;
	uint64_t duration_ns, warmup_ns, timeout_ns;
	int64_t connections, in_flight_max, closed, batch, population, spec_bytes, seed;
	struct dist hold;
	bool exclusive, foreign_deletes, strong;
	char *const *command;
	int command_count;
};

/* Something that was asked for and may exist. In the books from its create on until its delete is
 * confirmed. */
struct op {
	struct table_node node;
	struct due_item due;
	struct load *load;
	uint64_t sched_ns, sent_ns; /* of the request under way */
	uint32_t channel;
	bool measured, listed, created;
	/* MODE_BATCH */
	struct gclient_call *stream;
	uint8_t *members; /* started and not yet deleted */
	int32_t next_member, members_in_flight, members_started;
	char name[64];
};

struct reason {
	int status;
	const char *where; /* "create" */
	char text[REASON_BYTES];
	uint64_t count;
};

struct load_counts {
	uint64_t arrivals, dropped; /* of the measured window */
	uint64_t done, errors;	    /* of these */
	uint64_t all_arrivals, all_dropped;
	uint64_t created, deleted; /* whole run, members of batches too */
	uint64_t vanished;	   /* created, and then unknown to the server */
	uint64_t left, leaked;	   /* found at the end: could be there; was deleted or refused */
	uint64_t recovered;	   /* of these, deleted then */
	uint64_t remaining;	   /* still there after that */
	uint64_t delete_errors;
};

struct load {
	struct load_options o;
	struct gloop *loop;
	struct due *due;
	struct gchannel **channels;
	uint32_t next_channel;
	struct rng rng;
	uint64_t next_serial;
	uint64_t in_flight; /* operations: not yet answered */
	uint64_t pending;   /* requests of any kind */
	uint64_t alive_max;
	struct table ops; /* by name */
	struct op **population;
	size_t population_count;

	struct schedule schedule;
	struct due_item arrival;
	struct due_item end;		  /* closed loop */
	bool driving, ended, interrupted; /* ended: no more begin, but those under way go on */
	uint64_t last_done_ns;		  /* of the measured operations */

	struct hist hists[HIST_MAX];
	struct load_counts n;
	struct reason reasons[REASONS_MAX];
	size_t reason_count;
	uint64_t reasons_more;
	uint64_t workers[WORKERS_MAX]; /* creates by the worker that served them */

	int32_t agents, simulated_agents;
	char simulated_name[64];
	int64_t allocated_before, allocated_after;
	double cpu_s, wall_s; /* while it was driving */
};

/* ---- call.c ---- */
/* Begins an operation that was due at sched_ns. */
void call_begin(struct load *load, uint64_t sched_ns, bool measured);
/* Begins the create of a sandbox that stays until the end. */
void call_populate(struct load *load);
/* Deletes what the name stands for; the answer goes to the books. */
void call_delete(struct load *load, struct op *op);
const char *call_title(const struct load *load);
/* Which sandboxes are of this run. */
#define LOAD_LABEL "fsb-load"

/* ---- reason.c ---- */
/* where: a constant. */
void reason_note(struct load *load, const char *where, int status, const char *message);

/* ---- drive.c ---- */
void drive_run(struct load *load);
/* An operation has ended. */
void drive_ended(struct load *load);

/* ---- books.c ---- */
int books_open(struct load *load, struct err *err);
int books_populate(struct load *load, struct err *err);
/* Deletes what is left; true: balanced. */
bool books_close(struct load *load);
struct op *books_find(struct load *load, const char *name);
int books_add(struct load *load, struct op *op);
/* Out of the books, and freed. */
void books_drop(struct load *load, struct op *op);
bool books_balanced(const struct load *load);

/* ---- report.c ---- */
void report_print(struct load *load);
int report_json(struct load *load, struct err *err);

#endif
