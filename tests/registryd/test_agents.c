/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsb-registryd with SIMULATED agents (sim_agent.h): what an agent says and does not say against
 * what the arena says. The real fsb-agent is tested in the integration tests.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/gloop.h"
#include "fixture.h"
#include "sim_agent.h"

struct test {
	struct fixture *f;
	struct gloop *loop;
	struct sim_agent *agent;
	pid_t registryd;
	bool silent; /* no heartbeats */
	uint64_t beat_ns;
};

static int setup(void **state)
{
	struct test *t = calloc(1, sizeof(*t));

	t->f = fixture_new();
	t->loop = gloop_new(NULL);
	assert_non_null(t->loop);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct test *t = *state;

	int code = t->registryd ? fixture_end(t->f, t->registryd, SIGTERM) : 0;

	if (code)
		fixture_print_log(t->f, "registryd.log");
	sim_agent_free(t->agent);
	gloop_free(t->loop);
	fixture_free(t->f);
	free(t);
	assert_int_equal(code, 0);
	return 0;
}

static pid_t start_with(struct test *t, const char *timeout)
{
	const char *argv[] = {FSB_REGISTRYD,
			      "--no-store",
			      "--arena",
			      t->f->arena,
			      "--run-dir",
			      t->f->dir,
			      "--max-sandboxes=8192",
			      "--max-agents=64",
			      "--exited-ttl=2",
			      "--reap-interval-ms=20",
			      "--agent-forget=4",
			      "--agent-timeout",
			      timeout,
			      NULL};

	return fixture_spawn(t->f, argv, NULL, "registryd.log");
}

static void start(struct test *t)
{
	t->registryd = start_with(t, "1");
	if (!t->f->reg)
		assert_true(fixture_attach_arena(t->f, 10 * NS_PER_S));
}

static void poll_agents(struct test *t)
{
	uint64_t now = clock_mono_ns();

	if (t->agent && !t->silent && now - t->beat_ns > 200 * NS_PER_MS) {
		sim_agent_heartbeat(t->agent);
		t->beat_ns = now;
	}
	(void)gloop_poll(t->loop, 5);
}

