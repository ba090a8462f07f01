/* SPDX-License-Identifier: Apache-2.0 */
/* Stopping, dying and coming back: of sandboxes, of the agent, of the launcher; fences, epochs, and
 * that nothing is left over. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent_bed.h"

static bool log_has(const char *id, const char *text)
{
	const char *log = aclient_logs(&client, id, false);

	return log && strstr(log, text);
}

static double seconds_since(uint64_t t0)
{
	return (double)(clock_mono_ns() - t0) / 1e9;
}

/* ---- stop ---- */

static void test_term_is_delivered(void **state)
{
	struct aseen *seen = aclient_seen(&client, "term");

	assert_ack(aclient_start(&client, "term", spec_sh("exec /bin/probe handle-term")), ACK(OK));
	assert_true(wait_until(log_has("term", "ready")));
	assert_ack(aclient_stop(&client, "term", 5, true), ACK(OK));
	assert_true(aclient_until(&client, seen->removals > 0));
	assert_int_equal(seen->code, 42);
	assert_true(log_has("term", "got TERM"));
	assert_ack(aclient_remove(&client, "term"), ACK(OK));
	assert_null(aclient_logs(&client, "term", false));
	assert_nothing_left();
	/* It is forgotten: the same id starts anew. */
	assert_ack(aclient_start(&client, "term", spec_sh("echo again; exec sleep 100")), ACK(OK));
	assert_true(wait_until(log_has("term", "again")));
	assert_ack(aclient_stop(&client, "term", -1, false), ACK(OK));
	assert_nothing_left();
}

static void test_kill_after_grace(void **state)
{
	struct aseen *seen = aclient_seen(&client, "stubborn");
	uint64_t t0;

	assert_ack(aclient_start(&client, "stubborn", spec_sh("exec /bin/probe ignore-term")),
		   ACK(OK));
	assert_true(wait_until(log_has("stubborn", "ready")));
	t0 = clock_mono_ns();
	assert_ack(aclient_stop(&client, "stubborn", 1, false), ACK(OK));
	assert_true(seconds_since(t0) >= 0.95);
	assert_true(seconds_since(t0) < 5);
	assert_true(aclient_until(&client, seen->removals == 1));
	assert_nothing_left();
}

/* The kernel would discard a TERM that pid 1 has no handler for: no use in waiting for the grace to
 * pass. */
static void test_no_grace_without_handler(void **state)
{
	uint64_t t0;

	assert_ack(aclient_start(&client, "plain", spec_sh("exec sleep 100")), ACK(OK));
	t0 = clock_mono_ns();
	assert_ack(aclient_stop(&client, "plain", 10, false), ACK(OK));
	assert_true(seconds_since(t0) < 3);
	assert_nothing_left();
}

static void test_whole_tree_is_killed(void **state)
{
	assert_ack(aclient_start(&client, "tree",
				 spec_sh("for i in 1 2 3; do (sleep 1000; sleep 1000) & done; "
					 "setsid sleep 1000 & echo up; wait")),
		   ACK(OK));
	assert_true(wait_until(log_has("tree", "up")));
	assert_true(wait_until(testing_count(&bed, "a").processes >= 5));
	assert_ack(aclient_stop(&client, "tree", -1, false), ACK(OK));
	assert_nothing_left();
}

static void test_background_ends_with_main(void **state)
{
	struct aseen *seen = aclient_seen(&client, "main");

	assert_ack(aclient_start(&client, "main", spec_sh("sleep 1000 & exit 3")), ACK(OK));
	assert_true(aclient_until(&client, seen->exits == 1));
	assert_int_equal(seen->code, 3);
	assert_int_equal(testing_count(&bed, "a").processes, 0);
	assert_ack(aclient_remove(&client, "main"), ACK(OK));
}

static void test_stop_unknown_and_remove_running(void **state)
{
	assert_ack(aclient_stop(&client, "nobody", 1, false), ACK(OK));
	assert_ack(aclient_remove(&client, "nobody"), ACK(OK));
	assert_ack(aclient_start(&client, "busy", spec_sh("exec sleep 100")), ACK(OK));
	assert_ack(aclient_remove(&client, "busy"), ACK(STILL_RUNNING));
	assert_ack(aclient_stop(&client, "busy", -1, false), ACK(OK));
	assert_nothing_left();
}

