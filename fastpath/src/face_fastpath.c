/* SPDX-License-Identifier: Apache-2.0 */
/* fastpath.v1.FastPathService: the compatible wire. Its Update answers failures in band, with the
 * texts that clients look for. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "check.h"
#include "face.h"
#include "fastpath.pb-c.h"
#include "status.h"

static Fastpath__V1__SandboxInfo *info_new(struct fp_service *svc, struct fp_pool *pool,
					   const struct reg_sandbox_view *view)
{
	Fastpath__V1__SandboxInfo *info = fp_pool_alloc(pool, sizeof(*info));

	if (!info)
		return NULL;
	fastpath__v1__sandbox_info__init(info);
	info->sandbox_id = fp_pool_str(pool, view->id);
	info->phase = fp_pool_str(pool, fp_phase(view));
	info->agent_pod = fp_pool_str(pool, view->agent_name);
	info->n_endpoints = fp_face_endpoints(svc, pool, view, &info->endpoints);
	info->created_at = view->created_unix_ns / (int64_t)NS_PER_S;
	info->image = fp_pool_str(pool, view->image);
	info->pool_ref = fp_pool_str(pool, view->pool);
	info->sandbox_name = fp_pool_str(pool, view->name);
	info->namespace_ = fp_pool_str(pool, view->ns);
	info->expire_time_seconds = view->expire_unix_s;
	info->exit_code = view->exit.code;
	info->message = fp_pool_str(pool, view->message);
	info->generation = view->generation;
	return info;
}

/* ---- CreateSandbox ---- */

static void create_done(void *arg, const struct fp_created *created)
{
	Fastpath__V1__CreateResponse reply = FASTPATH__V1__CREATE_RESPONSE__INIT;
	struct gcall *call = arg;
	struct fp_service *svc = fp_face_service(call);
	struct fp_pool pool;

	if (created->status != G_OK) {
		gcall_fail(call, created->status, "%s", created->message);
		return;
	}
	fp_pool_init(&pool);
	reply.sandbox_id = fp_pool_str(&pool, created->view->id);
	reply.agent_pod = fp_pool_str(&pool, created->view->agent_name);
	reply.sandbox_name = fp_pool_str(&pool, created->view->name);
	reply.n_endpoints = fp_face_endpoints(svc, &pool, created->view, &reply.endpoints);
	fp_face_reply(call, &pool, &reply.base);
}

static void spec_of(const Fastpath__V1__CreateRequest *req, Fsb__V1__SandboxSpec *spec)
{
	fsb__v1__sandbox_spec__init(spec);
	spec->image = req->image;
	spec->n_command = req->n_command;
	spec->command = req->command;
	spec->n_args = req->n_args;
	spec->args = req->args;
	spec->n_envs = req->n_envs;
	/* One layout for all entry types: map.c asserts it. */
	spec->envs = (Fsb__V1__SandboxSpec__EnvsEntry **)req->envs;
	spec->working_dir = req->working_dir;
	spec->n_exposed_ports = req->n_exposed_ports;
	spec->exposed_ports = req->exposed_ports;
	spec->n_resources = req->n_resources;
	spec->resources = (Fsb__V1__SandboxSpec__ResourcesEntry **)req->resources;
}

/* FAST is 0 and has no presence here: it means the server's default. Unknown values stay unknown.
 */
static int consistency_of(Fastpath__V1__ConsistencyMode mode)
{
	switch ((int)mode) {
	case FASTPATH__V1__CONSISTENCY_MODE__FAST:
		return FP_CONSISTENCY_DEFAULT;
	case FASTPATH__V1__CONSISTENCY_MODE__STRONG:
		return FP_CONSISTENCY_STRONG;
	default:
		return -1;
	}
}

static void create(struct gcall *call, const ProtobufCMessage *msg)
{
	const Fastpath__V1__CreateRequest *req = (const Fastpath__V1__CreateRequest *)msg;
	Fsb__V1__SandboxSpec spec;
	struct fp_create_args args = {
		.ns = req->namespace_,
		.pool = req->pool_ref,
		.name = req->name,
		.request_id = req->request_id,
		.spec = &spec,
		.labels = FP_MAP(req, labels),
		.consistency = consistency_of(req->consistency_mode),
		.consistency_given = (int)req->consistency_mode,
		.wait_for = FSB__V1__WAIT_FOR__WAIT_STARTED,
		.expire_unix_s = req->expire_time_seconds,
		.policy = (int)req->failure_policy,
		.recovery_timeout_s = req->recovery_timeout_seconds,
		.deadline_ns = gcall_deadline_ns(call),
	};

	spec_of(req, &spec);
	fp_create(fp_face_service(call), &args, create_done, call);
}

/* ---- DeleteSandbox ---- */

static void delete_done(void *arg, int status, const char *message)
{
	Fastpath__V1__DeleteResponse reply = FASTPATH__V1__DELETE_RESPONSE__INIT;
	struct gcall *call = arg;

	reply.success = true;
	if (status == G_OK)
		gcall_reply(call, &reply.base);
	else
		gcall_fail(call, status, "%s", message);
}

static void delete (struct gcall *call, const ProtobufCMessage *msg)
{
	const Fastpath__V1__DeleteRequest *req = (const Fastpath__V1__DeleteRequest *)msg;
	const struct fp_delete_args args = {
		.ns = req->namespace_,
		.name = req->sandbox_name,
		.deadline_ns = gcall_deadline_ns(call),
	};

	(void)fp_delete(fp_face_service(call), &args, delete_done, call);
}

/* ---- UpdateSandbox ---- */

