/* SPDX-License-Identifier: Apache-2.0 */
/* What a sandbox is given (command, environment, user, files) and what it is denied (the host,
 * others, privileges, resources). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent_bed.h"
#include "base/cleanup.h"

/* Runs it and checks exit code and output. */
static void assert_runs(const char *id, const Spec *spec, int code, const char *output)
{
	int got = -100;
	const char *log = aclient_run(&client, id, spec, &got);

	assert_non_null(log);
	assert_string_equal(log, output);
	assert_int_equal(got, code);
}

static void assert_bad(const char *id, const Spec *spec, int code, const char *part)
{
	struct aresult r = aclient_start(&client, id, spec);

	assert_int_equal(r.code, code);
	if (!strstr(r.message, part))
		print_error("message: %s\n", r.message);
	assert_non_null(strstr(r.message, part));
}

static void test_output_and_exit_code(void **state)
{
	assert_runs("one", spec_sh("echo out; echo err >&2; hostname; exit 7"), 7,
		    "out\nerr\none\n");
	assert_runs("ok", spec_sh("true"), 0, "");
	assert_nothing_left();
}

static void test_exit_by_signal(void **state)
{
	Spec *spec = spec_sh("sleep 0.01; /bin/probe die; echo $?");
	struct aseen *seen;

	assert_runs("child-dies", spec, 0, "Segmentation fault\n139\n");
	spec = spec_sh("exec sleep 100");
	assert_ack(aclient_start(&client, "killed", spec), ACK(OK));
	assert_int_equal(
		testing_sh("pid=$(cat /sys/fs/cgroup/pids/fsb/%s/a/killed/cgroup.procs) && "
			   "kill -ABRT $pid; kill -KILL $pid",
			   bed.instance),
		0);
	seen = aclient_seen(&client, "killed");
	assert_true(aclient_until(&client, seen->exits > 0));
	assert_int_equal(seen->code, -1);
	assert_true(seen->signal == 6 || seen->signal == 9);
	assert_false(seen->oom);
	assert_ack(aclient_remove(&client, "killed"), ACK(OK));
}

static void test_environment(void **state)
{
	Fsb__V1__SandboxSpec__EnvsEntry one = FSB__V1__SANDBOX_SPEC__ENVS_ENTRY__INIT, two = one;
	Fsb__V1__SandboxSpec__EnvsEntry *envs[] = {&one, &two};
	Spec *spec = spec_sh("echo $COLOUR $HOSTNAME $HOME; echo $PATH");

	one.key = (char[]){"COLOUR"};
	one.value = (char[]){"red green"};
	two.key = (char[]){"PATH"};
	two.value = (char[]){"/bin"};
	spec->envs = envs;
	spec->n_envs = 2;
	assert_runs("env", spec, 0, "red green env /root\n/bin\n");
	one.key = (char[]){"A=B"};
	assert_bad("env", spec, ACK(BAD_SPEC), "'A=B'");
}

static void test_working_directory(void **state)
{
	Spec *spec = spec_sh("pwd");

	assert_runs("cwd", spec, 0, "/\n");
	spec->working_dir = (char[]){"/made/for/this"};
	assert_runs("cwd", spec, 0, "/made/for/this\n");
	spec->working_dir = (char[]){"/etc/passwd"};
	assert_bad("cwd", spec, ACK(BAD_SPEC), "\"/etc/passwd\"");
	spec->working_dir = (char[]){"relative"};
	assert_bad("cwd", spec, ACK(BAD_SPEC), "'relative'");
	assert_nothing_left();
}

/* A variant of the image whose configuration umoci changes. */
static void load_variant(const char *tag, const char *options)
{
	const char *message;

	assert_int_equal(testing_sh("umoci config --image %s:latest --tag %s %s >/dev/null", layout,
				    tag, options),
			 0);
	assert_int_equal(aclient_load(&client, layout, tag, "", &message), G_OK);
}

static void test_image_configuration(void **state)
{
	Spec *spec = spec_sh("");
	char *args[] = {(char[]){"c"}};

	load_variant("conf",
		     "--config.entrypoint echo --config.entrypoint a --config.cmd b "
		     "--config.env COLOUR=blue --config.workingdir /tmp --config.user nobody");
	spec->image = (char[]){"conf"};
	spec->n_command = 0;
	assert_runs("merge", spec, 0, "a b\n");
	spec->args = args;
	spec->n_args = 1;
	assert_runs("merge", spec, 0, "a c\n");
	spec = spec_sh("echo $COLOUR; pwd; id -u; id -g; id -G; echo $HOME; cat /etc/hostname");
	spec->image = (char[]){"conf"};
	assert_runs("merge", spec, 0, "blue\n/tmp\n65534\n65534\n65534\n/\nmerge\n");
}

