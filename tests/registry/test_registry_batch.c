/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches: a gang is seen as a whole or not at all, two that want too much together end with one of
 * them whole, what they hold in passing refuses nobody, and a death or a stop at any step leaves
 * nothing behind and nobody waiting.
 */
#include "rig.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/failpoint.h"

enum { GANG = 24, TEXT = 48, PREFIX = 16 }; /* more than are taken in one go */

struct gang {
	uint32_t n;
	char name[64][TEXT];
	struct reg_request req[64];
	struct reg_lease lease[64];
	enum reg_status status[64];
};

static void gang_of(struct gang *g, const char *prefix, uint32_t n)
{
	g->n = n;
	for (uint32_t i = 0; i < n; i++) {
		(void)snprintf(g->name[i], TEXT, "%s-%u", prefix, i);
		g->req[i] = rig_request(g->name[i]);
		g->req[i].request_id = g->name[i];
		g->req[i].request_hash = 7;
	}
}

static enum reg_status gang_reserve(struct reg_self *me, struct gang *g, bool all)
{
	return reg_reserve_batch(me, g->req, g->n, all, g->lease, g->status);
}

static void gang_abort(struct reg_self *me, struct gang *g)
{
	for (uint32_t i = 0; i < g->n; i++)
		CHECK_OK(reg_abort(me, &g->lease[i]));
}

static uint32_t visible(struct reg_self *me, const char *prefix, uint32_t n)
{
	struct reg_sandbox_view view;
	char name[TEXT];
	uint32_t seen = 0;

	for (uint32_t i = 0; i < n; i++) {
		(void)snprintf(name, sizeof(name), "%s-%u", prefix, i);
		if (reg_get(me, "default", name, &view) != REG_OK)
			continue;
		CHECK_EQ(view.state, REG_RESERVED);
		CHECK(view.agent.idx != UINT32_MAX);
		seen++;
	}
	return seen;
}

static uint32_t listed(struct reg_self *me)
{
	struct reg_sandbox_view view;
	uint32_t cursor = 0, n = 0;

	while (reg_next(me, &cursor, NULL, &view))
		n++;
	return n;
}

/* ---- seen as a whole ---- */
struct shared {
	_Atomic uint32_t round, seen[2], over;
	struct rig_barrier barrier;
	_Atomic uint32_t ok, late;
	char failpoint[64];
};

static uint32_t who; /* of several children; each has its own copy */

static void reader_fn(struct rig *rig, void *arg)
{
	struct shared *s = arg;
	uint32_t me = who;
	uint64_t random = 77 + me;

	for (uint32_t round; (round = atomic_load(&s->round)) != UINT32_MAX;) {
		struct reg_sandbox_view view;
		char prefix[PREFIX], name[TEXT];

		if (atomic_load(&s->seen[me]) == round) {
			(void)sched_yield();
			continue;
		}
		(void)snprintf(prefix, sizeof(prefix), "g%u", round);
		(void)snprintf(name, sizeof(name), "%s-%u", prefix, rig_below(&random, GANG));
		if (reg_get(rig->me, "default", name, &view) != REG_OK)
			continue;
		CHECK_EQ(visible(rig->me, prefix, GANG), GANG);
		atomic_store(&s->seen[me], round);
	}
}

static void test_appears_in_one_step(void **state)
{
	struct rig *rig = *state;
	struct shared *s = rig_shared_alloc(sizeof(*s));
	uint32_t rounds = rig_scaled(1000);
	static struct gang g;
	pid_t pid[2];

	for (int i = 0; i < 4; i++)
		(void)rig_agent(rig, (const char *[]){"a", "b", "c", "d"}[i], 8);
	for (who = 0; who < 2; who++)
		pid[who] = rig_fork(rig, reader_fn, s);
	for (uint32_t r = 1; r <= rounds; r++) {
		char prefix[PREFIX];

		(void)snprintf(prefix, sizeof(prefix), "g%u", r);
		gang_of(&g, prefix, GANG);
		atomic_store(&s->round, r);
		CHECK_OK(gang_reserve(rig->me, &g, r % 8));
		while (atomic_load(&s->seen[0]) != r || atomic_load(&s->seen[1]) != r)
			(void)sched_yield();
		gang_abort(rig->me, &g);
	}
	atomic_store(&s->round, UINT32_MAX);
	rig_join(pid[0]);
	rig_join(pid[1]);
	CHECK_EMPTY(rig);
	rig_shared_free(s, sizeof(*s));
}

