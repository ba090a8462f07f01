/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Warm restarts: a registryd, two workers and a crdsync over one arena; one after the other is
 * killed in the midst of its work and brought back, while the others go on. It stays the same
 * arena, what runs stays, nothing is ever broken, and in the end nothing is left over and the store
 * has everything. The parent is never attached, so it may look into the file itself.
 */
#include "rig.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "registry/inspect.h"

enum { ROLES = 4, KEPT = 10 };

struct shared {
	_Atomic uint32_t stop;
	_Atomic uint32_t ready[ROLES]; /* how often that role has come up */
	_Atomic uint64_t done[ROLES];
};

struct role {
	struct shared *shared;
	uint32_t no;
	void (*work)(struct rig *rig, struct shared *shared);
	void (*begin)(struct rig *rig);
	enum reg_kind kind;
	pid_t pid;
};

/* ---- registryd: owns, reaps, scrubs, sweeps ---- */

static void registryd_begin(struct rig *rig)
{
	uint64_t deadline = clock_mono_ns() + 5 * NS_PER_S;
	enum reg_status st;

	/* the dead one's lock is gone as soon as the kernel has taken it down */
	while ((st = reg_own(rig->reg)) == REG_IN_USE && clock_mono_ns() < deadline)
		usleep(1000);
	CHECK_OK(st);
	for (int i = 0; i < 3; i++) {
		char name[8];

		(void)snprintf(name, sizeof(name), "a%d", i);
		(void)rig_agent(rig, name, 8);
	}
}

static void registryd_work(struct rig *rig, struct shared *shared)
{
	struct reg_reap_result reaped;
	struct reg_sweep_result swept;

	CHECK_OK(reg_reap(rig->me, rig_abort_orphan, rig, &reaped));
	(void)reg_scrub(rig->me);
	(void)reg_sweep(rig->me, &swept);
	shared->done[0]++;
	usleep(2000);
}

/* ---- a worker ---- */

static void worker_work(struct rig *rig, struct shared *shared)
{
	static uint32_t round;
	struct reg_request req;
	struct reg_lease lease;
	char name[32];

	(void)snprintf(name, sizeof(name), "w%u-%u", reg_self_idx(rig->me), round++ % 50);
	req = rig_request(name);
	req.labels = "labels";
	req.labels_len = 6;
	if (reg_reserve(rig->me, &req, &lease) != REG_OK)
		return; /* full, or a dead one has the name still */
	CHECK_OK(reg_starting(rig->me, &lease));
	CHECK_OK(reg_commit(rig->me, &lease, &(struct reg_started){.started_unix_ns = 1}));
	CHECK_OK(reg_stop(rig->me, lease.sandbox, REG_STOP_DELETE, NULL));
	CHECK_OK(reg_stopped(rig->me, lease.sandbox, NULL));
	shared->done[1]++;
}

/* ---- crdsync: after its predecessor's death everything that may not be stored is dirty ---- */

static void crdsync_begin(struct rig *rig)
{
	(void)reg_dirty_rescan(rig->me);
}

static void crdsync_work(struct rig *rig, struct shared *shared)
{
	(void)rig_store_run(rig);
	shared->done[3]++;
	usleep(500);
}

static void role_fn(struct rig *rig, void *arg)
{
	struct role *role = arg;

	CHECK_OK(reg_attach(rig->path, &rig->reg));
	CHECK_OK(reg_join(rig->reg, role->kind, &rig->me));
	if (role->begin)
		role->begin(rig);
	role->shared->ready[role->no]++;
	while (!role->shared->stop)
		role->work(rig, role->shared);
	(void)reg_leave(rig->me);
	(void)reg_detach(rig->reg);
}

/* ---- the arena, and what must stay in it ---- */

static void make_fn(struct rig *rig, void *arg)
{
	char name[8];

	(void)arg;
	CHECK_OK(reg_create(rig->path, &rig_limits, &rig->reg));
	CHECK_OK(reg_join(rig->reg, REG_KIND_TOOL, &rig->me));
	for (int i = 0; i < 3; i++) {
		(void)snprintf(name, sizeof(name), "a%d", i);
		(void)rig_agent(rig, name, 8);
	}
	for (int i = 0; i < KEPT; i++) {
		struct reg_request req;

		(void)snprintf(name, sizeof(name), "keep%d", i);
		req = rig_request(name);
		(void)rig_run(rig, &req);
	}
	(void)reg_leave(rig->me);
	(void)reg_detach(rig->reg);
}

/* What a last registryd and a last crdsync find. */
static void finish_fn(struct rig *rig, void *arg)
{
	struct reg_reap_result reaped;

	(void)arg;
	CHECK_OK(reg_attach(rig->path, &rig->reg));
	CHECK_OK(reg_join(rig->reg, REG_KIND_REGISTRYD, &rig->me));
	CHECK_OK(reg_reap(rig->me, rig_abort_orphan, rig, &reaped));
	(void)reg_scrub(rig->me);
	(void)reg_dirty_rescan(rig->me);
	while (rig_store_run(rig))
		;
	CHECK_SOUND(rig);
	(void)reg_leave(rig->me);
	(void)reg_detach(rig->reg);
}

