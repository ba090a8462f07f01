/* SPDX-License-Identifier: Apache-2.0 */
/* The path of one start (see start.h): one function per arrow, in the order in which they are
 * taken. */
#include "start.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "status.h"
#include "stop.h"

#define FENCE_ANSWER_NS (5 * NS_PER_S)
#define FENCE_MIN_NS	(10 * NS_PER_MS)
#define FENCE_MAX_NS	NS_PER_S
/* fsb-registryd takes an agent for lost after 10 s without a word; after this long not ready, its
 * answer is not waited for. */
#define AGENT_LOST_NS (15 * NS_PER_S)
#define STORE_LOOK_NS (500 * NS_PER_MS)
/* Longer than a supervisor needs to restart fsb-crdsync. */
#define STORE_ABSENT_NS (5 * NS_PER_S)

static void start_command(struct fp_start *s);
static void fence_later(struct fp_start *s);

struct fp_start *fp_start_new(struct fp_service *svc, const struct fp_start_params *params)
{
	struct fp_start *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->svc = svc;
	s->strong = params->strong;
	s->wait_stored = params->wait_stored;
	s->alone = params->alone;
	s->deadline_ns = params->deadline_ns;
	s->on_end = params->on_end;
	s->owner = params->owner;
	s->index = params->index;
	return s;
}

static void store_unlist(struct fp_start *s)
{
	fp_park_del(&s->park);
	if (s->store_listed)
		TAILQ_REMOVE(&s->svc->store_waits, s, link);
	s->store_listed = false;
}

void fp_start_free(struct fp_start *s)
{
	if (!s)
		return;
	store_unlist(s);
	if (s->state == FP_START_FENCE)
		TAILQ_REMOVE(&s->svc->fencing, s, fence_link);
	fp_blob_unref(s->spec);
	if (s->timer)
		gloop_timer_free(s->timer);
	free(s);
}

/* Tells the owner, if it still waits. */
static void start_tell(struct fp_start *s, int status, const char *message)
{
	void (*on_end)(struct fp_start *, int, const char *) = s->on_end;

	s->on_end = NULL;
	if (on_end)
		on_end(s, status, message);
}

static void start_finish(struct fp_start *s, int status, const char *message)
{
	start_tell(s, status, message);
	fp_start_free(s);
}

/* Nothing runs: slot, name and record go back. */
static void start_undo(struct fp_start *s, int status, const char *message)
{
	enum reg_status reg = reg_abort(s->svc->me, &s->lease);

	if (reg != REG_OK)
		log_error("abort refused", "sandbox=%s status=%s", s->name, reg_status_name(reg));
	start_finish(s, status, message);
}

static const char deleted_meanwhile[] = "the sandbox was deleted while it was being created";

/* ---- waiting for the store ---- */

/* Takes effect at the next look: reg_view gives the revision that must be stored. */
static bool store_wait(struct fp_start *s, enum fp_start_state state,
		       void (*check)(struct fp_park *, enum reg_status,
				     const struct reg_sandbox_view *))
{
	struct reg_sandbox_view view;

	if (reg_view(s->svc->me, s->lease.sandbox, &view) != REG_OK)
		return false;
	if (s->state == FP_START_FENCE)
		TAILQ_REMOVE(&s->svc->fencing, s, fence_link);
	s->state = state;
	s->revision = view.revision;
	(void)reg_dirty_urgent(s->svc->me, s->lease.sandbox);
	if (!s->svc->store_timer_set) {
		s->svc->store_timer_set = true;
		s->svc->store_absent_since_ns = 0;
		gloop_timer_set(s->svc->store_timer, STORE_LOOK_NS);
	}
	TAILQ_INSERT_TAIL(&s->svc->store_waits, s, link);
	s->store_listed = true;
	s->park.sandbox = s->lease.sandbox;
	s->park.check = check;
	fp_park_add(&s->svc->parks, &s->park);
	return true;
}

