/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stop matrix, lock freedom: one process is stopped (SIGSTOP) at each failpoint of the
 * operations that must never block; two others complete their operations, get and list of
 * everything included, before it goes on. Then the books balance.
 */
#include "script.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/failpoint.h"

/* The failpoints of what DESIGN calls lock free. */
static const char *const families[] = {"reserve.", "starting.", "commit.", "abort.",
				       "stop.",	   "stopped.",	"exited.", "undo."};

struct worker {
	uint32_t no;
	uint32_t operations;
};

static bool is_lock_free(const char *failpoint)
{
	for (unsigned i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		if (strncmp(failpoint, families[i], strlen(families[i])) == 0)
			return true;
	return false;
}

static void sleeper_fn(struct rig *rig, void *arg)
{
	failpoint_set(arg);
	script_run(rig, "k", 100);
	failpoint_set(NULL);
}

/* About ten operations: a life with request id and ports, refusals, a look at itself and at
 * everything. */
static uint32_t one_round(struct rig *rig, uint32_t no, uint32_t round)
{
	uint16_t ports[2] = {(uint16_t)(1000 + no), (uint16_t)(500 + no)};
	struct reg_exit ex = {.code = 0};
	struct reg_sandbox_view view;
	struct reg_request req;
	struct reg_lease lease;
	uint32_t cursor = 0, listed = 0;
	char name[32];

	(void)snprintf(name, sizeof(name), "w%u-%u", no, round % 7);
	req = rig_request(name);
	req.request_id = name;
	req.ports = ports;
	req.port_count = round % 3;
	CHECK_OK(reg_reserve(rig->me, &req, &lease));
	CHECK_ST(reg_reserve(rig->me, &req, &lease), REG_REQUEST_SEEN);
	CHECK_OK(reg_get(rig->me, "default", name, &view));
	lease = (struct reg_lease){view.sandbox, view.agent, view.slot, view.slot_gen};
	if (round % 4 == 0) {
		CHECK_OK(reg_abort(rig->me, &lease));
		return 4;
	}
	CHECK_OK(reg_starting(rig->me, &lease));
	CHECK_OK(reg_commit(rig->me, &lease, &(struct reg_started){.started_unix_ns = 1}));
	if (round % 2)
		CHECK_OK(reg_exited(rig->me, lease.sandbox, &ex));
	CHECK_OK(reg_get(rig->me, "default", name, &view));
	CHECK_EQ(view.state, round % 2 ? REG_EXITED : REG_RUNNING);
	if (round % 8 == 1)
		while (reg_next(rig->me, &cursor, NULL, &view))
			listed++;
	CHECK(round % 8 != 1 || listed >= 4); /* three held ones and this one */
	CHECK_OK(reg_stop(rig->me, lease.sandbox, REG_STOP_DELETE, NULL));
	CHECK_OK(reg_stopped(rig->me, lease.sandbox, &ex));
	return 9;
}

static void worker_fn(struct rig *rig, void *arg)
{
	const struct worker *worker = arg;
	uint32_t done = 0;

	for (uint32_t round = 0; done < worker->operations; round++)
		done += one_round(rig, worker->no, round);
}

/* False: the failpoint was not passed. */
static bool stop_at(struct rig *rig, const char *failpoint, uint32_t pass, uint32_t operations)
{
	char text[128];
	pid_t sleeper, workers[2];

	(void)snprintf(text, sizeof(text), "%s=stop@%u", failpoint, pass);
	sleeper = rig_fork(rig, sleeper_fn, text);
	if (!rig_join_stopped(sleeper))
		return false;
	for (uint32_t i = 0; i < 2; i++) {
		struct worker worker = {.no = i, .operations = operations};

		workers[i] = rig_fork(rig, worker_fn, &worker);
	}
	rig_join(workers[0]);
	rig_join(workers[1]);
	(void)kill(sleeper, SIGCONT);
	rig_join(sleeper);
	return true;
}

static void test_stop_at_each_failpoint(void **state)
{
	struct rig *rig = *state;
	uint32_t operations = rig_long() ? 100000 : rig_scaled(100000);
	uint64_t start = clock_mono_ns();
	struct script_world world;
	uint32_t n = 0;

	script_world(rig, &world);
	for (int i = 0; script_failpoints[i]; i++) {
		uint32_t pass;

		if (!is_lock_free(script_failpoints[i]))
			continue;
		for (pass = 1; pass <= (rig_long() ? 100 : 2); pass++) {
			rig_note("stopped at %s, pass %u", script_failpoints[i], pass);
			if (!stop_at(rig, script_failpoints[i], pass, operations))
				break;
			script_clean(rig, &world);
			script_check(rig, &world);
			n++;
		}
		if (pass == 1)
			(void)fprintf(stderr, "%s is never passed\n", script_failpoints[i]);
		CHECK(pass > 1);
	}
	CHECK(n >= 7);
	printf("stopped at %u places, 2 x %u operations beside each, %llu ms\n", n, operations,
	       (unsigned long long)((clock_mono_ns() - start) / NS_PER_MS));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_stop_at_each_failpoint, rig_setup,
						rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