static void first_finding(void *arg, const struct reg_finding *f)
{
	char *text = arg;

	if (!*text)
		(void)snprintf(text, 256, "%s %s %s", f->name, f->where, f->words);
}

/* Nothing is broken; with whole nothing is left over, and everything is stored. Hints may be stale:
 * a unit from a magazine whose bit a reaper has cleared stays marked as free. */
static void look(struct rig *rig, const char *instance, bool whole, const char *when)
{
	static struct reg_inspect_sandbox sandbox;
	struct reg_inspect_header header;
	struct reg_inspect_sum sum;
	struct reg_inspect *ins;
	char first[256] = "";
	uint32_t kept = 0;

	CHECK_OK(reg_inspect_open(rig->path, &ins));
	CHECK_OK(reg_inspect_check(ins, first_finding, first, &sum));
	rig_note("%s: %s", when, first);
	CHECK_EQ(sum.findings[REG_FINDING_BROKEN], 0);
	reg_inspect_header(ins, &header);
	CHECK_STR(header.instance, instance);
	for (uint32_t cursor = 0; reg_inspect_sandbox_next(ins, &cursor, &sandbox);) {
		kept += !strncmp(sandbox.name, "keep", 4) && sandbox.state == REG_RUNNING &&
			sandbox.held;
		if (whole)
			CHECK_EQ(sandbox.stored, sandbox.revision);
	}
	CHECK_EQ(kept, KEPT);
	if (whole) {
		CHECK_EQ(sum.findings[REG_FINDING_LEFTOVER], 0);
		CHECK(sum.records >= KEPT); /* and what was killed between start and stop */
		CHECK(!sum.live);
	}
	(void)reg_inspect_close(ins);
}

static void await(_Atomic uint32_t *count, uint32_t want)
{
	uint64_t deadline = clock_mono_ns() + 20 * NS_PER_S;

	while (*count < want) {
		CHECK(clock_mono_ns() < deadline);
		usleep(500);
	}
}

static void start(struct rig *rig, struct role *role, uint32_t nth)
{
	role->pid = rig_fork_bare(rig, role_fn, role);
	await(&role->shared->ready[role->no], nth);
}

static void test_each_comes_back(void **state)
{
	struct shared *shared = rig_shared_alloc(sizeof(*shared));
	struct role roles[ROLES] = {
		{shared, 0, registryd_work, registryd_begin, REG_KIND_REGISTRYD, 0},
		{shared, 1, worker_work, NULL, REG_KIND_WORKER, 0},
		{shared, 2, worker_work, NULL, REG_KIND_WORKER, 0},
		{shared, 3, crdsync_work, crdsync_begin, REG_KIND_CRDSYNC, 0},
	};
	uint32_t rounds = rig_long() ? 200 : rig_scaled(60) / 6, kills = 0;
	uint64_t random = rig_seed(9);
	struct reg_inspect_header header;
	struct reg_inspect *ins;
	char what[64];
	struct rig rig;

	(void)state;
	rig_path(&rig);
	rig_join(rig_fork_bare(&rig, make_fn, NULL));
	CHECK_OK(reg_inspect_open(rig.path, &ins));
	reg_inspect_header(ins, &header);
	(void)reg_inspect_close(ins);
	for (int r = 0; r < ROLES; r++)
		start(&rig, &roles[r], 1);
	for (uint32_t i = 1; i <= rounds; i++)
		for (int r = 0; r < ROLES; r++, kills++) {
			(void)snprintf(what, sizeof(what), "round %u, role %d killed", i, r);
			usleep(rig_below(&random, 3000));
			rig_end(roles[r].pid);
			look(&rig, header.instance, false, what);
			start(&rig, &roles[r], i + 1);
		}
	for (int k = 0; k < ROLES; k++) /* all of them work on */
		if (k != 2) {
			uint64_t before = shared->done[k],
				 deadline = clock_mono_ns() + 20 * NS_PER_S;

			while (shared->done[k] == before)
				CHECK(clock_mono_ns() < deadline);
		}
	shared->stop = 1;
	for (int r = 0; r < ROLES; r++)
		rig_join(roles[r].pid);
	rig_join(rig_fork_bare(&rig, finish_fn, NULL));
	look(&rig, header.instance, true, "in the end");
	printf("%u kills; %llu lives, %llu reaps, %llu store runs\n", kills,
	       (unsigned long long)shared->done[1], (unsigned long long)shared->done[0],
	       (unsigned long long)shared->done[3]);
	(void)unlink(rig.path);
	rig_shared_free(shared, sizeof(*shared));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_comes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
