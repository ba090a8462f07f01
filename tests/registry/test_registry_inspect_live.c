/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inspector over living arenas. Processes are killed and stopped at each failpoint: whatever
 * they leave, nothing is ever broken, only left over or stale; after the reap nothing is left over,
 * and after a scrub nothing is stale. Under load nothing is broken, either: what only looks wrong
 * because it moves is not reported.
 *
 * The parent is attached, so the looks are made by a child: closing the file here would drop the
 * parent's locks.
 */
#include "script.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "registry/inspect.h"

struct look {
	struct reg_inspect_sum sum;
	char first[256]; /* of the worst class */
};

static void on_finding(void *arg, const struct reg_finding *f)
{
	struct look *look = arg;

	if (!look->first[0])
		(void)snprintf(look->first, sizeof(look->first), "%s %s %s %s",
			       reg_finding_class_name(f->class_), f->name, f->where, f->words);
}

static void look_fn(struct rig *rig, void *arg)
{
	struct look *look = arg;
	struct reg_inspect *ins;

	CHECK_OK(reg_inspect_open(rig->path, &ins));
	CHECK_OK(reg_inspect_check(ins, on_finding, look, &look->sum));
	(void)reg_inspect_close(ins);
}

static void look_at(const struct rig *rig, struct look *shared)
{
	memset(shared, 0, sizeof(*shared));
	rig_join(rig_fork_bare(rig, look_fn, shared));
}

#define CHECK_NOT_BROKEN(look, what)                                                               \
	do {                                                                                       \
		rig_note("%s: %s", (what), (look)->first);                                         \
		CHECK_EQ((look)->sum.findings[REG_FINDING_BROKEN], 0);                             \
	} while (0)

static void check_clean(const struct rig *rig, struct look *look, const char *what)
{
	look_at(rig, look);
	rig_note("%s: %s", what, look->first);
	CHECK(look->sum.live);
	for (int i = 0; i < REG_FINDING_CLASSES; i++)
		CHECK_EQ(look->sum.findings[i], 0);
}

/* ---- a process that dies, or stands still, anywhere ---- */

struct victim {
	const char *failpoint, *how;
	uint32_t pass;
	int32_t capacity; /* of administer: a row keeps its chunks, so it has to grow */
};

static void victim_fn(struct rig *rig, void *arg)
{
	const struct victim *victim = arg;
	char text[128];

	(void)snprintf(text, sizeof(text), "%s=%s@%u", victim->failpoint, victim->how,
		       victim->pass);
	failpoint_set(text);
	script_run(rig, "k", 100);
	failpoint_set(NULL);
}

static void kill_at(struct rig *rig, const struct script_world *world, struct look *look,
		    const char *what)
{
	struct look *after = rig_shared_alloc(sizeof(*after));
	struct reg_reap_result result;

	look_at(rig, look);
	CHECK_NOT_BROKEN(look, what);
	CHECK(look->sum.findings[REG_FINDING_LEFTOVER] > 0); /* a dead participant at least */
	CHECK_OK(reg_reap(rig->me, rig_abort_orphan, rig, &result));
	look_at(rig, after);
	CHECK_NOT_BROKEN(after, what);
	CHECK_EQ(after->sum.findings[REG_FINDING_LEFTOVER], 0);
	(void)reg_scrub(rig->me);
	script_clean(rig, world);
	script_check(rig, world);
	rig_shared_free(after, sizeof(*after));
}

static void stop_at(struct rig *rig, struct look *look, pid_t pid, const char *what)
{
	look_at(rig, look);
	CHECK_NOT_BROKEN(look, what);
	(void)kill(pid, SIGCONT);
	rig_join(pid);
}

static bool leads_nowhere(const char *failpoint)
{
	return !strncmp(failpoint, "reap.", 5);
}

