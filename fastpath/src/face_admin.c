/* SPDX-License-Identifier: Apache-2.0 */
/* fsb.v1.AdminService: agents, pools and images, read from the registry as they are. */
#include <string.h>

#include "base/clock.h"
#include "face.h"

/* ---- ListAgents ---- */

static void put_images(struct fp_service *svc, struct fp_pool *pool, reg_agent_id agent,
		       Fsb__V1__AgentInfo *info)
{
	struct fp_items images = {.pool = pool};
	char ref[REG_IMAGE_MAX + 1];
	uint32_t cursor = 0;

	while (reg_agent_image_next(svc->me, agent, &cursor, ref))
		fp_items_push(&images, fp_pool_str(pool, ref));
	info->n_images = images.n;
	info->images = (char **)images.at;
}

static Fsb__V1__AgentInfo *agent_new(struct fp_service *svc, struct fp_pool *pool,
				     const struct reg_agent_view *view)
{
	Fsb__V1__AgentInfo *info = fp_pool_alloc(pool, sizeof(*info));

	if (!info)
		return NULL;
	fsb__v1__agent_info__init(info);
	info->name = fp_pool_str(pool, view->name);
	info->namespace_ = fp_pool_str(pool, view->ns);
	info->pool = fp_pool_str(pool, view->pool);
	info->node = fp_pool_str(pool, view->node);
	info->address = fp_pool_str(pool, view->address);
	info->capacity = view->capacity;
	info->allocated = (int32_t)view->allocated;
	info->state = fp_pool_str(pool, view->ready ? "Ready" : "Unreachable");
	info->last_heartbeat_unix_ns = view->heartbeat_unix_ns;
	info->reserved_total = view->reserved_total;
	put_images(svc, pool, view->id, info);
	return info;
}

static bool wanted(const char *have_ns, const char *have_pool, const char *ns, const char *pool)
{
	return (!*ns || !strcmp(have_ns, ns)) && (!*pool || !strcmp(have_pool, pool));
}

static void list_agents(struct gcall *call, const ProtobufCMessage *msg)
{
	const Fsb__V1__ListAgentsRequest *req = (const Fsb__V1__ListAgentsRequest *)msg;
	Fsb__V1__ListAgentsResponse reply = FSB__V1__LIST_AGENTS_RESPONSE__INIT;
	struct fp_service *svc = fp_face_service(call);
	struct reg_agent_view view;
	uint32_t cursor = 0;
	struct fp_pool pool;
	struct fp_items items = {.pool = &pool};

	fp_pool_init(&pool);
	while (reg_agent_next(svc->me, &cursor, &view)) {
		if (wanted(view.ns, view.pool, req->namespace_, req->pool))
			fp_items_push(&items, agent_new(svc, &pool, &view));
	}
	reply.n_items = items.n;
	reply.items = (Fsb__V1__AgentInfo **)items.at;
	fp_face_reply(call, &pool, &reply.base);
}

/* ---- ListPools ---- */

static Fsb__V1__PoolInfo *pool_new(struct fp_pool *pool, const struct reg_pool_view *view)
{
	Fsb__V1__PoolInfo *info = fp_pool_alloc(pool, sizeof(*info));

	if (!info)
		return NULL;
	fsb__v1__pool_info__init(info);
	info->name = fp_pool_str(pool, view->name);
	info->namespace_ = fp_pool_str(pool, view->ns);
	info->agents = (int32_t)view->agents;
	info->ready_agents = (int32_t)view->ready_agents;
	info->capacity = (int32_t)view->slots;
	info->allocated = (int32_t)view->allocated;
	info->unmet_demand = view->unmet_demand;
	return info;
}

static void list_pools(struct gcall *call, const ProtobufCMessage *msg)
{
	const Fsb__V1__ListPoolsRequest *req = (const Fsb__V1__ListPoolsRequest *)msg;
	Fsb__V1__ListPoolsResponse reply = FSB__V1__LIST_POOLS_RESPONSE__INIT;
	struct fp_service *svc = fp_face_service(call);
	struct reg_pool_view view;
	uint32_t cursor = 0;
	struct fp_pool pool;
	struct fp_items items = {.pool = &pool};

	fp_pool_init(&pool);
	while (reg_pool_next(svc->me, &cursor, &view)) {
		if (wanted(view.ns, "", req->namespace_, ""))
			fp_items_push(&items, pool_new(&pool, &view));
	}
	reply.n_items = items.n;
	reply.items = (Fsb__V1__PoolInfo **)items.at;
	fp_face_reply(call, &pool, &reply.base);
}

/* ---- images ---- */

static void list_images(struct gcall *call, const ProtobufCMessage *msg)
{
	Fsb__V1__ListImagesResponse reply = FSB__V1__LIST_IMAGES_RESPONSE__INIT;
	struct fp_service *svc = fp_face_service(call);
	char ref[REG_IMAGE_MAX + 1];
	uint32_t cursor = 0, agents;
	struct fp_pool pool;
	struct fp_items items = {.pool = &pool};

	fp_pool_init(&pool);
	while (reg_image_next(svc->me, &cursor, ref, &agents)) {
		Fsb__V1__ImageInfo *info;

		/* The arena remembers names that no agent has any more. */
		if (agents == 0)
			continue;
		info = fp_pool_alloc(&pool, sizeof(*info));
		if (!info)
			break;
		fsb__v1__image_info__init(info);
		info->image = fp_pool_str(&pool, ref);
		info->agents = (int32_t)agents;
		fp_items_push(&items, info);
	}
	reply.n_items = items.n;
	reply.items = (Fsb__V1__ImageInfo **)items.at;
	fp_face_reply(call, &pool, &reply.base);
}

static void load_done(void *arg, const struct fp_loaded *loaded)
{
	Fsb__V1__LoadImageResponse reply = FSB__V1__LOAD_IMAGE_RESPONSE__INIT;
	struct gcall *call = arg;

	if (loaded->status != G_OK) {
		gcall_fail(call, loaded->status, "%s", loaded->message);
		return;
	}
	reply.image = fp_borrow(loaded->image);
	reply.digest = fp_borrow(loaded->digest);
	reply.bytes = loaded->bytes;
	reply.agents = (int32_t)loaded->agents;
	gcall_reply(call, &reply.base);
}

static void load_image(struct gcall *call, const ProtobufCMessage *msg)
{
	const Fsb__V1__LoadImageRequest *req = (const Fsb__V1__LoadImageRequest *)msg;
	const struct fp_load_args args = {
		.layout_path = req->layout_path,
		.layout_ref = req->layout_ref,
		.name = req->name,
		.ns = req->namespace_,
		.pool = req->pool,
		.deadline_ns = gcall_deadline_ns(call),
	};

	fp_load_image(fp_face_service(call), &args, load_done, call);
}

#define METHOD(name, message, fn)                                                                  \
	{                                                                                          \
		.path = "/fsb.v1.AdminService/" name, .kind = GMETHOD_UNARY,                       \
		.request = &fsb__v1__##message##_request__descriptor, .handler = fn                \
	}

const struct gmethod fp_methods_admin[] = {
	METHOD("ListAgents", list_agents, list_agents),
	METHOD("ListPools", list_pools, list_pools),
	METHOD("LoadImage", load_image, load_image),
	METHOD("ListImages", list_images, list_images),
	METHOD("GetStats", get_stats, fp_face_get_stats),
	{.path = NULL},
};
