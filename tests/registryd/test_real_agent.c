/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsb-registryd with the real fsb-agent, its launcher and real processes; this test plays the
 * worker. Exits, expiry, an agent that is killed and comes back in time or late, a lost arena, and
 * what a dead worker had started.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent_bed.h"
#include "fixture.h"

static struct fixture *f;
static pid_t registryd;
static struct aclient worker;

static void start_registryd(void)
{
	const char *argv[] = {FSB_REGISTRYD,
			      "--no-store",
			      "--arena",
			      f->arena,
			      "--run-dir",
			      bed.run_dir,
			      "--max-sandboxes=8192",
			      "--max-agents=64",
			      "--reap-interval-ms=20",
			      "--agent-timeout=3",
			      NULL};

	registryd = fixture_spawn(f, argv, NULL, "registryd.log");
	if (!f->reg)
		assert_true(fixture_attach_arena(f, 10 * NS_PER_S));
}

static bool is_ready(void)
{
	struct reg_agent_view view;
	reg_agent_id id;

	return reg_agent_find(f->me, "default", "a", &id) == REG_OK &&
	       reg_agent_get(f->me, id, &view) == REG_OK && view.ready;
}

static void open_worker(void)
{
	WAIT_FOR(is_ready());
	aclient_open(&worker, &bed, "a", FSB__AGENT__V1__PEER_ROLE__WORKER, reg_instance(f->reg),
		     reg_epoch(f->reg));
}

static int setup(void **state)
{
	int r = agent_bed_setup(state);

	if (r)
		return r;
	aclient_close(&client); /* registryd takes its place */
	f = fixture_new();
	start_registryd();
	open_worker();
	return 0;
}

static int teardown(void **state)
{
	int code;

	aclient_close(&worker);
	code = fixture_end(f, registryd, SIGTERM);
	if (code)
		fixture_print_log(f, "registryd.log");
	aclient_open(&client, &bed, "a", FSB__AGENT__V1__PEER_ROLE__REGISTRYD, "arena-last", 1000);
	fixture_free(f);
	return agent_bed_teardown(state) || code;
}

static enum reg_state state_of(const char *name)
{
	struct reg_sandbox_view view;

	return reg_get(f->me, "default", name, &view) == REG_OK ? view.state : REG_FREE;
}

static struct reg_sandbox_view view_of(const char *name)
{
	struct reg_sandbox_view view;

	assert_reg(REG_OK, reg_get(f->me, "default", name, &view));
	return view;
}

static struct reg_lease reserve(const char *name, int64_t expire_unix_s)
{
	struct reg_request req = fixture_request(name);
	struct reg_lease lease;

	req.id = name;
	req.expire_unix_s = expire_unix_s;
	assert_reg(REG_OK, reg_reserve(f->me, &req, &lease));
	assert_reg(REG_OK, reg_starting(f->me, &lease));
	return lease;
}

static void on_ack(void *arg, enum agentlink_result result, const Fsb__Agent__V1__Ack *ack,
		   const char *reason)
{
	int *code = arg;

	*code = result == AGENTLINK_ACKED ? (int)ack->code : -2;
}

/* As a worker does it, with a meta that a record can be rebuilt from. */
static int command_start(struct reg_sandbox_view *view, const char *script)
{
	Fsb__V1__SandboxMeta meta = FSB__V1__SANDBOX_META__INIT;
	Fsb__Agent__V1__Start start = FSB__AGENT__V1__START__INIT;
	Fsb__Agent__V1__Command command = FSB__AGENT__V1__COMMAND__INIT;
	uint8_t packed[1024];
	int code = -1;

	meta.id = view->id;
	meta.namespace_ = view->ns;
	meta.name = view->name;
	meta.pool = view->pool;
	meta.created_unix_ns = view->created_unix_ns;
	meta.generation = view->generation;
	start.meta = &meta;
	start.spec.data = packed;
	start.spec.len = protobuf_c_message_pack(&spec_sh(script)->base, packed);
	command.kind_case = FSB__AGENT__V1__COMMAND__KIND_START;
	command.start = &start;
	assert_int_equal(agentlink_command(worker.link, &command, 0, on_ack, &code), 0);
	assert_true(aclient_until(&worker, code != -1));
	return code;
}

static struct reg_lease start(const char *name, const char *script, int64_t expire_unix_s)
{
	struct reg_lease lease = reserve(name, expire_unix_s);
	struct reg_sandbox_view view = view_of(name);

	assert_int_equal(command_start(&view, script), ACK(OK));
	return lease;
}

static reg_sandbox_id run(const char *name, const char *script, int64_t expire_unix_s)
{
	struct reg_lease lease = start(name, script, expire_unix_s);
	const struct reg_started started = {.started_unix_ns = clock_unix_ns()};

	assert_reg(REG_OK, reg_commit(f->me, &lease, &started));
	return lease.sandbox;
}

