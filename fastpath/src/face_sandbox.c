/* SPDX-License-Identifier: Apache-2.0 */
/* fsb.v1.SandboxService: the unary methods, Wait, batches and logs. */
#include <stdlib.h>
#include <string.h>

#include "face.h"

static Fsb__V1__SandboxSpec no_spec = FSB__V1__SANDBOX_SPEC__INIT;
static const Fsb__V1__SandboxOptions no_options = FSB__V1__SANDBOX_OPTIONS__INIT;

static void common_args(struct gcall *call, const char *name, const Fsb__V1__SandboxSpec *spec,
			const Fsb__V1__SandboxOptions *options, struct fp_create_args *args)
{
	if (!options)
		options = &no_options;
	*args = (struct fp_create_args){
		.ns = options->namespace_,
		.pool = options->pool,
		.name = name,
		.request_id = options->request_id,
		.spec = spec ? spec : &no_spec,
		.labels = FP_MAP(options, labels),
		.consistency = (int)options->consistency, /* the same numbers */
		.consistency_given = (int)options->consistency,
		.wait_for = (int)options->wait_for,
		.expire_unix_s = options->expire_time_seconds,
		.policy = options->failure_policy,
		.recovery_timeout_s = options->recovery_timeout_seconds,
		.deadline_ns = gcall_deadline_ns(call),
	};
}

_Static_assert((int)FSB__V1__CONSISTENCY__CONSISTENCY_DEFAULT == FP_CONSISTENCY_DEFAULT &&
		       (int)FSB__V1__CONSISTENCY__CONSISTENCY_FAST == FP_CONSISTENCY_FAST &&
		       (int)FSB__V1__CONSISTENCY__CONSISTENCY_STRONG == FP_CONSISTENCY_STRONG,
	       "the wire's numbers are used as they are");

static void reply_view(struct gcall *call, const struct reg_sandbox_view *view,
		       const struct fp_timings *timings)
{
	struct fp_service *svc = fp_face_service(call);
	Fsb__V1__Sandbox *msg;
	struct fp_pool pool;

	fp_pool_init(&pool);
	msg = fp_face_sandbox(svc, &pool, view);
	if (msg && timings)
		msg->timings = fp_face_timings(&pool, timings);
	fp_face_reply(call, &pool, msg ? &msg->base : NULL);
}

/* ---- CreateSandbox ---- */

static void create_done(void *arg, const struct fp_created *created)
{
	struct gcall *call = arg;

	if (created->status == G_OK)
		reply_view(call, created->view, &created->timings);
	else
		gcall_fail(call, created->status, "%s", created->message);
}

static void create(struct gcall *call, const ProtobufCMessage *msg)
{
	const Fsb__V1__CreateSandboxRequest *req = (const Fsb__V1__CreateSandboxRequest *)msg;
	struct fp_create_args args;

	common_args(call, req->name, req->spec, req->options, &args);
	fp_create(fp_face_service(call), &args, create_done, call);
}

/* ---- CreateBatch ---- */

static void batch_members(void *arg, const struct fp_batch_member *members, size_t n)
{
	Fsb__V1__CreateBatchResponse reply = FSB__V1__CREATE_BATCH_RESPONSE__INIT;
	struct gcall *call = arg;
	struct fp_service *svc = fp_face_service(call);
	struct fp_pool pool;

	fp_pool_init(&pool);
	reply.members = fp_pool_alloc(&pool, n * sizeof(Fsb__V1__BatchMember *));
	for (size_t i = 0; reply.members && i < n; i++) {
		const struct fp_created *created = &members[i].created;
		Fsb__V1__BatchMember *m = fp_pool_alloc(&pool, sizeof(*m));

		if (!m)
			break;
		fsb__v1__batch_member__init(m);
		m->index = (int32_t)members[i].index;
		m->code = created->status;
		m->message = fp_pool_str(&pool, created->message);
		if (created->status == G_OK)
			m->sandbox = fp_face_sandbox(svc, &pool, created->view);
		if (m->sandbox)
			m->sandbox->timings = fp_face_timings(&pool, &created->timings);
		reply.members[i] = m;
		reply.n_members = i + 1;
	}
	/* The client is gone, or we are out of memory: the summary's status says the latter. */
	(void)gcall_send(call, &reply.base);
	fp_pool_done(&pool);
}

