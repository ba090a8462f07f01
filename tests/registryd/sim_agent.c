/* SPDX-License-Identifier: Apache-2.0 */
/* See sim_agent.h. */
#include "sim_agent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/gserver.h"
#include "base/io.h"
#include "spec.pb-c.h"

/* One report with what it points to. */
struct report {
	Fsb__Agent__V1__SandboxReport msg;
	Fsb__V1__SandboxMeta meta;
	Fsb__Agent__V1__ExitInfo exit;
	uint8_t spec[64];
};

static void fill_report(struct report *r, const struct sim_sandbox *s)
{
	Fsb__V1__SandboxSpec spec = FSB__V1__SANDBOX_SPEC__INIT;

	fsb__agent__v1__sandbox_report__init(&r->msg);
	fsb__v1__sandbox_meta__init(&r->meta);
	fsb__agent__v1__exit_info__init(&r->exit);
	spec.image = (char *)(uintptr_t) "busybox";
	r->msg.meta = &r->meta;
	r->msg.spec.data = r->spec;
	r->msg.spec.len = fsb__v1__sandbox_spec__pack(&spec, r->spec);
	r->msg.state = s->state;
	r->msg.started_unix_ns = s->created_unix_ns + 1000;
	r->meta.id = (char *)(uintptr_t)s->id;
	r->meta.namespace_ = (char *)(uintptr_t) "default";
	r->meta.name = (char *)(uintptr_t)s->name;
	r->meta.pool = (char *)(uintptr_t) "default-pool";
	r->meta.created_unix_ns = s->created_unix_ns;
	r->meta.generation = s->generation;
	if (s->state == FSB__AGENT__V1__REPORT_STATE__EXITED) {
		r->exit.code = s->exit_code;
		r->exit.finished_unix_ns = clock_unix_ns();
		r->msg.exit = &r->exit;
	}
}

static void send_hello(struct sim_agent *a)
{
	static struct report reports[SIM_SANDBOXES_MAX];
	Fsb__Agent__V1__SandboxReport *list[SIM_SANDBOXES_MAX];
	Fsb__Agent__V1__LinkResponse msg = FSB__AGENT__V1__LINK_RESPONSE__INIT;
	Fsb__Agent__V1__HelloReply hello = FSB__AGENT__V1__HELLO_REPLY__INIT;
	char *images[] = {(char *)(uintptr_t) "docker.io/library/busybox:latest"};

	hello.agent_name = (char *)(uintptr_t)a->name;
	hello.namespace_ = (char *)(uintptr_t) "default";
	hello.pool = (char *)(uintptr_t) "default-pool";
	hello.node = (char *)(uintptr_t) "node-1";
	hello.host_ip = (char *)(uintptr_t) "127.0.0.1";
	hello.capacity = a->capacity;
	hello.images = images;
	hello.n_images = 1;
	hello.sandboxes = list;
	for (int i = 0; i < SIM_SANDBOXES_MAX; i++) {
		if (!a->sandboxes[i].in_use)
			continue;
		fill_report(&reports[i], &a->sandboxes[i]);
		list[hello.n_sandboxes++] = &reports[i].msg;
	}
	msg.hello = &hello;
	a->hellos++;
	gcall_send(a->stream, &msg.base);
}

static struct sim_sandbox *find(struct sim_agent *a, const char *id)
{
	for (int i = 0; i < SIM_SANDBOXES_MAX; i++) {
		if (a->sandboxes[i].in_use && strcmp(a->sandboxes[i].id, id) == 0)
			return &a->sandboxes[i];
	}
	return NULL;
}

static void note(struct sim_agent *a, const char *what, const char *id)
{
	if (a->command_count < SIM_COMMANDS_MAX)
		snprintf(a->commands[a->command_count++], sizeof(a->commands[0]), "%s %s", what,
			 id);
}

static void answer(struct sim_agent *a, const Fsb__Agent__V1__Command *command)
{
	Fsb__Agent__V1__LinkResponse msg = FSB__AGENT__V1__LINK_RESPONSE__INIT;
	Fsb__Agent__V1__Ack ack = FSB__AGENT__V1__ACK__INIT, *acks[] = {&ack};
	struct report report;
	struct sim_sandbox *s;

	ack.seq = command->seq;
	if (command->kind_case == FSB__AGENT__V1__COMMAND__KIND_STOP) {
		note(a, command->stop->keep_files ? "stop-keep" : "stop", command->stop->id);
		s = find(a, command->stop->id);
		if (s && !a->deaf)
			s->in_use = false;
	} else if (command->kind_case == FSB__AGENT__V1__COMMAND__KIND_FENCE) {
		note(a, "fence", command->fence->id);
		s = find(a, command->fence->id);
		ack.running = s && s->state == FSB__AGENT__V1__REPORT_STATE__RUNNING;
		if (s) {
			fill_report(&report, s);
			ack.report = &report.msg;
		}
	}
	msg.acks = acks;
	msg.n_acks = 1;
	if (!a->deaf)
		gcall_send(a->stream, &msg.base);
}

static void on_cancel(struct gcall *call)
{
	struct sim_agent *a = gserver_ctx(gcall_server(call));

	if (a->stream == call)
		a->stream = NULL;
	gcall_fail(call, G_CANCELLED, "gone");
}

static void on_open(struct gcall *call, const ProtobufCMessage *msg)
{
	gcall_set_user(call, NULL, on_cancel);
}