static void test_delete_during_create(void **state)
{
	for (int i = 0; i < 30; i++) {
		struct aresult start, stop;

		aclient_start_async(&client, "brief", spec_sh("exec sleep 100"), &start);
		agentlink_flush(client.link);
		for (int k = 0; k < i; k++)
			gloop_poll(client.loop, 0);
		aclient_stop_async(&client, "brief", -1, &stop);
		assert_true(aclient_until(&client, start.done && stop.done));
		assert_int_equal(stop.code, ACK(OK));
		assert_true(start.code == ACK(OK) || start.code == ACK(FENCED));
	}
	assert_nothing_left();
}

/* ---- repeated and fenced starts ---- */

static void test_start_is_idempotent(void **state)
{
	struct aresult first, again;

	first = aclient_start(&client, "twice", spec_sh("exec sleep 100"));
	assert_ack(first, ACK(OK));
	again = aclient_start(&client, "twice", spec_sh("exec sleep 100"));
	assert_ack(again, ACK(OK));
	assert_true(again.has_report);
	assert_int_equal(again.start_ns, first.start_ns);
	assert_ack(aclient_start_generation(&client, "twice", 2, spec_sh("")), ACK(EXISTS));
	assert_ack(aclient_start_generation(&client, "twice", 0, spec_sh("")), ACK(FENCED));
	assert_ack(aclient_stop(&client, "twice", -1, false), ACK(OK));
	aclient_start_async(&client, "both", spec_sh("exec sleep 100"), &first);
	aclient_start_async(&client, "both", spec_sh("exec sleep 100"), &again);
	assert_true(aclient_until(&client, first.done && again.done));
	assert_ack(first, ACK(OK));
	assert_ack(again, ACK(OK));
	assert_ack(aclient_stop(&client, "both", -1, false), ACK(OK));
	assert_nothing_left();
}

static void test_fence(void **state)
{
	struct aresult r = aclient_fence(&client, "ghost", 3);

	assert_ack(r, ACK(OK));
	assert_false(r.running);
	assert_ack(aclient_start_generation(&client, "ghost", 2, spec_sh("")), ACK(FENCED));
	assert_ack(aclient_start_generation(&client, "ghost", 3, spec_sh("")), ACK(FENCED));
	assert_ack(aclient_start_generation(&client, "ghost", 4, spec_sh("exec sleep 100")),
		   ACK(OK));
	r = aclient_fence(&client, "ghost", 4);
	assert_true(r.running);
	assert_true(r.has_report);
	assert_int_equal(r.report_generation, 4);
	assert_ack(aclient_stop(&client, "ghost", -1, false), ACK(OK));
	assert_nothing_left();
}

static void test_fence_meets_start(void **state)
{
	struct aresult start, fence;

	aclient_start_async(&client, "race", spec_sh("exec sleep 100"), &start);
	agentlink_flush(client.link);
	fence = aclient_fence(&client, "race", 1);
	assert_true(start.done);
	assert_ack(start, ACK(OK));
	assert_true(fence.running);
	assert_ack(aclient_stop(&client, "race", -1, false), ACK(OK));
}

/* ---- the agent and the launcher die ---- */

static void kill_agent(int signo)
{
	int downs = client.downs;

	testing_end(agent_pid, signo);
	assert_true(aclient_until(&client, client.downs > downs));
}

static void new_agent(void)
{
	int ups = client.ups;

	agent_spawn(NULL);
	assert_true(aclient_until(&client, client.ups > ups && agentlink_is_up(client.link)));
}

/* Lines "line 0", "line 1", … without a gap; how many. */
static int count_lines(const char *log)
{
	char line[32];
	int n = 0;

	for (;; n++) {
		int len = snprintf(line, sizeof(line), "line %d\n", n);

		if (strncmp(log, line, (size_t)len))
			return n;
		log += len;
	}
}

