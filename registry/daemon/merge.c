/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An agent's report against the arena. Runs at each hello, repeated ones too, so every step is
 * idempotent.
 *
 *   reported     arena says                    what is done
 *   running      RESTORED, LOST                adopted, found
 *   running      EXITED, EXPIRED, STOPPING,
 *                RUNNING at another agent      stopped there
 *   exited       RUNNING, LOST, RESTORED,
 *                STARTING (as soon as it runs) exited
 *   either       nothing, older than the arena inserted and adopted: the arena was lost, and so was
 * its row or its turn either       nothing, of this arena        removed there: deleted while the
 * agent was away either       another id under that name    removed there not at all   RUNNING,
 * LOST with a slot     asked for (fence: a start may have crossed the hello); no: exited, code
 * unknown not at all   RESTORED                      asked for; no: lost
 */
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/pb.h"
#include "base/str.h"
#include "daemon.h"
#include "spec.pb-c.h"

struct rd_reported {
	uint32_t count;
	char ids[][REG_ID_MAX + 1]; /* sorted */
};

struct reg_exit rd_exit_of(const Fsb__Agent__V1__ExitInfo *info)
{
	struct reg_exit exit = {.code = -1, .unknown = true, .finished_unix_ns = clock_unix_ns()};

	if (!info)
		return exit;
	exit.code = info->code;
	exit.signal = info->signal;
	exit.oom_killed = info->oom_killed;
	exit.unknown = info->unknown;
	if (info->finished_unix_ns)
		exit.finished_unix_ns = info->finished_unix_ns;
	return exit;
}

/* ---- what no record stands for ---- */

static void fill_ports(const Fsb__V1__SandboxSpec *spec, uint16_t *ports, struct reg_request *req)
{
	for (size_t i = 0; i < spec->n_exposed_ports && req->port_count < REG_PORTS_MAX; i++) {
		if (spec->exposed_ports[i] > 0 && spec->exposed_ports[i] <= UINT16_MAX)
			ports[req->port_count++] = (uint16_t)spec->exposed_ports[i];
	}
	req->ports = ports;
}

/* Labels of the meta in the encoding that records have (gives). */
static void *pack_labels(const Fsb__V1__SandboxMeta *meta, uint32_t *ret_len)
{
	Fsb__V1__StringMap map = FSB__V1__STRING_MAP__INIT;
	Fsb__V1__StringMap__EntriesEntry *pool;
	size_t len = 0;
	void *packed = NULL;

	*ret_len = 0;
	if (!meta->n_labels)
		return NULL;
	pool = calloc(meta->n_labels, sizeof(*pool));
	map.entries = calloc(meta->n_labels, sizeof(*map.entries));
	for (size_t i = 0; pool && map.entries && i < meta->n_labels; i++) {
		fsb__v1__string_map__entries_entry__init(&pool[i]);
		pool[i].key = meta->labels[i]->key;
		pool[i].value = meta->labels[i]->value;
		map.entries[map.n_entries++] = &pool[i];
	}
	if (map.n_entries)
		packed = pb_pack(&map.base, &len);
	free(pool);
	free(map.entries);
	*ret_len = packed ? (uint32_t)len : 0;
	return packed;
}

static enum reg_status insert(struct rd_agent *a, const Fsb__Agent__V1__SandboxReport *report,
			      const Fsb__V1__SandboxSpec *spec, reg_sandbox_id *ret)
{
	const Fsb__V1__SandboxMeta *meta = report->meta;
	bool exited = report->state == FSB__AGENT__V1__REPORT_STATE__EXITED;
	char image[REG_IMAGE_MAX + 1];
	uint16_t ports[REG_PORTS_MAX];
	struct reg_restore restore = {
		.req =
			{
				.ns = meta->namespace_,
				.name = meta->name,
				.id = meta->id,
				.pool = meta->pool[0] ? meta->pool : a->pool,
				.request_id = meta->request_id,
				.request_hash = meta->request_hash,
				.spec = report->spec.data,
				.spec_len = (uint32_t)report->spec.len,
				.created_unix_ns = meta->created_unix_ns,
				.expire_unix_s = meta->expire_unix_s,
				.policy = meta->failure_policy ? REG_AUTO_RECREATE : REG_MANUAL,
				.recovery_timeout_s = meta->recovery_timeout_s,
				.consistency = meta->consistency ? REG_STRONG : REG_FAST,
			},
		.state = !exited	   ? REG_RESTORED
			 : report->stopped ? REG_EXPIRED
					   : REG_EXITED,
		.agent_name = a->name,
		.generation = meta->generation,
		.started_unix_ns = report->started_unix_ns,
	};
	void *labels = pack_labels(meta, &restore.req.labels_len);
	enum reg_status st;

	if (exited)
		restore.exit = rd_exit_of(report->exit);
	if (str_image_canonical(spec->image, image, sizeof(image)) < 0)
		snprintf(image, sizeof(image), "%s", spec->image);
	restore.req.image = image;
	restore.req.labels = labels;
	fill_ports(spec, ports, &restore.req);
	st = reg_insert(a->d->me, &restore, ret);
	free(labels);
	return st;
}

