/* SPDX-License-Identifier: Apache-2.0 */
/* See stack.h. */
#include "stack.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/io.h"

struct stack s;

/* ---- the agent ---- */

static char *running_find(const char *id)
{
	for (int i = 0; i < STACK_RUNNING_MAX; i++) {
		if (!strcmp(s.running[i], id))
			return s.running[i];
	}
	return NULL;
}

static void running_add(const char *id)
{
	char *at = running_find("");

	assert_non_null(at);
	snprintf(at, REG_ID_MAX + 1, "%s", id);
}

static void link_drop(struct gcall *call)
{
	for (int i = 0; i < STACK_LINKS_MAX; i++) {
		if (s.links[i] == call)
			s.links[i] = NULL;
	}
	gcall_finish(call, G_UNAVAILABLE, "%s", "dropped by the test");
}

static void note_start(const Fsb__Agent__V1__Start *start)
{
	struct reg_sandbox_view view;
	struct pb_arena *arena;
	ProtobufCMessage *msg;
	const Fsb__V1__SandboxSpec *spec;

	s.starts++;
	assert_int_equal(pb_unpack(&fsb__v1__sandbox_spec__descriptor, start->spec.data,
				   start->spec.len, NULL, &arena, &msg, NULL),
			 0);
	spec = (const Fsb__V1__SandboxSpec *)msg;
	snprintf(s.last_image, sizeof(s.last_image), "%s", spec->image);
	snprintf(s.last_arg, sizeof(s.last_arg), "%s", spec->n_args ? spec->args[0] : "");
	snprintf(s.last_label, sizeof(s.last_label), "%s",
		 start->meta->n_labels ? start->meta->labels[0]->value : "");
	snprintf(s.last_request_id, sizeof(s.last_request_id), "%s", start->meta->request_id);
	pb_free(arena);
	assert_int_equal(reg_get(s.me, start->meta->namespace_, start->meta->name, &view), REG_OK);
	assert_string_equal(view.id, start->meta->id);
	assert_int_equal(view.state, REG_STARTING);
	s.start_stored = view.stored_revision;
}

/* false: no acknowledgement. */
static bool on_start(struct gcall *call, const Fsb__Agent__V1__Start *start,
		     Fsb__Agent__V1__Ack *ack)
{
	static char why[] = "refused by the test";

	note_start(start);
	switch (s.mode) {
	case START_ACK:
		running_add(start->meta->id);
		ack->start_ns = 1000000;
		ack->started_unix_ns = clock_unix_ns();
		return true;
	case START_REFUSE:
		ack->code = (Fsb__Agent__V1__AckCode)s.refuse_code;
		ack->message = why;
		return true;
	case START_HOLD:
		return false;
	case START_LATE:
		assert_true(s.n_late < STACK_RUNNING_MAX);
		s.late[s.n_late].call = call;
		s.late[s.n_late].seq = ack->seq;
		snprintf(s.late[s.n_late].id, REG_ID_MAX + 1, "%s", start->meta->id);
		s.n_late++;
		return false;
	case START_DROP_RUNS:
		running_add(start->meta->id);
		link_drop(call);
		return false;
	case START_DROP:
		link_drop(call);
		return false;
	}
	return false;
}

static bool on_command(struct gcall *call, const Fsb__Agent__V1__Command *command,
		       Fsb__Agent__V1__Ack *ack)
{
	char *at;

	ack->seq = command->seq;
	switch (command->kind_case) {
	case FSB__AGENT__V1__COMMAND__KIND_START:
		return on_start(call, command->start, ack);
	case FSB__AGENT__V1__COMMAND__KIND_STOP:
		s.stops++;
		at = running_find(command->stop->id);
		if (at)
			*at = '\0';
		return true;
	case FSB__AGENT__V1__COMMAND__KIND_REMOVE:
		s.removes++;
		at = running_find(command->remove->id);
		if (at)
			*at = '\0';
		return true;
	case FSB__AGENT__V1__COMMAND__KIND_FENCE:
		s.fences++;
		ack->running = running_find(command->fence->id) != NULL;
		return true;
	case FSB__AGENT__V1__COMMAND__KIND_SET_META:
		s.metas++;
		return true;
	default:
		return true;
	}
}