static void test_agent_killed(int signo)
{
	struct aseen *lives = aclient_seen(&client, "lives"), *ends = aclient_seen(&client, "ends");
	char path[200];
	int before;

	lives->exits = ends->exits = lives->removals = 0;
	assert_ack(aclient_start(&client, "lives",
				 spec_sh("trap 'exit 9' TERM; i=0; while :; do echo line $i; "
					 "i=$((i+1)); sleep 0.01; done")),
		   ACK(OK));
	assert_ack(
		aclient_start(&client, "ends",
			      spec_sh("while [ ! -e /dev/shm/go ]; do sleep 0.01; done; exit 4")),
		ACK(OK));
	assert_true(wait_until(log_has("lives", "line 3")));
	before = count_lines(aclient_logs(&client, "lives", false));
	snprintf(path, sizeof(path), "/sys/fs/cgroup/pids/fsb/%s/a/ends", bed.instance);
	kill_agent(signo);
	/* It ends while there is no agent, and the launcher has seen that when its cgroup is gone.
	 */
	assert_int_equal(testing_sh("for p in $(cat %s/cgroup.procs); do "
				    "touch /proc/$p/root/dev/shm/go && break; done",
				    path),
			 0);
	assert_true(wait_until(access(path, F_OK)));
	new_agent();
	assert_true(lives->reported && lives->running);
	assert_true(ends->reported && !ends->running);
	assert_int_equal(ends->code, 4);
	assert_false(ends->unknown);
	assert_ack(aclient_stop(&client, "lives", 10, true), ACK(OK));
	assert_true(aclient_until(&client, lives->exits == 1));
	assert_int_equal(lives->code, 9);
	assert_true(count_lines(aclient_logs(&client, "lives", true)) > before);
	assert_ack(aclient_remove(&client, "lives"), ACK(OK));
	assert_ack(aclient_remove(&client, "ends"), ACK(OK));
	assert_nothing_left();
}

static void test_agent_killed_by_kill(void **state)
{
	test_agent_killed(SIGKILL);
}

static void test_agent_ended_by_term(void **state)
{
	test_agent_killed(SIGTERM);
}

/* The writable layer on disk: more files than are removed at once, so that a process of its own
 * removes them. */
static void test_layer_on_disk(void **state)
{
	char *extra[] = {(char[]){"--layer"}, (char[]){"disk"}, NULL};
	int ups = client.ups;

	kill_agent(SIGTERM);
	agent_spawn(extra);
	assert_true(aclient_until(&client, client.ups > ups && agentlink_is_up(client.link)));
	assert_ack(
		aclient_start(&client, "large",
			      spec_sh("mkdir /d; cd /d; for i in $(seq 1200); do echo > f$i; done; "
				      "echo made; exec sleep 100")),
		ACK(OK));
	assert_true(wait_until(log_has("large", "made")));
	assert_int_equal(testing_sh("[ -e %s/state/a/large/upper/d/f1200 ]", bed.run_dir), 0);
	assert_ack(aclient_stop(&client, "large", -1, false), ACK(OK));
	assert_nothing_left();
	/* Found again by the next launcher, it is removed as well. */
	assert_ack(aclient_start(&client, "kept", spec_sh("echo > /x; exec sleep 100")), ACK(OK));
	kill(launcher_pid(), SIGKILL);
	assert_ack(aclient_stop(&client, "kept", -1, false), ACK(OK));
	assert_nothing_left();
	kill_agent(SIGTERM);
	new_agent();
}

static void test_fence_survives_the_agent(void **state)
{
	assert_ack(aclient_fence(&client, "tomb", 7), ACK(OK));
	kill_agent(SIGKILL);
	new_agent();
	assert_ack(aclient_start_generation(&client, "tomb", 7, spec_sh("")), ACK(FENCED));
}

static void test_launcher_killed(void **state)
{
	struct aseen *seen = aclient_seen(&client, "orphan");
	pid_t old = launcher_pid();

	assert_ack(aclient_start(&client, "orphan", spec_sh("sleep 1; echo still here; exit 5")),
		   ACK(OK));
	kill(old, SIGKILL);
	assert_true(testing_gone(old));
	/* The agent starts another one, which finds it. */
	assert_true(wait_until(launcher_pid() != old));
	assert_ack(aclient_start(&client, "next", spec_sh("exec sleep 100")), ACK(OK));
	assert_true(aclient_until(&client, seen->exits == 1));
	assert_true(seen->unknown);
	assert_true(log_has("orphan", "still here"));
	assert_ack(aclient_remove(&client, "orphan"), ACK(OK));
	assert_ack(aclient_stop(&client, "next", -1, false), ACK(OK));
	assert_nothing_left();
}

