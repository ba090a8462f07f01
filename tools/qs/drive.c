/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of the quick start: connections, the batch, waits and logs. */
#include "drive.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "drive_int.h"

#define CALL_DEADLINE_NS (120 * NS_PER_S)

/* Printed once for every sandbox; $1 is its index. */
static char script[] = "echo \"sandbox $1 on $(hostname)\"";

void drive_fail(struct drive *d, const char *what, const char *name, int status,
		const char *message)
{
	d->failures++;
	if (d->reported++ < 10)
		(void)fprintf(stderr, "FAIL: %s %s: %s%s%s\n", what, name,
			      status ? gstatus_name(status) : "", status ? ": " : "", message);
}

int drive_open(struct drive *d, struct err *err)
{
	d->members = calloc((size_t)d->sandboxes + N_SINGLES, sizeof(*d->members));
	if (!d->members)
		return err_set(err, -ENOMEM, "out of memory");
	for (int i = 0; i < d->sandboxes + N_SINGLES; i++) {
		d->members[i].drive = d;
		d->members[i].index = i;
	}
	d->loop = gloop_new(err);
	if (!d->loop)
		return -EIO;
	for (int i = 0; i < d->connections; i++) {
		d->channels[i] = gchannel_new(d->loop, d->endpoint, err);
		if (!d->channels[i])
			return -EIO;
	}
	return 0;
}

void drive_close(struct drive *d)
{
	for (int i = 0; i < d->connections; i++) {
		if (d->channels[i])
			d->channels[i] = gchannel_free(d->channels[i]);
	}
	if (d->loop)
		d->loop = gloop_free(d->loop);
	free(d->members);
	sample_free(&d->batch_reply);
	sample_free(&d->batch_start);
	sample_free(&d->single_create);
	sample_free(&d->single_start);
	sample_free(&d->single_reserve);
}

static void tally_insert(struct tally *tally, const char *name)
{
	int i = tally->n++;

	for (; i > 0 && strverscmp(tally->names[i - 1], name) > 0; i--) {
		memcpy(tally->names[i], tally->names[i - 1], sizeof(tally->names[0]));
		tally->counts[i] = tally->counts[i - 1];
	}
	(void)snprintf(tally->names[i], sizeof(tally->names[0]), "%s", name);
	tally->counts[i] = 1;
}

/* Kept in order of names. */
static void tally_add(struct tally *tally, const char *name)
{
	for (int i = 0; i < tally->n; i++) {
		if (!strcmp(tally->names[i], name)) {
			tally->counts[i]++;
			return;
		}
	}
	if (tally->n < MAX_NAMES)
		tally_insert(tally, name);
}

void drive_note_use(struct drive *d, const Fsb__V1__Sandbox *sandbox)
{
	char worker[32];

	(void)snprintf(worker, sizeof(worker), "worker %d",
		       sandbox->timings ? sandbox->timings->worker : -1);
	tally_add(&d->workers, worker);
	tally_add(&d->agents, sandbox->agent);
}

/* ---- many calls at once ---- */

int drive_all(struct drive *d, int first, int count, int limit,
	      bool (*start)(struct member *member), struct err *err)
{
	struct parallel *p = &d->parallel;

	*p = (struct parallel){.open = 0};
	for (int next = first; next < first + count || p->open > 0;) {
		while (next < first + count && p->open < limit) {
			p->open++;
			if (!start(&d->members[next++]))
				return err_set(err, -ENOMEM, "out of memory");
		}
		(void)gloop_poll(d->loop, 1000);
	}
	return 0;
}

struct gchannel *drive_channel(const struct member *member)
{
	const struct drive *d = member->drive;

	return d->channels[member->index % d->connections];
}

/* ---- the batch: one call for each connection, at the same time ---- */

struct part {
	struct drive *drive;
	int first, count;
	bool summary;
	uint64_t sent_ns;
};

static void member_started(struct part *part, const Fsb__V1__BatchMember *m)
{
	struct drive *d = part->drive;
	struct member *member;
	uint64_t took_ns = clock_mono_ns() - part->sent_ns;

	if (m->index < 0 || m->index >= part->count) {
		drive_fail(d, "batch", "member", 0, "with an index that was not asked for");
		return;
	}
	member = &d->members[part->first + m->index];
	if (m->code != G_OK || !m->sandbox) {
		drive_fail(d, "create", member->name, m->code, m->message);
		return;
	}
	if (member->started)
		drive_fail(d, "create", member->name, 0, "was reported twice");
	member->started = true;
	d->started++;
	if (took_ns > d->batch_wall_ns)
		d->batch_wall_ns = took_ns;
	(void)snprintf(member->name, sizeof(member->name), "%s", m->sandbox->name);
	drive_note_use(d, m->sandbox);
	sample_add(&d->batch_reply, took_ns);
	if (m->sandbox->timings)
		sample_add(&d->batch_start, m->sandbox->timings->start_ns);
}