static bool link_is_open(const struct gcall *call)
{
	for (int i = 0; i < STACK_LINKS_MAX; i++) {
		if (s.links[i] == call)
			return true;
	}
	return false;
}

void stack_release(void)
{
	for (int i = 0; i < s.n_late; i++) {
		Fsb__Agent__V1__LinkResponse reply = FSB__AGENT__V1__LINK_RESPONSE__INIT;
		Fsb__Agent__V1__Ack ack = FSB__AGENT__V1__ACK__INIT, *acks[] = {&ack};

		if (!link_is_open(s.late[i].call))
			continue;
		running_add(s.late[i].id);
		ack.seq = s.late[i].seq;
		ack.start_ns = 1000000;
		ack.started_unix_ns = clock_unix_ns();
		reply.n_acks = 1;
		reply.acks = acks;
		assert_int_equal(gcall_send(s.late[i].call, &reply.base), 0);
	}
	s.n_late = 0;
}

static void link_gone(struct gcall *call)
{
	link_drop(call);
}

static void link_message(struct gcall *call, const ProtobufCMessage *msg)
{
	const Fsb__Agent__V1__LinkRequest *request = (const Fsb__Agent__V1__LinkRequest *)msg;
	Fsb__Agent__V1__LinkResponse reply = FSB__AGENT__V1__LINK_RESPONSE__INIT;
	Fsb__Agent__V1__HelloReply hello = FSB__AGENT__V1__HELLO_REPLY__INIT;
	static Fsb__Agent__V1__Ack acks[1024], *at[1024];

	if (request->hello) {
		assert_string_equal(request->hello->instance, reg_instance(s.reg));
		reply.hello = &hello;
	}
	assert_true(request->n_commands <= 1024);
	for (size_t i = 0; i < request->n_commands; i++) {
		Fsb__Agent__V1__Ack *ack = &acks[reply.n_acks];

		fsb__agent__v1__ack__init(ack);
		if (on_command(call, request->commands[i], ack))
			at[reply.n_acks++] = ack;
		if (!link_is_open(call))
			return;
	}
	reply.acks = at;
	if (reply.hello || reply.n_acks)
		assert_int_equal(gcall_send(call, &reply.base), 0);
}

static void link_open(struct gcall *call, const ProtobufCMessage *msg)
{
	gcall_set_user(call, &s, link_gone);
	for (int i = 0; i < STACK_LINKS_MAX; i++) {
		if (!s.links[i]) {
			s.links[i] = call;
			return;
		}
	}
	fail_msg("more than %d links", STACK_LINKS_MAX);
}

static void logs(struct gcall *call, const ProtobufCMessage *msg)
{
	Fsb__Agent__V1__LogsChunk chunk = FSB__AGENT__V1__LOGS_CHUNK__INIT;
	size_t len = strlen(s.log_text);
	uint8_t *data = malloc(len);

	assert_non_null(data);
	memcpy(data, s.log_text, len);
	chunk.data.data = data;
	chunk.data.len = len;
	for (int i = 0; i < s.log_repeat; i++)
		(void)gcall_send(call, &chunk.base);
	free(data);
	gcall_finish(call, G_OK, "%s", "");
}

static void load_image(struct gcall *call, const ProtobufCMessage *msg)
{
	const Fsb__Agent__V1__LoadImageRequest *request =
		(const Fsb__Agent__V1__LoadImageRequest *)msg;
	Fsb__Agent__V1__LoadImageResponse reply = FSB__AGENT__V1__LOAD_IMAGE_RESPONSE__INIT;

	reply.image = request->name;
	reply.bytes = 42;
	gcall_reply(call, &reply.base);
}