/* Its record was lost with an arena: it is kept, because nobody has said that it should go. */
static void take_unknown(struct rd_agent *a, const Fsb__Agent__V1__SandboxReport *report)
{
	const Fsb__V1__SandboxMeta *meta = report->meta;
	struct err err = ERR_INIT;
	struct pb_arena *arena = NULL;
	ProtobufCMessage *spec = NULL;
	reg_sandbox_id sandbox;
	enum reg_status st = REG_INVALID;

	if (pb_unpack(&fsb__v1__sandbox_spec__descriptor, report->spec.data, report->spec.len, NULL,
		      &arena, &spec, &err) == 0)
		st = insert(a, report, (const Fsb__V1__SandboxSpec *)spec, &sandbox);
	if (st == REG_OK && report->state != FSB__AGENT__V1__REPORT_STATE__EXITED)
		st = reg_adopt(a->d->me, sandbox, a->id);
	pb_free(arena);
	if (st == REG_OK) {
		rd_expiry_note(a->d, sandbox, meta->expire_unix_s);
		log_warn("unknown sandbox adopted", "namespace=%s name=%s id=%s agent=%s",
			 meta->namespace_, meta->name, meta->id, a->name);
	} else {
		log_error("unknown sandbox not adopted",
			  "namespace=%s name=%s id=%s agent=%s err=%s", meta->namespace_,
			  meta->name, meta->id, a->name,
			  err.msg[0] ? err.msg : reg_status_text(st));
	}
}

static void merge_unknown(struct rd_agent *a, const Fsb__Agent__V1__SandboxReport *report)
{
	const Fsb__V1__SandboxMeta *meta = report->meta;

	if (meta->created_unix_ns >= reg_created_unix_ns(a->d->reg) ||
	    rd_stop_is_condemned(a->d, meta->id))
		rd_stop_leftover(a, meta->id, meta->generation, "deleted while its agent was away");
	else
		take_unknown(a, report);
}

/* ---- what a record stands for ---- */

static void adopt(struct rd_agent *a, const struct reg_sandbox_view *view)
{
	enum reg_status st = view->state == REG_LOST && view->agent.idx == a->id.idx
				     ? reg_found(a->d->me, view->sandbox)
				     : reg_adopt(a->d->me, view->sandbox, a->id);

	if (st == REG_OK)
		rd_expiry_note(a->d, view->sandbox, view->expire_unix_s);
	else if (st == REG_DELETING)
		rd_stop_track(a->d, view, true);
	else
		log_error("sandbox not adopted", "namespace=%s name=%s agent=%s err=%s", view->ns,
			  view->name, a->name, reg_status_text(st));
}

static void merge_running(struct rd_agent *a, const struct reg_sandbox_view *view)
{
	switch (view->state) {
	case REG_RESTORED:
	case REG_LOST:
		adopt(a, view);
		break;
	case REG_RUNNING:
		if (view->agent.idx != a->id.idx)
			rd_stop_leftover(a, view->id, view->generation, "runs at another agent");
		break;
	case REG_STOPPING:
		rd_stop_track(a->d, view, true);
		break;
	case REG_EXITED:
	case REG_EXPIRED:
		rd_stop_leftover(a, view->id, view->generation,
				 "its record says that it has ended");
		break;
	default:
		break; /* RESERVED, STARTING: its worker, or the reaper after it, will say */
	}
}

static void merge_exited(struct rd_agent *a, const struct reg_sandbox_view *view,
			 const struct reg_exit *exit)
{
	switch (view->state) {
	case REG_STARTING:
	case REG_RUNNING:
	case REG_LOST:
	case REG_RESTORED:
		rd_exit_note(a->d, view->sandbox, exit);
		break;
	case REG_STOPPING:
		rd_stop_track(a->d, view, true);
		break;
	default:
		break;
	}
}

static void merge_one(struct rd_agent *a, const Fsb__Agent__V1__SandboxReport *report)
{
	const Fsb__V1__SandboxMeta *meta = report->meta;
	struct reg_sandbox_view view;
	struct reg_exit exit;

	if (!meta || !meta->id[0])
		return;
	if (reg_get(a->d->me, meta->namespace_, meta->name, &view) != REG_OK) {
		merge_unknown(a, report);
	} else if (strcmp(view.id, meta->id) != 0) {
		rd_stop_leftover(a, meta->id, meta->generation, "another sandbox has its name");
	} else if (meta->generation < view.generation) {
		rd_stop_leftover(a, meta->id, meta->generation, "of an earlier generation");
	} else if (report->state == FSB__AGENT__V1__REPORT_STATE__EXITED) {
		exit = rd_exit_of(report->exit);
		merge_exited(a, &view, &exit);
	} else if (report->state == FSB__AGENT__V1__REPORT_STATE__RUNNING) {
		merge_running(a, &view);
	} else if (view.state == REG_RESTORED || view.state == REG_LOST) {
		rd_merge_missing(
			a, &view); /* still starting: ask, the answer comes when it is known */
	}
}