#define POLL_FOR(t, cond)                                                                          \
	do {                                                                                       \
		uint64_t poll_deadline_ = clock_mono_ns() + 10 * NS_PER_S;                         \
		while (!(cond)) {                                                                  \
			if (clock_mono_ns() > poll_deadline_) {                                    \
				fixture_print_log((t)->f, "registryd.log");                        \
				fail_msg("not within 10 s: %s", #cond);                            \
			}                                                                          \
			poll_agents(t);                                                            \
		}                                                                                  \
	} while (0)

static bool is_ready(struct test *t)
{
	struct reg_agent_view view;
	reg_agent_id id;

	return reg_agent_find(t->f->me, "default", "agent-1", &id) == REG_OK &&
	       reg_agent_get(t->f->me, id, &view) == REG_OK && view.ready;
}

static enum reg_state state_of(struct test *t, const char *name)
{
	struct reg_sandbox_view view;

	return reg_get(t->f->me, "default", name, &view) == REG_OK ? view.state : REG_FREE;
}

static struct reg_sandbox_view view_of(struct test *t, const char *name)
{
	struct reg_sandbox_view view;

	assert_reg(REG_OK, reg_get(t->f->me, "default", name, &view));
	return view;
}

static void start_with_agent(struct test *t)
{
	t->agent = sim_agent_new(t->loop, t->f->dir, "agent-1", 8);
	start(t);
	POLL_FOR(t, is_ready(t));
}

/* A record that is RUNNING, and the agent's side of it. */
static struct sim_sandbox *run(struct test *t, const char *name)
{
	struct reg_request req = fixture_request(name);
	struct reg_sandbox_view view;
	struct sim_sandbox *s;

	fixture_run(t->f, &req);
	view = view_of(t, name);
	s = sim_agent_runs(t->agent, view.id, name, view.created_unix_ns);
	s->generation = view.generation;
	return s;
}

static void test_joins(void **state)
{
	struct test *t = *state;
	struct reg_agent_view view;
	char image[REG_IMAGE_MAX + 1];
	uint32_t cursor = 0;
	reg_agent_id id;

	start(t); /* before the agent: found by its socket */
	t->agent = sim_agent_new(t->loop, t->f->dir, "agent-1", 8);
	POLL_FOR(t, is_ready(t));
	assert_reg(REG_OK, reg_agent_find(t->f->me, "default", "agent-1", &id));
	assert_reg(REG_OK, reg_agent_get(t->f->me, id, &view));
	assert_string_equal(view.pool, "default-pool");
	assert_string_equal(view.node, "node-1");
	assert_string_equal(view.address, t->agent->address);
	assert_int_equal(view.slots, 8);
	assert_true(reg_agent_image_next(t->f->me, id, &cursor, image));
	assert_string_equal(image, "docker.io/library/busybox:latest");
	assert_int_equal(t->agent->epoch, reg_epoch(t->f->reg));
}

/* Adopted from before this arena, deleted while its agent is lost: stopped when the agent is back
 * with it. */
static void test_deleted_while_lost(void **state)
{
	struct test *t = *state;
	struct sim_sandbox old;
	struct reg_sandbox_view view;

	start(t);
	t->agent = sim_agent_new(t->loop, t->f->dir, "agent-1", 8);
	old = *sim_agent_runs(t->agent, "id-old", "old",
			      clock_unix_ns() - (int64_t)(60 * NS_PER_S));
	POLL_FOR(t, state_of(t, "old") == REG_RUNNING);
	t->agent = sim_agent_free(t->agent);
	POLL_FOR(t, state_of(t, "old") == REG_LOST);
	view = view_of(t, "old");
	assert_reg(REG_OK, reg_stop(t->f->me, view.sandbox, REG_STOP_DELETE, NULL));
	POLL_FOR(t, state_of(t, "old") == REG_FREE);
	t->agent = sim_agent_new(t->loop, t->f->dir, "agent-1", 8);
	t->agent->sandboxes[0] = old;
	POLL_FOR(t, sim_agent_was_told(t->agent, "stop id-old"));
	assert_int_equal(state_of(t, "old"), REG_FREE);
}

static void test_exit_event(void **state)
{
	struct test *t = *state;
	struct sim_sandbox *s;
	uint64_t start_ns;

	start_with_agent(t);
	s = run(t, "a");
	start_ns = clock_mono_ns();
	sim_agent_exited(t->agent, s, 7);
	POLL_FOR(t, state_of(t, "a") == REG_EXITED);
	print_message("exit seen after %.1f ms\n", (double)(clock_mono_ns() - start_ns) / 1e6);
	assert_int_equal(view_of(t, "a").exit.code, 7);
	/* --exited-ttl 2: deleted, and the agent is told to let go of its files */
	POLL_FOR(t, state_of(t, "a") == REG_FREE);
	assert_true(sim_agent_was_told(t->agent, "stop id-a"));
}

/* The exit comes before the worker has committed: it waits. */
static void test_exit_before_commit(void **state)
{
	struct test *t = *state;
	struct reg_request req = fixture_request("a");
	struct reg_started started = {.started_unix_ns = clock_unix_ns()};
	struct sim_sandbox *s;
	struct reg_lease lease;

	start_with_agent(t);
	assert_reg(REG_OK, reg_reserve(t->f->me, &req, &lease));
	assert_reg(REG_OK, reg_starting(t->f->me, &lease));
	s = sim_agent_runs(t->agent, "id-a", "a", req.created_unix_ns);
	s->generation = view_of(t, "a").generation;
	sim_agent_exited(t->agent, s, 0);
	for (int i = 0; i < 20; i++)
		poll_agents(t);
	assert_int_equal(state_of(t, "a"), REG_STARTING);
	assert_reg(REG_OK, reg_commit(t->f->me, &lease, &started));
	POLL_FOR(t, state_of(t, "a") == REG_EXITED);
	assert_int_equal(view_of(t, "a").exit.code, 0);
}

/* A stop that nobody confirms is commanded again; the event finalises it. */
static void test_unconfirmed_stop(void **state)
{
	struct test *t = *state;
	struct reg_sandbox_view view;
	uint64_t start_ns;

	start_with_agent(t);
	run(t, "a");
	view = view_of(t, "a");
	assert_reg(REG_OK, reg_stop(t->f->me, view.sandbox, REG_STOP_DELETE, NULL));
	start_ns = clock_mono_ns();
	POLL_FOR(t, state_of(t, "a") == REG_FREE);
	assert_true(sim_agent_was_told(t->agent, "stop id-a"));
	assert_true(clock_mono_ns() - start_ns > 1900 * NS_PER_MS); /* a live worker has its time */
}

static void test_removed_event(void **state)
{
	struct test *t = *state;
	struct sim_sandbox *s;
	struct reg_sandbox_view view;

	start_with_agent(t);
	s = run(t, "a");
	view = view_of(t, "a");
	assert_reg(REG_OK, reg_stop(t->f->me, view.sandbox, REG_STOP_DELETE, NULL));
	sim_agent_removed(t->agent, s);
	POLL_FOR(t, state_of(t, "a") == REG_FREE);
	assert_false(sim_agent_was_told(t->agent, "stop id-a"));
}

static void test_expiry(void **state)
{
	struct test *t = *state;
	struct reg_request req = fixture_request("a");
	int64_t due_ns, late_ns;

	start_with_agent(t);
	req.expire_unix_s = clock_unix_ns() / (int64_t)NS_PER_S + 2;
	due_ns = req.expire_unix_s * (int64_t)NS_PER_S;
	fixture_run(t->f, &req);
	sim_agent_runs(t->agent, "id-a", "a", req.created_unix_ns)->generation =
		view_of(t, "a").generation;
	POLL_FOR(t, state_of(t, "a") != REG_RUNNING);
	late_ns = clock_unix_ns() - due_ns;
	print_message("expired %.1f ms late\n", (double)late_ns / 1e6);
	assert_true(late_ns >= 0 && late_ns < (int64_t)(500 * NS_PER_MS));
	POLL_FOR(t, state_of(t, "a") == REG_EXPIRED);
	assert_true(sim_agent_was_told(t->agent, "stop-keep id-a"));
}

/* An expiry that is set later, and one that is put off. */
static void test_expiry_updates(void **state)
{
	struct test *t = *state;
	const int64_t now_s = clock_unix_ns() / (int64_t)NS_PER_S;
	struct reg_update sooner = {.fields = REG_SET_EXPIRE, .expire_unix_s = now_s - 5};
	struct reg_update never = {.fields = REG_SET_EXPIRE, .expire_unix_s = 0};
	struct reg_update soon = {.fields = REG_SET_EXPIRE, .expire_unix_s = now_s + 2};
	reg_sandbox_id a, b;
	uint64_t start_ns;

	start_with_agent(t);
	run(t, "a");
	run(t, "b");
	a = view_of(t, "a").sandbox;
	b = view_of(t, "b").sandbox;
	assert_reg(REG_OK, reg_update(t->f->me, b, &soon));
	assert_reg(REG_OK, reg_update(t->f->me, b, &never));
	start_ns = clock_mono_ns();
	assert_reg(REG_OK, reg_update(t->f->me, a, &sooner));
	POLL_FOR(t, state_of(t, "a") != REG_RUNNING);
	print_message("expiry set in the past acts after %.1f ms\n",
		      (double)(clock_mono_ns() - start_ns) / 1e6);
	POLL_FOR(t, clock_unix_ns() / (int64_t)NS_PER_S >= now_s + 3);
	assert_int_equal(state_of(t, "b"), REG_RUNNING);
}

/* Silence: not ready, its sandboxes LOST with who and since when; its return with one of two. */
static void test_lost_and_found(void **state)
{
	struct test *t = *state;
	struct sim_sandbox *s;

	start_with_agent(t);
	run(t, "stays");
	s = run(t, "goes");
	t->silent = true;
	POLL_FOR(t, state_of(t, "stays") == REG_LOST && state_of(t, "goes") == REG_LOST);
	assert_false(is_ready(t));
	assert_non_null(strstr(view_of(t, "stays").message, "agent-1 unreachable since 2"));
	s->in_use = false;
	t->silent = false;
	t->agent = sim_agent_free(t->agent); /* "restarts": same name, what it still has */
	t->agent = sim_agent_new(t->loop, t->f->dir, "agent-1", 8);
	sim_agent_runs(t->agent, "id-stays", "stays", view_of(t, "stays").created_unix_ns)
		->generation = view_of(t, "stays").generation;
	POLL_FOR(t, state_of(t, "stays") == REG_RUNNING && state_of(t, "goes") == REG_EXITED);
	assert_true(view_of(t, "goes").exit.unknown);
	assert_non_null(strstr(view_of(t, "goes").message, "unreachable since"));
	POLL_FOR(t, is_ready(t));
}

/* Long gone and without sandboxes: its row is given up, and swept; it can come back as a new one.
 */
static void test_forgotten(void **state)
{
	struct test *t = *state;
	struct reg_agent_view view;
	reg_agent_id before, id;

	start_with_agent(t);
	assert_reg(REG_OK, reg_agent_find(t->f->me, "default", "agent-1", &before));
	run(t, "stays");
	t->silent = true;
	POLL_FOR(t, state_of(t, "stays") == REG_LOST);
	/* a sandbox keeps it: not before its delete */
	for (uint64_t until = clock_mono_ns() + 5 * NS_PER_S; clock_mono_ns() < until;)
		poll_agents(t);
	assert_reg(REG_OK, reg_agent_get(t->f->me, before, &view));
	assert_false(view.removed);
	t->agent = sim_agent_free(t->agent);
	assert_reg(REG_OK, reg_stop(t->f->me, view_of(t, "stays").sandbox, REG_STOP_DELETE, NULL));
	POLL_FOR(t, reg_agent_get(t->f->me, before, &view) == REG_STALE);
	assert_reg(REG_NOT_FOUND, reg_agent_find(t->f->me, "default", "agent-1", &id));
	t->silent = false;
	t->agent = sim_agent_new(t->loop, t->f->dir, "agent-1", 8);
	POLL_FOR(t, is_ready(t));
	assert_reg(REG_OK, reg_agent_find(t->f->me, "default", "agent-1", &id));
	assert_true(id.idx != before.idx || id.gen != before.gen);
}

/* A short absence is none: nothing becomes LOST. What ended meanwhile is EXITED with its code. */
static void test_back_in_time(void **state)
{
	struct test *t = *state;
	struct sim_sandbox *s, kept[2];

	start_with_agent(t);
	kept[0] = *run(t, "runs");
	s = run(t, "exits");
	s->state = FSB__AGENT__V1__REPORT_STATE__EXITED;
	s->exit_code = 5;
	kept[1] = *s;
	t->agent = sim_agent_free(t->agent);
	t->agent = sim_agent_new(t->loop, t->f->dir, "agent-1", 8);
	memcpy(t->agent->sandboxes, kept, sizeof(kept));
	POLL_FOR(t, state_of(t, "exits") == REG_EXITED);
	assert_int_equal(view_of(t, "exits").exit.code, 5);
	assert_int_equal(state_of(t, "runs"), REG_RUNNING);
}

/* Reports that no record stands for: from before this arena (kept), of its time (deleted
 * meanwhile), and under another's name. */
static void test_unknown_reports(void **state)
{
	struct test *t = *state;
	const int64_t hour_ns = 3600 * (int64_t)NS_PER_S;
	struct reg_sandbox_view view;
	struct sim_sandbox *s;

	start(t);
	t->agent = sim_agent_new(t->loop, t->f->dir, "agent-1", 8);
	sim_agent_runs(t->agent, "id-old", "old", clock_unix_ns() - hour_ns)->generation = 4;
	s = sim_agent_runs(t->agent, "id-ended", "ended", clock_unix_ns() - hour_ns);
	s->state = FSB__AGENT__V1__REPORT_STATE__EXITED;
	s->exit_code = 3;
	sim_agent_runs(t->agent, "id-deleted", "deleted", clock_unix_ns() + hour_ns);
	POLL_FOR(t, is_ready(t) && state_of(t, "old") == REG_RUNNING);
	view = view_of(t, "old");
	assert_string_equal(view.id, "id-old");
	assert_int_equal(view.generation, 4);
	assert_string_equal(view.agent_name, "agent-1");
	assert_string_equal(view.image, "docker.io/library/busybox:latest");
	assert_int_equal(state_of(t, "ended"), REG_EXITED);
	assert_int_equal(view_of(t, "ended").exit.code, 3);
	POLL_FOR(t, sim_agent_was_told(t->agent, "stop id-deleted"));
	assert_int_equal(state_of(t, "deleted"), REG_FREE);
	assert_false(sim_agent_was_told(t->agent, "stop id-old"));
	sim_agent_runs(t->agent, "id-impostor", "old", clock_unix_ns() - hour_ns);
	assert_int_equal(fixture_end(t->f, t->registryd, SIGKILL), 128 + SIGKILL);
	start(t); /* asks anew */
	POLL_FOR(t, sim_agent_was_told(t->agent, "stop id-impostor"));
	assert_string_equal(view_of(t, "old").id, "id-old");
}

/* A registryd that was away: an agent that went meanwhile is noticed, and records keep their slots.
 */
static void test_agent_went_while_away(void **state)
{
	struct test *t = *state;

	start_with_agent(t);
	run(t, "a");
	assert_int_equal(fixture_end(t->f, t->registryd, SIGKILL), 128 + SIGKILL);
	t->agent = sim_agent_free(t->agent);
	assert_true(is_ready(t)); /* nobody has looked */
	start(t);
	POLL_FOR(t, !is_ready(t));
	POLL_FOR(t, state_of(t, "a") == REG_LOST);
}

/* A worker dies after its command: the agent decides. */
static void orphan(struct test *t, bool runs)
{
	struct reg_request req = fixture_request("a");
	struct reg_lease lease;

	start_with_agent(t);
	assert_reg(REG_OK, reg_reserve(t->f->me, &req, &lease));
	assert_reg(REG_OK, reg_starting(t->f->me, &lease));
	if (runs)
		sim_agent_runs(t->agent, "id-a", "a", req.created_unix_ns);
	t->f->me = reg_leave(t->f->me); /* what it holds stays under its index, as after a death */
	assert_reg(REG_OK, reg_join(t->f->reg, REG_KIND_WORKER, &t->f->me));
	POLL_FOR(t, state_of(t, "a") == (runs ? REG_RUNNING : REG_FREE));
	assert_true(sim_agent_was_told(t->agent, "fence id-a"));
}

static void test_orphan_runs(void **state)
{
	orphan(*state, true);
}

static void test_orphan_fenced(void **state)
{
	orphan(*state, false);
}

/* Two processes that call themselves the same: the first one stays. */
static void test_two_of_one_name(void **state)
{
	struct test *t = *state;
	struct sim_agent *other;
	struct reg_agent_view view;
	reg_agent_id id;

	start_with_agent(t);
	other = sim_agent_new(t->loop, t->f->dir, "agent-2", 8);
	other->name = "agent-1";
	POLL_FOR(t, other->hellos > 0);
	for (int i = 0; i < 20; i++)
		poll_agents(t);
	assert_reg(REG_OK, reg_agent_find(t->f->me, "default", "agent-1", &id));
	assert_reg(REG_OK, reg_agent_get(t->f->me, id, &view));
	assert_true(view.ready);
	assert_string_equal(view.address, t->agent->address);
	sim_agent_free(other);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_joins),
		TEST(test_exit_event),
		TEST(test_deleted_while_lost),
		TEST(test_exit_before_commit),
		TEST(test_unconfirmed_stop),
		TEST(test_removed_event),
		TEST(test_expiry),
		TEST(test_expiry_updates),
		TEST(test_lost_and_found),
		TEST(test_forgotten),
		TEST(test_back_in_time),
		TEST(test_unknown_reports),
		TEST(test_agent_went_while_away),
		TEST(test_orphan_runs),
		TEST(test_orphan_fenced),
		TEST(test_two_of_one_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