static void on_batch_message(void *arg, const ProtobufCMessage *msg)
{
	const Fsb__V1__CreateBatchResponse *reply = (const Fsb__V1__CreateBatchResponse *)msg;
	struct part *part = arg;

	for (size_t i = 0; i < reply->n_members; i++)
		member_started(part, reply->members[i]);
	part->summary |= reply->summary != NULL;
}

static void on_batch_close(void *arg, const struct gresult *result)
{
	struct part *part = arg;

	part->drive->parallel.open--;
	if (result->status != G_OK || !part->summary)
		drive_fail(part->drive, "batch", part->drive->members[part->first].name,
			   result->status, result->status ? result->message : "no summary");
}

/* Memory for one part's overrides: each member gets its index as its only argument. */
struct scratch {
	Fsb__V1__MemberOverride *overrides;
	Fsb__V1__MemberOverride **pointers;
	char *(*args)[1];
	char (*texts)[12];
};

static void scratch_free(struct scratch *s)
{
	free(s->overrides);
	free(s->pointers);
	free(s->args);
	free(s->texts);
}

static int scratch_alloc(struct scratch *s, size_t n, struct err *err)
{
	s->overrides = calloc(n, sizeof(*s->overrides));
	s->pointers = calloc(n, sizeof(struct scratch *));
	s->args = calloc(n, sizeof(*s->args));
	s->texts = calloc(n, sizeof(*s->texts));
	if (s->overrides && s->pointers && s->args && s->texts)
		return 0;
	scratch_free(s);
	return err_set(err, -ENOMEM, "out of memory");
}

static void fill_overrides(const struct part *part, struct scratch *s)
{
	for (int i = 0; i < part->count; i++) {
		(void)snprintf(s->texts[i], sizeof(s->texts[i]), "%d", part->first + i);
		s->args[i][0] = s->texts[i];
		fsb__v1__member_override__init(&s->overrides[i]);
		s->overrides[i].index = i;
		s->overrides[i].args = s->args[i];
		s->overrides[i].n_args = 1;
		s->pointers[i] = &s->overrides[i];
	}
}

/* Encodes and sends; what the request points at is needed only until gclient_server_stream returns.
 */
static int send_part(struct part *part, int number, struct scratch *s, struct err *err)
{
	static char sh[] = "sh", dash_c[] = "-c", space[] = "default";
	char *command[] = {sh, dash_c, script, sh};
	char name[32], image[256];
	struct drive *d = part->drive;
	Fsb__V1__CreateBatchRequest request = FSB__V1__CREATE_BATCH_REQUEST__INIT;
	Fsb__V1__SandboxSpec spec = FSB__V1__SANDBOX_SPEC__INIT;
	Fsb__V1__SandboxOptions options = FSB__V1__SANDBOX_OPTIONS__INIT;
	const struct gstream_handlers handlers = {
		.on_message = on_batch_message, .on_close = on_batch_close, .arg = part};

	(void)snprintf(name, sizeof(name), "qs-%d", number);
	(void)snprintf(image, sizeof(image), "%s", d->image);
	spec.image = image;
	spec.command = command;
	spec.n_command = 4;
	options.namespace_ = space;
	fill_overrides(part, s);
	request.name = name;
	request.count = part->count;
	request.mode = FSB__V1__BATCH_MODE__PARTIAL;
	request.spec = &spec;
	request.options = &options;
	request.overrides = s->pointers;
	request.n_overrides = (size_t)part->count;
	part->sent_ns = clock_mono_ns();
	d->parallel.open++;
	if (!gclient_server_stream(d->channels[number], FSB_V1 "CreateBatch", &request.base,
				   &fsb__v1__create_batch_response__descriptor, CALL_DEADLINE_NS,
				   &handlers))
		return err_set(err, -ENOMEM, "out of memory");
	return 0;
}

static void name_members(const struct part *part, int number)
{
	for (int i = 0; i < part->count; i++) {
		struct member *member = &part->drive->members[part->first + i];

		(void)snprintf(member->name, sizeof(member->name), "qs-%d-%d", number, i);
	}
}