/* ---- the ids of the report, for the walk over the records ---- */

static int compare_ids(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void remember(struct rd_agent *a, const Fsb__Agent__V1__HelloReply *hello)
{
	struct rd_reported *r;

	rd_merge_forget(a);
	r = malloc(sizeof(*r) + hello->n_sandboxes * sizeof(r->ids[0]));
	if (!r)
		return; /* nothing is compared: the next hello will do */
	r->count = 0;
	for (size_t i = 0; i < hello->n_sandboxes; i++) {
		if (hello->sandboxes[i]->meta)
			snprintf(r->ids[r->count++], sizeof(r->ids[0]), "%s",
				 hello->sandboxes[i]->meta->id);
	}
	qsort(r->ids, r->count, sizeof(r->ids[0]), compare_ids);
	a->reported = r;
}

bool rd_merge_was_reported(const struct rd_agent *agent, const char *id)
{
	return bsearch(id, agent->reported->ids, agent->reported->count,
		       sizeof(agent->reported->ids[0]), compare_ids) != NULL;
}

void rd_merge_forget(struct rd_agent *agent)
{
	free(agent->reported);
	agent->reported = NULL;
}

void rd_merge_reports(struct rd_agent *agent, const Fsb__Agent__V1__HelloReply *hello)
{
	for (size_t i = 0; i < hello->n_sandboxes; i++)
		merge_one(agent, hello->sandboxes[i]);
	remember(agent, hello);
}

/* ---- records that the report lacks ---- */

struct missing {
	reg_sandbox_id sandbox;
	reg_agent_id agent;
	char agent_name[REG_NAME_MAX + 1];
};

/* The agent does not run it and never will. */
static void gone_for_good(struct rd_daemon *d, const struct missing *m,
			  const struct reg_sandbox_view *view)
{
	struct reg_exit exit = rd_exit_of(NULL);
	char message[REG_MESSAGE_MAX + 1];

	snprintf(message, sizeof(message),
		 "agent %.100s no longer has it; how it ended was not seen", m->agent_name);
	if (view->state == REG_RUNNING || view->state == REG_RESTORED)
		reg_lost(d->me, m->sandbox, message);
	/* what held a slot has run here under this arena and has ended; what was restored stays
	 * LOST */
	if (view->state != REG_RESTORED)
		reg_exited(d->me, m->sandbox, &exit);
	else if (view->deleting && reg_stop(d->me, m->sandbox, REG_STOP_DELETE, NULL) == REG_OK)
		rd_stop_track(d, view, true);
	log_warn("sandbox is gone", "namespace=%s name=%s id=%s agent=%s", view->ns, view->name,
		 view->id, m->agent_name);
}

static void on_answer(struct rd_daemon *d, void *arg, enum rd_fence answer,
		      const Fsb__Agent__V1__SandboxReport *report)
{
	struct missing *m = arg;
	struct rd_agent *a = rd_map_get(&d->agent_by_idx, m->agent.idx);
	struct reg_sandbox_view view;
	struct reg_exit exit;

	if (reg_view(d->me, m->sandbox, &view) != REG_OK || !a) {
		free(m);
		return;
	}
	switch (answer) {
	case RD_FENCE_RUNNING:
		merge_running(a, &view);
		break;
	case RD_FENCE_EXITED:
		exit = rd_exit_of(report->exit);
		merge_exited(a, &view, &exit);
		break;
	case RD_FENCE_NOT:
		if (view.state == REG_RUNNING || view.state == REG_LOST ||
		    view.state == REG_RESTORED)
			gone_for_good(d, m, &view);
		break;
	case RD_FENCE_NO_ANSWER:
		break; /* its next hello brings it here again */
	}
	free(m);
}

void rd_merge_missing(struct rd_agent *agent, const struct reg_sandbox_view *view)
{
	bool restored = view->state == REG_RESTORED;
	bool holds_slot = (view->state == REG_RUNNING || view->state == REG_LOST) &&
			  view->agent.idx == agent->id.idx && view->slot != UINT32_MAX;
	struct missing *m;

	if (!restored && !holds_slot)
		return;
	m = malloc(sizeof(*m));
	if (!m)
		return;
	*m = (struct missing){.sandbox = view->sandbox, .agent = agent->id};
	memcpy(m->agent_name, agent->name, sizeof(m->agent_name));
	rd_fence_ask(agent, view->id, view->generation, on_answer, m);
}