static struct fp_start *start_of(struct fp_park *park)
{
	return (struct fp_start *)((char *)park - offsetof(struct fp_start, park));
}

/* STRONG, before the start. A delete is found by reg_starting. */
static void check_store(struct fp_park *park, enum reg_status status,
			const struct reg_sandbox_view *view)
{
	struct fp_start *s = start_of(park);

	if (status == REG_OK && !view->deleting && view->stored_revision < s->revision)
		return;
	store_unlist(s);
	start_command(s);
}

/* wait_for stored, after the start. */
static void check_stored(struct fp_park *park, enum reg_status status,
			 const struct reg_sandbox_view *view)
{
	struct fp_start *s = start_of(park);

	if (status != REG_OK || view->deleting)
		start_finish(s, G_ABORTED, deleted_meanwhile);
	else if (view->stored_revision >= s->revision)
		start_finish(s, G_OK, "");
}

static bool store_present(struct fp_service *svc)
{
	struct reg_participant p;
	uint32_t cursor = 0;

	while (reg_participant_next(svc->me, &cursor, &p)) {
		if (p.kind == REG_KIND_CRDSYNC && p.alive)
			return true;
	}
	return false;
}

void fp_store_watch(void *arg)
{
	struct fp_service *svc = arg;
	uint64_t now = clock_mono_ns();
	struct fp_start *s;

	svc->store_timer_set = false;
	if (TAILQ_EMPTY(&svc->store_waits))
		return;
	if (store_present(svc))
		svc->store_absent_since_ns = 0;
	else if (!svc->store_absent_since_ns)
		svc->store_absent_since_ns = now;
	if (svc->store_absent_since_ns && now - svc->store_absent_since_ns >= STORE_ABSENT_NS) {
		while ((s = TAILQ_FIRST(&svc->store_waits)))
			fp_start_abandon(s, "fsb-crdsync, which writes the store, is not running",
					 false);
		return;
	}
	svc->store_timer_set = true;
	gloop_timer_set(svc->store_timer, STORE_LOOK_NS);
}

/* ---- the agent has it ---- */

static void note_exit(struct fp_start *s, const Fsb__Agent__V1__SandboxReport *report)
{
	struct reg_exit exit;

	if (!report || report->state != FSB__AGENT__V1__REPORT_STATE__EXITED || !report->exit)
		return;
	exit = (struct reg_exit){
		.code = report->exit->code,
		.signal = report->exit->signal,
		.oom_killed = report->exit->oom_killed,
		.unknown = report->exit->unknown,
		.finished_unix_ns = report->exit->finished_unix_ns,
	};
	(void)reg_exited(s->svc->me, s->lease.sandbox, &exit);
}

static void stop_again(struct fp_start *s, int32_t grace_s)
{
	fp_stop(s->svc, s->lease.sandbox, grace_s, NULL, NULL);
}

/* Committed under a delete: STOPPING now, and the stop is ours to command. */
static void stop_deleted(struct fp_start *s)
{
	struct reg_sandbox_view view;

	if (reg_view(s->svc->me, s->lease.sandbox, &view) == REG_OK)
		fp_stop_drive(s->svc, &view, 0, NULL, NULL);
}

static void start_commit(struct fp_start *s, int64_t started_unix_ns,
			 const Fsb__Agent__V1__SandboxReport *report)
{
	const struct reg_started started = {started_unix_ns, s->start_ns};
	enum reg_status status = reg_commit(s->svc->me, &s->lease, &started);

	(void)FAILPOINT("fastpath.create.committed");
	if (status != REG_OK && status != REG_DELETING) {
		log_error("commit refused", "sandbox=%s status=%s", s->name,
			  reg_status_name(status));
		start_finish(s, G_INTERNAL, reg_status_text(status));
		return;
	}
	/* Of a plain start; the registry adds start_ns itself. */
	if (s->start_ns)
		reg_hist_add(s->svc->me, REG_HIST_AGENT, s->agent_ns);
	note_exit(s, report);
	if (status == REG_DELETING) {
		stop_deleted(s);
		start_finish(s, G_ABORTED, deleted_meanwhile);
	} else if (s->rollback) {
		stop_again(s, -1);
		start_finish(s, G_ABORTED, "rolled back");
	} else if (!s->wait_stored || !s->on_end) {
		start_finish(s, G_OK, "");
	} else if (!store_wait(s, FP_START_STORED, check_stored)) {
		start_finish(s, G_ABORTED, deleted_meanwhile);
	}
}