static void on_message(struct gcall *call, const ProtobufCMessage *raw)
{
	const Fsb__Agent__V1__LinkRequest *msg = (const Fsb__Agent__V1__LinkRequest *)raw;
	struct sim_agent *a = gserver_ctx(gcall_server(call));

	if (msg->hello) {
		a->stream = call;
		a->epoch = msg->hello->controller_epoch;
		send_hello(a);
	}
	for (size_t i = 0; i < msg->n_commands; i++)
		answer(a, msg->commands[i]);
}

static void on_half_close(struct gcall *call)
{
	struct sim_agent *a = gserver_ctx(gcall_server(call));

	if (a->stream == call)
		a->stream = NULL;
	gcall_finish(call, G_OK, "%s", "");
}

struct sim_agent *sim_agent_new(struct gloop *loop, const char *run_dir, const char *name,
				int32_t capacity)
{
	static const struct gmethod methods[] = {
		{.path = "/fsb.agent.v1.AgentService/Link",
		 .kind = GMETHOD_BIDI,
		 .request = &fsb__agent__v1__link_request__descriptor,
		 .handler = on_open,
		 .on_message = on_message,
		 .on_half_close = on_half_close},
		{0},
	};
	struct sim_agent *a = calloc(1, sizeof(*a));
	const struct gserver_options opts = {.methods = methods, .ctx = a};
	struct err err = ERR_INIT;
	char dir[96];

	assert_non_null(a);
	snprintf(dir, sizeof(dir), "%s/agents", run_dir);
	assert_int_equal(io_mkdirs(dir, 0750), 0);
	snprintf(a->address, sizeof(a->address), "unix:%s/%s.sock", dir, name);
	a->loop = loop;
	a->name = name;
	a->capacity = capacity;
	a->server = gserver_new(loop, &opts, &err);
	if (!a->server || gserver_listen(a->server, a->address, 0660, NULL, &err) < 0 ||
	    gserver_start(a->server, &err) < 0)
		fail_msg("%s", err.msg);
	return a;
}

struct sim_agent *sim_agent_free(struct sim_agent *agent)
{
	if (!agent)
		return NULL;
	gserver_free(agent->server);
	unlink(agent->address + 5);
	free(agent);
	return NULL;
}

struct sim_sandbox *sim_agent_runs(struct sim_agent *agent, const char *id, const char *name,
				   int64_t created_unix_ns)
{
	for (int i = 0; i < SIM_SANDBOXES_MAX; i++) {
		struct sim_sandbox *s = &agent->sandboxes[i];

		if (s->in_use)
			continue;
		*s = (struct sim_sandbox){.in_use = true,
					  .created_unix_ns = created_unix_ns,
					  .state = FSB__AGENT__V1__REPORT_STATE__RUNNING};
		snprintf(s->id, sizeof(s->id), "%s", id);
		snprintf(s->name, sizeof(s->name), "%s", name);
		return s;
	}
	fail_msg("too many simulated sandboxes");
	return NULL;
}

static void send_event(struct sim_agent *a, Fsb__Agent__V1__Event *event)
{
	Fsb__Agent__V1__LinkResponse msg = FSB__AGENT__V1__LINK_RESPONSE__INIT;

	msg.events = &event;
	msg.n_events = 1;
	if (a->stream)
		gcall_send(a->stream, &msg.base);
}

void sim_agent_heartbeat(struct sim_agent *agent)
{
	Fsb__Agent__V1__Event event = FSB__AGENT__V1__EVENT__INIT;
	Fsb__Agent__V1__Heartbeat beat = FSB__AGENT__V1__HEARTBEAT__INIT;

	event.kind_case = FSB__AGENT__V1__EVENT__KIND_HEARTBEAT;
	event.heartbeat = &beat;
	send_event(agent, &event);
}

void sim_agent_exited(struct sim_agent *agent, struct sim_sandbox *sandbox, int32_t code)
{
	Fsb__Agent__V1__Event event = FSB__AGENT__V1__EVENT__INIT;
	Fsb__Agent__V1__SandboxExited exited = FSB__AGENT__V1__SANDBOX_EXITED__INIT;
	Fsb__Agent__V1__ExitInfo exit = FSB__AGENT__V1__EXIT_INFO__INIT;

	sandbox->state = FSB__AGENT__V1__REPORT_STATE__EXITED;
	sandbox->exit_code = code;
	exit.code = code;
	exit.finished_unix_ns = clock_unix_ns();
	exited.namespace_ = (char *)(uintptr_t) "default";
	exited.name = sandbox->name;
	exited.id = sandbox->id;
	exited.generation = sandbox->generation;
	exited.exit = &exit;
	event.kind_case = FSB__AGENT__V1__EVENT__KIND_EXITED;
	event.exited = &exited;
	send_event(agent, &event);
}

void sim_agent_removed(struct sim_agent *agent, const struct sim_sandbox *sandbox)
{
	Fsb__Agent__V1__Event event = FSB__AGENT__V1__EVENT__INIT;
	Fsb__Agent__V1__SandboxRemoved removed = FSB__AGENT__V1__SANDBOX_REMOVED__INIT;

	removed.namespace_ = (char *)(uintptr_t) "default";
	removed.name = (char *)(uintptr_t)sandbox->name;
	removed.id = (char *)(uintptr_t)sandbox->id;
	removed.generation = sandbox->generation;
	event.kind_case = FSB__AGENT__V1__EVENT__KIND_REMOVED;
	event.removed = &removed;
	send_event(agent, &event);
}

bool sim_agent_was_told(const struct sim_agent *agent, const char *command)
{
	for (int i = 0; i < agent->command_count; i++) {
		if (strcmp(agent->commands[i], command) == 0)
			return true;
	}
	return false;
}
