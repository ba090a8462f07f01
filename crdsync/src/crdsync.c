/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop: sleep until something is dirty, gather for a moment unless it is urgent, one
 * transaction, publish. A failing store is tried again with growing pauses; nothing here ever makes
 * a create wait that did not ask for it.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "crdsync.h"
#include "load.h"
#include "registry/registry.h"
#include "store.h"
#include "writer.h"

volatile sig_atomic_t crdsync_stop;

#define ATTACH_NS  (30 * NS_PER_S)
#define DRAIN_NS   (5 * NS_PER_S)
#define POLL_NS	   (100 * NS_PER_MS) /* how late a signal or a parked object may be seen */
#define CURRENT_NS (1 * NS_PER_S)    /* how often the arena's path is looked at */
/* Commits are at least this far apart unless something urgent waits: an fsync costs 1–5 ms, 1000
 * creates a second need not cost 1000. */
#define GATHER_NS      (5 * NS_PER_MS)
#define GATHER_STEP_NS (500 * NS_PER_US)
#define BACKOFF_MIN_NS (50 * NS_PER_MS)
#define BACKOFF_MAX_NS (5 * NS_PER_S)
#define LOG_FAILURE_NS (10 * NS_PER_S)

struct crdsync {
	const struct crdsync_options *options;
	struct reg *reg;
	struct reg_self *me;
	struct crd_store *store;
	struct crd_writer *writer;
	uint64_t last_turn_ns, current_checked_ns;
	uint64_t backoff_ns, failure_logged_ns;
	uint32_t failures; /* since the last success */
	bool loaded;
};

static void sleep_ns(uint64_t ns)
{
	struct timespec ts = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};

	(void)nanosleep(&ts, NULL); /* a signal may cut it short: that is what is wanted */
}

/* ---- start ---- */

/* The arena may be made, or made anew, in these seconds. */
static int attach(struct crdsync *c)
{
	uint64_t deadline = clock_mono_ns() + ATTACH_NS;
	bool told = false;
	enum reg_status st;

	for (;;) {
		st = reg_attach(c->options->arena, &c->reg);
		if (st == REG_OK || crdsync_stop || clock_mono_ns() > deadline)
			break;
		if (!told)
			log_warn("waiting for the arena", "path=%s err=%s", c->options->arena,
				 reg_status_text(st));
		told = true;
		sleep_ns(POLL_NS / 2);
	}
	if (crdsync_stop)
		return CRDSYNC_EXIT_OK;
	if (st == REG_OK)
		st = reg_join(c->reg, REG_KIND_CRDSYNC, &c->me);
	if (st == REG_OK)
		return CRDSYNC_EXIT_OK;
	log_error("arena not attached", "path=%s err=%s", c->options->arena, reg_status_text(st));
	return CRDSYNC_EXIT_ARENA;
}

/* A store that another process holds is waited for. */
static int open_store(struct crdsync *c)
{
	bool told = false;

	while (!crdsync_stop) {
		struct err err = ERR_INIT;
		int r = crd_store_open(c->options->store, &c->store, &err);

		if (r == 0)
			break;
		if (r != -EBUSY) {
			log_error("store not opened", "store=%s err=%s", c->options->store,
				  err.msg);
			return CRDSYNC_EXIT_USAGE;
		}
		if (!told)
			log_warn("waiting for the store", "err=%s", err.msg);
		told = true;
		sleep_ns(POLL_NS);
	}
	return CRDSYNC_EXIT_OK;
}

static int load(struct crdsync *c)
{
	struct crd_load_stats stats;
	struct err err = ERR_INIT;
	uint64_t start = clock_mono_ns();
	int r;

	do {
		r = crd_load(c->me, c->store, &stats, &err);
		if (r == -EBUSY)
			sleep_ns(POLL_NS);
	} while (r == -EBUSY && !crdsync_stop);
	if (r == -EBUSY)
		return CRDSYNC_EXIT_OK; /* told to stop meanwhile */
	if (r < 0) {
		log_error("store not loaded", "store=%s err=%s", c->options->store, err.msg);
		return r == -EINVAL ? CRDSYNC_EXIT_USAGE : CRDSYNC_EXIT_FAILED;
	}
	c->loaded = true;
	log_info("store loaded",
		 "store=%s rows=%u inserted=%u present=%u removed=%u unreadable=%u dirty=%u ms=%lu",
		 c->options->store, stats.rows, stats.inserted, stats.present, stats.removed,
		 stats.unreadable, stats.marked,
		 (unsigned long)((clock_mono_ns() - start) / NS_PER_MS));
	return CRDSYNC_EXIT_OK;
}