static int send_batch(struct drive *d, struct part *parts, struct err *err)
{
	struct scratch scratch;
	int first = 0;
	int rc = scratch_alloc(&scratch, (size_t)(d->sandboxes / d->connections) + 1, err);

	if (rc)
		return rc;
	for (int i = 0; !rc && i < d->connections; i++) {
		int count = d->sandboxes / d->connections + (i < d->sandboxes % d->connections);

		parts[i] = (struct part){.drive = d, .first = first, .count = count};
		first += count;
		name_members(&parts[i], i);
		if (count)
			rc = send_part(&parts[i], i, &scratch, err);
	}
	scratch_free(&scratch);
	return rc;
}

int drive_batch(struct drive *d, struct err *err)
{
	static struct part parts[MAX_CONNECTIONS]; /* callbacks may come after an early return */
	int rc;

	d->parallel = (struct parallel){.open = 0};
	rc = send_batch(d, parts, err);
	while (!rc && d->parallel.open > 0)
		(void)gloop_poll(d->loop, 1000);
	if (!rc && !d->started)
		return err_set(err, -EIO, "no sandbox of the batch has started");
	return rc;
}

/* ---- waiting ---- */

static void on_waited(void *arg, const struct gresult *result, const ProtobufCMessage *reply)
{
	const Fsb__V1__Sandbox *sandbox = (const Fsb__V1__Sandbox *)reply;
	struct member *member = arg;
	struct drive *d = member->drive;
	char what[160];

	d->parallel.open--;
	if (result->status != G_OK) {
		drive_fail(d, "wait", member->name, result->status, result->message);
	} else if (strcmp(sandbox->phase, "Succeeded") || sandbox->exit_code) {
		(void)snprintf(what, sizeof(what), "%s, exit code %d, signal %d: %.100s",
			       sandbox->phase, sandbox->exit_code, sandbox->signal,
			       sandbox->message);
		drive_fail(d, "exit", member->name, 0, what);
	} else {
		member->succeeded = true;
		d->succeeded += member->index < d->sandboxes;
	}
}

static bool start_wait(struct member *member)
{
	static char space[] = "default";
	Fsb__V1__WaitSandboxRequest request = FSB__V1__WAIT_SANDBOX_REQUEST__INIT;

	if (!member->started) {
		member->drive->parallel.open--;
		return true;
	}
	request.name = member->name;
	request.namespace_ = space;
	request.timeout_ms = 60000;
	return gclient_unary(drive_channel(member), FSB_V1 "Wait", &request.base,
			     &fsb__v1__sandbox__descriptor, CALL_DEADLINE_NS, on_waited, member);
}

int drive_wait(struct drive *d, int first, int count, struct err *err)
{
	return drive_all(d, first, count, 256, start_wait, err);
}

/* ---- logs ---- */

static void on_log(void *arg, const ProtobufCMessage *msg)
{
	const Fsb__V1__SandboxLogsChunk *chunk = (const Fsb__V1__SandboxLogsChunk *)msg;
	struct member *member = arg;
	size_t room = sizeof(member->log) - 1 - member->log_len;
	size_t len = chunk->data.len < room ? chunk->data.len : room;

	memcpy(member->log + member->log_len, chunk->data.data, len);
	member->log_len += len;
}

static void on_log_end(void *arg, const struct gresult *result)
{
	struct member *member = arg;
	char want[256], what[640];

	member->drive->parallel.open--;
	(void)snprintf(want, sizeof(want), "sandbox %d on %.63s\n", member->index, member->name);
	if (result->status != G_OK) {
		drive_fail(member->drive, "logs", member->name, result->status, result->message);
	} else if (strcmp(member->log, want)) {
		(void)snprintf(what, sizeof(what), "'%s' instead of '%s'", member->log, want);
		drive_fail(member->drive, "logs", member->name, 0, what);
	} else {
		member->log_right = true;
	}
}

static bool start_logs(struct member *member)
{
	static char space[] = "default";
	Fsb__V1__SandboxLogsRequest request = FSB__V1__SANDBOX_LOGS_REQUEST__INIT;
	const struct gstream_handlers handlers = {
		.on_message = on_log, .on_close = on_log_end, .arg = member};

	if (!member->started) {
		member->drive->parallel.open--;
		return true;
	}
	request.name = member->name;
	request.namespace_ = space;
	return gclient_server_stream(drive_channel(member), FSB_V1 "Logs", &request.base,
				     &fsb__v1__sandbox_logs_chunk__descriptor, CALL_DEADLINE_NS,
				     &handlers);
}

int drive_logs(struct drive *d, struct err *err)
{
	return drive_all(d, 0, d->sandboxes, 32, start_logs, err);
}
