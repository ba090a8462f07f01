/* SPDX-License-Identifier: Apache-2.0 */
/* See agent_client.h. */
#include "agent_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"

static char *unconst(const char *text)
{
	union {
		const char *in;
		char *out;
	} u = {.in = text};

	return u.out;
}

struct aseen *aclient_seen(struct aclient *c, const char *id)
{
	struct aseen *s = c->seen;

	while (s && strcmp(s->id, id))
		s = s->next;
	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	base_bug(!s);
	snprintf(s->id, sizeof(s->id), "%s", id);
	s->next = c->seen;
	c->seen = s;
	return s;
}

static void seen_exit(struct aseen *s, const Fsb__Agent__V1__ExitInfo *exit)
{
	s->code = exit->code;
	s->signal = exit->signal;
	s->oom = exit->oom_killed;
	s->unknown = exit->unknown;
}

static void on_up(void *arg, const Fsb__Agent__V1__HelloReply *hello)
{
	struct aclient *c = arg;

	c->ups++;
	c->images = (int)hello->n_images;
	for (struct aseen *s = c->seen; s; s = s->next)
		s->reported = s->running = false;
	for (size_t i = 0; i < hello->n_sandboxes; i++) {
		const Fsb__Agent__V1__SandboxReport *r = hello->sandboxes[i];
		struct aseen *s = aclient_seen(c, r->meta->id);

		s->reported = true;
		s->running = r->state == FSB__AGENT__V1__REPORT_STATE__RUNNING;
		s->stopped = r->stopped;
		if (r->exit)
			seen_exit(s, r->exit);
	}
}

static void on_down(void *arg, const char *reason)
{
	struct aclient *c = arg;

	c->downs++;
}

static void on_event(void *arg, const Fsb__Agent__V1__Event *event)
{
	struct aclient *c = arg;
	struct aseen *s;

	switch (event->kind_case) {
	case FSB__AGENT__V1__EVENT__KIND_HEARTBEAT:
		c->heartbeats++;
		break;
	case FSB__AGENT__V1__EVENT__KIND_EXITED:
		s = aclient_seen(c, event->exited->id);
		s->exits++;
		seen_exit(s, event->exited->exit);
		break;
	case FSB__AGENT__V1__EVENT__KIND_REMOVED:
		aclient_seen(c, event->removed->id)->removals++;
		break;
	case FSB__AGENT__V1__EVENT__KIND_IMAGES:
		c->image_events++;
		c->images = (int)event->images->n_images;
		break;
	default:
		break;
	}
}

void aclient_open(struct aclient *c, const struct testbed *bed, const char *agent,
		  Fsb__Agent__V1__PeerRole role, const char *instance, uint64_t epoch)
{
	struct agentlink_hello hello = {
		.role = role, .instance = instance, .controller_epoch = epoch};
	struct agentlink_handlers handlers = {
		.on_up = on_up, .on_down = on_down, .on_event = on_event, .arg = c};
	static struct gloop *loop; /* one for the whole test program */
	char address[200];

	if (!loop)
		loop = gloop_new(NULL);
	*c = (struct aclient){.loop = loop};
	snprintf(address, sizeof(address), "unix:%s/agents/%s.sock", bed->run_dir, agent);
	c->link = agentlink_new(loop, address, &hello, &handlers, NULL);
	base_bug(!c->link);
	agentlink_keep_up(c->link, true);
	if (!aclient_until(c, agentlink_is_up(c->link)))
		fprintf(stderr, "agent '%s' can't be reached\n", agent);
}

void aclient_close(struct aclient *c)
{
	c->link = agentlink_free(c->link);
	while (c->seen) {
		struct aseen *s = c->seen;

		c->seen = s->next;
		free(s);
	}
}

/* ---- commands ---- */

static void on_ack(void *arg, enum agentlink_result result, const Fsb__Agent__V1__Ack *ack,
		   const char *reason)
{
	struct aresult *r = arg;

	r->done = true;
	r->result = result;
	snprintf(r->message, sizeof(r->message), "%s", ack ? ack->message : reason);
	if (!ack) {
		r->code = -1;
		return;
	}
	r->code = ack->code;
	r->start_ns = ack->start_ns;
	r->running = ack->running;
	r->has_report = ack->report != NULL;
	if (ack->report) {
		r->report_state = ack->report->state;
		r->report_generation = ack->report->meta->generation;
	}
}

