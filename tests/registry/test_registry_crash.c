/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deaths and standstills under load: while two processes reserve and release all the time, a third
 * one is killed or stopped at each failpoint of REG_FAILPOINTS, now in the midst of operations, now
 * in the midst of a reaping. The two never fail and never wait. Somebody else reaps; whenever the
 * two pause, the books balance to the last slot. A failpoint that is never hit is a failure.
 */
#include "script.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "registry/inspect.h"

enum {
	LOADS = 2,
	POINTS_MAX = 512,
	SKIP_MAX = 32,	   /* of how many passes through a point one is chosen */
	REAP_TRIES = 50,   /* what a dead one left has to contain what the point is about */
	PAIRS_BESIDE = 50, /* reserve and release by each of the two while the third is stopped */
	BALANCE_EVERY = 40,
};

struct shared {
	_Atomic uint32_t pause, paused; /* how often a pause was asked for; who stands in one */
	_Atomic bool over;
	_Atomic uint64_t pairs[LOADS];
};

struct load {
	struct shared *shared;
	uint32_t no;
};

struct crash {
	struct rig rig;
	struct script_world world;
	struct shared *shared;
	pid_t loads[LOADS];
	uint64_t random;
	uint32_t untidied; /* how many have died since somebody tidied up */
	uint32_t kills, reapers, orphans;
	uint32_t hits[POINTS_MAX];
};

struct victim {
	const char *point;
	const char *action;
	uint32_t pass, no;
	bool reap; /* it reaps, else it runs the script */
};

/* ---- the two ---- */
static void nap(void)
{
	(void)nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
}

/* Everything is given back here: the pause is for counting. Orders as of a plain barrier. */
static void load_pause(struct shared *shared, uint32_t *seen)
{
	uint32_t now = atomic_load_explicit(&shared->pause, memory_order_acquire);

	if (now == *seen)
		return;
	*seen = now;
	if (now % 2 == 0)
		return;
	atomic_fetch_add_explicit(&shared->paused, 1, memory_order_acq_rel);
	while (atomic_load_explicit(&shared->pause, memory_order_acquire) == now)
		nap();
	*seen = now + 1;
}

/* One in eight lives its whole life, with ports; the others are taken and given back. */
static void load_once(struct rig *rig, uint32_t no, uint64_t n)
{
	uint16_t ports[2] = {(uint16_t)(3000 + no), (uint16_t)(2000 + no)};
	struct reg_request req;
	struct reg_lease lease;
	char name[40];

	(void)snprintf(name, sizeof(name), "load-%u-%012" PRIu64, no, n);
	req = rig_request(name);
	req.request_id = name;
	req.ports = ports;
	req.port_count = n % 8 ? 0 : 2;
	CHECK_OK(reg_reserve(rig->me, &req, &lease));
	if (n % 8) {
		CHECK_OK(reg_abort(rig->me, &lease));
		return;
	}
	CHECK_OK(reg_starting(rig->me, &lease));
	CHECK_OK(reg_commit(rig->me, &lease, &(struct reg_started){.started_unix_ns = 1}));
	CHECK_OK(reg_exited(rig->me, lease.sandbox, &(struct reg_exit){.code = 1}));
	CHECK_OK(reg_stop(rig->me, lease.sandbox, REG_STOP_DELETE, NULL));
	CHECK_OK(reg_stopped(rig->me, lease.sandbox, NULL));
}

static void load_fn(struct rig *rig, void *arg)
{
	const struct load *load = arg;
	struct shared *shared = load->shared;
	uint32_t seen = 0;

	/* relaxed: a flag and a figure */
	for (uint64_t n = 1; !atomic_load_explicit(&shared->over, memory_order_relaxed); n++) {
		load_once(rig, load->no, n);
		atomic_store_explicit(&shared->pairs[load->no], n, memory_order_relaxed);
		load_pause(shared, &seen);
	}
}

