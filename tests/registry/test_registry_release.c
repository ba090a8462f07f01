/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "No capacity" is never spurious: a slot whose release stands still, or died, after the slot word
 * became free can be reserved by everybody at once, also by those who remember that the pool is
 * full; before and after the reap, and without a scrub.
 */
#include "rig.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/failpoint.h"

struct holder {
	const char *failpoint, *action;
	bool exited; /* the slot comes back by an exit, else by an abort */
	struct rig_barrier barrier;
};

/* Holds the only slot until the parent has been refused, then gives it back. */
static void holder_fn(struct rig *rig, void *arg)
{
	struct holder *holder = arg;
	struct reg_request req = rig_request("holder");
	struct reg_lease lease;
	char text[128];

	CHECK_OK(reg_reserve(rig->me, &req, &lease));
	if (holder->exited) {
		CHECK_OK(reg_starting(rig->me, &lease));
		CHECK_OK(reg_commit(rig->me, &lease, &(struct reg_started){0}));
	}
	rig_barrier_wait(&holder->barrier, 2);
	rig_barrier_wait(&holder->barrier, 2);
	(void)snprintf(text, sizeof(text), "%s=%s", holder->failpoint, holder->action);
	failpoint_set(text);
	if (holder->exited)
		CHECK_OK(reg_exited(rig->me, lease.sandbox, &(struct reg_exit){.code = 0}));
	else
		CHECK_OK(reg_abort(rig->me, &lease));
	failpoint_set(NULL);
}

static void refuse(struct rig *rig)
{
	struct reg_request req = rig_request("waiting");
	struct reg_lease lease;

	for (int i = 0; i < 3; i++) /* the first ones look, the next ones remember */
		CHECK_ST(reg_reserve(rig->me, &req, &lease), REG_NO_CAPACITY);
}

static void take_and_give_back(struct rig *rig)
{
	struct reg_request req = rig_request("waiting");
	struct reg_lease lease;

	CHECK_OK(reg_reserve(rig->me, &req, &lease));
	CHECK_OK(reg_abort(rig->me, &lease));
}

static pid_t hold_and_refuse(struct rig *rig, struct holder *holder)
{
	pid_t pid = rig_fork(rig, holder_fn, holder);

	rig_barrier_wait(&holder->barrier, 2);
	refuse(rig);
	rig_barrier_wait(&holder->barrier, 2);
	return pid;
}

static void with_stopped(struct rig *rig, struct holder *holder)
{
	pid_t pid;

	holder->action = "stop";
	pid = hold_and_refuse(rig, holder);
	CHECK(rig_join_stopped(pid));
	take_and_give_back(rig);
	(void)kill(pid, SIGCONT);
	rig_join(pid);
	take_and_give_back(rig);
	rig_delete_all(rig);
	CHECK_EMPTY(rig);
}

static void with_killed(struct rig *rig, struct holder *holder, bool reap_first)
{
	struct reg_reap_result result;

	holder->action = "kill";
	CHECK(rig_join_killed(hold_and_refuse(rig, holder)));
	if (!reap_first)
		take_and_give_back(rig);
	CHECK_OK(reg_reap(rig->me, rig_abort_orphan, rig, &result));
	CHECK_EQ(result.participants, 1);
	take_and_give_back(rig);
	rig_delete_all(rig);
	take_and_give_back(rig);
	CHECK_EMPTY(rig);
}

static void test_release_is_seen(void **state)
{
	static const char *const after_the_slot[] = {"undo.slot-freed", "undo.mask-cleared",
						     "undo.place-cleared"};
	struct rig *rig = *state;
	struct holder *holder = rig_shared_alloc(sizeof(*holder));

	rig_images(rig, rig_agent(rig, "a", 1), "img");
	for (int i = 0; i < 3; i++)
		for (int exited = 0; exited < 2; exited++) {
			holder->failpoint = after_the_slot[i];
			holder->exited = exited;
			rig_note("%s, %s", holder->failpoint, exited ? "exited" : "abort");
			with_stopped(rig, holder);
			with_killed(rig, holder, false);
			with_killed(rig, holder, true);
		}
	rig_shared_free(holder, sizeof(*holder));
}

/* A claim that stands still or died before its slot word holds back nobody: another slot bit, the
 * same slot. */
static void claimer_fn(struct rig *rig, void *arg)
{
	struct holder *holder = arg;
	struct reg_request req = rig_request("claimer");
	struct reg_lease lease;
	char text[128];

	(void)snprintf(text, sizeof(text), "%s=%s", holder->failpoint, holder->action);
	failpoint_set(text);
	CHECK(reg_reserve(rig->me, &req, &lease) !=
	      REG_NAME_EXISTS); /* the slot may be gone when it goes on */
	failpoint_set(NULL);
}

static void test_claim_holds_nothing_back(void **state)
{
	static const char *const before_the_slot[] = {
		"reserve.record-claimed", "reserve.record-filled", "reserve.request-tentative",
		"reserve.name-claimed"};
	struct rig *rig = *state;
	struct holder holder = {.action = "stop"};
	struct reg_reap_result result;
	pid_t pid;

	(void)rig_agent(rig, "a", 1);
	for (int i = 0; i < 4; i++) {
		holder.failpoint = before_the_slot[i];
		if (strstr(holder.failpoint, "request"))
			continue; /* no request id here */
		rig_note("%s", holder.failpoint);
		pid = rig_fork(rig, claimer_fn, &holder);
		CHECK(rig_join_stopped(pid));
		take_and_give_back(rig);
		rig_end(pid);
		take_and_give_back(rig);
		CHECK_OK(reg_reap(rig->me, rig_abort_orphan, rig, &result));
		take_and_give_back(rig);
		CHECK_EMPTY(rig);
	}
}

/* An agent without the image is chosen only when none with it has room, whatever the hints say. */
static void test_image_first(void **state)
{
	static const char *const after_the_slot[] = {"undo.slot-freed", "undo.mask-cleared"};
	struct rig *rig = *state;
	struct holder *holder = rig_shared_alloc(sizeof(*holder));
	struct reg_request req = rig_request("chooser"), other = rig_request("filler");
	reg_agent_id with = rig_agent(rig, "with", 1);

	rig_images(rig, with, "img");
	for (int i = 0; i < 2; i++) {
		struct reg_reap_result result;
		struct reg_lease lease, filler;
		reg_agent_id without;
		pid_t pid;

		holder->failpoint = after_the_slot[i];
		holder->action = "stop";
		pid = hold_and_refuse(rig, holder);
		CHECK(rig_join_stopped(pid));
		without = rig_agent(rig, "without", 8);
		CHECK_OK(reg_reserve(rig->me, &req, &lease));
		CHECK_EQ(lease.agent.idx, with.idx);
		CHECK_OK(reg_reserve(rig->me, &other, &filler));
		CHECK_EQ(filler.agent.idx, without.idx);
		CHECK_OK(reg_abort(rig->me, &lease));
		CHECK_OK(reg_abort(rig->me, &filler));
		CHECK_OK(reg_agent_set_ready(rig->me, without, false));
		rig_end(pid);
		CHECK_OK(reg_reap(rig->me, rig_abort_orphan, rig, &result));
		CHECK_EMPTY(rig);
	}
	rig_shared_free(holder, sizeof(*holder));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_release_is_seen, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_claim_holds_nothing_back, rig_setup,
						rig_teardown),
		cmocka_unit_test_setup_teardown(test_image_first, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
