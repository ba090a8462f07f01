/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kill matrix: a process dies at each pass through each failpoint of a run through all
 * operations. Another one works on beside what it left, then reaps it: nothing stays held, no
 * contradiction, and the same names, request ids and ports work again. Then the same with a reaper
 * that dies, too, and a second reaper who finishes.
 */
#include "script.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/failpoint.h"

enum { PASSES_MAX = 400 };

struct victim {
	const char *failpoint;
	uint32_t pass;
	bool reap; /* a reaper, else it runs the script */
};

struct parent {
	struct rig rig;
	struct script_world world;
	uint32_t orphans, kills;
	bool commit; /* what to do with orphans: commit, else abort */
};

static void arm(const struct victim *victim)
{
	char text[128];

	(void)snprintf(text, sizeof(text), "%s=kill@%u", victim->failpoint, victim->pass);
	failpoint_set(text);
}

static void victim_fn(struct rig *rig, void *arg)
{
	const struct victim *victim = arg;

	arm(victim);
	if (victim->reap)
		CHECK_OK(reg_reap(rig->me, rig_abort_orphan, rig, &(struct reg_reap_result){0}));
	else
		script_run(rig, "k", 100);
	failpoint_set(NULL);
}

static void on_orphan(void *arg, const struct reg_orphan *orphan)
{
	struct parent *parent = arg;
	struct reg_started started = {.started_unix_ns = 8};
	struct reg_sandbox_view view;
	enum reg_status status;

	parent->orphans++;
	CHECK_OK(reg_view(parent->rig.me, orphan->lease.sandbox, &view));
	CHECK_EQ(view.state, REG_STARTING);
	CHECK_EQ(view.owner, reg_self_idx(parent->rig.me));
	if (!parent->commit) {
		CHECK_OK(reg_abort(parent->rig.me, &orphan->lease));
		return;
	}
	status = reg_commit(parent->rig.me, &orphan->lease, &started);
	CHECK_ST(status, view.deleting ? REG_DELETING : REG_OK);
}

static void parent_open(struct parent *parent)
{
	memset(parent, 0, sizeof(*parent));
	rig_open(&parent->rig, &rig_limits);
	script_world(&parent->rig, &parent->world);
	script_run(&parent->rig, "k", 100); /* the script itself is right */
	script_check(&parent->rig, &parent->world);
}

/* At most dead participants: a reaper may have finished with the first one before it died. */
static void reap_and_check(struct parent *parent, uint32_t dead)
{
	struct reg_reap_result result;

	CHECK_OK(reg_reap(parent->rig.me, on_orphan, parent, &result));
	CHECK(result.participants >= 1 && result.participants <= dead);
	CHECK_SOUND(&parent->rig);
	script_clean(&parent->rig, &parent->world);
	script_check(&parent->rig, &parent->world);
	script_run(&parent->rig, "k", 100); /* the same names, ids, ports */
	script_check(&parent->rig, &parent->world);
}

/* Runs a victim; false: it came through alive. */
static bool run_victim(struct parent *parent, const char *failpoint, uint32_t pass, bool reap)
{
	struct victim victim = {.failpoint = failpoint, .pass = pass, .reap = reap};

	if (!rig_join_killed(rig_fork(&parent->rig, victim_fn, &victim)))
		return false;
	parent->kills++;
	return true;
}

static bool is_reaping(const char *failpoint)
{
	return strncmp(failpoint, "reap.", 5) == 0;
}

static void test_kill_at_each_failpoint(void **state)
{
	struct parent parent;

	(void)state;
	parent_open(&parent);
	for (int i = 0; script_failpoints[i]; i++) {
		const char *name = script_failpoints[i];
		uint32_t pass;

		if (is_reaping(name))
			continue;
		for (pass = 1; pass < PASSES_MAX; pass++) {
			rig_note("killed at %s, pass %u", name, pass);
			parent.commit = pass % 2;
			if (!run_victim(&parent, name, pass, false))
				break;
			script_run(&parent.rig, "beside", 200); /* the dead one hinders nobody */
			reap_and_check(&parent, 1);
			if (RIG_SANITIZED && pass >= 3)
				break;
		}
		if (pass == 1)
			(void)fprintf(stderr, "%s is never passed\n", name);
		CHECK(pass > 1);
	}
	CHECK(parent.orphans > 0);
	printf("%u kills, %u orphans\n", parent.kills, parent.orphans);
	rig_close(&parent.rig);
}

