/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Those who come too late, and those who never come: a process that was stopped in the midst of an
 * operation goes on when its record is another sandbox's already; one that died left a change that
 * nobody was told of, or an adoption half done.
 */
#include "rig.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/failpoint.h"

struct late {
	const char *failpoint; /* "name=action" */
	reg_sandbox_id sandbox;
	reg_agent_id agent;
	int what;
};

enum { LATE_EXITED, LATE_EXPIRED, LATE_COMMIT, LATE_STOP, LATE_DELETE, LATE_UPDATE, LATE_ADOPT };

static void late_fn(struct rig *rig, void *arg)
{
	struct late *late = arg;
	struct reg_exit ex = {.code = 3};
	struct reg_update update = {.fields = REG_SET_LABELS, .labels = "l", .labels_len = 1};
	struct reg_request req = rig_request("committed");
	struct reg_lease lease;
	enum reg_status status;

	if (late->what == LATE_COMMIT) {
		CHECK_OK(reg_reserve(rig->me, &req, &lease));
		CHECK_OK(reg_starting(rig->me, &lease));
		late->sandbox = lease.sandbox;
		(void)rig_store_run(rig);
	}
	failpoint_set(late->failpoint);
	switch (late->what) {
	case LATE_EXITED:
		CHECK_OK(reg_exited(rig->me, late->sandbox, &ex));
		break;
	case LATE_EXPIRED:
	case LATE_DELETE:
		CHECK_OK(reg_stopped(rig->me, late->sandbox, &ex));
		break;
	case LATE_COMMIT:
		CHECK_OK(reg_commit(rig->me, &lease, &(struct reg_started){0}));
		break;
	case LATE_STOP:
		CHECK_OK(reg_stop(rig->me, late->sandbox, REG_STOP_DELETE, NULL));
		break;
	case LATE_UPDATE:
		/* too late for its sandbox: it may have found out */
		status = reg_update(rig->me, late->sandbox, &update);
		CHECK(status == REG_OK || status == REG_STALE);
		break;
	default:
		CHECK_OK(reg_adopt(rig->me, late->sandbox, late->agent));
	}
	failpoint_set(NULL);
}

/* ---- too late ---- */
static void too_late(struct rig *rig, struct late *late)
{
	struct reg_request req = rig_request("first");
	struct reg_sandbox_view view;
	struct reg_books books;
	pid_t pid;

	late->sandbox = rig_run(rig, &req);
	if (late->what == LATE_EXPIRED)
		CHECK_OK(reg_stop(rig->me, late->sandbox, REG_STOP_EXPIRE, NULL));
	pid = rig_fork(rig, late_fn, late);
	CHECK(rig_join_stopped(pid));
	rig_delete_all(rig);
	req = rig_request("second");
	reg_sandbox_id second = rig_run(rig, &req);

	CHECK_EQ(second.idx, late->sandbox.idx); /* the same record, used again */
	(void)kill(pid, SIGCONT);
	rig_join(pid);
	CHECK_OK(reg_view(rig->me, second, &view));
	CHECK_EQ(view.state, REG_RUNNING);
	CHECK(view.slot != UINT32_MAX);
	reg_books(rig->me, &books);
	CHECK_EQ(books.slots_held, 1);
	CHECK_SOUND(rig);
	rig_delete_all(rig);
	CHECK_EMPTY(rig);
}

static void test_late_finisher_frees_nothing(void **state)
{
	struct rig *rig = *state;
	struct late *late = rig_shared_alloc(sizeof(*late));

	(void)rig_agent(rig, "a", 4);
	*late = (struct late){.failpoint = "exited.moved=stop", .what = LATE_EXITED};
	too_late(rig, late);
	*late = (struct late){.failpoint = "stopped.moved=stop", .what = LATE_EXPIRED};
	too_late(rig, late);
	rig_shared_free(late, sizeof(*late));
}

/* New labels of the first sandbox, stopped or dead before they are put into a record that is the
 * second one's by then: the second one keeps its own, or none, and the blob comes back. */
static void late_labels(struct rig *rig, struct late *late, const char *labels, bool dies)
{
	struct reg_request req = rig_request("first");
	struct reg_reap_result result;
	struct reg_sandbox_view view;
	struct reg_books books;
	uint32_t len = 99;
	char buf[8] = "";

	late->sandbox = rig_run(rig, &req);
	pid_t pid = rig_fork(rig, late_fn, late);

	CHECK(rig_join_stopped(pid));
	rig_delete_all(rig);
	req = rig_request("second");
	req.labels = labels;
	req.labels_len = (uint32_t)strlen(labels);
	reg_sandbox_id second = rig_run(rig, &req);

	CHECK_EQ(second.idx, late->sandbox.idx);
	(void)kill(pid, dies ? SIGKILL : SIGCONT);
	CHECK_EQ(rig_join_killed(pid), dies);
	CHECK_OK(reg_reap(rig->me, NULL, NULL, &result));
	CHECK_OK(reg_labels(rig->me, second, buf, sizeof(buf), &len));
	CHECK_EQ(len, strlen(labels));
	CHECK(!memcmp(buf, labels, len));
	CHECK_OK(reg_view(rig->me, second, &view));
	CHECK_EQ(view.labels_len, strlen(labels));
	CHECK_EQ(view.labels_token != 0, *labels != 0);
	reg_books(rig->me, &books);
	CHECK_EQ(books.blobs, *labels != 0);
	rig_delete_all(rig);
	CHECK_EMPTY(rig);
}

