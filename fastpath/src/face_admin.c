/* SPDX-License-Identifier: Apache-2.0 */
/* fsb.v1.AdminService: agents, pools, images and figures, read from the registry as they are. */
#include <string.h>

#include "base/clock.h"
#include "face.h"

/* An array in the pool that doubles: lists are made in one walk over the registry. */
struct items {
	struct fp_pool *pool;
	void **at;
	size_t n, room;
};

static void items_push(struct items *items, void *item)
{
	void **at;

	if (!item)
		return;
	if (items->n == items->room) {
		size_t room = items->room ? items->room * 2 : 32;

		at = fp_pool_alloc(items->pool, room * sizeof(void *));
		if (!at)
			return;
		if (items->n)
			memcpy(at, items->at, items->n * sizeof(void *));
		items->at = at;
		items->room = room;
	}
	items->at[items->n++] = item;
}

/* ---- ListAgents ---- */

static void put_images(struct fp_service *svc, struct fp_pool *pool, reg_agent_id agent,
		       Fsb__V1__AgentInfo *info)
{
	struct items images = {.pool = pool};
	char ref[REG_IMAGE_MAX + 1];
	uint32_t cursor = 0;

	while (reg_agent_image_next(svc->me, agent, &cursor, ref))
		items_push(&images, fp_pool_str(pool, ref));
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
	struct items items = {.pool = &pool};

	fp_pool_init(&pool);
	while (reg_agent_next(svc->me, &cursor, &view)) {
		if (wanted(view.ns, view.pool, req->namespace_, req->pool))
			items_push(&items, agent_new(svc, &pool, &view));
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
	struct items items = {.pool = &pool};

	fp_pool_init(&pool);
	while (reg_pool_next(svc->me, &cursor, &view)) {
		if (wanted(view.ns, "", req->namespace_, ""))
			items_push(&items, pool_new(&pool, &view));
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
	struct items items = {.pool = &pool};

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
		items_push(&items, info);
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

/* ---- GetStats ---- */

struct sums {
	uint64_t reserved, committed, aborted, refused, participants;
};

static void put_workers(struct fp_service *svc, struct fp_pool *pool, struct sums *sums,
			Fsb__V1__GetStatsResponse *reply)
{
	struct items items = {.pool = pool};
	struct reg_participant p;
	uint32_t cursor = 0;

	while (reg_participant_next(svc->me, &cursor, &p)) {
		Fsb__V1__WorkerStats *w;

		sums->participants++;
		sums->reserved += p.reserved;
		sums->committed += p.committed;
		sums->aborted += p.aborted;
		sums->refused += p.refused;
		if (p.kind != REG_KIND_WORKER || !p.alive)
			continue;
		w = fp_pool_alloc(pool, sizeof(*w));
		if (!w)
			return;
		fsb__v1__worker_stats__init(w);
		w->worker = (int32_t)p.idx;
		w->pid = p.pid;
		w->creates = p.committed;
		w->refusals = p.refused;
		items_push(&items, w);
	}
	reply->n_workers = items.n;
	reply->workers = (Fsb__V1__WorkerStats **)items.at;
}

static void put_histograms(struct fp_service *svc, struct fp_pool *pool,
			   Fsb__V1__GetStatsResponse *reply)
{
	struct items items = {.pool = pool};

	for (int i = 0; i < REG_HIST_MAX; i++) {
		Fsb__V1__Histogram *h = fp_pool_alloc(pool, sizeof(*h));
		struct reg_hist_view view;

		if (!h)
			return;
		reg_hist_get(svc->reg, (enum reg_hist)i, &view);
		fsb__v1__histogram__init(h);
		h->name = fp_pool_str(pool, view.name);
		h->count = view.count;
		h->p50_ns = view.p50_ns;
		h->p90_ns = view.p90_ns;
		h->p99_ns = view.p99_ns;
		h->max_ns = view.max_ns;
		items_push(&items, h);
	}
	reply->n_histograms = items.n;
	reply->histograms = (Fsb__V1__Histogram **)items.at;
}

static void put_counters(struct fp_service *svc, struct fp_pool *pool, const struct sums *sums,
			 const struct reg_books *books, Fsb__V1__GetStatsResponse *reply)
{
	const struct {
		const char *name;
		uint64_t value;
	} counters[] = {
		{"participants", sums->participants},
		{"reserved_total", sums->reserved},
		{"committed_total", sums->committed},
		{"aborted_total", sums->aborted},
		{"refused_total", sums->refused},
		{"records", books->sandboxes},
		{"slots_held", books->slots_held},
		{"names", books->names},
		{"request_ids", books->request_ids},
		{"ports", books->ports},
		{"blobs", books->blobs},
		{"contradictions", books->contradictions},
		{"arena_bytes", reg_bytes_allocated(svc->reg)},
		{"controller_epoch", reg_epoch(svc->reg)},
	};
	struct items items = {.pool = pool};

	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
		Fsb__V1__GetStatsResponse__CountersEntry *e = fp_pool_alloc(pool, sizeof(*e));

		if (!e)
			return;
		fsb__v1__get_stats_response__counters_entry__init(e);
		e->key = fp_pool_str(pool, counters[i].name);
		e->value = counters[i].value;
		items_push(&items, e);
	}
	reply->n_counters = items.n;
	reply->counters = (Fsb__V1__GetStatsResponse__CountersEntry **)items.at;
}

static void get_stats(struct gcall *call, const ProtobufCMessage *msg)
{
	Fsb__V1__GetStatsResponse reply = FSB__V1__GET_STATS_RESPONSE__INIT;
	struct fp_service *svc = fp_face_service(call);
	struct sums sums = {0};
	struct reg_books books;
	struct fp_pool pool;

	fp_pool_init(&pool);
	reg_books(svc->me, &books);
	/* Those with a name; `records` counts the ones that wait for their removal from the store,
	 * too. */
	reply.sandboxes = books.names;
	reply.dirty = reg_dirty_count(svc->reg);
	reply.store_lag_ns = reg_store_lag_ns(svc->me);
	reply.store_loaded = reg_store_loaded(svc->reg);
	put_workers(svc, &pool, &sums, &reply);
	put_histograms(svc, &pool, &reply);
	put_counters(svc, &pool, &sums, &books, &reply);
	fp_face_reply(call, &pool, &reply.base);
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
	METHOD("GetStats", get_stats, get_stats),
	{.path = NULL},
};