static void gang_fn(struct rig *rig, void *arg)
{
	struct shared *s = arg;
	static struct gang g;

	gang_of(&g, "g", 6);
	failpoint_set(s->failpoint);
	CHECK_OK(gang_reserve(rig->me, &g, true));
	failpoint_set(NULL);
	for (uint32_t i = 0; i < g.n; i++)
		CHECK_ST(reg_starting(rig->me, &g.lease[i]), i == 4 ? REG_DELETING : REG_OK);
	gang_abort(rig->me, &g);
}

static pid_t gang_stopped(struct rig *rig, struct shared *s, const char *at)
{
	pid_t pid;

	rig_note("%s", at);
	(void)snprintf(s->failpoint, sizeof(s->failpoint), "%s", at);
	pid = rig_fork(rig, gang_fn, s);
	CHECK(rig_join_stopped(pid));
	return pid;
}

/* The owner stands still between any two steps of the publication: others see none or all, and go
 * on with what they see. */
static void test_stopped_at_publication(void **state)
{
	static const struct {
		const char *at;
		uint32_t seen;
	} steps[] = {{"batch.placed=stop@6", 0},	 {"batch.member-marked=stop@1", 0},
		     {"batch.member-marked=stop@5", 0},	 {"reserve.published=stop@1", 6},
		     {"batch.head-published=stop@1", 6}, {"batch.member-shown=stop@1", 6},
		     {"batch.member-shown=stop@5", 6}};
	struct rig *rig = *state;
	struct shared *s = rig_shared_alloc(sizeof(*s));
	struct reg_request req = rig_request("g-4");
	struct reg_lease lease;

	(void)rig_agent(rig, "a", 8);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		pid_t pid = gang_stopped(rig, s, steps[i].at);
		struct reg_sandbox_view view;

		if (i % 2) /* by the list first, or by name */
			CHECK_EQ(listed(rig->me), steps[i].seen);
		CHECK_EQ(visible(rig->me, "g", 6), steps[i].seen);
		CHECK_EQ(listed(rig->me), steps[i].seen);
		CHECK_ST(reg_reserve(rig->me, &req, &lease), REG_NAME_EXISTS);
		if (steps[i].seen) {
			CHECK_OK(reg_get(rig->me, "default", "g-4", &view));
		} else { /* not there yet: asked to go later, by its handle */
			CHECK_ST(reg_view(rig->me, lease.sandbox, &view), REG_STALE);
			rig_end(pid);
			CHECK_OK(reg_reap(rig->me, NULL, NULL, &(struct reg_reap_result){0}));
			CHECK_EMPTY(rig);
			continue;
		}
		CHECK_OK(reg_stop(rig->me, view.sandbox, REG_STOP_DELETE, NULL));
		(void)kill(pid, SIGCONT);
		rig_join(pid);
		(void)rig_store_run(rig);
		CHECK_EMPTY(rig);
	}
	rig_shared_free(s, sizeof(*s));
}

/* ---- too much together ---- */
/* On a machine so busy that a gang's owner does not run for that long, it counts as one that stands
 * still: the case that the memory model names. */
#define STANDS_STILL_NS (50 * NS_PER_MS)