static void test_late_labels_are_not_the_next_ones(void **state)
{
	struct rig *rig = *state;
	struct late *late = rig_shared_alloc(sizeof(*late));

	(void)rig_agent(rig, "a", 4);
	for (int i = 0; i < 4; i++) {
		rig_note("%s, %s", i & 1 ? "with labels" : "without", i & 2 ? "dies" : "goes on");
		*late = (struct late){.failpoint = "update.checked=stop", .what = LATE_UPDATE};
		late_labels(rig, late, i & 1 ? "mine" : "", i & 2);
	}
	rig_shared_free(late, sizeof(*late));
}

/* ---- nobody was told ---- */
static void untold(struct rig *rig, struct late *late)
{
	struct reg_request req = rig_request("untold");
	struct reg_reap_result result;
	struct reg_sandbox_view view;

	rig_note("%s", late->failpoint);
	if (late->what != LATE_COMMIT)
		late->sandbox = rig_run(rig, &req);
	if (late->what == LATE_EXPIRED || late->what == LATE_DELETE)
		CHECK_OK(reg_stop(rig->me, late->sandbox,
				  late->what == LATE_DELETE ? REG_STOP_DELETE : REG_STOP_EXPIRE,
				  NULL));
	(void)rig_store_run(rig);
	CHECK(rig_join_killed(rig_fork(rig, late_fn, late)));
	CHECK_OK(reg_reap(rig->me, rig_abort_orphan, rig, &result));
	CHECK_EQ(result.participants, 1);
	CHECK(rig_store_run(rig) > 0);
	if (late->what == LATE_DELETE)
		CHECK_ST(reg_view(rig->me, late->sandbox, &view), REG_STALE);
	rig_delete_all(rig);
	CHECK_EMPTY(rig);
}

static void test_changes_of_the_dead_are_stored(void **state)
{
	struct rig *rig = *state;
	struct late *late = rig_shared_alloc(sizeof(*late));
	const struct late lates[] = {
		{.failpoint = "commit.done=kill", .what = LATE_COMMIT},
		{.failpoint = "exited.moved=kill", .what = LATE_EXITED},
		{.failpoint = "stopped.moved=kill", .what = LATE_EXPIRED},
		{.failpoint = "stop.marked=kill", .what = LATE_STOP},
		{.failpoint = "update.swapped=kill", .what = LATE_UPDATE},
		{.failpoint = "undo.record-gone=kill", .what = LATE_DELETE},
	};

	(void)rig_agent(rig, "a", 4);
	for (size_t i = 0; i < sizeof(lates) / sizeof(lates[0]); i++) {
		*late = lates[i];
		untold(rig, late);
	}
	rig_shared_free(late, sizeof(*late));
}

/* ---- half adopted ---- */
static reg_sandbox_id lost_one(struct rig *rig, const char *name, const uint16_t *port)
{
	struct reg_request req = rig_request(name);
	reg_sandbox_id id;

	req.ports = port;
	req.port_count = 1;
	id = rig_run(rig, &req);
	CHECK_OK(reg_lost(rig->me, id, "gone"));
	(void)rig_store_run(rig);
	return id;
}

static void test_adopter_dies(void **state)
{
	static const char *const at[] = {"adopt.owned=kill",	    "undo.slot-freed=kill",
					 "undo.place-cleared=kill", "adopt.slot-claimed=kill",
					 "adopt.placed=kill",	    "adopt.moved=kill"};
	struct rig *rig = *state;
	struct late *late = rig_shared_alloc(sizeof(*late));
	const uint16_t port = 80;
	reg_agent_id a = rig_agent(rig, "a", 4), b = rig_agent_in(rig, "b", "other", 1);

	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		struct reg_request req = rig_request("second");
		struct reg_reap_result result;
		struct reg_lease lease;

		rig_note("%s", at[i]);
		*late = (struct late){at[i], lost_one(rig, "moved", &port), b, LATE_ADOPT};
		CHECK(rig_join_killed(rig_fork(rig, late_fn, late)));
		CHECK_OK(reg_reap(rig->me, NULL, NULL, &result));
		CHECK_SOUND(rig);
		CHECK_OK(reg_adopt(rig->me, late->sandbox, b));
		CHECK_SOUND(rig);
		/* its port is its own again, and that at its former agent is free */
		(void)rig_agent_in(rig, "b", "other", 2);
		req.ports = &port;
		req.port_count = 1;
		req.pool = "other";
		CHECK_ST(reg_reserve(rig->me, &req, &lease), REG_PORT_CONFLICT);
		req.pool = "pool";
		CHECK_OK(reg_reserve(rig->me, &req, &lease));
		CHECK_EQ(lease.agent.idx, a.idx);
		CHECK_OK(reg_abort(rig->me, &lease));
		rig_delete_all(rig);
		CHECK_EMPTY(rig);
	}
	rig_shared_free(late, sizeof(*late));
}