static void test_users(void **state)
{
	Spec *spec = spec_sh("id -u; id -g");

	load_variant("u1", "--config.user 1234:5678");
	load_variant("u2", "--config.user nobody:root");
	load_variant("u3", "--config.user unheard-of");
	spec->image = (char[]){"u1"};
	assert_runs("user", spec, 0, "1234\n5678\n");
	spec->image = (char[]){"u2"};
	assert_runs("user", spec, 0, "65534\n0\n");
	spec->image = (char[]){"u3"};
	assert_bad("user", spec, ACK(BAD_SPEC), "\"unheard-of\"");
	assert_nothing_left();
}

static void test_bad_specs(void **state)
{
	char *missing[] = {(char[]){"no-such-command"}};
	char *not_program[] = {(char[]){"/etc/passwd"}};
	Fsb__V1__SandboxSpec__ResourcesEntry resource =
		FSB__V1__SANDBOX_SPEC__RESOURCES_ENTRY__INIT;
	Fsb__V1__SandboxSpec__ResourcesEntry *resources[] = {&resource};
	int32_t ports[] = {0};
	Spec *spec = spec_sh("");

	spec->n_command = 1;
	spec->command = missing;
	assert_bad("bad", spec, ACK(BAD_SPEC),
		   "command \"no-such-command\" not found in image \"" LINK_IMAGE "\"");
	spec->command = not_program;
	assert_bad("bad", spec, ACK(BAD_SPEC), "\"/etc/passwd\"");
	spec = spec_sh("");
	spec->image = (char[]){"nginx"};
	assert_bad("bad", spec, ACK(IMAGE_NOT_FOUND), "\"docker.io/library/nginx:latest\"");
	spec->image = (char[]){""};
	assert_bad("bad", spec, ACK(BAD_SPEC), "image ''");
	spec = spec_sh("");
	spec->network = (char[]){"bridge"};
	assert_bad("bad", spec, ACK(BAD_SPEC), "'bridge'");
	spec = spec_sh("");
	spec->exposed_ports = ports;
	spec->n_exposed_ports = 1;
	assert_bad("bad", spec, ACK(BAD_SPEC), "port 0");
	ports[0] = 65536;
	assert_bad("bad", spec, ACK(BAD_SPEC), "65536");
	spec = spec_sh("");
	spec->resources = resources;
	spec->n_resources = 1;
	resource.key = (char[]){"memory"};
	resource.value = (char[]){"lots"};
	assert_bad("bad", spec, ACK(BAD_SPEC), "'lots'");
	resource.key = (char[]){"gpu"};
	assert_bad("bad", spec, ACK(BAD_SPEC), "'gpu'");
	assert_bad("Bad_Name", spec_sh(""), ACK(BAD_SPEC), "'Bad_Name'");
	assert_nothing_left();
}

/* ---- isolation ---- */

static void test_sees_only_itself(void **state)
{
	const char *log;
	int code;

	assert_ack(aclient_start(&client, "other", spec_sh("touch /made-by-other; exec sleep 100")),
		   ACK(OK));
	log = aclient_run(&client, "alone",
			  spec_sh("echo pid $$; ls /proc | grep -c '^[0-9]'; ls /; ls /run /home "
				  "/root 2>/dev/null; cat /proc/1/cmdline | tr '\\0' ' '; echo; "
				  "cat /proc/self/cgroup | grep -c fsb; "
				  "cat /proc/mounts | grep -v -E ' "
				  "/(|proc|dev|sys|etc/hosts|etc/hostname)(/| )' | wc -l"),
			  &code);
	assert_non_null(log);
	assert_memory_equal(log, "pid 1\n", 6);
	assert_null(strstr(log, "made-by-other"));
	assert_null(strstr(log, "lost+found"));
	assert_null(strstr(log, "fsb-"));
	assert_non_null(strstr(log, "\n0\n0\n"));
	assert_ack(aclient_stop(&client, "other", -1, false), ACK(OK));
	assert_nothing_left();
}

static void test_network_none_has_loopback_only(void **state)
{
	int code;
	const char *log = aclient_run(
		&client, "net",
		spec_sh("ip -o link | wc -l; ip -o link | grep -c 'lo: <LOOPBACK,UP'; "
			"cat /proc/net/route | wc -l; ls /sys/class/net; "
			"ping -c 1 -W 2 127.0.0.1 >/dev/null && echo lo works; "
			"nc -w 1 10.0.0.1 80 </dev/null 2>/dev/null || echo no way out; "
			"cat /proc/net/unix | grep -c -E 'fsb|/' "),
		&code);

	assert_non_null(log);
	assert_string_equal(log, "1\n1\n1\nlo\nlo works\nno way out\n0\n");
}

