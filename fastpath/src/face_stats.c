/* SPDX-License-Identifier: Apache-2.0 */
/* fsb.v1.AdminService/GetStats: what the registry's participants have counted, summed on read. */
#include "face.h"

static void put_workers(struct fp_service *svc, struct fp_pool *pool,
			Fsb__V1__GetStatsResponse *reply, uint64_t *ret_participants)
{
	struct fp_items items = {.pool = pool};
	struct reg_participant p;
	uint32_t cursor = 0;

	while (reg_participant_next(svc->me, &cursor, &p)) {
		Fsb__V1__WorkerStats *w;

		(*ret_participants)++;
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
		fp_items_push(&items, w);
	}
	reply->n_workers = items.n;
	reply->workers = (Fsb__V1__WorkerStats **)items.at;
}

static void put_histograms(struct fp_service *svc, struct fp_pool *pool,
			   Fsb__V1__GetStatsResponse *reply)
{
	struct fp_items items = {.pool = pool};

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
		h->p999_ns = view.p999_ns;
		h->max_ns = view.max_ns;
		fp_items_push(&items, h);
	}
	reply->n_histograms = items.n;
	reply->histograms = (Fsb__V1__Histogram **)items.at;
}

static void put_counter(struct fp_items *items, const char *name, uint64_t value)
{
	Fsb__V1__GetStatsResponse__CountersEntry *e = fp_pool_alloc(items->pool, sizeof(*e));

	if (!e)
		return;
	fsb__v1__get_stats_response__counters_entry__init(e);
	e->key = fp_pool_str(items->pool, name);
	e->value = value;
	fp_items_push(items, e);
}

/* What was counted since the arena was made, then what there is now. */
static void put_counters(struct fp_service *svc, struct fp_pool *pool, uint64_t participants,
			 const struct reg_counters *counters, const struct reg_books *books,
			 Fsb__V1__GetStatsResponse *reply)
{
	const struct {
		const char *name;
		uint64_t value;
	} now[] = {
		{"participants", participants},
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
	struct fp_items items = {.pool = pool};
	uint64_t refused = 0;

	for (int i = 0; i < REG_STATUS_MAX; i++)
		refused += counters->refused[i];
	for (int i = 0; i < REG_COUNT_MAX; i++)
		put_counter(&items, reg_counter_name((enum reg_counter)i), counters->count[i]);
	put_counter(&items, "refused_total", refused);
	for (size_t i = 0; i < sizeof(now) / sizeof(now[0]); i++)
		put_counter(&items, now[i].name, now[i].value);
	reply->n_counters = items.n;
	reply->counters = (Fsb__V1__GetStatsResponse__CountersEntry **)items.at;
}

static void put_refusals(struct fp_pool *pool, const struct reg_counters *counters,
			 Fsb__V1__GetStatsResponse *reply)
{
	struct fp_items items = {.pool = pool};

	for (int i = 0; i < REG_STATUS_MAX; i++) {
		Fsb__V1__GetStatsResponse__RefusalsEntry *e;

		if (!counters->refused[i])
			continue;
		e = fp_pool_alloc(pool, sizeof(*e));
		if (!e)
			return;
		fsb__v1__get_stats_response__refusals_entry__init(e);
		e->key = fp_pool_str(pool, reg_status_name((enum reg_status)i));
		e->value = counters->refused[i];
		fp_items_push(&items, e);
	}
	reply->n_refusals = items.n;
	reply->refusals = (Fsb__V1__GetStatsResponse__RefusalsEntry **)items.at;
}

static void put_unmet(struct fp_service *svc, struct fp_pool *pool,
		      Fsb__V1__GetStatsResponse *reply)
{
	struct fp_items items = {.pool = pool};
	struct reg_pool_view view;
	uint32_t cursor = 0;

	while (reg_pool_next(svc->me, &cursor, &view)) {
		Fsb__V1__PoolDemand *d;

		if (!view.unmet_demand)
			continue;
		d = fp_pool_alloc(pool, sizeof(*d));
		if (!d)
			return;
		fsb__v1__pool_demand__init(d);
		d->namespace_ = fp_pool_str(pool, view.ns);
		d->pool = fp_pool_str(pool, view.name);
		d->unmet_demand = view.unmet_demand;
		fp_items_push(&items, d);
	}
	reply->n_unmet = items.n;
	reply->unmet = (Fsb__V1__PoolDemand **)items.at;
}

void fp_face_get_stats(struct gcall *call, const ProtobufCMessage *msg)
{
	Fsb__V1__GetStatsResponse reply = FSB__V1__GET_STATS_RESPONSE__INIT;
	struct fp_service *svc = fp_face_service(call);
	struct reg_counters counters;
	struct reg_books books;
	uint64_t participants = 0;
	struct fp_pool pool;

	fp_pool_init(&pool);
	reg_books(svc->me, &books);
	reg_counters_get(svc->reg, &counters);
	/* Those with a name; `records` counts the ones that wait for their removal from the store,
	 * too. */
	reply.sandboxes = books.names;
	reply.dirty = reg_dirty_count(svc->reg);
	reply.store_lag_ns = reg_store_lag_ns(svc->me);
	reply.store_loaded = reg_store_loaded(svc->reg);
	put_workers(svc, &pool, &reply, &participants);
	put_histograms(svc, &pool, &reply);
	put_counters(svc, &pool, participants, &counters, &books, &reply);
	put_refusals(&pool, &counters, &reply);
	put_unmet(svc, &pool, &reply);
	fp_face_reply(call, &pool, &reply.base);
}