static void rival_fn(struct rig *rig, void *arg)
{
	struct shared *s = arg;
	static struct gang g;
	char prefix[PREFIX];
	uint32_t ok = 0, late = 0;

	(void)snprintf(prefix, sizeof(prefix), "r%u", who);
	gang_of(&g, prefix, 6);
	for (uint32_t i = 0, rounds = rig_scaled(1000); i < rounds; i++) {
		enum reg_status status;
		uint64_t begin;

		rig_barrier_wait(&s->barrier, 3);
		begin = clock_mono_ns();
		status = gang_reserve(rig->me, &g, true);
		if (clock_mono_ns() - begin > STANDS_STILL_NS)
			(void)atomic_fetch_add(&s->late, 1);
		if (status == REG_OK)
			(void)atomic_fetch_add(&s->ok, 1);
		else
			CHECK_ST(status, REG_NO_CAPACITY);
		rig_barrier_wait(&s->barrier, 3);
		if (atomic_load(&s->late) == late)
			CHECK_EQ(atomic_load(&s->ok) - ok, 2); /* of three, two fit */
		rig_barrier_wait(&s->barrier, 3);
		ok = atomic_load(&s->ok);
		late = atomic_load(&s->late);
		if (status == REG_OK)
			gang_abort(rig->me, &g);
	}
}

static void test_rivals_end_with_one_whole(void **state)
{
	struct rig *rig = *state;
	struct shared *s = rig_shared_alloc(sizeof(*s));
	pid_t pid[3];

	for (int i = 0; i < 3; i++)
		(void)rig_agent(rig, (const char *[]){"a", "b", "c"}[i], 5);
	for (who = 0; who < 3; who++)
		pid[who] = rig_fork(rig, rival_fn, s);
	for (int i = 0; i < 3; i++)
		rig_join(pid[i]);
	CHECK_EMPTY(rig);
	rig_check_free_slots(rig, "pool", 15);
	rig_shared_free(s, sizeof(*s));
}

/* A gang that always fails at its last member, and two singles that always fit. */
static void failing_fn(struct rig *rig, void *arg)
{
	struct shared *s = arg;
	static struct gang g;
	const uint16_t port = 80;
	uint32_t tried = 0;

	gang_of(&g, "f", 4);
	g.req[3].ports = &port;
	g.req[3].port_count = 1;
	while (!atomic_load(&s->over)) {
		enum reg_status status = gang_reserve(rig->me, &g, true);

		CHECK(status == REG_PORT_CONFLICT || status == REG_NO_CAPACITY);
		tried += status == REG_PORT_CONFLICT;
	}
	CHECK(tried > 0);
}

static void single_fn(struct rig *rig, void *arg)
{
	char name[TEXT];

	(void)arg;
	(void)snprintf(name, sizeof(name), "s%u", who);
	for (uint32_t i = 0, rounds = rig_scaled(20000); i < rounds; i++) {
		struct reg_request req = rig_request(name);
		struct reg_lease lease;

		uint64_t begin = clock_mono_ns();
		enum reg_status status = reg_reserve(rig->me, &req, &lease);

		if (status == REG_NO_CAPACITY && clock_mono_ns() - begin > STANDS_STILL_NS)
			continue;
		CHECK_ST(status, REG_OK);
		CHECK_OK(reg_abort(rig->me, &lease));
	}
}

static void test_passing_claims_refuse_nobody(void **state)
{
	struct rig *rig = *state;
	struct shared *s = rig_shared_alloc(sizeof(*s));
	struct reg_request req = rig_request("holder");
	const uint16_t port = 80;
	pid_t gang, pid[2];

	(void)rig_agent(rig, "a", 5);
	req.ports = &port;
	req.port_count = 1;
	(void)rig_run(rig, &req);
	gang = rig_fork(rig, failing_fn, s);
	for (who = 0; who < 2; who++)
		pid[who] = rig_fork(rig, single_fn, s);
	rig_join(pid[0]);
	rig_join(pid[1]);
	atomic_store(&s->over, 1);
	rig_join(gang);
	rig_delete_all(rig);
	CHECK_EMPTY(rig);
	rig_shared_free(s, sizeof(*s));
}