static void test_network_shared(void **state)
{
	char host[256] = "";
	FILE *f = popen("ls /sys/class/net", "r");
	Spec *spec = spec_sh("ls /sys/class/net");
	size_t n = fread(host, 1, sizeof(host) - 1, f);

	pclose(f);
	host[n] = '\0';
	spec->network = (char[]){"shared"};
	assert_runs("shared", spec, 0, host);
}

static void test_host_files_and_sockets_are_out_of_reach(void **state)
{
	char script[1024];
	int code;
	const char *log;

	snprintf(script, sizeof(script),
		 "ls %s /run/fsb /tmp/fsb* 2>&1 | grep -v 'No such file'; "
		 "ls /sys/fs/cgroup | wc -l; ls /proc/1/root/%s 2>/dev/null; "
		 "for f in /proc/kcore /proc/keys /proc/timer_list; do [ -s $f ] && echo $f; done; "
		 "for d in /dev/*; do [ -b $d ] && echo $d; done; echo end",
		 bed.run_dir, bed.run_dir);
	log = aclient_run(&client, "reach", spec_sh(script), &code);
	assert_non_null(log);
	assert_string_equal(log, "0\nend\n");
}

static int probe_errno(const char *log, const char *name)
{
	char key[64], *at;

	snprintf(key, sizeof(key), "%s ", name);
	for (at = strstr(log, key); at && at != log && at[-1] != '\n';)
		at = strstr(at + 1, key);
	return at ? atoi(at + strlen(key)) : -1;
}

static void test_forbidden_system_calls(void **state)
{
	static const char *const refused[] = {"mount",
					      "umount2",
					      "unshare",
					      "unshare-user",
					      "setns",
					      "clone-newuser",
					      "clone-newnet",
					      "bpf",
					      "ptrace",
					      "process_vm_readv",
					      "process_vm_writev",
					      "keyctl",
					      "add_key",
					      "request_key",
					      "kexec_load",
					      "kexec_file_load",
					      "init_module",
					      "finit_module",
					      "delete_module",
					      "perf_event_open",
					      "userfaultfd",
					      "open_by_handle_at",
					      "reboot",
					      "swapon",
					      "pivot_root",
					      "fsopen",
					      "fsmount",
					      "open_tree",
					      "move_mount",
					      "mount_setattr",
					      "io_uring_setup",
					      "syslog",
					      "settimeofday",
					      "sethostname",
					      "vsock",
					      "mknod-device"};
	static const char *const read_only[] = {"write-sysctl", "write-sys"};
	static const char *const works[] = {"ok-fork", "ok-socket", "ok-fifo", "ok-write"};
	int code;
	const char *log = aclient_run(&client, "calls", spec_sh("exec /bin/probe syscalls"), &code);

	assert_non_null(log);
	for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
		if (probe_errno(log, refused[i]) != 1)
			print_error("%s\n", refused[i]);
		assert_int_equal(probe_errno(log, refused[i]), 1 /* EPERM */);
	}
	assert_int_equal(probe_errno(log, "clone3"), 38 /* ENOSYS */);
	for (size_t i = 0; i < sizeof(read_only) / sizeof(*read_only); i++)
		assert_int_equal(probe_errno(log, read_only[i]), 30 /* EROFS */);
	/* Not every kernel has it. */
	assert_true(probe_errno(log, "write-sysrq") == 30 || probe_errno(log, "write-sysrq") == 2);
	for (size_t i = 0; i < sizeof(works) / sizeof(*works); i++)
		assert_int_equal(probe_errno(log, works[i]), 0);
}

static void test_privileges(void **state)
{
	int code;
	const char *log =
		aclient_run(&client, "caps",
			    spec_sh("grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status; "
				    "ls -l /proc/self/fd | wc -l; ulimit -c"),
			    &code);

	assert_non_null(log);
	/* Docker's default set a80425fb without CAP_MKNOD. */
	assert_non_null(strstr(log, "CapInh:\t0000000000000000\n"));
	assert_non_null(strstr(log, "CapPrm:\t00000000a00425fb\n"));
	assert_non_null(strstr(log, "CapEff:\t00000000a00425fb\n"));
	assert_non_null(strstr(log, "CapBnd:\t00000000a00425fb\n"));
	assert_non_null(strstr(log, "CapAmb:\t0000000000000000\n"));
	assert_non_null(strstr(log, "NoNewPrivs:\t1\n"));
	assert_non_null(strstr(log, "Seccomp:\t2\n"));
	assert_non_null(strstr(log, "\n0\n")); /* core dumps */
}