static void start_refused(struct fp_start *s, const Fsb__Agent__V1__Ack *ack)
{
	struct fp_fail fail;

	if (ack->code == FSB__AGENT__V1__ACK_CODE__IMAGE_NOT_FOUND)
		fp_fail(&fail, G_NOT_FOUND,
			"agent '%s' does not have the image: %s (nothing is pulled in this "
			"release: use "
			"'fsb-ctl image load')",
			s->agent, ack->message);
	else
		fp_fail(&fail, fp_status_of_ack(ack->code), "agent '%s' refused the start (%s): %s",
			s->agent, agentlink_code_name(ack->code), ack->message);
	start_undo(s, fail.status, fail.msg);
}

static void on_ack(void *arg, enum agentlink_result result, const Fsb__Agent__V1__Ack *ack,
		   const char *reason)
{
	struct fp_start *s = arg;
	struct fp_fail fail;

	s->agent_ns = clock_mono_ns() - s->sent_ns;
	(void)FAILPOINT("fastpath.create.acked");
	switch (result) {
	case AGENTLINK_ACKED:
		if (ack->code != FSB__AGENT__V1__ACK_CODE__OK) {
			start_refused(s, ack);
			return;
		}
		s->start_ns = ack->start_ns;
		start_commit(s, ack->started_unix_ns, ack->report);
		return;
	case AGENTLINK_NOT_SENT:
		fp_fail(&fail, G_UNAVAILABLE,
			"agent '%s' can't be reached (%s); nothing was started, try again",
			s->agent, reason);
		start_undo(s, fail.status, fail.msg);
		return;
	case AGENTLINK_UNKNOWN:
		s->state = FP_START_FENCE;
		TAILQ_INSERT_TAIL(&s->svc->fencing, s, fence_link);
		s->backoff_ns = FENCE_MIN_NS;
		fence_later(s);
		return;
	}
}

/* ---- commanding it ---- */

/* How long the agent may take to answer; what comes later is found out by the fence. */
static uint64_t command_deadline_ns(const struct fp_start *s)
{
	uint64_t now = clock_mono_ns(), left = NS_PER_MS;

	if (s->deadline_ns > now + left)
		left = s->deadline_ns - now;
	return left < FP_DEADLINE_NS ? left : FP_DEADLINE_NS;
}

static int send_start(struct fp_start *s, const struct reg_sandbox_view *view, struct fp_fail *fail)
{
	Fsb__Agent__V1__Command command = FSB__AGENT__V1__COMMAND__INIT;
	Fsb__Agent__V1__Start start = FSB__AGENT__V1__START__INIT;
	struct fp_labels labels = {0};
	struct agentlink *link;
	Fsb__V1__SandboxMeta meta;
	int rc = fp_links_get(s->svc->links, view->agent, &link, NULL, fail);

	if (rc)
		return rc;
	if (view->labels_len && fp_labels_of(s->svc->me, view->sandbox, &labels))
		return fp_fail(fail, G_RESOURCE_EXHAUSTED, "this worker is out of memory");
	fp_meta_of_view(view, &labels, &meta);
	start.meta = &meta;
	start.spec.data = s->spec->data;
	start.spec.len = s->spec->len;
	command.kind_case = FSB__AGENT__V1__COMMAND__KIND_START;
	command.start = &start;
	s->sent_ns = clock_mono_ns();
	rc = agentlink_command(link, &command, command_deadline_ns(s), on_ack, s);
	fp_labels_done(&labels);
	if (rc)
		return fp_fail(fail, G_UNAVAILABLE, "agent '%s': too many commands wait for it",
			       view->agent_name);
	if (s->alone)
		agentlink_flush(link);
	return G_OK;
}