static void test_both_killed(void **state)
{
	struct aseen *seen = aclient_seen(&client, "survivor");
	pid_t launcher = launcher_pid();

	assert_ack(
		aclient_start(&client, "survivor",
			      spec_sh("trap 'exit 6' TERM; echo up; while :; do sleep 0.05; done")),
		ACK(OK));
	assert_true(wait_until(log_has("survivor", "up")));
	kill(launcher, SIGKILL);
	kill_agent(SIGKILL);
	assert_true(testing_gone(launcher));
	assert_int_equal(testing_count(&bed, "a").states, 1);
	new_agent();
	assert_true(seen->reported && seen->running);
	assert_ack(aclient_stop(&client, "survivor", 5, true), ACK(OK));
	assert_true(aclient_until(&client, seen->removals == 1));
	assert_true(seen->unknown);
	assert_ack(aclient_remove(&client, "survivor"), ACK(OK));
	assert_nothing_left();
}

/* It dies at each step of a start: what was acknowledged runs, what was not is gone. */
static void launcher_dies_at(const char *failpoint, int want_code)
{
	struct aseen *seen = aclient_seen(&client, "half");
	pid_t old = launcher_pid();
	struct aresult r;

	kill_agent(SIGKILL);
	kill(old, SIGKILL);
	assert_true(testing_gone(old));
	setenv("FSB_FAILPOINT", failpoint, 1);
	setenv("FSB_FAILPOINT_ROLE", "launcher", 1);
	agent_spawn(NULL);
	unsetenv("FSB_FAILPOINT");
	unsetenv("FSB_FAILPOINT_ROLE");
	assert_true(aclient_until(&client, agentlink_is_up(client.link)));
	old = launcher_pid();
	r = aclient_start(&client, "half", spec_sh("exec sleep 100"));
	assert_ack(r, want_code);
	if (want_code == ACK(OK)) {
		assert_ack(aclient_fence(&client, "half", 1), ACK(OK));
		assert_ack(aclient_stop(&client, "half", -1, false), ACK(OK));
	}
	assert_true(wait_until(testing_count(&bed, "a").processes == 0));
	assert_nothing_left();
	/* The next launcher must not have the failpoint: the agent's environment has. */
	kill_agent(SIGKILL);
	old = launcher_pid();
	kill(old, SIGKILL);
	assert_true(testing_gone(old));
	new_agent();
	assert_false(seen->reported);
}

static void test_launcher_dies_before_the_record(void **state)
{
	launcher_dies_at("launcher.before_run_record=kill@1", ACK(INTERNAL));
}

static void test_launcher_dies_before_the_reply(void **state)
{
	launcher_dies_at("launcher.before_start_reply=kill@1", ACK(OK));
}

/* ---- peers ---- */

static void test_epochs(void **state)
{
	struct aclient old, new;

	aclient_open(&old, &bed, "a", FSB__AGENT__V1__PEER_ROLE__WORKER, "arena-1", 1);
	assert_ack(aclient_fence(&old, "x", 1), ACK(OK));
	aclient_open(&new, &bed, "a", FSB__AGENT__V1__PEER_ROLE__WORKER, "arena-1", 2);
	assert_ack(aclient_fence(&new, "x", 1), ACK(OK));
	assert_ack(aclient_fence(&old, "x", 1), ACK(STALE_EPOCH));
	assert_ack(aclient_start(&old, "stale", spec_sh("")), ACK(STALE_EPOCH));
	aclient_close(&old);
	/* It is remembered over a restart. */
	kill_agent(SIGKILL);
	new_agent();
	assert_ack(aclient_fence(&client, "x", 1), ACK(STALE_EPOCH));
	/* Another arena is taken over when its registryd comes, and not when a worker of it does.
	 */
	aclient_open(&old, &bed, "a", FSB__AGENT__V1__PEER_ROLE__WORKER, "arena-2", 9);
	assert_ack(aclient_fence(&old, "x", 1), ACK(STALE_EPOCH));
	aclient_close(&new);
	aclient_open(&new, &bed, "a", FSB__AGENT__V1__PEER_ROLE__REGISTRYD, "arena-2", 1);
	assert_ack(aclient_fence(&old, "x", 1), ACK(OK));
	aclient_close(&old);
	aclient_close(&new);
	aclient_close(&client);
	aclient_open(&client, &bed, "a", FSB__AGENT__V1__PEER_ROLE__REGISTRYD, "arena-1", 3);
}