static void command_async(struct aclient *c, Fsb__Agent__V1__Command *command, struct aresult *ret)
{
	*ret = (struct aresult){0};
	base_bug(agentlink_command(c->link, command, 15 * NS_PER_S, on_ack, ret));
}

static struct aresult command_wait(struct aclient *c, Fsb__Agent__V1__Command *command)
{
	struct aresult result;

	command_async(c, command, &result);
	agentlink_flush(c->link);
	while (!result.done)
		gloop_poll(c->loop, 100);
	return result;
}

static void start_async(struct aclient *c, const char *id, int64_t generation, const Spec *spec,
			struct aresult *ret)
{
	Fsb__Agent__V1__Command command = FSB__AGENT__V1__COMMAND__INIT;
	Fsb__Agent__V1__Start start = FSB__AGENT__V1__START__INIT;
	Fsb__V1__SandboxMeta meta = FSB__V1__SANDBOX_META__INIT;
	cleanup_free uint8_t *data = malloc(fsb__v1__sandbox_spec__get_packed_size(spec) + 1);

	base_bug(!data);
	meta.id = meta.name = unconst(id);
	meta.namespace_ = unconst("default");
	meta.generation = generation;
	start.meta = &meta;
	start.spec.len = fsb__v1__sandbox_spec__pack(spec, data);
	start.spec.data = data;
	command.kind_case = FSB__AGENT__V1__COMMAND__KIND_START;
	command.start = &start;
	command_async(c, &command, ret);
}

void aclient_start_async(struct aclient *c, const char *id, const Spec *spec, struct aresult *ret)
{
	start_async(c, id, 1, spec, ret);
}

struct aresult aclient_start_generation(struct aclient *c, const char *id, int64_t generation,
					const Spec *spec)
{
	struct aresult result;

	start_async(c, id, generation, spec, &result);
	agentlink_flush(c->link);
	while (!result.done)
		gloop_poll(c->loop, 100);
	return result;
}

struct aresult aclient_start(struct aclient *c, const char *id, const Spec *spec)
{
	return aclient_start_generation(c, id, 1, spec);
}

static void fill_stop(Fsb__Agent__V1__Command *command, Fsb__Agent__V1__Stop *stop, const char *id,
		      int grace_s)
{
	stop->id = unconst(id);
	stop->grace_s = grace_s;
	command->kind_case = FSB__AGENT__V1__COMMAND__KIND_STOP;
	command->stop = stop;
}

struct aresult aclient_stop(struct aclient *c, const char *id, int grace_s, bool keep_files)
{
	Fsb__Agent__V1__Command command = FSB__AGENT__V1__COMMAND__INIT;
	Fsb__Agent__V1__Stop stop = FSB__AGENT__V1__STOP__INIT;

	fill_stop(&command, &stop, id, grace_s);
	stop.keep_files = keep_files;
	return command_wait(c, &command);
}

void aclient_stop_async(struct aclient *c, const char *id, int grace_s, struct aresult *ret)
{
	Fsb__Agent__V1__Command command = FSB__AGENT__V1__COMMAND__INIT;
	Fsb__Agent__V1__Stop stop = FSB__AGENT__V1__STOP__INIT;

	fill_stop(&command, &stop, id, grace_s);
	command_async(c, &command, ret);
}

struct aresult aclient_remove(struct aclient *c, const char *id)
{
	Fsb__Agent__V1__Command command = FSB__AGENT__V1__COMMAND__INIT;
	Fsb__Agent__V1__Remove remove_id = FSB__AGENT__V1__REMOVE__INIT;

	remove_id.id = unconst(id);
	command.kind_case = FSB__AGENT__V1__COMMAND__KIND_REMOVE;
	command.remove = &remove_id;
	return command_wait(c, &command);
}