static const struct gmethod agent_methods[] = {
	{.path = "/fsb.agent.v1.AgentService/Link",
	 .kind = GMETHOD_BIDI,
	 .request = &fsb__agent__v1__link_request__descriptor,
	 .handler = link_open,
	 .on_message = link_message,
	 .on_half_close = link_drop},
	{.path = "/fsb.agent.v1.AgentService/Logs",
	 .kind = GMETHOD_SERVER_STREAM,
	 .request = &fsb__agent__v1__logs_request__descriptor,
	 .handler = logs},
	{.path = "/fsb.agent.v1.AgentService/LoadImage",
	 .kind = GMETHOD_UNARY,
	 .request = &fsb__agent__v1__load_image_request__descriptor,
	 .handler = load_image},
	{.path = NULL},
};

/* ---- the store ---- */

static void on_tick(void *arg)
{
	reg_sandbox_id ids[64];
	struct reg_sandbox_view view;
	uint32_t n;

	gloop_timer_set(s.tick, 2 * NS_PER_MS);
	if (!s.store || !s.store_writes)
		return;
	n = reg_dirty_take(s.store, ids, 64);
	for (uint32_t i = 0; i < n; i++) {
		if (reg_store_begin(s.store, ids[i], &view) != REG_OK)
			continue;
		if (view.state == REG_GONE)
			(void)reg_store_forgotten(s.store, ids[i]);
		else
			(void)reg_stored(s.store, ids[i], view.revision, 1000);
	}
}

/* ---- up ---- */

static void arena_up(int32_t capacity, bool loaded)
{
	static const char *const images[] = {"docker.io/library/busybox:latest"};
	const struct reg_limits limits = {.agents = 16, .sandboxes = 4096};
	const struct reg_agent_info agent = {
		.ns = "default",
		.name = "agent-0",
		.pool = "default-pool",
		.node = "node",
		.address = s.agent_address,
		.host_ip = "127.0.0.1",
		.shared_network = true,
		.capacity = capacity,
	};

	assert_int_equal(reg_create(s.arena, &limits, &s.reg), REG_OK);
	assert_int_equal(reg_join(s.reg, REG_KIND_REGISTRYD, &s.me), REG_OK);
	assert_int_equal(reg_join(s.reg, REG_KIND_CRDSYNC, &s.store), REG_OK);
	s.store_writes = true;
	if (loaded)
		reg_store_loaded_set(s.reg);
	assert_int_equal(reg_agent_join(s.me, &agent, &s.agent_id), REG_OK);
	assert_int_equal(reg_agent_set_images(s.me, s.agent_id, images, 1), REG_OK);
	assert_int_equal(reg_agent_set_ready(s.me, s.agent_id, true), REG_OK);
}

static void agent_up(void)
{
	const struct gserver_options opts = {.methods = agent_methods};

	s.agent = gserver_new(s.loop, &opts, &s.err);
	assert_non_null(s.agent);
	assert_int_equal(gserver_listen(s.agent, s.agent_address, 0600, NULL, &s.err), 0);
	assert_int_equal(gserver_start(s.agent, &s.err), 0);
}

static void fastpath_up(const char *const *args)
{
	extern char **environ;
	char *argv[24] = {NULL};
	const char *fixed[] = {FSB_FASTPATH,  "--run-dir",	 s.dir,
			       "--arena",     s.arena,		 "--listen",
			       "127.0.0.1:0", "--drain-timeout", "5"};
	size_t n = 0;

	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
		argv[n++] = strdup(fixed[i]);
	for (; args && *args; args++)
		argv[n++] = strdup(*args);
	assert_int_equal(posix_spawn(&s.pid, argv[0], NULL, NULL, argv, environ), 0);
	for (size_t i = 0; i < n; i++)
		free(argv[i]);
}

struct gchannel *stack_channel(void)
{
	struct gchannel *channel = gchannel_new(s.loop, s.client_address, &s.err);

	assert_non_null(channel);
	return channel;
}

static void wait_serving(void)
{
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	uint64_t until = clock_mono_ns() + 20 * NS_PER_S;

	while (clock_mono_ns() < until) {
		if (stack_call("/grpc.health.v1.Health/Check", &request,
			       &grpc__health__v1__health_check_response__descriptor) == G_OK)
			return;
		stack_serve(20);
	}
	fail_msg("fsb-fastpath does not serve: %s", s.err.msg);
}