/* ---- running ---- */

static void failed(struct crdsync *c, const struct err *err)
{
	uint64_t now = clock_mono_ns();

	c->failures++;
	c->backoff_ns = c->backoff_ns ? c->backoff_ns * 2 : BACKOFF_MIN_NS;
	if (c->backoff_ns > BACKOFF_MAX_NS)
		c->backoff_ns = BACKOFF_MAX_NS;
	if (c->failure_logged_ns && now - c->failure_logged_ns < LOG_FAILURE_NS)
		return;
	c->failure_logged_ns = now;
	log_error("store write failed", "err=%s failures=%u dirty=%u retry_ms=%lu", err->msg,
		  c->failures, reg_dirty_count(c->reg), (unsigned long)(c->backoff_ns / NS_PER_MS));
}

static void succeeded(struct crdsync *c)
{
	if (c->failures)
		log_info("store writes go on", "failures=%u", c->failures);
	c->failures = 0;
	c->backoff_ns = 0;
	c->failure_logged_ns = 0;
}

static int turn(struct crdsync *c, uint32_t *ret_taken)
{
	struct err err = ERR_INIT;
	int r = crd_writer_turn(c->writer, ret_taken, &err);

	if (r < 0)
		failed(c, &err);
	else if (*ret_taken)
		succeeded(c);
	c->last_turn_ns = clock_mono_ns();
	return r;
}

/* Lets FAST records come together, until the last commit is GATHER_NS ago, something urgent waits,
 * or a batch is full. */
static void gather(struct crdsync *c)
{
	while (!crdsync_stop && clock_mono_ns() - c->last_turn_ns < GATHER_NS &&
	       !reg_dirty_urgent_waiting(c->reg) && reg_dirty_count(c->reg) < CRD_BATCH_MAX)
		sleep_ns(GATHER_STEP_NS);
}

static bool is_current(struct crdsync *c)
{
	uint64_t now = clock_mono_ns();

	if (now - c->current_checked_ns < CURRENT_NS)
		return true;
	c->current_checked_ns = now;
	return reg_is_current(c->reg);
}

static int serve(struct crdsync *c)
{
	uint32_t taken;

	while (!crdsync_stop) {
		if (!is_current(c)) {
			log_warn("arena replaced", "path=%s", c->options->arena);
			return CRDSYNC_EXIT_ARENA;
		}
		if (c->backoff_ns)
			sleep_ns(c->backoff_ns);
		else
			reg_dirty_wait(c->me, POLL_NS);
		gather(c);
		(void)turn(c, &taken); /* a failure has been noted, and shows as backoff_ns */
	}
	return CRDSYNC_EXIT_OK;
}

/* After SIGTERM: what is dirty is written, as far as that goes quickly. */
static void drain(struct crdsync *c)
{
	uint64_t deadline = clock_mono_ns() + DRAIN_NS;
	uint32_t taken = 1;

	while (taken && clock_mono_ns() < deadline) {
		if (turn(c, &taken) < 0)
			sleep_ns(c->backoff_ns);
	}
	if (reg_dirty_count(c->reg))
		log_warn("ended with unwritten records", "dirty=%u", reg_dirty_count(c->reg));
}

static int run(struct crdsync *c)
{
	struct crd_writer_stats stats;
	int code = attach(c);

	if (code == CRDSYNC_EXIT_OK && !crdsync_stop)
		code = open_store(c);
	if (code == CRDSYNC_EXIT_OK && !crdsync_stop)
		code = load(c);
	if (code != CRDSYNC_EXIT_OK || !c->loaded)
		return code;
	c->writer = crd_writer_new(c->me, c->store);
	if (!c->writer) {
		log_error("out of memory", "what=writer");
		return CRDSYNC_EXIT_FAILED;
	}
	code = serve(c);
	if (code == CRDSYNC_EXIT_OK)
		drain(c);
	crd_writer_stats_get(c->writer, &stats);
	log_info("ended",
		 "commits=%" PRIu64 " written=%" PRIu64 " deleted=%" PRIu64 " failed=%" PRIu64,
		 stats.commits, stats.written, stats.deleted, stats.failed);
	return code;
}

int crdsync_run(const struct crdsync_options *options)
{
	struct crdsync c = {.options = options};
	int code = run(&c);

	crd_writer_free(c.writer);
	crd_store_close(c.store);
	reg_leave(c.me);
	reg_detach(c.reg);
	return code;
}