/* ---- stopped and dead owners ---- */
static void test_stopped_owner_stops_nobody(void **state)
{
	static const struct {
		const char *at;
		uint32_t held; /* slots */
	} steps[] = {{"batch.admitted=stop@1", 0}, {"batch.placed=stop@2", 2}};
	struct rig *rig = *state;
	struct shared *s = rig_shared_alloc(sizeof(*s));
	static struct gang g, more;

	(void)rig_agent(rig, "a", 16);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		pid_t pid = gang_stopped(rig, s, steps[i].at);

		gang_of(&g, "others", 16 - steps[i].held);
		gang_of(&more, "more", 17 - steps[i].held);
		for (int k = 0; k < 100; k++) {
			CHECK_OK(gang_reserve(rig->me, &g, true));
			gang_abort(rig->me, &g);
			CHECK_ST(gang_reserve(rig->me, &more, true), REG_NO_CAPACITY);
		}
		rig_check_free_slots(rig, "pool", 16 - steps[i].held);
		rig_end(pid);
		CHECK_OK(reg_reap(rig->me, NULL, NULL, &(struct reg_reap_result){0}));
		CHECK_EMPTY(rig);
		rig_check_free_slots(rig, "pool", 16);
	}
	rig_shared_free(s, sizeof(*s));
}

static void dying_fn(struct rig *rig, void *arg)
{
	struct shared *s = arg;
	static struct gang g;

	gang_of(&g, "g", 6);
	failpoint_set(s->failpoint);
	CHECK_OK(gang_reserve(rig->me, &g, true));
	failpoint_set(NULL);
	gang_abort(rig->me, &g);
}

static void test_death_of_the_owner(void **state)
{
	static const char *const at[] = {
		"reserve.record-claimed",  "reserve.record-filled", "reserve.request-tentative",
		"reserve.request-claimed", "reserve.name-claimed",  "batch.admitted",
		"reserve.slot-claimed",	   "reserve.placed",	    "batch.placed",
		"batch.member-marked",	   "reserve.published",	    "batch.head-published",
		"batch.member-shown"};
	struct rig *rig = *state;
	struct shared *s = rig_shared_alloc(sizeof(*s));
	static struct gang g;

	(void)rig_agent(rig, "a", 8);
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		for (uint32_t pass = 1; pass <= 6; pass++) {
			uint32_t seen;

			(void)snprintf(s->failpoint, sizeof(s->failpoint), "%s=kill@%u", at[i],
				       pass);
			rig_note("%s", s->failpoint);
			if (!rig_join_killed(rig_fork(rig, dying_fn, s))) {
				CHECK(pass > 1);
				break;
			}
			seen = visible(rig->me, "g", 6);
			CHECK(seen == 0 || seen == 6);
			CHECK_EQ(seen, i >= 10 ? 6 : 0);
			CHECK_OK(reg_reap(rig->me, NULL, NULL, &(struct reg_reap_result){0}));
			CHECK_EMPTY(rig);
			gang_of(&g, "g", 8); /* the same names, the whole pool */
			CHECK_OK(gang_reserve(rig->me, &g, true));
			gang_abort(rig->me, &g);
		}
	}
	rig_shared_free(s, sizeof(*s));
}

/* A gang that fails after it has taken slots, killed while it gives them back. */
static void undoing_fn(struct rig *rig, void *arg)
{
	static struct gang g;
	const uint16_t port = 80;

	gang_of(&g, "u", 4);
	g.req[3].ports = &port;
	g.req[3].port_count = 1;
	failpoint_set(arg);
	(void)gang_reserve(rig->me, &g, true);
	failpoint_set(NULL);
}

static void test_death_in_the_undo(void **state)
{
	struct rig *rig = *state;
	struct reg_request req = rig_request("holder");
	const uint16_t port = 80;
	char at[TEXT];

	(void)rig_agent(rig, "a", 5);
	req.ports = &port;
	req.port_count = 1;
	(void)rig_run(rig, &req);
	for (int pass = 1; pass <= 3; pass++) {
		(void)snprintf(at, sizeof(at), "batch.undone=kill@%d", pass);
		rig_note("%s", at);
		CHECK(rig_join_killed(rig_fork(rig, undoing_fn, at)));
		CHECK_EQ(listed(rig->me), 1);
		CHECK_OK(reg_reap(rig->me, NULL, NULL, &(struct reg_reap_result){0}));
		rig_check_free_slots(rig, "pool", 4);
		CHECK_SOUND(rig);
	}
	rig_delete_all(rig);
	CHECK_EMPTY(rig);
}