static void batch_end(void *arg, int status, const char *message,
		      const struct fp_batch_summary *summary)
{
	Fsb__V1__CreateBatchResponse reply = FSB__V1__CREATE_BATCH_RESPONSE__INIT;
	Fsb__V1__BatchSummary sum = FSB__V1__BATCH_SUMMARY__INIT;
	struct gcall *call = arg;

	if (summary) {
		sum.name = fp_borrow(summary->name);
		sum.requested = (int32_t)summary->requested;
		sum.started = (int32_t)summary->started;
		sum.failed = (int32_t)summary->failed;
		sum.reserve_ns = summary->reserve_ns;
		sum.total_ns = summary->total_ns;
		reply.summary = &sum;
		if (gcall_send(call, &reply.base) && status == G_OK) {
			gcall_finish(call, G_RESOURCE_EXHAUSTED, "%s",
				     "the summary could not be sent");
			return;
		}
	}
	gcall_finish(call, status, "%s", message);
}

static void on_gone(struct gcall *call)
{
	/* A create goes on: see fp_create. The handlers still come, and sends are refused. */
}

static void batch(struct gcall *call, const ProtobufCMessage *msg)
{
	const Fsb__V1__CreateBatchRequest *req = (const Fsb__V1__CreateBatchRequest *)msg;
	const struct fp_batch_handlers handlers = {batch_members, batch_end, call};
	struct fp_batch_args args = {
		.count = req->count,
		.mode = (int)req->mode,
		.n_overrides = req->n_overrides,
	};
	struct fp_member_args *overrides = calloc(req->n_overrides + 1, sizeof(*overrides));

	gcall_set_user(call, NULL, on_gone);
	if (!overrides) {
		gcall_finish(call, G_RESOURCE_EXHAUSTED, "%s", "this worker is out of memory");
		return;
	}
	common_args(call, req->name, req->spec, req->options, &args.common);
	for (size_t i = 0; i < req->n_overrides; i++) {
		const Fsb__V1__MemberOverride *o = req->overrides[i];

		/* A negative index becomes one that is too large, and is named as it was given. */
		overrides[i].index = (uint32_t)o->index;
		overrides[i].over = (struct fp_override){
			.n_command = o->n_command,
			.command = o->command,
			.n_args = o->n_args,
			.args = o->args,
			.envs = FP_MAP(o, envs),
		};
	}
	args.overrides = overrides;
	fp_batch(fp_face_service(call), &args, &handlers);
	free(overrides);
}

/* ---- Get, List ---- */

static void get(struct gcall *call, const ProtobufCMessage *msg)
{
	const Fsb__V1__GetSandboxRequest *req = (const Fsb__V1__GetSandboxRequest *)msg;
	struct reg_sandbox_view view;
	struct fp_fail fail;

	if (fp_get(fp_face_service(call), req->namespace_, req->name, &view, &fail))
		fp_face_fail(call, &fail);
	else
		reply_view(call, &view, NULL);
}

struct listing {
	struct fp_service *svc;
	struct fp_pool pool;
	Fsb__V1__Sandbox **items;
	size_t n;
};

static void list_begin(void *arg, size_t n)
{
	struct listing *l = arg;

	l->items = fp_pool_alloc(&l->pool, n * sizeof(Fsb__V1__Sandbox *));
}

static void list_item(void *arg, const struct reg_sandbox_view *view)
{
	struct listing *l = arg;
	Fsb__V1__Sandbox *item = fp_face_sandbox(l->svc, &l->pool, view);

	if (item && l->items)
		l->items[l->n++] = item;
}

static void list(struct gcall *call, const ProtobufCMessage *msg)
{
	const Fsb__V1__ListSandboxesRequest *req = (const Fsb__V1__ListSandboxesRequest *)msg;
	Fsb__V1__ListSandboxesResponse reply = FSB__V1__LIST_SANDBOXES_RESPONSE__INIT;
	const struct fp_list_args args = {req->namespace_, req->pool, req->phase,
					  FP_MAP(req, labels)};
	struct listing l = {.svc = fp_face_service(call)};
	const struct fp_list_handlers handlers = {list_begin, list_item, &l};
	struct fp_fail fail;

	fp_pool_init(&l.pool);
	if (fp_list(l.svc, &args, &handlers, &fail)) {
		fp_pool_done(&l.pool);
		fp_face_fail(call, &fail);
		return;
	}
	reply.n_items = l.n;
	reply.items = l.items;
	fp_face_reply(call, &l.pool, &reply.base);
}

/* ---- Wait ---- */