static void update_args(const Fastpath__V1__UpdateRequest *req, struct fp_update_args *args)
{
	*args = (struct fp_update_args){
		.ns = req->namespace_,
		.name = req->sandbox_name,
		.labels = FP_MAP(req, labels),
	};
	switch (req->update_case) {
	case FASTPATH__V1__UPDATE_REQUEST__UPDATE_EXPIRE_TIME_SECONDS:
		args->fields = REG_SET_EXPIRE;
		args->expire_unix_s = req->expire_time_seconds;
		break;
	case FASTPATH__V1__UPDATE_REQUEST__UPDATE_RESET_REVISION:
		args->reset = true;
		break;
	case FASTPATH__V1__UPDATE_REQUEST__UPDATE_FAILURE_POLICY:
		args->fields = REG_SET_POLICY;
		args->policy = (int)req->failure_policy;
		break;
	case FASTPATH__V1__UPDATE_REQUEST__UPDATE_RECOVERY_TIMEOUT_SECONDS:
		args->fields = REG_SET_RECOVERY;
		args->recovery_timeout_s = req->recovery_timeout_seconds;
		break;
	default:
		break;
	}
}

/* Only what this release can't do at all is a gRPC error. */
static void update_refused(struct gcall *call, const Fastpath__V1__UpdateRequest *req, bool found,
			   const struct fp_fail *fail)
{
	Fastpath__V1__UpdateResponse reply = FASTPATH__V1__UPDATE_RESPONSE__INIT;
	char text[sizeof(fail->msg) + 64], q[FP_QUOTED_MAX + 8];

	if (fail->status == G_UNIMPLEMENTED) {
		fp_face_fail(call, fail);
		return;
	}
	if (fail->status == G_NOT_FOUND)
		snprintf(text, sizeof(text),
			 "failed to get sandbox: Sandbox.sandbox.fast.io \"%s\" not found",
			 fp_quote(req->sandbox_name, q));
	else
		snprintf(text, sizeof(text), "failed to %s sandbox: %s", found ? "update" : "get",
			 fail->msg);
	reply.message = text;
	gcall_reply(call, &reply.base);
}

static void update(struct gcall *call, const ProtobufCMessage *msg)
{
	const Fastpath__V1__UpdateRequest *req = (const Fastpath__V1__UpdateRequest *)msg;
	Fastpath__V1__UpdateResponse reply = FASTPATH__V1__UPDATE_RESPONSE__INIT;
	static char success[] = "sandbox updated successfully";
	struct fp_service *svc = fp_face_service(call);
	struct reg_sandbox_view view;
	struct fp_update_args args;
	struct fp_fail fail;
	struct fp_pool pool;
	bool found;

	update_args(req, &args);
	if (fp_update(svc, &args, &view, &found, &fail)) {
		update_refused(call, req, found, &fail);
		return;
	}
	fp_pool_init(&pool);
	reply.success = true;
	reply.message = success;
	reply.sandbox = info_new(svc, &pool, &view);
	fp_face_reply(call, &pool, &reply.base);
}

/* ---- ListSandboxes, GetSandbox ---- */

struct infos {
	struct fp_service *svc;
	struct fp_pool pool;
	Fastpath__V1__SandboxInfo **items;
	size_t n;
};

static void list_begin(void *arg, size_t n)
{
	struct infos *infos = arg;

	infos->items = fp_pool_alloc(&infos->pool, n * sizeof(Fastpath__V1__SandboxInfo *));
}

static void list_item(void *arg, const struct reg_sandbox_view *view)
{
	struct infos *infos = arg;
	Fastpath__V1__SandboxInfo *info = info_new(infos->svc, &infos->pool, view);

	if (info && infos->items)
		infos->items[infos->n++] = info;
}

static void list(struct gcall *call, const ProtobufCMessage *msg)
{
	const Fastpath__V1__ListRequest *req = (const Fastpath__V1__ListRequest *)msg;
	Fastpath__V1__ListResponse reply = FASTPATH__V1__LIST_RESPONSE__INIT;
	const struct fp_list_args args = {.ns = req->namespace_, .pool = "", .phase = ""};
	struct infos infos = {.svc = fp_face_service(call)};
	const struct fp_list_handlers handlers = {list_begin, list_item, &infos};
	struct fp_fail fail;

	fp_pool_init(&infos.pool);
	if (fp_list(infos.svc, &args, &handlers, &fail)) {
		fp_pool_done(&infos.pool);
		fp_face_fail(call, &fail);
		return;
	}
	reply.n_items = infos.n;
	reply.items = infos.items;
	fp_face_reply(call, &infos.pool, &reply.base);
}

static void get(struct gcall *call, const ProtobufCMessage *msg)
{
	const Fastpath__V1__GetRequest *req = (const Fastpath__V1__GetRequest *)msg;
	struct fp_service *svc = fp_face_service(call);
	struct reg_sandbox_view view;
	struct fp_fail fail;
	struct fp_pool pool;
	Fastpath__V1__SandboxInfo *info;

	if (fp_get(svc, req->namespace_, req->sandbox_name, &view, &fail)) {
		fp_face_fail(call, &fail);
		return;
	}
	fp_pool_init(&pool);
	info = info_new(svc, &pool, &view);
	fp_face_reply(call, &pool, info ? &info->base : NULL);
}

#define METHOD(name, type, fn)                                                                     \
	{                                                                                          \
		.path = "/fastpath.v1.FastPathService/" name, .kind = GMETHOD_UNARY,               \
		.request = &fastpath__v1__##type##_request__descriptor, .handler = fn              \
	}

const struct gmethod fp_methods_fastpath[] = {
	METHOD("CreateSandbox", create, create), METHOD("DeleteSandbox", delete, delete),
	METHOD("UpdateSandbox", update, update), METHOD("ListSandboxes", list, list),
	METHOD("GetSandbox", get, get),		 {.path = NULL},
};