static void pause_all(struct crash *crash)
{
	uint64_t deadline = clock_mono_ns() + 60 * NS_PER_S;

	atomic_store_explicit(&crash->shared->paused, 0, memory_order_relaxed);
	atomic_fetch_add_explicit(&crash->shared->pause, 1, memory_order_acq_rel);
	while (atomic_load_explicit(&crash->shared->paused, memory_order_acquire) < LOADS) {
		CHECK(clock_mono_ns() < deadline);
		nap();
	}
}

static void resume_all(struct crash *crash)
{
	atomic_fetch_add_explicit(&crash->shared->pause, 1, memory_order_acq_rel);
}

static uint64_t pairs_of(const struct crash *crash, uint32_t no)
{
	/* relaxed: a figure */
	return atomic_load_explicit(&crash->shared->pairs[no], memory_order_relaxed);
}

/* Each of the two comes n further. */
static void both_go_on(struct crash *crash, uint64_t n)
{
	uint64_t deadline = clock_mono_ns() + 60 * NS_PER_S, from[LOADS];

	for (uint32_t i = 0; i < LOADS; i++)
		from[i] = pairs_of(crash, i);
	for (uint32_t i = 0; i < LOADS; i++)
		while (pairs_of(crash, i) < from[i] + n) {
			CHECK(clock_mono_ns() < deadline);
			nap();
		}
}

/* ---- the third ---- */
static void victim_fn(struct rig *rig, void *arg)
{
	const struct victim *victim = arg;
	char text[128], prefix[16];

	(void)snprintf(text, sizeof(text), "%s=%s@%u", victim->point, victim->action, victim->pass);
	(void)snprintf(prefix, sizeof(prefix), "k%u", victim->no);
	failpoint_set(text);
	if (victim->reap)
		CHECK_OK(reg_reap(rig->me, rig_abort_orphan, rig, &(struct reg_reap_result){0}));
	else
		script_run(rig, prefix, (uint16_t)(100 + victim->no * 10));
	failpoint_set(NULL);
}

static bool is_reaping(const char *point)
{
	return strncmp(point, "reap.", 5) == 0;
}

static void on_orphan(void *arg, const struct reg_orphan *orphan)
{
	struct crash *crash = arg;
	enum reg_status status;

	crash->orphans++;
	if (rig_below(&crash->random, 2)) {
		CHECK_OK(reg_abort(crash->rig.me, &orphan->lease));
		return;
	}
	status = reg_commit(crash->rig.me, &orphan->lease,
			    &(struct reg_started){.started_unix_ns = 8});
	CHECK(status == REG_OK || status == REG_DELETING);
}

/* Reaps, and removes what the dead one had already handed over. What the two hold is left alone. */
static void tidy(struct crash *crash)
{
	struct rig *rig = &crash->rig;
	struct reg_sandbox_view view;
	uint32_t cursor = 0;

	CHECK_OK(reg_reap(rig->me, on_orphan, crash, &(struct reg_reap_result){0}));
	while (reg_next(rig->me, &cursor, NULL, &view))
		if (view.name[0] == 'k')
			rig_delete(rig, view.sandbox);
	script_agents(rig);
	(void)reg_dirty_rescan(rig->me);
	(void)rig_store_run(rig);
	crash->untidied = 0;
}

static void print_finding(void *arg, const struct reg_finding *finding)
{
	(void)arg;
	(void)fprintf(stderr, "%s %s: %s; %s: %s\n", reg_finding_class_name(finding->class_),
		      finding->name, finding->text, finding->where, finding->words);
}

/* In a process that has not attached: hints may be stale for a moment, nothing else may be wrong.
 */
