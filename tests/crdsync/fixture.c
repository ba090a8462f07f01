/* SPDX-License-Identifier: Apache-2.0 */
/* See fixture.h. */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/pb.h"
#include "spec.pb-c.h"

struct fixture *fixture_new(void)
{
	static int count;
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	snprintf(f->dir, sizeof(f->dir), "/tmp/fsb-test-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->arena, sizeof(f->arena), "/dev/shm/fsb-daemons-%d-%d", (int)getpid(), count++);
	return f;
}

static void remove_arenas(struct fixture *f)
{
	char command[256];

	/* with what was quarantined */
	snprintf(command, sizeof(command), "rm -f '%s' '%s'.*", f->arena, f->arena);
	if (system(command) != 0)
		print_error("cleanup failed: %s\n", command);
}

void fixture_free(struct fixture *f)
{
	for (int i = 0; i < f->child_count; i++) {
		if (f->children[i] > 0) {
			kill(f->children[i], SIGKILL);
			waitpid(f->children[i], NULL, 0);
		}
	}
	fixture_detach_arena(f);
	remove_arenas(f);
	io_remove_tree(AT_FDCWD, f->dir);
	free(f);
}

void fixture_create_arena(struct fixture *f)
{
	const struct reg_limits limits = {.agents = 64, .sandboxes = 8192};

	assert_reg(REG_OK, reg_create(f->arena, &limits, &f->reg));
	assert_reg(REG_OK, reg_join(f->reg, REG_KIND_WORKER, &f->me));
}

bool fixture_attach_arena(struct fixture *f, uint64_t timeout_ns)
{
	uint64_t deadline = clock_mono_ns() + timeout_ns;

	while (reg_attach(f->arena, &f->reg) != REG_OK) {
		if (clock_mono_ns() > deadline)
			return false;
		usleep(1000);
	}
	assert_reg(REG_OK, reg_join(f->reg, REG_KIND_WORKER, &f->me));
	return true;
}

void fixture_detach_arena(struct fixture *f)
{
	f->me = reg_leave(f->me);
	f->reg = reg_detach(f->reg);
}

pid_t fixture_spawn(struct fixture *f, const char *const *argv, const char *env, const char *log)
{
	char path[256];
	pid_t pid;

	snprintf(path, sizeof(path), "%s/%s", f->dir, log);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(fd, STDERR_FILENO);
		dup2(fd, STDOUT_FILENO);
		if (env)
			putenv(strdup(env));
		execv(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	for (int i = 0; i < f->child_count; i++) {
		if (!f->children[i]) {
			f->children[i] = pid;
			return pid;
		}
	}
	assert_true(f->child_count < 16);
	f->children[f->child_count++] = pid;
	return pid;
}

int fixture_wait(struct fixture *f, pid_t pid, uint64_t timeout_ns)
{
	uint64_t deadline = clock_mono_ns() + timeout_ns;
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (clock_mono_ns() > deadline)
			fail_msg("process %d has not ended", (int)pid);
		usleep(1000);
	}
	for (int i = 0; i < f->child_count; i++) {
		if (f->children[i] == pid)
			f->children[i] = 0;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int fixture_end(struct fixture *f, pid_t pid, int signo)
{
	kill(pid, signo);
	return fixture_wait(f, pid, 10 * NS_PER_S);
}

void fixture_stop(pid_t pid)
{
	int status;

	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
}

void fixture_print_log(struct fixture *f, const char *log)
{
	char path[256];
	char *text = NULL;
	size_t len;

	snprintf(path, sizeof(path), "%s/%s", f->dir, log);
	if (io_read_file(AT_FDCWD, path, 1 << 20, &text, &len) == 0)
		print_message("%s:\n%s", log, text);
	free(text);
}

reg_agent_id fixture_agent(struct fixture *f, const char *name, int32_t capacity)
{
	const struct reg_agent_info info = {
		.ns = "default",
		.name = name,
		.pool = "default-pool",
		.node = "node-1",
		.address = "127.0.0.1:1",
		.host_ip = "10.0.0.7",
		.capacity = capacity,
	};
	reg_agent_id id;

	assert_reg(REG_OK, reg_agent_join(f->me, &info, &id));
	assert_reg(REG_OK, reg_agent_set_ready(f->me, id, true));
	return id;
}

struct blobs {
	size_t spec_len, labels_len;
	uint8_t spec[8192], labels[1024];
};

/* Text that JSON must escape, that looks like JSON, and that is not ASCII. */
#define ODD "q\" b\\ n\n t\t \x01\x7f /\xe2\x80\xa8 \xc3\xa4 \xf0\x9f\x90\xa7 {\"a\":[null]}"

static void fill_blobs(struct blobs *b, const char *name, int32_t *ports, size_t port_count)
{
	Fsb__V1__SandboxSpec spec = FSB__V1__SANDBOX_SPEC__INIT;
	Fsb__V1__SandboxSpec__EnvsEntry env[2] = {FSB__V1__SANDBOX_SPEC__ENVS_ENTRY__INIT,
						  FSB__V1__SANDBOX_SPEC__ENVS_ENTRY__INIT};
	Fsb__V1__SandboxSpec__EnvsEntry *envs[] = {&env[0], &env[1]};
	Fsb__V1__SandboxSpec__ResourcesEntry memory = FSB__V1__SANDBOX_SPEC__RESOURCES_ENTRY__INIT;
	Fsb__V1__SandboxSpec__ResourcesEntry *resources[] = {&memory};
	Fsb__V1__StringMap labels = FSB__V1__STRING_MAP__INIT;
	Fsb__V1__StringMap__EntriesEntry label = FSB__V1__STRING_MAP__ENTRIES_ENTRY__INIT;
	Fsb__V1__StringMap__EntriesEntry *entries[] = {&label};
	char *command[] = {(char *)(uintptr_t) "/bin/sh", (char *)(uintptr_t) "-c"};
	char *args[] = {(char *)(uintptr_t)ODD, (char *)(uintptr_t) ""};

	spec.image = (char *)(uintptr_t) "busybox";
	spec.command = command;
	spec.n_command = 2;
	spec.args = args;
	spec.n_args = 2;
	env[0].key = (char *)(uintptr_t) "Z_LAST";
	env[0].value = (char *)(uintptr_t)ODD;
	env[1].key = (char *)(uintptr_t) "A_FIRST";
	env[1].value = (char *)(uintptr_t) "";
	spec.envs = envs;
	spec.n_envs = 2;
	spec.working_dir = (char *)(uintptr_t) "/tmp/\xc3\xa4";
	spec.exposed_ports = ports;
	spec.n_exposed_ports = port_count;
	memory.key = (char *)(uintptr_t) "memory";
	memory.value = (char *)(uintptr_t) "64Mi";
	spec.resources = resources;
	spec.n_resources = 1;
	spec.network = (char *)(uintptr_t) "shared";
	b->spec_len = protobuf_c_message_pack(&spec.base, b->spec);
	label.key = (char *)(uintptr_t) "app";
	label.value = (char *)(uintptr_t)name;
	labels.entries = entries;
	labels.n_entries = 1;
	b->labels_len = protobuf_c_message_pack(&labels.base, b->labels);
}

static struct reg_request make_request(const char *name, const uint16_t *ports, size_t port_count)
{
	static struct blobs blobs;
	static char id[REG_ID_MAX + 1], request_id[REG_REQUEST_ID_MAX + 1], kept_name[254];
	int32_t wide[2];

	snprintf(kept_name, sizeof(kept_name), "%s", name);
	snprintf(id, sizeof(id), "id-%.59s", name);
	snprintf(request_id, sizeof(request_id), "request-%.100s", name);
	for (size_t i = 0; i < port_count; i++)
		wide[i] = ports[i];
	fill_blobs(&blobs, kept_name, wide, port_count);
	return (struct reg_request){
		.ns = "default",
		.name = kept_name,
		.id = id,
		.pool = "default-pool",
		.image = "docker.io/library/busybox:latest",
		.request_id = request_id,
		.request_hash = UINT64_C(0xfedcba9876543210),
		.spec = blobs.spec,
		.spec_len = (uint32_t)blobs.spec_len,
		.labels = blobs.labels,
		.labels_len = (uint32_t)blobs.labels_len,
		.ports = ports,
		.port_count = (uint32_t)port_count,
		.created_unix_ns = clock_unix_ns(),
		.expire_unix_s = INT64_C(4102444800),
		.policy = REG_AUTO_RECREATE,
		.recovery_timeout_s = 61,
	};
}

struct reg_request fixture_request(const char *name)
{
	return make_request(name, NULL, 0);
}

struct reg_request fixture_request_ports(const char *name)
{
	static const uint16_t ports[] = {8080, 22};

	return make_request(name, ports, 2);
}

reg_sandbox_id fixture_run(struct fixture *f, const struct reg_request *req)
{
	const struct reg_started started = {.started_unix_ns = clock_unix_ns()};
	struct reg_lease lease;

	assert_reg(REG_OK, reg_reserve(f->me, req, &lease));
	assert_reg(REG_OK, reg_starting(f->me, &lease));
	assert_reg(REG_OK, reg_commit(f->me, &lease, &started));
	return lease.sandbox;
}

void fixture_delete(struct fixture *f, reg_sandbox_id sandbox)
{
	assert_reg(REG_OK, reg_stop(f->me, sandbox, REG_STOP_DELETE, NULL));
	assert_reg(REG_OK, reg_stopped(f->me, sandbox, NULL));
}