static void at_each_failpoint(struct rig *rig, const char *how)
{
	struct look *look = rig_shared_alloc(sizeof(*look));
	uint32_t n = 0, passes = rig_long() ? 100 : RIG_SANITIZED ? 1 : 2;
	uint64_t stale = 0, leftover = 0;
	struct script_world world;
	char what[128];

	script_world(rig, &world);
	check_clean(rig, look, "before");
	for (int i = 0; script_failpoints[i]; i++)
		for (uint32_t pass = 1; pass <= passes; pass++) {
			struct victim victim = {script_failpoints[i], how, pass};
			pid_t pid;

			if (leads_nowhere(script_failpoints[i]))
				break;
			(void)snprintf(what, sizeof(what), "%s at %s, pass %u", how,
				       script_failpoints[i], pass);
			pid = rig_fork(rig, victim_fn, &victim);
			if (!strcmp(how, "kill") ? !rig_join_killed(pid) : !rig_join_stopped(pid))
				break;
			if (!strcmp(how, "kill"))
				kill_at(rig, &world, look, what);
			else
				stop_at(rig, look, pid, what);
			stale += look->sum.findings[REG_FINDING_STALE];
			leftover += look->sum.findings[REG_FINDING_LEFTOVER];
			n++;
		}
	script_clean(rig, &world);
	(void)reg_scrub(rig->me);
	check_clean(rig, look, "after");
	printf("%s at %u places: %llu left over, %llu stale, none broken\n", how, n,
	       (unsigned long long)leftover, (unsigned long long)stale);
	CHECK(n > 30);
	rig_shared_free(look, sizeof(*look));
}

static void test_killed_anywhere(void **state)
{
	at_each_failpoint(*state, "kill");
}

static void test_stopped_anywhere(void **state)
{
	at_each_failpoint(*state, "stop");
}

/* ---- administration, the same ---- */

static const char *const administrative[] = {
	"agent.chunk-taken", /* first: chunks stay with the rows */

	"row.taken",
	"row.filled",
	"row.committed",
	"cold.filled",
	"cold.published",
	"cold.retired",
	"images.listed",
	"images.bit-set",
	"agent.capacity-set",
	"retire.named",
	"retire.timed",
	"retire.claimed",
	"retire.poisoned",
	"retire.reclaimed",
	"sweep.retiring",
	"sweep.retired",
	"agent.removed",
	"images.bit-cleared",
	NULL};

/* An agent that comes, changes everything that it can change, goes, and is swept with its pool and
 * its images. */
static void administer(struct rig *rig, int32_t capacity)
{
	static const char *const first[] = {"x1", "x2", "x3"}, *const second[] = {"x3", "x4"};
	struct reg_agent_info info = {.ns = "default",
				      .name = "passing",
				      .pool = "passing",
				      .node = "n1",
				      .address = "unix:/1",
				      .capacity = 3};
	struct reg_sweep_result result;
	reg_agent_id agent;

	CHECK_OK(reg_pool_upsert(rig->me, "default", "declared"));
	CHECK_OK(reg_agent_join(rig->me, &info, &agent));
	CHECK_OK(reg_agent_set_ready(rig->me, agent, true));
	CHECK_OK(reg_agent_set_images(rig->me, agent, first, 3));
	CHECK_OK(reg_agent_set_images(rig->me, agent, second, 2));
	CHECK_OK(reg_agent_set_capacity(rig->me, agent, capacity));
	CHECK_OK(reg_agent_set_capacity(rig->me, agent, 1));
	CHECK_OK(reg_agent_set_drain(rig->me, agent, true));
	info.node = "n2";
	info.pool = "passing2";
	CHECK_OK(reg_agent_join(rig->me, &info, &agent));
	CHECK_OK(reg_agent_remove(rig->me, agent));
	CHECK_OK(reg_pool_remove(rig->me, "default", "declared"));
	for (int i = 0; i < 3; i++) {
		CHECK_OK(reg_sweep(rig->me, &result));
		CHECK_OK(reg_synchronize(rig->me, UINT64_C(5000000000)));
	}
	CHECK_OK(reg_sweep(rig->me, &result));
}