static void inspect_fn(struct rig *child, void *arg)
{
	struct reg_inspect_sum sum;
	struct reg_inspect *ins;

	(void)arg;
	CHECK_OK(reg_inspect_open(child->path, &ins));
	CHECK_OK(reg_inspect_check(ins, print_finding, NULL, &sum));
	CHECK_EQ(sum.findings[REG_FINDING_BROKEN], 0);
	CHECK_EQ(sum.findings[REG_FINDING_LEFTOVER], 0);
	(void)reg_inspect_close(ins);
}

/* Nobody works: exactly the world is there, and every slot that it leaves can be had. */
static void balance(struct crash *crash)
{
	pause_all(crash);
	tidy(crash);
	(void)reg_scrub(crash->rig.me);
	script_check(&crash->rig, &crash->world);
	script_rows_check(&crash->rig);
	rig_check_free_slots(&crash->rig, "pool", script_free_slots);
	script_check(&crash->rig, &crash->world);
	rig_join(rig_fork_bare(&crash->rig, inspect_fn, NULL));
	resume_all(crash);
}

/* False: it came through. */
static bool kill_one(struct crash *crash, const char *point, uint32_t pass, bool reap)
{
	struct victim victim = {.point = point,
				.action = "kill",
				.pass = pass,
				.no = crash->untidied,
				.reap = reap};

	if (!rig_join_killed(rig_fork(&crash->rig, victim_fn, &victim)))
		return false;
	crash->untidied++;
	crash->kills++;
	crash->reapers += reap;
	return true;
}

/* Somebody dies anywhere, so that there is something to reap. */
static void leave_something(struct crash *crash, uint32_t points)
{
	for (;;) {
		uint32_t i = rig_below(&crash->random, points);

		if (is_reaping(script_failpoints[i]) ||
		    !kill_one(crash, script_failpoints[i], 1 + rig_below(&crash->random, 4), false))
			continue;
		crash->hits[i]++;
		return;
	}
}

/*
 * The pass of the next attempt at a point, 0 after the last one. Of a script one of its first
 * passes, then earlier ones; what a reaper passes depends on what somebody has left.
 */
static uint32_t next_pass(struct crash *crash, bool reap, uint32_t attempt, uint32_t before)
{
	if (reap)
		return attempt < REAP_TRIES;
	return attempt ? before / 2 : 1 + rig_below(&crash->random, SKIP_MAX);
}

static bool kill_at(struct crash *crash, uint32_t i, uint32_t points)
{
	const char *point = script_failpoints[i];
	bool reap = is_reaping(point);

	for (uint32_t n = 0, pass = 0; (pass = next_pass(crash, reap, n, pass)) > 0; n++) {
		rig_note("killed at %s, pass %u", point, pass);
		if (n > 0)
			tidy(crash);
		if (reap)
			leave_something(crash, points);
		if (kill_one(crash, point, pass, reap)) {
			crash->hits[i]++;
			return true;
		}
	}
	return false;
}

static uint32_t count_points(void)
{
	uint32_t n = 0;

	while (script_failpoints[n])
		n++;
	CHECK(n <= POINTS_MAX);
	return n;
}

static void crash_open(struct crash *crash)
{
	memset(crash, 0, sizeof(*crash));
	crash->random = rig_seed(20261122);
	rig_open(&crash->rig, &rig_limits);
	crash->shared = rig_shared_alloc(sizeof(*crash->shared));
	script_world(&crash->rig, &crash->world);
	for (uint32_t i = 0; i < LOADS; i++) {
		struct load load = {.shared = crash->shared, .no = i};

		crash->loads[i] = rig_fork(&crash->rig, load_fn, &load);
	}
	both_go_on(crash, 1);
}

static void crash_close(struct crash *crash)
{
	balance(crash);
	atomic_store_explicit(&crash->shared->over, true, memory_order_relaxed);
	for (uint32_t i = 0; i < LOADS; i++)
		rig_join(crash->loads[i]);
	printf("beside it %" PRIu64 " and %" PRIu64 " pairs of reserve and release, none failed\n",
	       pairs_of(crash, 0), pairs_of(crash, 1));
	rig_shared_free(crash->shared, sizeof(*crash->shared));
	rig_close(&crash->rig);
}