/* Dies at each failpoint while it takes back what another one left at its first pass. */
static void kill_reapers(struct parent *parent, const char *left_at, bool *passed)
{
	for (int i = 0; script_failpoints[i]; i++)
		for (uint32_t pass = 1; pass < PASSES_MAX; pass++) {
			rig_note("victim at %s, reaper at %s, pass %u", left_at,
				 script_failpoints[i], pass);
			if (!run_victim(parent, left_at, 1, false))
				return;
			if (!run_victim(parent, script_failpoints[i], pass, true)) {
				script_clean(&parent->rig, &parent->world);
				script_check(&parent->rig, &parent->world);
				break;
			}
			passed[i] = true;
			reap_and_check(parent, 2);
		}
}

static void test_kill_the_reaper(void **state)
{
	static bool passed[512];
	struct parent parent;

	(void)state;
	parent_open(&parent);
	for (int i = 0; script_failpoints[i]; i++)
		if (!is_reaping(script_failpoints[i]) && (!RIG_SANITIZED || i % 5 == 0))
			kill_reapers(&parent, script_failpoints[i], passed);
	for (int i = 0; script_failpoints[i]; i++)
		if (is_reaping(script_failpoints[i]) && !passed[i] && !RIG_SANITIZED) {
			(void)fprintf(stderr, "%s is never passed\n", script_failpoints[i]);
			CHECK(passed[i]);
		}
	printf("%u kills\n", parent.kills);
	rig_close(&parent.rig);
}

/* ---- a reaper dies with orphans in its hands ---- */
static void die_on_orphan(void *arg, const struct reg_orphan *orphan)
{
	(void)arg;
	(void)orphan;
	(void)raise(SIGKILL);
}

static void orphan_maker(struct rig *rig, void *arg)
{
	struct reg_request req;
	struct reg_lease lease;
	char name[16];

	(void)arg;
	for (int i = 0; i < 6; i++) {
		(void)snprintf(name, sizeof(name), "o%d", i);
		req = rig_request(name);
		CHECK_OK(reg_reserve(rig->me, &req, &lease));
		if (i % 3)
			CHECK_OK(reg_starting(rig->me, &lease));
	}
	(void)raise(SIGKILL);
}

static void orphan_reaper(struct rig *rig, void *arg)
{
	struct reg_reap_result result;

	(void)reg_reap(rig->me, die_on_orphan, rig, &result);
}

static void test_orphans_pass_on(void **state)
{
	struct rig *rig = *state;
	struct reg_reap_result result;

	(void)rig_agent(rig, "a", 6);
	CHECK(rig_join_killed(rig_fork(rig, orphan_maker, NULL)));
	for (int i = 0; i < 5; i++) /* each takes them over and dies with them */
		CHECK(rig_join_killed(rig_fork(rig, orphan_reaper, NULL)));
	CHECK_OK(reg_reap(rig->me, rig_abort_orphan, rig, &result));
	CHECK_EQ(result.orphans, 4);
	CHECK(result.participants >= 1);
	CHECK_EMPTY(rig);
	rig_check_free_slots(rig, "pool", 6);
}

/* What was committed or marked by others is not the dead one's any more. */
static void committer(struct rig *rig, void *arg)
{
	reg_sandbox_id *ids = arg;
	struct reg_request req = rig_request("c0");

	ids[0] = rig_run(rig, &req);
	req = rig_request("c1");
	ids[1] = rig_run(rig, &req);
	CHECK_OK(reg_stop(rig->me, ids[1], REG_STOP_DELETE, NULL));
	req = rig_request("c2");
	ids[2] = rig_run(rig, &req);
	CHECK_OK(reg_exited(rig->me, ids[2], &(struct reg_exit){.code = 4}));
	(void)raise(SIGKILL);
}

static void test_committed_stays(void **state)
{
	struct rig *rig = *state;
	reg_sandbox_id *ids = rig_shared_alloc(sizeof(*ids) * 3);
	struct reg_reap_result result;

	(void)rig_agent(rig, "a", 6);
	CHECK(rig_join_killed(rig_fork(rig, committer, ids)));
	CHECK_OK(reg_reap(rig->me, rig_abort_orphan, rig, &result));
	CHECK_EQ(result.participants, 1);
	CHECK_EQ(result.orphans + result.released, 0);
	CHECK_EQ(rig_state(rig, ids[0]), REG_RUNNING);
	CHECK_EQ(rig_state(rig, ids[1]), REG_STOPPING);
	CHECK_EQ(rig_state(rig, ids[2]), REG_EXITED);
	rig_delete_all(rig);
	CHECK_EMPTY(rig);
	rig_shared_free(ids, sizeof(*ids) * 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_committed_stays, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_orphans_pass_on, rig_setup, rig_teardown),
		cmocka_unit_test(test_kill_at_each_failpoint),
		cmocka_unit_test(test_kill_the_reaper),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