/* ---- what the header says of statuses ---- */
static void test_partial(void **state)
{
	struct rig *rig = *state;
	static char long_name[REG_NAME_MAX + 2];
	static struct gang g;

	(void)rig_agent(rig, "a", 30);
	gang_of(&g, "p", 40);
	memset(long_name, 'x', sizeof(long_name) - 1);
	g.req[3].name = long_name;
	g.req[20].name = g.name[19]; /* of a member before it */
	g.req[21].request_id = g.name[2];
	g.req[22].request_id = g.name[2];
	g.req[22].request_hash = 8;
	g.req[23].pool = "none";
	CHECK_OK(gang_reserve(rig->me, &g, false));
	for (uint32_t i = 0, held = 0; i < g.n; i++) {
		static const enum reg_status odd[] = {REG_NAME_EXISTS, REG_REQUEST_SEEN,
						      REG_REQUEST_MISMATCH, REG_NO_POOL};
		enum reg_status want = i == 3		   ? REG_TOO_LARGE
				       : i >= 20 && i < 24 ? odd[i - 20]
				       : held < 30	   ? REG_OK
							   : REG_NO_CAPACITY;

		rig_note("member %u", i);
		CHECK_ST(g.status[i], want);
		held += want == REG_OK;
	}
	CHECK_EQ(g.lease[20].sandbox.idx, g.lease[19].sandbox.idx);
	CHECK_EQ(g.lease[21].sandbox.gen, g.lease[2].sandbox.gen);
	CHECK_EQ(listed(rig->me), 30);
	rig_delete_all(rig);
	CHECK_EMPTY(rig);
}

static void test_refused_gangs(void **state)
{
	struct rig *rig = *state;
	static struct gang g, again;
	struct reg_lease lease;

	(void)rig_agent(rig, "a", 40);
	gang_of(&g, "g", 40);
	g.req[33].name = g.name[5];
	CHECK_ST(gang_reserve(rig->me, &g, true), REG_NAME_EXISTS);
	for (uint32_t i = 0; i < g.n; i++)
		CHECK_ST(g.status[i], i == 33 ? REG_NAME_EXISTS : REG_OK);
	CHECK_EMPTY(rig);
	gang_of(&g, "g", 41);
	CHECK_ST(gang_reserve(rig->me, &g, true), REG_NO_CAPACITY);
	for (uint32_t i = 0; i < g.n; i++)
		CHECK_ST(g.status[i], i == 40 ? REG_NO_CAPACITY : REG_OK);
	CHECK_EMPTY(rig);
	/* a repeat is told so, although there is no room for it */
	gang_of(&g, "g", 40);
	gang_of(&again, "g", 40);
	CHECK_OK(gang_reserve(rig->me, &g, true));
	CHECK_ST(gang_reserve(rig->me, &again, true), REG_REQUEST_SEEN);
	for (uint32_t i = 0; i < g.n; i++) {
		CHECK_ST(again.status[i], REG_REQUEST_SEEN);
		CHECK_EQ(again.lease[i].sandbox.idx, g.lease[i].sandbox.idx);
		CHECK_EQ(again.lease[i].sandbox.gen, g.lease[i].sandbox.gen);
	}
	CHECK_ST(reg_reserve(rig->me, &(struct reg_request){0}, &lease), REG_INVALID);
	CHECK_OK(reg_reserve_batch(rig->me, NULL, 0, true, NULL, NULL));
	gang_abort(rig->me, &g);
	CHECK_EMPTY(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_partial, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_refused_gangs, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_appears_in_one_step, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_stopped_at_publication, rig_setup,
						rig_teardown),
		cmocka_unit_test_setup_teardown(test_rivals_end_with_one_whole, rig_setup,
						rig_teardown),
		cmocka_unit_test_setup_teardown(test_passing_claims_refuse_nobody, rig_setup,
						rig_teardown),
		cmocka_unit_test_setup_teardown(test_stopped_owner_stops_nobody, rig_setup,
						rig_teardown),
		cmocka_unit_test_setup_teardown(test_death_of_the_owner, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_death_in_the_undo, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