static void start_command(struct fp_start *s)
{
	enum reg_status status;
	struct reg_sandbox_view view;
	struct fp_fail fail;

	(void)FAILPOINT("fastpath.create.stored");
	status = reg_starting(s->svc->me, &s->lease);
	(void)FAILPOINT("fastpath.create.starting");
	if (status == REG_OK)
		status = reg_view(s->svc->me, s->lease.sandbox, &view);
	if (status != REG_OK) {
		start_undo(s, fp_status_of_reg(status),
			   status == REG_DELETING ? deleted_meanwhile : reg_status_text(status));
		return;
	}
	snprintf(s->name, sizeof(s->name), "%s", view.name);
	snprintf(s->agent, sizeof(s->agent), "%s", view.agent_name);
	s->state = FP_START_SENT;
	if (send_start(s, &view, &fail)) {
		start_undo(s, fail.status, fail.msg);
		return;
	}
	(void)FAILPOINT("fastpath.create.sent");
	s->spec = fp_blob_unref(s->spec);
}

void fp_start_run(struct fp_start *s, const struct reg_lease *lease, struct fp_blob *spec)
{
	s->lease = *lease;
	s->spec = fp_blob_ref(spec);
	if (FAILPOINT("fastpath.create.reserved")) {
		start_undo(s, G_INTERNAL, "failpoint fastpath.create.reserved");
		return;
	}
	if (!s->strong)
		start_command(s);
	else if (!store_wait(s, FP_START_STORE, check_store))
		start_undo(s, G_INTERNAL, "the reservation can't be read back");
}

/* ---- the link broke, or the agent was silent: what became of the command? ---- */

static void on_fence_ack(void *arg, enum agentlink_result result, const Fsb__Agent__V1__Ack *ack,
			 const char *reason)
{
	struct fp_start *s = arg;

	if (result != AGENTLINK_ACKED || ack->code != FSB__AGENT__V1__ACK_CODE__OK) {
		fence_later(s);
		return;
	}
	log_info("start resolved by a fence", "sandbox=%s agent=%s running=%d", s->name, s->agent,
		 ack->running);
	if (ack->running)
		start_commit(s, ack->report ? ack->report->started_unix_ns : clock_unix_ns(),
			     ack->report);
	else
		start_undo(s, G_UNAVAILABLE,
			   "the link to the agent broke during the start, and nothing was started; "
			   "try again");
}

/*
 * Nobody can say whether it runs. It becomes a sandbox that is being stopped, which fsb-registryd
 * drives until the agent is back and confirms, or is removed.
 */
static void fence_give_up(struct fp_start *s)
{
	s->rollback = true;
	log_warn("agent lost during a start", "sandbox=%s agent=%s", s->name, s->agent);
	start_tell(s, G_UNAVAILABLE, "the agent was lost during the start");
	start_commit(s, clock_unix_ns(), NULL);
}

static void on_fence_timer(void *arg)
{
	Fsb__Agent__V1__Command command = FSB__AGENT__V1__COMMAND__INIT;
	Fsb__Agent__V1__Fence fence = FSB__AGENT__V1__FENCE__INIT;
	struct fp_start *s = arg;
	struct reg_sandbox_view view;
	struct reg_agent_view agent;
	struct agentlink *link;
	struct fp_fail fail;
	uint64_t now = clock_mono_ns();

	if (reg_view(s->svc->me, s->lease.sandbox, &view) != REG_OK) {
		start_finish(s, G_ABORTED, deleted_meanwhile);
		return;
	}
	if (fp_links_get(s->svc->links, s->lease.agent, &link, &agent, &fail)) {
		agent.ready = false;
		link = NULL;
	}
	if (agent.ready)
		s->unready_since_ns = 0;
	else if (!s->unready_since_ns)
		s->unready_since_ns = now;
	if (s->unready_since_ns && now - s->unready_since_ns >= AGENT_LOST_NS) {
		fence_give_up(s);
		return;
	}
	fence.id = view.id;
	fence.generation = view.generation;
	command.kind_case = FSB__AGENT__V1__COMMAND__KIND_FENCE;
	command.fence = &fence;
	if (!link || agentlink_command(link, &command, FENCE_ANSWER_NS, on_fence_ack, s))
		fence_later(s);
}