/* The agent's event finalises it: this worker never calls reg_stopped. */
static void delete (const char *name)
{
	assert_reg(REG_OK, reg_stop(f->me, view_of(name).sandbox, REG_STOP_DELETE, NULL));
	assert_ack(aclient_stop(&worker, name, -1, false), ACK(OK));
	WAIT_FOR(state_of(name) == REG_FREE);
}

static void test_exit(void **state)
{
	run("quick", "exit 7", 0); /* often over before the commit */
	WAIT_FOR(state_of("quick") == REG_EXITED);
	assert_int_equal(view_of("quick").exit.code, 7);
	run("later", "sleep 0.2", 0);
	WAIT_FOR(state_of("later") == REG_EXITED);
	assert_int_equal(view_of("later").exit.code, 0);
	delete ("quick");
	delete ("later");
	assert_nothing_left();
}

static void test_expiry(void **state)
{
	struct reg_sandbox_view view;

	run("brief", "exec sleep 1000", clock_unix_ns() / (int64_t)NS_PER_S + 1);
	WAIT_FOR(state_of("brief") == REG_EXPIRED);
	view = view_of("brief");
	assert_false(view.exit.unknown);
	assert_true(view.exit.finished_unix_ns > 0);
	assert_int_equal(testing_count(&bed, "a").processes, 0);
	delete ("brief");
	assert_nothing_left();
}

static void kill_agent(void)
{
	kill(agent_pid, SIGKILL);
	waitpid(agent_pid, NULL, 0);
}

/* Back within the timeout: nothing was lost, and what ended meanwhile has its exit code. */
static void test_agent_killed(void **state)
{
	run("stays", "exec sleep 1000", 0);
	run("ends", "sleep 0.3; exit 5", 0);
	aclient_close(&worker);
	kill_agent();
	WAIT_FOR(!is_ready()); /* its process is gone: no more sandboxes for it */
	assert_int_equal(state_of("stays"), REG_RUNNING);
	usleep(400000); /* "ends" ends while no agent is there */
	agent_spawn(NULL);
	WAIT_FOR(is_ready() && state_of("ends") == REG_EXITED);
	assert_int_equal(view_of("ends").exit.code, 5);
	assert_int_equal(state_of("stays"), REG_RUNNING);
	open_worker();
	delete ("stays");
	delete ("ends");
	assert_nothing_left();
}

static void test_agent_late(void **state)
{
	run("waits", "exec sleep 1000", 0);
	aclient_close(&worker);
	kill_agent();
	WAIT_FOR(state_of("waits") == REG_LOST);
	assert_non_null(strstr(view_of("waits").message, "agent a unreachable since"));
	agent_spawn(NULL);
	WAIT_FOR(state_of("waits") == REG_RUNNING);
	assert_int_equal(view_of("waits").message[0], 0);
	open_worker();
	delete ("waits");
	assert_nothing_left();
}

/* No arena and no store: what runs is found by what the agent says. */
static void test_arena_lost(void **state)
{
	run("old", "exec sleep 1000", 0);
	run("over", "exit 4", 0);
	WAIT_FOR(state_of("over") == REG_EXITED);
	aclient_close(&worker);
	assert_int_equal(fixture_end(f, registryd, SIGKILL), 128 + SIGKILL);
	fixture_detach_arena(f);
	assert_int_equal(unlink(f->arena), 0);
	start_registryd();
	open_worker();
	WAIT_FOR(state_of("old") == REG_RUNNING && state_of("over") == REG_EXITED);
	assert_int_equal(view_of("over").exit.code, 4);
	assert_string_equal(view_of("old").agent_name, "a");
	assert_string_equal(view_of("old").pool, "default-pool");
	delete ("old");
	delete ("over");
	assert_nothing_left();
}

/* The worker is gone after its command, before its commit: the agent says what is true. */
static void test_orphans(void **state)
{
	struct reg_sandbox_view never;

	start("runs", "exec sleep 1000", 0);
	reserve("never", 0);
	never = view_of("never");
	f->me = reg_leave(f->me); /* what it holds stays under its index, as after a death */
	assert_reg(REG_OK, reg_join(f->reg, REG_KIND_WORKER, &f->me));
	WAIT_FOR(state_of("runs") == REG_RUNNING && state_of("never") == REG_FREE);
	/* and the command that was still under way is refused for good */
	assert_int_equal(command_start(&never, "exec sleep 1000"), ACK(FENCED));
	delete ("runs");
	assert_nothing_left();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exit),	     cmocka_unit_test(test_expiry),
		cmocka_unit_test(test_agent_killed), cmocka_unit_test(test_agent_late),
		cmocka_unit_test(test_arena_lost),   cmocka_unit_test(test_orphans),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