/* An exit is reported while the adopter stands still, and then it dies. */
static void test_exit_of_a_half_adopted_is_stored(void **state)
{
	struct rig *rig = *state;
	struct late *late = rig_shared_alloc(sizeof(*late));
	const uint16_t port = 80;
	reg_agent_id a = rig_agent(rig, "a", 4);
	struct reg_reap_result result;
	pid_t pid;

	*late = (struct late){"adopt.owned=stop", lost_one(rig, "moved", &port), a, LATE_ADOPT};
	pid = rig_fork(rig, late_fn, late);
	CHECK(rig_join_stopped(pid));
	CHECK_OK(reg_exited(rig->me, late->sandbox, &(struct reg_exit){.code = 4}));
	(void)rig_store_run(rig);
	rig_end(pid);
	CHECK_OK(reg_reap(rig->me, NULL, NULL, &result));
	CHECK_EQ(rig_state(rig, late->sandbox), REG_EXITED);
	CHECK(rig_store_run(rig) > 0);
	rig_delete_all(rig);
	CHECK_EMPTY(rig);
	rig_shared_free(late, sizeof(*late));
}

/* A claim that died has a mask bit and no slot: after the reap the loads are right again, without a
 * scrub. */
static void mask_taker(struct rig *rig, void *arg)
{
	struct reg_request req = rig_request("taker");
	struct reg_lease lease;

	failpoint_set(arg);
	CHECK_OK(reg_reserve(rig->me, &req, &lease));
	CHECK_OK(reg_abort(rig->me, &lease));
}

static void test_loads_after_a_death(void **state)
{
	static char at[][40] = {"reserve.mask-taken=kill", "reserve.slot-claimed=kill",
				"undo.slot-freed=kill", "undo.mask-cleared=kill"};
	struct rig *rig = *state;

	(void)rig_agent(rig, "a", 4);
	(void)rig_agent(rig, "b", 4);
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		struct reg_reap_result result;
		struct reg_agent_view agent;
		uint32_t cursor = 0;

		rig_note("%s", at[i]);
		CHECK(rig_join_killed(rig_fork(rig, mask_taker, at[i])));
		CHECK_OK(reg_reap(rig->me, NULL, NULL, &result));
		while (reg_agent_next(rig->me, &cursor, &agent))
			CHECK_EQ(agent.allocated, 0);
		CHECK_EQ(reg_scrub(rig->me), 0);
	}
}

/* What is restored is whole when it is seen, also when who restores it dies. */
static void restorer_fn(struct rig *rig, void *arg)
{
	struct reg_restore restore = {.req = rig_request("restored"),
				      .state = REG_EXITED,
				      .exit = {.code = 7, .finished_unix_ns = 9},
				      .message = "from the store",
				      .from_store = true};
	reg_sandbox_id id;

	failpoint_set(arg);
	CHECK_OK(reg_insert(rig->me, &restore, &id));
	failpoint_set(NULL);
}

static void test_restored_is_whole(void **state)
{
	static char at[][40] = {"exited.noted=kill", "update.blob-filled=kill"};
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		struct reg_reap_result result;
		struct reg_sandbox_view view;

		rig_note("%s", at[i]);
		(void)rig_join_killed(rig_fork(rig, restorer_fn, at[i]));
		CHECK_OK(reg_reap(rig->me, NULL, NULL, &result));
		if (reg_get(rig->me, "default", "restored", &view) == REG_OK) {
			CHECK_EQ(view.exit.code, 7);
			CHECK_STR(view.message, "from the store");
		}
		rig_delete_all(rig);
		CHECK_EMPTY(rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_late_finisher_frees_nothing, rig_setup,
						rig_teardown),
		cmocka_unit_test_setup_teardown(test_late_labels_are_not_the_next_ones, rig_setup,
						rig_teardown),
		cmocka_unit_test_setup_teardown(test_changes_of_the_dead_are_stored, rig_setup,
						rig_teardown),
		cmocka_unit_test_setup_teardown(test_adopter_dies, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_exit_of_a_half_adopted_is_stored, rig_setup,
						rig_teardown),
		cmocka_unit_test_setup_teardown(test_loads_after_a_death, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_restored_is_whole, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