static void bring_up(int32_t capacity, const char *const *args, bool loaded)
{
	memset(&s, 0, sizeof(s));
	s.log_text = "";
	strcpy(s.dir, "/tmp/fsb-fastpath-XXXXXX");
	assert_non_null(mkdtemp(s.dir));
	snprintf(s.arena, sizeof(s.arena), "/dev/shm/fsb-test-%d", getpid());
	snprintf(s.agent_address, sizeof(s.agent_address), "unix:%s/agent.sock", s.dir);
	snprintf(s.client_address, sizeof(s.client_address), "unix:%s/fastpath.sock", s.dir);
	arena_up(capacity, loaded);
	s.loop = gloop_new(&s.err);
	assert_non_null(s.loop);
	s.tick = gloop_timer_new(s.loop, on_tick, NULL);
	gloop_timer_set(s.tick, NS_PER_MS);
	agent_up();
	fastpath_up(args);
	s.channel = stack_channel();
	wait_serving();
}

void stack_up(int32_t capacity, const char *const *args)
{
	bring_up(capacity, args, true);
}

void stack_up_unloaded(void)
{
	bring_up(8, NULL, false);
}

void stack_restart(const char *const *args)
{
	fastpath_up(args);
	wait_serving();
}

/* ---- down ---- */

static void on_stopped(void *arg)
{
	*(int *)arg = 1;
}

static void master_down(void)
{
	uint64_t until = clock_mono_ns() + 20 * NS_PER_S;
	int status = 0;
	pid_t got = 0;

	assert_int_equal(kill(s.pid, SIGTERM), 0);
	while (!got && clock_mono_ns() < until) {
		got = waitpid(s.pid, &status, WNOHANG);
		stack_serve(10);
	}
	assert_int_equal(got, s.pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

void stack_arena_leave(void)
{
	s.store = reg_leave(s.store);
	s.me = reg_leave(s.me);
	s.reg = reg_detach(s.reg);
}

void stack_down(void)
{
	struct reg_reap_result reaped;
	struct reg_books books;
	int stopped = 0;

	s.channel = gchannel_free(s.channel);
	master_down();
	gserver_shutdown(s.agent, 0, on_stopped, &stopped);
	stack_until(&stopped, 1);
	s.agent = gserver_free(s.agent);
	s.tick = gloop_timer_free(s.tick);
	s.loop = gloop_free(s.loop);
	assert_int_equal(reg_reap(s.me, NULL, NULL, &reaped), REG_OK);
	reg_books(s.me, &books);
	assert_int_equal(books.contradictions, 0);
	s.reply_arena = pb_free(s.reply_arena);
	stack_arena_leave();
	unlink(s.arena);
	assert_int_equal(io_remove_tree(AT_FDCWD, s.dir), 0);
}

/* ---- calls ---- */

int stack_call(const char *path, const void *request, const ProtobufCMessageDescriptor *reply)
{
	ProtobufCMessage *msg = NULL;

	s.reply_arena = pb_free(s.reply_arena);
	s.reply = NULL;
	s.err = (struct err)ERR_INIT;
	if (gclient_unary_wait(s.channel, path, request, reply, 20 * NS_PER_S, &s.status,
			       &s.reply_arena, &msg, &s.err))
		return s.status;
	s.reply = msg;
	return G_OK;
}

void stack_until(const int *counter, int want)
{
	uint64_t until = clock_mono_ns() + 10 * NS_PER_S;

	while (*counter < want && clock_mono_ns() < until)
		(void)gloop_poll(s.loop, 20);
	assert_true(*counter >= want);
}

void stack_serve(unsigned int ms)
{
	uint64_t until = clock_mono_ns() + ms * NS_PER_MS;

	do {
		(void)gloop_poll(s.loop, 2);
	} while (clock_mono_ns() < until);
}