struct aresult aclient_fence(struct aclient *c, const char *id, int64_t generation)
{
	Fsb__Agent__V1__Command command = FSB__AGENT__V1__COMMAND__INIT;
	Fsb__Agent__V1__Fence fence = FSB__AGENT__V1__FENCE__INIT;

	fence.id = unconst(id);
	fence.generation = generation;
	command.kind_case = FSB__AGENT__V1__COMMAND__KIND_FENCE;
	command.fence = &fence;
	return command_wait(c, &command);
}

Spec *spec_sh(const char *script)
{
	static Spec spec;
	static char script_buf[8192];
	static char *argv[3];

	snprintf(script_buf, sizeof(script_buf), "%s", script);
	argv[0] = unconst("sh");
	argv[1] = unconst("-c");
	argv[2] = script_buf;
	fsb__v1__sandbox_spec__init(&spec);
	spec.image = unconst("busybox");
	spec.command = argv;
	spec.n_command = 3;
	return &spec;
}

/* ---- the other methods ---- */

static char log_buffer[1 << 20];
static size_t log_len;

struct call_end {
	bool done;
	int status;
	char message[512];
};

static void on_chunk(void *arg, const ProtobufCMessage *msg)
{
	const Fsb__Agent__V1__LogsChunk *chunk = (const Fsb__Agent__V1__LogsChunk *)msg;
	size_t room = sizeof(log_buffer) - 1 - log_len;
	size_t n = chunk->data.len < room ? chunk->data.len : room;

	memcpy(log_buffer + log_len, chunk->data.data, n);
	log_len += n;
	log_buffer[log_len] = '\0';
}

static void on_close(void *arg, const struct gresult *result)
{
	struct call_end *end = arg;

	end->done = true;
	end->status = result->status;
	snprintf(end->message, sizeof(end->message), "%s", result->message);
}

const char *aclient_logs(struct aclient *c, const char *id, bool follow)
{
	Fsb__Agent__V1__LogsRequest request = FSB__AGENT__V1__LOGS_REQUEST__INIT;
	struct call_end end = {0};
	struct gstream_handlers handlers = {
		.on_message = on_chunk, .on_close = on_close, .arg = &end};

	request.id = unconst(id);
	request.follow = follow;
	log_len = 0;
	log_buffer[0] = '\0';
	if (!agentlink_logs(c->link, &request, 15 * NS_PER_S, &handlers))
		return NULL;
	while (!end.done)
		gloop_poll(c->loop, 100);
	if (end.status != G_OK)
		fprintf(stderr, "logs of '%s': %s: %s\n", id, gstatus_name(end.status),
			end.message);
	return end.status == G_OK ? log_buffer : NULL;
}

static void on_loaded(void *arg, const struct gresult *result, const ProtobufCMessage *reply)
{
	on_close(arg, result);
}

int aclient_load(struct aclient *c, const char *layout, const char *ref, const char *name,
		 const char **ret_message)
{
	Fsb__Agent__V1__LoadImageRequest request = FSB__AGENT__V1__LOAD_IMAGE_REQUEST__INIT;
	static struct call_end end;

	end = (struct call_end){0};
	request.layout_path = unconst(layout);
	request.layout_ref = unconst(ref);
	request.name = unconst(name);
	if (!agentlink_load_image(c->link, &request, 60 * NS_PER_S, on_loaded, &end))
		return -1;
	while (!end.done)
		gloop_poll(c->loop, 100);
	if (ret_message)
		*ret_message = end.message;
	return end.status;
}

const char *aclient_run(struct aclient *c, const char *id, const Spec *spec, int *ret_code)
{
	struct aresult r = aclient_start(c, id, spec);
	const char *log;

	if (r.code != ACK(OK)) {
		fprintf(stderr, "start '%s': %s\n", id, r.message);
		return NULL;
	}
	log = aclient_logs(c, id, true);
	if (!aclient_until(c, aclient_seen(c, id)->exits > 0))
		return NULL;
	*ret_code = aclient_seen(c, id)->code;
	if (aclient_remove(c, id).code != ACK(OK))
		return NULL;
	return log;
}