static void wait_done(void *arg, int status, const char *message,
		      const struct reg_sandbox_view *view)
{
	struct gcall *call = arg;

	if (status == G_OK)
		reply_view(call, view, NULL);
	else
		gcall_fail(call, status, "%s", message);
}

static void wait_gone(struct gcall *call)
{
	fp_wait_cancel(gcall_user(call));
}

static void wait(struct gcall *call, const ProtobufCMessage *msg)
{
	const Fsb__V1__WaitSandboxRequest *req = (const Fsb__V1__WaitSandboxRequest *)msg;
	const struct fp_wait_args args = {
		.ns = req->namespace_,
		.name = req->name,
		.phase = req->phase,
		.timeout_ms = req->timeout_ms,
		.deadline_ns = gcall_deadline_ns(call),
	};
	struct fp_wait *w = fp_wait(fp_face_service(call), &args, wait_done, call);

	if (w)
		gcall_set_user(call, w, wait_gone);
}

/* ---- Delete ---- */

static void delete_done(void *arg, int status, const char *message)
{
	Fsb__V1__DeleteSandboxResponse reply = FSB__V1__DELETE_SANDBOX_RESPONSE__INIT;
	struct gcall *call = arg;

	if (status == G_OK)
		gcall_reply(call, &reply.base);
	else
		gcall_fail(call, status, "%s", message);
}

static void delete_gone(struct gcall *call)
{
	fp_delete_cancel(gcall_user(call));
}

static void delete (struct gcall *call, const ProtobufCMessage *msg)
{
	const Fsb__V1__DeleteSandboxRequest *req = (const Fsb__V1__DeleteSandboxRequest *)msg;
	const struct fp_delete_args args = {
		.ns = req->namespace_,
		.name = req->name,
		.grace_s = req->grace_seconds,
		.wait = req->wait,
		.deadline_ns = gcall_deadline_ns(call),
	};
	struct fp_delete *d = fp_delete(fp_face_service(call), &args, delete_done, call);

	if (d)
		gcall_set_user(call, d, delete_gone);
}

/* ---- Logs ---- */

/* The reader may be this far behind before the agent's stream is held. */
enum { LOGS_QUEUED_MAX = 1 << 20 };

static void logs_chunk(void *arg, const void *data, size_t len)
{
	Fsb__V1__SandboxLogsChunk chunk = FSB__V1__SANDBOX_LOGS_CHUNK__INIT;
	struct gcall *call = arg;
	union {
		const void *in;
		uint8_t *out;
	} bytes = {.in = data};

	chunk.data.data = bytes.out;
	chunk.data.len = len;
	if (!gcall_send(call, &chunk.base) && gcall_queued_bytes(call) > LOGS_QUEUED_MAX)
		fp_logs_pause(gcall_user(call), true);
}

static void logs_drained(struct gcall *call)
{
	if (gcall_user(call))
		fp_logs_pause(gcall_user(call), false);
}

static void logs_end(void *arg, int status, const char *message)
{
	struct gcall *call = arg;

	gcall_set_user(call, NULL, NULL);
	gcall_finish(call, status, "%s", message);
}

static void logs_gone(struct gcall *call)
{
	fp_logs_cancel(gcall_user(call));
}

static void logs(struct gcall *call, const ProtobufCMessage *msg)
{
	const Fsb__V1__SandboxLogsRequest *req = (const Fsb__V1__SandboxLogsRequest *)msg;
	const struct fp_logs_handlers handlers = {logs_chunk, logs_end, call};
	struct fp_logs *l =
		fp_logs(fp_face_service(call), req->namespace_, req->name, req->follow, &handlers);

	if (!l)
		return;
	gcall_set_user(call, l, logs_gone);
	gcall_set_on_drained(call, logs_drained);
}

#define METHOD(name, how, message, fn)                                                             \
	{                                                                                          \
		.path = "/fsb.v1.SandboxService/" name, .kind = GMETHOD_##how,                     \
		.request = &fsb__v1__##message##_request__descriptor, .handler = fn                \
	}

const struct gmethod fp_methods_sandbox[] = {
	METHOD("CreateSandbox", UNARY, create_sandbox, create),
	METHOD("CreateBatch", SERVER_STREAM, create_batch, batch),
	METHOD("Get", UNARY, get_sandbox, get),
	METHOD("List", UNARY, list_sandboxes, list),
	METHOD("Wait", UNARY, wait_sandbox, wait),
	METHOD("Delete", UNARY, delete_sandbox, delete),
	METHOD("Logs", SERVER_STREAM, sandbox_logs, logs),
	{.path = NULL},
};