/* ---- limits ---- */

static void test_memory_limit(void **state)
{
	struct aseen *seen = aclient_seen(&client, "oom");
	uint64_t t0 = clock_mono_ns();

	assert_ack(aclient_start(&client, "oom", spec_sh("exec /bin/probe memory")), ACK(OK));
	assert_true(aclient_until(&client, seen->exits > 0));
	assert_true(clock_mono_ns() - t0 < 10 * NS_PER_S);
	assert_int_equal(seen->signal, 9);
	assert_true(seen->oom);
	assert_ack(aclient_remove(&client, "oom"), ACK(OK));
}

/* Files in memory end at half of the limit, with an error and not with the OOM killer. */
static void test_files_limit(void **state)
{
	int code;
	const char *log = aclient_run(&client, "files",
				      spec_sh("dd if=/dev/zero of=/big bs=1M count=100 2>&1; "
					      "ls -l /big | awk '{print $5}'; rm /big; echo > /ok"),
				      &code);

	assert_non_null(log);
	assert_int_equal(code, 0);
	assert_non_null(strstr(log, "No space left on device"));
}

static void test_pids_limit(void **state)
{
	Fsb__V1__SandboxSpec__ResourcesEntry pids = FSB__V1__SANDBOX_SPEC__RESOURCES_ENTRY__INIT;
	Fsb__V1__SandboxSpec__ResourcesEntry *resources[] = {&pids};
	Spec *spec = spec_sh("exec /bin/probe forks");

	pids.key = (char[]){"pids"};
	pids.value = (char[]){"20"};
	spec->resources = resources;
	spec->n_resources = 1;
	assert_runs("pids", spec, 0, "forked 19 errno 11\n");
	assert_nothing_left();
}

static void test_capacity(void **state)
{
	static struct aresult results[70];
	int ok = 0, full = 0;
	char id[16];

	for (int i = 0; i < 70; i++) {
		snprintf(id, sizeof(id), "cap-%d", i);
		aclient_start_async(&client, id, spec_sh("exec sleep 100"), &results[i]);
	}
	for (int i = 0; i < 70; i++) {
		assert_true(aclient_until(&client, results[i].done));
		ok += results[i].code == ACK(OK);
		full += results[i].code == ACK(RESOURCES) && strstr(results[i].message, "full");
	}
	assert_int_equal(ok, 64);
	assert_int_equal(full, 6);
	for (int i = 0; i < 70; i++) {
		snprintf(id, sizeof(id), "cap-%d", i);
		aclient_stop_async(&client, id, -1, &results[i]);
	}
	for (int i = 0; i < 70; i++) {
		assert_true(aclient_until(&client, results[i].done));
		assert_int_equal(results[i].code, ACK(OK));
	}
	assert_nothing_left();
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Prints, does not judge: machines differ. */
static void test_cost_of_a_start(void **state)
{
	static uint64_t times[64];

	for (int i = 0; i < 64; i++) {
		struct aresult r = aclient_start(&client, "cost", spec_sh("exec sleep 100"));

		assert_ack(r, ACK(OK));
		assert_true(r.start_ns > 0);
		times[i] = r.start_ns;
		assert_ack(aclient_stop(&client, "cost", -1, false), ACK(OK));
	}
	qsort(times, 64, sizeof(*times), compare);
	print_message("start_ns: p50 %llu us, p90 %llu us\n", (unsigned long long)times[32] / 1000,
		      (unsigned long long)times[57] / 1000);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_output_and_exit_code),
		cmocka_unit_test(test_exit_by_signal),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_working_directory),
		cmocka_unit_test(test_image_configuration),
		cmocka_unit_test(test_users),
		cmocka_unit_test(test_bad_specs),
		cmocka_unit_test(test_sees_only_itself),
		cmocka_unit_test(test_network_none_has_loopback_only),
		cmocka_unit_test(test_network_shared),
		cmocka_unit_test(test_host_files_and_sockets_are_out_of_reach),
		cmocka_unit_test(test_forbidden_system_calls),
		cmocka_unit_test(test_privileges),
		cmocka_unit_test(test_memory_limit),
		cmocka_unit_test(test_files_limit),
		cmocka_unit_test(test_pids_limit),
		cmocka_unit_test(test_capacity),
		cmocka_unit_test(test_cost_of_a_start),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, agent_bed_setup, agent_bed_teardown);
}