static void administrator_fn(struct rig *rig, void *arg)
{
	const struct victim *victim = arg;
	char text[128];

	(void)snprintf(text, sizeof(text), "%s=%s@%u", victim->failpoint, victim->how,
		       victim->pass);
	failpoint_set(text);
	administer(rig, victim->capacity);
	failpoint_set(NULL);
}

static bool administrator_at(struct rig *rig, struct look *look, const struct victim *victim)
{
	struct reg_reap_result result;
	pid_t pid = rig_fork(rig, administrator_fn, (void *)(uintptr_t)victim);
	bool kills = !strcmp(victim->how, "kill");
	char what[128];

	(void)snprintf(what, sizeof(what), "%s at %s, pass %u", victim->how, victim->failpoint,
		       victim->pass);
	rig_note("%s", what);
	if (kills ? !rig_join_killed(pid) : !rig_join_stopped(pid))
		return false;
	look_at(rig, look);
	CHECK_NOT_BROKEN(look, what);
	if (!kills) {
		(void)kill(pid, SIGCONT);
		rig_join(pid);
		return true;
	}
	CHECK_OK(reg_reap(rig->me, NULL, NULL, &result));
	look_at(rig, look);
	CHECK_NOT_BROKEN(look, what);
	CHECK_EQ(look->sum.findings[REG_FINDING_LEFTOVER], 0);
	/* goes through, and takes away what the dead one had made */
	administer(rig, 1);
	return true;
}

static void test_administration(void **state)
{
	struct rig *rig = *state;
	struct look *look = rig_shared_alloc(sizeof(*look));
	uint32_t n = 0, tries = 1, passes = rig_long() ? 50 : RIG_SANITIZED ? 1 : 3;

	administer(rig, 65);
	check_clean(rig, look, "after all of it");
	for (int i = 0; administrative[i]; i++)
		for (int how = 0; how < 2; how++)
			for (uint32_t pass = 1; pass <= passes; pass++) {
				struct victim victim = {administrative[i], how ? "stop" : "kill",
							pass, 65 + (int32_t)(tries++ % 60) * 64};

				if (!administrator_at(rig, look, &victim)) {
					CHECK(pass > 1);
					break;
				}
				n++;
			}
	(void)reg_scrub(rig->me);
	administer(rig, 1);
	check_clean(rig, look, "in the end");
	printf("killed and stopped at %u places of administration, none broken\n", n);
	rig_shared_free(look, sizeof(*look));
}

/* ---- load ---- */

struct load {
	_Atomic uint32_t stop;
	_Atomic uint64_t done;
};

static void life(struct rig *rig, uint32_t no, uint32_t round)
{
	uint16_t ports[2] = {(uint16_t)(100 + no), (uint16_t)(50 + no)};
	struct reg_request req;
	struct reg_lease lease;
	char name[32], labels[600];

	(void)snprintf(name, sizeof(name), "w%u-%u", no, round % 17);
	memset(labels, 'l', sizeof(labels));
	req = rig_request(name);
	req.request_id = name;
	req.ports = ports;
	req.port_count = round % 3;
	req.spec = labels;
	req.spec_len = round % 4 ? 20 : sizeof(labels);
	req.labels = labels;
	req.labels_len = round % 5 * 100;
	if (reg_reserve(rig->me, &req, &lease) != REG_OK)
		return;
	if (round % 4 == 0) {
		CHECK_OK(reg_abort(rig->me, &lease));
		return;
	}
	CHECK_OK(reg_starting(rig->me, &lease));
	CHECK_OK(reg_commit(rig->me, &lease, &(struct reg_started){.started_unix_ns = 1}));
	(void)reg_update(rig->me, lease.sandbox,
			 &(struct reg_update){.fields = REG_SET_LABELS,
					      .labels = labels,
					      .labels_len = 1 + round % 500});
	if (round % 3 == 0)
		CHECK_OK(reg_exited(rig->me, lease.sandbox, &(struct reg_exit){.code = 0}));
	if (round % 3 == 1)
		CHECK_OK(reg_lost(rig->me, lease.sandbox, "lost for a moment"));
	CHECK_OK(reg_stop(rig->me, lease.sandbox, REG_STOP_DELETE, NULL));
	CHECK_OK(reg_stopped(rig->me, lease.sandbox, NULL));
}