static void fence_later(struct fp_start *s)
{
	if (!s->timer)
		s->timer = gloop_timer_new(s->svc->loop, on_fence_timer, s);
	if (!s->timer) {
		/* Out of memory: the record stays STARTING and ours, and is resolved by the reaper
		 * when this worker ends. */
		log_error("start left unresolved", "sandbox=%s err=out-of-memory", s->name);
		start_tell(s, G_UNAVAILABLE, "this worker is out of memory");
		return;
	}
	gloop_timer_set(s->timer, s->backoff_ns);
	s->backoff_ns = s->backoff_ns * 2 < FENCE_MAX_NS ? s->backoff_ns * 2 : FENCE_MAX_NS;
}

void fp_start_drop_all(struct fp_service *svc)
{
	struct fp_start *s;

	while ((s = TAILQ_FIRST(&svc->fencing)))
		fp_start_free(s);
}

/* ---- repeats of a request ---- */

static void check_join(struct fp_park *park, enum reg_status status,
		       const struct reg_sandbox_view *view)
{
	struct fp_start *s = start_of(park);

	if (status != REG_OK || view->state == REG_GONE) {
		s->join_lost = true;
		start_finish(s, G_UNAVAILABLE,
			     "the first attempt with this request_id has failed; try again");
		return;
	}
	if (view->state == REG_RESERVED || view->state == REG_STARTING)
		return;
	if (view->state == REG_STOPPING) {
		start_finish(s, G_ABORTED,
			     "the sandbox of this request_id is being deleted; use another one");
		return;
	}
	if ((s->strong || s->wait_stored) && view->stored_revision == 0) {
		(void)reg_dirty_urgent(s->svc->me, view->sandbox);
		return;
	}
	start_finish(s, G_OK, "");
}

void fp_start_join(struct fp_start *s, reg_sandbox_id sandbox)
{
	s->state = FP_START_JOIN;
	s->lease.sandbox = sandbox;
	s->park.sandbox = sandbox;
	s->park.check = check_join;
	fp_park_add(&s->svc->parks, &s->park);
}

/* ---- giving up ---- */

void fp_start_abandon(struct fp_start *s, const char *why, bool rollback)
{
	struct fp_fail fail;

	s->rollback = rollback;
	switch (s->state) {
	case FP_START_NEW:
	case FP_START_STORE:
		fp_fail(&fail, G_UNAVAILABLE,
			"the store has not confirmed the sandbox: %s; nothing was started", why);
		start_undo(s, fail.status, fail.msg);
		return;
	case FP_START_SENT:
	case FP_START_FENCE:
		fp_fail(&fail, s->state == FP_START_SENT ? G_DEADLINE_EXCEEDED : G_UNAVAILABLE,
			"agent '%s' has not answered the start of '%s': %s; look for it with get, "
			"or "
			"repeat the call with the same request_id",
			s->agent, s->name, why);
		start_tell(s, fail.status, fail.msg);
		return;
	case FP_START_STORED:
		fp_fail(&fail, G_UNAVAILABLE,
			"the store has not confirmed '%s': %s; it was stopped", s->name, why);
		stop_again(s, -1);
		start_finish(s, fail.status, fail.msg);
		return;
	case FP_START_JOIN:
		fp_fail(&fail, G_DEADLINE_EXCEEDED,
			"the first attempt with this request_id is still under way: %s", why);
		start_finish(s, fail.status, fail.msg);
		return;
	}
}