static void print_hits(const struct crash *crash, uint32_t points)
{
	for (uint32_t i = 0; i < points; i++)
		printf("%-28s %5u%s", script_failpoints[i], crash->hits[i],
		       i % 3 == 2 || i + 1 == points ? "\n" : "   ");
}

/* Whoever reaps dies sometimes, too: at any point that it passes. */
static void kill_a_reaper(struct crash *crash, uint32_t points)
{
	uint32_t i = rig_below(&crash->random, points);

	rig_note("a reaper at %s", script_failpoints[i]);
	leave_something(crash, points);
	if (kill_one(crash, script_failpoints[i], 1, true))
		crash->hits[i]++;
}

static void test_killed_under_load(void **state)
{
	struct crash crash;
	uint32_t points = count_points(), rounds, done = 0;

	(void)state;
	rounds = rig_long() ? 10000 / points + 50 : RIG_SANITIZED ? 2 : 6;
	crash_open(&crash);
	for (uint32_t round = 0; round < rounds; round++)
		for (uint32_t i = 0; i < points; i++) {
			if (!kill_at(&crash, i, points)) {
				(void)fprintf(stderr, "%s is never passed\n", script_failpoints[i]);
				CHECK(!"each failpoint is passed");
			}
			if (rig_below(&crash.random, 4) == 0)
				kill_a_reaper(&crash, points);
			tidy(&crash);
			if (++done % BALANCE_EVERY == 0)
				balance(&crash);
		}
	crash_close(&crash);
	print_hits(&crash, points);
	printf("%u kills at %u failpoints, %u of them of reapers, %u orphans\n", crash.kills,
	       points, crash.reapers, crash.orphans);
}

/* The two go on beside it, then it goes on, too, or dies. */
static void stand_still(struct crash *crash, pid_t pid)
{
	both_go_on(crash, PAIRS_BESIDE);
	if (rig_below(&crash->random, 2)) {
		rig_end(pid);
		crash->kills++;
		return;
	}
	(void)kill(pid, SIGCONT);
	rig_join(pid);
}

static bool stop_at(struct crash *crash, uint32_t i, uint32_t points)
{
	const char *point = script_failpoints[i];
	struct victim victim = {.point = point, .action = "stop", .reap = is_reaping(point)};

	for (uint32_t n = 0; (victim.pass = next_pass(crash, victim.reap, n, victim.pass)); n++) {
		pid_t pid;

		rig_note("stopped at %s, pass %u", point, victim.pass);
		if (n > 0)
			tidy(crash);
		if (victim.reap)
			leave_something(crash, points);
		victim.no = crash->untidied;
		pid = rig_fork(&crash->rig, victim_fn, &victim);
		if (!rig_join_stopped(pid))
			continue;
		crash->hits[i]++;
		stand_still(crash, pid);
		return true;
	}
	return false;
}

static void test_stopped_under_load(void **state)
{
	struct crash crash;
	uint32_t points = count_points(),
		 rounds = rig_long()	  ? 50
			  : RIG_SANITIZED ? 1
					  : 3,
		 done = 0;

	(void)state;
	crash_open(&crash);
	for (uint32_t round = 0; round < rounds; round++)
		for (uint32_t i = 0; i < points; i++) {
			if (!stop_at(&crash, i, points)) {
				(void)fprintf(stderr, "%s is never passed\n", script_failpoints[i]);
				CHECK(!"each failpoint is passed");
			}
			tidy(&crash);
			if (++done % BALANCE_EVERY == 0)
				balance(&crash);
		}
	crash_close(&crash);
	printf("%u stops at %u failpoints, %u pairs by each of the two at each, then continued or "
	       "killed\n",
	       done, points, PAIRS_BESIDE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed_under_load),
		cmocka_unit_test(test_stopped_under_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