static void test_events_go_to_registryd_only(void **state)
{
	struct aclient worker;

	aclient_open(&worker, &bed, "a", FSB__AGENT__V1__PEER_ROLE__WORKER, "arena-1", 3);
	assert_ack(aclient_start(&worker, "told", spec_sh("exit 1")), ACK(OK));
	assert_true(aclient_until(&client, aclient_seen(&client, "told")->exits == 1));
	assert_true(aclient_until(&client, client.heartbeats >= 2));
	assert_int_equal(aclient_seen(&worker, "told")->exits, 0);
	assert_int_equal(worker.heartbeats, 0);
	assert_ack(aclient_remove(&worker, "told"), ACK(OK));
	assert_true(aclient_until(&client, aclient_seen(&client, "told")->removals == 1));
	aclient_close(&worker);
}

static void test_second_agent_of_a_name_is_refused(void **state)
{
	pid_t first = agent_pid;
	int status;

	agent_spawn(NULL);
	assert_int_equal(waitpid(agent_pid, &status, 0), agent_pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	agent_pid = first;
	assert_ack(aclient_fence(&client, "x", 1), ACK(OK));
}

static void test_image_change_reaches_other_agents(void **state)
{
	char *argv[] = {
		(char[]){"fsb-agent"}, (char[]){"--name"},    (char[]){"b"}, (char[]){"--instance"},
		bed.instance,	       (char[]){"--run-dir"}, bed.run_dir,   NULL};
	char path[200];
	struct aclient other;
	pid_t pid = testing_spawn(&bed, argv), launcher;
	int before;

	aclient_open(&other, &bed, "b", FSB__AGENT__V1__PEER_ROLE__REGISTRYD, "arena-1", 3);
	before = other.images;
	assert_int_equal(aclient_load(&client, layout, "latest", "another:name", NULL), G_OK);
	assert_true(aclient_until(&other, other.image_events > 0));
	assert_int_equal(other.images, before + 1);
	assert_ack(aclient_start(&other, "onb", spec_sh("exec sleep 100")), ACK(OK));
	assert_ack(aclient_stop(&other, "onb", -1, false), ACK(OK));
	aclient_close(&other);
	testing_end(pid, SIGTERM);
	snprintf(path, sizeof(path), "%s/agents/b.launcher.pid", bed.run_dir);
	launcher = testing_pid_file(path);
	kill(launcher, SIGTERM);
	assert_true(testing_gone(launcher));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_term_is_delivered),
		cmocka_unit_test(test_kill_after_grace),
		cmocka_unit_test(test_no_grace_without_handler),
		cmocka_unit_test(test_whole_tree_is_killed),
		cmocka_unit_test(test_background_ends_with_main),
		cmocka_unit_test(test_stop_unknown_and_remove_running),
		cmocka_unit_test(test_delete_during_create),
		cmocka_unit_test(test_start_is_idempotent),
		cmocka_unit_test(test_fence),
		cmocka_unit_test(test_fence_meets_start),
		cmocka_unit_test(test_agent_killed_by_kill),
		cmocka_unit_test(test_agent_ended_by_term),
		cmocka_unit_test(test_layer_on_disk),
		cmocka_unit_test(test_fence_survives_the_agent),
		cmocka_unit_test(test_launcher_killed),
		cmocka_unit_test(test_both_killed),
		cmocka_unit_test(test_launcher_dies_before_the_record),
		cmocka_unit_test(test_launcher_dies_before_the_reply),
		cmocka_unit_test(test_epochs),
		cmocka_unit_test(test_events_go_to_registryd_only),
		cmocka_unit_test(test_second_agent_of_a_name_is_refused),
		cmocka_unit_test(test_image_change_reaches_other_agents),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, agent_bed_setup, agent_bed_teardown);
}