static void load_fn(struct rig *rig, void *arg)
{
	struct load *load = arg;
	uint32_t no = reg_self_idx(rig->me);

	for (uint32_t round = no; !load->stop; round++) {
		life(rig, no, round);
		load->done++;
	}
}

/* Readiness, images, the store and the scrubber, as registryd and crdsync have them. */
static void administration_fn(struct rig *rig, void *arg)
{
	struct load *load = arg;
	reg_agent_id agent;

	for (uint32_t i = 0; !load->stop; i++) {
		CHECK_OK(reg_agent_find(rig->me, "default", i % 2 ? "a1" : "a2", &agent));
		CHECK_OK(reg_agent_set_ready(rig->me, agent, i % 8 < 6));
		rig_images(rig, agent, i % 3 ? "img" : NULL);
		(void)rig_store_run(rig);
		if (i % 50 == 0)
			(void)reg_scrub(rig->me);
	}
	CHECK_OK(reg_agent_find(rig->me, "default", "a1", &agent));
	CHECK_OK(reg_agent_set_ready(rig->me, agent, true));
	CHECK_OK(reg_agent_find(rig->me, "default", "a2", &agent));
	CHECK_OK(reg_agent_set_ready(rig->me, agent, true));
}

static void test_under_load(void **state)
{
	struct rig *rig = *state;
	struct load *load = rig_shared_alloc(sizeof(*load));
	struct look *look = rig_shared_alloc(sizeof(*look));
	uint64_t transient = 0, end = clock_mono_ns() + (rig_long() ? 60 : 6) * NS_PER_S;
	uint32_t looks = 0;
	pid_t pids[4];

	for (int i = 0; i < 4; i++) {
		char name[8];

		(void)snprintf(name, sizeof(name), "a%d", i);
		rig_images(rig, rig_agent(rig, name, 6), i % 2 ? "img" : NULL);
	}
	for (int i = 0; i < 3; i++)
		pids[i] = rig_fork(rig, load_fn, load);
	pids[3] = rig_fork(rig, administration_fn, load);
	for (; clock_mono_ns() < end; looks++) {
		look_at(rig, look);
		CHECK_NOT_BROKEN(look, "under load");
		CHECK(look->sum.live);
		transient += look->sum.transient;
	}
	load->stop = 1;
	for (int i = 0; i < 4; i++)
		rig_join(pids[i]);
	rig_delete_all(rig);
	CHECK_EMPTY(rig);
	look_at(rig, look);
	CHECK_NOT_BROKEN(look, "after the load");
	CHECK_EQ(look->sum.findings[REG_FINDING_LEFTOVER], 0);
	CHECK_EQ(look->sum.findings[REG_FINDING_STALE], 0);
	printf("%u looks beside %llu lives; %llu findings were only passing\n", looks,
	       (unsigned long long)load->done, (unsigned long long)transient);
	CHECK(looks > 3 && load->done > 100);
	rig_shared_free(load, sizeof(*load));
	rig_shared_free(look, sizeof(*look));
}

static void reap_nobody_fn(struct rig *rig, void *arg)
{
	struct reg_reap_result result;

	(void)arg;
	CHECK_OK(reg_reap(rig->me, NULL, NULL, &result));
	CHECK_EQ(result.participants, 0);
}

/* The inspector asks for locks and takes none: who is attached stays alive for the others. */
static void test_locks_stay(void **state)
{
	struct rig *rig = *state;
	struct look *look = rig_shared_alloc(sizeof(*look));

	look_at(rig, look);
	CHECK(look->sum.live);
	rig_join(rig_fork(rig, reap_nobody_fn, NULL));
	look_at(rig, look);
	CHECK_EQ(look->sum.findings[REG_FINDING_LEFTOVER], 0);
	rig_shared_free(look, sizeof(*look));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_locks_stay, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_killed_anywhere, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_stopped_anywhere, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_administration, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_under_load, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
